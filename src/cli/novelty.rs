//! `novelty` and `calibrate`: un-attributability of texts, against human writing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use super::output::{self, number};
use super::{Format, Global, Outcome};
use crate::corpus::{self, Document, Documents, ReadOptions};
use crate::embed::Encoder;
use crate::error::{Error, Result};
use crate::index::Snapshot;
use crate::novelty::assess::{self, Assessed, Group, Pair};
use crate::novelty::probes::EDITS;
use crate::novelty::{Calibration, Recall, Score, Scorer, Settings, Text};

/// How texts are scored.
#[derive(Debug, Clone, Args)]
pub struct ScoreArgs {
    /// Window lengths in encoder tokens
    #[arg(long, value_delimiter = ',', default_value = "25,50,100,200,500", value_name = "N,...")]
    windows: Vec<usize>,
    /// Candidates of the vector search, a window
    #[arg(long, default_value_t = 100, value_name = "N")]
    candidates: usize,
    /// Candidates scored by late interaction, a window
    #[arg(long, default_value_t = 24, value_name = "N")]
    rerank: usize,
    /// Score a text that is in the corpus against its own document, too
    #[arg(long)]
    keep_source: bool,
    /// Field or column that holds the text
    #[arg(long, default_value = "text", value_name = "FIELD")]
    text_field: String,
    /// Field that holds the id
    #[arg(long, default_value = "id", value_name = "FIELD")]
    id_field: String,
    /// Field that holds the id of the corpus document a text was taken from [default: the text's own id]
    #[arg(long, value_name = "FIELD")]
    source_field: Option<String>,
    /// Recall probes a window length and edit level; 0: none
    #[arg(long, default_value_t = 20, value_name = "N")]
    probes: usize,
    /// Seed of probes, bootstrap and permutations
    #[arg(long, default_value_t = 42, value_name = "N")]
    seed: u64,
    /// Smallest p-value that should be possible: says how many human texts are needed
    #[arg(long, default_value_t = 0.01, value_name = "P")]
    p_resolution: f64,
}

#[derive(Debug, Args)]
pub struct NoveltyArgs {
    /// Files of texts: .jsonl (also .gz, .zst), .parquet, .txt
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Human texts of the same kind
    #[arg(long, conflicts_with = "calibration", value_name = "PATH")]
    human: Option<PathBuf>,
    /// Scored human texts, from `priorart calibrate`
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// Columns that name a text's group
    #[arg(long, value_delimiter = ',', value_name = "FIELD,...")]
    group_by: Vec<String>,
    /// Column whose equal values pair the texts of two groups, such as the prompt's id
    #[arg(long, requires = "group_by", value_name = "FIELD")]
    pair_by: Option<String>,
    #[command(flatten)]
    score: ScoreArgs,
    /// Exit with 1 if a text is found novel (q of at most 0.05 at any window length)
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
pub struct CalibrateArgs {
    /// Human texts: .jsonl (also .gz, .zst), .parquet, .txt
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    human: Vec<PathBuf>,
    /// Where to write the calibration
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    score: ScoreArgs,
}

/// A text's line of output.
#[derive(serde::Serialize)]
struct Row<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    assessed: &'a [Assessed],
    #[serde(flatten)]
    score: &'a Score,
}

/// Texts in a batch: bounds memory, and is enough for the matrix products.
const BATCH: usize = 32;

impl ScoreArgs {
    fn settings(&self) -> Settings {
        let mut windows = self.windows.clone();
        windows.sort_unstable();
        windows.dedup();
        Settings {
            windows,
            candidates: self.candidates,
            rerank: self.rerank,
            leave_source_out: !self.keep_source,
            ..Settings::default()
        }
    }

    fn read(&self, paths: &[PathBuf]) -> Result<Vec<Document>> {
        let options = ReadOptions {
            text_field: self.text_field.clone(),
            id_field: self.id_field.clone(),
            ..ReadOptions::default()
        };
        let mut documents = Documents::new(corpus::discover(paths)?, options);
        let mut out = Vec::new();
        loop {
            let mut d = Document::default();
            if !documents.next(&mut d)? {
                return Ok(out);
            }
            out.push(d);
        }
    }

    fn score(&self, global: &Global, scorer: &mut Scorer, documents: &[Document], what: &str) -> Result<Vec<Score>> {
        let bar = output::counter(documents.len() as u64, global.quiet, what);
        let mut out = Vec::with_capacity(documents.len());
        for batch in documents.chunks(BATCH) {
            let texts: Vec<Text> = batch
                .iter()
                .map(|d| Text {
                    id: d.id.clone(),
                    text: d.text.clone(),
                    source: self.source_field.as_ref().and_then(|f| column(d, f)),
                })
                .collect();
            out.extend(scorer.score(&texts)?);
            bar.set_position(out.len() as u64);
            bar.set_message(format!("{} chunks encoded", number(scorer.chunks_encoded())));
        }
        bar.finish_and_clear();
        Ok(out)
    }
}

/// A metadata field as text.
fn column(d: &Document, field: &str) -> Option<String> {
    match d.metadata.get(field)? {
        serde_json::Value::Null => None,
        serde_json::Value::String(s) => Some(s.clone()),
        other => Some(other.to_string()),
    }
}

fn open(global: &Global) -> anyhow::Result<(Snapshot, Box<dyn Encoder>)> {
    let snapshot = global.snapshot()?;
    let opened = super::semantic::open_of(global, &snapshot)?;
    Ok((snapshot, opened.encoder))
}

/// Memory for chunk states: a quarter of the limit.
fn state_memory(global: &Global) -> usize {
    (global.memory() / 4) as usize
}

pub fn calibrate(global: &Global, args: CalibrateArgs) -> anyhow::Result<Outcome> {
    let (snapshot, encoder) = open(global)?;
    let mut scorer = Scorer::new(&snapshot, &*encoder, args.score.settings(), state_memory(global))?;
    let human = args.score.read(&args.human)?;
    let scores = args.score.score(global, &mut scorer, &human, "human")?;
    let calibration = Calibration::new(&snapshot, &scorer.settings, &scores)?;
    calibration.write(&args.out)?;
    for w in calibration.warnings(args.score.p_resolution) {
        eprintln!("warning: {w}");
    }
    let medians: BTreeMap<usize, f64> =
        calibration.scores.iter().filter_map(|(l, s)| Some((*l, crate::novelty::statistics::median(s)?))).collect();
    let item = serde_json::json!({"out": args.out, "texts": calibration.texts, "left_out": calibration.left_out, "generation": calibration.generation, "median_s": medians});
    output::result(global.format(), &item, |_| {
        let mut out = format!(
            "{} human texts, {} of them scored without their own document\n",
            number(calibration.texts as u64),
            number(calibration.left_out as u64)
        );
        for (length, s) in &calibration.scores {
            out += &format!("  {length:>4} tokens: {} texts, median s {:.3}\n", s.len(), medians[length]);
        }
        out
    })?;
    Ok(Outcome::Done)
}

pub fn novelty(global: &Global, args: NoveltyArgs) -> anyhow::Result<Outcome> {
    let (snapshot, encoder) = open(global)?;
    let settings = args.score.settings();
    let given = args.calibration.as_deref().map(Calibration::read).transpose()?;
    if let Some(c) = &given {
        c.check(&snapshot, &settings)?;
    }
    if args.check && given.is_none() && args.human.is_none() {
        return Err(
            Error::invalid_hint("--check needs a human reference", "pass --human FILE or --calibration FILE").into()
        );
    }
    let mut scorer = Scorer::new(&snapshot, &*encoder, settings, state_memory(global))?;
    let documents = args.score.read(&args.paths)?;
    let calibration = match (given, &args.human) {
        (Some(c), _) => Some(c),
        (None, Some(path)) => {
            let human = args.score.read(std::slice::from_ref(path))?;
            let scores = args.score.score(global, &mut scorer, &human, "human")?;
            Some(Calibration::new(&snapshot, &scorer.settings, &scores)?)
        }
        (None, None) => None,
    };
    let scores = args.score.score(global, &mut scorer, &documents, "novelty")?;
    // Only what a score above is compared with: a length that no text has says nothing, and long probes are the dear ones.
    let mut lengths: Vec<usize> =
        scores.iter().flat_map(|s| &s.lengths).filter(|l| !l.short).map(|l| l.length).collect();
    lengths.sort_unstable();
    lengths.dedup();
    let total = (args.score.probes * EDITS.len() * lengths.iter().sum::<usize>()) as u64;
    let bar = output::counter(total, global.quiet, "probes");
    let recall = scorer.probe(&lengths, args.score.probes, args.score.seed, &mut |n| bar.set_position(n))?;
    bar.finish_and_clear();
    let assessed = assess::assess(&scores, calibration.as_ref());
    let names: Vec<String> = documents
        .iter()
        .map(|d| {
            args.group_by.iter().map(|f| column(d, f).unwrap_or_else(|| "-".into())).collect::<Vec<_>>().join(" / ")
        })
        .collect();
    let names = if args.group_by.is_empty() { vec!["all".to_string(); documents.len()] } else { names };
    let groups = assess::groups(&scores, &assessed, &names, calibration.as_ref(), args.score.seed);
    let keys: Option<Vec<Option<String>>> =
        args.pair_by.as_ref().map(|f| documents.iter().map(|d| column(d, f)).collect());
    let pairs = assess::compare(&scores, &names, keys.as_deref(), args.score.seed);
    let mut warnings: Vec<String> = Vec::new();
    if let Some(c) = &calibration {
        warnings.extend(c.warnings(args.score.p_resolution));
        let lengths: Vec<f64> = scores.iter().map(|s| s.tokens as f64).collect();
        let ours = crate::novelty::statistics::median(&lengths).unwrap_or(0.0);
        if ours > 2.0 * c.median_tokens || c.median_tokens > 2.0 * ours {
            warnings.push(format!(
                "the texts have {ours:.0} tokens (median), the human texts {:.0}: scores of unlike lengths are unlike",
                c.median_tokens
            ));
        }
    }
    for w in &warnings {
        eprintln!("warning: {w}");
    }
    for s in &scores {
        s.warnings.iter().for_each(|w| eprintln!("warning: {}: {w}", s.id));
    }
    let rows: Vec<Row> = scores
        .iter()
        .zip(&assessed)
        .zip(&names)
        .map(|((score, assessed), name)| Row {
            group: (!args.group_by.is_empty()).then_some(name.as_str()),
            assessed,
            score,
        })
        .collect();
    let generation = snapshot.manifest.generation;
    match global.format() {
        Format::Jsonl => {
            output::results(Format::Jsonl, &rows, |_| String::new())?;
            for (kind, value) in [
                ("groups", serde_json::to_value(&groups)?),
                ("pairs", serde_json::to_value(&pairs)?),
                ("recall", serde_json::to_value(&recall)?),
            ] {
                output::result(Format::Jsonl, &serde_json::json!({ kind: value }), |_| String::new())?;
            }
        }
        Format::Json => {
            let all = serde_json::json!({"generation": generation, "settings": scorer.settings, "texts": rows, "groups": groups, "pairs": pairs, "recall": recall, "warnings": warnings});
            output::result(Format::Json, &all, |_| String::new())?;
        }
        Format::Text => output::write(text(&rows, &groups, &pairs, &recall, generation).as_bytes())?,
    }
    let novel = assessed.iter().flatten().any(|a| a.q.is_some_and(|q| q <= 0.05));
    Ok(if args.check && novel { Outcome::Findings } else { Outcome::Done })
}

fn text(rows: &[Row], groups: &[Group], pairs: &[Pair], recall: &[Recall], generation: u64) -> String {
    let mut out = String::new();
    for row in rows {
        let e = &row.score.exact;
        out += &format!(
            "{}  {} tokens; longest span {}, coverage_8 {:.2}, creativity index {:.2}{}\n",
            row.score.id,
            row.score.tokens,
            e.longest_span,
            e.coverage_8(),
            e.creativity_index,
            if e.verbatim { ", verbatim" } else { "" }
        );
        for (a, l) in row.assessed.iter().zip(&row.score.lengths) {
            let reference = match (a.r, a.p, a.q) {
                (Some(r), Some(p), Some(q)) => format!("  r {r:.3}  p {p:.4}  q {q:.4}"),
                _ => String::new(),
            };
            let near = l
                .windows
                .iter()
                .max_by(|a, b| a.s.total_cmp(&b.s))
                .and_then(|w| w.best.as_ref())
                .map(|b| format!("  nearest {} ({}, bytes {}..{})", b.id, b.path, b.start_byte, b.end_byte))
                .unwrap_or_default();
            out += &format!("  {:>4} tokens  s {:.3}{reference}{near}\n", a.length, a.s);
        }
    }
    out += "\ngroups (median s, median r with 95 % interval)\n";
    for g in groups {
        let r = g
            .median_r
            .map(|r| format!("  r {:.3} [{:.3}, {:.3}]  novel {}", r.estimate, r.low, r.high, g.novel))
            .unwrap_or_default();
        let warning = g.warning.as_ref().map(|w| format!("  ({w})")).unwrap_or_default();
        out += &format!(
            "  {}  {:>4} tokens  {} texts  s {:.3}{r}{warning}\n",
            g.name, g.length, g.texts, g.median_s.estimate
        );
    }
    for p in pairs {
        let c = &p.comparison;
        out += &format!(
            "  {} - {}  {:>4} tokens  difference of s {:+.3}  p {:.4} ({}, n {})\n",
            p.first,
            p.second,
            p.length,
            c.difference,
            c.p,
            if c.paired { "paired" } else { "unpaired" },
            c.n
        );
    }
    if recall.is_empty() {
        return out + "\nno recall was measured (--probes 0)\n";
    }
    out += &format!(
        "\nrecall of the search in generation {generation} (source document among the candidates, 95 % interval)\n"
    );
    for r in recall {
        out += &format!(
            "  {:>4} tokens, {:>2.0} % edited: {:.2} [{:.2}, {:.2}] of {}\n",
            r.length,
            100.0 * r.edited,
            r.document.estimate,
            r.document.low,
            r.document.high,
            r.probes
        );
    }
    out
}
