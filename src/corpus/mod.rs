//! Readers of training corpora: JSON Lines (plain, gzip, zstd), Parquet, plain text and streams of tokens, one record at a
//! time, with exact positions for error messages.
//!
//! [`discover`] turns the paths, directories and globs a user names into an ordered list of [`SourceFile`]s;
//! [`open`] reads one of them as a [`CorpusReader`]; [`Documents`] reads many in a row and keeps the skip-bad budget
//! ([`BadRecords`]). [`CorpusWriter`] writes the records of a file that are kept back in the file's own format, so that a
//! cleaned corpus differs from its original in nothing but what was taken out.
//!
//! Memory: a reader holds one record (Parquet: one page a column), never a file. Records are split at `\n` only.

mod bad;
mod discover;
mod documents;
mod fields;
mod jsonl;
mod lines;
mod parquet;
mod parquet_copy;
mod parquet_value;
mod source;
mod text;
mod tokens;
mod writer;

use std::path::PathBuf;

use crate::error::{Error, Result};

pub use bad::{BadRecord, BadRecords};
pub use discover::{discover, discover_tokens, kind_of};
pub use documents::Documents;
pub(crate) use parquet::{not_written, survive};
pub use tokens::{TokenFormat, TokenInput};
pub use writer::{CorpusWriter, Written};

/// The longest record (JSON line or text file) that is read, in bytes: what a record may hold in memory.
pub const MAX_RECORD_BYTES: usize = 1 << 30;

/// Opens one corpus file.
///
/// # Errors
/// The file cannot be opened; for Parquet also: not a Parquet file, or no usable text column (the message lists the
/// columns there are).
pub fn open(file: &SourceFile, options: &ReadOptions) -> Result<Box<dyn CorpusReader>> {
    Ok(match file.kind {
        FileKind::Jsonl | FileKind::JsonlGz | FileKind::JsonlZst => Box::new(jsonl::JsonlReader::open(file, options)?),
        FileKind::Parquet => Box::new(parquet::survive(&file.path, || parquet::ParquetReader::open(file, options))?),
        FileKind::Text => Box::new(text::TextReader::open(file)?),
        FileKind::Tokens => match &options.tokens {
            Some(input) => Box::new(tokens::TokenReader::open(file, input)?),
            None => {
                return Err(Error::invalid_hint(
                    format!("{}: a file of tokens, and nothing tells how to read it", file.path.display()),
                    "pass --tokens FORMAT",
                ));
            }
        },
    })
}

/// One record of a corpus.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    /// The record's own id, or `<path>:<record>` where it has none.
    pub id: String,
    /// The text as it was, never normalised.
    pub text: String,
    /// Path of the file it came from, as the user named it.
    pub path: String,
    /// 0-based number of the record in its file: the line (JSON Lines) or row (Parquet) less one; 0 for plain text.
    pub record: u64,
    /// All other (or the selected) fields of the record, as a JSON object.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// The tokens of a document that comes tokenised, and without a text.
    pub tokens: Option<Vec<u32>>,
}

impl Document {
    /// What it takes in memory, in bytes: its text and tokens.
    pub fn size(&self) -> usize {
        self.text.len() + self.tokens.as_ref().map_or(0, |tokens| 4 * tokens.len())
    }
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
    /// The corpus is streams of tokens, to be read like this.
    pub tokens: Option<TokenInput>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { text_field: "text".into(), id_field: "id".into(), metadata_fields: None, skip_bad: 0, tokens: None }
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
    /// Tokens, in the format that [`ReadOptions::tokens`] names.
    Tokens,
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
/// the next record (except after damage that loses the framing, such as a broken zstd stream, which is
/// `Error::Damaged`: then it ends). `doc.path` and `doc.record` are those of the record also when it is bad. Blank lines
/// of a JSON Lines file are no records, but they count as lines.
pub trait CorpusReader: Send {
    fn next(&mut self, doc: &mut Document) -> Result<bool>;
    /// The bytes of the record the last `next` consumed, good or bad, as they are in the uncompressed file, line end
    /// included; `None` before the first record and for Parquet, where a record is not a run of bytes.
    fn raw(&self) -> Option<&[u8]>;
    /// Compressed bytes consumed so far, for progress bars.
    fn bytes_read(&self) -> u64;
}
