//! `decontaminate`: which documents of a corpus contain which eval items; and cleaned copies of the corpus.

mod join;
mod parts;
mod report;
mod review;
mod stream;
mod study;
mod summary;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use clap::{Args, Subcommand, ValueEnum};

use super::output;
use super::{Format, Global, Outcome};
use crate::corpus::{self, BadRecords, ReadOptions, SourceFile};
use crate::decontaminate::labels::Labels;
use crate::decontaminate::remove::{self, Doomed, RemovalManifest};
use crate::decontaminate::run::{Row, Totals, check, check_snapshot, corpus_frequency};
use crate::decontaminate::semantic::Semantic;
use crate::decontaminate::{Detector, Level, Parameters, Protocol, Settings};
use crate::error::{Error, Result};
use crate::index::Snapshot;
use crate::index::build::task_files;
use crate::reference::{Mapping, open_or_build};
use parts::Parts;
use report::Report;
use stream::{Rows, Stream};
pub(super) use summary::benchmark_items;
use summary::{Summary, Tally, summarise, text};

/// What to take out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Remove {
    /// Whole documents with a dirty item
    Document,
    /// What matches the items; the rest of the document is kept
    Span,
}

/// What else can be done with a report.
#[derive(Debug, Subcommand)]
enum After {
    /// Step through the cases of a report and label them; later runs honour the labels
    Review(review::ReviewArgs),
    /// Compare a model's scores on clean and on dirty items
    Study(study::StudyArgs),
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct DecontaminateArgs {
    #[command(subcommand)]
    after: Option<After>,
    /// Eval items to protect: files or directories, or one file made by `reference build`
    #[arg(long, required_unless_present = "join", num_args = 1.., value_name = "PATH")]
    reference: Vec<PathBuf>,
    /// Fields of the reference files, such as question=prompt,answer=solution, or a benchmark's name
    #[arg(long, value_name = "MAP")]
    map: Option<String>,
    /// Corpus files, directories or globs; without it, the documents of --index
    #[arg(long, num_args = 1.., value_name = "PATH")]
    corpus: Vec<PathBuf>,
    /// Protocols to judge by, or all; the first decides what counts as dirty and what is removed
    #[arg(long, default_value = "priorart", value_name = "NAME,...")]
    protocol: String,
    /// Set a protocol's parameter, such as gpt3.n=8; repeatable
    #[arg(long, value_name = "PROTOCOL.NAME=VALUE")]
    set: Vec<String>,
    /// Add the semantic and code columns: items in other words and rewritten programs, found with an encoder
    #[arg(long)]
    semantic: bool,
    /// Encoder of the columns: a name of the catalog or a model directory
    #[arg(long, default_value = "all-minilm-l6-v2", value_name = "NAME")]
    encoder: String,
    /// Labels of a review: what was rejected is dirty under no protocol and is not removed
    #[arg(long, visible_alias = "allow", value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Write a cleaned copy of the corpus to --out
    #[arg(long, value_enum, value_name = "WHAT")]
    remove: Option<Remove>,
    /// Remove the documents that any of these protocols or columns calls dirty [default: the first protocol]
    #[arg(long, requires = "remove", value_name = "NAME,...")]
    remove_by: Option<String>,
    /// Directory for the report and the cleaned corpus; an interrupted run goes on there, a finished one is not overwritten
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Check only this part of the corpus files, numbered from 0; its output goes to a directory of its own below --out
    #[arg(long, requires_all = ["tasks", "corpus"], value_name = "I")]
    task: Option<u32>,
    /// Parts the corpus files are divided into
    #[arg(long, requires = "task", value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    tasks: Option<u32>,
    /// Join the outputs of all tasks below a directory into one report there
    #[arg(long, value_name = "DIR", conflicts_with_all = ["reference", "corpus", "out", "task", "remove"])]
    join: Option<PathBuf>,
    /// Report what --remove would do, write nothing
    #[arg(long)]
    dry_run: bool,
    /// Field that holds the text
    #[arg(long, default_value = "text", value_name = "FIELD")]
    text_field: String,
    /// Tolerate up to N bad records of the corpus
    #[arg(long, default_value_t = 0, value_name = "N")]
    skip_bad: u64,
    /// Exit with 1 if any document is dirty
    #[arg(long)]
    check: bool,
}

pub fn decontaminate(global: &Global, mut args: DecontaminateArgs) -> anyhow::Result<Outcome> {
    match args.after.take() {
        Some(After::Review(review)) => return review::review(&review),
        Some(After::Study(study)) => return study::study(global, &study),
        None => {}
    }
    if let Some(dir) = &args.join {
        let (summary, worst) = join::join(dir)?;
        return conclude(global, &summary, &worst, true, args.check);
    }
    if let (Some(task), Some(tasks)) = (args.task, args.tasks) {
        if task >= tasks {
            let hint = format!("tasks are numbered from 0 to {}", tasks - 1);
            return Err(Error::invalid_hint(format!("there is no task {task} of {tasks}"), hint).into());
        }
        args.out = args.out.map(|out| out.join(join::directory(task, tasks)));
    }
    if args.remove.is_some() && args.corpus.is_empty() {
        return Err(Error::invalid_hint(
            "--remove needs the corpus files",
            "pass them with --corpus; an index is not edited by this command",
        )
        .into());
    }
    if args.remove.is_some() && !args.dry_run && args.out.is_none() {
        return Err(Error::invalid_hint("--remove needs --out DIR", "or pass --dry-run to see what it would do").into());
    }
    let out = args.out.clone().filter(|_| !args.dry_run);
    if let Some(out) = &out {
        Parts::refuse_finished(out)?;
    }
    // With corpus files, an index only tells how frequent what is found is.
    let snapshot =
        if args.corpus.is_empty() || global.index.is_some() { Some(Arc::new(global.snapshot()?)) } else { None };
    let detector = detector(&args, snapshot.clone())?;
    let index = detector.index().clone();
    let protocols = detector.settings().protocols.clone();
    let removing = removing(&args, &protocols)?;
    let reading = ReadOptions {
        text_field: args.text_field.clone(),
        skip_bad: args.skip_bad,
        metadata_fields: Some(Vec::new()),
        ..ReadOptions::default()
    };
    let mut files = if args.corpus.is_empty() { Vec::new() } else { corpus::discover(&args.corpus)? };
    if let (Some(task), Some(tasks)) = (args.task, args.tasks) {
        files = task_files(&files, task, tasks);
    }
    let plan = serde_json::json!({
        "reference": format!("{:016x}", index.fingerprint()),
        "settings": [serde_json::to_value(&protocols)?, serde_json::to_value(&detector.settings().parameters)?],
        "labels": args.labels.as_ref().map(std::fs::read_to_string).transpose().unwrap_or_default(),
        "corpus": &args.corpus,
        "text_field": &args.text_field,
        "encoder": detector.semantic().map(|s| s.encoder().sha256.clone()),
        "removing": &removing,
        "index": snapshot.as_ref().map(|s| (s.dir.path().to_path_buf(), s.manifest.generation)),
    });
    let parts = Parts::open(out.as_deref(), &plan)?;
    // With jsonl and no directory, the rows are the data.
    let stream = (global.format() == Format::Jsonl && args.out.is_none()).then(Stream::default);
    let checked = match (&snapshot, args.corpus.is_empty()) {
        (Some(s), true) => vec![check_index(&detector, s, &parts, stream.as_ref(), global.quiet)?],
        _ => check_files(&detector, &files, &reading, &parts, stream.as_ref(), global.quiet)?,
    };
    let mut totals = Totals::default();
    checked.iter().for_each(|part| totals.add(part.clone()));

    let mut report = Report::new(out.as_deref(), &protocols)?;
    let mut tally = Tally::default();
    let mut doomed: BTreeMap<usize, Doomed> = BTreeMap::new();
    for part in 0..checked.len() {
        for row in parts.rows(part)? {
            let row = row?;
            tally.add(&row);
            if removing.iter().any(|&p| row.level_under(p) == Some(Level::Dirty)) {
                doomed.entry(part).or_default().insert(row.training_line, row.document_hash.clone());
            }
            report.row(&row)?;
        }
    }
    let removal = match args.remove {
        None => None,
        Some(what) => {
            let spans = (what == Remove::Span).then_some(&detector);
            Some(remove_documents(&args, &files, &checked, &doomed, spans, &reading, &parts)?)
        }
    };
    let complete = totals.failed.is_empty();
    let summary = summarise(benchmark_items(&index)?, &protocols, totals, tally, removal);
    let worst = report.finish(&summary)?;
    if complete {
        parts.discard()?;
    }
    conclude(global, &summary, &worst, args.out.is_some(), args.check)
}

/// The protocols and columns whose dirty documents are removed.
fn removing(args: &DecontaminateArgs, protocols: &[Protocol]) -> Result<Vec<Protocol>> {
    let Some(list) = &args.remove_by else { return Ok(protocols.iter().take(1).copied().collect()) };
    let removing = Protocol::parse_list(list)?;
    if let Some(absent) = removing.iter().find(|p| !protocols.contains(p)) {
        return Err(Error::invalid_hint(
            format!("--remove-by {}: it is not judged by", absent.name()),
            "name it in --protocol too, or pass --semantic for the columns",
        ));
    }
    if args.remove == Some(Remove::Span) && removing.as_slice() != &protocols[..1] {
        return Err(Error::invalid_hint(
            "--remove span cuts by the first protocol alone",
            "name the one to cut by first in --protocol, or remove documents",
        ));
    }
    Ok(removing)
}

/// The detector that the arguments ask for.
fn detector(args: &DecontaminateArgs, snapshot: Option<Arc<Snapshot>>) -> Result<Detector> {
    let mut protocols = Protocol::parse_list(&args.protocol)?;
    if args.semantic {
        let asked = protocols.clone();
        protocols.extend(Protocol::COLUMNS.into_iter().filter(|c| !asked.contains(c)));
    }
    let columns = protocols.iter().any(|p| Protocol::COLUMNS.contains(p));
    let mut parameters = Parameters::default();
    for s in &args.set {
        parameters.set(s)?;
    }
    let mapping = args.map.as_deref().map(Mapping::parse).transpose()?;
    let index = Arc::new(open_or_build(&args.reference, mapping.as_ref())?);
    let settings = Settings { protocols, parameters, keep_clean: false };
    let mut detector = Detector::new(index.clone(), settings)?;
    if columns {
        let encoder = super::semantic::open_encoder(&args.encoder)?;
        detector = detector.with_semantic(Arc::new(Semantic::new(index, encoder)?));
    }
    if let Some(snapshot) = snapshot {
        detector = detector.with_frequency(corpus_frequency(snapshot));
    }
    if let Some(path) = &args.labels {
        detector = detector.with_labels(Arc::new(Labels::read(path)?));
    }
    Ok(detector)
}

/// Checks the documents of an index, as one part.
fn check_index(
    detector: &Detector,
    snapshot: &Snapshot,
    parts: &Parts,
    stream: Option<&Stream>,
    quiet: bool,
) -> Result<Totals> {
    if let Some(totals) = parts.done(0, None) {
        return Ok(totals);
    }
    let bar = output::counter(snapshot.manifest.corpus.documents, quiet, "check");
    let mut rows = Rows::new(parts, 0, stream)?;
    let totals = check_snapshot(detector, snapshot, &mut |row| rows.row(&row), &mut |n| {
        bar.inc(n);
        Ok(())
    })?;
    rows.finish(&totals, None)?;
    bar.finish_and_clear();
    Ok(totals)
}

/// Checks every file that is not done yet, several at once; each is a part. The first error of writing ends it, and what was done
/// before stays done.
fn check_files(
    detector: &Detector,
    files: &[SourceFile],
    reading: &ReadOptions,
    parts: &Parts,
    stream: Option<&Stream>,
    quiet: bool,
) -> Result<Vec<Totals>> {
    let mut done: Vec<Option<Totals>> = (0..files.len()).map(|part| parts.done(part, files.get(part))).collect();
    let resumed = done.iter().flatten().count();
    if resumed > 0 && !quiet {
        eprintln!("going on: {resumed} of {} files were checked before", files.len());
    }
    let bar = output::bar(files.iter().map(|f| f.bytes).sum(), quiet, "check");
    files.iter().zip(&done).filter(|(_, done)| done.is_some()).for_each(|(f, _)| bar.inc(f.bytes));
    let bad = Mutex::new(BadRecords::new(reading.skip_bad));
    let next = AtomicUsize::new(0);
    let made: Mutex<Vec<(usize, Result<Totals>)>> = Mutex::default();
    let open: Vec<usize> = (0..files.len()).filter(|&part| done[part].is_none()).collect();
    let one = |part: usize| -> Result<Totals> {
        let mut rows = Rows::new(parts, part, stream)?;
        let advance = |n: u64| bar.inc(n);
        let totals = check(detector, &files[part], reading, &bad, &mut |row| rows.row(&row), &advance)?;
        rows.finish(&totals, Some(&files[part]))?;
        Ok(totals)
    };
    std::thread::scope(|scope| {
        // Readers wait for the pool that judges, so there are as many of them as threads: one to read while others judge.
        for _ in 0..rayon::current_num_threads().min(open.len()) {
            scope.spawn(|| {
                while let Some(&part) = open.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let totals = one(part);
                    if totals.is_err() {
                        next.store(open.len(), Ordering::Relaxed);
                    }
                    made.lock().unwrap_or_else(PoisonError::into_inner).push((part, totals));
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
    made.sort_by_key(|(part, _)| *part);
    for (part, totals) in made {
        done[part] = Some(totals?);
    }
    Ok(done.into_iter().flatten().collect())
}

/// Prints the summary; files that were not checked to the end are an error.
fn conclude(global: &Global, summary: &Summary, worst: &[Row], out: bool, check: bool) -> anyhow::Result<Outcome> {
    for (path, why) in &summary.failed_files {
        eprintln!("error: {}: not checked to the end: {why}", path.display());
    }
    // With jsonl and no directory, the summary goes to standard error.
    if global.format() != Format::Jsonl || out {
        output::result(global.format(), summary, |s| text(s, worst))?;
    } else if !global.quiet {
        eprint!("{}", text(summary, &[]));
    }
    let uncleaned = summary.removal.iter().flat_map(|m| &m.failed);
    let uncleaned: Vec<_> =
        uncleaned.filter(|(path, _)| !summary.failed_files.iter().any(|(f, _)| f == path)).collect();
    for (path, why) in &uncleaned {
        eprintln!("error: {}: not cleaned: {why}", path.display());
    }
    if summary.failed_files.is_empty() && !uncleaned.is_empty() {
        return Err(Error::invalid_hint(
            format!("{} files could not be cleaned", uncleaned.len()),
            "the other files were; run the check again, in another --out",
        )
        .into());
    }
    if !summary.failed_files.is_empty() {
        return Err(Error::invalid_hint(
            format!("{} files could not be checked to the end", summary.failed_files.len()),
            "the other files were; mend these and run the same command again, which goes on with what is missing",
        )
        .into());
    }
    Ok(if check && summary.dirty_documents > 0 { Outcome::Findings } else { Outcome::Done })
}

/// Writes the cleaned copy of every file that was checked to the end. A file that cannot be cleaned is in the manifest with the
/// reason, and the others are.
fn remove_documents(
    args: &DecontaminateArgs,
    files: &[SourceFile],
    checked: &[Totals],
    doomed: &BTreeMap<usize, Doomed>,
    spans: Option<&Detector>,
    reading: &ReadOptions,
    parts: &Parts,
) -> Result<RemovalManifest> {
    let out = args.out.clone().unwrap_or_default().join("corpus");
    let places = remove::places(files, &args.corpus, &out)?;
    let none = Doomed::new();
    let mut manifest = RemovalManifest::default();
    for (part, (file, place)) in files.iter().zip(&places).enumerate() {
        if let Some((_, why)) = checked.get(part).and_then(|totals| totals.failed.first()) {
            manifest.failed.push((file.path.clone(), format!("not checked to the end: {why}")));
            continue;
        }
        if let Some(account) = parts.cleaned(part, place) {
            manifest.add(account);
            continue;
        }
        let doomed = doomed.get(&part).unwrap_or(&none);
        match remove::clean(file, place, doomed, spans, reading, !args.dry_run) {
            Ok(account) => {
                parts.keep_account(part, &account)?;
                manifest.add(account);
            }
            // Without room for one copy there is none for the next.
            Err(e @ Error::Io { .. }) => return Err(e),
            Err(e) => manifest.failed.push((file.path.clone(), e.to_string())),
        }
    }
    if manifest.records_in != manifest.kept + manifest.removed {
        return Err(Error::invalid(format!(
            "{} records in, but {} kept and {} removed",
            manifest.records_in, manifest.kept, manifest.removed
        )));
    }
    Ok(manifest)
}
