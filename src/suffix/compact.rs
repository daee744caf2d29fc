//! The compact layout: an FM-index of one shard's token stream, in place of stream and suffix array.
//!
//! # Overview
//!
//! The index is the Burrows–Wheeler transform of the *reversed* stream in a Huffman-shaped wavelet matrix (`wavelet`), plus
//! samples that lead from matches to positions and back. It holds the stream itself, so that nothing else need be kept. About
//! 1.9 bytes a token (29 M gpt2 tokens of documentation and books, entropy 10.6 bits), against 6 for the fast layout; queries cost
//! microseconds, not fractions of one. Same answers: counts, positions, next tokens, longest matches.
//!
//! The matrix is our own because it is read in place from a mapped file, byte layout fixed, with a rank in one cache line; the succinct
//! crates at hand own their memory or bring a serialisation format of their own.
//!
//! # How it works
//!
//! Reversed, an n-gram is found by reading it from left to right: the *interval* of an n-gram is the rows whose context (the tokens
//! before a place in the stream, read backwards) begins with the n-gram backwards, and appending a token to it is two ranks in the
//! wavelet matrix. So
//!
//! - the longest match at a position falls out of appending until nothing is left, without a search;
//! - the transform's symbols inside an interval *are* the tokens that follow the n-gram: the next-token distribution is the interval's
//!   symbol counts;
//! - walking from row to row reads the stream forwards.
//!
//! An n-gram's rows are numbered differently from the ranks of the fast layout; only counts and positions can be compared.
//!
//! # Cost
//!
//! | operation | ranks or walks through the matrix (each about as many cache misses as the token's code has bits) |
//! |---|---|
//! | [`CompactIndex::count`] of n tokens | 2 (n − 1) |
//! | [`CompactIndex::locate`], an occurrence | [`LOCATE_STEP`] / 2 on average, less than [`LOCATE_STEP`] at most |
//! | [`CompactIndex::extract`] of k tokens | k, plus less than [`EXTRACT_STEP`] |
//! | [`CompactIndex::followers`] | 2 a distinct next token at most |
//! | [`CompactIndex::longest_matches`] | 2 a token for each place where a match ends, times the logarithm of its length |
//!
//! # Bytes
//!
//! Little-endian, each section padded with zeros to 64 bytes: 16 header words of 8 bytes (version, tokens n, symbols σ, separator,
//! levels, locate step, extract step, primary row, matrix blocks, mark blocks, samples, inverse samples, depths, three zeros);
//! ids (u32 × σ, ascending); tokens with a smaller id (u32 × σ + 1); code bits; code lengths; code starts (u32 × σ each); symbols by code
//! length (u32 × σ); first of each length (u32 × depths); levels (first block, bits, zeros: 3 × u64 each); matrix blocks; mark blocks (64 bytes
//! each); samples (u32); inverse samples (u32).

use std::ops::Range;

use super::Token;
use super::distribution::Next;
use crate::error::{Error, Result};

mod build;
mod codes;
mod wavelet;

use wavelet::{Block, Level, Wavelet};

/// Every how many tokens a position is recorded with its row.
pub const LOCATE_STEP: usize = 16;
/// Every how many tokens a row is recorded with its position.
pub const EXTRACT_STEP: usize = 64;

const VERSION: u64 = 1;
const HEADER_WORDS: usize = 16;

/// A compact index read in place; see the module's documentation.
///
/// ```
/// use priorart::suffix::compact::CompactIndex;
/// let stream = [5u16, 6, 5, 6, 7, 9, 5, 6, 9]; // two documents, each followed by 9
/// let bytes = CompactIndex::build(&stream, 9)?;
/// let index = CompactIndex::open(&bytes)?;
/// assert_eq!(index.count(&[5, 6]), 3);
/// assert_eq!(index.positions(&[5, 6], 10), [0, 2, 6]);
/// assert_eq!(index.extract(2, 3), [5, 6, 7]);
/// # Ok::<(), priorart::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct CompactIndex<'a> {
    tokens: usize,
    separator: u32,
    /// The row whose context is the whole stream: nothing follows it.
    primary: usize,
    ids: &'a [u32],
    before: &'a [u32],
    wavelet: Wavelet<'a>,
    marks: &'a [Block],
    samples: &'a [u32],
    inverse: &'a [u32],
}

impl<'a> CompactIndex<'a> {
    /// Builds the index of a token stream: documents, each followed by the separator `sep`, which is larger than all other ids.
    /// Returns the bytes that [`CompactIndex::open`] reads; the same stream gives the same bytes.
    ///
    /// It sorts the reversed stream itself; a suffix array of the stream as it is would be of no use. Memory: about 13 bytes a token at the peak (two-byte
    /// tokens). Time: linear, about 0.3 µs a token on one thread.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the stream does not end with the separator or holds a larger id; [`Error::Limit`] for
    /// more than [`super::sort::MAX_TOKENS`] tokens.
    pub fn build<T: Token>(tokens: &[T], sep: u32) -> Result<Vec<u8>> {
        build::build(tokens, sep)
    }

    /// Opens an index in place. Checks the header, the sizes of all sections and the symbol tables (some 100 KB); the matrix is not
    /// read, and damage in it leads to wrong answers but never to a read out of bounds, a panic or an endless walk.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the bytes are not such an index, are cut short, or do not start at a multiple of 8.
    pub fn open(bytes: &'a [u8]) -> Result<Self> {
        Ok(Self::from_checked(bytes, &Plan::check(bytes)?))
    }

    /// The index in `bytes`, which `plan` has checked; costs the cutting of a dozen slices. Other bytes give an index that answers
    /// nonsense.
    pub fn from_checked(bytes: &'a [u8], plan: &Plan) -> Self {
        let [ids, before, codes, lengths, starts, by_depth, depth_begin, levels, blocks, marks, samples, inverse] =
            &plan.sections;
        let wavelet = Wavelet {
            blocks: cut(bytes, blocks),
            levels: cut(bytes, levels),
            codes: cut(bytes, codes),
            lengths: cut(bytes, lengths),
            starts: cut(bytes, starts),
            by_depth: cut(bytes, by_depth),
            depth_begin: cut(bytes, depth_begin),
        };
        Self {
            tokens: plan.tokens,
            separator: plan.separator,
            primary: plan.primary,
            ids: cut(bytes, ids),
            before: cut(bytes, before),
            wavelet,
            marks: cut(bytes, marks),
            samples: cut(bytes, samples),
            inverse: cut(bytes, inverse),
        }
    }

    /// Tokens of the stream, separators included.
    pub fn stream_len(&self) -> u64 {
        self.tokens as u64
    }

    /// Documents, i.e. separators.
    pub fn documents(&self) -> u64 {
        let Some(last) = self.ids.len().checked_sub(1) else { return 0 };
        u64::from(self.before[last + 1] - self.before[last])
    }

    /// The rows of the empty n-gram: all of them.
    pub fn all(&self) -> Range<u64> {
        0..self.tokens as u64 + 1
    }

    /// Number of occurrences of an n-gram inside documents. The empty n-gram occurs once at every token that is no separator; an
    /// n-gram that holds the separator does not occur.
    pub fn count(&self, ngram: &[u32]) -> u64 {
        if ngram.is_empty() {
            return self.stream_len() - self.documents();
        }
        let rows = self.rows(ngram);
        rows.end - rows.start
    }

    /// The rows of an n-gram, one an occurrence (empty if there is none).
    pub fn rows(&self, ngram: &[u32]) -> Range<u64> {
        match self.extend(self.all(), ngram) {
            (length, rows) if length == ngram.len() => rows,
            _ => 0..0,
        }
    }

    /// Appends tokens to the n-gram whose rows are given, as many as keep it occurring: how many, and the rows then.
    /// Cost: two ranks a token; none for the first one after [`CompactIndex::all`].
    pub fn extend(&self, rows: Range<u64>, tokens: &[u32]) -> (usize, Range<u64>) {
        let mut rows = rows.start as usize..rows.end as usize;
        for (length, &token) in tokens.iter().enumerate() {
            let next = match self.symbol(token) {
                Some(symbol) => self.step(&rows, symbol),
                None => 0..0,
            };
            if next.is_empty() {
                return (length, rows.start as u64..rows.end as u64);
            }
            rows = next;
        }
        (tokens.len(), rows.start as u64..rows.end as u64)
    }

    /// The longest prefix of `tokens` that occurs: its length and rows.
    pub fn longest_prefix(&self, tokens: &[u32]) -> (usize, Range<u64>) {
        self.extend(self.all(), tokens)
    }

    /// For each position of `tokens` the length of the longest n-gram that starts there and occurs.
    ///
    /// Where a match ends is found by appending; the first later start from which a match reaches further is found by doubling steps and
    /// bisection, and the starts between need no look at the index: their matches end at the same place.
    pub fn longest_matches(&self, tokens: &[u32]) -> Vec<usize> {
        let mut lengths = vec![0; tokens.len()];
        let mut at = 0;
        let mut known = (0, self.all());
        while at < tokens.len() {
            let (more, _) = self.extend(known.1, &tokens[at + known.0..]);
            let length = known.0 + more;
            let end = at + length;
            // From here every start before `next` has its longest match end at `end`.
            let reaches = |start: usize| {
                let (length, rows) = self.longest_prefix(&tokens[start..=end]);
                (length == end + 1 - start).then_some((length, rows))
            };
            let (mut low, mut high) = (at, end + 1);
            let mut found = (0, self.all());
            if end < tokens.len() {
                let mut step = 1;
                while low + step <= end {
                    if let Some(reached) = reaches(low + step) {
                        (high, found) = (low + step, reached);
                        break;
                    }
                    low += step;
                    step *= 2;
                }
                while low + 1 < high {
                    let middle = low + (high - low) / 2;
                    match reaches(middle) {
                        Some(reached) => (high, found) = (middle, reached),
                        None => low = middle,
                    }
                }
            }
            let next = high.min(tokens.len());
            for (start, length) in lengths.iter_mut().enumerate().take(next).skip(at) {
                *length = end - start.min(end);
            }
            at = next;
            known = found;
        }
        lengths
    }

    /// The tokens that follow the n-gram whose rows are given, in token order, with exact counts. The separator stands for the end of a
    /// document; after the empty n-gram it is left out.
    pub fn followers(&self, rows: Range<u64>) -> Vec<Next> {
        let empty = rows == self.all();
        let (start, end) = (self.before_row(rows.start as usize), self.before_row(rows.end as usize));
        let mut found = Vec::new();
        self.wavelet.distinct(start, end, &mut |symbol, _, count| {
            if let Some(&token) = self.ids.get(symbol)
                && !(empty && token == self.separator)
            {
                found.push(Next { token, count: count as u64 });
            }
        });
        found.sort_unstable_by_key(|next| next.token);
        found
    }

    /// Where the n-gram of `length` tokens that has this row begins in the stream.
    /// Cost: less than [`LOCATE_STEP`] walks.
    pub fn locate(&self, row: u64, length: usize) -> u64 {
        let mut row = row as usize;
        for walked in 0..=LOCATE_STEP {
            let after = if row == self.primary {
                self.tokens
            } else {
                let (sampled, rank) = wavelet::bit_and_rank(self.marks, 0, row);
                if !sampled {
                    row = self.walk(row).1;
                    continue;
                }
                self.samples.get(rank).map_or(0, |&s| s as usize * LOCATE_STEP)
            };
            return after.saturating_sub(walked + length) as u64;
        }
        0
    }

    /// The first `limit` (by row) positions of an n-gram, ascending. The empty n-gram has none.
    pub fn positions(&self, ngram: &[u32], limit: usize) -> Vec<u64> {
        if ngram.is_empty() {
            return Vec::new();
        }
        let rows = self.rows(ngram);
        let mut found: Vec<u64> = rows.take(limit).map(|row| self.locate(row, ngram.len())).collect();
        found.sort_unstable();
        found
    }

    /// The tokens of the stream from `position` on, at most `length`, separators included.
    pub fn extract(&self, position: u64, length: usize) -> Vec<u32> {
        let position = (position as usize).min(self.tokens);
        let length = length.min(self.tokens - position);
        let mut out = Vec::with_capacity(length);
        let Some(&row) = self.inverse.get(position / EXTRACT_STEP) else { return out };
        let mut row = row as usize;
        for _ in 0..position % EXTRACT_STEP {
            row = self.walk(row).1;
        }
        for _ in 0..length {
            let (symbol, next) = self.walk(row);
            out.push(self.ids.get(symbol).copied().unwrap_or(self.separator));
            row = next;
        }
        out
    }

    /// The symbol of a token, unless it does not occur or is the separator.
    fn symbol(&self, token: u32) -> Option<usize> {
        if token >= self.separator {
            return None;
        }
        self.ids.binary_search(&token).ok()
    }

    /// Number of the transform's symbols in the rows before `row`: each has one, but for the primary row.
    fn before_row(&self, row: usize) -> usize {
        row - usize::from(row > self.primary)
    }

    /// The rows of an n-gram with a symbol appended.
    fn step(&self, rows: &Range<usize>, symbol: usize) -> Range<usize> {
        let first = self.before.get(symbol).map_or(0, |&b| b as usize + 1);
        if rows.start == 0 && rows.end == self.tokens + 1 {
            return first..self.before.get(symbol + 1).map_or(0, |&b| b as usize + 1);
        }
        let (a, b) = self.wavelet.ranks(symbol, self.before_row(rows.start), self.before_row(rows.end));
        first + a..first + b
    }

    /// The token after a row's context, and the row of the context with it. From the primary row: nowhere in particular.
    fn walk(&self, row: usize) -> (usize, usize) {
        let (symbol, occurrence) = self.wavelet.access(self.before_row(row));
        let first = self.before.get(symbol).map_or(0, |&b| b as usize + 1);
        (symbol, (first + occurrence).min(self.tokens))
    }
}

/// Where the parts of an index lie in its bytes, checked once by [`Plan::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    tokens: usize,
    separator: u32,
    primary: usize,
    /// Byte ranges, in the order of the file.
    sections: [Range<usize>; SECTIONS],
}

/// Sections behind the header.
const SECTIONS: usize = 12;

impl Plan {
    /// Reads and checks the header, the sizes of all sections and the symbol tables of `bytes`.
    ///
    /// # Errors
    /// Those of [`CompactIndex::open`].
    pub fn check(bytes: &[u8]) -> Result<Plan> {
        let bad = |what: &str| Error::invalid(format!("not a compact index: {what}"));
        let header: &[u64] = cut(bytes, &(0..HEADER_WORDS * 8));
        let at = |i: usize| header.get(i).copied().unwrap_or(0) as usize;
        match header.first() {
            None => return Err(bad("the header is cut short, or the bytes are not aligned")),
            Some(&VERSION) => {}
            Some(_) => return Err(bad("unknown version")),
        }
        if at(5) != LOCATE_STEP || at(6) != EXTRACT_STEP {
            return Err(bad("unknown sampling steps"));
        }
        let (tokens, sigma) = (at(1), at(2));
        let sizes: [(usize, usize); SECTIONS] = [
            (sigma, 4),
            (sigma.saturating_add(1), 4),
            (sigma, 4),
            (sigma, 4),
            (sigma, 4),
            (sigma, 4),
            (at(12), 4),
            (at(4), size_of::<Level>()),
            (at(8), size_of::<Block>()),
            (at(9), size_of::<Block>()),
            (at(10), 4),
            (at(11), 4),
        ];
        let mut sections: [Range<usize>; SECTIONS] = std::array::from_fn(|_| 0..0);
        let mut start = HEADER_WORDS * 8;
        for (section, (length, size)) in sections.iter_mut().zip(sizes) {
            let end = length.checked_mul(size).and_then(|n| start.checked_add(n));
            let padded = end.and_then(|e| e.checked_next_multiple_of(64)).filter(|&p| p <= bytes.len());
            let (Some(end), Some(padded)) = (end, padded) else { return Err(bad("a section is cut short")) };
            *section = start..end;
            start = padded;
        }
        let separator = u32::try_from(at(3)).map_err(|_| bad("the separator is no token id"))?;
        let plan = Plan { tokens, separator, primary: at(7), sections };
        let index = CompactIndex::from_checked(bytes, &plan);
        let ascending = |values: &[u32]| values.windows(2).all(|pair| pair[0] <= pair[1]);
        let wavelet = &index.wavelet;
        let sound = start == bytes.len()
            && tokens < u32::MAX as usize
            && plan.primary <= tokens
            && ascending(index.ids)
            && index.ids.last().is_none_or(|&id| id == separator)
            && ascending(index.before)
            && index.before.last().is_some_and(|&sum| sum as usize == tokens)
            && ascending(wavelet.depth_begin)
            && wavelet.levels.len() <= codes::MAX_LENGTH
            && wavelet.lengths.iter().all(|&l| l as usize <= wavelet.levels.len())
            && wavelet.by_depth.iter().all(|&s| (s as usize) < sigma)
            && index.marks.len() == wavelet::blocks_for(tokens + 1)
            && index.inverse.len() == tokens.div_ceil(EXTRACT_STEP);
        if !sound {
            return Err(bad("its tables contradict each other"));
        }
        Ok(plan)
    }

    /// Tokens of the stream, separators included.
    pub fn stream_len(&self) -> u64 {
        self.tokens as u64
    }

    /// The separator.
    pub fn separator(&self) -> u32 {
        self.separator
    }
}

/// A part of the bytes as values; nothing where it is cut short or not aligned.
fn cut<'a, P: bytemuck::AnyBitPattern>(bytes: &'a [u8], range: &Range<usize>) -> &'a [P] {
    bytes.get(range.clone()).and_then(|part| bytemuck::try_cast_slice(part).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
