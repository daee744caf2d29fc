//! Recall of the semantic search: measured on the index's own chunks, kept in the manifest, quoted by negative answers.
//!
//! A measurement searches for the neighbours of sampled chunks twice, exhaustively and as a query would, and counts what the second
//! misses. It says nothing of searches with other settings, and of shards it did not see only that they were built alike; so a quotation
//! names settings and generation.

use std::collections::BTreeSet;

use rand::{Rng, SeedableRng};

use super::neighbors::{ChunkHit, KeepChunk};
use crate::ann::{SearchParams, VectorIndex, hnsw, ivf};
use crate::error::{Error, Result};
use crate::index::{DocumentRef, Manifest, Snapshot};

/// Name of the measurements in the manifest's `recall`.
pub const NEIGHBORS: &str = "neighbors";

/// What to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct RecallOptions {
    /// Chunks to search the neighbours of (all, if there are fewer).
    pub sample: usize,
    /// Neighbours a chunk.
    pub k: usize,
    /// Settings of the search; zeros: those of the index.
    pub params: SearchParams,
    /// Decides the sample.
    pub seed: u64,
}

impl Default for RecallOptions {
    fn default() -> Self {
        RecallOptions { sample: 1000, k: 10, params: SearchParams::default(), seed: 42 }
    }
}

/// A measurement.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MeasuredRecall {
    /// The generation it was measured on.
    pub generation: u64,
    /// Kinds of vector index in its shards.
    pub vector_index: Vec<String>,
    pub k: usize,
    /// Settings in effect; 0 where no shard has a kind that reads them.
    pub params: SearchParams,
    pub queries: usize,
    /// Share of the true `k` nearest chunks that was found. A chunk as near as the k-th counts, whichever it is.
    pub recall: f64,
    /// The share of the query that fared worst.
    pub worst: f64,
    /// Share of queries whose nearest chunk was found.
    pub nearest: f64,
}

/// What is known of the recall of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchRecall {
    /// Whether the search may miss a neighbour.
    pub approximate: bool,
    /// 1 for an exact search; otherwise the measured figure, if this search was measured.
    pub recall: Option<f64>,
    pub measured: Option<MeasuredRecall>,
}

impl SearchRecall {
    /// In words, for an answer that found nothing.
    pub fn words(&self) -> String {
        match (&self.measured, self.approximate) {
            (_, false) => "exhaustive search: recall 1".into(),
            (Some(m), true) => format!(
                "{}{}: recall@{} {:.4}, measured on {} chunks of generation {}",
                m.vector_index.join(" and "),
                match (m.params.ef, m.params.nprobe) {
                    (0, 0) => String::new(),
                    (ef, 0) => format!(" with ef {ef}"),
                    (0, nprobe) => format!(" with nprobe {nprobe}"),
                    (ef, nprobe) => format!(" with ef {ef}, nprobe {nprobe}"),
                },
                m.k,
                m.recall,
                m.queries,
                m.generation
            ),
            (None, true) => {
                "approximate search whose recall was not measured: `index-tools recall` does, --exact avoids it".into()
            }
        }
    }
}

impl Snapshot {
    /// Settings a search uses: those given, else those of the index, else the defaults; 0 for kinds that no shard has.
    pub fn search_params(&self, given: &SearchParams) -> SearchParams {
        let of_index = self.manifest.vector_index.as_ref().map(|v| v.search.clone()).unwrap_or_default();
        let first = |values: [usize; 3]| values.into_iter().find(|&v| v > 0).unwrap_or(0);
        let kinds = self.vector_kinds();
        let graph = kinds.iter().any(|kind| kind.starts_with("hnsw"));
        SearchParams {
            ef: if graph { first([given.ef, of_index.ef, hnsw::DEFAULT_EF]) } else { 0 },
            nprobe: if kinds.contains("ivf") { first([given.nprobe, of_index.nprobe, ivf::DEFAULT_NPROBE]) } else { 0 },
        }
    }

    /// Kinds of vector index in the shards.
    pub fn vector_kinds(&self) -> BTreeSet<&'static str> {
        self.shards.iter().filter_map(|s| s.semantic.as_ref()).map(|s| s.vectors.kind()).collect()
    }

    /// What is known of the recall of a search with these settings.
    pub fn search_recall(&self, params: &SearchParams, exact: bool) -> SearchRecall {
        let semantic = || self.shards.iter().filter_map(|s| s.semantic.as_ref());
        if exact || semantic().all(|s| s.vectors.is_exact()) {
            return SearchRecall { approximate: false, recall: Some(1.0), measured: None };
        }
        let params = self.search_params(params);
        let same = self.measured().into_iter().filter(|m| m.params == params);
        let measured = same.max_by_key(|m| m.generation);
        SearchRecall { approximate: true, recall: measured.as_ref().map(|m| m.recall), measured }
    }

    /// All measurements in the manifest.
    pub fn measured(&self) -> Vec<MeasuredRecall> {
        let list = self.manifest.recall.get(NEIGHBORS).cloned().unwrap_or_default();
        serde_json::from_value(list).unwrap_or_default()
    }

    /// Measures recall@k of the semantic search on a sample of the index's own chunks, each left out of its own answer.
    ///
    /// Cost: one exhaustive batch search and one search of the vector indexes.
    ///
    /// # Errors
    /// No chunks, fewer than two; a vector index this binary cannot search.
    pub fn measure_recall(&self, options: &RecallOptions) -> Result<MeasuredRecall> {
        let rows = self.sample_chunks(options.sample, options.seed);
        if rows.len() < 2 || options.k == 0 {
            return Err(Error::invalid_hint(
                format!("recall@{} cannot be measured on {} chunks", options.k, rows.len()),
                "build the index with --encoder, and ask for one neighbour at least",
            ));
        }
        let params = self.search_params(&options.params);
        let mut queries = Vec::new();
        let mut dim = 0;
        for &(shard, row) in &rows {
            if let Some(semantic) = &self.shards[shard as usize].semantic {
                dim = semantic.vectors.dim();
                semantic.vectors.flat()?.rows().decode(row, &mut queries);
            }
        }
        let keep = |shard: u32, row: u32| !self.is_hidden(shard, row);
        let keep: Option<KeepChunk> = if self.removals.is_empty() { None } else { Some(&keep) };
        let truth = self.chunks_near(&queries, dim, options.k + 1, &params, true, keep)?;
        let found = self.chunks_near(&queries, dim, options.k + 1, &params, false, keep)?;
        let (mut sum, mut worst, mut nearest) = (0.0, 1.0f64, 0usize);
        for ((truth, found), own) in truth.into_iter().zip(found).zip(&rows) {
            let others = |list: Vec<ChunkHit>| -> Vec<ChunkHit> {
                list.into_iter().filter(|h| (h.shard, h.row) != *own).take(options.k).collect()
            };
            let (truth, found) = (others(truth), others(found));
            let (Some(first), Some(last)) = (truth.first(), truth.last()) else { continue };
            let share = found.iter().filter(|h| h.score >= last.score).count() as f64 / truth.len() as f64;
            sum += share;
            worst = worst.min(share);
            nearest += usize::from(found.first().is_some_and(|h| h.score >= first.score));
        }
        Ok(MeasuredRecall {
            generation: self.manifest.generation,
            vector_index: self.vector_kinds().into_iter().map(String::from).collect(),
            k: options.k,
            params,
            queries: rows.len(),
            recall: sum / rows.len() as f64,
            worst,
            nearest: nearest as f64 / rows.len() as f64,
        })
    }

    /// Publishes a generation that differs in its measurements: those given replace earlier ones of the same settings.
    ///
    /// # Errors
    /// Another writer, or a generation published since this snapshot was opened.
    pub fn record_recall(&self, measured: &[MeasuredRecall]) -> Result<Manifest> {
        let tx = self.dir.begin()?;
        if tx.manifest().generation != self.manifest.generation {
            return Err(Error::invalid_hint(
                format!("generation {} was published while recall was measured", tx.manifest().generation),
                "measure again",
            ));
        }
        let mut next = tx.manifest().clone();
        let mut list = self.measured();
        list.retain(|old| !measured.iter().any(|new| new.params == old.params && new.k == old.k));
        list.extend_from_slice(measured);
        let value = serde_json::to_value(list).map_err(|e| Error::invalid(format!("recall cannot be written: {e}")))?;
        next.recall.insert(NEIGHBORS.into(), value);
        tx.publish(next)
    }

    fn is_hidden(&self, shard: u32, row: u32) -> bool {
        let chunk = self.shards[shard as usize].semantic.as_ref().and_then(|s| s.chunk(row));
        chunk.is_none_or(|c| self.is_removed(DocumentRef { shard, document: c.document }))
    }

    /// Shard and row of distinct chunks, drawn evenly; of removed documents none.
    pub(crate) fn sample_chunks(&self, count: usize, seed: u64) -> Vec<(u32, u32)> {
        let sizes: Vec<u64> = self.shards.iter().map(|s| s.semantic.as_ref().map_or(0, |s| s.len() as u64)).collect();
        let total: u64 = sizes.iter().sum();
        let place = |mut at: u64| {
            let shard = sizes.iter().position(|&n| {
                let here = at < n;
                at -= if here { 0 } else { n };
                here
            });
            (shard.unwrap_or(0) as u32, at as u32)
        };
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut drawn = BTreeSet::new();
        if total <= count as u64 {
            drawn.extend(0..total);
        } else {
            // Removed documents are few, or else the sample is smaller than asked for.
            for _ in 0..4 * count {
                if drawn.len() == count {
                    break;
                }
                let at = random.random_range(0..total);
                let (shard, row) = place(at);
                if !self.is_hidden(shard, row) {
                    drawn.insert(at);
                }
            }
        }
        drawn.into_iter().map(place).filter(|&(shard, row)| !self.is_hidden(shard, row)).collect()
    }
}
