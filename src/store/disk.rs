//! The real file system.
//!
//! Writes go straight to the file: callers buffer (a section writer hands over 1 MiB at a time). Directories are synced by
//! opening and syncing them, which Unix allows; elsewhere renames are left to the file system.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{Entry, Lock, Store};
use crate::error::{Error, Result};
use crate::format::OutputFile;

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskStore;

struct DiskFile {
    path: PathBuf,
    file: File,
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl OutputFile for DiskFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.write_all(bytes)?;
        self.file.seek(SeekFrom::End(0)).map(drop)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.file.sync_all()
    }
}

/// Holds the operating system's lock on an open file.
struct DiskLock {
    _file: File,
}

impl Lock for DiskLock {}

impl Store for DiskStore {
    fn create(&self, path: &Path) -> Result<Box<dyn OutputFile>> {
        let file = File::create(path).map_err(Error::io(path, "create"))?;
        Ok(Box::new(DiskFile { path: path.to_path_buf(), file }))
    }

    fn reader(&self, path: &Path) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(path).map_err(Error::io(path, "open"))?))
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        fs::create_dir_all(path).map_err(Error::io(path, "create directory"))
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>> {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io(path, "list")(e)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io(path, "list"))?;
            let meta = entry.metadata().map_err(Error::io(entry.path(), "inspect"))?;
            let name = entry.file_name().into_string().map_err(|name| {
                Error::invalid(format!("{}: {name:?} is not a name priorart gives to files", path.display()))
            })?;
            found.push(Entry { name, is_dir: meta.is_dir(), bytes: if meta.is_dir() { 0 } else { meta.len() } });
        }
        found.sort();
        Ok(found)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        match path.try_exists() {
            // Under a file there is nothing.
            Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => Ok(false),
            found => found.map_err(Error::io(path, "inspect")),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(Error::io(to, "move into place"))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let removed = match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(e) => Err(e),
        };
        match removed {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(path, "remove")(e)),
            _ => Ok(()),
        }
    }

    fn sync_file(&self, path: &Path) -> Result<()> {
        File::open(path).and_then(|file| file.sync_all()).map_err(Error::io(path, "sync"))
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        if cfg!(unix) { self.sync_file(path) } else { Ok(()) }
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>> {
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(path).map_err(Error::io(path, "open"))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(DiskLock { _file: file })),
            Err(TryLockError::WouldBlock) => {
                Err(Error::Busy { path: path.parent().unwrap_or(Path::new(".")).to_path_buf() })
            }
            Err(TryLockError::Error(e)) => Err(Error::io(path, "lock")(e)),
        }
    }
}
