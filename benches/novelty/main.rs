//! Whether scores mean what they should, on texts whose answer is known.
//!
//! ```text
//! PRIORART_DATA=… cargo bench --bench novelty -- known WORK        (writes its corpus and index to WORK, half an hour of encoding)
//! PRIORART_DATA=… cargo bench --bench novelty -- plagiarism INDEX  (an index that holds the five originals)
//! PRIORART_DATA=… cargo bench --bench novelty -- throughput INDEX TEXTS
//! ```
//!
//! - `known`: passages of the corpus, the same with a quarter of the words edited, other books, other domains, random words: novelty must
//!   rise in this order at every window length. Human against human: median r = 1 within its interval, p-values uniform. Recall of the
//!   search, what the middle stage loses, what the token cache changes.
//! - `plagiarism`: the answers of Clough and Stevenson's set against an index with their originals: cut, light, heavy, none.
//! - `throughput`: CPU time of scoring, with nothing and with everything in the token cache.
//!
//! Prints tables and adds its rows to `benches/peers/results/novelty.json`.

mod known;
mod plagiarism;
#[path = "../process.rs"]
mod process;
mod throughput;

use std::path::{Path, PathBuf};

use priorart::novelty::statistics::Interval;
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// A goal: words for it, and whether it was reached.
type Goal<'a> = Option<(&'a str, bool)>;

/// Rows of the results file.
struct Results {
    part: String,
    rows: Vec<Value>,
}

impl Results {
    /// Adds a figure and prints it.
    fn add(&mut self, metric: &str, unit: &str, ours: f64, goal: Goal) {
        self.row(metric, unit, ours, None, goal);
    }

    /// Adds a figure with its 95 % interval.
    fn interval(&mut self, metric: &str, unit: &str, of: Interval, goal: Goal) {
        self.row(metric, unit, of.estimate, Some([of.low, of.high]), goal);
    }

    fn row(&mut self, metric: &str, unit: &str, ours: f64, interval: Option<[f64; 2]>, goal: Goal) {
        let verdict = match goal {
            Some((words, true)) => format!("{words}: met"),
            Some((words, false)) => format!("{words}: MISSED"),
            None => String::new(),
        };
        let range = interval.map_or_else(String::new, |[low, high]| format!("[{low:.3}, {high:.3}]"));
        println!("{metric:<72} {ours:>9.4} {range:<16} {verdict}");
        let rounded = |v: f64| (v * 1e5).round() / 1e5;
        let mut row = json!({
            "metric": format!("{}: {metric}", self.part), "unit": unit, "ours": rounded(ours), "peer": null, "peer_name": null,
            "ratio": null, "goal": goal.map(|g| g.0), "met": goal.map(|g| g.1),
        });
        if let Some(interval) = interval {
            row["interval"] = json!(interval.map(rounded));
        }
        self.rows.push(row);
    }

    /// Replaces this part's rows in the results file.
    fn write(&self) -> Outcome<()> {
        let path = Path::new("benches/peers/results/novelty.json");
        let file: Value = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(_) => json!({}),
        };
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map_or("", |c| c.1);
        let cores = std::thread::available_parallelism()?.get();
        let own = format!("{}: ", self.part);
        let of_others = |r: &&Value| !r["metric"].as_str().is_some_and(|m| m.starts_with(&own));
        let mut rows: Vec<Value> =
            file["results"].as_array().into_iter().flatten().filter(of_others).cloned().collect();
        rows.extend(self.rows.iter().cloned());
        let mut all = json!({"machine": format!("{cpu}, {cores} shared cores"), "results": rows});
        if let Some(runs) = file.get("runs") {
            all["runs"] = runs.clone();
        }
        std::fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?;
        Ok(())
    }
}

/// Records of a packed JSON Lines file.
fn records(path: &Path) -> Outcome<Vec<Value>> {
    let text = String::from_utf8(zstd::decode_all(&std::fs::read(path)?[..])?)?;
    Ok(text.split('\n').filter(|l| !l.is_empty()).map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let (Some(data), [part, place, more @ ..]) =
        (std::env::var_os("PRIORART_DATA").map(PathBuf::from), arguments.as_slice())
    else {
        println!("skipped: set PRIORART_DATA and pass `known WORK`, `plagiarism INDEX` or `throughput INDEX TEXTS`");
        return Ok(());
    };
    let mut results = Results { part: part.clone(), rows: Vec::new() };
    let start = process::cpu_seconds();
    match part.as_str() {
        "known" => known::run(&data, Path::new(place), &mut results)?,
        "plagiarism" => plagiarism::run(&data, Path::new(place), &mut results)?,
        "throughput" => {
            let texts = more.first().map_or(Ok(500), |n| n.parse())?;
            throughput::run(Path::new(place), texts, &mut results)?;
        }
        other => return Err(format!("there is no part {other:?}").into()),
    }
    println!("{:.0} CPU s, {} MB", process::cpu_seconds() - start, process::memory_kib("VmHWM") / 1024);
    results.write()
}
