//! What an item and a window have in common: the measures the rules judge by.

use super::sieve::{Overlap, Sieve};
use super::terms::{Kind, Term};
use crate::embed::late::{PackedQuery, TokenMatrix};

/// Number of features of a rule.
pub const FEATURES: usize = 17;

/// Number of features of the second look, which has no encoder.
pub const LOOK: usize = 11;

/// Names of the features, in order.
pub const NAMES: [&str; FEATURES] = [
    "cosine",
    "maxsim of the item",
    "maxsim of the window",
    "margin",
    "z of the item",
    "z of the window",
    "recall",
    "precision",
    "numbers of the item missing",
    "numbers of the window missing",
    "numbers shared",
    "names missing",
    "log terms of the item",
    "log length ratio",
    "cosine x log terms",
    "recall x log terms",
    "weakest token",
];

/// Agreement of an item and a window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Measures {
    /// Cosine of the mean token states.
    pub cosine: f32,
    /// Late interaction, the item's tokens looked for in the window, and the reverse; rare tokens count more.
    pub item_maxsim: f32,
    pub window_maxsim: f32,
    /// Mean of the worst-matched quarter of the item's tokens.
    pub weakest: f32,
    /// Cosine less the best rival's at this place.
    pub margin: f32,
    /// Standard deviations of the cosine above what other items have with this item, and with this window.
    pub item_z: f32,
    pub window_z: f32,
    /// Weight of the terms in common over the item's and over the window's.
    pub recall: f32,
    pub precision: f32,
    /// Numbers of the item that the window lacks, of the window that the item lacks, and in common (distinct values).
    pub item_numbers_missing: u32,
    pub window_numbers_missing: u32,
    pub numbers_shared: u32,
    /// Share of the item's names (capitalised words within sentences) that the window lacks.
    pub names_missing: f32,
    pub item_terms: u32,
    pub window_terms: u32,
    /// Whether the window asks something: it has a question mark, or ends in a colon, dots or a blank to fill.
    pub asks: bool,
}

impl Measures {
    /// The vector a rule weighs; see [`NAMES`].
    pub fn features(&self) -> [f32; FEATURES] {
        let size = (self.item_terms.max(1) as f32).ln();
        let ratio = ((self.window_terms + 1) as f32 / (self.item_terms + 1) as f32).ln();
        let count = |n: u32| (1.0 + n as f32).ln();
        [
            self.cosine,
            self.item_maxsim,
            self.window_maxsim,
            self.margin,
            self.item_z,
            self.window_z,
            self.recall,
            self.precision,
            count(self.item_numbers_missing),
            count(self.window_numbers_missing),
            count(self.numbers_shared),
            self.names_missing,
            size,
            ratio,
            self.cosine * size,
            self.recall * size,
            self.weakest,
        ]
    }

    /// The vector that the second look weighs: the first look's logit, and what needs no encoder.
    pub fn look(&self, first: f32) -> [f32; LOOK] {
        let f = self.features();
        let asks = f32::from(u8::from(self.asks));
        [first, f[6], f[7], f[8], f[9], f[10], f[11], f[12], f[13], f[15], asks]
    }

    /// Takes in what needs no encoder; the item's text and the window, each with its terms.
    pub fn terms(&mut self, sieve: &Sieve, item: u32, own: (&str, &[Term]), window: (&str, &[Term])) {
        self.overlap(sieve.overlap(item, window.0, window.1), sieve.size(item).0);
        self.entities(own, window.1);
        self.asks(window.0);
    }

    /// Takes in the shared terms.
    pub fn overlap(&mut self, overlap: Overlap, item_terms: u32) {
        self.recall = overlap.recall;
        self.precision = overlap.precision;
        self.window_terms = overlap.terms;
        self.item_terms = item_terms;
    }

    /// Takes in whether a window asks.
    pub fn asks(&mut self, window: &str) {
        let end = window.trim_end();
        self.asks = window.contains('?') || [":", "...", "…", "_"].iter().any(|tail| end.ends_with(tail));
    }

    /// Takes in numbers and names; terms of both texts.
    pub fn entities(&mut self, item: (&str, &[Term]), window: &[Term]) {
        let numbers = |terms: &[Term]| {
            let mut keys: Vec<u64> =
                terms.iter().filter(|t| matches!(t.kind, Kind::Number(_))).map(|t| t.key).collect();
            keys.sort_unstable();
            keys.dedup();
            keys
        };
        let (mine, theirs) = (numbers(item.1), numbers(window));
        let shared = mine.iter().filter(|k| theirs.binary_search(k).is_ok()).count();
        self.numbers_shared = shared as u32;
        self.item_numbers_missing = (mine.len() - shared) as u32;
        self.window_numbers_missing = (theirs.len() - shared) as u32;
        let mut names = names(item.0, item.1);
        names.sort_unstable();
        names.dedup();
        let missing = names.iter().filter(|&&k| !window.iter().any(|t| t.key == k)).count();
        self.names_missing = if names.is_empty() { 0.0 } else { missing as f32 / names.len() as f32 };
    }

    /// Takes in late interaction of the two texts' token states, weighted.
    pub fn late(&mut self, item: Weighted<'_>, window: Weighted<'_>, scratch: &mut Vec<f32>) {
        let best = PackedQuery::new(item.states).best(window.states, scratch).to_vec();
        self.item_maxsim = mean(&best, item.weights);
        let mut sorted = best;
        sorted.sort_by(f32::total_cmp);
        let quarter = (sorted.len() / 4).max(1).min(sorted.len());
        self.weakest = if quarter == 0 { 0.0 } else { sorted[..quarter].iter().sum::<f32>() / quarter as f32 };
        let best = PackedQuery::new(window.states).best(item.states, scratch);
        self.window_maxsim = mean(best, window.weights);
    }
}

/// Token states with a weight a token.
#[derive(Debug, Clone, Copy)]
pub struct Weighted<'a> {
    pub states: TokenMatrix<'a>,
    pub weights: &'a [f32],
}

fn mean(values: &[f32], weights: &[f32]) -> f32 {
    let sum: f32 = weights.iter().sum();
    if values.is_empty() || sum <= 0.0 {
        return 0.0;
    }
    values.iter().zip(weights).map(|(v, w)| v * w).sum::<f32>() / sum
}

/// Terms of capitalised words that do not begin a sentence.
fn names(text: &str, terms: &[Term]) -> Vec<u64> {
    let named = |t: &&Term| {
        let inside = t.kind == Kind::Word && text[t.start as usize..].starts_with(char::is_uppercase);
        let before = text[..t.start as usize].trim_end();
        inside && !before.is_empty() && !before.ends_with(['.', '?', '!', ':', '"', '“'])
    };
    terms.iter().filter(named).map(|t| t.key).collect()
}
