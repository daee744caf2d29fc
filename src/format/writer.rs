//! Writing a section file as a stream.
//!
//! The payload goes out in blocks of 1 MiB, each checksummed as it passes; [`SectionWriter::finish`] adds directory and
//! checksum table, syncs, and only then puts the header in its place at byte 0 and syncs again: a file with a valid header is
//! complete. Memory: one block and 8 bytes a MiB written.

use std::io::Write;
use std::path::Path;

use super::checksum;
use super::header::{ALIGNMENT, BLOCK_BYTES, HEADER_BYTES, Header, Kind, check_host};
use crate::error::{Error, Result};

/// A file being written: appended to, patched once, synced. Stores make them.
pub trait OutputFile: Write + Send {
    /// Path, for error messages.
    fn path(&self) -> &Path;
    /// Overwrites bytes that were already written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()>;
    /// Returns when everything written is on stable storage.
    fn sync(&mut self) -> std::io::Result<()>;
}

/// What [`SectionWriter::finish`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionSummary {
    /// Bytes of payload, directory included.
    pub payload: u64,
    /// Bytes of the whole file.
    pub bytes: u64,
    /// [`Header::digest`].
    pub digest: u64,
}

struct Entry {
    name: [u8; NAME_BYTES],
    offset: u64,
    length: u64,
}

/// Longest name of a subsection.
pub(super) const NAME_BYTES: usize = 16;

/// Streams the payload of one section file.
///
/// ```
/// use priorart::format::{Kind, Section};
/// use priorart::store::{DiskStore, Store};
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("demo.bin");
/// let mut writer = DiskStore.section(&path, Kind::new("demo"), 4)?;
/// writer.start_sub("keys")?;
/// writer.put(&[1u32, 2, 3])?;
/// writer.finish()?;
/// let section = Section::open(&path, Kind::new("demo"))?;
/// assert_eq!(&*section.sub("keys")?.array::<u32>()?, &[1, 2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SectionWriter {
    file: Box<dyn OutputFile>,
    kind: Kind,
    width: u8,
    block: Vec<u8>,
    sums: Vec<u64>,
    written: u64,
    entries: Vec<Entry>,
}

impl SectionWriter {
    /// Starts a section in an empty file. `width`: bytes an element (1, 2, 4, 8), 0 for mixed content.
    pub fn new(mut file: Box<dyn OutputFile>, kind: Kind, width: u8) -> Result<SectionWriter> {
        check_host()?;
        if !matches!(width, 0 | 1 | 2 | 4 | 8) {
            return Err(Error::invalid(format!("element width {width} is not 0, 1, 2, 4 or 8")));
        }
        file.write_all(&[0; HEADER_BYTES]).map_err(Error::io(file.path(), "write"))?;
        let block = Vec::with_capacity(BLOCK_BYTES);
        Ok(SectionWriter { file, kind, width, block, sums: Vec::new(), written: 0, entries: Vec::new() })
    }

    /// Payload bytes so far.
    pub fn position(&self) -> u64 {
        self.written + self.block.len() as u64
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Appends the little-endian bytes of `items`.
    pub fn put<T: bytemuck::NoUninit>(&mut self, items: &[T]) -> Result<()> {
        self.append(bytemuck::cast_slice(items)).map_err(Error::io(self.file.path(), "write"))
    }

    /// Ends the current subsection, if any, and starts the next, at a multiple of 64 bytes. Names are ASCII, at most 16
    /// bytes, and not repeated.
    pub fn start_sub(&mut self, name: &str) -> Result<()> {
        let mut padded = [0; NAME_BYTES];
        if name.is_empty() || name.len() > NAME_BYTES || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::invalid(format!("subsection name {name:?} is not 1 to {NAME_BYTES} ASCII characters")));
        }
        padded[..name.len()].copy_from_slice(name.as_bytes());
        if self.entries.iter().any(|e| e.name == padded) {
            return Err(Error::invalid(format!("subsection {name:?} is already in {}", self.path().display())));
        }
        self.end_sub();
        self.pad()?;
        self.entries.push(Entry { name: padded, offset: self.position(), length: 0 });
        Ok(())
    }

    fn end_sub(&mut self) {
        let end = self.position();
        if let Some(last) = self.entries.last_mut() {
            last.length = end - last.offset;
        }
    }

    fn pad(&mut self) -> Result<()> {
        let over = (self.position() % ALIGNMENT as u64) as usize;
        if over > 0 { self.put(&[0u8; ALIGNMENT][over..]) } else { Ok(()) }
    }

    fn append(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            if self.block.is_empty() && bytes.len() >= BLOCK_BYTES {
                let (block, rest) = bytes.split_at(BLOCK_BYTES);
                self.file.write_all(block)?;
                self.sums.push(checksum(block));
                self.written += BLOCK_BYTES as u64;
                bytes = rest;
                continue;
            }
            let (head, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(head);
            bytes = rest;
            if self.block.len() == BLOCK_BYTES {
                self.flush_block()?;
            }
        }
        Ok(())
    }

    fn flush_block(&mut self) -> std::io::Result<()> {
        if !self.block.is_empty() {
            self.file.write_all(&self.block)?;
            self.sums.push(checksum(&self.block));
            self.written += self.block.len() as u64;
            self.block.clear();
        }
        Ok(())
    }

    /// Completes the file and syncs it.
    pub fn finish(mut self) -> Result<SectionSummary> {
        self.end_sub();
        let mut directory = None;
        if !self.entries.is_empty() {
            self.pad()?;
            directory = Some(self.position());
            let mut bytes = Vec::with_capacity(self.entries.len() * 32 + 8);
            for entry in &self.entries {
                bytes.extend_from_slice(&entry.name);
                bytes.extend_from_slice(&entry.offset.to_le_bytes());
                bytes.extend_from_slice(&entry.length.to_le_bytes());
            }
            bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
            self.put(&bytes)?;
        }
        let payload = self.position();
        let mut tail = vec![0; (payload.next_multiple_of(8) - payload) as usize];
        let table = (|| {
            self.flush_block()?;
            let table: Vec<u8> = self.sums.iter().flat_map(|s| s.to_le_bytes()).collect();
            tail.extend_from_slice(&table);
            self.file.write_all(&tail)?;
            self.file.sync()?;
            Ok(checksum(&table))
        })()
        .map_err(Error::io(self.file.path(), "write"))?;
        let header = Header::new(self.kind, self.width, payload, table, directory);
        self.file
            .write_at(0, &header.encode())
            .and_then(|()| self.file.sync())
            .map_err(Error::io(self.file.path(), "write"))?;
        let bytes = HEADER_BYTES as u64 + payload + tail.len() as u64;
        Ok(SectionSummary { payload, bytes, digest: header.digest() })
    }
}

impl Write for SectionWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.append(bytes)?;
        Ok(bytes.len())
    }

    // A block goes out when it is full: a shorter one would change the block's checksum.
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
