//! Files of a documentation package as JSON Lines, zstd-packed: `{id, text, source, package, version}`.
//!
//! Order: packages as the catalog lists them, files by path. HTML is reduced to its text; everything else (reStructuredText,
//! roff, POD, YAML) stays as it is, unpacked where it was gzipped. Bytes that are no UTF-8 are read as Latin-1, in which every
//! byte is a character. Pages under [`SHORTEST`] characters (redirects, index stubs) are left out. The same packages give the
//! same bytes.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde_json::json;
use walkdir::WalkDir;

use super::entry::Package;
use super::fetch::Context;
use super::html;
use crate::error::{Error, Result};

/// Shortest text, in characters, that is a document.
const SHORTEST: usize = 200;

const ZSTD_LEVEL: i32 = 9;

pub(super) struct DocumentationWriter {
    part: PathBuf,
    target: PathBuf,
    out: zstd::stream::write::Encoder<'static, BufWriter<File>>,
}

impl DocumentationWriter {
    /// Starts `target`, under a temporary name until [`finish`](Self::finish).
    pub(super) fn create(target: &Path) -> Result<Self> {
        let part = target.with_extension("converting");
        let file = File::create(&part).map_err(Error::io(&part, "create"))?;
        let mut out =
            zstd::stream::write::Encoder::new(BufWriter::new(file), ZSTD_LEVEL).map_err(Error::io(&part, "write"))?;
        out.include_checksum(true).map_err(Error::io(&part, "write"))?;
        Ok(Self { part, target: target.to_path_buf(), out })
    }

    /// Adds the documents of a package that was unpacked into `root`.
    pub(super) fn add_package(
        &mut self,
        context: &Context,
        name: &str,
        version: &str,
        package: &Package,
        root: &Path,
    ) -> Result<()> {
        let (take, skip) = (globs(context, &package.take)?, globs(context, &package.skip)?);
        let mut count = 0;
        for entry in WalkDir::new(root).sort_by_file_name() {
            let entry = entry.map_err(|e| Error::io(root, "list")(e.into()))?;
            let inside = entry.path().strip_prefix(root).unwrap_or(entry.path());
            // Links (several names of one manual page) would repeat a document.
            if !entry.file_type().is_file() || !take.is_match(inside) || skip.is_match(inside) {
                continue;
            }
            let text = document(entry.path())?;
            if text.chars().nth(SHORTEST - 1).is_none() {
                continue;
            }
            let inside = inside.to_string_lossy();
            let short = inside.strip_prefix("usr/share/").unwrap_or(&inside);
            let record = json!({
                "id": format!("{name}/{short}"), "text": text, "source": format!("{name}/{short}"),
                "package": name, "version": version,
            });
            serde_json::to_writer(&mut self.out, &record).map_err(|e| Error::io(&self.part, "write")(e.into()))?;
            self.out.write_all(b"\n").map_err(Error::io(&self.part, "write"))?;
            count += 1;
        }
        if count == 0 {
            let what = format!("{name} {version} holds no document where the catalog looks for them");
            return Err(context.error(
                what,
                Some("the package's layout has changed; the catalog's globs for it must be adapted".into()),
            ));
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<()> {
        let failed = |source| Error::Io { path: self.part.clone(), action: "write", source };
        let mut file = self.out.finish().map_err(failed)?;
        file.flush().map_err(failed)?;
        drop(file);
        std::fs::rename(&self.part, &self.target).map_err(Error::io(&self.target, "rename"))
    }
}

fn globs(context: &Context, patterns: &[String]) -> Result<GlobSet> {
    let build = || {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            set.add(GlobBuilder::new(pattern).literal_separator(true).build()?);
        }
        set.build()
    };
    build().map_err(|e: globset::Error| context.error(format!("malformed glob in the catalog: {e}"), None))
}

/// A file's text.
fn document(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    let mut bytes = Vec::new();
    let name = path.to_string_lossy();
    let (read, name) = match name.strip_suffix(".gz") {
        Some(stem) => (flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes), stem),
        None => ((&file).read_to_end(&mut bytes), &*name),
    };
    read.map_err(Error::io(path, "read"))?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => e.into_bytes().into_iter().map(char::from).collect(),
    };
    Ok(if name.ends_with(".html") { html::text_of(&text) } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_unpacked_decoded_and_stripped() {
        let dir = tempfile::tempdir().unwrap();
        let latin = dir.path().join("a.txt.gz");
        let mut gz = flate2::write::GzEncoder::new(File::create(&latin).unwrap(), flate2::Compression::fast());
        gz.write_all(b"caf\xe9").unwrap();
        gz.finish().unwrap();
        assert_eq!(document(&latin).unwrap(), "café");
        let page = dir.path().join("b.html");
        std::fs::write(&page, "<p>a &amp; b").unwrap();
        assert_eq!(document(&page).unwrap(), "a & b\n");
    }
}
