//! Columns as a Parquet file: flat, named, with nulls; for tables that are in memory whole.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use super::table::column;
use crate::corpus::not_written;
use crate::error::{Error, Result};

/// The values of a column, one a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    Text(Vec<Option<String>>),
    Integer(Vec<Option<i64>>),
    Number(Vec<Option<f64>>),
    Flag(Vec<Option<bool>>),
}

/// Writes columns of equal length; names are letters, digits and `_`. What was at `path` is replaced.
pub fn write(path: &Path, columns: &[(String, Values)]) -> Result<()> {
    let mut schema = String::from("message table {");
    for (name, values) in columns {
        schema += &match values {
            Values::Text(_) => format!("optional binary {name} (UTF8);"),
            Values::Integer(_) => format!("optional int64 {name};"),
            Values::Number(_) => format!("optional double {name};"),
            Values::Flag(_) => format!("optional boolean {name};"),
        };
    }
    schema += "}";
    let failed = not_written(path);
    let schema = parse_message_type(&schema).map_err(&failed)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let file = File::create(path).map_err(Error::io(path, "create"))?;
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).map_err(&failed)?;
    let mut group = writer.next_row_group().map_err(&failed)?;
    for (_, values) in columns {
        match values {
            Values::Text(v) => {
                let bytes = v.iter().map(|t| t.as_ref().map(|t| ByteArray::from(t.as_bytes().to_vec())));
                column::<ByteArrayType>(&mut group, bytes, true)
            }
            Values::Integer(v) => column::<Int64Type>(&mut group, v.iter().copied(), true),
            Values::Number(v) => column::<DoubleType>(&mut group, v.iter().copied(), true),
            Values::Flag(v) => column::<BoolType>(&mut group, v.iter().copied(), true),
        }
        .map_err(&failed)?;
    }
    group.close().map_err(&failed)?;
    writer.close().map(drop).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::parquet::file::reader::{FileReader, SerializedFileReader};

    #[test]
    fn columns_come_back_with_their_nulls() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        let columns = [
            ("id".to_string(), Values::Text(vec![Some("é".into()), None])),
            ("n".to_string(), Values::Integer(vec![None, Some(-3)])),
            ("r_50".to_string(), Values::Number(vec![Some(0.5), Some(f64::MAX)])),
            ("ok".to_string(), Values::Flag(vec![Some(true), None])),
        ];
        write(&path, &columns).unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let rows: Vec<String> = reader.get_row_iter(None).unwrap().map(|r| r.unwrap().to_string()).collect();
        assert_eq!(rows.len(), 2);
        assert!(rows[0].contains("é") && rows[0].contains("n: null") && rows[0].contains("r_50: 0.5"), "{rows:?}");
        assert!(rows[1].contains("id: null") && rows[1].contains("n: -3") && rows[1].contains("ok: null"), "{rows:?}");
    }
}
