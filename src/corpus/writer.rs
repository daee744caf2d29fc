//! Writes the records that are kept of a corpus file, in the file's own format and compression.
//!
//! JSON Lines and plain text: a kept record's bytes are copied unchanged, and in a replaced one only the text's own JSON
//! string changes. Parquet: see [`parquet_copy`](super::parquet_copy). The output appears whole or not at all: it is
//! written beside its final name, synced and renamed, and never over an existing file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::fields::Fields;
use super::parquet_copy::ParquetCopy;
use super::source::Compression;
use super::{CorpusReader, FileKind, ReadOptions, SourceFile};
use crate::error::{Error, Result};

const BUFFER_BYTES: usize = 1 << 18;

/// zstd level of the output; the level of the input cannot be known.
const ZSTD_LEVEL: i32 = 6;

/// What [`CorpusWriter::finish`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The file; `None` where the whole document of a plain text file was left out.
    pub path: Option<PathBuf>,
    pub records: u64,
    /// Size on disk.
    pub bytes: u64,
}

/// A corpus file being written from the records of another that are kept.
pub struct CorpusWriter {
    kind: FileKind,
    source: PathBuf,
    output: PathBuf,
    fields: Fields,
    records: u64,
    sink: Sink,
}

enum Sink {
    Plain(BufWriter<NamedTempFile>),
    Gzip(flate2::write::GzEncoder<BufWriter<NamedTempFile>>),
    Zstd(zstd::stream::write::Encoder<'static, BufWriter<NamedTempFile>>),
    Parquet(Box<ParquetCopy<NamedTempFile>>),
}

impl CorpusWriter {
    /// Starts `output`, to be filled with records of `source`; missing directories are made.
    ///
    /// # Errors
    /// `output` exists, cannot be created, or `source` cannot be read (Parquet: its schema is taken over).
    pub fn create(source: &SourceFile, options: &ReadOptions, output: &Path) -> Result<Self> {
        if output.symlink_metadata().is_ok() {
            return Err(exists(output));
        }
        let parent = output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
        let file = tempfile::Builder::new()
            .prefix(".priorart-")
            .suffix(".part")
            .tempfile_in(parent)
            .map_err(Error::io(output, "create"))?;
        let buffered = |file| BufWriter::with_capacity(BUFFER_BYTES, file);
        let sink = if source.kind == FileKind::Parquet {
            Sink::Parquet(Box::new(ParquetCopy::create(source, options, output, file)?))
        } else {
            match Compression::of(source)? {
                Compression::Plain => Sink::Plain(buffered(file)),
                Compression::Gzip => {
                    Sink::Gzip(flate2::write::GzEncoder::new(buffered(file), flate2::Compression::default()))
                }
                Compression::Zstd => {
                    let mut encoder = zstd::stream::write::Encoder::new(buffered(file), ZSTD_LEVEL)
                        .map_err(Error::io(output, "create"))?;
                    encoder.include_checksum(true).map_err(Error::io(output, "create"))?;
                    Sink::Zstd(encoder)
                }
            }
        };
        Ok(Self {
            kind: source.kind,
            source: source.path.clone(),
            output: output.to_path_buf(),
            fields: Fields::new(options),
            records: 0,
            sink,
        })
    }

    /// Keeps the record that `reader` (a reader of the source file) returned last, good or bad; `record` is its number.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn keep(&mut self, reader: &dyn CorpusReader, record: u64) -> Result<()> {
        match &mut self.sink {
            Sink::Parquet(copy) => copy.keep(record, None)?,
            _ => {
                let raw = self.raw_of(reader, record)?;
                self.write(raw)?;
            }
        }
        self.records += 1;
        Ok(())
    }

    /// Keeps that record with `text` in place of its text.
    ///
    /// # Errors
    /// The record has no text to replace, or the output cannot be written.
    pub fn replace(&mut self, reader: &dyn CorpusReader, record: u64, text: &str) -> Result<()> {
        match &mut self.sink {
            Sink::Parquet(copy) => copy.keep(record, Some(text))?,
            _ if self.kind == FileKind::Text => self.write(text.as_bytes())?,
            _ => {
                let raw = self.raw_of(reader, record)?;
                let bad = |what| Error::Record { path: self.source.clone(), line: record + 1, byte: 0, what };
                let line = std::str::from_utf8(raw).map_err(|_| bad("invalid UTF-8".into()))?;
                let (mark, line) = line.split_at(if line.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 });
                let replaced = self.fields.replace(line, text).map_err(bad)?;
                self.write(mark.as_bytes())?;
                self.write(replaced.as_bytes())?;
            }
        }
        self.records += 1;
        Ok(())
    }

    fn raw_of<'a>(&self, reader: &'a dyn CorpusReader, record: u64) -> Result<&'a [u8]> {
        reader
            .raw()
            .ok_or_else(|| Error::invalid(format!("{}: record {} has no bytes to copy", self.source.display(), record)))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = match &mut self.sink {
            Sink::Plain(w) => w.write_all(bytes),
            Sink::Gzip(w) => w.write_all(bytes),
            Sink::Zstd(w) => w.write_all(bytes),
            Sink::Parquet(_) => Ok(()),
        };
        written.map_err(Error::io(&self.output, "write"))
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// The output cannot be written or synced, or has come into being meanwhile.
    pub fn finish(self) -> Result<Written> {
        let failed = |source| Error::Io { path: self.output.clone(), action: "write", source };
        let unbuffer = |w: BufWriter<NamedTempFile>| w.into_inner().map_err(|e| e.into_error());
        let file = match self.sink {
            Sink::Plain(w) => unbuffer(w).map_err(failed)?,
            Sink::Gzip(w) => w.finish().and_then(unbuffer).map_err(failed)?,
            Sink::Zstd(w) => w.finish().and_then(unbuffer).map_err(failed)?,
            Sink::Parquet(copy) => copy.finish()?,
        };
        if self.kind == FileKind::Text && self.records == 0 {
            return Ok(Written { path: None, records: 0, bytes: 0 });
        }
        set_mode_like(&self.source, file.as_file());
        file.as_file().sync_all().map_err(Error::io(&self.output, "sync"))?;
        let bytes = file.as_file().metadata().map_err(Error::io(&self.output, "read"))?.len();
        file.persist_noclobber(&self.output).map_err(|e| match e.error.kind() {
            std::io::ErrorKind::AlreadyExists => exists(&self.output),
            _ => Error::io(&self.output, "rename")(e.error),
        })?;
        Ok(Written { path: Some(self.output), records: self.records, bytes })
    }
}

fn exists(path: &Path) -> Error {
    Error::invalid_hint(
        format!("{}: the output exists already", path.display()),
        "name another output directory, or move the old file away; nothing was changed",
    )
}

/// Temporary files are private to their owner; the output is as readable as the input was.
fn set_mode_like(source: &Path, file: &File) {
    if let Ok(metadata) = std::fs::metadata(source) {
        // Best effort: a file system without modes loses nothing by it.
        let _ = file.set_permissions(metadata.permissions());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Document, discover, open};

    const LINES: &str = "{\"id\": \"a\",  \"text\":\"one\\u0041 \\n\", \"n\": 1.50}\r\n{\"text\":\"\"}\nnot json\n\n{\"x\":{\"text\":7},\"text\":\"z\"}";

    fn packed(name: &str, bytes: &[u8]) -> Vec<u8> {
        if name.ends_with(".gz") {
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gz.write_all(bytes).unwrap();
            gz.finish().unwrap()
        } else if name.ends_with(".zst") {
            zstd::encode_all(bytes, 1).unwrap()
        } else {
            bytes.to_vec()
        }
    }

    fn unpacked(path: &Path) -> Vec<u8> {
        let bytes = std::fs::read(path).unwrap();
        match path.extension().unwrap().to_str().unwrap() {
            "gz" => {
                let mut out = Vec::new();
                std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&bytes[..]), &mut out).unwrap();
                out
            }
            "zst" => zstd::decode_all(&bytes[..]).unwrap(),
            _ => bytes,
        }
    }

    /// Copies `name`, asking `fate` of each record: leave out (None), keep, or replace.
    fn copy(
        name: &str,
        bytes: &[u8],
        fate: impl Fn(u64) -> Option<Option<&'static str>>,
    ) -> (Option<Vec<u8>>, Written) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, packed(name, bytes)).unwrap();
        let options = ReadOptions::default();
        let source = &discover(&[&path]).unwrap()[0];
        let out = dir.path().join("out").join(name);
        let mut writer = CorpusWriter::create(source, &options, &out).unwrap();
        let mut reader = open(source, &options).unwrap();
        let mut doc = Document::default();
        loop {
            match reader.next(&mut doc) {
                Ok(false) => break,
                Ok(true) | Err(Error::Record { .. }) => {}
                Err(e) => panic!("{e}"),
            }
            match fate(doc.record) {
                None => {}
                Some(None) => writer.keep(&*reader, doc.record).unwrap(),
                Some(Some(text)) => writer.replace(&*reader, doc.record, text).unwrap(),
            }
        }
        assert!(!out.exists(), "the output must not appear before it is complete");
        let written = writer.finish().unwrap();
        (written.path.as_ref().map(|p| unpacked(p)), written)
    }

    #[test]
    fn kept_lines_are_copied_byte_for_byte() {
        for name in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"] {
            let (all, written) = copy(name, LINES.as_bytes(), |_| Some(None));
            assert_eq!(String::from_utf8(all.unwrap()).unwrap(), LINES.replace("\n\n", "\n"), "{name}");
            assert_eq!(written.records, 4);
            let (some, _) = copy(name, LINES.as_bytes(), |r| (r != 1).then_some(None));
            assert_eq!(
                String::from_utf8(some.unwrap()).unwrap(),
                LINES.replace("\n\n", "\n").replace("{\"text\":\"\"}\n", "")
            );
        }
    }

    #[test]
    fn a_replaced_text_changes_nothing_else() {
        let (out, _) = copy("a.jsonl", LINES.as_bytes(), |r| match r {
            0 => Some(Some("new \"text\"\n\u{2028}é")),
            4 => Some(Some("")),
            _ => None,
        });
        let expected = "{\"id\": \"a\",  \"text\":\"new \\\"text\\\"\\n\u{2028}é\", \"n\": 1.50}\r\n{\"x\":{\"text\":7},\"text\":\"\"}";
        assert_eq!(String::from_utf8(out.unwrap()).unwrap(), expected);
    }

    #[test]
    fn plain_text_is_kept_replaced_or_left_out() {
        let bytes = "\u{feff}über\r\n".as_bytes();
        assert_eq!(copy("a.txt", bytes, |_| Some(None)).0.unwrap(), bytes);
        assert_eq!(copy("a.txt", bytes, |_| Some(Some("x"))).0.unwrap(), b"x");
        assert_eq!(copy("a.txt", bytes, |_| None).1, Written { path: None, records: 0, bytes: 0 });
    }

    #[test]
    fn an_existing_output_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, LINES).unwrap();
        let source = &discover(&[&path]).unwrap()[0];
        let error = CorpusWriter::create(source, &ReadOptions::default(), &path).err().unwrap();
        assert!(error.to_string().contains("the output exists already") && error.hint().is_some(), "{error}");
        let out = dir.path().join("b.jsonl");
        let writer = CorpusWriter::create(source, &ReadOptions::default(), &out).unwrap();
        std::fs::write(&out, "precious").unwrap();
        assert!(writer.finish().is_err());
        assert_eq!(std::fs::read(&out).unwrap(), b"precious");
        assert_eq!(std::fs::read(&path).unwrap(), LINES.as_bytes());
    }
}
