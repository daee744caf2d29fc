//! Shards: immutable, self-contained parts of an index.
//!
//! - [`documents`]: the original documents, random access.
//! - [`terms`]: the term dictionary of an open vocabulary.
//! - [`exact`]: the token index, in one of several layouts.
//! - [`infinigram`]: an index that infini-gram has built, in place of the files.
//! - [`semantic`]: chunks of the documents, their embeddings, the vector index over them.
//! - [`removed`]: which documents a removal hides.
//! - [`build`]: documents in, a finished shard directory out.
//! - [`copy`]: documents of a finished shard for another one.
//!
//! [`Shard::open`] maps a shard's files; nothing is read until a query touches it.

mod any_documents;
pub mod build;
pub mod copy;
pub mod documents;
pub mod exact;
pub mod infinigram;
mod journal;
pub mod removed;
pub mod semantic;
pub mod terms;

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::suffix::layout::SuffixMeta;
use crate::tokenize::TokenizerSpec;

pub use any_documents::AnyDocuments;
pub use documents::{CacheUse, Documents, StoredDocument, cache_use};
pub use exact::{ExactIndex, Layout};
pub use semantic::Semantic;
pub use terms::Terms;

/// `shard.json`: what a shard is, next to its binary files.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ShardMeta {
    /// Documents in the shard.
    pub documents: u64,
    /// Tokens, separators not counted.
    pub tokens: u64,
    /// Bytes of original text.
    pub text_bytes: u64,
    /// The tokenizer that made the stream.
    pub tokenizer: TokenizerSpec,
    /// Bytes a token takes in `tokens.bin`.
    pub width: u8,
    /// How the token index is laid out.
    #[serde(default, skip_serializing_if = "Layout::is_fast")]
    pub layout: Layout,
    /// The documents came as tokens: their text is their tokens' bytes laid end to end, not what was tokenised once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detokenized: bool,
    /// Where the files of an imported index lie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<infinigram::Source>,
    /// Terms in the dictionary of an open vocabulary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<u64>,
    /// The suffix array's numbers.
    pub suffix: SuffixMeta,
}

impl ShardMeta {
    /// Reads the description in a shard directory.
    pub fn read(dir: &Path) -> Result<ShardMeta> {
        let path = dir.join(SHARD_JSON);
        let bytes = std::fs::read(&path).map_err(Error::io(&path, "read"))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(&path, 0, format!("not a shard description: {e}")))
    }
}

/// Name of a shard's description.
pub const SHARD_JSON: &str = "shard.json";

/// An opened shard.
pub struct Shard {
    pub dir: PathBuf,
    pub meta: ShardMeta,
    pub documents: AnyDocuments,
    pub exact: ExactIndex,
    /// The dictionary, where the vocabulary is open.
    pub terms: Option<Terms>,
    /// Chunks and embeddings, where the index has an encoder.
    pub semantic: Option<Semantic>,
}

impl Shard {
    /// Opens a shard directory: checks headers and lengths of every file, reads none of the payload.
    pub fn open(dir: &Path) -> Result<Shard> {
        let meta = ShardMeta::read(dir)?;
        let documents = match meta.layout {
            Layout::Infinigram => {
                let told_by = dir.join(SHARD_JSON);
                AnyDocuments::Imported(Box::new(infinigram::ImportedDocuments::open(&told_by, &meta)?))
            }
            Layout::Fast | Layout::Compact => AnyDocuments::Stored(Box::new(Documents::open(dir)?)),
        };
        let exact = ExactIndex::open(dir, &meta)?;
        let terms = meta.terms.map(|n| Terms::open(dir, n)).transpose()?;
        if documents.len() as u64 != meta.documents || documents.tokens() != meta.suffix.stream {
            return Err(Error::corrupt(
                dir.join(documents::DOCUMENTS_IDX),
                0,
                format!(
                    "it has {} documents over {} positions, {SHARD_JSON} says {} over {}",
                    documents.len(),
                    documents.tokens(),
                    meta.documents,
                    meta.suffix.stream
                ),
            ));
        }
        Ok(Shard { dir: dir.to_path_buf(), meta, documents, exact, terms, semantic: Semantic::open(dir)? })
    }

    /// The ids this shard gives to terms: `None` for one it has not seen.
    pub fn term_id(&self, term: &str) -> Option<u32> {
        self.terms.as_ref().and_then(|t| t.id(term))
    }

    /// Positions of the tokens of document `i`, without its separator; none if there is no such document.
    pub fn tokens_of(&self, i: u32) -> Range<usize> {
        let range = self.documents.token_range(i).unwrap_or(0..0);
        range.start as usize..(range.end as usize).saturating_sub(1).max(range.start as usize)
    }

    /// The separator: no token of a document.
    pub fn separator(&self) -> u32 {
        self.meta.suffix.separator
    }
}
