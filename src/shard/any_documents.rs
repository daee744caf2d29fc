//! The documents of a shard, wherever they are: stored here, or decoded from the tokens of an imported index.

use std::ops::Range;
use std::sync::Arc;

use super::documents::{Documents, StoredDocument};
use super::infinigram::ImportedDocuments;
use crate::error::{Error, Result};
use crate::tokenize::Tokenizer;

/// Documents of either origin; the methods are those of [`Documents`].
pub enum AnyDocuments {
    Stored(Box<Documents>),
    Imported(Box<ImportedDocuments>),
}

use AnyDocuments::{Imported, Stored};

impl AnyDocuments {
    /// The tokenizer that decodes imported documents; nothing to stored ones.
    pub(crate) fn decode_with(&self, tokenizer: &Arc<Tokenizer>) {
        if let Imported(d) = self {
            d.decode_with(tokenizer);
        }
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        match self {
            Stored(d) => d.len(),
            Imported(d) => d.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions of the token stream that the documents cover.
    pub fn tokens(&self) -> u64 {
        match self {
            Stored(d) => d.tokens(),
            Imported(d) => d.tokens(),
        }
    }

    /// Token positions of document `i`, its separator the last of them.
    pub fn token_range(&self, i: u32) -> Option<Range<u64>> {
        match self {
            Stored(d) => d.token_range(i),
            Imported(d) => d.token_range(i),
        }
    }

    /// The document that owns token position `position`.
    #[inline]
    pub fn document_at(&self, position: u64) -> Option<u32> {
        match self {
            Stored(d) => d.document_at(position),
            Imported(d) => d.document_at(position),
        }
    }

    /// Checks that documents follow each other without gaps.
    ///
    /// # Errors
    /// The first that does not.
    pub fn verify(&self) -> Result<()> {
        match self {
            Stored(d) => d.verify(),
            Imported(d) => match (0..self.len() as u32).find(|&i| d.token_range(i).is_none_or(|r| r.is_empty())) {
                Some(i) => Err(Error::invalid(format!("document {i}: its place in the token stream is impossible"))),
                None => Ok(()),
            },
        }
    }

    /// All of document `i`.
    pub fn get(&self, i: u32) -> Result<StoredDocument> {
        match self {
            Stored(d) => d.get(i),
            Imported(d) => {
                let text = d.text(i)?.to_string();
                Ok(StoredDocument { text, ..d.get_without_text(i)? })
            }
        }
    }

    /// All of document `i` but its text.
    pub fn get_without_text(&self, i: u32) -> Result<StoredDocument> {
        match self {
            Stored(d) => d.get_without_text(i),
            Imported(d) => d.get_without_text(i),
        }
    }

    /// The text of document `i`.
    pub fn text(&self, i: u32) -> Result<String> {
        match self {
            Stored(d) => d.text(i),
            Imported(d) => Ok(d.text(i)?.to_string()),
        }
    }

    /// Bytes of text of document `i`.
    pub fn text_len(&self, i: u32) -> Result<usize> {
        match self {
            Stored(d) => d.text_len(i),
            Imported(d) => Ok(d.text(i)?.len()),
        }
    }

    /// Bytes `range` of the text of document `i`, widened to whole characters, and the range it covers.
    pub fn text_range(&self, i: u32, range: Range<usize>) -> Result<(String, Range<usize>)> {
        match self {
            Stored(d) => d.text_range(i, range),
            Imported(d) => d.text_range(i, range),
        }
    }

    /// The id of document `i`.
    pub fn id(&self, i: u32) -> Result<String> {
        match self {
            Stored(d) => d.id(i),
            Imported(d) => Ok(d.get_without_text(i)?.id),
        }
    }

    /// Source path of document `i`.
    pub fn path(&self, i: u32) -> Result<&str> {
        match self {
            Stored(d) => d.path(i),
            Imported(d) => d.path(i),
        }
    }

    /// Number of `i`'s path in [`AnyDocuments::path_list`].
    pub fn path_number(&self, i: u32) -> Result<u32> {
        match self {
            Stored(d) => d.path_number(i),
            Imported(d) => d.path_number(i),
        }
    }

    /// The distinct source paths, in order of appearance.
    pub fn path_list(&self) -> Result<Vec<&str>> {
        match self {
            Stored(d) => d.path_list(),
            Imported(d) => d.path_list(),
        }
    }

    /// The documents with this id, in order.
    pub fn find_id(&self, id: &str) -> Result<Vec<u32>> {
        match self {
            Stored(d) => d.find_id(id),
            Imported(d) => d.find_id(id),
        }
    }
}
