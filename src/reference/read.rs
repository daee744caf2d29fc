//! Readers of benchmark files into a [`ReferenceSet`].
//!
//! JSON Lines, plain, gzip or zstd, in three shapes: our own (`id, question, answer, passage, choices, correct`, any
//! subset), decon's normal form (`eval_key, eval_instance_index, …`, for multiple choice one row per choice), and raw
//! benchmark files through a [`Mapping`]. Items with equal content become one item that keeps every origin. A row that
//! cannot be used is an error that names file and line; an empty reference is an error, never an empty success.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::item::{EvalItem, Origin, ReferenceSet};
use super::mapping::{Mapping, Row, text_of};
use crate::error::{Error, Result};

/// Reads every benchmark file under `paths` (files, or directories searched for `*.jsonl`, `*.json`, and the same with
/// `.gz` or `.zst`), in name order within a directory.
///
/// `mapping`: how raw rows are read; `None` recognises normal form, our own names and the ready mappings by their fields.
///
/// # Errors
/// [`Error::Io`] for unreadable files, [`Error::Record`] with path and line for rows that are no JSON object, fit no
/// mapping or have no text, [`Error::Invalid`] when no item was found at all.
pub fn read(paths: &[PathBuf], mapping: Option<&Mapping>) -> Result<ReferenceSet> {
    let mut files = Vec::new();
    for path in paths {
        collect_files(path, &mut files)?;
    }
    let mut builder = Builder::default();
    for file in &files {
        read_file(file, mapping, &mut builder)?;
    }
    if builder.items.is_empty() {
        let named: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
        return Err(Error::invalid_hint(
            format!("the reference is empty: no eval item in {}", named.join(", ")),
            "name at least one JSON Lines file (.jsonl, .jsonl.gz, .jsonl.zst) with one eval item per line",
        ));
    }
    Ok(builder.finish())
}

fn collect_files(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let kind = std::fs::metadata(path).map_err(Error::io(path, "open"))?;
    if !kind.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in walkdir::WalkDir::new(path).sort_by_file_name() {
        let entry = entry.map_err(|e| {
            let at = e.path().unwrap_or(path).to_path_buf();
            Error::Io { path: at, action: "list", source: e.into() }
        })?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        let stem = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
        if entry.file_type().is_file() && (stem.ends_with(".jsonl") || stem.ends_with(".json")) {
            files.push(entry.into_path());
        }
    }
    Ok(())
}

fn read_file(path: &Path, mapping: Option<&Mapping>, builder: &mut Builder) -> Result<()> {
    let mut reader = open_lines(path)?;
    let mut line = Vec::new();
    let (mut number, mut byte) = (0u64, 0u64);
    let mut rows = Rows::new(benchmark_name(path), path.display().to_string(), mapping.cloned());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(Error::io(path, "read"))?;
        if read == 0 {
            break;
        }
        number += 1;
        let bad = |what: String| Error::Record { path: path.to_path_buf(), line: number, byte, what };
        if !line.iter().all(u8::is_ascii_whitespace) {
            let row = match serde_json::from_slice::<Value>(&line) {
                Ok(Value::Object(row)) => row,
                Ok(_) => return Err(bad("not a JSON object".into())),
                Err(e) => return Err(bad(format!("not JSON: {e}"))),
            };
            rows.add(row, number, builder).map_err(bad)?;
        }
        byte += read as u64;
    }
    Ok(())
}

/// Eval items of rows that are parsed already, such as those of a request; `name` stands for the file they did not come from.
///
/// # Errors
/// [`Error::Invalid`] with the row's number for a row that fits no mapping or has no text, and without any item.
pub fn from_rows(name: &str, rows: Vec<Row>, mapping: Option<&Mapping>) -> Result<ReferenceSet> {
    let mut builder = Builder::default();
    let mut reader = Rows::new(name.to_string(), name.to_string(), mapping.cloned());
    for (number, row) in (1..).zip(rows) {
        reader.add(row, number, &mut builder).map_err(|what| Error::invalid(format!("item {number}: {what}")))?;
    }
    if builder.items.is_empty() {
        return Err(Error::invalid("there is no eval item"));
    }
    Ok(builder.finish())
}

/// Rows of one benchmark file on their way to items.
struct Rows {
    benchmark: String,
    path: String,
    /// As given, or as detected from the first row.
    mapping: Option<Mapping>,
    given: bool,
    /// Items of multiple choice in normal form, by their key: their rows follow one another.
    open: HashMap<(String, String), usize>,
}

impl Rows {
    fn new(benchmark: String, path: String, mapping: Option<Mapping>) -> Rows {
        Rows { benchmark, path, given: mapping.is_some(), mapping, open: HashMap::new() }
    }

    /// Adds the row on 1-based line `number`. What is wrong with it is `Err`.
    fn add(&mut self, row: Row, number: u64, builder: &mut Builder) -> std::result::Result<(), String> {
        builder.rows += 1;
        let mut origin = Origin { path: self.path.clone(), line: number, ..Origin::default() };
        if !self.given && row.contains_key("eval_key") && row.contains_key("eval_instance_index") {
            return normal_form(&row, origin, builder, &mut self.open);
        }
        if self.mapping.is_none() {
            self.mapping = Mapping::detect(&row);
        }
        let Some(used) = &self.mapping else {
            let fields: Vec<&str> = row.keys().map(String::as_str).collect();
            return Err(format!(
                "no question, answer or passage among the fields {}; name them with --map question=FIELD,answer=FIELD",
                fields.join(", ")
            ));
        };
        let (mut item, id) = used.apply(&row)?;
        origin.benchmark = self.benchmark.clone();
        origin.id = id.unwrap_or_else(|| (number - 1).to_string());
        origin.split = row.get("split").and_then(text_of).unwrap_or_default();
        item.origins.push(origin);
        builder.items.push(item);
        Ok(())
    }
}

/// Adds one row of decon's normal form. Rows of the same benchmark, split, config, index and question are choices of
/// one item when they say which choice `is_correct`.
fn normal_form(
    row: &Row,
    mut origin: Origin,
    builder: &mut Builder,
    open: &mut HashMap<(String, String), usize>,
) -> std::result::Result<(), String> {
    let text = |name: &str| row.get(name).and_then(text_of);
    let (question, answer, passage) = (text("question"), text("answer"), text("passage"));
    origin.benchmark = text("eval_key").unwrap_or_default();
    origin.split = text("split").unwrap_or_default();
    let index = text("eval_instance_index").unwrap_or_default();
    let config = text("config").unwrap_or_default();
    origin.id =
        if matches!(config.as_str(), "" | "main" | "all" | "default") { index } else { format!("{config}/{index}") };
    let row_id = text("doc_id").or_else(|| text("fingerprint"));
    origin.row_ids.extend(row_id.clone());
    let is_correct = row.get("is_correct").and_then(Value::as_bool);
    let (Some(is_correct), Some(choice)) = (is_correct, answer.clone()) else {
        let item = EvalItem { origins: vec![origin], question, answer, passage, ..EvalItem::default() };
        if item.is_empty() {
            return Err("eval item without text: question, answer and passage have no letter or digit".into());
        }
        builder.items.push(item);
        return Ok(());
    };
    let key = (
        format!("{}\0{}\0{}", origin.benchmark, origin.split, origin.id),
        format!("{}\0{}", question.as_deref().unwrap_or(""), passage.as_deref().unwrap_or("")),
    );
    let at = *open.entry(key).or_insert_with(|| {
        builder.items.push(EvalItem { question: question.clone(), passage: passage.clone(), ..EvalItem::default() });
        builder.items.len() - 1
    });
    let item = &mut builder.items[at];
    match item.origins.first_mut() {
        Some(first) => first.row_ids.extend(row_id),
        None => item.origins.push(origin),
    }
    if is_correct && item.correct.is_none() {
        item.correct = Some(item.choices.len());
        item.answer = Some(choice.clone());
    }
    item.choices.push(choice);
    if item.is_empty() {
        return Err("eval item without text: question, answer and passage have no letter or digit".into());
    }
    Ok(())
}

/// Items in reading order, merged at the end.
#[derive(Default)]
struct Builder {
    items: Vec<EvalItem>,
    rows: u64,
}

impl Builder {
    fn finish(self) -> ReferenceSet {
        let mut items: Vec<EvalItem> = Vec::with_capacity(self.items.len());
        let mut seen: HashMap<u128, usize> = HashMap::with_capacity(self.items.len());
        for item in self.items {
            let key = content_key(&item);
            match seen.get(&key) {
                Some(&at) => items[at].origins.extend(item.origins),
                None => {
                    seen.insert(key, items.len());
                    items.push(item);
                }
            }
        }
        ReferenceSet { items, rows: self.rows }
    }
}

/// Equal for items whose texts are equal up to white space; choices may come in any order.
fn content_key(item: &EvalItem) -> u128 {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut content = String::new();
    for part in [&item.question, &item.passage] {
        content.push_str(&part.as_deref().map(squeeze).unwrap_or_default());
        content.push('\u{1}');
    }
    if item.choices.is_empty() {
        content.push_str(&item.answer.as_deref().map(squeeze).unwrap_or_default());
    } else {
        let mut choices: Vec<String> = item.choices.iter().map(|c| squeeze(c)).collect();
        choices.sort();
        content.push_str(&choices.join("\u{2}"));
    }
    xxhash_rust::xxh3::xxh3_128(content.as_bytes())
}

fn benchmark_name(path: &Path) -> String {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    name.strip_suffix(".jsonl").or_else(|| name.strip_suffix(".json")).unwrap_or(name).to_string()
}

fn open_lines(path: &Path) -> Result<Box<dyn BufRead>> {
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    let name = path.to_string_lossy().to_lowercase();
    let inner: Box<dyn Read> = if name.ends_with(".gz") {
        Box::new(flate2::read::MultiGzDecoder::new(BufReader::with_capacity(1 << 17, file)))
    } else if name.ends_with(".zst") {
        let mut decoder = zstd::Decoder::new(file).map_err(Error::io(path, "open"))?;
        decoder.window_log_max(31).map_err(Error::io(path, "open"))?;
        Box::new(decoder)
    } else {
        Box::new(file)
    };
    Ok(Box::new(BufReader::with_capacity(1 << 18, inner)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn rows_per_choice_become_one_item_and_copies_are_merged_with_all_ids() {
        let dir = tempfile::tempdir().unwrap();
        let rows = |split: &str, first: u32| {
            ["red", "green", "blue"].iter().enumerate().map(|(i, c)| {
                format!("{{\"eval_key\":\"m\",\"eval_instance_index\":7,\"split\":\"{split}\",\"question\":\"Which?\",\"answer\":\"{c}\",\"doc_id\":{},\"is_correct\":{}}}\n", first + i as u32, i == 1)
            }).collect::<String>()
        };
        let a = file(dir.path(), "a.jsonl", &rows("test", 1));
        let b = file(dir.path(), "b.jsonl", &rows("dev", 11));
        let set = read(&[a, b], None).unwrap();
        assert_eq!((set.items.len(), set.rows), (1, 6));
        let item = &set.items[0];
        assert_eq!(item.choices, ["red", "green", "blue"]);
        assert_eq!((item.correct, item.answer.as_deref()), (Some(1), Some("green")));
        assert_eq!(item.origins.len(), 2);
        assert_eq!(item.origins[1].row_ids, ["11", "12", "13"]);
        assert_eq!((item.origins[1].split.as_str(), item.origins[1].line), ("dev", 1));
    }

    #[test]
    fn a_directory_is_read_in_name_order_whatever_the_compression() {
        let dir = tempfile::tempdir().unwrap();
        file(dir.path(), "b.jsonl", "{\"id\":\"x\",\"question\":\"second\",\"passage\":\"p\"}\n\n");
        let packed = zstd::encode_all(&b"{\"question\":\"first\",\"answer\":\"1\"}\n"[..], 1).unwrap();
        std::fs::write(dir.path().join("a.jsonl.zst"), packed).unwrap();
        file(dir.path(), "notes.txt", "no item");
        let set = read(&[dir.path().to_path_buf()], None).unwrap();
        let origins: Vec<(&str, &str)> =
            set.items.iter().map(|i| (i.origins[0].benchmark.as_str(), i.origins[0].id.as_str())).collect();
        assert_eq!(origins, [("a", "0"), ("b", "x")]);
    }

    #[test]
    fn bad_input_names_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        for (text, what) in [
            ("{\"question\":\"ok\"}\n{\"question\":\" ?! \"}\n", "without text"),
            ("{\"question\":\"ok\"}\n[1]\n", "not a JSON object"),
            ("{\"question\":\"ok\"}\n{\"question\"\n", "not JSON"),
            ("{\"question\":\"ok\"}\n{\"eval_key\":\"k\",\"eval_instance_index\":0}\n", "without text"),
        ] {
            let path = file(dir.path(), "bad.jsonl", text);
            match read(std::slice::from_ref(&path), None) {
                Err(Error::Record { path: at, line: 2, what: found, .. }) => {
                    assert_eq!(at, path);
                    assert!(found.contains(what), "{found}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        let empty = file(dir.path(), "empty.jsonl", "\n");
        assert!(read(&[empty], None).unwrap_err().to_string().contains("empty"));
        assert!(matches!(read(&[dir.path().join("absent")], None), Err(Error::Io { .. })));
        let odd = file(dir.path(), "odd.jsonl", "{\"foo\":1}\n");
        assert!(read(&[odd], None).unwrap_err().to_string().contains("--map"));
    }
}
