//! Deep verification: whether the parts of an index agree with one another, beyond what checksums can see.
//!
//! Checksums tell whether bytes are those that were written. This tells whether they are right: the suffix array follows from the
//! token stream, documents and token stream divide alike, a sample of documents tokenises to their stretch of it, chunks lie in their
//! documents, a sample of vectors is what the encoder makes of its chunk, and removals subtract exactly the documents they hide.

use std::path::{Path, PathBuf};

use rand::seq::index::sample;
use rand::{Rng, SeedableRng};

use super::{PartEntry, Removal, Snapshot};
use crate::embed::Encoder;
use crate::error::{Error, Result};
use crate::shard::build::{Batch, tokenize};
use crate::shard::semantic::{CHUNKS_BIN, SemanticMeta, VECTORS_BIN, cut};
use crate::shard::terms::TERMS_BIN;
use crate::shard::{Layout, SHARD_JSON, Semantic, Shard, copy, documents, exact, removed};
use crate::with_view;

/// What to check, and how much of what is sampled.
pub struct DeepOptions<'a> {
    /// The encoder of the index; vectors are not compared without.
    pub encoder: Option<&'a dyn Encoder>,
    /// Documents of each shard that are tokenised and embedded again.
    pub sample: usize,
    /// Decides the sample.
    pub seed: u64,
}

/// What a deep verification did and found.
#[derive(Debug, Default)]
pub struct Deep {
    /// Every contradiction, by file.
    pub faults: Vec<Error>,
    pub shards: u64,
    /// Tokens whose order was checked.
    pub tokens: u64,
    /// Documents read whole.
    pub documents: u64,
    /// Documents tokenised again.
    pub tokenized: u64,
    /// Chunks embedded again.
    pub embedded: u64,
    /// The least cosine between a stored vector and the one made again; 1 if none was.
    pub least_similarity: f64,
}

/// Least cosine of a stored vector and the same chunk's made again: other kernels and batches round differently, int8 stores coarsely.
const SAME: f64 = 0.995;

impl Snapshot {
    /// Checks every shard and removal. `progress` is told each part before it is checked.
    ///
    /// Cost: reads everything, and sorting's memory: 8 bytes a token of one shard at a time.
    pub fn verify_deep(&self, options: &DeepOptions, progress: &mut dyn FnMut(&str)) -> Deep {
        let mut deep = Deep { least_similarity: 1.0, ..Deep::default() };
        for (part, shard) in self.manifest.shards.iter().zip(&self.shards) {
            progress(&part.id);
            deep.shard(self, part, shard, options);
        }
        for (part, removal) in self.manifest.removed.iter().zip(&self.removals) {
            progress(&part.id);
            deep.exact(part, &removal.shard);
            let path = removal.shard.dir.join(removed::REMOVED_BIN);
            if let Err(e) = removal_agrees(self, removal, &path) {
                deep.faults.push(e);
            }
        }
        deep
    }
}

impl Deep {
    fn check(&mut self, path: PathBuf, checked: Result<()>) {
        match checked {
            Ok(()) => {}
            Err(Error::Invalid { what, .. }) => self.faults.push(Error::corrupt(path, 0, what)),
            Err(error) => self.faults.push(error),
        }
    }

    /// Stream, suffix array, dictionary and numbers of a shard or removal.
    fn exact(&mut self, part: &PartEntry, shard: &Shard) {
        let dir = &shard.dir;
        let (told, meta) = ((part.documents, part.tokens), &shard.meta);
        if told != (meta.documents, meta.tokens) {
            let what = format!(
                "it tells {} documents and {} tokens, the manifest {} and {}",
                meta.documents, meta.tokens, told.0, told.1
            );
            self.faults.push(Error::corrupt(dir.join(SHARD_JSON), 0, what));
        }
        self.check(dir.join(documents::DOCUMENTS_IDX), shard.documents.verify());
        self.documents += shard.documents.len() as u64;
        self.check(dir.join(exact::TOKENS_BIN), stream_agrees(shard));
        let file = match meta.layout {
            Layout::Fast => exact::SUFFIX_BIN,
            Layout::Compact => exact::COMPACT_BIN,
            Layout::Infinigram => SHARD_JSON,
        };
        self.check(dir.join(file), shard.exact.view().verify(&meta.suffix));
        self.tokens += meta.suffix.ranks;
        if let Some(terms) = &shard.terms {
            let rising = |id: u32| matches!((terms.term(id - 1), terms.term(id)), (Some(a), Some(b)) if a < b);
            if let Some(id) = (1..terms.len() as u32).find(|&id| !rising(id)) {
                let what = format!("term {id} is damaged or does not come after the one before");
                self.faults.push(Error::corrupt(dir.join(TERMS_BIN), 0, what));
            } else if let Some(id) =
                (0..terms.len() as u32).find(|&id| terms.term(id).and_then(|t| terms.id(t)) != Some(id))
            {
                self.faults.push(Error::corrupt(dir.join(TERMS_BIN), 0, format!("term {id} is not found by its text")));
            }
        }
    }

    fn shard(&mut self, snapshot: &Snapshot, part: &PartEntry, shard: &Shard, options: &DeepOptions) {
        self.shards += 1;
        self.exact(part, shard);
        let count = shard.documents.len();
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(options.seed ^ random_of(&part.id));
        let chosen: Vec<u32> =
            sample(&mut random, count, options.sample.min(count)).into_iter().map(|i| i as u32).collect();
        for &document in &chosen {
            let checked = tokens_agree(snapshot, shard, document);
            self.check(shard.dir.join(exact::TOKENS_BIN), checked);
            self.tokenized += 1;
        }
        if let Some(semantic) = &shard.semantic {
            self.check(shard.dir.join(CHUNKS_BIN), chunks_agree(shard, semantic));
            if let (Some(encoder), Some(meta)) = (options.encoder, &semantic.meta) {
                for &document in &chosen {
                    let row = random.random_range(0..u32::MAX);
                    let checked = self.vectors_agree((snapshot, shard), (semantic, meta), encoder, document, row);
                    self.check(shard.dir.join(VECTORS_BIN), checked);
                }
            }
        }
    }

    /// Cuts a document again, and embeds one of its chunks again.
    fn vectors_agree(
        &mut self,
        (snapshot, shard): (&Snapshot, &Shard),
        (semantic, meta): (&Semantic, &SemanticMeta),
        encoder: &dyn Encoder,
        document: u32,
        random: u32,
    ) -> Result<()> {
        let rows = semantic.rows_of(document);
        if rows.is_empty() {
            return Ok(());
        }
        let text = shard.documents.text(document)?;
        let (tokens, chunks) = cut(&snapshot.tokenizer, encoder, &meta.chunking, &text)?;
        let same = chunks.len() == rows.len()
            && rows.clone().zip(&chunks).all(|(row, chunk)| {
                semantic.chunk(row).is_some_and(|c| (c.start_byte, c.end_byte) == (chunk.start_byte, chunk.end_byte))
            });
        if !same {
            let what = format!(
                "document {document} is cut into {} chunks, which are not the {} stored",
                chunks.len(),
                rows.len()
            );
            return Err(Error::corrupt(shard.dir.join(CHUNKS_BIN), 0, what));
        }
        let at = random as usize % chunks.len();
        let made = encoder.embed_ids(&[&tokens.ids[chunks[at].tokens.clone()]])?;
        let stored = semantic.vectors.flat()?.vector(rows.start + at as u32).unwrap_or_default();
        let cosine = cosine(&made, &stored);
        self.embedded += 1;
        self.least_similarity = self.least_similarity.min(cosine);
        if cosine < SAME {
            let row = rows.start as usize + at;
            return Err(Error::invalid(format!(
                "row {row} (chunk {at} of document {document}) has a cosine of {cosine:.4} with what the encoder makes of its text"
            )));
        }
        Ok(())
    }
}

fn random_of(id: &str) -> u64 {
    crate::format::checksum(id.as_bytes())
}

/// Cosine of two vectors; 1 for two zero vectors.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    match (norms == 0.0, a.len() == b.len()) {
        (true, true) => f64::from(u8::from(dot(a, a) == dot(b, b))),
        (_, false) => 0.0,
        (false, true) => dot(a, b) / norms,
    }
}

/// Every document's stretch of the stream is tokens and then one separator.
fn stream_agrees(shard: &Shard) -> Result<()> {
    use crate::suffix::Token;
    let separator = shard.separator();
    for document in 0..shard.documents.len() as u32 {
        let bad = |what: String| Err(Error::invalid(format!("document {document}: {what}")));
        let Some(range) = shard.documents.token_range(document) else {
            return bad("its token range is impossible".into());
        };
        let wrong = with_view!(shard.exact, v => {
            let tokens = v.read(range.start as usize..range.end as usize);
            match tokens.split_last() {
                Some((last, rest)) => (last.id() != separator).then_some(rest.len())
                    .or_else(|| rest.iter().position(|t| t.id() >= separator)),
                None => Some(0),
            }
        });
        if let Some(at) = wrong {
            return bad(format!(
                "token {at} (position {}) is not what ends or makes up a document",
                range.start + at as u64
            ));
        }
    }
    Ok(())
}

/// Tokens as text where the vocabulary is open, as numbers where it is closed.
fn names(batch: &Batch) -> Vec<String> {
    let name = |&id: &u32| batch.terms.get(id as usize).cloned().unwrap_or_else(|| id.to_string());
    batch.ids.iter().map(name).collect()
}

/// The document tokenises to its stretch of the stream.
fn tokens_agree(snapshot: &Snapshot, shard: &Shard, document: u32) -> Result<()> {
    let stored = names(&copy::batch(shard, &[document], false)?);
    let made = names(&tokenize(&snapshot.tokenizer, vec![shard.documents.get(document)?])?);
    match stored.iter().zip(&made).position(|(a, b)| a != b) {
        None if stored.len() == made.len() => Ok(()),
        at => Err(Error::invalid(format!(
            "document {document}: {} tokens, tokenised again {}; they differ from token {}",
            stored.len(),
            made.len(),
            at.unwrap_or(stored.len().min(made.len()))
        ))),
    }
}

/// Chunks are in order and lie in the texts of their documents, between characters.
fn chunks_agree(shard: &Shard, semantic: &Semantic) -> Result<()> {
    let mut text: Option<(u32, String)> = None;
    for i in 0..semantic.len() as u32 {
        let bad = |what: &str| Err(Error::invalid(format!("chunk {i}: {what}")));
        let Some(chunk) = semantic.chunk(i) else { return bad("it is missing") };
        if text.as_ref().is_none_or(|(document, _)| *document != chunk.document) {
            if text.as_ref().is_some_and(|(document, _)| *document > chunk.document) {
                return bad("its document comes before the one of the chunk before");
            }
            if chunk.document as usize >= shard.documents.len() {
                return bad("its document does not exist");
            }
            text = Some((chunk.document, shard.documents.text(chunk.document)?));
        }
        let inside = text.as_ref().and_then(|(_, t)| t.get(chunk.start_byte as usize..chunk.end_byte as usize));
        if inside.is_none_or(str::is_empty) {
            return bad("its bytes are no part of the document's text");
        }
    }
    Ok(())
}

/// The tokens a removal subtracts are those of the documents it hides.
fn removal_agrees(snapshot: &Snapshot, removal: &Removal, path: &Path) -> Result<()> {
    let mut number = 0;
    for (n, shard) in snapshot.shards.iter().enumerate() {
        for document in removal.documents.documents(n) {
            let bad = |what: &str| Err(Error::corrupt(path, 0, format!("document {document} of shard {n}: {what}")));
            if document as usize >= shard.documents.len() || number as usize >= removal.shard.documents.len() {
                return bad("it does not exist");
            }
            let hidden = names(&copy::batch(shard, &[document], false)?);
            if hidden != names(&copy::batch(&removal.shard, &[number], false)?) {
                return bad("its tokens are not those that are subtracted");
            }
            number += 1;
        }
    }
    match number as usize == removal.shard.documents.len() {
        true => Ok(()),
        false => {
            let what = format!("it hides {number} documents and subtracts {}", removal.shard.documents.len());
            Err(Error::corrupt(path, 0, what))
        }
    }
}
