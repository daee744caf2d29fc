//! The encoders of other architectures than BERT against PyTorch, on tiny checkpoints made from a seed (see golden/make_networks.py):
//! ModernBERT by candle-transformers, XLM-RoBERTa by both our forward pass and candle's. (candle's DistilBERT is 1.2e-4 off, so it is not among them.)

mod common;
#[path = "common/hub.rs"]
mod hub;
#[path = "common/seeded.rs"]
mod seeded;

use std::path::Path;

use priorart::embed::{BertEncoder, CandleEncoder, Encoder, Isa, OpenOptions, open};
use serde_json::{Value, json};

/// Writes the model directory of one network; with `prefix`, its tensors' names begin with that.
fn checkpoint(dir: &Path, network: &Value, prefix: &str) {
    let vocab: serde_json::Map<String, Value> = (0..40).map(|i| (format!("w{i}"), json!(i))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": null,
        "post_processor": seeded::template(("w2", 2), ("w3", 3)),
        "model": {"type": "WordLevel", "unk_token": "w0", "vocab": vocab},
    });
    let listed = network["tensors"].as_array().expect("tensors").iter();
    let named: Vec<Value> =
        listed.map(|t| json!([format!("{prefix}{}", t[0].as_str().expect("name")), t[1]])).collect();
    seeded::weights(dir, &json!(named));
    std::fs::create_dir_all(dir.join("1_Pooling")).expect("directory");
    let pooling = json!({"word_embedding_dimension": 32, "pooling_mode_mean_tokens": true});
    for (name, value) in
        [("tokenizer.json", &tokenizer), ("config.json", &network["config"]), ("1_Pooling/config.json", &pooling)]
    {
        std::fs::write(dir.join(name), value.to_string()).expect("write");
    }
}

fn worst(got: &[f32], want: &Value) -> f32 {
    let want: Vec<f32> = serde_json::from_value(want.clone()).expect("numbers");
    assert_eq!(got.len(), want.len());
    got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max)
}

fn agrees(encoder: &dyn Encoder, network: &Value, what: &str) {
    let rows = network["rows"].as_array().expect("rows");
    let ids: Vec<Vec<u32>> = rows.iter().map(|r| serde_json::from_value(r["ids"].clone()).expect("ids")).collect();
    let windows: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
    let embedded = encoder.embed_ids(&windows).expect("embeddings");
    let states = encoder.token_states(&windows).expect("states");
    for (i, row) in rows.iter().enumerate() {
        let off = worst(&embedded[i * 32..(i + 1) * 32], &row["embedding"]);
        assert!(off < 1e-4, "{what}: embedding {i} is {off} off");
        let off = worst(states.view(i).data, &row["states"]);
        assert!(off < 1e-4, "{what}: states of {i} are {off} off");
    }
    let text: Vec<String> = ids[1].iter().map(|i| format!("w{i}")).collect();
    assert_eq!(encoder.tokenize(&text.join(" ")).expect("tokens").ids, ids[1], "{what}");
}

#[test]
fn every_architecture_equals_pytorch() {
    let golden: Value = serde_json::from_str(include_str!("golden/networks.json")).expect("golden file");
    // Checkpoints of a bare network, and of one inside a model for a task.
    for (name, prefixes) in [("modernbert", ["", "model."]), ("xlm-roberta", ["", "roberta."])] {
        for prefix in prefixes {
            let dir = tempfile::tempdir().expect("directory");
            checkpoint(dir.path(), &golden[name], prefix);
            let what = format!("{prefix}{name}");
            agrees(&CandleEncoder::open(dir.path()).expect("checkpoint"), &golden[name], &format!("candle {what}"));
            agrees(&*open(dir.path(), &OpenOptions::default()).expect("checkpoint"), &golden[name], &what);
            if name != "modernbert" {
                for isa in Isa::available() {
                    let encoder = BertEncoder::open_isa(dir.path(), &OpenOptions::default(), isa).expect("checkpoint");
                    agrees(&encoder, &golden[name], &format!("{} {what}", isa.name()));
                }
            }
        }
    }
}

#[test]
fn a_model_of_the_hub_is_fetched_by_commit_and_builds_an_index() {
    let golden: Value = serde_json::from_str(include_str!("golden/networks.json")).expect("golden file");
    let place = tempfile::tempdir().expect("directory");
    let at = place.path();
    std::fs::create_dir(at.join("tiny")).expect("directory");
    checkpoint(&at.join("tiny"), &golden["modernbert"], "model.");
    let names = ["model.safetensors", "config.json", "tokenizer.json", "1_Pooling/config.json"];
    let files: Vec<(&str, Vec<u8>)> =
        names.iter().map(|n| (*n, std::fs::read(at.join("tiny").join(n)).expect("file"))).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (*n, b.as_slice())).collect();
    let hub = hub::Hub::start(&files);
    let id = format!("owner/name@{}", hub::COMMIT);
    let documents = ["w4 w9 w12 w5 w38", "w20 w21 w22 w23 w24", "w30 w31 w7 w8 w9"];
    let lines = documents.iter().enumerate().map(|(i, t)| format!("{}\n", json!({"id": i.to_string(), "text": t})));
    std::fs::write(at.join("corpus.jsonl"), lines.collect::<String>()).expect("write");
    let build = ["build", "-q", "--index", "ix", "--encoder", &id, "--chunk-tokens", "20", "corpus.jsonl"];
    common::fail(at, &build, "neither a directory nor in the cache", &format!("fetch {id}"));
    assert!(!at.join("ix").exists());
    let cache = at.join("cache");
    let options = priorart::catalog::FetchOptions {
        cache: Some(&cache),
        hub_endpoint: Some(&hub.endpoint),
        ..Default::default()
    };
    priorart::catalog::fetch(&id, &options).expect("the model");
    common::succeed(at, &build);
    let info: Value =
        serde_json::from_str(&common::succeed(at, &["info", "--index", "ix", "--format", "json"])).expect("JSON");
    assert_eq!((&info["encoder"]["name"], &info["encoder"]["revision"]), (&json!(id), &json!(hub::COMMIT)));
    let found = common::succeed(at, &["neighbors", "--index", "ix", "-k", "1", "--format", "jsonl", documents[1]]);
    let found: Value = serde_json::from_str(found.trim()).expect("JSON");
    assert_eq!(found["neighbors"][0]["id"], "1", "{found}");
    assert!(found["neighbors"][0]["score"].as_f64().expect("score") > 0.9999);
    // Weights that changed in the cache are refused; other weights under the same name are not this index's encoder.
    let weights = cache.join(format!("owner--name@{}", hub::COMMIT)).join("model.safetensors");
    let sha256 = || priorart::catalog::sha256_of_file(&weights).expect("digest").0;
    let before = sha256();
    let mut bytes = std::fs::read(&weights).expect("weights");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes).expect("write");
    common::fail(
        at,
        &["neighbors", "--index", "ix", "w4"],
        "damaged or changed since it was fetched",
        "index-tools fetch",
    );
    let receipt = weights.with_file_name(".receipt.json");
    let fetched = std::fs::read_to_string(&receipt).expect("the receipt");
    std::fs::write(&receipt, fetched.replace(&before, &sha256())).expect("write");
    common::fail(at, &["neighbors", "--index", "ix", "w4"], "encoder mismatch: the index uses", "");
}
