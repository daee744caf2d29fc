//! Where an n-gram occurs: documents, token and byte offsets, and the original text around each occurrence.

use std::ops::Range;

use super::Ngram;
use crate::error::Result;
use crate::index::{DocumentRef, Snapshot};
use crate::shard::StoredDocument;
use crate::suffix::Token;
use crate::tokenize::{TokenizerKind, ceil_char_boundary, floor_char_boundary};
use crate::with_view;

/// Which occurrences to return, and how much text around them.
#[derive(Debug, Clone, PartialEq)]
pub struct FindOptions {
    /// Documents to skip.
    pub offset: usize,
    /// Documents to return.
    pub limit: usize,
    /// Occurrences to show in a document.
    pub per_document: usize,
    /// Characters of original text before and after an occurrence.
    pub context: usize,
}

impl Default for FindOptions {
    fn default() -> Self {
        FindOptions { offset: 0, limit: 10, per_document: 3, context: 80 }
    }
}

/// An occurrence: where in the document's text, and the text around it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Occurrence {
    /// Position of the first token in the document.
    pub token: u64,
    /// Bytes of the occurrence in the document's text.
    pub start_byte: usize,
    pub end_byte: usize,
    pub before: String,
    pub text: String,
    pub after: String,
}

/// A document with the n-gram in it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct FoundDocument {
    #[serde(flatten)]
    pub document: DocumentRef,
    pub id: String,
    pub path: String,
    pub record: u64,
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Occurrences in this document; the first of them are in `occurrences`.
    pub count: u64,
    pub occurrences: Vec<Occurrence>,
}

/// A page of documents.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Found {
    /// Occurrences in all documents.
    pub count: u64,
    /// Documents with at least one.
    pub documents: u64,
    /// Always false: both numbers are exact.
    pub approximate: bool,
    /// This page, in shard and document order.
    pub found: Vec<FoundDocument>,
    /// `offset` of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_offset: Option<usize>,
}

/// Occurrences in one document: their token ranges in it, sorted.
pub(super) struct Group {
    pub document: DocumentRef,
    pub ranges: Vec<Range<usize>>,
}

/// All occurrences of an n-gram or expression: counted, and read page by page or one document after another.
pub struct Located<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) groups: Vec<Group>,
}

impl Located<'_> {
    /// Occurrences in all documents.
    pub fn count(&self) -> u64 {
        self.groups.iter().map(|g| g.ranges.len() as u64).sum()
    }

    /// Documents with at least one.
    pub fn documents(&self) -> usize {
        self.groups.len()
    }

    /// Document `number` of them in shard and document order, with context. `None` beyond the last.
    ///
    /// Cost: reading the text around the occurrences shown.
    pub fn document(&self, number: usize, options: &FindOptions) -> Option<Result<FoundDocument>> {
        self.groups.get(number).map(|g| self.snapshot.found(g, options))
    }

    /// A page of documents with their occurrences.
    pub fn page(&self, options: &FindOptions) -> Result<Found> {
        let page = self.groups.iter().skip(options.offset).take(options.limit);
        let found = page.map(|g| self.snapshot.found(g, options)).collect::<Result<Vec<_>>>()?;
        let end = options.offset.saturating_add(found.len());
        Ok(Found {
            count: self.count(),
            documents: self.documents() as u64,
            approximate: false,
            found,
            next_offset: (end < self.groups.len()).then_some(end),
        })
    }
}

impl Snapshot {
    /// Occurrences of `ngram`, grouped by document, in shard, document and position order; removed documents left out.
    ///
    /// Cost: one read of the suffix array an occurrence, and a sort.
    fn groups(&self, ngram: &Ngram) -> Vec<Group> {
        let mut out: Vec<Group> = Vec::new();
        if ngram.is_empty() {
            return out;
        }
        for (number, shard) in self.shards.iter().enumerate() {
            let at = with_view!(shard.exact, v => {
                v.interval(&ngram.resolve(shard)).map(|rank| v.place(rank, ngram.len()) as u64).collect()
            });
            self.group(number, at, ngram.len(), &mut out);
        }
        out
    }

    /// Groups the positions in shard `number`'s stream at which `tokens` tokens occur by document, as [`groups`](Self::groups) does.
    pub(super) fn group(&self, number: usize, mut positions: Vec<u64>, tokens: usize, out: &mut Vec<Group>) {
        let documents = &self.shards[number].documents;
        positions.sort_unstable();
        let (mut start, mut end) = (0, 0);
        let mut hidden = false;
        for p in positions {
            if p >= end {
                let Some(document) = documents.document_at(p) else { continue };
                let range = documents.token_range(document).unwrap_or(p..p + 1);
                (start, end) = (range.start, range.end);
                let document = DocumentRef { shard: number as u32, document };
                hidden = self.is_removed(document);
                if !hidden {
                    out.push(Group { document, ranges: Vec::new() });
                }
            }
            if let (false, Some(group)) = (hidden, out.last_mut()) {
                let at = (p - start) as usize;
                group.ranges.push(at..at + tokens);
            }
        }
    }

    /// In how many documents `ngram` occurs, exactly. Cost as of [`find`](Self::find) without its page: a read an occurrence.
    pub fn document_frequency(&self, ngram: &Ngram) -> u64 {
        self.groups(ngram).len() as u64
    }

    /// All documents in which `ngram` occurs, in shard and document order.
    pub fn documents_with(&self, ngram: &Ngram) -> Vec<DocumentRef> {
        self.groups(ngram).into_iter().map(|g| g.document).collect()
    }

    /// The documents in which `ngram` occurs, a page of them with context.
    pub fn find(&self, ngram: &Ngram, options: &FindOptions) -> Result<Found> {
        self.locate(ngram).page(options)
    }

    /// Every occurrence of `ngram`, by document, before any text is read.
    ///
    /// Cost: one read of the suffix array an occurrence, and a sort; memory of 16 bytes an occurrence.
    pub fn locate(&self, ngram: &Ngram) -> Located<'_> {
        Located { snapshot: self, groups: self.groups(ngram) }
    }

    /// A document with its occurrences.
    ///
    /// Cost: where tokens tile the text, adding up the lengths of those before the occurrence and reading the text around it;
    /// otherwise reading and tokenising the whole text.
    pub(super) fn found(&self, group: &Group, options: &FindOptions) -> Result<FoundDocument> {
        let shown = &group.ranges[..group.ranges.len().min(options.per_document)];
        let (stored, occurrences) = self.occurrences(group.document, shown, options.context)?;
        Ok(FoundDocument {
            document: group.document,
            id: stored.id,
            path: stored.path,
            record: stored.record,
            metadata: stored.metadata,
            count: group.ranges.len() as u64,
            occurrences,
        })
    }

    /// A document (with or without its text) and the text at token ranges of it, which are sorted by start.
    ///
    /// Cost: as [`found`](Self::found), once for all ranges.
    pub(super) fn occurrences(
        &self,
        document: DocumentRef,
        shown: &[Range<usize>],
        characters: usize,
    ) -> Result<(StoredDocument, Vec<Occurrence>)> {
        let documents = &self.shards[document.shard as usize].documents;
        Ok(match self.tiled_ranges(document, shown)? {
            Some(bytes) => {
                let around = |(range, bytes): (&Range<usize>, Range<usize>)| {
                    // A character has at most four bytes.
                    let margin = characters.saturating_mul(4);
                    let length = documents.text_len(document.document)?;
                    let wide = bytes.start.saturating_sub(margin)..bytes.end.saturating_add(margin).min(length);
                    let (text, from) = documents.text_range(document.document, wide)?;
                    // A token may be a part of a character: whole characters are shown.
                    let bytes = floor_char_boundary(&text, bytes.start - from.start)
                        ..ceil_char_boundary(&text, bytes.end - from.start);
                    Ok(occurrence(&text, from.start, range.start, bytes, characters))
                };
                let occurrences = shown.iter().zip(bytes).map(around).collect::<Result<Vec<_>>>()?;
                (documents.get_without_text(document.document)?, occurrences)
            }
            None => {
                let stored = documents.get(document.document)?;
                let bytes = self.byte_ranges(&stored.text, shown)?;
                let occurrences = shown
                    .iter()
                    .zip(bytes)
                    .map(|(range, bytes)| occurrence(&stored.text, 0, range.start, bytes, characters))
                    .collect();
                (stored, occurrences)
            }
        })
    }

    /// The bytes of token ranges (by start) of a document, from the lengths of its tokens; `None` if they do not tile the text.
    fn tiled_ranges(&self, document: DocumentRef, ranges: &[Range<usize>]) -> Result<Option<Vec<Range<usize>>>> {
        let TokenizerKind::Closed(tokenizer) = &self.tokenizer.kind else { return Ok(None) };
        let shard = &self.shards[document.shard as usize];
        let ends = match (tokenizer.text_ends(), shard.meta.detokenized) {
            (Some(ends), _) => ends,
            (None, true) => &[],
            (None, false) => return Ok(None),
        };
        let tokens = shard.documents.token_range(document.document).unwrap_or(0..0);
        let (mut token, mut byte) = (0, 0);
        let mut out = Vec::with_capacity(ranges.len());
        with_view!(shard.exact, v => {
            // No further than the last occurrence: a layout may have to decode what it reads.
            let reach = ranges.iter().map(|r| r.end as u64).max().unwrap_or(0);
            let stream = v.read(tokens.start as usize..(tokens.start + reach).min(tokens.end) as usize);
            let bytes = |id: u32| -> Option<usize> { match shard.meta.detokenized {
                // The text was made of the tokens, whatever the tokenizer: unknown ones have no part in it.
                true => Some(tokenizer.token_bytes(id).map_or(0, |bytes| bytes.len())),
                false => {
                    let start = id.checked_sub(1).map_or(Some(0), |before| ends.get(before as usize).copied())?;
                    // No bytes: an id the vocabulary does not have.
                    ends.get(id as usize)?.checked_sub(start).filter(|&n| n > 0).map(|n| n as usize)
                }
            }};
            let length = |tokens: Range<usize>| -> Option<usize> {
                stream.get(tokens)?.iter().map(|t| bytes(t.id())).sum()
            };
            for range in ranges {
                let Some(before) = length(token..range.start) else { return Ok(None) };
                let Some(inside) = length(range.clone()) else { return Ok(None) };
                (token, byte) = (range.start, byte + before);
                out.push(byte..byte + inside);
            }
        });
        let end = shard.documents.text_len(document.document)?;
        Ok(out.iter().all(|r| r.end <= end).then_some(out))
    }

    /// The original bytes of token ranges of a document's text. Cost: tokenises the text once.
    pub fn byte_ranges(&self, text: &str, ranges: &[Range<usize>]) -> Result<Vec<Range<usize>>> {
        let spans = self.tokenizer.spans(text)?;
        Ok(ranges
            .iter()
            .map(|r| {
                let start = spans.get(r.start).map_or(text.len(), |s| s.start as usize);
                let end = r.end.checked_sub(1).and_then(|last| spans.get(last)).map_or(start, |s| s.end as usize);
                start..end.max(start)
            })
            .collect())
    }
}

/// The occurrence at `bytes` of a part of a text that starts at byte `from` of it.
fn occurrence(text: &str, from: usize, token: usize, bytes: Range<usize>, characters: usize) -> Occurrence {
    let (before, after) = context(text, &bytes, characters);
    Occurrence {
        token: token as u64,
        before: text[before].to_string(),
        text: text[bytes.clone()].to_string(),
        after: text[after].to_string(),
        start_byte: from + bytes.start,
        end_byte: from + bytes.end,
    }
}

/// Up to `n` characters before and after `bytes`.
pub fn context(text: &str, bytes: &Range<usize>, n: usize) -> (Range<usize>, Range<usize>) {
    let start =
        if n == 0 { bytes.start } else { text[..bytes.start].char_indices().rev().nth(n - 1).map_or(0, |(i, _)| i) };
    let end = text[bytes.end..].char_indices().nth(n).map_or(text.len(), |(i, _)| bytes.end + i);
    (start..bytes.start, bytes.end..end)
}
