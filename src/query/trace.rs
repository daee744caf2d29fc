//! Traces: every longest match of a text, its maximal spans, and the documents they come from.
//!
//! One pass finds the longest match at each token, all positions' cache misses overlapped; the longest match at the next token is
//! at least one shorter than this one's, so a *maximal span* starts exactly where a match reaches further than every match before it.
//! Spans are then filtered, counted and ranked as OLMoTrace does it: begin and end at word boundaries, end at the first delimiter,
//! at least so long, at most so frequent, the longest or the rarest of them kept.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use rand::SeedableRng;
use rand::seq::index::sample;
use rayon::prelude::*;

use super::find::{FoundDocument, Group, Occurrence};
use super::metrics;
use super::{Ngram, TokenizedText};
use crate::error::Result;
use crate::index::{DocumentRef, Snapshot};
use crate::shard::Shard;
use crate::suffix::Token;
use crate::suffix::index::maximal;
use crate::tokenize::TokenizerKind;
use crate::with_view;

/// What ranks spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Rank {
    /// Most tokens first.
    #[default]
    Length,
    /// Lowest sum of unigram log-probabilities first.
    Rarity,
}

/// Which spans to report, and how much about each.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct TraceOptions {
    /// Shortest span in tokens.
    pub min_tokens: usize,
    /// Spans that occur more often are dropped.
    pub max_count: Option<u64>,
    /// Spans kept: ⌈density × tokens⌉, the best by `rank`. `None` keeps all.
    pub density: Option<f64>,
    pub rank: Rank,
    /// A span ends with the first token whose text, or the text after it up to the next token, contains one of these.
    pub delimiters: Vec<String>,
    /// Spans begin and end where words do.
    pub whole_words: bool,
    /// Documents shown for a span.
    pub documents_per_span: usize,
    /// Spans that documents are shown for: so many, the best by `rank`. `None`: all. The others have counts only.
    pub document_spans: Option<usize>,
    /// Characters of original text around an occurrence.
    pub context: usize,
    /// Seed of the choice among more documents than are shown.
    pub seed: u64,
}

impl Default for TraceOptions {
    fn default() -> Self {
        TraceOptions {
            min_tokens: 1,
            max_count: None,
            density: None,
            rank: Rank::Length,
            delimiters: Vec::new(),
            whole_words: false,
            documents_per_span: 3,
            document_spans: None,
            context: 80,
            seed: 42,
        }
    }
}

/// A maximal span.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Span {
    /// Tokens `left..right` of the text.
    pub left: usize,
    pub right: usize,
    /// Its bytes in the text.
    pub start_byte: usize,
    pub end_byte: usize,
    pub text: String,
    /// Occurrences in the corpus.
    pub count: u64,
    /// Sum of ln(count of the token / tokens of the corpus) over its tokens.
    pub unigram_logprob_sum: f64,
    pub documents: Vec<FoundDocument>,
}

/// A document that several spans come from, scored against the text.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct RankedDocument {
    #[serde(flatten)]
    pub document: DocumentRef,
    pub id: String,
    pub path: String,
    /// Numbers of the spans it was found for.
    pub spans: Vec<usize>,
    /// BM25 of the document against the text, over the index's tokens (k1 = 1.2, b = 0.75; idf over the documents shown).
    pub bm25: f64,
}

/// A trace.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Trace {
    /// Tokens of the text.
    pub tokens: usize,
    /// For each token, the length of the longest match that starts there.
    pub longest: Vec<usize>,
    /// For each token, its bytes in the text.
    pub token_bytes: Vec<[u32; 2]>,
    /// For each token, its id: what a `find` of a span alone takes. Empty where the vocabulary is open: there its text does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub token_ids: Vec<u32>,
    /// The spans kept, from left to right.
    pub spans: Vec<Span>,
    /// Overlapping or touching spans merged: byte ranges of the text.
    pub merged: Vec<[usize; 2]>,
    /// The documents of all spans, best first.
    pub documents: Vec<RankedDocument>,
    /// coverage_L for L = 1, 2, 3, 5, 8, 13, 20, 50, as [L, coverage].
    pub coverage: Vec<(usize, f64)>,
    /// Σ (1 − coverage_L), L = 5…12.
    pub creativity_index: f64,
    /// Share of n-grams absent from the corpus, for n = 1…20 (and fewer for short texts), as [n, share].
    pub n_novelty: Vec<(usize, f64)>,
    /// Always false.
    pub approximate: bool,
}

/// A span before it is described.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    left: usize,
    right: usize,
    count: u64,
    logprob: f64,
}

impl Snapshot {
    /// The length of the longest match at each token of `text`.
    pub fn longest_matches(&self, tokens: &Ngram) -> Vec<usize> {
        let mut best = vec![0; tokens.len()];
        for shard in &self.shards {
            for (b, l) in best.iter_mut().zip(longest_in(shard, tokens)) {
                *b = (*b).max(l);
            }
        }
        if !self.removals.is_empty() {
            for (left, b) in best.iter_mut().enumerate() {
                // A prefix of a match occurs at least as often, removed text included or not: bisect.
                if *b > 0 && self.count(&tokens.slice(left..left + *b)) == 0 {
                    let (mut lo, mut hi) = (0, *b - 1);
                    while lo < hi {
                        let mid = (lo + hi).div_ceil(2);
                        if self.count(&tokens.slice(left..left + mid)) > 0 { lo = mid } else { hi = mid - 1 }
                    }
                    *b = lo;
                }
            }
        }
        best
    }

    /// The maximal spans of `tokens` as `(left, right, count)`, no filter applied.
    ///
    /// This is the whole of a trace but for the documents; a text of 500 tokens takes a fraction of a millisecond.
    pub fn maximal_spans(&self, tokens: &Ngram) -> Vec<(usize, usize, u64)> {
        if let (true, [shard]) = (self.removals.is_empty(), self.shards.as_slice()) {
            return with_view!(shard.exact, v => v.maximal_spans(&tokens.resolve(shard)));
        }
        let longest = self.longest_matches(tokens);
        let spans: Vec<_> = maximal(longest.into_iter()).collect();
        let ngrams: Vec<Ngram> = spans.iter().map(|&(l, r)| tokens.slice(l..r)).collect();
        spans.iter().zip(self.counts(&ngrams)).map(|(&(l, r), n)| (l, r, n)).collect()
    }

    /// Traces `text` to the corpus.
    ///
    /// Cost: [`maximal_spans`](Self::maximal_spans); for each document shown, adding up the lengths of its tokens (or tokenising it),
    /// decompressing the text around the spans, and a pass over its tokens for the ranking.
    pub fn trace(&self, text: &str, options: &TraceOptions) -> Result<Trace> {
        let TokenizedText { tokens, spans: bytes } = self.tokenize(text)?;
        let longest = self.longest_matches(&tokens);
        let n = longest.len();
        let bounded = self.bounded(text, &tokens, &bytes, &longest, options);
        let ngrams: Vec<Ngram> = bounded.iter().map(|&(l, r)| tokens.slice(l..r)).collect();
        let counts = self.counts(&ngrams);
        let logprobs = self.unigram_logprobs(&tokens);
        let mut kept: Vec<Candidate> = bounded
            .iter()
            .zip(counts)
            .map(|(&(left, right), count)| Candidate {
                left,
                right,
                count,
                logprob: logprobs[left..right].iter().sum(),
            })
            .filter(|c| c.count > 0 && options.max_count.is_none_or(|max| c.count <= max))
            .collect();
        if let Some(density) = options.density {
            sort_by_rank(&mut kept, options.rank);
            kept.truncate((density * n as f64).ceil() as usize);
            kept.sort_by_key(|c| c.left);
        }
        let documents = self.documents_of(&tokens, &kept, options)?;
        let spans: Vec<Span> = kept
            .into_iter()
            .zip(documents)
            .map(|(c, documents)| {
                let (start_byte, end_byte) = (bytes[c.left].start as usize, bytes[c.right - 1].end as usize);
                Span {
                    left: c.left,
                    right: c.right,
                    start_byte,
                    end_byte,
                    text: text[start_byte..end_byte].to_string(),
                    count: c.count,
                    unigram_logprob_sum: c.logprob,
                    documents,
                }
            })
            .collect();
        let mut merged: Vec<[usize; 2]> = Vec::new();
        let mut reach = 0;
        for s in &spans {
            match merged.last_mut() {
                Some(last) if s.left <= reach => last[1] = last[1].max(s.end_byte),
                _ => merged.push([s.start_byte, s.end_byte]),
            }
            reach = reach.max(s.right);
        }
        let documents = self.rank_documents(&tokens, &spans)?;
        Ok(Trace {
            tokens: n,
            coverage: [1, 2, 3, 5, 8, 13, 20, 50].into_iter().map(|l| (l, metrics::coverage(&longest, l))).collect(),
            creativity_index: metrics::creativity_index(&longest, 5..=12),
            n_novelty: (1..=20).filter_map(|k| metrics::n_novelty(&longest, k).map(|v| (k, v))).collect(),
            token_bytes: bytes.iter().map(|s| [s.start, s.end]).collect(),
            token_ids: match tokens {
                Ngram::Ids(ids) => ids,
                Ngram::Terms(_) => Vec::new(),
            },
            longest,
            spans,
            merged,
            documents,
            approximate: false,
        })
    }

    /// Maximal spans after delimiters, whole words and the minimum length.
    fn bounded(
        &self,
        text: &str,
        tokens: &Ngram,
        bytes: &[crate::tokenize::ByteSpan],
        longest: &[usize],
        options: &TraceOptions,
    ) -> Vec<(usize, usize)> {
        let n = longest.len();
        let begins = |i: usize| match (&self.tokenizer.kind, tokens) {
            (TokenizerKind::Closed(t), Ngram::Ids(ids)) => t.begins_word(ids[i]),
            _ => true,
        };
        let mut delimited = vec![n; n + 1];
        if !options.delimiters.is_empty() {
            for i in (0..n).rev() {
                let end = bytes.get(i + 1).map_or(text.len(), |s| s.start as usize).max(bytes[i].end as usize);
                let here = &text[bytes[i].start as usize..end];
                delimited[i] =
                    if options.delimiters.iter().any(|d| here.contains(d.as_str())) { i + 1 } else { delimited[i + 1] };
            }
        }
        let mut out = Vec::new();
        let mut reach = 0;
        for (left, &length) in longest.iter().enumerate() {
            // The text's first token begins a word whatever it looks like.
            if length == 0 || (options.whole_words && left > 0 && !begins(left)) {
                continue;
            }
            let mut right = (left + length).min(delimited[left]);
            while options.whole_words && right > left && right < n && !begins(right) {
                right -= 1;
            }
            if right > reach && right - left >= options.min_tokens.max(1) {
                reach = right;
                out.push((left, right));
            }
        }
        out
    }

    /// ln(count / tokens) of each token of a text; of a token the corpus lacks, as if it occurred half a time.
    pub fn unigram_logprobs(&self, tokens: &Ngram) -> Vec<f64> {
        let total = (self.manifest.corpus.tokens as f64).max(1.0);
        let mut first: HashMap<Ngram, usize> = HashMap::new();
        let mut distinct = Vec::new();
        let numbers: Vec<usize> = (0..tokens.len())
            .map(|i| {
                let one = tokens.slice(i..i + 1);
                *first.entry(one.clone()).or_insert_with(|| {
                    distinct.push(one);
                    distinct.len() - 1
                })
            })
            .collect();
        let counts = self.counts(&distinct);
        numbers.into_iter().map(|i| ((counts[i] as f64).max(0.5) / total).ln()).collect()
    }

    /// The documents shown for each span. A document of several spans is read once.
    fn documents_of(
        &self,
        tokens: &Ngram,
        spans: &[Candidate],
        options: &TraceOptions,
    ) -> Result<Vec<Vec<FoundDocument>>> {
        let mut best = spans.to_vec();
        sort_by_rank(&mut best, options.rank);
        best.truncate(options.document_spans.unwrap_or(usize::MAX));
        let shown: HashSet<usize> = best.iter().map(|c| c.left).collect();
        let groups: Vec<Vec<Group>> = spans
            .par_iter()
            .map(|c| match shown.contains(&c.left) {
                true => self.span_documents(&tokens.slice(c.left..c.right), options),
                false => Vec::new(),
            })
            .collect();
        // By document: the spans it was chosen for, by where they occur in it.
        let mut wanted: BTreeMap<DocumentRef, Vec<(Range<usize>, usize)>> = BTreeMap::new();
        for (span, groups) in groups.iter().enumerate() {
            for group in groups {
                wanted.entry(group.document).or_default().push((group.ranges[0].clone(), span));
            }
        }
        let wanted: Vec<_> = wanted.into_iter().collect();
        let read = wanted
            .into_par_iter()
            .map(|(document, mut at)| {
                at.sort_by_key(|(range, _)| (range.start, range.end));
                let ranges: Vec<Range<usize>> = at.iter().map(|(range, _)| range.clone()).collect();
                let (stored, occurrences) = self.occurrences(document, &ranges, options.context)?;
                let of_spans: HashMap<usize, Occurrence> =
                    at.into_iter().map(|(_, span)| span).zip(occurrences).collect();
                Ok((document, (stored, of_spans)))
            })
            .collect::<Result<HashMap<_, _>>>()?;
        let found = |span: usize, group: &Group| {
            let (stored, of_spans) = read.get(&group.document)?;
            Some(FoundDocument {
                document: group.document,
                id: stored.id.clone(),
                path: stored.path.clone(),
                record: stored.record,
                metadata: stored.metadata.clone(),
                count: group.ranges.len() as u64,
                occurrences: of_spans.get(&span).cloned().into_iter().collect(),
            })
        };
        let of_span = |(span, groups): (usize, &Vec<Group>)| groups.iter().filter_map(|g| found(span, g)).collect();
        Ok(groups.iter().enumerate().map(of_span).collect())
    }

    /// Documents of a span: all of them if there are few, else a seeded sample, in shard and document order. Each has an occurrence.
    fn span_documents(&self, ngram: &Ngram, options: &TraceOptions) -> Vec<Group> {
        /// Occurrences looked at, at most, to choose documents from.
        const LOOK: usize = 1000;
        let wanted = options.documents_per_span;
        if wanted == 0 {
            return Vec::new();
        }
        let mut groups: Vec<Group> = Vec::new();
        for (number, shard) in self.shards.iter().enumerate() {
            let positions = with_view!(shard.exact, v => {
                let range = v.interval(&ngram.resolve(shard));
                let ranks: Vec<usize> = if range.len() <= LOOK {
                    range.collect()
                } else {
                    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(options.seed);
                    sample(&mut rng, range.len(), LOOK).iter().map(|i| range.start + i).collect()
                };
                ranks.into_iter().map(|r| v.place(r, ngram.len()) as u64).collect()
            });
            self.group(number, positions, ngram.len(), &mut groups);
        }
        if groups.len() <= wanted {
            return groups;
        }
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(options.seed);
        let chosen: HashSet<usize> = sample(&mut rng, groups.len(), wanted).into_iter().collect();
        groups.into_iter().enumerate().filter(|(i, _)| chosen.contains(i)).map(|(_, group)| group).collect()
    }

    /// Scores the spans' documents against the text.
    fn rank_documents(&self, tokens: &Ngram, spans: &[Span]) -> Result<Vec<RankedDocument>> {
        let mut seen: HashMap<DocumentRef, usize> = HashMap::new();
        let mut out: Vec<RankedDocument> = Vec::new();
        for (number, span) in spans.iter().enumerate() {
            for d in &span.documents {
                let at = *seen.entry(d.document).or_insert_with(|| {
                    out.push(RankedDocument {
                        document: d.document,
                        id: d.id.clone(),
                        path: d.path.clone(),
                        spans: Vec::new(),
                        bm25: 0.0,
                    });
                    out.len() - 1
                });
                out[at].spans.push(number);
            }
        }
        // The text's distinct tokens are the terms, numbered alike for every shard.
        let terms: Vec<Ngram> = {
            let mut seen = HashSet::new();
            (0..tokens.len()).map(|i| tokens.slice(i..i + 1)).filter(|t| seen.insert(t.clone())).collect()
        };
        let numbers: Vec<HashMap<u32, usize>> = self.shards.iter().map(|s| term_numbers(s, &terms)).collect();
        let frequencies: Vec<(Vec<f64>, f64)> = out
            .par_iter()
            .map(|d| {
                let shard = &self.shards[d.document.shard as usize];
                let number = &numbers[d.document.shard as usize];
                let range = shard.tokens_of(d.document.document);
                let length = range.len() as f64;
                // One more for the tokens that are none of the text's.
                let mut frequency = vec![0u32; terms.len() + 1];
                with_view!(shard.exact, v => {
                    for t in v.read(range).iter() {
                        frequency[number.get(&t.id()).copied().unwrap_or(terms.len())] += 1;
                    }
                });
                (frequency[..terms.len()].iter().map(|&n| f64::from(n)).collect(), length)
            })
            .collect();
        let mut containing = vec![0f64; terms.len()];
        for (frequency, _) in &frequencies {
            for (n, f) in containing.iter_mut().zip(frequency) {
                *n += f64::from(*f > 0.0);
            }
        }
        let count = out.len() as f64;
        let average = (frequencies.iter().map(|f| f.1).sum::<f64>() / count.max(1.0)).max(1.0);
        for (d, (frequency, length)) in out.iter_mut().zip(&frequencies) {
            let each = frequency.iter().zip(&containing).filter(|(f, _)| **f > 0.0).map(|(f, df)| {
                let idf = ((count - df + 0.5) / (df + 0.5) + 1.0).ln();
                idf * f * 2.2 / (f + 1.2 * (0.25 + 0.75 * length / average))
            });
            d.bm25 = each.sum();
        }
        out.sort_by(|a, b| b.bm25.total_cmp(&a.bm25).then(a.document.cmp(&b.document)));
        Ok(out)
    }
}

/// Best first.
fn sort_by_rank(spans: &mut [Candidate], rank: Rank) {
    match rank {
        Rank::Length => spans.sort_by(|a, b| (b.right - b.left).cmp(&(a.right - a.left)).then(a.left.cmp(&b.left))),
        Rank::Rarity => spans.sort_by(|a, b| a.logprob.total_cmp(&b.logprob).then(a.left.cmp(&b.left))),
    }
}

fn longest_in(shard: &Shard, tokens: &Ngram) -> Vec<usize> {
    with_view!(shard.exact, v => v.longest_matches(&tokens.resolve(shard)))
}

/// The number of the term that each id of `shard` stands for; nothing for the ids of no term.
fn term_numbers(shard: &Shard, terms: &[Ngram]) -> HashMap<u32, usize> {
    let id = |term: &Ngram| term.resolve::<u32>(shard).first().copied().filter(|&id| id < shard.separator());
    terms.iter().enumerate().filter_map(|(number, term)| Some((id(term)?, number))).collect()
}
