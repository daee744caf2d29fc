//! Assessment: scores of a batch against a human reference, per text and per group.

use std::collections::BTreeMap;

use super::calibration::Calibration;
use super::probes::{Recall, corrected};
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
    /// One-sided empirical p-value of as many 3-grams being absent from the corpus: an exact witness beside s, the same at every length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_absent: Option<f64>,
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
    /// Share of texts at least as attributable as the median human text (r ≥ 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributable: Option<f64>,
    /// The same, corrected for what the search misses of verbatim, edited and paraphrased passages, by kind of probe.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributable_corrected: BTreeMap<String, Interval>,
    /// Texts proved to have no chunk of cosine τ or more, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certified: Option<usize>,
    /// Means of the texts' exact evidence.
    pub longest_span: f64,
    pub coverage_8: f64,
    pub creativity_index: f64,
    /// Mean share of n-grams absent from the corpus, as [n, share], over the texts long enough.
    #[serde(default)]
    pub n_novelty: Vec<(usize, f64)>,
    /// Texts with a span of 50 tokens.
    pub verbatim: usize,
    /// Texts some 50 tokens of which nearly equal 50 of the corpus (BLEU above 0.75).
    #[serde(default)]
    pub memorised: usize,
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
            let domain = score.domain.as_deref();
            let p_absent = score.exact.absent().and_then(|share| calibration?.p_absent(domain, share));
            score
                .lengths
                .iter()
                .map(|l| {
                    let reference = calibration.filter(|_| !l.short);
                    let (r, p) = (
                        reference.and_then(|c| c.ratio(domain, l.length, l.s)),
                        reference.and_then(|c| c.p(domain, l.length, l.s)),
                    );
                    Assessed { length: l.length, s: l.s, r, p, q: None, p_absent: p_absent.filter(|_| !l.short) }
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

/// The p-value of absent 3-grams from which a text's order of words is doubted.
pub const DOUBTED: f64 = 0.01;

/// Numbers of the texts that late interaction takes for human writing (p above 0.05 at every length) though hardly a human text has as
/// many absent 3-grams ([`DOUBTED`]): shuffled or random words, of which s sees the vocabulary and not the order.
pub fn disordered(assessed: &[Vec<Assessed>]) -> Vec<usize> {
    let of = |list: &Vec<Assessed>| {
        list.iter().any(|a| a.p_absent.is_some_and(|p| p <= DOUBTED))
            && list.iter().all(|a| a.p.is_none_or(|p| p > 0.05))
    };
    (0..assessed.len()).filter(|&i| of(&assessed[i])).collect()
}

/// How a group's median r goes with the window length.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Effect {
    pub name: String,
    /// Change of the median r for each doubling of the window length, over texts that have all of the lengths.
    pub per_doubling: Interval,
    /// Those lengths.
    pub lengths: Vec<usize>,
    /// Those texts.
    pub texts: usize,
}

/// The effect of window length in each group: the slope of the median r over log2 of the length, with a bootstrap interval over the
/// texts that are long enough for every length at least half of the group's texts have. Groups with fewer than two such lengths or texts
/// have none: one text says nothing about others.
pub fn effects(assessed: &[Vec<Assessed>], names: &[String], seed: u64) -> Vec<Effect> {
    let mut members: BTreeMap<&str, Vec<BTreeMap<usize, f64>>> = BTreeMap::new();
    for (list, name) in assessed.iter().zip(names) {
        let of: BTreeMap<usize, f64> = list.iter().filter_map(|a| Some((a.length, a.r?))).collect();
        members.entry(name).or_default().push(of);
    }
    let slope = |points: &[(f64, f64)]| {
        let n = points.len() as f64;
        let (x, y) = points.iter().fold((0.0, 0.0), |m, p| (m.0 + p.0 / n, m.1 + p.1 / n));
        let over: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
        over / points.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>()
    };
    members
        .into_iter()
        .filter_map(|(name, texts)| {
            let mut have: BTreeMap<usize, usize> = BTreeMap::new();
            texts.iter().flat_map(BTreeMap::keys).for_each(|&l| *have.entry(l).or_default() += 1);
            let lengths: Vec<usize> = have.into_iter().filter(|&(_, n)| 2 * n >= texts.len()).map(|(l, _)| l).collect();
            let rows: Vec<Vec<f64>> = texts
                .iter()
                .filter_map(|t| lengths.iter().map(|l| t.get(l).copied()).collect::<Option<Vec<f64>>>())
                .collect();
            if lengths.len() < 2 || rows.len() < 2 {
                return None;
            }
            let per_doubling = statistics::bootstrap(rows.len(), DRAWS, seed, |chosen| {
                let points: Option<Vec<(f64, f64)>> = lengths
                    .iter()
                    .enumerate()
                    .map(|(i, &l)| {
                        let column: Vec<f64> = chosen.iter().map(|&t| rows[t][i]).collect();
                        Some(((l as f64).log2(), statistics::median(&column)?))
                    })
                    .collect();
                Some(slope(&points?))
            })?;
            Some(Effect { name: name.into(), per_doubling, lengths, texts: rows.len() })
        })
        .collect()
}

/// Groups, ordered by name and length. `names[i]` is the group of text i; `recall` corrects.
pub fn groups(
    scores: &[Score],
    assessed: &[Vec<Assessed>],
    names: &[String],
    calibration: Option<&Calibration>,
    recall: &[Recall],
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
            // Each text is measured by the reference of its domain, so the interval resamples them all.
            let mut references: Vec<(Option<&str>, &[f64])> = Vec::new();
            let mut values: Vec<(f64, usize)> = Vec::new();
            for (i, a) in &of {
                let domain = scores[*i].domain.as_deref();
                let Some(h) = calibration.and_then(|c| c.reference(domain, length)) else { continue };
                let at = references.iter().position(|r| r.0 == domain).unwrap_or_else(|| {
                    references.push((domain, h));
                    references.len() - 1
                });
                values.push((a.s, at));
            }
            let references: Vec<&[f64]> = references.into_iter().map(|r| r.1).collect();
            let ratios: Vec<f64> = of.iter().filter_map(|m| m.1.r).collect();
            let attributable =
                (!ratios.is_empty()).then(|| ratios.iter().filter(|&&r| r >= 1.0).count() as f64 / ratios.len() as f64);
            let attributable_corrected = attributable.map_or_else(BTreeMap::new, |found| {
                let of_length = recall.iter().filter(|r| r.length == length);
                of_length.filter_map(|r| Some((r.kind(), corrected(found, &r.first)?))).collect()
            });
            let lengths = || of.iter().filter_map(|m| scores[m.0].lengths.iter().find(|l| l.length == length));
            let certified = lengths()
                .any(|l| l.certified.is_some())
                .then(|| lengths().filter(|l| l.certified == Some(true)).count());
            let mut n_novelty: BTreeMap<usize, (f64, usize)> = BTreeMap::new();
            for (n, share) in of.iter().flat_map(|m| &scores[m.0].exact.n_novelty) {
                let sum = n_novelty.entry(*n).or_default();
                *sum = (sum.0 + share, sum.1 + 1);
            }
            Some(Group {
                name: name.to_string(),
                length,
                texts: of.len(),
                median_s: statistics::bootstrap_median(&s, DRAWS, seed)?,
                median_r: statistics::bootstrap_ratios(&values, &references, DRAWS, seed),
                novel: of.iter().filter(|m| m.1.q.is_some_and(|q| q <= 0.05)).count(),
                attributable,
                attributable_corrected,
                certified,
                longest_span: mean(&|s| s.exact.longest_span as f64),
                coverage_8: mean(&|s| s.exact.coverage_8()),
                creativity_index: mean(&|s| s.exact.creativity_index),
                n_novelty: n_novelty.into_iter().map(|(n, (sum, of))| (n, sum / of as f64)).collect(),
                verbatim: of.iter().filter(|m| scores[m.0].exact.verbatim).count(),
                memorised: of.iter().filter(|m| scores[m.0].exact.memorised()).count(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_without_order_are_told_only_where_late_interaction_sees_nothing() {
        let text = |p: &[f64], p_absent: Option<f64>| -> Vec<Assessed> {
            let at = |(i, &p): (usize, &f64)| Assessed {
                length: 25 << i,
                s: 0.5,
                r: Some(1.0),
                p: Some(p),
                q: None,
                p_absent,
            };
            p.iter().enumerate().map(at).collect()
        };
        let texts = [
            text(&[0.5, 0.6], Some(0.005)),
            // Found novel at one length already.
            text(&[0.5, 0.02], Some(0.005)),
            // As many absent 3-grams as human texts have.
            text(&[0.5, 0.6], Some(0.2)),
            text(&[0.5], None),
            Vec::new(),
        ];
        assert_eq!(disordered(&texts), [0]);
    }
}
