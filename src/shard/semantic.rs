//! The semantic part of a shard: its chunks, their embeddings, and the vector index over them.
//!
//! Chunk `i` is bytes `start[i]..end[i]` of document `document[i]`, in document order (`chunks.bin`); row `i` of the `flat` index
//! `vectors.bin` is its embedding. `ann.bin`, where the shard has one, is an approximate index of the same rows, and every
//! similarity it finds is computed again from `vectors.bin`; where the build was to store no vectors, `ann.bin` is all there is. `semantic.json` says what made all of it ([`SemanticMeta`]).
//!
//! [`write()`] makes the files from the shard's documents, batch by batch through a `journal`, so that a killed run goes on where
//! it was; [`Semantic::open`] maps them.

use std::path::Path;

use crate::ann::flat::{FlatIndex, FlatWriter};
use crate::ann::{Indexed, Source, VectorIndex, VectorSettings};
use crate::embed::chunk::{Chunk, ChunkRule, Unit};
use crate::embed::{Encoder, EncoderSpec, EncoderTokens, TokenStates};
use crate::error::{Error, Result};
use crate::format::{Array, Kind, Section, checksum};
use crate::store::Store;
use crate::tokenize::Tokenizer;

use super::Documents;
use super::documents::DOCUMENTS_BIN;
use super::journal::{JOURNAL, Journal};

/// The chunk table.
pub const CHUNKS_BIN: &str = "chunks.bin";
/// The embeddings.
pub const VECTORS_BIN: &str = "vectors.bin";
/// The approximate vector index.
pub const ANN_BIN: &str = "ann.bin";
/// What made the other files.
pub const SEMANTIC_JSON: &str = "semantic.json";
/// Chunks encoded together, and the most that a kill loses.
const BATCH: usize = 512;

/// `semantic.json`: how a shard's chunks were cut, encoded and indexed.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SemanticMeta {
    pub chunks: u64,
    pub encoder: EncoderSpec,
    pub chunking: ChunkRule,
    /// What the build was asked for.
    pub requested: VectorSettings,
    /// What this shard has.
    pub vector_index: VectorSettings,
}

impl SemanticMeta {
    /// What the manifest tells of a shard's embeddings.
    pub fn summary(&self) -> serde_json::Value {
        serde_json::json!({"chunks": self.chunks, "vector_index": self.vector_index})
    }

    /// Reads the description in a shard directory, if there is one.
    pub fn read(dir: &Path) -> Result<Option<SemanticMeta>> {
        let path = dir.join(SEMANTIC_JSON);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|e| Error::corrupt(&path, 0, format!("not a description of embeddings: {e}"))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::Io { path, action: "read", source: e }),
        }
    }
}

/// A chunk of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    pub document: u32,
    pub start_byte: u32,
    pub end_byte: u32,
}

/// How far [`write()`] is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Embedding {
    /// Bytes of text encoded so far.
    pub bytes: u64,
    pub chunks: u64,
    /// Chunks of `chunks` that an earlier run had encoded.
    pub resumed: u64,
    /// Whether all is encoded and the vector index is being built.
    pub indexing: bool,
}

/// What embeds a shard's documents.
pub struct Embedder<'a> {
    pub encoder: &'a dyn Encoder,
    /// How documents are cut.
    pub rule: &'a ChunkRule,
    /// The vector index to build.
    pub settings: &'a VectorSettings,
    /// Who keeps the chunks' token states, if somebody does.
    pub states: Option<&'a mut dyn KeepStates>,
}

impl<'a> Embedder<'a> {
    /// One that keeps no token states.
    pub fn new(encoder: &'a dyn Encoder, rule: &'a ChunkRule, settings: &'a VectorSettings) -> Embedder<'a> {
        Embedder { encoder, rule, settings, states: None }
    }
}

/// Takes the token states that the encoder's pass over chunks gives besides their embeddings.
pub trait KeepStates {
    /// `first` is the row of the first chunk; `texts`, `windows` (its encoder tokens) and `states` have an entry a chunk.
    fn keep(&mut self, first: u32, texts: &[String], windows: &[&[u32]], states: &TokenStates) -> Result<()>;
}

/// A number for the chunks of a shard: the same wherever the same documents are cut the same way, whatever the shard is called.
pub fn chunks_key(dir: &Path, encoder: &EncoderSpec, rule: &ChunkRule) -> Result<u64> {
    let documents = Section::open(dir.join(DOCUMENTS_BIN), Kind::DOCUMENTS)?.header().digest();
    let decides =
        serde_json::to_vec(&(documents, &encoder.sha256, rule)).map_err(|e| Error::invalid(format!("chunks: {e}")))?;
    Ok(checksum(&decides))
}

/// Whether a shard directory has complete embeddings.
pub fn is_complete(dir: &Path) -> bool {
    dir.join(CHUNKS_BIN).exists() && !dir.join(JOURNAL).exists()
}

/// Cuts and encodes every document of a shard directory (`tokenizer` is the index's, for chunks of index tokens), builds its vector index and writes all files. What an earlier, killed run
/// with the same encoder and rule had encoded is taken over.
///
/// Memory: one batch of chunks and 12 bytes a chunk; then what the vector index needs (see [`crate::ann::plan`]). Cost: the encoder's, and
/// one pass of tokenisation over what is taken over.
pub fn write(
    store: &dyn Store,
    dir: &Path,
    tokenizer: &Tokenizer,
    embedder: Embedder<'_>,
    progress: &mut dyn FnMut(Embedding),
) -> Result<u64> {
    let Embedder { encoder, rule, settings, mut states } = embedder;
    settings.check()?;
    let documents = Documents::open(dir)?;
    let dim = encoder.spec().dim;
    let decides = serde_json::to_vec(&(encoder.spec(), rule, documents.len(), documents.tokens()))
        .map_err(|e| Error::invalid(format!("embedding: {e}")))?;
    let mut journal = Journal::open(dir, dim, checksum(&decides))?;
    store.sync_dir(dir)?;
    let resumed = journal.rows();
    let mut chunks: Vec<ChunkRef> = Vec::new();
    let (mut windows, mut texts) = (Vec::<Vec<u32>>::new(), Vec::<String>::new());
    let mut bytes = 0;
    let keeps = states.is_some();
    let mut flush = |windows: &mut Vec<Vec<u32>>, texts: &mut Vec<String>| -> Result<()> {
        let slices: Vec<&[u32]> = windows.iter().map(|w| w.as_slice()).collect();
        let embedded = match &mut states {
            Some(keeper) => {
                let (embedded, states) = encoder.embed_with_states(&slices)?;
                keeper.keep(journal.rows() as u32, texts, &slices, &states)?;
                embedded
            }
            None => encoder.embed_ids(&slices)?,
        };
        journal.append(&embedded)?;
        windows.clear();
        texts.clear();
        Ok(())
    };
    for document in 0..documents.len() as u32 {
        let text = documents.text(document)?;
        let (tokens, cut) = cut(tokenizer, encoder, rule, &text)?;
        for chunk in cut {
            chunks.push(ChunkRef { document, start_byte: chunk.start_byte, end_byte: chunk.end_byte });
            if chunks.len() as u64 <= resumed {
                continue;
            }
            windows.push(tokens.ids[chunk.tokens.clone()].to_vec());
            if keeps {
                texts.push(text[chunk.start_byte as usize..chunk.end_byte as usize].to_string());
            }
            if windows.len() == BATCH {
                flush(&mut windows, &mut texts)?;
                let bytes = bytes + chunk.end_byte as u64;
                progress(Embedding { bytes, chunks: chunks.len() as u64, resumed, indexing: false });
            }
        }
        bytes += text.len() as u64;
    }
    if !windows.is_empty() {
        flush(&mut windows, &mut texts)?;
    }
    let done = Embedding { bytes, chunks: chunks.len() as u64, resumed, indexing: true };
    progress(done);
    let mut vectors = FlatWriter::create(&dir.join(VECTORS_BIN), dim, settings.building())?;
    journal.frames(|values| vectors.push(values))?;
    vectors.finish()?;
    let made = (encoder.spec().clone(), *rule, settings.clone());
    finish(store, dir, &chunks, made)?;
    // From here on the shard is embedded.
    store.remove(&dir.join(JOURNAL))?;
    store.sync_dir(dir)?;
    Ok(chunks.len() as u64)
}

/// The encoder's tokens of a text and its chunks.
pub(crate) fn cut(
    tokenizer: &Tokenizer,
    encoder: &dyn Encoder,
    rule: &ChunkRule,
    text: &str,
) -> Result<(EncoderTokens, Vec<Chunk>)> {
    let tokens = encoder.tokenize(text)?;
    let chunks = match rule.unit {
        Unit::Encoder => rule.cut(&tokens, encoder.max_window()),
        Unit::Index => {
            let starts: Vec<u32> = tokenizer.spans(text)?.iter().map(|span| span.start).collect();
            rule.cut_by(&starts, &tokens, encoder.max_window())
        }
    };
    Ok((tokens, chunks))
}

/// Builds the vector index over the finished vectors and writes the chunk table and the description, all synced.
fn finish(
    store: &dyn Store,
    dir: &Path,
    chunks: &[ChunkRef],
    (encoder, chunking, requested): (EncoderSpec, ChunkRule, VectorSettings),
) -> Result<()> {
    let flat = FlatIndex::open(&dir.join(VECTORS_BIN))?;
    if flat.len() != chunks.len() {
        let what = format!("{} vectors for {} chunks: the documents changed", flat.len(), chunks.len());
        return Err(Error::corrupt(dir.join(VECTORS_BIN), 0, what));
    }
    let built = requested.resolve(chunks.len() as u64, flat.dim());
    built.build(&Source::Flat(&flat), &dir.join(ANN_BIN))?;
    if built.store.0.is_none() {
        drop(flat);
        store.remove(&dir.join(VECTORS_BIN))?;
    }
    let mut out = store.section(&dir.join(CHUNKS_BIN), Kind::CHUNKS, 4)?;
    for (name, value) in
        [("document", (|c| c.document) as fn(&ChunkRef) -> u32), ("start", |c| c.start_byte), ("end", |c| c.end_byte)]
    {
        out.start_sub(name)?;
        out.put(&chunks.iter().map(value).collect::<Vec<u32>>())?;
    }
    out.finish()?;
    store.sync_file(&dir.join(CHUNKS_BIN))?;
    let meta = SemanticMeta { chunks: chunks.len() as u64, encoder, chunking, requested, vector_index: built };
    let json = serde_json::to_vec_pretty(&meta).map_err(|e| Error::invalid(format!("embedding: {e}")))?;
    store.write_file(&dir.join(SEMANTIC_JSON), &json)?;
    store.sync_dir(dir)
}

/// Chunks and embeddings of a shard that is made of documents of others, without an encoder: for each shard its embeddings and what has
/// become of each of its documents, `None` for one left out. Returns the description of what was written; nothing is where no shard has
/// embeddings.
///
/// Memory: 12 bytes a chunk; then what the vector index needs. Cost: a copy, and building the vector index.
pub fn copy(
    store: &dyn Store,
    dir: &Path,
    parts: &[(Option<&Semantic>, &[Option<u32>])],
) -> Result<Option<SemanticMeta>> {
    let mut made = None;
    let mut chunks: Vec<ChunkRef> = Vec::new();
    let mut vectors: Option<FlatWriter> = None;
    for (semantic, numbers) in parts {
        let Some(semantic) = semantic else { continue };
        let flat = semantic.vectors.flat()?;
        let Some(meta) = &semantic.meta else {
            let what = "a shard has embeddings but no description of them, as early versions wrote it";
            return Err(Error::invalid_hint(what, "build the index again"));
        };
        made.get_or_insert_with(|| (meta.encoder.clone(), meta.chunking, meta.requested.clone()));
        let out = match &mut vectors {
            Some(out) => out,
            None => vectors.insert(FlatWriter::create(&dir.join(VECTORS_BIN), flat.dim(), flat.element())?),
        };
        for row in 0..flat.len() as u32 {
            let Some(chunk) = semantic.chunk(row) else { continue };
            if let Some(Some(document)) = numbers.get(chunk.document as usize) {
                out.copy(flat, row)?;
                chunks.push(ChunkRef { document: *document, ..chunk });
            }
        }
    }
    let (Some(made), Some(vectors)) = (made, vectors) else { return Ok(None) };
    vectors.finish()?;
    finish(store, dir, &chunks, made)?;
    SemanticMeta::read(dir)
}

/// The opened chunks and embeddings of a shard.
pub struct Semantic {
    document: Array<u32>,
    start: Array<u32>,
    end: Array<u32>,
    /// The embeddings and their vector index.
    pub vectors: Indexed,
    /// `None` in shards of earlier versions.
    pub meta: Option<SemanticMeta>,
}

impl Semantic {
    /// Opens the files, if the shard has them.
    pub fn open(dir: &Path) -> Result<Option<Semantic>> {
        let path = dir.join(CHUNKS_BIN);
        if !is_complete(dir) {
            return Ok(None);
        }
        let section = Section::open(&path, Kind::CHUNKS)?;
        let meta = SemanticMeta::read(dir)?;
        let settings = meta.as_ref().map(|m| &m.vector_index);
        let vectors = Indexed::open(&dir.join(VECTORS_BIN), &dir.join(ANN_BIN), settings)?;
        let opened = Semantic {
            document: section.sub("document")?.array()?,
            start: section.sub("start")?.array()?,
            end: section.sub("end")?.array()?,
            vectors,
            meta,
        };
        let n = opened.document.len();
        if opened.start.len() != n || opened.end.len() != n || opened.vectors.len() != n {
            return Err(Error::corrupt(
                &path,
                0,
                format!(
                    "{n} chunks, {} starts, {} ends, {} vectors",
                    opened.start.len(),
                    opened.end.len(),
                    opened.vectors.len()
                ),
            ));
        }
        Ok(Some(opened))
    }

    /// Number of chunks.
    pub fn len(&self) -> usize {
        self.document.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.document.is_empty()
    }

    /// Chunk `i`.
    pub fn chunk(&self, i: u32) -> Option<ChunkRef> {
        let i = i as usize;
        Some(ChunkRef {
            document: *self.document.get(i)?,
            start_byte: *self.start.get(i)?,
            end_byte: *self.end.get(i)?,
        })
    }

    /// Rows of the chunks of a document.
    pub fn rows_of(&self, document: u32) -> std::ops::Range<u32> {
        let from = self.document.partition_point(|&d| d < document) as u32;
        let to = self.document.partition_point(|&d| d <= document) as u32;
        from..to
    }
}
