//! Encoders: text in, embeddings out.
//!
//! An [`Encoder`] gives one L2-normalised vector a text (pooled as the model's own files say) or one a token (for late
//! interaction). Texts longer than the model takes are the caller's to cut into windows with [`Encoder::tokenize`];
//! nothing is truncated silently.

use crate::error::Result;

/// Identity of an encoder as the manifest records it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EncoderSpec {
    /// Catalog name, hub id or directory name.
    pub name: String,
    /// Revision (hub commit) where known.
    pub revision: Option<String>,
    /// sha256 of the weights file.
    pub sha256: String,
    /// Dimension of the pooled embedding.
    pub dim: usize,
    /// `mean` or `cls`.
    pub pooling: String,
    /// Longest input in encoder tokens, special tokens included.
    pub max_tokens: usize,
}

/// Encoder tokens of a text without special tokens: ids and original byte ranges.
#[derive(Debug, Clone, Default)]
pub struct EncoderTokens {
    pub ids: Vec<u32>,
    pub spans: Vec<crate::tokenize::ByteSpan>,
}

/// Token embeddings of a batch of texts, rows concatenated: text `i` owns rows `offsets[i]..offsets[i + 1]` of `dim` floats.
#[derive(Debug, Clone, Default)]
pub struct TokenStates {
    pub dim: usize,
    pub offsets: Vec<usize>,
    pub data: Vec<f32>,
}

/// A text encoder. Implementations are thread-safe and use the rayon pool they are called in.
pub trait Encoder: Send + Sync {
    fn spec(&self) -> &EncoderSpec;
    /// Encoder tokens of `text`, no special tokens, no truncation.
    fn tokenize(&self, text: &str) -> Result<EncoderTokens>;
    /// Pooled, L2-normalised embeddings of windows of encoder tokens (special tokens are added here):
    /// `windows.len() × dim` floats, row-major. A window longer than `max_tokens` minus special tokens is an error.
    fn embed_ids(&self, windows: &[&[u32]]) -> Result<Vec<f32>>;
    /// L2-normalised last hidden states of every token of every window, special tokens excluded.
    fn token_states(&self, windows: &[&[u32]]) -> Result<TokenStates>;
}
