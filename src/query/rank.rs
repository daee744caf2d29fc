//! All documents of a corpus by their similarity to the items of a benchmark (benchmark-targeted ranking, BETR).
//!
//! A document is as near to an item as the nearest pair of their chunks. Its score is that of its nearest item ([`Aggregate::Max`]) or the
//! mean over all items ([`Aggregate::Mean`]). Every stored vector is compared with every item: nothing is approximate.
//!
//! Cost: chunks × item vectors dot products on all threads. Memory: a record a document.

use rayon::prelude::*;

use super::neighbors::no_embeddings;
use crate::error::{Error, Result};
use crate::index::{DocumentRef, Snapshot};

/// How a document's similarities to the items become one score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aggregate {
    #[default]
    Max,
    Mean,
}

/// A document and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankedDocument {
    pub document: DocumentRef,
    pub score: f32,
    /// The nearest item.
    pub item: u32,
    /// The chunk that is nearest to it.
    pub start_byte: u32,
    pub end_byte: u32,
}

impl Snapshot {
    /// Every document that has chunks and was not removed, best score first. `items` are one or more vectors each
    /// ([`Snapshot::embed_queries`]).
    ///
    /// # Errors
    /// No items, an item without vectors or of another dimension, an index without embeddings.
    pub fn rank_by_items(&self, items: &[Vec<f32>], aggregate: Aggregate) -> Result<Vec<RankedDocument>> {
        let dim = self.dim().ok_or_else(no_embeddings)?;
        if items.is_empty() {
            return Err(Error::invalid("there are no items to rank by"));
        }
        if let Some(i) = items.iter().position(|v| v.is_empty() || !v.len().is_multiple_of(dim)) {
            return Err(Error::EncoderMismatch {
                index: format!("vectors of {dim} dimensions"),
                query: format!("{} values for item {i}", items[i].len()),
            });
        }
        let mut out = Vec::new();
        for (number, shard) in self.shards.iter().enumerate() {
            let Some(semantic) = &shard.semantic else { continue };
            let rows = semantic.vectors.flat()?.rows();
            let vectors: Vec<(u32, _)> = items
                .iter()
                .zip(0u32..)
                .flat_map(|(item, i)| item.chunks_exact(dim).map(move |v| (i, v)))
                .map(|(i, vector)| (i, rows.prepare(vector)))
                .collect();
            let score = |document: u32| {
                let document = DocumentRef { shard: number as u32, document };
                let own = semantic.rows_of(document.document);
                if own.is_empty() || self.is_removed(document) {
                    return None;
                }
                let mut of_items = vec![f32::NEG_INFINITY; items.len()];
                let mut best = (f32::NEG_INFINITY, 0, own.start);
                // A few rows at a time stay in cache for all items.
                for first in own.clone().step_by(64) {
                    for (item, vector) in &vectors {
                        for row in first..own.end.min(first + 64) {
                            let similarity = rows.score(vector, row);
                            let of_item = &mut of_items[*item as usize];
                            *of_item = of_item.max(similarity);
                            if similarity > best.0 {
                                best = (similarity, *item, row);
                            }
                        }
                    }
                }
                let chunk = semantic.chunk(best.2)?;
                let sum: f64 = of_items.iter().map(|&s| f64::from(s)).sum();
                let score = match aggregate {
                    Aggregate::Max => best.0,
                    Aggregate::Mean => (sum / items.len() as f64) as f32,
                };
                let (start_byte, end_byte) = (chunk.start_byte, chunk.end_byte);
                Some(RankedDocument { document, score, item: best.1, start_byte, end_byte })
            };
            let found: Vec<RankedDocument> =
                (0..shard.documents.len() as u32).into_par_iter().filter_map(score).collect();
            out.extend(found);
        }
        out.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.document.cmp(&b.document)));
        Ok(out)
    }
}
