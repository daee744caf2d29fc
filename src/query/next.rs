//! Next-token distributions: n-gram and ∞-gram, exact.

use std::collections::HashMap;

use super::Ngram;
use crate::index::Snapshot;
use crate::shard::Shard;
use crate::tokenize::TokenizerKind;
use crate::with_view;

/// A token that follows, and how often.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct NextToken {
    /// The id, of a closed vocabulary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// The term, or the bytes the id stands for (invalid UTF-8 shown as U+FFFD).
    pub token: String,
    pub count: u64,
    /// `count` over the prompt's count.
    pub probability: f64,
}

/// What follows a prompt.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Distribution {
    /// Tokens of the prompt that were used: all of them, or for ∞-grams its longest suffix that occurs.
    pub effective_n: usize,
    /// Occurrences of those tokens.
    pub prompt_count: u64,
    /// How often a document ends right after them.
    pub end_of_document: u64,
    /// Distinct tokens that follow, before any `top_k`.
    pub distinct: usize,
    /// By descending count, ties by id or term.
    pub tokens: Vec<NextToken>,
    /// Always false: counts are exact.
    pub approximate: bool,
}

/// The `top_k` most frequent (0: all), by descending count, ties by token.
fn best<K: Ord>(tokens: &mut Vec<(K, u64)>, top_k: usize) {
    let order = |a: &(K, u64), b: &(K, u64)| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0));
    if top_k > 0 && top_k < tokens.len() {
        tokens.select_nth_unstable_by(top_k, order);
        tokens.truncate(top_k);
    }
    tokens.sort_unstable_by(order);
}

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord, Clone)]
enum Key {
    Id(u32),
    Term(String),
}

impl Snapshot {
    /// The tokens that follow `prompt`, at most `top_k` of them (0: all). An empty prompt gives unigram counts.
    ///
    /// Cost: one pass over the branch bytes of the prompt's interval and one read a distinct token, in each shard.
    pub fn next(&self, prompt: &Ngram, top_k: usize) -> Distribution {
        if let (true, [shard]) = (self.removals.is_empty(), self.shards.as_slice()) {
            return self.next_of_one(shard, prompt, top_k);
        }
        let mut totals: HashMap<Key, i64> = HashMap::new();
        let (mut count, mut ends) = (0i64, 0i64);
        for (shard, sign) in self.signed() {
            with_view!(shard.exact, v => {
                let query = prompt.resolve(shard);
                let range = v.interval(&query);
                count += sign * range.len() as i64;
                for next in v.next_tokens(range, query.len()) {
                    let n = sign * next.count as i64;
                    if next.token >= shard.separator() {
                        ends += n;
                        continue;
                    }
                    let key = match &shard.terms {
                        Some(terms) => Key::Term(terms.term(next.token).unwrap_or_default().to_string()),
                        None => Key::Id(next.token),
                    };
                    *totals.entry(key).or_default() += n;
                }
            });
        }
        let count = count.max(0) as u64;
        let mut tokens: Vec<(Key, u64)> =
            totals.into_iter().filter(|&(_, n)| n > 0).map(|(k, n)| (k, n as u64)).collect();
        let distinct = tokens.len();
        best(&mut tokens, top_k);
        let tokens = tokens
            .into_iter()
            .map(|(key, n)| {
                let (id, token) = match key {
                    Key::Id(id) => (Some(id), self.token_text(id)),
                    Key::Term(term) => (None, term),
                };
                NextToken { id, token, count: n, probability: n as f64 / count as f64 }
            })
            .collect();
        Distribution {
            effective_n: prompt.len(),
            prompt_count: count,
            end_of_document: ends.max(0) as u64,
            distinct,
            tokens,
            approximate: false,
        }
    }

    /// [`next`](Self::next) where one shard has everything, so that nothing has to be added up by key.
    fn next_of_one(&self, shard: &Shard, prompt: &Ngram, top_k: usize) -> Distribution {
        let (count, mut tokens) = with_view!(shard.exact, v => {
            let query = prompt.resolve(shard);
            let range = v.interval(&query);
            let count = range.len() as u64;
            let tokens = v.next_tokens(range, query.len());
            (count, tokens.into_iter().map(|next| (next.token, next.count)).collect::<Vec<_>>())
        });
        // The separator is the largest id, so it comes last.
        let ends = tokens.pop_if(|last| last.0 >= shard.separator()).map_or(0, |last| last.1);
        let distinct = tokens.len();
        let tokens = match &shard.terms {
            // Ties are broken by term, whose order is not that of the shard's numbers.
            Some(terms) => {
                let mut tokens: Vec<_> =
                    tokens.into_iter().map(|(id, n)| (terms.term(id).unwrap_or_default(), n)).collect();
                best(&mut tokens, top_k);
                let named = |(term, n): (&str, u64)| (None, term.to_string(), n);
                tokens.into_iter().map(named).collect::<Vec<_>>()
            }
            None => {
                best(&mut tokens, top_k);
                tokens.into_iter().map(|(id, n)| (Some(id), self.token_text(id), n)).collect()
            }
        };
        let probability = |n: u64| n as f64 / count as f64;
        Distribution {
            effective_n: prompt.len(),
            prompt_count: count,
            end_of_document: ends,
            distinct,
            tokens: tokens
                .into_iter()
                .map(|(id, token, n)| NextToken { id, token, count: n, probability: probability(n) })
                .collect(),
            approximate: false,
        }
    }

    /// The text of a token id of a closed vocabulary.
    pub fn token_text(&self, id: u32) -> String {
        match &self.tokenizer.kind {
            TokenizerKind::Closed(t) => {
                t.token_bytes(id).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
            }
            TokenizerKind::Open(_) => String::new(),
        }
    }

    /// The longest suffix of `prompt` that occurs: its length in tokens.
    ///
    /// A suffix of a suffix that occurs occurs too, so this is a binary search over counts.
    pub fn longest_suffix(&self, prompt: &Ngram) -> usize {
        let n = prompt.len();
        let (mut lo, mut hi) = (0, n);
        while lo < hi {
            let mid = (lo + hi).div_ceil(2);
            if self.count(&prompt.slice(n - mid..n)) > 0 { lo = mid } else { hi = mid - 1 }
        }
        lo
    }

    /// The ∞-gram distribution: what follows the longest suffix of `prompt` that occurs.
    pub fn infgram_next(&self, prompt: &Ngram, top_k: usize) -> Distribution {
        let n = prompt.len();
        self.next(&prompt.slice(n - self.longest_suffix(prompt)..n), top_k)
    }

    /// Probability of `token` (an n-gram of one token) after `prompt`: its count after the prompt over the prompt's. `None` when
    /// the prompt does not occur.
    pub fn probability(&self, prompt: &Ngram, token: &Ngram) -> Option<Probability> {
        let joined = match (prompt, token) {
            (Ngram::Ids(a), Ngram::Ids(b)) => Ngram::Ids(a.iter().chain(b).copied().collect()),
            (Ngram::Terms(a), Ngram::Terms(b)) => Ngram::Terms(a.iter().chain(b).cloned().collect()),
            _ => return None,
        };
        let prompt_count = self.count(prompt);
        let count = self.count(&joined);
        (prompt_count > 0).then(|| Probability {
            effective_n: prompt.len(),
            prompt_count,
            count,
            probability: count as f64 / prompt_count as f64,
        })
    }

    /// [`probability`](Self::probability) after the longest suffix of `prompt` that occurs.
    pub fn infgram_probability(&self, prompt: &Ngram, token: &Ngram) -> Option<Probability> {
        let n = prompt.len();
        self.probability(&prompt.slice(n - self.longest_suffix(prompt)..n), token)
    }
}

/// Probability of a continuation.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Probability {
    pub effective_n: usize,
    pub prompt_count: u64,
    pub count: u64,
    pub probability: f64,
}
