//! `verify`, `compact`, `merge`, `prune` and `plan` as an operator runs them.

use std::fs;
use std::path::Path;
use std::process::Command;

use priorart::corpus::discover;
use priorart::index::build::{BuildOptions, build, publish, seed};
use priorart::index::{IndexDir, Snapshot, remove};
use priorart::tokenize::Tokenizer;
use serde_json::Value;

fn run(dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_index-tools"));
    let output = command.current_dir(dir).args(arguments).env_remove("PRIORART_INDEX").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn succeed(dir: &Path, arguments: &[&str]) -> String {
    let (code, out, err) = run(dir, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
    out
}

/// An index of three shards of 50 documents.
fn index(dir: &Path) {
    let tokenizer = Tokenizer::open("words").unwrap();
    let home = dir.join("ix");
    for part in 0..3 {
        let path = dir.join(format!("{part}.jsonl"));
        let line = |i: u32| {
            format!(
                "{{\"id\":\"{part}-{i}\",\"text\":\"entry {i} of the harbour log, volume {part}: nothing to report\"}}\n"
            )
        };
        fs::write(&path, (0..50).map(line).collect::<String>()).unwrap();
        let files = discover(&[path]).unwrap();
        let options = BuildOptions { memory: 1 << 30, ..BuildOptions::default() };
        let dir = IndexDir::open(&home).or_else(|_| IndexDir::create(&home, seed(&tokenizer))).unwrap();
        build(&dir, &tokenizer, &files, &options, &mut |_| ()).unwrap();
        publish(&dir, &tokenizer, &files, &options, |_| ()).unwrap();
    }
}

fn count(dir: &Path, text: &str) -> u64 {
    let snapshot = Snapshot::open(&dir.join("ix")).unwrap();
    snapshot.count(&snapshot.ngram(text).unwrap())
}

#[test]
fn damage_is_named_with_a_remedy() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    index(dir);
    for deep in [&["verify", "--index", "ix", "-q"][..], &["verify", "--index", "ix", "-q", "--deep"]] {
        assert!(succeed(dir, deep).ends_with("all right\n"));
    }
    let path = dir.join("ix/shards/000002-0000/tokens.bin");
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    fs::write(&path, &bad).unwrap();
    let (code, out, _) = run(dir, &["verify", "--index", "ix", "-q"]);
    assert_eq!(code, Some(1));
    for told in [
        "tokens.bin: checksum mismatch in block 0",
        "remedy: restore ix/shards/000002-0000/tokens.bin from a backup",
        "1 faults",
    ] {
        assert!(out.contains(told), "{out}");
    }
    let (code, out, _) = run(dir, &["verify", "--index", "ix", "-q", "--deep", "--json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, Some(1));
    assert!(json["faults"].as_array().unwrap().len() >= 2, "the order of the suffixes follows from the stream: {out}");
    fs::write(&path, &good).unwrap();
    fs::remove_file(dir.join("ix/shards/000003-0000/top.bin")).unwrap();
    let (code, out, _) = run(dir, &["verify", "--index", "ix", "-q", "--deep"]);
    assert_eq!(code, Some(1));
    assert!(
        out.contains("top.bin") && out.contains("the file is missing") && out.contains("--deep could not run"),
        "{out}"
    );
}

#[test]
fn removed_documents_are_erased_and_shards_merged() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    index(dir);
    let snapshot = Snapshot::open(&dir.join("ix")).unwrap();
    let some = ["0-7", "2-9"].iter().flat_map(|id| snapshot.find_id(id).unwrap()).collect();
    remove::remove(&snapshot, &some).unwrap();
    assert_eq!(count(dir, "entry 9 of"), 2);
    let told: Value = serde_json::from_str(&succeed(dir, &["compact", "--index", "ix", "-q", "--json"])).unwrap();
    assert_eq!(
        (&told["documents_erased"], &told["shards_rewritten"], &told["search"]["found"]),
        (&2.into(), &2.into(), &Value::Array(vec![]))
    );
    assert!(told["search"]["fragments"].as_u64().unwrap() > 0 && told["generations_pruned"] == 4, "{told}");
    assert_eq!(count(dir, "entry 9 of"), 2);
    // Again there is nothing to do.
    assert!(succeed(dir, &["compact", "--index", "ix", "-q"]).contains("no shard has removed documents"));
    assert!(
        succeed(dir, &["merge", "--index", "ix", "-q"]).contains("3 shards merged into 1; 1 shards, 148 documents")
    );
    assert_eq!(count(dir, "of the harbour log"), 148);
    let (code, _, err) = run(dir, &["merge", "--index", "ix", "--shards", "nowhere"]);
    assert!(code == Some(2) && err.contains("no shard \"nowhere\"") && err.contains("hint: it has"), "{err}");
    assert!(succeed(dir, &["prune", "--index", "ix", "--keep", "1"]).contains("pruned 1 generations, 3 shards"));
    let (code, _, err) = run(dir, &["prune", "--index", "ix", "--keep", "0"]);
    assert!(code == Some(2) && err.contains("cannot be removed"), "{err}");
    assert!(succeed(dir, &["verify", "--index", "ix", "-q", "--deep"]).ends_with("all right\n"));
}

#[test]
fn a_plan_scales_a_sample() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    index(dir);
    let plan = |more: &[&str]| -> Value {
        let base = ["plan", "0.jsonl", "1.jsonl", "2.jsonl", "--tokenizer", "words", "--json", "--cores", "2"];
        serde_json::from_str(&succeed(dir, &[&base[..], more].concat())).unwrap()
    };
    let whole = plan(&[]);
    let snapshot = Snapshot::open(&dir.join("ix")).unwrap();
    let corpus = snapshot.manifest.corpus;
    // The sample is all of it.
    assert_eq!(whole["documents"], corpus.documents);
    assert_eq!(whole["exact"]["tokens"], corpus.tokens as f64);
    assert_eq!(whole["exact"]["text_bytes"], corpus.text_bytes as f64);
    let trillions = plan(&["--text-bytes", "15e12", "--core-speed", "2"]);
    let tokens = trillions["exact"]["tokens"].as_f64().unwrap();
    let expected = 15e12 * corpus.tokens as f64 / corpus.text_bytes as f64;
    assert!((tokens / expected - 1.0).abs() < 1e-9);
    assert!(trillions["exact"]["shards"].as_u64().unwrap() > 1000);
    let parts = trillions["exact"]["parts"].as_array().unwrap();
    let bytes: f64 = parts.iter().map(|p| p[1].as_f64().unwrap()).sum();
    assert!((bytes / trillions["exact"]["bytes"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    let (code, _, err) = run(dir, &["plan", "0.jsonl", "--encoder", "no-such-model"]);
    assert!(code == Some(2) && err.contains("neither a directory nor in the cache"), "{err}");
}

/// Bytes by part are those of the files of a real build, as far as they do not depend on the text.
#[test]
fn planned_bytes_are_those_of_a_build() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    let line = |i: u32| format!("{{\"id\":\"{i}\",\"text\":\"{}\"}}\n", format!("entry {i} {} ", i * 7919).repeat(40));
    fs::write(dir.join("a.jsonl"), (0..3000).map(line).collect::<String>()).unwrap();
    let told = succeed(dir, &["plan", "a.jsonl", "--tokenizer", "gpt2", "--json"]);
    let plan: Value = serde_json::from_str(&told).unwrap();
    let tokenizer = Tokenizer::open("gpt2").unwrap();
    let index = IndexDir::create(&dir.join("ix"), seed(&tokenizer)).unwrap();
    let files = discover(&[dir.join("a.jsonl")]).unwrap();
    let options = BuildOptions { memory: 1 << 30, ..BuildOptions::default() };
    build(&index, &tokenizer, &files, &options, &mut |_| ()).unwrap();
    let manifest = publish(&index, &tokenizer, &files, &options, |_| ()).unwrap();
    for file in &manifest.shards[0].files {
        let Some(part) = plan["exact"]["parts"].as_array().unwrap().iter().find(|p| p[0] == file.name.as_str()) else {
            continue;
        };
        let ratio = part[1].as_f64().unwrap() / file.bytes as f64;
        assert!((ratio - 1.0).abs() < 0.03, "{}: planned {}, built {}", file.name, part[1], file.bytes);
    }
}
