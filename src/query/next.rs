//! Next-token distributions: n-gram and ∞-gram, exact.

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

/// A token that shards with different numbers for their terms agree on.
#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Key<'a> {
    Id(u32),
    Term(&'a str),
}

/// What follows a prompt, as counts of ids of a closed vocabulary: a [`Distribution`] without the texts, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NextCounts {
    /// Occurrences of the prompt.
    pub prompt_count: u64,
    /// How often a document ends right after it.
    pub end_of_document: u64,
    /// Each id that follows and how often, by id.
    pub followers: Vec<(u32, u64)>,
}

/// Sorts `followers` and adds up the counts of equal keys; those that come to nothing are dropped.
fn add_up<K: Ord>(followers: &mut Vec<(K, i64)>) {
    followers.sort_unstable();
    followers.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    followers.retain(|&(_, n)| n > 0);
}

impl Snapshot {
    /// The ids that follow `prompt`, by id, exact; of an empty prompt, unigram counts. `None` for an open vocabulary, whose shards number
    /// their terms each for itself: ask [`next`](Self::next).
    ///
    /// Cost: as of [`next`](Self::next), without its sorting by count and its texts, which are most of it.
    pub fn next_counts(&self, prompt: &Ngram) -> Option<NextCounts> {
        let Ngram::Ids(_) = prompt else { return None };
        let mut followers: Vec<(u32, i64)> = Vec::new();
        let [count, ends] = self.each_follower(prompt, |_, id, n| followers.push((id, n)));
        if self.signed().count() > 1 {
            add_up(&mut followers);
        }
        Some(NextCounts {
            prompt_count: count.max(0) as u64,
            end_of_document: ends.max(0) as u64,
            followers: followers.into_iter().map(|(id, n)| (id, n as u64)).collect(),
        })
    }

    /// Calls `each` with every token that follows `prompt` in a shard, as the shard numbers it, and its count, negative of removed text; each
    /// shard's in the order of its numbers. Returns the counts of the prompt and of documents that end after it.
    fn each_follower<'a>(&'a self, prompt: &Ngram, mut each: impl FnMut(&'a Shard, u32, i64)) -> [i64; 2] {
        let (mut count, mut ends) = (0i64, 0i64);
        for (shard, sign) in self.signed() {
            with_view!(shard.exact, v => {
                let query = prompt.resolve(shard);
                let range = v.interval(&query);
                count += sign * range.len() as i64;
                for next in v.next_tokens(range, query.len()) {
                    let n = sign * next.count as i64;
                    if next.token >= shard.separator() { ends += n } else { each(shard, next.token, n) }
                }
            });
        }
        [count, ends]
    }

    /// The tokens that follow `prompt`, at most `top_k` of them (0: all). An empty prompt gives unigram counts.
    ///
    /// Cost: one pass over the branch bytes of the prompt's interval and one read a distinct token, in each shard.
    pub fn next(&self, prompt: &Ngram, top_k: usize) -> Distribution {
        let mut followers: Vec<(Key, i64)> = Vec::new();
        let [count, ends] = self.each_follower(prompt, |shard, token, n| {
            let key = match &shard.terms {
                Some(terms) => Key::Term(terms.term(token).unwrap_or_default()),
                None => Key::Id(token),
            };
            followers.push((key, n));
        });
        // A shard names each token once; only several have anything to add up.
        if self.signed().count() > 1 {
            add_up(&mut followers);
        }
        let distinct = followers.len();
        let order = |a: &(Key, i64), b: &(Key, i64)| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0));
        if top_k > 0 && top_k < followers.len() {
            followers.select_nth_unstable_by(top_k, order);
            followers.truncate(top_k);
        }
        followers.sort_unstable_by(order);
        let count = count.max(0) as u64;
        let tokens = followers
            .into_iter()
            .map(|(key, n)| {
                let (id, token) = match key {
                    Key::Id(id) => (Some(id), self.token_text(id)),
                    Key::Term(term) => (None, term.to_string()),
                };
                NextToken { id, token, count: n as u64, probability: n as f64 / count as f64 }
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
