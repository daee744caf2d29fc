//! Truth, counting, tables and the results file.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use priorart::corpus::Document;
use priorart::decontaminate::{Detector, Level, Protocol};

use super::Outcome;

/// What is planted in a document.
#[derive(Debug, Clone)]
pub struct Planted {
    pub category: String,
    /// Benchmark and item id; `None` for a hard negative.
    pub item: Option<(String, String)>,
    pub bytes: std::ops::Range<usize>,
}

/// Document id to what is planted in it.
#[derive(Debug, Default)]
pub struct Truth(pub HashMap<String, Planted>);

impl Truth {
    pub fn read(path: &Path) -> Outcome<Truth> {
        let mut out = Truth::default();
        for line in std::fs::read_to_string(path)?.lines() {
            let row: serde_json::Value = serde_json::from_str(line)?;
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_string();
            let number = |name: &str| row[name].as_u64().unwrap_or(0) as usize;
            let item = row["benchmark"].as_str().map(|b| (b.to_string(), row["item_index"].to_string()));
            let bytes = number("byte_start")..number("byte_end");
            out.0.insert(text("id"), Planted { category: text("category"), item, bytes });
        }
        Ok(out)
    }
}

/// Recall the rows must reach, in per cent (lexical rows), by category.
const GOALS: &[(&str, f64)] = &[
    ("verbatim_qa", 100.0),
    ("case_punct_ws", 100.0),
    ("unicode_punct", 100.0),
    ("wrapped_comment", 100.0),
    ("edit10", 98.0),
    ("edit25", 90.0),
    ("interleaved_filler", 98.0),
    ("names_numbers_swapped", 95.0),
    ("question_only", 100.0),
    ("answer_only", 100.0),
    ("half_question", 98.0),
    ("he_prompt_solution", 100.0),
    ("he_prompt_only", 100.0),
    ("he_solution_only", 90.0),
    ("mcq_verbatim", 98.0),
    ("mcq_choices_permuted", 98.0),
    ("mcq_question_only", 95.0),
];

/// Counts per category and protocol.
pub struct Table<'t> {
    truth: &'t Truth,
    name: &'static str,
    /// Category to planted documents, documents whose first dirty priorart finding is another item, places missed, and
    /// per protocol the documents flagged.
    rows: BTreeMap<String, Row>,
    clean: Row,
}

#[derive(Default, Clone)]
struct Row {
    documents: u64,
    wrong_first: u64,
    off_place: u64,
    flagged: BTreeMap<Protocol, u64>,
}

/// A table to count into.
pub fn table<'t>(truth: &'t Truth, name: &'static str) -> Table<'t> {
    Table { truth, name, rows: BTreeMap::new(), clean: Row::default() }
}

impl Table<'_> {
    /// Judges a document and counts it.
    pub fn count(&mut self, detector: &Detector, document: &Document, list: bool) -> Outcome<()> {
        let findings = detector.document(document)?;
        let planted = self.truth.0.get(&document.id);
        let row = match planted {
            Some(planted) => self.rows.entry(planted.category.clone()).or_default(),
            None => &mut self.clean,
        };
        row.documents += 1;
        for protocol in Protocol::ALL {
            let dirty: Vec<_> =
                findings.iter().filter(|f| f.verdict(protocol).is_some_and(|v| v.level == Level::Dirty)).collect();
            let Some(first) = dirty.first() else {
                let wanted = planted.is_some_and(|p| p.item.is_some() && GOALS.iter().any(|g| g.0 == p.category));
                if list && protocol == Protocol::Priorart && wanted {
                    println!(
                        "missed: {} {:?}",
                        document.id,
                        planted.map(|p| (&p.category, &p.item, document.text.get(p.bytes.clone())))
                    );
                }
                continue;
            };
            *row.flagged.entry(protocol).or_insert(0) += 1;
            let right = |finding: &priorart::decontaminate::Finding| -> Outcome<bool> {
                let Some((benchmark, id)) = planted.and_then(|p| p.item.as_ref()) else { return Ok(false) };
                let origins = detector.index().meta(finding.item)?.origins;
                Ok(origins.iter().any(|o| o.benchmark == *benchmark && o.id == *id))
            };
            if protocol != Protocol::Priorart {
                continue;
            }
            let is_right = right(first)?;
            row.wrong_first += u64::from(!is_right);
            if let Some(planted) = planted.filter(|p| p.item.is_some() && is_right) {
                let within =
                    first.evidence.components.iter().filter(|c| c.coverage() > 0.5).all(|c| {
                        c.document.start + 1 >= planted.bytes.start && c.document.end <= planted.bytes.end + 1
                    });
                row.off_place += u64::from(!within);
            }
            if list && !is_right {
                let best =
                    first.evidence.components.iter().max_by(|a, b| a.matched_weight.total_cmp(&b.matched_weight));
                println!(
                    "other item: {} {:?} flagged {:?} {:?} {:?}",
                    document.id,
                    planted.map(|p| (&p.category, &p.item)),
                    detector.index().meta(first.item)?.origins.first().map(|o| (o.benchmark.clone(), o.id.clone())),
                    first.verdicts[0].1,
                    best.map(|c| (
                        c.coverage(),
                        c.matched_words,
                        c.longest_words,
                        document.text.get(c.document.clone())
                    )),
                );
            }
        }
        Ok(())
    }

    /// Prints per cent of documents flagged, and counts for negatives and clean documents.
    pub fn print(&self) {
        print!("\n{} set, % of documents flagged\n{:<24}{:>5}", self.name, "way of leaking", "n");
        for protocol in Protocol::ALL {
            print!("{:>10}", protocol.name());
        }
        println!("{:>8}{:>7}", "other", "place");
        for (category, row) in &self.rows {
            print!("{category:<24}{:>5}", row.documents);
            for protocol in Protocol::ALL {
                print!("{:>10.0}", row.percent(protocol));
            }
            println!("{:>8}{:>7}", row.wrong_first, row.off_place);
        }
        print!("{:<24}{:>5}", "clean (documents)", self.clean.documents);
        for protocol in Protocol::ALL {
            print!("{:>10}", self.clean.flagged.get(&protocol).unwrap_or(&0));
        }
        println!("\nother: first item named is not the planted one; place: bytes reported outside the planted text");
    }

    /// Adds the rows of the default protocol to the results.
    pub fn record(&self, set: &str, results: &mut Results) {
        for (category, row) in &self.rows {
            let goal = GOALS.iter().find(|g| g.0 == category).map(|g| (g.1, true));
            if category.starts_with("neg") {
                let flagged = *row.flagged.get(&Protocol::Priorart).unwrap_or(&0) as f64;
                results.add(
                    &format!("{set}: {category} flagged of {}", row.documents),
                    "documents",
                    flagged,
                    Some((1.0, false)),
                );
            } else {
                results.add(&format!("{set}: {category}"), "% flagged", row.percent(Protocol::Priorart), goal);
            }
        }
        let wrong: u64 =
            self.rows.iter().filter(|(c, _)| GOALS.iter().any(|g| g.0 == *c)).map(|(_, r)| r.wrong_first).sum();
        results.add(
            &format!("{set}: lexical hits that name another item first"),
            "documents",
            wrong as f64,
            Some((0.0, false)),
        );
        let clean = *self.clean.flagged.get(&Protocol::Priorart).unwrap_or(&0) as f64;
        results.add(
            &format!("{set}: clean flagged of {}", self.clean.documents),
            "documents",
            clean,
            Some((0.0, false)),
        );
    }
}

impl Row {
    fn percent(&self, protocol: Protocol) -> f64 {
        100.0 * *self.flagged.get(&protocol).unwrap_or(&0) as f64 / self.documents.max(1) as f64
    }
}

/// Rows of the results file.
#[derive(Default)]
pub struct Results(Vec<serde_json::Value>);

impl Results {
    /// Adds a figure; `goal` is the value to reach and whether more is better.
    pub fn add(&mut self, metric: &str, unit: &str, ours: f64, goal: Option<(f64, bool)>) {
        let met = goal.map(|(value, more)| if more { ours >= value } else { ours <= value });
        self.0.push(serde_json::json!({
            "metric": metric, "unit": unit, "ours": (ours * 1000.0).round() / 1000.0,
            "peer": null, "peer_name": null, "ratio": null, "goal": goal.map(|g| g.0), "met": met,
        }));
    }

    pub fn write(&self, path: &Path) -> Outcome<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info
            .lines()
            .find_map(|l| l.strip_prefix("model name"))
            .map_or("unknown", |l| l.trim_start_matches([' ', '\t', ':']));
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let machine = format!("{model}, {cores} cores, {}", std::env::consts::OS);
        let text = serde_json::to_string_pretty(&serde_json::json!({"machine": machine, "results": self.0}))?;
        std::fs::write(path, text + "\n")?;
        let missed: Vec<&str> =
            self.0.iter().filter(|r| r["met"] == false).filter_map(|r| r["metric"].as_str()).collect();
        println!("\n{} figures written to {}; goals missed: {missed:?}", self.0.len(), path.display());
        Ok(())
    }
}
