//! How often n-grams occur.

use rayon::prelude::*;

use super::Ngram;
use crate::error::Result;
use crate::index::Snapshot;
use crate::shard::Shard;
use crate::suffix::Token;
use crate::with_view;

/// Queries a thread takes at a time in a batch.
const BATCH: usize = 2048;

/// Many n-grams of ids of a closed vocabulary, in one list: an [`Ngram`] each costs an allocation each, which takes longer than counting it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NgramList {
    ids: Vec<u32>,
    ends: Vec<usize>,
}

impl NgramList {
    /// Appends an n-gram.
    pub fn push(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
        self.ends.push(self.ids.len());
    }

    /// Number of n-grams.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Where in `ids` n-gram `i` begins; of the first beyond the last, where the last ends.
    fn start(&self, i: usize) -> usize {
        i.checked_sub(1).map_or(0, |before| self.ends[before])
    }
}

/// Queries of a batch.
trait Queries: Sync {
    fn number(&self) -> usize;
    /// Appends the tokens of queries `from..to` as `shard` numbers them, and where in `out` each ends.
    fn resolve<T: Token>(&self, from: usize, to: usize, shard: &Shard, out: &mut Vec<T>, ends: &mut Vec<usize>);
}

impl Queries for [Ngram] {
    fn number(&self) -> usize {
        self.len()
    }
    fn resolve<T: Token>(&self, from: usize, to: usize, shard: &Shard, out: &mut Vec<T>, ends: &mut Vec<usize>) {
        for ngram in &self[from..to] {
            ngram.resolve_into(shard, out);
            ends.push(out.len());
        }
    }
}

impl Queries for NgramList {
    fn number(&self) -> usize {
        self.len()
    }
    fn resolve<T: Token>(&self, from: usize, to: usize, shard: &Shard, out: &mut Vec<T>, ends: &mut Vec<usize>) {
        let (separator, start) = (shard.separator(), self.start(from));
        out.extend(self.ids[start..self.start(to)].iter().map(|&id| T::from_id(id.min(separator))));
        ends.extend(self.ends[from..to].iter().map(|end| end - start));
    }
}

impl Snapshot {
    /// Number of occurrences of `ngram` in the documents of the snapshot; of the empty n-gram, the number of tokens.
    pub fn count(&self, ngram: &Ngram) -> u64 {
        let total: i64 = self
            .signed()
            .map(|(shard, sign)| {
                sign * with_view!(shard.exact, v => ngram.resolved(shard, |query| v.interval(query).len()) as i64)
            })
            .sum();
        total.max(0) as u64
    }

    /// [`count`](Self::count) of each n-gram, in order, on all threads of the current rayon pool with cache misses overlapped.
    pub fn counts(&self, ngrams: &[Ngram]) -> Vec<u64> {
        self.batch(ngrams)
    }

    /// [`counts`](Self::counts) of a list. An error for an open vocabulary, whose ids mean nothing outside their shard.
    pub fn counts_of(&self, ngrams: &NgramList) -> Result<Vec<u64>> {
        self.ngram_of_ids(&[])?;
        Ok(self.batch(ngrams))
    }

    fn batch<Q: Queries + ?Sized>(&self, queries: &Q) -> Vec<u64> {
        let mut totals = vec![0i64; queries.number()];
        totals.par_chunks_mut(BATCH).enumerate().for_each(|(part, totals)| {
            let from = part * BATCH;
            let mut ends = Vec::with_capacity(totals.len());
            for (shard, sign) in self.signed() {
                with_view!(shard.exact, v => {
                    let mut tokens = Vec::new();
                    ends.clear();
                    queries.resolve(from, from + totals.len(), shard, &mut tokens, &mut ends);
                    let mut start = 0;
                    let slices: Vec<&[_]> = ends
                        .iter()
                        .map(|&end| &tokens[std::mem::replace(&mut start, end)..end])
                        .collect();
                    for (total, range) in totals.iter_mut().zip(v.intervals(&slices)) {
                        *total += sign * range.len() as i64;
                    }
                });
            }
        });
        totals.into_iter().map(|t| t.max(0) as u64).collect()
    }
}
