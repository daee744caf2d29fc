//! What a sentence-transformers model directory says about its encoder.
//!
//! Overview. [`ModelFiles::open`] reads `config.json` (shape), `modules.json` and `1_Pooling/config.json` (pooling,
//! normalisation), `sentence_bert_config.json` (longest input), `config_sentence_transformers.json` (prompts),
//! `tokenizer.json` and the header of `model.safetensors`. Nothing is assumed: a directory without a pooling configuration
//! is refused unless the caller names the pooling in [`OpenOptions`].

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::tokens::WindowTokenizer;
use super::weights::Weights;
use super::{EncoderSpec, Role};
use crate::error::{Error, Result};

/// File of a model's weights.
pub const WEIGHTS: &str = "model.safetensors";

/// How token states become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Mean over all tokens, special tokens included.
    Mean,
    /// State of the first token.
    Cls,
}

impl Pooling {
    /// `mean` or `cls`, as the manifest writes it.
    pub fn name(self) -> &'static str {
        match self {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
        }
    }
}

/// What the caller knows better than the files.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Pooling, for a directory that does not say.
    pub pooling: Option<Pooling>,
    /// Name recorded in the spec; the directory's name otherwise.
    pub name: Option<String>,
    /// Hub revision recorded in the spec.
    pub revision: Option<String>,
}

impl OpenOptions {
    /// The name to record for the model in `dir`.
    pub(super) fn name_of(&self, dir: &Path) -> String {
        self.name.clone().unwrap_or_else(|| {
            dir.file_name().map_or_else(|| dir.display().to_string(), |n| n.to_string_lossy().into_owned())
        })
    }
}

/// The parsed files of one model.
pub struct ModelFiles {
    pub dir: PathBuf,
    pub config: Value,
    pub model_type: String,
    pub pooling: Pooling,
    pub tokenizer: WindowTokenizer,
    pub weights: Weights,
    pub spec: EncoderSpec,
    /// Token ids put before every query, and before every document.
    pub prompts: [Vec<u32>; 2],
}

impl ModelFiles {
    /// Reads everything but the tensors.
    pub fn open(dir: &Path, options: &OpenOptions) -> Result<ModelFiles> {
        let config = required_json(&dir.join("config.json"))?;
        let pooling = match options.pooling {
            Some(pooling) => pooling,
            None => read_pooling(dir)?,
        };
        let weights = open_weights(dir)?;
        let tokenizer = WindowTokenizer::open(&dir.join("tokenizer.json"))?;
        let model_type = config["model_type"].as_str().unwrap_or("bert").to_string();
        let positions = position_limit(&config, &model_type);
        let sentence = optional_json(&dir.join("sentence_bert_config.json"))?.unwrap_or_default();
        if sentence["do_lower_case"].as_bool() == Some(true) {
            return Err(Error::Model {
                path: dir.join("sentence_bert_config.json"),
                what: "do_lower_case outside the tokenizer is not supported: it would shift byte offsets".into(),
            });
        }
        let asked = sentence["max_seq_length"].as_u64().map(|n| n as usize);
        let max_tokens = match (asked, positions) {
            (Some(a), Some(p)) => a.min(p),
            (Some(n), None) | (None, Some(n)) => n,
            (None, None) => 512,
        };
        let dim = integer(&config, &["hidden_size", "dim", "n_embd"])
            .ok_or_else(|| Error::Model { path: dir.join("config.json"), what: "hidden_size is missing".into() })?;
        let prompts = read_prompts(dir, &tokenizer)?;
        let spec = EncoderSpec {
            name: options.name_of(dir),
            revision: options.revision.clone(),
            sha256: weights.sha256(),
            dim,
            pooling: pooling.name().into(),
            max_tokens,
        };
        Ok(ModelFiles { dir: dir.to_path_buf(), config, model_type, pooling, tokenizer, weights, spec, prompts })
    }

    /// `windows` with their special tokens, each checked against the model's longest input.
    pub fn wrap(&self, windows: &[&[u32]]) -> Result<Vec<Vec<u32>>> {
        let room = self.spec.max_tokens.saturating_sub(self.tokenizer.specials());
        for (i, window) in windows.iter().enumerate() {
            if window.len() > room {
                return Err(Error::invalid_hint(
                    format!("window {i} has {} tokens, {} takes {room}", window.len(), self.spec.name),
                    "use a shorter window, or cut the text into several",
                ));
            }
        }
        Ok(windows.iter().map(|w| self.tokenizer.wrap(w)).collect())
    }

    /// The prompt of a role.
    pub fn prompt(&self, role: Role) -> &[u32] {
        &self.prompts[role as usize]
    }
}

/// An unsigned integer under the first of `names` that is there.
pub fn integer(config: &Value, names: &[&str]) -> Option<usize> {
    names.iter().find_map(|name| config[*name].as_u64()).map(|n| n as usize)
}

/// Positions the model has, if it counts them: RoBERTa's table starts after the padding id.
fn position_limit(config: &Value, model_type: &str) -> Option<usize> {
    let positions = integer(config, &["max_position_embeddings", "n_positions"])?;
    Some(positions - position_offset(config, model_type).min(positions))
}

/// Row of the position table that belongs to the first token.
pub fn position_offset(config: &Value, model_type: &str) -> usize {
    match model_type {
        "roberta" | "xlm-roberta" | "camembert" => integer(config, &["pad_token_id"]).unwrap_or(1) + 1,
        _ => 0,
    }
}

fn open_weights(dir: &Path) -> Result<Weights> {
    let path = dir.join(WEIGHTS);
    if !path.exists() {
        let has_pickle = dir.join("pytorch_model.bin").exists();
        return Err(Error::Model {
            path: dir.to_path_buf(),
            what: if has_pickle {
                "it has pytorch_model.bin but no model.safetensors; convert it to safetensors (pickles can run code and are not read)".into()
            } else {
                "model.safetensors is missing".into()
            },
        });
    }
    Weights::open(&path)
}

/// Reads a JSON file that must be there.
pub fn required_json(path: &Path) -> Result<Value> {
    optional_json(path)?.ok_or_else(|| Error::Model {
        path: path.to_path_buf(),
        what: "the file is missing; is this a model directory?".into(),
    })
}

/// Reads a JSON file that may be missing.
pub fn optional_json(path: &Path) -> Result<Option<Value>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path, "read")(e)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| Error::Model { path: path.to_path_buf(), what: format!("not JSON: {e}") })
}

/// Pooling from `modules.json` → its Pooling module's `config.json` (by custom `1_Pooling`).
fn read_pooling(dir: &Path) -> Result<Pooling> {
    let mut pooling_dir = "1_Pooling".to_string();
    let modules_path = dir.join("modules.json");
    if let Some(modules) = optional_json(&modules_path)? {
        for module in modules.as_array().map(Vec::as_slice).unwrap_or_default() {
            let kind = module["type"].as_str().unwrap_or_default();
            match kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" | "Normalize" => {}
                "Pooling" => pooling_dir = module["path"].as_str().unwrap_or("1_Pooling").to_string(),
                _ => {
                    return Err(Error::Model { path: modules_path, what: format!("module {kind} is not supported") });
                }
            }
        }
    }
    let path = dir.join(&pooling_dir).join("config.json");
    let config = optional_json(&path)?.ok_or_else(|| Error::Model {
        path: path.clone(),
        what: "the file is missing, so the pooling is unknown; name it (mean or cls)".into(),
    })?;
    let on: Vec<&str> = config
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| key.starts_with("pooling_mode_") && value.as_bool() == Some(true))
        .map(|(key, _)| key.as_str())
        .collect();
    match on.as_slice() {
        ["pooling_mode_mean_tokens"] => Ok(Pooling::Mean),
        ["pooling_mode_cls_token"] => Ok(Pooling::Cls),
        other => Err(Error::Model {
            path,
            what: format!("pooling {other:?} is not supported; pooling_mode_mean_tokens or pooling_mode_cls_token is"),
        }),
    }
}

/// Prompts of `config_sentence_transformers.json`: `query` for queries, `document`/`passage`/`corpus` for documents, and
/// the default prompt for a role without one.
fn read_prompts(dir: &Path, tokenizer: &WindowTokenizer) -> Result<[Vec<u32>; 2]> {
    let Some(config) = optional_json(&dir.join("config_sentence_transformers.json"))? else {
        return Ok(Default::default());
    };
    let prompts = &config["prompts"];
    let fallback = config["default_prompt_name"].as_str().and_then(|name| prompts[name].as_str());
    let find = |names: &[&str]| names.iter().find_map(|n| prompts[*n].as_str()).or(fallback).unwrap_or_default();
    Ok([tokenizer.encode(find(&["query"]))?.ids, tokenizer.encode(find(&["document", "passage", "corpus"]))?.ids])
}

/// Where model `name` lies on this machine: in `PRIORART_MODEL_DIR` (the model's own directory, or one that holds it), else
/// where [`catalog::fetch`](crate::catalog::fetch) has put it.
pub fn find_model(name: &str) -> Option<PathBuf> {
    let Some(dir) = std::env::var_os("PRIORART_MODEL_DIR").filter(|d| !d.is_empty()).map(PathBuf::from) else {
        return crate::catalog::locate(name);
    };
    [dir.clone(), dir.join(name)].into_iter().find(|d| d.join("tokenizer.json").is_file())
}
