//! The `decon` protocol's own evidence: n-grams of cl100k tokens, weighted by inverse document frequency.
//!
//! Definition: text is lower-cased, listed punctuation becomes spaces, white space is squeezed, and the result is
//! tokenised with cl100k. Every tenth token's 5-gram is looked up among the questions'; from a hit the search goes left and
//! right until eleven n-grams in a row bring nothing new. The question's overlap is the weight of the unique n-grams
//! matched over that of all. Answer and passage are looked for after and around the question's place.
//!
//! A transformer's tokenizer reads only a few MB per second, so only documents are tokenised in which our own words
//! already match a part of the question: an overlap near decon's least useful one (.71 of the weight at its defaults)
//! cannot come without it. An item with several choices counts as decon's rows do, one per choice; the best counts.

use std::collections::{BTreeSet, HashMap, HashSet};

use rayon::prelude::*;

use super::protocol::Decon;
use crate::error::Result;
use crate::reference::{EvalItem, ReferenceIndex};
use crate::tokenize::{IdTokenizer, NamedBpe};

/// What decon finds of one item.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct DeconScore {
    /// Weighted share of unique n-grams, per component.
    pub question: f32,
    pub answer: f32,
    pub passage: f32,
    /// The combined score, scaled for short items.
    pub combined: f32,
}

/// Tokens and n-gram frequencies of all items.
pub(crate) struct DeconIndex {
    items: Vec<DeconItem>,
    question: Frequencies,
    answer: Frequencies,
    passage: Frequencies,
}

struct DeconItem {
    question: Vec<u32>,
    answers: Vec<Vec<u32>>,
    passage: Vec<u32>,
    left_out: bool,
}

/// In how many items each n-gram occurs.
struct Frequencies {
    n: usize,
    items: f32,
    counts: HashMap<u64, u32>,
}

impl Frequencies {
    fn count<'a>(n: usize, texts: impl Iterator<Item = Vec<&'a Vec<u32>>>) -> Frequencies {
        let (mut counts, mut items) = (HashMap::new(), 0);
        for tokens in texts {
            items += 1;
            let unique: BTreeSet<&[u32]> = tokens.iter().flat_map(|t| grams(t, n)).collect();
            for gram in unique {
                *counts.entry(gram_hash(gram)).or_insert(0) += 1;
            }
        }
        Frequencies { n, items: items as f32, counts }
    }

    fn weight(&self, gram: &[u32]) -> f32 {
        self.counts.get(&gram_hash(gram)).map_or(0.0, |&df| (self.items / df as f32).ln())
    }
}

fn gram_hash(gram: &[u32]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytemuck::cast_slice(gram))
}

/// n-grams of tokens; a shorter text is one n-gram.
fn grams(tokens: &[u32], n: usize) -> Vec<&[u32]> {
    match tokens.len() {
        0 => Vec::new(),
        len if len < n => vec![tokens],
        _ => tokens.windows(n).collect(),
    }
}

const PUNCTUATION: &str = "!'\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\u{201c}\u{201d}\u{2018}\u{2019}\u{2014}";

/// Text as decon tokenises it.
fn cleaned(text: &str) -> String {
    let lower: String = text.to_lowercase().chars().map(|c| if PUNCTUATION.contains(c) { ' ' } else { c }).collect();
    lower.split_whitespace().fold(String::with_capacity(lower.len() + 1), |mut out, word| {
        out.push(' ');
        out.push_str(word);
        out
    })
}

/// cl100k tokens of a text after decon's cleaning.
pub(crate) fn tokens(text: &str) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    NamedBpe::Cl100k.tokenizer()?.encode(&cleaned(text), &mut ids)?;
    Ok(ids)
}

impl DeconIndex {
    /// Tokenises all items.
    pub fn build(index: &ReferenceIndex, decon: &Decon) -> Result<DeconIndex> {
        let items = (0..index.len() as u32)
            .into_par_iter()
            .map(|i| DeconItem::new(&index.item(i)?, decon))
            .collect::<Result<Vec<_>>>()?;
        let kept = || items.iter().filter(|i| !i.left_out);
        Ok(DeconIndex {
            question: Frequencies::count(decon.n, kept().map(|i| vec![&i.question])),
            answer: Frequencies::count(decon.answer_n, kept().map(|i| i.answers.iter().collect())),
            passage: Frequencies::count(decon.passage_n, kept().map(|i| vec![&i.passage])),
            items,
        })
    }

    /// Whether the item is long enough for decon to look for it.
    pub fn has(&self, item: u32) -> bool {
        self.items.get(item as usize).is_some_and(|i| !i.left_out)
    }

    /// The best score of an item in a document's tokens; `None` when no sampled n-gram hits.
    pub fn score(&self, item: u32, document: &[u32], decon: &Decon) -> Option<DeconScore> {
        let item = self.items.get(item as usize).filter(|i| !i.left_out)?;
        let unique: BTreeSet<&[u32]> = item.question.windows(decon.n).collect();
        let total: f32 = unique.iter().map(|g| self.question.weight(g)).sum();
        if total <= 0.0 || document.len() < decon.n * 2 {
            return None;
        }
        let places = document.len() - decon.n + 1;
        let gram = |at: usize| &document[at..at + decon.n];
        let mut best: Option<DeconScore> = None;
        let mut at = 0;
        while at < places {
            if !unique.contains(gram(at)) {
                at += decon.sample.max(1);
                continue;
            }
            let mut found: BTreeSet<&[u32]> = BTreeSet::from([gram(at)]);
            let (mut first, mut last) = (at, at);
            let mut walk = |steps: &mut dyn Iterator<Item = usize>, bound: &mut usize| {
                let mut misses = 0;
                for place in steps {
                    // A known n-gram neither ends the way nor prolongs it; one that is not the question's is a miss.
                    if unique.contains(gram(place)) {
                        *bound = place;
                        if found.insert(gram(place)) {
                            misses = 0;
                        }
                    } else {
                        misses += 1;
                    }
                    if misses >= decon.misses {
                        break;
                    }
                }
            };
            walk(&mut (0..at).rev(), &mut first);
            walk(&mut (at + 1..places), &mut last);
            let question = found.iter().map(|g| self.question.weight(g)).sum::<f32>() / total;
            let end = last + decon.n - 1;
            for score in item.combined(self, document, (first, end), question, unique.len(), decon) {
                if best.is_none_or(|b| score.combined > b.combined) {
                    best = Some(score);
                }
            }
            at = (last + 1).next_multiple_of(decon.sample.max(1));
        }
        best
    }
}

impl DeconItem {
    fn new(item: &EvalItem, decon: &Decon) -> Result<DeconItem> {
        let of = |text: Option<&str>| text.map_or_else(|| Ok(Vec::new()), tokens);
        let answers = if item.choices.is_empty() {
            item.answer.iter().map(|a| tokens(a)).collect::<Result<Vec<_>>>()?
        } else {
            item.choices.iter().map(|a| tokens(a)).collect::<Result<Vec<_>>>()?
        };
        let (question, passage) = (of(item.question.as_deref())?, of(item.passage.as_deref())?);
        let longest = answers.iter().map(Vec::len).max().unwrap_or(0);
        let all = [&item.question, &item.answer, &item.passage];
        let text = all.into_iter().flatten().map(|t| cleaned(t)).collect::<String>();
        let words: HashSet<&str> = text.split_whitespace().collect();
        let left_out = question.len() < decon.n
            || question.len() + passage.len() + longest < decon.least_tokens
            || words.len() < decon.least_unique_words;
        Ok(DeconItem { question, answers, passage, left_out })
    }

    /// One score per answer (choice), or one without.
    fn combined(
        &self,
        index: &DeconIndex,
        document: &[u32],
        place: (usize, usize),
        question: f32,
        unique: usize,
        decon: &Decon,
    ) -> Vec<DeconScore> {
        let passage = if self.passage.is_empty() {
            0.0
        } else {
            let from = place.0.saturating_sub(decon.passage_distance + self.passage.len());
            let to = (place.1 + decon.passage_distance + self.passage.len()).min(document.len());
            overlap(&self.passage, &document[from..to], &index.passage)
        };
        let one = |answer: Option<&Vec<u32>>| {
            let found = answer.map_or(0.0, |a| self.answer_overlap(a, index, document, place.1 + 1, decon));
            let length = self.question.len() + self.passage.len() + answer.map_or(0, Vec::len);
            let base = weigh(
                question,
                unique,
                answer.map(|a| (found, a.len())),
                (!self.passage.is_empty()).then_some(passage),
            );
            DeconScore { question, answer: found, passage, combined: scale(base, length, decon) }
        };
        match self.answers.as_slice() {
            [] => vec![one(None)],
            answers => answers.iter().map(|a| one(Some(a))).collect(),
        }
    }

    fn answer_overlap(&self, answer: &[u32], index: &DeconIndex, document: &[u32], from: usize, decon: &Decon) -> f32 {
        if answer.is_empty() || from >= document.len() {
            return 0.0;
        }
        let window = if answer.len() <= decon.short_answer {
            decon.short_window
        } else {
            decon.long_window.max(2 * answer.len())
        };
        if answer.len() <= decon.short_answer {
            let to = (from + window + answer.len() - 1).min(document.len());
            let whole = document[from..to].windows(answer.len()).any(|w| w == answer);
            return if whole { 1.0 } else { 0.0 };
        }
        overlap(answer, &document[from..(from + window).min(document.len())], &index.answer)
    }
}

/// Weighted share of a text's unique n-grams that occur in the window.
fn overlap(text: &[u32], window: &[u32], frequencies: &Frequencies) -> f32 {
    let there: BTreeSet<&[u32]> = window.windows(frequencies.n).collect();
    let unique: BTreeSet<&[u32]> = grams(text, frequencies.n).into_iter().collect();
    let (mut found, mut total) = (0.0, 0.0);
    for gram in unique {
        let weight = frequencies.weight(gram);
        total += weight;
        found += if there.contains(gram) { weight } else { 0.0 };
    }
    if total > 0.0 { found / total } else { 0.0 }
}

/// Combines the overlaps. A question with fewer than 20 unique n-grams, or an answer under 4 tokens, gives part of its
/// weight to the other components.
fn weigh(question: f32, unique: usize, answer: Option<(f32, usize)>, passage: Option<f32>) -> f32 {
    let sure = (0.5 + unique as f32 / 40.0).min(1.0);
    let combined = match (answer, passage) {
        (Some((answer, tokens)), Some(passage)) => {
            let answer_sure = (0.5 + tokens as f32 / 8.0).min(1.0);
            let moved = 0.7 * (1.0 - sure);
            let weight = 0.2 + moved / 2.0;
            question * 0.7 * sure
                + answer * weight * answer_sure
                + passage * (0.1 + moved / 2.0 + weight * (1.0 - answer_sure))
        }
        (Some((answer, _)), None) => question * 0.75 * sure + answer * (0.25 + 0.75 * (1.0 - sure)),
        (None, Some(passage)) => question * 0.85 * sure + passage * (0.15 + 0.85 * (1.0 - sure)),
        (None, None) => question,
    };
    combined.min(1.0)
}

/// Scales a score so that the fixed threshold stands for the stricter one of short items; 1 stays 1.
fn scale(score: f32, tokens: usize, decon: &Decon) -> f32 {
    let (start, end) = (decon.perfect_start as f32, decon.perfect_end as f32);
    let share = if end > start { ((tokens as f32 - start) / (end - start)).clamp(0.0, 1.0) } else { 1.0 };
    let required = 1.0 - (1.0 - decon.threshold) * share;
    if required <= decon.threshold || score >= 1.0 { score } else { score * decon.threshold / required }
}

impl std::fmt::Debug for DeconIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeconIndex").field("items", &self.items.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_the_definition() {
        // Long question, answer without passage: .75 and .25.
        assert!((weigh(1.0, 30, Some((0.0, 9)), None) - 0.75).abs() < 1e-6);
        assert!((weigh(1.0, 30, Some((1.0, 9)), Some(0.0)) - 0.9).abs() < 1e-6);
        assert!((weigh(1.0, 30, None, Some(0.0)) - 0.85).abs() < 1e-6);
        assert_eq!(weigh(0.6, 3, None, None), 0.6);
        // 10 unique n-grams: the question keeps .75 of its weight, .5625; the answer gets the rest.
        assert!((weigh(1.0, 10, Some((0.0, 9)), None) - 0.5625).abs() < 1e-6);
    }

    #[test]
    fn short_items_need_a_perfect_match() {
        let decon = Decon::default();
        assert_eq!(scale(1.0, 10, &decon), 1.0);
        assert!(scale(0.99, 10, &decon) < 0.8);
        // 35 tokens: half way, .9 is required.
        assert!((scale(0.9, 35, &decon) - 0.8).abs() < 1e-6);
        assert_eq!(scale(0.8, 50, &decon), 0.8);
    }

    #[test]
    fn cleaning_lowers_and_squeezes() {
        assert_eq!(cleaned("  Don't  STOP—now!\n(ok) "), " don t stop now ok");
    }
}
