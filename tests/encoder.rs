//! Encoders against published figures and against sentence-transformers, with the real all-MiniLM-L6-v2.
//!
//! The model is looked for as `find_model` says; without it the tests print `skipped` and pass. The whole STS-B test is
//! `cargo test --release --test encoder -- --ignored` (a minute).

use std::path::PathBuf;

use priorart::embed::{BertEncoder, CandleEncoder, Encoder, Isa, OpenOptions, Role, find_model};

fn model() -> Option<PathBuf> {
    let found = find_model("all-minilm-l6-v2");
    if found.is_none() {
        println!("skipped: all-minilm-l6-v2 is neither in PRIORART_MODEL_DIR nor in the cache");
    }
    found
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| x as f64 * y as f64).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[derive(serde::Deserialize)]
struct Golden {
    text: String,
    ids: Vec<u32>,
    embedding: Vec<f32>,
}

fn golden() -> Vec<Golden> {
    serde_json::from_str(include_str!("golden/minilm.json")).expect("golden file")
}

fn agrees(encoder: &dyn Encoder, what: &str) {
    let rows = golden();
    let texts: Vec<&str> = rows.iter().map(|r| r.text.as_str()).collect();
    let got = encoder.embed_texts(&texts, Role::Document).expect("embedding");
    for (row, got) in rows.iter().zip(got.chunks_exact(384)) {
        let ids = encoder.tokenize(&row.text).expect("tokens").ids;
        assert_eq!(ids, row.ids[1..row.ids.len() - 1], "tokens of {:?}", row.text);
        let worst = got.iter().zip(&row.embedding).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(worst < 1e-4, "{what}: {worst} off for {:?}", row.text);
        assert!(cosine(got, &row.embedding) >= 0.99999, "{what}: {:?}", row.text);
    }
}

#[test]
fn embeddings_equal_sentence_transformers() {
    let Some(dir) = model() else { return };
    for isa in Isa::available() {
        let encoder = BertEncoder::open_isa(&dir, &OpenOptions::default(), isa).expect("model");
        assert_eq!(encoder.spec().sha256, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db");
        assert_eq!(
            (encoder.spec().dim, encoder.spec().pooling.as_str(), encoder.spec().max_tokens),
            (384, "mean", 256)
        );
        agrees(&encoder, isa.name());
    }
    agrees(&CandleEncoder::open(&dir).expect("model"), "candle");
}

#[test]
fn byte_ranges_are_slices_of_the_text() {
    let Some(dir) = model() else { return };
    let encoder = BertEncoder::open(&dir).expect("model");
    for row in golden() {
        let tokens = encoder.tokenize(&row.text).expect("tokens");
        let mut last = 0;
        for span in &tokens.spans {
            assert!(span.start as usize >= last && span.start <= span.end, "ranges run backwards in {:?}", row.text);
            assert!(row.text.get(span.start as usize..span.end as usize).is_some(), "{span:?} cuts a character");
            last = span.start as usize;
        }
    }
}

#[test]
fn token_states_equal_candles_and_do_not_depend_on_the_batch() {
    let Some(dir) = model() else { return };
    let (ours, theirs) = (BertEncoder::open(&dir).expect("model"), CandleEncoder::open(&dir).expect("model"));
    let ids: Vec<Vec<u32>> = golden().iter().map(|r| r.ids[1..r.ids.len() - 1].to_vec()).collect();
    let windows: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
    let (a, b) = (ours.token_states(&windows).expect("states"), theirs.token_states(&windows).expect("states"));
    assert_eq!(a.offsets, b.offsets);
    assert_eq!(a.data.len(), a.offsets[windows.len()] * 384);
    let worst = a.data.iter().zip(&b.data).map(|(x, y)| (x - y).abs()).fold(0f32, f32::max);
    assert!(worst < 1e-4, "{worst}");
    for (i, window) in windows.iter().enumerate() {
        let alone = ours.token_states(&[window]).expect("states");
        assert_eq!(alone.data, a.data[a.offsets[i] * 384..a.offsets[i + 1] * 384], "text {i} changes with its batch");
    }
}

#[test]
fn too_long_a_text_is_refused_not_cut() {
    let Some(dir) = model() else { return };
    let encoder = BertEncoder::open(&dir).expect("model");
    let text = "word ".repeat(255);
    let error = encoder.embed_texts(&[&text], Role::Query).expect_err("255 tokens do not fit 254").to_string();
    assert!(error.contains("255") && error.contains("254"), "{error}");
    assert!(encoder.embed_texts(&[&text[..254 * 5]], Role::Query).is_ok());
}

#[test]
fn a_directory_that_is_no_model_is_named() {
    let dir = tempfile::tempdir().expect("directory");
    let error = BertEncoder::open(dir.path()).err().expect("no model").to_string();
    assert!(error.contains("config.json") && error.contains("missing"), "{error}");
    std::fs::write(dir.path().join("config.json"), "{\"hidden_size\": 8}").expect("write");
    let error = BertEncoder::open(dir.path()).err().expect("no pooling").to_string();
    assert!(error.contains("1_Pooling") && error.contains("pooling is unknown"), "{error}");
    let pooling = OpenOptions { pooling: Some(priorart::embed::Pooling::Cls), ..OpenOptions::default() };
    let error = BertEncoder::open_with(dir.path(), &pooling).err().expect("no weights").to_string();
    assert!(error.contains("model.safetensors is missing"), "{error}");
}

/// Spearman's rank correlation, ties at their mean rank.
fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let ranks = |v: &[f64]| {
        let mut order: Vec<usize> = (0..v.len()).collect();
        order.sort_by(|&i, &j| v[i].total_cmp(&v[j]));
        let mut ranks = vec![0f64; v.len()];
        let mut first = 0;
        for same in order.chunk_by(|&i, &j| v[i] == v[j]) {
            same.iter().for_each(|&i| ranks[i] = first as f64 + (same.len() - 1) as f64 / 2.0);
            first += same.len();
        }
        ranks
    };
    let (x, y) = (ranks(a), ranks(b));
    let mean = (a.len() - 1) as f64 / 2.0;
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    product(&x, &y) / (product(&x, &x) * product(&y, &y)).sqrt()
}

/// Spearman of pooled cosine and of MaxSim with the human scores of the first `limit` STS-B test pairs.
fn stsb(limit: usize) -> Option<(f64, f64)> {
    let dir = model()?;
    let Some(data) = std::env::var_os("PRIORART_DATA") else {
        println!("skipped: PRIORART_DATA is not set");
        return None;
    };
    let packed = std::fs::read(PathBuf::from(data).join("pairs/stsb_en_test.jsonl.zst")).expect("STS-B");
    let lines = String::from_utf8(zstd::decode_all(&packed[..]).expect("zstd")).expect("UTF-8");
    let rows: Vec<serde_json::Value> =
        lines.lines().take(limit).map(|l| serde_json::from_str(l).expect("JSON line")).collect();
    let column = |name: &str| rows.iter().map(|r| r[name].as_str().expect("text").to_string()).collect::<Vec<_>>();
    let encoder = BertEncoder::open(&dir).expect("model");
    let tokens = |texts: &[String]| -> Vec<Vec<u32>> {
        texts.iter().map(|t| encoder.tokenize(t).expect("tokens").ids).collect()
    };
    let (left, right) = (tokens(&column("sentence1")), tokens(&column("sentence2")));
    let (l, r): (Vec<&[u32]>, Vec<&[u32]>) =
        (left.iter().map(Vec::as_slice).collect(), right.iter().map(Vec::as_slice).collect());
    let (a, b) = (encoder.embed_ids(&l).expect("vectors"), encoder.embed_ids(&r).expect("vectors"));
    let pooled: Vec<f64> = a.chunks_exact(384).zip(b.chunks_exact(384)).map(|(x, y)| cosine(x, y)).collect();
    let (a, b) = (encoder.token_states(&l).expect("states"), encoder.token_states(&r).expect("states"));
    let late: Vec<f64> =
        (0..rows.len()).map(|i| priorart::embed::late::symmetric(a.view(i), b.view(i)) as f64).collect();
    let human: Vec<f64> = rows.iter().map(|r| r["score"].as_f64().expect("score")).collect();
    Some((spearman(&pooled, &human), spearman(&late, &human)))
}

#[test]
fn stsb_subset_correlates() {
    if let Some((pooled, late)) = stsb(300) {
        println!("STS-B, first 300 pairs: pooled {pooled:.4}, MaxSim {late:.4}");
        assert!(pooled >= 0.80 && late >= 0.80, "pooled {pooled:.4}, MaxSim {late:.4}");
    }
}

#[test]
#[ignore = "a minute; cargo test --release --test encoder -- --ignored"]
fn stsb_reaches_the_published_correlation() {
    if let Some((pooled, late)) = stsb(usize::MAX) {
        println!("STS-B test: pooled {pooled:.4}, MaxSim {late:.4}");
        assert!(pooled >= 0.818, "pooled {pooled:.4}");
        assert!(late >= 0.82, "MaxSim {late:.4}");
    }
}
