//! Building a shard: documents in, a finished directory out.
//!
//! Documents are tokenised in batches ([`tokenize`], in parallel, by the caller) and appended in order, so the shard's bytes
//! depend on the documents and their order alone, not on threads. Of an open vocabulary, a batch carries its own small
//! dictionary, which is merged term by term when the batch is appended; final ids are the terms' ranks in byte order.
//!
//! Memory: [`bytes_per_token`] for each token held, plus the batch.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::documents::DocumentsWriter;
use super::exact::Layout;
use super::{SHARD_JSON, ShardMeta, exact, terms};
use crate::corpus::Document;
use crate::error::{Error, Result};
use crate::format::Pages;
use crate::store::Store;
use crate::suffix::layout::{RUNS_PER_TOKEN, TOP_PER_TOKEN};
use crate::tokenize::{Tokenizer, TokenizerKind, detokenize};

/// Documents with their tokens.
#[derive(Default)]
pub struct Batch {
    pub documents: Vec<Document>,
    /// Tokens of all documents, one after another.
    pub ids: Vec<u32>,
    /// Where each document's tokens end in `ids`.
    pub ends: Vec<usize>,
    /// Open vocabulary: the terms that `ids` number, in order of first use.
    pub terms: Vec<String>,
    /// Some of the documents came as tokens, and their texts were made of them.
    pub detokenized: bool,
}

/// Tokenises documents; those that come as tokens get their text.
pub fn tokenize(tokenizer: &Tokenizer, mut documents: Vec<Document>) -> Result<Batch> {
    let mut batch = Batch { ends: Vec::with_capacity(documents.len()), ..Batch::default() };
    match &tokenizer.kind {
        TokenizerKind::Closed(t) => {
            for d in &mut documents {
                match d.tokens.take() {
                    None => t.encode(&d.text, &mut batch.ids)?,
                    Some(ids) => {
                        d.text = detokenize(&**t, &ids);
                        batch.ids.extend(ids);
                        batch.detokenized = true;
                    }
                }
                batch.ends.push(batch.ids.len());
            }
        }
        TokenizerKind::Open(t) => {
            let mut numbers: HashMap<String, u32> = HashMap::new();
            for d in &documents {
                if d.tokens.is_some() {
                    return Err(Error::invalid_hint(
                        format!("{}: its documents are token ids, and the tokenizer `words` has none", d.path),
                        "pass --tokenizer with the tokenizer that made the ids",
                    ));
                }
                t.terms(&d.text, &mut |term, _| {
                    let id = match numbers.get(term) {
                        Some(&id) => id,
                        None => {
                            let id = numbers.len() as u32;
                            numbers.insert(term.to_string(), id);
                            id
                        }
                    };
                    batch.ids.push(id);
                });
                batch.ends.push(batch.ids.len());
            }
            batch.terms = vec![String::new(); numbers.len()];
            for (term, id) in numbers {
                batch.terms[id as usize] = term;
            }
        }
    }
    batch.documents = documents;
    Ok(batch)
}

/// Tokens held in memory until the shard is sorted.
enum Stream {
    U8(Pages<u8>),
    U16(Pages<u16>),
    U32(Pages<u32>),
}

/// The separator a closed vocabulary gets, and the width of its tokens in bytes.
///
/// `bytes` needs no id of its own: the byte 0xFF is in no UTF-8 text.
fn closed_layout(tokenizer: &Tokenizer, vocab: u32) -> (u32, u8) {
    if tokenizer.spec.kind == "bytes" {
        (255, 1)
    } else if vocab <= u16::MAX as u32 {
        (vocab, 2)
    } else {
        (vocab, 4)
    }
}

/// Peak bytes of memory a token costs while its shard is built: stream, suffix array and, for four-byte tokens, the sorter's copy; for
/// the compact layout also the reversed stream and the transform.
pub fn bytes_per_token(tokenizer: &Tokenizer, layout: Layout) -> u64 {
    if layout == Layout::Compact {
        return match &tokenizer.kind {
            TokenizerKind::Closed(t) => closed_layout(tokenizer, t.vocab()).1 as u64 + 12,
            TokenizerKind::Open(_) => 4 + 12 + 4,
        };
    }
    match &tokenizer.kind {
        TokenizerKind::Closed(t) => match closed_layout(tokenizer, t.vocab()).1 {
            4 => 4 + 4 + 4,
            w => w as u64 + 4,
        },
        // The stream, its copy for the sorter, the suffix array; and the dictionary, at about one new term in 20 tokens.
        TokenizerKind::Open(_) => 4 + 4 + 4 + 4,
    }
}

/// Bytes on disk a token takes: stream, blocks and top of the suffix array; of the compact layout, as English text has been seen to take.
pub fn disk_bytes_per_token(tokenizer: &Tokenizer, tokens: u64, layout: Layout) -> f64 {
    if layout == Layout::Compact {
        return 2.0;
    }
    let pointer = (64 - tokens.saturating_sub(1).leading_zeros()).max(1) as f64 / 8.0;
    let width = match &tokenizer.kind {
        TokenizerKind::Closed(t) => closed_layout(tokenizer, t.vocab()).1,
        TokenizerKind::Open(_) => 4,
    };
    width as f64 + pointer + 1.0 + 8.0 / 64.0 + TOP_PER_TOKEN + RUNS_PER_TOKEN
}

/// A shard being built in a directory.
pub struct ShardBuilder<'s> {
    store: &'s dyn Store,
    dir: PathBuf,
    documents: DocumentsWriter,
    stream: Stream,
    separator: u32,
    /// Open vocabulary: terms by number of first use.
    dictionary: Option<HashMap<String, u32>>,
    text_bytes: u64,
    spec: crate::tokenize::TokenizerSpec,
    layout: Layout,
    detokenized: bool,
}

impl<'s> ShardBuilder<'s> {
    /// Starts a shard in the existing, empty directory `dir`.
    pub fn create(store: &'s dyn Store, dir: &Path, tokenizer: &Tokenizer, layout: Layout) -> Result<ShardBuilder<'s>> {
        let most = crate::suffix::sort::MAX_TOKENS as usize;
        let (stream, separator, dictionary) = match &tokenizer.kind {
            TokenizerKind::Closed(t) => {
                let (separator, width) = closed_layout(tokenizer, t.vocab());
                let stream = match width {
                    1 => Stream::U8(Pages::with_capacity(most)),
                    2 => Stream::U16(Pages::with_capacity(most)),
                    _ => Stream::U32(Pages::with_capacity(most)),
                };
                (stream, separator, None)
            }
            TokenizerKind::Open(_) => (Stream::U32(Pages::with_capacity(most)), u32::MAX, Some(HashMap::new())),
        };
        Ok(ShardBuilder {
            store,
            dir: dir.to_path_buf(),
            documents: DocumentsWriter::create(store, dir)?,
            stream,
            separator,
            dictionary,
            text_bytes: 0,
            spec: tokenizer.spec.clone(),
            layout,
            detokenized: false,
        })
    }

    /// Positions so far, separators included.
    pub fn positions(&self) -> u64 {
        self.documents.tokens()
    }

    /// Documents so far.
    pub fn documents(&self) -> usize {
        self.documents.len()
    }

    /// Appends a batch.
    pub fn append(&mut self, batch: &Batch) -> Result<()> {
        self.detokenized |= batch.detokenized;
        let numbers: Option<Vec<u32>> = self.dictionary.as_mut().map(|dictionary| {
            batch
                .terms
                .iter()
                .map(|term| match dictionary.get(term) {
                    Some(&id) => id,
                    None => {
                        let id = dictionary.len() as u32;
                        dictionary.insert(term.clone(), id);
                        id
                    }
                })
                .collect()
        });
        let mut from = 0;
        for (document, &end) in batch.documents.iter().zip(&batch.ends) {
            let ids = &batch.ids[from..end];
            from = end;
            if let (None, Some(bad)) = (&numbers, ids.iter().find(|&&id| id >= self.separator)) {
                return Err(Error::invalid(format!(
                    "document {}: token id {bad} is outside the vocabulary of {} ids",
                    document.id, self.separator
                )));
            }
            let n = ids.len() + 1;
            let closed = ids.iter().copied().chain([self.separator]);
            match &mut self.stream {
                Stream::U8(s) => s.extend(n, closed.map(|id| id as u8))?,
                Stream::U16(s) => s.extend(n, closed.map(|id| id as u16))?,
                Stream::U32(s) => match &numbers {
                    Some(numbers) => {
                        s.extend(n, ids.iter().map(|&id| numbers[id as usize]).chain([self.separator]))?;
                    }
                    None => s.extend(n, closed)?,
                },
            }
            self.text_bytes += document.text.len() as u64;
            self.documents.append(document, ids.len() as u64 + 1)?;
        }
        Ok(())
    }

    /// Sorts and writes the shard; returns its description. The caller makes it durable and publishes it.
    pub fn finish(self) -> Result<ShardMeta> {
        let ShardBuilder {
            store,
            dir,
            documents,
            stream,
            separator,
            dictionary,
            text_bytes,
            spec,
            layout,
            detokenized,
        } = self;
        let summary = documents.finish()?;
        let (stream, separator, terms) = match (stream, dictionary) {
            (Stream::U32(s), Some(dictionary)) => {
                let (s, separator, terms) = number_by_rank(s, dictionary, store, &dir)?;
                (s, separator, Some(terms))
            }
            (s, _) => (s, separator, None),
        };
        let n = summary.documents;
        let (suffix, width) = match &stream {
            Stream::U8(s) => (exact::write(store, &dir, s, n, separator, layout)?, 1),
            Stream::U16(s) => (exact::write(store, &dir, s, n, separator, layout)?, 2),
            Stream::U32(s) => (exact::write(store, &dir, s, n, separator, layout)?, 4),
        };
        let tokens = suffix.ranks;
        let meta = ShardMeta {
            documents: n,
            tokens,
            text_bytes,
            tokenizer: spec,
            width,
            layout,
            detokenized,
            source: None,
            terms,
            suffix,
        };
        let json = serde_json::to_vec_pretty(&meta).map_err(|e| Error::invalid(format!("shard description: {e}")))?;
        store.write_file(&dir.join(SHARD_JSON), &json)?;
        Ok(meta)
    }
}

/// Replaces numbers of first use by ranks in byte order, writes the dictionary, and narrows the stream where it fits two bytes.
fn number_by_rank(
    mut stream: Pages<u32>,
    dictionary: HashMap<String, u32>,
    store: &dyn Store,
    dir: &Path,
) -> Result<(Stream, u32, u64)> {
    let mut sorted: Vec<(&str, u32)> = dictionary.iter().map(|(t, &n)| (t.as_str(), n)).collect();
    sorted.par_sort_unstable();
    let count = sorted.len() as u32;
    let mut ranks = vec![0u32; sorted.len()];
    for (rank, &(_, number)) in sorted.iter().enumerate() {
        ranks[number as usize] = rank as u32;
    }
    let names: Vec<&str> = sorted.iter().map(|&(t, _)| t).collect();
    terms::write(store, dir, &names)?;
    let rank = |number: u32| ranks.get(number as usize).copied().unwrap_or(count);
    let stream = if count <= u16::MAX as u32 {
        let mut narrow = Pages::with_capacity(stream.len());
        narrow.extend(stream.len(), stream.iter().map(|&n| rank(n) as u16))?;
        Stream::U16(narrow)
    } else {
        stream.par_iter_mut().for_each(|n| *n = rank(*n));
        Stream::U32(stream)
    };
    Ok((stream, count, count as u64))
}
