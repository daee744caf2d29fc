//! Exact evidence beside a semantic score: longest span, coverage, creativity index, n-novelty, verbatim memorisation.
//!
//! All of it follows from the longest match at each token of the index's own token stream. A text whose source document is left out
//! is matched against everything but that document: a match counts when it occurs more often in the corpus than in the document, and
//! because that stays true for every shorter prefix, the longest one is found by bisection.

use std::collections::HashMap;

use crate::error::Result;
use crate::index::{DocumentRef, Snapshot};
use crate::query::{Ngram, TokenizedText, metrics};

/// Tokens of a span that counts as verbatim memorisation.
pub const VERBATIM: usize = 50;

/// n of the n-novelty curve.
pub const NOVELTY: [usize; 15] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 13, 20, 30, 50, 75, 100];

/// What exact search says of a text.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Evidence {
    /// Tokens of the index's token stream.
    pub tokens: usize,
    /// Tokens of the longest match.
    pub longest_span: usize,
    /// coverage_L as [L, share].
    pub coverage: Vec<(usize, f64)>,
    /// Σ (1 − coverage_L), L = 5…12.
    pub creativity_index: f64,
    /// Share of n-grams absent from the corpus, as [n, share].
    pub n_novelty: Vec<(usize, f64)>,
    /// Whether a match of at least [`VERBATIM`] tokens exists.
    pub verbatim: bool,
    /// Share of tokens in such matches.
    pub verbatim_share: f64,
    /// The largest BLEU of 50 tokens against 50 tokens of the nearest passages ([`super::bleu`]): above 0.75 approximately memorised.
    /// `None` for a shorter text.
    #[serde(default)]
    pub bleu: Option<f64>,
}

impl Evidence {
    /// From the longest match at each token.
    pub fn of(longest: &[usize]) -> Evidence {
        let longest_span = longest.iter().copied().max().unwrap_or(0);
        Evidence {
            tokens: longest.len(),
            longest_span,
            coverage: [5, 8, 13, 20, 50].iter().map(|&l| (l, metrics::coverage(longest, l))).collect(),
            creativity_index: metrics::creativity_index(longest, 5..=12),
            n_novelty: NOVELTY.iter().filter_map(|&n| Some((n, metrics::n_novelty(longest, n)?))).collect(),
            verbatim: longest_span >= VERBATIM,
            verbatim_share: metrics::coverage(longest, VERBATIM),
            bleu: None,
        }
    }

    /// Share of the text's 3-grams that the corpus does not have; `None` for a text of fewer tokens. It tells texts apart that late
    /// interaction does not: words of the corpus in no order that anybody writes have hardly a 3-gram in it.
    pub fn absent(&self) -> Option<f64> {
        self.n_novelty.iter().find(|e| e.0 == 3).map(|e| e.1)
    }

    /// Whether some 50 tokens nearly equal 50 tokens of the corpus.
    pub fn memorised(&self) -> bool {
        self.verbatim || self.bleu.is_some_and(|b| b > super::bleu::MEMORISED)
    }

    /// coverage_8, the share of tokens with exact evidence.
    pub fn coverage_8(&self) -> f64 {
        self.coverage.iter().find(|c| c.0 == 8).map_or(0.0, |c| c.1)
    }
}

/// Longest match at each token, in all documents but `left_out`.
pub fn longest(snapshot: &Snapshot, text: &TokenizedText, left_out: &[DocumentRef]) -> Result<Vec<usize>> {
    let mut best = snapshot.longest_matches(&text.tokens);
    if left_out.is_empty() {
        return Ok(best);
    }
    let own = left_out.iter().map(|&d| snapshot.ngram(&snapshot.document(d)?.text)).collect::<Result<Vec<Ngram>>>()?;
    match &text.tokens {
        Ngram::Ids(ids) => {
            let own: Vec<&[u32]> =
                own.iter().filter_map(|n| if let Ngram::Ids(v) = n { Some(v.as_slice()) } else { None }).collect();
            without(snapshot, &text.tokens, ids, &own, &mut best);
        }
        Ngram::Terms(terms) => {
            let own: Vec<&[String]> =
                own.iter().filter_map(|n| if let Ngram::Terms(v) = n { Some(v.as_slice()) } else { None }).collect();
            without(snapshot, &text.tokens, terms, &own, &mut best);
        }
    }
    Ok(best)
}

fn without<T: Eq + std::hash::Hash>(
    snapshot: &Snapshot,
    ngram: &Ngram,
    tokens: &[T],
    own: &[&[T]],
    best: &mut [usize],
) {
    let mut starts: HashMap<&T, Vec<(usize, usize)>> = HashMap::new();
    for (d, document) in own.iter().enumerate() {
        for (i, t) in document.iter().enumerate() {
            starts.entry(t).or_default().push((d, i));
        }
    }
    for left in 0..tokens.len() {
        // How far each occurrence in the left-out documents agrees with the text.
        let agree: Vec<usize> = starts.get(&tokens[left]).map_or_else(Vec::new, |at| {
            at.iter()
                .map(|&(d, i)| {
                    own[d][i..].iter().zip(&tokens[left..left + best[left]]).take_while(|(a, b)| a == b).count()
                })
                .collect()
        });
        let elsewhere = |n: usize| {
            let inside = agree.iter().filter(|&&a| a >= n).count() as u64;
            inside == 0 || snapshot.count(&ngram.slice(left..left + n)) > inside
        };
        let (mut low, mut high) = (0, best[left]);
        while low < high {
            let middle = (low + high).div_ceil(2);
            if elsewhere(middle) { low = middle } else { high = middle - 1 }
        }
        best[left] = low;
    }
}
