//! Tokenizers: what turns text into the token stream that is indexed.
//!
//! Two families. A *closed* vocabulary (`bytes`, BPE) has ids fixed by the tokenizer itself. An *open* one
//! (`words`) yields terms; each shard numbers the terms it saw, and a query's terms are looked up per shard.

use crate::error::Result;

/// Identity of a tokenizer as the manifest records it. Two tokenizers with equal specs give equal tokens.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TokenizerSpec {
    /// `words`, `bytes`, `gpt2`, `cl100k`, `o200k`, or `file` for a `tokenizer.json`.
    pub kind: String,
    /// sha256 of the vocabulary bytes (for `words`/`bytes`: of the rule's version string).
    pub sha256: String,
    /// Number of ids for a closed vocabulary; `None` for an open one.
    pub vocab: Option<u32>,
    /// For `file`: the path it was read from (informative; identity is the hash).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Byte range of one token in the original text: `text[start..end]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByteSpan {
    pub start: u32,
    pub end: u32,
}

/// A closed-vocabulary tokenizer: ids are fixed and the same in every shard.
pub trait IdTokenizer: Send + Sync {
    /// Appends the ids of `text` to `out`.
    fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<()>;
    /// Appends ids and the original byte range of each. Byte-level tokens that split a UTF-8 character are widened to
    /// whole characters, so that every range is a valid slice of `text`.
    fn encode_spans(&self, text: &str, ids: &mut Vec<u32>, spans: &mut Vec<ByteSpan>) -> Result<()>;
    /// The bytes a token stands for (lossless for byte-level BPE), or `None` for an unknown id.
    fn token_bytes(&self, id: u32) -> Option<Vec<u8>>;
    /// Number of ids.
    fn vocab(&self) -> u32;
    /// Whether a token begins a word (it starts with white space, or with a non-alphanumeric character).
    fn begins_word(&self, id: u32) -> bool;
}

/// An open-vocabulary tokenizer: calls `each(term, span)` for each term of `text` in order.
pub trait TermTokenizer: Send + Sync {
    fn terms(&self, text: &str, each: &mut dyn FnMut(&str, ByteSpan));
}

/// A tokenizer of either family, with its identity.
pub struct Tokenizer {
    pub spec: TokenizerSpec,
    pub kind: TokenizerKind,
}

/// The two families.
pub enum TokenizerKind {
    Closed(Box<dyn IdTokenizer>),
    Open(Box<dyn TermTokenizer>),
}
