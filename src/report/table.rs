//! Report rows as Parquet: one row per document and item.
//!
//! Columns are flat. Lists (components, other places) are the JSON text of the JSONL report; a verdict is three columns of its
//! protocol's (level, score, rule), the rule null where none decided. Row groups of [`GROUP`] rows bound the memory.

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
use crate::decontaminate::Protocol;
use crate::decontaminate::run::Row;
use crate::error::{Error, Result};

/// Rows in a row group.
pub const GROUP: usize = 8192;

/// Writes rows to a Parquet file.
pub struct Table {
    path: PathBuf,
    protocols: Vec<Protocol>,
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
    /// A new file (in place of one that is there) with a level, a score and a rule column for each of `protocols`.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be created.
    pub fn create(path: &Path, protocols: &[Protocol]) -> Result<Table> {
        let mut schema = String::from("message report {");
        for (name, _) in TEXTS {
            schema += &format!("required binary {name} (UTF8);");
        }
        for (name, _) in NUMBERS {
            schema += &format!("required int64 {name};");
        }
        for (name, _) in MAYBE {
            schema += &format!("optional int64 {name};");
        }
        schema += "optional binary label (UTF8); required float contamination_score;";
        for p in protocols.iter().map(|p| p.name()) {
            schema += &format!(
                "optional binary {p}_level (UTF8); optional float {p}_score; optional binary {p}_rule (UTF8);"
            );
        }
        schema += "}";
        let failed = not_written(path);
        let schema = parse_message_type(&schema).map_err(&failed)?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let file = File::create(path).map_err(Error::io(path, "create"))?;
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

/// Columns of the same kind: names and where their values come from.
type Columns<T, const N: usize> = [(&'static str, fn(&Row) -> T); N];

const TEXTS: Columns<String, 12> = [
    ("training_file", |r| r.training_file.clone()),
    ("document_id", |r| r.document_id.clone()),
    ("document_hash", |r| r.document_hash.clone()),
    ("eval_key", |r| r.eval_key.clone()),
    ("eval_instance_index", |r| r.eval_instance_index.clone()),
    ("split", |r| r.split.clone()),
    ("reference_file", |r| r.reference_file.clone()),
    ("level", |r| r.level.name().to_string()),
    ("also", |r| json(&r.also)),
    ("components", |r| json(&r.components)),
    ("training_overlap_text", |r| r.training_text.clone()),
    ("eval_overlap_text", |r| r.eval_text.clone()),
];

const NUMBERS: Columns<u64, 4> = [
    ("training_line", |r| r.training_line),
    ("eval_line", |r| r.eval_line),
    ("training_start", |r| r.training_bytes[0] as u64),
    ("training_end", |r| r.training_bytes[1] as u64),
];

const MAYBE: Columns<Option<u64>, 3> = [
    ("corpus_frequency", |r| r.corpus_frequency),
    ("choices_found", |r| r.choices.map(|c| u64::from(c.0))),
    ("choices_of", |r| r.choices.map(|c| u64::from(c.1))),
];

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn write(writer: &mut SerializedFileWriter<File>, rows: &[Row], protocols: &[Protocol]) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    let text = |t: String| ByteArray::from(t.into_bytes());
    for (_, of) in TEXTS {
        column::<ByteArrayType>(&mut group, rows.iter().map(|r| Some(text(of(r)))), false)?;
    }
    for (_, of) in NUMBERS {
        column::<Int64Type>(&mut group, rows.iter().map(|r| Some(of(r) as i64)), false)?;
    }
    for (_, of) in MAYBE {
        column::<Int64Type>(&mut group, rows.iter().map(|r| of(r).map(|n| n as i64)), true)?;
    }
    column::<ByteArrayType>(&mut group, rows.iter().map(|r| r.label.map(|l| ByteArray::from(l.name()))), true)?;
    column::<FloatType>(&mut group, rows.iter().map(|r| Some(r.contamination_score)), false)?;
    for p in protocols {
        let of = |r: &Row| r.verdicts.get(p).cloned();
        column::<ByteArrayType>(&mut group, rows.iter().map(|r| of(r).map(|v| ByteArray::from(v.level.name()))), true)?;
        column::<FloatType>(&mut group, rows.iter().map(|r| of(r).map(|v| v.score)), true)?;
        let rule = |r: &Row| of(r).filter(|v| !v.rule.is_empty()).map(|v| text(v.rule.into_owned()));
        column::<ByteArrayType>(&mut group, rows.iter().map(rule), true)?;
    }
    group.close().map(drop)
}
