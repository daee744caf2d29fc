//! `decontaminate study`: a model's scores on the clean and the dirty items of a report.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;

use super::report::rows;
use super::review::report_file;
use super::summary::Summary;
use crate::cli::{Global, Outcome, input, output};
use crate::decontaminate::{Level, Protocol};
use crate::error::{Error, Result};
use crate::novelty::statistics::Interval;
use crate::report::study::{Study, study as compare};

#[derive(Debug, Args)]
pub struct StudyArgs {
    /// The report.jsonl of a run, or the directory it is in
    #[arg(long, value_name = "PATH")]
    report: PathBuf,
    /// The model's score on every item, one JSON object a line: eval_key, eval_instance_index, score
    #[arg(long, value_name = "FILE")]
    scores: PathBuf,
    /// Only these protocols [default: all of the report]
    #[arg(long, value_name = "NAME,...")]
    protocol: Option<String>,
}

/// A line of the scores file.
#[derive(serde::Deserialize)]
struct Scored {
    #[serde(alias = "benchmark")]
    eval_key: String,
    #[serde(alias = "id")]
    eval_instance_index: serde_json::Value,
    #[serde(alias = "correct", alias = "acc")]
    score: serde_json::Value,
}

/// Scores by benchmark and item.
type Scores = BTreeMap<String, BTreeMap<String, f64>>;

pub(super) fn study(global: &Global, args: &StudyArgs) -> anyhow::Result<Outcome> {
    let scores = scores(&args.scores)?;
    let report = report_file(&args.report);
    let summary = summary(&report)?;
    let mut protocols: BTreeSet<Protocol> = summary.iter().flat_map(|s| s.protocols.iter().copied()).collect();
    let mut dirty: BTreeMap<Protocol, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let mut unscored = BTreeSet::new();
    for row in rows(&report)? {
        let row = row?;
        protocols.extend(row.verdicts.keys().copied());
        let also = row.also.iter().filter_map(|place| place.split_once('/'));
        for (benchmark, id) in also.chain([(row.eval_key.as_str(), row.eval_instance_index.as_str())]) {
            let is_scored = scores.get(benchmark).is_some_and(|of| of.contains_key(id));
            if !is_scored && benchmark == row.eval_key {
                unscored.insert((benchmark.to_string(), id.to_string()));
            }
            for &protocol in row.verdicts.keys().filter(|p| row.level_under(**p) == Some(Level::Dirty)) {
                dirty.entry(protocol).or_default().entry(benchmark.to_string()).or_default().insert(id.to_string());
            }
        }
    }
    if let Some(wanted) = &args.protocol {
        let wanted = Protocol::parse_list(wanted)?;
        if let Some(missing) = wanted.iter().find(|p| !protocols.contains(p)) {
            return Err(Error::invalid_hint(
                format!("{} did not judge in {}", missing.name(), report.display()),
                format!("its protocols are {}", protocols.iter().map(|p| p.name()).collect::<Vec<_>>().join(", ")),
            )
            .into());
        }
        protocols = wanted.into_iter().collect();
    }
    if protocols.is_empty() {
        let hint = "name the report of a run with --out, whose summary.json says which protocols judged";
        return Err(Error::invalid_hint(
            format!("{}: no finding, and no summary.json beside it", report.display()),
            hint,
        )
        .into());
    }
    if let Some(s) = &summary {
        for benchmark in scores.keys().filter(|b| s.benchmarks.iter().all(|known| known.benchmark != **b)) {
            eprintln!("warning: the report was not made against a benchmark `{benchmark}`: its items count as clean");
        }
    }
    if !unscored.is_empty() && !global.quiet {
        eprintln!("{} items of the report have no score and are left out", output::number(unscored.len() as u64));
    }
    let none = BTreeSet::new();
    let mut studies = Vec::new();
    for (benchmark, of) in &scores {
        for &protocol in &protocols {
            let leaked = dirty.get(&protocol).and_then(|d| d.get(benchmark)).unwrap_or(&none);
            studies.push(compare(benchmark, protocol, of, leaked));
        }
    }
    if global.format() == output::Format::Text {
        output::write(table(&studies).as_bytes())?;
    } else {
        output::results(global.format(), &studies, |_| String::new())?;
    }
    Ok(Outcome::Done)
}

/// The summary beside a report, if there is one.
fn summary(report: &Path) -> Result<Option<Summary>> {
    let path = report.with_file_name("summary.json");
    if !path.exists() {
        return Ok(None);
    }
    let bytes = std::fs::read(&path).map_err(Error::io(&path, "read"))?;
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| Error::invalid(format!("{}: not a summary: {e}", path.display())))
}

fn scores(path: &Path) -> anyhow::Result<Scores> {
    let mut out = Scores::new();
    for (at, line) in input::lines(path)?.iter().enumerate() {
        let bad = |what: String| {
            Error::invalid_hint(
                format!("{}: score {}: {what}", path.display(), at + 1),
                "each line needs eval_key, eval_instance_index and score (a number, true or false)",
            )
        };
        let row: Scored = serde_json::from_str(line).map_err(|e| bad(e.to_string()))?;
        let id = match row.eval_instance_index {
            serde_json::Value::String(id) => id,
            other => other.to_string(),
        };
        let score = match &row.score {
            serde_json::Value::Bool(right) => f64::from(u8::from(*right)),
            other => other.as_f64().ok_or_else(|| bad(format!("{other} is no score")))?,
        };
        if out.entry(row.eval_key.clone()).or_default().insert(id.clone(), score).is_some() {
            return Err(bad(format!("a second score of item {}/{id}", row.eval_key)).into());
        }
    }
    if out.is_empty() {
        return Err(
            Error::invalid_hint(format!("{}: there is no score", path.display()), "one JSON object a line").into()
        );
    }
    Ok(out)
}

fn table(studies: &[Study]) -> String {
    let mut out = format!(
        "{:<20}{:<11}{:>7}{:>7}  {:<22}{:<22}{:>9}{:>8}  {}\n",
        "benchmark",
        "protocol",
        "clean",
        "dirty",
        "score of clean",
        "score of dirty",
        "differ",
        "p",
        "gain (all - clean)"
    );
    let interval = |i: Option<Interval>| {
        i.map_or("-".to_string(), |i| format!("{:.3} ({:.3} to {:.3})", i.estimate, i.low, i.high))
    };
    for s in studies {
        let signed = |v: Option<f64>| v.map_or("-".to_string(), |v| format!("{v:+.3}"));
        out += &format!(
            "{:<20}{:<11}{:>7}{:>7}  {:<22}{:<22}{:>9}{:>8}  {}\n",
            s.benchmark,
            s.protocol.name(),
            s.clean,
            s.dirty,
            interval(s.score_clean),
            interval(s.score_dirty),
            signed(s.difference),
            s.p.map_or("-".to_string(), |p| format!("{p:.4}")),
            s.gain.map_or("-".to_string(), |g| format!("{:+.4} ({:+.4} to {:+.4})", g.estimate, g.low, g.high)),
        );
    }
    out + "\nIntervals are 95 %; p is of a permutation test that dirty items score as clean ones do. A difference has other causes, too: dirty items may be easier.\n"
}
