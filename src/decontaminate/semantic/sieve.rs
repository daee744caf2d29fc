//! The sieve: which items a document may say in other words, and where. Discards nearly all text without an encoder.
//!
//! A paraphrase keeps names, numbers and most rare words, in a stretch about as long as the item. So every item is a set of
//! weighted terms; a document's terms are added up per item over blocks of [`BLOCK`] terms, two at a time; an item that
//! gets enough is looked at closely: the stretch of its own length that holds most of its weight. What that stretch must hold
//! is a rule fitted to labelled pairs (`rule.rs`).
//!
//! Terms that very many items have are not looked up (they count in the close look), so that a word costs a bounded number of
//! additions. Memory: 12 bytes a term of the reference, 12 bytes an item and thread.

use std::collections::HashMap;

use super::rule;
use super::terms::{Kind, Term, terms};
use crate::error::Result;
use crate::reference::weight::{Weights, WordClass};
use crate::reference::words::folded_words;
use crate::reference::{Component, ComponentKind, ReferenceIndex};

/// Terms of a block.
const BLOCK: usize = 40;
/// Share of an item's weight that two blocks must hold for a close look.
const LOOK: f32 = 0.12;
/// Least share found by the close look for the item to count as a rival of others at its place.
const RIVAL: f32 = 0.2;
/// Stretches kept of one item in one document.
const PLACES: usize = 3;
/// Terms are looked up only if at most this share of the items, and at most so many, have them.
const COMMON: f64 = 0.025;
const MOST: usize = 400;
const LEAST: usize = 30;

/// A stretch of a document that may be an item.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub item: u32,
    /// Share of the item's weight that the stretch holds, and that weight.
    pub share: f32,
    pub weight: f32,
    /// Logit of the rule: what the sieve thinks of it.
    pub score: f32,
    /// From the first to the last term of the item, in bytes of the document.
    pub start: usize,
    pub end: usize,
}

/// Terms of the reference set.
#[derive(Debug)]
pub struct Sieve {
    /// Term number + 1 by slot; open addressing by key.
    slots: Vec<u32>,
    keys: Vec<u64>,
    /// Weight of each term.
    weights: Vec<f32>,
    /// Items of each term that is looked up.
    starts: Vec<u32>,
    postings: Vec<u32>,
    /// Terms of each item, ascending.
    item_starts: Vec<u32>,
    item_terms: Vec<u32>,
    /// Sum of the weights of an item's terms, and its length in terms, repeats included.
    norms: Vec<f32>,
    lengths: Vec<u32>,
    classes: Weights,
}

/// Buffers of one thread.
#[derive(Debug, Default)]
pub struct Scratch {
    terms: Vec<Term>,
    ids: Vec<u32>,
    sums: [Vec<f32>; 2],
    touched: [Vec<u32>; 2],
    seen: Vec<u32>,
    epoch: u32,
    mine: Vec<u32>,
    mine_epoch: u32,
    counts: Vec<u16>,
}

/// The component of an item that is compared: its question, or passage, or answer.
fn compared(index: &ReferenceIndex, item: u32) -> Option<Component<'_>> {
    let order = [ComponentKind::Question, ComponentKind::Passage, ComponentKind::Answer];
    let of = |kind| index.components(item).find(|c| c.kind == kind && !c.text.trim().is_empty());
    order.into_iter().find_map(of)
}

/// Its text.
pub fn item_text(index: &ReferenceIndex, item: u32) -> &str {
    compared(index, item).map_or("", |c| c.text)
}

/// Its kind.
pub fn item_component(index: &ReferenceIndex, item: u32) -> ComponentKind {
    compared(index, item).map_or(ComponentKind::Question, |c| c.kind)
}

/// Bounds of a term's weight by what kind of word it is.
fn bounds(class: WordClass, value: Option<f64>) -> (f32, f32) {
    match (class, value) {
        (_, Some(v)) if v <= 10.0 => (0.5, 1.5),
        (_, Some(_)) => (1.5, 4.5),
        (WordClass::Function, _) => (0.1, 0.3),
        (WordClass::Everyday | WordClass::Number, _) => (0.5, 2.0),
        (WordClass::Content, _) => (2.0, 7.5),
    }
}

impl Sieve {
    /// Reads every item. Deterministic.
    pub fn build(index: &ReferenceIndex) -> Result<Sieve> {
        let classes = Weights::new(index.len());
        let mut number: HashMap<u64, u32> = HashMap::new();
        let (mut keys, mut df, mut kinds) = (Vec::new(), Vec::<u32>::new(), Vec::new());
        let (mut item_starts, mut item_terms, mut lengths) = (vec![0u32], Vec::new(), Vec::new());
        let mut found = Vec::new();
        for item in 0..index.len() as u32 {
            let text = item_text(index, item);
            terms(text, &mut found);
            let mut own: Vec<u32> = found
                .iter()
                .map(|t| {
                    *number.entry(t.key).or_insert_with(|| {
                        keys.push(t.key);
                        df.push(0);
                        kinds.push(class_of(&classes, text, t));
                        keys.len() as u32 - 1
                    })
                })
                .collect();
            lengths.push(own.len() as u32);
            own.sort_unstable();
            own.dedup();
            own.iter().for_each(|&t| df[t as usize] += 1);
            item_terms.extend(own);
            item_starts.push(item_terms.len() as u32);
        }
        let items = index.len() as f64;
        let weights: Vec<f32> = df
            .iter()
            .zip(&kinds)
            .map(|(&df, &(class, value))| {
                let rarity = ((items + 1.0) / (f64::from(df) + 0.5)).ln() / ((items + 1.0) / 1.5).ln().max(1e-9);
                let (low, high) = bounds(class, value);
                low + (high - low) * rarity.clamp(0.0, 1.0) as f32
            })
            .collect();
        let most = ((items * COMMON) as usize).clamp(LEAST, MOST) as u32;
        let looked_up = |t: usize| {
            df[t] <= most && kinds[t].0 != WordClass::Function && (kinds[t].1.is_none() || weights[t] >= 1.5)
        };
        let mut starts = vec![0u32];
        for t in 0..keys.len() {
            let n = if looked_up(t) { df[t] } else { 0 };
            starts.push(starts[t] + n);
        }
        let mut next = starts.clone();
        let mut postings = vec![0u32; *starts.last().unwrap_or(&0) as usize];
        let mut norms = Vec::with_capacity(lengths.len());
        for item in 0..lengths.len() {
            let own = &item_terms[item_starts[item] as usize..item_starts[item + 1] as usize];
            norms.push(own.iter().map(|&t| weights[t as usize]).sum());
            for &t in own {
                if looked_up(t as usize) {
                    postings[next[t as usize] as usize] = item as u32;
                    next[t as usize] += 1;
                }
            }
        }
        let mut slots = vec![0u32; (keys.len() * 2 + 16).next_power_of_two()];
        let mask = slots.len() - 1;
        for (t, &key) in keys.iter().enumerate() {
            let mut slot = (key >> 20) as usize & mask;
            while slots[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            slots[slot] = t as u32 + 1;
        }
        Ok(Sieve { slots, keys, weights, starts, postings, item_starts, item_terms, norms, lengths, classes })
    }

    fn id(&self, key: u64) -> u32 {
        let mask = self.slots.len() - 1;
        let mut slot = (key >> 20) as usize & mask;
        loop {
            match self.slots[slot] {
                0 => return 0,
                t if self.keys[t as usize - 1] == key => return t,
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    fn own_terms(&self, item: u32) -> &[u32] {
        &self.item_terms[self.item_starts[item as usize] as usize..self.item_starts[item as usize + 1] as usize]
    }

    /// Length of an item in terms, and the sum of its terms' weights.
    pub fn size(&self, item: u32) -> (u32, f32) {
        (self.lengths[item as usize], self.norms[item as usize])
    }

    /// Number of terms of a text and how much of the item's weight it holds: shares of the item's weight (recall) and of
    /// the text's own (precision).
    pub fn overlap(&self, item: u32, text: &str, found: &[Term]) -> Overlap {
        let own = self.own_terms(item);
        let (mut shared, mut all) = (0.0, 0.0);
        let mut seen = std::collections::HashSet::new();
        for t in found {
            if !seen.insert(t.key) {
                continue;
            }
            let id = self.id(t.key);
            let weight = self.weight(text, t);
            all += weight;
            if id > 0 && own.binary_search(&(id - 1)).is_ok() {
                shared += weight;
            }
        }
        let norm = self.norms[item as usize];
        Overlap {
            terms: found.len() as u32,
            recall: if norm > 0.0 { shared / norm } else { 0.0 },
            precision: if all > 0.0 { shared / all } else { 0.0 },
        }
    }

    /// Weight of a term of any text.
    pub fn weight(&self, text: &str, term: &Term) -> f32 {
        match self.id(term.key) {
            0 => self.unknown(text, term),
            id => self.weights[id as usize - 1],
        }
    }

    /// Weight of a term that no item has: as one item would give it.
    fn unknown(&self, text: &str, term: &Term) -> f32 {
        let (class, value) = class_of(&self.classes, text, term);
        bounds(class, value).1
    }

    /// Candidates in a document, in order of place; those below the rule's logit are rivals of others at their place.
    pub fn scan(&self, text: &str, scratch: &mut Scratch) -> Vec<Candidate> {
        let s = scratch;
        terms(text, &mut s.terms);
        s.ids.clear();
        s.ids.extend(s.terms.iter().map(|t| self.id(t.key)));
        for sums in &mut s.sums {
            sums.resize(self.norms.len(), 0.0);
        }
        s.seen.resize(self.keys.len(), 0);
        s.mine.resize(self.keys.len(), 0);
        s.counts.resize(self.keys.len(), 0);
        let mut out: Vec<Candidate> = Vec::new();
        let blocks = s.ids.len().div_ceil(BLOCK);
        for block in 0..blocks {
            let here = block % 2;
            let range = block * BLOCK..((block + 1) * BLOCK).min(s.ids.len());
            s.epoch = s.epoch.wrapping_add(1);
            if s.epoch == 0 {
                s.seen.fill(0);
                s.epoch = 1;
            }
            for &id in &s.ids[range.clone()] {
                if id == 0 || s.seen[id as usize - 1] == s.epoch {
                    continue;
                }
                let t = id as usize - 1;
                s.seen[t] = s.epoch;
                let weight = self.weights[t];
                for &item in &self.postings[self.starts[t] as usize..self.starts[t + 1] as usize] {
                    let sum = &mut s.sums[here][item as usize];
                    if *sum == 0.0 {
                        s.touched[here].push(item);
                    }
                    *sum += weight;
                }
            }
            let from = block.saturating_sub(1) * BLOCK;
            for at in 0..s.touched[here].len() {
                let item = s.touched[here][at];
                let both = s.sums[here][item as usize] + s.sums[1 - here][item as usize];
                if both >= LOOK * self.norms[item as usize] {
                    out.extend(self.look(item, s, from..range.end));
                }
            }
            // The block before is done with.
            for item in s.touched[1 - here].drain(..) {
                s.sums[1 - here][item as usize] = 0.0;
            }
        }
        for (sums, touched) in s.sums.iter_mut().zip(&mut s.touched) {
            touched.drain(..).for_each(|item| sums[item as usize] = 0.0);
        }
        best_places(out)
    }

    /// The stretch of the item's length among these terms that holds most of its weight.
    fn look(&self, item: u32, s: &mut Scratch, range: std::ops::Range<usize>) -> Option<Candidate> {
        s.mine_epoch = s.mine_epoch.wrapping_add(1);
        if s.mine_epoch == 0 {
            s.mine.fill(0);
            s.mine_epoch = 1;
        }
        for &t in self.own_terms(item) {
            s.mine[t as usize] = s.mine_epoch;
            s.counts[t as usize] = 0;
        }
        let (length, norm) = self.size(item);
        let longest = length as usize + length as usize / 4 + 4;
        let own = |at: usize| s.ids[at].checked_sub(1).filter(|&t| s.mine[t as usize] == s.mine_epoch);
        let (mut sum, mut best) = (0.0f32, (0.0f32, 0, 0));
        let mut first = range.start;
        for at in range.clone() {
            let Some(t) = own(at) else { continue };
            let count = &mut s.counts[t as usize];
            if *count == 0 {
                sum += self.weights[t as usize];
            }
            *count += 1;
            // From the left goes what is too far away or comes again.
            while first < at {
                let Some(left) = own(first) else {
                    first += 1;
                    continue;
                };
                let count = &mut s.counts[left as usize];
                if *count > 1 {
                    *count -= 1;
                } else if first + longest <= at {
                    *count = 0;
                    sum -= self.weights[left as usize];
                } else {
                    break;
                }
                first += 1;
            }
            if sum > best.0 + 1e-4 {
                best = (sum, first, at);
            }
        }
        let share = best.0 / norm.max(1e-6);
        if share < RIVAL {
            return None;
        }
        let score = rule::sieve(share, best.0, norm);
        (score >= rule::FIRST_LEAST).then(|| Candidate {
            item,
            share,
            weight: best.0,
            score,
            start: s.terms[best.1].start as usize,
            end: s.terms[best.2].end as usize,
        })
    }
}

/// What a text and an item have in common.
#[derive(Debug, Clone, Copy)]
pub struct Overlap {
    pub terms: u32,
    pub recall: f32,
    pub precision: f32,
}

fn class_of(classes: &Weights, text: &str, term: &Term) -> (WordClass, Option<f64>) {
    match term.kind {
        Kind::Number(value) => (WordClass::Number, Some(value)),
        Kind::Word => {
            let surface = folded_words(&text[term.start as usize..term.end as usize]).concat();
            (classes.class(&surface), None)
        }
    }
}

/// The best places of each item that do not overlap, in order of place.
fn best_places(mut found: Vec<Candidate>) -> Vec<Candidate> {
    found.sort_by(|a, b| a.item.cmp(&b.item).then(b.share.total_cmp(&a.share)).then(a.start.cmp(&b.start)));
    let mut out: Vec<Candidate> = Vec::new();
    let mut first = 0;
    for c in found {
        if out.get(first).is_none_or(|o| o.item != c.item) {
            first = out.len();
        }
        let own = &out[first..];
        if own.len() < PLACES && own.iter().all(|o| c.end <= o.start || o.end <= c.start) {
            out.push(c);
        }
    }
    out.sort_by_key(|c| (c.start, c.end, c.item));
    out
}
