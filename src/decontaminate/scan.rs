//! The words of one document and where they meet the reference: seed hits, grown to exact runs.
//!
//! Pass 1 numbers the document's words (0 = in no item). Pass 2 looks every n-gram of two to four words up in the seed
//! filter; nearly all of clean text stops there. Hits are sorted by component and grown to *maximal runs*: stretches of
//! document and component whose words are equal and that cannot be extended. A run of eight words or more of a question,
//! answer or passage is always found (see `reference/index.rs`), so word-based protocols can be judged from runs alone.
//!
//! A [`Scan`] is scratch memory of one index, reused from document to document: 20 bytes per word of the longest document seen.

use crate::error::{Error, Result};
use crate::reference::{NUMBER, ReferenceIndex, SEED, SHORT_START, folded, seed_hash, words};

/// Equal words of document and component that cannot be extended on either side. Two numbers count as equal here;
/// `Scan::exact` cuts a run where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// First word in the document.
    pub document: u32,
    /// First word in the component.
    pub component: u32,
    pub words: u32,
}

/// One seed hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hit {
    pub component: u32,
    pub document: u32,
    pub position: u32,
}

/// Words whose numbers are remembered, by hash: nine of ten words of a text are among the last few thousand different ones, and
/// these fit into the second cache where the vocabulary does not.
const REMEMBERED: usize = 1 << 13;

/// Words and seed hits of one document.
#[derive(Debug, Default)]
pub struct Scan {
    pub(crate) ids: Vec<u32>,
    pub(crate) starts: Vec<u32>,
    pub(crate) ends: Vec<u32>,
    pub(crate) hits: Vec<Hit>,
    pub(super) passed: Vec<(u64, u32)>,
    pub(super) hashes: Vec<u64>,
    pub(super) remembered: Vec<(u64, u32)>,
}

impl Scan {
    /// Reads a document: fills words and hits, hits sorted by component, then by place in the document.
    ///
    /// # Errors
    /// [`Error::Limit`] for a text of 4 GiB or more.
    pub fn read(&mut self, index: &ReferenceIndex, text: &str) -> Result<()> {
        if text.len() >= u32::MAX as usize {
            return Err(Error::Limit {
                what: format!("a document of {} bytes: at most 4 GiB can be checked as one", text.len()),
                hint: Some("split the document into records".into()),
            });
        }
        self.ids.clear();
        self.starts.clear();
        self.ends.clear();
        self.hits.clear();
        self.passed.clear();
        self.hashes.clear();
        words::each_word(text, |word| {
            self.hashes.push(word.hash);
            self.starts.push(word.start);
            self.ends.push(word.end);
        });
        self.number(index, text);
        self.filter(index);
        for &(hash, document) in &self.passed {
            for posting in index.postings(hash) {
                self.hits.push(Hit { component: posting.component, document, position: posting.position });
            }
        }
        self.hits.sort_unstable();
        Ok(())
    }

    /// Numbers the words.
    fn number(&mut self, index: &ReferenceIndex, text: &str) {
        self.remembered.resize(REMEMBERED, (0, 0));
        self.ids.reserve(self.hashes.len());
        for (at, &hash) in self.hashes.iter().enumerate() {
            let known = &mut self.remembered[(hash >> 40) as usize & (REMEMBERED - 1)];
            if known.0 != hash {
                let mut id = index.word_id(hash);
                if id == 0 && is_number(&text.as_bytes()[self.starts[at] as usize..self.ends[at] as usize]) {
                    id = NUMBER;
                }
                *known = (hash, id);
            }
            self.ids.push(known.1);
        }
    }

    /// Places whose two-, three- or four-word n-gram passes the seed filter.
    fn filter(&mut self, index: &ReferenceIndex) {
        // No branch depends on the filter's memory, so that its cache misses overlap: every four-word seed is written,
        // and kept only if it passed.
        let windows = self.ids.len().saturating_sub(SEED - 1);
        self.passed.resize(windows + 1, (0, 0));
        let mut kept = 0;
        let mut short = false;
        for (at, gram) in self.ids.windows(SEED).enumerate() {
            let [a, b, c, d] = *gram else { continue };
            short |= a & SHORT_START != 0;
            let hash = seed_hash(gram);
            let known = (a != 0) & (b != 0) & (c != 0) & (d != 0);
            self.passed[kept] = (hash, at as u32);
            kept += usize::from(known & index.may_have_seed(hash));
        }
        self.passed.truncate(kept);
        let passed = &mut self.passed;
        let mut check = |at: usize, gram: &[u32]| {
            let hash = seed_hash(gram);
            if index.may_have_seed(hash) {
                passed.push((hash, at as u32));
            }
        };
        if short {
            for (at, gram) in self.ids.windows(SEED).enumerate() {
                if gram[0] & SHORT_START != 0 {
                    check(at, &gram[..2]);
                    check(at, &gram[..3]);
                }
            }
        }
        // The last words start no four-word window.
        for at in windows..self.ids.len() {
            for n in 2..=(self.ids.len() - at) {
                check(at, &self.ids[at..at + n]);
            }
        }
    }

    /// The byte range of a range of words; `words` must not be empty.
    pub fn bytes(&self, words: std::ops::Range<usize>) -> std::ops::Range<usize> {
        self.starts[words.start] as usize..self.ends[words.end - 1] as usize
    }

    /// The maximal runs behind the hits of one component, by document place.
    pub(crate) fn runs(&self, hits: &[Hit], component: &[u32], runs: &mut Vec<Run>) {
        runs.clear();
        for hit in hits {
            let (d, q) = (hit.document as usize, hit.position as usize);
            // A hit inside the previous runs on the same diagonal adds nothing.
            let known = runs.iter().rev().take(16).any(|run| {
                let offset = d as i64 - i64::from(run.document);
                offset >= 0 && offset < i64::from(run.words) && q as i64 - i64::from(run.component) == offset
            });
            if known {
                continue;
            }
            let same = |a: u32, b: u32| a == b || folded(a) == folded(b);
            let back = (1..=d.min(q)).take_while(|&k| same(self.ids[d - k], component[q - k])).count();
            let forward = self.ids[d..].iter().zip(&component[q..]).take_while(|(a, b)| same(**a, **b)).count();
            // Hash collisions of seeds end here.
            let least = component.len().min(SEED);
            if back + forward >= least {
                runs.push(Run {
                    document: (d - back) as u32,
                    component: (q - back) as u32,
                    words: (back + forward) as u32,
                });
            }
        }
        runs.sort_unstable();
        runs.dedup();
    }

    /// The parts of a run whose numbers are equal too.
    pub fn exact<'a>(&'a self, run: &Run, component: &'a [u32]) -> impl Iterator<Item = Run> + 'a {
        let (d0, q0) = (run.document, run.component);
        let equal = move |k: u32| self.ids[(d0 + k) as usize] == component[(q0 + k) as usize];
        let words = run.words;
        let mut at = 0;
        std::iter::from_fn(move || {
            while at < words && !equal(at) {
                at += 1;
            }
            let start = at;
            while at < words && equal(at) {
                at += 1;
            }
            (at > start).then_some(Run { document: d0 + start, component: q0 + start, words: at - start })
        })
    }
}

fn is_number(word: &[u8]) -> bool {
    word[0].is_ascii_digit() && word.iter().all(u8::is_ascii_digit)
}
