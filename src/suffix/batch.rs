//! Many queries at once, their cache misses overlapped.
//!
//! A single query is a chain of dependent loads: tree nodes, a block, a place of the stream. Here a group of queries
//! advances in lock step, one stage at a time, each stage asking for the lines that the next one needs, so that the processor works
//! on as many misses as it has fill buffers for.

use std::ops::Range;

use super::Token;
use super::kernel::{Kernel, Task, dispatch};
use super::layout::{BLOCK, SuffixView};
use super::search::{Longest, Query, descend};

/// Queries in flight: enough to cover the latency of memory, few enough that their lines stay in the first-level cache.
const GROUP: usize = 24;

/// What a group of queries knows after the top level.
struct Located<'q, T> {
    queries: [Query<'q, T>; GROUP],
    low: [usize; GROUP],
    high: [usize; GROUP],
    slot: [u8; GROUP],
}

impl<T: Token> SuffixView<'_, T> {
    /// [`interval`](Self::interval) of each query, in order.
    ///
    /// Cost: as for single queries, at two to four times their rate.
    pub fn intervals(&self, queries: &[&[T]]) -> Vec<Range<usize>> {
        if self.ranks() == 0 {
            return vec![0..0; queries.len()];
        }
        dispatch(self.shape.isa, Intervals { view: *self, queries })
    }

    #[inline(always)]
    fn intervals_with<K: Kernel>(&self, queries: &[&[T]]) -> Vec<Range<usize>> {
        let mut out = Vec::with_capacity(queries.len());
        for group in queries.chunks(GROUP) {
            let located = self.locate::<K>(group);
            for (i, query) in group.iter().enumerate() {
                let (q, low, high) = (&located.queries[i], located.low[i], located.high[i]);
                out.push(if query.is_empty() {
                    0..self.ranks()
                } else if self.has_separator(query) {
                    0..0
                } else if low == high && low > 0 {
                    self.verify_in::<K>(q, low - 1, located.slot[i] as usize)
                } else {
                    self.interval_between::<K>(q, low, high)
                });
            }
        }
        out
    }

    /// [`longest`](Self::longest) at each of the positions `0..text.len()` of `text`, at most `limit` tokens each.
    pub fn longest_at_each(&self, text: &[T], limit: usize) -> Vec<Longest> {
        if self.ranks() == 0 {
            return vec![Longest::default(); text.len()];
        }
        dispatch(self.shape.isa, LongestAtEach { view: *self, text, limit })
    }

    #[inline(always)]
    fn longest_at_each_with<K: Kernel>(&self, text: &[T], limit: usize) -> Vec<Longest> {
        let mut out = Vec::with_capacity(text.len());
        let sep = self.meta.separator;
        // Where each position's query must end: at the next separator (or unknown token), or after `limit` tokens.
        let mut ends = vec![text.len(); text.len()];
        let mut end = text.len();
        for i in (0..text.len()).rev() {
            if text[i].id() >= sep {
                end = i;
            }
            ends[i] = end.min(i.saturating_add(limit));
        }
        let mut group: [&[T]; GROUP] = [&[]; GROUP];
        let mut at = 0;
        while at < text.len() {
            let n = GROUP.min(text.len() - at);
            for (i, slot) in group[..n].iter_mut().enumerate() {
                *slot = &text[at + i..ends[at + i]];
            }
            let located = self.locate::<K>(&group[..n]);
            for i in 0..n {
                let (q, low) = (&located.queries[i], located.low[i]);
                let high = if q.bits <= 64 { low } else { located.high[i] };
                out.push(if q.tokens.is_empty() {
                    Longest::default()
                } else if low == high {
                    self.longest_before::<K>(q, low, located.slot[i] as usize)
                } else {
                    self.longest_between::<K>(q, low, high)
                });
            }
            at += n;
        }
        out
    }

    /// Takes a group of queries down the top level and into the block before the first one that is not below them.
    #[inline(always)]
    fn locate<'q, K: Kernel>(&self, group: &[&'q [T]]) -> Located<'q, T> {
        let n = group.len();
        let mut l = Located {
            queries: [Query { tokens: &[], bits: 0, prefix: [0; 4] }; GROUP],
            low: [0; GROUP],
            high: [0; GROUP],
            slot: [0; GROUP],
        };
        for (q, tokens) in l.queries.iter_mut().zip(group) {
            *q = Query::new(tokens, self.meta.token_bits);
        }
        for level in (0..self.height()).rev() {
            for i in 0..n {
                let q = &l.queries[i];
                let (left, right) = self.step::<K>(level, (l.low[i], l.high[i]), q.low(), q.high());
                (l.low[i], l.high[i]) = (left, right);
                if level == 0 {
                    self.prefetch_trie(left);
                    if right != left {
                        self.prefetch_trie(right);
                    }
                } else {
                    self.prefetch_node(level - 1, left);
                    if right != left {
                        self.prefetch_node(level - 1, right);
                    }
                }
            }
        }
        for i in 0..n {
            let q = &l.queries[i];
            (l.low[i], l.high[i]) = self.blocks_in((l.low[i], l.high[i]), q.low(), q.high());
            let Some(b) = l.low[i].checked_sub(1) else { continue };
            let slot = descend::<K>(self.branches(b), self.block_len(b), &q.prefix);
            l.slot[i] = slot as u8;
            self.prefetch_position(b * BLOCK + slot);
        }
        for i in 0..n {
            let Some(b) = l.low[i].checked_sub(1) else { continue };
            self.prefetch_stream(self.position(b * BLOCK + l.slot[i] as usize));
        }
        l
    }
}

struct Intervals<'a, 'q, T> {
    view: SuffixView<'a, T>,
    queries: &'q [&'q [T]],
}

impl<T: Token> Task for Intervals<'_, '_, T> {
    type Output = Vec<Range<usize>>;
    #[inline(always)]
    fn run<K: Kernel>(self) -> Self::Output {
        self.view.intervals_with::<K>(self.queries)
    }
}

struct LongestAtEach<'a, 'q, T> {
    view: SuffixView<'a, T>,
    text: &'q [T],
    limit: usize,
}

impl<T: Token> Task for LongestAtEach<'_, '_, T> {
    type Output = Vec<Longest>;
    #[inline(always)]
    fn run<K: Kernel>(self) -> Self::Output {
        self.view.longest_at_each_with::<K>(self.text, self.limit)
    }
}
