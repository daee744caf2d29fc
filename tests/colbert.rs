//! The ColBERT encoder against PyTorch, on a tiny checkpoint made from a seed (see golden/make_colbert.py).

mod common;
#[path = "common/seeded.rs"]
mod seeded;

use std::path::Path;

use priorart::embed::Isa;
use priorart::embed::alignment::align_texts;
use priorart::embed::colbert::{ColbertEncoder, LateEncoder, QueryRule};
use priorart::embed::late::{align, maxsim};
use serde_json::{Value, json};

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/colbert.json")).expect("golden file")
}

/// Writes the checkpoint directory the golden file describes.
fn checkpoint(dir: &Path, golden: &Value) {
    let vocab = golden["vocab"].as_array().expect("vocabulary");
    let id = |token: &str| vocab.iter().position(|v| v == token).expect("token");
    let ids: serde_json::Map<String, Value> =
        vocab.iter().enumerate().map(|(i, w)| (w.as_str().expect("word").to_string(), json!(i))).collect();
    let special = |token: &str| json!({"id": id(token), "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(special)),
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": seeded::template(("[CLS]", id("[CLS]")), ("[SEP]", id("[SEP]"))),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": ids},
    });
    seeded::weights(dir, &golden["tensors"]);
    for (name, value) in
        [("tokenizer.json", &tokenizer), ("config.json", &golden["config"]), ("artifact.metadata", &golden["metadata"])]
    {
        std::fs::write(dir.join(name), value.to_string()).expect("write");
    }
}

fn windows(golden: &Value, side: &str, longest: usize) -> Vec<Vec<u32>> {
    let vocab = golden["vocab"].as_array().expect("vocabulary");
    let rows = golden[side].as_array().expect("rows").iter();
    rows.map(|row| {
        let words = row["words"].as_array().expect("words").iter().take(longest);
        words.map(|w| vocab.iter().position(|v| v == w).expect("word") as u32).collect()
    })
    .collect()
}

#[test]
fn ids_masks_vectors_and_scores_equal_pytorchs() {
    let golden = golden();
    let dir = tempfile::tempdir().expect("directory");
    checkpoint(dir.path(), &golden);
    for isa in Isa::available() {
        let encoder = ColbertEncoder::open_isa(dir.path(), isa).expect("checkpoint");
        let rule = QueryRule::default();
        // The script cuts over-long texts as ColBERT does; here the caller has to.
        let queries = windows(&golden, "queries", encoder.query_window(&rule));
        let documents = windows(&golden, "documents", encoder.document_window());
        for (side, texts) in [("queries", &queries), ("documents", &documents)] {
            let slices: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
            let got = if side == "queries" { encoder.queries(&slices, &rule) } else { encoder.documents(&slices) };
            let got = got.expect("states").states;
            for (i, text) in texts.iter().enumerate() {
                let want = &golden[side][i];
                let input =
                    if side == "queries" { encoder.query_input(text, &rule) } else { encoder.document_input(text) };
                let input = input.expect("input");
                assert_eq!(json!(input.ids), want["ids"], "{side} {i}");
                assert_eq!(json!(input.scored), want["scored"], "{side} {i}");
                let attended: Vec<u8> = (0..input.ids.len()).map(|p| u8::from(p < input.attend)).collect();
                assert_eq!(json!(attended), want["attention"], "{side} {i}");
                let vectors: Vec<f32> = serde_json::from_value(want["vectors"].clone()).expect("vectors");
                assert_eq!(got.view(i).data.len(), vectors.len(), "{side} {i}");
                let worst = got.view(i).data.iter().zip(&vectors).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
                assert!(worst < 1e-4, "{isa:?} {side} {i}: {worst}");
            }
        }
        let q = encoder.queries(&queries.iter().map(Vec::as_slice).collect::<Vec<_>>(), &rule).expect("states");
        let d = encoder.documents(&documents.iter().map(Vec::as_slice).collect::<Vec<_>>()).expect("states");
        for i in 0..queries.len() {
            for j in 0..documents.len() {
                let (query, document) = (q.states.view(i), d.states.view(j));
                let want = golden["scores"][i][j].as_f64().expect("score") / query.len() as f64;
                let got = maxsim(query, document) as f64;
                assert!((got - want).abs() < 1e-4, "{isa:?} score {i} {j}: {got} instead of {want}");
                let aligned = align(query, document).iter().map(|m| m.score as f64).sum::<f64>() / query.len() as f64;
                assert!((aligned - want).abs() < 1e-4, "{isa:?} alignment {i} {j}: {aligned} instead of {want}");
            }
        }
    }
}

#[test]
fn rules_change_what_is_scored_and_nothing_is_cut() {
    let golden = golden();
    let dir = tempfile::tempdir().expect("directory");
    checkpoint(dir.path(), &golden);
    let encoder = ColbertEncoder::open(dir.path()).expect("checkpoint");
    let text = "The keeper counted lamps, fog.";
    let tokens = encoder.tokenize(text).expect("tokens");
    assert_eq!(tokens.ids.len(), 8, "{:?}", tokens.ids);
    let window = tokens.ids.as_slice();
    let states = |rule: QueryRule| encoder.queries(&[window], &rule).expect("states");
    let all = states(QueryRule::default());
    assert_eq!(all.states.view(0).len(), 16);
    assert_eq!(all.origin[..4], [None, None, Some(0), Some(1)]);
    assert_eq!(all.origin.iter().flatten().count(), 8);
    let bare = states(QueryRule { count_masks: false, ..QueryRule::default() });
    assert_eq!(bare.states.data[..], all.states.data[..11 * 20], "the filling is neither attended to nor scored");
    assert_eq!(states(QueryRule { maxlen: Some(40), count_masks: true }).states.view(0).len(), 40);
    let error = encoder.queries(&[window], &QueryRule { maxlen: Some(10), count_masks: true }).expect_err("too long");
    assert!(error.to_string().contains("8 tokens") && error.hint().is_some(), "{error}");
    let document = encoder.documents(&[window]).expect("states");
    let kept: Vec<u32> = document.origin.iter().flatten().copied().collect();
    assert_eq!(kept, [0, 1, 2, 3, 4, 6], "comma and full stop are dropped");
    assert_eq!(document.states.view(0).len(), 9);
    let long = vec![window[0]; 22];
    assert!(encoder.documents(&[&long]).is_err());
}

#[test]
fn alignments_name_the_bytes_of_both_texts() {
    let golden = golden();
    let dir = tempfile::tempdir().expect("directory");
    checkpoint(dir.path(), &golden);
    let encoder = ColbertEncoder::open(dir.path()).expect("checkpoint");
    let text = "The keeper counted lamps, fog.";
    let found = align_texts(&encoder, text, text, false).expect("alignment");
    // [CLS], the marker and [SEP] are scored and have no bytes; without masks nothing else is added.
    assert_eq!((found.tokens.len(), found.tokens.iter().filter(|t| t.bytes.is_none()).count()), (11, 3));
    assert_eq!(found.tokens[2].bytes, Some([0, 3]));
    let mean = found.tokens.iter().map(|t| t.strength).sum::<f32>() / 11.0;
    assert!((found.score - mean).abs() < 1e-6);
    // Longer than a query or a document takes: cut into parts on both sides, nothing left out.
    let long = "The keeper counted lamps. ".repeat(20);
    let found = align_texts(&encoder, &long, &long, false).expect("alignment");
    let tokens = encoder.tokenize(&long).expect("tokens").ids.len();
    assert_eq!(found.tokens.iter().filter(|t| t.bytes.is_some()).count(), tokens);
    assert!(found.tokens.iter().filter_map(|t| t.matched).any(|m| m[0] > long.len() / 2), "its second half is met");
    assert_eq!(align_texts(&encoder, text, "", false).expect("alignment").score, 0.0);
}

/// The whole search with a checkpoint whose vocabulary is not the index's.
#[test]
fn texts_are_scored_by_a_checkpoint_of_another_vocabulary() {
    let Some(place) = common::embedded::Place::new() else { return };
    let dir = tempfile::tempdir().expect("directory");
    checkpoint(dir.path(), &golden());
    place.write("texts.jsonl", "text", &common::embedded::TEXTS[..2]);
    let late = dir.path().to_str().expect("path");
    let run = |more: &[&str]| {
        let base =
            ["novelty", "--index", "ix", "--windows", "8,20", "--probes", "1", "--format", "json", "--late", late];
        place.run(&[&base[..], more, &["texts.jsonl"]].concat())
    };
    let found = run(&["--align"]);
    assert_eq!(found["settings"]["late"]["8"]["late"], "colbert");
    assert_eq!(found["settings"]["late"]["20"]["query_maxlen"], 23, "as long as the window, not 32");
    let lengths = found["texts"][0]["lengths"].as_array().expect("lengths");
    assert_eq!(lengths.len(), 2);
    for length in lengths {
        let s = length["s"].as_f64().expect("score");
        assert!(s > 0.0 && s < 1.0001, "{length}");
        assert!(length["windows"][0]["best"]["id"].is_string(), "{length}");
    }
    let tokens = found["texts"][0]["alignment"]["tokens"].as_array().expect("tokens");
    assert!(tokens.iter().any(|t| t["bytes"].is_array() && t["matched"].is_array()));
    let masks = run(&["--count-masks"]);
    assert_eq!(masks["settings"]["late"]["8"]["count_masks"], true);
    assert_ne!(masks["texts"][0]["lengths"][0]["s"], lengths[0]["s"]);
}

#[test]
fn an_incomplete_checkpoint_is_named() {
    let golden = golden();
    let dir = tempfile::tempdir().expect("directory");
    checkpoint(dir.path(), &golden);
    let said = || ColbertEncoder::open(dir.path()).err().expect("an error").to_string();
    let metadata = dir.path().join("artifact.metadata");
    std::fs::write(&metadata, "{\"query_token_id\": \"[unused77]\"}").expect("write");
    assert!(said().contains("[unused77]"), "{}", said());
    std::fs::write(&metadata, "{\"dim\": 64}").expect("write");
    assert!(said().contains("linear.weight") && said().contains("[20, 48]"), "{}", said());
    std::fs::remove_file(&metadata).expect("remove");
    assert!(said().contains("artifact.metadata"), "{}", said());
}
