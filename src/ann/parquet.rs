//! Vectors in Parquet: ids and vectors in, chunks with their vectors out, some rows at a time.
//!
//! Read: a string (or integer) column of ids and a list column of floats. Written: the columns of [`ChunkRow`] and a list `vector` of
//! required floats, snappy, row groups of 8192. Memory: a row group when writing; when reading, a page a column.

use std::fs::File;
use std::path::Path;

use ::parquet::basic::Compression;
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::record::Field;
use ::parquet::schema::parser::parse_message_type;

use crate::corpus::{not_written, survive};
use crate::error::{Error, Result};

const GROUP: usize = 8192;
const SCHEMA: &str = "message chunks {
    required int32 shard; required int32 document; required binary id (UTF8); required binary path (UTF8);
    required int32 start_byte; required int32 end_byte; required binary text (UTF8);
    required group vector (LIST) { repeated group list { required float element; } } }";

/// A chunk as it is exported. Its vector goes beside it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChunkRow {
    pub shard: u32,
    pub document: u32,
    pub id: String,
    pub path: String,
    pub start_byte: u32,
    pub end_byte: u32,
    pub text: String,
}

fn damaged(path: &Path, error: ParquetError) -> Error {
    Error::Damaged { path: path.to_path_buf(), offset: 0, what: error.to_string() }
}

/// Reads ids and vectors: gives each row's id and vector to `each`, in order; the number of rows.
///
/// # Errors
/// A column that is not there (those there are named) or of another type; a row without an id or vector, with another dimension than
/// the first, or with a value that is not finite: named by its number from 1.
pub fn read_parquet(
    path: &Path,
    id_column: &str,
    vector_column: &str,
    each: &mut dyn FnMut(String, &[f32]) -> Result<()>,
) -> Result<u64> {
    survive(path, || read_rows(path, id_column, vector_column, each))
}

fn read_rows(
    path: &Path,
    id_column: &str,
    vector_column: &str,
    each: &mut dyn FnMut(String, &[f32]) -> Result<()>,
) -> Result<u64> {
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    let reader = SerializedFileReader::new(file).map_err(|e| damaged(path, e))?;
    let schema = reader.metadata().file_metadata().schema();
    let names: Vec<String> = schema.get_fields().iter().map(|f| f.name().to_string()).collect();
    let missing = |name: &str| {
        Error::invalid_hint(
            format!("{}: no column `{name}`", path.display()),
            format!("its columns are {}; name them with --id-column and --vector-column", names.join(", ")),
        )
    };
    let place =
        |name: &str| schema.get_fields().iter().find(|f| f.name() == name).cloned().ok_or_else(|| missing(name));
    let projection = ::parquet::schema::types::Type::group_type_builder(schema.name())
        .with_fields(vec![place(id_column)?, place(vector_column)?])
        .build()
        .map_err(|e| damaged(path, e))?;
    let rows = reader.get_row_iter(Some(projection)).map_err(|e| damaged(path, e))?;
    let (mut vector, mut dim, mut count) = (Vec::new(), None, 0u64);
    for row in rows {
        let row = row.map_err(|e| damaged(path, e))?;
        count += 1;
        let bad = |what: String| Error::Record { path: path.to_path_buf(), line: count, byte: 0, what };
        let (mut id, mut list) = (None, None);
        for (name, field) in row.get_column_iter() {
            match field {
                Field::Str(text) if name == id_column => id = Some(text.clone()),
                Field::Int(n) if name == id_column => id = Some(n.to_string()),
                Field::Long(n) if name == id_column => id = Some(n.to_string()),
                Field::ListInternal(values) if name == vector_column => list = Some(values),
                other => return Err(bad(format!("column `{name}` holds {other}, not an id or a list of floats"))),
            }
        }
        vector.clear();
        for value in list.map_or(&[][..], |l| l.elements()) {
            vector.push(match value {
                Field::Float(x) => *x,
                Field::Double(x) => *x as f32,
                Field::Float16(x) => x.to_f32(),
                other => return Err(bad(format!("column `{vector_column}` holds {other}, not a float"))),
            });
        }
        if let Some(i) = vector.iter().position(|x| !x.is_finite()) {
            return Err(bad(format!("element {i} of `{vector_column}` is {}", vector[i])));
        }
        let expected = *dim.get_or_insert(vector.len());
        if vector.is_empty() || vector.len() != expected {
            return Err(bad(format!("a vector of {} dimensions, {expected} before", vector.len())));
        }
        each(id.ok_or_else(|| bad("no id".into()))?, &vector)?;
    }
    Ok(count)
}

/// Writes chunks and their vectors.
pub struct ParquetWriter {
    path: std::path::PathBuf,
    out: SerializedFileWriter<File>,
    dim: usize,
    rows: Vec<ChunkRow>,
    vectors: Vec<f32>,
}

impl ParquetWriter {
    pub fn create(path: &Path, dim: usize) -> Result<ParquetWriter> {
        super::check_dim(dim, dim)?;
        let file = File::create(path).map_err(Error::io(path, "create"))?;
        let schema = parse_message_type(SCHEMA).map_err(not_written(path))?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let out = SerializedFileWriter::new(file, schema.into(), properties.into()).map_err(not_written(path))?;
        Ok(ParquetWriter { path: path.to_path_buf(), out, dim, rows: Vec::new(), vectors: Vec::new() })
    }

    /// Appends a chunk with its vector of the file's dimension.
    pub fn push(&mut self, row: ChunkRow, vector: &[f32]) -> Result<()> {
        super::check_dim(vector.len(), self.dim)?;
        self.rows.push(row);
        self.vectors.extend_from_slice(vector);
        if self.rows.len() == GROUP { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let path = self.path.clone();
        let rows = std::mem::take(&mut self.rows);
        let vectors = std::mem::take(&mut self.vectors);
        let mut write = || -> std::result::Result<(), ParquetError> {
            let mut group = self.out.next_row_group()?;
            let number = |of: fn(&ChunkRow) -> u32| rows.iter().map(|r| of(r) as i32).collect::<Vec<_>>();
            let text = |of: fn(&ChunkRow) -> &str| rows.iter().map(|r| ByteArray::from(of(r))).collect::<Vec<_>>();
            column::<Int32Type>(&mut group, &number(|r| r.shard), None)?;
            column::<Int32Type>(&mut group, &number(|r| r.document), None)?;
            column::<ByteArrayType>(&mut group, &text(|r| &r.id), None)?;
            column::<ByteArrayType>(&mut group, &text(|r| &r.path), None)?;
            column::<Int32Type>(&mut group, &number(|r| r.start_byte), None)?;
            column::<Int32Type>(&mut group, &number(|r| r.end_byte), None)?;
            column::<ByteArrayType>(&mut group, &text(|r| &r.text), None)?;
            column::<FloatType>(&mut group, &vectors, Some(self.dim))?;
            group.close()?;
            Ok(())
        };
        write().map_err(not_written(&path))
    }

    /// Completes the file and makes it durable.
    pub fn finish(mut self) -> Result<()> {
        if !self.rows.is_empty() {
            self.flush()?;
        }
        let path = self.path.clone();
        let file = self.out.into_inner().map_err(not_written(&path))?;
        file.sync_all().map_err(Error::io(&path, "sync"))
    }
}

/// Writes the next column; `list` says how many values make up a row of a list.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
    list: Option<usize>,
) -> std::result::Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("a column too many".into()));
    };
    match list {
        None => column.typed::<T>().write_batch(values, None, None)?,
        Some(dim) => {
            let defined = vec![1i16; values.len()];
            let repeated: Vec<i16> = (0..values.len()).map(|i| i16::from(i % dim != 0)).collect();
            column.typed::<T>().write_batch(values, Some(&defined), Some(&repeated))?
        }
    };
    column.close()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_bad_rows_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.parquet");
        let mut writer = ParquetWriter::create(&path, 3).unwrap();
        let vector = |i: usize| [i as f32, -0.5, 1.0 / (1 + i) as f32];
        for i in 0..GROUP + 5 {
            writer
                .push(ChunkRow { id: format!("é{i}"), text: "t".repeat(i % 7), ..Default::default() }, &vector(i))
                .unwrap();
        }
        assert!(writer.push(ChunkRow::default(), &[1.0]).is_err());
        writer.finish().unwrap();
        let mut next = 0;
        let count = read_parquet(&path, "id", "vector", &mut |id, v| {
            assert_eq!((id, v), (format!("é{next}"), &vector(next)[..]));
            next += 1;
            Ok(())
        });
        assert_eq!(count.unwrap(), GROUP as u64 + 5);
        let said = |id: &str, column: &str| read_parquet(&path, id, column, &mut |_, _| Ok(())).unwrap_err();
        assert!(said("key", "vector").to_string().contains("no column `key`"));
        assert!(said("key", "vector").hint().unwrap().contains("start_byte"));
        assert!(said("id", "text").to_string().contains("not an id or a list"), "{}", said("id", "text"));
        let mut writer = ParquetWriter::create(&path, 1).unwrap();
        [1.0, f32::NAN].iter().for_each(|x| writer.push(ChunkRow::default(), &[*x]).unwrap());
        writer.finish().unwrap();
        let nan = read_parquet(&path, "id", "vector", &mut |_, _| Ok(())).unwrap_err().to_string();
        assert!(nan.contains("v.parquet:2:") && nan.contains("NaN"), "{nan}");
        std::fs::write(&path, "PAR1 no").unwrap();
        assert!(matches!(read_parquet(&path, "id", "vector", &mut |_, _| Ok(())), Err(Error::Damaged { .. })));
    }
}
