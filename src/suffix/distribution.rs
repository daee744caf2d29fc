//! Which tokens follow an n-gram, and how often: exact, at any order.
//!
//! The suffixes that begin with an n-gram stand together, sorted by the token that follows. A branch byte below the bits of
//! n + 1 tokens marks the first suffix of each following token, so the distribution is one pass over the branch bytes of the
//! interval and one read of the stream a *distinct* following token.

use std::ops::Range;

use super::Token;
use super::layout::{BLOCK, SuffixView};
use super::search::below;

/// A following token and how often it follows. The separator stands for the end of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    pub token: u32,
    pub count: u64,
}

impl<T: Token> SuffixView<'_, T> {
    /// The tokens that follow the n-gram of `n` tokens whose interval is `ranks`, in token order; counts sum to the interval's length.
    pub fn next_tokens(&self, ranks: Range<usize>, n: usize) -> Vec<Next> {
        if ranks.is_empty() {
            return Vec::new();
        }
        let starts = self.children(&ranks, n);
        const AHEAD: usize = 16;
        let positions: Vec<usize> = starts.iter().map(|&r| self.position(r) + n).collect();
        let mut out = Vec::with_capacity(starts.len());
        for (i, &at) in positions.iter().enumerate() {
            if let Some(&ahead) = positions.get(i + AHEAD) {
                self.prefetch_stream(ahead);
            }
            let token = self.tokens.get(at).map_or(self.meta.separator, |t| t.id());
            let end = starts.get(i + 1).copied().unwrap_or(ranks.end);
            out.push(Next { token, count: (end - starts[i]) as u64 });
        }
        out
    }

    /// First rank of each run of suffixes of `ranks` that share `n + 1` tokens, given that all share `n`.
    fn children(&self, ranks: &Range<usize>, n: usize) -> Vec<usize> {
        let bits = (n as u64 + 1) * self.meta.token_bits as u64;
        let mut starts = vec![ranks.start];
        if bits > 255 {
            // Beyond what branch bytes tell: follow each token to its last suffix, by doubling steps then bisection.
            let token = |r: usize| self.tokens.get(self.position(r) + n).copied();
            let mut at = ranks.start;
            loop {
                let here = token(at);
                let mut step = 1;
                let mut low = at;
                while low + step < ranks.end && token(low + step) == here {
                    low += step;
                    step *= 2;
                }
                let mut high = (low + step).min(ranks.end);
                while low + 1 < high {
                    let mid = low + (high - low) / 2;
                    if token(mid) == here { low = mid } else { high = mid }
                }
                at = high;
                if at >= ranks.end {
                    return starts;
                }
                starts.push(at);
            }
        }
        for b in ranks.start / BLOCK..ranks.end.div_ceil(BLOCK) {
            let mut mask = below(self.branches(b), bits as u32);
            let from = b * BLOCK;
            if from <= ranks.start {
                // The interval's own first suffix is in the list already.
                mask &= u64::MAX.checked_shl((ranks.start - from) as u32 + 1).unwrap_or(0);
            }
            if from + BLOCK > ranks.end {
                mask &= (1u64 << (ranks.end - from)) - 1;
            }
            while mask != 0 {
                starts.push(from + mask.trailing_zeros() as usize);
                mask &= mask - 1;
            }
        }
        starts
    }
}
