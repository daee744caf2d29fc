//! Whether a suffix array is the one of its stream: every byte of it follows from the tokens.
//!
//! The positions are checked to be a permutation and in order, in linear time: two neighbouring suffixes with equal first tokens are
//! in order when the suffixes one token on are. Then blocks and top are made again from them and compared byte by byte.

use std::io::Write;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::layout::{self, SuffixView};
use super::{Token, TokenIndex};
use crate::error::{Error, Result};

/// Compares what is written with what should be.
struct Comparison<'a> {
    expected: &'a [u8],
    at: usize,
    differs: Option<usize>,
}

impl Write for Comparison<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let expected = self.expected.get(self.at..self.at + bytes.len()).unwrap_or_default();
        if self.differs.is_none() && expected != bytes {
            let same = expected.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            self.differs = Some(self.at + same);
        }
        self.at += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<T: Token> SuffixView<'_, T> {
    /// Checks the whole structure against the stream. Memory: 8 bytes a token. Cost: as building it without the sort.
    ///
    /// # Errors
    /// The first rank or byte that is wrong.
    pub fn verify(&self) -> Result<()> {
        let (tokens, ranks) = (self.tokens(), self.ranks());
        let separator = self.meta().separator;
        let is_separator = |at: usize| tokens[at].id() == separator;
        let wrong = |rank: usize, what: String| Err(Error::invalid(format!("suffix array: rank {rank}: {what}")));
        let mut positions: Vec<u32> = Vec::with_capacity(ranks);
        let mut order: Vec<u32> = vec![u32::MAX; tokens.len()];
        for rank in 0..ranks {
            let at = self.position(rank);
            if at >= tokens.len() || is_separator(at) {
                return wrong(rank, format!("position {at} is no token of a document"));
            }
            if order[at] != u32::MAX {
                return wrong(rank, format!("position {at} is that of rank {}, too", order[at]));
            }
            order[at] = rank as u32;
            positions.push(at as u32);
        }
        // Suffixes that begin with separators come after all others: by the number of them, then by what follows.
        let mut separators: Vec<(usize, u32, usize)> = Vec::new();
        let (mut run, mut follows) = (0, 0);
        for at in (0..tokens.len()).rev() {
            if is_separator(at) {
                run += 1;
                separators.push((run, follows, at));
            } else {
                (run, follows) = (0, order[at].wrapping_add(1));
            }
        }
        separators.sort_unstable();
        if ranks + separators.len() != tokens.len() {
            return wrong(ranks, format!("{} tokens have no rank", tokens.len() - separators.len() - ranks));
        }
        for (number, &(_, _, at)) in separators.iter().enumerate() {
            order[at] = (ranks + number) as u32;
        }
        let key = |at: u32| (tokens[at as usize].id(), order.get(at as usize + 1).map_or(0, |&o| u64::from(o) + 1));
        if let Some(rank) = (1..ranks).find(|&r| key(positions[r - 1]) >= key(positions[r])) {
            return wrong(rank, "its suffix does not come after the one before".into());
        }
        drop(order);
        let mut blocks = Comparison { expected: self.blocks, at: 0, differs: None };
        let top = layout::write(tokens, &positions, self.meta(), &mut blocks)
            .map_err(|e| Error::invalid(format!("suffix array: {e}")))?;
        if let Some(at) = blocks.differs {
            return Err(Error::invalid(format!(
                "suffix array: byte {at} of the blocks does not follow from the stream"
            )));
        }
        if let Some(at) = self.top().iter().zip(&top.keys).position(|(a, b)| a != b) {
            return Err(Error::invalid(format!("suffix array: key {at} of the top level is not that of its group")));
        }
        match self.runs().iter().zip(&top.runs).position(|(a, b)| a != b) {
            Some(at) => Err(Error::invalid(format!("suffix array: byte {at} of the runs is not that of its block"))),
            None => Ok(()),
        }
    }
}

/// Checks a sample of a token index whatever its layout: n-grams of seeded places of the stream, of one to eight tokens, must be found, and
/// be what stands at every place they are found at (at most 64 are looked at) and at their own if all are.
///
/// Cost: a few thousand searches. It does not prove the order of all suffixes, as [`SuffixView::verify`] does for the fast layout.
///
/// # Errors
/// The first n-gram that is not found or stands elsewhere.
pub fn sampled<V: TokenIndex>(index: V, stream: usize, separator: u32) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for _ in 0..if stream == 0 { 0 } else { 2000 } {
        let at = rng.random_range(0..stream);
        let window = index.read(at..(at + rng.random_range(1..=8)).min(stream));
        let whole = window.iter().position(|t| t.id() == separator).unwrap_or(window.len());
        let ngram = &window[..whole];
        if ngram.is_empty() {
            continue;
        }
        let wrong = |what: String| Err(Error::invalid(format!("the {whole} tokens at position {at}: {what}")));
        let found = index.interval(ngram);
        if found.is_empty() {
            return wrong("they are not found".into());
        }
        let places: Vec<usize> = found.clone().take(64).map(|rank| index.place(rank, whole)).collect();
        if let Some(place) = places.iter().find(|&&p| *index.read(p..p + whole) != *ngram) {
            return wrong(format!("they are found at {place}, where others stand"));
        }
        if found.len() <= 64 && !places.contains(&at) {
            return wrong("they are not found in their own place".into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::sort::suffix_array;
    use super::*;
    use crate::suffix::layout::SuffixMeta;
    use proptest::prelude::*;

    fn build(stream: &[u8], separator: u32) -> (Vec<u8>, layout::Top, SuffixMeta) {
        let documents = stream.iter().filter(|&&t| u32::from(t) == separator).count() as u64;
        let meta = SuffixMeta::new(stream.len() as u64, documents, separator);
        let sorted = suffix_array(stream, separator).unwrap();
        let mut blocks = Vec::new();
        let top = layout::write(stream, &sorted, &meta, &mut blocks).unwrap();
        (blocks, top, meta)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn right_structures_pass_and_any_changed_bit_fails(
            documents in prop::collection::vec(prop::collection::vec(0u8..4, 0..80), 1..30),
            bit in any::<prop::sample::Index>(), key in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(),
        ) {
            let mut stream: Vec<u8> = documents.iter().flat_map(|d| d.iter().copied().chain([4])).collect();
            let (mut blocks, mut top, meta) = build(&stream, 4);
            SuffixView::new(&stream, &blocks, &top.keys, &top.runs, meta).unwrap().verify().unwrap();
            let bit = bit.index(blocks.len() * 8);
            blocks[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(SuffixView::new(&stream, &blocks, &top.keys, &top.runs, meta).unwrap().verify().is_err(), "bit {bit}");
            blocks[bit / 8] ^= 1 << (bit % 8);
            let key = key.index(top.keys.len());
            top.keys[key] ^= 1 << 17;
            prop_assert!(SuffixView::new(&stream, &blocks, &top.keys, &top.runs, meta).unwrap().verify().is_err(), "key {key}");
            top.keys[key] ^= 1 << 17;
            // A stream of separators alone has no block, and so no run.
            if !top.runs.is_empty() {
                let byte = place.index(top.runs.len());
                top.runs[byte] ^= 1 << 3;
                let view = SuffixView::new(&stream, &blocks, &top.keys, &top.runs, meta).unwrap();
                prop_assert!(view.verify().is_err(), "run {byte}");
                top.runs[byte] ^= 1 << 3;
            }
            // Another stream with the same structure over it.
            if let Some(at) = stream.iter().position(|&t| t == 0) {
                stream[at] = 3;
                let view = SuffixView::new(&stream, &blocks, &top.keys, &top.runs, meta).unwrap();
                prop_assert!(view.verify().is_err() || build(&stream, 4).0 == blocks);
            }
        }
    }
}
