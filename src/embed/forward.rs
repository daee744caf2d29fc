//! The forward pass of a BERT-family network over packed sequences, without padding.
//!
//! Overview. [`Network::run`] sorts sequences by length, packs them into groups of a few hundred tokens and runs the
//! groups in parallel on the rayon pool; inside a group the rows of all sequences go through the linear layers together and
//! only attention looks at sequences one by one. Fused: query, key and value are one product; scale and softmax are
//! applied to 12 rows of scores while they are in the first-level cache; the bias starts the accumulators; residual and
//! layer norm are one pass; the feed-forward block runs in row blocks whose inner layer never leaves the second-level cache.
//!
//! Invariants. A sequence's states depend on the sequence alone: the same bits come out at any thread count, group or
//! order (see [`super::kernel`]). Memory: weights once, plus about 10 MB a thread for a 384-wide model.
//!
//! Cost: `2 · parameters` operations a token and `4 · hidden · length` a token and layer for attention.

use std::ops::Range;

use rayon::prelude::*;
use serde_json::Value;

use super::kernel::{self, Isa, PANEL, PanelView, Panels, ROWS};
use super::model_files::{integer, position_offset};
use super::rowwise::{self, Activation};
use super::weights::{Floats, Weights};
use crate::error::{Error, Result};

/// Tokens of one group: enough rows for the products, few enough for the cache.
const GROUP_TOKENS: usize = 384;
/// Rows of scores handled at once.
const SCORE_ROWS: usize = 12;

/// One input of the network.
#[derive(Debug, Clone, Copy)]
pub struct Sequence<'a> {
    /// Token ids, special tokens included.
    pub ids: &'a [u32],
    /// How many of the first tokens may be attended to (the others are still computed); at least 1.
    pub attend: usize,
}

impl<'a> Sequence<'a> {
    /// A sequence whose tokens all attend to each other.
    pub fn whole(ids: &'a [u32]) -> Sequence<'a> {
        Sequence { ids, attend: ids.len() }
    }
}

struct Norm {
    gain: Floats,
    shift: Floats,
}

struct Linear {
    weight: Panels,
    bias: Vec<f32>,
}

struct Layer {
    qkv: Linear,
    out: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    output_norm: Norm,
}

/// A network with its weights packed for [`kernel::gemm`].
pub struct Network {
    isa: Isa,
    hidden: usize,
    heads: usize,
    inner: usize,
    eps: f32,
    activation: Activation,
    words: Floats,
    vocab: usize,
    /// Position rows, the row of token type 0 already added.
    positions: Vec<f32>,
    embedding_norm: Norm,
    layers: Vec<Layer>,
}

/// Names of a layer's tensors in one family of checkpoints.
struct Names {
    layer: &'static str,
    qkv: [&'static str; 3],
    out: &'static str,
    attention_norm: &'static str,
    up: &'static str,
    down: &'static str,
    output_norm: &'static str,
}

const BERT: Names = Names {
    layer: "encoder.layer",
    qkv: ["attention.self.query", "attention.self.key", "attention.self.value"],
    out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    output_norm: "output.LayerNorm",
};

const DISTILBERT: Names = Names {
    layer: "transformer.layer",
    qkv: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    out: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    output_norm: "output_layer_norm",
};

/// Buffers of one thread, reused from group to group.
#[derive(Default)]
struct Workspace {
    x: Vec<f32>,
    y: Vec<f32>,
    qkv: Vec<f32>,
    context: Vec<f32>,
    inner: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<f32>,
}

/// Reads tensors under a checkpoint's prefix.
struct Loader<'a> {
    weights: &'a Weights,
    prefix: &'static str,
}

impl Loader<'_> {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Floats> {
        self.weights.get(&format!("{}{name}", self.prefix), shape)
    }

    /// Layer norms are `weight`/`bias`, in conversions of old checkpoints `gamma`/`beta`.
    fn norm(&self, name: &str, n: usize) -> Result<Norm> {
        let old = self.weights.contains(&format!("{}{name}.gamma", self.prefix));
        let (gain, shift) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        Ok(Norm {
            gain: self.get(&format!("{name}.{gain}"), &[n])?,
            shift: self.get(&format!("{name}.{shift}"), &[n])?,
        })
    }

    /// Several `n × k` linear layers of the same input, side by side.
    fn linear(&self, names: &[String], n: usize, k: usize) -> Result<Linear> {
        let (mut rows, mut bias) = (Vec::with_capacity(names.len() * n * k), Vec::with_capacity(names.len() * n));
        for name in names {
            rows.extend_from_slice(&self.get(&format!("{name}.weight"), &[n, k])?);
            bias.extend_from_slice(&self.get(&format!("{name}.bias"), &[n])?);
        }
        Ok(Linear { weight: Panels::from_rows(&rows, names.len() * n, k), bias })
    }
}

impl Network {
    /// Whether [`Network::load`] knows the architecture of a `config.json`.
    pub fn supports(config: &Value) -> bool {
        let absolute = matches!(config["position_embedding_type"].as_str(), None | Some("absolute"));
        absolute
            && matches!(
                config["model_type"].as_str().unwrap_or("bert"),
                "bert" | "roberta" | "xlm-roberta" | "camembert" | "distilbert"
            )
    }

    /// Loads and packs the weights.
    pub fn load(weights: &Weights, config: &Value, model_type: &str, isa: Isa) -> Result<Network> {
        let unusable = |what: String| Error::Model { path: weights.path().to_path_buf(), what };
        let need = |names: &[&str]| {
            integer(config, names)
                .filter(|&n| n > 0)
                .ok_or_else(|| unusable(format!("config.json has no {}", names[0])))
        };
        let hidden = need(&["hidden_size", "dim"])?;
        let heads = need(&["num_attention_heads", "n_heads"])?;
        let depth = need(&["num_hidden_layers", "n_layers"])?;
        let inner = need(&["intermediate_size", "hidden_dim"])?;
        let vocab = need(&["vocab_size"])?;
        let table = need(&["max_position_embeddings"])?;
        if hidden % heads != 0 {
            return Err(unusable(format!("hidden_size {hidden} is not a multiple of {heads} heads")));
        }
        let act = config["hidden_act"].as_str().or(config["activation"].as_str()).unwrap_or("gelu");
        let activation = match act {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            other => return Err(unusable(format!("hidden_act {other} is not supported"))),
        };
        let names = if model_type == "distilbert" { DISTILBERT } else { BERT };
        let prefix = ["", "bert.", "roberta.", "distilbert.", "model."]
            .into_iter()
            .find(|p| weights.contains(&format!("{p}embeddings.word_embeddings.weight")))
            .ok_or_else(|| unusable("embeddings.word_embeddings.weight is missing".into()))?;
        let load = Loader { weights, prefix };
        let words = load.get("embeddings.word_embeddings.weight", &[vocab, hidden])?;
        let mut positions = load.get("embeddings.position_embeddings.weight", &[table, hidden])?.to_vec();
        positions.drain(..(position_offset(config, model_type) * hidden).min(positions.len()));
        if model_type != "distilbert" {
            let types = need(&["type_vocab_size"])?;
            let types = load.get("embeddings.token_type_embeddings.weight", &[types, hidden])?;
            positions
                .chunks_exact_mut(hidden)
                .for_each(|row| row.iter_mut().zip(types.iter()).for_each(|(p, &t)| *p += t));
        }
        let layers = (0..depth)
            .map(|i| {
                let name = |part: &str| format!("{}.{i}.{part}", names.layer);
                Ok(Layer {
                    qkv: load.linear(&names.qkv.map(name), hidden, hidden)?,
                    out: load.linear(&[name(names.out)], hidden, hidden)?,
                    attention_norm: load.norm(&name(names.attention_norm), hidden)?,
                    up: load.linear(&[name(names.up)], inner, hidden)?,
                    down: load.linear(&[name(names.down)], hidden, inner)?,
                    output_norm: load.norm(&name(names.output_norm), hidden)?,
                })
            })
            .collect::<Result<Vec<Layer>>>()?;
        let embedding_norm = load.norm("embeddings.LayerNorm", hidden)?;
        let eps = config["layer_norm_eps"].as_f64().unwrap_or(1e-12) as f32;
        Ok(Network { isa, hidden, heads, inner, eps, activation, words, vocab, positions, embedding_norm, layers })
    }

    /// Width of a state.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// Floating-point operations of one sequence of `len` tokens (matrix products only).
    pub fn operations(&self, len: usize) -> f64 {
        let linear = 4 * self.hidden * self.hidden + 2 * self.hidden * self.inner;
        (self.layers.len() * len) as f64 * (2.0 * linear as f64 + 4.0 * (len * self.hidden) as f64)
    }

    /// Runs every sequence and gives `finish(i, states)` for each, in input order; `states` is `len × hidden`, the last
    /// layer's output.
    pub fn run<T: Send>(
        &self,
        sequences: &[Sequence<'_>],
        finish: impl Fn(usize, &[f32]) -> T + Sync,
    ) -> Result<Vec<T>> {
        let positions = self.positions.len() / self.hidden;
        for (i, s) in sequences.iter().enumerate() {
            if s.ids.len() > positions {
                return Err(Error::invalid_hint(
                    format!("sequence {i} has {} tokens, the model {positions} positions", s.ids.len()),
                    "use shorter windows",
                ));
            }
            if let Some(&id) = s.ids.iter().find(|&&id| id as usize >= self.vocab) {
                return Err(Error::invalid_hint(
                    format!("sequence {i} has token {id}, the model {} tokens", self.vocab),
                    "use the model's own tokenizer",
                ));
            }
            if s.attend == 0 || s.attend > s.ids.len() {
                return Err(Error::invalid(format!("sequence {i}: {} of {} tokens attended", s.attend, s.ids.len())));
            }
        }
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(sequences[i].ids.len()));
        let mut groups: Vec<Range<usize>> = Vec::new();
        let (mut start, mut tokens) = (0, 0);
        for (at, &i) in order.iter().enumerate() {
            let len = sequences[i].ids.len();
            if tokens + len > GROUP_TOKENS && at > start {
                groups.push(start..at);
                (start, tokens) = (at, 0);
            }
            tokens += len;
        }
        if start < order.len() {
            groups.push(start..order.len());
        }
        let done: Vec<Vec<(usize, T)>> = groups
            .into_par_iter()
            .with_max_len(1)
            .map_init(Workspace::default, |ws, range| {
                let members: Vec<Sequence<'_>> = order[range.clone()].iter().map(|&i| sequences[i]).collect();
                self.group(&members, ws);
                let mut rest = ws.x.as_slice();
                let finished = order[range].iter().map(|&i| {
                    let (states, after) = rest.split_at(sequences[i].ids.len() * self.hidden);
                    rest = after;
                    (i, finish(i, states))
                });
                finished.collect()
            })
            .collect();
        let mut out: Vec<(usize, T)> = done.into_iter().flatten().collect();
        out.sort_unstable_by_key(|&(i, _)| i);
        Ok(out.into_iter().map(|(_, t)| t).collect())
    }

    /// Leaves the states of `members`, rows concatenated, in `ws.x`.
    fn group(&self, members: &[Sequence<'_>], ws: &mut Workspace) {
        let hidden = self.hidden;
        let rows: usize = members.iter().map(|s| s.ids.len()).sum();
        for (buffer, width) in
            [(&mut ws.x, hidden), (&mut ws.y, hidden), (&mut ws.qkv, 3 * hidden), (&mut ws.context, hidden)]
        {
            buffer.resize(rows * width, 0.0);
        }
        ws.inner.resize(ROWS.min(rows) * self.inner, 0.0);
        self.embed(members, &mut ws.x);
        for layer in &self.layers {
            self.linear(rows, &ws.x, hidden, &layer.qkv, &mut ws.qkv);
            let mut first = 0;
            for s in members {
                let end = first + s.ids.len();
                let qkv = &ws.qkv[first * 3 * hidden..end * 3 * hidden];
                let context = &mut ws.context[first * hidden..end * hidden];
                self.attention(*s, qkv, context, &mut ws.keys, &mut ws.values, &mut ws.scores);
                first = end;
            }
            self.linear(rows, &ws.context, hidden, &layer.out, &mut ws.y);
            self.add_norm(&mut ws.x, &ws.y, &layer.attention_norm);
            for first in (0..rows).step_by(ROWS) {
                let n = ROWS.min(rows - first);
                let block = first * hidden..(first + n) * hidden;
                let inner = &mut ws.inner[..n * self.inner];
                self.linear(n, &ws.x[block.clone()], hidden, &layer.up, inner);
                rowwise::activate(self.isa, self.activation, inner);
                self.linear(n, inner, self.inner, &layer.down, &mut ws.y[block.clone()]);
                self.add_norm(&mut ws.x[block.clone()], &ws.y[block], &layer.output_norm);
            }
        }
    }

    fn embed(&self, members: &[Sequence<'_>], x: &mut [f32]) {
        let mut rows = x.chunks_exact_mut(self.hidden);
        for s in members {
            for ((&id, position), row) in s.ids.iter().zip(self.positions.chunks_exact(self.hidden)).zip(&mut rows) {
                let at = id as usize * self.hidden;
                row.copy_from_slice(&self.words[at..at + self.hidden]);
                let norm = &self.embedding_norm;
                rowwise::add_norm(self.isa, row, position, &norm.gain, &norm.shift, self.eps);
            }
        }
    }

    fn linear(&self, rows: usize, a: &[f32], lda: usize, layer: &Linear, c: &mut [f32]) {
        kernel::gemm(self.isa, rows, a, lda, layer.weight.view(), Some(&layer.bias), c, layer.weight.n);
    }

    fn add_norm(&self, x: &mut [f32], y: &[f32], norm: &Norm) {
        let (gain, shift): (&[f32], &[f32]) = (&norm.gain, &norm.shift);
        for (x, y) in x.chunks_exact_mut(self.hidden).zip(y.chunks_exact(self.hidden)) {
            rowwise::add_norm(self.isa, x, y, gain, shift, self.eps);
        }
    }

    /// Multi-head attention of one sequence; `qkv` is `len × 3·hidden`, `context` `len × hidden`.
    fn attention(
        &self,
        s: Sequence<'_>,
        qkv: &[f32],
        context: &mut [f32],
        keys: &mut Vec<f32>,
        values: &mut Vec<f32>,
        scores: &mut Vec<f32>,
    ) {
        let (len, hidden, d) = (s.ids.len(), self.hidden, self.hidden / self.heads);
        let stride = 3 * hidden;
        let columns = s.attend.next_multiple_of(PANEL);
        let scale = 1.0 / (d as f32).sqrt();
        keys.resize(keys.len().max(kernel::panel_len(d, columns)), 0.0);
        values.resize(values.len().max(kernel::panel_len(s.attend, d)), 0.0);
        scores.resize(scores.len().max(SCORE_ROWS * columns), 0.0);
        for head in 0..self.heads {
            let at = head * d;
            // Lanes past the last key keep old values: their scores are computed and never read.
            kernel::pack_transposed(&qkv[hidden + at..], s.attend, d, stride, keys);
            kernel::pack_plain(&qkv[2 * hidden + at..], s.attend, d, stride, values);
            let key_panels = PanelView { data: keys, k: d, n: columns };
            let value_panels = PanelView { data: values, k: s.attend, n: d };
            for row in (0..len).step_by(SCORE_ROWS) {
                let n = SCORE_ROWS.min(len - row);
                kernel::gemm(self.isa, n, &qkv[row * stride + at..], stride, key_panels, None, scores, columns);
                for scores in scores.chunks_exact_mut(columns).take(n) {
                    rowwise::softmax(self.isa, scale, &mut scores[..s.attend]);
                }
                let out = &mut context[row * hidden + at..];
                kernel::gemm(self.isa, n, scores, columns, value_panels, None, out, hidden);
            }
        }
    }
}
