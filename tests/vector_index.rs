//! Vector indexes as a user chooses, searches and measures them; query forms of `neighbors`; `rank`; embedding that was killed.
//!
//! The encoder is a static table of seeded random word vectors, so that nothing has to be fetched and a text is as near to another as the
//! words they share.

mod common;
#[path = "common/seeded.rs"]
mod seeded;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{command, fail, run, succeed};
use priorart::index::deep::DeepOptions;
use priorart::index::spaces::import_faiss;
use priorart::index::{IndexDir, Snapshot};
use priorart::query::recall::RecallOptions;
use rand::{Rng, SeedableRng};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

const WORDS: usize = 400;
const DIM: usize = 24;

/// A model2vec directory of `WORDS` words `w0`, `w1`, …
fn model(dir: &Path) {
    let vocab: serde_json::Map<String, Value> = std::iter::once(("[UNK]".to_string(), json!(0)))
        .chain((0..WORDS).map(|i| (format!("w{i}"), json!(i + 1))))
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": vocab},
    });
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(dir.join("config.json"), json!({"model_type": "model2vec"}).to_string()).unwrap();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    let table: Vec<u8> = (0..(WORDS + 1) * DIM).flat_map(|_| random.random_range(-1f32..1.0).to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![WORDS + 1, DIM], &table).unwrap();
    fs::write(dir.join("model.safetensors"), safetensors::serialize([("embeddings", view)], None).unwrap()).unwrap();
}

/// Documents of random words: `count` of `words` each, in a file of two sources' worth of metadata.
fn corpus(path: &Path, prefix: &str, count: usize, words: usize, seed: u64) -> Vec<String> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut out = String::new();
    let mut texts = Vec::new();
    for i in 0..count {
        let text: Vec<String> = (0..words).map(|_| format!("w{}", random.random_range(0..WORDS))).collect();
        let lang = if i % 3 == 0 { "en" } else { "de" };
        let line =
            json!({"id": format!("{prefix}{i}"), "text": text.join(" "), "lang": lang, "at": {"year": 1900 + i % 7}});
        out += &format!("{line}\n");
        texts.push(text.join(" "));
    }
    fs::write(path, out).unwrap();
    texts
}

fn json_of(dir: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&succeed(dir, arguments)).unwrap()
}

fn ids(row: &Value) -> Vec<String> {
    row["neighbors"].as_array().unwrap().iter().map(|n| n["id"].as_str().unwrap().to_string()).collect()
}

fn build(dir: &Path, index: &str, more: &[&str], file: &str) {
    let base = ["build", "-q", "--index", index, "--encoder", "model", "--chunk-tokens", "8"];
    succeed(dir, &[&base[..], more, &[file]].concat());
}

#[test]
fn every_kind_answers_with_the_similarities_of_the_stored_vectors() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    model(&at.join("model"));
    let texts = corpus(&at.join("a.jsonl"), "a", 150, 40, 1);
    corpus(&at.join("b.jsonl"), "b", 50, 40, 2);
    let queries: Vec<&str> = texts[..20].iter().map(|t| &t[..t.find(" w").map_or(t.len(), |i| i + 30)]).collect();
    let ask = |index: &str, more: &[&str]| {
        let base = ["neighbors", "--index", index, "--format", "json"];
        json_of(at, &[&base[..], more, &queries[..]].concat())["results"].clone()
    };
    build(at, "flat", &["--vector-index", "flat"], "a.jsonl");
    succeed(at, &["add", "-q", "--index", "flat", "b.jsonl"]);
    let truth = ask("flat", &[]);
    assert_eq!((&truth[0]["recall"], &truth[0]["approximate"]), (&json!(1.0), &json!(false)));
    for (kind, store, error) in [("hnsw", "f32", 1e-6), ("hnsw", "f16", 1e-3), ("hnsw_rs", "int8", 2e-2)] {
        let index = format!("{kind}-{store}");
        let flags =
            ["--vector-index", kind, "--store", store, "--hnsw-m", "12", "--ef-construction", "60", "--ef", "70"];
        build(at, &index, &flags, "a.jsonl");
        succeed(at, &["add", "-q", "--index", &index, "b.jsonl"]);
        let info = json_of(at, &["info", "--index", &index, "--format", "json"]);
        assert_eq!(info["vector_index"]["search"]["ef"], 70);
        assert_eq!(info["shards"].as_array().unwrap().len(), 2);
        for shard in info["shards"].as_array().unwrap() {
            assert_eq!(
                (&shard["vector_index"]["kind"], &shard["vector_index"]["hnsw"]["m"]),
                (&json!(kind), &json!(12))
            );
            assert_eq!(shard["vector_index"]["store"], store);
        }
        let manifest: Value =
            serde_json::from_slice(&fs::read(at.join(&index).join("manifest.json")).unwrap()).unwrap();
        assert_eq!(
            manifest["shards"][1]["semantic"]["vector_index"]["kind"], kind,
            "a shard that was added is built alike"
        );
        let found = ask(&index, &[]);
        let (mut right, mut all) = (0, 0);
        for (f, t) in found.as_array().unwrap().iter().zip(truth.as_array().unwrap()) {
            assert_eq!((&f["recall"], &f["approximate"]), (&Value::Null, &json!(true)));
            for n in f["neighbors"].as_array().unwrap() {
                let same = |m: &&Value| (&m["id"], &m["start_byte"]) == (&n["id"], &n["start_byte"]);
                if let Some(m) = t["neighbors"].as_array().unwrap().iter().find(same) {
                    right += 1;
                    let off = (m["score"].as_f64().unwrap() - n["score"].as_f64().unwrap()).abs();
                    assert!(off < error, "{index}: {n} and {m}");
                }
                all += 1;
            }
        }
        assert!(right * 100 >= all * 90, "{index}: {right} of {all}");
        if store == "f32" {
            assert_eq!(ask(&index, &["--exact"])[3]["neighbors"], truth[3]["neighbors"]);
        }
        succeed(at, &["info", "--index", &index, "--verify"]);
    }
    build(at, "auto", &[], "a.jsonl");
    let info = json_of(at, &["info", "--index", "auto", "--format", "json"]);
    assert_eq!(
        (&info["vector_index"]["kind"], &info["shards"][0]["vector_index"]["kind"]),
        (&json!("auto"), &json!("flat"))
    );
}

#[test]
fn a_negative_answer_quotes_the_recall_that_was_measured() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    model(&at.join("model"));
    corpus(&at.join("a.jsonl"), "a", 100, 40, 1);
    build(at, "ix", &["--vector-index", "hnsw", "--hnsw-m", "3", "--ef-construction", "8"], "a.jsonl");
    let nothing = ["neighbors", "--index", "ix", "--min-similarity", "1.5", "w1 w2"];
    let before = succeed(at, &nothing);
    assert!(before.contains("nothing found in generation 1") && before.contains("not measured"), "{before}");
    let snapshot = priorart::index::Snapshot::open(&at.join("ix")).unwrap();
    let measure = |ef| {
        let params = priorart::ann::SearchParams { ef, nprobe: 0 };
        snapshot
            .measure_recall(&priorart::query::recall::RecallOptions { sample: 200, params, ..Default::default() })
            .unwrap()
    };
    let (hasty, usual, wide) = (measure(5), measure(0), measure(500));
    assert!(hasty.recall < usual.recall && usual.recall <= wide.recall && wide.recall > 0.97, "{hasty:?} {wide:?}");
    assert_eq!((usual.params.ef, usual.queries, usual.k), (100, 200, 10));
    snapshot.record_recall(&[hasty.clone(), usual.clone()]).unwrap();
    assert!(snapshot.record_recall(&[wide]).is_err(), "generation 2 was published meanwhile");
    let quoted = |more: &[&str]| succeed(at, &[&nothing[..], more].concat());
    assert!(
        quoted(&[]).contains(&format!(
            "hnsw with ef 100: recall@10 {:.4}, measured on 200 chunks of generation 1",
            usual.recall
        ))
    );
    assert!(quoted(&["--ef", "5"]).contains(&format!("recall@10 {:.4}", hasty.recall)), "{}", quoted(&["--ef", "5"]));
    assert!(quoted(&["--ef", "6"]).contains("not measured"));
    assert!(quoted(&["--exact"]).contains("exhaustive search: recall 1"));
    let found = json_of(at, &["neighbors", "--index", "ix", "--format", "jsonl", "w1 w2"]);
    assert_eq!(found["recall"].as_f64().unwrap(), usual.recall);
    assert_eq!(found["recall_measured"]["generation"], 1);
    let flat = priorart::query::recall::RecallOptions { k: 0, ..Default::default() };
    assert!(snapshot.measure_recall(&flat).is_err());
}

#[test]
fn queries_are_texts_files_documents_and_vectors() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    model(&at.join("model"));
    let texts = corpus(&at.join("a.jsonl"), "a", 60, 24, 1);
    corpus(&at.join("b.jsonl"), "b", 60, 24, 2);
    build(at, "ix", &["--vector-index", "flat"], "a.jsonl");
    succeed(at, &["add", "-q", "--index", "ix", "b.jsonl"]);
    let ask = |more: &[&str]| {
        let base = ["neighbors", "--index", "ix", "--format", "json"];
        json_of(at, &[&base[..], more].concat())["results"].clone()
    };
    // A file of lines, and one of records, give what the texts give.
    fs::write(at.join("q.txt"), format!("{}\n\n{}\n", texts[3], texts[5])).unwrap();
    let typed = ask(&[&texts[3], &texts[5]]);
    assert_eq!(ask(&["--file", "q.txt"]), typed);
    fs::write(at.join("q.jsonl"), format!("{}\n", json!({"id": "x", "question": texts[3]}))).unwrap();
    let of_file = ask(&["--file", "q.jsonl", "--text-field", "question"]);
    assert_eq!((&of_file[0]["query_id"], &of_file[0]["neighbors"]), (&json!("x"), &typed[0]["neighbors"]));
    assert_eq!(ids(&typed[0])[0], "a3");
    // A text longer than a chunk is answered for all of its parts.
    let long = format!("{} {}", texts[7], texts[8]).repeat(100);
    let parts: BTreeSet<String> =
        ids(&ask(&["-k", "40", "--group", "document", &long])[0]).into_iter().take(2).collect();
    assert_eq!(parts, BTreeSet::from(["a7".to_string(), "a8".to_string()]));
    // Grouping gives as many documents as were asked for.
    let grouped = ids(&ask(&["-k", "50", "--group", "document", &texts[0]])[0]);
    assert_eq!(grouped.iter().collect::<BTreeSet<_>>().len(), 50);
    assert_eq!(grouped.len(), 50);
    // Filters.
    let english = ids(&ask(&["-k", "200", "--group", "document", "--where", "lang=en", "w1"])[0]);
    let number = |id: &String| id[1..].parse::<usize>().unwrap();
    assert_eq!(english.len(), 40);
    assert!(english.iter().all(|id| number(id) % 3 == 0));
    let dated = ids(&ask(&["-k", "200", "--group", "document", "--where", "at.year=1903", "--source", "b.*", "w1"])[0]);
    assert!(!dated.is_empty() && dated.iter().all(|id| id.starts_with('b') && number(id) % 7 == 3), "{dated:?}");
    assert!(ids(&ask(&["--where", "lang=fr", "w1"])[0]).is_empty());
    // A document's neighbours are those of its chunks, without itself.
    let of_document = ask(&["--document", "a4", "-k", "5"]);
    let list = ids(&of_document[0]);
    assert_eq!(list.len(), 5);
    assert!(!list.contains(&"a4".to_string()));
    fs::write(at.join("copy.jsonl"), format!("{}\n", json!({"id": "copy", "text": texts[4]}))).unwrap();
    succeed(at, &["add", "-q", "--index", "ix", "copy.jsonl"]);
    let copied = ask(&["--document", "a4", "-k", "3"]);
    assert_eq!(ids(&copied[0]), ["copy", "copy", "copy"]);
    assert!(copied[0]["neighbors"][2]["score"].as_f64().unwrap() > 0.9999);
    assert_eq!(ids(&ask(&["--document", "a4", "--min-similarity", "0.9999"])[0]), ["copy", "copy", "copy"]);
    // A vector: a row of the stored ones, at any length.
    let snapshot = priorart::index::Snapshot::open(&at.join("ix")).unwrap();
    let semantic = snapshot.shards[1].semantic.as_ref().unwrap();
    let row: Vec<f32> = semantic.vectors.flat().unwrap().vector(10).unwrap().iter().map(|x| 3.0 * x).collect();
    let npy = |rows: usize, values: &[f32]| {
        let mut header =
            format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {}), }}", values.len() / rows);
        header += &" ".repeat(117 - header.len());
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        [b"\x93NUMPY\x01\x00\x76\x00".to_vec(), header.into_bytes(), vec![b'\n'], bytes].concat()
    };
    fs::write(at.join("v.npy"), npy(1, &row)).unwrap();
    let near = ask(&["--vectors", "v.npy", "-k", "1"]);
    let chunk = semantic.chunk(10).unwrap();
    assert_eq!(
        (&near[0]["neighbors"][0]["shard"], &near[0]["neighbors"][0]["document"]),
        (&json!(1), &json!(chunk.document))
    );
    assert!((near[0]["neighbors"][0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-5);
    // Bad input.
    fs::write(at.join("narrow.npy"), npy(1, &row[..8])).unwrap();
    let base = ["neighbors", "--index", "ix"];
    let refused = |more: &[&str], message: &str| fail(at, &[&base[..], more].concat(), message, "");
    refused(
        &["--vectors", "narrow.npy"],
        "encoder mismatch: the index uses vectors of 24 dimensions, the query vectors of 8",
    );
    fs::write(at.join("nan.npy"), npy(1, &[f32::NAN; DIM])).unwrap();
    refused(&["--vectors", "nan.npy"], "nan.npy:1: bad record");
    fs::write(at.join("zero.npy"), npy(1, &[0.0; DIM])).unwrap();
    refused(&["--vectors", "zero.npy"], "vector 0 is zero");
    refused(&["--vectors", "v.npy", "--rerank", "3"], "cannot be reranked");
    refused(&["--document", "nobody"], "no document of generation 3 has the id \"nobody\"");
    refused(&["--where", "lang", "w1"], "a field and a value are needed");
    refused(&["--min-similarity", "NaN", "w1"], "--min-similarity NaN");
    refused(&["-k", "0", "w1"], "-k 0");
    refused(&["", "w1"], "text 0 is empty");
    refused(&["--space", "none", "--document", "a4"], "no space named \"none\"");
    assert_eq!(run(at, &["neighbors", "--index", "ix"]).code, Some(2));
}

#[test]
fn documents_are_ranked_by_their_nearest_item() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    model(&at.join("model"));
    let texts = corpus(&at.join("a.jsonl"), "a", 80, 24, 1);
    build(at, "ix", &["--vector-index", "hnsw"], "a.jsonl");
    let chunk = |text: &str, i: usize| text.split(' ').skip(8 * i).take(8).collect::<Vec<_>>().join(" ");
    let items = format!(
        "{}\n{}\n",
        json!({"id": "q0", "question": chunk(&texts[30], 1)}),
        json!({"id": "q1", "question": chunk(&texts[12], 2)})
    );
    fs::write(at.join("items.jsonl"), items).unwrap();
    let base = ["rank", "--index", "ix", "--text-field", "question", "items.jsonl", "--format", "jsonl"];
    let lines = |more: &[&str]| -> Vec<Value> {
        succeed(at, &[&base[..], more].concat()).lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let all = lines(&[]);
    assert_eq!(all.len(), 80);
    let first: BTreeSet<(&str, &str)> =
        all[..2].iter().map(|r| (r["id"].as_str().unwrap(), r["item"].as_str().unwrap())).collect();
    assert_eq!(first, BTreeSet::from([("a30", "q0"), ("a12", "q1")]));
    let score = |r: &Value| r["score"].as_f64().unwrap();
    assert!(score(&all[1]) > 0.9999 && all.windows(2).all(|w| score(&w[0]) >= score(&w[1])));
    assert_eq!(all[0]["rank"], 1);
    let mean = lines(&["--aggregate", "mean", "--top", "5"]);
    assert_eq!(mean.len(), 5);
    assert!(score(&mean[0]) < 0.95, "no document is near both items");
    succeed(at, &[&base[..], &["--out", "scores.jsonl"]].concat());
    assert_eq!(fs::read_to_string(at.join("scores.jsonl")).unwrap().lines().count(), 80);
    fs::write(at.join("none.txt"), "\n").unwrap();
    fail(at, &["rank", "--index", "ix", "none.txt"], "there are no items", "");
    succeed(at, &["build", "-q", "--index", "plain", "a.jsonl"]);
    fail(at, &["rank", "--index", "plain", "items.jsonl", "--text-field", "question"], "no embeddings", "--encoder");
}

#[test]
fn what_cannot_be_built_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    model(&at.join("model"));
    corpus(&at.join("a.jsonl"), "a", 3, 8, 1);
    let refused = |more: &[&str], message: &str, hint: &str| {
        let base = ["build", "--index", "ix", "--encoder", "model", "--chunk-tokens", "8", "a.jsonl"];
        fail(at, &[&base[..], more].concat(), message, hint);
        assert!(!at.join("ix").exists(), "{more:?}");
    };
    refused(&["--vector-index", "hsnw"], "unknown vector index `hsnw`", "");
    refused(&["--vector-index", "flat:x"], "no factory goes with \"flat\"", "ivf:FACTORY");
    refused(&["--vector-index", "hnsw", "--hnsw-m", "1"], "M is 1", "");
    refused(&["--vector-index", "hnsw", "--ef-construction", "0"], "ef_construction is 0", "");
    refused(&["--vector-index", "flat", "--ef", "5"], "--ef means nothing to the vector index flat", "");
    refused(&["--vector-index", "hnsw", "--nprobe", "5"], "--nprobe means nothing", "");
    if cfg!(not(feature = "faiss")) {
        refused(&["--vector-index", "ivf:IVF4,SQ8"], "needs the cargo feature `faiss`", "--features faiss");
    }
    refused(&["--vector-index", "flat", "--store", "none"], "nothing to search", "hnsw");
    assert_eq!(run(at, &["build", "--index", "ix", "--store", "f8", "a.jsonl"]).code, Some(2));
}

#[test]
fn an_index_that_stores_no_vectors_searches_its_codes_and_says_what_it_cannot_do() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    model(&at.join("model"));
    let texts = corpus(&at.join("a.jsonl"), "a", 60, 40, 1);
    build(at, "whole", &["--vector-index", "hnsw"], "a.jsonl");
    build(at, "bare", &["--vector-index", "auto", "--store", "none"], "a.jsonl");
    let shard = |index: &str| fs::read_dir(at.join(index).join("shards")).unwrap().next().unwrap().unwrap().path();
    assert!(shard("whole").join("vectors.bin").exists() && !shard("bare").join("vectors.bin").exists());
    let info = succeed(at, &["info", "--index", "bare"]);
    assert!(info.contains("hnsw") && info.contains("vectors stored as none"), "{info}");
    let query = &texts[7][..texts[7].len() / 5];
    let ask = |index: &str| {
        json_of(at, &["neighbors", "--index", index, "-k", "5", "--format", "json", query])["results"][0].clone()
    };
    let (whole, bare) = (ask("whole"), ask("bare"));
    assert_eq!((ids(&bare)[0].as_str(), &bare["approximate"]), ("a7", &json!(true)));
    let score = |row: &Value| row["neighbors"][0]["score"].as_f64().unwrap();
    let off = (score(&whole) - score(&bare)).abs();
    assert!(off > 0.0 && off < 0.03, "{off}: int8 codes are near the vectors and not the same");
    let (what, hint) = ("built to store none", "--store f32, f16 or int8");
    fail(at, &["neighbors", "--index", "bare", "--exact", "w1"], what, hint);
    fail(at, &["neighbors", "--index", "bare", "--document", "a7"], what, hint);
    fail(at, &["rank", "--index", "bare", "a.jsonl"], what, hint);
    let snapshot = Snapshot::open(&at.join("bare")).unwrap();
    let error = snapshot.measure_recall(&RecallOptions::default()).unwrap_err().to_string();
    assert!(error.contains(what), "{error}");
    // A graph that is gone is damage, not an empty index.
    fs::remove_file(shard("bare").join("ann.bin")).unwrap();
    assert_eq!(run(at, &["neighbors", "--index", "bare", "w1"]).code, Some(2));
}

#[test]
fn chunks_are_cut_by_index_tokens_where_asked() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    model(&at.join("model"));
    let texts = corpus(&at.join("a.jsonl"), "a", 5, 40, 1);
    corpus(&at.join("b.jsonl"), "b", 2, 40, 2);
    let by = ["--tokenizer", "bytes", "--chunk-unit", "index", "--chunk-tokens", "30", "--chunk-stride", "20"];
    let base = ["build", "-q", "--index", "ix", "--encoder", "model"];
    succeed(at, &[&base[..], &by, &["a.jsonl"]].concat());
    succeed(at, &["add", "-q", "--index", "ix", "b.jsonl"]);
    let info = json_of(at, &["info", "--index", "ix", "--format", "json"]);
    assert_eq!(info["chunking"], json!({"tokens": 30, "stride": 20, "unit": "index"}));
    let snapshot = Snapshot::open(&at.join("ix")).unwrap();
    assert_eq!(snapshot.shards.len(), 2);
    let semantic = snapshot.shards[0].semantic.as_ref().unwrap();
    for (document, text) in texts.iter().enumerate() {
        let starts: Vec<usize> = (0..text.len()).filter(|&i| i == 0 || text.as_bytes()[i - 1] == b' ').collect();
        let rows = semantic.rows_of(document as u32);
        for (i, row) in rows.clone().enumerate() {
            let chunk = semantic.chunk(row).unwrap();
            let window = 20 * i..if row + 1 == rows.end { text.len() } else { 20 * i + 30 };
            let own: Vec<usize> = starts.iter().copied().filter(|start| window.contains(start)).collect();
            assert_eq!(chunk.start_byte as usize, own[0], "window {i} of {document}");
            let end =
                own[own.len() - 1] + text[own[own.len() - 1]..].find(' ').unwrap_or(text.len() - own[own.len() - 1]);
            assert_eq!(chunk.end_byte as usize, end, "window {i} of {document}");
        }
    }
    let encoder = priorart::embed::open(&at.join("model"), &Default::default()).unwrap();
    let options = DeepOptions { encoder: Some(&*encoder), sample: 10, seed: 1 };
    let deep = snapshot.verify_deep(&options, &mut |_| ());
    assert!(deep.faults.is_empty() && deep.embedded > 5, "{deep:?}");
    let query = &texts[3][..30];
    let ask = ["neighbors", "--index", "ix", "-k", "1", "--format", "json", query];
    assert_eq!(ids(&json_of(at, &ask)["results"][0]), ["a3"]);
    let refused = [&base[..], &["--chunk-unit", "index", "--chunk-stride", "200", "a.jsonl"]].concat();
    fail(
        at,
        &refused.iter().map(|a| if *a == "ix" { "new" } else { a }).collect::<Vec<_>>(),
        "a chunk stride of 200",
        "",
    );
}

/// Files that faiss-cpu wrote (golden/make_faiss.py).
#[test]
fn a_faiss_file_with_an_id_map_is_a_space() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    fs::write(at.join("d.jsonl"), "{\"id\": \"5000000070\", \"text\": \"the tenth\"}\n").unwrap();
    succeed(at, &["build", "-q", "--index", "ix", "d.jsonl"]);
    let index = IndexDir::open(&at.join("ix")).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let import = |name: &str, file: &str, ids: Option<Vec<String>>, dim: Option<usize>| {
        import_faiss(&index, name, &golden.join(file), ids, dim, false, false)
    };
    if cfg!(not(feature = "faiss")) {
        let error = import("api", "product.faiss", None, None).unwrap_err();
        assert!(error.to_string().contains("faiss") && error.hint().unwrap().contains("--features faiss"), "{error}");
        return;
    }
    let refused = |error: priorart::Result<_>, what: &str| {
        let error = error.map(|_: priorart::index::Manifest| ()).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    };
    refused(import("api", "distance.faiss", None, None), "does not compare by inner product");
    refused(import("api", "product.faiss", None, Some(9)), "vectors of 8 dimensions, 9 expected");
    refused(import("api", "product.faiss", Some(vec!["a".into()]), None), "it has an id map");
    refused(import("api", "colbert.json", None, None), "FAISS");
    assert_eq!(index.manifest().unwrap().generation, 1, "nothing is published of what is refused");
    assert_eq!(import("api", "product.faiss", None, Some(8)).unwrap().generation, 2);
    refused(import("api", "product.faiss", None, None), "already a space named");
    // The eleventh vector, made by the generator of the script.
    let vector: Vec<f32> = (0..8).map(|d| (2.0 * seeded::unit((10u64 << 32) + d) - 1.0) as f32).collect();
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![1, 8], &bytes).unwrap();
    fs::write(at.join("q.safetensors"), safetensors::serialize([("q", view)], None).unwrap()).unwrap();
    let ask = ["neighbors", "--index", "ix", "--space", "api", "--vectors", "q.safetensors", "--format", "json"];
    let row = json_of(at, &[&ask[..], &["-k", "64", "--nprobe", "4"]].concat())["results"][0].clone();
    let near = row["neighbors"].as_array().unwrap();
    assert_eq!((near.len(), &row["approximate"]), (64, &json!(true)));
    // A longer vector may have the larger inner product; the vector itself has the square of its length.
    let own = near.iter().find(|n| n["id"] == "5000000070").unwrap();
    let square: f32 = vector.iter().map(|x| x * x).sum();
    assert!((own["score"].as_f64().unwrap() - f64::from(square)).abs() < 1e-4, "{own}");
    assert_eq!(own["documents"].as_array().unwrap().len(), 1, "an id that is a document's leads to it");
    fail(at, &[&ask[..], &["--exact"]].concat(), "built to store none", "");
}

#[test]
fn an_embedding_that_was_killed_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    model(&at.join("model"));
    corpus(&at.join("a.jsonl"), "a", 400, 600, 1);
    let arguments =
        ["build", "--index", "ix", "--encoder", "model", "--chunk-tokens", "4", "--vector-index", "flat", "a.jsonl"];
    let mut child = command(at, &arguments).stdout(std::process::Stdio::null()).spawn().unwrap();
    let journal = || {
        let plans = fs::read_dir(at.join("ix/building")).into_iter().flatten().flatten();
        plans
            .map(|plan| plan.path().join("task-00000/shard-00000/embedding.journal"))
            .find_map(|path| fs::metadata(path).ok())
            .map_or(0, |m| m.len())
    };
    let started = Instant::now();
    // Three batches of 512 chunks, of 117.
    let three = 3 * 512 * DIM as u64 * 4;
    while journal() < three {
        assert!(
            started.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none(),
            "no journal is kept"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(run(at, &["info", "--index", "ix"]).err.contains("no index here"));
    let before = journal();
    assert!(before >= three, "the journal stays");
    let again = run(at, &arguments);
    assert_eq!(again.code, Some(0), "{}", again.err);
    let told: u64 = again
        .err
        .lines()
        .find_map(|l| l.strip_prefix("resumed: ")?.strip_suffix(" chunks were embedded by an earlier run"))
        .map(|n| n.replace(',', "").parse().unwrap())
        .unwrap();
    assert!(told >= 1536 && told <= before / (DIM as u64 * 4), "{told} chunks, {before} bytes");
    let whole = [&["build", "-q", "--index", "whole"][..], &arguments[3..]].concat();
    succeed(at, &whole);
    let files = |index: &str| {
        let shard = at.join(index).join("shards/000001-0000");
        let names: BTreeSet<String> =
            fs::read_dir(&shard).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        assert!(!names.contains("embedding.journal"));
        (fs::read(shard.join("vectors.bin")).unwrap(), fs::read(shard.join("chunks.bin")).unwrap(), names)
    };
    assert!(files("ix") == files("whole"), "the bytes are those of an undisturbed build");
}

#[test]
fn a_divided_build_keeps_its_encoder() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    model(&at.join("model"));
    corpus(&at.join("a.jsonl"), "a", 20, 24, 1);
    corpus(&at.join("b.jsonl"), "b", 20, 24, 2);
    for task in ["0", "1"] {
        build(at, "ix", &["--task", task, "--tasks", "2", "--vector-index", "hnsw", "a.jsonl"], "b.jsonl");
    }
    succeed(at, &["publish", "-q", "--index", "ix", "--tasks", "2", "a.jsonl", "b.jsonl"]);
    let info = json_of(at, &["info", "--index", "ix", "--format", "json"]);
    assert_eq!((&info["encoder"]["dim"], &info["chunking"]["tokens"]), (&json!(DIM), &json!(8)));
    assert_eq!((&info["vector_index"]["kind"], info["shards"].as_array().unwrap().len()), (&json!("hnsw"), 2));
    assert_eq!(
        json_of(at, &["neighbors", "--index", "ix", "--format", "jsonl", "-k", "4", "w5"])["neighbors"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
}
