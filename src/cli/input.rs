//! Text that a user names: a file, or `-` for standard input.

use std::io::Read;
use std::path::Path;

use anyhow::Context;

use crate::error::Error;

/// All of a file or of standard input.
pub fn text(path: &Path) -> anyhow::Result<String> {
    if path.as_os_str() != "-" {
        return Ok(std::fs::read_to_string(path).map_err(Error::io(path, "read"))?);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("standard input: cannot be read as UTF-8")?;
    Ok(text)
}

/// Its lines that are not empty.
pub fn lines(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = text(path)?;
    let lines = text.split('\n').map(|line| line.trim_end_matches('\r').to_string());
    Ok(lines.filter(|line| !line.is_empty()).collect())
}
