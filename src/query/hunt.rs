//! Hunting for poison: all documents with a trigger, one after another; and the rare or bursty n-grams around it.
//!
//! A poisoned corpus repeats a trigger with a payload in a few documents: n-grams that contain the trigger and occur far more often in a
//! document than their count alone would make them. The *burstiness* of an n-gram with c occurrences in d documents is E / d, where E is
//! the number of documents that c occurrences would reach if each fell on a token of the corpus at random:
//! E = Σ over documents (1 − (1 − length / tokens)^c). 1 is what chance gives; 10 means ten times as many occurrences a document.
//!
//! Both are exact. [`Snapshot::each_document`] holds no list of what it found: where a trigger is frequent, a bitmap of the documents.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::Ngram;
use super::find::{FindOptions, FoundDocument, Group};
use crate::error::{Error, Result};
use crate::index::{DocumentRef, Snapshot};
use crate::shard::Shard;
use crate::suffix::{Token, TokenIndex};
use crate::with_view;

/// Occurrences of a shard that are sorted in memory; beyond them, its documents are marked and then read one by one.
const SORTED: usize = 1 << 20;

/// Which n-grams around a trigger to report.
#[derive(Debug, Clone, PartialEq)]
pub struct HuntOptions {
    /// Tokens looked at on either side of the trigger, at most.
    pub reach: usize,
    /// N-grams that occur less often are left out.
    pub min_count: u64,
    /// N-grams that occur more often are left out: what is rare.
    pub max_count: Option<u64>,
    /// N-grams to return, the burstiest first.
    pub limit: usize,
    /// Occurrences of the trigger that are looked at, at most; more are an error.
    pub max_occurrences: usize,
}

impl Default for HuntOptions {
    fn default() -> Self {
        HuntOptions { reach: 5, min_count: 2, max_count: None, limit: 20, max_occurrences: 1_000_000 }
    }
}

/// An n-gram that contains the trigger.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Bursty {
    /// Its tokens.
    pub tokens: Vec<String>,
    /// Its text as it stands in its first occurrence.
    pub text: String,
    /// Occurrences in the corpus.
    pub count: u64,
    /// Documents that have it.
    pub documents: u64,
    /// Documents that as many occurrences would reach by chance.
    pub expected_documents: f64,
    /// `expected_documents` over `documents`.
    pub burstiness: f64,
    /// Where it occurs first.
    pub first: DocumentRef,
    /// That document's id.
    pub first_id: String,
}

/// What was found around a trigger.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Hunt {
    /// Occurrences of the trigger, and documents that have it.
    pub count: u64,
    pub documents: u64,
    pub expected_documents: f64,
    pub burstiness: f64,
    /// N-grams that contain it, the burstiest first; of those that always stand in a longer one within reach, only the longest.
    pub ngrams: Vec<Bursty>,
    /// How many there were before `limit`.
    pub distinct: usize,
    /// Always false: all counts are exact.
    pub approximate: bool,
}

/// An occurrence of the trigger and the tokens around it.
struct Place {
    document: DocumentRef,
    /// Where the window begins in the document, and the trigger in the window.
    start: usize,
    trigger: usize,
    window: Vec<u32>,
}

impl Place {
    /// Tokens from `left` before the trigger to `right` after its end; `None` where the document ends before.
    fn slice(&self, left: usize, right: usize, n: usize) -> Option<&[u32]> {
        self.window.get(self.trigger.checked_sub(left)?..self.trigger + n + right)
    }
}

impl Snapshot {
    /// Calls `each` for every document that contains `ngram`, in shard and document order, until it returns an error. `options` says what to
    /// show of each; its `offset` and `limit` are not used.
    ///
    /// Cost: finding the occurrences, and reading each document. Memory: where a shard has more than a million occurrences, a bit a document
    /// instead of a list.
    ///
    /// # Errors
    /// A document that cannot be read, an n-gram without tokens, and whatever `each` returns.
    pub fn each_document<E: From<Error>>(
        &self,
        ngram: &Ngram,
        options: &FindOptions,
        mut each: impl FnMut(FoundDocument) -> Result<(), E>,
    ) -> Result<(), E> {
        check(ngram)?;
        for (number, shard) in self.shards.iter().enumerate() {
            with_view!(shard.exact, v => {
                let needle = ngram.resolve(shard);
                let ranks = v.interval(&needle);
                if ranks.len() <= SORTED {
                    let mut groups: Vec<Group> = Vec::new();
                    let positions = ranks.map(|rank| v.place(rank, needle.len()) as u64).collect();
                    self.group(number, positions, needle.len(), &mut groups);
                    for group in groups {
                        each(self.found(&group, options)?)?;
                    }
                } else {
                    for document in marked(shard, v, ranks, needle.len()) {
                        let document = DocumentRef { shard: number as u32, document };
                        if self.is_removed(document) {
                            continue;
                        }
                        let hay = v.read(shard.tokens_of(document.document));
                        let mut ranges = Vec::new();
                        super::boolean::scan(&hay, &needle, |at| ranges.push(at..at + needle.len()));
                        each(self.found(&Group { document, ranges }, options)?)?;
                    }
                }
            });
        }
        Ok(())
    }

    /// The n-grams that contain `trigger` and reach up to `options.reach` tokens to either side of it, with their exact counts.
    ///
    /// Cost: reads a window at each occurrence of the trigger, and sorts the occurrences once for each pair of distances to either side.
    ///
    /// # Errors
    /// A trigger without tokens, or more frequent than `options.max_occurrences`.
    pub fn hunt(&self, trigger: &Ngram, options: &HuntOptions) -> Result<Hunt> {
        check(trigger)?;
        let count = self.count(trigger);
        if count > options.max_occurrences as u64 {
            return Err(Error::Limit {
                what: format!(
                    "the trigger occurs {count} times, more than the {} that are looked at",
                    options.max_occurrences
                ),
                hint: Some("give a longer trigger, or raise the limit (some 100 bytes of memory an occurrence)".into()),
            });
        }
        let n = trigger.len();
        let mut names = Names::default();
        let places = self.windows(trigger, options.reach, &mut names)?;
        let chance = Chance::new(self);
        let mut expected: HashMap<u64, f64> = HashMap::new();
        let mut found: Vec<(Candidate, f64)> = Vec::new();
        for left in 0..=options.reach {
            for right in 0..=options.reach {
                if left + right == 0 {
                    continue;
                }
                for candidate in candidates(&places, left, right, n, options) {
                    let e = *expected.entry(candidate.count).or_insert_with(|| chance.documents(candidate.count));
                    found.push((candidate, e));
                }
            }
        }
        let burstiness = |(c, e): &(Candidate, f64)| e / c.documents as f64;
        found.sort_by(|a, b| {
            burstiness(b)
                .total_cmp(&burstiness(a))
                .then(b.0.count.cmp(&a.0.count))
                .then((b.0.left + b.0.right).cmp(&(a.0.left + a.0.right)))
                .then(a.0.first.cmp(&b.0.first))
                .then(a.0.left.cmp(&b.0.left))
        });
        let distinct = found.len();
        found.truncate(options.limit);
        let ngrams = found
            .iter()
            .map(|found| {
                let (candidate, e) = found;
                let place = &places[candidate.first];
                let window = place.slice(candidate.left, candidate.right, n).unwrap_or_default();
                let start = place.start + place.trigger - candidate.left;
                let range = start..start + window.len();
                let group = Group { document: place.document, ranges: vec![range] };
                let shown =
                    self.found(&group, &FindOptions { per_document: 1, context: 0, ..FindOptions::default() })?;
                Ok(Bursty {
                    tokens: window.iter().map(|&id| names.text(self, id)).collect(),
                    text: shown.occurrences.into_iter().next().map(|o| o.text).unwrap_or_default(),
                    count: candidate.count,
                    documents: candidate.documents,
                    expected_documents: *e,
                    burstiness: burstiness(found),
                    first: place.document,
                    first_id: shown.id,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let mut documents: Vec<DocumentRef> = places.iter().map(|p| p.document).collect();
        documents.dedup();
        let (documents, e) = (documents.len() as u64, chance.documents(count));
        let burstiness = if documents == 0 { 0.0 } else { e / documents as f64 };
        Ok(Hunt { count, documents, expected_documents: e, burstiness, ngrams, distinct, approximate: false })
    }

    /// Every occurrence of the trigger in documents that are not removed, in order, with up to `reach` tokens on either side.
    fn windows(&self, trigger: &Ngram, reach: usize, names: &mut Names) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        for (number, shard) in self.shards.iter().enumerate() {
            let mut groups: Vec<Group> = Vec::new();
            with_view!(shard.exact, v => {
                let needle = trigger.resolve(shard);
                let positions = v.interval(&needle).map(|rank| v.place(rank, needle.len()) as u64).collect();
                self.group(number, positions, needle.len(), &mut groups);
                for group in &groups {
                    let tokens = shard.tokens_of(group.document.document);
                    for range in &group.ranges {
                        let start = range.start.saturating_sub(reach);
                        let end = (range.end + reach).min(tokens.len());
                        let window = v.read(tokens.start + start..tokens.start + end);
                        let window = window.iter().map(|t| names.number(shard, t.id())).collect();
                        places.push(Place { document: group.document, start, trigger: range.start - start, window });
                    }
                }
            });
        }
        Ok(places)
    }
}

fn check(ngram: &Ngram) -> Result<()> {
    match ngram.is_empty() {
        true => Err(Error::invalid_hint("the trigger has no tokens", "the index's tokenizer finds no token in it")),
        false => Ok(()),
    }
}

/// The documents that some ranks lead to, rising, by way of a bitmap.
fn marked<V: TokenIndex>(shard: &Shard, view: V, ranks: Range<usize>, n: usize) -> impl Iterator<Item = u32> + use<V> {
    let mut bitmap = vec![0u64; shard.documents.len().div_ceil(64)];
    for rank in ranks {
        if let Some(document) = shard.documents.document_at(view.place(rank, n) as u64)
            && let Some(word) = bitmap.get_mut(document as usize / 64)
        {
            *word |= 1 << (document % 64);
        }
    }
    bitmap.into_iter().enumerate().flat_map(|(word, bits)| {
        (0..64u32).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word as u32 * 64 + bit)
    })
}

/// Numbers for tokens that all shards agree on: the ids of a closed vocabulary, and terms in the order they are met.
#[derive(Default)]
struct Names {
    numbers: HashMap<String, u32>,
    terms: Vec<String>,
}

impl Names {
    fn number(&mut self, shard: &Shard, id: u32) -> u32 {
        let Some(terms) = &shard.terms else { return id };
        let term = terms.term(id).unwrap_or_default();
        if let Some(&number) = self.numbers.get(term) {
            return number;
        }
        let number = self.terms.len() as u32;
        self.terms.push(term.to_string());
        self.numbers.insert(term.to_string(), number);
        number
    }

    fn text(&self, snapshot: &Snapshot, number: u32) -> String {
        self.terms.get(number as usize).cloned().unwrap_or_else(|| snapshot.token_text(number))
    }
}

/// An n-gram around the trigger.
struct Candidate {
    /// Tokens before the trigger, and after its end.
    left: usize,
    right: usize,
    count: u64,
    documents: u64,
    /// Its first place.
    first: usize,
}

/// The distinct n-grams from `left` before to `right` after the trigger that no longer one within reach always contains.
fn candidates(places: &[Place], left: usize, right: usize, n: usize, options: &HuntOptions) -> Vec<Candidate> {
    let mut order: Vec<usize> = (0..places.len()).filter(|&i| places[i].slice(left, right, n).is_some()).collect();
    // By n-gram, then by place.
    order.sort_by(|&a, &b| places[a].slice(left, right, n).cmp(&places[b].slice(left, right, n)).then(a.cmp(&b)));
    let same = |a: &usize, b: &usize| places[*a].slice(left, right, n) == places[*b].slice(left, right, n);
    let mut out = Vec::new();
    for run in order.chunk_by(same) {
        let count = run.len() as u64;
        if count < options.min_count || options.max_count.is_some_and(|max| count > max) {
            continue;
        }
        // A token more on one side, the same at every place, makes an n-gram that says the same and more.
        let extends = |left: usize, right: usize| {
            let at = |i: usize| places[i].slice(left, right, n);
            left.max(right) <= options.reach && at(run[0]).is_some() && run.iter().all(|&i| at(i) == at(run[0]))
        };
        if extends(left + 1, right) || extends(left, right + 1) {
            continue;
        }
        // An n-gram that holds the trigger twice is met at both; it is reported at the first from which it is within reach.
        let place = &places[run[0]];
        let (Some(window), Some(trigger)) = (place.slice(left, right, n), place.slice(0, 0, n)) else { continue };
        let first = window.windows(n).position(|w| w == trigger).unwrap_or(left);
        if first < left && left + right - first <= options.reach {
            continue;
        }
        let mut documents = 0;
        let mut last = None;
        for &i in run {
            documents += u64::from(last != Some(places[i].document));
            last = Some(places[i].document);
        }
        out.push(Candidate { left, right, count, documents, first: run[0] });
    }
    out
}

/// How many documents some occurrences reach by chance.
struct Chance {
    /// Documents of each length.
    lengths: BTreeMap<usize, u64>,
    tokens: f64,
}

impl Chance {
    /// Cost: a look at each document's length.
    fn new(snapshot: &Snapshot) -> Chance {
        let mut lengths = BTreeMap::new();
        let mut tokens = 0.0;
        for (number, shard) in snapshot.shards.iter().enumerate() {
            for document in 0..shard.documents.len() as u32 {
                if !snapshot.is_removed(DocumentRef { shard: number as u32, document }) {
                    let length = shard.tokens_of(document).len();
                    *lengths.entry(length).or_default() += 1;
                    tokens += length as f64;
                }
            }
        }
        Chance { lengths, tokens }
    }

    fn documents(&self, count: u64) -> f64 {
        let reached = |length: usize| {
            let miss = (-(length as f64) / self.tokens.max(1.0)).max(-1.0);
            // 1 − (1 + miss)^count, without losing the digits of short documents.
            -(count as f64 * miss.ln_1p()).exp_m1()
        };
        self.lengths.iter().map(|(&length, &documents)| documents as f64 * reached(length)).sum()
    }
}
