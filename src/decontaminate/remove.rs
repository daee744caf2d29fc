//! Removal: cleaned copies of corpus files, without dirty documents or without the dirty spans of documents, and a
//! manifest that accounts for every record.
//!
//! A document is named by file, record number and the hash of its text, never by the file's base name; a record whose text has
//! changed since it was judged stops the removal. Cleaned files have the input's format and compression, and kept
//! records their bytes. Nothing is overwritten; a file is written under a temporary name and given its own when it is whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::run::text_hash;
use super::{Detector, Spans};
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
    /// Records of the output, those with spans cut out included.
    pub kept: u64,
    pub removed: u64,
    /// Kept records with spans cut out, and bytes of text cut in all of them.
    #[serde(default)]
    pub edited: u64,
    #[serde(default)]
    pub cut_bytes: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<Edit>,
    /// Records that could not be read and were copied as they are (counted as kept).
    pub bad: u64,
    pub output_bytes: u64,
    /// xxh3-64 of the output file; empty in a dry run, and for a text file whose only document was removed.
    pub output_xxh3: String,
}

/// What was cut out of one record.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Edit {
    /// 0-based record number in the file.
    pub record: u64,
    /// xxh3-64 of the record's text as it was, and as it is now.
    pub before: String,
    pub after: String,
    /// Byte ranges of the text as it was, ascending.
    pub cut: Vec<[usize; 2]>,
}

/// `manifest.json` of a removal: for every file and in all, in = kept + removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RemovalManifest {
    pub records_in: u64,
    pub kept: u64,
    pub removed: u64,
    #[serde(default)]
    pub edited: u64,
    #[serde(default)]
    pub cut_bytes: u64,
    pub files: Vec<FileAccount>,
    /// Files that were not cleaned, and why; none of their records is counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<(PathBuf, String)>,
}

impl RemovalManifest {
    /// Adds a file's account.
    pub fn add(&mut self, file: FileAccount) {
        self.records_in += file.records_in;
        self.kept += file.kept;
        self.removed += file.removed;
        self.edited += file.edited;
        self.cut_bytes += file.cut_bytes;
        self.files.push(file);
    }
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

/// Writes the cleaned copy of one file; without `write`, only counts. With `spans`, what this detector's first protocol
/// finds dirty in the doomed documents is cut out of their text and the rest kept; a document of which nothing would be left,
/// or that stays dirty, is removed.
///
/// # Errors
/// The file cannot be read or its copy not written or exists already; a doomed document is missing or has changed.
pub fn clean(
    file: &SourceFile,
    output: &Path,
    doomed: &Doomed,
    spans: Option<&Detector>,
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
        edited: 0,
        cut_bytes: 0,
        edits: Vec::new(),
        bad: 0,
        output_bytes: 0,
        output_xxh3: String::new(),
    };
    let mut document = Document::default();
    let mut met = 0;
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
                    met += 1;
                    if let Some(Spans::Cut { text, ranges }) = spans.map(|d| d.cut(&document.text)).transpose()? {
                        account.kept += 1;
                        account.edited += 1;
                        account.cut_bytes += (document.text.len() - text.len()) as u64;
                        if let Some(w) = &mut writer {
                            w.replace(&*reader, document.record, &text)?;
                        }
                        account.edits.push(Edit {
                            record: document.record,
                            before: hash.clone(),
                            after: text_hash(&text),
                            cut: ranges.iter().map(|r| [r.start, r.end]).collect(),
                        });
                        continue;
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
    if met != doomed.len() {
        return Err(Error::invalid_hint(
            format!("{}: {} of {} documents to remove were met", file.path.display(), met, doomed.len()),
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
