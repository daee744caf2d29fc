//! The token index of a shard, in one of three layouts.
//!
//! - *fast*: the token stream and its suffix array (`tokens.bin`, `suffix.bin`, `top.bin`, `runs.bin`);
//! - *compact*: an FM-index that stands for both (`compact.bin`);
//! - *infini-gram*: the files of an index that infini-gram has built, read where they are (see [`super::infinigram`]).
//!
//! The first two are written once by `write`; all are mapped by [`ExactIndex::open`]. `with_view!` runs an expression on the view of
//! whatever the shard has.

use std::path::Path;

use super::ShardMeta;
use super::infinigram::Files;
use crate::error::{Error, Result};
use crate::format::{Access, Array, Kind, Section};
use crate::store::Store;
use crate::suffix::compact::{self, CompactIndex};
use crate::suffix::layout::{self, Shape, SuffixMeta};
use crate::suffix::pointers::PointerIndex;
use crate::suffix::{SuffixView, Token, sort, verify};

/// The token stream.
pub const TOKENS_BIN: &str = "tokens.bin";
/// The blocks of the suffix array.
pub const SUFFIX_BIN: &str = "suffix.bin";
/// The top level of the suffix array.
pub const TOP_BIN: &str = "top.bin";
/// What blocks that begin alike share.
pub const RUNS_BIN: &str = "runs.bin";
/// The compact index.
pub const COMPACT_BIN: &str = "compact.bin";
/// The files that make up a token index, whatever its layout.
pub const EXACT_FILES: [&str; 5] = [TOKENS_BIN, SUFFIX_BIN, TOP_BIN, RUNS_BIN, COMPACT_BIN];

/// How a shard's token index is laid out. Every layout gives the same answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Suffix array: six to seven bytes a token, about a microsecond a count
    #[default]
    Fast,
    /// FM-index: about two bytes a token, ten times the time a count
    Compact,
    /// An index built by infini-gram, in place.
    #[value(skip)]
    Infinigram,
}

impl Layout {
    /// Whether it is the layout that `shard.json` does not mention.
    pub(super) fn is_fast(&self) -> bool {
        *self == Layout::Fast
    }

    /// The name on the command line and in `shard.json`.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Fast => "fast",
            Layout::Compact => "compact",
            Layout::Infinigram => "infinigram",
        }
    }
}

/// Sorts `stream` (documents, each followed by `separator`) and writes the files of `layout`.
///
/// Memory beyond the stream: for the fast layout 4 bytes a token, 8 while sorting four-byte tokens; for the compact one about 12.
pub fn write<T: Token>(
    store: &dyn Store,
    dir: &Path,
    stream: &[T],
    documents: u64,
    separator: u32,
    layout: Layout,
) -> Result<SuffixMeta> {
    let meta = SuffixMeta::new(stream.len() as u64, documents, separator);
    match layout {
        Layout::Fast => {}
        Layout::Compact => {
            let bytes = CompactIndex::build(stream, separator)?;
            let mut out = store.section(&dir.join(COMPACT_BIN), Kind::COMPACT, 0)?;
            out.put(&bytes)?;
            out.finish()?;
            return Ok(meta.without_runs());
        }
        Layout::Infinigram => return Err(Error::invalid("an index of infini-gram is imported, not built")),
    }
    let mut out = store.section(&dir.join(TOKENS_BIN), Kind::TOKENS, T::BYTES as u8)?;
    out.put(stream)?;
    out.finish()?;
    let sorted = sort::suffix_array(stream, separator)?;
    let path = dir.join(SUFFIX_BIN);
    let mut out = store.section(&path, Kind::SUFFIX, 1)?;
    let top = layout::write(stream, &sorted, &meta, &mut out).map_err(Error::io(&path, "write"))?;
    out.finish()?;
    let mut out = store.section(&dir.join(TOP_BIN), Kind::TOP, 8)?;
    out.put(&top.keys)?;
    out.finish()?;
    let mut out = store.section(&dir.join(RUNS_BIN), Kind::RUNS, 1)?;
    out.put(&top.runs)?;
    out.finish()?;
    Ok(meta)
}

/// A mapped token stream of either width.
enum Stream {
    U8(Array<u8>),
    U16(Array<u16>),
    U32(Array<u32>),
}

enum Held {
    Fast { stream: Stream, blocks: Array<u8>, top: Array<u64>, runs: Option<Array<u8>>, meta: SuffixMeta, shape: Shape },
    Compact { bytes: Array<u8>, plan: Box<compact::Plan> },
    Infinigram(Files),
}

/// What of an exact index can be held in memory, the part whose bytes save most time first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The search tree and the runs, 0.05 bytes a token: read at every step of every query.
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

/// The exact index of an opened shard.
pub struct ExactIndex {
    held: Held,
}

/// A view of the layout and width the shard has.
pub enum AnyView<'a> {
    U8(SuffixView<'a, u8>),
    U16(SuffixView<'a, u16>),
    U32(SuffixView<'a, u32>),
    Compact(CompactIndex<'a>),
    Pointers(PointerIndex<'a>),
}

impl AnyView<'_> {
    /// Checks the index against its own stream: the fast layout to the last byte, the others by a sample.
    ///
    /// # Errors
    /// As [`SuffixView::verify`] and [`verify::sampled`].
    pub fn verify(&self, meta: &SuffixMeta) -> Result<()> {
        let stream = meta.stream as usize;
        match self {
            AnyView::U8(v) => v.verify(),
            AnyView::U16(v) => v.verify(),
            AnyView::U32(v) => v.verify(),
            AnyView::Compact(v) => verify::sampled(*v, stream, meta.separator),
            AnyView::Pointers(v) => verify::sampled(*v, stream, meta.separator),
        }
    }
}

/// Runs `$body` with `$view` bound to the shard's [`TokenIndex`](crate::suffix::TokenIndex), whatever its layout and width.
#[macro_export]
macro_rules! with_view {
    ($exact:expr, $view:ident => $body:expr) => {{
        #[allow(unused_imports)]
        use $crate::suffix::TokenIndex as _;
        match $exact.view() {
            $crate::shard::exact::AnyView::U8($view) => $body,
            $crate::shard::exact::AnyView::U16($view) => $body,
            $crate::shard::exact::AnyView::U32($view) => $body,
            $crate::shard::exact::AnyView::Compact($view) => $body,
            $crate::shard::exact::AnyView::Pointers($view) => $body,
        }
    }};
}

impl ExactIndex {
    /// Maps the files of the shard's layout and checks their lengths against `shard`.
    pub fn open(dir: &Path, shard: &ShardMeta) -> Result<ExactIndex> {
        let held = match shard.layout {
            Layout::Fast => return ExactIndex::open_fast(dir, shard),
            Layout::Compact => {
                let path = dir.join(COMPACT_BIN);
                let section = Section::open(&path, Kind::COMPACT)?;
                section.advise(Access::Random)?;
                let bytes: Array<u8> = section.array()?;
                let corrupt = |e: Error| Error::corrupt(&path, crate::format::HEADER_BYTES as u64, e.to_string());
                let plan = compact::Plan::check(&bytes).map_err(corrupt)?;
                let found = (plan.stream_len(), plan.separator());
                if found != (shard.suffix.stream, shard.suffix.separator) {
                    return Err(corrupt(Error::invalid(format!(
                        "it has {} positions and the separator {}, {} says {} and {}",
                        found.0,
                        found.1,
                        super::SHARD_JSON,
                        shard.suffix.stream,
                        shard.suffix.separator
                    ))));
                }
                Held::Compact { bytes, plan: Box::new(plan) }
            }
            Layout::Infinigram => Held::Infinigram(Files::open(&dir.join(super::SHARD_JSON), shard)?),
        };
        Ok(ExactIndex { held })
    }

    fn open_fast(dir: &Path, shard: &ShardMeta) -> Result<ExactIndex> {
        let path = dir.join(TOKENS_BIN);
        let tokens = Section::open(&path, Kind::TOKENS)?;
        let stream = match shard.width {
            1 => Stream::U8(tokens.array()?),
            2 => Stream::U16(tokens.array()?),
            4 => Stream::U32(tokens.array()?),
            w => {
                return Err(Error::corrupt(
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
        top.read_ahead();
        let meta = shard.suffix;
        let runs = if meta.runs {
            let runs = Section::open(dir.join(RUNS_BIN), Kind::RUNS)?;
            runs.read_ahead();
            Some(runs.array()?)
        } else {
            None
        };
        let shape = Shape::new(&meta).map_err(|e| Error::corrupt(dir.join(super::SHARD_JSON), 0, e.to_string()))?;
        let held = Held::Fast { stream, blocks: suffix.array()?, top: top.array()?, runs, meta, shape };
        let index = ExactIndex { held };
        match index.view() {
            AnyView::U8(v) => v.check(),
            AnyView::U16(v) => v.check(),
            AnyView::U32(v) => v.check(),
            AnyView::Compact(_) | AnyView::Pointers(_) => Ok(()),
        }
        .map_err(|e| Error::corrupt(&path, 0, e.to_string()))?;
        Ok(index)
    }

    /// Copies `part` into memory of its own, in huge pages where the system has them, if that takes at most `budget` bytes, and takes
    /// them from it. Reads all of the part. Only the fast layout has parts; of the others nothing is copied.
    pub fn make_resident(&mut self, part: Part, budget: &mut u64) -> Result<()> {
        let Held::Fast { stream, blocks, top, runs, .. } = &mut self.held else { return Ok(()) };
        let bytes = match (part, &*stream) {
            (Part::Top, _) => size_of_val(&**top) + runs.as_ref().map_or(0, |runs| runs.len()),
            (Part::Stream, Stream::U8(s)) => size_of_val(&**s),
            (Part::Stream, Stream::U16(s)) => size_of_val(&**s),
            (Part::Stream, Stream::U32(s)) => size_of_val(&**s),
            (Part::Blocks, _) => blocks.len(),
        } as u64;
        let Some(left) = budget.checked_sub(bytes) else { return Ok(()) };
        match part {
            Part::Top => {
                *top = top.resident()?;
                if let Some(runs) = runs {
                    *runs = runs.resident()?;
                }
            }
            Part::Stream => match stream {
                Stream::U8(s) => *s = s.resident()?,
                Stream::U16(s) => *s = s.resident()?,
                Stream::U32(s) => *s = s.resident()?,
            },
            Part::Blocks => *blocks = blocks.resident()?,
        }
        *budget = left;
        Ok(())
    }

    /// The token index as a view; costs nothing (some tens of nanoseconds for the compact layout).
    #[inline]
    pub fn view(&self) -> AnyView<'_> {
        match &self.held {
            Held::Fast { stream, blocks, top, runs, meta, shape } => {
                let runs = runs.as_deref().unwrap_or_default();
                match stream {
                    Stream::U8(s) => AnyView::U8(SuffixView::from_checked(s, blocks, top, runs, *meta, *shape)),
                    Stream::U16(s) => AnyView::U16(SuffixView::from_checked(s, blocks, top, runs, *meta, *shape)),
                    Stream::U32(s) => AnyView::U32(SuffixView::from_checked(s, blocks, top, runs, *meta, *shape)),
                }
            }
            Held::Compact { bytes, plan } => AnyView::Compact(CompactIndex::from_checked(bytes, plan)),
            Held::Infinigram(files) => AnyView::Pointers(files.view()),
        }
    }
}
