//! Joining the outputs of the tasks of a divided run.
//!
//! Task I of N writes to `OUT/task-I-of-N` what a run writes to `OUT`. Joining writes beside them the report (JSON Lines,
//! Parquet and page) in the order of the tasks, the summary counted anew over all findings (an item that two tasks found counts
//! once), and the manifest of all files. Cleaned files stay where their tasks wrote them; the manifest says where.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{RemovalManifest, Report, Row, Summary, Tally, Totals, summarise};
use crate::error::{Error, Result};

/// Name of a task's directory.
pub fn directory(task: u32, tasks: u32) -> String {
    format!("task-{task:05}-of-{tasks:05}")
}

/// Joins the tasks below `dir`; gives the summary and the gravest rows.
///
/// # Errors
/// [`Error::Invalid`] when there is no task, one is missing or not finished, tasks differ in what they checked against, or
/// `dir` holds a joined report already; [`Error::Io`].
pub(super) fn join(dir: &Path) -> Result<(Summary, Vec<Row>)> {
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
        let summary: Summary = serde_json::from_slice(&bytes)
            .map_err(|e| Error::invalid(format!("{}: not a summary: {e}", path.display())))?;
        summaries.push(summary);
    }
    let items = |s: &Summary| -> BTreeMap<String, usize> {
        s.benchmarks.iter().map(|b| (b.benchmark.clone(), b.items)).collect()
    };
    let alike = |s: &Summary| {
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
    let protocols = summaries[0].protocols.clone();
    let of_benchmark = items(&summaries[0]);
    let mut tally = Tally::default();
    let mut written = Report::new(Some(dir), &protocols)?;
    let rows = tasks.iter().map(|task| super::report::rows(&task.join("report.jsonl")));
    let copied = rows.collect::<Result<Vec<_>>>().and_then(|rows| {
        rows.into_iter().flatten().try_for_each(|row| {
            let row = row?;
            tally.add(&row);
            written.row(&row)
        })
    });
    if let Err(e) = copied {
        // No half of a report is left that a second try would have to be told of.
        for name in ["report.jsonl", "report.parquet"] {
            let _ = std::fs::remove_file(dir.join(name));
        }
        return Err(e);
    }
    let mut totals = Totals::default();
    let mut removal = summaries[0].removal.is_some().then(RemovalManifest::default);
    for s in summaries {
        totals.documents += s.documents;
        totals.text_bytes += s.text_bytes;
        for (protocol, n) in s.dirty_documents_by_protocol {
            *totals.dirty_documents.entry(protocol).or_default() += n;
        }
        totals.failed.extend(s.failed_files);
        if let (Some(all), Some(task)) = (&mut removal, s.removal) {
            task.files.into_iter().for_each(|file| all.add(file));
            all.failed.extend(task.failed);
        }
    }
    let summary = summarise(of_benchmark, &protocols, totals, tally, removal);
    let worst = written.finish(&summary)?;
    Ok((summary, worst))
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
