//! The scorer: texts in, scores out.
//!
//! Overview. [`Scorer::score`] takes a batch of texts. Every window (see [`super::window`]) is embedded and all of them are searched
//! together (stage 1); the middle stage cuts each window's candidates ([`super::candidates`]); MaxSim over token states (stage 2,
//! [`super::states`]) scores the rest, and the best few are scored again as runs of neighbouring chunks long enough to hold the whole
//! window, so that a chunk boundary never decides. What token states are is the [`LateEncoder`]'s affair: the hidden states of the
//! index's own encoder, or a ColBERT checkpoint with another vocabulary.
//!
//! Invariants: a score depends on the text, the settings, the encoders and the generation, not on the batch. Windows longer than the
//! encoder takes are scored as their parts; nothing is cut off. Cost: encoding the text once a window length, and each candidate chunk
//! once a token cache.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use rayon::prelude::*;

use super::candidates::{Candidate, Searches, cut, merge, search};
use super::certify::{Certified, Certifier};
use super::evidence::{self, Evidence};
use super::language::Language;
use super::score::{CacheOptions, LengthScore, Passage, Score, Settings, TINY, Text, WindowScore};
use super::states::{ChunkKey, ChunkStates};
use super::{bleu, source, window};
use crate::embed::alignment::{Alignment, align_texts};
use crate::embed::colbert::LateEncoder;
use crate::embed::late::{PackedQuery, TokenMatrix};
use crate::embed::{Encoder, EncoderTokens, Role};
use crate::error::{Error, Result};
use crate::index::{DocumentRef, Snapshot};

/// One window of the batch.
pub(super) struct Window {
    pub text: usize,
    pub length: usize,
    pub short: bool,
    pub range: Range<usize>,
}

/// The nearest passage of a window.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Nearest {
    pub s: f64,
    pub reverse: f64,
    pub run: Run,
}

/// Consecutive chunks of one document.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    pub shard: u32,
    pub rows: Range<u32>,
}

/// A batch after every stage.
pub(super) struct Staged {
    pub windows: Vec<Window>,
    /// Of stage 1, best first.
    pub candidates: Vec<Vec<Candidate>>,
    /// What the middle stage left of them.
    pub reranked: Vec<Vec<Candidate>>,
    pub nearest: Vec<Option<Nearest>>,
    /// Whether each window is certified, where that was asked for.
    pub certified: Option<Vec<bool>>,
}

/// Tokens of a text as both encoders cut it.
pub(super) struct Cut {
    pub tokens: EncoderTokens,
    /// `None`: the same.
    late: Option<EncoderTokens>,
}

impl Cut {
    fn late(&self) -> &EncoderTokens {
        self.late.as_ref().unwrap_or(&self.tokens)
    }

    /// The late encoder's tokens of a range of the other's.
    fn late_range(&self, range: &Range<usize>) -> Range<usize> {
        let (Some(late), Some(first), Some(last)) =
            (&self.late, self.tokens.spans.get(range.start), self.tokens.spans.get(range.end.wrapping_sub(1)))
        else {
            return range.clone();
        };
        late.spans.partition_point(|s| s.end <= first.start)..late.spans.partition_point(|s| s.start < last.end)
    }
}

/// Scores texts against a snapshot.
pub struct Scorer<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) encoder: &'a dyn Encoder,
    late: &'a dyn LateEncoder,
    pub settings: Settings,
    chunk: usize,
    stride: usize,
    language: Language<'a>,
    pub(super) states: ChunkStates<'a>,
    pub(super) certifier: Option<Certifier>,
    /// What certification proved and looked at so far.
    pub certified: Certified,
}

impl<'a> Scorer<'a> {
    /// `encoder` is the index's, `late` makes token states; `memory`: bytes of chunk states to keep; `cache`: where they are kept for
    /// later runs.
    ///
    /// # Errors
    /// An index without embeddings, an encoder that is not the index's, settings out of range, a cache of something else.
    pub fn new(
        snapshot: &'a Snapshot,
        encoder: &'a dyn Encoder,
        late: &'a dyn LateEncoder,
        mut settings: Settings,
        memory: usize,
        cache: Option<&CacheOptions>,
    ) -> Result<Scorer<'a>> {
        snapshot.check_encoder(encoder)?;
        if snapshot.manifest.chunking.as_ref().is_some_and(|c| !c.unit.is_encoder()) {
            return Err(Error::invalid_hint(
                "windows are counted in encoder tokens, and this index's chunks are cut by index tokens",
                "build the index with --chunk-unit encoder",
            ));
        }
        settings.check()?;
        settings.windows.sort_unstable();
        settings.windows.dedup();
        let (chunk, stride) =
            snapshot.manifest.chunking.as_ref().map_or((100, 100), |c| (c.tokens as usize, c.stride as usize));
        let language = Language::of(snapshot, encoder)?;
        let mut states = ChunkStates::new(snapshot, late, memory);
        if let Some(cache) = cache {
            states.attach(&cache.dir, cache.bits)?;
        }
        let rule = |length: usize| late.query_rule(length.min(late.longest_query()), settings.count_masks);
        settings.late = match late.bi_encoder() {
            Some(_) => late.settings(&rule(0)),
            None => settings.windows.iter().map(|&l| (l.to_string(), late.settings(&rule(l)))).collect(),
        };
        settings.document_states = states.describe();
        let chunk = chunk.max(1);
        let stride = stride.max(1);
        let (certifier, certified) = (None, Certified::default());
        Ok(Scorer { snapshot, encoder, late, settings, chunk, stride, language, states, certifier, certified })
    }

    /// Also proves of every window whether no chunk has a cosine of `tau` or more with it.
    pub fn certify(&mut self, tau: f64) -> Result<()> {
        self.certifier = Some(Certifier::new(self.snapshot, tau, 42)?);
        Ok(())
    }

    /// What is scored against.
    pub fn snapshot(&self) -> &'a Snapshot {
        self.snapshot
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

    /// Candidates that are reranked of a window.
    fn depth(&self, w: &Window) -> usize {
        self.settings.rerank * w.range.len().div_ceil(2 * self.chunk)
    }

    /// A text as both encoders cut it.
    pub(super) fn tokenize(&self, text: &str) -> Result<Cut> {
        let tokens = self.encoder.tokenize(text)?;
        let late = if self.late.bi_encoder().is_some() { None } else { Some(self.late.tokenize(text)?) };
        Ok(Cut { tokens, late })
    }

    /// Scores a batch. Empty texts get no lengths and a warning. Memory grows with the batch: some 15 kB a token.
    pub fn score(&mut self, texts: &[Text]) -> Result<Vec<Score>> {
        let cuts: Vec<Cut> = texts.par_iter().map(|t| self.tokenize(&t.text)).collect::<Result<_>>()?;
        let left_out = texts.par_iter().map(|t| self.left_out(t)).collect::<Result<Vec<_>>>()?;
        let windows = windows_of(&cuts, &self.settings.windows);
        let staged = self.stage(&cuts, windows, &left_out, true)?;
        let exact: Vec<Evidence> = texts
            .par_iter()
            .zip(&left_out)
            .map(|(t, out)| {
                Ok(Evidence::of(&evidence::longest(self.snapshot, &self.snapshot.tokenize(&t.text)?, out)?))
            })
            .collect::<Result<_>>()?;
        let mut scores: Vec<Score> = Vec::with_capacity(texts.len());
        for (((text, cut), left_out), exact) in texts.iter().zip(&cuts).zip(left_out).zip(exact) {
            let n = cut.tokens.ids.len();
            scores.push(Score {
                id: text.id.clone(),
                domain: text.domain.clone(),
                tokens: n,
                left_out,
                unknown_share: self.language.unknown_share(&cut.tokens),
                lengths: Vec::new(),
                exact,
                warnings: self.warnings(&text.text, &cut.tokens)?,
            });
        }
        for (w, window) in staged.windows.iter().enumerate() {
            let spans = &cuts[window.text].tokens.spans[window.range.clone()];
            let nearest = staged.nearest[w].as_ref();
            let score = WindowScore {
                start_byte: spans.first().map_or(0, |s| s.start as usize),
                end_byte: spans.last().map_or(0, |s| s.end as usize),
                s: nearest.map_or(0.0, |n| n.s),
                reverse: nearest.map_or(0.0, |n| n.reverse),
                cosine: staged.candidates[w].iter().map(|c| f64::from(c.cosine)).fold(0.0, f64::max),
                best: nearest.map(|n| self.describe(&n.run)).transpose()?,
            };
            let lengths = &mut scores[window.text].lengths;
            let certified = staged.certified.as_ref().map(|c| c[w]);
            match lengths.last_mut() {
                Some(last) if last.length == window.length => {
                    last.windows.push(score);
                    last.certified = last.certified.zip(certified).map(|(a, b)| a && b);
                }
                _ => lengths.push(LengthScore {
                    length: window.length,
                    s: 0.0,
                    reverse: 0.0,
                    cosine: 0.0,
                    certified,
                    short: window.short,
                    windows: vec![score],
                }),
            }
        }
        for length in scores.iter_mut().flat_map(|s| &mut s.lengths) {
            let mean = |of: fn(&WindowScore) -> f64| {
                length.windows.iter().map(of).sum::<f64>() / length.windows.len().max(1) as f64
            };
            (length.s, length.reverse) = (mean(|w| w.s), mean(|w| w.reverse));
            length.cosine = length.windows.iter().map(|w| w.cosine).fold(0.0, f64::max);
        }
        let snapshot = self.snapshot;
        scores.par_iter_mut().zip(texts).try_for_each(|(score, text)| {
            bleu::approximate(snapshot, &text.text, score).map(|b| score.exact.bleu = b)
        })?;
        Ok(scores)
    }

    fn warnings(&self, text: &str, tokens: &EncoderTokens) -> Result<Vec<String>> {
        let n = tokens.ids.len();
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
        warnings.extend(self.language.warning(text, tokens)?);
        Ok(warnings)
    }

    /// The documents a text comes from: the one it names; of a human text also those with its id, and those that hold it.
    fn left_out(&self, text: &Text) -> Result<Vec<DocumentRef>> {
        let mut out = match &text.source {
            Some(id) => self.snapshot.find_id(id)?,
            None => Vec::new(),
        };
        if self.settings.leave_source_out && text.human {
            out.extend(self.snapshot.find_id(&text.id)?);
            out.extend(source::holding(self.snapshot, &text.text)?);
        }
        out.sort_unstable();
        out.dedup();
        Ok(out)
    }

    /// All stages for the windows of a batch. `left_out` has an entry a text; `certify`: windows are also certified, where that was
    /// asked for.
    pub(super) fn stage(
        &mut self,
        cuts: &[Cut],
        windows: Vec<Window>,
        left_out: &[Vec<DocumentRef>],
        certify: bool,
    ) -> Result<Staged> {
        let prompt = self.encoder.prompt(Role::Query);
        let most = self.encoder.max_window().saturating_sub(prompt.len()).max(1);
        let mut searches = Searches::default();
        let wanted: Vec<Vec<usize>> = windows
            .iter()
            .map(|w| {
                let parts = window::searches(w.range.clone(), self.chunk, most);
                parts.into_iter().map(|range| searches.number(w.text, range)).collect()
            })
            .collect();
        let (embedded, packed) = self.encode(cuts, &windows, &searches)?;
        let found = self.search(&embedded, &searches, left_out)?;
        let certified = match self.certifier.as_ref().filter(|_| certify) {
            Some(certifier) => {
                let hidden: Vec<&[DocumentRef]> =
                    searches.ranges.iter().map(|(text, _)| left_out[*text].as_slice()).collect();
                let dim = self.encoder.spec().dim;
                let each = certifier.certify(self.snapshot, &embedded, dim, &hidden, &mut self.certified)?;
                Some(wanted.iter().map(|of| of.iter().all(|&i| each[i])).collect())
            }
            None => None,
        };
        let candidates: Vec<Vec<Candidate>> = wanted
            .par_iter()
            .map(|of| {
                let lists: Vec<&[Candidate]> = of.iter().map(|&i| found[i].as_slice()).collect();
                // Each chunk-sized part of a long window keeps its own candidates.
                merge(&lists, self.settings.candidates * of.len().div_ceil(2))
            })
            .collect();
        drop(found);
        let tokens: Vec<&[u32]> =
            windows.iter().map(|w| &cuts[w.text].late().ids[cuts[w.text].late_range(&w.range)]).collect();
        let depth: Vec<usize> = windows.iter().map(|w| self.depth(w)).collect();
        let reranked = cut(&mut self.states, &tokens, &candidates, &depth)?;
        let nearest = self.late_interaction(&packed, &windows, &reranked)?;
        Ok(Staged { windows, candidates, reranked, nearest, certified })
    }

    /// Embeddings of every search, and token states of every window laid out for scoring.
    fn encode(&self, cuts: &[Cut], windows: &[Window], searches: &Searches) -> Result<(Vec<f32>, Vec<PackedQuery>)> {
        let prompt = self.encoder.prompt(Role::Query);
        let longest = self.late.longest_query().max(1);
        let parts: Vec<Vec<Range<usize>>> =
            windows.iter().map(|w| window::parts(cuts[w.text].late_range(&w.range), longest)).collect();
        if self.late.bi_encoder().is_some() && prompt.is_empty() {
            // One pass of the network gives both.
            let mut all = Searches::default();
            for (text, range) in &searches.ranges {
                all.number(*text, range.clone());
            }
            let of: Vec<Vec<usize>> = windows
                .iter()
                .zip(&parts)
                .map(|(w, parts)| parts.iter().map(|p| all.number(w.text, p.clone())).collect())
                .collect();
            let inputs: Vec<&[u32]> = all.ranges.iter().map(|(t, r)| &cuts[*t].tokens.ids[r.clone()]).collect();
            let (mut embedded, states) = self.encoder.embed_with_states(&inputs)?;
            embedded.truncate(searches.ranges.len() * self.encoder.spec().dim);
            let packed = of
                .par_iter()
                .map(|numbers| {
                    let rows: Vec<&[f32]> = numbers.iter().map(|&i| states.view(i).data).collect();
                    PackedQuery::new(TokenMatrix { dim: states.dim, data: &rows.concat() })
                })
                .collect();
            return Ok((embedded, packed));
        }
        let inputs: Vec<Vec<u32>> =
            searches.ranges.iter().map(|(t, r)| [prompt, &cuts[*t].tokens.ids[r.clone()]].concat()).collect();
        let embedded = self.encoder.embed_ids(&inputs.iter().map(|i| i.as_slice()).collect::<Vec<_>>())?;
        // Windows whose rule is the same go through the encoder together.
        let mut groups: BTreeMap<Option<usize>, Vec<(usize, usize)>> = BTreeMap::new();
        for (w, parts) in parts.iter().enumerate() {
            for (p, part) in parts.iter().enumerate() {
                let rule = self.late.query_rule(part.len(), self.settings.count_masks);
                groups.entry(rule.maxlen).or_default().push((w, p));
            }
        }
        let dim = self.late.spec().dim;
        let mut rows: Vec<Vec<Vec<f32>>> = parts.iter().map(|p| vec![Vec::new(); p.len()]).collect();
        for (maxlen, members) in groups {
            let rule = crate::embed::colbert::QueryRule { maxlen, count_masks: self.settings.count_masks };
            let inputs: Vec<&[u32]> =
                members.iter().map(|&(w, p)| &cuts[windows[w].text].late().ids[parts[w][p].clone()]).collect();
            let states = self.late.queries(&inputs, &rule)?.states;
            for (i, &(w, p)) in members.iter().enumerate() {
                rows[w][p] = states.view(i).data.to_vec();
            }
        }
        let packed = rows.par_iter().map(|r| PackedQuery::new(TokenMatrix { dim, data: &r.concat() })).collect();
        Ok((embedded, packed))
    }

    /// Stage 1 for every search.
    fn search(
        &self,
        embedded: &[f32],
        searches: &Searches,
        left_out: &[Vec<DocumentRef>],
    ) -> Result<Vec<Vec<Candidate>>> {
        let dim = self.encoder.spec().dim;
        let mut found: Vec<Vec<Candidate>> = vec![Vec::new(); searches.ranges.len()];
        // Texts with the same documents to leave out are searched together; for most there are none.
        let hidden = |i: &usize| left_out[searches.ranges[*i].0].as_slice();
        let mut order: Vec<usize> = (0..searches.ranges.len()).collect();
        order.sort_by_key(|i| hidden(i));
        for same in order.chunk_by(|a, b| hidden(a) == hidden(b)) {
            let queries: Vec<f32> = same.iter().flat_map(|&i| &embedded[i * dim..(i + 1) * dim]).copied().collect();
            let (k, exhaustive) = (self.settings.candidates, self.settings.exhaustive);
            for (&i, list) in same.iter().zip(search(self.snapshot, &queries, dim, k, exhaustive, hidden(&same[0]))?) {
                found[i] = list;
            }
        }
        Ok(found)
    }

    /// Stage 2: the nearest passage of every window among its candidates.
    fn late_interaction(
        &mut self,
        packed: &[PackedQuery],
        windows: &[Window],
        candidates: &[Vec<Candidate>],
    ) -> Result<Vec<Option<Nearest>>> {
        let pairs = candidates.iter().enumerate().flat_map(|(w, list)| list.iter().map(move |c| (c.key, w))).collect();
        let mut best: Vec<Vec<(f32, ChunkKey)>> = vec![Vec::new(); windows.len()];
        for ((key, w), score) in self.states.score(packed, pairs, |q, d, scratch| q.score(d, scratch))? {
            best[w].push((score, key));
        }
        let mut pairs = Vec::new();
        for (w, list) in best.iter_mut().enumerate() {
            list.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            list.truncate(self.settings.extend.max(1));
            let reach = self.run_length(windows[w].length) - 1;
            for &(_, key) in list.iter() {
                pairs.extend(neighbours(self.snapshot, key, reach).map(|row| (ChunkKey { shard: key.shard, row }, w)));
            }
        }
        let strengths: HashMap<(ChunkKey, usize), (Vec<f32>, f32)> = self
            .states
            .score(packed, pairs, |q, d, scratch| {
                let reverse = q.reverse(d, scratch);
                (q.best(d, scratch).to_vec(), reverse)
            })?
            .into_iter()
            .collect();
        Ok((0..windows.len())
            .into_par_iter()
            .map(|w| {
                let rows = self.run_length(windows[w].length);
                let mut top: Option<Nearest> = None;
                for &(_, key) in &best[w] {
                    let around = neighbours(self.snapshot, key, rows - 1);
                    let length = rows.min(around.len());
                    for first in around.start..=around.end.saturating_sub(length as u32) {
                        let run = Run { shard: key.shard, rows: first..first + length as u32 };
                        if !run.rows.contains(&key.row) {
                            continue;
                        }
                        let s = run_score(&strengths, w, &run);
                        if top.as_ref().is_none_or(|t| s > t.s) {
                            let reverse = strengths.get(&(key, w)).map_or(0.0, |s| f64::from(s.1));
                            top = Some(Nearest { s, reverse, run });
                        }
                    }
                }
                top
            })
            .collect())
    }

    /// Which token of a scored window matched which of its nearest passage, in bytes of the window and of the passage; `None` where
    /// nothing was found.
    pub fn align(&self, text: &str, window: &WindowScore) -> Result<Option<Alignment>> {
        let Some(best) = &window.best else { return Ok(None) };
        let documents = &self.snapshot.shards[best.document.shard as usize].documents;
        let (passage, _) = documents.text_range(best.document.document, best.start_byte..best.end_byte)?;
        let own = text.get(window.start_byte..window.end_byte).unwrap_or_default();
        align_texts(self.late, own, &passage, self.settings.count_masks).map(Some)
    }

    fn describe(&self, run: &Run) -> Result<Passage> {
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

/// The windows of texts at ascending `lengths`; a text shorter than all of them is one short window.
pub(super) fn windows_of(cuts: &[Cut], lengths: &[usize]) -> Vec<Window> {
    let mut out = Vec::new();
    for (text, cut) in cuts.iter().enumerate() {
        let n = cut.tokens.ids.len();
        if n > 0 && lengths.first().is_none_or(|&l| n < l) {
            out.push(Window { text, length: n, short: true, range: 0..n });
        }
        for &length in lengths {
            let of = window::windows(n, length).into_iter();
            out.extend(of.map(|range| Window { text, length, short: false, range }));
        }
    }
    out
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
fn run_score(strengths: &HashMap<(ChunkKey, usize), (Vec<f32>, f32)>, window: usize, run: &Run) -> f64 {
    let mut best: Vec<f32> = Vec::new();
    for row in run.rows.clone() {
        let Some((of, _)) = strengths.get(&(ChunkKey { shard: run.shard, row }, window)) else { continue };
        if best.is_empty() {
            best.clone_from(of);
        } else {
            best.iter_mut().zip(of).for_each(|(b, &s)| *b = b.max(s));
        }
    }
    best.iter().map(|&b| f64::from(b)).sum::<f64>() / best.len().max(1) as f64
}
