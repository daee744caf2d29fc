//! `recall`, `plan`, `import-vectors` and `export-vectors` as an operator runs them, on an index made with a table of random word vectors.

use std::fs;
use std::path::Path;
use std::process::Command;

use priorart::ann::{Kind, ParquetWriter, SearchParams, VectorSettings};
use priorart::embed::chunk::ChunkRule;
use priorart::index::build::{BuildOptions, build, publish, seed, task_shards};
use priorart::index::spaces::Space;
use priorart::index::{IndexDir, Snapshot};
use priorart::shard::semantic::Embedder;
use priorart::tokenize::Tokenizer;

const DIM: usize = 16;

struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(dir: &Path, arguments: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_index-tools"));
    let output = command.current_dir(dir).args(arguments).env_remove("PRIORART_INDEX").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn succeed(dir: &Path, arguments: &[&str]) -> String {
    let run = run(dir, arguments);
    assert_eq!(run.code, Some(0), "{arguments:?}: {}", run.err);
    run.out
}

fn refuse(dir: &Path, arguments: &[&str], message: &str) {
    let run = run(dir, arguments);
    assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{arguments:?}: {}", run.err);
    assert!(run.err.starts_with("error: ") && run.err.contains(message), "{}, expected {message:?}", run.err);
}

/// A stream of numbers that looks random.
fn numbers(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

fn npy(path: &Path, rows: usize, dim: usize, values: &[f32]) {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    header += &" ".repeat(117 - header.len());
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    fs::write(path, [b"\x93NUMPY\x01\x00\x76\x00".to_vec(), header.into_bytes(), vec![b'\n'], bytes].concat()).unwrap();
}

/// An index `ix` of 120 documents of 24 words, chunks of 8, with a hasty graph.
fn index(dir: &Path) {
    const WORDS: usize = 300;
    let model = dir.join("model");
    fs::create_dir_all(&model).unwrap();
    let vocab: Vec<String> = (0..WORDS).map(|i| format!("\"w{i}\":{}", i + 1)).collect();
    let tokenizer = format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":{{"type":"WhitespaceSplit"}},"post_processor":null,"decoder":null,"model":{{"type":"WordLevel","unk_token":"[UNK]","vocab":{{"[UNK]":0,{}}}}}}}"#,
        vocab.join(",")
    );
    fs::write(model.join("tokenizer.json"), tokenizer).unwrap();
    fs::write(model.join("config.json"), r#"{"model_type":"model2vec"}"#).unwrap();
    let mut next = numbers(1);
    let table: Vec<u8> = (0..(WORDS + 1) * DIM).flat_map(|_| next().to_le_bytes()).collect();
    let header = format!(
        r#"{{"embeddings":{{"dtype":"F32","shape":[{},{DIM}],"data_offsets":[0,{}]}}}}"#,
        WORDS + 1,
        table.len()
    );
    let weights = [(header.len() as u64).to_le_bytes().to_vec(), header.into_bytes(), table].concat();
    fs::write(model.join("model.safetensors"), weights).unwrap();
    let mut text = String::new();
    for i in 0..120 {
        let words: Vec<String> = (0..24).map(|_| format!("w{}", ((next() + 1.0) * 149.9) as usize)).collect();
        text += &format!("{{\"id\":\"d{i}\",\"text\":\"{}\"}}\n", words.join(" "));
    }
    fs::write(dir.join("c.jsonl"), text).unwrap();
    let tokenizer = Tokenizer::named("words").unwrap();
    let encoder = priorart::embed::open(&model, &Default::default()).unwrap();
    let made = IndexDir::create(&dir.join("ix"), seed(&tokenizer)).unwrap();
    let files = priorart::corpus::discover(&[dir.join("c.jsonl")]).unwrap();
    let options = BuildOptions::default();
    build(&made, &tokenizer, &files, &options, &mut |_| {}).unwrap();
    let graph = priorart::ann::HnswParams { m: 3, ef_construction: 8, ..Default::default() };
    let settings = VectorSettings { kind: Kind::Hnsw, hnsw: Some(graph), ..Default::default() };
    let rule = ChunkRule { window: 8, stride: 8, ..ChunkRule::default() };
    for shard in task_shards(&made, &tokenizer, &files, &options).unwrap() {
        let store = &**made.store();
        let embedder = Embedder::new(&*encoder, &rule, &settings);
        priorart::shard::semantic::write(store, &shard, &tokenizer, embedder, &mut |_| {}).unwrap();
    }
    publish(&made, &tokenizer, &files, &options, |_| {}).unwrap();
}

#[test]
fn recall_is_measured_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    index(at);
    let dry = succeed(at, &["recall", "--index", "ix", "--sample", "100", "--dry-run"]);
    assert!(dry.starts_with("hnsw  ef 100  nprobe 0  recall@10 "), "{dry}");
    assert_eq!(Snapshot::open(&at.join("ix")).unwrap().manifest.generation, 1);
    let lines = succeed(at, &["recall", "--index", "ix", "--ef", "4,300", "-k", "5", "--json"]);
    let measured: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let recall = |i: usize| measured[i]["recall"].as_f64().unwrap();
    assert!(recall(0) < recall(1) && recall(1) > 0.95, "{lines}");
    assert_eq!((measured[1]["queries"].as_u64(), measured[1]["k"].as_u64()), (Some(360), Some(5)));
    let snapshot = Snapshot::open(&at.join("ix")).unwrap();
    assert_eq!(snapshot.manifest.generation, 2);
    let known = |ef| snapshot.search_recall(&SearchParams { ef, nprobe: 0 }, false).recall;
    assert_eq!((known(4), known(300), known(100)), (Some(recall(0)), Some(recall(1)), None));
    refuse(at, &["recall", "--index", "ix", "-k", "0"], "recall@0 cannot be measured");
    refuse(at, &["recall", "--index", "nowhere"], "no index here");
}

#[test]
fn a_plan_states_what_it_assumes() {
    let dir = tempfile::tempdir().unwrap();
    let plan = |documents: &str, tokens: &str| {
        let text =
            succeed(dir.path(), &["plan", "--documents", documents, "--tokens", tokens, "--cores", "4", "--json"]);
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let small = plan("1000", "2000000");
    assert_eq!(small["chunks"], 20_500);
    assert_eq!(small["stored_vectors"]["bytes"], 64 + 20_500 * 1536);
    let kind = |p: &serde_json::Value| p["choices"][p["recommended"].as_u64().unwrap() as usize]["kind"].clone();
    assert_eq!((kind(&small), kind(&plan("1000000", "1000000000"))), ("flat".into(), "hnsw".into()));
    assert_eq!(kind(&plan("1000000000", "1000000000000")), "ivf");
    assert!(small["assumptions"].as_array().unwrap().len() >= 4);
    let text = succeed(dir.path(), &["plan", "--documents", "1000", "--tokens", "2000000"]);
    assert!(text.contains("recommended: flat") && text.contains("assumed:"), "{text}");
    refuse(dir.path(), &["plan", "--documents", "5", "--tokens", "4"], "5 documents of 4 tokens");
    refuse(dir.path(), &["plan", "--documents", "5", "--tokens", "40", "--chunk-stride", "0"], "the stride must be");
}

#[test]
fn spaces_come_in_and_chunks_go_out() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    index(at);
    let count = 300;
    let mut next = numbers(9);
    let values: Vec<f32> = (0..count * 6).map(|_| next()).collect();
    npy(&at.join("v.npy"), count, 6, &values);
    let ids: String = (0..count).map(|i| format!("d{i}\n")).collect();
    fs::write(at.join("ids.txt"), &ids).unwrap();
    let import = ["import-vectors", "--index", "ix", "--ids", "ids.txt", "v.npy", "--space"];
    let said = succeed(at, &[&import[..], &["grad", "--vector-index", "hnsw"]].concat());
    assert!(said.starts_with("space grad: 300 vectors of 6 dimensions, hnsw"), "{said}");
    let open = |name: &str| {
        let snapshot = Snapshot::open(&at.join("ix")).unwrap();
        Space::open(&snapshot.dir, &snapshot.manifest, name)
    };
    let space = open("grad").unwrap();
    let near = |space: &Space, row: usize, own| {
        let query = &values[row * 6..row * 6 + 6];
        space.neighbors(query, 6, own, (3, None), &SearchParams::default(), false).unwrap().remove(0)
    };
    assert_eq!(near(&space, 17, None)[0].id, "d17");
    assert!((near(&space, 17, None)[0].score - 1.0).abs() < 1e-6);
    assert!(near(&space, 17, space.row("d17")).iter().all(|hit| hit.id != "d17"));
    // Nothing of the index was touched, and all of it is verified.
    let snapshot = Snapshot::open(&at.join("ix")).unwrap();
    let verified = snapshot.dir.verify(&snapshot.manifest, |_| {}).unwrap();
    assert!(verified.faults.is_empty() && verified.strays.is_empty(), "{verified:?}");
    assert_eq!((snapshot.manifest.generation, snapshot.chunks()), (2, 360));
    // A space can be exported, imported from there and from Parquet: the same answers.
    succeed(at, &["export-vectors", "--index", "ix", "--space", "grad", "g.safetensors"]);
    assert_eq!(fs::read_to_string(at.join("g.safetensors.ids")).unwrap(), ids);
    succeed(
        at,
        &["import-vectors", "--index", "ix", "--space", "again", "--ids", "g.safetensors.ids", "g.safetensors"],
    );
    assert_eq!(near(&open("again").unwrap(), 40, None), near(&space, 40, None));
    succeed(at, &["export-vectors", "--index", "ix", "chunks.parquet"]);
    let mut rows = Vec::new();
    priorart::ann::read_parquet(&at.join("chunks.parquet"), "id", "vector", &mut |id, v| {
        rows.push((id, v.to_vec()));
        Ok(())
    })
    .unwrap();
    assert_eq!((rows.len(), rows[3].0.as_str()), (360, "d1"));
    let stored = snapshot.shards[0].semantic.as_ref().unwrap().vectors.flat().unwrap().vector(3).unwrap();
    assert_eq!(rows[3].1, stored);
    let mut writer = ParquetWriter::create(&at.join("p.parquet"), 6).unwrap();
    for (i, vector) in values.chunks_exact(6).enumerate() {
        writer.push(priorart::ann::ChunkRow { id: format!("d{i}"), ..Default::default() }, vector).unwrap();
    }
    writer.finish().unwrap();
    succeed(at, &["import-vectors", "--index", "ix", "--space", "parquet", "p.parquet"]);
    assert_eq!(near(&open("parquet").unwrap(), 40, None)[0].id, "d40");
    // Bad input publishes nothing.
    let generation = || Snapshot::open(&at.join("ix")).unwrap().manifest.generation;
    let before = generation();
    refuse(at, &[&import[..], &["grad"]].concat(), "there is already a space named \"grad\"");
    refuse(at, &[&import[..], &["../x"]].concat(), "cannot name a space");
    refuse(at, &[&import[..], &["b", "--dim", "7"]].concat(), "vectors of 6 dimensions, --dim says 7");
    refuse(at, &["import-vectors", "--index", "ix", "--space", "b", "v.npy"], "a matrix has no ids of its own");
    fs::write(at.join("twice.txt"), ids.replace("d7\n", "d8\n")).unwrap();
    refuse(
        at,
        &["import-vectors", "--index", "ix", "--space", "b", "--ids", "twice.txt", "v.npy"],
        "`d8` is already on line 8",
    );
    fs::write(at.join("few.txt"), "d1\n").unwrap();
    refuse(
        at,
        &["import-vectors", "--index", "ix", "--space", "b", "--ids", "few.txt", "v.npy"],
        "300 rows, but 1 ids",
    );
    let mut bad = values.clone();
    bad[100 * 6 + 2] = f32::NAN;
    npy(&at.join("nan.npy"), count, 6, &bad);
    refuse(
        at,
        &["import-vectors", "--index", "ix", "--space", "b", "--ids", "ids.txt", "nan.npy"],
        "row 100, column 2: NaN",
    );
    let mut writer = ParquetWriter::create(&at.join("same.parquet"), 2).unwrap();
    for _ in 0..2 {
        let row = priorart::ann::ChunkRow { id: "x".into(), ..Default::default() };
        writer.push(row, &[1.0, 2.0]).unwrap();
    }
    writer.finish().unwrap();
    refuse(
        at,
        &["import-vectors", "--index", "ix", "--space", "b", "same.parquet"],
        "the id \"x\" is already that of row 0",
    );
    refuse(
        at,
        &["import-vectors", "--index", "ix", "--space", "b", "--id-column", "key", "p.parquet"],
        "no column `key`",
    );
    assert_eq!(generation(), before);
    let matrix = ["export-vectors", "--index", "ix", "m.txt"];
    refuse(at, &matrix, "a matrix is written as .npy or .safetensors");
    succeed(at, &[&import[..], &["grad", "--replace", "--keep-length"]].concat());
    assert!(!open("grad").unwrap().meta.normalized);
    let left = fs::read_dir(at.join("ix/spaces")).unwrap().count();
    assert!(left >= 3, "the replaced space stays as long as its generation does");
}
