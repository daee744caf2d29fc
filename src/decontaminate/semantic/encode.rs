//! Token states of windows and items, a bounded store of the items', and the background that z-scores are against.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::measure::{Measures, Weighted};
use super::sieve::{Sieve, item_text};
use super::terms::{Term, terms_of};
use crate::embed::late::TokenMatrix;
use crate::embed::{Encoder, EncoderSpec};
use crate::error::Result;
use crate::reference::ReferenceIndex;
use crate::tokenize::ByteSpan;

/// Items whose vectors are kept.
const KEPT: usize = 512;
/// Items of the background.
const BACKGROUND: usize = 128;

/// Sentences of several kinds of text: the background where a reference set is small.
const SENTENCES: [&str; 24] = [
    "The option sets how many seconds the server waits before it closes an idle connection.",
    "Returns a pointer to the first element, or NULL when the list is empty.",
    "A farmer has twelve sheep and sells a third of them at the market; how many are left?",
    "Which of the following was a consequence of the peace treaty?",
    "The enzyme binds to its substrate and lowers the energy that the reaction needs.",
    "She closed the door behind her and walked down to the river without a word.",
    "Fixed a crash that occurred when a file name contained a percent sign.",
    "Find the value of x for which the two expressions are equal.",
    "def area(width, height): return width * height",
    "for (int i = 0; i < n; i++) { sum += values[i]; }",
    "A contract is void if one of the parties was forced to sign it.",
    "The theory holds that people act according to the roles that society gives them.",
    "Copyright holders grant permission to use, copy and modify this software.",
    "A train leaves the station at nine and travels at eighty miles an hour for three hours.",
    "In the northern provinces the harvest failed for the third year in a row.",
    "The patient was given a lower dose because of a history of heart disease.",
    "What is the capital of the country with the longest coast?",
    "The band released its second album in the spring and toured until winter.",
    "Write a function that takes a list of strings and returns the longest one.",
    "Interest rates rise when the central bank sells bonds.",
    "Light of a shorter wavelength is bent more strongly by the prism.",
    "Stir in the flour, add two eggs and bake for half an hour.",
    "The parliament was dissolved and new elections were held within sixty days.",
    "See the section on installation for the list of supported platforms.",
];

/// A text encoded.
#[derive(Debug)]
pub struct Encoded {
    /// Mean of the token states, of unit length.
    pub pooled: Vec<f32>,
    states: Vec<f32>,
    spans: Vec<ByteSpan>,
}

/// An item encoded, and what the background has in common with it.
#[derive(Debug)]
pub struct ItemVectors {
    pub text: Encoded,
    mean: f32,
    deviation: f32,
}

/// The encoder and what it has encoded.
pub struct Vectors {
    encoder: Box<dyn Encoder>,
    /// Pooled vectors; the number of the item each is of.
    background: Vec<(Option<u32>, Vec<f32>)>,
    items: Mutex<HashMap<u32, Arc<ItemVectors>>>,
}

impl Vectors {
    pub fn new(index: &ReferenceIndex, encoder: Box<dyn Encoder>) -> Result<Vectors> {
        let mut vectors = Vectors { encoder, background: Vec::new(), items: Mutex::default() };
        let n = index.len().min(BACKGROUND);
        let chosen: Vec<u32> = (0..n).map(|i| (i * index.len() / n) as u32).collect();
        let mut texts: Vec<&str> = chosen.iter().map(|&i| item_text(index, i)).collect();
        texts.extend(SENTENCES);
        let encoded = vectors.texts(&texts)?;
        let numbers = chosen.into_iter().map(Some).chain(std::iter::repeat(None));
        vectors.background = numbers.zip(encoded).map(|(number, e)| (number, e.pooled)).collect();
        Ok(vectors)
    }

    pub fn spec(&self) -> &EncoderSpec {
        self.encoder.spec()
    }

    /// Encodes texts; of a text longer than the encoder takes, the beginning.
    pub fn texts(&self, texts: &[&str]) -> Result<Vec<Encoded>> {
        let room = self.encoder.max_window();
        let mut tokens = texts.iter().map(|t| self.encoder.tokenize(t)).collect::<Result<Vec<_>>>()?;
        for t in &mut tokens {
            t.ids.truncate(room);
            t.spans.truncate(room);
        }
        let windows: Vec<&[u32]> = tokens.iter().map(|t| t.ids.as_slice()).collect();
        let states = self.encoder.token_states(&windows)?;
        let mut out = Vec::with_capacity(texts.len());
        for (i, t) in tokens.into_iter().enumerate() {
            let own = states.view(i);
            let mut pooled = vec![0.0f32; states.dim];
            for row in 0..own.len() {
                pooled.iter_mut().zip(own.row(row)).for_each(|(p, x)| *p += x);
            }
            let length = pooled.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
            pooled.iter_mut().for_each(|x| *x /= length);
            out.push(Encoded { pooled, states: own.data.to_vec(), spans: t.spans });
        }
        Ok(out)
    }

    /// Vectors of these items, encoded where they are not kept.
    pub fn items(&self, index: &ReferenceIndex, wanted: &[u32]) -> Result<HashMap<u32, Arc<ItemVectors>>> {
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let mut out = HashMap::new();
        if let Ok(kept) = self.items.lock() {
            for &item in &wanted {
                if let Some(vectors) = kept.get(&item) {
                    out.insert(item, vectors.clone());
                }
            }
        }
        wanted.retain(|item| !out.contains_key(item));
        let texts: Vec<&str> = wanted.iter().map(|&item| item_text(index, item)).collect();
        for (item, text) in wanted.into_iter().zip(self.texts(&texts)?) {
            let (mean, deviation) = self.against_background(&text.pooled, Some(item));
            out.insert(item, Arc::new(ItemVectors { text, mean, deviation }));
        }
        if let Ok(mut kept) = self.items.lock() {
            if kept.len() + out.len() > KEPT {
                kept.clear();
            }
            kept.extend(out.iter().take(KEPT).map(|(&item, vectors)| (item, vectors.clone())));
        }
        Ok(out)
    }

    /// Mean and deviation of the background's cosines with a vector, an item itself left out.
    fn against_background(&self, pooled: &[f32], item: Option<u32>) -> (f32, f32) {
        let others = self.background.iter().filter(|(number, _)| number.is_none() || *number != item);
        let cosines: Vec<f32> = others.map(|(_, other)| dot(pooled, other)).collect();
        let mean = cosines.iter().sum::<f32>() / cosines.len().max(1) as f32;
        let variance = cosines.iter().map(|c| (c - mean).powi(2)).sum::<f32>() / cosines.len().max(1) as f32;
        (mean, variance.sqrt().max(0.02))
    }

    /// Measures item and window; `rivals` are the other items at this place.
    #[allow(clippy::too_many_arguments)]
    pub fn measure(
        &self,
        index: &ReferenceIndex,
        sieve: &Sieve,
        items: &HashMap<u32, Arc<ItemVectors>>,
        item: u32,
        rivals: &[u32],
        text: &str,
        window: &Encoded,
    ) -> Measures {
        let Some(own) = items.get(&item) else { return Measures::default() };
        let own_text = item_text(index, item);
        let cosine = dot(&own.text.pooled, &window.pooled);
        let (mean, deviation) = self.against_background(&window.pooled, Some(item));
        // An item that is the same text under another number is no rival.
        let others = rivals.iter().filter(|&&r| r != item).filter_map(|r| items.get(r));
        let others = others.filter(|r| dot(&r.text.pooled, &own.text.pooled) < 0.97);
        let best = others.map(|r| dot(&r.text.pooled, &window.pooled)).fold(mean, f32::max);
        let mut out = Measures {
            cosine,
            margin: cosine - best,
            item_z: (cosine - own.mean) / own.deviation,
            window_z: (cosine - mean) / deviation,
            ..Measures::default()
        };
        let (item_terms, window_terms) = (terms_of(own_text), terms_of(text));
        out.terms(sieve, item, (own_text, &item_terms), (text, &window_terms));
        let dim = own.text.pooled.len();
        let mine = weights(sieve, own_text, &item_terms, &own.text.spans);
        let theirs = weights(sieve, text, &window_terms, &window.spans);
        let side = |states, weights| Weighted { states: TokenMatrix { dim, data: states }, weights };
        out.late(side(&own.text.states, &mine), side(&window.states, &theirs), &mut Vec::new());
        out
    }
}

/// A weight for every encoder token: of the term it lies in; punctuation counts next to nothing.
fn weights(sieve: &Sieve, text: &str, terms: &[Term], spans: &[ByteSpan]) -> Vec<f32> {
    let mut next = 0;
    spans
        .iter()
        .map(|span| {
            while next < terms.len() && terms[next].end <= span.start {
                next += 1;
            }
            match terms.get(next) {
                Some(term) if term.start < span.end => sieve.weight(text, term),
                _ => 0.05,
            }
        })
        .collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
