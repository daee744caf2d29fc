//! Documents of a shard: stored once, compressed, read at random.
//!
//! `documents.bin` holds zstd blocks; their uncompressed contents, end to end, are one logical stream in which each document is
//! `text ‖ id ‖ metadata JSON`. A document of at most [`BLOCK`] bytes lies in one block, so reading it decompresses one block;
//! a longer one starts a block of its own and is cut every [`BLOCK`] bytes, so that a part of its text can be read alone.
//! `documents.idx` holds the subsections
//!
//! | name | elements | content |
//! |---|---|---|
//! | `info` | u64 × 6 | version of this layout, documents, token positions, blocks, logical bytes, bucket shift |
//! | `blocks` | u64 × 2 × (blocks + 1) | start of each block: in the payload of `documents.bin`, in the logical stream |
//! | `records` | 32 bytes × documents | `Record`: start in the logical stream, lengths, path number, record number |
//! | `starts` | u32 or u64 × (documents + 1) | first token position of each document; the last: all positions (u64 if ≥ 2³²) |
//! | `buckets` | u32 × (buckets + 1) | for each 2^shift token positions, the first document that starts in or after them |
//! | `path_ends`, `paths` | u64 × paths, bytes | the distinct source paths, in order of appearance |
//! | `id_hashes`, `id_docs` | u64, u32 × documents | xxh3-64 of the ids, sorted, and whose they are |
//!
//! Costs: writing holds two blocks a thread and 28 bytes a document; [`Documents::document_at`] is two or three memory reads;
//! [`Documents::get`] decompresses one block unless it is among the last few used. Same documents, same bytes, at any number of
//! threads. Readers check every offset when they use it: damage is an error, never a panic.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use crate::corpus::Document;
use crate::error::{Error, Result};
use crate::format::{Array, Kind, Section, SectionWriter, checksum};
use crate::store::Store;

mod blocks;
mod cache;

use blocks::Blocks;
pub use cache::{CacheUse, cache_use};

/// Name of the file of compressed blocks.
pub const DOCUMENTS_BIN: &str = "documents.bin";
/// Name of the directory of documents.
pub const DOCUMENTS_IDX: &str = "documents.idx";
/// Uncompressed bytes of a full block.
pub const BLOCK: usize = 256 << 10;

const LAYOUT: u64 = 1;
/// Compresses a third faster than the default level, to 5 % more bytes.
const LEVEL: i32 = 1;

/// What `documents.idx` keeps of one document.
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Record {
    /// First byte in the logical stream.
    start: u64,
    /// 0-based number of the record in its source file.
    record: u64,
    text: u32,
    id: u32,
    metadata: u32,
    path: u32,
}

/// A document as it was given to the writer.
pub type StoredDocument = Document;

/// Totals of a finished pair of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DocumentsSummary {
    pub documents: u64,
    /// Token positions, as told to [`DocumentsWriter::append`].
    pub tokens: u64,
    /// Bytes of text.
    pub text_bytes: u64,
    /// Bytes of both files.
    pub bytes: u64,
}

/// Writes `documents.bin` and `documents.idx`. Documents are numbered from 0 in the order they are appended.
pub struct DocumentsWriter {
    bin: SectionWriter,
    idx: SectionWriter,
    /// Uncompressed blocks that wait for enough company to keep all threads busy.
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
    batch: usize,
    logical: u64,
    blocks: Vec<[u64; 2]>,
    starts: Vec<u64>,
    ids: Vec<(u64, u32)>,
    paths: HashMap<String, u32>,
    path_list: Vec<String>,
    text_bytes: u64,
}

impl DocumentsWriter {
    /// Starts both files in `dir`.
    pub fn create(store: &dyn Store, dir: &Path) -> Result<DocumentsWriter> {
        let bin = store.section(&dir.join(DOCUMENTS_BIN), Kind::DOCUMENTS, 0)?;
        let mut idx = store.section(&dir.join(DOCUMENTS_IDX), Kind::DOCUMENT_INDEX, 0)?;
        idx.start_sub("records")?;
        Ok(DocumentsWriter {
            bin,
            idx,
            full: Vec::new(),
            open: Vec::with_capacity(BLOCK),
            batch: 2 * rayon::current_num_threads(),
            logical: 0,
            blocks: vec![[0, 0]],
            starts: vec![0],
            ids: Vec::new(),
            paths: HashMap::new(),
            path_list: Vec::new(),
            text_bytes: 0,
        })
    }

    /// Documents so far.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none yet.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Token positions so far: where the next document starts.
    pub fn tokens(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Appends a document that occupies `positions` positions of the token stream (its tokens, and its separator where the
    /// stream has one). Returns its number.
    pub fn append(&mut self, document: &Document, positions: u64) -> Result<u32> {
        let Document { id, text, path, record, metadata, tokens: _ } = document;
        let too_long = |field: &str| {
            Error::invalid_hint(
                format!("{path}: record {record}: its {field} has 4 GiB or more"),
                "split the document before indexing it",
            )
        };
        let number = u32::try_from(self.ids.len()).ok().filter(|&n| n < u32::MAX);
        let (Some(number), Some(end)) = (number, self.tokens().checked_add(positions)) else {
            return Err(Error::invalid_hint("a shard cannot hold more documents", "build more, smaller shards"));
        };
        let metadata = match metadata.is_empty() {
            true => Vec::new(),
            false => {
                serde_json::to_vec(metadata).map_err(|e| Error::invalid(format!("{path}: record {record}: {e}")))?
            }
        };
        let entry = Record {
            start: self.logical,
            record: *record,
            text: u32::try_from(text.len()).map_err(|_| too_long("text"))?,
            id: u32::try_from(id.len()).map_err(|_| too_long("id"))?,
            metadata: u32::try_from(metadata.len()).map_err(|_| too_long("metadata"))?,
            path: self.path_number(path),
        };
        let bytes = text.len() + id.len() + metadata.len();
        if !self.open.is_empty() && self.open.len() + bytes > BLOCK {
            self.close_block()?;
        }
        for mut part in [text.as_bytes(), id.as_bytes(), &metadata] {
            while !part.is_empty() {
                let (head, rest) = part.split_at(part.len().min(BLOCK - self.open.len()));
                self.open.extend_from_slice(head);
                part = rest;
                if self.open.len() == BLOCK {
                    self.close_block()?;
                }
            }
        }
        // The rest of a long document is not shared with the next one: that would straddle.
        if bytes > BLOCK && !self.open.is_empty() {
            self.close_block()?;
        }
        self.logical += bytes as u64;
        self.text_bytes += text.len() as u64;
        self.idx.put(&[entry])?;
        self.starts.push(end);
        self.ids.push((checksum(id.as_bytes()), number));
        Ok(number)
    }

    fn path_number(&mut self, path: &str) -> u32 {
        if let Some(&number) = self.paths.get(path) {
            return number;
        }
        // There are at most as many paths as documents, whose number fits.
        let number = self.path_list.len() as u32;
        self.paths.insert(path.to_string(), number);
        self.path_list.push(path.to_string());
        number
    }

    fn close_block(&mut self) -> Result<()> {
        self.full.push(std::mem::replace(&mut self.open, Vec::with_capacity(BLOCK)));
        if self.full.len() >= self.batch { self.compress() } else { Ok(()) }
    }

    /// Compresses the waiting blocks on all threads and writes them in order.
    fn compress(&mut self) -> Result<()> {
        let path = self.bin.path().to_path_buf();
        let compressed: Vec<std::io::Result<Vec<u8>>> = self
            .full
            .par_iter()
            .map_init(
                || zstd::bulk::Compressor::new(LEVEL),
                |zstd, block| match zstd {
                    Ok(zstd) => zstd.compress(block),
                    Err(e) => Err(std::io::Error::new(e.kind(), e.to_string())),
                },
            )
            .collect();
        for (block, compressed) in std::mem::take(&mut self.full).iter().zip(compressed) {
            let compressed = compressed.map_err(Error::io(&path, "compress"))?;
            let start = self.blocks.last().map_or(0, |b| b[1]);
            self.bin.put(&compressed)?;
            self.blocks.push([self.bin.position(), start + block.len() as u64]);
        }
        Ok(())
    }

    /// Completes both files and syncs them.
    pub fn finish(mut self) -> Result<DocumentsSummary> {
        if !self.open.is_empty() {
            self.close_block()?;
        }
        self.compress()?;
        let bin = self.bin.finish()?;
        let (documents, tokens) = (self.ids.len() as u64, self.starts.last().copied().unwrap_or(0));
        let idx = &mut self.idx;
        if tokens > u64::from(u32::MAX) {
            idx.start_sub("starts")?;
            idx.put(&self.starts)?;
        } else {
            idx.start_sub("starts")?;
            for part in self.starts.chunks(1 << 16) {
                let narrow: Vec<u32> = part.iter().map(|&s| s as u32).collect();
                idx.put(&narrow)?;
            }
        }
        let shift = bucket_shift(documents, tokens);
        idx.start_sub("buckets")?;
        let mut document = 0;
        for bucket in 0..=(tokens >> shift) + 1 {
            while document < self.starts.len() - 1 && self.starts[document] < bucket << shift {
                document += 1;
            }
            idx.put(&[document as u32])?;
        }
        idx.start_sub("blocks")?;
        idx.put(&self.blocks)?;
        idx.start_sub("path_ends")?;
        let mut end = 0u64;
        for path in &self.path_list {
            end += path.len() as u64;
            idx.put(&[end])?;
        }
        idx.start_sub("paths")?;
        for path in &self.path_list {
            idx.put(path.as_bytes())?;
        }
        self.ids.par_sort_unstable();
        idx.start_sub("id_hashes")?;
        for part in self.ids.chunks(1 << 16) {
            idx.put(&part.iter().map(|p| p.0).collect::<Vec<u64>>())?;
        }
        idx.start_sub("id_docs")?;
        for part in self.ids.chunks(1 << 16) {
            idx.put(&part.iter().map(|p| p.1).collect::<Vec<u32>>())?;
        }
        idx.start_sub("info")?;
        idx.put(&[LAYOUT, documents, tokens, self.blocks.len() as u64 - 1, self.logical, u64::from(shift)])?;
        let idx = self.idx.finish()?;
        Ok(DocumentsSummary { documents, tokens, text_bytes: self.text_bytes, bytes: bin.bytes + idx.bytes })
    }
}

/// Such that there is about one bucket a document: then a bucket holds one document start on average.
fn bucket_shift(documents: u64, tokens: u64) -> u32 {
    (tokens / documents.max(1)).max(1).ilog2()
}

/// Token starts in the width they were stored.
#[derive(Debug)]
enum Starts {
    Narrow(Array<u32>),
    Wide(Array<u64>),
}

impl Starts {
    fn get(&self, i: usize) -> Option<u64> {
        match self {
            Starts::Narrow(a) => a.get(i).map(|&s| u64::from(s)),
            Starts::Wide(a) => a.get(i).copied(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Starts::Narrow(a) => a.len(),
            Starts::Wide(a) => a.len(),
        }
    }
}

/// The documents of a shard, open for reading. Shared between threads by reference.
#[derive(Debug)]
pub struct Documents {
    blocks: Blocks,
    idx: Section,
    tokens: u64,
    shift: u32,
    records: Array<Record>,
    starts: Starts,
    buckets: Array<u32>,
    path_ends: Array<u64>,
    paths: Array<u8>,
    id_hashes: Array<u64>,
    id_docs: Array<u32>,
}

impl Documents {
    /// Opens both files in `dir` and checks that their parts fit together. O(1) in the number of documents.
    pub fn open(dir: &Path) -> Result<Documents> {
        let bin = Section::open(dir.join(DOCUMENTS_BIN), Kind::DOCUMENTS)?;
        let idx = Section::open(dir.join(DOCUMENTS_IDX), Kind::DOCUMENT_INDEX)?;
        let info_sub = idx.sub("info")?;
        let bad = |what: String| Error::corrupt(idx.path(), info_sub.file_offset(), what);
        let &[layout, documents, tokens, blocks, logical, shift] = info_sub.as_u64s()? else {
            return Err(bad("`info` does not hold 6 numbers".into()));
        };
        if layout != LAYOUT {
            return Err(bad(format!("layout {layout} of the documents is unknown")));
        }
        let starts = match tokens > u64::from(u32::MAX) {
            true => Starts::Wide(idx.sub("starts")?.array()?),
            false => Starts::Narrow(idx.sub("starts")?.array()?),
        };
        let shift =
            u32::try_from(shift).ok().filter(|&s| s < 64).ok_or_else(|| bad("impossible bucket shift".into()))?;
        let open = Documents {
            tokens,
            shift,
            blocks: Blocks::new(bin, &idx)?,
            records: idx.sub("records")?.array()?,
            starts,
            buckets: idx.sub("buckets")?.array()?,
            path_ends: idx.sub("path_ends")?.array()?,
            paths: idx.sub("paths")?.array()?,
            id_hashes: idx.sub("id_hashes")?.array()?,
            id_docs: idx.sub("id_docs")?.array()?,
            idx: idx.clone(),
        };
        let lengths = [
            ("records", open.records.len() as u64, documents),
            ("starts", open.starts.len() as u64, documents.saturating_add(1)),
            ("buckets", open.buckets.len() as u64, (tokens >> shift).saturating_add(2)),
            ("blocks", open.blocks.bounds().len() as u64, blocks.saturating_add(1)),
            ("id_hashes", open.id_hashes.len() as u64, documents),
            ("id_docs", open.id_docs.len() as u64, documents),
        ];
        for (name, found, expected) in lengths {
            if found != expected {
                return Err(bad(format!("`{name}` holds {found} elements, not {expected}")));
            }
        }
        if documents > u64::from(u32::MAX) {
            return Err(bad(format!("{documents} documents are more than a shard can hold")));
        }
        if !open.blocks.cover(logical) {
            return Err(bad("the blocks do not cover documents.bin".into()));
        }
        if open.starts.get(0) != Some(0) || open.starts.get(documents as usize) != Some(tokens) {
            return Err(bad("the token starts do not cover the token stream".into()));
        }
        Ok(open)
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Positions of the token stream that the documents cover.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// First token position of document `i`; for `i == len()` the number of positions; `None` beyond.
    #[inline]
    pub fn token_start(&self, i: u32) -> Option<u64> {
        self.starts.get(i as usize)
    }

    /// Token positions of document `i`.
    pub fn token_range(&self, i: u32) -> Option<Range<u64>> {
        let range = self.starts.get(i as usize)?..self.starts.get(i as usize + 1)?;
        (range.start <= range.end).then_some(range)
    }

    /// The document that owns token position `position`, or `None` at or beyond [`Documents::tokens`].
    #[inline]
    pub fn document_at(&self, position: u64) -> Option<u32> {
        if position >= self.tokens {
            return None;
        }
        let bucket = (position >> self.shift) as usize;
        let (first, last) = (*self.buckets.get(bucket)? as usize, *self.buckets.get(bucket + 1)? as usize);
        // Documents `first..last` start in this bucket; the owner is the last of them at or before `position`, else the
        // one before `first`.
        let started = match &self.starts {
            Starts::Narrow(a) => a.get(first..last)?.partition_point(|&s| u64::from(s) <= position),
            Starts::Wide(a) => a.get(first..last)?.partition_point(|&s| s <= position),
        };
        (first + started).checked_sub(1).map(|i| i as u32)
    }

    /// All of document `i`.
    pub fn get(&self, i: u32) -> Result<StoredDocument> {
        let record = *self.record(i)?;
        let (text, id, metadata) = (u64::from(record.text), u64::from(record.id), u64::from(record.metadata));
        let mut bytes = Vec::new();
        self.read(i, record.start, text + id + metadata, &mut bytes)?;
        let metadata = self.metadata(i, &bytes[(text + id) as usize..])?;
        bytes.truncate((text + id) as usize);
        let id = self.utf8(i, bytes.split_off(text as usize))?;
        let text = self.utf8(i, bytes)?;
        let path = self.path_name(i, record.path)?.to_string();
        Ok(Document { id, text, path, record: record.record, metadata, tokens: None })
    }

    /// All of document `i` but its text, of which not a block is read.
    pub fn get_without_text(&self, i: u32) -> Result<StoredDocument> {
        let record = *self.record(i)?;
        let (id, metadata) = (u64::from(record.id), u64::from(record.metadata));
        let mut bytes = Vec::new();
        self.read(i, record.start.saturating_add(u64::from(record.text)), id + metadata, &mut bytes)?;
        let metadata = self.metadata(i, &bytes[id as usize..])?;
        bytes.truncate(id as usize);
        let id = self.utf8(i, bytes)?;
        let path = self.path_name(i, record.path)?.to_string();
        Ok(Document { id, text: String::new(), path, record: record.record, metadata, tokens: None })
    }

    fn metadata(&self, i: u32, bytes: &[u8]) -> Result<serde_json::Map<String, serde_json::Value>> {
        if bytes.is_empty() {
            return Ok(Default::default());
        }
        serde_json::from_slice(bytes).map_err(|e| self.bad_record(i, format!("its metadata is no JSON object: {e}")))
    }

    /// The text of document `i`.
    pub fn text(&self, i: u32) -> Result<String> {
        let record = self.record(i)?;
        let mut bytes = Vec::new();
        self.read(i, record.start, u64::from(record.text), &mut bytes)?;
        self.utf8(i, bytes)
    }

    /// Bytes of text of document `i`.
    pub fn text_len(&self, i: u32) -> Result<usize> {
        Ok(self.record(i)?.text as usize)
    }

    /// Bytes `range` of the text of document `i`, widened to whole characters; decompresses only the blocks it needs. Returns
    /// the text and the range it covers.
    pub fn text_range(&self, i: u32, range: Range<usize>) -> Result<(String, Range<usize>)> {
        let record = self.record(i)?;
        let length = record.text as usize;
        if range.start > range.end || range.end > length {
            return Err(Error::invalid(format!("bytes {range:?} of a text of {length} bytes")));
        }
        // A character has at most 4 bytes: three more on each side hold every character that touches the range.
        let wide = range.start.saturating_sub(3)..(range.end + 3).min(length);
        let mut bytes = Vec::new();
        self.read(i, record.start + wide.start as u64, wide.len() as u64, &mut bytes)?;
        let continues = |at: usize| bytes.get(at).is_some_and(|b| b & 0xC0 == 0x80);
        let (mut start, mut end) = (range.start - wide.start, range.end - wide.start);
        while start > 0 && continues(start) {
            start -= 1;
        }
        while continues(end) {
            end += 1;
        }
        let text = self.utf8(i, bytes[start..end].to_vec())?;
        Ok((text, wide.start + start..wide.start + end))
    }

    /// The id of document `i`.
    pub fn id(&self, i: u32) -> Result<String> {
        let record = self.record(i)?;
        let mut bytes = Vec::new();
        self.read(i, record.start.saturating_add(u64::from(record.text)), u64::from(record.id), &mut bytes)?;
        self.utf8(i, bytes)
    }

    /// Source path of document `i`.
    pub fn path(&self, i: u32) -> Result<&str> {
        self.path_name(i, self.record(i)?.path)
    }

    /// Record number of document `i` in its source file.
    pub fn record_number(&self, i: u32) -> Result<u64> {
        Ok(self.record(i)?.record)
    }

    /// Number of `i`'s path in [`Documents::path_list`].
    pub fn path_number(&self, i: u32) -> Result<u32> {
        Ok(self.record(i)?.path)
    }

    /// The distinct source paths, in order of appearance.
    pub fn path_list(&self) -> Result<Vec<&str>> {
        (0..self.path_ends.len() as u32).map(|p| self.path_name(0, p)).collect()
    }

    /// The documents with this id, in order. Hashes are compared first, then the ids themselves.
    pub fn find_id(&self, id: &str) -> Result<Vec<u32>> {
        let hash = checksum(id.as_bytes());
        let first = self.id_hashes.partition_point(|&h| h < hash);
        let mut found = Vec::new();
        for (&h, &i) in self.id_hashes.iter().zip(self.id_docs.iter()).skip(first) {
            if h != hash {
                break;
            }
            if self.id(i)? == id {
                found.push(i);
            }
        }
        Ok(found)
    }

    /// Reads every block and every document and checks that all parts agree: what [`Section::verify`] cannot see.
    pub fn verify(&self) -> Result<()> {
        self.blocks.verify()?;
        self.idx.verify()?;
        let mut hashes: Vec<(u64, u32)> = Vec::with_capacity(self.len());
        let mut end = 0;
        for i in 0..self.len() as u32 {
            let record = *self.record(i)?;
            if record.start != end {
                return Err(self.bad_record(i, format!("starts at {} of the stream, not {end}", record.start)));
            }
            end += u64::from(record.text) + u64::from(record.id) + u64::from(record.metadata);
            hashes.push((checksum(self.get(i)?.id.as_bytes()), i));
            match self.token_range(i) {
                None => return Err(self.bad_record(i, "its token range is negative".into())),
                Some(r) if !r.is_empty() => {
                    if self.document_at(r.start) != Some(i) || self.document_at(r.end - 1) != Some(i) {
                        return Err(self.bad_record(i, "the buckets do not lead to its tokens".into()));
                    }
                }
                Some(_) => {}
            }
        }
        hashes.sort_unstable();
        if !hashes.iter().copied().eq(self.id_hashes.iter().copied().zip(self.id_docs.iter().copied())) {
            return Err(Error::corrupt(self.idx.path(), self.id_hashes.file_offset(), "the id table is wrong"));
        }
        Ok(())
    }

    #[inline]
    fn record(&self, i: u32) -> Result<&Record> {
        self.records.get(i as usize).ok_or_else(|| {
            Error::invalid(format!("{}: no document {i}; there are {}", self.idx.path().display(), self.len()))
        })
    }

    fn bad_record(&self, i: u32, what: String) -> Error {
        let at = self.records.file_offset() + u64::from(i) * size_of::<Record>() as u64;
        Error::corrupt(self.idx.path(), at, format!("document {i}: {what}"))
    }

    /// Appends `length` bytes from `start` of the logical stream to `out`.
    fn read(&self, i: u32, start: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        match self.blocks.read(start, length, out)? {
            true => Ok(()),
            false => Err(self.bad_record(i, "reaches outside the blocks".into())),
        }
    }

    fn utf8(&self, i: u32, bytes: Vec<u8>) -> Result<String> {
        String::from_utf8(bytes).map_err(|e| self.bad_record(i, format!("{e}")))
    }

    fn path_name(&self, i: u32, path: u32) -> Result<&str> {
        let start = match path.checked_sub(1) {
            Some(before) => self.path_ends.get(before as usize).copied(),
            None => Some(0),
        };
        let name = (|| {
            let range = start? as usize..*self.path_ends.get(path as usize)? as usize;
            std::str::from_utf8(self.paths.get(range)?).ok()
        })();
        name.ok_or_else(|| self.bad_record(i, format!("path {path} is not in the path table")))
    }
}

#[cfg(test)]
mod tests;
