//! The semantic column: eval items said in other words, and solutions rewritten, in two stages.
//!
//! - `terms.rs`, `sieve.rs`: the first stage reads every document and discards nearly all of it without an encoder.
//! - `window.rs` cuts the text around a candidate to the item's length; `encode.rs` gives token states of windows and items;
//!   `measure.rs` measures agreement; `rule.rs` turns it into a confidence.
//! - `code.rs` compares programs whatever their names and language: the code column.
//!
//! Useful for: paraphrases of questions, problems restated with a translated or renamed solution. Not useful for: copies, which
//! the lexical protocols find with certainty, and translations into another natural language.
//!
//! A verdict's *confidence* is the probability that the rule gives, calibrated on labelled pairs: see `rule.rs`.

mod code;
mod encode;
mod lexer;
mod measure;
mod rule;
mod sieve;
mod terms;
mod window;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use rayon::prelude::*;

pub use code::{CodeScratch, Programs, Structure};
pub use lexer::is_known;
pub use measure::{FEATURES, LOOK, Measures, NAMES};
pub use rule::Rule;
pub use sieve::{Candidate, Sieve};

use self::encode::Vectors;
use crate::embed::Encoder;
use crate::error::Result;
use crate::reference::{ComponentKind, ReferenceIndex};

/// Windows of one round of the encoder: bounds its memory.
const ROUND: usize = 64;
/// Items compared with one window.
const ITEMS: usize = 6;
/// Findings below this are not told.
const LEAST_CONFIDENCE: f32 = 0.2;
/// Rivals of an item at one place.
const RIVALS: usize = 6;
/// How far below the first look's bound a rival may be.
const FAR_BELOW: f32 = 1.0;

/// An item and a window of a document, measured.
#[derive(Debug, Clone)]
pub struct Pair {
    pub item: u32,
    /// Bytes of the document.
    pub window: Range<usize>,
    /// What the sieve found.
    pub candidate: Candidate,
    pub measures: Measures,
    /// Whether the item is a program: then the code column judges.
    pub program: bool,
}

/// What a column has found of one item: evidence that its protocol judges.
#[derive(Debug, Clone, PartialEq)]
pub struct Meaning {
    /// Probability that the place says what the item says.
    pub confidence: f32,
    /// Bytes of the document.
    pub place: Range<usize>,
    /// Which rule gave the confidence: `paraphrase`, `rewritten` or `renamed`.
    pub rule: &'static str,
    /// The component that is said again.
    pub component: ComponentKind,
}

/// What the columns have found of one item in one document.
#[derive(Debug, Clone, PartialEq)]
pub struct SemanticFinding {
    pub item: u32,
    /// Prose said in other words.
    pub semantic: Option<Meaning>,
    /// Programs rewritten.
    pub code: Option<Meaning>,
}

/// What the first stage let through.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Sieved {
    pub text_bytes: u64,
    /// Distinct bytes of windows that went to the encoder.
    pub encoded_bytes: u64,
    pub windows: u64,
}

/// Judges documents by meaning. Shared by threads.
pub struct Semantic {
    index: Arc<ReferenceIndex>,
    sieve: Sieve,
    vectors: Vectors,
    programs: Programs,
    /// By item.
    is_program: Vec<bool>,
    pool: Mutex<Vec<sieve::Scratch>>,
    code_pool: Mutex<Vec<code::CodeScratch>>,
    sieved: Mutex<Sieved>,
}

/// A candidate looked at a second time.
#[derive(Debug, Clone)]
pub struct Looked {
    pub candidate: Candidate,
    /// Bytes of the document that would go to the encoder.
    pub window: Range<usize>,
    /// Those that need no encoder.
    pub measures: Measures,
    /// Logit of the second look.
    pub score: f32,
}

/// A window with the items it is compared with.
struct Place {
    text: usize,
    window: Range<usize>,
    candidates: Vec<Candidate>,
    rivals: Vec<u32>,
}

impl Semantic {
    /// Prepares the reference for the first stage and, with the encoder, a background of texts to compare with.
    pub fn new(index: Arc<ReferenceIndex>, encoder: Box<dyn Encoder>) -> Result<Semantic> {
        let sieve = Sieve::build(&index)?;
        let vectors = Vectors::new(&index, encoder)?;
        let programs = Programs::build(&index);
        let is_program = (0..index.len() as u32).map(|i| code::is_program(sieve::item_text(&index, i))).collect();
        Ok(Semantic {
            index,
            sieve,
            vectors,
            programs,
            is_program,
            pool: Mutex::default(),
            code_pool: Mutex::default(),
            sieved: Mutex::default(),
        })
    }

    /// The first stage alone.
    pub fn sieve(&self) -> &Sieve {
        &self.sieve
    }

    /// The items.
    pub fn index(&self) -> &Arc<ReferenceIndex> {
        &self.index
    }

    /// Name and sha256 of the encoder.
    pub fn encoder(&self) -> &crate::embed::EncoderSpec {
        self.vectors.spec()
    }

    /// What the first stage has let through so far.
    pub fn sieved(&self) -> Sieved {
        self.sieved.lock().map(|s| *s).unwrap_or_default()
    }

    /// What the columns find in `text`, by item number: everything with a confidence of at least 0.2.
    ///
    /// # Errors
    /// The encoder fails.
    pub fn judge(&self, text: &str) -> Result<Vec<SemanticFinding>> {
        let mut best: BTreeMap<u32, SemanticFinding> = BTreeMap::new();
        let mut put = |item: u32, code: bool, meaning: Meaning| {
            if meaning.confidence < LEAST_CONFIDENCE {
                return;
            }
            let found = best.entry(item).or_insert(SemanticFinding { item, semantic: None, code: None });
            let slot = if code { &mut found.code } else { &mut found.semantic };
            if slot.as_ref().is_none_or(|m| m.confidence < meaning.confidence) {
                *slot = Some(meaning);
            }
        };
        for pair in self.pairs(&[text])?.into_iter().flatten() {
            let rule = if pair.program { &rule::CODE } else { &rule::SEMANTIC };
            let name = if pair.program { "rewritten" } else { "paraphrase" };
            let component = sieve::item_component(&self.index, pair.item);
            let meaning =
                Meaning { confidence: rule.confidence(&pair.measures), place: pair.window, rule: name, component };
            put(pair.item, pair.program, meaning);
        }
        let mut scratch = self.code_pool.lock().ok().and_then(|mut pool| pool.pop()).unwrap_or_default();
        for found in self.programs.scan(text, rule::STRUCTURE_LEAST, &mut scratch) {
            let confidence = rule::structure(found.share, found.matched);
            let meaning = Meaning { confidence, place: found.place, rule: "renamed", component: ComponentKind::Answer };
            put(found.item, true, meaning);
        }
        if let Ok(mut pool) = self.code_pool.lock() {
            pool.push(scratch);
        }
        Ok(best.into_values().collect())
    }

    /// Programs of the reference, for the structural half of the code column.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The first stage alone: the windows of `text` that would go to the encoder, in order.
    pub fn windows(&self, text: &str) -> Vec<Range<usize>> {
        self.places(0, text).into_iter().map(|p| p.window).collect()
    }

    /// The second stage alone: confidence that `text`, a window as it stands, says what the item says.
    ///
    /// # Errors
    /// The encoder fails.
    pub fn compare(&self, item: u32, text: &str) -> Result<f32> {
        let window = self.vectors.texts(&[text])?;
        let items = self.vectors.items(&self.index, &[item])?;
        let measures = self.vectors.measure(&self.index, &self.sieve, &items, item, &[], text, &window[0]);
        let rule = if self.is_program[item as usize] { &rule::CODE } else { &rule::SEMANTIC };
        Ok(rule.confidence(&measures))
    }

    /// Every pair of item and window that the first stage lets through, measured, for each text in order of place.
    pub fn pairs(&self, texts: &[&str]) -> Result<Vec<Vec<Pair>>> {
        let places: Vec<Vec<Place>> =
            texts.par_iter().enumerate().map(|(number, text)| self.places(number, text)).collect();
        if let Ok(mut sieved) = self.sieved.lock() {
            sieved.text_bytes += texts.iter().map(|t| t.len() as u64).sum::<u64>();
            for of_text in &places {
                sieved.windows += of_text.len() as u64;
                sieved.encoded_bytes += covered(of_text) as u64;
            }
        }
        let mut out: Vec<Vec<Pair>> = texts.iter().map(|_| Vec::new()).collect();
        let places: Vec<Place> = places.into_iter().flatten().collect();
        for round in places.chunks(ROUND) {
            let windows: Vec<&str> = round.iter().map(|p| &texts[p.text][p.window.clone()]).collect();
            let windows = self.vectors.texts(&windows)?;
            let mut wanted: Vec<u32> = Vec::new();
            for place in round {
                wanted.extend(place.candidates.iter().map(|c| c.item));
                wanted.extend(&place.rivals);
            }
            let items = self.vectors.items(&self.index, &wanted)?;
            let measured: Vec<Vec<Pair>> = round
                .par_iter()
                .zip(&windows)
                .map(|(place, window)| {
                    let text = &texts[place.text][place.window.clone()];
                    place
                        .candidates
                        .iter()
                        .map(|c| {
                            let measures = self.vectors.measure(
                                &self.index,
                                &self.sieve,
                                &items,
                                c.item,
                                &place.rivals,
                                text,
                                window,
                            );
                            let program = self.is_program[c.item as usize];
                            Pair { item: c.item, window: place.window.clone(), candidate: c.clone(), measures, program }
                        })
                        .collect()
                })
                .collect();
            for (place, pairs) in round.iter().zip(measured) {
                out[place.text].extend(pairs);
            }
        }
        Ok(out)
    }

    /// The first stage on one text: every candidate with its window and what they have in common without an encoder.
    pub fn looked(&self, text: &str) -> Vec<Looked> {
        let mut scratch = self.pool.lock().ok().and_then(|mut pool| pool.pop()).unwrap_or_default();
        let candidates = self.sieve.scan(text, &mut scratch);
        if let Ok(mut pool) = self.pool.lock() {
            pool.push(scratch);
        }
        let (mut own_terms, mut window_terms) = (Vec::new(), Vec::new());
        candidates
            .into_iter()
            .map(|candidate| {
                let item = candidate.item;
                let window = window::window(text, candidate.start..candidate.end, self.sieve.size(item).0 as usize);
                let (own, inside) = (sieve::item_text(&self.index, item), &text[window.clone()]);
                terms::terms(own, &mut own_terms);
                terms::terms(inside, &mut window_terms);
                let mut measures = Measures::default();
                measures.terms(&self.sieve, item, (own, &own_terms), (inside, &window_terms));
                let score = rule::second(&measures.look(candidate.score));
                Looked { candidate, window, measures, score }
            })
            .collect()
    }

    /// Whether a candidate goes to the encoder.
    fn passes(&self, looked: &Looked) -> bool {
        match self.is_program[looked.candidate.item as usize] {
            true => looked.candidate.score >= rule::SIEVE_LEAST,
            false => looked.score >= rule::SECOND_LEAST,
        }
    }

    /// Windows of one text that go to the encoder, the items each is compared with, and their rivals.
    fn places(&self, number: usize, text: &str) -> Vec<Place> {
        let looked = self.looked(text);
        let mut places: BTreeMap<(usize, usize), Place> = BTreeMap::new();
        for l in looked.iter().filter(|l| self.passes(l)) {
            let (c, window) = (&l.candidate, l.window.clone());
            let place = places.entry((window.start, window.end)).or_insert_with(|| Place {
                text: number,
                window,
                candidates: Vec::new(),
                rivals: Vec::new(),
            });
            if !place.candidates.iter().any(|o| o.item == c.item) {
                place.candidates.push(c.clone());
            }
        }
        let candidates: Vec<&Candidate> =
            looked.iter().map(|l| &l.candidate).filter(|c| c.score >= rule::SIEVE_LEAST - FAR_BELOW).collect();
        let mut places: Vec<Place> = places.into_values().collect();
        for place in &mut places {
            place.candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.item.cmp(&b.item)));
            place.candidates.truncate(ITEMS);
            let inside = |c: &&Candidate| c.start < place.window.end && place.window.start < c.end;
            let mut rivals: Vec<&Candidate> = candidates.iter().copied().filter(inside).collect();
            rivals.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.item.cmp(&b.item)));
            for r in rivals {
                if place.rivals.len() < RIVALS && !place.rivals.contains(&r.item) {
                    place.rivals.push(r.item);
                }
            }
        }
        places
    }
}

/// Bytes that the windows of one text cover.
fn covered(places: &[Place]) -> usize {
    let (mut sum, mut last) = (0, 0);
    for place in places {
        let start = place.window.start.max(last);
        if place.window.end > start {
            sum += place.window.end - start;
            last = place.window.end;
        }
    }
    sum
}
