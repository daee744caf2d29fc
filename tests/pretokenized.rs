//! Corpora that were tokenised before give the same answers as the texts they were made from, in every format.

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use common::{fail, run, succeed};
use priorart::index::Snapshot;
use priorart::index::remove::remove;
use priorart::query::boolean::Expression;
use priorart::query::find::FindOptions;
use priorart::query::trace::TraceOptions;
use priorart::tokenize::{Tokenizer, TokenizerKind};
use serde_json::Value;

/// gpt2's <|endoftext|>.
const END: u32 = 50_256;

/// The project's own documents, an empty one, one token, and characters that tokens cut.
fn texts() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts: Vec<String> = ["README.md", "ARCHITECTURE.md", "OUTPUT.md"]
        .iter()
        .map(|name| std::fs::read_to_string(root.join(name)).expect("a text"))
        .collect();
    texts.extend([String::new(), "one".into(), "漢字 𝒳 é – 漢字 𝒳 é".repeat(20), texts[0].clone()]);
    texts
}

fn tokens(texts: &[String]) -> Vec<Vec<u32>> {
    let TokenizerKind::Closed(gpt2) = Tokenizer::named("gpt2").expect("gpt2").kind else { unreachable!() };
    texts
        .iter()
        .map(|text| {
            let mut ids = Vec::new();
            gpt2.encode(text, &mut ids).expect("tokens");
            ids
        })
        .collect()
}

fn stream(documents: &[Vec<u32>], width: usize, end: Option<u32>) -> Vec<u8> {
    let ids = documents.iter().flat_map(|d| d.iter().copied().chain(end));
    ids.flat_map(|id| id.to_le_bytes()[..width].to_vec()).collect()
}

/// Files of each format, and the arguments that read them.
fn write(dir: &Path, documents: &[Vec<u32>]) -> Vec<(&'static str, Vec<&'static str>)> {
    let lengths: Vec<u64> = documents.iter().map(|d| d.len() as u64 + 1).collect();
    let ends: Vec<u64> = lengths
        .iter()
        .scan(0, |at, n| {
            *at += n;
            Some(*at)
        })
        .collect();
    let file = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).expect("a file");

    file("raw.bin", &stream(documents, 2, Some(END)));
    file("raw4.bin", &stream(documents, 4, Some(END)));

    file("olmo.npy", &stream(documents, 2, Some(END)));
    let mut table = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    for (i, (end, n)) in ends.iter().zip(&lengths).enumerate() {
        writeln!(table, "{},{end},doc-{i},\"source, {i}.jsonl.gz\",{i}\r", end - n).expect("a line");
    }
    file("olmo.csv.gz", &table.finish().expect("a table"));

    file("trove.ds", &stream(documents, 2, Some(END)));
    file("trove.ds.index", &ends.iter().flat_map(|e| e.to_le_bytes()).collect::<Vec<u8>>());

    file("megatron.bin", &stream(documents, 2, Some(END)));
    let mut index = b"MMIDIDX\0\0".to_vec();
    index.extend(1u64.to_le_bytes());
    index.push(8);
    index.extend((documents.len() as u64).to_le_bytes());
    index.extend((documents.len() as u64 + 1).to_le_bytes());
    index.extend(lengths.iter().flat_map(|&n| (n as u32).to_le_bytes()));
    index.extend(ends.iter().zip(&lengths).flat_map(|(end, n)| (2 * (end - n)).to_le_bytes()));
    index.extend((0..=documents.len() as u64).flat_map(|i| i.to_le_bytes()));
    file("megatron.idx", &index);

    vec![
        ("raw", vec!["--tokens", "raw", "--end-of-document", "50256", "raw.bin"]),
        ("raw4", vec!["--tokens", "raw", "--end-of-document", "50256", "--token-width", "4", "raw4.bin"]),
        ("olmo", vec!["--tokens", "olmo", "--end-of-document", "50256", "olmo.npy"]),
        ("trove", vec!["--tokens", "datatrove", "--end-of-document", "50256", "trove.ds"]),
        ("megatron", vec!["--tokens", "megatron", "--end-of-document", "50256", "megatron.bin"]),
    ]
}

fn json(answer: impl serde::Serialize) -> Value {
    serde_json::to_value(answer).expect("JSON")
}

/// The answers to every kind of query, without what differs by origin.
fn answers(snapshot: &Snapshot) -> Vec<Value> {
    let ngram = |text: &str| snapshot.ngram(text).expect("a text");
    let mut out = Vec::new();
    for text in [" suffix array", " the", "漢字", "漢字 𝒳", "one", "no such phrase qzx"] {
        let options = FindOptions { per_document: 50, ..Default::default() };
        out.push(Value::from(snapshot.count(&ngram(text))));
        out.push(json(snapshot.find(&ngram(text), &options).expect("found")));
        out.push(json(snapshot.next(&ngram(text), 0)));
    }
    out.push(json(snapshot.infgram_next(&ngram("never seen before: the"), 0)));
    let both = Expression::all(vec![ngram(" suffix"), ngram(" index")]);
    out.push(json(snapshot.boolean_count(&both, Some(40)).expect("a count")));
    let text = "Where did this text come from, how often is it in the 漢字 𝒳 corpus, and if nothing";
    let trace = snapshot.trace(text, &TraceOptions { min_tokens: 2, ..Default::default() }).expect("a trace");
    assert!(trace.spans.iter().any(|s| s.count > 0));
    out.push(json(trace));
    out.iter_mut().for_each(strip);
    out
}

fn strip(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Object(fields) => {
            for name in ["id", "path", "record", "metadata"] {
                // Ids of tokens are numbers, those of documents strings.
                if !fields.get(name).is_some_and(|v| name == "id" && v.is_number()) {
                    fields.remove(name);
                }
            }
            fields.values_mut().for_each(strip);
        }
        _ => {}
    }
}

/// The index without one document.
fn without(home: &Path, id: &str) -> Snapshot {
    let snapshot = Snapshot::open(home).expect("an index");
    let documents: BTreeSet<_> = snapshot.find_id(id).expect("ids").into_iter().collect();
    assert_eq!(documents.len(), 1, "{id}");
    remove(&snapshot, &documents).expect("a generation");
    Snapshot::open(home).expect("an index")
}

#[test]
fn every_format_answers_as_the_text_does() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path();
    let texts = texts();
    let lines: Vec<String> = texts
        .iter()
        .enumerate()
        .map(|(i, text)| serde_json::json!({ "id": format!("doc-{i}"), "text": text }).to_string())
        .collect();
    std::fs::write(dir.join("texts.jsonl"), lines.join("\n")).expect("a file");
    succeed(dir, &["build", "-q", "--index", "text", "--tokenizer", "gpt2", "texts.jsonl"]);
    let formats = write(dir, &tokens(&texts));
    let expected = answers(&Snapshot::open(&dir.join("text")).expect("an index"));
    let expected_without = answers(&without(&dir.join("text"), "doc-0"));
    for (name, arguments) in formats {
        succeed(dir, &[&["build", "-q", "--index", name, "--tokenizer", "gpt2"], &arguments[..]].concat());
        let snapshot = Snapshot::open(&dir.join(name)).expect("an index");
        for (got, expected) in answers(&snapshot).iter().zip(&expected) {
            assert_eq!(got, expected, "{name}");
        }
        assert!(snapshot.shards.iter().all(|s| s.meta.detokenized));
        if name == "olmo" {
            let found = snapshot.find(&snapshot.ngram(" suffix array").expect("a text"), &FindOptions::default());
            let document = &found.expect("found").found[0];
            let number = document.id.strip_prefix("doc-").expect("the table's id");
            assert_eq!(document.metadata["source"], format!("source, {number}.jsonl.gz:{number}"));
        }
        // Removal subtracts the tokens as they came.
        let id = if name == "olmo" { "doc-0".to_string() } else { format!("{}:0", arguments[arguments.len() - 1]) };
        assert_eq!(answers(&without(&dir.join(name), &id)), expected_without, "{name}, one document removed");
    }
    let told = succeed(dir, &["info", "--index", "raw"]);
    assert!(told.contains("the tokens' bytes, not the original"), "{told}");
}

#[test]
fn wrong_input_is_told() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path();
    std::fs::write(dir.join("a.bin"), stream(&[vec![1, 2], vec![60_000, 3]], 2, Some(END))).expect("a file");
    std::fs::write(dir.join("odd.bin"), [1, 2, 3]).expect("a file");
    std::fs::write(dir.join("b.npy"), b"\x93NUMPY\x01\0v\0").expect("a file");
    std::fs::write(dir.join("c.bin"), [0; 8]).expect("a file");
    std::fs::write(dir.join("c.idx"), b"something else").expect("a file");
    let build = |more: &[&str], message: &str, hint: &str| {
        fail(dir, &[&["build", "--index", "ix"], more].concat(), message, hint);
        assert!(!dir.join("ix/manifest.json").exists());
    };
    let gpt2 = ["--tokenizer", "gpt2"];
    build(
        &[&gpt2[..], &["--tokens", "raw", "a.bin"]].concat(),
        "nothing tells where its documents end",
        "--end-of-document",
    );
    let raw = [&gpt2[..], &["--tokens", "raw", "--end-of-document", "50256"]].concat();
    build(&[&raw[..], &["a.bin"]].concat(), "60000", "");
    build(&[&raw[..], &["odd.bin"]].concat(), "no whole number of tokens", "");
    build(&[&gpt2[..], &["--tokens", "olmo", "--end-of-document", "1", "b.npy"]].concat(), "NumPy header", "tofile");
    build(&[&gpt2[..], &["--tokens", "megatron", "c.bin"]].concat(), "not an index of Megatron", "");
    build(&["--tokens", "raw", "--end-of-document", "50256", "a.bin"], "has none", "--tokenizer");
    assert_eq!(run(dir, &["build", "--index", "ix", "--token-width", "2", "a.bin"]).code, Some(2));
}
