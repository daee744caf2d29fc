//! What every form of one shard's token index answers: the seam between queries and layouts.
//!
//! The fast layout is [`SuffixView`], the small one [`CompactIndex`]. Ranks are a layout's own numbering of the places where suffixes
//! (or contexts) stand; only the lengths of intervals and the positions behind ranks mean the same everywhere.

use std::borrow::Cow;
use std::ops::Range;

use super::compact::CompactIndex;
use super::distribution::Next;
use super::{SuffixView, Token};

/// A searchable token stream: documents, each followed by the separator, which is no part of any n-gram.
pub trait TokenIndex: Copy {
    /// How the stream's ids are held.
    type Token: Token;

    /// What finding the place of an occurrence costs, in tokens of a document read in sequence.
    const PLACE_COST: usize;

    /// One more than the greatest rank.
    fn ranks(&self) -> usize;

    /// Ranks of the occurrences of `query`; its length is their number. Of the empty query, of all tokens.
    fn interval(&self, query: &[Self::Token]) -> Range<usize>;

    /// [`interval`](Self::interval) of each query, in order.
    fn intervals(&self, queries: &[&[Self::Token]]) -> Vec<Range<usize>> {
        queries.iter().map(|query| self.interval(query)).collect()
    }

    /// Where in the stream the occurrence at `rank` of an n-gram of `n` tokens begins.
    fn place(&self, rank: usize, n: usize) -> usize;

    /// For each position of `text` how many tokens the longest n-gram has that begins there and occurs.
    fn longest_matches(&self, text: &[Self::Token]) -> Vec<usize>;

    /// The maximal spans of `text`: start, end, occurrences.
    fn maximal_spans(&self, text: &[Self::Token]) -> Vec<(usize, usize, u64)>;

    /// The tokens that follow the n-gram of `n` tokens whose interval is `ranks`, in token order. The separator stands for the end of a
    /// document.
    fn next_tokens(&self, ranks: Range<usize>, n: usize) -> Vec<Next>;

    /// The tokens at `positions` of the stream, fewer where it ends.
    fn read(&self, positions: Range<usize>) -> Cow<'_, [Self::Token]>;
}

/// The maximal spans of a list of longest matches, a length for each position: those that no earlier one reaches the end of.
pub fn maximal(longest: impl Iterator<Item = usize>) -> impl Iterator<Item = (usize, usize)> {
    let mut reach = 0;
    let spans = longest.enumerate().map(|(left, n)| (left, left + n));
    spans.filter(move |&(left, right)| {
        let further = right > left && right > reach;
        reach = reach.max(right);
        further
    })
}

impl<T: Token> TokenIndex for SuffixView<'_, T> {
    type Token = T;

    // A few dependent misses against a token scanned at well under a nanosecond.
    const PLACE_COST: usize = 40;

    fn ranks(&self) -> usize {
        SuffixView::ranks(self)
    }

    fn interval(&self, query: &[T]) -> Range<usize> {
        SuffixView::interval(self, query)
    }

    fn intervals(&self, queries: &[&[T]]) -> Vec<Range<usize>> {
        SuffixView::intervals(self, queries)
    }

    fn place(&self, rank: usize, _: usize) -> usize {
        self.position(rank)
    }

    fn longest_matches(&self, text: &[T]) -> Vec<usize> {
        self.longest_at_each(text, usize::MAX).into_iter().map(|l| l.tokens).collect()
    }

    fn maximal_spans(&self, text: &[T]) -> Vec<(usize, usize, u64)> {
        let longest = self.longest_at_each(text, usize::MAX);
        // The match itself tells where its interval is.
        let count = |left: usize| self.interval_around(longest[left].rank, longest[left].tokens).len() as u64;
        maximal(longest.iter().map(|l| l.tokens)).map(|(left, right)| (left, right, count(left))).collect()
    }

    fn next_tokens(&self, ranks: Range<usize>, n: usize) -> Vec<Next> {
        SuffixView::next_tokens(self, ranks, n)
    }

    fn read(&self, positions: Range<usize>) -> Cow<'_, [T]> {
        let tokens = self.tokens();
        let end = positions.end.min(tokens.len());
        Cow::Borrowed(&tokens[positions.start.min(end)..end])
    }
}

impl TokenIndex for CompactIndex<'_> {
    type Token = u32;

    // Half of the locate step walks through the matrix; a token read is one.
    const PLACE_COST: usize = super::compact::LOCATE_STEP / 2;

    fn ranks(&self) -> usize {
        self.all().end as usize
    }

    fn interval(&self, query: &[u32]) -> Range<usize> {
        if query.is_empty() {
            // The rows whose context ends in a token that is no separator stand before those that do.
            return 1..1 + self.count(&[]) as usize;
        }
        let rows = self.rows(query);
        rows.start as usize..rows.end as usize
    }

    fn place(&self, rank: usize, n: usize) -> usize {
        self.locate(rank as u64, n) as usize
    }

    fn longest_matches(&self, text: &[u32]) -> Vec<usize> {
        CompactIndex::longest_matches(self, text)
    }

    fn maximal_spans(&self, text: &[u32]) -> Vec<(usize, usize, u64)> {
        let longest = CompactIndex::longest_matches(self, text);
        maximal(longest.into_iter()).map(|(left, right)| (left, right, self.count(&text[left..right]))).collect()
    }

    fn next_tokens(&self, ranks: Range<usize>, n: usize) -> Vec<Next> {
        let rows = if n == 0 { self.all() } else { ranks.start as u64..ranks.end as u64 };
        self.followers(rows)
    }

    fn read(&self, positions: Range<usize>) -> Cow<'_, [u32]> {
        Cow::Owned(self.extract(positions.start as u64, positions.len()))
    }
}
