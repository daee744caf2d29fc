//! The tables of an audit: a row a text (`texts.parquet`), a row a group and window length (`groups.csv`).

use std::path::Path;

use crate::error::{Error, Result};
use crate::novelty::assess::{Assessed, Group};
use crate::novelty::evidence::NOVELTY;
use crate::novelty::{Ledger, Score};
use crate::report::columns::Values;

/// A part of a ledger's tokens.
type Tokens = fn(&Ledger) -> usize;

/// The columns of `texts.parquet`.
pub fn table(
    scores: &[Score],
    assessed: &[Vec<Assessed>],
    names: &[String],
    ledgers: &[Ledger],
    windows: &[usize],
) -> Vec<(String, Values)> {
    let text = |of: &dyn Fn(&Score) -> Option<String>| Values::Text(scores.iter().map(of).collect());
    let number = |of: &dyn Fn(&Score) -> Option<f64>| Values::Number(scores.iter().map(of).collect());
    let integer = |of: &dyn Fn(&Score) -> Option<usize>| {
        Values::Integer(scores.iter().map(|s| of(s).map(|n| n as i64)).collect())
    };
    let nearest = |s: &Score| {
        let windows = s.lengths.iter().flat_map(|l| &l.windows);
        windows.max_by(|a, b| a.s.total_cmp(&b.s)).and_then(|w| w.best.clone())
    };
    let mut out = vec![
        ("id".into(), text(&|s| Some(s.id.clone()))),
        ("group_name".into(), Values::Text(names.iter().cloned().map(Some).collect())),
        ("domain".into(), text(&|s| s.domain.clone())),
        ("tokens".into(), integer(&|s| Some(s.tokens))),
        ("unknown_share".into(), number(&|s| Some(s.unknown_share))),
        ("warnings".into(), text(&|s| (!s.warnings.is_empty()).then(|| s.warnings.join("; ")))),
    ];
    for &length in windows {
        let of = |f: &dyn Fn(&Assessed) -> Option<f64>| {
            let at = |list: &Vec<Assessed>| list.iter().find(|a| a.length == length).and_then(f);
            // A short text's one window may happen to have a length that was asked for; it is none of them.
            let long = |s: &Score| s.at(length).is_some();
            Values::Number(assessed.iter().zip(scores).map(|(l, s)| long(s).then(|| at(l)).flatten()).collect())
        };
        out.push((format!("s_{length}"), of(&|a| Some(a.s))));
        out.push((format!("r_{length}"), of(&|a| a.r)));
        out.push((format!("p_{length}"), of(&|a| a.p)));
        out.push((format!("q_{length}"), of(&|a| a.q)));
        let scored = |s: &Score| s.lengths.iter().find(|l| l.length == length && !l.short).cloned();
        out.push((format!("reverse_{length}"), number(&|s| scored(s).map(|l| l.reverse))));
        out.push((format!("cosine_{length}"), number(&|s| scored(s).map(|l| l.cosine))));
        let certified = scores.iter().map(|s| scored(s).and_then(|l| l.certified)).collect();
        out.push((format!("certified_{length}"), Values::Flag(certified)));
    }
    let p_absent = assessed.iter().map(|l| l.first().and_then(|a| a.p_absent)).collect();
    out.push(("p_absent".into(), Values::Number(p_absent)));
    out.extend([
        ("longest_span".into(), integer(&|s| Some(s.exact.longest_span))),
        ("creativity_index".into(), number(&|s| Some(s.exact.creativity_index))),
        ("verbatim".into(), Values::Flag(scores.iter().map(|s| Some(s.exact.verbatim)).collect())),
        ("verbatim_share".into(), number(&|s| Some(s.exact.verbatim_share))),
        ("bleu".into(), number(&|s| s.exact.bleu)),
    ]);
    let at = |list: &[(usize, f64)], key: usize| list.iter().find(|e| e.0 == key).map(|e| e.1);
    for length in [5, 8, 13, 20, 50] {
        out.push((format!("coverage_{length}"), number(&|s| at(&s.exact.coverage, length))));
    }
    for n in NOVELTY {
        out.push((format!("n_novelty_{n}"), number(&|s| at(&s.exact.n_novelty, n))));
    }
    let parts: [(&str, Tokens); 4] =
        [("exact", |l| l.exact), ("near", |l| l.near), ("semantic", |l| l.semantic), ("none", |l| l.none)];
    for (name, of) in parts {
        let share = ledgers.iter().map(|l| Some(of(l) as f64 / l.tokens.max(1) as f64)).collect();
        out.push((format!("ledger_{name}"), Values::Number(share)));
    }
    out.extend([
        ("nearest_id".into(), text(&|s| nearest(s).map(|p| p.id))),
        ("nearest_path".into(), text(&|s| nearest(s).map(|p| p.path))),
        ("nearest_start_byte".into(), integer(&|s| nearest(s).map(|p| p.start_byte))),
        ("nearest_end_byte".into(), integer(&|s| nearest(s).map(|p| p.end_byte))),
    ]);
    out
}

/// Writes `groups.csv`.
pub fn write_groups(path: &Path, groups: &[Group]) -> Result<()> {
    let quoted = |s: &str| {
        if s.contains([',', '"', '\n', '\r']) { format!("\"{}\"", s.replace('"', "\"\"")) } else { s.to_string() }
    };
    let mut kinds: Vec<&String> = groups.iter().flat_map(|g| g.attributable_corrected.keys()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut out = String::from(
        "group,window,texts,median_s,median_s_low,median_s_high,median_r,median_r_low,median_r_high,novel,attributable",
    );
    for kind in &kinds {
        let name = kind.replace([' ', '%'], "_");
        out += &format!(
            ",attributable_corrected_{name},attributable_corrected_{name}_low,attributable_corrected_{name}_high"
        );
    }
    out += ",certified,longest_span,coverage_8,creativity_index,verbatim,memorised";
    for n in NOVELTY {
        out += &format!(",n_novelty_{n}");
    }
    out.push('\n');
    let optional = |v: Option<f64>| v.map_or_else(String::new, |v| v.to_string());
    for g in groups {
        let mut cells = vec![quoted(&g.name), g.length.to_string(), g.texts.to_string()];
        let s = g.median_s;
        cells.extend([s.estimate, s.low, s.high].map(|v| v.to_string()));
        let r = g.median_r;
        cells.extend([r.map(|r| r.estimate), r.map(|r| r.low), r.map(|r| r.high)].map(optional));
        cells.extend([g.novel.to_string(), optional(g.attributable)]);
        for kind in &kinds {
            let i = g.attributable_corrected.get(*kind);
            cells.extend([i.map(|i| i.estimate), i.map(|i| i.low), i.map(|i| i.high)].map(optional));
        }
        cells.push(g.certified.map_or_else(String::new, |n| n.to_string()));
        cells.extend([g.longest_span, g.coverage_8, g.creativity_index].map(|v| v.to_string()));
        cells.extend([g.verbatim.to_string(), g.memorised.to_string()]);
        for n in NOVELTY {
            cells.push(optional(g.n_novelty.iter().find(|e| e.0 == n).map(|e| e.1)));
        }
        out += &cells.join(",");
        out.push('\n');
    }
    std::fs::write(path, out).map_err(Error::io(path, "write"))
}
