//! Intervals and longest matches.
//!
//! # How a query is located
//!
//! The query's bits, padded with zeros, are looked up among the keys of the top level. For a query of at most 64 bits that
//! alone says which blocks' first suffixes begin with it; both ends of the interval are then found in the branch bytes,
//! without reading the stream. Otherwise one block is left, and its branch bytes are read as a Patricia trie: descending by the
//! query's bits ends at the suffix that shares the longest prefix with the query among all of the block, if any
//! shares anything at all; comparing the query with that one suffix tells how long the shared prefix is, and the branch bytes
//! then tell where the query belongs and how far the suffixes that begin with it reach.
//!
//! Where several blocks have the same key, they are a trie as well (see `runs.rs`); where they
//! share more bits than a byte tells, their first suffixes are compared with the query by bisection.

use std::cmp::Ordering;
use std::ops::Range;

use super::Token;
use super::bits::{self, Prefix};
use super::kernel::{Kernel, Task, dispatch};
use super::layout::{BLOCK, SuffixView};
use super::runs::Stand;

/// Where a query stands in a block.
pub(super) struct Place {
    /// Slot of the suffix compared with the query: none of the block shares a longer prefix with it.
    pub slot: usize,
    /// Tokens the query shares with that suffix.
    pub tokens: usize,
    /// First slot whose suffix is not less than the query (the block's length if all are).
    pub lower: usize,
}

/// A query prepared for searching.
#[derive(Clone, Copy)]
pub(super) struct Query<'q, T> {
    pub tokens: &'q [T],
    pub bits: u32,
    pub prefix: Prefix,
}

impl<'q, T: Token> Query<'q, T> {
    #[inline(always)]
    pub fn new(tokens: &'q [T], token_bits: u32) -> Self {
        Query { tokens, bits: (tokens.len() as u32).saturating_mul(token_bits), prefix: bits::pack(tokens, token_bits) }
    }
    /// The least key of a suffix that begins with the query.
    #[inline(always)]
    pub fn low(&self) -> u64 {
        self.prefix[0]
    }
    /// The greatest key of a suffix that begins with the query.
    #[inline(always)]
    pub fn high(&self) -> u64 {
        if self.bits >= 64 { self.prefix[0] } else { self.prefix[0] | (u64::MAX >> self.bits) }
    }
}

/// Descends the branch bytes of a block's first `len` suffixes by the bits of `query`: the slot reached.
///
/// The suffixes in order, each with the bit at which it leaves the one before, are the trie in preorder: where the query has a one at
/// that bit it may go on to the suffix, where it has a zero it passes over all that share more than that bit. Cost: one
/// step a zero on the query's path.
#[inline(always)]
pub(super) fn descend<K: Kernel>(branches: &[u8; BLOCK], len: usize, query: &Prefix) -> usize {
    let ones = K::ones(branches, query);
    // At the cap, which bit differs is not known; such suffixes stay together, behind the first of them.
    let left = K::below(branches, 255) & (u64::MAX >> (BLOCK - len.clamp(1, BLOCK))) & !1;
    walk::<K>(branches, left, ones, 0).0
}

/// Goes on among the slots `left` of 64 branch bytes, given those where the query has a one: the last slot that it goes to, or `at` if it
/// goes to none, and, if it is passing over slots at the end, what the first one beyond must share less than.
#[inline(always)]
pub(super) fn walk<K: Kernel>(branches: &[u8; BLOCK], mut left: u64, ones: u64, mut at: usize) -> (usize, Option<u32>) {
    loop {
        let zeros = left & !ones;
        let passed = if zeros == 0 { left } else { left & (zeros ^ (zeros - 1)) & !zeros };
        if passed != 0 {
            at = 63 - passed.leading_zeros() as usize;
        }
        if zeros == 0 {
            return (at, None);
        }
        let zero = zeros.trailing_zeros() as usize;
        // Slots after this one, up to the first that shares no more than this one does.
        let limit = branches[zero % BLOCK] as u32 + 1;
        let ends = left & (u64::MAX << zero << 1) & K::below(branches, limit);
        if ends == 0 {
            return (at, Some(limit));
        }
        left &= u64::MAX << ends.trailing_zeros();
    }
}

/// How many tokens a suffix shares with a query and, unless it begins with the query, how many bits, and whether the query is greater.
#[inline(always)]
pub(super) fn parting<T: Token>(suffix: &[T], query: &[T], token_bits: u32) -> (usize, Option<(u32, bool)>) {
    let tokens = bits::common_tokens(suffix, query);
    let Some(&wanted) = query.get(tokens) else { return (tokens, None) };
    let shared = tokens as u32 * token_bits;
    let at = match suffix.get(tokens) {
        None => (shared, true),
        Some(&t) => {
            let differ = (t.id() ^ wanted.id()) << (32 - token_bits);
            (shared + differ.leading_zeros(), wanted > t)
        }
    };
    (tokens, Some(at))
}

/// First slot after `from` whose branch byte is below `limit`, or `len`.
#[inline(always)]
pub(super) fn run_end<K: Kernel>(branches: &[u8; BLOCK], len: usize, from: usize, limit: u32) -> usize {
    let rest = K::below(branches, limit).checked_shr(from as u32 + 1).unwrap_or(0);
    if rest == 0 { len } else { (from + 1 + rest.trailing_zeros() as usize).min(len) }
}

/// Last slot at or before `from` whose branch byte is below `limit`, or 0: the start of the run that `from` belongs to.
#[inline(always)]
pub(super) fn run_start<K: Kernel>(branches: &[u8; BLOCK], from: usize, limit: u32) -> usize {
    let rest = K::below(branches, limit) << (63 - from as u32);
    from.saturating_sub(rest.leading_zeros() as usize)
}

/// How a suffix compares with a query; `Equal` when it begins with it.
#[inline(always)]
pub(super) fn compare<T: Token>(suffix: &[T], query: &[T]) -> Ordering {
    let n = bits::common_tokens(suffix, query);
    match (suffix.get(n), query.get(n)) {
        (_, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(a), Some(b)) => a.cmp(b),
    }
}

/// A longest match: how many tokens of the query occur, and a rank where they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Longest {
    pub tokens: usize,
    pub rank: usize,
}

impl<'a, T: Token> SuffixView<'a, T> {
    /// Ranks of the suffixes that begin with `query`. An empty query has all of them, one that contains the separator none.
    ///
    /// Cost: the top level, one or two blocks, and for queries longer than 64 bits one read of the stream; more where more than
    /// 64 suffixes share the query's first 64 bits.
    pub fn interval(&self, query: &[T]) -> Range<usize> {
        if query.is_empty() {
            return 0..self.ranks();
        }
        if self.ranks() == 0 || self.has_separator(query) {
            return 0..0;
        }
        dispatch(self.shape.isa, Interval { view: *self, query })
    }

    #[inline(always)]
    fn interval_with<K: Kernel>(&self, query: &[T]) -> Range<usize> {
        let q = Query::new(query, self.meta.token_bits);
        let (low, high) = self.blocks_between::<K>(q.low(), q.high());
        if low < high {
            self.prefetch_branches(low);
            self.prefetch_branches(high - 1);
        }
        self.interval_between::<K>(&q, low, high)
    }

    /// [`interval`](Self::interval), given how many blocks' keys are below the query's least key and at most its greatest.
    #[inline(always)]
    pub(super) fn interval_between<K: Kernel>(&self, q: &Query<T>, low: usize, high: usize) -> Range<usize> {
        if q.bits <= 64 && low < high {
            return self.interval_spanning::<K>(q, low, high);
        }
        if low == high {
            // No block's first suffix begins with the query: the interval is inside one block.
            return if low == 0 { 0..0 } else { self.interval_in::<K>(q, low - 1) };
        }
        self.interval_among::<K>(q, low, high)
    }

    /// Start of the run of suffixes sharing `bits` bits that the first suffix of block `b` belongs to, given that it
    /// starts in block `b - 1` or at `b`.
    #[inline(always)]
    fn extend_left<K: Kernel>(&self, b: usize, bits: u32) -> usize {
        if b == 0 || (self.branches(b)[0] as u32) < bits {
            return b * BLOCK;
        }
        (b - 1) * BLOCK + run_start::<K>(self.branches(b - 1), BLOCK - 1, bits)
    }

    /// End of the run of suffixes sharing `bits` bits that slot `slot` of block `b` belongs to, given that it ends in that block.
    #[inline(always)]
    fn extend_right<K: Kernel>(&self, b: usize, slot: usize, bits: u32) -> usize {
        b * BLOCK + run_end::<K>(self.branches(b), self.block_len(b), slot, bits)
    }

    /// The interval, given that it lies inside block `b` (whose first suffix is less than the query).
    #[inline(always)]
    pub(super) fn interval_in<K: Kernel>(&self, q: &Query<T>, b: usize) -> Range<usize> {
        let len = self.block_len(b);
        let slot = descend::<K>(self.branches(b), len, &q.prefix);
        self.verify_in::<K>(q, b, slot)
    }

    /// The interval inside block `b`, given the slot that [`descend`] reached.
    #[inline(always)]
    pub(super) fn verify_in<K: Kernel>(&self, q: &Query<T>, b: usize, slot: usize) -> Range<usize> {
        let rank = b * BLOCK + slot;
        if q.bits <= 255 {
            if !self.suffix(rank).starts_with(q.tokens) {
                return rank..rank;
            }
            return rank..self.extend_right::<K>(b, slot, q.bits);
        }
        // Beyond the cap: the suffixes that share 255 bits stand together from `slot` on.
        let end = self.extend_right::<K>(b, slot, 255);
        self.bisect(q.tokens, rank..end)
    }

    /// The interval when blocks `low..high` have the same key as a query longer than that key.
    #[cold]
    fn interval_among<K: Kernel>(&self, q: &Query<T>, low: usize, high: usize) -> Range<usize> {
        let (first, last) = self.ends_among::<K>(q, low, high);
        if first == last {
            // Nothing begins with the query but inside block first - 1.
            return first.checked_sub(1).map_or(0..0, |b| self.interval_in::<K>(q, b));
        }
        self.interval_spanning::<K>(q, first, last)
    }

    /// Of blocks `low..high`, whose keys are that of a query longer than a key: the first whose first suffix is not less than the query, and the
    /// first one behind those whose suffixes begin with it.
    #[inline(always)]
    fn ends_among<K: Kernel>(&self, q: &Query<T>, low: usize, high: usize) -> (usize, usize) {
        let (from, to) = match self.stand_among::<K>(q, low, high) {
            Stand::At(first, last) => return (first, last),
            Stand::Among(from, to) => (from, to),
        };
        let first = self.partition(from..to, |b| self.order(b * BLOCK, q.tokens) == Ordering::Less);
        let last = self.partition(first..to, |b| self.order(b * BLOCK, q.tokens) != Ordering::Greater);
        (first, last)
    }

    /// The interval when the first suffixes of blocks `first..last`, one at least, are all those that begin with the query.
    #[inline(always)]
    pub(super) fn interval_spanning<K: Kernel>(&self, q: &Query<T>, first: usize, last: usize) -> Range<usize> {
        if q.bits <= 255 {
            return self.extend_left::<K>(first, q.bits)..self.extend_right::<K>(last - 1, 0, q.bits);
        }
        let start = match first.checked_sub(1).map(|b| self.interval_in::<K>(q, b)) {
            Some(inside) if !inside.is_empty() => inside.start,
            _ => first * BLOCK,
        };
        let from = (last - 1) * BLOCK;
        let to = self.extend_right::<K>(last - 1, 0, 255);
        start..self.partition(from..to, |r| self.order(r, q.tokens) != Ordering::Greater)
    }

    /// How the suffix at `rank` compares with `query`; `Equal` when it begins with it.
    pub(super) fn order(&self, rank: usize, query: &[T]) -> Ordering {
        compare(self.suffix(rank), query)
    }

    fn bisect(&self, query: &[T], ranks: Range<usize>) -> Range<usize> {
        let start = self.partition(ranks.clone(), |r| self.order(r, query) == Ordering::Less);
        let end = self.partition(start..ranks.end, |r| self.order(r, query) != Ordering::Greater);
        start..end
    }

    /// First index of `range` for which `below` is false.
    fn partition(&self, range: Range<usize>, below: impl Fn(usize) -> bool) -> usize {
        let (mut lo, mut hi) = (range.start, range.end);
        while lo < hi {
            let mid = lo + (hi - lo) / 2;
            if below(mid) { lo = mid + 1 } else { hi = mid }
        }
        lo
    }

    /// The longest prefix of `query` that occurs in the stream, and a rank where it does. The separator in a query matches nothing.
    pub fn longest(&self, query: &[T]) -> Longest {
        let query = self.until_separator(query);
        if query.is_empty() || self.ranks() == 0 {
            return Longest::default();
        }
        dispatch(self.shape.isa, LongestMatch { view: *self, query })
    }

    #[inline(always)]
    fn longest_with<K: Kernel>(&self, query: &[T]) -> Longest {
        let q = Query::new(query, self.meta.token_bits);
        let (low, high) = self.blocks_between::<K>(q.low(), q.high());
        // A query of at most 64 bits stands before every suffix that begins with it: no block is left open.
        let high = if q.bits <= 64 { low } else { high };
        self.longest_between::<K>(&q, low, high)
    }

    /// Whether a query contains the separator (or an id beyond it), and so matches nothing.
    #[inline(always)]
    pub(super) fn has_separator(&self, query: &[T]) -> bool {
        query.iter().any(|t| t.id() >= self.meta.separator)
    }

    /// `query` up to its first separator.
    pub(super) fn until_separator<'q>(&self, query: &'q [T]) -> &'q [T] {
        let sep = self.meta.separator;
        match query.iter().position(|t| t.id() >= sep) {
            Some(end) => &query[..end],
            None => query,
        }
    }

    /// The longest match, given that the keys of blocks `low..high` are all the query's, so that only their first suffixes can tell
    /// their order.
    pub(super) fn longest_between<K: Kernel>(&self, q: &Query<T>, low: usize, high: usize) -> Longest {
        let (next, _) = self.ends_among::<K>(q, low, high);
        let slot = next.checked_sub(1).map_or(0, |b| descend::<K>(self.branches(b), self.block_len(b), &q.prefix));
        self.longest_before::<K>(q, next, slot)
    }

    /// The longest match, given the first block `next` whose first suffix is not less than the query, and the slot that
    /// [`descend`] reached in the block before it.
    #[inline(always)]
    pub(super) fn longest_before<K: Kernel>(&self, q: &Query<T>, next: usize, slot: usize) -> Longest {
        let mut best = Longest::default();
        if let Some(b) = next.checked_sub(1) {
            let place = self.place_at::<K>(q, b, slot);
            best = Longest { tokens: place.tokens, rank: b * BLOCK + place.slot };
            if place.lower < self.block_len(b) {
                return best;
            }
        }
        // The query belongs between two blocks: the suffix after it may share more.
        if best.tokens < q.tokens.len() && next < self.blocks() {
            let tokens = bits::common_tokens(self.suffix(next * BLOCK), q.tokens);
            if tokens > best.tokens {
                best = Longest { tokens, rank: next * BLOCK };
            }
        }
        best
    }

    /// Locates a query in block `b`, given the slot that [`descend`] reached.
    #[inline(always)]
    pub(super) fn place_at<K: Kernel>(&self, q: &Query<T>, b: usize, slot: usize) -> Place {
        let len = self.block_len(b);
        let branches = self.branches(b);
        let (tokens, parted) = parting(self.suffix(b * BLOCK + slot), q.tokens, self.meta.token_bits);
        let Some((shared, greater)) = parted else {
            return Place { slot, tokens, lower: slot };
        };
        if shared < 255 {
            let lower = if greater {
                run_end::<K>(branches, len, slot, shared + 1)
            } else {
                run_start::<K>(branches, slot, shared + 1)
            };
            return Place { slot, tokens, lower };
        }
        // Beyond the cap: bisect the suffixes that share 255 bits.
        let from = b * BLOCK + slot;
        let end = self.extend_right::<K>(b, slot, 255);
        let lower = self.partition(from..end, |r| self.order(r, q.tokens) == Ordering::Less);
        let mut best = Place { slot, tokens, lower: lower - b * BLOCK };
        for r in [lower.saturating_sub(1).max(from), lower.min(end - 1)] {
            let shared = bits::common_tokens(self.suffix(r), q.tokens);
            if shared > best.tokens {
                best.tokens = shared;
                best.slot = r - b * BLOCK;
            }
        }
        best
    }

    /// The interval of the suffixes that share their first `tokens` tokens with the one at `rank`.
    ///
    /// Cost: the branch bytes around `rank`; a search where the interval leaves the block or is longer than they tell.
    pub fn interval_around(&self, rank: usize, tokens: usize) -> Range<usize> {
        dispatch(self.shape.isa, Around { view: *self, rank, tokens })
    }

    #[inline(always)]
    fn interval_around_with<K: Kernel>(&self, rank: usize, tokens: usize) -> Range<usize> {
        let bits = (tokens as u64 * self.meta.token_bits as u64).min(u32::MAX as u64) as u32;
        let b = rank / BLOCK;
        if bits <= 255 {
            let (branches, len) = (self.branches(b), self.block_len(b));
            let start = run_start::<K>(branches, rank % BLOCK, bits);
            let end = run_end::<K>(branches, len, rank % BLOCK, bits);
            let starts_here = start > 0 || b == 0 || (branches[0] as u32) < bits;
            let ends_here = end < len || b + 1 >= self.blocks() || (self.branches(b + 1)[0] as u32) < bits;
            if starts_here && ends_here {
                return b * BLOCK + start..b * BLOCK + end;
            }
        }
        let suffix = self.suffix(rank);
        self.interval(&suffix[..tokens.min(suffix.len())])
    }
}

struct Interval<'a, 'q, T> {
    view: SuffixView<'a, T>,
    query: &'q [T],
}

impl<T: Token> Task for Interval<'_, '_, T> {
    type Output = Range<usize>;
    #[inline(always)]
    fn run<K: Kernel>(self) -> Range<usize> {
        self.view.interval_with::<K>(self.query)
    }
}

struct LongestMatch<'a, 'q, T> {
    view: SuffixView<'a, T>,
    query: &'q [T],
}

impl<T: Token> Task for LongestMatch<'_, '_, T> {
    type Output = Longest;
    #[inline(always)]
    fn run<K: Kernel>(self) -> Longest {
        self.view.longest_with::<K>(self.query)
    }
}

struct Around<'a, T> {
    view: SuffixView<'a, T>,
    rank: usize,
    tokens: usize,
}

impl<T: Token> Task for Around<'_, T> {
    type Output = Range<usize>;
    #[inline(always)]
    fn run<K: Kernel>(self) -> Range<usize> {
        self.view.interval_around_with::<K>(self.rank, self.tokens)
    }
}
