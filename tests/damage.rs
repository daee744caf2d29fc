//! Flipped bits, cut files and missing files, in every file of every kind: `verify` sees all of them, and whoever reads without verifying
//! gets an error or a wrong answer, in finite time, but never a crash.
//!
//! `PRIORART_FLIPS` sets the flips a file (default 60).

mod fixture;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fixture::{fast_place, model, setting};
use priorart::ann::{Kind, SearchParams, VectorSettings};
use priorart::corpus::discover;
use priorart::embed::chunk::{ChunkRule, Unit};
use priorart::embed::{Encoder, OpenOptions, StaticEncoder};
use priorart::index::build::{BuildOptions, build, publish, seed, task_shards};
use priorart::index::deep::DeepOptions;
use priorart::index::spaces::{self, Space};
use priorart::index::{IndexDir, Snapshot, remove};
use priorart::query::boolean::Expression;
use priorart::query::find::FindOptions;
use priorart::query::neighbors::NeighborOptions;
use priorart::query::trace::TraceOptions;
use priorart::shard::semantic;
use priorart::tokenize::Tokenizer;

/// Two shards, one with a graph; a removal; a space.
fn index(place: &Path, tokenizer: &str, encoder: &dyn Encoder) -> PathBuf {
    let tokenizer = Tokenizer::open(tokenizer).unwrap();
    let home = place.join("index");
    let open = || IndexDir::open(&home).or_else(|_| IndexDir::create(&home, seed(&tokenizer))).unwrap();
    for file in 0..2u64 {
        let dir = open();
        let word = |i: u64| format!("w{}", priorart::format::checksum(&(file << 32 | i).to_le_bytes()) % 60);
        let line = |d: u64| {
            let text: Vec<String> = (0..20 + d % 9).map(|i| word(d * 64 + i)).collect();
            format!("{}\n", serde_json::json!({"id": format!("{file}/{d}"), "text": text.join(" "), "n": d}))
        };
        let path = place.join(format!("{file}.jsonl"));
        std::fs::write(&path, (0..40).map(line).collect::<String>()).unwrap();
        let files = discover(&[path]).unwrap();
        let options = BuildOptions { memory: 1 << 30, ..BuildOptions::default() };
        build(&dir, &tokenizer, &files, &options, &mut |_| ()).unwrap();
        for shard in task_shards(&dir, &tokenizer, &files, &options).unwrap() {
            let kind = if file == 0 { Kind::Hnsw } else { Kind::Flat };
            let settings = VectorSettings { kind, ..VectorSettings::default() };
            let rule = ChunkRule { window: 10, stride: 10, unit: Unit::Encoder };
            let embedder = semantic::Embedder::new(encoder, &rule, &settings);
            semantic::write(&**dir.store(), &shard, &tokenizer, embedder, &mut |_| ()).unwrap();
        }
        publish(&dir, &tokenizer, &files, &options, |_| ()).unwrap();
    }
    let dir = open();
    let mut rows =
        |take: spaces::Take| (0..50).try_for_each(|i| take(format!("0/{i}"), &[i as f32, 1.0, (i % 7) as f32, -2.0]));
    let graph = VectorSettings { kind: Kind::Hnsw, ..VectorSettings::default() };
    spaces::import(&dir, "made", &graph, true, false, &mut rows).unwrap();
    let snapshot = Snapshot::open(&home).unwrap();
    let documents = ["0/3", "1/4", "1/5"].iter().flat_map(|id| snapshot.find_id(id).unwrap()).collect();
    remove::remove(&snapshot, &documents).unwrap();
    home
}

/// Every kind of query, whatever it answers.
fn ask(snapshot: &Snapshot, encoder: &dyn Encoder) {
    let text = "w1 w2 w3 w17 w40 w2 w5 w59 w8 w9";
    for query in ["w1", "w7 w8", text, ""] {
        let Ok(ngram) = snapshot.ngram(query) else { continue };
        let _ = (snapshot.count(&ngram), snapshot.find(&ngram, &FindOptions::default()), snapshot.next(&ngram, 20));
        let _ = (snapshot.counts(&[ngram.clone(), ngram.clone()]), snapshot.longest_suffix(&ngram));
        let _ = (snapshot.longest_matches(&ngram), snapshot.maximal_spans(&ngram));
    }
    if let Ok(expression) = Expression::parse(snapshot, "w1 AND (w2 OR w3)") {
        let _ = (snapshot.boolean_count(&expression, None), snapshot.boolean_count(&expression, Some(9)));
    }
    let _ = snapshot.trace(text, &TraceOptions { min_tokens: 1, ..TraceOptions::default() });
    for exact in [false, true] {
        let options = NeighborOptions { exact, ..NeighborOptions::default() };
        let _ = snapshot.neighbors(encoder, &[text], &options);
        let _ = snapshot.neighbors(encoder, &[text], &NeighborOptions { at_least: Some(0.1), ..options });
    }
    if let Ok(found) = snapshot.find_id("0/7") {
        for document in found {
            let _ =
                (snapshot.document(document), snapshot.neighbors_of_document(document, &NeighborOptions::default()));
        }
    }
    if let Ok(space) = Space::of(snapshot, "made") {
        let _ = space.neighbors(&[1.0, 0.0, 2.0, 3.0], 4, None, (5, None), &SearchParams::default(), false);
    }
}

/// Ends the process when nothing has moved for a minute: a query that does not end is a failure, too.
fn watchdog() -> Arc<AtomicU64> {
    let moved = Arc::new(AtomicU64::new(0));
    let seen = Arc::downgrade(&moved);
    std::thread::spawn(move || {
        let mut last = u64::MAX;
        while let Some(moved) = seen.upgrade() {
            let now = moved.load(Ordering::Relaxed);
            if now == last {
                eprintln!("a query of damaged files has not ended within a minute (change {now})");
                std::process::abort();
            }
            last = now;
            drop(moved);
            std::thread::sleep(Duration::from_secs(60));
        }
    });
    moved
}

fn damage_of_an_index(tokenizer: &str) {
    let flips = setting("PRIORART_FLIPS", 60) as u64;
    let place = fast_place();
    model(&place.path().join("model"), 60, 8);
    let encoder = StaticEncoder::open(&place.path().join("model"), &OpenOptions::default()).unwrap();
    let home = index(place.path(), tokenizer, &encoder);
    let dir = IndexDir::open(&home).unwrap();
    let manifest = dir.manifest().unwrap();
    let mut files = vec![home.join("manifest.json"), home.join(format!("generations/{:06}.json", manifest.generation))];
    for (parts, of) in [
        (&manifest.shards, IndexDir::shard_dir as fn(&IndexDir, &str) -> PathBuf),
        (&manifest.removed, IndexDir::removed_dir),
        (&manifest.spaces, IndexDir::space_dir),
    ] {
        for part in parts {
            files.extend(part.files.iter().map(|f| of(&dir, &part.id).join(&f.name)));
        }
    }
    let moved = watchdog();
    let (mut changes, mut opened, mut refused, mut deep) = (0u64, 0u64, 0u64, 0u64);
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    let mut look = |path: &Path, change: &str, must_refuse: bool| {
        moved.fetch_add(1, Ordering::Relaxed);
        changes += 1;
        *kinds.entry(path.file_name().unwrap().to_string_lossy().into_owned()).or_default() += 1;
        let found = dir.manifest().and_then(|m| dir.verify(&m, |_| ()));
        assert!(!found.is_ok_and(|v| v.faults.is_empty()), "{}: {change} unnoticed by verify", path.display());
        match Snapshot::open(&home) {
            Ok(snapshot) => {
                let generation = path.parent().is_some_and(|p| p.ends_with("generations"));
                let lazily = generation || path.starts_with(home.join("spaces"));
                assert!(!must_refuse || lazily, "{}: {change}: opens", path.display());
                ask(&snapshot, &encoder);
                opened += 1;
                if changes.is_multiple_of(13) {
                    let options = DeepOptions { encoder: Some(&encoder), sample: 5, seed: 1 };
                    let _ = snapshot.verify_deep(&options, &mut |_| ());
                    deep += 1;
                }
            }
            Err(e) => {
                assert!(!e.to_string().is_empty());
                refused += 1;
            }
        }
    };
    let mut random = 1u64;
    for path in &files {
        let good = std::fs::read(path).unwrap();
        let bits = good.len() as u64 * 8;
        for n in 0..flips {
            random = priorart::format::checksum(&random.to_le_bytes());
            // One in four in the first 128 bytes, where headers are.
            let bit = if n % 4 == 0 { random % bits.min(1024) } else { random % bits };
            let mut bad = good.clone();
            bad[(bit / 8) as usize] ^= 1 << (bit % 8);
            std::fs::write(path, &bad).unwrap();
            look(path, &format!("bit {bit}"), false);
        }
        for length in [0, 1, 63, 64, good.len() / 2, good.len() - 1].into_iter().filter(|&l| l < good.len()) {
            std::fs::write(path, &good[..length]).unwrap();
            look(path, &format!("cut to {length}"), true);
        }
        std::fs::write(path, [&good[..], b"x"].concat()).unwrap();
        look(path, "a byte longer", true);
        std::fs::remove_file(path).unwrap();
        look(path, "gone", true);
        std::fs::write(path, &good).unwrap();
    }
    let snapshot = Snapshot::open(&home).unwrap();
    assert!(dir.verify(&snapshot.manifest, |_| ()).unwrap().faults.is_empty());
    let options = DeepOptions { encoder: Some(&encoder), sample: 50, seed: 1 };
    let made = snapshot.verify_deep(&options, &mut |_| ());
    assert!(made.faults.is_empty(), "{:?}", made.faults);
    assert!(made.least_similarity > 0.9999 && made.embedded > 50);
    println!(
        "{tokenizer}: {changes} changes in {} files ({} of one bit), all seen by verify; {refused} refused at open, {opened} opened and \
         queried, {deep} verified deeply; by file: {kinds:?}",
        files.len(),
        files.len() as u64 * flips
    );
}

#[test]
fn damage_of_an_index_of_words() {
    damage_of_an_index("words");
}

#[test]
fn damage_of_an_index_of_gpt2() {
    damage_of_an_index("gpt2");
}
