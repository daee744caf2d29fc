//! Assessment: scores of a batch against a human reference, per text and per group.

use std::collections::BTreeMap;

use super::calibration::Calibration;
use super::score::Score;
use super::statistics::{self, Comparison, DRAWS, Interval};

/// One text at one window length, against the reference.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Assessed {
    pub length: usize,
    pub s: f64,
    /// s(x) / median s(H); below 1: less attributable than human writing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r: Option<f64>,
    /// One-sided empirical p-value of being so little attributable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
    /// The same, Benjamini–Hochberg adjusted over the batch at this length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<f64>,
}

/// A group at one window length.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Group {
    pub name: String,
    pub length: usize,
    pub texts: usize,
    pub median_s: Interval,
    /// Median r; the interval resamples the group and the reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_r: Option<Interval>,
    /// Texts with q ≤ 0.05.
    pub novel: usize,
    /// Means of the texts' exact evidence.
    pub longest_span: f64,
    pub coverage_8: f64,
    pub creativity_index: f64,
    pub verbatim: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// Two groups at one window length.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Pair {
    pub first: String,
    pub second: String,
    pub length: usize,
    #[serde(flatten)]
    pub comparison: Comparison,
}

/// Every text's assessments, in the order of `scores`.
pub fn assess(scores: &[Score], calibration: Option<&Calibration>) -> Vec<Vec<Assessed>> {
    let mut out: Vec<Vec<Assessed>> = scores
        .iter()
        .map(|score| {
            score
                .lengths
                .iter()
                .map(|l| {
                    let reference = calibration.filter(|_| !l.short);
                    let (r, p) =
                        (reference.and_then(|c| c.ratio(l.length, l.s)), reference.and_then(|c| c.p(l.length, l.s)));
                    Assessed { length: l.length, s: l.s, r, p, q: None }
                })
                .collect()
        })
        .collect();
    let mut by_length: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
    for (text, list) in out.iter().enumerate() {
        for (at, a) in list.iter().enumerate().filter(|(_, a)| a.p.is_some()) {
            by_length.entry(a.length).or_default().push((text, at));
        }
    }
    for places in by_length.values() {
        let p: Vec<f64> = places.iter().filter_map(|&(text, at)| out[text][at].p).collect();
        for (&(text, at), q) in places.iter().zip(statistics::benjamini_hochberg(&p)) {
            out[text][at].q = Some(q);
        }
    }
    out
}

/// Groups, ordered by name and length. `names[i]` is the group of text i.
pub fn groups(
    scores: &[Score],
    assessed: &[Vec<Assessed>],
    names: &[String],
    calibration: Option<&Calibration>,
    seed: u64,
) -> Vec<Group> {
    let mut members: BTreeMap<(&str, usize), Vec<(usize, &Assessed)>> = BTreeMap::new();
    for (i, list) in assessed.iter().enumerate() {
        for a in list.iter().filter(|a| scores[i].at(a.length).is_some()) {
            members.entry((&names[i], a.length)).or_default().push((i, a));
        }
    }
    members
        .into_iter()
        .filter_map(|((name, length), of)| {
            let s: Vec<f64> = of.iter().map(|m| m.1.s).collect();
            let mean = |f: &dyn Fn(&Score) -> f64| of.iter().map(|m| f(&scores[m.0])).sum::<f64>() / of.len() as f64;
            let reference = calibration.and_then(|c| c.scores.get(&length));
            Some(Group {
                name: name.to_string(),
                length,
                texts: of.len(),
                median_s: statistics::bootstrap_median(&s, DRAWS, seed)?,
                median_r: reference.and_then(|h| statistics::bootstrap_ratio(&s, h, DRAWS, seed)),
                novel: of.iter().filter(|m| m.1.q.is_some_and(|q| q <= 0.05)).count(),
                longest_span: mean(&|s| s.exact.longest_span as f64),
                coverage_8: mean(&|s| s.exact.coverage_8()),
                creativity_index: mean(&|s| s.exact.creativity_index),
                verbatim: of.iter().filter(|m| scores[m.0].exact.verbatim).count(),
                warning: (of.len() == 1)
                    .then(|| "a group of one text: its interval says nothing about other texts".into()),
            })
        })
        .collect()
}

/// Every two groups compared on s at each length: by pairs where texts of both share a value of `pairing` (a prompt), as
/// unpaired groups otherwise.
pub fn compare(scores: &[Score], names: &[String], pairing: Option<&[Option<String>]>, seed: u64) -> Vec<Pair> {
    let mut lengths: Vec<usize> =
        scores.iter().flat_map(|s| s.lengths.iter().filter(|l| !l.short).map(|l| l.length)).collect();
    lengths.sort_unstable();
    lengths.dedup();
    let groups: std::collections::BTreeSet<&String> = names.iter().collect();
    let groups: Vec<&String> = groups.into_iter().collect();
    let mut out = Vec::new();
    for (i, &first) in groups.iter().enumerate() {
        for &second in &groups[i + 1..] {
            for &length in &lengths {
                let of = |group: &String| -> Vec<(usize, f64)> {
                    (0..scores.len())
                        .filter(|&t| &names[t] == group)
                        .filter_map(|t| Some((t, scores[t].at(length)?)))
                        .collect()
                };
                let (a, b) = (of(first), of(second));
                let comparison = match pairing {
                    Some(keys) => {
                        let by_key = |v: &[(usize, f64)]| -> BTreeMap<String, f64> {
                            v.iter().filter_map(|&(t, s)| Some((keys[t].clone()?, s))).collect()
                        };
                        let (a, b) = (by_key(&a), by_key(&b));
                        let differences: Vec<f64> = a.iter().filter_map(|(k, s)| Some(s - b.get(k)?)).collect();
                        statistics::paired_permutation(&differences, DRAWS, seed)
                    }
                    None => {
                        let s = |v: &[(usize, f64)]| v.iter().map(|x| x.1).collect::<Vec<f64>>();
                        statistics::permutation(&s(&a), &s(&b), DRAWS, seed)
                    }
                };
                if let Some(comparison) = comparison {
                    out.push(Pair { first: first.clone(), second: second.clone(), length, comparison });
                }
            }
        }
    }
    out
}
