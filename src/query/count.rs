//! How often n-grams occur.

use rayon::prelude::*;

use super::Ngram;
use crate::index::Snapshot;
use crate::with_view;

/// Queries a thread takes at a time in a batch.
const BATCH: usize = 2048;

impl Snapshot {
    /// Number of occurrences of `ngram` in the documents of the snapshot; of the empty n-gram, the number of tokens.
    pub fn count(&self, ngram: &Ngram) -> u64 {
        let total: i64 = self
            .signed()
            .map(|(shard, sign)| sign * with_view!(shard.exact, v => v.interval(&ngram.resolve(shard)).len() as i64))
            .sum();
        total.max(0) as u64
    }

    /// [`count`](Self::count) of each n-gram, in order, on all threads of the current rayon pool with cache misses overlapped.
    pub fn counts(&self, ngrams: &[Ngram]) -> Vec<u64> {
        ngrams
            .par_chunks(BATCH)
            .flat_map_iter(|part| {
                let mut totals = vec![0i64; part.len()];
                for (shard, sign) in self.signed() {
                    with_view!(shard.exact, v => {
                        let mut tokens = Vec::with_capacity(part.iter().map(Ngram::len).sum());
                        part.iter().for_each(|n| n.resolve_into(shard, &mut tokens));
                        let mut rest = tokens.as_slice();
                        let mut next = |n: &Ngram| {
                            let (query, after) = rest.split_at(n.len());
                            rest = after;
                            query
                        };
                        let queries: Vec<&[_]> = part.iter().map(&mut next).collect();
                        for (total, range) in totals.iter_mut().zip(v.intervals(&queries)) {
                            *total += sign * range.len() as i64;
                        }
                    });
                }
                totals.into_iter().map(|t| t.max(0) as u64)
            })
            .collect()
    }
}
