//! The statistics of an audit: medians, empirical p-values, false discovery control, bootstrap, permutation.
//!
//! Everything random takes a seed, so that a report can be made again. Quantiles of named distributions come from `statrs`;
//! what is defined on the sample itself is written out here. None of the functions panics; an empty sample gives `None`.
//!
//! Sources: (k + 1)/(n + 1) of Phipson and Smyth 2010; Benjamini and Hochberg 1995; percentile bootstrap of Efron 1979;
//! exact binomial interval of Clopper and Pearson 1934.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{Beta, ContinuousCDF};

/// Draws of a bootstrap or permutation test, unless asked otherwise.
pub const DRAWS: usize = 2000;

/// A figure with an interval around it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    pub estimate: f64,
    pub low: f64,
    pub high: f64,
}

/// The middle value, or the mean of the two middle ones.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// Quantile `q` of a sample by linear interpolation between order statistics (type 7 of Hyndman and Fan).
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile_sorted(&sorted, q)
}

fn quantile_sorted(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = q.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    Some(sorted[low] + (sorted[high] - sorted[low]) * (at - low as f64))
}

/// One-sided empirical p-value of `value` being as small as it is under a reference sample: (k + 1)/(n + 1), where k values of
/// the n are at most `value`. It is never 0, and valid whatever the distribution.
pub fn p_lower(sorted_reference: &[f64], value: f64) -> f64 {
    let k = sorted_reference.partition_point(|&h| h <= value);
    (k + 1) as f64 / (sorted_reference.len() + 1) as f64
}

/// The other side: as large as it is.
pub fn p_upper(sorted_reference: &[f64], value: f64) -> f64 {
    let k = sorted_reference.len() - sorted_reference.partition_point(|&h| h < value);
    (k + 1) as f64 / (sorted_reference.len() + 1) as f64
}

/// Reference texts needed before an empirical p-value can be as small as `p`: the least n with 1/(n + 1) ≤ p.
pub fn needed_for(p: f64) -> usize {
    if p <= 0.0 { usize::MAX } else { ((1.0 / p - 1e-9).ceil() as usize).saturating_sub(1) }
}

/// Benjamini–Hochberg adjusted p-values, in the order of the input: rejecting those ≤ q keeps the expected share of false
/// rejections at most q.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    let mut adjusted = vec![1.0; p.len()];
    let mut least = 1.0f64;
    for (i, &at) in order.iter().enumerate() {
        let rank = p.len() - i;
        least = least.min(p[at] * p.len() as f64 / rank as f64);
        adjusted[at] = least;
    }
    adjusted
}

/// Median with a 95 % percentile-bootstrap interval. Of one value: that value, with an interval of no width.
pub fn bootstrap_median(values: &[f64], draws: usize, seed: u64) -> Option<Interval> {
    let estimate = median(values)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut medians: Vec<f64> = Vec::with_capacity(draws);
    let mut sample = vec![0.0; values.len()];
    for _ in 0..draws.max(1) {
        sample.iter_mut().for_each(|s| *s = values[random.random_range(0..values.len())]);
        sample.sort_by(f64::total_cmp);
        medians.push(quantile_sorted(&sample, 0.5)?);
    }
    medians.sort_by(f64::total_cmp);
    Some(Interval { estimate, low: quantile_sorted(&medians, 0.025)?, high: quantile_sorted(&medians, 0.975)? })
}

/// What `of` makes of a sample of `n` items, given as the numbers of those drawn (first all of them, once each), with a 95 %
/// percentile-bootstrap interval.
pub fn bootstrap(n: usize, draws: usize, seed: u64, of: impl Fn(&[usize]) -> Option<f64>) -> Option<Interval> {
    let mut chosen: Vec<usize> = (0..n).collect();
    let estimate = of(&chosen)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut found: Vec<f64> = Vec::with_capacity(draws);
    for _ in 0..draws.max(1) {
        chosen.iter_mut().for_each(|c| *c = random.random_range(0..n));
        found.push(of(&chosen)?);
    }
    found.sort_by(f64::total_cmp);
    Some(Interval { estimate, low: quantile_sorted(&found, 0.025)?, high: quantile_sorted(&found, 0.975)? })
}

/// Median of ratios, each value over the median of its reference (value, number of the reference), with a 95 % bootstrap interval
/// that resamples the values and every reference. With one reference: the ratio of the medians.
pub fn bootstrap_ratios(values: &[(f64, usize)], references: &[&[f64]], draws: usize, seed: u64) -> Option<Interval> {
    let of = |values: &[(f64, usize)], medians: &[f64]| {
        let ratios: Option<Vec<f64>> = values.iter().map(|&(v, r)| Some(v / medians.get(r)?)).collect();
        median(&ratios?)
    };
    let medians: Option<Vec<f64>> = references.iter().map(|r| median(r)).collect();
    let estimate = of(values, &medians?)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut found: Vec<f64> = Vec::with_capacity(draws);
    for _ in 0..draws.max(1) {
        let drawn: Vec<(f64, usize)> =
            (0..values.len()).map(|_| values[random.random_range(0..values.len())]).collect();
        let medians: Option<Vec<f64>> = references
            .iter()
            .map(|h| median(&(0..h.len()).map(|_| h[random.random_range(0..h.len())]).collect::<Vec<f64>>()))
            .collect();
        found.push(of(&drawn, &medians?)?);
    }
    found.sort_by(f64::total_cmp);
    Some(Interval { estimate, low: quantile_sorted(&found, 0.025)?, high: quantile_sorted(&found, 0.975)? })
}

/// A comparison of two groups.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Comparison {
    /// Mean of first minus second: over pairs if paired, of the groups' means otherwise.
    pub difference: f64,
    /// Two-sided p-value, never 0.
    pub p: f64,
    /// Whether texts were compared pair by pair.
    pub paired: bool,
    /// Pairs, or texts of both groups.
    pub n: usize,
    /// Whether every permutation was tried (otherwise: [`DRAWS`] random ones).
    pub exact: bool,
}

/// Paired permutation test: the signs of the differences are exchangeable under the null hypothesis. Every sign pattern is
/// tried for up to 12 pairs, `draws` random ones beyond.
pub fn paired_permutation(differences: &[f64], draws: usize, seed: u64) -> Option<Comparison> {
    let n = differences.len();
    let observed: f64 = differences.iter().sum();
    // Sums in another order differ in the last bits; equal patterns must count as equal.
    let least = observed.abs() * (1.0 - 1e-12);
    let exact = n <= 12;
    let p = if n == 0 {
        return None;
    } else if exact {
        let patterns = 1u32 << n;
        let extreme = (0..patterns)
            .filter(|bits| {
                let sum: f64 =
                    differences.iter().enumerate().map(|(i, d)| if bits >> i & 1 == 1 { -d } else { *d }).sum();
                sum.abs() >= least
            })
            .count();
        extreme as f64 / f64::from(patterns)
    } else {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let extreme = (0..draws)
            .filter(|_| {
                differences.iter().map(|d| if random.random::<bool>() { -d } else { *d }).sum::<f64>().abs() >= least
            })
            .count();
        (extreme + 1) as f64 / (draws + 1) as f64
    };
    Some(Comparison { difference: observed / n as f64, p, paired: true, n, exact })
}

/// Permutation test of two unpaired groups on the difference of means.
pub fn permutation(a: &[f64], b: &[f64], draws: usize, seed: u64) -> Option<Comparison> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let difference = mean(a) - mean(b);
    let mut all: Vec<f64> = a.iter().chain(b).copied().collect();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut extreme = 0;
    for _ in 0..draws {
        for i in (1..all.len()).rev() {
            all.swap(i, random.random_range(0..=i));
        }
        let (x, y) = all.split_at(a.len());
        extreme += ((mean(x) - mean(y)).abs() >= difference.abs() * (1.0 - 1e-12)) as usize;
    }
    let p = (extreme + 1) as f64 / (draws + 1) as f64;
    Some(Comparison { difference, p, paired: false, n: all.len(), exact: false })
}

/// Share of successes with its exact 95 % interval.
pub fn share(successes: usize, trials: usize) -> Option<Interval> {
    if trials == 0 || successes > trials {
        return None;
    }
    let (k, n) = (successes as f64, trials as f64);
    let bound = |a: f64, b: f64, p: f64| Beta::new(a, b).map(|d| d.inverse_cdf(p)).ok();
    let low = if successes == 0 { 0.0 } else { bound(k, n - k + 1.0, 0.025)? };
    let high = if successes == trials { 1.0 } else { bound(k + 1.0, n - k, 0.975)? };
    Some(Interval { estimate: k / n, low, high })
}

/// Kolmogorov–Smirnov test of a sample against the uniform distribution on [0, 1]: statistic and asymptotic p-value.
pub fn ks_uniform(values: &[f64]) -> Option<(f64, f64)> {
    if values.is_empty() {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let d = sorted.iter().enumerate().fold(0f64, |d, (i, &x)| d.max((i as f64 + 1.0) / n - x).max(x - i as f64 / n));
    // The correction of Stephens 1970 makes the limit good from n = 5 on.
    let t = d * (n.sqrt() + 0.12 + 0.11 / n.sqrt());
    if t < 0.3 {
        return Some((d, 1.0));
    }
    let p: f64 = (1..=100).map(|j| if j % 2 == 1 { 2.0 } else { -2.0 } * (-2.0 * f64::from(j * j) * t * t).exp()).sum();
    Some((d, p.clamp(0.0, 1.0)))
}

/// Probability that a value of `positive` exceeds one of `negative`, ties half: area under the ROC curve.
pub fn auroc(positive: &[f64], negative: &[f64]) -> Option<f64> {
    if positive.is_empty() || negative.is_empty() {
        return None;
    }
    let wins: f64 = positive
        .iter()
        .flat_map(|p| {
            negative.iter().map(move |n| {
                if p > n {
                    1.0
                } else if p == n {
                    0.5
                } else {
                    0.0
                }
            })
        })
        .sum();
    Some(wins / (positive.len() * negative.len()) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quantiles() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(quantile(&[10.0, 20.0, 30.0, 40.0, 50.0], 0.1), Some(14.0));
        assert_eq!((median(&[]), median(&[7.0])), (None, Some(7.0)));
    }

    #[test]
    fn empirical_p_counts_ties_and_itself() {
        let h = [0.1, 0.2, 0.2, 0.5];
        assert_eq!(p_lower(&h, 0.05), 1.0 / 5.0);
        assert_eq!(p_lower(&h, 0.2), 4.0 / 5.0);
        assert_eq!(p_lower(&h, 0.9), 1.0);
        assert_eq!(p_upper(&h, 0.2), 4.0 / 5.0);
        assert_eq!(p_upper(&h, 0.6), 1.0 / 5.0);
        assert_eq!(p_lower(&[], 0.3), 1.0);
        assert_eq!((needed_for(0.05), needed_for(0.01), needed_for(1.0), needed_for(0.3)), (19, 99, 0, 3));
    }

    #[test]
    fn benjamini_hochberg_by_hand() {
        // Sorted: 0.01·4/1 = 0.04, 0.02·4/2 = 0.04, 0.03·4/3 = 0.04, 0.5·4/4 = 0.5; the input is out of order.
        let got = benjamini_hochberg(&[0.5, 0.01, 0.03, 0.02]);
        for (g, w) in got.iter().zip([0.5, 0.04, 0.04, 0.04]) {
            assert!((g - w).abs() < 1e-12, "{got:?}");
        }
        // 0.005·3 = 0.015; 0.04·3/2 = 0.06; 0.045·3/3 = 0.045 pulls the one before down.
        let got = benjamini_hochberg(&[0.005, 0.04, 0.045]);
        for (g, w) in got.iter().zip([0.015, 0.045, 0.045]) {
            assert!((g - w).abs() < 1e-12, "{got:?}");
        }
        assert!(benjamini_hochberg(&[]).is_empty());
    }

    #[test]
    fn paired_permutation_by_hand() {
        // Of 8 sign patterns of 1, 2, 3 only all-plus and all-minus reach |sum| = 6.
        let c = paired_permutation(&[1.0, 2.0, 3.0], DRAWS, 1).unwrap();
        assert_eq!((c.difference, c.p, c.exact), (2.0, 0.25, true));
        // 1, 2, -3 sums to 0: every pattern is at least as extreme.
        assert_eq!(paired_permutation(&[1.0, 2.0, -3.0], DRAWS, 1).unwrap().p, 1.0);
        assert!(paired_permutation(&[], DRAWS, 1).is_none());
        let many = paired_permutation(&[0.5; 40], DRAWS, 1).unwrap();
        assert!(!many.exact && many.p == 1.0 / 2001.0);
    }

    #[test]
    fn unpaired_permutation_sees_a_shift_and_no_more() {
        let a: Vec<f64> = (0..40).map(|i| f64::from(i % 7)).collect();
        let b: Vec<f64> = a.iter().map(|x| x + 5.0).collect();
        assert!(permutation(&a, &b, DRAWS, 3).unwrap().p < 0.01);
        assert!(permutation(&a, &a, DRAWS, 3).unwrap().p > 0.5);
        assert!(permutation(&a, &[], DRAWS, 3).is_none());
    }

    #[test]
    fn intervals() {
        // Clopper–Pearson for 8 of 10, from tables: 0.4439 to 0.9748.
        let i = share(8, 10).unwrap();
        assert!((i.low - 0.4439).abs() < 1e-3 && (i.high - 0.9748).abs() < 1e-3, "{i:?}");
        assert_eq!(share(0, 5).unwrap().low, 0.0);
        assert_eq!(share(5, 5).unwrap().high, 1.0);
        assert!(share(1, 0).is_none());
        let values: Vec<f64> = (0..101).map(f64::from).collect();
        let m = bootstrap_median(&values, DRAWS, 5).unwrap();
        // The binomial interval of the median of 101 ordered values is the 41st to the 61st.
        assert!(m.estimate == 50.0 && (36.0..=44.0).contains(&m.low) && (56.0..=64.0).contains(&m.high), "{m:?}");
        assert_eq!(bootstrap_median(&[2.0], 100, 1), Some(Interval { estimate: 2.0, low: 2.0, high: 2.0 }));
        assert_eq!(bootstrap_median(&values, 50, 5), bootstrap_median(&values, 50, 5));
        let own: Vec<(f64, usize)> = values.iter().map(|&v| (v, 0)).collect();
        let r = bootstrap_ratios(&own, &[&values], DRAWS, 5).unwrap();
        assert!(r.estimate == 1.0 && r.low < 1.0 && r.high > 1.0);
        // Two domains, the second twice as high: every text is as its own reference.
        let doubled: Vec<f64> = values.iter().map(|v| 2.0 * v).collect();
        let both: Vec<(f64, usize)> = own.iter().copied().chain(doubled.iter().map(|&v| (v, 1))).collect();
        assert_eq!(bootstrap_ratios(&both, &[&values, &doubled], 100, 5).unwrap().estimate, 1.0);
        assert!(bootstrap_ratios(&[], &[&values], 100, 5).is_none());
        let sum = bootstrap(3, 200, 5, |chosen| Some(chosen.iter().map(|&i| values[i]).sum())).unwrap();
        assert!(sum.estimate == 3.0 && sum.low < 3.0 && sum.high > 3.0);
    }

    #[test]
    fn uniformity_and_separation() {
        let even: Vec<f64> = (0..200).map(|i| (f64::from(i) + 0.5) / 200.0).collect();
        assert!(ks_uniform(&even).unwrap().1 > 0.99);
        let squeezed: Vec<f64> = even.iter().map(|x| x * x).collect();
        assert!(ks_uniform(&squeezed).unwrap().1 < 1e-4);
        // d = 0.23 of 50 values: t = 1.656, p = 2·(e^(−2t²) − …) = 0.0083.
        let at: Vec<f64> = (0..50).map(|i| f64::from(i) / 50.0 * 0.77).collect();
        let (d, p) = ks_uniform(&at).unwrap();
        assert!((d - 0.2454).abs() < 1e-9 && (p - 0.0039).abs() < 5e-4, "{d} {p}");
        assert_eq!(auroc(&[2.0, 3.0], &[1.0, 2.0]), Some(3.5 / 4.0));
    }
}
