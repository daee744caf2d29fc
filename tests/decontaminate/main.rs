//! `decontaminate` and `reference` as a user runs them: compiled references, divided runs, spans and both directions here; what is
//! reported, reviews and studies, failures, and the defects other tools have, in files of their own.

#[path = "../common/mod.rs"]
mod common;
mod defects;
mod failures;
mod peers;
mod report;
mod review;

use std::fs;
use std::path::Path;

use common::{fail, run, succeed};
use serde_json::{Value, json};

const FERRY: &str = "A ferry leaves the island at noon carrying forty crates of oranges and returns at dusk with twelve empty crates. How many crates were delivered to the mainland market that day?";
const CLOCK: &str = "Which of the four tower clocks in the old town of Brunnfels was the first to strike thirteen, according to the sexton's diary?";

fn items(dir: &Path) {
    let rows = [
        json!({"id": "ferry", "question": FERRY, "answer": "Twenty-eight crates were delivered, because forty left the island harbour and only twelve of them came back empty that evening."}),
        json!({"id": "clock", "question": CLOCK, "answer": "The one on the mill gate"}),
    ];
    fs::write(dir.join("items.jsonl"), rows.map(|r| r.to_string() + "\n").concat()).unwrap();
}

fn filler(i: usize) -> String {
    format!("Document {i} speaks of weather, roads and the price of timber in year {}.", 1800 + i)
}

/// A JSON Lines file of these texts.
fn corpus(path: &Path, texts: &[String]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let line = |(i, text): (usize, &String)| json!({"id": format!("d{i}"), "text": text, "n": i}).to_string() + "\n";
    fs::write(path, texts.iter().enumerate().map(line).collect::<String>()).unwrap();
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn read(path: impl AsRef<Path>) -> Value {
    value(&fs::read_to_string(path).unwrap())
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(value).collect()
}

/// Ten documents in each of two folders with a `part-0.jsonl`; dirty are a:3 (ferry), b:3 (clock) and b:7 (both).
fn two_parts(dir: &Path) {
    items(dir);
    let mut a: Vec<String> = (0..10).map(filler).collect();
    let mut b: Vec<String> = (10..20).map(filler).collect();
    a[3] = format!("{} {FERRY} {}", filler(3), filler(4));
    b[3] = format!("{}\n{CLOCK}", filler(5));
    b[7] = format!("{FERRY}\n\n{}\n\n{CLOCK} {}", filler(6), FERRY.to_uppercase());
    corpus(&dir.join("in/a/part-0.jsonl"), &a);
    corpus(&dir.join("in/b/part-0.jsonl"), &b);
}

/// Arguments that check `in` against these references.
fn checking<'a>(references: &[&'a str]) -> Vec<&'a str> {
    [&["decontaminate", "--corpus", "in", "--reference"], references].concat()
}

/// Arguments of one of three tasks of a run.
fn divided<'a>(run: &[&'a str], task: &'a str) -> Vec<&'a str> {
    [run, &["--out", "parts", "--task", task, "--tasks", "3"]].concat()
}

const RUN: [&str; 5] = ["decontaminate", "--reference", "items.jsonl", "--corpus", "in"];

#[test]
fn a_compiled_reference_gives_the_same_report() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    two_parts(dir);
    let build = ["reference", "build", "--reference", "items.jsonl", "--out", "items.priorart-ref", "--format", "json"];
    let made = value(&succeed(dir, &build));
    assert_eq!((&made["items"], &made["rows"], &made["benchmarks"]["items"]), (&2.into(), &2.into(), &2.into()));
    let info = value(&succeed(dir, &["reference", "info", "items.priorart-ref", "--format", "json"]));
    assert_eq!(info, made);
    fail(dir, &build, "items.priorart-ref: the file exists already", "nothing is overwritten");

    let report = |reference: &str| {
        let arguments =
            ["decontaminate", "--protocol", "all", "--format", "jsonl", "--corpus", "in", "--reference", reference];
        succeed(dir, &arguments)
    };
    assert_eq!(report("items.priorart-ref"), report("items.jsonl"));
    assert_eq!(
        rows(&report("items.jsonl")).iter().filter(|r| r["verdicts"]["priorart"]["level"] == "dirty").count(),
        4
    );

    fail(dir, &checking(&["items.priorart-ref", "items.jsonl"]), "takes no other files", "name it alone");
    fail(dir, &checking(&["items.priorart-ref", "--map", "question=text"]), "no mapping", "name it alone");
    let mut bytes = fs::read(dir.join("items.priorart-ref")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    bytes[middle + 64] ^= 0xff;
    fs::write(dir.join("bad.priorart-ref"), &bytes).unwrap();
    fail(dir, &checking(&["bad.priorart-ref"]), "bad.priorart-ref", "");
    fs::write(dir.join("empty.jsonl"), "").unwrap();
    fail(dir, &checking(&["empty.jsonl"]), "the reference is empty", "one eval item per line");
    fail(dir, &["reference", "build", "--reference", "empty.jsonl", "--out", "x"], "the reference is empty", "");
    assert!(!dir.join("x").exists());
    fs::write(dir.join("blank.jsonl"), "{\"id\":\"x\",\"question\":\" \"}\n").unwrap();
    fail(dir, &checking(&["blank.jsonl"]), "blank.jsonl", "");
    fail(dir, &["reference", "info", "items.jsonl"], "not a compiled reference", "reference build");
}

#[test]
fn tasks_joined_are_the_undivided_run() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    two_parts(dir);
    let remove = [&RUN[..], &["--protocol", "priorart,gpt3", "--remove", "document"]].concat();
    succeed(dir, &[&remove[..], &["--out", "whole"]].concat());
    fail(dir, &divided(&remove, "3"), "there is no task 3 of 3", "0 to 2");
    succeed(dir, &divided(&remove, "2"));
    fail(dir, &divided(&remove, "2"), "is not empty", "nothing is overwritten");
    fail(dir, &["decontaminate", "--join", "parts"], "task 0 of 3 is missing", "run it");
    succeed(dir, &divided(&remove, "0"));
    succeed(dir, &divided(&remove, "1"));
    succeed(dir, &["decontaminate", "--join", "parts"]);

    let text = |path: &str| fs::read_to_string(dir.join(path)).unwrap();
    assert_eq!(text("parts/report.jsonl"), text("whole/report.jsonl"));
    let (mut parts, mut whole) = (read(dir.join("parts/summary.json")), read(dir.join("whole/summary.json")));
    assert_eq!(whole["benchmarks"][0]["dirty"], 2);
    for summary in [&mut parts, &mut whole] {
        for file in summary["removal"]["files"].as_array_mut().unwrap() {
            file["output"] = Value::Null;
        }
    }
    assert_eq!(parts, whole);
    // Every file is in exactly one task, whose copy of it is the same.
    for file in read(dir.join("parts/manifest.json"))["files"].as_array().unwrap() {
        let output = file["output"].as_str().unwrap();
        let place = &output[output.find("/corpus/").unwrap()..];
        assert_eq!(text(output), text(&format!("whole{place}")));
    }
    fail(dir, &["decontaminate", "--join", "parts"], "exists already", "nothing is overwritten");
    fail(dir, &["decontaminate", "--join", "in"], "no task has written here", "--out");
}

#[test]
fn spans_are_cut_and_the_rest_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    two_parts(dir);
    succeed(dir, &[&RUN[..], &["--remove", "span", "--out", "out"]].concat());
    let kept = |path: &str| rows(&fs::read_to_string(dir.join(path)).unwrap());
    let (a, b) = (kept("out/corpus/a/part-0.jsonl"), kept("out/corpus/b/part-0.jsonl"));
    assert_eq!((a.len(), b.len()), (10, 10));
    assert_eq!(a[3], json!({"id": "d3", "text": format!("{}  {}", filler(3), filler(4)), "n": 3}));
    assert_eq!(b[3]["text"], format!("{}\n", filler(5)));
    assert_eq!(b[7]["text"], format!("\n\n{}\n\n ", filler(6)), "both copies of one item, and the other");
    let before = kept("in/a/part-0.jsonl");
    assert!((0..10).filter(|&i| i != 3).all(|i| a[i] == before[i]));

    let manifest = read(dir.join("out/manifest.json"));
    let number = |field: &str| manifest[field].as_u64().unwrap();
    assert_eq!((number("records_in"), number("kept"), number("removed"), number("edited")), (20, 20, 0, 3));
    let mut cut = 0;
    for (file, path) in manifest["files"].as_array().unwrap().iter().zip(["a", "b"]) {
        let before = kept(&format!("in/{path}/part-0.jsonl"));
        let after = kept(&format!("out/corpus/{path}/part-0.jsonl"));
        for edit in file["edits"].as_array().unwrap() {
            let record = edit["record"].as_u64().unwrap() as usize;
            let mut text = before[record]["text"].as_str().unwrap().to_string();
            for range in edit["cut"].as_array().unwrap().iter().rev() {
                let (start, end) = (range[0].as_u64().unwrap() as usize, range[1].as_u64().unwrap() as usize);
                text.replace_range(start..end, "");
                cut += end - start;
            }
            assert_eq!(after[record]["text"], text, "the manifest tells what was cut");
        }
    }
    assert_eq!(number("cut_bytes"), cut as u64);
    let again = ["decontaminate", "--reference", "items.jsonl", "--corpus", "out/corpus", "--check"];
    assert_eq!(run(dir, &again).code, Some(0), "what was cut is clean");
}

#[test]
fn a_record_that_is_nothing_but_the_item_is_removed_and_every_format_can_be_cut() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    items(dir);
    corpus(&dir.join("in/x.jsonl"), &[filler(1), CLOCK.into(), filler(2)]);
    fs::write(dir.join("in/y.txt"), format!("{}\n{CLOCK}\n{}\n", filler(3), filler(4))).unwrap();
    let told = succeed(dir, &[&RUN[..], &["--remove", "span", "--out", "out"]].concat());
    assert!(told.contains("4 records in = 3 kept + 1 removed"), "{told}");
    assert_eq!(rows(&fs::read_to_string(dir.join("out/corpus/x.jsonl")).unwrap()).len(), 2);
    let text = fs::read_to_string(dir.join("out/corpus/y.txt")).unwrap();
    assert_eq!(text, format!("{}\n\n{}\n", filler(3), filler(4)));
}

/// The findings of both directions, and how many documents were judged: the same of each.
fn both_directions(dir: &Path, reference: &str, corpus: &[&str]) -> (Vec<Value>, u64) {
    succeed(dir, &[&["-q", "build", "--index", "idx"], corpus].concat());
    // gpt3 asks how often its n-grams occur, which a corpus without an index cannot tell.
    let base = ["-q", "--format", "jsonl", "decontaminate", "--protocol", "all", "--reference", reference];
    let files = [&base[..], &["--corpus"], corpus, &["--index", "idx"]].concat();
    let streamed = succeed(dir, &files);
    let indexed = succeed(dir, &[&base[..], &["--index", "idx"]].concat());
    let judged = |arguments: &[&str]| {
        let arguments: Vec<&str> = arguments.iter().map(|&a| if a == "jsonl" { "json" } else { a }).collect();
        value(&succeed(dir, &arguments))["documents"].as_u64().unwrap()
    };
    let documents = judged(&files);
    assert_eq!(documents, judged(&[&base[..], &["--index", "idx"]].concat()));
    let sorted = |report: &str| {
        let mut rows = rows(report);
        rows.sort_by_key(|r| {
            (r["document_id"].to_string(), r["eval_key"].to_string(), r["eval_instance_index"].to_string())
        });
        rows
    };
    let (streamed, indexed) = (sorted(&streamed), sorted(&indexed));
    assert_eq!(streamed.len(), indexed.len());
    // Everything but nothing: texts, spans, scores, frequencies, places.
    for (a, b) in streamed.iter().zip(&indexed) {
        assert_eq!(a, b);
    }
    (streamed, documents)
}

#[test]
fn an_index_and_its_files_give_the_same_report() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    two_parts(dir);
    let (found, documents) = both_directions(dir, "items.jsonl", &["in/a", "in/b"]);
    assert_eq!((found.len(), documents), (4, 20));
}

#[test]
fn both_directions_agree_on_planted_leaks() {
    let Some(data) = std::env::var_os("PRIORART_DATA") else {
        println!("skipped: PRIORART_DATA is not set");
        return;
    };
    let planted = Path::new(&data).join("planted");
    let place = |name: &str| planted.join(name).to_str().unwrap().to_string();
    // One file of four; all of them with PRIORART_LONG.
    let whole = std::env::var_os("PRIORART_LONG").is_some();
    let corpus = place(if whole { "corpus" } else { "corpus/b/part-0.jsonl.zst" });
    let dir = tempfile::tempdir().unwrap();
    let (found, documents) = both_directions(dir.path(), &place("references"), &[&corpus]);
    assert_eq!(documents, if whole { 4580 } else { 1145 });
    assert!(found.len() > documents as usize / 10, "{}", found.len());
}
