//! The library's error type.
//!
//! Every variant says *what* went wrong and *where* (path and offset, line or field), and
//! [`Error::hint`] says what to do about it, where there is something to do. The command line prints
//! the error, a blank line, then `hint: …`, all on standard error.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;

/// Result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. New variants may be added; match with a wildcard arm.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file operation.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io { path: PathBuf, action: &'static str, source: std::io::Error },

    /// The bytes of an index file contradict the format.
    #[error("{}: corrupt at byte {offset}: {what}", path.display())]
    Corrupt { path: PathBuf, offset: u64, what: String },

    /// An input file is damaged so that nothing after `offset` (bytes as stored on disk) can be read.
    #[error("{}: damaged near byte {offset}: {what}", path.display())]
    Damaged { path: PathBuf, offset: u64, what: String },

    /// A block's checksum does not match its bytes.
    #[error("{}: checksum mismatch in block {block} (from byte {}): expected {expected:016x}, found {found:016x}", path.display(), 64 + block * 1_048_576)]
    Checksum { path: PathBuf, block: u64, expected: u64, found: u64 },

    /// A file was written by a newer, incompatible version of the format.
    #[error("{}: format version {found} is newer than {supported}, the newest this program reads", path.display())]
    NewerFormat { path: PathBuf, found: String, supported: String },

    /// A record of an input file cannot be used. `line` is 1-based (for Parquet: the row),
    /// `byte` is the offset of the record's first byte in the uncompressed stream.
    #[error("{}:{line}: bad record at byte {byte}: {what}", path.display())]
    Record { path: PathBuf, line: u64, byte: u64, what: String },

    /// An index and a query disagree about the tokenizer.
    #[error("tokenizer mismatch: the index uses {index}, the query {query}")]
    TokenizerMismatch { index: String, query: String },

    /// An index and a query (or two parts of one index) disagree about the encoder.
    #[error("encoder mismatch: the index uses {index}, the query {query}")]
    EncoderMismatch { index: String, query: String },

    /// Another process holds the writer's lock.
    #[error("{}: index is busy: another process is writing to it", path.display())]
    Busy { path: PathBuf },

    /// An input value is outside what is allowed. `what` names the value and the rule.
    #[error("{what}")]
    Invalid { what: String, hint: Option<String> },

    /// A model directory or checkpoint cannot be used.
    #[error("{}: unusable model: {what}", path.display())]
    Model { path: PathBuf, what: String },

    /// Something named in the catalog could not be had.
    #[error("cannot fetch {name}: {what}")]
    Fetch { name: String, what: String, hint: Option<String> },

    /// The operation needs a cargo feature this binary was built without.
    #[error("{what} needs the cargo feature `{feature}`, which this binary was built without")]
    FeatureOff { what: String, feature: &'static str },

    /// The operation would need more than it was allowed (memory, results, time).
    #[error("{what}")]
    Limit { what: String, hint: Option<String> },
}

impl Error {
    /// An I/O error with its path; for `map_err(Error::io(path, "read"))`.
    pub fn io(path: impl AsRef<Path>, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::Io { path: path.as_ref().to_path_buf(), action, source }
    }

    /// An invalid input value.
    pub fn invalid(what: impl Into<String>) -> Error {
        Error::Invalid { what: what.into(), hint: None }
    }

    /// An invalid input value, with the remedy.
    pub fn invalid_hint(what: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::Invalid { what: what.into(), hint: Some(hint.into()) }
    }

    /// A structural fault at `offset` of `path`.
    pub fn corrupt(path: impl AsRef<Path>, offset: u64, what: impl Into<String>) -> Error {
        Error::Corrupt { path: path.as_ref().to_path_buf(), offset, what: what.into() }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Corrupt { .. } | Error::Checksum { .. } => Some(
                "run `index-tools verify --index DIR` to list every damaged block and what to do; restore the file from a copy or rebuild the index".into(),
            ),
            Error::NewerFormat { .. } => Some("upgrade priorart, or rebuild the index with this version".into()),
            Error::Damaged { .. } => Some(
                "the file is truncated, damaged or not of the kind its name says; make or copy it again (`gzip -t` or `zstd -t` checks it)".into(),
            ),
            Error::Record { .. } => Some("fix the record; where documents are read, --skip-bad N tolerates up to N bad records".into()),
            Error::TokenizerMismatch { .. } => Some("query with the index's own tokenizer, or rebuild the index".into()),
            Error::EncoderMismatch { .. } => Some("query with the encoder the index was built with, or rebuild its vectors".into()),
            Error::Busy { .. } => Some("wait for the other process to finish, or stop it; a lock left by a dead process is released by the operating system".into()),
            Error::FeatureOff { feature, .. } => Some(format!("rebuild with `cargo build --release --features {feature}`")),
            Error::Invalid { hint, .. } | Error::Fetch { hint, .. } | Error::Limit { hint, .. } => hint.clone(),
            Error::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull => Some("free some disk space and run the same command again".into()),
                std::io::ErrorKind::PermissionDenied => Some("check the owner and mode of the path".into()),
                std::io::ErrorKind::ReadOnlyFilesystem => Some("the file system is mounted read-only; mount it for writing".into()),
                _ => None,
            },
            Error::Model { .. } => Some(
                "name a model directory or a tokenizer.json that is whole, or fetch a model (again): `index-tools fetch NAME`".into(),
            ),
        }
    }
}

thread_local! {
    /// Calls of [`contain`] this thread is in.
    static CONTAINED: Cell<u32> = const { Cell::new(0) };
}

/// Calls a library that panics on bad input, for which that is no reason to end: `None` if it did. Nothing is printed about it; panics
/// elsewhere are reported as before.
pub(crate) fn contain<T>(call: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if CONTAINED.get() == 0 {
                report(info);
            }
        }));
    });
    CONTAINED.set(CONTAINED.get() + 1);
    let result = panic::catch_unwind(AssertUnwindSafe(call));
    CONTAINED.set(CONTAINED.get() - 1);
    result.ok()
}
