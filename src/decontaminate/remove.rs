//! Removal: cleaned copies of corpus files, and a manifest that accounts for every record.
//!
//! A document is named by file, record number and the hash of its text, never by the file's base name; a record whose text has
//! changed since it was judged stops the removal. Cleaned files have the input's format and compression, and kept
//! records their bytes. Nothing is overwritten; a file is written under a temporary name and given its own when it is whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::run::text_hash;
use crate::corpus::{self, CorpusWriter, Document, ReadOptions, SourceFile};
use crate::error::{Error, Result};
use crate::index::FileEntry;
use crate::store::DiskStore;

/// The documents to remove from a file: hash of the text by record number.
pub type Doomed = BTreeMap<u64, String>;

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileAccount {
    pub input: PathBuf,
    pub output: PathBuf,
    pub records_in: u64,
    pub kept: u64,
    pub removed: u64,
    /// Records that could not be read and were copied as they are (counted as kept).
    pub bad: u64,
    pub output_bytes: u64,
    /// xxh3-64 of the output file; empty in a dry run, and for a text file whose only document was removed.
    pub output_xxh3: String,
}

/// `manifest.json` of a removal: for every file and in all, in = kept + removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RemovalManifest {
    pub records_in: u64,
    pub kept: u64,
    pub removed: u64,
    pub files: Vec<FileAccount>,
}

/// Where the cleaned copy of each file goes: below `out`, at the file's place below the root it was found under.
///
/// Errors when two files would get the same place.
pub fn places(files: &[SourceFile], roots: &[PathBuf], out: &Path) -> Result<Vec<PathBuf>> {
    let mut seen: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    files
        .iter()
        .map(|f| {
            let root = roots.iter().find(|r| r.is_dir() && f.path.starts_with(r));
            let relative = match root {
                Some(root) => {
                    let below = f.path.strip_prefix(root).unwrap_or(&f.path);
                    match (roots.len(), root.file_name()) {
                        (2.., Some(name)) => Path::new(name).join(below),
                        _ => below.to_path_buf(),
                    }
                }
                None => f.path.file_name().map(PathBuf::from).unwrap_or_default(),
            };
            let place = out.join(relative);
            if let Some(other) = seen.insert(place.clone(), f.path.clone()) {
                return Err(Error::invalid_hint(
                    format!(
                        "{} and {} would both be written to {}",
                        other.display(),
                        f.path.display(),
                        place.display()
                    ),
                    "name their common directory instead of the files",
                ));
            }
            Ok(place)
        })
        .collect()
}

/// Writes the cleaned copy of one file; without `write`, only counts.
pub fn clean(
    file: &SourceFile,
    output: &Path,
    doomed: &Doomed,
    read: &ReadOptions,
    write: bool,
) -> Result<FileAccount> {
    let mut reader = corpus::open(file, read)?;
    let mut writer = if write { Some(CorpusWriter::create(file, read, output)?) } else { None };
    let mut account = FileAccount {
        input: file.path.clone(),
        output: output.to_path_buf(),
        records_in: 0,
        kept: 0,
        removed: 0,
        bad: 0,
        output_bytes: 0,
        output_xxh3: String::new(),
    };
    let mut document = Document::default();
    loop {
        match reader.next(&mut document) {
            Ok(true) => {
                account.records_in += 1;
                if let Some(hash) = doomed.get(&document.record) {
                    if text_hash(&document.text) != *hash {
                        return Err(Error::invalid_hint(
                            format!(
                                "{}: record {} has changed since it was checked",
                                file.path.display(),
                                document.record
                            ),
                            "nothing was written for this file; run the check again",
                        ));
                    }
                    account.removed += 1;
                    continue;
                }
            }
            Ok(false) => break,
            Err(Error::Record { .. }) => {
                account.records_in += 1;
                account.bad += 1;
            }
            Err(e) => return Err(e),
        }
        account.kept += 1;
        if let Some(w) = &mut writer {
            w.keep(&*reader, document.record)?;
        }
    }
    if account.removed != doomed.len() as u64 {
        return Err(Error::invalid_hint(
            format!("{}: {} of {} documents to remove were met", file.path.display(), account.removed, doomed.len()),
            "the file has changed since it was checked; run the check again",
        ));
    }
    if let Some(w) = writer {
        let written = w.finish()?;
        account.output_bytes = written.bytes;
        // A text file whose only document was removed has no copy.
        if let Some(path) = written.path {
            account.output_xxh3 = FileEntry::describe(&DiskStore, &path, "", written.bytes)?.xxh3;
        }
    }
    Ok(account)
}
