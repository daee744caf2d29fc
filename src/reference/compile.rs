//! Compiles a [`ReferenceSet`] into a [`ReferenceIndex`]: vocabulary, weights, seed choice, tables.
//!
//! Cost: one pass to number words, two sorts of (n-gram, item) pairs; about 2 s and 400 MB for 86,000 rows on one core.

use std::collections::HashMap;

use rayon::prelude::*;

use super::index::{ComponentRow, ItemMeta, Posting, ReferenceIndex, SEED, filter_bits, seed_hash};
use super::item::{ComponentKind, ReferenceSet};
use super::weight::{Weights, template_discount};
use super::words::{Word, each_word, folded_words};
use crate::error::{Error, Result};

/// Least weight of a four-word seed that is kept for its own sake: two content words, or one and an everyday word.
const SEED_WEIGHT: f32 = 15.0;
/// Seeds in more items than this are kept only where no other seed is near.
const SEED_ITEMS: u32 = 64;

impl ReferenceIndex {
    /// Compiles items.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty set, [`Error::Limit`] beyond 4 billion words or components.
    pub fn build(set: &ReferenceSet) -> Result<ReferenceIndex> {
        if set.items.is_empty() {
            return Err(Error::invalid("the reference is empty"));
        }
        let mut index = empty(set.rows);
        let mut vocabulary = Vocabulary::default();
        for (number, item) in set.items.iter().enumerate() {
            let meta = ItemMeta { origins: item.origins.clone(), correct: item.correct };
            serde_json::to_writer(&mut index.meta, &meta)
                .map_err(|e| Error::invalid(format!("metadata of item {number} cannot be written: {e}")))?;
            index.meta_ends.push(index.meta.len() as u64);
            let mut ordinal = 0;
            for (kind, text) in item.components() {
                add_component(&mut index, &mut vocabulary, number as u32, kind, ordinal, text)?;
                ordinal += u32::from(kind == ComponentKind::Choice);
            }
            index.item_components.push(index.components.len() as u32);
        }
        if index.word_ids.len() >= u32::MAX as usize {
            return Err(Error::Limit {
                what: format!(
                    "the reference has {} words; one reference index holds 4.29 billion",
                    index.word_ids.len()
                ),
                hint: Some("split the benchmarks over several runs".into()),
            });
        }
        let numbers = vocabulary.table(&mut index);
        let word_weights = vocabulary.weights(set.items.len(), &numbers);
        let grams = Grams::count(&index);
        weigh(&mut index, &word_weights, &grams);
        choose_seeds(&mut index, &word_weights, &grams);
        Ok(index)
    }
}

fn empty(rows: u64) -> ReferenceIndex {
    ReferenceIndex {
        rows,
        meta: Vec::new(),
        meta_ends: Vec::new(),
        item_components: vec![0],
        components: Vec::new(),
        text: Vec::new(),
        word_ids: Vec::new(),
        word_weights: Vec::new(),
        vocabulary: Vec::new(),
        seed_filter: Vec::new(),
        seed_directory: Vec::new(),
        seed_keys: Vec::new(),
        seed_starts: Vec::new(),
        postings: Vec::new(),
    }
}

fn add_component(
    index: &mut ReferenceIndex,
    vocabulary: &mut Vocabulary,
    item: u32,
    kind: ComponentKind,
    ordinal: u32,
    text: &str,
) -> Result<()> {
    if text.len() >= u32::MAX as usize {
        return Err(Error::Limit { what: format!("a component of item {item} is longer than 4 GiB"), hint: None });
    }
    let (text_start, word_start) = (index.text.len() as u64, index.word_ids.len() as u64);
    index.text.extend_from_slice(text.as_bytes());
    each_word(text, |word| index.word_ids.push(vocabulary.number(text, word, item)));
    index.components.push(ComponentRow {
        text_start,
        word_start,
        text_bytes: text.len() as u32,
        words: (index.word_ids.len() as u64 - word_start) as u32,
        item,
        kind: kind.code(),
        ordinal,
        weight: 0.0,
    });
    Ok(())
}

/// Word numbers in order of first occurrence, from 1.
#[derive(Default)]
struct Vocabulary {
    numbers: HashMap<u64, u32>,
    /// Folded form, items that have it, last item counted.
    entries: Vec<(u64, String, u32, u32)>,
}

impl Vocabulary {
    fn number(&mut self, text: &str, word: Word, item: u32) -> u32 {
        let next = self.entries.len() as u32 + 1;
        let number = *self.numbers.entry(word.hash).or_insert(next);
        if number == next {
            let folded = folded_words(&text[word.start as usize..word.end as usize]).concat();
            self.entries.push((word.hash, folded, 1, item));
        } else {
            let entry = &mut self.entries[number as usize - 1];
            if entry.3 != item {
                (entry.2, entry.3) = (entry.2 + 1, item);
            }
        }
        number
    }

    /// Weight by slot of the table; `numbers` as [`Vocabulary::table`] gave them.
    fn weights(&self, items: usize, numbers: &[u32]) -> HashMap<u32, f32> {
        let weights = Weights::new(items);
        let each = self.entries.iter().map(|(_, folded, df, _)| weights.weight(folded, *df));
        numbers.iter().copied().zip(each).collect()
    }

    /// Builds the index's table and renumbers its words by it; gives the final number of each entry.
    fn table(&self, index: &mut ReferenceIndex) -> Vec<u32> {
        let mut flags = vec![0u64; self.entries.len()];
        for ((_, folded, ..), flag) in self.entries.iter().zip(&mut flags) {
            *flag = u64::from(folded.bytes().all(|b| b.is_ascii_digit())) << 1;
        }
        for row in &index.components {
            if (2..SEED as u32).contains(&row.words) && row.kind != ComponentKind::Choice.code() {
                flags[index.word_ids[row.word_start as usize] as usize - 1] |= 1;
            }
        }
        let slots = (self.entries.len() * 2 + 1).next_power_of_two();
        index.vocabulary = vec![0u64; slots];
        for ((hash, ..), flag) in self.entries.iter().zip(&flags) {
            let mut slot = (hash >> 20) as usize & (slots - 1);
            while index.vocabulary[slot] != 0 {
                slot = (slot + 1) & (slots - 1);
            }
            index.vocabulary[slot] = hash | flag;
        }
        let numbers: Vec<u32> = self.entries.iter().map(|(hash, ..)| index.word_id(*hash)).collect();
        for id in &mut index.word_ids {
            *id = numbers[*id as usize - 1];
        }
        numbers
    }
}

/// In how many items each four-word n-gram (of short components: the whole) occurs, per word position of the set.
struct Grams {
    hashes: Vec<u64>,
    items: Vec<u32>,
}

impl Grams {
    /// `hashes[w]`, `items[w]`: for the n-gram that starts at word `w` of the set; 0 where none starts.
    fn count(index: &ReferenceIndex) -> Grams {
        let mut hashes = vec![0u64; index.word_ids.len()];
        let mut pairs: Vec<(u64, u32)> = Vec::with_capacity(hashes.len());
        for row in &index.components {
            let start = row.word_start as usize;
            let words = &index.word_ids[start..start + row.words as usize];
            let n = words.len().min(SEED);
            if n < 2 {
                continue;
            }
            for (i, gram) in words.windows(n).enumerate() {
                hashes[start + i] = seed_hash(gram);
                pairs.push((hashes[start + i], row.item));
            }
        }
        pairs.par_sort_unstable();
        pairs.dedup();
        let mut counts: HashMap<u64, u32> = HashMap::with_capacity(pairs.len());
        for (hash, _) in pairs {
            *counts.entry(hash).or_insert(0) += 1;
        }
        let items = hashes.iter().map(|hash| counts.get(hash).copied().unwrap_or(0)).collect();
        Grams { hashes, items }
    }
}

/// Weight per word of the set, discounted inside shared templates, and the sum per component.
fn weigh(index: &mut ReferenceIndex, word_weights: &HashMap<u32, f32>, grams: &Grams) {
    index.word_weights = index.word_ids.iter().map(|&id| word_weights.get(&id).copied().unwrap_or(0.0)).collect();
    for row in &mut index.components {
        let (start, words) = (row.word_start as usize, row.words as usize);
        let n = words.min(SEED);
        if n >= 2 {
            for w in 0..words {
                let first = (w + 1).saturating_sub(n);
                let last = w.min(words - n);
                let rarest = (first..=last).map(|i| grams.items[start + i]).min().unwrap_or(1);
                index.word_weights[start + w] *= template_discount(rarest);
            }
        }
        row.weight = index.word_weights[start..start + words].iter().sum();
    }
}

fn choose_seeds(index: &mut ReferenceIndex, word_weights: &HashMap<u32, f32>, grams: &Grams) {
    let mut seeds: Vec<(u64, Posting)> = Vec::with_capacity(index.word_ids.len());
    for (number, row) in index.components.iter().enumerate() {
        let start = row.word_start as usize;
        let words = &index.word_ids[start..start + row.words as usize];
        let choice = row.kind == ComponentKind::Choice.code();
        let posting = |position: usize| Posting { component: number as u32, position: position as u32 };
        if words.len() < SEED {
            if words.len() >= 2 && !choice {
                seeds.push((grams.hashes[start], posting(0)));
            }
            continue;
        }
        let places = words.len() - SEED + 1;
        let weight =
            |i: usize| words[i..i + SEED].iter().map(|&id| word_weights.get(&id).copied().unwrap_or(0.0)).sum::<f32>();
        let mut kept: Vec<bool> =
            (0..places).map(|i| weight(i) >= SEED_WEIGHT && grams.items[start + i] <= SEED_ITEMS).collect();
        if !choice {
            // Any eight consecutive words hold SEED + 1 places; one of them must be kept.
            let reach = SEED + 1;
            let mut i = 0;
            while i < places {
                let window = i..(i + reach).min(places);
                if let Some(last) = window.clone().rev().find(|&j| kept[j]) {
                    i = last + 1;
                } else {
                    let best = window
                        .clone()
                        .min_by(|&a, &b| {
                            let key = |j: usize| (grams.items[start + j], -weight(j));
                            key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal)
                        })
                        .unwrap_or(i);
                    kept[best] = true;
                    i = best + 1;
                }
            }
        }
        seeds.extend(
            kept.iter().enumerate().filter(|(_, keep)| **keep).map(|(i, _)| (grams.hashes[start + i], posting(i))),
        );
    }
    seeds.par_sort_unstable();

    for (at, (hash, posting)) in seeds.iter().enumerate() {
        if index.seed_keys.last() != Some(hash) {
            index.seed_keys.push(*hash);
            index.seed_starts.push(at as u32);
        }
        index.postings.push(*posting);
    }
    index.seed_starts.push(seeds.len() as u32);
    index.seed_filter = vec![0; (index.seed_keys.len() / 6 + 1).next_power_of_two()];
    for &hash in &index.seed_keys {
        let word = hash as usize & (index.seed_filter.len() - 1);
        index.seed_filter[word] |= filter_bits(hash);
    }
    let buckets = (index.seed_keys.len() / 4 + 2).next_power_of_two();
    let shift = 64 - buckets.trailing_zeros();
    index.seed_directory = vec![0; buckets + 1];
    for &hash in &index.seed_keys {
        index.seed_directory[(hash >> shift) as usize + 1] += 1;
    }
    for i in 1..=buckets {
        index.seed_directory[i] += index.seed_directory[i - 1];
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::EvalItem;
    use super::*;
    use proptest::prelude::*;

    fn set(questions: &[String]) -> ReferenceSet {
        let items = questions
            .iter()
            .map(|q| EvalItem { origins: vec![Default::default()], question: Some(q.clone()), ..EvalItem::default() })
            .collect();
        ReferenceSet { items, rows: questions.len() as u64 }
    }

    proptest! {
        #[test]
        fn eight_words_of_any_question_hold_a_seed(questions in prop::collection::vec("([abcd] ){2,30}", 1..8)) {
            let index = ReferenceIndex::build(&set(&questions)).unwrap();
            for number in 0..index.component_count() as u32 {
                let component = index.component(number);
                for (at, window) in component.words.windows(8).enumerate() {
                    let found = window.windows(SEED).enumerate().any(|(i, gram)| {
                        let hash = seed_hash(gram);
                        let position = (at + i) as u32;
                        index.may_have_seed(hash) && index.postings(hash).contains(&Posting { component: number, position })
                    });
                    prop_assert!(found, "{:?} at {at}", component.text);
                }
            }
        }
    }

    #[test]
    fn words_are_found_and_strangers_are_not() {
        let index = ReferenceIndex::build(&set(&["The quick brown fox jumps over it".into(), "quick thinking".into()]))
            .unwrap();
        let id = |w: &str| index.word_id(super::super::words::hash_folded(w));
        assert_eq!(id("quick"), index.component(1).words[0]);
        assert_eq!(id("zebra"), 0);
        assert_eq!(index.postings(seed_hash(index.component(1).words)), [Posting { component: 1, position: 0 }]);
        assert_eq!(index.item(0).unwrap().question.as_deref(), Some("The quick brown fox jumps over it"));
        assert!(ReferenceIndex::build(&ReferenceSet::default()).is_err());
    }
}
