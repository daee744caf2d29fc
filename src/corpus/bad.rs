//! The skip-bad budget: how many bad records a run tolerates before it stops, and the list of those it met.
//!
//! One budget serves a whole run, whatever the number of files and readers; share it behind a mutex where several
//! threads read. Only [`Error::Record`] is tolerated: damage and I/O errors always pass through.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// One tolerated bad record, with the position that [`Error::Record`] reported.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct BadRecord {
    pub path: PathBuf,
    /// 1-based line (Parquet: row).
    pub line: u64,
    /// Offset of the record's first byte in the uncompressed stream (Parquet: 0).
    pub byte: u64,
    pub what: String,
}

/// Counts bad records against a budget and lists them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadRecords {
    budget: u64,
    tolerated: Vec<BadRecord>,
}

impl BadRecords {
    /// A budget of `skip_bad` records; 0 stops at the first.
    pub fn new(skip_bad: u64) -> Self {
        Self { budget: skip_bad, tolerated: Vec::new() }
    }

    /// Takes note of `error` and returns `Ok(())` while the budget lasts.
    ///
    /// # Errors
    /// `error` itself when it is no [`Error::Record`]; when it is one more than the budget allows, it also says how many there were.
    pub fn tolerate(&mut self, error: Error) -> Result<()> {
        match error {
            Error::Record { path, line, byte, what } if (self.tolerated.len() as u64) < self.budget => {
                self.tolerated.push(BadRecord { path, line, byte, what });
                Ok(())
            }
            Error::Record { path, line, byte, what } if !self.tolerated.is_empty() => {
                let what = format!("{what} (bad record {} of the run)", self.tolerated.len() + 1);
                Err(Error::Record { path, line, byte, what })
            }
            other => Err(other),
        }
    }

    /// The records tolerated so far, in the order they were met.
    pub fn records(&self) -> &[BadRecord] {
        &self.tolerated
    }

    /// How many records were tolerated.
    pub fn len(&self) -> usize {
        self.tolerated.len()
    }

    /// Whether no bad record was met.
    pub fn is_empty(&self) -> bool {
        self.tolerated.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(line: u64) -> Error {
        Error::Record { path: "a.jsonl".into(), line, byte: 10 * line, what: "not JSON".into() }
    }

    #[test]
    fn budget_is_exact_and_lists_what_it_let_pass() {
        let mut bad = BadRecords::new(2);
        assert!(bad.tolerate(record(1)).is_ok());
        assert!(bad.tolerate(record(5)).is_ok());
        let third = bad.tolerate(record(9)).unwrap_err();
        assert!(matches!(third, Error::Record { line: 9, .. }));
        let lines: Vec<(u64, u64)> = bad.records().iter().map(|b| (b.line, b.byte)).collect();
        assert_eq!(lines, [(1, 10), (5, 50)]);
    }

    #[test]
    fn other_errors_are_never_tolerated() {
        let mut bad = BadRecords::new(100);
        let error = bad.tolerate(Error::Damaged { path: "a".into(), offset: 1, what: "x".into() }).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }));
        assert!(bad.is_empty());
        assert!(BadRecords::new(0).tolerate(record(1)).is_err());
    }
}
