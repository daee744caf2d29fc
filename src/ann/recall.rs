//! Exact similarities for approximate answers, and what such answers miss.

use serde::{Deserialize, Serialize};

use super::topk::by_score;
use super::{FlatIndex, Hit, Keep, SearchParams, VectorIndex, check_queries};
use crate::error::{Error, Result};

/// Replaces the scores of `hits` (candidates of `query` from any kind of index over the same rows) by exact
/// similarities to the vectors stored in `flat`, sorts them best first, and keeps `k`. The similarities are exact for
/// what is stored: f32, f16 or int8.
///
/// Cost: one dot product a hit. Compressed kinds need about ten times `k` candidates (see [`crate::ann::plan`]).
pub fn rescore(flat: &FlatIndex, query: &[f32], hits: &mut Vec<Hit>, k: usize) -> Result<()> {
    let rows: Vec<u32> = hits.iter().map(|hit| hit.row).collect();
    for (hit, score) in hits.iter_mut().zip(flat.scores(query, &rows)?) {
        hit.score = score;
    }
    hits.sort_unstable_by(by_score);
    hits.truncate(k);
    Ok(())
}

/// What a search missed, measured against the exhaustive one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recall {
    /// Neighbours asked for.
    pub k: usize,
    /// Candidates fetched for rescoring (`k` when there was none).
    pub candidates: usize,
    pub params: SearchParams,
    /// Queries measured.
    pub queries: usize,
    /// Share of the true `k` nearest that was returned. A row as near as the k-th counts as true, whichever it is.
    pub recall: f64,
    /// The worst query's share.
    pub worst: f64,
    /// Share of queries whose nearest row was returned (first).
    pub nearest: f64,
}

/// Measures recall@k of `index` against `flat`, which must hold the same rows, for `queries` (row-major).
///
/// With `candidates` > `k`, so many are fetched and rescored from `flat` first, as a search of the product would. Where
/// the queries are rows of the index, `own` gives their numbers and each row is left out of its own answer.
///
/// Cost: one exhaustive batch search, one search of `index`.
pub fn recall(
    index: &dyn VectorIndex,
    flat: &FlatIndex,
    queries: &[f32],
    own: Option<&[u32]>,
    k: usize,
    candidates: usize,
    params: &SearchParams,
) -> Result<Recall> {
    check_queries(queries, flat.dim())?;
    if (index.len(), index.dim()) != (flat.len(), flat.dim()) {
        return Err(Error::invalid(format!(
            "recall: the index has {} rows of {} dimensions, the stored vectors {} of {}",
            index.len(),
            index.dim(),
            flat.len(),
            flat.dim()
        )));
    }
    let count = queries.len() / flat.dim();
    if own.is_some_and(|own| own.len() != count) {
        return Err(Error::invalid("recall: one row number a query is needed"));
    }
    let spare = usize::from(own.is_some());
    let none: Option<Keep> = None;
    let truth = flat.search(queries, k + spare, params, none)?;
    let candidates = candidates.max(k);
    let found = index.search(queries, candidates + spare, params, none)?;
    let (mut sum, mut worst, mut nearest) = (0.0, 1.0f64, 0usize);
    for (q, (truth, mut hits)) in truth.into_iter().zip(found).enumerate() {
        let query = &queries[q * flat.dim()..(q + 1) * flat.dim()];
        let own = own.map(|own| own[q]);
        let truth: Vec<Hit> = truth.into_iter().filter(|hit| Some(hit.row) != own).take(k).collect();
        hits.retain(|hit| Some(hit.row) != own);
        if candidates == k {
            hits.truncate(k);
        }
        rescore(flat, query, &mut hits, k)?;
        let Some(last) = truth.last() else { continue };
        let right = hits.iter().filter(|hit| hit.score >= last.score).count();
        let share = right as f64 / truth.len() as f64;
        sum += share;
        worst = worst.min(share);
        nearest += usize::from(hits.first().is_some_and(|hit| hit.score >= truth[0].score));
    }
    let share = |value: f64| if count == 0 { 1.0 } else { value / count as f64 };
    Ok(Recall {
        k,
        candidates,
        params: params.clone(),
        queries: count,
        recall: share(sum),
        worst,
        nearest: share(nearest as f64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ann::{Element, FlatWriter, HnswIndex, HnswParams, Source, hnsw, sample};

    fn flat(vectors: &[f32], dim: usize, path: &std::path::Path) -> FlatIndex {
        let mut writer = FlatWriter::create(path, dim, Element::F32).unwrap();
        writer.push(vectors).unwrap();
        writer.finish().unwrap();
        FlatIndex::open(path).unwrap()
    }

    #[test]
    fn an_exact_index_misses_nothing_and_a_hasty_one_does() {
        let dir = tempfile::tempdir().unwrap();
        let vectors = sample(2000, 32, 1);
        let flat = flat(&vectors, 32, &dir.path().join("v"));
        let own: Vec<u32> = (0..100).map(|i| i * 17).collect();
        let queries: Vec<f32> = own.iter().flat_map(|&r| vectors[r as usize * 32..][..32].to_vec()).collect();
        let params = SearchParams { ef: 10, nprobe: 0 };
        let exact = recall(&flat, &flat, &queries, Some(&own), 10, 10, &params).unwrap();
        assert_eq!((exact.recall, exact.worst, exact.nearest, exact.queries), (1.0, 1.0, 1.0, 100));
        let path = dir.path().join("a");
        hnsw::build(&Source::Flat(&flat), &HnswParams { m: 4, ef_construction: 12, ..Default::default() }, &path)
            .unwrap();
        let hnsw = HnswIndex::open(&path).unwrap();
        let hasty = recall(&hnsw, &flat, &queries, Some(&own), 10, 10, &params).unwrap();
        let wide = recall(&hnsw, &flat, &queries, Some(&own), 10, 400, &params).unwrap();
        assert!(hasty.recall < 0.95 && hasty.recall > 0.2, "{hasty:?}");
        assert!(wide.recall > hasty.recall && wide.recall > 0.95, "{wide:?}");
        assert!(recall(&hnsw, &flat, &queries, Some(&own[..5]), 10, 10, &params).is_err());
    }

    #[test]
    fn rescored_hits_carry_the_stored_similarity() {
        let dir = tempfile::tempdir().unwrap();
        let vectors = sample(50, 8, 2);
        let flat = flat(&vectors, 8, &dir.path().join("v"));
        let query = sample(1, 8, 3);
        let mut hits: Vec<Hit> = (0..50).rev().map(|row| Hit { row, score: 0.0 }).collect();
        rescore(&flat, &query, &mut hits, 5).unwrap();
        assert_eq!(hits, flat.search(&query, 5, &SearchParams::default(), None).unwrap()[0]);
        assert!(rescore(&flat, &query, &mut vec![Hit { row: 50, score: 0.0 }], 1).is_err());
    }
}
