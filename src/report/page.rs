//! The HTML page of a decontamination run: one file that fetches nothing.
//!
//! Bounded whatever the run found: scores are kept as histograms per benchmark and protocol, and of the findings the
//! gravest [`CASES`] of each benchmark, texts cut at [`TEXT`] bytes. It is readable without its script, which filters and
//! moves the threshold. A policy in the page forbids every fetch.

use std::collections::BTreeMap;

use super::chart::{self, Bar, escape};
use crate::decontaminate::Level;
use crate::decontaminate::run::Row;
use crate::tokenize::floor_char_boundary;

/// Findings shown of a benchmark.
pub const CASES: usize = 50;
/// Bytes shown of a text.
pub const TEXT: usize = 6000;
const BINS: usize = 50;

/// A benchmark's figures: items by gravest verdict, and dirty items by protocol in the run's order.
#[derive(Debug, Clone, Default)]
pub struct Benchmark {
    pub name: String,
    pub items: usize,
    pub clean: usize,
    pub suspect: usize,
    pub dirty: usize,
    pub dirty_by_protocol: Vec<(String, usize)>,
}

/// Collects rows; [`Page::render`] makes the page.
#[derive(Debug, Default)]
pub struct Page {
    /// Findings by score, by benchmark and protocol.
    scores: BTreeMap<String, BTreeMap<&'static str, Vec<u64>>>,
    worst: BTreeMap<String, Vec<Row>>,
}

impl Page {
    /// Takes a finding in.
    pub fn add(&mut self, row: &Row) {
        let of = self.scores.entry(row.eval_key.clone()).or_default();
        for (&name, verdict) in &row.verdicts {
            let bin = ((verdict.score.clamp(0.0, 1.0) * BINS as f32) as usize).min(BINS - 1);
            of.entry(name).or_insert_with(|| vec![0; BINS])[bin] += 1;
        }
        let worst = self.worst.entry(row.eval_key.clone()).or_default();
        let grave = |r: &Row| (r.level, (r.contamination_score * 1e6) as u64);
        let at = worst.partition_point(|w| grave(w) >= grave(row));
        if at < CASES {
            worst.insert(at, row.clone());
            worst.truncate(CASES);
        }
    }

    /// The page. `said` is the run in one line, `protocols` in the run's order.
    pub fn render(&self, said: &str, protocols: &[&str], benchmarks: &[Benchmark]) -> String {
        let options = |names: &mut dyn Iterator<Item = &str>| {
            names.map(|n| format!("<option>{}</option>", escape(n))).collect::<String>()
        };
        let first = protocols.first().copied().unwrap_or("priorart");
        let mut counts = vec![0; BINS];
        for of in self.scores.values() {
            for (sum, n) in counts.iter_mut().zip(of.get(first).into_iter().flatten()) {
                *sum += n;
            }
        }
        // `<` must not end the script element that carries the data.
        let data = serde_json::to_string(&self.scores).unwrap_or_default().replace('<', "\\u003c");
        let cases: Vec<&Row> = self.worst.values().flatten().collect();
        format!(
            r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Contamination report</title><style>{style}</style></head><body><main>
<h1>Contamination report</h1><p>{said}</p>
<form class="panel filters" aria-label="Filters">
<label>Benchmark <select id="benchmark"><option value="">all</option>{benchmark_options}</select></label>
<label>Protocol <select id="protocol">{protocol_options}</select></label></form>
<h2>Items per benchmark</h2><div class="panel scroll" tabindex="0" role="region" aria-label="Items per benchmark">{table}</div>
<h2>Dirty items by protocol</h2><div class="charts">{charts}</div>
<h2>Scores of findings</h2><div class="panel">{histogram}
<label>Threshold <input id="threshold" type="range" min="0" max="1" step="0.02" value="0.5"></label> <output id="above" for="threshold"></output>
<p class="meta">Findings that at least one protocol calls suspect or dirty. Bars grow with the square root of the count.</p></div>
<h2>Worst cases</h2><p class="meta" id="shown" aria-live="polite">{shown} findings, at most {CASES} a benchmark; the gravest first.</p>
<div id="cases">{cases}</div>
</main><script type="application/json" id="data">{data}</script><script>{script}</script></body></html>
"#,
            style = include_str!("page/report.css"),
            script = include_str!("page/report.js"),
            said = escape(said),
            benchmark_options = options(&mut benchmarks.iter().map(|b| b.name.as_str())),
            protocol_options = options(&mut protocols.iter().copied()),
            table = table(protocols, benchmarks),
            charts = benchmarks.iter().map(figure).collect::<String>(),
            histogram = chart::histogram("Findings by score", &counts, (0.0, 1.0), 0.5),
            shown = cases.len(),
            cases = cases.into_iter().map(case).collect::<String>(),
        )
    }
}

fn table(protocols: &[&str], benchmarks: &[Benchmark]) -> String {
    let mut out = String::from("<table><thead><tr><th scope=\"col\">benchmark</th>");
    for name in ["items", "clean", "suspect", "dirty"].iter().chain(protocols) {
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

fn case(row: &Row) -> String {
    let by: Vec<&str> = row.verdicts.iter().filter(|(_, v)| v.level > Level::Clean).map(|(n, _)| *n).collect();
    let parts: Vec<String> = row
        .components
        .iter()
        .map(|c| format!("{} {:.0} % ({} of {} words)", c.component, 100.0 * c.coverage, c.matched_words, c.words))
        .collect();
    let start = row.training_bytes[0];
    // The text shown is the component's whose spans lie in the shown stretch of the document.
    let inside = |s: &[usize; 4]| s[0] >= start && s[1] <= row.training_bytes[1] && s[3] <= row.eval_text.len();
    let best = row.components.iter().filter(|c| c.spans.iter().all(inside)).max_by_key(|c| c.matched_words);
    let spans = best.map_or(&[][..], |c| &c.spans[..]);
    let item: Vec<_> = spans.iter().map(|s| (s[2], s[3])).collect();
    let document: Vec<_> = spans.iter().map(|s| (s[0].saturating_sub(start), s[1].saturating_sub(start))).collect();
    format!(
        r#"<article class="panel" data-benchmark="{key}" data-protocols="{by}"><h3>{key} · {item_id}</h3>
<p class="meta"><span class="level {level}">{level}</span> score {score:.2} · {parts} · found by {by}</p>
<div class="pair"><section><h4>Eval item</h4><p class="text" tabindex="0">{item}</p></section>
<section><h4>Document</h4><p class="text" tabindex="0">{document}</p><p class="meta">{id} · {file}, record {record}, bytes {start} to {end}</p></section></div></article>"#,
        key = escape(&row.eval_key),
        by = escape(&by.join(" ")),
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

/// Text with byte ranges marked; ranges that are none of the text are passed over.
fn marked(text: &str, mut ranges: Vec<(usize, usize)>) -> String {
    let shown = floor_char_boundary(text, text.len().min(TEXT));
    ranges.sort_unstable();
    let (mut out, mut at) = (String::new(), 0);
    for (a, b) in ranges {
        let (a, b) = (a.max(at), b.min(shown));
        if a >= b {
            continue;
        }
        let (Some(before), Some(inside)) = (text.get(at..a), text.get(a..b)) else { continue };
        out += &format!("{}<mark>{}</mark>", escape(before), escape(inside));
        at = b;
    }
    out += &escape(text.get(at..shown).unwrap_or_default());
    if shown < text.len() {
        out += "…";
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_follow_bytes_and_text_is_escaped() {
        assert_eq!(marked("é<b>x", vec![(2, 5)]), "é<mark>&lt;b&gt;</mark>x");
        assert_eq!(marked("abcd", vec![(0, 2), (1, 3), (9, 12)]), "<mark>ab</mark><mark>c</mark>d");
        assert_eq!(marked("éa", vec![(1, 2)]), "éa", "a range inside a character marks nothing");
        assert!(marked(&"é".repeat(TEXT), vec![]).ends_with("é…"));
    }

    #[test]
    fn a_benchmark_cannot_close_the_script() {
        let mut page = Page::default();
        page.scores.entry("</script><b>".into()).or_default().insert("priorart", vec![1]);
        let b = Benchmark { name: "</script><b>".into(), items: 1, ..Benchmark::default() };
        let html = page.render("run", &["priorart"], &[b]);
        assert_eq!(html.matches("</script>").count(), 2);
        assert!(!html.contains("<b>") && !html.contains("http://") && !html.contains("https://"));
    }
}
