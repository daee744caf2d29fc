//! What `calibrate`, `novelty` and `audit` say of bad input.

use std::fs;

use serde_json::{Value, json};

use crate::common::embedded::TEXTS;
use crate::{SCORE, audit, outputs, place, table, write};

#[test]
fn bad_input_is_told_and_nothing_is_lost() {
    let Some(place) = place() else { return };
    let rows = [
        json!({"id": "empty", "text": "", "model": "m", "domain": "a"}),
        json!({"id": "tiny", "text": "So it is.", "model": "m", "domain": "a"}),
        json!({"id": "runes", "text": "ᚠᛇᚻ ᛒᛦᚦ ᚠᚱᚩᚠᚢᚱ ᚠᛁᚱᚪ ᚷᛖᚻᚹᛦᛚᚳᚢᛗ ᛋᚳᛖᚪᛚ ᚦᛖᚪᚻ ᛗᚪᚾᚾᚪ ᚷᛖᚻᚹᛦᛚᚳ ᛗᛁᚳᛚᚢᚾ ᚻᛦᛏ", "model": "m", "domain": "a"}),
        json!({"id": "german", "text": "Als Gregor Samsa eines Morgens aus unruhigen Träumen erwachte, fand er sich in seinem Bett zu einem ungeheueren Ungeziefer verwandelt, und er lag auf seinem panzerartig harten Rücken.", "model": "m", "domain": "a"}),
        json!({"id": "alone", "text": TEXTS[0], "model": "single", "domain": "a"}),
    ];
    write(&place, "outputs.jsonl", &rows);
    let run = place.output(&audit("report", &[]));
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.err.contains("are needed for a p-value of 0.01"), "{}", run.err);
    assert!(run.err.contains("4 texts are too short or hardly known to the encoder"), "{}", run.err);
    let rows = table(&place.path().join("report/texts.parquet"));
    assert_eq!(rows.len(), 5, "every text has its row");
    for (row, told) in rows.iter().zip([
        "the text is empty",
        "too few to judge",
        "unknown to the encoder",
        "cuts a word into",
        "warnings: null",
    ]) {
        assert!(row.contains(told), "{row}");
    }
    let found: Value = serde_json::from_str(&run.out).unwrap();
    let single = found["groups"].as_array().unwrap().iter().find(|g| g["name"] == "single").unwrap();
    assert!(single["warning"].as_str().unwrap().contains("a group of one text"), "{single}");

    let calibrate = ["calibrate", "--index", "ix", "--human", "human.jsonl", "--domain", "domain", "--out", "c.json"];
    let made = place.output(&[&calibrate[..], &SCORE[..2], &SCORE[4..]].concat());
    assert_eq!(made.code, Some(0), "{}", made.err);
    let base = ["audit", "--index", "ix", "--out", "r", "--calibration", "c.json", "outputs.jsonl"];
    let refuse = |more: &[&str], message: &str, hint: &str| {
        let score = if more.contains(&"--rerank") { &SCORE[..6] } else { &SCORE };
        let run = place.output(&[&base[..], score, more].concat());
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{more:?}: {}", run.err);
        assert!(run.err.contains(message), "{more:?}: {}, expected {message:?}", run.err);
        let told = run.err.split_once("\n\nhint: ").map_or("", |(_, hint)| hint);
        assert!(told.contains(hint), "{more:?}: {}, expected the hint {hint:?}", run.err);
    };
    refuse(&["--group-by", "maker"], "no text has the column \"maker\"", "the columns are: domain, model");
    refuse(&["--domain", "model"], "no human texts of the domain \"m\"", "it has: a, b");
    refuse(&["--certify", "1.5"], "--certify 1.5", "0.6 asks for a proof");
    refuse(&["--rerank", "3"], "rerank: 4 there, 3 here", "make it again");
    refuse(&["--late", "."], "artifact.metadata", "");
    let _ = fs::remove_dir_all(place.path().join("r"));
    let good = place.output(&[&base[..], &SCORE, &["--domain", "domain"]].concat());
    assert_eq!(good.code, Some(0), "{}", good.err);

    // Another encoder, another generation, another version, another directory.
    let _ = fs::remove_dir_all(place.path().join("r"));
    let kept = fs::read_to_string(place.path().join("c.json")).unwrap();
    let mut other: Value = serde_json::from_str(&kept).unwrap();
    other["encoder_sha256"] = "0123456789abcdef".into();
    fs::write(place.path().join("c.json"), other.to_string()).unwrap();
    refuse(&[], "encoder mismatch", "query with the encoder");
    other["version"] = 1.into();
    fs::write(place.path().join("c.json"), other.to_string()).unwrap();
    refuse(&[], "a calibration of an earlier version", "priorart calibrate");
    fs::write(place.path().join("c.json"), kept).unwrap();
    let _ = fs::create_dir(place.path().join("r"));
    fs::write(place.path().join("r/notes.txt"), "mine").unwrap();
    refuse(&[], "it is not empty and holds no audit", "--out");
    let _ = fs::remove_dir_all(place.path().join("r"));
    place.write(
        "more.jsonl",
        "more",
        &["A new document that says something about tides and the moon that pulls them."],
    );
    place.run(&["add", "--index", "ix", "--format", "json", "more.jsonl"]);
    refuse(
        &[],
        "it was made on generation 1 of 6 documents, the index is at generation 2 with 7",
        "priorart calibrate",
    );
    fs::write(place.path().join("outputs.jsonl"), "").unwrap();
    refuse(&[], "there are no texts to score", "at least one text");
}

#[test]
fn texts_that_cannot_be_judged_are_told_one_by_one() {
    let Some(place) = place() else { return };
    // Nothing to score, nothing to compare with, nothing long enough: each is refused before any work.
    fs::write(place.path().join("empty.jsonl"), "").unwrap();
    write(&place, "tiny.jsonl", &[json!({"id": "t", "text": "So it is."})]);
    let refuse = |arguments: &[&str], message: &str, hint: &str| {
        let run = place.output(arguments);
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{arguments:?}: {}", run.err);
        assert!(run.err.contains(message) && run.err.contains(hint), "{arguments:?}: {}", run.err);
    };
    let novelty = |more: &[&'static str]| [&["novelty", "--index", "ix"][..], &SCORE, more].concat();
    refuse(&novelty(&["empty.jsonl"]), "there are no texts to score", "at least one text");
    refuse(&novelty(&["--human", "empty.jsonl", "tiny.jsonl"]), "there are no human texts", "at least one text");
    refuse(&novelty(&["--human", "tiny.jsonl", "tiny.jsonl"]), "none of the 1 human texts is long enough", "--windows");
    refuse(&novelty(&["--check", "tiny.jsonl"]), "--check needs a human reference", "--calibration");
    refuse(
        &novelty(&["--human", "human.jsonl", "--p-resolution", "0", "tiny.jsonl"]),
        "between 0 and 1",
        "--p-resolution",
    );
    refuse(&["novelty", "--index", "ix", "--windows", "0", "tiny.jsonl"], "must be positive", "--windows 50,100,200");

    // A text too short for any window has a score, no r, no p and no group, and says why; no recall is measured for it.
    let run =
        place.output(&novelty(&["--human", "human.jsonl", "--p-resolution", "0.05", "tiny.jsonl", "--format", "json"]));
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.err.contains("warning: t: the text has 4 encoder tokens: too few to judge"), "{}", run.err);
    assert!(run.err.contains("19 are needed for a p-value of 0.05"), "{}", run.err);
    let found: Value = serde_json::from_str(&run.out).unwrap();
    assert!(
        found["texts"][0]["assessed"][0]["s"].is_f64() && found["texts"][0]["assessed"][0]["r"].is_null(),
        "{found}"
    );
    assert_eq!((&found["groups"], &found["recall"]), (&json!([]), &json!([])));

    // One text is a group, with a warning; it has no effect of window length, which would have an interval of no width.
    let group = outputs(4);
    write(&place, "few.jsonl", &group[..3]);
    let found =
        place.run(&novelty(&["--human", "human.jsonl", "--group-by", "model", "few.jsonl", "--format", "json"]));
    let groups = found["groups"].as_array().unwrap();
    let warned = |g: &&Value| g["warning"].as_str().is_some_and(|w| w.contains("a group of one text"));
    assert_eq!((groups.len(), groups.iter().filter(warned).count()), (4, 2), "{found}");
    let effects: Vec<&Value> = found["effects"].as_array().unwrap().iter().map(|e| &e["name"]).collect();
    assert_eq!(effects, ["parrot"], "{found}");
}
