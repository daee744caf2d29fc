//! Plain text: one file is one document, its text the file's characters unchanged.

use super::source::Source;
use super::{CorpusReader, Document, MAX_RECORD_BYTES, SourceFile};
use crate::error::{Error, Result};

/// Bytes asked for at a time.
const READ_BYTES: usize = 1 << 18;

pub(super) struct TextReader {
    source: Source,
    path: String,
    bytes: Vec<u8>,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Unread,
    Read,
    Ended,
}

impl TextReader {
    pub(super) fn open(file: &SourceFile) -> Result<Self> {
        let path = file.path.to_string_lossy().into_owned();
        Ok(Self { source: Source::open(file)?, path, bytes: Vec::new(), state: State::Unread })
    }

    fn read_all(&mut self) -> Result<()> {
        let mut have = 0;
        loop {
            if self.bytes.len() - have < READ_BYTES {
                self.bytes.resize((self.bytes.len() * 2).max(have + READ_BYTES), 0);
            }
            match self.source.read(&mut self.bytes[have..])? {
                0 => break,
                n => have += n,
            }
            if have > MAX_RECORD_BYTES {
                return Err(self.bad(
                    1,
                    format!("the file is longer than {MAX_RECORD_BYTES} bytes, the most that is read as one document"),
                ));
            }
        }
        self.bytes.truncate(have);
        Ok(())
    }

    fn bad(&self, line: u64, what: String) -> Error {
        Error::Record { path: self.source.path().to_path_buf(), line, byte: 0, what }
    }
}

impl CorpusReader for TextReader {
    fn next(&mut self, doc: &mut Document) -> Result<bool> {
        if self.state != State::Unread {
            self.state = State::Ended;
            return Ok(false);
        }
        self.state = State::Ended;
        doc.path.clone_from(&self.path);
        doc.record = 0;
        self.read_all()?;
        self.state = State::Read;
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => {
                doc.text.clear();
                doc.text.push_str(text);
                doc.metadata.clear();
                doc.id.clear();
                doc.id.push_str(&self.path);
                doc.id.push_str(":0");
                Ok(true)
            }
            Err(e) => {
                let at = e.valid_up_to();
                let line = memchr::memchr_iter(b'\n', &self.bytes[..at]).count() as u64 + 1;
                Err(self.bad(line, format!("invalid UTF-8 at byte {at} of the file")))
            }
        }
    }

    fn raw(&self) -> Option<&[u8]> {
        (self.state == State::Read).then_some(self.bytes.as_slice())
    }

    fn bytes_read(&self) -> u64 {
        self.source.bytes_read()
    }
}
