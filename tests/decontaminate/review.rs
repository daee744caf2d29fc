//! Reviews in a terminal, the labels they leave, and studies of a model's scores.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::common::{Run, command, fail, run, succeed};
use crate::{CLOCK, FERRY, RUN, corpus, filler, read, rows, two_parts};

/// Runs the program with this on its standard input.
fn typed(dir: &Path, arguments: &[&str], input: &str) -> Run {
    let mut child =
        command(dir, arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_review_labels_cases_and_later_runs_honour_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    two_parts(dir);
    succeed(dir, &[&RUN[..], &["--out", "out"]].concat());
    // Four cases. The first is accepted, the second skipped, then back and rejected; an unknown word asks again; then quit.
    let review = ["decontaminate", "review", "out"];
    let ended = typed(dir, &review, "a\ns\nb\nr\nwhat\nq\n");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(ended.out.matches("--- 1 of 4").count(), 1);
    assert_eq!(ended.out.matches("--- 2 of 4").count(), 2, "back shows it again: {}", ended.out);
    assert!(ended.out.contains("`what` is none of a, r, s, b, q"), "{}", ended.out);
    assert!(ended.out.contains('«') && !ended.out.contains('\u{1b}'), "matches are marked without colour");
    assert!(ended.err.contains("1 accepted, 1 rejected, 2 left"), "{}", ended.err);
    let labels = rows(&fs::read_to_string(dir.join("out/labels.jsonl")).unwrap());
    assert_eq!(labels.iter().map(|l| l["label"].as_str().unwrap()).collect::<Vec<_>>(), ["accept", "reject"]);
    // The input may end at any prompt; what was labelled is not shown again, unless it is asked for.
    let ended = typed(dir, &review, "");
    assert!(ended.code == Some(0) && ended.out.contains("--- 1 of 2"), "{}", ended.out);
    let ended = typed(dir, &["decontaminate", "review", "out/report.jsonl", "--all"], "s\ns\ns\ns\n");
    assert!(ended.out.contains("labelled accept") && ended.out.contains("labelled reject"), "{}", ended.out);
    assert!(ended.out.ends_with("no more cases\n"), "{}", ended.out);
    let ended = typed(dir, &["decontaminate", "review", "out", "--benchmark", "other"], "");
    assert_eq!(ended.out, "no more cases\n");

    // The rejected finding is reported with its label, counted nowhere and not removed; the same text elsewhere keeps its label.
    let rejected = &labels[1];
    let found = rows(&fs::read_to_string(dir.join("out/report.jsonl")).unwrap());
    let of = |row: &Value| {
        row["document_hash"] == rejected["document_hash"]
            && row["eval_instance_index"] == rejected["eval_instance_index"]
    };
    let place = found.iter().find(|r| of(r)).unwrap();
    let text = fs::read_to_string(dir.join(place["training_file"].as_str().unwrap())).unwrap();
    let line = text.lines().nth(place["training_line"].as_u64().unwrap() as usize).unwrap();
    fs::write(dir.join("in/copy.jsonl"), line).unwrap();
    let again = [&RUN[..], &["--labels", "out/labels.jsonl"]].concat();
    succeed(dir, &[&again[..], &["--out", "again", "--remove", "span"]].concat());
    let found = rows(&fs::read_to_string(dir.join("again/report.jsonl")).unwrap());
    assert_eq!(found.iter().filter(|r| r["label"] == "reject").count(), 2, "in both files");
    assert_eq!(found.iter().filter(|r| r["label"] == "accept").count(), 1);
    let summary = read(dir.join("again/summary.json"));
    assert_eq!(summary["rejected"], 2);
    let item = if rejected["eval_instance_index"] == "ferry" { FERRY } else { CLOCK };
    let kept = fs::read_to_string(dir.join("again/corpus/copy.jsonl")).unwrap();
    assert!(kept.contains(item), "{kept}");
    let page = fs::read_to_string(dir.join("again/report.html")).unwrap();
    assert!(page.contains("<article"));
    // A line without a document's hash is an allow-list for every document.
    let line = |id: &str| json!({"eval_key": "items", "eval_instance_index": id, "label": "reject"}).to_string();
    fs::write(dir.join("allow.jsonl"), format!("{}\n{}\n", line("ferry"), line("clock"))).unwrap();
    let told = run(dir, &[&RUN[..], &["--allow", "allow.jsonl", "--check"]].concat());
    assert_eq!(told.code, Some(0), "{}", told.out);
    assert!(told.out.contains("findings were rejected in a review and count as clean"), "{}", told.out);
}

#[test]
fn a_review_needs_a_report() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fail(dir, &["decontaminate", "review", "none"], "none: cannot open", "");
    fs::write(dir.join("x.jsonl"), "{\"a\":1}\n").unwrap();
    fail(dir, &["decontaminate", "review", "x.jsonl"], "x.jsonl:1: not a row of a report", "report.jsonl");
}

#[test]
fn a_study_compares_clean_with_dirty_items() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // 60 items of which 20 leaked; the model is right on 18 of these and on 20 of the others.
    let question = |i: usize| {
        format!(
            "In the {i}th ledger of warehouse {} the clerk Obadiah noted {} bales of indigo; how many bales were sold on day {i}?",
            i * 7,
            i * 13 + 5
        )
    };
    let items: String =
        (0..60).map(|i| json!({"id": format!("q{i}"), "question": question(i)}).to_string() + "\n").collect();
    fs::write(dir.join("items.jsonl"), items).unwrap();
    let texts: Vec<String> =
        (0..20).map(|i| format!("{}\n\n{}\n\n{}", filler(i), question(i), filler(i + 1))).collect();
    corpus(&dir.join("in/x.jsonl"), &texts);
    let scores = |right: &dyn Fn(usize) -> Value| -> String {
        (0..60)
            .map(|i| {
                json!({"eval_key": "items", "eval_instance_index": format!("q{i}"), "score": right(i)}).to_string()
                    + "\n"
            })
            .collect()
    };
    fs::write(dir.join("scores.jsonl"), scores(&|i| json!(if i < 20 { i >= 2 } else { i % 2 == 0 }))).unwrap();
    succeed(dir, &[&RUN[..], &["--protocol", "priorart,decon", "--out", "out"]].concat());
    let study = ["decontaminate", "study", "--report", "out", "--scores", "scores.jsonl"];
    let found = rows(&succeed(dir, &[&study[..], &["--format", "jsonl"]].concat()));
    assert_eq!(found.len(), 2);
    let ours = &found[0];
    assert_eq!((&ours["benchmark"], &ours["protocol"]), (&"items".into(), &"priorart".into()));
    assert_eq!((&ours["items"], &ours["clean"], &ours["dirty"]), (&60.into(), &40.into(), &20.into()));
    let close = |value: &Value, expected: f64| {
        assert!((value.as_f64().unwrap() - expected).abs() < 1e-9, "{value} is not {expected}")
    };
    close(&ours["score_clean"]["estimate"], 0.5);
    close(&ours["score_dirty"]["estimate"], 0.9);
    close(&ours["difference"], 0.4);
    close(&ours["gain"]["estimate"], 38.0 / 60.0 - 0.5);
    assert!(ours["p"].as_f64().unwrap() < 0.01, "{ours}");
    let text = succeed(dir, &study);
    assert!(text.contains("gain (all - clean)") && text.contains("0.900 ("), "{text}");
    assert_eq!(rows(&succeed(dir, &[&study[..], &["--protocol", "decon", "--format", "jsonl"]].concat())).len(), 1);

    fail(
        dir,
        &[&study[..], &["--protocol", "gpt3"]].concat(),
        "gpt3 did not judge",
        "its protocols are priorart, decon",
    );
    fs::write(dir.join("scores.jsonl"), scores(&|_| json!("good"))).unwrap();
    fail(dir, &study, "scores.jsonl: score 1: \"good\" is no score", "each line needs eval_key");
    fs::write(dir.join("scores.jsonl"), scores(&|_| json!(1)) + &scores(&|_| json!(1))).unwrap();
    fail(dir, &study, "a second score of item items/q0", "");
    fs::write(dir.join("scores.jsonl"), "").unwrap();
    fail(dir, &study, "there is no score", "");
    let other = json!({"benchmark": "elsewhere", "id": 3, "correct": true}).to_string();
    fs::write(dir.join("scores.jsonl"), other).unwrap();
    assert!(run(dir, &study).err.contains("was not made against a benchmark `elsewhere`"));
}
