//! The summary of a run: what is printed at the end, and `summary.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cli::output::{self, number, one_line};
use crate::decontaminate::labels::Label;
use crate::decontaminate::remove::RemovalManifest;
use crate::decontaminate::run::{Row, Totals};
use crate::decontaminate::{Level, Protocol};
use crate::error::Result;
use crate::reference::ReferenceIndex;

/// What the command prints at the end, and writes to `summary.json`.
#[derive(Serialize, Deserialize)]
pub(super) struct Summary {
    pub documents: u64,
    pub text_bytes: u64,
    /// Documents with an item that the first protocol calls dirty.
    pub dirty_documents: u64,
    pub dirty_documents_by_protocol: BTreeMap<Protocol, u64>,
    pub items: usize,
    /// In the order asked for; the first decides what counts as dirty.
    pub protocols: Vec<Protocol>,
    pub benchmarks: Vec<Benchmark>,
    /// Findings on which two protocols agree that they are dirty, over those on which either says so.
    pub agreement: BTreeMap<String, f64>,
    /// Findings that a review has rejected, counted nowhere else.
    #[serde(default)]
    pub rejected: u64,
    pub failed_files: Vec<(PathBuf, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal: Option<RemovalManifest>,
}

/// Items of a benchmark by the first protocol's gravest verdict on them.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Benchmark {
    pub benchmark: String,
    pub items: usize,
    pub clean: usize,
    pub suspect: usize,
    pub dirty: usize,
    pub dirty_by_protocol: BTreeMap<Protocol, usize>,
}

/// Counts findings as they come.
#[derive(Default)]
pub(super) struct Tally {
    /// Gravest level of each item under each protocol.
    levels: BTreeMap<Protocol, BTreeMap<(String, String), Level>>,
    /// Findings dirty under each protocol.
    findings: BTreeMap<Protocol, BTreeSet<usize>>,
    rows: usize,
    rejected: u64,
}

impl Tally {
    pub fn add(&mut self, row: &Row) {
        self.rejected += u64::from(row.label == Some(Label::Reject));
        for &protocol in row.verdicts.keys() {
            let found = row.level_under(protocol).unwrap_or(Level::Clean);
            let key = (row.eval_key.clone(), row.eval_instance_index.clone());
            let level = self.levels.entry(protocol).or_default().entry(key).or_insert(Level::Clean);
            *level = (*level).max(found);
            if found == Level::Dirty {
                self.findings.entry(protocol).or_default().insert(self.rows);
            }
        }
        self.rows += 1;
    }
}

/// Items by benchmark.
pub fn benchmark_items(index: &ReferenceIndex) -> Result<BTreeMap<String, usize>> {
    let mut items = BTreeMap::new();
    for item in 0..index.len() as u32 {
        let origin = index.meta(item)?.origins.into_iter().next().unwrap_or_default();
        *items.entry(origin.benchmark).or_insert(0) += 1;
    }
    Ok(items)
}

pub(super) fn summarise(
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
    let of = |protocol: &Protocol| tally.levels.get(protocol).into_iter().flatten();
    for ((benchmark, _), level) in protocols.first().into_iter().flat_map(of) {
        let Some(b) = benchmarks.get_mut(benchmark) else { continue };
        match level {
            Level::Dirty => b.dirty += 1,
            Level::Suspect => b.suspect += 1,
            Level::Clean => {}
        }
    }
    for b in benchmarks.values_mut() {
        b.clean = b.items.saturating_sub(b.dirty + b.suspect);
        for p in protocols {
            let dirty = of(p).filter(|((key, _), level)| *key == b.benchmark && **level == Level::Dirty).count();
            b.dirty_by_protocol.insert(*p, dirty);
        }
    }
    let mut agreement = BTreeMap::new();
    let none = BTreeSet::new();
    for (i, a) in protocols.iter().enumerate() {
        for b in &protocols[i + 1..] {
            let (x, y) = (tally.findings.get(a).unwrap_or(&none), tally.findings.get(b).unwrap_or(&none));
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
        dirty_documents: protocols.first().and_then(|p| totals.dirty_documents.get(p)).copied().unwrap_or(0),
        dirty_documents_by_protocol: protocols
            .iter()
            .map(|p| (*p, totals.dirty_documents.get(p).copied().unwrap_or(0)))
            .collect(),
        items,
        protocols: protocols.to_vec(),
        benchmarks: benchmarks.into_values().collect(),
        agreement,
        rejected: tally.rejected,
        failed_files: totals.failed,
        removal,
    }
}

/// The summary for people.
pub(super) fn text(s: &Summary, worst: &[Row]) -> String {
    let first = s.protocols.first().map_or("", |p| p.name());
    let several = s.protocols.len() > 1;
    let mut out = format!(
        "{} documents ({}) against {} eval items\n",
        number(s.documents),
        output::bytes(s.text_bytes),
        number(s.items as u64)
    );
    out += &format!("{} documents contain at least one item that {first} calls dirty\n", number(s.dirty_documents));
    if s.rejected > 0 {
        out += &format!("{} findings were rejected in a review and count as clean\n", number(s.rejected));
    }
    out += &match several {
        true => format!("items by the verdict of {first}, then those dirty under each protocol\n\n"),
        false => "\n".to_string(),
    };
    let mut header = format!("{:<24}{:>8}{:>8}{:>9}{:>8}", "benchmark", "items", "clean", "suspect", "dirty");
    if several {
        for p in &s.protocols {
            header += &format!("{:>11}", p.name());
        }
    }
    out += &format!("{header}\n");
    for b in &s.benchmarks {
        out += &format!("{:<24}{:>8}{:>8}{:>9}{:>8}", b.benchmark, b.items, b.clean, b.suspect, b.dirty);
        if several {
            for p in &s.protocols {
                out += &format!("{:>11}", b.dirty_by_protocol.get(p).copied().unwrap_or(0));
            }
        }
        out.push('\n');
    }
    if several {
        let documents = |p: &Protocol| s.dirty_documents_by_protocol.get(p).copied().unwrap_or(0);
        let counts: String = s.protocols.iter().map(|p| format!("{:>11}", documents(p))).collect();
        out += &format!("{:<57}{counts}\n", "documents with a dirty item");
    }
    if !s.agreement.is_empty() {
        out += "\nagreement: of the findings that either calls dirty, % that both do\n";
        let names = s.protocols.iter().map(|p| format!("{:>10}", p.name()));
        out += &format!("{:<11}{}\n", "", names.collect::<String>());
        for a in s.protocols.iter().map(|p| p.name()) {
            out += &format!("{a:<11}");
            for b in s.protocols.iter().map(|p| p.name()) {
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
            w.components.iter().map(|c| c.component.name()).collect::<Vec<_>>().join(", "),
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
