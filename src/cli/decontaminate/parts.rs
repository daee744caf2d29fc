//! The work in progress of a run: one part a corpus file, kept until the whole report is written.
//!
//! In `OUT/parts` are `plan.json` (what the run was asked for), and of each part that is done its rows (`000007.jsonl`), what it saw
//! (`000007.done.json`) and, after a removal, its account (`000007.cleaned.json`). A part's rows are whole before it says that it is
//! done, and a file whose size has changed since, or that could not be read to the end, is done again. So the same command, run again
//! after an interruption, a full disk or a mended file, does what is missing and no more. Without an output directory the parts are
//! in a temporary one.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::corpus::SourceFile;
use crate::decontaminate::remove::FileAccount;
use crate::decontaminate::run::{Row, Totals};
use crate::error::{Error, Result};

/// The parts of a run.
pub(super) struct Parts {
    dir: PathBuf,
    /// Removes the directory when there is no output to keep it in.
    temporary: Option<tempfile::TempDir>,
}

/// What a done part saw, and of which file.
#[derive(Serialize, Deserialize)]
struct Done {
    file: Option<SourceFile>,
    totals: Totals,
}

/// Rows of a part as they come.
pub(super) struct PartWriter {
    rows: PathBuf,
    done: PathBuf,
    out: BufWriter<File>,
}

impl Parts {
    /// Where they are below an output directory.
    fn dir(out: &Path) -> PathBuf {
        out.join("parts")
    }

    /// Refuses a directory that holds anything but an interrupted run.
    pub fn refuse_finished(out: &Path) -> Result<()> {
        let used = std::fs::read_dir(out).is_ok_and(|mut d| d.next().is_some());
        if used && !Parts::dir(out).join("plan.json").exists() {
            return Err(Error::invalid_hint(
                format!("{}: the directory is not empty", out.display()),
                "name a new directory; nothing is overwritten",
            ));
        }
        Ok(())
    }

    /// Begins the parts of a run in `out`, or goes on with those of an interrupted one.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Invalid`] when the interrupted run was asked for something else.
    pub fn open(out: Option<&Path>, plan: &serde_json::Value) -> Result<Parts> {
        let Some(out) = out else {
            let temporary = tempfile::tempdir().map_err(Error::io(std::env::temp_dir(), "create a directory in"))?;
            return Ok(Parts { dir: temporary.path().to_path_buf(), temporary: Some(temporary) });
        };
        let dir = Parts::dir(out);
        std::fs::create_dir_all(&dir).map_err(Error::io(&dir, "create"))?;
        let path = dir.join("plan.json");
        match std::fs::read(&path) {
            // As bytes: a number read back may differ in its last digit.
            Ok(before) if before != plan.to_string().into_bytes() => {
                return Err(Error::invalid_hint(
                    format!("{}: holds an interrupted run with other settings, corpus or reference", out.display()),
                    "repeat that run's command to go on with it, or name a new directory; nothing is overwritten",
                ));
            }
            Ok(_) => {}
            Err(_) => write(&path, plan)?,
        }
        Ok(Parts { dir, temporary: None })
    }

    fn path(&self, part: usize, of: &str) -> PathBuf {
        self.dir.join(format!("{part:06}.{of}"))
    }

    /// What a part saw, if it is done: of this file, and to its end.
    pub fn done(&self, part: usize, file: Option<&SourceFile>) -> Option<Totals> {
        let done: Done = read(&self.path(part, "done.json"))?;
        (done.file.as_ref() == file && done.totals.failed.is_empty()).then_some(done.totals)
    }

    /// Begins a part anew.
    pub fn writer(&self, part: usize) -> Result<PartWriter> {
        let (rows, done) = (self.rows_path(part), self.path(part, "done.json"));
        let _ = std::fs::remove_file(&done);
        let out = BufWriter::new(File::create(&rows).map_err(Error::io(&rows, "create"))?);
        Ok(PartWriter { rows, done, out })
    }

    /// The rows of a part.
    pub fn rows(&self, part: usize) -> Result<impl Iterator<Item = Result<Row>> + use<>> {
        super::report::rows(&self.rows_path(part))
    }

    /// Where they are.
    pub fn rows_path(&self, part: usize) -> PathBuf {
        self.path(part, "jsonl")
    }

    /// The account of a part's cleaned file, if it was written to `place` and is still there.
    pub fn cleaned(&self, part: usize, place: &Path) -> Option<FileAccount> {
        if self.temporary.is_some() {
            return None;
        }
        let account: Option<FileAccount> = read(&self.path(part, "cleaned.json"));
        let whole = account.filter(|a| {
            let bytes = std::fs::metadata(place).map_or(0, |m| m.len());
            a.output == place && a.output_bytes == bytes
        });
        if whole.is_none() {
            // The run ended between the file's own name and its account.
            let _ = std::fs::remove_file(place);
        }
        whole
    }

    /// Keeps the account of a part's cleaned file.
    pub fn keep_account(&self, part: usize, account: &FileAccount) -> Result<()> {
        write(&self.path(part, "cleaned.json"), account)
    }

    /// Removes the parts: everything is in its place.
    pub fn discard(self) -> Result<()> {
        match self.temporary {
            Some(temporary) => temporary.close(),
            None => std::fs::remove_dir_all(&self.dir),
        }
        .map_err(Error::io(&self.dir, "remove"))
    }
}

impl PartWriter {
    /// Takes a row.
    pub fn row(&mut self, row: &Row) -> Result<()> {
        let line = serde_json::to_string(row).map_err(|e| Error::invalid(format!("report: {e}")))?;
        writeln!(self.out, "{line}").map_err(Error::io(&self.rows, "write"))
    }

    /// What was taken is in the file.
    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(Error::io(&self.rows, "write"))
    }

    /// The part is done.
    pub fn finish(mut self, totals: &Totals, file: Option<&SourceFile>) -> Result<()> {
        self.flush()?;
        write(&self.done, &Done { file: file.cloned(), totals: totals.clone() })
    }
}

/// A JSON file; `None` when there is none, or it is not whole.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Writes a JSON file, whole or not at all.
fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, bytes).map_err(Error::io(&temporary, "write"))?;
    std::fs::rename(&temporary, path).map_err(Error::io(path, "rename to"))
}
