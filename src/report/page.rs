//! The HTML page of a decontamination run: one file that fetches nothing.
//!
//! Bounded whatever the run found: scores are kept as histograms per benchmark and protocol, and of the findings the
//! gravest [`CASES`] of each benchmark under each protocol, texts cut at [`TEXT`] bytes. It is readable without its script,
//! which filters, orders and moves the threshold. A policy in the page forbids every fetch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::chart::{self, Bar, escape};
use crate::decontaminate::run::Row;
use crate::decontaminate::{Level, Protocol};

/// Findings shown of a benchmark under each protocol.
pub const CASES: usize = 30;
/// Bytes shown of a text.
pub const TEXT: usize = 6000;
const BINS: usize = 50;

/// A benchmark's figures: items by the first protocol's verdict, and dirty items by protocol in the run's order.
#[derive(Debug, Clone, Default)]
pub struct Benchmark {
    pub name: String,
    pub items: usize,
    pub clean: usize,
    pub suspect: usize,
    pub dirty: usize,
    pub dirty_by_protocol: Vec<(String, usize)>,
}

/// Findings, each with its number in the report, the gravest first.
type Worst = Vec<(usize, Arc<Row>)>;

/// Collects rows; [`Page::render`] makes the page.
#[derive(Debug, Default)]
pub struct Page {
    /// Findings by score above 0, by benchmark and protocol.
    scores: BTreeMap<String, BTreeMap<Protocol, Vec<u64>>>,
    /// The gravest findings under each.
    worst: BTreeMap<(String, Protocol), Worst>,
    rows: usize,
}

impl Page {
    /// Takes a finding in. One that a review has rejected is none.
    pub fn add(&mut self, row: &Row) {
        self.rows += 1;
        if row.gravest() == Level::Clean {
            return;
        }
        let of = self.scores.entry(row.eval_key.clone()).or_default();
        let mut shared = None;
        for (&protocol, verdict) in &row.verdicts {
            if verdict.score > 0.0 {
                let bin = ((verdict.score.min(1.0) * BINS as f32) as usize).min(BINS - 1);
                of.entry(protocol).or_insert_with(|| vec![0; BINS])[bin] += 1;
            }
            if verdict.level == Level::Clean {
                continue;
            }
            let worst = self.worst.entry((row.eval_key.clone(), protocol)).or_default();
            let grave = |r: &Row| r.verdicts.get(&protocol).map(|v| (v.level, (v.score * 1e6) as u64, matched(r)));
            let at = worst.partition_point(|(_, w)| grave(w) >= grave(row));
            if at < CASES {
                let row = shared.get_or_insert_with(|| Arc::new(row.clone()));
                worst.insert(at, (self.rows, row.clone()));
                worst.truncate(CASES);
            }
        }
    }

    /// The page. `said` is the run in one line, `protocols` in the run's order.
    pub fn render(&self, said: &str, protocols: &[Protocol], benchmarks: &[Benchmark]) -> String {
        let options = |names: &mut dyn Iterator<Item = &str>| {
            names.map(|n| format!("<option>{}</option>", escape(n))).collect::<String>()
        };
        let first = protocols.first().copied().unwrap_or(Protocol::Priorart);
        let mut counts = vec![0; BINS];
        for of in self.scores.values() {
            for (sum, n) in counts.iter_mut().zip(of.get(&first).into_iter().flatten()) {
                *sum += n;
            }
        }
        // `<` must not end the script element that carries the data.
        let data = serde_json::to_string(&self.scores).unwrap_or_default().replace('<', "\\u003c");
        let (mut cases, mut seen) = (Vec::new(), BTreeSet::new());
        // The first protocol's cases first; what only others found after them.
        for &protocol in protocols {
            for ((_, of), worst) in &self.worst {
                let new = worst.iter().filter(|(number, _)| *of == protocol && seen.insert(*number));
                cases.extend(new.map(|(_, row)| row.as_ref()));
            }
        }
        format!(
            r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Contamination report</title><style>{style}</style></head><body><main>
<h1>Contamination report</h1><p>{said}</p>
<form class="panel filters" aria-label="Filters">
<label>Benchmark <select id="benchmark"><option value="">all</option>{benchmark_options}</select></label>
<label>Protocol <select id="protocol">{protocol_options}</select></label></form>
<h2>Items per benchmark</h2><p class="meta">Clean, suspect and dirty as {first} says; then the dirty items under each protocol.</p><div class="panel scroll" tabindex="0" role="region" aria-label="Items per benchmark">{table}</div>
<h2>Dirty items by protocol</h2><div class="charts">{charts}</div>
<h2>Scores of findings</h2><div class="panel">{histogram}
<label>Threshold <input id="threshold" type="range" min="0" max="1" step="0.02" value="0"></label> <output id="above" for="threshold"></output>
<p class="meta">Findings that at least one protocol calls suspect or dirty, by their score under this protocol where it is above 0. The threshold also filters the cases below. Bars grow with the square root of the count.</p></div>
<h2>Worst cases</h2><p class="meta" id="shown" aria-live="polite">{shown} findings: of each benchmark the {CASES} gravest under each protocol.</p>
<div id="cases" data-most="{CASES}">{cases}</div>
</main><script type="application/json" id="data">{data}</script><script>{script}</script></body></html>
"#,
            style = include_str!("page/report.css"),
            script = include_str!("page/report.js"),
            said = escape(said),
            first = first.name(),
            benchmark_options = options(&mut benchmarks.iter().map(|b| b.name.as_str())),
            protocol_options = options(&mut protocols.iter().map(|p| p.name())),
            table = table(protocols, benchmarks),
            charts = benchmarks.iter().map(figure).collect::<String>(),
            histogram = chart::histogram("Findings by score", &counts, (0.0, 1.0), 0.0),
            shown = cases.len(),
            cases = cases.into_iter().map(case).collect::<String>(),
        )
    }
}

fn table(protocols: &[Protocol], benchmarks: &[Benchmark]) -> String {
    let mut out = String::from("<table><thead><tr><th scope=\"col\">benchmark</th>");
    for name in ["items", "clean", "suspect", "dirty"].into_iter().chain(protocols.iter().map(|p| p.name())) {
        out += &format!("<th scope=\"col\">{}</th>", escape(name));
    }
    out += "</tr></thead><tbody>";
    for b in benchmarks {
        out += &format!("<tr data-benchmark=\"{0}\"><th scope=\"row\">{0}</th>", escape(&b.name));
        let verdicts = b.dirty_by_protocol.iter().map(|(_, n)| *n);
        for n in [b.items, b.clean, b.suspect, b.dirty].into_iter().chain(verdicts) {
            out += &format!("<td>{n}</td>");
        }
        out += "</tr>";
    }
    out + "</tbody></table>"
}

fn figure(b: &Benchmark) -> String {
    let bars: Vec<Bar> = b
        .dirty_by_protocol
        .iter()
        .map(|(name, n)| Bar {
            name: name.clone(),
            value: *n as f64,
            note: format!("{n} ({:.1} %)", 100.0 * *n as f64 / b.items.max(1) as f64),
        })
        .collect();
    let most = bars.iter().map(|b| b.value).fold(1.0, f64::max);
    format!(
        "<figure class=\"panel\" data-benchmark=\"{0}\"><figcaption>{0}: {1} items</figcaption>{2}</figure>",
        escape(&b.name),
        b.items,
        chart::bars(&format!("Dirty items of {} by protocol", b.name), most, &bars)
    )
}

/// Words matched of all components.
fn matched(row: &Row) -> u32 {
    row.components.iter().map(|c| c.matched_words).sum()
}

fn case(row: &Row) -> String {
    let found = || row.verdicts.iter().filter(|(_, v)| v.level > Level::Clean);
    let by: Vec<&str> = found().map(|(p, _)| p.name()).collect();
    let verdicts: BTreeMap<&str, (Level, f32)> = found().map(|(p, v)| (p.name(), (v.level, v.score))).collect();
    let verdicts = serde_json::to_string(&verdicts).unwrap_or_default();
    let parts: Vec<String> = row
        .components
        .iter()
        .map(|c| {
            format!("{} {:.0} % ({} of {} words)", c.component.name(), 100.0 * c.coverage, c.matched_words, c.words)
        })
        .collect();
    let frequency = row.components.iter().flat_map(|c| &c.document_frequency).flatten().min();
    let start = row.training_bytes[0];
    let spans = row.shown_spans();
    let item: Vec<_> = spans.iter().map(|s| (s[2], s[3])).collect();
    let document: Vec<_> = spans.iter().map(|s| (s[0].saturating_sub(start), s[1].saturating_sub(start))).collect();
    format!(
        r#"<article class="panel" data-benchmark="{key}" data-verdicts="{verdicts}"><h3>{key} · {item_id}</h3>
<p class="meta"><span class="level {level}">{level}</span> score <span class="score">{score:.2}</span> · {parts}{frequency} · found by {by}</p>
<div class="pair"><section><h4>Eval item</h4><p class="text" tabindex="0">{item}</p></section>
<section><h4>Document</h4><p class="text" tabindex="0">{document}</p><p class="meta">{id} · {file}, record {record}, bytes {start} to {end}</p></section></div></article>"#,
        key = escape(&row.eval_key),
        by = escape(&by.join(" ")),
        verdicts = escape(&verdicts),
        frequency =
            frequency.map_or_else(String::new, |n| format!(" · its rarest stretch is in {n} documents of the corpus")),
        item_id = escape(&row.eval_instance_index),
        level = row.level.name(),
        score = row.contamination_score,
        parts = escape(&parts.join(" · ")),
        item = marked(&row.eval_text, item),
        document = marked(&row.training_text, document),
        id = escape(&row.document_id),
        file = escape(&row.training_file),
        record = row.training_line,
        end = row.training_bytes[1],
    )
}

/// Text with byte ranges marked.
fn marked(text: &str, ranges: Vec<(usize, usize)>) -> String {
    super::marks::marked(text, ranges, TEXT, ("<mark>", "</mark>"), escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_text_is_escaped() {
        assert_eq!(marked("é<b>x", vec![(2, 5)]), "é<mark>&lt;b&gt;</mark>x");
    }

    #[test]
    fn a_benchmark_cannot_close_the_script() {
        let mut page = Page::default();
        page.scores.entry("</script><b>".into()).or_default().insert(Protocol::Priorart, vec![1]);
        let b = Benchmark { name: "</script><b>".into(), items: 1, ..Benchmark::default() };
        let html = page.render("run", &[Protocol::Priorart], &[b]);
        assert_eq!(html.matches("</script>").count(), 2);
        assert!(!html.contains("<b>") && !html.contains("http://") && !html.contains("https://"));
    }
}
