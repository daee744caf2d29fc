//! Many corpus files read as one stream of documents, with one skip-bad budget over all of them.
//!
//! Files are read in the given order, one at a time; one record is in memory.

use super::{BadRecords, CorpusReader, Document, ReadOptions, SourceFile, open};
use crate::error::Result;

/// The documents of a list of files, in order.
pub struct Documents {
    files: std::vec::IntoIter<SourceFile>,
    options: ReadOptions,
    bad: BadRecords,
    current: Option<(Box<dyn CorpusReader>, u64)>,
    finished_bytes: u64,
}

impl Documents {
    /// Reads `files` in their order; `options.skip_bad` is the budget for all of them together.
    pub fn new(files: Vec<SourceFile>, options: ReadOptions) -> Self {
        let bad = BadRecords::new(options.skip_bad);
        Self { files: files.into_iter(), options, bad, current: None, finished_bytes: 0 }
    }

    /// Fills `doc` with the next document; `false` at the end of the last file.
    ///
    /// # Errors
    /// A file cannot be opened or is damaged, or a bad record exceeds the budget.
    pub fn next(&mut self, doc: &mut Document) -> Result<bool> {
        loop {
            if self.current.is_none() {
                let Some(file) = self.files.next() else { return Ok(false) };
                self.current = Some((open(&file, &self.options)?, file.bytes));
            }
            if let Some((reader, bytes)) = &mut self.current {
                match reader.next(doc) {
                    Ok(true) => return Ok(true),
                    Ok(false) => {
                        self.finished_bytes += *bytes;
                        self.current = None;
                    }
                    Err(error) => self.bad.tolerate(error)?,
                }
            }
        }
    }

    /// Bytes on disk consumed so far, for progress bars.
    pub fn bytes_read(&self) -> u64 {
        self.finished_bytes + self.current.as_ref().map_or(0, |(reader, _)| reader.bytes_read())
    }

    /// The bad records tolerated so far.
    pub fn bad(&self) -> &BadRecords {
        &self.bad
    }
}
