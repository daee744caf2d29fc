//! Encoders for the commands that need one, and the vector index that `build` makes with one.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Global;
use super::output::{self, number};
use crate::ann::{Element, HnswParams, IvfParams, Kind, SearchParams, StoredAs, VectorSettings};
use crate::catalog::{OriginKind, Receipt};
use crate::corpus::SourceFile;
use crate::embed::chunk::{ChunkRule, Unit};
use crate::embed::{Encoder, OpenOptions};
use crate::error::{Error, Result};
use crate::index::build::BuildOptions;
use crate::index::{Chunking, IndexDir, Manifest, Snapshot};
use crate::novelty::CacheOptions;
use crate::novelty::keep::StateKeeper;
use crate::query::neighbors::no_embeddings;
use crate::shard::semantic::{Embedder, Embedding, is_complete};
use crate::tokenize::Tokenizer;

/// The encoder of a new index.
#[derive(Debug, Clone, Args)]
pub struct EncoderArgs {
    /// Encoder for semantic search: a name of the catalog, OWNER/NAME@COMMIT of the hub, a model directory, or none
    #[arg(long, default_value = "none", value_name = "NAME")]
    encoder: String,
    /// Tokens in a chunk
    #[arg(long, default_value_t = 100, value_name = "TOKENS")]
    chunk_tokens: usize,
    /// Tokens from one chunk to the next [default: as many as in a chunk]
    #[arg(long, value_name = "TOKENS")]
    chunk_stride: Option<usize>,
    /// Whose tokens are counted: the encoder's or the index's
    #[arg(long, value_enum, default_value = "encoder", value_name = "UNIT")]
    chunk_unit: ChunkUnit,
    /// Vector index of each shard: auto (by size), flat (exact), hnsw, hnsw_rs, or ivf[:FACTORY] with a FAISS factory such as
    /// IVF4096,SQ8 (needs a build with --features faiss)
    #[arg(long, default_value = "auto", value_name = "KIND")]
    vector_index: String,
    /// Stored vectors, from which similarities are computed: f32, f16, int8, or none (similarities are then those of the index's
    /// codes; no --exact, --document, rank or measured recall)
    #[arg(long, default_value = "f32", value_name = "TYPE")]
    store: StoredAs,
    /// hnsw: neighbours a vector has in the graph [default: 16]
    #[arg(long, value_name = "M")]
    hnsw_m: Option<usize>,
    /// hnsw: candidates considered while the graph is built [default: 200]
    #[arg(long, value_name = "N")]
    ef_construction: Option<usize>,
    /// hnsw: element type of the vectors that steer the search [default: int8]
    #[arg(long, value_name = "TYPE")]
    hnsw_store: Option<Element>,
    /// ivf: vectors to train on [default: 64 a list, at least 65,536]
    #[arg(long, value_name = "N")]
    train: Option<usize>,
    /// hnsw: candidates of a query that does not say [default: 100]
    #[arg(long, value_name = "N")]
    ef: Option<usize>,
    /// ivf: lists probed by a query that does not say [default: 32]
    #[arg(long, value_name = "N")]
    nprobe: Option<usize>,
}

/// Whether token states are kept while documents are embedded.
#[derive(Debug, Clone, Args)]
pub struct StatesArgs {
    /// Also keep the chunks' token states in the index, with 2 or 4 bits a dimension, so that `novelty` and `audit` need not encode
    /// the corpus again: at 384 dimensions and 4 bits, 196 bytes a token
    #[arg(long, value_name = "BITS", value_parser = ["1", "2", "4", "8"])]
    token_states: Option<String>,
}

impl StatesArgs {
    /// Bits a dimension, where states are to be kept.
    ///
    /// # Errors
    /// States to keep without an encoder to make them, or of chunks that audits cannot use.
    pub fn bits(&self, opened: Option<&Opened>) -> Result<Option<u32>> {
        let Some(bits) = &self.token_states else { return Ok(None) };
        match opened {
            None => Err(Error::invalid_hint("--token-states: no encoder makes any", "name one with --encoder")),
            Some(o) if !o.chunking.unit.is_encoder() => Err(Error::invalid_hint(
                "--token-states: novelty works on chunks of encoder tokens only",
                "leave out --chunk-unit index, or --token-states",
            )),
            Some(_) => Ok(bits.parse().ok()),
        }
    }
}

/// As [`Unit`].
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ChunkUnit {
    Encoder,
    Index,
}

/// An opened encoder and how documents are cut for it.
pub struct Opened {
    pub encoder: Box<dyn Encoder>,
    pub chunking: Chunking,
    pub vectors: VectorSettings,
    /// Bits a dimension of the token states to keep.
    pub token_states: Option<u32>,
    rule: ChunkRule,
}

/// Opens an encoder by catalog name or directory.
pub fn open_encoder(name: &str) -> Result<Box<dyn Encoder>> {
    let (dir, short) = if Path::new(name).is_dir() {
        (PathBuf::from(name), Path::new(name).file_name().map(|n| n.to_string_lossy().into_owned()))
    } else {
        let found = crate::embed::find_model(name).ok_or_else(|| {
            Error::invalid_hint(
                format!("the encoder {name:?} is neither a directory nor in the cache"),
                format!("run `cargo run --release -p index-tools -- fetch {name}`, or pass the directory of a model"),
            )
        })?;
        (found, Some(name.to_string()))
    };
    let receipt = Receipt::read(&dir).filter(|r| r.origin == OriginKind::Hub);
    let revision = receipt.and_then(|r| r.revision);
    crate::embed::open(&dir, &OpenOptions { name: short, revision, ..OpenOptions::default() })
}

impl EncoderArgs {
    /// The encoder, unless it is `none`.
    pub fn open(&self, _global: &Global) -> Result<Option<Opened>> {
        let vectors = self.vectors()?;
        if self.encoder == "none" {
            return Ok(None);
        }
        let encoder = open_encoder(&self.encoder)?;
        let stride = self.chunk_stride.unwrap_or(self.chunk_tokens);
        let unit = match self.chunk_unit {
            ChunkUnit::Encoder => Unit::Encoder,
            ChunkUnit::Index => Unit::Index,
        };
        let rule = ChunkRule::checked(self.chunk_tokens, stride, unit, encoder.max_window())?;
        Ok(Some(Opened {
            encoder,
            chunking: Chunking { tokens: self.chunk_tokens as u32, stride: stride as u32, unit },
            vectors,
            token_states: None,
            rule,
        }))
    }

    /// What `--vector-index` and the flags beside it ask for.
    fn vectors(&self) -> Result<VectorSettings> {
        let (kind, factory) = match self.vector_index.split_once(':') {
            Some(("ivf", factory)) if !factory.is_empty() => (Kind::Ivf, Some(factory)),
            Some((kind, _)) => {
                return Err(Error::invalid_hint(
                    format!("--vector-index {}: no factory goes with {kind:?}", self.vector_index),
                    "write auto, flat, hnsw, hnsw_rs, ivf or ivf:FACTORY, such as ivf:IVF4096,SQ8",
                ));
            }
            None => (self.vector_index.parse()?, None),
        };
        let graph = HnswParams {
            m: self.hnsw_m.unwrap_or(HnswParams::default().m),
            ef_construction: self.ef_construction.unwrap_or(HnswParams::default().ef_construction),
            element: self.hnsw_store.unwrap_or(HnswParams::default().element),
            ..HnswParams::default()
        };
        let of_graph = [
            ("--hnsw-m", self.hnsw_m.is_some()),
            ("--ef-construction", self.ef_construction.is_some()),
            ("--hnsw-store", self.hnsw_store.is_some()),
            ("--ef", self.ef.is_some()),
        ];
        let of_lists = [("--train", self.train.is_some()), ("--nprobe", self.nprobe.is_some())];
        let foreign: &[(&str, bool)] = match kind {
            Kind::Flat => &[of_graph.as_slice(), of_lists.as_slice()].concat(),
            Kind::Hnsw | Kind::HnswRs => &of_lists,
            Kind::Ivf => &of_graph,
            Kind::Auto => &[],
        };
        if let Some((flag, _)) = foreign.iter().find(|(_, given)| *given) {
            return Err(Error::invalid(format!("{flag} means nothing to the vector index {}", kind.name())));
        }
        let settings = VectorSettings {
            kind,
            store: self.store,
            hnsw: of_graph[..3].iter().any(|(_, given)| *given).then_some(graph),
            ivf: (factory.is_some() || self.train.is_some())
                .then(|| IvfParams { factory: factory.unwrap_or_default().into(), train: self.train.unwrap_or(0) }),
            search: SearchParams { ef: self.ef.unwrap_or(0), nprobe: self.nprobe.unwrap_or(0) },
        };
        settings.check()?;
        Ok(settings)
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
    let rule =
        ChunkRule::checked(chunking.tokens as usize, chunking.stride as usize, chunking.unit, encoder.max_window())?;
    let vectors = manifest.vector_index.clone().unwrap_or_default();
    Ok(Some(Opened { encoder, chunking: chunking.clone(), vectors, token_states: None, rule }))
}

/// The encoder of an index that must have embeddings.
pub fn open_of(global: &Global, snapshot: &Snapshot) -> Result<Opened> {
    open_for(global, &snapshot.manifest)?.ok_or_else(no_embeddings)
}

/// Says that a token cache is new: its codec is trained before anything else happens, which takes up to half a minute.
pub fn tell_new(global: &Global, cache: &CacheOptions) {
    if !global.quiet && !cache.dir.join("codec.bin").exists() {
        eprintln!("starting a token cache in {}", cache.dir.display());
    }
}

impl Opened {
    /// An encoder with its chunks of `tokens` tokens, one every `stride`.
    pub fn new(encoder: Box<dyn Encoder>, tokens: usize, stride: usize) -> Result<Opened> {
        let rule = ChunkRule::checked(tokens, stride, Unit::Encoder, encoder.max_window())?;
        let chunking = Chunking { tokens: tokens as u32, stride: stride as u32, unit: Unit::Encoder };
        Ok(Opened { encoder, chunking, vectors: VectorSettings::default(), token_states: None, rule })
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
        let mut shards = crate::index::build::task_shards(dir, tokenizer, files, options)?;
        shards.retain(|shard| !is_complete(shard));
        let mut keeper = match self.token_states.filter(|_| !shards.is_empty()) {
            Some(bits) => {
                let cache = CacheOptions::beside(dir.path(), &self.encoder.spec().sha256, bits);
                tell_new(global, &cache);
                Some(StateKeeper::open(&cache, &*self.encoder, tokenizer, &self.rule, &shards)?)
            }
            None => None,
        };
        for shard in shards {
            let text = crate::shard::ShardMeta::read(&shard)?.text_bytes;
            let bar = output::bar(text, global.quiet, "embed");
            let (mut told, mut logged) = (false, std::time::Instant::now());
            let mut tell = |p: Embedding| {
                if p.resumed > 0 && !told {
                    told = true;
                    // The rate of this run alone tells when it will end.
                    bar.set_position(p.bytes);
                    bar.reset_eta();
                    if !global.quiet {
                        eprintln!("resumed: {} chunks were embedded by an earlier run", number(p.resumed));
                    }
                }
                bar.set_position(p.bytes);
                let what = if p.indexing { ", building the vector index" } else { "" };
                bar.set_message(format!("{} chunks{what}", number(p.chunks)));
                if p.indexing || logged.elapsed().as_secs() >= 60 {
                    logged = std::time::Instant::now();
                    tracing::info!(shard = %shard.display(), chunks = p.chunks, bytes = p.bytes, of = text, "embedding");
                }
            };
            let mut embedder = Embedder::new(&*self.encoder, &self.rule, &self.vectors);
            if let Some(keeper) = &mut keeper {
                keeper.turn_to(&shard)?;
                embedder.states = Some(keeper);
            }
            crate::shard::semantic::write(store, &shard, tokenizer, embedder, &mut tell)?;
            bar.finish_and_clear();
        }
        Ok(())
    }
}
