//! Candidates: which chunks late interaction looks at.
//!
//! Stage 1 finds the chunks nearest to a window's embedding. The middle stage cuts them, cheaply, to those worth reranking: half of
//! these are the nearest by cosine, half have the largest MaxSim over *static* token vectors, the cheapest there are: one-hot vectors
//! weighted by ln(candidates / candidates with the token). It is the sum over the window's distinct tokens of that weight
//! where the candidate has the token, so it finds what shares rare tokens with the window though the whole is less alike. Probes
//! measure what either cut loses ([`super::probes`]).

use std::collections::HashMap;
use std::ops::Range;

use rayon::prelude::*;

use super::states::{ChunkKey, ChunkStates};
use crate::ann::SearchParams;
use crate::error::Result;
use crate::index::{DocumentRef, Snapshot};

/// A candidate of stage 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    pub key: ChunkKey,
    pub document: u32,
    pub cosine: f32,
}

impl Candidate {
    /// The document it is a chunk of.
    pub fn document(&self) -> DocumentRef {
        DocumentRef { shard: self.key.shard, document: self.document }
    }
}

/// The `k` nearest chunks of each query (`dim` floats each) in all shards, best first, without those of `hidden` and of removed documents.
pub(super) fn search(
    snapshot: &Snapshot,
    queries: &[f32],
    dim: usize,
    k: usize,
    exhaustive: bool,
    hidden: &[DocumentRef],
) -> Result<Vec<Vec<Candidate>>> {
    let mut all: Vec<Vec<Candidate>> = vec![Vec::new(); queries.len() / dim.max(1)];
    for (number, shard) in snapshot.shards.iter().enumerate() {
        let Some(semantic) = &shard.semantic else { continue };
        let number = number as u32;
        let keep = |row: u32| {
            semantic.chunk(row).is_some_and(|c| {
                let document = DocumentRef { shard: number, document: c.document };
                !hidden.contains(&document) && !snapshot.is_removed(document)
            })
        };
        let filtered = hidden.iter().any(|d| d.shard == number) || !snapshot.removals.is_empty();
        let keep: Option<crate::ann::Keep> = if filtered { Some(&keep) } else { None };
        let vectors = semantic.vectors.searcher(exhaustive)?;
        for (list, hits) in all.iter_mut().zip(vectors.search(queries, k, &SearchParams::default(), keep)?) {
            list.extend(hits.iter().filter_map(|h| {
                let document = semantic.chunk(h.row)?.document;
                Some(Candidate { key: ChunkKey { shard: number, row: h.row }, document, cosine: h.score })
            }));
        }
    }
    all.par_iter_mut().for_each(|list| {
        list.sort_unstable_by(|a, b| b.cosine.total_cmp(&a.cosine).then(a.key.cmp(&b.key)));
        list.truncate(k);
    });
    Ok(all)
}

/// Searches for distinct ranges of texts: one search may serve several windows.
#[derive(Debug, Default)]
pub(super) struct Searches {
    numbers: HashMap<(usize, Range<usize>), usize>,
    /// Text and token range of each.
    pub ranges: Vec<(usize, Range<usize>)>,
}

impl Searches {
    /// The number of the search for `range` of a text.
    pub fn number(&mut self, text: usize, range: Range<usize>) -> usize {
        *self.numbers.entry((text, range.clone())).or_insert_with(|| {
            self.ranges.push((text, range));
            self.ranges.len() - 1
        })
    }
}

/// The lists of several searches as one, at most `most` long.
pub(super) fn merge(lists: &[&[Candidate]], most: usize) -> Vec<Candidate> {
    if let [one] = lists {
        return one[..one.len().min(most)].to_vec();
    }
    let mut all: Vec<Candidate> = lists.iter().flat_map(|l| l.iter()).copied().collect();
    all.sort_unstable_by(|a, b| b.cosine.total_cmp(&a.cosine).then(a.key.cmp(&b.key)));
    let mut seen = std::collections::HashSet::with_capacity(all.len());
    all.retain(|c| seen.insert(c.key));
    all.truncate(most);
    all
}

/// Cuts the lists of windows to `depth` candidates each; `tokens[w]` are the late encoder's tokens of window w.
pub(super) fn cut(
    states: &mut ChunkStates<'_>,
    tokens: &[&[u32]],
    lists: &[Vec<Candidate>],
    depth: &[usize],
) -> Result<Vec<Vec<Candidate>>> {
    let crowded = |w: usize| lists[w].len() > depth[w];
    let mut keys: Vec<ChunkKey> =
        (0..lists.len()).filter(|&w| crowded(w)).flat_map(|w| lists[w].iter().map(|c| c.key)).collect();
    keys.par_sort_unstable();
    keys.dedup();
    states.load_tokens(&keys)?;
    let states = &*states;
    Ok((0..lists.len())
        .into_par_iter()
        .map_init(Vec::new, |slots, w| {
            if !crowded(w) {
                return lists[w].clone();
            }
            let chunks: Vec<&[u32]> = lists[w].iter().map(|c| states.tokens(c.key)).collect();
            let chosen = overlapping(tokens[w], &chunks, depth[w], slots);
            chosen.into_iter().map(|i| lists[w][i]).collect()
        })
        .collect())
}

/// Which of `chunks` (distinct tokens, the nearest chunk first) to keep: half of `depth` the first, the rest by shared tokens.
/// `slots` is scratch.
fn overlapping(window: &[u32], chunks: &[&[u32]], depth: usize, slots: &mut Vec<u16>) -> Vec<usize> {
    let mut distinct = window.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    distinct.truncate(u16::MAX as usize - 1);
    let size = distinct.last().map_or(0, |&id| id as usize + 1);
    if slots.len() < size {
        slots.resize(size, 0);
    }
    for (slot, &id) in (1..).zip(&distinct) {
        slots[id as usize] = slot;
    }
    let mut frequency = vec![0u32; distinct.len()];
    let mut shared: Vec<u16> = Vec::new();
    let mut ends = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        for &id in *chunk {
            let slot = slots.get(id as usize).copied().unwrap_or(0);
            if slot > 0 {
                frequency[slot as usize - 1] += 1;
                shared.push(slot - 1);
            }
        }
        ends.push(shared.len());
    }
    distinct.iter().for_each(|&id| slots[id as usize] = 0);
    let n = chunks.len() as f32;
    let weights: Vec<f32> = frequency.iter().map(|&f| (n / f.max(1) as f32).ln()).collect();
    let mut start = 0;
    let scores: Vec<f32> = ends
        .iter()
        .map(|&end| {
            let sum = shared[start..end].iter().map(|&s| weights[s as usize]).sum();
            start = end;
            sum
        })
        .collect();
    let nearest = depth.div_ceil(2).min(chunks.len());
    let mut rest: Vec<usize> = (nearest..chunks.len()).collect();
    rest.sort_unstable_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    rest.truncate(depth - nearest);
    rest.sort_unstable();
    (0..nearest).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_are_the_nearest_and_half_share_rare_tokens() {
        // Token 1 is in every chunk and weighs nothing; 7 and 9 are in one chunk each.
        let chunks: Vec<Vec<u32>> = (0..10)
            .map(|i| {
                if i == 6 {
                    vec![1, 7]
                } else if i == 8 {
                    vec![1, 9, 20]
                } else {
                    vec![1, 30 + i]
                }
            })
            .collect();
        let views: Vec<&[u32]> = chunks.iter().map(Vec::as_slice).collect();
        let mut slots = Vec::new();
        assert_eq!(overlapping(&[1, 7, 9, 9], &views, 4, &mut slots), [0, 1, 6, 8]);
        assert!(slots.iter().all(|&s| s == 0), "scratch is left clean");
        assert_eq!(overlapping(&[500], &views, 3, &mut slots), [0, 1, 2]);
        assert_eq!(overlapping(&[], &views, 1, &mut slots), [0]);
    }

    #[test]
    fn merged_lists_keep_each_chunk_once() {
        let c = |row, cosine| Candidate { key: ChunkKey { shard: 0, row }, document: 0, cosine };
        let (a, b) = ([c(1, 0.9), c(2, 0.5)], [c(2, 0.5), c(3, 0.7)]);
        let rows = |m: usize| merge(&[&a, &b], m).iter().map(|c| c.key.row).collect::<Vec<_>>();
        assert_eq!((rows(9), rows(2)), (vec![1, 3, 2], vec![1, 3]));
    }
}
