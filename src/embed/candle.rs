//! Encoders run by candle-transformers: the reference twin of the fused BERT, and the models only candle carries.
//!
//! Overview. [`CandleEncoder`] takes BERT, DistilBERT, ModernBERT, JinaBERT, NomicBERT and XLM-RoBERTa. Windows of equal
//! length are batched together, so no padding and no mask ever reach a model. Its BERT is the yardstick of the tests of
//! [`super::BertEncoder`]. In a build with the cargo feature `cuda` or `metal` everything here runs on the first GPU, and [`super::open`] then
//! takes this encoder for every network.

use candle_core::{DType, Device, Module, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{bert, distilbert, jina_bert, modernbert, nomic_bert, xlm_roberta};
use std::path::Path;

use super::model_files::{ModelFiles, OpenOptions, Pooling};
use super::rowwise::l2_normalize;
use super::{Encoder, EncoderSpec, EncoderTokens, Role, TokenStates};
use crate::error::{Error, Result};

/// Most tokens in one batch.
const BATCH_TOKENS: usize = 4096;

enum Model {
    Bert(bert::BertModel),
    DistilBert(distilbert::DistilBertModel),
    ModernBert(modernbert::ModernBert),
    JinaBert(jina_bert::BertModel),
    NomicBert(nomic_bert::NomicBertModel),
    XlmRoberta(xlm_roberta::XLMRobertaModel),
}

/// An encoder on candle's kernels.
pub struct CandleEncoder {
    files: ModelFiles,
    model: Model,
    device: Device,
}

/// The first GPU, in a build that has one of the features for it and on a machine that has one; else the processor.
pub(super) fn device() -> Device {
    let found = if cfg!(feature = "metal") { Device::metal_if_available(0) } else { Device::cuda_if_available(0) };
    found.unwrap_or_else(|e| {
        tracing::warn!("no GPU can be used, the encoder runs on the processor: {e}");
        Device::Cpu
    })
}

impl CandleEncoder {
    /// Opens a model directory.
    pub fn open(dir: &Path) -> Result<CandleEncoder> {
        CandleEncoder::open_with(dir, &OpenOptions::default())
    }

    /// Opens a model directory with what the caller knows better than its files.
    pub fn open_with(dir: &Path, options: &OpenOptions) -> Result<CandleEncoder> {
        let files = ModelFiles::open(dir, options)?;
        let device = device();
        let model = load(&files, &device)?;
        Ok(CandleEncoder { files, model, device })
    }

    /// Last hidden states of every sequence (special tokens already in), `len × dim` each.
    fn states(&self, sequences: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_key(|&i| sequences[i].len());
        let mut out = vec![Vec::new(); sequences.len()];
        for same in order.chunk_by(|&a, &b| sequences[a].len() == sequences[b].len()) {
            let len = sequences[same[0]].len();
            for batch in same.chunks((BATCH_TOKENS / len.max(1)).max(1)) {
                let ids: Vec<u32> = batch.iter().flat_map(|&i| sequences[i].iter().copied()).collect();
                let states = self.forward(ids, batch.len(), len).map_err(|e| self.failed(e))?;
                for (&i, row) in batch.iter().zip(states.chunks_exact(len * self.files.spec.dim)) {
                    out[i] = row.to_vec();
                }
            }
        }
        Ok(out)
    }

    fn forward(&self, ids: Vec<u32>, batch: usize, len: usize) -> candle_core::Result<Vec<f32>> {
        let device = &self.device;
        let ids = Tensor::from_vec(ids, (batch, len), device)?;
        let ones = ids.ones_like()?;
        let states = match &self.model {
            Model::Bert(m) => m.forward(&ids, &ids.zeros_like()?, Some(&ones))?,
            // This model's mask marks what to leave out, of shape (batch, 1, 1, len).
            Model::DistilBert(m) => m.forward(&ids, &Tensor::zeros((batch, 1, 1, len), DType::U8, device)?)?,
            Model::ModernBert(m) => m.forward(&ids, &ones)?,
            Model::JinaBert(m) => m.forward(&ids)?,
            Model::NomicBert(m) => m.forward(&ids, None, Some(&ones))?,
            Model::XlmRoberta(m) => m.forward(&ids, &ones, &ids.zeros_like()?, None, None, None)?,
        };
        states.flatten_all()?.to_vec1::<f32>()
    }

    fn failed(&self, e: candle_core::Error) -> Error {
        Error::Model { path: self.files.dir.clone(), what: e.to_string() }
    }
}

fn load(files: &ModelFiles, device: &Device) -> Result<Model> {
    let unusable = |what: String| Error::Model { path: files.dir.clone(), what };
    let failed = |e: candle_core::Error| unusable(e.to_string());
    let mut config = files.config.clone();
    let is_jina = config["position_embedding_type"] == "alibi";
    // candle resolves the optional prefix of the weights by the model type written in the configuration.
    if config["model_type"].is_null() {
        config["model_type"] = files.model_type.clone().into();
    }
    let parse = |e: serde_json::Error| unusable(format!("config.json: {e}"));
    let bytes = std::fs::read(files.weights.path()).map_err(Error::io(files.weights.path(), "read"))?;
    let vb = VarBuilder::from_buffered_safetensors(bytes, DType::F32, device).map_err(failed)?;
    Ok(match files.model_type.as_str() {
        "bert" if is_jina => Model::JinaBert(
            jina_bert::BertModel::new(vb, &serde_json::from_value(config).map_err(parse)?).map_err(failed)?,
        ),
        "bert" => {
            Model::Bert(bert::BertModel::load(vb, &serde_json::from_value(config).map_err(parse)?).map_err(failed)?)
        }
        "distilbert" => Model::DistilBert(
            distilbert::DistilBertModel::load(vb, &serde_json::from_value(config).map_err(parse)?).map_err(failed)?,
        ),
        "modernbert" => {
            // The base checkpoint's tensors have no `model.` prefix; candle asks for one.
            let vb = if files.weights.contains("embeddings.tok_embeddings.weight") {
                vb.rename_f(|name| name.strip_prefix("model.").unwrap_or(name).to_string())
            } else {
                vb
            };
            Model::ModernBert(
                modernbert::ModernBert::load(vb, &serde_json::from_value(config).map_err(parse)?).map_err(failed)?,
            )
        }
        "nomic_bert" => Model::NomicBert(
            nomic_bert::NomicBertModel::load(vb, &serde_json::from_value(config).map_err(parse)?).map_err(failed)?,
        ),
        "xlm-roberta" | "roberta" => {
            let vb =
                if files.weights.contains("roberta.embeddings.word_embeddings.weight") { vb.pp("roberta") } else { vb };
            Model::XlmRoberta(
                xlm_roberta::XLMRobertaModel::new(&serde_json::from_value(config).map_err(parse)?, vb)
                    .map_err(failed)?,
            )
        }
        other => return Err(unusable(format!("model_type {other} is not supported"))),
    })
}

impl Encoder for CandleEncoder {
    fn spec(&self) -> &EncoderSpec {
        &self.files.spec
    }

    fn tokenize(&self, text: &str) -> Result<EncoderTokens> {
        self.files.tokenizer.encode(text)
    }

    fn max_window(&self) -> usize {
        self.files.spec.max_tokens.saturating_sub(self.files.tokenizer.specials())
    }

    fn prompt(&self, role: Role) -> &[u32] {
        self.files.prompt(role)
    }

    fn embed_ids(&self, windows: &[&[u32]]) -> Result<Vec<f32>> {
        let dim = self.files.spec.dim;
        let mut out = Vec::with_capacity(windows.len() * dim);
        for states in self.states(&self.files.wrap(windows)?)? {
            out.extend(pool(self.files.pooling, &states, dim));
        }
        Ok(out)
    }

    fn token_states(&self, windows: &[&[u32]]) -> Result<TokenStates> {
        let dim = self.files.spec.dim;
        let mut out = TokenStates { dim, offsets: vec![0], data: Vec::new() };
        for (states, window) in self.states(&self.files.wrap(windows)?)?.iter().zip(windows) {
            let first = self.files.tokenizer.leading();
            for row in states.chunks_exact(dim).skip(first).take(window.len()) {
                let at = out.data.len();
                out.data.extend_from_slice(row);
                l2_normalize(&mut out.data[at..]);
            }
            out.offsets.push(out.data.len() / dim);
        }
        Ok(out)
    }
}

/// Pools `len × dim` states to one unit vector.
pub(super) fn pool(pooling: Pooling, states: &[f32], dim: usize) -> Vec<f32> {
    let mut out = vec![0f32; dim];
    match pooling {
        Pooling::Cls => out.copy_from_slice(&states[..dim]),
        // The sum suffices: normalisation removes the factor.
        Pooling::Mean => states.chunks_exact(dim).for_each(|row| out.iter_mut().zip(row).for_each(|(o, &x)| *o += x)),
    }
    l2_normalize(&mut out);
    out
}
