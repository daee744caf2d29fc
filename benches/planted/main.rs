//! Recall per way of leaking and precision, for every protocol; false positives on clean text; speed.
//!
//! ```text
//! PRIORART_DATA=… cargo bench --bench planted [-- speed visible columns generated clean overlap] [--list]
//! ```
//!
//! - `speed`: MB per CPU-second and peak memory against 86,000 rows, for the default protocol and for all of them.
//! - `visible`: the planted corpus with known truth. `generated`: the same ways of leaking made anew, from other items,
//!   in other hosts, with another seed (`generate.rs`), so that rules are not tuned to items.
//! - `columns`: the planted corpus once more with the semantic and code columns (needs the encoder), and their first stage.
//! - `clean`: documents of real corpora flagged against four benchmarks. Those that do quote an item are set aside: they are listed,
//!   with the items and why, in `true_overlaps.json`; any other is printed, to be judged by reading.
//! - `overlap`: problems of one real benchmark inside another.
//!
//! Prints tables and writes `benches/peers/results/planted.json`.

mod columns;
mod generate;
mod measure;
#[path = "../process.rs"]
mod process;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use priorart::corpus::{self, Document, ReadOptions};
use priorart::decontaminate::{Detector, Level, Protocol, Settings};
use priorart::reference::{self, ReferenceIndex};

use measure::{Results, Truth, table};
use process::{cpu_seconds, memory_kib};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let Some(data) = std::env::var_os("PRIORART_DATA").map(PathBuf::from) else {
        println!("skipped: PRIORART_DATA is not set");
        return Ok(());
    };
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let list = arguments.iter().any(|a| a == "--list");
    let parts: Vec<&str> = arguments.iter().map(String::as_str).filter(|a| !a.starts_with("--")).collect();
    let wants = |part: &str| parts.is_empty() || parts.contains(&part);
    let mut results = Results::default();
    if wants("speed") {
        speed(&data, &mut results)?;
    }
    if wants("visible") {
        visible(&data, &mut results, list)?;
    }
    if wants("columns") {
        columns::columns(&data, &mut results, list)?;
    }
    if wants("generated") {
        generated(&data, &mut results, list)?;
    }
    if wants("clean") {
        clean(&data, &mut results)?;
    }
    if wants("overlap") {
        overlap(&data, &mut results)?;
    }
    if parts.is_empty() {
        results.write(Path::new("benches/peers/results/planted.json"))?;
    }
    Ok(())
}

fn index(paths: &[PathBuf]) -> Outcome<Arc<ReferenceIndex>> {
    Ok(Arc::new(ReferenceIndex::build(&reference::read(paths, None)?)?))
}

fn detector(index: &Arc<ReferenceIndex>, protocols: &[Protocol]) -> Outcome<Detector> {
    Ok(Detector::new(index.clone(), Settings { protocols: protocols.to_vec(), ..Settings::default() })?)
}

/// Calls `visit` for every document under the paths, one after the other.
fn each_document(paths: &[PathBuf], mut visit: impl FnMut(&Document) -> Outcome<()>) -> Outcome<()> {
    let mut documents = corpus::Documents::new(corpus::discover(paths)?, ReadOptions::default());
    let mut document = Document::default();
    while documents.next(&mut document)? {
        visit(&document)?;
    }
    Ok(())
}

fn corpora(data: &Path) -> Vec<PathBuf> {
    vec![data.join("corpora")]
}

fn speed(data: &Path, results: &mut Results) -> Outcome<()> {
    let started = cpu_seconds();
    let set = reference::read(&[data.join("references-large")], None)?;
    let built = ReferenceIndex::build(&set)?;
    println!("{} rows, {} items, compiled in {:.2} CPU-s", built.rows(), built.len(), cpu_seconds() - started);
    drop(set);
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("large.ref");
    built.save(&path)?;
    drop(built);
    let started = cpu_seconds();
    let index = Arc::new(ReferenceIndex::open(&path)?);
    let opened = cpu_seconds() - started;
    println!("saved as {:.1} MB, opened in {opened:.3} CPU-s", std::fs::metadata(&path)?.len() as f64 / 1e6);
    results.add("reference index of 86 k rows opened", "CPU-s", opened, Some((1.0, false)));
    let mut texts: Vec<String> = Vec::new();
    each_document(&corpora(data), |document| {
        texts.push(document.text.clone());
        Ok(())
    })?;
    let megabytes = texts.iter().map(String::len).sum::<usize>() as f64 / 1e6;
    let held = megabytes;
    for (name, protocols) in [("priorart", vec![Protocol::Priorart]), ("all protocols", Protocol::ALL.to_vec())] {
        let started = cpu_seconds();
        let detector = detector(&index, &protocols)?;
        let ready = cpu_seconds() - started;
        let mut best = f64::MAX;
        let mut flagged = 0;
        for _ in 0..2 {
            let started = cpu_seconds();
            flagged =
                texts.iter().map(|t| detector.text(t).map(|f| usize::from(!f.is_empty()))).sum::<Result<usize, _>>()?;
            best = best.min(cpu_seconds() - started);
        }
        println!(
            "{name}: {:.1} MB per CPU-second over {megabytes:.0} MB, {flagged} documents with findings, ready in {ready:.2} CPU-s",
            megabytes / best
        );
        results.add(&format!("speed with 86 k rows, {name}"), "MB/CPU-s", megabytes / best, Some((50.0, true)));
    }
    println!(
        "peak memory {:.0} MB, of which {held:.0} MB are the texts themselves",
        memory_kib("VmHWM") as f64 / 1024.0
    );
    results.add("peak memory less texts", "MB", memory_kib("VmHWM") as f64 / 1024.0 - held, Some((1024.0, false)));
    Ok(())
}

fn visible(data: &Path, results: &mut Results, list: bool) -> Outcome<()> {
    let planted = data.join("planted");
    let truth = Truth::read(&planted.join("truth.jsonl"))?;
    let detector = detector(&index(&[planted.join("references")])?, &Protocol::ALL)?;
    let mut table = table(&truth, "visible");
    each_document(&[planted.join("corpus")], |document| table.count(&detector, document, list))?;
    table.print();
    table.record("planted", results);
    Ok(())
}

fn generated(data: &Path, results: &mut Results, list: bool) -> Outcome<()> {
    let (documents, truth) = generate::planted(data, 20_260)?;
    let benchmarks = data.join("benchmarks");
    let names = ["gsm8k_test", "humaneval", "mmlu_test"];
    let paths: Vec<PathBuf> = names.iter().map(|n| benchmarks.join(format!("{n}.jsonl.zst"))).collect();
    let detector = detector(&index(&paths)?, &Protocol::ALL)?;
    let mut table = table(&truth, "generated");
    for document in &documents {
        table.count(&detector, document, list)?;
    }
    table.print();
    table.record("generated", results);
    Ok(())
}

/// A document of the clean corpora that does hold what items quote, as its flagged passages were read and found.
#[derive(serde::Deserialize)]
struct TrueOverlap {
    document: String,
    /// As benchmark/id.
    items: Vec<String>,
    reason: String,
}

fn clean(data: &Path, results: &mut Results) -> Outcome<()> {
    let names = ["gsm8k_test", "humaneval", "mmlu_test", "math_test"];
    let paths: Vec<PathBuf> = names.iter().map(|n| data.join(format!("benchmarks/{n}.jsonl.zst"))).collect();
    let index = index(&paths)?;
    let detector = detector(&index, &Protocol::ALL)?;
    let known: Vec<TrueOverlap> = serde_json::from_str(include_str!("true_overlaps.json"))?;
    let (mut documents, mut flagged) = (0u64, BTreeMap::<&str, u64>::new());
    let (mut quotes, mut unexplained) = (0, Vec::new());
    each_document(&corpora(data), |document| {
        documents += 1;
        let findings = detector.document(document)?;
        for protocol in Protocol::ALL {
            let dirty =
                |f: &&priorart::decontaminate::Finding| f.verdict(protocol).is_some_and(|v| v.level == Level::Dirty);
            *flagged.entry(protocol.name()).or_insert(0) += u64::from(findings.iter().any(|f| dirty(&f)));
            if protocol != Protocol::Priorart {
                continue;
            }
            let aside = known.iter().find(|k| k.document == document.id);
            let mut explained = 0;
            for finding in findings.iter().filter(dirty) {
                let origins = index.meta(finding.item)?.origins;
                let mut items = origins.iter().map(|o| format!("{}/{}", o.benchmark, o.id));
                if aside.is_some_and(|k| items.any(|item| k.items.contains(&item))) {
                    explained += 1;
                } else {
                    unexplained.push(format!("{} {}/{}", document.id, origins[0].benchmark, origins[0].id));
                }
            }
            if let (Some(k), true) = (aside, explained > 0) {
                quotes += 1;
                println!("set aside: {} ({explained} items): {}", k.document, k.reason);
            }
        }
        Ok(())
    })?;
    println!("\nclean corpora: {documents} documents; flagged, true quotations of items included:");
    for (protocol, count) in &flagged {
        println!("  {protocol:<10} {count}");
    }
    println!("flagged by priorart and not in true_overlaps.json, to be judged by reading: {}", unexplained.len());
    unexplained.iter().for_each(|what| println!("  {what}"));
    results.add(
        "clean documents flagged by priorart that quote an item, set aside",
        "documents",
        f64::from(quotes),
        None,
    );
    let rate = 1e4 * unexplained.len() as f64 / documents.max(1) as f64;
    results.add("clean documents flagged by priorart, true overlaps set aside", "in 10,000", rate, Some((1.0, false)));
    Ok(())
}

fn overlap(data: &Path, results: &mut Results) -> Outcome<()> {
    let directory = data.join("real-overlap");
    let detector = detector(&index(&[data.join("benchmarks/math_test.jsonl.zst")])?, &Protocol::ALL)?;
    let mut pairs: BTreeMap<String, Vec<(String, f64)>> = BTreeMap::new();
    for line in std::fs::read_to_string(directory.join("math_agieval_pairs.jsonl"))?.lines() {
        let row: serde_json::Value = serde_json::from_str(line)?;
        let id = row["agieval_id"].as_str().unwrap_or_default().to_string();
        pairs.entry(id).or_default().push((row["math_index"].to_string(), row["coverage"].as_f64().unwrap_or(0.0)));
    }
    let mut counts: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    each_document(&[directory.join("agieval_math.jsonl.zst")], |document| {
        let findings = detector.document(document)?;
        for (item, coverage) in pairs.get(&document.id).into_iter().flatten() {
            let band = if *coverage >= 1.0 {
                "full"
            } else if *coverage >= 0.8 {
                ".8 to 1"
            } else {
                "below .8"
            };
            for protocol in Protocol::ALL {
                let mut found = false;
                for finding in &findings {
                    let dirty = finding.verdict(protocol).is_some_and(|v| v.level == Level::Dirty);
                    found |= dirty && detector.index().meta(finding.item)?.origins.iter().any(|o| o.id == *item);
                }
                let count = counts.entry((protocol.name(), band)).or_default();
                *count = (count.0 + u64::from(found), count.1 + 1);
            }
        }
        Ok(())
    })?;
    println!("\nMATH problems inside AGIEval (silver labels), pairs found by coverage of the pair:");
    for ((protocol, band), (found, all)) in &counts {
        println!("  {protocol:<10} {band:<9} {found}/{all}");
    }
    if let Some((found, all)) = counts.get(&("priorart", "full")) {
        results.add(
            "MATH in AGIEval, full coverage, found",
            "%",
            100.0 * *found as f64 / *all as f64,
            Some((95.0, true)),
        );
    }
    Ok(())
}
