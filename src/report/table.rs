//! Report rows as Parquet: one row per document and item.
//!
//! Columns are flat. Lists (components, other places) are the JSON text of the JSONL report, and every protocol's
//! level and score has a column of its own, null when it was not asked. Row groups of [`GROUP`] rows bound the memory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::parser::parse_message_type;

use crate::corpus::not_written;
use crate::decontaminate::run::Row;
use crate::error::{Error, Result};

/// Rows in a row group.
pub const GROUP: usize = 8192;

/// Writes rows to a Parquet file.
pub struct Table {
    path: PathBuf,
    protocols: Vec<&'static str>,
    writer: SerializedFileWriter<File>,
    rows: Vec<Row>,
}

pub(super) fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: impl Iterator<Item = Option<T::T>>,
    optional: bool,
) -> Result<(), ParquetError> {
    let (mut kept, mut levels) = (Vec::new(), Vec::new());
    for value in values {
        levels.push(value.is_some() as i16);
        kept.extend(value);
    }
    let Some(mut writer) = group.next_column()? else {
        return Err(ParquetError::General("more columns than the schema has".into()));
    };
    writer.typed::<T>().write_batch(&kept, optional.then_some(&levels), None)?;
    writer.close()
}

impl Table {
    /// A new file with a level and a score column for each of `protocols`.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be created.
    pub fn create(path: &Path, protocols: &[&'static str]) -> Result<Table> {
        let text = ["training_file", "document_id", "document_hash", "eval_key", "eval_instance_index", "level"];
        let long = ["also", "components", "training_text", "eval_text"];
        let mut schema = String::from("message report {");
        for name in text.iter().chain(&long) {
            schema += &format!("required binary {name} (UTF8);");
        }
        for name in ["training_line", "training_start", "training_end"] {
            schema += &format!("required int64 {name};");
        }
        schema += "optional int64 corpus_frequency; required float contamination_score;";
        for p in protocols {
            schema += &format!("optional binary {p}_level (UTF8); optional float {p}_score;");
        }
        schema += "}";
        let failed = not_written(path);
        let schema = parse_message_type(&schema).map_err(&failed)?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let file = File::create_new(path).map_err(Error::io(path, "create"))?;
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).map_err(&failed)?;
        Ok(Table { path: path.to_path_buf(), protocols: protocols.to_vec(), writer, rows: Vec::new() })
    }

    /// Takes a row.
    pub fn add(&mut self, row: &Row) -> Result<()> {
        self.rows.push(row.clone());
        if self.rows.len() >= GROUP { self.group() } else { Ok(()) }
    }

    /// Writes what is left and the footer.
    pub fn finish(mut self) -> Result<()> {
        self.group()?;
        let failed = not_written(&self.path);
        self.writer.close().map(drop).map_err(failed)
    }

    fn group(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        let failed = not_written(&self.path);
        write(&mut self.writer, &rows, &self.protocols).map_err(failed)
    }
}

fn write(writer: &mut SerializedFileWriter<File>, rows: &[Row], protocols: &[&str]) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    let json = |v: serde_json::Result<String>| v.unwrap_or_default();
    let texts: [&dyn Fn(&Row) -> String; 10] = [
        &|r| r.training_file.clone(),
        &|r| r.document_id.clone(),
        &|r| r.document_hash.clone(),
        &|r| r.eval_key.clone(),
        &|r| r.eval_instance_index.clone(),
        &|r| r.level.name().to_string(),
        &|r| json(serde_json::to_string(&r.also)),
        &|r| json(serde_json::to_string(&r.components)),
        &|r| r.training_text.clone(),
        &|r| r.eval_text.clone(),
    ];
    for of in texts {
        column::<ByteArrayType>(&mut group, rows.iter().map(|r| Some(ByteArray::from(of(r).into_bytes()))), false)?;
    }
    let numbers: [&dyn Fn(&Row) -> u64; 3] =
        [&|r| r.training_line, &|r| r.training_bytes[0] as u64, &|r| r.training_bytes[1] as u64];
    for of in numbers {
        column::<Int64Type>(&mut group, rows.iter().map(|r| Some(of(r) as i64)), false)?;
    }
    column::<Int64Type>(&mut group, rows.iter().map(|r| r.corpus_frequency.map(|n| n as i64)), true)?;
    column::<FloatType>(&mut group, rows.iter().map(|r| Some(r.contamination_score)), false)?;
    for &p in protocols {
        let levels = rows.iter().map(|r| r.verdicts.get(p).map(|v| ByteArray::from(v.level.name())));
        column::<ByteArrayType>(&mut group, levels, true)?;
        column::<FloatType>(&mut group, rows.iter().map(|r| r.verdicts.get(p).map(|v| v.score)), true)?;
    }
    group.close().map(drop)
}
