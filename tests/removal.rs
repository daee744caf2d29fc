//! `decontaminate --remove document`: what is kept is kept byte for byte, and the manifest accounts for every record.

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;

use common::{fail, run, succeed};
use serde_json::Value;

const QUESTION: &str = "A ferry leaves the island at noon carrying forty crates of oranges and returns at dusk with twelve empty crates. How many crates were delivered to the mainland market that day?";

fn json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Two corpus files, plain and gzip; two of their 41 documents contain the question.
fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let filler =
        |i: usize| format!("Document {i} speaks of weather, roads and the price of timber in year {}.", 1800 + i);
    let line = |i: usize, leak: bool| {
        let text = if leak { format!("{} {QUESTION} The answer follows. {}", filler(i), filler(i)) } else { filler(i) };
        format!("{{\"id\":\"{i}\",  \"text\":{}, \"n\":{i}}}\n", serde_json::json!(text))
    };
    let plain: String = (0..20).map(|i| line(i, i == 7)).collect();
    fs::write(dir.path().join("a.jsonl"), plain).unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all((20..41).map(|i| line(i, i == 33)).collect::<String>().as_bytes()).unwrap();
    fs::write(dir.path().join("b.jsonl.gz"), gz.finish().unwrap()).unwrap();
    let item = serde_json::json!({"id": "ferry", "question": QUESTION, "answer": "twenty-eight crates"});
    let other = serde_json::json!({"id": "clock", "question": "Which of the four tower clocks in the old town of Brunnfels was the first to strike thirteen, according to the sexton's diary?", "answer": "The one on the mill gate"});
    fs::write(dir.path().join("items.jsonl"), format!("{item}\n{other}\n")).unwrap();
    dir
}

const BASE: [&str; 6] = ["decontaminate", "--reference", "items.jsonl", "--corpus", "a.jsonl", "b.jsonl.gz"];

#[test]
fn every_record_is_accounted_for() {
    let dir = place();
    let found: Value =
        serde_json::from_str(&succeed(dir.path(), &[&BASE[..], &["--format", "json"]].concat())).unwrap();
    assert_eq!((&found["documents"], &found["dirty_documents"], &found["items"]), (&41.into(), &2.into(), &2.into()));
    assert_eq!(run(dir.path(), &[&BASE[..], &["--check"]].concat()).code, Some(1));

    let remove = [&BASE[..], &["--remove", "document", "--out", "clean"]].concat();
    let told = succeed(dir.path(), &[&remove[..], &["--dry-run"]].concat());
    assert!(told.contains("41 records in = 39 kept + 2 removed"), "{told}");
    assert!(!dir.path().join("clean").exists());
    succeed(dir.path(), &remove);
    let manifest = json(dir.path().join("clean/manifest.json"));
    let total = |field: &str| manifest[field].as_u64().unwrap();
    assert_eq!((total("records_in"), total("kept"), total("removed")), (41, 39, 2));
    for (file, removed) in manifest["files"].as_array().unwrap().iter().zip([7, 33 - 20]) {
        let number = |field: &str| file[field].as_u64().unwrap();
        assert_eq!(number("records_in"), number("kept") + number("removed"), "{file}");
        assert_eq!(number("removed"), 1, "record {removed}");
    }

    // What is kept is the original line, in order; what is removed is the two leaks.
    let lines = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().lines().map(String::from).collect::<Vec<_>>();
    let unpacked = |path: &Path| {
        let mut out = Vec::new();
        std::io::copy(&mut flate2::read::MultiGzDecoder::new(fs::File::open(path).unwrap()), &mut out).unwrap();
        out
    };
    let mut before = lines(&fs::read(dir.path().join("a.jsonl")).unwrap());
    before.remove(7);
    assert_eq!(lines(&fs::read(dir.path().join("clean/corpus/a.jsonl")).unwrap()), before);
    let mut before = lines(&unpacked(&dir.path().join("b.jsonl.gz")));
    before.remove(13);
    assert_eq!(lines(&unpacked(&dir.path().join("clean/corpus/b.jsonl.gz"))), before);

    // The report says which item, which component, which characters.
    let report = fs::read_to_string(dir.path().join("clean/report.jsonl")).unwrap();
    let rows: Vec<Value> = report.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|r| r["eval_instance_index"] == "ferry" && r["level"] == "dirty"), "{report}");
    let numbers: Vec<u64> = rows.iter().map(|r| r["training_line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [7, 13]);

    // A second check of what was kept finds nothing.
    let again = ["decontaminate", "--reference", "items.jsonl", "--corpus", "clean/corpus", "--check"];
    assert_eq!(run(dir.path(), &again).code, Some(0));
    fail(dir.path(), &remove, "clean: the directory is not empty", "nothing is overwritten");
}

#[test]
fn the_index_and_the_files_give_the_same_findings() {
    let dir = place();
    succeed(dir.path(), &["build", "--index", "ix", "a.jsonl", "b.jsonl.gz"]);
    let rows = |arguments: &[&str]| -> Vec<(String, u64, String)> {
        let out = succeed(dir.path(), arguments);
        let row = |l: &str| serde_json::from_str::<Value>(l).unwrap();
        let field = |r: &Value, f: &str| r[f].as_str().unwrap_or_default().to_string();
        let all = out.lines().map(row);
        all.map(|r| (field(&r, "training_file"), r["training_line"].as_u64().unwrap(), field(&r, "level"))).collect()
    };
    let mut files = rows(&[&BASE[..], &["--format", "jsonl"]].concat());
    let mut index = rows(&["decontaminate", "--reference", "items.jsonl", "--index", "ix", "--format", "jsonl"]);
    files.sort();
    index.sort();
    assert_eq!(files.len(), 2);
    assert_eq!(files, index);
}

#[test]
fn bad_input() {
    let dir = place();
    let with = |more: &[&str], message: &str, hint: &str| fail(dir.path(), &[&BASE[..], more].concat(), message, hint);
    with(&["--remove", "document"], "--remove needs --out DIR", "--dry-run");
    with(&["--protocol", "gpt9"], "gpt9", "");
    with(&["--set", "gpt3.x=1"], "gpt3", "");
    fs::write(dir.path().join("empty.jsonl"), "").unwrap();
    fs::write(dir.path().join("broken.jsonl"), "{\"question\": \n").unwrap();
    for (path, message) in
        [("empty.jsonl", "empty.jsonl"), ("broken.jsonl", "broken.jsonl:1"), ("none.jsonl", "none.jsonl")]
    {
        fail(dir.path(), &["decontaminate", "--reference", path, "--corpus", "a.jsonl"], message, "");
    }
    fail(
        dir.path(),
        &["decontaminate", "--reference", "items.jsonl", "--remove", "document", "--out", "o"],
        "--remove needs the corpus files",
        "--corpus",
    );
    // One damaged file does not hide the others, and is an error.
    let whole = fs::read(dir.path().join("b.jsonl.gz")).unwrap();
    fs::write(dir.path().join("b.jsonl.gz"), &whole[..whole.len() / 2]).unwrap();
    let run = run(dir.path(), &BASE);
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert!(run.err.contains("b.jsonl.gz: not checked to the end") && run.out.contains("dirty"), "{}", run.err);
}
