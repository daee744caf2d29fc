//! Vector index files: a 64-byte header, then a payload that is mapped into memory.
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | magic `PRIORANN` |
//! | 8..12 | kind: 1 flat, 2 hnsw, 3 ivf |
//! | 12..16 | format version of the kind |
//! | 16..20 | dimension |
//! | 20..24 | element type: 1 f32, 2 f16, 3 int8; 0 where the payload says |
//! | 24..32 | rows |
//! | 32..40 | payload length in bytes |
//! | 40..64 | six 4-byte fields of the kind |
//!
//! Everything is little-endian; sections start at multiples of 64. The payload must be exactly as long as the header
//! says, and every section is checked against it when the file is opened, so that a truncated or foreign file is an
//! error. Values inside sections are checked by their readers when they are used. Opening costs one page.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"PRIORANN";
/// Length of the header; the payload starts here.
pub const HEADER: usize = 64;

/// What the first 64 bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub kind: u32,
    pub version: u32,
    pub dim: u32,
    pub element: u32,
    pub rows: u64,
    pub payload: u64,
    pub extra: [u32; 6],
}

impl Header {
    fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0u8; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        for (i, field) in [self.kind, self.version, self.dim, self.element].into_iter().enumerate() {
            bytes[8 + 4 * i..12 + 4 * i].copy_from_slice(&field.to_le_bytes());
        }
        bytes[24..32].copy_from_slice(&self.rows.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.payload.to_le_bytes());
        for (i, field) in self.extra.into_iter().enumerate() {
            bytes[40 + 4 * i..44 + 4 * i].copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; HEADER]) -> Header {
        let word = |at: usize| {
            let mut field = [0u8; 4];
            field.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(field)
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        Header {
            kind: word(8),
            version: word(12),
            dim: word(16),
            element: word(20),
            rows: long(24),
            payload: long(32),
            extra: [40, 44, 48, 52, 56, 60].map(word),
        }
    }
}

/// The next multiple of 64.
pub fn aligned(length: u64) -> u64 {
    length.div_ceil(64) * 64
}

/// The kind a file's header tells.
pub fn kind_of(path: &Path) -> Result<u32> {
    use std::io::Read;
    let mut head = [0u8; 12];
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    file.read_exact(&mut head).map_err(|_| Error::corrupt(path, 0, "too short for a vector index"))?;
    if &head[..8] != MAGIC {
        return Err(Error::corrupt(path, 0, "not a vector index: wrong magic"));
    }
    Ok(u32::from_le_bytes([head[8], head[9], head[10], head[11]]))
}

/// An index file mapped read-only.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    map: memmap2::Mmap,
    header: Header,
}

/// Rows and dimension that the header of a vector index of any kind tells.
pub fn shape_of(path: &Path) -> Result<(usize, usize)> {
    let kind = kind_of(path)?;
    let header = *MappedFile::open(path, kind, u32::MAX)?.header();
    Ok((header.rows as usize, header.dim as usize))
}

impl MappedFile {
    /// Maps `path` and checks its header: magic, kind, version at most `version`, a dimension, and the length.
    pub fn open(path: &Path, kind: u32, version: u32) -> Result<MappedFile> {
        let file = File::open(path).map_err(Error::io(path, "open"))?;
        let length = file.metadata().map_err(Error::io(path, "open"))?.len();
        if length < HEADER as u64 {
            return Err(Error::corrupt(path, 0, format!("{length} bytes are too few for a vector index")));
        }
        // SAFETY: index files are immutable once published (written elsewhere, then renamed), so the mapped bytes do
        // not change while borrowed; only plain-old-data is ever read from them.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io(path, "map"))?;
        let mut first = [0u8; HEADER];
        first.copy_from_slice(&map[..HEADER]);
        if &first[..8] != MAGIC {
            return Err(Error::corrupt(path, 0, "not a vector index: wrong magic"));
        }
        let header = Header::from_bytes(&first);
        if header.kind != kind {
            return Err(Error::corrupt(path, 8, format!("vector index of kind {}, expected {kind}", header.kind)));
        }
        if header.version > version {
            let (found, supported) = (header.version.to_string(), version.to_string());
            return Err(Error::NewerFormat { path: path.to_path_buf(), found, supported });
        }
        if header.dim == 0 || header.dim > super::MAX_DIM as u32 {
            return Err(Error::corrupt(
                path,
                16,
                format!("dimension {} is outside 1 to {}", header.dim, super::MAX_DIM),
            ));
        }
        if header.rows >= u64::from(u32::MAX) {
            return Err(Error::corrupt(path, 24, format!("{} rows are more than a shard can have", header.rows)));
        }
        if header.payload != length - HEADER as u64 {
            let what = format!("payload of {} bytes, but the file has {}", header.payload, length - HEADER as u64);
            return Err(Error::corrupt(path, 32, what));
        }
        Ok(MappedFile { path: path.to_path_buf(), map, header })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Length of the file in bytes.
    pub fn bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// `count` values at payload offset `offset`; an error when they do not lie inside the payload.
    pub fn section<T: bytemuck::Pod>(&self, offset: u64, count: u64) -> Result<&[T]> {
        let whole = || {
            let start = usize::try_from(offset.checked_add(HEADER as u64)?).ok()?;
            let length = usize::try_from(count.checked_mul(size_of::<T>() as u64)?).ok()?;
            bytemuck::try_cast_slice(self.map.get(start..start.checked_add(length)?)?).ok()
        };
        whole().ok_or_else(|| {
            Error::corrupt(&self.path, offset, format!("a section of {count} values does not fit into the payload"))
        })
    }

    /// Tells the kernel that pages will be read in no order, so that it does not read ahead.
    pub fn advise_random(&self) {
        #[cfg(unix)]
        let _ = self.map.advise(memmap2::Advice::Random);
    }
}

/// Writes an index file: the payload first, its header at the end, so that an unfinished file is never a valid one.
#[derive(Debug)]
pub struct FileWriter {
    path: PathBuf,
    out: BufWriter<File>,
    written: u64,
}

impl FileWriter {
    pub fn create(path: &Path) -> Result<FileWriter> {
        let file = File::create(path).map_err(Error::io(path, "create"))?;
        let mut writer =
            FileWriter { path: path.to_path_buf(), out: BufWriter::with_capacity(1 << 20, file), written: 0 };
        writer.out.write_all(&[0u8; HEADER]).map_err(Error::io(path, "write"))?;
        Ok(writer)
    }

    pub fn write<T: bytemuck::Pod>(&mut self, values: &[T]) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        self.out.write_all(bytes).map_err(Error::io(&self.path, "write"))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Pads with zeros to a multiple of 64 bytes.
    pub fn align(&mut self) -> Result<()> {
        let padding = (aligned(self.written) - self.written) as usize;
        self.write(&[0u8; 64][..padding])
    }

    /// Writes the header (`payload` is filled in here) and makes the file durable.
    pub fn finish(mut self, header: Header) -> Result<()> {
        let header = Header { payload: self.written, ..header };
        let path = &self.path;
        self.out.flush().map_err(Error::io(path, "write"))?;
        let file = self.out.get_mut();
        file.seek(SeekFrom::Start(0)).map_err(Error::io(path, "write"))?;
        file.write_all(&header.to_bytes()).map_err(Error::io(path, "write"))?;
        file.sync_all().map_err(Error::io(path, "sync"))
    }
}
