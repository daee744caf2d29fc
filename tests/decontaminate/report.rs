//! What a run reports: Parquet read back, the page, the summary's words, and the same of a divided run.

use std::fs::{self, File};
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Value, json};

use crate::common::succeed;
use crate::{RUN, divided, read, rows, two_parts};

/// Rows of a Parquet file as JSON.
fn table(path: &Path) -> Vec<Value> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let value = |field: &Field| match field {
        Field::Null => Value::Null,
        Field::Str(text) => json!(text),
        Field::Long(n) => json!(n),
        Field::Float(x) => json!(x),
        other => panic!("unexpected {other:?}"),
    };
    let row = |row: parquet::record::Row| row.get_column_iter().map(|(name, f)| (name.clone(), value(f))).collect();
    reader.get_row_iter(None).unwrap().map(|r| Value::Object(row(r.unwrap()))).collect()
}

/// What the Parquet row of a line of the report must be.
fn flat(line: &Value, protocols: &[&str]) -> Value {
    let mut out = serde_json::Map::new();
    let or = |name: &str, other: Value| line.get(name).cloned().unwrap_or(other);
    for name in
        ["training_file", "document_id", "document_hash", "eval_key", "eval_instance_index", "reference_file", "level"]
    {
        out.insert(name.into(), line[name].clone());
    }
    out.insert("split".into(), or("split", json!("")));
    for name in ["training_overlap_text", "eval_overlap_text", "training_line", "eval_line"] {
        out.insert(name.into(), line[name].clone());
    }
    for name in ["also", "components"] {
        out.insert(name.into(), json!(or(name, json!([])).to_string()));
    }
    out.insert("training_start".into(), line["training_bytes"][0].clone());
    out.insert("training_end".into(), line["training_bytes"][1].clone());
    out.insert("corpus_frequency".into(), or("corpus_frequency", Value::Null));
    out.insert("label".into(), or("label", Value::Null));
    let choices = or("choices", json!([null, null]));
    out.insert("choices_found".into(), choices[0].clone());
    out.insert("choices_of".into(), choices[1].clone());
    out.insert("contamination_score".into(), line["contamination_score"].clone());
    for p in protocols {
        let verdict = &line["verdicts"][*p];
        out.insert(format!("{p}_level"), verdict["level"].clone());
        out.insert(format!("{p}_score"), verdict["score"].clone());
        out.insert(format!("{p}_rule"), verdict.get("rule").cloned().unwrap_or(Value::Null));
    }
    Value::Object(out)
}

/// Scores in JSON Lines are the shortest decimal of a 32-bit number.
fn rounded(value: &Value) -> Value {
    let object = value.as_object().unwrap().iter().map(|(name, v)| {
        let v = match v.as_f64().filter(|_| v.is_f64()) {
            Some(x) => json!((x * 1e6).round() / 1e6),
            None => v.clone(),
        };
        (name.clone(), v)
    });
    Value::Object(object.collect())
}

#[test]
fn parquet_has_every_field_of_the_lines() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    two_parts(dir);
    let choice = json!({"id": "hare", "question": "Which animal of the four was painted on the inn's crooked sign?",
        "choices": ["a hare in boots", "a fox with a lantern", "two herons", "a sleeping bear"], "correct": 1});
    fs::write(dir.join("more.jsonl"), choice.to_string()).unwrap();
    let leak = "Quiz night.\n\nWhich animal of the four was painted on the inn's crooked sign?\n(a) two herons\n(b) a sleeping bear\n(c) a fox with a lantern\n";
    fs::write(dir.join("in/c.jsonl"), json!({"id": "quiz", "text": leak}).to_string()).unwrap();
    succeed(dir, &["-q", "build", "--index", "ix", "in"]);
    let base = ["decontaminate", "--reference", "items.jsonl", "more.jsonl", "--corpus", "in", "--index", "ix"];
    succeed(dir, &[&base[..], &["--protocol", "all", "--out", "out"]].concat());
    let lines = rows(&fs::read_to_string(dir.join("out/report.jsonl")).unwrap());
    let table = table(&dir.join("out/report.parquet"));
    let protocols = [
        "priorart",
        "gpt3",
        "gpt4",
        "palm",
        "llama2",
        "llama3",
        "tulu3",
        "datatrove",
        "dolma",
        "decon",
        "mathpile",
        "contam",
    ];
    assert_eq!((lines.len(), table.len()), (5, 5));
    for (line, row) in lines.iter().zip(&table) {
        let (expected, found) = (rounded(&flat(line, &protocols)), rounded(row));
        let (expected, found) = (expected.as_object().unwrap(), found.as_object().unwrap());
        for (name, value) in found {
            assert_eq!(Some(value), expected.get(name), "{name}");
        }
        assert_eq!(found.len(), expected.len());
    }
    let quiz = table.iter().find(|r| r["eval_instance_index"] == "hare").unwrap();
    assert_eq!((&quiz["choices_found"], &quiz["choices_of"]), (&3.into(), &4.into()));
    assert!(table.iter().all(|r| r["priorart_rule"].is_string() && r["components"].as_str().unwrap().contains("document_frequency")));
}

#[test]
fn a_joined_report_has_the_same_table_and_page() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    two_parts(dir);
    let all = [&RUN[..], &["--protocol", "all"]].concat();
    succeed(dir, &[&all[..], &["--out", "whole"]].concat());
    for task in ["0", "1", "2"] {
        succeed(dir, &divided(&all, task));
    }
    succeed(dir, &["decontaminate", "--join", "parts"]);
    assert_eq!(table(&dir.join("parts/report.parquet")), table(&dir.join("whole/report.parquet")));
    let page = |of: &str| fs::read_to_string(dir.join(of).join("report.html")).unwrap();
    assert!(page("parts") == page("whole"));
    assert!(page("whole").matches("<article").count() >= 4);
}

#[test]
fn clean_suspect_and_dirty_are_the_first_protocols_and_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    two_parts(dir);
    let summary = |protocols: &str| {
        let out = protocols.replace(',', "-");
        let told = succeed(dir, &[&RUN[..], &["--protocol", protocols, "--out", &out]].concat());
        (told, read(dir.join(out).join("summary.json")))
    };
    // decon hides the question-only leaks behind its weighted sum; priorart does not.
    let (told, of) = summary("decon,priorart");
    assert!(told.contains("0 documents contain at least one item that decon calls dirty"), "{told}");
    assert!(told.contains("items by the verdict of decon, then those dirty under each protocol"), "{told}");
    assert_eq!(
        (&of["benchmarks"][0]["dirty"], &of["benchmarks"][0]["dirty_by_protocol"]["priorart"]),
        (&0.into(), &2.into())
    );
    let (told, of) = summary("priorart,decon");
    assert!(told.contains("3 documents contain at least one item that priorart calls dirty"), "{told}");
    assert_eq!((&of["dirty_documents"], &of["benchmarks"][0]["dirty"]), (&3.into(), &2.into()));
}
