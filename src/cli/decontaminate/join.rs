//! Joining the outputs of the tasks of a divided run.
//!
//! Task I of N writes to `OUT/task-I-of-N` what a run writes to `OUT`. Joining writes beside them the report in the order of
//! the tasks, the summary counted anew over all findings (an item that two tasks found counts once), and the manifest of
//! all files. Cleaned files stay where their tasks wrote them; the manifest says where.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{Level, RemovalManifest, Summary, Tally, Totals, summarise, write_json};
use crate::decontaminate::Protocol;
use crate::error::{Error, Result};

/// What joining needs of a task's `summary.json`.
#[derive(serde::Deserialize)]
struct TaskSummary {
    documents: u64,
    text_bytes: u64,
    dirty_documents: u64,
    protocols: Vec<String>,
    benchmarks: Vec<TaskBenchmark>,
    failed_files: Vec<(PathBuf, String)>,
    removal: Option<RemovalManifest>,
}

#[derive(serde::Deserialize)]
struct TaskBenchmark {
    benchmark: String,
    items: usize,
}

/// What it needs of a row of the report.
#[derive(serde::Deserialize)]
struct TaskRow {
    eval_key: String,
    eval_instance_index: String,
    level: Level,
    verdicts: BTreeMap<String, TaskVerdict>,
}

#[derive(serde::Deserialize)]
struct TaskVerdict {
    level: Level,
}

/// Name of a task's directory.
pub fn directory(task: u32, tasks: u32) -> String {
    format!("task-{task:05}-of-{tasks:05}")
}

/// Joins the tasks below `dir`.
///
/// # Errors
/// [`Error::Invalid`] when there is no task, one is missing or not finished, tasks differ in what they checked against, or
/// `dir` holds a joined report already; [`Error::Io`].
pub fn join(dir: &Path) -> Result<Summary> {
    let report = dir.join("report.jsonl");
    if report.exists() {
        return Err(Error::invalid_hint(
            format!("{}: the report exists already", report.display()),
            "move it away to join anew; nothing is overwritten",
        ));
    }
    let tasks = tasks(dir)?;
    let mut summaries = Vec::new();
    for task in &tasks {
        let path = task.join("summary.json");
        let bytes = std::fs::read(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::invalid_hint(
                format!("{} is missing: the task is not done", path.display()),
                "run that task again, in an empty directory",
            ),
            _ => Error::io(&path, "read")(e),
        })?;
        let summary: TaskSummary = serde_json::from_slice(&bytes)
            .map_err(|e| Error::invalid(format!("{}: not a summary: {e}", path.display())))?;
        summaries.push(summary);
    }
    let items = |s: &TaskSummary| -> BTreeMap<String, usize> {
        s.benchmarks.iter().map(|b| (b.benchmark.clone(), b.items)).collect()
    };
    let alike = |s: &TaskSummary| {
        items(s) == items(&summaries[0])
            && s.protocols == summaries[0].protocols
            && s.removal.is_some() == summaries[0].removal.is_some()
    };
    if let Some(other) = summaries.iter().position(|s| !alike(s)) {
        return Err(Error::invalid_hint(
            format!("{} and {} were run with other settings", tasks[0].display(), tasks[other].display()),
            "all tasks need the same reference, protocols and removal",
        ));
    }
    let protocols = Protocol::parse_list(&summaries[0].protocols.join(","))?;
    let of_benchmark = items(&summaries[0]);
    let tally = join_reports(&tasks, &report)?;
    let mut totals = Totals::default();
    let mut removal = summaries[0].removal.is_some().then(RemovalManifest::default);
    for s in summaries {
        totals.documents += s.documents;
        totals.text_bytes += s.text_bytes;
        totals.dirty_documents += s.dirty_documents;
        totals.failed.extend(s.failed_files);
        if let (Some(all), Some(task)) = (&mut removal, s.removal) {
            task.files.into_iter().for_each(|file| all.add(file));
        }
    }
    let summary = summarise(of_benchmark, &protocols, totals, tally, removal);
    write_json(&dir.join("summary.json"), &summary)?;
    if let Some(m) = &summary.removal {
        write_json(&dir.join("manifest.json"), m)?;
    }
    Ok(summary)
}

/// The directories of all tasks, in order.
fn tasks(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir, "list"))? {
        let name = entry.map_err(Error::io(dir, "list"))?.file_name().to_string_lossy().into_owned();
        if name.starts_with("task-") {
            names.push(name);
        }
    }
    names.sort();
    let of = names.first().and_then(|n| n.rsplit('-').next()?.parse::<u32>().ok());
    let Some(of) = of else {
        return Err(Error::invalid_hint(
            format!("{}: no task has written here", dir.display()),
            "name the --out directory of the tasks",
        ));
    };
    for task in 0..of {
        let name = directory(task, of);
        if !names.contains(&name) {
            return Err(Error::invalid_hint(
                format!("{}: task {task} of {of} is missing", dir.display()),
                "run it with the same arguments, then join again",
            ));
        }
    }
    if let Some(stranger) = names.iter().find(|n| !n.ends_with(&format!("-of-{of:05}"))) {
        return Err(Error::invalid_hint(
            format!("{}: {stranger} is a part of another division", dir.display()),
            "move it away, then join again",
        ));
    }
    Ok((0..of).map(|task| dir.join(directory(task, of))).collect())
}

/// Writes the rows of all tasks to `report`, whole or not at all, and counts them.
fn join_reports(tasks: &[PathBuf], report: &Path) -> Result<Tally> {
    let mut tally = Tally::default();
    let directory = report.parent().unwrap_or(Path::new("."));
    let temporary = tempfile::NamedTempFile::new_in(directory).map_err(Error::io(report, "create"))?;
    let mut out = BufWriter::new(temporary.as_file());
    for task in tasks {
        let path = task.join("report.jsonl");
        let mut lines = BufReader::new(File::open(&path).map_err(Error::io(&path, "open"))?);
        let (mut line, mut number) = (Vec::new(), 0);
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line).map_err(Error::io(&path, "read"))? == 0 {
                break;
            }
            number += 1;
            let row: TaskRow = serde_json::from_slice(&line).map_err(|e| Error::Record {
                path: path.clone(),
                line: number,
                byte: 0,
                what: format!("not a row of a report: {e}"),
            })?;
            let verdicts = row.verdicts.iter().filter_map(|(name, v)| {
                let known = Protocol::ALL.into_iter().find(|p| p.name() == name)?;
                Some((known.name(), v.level))
            });
            tally.finding((row.eval_key, row.eval_instance_index), row.level, verdicts);
            out.write_all(&line).map_err(Error::io(report, "write"))?;
        }
    }
    out.flush().map_err(Error::io(report, "write"))?;
    drop(out);
    temporary.persist_noclobber(report).map_err(|e| Error::io(report, "rename to")(e.error))?;
    Ok(tally)
}
