//! Stores: where index files are written, and what a crash leaves of them.
//!
//! Everything that changes an index goes through a [`Store`]: [`DiskStore`] is the file system, [`FaultStore`] a model of
//! one that tells written from durable, fails or stops at a chosen operation, and rebuilds every image that a power cut at
//! that moment may leave. Readers do not use a store: they map files.

mod disk;
mod fault;

pub use disk::DiskStore;
pub use fault::{FaultStore, Image, Images};

use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};
use crate::format::{Kind, OutputFile, SectionWriter};

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub name: String,
    pub is_dir: bool,
    /// Length of a file; 0 for a directory.
    pub bytes: u64,
}

/// A held lock; dropping it (or the death of the process) releases it.
pub trait Lock: Send + Sync {}

/// File operations with the guarantees of POSIX and no more: what is written is durable after a sync of the file, and a name
/// (created, renamed or removed) after a sync of its directory.
pub trait Store: Send + Sync {
    /// Creates or empties a file.
    fn create(&self, path: &Path) -> Result<Box<dyn OutputFile>>;
    /// Reads a file as a stream.
    fn reader(&self, path: &Path) -> Result<Box<dyn Read + Send>>;
    /// Creates a directory and its parents; fine if it exists.
    fn create_dir_all(&self, path: &Path) -> Result<()>;
    /// Entries of a directory, sorted by name; empty for a directory that does not exist.
    fn list(&self, path: &Path) -> Result<Vec<Entry>>;
    /// Whether something is at `path`.
    fn exists(&self, path: &Path) -> Result<bool>;
    /// Moves a file or directory, replacing a file at `to`.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Removes a file, or a directory with all it holds; fine if there is nothing.
    fn remove(&self, path: &Path) -> Result<()>;
    /// Makes the content of a closed file durable.
    fn sync_file(&self, path: &Path) -> Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> Result<()>;
    /// Takes the exclusive lock of the file `path`, creating it; [`Error::Busy`] when another holder has it.
    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>>;

    /// The whole content of a file.
    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.reader(path)?.read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
        Ok(bytes)
    }

    /// Starts a section file at `path`.
    fn section(&self, path: &Path, kind: Kind, width: u8) -> Result<SectionWriter> {
        SectionWriter::new(self.create(path)?, kind, width)
    }

    /// Writes and syncs a whole file.
    fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let mut file = self.create(path)?;
        file.write_all(bytes).and_then(|()| file.sync()).map_err(Error::io(path, "write"))
    }
}
