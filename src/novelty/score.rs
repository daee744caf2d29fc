//! Scores: how near the corpus comes to a text, window length by window length.
//!
//! Overview. [`Scorer::score`] takes a batch of texts. Every window (see [`super::window`]) is embedded and all of them are searched
//! together (stage 1); of each window's candidates, half of those to rerank are the nearest by cosine and half those that share the rarest
//! tokens with it; MaxSim over token states (stage 2, [`super::states`]) scores these, and the best few are scored again as runs of
//! neighbouring chunks long enough to hold the whole window, so that a chunk boundary never decides.
//!
//! s(x) at a length is the mean over the text's windows of the window's best score: near 1 for a passage of the corpus itself (token
//! states see what stands around them, so a window cut from it is not quite 1), lower for less attributable text. A text that is in the corpus is scored without its own document.
//!
//! Invariants: a score depends on the text, the settings, the encoder and the generation, not on the batch. Cost: encoding the text once a
//! window length, and each candidate chunk once a run of the scorer.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::evidence::{self, Evidence};
use super::states::{ChunkKey, ChunkStates};
use super::window;
use crate::ann::{SearchParams, VectorIndex};
use crate::embed::late::{PackedQuery, TokenMatrix};
use crate::embed::{Encoder, EncoderTokens, Role};
use crate::error::{Error, Result};
use crate::index::{DocumentRef, Snapshot};

/// Encoder tokens below which a text is too small to judge.
pub const TINY: usize = 8;
/// Share of unknown tokens from which the encoder cannot be trusted to know the language.
pub const UNKNOWN: f64 = 0.05;

/// Everything that decides a score, with the encoder and the generation.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Settings {
    /// Window lengths in encoder tokens.
    pub windows: Vec<usize>,
    /// Candidates of stage 1, a window.
    pub candidates: usize,
    /// Candidates scored by late interaction, a window.
    pub rerank: usize,
    /// Candidates scored again with their neighbouring chunks, a window.
    pub extend: usize,
    /// Whether a text that is in the corpus is scored without its own document.
    pub leave_source_out: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            windows: vec![25, 50, 100, 200, 500],
            candidates: 100,
            rerank: 24,
            extend: 3,
            leave_source_out: true,
        }
    }
}

impl Settings {
    /// Errors: no window length, one of 0, nothing to rerank.
    pub fn check(&self) -> Result<()> {
        if self.windows.is_empty() || self.windows.contains(&0) {
            return Err(Error::invalid_hint(
                "window lengths must be positive numbers of tokens",
                "for example --windows 50,100,200",
            ));
        }
        if self.candidates == 0 || self.rerank == 0 {
            return Err(Error::invalid("candidates and rerank must be at least 1"));
        }
        Ok(())
    }
}

/// A text to score.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Text {
    pub id: String,
    pub text: String,
    /// Id of the document of the corpus it was taken from, if that is not `id`.
    pub source: Option<String>,
}

/// A passage of the corpus.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Passage {
    #[serde(flatten)]
    pub document: DocumentRef,
    pub id: String,
    pub path: String,
    pub start_byte: usize,
    pub end_byte: usize,
}

/// One window of a text and the nearest passage.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct WindowScore {
    /// Its bytes in the text.
    pub start_byte: usize,
    pub end_byte: usize,
    /// MaxSim against the best passage; 0 if there was no candidate.
    pub s: f64,
    /// Largest cosine of stage 1.
    pub cosine: f64,
    pub best: Option<Passage>,
}

/// A text at one window length.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LengthScore {
    /// Window length in encoder tokens.
    pub length: usize,
    /// Mean of the windows' scores.
    pub s: f64,
    /// Whether the text is shorter than every length asked for, so that it was scored as a whole: not comparable with a reference.
    #[serde(default)]
    pub short: bool,
    pub windows: Vec<WindowScore>,
}

/// What is known of one text.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Score {
    pub id: String,
    /// Encoder tokens.
    pub tokens: usize,
    /// Documents left out, because the text comes from them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<DocumentRef>,
    /// Share of tokens the encoder does not know.
    pub unknown_share: f64,
    pub lengths: Vec<LengthScore>,
    pub exact: Evidence,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Score {
    /// s(x) at a window length; `None` where the text is too short for it.
    pub fn at(&self, length: usize) -> Option<f64> {
        self.lengths.iter().find(|l| l.length == length && !l.short).map(|l| l.s)
    }
}

/// A candidate of stage 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub key: ChunkKey,
    pub document: u32,
    pub cosine: f32,
}

/// One window of the batch.
struct Window {
    text: usize,
    length: usize,
    short: bool,
    range: Range<usize>,
}

/// Scores texts against a snapshot.
pub struct Scorer<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) encoder: &'a dyn Encoder,
    pub settings: Settings,
    chunk: usize,
    stride: usize,
    unknown: Option<u32>,
    pub(super) states: ChunkStates<'a>,
}

impl<'a> Scorer<'a> {
    /// `memory`: bytes of chunk states to keep.
    ///
    /// # Errors
    /// An index without embeddings, an encoder that is not the index's, settings out of range.
    pub fn new(
        snapshot: &'a Snapshot,
        encoder: &'a dyn Encoder,
        settings: Settings,
        memory: usize,
    ) -> Result<Scorer<'a>> {
        snapshot.check_encoder(encoder)?;
        settings.check()?;
        if snapshot.manifest.chunking.as_ref().is_some_and(|c| !c.unit.is_encoder()) {
            return Err(Error::invalid_hint(
                "windows are counted in encoder tokens, and this index's chunks are cut by index tokens",
                "build the index with --chunk-unit encoder",
            ));
        }
        let (chunk, stride) =
            snapshot.manifest.chunking.as_ref().map_or((100, 100), |c| (c.tokens as usize, c.stride as usize));
        let unknown = unknown_token(encoder)?;
        let states = ChunkStates::new(snapshot, encoder, memory);
        Ok(Scorer { snapshot, encoder, settings, chunk: chunk.max(1), stride: stride.max(1), unknown, states })
    }

    /// Chunks that went through the encoder so far.
    pub fn chunks_encoded(&self) -> u64 {
        self.states.encoded
    }

    /// Encoder tokens of a chunk.
    pub(super) fn chunk_tokens(&self) -> usize {
        self.chunk
    }

    /// Consecutive chunks that hold any window of `length` tokens whole.
    fn run_length(&self, length: usize) -> usize {
        (length + self.stride).saturating_sub(self.chunk).div_ceil(self.stride) + 1
    }

    /// Scores a batch. Empty texts get no lengths and a warning. Memory grows with the batch: some 10 kB a token.
    pub fn score(&mut self, texts: &[Text]) -> Result<Vec<Score>> {
        let tokens: Vec<EncoderTokens> =
            texts.par_iter().map(|t| self.encoder.tokenize(&t.text)).collect::<Result<_>>()?;
        let left_out = texts.iter().map(|t| self.left_out(t)).collect::<Result<Vec<_>>>()?;
        let windows = self.cut(&tokens);
        let candidates = self.stage_one(&tokens, &windows, &left_out)?;
        let candidates = self.middle(&tokens, &windows, candidates)?;
        let mut found = self.stage_two(&tokens, &windows, &candidates)?;
        let exact: Vec<Evidence> = texts
            .par_iter()
            .zip(&left_out)
            .map(|(t, out)| {
                Ok(Evidence::of(&evidence::longest(self.snapshot, &self.snapshot.tokenize(&t.text)?, out)?))
            })
            .collect::<Result<_>>()?;
        let mut scores: Vec<Score> = Vec::with_capacity(texts.len());
        for (((text, tokens), left_out), exact) in texts.iter().zip(&tokens).zip(left_out).zip(exact) {
            let n = tokens.ids.len();
            let unknown = tokens.ids.iter().filter(|&&id| Some(id) == self.unknown).count();
            let unknown_share = unknown as f64 / n.max(1) as f64;
            let mut warnings = Vec::new();
            if n == 0 {
                warnings.push("the text is empty: nothing is scored".into());
            } else if n < TINY {
                warnings.push(format!("the text has {n} encoder tokens: too few to judge"));
            } else if self.settings.windows.iter().all(|&l| l > n) {
                warnings.push(format!(
                    "the text has {n} encoder tokens, fewer than any window length: it has no r and no p-value"
                ));
            }
            if unknown_share > UNKNOWN {
                warnings.push(format!(
                    "{:.0} % of the tokens are unknown to the encoder: it may not know this language, and what it does not know looks novel or alike",
                    100.0 * unknown_share
                ));
            }
            scores.push(Score {
                id: text.id.clone(),
                tokens: n,
                left_out,
                unknown_share,
                lengths: Vec::new(),
                exact,
                warnings,
            });
        }
        for (w, window) in windows.iter().enumerate() {
            let spans = &tokens[window.text].spans[window.range.clone()];
            let (s, best) = found[w].take().map_or((0.0, None), |(s, passage)| (s, Some(passage)));
            let score = WindowScore {
                start_byte: spans.first().map_or(0, |s| s.start as usize),
                end_byte: spans.last().map_or(0, |s| s.end as usize),
                s,
                cosine: candidates[w].iter().map(|c| f64::from(c.cosine)).fold(0.0, f64::max),
                best: best.map(|b| self.describe(b)).transpose()?,
            };
            let lengths = &mut scores[window.text].lengths;
            match lengths.last_mut() {
                Some(last) if last.length == window.length => last.windows.push(score),
                _ => lengths.push(LengthScore {
                    length: window.length,
                    s: 0.0,
                    short: window.short,
                    windows: vec![score],
                }),
            }
        }
        for length in scores.iter_mut().flat_map(|s| &mut s.lengths) {
            length.s = length.windows.iter().map(|w| w.s).sum::<f64>() / length.windows.len() as f64;
        }
        Ok(scores)
    }

    /// The documents a text comes from, as far as ids tell.
    fn left_out(&self, text: &Text) -> Result<Vec<DocumentRef>> {
        if !self.settings.leave_source_out {
            return Ok(Vec::new());
        }
        self.snapshot.find_id(text.source.as_deref().unwrap_or(&text.id))
    }

    fn cut(&self, tokens: &[EncoderTokens]) -> Vec<Window> {
        let mut lengths = self.settings.windows.clone();
        lengths.sort_unstable();
        lengths.dedup();
        let mut out = Vec::new();
        for (text, t) in tokens.iter().enumerate() {
            let n = t.ids.len();
            if n > 0 && n < lengths[0] {
                out.push(Window { text, length: n, short: true, range: 0..n });
            }
            for &length in &lengths {
                out.extend(window::windows(n, length).into_iter().map(|range| Window {
                    text,
                    length,
                    short: false,
                    range,
                }));
            }
        }
        out
    }

    /// Candidates of every window, best first.
    fn stage_one(
        &self,
        tokens: &[EncoderTokens],
        windows: &[Window],
        left_out: &[Vec<DocumentRef>],
    ) -> Result<Vec<Vec<Candidate>>> {
        let prompt = self.encoder.prompt(Role::Query);
        let most = self.encoder.max_window().saturating_sub(prompt.len()).max(1);
        // One search may serve several windows of a text.
        let mut numbers: HashMap<(usize, Range<usize>), usize> = HashMap::new();
        let mut searches: Vec<(usize, Range<usize>)> = Vec::new();
        let wanted: Vec<Vec<usize>> = windows
            .iter()
            .map(|w| {
                window::searches(w.range.clone(), self.chunk, most)
                    .into_iter()
                    .map(|range| {
                        *numbers.entry((w.text, range.clone())).or_insert_with(|| {
                            searches.push((w.text, range));
                            searches.len() - 1
                        })
                    })
                    .collect()
            })
            .collect();
        let inputs: Vec<Vec<u32>> =
            searches.iter().map(|(t, r)| [prompt, &tokens[*t].ids[r.clone()]].concat()).collect();
        let embedded = self.encoder.embed_ids(&inputs.iter().map(|i| i.as_slice()).collect::<Vec<_>>())?;
        let dim = self.encoder.spec().dim;
        let mut found: Vec<Vec<Candidate>> = vec![Vec::new(); searches.len()];
        // Texts with nothing to leave out are searched together, the others each with its own filter.
        let mut order: Vec<usize> = (0..searches.len()).collect();
        let group = |i: &usize| if left_out[searches[*i].0].is_empty() { None } else { Some(searches[*i].0) };
        order.sort_by_key(group);
        for same in order.chunk_by(|a, b| group(a) == group(b)) {
            let queries: Vec<f32> = same.iter().flat_map(|&i| &embedded[i * dim..(i + 1) * dim]).copied().collect();
            let hidden: &[DocumentRef] = group(&same[0]).map_or(&[], |t| &left_out[t]);
            for (&i, list) in same.iter().zip(search(self.snapshot, &queries, dim, self.settings.candidates, hidden)?) {
                found[i] = list;
            }
        }
        Ok(wanted
            .iter()
            .map(|of| {
                let mut all: Vec<Candidate> = of.iter().flat_map(|&i| &found[i]).copied().collect();
                all.sort_by(|a, b| b.cosine.total_cmp(&a.cosine).then(a.key.cmp(&b.key)));
                let mut seen = std::collections::HashSet::new();
                all.retain(|c| seen.insert(c.key));
                // Each chunk-sized part of a long window keeps its own candidates.
                all.truncate(self.settings.candidates * of.len().div_ceil(2));
                all
            })
            .collect())
    }

    /// Cuts each window's candidates to those that late interaction scores.
    fn middle(
        &mut self,
        tokens: &[EncoderTokens],
        windows: &[Window],
        candidates: Vec<Vec<Candidate>>,
    ) -> Result<Vec<Vec<Candidate>>> {
        let depth = |w: &Window| self.settings.rerank * w.range.len().div_ceil(2 * self.chunk);
        let crowded = |w: &Window, c: &[Candidate]| c.len() > depth(w);
        let keys: Vec<ChunkKey> = windows
            .iter()
            .zip(&candidates)
            .filter(|(w, c)| crowded(w, c))
            .flat_map(|(_, c)| c.iter().map(|c| c.key))
            .collect();
        let mut ids: HashMap<ChunkKey, Arc<Vec<u32>>> = HashMap::new();
        for (key, tokens) in keys.iter().zip(self.states.tokens(&keys)?) {
            ids.insert(*key, tokens);
        }
        Ok(windows
            .par_iter()
            .zip(candidates)
            .map(|(w, list)| {
                if !crowded(w, &list) {
                    return list;
                }
                overlapping(&tokens[w.text].ids[w.range.clone()], list, &ids, depth(w))
            })
            .collect())
    }

    /// Best score and passage (shard, rows) of every window.
    fn stage_two(
        &mut self,
        tokens: &[EncoderTokens],
        windows: &[Window],
        candidates: &[Vec<Candidate>],
    ) -> Result<Vec<Option<(f64, Run)>>> {
        let packed = self.pack(tokens, windows)?;
        let pairs = candidates.iter().enumerate().flat_map(|(w, list)| list.iter().map(move |c| (c.key, w))).collect();
        let mean = |strengths: &[f32]| strengths.iter().sum::<f32>() / strengths.len().max(1) as f32;
        let mut best: Vec<Vec<(f32, ChunkKey)>> = vec![Vec::new(); windows.len()];
        for ((key, w), score) in self.states.score(&packed, pairs, mean)? {
            best[w].push((score, key));
        }
        let mut pairs = Vec::new();
        for (w, list) in best.iter_mut().enumerate() {
            list.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            list.truncate(self.settings.extend.max(1));
            let reach = self.run_length(windows[w].length) - 1;
            for &(_, key) in list.iter() {
                pairs.extend(neighbours(self.snapshot, key, reach).map(|row| (ChunkKey { shard: key.shard, row }, w)));
            }
        }
        let strengths: HashMap<(ChunkKey, usize), Vec<f32>> =
            self.states.score(&packed, pairs, |s| s.to_vec())?.into_iter().collect();
        Ok((0..windows.len())
            .into_par_iter()
            .map(|w| {
                let rows = self.run_length(windows[w].length);
                let mut top: Option<(f64, Run)> = None;
                for &(_, key) in &best[w] {
                    let around = neighbours(self.snapshot, key, rows - 1);
                    let length = rows.min(around.len());
                    for first in around.start..=around.end.saturating_sub(length as u32) {
                        let run = Run { shard: key.shard, rows: first..first + length as u32 };
                        if !run.rows.contains(&key.row) {
                            continue;
                        }
                        let s = run_score(&strengths, w, &run);
                        if top.as_ref().is_none_or(|t| s > t.0) {
                            top = Some((s, run));
                        }
                    }
                }
                top
            })
            .collect())
    }

    /// Token states of every window, laid out for scoring.
    fn pack(&self, tokens: &[EncoderTokens], windows: &[Window]) -> Result<Vec<PackedQuery>> {
        let mut inputs: Vec<&[u32]> = Vec::new();
        let mut counts = Vec::with_capacity(windows.len());
        for w in windows {
            let parts = window::parts(w.range.clone(), self.encoder.max_window());
            counts.push(parts.len());
            inputs.extend(parts.into_iter().map(|p| &tokens[w.text].ids[p]));
        }
        let states = self.encoder.token_states(&inputs)?;
        let mut at = 0;
        Ok(counts
            .into_iter()
            .map(|n| {
                // The parts of a window follow each other, and so do their rows.
                let (from, to) = (states.offsets[at] * states.dim, states.offsets[at + n] * states.dim);
                at += n;
                PackedQuery::new(TokenMatrix { dim: states.dim, data: &states.data[from..to] })
            })
            .collect())
    }

    fn describe(&self, run: Run) -> Result<Passage> {
        let shard = &self.snapshot.shards[run.shard as usize];
        let chunk = |row: u32| {
            let missing = || Error::invalid(format!("there is no chunk {row} in shard {}", run.shard));
            shard.semantic.as_ref().and_then(|s| s.chunk(row)).ok_or_else(missing)
        };
        let (first, last) = (chunk(run.rows.start)?, chunk(run.rows.end.saturating_sub(1))?);
        let document = DocumentRef { shard: run.shard, document: first.document };
        Ok(Passage {
            document,
            id: shard.documents.id(first.document)?,
            path: shard.documents.path(first.document)?.to_string(),
            start_byte: first.start_byte as usize,
            end_byte: last.end_byte as usize,
        })
    }
}

/// Consecutive chunks of one document.
#[derive(Debug, Clone, PartialEq)]
struct Run {
    shard: u32,
    rows: Range<u32>,
}

/// Rows of the same document within `reach` of a chunk.
fn neighbours(snapshot: &Snapshot, key: ChunkKey, reach: usize) -> Range<u32> {
    let Some(semantic) = snapshot.shards.get(key.shard as usize).and_then(|s| s.semantic.as_ref()) else { return 0..0 };
    let Some(own) = semantic.chunk(key.row) else { return 0..0 };
    let same = |row: u32| semantic.chunk(row).is_some_and(|c| c.document == own.document);
    let (mut first, mut end) = (key.row, key.row + 1);
    for _ in 0..reach {
        if first > 0 && same(first - 1) {
            first -= 1;
        }
        if same(end) {
            end += 1;
        }
    }
    first..end
}

/// Mean over the window's tokens of the best strength in any chunk of the run.
fn run_score(strengths: &HashMap<(ChunkKey, usize), Vec<f32>>, window: usize, run: &Run) -> f64 {
    let mut best: Vec<f32> = Vec::new();
    for row in run.rows.clone() {
        let Some(of) = strengths.get(&(ChunkKey { shard: run.shard, row }, window)) else { continue };
        if best.is_empty() {
            best.clone_from(of);
        } else {
            best.iter_mut().zip(of).for_each(|(b, &s)| *b = b.max(s));
        }
    }
    best.iter().map(|&b| f64::from(b)).sum::<f64>() / best.len().max(1) as f64
}

/// Half of `depth` candidates by cosine, the rest by shared tokens, each weighing ln(candidates / candidates that have it).
fn overlapping(
    window: &[u32],
    list: Vec<Candidate>,
    ids: &HashMap<ChunkKey, Arc<Vec<u32>>>,
    depth: usize,
) -> Vec<Candidate> {
    let wanted: std::collections::BTreeSet<u32> = window.iter().copied().collect();
    let shared: Vec<std::collections::BTreeSet<u32>> = list
        .iter()
        .map(|c| {
            ids.get(&c.key)
                .map_or_else(Default::default, |t| t.iter().copied().filter(|id| wanted.contains(id)).collect())
        })
        .collect();
    let mut frequency: HashMap<u32, usize> = HashMap::new();
    shared.iter().flatten().for_each(|&id| *frequency.entry(id).or_default() += 1);
    let n = list.len() as f64;
    let weight: Vec<f64> = shared.iter().map(|s| s.iter().map(|id| (n / frequency[id] as f64).ln()).sum()).collect();
    let nearest = depth.div_ceil(2);
    let mut rest: Vec<usize> = (nearest..list.len()).collect();
    rest.sort_by(|&a, &b| weight[b].total_cmp(&weight[a]).then(a.cmp(&b)));
    rest.truncate(depth - nearest);
    rest.sort_unstable();
    (0..nearest).chain(rest).map(|i| list[i]).collect()
}

/// The nearest chunks of each query in all shards, best first, without those of `hidden` and of removed documents.
pub(super) fn search(
    snapshot: &Snapshot,
    queries: &[f32],
    dim: usize,
    k: usize,
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
        let filtered = !hidden.is_empty() || !snapshot.removals.is_empty();
        let keep: Option<crate::ann::Keep> = if filtered { Some(&keep) } else { None };
        for (list, hits) in all.iter_mut().zip(semantic.vectors.search(queries, k, &SearchParams::default(), keep)?) {
            list.extend(hits.iter().filter_map(|h| {
                let document = semantic.chunk(h.row)?.document;
                Some(Candidate { key: ChunkKey { shard: number, row: h.row }, document, cosine: h.score })
            }));
        }
    }
    for list in &mut all {
        list.sort_by(|a, b| b.cosine.total_cmp(&a.cosine).then(a.key.cmp(&b.key)));
        list.truncate(k);
    }
    Ok(all)
}

/// The id the encoder gives to what it does not know, if it has one: three characters of rare scripts that share one id.
fn unknown_token(encoder: &dyn Encoder) -> Result<Option<u32>> {
    let mut found = None;
    for rare in ["𪚥", "𐎀", "ꙮ"] {
        let ids = encoder.tokenize(rare)?.ids;
        match (ids.as_slice(), found) {
            ([id], None) => found = Some(*id),
            ([id], Some(before)) if *id == before => {}
            _ => return Ok(None),
        }
    }
    Ok(found)
}
