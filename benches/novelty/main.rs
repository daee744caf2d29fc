//! Whether scores mean what they should, on texts whose answer is known.
//!
//! ```text
//! PRIORART_DATA=… cargo bench --bench novelty -- known WORK        (writes its corpus and index to WORK, half an hour of encoding)
//! PRIORART_DATA=… cargo bench --bench novelty -- plagiarism INDEX  (an index that holds the five originals)
//! ```
//!
//! - `known`: passages of the corpus, the same with a quarter of the words edited, other books, other domains, random words: novelty must
//!   rise in this order at every window length. Human against human: median r = 1 within its interval, p-values uniform. Recall of the
//!   search, what the middle stage loses, what the token cache changes.
//! - `plagiarism`: the answers of Clough and Stevenson's set against an index with their originals: cut, light, heavy, none.
//!
//! Prints tables and adds its rows to `benches/peers/results/novelty.json`.

mod known;
mod plagiarism;
#[path = "../process.rs"]
mod process;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Rows of the results file.
#[derive(Default)]
struct Results {
    rows: Vec<Value>,
}

impl Results {
    /// Adds a figure and prints it. `met` compares it with the goal in words.
    fn add(&mut self, metric: &str, ours: f64, goal: &str, met: Option<bool>) {
        let verdict = match met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        println!("{metric:<64} {ours:>9.4}  {goal:<12} {verdict}");
        self.rows.push(json!({"metric": metric, "ours": (ours * 1e5).round() / 1e5, "goal": goal, "met": met}));
    }

    /// Replaces the rows of `part` in the results file.
    fn write(&self, part: &str) -> Outcome<()> {
        let path = Path::new("benches/peers/results/novelty.json");
        let mut file: Value = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(_) => json!({}),
        };
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map_or("", |c| c.1);
        let cores = std::thread::available_parallelism()?.get();
        file["machine"] = json!({"cpu": cpu, "cores": cores, "shared": true});
        file[part] = json!(self.rows);
        std::fs::write(path, serde_json::to_string_pretty(&file)? + "\n")?;
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
    let (Some(data), [part, place]) = (std::env::var_os("PRIORART_DATA").map(PathBuf::from), arguments.as_slice())
    else {
        println!("skipped: set PRIORART_DATA and pass `known WORK` or `plagiarism INDEX`");
        return Ok(());
    };
    let mut results = Results::default();
    let start = process::cpu_seconds();
    match part.as_str() {
        "known" => known::run(&data, Path::new(place), &mut results)?,
        "plagiarism" => plagiarism::run(&data, Path::new(place), &mut results)?,
        other => return Err(format!("there is no part {other:?}").into()),
    }
    println!("{:.0} CPU s, {} MB", process::cpu_seconds() - start, process::memory_kib("VmHWM") / 1024);
    results.write(part)
}
