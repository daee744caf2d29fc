//! The bytes of a corpus file, decompressed: plain, gzip (any number of members) or zstd (any number of frames, windows up
//! to 128 MiB, the limit of `zstd --long=27`).
//!
//! Plain files are looked at before they are believed: one that starts with a gzip or zstd magic number is decompressed
//! whatever its name says.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{FileKind, SourceFile};
use crate::error::{Error, Result};

/// Largest zstd window (log2 of bytes) that is accepted.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// How the bytes of a file are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

impl Compression {
    /// What the file's kind says or, for kinds that say nothing, its first bytes.
    pub(super) fn of(file: &SourceFile) -> Result<Self> {
        match file.kind {
            FileKind::JsonlGz => return Ok(Self::Gzip),
            FileKind::JsonlZst => return Ok(Self::Zstd),
            FileKind::Parquet | FileKind::Tokens => return Ok(Self::Plain),
            FileKind::Jsonl | FileKind::Text => {}
        }
        if !file.path.is_file() {
            return Ok(Self::Plain); // a pipe can be read once only
        }
        let mut magic = [0u8; 4];
        let mut opened = File::open(&file.path).map_err(Error::io(&file.path, "open"))?;
        let mut have = 0;
        while have < magic.len() {
            match opened.read(&mut magic[have..]).map_err(Error::io(&file.path, "read"))? {
                0 => break,
                n => have += n,
            }
        }
        Ok(match magic {
            [0x1f, 0x8b, 8, _] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Self::Zstd,
            _ => Self::Plain,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// A readable, decompressed corpus file.
pub(super) struct Source {
    path: PathBuf,
    reader: Box<dyn Read + Send>,
    consumed: Arc<AtomicU64>,
    compression: Compression,
}

/// Counts the compressed bytes that pass.
struct Counting {
    file: File,
    consumed: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buf)?;
        self.consumed.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl Source {
    pub(super) fn open(file: &SourceFile) -> Result<Self> {
        let compression = Compression::of(file)?;
        let path = file.path.clone();
        let opened = File::open(&path).map_err(Error::io(&path, "open"))?;
        let consumed = Arc::new(AtomicU64::new(0));
        let empty = compression == Compression::Zstd && is_empty(&opened, &path)?;
        let counting = Counting { file: opened, consumed: consumed.clone() };
        let reader: Box<dyn Read + Send> = match compression {
            Compression::Plain => Box::new(counting),
            // An empty file is no zstd frame, yet it is what some writers leave for an empty part.
            Compression::Zstd if empty => Box::new(std::io::empty()),
            Compression::Gzip => {
                Box::new(flate2::bufread::MultiGzDecoder::new(std::io::BufReader::with_capacity(1 << 17, counting)))
            }
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(counting).map_err(Error::io(&path, "open"))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(Error::io(&path, "open"))?;
                Box::new(decoder)
            }
        };
        Ok(Self { path, reader, consumed, compression })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Compressed bytes consumed.
    pub(super) fn bytes_read(&self) -> u64 {
        self.consumed.load(Ordering::Relaxed)
    }

    /// Reads some bytes; 0 at the end.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        loop {
            match self.reader.read(buf) {
                Ok(n) => return Ok(n),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failure(e)),
            }
        }
    }

    /// Tells the decoder's complaints about the bytes from the operating system's about the file.
    fn failure(&self, source: std::io::Error) -> Error {
        if self.compression == Compression::Plain || source.raw_os_error().is_some() {
            return Error::Io { path: self.path.clone(), action: "read", source };
        }
        let what = format!("the {} stream is broken: {source}", self.compression.name());
        Error::Damaged { path: self.path.clone(), offset: self.bytes_read(), what }
    }
}

fn is_empty(mut file: &File, path: &Path) -> Result<bool> {
    let mut byte = [0u8];
    let n = file.read(&mut byte).map_err(Error::io(path, "read"))?;
    file.seek(SeekFrom::Start(0)).map_err(Error::io(path, "read"))?;
    Ok(n == 0)
}
