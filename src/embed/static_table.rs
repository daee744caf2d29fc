//! The static encoder: one vector a token from a table, no network. The cheap first pass.
//!
//! Overview. [`StaticEncoder`] reads the model2vec layout (`model.safetensors` with `embeddings` `[rows, dim]`, optionally
//! `weights` and `mapping`, and `tokenizer.json`): a text's vector is the mean of its tokens' rows, unknown tokens left
//! out, normalised. [`StaticEncoder::distil`] makes such a table from a BERT-family directory: its word embeddings, with
//! their mean removed and each row scaled by the smooth inverse frequency a / (a + p(token)) of Arora et al. 2017.
//!
//! Cost: tokenization, and one row addition a token. `tests/static_encoder.rs` measures what it costs in quality.
//! Context-free: token states of equal tokens are equal.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;

use super::model_files::{OpenOptions, WEIGHTS, optional_json, required_json};
use super::rowwise::l2_normalize;
use super::tokens::WindowTokenizer;
use super::weights::{Floats, Weights};
use super::{Encoder, EncoderSpec, EncoderTokens, TokenStates};
use crate::error::{Error, Result};

/// Where smooth inverse frequency halves a row's weight.
const SIF_A: f64 = 1e-3;
/// Longest window: nothing in the table limits it, but a mean of more tokens means little.
const MAX_WINDOW: usize = 4096;

/// A table of token vectors.
pub struct StaticEncoder {
    tokenizer: WindowTokenizer,
    table: Floats,
    /// Factor of each token id.
    weights: Option<Floats>,
    /// Row of each token id, where ids share rows.
    mapping: Option<Vec<u32>>,
    rows: usize,
    unknown: Option<u32>,
    spec: EncoderSpec,
}

impl StaticEncoder {
    /// Whether a directory's weights are a table rather than a network.
    pub fn is_static(dir: &Path) -> bool {
        Weights::open(&dir.join(WEIGHTS)).is_ok_and(|w| w.contains("embeddings"))
    }

    /// Opens a model2vec directory.
    ///
    /// # Errors
    /// [`Error::Model`] when the table is missing or shorter than the vocabulary.
    pub fn open(dir: &Path, options: &OpenOptions) -> Result<StaticEncoder> {
        let weights_file = Weights::open(&dir.join(WEIGHTS))?;
        let unusable = |what: String| Error::Model { path: weights_file.path().to_path_buf(), what };
        let tokenizer = WindowTokenizer::open(&dir.join("tokenizer.json"))?;
        let &[rows, dim] = weights_file.shape("embeddings").unwrap_or_default() else {
            return Err(unusable("it has no table `embeddings` of shape [tokens, dim]".into()));
        };
        if dim == 0 {
            return Err(unusable("the table `embeddings` has no columns".into()));
        }
        let table = weights_file.get("embeddings", &[rows, dim])?;
        let vocab = tokenizer.vocab();
        let weights = match weights_file.shape("weights") {
            Some(&[n]) if n >= vocab => Some(weights_file.get("weights", &[n])?),
            Some(shape) => {
                return Err(unusable(format!("`weights` has shape {shape:?}, the vocabulary {vocab} tokens")));
            }
            None => None,
        };
        let mapping = match weights_file.shape("mapping") {
            Some(&[n]) if n >= vocab => {
                let mapping = weights_file.integers("mapping")?;
                match mapping.iter().find(|&&row| row as usize >= rows) {
                    Some(row) => return Err(unusable(format!("`mapping` names row {row} of {rows}"))),
                    None => Some(mapping),
                }
            }
            Some(shape) => {
                return Err(unusable(format!("`mapping` has shape {shape:?}, the vocabulary {vocab} tokens")));
            }
            None if rows < vocab => return Err(unusable(format!("{rows} rows for a vocabulary of {vocab} tokens"))),
            None => None,
        };
        let spec = EncoderSpec {
            name: options.name_of(dir),
            revision: options.revision.clone(),
            sha256: weights_file.sha256(),
            dim,
            pooling: "mean".into(),
            max_tokens: MAX_WINDOW,
        };
        let unknown = ["[UNK]", "<unk>"].into_iter().find_map(|t| tokenizer.id(t));
        Ok(StaticEncoder { tokenizer, table, weights, mapping, rows, unknown, spec })
    }

    /// Makes a table from the word embeddings of the BERT-family model in `model` and writes it to `out` (created if
    /// missing). `counts[id]` are the token's occurrences in a corpus; without them the vocabulary is taken to be ordered by
    /// frequency, as WordPiece vocabularies roughly are, and p(id) to follow Zipf's law.
    ///
    /// # Errors
    /// As [`super::BertEncoder::open`]; counts of another length than the vocabulary; `out` cannot be written.
    pub fn distil(model: &Path, out: &Path, counts: Option<&[u64]>) -> Result<()> {
        let config = required_json(&model.join("config.json"))?;
        let weights = Weights::open(&model.join(WEIGHTS))?;
        let name = ["", "bert.", "roberta.", "distilbert.", "model."]
            .map(|prefix| format!("{prefix}embeddings.word_embeddings.weight"))
            .into_iter()
            .find(|name| weights.contains(name));
        let unusable = |what: &str| Error::Model { path: weights.path().to_path_buf(), what: what.into() };
        let name = name.ok_or_else(|| unusable("embeddings.word_embeddings.weight is missing"))?;
        let &[rows, dim] = weights.shape(&name).unwrap_or_default() else {
            return Err(unusable("the word embeddings are not a table"));
        };
        if rows == 0 || dim == 0 {
            return Err(unusable("the word embeddings are empty"));
        }
        if let Some(counts) = counts.filter(|c| c.len() != rows) {
            return Err(Error::invalid(format!("{} counts for a vocabulary of {rows} tokens", counts.len())));
        }
        let mut table = weights.get(&name, &[rows, dim])?.to_vec();
        let probability = probabilities(rows, counts);
        let mut mean = vec![0f64; dim];
        for (row, p) in table.chunks_exact(dim).zip(&probability) {
            mean.iter_mut().zip(row).for_each(|(m, &x)| *m += p * x as f64);
        }
        for (row, p) in table.chunks_exact_mut(dim).zip(&probability) {
            let factor = SIF_A / (SIF_A + p);
            row.iter_mut().zip(&mean).for_each(|(x, m)| *x = ((*x as f64 - m) * factor) as f32);
        }
        let bytes: Vec<u8> = table.iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![rows, dim], &bytes).map_err(|e| unusable(&e.to_string()))?;
        let file = safetensors::serialize([("embeddings", view)], None).map_err(|e| unusable(&e.to_string()))?;
        let settings = json!({
            "model_type": "model2vec", "hidden_dim": dim, "normalize": true, "sif_a": SIF_A, "counts": counts.is_some(),
            "distilled_from": {"sha256": weights.sha256(), "model_type": config["model_type"]},
        });
        std::fs::create_dir_all(out).map_err(Error::io(out, "create"))?;
        let write = |name: &str, bytes: &[u8]| {
            let path: PathBuf = out.join(name);
            std::fs::write(&path, bytes).map_err(Error::io(&path, "write"))
        };
        let tokenizer = model.join("tokenizer.json");
        write("tokenizer.json", &std::fs::read(&tokenizer).map_err(Error::io(&tokenizer, "read"))?)?;
        write("config.json", settings.to_string().as_bytes())?;
        write(WEIGHTS, &file)
    }

    /// Adds token `id`'s weighted row to `sum`; unknown tokens and ids outside the table add nothing.
    fn add(&self, id: u32, sum: &mut [f32]) {
        if Some(id) == self.unknown {
            return;
        }
        let row = self.mapping.as_ref().map_or(Some(id), |m| m.get(id as usize).copied());
        let Some(row) = row.map(|r| r as usize).filter(|&r| r < self.rows) else { return };
        let factor = self.weights.as_ref().map_or(1.0, |w| w.get(id as usize).copied().unwrap_or(1.0));
        let dim = self.spec.dim;
        sum.iter_mut().zip(&self.table[row * dim..(row + 1) * dim]).for_each(|(s, &x)| *s += factor * x);
    }

    fn check(&self, windows: &[&[u32]]) -> Result<()> {
        match windows.iter().position(|w| w.len() > MAX_WINDOW) {
            Some(i) => Err(Error::invalid_hint(
                format!("window {i} has {} tokens, {} takes {MAX_WINDOW}", windows[i].len(), self.spec.name),
                "use a shorter window, or cut the text into several",
            )),
            None => Ok(()),
        }
    }
}

/// p(id) by counts, or by Zipf's law over the ids.
fn probabilities(rows: usize, counts: Option<&[u64]>) -> Vec<f64> {
    let raw: Vec<f64> = match counts {
        Some(counts) => counts.iter().map(|&c| c as f64).collect(),
        None => (0..rows).map(|id| 1.0 / (id + 2) as f64).collect(),
    };
    let total = raw.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    raw.into_iter().map(|p| p / total).collect()
}

impl Encoder for StaticEncoder {
    fn spec(&self) -> &EncoderSpec {
        &self.spec
    }

    fn tokenize(&self, text: &str) -> Result<EncoderTokens> {
        self.tokenizer.encode(text)
    }

    fn max_window(&self) -> usize {
        MAX_WINDOW
    }

    fn embed_ids(&self, windows: &[&[u32]]) -> Result<Vec<f32>> {
        self.check(windows)?;
        let dim = self.spec.dim;
        let mut out = vec![0f32; windows.len() * dim];
        out.par_chunks_exact_mut(dim).zip(windows).with_min_len(64).for_each(|(sum, window)| {
            window.iter().for_each(|&id| self.add(id, sum));
            l2_normalize(sum);
        });
        Ok(out)
    }

    fn token_states(&self, windows: &[&[u32]]) -> Result<TokenStates> {
        self.check(windows)?;
        let dim = self.spec.dim;
        let mut out = TokenStates { dim, offsets: vec![0], data: Vec::new() };
        for window in windows {
            for &id in *window {
                let at = out.data.len();
                out.data.resize(at + dim, 0.0);
                self.add(id, &mut out.data[at..]);
                l2_normalize(&mut out.data[at..]);
            }
            out.offsets.push(out.data.len() / dim);
        }
        Ok(out)
    }
}

/// Whether `dir` says it holds a static table.
pub(super) fn declared(dir: &Path) -> Result<bool> {
    let config = optional_json(&dir.join("config.json"))?.unwrap_or_default();
    Ok(config["model_type"] == "model2vec" || (config["model_type"].is_null() && StaticEncoder::is_static(dir)))
}
