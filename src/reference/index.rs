//! The compiled reference index: everything the evidence pass needs, in flat arrays.
//!
//! - **vocabulary**: open-addressing table of word hashes; a word's number is its slot, plus flags kept in the two low bits
//!   of the hash. A document word outside the table can match nothing.
//! - **components**: text, word numbers and a weight per word of every question, answer, passage and choice.
//! - **seeds**: a bit filter and a sorted table from n-gram to postings `(component, word position)`. Four-word seeds are
//!   kept when they carry enough weight, and besides so that any eight consecutive words of a question, answer or passage
//!   hold at least one (choices: only the weighty ones). Components of two or three words are one seed. So every exact
//!   match of eight words is found, however common its words.
//!
//! Built by [`ReferenceIndex::build`], saved and opened by `file.rs`. Deterministic. Memory and file: about 45 bytes per
//! word of reference text; 86,000 rows take about 110 MB.

use super::item::{ComponentKind, EvalItem, Origin};
use crate::error::{Error, Result};

/// Words in a full seed.
pub const SEED: usize = 4;
/// Flag of a word number: the word is all digits.
pub const NUMBER: u32 = 1 << 31;
/// Flag of a word number: a component of two or three words begins with it.
pub const SHORT_START: u32 = 1 << 30;
/// Bits of a vocabulary entry that are flags, not hash.
pub(crate) const FLAG_BITS: u64 = 3;

/// One component, a row of the component table.
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct ComponentRow {
    pub text_start: u64,
    pub word_start: u64,
    pub text_bytes: u32,
    pub words: u32,
    pub item: u32,
    pub kind: u32,
    /// 0-based number of a choice among the item's choices; 0 for other kinds.
    pub ordinal: u32,
    /// Sum of the word weights.
    pub weight: f32,
}

/// A place of a seed: component number and position of the seed's first word in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Posting {
    pub component: u32,
    pub position: u32,
}

/// What is stored of an item besides its components.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ItemMeta {
    pub origins: Vec<Origin>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct: Option<usize>,
}

/// Compiled eval items. Cheap to share by reference between threads.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceIndex {
    /// Rows the items were read from.
    pub(crate) rows: u64,
    pub(crate) meta: Vec<u8>,
    pub(crate) meta_ends: Vec<u64>,
    pub(crate) item_components: Vec<u32>,
    pub(crate) components: Vec<ComponentRow>,
    pub(crate) text: Vec<u8>,
    pub(crate) word_ids: Vec<u32>,
    pub(crate) word_weights: Vec<f32>,
    pub(crate) vocabulary: Vec<u64>,
    pub(crate) seed_filter: Vec<u64>,
    pub(crate) seed_directory: Vec<u32>,
    pub(crate) seed_keys: Vec<u64>,
    pub(crate) seed_starts: Vec<u32>,
    pub(crate) postings: Vec<Posting>,
}

/// One component of an item, borrowed from the index.
#[derive(Debug, Clone, Copy)]
pub struct Component<'a> {
    /// Number in the index.
    pub number: u32,
    pub item: u32,
    pub kind: ComponentKind,
    /// 0-based number of a choice; 0 otherwise.
    pub ordinal: u32,
    pub text: &'a str,
    /// Word number per word; never 0.
    pub words: &'a [u32],
    /// Weight in bits per word, template discount included.
    pub weights: &'a [f32],
    /// Sum of `weights`.
    pub weight: f32,
}

impl ReferenceIndex {
    /// Number of items.
    pub fn len(&self) -> usize {
        self.meta_ends.len()
    }

    /// Whether there is no item; never true of a built index.
    pub fn is_empty(&self) -> bool {
        self.meta_ends.is_empty()
    }

    /// Rows the items were read from, before merging choices and copies.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Hash of the items' texts, origins and right choices: tells two references apart.
    pub fn fingerprint(&self) -> u64 {
        crate::format::checksum(&self.text) ^ crate::format::checksum(&self.meta).rotate_left(1)
    }

    /// Number of components of all items.
    pub fn component_count(&self) -> usize {
        self.components.len()
    }

    /// Origins and right choice of an item.
    pub fn meta(&self, item: u32) -> Result<ItemMeta> {
        let i = item as usize;
        let end = self.meta_ends.get(i).copied().unwrap_or(0) as usize;
        let start = if i == 0 { 0 } else { self.meta_ends.get(i - 1).copied().unwrap_or(0) as usize };
        let bytes = self.meta.get(start..end).unwrap_or_default();
        serde_json::from_slice(bytes)
            .map_err(|e| Error::invalid(format!("reference index: metadata of item {item} cannot be read: {e}")))
    }

    /// The numbers of an item's components.
    pub fn component_numbers(&self, item: u32) -> std::ops::Range<u32> {
        let i = item as usize;
        match (self.item_components.get(i), self.item_components.get(i + 1)) {
            (Some(&start), Some(&end)) => start..end,
            _ => 0..0,
        }
    }

    /// A component by number; `number < component_count()`.
    pub fn component(&self, number: u32) -> Component<'_> {
        let row = &self.components[number as usize];
        let words = row.word_start as usize..row.word_start as usize + row.words as usize;
        let text = &self.text[row.text_start as usize..row.text_start as usize + row.text_bytes as usize];
        Component {
            number,
            item: row.item,
            kind: ComponentKind::from_code(row.kind).unwrap_or(ComponentKind::Question),
            ordinal: row.ordinal,
            text: std::str::from_utf8(text).unwrap_or(""),
            words: &self.word_ids[words.clone()],
            weights: &self.word_weights[words],
            weight: row.weight,
        }
    }

    /// Item, words and weights of a component, without its text: cheaper than [`ReferenceIndex::component`].
    #[inline]
    pub(crate) fn component_words(&self, number: u32) -> (u32, &[u32], &[f32]) {
        let row = &self.components[number as usize];
        let words = row.word_start as usize..row.word_start as usize + row.words as usize;
        (row.item, &self.word_ids[words.clone()], &self.word_weights[words])
    }

    /// Sum of a component's word weights.
    #[inline]
    pub(crate) fn component_weight(&self, number: u32) -> f32 {
        self.components[number as usize].weight
    }

    /// The components of an item.
    pub fn components(&self, item: u32) -> impl Iterator<Item = Component<'_>> {
        self.component_numbers(item).map(|number| self.component(number))
    }

    /// The item rebuilt from the index.
    pub fn item(&self, item: u32) -> Result<EvalItem> {
        let meta = self.meta(item)?;
        let mut out = EvalItem { origins: meta.origins, correct: meta.correct, ..EvalItem::default() };
        for component in self.components(item) {
            let text = component.text.to_string();
            match component.kind {
                ComponentKind::Question => out.question = Some(text),
                ComponentKind::Answer => out.answer = Some(text),
                ComponentKind::Passage => out.passage = Some(text),
                ComponentKind::Choice => out.choices.push(text),
            }
        }
        if let Some(right) = out.correct.and_then(|i| out.choices.get(i)) {
            out.answer = Some(right.clone());
        }
        Ok(out)
    }

    /// Number of a word by its hash, with its flags; 0 for a word no item has.
    #[inline]
    pub fn word_id(&self, hash: u64) -> u32 {
        let mask = self.vocabulary.len() - 1;
        let mut slot = (hash >> 20) as usize & mask;
        loop {
            let entry = self.vocabulary[slot];
            if (entry ^ hash) <= FLAG_BITS {
                return (slot as u32 + 1) | (((entry & FLAG_BITS) as u32) << 30);
            }
            if entry == 0 {
                return 0;
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Whether a seed may be in the table; false means certainly not.
    #[inline]
    pub fn may_have_seed(&self, hash: u64) -> bool {
        let word = self.seed_filter[(hash as usize) & (self.seed_filter.len() - 1)];
        let bits = filter_bits(hash);
        word & bits == bits
    }

    /// Where a seed occurs; empty when it does not.
    pub fn postings(&self, hash: u64) -> &[Posting] {
        let bucket = (hash >> self.directory_shift()) as usize;
        let (start, end) = (self.seed_directory[bucket] as usize, self.seed_directory[bucket + 1] as usize);
        match self.seed_keys[start..end].binary_search(&hash) {
            Ok(at) => &self.postings[self.seed_starts[start + at] as usize..self.seed_starts[start + at + 1] as usize],
            Err(_) => &[],
        }
    }

    fn directory_shift(&self) -> u32 {
        64 - (self.seed_directory.len() - 1).trailing_zeros()
    }
}

/// Two bits of one filter word.
#[inline]
pub(crate) fn filter_bits(hash: u64) -> u64 {
    (1 << ((hash >> 40) & 63)) | (1 << ((hash >> 52) & 63))
}

/// Word number as seeds see it: all numbers are one word.
#[inline]
pub fn folded(id: u32) -> u32 {
    if id & NUMBER != 0 { NUMBER } else { id }
}

/// Hash of a seed of two, three or four word numbers. Four-word seeds with at most two numbers fold them, so that they
/// survive other numbers; with three or four numbers, and in shorter seeds, the numbers themselves count.
#[inline]
pub fn seed_hash(words: &[u32]) -> u64 {
    const A: u64 = 0x9e37_79b9_7f4a_7c15;
    const B: u64 = 0xc2b2_ae3d_27d4_eb4f;
    let pair = |a: u32, b: u32, k: u64| ((u64::from(a) << 32) | u64::from(b)).wrapping_mul(k);
    let x = match *words {
        [a, b, c, d] => {
            let numbers = (a >> 31) + (b >> 31) + (c >> 31) + (d >> 31);
            if numbers <= 2 {
                pair(folded(a), folded(b), A) ^ pair(folded(c), folded(d), B).rotate_left(31)
            } else {
                pair(a, b, A) ^ pair(c, d, B).rotate_left(31)
            }
        }
        [a, b, c] => pair(a, b, A) ^ pair(c, 3, B).rotate_left(17),
        [a, b] => pair(a, b, A) ^ B.rotate_left(5),
        _ => 0,
    };
    super::words::mix(x ^ (x >> 29))
}
