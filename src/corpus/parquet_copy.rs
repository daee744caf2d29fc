//! A Parquet file with some rows left out and some texts replaced: same schema, same column order, same compression, same
//! key-value metadata.
//!
//! Columns are copied level by level (Dremel's definition and repetition levels), so every nesting survives; a row group
//! of which every row is kept unchanged is copied without being decoded. Memory: one batch of one column, plus the
//! replaced texts of the open row group.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::basic::Compression;
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::column::writer::{ColumnCloseResult, ColumnWriter, ColumnWriterImpl};
use ::parquet::data_type::{ByteArray, DataType};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};

use super::{ReadOptions, SourceFile, parquet};
use crate::error::{Error, Result};

/// Rows copied at a time.
const BATCH_ROWS: usize = 256;

/// What happens to one row of the open row group.
#[derive(Debug, Clone, PartialEq)]
enum Fate {
    Drop,
    Keep,
    Replace(String),
}

pub(super) struct ParquetCopy<W: Write + Send> {
    file: SourceFile,
    /// The final name, for messages.
    output: PathBuf,
    /// For whole chunks, which are copied as bytes.
    bytes: File,
    reader: SerializedFileReader<File>,
    writer: SerializedFileWriter<W>,
    text_leaf: usize,
    row_group: usize,
    /// Number of the open row group's first row.
    first_row: u64,
    fates: Vec<Fate>,
}

impl<W: Write + Send> ParquetCopy<W> {
    pub(super) fn create(file: &SourceFile, options: &ReadOptions, output: &Path, out: W) -> Result<Self> {
        let reader = parquet::open_file(file)?;
        let bytes = File::open(&file.path).map_err(Error::io(&file.path, "open"))?;
        let footer = reader.metadata();
        let text_leaf = parquet::text_leaf(file, footer.file_metadata().schema_descr(), &options.text_field)?;
        let mut properties = WriterProperties::builder()
            .set_max_row_group_row_count(None)
            .set_key_value_metadata(footer.file_metadata().key_value_metadata().cloned());
        if let Some(group) = footer.row_groups().first() {
            for column in group.columns() {
                properties =
                    properties.set_column_compression(column.column_path().clone(), writable(column.compression()));
            }
        }
        let schema = footer.file_metadata().schema_descr().root_schema_ptr();
        let writer = SerializedFileWriter::new(out, schema, Arc::new(properties.build()))
            .map_err(|e| failure(file, output, e))?;
        let mut copy = Self {
            file: file.clone(),
            output: output.to_path_buf(),
            bytes,
            reader,
            writer,
            text_leaf,
            row_group: 0,
            first_row: 0,
            fates: Vec::new(),
        };
        copy.open_row_group();
        Ok(copy)
    }

    fn open_row_group(&mut self) {
        let rows = self.reader.metadata().row_groups().get(self.row_group).map_or(0, |g| g.num_rows());
        self.fates.clear();
        self.fates.resize(usize::try_from(rows).unwrap_or(0), Fate::Drop);
    }

    /// Keeps row `record`, with its text replaced if one is given. Rows come in ascending order.
    pub(super) fn keep(&mut self, record: u64, text: Option<&str>) -> Result<()> {
        while record >= self.first_row + self.fates.len() as u64 {
            if self.row_group >= self.reader.num_row_groups() {
                return Err(Error::invalid(format!("{}: there is no row {}", self.file.path.display(), record + 1)));
            }
            self.flush()?;
        }
        let fate = record.checked_sub(self.first_row).and_then(|row| self.fates.get_mut(row as usize));
        let Some(fate) = fate else {
            return Err(Error::invalid(format!("{}: row {} comes out of order", self.file.path.display(), record + 1)));
        };
        *fate = text.map_or(Fate::Keep, |t| Fate::Replace(t.to_string()));
        Ok(())
    }

    /// Writes the remaining row groups and the footer.
    pub(super) fn finish(mut self) -> Result<W> {
        while self.row_group < self.reader.num_row_groups() {
            self.flush()?;
        }
        let (file, output) = (self.file, self.output);
        self.writer.into_inner().map_err(|e| failure(&file, &output, e))
    }

    /// Writes what is kept of the open row group and opens the next.
    fn flush(&mut self) -> Result<()> {
        self.copy_row_group().map_err(|e| failure(&self.file, &self.output, e))?;
        self.first_row += self.fates.len() as u64;
        self.row_group += 1;
        self.open_row_group();
        Ok(())
    }

    fn copy_row_group(&mut self) -> Result<(), ParquetError> {
        if self.fates.iter().all(|f| *f == Fate::Drop) {
            return Ok(());
        }
        let unchanged = self.fates.iter().all(|f| *f == Fate::Keep);
        let group = self.reader.get_row_group(self.row_group)?;
        let mut out = self.writer.next_row_group()?;
        for leaf in 0..group.num_columns() {
            if unchanged {
                let metadata = group.metadata().column(leaf).clone();
                let close = ColumnCloseResult {
                    bytes_written: metadata.compressed_size() as u64,
                    rows_written: self.fates.len() as u64,
                    metadata,
                    bloom_filter: None,
                    column_index: None,
                    offset_index: None,
                };
                out.append_column(&self.bytes, close)?;
            } else {
                copy_column(group.get_column_reader(leaf)?, &mut out, &self.fates, leaf == self.text_leaf)?;
            }
        }
        out.close()?;
        Ok(())
    }
}

/// Tells a full disk or an unwritable output from a damaged input.
fn failure(file: &SourceFile, output: &Path, error: ParquetError) -> Error {
    match parquet::io_cause(error) {
        Ok(source) => Error::Io { path: output.to_path_buf(), action: "write", source },
        Err(other) => parquet::damaged(file, 0, other),
    }
}

/// What is written where `read` was read; codecs that are only read become zstd.
fn writable(read: Compression) -> Compression {
    match read {
        Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) | Compression::ZSTD(_) => read,
        _ => Compression::ZSTD(Default::default()),
    }
}

fn copy_column<W: Write + Send>(
    reader: ColumnReader,
    out: &mut SerializedRowGroupWriter<'_, W>,
    fates: &[Fate],
    is_text: bool,
) -> Result<(), ParquetError> {
    let Some(mut column) = out.next_column()? else {
        return Err(ParquetError::General("the row group has more columns than the schema".into()));
    };
    use {ColumnReader as R, ColumnWriter as W2};
    match (reader, column.untyped()) {
        (R::BoolColumnReader(r), W2::BoolColumnWriter(w)) => copy_rows(r, w, fates, None)?,
        (R::Int32ColumnReader(r), W2::Int32ColumnWriter(w)) => copy_rows(r, w, fates, None)?,
        (R::Int64ColumnReader(r), W2::Int64ColumnWriter(w)) => copy_rows(r, w, fates, None)?,
        (R::Int96ColumnReader(r), W2::Int96ColumnWriter(w)) => copy_rows(r, w, fates, None)?,
        (R::FloatColumnReader(r), W2::FloatColumnWriter(w)) => copy_rows(r, w, fates, None)?,
        (R::DoubleColumnReader(r), W2::DoubleColumnWriter(w)) => copy_rows(r, w, fates, None)?,
        (R::FixedLenByteArrayColumnReader(r), W2::FixedLenByteArrayColumnWriter(w)) => copy_rows(r, w, fates, None)?,
        (R::ByteArrayColumnReader(r), W2::ByteArrayColumnWriter(w)) => {
            let text = |t: &str| ByteArray::from(t.as_bytes().to_vec());
            copy_rows(r, w, fates, if is_text { Some(&text) } else { None })?;
        }
        _ => return Err(ParquetError::General("a column's type differs from the schema's".into())),
    }
    column.close()
}

/// Makes the value that replaces a text.
type Replace<'f, T> = &'f dyn Fn(&str) -> <T as DataType>::T;

/// Copies the levels and values of the rows that are kept.
fn copy_rows<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    writer: &mut ColumnWriterImpl<'_, T>,
    fates: &[Fate],
    replaced: Option<Replace<T>>,
) -> Result<(), ParquetError> {
    let descr = writer.get_descriptor().clone();
    let (max_def, max_rep) = (descr.max_def_level(), descr.max_rep_level());
    let mut row = 0;
    let (mut def, mut rep, mut values) = (Vec::new(), Vec::new(), Vec::new());
    while row < fates.len() {
        def.clear();
        rep.clear();
        values.clear();
        let (read, _, levels) =
            reader.read_records(BATCH_ROWS.min(fates.len() - row), Some(&mut def), Some(&mut rep), &mut values)?;
        if read == 0 {
            return Err(ParquetError::EOF("a column ends before its row group".into()));
        }
        let (mut out_def, mut out_rep, mut out_values) = (Vec::new(), Vec::new(), Vec::new());
        let mut from = values.drain(..);
        let end = row + read;
        let mut next = row;
        for level in 0..levels {
            if max_rep == 0 || rep.get(level) == Some(&0) {
                row = next;
                next += 1;
            }
            let present = max_def == 0 || def.get(level) == Some(&max_def);
            let value = if present { from.next() } else { None };
            let fate = fates.get(row).unwrap_or(&Fate::Drop);
            if *fate == Fate::Drop {
                continue;
            }
            let new = match (fate, replaced) {
                (Fate::Replace(text), Some(make)) => Some(make(text)),
                _ => None,
            };
            let is_new = new.is_some();
            if let Some(value) = new.or(value) {
                out_values.push(value);
            }
            if max_def > 0 {
                // A replaced text is there even where the old one was null.
                out_def.push(if is_new { max_def } else { def[level] });
            }
            if max_rep > 0 {
                out_rep.push(rep[level]);
            }
        }
        drop(from);
        row = end;
        if !out_values.is_empty() || !out_def.is_empty() {
            writer.write_batch(
                &out_values,
                (max_def > 0).then_some(&out_def[..]),
                (max_rep > 0).then_some(&out_rep[..]),
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{CorpusReader, CorpusWriter, Document, FileKind, open};
    use ::parquet::data_type::{ByteArrayType, Int64Type};
    use ::parquet::schema::parser::parse_message_type;
    use serde_json::json;

    const SCHEMA: &str = "message schema {
        optional binary text (UTF8);
        required int64 id;
        optional group meta { optional binary source (UTF8); optional int32 day (DATE); }
        optional group tags (LIST) { repeated group list { optional binary element (UTF8); } }
    }";

    type Row = (Option<Vec<u8>>, i64, Option<Vec<Option<&'static str>>>);

    fn rows(n: i64) -> Vec<Row> {
        let row = |i: i64| {
            let text = match i % 7 {
                3 => None,
                5 => Some(b"bad \xff".to_vec()),
                6 => Some(Vec::new()),
                _ => Some(format!("text {i} ").repeat((i % 11) as usize + 1).into_bytes()),
            };
            let tags = match i % 4 {
                0 => None,
                1 => Some(vec![]),
                2 => Some(vec![Some("a"), None]),
                _ => Some(vec![Some("b"), Some("c"), Some("d")]),
            };
            (text, 1000 + i, tags)
        };
        (0..n).map(row).collect()
    }

    /// Writes a file of two row groups or more.
    fn write(path: &Path, rows: &[Row], group: usize) -> SourceFile {
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut file = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
        for rows in rows.chunks(group) {
            let mut out = file.next_row_group().unwrap();
            let strings = |v: Vec<Vec<u8>>| v.into_iter().map(ByteArray::from).collect::<Vec<_>>();
            let mut column = out.next_column().unwrap().unwrap();
            let def: Vec<i16> = rows.iter().map(|r| r.0.is_some() as i16).collect();
            let texts = strings(rows.iter().filter_map(|r| r.0.clone()).collect());
            column.typed::<ByteArrayType>().write_batch(&texts, Some(&def), None).unwrap();
            column.close().unwrap();
            let mut column = out.next_column().unwrap().unwrap();
            let ids: Vec<i64> = rows.iter().map(|r| r.1).collect();
            column.typed::<Int64Type>().write_batch(&ids, None, None).unwrap();
            column.close().unwrap();
            let mut column = out.next_column().unwrap().unwrap();
            let sources = strings(rows.iter().map(|r| format!("s{}", r.1).into_bytes()).collect());
            column.typed::<ByteArrayType>().write_batch(&sources, Some(&vec![2; rows.len()]), None).unwrap();
            column.close().unwrap();
            let mut column = out.next_column().unwrap().unwrap();
            let days = vec![11_016; rows.len()];
            column
                .typed::<::parquet::data_type::Int32Type>()
                .write_batch(&days, Some(&vec![2; rows.len()]), None)
                .unwrap();
            column.close().unwrap();
            let mut column = out.next_column().unwrap().unwrap();
            let (mut def, mut rep, mut values) = (Vec::new(), Vec::new(), Vec::new());
            for (_, _, tags) in rows {
                match tags {
                    None => (def.push(0), rep.push(0)),
                    Some(tags) if tags.is_empty() => (def.push(1), rep.push(0)),
                    Some(tags) => {
                        for (i, tag) in tags.iter().enumerate() {
                            def.push(if tag.is_some() { 3 } else { 2 });
                            rep.push((i > 0) as i16);
                            values.extend(tag.map(|t| t.as_bytes().to_vec()));
                        }
                        ((), ())
                    }
                };
            }
            column.typed::<ByteArrayType>().write_batch(&strings(values), Some(&def), Some(&rep)).unwrap();
            column.close().unwrap();
            out.close().unwrap();
        }
        file.close().unwrap();
        SourceFile { path: path.to_path_buf(), kind: FileKind::Parquet, bytes: path.metadata().unwrap().len() }
    }

    /// What a reader must give for `row`, the `record`th of the file.
    fn expected(row: &Row, record: u64) -> Result<(String, u64, serde_json::Value), u64> {
        let (text, id, tags) = row;
        let text = text.clone().and_then(|t| String::from_utf8(t).ok()).ok_or(record + 1)?;
        let metadata = json!({"meta": {"source": format!("s{id}"), "day": "2000-02-29"}, "tags": tags});
        Ok((format!("{id}|{text}"), record, metadata))
    }

    fn read(mut reader: Box<dyn CorpusReader>) -> Vec<Result<(String, u64, serde_json::Value), u64>> {
        let mut doc = Document::default();
        let mut found = Vec::new();
        loop {
            match reader.next(&mut doc) {
                Ok(true) => {
                    found.push(Ok((format!("{}|{}", doc.id, doc.text), doc.record, doc.metadata.clone().into())));
                }
                Ok(false) => return found,
                Err(Error::Record { line, .. }) => found.push(Err(line)),
                Err(e) => panic!("{e}"),
            }
        }
    }

    #[test]
    fn reads_texts_ids_nested_and_repeated_metadata_across_row_groups() {
        let dir = tempfile::tempdir().unwrap();
        let rows = rows(300);
        let file = write(&dir.path().join("a.parquet"), &rows, 130);
        let found = read(open(&file, &ReadOptions::default()).unwrap());
        let want: Vec<_> = rows.iter().enumerate().map(|(i, r)| expected(r, i as u64)).collect();
        assert_eq!(found, want);

        let few = ReadOptions { metadata_fields: Some(vec!["meta.source".into()]), ..Default::default() };
        let mut reader = open(&file, &few).unwrap();
        let mut doc = Document::default();
        assert!(reader.next(&mut doc).unwrap());
        assert_eq!(serde_json::Value::from(doc.metadata), json!({"meta.source": "s1000"}));
    }

    #[test]
    fn a_missing_or_unfit_text_column_names_the_columns() {
        let dir = tempfile::tempdir().unwrap();
        let file = write(&dir.path().join("a.parquet"), &rows(3), 10);
        for (field, what) in [
            ("body", "there is no column `body`"),
            ("id", "does not hold one string"),
            ("tags.list.element", "one string a row"),
        ] {
            let error = open(&file, &ReadOptions { text_field: field.into(), ..Default::default() }).err().unwrap();
            assert!(error.to_string().contains(what), "{error}");
            assert!(error.hint().unwrap().contains("text, id, meta.source"), "{:?}", error.hint());
        }
        std::fs::write(&file.path, "PAR1 this is no parquet file PAR1").unwrap();
        let error = open(&file, &ReadOptions::default()).err().unwrap();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }

    #[test]
    fn a_copy_holds_exactly_what_was_kept() {
        let dir = tempfile::tempdir().unwrap();
        let rows = rows(600);
        let file = write(&dir.path().join("a.parquet"), &rows, 130);
        // Row group 1 is kept whole, 2 is dropped whole, the others lose rows and have texts replaced.
        let fate = |i: u64| match i {
            130..260 => Fate::Keep,
            260..390 => Fate::Drop,
            _ if i % 5 == 1 => Fate::Drop,
            _ if i % 5 == 2 => Fate::Replace(format!("new {i}")),
            _ => Fate::Keep,
        };
        let options = ReadOptions::default();
        let out = dir.path().join("out/a.parquet");
        let mut writer = CorpusWriter::create(&file, &options, &out).unwrap();
        let reader = open(&file, &options).unwrap();
        let mut want = Vec::new();
        for (i, row) in rows.iter().enumerate() {
            let mut row = row.clone();
            match fate(i as u64) {
                Fate::Drop => continue,
                Fate::Keep => writer.keep(&*reader, i as u64).unwrap(),
                Fate::Replace(text) => {
                    writer.replace(&*reader, i as u64, &text).unwrap();
                    row.0 = Some(text.into_bytes());
                }
            }
            want.push(expected(&row, want.len() as u64));
        }
        let written = writer.finish().unwrap();
        assert_eq!(written.records, want.len() as u64);
        let copy = SourceFile { path: out, kind: FileKind::Parquet, bytes: written.bytes };
        let reader = parquet::open_file(&copy).unwrap();
        let original = parquet::open_file(&file).unwrap();
        let schema = |r: &SerializedFileReader<File>| r.metadata().file_metadata().schema_descr().root_schema().clone();
        assert_eq!(schema(&reader), schema(&original));
        assert_eq!(reader.metadata().row_group(0).column(0).compression(), Compression::SNAPPY);
        assert_eq!(read(open(&copy, &options).unwrap()), want);
    }
}
