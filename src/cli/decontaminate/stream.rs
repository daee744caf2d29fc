//! Rows on standard output while the run goes on: those of the first file that is not finished as they come, those of later files
//! when it is their turn, so that the order does not depend on threads.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::parts::{PartWriter, Parts};
use crate::cli::output;
use crate::corpus::SourceFile;
use crate::decontaminate::run::{Row, Totals};
use crate::error::{Error, Result};

/// Whose turn it is.
#[derive(Default)]
pub(super) struct Stream {
    turn: Mutex<Turn>,
}

#[derive(Default)]
struct Turn {
    part: usize,
    /// Parts after it that are finished.
    finished: BTreeSet<usize>,
}

/// A part's rows on their way to its file and, if there is a stream, on to standard output.
pub(super) struct Rows<'a> {
    parts: &'a Parts,
    part: usize,
    writer: PartWriter,
    stream: Option<&'a Stream>,
    /// The part's file as far as it was told.
    told: Option<File>,
}

impl<'a> Rows<'a> {
    pub fn new(parts: &'a Parts, part: usize, stream: Option<&'a Stream>) -> Result<Rows<'a>> {
        Ok(Rows { parts, part, writer: parts.writer(part)?, stream, told: None })
    }

    /// Takes a row.
    pub fn row(&mut self, row: &Row) -> Result<()> {
        self.writer.row(row)?;
        match self.stream {
            // Nobody else ends this part's turn, so it need not be held.
            Some(stream) if stream.lock().part == self.part => {
                self.writer.flush()?;
                tell(&mut self.told, &self.parts.rows_path(self.part))
            }
            _ => Ok(()),
        }
    }

    /// The part is done; the turn goes to the next one that is not.
    pub fn finish(mut self, totals: &Totals, file: Option<&SourceFile>) -> Result<()> {
        self.writer.finish(totals, file)?;
        let Some(stream) = self.stream else { return Ok(()) };
        let mut turn = stream.lock();
        turn.finished.insert(self.part);
        while turn.finished.contains(&turn.part) {
            let mut other = None;
            let told = if turn.part == self.part { &mut self.told } else { &mut other };
            tell(told, &self.parts.rows_path(turn.part))?;
            let ended = turn.part;
            turn.finished.remove(&ended);
            turn.part += 1;
        }
        Ok(())
    }
}

impl Stream {
    fn lock(&self) -> std::sync::MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Prints what a file holds beyond what was told of it.
fn tell(told: &mut Option<File>, path: &Path) -> Result<()> {
    let mut file = match told.take() {
        Some(file) => file,
        None => File::open(path).map_err(Error::io(path, "open"))?,
    };
    let mut more = Vec::new();
    file.read_to_end(&mut more).map_err(Error::io(path, "read"))?;
    *told = Some(file);
    output::write(&more).map_err(Error::io("standard output", "write"))
}
