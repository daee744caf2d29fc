//! The tokenizer of an encoder: `tokenizer.json`, with byte ranges and the special tokens around a window.
//!
//! Overview. [`WindowTokenizer::encode`] gives the tokens of a text without special tokens and without the truncation and
//! padding the file may ask for; [`WindowTokenizer::wrap`] puts the model's special tokens (`[CLS] … [SEP]`, `<s> … </s>`)
//! around a window of ids. Special tokens written out in a text are read as such, as sentence-transformers does.
//!
//! Cost: 1–3 MB of text a second a thread; a fraction of the encoder's own cost.

use std::path::{Path, PathBuf};

use hf_tokenizers::Tokenizer;

use super::EncoderTokens;
use crate::error::{Error, Result};
use crate::tokenize::ByteSpan;

/// An encoder's tokenizer.
pub struct WindowTokenizer {
    path: PathBuf,
    inner: Tokenizer,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
}

impl WindowTokenizer {
    /// Reads `tokenizer.json`.
    pub fn open(path: &Path) -> Result<WindowTokenizer> {
        let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let unusable = |what: String| Error::Model { path: path.to_path_buf(), what };
        let mut inner = Tokenizer::from_bytes(&bytes)
            .map_err(|e| unusable(format!("not a tokenizer this program can run: {e}")))?;
        inner.with_truncation(None).map_err(|e| unusable(e.to_string()))?;
        inner.with_padding(None);
        let ids = |special| -> Result<Vec<u32>> {
            Ok(inner.encode_fast("a", special).map_err(|e| unusable(e.to_string()))?.get_ids().to_vec())
        };
        let (bare, wrapped) = (ids(false)?, ids(true)?);
        let at = wrapped
            .windows(bare.len().max(1))
            .position(|w| w == bare)
            .ok_or_else(|| unusable("its post-processor rewrites the tokens it should only surround".into()))?;
        let (prefix, suffix) = (wrapped[..at].to_vec(), wrapped[at + bare.len()..].to_vec());
        Ok(WindowTokenizer { path: path.to_path_buf(), inner, prefix, suffix })
    }

    /// Ids and original byte ranges of `text`: no special tokens, no truncation.
    pub fn encode(&self, text: &str) -> Result<EncoderTokens> {
        if text.len() > u32::MAX as usize {
            return Err(Error::invalid_hint(
                format!("a text of {} bytes is longer than an encoder's tokenizer takes (4 GiB)", text.len()),
                "split the document",
            ));
        }
        let encoding = self
            .inner
            .encode(text, false)
            .map_err(|e| Error::Model { path: self.path.clone(), what: format!("tokenization failed: {e}") })?;
        let spans =
            encoding.get_offsets().iter().map(|&(start, end)| ByteSpan { start: start as u32, end: end as u32 });
        Ok(EncoderTokens { ids: encoding.get_ids().to_vec(), spans: spans.collect() })
    }

    /// Number of special tokens around a window.
    pub fn specials(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }

    /// Number of special tokens before a window.
    pub fn leading(&self) -> usize {
        self.prefix.len()
    }

    /// `window` with the model's special tokens around it.
    pub fn wrap(&self, window: &[u32]) -> Vec<u32> {
        let mut ids = Vec::with_capacity(window.len() + self.specials());
        ids.extend_from_slice(&self.prefix);
        ids.extend_from_slice(window);
        ids.extend_from_slice(&self.suffix);
        ids
    }

    /// Id of a token written as the vocabulary has it (`[MASK]`).
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Size of the vocabulary, added tokens included.
    pub fn vocab(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}
