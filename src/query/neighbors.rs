//! Semantic neighbours: the chunks whose embeddings are nearest to a text's.
//!
//! Stage 1 is a search of every shard's vector index by inner product; stage 2, on request, reranks its candidates by late
//! interaction (MaxSim over token states), which needs the encoder to read the candidates.

use std::collections::HashMap;

use crate::ann::{Hit, SearchParams, VectorIndex};
use crate::embed::late::PackedQuery;
use crate::embed::{Encoder, Role};
use crate::error::{Error, Result};
use crate::index::{DocumentRef, Snapshot};

/// What to search for and how.
#[derive(Debug, Clone, PartialEq)]
pub struct NeighborOptions {
    /// Chunks to return.
    pub top_k: usize,
    /// Only chunks with at least this bi-encoder score.
    pub at_least: Option<f32>,
    /// Candidates to rerank by late interaction; 0: no reranking.
    pub rerank: usize,
    /// Return only the best chunk of each document.
    pub group_by_document: bool,
    /// A document none of whose chunks may be returned: the source of the query, when it is in the corpus itself.
    pub leave_out: Option<DocumentRef>,
    /// Only documents whose path contains this.
    pub path_contains: Option<String>,
}

impl Default for NeighborOptions {
    fn default() -> Self {
        NeighborOptions {
            top_k: 10,
            at_least: None,
            rerank: 0,
            group_by_document: false,
            leave_out: None,
            path_contains: None,
        }
    }
}

/// A chunk near the query.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Neighbor {
    #[serde(flatten)]
    pub document: DocumentRef,
    pub id: String,
    pub path: String,
    pub start_byte: usize,
    pub end_byte: usize,
    pub text: String,
    /// Inner product of the pooled embeddings.
    pub score: f32,
    /// MaxSim of the query's token states over the chunk's, if reranked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_interaction: Option<f32>,
}

/// Candidate of stage 1.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    document: DocumentRef,
    start: u32,
    end: u32,
    score: f32,
}

impl Snapshot {
    /// Number of chunks with embeddings.
    pub fn chunks(&self) -> u64 {
        self.shards.iter().filter_map(|s| s.semantic.as_ref()).map(|s| s.len() as u64).sum()
    }

    /// Refuses an encoder that is not the one the index was built with.
    pub fn check_encoder(&self, encoder: &dyn Encoder) -> Result<()> {
        let Some(of_index) = &self.manifest.encoder else {
            return Err(Error::invalid_hint(
                "this index has no embeddings",
                "build it with --encoder all-minilm-l6-v2",
            ));
        };
        let spec = encoder.spec();
        if of_index.sha256 != spec.sha256 || of_index.dim != spec.dim || of_index.pooling != spec.pooling {
            let name = |s: &crate::embed::EncoderSpec| {
                format!("{} ({} dimensions, {} pooling, weights {:.12})", s.name, s.dim, s.pooling, s.sha256)
            };
            return Err(Error::EncoderMismatch { index: name(of_index), query: name(spec) });
        }
        Ok(())
    }

    /// The nearest chunks of each text, best first.
    ///
    /// A text longer than the encoder takes is an error: cut it first. Cost: encoding the texts, a scan of the vectors (a matrix product
    /// for many texts), and with `rerank` encoding that many chunks a text.
    pub fn neighbors(
        &self,
        encoder: &dyn Encoder,
        texts: &[&str],
        options: &NeighborOptions,
    ) -> Result<Vec<Vec<Neighbor>>> {
        self.check_encoder(encoder)?;
        if let Some(i) = texts.iter().position(|t| t.trim().is_empty()) {
            return Err(Error::invalid(format!("text {i} is empty: nothing is near it")));
        }
        let queries = encoder.embed_texts(texts, Role::Query)?;
        let candidates = self.candidates(&queries, encoder.spec().dim, options)?;
        texts.iter().zip(candidates).map(|(text, found)| self.describe(encoder, text, found, options)).collect()
    }

    /// Stage 1 for embedded queries: candidates of all shards, best first.
    fn candidates(&self, queries: &[f32], dim: usize, options: &NeighborOptions) -> Result<Vec<Vec<Candidate>>> {
        let wanted = options.top_k.max(options.rerank).max(1);
        // Grouping keeps one chunk a document, so more are needed before it.
        let k = if options.group_by_document { wanted * 4 } else { wanted };
        let mut all: Vec<Vec<Candidate>> = vec![Vec::new(); queries.len() / dim.max(1)];
        for (number, shard) in self.shards.iter().enumerate() {
            let Some(semantic) = &shard.semantic else { continue };
            let paths: Option<Vec<bool>> = match &options.path_contains {
                Some(part) => Some(shard.documents.path_list()?.iter().map(|p| p.contains(part.as_str())).collect()),
                None => None,
            };
            let keep = |row: u32| {
                let Some(chunk) = semantic.chunk(row) else { return false };
                let document = DocumentRef { shard: number as u32, document: chunk.document };
                let path_fits = || match &paths {
                    Some(p) => {
                        shard.documents.path_number(chunk.document).is_ok_and(|n| p.get(n as usize) == Some(&true))
                    }
                    None => true,
                };
                options.leave_out != Some(document) && !self.is_removed(document) && path_fits()
            };
            let filtered = options.leave_out.is_some() || paths.is_some() || !self.removals.is_empty();
            let keep: Option<crate::ann::Keep> = if filtered { Some(&keep) } else { None };
            let found: Vec<Vec<Hit>> = match options.at_least {
                Some(t) => semantic.vectors.within(queries, t, &SearchParams::default(), keep)?,
                None => semantic.vectors.search(queries, k, &SearchParams::default(), keep)?,
            };
            for (list, hits) in all.iter_mut().zip(found) {
                list.extend(hits.into_iter().filter_map(|h| {
                    let c = semantic.chunk(h.row)?;
                    Some(Candidate {
                        document: DocumentRef { shard: number as u32, document: c.document },
                        start: c.start_byte,
                        end: c.end_byte,
                        score: h.score,
                    })
                }));
            }
        }
        for list in &mut all {
            list.sort_by(|a, b| {
                b.score.total_cmp(&a.score).then(a.document.cmp(&b.document)).then(a.start.cmp(&b.start))
            });
            if options.at_least.is_none() {
                list.truncate(k);
            }
        }
        Ok(all)
    }

    fn describe(
        &self,
        encoder: &dyn Encoder,
        text: &str,
        found: Vec<Candidate>,
        options: &NeighborOptions,
    ) -> Result<Vec<Neighbor>> {
        let mut out = Vec::with_capacity(found.len());
        let mut texts: HashMap<DocumentRef, crate::corpus::Document> = HashMap::new();
        for c in found {
            let document = match texts.entry(c.document) {
                std::collections::hash_map::Entry::Occupied(e) => e.into_mut(),
                std::collections::hash_map::Entry::Vacant(e) => e.insert(self.document(c.document)?),
            };
            let chunk = document.text.get(c.start as usize..c.end as usize).unwrap_or_default();
            out.push(Neighbor {
                document: c.document,
                id: document.id.clone(),
                path: document.path.clone(),
                start_byte: c.start as usize,
                end_byte: c.end as usize,
                text: chunk.to_string(),
                score: c.score,
                late_interaction: None,
            });
        }
        if options.rerank > 0 && !out.is_empty() {
            out.truncate(options.rerank.max(options.top_k));
            let scores = late_scores(encoder, text, &out.iter().map(|n| n.text.as_str()).collect::<Vec<_>>())?;
            for (n, s) in out.iter_mut().zip(scores) {
                n.late_interaction = Some(s);
            }
            out.sort_by(|a, b| {
                b.late_interaction
                    .unwrap_or(0.0)
                    .total_cmp(&a.late_interaction.unwrap_or(0.0))
                    .then(b.score.total_cmp(&a.score))
            });
        }
        if options.group_by_document {
            let mut seen = std::collections::HashSet::new();
            out.retain(|n| seen.insert(n.document));
        }
        if options.at_least.is_none() {
            out.truncate(options.top_k);
        }
        Ok(out)
    }
}

/// MaxSim of a text against each candidate: the mean over the text's tokens of the best inner product with a token of the candidate.
///
/// A side longer than the encoder takes is scored over as many windows as it needs; none of it is cut off.
pub fn late_scores(encoder: &dyn Encoder, text: &str, candidates: &[&str]) -> Result<Vec<f32>> {
    let query = states(encoder, text)?;
    if query.data.is_empty() {
        return Ok(vec![0.0; candidates.len()]);
    }
    let packed = PackedQuery::new(crate::embed::late::TokenMatrix { dim: query.dim, data: &query.data });
    let mut windows: Vec<Vec<u32>> = Vec::new();
    let mut owner: Vec<usize> = Vec::new();
    for (i, c) in candidates.iter().enumerate() {
        for window in encoder.tokenize(c)?.ids.chunks(encoder.max_window()) {
            windows.push(window.to_vec());
            owner.push(i);
        }
    }
    let slices: Vec<&[u32]> = windows.iter().map(|w| w.as_slice()).collect();
    let all = encoder.token_states(&slices)?;
    let mut rows: Vec<Vec<f32>> = vec![Vec::new(); candidates.len()];
    for (w, &i) in owner.iter().enumerate() {
        rows[i].extend_from_slice(all.view(w).data);
    }
    let mut scratch = Vec::new();
    Ok(rows
        .iter()
        .map(|data| {
            if data.is_empty() {
                0.0
            } else {
                packed.score(crate::embed::late::TokenMatrix { dim: query.dim, data }, &mut scratch)
            }
        })
        .collect())
}

/// Token states of a whole text, window after window.
pub fn states(encoder: &dyn Encoder, text: &str) -> Result<crate::embed::TokenStates> {
    let tokens = encoder.tokenize(text)?;
    let windows: Vec<&[u32]> = tokens.ids.chunks(encoder.max_window()).collect();
    encoder.token_states(&windows)
}
