//! Many queries at once, their cache misses overlapped.
//!
//! A single query is a chain of dependent loads: tree nodes, a block, a place of the stream. Here a group of queries
//! advances in lock step, one stage at a time, each stage asking for the lines that the next one needs, so that the processor works
//! on as many misses as it has fill buffers for.

use std::cmp::Ordering;
use std::ops::Range;

use super::Token;
use super::kernel::{Kernel, Task, dispatch};
use super::layout::{BLOCK, SuffixView};
use super::runs::Stand;
use super::search::{Longest, Query, compare, descend};

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
            let located = self.locate::<K>(group, true);
            for (i, query) in group.iter().enumerate() {
                let (q, low, high) = (&located.queries[i], located.low[i], located.high[i]);
                out.push(if query.is_empty() {
                    0..self.ranks()
                } else if self.has_separator(query) {
                    0..0
                } else if low == high {
                    // No block's first suffix begins with the query: the interval is inside one block.
                    low.checked_sub(1).map_or(0..0, |b| self.verify_in::<K>(q, b, located.slot[i] as usize))
                } else {
                    self.interval_spanning::<K>(q, low, high)
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
            let located = self.locate::<K>(&group[..n], false);
            for i in 0..n {
                let (q, next) = (&located.queries[i], located.low[i]);
                out.push(if q.tokens.is_empty() {
                    Longest::default()
                } else {
                    self.longest_before::<K>(q, next, located.slot[i] as usize)
                });
            }
            at += n;
        }
        out
    }

    /// Takes a group of queries down the top level and into the block before the first one that is not below them: `low` is that
    /// first one and, with `ends`, `high` the first one beyond those whose first suffix begins with the query.
    #[inline(always)]
    fn locate<'q, K: Kernel>(&self, group: &[&'q [T]], ends: bool) -> Located<'q, T> {
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
        }
        self.narrow::<K>(&mut l, n, ends);
        for i in 0..n {
            let q = &l.queries[i];
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

impl<T: Token> SuffixView<'_, T> {
    /// Where several blocks have the key of a query that is longer than a key, finds the first whose suffix is not less than the query and,
    /// with `ends`, the first that is greater: blindly where that is possible, else by bisecting their first suffixes, in either case
    /// all queries' searches in step.
    #[inline(always)]
    fn narrow<K: Kernel>(&self, l: &mut Located<T>, n: usize, ends: bool) {
        let (mut runs, mut run_count) = ([(0, 0); GROUP], 0);
        let mut open = [Bisection::default(); 2 * GROUP];
        let mut m = 0;
        let mut bisect = |query, from, to| {
            for upper in [false, true].into_iter().take(1 + ends as usize).filter(|_| from < to) {
                open[m] = Bisection { query, upper, from, to, at: 0 };
                m += 1;
            }
        };
        for i in 0..n {
            let (low, high) = (l.low[i], l.high[i]);
            if l.queries[i].bits <= 64 || low >= high {
                continue;
            }
            if self.has_run(low, high) {
                self.prefetch_run(low, high);
                runs[run_count] = (i, 0);
                run_count += 1;
            } else {
                bisect(i, low, high);
            }
        }
        let runs = &mut runs[..run_count];
        for (i, at) in runs.iter_mut() {
            *at = self.descend_run::<K>(l.low[*i], l.high[*i], &l.queries[*i].prefix);
            self.prefetch_position(*at * BLOCK);
        }
        for &mut (_, at) in runs.iter_mut() {
            self.prefetch_stream(self.position(at * BLOCK));
        }
        for &mut (i, at) in runs.iter_mut() {
            let (low, high) = (l.low[i], l.high[i]);
            match self.stand::<K>(&l.queries[i], low, high, at) {
                Stand::At(first, last) => {
                    l.low[i] = first;
                    if ends {
                        l.high[i] = last;
                    }
                }
                Stand::Among(from, to) => bisect(i, from, to),
            }
        }
        while m > 0 {
            for search in &open[..m] {
                self.prefetch_position(search.middle() * BLOCK);
            }
            for search in &mut open[..m] {
                search.at = self.position(search.middle() * BLOCK);
                self.prefetch_stream(search.at);
            }
            let mut j = 0;
            while j < m {
                let search = &mut open[j];
                let suffix = self.tokens.get(search.at..).unwrap_or_default();
                let order = compare(suffix, l.queries[search.query].tokens);
                let middle = search.middle();
                if order == Ordering::Less || search.upper && order == Ordering::Equal {
                    search.from = middle + 1;
                } else {
                    search.to = middle;
                }
                if search.from < search.to {
                    j += 1;
                    continue;
                }
                let end = if search.upper { &mut l.high } else { &mut l.low };
                end[search.query] = search.from;
                m -= 1;
                open[j] = open[m];
            }
        }
    }
}

/// One end of a query's interval, looked for among the first suffixes of blocks `from..to`.
#[derive(Clone, Copy, Default)]
struct Bisection {
    query: usize,
    upper: bool,
    from: usize,
    to: usize,
    /// Where in the stream the middle block's first suffix begins.
    at: usize,
}

impl Bisection {
    fn middle(&self) -> usize {
        self.from + (self.to - self.from) / 2
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
