//! `audit`: many texts scored against a corpus, a report directory out.
//!
//! The directory gets `settings.json` first (the run can be made again from it), then `calibration.json` where human texts were given,
//! `scores.jsonl` batch by batch, `recall.json`, and at the end `texts.parquet`, `groups.csv`, `summary.json` and `report.html`. A run that was
//! killed goes on after its last whole batch: what is there already is read instead of made again, provided that its settings are the
//! same.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::super::output::{self, number};
use super::super::{Global, Outcome};
use super::scoring::{self, Engine, StudyArgs, group_names, recall_text};
use super::tables::{table, write_groups};
use crate::catalog::sha256_of_file;
use crate::corpus::{self, Document};
use crate::error::{Error, Result};
use crate::novelty::assess::{self, Assessed, Effect, Group, Pair};
use crate::novelty::certify::{self, Certified};
use crate::novelty::statistics::quantile;
use crate::novelty::{Calibration, Ledger, LedgerOptions, Recall, Score, Scorer};
use crate::report::audit::{Audit, Case, Nearest};
use crate::report::columns;

/// Cases shown on the page, of each kind.
const CASES: usize = 12;
/// Quantile of the human scores from which a window is semantic evidence in a ledger.
const SEMANTIC: f64 = 0.95;

#[derive(Debug, Clone, Args, serde::Serialize, serde::Deserialize)]
pub struct AuditArgs {
    /// Files or directories of texts: .jsonl (also .gz, .zst), .parquet, .txt
    #[arg(required_unless_present = "settings", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Directory of the report; one of an earlier, killed run is gone on with
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    out: PathBuf,
    /// Take paths and options from the settings.json of an earlier audit
    #[arg(long, value_name = "FILE", conflicts_with_all = ["paths", "human", "calibration"])]
    #[serde(skip)]
    settings: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    study: StudyArgs,
}

/// `settings.json`: everything that decides an audit.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Recorded {
    created_by: String,
    index: PathBuf,
    generation: u64,
    parts: Vec<String>,
    encoder_sha256: String,
    /// The arguments.
    audit: serde_json::Value,
    /// sha256 of every file of texts, human texts, paraphrases, and the calibration.
    inputs: BTreeMap<String, String>,
    /// What scores depend on.
    scoring: crate::novelty::Settings,
}

/// `summary.json`, and what the command prints.
#[derive(Debug, serde::Serialize)]
struct Summary<'a> {
    out: &'a Path,
    generation: u64,
    texts: usize,
    resumed: usize,
    chunks_encoded: u64,
    groups: &'a [Group],
    effects: &'a [Effect],
    pairs: &'a [Pair],
    recall: &'a [Recall],
    certified: Option<Certified>,
    warnings: &'a [String],
}

pub fn audit(global: &Global, args: AuditArgs) -> anyhow::Result<Outcome> {
    let mut global = global.clone();
    let mut args = args;
    let repeated = match &args.settings {
        None => None,
        Some(path) => {
            let recorded: Recorded = read_json(path)?;
            let mut again: AuditArgs = serde_json::from_value(recorded.audit.clone())
                .map_err(|e| Error::corrupt(path, 0, format!("not the settings of an audit: {e}")))?;
            (again.out, again.study.check) = (args.out, args.study.check);
            args = again;
            global.index.get_or_insert_with(|| recorded.index.clone());
            Some(recorded)
        }
    };
    let given = args.study.given()?;
    let documents = args.study.texts(&args.paths)?;
    let names = group_names(&documents, &args.study.group_by)?;
    let engine = Engine::open(&global, &args.study.score)?;
    engine.with_scorer(&global, &args.study.score, |scorer| {
        // Whatever is wrong is told before anything is written.
        if let Some(c) = &given {
            c.check(scorer.snapshot(), &scorer.settings)?;
            args.study.check_domains(&documents, c)?;
        }
        args.study.certify.map_or(Ok(()), certify::check)?;
        let recorded = record(&args, scorer)?;
        if let Some(before) = &repeated
            && let Some(what) = differs(before, &recorded)
        {
            return Err(Error::invalid_hint(
                format!("the audit cannot be made again: {what}"),
                "restore what it was made from, or start a new audit",
            )
            .into());
        }
        prepare(&args.out, &recorded)?;
        let calibration = match given {
            Some(c) => Some(c),
            None if args.study.human.is_empty() => None,
            None => Some(human(&global, &args, scorer)?),
        };
        run(&global, &args, scorer, &documents, &names, calibration, &recorded)
    })
}

fn run(
    global: &Global,
    args: &AuditArgs,
    scorer: &mut Scorer,
    documents: &[Document],
    names: &[String],
    calibration: Option<Calibration>,
    recorded: &Recorded,
) -> anyhow::Result<Outcome> {
    if let Some(c) = &calibration {
        args.study.check_domains(documents, c)?;
    }
    if let Some(tau) = args.study.certify {
        scorer.certify(tau)?;
    }
    let path = args.out.join("scores.jsonl");
    let (before, certified, mut journal) = resume(&path)?;
    scorer.certified = certified;
    let resumed = before.len().min(documents.len());
    if resumed > 0 && !global.quiet {
        eprintln!("resumed: {} texts were scored by an earlier run", number(resumed as u64));
    }
    let bar = output::counter(documents.len() as u64, global.quiet, "audit");
    bar.set_position(resumed as u64);
    bar.reset_eta();
    for batch in documents[resumed..].chunks(scoring::BATCH) {
        let texts: Vec<_> = batch.iter().map(|d| args.study.score.text(d, false)).collect();
        let done = scorer.score(&texts)?;
        journal.append(&done, &scorer.certified)?;
        bar.inc(batch.len() as u64);
        bar.set_message(format!("{} chunks encoded", number(scorer.chunks_encoded())));
    }
    bar.finish_and_clear();
    drop((before, journal));
    // What was written decides, so that a run that was killed ends with the same figures as one that was not.
    let (scores, _, _) = resume(&path)?;
    let path = args.out.join("recall.json");
    let recall: Vec<Recall> = if path.exists() {
        read_json(&path)?
    } else {
        write_json(&path, &args.study.probe.measure(global, scorer, &scores)?)?;
        read_json(&path)?
    };
    let seed = args.study.probe.seed;
    let assessed = assess::assess(&scores, calibration.as_ref());
    let groups = assess::groups(&scores, &assessed, names, calibration.as_ref(), &recall, seed);
    let effects = assess::effects(&assessed, names, seed);
    let keys = args.study.keys(documents);
    let pairs = assess::compare(&scores, names, keys.as_deref(), seed);
    let mut warnings = scoring::warnings(calibration.as_ref(), &scores, &assessed, args.study.score.p_resolution);
    let unlike = scores.iter().filter(|s| !s.warnings.is_empty()).count();
    if unlike > 0 {
        warnings
            .push(format!("{unlike} texts are too short or hardly known to the encoder: column `warnings` says which"));
    }
    for w in &warnings {
        eprintln!("warning: {w}");
    }
    let ledger_options = thresholds(calibration.as_ref());
    let ledgers = ledgers(scorer, documents, &scores, &LedgerOptions { sources: 0, ..ledger_options.clone() })?;
    let columns = table(&scores, &assessed, names, &ledgers, &scorer.settings.windows);
    columns::write(&args.out.join("texts.parquet"), &columns)?;
    write_groups(&args.out.join("groups.csv"), &groups)?;
    let (most, least) = cases(scorer, documents, &scores, &assessed, names, &ledger_options)?;
    let certified = args.study.certify.map(|_| scorer.certified);
    let page = Audit {
        said: format!(
            "{} texts against generation {} of {} ({} documents, {} chunks){}.",
            number(scores.len() as u64),
            recorded.generation,
            recorded.index.display(),
            number(scorer.snapshot().manifest.corpus.documents),
            number(scorer.snapshot().chunks()),
            calibration.as_ref().map_or_else(
                || "; no human reference was given".into(),
                |c| format!(", compared with {} human texts", number(c.texts as u64))
            )
        ),
        groups: &groups,
        effects: &effects,
        pairs: &pairs,
        recall: &recall,
        calibration: calibration.as_ref(),
        assessed: &assessed,
        names,
        certified,
        warnings: &warnings,
        most_novel: &most,
        least_novel: &least,
        settings: serde_json::to_string_pretty(recorded)?,
    };
    let path = args.out.join("report.html");
    std::fs::write(&path, page.render()).map_err(Error::io(&path, "write"))?;
    let summary = Summary {
        out: &args.out,
        generation: recorded.generation,
        texts: scores.len(),
        resumed,
        chunks_encoded: scorer.chunks_encoded(),
        groups: &groups,
        effects: &effects,
        pairs: &pairs,
        recall: &recall,
        certified,
        warnings: &warnings,
    };
    write_json(&args.out.join("summary.json"), &summary)?;
    output::result(global.format(), &summary, |s| text(s))?;
    Ok(args.study.outcome(&assessed))
}

/// The settings of this run.
fn record(args: &AuditArgs, scorer: &Scorer) -> Result<Recorded> {
    let m = &scorer.snapshot().manifest;
    let mut inputs = BTreeMap::new();
    let mut paths: Vec<PathBuf> = args.paths.iter().chain(&args.study.human).cloned().collect();
    paths.extend(args.study.probe.paraphrases.clone());
    let files = corpus::discover(&paths)?.into_iter().map(|f| f.path).chain(args.study.calibration.clone());
    for path in files {
        inputs.insert(path.display().to_string(), sha256_of_file(&path)?.0);
    }
    Ok(Recorded {
        created_by: concat!("priorart ", env!("CARGO_PKG_VERSION")).into(),
        index: scorer.snapshot().dir.path().to_path_buf(),
        generation: m.generation,
        parts: m.shards.iter().chain(&m.removed).map(|s| s.id.clone()).collect(),
        encoder_sha256: m.encoder.as_ref().map(|e| e.sha256.clone()).unwrap_or_default(),
        audit: serde_json::to_value(args).map_err(|e| Error::invalid(format!("settings: {e}")))?,
        inputs,
        scoring: scorer.settings.clone(),
    })
}

/// What keeps one run's results from being another's; `None` if nothing does.
fn differs(before: &Recorded, now: &Recorded) -> Option<String> {
    if (before.generation, &before.parts) != (now.generation, &now.parts) {
        return Some(format!("it was made on generation {}, the index is at {}", before.generation, now.generation));
    }
    if before.encoder_sha256 != now.encoder_sha256 {
        return Some("the encoder's weights are others".into());
    }
    let changed = before.inputs.iter().find(|(path, sha)| now.inputs.get(*path) != Some(sha));
    let added = now.inputs.keys().find(|path| !before.inputs.contains_key(*path));
    if let Some(path) = changed.map(|c| c.0).or(added) {
        return Some(format!("the input {path} is not what it was"));
    }
    if before.scoring != now.scoring {
        return Some("texts are scored with other settings".into());
    }
    let fields = |r: &Recorded| r.audit.as_object().cloned().unwrap_or_default();
    let (a, b) = (fields(before), fields(now));
    a.keys().chain(b.keys()).find(|k| a.get(*k) != b.get(*k)).map(|k| format!("the option {k} is another"))
}

/// Creates the directory, or makes sure that what is in it belongs to this run.
fn prepare(out: &Path, recorded: &Recorded) -> Result<()> {
    std::fs::create_dir_all(out).map_err(Error::io(out, "create"))?;
    let path = out.join("settings.json");
    if path.exists() {
        let before: Recorded = read_json(&path)?;
        return match differs(&before, recorded) {
            None => Ok(()),
            Some(what) => Err(Error::invalid_hint(
                format!("{}: it holds another audit: {what}", out.display()),
                "name another directory with --out, or remove this one",
            )),
        };
    }
    let mut entries = std::fs::read_dir(out).map_err(Error::io(out, "read"))?;
    if entries.next().is_some() {
        return Err(Error::invalid_hint(
            format!("{}: it is not empty and holds no audit", out.display()),
            "name a new directory with --out",
        ));
    }
    write_json(&path, recorded)
}

/// The human reference, scored once a report.
fn human(global: &Global, args: &AuditArgs, scorer: &mut Scorer) -> Result<Calibration> {
    let path = args.out.join("calibration.json");
    if path.exists() {
        let kept = Calibration::read(&path)?;
        kept.check(scorer.snapshot(), &scorer.settings)?;
        return Ok(kept);
    }
    let made = args.study.score.calibrate(global, scorer, &args.study.human)?;
    write_json(&path, &made)?;
    // Read back, as the scores are: a number may change in its last digit on its way through JSON.
    Calibration::read(&path)
}

/// The scores of a run under way, appended batch by batch.
struct Journal {
    path: PathBuf,
    file: File,
}

/// A line of `scores.jsonl`.
#[derive(serde::Serialize, serde::Deserialize)]
struct Line {
    #[serde(flatten)]
    score: Score,
    /// Sums of certification after the batch this text ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    certified: Option<Certified>,
}

/// Reads what an earlier run left, whole batches only, and opens the file to go on.
fn resume(path: &Path) -> Result<(Vec<Score>, Certified, Journal)> {
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(false).open(path).map_err(Error::io(path, "open"))?;
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
    let (mut scores, mut certified) = (Vec::new(), Certified::default());
    let (mut kept, mut at, mut batch) = (0, 0, Vec::new());
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        // A line that is cut short ended with the run that wrote it.
        let Ok(Line { score, certified: sums }) = serde_json::from_slice(line) else { break };
        if !line.ends_with(b"\n") {
            break;
        }
        at += line.len();
        batch.push(score);
        if let Some(sums) = sums {
            scores.append(&mut batch);
            (certified, kept) = (sums, at);
        }
    }
    file.set_len(kept as u64).map_err(Error::io(path, "truncate"))?;
    Ok((scores, certified, Journal { path: path.into(), file }))
}

impl Journal {
    /// Appends a batch and makes it durable.
    fn append(&mut self, scores: &[Score], certified: &Certified) -> Result<()> {
        use std::io::Seek;
        let mut lines = Vec::new();
        for (i, score) in scores.iter().enumerate() {
            let certified = (i + 1 == scores.len()).then_some(*certified);
            let line = Line { score: score.clone(), certified };
            serde_json::to_writer(&mut lines, &line).map_err(|e| Error::invalid(format!("scores: {e}")))?;
            lines.push(b'\n');
        }
        self.file.seek(std::io::SeekFrom::End(0)).map_err(Error::io(&self.path, "write"))?;
        self.file.write_all(&lines).map_err(Error::io(&self.path, "write"))?;
        self.file.sync_data().map_err(Error::io(&self.path, "sync"))
    }
}

/// Scores from which windows are evidence: what few human texts reach.
fn thresholds(calibration: Option<&Calibration>) -> LedgerOptions {
    let semantic = calibration
        .map(|c| c.scores.iter().filter_map(|(&l, s)| Some((l, quantile(s, SEMANTIC)?))).collect())
        .unwrap_or_default();
    LedgerOptions { semantic, ..LedgerOptions::default() }
}

fn ledgers(scorer: &Scorer, documents: &[Document], scores: &[Score], options: &LedgerOptions) -> Result<Vec<Ledger>> {
    use rayon::prelude::*;
    let snapshot = scorer.snapshot();
    documents.par_iter().zip(scores).map(|(d, s)| Ledger::of(snapshot, &d.text, Some(s), options)).collect()
}

/// The most and the least novel texts: by the mean of r over window lengths, or of s without a reference.
fn cases(
    scorer: &Scorer,
    documents: &[Document],
    scores: &[Score],
    assessed: &[Vec<Assessed>],
    names: &[String],
    options: &LedgerOptions,
) -> Result<(Vec<Case>, Vec<Case>)> {
    let mut order: Vec<(f64, usize)> = assessed
        .iter()
        .enumerate()
        .filter(|(i, list)| !list.is_empty() && scores[*i].lengths.iter().any(|l| !l.short))
        .map(|(i, list)| (list.iter().map(|a| a.r.unwrap_or(a.s)).sum::<f64>() / list.len() as f64, i))
        .collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let case = |&(_, i): &(f64, usize)| -> Result<Case> {
        let snapshot = scorer.snapshot();
        let ledger = Ledger::of(snapshot, &documents[i].text, Some(&scores[i]), options)?;
        let passages = ledger
            .sources
            .iter()
            .map(|s| {
                let p = &s.passage;
                let shard = &snapshot.shards[p.document.shard as usize];
                Ok(shard.documents.text_range(p.document.document, p.start_byte..p.end_byte)?.0)
            })
            .collect::<Result<Vec<String>>>()?;
        let longest = scores[i].lengths.last().into_iter().flat_map(|l| l.windows.iter().map(move |w| (l.length, w)));
        let nearest = longest.filter_map(|(l, w)| Some((l, w.s, w.best.as_ref()?))).max_by(|a, b| a.1.total_cmp(&b.1));
        let nearest = nearest.map(|(length, s, p)| -> Result<Nearest> {
            let documents = &snapshot.shards[p.document.shard as usize].documents;
            let said =
                format!("{length} tokens, s {s:.2}: {} · {}, bytes {} to {}", p.id, p.path, p.start_byte, p.end_byte);
            Ok(Nearest { said, text: documents.text_range(p.document.document, p.start_byte..p.end_byte)?.0 })
        });
        let by_length: Vec<String> = assessed[i]
            .iter()
            .map(|a| match (a.r, a.p) {
                (Some(r), Some(p)) => format!("{} tokens: r {r:.2}, p {p:.3}", a.length),
                _ => format!("{} tokens: s {:.2}", a.length, a.s),
            })
            .collect();
        let (id, text) = (documents[i].id.clone(), documents[i].text.clone());
        let nearest = nearest.transpose()?;
        Ok(Case { id, group: names[i].clone(), said: by_length.join("; "), text, ledger, passages, nearest })
    };
    let half = CASES.min(order.len().div_ceil(2));
    let most = order[..half].iter().map(case).collect::<Result<_>>()?;
    let least = order[half..].iter().rev().take(CASES).map(case).collect::<Result<_>>()?;
    Ok((most, least))
}

fn text(s: &Summary) -> String {
    let mut out = format!("{} texts; report in {}\n", number(s.texts as u64), s.out.join("report.html").display());
    out += &super::groups_text(s.groups, s.effects, s.pairs);
    out += &recall_text(s.recall, s.generation);
    if let Some(c) = &s.certified {
        out += &super::certified_text(c);
    }
    out
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(path, 0, format!("not what an audit writes there: {e}")))
}

/// Writes a file whole or not at all.
fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
    bytes.push(b'\n');
    let part = path.with_extension("part");
    std::fs::write(&part, bytes).map_err(Error::io(&part, "write"))?;
    std::fs::rename(&part, path).map_err(Error::io(path, "write"))
}
