//! Late-interaction encoders: ColBERT checkpoints, and any bi-encoder's last hidden states, behind one interface.
//!
//! Overview. [`LateEncoder`] gives the token states that [`super::late`] scores. [`ColbertEncoder`] follows ColBERTv2
//! exactly: query `[CLS] [Q] t… [SEP]` filled up to `query_maxlen` with `[MASK]`, which is scored but not attended to;
//! document `[CLS] [D] t… [SEP]` whose punctuation is dropped after encoding; states projected by `linear.weight` and
//! normalised. Configuration comes from the checkpoint's `artifact.metadata`. [`PlainLate`] uses the last hidden states of
//! an [`Encoder`] as they are.
//!
//! Invariants. Nothing is cut silently: ColBERT's own truncation at 32 query tokens is an error here, whose remedy is a
//! larger `maxlen`, and [`LateEncoder::settings`] says what was used. Every state knows the window token it stands for.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Value, json};

use super::forward::{Network, Sequence};
use super::kernel::{self, Isa, Panels};
use super::model_files::{ModelFiles, OpenOptions, Pooling, integer, required_json};
use super::rowwise::l2_normalize;
use super::{Encoder, EncoderSpec, EncoderTokens, TokenStates};
use crate::error::{Error, Result};

/// How queries are encoded; recorded with every score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct QueryRule {
    /// Length of an encoded query with its special tokens; the checkpoint's own (32 in ColBERTv2) when `None`.
    pub maxlen: Option<usize>,
    /// Whether the states of the `[MASK]` filling are scored, as ColBERT does.
    pub count_masks: bool,
}

impl Default for QueryRule {
    fn default() -> Self {
        QueryRule { maxlen: None, count_masks: true }
    }
}

/// States of several texts, and the window token each row stands for (`None`: a special token, a marker or filling).
#[derive(Debug, Clone, Default)]
pub struct LateStates {
    pub states: TokenStates,
    pub origin: Vec<Option<u32>>,
}

/// What gives token states for late interaction.
pub trait LateEncoder: Send + Sync {
    fn spec(&self) -> &EncoderSpec;
    /// Encoder tokens of a text, no special tokens, no truncation.
    fn tokenize(&self, text: &str) -> Result<EncoderTokens>;
    /// The rule for query windows of up to `window` tokens: long enough to cut none, and with `count_masks` no shorter than the
    /// checkpoint's own.
    fn query_rule(&self, window: usize, count_masks: bool) -> QueryRule;
    /// Longest query window under any rule.
    fn longest_query(&self) -> usize;
    /// The bi-encoder whose hidden states these are, where they are one's.
    fn bi_encoder(&self) -> Option<&dyn Encoder> {
        None
    }
    /// Longest query window under `rule`.
    fn query_window(&self, rule: &QueryRule) -> usize;
    /// Longest document window.
    fn document_window(&self) -> usize;
    /// Unit states of queries. A window longer than [`LateEncoder::query_window`] is an error.
    fn queries(&self, windows: &[&[u32]], rule: &QueryRule) -> Result<LateStates>;
    /// Unit states of documents. A window longer than [`LateEncoder::document_window`] is an error.
    fn documents(&self, windows: &[&[u32]]) -> Result<LateStates>;
    /// Everything that decides a score, for reports and calibrations.
    fn settings(&self, rule: &QueryRule) -> Value;
}

/// A bi-encoder's last hidden states, special tokens excluded.
pub struct PlainLate<'a> {
    encoder: &'a dyn Encoder,
}

impl<'a> PlainLate<'a> {
    pub fn new(encoder: &'a dyn Encoder) -> PlainLate<'a> {
        PlainLate { encoder }
    }

    fn states(&self, windows: &[&[u32]]) -> Result<LateStates> {
        let states = self.encoder.token_states(windows)?;
        let origin = windows.iter().flat_map(|w| (0..w.len() as u32).map(Some)).collect();
        Ok(LateStates { states, origin })
    }
}

impl LateEncoder for PlainLate<'_> {
    fn spec(&self) -> &EncoderSpec {
        self.encoder.spec()
    }

    fn tokenize(&self, text: &str) -> Result<EncoderTokens> {
        self.encoder.tokenize(text)
    }

    fn query_rule(&self, _window: usize, _count_masks: bool) -> QueryRule {
        QueryRule { maxlen: None, count_masks: false }
    }

    fn longest_query(&self) -> usize {
        self.encoder.max_window()
    }

    fn bi_encoder(&self) -> Option<&dyn Encoder> {
        Some(self.encoder)
    }

    fn query_window(&self, _rule: &QueryRule) -> usize {
        self.encoder.max_window()
    }

    fn document_window(&self) -> usize {
        self.encoder.max_window()
    }

    fn queries(&self, windows: &[&[u32]], _rule: &QueryRule) -> Result<LateStates> {
        self.states(windows)
    }

    fn documents(&self, windows: &[&[u32]]) -> Result<LateStates> {
        self.states(windows)
    }

    fn settings(&self, _rule: &QueryRule) -> Value {
        json!({"late": "hidden-states", "encoder": self.encoder.spec(), "special_tokens": false})
    }
}

/// What `artifact.metadata` says, resolved against the vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColbertSettings {
    pub dim: usize,
    pub query_maxlen: usize,
    pub doc_maxlen: usize,
    pub mask_punctuation: bool,
    pub attend_to_masks: bool,
    pub query_marker: u32,
    pub document_marker: u32,
    pub mask: u32,
}

/// An encoded input: ids, how many of them are attended to, and which are scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColbertInput {
    pub ids: Vec<u32>,
    pub attend: usize,
    pub scored: Vec<bool>,
}

/// A ColBERT checkpoint: `bert.*` and `linear.weight` in safetensors, `tokenizer.json`, `artifact.metadata`.
pub struct ColbertEncoder {
    files: ModelFiles,
    network: Network,
    linear: Panels,
    isa: Isa,
    settings: ColbertSettings,
    punctuation: HashSet<u32>,
}

/// `[CLS]`, the marker and `[SEP]`.
const SPECIALS: usize = 3;
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

impl ColbertEncoder {
    /// Opens a checkpoint directory.
    ///
    /// # Errors
    /// [`Error::Model`] when `artifact.metadata`, the markers, `[MASK]` or `linear.weight` are missing or misshapen.
    pub fn open(dir: &Path) -> Result<ColbertEncoder> {
        ColbertEncoder::open_isa(dir, Isa::detect())
    }

    /// As [`ColbertEncoder::open`], on a given instruction set.
    pub fn open_isa(dir: &Path, isa: Isa) -> Result<ColbertEncoder> {
        let metadata_path = dir.join("artifact.metadata");
        let metadata = required_json(&metadata_path)?;
        // The pooling is never used; naming one spares the directory a file that ColBERT checkpoints do not have.
        let options = OpenOptions { pooling: Some(Pooling::Cls), ..OpenOptions::default() };
        let mut files = ModelFiles::open(dir, &options)?;
        let unusable = |what: String| Error::Model { path: metadata_path.clone(), what };
        let id =
            |token: &str| files.tokenizer.id(token).ok_or_else(|| unusable(format!("the vocabulary has no {token}")));
        let positions = files.spec.max_tokens;
        let settings = ColbertSettings {
            dim: integer(&metadata, &["dim"]).unwrap_or(128),
            query_maxlen: integer(&metadata, &["query_maxlen"]).unwrap_or(32),
            doc_maxlen: integer(&metadata, &["doc_maxlen"]).unwrap_or(220).min(positions),
            mask_punctuation: metadata["mask_punctuation"].as_bool().unwrap_or(true),
            attend_to_masks: metadata["attend_to_mask_tokens"].as_bool().unwrap_or(false),
            query_marker: id(metadata["query_token_id"].as_str().unwrap_or("[unused0]"))?,
            document_marker: id(metadata["doc_token_id"].as_str().unwrap_or("[unused1]"))?,
            mask: id("[MASK]")?,
        };
        if settings.query_maxlen <= SPECIALS || settings.doc_maxlen <= SPECIALS {
            return Err(unusable(format!("query_maxlen and doc_maxlen must exceed the {SPECIALS} special tokens")));
        }
        if files.tokenizer.leading() != 1 || files.tokenizer.specials() != 2 {
            return Err(unusable("its tokenizer does not surround a text with [CLS] and [SEP]".into()));
        }
        let network = Network::load(&files.weights, &files.config, &files.model_type, isa)?;
        let (dim, hidden) = (settings.dim, network.hidden());
        let linear = Panels::from_rows(&files.weights.get("linear.weight", &[dim, hidden])?, dim, hidden);
        let mut punctuation = HashSet::new();
        for (at, symbol) in PUNCTUATION.char_indices() {
            let tokens = files.tokenizer.encode(&PUNCTUATION[at..at + symbol.len_utf8()])?;
            punctuation.extend(tokens.ids.first());
        }
        files.spec.dim = dim;
        files.spec.pooling = "none".into();
        Ok(ColbertEncoder { files, network, linear, isa, settings, punctuation })
    }

    /// The checkpoint's configuration.
    pub fn checkpoint(&self) -> &ColbertSettings {
        &self.settings
    }

    fn maxlen(&self, rule: &QueryRule) -> usize {
        rule.maxlen.unwrap_or(self.settings.query_maxlen).min(self.files.spec.max_tokens)
    }

    /// `[CLS] marker window [SEP]`.
    fn marked(&self, marker: u32, window: &[u32]) -> Vec<u32> {
        let mut ids = self.files.tokenizer.wrap(window);
        ids.insert(1, marker);
        ids
    }

    /// The input of a query window.
    pub fn query_input(&self, window: &[u32], rule: &QueryRule) -> Result<ColbertInput> {
        let (room, maxlen) = (self.query_window(rule), self.maxlen(rule));
        if window.len() > room {
            return Err(Error::invalid_hint(
                format!("a query window of {} tokens; query_maxlen {maxlen} takes {room}", window.len()),
                "raise query_maxlen, or use a shorter window",
            ));
        }
        let mut ids = self.marked(self.settings.query_marker, window);
        let attend = if self.settings.attend_to_masks { maxlen } else { ids.len() };
        let mut scored = vec![true; ids.len()];
        ids.resize(maxlen, self.settings.mask);
        scored.resize(maxlen, rule.count_masks);
        Ok(ColbertInput { ids, attend, scored })
    }

    /// The input of a document window.
    pub fn document_input(&self, window: &[u32]) -> Result<ColbertInput> {
        let room = self.document_window();
        if window.len() > room {
            return Err(Error::invalid_hint(
                format!(
                    "a document window of {} tokens; doc_maxlen {} takes {room}",
                    window.len(),
                    self.settings.doc_maxlen
                ),
                "use shorter chunks",
            ));
        }
        let ids = self.marked(self.settings.document_marker, window);
        let scored = ids.iter().map(|id| !(self.settings.mask_punctuation && self.punctuation.contains(id))).collect();
        Ok(ColbertInput { attend: ids.len(), ids, scored })
    }

    /// Encodes inputs: rows of unscored tokens are left out.
    fn encode(&self, inputs: &[ColbertInput], windows: &[&[u32]]) -> Result<LateStates> {
        let sequences: Vec<Sequence<'_>> = inputs.iter().map(|i| Sequence { ids: &i.ids, attend: i.attend }).collect();
        let (dim, hidden) = (self.settings.dim, self.network.hidden());
        let rows = self.network.run(&sequences, |i, states| {
            let len = inputs[i].ids.len();
            let mut projected = vec![0f32; len * dim];
            kernel::gemm(self.isa, len, states, hidden, self.linear.view(), None, &mut projected, dim);
            projected.chunks_exact_mut(dim).for_each(l2_normalize);
            let kept = projected.chunks_exact(dim).zip(&inputs[i].scored).filter(|(_, scored)| **scored);
            kept.flat_map(|(row, _)| row.iter().copied()).collect::<Vec<f32>>()
        })?;
        let mut out =
            LateStates { states: TokenStates { dim, offsets: vec![0], data: Vec::new() }, origin: Vec::new() };
        for ((input, window), rows) in inputs.iter().zip(windows).zip(rows) {
            for (at, _) in input.scored.iter().enumerate().filter(|(_, scored)| **scored) {
                let token = at.checked_sub(2).filter(|&t| t < window.len());
                out.origin.push(token.map(|t| t as u32));
            }
            out.states.data.extend(rows);
            out.states.offsets.push(out.states.data.len() / dim);
        }
        Ok(out)
    }
}

impl LateEncoder for ColbertEncoder {
    fn spec(&self) -> &EncoderSpec {
        &self.files.spec
    }

    fn tokenize(&self, text: &str) -> Result<EncoderTokens> {
        self.files.tokenizer.encode(text)
    }

    fn query_rule(&self, window: usize, count_masks: bool) -> QueryRule {
        let own = if count_masks { self.settings.query_maxlen } else { 0 };
        QueryRule { maxlen: Some((window + SPECIALS).max(own)), count_masks }
    }

    fn longest_query(&self) -> usize {
        self.files.spec.max_tokens.saturating_sub(SPECIALS)
    }

    fn query_window(&self, rule: &QueryRule) -> usize {
        self.maxlen(rule).saturating_sub(SPECIALS)
    }

    fn document_window(&self) -> usize {
        self.settings.doc_maxlen - SPECIALS
    }

    fn queries(&self, windows: &[&[u32]], rule: &QueryRule) -> Result<LateStates> {
        let inputs = windows.iter().map(|w| self.query_input(w, rule)).collect::<Result<Vec<_>>>()?;
        self.encode(&inputs, windows)
    }

    fn documents(&self, windows: &[&[u32]]) -> Result<LateStates> {
        let inputs = windows.iter().map(|w| self.document_input(w)).collect::<Result<Vec<_>>>()?;
        self.encode(&inputs, windows)
    }

    fn settings(&self, rule: &QueryRule) -> Value {
        json!({
            "late": "colbert", "encoder": self.files.spec, "query_maxlen": self.maxlen(rule), "count_masks": rule.count_masks,
            "attend_to_masks": self.settings.attend_to_masks, "doc_maxlen": self.settings.doc_maxlen,
            "mask_punctuation": self.settings.mask_punctuation,
        })
    }
}
