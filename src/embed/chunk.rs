//! Chunks: the token windows of a document that get an embedding.
//!
//! Overview. [`ChunkRule::cut`] slides a window over the encoder tokens of one document; a chunk keeps the byte range of
//! its first to last token, so that a hit shows the original characters. Chunks never cross documents, because a document
//! is cut on its own. The default is the published one: 100 tokens, stride = window, no overlap. [`ChunkRule::cut_by`] does the same
//! with windows of index tokens.
//!
//! Invariants. Every token is in at least one chunk; chunks start in ascending order; no chunk is longer than
//! `max_tokens`. A tail that adds fewer than a quarter of a window is joined to the chunk before it where that fits,
//! because the embedding of a few words resembles everything.

use std::ops::Range;

use super::EncoderTokens;
use crate::error::{Error, Result};

/// What a rule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Tokens of the encoder.
    #[default]
    Encoder,
    /// Tokens of the index.
    Index,
}

impl Unit {
    /// Whether this is [`Unit::Encoder`], which files do not mention.
    pub fn is_encoder(&self) -> bool {
        *self == Unit::Encoder
    }

    /// `encoder` or `index`.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Encoder => "encoder",
            Unit::Index => "index",
        }
    }
}

/// How documents are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ChunkRule {
    /// Tokens of a chunk, special tokens not counted.
    pub window: usize,
    /// Tokens from one chunk's start to the next; below `window`, chunks overlap.
    pub stride: usize,
    /// Which tokens these are.
    #[serde(default, skip_serializing_if = "Unit::is_encoder")]
    pub unit: Unit,
}

impl Default for ChunkRule {
    fn default() -> Self {
        ChunkRule { window: 100, stride: 100, unit: Unit::Encoder }
    }
}

/// One chunk of a document: bytes `start_byte..end_byte` of its text, tokens `tokens` of its encoder tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub start_byte: u32,
    pub end_byte: u32,
    pub tokens: Range<usize>,
}

impl ChunkRule {
    /// A rule for an encoder that takes windows of up to `max_tokens` (see [`super::Encoder::max_window`]). A window of index
    /// tokens has no such limit: one with more encoder tokens is divided.
    ///
    /// # Errors
    /// A window of 0 or more than `max_tokens`, a stride of 0 or more than the window (tokens would be skipped).
    pub fn checked(window: usize, stride: usize, unit: Unit, max_tokens: usize) -> Result<ChunkRule> {
        let most = if unit.is_encoder() { max_tokens } else { 1 << 20 };
        if window == 0 || window > most {
            return Err(Error::invalid_hint(
                match unit {
                    Unit::Encoder => format!("a chunk window of {window} tokens; the encoder takes 1 to {max_tokens}"),
                    Unit::Index => format!("a chunk window of {window} index tokens; 1 to {most} are allowed"),
                },
                "choose a window within these limits, or an encoder with a longer input",
            ));
        }
        if stride == 0 || stride > window {
            return Err(Error::invalid(format!(
                "a chunk stride of {stride} tokens; 1 to the window ({window}) is allowed"
            )));
        }
        Ok(ChunkRule { window, stride, unit })
    }

    /// Cuts one document. `max_tokens` bounds what a joined tail may make of the last chunk. No tokens, no chunks.
    pub fn cut(&self, tokens: &EncoderTokens, max_tokens: usize) -> Vec<Chunk> {
        self.windows(tokens.ids.len(), max_tokens).into_iter().map(|range| chunk(tokens, range)).collect()
    }

    /// Cuts one document by its index tokens, which begin at the bytes `starts`: a chunk has the encoder tokens that begin in
    /// its window, or before the first one's. A window with more than `max_tokens` of them becomes several chunks; one
    /// without any, none.
    pub fn cut_by(&self, starts: &[u32], tokens: &EncoderTokens, max_tokens: usize) -> Vec<Chunk> {
        let begins = |byte: u32| tokens.spans.partition_point(|span| span.start < byte);
        let mut out = Vec::new();
        for window in self.windows(starts.len(), usize::MAX) {
            let from = if window.start == 0 { 0 } else { begins(starts[window.start]) };
            let to = starts.get(window.end).map_or(tokens.ids.len(), |&byte| begins(byte));
            for first in (from..to).step_by(max_tokens.max(1)) {
                out.push(chunk(tokens, first..to.min(first + max_tokens)));
            }
        }
        out
    }

    /// The windows of `n` tokens.
    fn windows(&self, n: usize, max_tokens: usize) -> Vec<Range<usize>> {
        let (window, stride) = (self.window.max(1), self.stride.clamp(1, self.window.max(1)));
        let mut ranges: Vec<Range<usize>> = Vec::with_capacity(n / stride + 1);
        let mut start = 0;
        while start < n {
            let end = (start + window).min(n);
            match ranges.last_mut() {
                Some(last) if end == n && (end - last.end) * 4 < window && end - last.start <= max_tokens => {
                    last.end = end
                }
                _ => ranges.push(start..end),
            }
            if end == n {
                break;
            }
            start += stride;
        }
        ranges
    }
}

/// The chunk of a range of encoder tokens, which is not empty.
fn chunk(tokens: &EncoderTokens, range: Range<usize>) -> Chunk {
    Chunk {
        start_byte: tokens.spans[range.start].start,
        end_byte: tokens.spans[range.clone()].iter().map(|s| s.end).max().unwrap_or(0),
        tokens: range,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tokenize::ByteSpan;

    /// `n` tokens of three bytes with one byte between them.
    fn tokens(n: usize) -> EncoderTokens {
        let spans = (0..n as u32).map(|i| ByteSpan { start: i * 4, end: i * 4 + 3 }).collect();
        EncoderTokens { ids: vec![7; n], spans }
    }

    fn ranges(n: usize, window: usize, stride: usize, max: usize) -> Vec<Range<usize>> {
        ChunkRule { window, stride, ..ChunkRule::default() }
            .cut(&tokens(n), max)
            .into_iter()
            .map(|c| c.tokens)
            .collect()
    }

    #[test]
    fn boundaries() {
        assert!(ranges(0, 100, 100, 254).is_empty());
        assert_eq!(ranges(1, 100, 100, 254), vec![0..1]);
        assert_eq!(ranges(100, 100, 100, 254), vec![0..100]);
        assert_eq!(ranges(124, 100, 100, 254), vec![0..124], "a tail of 24 is joined");
        assert_eq!(ranges(125, 100, 100, 254), vec![0..100, 100..125], "a quarter of a window stands alone");
        assert_eq!(ranges(124, 100, 100, 110), vec![0..100, 100..124], "a joined chunk would not fit the encoder");
        assert_eq!(ranges(250, 100, 50, 254), vec![0..100, 50..150, 100..200, 150..250]);
        assert_eq!(ranges(260, 100, 50, 254), vec![0..100, 50..150, 100..200, 150..260]);
    }

    #[test]
    fn bytes_cover_the_tokens() {
        let chunks = ChunkRule { window: 10, stride: 10, ..ChunkRule::default() }.cut(&tokens(20), 254);
        assert_eq!(chunks.iter().map(|c| (c.start_byte, c.end_byte)).collect::<Vec<_>>(), [(0, 39), (40, 79)]);
    }

    #[test]
    fn rules_are_checked() {
        assert!(ChunkRule::checked(100, 100, Unit::Encoder, 254).is_ok());
        for (window, stride) in [(0, 1), (255, 100), (100, 0), (100, 101)] {
            assert!(ChunkRule::checked(window, stride, Unit::Encoder, 254).is_err(), "{window}/{stride}");
        }
        assert!(ChunkRule::checked(255, 100, Unit::Index, 254).is_ok());
        assert!(ChunkRule::checked(100, 101, Unit::Index, 254).is_err());
    }

    #[test]
    fn windows_of_index_tokens_have_the_encoder_tokens_that_begin_in_them() {
        let rule = ChunkRule { window: 2, stride: 2, unit: Unit::Index };
        // Encoder tokens begin at 0, 4, 8, …; index tokens at 2, 10, 11, 30, 38.
        let cut = |n, max| -> Vec<Range<usize>> {
            rule.cut_by(&[2, 10, 11, 30, 38], &tokens(n), max).into_iter().map(|c| c.tokens).collect()
        };
        assert_eq!(cut(12, 254), [0..3, 3..10, 10..12], "bytes up to 11, up to 38, the rest");
        assert_eq!(cut(12, 4), [0..3, 3..7, 7..10, 10..12], "a window that does not fit the encoder is divided");
        assert_eq!(cut(2, 254), vec![0..2], "a window without encoder tokens is no chunk");
        assert!(rule.cut_by(&[], &tokens(0), 254).is_empty());
        let overlapping = ChunkRule { window: 3, stride: 1, unit: Unit::Index };
        let cut: Vec<Range<usize>> =
            overlapping.cut_by(&[0, 8, 16, 24, 32], &tokens(10), 254).into_iter().map(|c| c.tokens).collect();
        assert_eq!(cut, [0..6, 2..8, 4..10]);
    }

    proptest! {
        #[test]
        fn every_token_is_covered_in_order(n in 0usize..2000, window in 1usize..300, part in 1usize..300, extra in 0usize..100) {
            let stride = part.min(window);
            let got = ranges(n, window, stride, window + extra);
            let mut covered = 0;
            for (i, r) in got.iter().enumerate() {
                prop_assert!(r.start <= covered && r.end > covered, "a gap or a chunk that adds nothing: {got:?}");
                prop_assert!(r.len() <= window + extra);
                prop_assert_eq!(r.start, i * stride);
                covered = r.end;
            }
            prop_assert_eq!(covered, n);
        }
    }
}
