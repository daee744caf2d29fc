//! What `novelty`, `calibrate` and `audit` share: how texts are read and scored.

use std::path::{Path, PathBuf};

use clap::Args;

use super::super::output::{self, number};
use super::super::{Global, Outcome};
use crate::corpus::{self, Document, Documents, ReadOptions};
use crate::embed::Encoder;
use crate::embed::colbert::{ColbertEncoder, LateEncoder, PlainLate};
use crate::error::{Error, Result};
use crate::index::Snapshot;
use crate::novelty::assess;
use crate::novelty::probes::{EDITS, Paraphrase};
use crate::novelty::{Assessed, CacheOptions, Calibration, Recall, Score, Scorer, Settings, Text};

/// How texts are scored.
#[derive(Debug, Clone, Args, serde::Serialize, serde::Deserialize)]
pub struct ScoreArgs {
    /// Window lengths in encoder tokens
    #[arg(long, value_delimiter = ',', default_value = "25,50,100,200,500", value_name = "N,...")]
    pub windows: Vec<usize>,
    /// Candidates of the vector search, a window
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub candidates: usize,
    /// Candidates scored by late interaction, a window
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub rerank: usize,
    /// Search the shards' vector indexes, which may miss some chunks, instead of all vectors
    #[arg(long)]
    pub approximate: bool,
    /// ColBERT checkpoint (a directory) for late interaction [default: the hidden states of the index's encoder]
    #[arg(long, value_name = "DIR")]
    pub late: Option<PathBuf>,
    /// ColBERT: score the [MASK] tokens that fill a query, too
    #[arg(long)]
    pub count_masks: bool,
    /// Directory that keeps token states of chunks for later runs; none: keep them in memory only [default: in the index]
    #[arg(long, value_name = "DIR")]
    pub token_cache: Option<PathBuf>,
    /// Bits a dimension in the token cache: 2 or 4
    #[arg(long, default_value_t = 4, value_name = "BITS")]
    pub token_bits: u32,
    /// Score a human text that is in the corpus against its own document, too
    #[arg(long)]
    pub keep_source: bool,
    /// Field or column that holds the text
    #[arg(long, default_value = "text", value_name = "FIELD")]
    pub text_field: String,
    /// Field that holds the id
    #[arg(long, default_value = "id", value_name = "FIELD")]
    pub id_field: String,
    /// Field that holds the id of the corpus document a text was taken from, which is then left out
    #[arg(long, value_name = "FIELD")]
    pub source_field: Option<String>,
    /// Field that holds the domain: texts are measured against human texts of the same one
    #[arg(long, value_name = "FIELD")]
    pub domain: Option<String>,
    /// Smallest p-value that should be possible: says how many human texts are needed
    #[arg(long, default_value_t = 0.01, value_name = "P", value_parser = p_value)]
    pub p_resolution: f64,
}

/// How the recall of the search is measured.
#[derive(Debug, Clone, Args, serde::Serialize, serde::Deserialize)]
pub struct ProbeArgs {
    /// Recall probes a window length and edit level; 0: none
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub probes: usize,
    /// Texts that rephrase documents of the corpus, as probes: their `source` is the document's id
    #[arg(long, value_name = "PATH")]
    pub paraphrases: Option<PathBuf>,
    /// Seed of probes, bootstrap and permutations
    #[arg(long, default_value_t = 42, value_name = "N")]
    pub seed: u64,
}

/// What texts are measured against and how they are told apart: the same in `novelty` and `audit`.
#[derive(Debug, Clone, Args, serde::Serialize, serde::Deserialize)]
pub struct StudyArgs {
    /// File or directory of human texts of the same kind; may be given several times
    #[arg(long, conflicts_with = "calibration", value_name = "PATH")]
    pub human: Vec<PathBuf>,
    /// Scored human texts, from `priorart calibrate`
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,
    /// Columns that name a text's group, such as the model and the prompt set
    #[arg(long, value_delimiter = ',', value_name = "FIELD,...")]
    pub group_by: Vec<String>,
    /// Column whose equal values pair the texts of two groups, such as the prompt's id
    #[arg(long, requires = "group_by", value_name = "FIELD")]
    pub pair_by: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub score: ScoreArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub probe: ProbeArgs,
    /// Prove of each window whether no chunk has a cosine of TAU or more with it
    #[arg(long, value_name = "TAU")]
    pub certify: Option<f64>,
    /// Exit with 1 if a text is found novel (q of at most 0.05 at any window length)
    #[arg(long)]
    #[serde(skip)]
    pub check: bool,
}

impl StudyArgs {
    /// The calibration that was named, read.
    ///
    /// # Errors
    /// A file that is none, or `--check` without anything to check against.
    pub fn given(&self) -> Result<Option<Calibration>> {
        if self.check && self.calibration.is_none() && self.human.is_empty() {
            return Err(Error::invalid_hint(
                "--check needs a human reference",
                "pass --human FILE or --calibration FILE",
            ));
        }
        self.calibration.as_deref().map(Calibration::read).transpose()
    }

    /// The texts to score.
    ///
    /// # Errors
    /// Files that cannot be read, or without any text.
    pub fn texts(&self, paths: &[PathBuf]) -> Result<Vec<Document>> {
        let documents = self.score.read(paths)?;
        if documents.is_empty() {
            return Err(Error::invalid_hint("there are no texts to score", "give files with at least one text"));
        }
        Ok(documents)
    }

    /// Refuses texts of domains that the reference does not have.
    pub fn check_domains(&self, documents: &[Document], calibration: &Calibration) -> Result<()> {
        let Some(field) = &self.score.domain else { return Ok(()) };
        let domains: Vec<Option<String>> = documents.iter().map(|d| column(d, field)).collect();
        calibration.check_domains(domains.iter().map(|d| d.as_deref()))
    }

    /// What pairs the texts of two groups, where that was asked for.
    pub fn keys(&self, documents: &[Document]) -> Option<Vec<Option<String>>> {
        let field = self.pair_by.as_ref()?;
        Some(documents.iter().map(|d| column(d, field)).collect())
    }

    /// 1 with `--check`, if a text was found novel.
    pub fn outcome(&self, assessed: &[Vec<Assessed>]) -> Outcome {
        let novel = assessed.iter().flatten().any(|a| a.q.is_some_and(|q| q <= 0.05));
        if self.check && novel { Outcome::Findings } else { Outcome::Done }
    }
}

/// A p-value from the command line.
fn p_value(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(p) if p > 0.0 && p < 1.0 => Ok(p),
        _ => Err("a p-value lies between 0 and 1, such as 0.01".into()),
    }
}

/// Texts in a batch: bounds memory, and is enough for the matrix products.
pub const BATCH: usize = 64;

/// An index and the encoders to score with.
pub struct Engine {
    pub snapshot: Snapshot,
    pub encoder: Box<dyn Encoder>,
    colbert: Option<ColbertEncoder>,
}

impl Engine {
    pub fn open(global: &Global, args: &ScoreArgs) -> anyhow::Result<Engine> {
        let snapshot = global.snapshot()?;
        let opened = super::super::semantic::open_of(global, &snapshot)?;
        let colbert = args.late.as_deref().map(ColbertEncoder::open).transpose()?;
        Ok(Engine { snapshot, encoder: opened.encoder, colbert })
    }

    /// Calls `run` with a scorer.
    pub fn with_scorer<T>(
        &self,
        global: &Global,
        args: &ScoreArgs,
        run: impl FnOnce(&mut Scorer) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let plain = PlainLate::new(&*self.encoder);
        let late: &dyn LateEncoder = match &self.colbert {
            Some(colbert) => colbert,
            None => &plain,
        };
        let cache = match args.token_cache.as_deref() {
            Some(dir) if dir == Path::new("none") => None,
            Some(dir) => Some(CacheOptions { dir: dir.into(), bits: args.token_bits }),
            None => Some(CacheOptions::beside(self.snapshot.dir.path(), &late.spec().sha256, args.token_bits)),
        };
        if let Some(cache) = &cache {
            super::super::semantic::tell_new(global, cache);
        }
        // Chunk states may take a quarter of the memory.
        let memory = (global.memory() / 4) as usize;
        let mut scorer = Scorer::new(&self.snapshot, &*self.encoder, late, args.settings(), memory, cache.as_ref())?;
        run(&mut scorer)
    }
}

impl ScoreArgs {
    pub fn settings(&self) -> Settings {
        Settings {
            windows: self.windows.clone(),
            candidates: self.candidates,
            rerank: self.rerank,
            leave_source_out: !self.keep_source,
            exhaustive: !self.approximate,
            count_masks: self.count_masks,
            ..Settings::default()
        }
    }

    pub fn read(&self, paths: &[PathBuf]) -> Result<Vec<Document>> {
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

    /// A document as a text to score.
    pub fn text(&self, d: &Document, human: bool) -> Text {
        Text {
            id: d.id.clone(),
            text: d.text.clone(),
            source: self.source_field.as_ref().and_then(|f| column(d, f)),
            human,
            domain: self.domain.as_ref().and_then(|f| column(d, f)),
        }
    }

    /// Scores documents batch by batch; `done` gets each batch's scores as they come.
    pub fn score(
        &self,
        global: &Global,
        scorer: &mut Scorer,
        documents: &[Document],
        (what, human): (&str, bool),
        mut done: impl FnMut(Vec<Score>) -> Result<()>,
    ) -> Result<()> {
        let bar = output::counter(documents.len() as u64, global.quiet, what);
        for batch in documents.chunks(BATCH) {
            let texts: Vec<Text> = batch.iter().map(|d| self.text(d, human)).collect();
            done(scorer.score(&texts)?)?;
            bar.inc(batch.len() as u64);
            bar.set_message(format!("{} chunks encoded", number(scorer.chunks_encoded())));
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// A calibration from human texts.
    pub fn calibrate(&self, global: &Global, scorer: &mut Scorer, paths: &[PathBuf]) -> Result<Calibration> {
        let human = self.read(paths)?;
        if human.is_empty() {
            return Err(Error::invalid_hint("there are no human texts", "give files with at least one text"));
        }
        let mut scores = Vec::with_capacity(human.len());
        self.score(global, scorer, &human, ("human", true), |batch| {
            scores.extend(batch);
            Ok(())
        })?;
        Calibration::new(scorer.snapshot(), &scorer.settings, &scores)
    }
}

impl ProbeArgs {
    /// Recall at the window lengths that some text was scored at: others say nothing, and long probes are the dear ones.
    pub fn measure(&self, global: &Global, scorer: &mut Scorer, scores: &[Score]) -> Result<Vec<Recall>> {
        let mut lengths: Vec<usize> =
            scores.iter().flat_map(|s| &s.lengths).filter(|l| !l.short).map(|l| l.length).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let paraphrases = match &self.paraphrases {
            None => Vec::new(),
            Some(path) => paraphrases(path)?,
        };
        let total = (self.probes * EDITS.len() * lengths.iter().sum::<usize>()) as u64;
        let bar = output::counter(total, global.quiet, "probes");
        let recall = scorer.probe(&lengths, self.probes, &paraphrases, self.seed, &mut |n| bar.set_position(n))?;
        bar.finish_and_clear();
        Ok(recall)
    }
}

fn paraphrases(path: &Path) -> Result<Vec<Paraphrase>> {
    let mut documents = Documents::new(corpus::discover(&[path.to_path_buf()])?, ReadOptions::default());
    let mut out = Vec::new();
    loop {
        let mut d = Document::default();
        if !documents.next(&mut d)? {
            break;
        }
        let source = column(&d, "source").ok_or_else(|| Error::Record {
            path: d.path.clone().into(),
            line: d.record + 1,
            byte: 0,
            what: "a paraphrase needs `source`, the id of the document it rephrases".into(),
        })?;
        out.push(Paraphrase { text: d.text, source });
    }
    Ok(out)
}

/// A metadata field as text.
pub fn column(d: &Document, field: &str) -> Option<String> {
    match d.metadata.get(field)? {
        serde_json::Value::Null => None,
        serde_json::Value::String(s) => Some(s.clone()),
        other => Some(other.to_string()),
    }
}

/// Each text's group: the values of the columns, `-` where one is missing; all in one group without columns.
pub fn group_names(documents: &[Document], fields: &[String]) -> Result<Vec<String>> {
    if let Some(field) =
        fields.iter().find(|f| !documents.is_empty() && documents.iter().all(|d| column(d, f).is_none()))
    {
        let known: std::collections::BTreeSet<&String> = documents.iter().flat_map(|d| d.metadata.keys()).collect();
        let known: Vec<&str> = known.into_iter().map(String::as_str).collect();
        return Err(Error::invalid_hint(
            format!("no text has the column {field:?} to group by"),
            format!("the columns are: {}", known.join(", ")),
        ));
    }
    let name = |d: &Document| match fields {
        [] => "all".to_string(),
        fields => fields.iter().map(|f| column(d, f).unwrap_or_else(|| "-".into())).collect::<Vec<_>>().join(" / "),
    };
    Ok(documents.iter().map(name).collect())
}

/// What limits the conclusions of a run, in words.
pub fn warnings(
    calibration: Option<&Calibration>,
    scores: &[Score],
    assessed: &[Vec<Assessed>],
    p_resolution: f64,
) -> Vec<String> {
    let mut out = Vec::new();
    let Some(c) = calibration else { return out };
    out.extend(c.warnings(p_resolution));
    let disordered = assess::disordered(assessed).len();
    if disordered > 0 {
        out.push(format!(
            "{disordered} texts (by chance: at most {:.1}) have more 3-grams that the corpus lacks than 99 of 100 human texts, though s is as high as theirs: their words may be in no order, which late interaction hardly sees; `p_absent` says which",
            assess::DOUBTED * scores.len() as f64
        ));
    }
    let lengths: Vec<f64> = scores.iter().map(|s| s.tokens as f64).collect();
    let ours = crate::novelty::statistics::median(&lengths).unwrap_or(0.0);
    if ours > 2.0 * c.median_tokens || c.median_tokens > 2.0 * ours {
        out.push(format!(
            "the texts have {ours:.0} tokens (median), the human texts {:.0}: scores of unlike lengths are unlike",
            c.median_tokens
        ));
    }
    out
}

/// Recall in words, a line each.
pub fn recall_text(recall: &[Recall], generation: u64) -> String {
    if recall.is_empty() {
        return "\nno recall was measured: without probes, or without a text as long as a window\n".into();
    }
    let mut out = format!(
        "\nrecall of the search in generation {generation}: the source document is first (95 % interval), among those scored, among the candidates\n"
    );
    for r in recall {
        out += &format!(
            "  {:>4} tokens, {:<11}: {:.2} [{:.2}, {:.2}], {:.2}, {:.2} of {}\n",
            r.length,
            r.kind(),
            r.first.estimate,
            r.first.low,
            r.first.high,
            r.scored.estimate,
            r.candidates.estimate,
            r.probes
        );
    }
    out
}
