//! What follows from a trace: coverage, creativity index, n-novelty.
//!
//! All of them are functions of the longest match at each token, so one pass gives every length.

/// Share of the text's tokens inside a match of at least `min_tokens` tokens (coverage_L).
///
/// `longest[i]` is the length of the longest match that starts at token `i`.
pub fn coverage(longest: &[usize], min_tokens: usize) -> f64 {
    if longest.is_empty() {
        return 0.0;
    }
    let (mut covered, mut reach) = (0usize, 0usize);
    for (i, &n) in longest.iter().enumerate() {
        if n >= min_tokens.max(1) {
            reach = reach.max(i + n);
        }
        covered += (i < reach) as usize;
    }
    covered as f64 / longest.len() as f64
}

/// Creativity index: the sum over L of 1 − coverage_L, for L in `lengths` (5 to 12 in the publication).
pub fn creativity_index(longest: &[usize], lengths: std::ops::RangeInclusive<usize>) -> f64 {
    lengths.map(|l| 1.0 - coverage(longest, l)).sum()
}

/// Share of the text's n-grams that do not occur in the corpus; `None` for a text shorter than n tokens.
pub fn n_novelty(longest: &[usize], n: usize) -> Option<f64> {
    if n == 0 || longest.len() < n {
        return None;
    }
    let grams = longest.len() - n + 1;
    Some(longest[..grams].iter().filter(|&&l| l < n).count() as f64 / grams as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_example() {
        // Tokens 0..=3 are one match of 4 (so 3, 2, 1 follow), token 4 is unknown, 5 and 6 a match of 2.
        let longest = [4, 3, 2, 1, 0, 2, 1];
        assert_eq!(coverage(&longest, 1), 6.0 / 7.0);
        assert_eq!(coverage(&longest, 2), 6.0 / 7.0);
        assert_eq!(coverage(&longest, 3), 4.0 / 7.0);
        assert_eq!(coverage(&longest, 5), 0.0);
        assert!((creativity_index(&longest, 2..=3) - (1.0 / 7.0 + 3.0 / 7.0)).abs() < 1e-12);
        assert_eq!(n_novelty(&longest, 1), Some(1.0 / 7.0));
        assert_eq!(n_novelty(&longest, 2), Some(2.0 / 6.0));
        assert_eq!(n_novelty(&longest, 8), None);
        assert_eq!(coverage(&[], 1), 0.0);
    }
}
