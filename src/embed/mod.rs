//! Encoders: text in, embeddings out.
//!
//! An [`Encoder`] gives one L2-normalised vector a text (pooled as the model's own files say) or one a token (for late
//! interaction). Texts longer than the model takes are the caller's to cut into windows with [`Encoder::tokenize`];
//! nothing is truncated silently.

pub mod alignment;
mod bert;
mod candle;
pub mod chunk;
pub mod colbert;
mod forward;
mod kernel;
pub mod late;
mod model_files;
pub mod residual;
mod rowwise;
mod static_table;
mod tokens;
mod weights;

use std::path::Path;

use crate::catalog::{Receipt, sha256_of_file};
use crate::error::{Error, Result};

pub use bert::BertEncoder;
pub use candle::CandleEncoder;
pub use kernel::Isa;
pub use model_files::{OpenOptions, Pooling, find_model};
pub use static_table::StaticEncoder;

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

/// Which side of a search a text is on: some models put a prompt before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Query = 0,
    Document = 1,
}

/// Opens the encoder of a model directory: [`BertEncoder`] for the architectures it knows,
/// [`StaticEncoder`] for token tables, [`CandleEncoder`] for the others and, where there is a GPU and a build that can use it, for all networks.
pub fn open(dir: &Path, options: &OpenOptions) -> Result<Box<dyn Encoder>> {
    tracing::info!(model = %dir.display(), "opening an encoder");
    let encoder = open_any(dir, options)?;
    held_to_receipt(dir, &encoder.spec().sha256)?;
    Ok(encoder)
}

fn open_any(dir: &Path, options: &OpenOptions) -> Result<Box<dyn Encoder>> {
    if static_table::declared(dir)? {
        return Ok(Box::new(StaticEncoder::open(dir, options)?));
    }
    let config = model_files::required_json(&dir.join("config.json"))?;
    if BertEncoder::supports(&config) && candle::device().is_cpu() {
        return Ok(Box::new(BertEncoder::open_with(dir, options)?));
    }
    Ok(Box::new(CandleEncoder::open_with(dir, options)?))
}

/// Refuses a fetched model whose files are not what was fetched: its embeddings would be others under the same name. `weights` is the
/// sha256 of its weights, which is known already.
fn held_to_receipt(dir: &Path, weights: &str) -> Result<()> {
    for file in Receipt::read(dir).iter().flat_map(|receipt| &receipt.files) {
        let path = dir.join(&file.path);
        let found = match file.path.as_str() {
            model_files::WEIGHTS => weights.to_string(),
            _ if path.exists() => sha256_of_file(&path)?.0,
            _ => continue,
        };
        if found != file.sha256 {
            let what = format!(
                "damaged or changed since it was fetched: its sha256 is {found:.12}…, that of the file fetched {:.12}…",
                file.sha256
            );
            return Err(Error::Model { path, what });
        }
    }
    Ok(())
}

/// A text encoder. Implementations are thread-safe and use the rayon pool they are called in.
pub trait Encoder: Send + Sync {
    fn spec(&self) -> &EncoderSpec;
    /// Encoder tokens of `text`, no special tokens, no truncation.
    fn tokenize(&self, text: &str) -> Result<EncoderTokens>;
    /// Longest window in tokens, special tokens not counted. A prompt counts as part of the window.
    fn max_window(&self) -> usize;
    /// Tokens to put before a window of that role; empty for most models.
    fn prompt(&self, _role: Role) -> &[u32] {
        &[]
    }
    /// Pooled, L2-normalised embeddings of windows of encoder tokens (special tokens are added here):
    /// `windows.len() × dim` floats, row-major. A window longer than `max_tokens` minus special tokens is an error.
    fn embed_ids(&self, windows: &[&[u32]]) -> Result<Vec<f32>>;
    /// L2-normalised last hidden states of every token of every window, special tokens excluded.
    fn token_states(&self, windows: &[&[u32]]) -> Result<TokenStates>;
    /// Both at once: what [`embed_ids`](Self::embed_ids) and [`token_states`](Self::token_states) give, for one pass of the network where
    /// the implementation can.
    fn embed_with_states(&self, windows: &[&[u32]]) -> Result<(Vec<f32>, TokenStates)> {
        Ok((self.embed_ids(windows)?, self.token_states(windows)?))
    }
    /// Embeddings of whole texts, each with its role's prompt: `texts.len() × dim` floats. A text too long for one window
    /// is an error: cut it into chunks first.
    fn embed_texts(&self, texts: &[&str], role: Role) -> Result<Vec<f32>> {
        let prompt = self.prompt(role);
        let mut windows = Vec::with_capacity(texts.len());
        for (i, text) in texts.iter().enumerate() {
            let tokens = self.tokenize(text)?.ids;
            let room = self.max_window().saturating_sub(prompt.len());
            if tokens.len() > room {
                return Err(Error::invalid_hint(
                    format!("text {i} has {} tokens, {} takes {room}", tokens.len(), self.spec().name),
                    "cut it into chunks",
                ));
            }
            windows.push([prompt, &tokens].concat());
        }
        self.embed_ids(&windows.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }
}
