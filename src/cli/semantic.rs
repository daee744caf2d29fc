//! Encoders for the commands that need one, and `neighbors`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::output::{self, number, one_line};
use super::{Global, Outcome};
use crate::ann::element::Element;
use crate::corpus::SourceFile;
use crate::embed::chunk::ChunkRule;
use crate::embed::{Encoder, OpenOptions};
use crate::error::{Error, Result};
use crate::index::build::BuildOptions;
use crate::index::{Chunking, IndexDir, Manifest};
use crate::query::neighbors::{Neighbor, NeighborOptions};
use crate::shard::semantic::CHUNKS_BIN;
use crate::tokenize::Tokenizer;

/// The encoder of a new index.
#[derive(Debug, Clone, Args)]
pub struct EncoderArgs {
    /// Encoder for semantic search: a name of the catalog, a model directory, or none
    #[arg(long, default_value = "none", value_name = "NAME")]
    encoder: String,
    /// Encoder tokens in a chunk
    #[arg(long, default_value_t = 100, value_name = "TOKENS")]
    chunk_tokens: usize,
    /// Encoder tokens from one chunk to the next [default: as many as in a chunk]
    #[arg(long, value_name = "TOKENS")]
    chunk_stride: Option<usize>,
}

/// An opened encoder and how documents are cut for it.
pub struct Opened {
    pub encoder: Box<dyn Encoder>,
    pub chunking: Chunking,
    rule: ChunkRule,
}

/// Opens an encoder by catalog name or directory.
pub fn open_encoder(name: &str) -> Result<Box<dyn Encoder>> {
    let dir = if Path::new(name).is_dir() {
        PathBuf::from(name)
    } else {
        crate::embed::find_model(name).ok_or_else(|| {
            Error::invalid_hint(
                format!("the encoder {name:?} is neither a directory nor in the cache"),
                format!("run `cargo run --release -p index-tools -- fetch {name}`, or pass the directory of a model"),
            )
        })?
    };
    let short = Path::new(name).file_name().map(|n| n.to_string_lossy().into_owned());
    crate::embed::open(&dir, &OpenOptions { name: short, ..OpenOptions::default() })
}

impl EncoderArgs {
    /// The encoder, unless it is `none`.
    pub fn open(&self, _global: &Global) -> Result<Option<Opened>> {
        if self.encoder == "none" {
            return Ok(None);
        }
        let encoder = open_encoder(&self.encoder)?;
        let stride = self.chunk_stride.unwrap_or(self.chunk_tokens);
        let rule = ChunkRule::checked(self.chunk_tokens, stride, encoder.max_window())?;
        Ok(Some(Opened {
            encoder,
            chunking: Chunking { tokens: self.chunk_tokens as u32, stride: stride as u32 },
            rule,
        }))
    }
}

/// The encoder an index was built with, if it was built with one.
pub fn open_for(_global: &Global, manifest: &Manifest) -> Result<Option<Opened>> {
    let (Some(spec), Some(chunking)) = (&manifest.encoder, &manifest.chunking) else { return Ok(None) };
    let encoder = open_encoder(&spec.name)?;
    if encoder.spec().sha256 != spec.sha256 {
        return Err(Error::EncoderMismatch {
            index: format!("{} (weights {:.12})", spec.name, spec.sha256),
            query: format!("{} (weights {:.12})", encoder.spec().name, encoder.spec().sha256),
        });
    }
    let rule = ChunkRule::checked(chunking.tokens as usize, chunking.stride as usize, encoder.max_window())?;
    Ok(Some(Opened { encoder, chunking: chunking.clone(), rule }))
}

impl Opened {
    /// An encoder with its chunks of `tokens` tokens, one every `stride`.
    pub fn new(encoder: Box<dyn Encoder>, tokens: usize, stride: usize) -> Result<Opened> {
        let rule = ChunkRule::checked(tokens, stride, encoder.max_window())?;
        Ok(Opened { encoder, chunking: Chunking { tokens: tokens as u32, stride: stride as u32 }, rule })
    }

    /// Cuts and encodes the documents of every finished shard of a plan that has no embeddings yet.
    pub fn embed_shards(
        &self,
        global: &Global,
        dir: &IndexDir,
        tokenizer: &Tokenizer,
        files: &[SourceFile],
        options: &BuildOptions,
    ) -> Result<()> {
        let store = &**dir.store();
        for shard in crate::index::build::task_shards(dir, tokenizer, files, options)? {
            if shard.join(CHUNKS_BIN).exists() {
                continue;
            }
            let documents = crate::shard::Documents::open(&shard)?.len() as u64;
            let bar = output::counter(documents, global.quiet, "embed");
            crate::shard::semantic::write(
                store,
                &shard,
                &*self.encoder,
                &self.rule,
                Element::F32,
                &mut |done, chunks| {
                    bar.set_position(done);
                    bar.set_message(format!("{} chunks", number(chunks)));
                },
            )?;
            bar.finish_and_clear();
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub struct NeighborsArgs {
    /// Texts to find neighbours of
    #[arg(required = true, value_name = "TEXT")]
    texts: Vec<String>,
    /// Chunks to show
    #[arg(short = 'k', long, default_value_t = 10, value_name = "N")]
    top_k: usize,
    /// Only chunks at least this similar (cosine)
    #[arg(long, value_name = "T")]
    at_least: Option<f32>,
    /// Rerank this many candidates by late interaction; 0: do not
    #[arg(long, default_value_t = 0, value_name = "N")]
    rerank: usize,
    /// Show the best chunk of each document only
    #[arg(long)]
    by_document: bool,
    /// Only documents whose path contains this
    #[arg(long, value_name = "TEXT")]
    path_contains: Option<String>,
    /// Exit with 1 if anything is found
    #[arg(long)]
    check: bool,
}

#[derive(serde::Serialize)]
struct NeighborsRow<'a> {
    query: &'a str,
    neighbors: Vec<Neighbor>,
    /// Recall of the search; 1 when it was exhaustive.
    recall: f64,
    approximate: bool,
}

pub fn neighbors(global: &Global, args: NeighborsArgs) -> anyhow::Result<Outcome> {
    let snapshot = global.snapshot()?;
    let Some(opened) = open_for(global, &snapshot.manifest)? else {
        return Err(
            Error::invalid_hint("this index has no embeddings", "build it with --encoder all-minilm-l6-v2").into()
        );
    };
    let options = NeighborOptions {
        top_k: args.top_k,
        at_least: args.at_least,
        rerank: args.rerank,
        group_by_document: args.by_document,
        path_contains: args.path_contains,
        ..NeighborOptions::default()
    };
    let texts: Vec<&str> = args.texts.iter().map(|t| t.as_str()).collect();
    let found = snapshot.neighbors(&*opened.encoder, &texts, &options)?;
    let rows: Vec<NeighborsRow> = texts
        .iter()
        .zip(found)
        .map(|(query, neighbors)| NeighborsRow { query, neighbors, recall: 1.0, approximate: false })
        .collect();
    output::results(global.format(), &rows, |r| {
        let mut out = format!("{}\n", one_line(r.query));
        if r.neighbors.is_empty() {
            out += &format!(
                "  nothing found in generation {} (exhaustive search: recall 1)\n",
                snapshot.manifest.generation
            );
        }
        for n in &r.neighbors {
            let late = n.late_interaction.map(|s| format!(" late interaction {s:.3}")).unwrap_or_default();
            out += &format!(
                "  {:.3}{late}  {} ({}, bytes {}..{})\n         {}\n",
                n.score,
                n.id,
                n.path,
                n.start_byte,
                n.end_byte,
                one_line(&n.text)
            );
        }
        out
    })?;
    Ok(if args.check && rows.iter().any(|r| !r.neighbors.is_empty()) { Outcome::Findings } else { Outcome::Done })
}
