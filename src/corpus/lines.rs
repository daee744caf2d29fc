//! Lines of a decompressed stream, split at `\n` only (texts may hold other Unicode line separators), each with its number
//! and byte offset, without a copy: a line is a slice of the read buffer.
//!
//! The buffer grows to the longest line, up to [`MAX_RECORD_BYTES`]; a longer line is skipped and reported.

use std::ops::Range;

use super::source::Source;
use super::{MAX_RECORD_BYTES, SourceFile};
use crate::error::{Error, Result};

/// Bytes asked of the decoder at a time; a multiple of what zstd gives.
const READ_BYTES: usize = 1 << 18;

/// Where a line stands.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// The line in the buffer, its `\n` included (the last line of a file may have none).
    pub(super) range: Range<usize>,
    /// 1-based number.
    pub(super) number: u64,
    /// Offset of its first byte in the uncompressed stream.
    pub(super) byte: u64,
}

/// A stream of lines.
pub(super) struct Lines {
    source: Source,
    buf: Vec<u8>,
    /// Unread bytes are `buf[start..end]`; `buf[start..scanned]` holds no `\n`.
    start: usize,
    scanned: usize,
    end: usize,
    number: u64,
    /// Stream offset of `buf[start]`.
    byte: u64,
    ended: bool,
    max_record: usize,
}

impl Lines {
    pub(super) fn open(file: &SourceFile) -> Result<Self> {
        Ok(Self::over(Source::open(file)?, MAX_RECORD_BYTES))
    }

    fn over(source: Source, max_record: usize) -> Self {
        Self {
            source,
            buf: vec![0; READ_BYTES],
            start: 0,
            scanned: 0,
            end: 0,
            number: 0,
            byte: 0,
            ended: false,
            max_record,
        }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// The bytes of a line that `next` returned last.
    pub(super) fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.buf.get(range.clone()).unwrap_or_default()
    }

    /// The next line, or `None` at the end of the stream.
    pub(super) fn next(&mut self) -> Result<Option<Line>> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buf[self.scanned..self.end]) {
                return Ok(Some(self.take(self.scanned + at + 1)));
            }
            self.scanned = self.end;
            if self.ended {
                return Ok(if self.start < self.end { Some(self.take(self.end)) } else { None });
            }
            if self.end - self.start > self.max_record {
                return Err(self.skip_line());
            }
            self.fill()?;
        }
    }

    fn take(&mut self, end: usize) -> Line {
        let line = Line { range: self.start..end, number: self.number + 1, byte: self.byte };
        self.advance(end);
        self.number += 1;
        line
    }

    fn advance(&mut self, end: usize) {
        self.byte += (end - self.start) as u64;
        self.start = end;
        self.scanned = end;
    }

    /// Reads more bytes behind `end`, moving or growing the buffer where there is no room.
    fn fill(&mut self) -> Result<()> {
        if self.start > 0 && self.buf.len() - self.end < READ_BYTES {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.scanned -= self.start;
            self.start = 0;
        }
        if self.buf.len() - self.end < READ_BYTES {
            let grown = (self.buf.len() * 2).max(self.end + READ_BYTES);
            self.buf.resize(grown, 0);
        }
        match self.source.read(&mut self.buf[self.end..]) {
            Ok(0) => self.ended = true,
            Ok(n) => self.end += n,
            Err(error) => {
                // The framing is lost: what is left of the last line is no record.
                self.ended = true;
                self.start = self.end;
                self.scanned = self.end;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Drops the rest of a line that is too long and returns the error that says so.
    fn skip_line(&mut self) -> Error {
        let (line, byte) = (self.number + 1, self.byte);
        loop {
            match memchr::memchr(b'\n', &self.buf[self.scanned..self.end]) {
                Some(at) => {
                    self.advance(self.scanned + at + 1);
                    break;
                }
                None => self.advance(self.end),
            }
            if self.ended {
                break;
            }
            if let Err(error) = self.fill() {
                return error;
            }
        }
        self.number += 1;
        let what = format!("the line is longer than {} bytes, the most that is read as one record", self.max_record);
        Error::Record { path: self.source.path().to_path_buf(), line, byte, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::FileKind;
    use std::path::Path;

    fn file(dir: &Path, bytes: &[u8]) -> SourceFile {
        let path = dir.join("x.jsonl");
        std::fs::write(&path, bytes).unwrap();
        SourceFile { path, kind: FileKind::Jsonl, bytes: bytes.len() as u64 }
    }

    #[test]
    fn lines_longer_than_the_buffer_keep_their_positions() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        let lengths = [0, 1, READ_BYTES - 1, READ_BYTES, 3 * READ_BYTES + 7, 5, 0, 70_000];
        for (i, n) in lengths.iter().enumerate() {
            bytes.extend(std::iter::repeat_n(b'a' + i as u8, *n));
            bytes.push(b'\n');
        }
        bytes.extend(b"tail without newline");
        let mut lines = Lines::open(&file(dir.path(), &bytes)).unwrap();
        let mut rebuilt = Vec::new();
        let mut count = 0;
        while let Some(line) = lines.next().unwrap() {
            assert_eq!(line.byte, rebuilt.len() as u64);
            count += 1;
            assert_eq!(line.number, count);
            rebuilt.extend_from_slice(lines.bytes(&line.range));
        }
        assert!(rebuilt == bytes);
        assert_eq!(count as usize, lengths.len() + 1);
    }

    #[test]
    fn a_line_over_the_limit_is_reported_and_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(2 * READ_BYTES);
        let source = file(dir.path(), format!("a\n{long}\nb\n{long}").as_bytes());
        let mut lines = Lines::over(Source::open(&source).unwrap(), READ_BYTES / 2);
        assert_eq!(lines.next().unwrap().unwrap().number, 1);
        let error = lines.next().unwrap_err();
        assert!(matches!(error, Error::Record { line: 2, byte: 2, .. }), "{error}");
        let line = lines.next().unwrap().unwrap();
        assert_eq!((line.number, line.byte, lines.bytes(&line.range)), (3, 3 + long.len() as u64, &b"b\n"[..]));
        assert!(matches!(lines.next().unwrap_err(), Error::Record { line: 4, .. }));
        assert!(lines.next().unwrap().is_none());
    }
}
