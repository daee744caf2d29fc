//! The static encoder: exact arithmetic on a small table, and what a table distilled from MiniLM is worth on STS-B.

use std::path::Path;

use priorart::embed::{Encoder, OpenOptions, Role, StaticEncoder, find_model, open};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A directory with four words, two of which share a row, and an unknown token.
fn tiny(dir: &Path) {
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "north": 1, "south": 2, "up": 3, "upward": 4}},
    });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).expect("write");
    std::fs::write(dir.join("config.json"), json!({"model_type": "model2vec"}).to_string()).expect("write");
    let table = floats(&[9.0, 9.0, 3.0, 0.0, 0.0, 4.0, -1.0, 1.0]);
    let weights = floats(&[1.0, 1.0, 0.75, 1.0, 2.0]);
    let mapping: Vec<u8> = [0i64, 1, 2, 3, 3].iter().flat_map(|x| x.to_le_bytes()).collect();
    let view = |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).expect("tensor");
    let tensors = [
        ("embeddings", view(Dtype::F32, &[4, 2], &table)),
        ("weights", view(Dtype::F32, &[5], &weights)),
        ("mapping", view(Dtype::I64, &[5], &mapping)),
    ];
    std::fs::write(dir.join("model.safetensors"), safetensors::serialize(tensors, None).expect("weights"))
        .expect("write");
}

#[test]
fn a_text_is_the_weighted_mean_of_its_known_tokens() {
    let dir = tempfile::tempdir().expect("directory");
    tiny(dir.path());
    let encoder = open(dir.path(), &OpenOptions::default()).expect("table");
    let got = encoder
        .embed_texts(&["north south", "Up upward", "nowhere", "", "nowhere north"], Role::Query)
        .expect("vectors");
    let half = std::f32::consts::FRAC_1_SQRT_2;
    let want = [half, half, -half, half, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0];
    assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}");
    let states = encoder.token_states(&[&[1, 2], &[], &[4]]).expect("states");
    assert_eq!(states.offsets, [0, 2, 2, 3]);
    assert!(states.data.iter().zip([1.0, 0.0, 0.0, 1.0, -half, half]).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn a_table_that_does_not_fit_its_vocabulary_is_named() {
    let dir = tempfile::tempdir().expect("directory");
    tiny(dir.path());
    let path = dir.path().join("model.safetensors");
    let said = || StaticEncoder::open(dir.path(), &OpenOptions::default()).err().expect("an error").to_string();
    let rewrite = |name: &str, shape: &[usize], values: &[f32]| {
        let bytes = floats(values);
        let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes).expect("tensor");
        std::fs::write(&path, safetensors::serialize([(name, view)], None).expect("weights")).expect("write");
    };
    rewrite("embeddings", &[2, 2], &[0.0; 4]);
    assert!(said().contains("2 rows for a vocabulary of 5"), "{}", said());
    rewrite("table", &[5, 2], &[0.0; 10]);
    assert!(said().contains("no table `embeddings`"), "{}", said());
}

#[test]
fn a_distilled_table_still_ranks_pairs() {
    let Some(model) = find_model("all-minilm-l6-v2") else {
        println!("skipped: all-minilm-l6-v2 is neither in PRIORART_MODEL_DIR nor in the cache");
        return;
    };
    let out = tempfile::tempdir().expect("directory");
    StaticEncoder::distil(&model, out.path(), None).expect("distilled");
    let encoder = StaticEncoder::open(out.path(), &OpenOptions::default()).expect("table");
    assert_eq!(encoder.spec().dim, 384);
    assert!(StaticEncoder::distil(&model, out.path(), Some(&[1, 2])).is_err(), "two counts for 30522 tokens");
    let Some(data) = std::env::var_os("PRIORART_DATA") else {
        println!("skipped: PRIORART_DATA is not set");
        return;
    };
    let packed = std::fs::read(Path::new(&data).join("pairs/gsm8k_rephrased.jsonl.zst")).expect("pairs");
    let lines = String::from_utf8(zstd::decode_all(&packed[..]).expect("zstd")).expect("UTF-8");
    let packed = std::fs::read(Path::new(&data).join("benchmarks/gsm8k_test.jsonl.zst")).expect("GSM8K");
    let originals = String::from_utf8(zstd::decode_all(&packed[..]).expect("zstd")).expect("UTF-8");
    let field = |line: &str, name: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")[name].clone();
    let originals: Vec<String> =
        originals.lines().map(|l| field(l, "question").as_str().expect("question").to_string()).collect();
    let rows: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let name = ["text", "rephrased", "question"].into_iter().find(|n| rows[0][*n].is_string()).expect("text field");
    let texts: Vec<&str> = rows.iter().map(|r| r[name].as_str().expect("text")).collect();
    let index: Vec<usize> = rows.iter().map(|r| r["index"].as_u64().expect("index") as usize).collect();
    let a = encoder.embed_texts(&texts, Role::Query).expect("vectors");
    let originals: Vec<&str> = originals.iter().map(String::as_str).collect();
    let b = encoder.embed_texts(&originals, Role::Document).expect("vectors");
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(a, b)| a * b).sum::<f32>();
    let in_ten = a.chunks_exact(384).zip(&index).take(300).filter(|(q, right)| {
        let own = dot(q, &b[**right * 384..(**right + 1) * 384]);
        b.chunks_exact(384).filter(|d| dot(q, d) > own).count() < 10
    });
    let share = in_ten.count() as f64 / 300.0;
    println!("static table: the original is among the first 10 of 1319 for {share:.3} of 300 rephrased problems");
    assert!(share >= 0.9, "{share}");
}

#[test]
fn a_fetched_model_that_has_changed_is_refused() {
    let dir = tempfile::tempdir().expect("directory");
    tiny(dir.path());
    let file = |path: &str| {
        let (sha256, bytes) = priorart::catalog::sha256_of_file(&dir.path().join(path)).expect("digest");
        json!({"path": path, "bytes": bytes, "sha256": sha256, "pinned": true})
    };
    let files = json!([file("model.safetensors"), file("config.json"), {"path": "NOTICE", "bytes": 1, "sha256": "0", "pinned": false}]);
    let receipt = json!({"name": "tiny", "origin": "wheel", "revision": null, "files": files});
    std::fs::write(dir.path().join(".receipt.json"), receipt.to_string()).expect("write");
    let opened = || open(dir.path(), &OpenOptions::default()).map(|e| e.spec().dim);
    assert_eq!(opened().expect("as it was fetched"), 2);
    for name in ["model.safetensors", "config.json"] {
        let path = dir.path().join(name);
        let whole = std::fs::read(&path).expect("read");
        let mut changed = whole.clone();
        // The last number of the table; a space for the line's end.
        let at = changed.len() - 1;
        if name == "config.json" {
            changed.push(b' ')
        } else {
            changed[at] ^= 1
        }
        std::fs::write(&path, changed).expect("write");
        let error = opened().expect_err("changed");
        assert!(
            error.to_string().contains(name) && error.to_string().contains("changed since it was fetched"),
            "{error}"
        );
        assert!(error.hint().is_some_and(|hint| hint.contains("index-tools fetch")));
        std::fs::write(&path, whole).expect("write");
    }
    assert!(opened().is_ok());
}
