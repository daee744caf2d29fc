//! `novelty`, `calibrate` and `audit`: un-attributability of texts, against human writing.

mod audit;
mod scoring;
mod tables;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use super::output::{self, number};
use super::{Format, Global, Outcome};
use crate::embed::alignment::Alignment;
use crate::novelty::assess::{self, Assessed, Effect, Group, Pair};
use crate::novelty::{Score, Scorer};
pub use audit::{AuditArgs, audit};
use scoring::{Engine, ScoreArgs, StudyArgs, group_names, recall_text};

#[derive(Debug, Args)]
pub struct NoveltyArgs {
    /// Files of texts: .jsonl (also .gz, .zst), .parquet, .txt
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    study: StudyArgs,
    /// Show which token matched which in each text's nearest window
    #[arg(long)]
    align: bool,
}

#[derive(Debug, Args)]
pub struct CalibrateArgs {
    /// Human texts: .jsonl (also .gz, .zst), .parquet, .txt
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    human: Vec<PathBuf>,
    /// Where to write the calibration
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    score: ScoreArgs,
}

/// A text's line of output.
#[derive(serde::Serialize)]
struct Row<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    assessed: &'a [Assessed],
    #[serde(flatten)]
    score: &'a Score,
    #[serde(skip_serializing_if = "Option::is_none")]
    alignment: Option<Aligned<'a>>,
}

/// The window nearest to the corpus, token by token.
#[derive(serde::Serialize)]
struct Aligned<'a> {
    length: usize,
    window: &'a str,
    passage: String,
    #[serde(flatten)]
    alignment: Alignment,
}

/// Of a scored text.
fn aligned<'a>(scorer: &Scorer, text: &'a str, score: &Score) -> crate::error::Result<Option<Aligned<'a>>> {
    let windows = score.lengths.iter().flat_map(|l| l.windows.iter().map(move |w| (l.length, w)));
    let Some((length, window)) = windows.max_by(|a, b| a.1.s.total_cmp(&b.1.s)) else { return Ok(None) };
    let (Some(best), Some(alignment)) = (&window.best, scorer.align(text, window)?) else { return Ok(None) };
    let documents = &scorer.snapshot().shards[best.document.shard as usize].documents;
    let (passage, _) = documents.text_range(best.document.document, best.start_byte..best.end_byte)?;
    let window = text.get(window.start_byte..window.end_byte).unwrap_or_default();
    Ok(Some(Aligned { length, window, passage, alignment }))
}

pub fn calibrate(global: &Global, args: CalibrateArgs) -> anyhow::Result<Outcome> {
    let engine = Engine::open(global, &args.score)?;
    let calibration =
        engine.with_scorer(global, &args.score, |scorer| Ok(args.score.calibrate(global, scorer, &args.human)?))?;
    calibration.write(&args.out)?;
    for w in calibration.warnings(args.score.p_resolution) {
        eprintln!("warning: {w}");
    }
    let medians: BTreeMap<usize, f64> =
        calibration.scores.iter().filter_map(|(l, s)| Some((*l, crate::novelty::statistics::median(s)?))).collect();
    let domains: Vec<&String> = calibration.domains.keys().collect();
    let item = serde_json::json!({"out": args.out, "texts": calibration.texts, "left_out": calibration.left_out, "generation": calibration.generation, "median_s": medians, "domains": domains});
    output::result(global.format(), &item, |_| {
        let mut out = format!(
            "{} human texts, {} of them scored without their own document\n",
            number(calibration.texts as u64),
            number(calibration.left_out as u64)
        );
        for (length, s) in &calibration.scores {
            out += &format!("  {length:>4} tokens: {} texts, median s {:.3}\n", s.len(), medians[length]);
        }
        out
    })?;
    Ok(Outcome::Done)
}

pub fn novelty(global: &Global, args: NoveltyArgs) -> anyhow::Result<Outcome> {
    let study = &args.study;
    let given = study.given()?;
    let documents = study.texts(&args.paths)?;
    let names = group_names(&documents, &study.group_by)?;
    let engine = Engine::open(global, &study.score)?;
    engine.with_scorer(global, &study.score, |scorer| {
        if let Some(c) = &given {
            c.check(scorer.snapshot(), &scorer.settings)?;
        }
        let calibration = match given {
            Some(c) => Some(c),
            None if study.human.is_empty() => None,
            None => Some(study.score.calibrate(global, scorer, &study.human)?),
        };
        if let Some(c) = &calibration {
            study.check_domains(&documents, c)?;
        }
        if let Some(tau) = study.certify {
            scorer.certify(tau)?;
        }
        let mut scores: Vec<Score> = Vec::with_capacity(documents.len());
        study.score.score(global, scorer, &documents, ("novelty", false), |batch| {
            scores.extend(batch);
            Ok(())
        })?;
        let recall = study.probe.measure(global, scorer, &scores)?;
        let assessed = assess::assess(&scores, calibration.as_ref());
        let seed = study.probe.seed;
        let groups = assess::groups(&scores, &assessed, &names, calibration.as_ref(), &recall, seed);
        let effects = assess::effects(&assessed, &names, seed);
        let keys = study.keys(&documents);
        let pairs = assess::compare(&scores, &names, keys.as_deref(), seed);
        let warnings = scoring::warnings(calibration.as_ref(), &scores, &assessed, study.score.p_resolution);
        for w in &warnings {
            eprintln!("warning: {w}");
        }
        for s in &scores {
            s.warnings.iter().for_each(|w| eprintln!("warning: {}: {w}", s.id));
        }
        let mut rows: Vec<Row> = scores
            .iter()
            .zip(&assessed)
            .zip(&names)
            .map(|((score, assessed), name)| Row {
                group: (!study.group_by.is_empty()).then_some(name.as_str()),
                assessed,
                score,
                alignment: None,
            })
            .collect();
        if args.align {
            for (row, d) in rows.iter_mut().zip(&documents) {
                row.alignment = aligned(scorer, &d.text, row.score)?;
            }
        }
        let generation = scorer.snapshot().manifest.generation;
        let certified = study.certify.map(|_| scorer.certified);
        match global.format() {
            Format::Jsonl => {
                output::results(Format::Jsonl, &rows, |_| String::new())?;
                for (kind, value) in [
                    ("groups", serde_json::to_value(&groups)?),
                    ("effects", serde_json::to_value(&effects)?),
                    ("pairs", serde_json::to_value(&pairs)?),
                    ("recall", serde_json::to_value(&recall)?),
                ] {
                    output::result(Format::Jsonl, &serde_json::json!({ kind: value }), |_| String::new())?;
                }
            }
            Format::Json => {
                let all = serde_json::json!({"generation": generation, "settings": scorer.settings, "texts": rows, "groups": groups, "effects": effects, "pairs": pairs, "recall": recall, "certified": certified, "warnings": warnings});
                output::result(Format::Json, &all, |_| String::new())?;
            }
            Format::Text => {
                let mut out = text(&rows, &groups, &effects, &pairs);
                out += &recall_text(&recall, generation);
                if let Some(c) = certified {
                    out += &certified_text(&c);
                }
                output::write(out.as_bytes())?;
            }
        }
        Ok(study.outcome(&assessed))
    })
}

/// What certification proved, in words.
fn certified_text(c: &crate::novelty::certify::Certified) -> String {
    format!(
        "\ncertified: of {} searches, {} have provably no chunk of cosine {} or more ({:.1} % of all pairs had to be compared); this covers the vector search, not late interaction\n",
        c.windows,
        c.certified,
        c.tau,
        100.0 * c.scanned as f64 / c.pairs.max(1) as f64
    )
}

fn text(rows: &[Row], groups: &[Group], effects: &[Effect], pairs: &[Pair]) -> String {
    let mut out = String::new();
    for row in rows {
        let e = &row.score.exact;
        out += &format!(
            "{}  {} tokens; longest span {}, coverage_8 {:.2}, creativity index {:.2}{}{}\n",
            row.score.id,
            row.score.tokens,
            e.longest_span,
            e.coverage_8(),
            e.creativity_index,
            if e.verbatim { ", verbatim" } else { "" },
            row.assessed
                .iter()
                .find_map(|a| a.p_absent)
                .map_or_else(String::new, |p| format!(", absent 3-grams p {p:.4}"))
        );
        for (a, l) in row.assessed.iter().zip(&row.score.lengths) {
            let reference = match (a.r, a.p, a.q) {
                (Some(r), Some(p), Some(q)) => format!("  r {r:.3}  p {p:.4}  q {q:.4}"),
                _ => String::new(),
            };
            let near = l
                .windows
                .iter()
                .max_by(|a, b| a.s.total_cmp(&b.s))
                .and_then(|w| w.best.as_ref())
                .map(|b| format!("  nearest {} ({}, bytes {}..{})", b.id, b.path, b.start_byte, b.end_byte))
                .unwrap_or_default();
            out += &format!("  {:>4} tokens  s {:.3}{reference}{near}\n", a.length, a.s);
        }
        if let Some(a) = &row.alignment {
            out +=
                &format!("       the nearest {} tokens, each with its best match and their inner product\n", a.length);
            out += &output::alignment(&a.alignment.tokens, a.window, &a.passage);
        }
    }
    out + &groups_text(groups, effects, pairs)
}

/// Groups, effects and pairs in words.
fn groups_text(groups: &[Group], effects: &[Effect], pairs: &[Pair]) -> String {
    let mut out = String::from("\ngroups (median s, median r with 95 % interval)\n");
    for g in groups {
        let r = g
            .median_r
            .map(|r| format!("  r {:.3} [{:.3}, {:.3}]  novel {}", r.estimate, r.low, r.high, g.novel))
            .unwrap_or_default();
        let warning = g.warning.as_ref().map(|w| format!("  ({w})")).unwrap_or_default();
        out += &format!(
            "  {}  {:>4} tokens  {} texts  s {:.3}{r}{warning}\n",
            g.name, g.length, g.texts, g.median_s.estimate
        );
    }
    for e in effects {
        let i = e.per_doubling;
        out += &format!(
            "  {}  r changes by {:+.3} [{:+.3}, {:+.3}] when the window doubles ({} texts)\n",
            e.name, i.estimate, i.low, i.high, e.texts
        );
    }
    for p in pairs {
        let c = &p.comparison;
        out += &format!(
            "  {} - {}  {:>4} tokens  difference of s {:+.3}  p {:.4} ({}, n {})\n",
            p.first,
            p.second,
            p.length,
            c.difference,
            c.p,
            if c.paired { "paired" } else { "unpaired" },
            c.n
        );
    }
    out
}
