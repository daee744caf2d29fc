//! Every kind of query for many at once, in order, on all threads of the current rayon pool: [`Snapshot::counts`] for what is not a
//! count.
//!
//! They cost what they cost alone, divided by the threads; only counts overlap their cache misses besides.

use rayon::prelude::*;

use super::Ngram;
use super::boolean::{BooleanCount, Expression};
use super::find::{FindOptions, Found};
use super::next::{Distribution, Probability};
use super::trace::{Trace, TraceOptions};
use crate::error::Result;
use crate::index::Snapshot;

impl Snapshot {
    /// [`find`](Self::find) of each n-gram.
    pub fn finds(&self, ngrams: &[Ngram], options: &FindOptions) -> Result<Vec<Found>> {
        ngrams.par_iter().map(|n| self.find(n, options)).collect()
    }

    /// [`boolean_count`](Self::boolean_count) of each expression.
    pub fn boolean_counts(&self, expressions: &[Expression], window: Option<usize>) -> Result<Vec<BooleanCount>> {
        expressions.par_iter().map(|e| self.boolean_count(e, window)).collect()
    }

    /// [`boolean_find`](Self::boolean_find) of each expression.
    pub fn boolean_finds(
        &self,
        expressions: &[Expression],
        window: Option<usize>,
        options: &FindOptions,
    ) -> Result<Vec<Found>> {
        expressions.par_iter().map(|e| self.boolean_find(e, window, options)).collect()
    }

    /// [`next`](Self::next) of each prompt.
    pub fn nexts(&self, prompts: &[Ngram], top_k: usize) -> Vec<Distribution> {
        prompts.par_iter().map(|p| self.next(p, top_k)).collect()
    }

    /// [`infgram_next`](Self::infgram_next) of each prompt.
    pub fn infgram_nexts(&self, prompts: &[Ngram], top_k: usize) -> Vec<Distribution> {
        prompts.par_iter().map(|p| self.infgram_next(p, top_k)).collect()
    }

    /// [`probability`](Self::probability) of each token (an n-gram of one) after its prompt.
    pub fn probabilities(&self, pairs: &[(Ngram, Ngram)]) -> Vec<Option<Probability>> {
        pairs.par_iter().map(|(prompt, token)| self.probability(prompt, token)).collect()
    }

    /// [`infgram_probability`](Self::infgram_probability) of each token (an n-gram of one) after its prompt.
    pub fn infgram_probabilities(&self, pairs: &[(Ngram, Ngram)]) -> Vec<Option<Probability>> {
        pairs.par_iter().map(|(prompt, token)| self.infgram_probability(prompt, token)).collect()
    }

    /// [`trace`](Self::trace) of each text.
    pub fn traces<T: AsRef<str> + Sync>(&self, texts: &[T], options: &TraceOptions) -> Result<Vec<Trace>> {
        texts.par_iter().map(|text| self.trace(text.as_ref(), options)).collect()
    }
}
