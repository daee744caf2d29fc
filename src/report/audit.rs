//! The HTML page of a novelty audit: one file that fetches nothing and runs no script.
//!
//! It shows the recall of the search before any figure of novelty, then distributions of r against the human reference, r against window
//! length, p-values, exact metrics, and the most and least novel texts with their ledgers: every stretch shaded by its best evidence,
//! with the passages it comes from. Bounded whatever the audit found: [`super::curve`] draws bins, and only the cases given are shown.

use std::collections::BTreeMap;

use super::chart::escape;
use super::curve::{self, Axes, Series};
use crate::novelty::assess::{Assessed, Effect, Group, Pair};
use crate::novelty::certify::Certified;
use crate::novelty::ledger::{Label, Ledger};
use crate::novelty::statistics::{Interval, median};
use crate::novelty::{Calibration, Recall};
use crate::tokenize::floor_char_boundary;

/// Bytes shown of a text or passage.
const TEXT: usize = 4000;
/// Points of a distribution's line.
const POINTS: usize = 200;
/// Groups drawn in one chart; the table has all of them.
const DRAWN: usize = 12;

/// A text shown with its ledger.
#[derive(Debug, Clone)]
pub struct Case {
    pub id: String,
    pub group: String,
    /// What is said of it in a line.
    pub said: String,
    pub text: String,
    pub ledger: Ledger,
    /// The text of each source of the ledger.
    pub passages: Vec<String>,
    /// The passage nearest to one of its longest windows, whether it is near enough to be evidence or not.
    pub nearest: Option<Nearest>,
}

/// A passage of the corpus, and what is said of it in a line.
#[derive(Debug, Clone)]
pub struct Nearest {
    pub said: String,
    pub text: String,
}

/// Everything the page shows.
pub struct Audit<'a> {
    pub said: String,
    pub groups: &'a [Group],
    pub effects: &'a [Effect],
    pub pairs: &'a [Pair],
    pub recall: &'a [Recall],
    pub calibration: Option<&'a Calibration>,
    /// Assessments and group of every text.
    pub assessed: &'a [Vec<Assessed>],
    pub names: &'a [String],
    pub certified: Option<Certified>,
    pub warnings: &'a [String],
    pub most_novel: &'a [Case],
    pub least_novel: &'a [Case],
    /// The settings, as JSON.
    pub settings: String,
}

impl Audit<'_> {
    /// The page.
    pub fn render(&self) -> String {
        let warnings: String = self.warnings.iter().map(|w| format!("<li>{}</li>", escape(w))).collect();
        let cases = |cases: &[Case]| cases.iter().map(case).collect::<String>();
        format!(
            r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Novelty audit</title><style>{style}{own}</style></head><body><main>
<h1>Novelty audit</h1><p>{said}</p>
<p class="meta">r compares a text's best late-interaction score over the corpus with that of human writing: below 1 is less attributable. “Not attributable” means that nothing was found at these settings in this generation. Similarity is not influence.</p>
{warnings}
<h2>Recall of the search</h2><p class="meta">What was found of passages whose source is known. A miss looks like novelty: read the figures below with this table.</p>
<div class="panel scroll" tabindex="0" role="region" aria-label="Recall">{recall}</div>{certified}
<h2>Groups</h2><p class="meta">Corrected for misses: the share of texts with r ≥ 1 divided by the recall of each kind of passage.</p><div class="panel scroll" tabindex="0" role="region" aria-label="Groups">{groups}</div>
<h2>r against window length</h2><div class="charts">{by_length}{novelty}</div>
<h2>Distributions of r</h2><p class="meta">How many texts have an r up to x: a group whose line lies left of the human reference is less attributable than human writing.</p><div class="charts">{distributions}</div>
<h2>p-values</h2><p class="meta">Sorted p-values against their rank: on the diagonal where texts are as attributable as human ones, below it where they are less.</p><div class="charts">{p_values}</div>
{pairs}
<h2>Most novel texts</h2>{legend}{most}
<h2>Least novel texts</h2>{least}
<h2>Settings</h2><pre class="panel scroll" tabindex="0">{settings}</pre>
</main></body></html>
"#,
            style = include_str!("page/report.css"),
            own = include_str!("page/audit.css"),
            said = escape(&self.said),
            warnings = if warnings.is_empty() { String::new() } else { format!("<ul class=\"panel\">{warnings}</ul>") },
            recall = self.recall_table(),
            certified = self.certified.as_ref().map_or_else(String::new, certified),
            groups = self.group_table(),
            by_length = self.by_length(),
            novelty = self.n_novelty(),
            distributions = self.distributions(),
            p_values = self.p_values(),
            pairs = self.pair_table(),
            legend = LEGEND,
            most = cases(self.most_novel),
            least = cases(self.least_novel),
            settings = escape(&self.settings),
        )
    }

    fn lengths(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.groups.iter().map(|g| g.length).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn group_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.groups.iter().map(|g| g.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn recall_table(&self) -> String {
        if self.recall.is_empty() {
            return "<p>No recall was measured: without probes, or without a text as long as a window, nothing says how often a source was missed.</p>"
                .into();
        }
        let rows = self.recall.iter().map(|r| {
            [
                format!("{} tokens, {}", r.length, r.kind()),
                interval(&r.first),
                format!("{:.2}", r.scored.estimate),
                format!("{:.2}", r.candidates.estimate),
                r.probes.to_string(),
            ]
        });
        table(
            &["passages", "source first, 95 % interval", "among those scored", "among the candidates", "probes"],
            rows,
        )
    }

    fn group_table(&self) -> String {
        let head = [
            "group and window",
            "texts",
            "median s",
            "median r, 95 % interval",
            "novel (q ≤ 0.05)",
            "r ≥ 1",
            "r ≥ 1, corrected for misses",
            "certified",
            "longest span",
            "coverage 8",
            "creativity index",
            "verbatim 50",
            "memorised (BLEU)",
        ];
        let rows = self.groups.iter().map(|g| {
            // A line a kind, verbatim passages before edited ones.
            let mut kinds: Vec<(&String, &Interval)> = g.attributable_corrected.iter().collect();
            kinds.sort_by_key(|(kind, _)| *kind != "verbatim");
            let line =
                |(kind, i): (&String, &Interval)| format!("{kind}: {:.2} [{:.2}, {:.2}]", i.estimate, i.low, i.high);
            let corrected: Vec<String> = kinds.into_iter().map(line).collect();
            [
                format!("{}, {} tokens", g.name, g.length),
                if g.texts == 1 { "1: says nothing\nof other texts".into() } else { g.texts.to_string() },
                format!("{:.3}", g.median_s.estimate),
                g.median_r.as_ref().map_or("–".into(), interval),
                g.novel.to_string(),
                g.attributable.map_or("–".into(), |a| format!("{a:.2}")),
                if corrected.is_empty() { "–".into() } else { corrected.join("\n") },
                g.certified.map_or("–".into(), |n| n.to_string()),
                format!("{:.1}", g.longest_span),
                format!("{:.2}", g.coverage_8),
                format!("{:.2}", g.creativity_index),
                g.verbatim.to_string(),
                g.memorised.to_string(),
            ]
        });
        table(&head, rows)
    }

    fn by_length(&self) -> String {
        let lengths = self.lengths();
        let series: Vec<Series> = self
            .group_names()
            .into_iter()
            .take(DRAWN)
            .map(|name| {
                let of: Vec<(f64, Interval)> = self
                    .groups
                    .iter()
                    .filter(|g| g.name == name)
                    .map(|g| (g.length as f64, g.median_r.unwrap_or(g.median_s)))
                    .collect();
                Series {
                    name: name.into(),
                    points: of.iter().map(|(x, i)| (*x, i.estimate)).collect(),
                    band: of.iter().map(|(x, i)| (*x, i.low, i.high)).collect(),
                    reference: false,
                }
            })
            .collect();
        let what = if self.calibration.is_some() { "median r" } else { "median s" };
        let axes = Axes {
            x: "window length in tokens".into(),
            y: what.into(),
            log_x: true,
            ticks: lengths.iter().map(|&l| l as f64).collect(),
            y_range: None,
        };
        let effects: String = self
            .effects
            .iter()
            .map(|e| {
                format!(
                    "<p class=\"meta\">{}: r changes by {} when the window doubles ({} texts).</p>",
                    escape(&e.name),
                    interval(&e.per_doubling),
                    e.texts
                )
            })
            .collect();
        figure(&format!("{what} by window length, with 95 % intervals"), &axes, &series, &effects)
    }

    fn n_novelty(&self) -> String {
        let mut seen = std::collections::BTreeSet::new();
        // The curve is the texts', not the window's: that of the shortest length has most texts.
        let series: Vec<Series> = self
            .groups
            .iter()
            .filter(|g| seen.insert(g.name.as_str()))
            .take(DRAWN)
            .map(|g| Series {
                name: g.name.clone(),
                points: g.n_novelty.iter().map(|&(n, share)| (n as f64, share)).collect(),
                ..Series::default()
            })
            .collect();
        let axes = Axes {
            x: "n".into(),
            y: "share of n-grams absent".into(),
            log_x: true,
            ticks: vec![1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0],
            y_range: Some((0.0, 1.0)),
        };
        figure("n-gram novelty", &axes, &series, "")
    }

    /// r of every text by group, at one length.
    fn values(&self, length: usize, of: impl Fn(&Assessed) -> Option<f64>) -> BTreeMap<&str, Vec<f64>> {
        let mut out: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (list, name) in self.assessed.iter().zip(self.names) {
            for value in list.iter().filter(|a| a.length == length).filter_map(&of) {
                out.entry(name).or_default().push(value);
            }
        }
        out
    }

    fn distributions(&self) -> String {
        let Some(calibration) = self.calibration else {
            return "<p class=\"meta\">Without a human reference there is no r.</p>".into();
        };
        let charts = self.lengths().into_iter().map(|length| {
            let human = calibration.reference(None, length).unwrap_or_default();
            let centre = median(human).unwrap_or(1.0);
            let human: Vec<f64> = human.iter().map(|h| h / centre).collect();
            let groups = self.values(length, |a| a.r);
            let line = |name: &str, values: &[f64], reference| Series {
                name: name.into(),
                points: curve::cumulative(values, POINTS),
                band: Vec::new(),
                reference,
            };
            let series: Vec<Series> = groups
                .iter()
                .take(DRAWN)
                .map(|(name, v)| line(name, v, false))
                .chain([line("human reference", &human, true)])
                .collect();
            let axes = Axes {
                x: "r".into(),
                y: "share of texts with r up to x".into(),
                y_range: Some((0.0, 1.0)),
                ..Axes::default()
            };
            figure(&format!("r at {length} tokens"), &axes, &series, "")
        });
        charts.collect()
    }

    fn p_values(&self) -> String {
        if self.calibration.is_none() {
            return String::new();
        }
        let charts = self.lengths().into_iter().map(|length| {
            let ranked = |mut values: Vec<f64>| {
                values.sort_by(f64::total_cmp);
                let n = values.len();
                let step = n.div_ceil(200).max(1);
                (0..n).step_by(step).map(|i| ((i as f64 + 0.5) / n as f64, values[i])).collect::<Vec<_>>()
            };
            let mut series: Vec<Series> = self
                .values(length, |a| a.p)
                .into_iter()
                .take(DRAWN)
                .map(|(name, v)| Series { name: name.into(), points: ranked(v), ..Series::default() })
                .collect();
            let diagonal = vec![(0.0, 0.0), (1.0, 1.0)];
            series.push(Series { name: "as human".into(), points: diagonal, reference: true, ..Series::default() });
            let axes = Axes { x: "rank".into(), y: "p".into(), y_range: Some((0.0, 1.0)), ..Axes::default() };
            figure(&format!("p-values at {length} tokens"), &axes, &series, "")
        });
        charts.collect()
    }

    fn pair_table(&self) -> String {
        if self.pairs.is_empty() {
            return String::new();
        }
        let rows = self.pairs.iter().map(|p| {
            let c = &p.comparison;
            [
                format!("{} − {}, {} tokens", p.first, p.second, p.length),
                format!("{:+.3}", c.difference),
                format!("{:.4}", c.p),
                if c.paired { "by pairs".into() } else { "unpaired".to_string() },
                c.n.to_string(),
            ]
        });
        let table = table(&["groups", "difference of mean s", "p, permutation", "test", "n"], rows);
        format!(
            "<h2>Comparisons</h2><div class=\"panel scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Comparisons\">{table}</div>"
        )
    }
}

const LEGEND: &str = r#"<p class="meta"><mark class="e3">word for word</mark> <mark class="e2">with small edits</mark> <mark class="e1">near in meaning</mark> <span>nothing found</span>. Numbers name the sources below a text.</p>"#;

fn interval(i: &Interval) -> String {
    format!("{:.3} [{:.3}, {:.3}]", i.estimate, i.low, i.high)
}

fn table<const N: usize>(head: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let head: String = head.iter().map(|h| format!("<th scope=\"col\">{}</th>", escape(h))).collect();
    let rows: String = rows
        .map(|row| {
            let cells: String = row[1..].iter().map(|c| format!("<td>{}</td>", escape(c))).collect();
            format!("<tr><th scope=\"row\">{}</th>{cells}</tr>", escape(&row[0]))
        })
        .collect();
    format!("<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
}

fn figure(caption: &str, axes: &Axes, series: &[Series], more: &str) -> String {
    format!(
        "<figure class=\"panel\"><figcaption>{}</figcaption>{}{more}</figure>",
        escape(caption),
        curve::lines(caption, axes, series)
    )
}

fn certified(c: &Certified) -> String {
    format!(
        "<p class=\"panel\">Certified novelty: of {} searches {} have provably no chunk of cosine {} or more. {:.1} % of all pairs of search and chunk had to be compared; bounds spared the rest. The certificate covers the vector search (stage 1), not late interaction.{}</p>",
        c.windows,
        c.certified,
        c.tau,
        100.0 * c.scanned as f64 / c.pairs.max(1) as f64,
        if c.quantisation_error > 0.0 {
            format!(" Stored vectors are off by up to {:.4}; the proofs allow for it.", c.quantisation_error)
        } else {
            String::new()
        }
    )
}

/// The beginning of a passage.
fn passage(text: &str) -> String {
    let shown = floor_char_boundary(text, text.len().min(TEXT / 4));
    let more = if shown < text.len() { "…" } else { "" };
    format!("<p class=\"text\" tabindex=\"0\">{}{more}</p>", escape(&text[..shown]))
}

fn case(case: &Case) -> String {
    let shown = floor_char_boundary(&case.text, case.text.len().min(TEXT));
    let mut text = String::new();
    for s in &case.ledger.segments {
        let (from, to) = (s.start_byte.min(shown), s.end_byte.min(shown));
        let Some(part) = case.text.get(from..to).filter(|p| !p.is_empty()) else { continue };
        let title = match &s.label {
            Label::Exact { length, count } => format!("{length} tokens that occur {count} times"),
            Label::Near { matched, length } => format!("{matched} of {length} tokens in this order"),
            Label::Semantic { window, score } => format!("window of {window} tokens, score {score:.2}"),
            Label::None => String::new(),
        };
        let number = s.source.map_or_else(String::new, |n| format!("<sup>{}</sup>", n + 1));
        text += &match s.label.grade() {
            0 => escape(part),
            grade => format!("<mark class=\"e{grade}\" title=\"{}\">{}</mark>{number}", escape(&title), escape(part)),
        };
    }
    if shown < case.text.len() {
        text.push('…');
    }
    let sources: String = case
        .ledger
        .sources
        .iter()
        .zip(&case.passages)
        .map(|(s, text)| {
            format!(
                "<li><span class=\"meta\">{} · {}, bytes {} to {}; {} tokens</span>{}</li>",
                escape(&s.passage.id),
                escape(&s.passage.path),
                s.passage.start_byte,
                s.passage.end_byte,
                s.tokens,
                passage(text)
            )
        })
        .collect();
    let sources = if sources.is_empty() {
        "<p class=\"meta\">No passage explains any of it.</p>".into()
    } else {
        format!("<ol>{sources}</ol>")
    };
    let nearest = case.nearest.as_ref().map_or_else(String::new, |n| {
        format!("<h4>Nearest passage</h4><p class=\"meta\">{}</p>{}", escape(&n.said), passage(&n.text))
    });
    let l = &case.ledger;
    format!(
        r#"<article class="panel"><h3>{} · {}</h3><p class="meta">{}</p><p class="meta">{} tokens: {} word for word, {} with small edits, {} near in meaning, {} without evidence</p>
<div class="pair"><section><h4>Text</h4><p class="text" tabindex="0">{text}</p></section><section><h4>Sources</h4>{sources}{nearest}</section></div></article>"#,
        escape(&case.group),
        escape(&case.id),
        escape(&case.said),
        l.tokens,
        l.exact,
        l.near,
        l.semantic,
        l.none,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::DocumentRef;
    use crate::novelty::Passage;
    use crate::novelty::ledger::{Segment, Source};

    #[test]
    fn text_and_names_cannot_leave_their_place() {
        let evil = "</p><script>alert(1)</script>";
        let document = DocumentRef { shard: 0, document: 0 };
        let passage = Passage { document, id: evil.into(), path: evil.into(), start_byte: 0, end_byte: 3 };
        let segment =
            |start_byte, end_byte, label, source| Segment { left: 0, right: 1, start_byte, end_byte, label, source };
        let shown = Case {
            id: evil.into(),
            group: evil.into(),
            said: evil.into(),
            text: format!("aé{evil}"),
            ledger: Ledger {
                tokens: 2,
                exact: 1,
                none: 1,
                segments: vec![
                    segment(0, 3, Label::Exact { length: 9, count: 2 }, Some(0)),
                    segment(3, 3 + evil.len(), Label::None, None),
                ],
                sources: vec![Source { passage, tokens: 1 }],
                ..Ledger::default()
            },
            passages: vec![evil.into()],
            nearest: Some(Nearest { said: evil.into(), text: evil.into() }),
        };
        let warnings = [evil.to_string()];
        let page = Audit {
            said: evil.into(),
            groups: &[],
            effects: &[],
            pairs: &[],
            recall: &[],
            calibration: None,
            assessed: &[],
            names: &[],
            certified: None,
            warnings: &warnings,
            most_novel: std::slice::from_ref(&shown),
            least_novel: &[],
            settings: evil.into(),
        }
        .render();
        assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"));
        assert!(
            page.contains(r#"<mark class="e3" title="9 tokens that occur 2 times">aé</mark><sup>1</sup>"#),
            "{page}"
        );
        assert!(page.contains("No recall was measured"));
    }
}
