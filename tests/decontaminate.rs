//! `decontaminate` and `reference` as a user runs them: compiled references, divided runs, spans, both directions, and the
//! defects other tools have.

mod common;

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

#[test]
fn files_with_the_same_base_name_lose_their_own_rows() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    two_parts(dir);
    succeed(dir, &[&RUN[..], &["--remove", "document", "--out", "out"]].concat());
    let kept = |path: &str| -> Vec<u64> {
        let text = fs::read_to_string(dir.join(path)).unwrap();
        rows(&text).iter().map(|r| r["n"].as_u64().unwrap()).collect()
    };
    assert_eq!(kept("out/corpus/a/part-0.jsonl"), [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    assert_eq!(kept("out/corpus/b/part-0.jsonl"), [0, 1, 2, 4, 5, 6, 8, 9]);
}

/// Levels of the protocols for the only finding in a document.
fn verdicts(dir: &Path, text: &str, more: &[&str]) -> Value {
    corpus(&dir.join("one/x.jsonl"), &[text.to_string()]);
    let base =
        ["decontaminate", "--reference", "items.jsonl", "--corpus", "one", "--protocol", "all", "--format", "jsonl"];
    let found = rows(&succeed(dir, &[&base[..], more].concat()));
    let of = |id: &str| found.iter().find(|r| r["eval_instance_index"] == id).map(|r| r["verdicts"].clone());
    of("ferry").or_else(|| of("clock")).unwrap_or(Value::Null)
}

#[test]
fn what_other_tools_miss_or_flag_wrongly() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    items(dir);
    let around = |text: &str| format!("{}\n\n{text}\n\n{}", filler(1), filler(2));
    // A verbatim question is hidden behind decon's weighted sum, .75 below .8.
    let found = verdicts(dir, &around(FERRY), &[]);
    assert_eq!((&found["decon"]["level"], &found["priorart"]["level"]), (&"clean".into(), &"dirty".into()));
    // Changed quotation marks, dashes and spaces.
    let unicode = CLOCK.replace('\'', "’").replace(", ", "，").replacen(' ', "\u{a0}", 5);
    assert_eq!(verdicts(dir, &around(&unicode), &[])["priorart"]["level"], "dirty");
    // Comment prefixes and soft wraps.
    let wrapped: Vec<String> =
        FERRY.split(' ').collect::<Vec<_>>().chunks(5).map(|l| format!("// {}", l.join(" "))).collect();
    assert_eq!(verdicts(dir, &around(&wrapped.join("\n")), &[])["priorart"]["level"], "dirty");
    // The answer is a component of its own.
    let answer = "Twenty-eight crates were delivered, because forty left the island harbour and only twelve of them came back empty that evening.";
    let found = verdicts(dir, &around(answer), &[]);
    assert_eq!((&found["decon"]["level"], &found["priorart"]["level"]), (&"clean".into(), &"dirty".into()));
    // An item in hundreds of documents is found in every one of them, with frequencies from an index too.
    let many: Vec<String> = (0..300).map(|i| format!("{} {FERRY} {}", filler(i), filler(i + 1))).collect();
    corpus(&dir.join("many/x.jsonl"), &many);
    succeed(dir, &["-q", "build", "--index", "many.idx", "many"]);
    let widely = ["decontaminate", "--reference", "items.jsonl", "--corpus", "many", "--index", "many.idx"];
    let summary = value(&succeed(dir, &[&widely[..], &["--protocol", "priorart,gpt3", "--format", "json"]].concat()));
    assert_eq!(summary["dirty_documents"], 300);
    assert_eq!(
        summary["benchmarks"][0]["dirty_by_protocol"],
        json!({"priorart": 1, "gpt3": 0}),
        "more than ten matches"
    );
    // Trivial lines are no paragraphs of the item, and rows of numbers no answer.
    let trivial = "import os\n\n---\n{\n}\nA.\nB.\nAnswer:\n0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
    assert_eq!(verdicts(dir, trivial, &["--set", "dolma.words=8"]), Value::Null);
    // An empty result says so.
    let told = succeed(dir, &["decontaminate", "--reference", "items.jsonl", "--corpus", "one"]);
    assert!(told.contains("0 documents contain at least one dirty item"), "{told}");
}

#[test]
fn an_unreadable_file_loses_nothing_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    two_parts(dir);
    fs::write(dir.join("in/a/part-1.jsonl.zst"), b"this is not zstd").unwrap();
    let ended = run(dir, &[&RUN[..], &["--out", "out"]].concat());
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("part-1.jsonl.zst"), "{}", ended.err);
    assert_eq!(rows(&fs::read_to_string(dir.join("out/report.jsonl")).unwrap()).len(), 4);
}

/// Findings by document and item, with every protocol's level.
fn levels(report: &str) -> Vec<(String, String, String)> {
    let mut out: Vec<_> = rows(report)
        .iter()
        .map(|r| {
            let verdicts = r["verdicts"].as_object().unwrap();
            let levels: Vec<String> =
                verdicts.iter().map(|(p, v)| format!("{p} {} {}", v["level"], v["score"])).collect();
            let item = format!("{}/{}", r["eval_key"], r["eval_instance_index"]);
            (r["document_id"].to_string(), item, levels.join(" "))
        })
        .collect();
    out.sort();
    out
}

#[test]
fn an_index_and_its_files_give_the_same_verdicts() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (reference, corpus) = match std::env::var_os("PRIORART_DATA") {
        Some(data) => {
            let planted = Path::new(&data).join("planted");
            (planted.join("references"), planted.join("corpus/b/part-0.jsonl.zst"))
        }
        None => {
            println!("skipped on planted data: PRIORART_DATA is not set");
            two_parts(dir);
            (dir.join("items.jsonl"), dir.join("in/b/part-0.jsonl"))
        }
    };
    let (reference, corpus) = (reference.to_str().unwrap(), corpus.to_str().unwrap());
    succeed(dir, &["-q", "build", "--index", "idx", corpus]);
    let base = ["-q", "--format", "jsonl", "decontaminate", "--protocol", "all", "--reference", reference];
    let streamed = levels(&succeed(dir, &[&base[..], &["--set", "gpt3.most_matches=0", "--corpus", corpus]].concat()));
    let indexed = levels(&succeed(dir, &[&base[..], &["--set", "gpt3.most_matches=0", "--index", "idx"]].concat()));
    assert!(streamed.len() >= 3, "{}", streamed.len());
    assert_eq!(streamed, indexed);
}
