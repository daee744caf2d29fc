//! Indexes of every version of the format, committed, which must open and answer for ever as they did when they were made.
//!
//! A new version of the format adds one: `PRIORART_BLESS=1 cargo test --test golden_index` writes `tests/golden/index-MAJOR.MINOR` and the
//! answers beside it, unless they are there. Those of earlier versions are never written again.

mod fixture;

use std::path::{Path, PathBuf};

use fixture::model;
use priorart::ann::{Kind, VectorSettings};
use priorart::corpus::discover;
use priorart::embed::chunk::{ChunkRule, Unit};
use priorart::embed::{OpenOptions, StaticEncoder};
use priorart::format::format_version;
use priorart::index::build::{BuildOptions, build, publish, seed, task_shards};
use priorart::index::deep::DeepOptions;
use priorart::index::{IndexDir, Keep, Snapshot, remove};
use priorart::query::boolean::Expression;
use priorart::query::find::FindOptions;
use priorart::query::neighbors::NeighborOptions;
use priorart::query::trace::TraceOptions;
use priorart::shard::semantic;
use priorart::tokenize::Tokenizer;
use serde_json::{Value, json};

const WORDS: usize = 40;

fn encoder(place: &Path) -> StaticEncoder {
    model(&place.join("model"), WORDS, 8);
    StaticEncoder::open(&place.join("model"), &OpenOptions { name: Some("golden".into()), ..Default::default() })
        .unwrap()
}

/// Two shards, one with a graph; a removal; text, ids and metadata of several kinds.
fn make(home: &Path, place: &Path) {
    let tokenizer = Tokenizer::open("words").unwrap();
    let open = || IndexDir::open(home).or_else(|_| IndexDir::create(home, seed(&tokenizer))).unwrap();
    let encoder = encoder(place);
    for shard in 0..2u64 {
        let dir = open();
        let word = |i: u64| format!("w{}", priorart::format::checksum(&(shard << 32 | i).to_le_bytes()) % WORDS as u64);
        let line = |d: u64| {
            let words: Vec<String> = (0..24 + d % 7).map(|i| word(d * 50 + i)).collect();
            let text = format!("The lamp in the harbour burns. {} — naïve 漢字, end.", words.join(" "));
            format!(
                "{}\n",
                json!({"id": format!("golden-{shard}-{d}"), "text": text, "year": 1900 + d, "of": {"shard": shard}})
            )
        };
        // A path without the machine in it.
        let path = PathBuf::from(format!("target/golden-{shard}.jsonl"));
        std::fs::write(&path, (0..16).map(line).collect::<String>()).unwrap();
        let files = discover(&[&path]).unwrap();
        let options = BuildOptions { memory: 1 << 30, ..BuildOptions::default() };
        build(&dir, &tokenizer, &files, &options, &mut |_| ()).unwrap();
        for made in task_shards(&dir, &tokenizer, &files, &options).unwrap() {
            let kind = if shard == 0 { Kind::Hnsw } else { Kind::Flat };
            let settings = VectorSettings { kind, ..VectorSettings::default() };
            let rule = ChunkRule { window: 12, stride: 12, unit: Unit::Encoder };
            let embedder = semantic::Embedder::new(&encoder, &rule, &settings);
            semantic::write(&**dir.store(), &made, &tokenizer, embedder, &mut |_| ()).unwrap();
        }
        publish(&dir, &tokenizer, &files, &options, |_| ()).unwrap();
        std::fs::remove_file(&path).unwrap();
    }
    let snapshot = Snapshot::open(home).unwrap();
    let some = ["golden-0-3", "golden-1-5"].iter().flat_map(|id| snapshot.find_id(id).unwrap()).collect();
    remove::remove(&snapshot, &some).unwrap();
    open().prune(Keep::Newest(1)).unwrap();
}

/// The answers of an index, one of each kind of query.
fn answers(home: &Path) -> Value {
    let s = Snapshot::open(home).unwrap();
    let ngram = |text: &str| s.ngram(text).unwrap();
    let expression = Expression::parse(&s, "lamp AND (w1 OR \"naïve 漢字\")").unwrap();
    let text = "He wrote: the lamp in the harbour burns. And w1 w2 w3, end.";
    let near: Vec<Value> = ["golden-0-1", "golden-1-9"]
        .iter()
        .map(|id| {
            let document = s.find_id(id).unwrap()[0];
            let options = NeighborOptions { top_k: 5, exact: true, ..NeighborOptions::default() };
            let found = s.neighbors_of_document(document, &options).unwrap();
            // Sums may round differently on another processor.
            json!(
                found
                    .iter()
                    .map(|n| json!([n.id, n.start_byte, n.end_byte, (n.score * 1e4).round()]))
                    .collect::<Vec<_>>()
            )
        })
        .collect();
    json!({
        "generation": s.manifest.generation,
        "corpus": s.manifest.corpus,
        "counts": (0..WORDS).map(|w| s.count(&ngram(&format!("w{w}")))).collect::<Vec<_>>(),
        "phrase": s.count(&ngram("the lamp in the harbour burns")),
        "find": s.find(&ngram("w7"), &FindOptions { limit: 5, ..Default::default() }).unwrap(),
        "boolean": s.boolean_count(&expression, None).unwrap(),
        "within": s.boolean_count(&expression, Some(40)).unwrap(),
        "next": s.next(&ngram("burns ."), 10),
        "trace": s.trace(text, &TraceOptions { min_tokens: 2, ..Default::default() }).unwrap(),
        "near": near,
        "document": s.document(s.find_id("golden-1-7").unwrap()[0]).unwrap().text,
        "removed": s.find_id("golden-0-3").unwrap().len(),
    })
}

/// An answer with millionths instead of fractions: sums may round differently on another processor.
fn rounded(answer: &Value) -> Value {
    match answer {
        Value::Number(n) if n.is_f64() => json!((n.as_f64().unwrap_or_default() * 1e6).round() as i64),
        Value::Array(items) => items.iter().map(rounded).collect(),
        Value::Object(fields) => Value::Object(fields.iter().map(|(k, v)| (k.clone(), rounded(v))).collect()),
        other => other.clone(),
    }
}

#[test]
fn every_version_opens_and_answers() {
    let golden = Path::new("tests/golden");
    let current = golden.join(format!("index-{}", format_version()));
    if std::env::var_os("PRIORART_BLESS").is_some() && !current.exists() {
        let place = tempfile::tempdir().unwrap();
        make(&current, place.path());
        let text = serde_json::to_string_pretty(&answers(&current)).unwrap() + "\n";
        std::fs::write(
            current.with_extension(format!("{}.json", current.extension().unwrap().to_str().unwrap())),
            text,
        )
        .unwrap();
    }
    let mut versions = 0;
    for entry in std::fs::read_dir(golden).unwrap() {
        let home = entry.unwrap().path();
        let Some(version) = home.file_name().and_then(|n| n.to_str()?.strip_prefix("index-")).map(String::from) else {
            continue;
        };
        if !home.is_dir() {
            continue;
        }
        versions += 1;
        let dir = IndexDir::open(&home).unwrap();
        let manifest = dir.manifest().unwrap();
        assert_eq!(format!("{}.{}", manifest.format.major, manifest.format.minor), version);
        let found = dir.verify(&manifest, |_| ()).unwrap();
        assert!(found.faults.is_empty(), "{version}: {:?}", found.faults);
        let place = tempfile::tempdir().unwrap();
        let encoder = encoder(place.path());
        let options = DeepOptions { encoder: Some(&encoder), sample: 100, seed: 1 };
        let deep = Snapshot::open(&home).unwrap().verify_deep(&options, &mut |_| ());
        assert!(deep.faults.is_empty() && deep.embedded > 20, "{version}: {:?}", deep.faults);
        let told = std::fs::read_to_string(golden.join(format!("index-{version}.json"))).unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        let now = answers(&home);
        for (question, answer) in told.as_object().unwrap() {
            assert_eq!(rounded(&now[question]), rounded(answer), "{version}: {question}");
        }
    }
    assert!(versions > 0);
    if !current.exists() {
        println!("note: version {} has no golden index yet: see CONTRIBUTING.md", format_version());
    }
    println!("{versions} versions of the format open and answer");
}
