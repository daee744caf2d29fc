//! The semantic part of a shard: its chunks and their embeddings. `chunks.bin`, `vectors.bin`.
//!
//! Chunk `i` is bytes `start[i]..end[i]` of document `document[i]`, in document order; row `i` of the `flat` vector index is its
//! embedding. Written after the shard's documents, from them; [`Semantic::open`] maps both files.

use std::path::Path;

use crate::ann::element::Element;
use crate::ann::flat::{FlatIndex, FlatWriter};
use crate::embed::Encoder;
use crate::embed::chunk::ChunkRule;
use crate::error::{Error, Result};
use crate::format::{Array, Kind, Section};
use crate::store::Store;

use super::Documents;

/// The chunk table.
pub const CHUNKS_BIN: &str = "chunks.bin";
/// The embeddings.
pub const VECTORS_BIN: &str = "vectors.bin";
/// Chunks encoded together.
const BATCH: usize = 512;

/// A chunk of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    pub document: u32,
    pub start_byte: u32,
    pub end_byte: u32,
}

/// Cuts and encodes every document of a shard directory and writes both files. `progress` gets the documents and chunks done.
///
/// Memory: one batch of chunks. Cost: the encoder's; nothing else comes near it.
pub fn write(
    store: &dyn Store,
    dir: &Path,
    encoder: &dyn Encoder,
    rule: &ChunkRule,
    element: Element,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<u64> {
    let documents = Documents::open(dir)?;
    let mut vectors = FlatWriter::create(&dir.join(VECTORS_BIN), encoder.spec().dim, element)?;
    let mut chunks: Vec<ChunkRef> = Vec::new();
    let mut windows: Vec<Vec<u32>> = Vec::new();
    let mut flush = |windows: &mut Vec<Vec<u32>>| -> Result<()> {
        let slices: Vec<&[u32]> = windows.iter().map(|w| w.as_slice()).collect();
        vectors.push(&encoder.embed_ids(&slices)?)?;
        windows.clear();
        Ok(())
    };
    for document in 0..documents.len() as u32 {
        let text = documents.text(document)?;
        let tokens = encoder.tokenize(&text)?;
        for chunk in rule.cut(&tokens, encoder.max_window()) {
            windows.push(tokens.ids[chunk.tokens.clone()].to_vec());
            chunks.push(ChunkRef { document, start_byte: chunk.start_byte, end_byte: chunk.end_byte });
            if windows.len() == BATCH {
                flush(&mut windows)?;
                progress(document as u64, chunks.len() as u64);
            }
        }
    }
    if !windows.is_empty() {
        flush(&mut windows)?;
    }
    vectors.finish()?;
    let mut out = store.section(&dir.join(CHUNKS_BIN), Kind::CHUNKS, 4)?;
    for (name, value) in
        [("document", (|c| c.document) as fn(&ChunkRef) -> u32), ("start", |c| c.start_byte), ("end", |c| c.end_byte)]
    {
        out.start_sub(name)?;
        out.put(&chunks.iter().map(value).collect::<Vec<u32>>())?;
    }
    out.finish()?;
    progress(documents.len() as u64, chunks.len() as u64);
    Ok(chunks.len() as u64)
}

/// The opened chunks and embeddings of a shard.
pub struct Semantic {
    document: Array<u32>,
    start: Array<u32>,
    end: Array<u32>,
    pub vectors: FlatIndex,
}

impl Semantic {
    /// Opens both files, if the shard has them.
    pub fn open(dir: &Path) -> Result<Option<Semantic>> {
        let path = dir.join(CHUNKS_BIN);
        if !path.exists() {
            return Ok(None);
        }
        let section = Section::open(&path, Kind::CHUNKS)?;
        let vectors = FlatIndex::open(&dir.join(VECTORS_BIN))?;
        let opened = Semantic {
            document: section.sub("document")?.array()?,
            start: section.sub("start")?.array()?,
            end: section.sub("end")?.array()?,
            vectors,
        };
        use crate::ann::VectorIndex;
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
}
