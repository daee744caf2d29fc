//! Many queries at once, their cache misses overlapped.
//!
//! A single query is a chain of dependent loads: tree nodes, a block, a place of the stream. Here a group of queries
//! advances in lock step, one stage at a time, each stage asking for the lines that the next one needs, so that the processor works
//! on as many misses as it has fill buffers for.

use std::ops::Range;

use super::Token;
use super::layout::{BLOCK, FANOUT, SuffixView};
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
        let mut out = Vec::with_capacity(queries.len());
        if self.ranks() == 0 {
            out.resize(queries.len(), 0..0);
            return out;
        }
        for group in queries.chunks(GROUP) {
            let located = self.locate(group);
            for (i, query) in group.iter().enumerate() {
                let (q, low, high) = (&located.queries[i], located.low[i], located.high[i]);
                out.push(if query.is_empty() {
                    0..self.ranks()
                } else if self.has_separator(query) {
                    0..0
                } else if low == high && low > 0 {
                    self.verify_in(q, low - 1, located.slot[i] as usize)
                } else {
                    self.interval_between(q, low, high)
                });
            }
        }
        out
    }

    /// [`longest`](Self::longest) at each of the positions `0..text.len()` of `text`, at most `limit` tokens each.
    pub fn longest_at_each(&self, text: &[T], limit: usize) -> Vec<Longest> {
        let mut out = Vec::with_capacity(text.len());
        if self.ranks() == 0 {
            out.resize(text.len(), Longest::default());
            return out;
        }
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
            let located = self.locate(&group[..n]);
            for i in 0..n {
                let (q, low) = (&located.queries[i], located.low[i]);
                let high = if q.bits <= 64 { low } else { located.high[i] };
                out.push(if q.tokens.is_empty() {
                    Longest::default()
                } else if low == high {
                    self.longest_before(q, low, located.slot[i] as usize)
                } else {
                    self.longest_between(q, low, high)
                });
            }
            at += n;
        }
        out
    }

    /// Takes a group of queries down the top level and into the block before the first one that is not below them.
    #[inline(always)]
    fn locate<'q>(&self, group: &[&'q [T]]) -> Located<'q, T> {
        const NONE: usize = usize::MAX;
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
                for (node, x, or_equal) in [(&mut l.low[i], q.low(), false), (&mut l.high[i], q.high(), true)] {
                    if *node == NONE {
                        continue;
                    }
                    let count = self.keys_below(level, *node, x, or_equal);
                    *node = if count == 0 { NONE } else { *node * FANOUT + count - 1 };
                    if level > 0 && *node != NONE {
                        self.prefetch_node(level - 1, *node);
                    }
                }
            }
        }
        let blocks = self.blocks();
        for i in 0..n {
            l.low[i] = l.low[i].wrapping_add(1).min(blocks);
            l.high[i] = l.high[i].wrapping_add(1).min(blocks);
            if l.low[i] > 0 {
                self.prefetch_block(l.low[i] - 1);
            }
            if l.low[i] < l.high[i] {
                self.prefetch_block(l.low[i]);
                self.prefetch_block(l.high[i] - 1);
            }
        }
        for i in 0..n {
            let Some(b) = l.low[i].checked_sub(1) else { continue };
            let q = &l.queries[i];
            let slot = descend(self.branches(b), self.block_len(b), &q.prefix);
            l.slot[i] = slot as u8;
            self.prefetch_stream(self.position(b * BLOCK + slot));
        }
        l
    }
}
