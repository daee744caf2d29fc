//! The manifest: what a generation consists of, as JSON that protects itself.
//!
//! The last field, `xxh3`, is the xxh3-64 of the file's own bytes with sixteen `0` in that field's place, so a changed bit
//! anywhere in the file is seen when it is read. Fields this program does not know are kept and written again. Names of shards
//! and files are checked to be plain names: a manifest cannot lead a reader out of its index.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ann::VectorSettings;
use crate::embed::EncoderSpec;
use crate::embed::chunk::Unit;
use crate::error::{Error, Result};
use crate::format::{FORMAT_MAJOR, FORMAT_MINOR, HEADER_BYTES, Header, MAGIC, checksum, format_version};
use crate::store::Store;
use crate::tokenize::TokenizerSpec;

/// Version of the index format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormatVersion {
    pub major: u16,
    pub minor: u16,
}

/// Totals over what a query can see: shards without what was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CorpusSummary {
    pub documents: u64,
    pub tokens: u64,
    #[serde(default)]
    pub text_bytes: u64,
}

/// How documents are cut into chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunking {
    pub tokens: u32,
    pub stride: u32,
    /// Whose tokens these are; left out for the encoder's.
    #[serde(default, skip_serializing_if = "Unit::is_encoder")]
    pub unit: Unit,
}

/// One file of a shard or removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    pub name: String,
    pub bytes: u64,
    /// The kind of a section file ([`crate::format::Kind`]); absent for any other file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// 16 hexadecimal digits. For a section file its digest ([`Header::digest`]), which covers all of it; for any other
    /// file the xxh3-64 of its bytes.
    pub xxh3: String,
}

/// A shard, or a removal: a directory of files that never change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartEntry {
    pub id: String,
    pub documents: u64,
    /// Tokens, without separators.
    pub tokens: u64,
    #[serde(default)]
    pub text_bytes: u64,
    /// Filled in by publishing.
    #[serde(default)]
    pub files: Vec<FileEntry>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Settings of a new index.
#[derive(Debug, Clone, PartialEq)]
pub struct ManifestSeed {
    pub tokenizer: TokenizerSpec,
    pub encoder: Option<EncoderSpec>,
    pub chunking: Option<Chunking>,
}

/// One generation of an index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: FormatVersion,
    /// 1 for the first published generation.
    pub generation: u64,
    /// Program and version.
    pub created_by: String,
    pub corpus: CorpusSummary,
    pub tokenizer: TokenizerSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<EncoderSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunking: Option<Chunking>,
    /// The vector index that shards are built with, as it was asked for; each shard's `semantic` says what it got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector_index: Option<VectorSettings>,
    pub shards: Vec<PartEntry>,
    #[serde(default)]
    pub removed: Vec<PartEntry>,
    /// Named spaces: vectors that were made elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spaces: Vec<PartEntry>,
    /// Measured recall of the approximate searches, by search.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub recall: Map<String, Value>,
    /// Fields of later minor versions.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

const SEAL: &str = "xxh3";
const TAIL: &[u8] = b"\"\n}\n";
const ZEROS: [u8; 16] = [b'0'; 16];

impl PartEntry {
    /// A part that is about to be published.
    pub fn new(id: impl Into<String>, documents: u64, tokens: u64, text_bytes: u64) -> PartEntry {
        PartEntry { id: id.into(), documents, tokens, text_bytes, files: Vec::new(), extra: Map::new() }
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }
}

impl FileEntry {
    /// Describes the file `path` (length, kind, digest). A section file costs one read of 64 bytes, any other is read whole.
    pub fn describe(store: &dyn Store, path: &Path, name: &str, bytes: u64) -> Result<FileEntry> {
        let mut head = Vec::with_capacity(HEADER_BYTES);
        let mut file = store.reader(path)?;
        file.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut head).map_err(Error::io(path, "read"))?;
        let named_so = name.ends_with(".bin") || name.ends_with(".idx");
        let unfinished = named_so && head.len() == HEADER_BYTES && head.iter().all(|&b| b == 0);
        let (kind, digest) = if head.starts_with(&MAGIC) || unfinished {
            let header = Header::decode(&head, path)?;
            (Some(header.kind.name()), header.digest())
        } else {
            (None, content_digest(Box::new(std::io::Cursor::new(head).chain(file)), path)?)
        };
        Ok(FileEntry { name: name.to_string(), bytes, kind, xxh3: format!("{digest:016x}") })
    }

    /// Compares the file in `dir` with this entry: existence, length, and for a section file kind and digest in its header.
    /// Costs a read of 64 bytes; [`crate::format::Section::verify`] reads the rest.
    pub fn check(&self, dir: &Path) -> Result<()> {
        let path = dir.join(&self.name);
        let mut file = std::fs::File::open(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::corrupt(&path, 0, "the file is missing, the manifest lists it"),
            _ => Error::Io { path: path.clone(), action: "open", source: e },
        })?;
        let bytes = file.metadata().map_err(Error::io(&path, "inspect"))?.len();
        if bytes != self.bytes {
            let what = format!("the file has {bytes} bytes, the manifest tells {}", self.bytes);
            return Err(Error::corrupt(&path, bytes.min(self.bytes), what));
        }
        let Some(kind) = &self.kind else { return Ok(()) };
        let mut head = Vec::with_capacity(HEADER_BYTES);
        file.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut head).map_err(Error::io(&path, "read"))?;
        let header = Header::decode(&head, &path)?;
        if header.kind.name() != *kind {
            let what = format!("holds `{}`, the manifest tells `{kind}`", header.kind.name());
            return Err(Error::corrupt(&path, 8, what));
        }
        self.compare(&path, header.digest())
    }

    /// Compares the whole content of a file that is no section file.
    pub(super) fn check_content(&self, store: &dyn Store, dir: &Path) -> Result<()> {
        let path = dir.join(&self.name);
        self.compare(&path, content_digest(store.reader(&path)?, &path)?)
    }

    fn compare(&self, path: &Path, found: u64) -> Result<()> {
        if format!("{found:016x}") != self.xxh3 {
            let what =
                format!("digest {found:016x} is not {}, which the manifest tells: not the published file", self.xxh3);
            return Err(Error::corrupt(path, 0, what));
        }
        Ok(())
    }
}

/// xxh3-64 of everything a reader gives.
fn content_digest(mut file: Box<dyn Read + '_>, path: &Path) -> Result<u64> {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(Error::io(path, "read"))? {
            0 => return Ok(hasher.digest()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

impl Manifest {
    /// Generation 0: the settings, before anything is published.
    pub fn from_seed(seed: ManifestSeed) -> Manifest {
        Manifest {
            format: FormatVersion { major: FORMAT_MAJOR, minor: FORMAT_MINOR },
            generation: 0,
            created_by: created_by(),
            corpus: CorpusSummary::default(),
            tokenizer: seed.tokenizer,
            encoder: seed.encoder,
            chunking: seed.chunking,
            vector_index: None,
            shards: Vec::new(),
            removed: Vec::new(),
            spaces: Vec::new(),
            recall: Map::new(),
            extra: Map::new(),
        }
    }

    /// The bytes of the file, sealed with their checksum.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let unwritable = |e: serde_json::Error| Error::invalid(format!("the manifest cannot be written as JSON: {e}"));
        let mut value = serde_json::to_value(self).map_err(unwritable)?;
        if let Value::Object(fields) = &mut value {
            fields.shift_remove(SEAL);
            fields.insert(SEAL.into(), Value::from("0".repeat(16)));
        }
        let mut bytes = serde_json::to_vec_pretty(&value).map_err(unwritable)?;
        bytes.push(b'\n');
        let seal = format!("{:016x}", checksum(&bytes));
        let at = bytes.len() - TAIL.len() - 16;
        bytes[at..at + 16].copy_from_slice(seal.as_bytes());
        Ok(bytes)
    }

    /// Reads and checks the bytes of the file `path`.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Manifest> {
        if let Err(error) = check_seal(bytes, path) {
            // A later major version may seal its manifests in another way.
            return Err(newer_format(bytes, path).unwrap_or(error));
        }
        if let Some(error) = newer_format(bytes, path) {
            return Err(error);
        }
        let mut manifest: Manifest = serde_json::from_slice(bytes).map_err(|e| {
            Error::corrupt(path, line_offset(bytes, e.line(), e.column()), format!("not a manifest: {e}"))
        })?;
        manifest.extra.shift_remove(SEAL);
        manifest.check_names(path)?;
        Ok(manifest)
    }

    /// Shards, removals and spaces.
    pub(super) fn parts(&self) -> usize {
        self.shards.len() + self.removed.len() + self.spaces.len()
    }

    /// Totals of the shards without the removals.
    pub fn totals(&self) -> CorpusSummary {
        let sum = |of: fn(&PartEntry) -> u64| {
            let add = |parts: &[PartEntry]| parts.iter().fold(0u64, |total, part| total.saturating_add(of(part)));
            add(&self.shards).saturating_sub(add(&self.removed))
        };
        CorpusSummary { documents: sum(|p| p.documents), tokens: sum(|p| p.tokens), text_bytes: sum(|p| p.text_bytes) }
    }

    pub(super) fn check_names(&self, path: &Path) -> Result<()> {
        for parts in [&self.shards, &self.removed, &self.spaces] {
            let mut ids = BTreeSet::new();
            for part in parts {
                let plain = is_plain_name(&part.id) && part.files.iter().all(|f| is_plain_name(&f.name));
                if !plain || !ids.insert(&part.id) {
                    return Err(Error::corrupt(
                        path,
                        0,
                        format!("part {:?} has an impossible or repeated name", part.id),
                    ));
                }
            }
        }
        Ok(())
    }
}

pub(super) fn created_by() -> String {
    concat!("priorart ", env!("CARGO_PKG_VERSION")).to_string()
}

/// One component of a path: letters, digits, `-`, `_`, `.`, not starting with a dot.
pub(super) fn is_plain_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn check_seal(bytes: &[u8], path: &Path) -> Result<()> {
    let start = b"\"xxh3\": \"";
    let Some(at) = bytes.len().checked_sub(TAIL.len() + 16) else {
        return Err(Error::corrupt(path, 0, format!("{} bytes are too few for a manifest", bytes.len())));
    };
    let (head, rest) = bytes.split_at(at);
    let (seal, tail) = rest.split_at(16);
    if !head.ends_with(start) || tail != TAIL {
        return Err(Error::corrupt(
            path,
            at as u64,
            "the manifest does not end with its checksum: truncated or edited",
        ));
    }
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(head);
    hasher.update(&ZEROS);
    hasher.update(tail);
    let expected = format!("{:016x}", hasher.digest());
    if seal != expected.as_bytes() {
        let what = format!("the manifest's checksum is {}, its bytes give {expected}", seal.escape_ascii());
        return Err(Error::corrupt(path, at as u64, what));
    }
    Ok(())
}

fn newer_format(bytes: &[u8], path: &Path) -> Option<Error> {
    #[derive(Deserialize)]
    struct Version {
        format: FormatVersion,
    }
    let FormatVersion { major, minor } = serde_json::from_slice::<Version>(bytes).ok()?.format;
    (major > FORMAT_MAJOR).then(|| Error::NewerFormat {
        path: path.to_path_buf(),
        found: format!("{major}.{minor}"),
        supported: format_version(),
    })
}

fn line_offset(bytes: &[u8], line: usize, column: usize) -> u64 {
    let before: usize = bytes.split_inclusive(|&b| b == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    (before + column.saturating_sub(1)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let tokenizer = TokenizerSpec { kind: "bytes".into(), sha256: "ab".repeat(32), vocab: Some(256), path: None };
        let mut manifest = Manifest::from_seed(ManifestSeed { tokenizer, encoder: None, chunking: None });
        manifest.shards.push(PartEntry::new("000001-0000", 3, 40, 50));
        manifest.shards[0].files.push(FileEntry {
            name: "tokens.bin".into(),
            bytes: 72,
            kind: Some("tokens".into()),
            xxh3: "0123456789abcdef".into(),
        });
        manifest.removed.push(PartEntry::new("000002-0000", 1, 10, 12));
        manifest
    }

    fn parse(bytes: &[u8]) -> Result<Manifest> {
        Manifest::from_bytes(bytes, Path::new("manifest.json"))
    }

    #[test]
    fn round_trip_keeps_unknown_fields() {
        let mut manifest = sample();
        manifest.extra.insert("from_the_future".into(), serde_json::json!([1, {"a": 2}]));
        manifest.shards[0].extra.insert("also".into(), true.into());
        let bytes = manifest.to_bytes().unwrap();
        assert_eq!(parse(&bytes).unwrap(), manifest);
        assert_eq!(parse(&bytes).unwrap().to_bytes().unwrap(), bytes);
        assert_eq!(manifest.totals(), CorpusSummary { documents: 2, tokens: 30, text_bytes: 38 });
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_refused() {
        let bytes = sample().to_bytes().unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bad).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn newer_major_is_named_as_such() {
        let mut manifest = sample();
        manifest.format.major += 1;
        assert!(matches!(parse(&manifest.to_bytes().unwrap()), Err(Error::NewerFormat { .. })));
        assert!(matches!(
            parse(br#"{"format": {"major": 9, "minor": 0}, "sealed": "elsehow"}"#),
            Err(Error::NewerFormat { .. })
        ));
    }

    #[test]
    fn names_that_leave_the_index_are_refused() {
        for name in ["", "..", ".hidden", "a/b", "a\\b", "/etc", "a\0"] {
            let mut manifest = sample();
            manifest.shards[0].id = name.into();
            assert!(parse(&manifest.to_bytes().unwrap()).is_err(), "{name:?}");
            let mut manifest = sample();
            manifest.shards[0].files[0].name = name.into();
            assert!(parse(&manifest.to_bytes().unwrap()).is_err(), "{name:?}");
        }
        let mut manifest = sample();
        manifest.shards.push(manifest.shards[0].clone());
        assert!(parse(&manifest.to_bytes().unwrap()).is_err());
    }
}
