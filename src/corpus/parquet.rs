//! Parquet, read without Arrow: only the columns that are needed, a few rows at a time.
//!
//! Columns without repetition (the text, the id, plain metadata) are decoded straight from their pages; repeated ones
//! (lists, maps) go through the crate's record assembly. Memory: one page and one batch of [`BATCH_ROWS`] values a column.

use std::fs::File;
use std::path::Path;

use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::{ByteArray, DataType};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::reader::RowIter;
use ::parquet::schema::types::{ColumnDescPtr, SchemaDescriptor, Type};
use serde_json::Value;

use super::{CorpusReader, Document, ReadOptions, SourceFile, fields, parquet_value as value};
use crate::error::{Error, Result, contain};

/// Rows decoded at a time: texts are large, and a batch of them is in memory.
const BATCH_ROWS: usize = 64;

pub(super) struct ParquetReader {
    file: SourceFile,
    path: String,
    reader: SerializedFileReader<File>,
    text_field: String,
    text: Column,
    id: Option<Column>,
    metadata: Vec<Column>,
    /// Repeated top-level fields kept as metadata.
    repeated: Option<RowIter<'static>>,
    /// Whether nested metadata goes under its dotted path (asked for by name) or into objects (everything kept).
    dotted: bool,
    row_group: usize,
    /// Rows of the open row group not yet decoded, and of the decoded batch not yet returned.
    rows_left: u64,
    batch_left: usize,
    batch_at: usize,
    next_record: u64,
    bytes: u64,
    ended: bool,
}

/// One column being read.
struct Column {
    leaf: usize,
    descr: ColumnDescPtr,
    path: Vec<String>,
    reader: Option<ColumnReader>,
    batch: Vec<Option<Cell>>,
}

enum Cell {
    Bytes(ByteArray),
    Json(Value),
}

impl Cell {
    fn into_json(self) -> Value {
        match self {
            Cell::Bytes(b) => value::from_bytes(b.data()),
            Cell::Json(v) => v,
        }
    }
}

/// Opens the file and its footer.
pub(super) fn open_file(file: &SourceFile) -> Result<SerializedFileReader<File>> {
    let opened = File::open(&file.path).map_err(Error::io(&file.path, "open"))?;
    SerializedFileReader::new(opened).map_err(|e| damaged(file, 0, e))
}

/// Runs what reads a Parquet file. The library for it panics on some files whose structure contradicts itself; here that is damage.
pub(crate) fn survive<T>(path: &std::path::Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    contain(read).unwrap_or_else(|| {
        let what = "not usable as Parquet: its structure contradicts itself".into();
        Err(Error::Damaged { path: path.to_path_buf(), offset: 0, what })
    })
}

/// The same within the library's own errors.
fn unpanicked<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    contain(read).unwrap_or_else(|| Err(ParquetError::General("its structure contradicts itself".into())))
}

pub(super) fn damaged(file: &SourceFile, offset: u64, error: ParquetError) -> Error {
    Error::Damaged { path: file.path.clone(), offset, what: format!("not usable as Parquet: {error}") }
}

/// The failure of reading or writing that a Parquet error wraps, if it wraps one.
pub(super) fn io_cause(error: ParquetError) -> std::result::Result<std::io::Error, ParquetError> {
    match error {
        ParquetError::External(inner) => {
            inner.downcast::<std::io::Error>().map(|source| *source).map_err(ParquetError::External)
        }
        other => Err(other),
    }
}

/// What to make of an error while the file at `path` is written.
pub(crate) fn not_written(path: &Path) -> impl Fn(ParquetError) -> Error + use<> {
    let path = path.to_path_buf();
    move |error| {
        let source = io_cause(error).unwrap_or_else(std::io::Error::other);
        Error::Io { path: path.clone(), action: "write", source }
    }
}

/// The leaf column that holds the text.
pub(super) fn text_leaf(file: &SourceFile, schema: &SchemaDescriptor, text_field: &str) -> Result<usize> {
    let names: Vec<String> = schema.columns().iter().map(|c| c.path().string()).collect();
    let hint =
        || format!("name the column that holds the text with --text-field; the columns are: {}", names.join(", "));
    let Some(leaf) = names.iter().position(|n| n == text_field) else {
        let what = format!("{}: there is no column `{text_field}`", file.path.display());
        return Err(Error::invalid_hint(what, hint()));
    };
    let descr = schema.column(leaf);
    if descr.physical_type() != ::parquet::basic::Type::BYTE_ARRAY || descr.max_rep_level() > 0 {
        let what = format!("{}: column `{text_field}` does not hold one string a row", file.path.display());
        return Err(Error::invalid_hint(what, hint()));
    }
    Ok(leaf)
}

impl ParquetReader {
    pub(super) fn open(file: &SourceFile, options: &ReadOptions) -> Result<Self> {
        let reader = open_file(file)?;
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let text_at = text_leaf(file, &schema, &options.text_field)?;
        let column = |leaf: usize| Column {
            leaf,
            descr: schema.column(leaf),
            path: schema.column(leaf).path().parts().to_vec(),
            reader: None,
            batch: Vec::new(),
        };
        let mut id = None;
        let mut metadata = Vec::new();
        let mut repeated_roots = Vec::new();
        for leaf in 0..schema.num_columns() {
            let path = schema.column(leaf).path().string();
            let flat = schema.column(leaf).max_rep_level() == 0;
            let is_id = path == options.id_field && flat;
            if is_id {
                id = Some(column(leaf));
            }
            let wanted = match &options.metadata_fields {
                None => leaf != text_at && !is_id,
                Some(fields) => fields
                    .iter()
                    .any(|f| path == *f || path.strip_prefix(f.as_str()).is_some_and(|r| r.starts_with('.'))),
            };
            if wanted && flat {
                metadata.push(column(leaf));
            } else if wanted {
                let root = schema.get_column_root(leaf).name().to_string();
                if !repeated_roots.contains(&root) {
                    repeated_roots.push(root);
                }
            }
        }
        let repeated =
            if repeated_roots.is_empty() { None } else { Some(repeated_rows(file, &schema, &repeated_roots)?) };
        Ok(Self {
            path: file.path.to_string_lossy().into_owned(),
            file: file.clone(),
            text_field: options.text_field.clone(),
            text: column(text_at),
            reader,
            id,
            metadata,
            repeated,
            dotted: options.metadata_fields.is_some(),
            row_group: 0,
            rows_left: 0,
            batch_left: 0,
            batch_at: 0,
            next_record: 0,
            bytes: 0,
            ended: false,
        })
    }

    /// Decodes the next batch; `false` at the end of the file.
    fn refill(&mut self) -> Result<bool, ParquetError> {
        while self.rows_left == 0 {
            if self.row_group == self.reader.num_row_groups() {
                return Ok(false);
            }
            let group = self.reader.get_row_group(self.row_group)?;
            self.row_group += 1;
            self.rows_left = u64::try_from(group.metadata().num_rows()).unwrap_or(0);
            for column in [&mut self.text].into_iter().chain(&mut self.id).chain(&mut self.metadata) {
                let stored = group.metadata().column(column.leaf).compressed_size();
                self.bytes += u64::try_from(stored).unwrap_or(0);
                column.reader = Some(group.get_column_reader(column.leaf)?);
            }
        }
        let rows = (self.rows_left.min(BATCH_ROWS as u64)) as usize;
        for column in [&mut self.text].into_iter().chain(&mut self.id).chain(&mut self.metadata) {
            column.read(rows)?;
        }
        self.rows_left -= rows as u64;
        self.batch_left = rows;
        self.batch_at = 0;
        Ok(true)
    }

    fn fill(&mut self, doc: &mut Document) -> Result<Result<(), String>, ParquetError> {
        let at = self.batch_at;
        self.batch_at += 1;
        self.batch_left -= 1;
        doc.metadata.clear();
        for column in &mut self.metadata {
            let cell = column.batch[at].take().map_or(Value::Null, Cell::into_json);
            if self.dotted {
                doc.metadata.insert(column.path.join("."), cell);
            } else {
                fields::insert_at(&mut doc.metadata, &column.path, cell);
            }
        }
        if let Some(rows) = &mut self.repeated {
            let shorter = || Err(ParquetError::EOF("a repeated column is shorter than the text".into()));
            let row = unpanicked(|| rows.next().unwrap_or_else(shorter))?;
            for (name, field) in row.get_column_iter() {
                match (value::from_field(field), doc.metadata.get_mut(name)) {
                    // A group with both plain and repeated members is read from both sides.
                    (Value::Object(more), Some(Value::Object(have))) => have.extend(more),
                    (other, _) => {
                        doc.metadata.insert(name.clone(), other);
                    }
                }
            }
        }
        doc.id.clear();
        if let Some(id) = self.id.as_mut().and_then(|c| c.batch[at].take()) {
            fields::set_id(&id.into_json(), &mut doc.id);
        }
        if doc.id.is_empty() {
            use std::fmt::Write as _;
            let _ = write!(doc.id, "{}:{}", self.path, doc.record);
        }
        doc.text.clear();
        Ok(match self.text.batch[at].take() {
            Some(Cell::Bytes(bytes)) => match std::str::from_utf8(bytes.data()) {
                Ok(text) => {
                    doc.text.push_str(text);
                    Ok(())
                }
                Err(e) => Err(format!("invalid UTF-8 at byte {} of column `{}`", e.valid_up_to(), self.text_field)),
            },
            _ => Err(format!("column `{}` is null", self.text_field)),
        })
    }
}

/// Rows of the top-level fields `names`, through the crate's record assembly.
fn repeated_rows(file: &SourceFile, schema: &SchemaDescriptor, names: &[String]) -> Result<RowIter<'static>> {
    let project = || {
        let fields = schema.root_schema().get_fields().iter().filter(|f| names.iter().any(|n| n == f.name()));
        let fields = fields.map(|f| value::untyped(f).map(std::sync::Arc::new)).collect::<Result<Vec<_>, _>>()?;
        Type::group_type_builder(schema.root_schema().name()).with_fields(fields).build()
    };
    let projection = project().map_err(|e| damaged(file, 0, e))?;
    let rows = RowIter::from_file_into(Box::new(open_file(file)?)).with_batch_size(BATCH_ROWS);
    rows.project(Some(projection)).map(|r| r.with_batch_size(BATCH_ROWS)).map_err(|e| damaged(file, 0, e))
}

impl Column {
    /// Decodes exactly `rows` values into the batch.
    fn read(&mut self, rows: usize) -> Result<(), ParquetError> {
        self.batch.clear();
        let (batch, descr) = (&mut self.batch, &self.descr);
        match &mut self.reader {
            None => {}
            Some(ColumnReader::BoolColumnReader(r)) => {
                read_cells(r, descr, rows, batch, |v| Cell::Json(Value::Bool(v)))?
            }
            Some(ColumnReader::Int32ColumnReader(r)) => {
                read_cells(r, descr, rows, batch, |v| Cell::Json(value::from_i32(descr, v)))?;
            }
            Some(ColumnReader::Int64ColumnReader(r)) => {
                read_cells(r, descr, rows, batch, |v| Cell::Json(value::from_i64(descr, v)))?;
            }
            Some(ColumnReader::Int96ColumnReader(r)) => {
                read_cells(r, descr, rows, batch, |v| Cell::Json(value::from_millis(v.to_millis())))?;
            }
            Some(ColumnReader::FloatColumnReader(r)) => {
                read_cells(r, descr, rows, batch, |v| Cell::Json(value::from_f64(f64::from(v))))?;
            }
            Some(ColumnReader::DoubleColumnReader(r)) => {
                read_cells(r, descr, rows, batch, |v| Cell::Json(value::from_f64(v)))?;
            }
            Some(ColumnReader::ByteArrayColumnReader(r)) => read_cells(r, descr, rows, batch, Cell::Bytes)?,
            Some(ColumnReader::FixedLenByteArrayColumnReader(r)) => {
                read_cells(r, descr, rows, batch, |v| Cell::Json(value::from_bytes(v.data())))?;
            }
        }
        if self.batch.len() == rows {
            return Ok(());
        }
        Err(ParquetError::EOF(format!("column `{}` ends before its row group", self.path.join("."))))
    }
}

/// Reads `rows` values of a column without repetition, nulls included.
fn read_cells<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    descr: &ColumnDescPtr,
    rows: usize,
    batch: &mut Vec<Option<Cell>>,
    cell: impl Fn(T::T) -> Cell,
) -> Result<(), ParquetError> {
    let defined = descr.max_def_level();
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let (read, _, _) = reader.read_records(rows, Some(&mut levels), None, &mut values)?;
    let mut values = values.into_iter();
    for i in 0..read {
        let present = defined == 0 || levels.get(i) == Some(&defined);
        batch.push(if present { values.next().map(&cell) } else { None });
    }
    Ok(())
}

impl CorpusReader for ParquetReader {
    fn next(&mut self, doc: &mut Document) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        if self.batch_left == 0 {
            match unpanicked(|| self.refill()) {
                Ok(true) => {}
                Ok(false) => {
                    self.ended = true;
                    self.bytes = self.file.bytes;
                    return Ok(false);
                }
                Err(e) => {
                    self.ended = true;
                    return Err(damaged(&self.file, self.bytes, e));
                }
            }
        }
        doc.path.clone_from(&self.path);
        doc.record = self.next_record;
        self.next_record += 1;
        match self.fill(doc) {
            Ok(Ok(())) => Ok(true),
            Ok(Err(what)) => Err(Error::Record { path: self.file.path.clone(), line: doc.record + 1, byte: 0, what }),
            Err(e) => {
                self.ended = true;
                Err(damaged(&self.file, self.bytes, e))
            }
        }
    }

    fn raw(&self) -> Option<&[u8]> {
        None
    }

    fn bytes_read(&self) -> u64 {
        self.bytes
    }
}
