//! Windows of a text: the token ranges that are scored, at each length.
//!
//! All windows of one length have exactly that length, so that their scores can be compared: a text of n ≥ L tokens is cut at
//! 0, L, 2L, …, and what is left over becomes a window that ends with the text and overlaps the one before it. Every token is in a
//! window. A text shorter than L has no windows of that length; one shorter than all lengths is a single `short` window.

use std::ops::Range;

/// Windows of `length` in a text of `n` tokens.
pub fn windows(n: usize, length: usize) -> Vec<Range<usize>> {
    if length == 0 || n < length {
        return Vec::new();
    }
    let mut out: Vec<Range<usize>> = (0..n / length).map(|i| i * length..(i + 1) * length).collect();
    if !n.is_multiple_of(length) {
        out.push(n - length..n);
    }
    out
}

/// `range` in the least number of about equal parts of at most `most` tokens.
pub fn parts(range: Range<usize>, most: usize) -> Vec<Range<usize>> {
    let count = range.len().div_ceil(most.max(1));
    (0..count)
        .map(|i| range.start + range.len() * i / count..range.start + range.len() * (i + 1) / count)
        .filter(|r| !r.is_empty())
        .collect()
}

/// What stage 1 searches for one window: the window itself, if it is at most `chunk` tokens (or is less than two chunks and fits
/// the encoder); otherwise windows of a chunk's length in both phases, so that no chunk boundary decides.
pub fn searches(range: Range<usize>, chunk: usize, most: usize) -> Vec<Range<usize>> {
    let chunk = chunk.clamp(1, most.max(1));
    if range.len() < 2 * chunk && range.len() <= most {
        return vec![range];
    }
    let mut out: Vec<Range<usize>> =
        windows(range.len(), chunk).into_iter().map(|r| range.start + r.start..range.start + r.end).collect();
    let mut start = range.start + chunk / 2;
    while chunk > 1 && start + chunk <= range.end {
        out.push(start..start + chunk);
        start += chunk;
    }
    out.sort_by_key(|r| (r.start, r.end));
    out.dedup();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn worked_examples() {
        assert_eq!(windows(100, 50), vec![0..50, 50..100]);
        assert_eq!(windows(120, 50), vec![0..50, 50..100, 70..120]);
        assert!(windows(49, 50).is_empty());
        assert_eq!(parts(0..500, 254), vec![0..250, 250..500]);
        assert_eq!(parts(10..60, 254), vec![10..60]);
        assert_eq!(searches(0..50, 100, 254), vec![0..50]);
        assert_eq!(searches(0..200, 100, 254), vec![0..100, 50..150, 100..200]);
        assert_eq!(searches(0..150, 100, 120), vec![0..100, 50..150]);
    }

    proptest! {
        #[test]
        fn every_token_is_in_a_window_of_the_length(n in 0usize..1200, length in 1usize..600, most in 1usize..300, chunk in 1usize..200) {
            let got = windows(n, length);
            prop_assert_eq!(got.is_empty(), n < length);
            let mut reach = 0;
            for w in &got {
                prop_assert!(w.start <= reach && w.len() == length);
                reach = w.end;
                let cut = parts(w.clone(), most);
                prop_assert!(cut.iter().all(|p| p.len() <= most));
                prop_assert!(cut.windows(2).all(|p| p[0].end == p[1].start) && cut[0].start == w.start && cut[cut.len() - 1].end == w.end);
                let mut at = w.start;
                for s in searches(w.clone(), chunk, most) {
                    prop_assert!(s.len() <= most && s.start <= at && s.end <= w.end);
                    at = at.max(s.end);
                }
                prop_assert_eq!(at, w.end);
            }
            prop_assert!(got.is_empty() || reach == n);
        }
    }
}
