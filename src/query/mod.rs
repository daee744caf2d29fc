//! Exact queries on a [`Snapshot`]: counts, occurrences, boolean combinations, next tokens, traces, and what follows from them.
//!
//! - [`batch`]: every kind of query for many at once.
//! - [`count`]: how often n-grams occur, single and batched.
//! - [`find`]: where, with the original text around it.
//! - [`boolean`]: AND and OR of n-grams, in a document or a window.
//! - [`cooccur`]: how often the phrases of a pair stand together.
//! - [`hunt`]: all documents with a trigger, and the bursty n-grams around it.
//! - [`next`]: n-gram and ∞-gram next-token distributions.
//! - [`trace`]: longest matches and maximal spans of a whole text.
//! - [`neighbors`]: the semantically nearest chunks, of the documents that a [`filter`] admits.
//! - [`rank`]: all documents by similarity to a benchmark's items.
//! - [`recall`]: what an approximate search for them misses, measured.
//! - [`metrics`]: coverage, n-novelty and creativity index of a trace.
//!
//! Every answer is exact: it equals a scan of the documents that are not removed. Shards answer one by one and counts add up; removed
//! text is an index of its own whose counts are subtracted.

pub mod batch;
pub mod boolean;
pub mod cooccur;
pub mod count;
pub mod filter;
pub mod find;
pub mod hunt;
pub mod metrics;
pub mod neighbors;
pub mod next;
pub mod rank;
pub mod recall;
pub mod trace;

use crate::error::{Error, Result};
use crate::index::Snapshot;
use crate::shard::Shard;
use crate::suffix::Token;
use crate::tokenize::{ByteSpan, TokenizerKind};

/// A token sequence to look for.
///
/// Of a closed vocabulary, ids; of an open one, terms, which each shard numbers for itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ngram {
    Ids(Vec<u32>),
    Terms(Vec<String>),
}

impl Ngram {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        match self {
            Ngram::Ids(ids) => ids.len(),
            Ngram::Terms(terms) => terms.len(),
        }
    }

    /// Whether it has no tokens. The empty n-gram occurs at every token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens `range` of it.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Ngram {
        match self {
            Ngram::Ids(ids) => Ngram::Ids(ids[range].to_vec()),
            Ngram::Terms(terms) => Ngram::Terms(terms[range].to_vec()),
        }
    }

    /// The tokens as `shard` numbers them, an unknown term as the separator (which matches nothing).
    pub(crate) fn resolve<T: Token>(&self, shard: &Shard) -> Vec<T> {
        let mut out = Vec::with_capacity(self.len());
        self.resolve_into(shard, &mut out);
        out
    }

    /// Runs `with` on what [`resolve`](Self::resolve) gives, without an allocation where it is short.
    #[inline]
    pub(crate) fn resolved<T: Token, R>(&self, shard: &Shard, with: impl FnOnce(&[T]) -> R) -> R {
        const SHORT: usize = 32;
        match self {
            Ngram::Ids(ids) if ids.len() <= SHORT => {
                let mut tokens = [T::from_id(0); SHORT];
                let separator = shard.separator();
                for (token, &id) in tokens.iter_mut().zip(ids) {
                    *token = T::from_id(id.min(separator));
                }
                with(&tokens[..ids.len()])
            }
            _ => with(&self.resolve(shard)),
        }
    }

    /// Appends what [`resolve`](Self::resolve) gives.
    pub(crate) fn resolve_into<T: Token>(&self, shard: &Shard, out: &mut Vec<T>) {
        let separator = shard.separator();
        match self {
            Ngram::Ids(ids) => out.extend(ids.iter().map(|&id| T::from_id(id.min(separator)))),
            Ngram::Terms(terms) => {
                out.extend(terms.iter().map(|t| T::from_id(shard.term_id(t).unwrap_or(separator))));
            }
        }
    }
}

/// A text cut into tokens, with the original bytes of each.
#[derive(Debug, Clone)]
pub struct TokenizedText {
    pub tokens: Ngram,
    pub spans: Vec<ByteSpan>,
}

impl Snapshot {
    /// The tokens of `text`, as the index's tokenizer cuts it.
    pub fn ngram(&self, text: &str) -> Result<Ngram> {
        Ok(match &self.tokenizer.kind {
            TokenizerKind::Closed(t) => {
                let mut ids = Vec::new();
                t.encode(text, &mut ids)?;
                Ngram::Ids(ids)
            }
            TokenizerKind::Open(t) => {
                let mut terms = Vec::new();
                t.terms(text, &mut |term, _| terms.push(term.to_string()));
                Ngram::Terms(terms)
            }
        })
    }

    /// An n-gram given as ids of a closed vocabulary. Errors: an id outside the vocabulary (the separator is), or an open vocabulary.
    pub fn ngram_of_ids(&self, ids: &[u32]) -> Result<Ngram> {
        let TokenizerKind::Closed(t) = &self.tokenizer.kind else {
            return Err(Error::invalid_hint(
                "token ids mean nothing in an index of words: each shard numbers its own terms",
                "pass text instead",
            ));
        };
        let limit = if self.manifest.tokenizer.kind == "bytes" { 255 } else { t.vocab() };
        match ids.iter().position(|&id| id >= limit) {
            Some(at) => Err(Error::invalid(format!(
                "token {at} has the id {}, the vocabulary ends at {}; a query cannot contain the separator",
                ids[at],
                limit - 1
            ))),
            None => Ok(Ngram::Ids(ids.to_vec())),
        }
    }

    /// `text` as tokens with their original byte ranges.
    pub fn tokenize(&self, text: &str) -> Result<TokenizedText> {
        let mut spans = Vec::new();
        let tokens = match &self.tokenizer.kind {
            TokenizerKind::Closed(t) => {
                let mut ids = Vec::new();
                t.encode_spans(text, &mut ids, &mut spans)?;
                Ngram::Ids(ids)
            }
            TokenizerKind::Open(t) => {
                let mut terms = Vec::new();
                t.terms(text, &mut |term, span| {
                    terms.push(term.to_string());
                    spans.push(span);
                });
                Ngram::Terms(terms)
            }
        };
        Ok(TokenizedText { tokens, spans })
    }
}
