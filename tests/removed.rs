//! Removed documents cannot be found, counted, shown or retrieved: every kind of query gives the same answer as an index that was built
//! without them. The same is asked of the index after `compact` and after `merge`.
//!
//! `PRIORART_QUERIES` sets the number of random queries (default 1,000; the long form is 10,000).

mod fixture;

use std::collections::BTreeSet;
use std::path::Path;

use fixture::{fast_place, model, setting};
use priorart::ann::{Kind, VectorSettings};
use priorart::corpus::discover;
use priorart::embed::chunk::{ChunkRule, Unit};
use priorart::embed::colbert::PlainLate;
use priorart::embed::{Encoder, OpenOptions, StaticEncoder};
use priorart::index::build::{BuildOptions, build, publish, seed, task_shards};
use priorart::index::deep::DeepOptions;
use priorart::index::spaces::{self, Space};
use priorart::index::{IndexDir, Keep, Snapshot, remove, rewrite};
use priorart::novelty::{Scorer, Settings, Text};
use priorart::query::boolean::Expression;
use priorart::query::find::FindOptions;
use priorart::query::neighbors::NeighborOptions;
use priorart::query::rank::Aggregate;
use priorart::query::trace::TraceOptions;
use priorart::shard::semantic;
use priorart::tokenize::Tokenizer;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

const WORDS: usize = 120;
type Corpus = Vec<Vec<(String, String)>>;

/// Three files of documents: random words, sentences that several documents share, copies of whole documents.
fn corpus() -> Corpus {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let words = |random: &mut ChaCha8Rng, n: usize| -> String {
        (0..n).map(|_| format!("w{}", random.random_range(0..WORDS))).collect::<Vec<_>>().join(" ")
    };
    let shared: Vec<String> = (0..12).map(|_| words(&mut random, 14)).collect();
    let mut files: Corpus = Vec::new();
    for file in 0..3 {
        let mut documents: Vec<(String, String)> = Vec::new();
        for i in 0..24 {
            let own = random.random_range(5..40);
            let text = match i % 4 {
                3 if i > 3 => documents[i - 3].1.clone(),
                _ => format!(
                    "{} {} {}",
                    words(&mut random, own),
                    shared[random.random_range(0..12)],
                    words(&mut random, 6)
                ),
            };
            documents.push((format!("{file}/{i}"), text));
        }
        files.push(documents);
    }
    files
}

fn index(dir: &Path, tokenizer: &str, encoder: &dyn Encoder, files: &Corpus, kind: Kind) -> Snapshot {
    let tokenizer = Tokenizer::open(tokenizer).unwrap();
    let home = dir.join("index");
    for (number, documents) in files.iter().enumerate() {
        let index = IndexDir::open(&home).or_else(|_| IndexDir::create(&home, seed(&tokenizer))).unwrap();
        let line = |(id, text): &(String, String)| format!("{}\n", json!({"id": id, "text": text, "of": number}));
        let path = dir.join(format!("{number}.jsonl"));
        std::fs::write(&path, documents.iter().map(line).collect::<String>()).unwrap();
        let files = discover(&[path]).unwrap();
        let options = BuildOptions { memory: 1 << 30, ..BuildOptions::default() };
        build(&index, &tokenizer, &files, &options, &mut |_| ()).unwrap();
        for shard in task_shards(&index, &tokenizer, &files, &options).unwrap() {
            let settings = VectorSettings { kind, ..VectorSettings::default() };
            let rule = ChunkRule { window: 10, stride: 10, unit: Unit::Encoder };
            let embedder = semantic::Embedder::new(encoder, &rule, &settings);
            semantic::write(&**index.store(), &shard, &tokenizer, embedder, &mut |_| ()).unwrap();
        }
        publish(&index, &tokenizer, &files, &options, |_| ()).unwrap();
    }
    Snapshot::open(&home).unwrap()
}

/// An answer without the numbers of shards and documents, which a rewritten index has others of.
fn bare(answer: impl serde::Serialize) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for name in ["shard", "document", "record", "path", "left_out"] {
                    fields.shift_remove(name);
                }
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(answer).unwrap();
    strip(&mut value);
    value
}

/// The answer of an index to random query number `n`; `document` may have been removed.
struct Asked<'a> {
    snapshot: &'a Snapshot,
    encoder: &'a dyn Encoder,
    scorer: Scorer<'a>,
}

impl<'a> Asked<'a> {
    fn new(snapshot: &'a Snapshot, encoder: &'a dyn Encoder) -> Asked<'a> {
        let settings = Settings { windows: vec![10, 20], candidates: 30, rerank: 8, ..Settings::default() };
        let late = Box::leak(Box::new(PlainLate::new(encoder)));
        Asked { snapshot, encoder, scorer: Scorer::new(snapshot, encoder, late, settings, 1 << 24, None).unwrap() }
    }

    fn answer(&mut self, n: usize, all: &[&(String, String)]) -> (&'static str, Value) {
        let mut random = ChaCha8Rng::seed_from_u64(n as u64);
        let s = self.snapshot;
        let (id, text) = all[random.random_range(0..all.len())];
        let words: Vec<&str> = text.split(' ').collect();
        let mut piece = |most: usize| {
            let length = random.random_range(1..=most.min(words.len()));
            let from = random.random_range(0..=words.len() - length);
            words[from..from + length].join(" ")
        };
        match n % 10 {
            0 | 1 => ("count", bare(s.count(&s.ngram(&piece(16)).unwrap()))),
            2 => {
                let options = FindOptions { limit: 1000, ..FindOptions::default() };
                ("find", bare(s.find(&s.ngram(&piece(5)).unwrap(), &options).unwrap()))
            }
            3 => {
                let expression = format!("\"{}\" AND (\"{}\" OR \"{}\")", piece(2), piece(2), piece(3));
                let expression = Expression::parse(s, &expression).unwrap();
                let within = [None, Some(12), Some(40)][n / 10 % 3];
                // Equally rare clauses are equally good anchors of the count.
                ("boolean", bare(s.boolean_count(&expression, within).unwrap().documents))
            }
            4 => {
                let prompt = s.ngram(&piece(4)).unwrap();
                ("next", json!([bare(s.next(&prompt, 50)), s.longest_suffix(&prompt)]))
            }
            5 => ("trace", bare(s.trace(text, &TraceOptions { min_tokens: 2, ..TraceOptions::default() }).unwrap())),
            6 => {
                let options = NeighborOptions { at_least: (n % 20 < 10).then_some(0.6), ..NeighborOptions::default() };
                let query = piece(12);
                ("neighbors", bare(s.neighbors(self.encoder, &[&query], &options).unwrap()))
            }
            7 => {
                let query = self.encoder.embed_texts(&[&piece(12)], priorart::embed::Role::Query).unwrap();
                let options = NeighborOptions { group_by_document: true, ..NeighborOptions::default() };
                (
                    "neighbors of a vector",
                    bare(s.neighbors_of_vectors(&query, self.encoder.spec().dim, &options).unwrap()),
                )
            }
            8 => {
                let items = s.embed_queries(self.encoder, &[&piece(12)]).unwrap();
                let ranked = s.rank_by_items(&items, Aggregate::Max).unwrap();
                let named = |r: &priorart::query::rank::RankedDocument| {
                    json!([s.document(r.document).unwrap().id, r.score, r.start_byte, r.end_byte])
                };
                let mut named: Vec<Value> = ranked.iter().map(named).collect();
                named.sort_by_key(|v| v.to_string());
                ("rank", json!([named, s.find_id(id).unwrap().len()]))
            }
            _ => {
                let text = Text { id: format!("q{n}"), text: text.clone(), ..Text::default() };
                ("novelty", bare(self.scorer.score(std::slice::from_ref(&text)).unwrap()))
            }
        }
    }
}

fn leaks_nothing(tokenizer: &str, kind: Kind) {
    let queries = setting("PRIORART_QUERIES", 1000);
    let place = fast_place();
    model(&place.path().join("model"), WORDS, 16);
    let encoder = StaticEncoder::open(&place.path().join("model"), &OpenOptions::default()).unwrap();
    let files = corpus();
    let all: Vec<&(String, String)> = files.iter().flatten().collect();
    let gone: BTreeSet<&str> =
        all.iter().enumerate().filter(|(i, _)| i % 3 == 1 || (24..28).contains(i)).map(|(_, d)| d.0.as_str()).collect();
    let kept: Corpus =
        files.iter().map(|f| f.iter().filter(|d| !gone.contains(d.0.as_str())).cloned().collect()).collect();

    let (with, without) = (place.path().join("with"), place.path().join("without"));
    std::fs::create_dir_all(&with).unwrap();
    std::fs::create_dir_all(&without).unwrap();
    let oracle = index(&without, tokenizer, &encoder, &kept, kind);
    let mut snapshot = index(&with, tokenizer, &encoder, &files, kind);
    let home = snapshot.dir.path().to_path_buf();
    // Vectors made elsewhere, one a document.
    let vector = |i: usize| -> Vec<f32> { (0..6).map(|d| ((i * 7 + d * 3) % 11) as f32 - 5.0).collect() };
    let mut rows = |take: spaces::Take| all.iter().enumerate().try_for_each(|(i, d)| take(d.0.clone(), &vector(i)));
    spaces::import(&snapshot.dir, "made", &VectorSettings::default(), true, false, &mut rows).unwrap();
    for half in 0..2 {
        snapshot = Snapshot::open(&home).unwrap();
        let some = gone.iter().enumerate().filter(|(i, _)| i % 2 == half).map(|(_, id)| *id);
        let documents: BTreeSet<_> = some.flat_map(|id| snapshot.find_id(id).unwrap()).collect();
        remove::remove(&snapshot, &documents).unwrap();
    }
    snapshot = Snapshot::open(&home).unwrap();
    let mut asked = 0;
    let mut compare = |snapshot: &Snapshot, what: &str, queries: usize| {
        let (mut found, mut right) = (Asked::new(snapshot, &encoder), Asked::new(&oracle, &encoder));
        assert_eq!(snapshot.manifest.corpus, oracle.manifest.corpus, "{what}");
        for n in 0..queries {
            let (kind, answer) = found.answer(n, &all);
            let (_, expected) = right.answer(n, &all);
            assert_eq!(answer, expected, "{what}: query {n} ({kind})");
            asked += 1;
        }
        for id in &gone {
            assert!(snapshot.find_id(id).unwrap().is_empty(), "{what}");
        }
        let space = Space::of(snapshot, "made").unwrap();
        for i in (0..all.len()).step_by(5) {
            let near = space.neighbors(&vector(i), 6, None, (100, None), &Default::default(), false).unwrap();
            assert!(near[0].iter().all(|hit| !gone.contains(hit.id.as_str())), "{what}");
            assert_eq!(near[0].len(), all.len() - gone.len(), "{what}");
        }
        let deep = snapshot.verify_deep(&DeepOptions { encoder: Some(&encoder), sample: 20, seed: 1 }, &mut |_| ());
        assert!(deep.faults.is_empty(), "{what}: {:?}", deep.faults);
        assert!(deep.tokens > 1000 && deep.tokenized >= 20 && deep.embedded >= 20);
    };
    compare(&snapshot, "removed", queries);

    // A removal that hides documents of merged shards and of others goes on hiding the others'.
    let two: Vec<String> = snapshot.manifest.shards[..2].iter().map(|p| p.id.clone()).collect();
    let merged = rewrite::merge(&snapshot, &two, 1 << 30, &mut |_| ()).unwrap();
    assert_eq!((merged.shards, merged.manifest.shards.len(), merged.manifest.removed.len()), ((2, 1), 2, 1));
    let after = Snapshot::open(&home).unwrap();
    compare(&after, "two of three shards merged", queries / 4);

    let states = home.join("token-cache/of-an-encoder");
    std::fs::create_dir_all(&states).unwrap();
    let compacted = rewrite::compact(&after, &mut |_| ()).unwrap();
    assert!(!states.exists(), "states of what was removed");
    let (erasure, pruned) = (&compacted.erasure, &compacted.pruned);
    assert!(compacted.rewritten.manifest.removed.is_empty());
    assert!(erasure.fragments > 50 && erasure.also_kept > 10 && erasure.found.is_empty(), "{erasure:?}");
    assert!(pruned.generations >= 4 && pruned.bytes > 0);
    let compact = Snapshot::open(&home).unwrap();
    compare(&compact, "compacted", queries / 4);
    // The snapshot that was open before is readable, although its files have been removed.
    assert_eq!(bare(Asked::new(&after, &encoder).answer(2, &all).1), Asked::new(&oracle, &encoder).answer(2, &all).1);
    let told = Snapshot::open_generation(&home, after.manifest.generation).err().unwrap().to_string();
    assert!(told.contains("no generation"), "{told}");

    let merged = rewrite::merge(&compact, &[], 1 << 30, &mut |_| ()).unwrap();
    assert_eq!(merged.manifest.shards.len(), 1);
    let last = Snapshot::open(&home).unwrap();
    compare(&last, "merged into one", queries / 4);
    assert_eq!(last.dir.prune(Keep::Newest(1)).unwrap().generations, 1);
    println!(
        "{tokenizer}, {}: {asked} random queries of 9 kinds, {} of {} documents removed, no leak",
        kind.name(),
        gone.len(),
        all.len()
    );
}

#[test]
fn words_and_exhaustive_vectors() {
    leaks_nothing("words", Kind::Flat);
}

#[test]
fn gpt2() {
    leaks_nothing("gpt2", Kind::Flat);
}

/// A search through a graph may miss neighbours, but never shows a removed document.
#[test]
fn graphs_show_no_removed_document() {
    let place = fast_place();
    model(&place.path().join("model"), WORDS, 16);
    let encoder = StaticEncoder::open(&place.path().join("model"), &OpenOptions::default()).unwrap();
    let files = corpus();
    let snapshot = index(place.path(), "words", &encoder, &files, Kind::Hnsw);
    let gone: BTreeSet<String> = files.iter().flatten().map(|d| d.0.clone()).filter(|id| !id.ends_with('3')).collect();
    let documents: BTreeSet<_> = gone.iter().flat_map(|id| snapshot.find_id(id).unwrap()).collect();
    remove::remove(&snapshot, &documents).unwrap();
    let home = snapshot.dir.path().to_path_buf();
    let check = |snapshot: &Snapshot| {
        for (_, text) in files.iter().flatten() {
            for at_least in [None, Some(0.2)] {
                let options = NeighborOptions { top_k: 30, at_least, ..NeighborOptions::default() };
                let found = snapshot.neighbors(&encoder, &[text], &options).unwrap();
                assert!(!found[0].is_empty());
                assert!(found[0].iter().all(|n| !gone.contains(&n.id)));
            }
        }
    };
    let removed = Snapshot::open(&home).unwrap();
    check(&removed);
    rewrite::compact(&removed, &mut |_| ()).unwrap();
    let compact = Snapshot::open(&home).unwrap();
    assert!(compact.vector_kinds().contains("hnsw"));
    check(&compact);
}
