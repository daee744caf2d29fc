//! Tokenizers: what turns text into the token stream that is indexed.
//!
//! Two families. A *closed* vocabulary (`bytes`, BPE, any `tokenizer.json`) has ids fixed by the tokenizer itself. An *open* one
//! (`words`) yields terms; each shard numbers the terms it saw, and a query's terms are looked up per shard.
//!
//! | kind | file | family | lossless | units |
//! |---|---|---|---|---|
//! | `words` | [`words`] | open | no | normalised Unicode words |
//! | `bytes` | [`bytes`] | closed, 256 | yes | bytes |
//! | `gpt2`, `cl100k`, `o200k` | [`bpe`] | closed | yes | byte-level BPE tokens |
//! | `ids` | [`ids`] | closed | – | token ids in decimal, for streams without a tokenizer |
//! | `file` | `file` | closed | if its model is byte-level | what the `tokenizer.json` says |
//!
//! Invariants, for every tokenizer: `encode` and `encode_spans` give the same ids; a span is a valid slice of the original text
//! and spans never run backwards; a tokenizer can be used from any number of threads at once. Texts are limited to
//! 4 GiB each, the reach of [`ByteSpan`].

use std::path::Path;

use crate::error::{Error, Result};

mod align;
pub mod bpe;
pub mod bytes;
pub mod file;
pub mod ids;
pub mod words;

pub use bpe::NamedBpe;
pub use bytes::BytesTokenizer;
pub use file::FileTokenizer;
pub use ids::IdsTokenizer;
pub use words::WordsTokenizer;

/// Identity of a tokenizer as the manifest records it. Two tokenizers with equal specs give equal tokens.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TokenizerSpec {
    /// `words`, `bytes`, `gpt2`, `cl100k`, `o200k`, `file` for a `tokenizer.json`, or `ids`.
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
    /// Bytes of text that tokens stand for, of tokenizers whose tokens laid end to end are the text: positions in it can then be
    /// added up instead of tokenizing again. Token `id` has `ends[id] - ends[id - 1]` of them, an unknown id none. `None` of others.
    fn text_ends(&self) -> Option<&[u32]> {
        None
    }
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

impl Tokenizer {
    /// The kinds [`Tokenizer::named`] knows.
    pub const NAMES: [&'static str; 5] = ["words", "bytes", "gpt2", "cl100k", "o200k"];

    /// Opens a tokenizer by name (see [`Tokenizer::NAMES`]).
    ///
    /// Costs nothing: a BPE is built when it first encodes in the process, and shared from then on.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown name.
    ///
    /// ```
    /// use priorart::tokenize::{Tokenizer, TokenizerKind};
    /// let TokenizerKind::Closed(gpt2) = Tokenizer::named("gpt2")?.kind else { unreachable!() };
    /// let mut ids = Vec::new();
    /// gpt2.encode("Hello world", &mut ids)?;
    /// assert_eq!(ids, [15496, 995]);
    /// # Ok::<(), priorart::Error>(())
    /// ```
    pub fn named(kind: &str) -> Result<Tokenizer> {
        if let Some(named) = NamedBpe::ALL.into_iter().find(|n| n.name() == kind) {
            let spec = TokenizerSpec {
                kind: kind.into(),
                sha256: named.sha256().into(),
                vocab: Some(named.vocab()),
                path: None,
            };
            return Ok(Tokenizer { spec, kind: TokenizerKind::Closed(Box::new(named)) });
        }
        let (rule, vocab, tokenizer) = match kind {
            "words" => (words::RULE, None, TokenizerKind::Open(Box::new(WordsTokenizer))),
            "bytes" => (bytes::RULE, Some(256), TokenizerKind::Closed(Box::new(BytesTokenizer))),
            _ => {
                return Err(Error::invalid_hint(
                    format!("unknown tokenizer {kind:?}"),
                    format!("choose one of {}, or give the path of a tokenizer.json", Self::NAMES.join(", ")),
                ));
            }
        };
        let spec = TokenizerSpec { kind: kind.into(), sha256: sha256_hex(rule.as_bytes()), vocab, path: None };
        Ok(Tokenizer { spec, kind: tokenizer })
    }

    /// Opens a Hugging Face `tokenizer.json`. Its identity is the sha256 of the file.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read; [`Error::Model`] when it is not a tokenizer or uses something that is not
    /// supported.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Tokenizer> {
        let path = path.as_ref();
        let json = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let tokenizer = FileTokenizer::parse(path, &json)?;
        let spec = TokenizerSpec {
            kind: "file".into(),
            sha256: sha256_hex(&json),
            vocab: Some(tokenizer.vocab()),
            path: Some(path.display().to_string()),
        };
        Ok(Tokenizer { spec, kind: TokenizerKind::Closed(Box::new(tokenizer)) })
    }

    /// The tokenizer of a stream of ids below `vocab` whose own tokenizer is not at hand: texts are lists of ids.
    pub fn ids(vocab: u32) -> Tokenizer {
        let sha256 = sha256_hex(ids::RULE.as_bytes());
        let spec = TokenizerSpec { kind: "ids".into(), sha256, vocab: Some(vocab), path: None };
        Tokenizer { spec, kind: TokenizerKind::Closed(Box::new(IdsTokenizer { vocab })) }
    }

    /// A tokenizer by name, or from a file when `name` is no known name: what a command-line option means.
    ///
    /// # Errors
    /// Those of [`Tokenizer::named`] and [`Tokenizer::from_file`].
    pub fn open(name: &str) -> Result<Tokenizer> {
        if !Self::NAMES.contains(&name) && Path::new(name).is_file() {
            Self::from_file(name)
        } else {
            Self::named(name)
        }
    }

    /// Opens the tokenizer a manifest names and checks that it is the same one.
    ///
    /// # Errors
    /// [`Error::TokenizerMismatch`] when the vocabulary or rule has another hash than the spec says; otherwise those of
    /// [`Tokenizer::named`] and [`Tokenizer::from_file`].
    pub fn from_spec(spec: &TokenizerSpec) -> Result<Tokenizer> {
        let found = match (spec.kind.as_str(), &spec.path) {
            ("file", Some(path)) => Self::from_file(path)?,
            ("file", None) => {
                return Err(Error::invalid("the index's tokenizer is a file, but its path is not recorded"));
            }
            ("ids", _) => Self::ids(spec.vocab.unwrap_or(u32::MAX)),
            (kind, _) => Self::named(kind)?,
        };
        spec.check(&found.spec)?;
        Ok(found)
    }

    /// The original byte range of every token of `text`.
    pub fn spans(&self, text: &str) -> Result<Vec<ByteSpan>> {
        let mut spans = Vec::new();
        match &self.kind {
            TokenizerKind::Closed(t) => t.encode_spans(text, &mut Vec::new(), &mut spans)?,
            TokenizerKind::Open(t) => t.terms(text, &mut |_, span| spans.push(span)),
        }
        Ok(spans)
    }
}

impl TokenizerSpec {
    /// Whether text tokenized under `query` may be looked up in an index of this spec.
    ///
    /// # Errors
    /// [`Error::TokenizerMismatch`] when kind, hash or vocabulary size differ. Paths are not compared.
    pub fn check(&self, query: &TokenizerSpec) -> Result<()> {
        if self.kind == query.kind && self.sha256 == query.sha256 && self.vocab == query.vocab {
            return Ok(());
        }
        Err(Error::TokenizerMismatch { index: self.to_string(), query: query.to_string() })
    }
}

/// Kind, path if any, and the first twelve digits of the hash: `gpt2 (sha256 0123456789ab)`.
impl std::fmt::Display for TokenizerSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(path) = &self.path {
            write!(f, " {path}")?;
        }
        write!(f, " (sha256 {})", self.sha256.get(..12).unwrap_or(&self.sha256))
    }
}

/// The text that tokens make: their bytes laid end to end. A byte that is no part of a UTF-8 character becomes `?`, so that every token
/// keeps its length; an id that is unknown has no bytes.
pub fn detokenize(tokenizer: &dyn IdTokenizer, ids: &[u32]) -> String {
    let mut bytes = Vec::with_capacity(ids.len() * 4);
    for &id in ids {
        bytes.extend(tokenizer.token_bytes(id).unwrap_or_default());
    }
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => {
            let mut text = String::with_capacity(e.as_bytes().len());
            for chunk in e.as_bytes().utf8_chunks() {
                text.push_str(chunk.valid());
                text.extend(chunk.invalid().iter().map(|_| '?'));
            }
            text
        }
    }
}

/// Where each token stands in the text that [`detokenize`] made of them, widened to whole characters.
pub fn detokenized_spans(tokenizer: &dyn IdTokenizer, ids: &[u32], text: &str) -> Vec<ByteSpan> {
    let mut at = 0;
    let mut spans = Vec::with_capacity(ids.len());
    for &id in ids {
        let end = (at + tokenizer.token_bytes(id).map_or(0, |bytes| bytes.len())).min(text.len());
        let (start, stop) = (floor_char_boundary(text, at), ceil_char_boundary(text, end));
        spans.push(ByteSpan { start: start as u32, end: stop as u32 });
        at = end;
    }
    spans
}

/// Refuses a text that spans cannot address.
fn check_length(text: &str) -> Result<()> {
    if text.len() > u32::MAX as usize {
        return Err(Error::Limit {
            what: format!("a text of {} bytes is longer than the limit of 4 GiB", text.len()),
            hint: Some("split the document".into()),
        });
    }
    Ok(())
}

/// The last character boundary at or before `at`.
pub(crate) fn floor_char_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The first character boundary at or after `at`.
pub(crate) fn ceil_char_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

/// Whether a token of these bytes begins a word: its first character is not alphanumeric. A token that begins inside a
/// UTF-8 character, or with part of one, does not.
fn begins_word_bytes(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(valid) => valid,
        Err(e) => std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default(),
    };
    valid.chars().next().is_some_and(|c| !c.is_alphanumeric())
}

fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    crate::format::hex(&sha2::Sha256::digest(bytes))
}

#[cfg(test)]
mod tests;
