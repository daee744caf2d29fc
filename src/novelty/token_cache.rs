//! The document-token cache: token states of chunks, kept on disk in the residual codec, so that a second audit encodes nothing again.
//!
//! A directory with three files. `codec.bin`: magic `PRIORTKC`, xxh3-64 of the rest, length of a JSON description (u32), the
//! description ([`CacheKey`]), the codec ([`ResidualCodec::to_bytes`]). `states.bin`: codes, chunk after chunk. `states.idx`: 32 bytes a
//! chunk: what tells the shard's chunks from others ([`chunks_key`](crate::shard::semantic::chunks_key), u64), row (u32), bytes (u32), offset in `states.bin` (u64), xxh3-64 of the codes.
//!
//! It is a cache: nothing in it is needed, and what a crash tore is found by its checksum and made again. The key follows from the
//! documents and how they were cut, so an entry is valid in whatever index they are. One process writes at a time (a lock on `states.idx`); a second one reads.
//!
//! Cost: [`ResidualCodec::width`] bytes a token on disk, 48 bytes a chunk in memory, one read a chunk.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::embed::residual::ResidualCodec;
use crate::error::{Error, Result};
use crate::format::checksum;

const MAGIC: &[u8; 8] = b"PRIORTKC";
const ENTRY: usize = 32;

/// What decides the states in a cache.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CacheKey {
    /// sha256 of the weights that make token states.
    pub encoder_sha256: String,
    /// How documents are encoded.
    pub documents: serde_json::Value,
    /// Bits a dimension.
    pub bits: u32,
}

/// Where a chunk's codes are.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    bytes: u32,
    checksum: u64,
}

/// An opened cache.
#[derive(Debug)]
pub struct TokenCache {
    path: PathBuf,
    /// Encodes and decodes what is in it.
    pub codec: ResidualCodec,
    data: File,
    /// `None`: another process writes.
    index: Option<File>,
    places: HashMap<(u64, u32), Place>,
    end: u64,
}

fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| match source.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => Error::invalid_hint(
            format!("{}: cannot {action}: {source}", path.display()),
            "name a directory that can be written with --token-cache, or do without: --token-cache none",
        ),
        _ => Error::Io { path: path.into(), action, source },
    }
}

impl TokenCache {
    /// Opens the cache in `dir`; `None` if there is none yet.
    ///
    /// # Errors
    /// A cache of another encoder or of other settings; a damaged codec.
    pub fn open(dir: &Path, key: &CacheKey) -> Result<Option<TokenCache>> {
        let path = dir.join("codec.bin");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::Io { path, action: "read", source: e }),
        };
        let damaged =
            |what: &str| Error::corrupt(&path, 0, format!("token cache: {what}; delete the directory to start anew"));
        let body = bytes.get(16..).filter(|_| bytes.starts_with(MAGIC)).ok_or_else(|| damaged("not one"))?;
        if bytes.get(8..16) != Some(&checksum(body).to_le_bytes()[..]) {
            return Err(damaged("checksum mismatch"));
        }
        let length = body.first_chunk::<4>().map_or(0, |&l| u32::from_le_bytes(l) as usize);
        let description = body.get(4..4 + length).ok_or_else(|| damaged("cut short"))?;
        let found: CacheKey = serde_json::from_slice(description).map_err(|e| damaged(&e.to_string()))?;
        if found != *key {
            return Err(Error::invalid_hint(
                format!(
                    "{}: this token cache is of another encoder or other settings (weights {:.12}, {} bits; wanted: weights {:.12}, {} bits)",
                    dir.display(),
                    found.encoder_sha256,
                    found.bits,
                    key.encoder_sha256,
                    key.bits
                ),
                "name another directory with --token-cache, or delete this one",
            ));
        }
        let codec = ResidualCodec::from_bytes(&body[4 + length..]).ok_or_else(|| damaged("no codec in it"))?;
        TokenCache::attach(dir, codec).map(Some)
    }

    /// Starts a cache in `dir`, which is created; what was there is replaced.
    pub fn create(dir: &Path, key: &CacheKey, codec: ResidualCodec) -> Result<TokenCache> {
        std::fs::create_dir_all(dir).map_err(io(dir, "create"))?;
        let description = serde_json::to_vec(key).map_err(|e| Error::invalid(format!("token cache: {e}")))?;
        let mut body = (description.len() as u32).to_le_bytes().to_vec();
        body.extend(description);
        body.extend(codec.to_bytes());
        let mut bytes = MAGIC.to_vec();
        bytes.extend(checksum(&body).to_le_bytes());
        bytes.extend(body);
        for name in ["states.idx", "states.bin"] {
            let path = dir.join(name);
            File::create(&path).map_err(io(&path, "create"))?;
        }
        let (path, part) = (dir.join("codec.bin"), dir.join("codec.part"));
        std::fs::write(&part, bytes).map_err(io(&part, "write"))?;
        std::fs::rename(&part, &path).map_err(io(&path, "write"))?;
        TokenCache::attach(dir, codec)
    }

    fn attach(dir: &Path, codec: ResidualCodec) -> Result<TokenCache> {
        let (data_path, index_path) = (dir.join("states.bin"), dir.join("states.idx"));
        let open = |path: &Path, write: bool| {
            let mut options = OpenOptions::new();
            options.read(true).write(write).create(write).truncate(false).open(path)
        };
        // A cache that cannot be written is still good for reading.
        let (data, index, mut writable) = match (open(&data_path, true), open(&index_path, true)) {
            (Ok(data), Ok(index)) => (data, index, true),
            _ => (
                open(&data_path, false).map_err(io(&data_path, "open"))?,
                open(&index_path, false).map_err(io(&index_path, "open"))?,
                false,
            ),
        };
        writable &= index.try_lock().is_ok();
        let entries = std::fs::read(&index_path).map_err(Error::io(&index_path, "read"))?;
        let length = data.metadata().map_err(Error::io(&data_path, "read"))?.len();
        let mut places = HashMap::new();
        let mut kept = 0;
        let mut end = 0;
        let (whole, _) = entries.as_chunks::<ENTRY>();
        for entry in whole {
            let u64_at = |i: usize| entry[i..i + 8].iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
            let u32_at = |i: usize| entry[i..i + 4].iter().rev().fold(0u32, |n, &b| n << 8 | u32::from(b));
            let place = Place { offset: u64_at(16), bytes: u32_at(12), checksum: u64_at(24) };
            if place.offset.checked_add(u64::from(place.bytes)).is_none_or(|e| e > length) {
                break;
            }
            end = end.max(place.offset + u64::from(place.bytes));
            places.insert((u64_at(0), u32_at(8)), place);
            kept += ENTRY as u64;
        }
        if writable {
            index.set_len(kept).map_err(Error::io(&index_path, "truncate"))?;
            data.set_len(end).map_err(Error::io(&data_path, "truncate"))?;
        }
        Ok(TokenCache { path: dir.into(), codec, data, index: writable.then_some(index), places, end })
    }

    /// Chunks in it.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether a chunk is in it.
    pub fn contains(&self, shard: u64, row: u32) -> bool {
        self.places.contains_key(&(shard, row))
    }

    /// Whether another process writes, so that nothing can be added.
    pub fn is_read_only(&self) -> bool {
        self.index.is_none()
    }

    /// Codes of a chunk; `None` if it is not there or damaged.
    pub fn get(&self, shard: u64, row: u32) -> Option<Vec<u8>> {
        let place = self.places.get(&(shard, row))?;
        let mut codes = vec![0u8; place.bytes as usize];
        self.data.read_exact_at(&mut codes, place.offset).ok()?;
        (checksum(&codes) == place.checksum).then_some(codes)
    }

    /// Adds chunks (shard, row, codes). Does nothing while another process writes.
    pub fn put(&mut self, chunks: &[(u64, u32, &[u8])]) -> Result<()> {
        let Some(index) = &mut self.index else { return Ok(()) };
        let mut data = Vec::new();
        let mut entries = Vec::with_capacity(chunks.len() * ENTRY);
        let mut added = Vec::with_capacity(chunks.len());
        for &(shard, row, codes) in chunks {
            let place =
                Place { offset: self.end + data.len() as u64, bytes: codes.len() as u32, checksum: checksum(codes) };
            data.extend_from_slice(codes);
            entries.extend_from_slice(&shard.to_le_bytes());
            entries.extend_from_slice(&row.to_le_bytes());
            entries.extend_from_slice(&place.bytes.to_le_bytes());
            entries.extend_from_slice(&place.offset.to_le_bytes());
            entries.extend_from_slice(&place.checksum.to_le_bytes());
            added.push(((shard, row), place));
        }
        // The codes before the entries that name them: a kill between the two leaves only unused bytes.
        self.data.write_all_at(&data, self.end).map_err(Error::io(self.path.join("states.bin"), "write"))?;
        let path = self.path.join("states.idx");
        use std::io::Seek;
        index.seek(std::io::SeekFrom::End(0)).map_err(Error::io(&path, "write"))?;
        index.write_all(&entries).map_err(Error::io(&path, "write"))?;
        self.end += data.len() as u64;
        self.places.extend(added);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sha: &str) -> CacheKey {
        CacheKey { encoder_sha256: sha.into(), documents: serde_json::json!({"max": 3}), bits: 2 }
    }

    fn codec() -> ResidualCodec {
        ResidualCodec::train(&[0.6, 0.8, 1.0, 0.0, 0.0, 1.0], 2, 2, 3, 1).unwrap()
    }

    #[test]
    fn what_was_put_is_there_after_reopening_and_torn_ends_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        assert!(TokenCache::open(dir.path(), &key("a")).unwrap().is_none());
        let mut cache = TokenCache::create(dir.path(), &key("a"), codec()).unwrap();
        cache.put(&[(1, 0, b"first"), (1, 7, b"second")]).unwrap();
        cache.put(&[(2, 0, b"third")]).unwrap();
        // A second process reads, and writes nothing.
        let mut second = TokenCache::open(dir.path(), &key("a")).unwrap().unwrap();
        second.put(&[(9, 9, b"lost")]).unwrap();
        assert_eq!((second.len(), second.get(1, 7).as_deref()), (3, Some(&b"second"[..])));
        drop((cache, second));
        let index = dir.path().join("states.idx");
        let mut entries = std::fs::read(&index).unwrap();
        assert_eq!(entries.len(), 3 * ENTRY);
        entries.extend_from_slice(&[7; 20]);
        std::fs::write(&index, &entries).unwrap();
        let mut cache = TokenCache::open(dir.path(), &key("a")).unwrap().unwrap();
        assert_eq!((cache.len(), cache.get(9, 9)), (3, None));
        cache.put(&[(3, 1, b"fourth")]).unwrap();
        drop(cache);
        // A flipped bit is found when it is read, and only there.
        let data = dir.path().join("states.bin");
        let mut bytes = std::fs::read(&data).unwrap();
        assert_eq!(bytes, b"firstsecondthirdfourth");
        bytes[6] ^= 1;
        std::fs::write(&data, bytes).unwrap();
        let cache = TokenCache::open(dir.path(), &key("a")).unwrap().unwrap();
        assert_eq!((cache.get(1, 7), cache.get(3, 1).as_deref()), (None, Some(&b"fourth"[..])));
    }

    #[test]
    fn another_encoder_and_damage_are_refused_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        TokenCache::create(dir.path(), &key("a"), codec()).unwrap();
        let error = TokenCache::open(dir.path(), &key("b")).unwrap_err();
        assert!(error.to_string().contains("another encoder") && error.hint().unwrap().contains("--token-cache"));
        let path = dir.path().join("codec.bin");
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(TokenCache::open(dir.path(), &key("a")).unwrap_err().to_string().contains("checksum"));
    }
}
