//! The compressed blocks of `documents.bin`, read as one logical stream.
//!
//! A read decompresses the blocks it touches, unless they are among those used last. Every bound is checked when it is used.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

use super::BLOCK;
use super::cache::{Block, CACHE};
use crate::error::{Error, Result};
use crate::format::{Access, Array, Section};

/// The blocks of a shard's documents, open for reading. Shared between threads by reference.
#[derive(Debug)]
pub(super) struct Blocks {
    bin: Section,
    /// Start of each block in the payload of `bin` and in the logical stream; then both ends.
    bounds: Array<[u64; 2]>,
    /// The file `bounds` is in.
    idx: PathBuf,
    /// What the cache knows them by.
    shard: u64,
}

thread_local! {
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

impl Blocks {
    /// The blocks in `bin`, whose bounds `idx` has.
    pub fn new(bin: Section, idx: &Section) -> Result<Blocks> {
        bin.advise(Access::Random)?;
        let bounds = idx.sub("blocks")?.array()?;
        Ok(Blocks { bin, bounds, idx: idx.path().to_path_buf(), shard: CACHE.new_shard() })
    }

    /// Where each block starts in the payload and in the logical stream; then both ends.
    pub fn bounds(&self) -> &[[u64; 2]] {
        &self.bounds
    }

    /// Whether the blocks make up the whole file and a logical stream of `logical` bytes.
    pub fn cover(&self, logical: u64) -> bool {
        let end = [self.bin.bytes().len() as u64, logical];
        self.bounds.first() == Some(&[0, 0]) && self.bounds.last() == Some(&end)
    }

    /// Compares every byte of the file with its checksums.
    pub fn verify(&self) -> Result<()> {
        self.bin.verify()
    }

    /// Appends `length` bytes from `start` of the logical stream to `out`; false where it has no such bytes.
    pub fn read(&self, start: u64, length: u64, out: &mut Vec<u8>) -> Result<bool> {
        let Some(end) = start.checked_add(length) else { return Ok(false) };
        if self.bounds.last().is_none_or(|last| end > last[1]) {
            return Ok(false);
        }
        let mut at = start;
        // The first block that ends after `at`; entry 0 is the start of block 0.
        let mut number = self.bounds.partition_point(|b| b[1] <= at).saturating_sub(1);
        while at < end {
            let block = self.block(number)?;
            let first = self.bounds[number][1];
            let Some(from) = at.checked_sub(first) else { return Ok(false) };
            let to = (end - first).min(block.len() as u64);
            let part = block.get(from as usize..to as usize).filter(|part| !part.is_empty());
            let Some(part) = part else { return Ok(false) };
            out.extend_from_slice(part);
            at += to - from;
            number += 1;
        }
        Ok(true)
    }

    /// Block `number`, decompressed.
    fn block(&self, number: usize) -> Result<Block> {
        if let Some(block) = CACHE.get(self.shard, number) {
            return Ok(block);
        }
        let bad = |what: String| {
            let at = self.bounds.file_offset() + number as u64 * size_of::<[u64; 2]>() as u64;
            Error::corrupt(&self.idx, at, format!("block {number}: {what}"))
        };
        let (Some(&[from, start]), Some(&[to, end])) = (self.bounds.get(number), self.bounds.get(number + 1)) else {
            return Err(bad("no such block".into()));
        };
        let length = end.checked_sub(start).filter(|&n| n <= BLOCK as u64);
        let compressed = self.bin.bytes().get(from as usize..to as usize);
        let (Some(length), Some(compressed)) = (length, compressed) else {
            return Err(bad("impossible range".into()));
        };
        let block = DECOMPRESSOR.with_borrow_mut(|slot| {
            let zstd = match slot {
                Some(zstd) => zstd,
                None => slot.insert(zstd::bulk::Decompressor::new()?),
            };
            zstd.decompress(compressed, length as usize)
        });
        let block = block.map_err(|e| Error::corrupt(self.bin.path(), 64 + from, format!("block {number}: {e}")))?;
        if block.len() as u64 != length {
            return Err(bad(format!("holds {} bytes, not {length}", block.len())));
        }
        let block = Arc::new(block);
        CACHE.put(self.shard, number, block.clone());
        Ok(block)
    }
}
