//! Tiny checkpoints whose weights come from a seed, as the scripts in `tests/golden` make them with PyTorch.

#![allow(dead_code)]

use std::path::Path;

use serde_json::{Value, json};

fn splitmix64(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The generator's number `x`, from 0 up to 1.
pub fn unit(x: u64) -> f64 {
    (splitmix64(x) >> 40) as f64 / f64::from(1 << 24)
}

/// The tensor the scripts call number `t`.
fn tensor(t: usize, name: &str, len: usize) -> Vec<u8> {
    let norm = name.to_lowercase().contains("norm") && name.ends_with("weight");
    let (amplitude, offset) = if norm { (0.1, 1.0) } else { (0.25, 0.0) };
    (0..len as u64)
        .flat_map(|i| ((amplitude * (2.0 * unit(((t as u64) << 32) + i) - 1.0) + offset) as f32).to_le_bytes())
        .collect()
}

/// Writes `model.safetensors` with the tensors of a golden file's list of names and shapes.
pub fn weights(dir: &Path, listed: &Value) {
    let mut tensors = Vec::new();
    for (t, entry) in listed.as_array().expect("tensors").iter().enumerate() {
        let name = entry[0].as_str().expect("name").to_string();
        let shape: Vec<usize> = serde_json::from_value(entry[1].clone()).expect("shape");
        let bytes = tensor(t, &name, shape.iter().product());
        tensors.push((name, shape, bytes));
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name.clone(), view.expect("tensor"))
    });
    std::fs::write(dir.join("model.safetensors"), safetensors::serialize(views, None).expect("weights"))
        .expect("write");
}

/// A `post_processor` that puts `first` and `last`, tokens with these ids, around a text.
pub fn template(first: (&str, usize), last: (&str, usize)) -> Value {
    let special = |(token, id): (&str, usize)| json!({"id": token, "ids": [id], "tokens": [token]});
    json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": first.0, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": last.0, "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {first.0: special(first), last.0: special(last)}})
}
