//! Co-occurrence: for pairs of phrases, how often both stand in one document, and how near. Exact, for many pairs at once.
//!
//! - *Documents* of a pair: those that contain both phrases. A phrase paired with itself co-occurs in every document that contains it.
//! - *Within w*: the occurrences of the rarer phrase (the first, if both are equally frequent) that have an occurrence of the other so near
//!   that both lie inside w consecutive tokens of one document; and the documents in which that happens.
//!
//! These are the counts of [`super::boolean`] for an AND of two phrases; here the places of a phrase are listed once for all its pairs, and
//! pairs are compared by walking two sorted lists.
//!
//! Cost: listing the places of every distinct phrase (a few reads an occurrence), then time linear in both lists a pair, on all threads.
//! Memory: 8 bytes an occurrence of the phrases held, at most [`HELD`] occurrences besides those of the pairs at work.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rayon::prelude::*;

use super::Ngram;
use super::find::Group;
use crate::error::{Error, Result};
use crate::index::{DocumentRef, Snapshot};
use crate::with_view;

/// Occurrences whose places are kept for later pairs.
pub const HELD: usize = 1 << 25;

/// How often a pair co-occurs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Cooccurrence {
    /// Occurrences of each phrase.
    pub counts: [u64; 2],
    /// Documents that contain each phrase.
    pub documents: [u64; 2],
    /// Documents that contain both.
    pub both: u64,
    /// For each window asked for, in its order.
    pub windows: Vec<WindowCount>,
    /// Always false: all numbers are exact.
    pub approximate: bool,
}

/// Co-occurrence within a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct WindowCount {
    /// Tokens of the window.
    pub tokens: usize,
    /// Occurrences of the rarer phrase that have the other within the window.
    pub count: u64,
    /// Documents in which that happens.
    pub documents: u64,
}

/// The places of a phrase: documents in order, each with the starts of its occurrences in it.
type Places = Vec<(DocumentRef, Vec<u32>)>;

impl Snapshot {
    /// The co-occurrence of each pair, in order, for each of `windows` (in tokens).
    ///
    /// # Errors
    /// A phrase without tokens; a window of none.
    pub fn cooccurrences(&self, pairs: &[[Ngram; 2]], windows: &[usize]) -> Result<Vec<Cooccurrence>> {
        if windows.contains(&0) {
            return Err(Error::invalid("a window has at least one token"));
        }
        let mut uses: HashMap<&Ngram, usize> = HashMap::new();
        for (number, pair) in pairs.iter().enumerate() {
            if pair.iter().any(Ngram::is_empty) {
                return Err(Error::invalid_hint(
                    format!("pair {}: a phrase has no tokens", number + 1),
                    "the index's tokenizer finds no token in it; leave the pair out",
                ));
            }
            for phrase in pair {
                *uses.entry(phrase).or_default() += 1;
            }
        }
        let held: Mutex<(HashMap<&Ngram, Arc<Places>>, usize)> = Mutex::new((HashMap::new(), 0));
        let places = |phrase| -> Arc<Places> {
            if let Ok(held) = held.lock()
                && let Some(known) = held.0.get(phrase)
            {
                return known.clone();
            }
            let found = Arc::new(self.places(phrase));
            let size: usize = found.iter().map(|(_, starts)| starts.len() + 4).sum();
            if uses.get(phrase).is_some_and(|&n| n > 1)
                && let Ok(mut held) = held.lock()
                && held.1 + size <= HELD
                && held.0.insert(phrase, found.clone()).is_none()
            {
                held.1 += size;
            }
            found
        };
        Ok(pairs
            .par_iter()
            .map(|pair| {
                let [a, b] = [places(&pair[0]), places(&pair[1])];
                compare(&a, &b, [pair[0].len(), pair[1].len()], windows)
            })
            .collect())
    }

    fn places(&self, phrase: &Ngram) -> Places {
        let mut out = Vec::new();
        for (number, shard) in self.shards.iter().enumerate() {
            let positions = with_view!(shard.exact, v => {
                v.interval(&phrase.resolve(shard)).map(|rank| v.place(rank, phrase.len()) as u64).collect()
            });
            let mut groups: Vec<Group> = Vec::new();
            self.group(number, positions, phrase.len(), &mut groups);
            // A document has fewer than 2^32 tokens, as a shard has.
            out.extend(groups.into_iter().map(|g| (g.document, g.ranges.iter().map(|r| r.start as u32).collect())));
        }
        out
    }
}

fn compare(a: &Places, b: &Places, lengths: [usize; 2], windows: &[usize]) -> Cooccurrence {
    let count = |places: &Places| places.iter().map(|(_, starts)| starts.len() as u64).sum::<u64>();
    let counts = [count(a), count(b)];
    let mut both = 0;
    let mut found: Vec<WindowCount> =
        windows.iter().map(|&tokens| WindowCount { tokens, count: 0, documents: 0 }).collect();
    // The rarer one is the anchor.
    let swap = counts[1] < counts[0];
    let (mut i, mut j) = (0, 0);
    while let (Some((da, xs)), Some((db, ys))) = (a.get(i), b.get(j)) {
        match da.cmp(db) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                both += 1;
                for w in &mut found {
                    let n = match swap {
                        false => near(xs, ys, lengths[0], lengths[1], w.tokens),
                        true => near(ys, xs, lengths[1], lengths[0], w.tokens),
                    };
                    w.count += n;
                    w.documents += u64::from(n > 0);
                }
                i += 1;
                j += 1;
            }
        }
    }
    let documents = [a.len() as u64, b.len() as u64];
    Cooccurrence { counts, documents, both, windows: found, approximate: false }
}

/// How many of the occurrences `xs` (of `x` tokens) have one of `ys` (of `y` tokens) within `w` tokens. Both lists rise.
fn near(xs: &[u32], ys: &[u32], x: usize, y: usize, w: usize) -> u64 {
    let mut n = 0;
    let mut next = 0;
    for &at in xs {
        let at = at as usize;
        while ys.get(next).is_some_and(|&q| (q as usize) < at) {
            next += 1;
        }
        // The nearest on either side span the least.
        let spans = |other: u32| {
            let other = other as usize;
            (at + x).max(other + y) - at.min(other) <= w
        };
        let before = next.checked_sub(1).and_then(|i| ys.get(i)).is_some_and(|&q| spans(q));
        n += u64::from(before || ys.get(next).is_some_and(|&q| spans(q)));
    }
    n
}
