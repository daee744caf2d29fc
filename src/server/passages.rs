//! Documents as token windows, for the interfaces that show them so: infini-gram's and OLMoTrace's.
//!
//! Text is always the original characters of the tokens' byte ranges, gaps between tokens included, never detokenised ids.
//! Cost: reading a document and tokenising it once.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::index::{DocumentRef, Snapshot};
use crate::query::Ngram;
use crate::shard::StoredDocument;
use crate::suffix::Token;
use crate::tokenize::{ByteSpan, TokenizerKind, detokenized_spans};
use crate::with_view;

/// A document with its tokens.
pub struct Passages {
    /// Its number in the whole index, shards one after another.
    pub number: u64,
    pub stored: StoredDocument,
    /// Tokens as its shard numbers them.
    ids: Vec<u32>,
    spans: Vec<ByteSpan>,
    closed: bool,
}

/// Text of a window, and the clause it matches.
pub type Piece<'a> = (&'a str, Option<usize>);

/// The number of a document in the whole index.
pub fn number(snapshot: &Snapshot, at: DocumentRef) -> u64 {
    let before: u64 = snapshot.shards[..at.shard as usize].iter().map(|s| s.documents.len() as u64).sum();
    before + u64::from(at.document)
}

impl Passages {
    /// Reads a document that was not removed.
    pub fn read(snapshot: &Snapshot, at: DocumentRef) -> Result<Passages> {
        let stored = snapshot.document(at)?;
        let shard = &snapshot.shards[at.shard as usize];
        let range = shard.tokens_of(at.document);
        let ids: Vec<u32> = with_view!(shard.exact, v => {
            v.read(range).iter().map(|t| t.id()).collect()
        });
        let spans = match &snapshot.tokenizer.kind {
            TokenizerKind::Closed(t) if shard.meta.detokenized => detokenized_spans(&**t, &ids, &stored.text),
            _ => snapshot.tokenize(&stored.text)?.spans,
        };
        if ids.len() != spans.len() {
            return Err(Error::corrupt(
                &shard.dir,
                0,
                format!("document {} has {} tokens, its text {}", at.document, ids.len(), spans.len()),
            ));
        }
        let closed = matches!(snapshot.tokenizer.kind, TokenizerKind::Closed(_));
        Ok(Passages { number: number(snapshot, at), stored, ids, spans, closed })
    }

    /// Tokens of the document.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Ids of a token range; none where the vocabulary is open, since each shard numbers its own terms.
    pub fn token_ids(&self, range: Range<usize>) -> &[u32] {
        if self.closed { &self.ids[range] } else { &[] }
    }

    /// The original text of a token range.
    pub fn text(&self, range: Range<usize>) -> &str {
        self.slice(self.bytes(&range))
    }

    fn bytes(&self, range: &Range<usize>) -> Range<usize> {
        match (self.spans.get(range.start), range.end.checked_sub(1).and_then(|i| self.spans.get(i))) {
            (Some(first), Some(last)) if range.start < range.end => first.start as usize..last.end as usize,
            _ => 0..0,
        }
    }

    /// Tokens that share a character have overlapping byte ranges.
    fn slice(&self, bytes: Range<usize>) -> &str {
        self.stored.text.get(bytes.start..bytes.end.max(bytes.start)).unwrap_or_default()
    }

    /// A window cut where the clauses' n-grams occur in it: earlier clauses first, each from left to right.
    pub fn pieces(
        &self,
        snapshot: &Snapshot,
        shard: u32,
        window: Range<usize>,
        clauses: &[Vec<Ngram>],
    ) -> Vec<Piece<'_>> {
        let shown = &self.ids[window.clone()];
        // For each token the clause it was taken for, and where that occurrence starts.
        let mut taken: Vec<Option<(usize, usize)>> = vec![None; shown.len()];
        let shard = &snapshot.shards[shard as usize];
        for (clause, ngrams) in clauses.iter().enumerate() {
            for needle in ngrams.iter().map(|n| n.resolve::<u32>(shard)).filter(|n| !n.is_empty()) {
                let mut at = 0;
                while at + needle.len() <= shown.len() {
                    let here = at..at + needle.len();
                    if shown[here.clone()] == needle[..] && taken[here.clone()].iter().all(Option::is_none) {
                        taken[here].fill(Some((clause, at)));
                        at += needle.len();
                    } else {
                        at += 1;
                    }
                }
            }
        }
        let mut pieces: Vec<Piece> = Vec::new();
        let all = self.bytes(&window);
        let mut end = all.start;
        let mut i = 0;
        while i < taken.len() {
            let Some((clause, start)) = taken[i] else {
                i += 1;
                continue;
            };
            let next = taken[i..].iter().position(|t| *t != Some((clause, start))).map_or(taken.len(), |n| i + n);
            let match_bytes = self.bytes(&(window.start + i..window.start + next));
            if match_bytes.start > end {
                pieces.push((self.slice(end..match_bytes.start), None));
            }
            pieces.push((self.slice(match_bytes.start.max(end)..match_bytes.end), Some(clause)));
            end = match_bytes.end.max(end);
            i = next;
        }
        if all.end > end {
            pieces.push((self.slice(end..all.end), None));
        }
        pieces
    }
}
