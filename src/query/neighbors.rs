//! Semantic neighbours: the chunks whose embeddings are nearest to a query's.
//!
//! A query is a text, a document of the index or a vector; a text or document of several chunks is as near to a chunk as the nearest
//! of its own. Stage 1 searches every shard's vector index by inner product, and the similarities are exact for the stored vectors whatever
//! the kind; stage 2, on request, reranks its candidates by late interaction (MaxSim over token states), which needs a text and the
//! encoder.

use std::collections::HashMap;

use super::filter::DocumentFilter;
use crate::ann::{SearchParams, VectorIndex, normalize};
use crate::embed::alignment::{AlignedToken, align_texts};
use crate::embed::chunk::{ChunkRule, Unit};
use crate::embed::colbert::PlainLate;
use crate::embed::late::PackedQuery;
use crate::embed::{Encoder, Role};
use crate::error::{Error, Result};
use crate::index::{DocumentRef, Snapshot};

/// What to search for and how.
#[derive(Debug, Clone)]
pub struct NeighborOptions {
    /// Chunks to return.
    pub top_k: usize,
    /// All chunks with at least this bi-encoder score, instead of the `top_k` best.
    pub at_least: Option<f32>,
    /// Candidates to rerank by late interaction; 0: no reranking.
    pub rerank: usize,
    /// Return only the best chunk of each document.
    pub group_by_document: bool,
    /// A document none of whose chunks may be returned: the source of the query, when it is in the corpus itself.
    pub leave_out: Option<DocumentRef>,
    /// Which documents may be returned.
    pub filter: DocumentFilter,
    /// Settings of the search; zeros: those of the index.
    pub params: SearchParams,
    /// Search the stored vectors exhaustively, whatever the vector index is.
    pub exact: bool,
    /// Say of each neighbour which token of the text matched which of its tokens.
    pub align: bool,
}

impl Default for NeighborOptions {
    fn default() -> Self {
        NeighborOptions {
            top_k: 10,
            at_least: None,
            rerank: 0,
            group_by_document: false,
            leave_out: None,
            filter: DocumentFilter::default(),
            params: SearchParams::default(),
            exact: false,
            align: false,
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
    /// Every token of the text with its partner in this passage, if asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alignment: Vec<AlignedToken>,
}

/// A chunk by shard and row, and its similarity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ChunkHit {
    pub shard: u32,
    pub row: u32,
    pub score: f32,
}

/// Says of a chunk (shard, row) whether it may be an answer.
pub(crate) type KeepChunk<'a> = &'a (dyn Fn(u32, u32) -> bool + Sync);

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
        let Some(of_index) = &self.manifest.encoder else { return Err(no_embeddings()) };
        let spec = encoder.spec();
        if of_index.sha256 != spec.sha256 || of_index.dim != spec.dim || of_index.pooling != spec.pooling {
            let name = |s: &crate::embed::EncoderSpec| {
                format!("{} ({} dimensions, {} pooling, weights {:.12})", s.name, s.dim, s.pooling, s.sha256)
            };
            return Err(Error::EncoderMismatch { index: name(of_index), query: name(spec) });
        }
        Ok(())
    }

    /// The nearest chunks of each text, best first. A text longer than the encoder takes is cut into chunks like a document.
    ///
    /// Cost: encoding the texts, a search of the vector indexes (an exhaustive one is a matrix product for many texts), and with `rerank`
    /// encoding that many chunks a text.
    pub fn neighbors(
        &self,
        encoder: &dyn Encoder,
        texts: &[&str],
        options: &NeighborOptions,
    ) -> Result<Vec<Vec<Neighbor>>> {
        let queries = self.embed_queries(encoder, texts)?;
        let candidates = self.candidates(&queries, options)?;
        texts
            .iter()
            .zip(candidates)
            .map(|(text, found)| self.describe(Some((encoder, *text)), found, options))
            .collect()
    }

    /// The vectors of each text: one, or one a chunk where it is longer than the encoder takes.
    pub fn embed_queries(&self, encoder: &dyn Encoder, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        self.check_encoder(encoder)?;
        if let Some(i) = texts.iter().position(|t| t.trim().is_empty()) {
            return Err(Error::invalid(format!("text {i} is empty: nothing is near it")));
        }
        let prompt = encoder.prompt(Role::Query);
        let room = encoder.max_window().saturating_sub(prompt.len());
        let window = self
            .manifest
            .chunking
            .as_ref()
            .filter(|c| c.unit.is_encoder())
            .map_or(room, |c| c.tokens as usize)
            .min(room);
        let rule = ChunkRule::checked(window, window, Unit::Encoder, room)?;
        let mut windows: Vec<Vec<u32>> = Vec::new();
        let mut counts = Vec::with_capacity(texts.len());
        for text in texts {
            let tokens = encoder.tokenize(text)?;
            let before = windows.len();
            if tokens.ids.len() <= room {
                windows.push([prompt, &tokens.ids].concat());
            } else {
                let chunks = rule.cut(&tokens, room);
                windows.extend(chunks.iter().map(|c| [prompt, &tokens.ids[c.tokens.clone()]].concat()));
            }
            counts.push(windows.len() - before);
        }
        let vectors = encoder.embed_ids(&windows.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let mut rest = &vectors[..];
        let take = |count| {
            let (own, others) = rest.split_at(count * encoder.spec().dim);
            rest = others;
            own.to_vec()
        };
        Ok(counts.into_iter().map(take).collect())
    }

    /// The chunks nearest to each vector. Vectors are scaled to length one, as the index's are.
    ///
    /// # Errors
    /// An index without embeddings, another dimension than the index's, a vector that is not finite or zero; `rerank`, which needs a text.
    pub fn neighbors_of_vectors(
        &self,
        vectors: &[f32],
        dim: usize,
        options: &NeighborOptions,
    ) -> Result<Vec<Vec<Neighbor>>> {
        without_text(options)?;
        let own = self.dim().ok_or_else(no_embeddings)?;
        if own != dim {
            return Err(Error::EncoderMismatch {
                index: format!("vectors of {own} dimensions"),
                query: format!("vectors of {dim}"),
            });
        }
        let mut queries: Vec<Vec<f32>> = vectors.chunks_exact(dim).map(<[f32]>::to_vec).collect();
        for (i, query) in queries.iter_mut().enumerate() {
            let norm = normalize(query);
            if norm == 0.0 || !norm.is_finite() {
                return Err(Error::invalid(format!("vector {i} is zero or not finite: nothing is near it")));
            }
        }
        self.candidates(&queries, options)?.into_iter().map(|found| self.describe(None, found, options)).collect()
    }

    /// The chunks nearest to those of a document, none of its own among them.
    ///
    /// # Errors
    /// A document without chunks (its shard has no embeddings, or it has no text); `rerank`, which needs a text.
    pub fn neighbors_of_document(&self, document: DocumentRef, options: &NeighborOptions) -> Result<Vec<Neighbor>> {
        without_text(options)?;
        let semantic = match self.shards.get(document.shard as usize).filter(|_| self.has(document)) {
            Some(shard) => shard.semantic.as_ref(),
            None => return Err(Error::invalid(format!("there is no document {document:?}"))),
        };
        let mut query = Vec::new();
        if let Some(semantic) = semantic {
            let rows = semantic.vectors.flat()?.rows();
            semantic.rows_of(document.document).for_each(|row| rows.decode(row, &mut query));
        }
        if query.is_empty() {
            return Err(Error::invalid_hint(
                format!("document {} of shard {} has no embeddings", document.document, document.shard),
                "build the index with --encoder",
            ));
        }
        let options = NeighborOptions { leave_out: Some(document), ..options.clone() };
        let found = self.candidates(&[query], &options)?.pop().unwrap_or_default();
        self.describe(None, found, &options)
    }

    /// Dimension of the index's vectors.
    pub fn dim(&self) -> Option<usize> {
        self.shards.iter().find_map(|s| s.semantic.as_ref()).map(|s| s.vectors.dim())
    }

    /// The `k` chunks nearest to each of `queries` (row-major) in all shards, best first, ties in the order of shards and rows.
    pub(crate) fn chunks_near(
        &self,
        queries: &[f32],
        dim: usize,
        k: usize,
        params: &SearchParams,
        exact: bool,
        keep: Option<KeepChunk>,
    ) -> Result<Vec<Vec<ChunkHit>>> {
        self.search_shards(queries, dim, keep, |semantic, queries, keep| {
            semantic.vectors.searcher(exact)?.search(queries, k, params, keep)
        })
        .map(|mut all| {
            all.iter_mut().for_each(|list| list.truncate(k));
            all
        })
    }

    fn search_shards(
        &self,
        queries: &[f32],
        dim: usize,
        keep: Option<KeepChunk>,
        search: impl Fn(&crate::shard::Semantic, &[f32], Option<crate::ann::Keep>) -> Result<Vec<Vec<crate::ann::Hit>>>,
    ) -> Result<Vec<Vec<ChunkHit>>> {
        let mut all: Vec<Vec<ChunkHit>> = vec![Vec::new(); queries.len() / dim.max(1)];
        for (number, shard) in self.shards.iter().enumerate() {
            let Some(semantic) = &shard.semantic else { continue };
            let number = number as u32;
            let of_shard = keep.map(|keep| move |row: u32| keep(number, row));
            let found = search(semantic, queries, of_shard.as_ref().map(|k| k as crate::ann::Keep))?;
            for (list, hits) in all.iter_mut().zip(found) {
                list.extend(hits.into_iter().map(|h| ChunkHit { shard: number, row: h.row, score: h.score }));
            }
        }
        for list in &mut all {
            list.sort_by(|a, b| b.score.total_cmp(&a.score).then((a.shard, a.row).cmp(&(b.shard, b.row))));
        }
        Ok(all)
    }

    /// Stage 1: candidates of all shards for queries of one or more vectors each, best first.
    fn candidates(&self, queries: &[Vec<f32>], options: &NeighborOptions) -> Result<Vec<Vec<Candidate>>> {
        let Some(dim) = self.dim() else { return Err(no_embeddings()) };
        let params = self.search_params(&options.params);
        let wanted = options.top_k.max(options.rerank).max(1);
        let filters = self.shards.iter().map(|s| options.filter.on(s)).collect::<Result<Vec<_>>>()?;
        let keep = |number: u32, row: u32| {
            let semantic = self.shards.get(number as usize).and_then(|s| s.semantic.as_ref());
            semantic.and_then(|s| s.chunk(row)).is_some_and(|chunk| {
                let document = DocumentRef { shard: number, document: chunk.document };
                options.leave_out != Some(document)
                    && !self.is_removed(document)
                    && filters[number as usize].admits(chunk.document)
            })
        };
        let filtered = options.leave_out.is_some() || !options.filter.is_empty() || !self.removals.is_empty();
        let keep: Option<KeepChunk> = if filtered { Some(&keep) } else { None };
        let vectors: Vec<f32> = queries.concat();
        // Grouping keeps one chunk a document, so more are needed before it; how many shows only afterwards.
        let mut k = if options.group_by_document { wanted * 4 } else { wanted };
        let found = loop {
            let lists = match options.at_least {
                Some(least) => self.search_shards(&vectors, dim, keep, |semantic, queries, keep| {
                    semantic.vectors.searcher(options.exact)?.within(queries, least, &params, keep)
                })?,
                None => self.chunks_near(&vectors, dim, k, &params, options.exact, keep)?,
            };
            let mut lists = lists.into_iter();
            let merged: Vec<Vec<Candidate>> =
                queries.iter().map(|query| self.merge(lists.by_ref().take(query.len() / dim).collect())).collect();
            let short = |list: &Vec<Candidate>| {
                let documents: std::collections::HashSet<_> = list.iter().map(|c| c.document).collect();
                list.len() >= k && documents.len() < wanted
            };
            if options.at_least.is_some() || !options.group_by_document || !merged.iter().any(short) {
                break merged;
            }
            k *= 4;
        };
        filters.into_iter().try_for_each(|filter| filter.finish())?;
        Ok(found)
    }

    /// One list of the hits of a query's vectors, each chunk with its best score.
    fn merge(&self, mut lists: Vec<Vec<ChunkHit>>) -> Vec<Candidate> {
        let hits = match lists.len() {
            1 => lists.pop().unwrap_or_default(),
            _ => {
                let mut best: HashMap<(u32, u32), ChunkHit> = HashMap::new();
                for hit in lists.into_iter().flatten() {
                    let known = best.entry((hit.shard, hit.row)).or_insert(hit);
                    known.score = known.score.max(hit.score);
                }
                best.into_values().collect()
            }
        };
        let chunk = |h: &ChunkHit| {
            let chunk = self.shards.get(h.shard as usize)?.semantic.as_ref()?.chunk(h.row)?;
            let document = DocumentRef { shard: h.shard, document: chunk.document };
            Some(Candidate { document, start: chunk.start_byte, end: chunk.end_byte, score: h.score })
        };
        let mut out: Vec<Candidate> = hits.iter().filter_map(chunk).collect();
        out.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.document.cmp(&b.document)).then(a.start.cmp(&b.start)));
        out
    }

    fn describe(
        &self,
        text: Option<(&dyn Encoder, &str)>,
        mut found: Vec<Candidate>,
        options: &NeighborOptions,
    ) -> Result<Vec<Neighbor>> {
        let mut seen = std::collections::HashSet::new();
        if options.rerank > 0 {
            found.truncate(options.rerank.max(options.top_k));
        } else {
            // Reranking may prefer another chunk of a document, so it comes before grouping.
            found.retain(|c| !options.group_by_document || seen.insert(c.document));
            if options.at_least.is_none() {
                found.truncate(options.top_k);
            }
        }
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
                alignment: Vec::new(),
            });
        }
        if let Some((encoder, text)) = text.filter(|_| options.rerank > 0 && !out.is_empty()) {
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
            if options.group_by_document {
                out.retain(|n| seen.insert(n.document));
            }
            if options.at_least.is_none() {
                out.truncate(options.top_k);
            }
        }
        if let Some((encoder, text)) = text.filter(|_| options.align) {
            let late = PlainLate::new(encoder);
            for n in &mut out {
                n.alignment = align_texts(&late, text, &n.text, false)?.tokens;
            }
        }
        Ok(out)
    }
}

/// Refuses what needs embeddings in an index that has none.
pub fn no_embeddings() -> Error {
    Error::invalid_hint("this index has no embeddings", "build it with --encoder all-minilm-l6-v2")
}

fn without_text(options: &NeighborOptions) -> Result<()> {
    if options.rerank > 0 || options.align {
        return Err(Error::invalid_hint(
            "a vector cannot be reranked by late interaction or aligned",
            "give the query as a text",
        ));
    }
    Ok(())
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
