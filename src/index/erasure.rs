//! Proof that removed bytes are gone: fragments of what was removed are looked for in every file that is left.
//!
//! A document's record is its text, id and metadata. Fragments of [`FRAGMENT`] bytes are taken from it at even distances, and likewise
//! from its stretch of the token stream (where ids mean the same in every shard) and from the vectors of its chunks. Those that a
//! document that was kept has as well say nothing and are put aside, counted. The rest are looked for in the bytes of every file
//! under the index, and in every document of every part there, decompressed.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::{DocumentRef, Snapshot};
use crate::error::{Error, Result};
use crate::shard::documents::DOCUMENTS_IDX;
use crate::shard::{Documents, Layout, StoredDocument};
use crate::with_view;

/// Bytes of a fragment.
pub const FRAGMENT: usize = 24;
/// Bytes from one fragment to the next, unless there would be too many of them.
const STRIDE: usize = 16;
/// Fragments at most.
const LIMIT: u64 = 4 << 20;
/// Factor of the rolling hash, an odd number.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
/// Bits of the filter in front of the table.
const FILTER: u32 = 24;
/// Places reported at most.
const SHOWN: usize = 100;

/// What a search for removed documents found.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Erasure {
    /// Documents whose traces were looked for.
    pub documents: u64,
    /// Of them, those shorter than a fragment: nothing of their text was looked for.
    pub too_short: u64,
    /// Fragments looked for.
    pub fragments: u64,
    /// Further fragments that documents which were kept have as well.
    pub also_kept: u64,
    /// Files read, and their bytes.
    pub files: u64,
    pub bytes: u64,
    /// Documents read.
    pub documents_read: u64,
    /// File and offset (of a document: its number) of each fragment found, the first hundred.
    pub found: Vec<(PathBuf, u64)>,
}

/// Fragments of removed documents.
pub struct Traces {
    table: HashMap<u64, Vec<[u8; FRAGMENT]>>,
    filter: Vec<u64>,
    documents: u64,
    too_short: u64,
    fragments: u64,
    also_kept: u64,
    /// [`FACTOR`] to the power of [`FRAGMENT`].
    leaving: u64,
}

impl Traces {
    /// Fragments of all documents of a snapshot that are removed.
    ///
    /// Cost: one read of all documents. Memory: some 70 bytes a fragment.
    pub fn of(snapshot: &Snapshot) -> Result<Traces> {
        let leaving = (0..FRAGMENT).fold(1u64, |power, _| power.wrapping_mul(FACTOR));
        let mut traces = Traces {
            table: HashMap::new(),
            filter: vec![0; 1 << (FILTER - 6)],
            documents: 0,
            too_short: 0,
            fragments: 0,
            also_kept: 0,
            leaving,
        };
        let removed: u64 = snapshot.manifest.removed.iter().map(|p| p.text_bytes + 8 * p.tokens).sum();
        let stride = STRIDE.max((removed / LIMIT) as usize);
        each(snapshot, true, &mut |bytes, is_text| {
            if is_text {
                traces.documents += 1;
                traces.too_short += u64::from(bytes.len() < FRAGMENT);
            }
            let last = bytes.len().checked_sub(FRAGMENT);
            for at in last.into_iter().flat_map(|last| (0..last).step_by(stride).chain([last])) {
                traces.add(&bytes[at..at + FRAGMENT]);
            }
        })?;
        let mut kept: HashSet<[u8; FRAGMENT]> = HashSet::new();
        if !traces.table.is_empty() {
            each(snapshot, false, &mut |bytes, _| {
                traces.scan(bytes, |_, fragment| {
                    kept.insert(*fragment);
                });
            })?;
        }
        for fragments in traces.table.values_mut() {
            fragments.retain(|f| !kept.contains(f));
        }
        traces.also_kept = kept.len() as u64;
        traces.fragments = traces.table.values().map(|f| f.len() as u64).sum();
        Ok(traces)
    }

    fn add(&mut self, bytes: &[u8]) {
        let Ok(fragment) = <[u8; FRAGMENT]>::try_from(bytes) else { return };
        // Runs of one byte are padding wherever they are.
        if fragment.iter().all(|&b| b == fragment[0]) {
            return;
        }
        let hash = fragment.iter().fold(0u64, |h, &b| h.wrapping_mul(FACTOR).wrapping_add(u64::from(b) + 1));
        let slot = (hash >> (64 - FILTER)) as usize;
        self.filter[slot / 64] |= 1 << (slot % 64);
        let same = self.table.entry(hash).or_default();
        if !same.contains(&fragment) {
            same.push(fragment);
        }
    }

    /// Calls `hit` with offset and fragment of every occurrence in `bytes`. Cost: a few operations a byte.
    fn scan(&self, bytes: &[u8], mut hit: impl FnMut(usize, &[u8; FRAGMENT])) {
        let mut hash = 0u64;
        for (i, &byte) in bytes.iter().enumerate() {
            hash = hash.wrapping_mul(FACTOR).wrapping_add(u64::from(byte) + 1);
            if i >= FRAGMENT {
                hash = hash.wrapping_sub((u64::from(bytes[i - FRAGMENT]) + 1).wrapping_mul(self.leaving));
            }
            if i + 1 < FRAGMENT {
                continue;
            }
            let slot = (hash >> (64 - FILTER)) as usize;
            if self.filter[slot / 64] >> (slot % 64) & 1 == 0 {
                continue;
            }
            let start = i + 1 - FRAGMENT;
            if let Some(same) = self.table.get(&hash) {
                same.iter().filter(|f| f[..] == bytes[start..=i]).for_each(|f| hit(start, f));
            }
        }
    }

    /// Looks for the fragments in all files under `root`, and in all documents of its parts.
    pub fn search(&self, root: &Path) -> Result<Erasure> {
        let mut result = Erasure {
            documents: self.documents,
            too_short: self.too_short,
            fragments: self.fragments,
            also_kept: self.also_kept,
            ..Erasure::default()
        };
        let mut found = |path: &Path, offset: u64| {
            if result.found.len() < SHOWN {
                result.found.push((path.to_path_buf(), offset));
            }
        };
        for entry in walkdir::WalkDir::new(root) {
            let entry = entry.map_err(|e| Error::io(root, "list")(e.into()))?;
            let path = entry.path();
            if !entry.file_type().is_file() {
                continue;
            }
            result.bytes += self.search_file(path, &mut |offset| found(path, offset))?;
            result.files += 1;
            if path.file_name().is_some_and(|name| name == DOCUMENTS_IDX)
                && let Some(part) = path.parent()
            {
                let documents = Documents::open(part)?;
                for i in 0..documents.len() as u32 {
                    self.scan(&record(documents.get(i)?)?, |_, _| found(path, u64::from(i)));
                    result.documents_read += 1;
                }
            }
        }
        Ok(result)
    }

    fn search_file(&self, path: &Path, found: &mut dyn FnMut(u64)) -> Result<u64> {
        use std::io::Read;
        let mut file = std::fs::File::open(path).map_err(Error::io(path, "open"))?;
        let (mut buffer, mut kept, mut before) = (vec![0u8; 1 << 20], 0, 0u64);
        loop {
            let read = file.read(&mut buffer[kept..]).map_err(Error::io(path, "read"))?;
            if read == 0 {
                return Ok(before + kept as u64);
            }
            let end = kept + read;
            self.scan(&buffer[..end], |at, _| found(before + at as u64));
            // A fragment may begin in this piece and end in the next.
            let keep = end.min(FRAGMENT - 1);
            buffer.copy_within(end - keep..end, 0);
            before += (end - keep) as u64;
            kept = keep;
        }
    }
}

/// Text, id and metadata of a document as they are stored, one after another.
fn record(document: StoredDocument) -> Result<Vec<u8>> {
    let mut bytes = document.text.into_bytes();
    bytes.extend_from_slice(document.id.as_bytes());
    if !document.metadata.is_empty() {
        let json = serde_json::to_vec(&document.metadata);
        bytes.extend(json.map_err(|e| Error::invalid(format!("metadata of document {:?}: {e}", document.id)))?);
    }
    Ok(bytes)
}

/// Calls `tell` with the bytes of every removed (or every other) document: its record (true), its tokens, its vectors (false).
fn each(snapshot: &Snapshot, removed: bool, tell: &mut dyn FnMut(&[u8], bool)) -> Result<()> {
    for (number, shard) in snapshot.shards.iter().enumerate() {
        for i in 0..shard.documents.len() as u32 {
            if snapshot.is_removed(DocumentRef { shard: number as u32, document: i }) != removed {
                continue;
            }
            tell(&record(shard.documents.get(i)?)?, true);
            let range = shard.tokens_of(i);
            // Only the fast layout has the tokens as they are.
            if shard.terms.is_none() && shard.meta.layout == Layout::Fast && !range.is_empty() {
                with_view!(shard.exact, v => {
                    tell(bytemuck::cast_slice(&v.read(range)), false);
                });
            }
            if let Some(semantic) = &shard.semantic {
                // Where none are stored there is nothing to look for.
                if let Ok(flat) = semantic.vectors.flat() {
                    semantic.rows_of(i).for_each(|row| tell(flat.row_bytes(row), false));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(fragments: &[&[u8]]) -> Traces {
        let leaving = (0..FRAGMENT).fold(1u64, |power, _| power.wrapping_mul(FACTOR));
        let (table, filter) = (HashMap::new(), vec![0; 1 << (FILTER - 6)]);
        let mut traces = Traces { table, filter, documents: 0, too_short: 0, fragments: 0, also_kept: 0, leaving };
        fragments.iter().for_each(|f| traces.add(f));
        traces
    }

    #[test]
    fn every_occurrence_is_found_wherever_the_pieces_of_a_file_end() {
        let fragment = b"the removed words, all24";
        assert_eq!(fragment.len(), FRAGMENT);
        let traces = traces(&[fragment, &[0u8; FRAGMENT]]);
        let dir = tempfile::tempdir().unwrap();
        let piece = 1 << 20;
        let places = [0usize, 1, 500, piece - 24, piece + 100, 2 * piece - 40, 2 * piece - 5, 3 * piece - 60];
        let mut bytes = vec![0u8; 3 * piece];
        for (i, b) in bytes.iter_mut().enumerate() {
            *b = crate::format::checksum(&(i as u64 / 3).to_le_bytes()) as u8;
        }
        for at in &places[2..] {
            bytes[*at..at + FRAGMENT].copy_from_slice(fragment);
        }
        std::fs::write(dir.path().join("file"), &bytes).unwrap();
        std::fs::write(dir.path().join("short"), &fragment[1..]).unwrap();
        let found = traces.search(dir.path()).unwrap();
        let offsets: Vec<u64> = found.found.iter().map(|f| f.1).collect();
        let expected: Vec<u64> = (0..bytes.len() - FRAGMENT)
            .filter(|&at| &bytes[at..at + FRAGMENT] == fragment)
            .map(|at| at as u64)
            .collect();
        assert_eq!(offsets, expected);
        assert_eq!(expected.len(), 6);
        assert_eq!((found.files, found.bytes), (2, bytes.len() as u64 + 23));
    }
}
