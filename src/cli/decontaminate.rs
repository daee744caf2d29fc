//! `decontaminate`: which documents of a corpus contain which eval items; and cleaned copies of the corpus.

mod join;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::output::{self, number, one_line};
use super::{Format, Global, Outcome};
use crate::corpus::{self, Document, ReadOptions, SourceFile};
use crate::decontaminate::remove::{self, Doomed, RemovalManifest};
use crate::decontaminate::run::{Row, Totals, check, check_snapshot};
use crate::decontaminate::{Detector, Level, Parameters, Protocol, Settings};
use crate::error::{Error, Result};
use crate::index::build::task_files;
use crate::reference::{Mapping, ReferenceIndex, open_or_build};
use crate::report::page::{self, Page};
use crate::report::table::Table;

/// What to take out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Remove {
    /// Whole documents with a dirty item
    Document,
    /// What matches the items; the rest of the document is kept
    Span,
}

#[derive(Debug, Args)]
pub struct DecontaminateArgs {
    /// Eval items to protect: files or directories, or one file made by `reference build`
    #[arg(long, required_unless_present = "join", num_args = 1.., value_name = "PATH")]
    reference: Vec<PathBuf>,
    /// Fields of the reference files, such as question=prompt,answer=solution, or a benchmark's name
    #[arg(long, value_name = "MAP")]
    map: Option<String>,
    /// Corpus files, directories or globs; without it, the documents of --index
    #[arg(long, num_args = 1.., value_name = "PATH")]
    corpus: Vec<PathBuf>,
    /// Protocols to judge by, or all; the first decides what is removed
    #[arg(long, default_value = "priorart", value_name = "NAME,...")]
    protocol: String,
    /// Set a protocol's parameter, such as gpt3.n=8; repeatable
    #[arg(long, value_name = "PROTOCOL.NAME=VALUE")]
    set: Vec<String>,
    /// Write a cleaned copy of the corpus to --out
    #[arg(long, value_enum, value_name = "WHAT")]
    remove: Option<Remove>,
    /// Directory for the report and the cleaned corpus; must not hold one yet
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

/// What the command prints at the end, and writes to `summary.json`.
#[derive(serde::Serialize)]
struct Summary {
    documents: u64,
    text_bytes: u64,
    dirty_documents: u64,
    items: usize,
    protocols: Vec<&'static str>,
    benchmarks: Vec<Benchmark>,
    /// Findings on which two protocols agree that they are dirty, over those on which either says so.
    agreement: BTreeMap<String, f64>,
    failed_files: Vec<(PathBuf, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removal: Option<RemovalManifest>,
}

#[derive(Default, serde::Serialize)]
struct Benchmark {
    benchmark: String,
    items: usize,
    clean: usize,
    suspect: usize,
    dirty: usize,
    /// Dirty items by protocol.
    dirty_by_protocol: BTreeMap<&'static str, usize>,
}

pub fn decontaminate(global: &Global, mut args: DecontaminateArgs) -> anyhow::Result<Outcome> {
    if let Some(dir) = &args.join {
        let summary = join::join(dir)?;
        return conclude(global, &summary, &[], true, args.check);
    }
    if let (Some(task), Some(tasks)) = (args.task, args.tasks) {
        if task >= tasks {
            let hint = format!("tasks are numbered from 0 to {}", tasks - 1);
            return Err(Error::invalid_hint(format!("there is no task {task} of {tasks}"), hint).into());
        }
        args.out = args.out.map(|out| out.join(join::directory(task, tasks)));
    }
    let protocols = Protocol::parse_list(&args.protocol)?;
    let mut parameters = Parameters::default();
    for s in &args.set {
        parameters.set(s)?;
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
    if let (Some(out), false) = (&args.out, args.dry_run)
        && std::fs::read_dir(out).is_ok_and(|mut d| d.next().is_some())
    {
        return Err(Error::invalid_hint(
            format!("{}: the directory is not empty", out.display()),
            "name a new directory; nothing is overwritten",
        )
        .into());
    }
    let mapping = args.map.as_deref().map(Mapping::parse).transpose()?;
    let index = Arc::new(open_or_build(&args.reference, mapping.as_ref())?);
    let settings = Settings { protocols: protocols.clone(), parameters, keep_clean: false };
    let mut detector = Detector::new(index.clone(), settings)?;
    // With corpus files, an index only tells how frequent what is found is.
    let snapshot =
        if args.corpus.is_empty() || global.index.is_some() { Some(Arc::new(global.snapshot()?)) } else { None };
    if let Some(s) = &snapshot {
        let s = s.clone();
        detector = detector.with_frequency(Box::new(move |words| s.ngram(&words.join(" ")).map_or(0, |n| s.count(&n))));
    }
    let reading = ReadOptions {
        text_field: args.text_field.clone(),
        skip_bad: args.skip_bad,
        metadata_fields: Some(Vec::new()),
        ..ReadOptions::default()
    };
    let names: Vec<&'static str> = protocols.iter().map(|p| p.name()).collect();
    let mut report = Report::new(&args.out, args.dry_run, global.format(), &names)?;
    let mut files = if args.corpus.is_empty() { Vec::new() } else { corpus::discover(&args.corpus)? };
    if let (Some(task), Some(tasks)) = (args.task, args.tasks) {
        files = task_files(&files, task, tasks);
    }
    let mut doomed: BTreeMap<String, Doomed> = BTreeMap::new();
    let first = protocols.first().map_or("priorart", |p| p.name());
    let mut tally = Tally::default();
    let mut take = |document: &Document, rows: Vec<Row>| -> Result<()> {
        for row in &rows {
            tally.add(row);
            if row.verdicts.get(first).is_some_and(|v| v.level == Level::Dirty) {
                doomed.entry(document.path.clone()).or_default().insert(document.record, row.document_hash.clone());
            }
            report.row(row)?;
        }
        Ok(())
    };
    let bar = output::bar(files.iter().map(|f| f.bytes).sum(), global.quiet, "check");
    let totals = match (&snapshot, args.corpus.is_empty()) {
        (Some(s), true) => {
            bar.set_length(s.manifest.corpus.text_bytes);
            check_snapshot(&detector, s, &mut take, &mut |n| {
                bar.inc(n);
                Ok(())
            })?
        }
        _ => {
            bar.set_length(0);
            check(&detector, &files, &reading, &mut take, &mut |n| {
                bar.inc_length(n);
                bar.inc(n);
            })?
        }
    };
    bar.finish_and_clear();
    report.finish()?;
    let removal = match args.remove {
        None => None,
        Some(Remove::Document) => Some(remove_documents(&args, &files, &doomed, None, &reading)?),
        Some(Remove::Span) => Some(remove_documents(&args, &files, &doomed, Some(&detector), &reading)?),
    };
    let summary = summarise(benchmark_items(&index)?, &protocols, totals, tally, removal);
    if let (Some(out), false) = (&args.out, args.dry_run) {
        write_json(&out.join("summary.json"), &summary)?;
        write_page(&out.join("report.html"), &report.page, &summary)?;
        if let Some(m) = &summary.removal {
            write_json(&out.join("manifest.json"), m)?;
        }
    }
    conclude(global, &summary, &report.worst, args.out.is_some(), args.check)
}

/// Prints the summary; files that were not checked to the end are an error.
fn conclude(global: &Global, summary: &Summary, worst: &[Row], out: bool, check: bool) -> anyhow::Result<Outcome> {
    for (path, why) in &summary.failed_files {
        eprintln!("error: {}: not checked to the end: {why}", path.display());
    }
    // With jsonl and no directory, the rows are the data; the summary goes to standard error.
    if global.format() != Format::Jsonl || out {
        output::result(global.format(), summary, |s| text(s, worst))?;
    } else if !global.quiet {
        eprint!("{}", text(summary, &[]));
    }
    if !summary.failed_files.is_empty() {
        return Err(Error::invalid_hint(
            format!("{} files could not be checked to the end", summary.failed_files.len()),
            "the other files were; mend or leave out these and run again",
        )
        .into());
    }
    Ok(if check && summary.dirty_documents > 0 { Outcome::Findings } else { Outcome::Done })
}

fn remove_documents(
    args: &DecontaminateArgs,
    files: &[SourceFile],
    doomed: &BTreeMap<String, Doomed>,
    spans: Option<&Detector>,
    reading: &ReadOptions,
) -> Result<RemovalManifest> {
    let out = args.out.clone().unwrap_or_default().join("corpus");
    let places = remove::places(files, &args.corpus, &out)?;
    let none = Doomed::new();
    let mut manifest = RemovalManifest::default();
    for (file, place) in files.iter().zip(&places) {
        let doomed = doomed.get(&file.path.to_string_lossy().into_owned()).unwrap_or(&none);
        manifest.add(remove::clean(file, place, doomed, spans, reading, !args.dry_run)?);
    }
    if manifest.records_in != manifest.kept + manifest.removed {
        return Err(Error::invalid(format!(
            "{} records in, but {} kept and {} removed",
            manifest.records_in, manifest.kept, manifest.removed
        )));
    }
    Ok(manifest)
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(value).map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
    std::fs::write(path, bytes).map_err(Error::io(path, "write"))
}

fn write_page(path: &Path, page: &Page, s: &Summary) -> Result<()> {
    let said = format!(
        "{} documents ({}) against {} eval items; {} documents contain at least one dirty item.",
        number(s.documents),
        output::bytes(s.text_bytes),
        number(s.items as u64),
        number(s.dirty_documents)
    );
    let benchmarks: Vec<page::Benchmark> = s
        .benchmarks
        .iter()
        .map(|b| page::Benchmark {
            name: b.benchmark.clone(),
            items: b.items,
            clean: b.clean,
            suspect: b.suspect,
            dirty: b.dirty,
            dirty_by_protocol: s
                .protocols
                .iter()
                .map(|p| (p.to_string(), b.dirty_by_protocol.get(p).copied().unwrap_or(0)))
                .collect(),
        })
        .collect();
    std::fs::write(path, page.render(&said, &s.protocols, &benchmarks)).map_err(Error::io(path, "write"))
}

/// Rows as they come: to `report.jsonl` and `report.parquet` of the directory, or to standard output when that is what was asked for.
struct Report {
    path: PathBuf,
    file: Option<std::io::BufWriter<std::fs::File>>,
    stdout: bool,
    table: Option<Table>,
    page: Page,
    /// The gravest rows, for the text summary.
    worst: Vec<Row>,
}

impl Report {
    fn new(out: &Option<PathBuf>, dry_run: bool, format: Format, protocols: &[&'static str]) -> Result<Report> {
        let mut report = Report {
            path: PathBuf::new(),
            file: None,
            stdout: false,
            table: None,
            page: Page::default(),
            worst: Vec::new(),
        };
        match out {
            Some(dir) if !dry_run => {
                std::fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
                report.path = dir.join("report.jsonl");
                report.file = Some(std::io::BufWriter::new(
                    std::fs::File::create(&report.path).map_err(Error::io(&report.path, "create"))?,
                ));
                report.table = Some(Table::create(&dir.join("report.parquet"), protocols)?);
            }
            _ => report.stdout = format == Format::Jsonl,
        }
        Ok(report)
    }

    fn row(&mut self, row: &Row) -> Result<()> {
        let json = |e| Error::invalid(format!("report: {e}"));
        if let Some(file) = &mut self.file {
            let line = serde_json::to_string(row).map_err(json)?;
            writeln!(file, "{line}").map_err(Error::io(&self.path, "write"))?;
            if let Some(table) = &mut self.table {
                table.add(row)?;
            }
            self.page.add(row);
        } else if self.stdout {
            let mut line = serde_json::to_vec(row).map_err(json)?;
            line.push(b'\n');
            output::write(&line).map_err(Error::io("standard output", "write"))?;
        }
        if row.level == Level::Dirty {
            let at = self.worst.partition_point(|w| w.contamination_score >= row.contamination_score);
            if at < 5 {
                self.worst.insert(at, row.clone());
                self.worst.truncate(5);
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if let Some(mut file) = self.file.take() {
            file.flush().map_err(Error::io(&self.path, "write"))?;
        }
        self.table.take().map_or(Ok(()), Table::finish)
    }
}

#[derive(Default)]
struct Tally {
    /// Gravest level of each item.
    levels: BTreeMap<(String, String), Level>,
    /// Items dirty under each protocol.
    dirty: BTreeMap<&'static str, BTreeSet<(String, String)>>,
    /// Findings dirty under each protocol.
    findings: BTreeMap<&'static str, BTreeSet<usize>>,
    rows: usize,
}

impl Tally {
    fn add(&mut self, row: &Row) {
        let key = (row.eval_key.clone(), row.eval_instance_index.clone());
        self.finding(key, row.level, row.verdicts.iter().map(|(&name, v)| (name, v.level)));
    }

    /// One finding: benchmark and id of the item, the gravest level, and each protocol's.
    fn finding(
        &mut self,
        key: (String, String),
        gravest: Level,
        verdicts: impl Iterator<Item = (&'static str, Level)>,
    ) {
        let level = self.levels.entry(key.clone()).or_insert(Level::Clean);
        *level = (*level).max(gravest);
        for (name, verdict) in verdicts {
            if verdict == Level::Dirty {
                self.dirty.entry(name).or_default().insert(key.clone());
                self.findings.entry(name).or_default().insert(self.rows);
            }
        }
        self.rows += 1;
    }
}

/// Items by benchmark.
pub(super) fn benchmark_items(index: &ReferenceIndex) -> Result<BTreeMap<String, usize>> {
    let mut items = BTreeMap::new();
    for item in 0..index.len() as u32 {
        let origin = index.meta(item)?.origins.into_iter().next().unwrap_or_default();
        *items.entry(origin.benchmark).or_insert(0) += 1;
    }
    Ok(items)
}

fn summarise(
    of_benchmark: BTreeMap<String, usize>,
    protocols: &[Protocol],
    totals: Totals,
    tally: Tally,
    removal: Option<RemovalManifest>,
) -> Summary {
    let items = of_benchmark.values().sum();
    let mut benchmarks: BTreeMap<String, Benchmark> = of_benchmark
        .into_iter()
        .map(|(benchmark, items)| (benchmark.clone(), Benchmark { benchmark, items, ..Benchmark::default() }))
        .collect();
    for ((benchmark, _), level) in &tally.levels {
        let Some(b) = benchmarks.get_mut(benchmark) else { continue };
        match level {
            Level::Dirty => b.dirty += 1,
            Level::Suspect => b.suspect += 1,
            Level::Clean => {}
        }
    }
    for b in benchmarks.values_mut() {
        b.clean = b.items.saturating_sub(b.dirty + b.suspect);
    }
    for p in protocols {
        for b in benchmarks.values_mut() {
            let n = tally.dirty.get(p.name()).map_or(0, |d| d.iter().filter(|(k, _)| *k == b.benchmark).count());
            b.dirty_by_protocol.insert(p.name(), n);
        }
    }
    let mut agreement = BTreeMap::new();
    let none = BTreeSet::new();
    for (i, a) in protocols.iter().enumerate() {
        for b in &protocols[i + 1..] {
            let (x, y) = (tally.findings.get(a.name()).unwrap_or(&none), tally.findings.get(b.name()).unwrap_or(&none));
            let either = x.union(y).count();
            if either > 0 {
                agreement
                    .insert(format!("{}~{}", a.name(), b.name()), x.intersection(y).count() as f64 / either as f64);
            }
        }
    }
    Summary {
        documents: totals.documents,
        text_bytes: totals.text_bytes,
        dirty_documents: totals.dirty_documents,
        items,
        protocols: protocols.iter().map(|p| p.name()).collect(),
        benchmarks: benchmarks.into_values().collect(),
        agreement,
        failed_files: totals.failed,
        removal,
    }
}

fn text(s: &Summary, worst: &[Row]) -> String {
    let mut out = format!(
        "{} documents ({}) against {} eval items\n",
        number(s.documents),
        output::bytes(s.text_bytes),
        number(s.items as u64)
    );
    out += &format!("{} documents contain at least one dirty item\n\n", number(s.dirty_documents));
    let mut header = format!("{:<24}{:>8}{:>8}{:>9}{:>8}", "benchmark", "items", "clean", "suspect", "dirty");
    if s.protocols.len() > 1 {
        for p in &s.protocols {
            header += &format!("{p:>11}");
        }
    }
    out += &format!("{header}\n");
    for b in &s.benchmarks {
        out += &format!("{:<24}{:>8}{:>8}{:>9}{:>8}", b.benchmark, b.items, b.clean, b.suspect, b.dirty);
        if s.protocols.len() > 1 {
            for p in &s.protocols {
                out += &format!("{:>11}", b.dirty_by_protocol.get(p).copied().unwrap_or(0));
            }
        }
        out.push('\n');
    }
    if !s.agreement.is_empty() {
        out += "\nagreement: of the findings that either calls dirty, % that both do\n";
        out += &format!("{:<11}{}\n", "", s.protocols.iter().map(|p| format!("{p:>10}")).collect::<String>());
        for a in &s.protocols {
            out += &format!("{a:<11}");
            for b in &s.protocols {
                let share = s.agreement.get(&format!("{a}~{b}")).or_else(|| s.agreement.get(&format!("{b}~{a}")));
                let word = match share {
                    _ if a == b => "·".to_string(),
                    Some(share) => format!("{:.0}", 100.0 * share),
                    None => "-".to_string(),
                };
                out += &format!("{word:>10}");
            }
            out.push('\n');
        }
    }
    for w in worst {
        let short = |t: &str| one_line(t).chars().take(160).collect::<String>();
        out += &format!(
            "\n{:.2}  {}/{} in {} record {} ({})\n      document: {}\n      item:     {}\n",
            w.contamination_score,
            w.eval_key,
            w.eval_instance_index,
            w.training_file,
            w.training_line,
            w.components.iter().map(|c| c.component).collect::<Vec<_>>().join(", "),
            short(&w.training_text),
            short(&w.eval_text)
        );
    }
    if let Some(m) = &s.removal {
        out += &format!(
            "\n{} records in = {} kept + {} removed\n",
            number(m.records_in),
            number(m.kept),
            number(m.removed)
        );
        if m.edited > 0 {
            out += &format!("{} of the kept were cut, by {} of text\n", number(m.edited), output::bytes(m.cut_bytes));
        }
    }
    out
}
