//! The semantic and code columns on the planted corpus: recall per way of leaking, hard negatives and clean documents flagged,
//! and what the first stage discards, how fast, and what that costs in recall.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use priorart::corpus::Document;
use priorart::decontaminate::semantic::Semantic;
use priorart::decontaminate::{Detector, Finding, Level, Protocol, Settings};
use priorart::embed::{self, OpenOptions};
use rayon::prelude::*;

use super::measure::{Planted, Results, Truth};
use super::process::cpu_seconds;
use super::{Outcome, each_document, index};

const JUDGES: [Protocol; 3] = [Protocol::Priorart, Protocol::Semantic, Protocol::Code];

/// Rows and the recall they must reach with the columns; `he_rewritten` stands for the three rows of rewritten programs.
const GOALS: [(&str, f64); 5] = [
    ("paraphrase_llm", 98.0),
    ("paraphrase_hand", 80.0),
    ("he_rewritten", 50.0),
    ("he_solution_only", 90.0),
    ("mcq_paraphrase_llm", 85.0),
];
const REWRITTEN: [&str; 3] = ["he_rewrite_python", "he_translate_c", "he_translate_js"];

#[derive(Default, Clone, Copy)]
struct Row {
    documents: u64,
    /// Documents flagged by each of [`JUDGES`], and by the lexical protocol or a column.
    flagged: [u64; 3],
    any: u64,
    /// Documents flagged by a column.
    column: u64,
    /// Of those a column flags, how many name the planted item first.
    right: u64,
    /// Planted items the first stage does not let through, and those of them that the second would have called dirty.
    stopped: u64,
    lost: u64,
}

impl Row {
    fn add(&mut self, other: &Row) {
        self.documents += other.documents;
        self.flagged.iter_mut().zip(other.flagged).for_each(|(a, b)| *a += b);
        self.any += other.any;
        self.column += other.column;
        self.right += other.right;
        self.stopped += other.stopped;
        self.lost += other.lost;
    }

    fn percent(&self, n: u64) -> f64 {
        100.0 * n as f64 / self.documents.max(1) as f64
    }
}

/// Measures, prints and records.
pub fn columns(data: &Path, results: &mut Results, list: bool) -> Outcome<()> {
    let Some(model) = embed::find_model("all-minilm-l6-v2") else {
        println!("\nskipped: the columns need the encoder; `index-tools fetch all-minilm-l6-v2` gets it");
        return Ok(());
    };
    let planted = data.join("planted");
    let truth = Truth::read(&planted.join("truth.jsonl"))?;
    let index = index(&[planted.join("references")])?;
    let encoder = embed::open(&model, &OpenOptions::default())?;
    let semantic = Arc::new(Semantic::new(index.clone(), encoder)?);
    let settings = Settings { protocols: JUDGES.to_vec(), ..Settings::default() };
    let detector = Detector::new(index, settings)?.with_semantic(semantic.clone());
    let mut documents = Vec::new();
    each_document(&[planted.join("corpus")], |document| {
        documents.push(document.clone());
        Ok(())
    })?;
    first_stage(&semantic, &truth, &documents, results);

    let started = (cpu_seconds(), std::time::Instant::now());
    let judged: Vec<(String, Row)> = documents
        .par_iter()
        .map(|document| judge(&detector, &semantic, truth.0.get(&document.id), document, list))
        .collect::<Result<_, String>>()?;
    let (cpu, wall) = (cpu_seconds() - started.0, started.1.elapsed().as_secs_f64());
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for (category, row) in judged {
        if REWRITTEN.contains(&category.as_str()) {
            rows.entry("he_rewritten".into()).or_default().add(&row);
        }
        rows.entry(category).or_default().add(&row);
    }
    print(&rows);
    println!("all protocols named and both stages: {wall:.0} s, {cpu:.0} CPU-s for {} documents", documents.len());
    results.add("planted: both columns, whole corpus", "CPU-s", cpu, None);
    record(&rows, results);
    Ok(())
}

fn judge(
    detector: &Detector,
    semantic: &Semantic,
    planted: Option<&Planted>,
    document: &Document,
    list: bool,
) -> Result<(String, Row), String> {
    let failed = |e: priorart::Error| e.to_string();
    let findings = detector.document(document).map_err(failed)?;
    let mut row = Row { documents: 1, ..Row::default() };
    let is_planted = |item: u32| -> Result<bool, String> {
        let Some((benchmark, id)) = planted.and_then(|p| p.item.as_ref()) else { return Ok(false) };
        let origins = detector.index().meta(item).map_err(failed)?.origins;
        Ok(origins.iter().any(|o| o.benchmark == *benchmark && o.id == *id))
    };
    let score = |f: &&Finding, p: Protocol| f.verdict(p).filter(|v| v.level == Level::Dirty).map(|v| v.score);
    let mut best: Option<(f32, u32)> = None;
    for (at, &protocol) in JUDGES.iter().enumerate() {
        let dirty: Vec<(f32, u32)> =
            findings.iter().filter_map(|f| score(&f, protocol).map(|score| (score, f.item))).collect();
        row.flagged[at] = u64::from(!dirty.is_empty());
        if at > 0 {
            best = dirty.into_iter().chain(best).max_by(|a, b| a.0.total_cmp(&b.0));
        }
    }
    row.any = u64::from(row.flagged.iter().any(|n| *n > 0));
    row.column = u64::from(row.flagged[1..].iter().any(|n| *n > 0));
    let wanted = planted.is_some_and(|p| p.item.is_some());
    if let Some((confidence, item)) = best {
        let right = is_planted(item)?;
        row.right = u64::from(right);
        if list && !right {
            let origin = detector.index().meta(item).map_err(failed)?.origins.swap_remove(0);
            let category = planted.map(|p| p.category.as_str()).unwrap_or("clean");
            println!("other item: {} {category} {confidence:.2} {} {}", document.id, origin.benchmark, origin.id);
        }
    }
    if let Some(planted) = planted.filter(|_| wanted) {
        let pairs = semantic.pairs(&[&document.text]).map_err(failed)?.concat();
        let mut through = false;
        for pair in &pairs {
            through |= is_planted(pair.item)?;
        }
        row.stopped = u64::from(!through);
        if !through {
            for item in 0..detector.index().len() as u32 {
                let text = document.text.get(planted.bytes.clone()).unwrap_or_default();
                if is_planted(item)? && !text.trim().is_empty() {
                    row.lost = u64::from(semantic.compare(item, text).map_err(failed)? >= 0.8);
                }
            }
        }
        if list && row.any == 0 {
            let text = document.text.get(planted.bytes.clone()).unwrap_or_default();
            println!("missed: {} {} {:?} through {through} {text:?}", document.id, planted.category, planted.item);
        }
    }
    Ok((planted.map_or("clean", |p| &p.category).to_string(), row))
}

fn first_stage(semantic: &Semantic, truth: &Truth, documents: &[Document], results: &mut Results) {
    let (mut bytes, mut kept) = (0u64, 0u64);
    let started = cpu_seconds();
    let windows: Vec<Vec<std::ops::Range<usize>>> = documents.iter().map(|d| semantic.windows(&d.text)).collect();
    let cpu = cpu_seconds() - started;
    for (document, windows) in documents.iter().zip(&windows) {
        let inside = truth.0.get(&document.id).map_or(0..0, |p| p.bytes.clone());
        bytes += (document.text.len() - inside.len()) as u64;
        let mut last = 0;
        for w in windows.iter().filter(|w| w.end <= inside.start || w.start >= inside.end) {
            kept += w.end.saturating_sub(w.start.max(last)) as u64;
            last = last.max(w.end);
        }
    }
    let all: u64 = documents.iter().map(|d| d.text.len() as u64).sum();
    let discarded = 100.0 * (1.0 - kept as f64 / bytes as f64);
    let rate = all as f64 / 1e6 / cpu;
    println!(
        "\nfirst stage: {discarded:.2} % of the text that is not planted is discarded, at {rate:.1} MB per CPU-second"
    );
    results.add("columns, first stage: text discarded (planted texts apart)", "%", discarded, Some((99.0, true)));
    results.add("columns, first stage: speed", "MB/CPU-s", rate, Some((10.0, true)));
}

fn print(rows: &BTreeMap<String, Row>) {
    println!("\nplanted corpus with the columns, % of documents flagged");
    println!(
        "{:<24}{:>5}{:>10}{:>10}{:>8}{:>8}{:>13}{:>9}{:>7}",
        "way of leaking", "n", "priorart", "semantic", "code", "any", "right item", "stopped", "lost"
    );
    for (category, row) in rows {
        let [lexical, semantic, code] = row.flagged.map(|n| row.percent(n));
        println!(
            "{category:<24}{:>5}{lexical:>10.0}{semantic:>10.0}{code:>8.0}{:>8.0}{:>13}{:>9}{:>7}",
            row.documents,
            row.percent(row.any),
            row.right,
            row.stopped,
            row.lost
        );
    }
    println!(
        "right item: documents in which the column's surest finding is the planted item; stopped: planted items the first\nstage discards; lost: those of them that the second stage would have called dirty"
    );
}

fn record(rows: &BTreeMap<String, Row>, results: &mut Results) {
    let mut lost = (0, 0);
    for (category, goal) in GOALS {
        let Some(row) = rows.get(category) else { continue };
        // A column must find what the lexical protocol cannot; solutions alone may be found by either.
        let found = if category == "he_solution_only" { row.any } else { row.column };
        results.add(&format!("planted with columns: {category}"), "% flagged", row.percent(found), Some((goal, true)));
        if category != "he_solution_only" {
            lost = (lost.0 + row.lost, lost.1 + row.documents);
        }
    }
    let points = 100.0 * lost.0 as f64 / lost.1.max(1) as f64;
    results.add("columns, first stage: recall lost", "points", points, Some((2.0, false)));
    let negatives: u64 = rows.iter().filter(|(c, _)| c.starts_with("neg")).map(|(_, r)| r.column).sum();
    results.add(
        "planted with columns: hard negatives flagged of 600",
        "documents",
        negatives as f64,
        Some((6.0, false)),
    );
    if let Some(clean) = rows.get("clean") {
        let name = format!("planted with columns: clean flagged of {}", clean.documents);
        results.add(&name, "documents", clean.column as f64, Some((1.0, false)));
    }
}
