//! GSM8K questions that a language model rephrased find their originals first, through an index with `hnsw` and through its stored vectors
//! exhaustively. Four minutes in the development profile: `PRIORART_DATA=DIR cargo test --test paraphrases -- --ignored --nocapture`.
//!
//! Needs `pairs/gsm8k_rephrased.jsonl.zst` and `benchmarks/gsm8k_test.jsonl.zst` of the test data, and the model in the cache.

mod common;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

const MODEL: &str = "all-minilm-l6-v2";

fn records(path: &Path) -> Vec<Value> {
    let text = String::from_utf8(zstd::decode_all(&fs::read(path).unwrap()[..]).unwrap()).unwrap();
    text.split('\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
#[ignore = "minutes; cargo test --test paraphrases -- --ignored --nocapture"]
fn rephrased_questions_find_their_originals_first() {
    let (Some(data), Some(_)) = (std::env::var_os("PRIORART_DATA"), priorart::embed::find_model(MODEL)) else {
        println!("skipped: PRIORART_DATA is not set, or {MODEL} is not in the cache");
        return;
    };
    let data = Path::new(&data);
    let dir = tempfile::tempdir().unwrap();
    let originals = records(&data.join("benchmarks/gsm8k_test.jsonl.zst"));
    let line = |(i, r): (usize, &Value)| format!("{}\n", json!({"id": i.to_string(), "text": r["question"]}));
    fs::write(dir.path().join("originals.jsonl"), originals.iter().enumerate().map(line).collect::<String>()).unwrap();
    let pairs = records(&data.join("pairs/gsm8k_rephrased.jsonl.zst"));
    let question = |r: &Value| {
        let text = r["text"].as_str().unwrap();
        let text = text.strip_prefix("Question: ").unwrap_or(text);
        // One item's question is empty: it counts, and can only be missed.
        let asked = text.split("\nAnswer:").next().map(str::trim).unwrap_or_default();
        if asked.is_empty() { "empty".to_string() } else { asked.to_string() }
    };
    let line = |r: &Value| format!("{}\n", json!({"id": r["index"].to_string(), "text": question(r)}));
    fs::write(dir.path().join("rephrased.jsonl"), pairs.iter().map(line).collect::<String>()).unwrap();
    let cache = priorart::catalog::cache_dir().unwrap();
    let run = |arguments: &[&str]| {
        let output = common::command(dir.path(), arguments).env("PRIORART_CACHE", &cache).output().unwrap();
        let run = common::Run::from(output);
        assert_eq!(run.code, Some(0), "{}", run.err);
        run.out
    };
    let build = ["build", "-q", "--index", "ix", "--encoder", MODEL, "--chunk-tokens", "254", "--vector-index", "hnsw"];
    run(&[&build[..], &["originals.jsonl"]].concat());
    for (name, more) in [("hnsw", &[][..]), ("flat", &["--exact"])] {
        let ask = ["neighbors", "--index", "ix", "--format", "jsonl", "-k", "1", "--file", "rephrased.jsonl"];
        let out = run(&[&ask[..], more].concat());
        let rows: Vec<Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(rows.len(), 1319);
        let right = rows.iter().filter(|r| r["neighbors"][0]["id"] == r["query_id"]).count();
        let mean = rows.iter().map(|r| r["neighbors"][0]["score"].as_f64().unwrap()).sum::<f64>() / rows.len() as f64;
        let recall = right as f64 / rows.len() as f64;
        println!("{name}: recall@1 {recall:.4} ({right} of {}), mean similarity {mean:.3}", rows.len());
        assert!(recall >= 0.995, "{name}: {right} of {}", rows.len());
    }
}
