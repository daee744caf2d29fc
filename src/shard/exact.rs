//! The token stream of a shard and its suffix array: `tokens.bin`, `suffix.bin`, `top.bin`.
//!
//! Written once by `write`, mapped by [`ExactIndex::open`]. Tokens are one, two or four bytes wide; `with_view!` runs an
//! expression on the view of the right width.

use std::path::Path;

use super::ShardMeta;
use crate::error::Result;
use crate::format::{Access, Array, Kind, Section};
use crate::store::Store;
use crate::suffix::layout::{self, Shape, SuffixMeta};
use crate::suffix::{SuffixView, Token, sort};

/// The token stream.
pub const TOKENS_BIN: &str = "tokens.bin";
/// The blocks of the suffix array.
pub const SUFFIX_BIN: &str = "suffix.bin";
/// The top level of the suffix array.
pub const TOP_BIN: &str = "top.bin";

/// Sorts `stream` (documents, each followed by `separator`) and writes the three files.
///
/// Memory beyond the stream: 4 bytes a token, 8 while sorting four-byte tokens.
pub fn write<T: Token>(
    store: &dyn Store,
    dir: &Path,
    stream: &[T],
    documents: u64,
    separator: u32,
) -> Result<SuffixMeta> {
    let meta = SuffixMeta::new(stream.len() as u64, documents, separator);
    let mut out = store.section(&dir.join(TOKENS_BIN), Kind::TOKENS, T::BYTES as u8)?;
    out.put(stream)?;
    out.finish()?;
    let sorted = sort::suffix_array(stream, separator)?;
    let path = dir.join(SUFFIX_BIN);
    let mut out = store.section(&path, Kind::SUFFIX, 1)?;
    let keys = layout::write(stream, &sorted, &meta, &mut out).map_err(crate::Error::io(&path, "write"))?;
    out.finish()?;
    let mut out = store.section(&dir.join(TOP_BIN), Kind::TOP, 8)?;
    out.put(&keys)?;
    out.finish()?;
    Ok(meta)
}

/// A mapped token stream of either width.
enum Stream {
    U8(Array<u8>),
    U16(Array<u16>),
    U32(Array<u32>),
}

/// The exact index of an opened shard.
pub struct ExactIndex {
    stream: Stream,
    blocks: Array<u8>,
    top: Array<u64>,
    meta: SuffixMeta,
    shape: Shape,
}

/// What of an exact index can be held in memory, the part whose bytes save most time first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The search tree, 0.03 bytes a token: read at every step of every query.
    Top,
    /// The tokens, one, two or four bytes each: one place for every query of more than 64 bits.
    Stream,
    /// The blocks of the suffix array, some 4.4 bytes a token: one group of 256 suffixes a query.
    Blocks,
}

impl Part {
    /// All of them, in the order in which a budget is spent.
    pub const ALL: [Part; 3] = [Part::Top, Part::Stream, Part::Blocks];
}

/// A view of the width the shard has.
pub enum AnyView<'a> {
    U8(SuffixView<'a, u8>),
    U16(SuffixView<'a, u16>),
    U32(SuffixView<'a, u32>),
}

/// Runs `$body` with `$view` bound to the shard's [`SuffixView`], whatever its width.
#[macro_export]
macro_rules! with_view {
    ($exact:expr, $view:ident => $body:expr) => {{
        #[allow(unused_imports)]
        use $crate::suffix::TokenIndex as _;
        match $exact.view() {
            $crate::shard::exact::AnyView::U8($view) => $body,
            $crate::shard::exact::AnyView::U16($view) => $body,
            $crate::shard::exact::AnyView::U32($view) => $body,
        }
    }};
}

impl ExactIndex {
    /// Maps the three files and checks their lengths against `shard`.
    pub fn open(dir: &Path, shard: &ShardMeta) -> Result<ExactIndex> {
        let path = dir.join(TOKENS_BIN);
        let tokens = Section::open(&path, Kind::TOKENS)?;
        let stream = match shard.width {
            1 => Stream::U8(tokens.array()?),
            2 => Stream::U16(tokens.array()?),
            4 => Stream::U32(tokens.array()?),
            w => {
                return Err(crate::Error::corrupt(
                    dir.join(super::SHARD_JSON),
                    0,
                    format!("token width {w} is not 1, 2 or 4"),
                ));
            }
        };
        let suffix = Section::open(dir.join(SUFFIX_BIN), Kind::SUFFIX)?;
        let top = Section::open(dir.join(TOP_BIN), Kind::TOP)?;
        for section in [&tokens, &suffix] {
            // Queries land anywhere: reading ahead would only evict what is used.
            section.advise(Access::Random)?;
        }
        // Every query reads the top level: one page after another would be a cold start of many reads.
        top.advise(Access::WillNeed)?;
        let meta = shard.suffix;
        let shape =
            Shape::new(&meta).map_err(|e| crate::Error::corrupt(dir.join(super::SHARD_JSON), 0, e.to_string()))?;
        let index = ExactIndex { stream, blocks: suffix.array()?, top: top.array()?, meta, shape };
        with_view!(index, v => v.check()).map_err(|e| crate::Error::corrupt(&path, 0, e.to_string()))?;
        Ok(index)
    }

    /// Copies `part` into memory of its own, in huge pages where the system has them, if that takes at most `budget` bytes, and takes
    /// them from it. Reads all of the part.
    pub fn make_resident(&mut self, part: Part, budget: &mut u64) -> Result<()> {
        let bytes = match (part, &self.stream) {
            (Part::Top, _) => size_of_val(&*self.top),
            (Part::Stream, Stream::U8(s)) => size_of_val(&**s),
            (Part::Stream, Stream::U16(s)) => size_of_val(&**s),
            (Part::Stream, Stream::U32(s)) => size_of_val(&**s),
            (Part::Blocks, _) => self.blocks.len(),
        } as u64;
        let Some(left) = budget.checked_sub(bytes) else { return Ok(()) };
        match part {
            Part::Top => self.top = self.top.resident()?,
            Part::Stream => match &mut self.stream {
                Stream::U8(s) => *s = s.resident()?,
                Stream::U16(s) => *s = s.resident()?,
                Stream::U32(s) => *s = s.resident()?,
            },
            Part::Blocks => self.blocks = self.blocks.resident()?,
        }
        *budget = left;
        Ok(())
    }

    /// The suffix array as a view; costs nothing.
    #[inline]
    pub fn view(&self) -> AnyView<'_> {
        match &self.stream {
            Stream::U8(s) => AnyView::U8(SuffixView::from_checked(s, &self.blocks, &self.top, self.meta, self.shape)),
            Stream::U16(s) => AnyView::U16(SuffixView::from_checked(s, &self.blocks, &self.top, self.meta, self.shape)),
            Stream::U32(s) => AnyView::U32(SuffixView::from_checked(s, &self.blocks, &self.top, self.meta, self.shape)),
        }
    }
}
