//! Blocks and top level of a suffix array: their bytes, their builder, and [`SuffixView`], the checked reader.
//!
//! ```text
//! group   4 blocks of 64 suffixes each:
//!           4 × u64          keys: the first 64 bits of each block's first suffix (u64::MAX past the last block)
//!           4 × 64 bytes     branch bytes, a block after another
//!           4 × 64 × pointer_bits bits of positions (little-endian, bit i is bit i % 8 of byte i / 8)
//!         ranks beyond the end have branch byte 0 and position 0. After the last group, 8 zero bytes.
//! top     u64 keys: level 0 has the first key of every group, level l + 1 every 16th key of level l; each level is
//!         padded to a multiple of 16 keys with u64::MAX; levels follow one another from level 0 up, until one has 16 keys.
//! runs    one byte a block: the bits that its first suffix shares with the first suffix of the block before, capped at 255;
//!         0 for the first. Padded with zeros to a multiple of 64.
//! ```
//!
//! Size: 1 + pointer_bits / 8 + 1/8 bytes a token for the groups, 8.53/256 bytes a token for the top, 1/64 for the runs. A group is some 17 cache
//! lines, few enough to be asked for at once: a search waits for memory once for its keys, branch bytes and positions.

use std::io::Write;

use rayon::prelude::*;

use super::kernel::{Isa, Kernel};
use super::{Token, bits};
use crate::error::{Error, Result};

/// Suffixes in a block.
pub const BLOCK: usize = 64;
/// Keys in a node of the top level's tree: two cache lines.
pub const FANOUT: usize = 16;
/// Bytes of a node.
pub const NODE: usize = FANOUT * 8;
/// Blocks in a group.
pub const GROUP_BLOCKS: usize = 4;
/// Suffixes in a group.
pub const GROUP: usize = GROUP_BLOCKS * BLOCK;
/// Bytes of a group's keys.
const KEYS: usize = GROUP_BLOCKS * 8;
const MAX_LEVELS: usize = 9;
/// Bytes a token of the top level.
pub const TOP_PER_TOKEN: f64 = 8.54 / GROUP as f64;
/// Bytes a token of the runs.
pub const RUNS_PER_TOKEN: f64 = 1.0 / BLOCK as f64;

/// The numbers that describe a suffix array besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SuffixMeta {
    /// Number of ranks: tokens without separators.
    pub ranks: u64,
    /// Tokens of the stream, separators included.
    pub stream: u64,
    /// The separator: the largest id of the stream.
    pub separator: u32,
    /// Bits a token takes in branch bytes and keys.
    pub token_bits: u32,
    /// Bits a position takes.
    pub pointer_bits: u32,
    /// Whether there are runs: not in a shard of format 1.0, nor in another layout.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub runs: bool,
}

impl SuffixMeta {
    /// The description of the suffix array of a stream with `documents` separators.
    pub fn new(stream: u64, documents: u64, separator: u32) -> Self {
        let pointer_bits = (64 - stream.saturating_sub(1).leading_zeros()).max(1);
        SuffixMeta {
            ranks: stream - documents,
            stream,
            separator,
            token_bits: bits::token_bits(separator),
            pointer_bits,
            runs: true,
        }
    }

    /// The same without runs.
    pub fn without_runs(self) -> Self {
        SuffixMeta { runs: false, ..self }
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        (self.ranks as usize).div_ceil(BLOCK)
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        (self.ranks as usize).div_ceil(GROUP)
    }

    /// Bytes of one group.
    pub fn group_bytes(&self) -> usize {
        KEYS + GROUP + GROUP / 8 * self.pointer_bits as usize
    }

    /// Bytes of all groups with the padding after them.
    pub fn blocks_bytes(&self) -> usize {
        self.groups() * self.group_bytes() + 8
    }

    /// Number of keys in each level of the top, padded, from level 0 up.
    pub fn levels(&self) -> Vec<usize> {
        let mut out = Vec::new();
        let mut keys = self.groups();
        loop {
            let padded = keys.div_ceil(FANOUT).max(1) * FANOUT;
            out.push(padded);
            if padded == FANOUT {
                return out;
            }
            keys = padded / FANOUT;
        }
    }

    /// Number of keys of the top.
    pub fn top_keys(&self) -> usize {
        self.levels().iter().sum()
    }

    /// Bytes of the runs, if there are any.
    pub fn runs_bytes(&self) -> usize {
        if self.runs { self.blocks().next_multiple_of(BLOCK) } else { 0 }
    }
}

/// What [`write()`] leaves in memory: what every query reads first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Top {
    /// The keys of the top level.
    pub keys: Vec<u64>,
    /// The runs.
    pub runs: Vec<u8>,
}

/// Writes the blocks of `suffix_array` (positions in rank order; those of separators, at the end, are ignored) to `out` and
/// returns the top level and the runs.
///
/// Blocks are made in parallel in the current rayon pool and written in order: the bytes do not depend on the number of threads.
/// Memory: the keys plus 4 MB a thread. Cost: one random read of the stream a suffix, prefetched.
pub fn write<T: Token>(
    tokens: &[T],
    suffix_array: &[u32],
    meta: &SuffixMeta,
    out: &mut dyn Write,
) -> std::io::Result<Top> {
    const TASK: usize = 256 * GROUP;
    let ranks = &suffix_array[..meta.ranks as usize];
    let threads = rayon::current_num_threads().max(1);
    let mut keys = Vec::with_capacity(meta.top_keys());
    let mut runs = Vec::with_capacity(meta.runs_bytes());
    let batch = TASK * threads * 4;
    for (part, from) in ranks.chunks(batch).zip((0..).step_by(batch)) {
        let made: Vec<Groups> = part
            .par_chunks(TASK)
            .enumerate()
            .map(|(i, task)| {
                let start = from + i * TASK;
                encode_groups(tokens, task, &ranks[start.saturating_sub(BLOCK)..start], meta)
            })
            .collect();
        for groups in made {
            out.write_all(&groups.bytes)?;
            keys.extend(groups.firsts);
            runs.extend(groups.runs);
        }
    }
    runs.resize(meta.runs_bytes(), 0);
    out.write_all(&[0u8; 8])?;
    let mut level = 0..keys.len();
    for padded in meta.levels() {
        debug_assert_eq!(level.len().div_ceil(FANOUT).max(1) * FANOUT, padded);
        keys.resize(level.start + padded, u64::MAX);
        let next: Vec<u64> = keys[level.start..].iter().step_by(FANOUT).copied().collect();
        level = keys.len()..keys.len() + next.len();
        if padded > FANOUT {
            keys.extend(next);
        }
    }
    Ok(Top { keys, runs })
}

/// Some groups: their bytes, each one's first key, and the byte of the runs of each block.
struct Groups {
    bytes: Vec<u8>,
    firsts: Vec<u64>,
    runs: Vec<u8>,
}

/// The groups of some ranks, given those of the block before them.
fn encode_groups<T: Token>(tokens: &[T], ranks: &[u32], before: &[u32], meta: &SuffixMeta) -> Groups {
    // Far enough that a miss of the stream is over when its suffix is compared.
    const AHEAD: usize = 24;
    let width = meta.group_bytes();
    let p = meta.pointer_bits;
    let mut bytes = vec![0u8; ranks.len().div_ceil(GROUP) * width];
    let mut firsts = Vec::with_capacity(ranks.len() / GROUP + 1);
    let suffix = |at: u32| &tokens[at as usize..];
    let ranks_after = ranks.get(AHEAD..).unwrap_or_default();
    let mut previous: Option<&[T]> = before.last().map(|&at| suffix(at));
    let mut runs = Vec::with_capacity(ranks.len() / BLOCK + 1);
    // What the suffixes of a block share with those before them, back to the first suffix of the block before.
    let mut least = match (before.first(), ranks.first()) {
        (Some(&there), Some(&here)) => bits::shared(suffix(there), suffix(here), meta.token_bits),
        _ => 0,
    };
    for (number, (group, ranks)) in bytes.chunks_exact_mut(width).zip(ranks.chunks(GROUP)).enumerate() {
        let (keys, rest) = group.split_at_mut(KEYS);
        let (branches, positions) = rest.split_at_mut(GROUP);
        keys.fill(u8::MAX);
        for (key, &at) in keys.chunks_exact_mut(8).zip(ranks.iter().step_by(BLOCK)) {
            key.copy_from_slice(&bits::pack(suffix(at), meta.token_bits)[0].to_le_bytes());
        }
        firsts.push(u64::from_le_bytes(keys[..8].try_into().expect("8 bytes")));
        // Positions go through a register, four bytes out at a time.
        let (mut held, mut filled, mut out) = (0u64, 0u32, 0usize);
        for (slot, (branch, &at)) in branches.iter_mut().zip(ranks).enumerate() {
            if let Some(&next) = ranks_after.get(number * GROUP + slot) {
                prefetch(tokens, next as usize);
                prefetch(tokens, next as usize + 12);
            }
            let here = suffix(at);
            *branch = previous.map_or(0, |there| bits::shared(there, here, meta.token_bits));
            previous = Some(here);
            held |= (at as u64) << filled;
            filled += p;
            if filled >= 32 {
                positions[out..out + 4].copy_from_slice(&(held as u32).to_le_bytes());
                (held, filled, out) = (held >> 32, filled - 32, out + 4);
            }
        }
        for byte in &mut positions[out..] {
            *byte = held as u8;
            held >>= 8;
        }
        for block in branches[..ranks.len()].chunks(BLOCK) {
            runs.push(least.min(block[0]));
            least = block[1..].iter().fold(u8::MAX, |least, &b| least.min(b));
        }
    }
    Groups { bytes, firsts, runs }
}

/// Asks the processor to load the cache line of `slice[at]`; no effect beyond the end.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn prefetch<T>(slice: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if at < slice.len() {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the address is inside `slice`; prefetching has no effect but on the caches.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(slice.as_ptr().add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, at);
}

/// A suffix array over borrowed bytes (of a mapped shard). Cheap to copy.
///
/// Opening checks every length, so that no damaged byte can make a query read outside; a position outside the stream
/// reads as the end of the stream.
#[derive(Clone, Copy)]
pub struct SuffixView<'a, T> {
    pub(super) tokens: &'a [T],
    pub(super) blocks: &'a [u8],
    top: &'a [u64],
    /// Empty in a shard that was written before there were runs.
    pub(super) runs: &'a [u8],
    pub(super) meta: SuffixMeta,
    pub(super) shape: Shape,
}

/// What a [`SuffixView`] computes once from its description.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// First key of each level in the top.
    levels: [usize; MAX_LEVELS],
    height: usize,
    group_bytes: usize,
    blocks: usize,
    mask: u64,
    pub(super) isa: Isa,
}

impl Shape {
    /// The shape of a suffix array with this description. Errors when its numbers contradict one another.
    pub fn new(meta: &SuffixMeta) -> Result<Shape> {
        if meta.ranks > meta.stream {
            return Err(Error::invalid(format!(
                "suffix array: {} ranks in a stream of {} tokens",
                meta.ranks, meta.stream
            )));
        }
        let expected =
            SuffixMeta { runs: meta.runs, ..SuffixMeta::new(meta.stream, meta.stream - meta.ranks, meta.separator) };
        if *meta != expected {
            return Err(Error::invalid(format!("suffix array: the description {meta:?} should be {expected:?}")));
        }
        if meta.pointer_bits > 32 {
            return Err(Error::invalid(format!(
                "suffix array: a stream of {} tokens is longer than a shard can be",
                meta.stream
            )));
        }
        let sizes = meta.levels();
        let mut levels = [0; MAX_LEVELS];
        if sizes.len() > MAX_LEVELS {
            return Err(Error::invalid("suffix array: the top level has too many levels"));
        }
        let mut at = 0;
        for (level, size) in levels.iter_mut().zip(&sizes) {
            *level = at;
            at += size;
        }
        Ok(Shape {
            levels,
            height: sizes.len(),
            group_bytes: meta.group_bytes(),
            blocks: meta.blocks(),
            mask: (1u64 << meta.pointer_bits) - 1,
            isa: Isa::detect(),
        })
    }
}

impl<'a, T: Token> SuffixView<'a, T> {
    /// A view of a stream, its blocks, its top and its runs (none if `meta` says so), as `write` made them. Errors name what disagrees.
    pub fn new(tokens: &'a [T], blocks: &'a [u8], top: &'a [u64], runs: &'a [u8], meta: SuffixMeta) -> Result<Self> {
        let view = SuffixView { tokens, blocks, top, runs, shape: Shape::new(&meta)?, meta };
        view.check()?;
        Ok(view)
    }

    /// Checks every length against the description.
    pub fn check(&self) -> Result<()> {
        for (what, got, expected) in [
            ("runs length", self.runs.len() as u64, self.meta.runs_bytes() as u64),
            ("stream length", self.tokens.len() as u64, self.meta.stream),
            ("blocks length", self.blocks.len() as u64, self.meta.blocks_bytes() as u64),
            ("top length", self.top.len() as u64, self.meta.top_keys() as u64),
        ] {
            if got != expected {
                return Err(Error::invalid(format!("suffix array: {what} is {got}, expected {expected}")));
            }
        }
        Ok(())
    }

    /// A view over parts that [`check`](Self::check) has accepted before; costs nothing.
    #[inline(always)]
    pub fn from_checked(
        tokens: &'a [T],
        blocks: &'a [u8],
        top: &'a [u64],
        runs: &'a [u8],
        meta: SuffixMeta,
        shape: Shape,
    ) -> Self {
        SuffixView { tokens, blocks, top, runs, meta, shape }
    }

    /// Number of ranks (tokens without separators).
    pub fn ranks(&self) -> usize {
        self.meta.ranks as usize
    }

    /// The token stream, separators included.
    pub fn tokens(&self) -> &'a [T] {
        self.tokens
    }

    /// The keys of the top level.
    pub(super) fn top(&self) -> &'a [u64] {
        self.top
    }

    /// The runs; empty in a shard without them.
    pub(super) fn runs(&self) -> &'a [u8] {
        self.runs
    }

    /// The description the view was opened with.
    pub fn meta(&self) -> &SuffixMeta {
        &self.meta
    }

    /// Number of suffixes in block `b`.
    #[inline(always)]
    pub(super) fn block_len(&self, b: usize) -> usize {
        (self.ranks() - b * BLOCK).min(BLOCK)
    }

    /// The branch bytes of block `b`.
    #[inline(always)]
    pub(super) fn branches(&self, b: usize) -> &'a [u8; BLOCK] {
        let at = self.branches_at(b);
        self.blocks[at..at + BLOCK].try_into().expect("BLOCK bytes")
    }

    #[inline(always)]
    fn branches_at(&self, b: usize) -> usize {
        b / GROUP_BLOCKS * self.shape.group_bytes + KEYS + b % GROUP_BLOCKS * BLOCK
    }

    /// Where the positions of block `b` begin.
    #[inline(always)]
    fn positions_at(&self, b: usize) -> usize {
        let block = BLOCK / 8 * self.meta.pointer_bits as usize;
        b / GROUP_BLOCKS * self.shape.group_bytes + KEYS + GROUP + b % GROUP_BLOCKS * block
    }

    /// Position in the stream of the suffix at `rank`.
    #[inline(always)]
    pub fn position(&self, rank: usize) -> usize {
        let bit = (rank % BLOCK) * self.meta.pointer_bits as usize;
        let at = self.positions_at(rank / BLOCK) + (bit >> 3);
        let word = u64::from_le_bytes(self.blocks[at..at + 8].try_into().expect("8 bytes"));
        ((word >> (bit & 7)) & self.shape.mask) as usize
    }

    /// The suffix at `rank`.
    #[inline(always)]
    pub fn suffix(&self, rank: usize) -> &'a [T] {
        self.tokens.get(self.position(rank)..).unwrap_or(&[])
    }

    /// The keys of node `node` of `level` of the top; keys greater than any where there is no such node, which takes damaged bytes.
    #[inline(always)]
    fn node(&self, level: usize, node: usize) -> &'a [u8; NODE] {
        let at = self.shape.levels[level] + node * FANOUT;
        let keys = self.top.get(at..at + FANOUT).and_then(|keys| bytemuck::cast_slice(keys).try_into().ok());
        keys.unwrap_or(&[u8::MAX; NODE])
    }

    /// The keys of a group; as [`node`](Self::node) where there is no such group.
    #[inline(always)]
    fn group_keys(&self, group: usize) -> &'a [u8; KEYS] {
        let at = group * self.shape.group_bytes;
        let keys = self.blocks.get(at..at + KEYS).and_then(|keys| keys.try_into().ok());
        keys.unwrap_or(&[u8::MAX; KEYS])
    }

    /// Number of blocks whose key is less than `low`, and number of them at most `high`.
    #[inline(always)]
    pub(super) fn blocks_between<K: Kernel>(&self, low: u64, high: u64) -> (usize, usize) {
        let mut nodes = (0, 0);
        for level in (0..self.shape.height).rev() {
            nodes = self.step::<K>(level, nodes, low, high);
        }
        self.prefetch_group(nodes.0);
        self.blocks_in(nodes, low, high)
    }

    /// From a pair of nodes of `level`, the pair below them (of groups, at level 0) where keys less than `low` and keys at most
    /// `high` end.
    ///
    /// A node's first key is its parent's, so a count of zero happens only along the left edge.
    #[inline(always)]
    pub(super) fn step<K: Kernel>(&self, level: usize, nodes: (usize, usize), low: u64, high: u64) -> (usize, usize) {
        let (less, most) = K::keys_below(self.node(level, nodes.0), low, high);
        let most = if nodes.0 == nodes.1 { most } else { K::keys_below(self.node(level, nodes.1), high, high).1 };
        (nodes.0 * FANOUT + less.saturating_sub(1), nodes.1 * FANOUT + most.saturating_sub(1))
    }

    /// The numbers of [`blocks_between`](Self::blocks_between), given the groups where they end.
    #[inline(always)]
    pub(super) fn blocks_in(&self, groups: (usize, usize), low: u64, high: u64) -> (usize, usize) {
        let key = |k: &[u8]| u64::from_le_bytes(k.try_into().expect("8 bytes"));
        let less = self.group_keys(groups.0).chunks_exact(8).filter(|k| key(k) < low).count();
        let most = self.group_keys(groups.1).chunks_exact(8).filter(|k| key(k) <= high).count();
        let blocks = self.shape.blocks;
        ((groups.0 * GROUP_BLOCKS + less).min(blocks), (groups.1 * GROUP_BLOCKS + most).min(blocks))
    }

    /// Number of blocks.
    #[inline(always)]
    pub(super) fn blocks(&self) -> usize {
        self.shape.blocks
    }

    /// Number of levels of the top.
    #[inline(always)]
    pub(super) fn height(&self) -> usize {
        self.shape.height
    }

    /// Loads the lines of a node of the top ahead of use.
    #[inline(always)]
    pub(super) fn prefetch_node(&self, level: usize, node: usize) {
        let at = self.shape.levels[level] + node * FANOUT;
        prefetch(self.top, at);
        prefetch(self.top, at + 8);
    }

    /// Loads the lines of a whole group ahead of use.
    #[inline(always)]
    fn prefetch_group(&self, group: usize) {
        self.prefetch_start(group, self.shape.group_bytes);
    }

    /// Loads the lines of a group's keys and branch bytes ahead of use.
    #[inline(always)]
    pub(super) fn prefetch_trie(&self, group: usize) {
        self.prefetch_start(group, KEYS + GROUP);
    }

    #[inline(always)]
    fn prefetch_start(&self, group: usize, bytes: usize) {
        let at = group * self.shape.group_bytes;
        for line in (at..at + bytes).step_by(64) {
            prefetch(self.blocks, line);
        }
    }

    /// Loads the line of a block's branch bytes ahead of use.
    #[inline(always)]
    pub(super) fn prefetch_branches(&self, b: usize) {
        prefetch(self.blocks, self.branches_at(b));
    }

    /// Loads the line that has the position of the suffix at `rank` ahead of use.
    #[inline(always)]
    pub(super) fn prefetch_position(&self, rank: usize) {
        let bit = (rank % BLOCK) * self.meta.pointer_bits as usize;
        prefetch(self.blocks, self.positions_at(rank / BLOCK) + (bit >> 3));
    }

    /// Loads the first line of the suffix at stream position `at` ahead of use.
    #[inline(always)]
    pub(super) fn prefetch_stream(&self, at: usize) {
        prefetch(self.tokens, at);
    }
}
