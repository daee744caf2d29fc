//! `index-tools import infini-gram` as an operator runs it, on a small index written here.

use std::fs;
use std::path::Path;
use std::process::Command;

use priorart::index::Snapshot;

fn run(dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_index-tools"));
    let output = command.current_dir(dir).args(arguments).env_remove("PRIORART_INDEX").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// One shard of bytes, as infini-gram's version 4 has it, without metadata.
fn theirs(dir: &Path, documents: &[&str]) {
    fs::create_dir(dir).unwrap();
    let (mut tokens, mut offsets) = (Vec::new(), Vec::new());
    for text in documents {
        offsets.extend((tokens.len() as u64).to_le_bytes());
        tokens.push(0xFF);
        tokens.extend(text.bytes());
    }
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_by_key(|&at| &tokens[at..]);
    fs::write(dir.join("table.0"), order.iter().map(|&at| at as u8).collect::<Vec<u8>>()).unwrap();
    fs::write(dir.join("tokenized.0"), tokens).unwrap();
    fs::write(dir.join("offset.0"), offsets).unwrap();
}

#[test]
fn an_index_is_taken_over_and_extended() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    theirs(&dir.join("a"), &["the cat sat", "the mat"]);
    theirs(&dir.join("b"), &["the dog"]);
    let import = |from: &str, more: &[&str]| {
        run(dir, &[&["import", "infini-gram", from, "--index", "ix", "--tokenizer", "bytes"], more].concat())
    };
    let (code, out, err) = import("a", &[]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out, "generation 1: imported 1 shards in place, 2 documents, 18 tokens (bytes)\n");
    let before: Vec<_> = fs::read_dir(dir.join("a")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(before.len(), 3, "nothing is written there");
    assert_eq!(import("b", &["--token-width", "1"]).0, Some(0));
    let s = Snapshot::open(&dir.join("ix")).unwrap();
    assert_eq!((s.manifest.generation, s.shards.len(), s.manifest.corpus.documents), (2, 2, 3));
    assert_eq!(s.count(&s.ngram("the ").unwrap()), 3);
    assert_eq!(s.count(&s.ngram("tthe").unwrap()), 0);
    let found = s.find(&s.ngram("the dog").unwrap(), &Default::default()).unwrap();
    assert_eq!(found.found[0].id, "tokenized.0/0");
    assert_eq!(found.found[0].occurrences[0].text, "the dog");

    let refused = |arguments: &[&str], message: &str| {
        let (code, out, err) = run(dir, arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.starts_with("error: ") && err.contains(message), "{err}, expected {message:?}");
    };
    refused(&["import", "infini-gram", "nowhere", "--index", "ix"], "nowhere");
    refused(&["import", "infini-gram", "ix", "--index", "other"], "no index of infini-gram");
    refused(
        &["import", "infini-gram", "a", "--index", "ix", "--tokenizer", "gpt2", "--token-width", "1"],
        "tokenizer mismatch",
    );
    refused(&["import", "infini-gram", "a", "--index", "other", "--tokenizer", "words"], "words");
    refused(
        &["import", "infini-gram", "a", "--index", "other", "--tokenizer", "bytes", "--token-width", "4"],
        "do not fit",
    );
    assert!(!dir.join("other/manifest.json").exists());
}
