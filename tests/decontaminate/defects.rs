//! The defects of other decontamination tools, each as a test that ours has not.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::{run, succeed};
use crate::{CLOCK, FERRY, RUN, corpus, filler, items, rows, two_parts, value};

/// Verdicts of all protocols on a document, for whichever item was found.
fn verdicts(dir: &Path, text: &str, more: &[&str]) -> Value {
    corpus(&dir.join("one/x.jsonl"), &[text.to_string()]);
    let base =
        ["decontaminate", "--reference", "items.jsonl", "--corpus", "one", "--protocol", "all", "--format", "jsonl"];
    let found = rows(&succeed(dir, &[&base[..], more].concat()));
    let of = |id: &str| found.iter().find(|r| r["eval_instance_index"] == id).map(|r| r["verdicts"].clone());
    of("ferry").or_else(|| of("clock")).unwrap_or(Value::Null)
}

fn around(text: &str) -> String {
    format!("{}\n\n{text}\n\n{}", filler(1), filler(2))
}

/// A directory with the items.
fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    items(dir.path());
    dir
}

/// Decon keys what it removes by the file's base name.
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

/// Decon's weighted sum of .75 hides a question that is there word for word.
#[test]
fn a_verbatim_question_is_not_hidden_behind_a_weighted_sum() {
    let dir = place();
    let found = verdicts(dir.path(), &around(FERRY), &[]);
    assert_eq!((&found["decon"]["level"], &found["priorart"]["level"]), (&"clean".into(), &"dirty".into()));
}

/// Decon and dolma lose a text to other quotation marks, dashes and spaces.
#[test]
fn unicode_punctuation_hides_nothing() {
    let dir = place();
    let unicode = CLOCK.replace('\'', "’").replace(", ", "，").replacen(' ', "\u{a0}", 5);
    assert_eq!(verdicts(dir.path(), &around(&unicode), &[])["priorart"]["level"], "dirty");
}

/// Dolma's paragraphs do not survive comment prefixes and soft wraps.
#[test]
fn comment_prefixes_and_soft_wraps_hide_nothing() {
    let dir = place();
    let words: Vec<&str> = FERRY.split(' ').collect();
    let wrapped: Vec<String> = words.chunks(5).map(|line| format!("// {}", line.join(" "))).collect();
    assert_eq!(verdicts(dir.path(), &around(&wrapped.join("\n")), &[])["priorart"]["level"], "dirty");
}

/// Decon reads an answer only beside its question.
#[test]
fn an_answer_is_a_component_of_its_own() {
    let dir = place();
    let answer = "Twenty-eight crates were delivered, because forty left the island harbour and only twelve of them came back empty that evening.";
    let found = verdicts(dir.path(), &around(answer), &[]);
    assert_eq!((&found["decon"]["level"], &found["priorart"]["level"]), (&"clean".into(), &"dirty".into()));
}

/// Dolma with `min_words` above 0 skips its check without a word.
#[test]
fn a_least_length_skips_shorter_paragraphs_and_no_other() {
    let dir = place();
    let with = |words: &str| {
        verdicts(dir.path(), &around(FERRY), &["--set", &format!("dolma.words={words}"), "--set", "dolma.n=0"])
    };
    for words in ["8", "13", "31"] {
        assert_eq!(with(words)["dolma"]["level"], "dirty", "the question has 31 words, at least {words} are asked for");
    }
    assert_eq!(with("32")["dolma"]["level"], "clean");
}

/// Datatrove takes any numbers for equal, so that rows of them match everywhere.
#[test]
fn rows_of_numbers_are_no_answer() {
    let dir = place();
    let item = json!({"id": "ferry", "question": "Count up from zero.", "answer": "0 1 2 3 4 5 6 7 8 9 10 11 12 13"});
    fs::write(dir.path().join("items.jsonl"), item.to_string()).unwrap();
    let found = verdicts(dir.path(), "7 0 0 3 0 0 0 9 0 0 0 0 4 0 0 0\n", &[]);
    assert_eq!((&found["datatrove"]["level"], &found["priorart"]["level"]), (&"dirty".into(), &"clean".into()));
}

/// Dolma without its skip of short paragraphs flags trivial lines.
#[test]
fn trivial_lines_are_no_paragraphs_of_an_item() {
    let dir = place();
    let item = json!({"id": "ferry", "question": format!("import os\n\n---\n{{\n}}\nA.\nB.\n{FERRY}\nAnswer:")});
    fs::write(dir.path().join("items.jsonl"), item.to_string()).unwrap();
    let trivial = "import os\n\n---\n{\n}\nA.\nB.\nAnswer:\n0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
    assert_eq!(verdicts(dir.path(), trivial, &["--set", "dolma.words=8"]), Value::Null);
}

/// Open-instruct stops at 100 hits; NeMo Curator and the published rule of `gpt3` ignore what matches more than ten times.
#[test]
fn widely_copied_items_are_found_in_every_document() {
    let dir = place();
    let dir = dir.path();
    let many: Vec<String> = (0..300).map(|i| format!("{} {FERRY} {}", filler(i), filler(i + 1))).collect();
    corpus(&dir.join("many/x.jsonl"), &many);
    succeed(dir, &["-q", "build", "--index", "many.idx", "many"]);
    let widely = ["decontaminate", "--reference", "items.jsonl", "--corpus", "many", "--index", "many.idx"];
    let summary = value(&succeed(dir, &[&widely[..], &["--protocol", "priorart,gpt3", "--format", "json"]].concat()));
    assert_eq!(summary["dirty_documents"], 300);
    assert_eq!(summary["dirty_documents_by_protocol"], json!({"priorart": 300, "gpt3": 0}), "more than ten matches");
    assert_eq!(summary["benchmarks"][0]["dirty_by_protocol"], json!({"priorart": 1, "gpt3": 0}));
    // The first protocol named decides what counts as dirty.
    let summary = value(&succeed(dir, &[&widely[..], &["--protocol", "gpt3,priorart", "--format", "json"]].concat()));
    assert_eq!((&summary["dirty_documents"], &summary["protocols"]), (&0.into(), &json!(["gpt3", "priorart"])));
}

/// Others leave it open how common a matched phrase is in the corpus, so that false alarms cannot be told.
#[test]
fn every_hit_tells_in_how_many_documents_its_n_gram_is() {
    let dir = place();
    let dir = dir.path();
    // Five documents have the first half of the question, one of these all of it, twice.
    let half = FERRY.split(" and returns").next().unwrap();
    let mut texts: Vec<String> = (0..4).map(|i| format!("{} {half}. {}", filler(i), filler(i + 1))).collect();
    texts.push(format!("{} {FERRY} {} {FERRY}", filler(7), filler(8)));
    corpus(&dir.join("in/x.jsonl"), &texts);
    for tokenizer in ["words", "bytes", "gpt2"] {
        succeed(dir, &["-q", "build", "--index", tokenizer, "--tokenizer", tokenizer, "in"]);
        let ask = ["--format", "jsonl", "-q", "--index", tokenizer, "decontaminate", "--reference", "items.jsonl"];
        let found = rows(&succeed(dir, &ask));
        let of = |id: &str| found.iter().find(|r| r["document_id"] == id).unwrap();
        let question = |row: &Value| row["components"][0].clone();
        let (part, whole) = (question(of("d0")), question(of("d4")));
        let count = |text: &str| texts.iter().filter(|t| t.contains(text)).count() as u64;
        for (row, component) in [(of("d0"), &part), (of("d4"), &whole)] {
            let spans = component["spans"].as_array().unwrap();
            let frequencies = component["document_frequency"].as_array().unwrap();
            assert_eq!(spans.len(), frequencies.len());
            let text = &texts[row["training_line"].as_u64().unwrap() as usize];
            for (span, frequency) in spans.iter().zip(frequencies) {
                let (start, end) = (span[0].as_u64().unwrap() as usize, span[1].as_u64().unwrap() as usize);
                let words = text[start..end].split(' ').count();
                // At most thirteen words are looked up; a stretch that is in n documents has an n-gram in at least n.
                match frequency.as_u64() {
                    Some(n) if words <= 13 => {
                        assert_eq!(n, count(&text[start..end]), "{tokenizer}: {}", &text[start..end])
                    }
                    Some(n) => assert!(n >= count(&text[start..end]) && n <= 5, "{tokenizer}: {n}"),
                    None => assert!(words < 4, "{tokenizer}: {words} words"),
                }
            }
        }
        assert_eq!(part["document_frequency"][0], 5, "{tokenizer}");
        assert_eq!(
            of("d4")["corpus_frequency"],
            if whole["document_frequency"][0] == 5 { 6 } else { 2 },
            "{tokenizer}"
        );
    }
}

/// Others print nothing when they find nothing, and when they have looked at nothing.
#[test]
fn an_empty_result_says_what_was_looked_at() {
    let dir = place();
    let dir = dir.path();
    corpus(&dir.join("one/x.jsonl"), &[filler(1), filler(2)]);
    let told = succeed(dir, &["decontaminate", "--reference", "items.jsonl", "--corpus", "one"]);
    assert!(told.starts_with("2 documents (") && told.contains("against 2 eval items"), "{told}");
    assert!(told.contains("0 documents contain at least one item that priorart calls dirty"), "{told}");
    assert_eq!(run(dir, &["decontaminate", "--reference", "items.jsonl", "--corpus", "one", "--check"]).code, Some(0));
}
