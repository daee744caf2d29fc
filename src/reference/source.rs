//! From what a user names to a reference index: a compiled file is opened, benchmark files are read and compiled.
//!
//! A compiled file is known by its first bytes, whatever its name. It carries its mapping's result, so it is named alone.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::file::MAGIC;
use super::{Mapping, ReferenceIndex, read};
use crate::error::{Error, Result};

/// Whether a file begins as a compiled reference index does.
///
/// # Errors
/// [`Error::Io`] for a path that cannot be opened or read; a directory is none.
pub fn is_compiled(path: &Path) -> Result<bool> {
    if std::fs::metadata(path).map_err(Error::io(path, "open"))?.is_dir() {
        return Ok(false);
    }
    let mut head = Vec::with_capacity(MAGIC.len());
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    file.take(MAGIC.len() as u64).read_to_end(&mut head).map_err(Error::io(path, "read"))?;
    Ok(head == MAGIC)
}

/// Opens the compiled file that `paths` name, or compiles the benchmark files they name.
///
/// # Errors
/// As [`ReferenceIndex::open`], [`read()`] and [`ReferenceIndex::build`]; [`Error::Invalid`] for a compiled file beside others
/// or with a mapping.
pub fn open_or_build(paths: &[PathBuf], mapping: Option<&Mapping>) -> Result<ReferenceIndex> {
    for path in paths {
        if is_compiled(path)? {
            if paths.len() > 1 || mapping.is_some() {
                return Err(Error::invalid_hint(
                    format!("{} is compiled: it takes no other files and no mapping", path.display()),
                    "name it alone, or compile all the benchmark files into one with `priorart reference build`",
                ));
            }
            return ReferenceIndex::open(path);
        }
    }
    ReferenceIndex::build(&read(paths, mapping)?)
}
