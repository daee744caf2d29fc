//! Does a model score better on what leaked? Per benchmark and protocol, the scores of its clean items beside those of its dirty ones.
//!
//! - **score of clean, of dirty, of all**: means with 95 % intervals (exact binomial for scores of 0 and 1, bootstrap otherwise).
//! - **difference**: dirty minus clean, with the p-value of a permutation test. Dirty items may be easier for other reasons than
//!   having been seen: a small p says that the groups differ, not why.
//! - **gain**: score of all minus score of clean, the *estimated performance gain* from contamination of the Llama 3 report (2024),
//!   with a bootstrap interval over items.
//!
//! An item is dirty when any document of the run is dirty with it under the protocol. Seeds are fixed: the same input gives the same
//! figures. Cost: at most [`DRAWS`] draws of a benchmark's items, fewer for large ones.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::decontaminate::Protocol;
use crate::novelty::statistics::{DRAWS, Interval, permutation, quantile, share};

/// Item draws per bootstrap or permutation test; what bounds the time for benchmarks of many thousand items.
const WORK: usize = 20_000_000;
/// Fewest draws.
const LEAST_DRAWS: usize = 400;
const SEED: u64 = 20_240_731;

/// One benchmark under one protocol.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Study {
    pub benchmark: String,
    pub protocol: Protocol,
    /// Items with a score, and how many of them are clean and dirty.
    pub items: usize,
    pub clean: usize,
    pub dirty: usize,
    pub score_all: Option<Interval>,
    /// `None` without such items.
    pub score_clean: Option<Interval>,
    pub score_dirty: Option<Interval>,
    /// Dirty minus clean, and its two-sided p-value.
    pub difference: Option<f64>,
    pub p: Option<f64>,
    /// All minus clean.
    pub gain: Option<Interval>,
}

/// Compares the scores of a benchmark's items, by item id, given those that are dirty.
pub fn study(benchmark: &str, protocol: Protocol, scores: &BTreeMap<String, f64>, dirty: &BTreeSet<String>) -> Study {
    let flagged: Vec<(f64, bool)> = scores.iter().map(|(id, score)| (*score, dirty.contains(id))).collect();
    let of = |wanted: bool| flagged.iter().filter(|(_, d)| *d == wanted).map(|(s, _)| *s).collect::<Vec<f64>>();
    let (clean, dirty) = (of(false), of(true));
    let all: Vec<f64> = flagged.iter().map(|(s, _)| *s).collect();
    let compared = permutation(&dirty, &clean, draws(all.len()), SEED);
    Study {
        benchmark: benchmark.to_string(),
        protocol,
        items: all.len(),
        clean: clean.len(),
        dirty: dirty.len(),
        score_all: mean_interval(&all),
        score_clean: mean_interval(&clean),
        score_dirty: mean_interval(&dirty),
        difference: compared.map(|c| c.difference),
        p: compared.map(|c| c.p),
        gain: gain(&flagged),
    }
}

fn draws(items: usize) -> usize {
    (WORK / items.max(1)).clamp(LEAST_DRAWS, DRAWS)
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Mean with its 95 % interval.
fn mean_interval(values: &[f64]) -> Option<Interval> {
    if values.iter().all(|v| *v == 0.0 || *v == 1.0) {
        return share(values.iter().filter(|v| **v == 1.0).count(), values.len());
    }
    let estimate = mean(values)?;
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let resampled = (0..draws(values.len())).map(|_| {
        let sum: f64 = (0..values.len()).map(|_| values[random.random_range(0..values.len())]).sum();
        sum / values.len() as f64
    });
    around(estimate, resampled.collect())
}

/// Mean of all minus mean of the clean ones; `None` without a clean item.
fn gain(items: &[(f64, bool)]) -> Option<Interval> {
    let of = |sample: &mut dyn Iterator<Item = (f64, bool)>| -> Option<f64> {
        let (mut all, mut clean) = ((0.0, 0u64), (0.0, 0u64));
        for (score, dirty) in sample {
            all = (all.0 + score, all.1 + 1);
            if !dirty {
                clean = (clean.0 + score, clean.1 + 1);
            }
        }
        (clean.1 > 0).then(|| all.0 / all.1 as f64 - clean.0 / clean.1 as f64)
    };
    let estimate = of(&mut items.iter().copied())?;
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let resampled = (0..draws(items.len()))
        .filter_map(|_| of(&mut (0..items.len()).map(|_| items[random.random_range(0..items.len())])))
        .collect();
    around(estimate, resampled)
}

fn around(estimate: f64, resampled: Vec<f64>) -> Option<Interval> {
    Some(Interval { estimate, low: quantile(&resampled, 0.025)?, high: quantile(&resampled, 0.975)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(clean: &[f64], dirty: &[f64]) -> Study {
        let scores = clean.iter().chain(dirty).enumerate().map(|(i, s)| (format!("{i:04}"), *s)).collect();
        let leaked = (clean.len()..clean.len() + dirty.len()).map(|i| format!("{i:04}")).collect();
        study("b", Protocol::Priorart, &scores, &leaked)
    }

    #[test]
    fn a_worked_example() {
        // 40 clean items with 20 right, 10 dirty ones with 9 right: 29 of 50 in all, so the gain is .58 - .50 = .08.
        let clean: Vec<f64> = (0..40).map(|i| f64::from(i % 2)).collect();
        let mut dirty = vec![1.0; 10];
        dirty[3] = 0.0;
        let s = scored(&clean, &dirty);
        assert_eq!((s.items, s.clean, s.dirty), (50, 40, 10));
        assert!((s.score_all.unwrap().estimate - 0.58).abs() < 1e-12);
        assert_eq!((s.score_clean.unwrap().estimate, s.score_dirty.unwrap().estimate), (0.5, 0.9));
        assert!((s.difference.unwrap() - 0.4).abs() < 1e-12);
        let gain = s.gain.unwrap();
        assert!((gain.estimate - 0.08).abs() < 1e-12 && gain.low > 0.0 && gain.high < 0.2, "{gain:?}");
        // Fisher's exact test of 9 of 10 against 20 of 40: the two-sided p is .0317 (R: fisher.test).
        assert!((s.p.unwrap() - 0.0317).abs() < 0.015, "{:?}", s.p);
        assert_eq!(s, scored(&clean, &dirty), "the same figures again");
    }

    #[test]
    fn groups_that_do_not_differ_and_groups_that_are_empty() {
        let even: Vec<f64> = (0..60).map(|i| f64::from(i % 3) / 2.0).collect();
        let s = scored(&even, &even);
        assert!(s.p.unwrap() > 0.9 && s.gain.unwrap().estimate.abs() < 1e-12);
        let interval = s.score_clean.unwrap();
        assert!(interval.low < 0.5 && interval.high > 0.5, "bootstrap, as scores lie between: {interval:?}");
        let s = scored(&even, &[]);
        assert_eq!((s.score_dirty, s.difference, s.p), (None, None, None));
        assert_eq!(s.gain.unwrap().estimate, 0.0);
        let s = scored(&[], &even);
        assert_eq!((s.score_clean, s.gain), (None, None));
    }
}
