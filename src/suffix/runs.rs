//! Runs: blocks that begin with the same 64 bits, which the top level cannot tell apart.
//!
//! One byte a block says how many bits its first suffix shares with the first suffix of the block before. So the blocks of a run
//! are a Patricia trie as the suffixes of one block are: a query is located among them blindly, then verified against a single
//! suffix, where a bisection compares it with one suffix a step. The bytes take 16 MB a billion tokens and are read one after another.

use std::cmp::Ordering;

use super::Token;
use super::bits::Prefix;
use super::kernel::Kernel;
use super::layout::{BLOCK, SuffixView, prefetch};
use super::search::{Query, parting, walk};

/// The longest run that is read blindly (a thousand steps of 64 blocks); of a longer one, bisecting leaves a part. Short in tests, so that they
/// do both.
const LONGEST: usize = if cfg!(test) { 1 << 8 } else { 1 << 16 };

/// Where a query stands among the blocks of a run.
pub(super) enum Stand {
    /// The first block whose first suffix is not less than the query, and the first one whose suffix is greater and does not begin with it.
    At(usize, usize),
    /// Both are among these blocks, whose first suffixes share all the bits that are known.
    Among(usize, usize),
}

impl<T: Token> SuffixView<'_, T> {
    /// Whether the blocks `low..high` of a run can be read blindly.
    #[inline(always)]
    pub(super) fn has_run(&self, low: usize, high: usize) -> bool {
        !self.runs.is_empty() && high - low <= LONGEST
    }

    /// Where `q`, of more than 64 bits, stands among the blocks of the run `low..high`.
    ///
    /// Cost: one read of the suffix array and of the stream; one more of each for every halving of a run that is too long to be read blindly.
    #[inline(always)]
    pub(super) fn stand_among<K: Kernel>(&self, q: &Query<T>, low: usize, high: usize) -> Stand {
        if self.runs.is_empty() || low == high {
            return Stand::Among(low, high);
        }
        let (mut low, mut high) = (low, high);
        while high - low > LONGEST {
            let middle = low + (high - low) / 2;
            match self.order(middle * BLOCK, q.tokens) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal if q.bits > 255 => return Stand::Among(low, high),
                Ordering::Equal => {
                    let first = self.run_start_before::<K>(low, middle, q.bits);
                    return Stand::At(first, self.run_end_after::<K>(middle + 1, high, q.bits));
                }
            }
        }
        self.stand::<K>(q, low, high, self.descend_run::<K>(low, high, &q.prefix))
    }

    /// Loads the lines of a run ahead of use.
    #[inline(always)]
    pub(super) fn prefetch_run(&self, low: usize, high: usize) {
        for line in (low / BLOCK * BLOCK..high).step_by(BLOCK).take(8) {
            prefetch(self.runs, line);
        }
    }

    /// The 64 bytes of the runs that begin with block `from`, a multiple of 64; zeros where there are none, which takes damaged bytes.
    #[inline(always)]
    fn run_bytes(&self, from: usize) -> &[u8; BLOCK] {
        self.runs.get(from..from + BLOCK).and_then(|bytes| bytes.try_into().ok()).unwrap_or(&[0; BLOCK])
    }

    /// The first of the blocks `from..to` whose byte is below `limit`, or `to`.
    #[inline(always)]
    fn run_end_after<K: Kernel>(&self, from: usize, to: usize, limit: u32) -> usize {
        let mut at = from;
        while at < to {
            let start = at / BLOCK * BLOCK;
            let found = K::below(self.run_bytes(start), limit) & (u64::MAX << (at - start));
            if found != 0 {
                return to.min(start + found.trailing_zeros() as usize);
            }
            at = start + BLOCK;
        }
        to
    }

    /// The last of the blocks `low + 1..=at` whose byte is below `limit`, or `low`.
    #[inline(always)]
    fn run_start_before<K: Kernel>(&self, low: usize, at: usize, limit: u32) -> usize {
        let mut at = at;
        loop {
            let start = at / BLOCK * BLOCK;
            let found = K::below(self.run_bytes(start), limit) & (u64::MAX >> (BLOCK - 1 - (at - start)));
            if found != 0 {
                return low.max(start + BLOCK - 1 - found.leading_zeros() as usize);
            }
            if start <= low {
                return low;
            }
            at = start - 1;
        }
    }

    /// The block of the run `low..high` whose first suffix shares the longest prefix with `query`, if any shares more than the run does.
    ///
    /// As [`descend`](super::search::descend), whose masks go from 64 blocks to the next.
    #[inline(always)]
    pub(super) fn descend_run<K: Kernel>(&self, low: usize, high: usize, query: &Prefix) -> usize {
        let mut at = low;
        // While passing over: blocks that share at least so many bits.
        let mut passing: Option<u32> = None;
        let mut start = (low + 1) / BLOCK * BLOCK;
        while start < high {
            let bytes = self.run_bytes(start);
            let mut inside = u64::MAX >> (BLOCK - (high - start).min(BLOCK));
            if start <= low {
                inside &= (u64::MAX << (low - start)) << 1;
            }
            let here = start;
            start += BLOCK;
            let mut left = inside & K::below(bytes, 255);
            if let Some(limit) = passing {
                let ends = left & K::below(bytes, limit);
                if ends == 0 {
                    continue;
                }
                left &= u64::MAX << ends.trailing_zeros();
            }
            let (slot, beyond) = walk::<K>(bytes, left, K::ones(bytes, query), BLOCK);
            if slot < BLOCK {
                at = here + slot;
            }
            passing = beyond;
        }
        at
    }

    /// Where `q`, of more than 64 bits, stands among the blocks of the run `low..high`, given the one that
    /// [`descend_run`](Self::descend_run) reached. Cost: one read of the stream.
    #[inline(always)]
    pub(super) fn stand<K: Kernel>(&self, q: &Query<T>, low: usize, high: usize, at: usize) -> Stand {
        let (shared, greater) = match parting(self.suffix(at * BLOCK), q.tokens, self.meta.token_bits).1 {
            None if q.bits <= 255 => return Stand::At(at, self.run_end_after::<K>(at + 1, high, q.bits)),
            None => (q.bits, false),
            Some(parted) => parted,
        };
        if shared >= 255 {
            return Stand::Among(at, self.run_end_after::<K>(at + 1, high, 255));
        }
        let next = if greater {
            self.run_end_after::<K>(at + 1, high, shared + 1)
        } else {
            self.run_start_before::<K>(low, at, shared + 1)
        };
        Stand::At(next, next)
    }
}
