//! The default encoder: BERT, RoBERTa, XLM-RoBERTa and DistilBERT on our own fused forward pass.
//!
//! Overview. [`BertEncoder`] joins a model directory ([`super::model_files`]) with a packed network ([`super::forward`]):
//! pooled unit vectors for retrieval, unit token states for late interaction. all-MiniLM-L6-v2 agrees with
//! sentence-transformers and with [`super::CandleEncoder`] to 1e-4 (`tests/encoder.rs`).
//!
//! Cost: `benches/peers/run encode` measures it beside onnxruntime.

use std::path::Path;

use serde_json::Value;

use super::candle::pool;
use super::forward::{Network, Sequence};
use super::kernel::Isa;
use super::model_files::{ModelFiles, OpenOptions};
use super::rowwise::l2_normalize;
use super::{Encoder, EncoderSpec, EncoderTokens, Role, TokenStates};
use crate::error::Result;

/// A BERT-family bi-encoder.
pub struct BertEncoder {
    files: ModelFiles,
    network: Network,
}

impl BertEncoder {
    /// Whether the architecture of a `config.json` is one this encoder runs.
    pub fn supports(config: &Value) -> bool {
        Network::supports(config)
    }

    /// Opens a model directory in sentence-transformers layout.
    ///
    /// # Errors
    /// [`crate::Error::Model`] names the file and what is wrong with it.
    pub fn open(dir: &Path) -> Result<BertEncoder> {
        BertEncoder::open_with(dir, &OpenOptions::default())
    }

    /// Opens a model directory with what the caller knows better than its files.
    pub fn open_with(dir: &Path, options: &OpenOptions) -> Result<BertEncoder> {
        BertEncoder::open_isa(dir, options, Isa::detect())
    }

    /// As [`BertEncoder::open_with`], on a given instruction set (one of [`Isa::available`]).
    pub fn open_isa(dir: &Path, options: &OpenOptions, isa: Isa) -> Result<BertEncoder> {
        let files = ModelFiles::open(dir, options)?;
        let network = Network::load(&files.weights, &files.config, &files.model_type, isa)?;
        Ok(BertEncoder { files, network })
    }

    /// Floating-point operations of a window of `len` tokens, special tokens included.
    pub fn operations(&self, len: usize) -> f64 {
        self.network.operations(len)
    }
}

impl BertEncoder {
    /// Runs every window; `of` gets its last hidden states, special tokens included, and the normalised ones of its own tokens.
    fn run<T: Send>(&self, windows: &[&[u32]], of: impl Fn(&[f32], Vec<f32>) -> T + Sync) -> Result<Vec<T>> {
        let wrapped = self.files.wrap(windows)?;
        let sequences: Vec<Sequence<'_>> = wrapped.iter().map(|ids| Sequence::whole(ids)).collect();
        let dim = self.network.hidden();
        let first = self.files.tokenizer.leading() * dim;
        self.network.run(&sequences, |i, states| {
            let mut own = states[first..first + windows[i].len() * dim].to_vec();
            own.chunks_exact_mut(dim).for_each(l2_normalize);
            of(states, own)
        })
    }

    fn concatenate(&self, windows: &[&[u32]], rows: Vec<Vec<f32>>) -> TokenStates {
        let mut offsets = Vec::with_capacity(windows.len() + 1);
        offsets.push(0);
        for window in windows {
            offsets.push(offsets.last().copied().unwrap_or(0) + window.len());
        }
        TokenStates { dim: self.network.hidden(), offsets, data: rows.concat() }
    }
}

impl Encoder for BertEncoder {
    fn spec(&self) -> &EncoderSpec {
        &self.files.spec
    }

    fn tokenize(&self, text: &str) -> Result<EncoderTokens> {
        self.files.tokenizer.encode(text)
    }

    fn max_window(&self) -> usize {
        self.files.spec.max_tokens.saturating_sub(self.files.tokenizer.specials())
    }

    fn prompt(&self, role: Role) -> &[u32] {
        self.files.prompt(role)
    }

    fn embed_ids(&self, windows: &[&[u32]]) -> Result<Vec<f32>> {
        let wrapped = self.files.wrap(windows)?;
        let sequences: Vec<Sequence<'_>> = wrapped.iter().map(|ids| Sequence::whole(ids)).collect();
        let dim = self.network.hidden();
        let rows = self.network.run(&sequences, |_, states| pool(self.files.pooling, states, dim))?;
        Ok(rows.concat())
    }

    fn token_states(&self, windows: &[&[u32]]) -> Result<TokenStates> {
        let rows = self.run(windows, |_, own| own)?;
        Ok(self.concatenate(windows, rows))
    }

    fn embed_with_states(&self, windows: &[&[u32]]) -> Result<(Vec<f32>, TokenStates)> {
        let dim = self.network.hidden();
        let rows = self.run(windows, |states, own| (pool(self.files.pooling, states, dim), own))?;
        let (pooled, own): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        Ok((pooled.concat(), self.concatenate(windows, own)))
    }
}
