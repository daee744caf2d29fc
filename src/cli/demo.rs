//! `demo`: the whole product on a small real corpus, the US presidents' annual messages to Congress.
//!
//! Exact search covers every speech. Embedding is what costs time, so only one president's speeches (F. D. Roosevelt, from
//! 1934 on) get embeddings, in the index's first generation; the others are added in a second one, without. Human reference
//! texts are paragraphs of the two presidents after him.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use super::output::{self, number, one_line};
use super::{Global, Outcome};
use crate::catalog::{self, FetchOptions};
use crate::corpus::{Document, Documents, ReadOptions, SourceFile, discover};
use crate::decontaminate::run::{Row, check_snapshot, corpus_frequency};
use crate::decontaminate::{Detector, Level, Settings as Judging};
use crate::embed::chunk::Unit;
use crate::embed::colbert::PlainLate;
use crate::error::{Error, Result};
use crate::index::build::{self as builder, BuildOptions};
use crate::index::{Chunking, IndexDir, Snapshot};
use crate::novelty::{Calibration, Scorer, Settings, Text, assess};
use crate::query::trace::TraceOptions;
use crate::reference::ReferenceIndex;
use crate::tokenize::Tokenizer;

const REFERENCE: &str = include_str!("../../datasets/demo/reference.jsonl");
const TEXTS: &str = include_str!("../../datasets/demo/texts.jsonl");
const MODEL: &str = "all-minilm-l6-v2";
const CORPUS: &str = "sotu";
/// The speech that the traced and the copied passages come from.
const SPEECH: &str = "1941-Roosevelt-1";

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where to put the index [default: a new directory among the system's temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Serve the page on the demo's index afterwards, until interrupted
    #[arg(long)]
    serve: bool,
}

pub fn demo(global: &Global, args: DemoArgs) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let dir = match args.dir {
        Some(dir) => {
            if std::fs::read_dir(&dir).is_ok_and(|mut d| d.next().is_some()) {
                return Err(Error::invalid_hint(
                    format!("{}: the directory is not empty", dir.display()),
                    "name a new directory",
                )
                .into());
            }
            std::fs::create_dir_all(&dir).map_err(Error::io(&dir, "create"))?;
            dir
        }
        None => tempfile::Builder::new().prefix("priorart-demo-").tempdir()?.keep(),
    };
    say(global, "fetching the model and the speeches (once; they stay in the cache)");
    let corpus = catalog::fetch(CORPUS, &FetchOptions::default())?.join("speeches.jsonl");
    let model = catalog::fetch(MODEL, &FetchOptions::default())?;
    let speeches = read(&corpus)?;
    let year = |d: &Document| d.metadata.get("year").and_then(|y| y.as_u64()).unwrap_or(0);
    let of_roosevelt = |d: &Document| d.id.contains("Roosevelt") && (1934..=1945).contains(&year(d));
    let embedded = write(&dir.join("roosevelt.jsonl"), speeches.iter().filter(|d| of_roosevelt(d)))?;
    let others = write(&dir.join("others.jsonl"), speeches.iter().filter(|d| !of_roosevelt(d)))?;

    let tokenizer = Tokenizer::named("words")?;
    let encoder =
        crate::embed::open(&model, &crate::embed::OpenOptions { name: Some(MODEL.into()), ..Default::default() })?;
    let index = dir.join("index");
    let mut seed = builder::seed(&tokenizer);
    seed.encoder = Some(encoder.spec().clone());
    seed.chunking = Some(Chunking { tokens: 100, stride: 100, unit: Unit::Encoder });
    let built = IndexDir::create(&index, seed)?;
    let options = BuildOptions { memory: global.memory(), ..BuildOptions::default() };
    say(global, "indexing; embedding one president's speeches (every speech can be searched exactly)");
    let opened = super::semantic::Opened::new(encoder, 100, 100)?;
    add(global, &built, &tokenizer, &embedded, &options, Some(&opened))?;
    add(global, &IndexDir::open(&index)?, &tokenizer, &others, &options, None)?;
    let snapshot = Arc::new(Snapshot::open(&index)?);
    let mut out = format!(
        "Index: {} speeches, {} words, {} embedded passages ({:.0} s so far)\n",
        number(snapshot.manifest.corpus.documents),
        number(snapshot.manifest.corpus.tokens),
        number(snapshot.chunks()),
        start.elapsed().as_secs_f64()
    );

    let speech =
        speeches.iter().find(|d| d.id == SPEECH).ok_or_else(|| Error::invalid(format!("the corpus lacks {SPEECH}")))?;
    let passage = passage(&speech.text);
    out += &traced(&snapshot, &passage)?;
    out += &checked(&snapshot, &passage, &dir)?;
    out += &novel(&snapshot, &*opened.encoder, &passage, &speeches)?;
    let quoted = passage.split_whitespace().skip(4).take(6).collect::<Vec<_>>().join(" ").replace('"', "");
    out += &format!(
        "\nThe index is in {0}; it took {1:.0} s. Try next:\n  priorart --index {0} find \"{2}\"\n  priorart --index {0} next \"state of the\" -k 5\n  priorart --index {0} neighbors \"nobody should be poor\" --rerank 20 -k 3\n  priorart --index {0} serve\n",
        index.display(),
        start.elapsed().as_secs_f64(),
        quoted
    );
    output::write(out.as_bytes())?;
    if args.serve {
        return super::serve::serve_one(global, &index);
    }
    Ok(Outcome::Done)
}

fn say(global: &Global, what: &str) {
    if !global.quiet {
        eprintln!("{what}");
    }
}

fn read(path: &Path) -> Result<Vec<Document>> {
    let mut reader = Documents::new(discover(&[path])?, ReadOptions::default());
    let mut out = Vec::new();
    loop {
        let mut d = Document::default();
        if !reader.next(&mut d)? {
            return Ok(out);
        }
        out.push(d);
    }
}

fn write<'d>(path: &Path, documents: impl Iterator<Item = &'d Document>) -> Result<Vec<SourceFile>> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).map_err(Error::io(path, "create"))?);
    for d in documents {
        let mut row = d.metadata.clone();
        row.insert("id".into(), d.id.clone().into());
        row.insert("text".into(), d.text.clone().into());
        let line = serde_json::to_string(&row).map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
        writeln!(file, "{line}").map_err(Error::io(path, "write"))?;
    }
    file.flush().map_err(Error::io(path, "write"))?;
    discover(&[path])
}

fn add(
    global: &Global,
    dir: &IndexDir,
    tokenizer: &Tokenizer,
    files: &[SourceFile],
    options: &BuildOptions,
    encoder: Option<&super::semantic::Opened>,
) -> Result<()> {
    builder::build(dir, tokenizer, files, options, &mut |_| {})?;
    if let Some(e) = encoder {
        e.embed_shards(global, dir, tokenizer, files, options)?;
    }
    builder::publish(dir, tokenizer, files, options, |_| {})?;
    Ok(())
}

/// The first three paragraphs in a row of the speech that all speak of freedom.
fn passage(text: &str) -> String {
    let paragraphs: Vec<&str> = text.split("\n\n").collect();
    let at = paragraphs.windows(3).position(|w| w.iter().all(|p| p.contains("freedom"))).unwrap_or(0);
    paragraphs[at..(at + 4).min(paragraphs.len())].join("\n\n")
}

fn traced(snapshot: &Snapshot, passage: &str) -> Result<String> {
    let text = format!("Our mission statement borrows freely. {} And so does our slogan.", one_line(passage));
    let options = TraceOptions { min_tokens: 8, documents_per_span: 1, context: 30, ..TraceOptions::default() };
    let trace = snapshot.trace(&text, &options)?;
    let mut out = format!("\n1. Where does this text come from? ({} words)\n", trace.tokens);
    for s in trace.spans.iter().take(3) {
        let from = s.documents.first().map_or_else(String::new, |d| d.id.clone());
        let words: Vec<&str> = s.text.split_whitespace().collect();
        let shown = if words.len() > 14 {
            format!("{} … {}", words[..7].join(" "), words[words.len() - 7..].join(" "))
        } else {
            words.join(" ")
        };
        out += &format!("   {} words in a row, {} time(s), from {from}: {shown}\n", s.right - s.left, s.count);
    }
    Ok(out)
}

fn checked(snapshot: &Arc<Snapshot>, passage: &str, dir: &Path) -> Result<String> {
    // One eval item quotes a passage that the corpus has: that is the leak to be found.
    let question = "Which place in the world does every one of the listed freedoms apply to, according to the passage?";
    let leaked = serde_json::json!({
        "id": "reading",
        "question": format!("{passage}\n\n{question}"),
        "answer": "Everywhere.",
    });
    let path = dir.join("reference.jsonl");
    std::fs::write(&path, format!("{REFERENCE}{leaked}\n")).map_err(Error::io(&path, "write"))?;
    let set = crate::reference::read(&[path], None)?;
    let items = set.items.len();
    let index = Arc::new(ReferenceIndex::build(&set)?);
    let detector = Detector::new(index, Judging::default())?.with_frequency(corpus_frequency(snapshot.clone()));
    let mut out = format!("\n2. Has the corpus seen the {items} items of this benchmark?\n");
    let mut dirty = 0;
    let mut tell = |row: Row| {
        if row.level == Level::Dirty {
            dirty += 1;
            let parts: Vec<&str> = row.components.iter().map(|c| c.component.name()).collect();
            out += &format!(
                "   item {:?}: its {} is in {}, bytes {}..{} (score {:.2})\n",
                row.eval_instance_index,
                parts.join(" and "),
                row.document_id,
                row.training_bytes[0],
                row.training_bytes[1],
                row.contamination_score
            );
        }
        Ok(())
    };
    check_snapshot(&detector, snapshot, &mut tell, &mut |_| Ok(()))?;
    out += &format!(
        "   {dirty} item(s) found; nothing of the other {} in any of the {} speeches\n",
        items - dirty.min(items),
        number(snapshot.manifest.corpus.documents)
    );
    Ok(out)
}

fn novel(
    snapshot: &Snapshot,
    encoder: &dyn crate::embed::Encoder,
    passage: &str,
    speeches: &[Document],
) -> Result<String> {
    /// Human paragraphs the texts are compared with.
    const HUMAN: usize = 40;
    let mut texts = vec![Text { id: "copied".into(), text: one_line(passage), ..Text::default() }];
    for line in TEXTS.lines() {
        let row: serde_json::Value =
            serde_json::from_str(line).map_err(|e| Error::invalid(format!("demo texts: {e}")))?;
        texts.push(Text {
            id: row["id"].as_str().unwrap_or_default().into(),
            text: row["text"].as_str().unwrap_or_default().into(),
            ..Text::default()
        });
    }
    let human: Vec<Text> = speeches
        .iter()
        .filter(|d| ["Truman", "Eisenhower"].iter().any(|p| d.id.contains(p)))
        .flat_map(|d| {
            d.text
                .split("\n\n")
                .filter(|p| p.split_whitespace().count() >= 50)
                .take(4)
                .map(|p| (d.id.clone(), p.to_string()))
        })
        .take(HUMAN)
        .enumerate()
        .map(|(i, (id, text))| Text {
            id: format!("human-{i}"),
            text,
            source: Some(id),
            human: true,
            ..Text::default()
        })
        .collect();
    let settings = Settings { windows: vec![50], candidates: 100, rerank: 24, ..Settings::default() };
    let late = PlainLate::new(encoder);
    let mut scorer = Scorer::new(snapshot, encoder, &late, settings, 256 << 20, None)?;
    let reference = scorer.score(&human)?;
    let calibration = Calibration::new(snapshot, &scorer.settings, &reference)?;
    let scores = scorer.score(&texts)?;
    let assessed = assess::assess(&scores, Some(&calibration));
    let mut out = format!(
        "\n3. Which of these texts are novel? (r: attributability against {} human paragraphs; below 1 is less attributable)\n",
        human.len()
    );
    for (score, list) in scores.iter().zip(&assessed) {
        let Some(a) = list.first() else { continue };
        let nearest = score
            .lengths
            .first()
            .and_then(|l| l.windows.iter().max_by(|x, y| x.s.total_cmp(&y.s)))
            .and_then(|w| w.best.as_ref());
        out += &format!(
            "   {:<12} s {:.3}  r {}  p {}  longest exact span {:>3} words  nearest: {}\n",
            score.id,
            a.s,
            a.r.map_or("-".into(), |r| format!("{r:.2}")),
            a.p.map_or("-".into(), |p| format!("{p:.2}")),
            score.exact.longest_span,
            nearest.map_or("nothing", |p| p.id.as_str())
        );
    }
    Ok(out)
}
