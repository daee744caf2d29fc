//! A plain suffix array of byte offsets in the order of the stream's *bytes*: the layout of infini-gram's indexes (version 4).
//!
//! # Layout
//!
//! The stream is tokens of one, two or four little-endian bytes; every document is *preceded* by a separator, the id whose bytes are all
//! 0xFF. The table has an entry a token, separators included: the byte offset of a suffix, in as few bytes as the stream's length
//! needs. Suffixes are sorted by `memcmp`, which for tokens wider than a byte is not the order of ids. Suffixes that begin with a separator
//! come last, and are left out here, so that ranks count the corpus's tokens as in the other layouts.
//!
//! Positions are counted from the token behind the first separator, so that a document is its tokens and then a separator, as
//! everywhere in this project; the last document's separator is not there to be read.
//!
//! # Cost
//!
//! A search is a binary search with two dependent reads a step, 2 log2 N: some microseconds in memory. Longest matches are one search a
//! position. Next tokens cost some reads a distinct token. Nothing is resident and nothing is prepared when opening.

use std::borrow::Cow;
use std::ops::Range;

use super::distribution::Next;
use super::index::{TokenIndex, maximal};

/// A view of the two files.
#[derive(Clone, Copy)]
pub struct PointerIndex<'a> {
    tokens: &'a [u8],
    table: &'a [u8],
    /// Bytes of a token, of a pointer.
    width: usize,
    pointer: usize,
    ranks: usize,
}

impl<'a> PointerIndex<'a> {
    /// A view of a stream of tokens of `width` bytes and a table of pointers of `pointer` bytes, `ranks` of which lead to tokens that are
    /// no separators. Wrong bytes or numbers give wrong answers, never a read out of bounds.
    pub fn new(tokens: &'a [u8], table: &'a [u8], width: usize, pointer: usize, ranks: usize) -> Self {
        PointerIndex { tokens, table, width: width.max(1), pointer: pointer.clamp(1, 8), ranks }
    }

    /// The id that separates documents: all bytes 0xFF.
    pub fn separator(&self) -> u32 {
        u32::MAX >> (32 - 8 * self.width.min(4) as u32)
    }

    /// Where in the bytes of the stream the suffix at `rank` begins.
    #[inline]
    pub fn offset(&self, rank: usize) -> usize {
        let at = rank * self.pointer;
        let mut bytes = [0; 8];
        if let Some(entry) = self.table.get(at..at + self.pointer) {
            bytes[..self.pointer].copy_from_slice(entry);
        }
        u64::from_le_bytes(bytes) as usize
    }

    #[inline]
    fn suffix(&self, rank: usize) -> &'a [u8] {
        self.tokens.get(self.offset(rank)..).unwrap_or_default()
    }

    /// The id at the start of some bytes.
    fn id(&self, bytes: &[u8]) -> u32 {
        let mut id = [0; 4];
        match bytes.get(..self.width) {
            Some(token) => id[..self.width].copy_from_slice(token),
            None => return self.separator(),
        }
        u32::from_le_bytes(id)
    }

    /// The bytes of a query up to its first separator, and whether that is all of it.
    fn bytes(&self, query: &[u32]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(query.len() * self.width);
        for &id in query {
            if id >= self.separator() {
                return (out, false);
            }
            out.extend_from_slice(&id.to_le_bytes()[..self.width]);
        }
        (out, true)
    }

    /// First rank of `range` for which `below` is false.
    fn partition(&self, range: Range<usize>, below: impl Fn(usize) -> bool) -> usize {
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if below(middle) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The end of the run of ranks from `start` for which `inside` holds, by doubling steps and bisection.
    fn run_end(&self, range: Range<usize>, inside: impl Fn(usize) -> bool) -> usize {
        let (mut low, mut step) = (range.start, 1);
        while low + step < range.end && inside(low + step) {
            low += step;
            step *= 2;
        }
        self.partition(low..range.end.min(low.saturating_add(step)), inside)
    }

    fn interval_of(&self, query: &[u8]) -> Range<usize> {
        let low = self.partition(0..self.ranks, |rank| self.suffix(rank) < query);
        let high = self.run_end(low..self.ranks, |rank| self.suffix(rank).starts_with(query));
        low..high
    }

    /// Tokens of the longest prefix of `query` (bytes) that occurs.
    fn longest(&self, query: &[u8]) -> usize {
        let at = self.partition(0..self.ranks, |rank| self.suffix(rank) < query);
        let shared = |rank: usize| {
            let suffix = self.suffix(rank);
            suffix.iter().zip(query).take_while(|(a, b)| a == b).count() / self.width
        };
        let before = at.checked_sub(1).map_or(0, shared);
        if at < self.ranks { before.max(shared(at)) } else { before }
    }
}

impl TokenIndex for PointerIndex<'_> {
    type Token = u32;

    const PLACE_COST: usize = 40;

    fn ranks(&self) -> usize {
        self.ranks
    }

    fn interval(&self, query: &[u32]) -> Range<usize> {
        match self.bytes(query) {
            (_, false) => 0..0,
            (bytes, true) if bytes.is_empty() => 0..self.ranks,
            (bytes, true) => self.interval_of(&bytes),
        }
    }

    fn place(&self, rank: usize, _: usize) -> usize {
        (self.offset(rank) / self.width).saturating_sub(1)
    }

    fn longest_matches(&self, text: &[u32]) -> Vec<usize> {
        let mut lengths = vec![0; text.len()];
        let mut end = 0;
        while end < text.len() {
            // From separator to separator (or unknown token).
            let start = end;
            let (bytes, all) = self.bytes(&text[start..]);
            end = start + bytes.len() / self.width;
            for at in start..end {
                lengths[at] = self.longest(&bytes[(at - start) * self.width..]);
            }
            end += usize::from(!all);
        }
        lengths
    }

    fn maximal_spans(&self, text: &[u32]) -> Vec<(usize, usize, u64)> {
        let longest = self.longest_matches(text);
        maximal(longest.into_iter()).map(|(l, r)| (l, r, self.interval(&text[l..r]).len() as u64)).collect()
    }

    fn next_tokens(&self, ranks: Range<usize>, n: usize) -> Vec<Next> {
        let token = |rank: usize| self.id(self.suffix(rank).get(n * self.width..).unwrap_or_default());
        let mut out = Vec::new();
        let mut at = ranks.start;
        while at < ranks.end {
            let here = token(at);
            let end = self.run_end(at..ranks.end, |rank| token(rank) == here);
            out.push(Next { token: here, count: (end - at) as u64 });
            at = end;
        }
        // The table's order is that of bytes.
        out.sort_unstable_by_key(|next| next.token);
        out.dedup_by(|next, kept| {
            let same = next.token == kept.token;
            if same {
                kept.count += next.count;
            }
            same
        });
        out
    }

    fn read(&self, positions: Range<usize>) -> Cow<'_, [u32]> {
        let end = (self.tokens.len() / self.width).saturating_sub(1);
        let range = positions.start.min(end)..positions.end.min(end);
        let bytes = |at: usize| (at + 1) * self.width;
        let tokens = self.tokens.get(bytes(range.start)..bytes(range.end.max(range.start))).unwrap_or_default();
        Cow::Owned(tokens.chunks_exact(self.width).map(|token| self.id(token)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suffix::layout::{self, SuffixMeta};
    use crate::suffix::{SuffixView, sort};
    use proptest::prelude::*;

    /// The two files of a stream of documents, made by sorting suffixes as bytes.
    fn files(documents: &[Vec<u32>], width: usize) -> (Vec<u8>, Vec<u8>, usize) {
        let mut tokens = Vec::new();
        for document in documents {
            tokens.extend(vec![0xFF; width]);
            document.iter().for_each(|id| tokens.extend_from_slice(&id.to_le_bytes()[..width]));
        }
        let mut offsets: Vec<usize> = (0..tokens.len()).step_by(width).collect();
        offsets.sort_by_key(|&at| &tokens[at..]);
        let ranks = offsets.len() - documents.len();
        let table = offsets.iter().flat_map(|at| (*at as u64).to_le_bytes()[..3].to_vec()).collect();
        (tokens, table, ranks)
    }

    proptest! {
        /// The same answers as the fast layout of the same documents.
        #[test]
        fn equals_the_fast_layout(
            documents in prop::collection::vec(prop::collection::vec((0u32..40).prop_map(|x| x * x * 7 % 251), 0..40), 1..6),
            picks in prop::collection::vec((any::<prop::sample::Index>(), 0usize..7, any::<Option<u8>>()), 12),
            wide in any::<bool>(),
        ) {
            let width = if wide { 4 } else { 2 };
            let scale = |id: u32| if wide { id * 65_793 } else { id * 257 % 65_500 };
            let documents: Vec<Vec<u32>> = documents.iter().map(|d| d.iter().map(|&id| scale(id)).collect()).collect();
            let (tokens, table, ranks) = files(&documents, width);
            let index = PointerIndex::new(&tokens, &table, width, 3, ranks);
            let separator = index.separator();
            let stream: Vec<u32> = documents.iter().flat_map(|d| d.iter().copied().chain([separator])).collect();
            let meta = SuffixMeta::new(stream.len() as u64, documents.len() as u64, separator);
            let mut blocks = Vec::new();
            let sorted = sort::suffix_array(&stream, separator).unwrap();
            let top = layout::write(&stream, &sorted, &meta, &mut blocks).unwrap();
            let fast = SuffixView::new(&stream, &blocks, &top.keys, &top.runs, meta).unwrap();
            prop_assert_eq!(index.read(0..stream.len()), &stream[..stream.len() - 1]);
            for (place, n, change) in picks {
                let start = place.index(stream.len());
                let mut query = stream[start..(start + n).min(stream.len())].to_vec();
                if let (Some(change), Some(last)) = (change, query.last_mut()) {
                    *last = scale(u32::from(change));
                }
                let (a, b) = (index.interval(&query), fast.interval(&query));
                prop_assert_eq!(a.len(), b.len(), "{:?}", query);
                let places = |v: &dyn Fn(usize) -> usize, r: Range<usize>| {
                    let mut out: Vec<usize> = r.map(v).collect();
                    out.sort_unstable();
                    out
                };
                prop_assert_eq!(
                    places(&|r| index.place(r, query.len()), a.clone()),
                    places(&|r| TokenIndex::place(&fast, r, query.len()), b.clone())
                );
                prop_assert_eq!(index.next_tokens(a, query.len()), fast.next_tokens(b, query.len()));
                let text: Vec<u32> = query.iter().chain(&stream[..start.min(30)]).copied().collect();
                prop_assert_eq!(index.longest_matches(&text), TokenIndex::longest_matches(&fast, &text));
                prop_assert_eq!(index.maximal_spans(&text), TokenIndex::maximal_spans(&fast, &text));
            }
        }
    }
}
