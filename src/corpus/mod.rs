//! Readers of training corpora: JSON Lines (plain, gzip, zstd), Parquet and plain text, one record at a
//! time, with exact positions for error messages.
//!
//! [`discover`] turns the paths, directories and globs a user names into an ordered list of [`SourceFile`]s;
//! [`open`] reads one of them as a [`CorpusReader`].

use std::path::PathBuf;

use crate::error::Result;

/// One record of a corpus.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    /// The record's own id, or `<path>:<record>` where it has none.
    pub id: String,
    /// The text as it was, never normalised.
    pub text: String,
    /// Path of the file it came from, as the user named it.
    pub path: String,
    /// 0-based number of the record in its file.
    pub record: u64,
    /// All other (or the selected) fields of the record, as a JSON object.
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

/// How to read records.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ReadOptions {
    /// Field (or Parquet column; dotted path for nested objects) that holds the text.
    pub text_field: String,
    /// Field that holds the id; a record without it gets `<path>:<record>`.
    pub id_field: String,
    /// Fields kept as metadata; `None` keeps every field except text and id.
    pub metadata_fields: Option<Vec<String>>,
    /// How many bad records to tolerate over the whole run before stopping.
    pub skip_bad: u64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { text_field: "text".into(), id_field: "id".into(), metadata_fields: None, skip_bad: 0 }
    }
}

/// Kinds of corpus file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    Jsonl,
    JsonlGz,
    JsonlZst,
    Parquet,
    Text,
}

/// One corpus file, found by [`discover`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SourceFile {
    pub path: PathBuf,
    pub kind: FileKind,
    /// Size on disk in bytes.
    pub bytes: u64,
}

/// A stream of documents from one file.
///
/// `next` fills `doc` (whose buffers it reuses) and returns `false` at the end. A record that cannot be used is
/// `Error::Record` with path, line and byte offset; the reader stays usable and the following call goes on with
/// the next record (except after damage that loses the framing, such as a broken zstd stream: then it ends).
pub trait CorpusReader: Send {
    fn next(&mut self, doc: &mut Document) -> Result<bool>;
    /// Compressed bytes consumed so far, for progress bars.
    fn bytes_read(&self) -> u64;
}
