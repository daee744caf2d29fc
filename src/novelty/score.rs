//! Scores: what a text's nearness to the corpus is made of, window length by window length, and the settings that decide it.
//!
//! s(x) at a length is the mean over the text's windows of the window's best score: near 1 for a passage of the corpus itself (token
//! states see what stands around them, so a window cut from it is not quite 1), lower for less attributable text.
//! [`super::scorer`] computes it.

use std::path::{Path, PathBuf};

use super::evidence::Evidence;
use crate::error::{Error, Result};
use crate::index::{DocumentRef, TOKEN_CACHE};

/// Encoder tokens below which a text is too small to judge.
pub const TINY: usize = 8;

/// Everything that decides a score, with the encoder and the generation.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Window lengths in encoder tokens.
    pub windows: Vec<usize>,
    /// Candidates of stage 1, a window.
    pub candidates: usize,
    /// Candidates scored by late interaction, a window.
    pub rerank: usize,
    /// Candidates scored again with their neighbouring chunks, a window.
    pub extend: usize,
    /// Whether a human text that is in the corpus is scored without its own document.
    pub leave_source_out: bool,
    /// Whether stage 1 looks at every chunk; otherwise it asks the shards' vector indexes, which may miss some.
    pub exhaustive: bool,
    /// ColBERT: whether the states of the query's `[MASK]` filling are scored.
    pub count_masks: bool,
    /// What made token states, as [`crate::embed::colbert::LateEncoder::settings`] tells it; filled in by the scorer.
    pub late: serde_json::Value,
    /// How the states of chunks are kept; filled in by the scorer.
    pub document_states: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            windows: vec![25, 50, 100, 200, 500],
            candidates: 1000,
            rerank: 100,
            extend: 3,
            leave_source_out: true,
            exhaustive: true,
            count_masks: false,
            late: serde_json::Value::Null,
            document_states: "f16".into(),
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
    /// Id of the document of the corpus it was taken from, which is then left out.
    pub source: Option<String>,
    /// Whether it belongs to the human reference: then the documents of the corpus that have its id, or that hold it, are left out.
    pub human: bool,
    /// Which of the reference's domains it is compared with.
    pub domain: Option<String>,
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
    /// The other direction: how well the window explains the nearest chunk, the mean over the chunk's tokens.
    #[serde(default)]
    pub reverse: f64,
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
    /// Mean of the windows' scores in the other direction.
    #[serde(default)]
    pub reverse: f64,
    /// The largest cosine of stage 1 over the windows.
    #[serde(default)]
    pub cosine: f64,
    /// Whether it is proved that no chunk has a cosine of τ or more with any of the windows; absent where that was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certified: Option<bool>,
    /// Whether the text is shorter than every length asked for, so that it was scored as a whole: not comparable with a reference.
    #[serde(default)]
    pub short: bool,
    pub windows: Vec<WindowScore>,
}

/// What is known of one text.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Score {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
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

/// Where the document-token cache is and how it keeps states.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheOptions {
    pub dir: PathBuf,
    /// Bits a dimension: 2 or 4 (1 and 8 work as well).
    pub bits: u32,
}

impl CacheOptions {
    /// The usual place: inside the index directory, one cache an encoder of token states and number of bits.
    pub fn beside(index: &Path, encoder_sha256: &str, bits: u32) -> CacheOptions {
        let short: String = encoder_sha256.chars().take(12).collect();
        CacheOptions { dir: index.join(TOKEN_CACHE).join(format!("{short}-{bits}bit")), bits }
    }

    /// The cache that recorded settings speak of, in its usual place; `None` where states were kept as f16.
    pub fn recorded(index: &Path, encoder_sha256: &str, settings: &Settings) -> Option<CacheOptions> {
        let bits = settings.document_states.strip_prefix("residual, ")?.split(' ').next()?.parse().ok()?;
        Some(CacheOptions::beside(index, encoder_sha256, bits))
    }
}
