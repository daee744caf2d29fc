//! `decontaminate --semantic` as a user runs it: paraphrases and rewritten programs are found, in columns of their own, and removed
//! when asked. The texts are written for this test; the rules were not fitted to them. Needs the encoder; says `skipped` without.

mod common;

use std::fs;
use std::path::Path;

use common::{fail, succeed};
use priorart::embed::find_model;
use serde_json::{Value, json};

/// Question, and the same said in other words.
const PAIRS: [(&str, &str); 4] = [
    (
        "Tobias collects 14 mushrooms every morning for 9 days and sells them at the market in bags of 6 for $4 a bag. How much money does he earn?",
        "For nine days running Tobias picks fourteen mushrooms each morning; at the market six of them in a bag fetch four dollars. What are his earnings?",
    ),
    (
        "A train leaves Lyon at 9:40 with 312 passengers. In Valence 57 of them get off and 86 others board. How many passengers arrive in Marseille?",
        "With 312 people on board a train sets off from Lyon at 9:40; 86 join it in Valence, where 57 leave. How many does it bring to Marseille?",
    ),
    (
        "A library has 3 floors with 45 shelves on each floor. Each shelf holds 60 books, but 250 books are on loan. How many books are in the library?",
        "There are forty-five shelves on every one of a library's three storeys, with room for sixty volumes apiece and all full save for 250 lent out. Count the books that are there.",
    ),
    (
        "Photosynthesis in plants takes place in which organelle?",
        "In what organelle of a plant does photosynthesis happen?",
    ),
];

const PROMPT: &str = "def collapse_runs(text: str) -> str:\n    \"\"\" Replace every run of the same character in text by a single one.\n    \
    >>> collapse_runs('aaabccd')\n    'abcd'\n    \"\"\"\n";
const SOLUTION: &str = "    out = []\n    for position, letter in enumerate(text):\n        if position == 0 or text[position - 1] != letter:\n            \
    out.append(letter)\n    return ''.join(out)\n";
const RENAMED: &str = "def squeeze(s):\n    # no comment\n    kept = []\n    for i, ch in enumerate(s):\n        if i == 0 or s[i - 1] != ch:\n            \
    kept.append(ch)\n    return ''.join(kept)\n";

const HOST: [&str; 2] = [
    "The manual describes how the cache is emptied when the disk is full. See the section on limits for the options that matter.",
    "Older versions wrote their log to the home directory. Since the last release it goes to the directory of the service.",
];

fn host(text: &str) -> String {
    format!("{}\n\n{text}\n\n{}", HOST[0], HOST[1])
}

/// References, and a corpus of the four paraphrases, the renamed program, a copy, a look-alike and two hosts alone.
fn write(dir: &Path) {
    let mut items: Vec<Value> =
        PAIRS.iter().enumerate().map(|(i, (q, _))| json!({"id": format!("q{i}"), "question": q})).collect();
    items.push(json!({"id": "code", "question": PROMPT, "answer": SOLUTION}));
    let line = |v: &Value| v.to_string() + "\n";
    fs::write(dir.join("items.jsonl"), items.iter().map(line).collect::<String>()).unwrap();
    let look_alike =
        "Tobias walks 3 miles to the market on 5 days of the week. How many miles does he walk in 4 weeks?";
    let mut texts: Vec<String> = PAIRS.iter().map(|(_, p)| host(p)).collect();
    texts.extend([host(RENAMED), host(PAIRS[0].0), host(look_alike), HOST.join("\n\n"), HOST[1].to_string()]);
    let rows = texts.iter().enumerate().map(|(i, t)| json!({"id": format!("d{i}"), "text": t}));
    fs::create_dir_all(dir.join("in")).unwrap();
    fs::write(dir.join("in/part-0.jsonl"), rows.map(|v| line(&v)).collect::<String>()).unwrap();
}

const CHECK: [&str; 6] = ["decontaminate", "--reference", "items.jsonl", "--corpus", "in", "--semantic"];

/// Directory of the encoder.
fn encoder() -> Option<String> {
    let there = find_model("all-minilm-l6-v2");
    if there.is_none() {
        println!("skipped: the encoder is not in the cache; `index-tools fetch all-minilm-l6-v2` gets it");
    }
    there.map(|dir| dir.to_string_lossy().into_owned())
}

#[test]
fn paraphrases_and_renamed_programs_have_columns_of_their_own() {
    let Some(encoder) = encoder() else { return };
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let out = succeed(dir.path(), &[&CHECK[..], &["--encoder", &encoder, "--format", "jsonl"]].concat());
    let rows: Vec<Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let of = |document: &str, column: &str| -> Option<&Value> {
        rows.iter().find(|r| r["document_id"] == document && r["verdicts"][column]["level"] == "dirty")
    };
    for (i, (question, paraphrase)) in PAIRS.iter().enumerate() {
        let row = of(&format!("d{i}"), "semantic").unwrap_or_else(|| panic!("{question} is not found: {out}"));
        assert_eq!(row["eval_instance_index"], format!("q{i}"));
        assert_eq!(row["verdicts"]["semantic"]["rule"], "paraphrase");
        assert!(row["verdicts"]["semantic"]["score"].as_f64().unwrap() >= 0.8);
        assert_eq!(row["verdicts"]["priorart"]["level"], "clean", "the lexical verdict is its own");
        assert!(out.contains(&paraphrase[..40]), "the place is shown");
    }
    let renamed = of("d4", "code").expect("the renamed program is found");
    assert_eq!(
        (&renamed["eval_instance_index"], &renamed["verdicts"]["code"]["rule"]),
        (&json!("code"), &json!("renamed"))
    );
    assert!(of("d5", "priorart").is_some(), "a copy is found by the lexical protocol");
    for clean in ["d6", "d7", "d8"] {
        assert!(of(clean, "semantic").is_none() && of(clean, "code").is_none(), "{clean}: {out}");
    }
}

#[test]
fn columns_decide_a_removal_only_when_asked() {
    let Some(encoder) = encoder() else { return };
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let removed = |arguments: &[&str], out: &str| -> u64 {
        succeed(
            dir.path(),
            &[&CHECK[..], &["--encoder", &encoder, "--remove", "document", "--out", out], arguments].concat(),
        );
        let manifest: Value =
            serde_json::from_slice(&fs::read(dir.path().join(out).join("manifest.json")).unwrap()).unwrap();
        assert_eq!(
            manifest["records_in"].as_u64().unwrap(),
            manifest["kept"].as_u64().unwrap() + manifest["removed"].as_u64().unwrap()
        );
        manifest["removed"].as_u64().unwrap()
    };
    assert_eq!(removed(&[], "lexical"), 1);
    assert_eq!(removed(&["--remove-by", "priorart,semantic,code"], "all"), 6);
    assert!(fs::read_to_string(dir.path().join("all/report.html")).unwrap().contains("semantic"));
    let without_columns = [&CHECK[..5], &["--remove", "document", "--dry-run", "--remove-by", "code"]].concat();
    fail(dir.path(), &without_columns, "--remove-by code", "--semantic");
}

#[test]
fn a_missing_encoder_is_an_error_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    fail(dir.path(), &[&CHECK[..], &["--encoder", "no-such-model"]].concat(), "no-such-model", "fetch no-such-model");
}
