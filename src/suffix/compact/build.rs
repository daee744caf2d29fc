//! Building a compact index: reverse, sort, Burrows–Wheeler transform, codes, wavelet matrix, samples, bytes.
//!
//! Memory at the peak: the stream and its reversed copy, 4 bytes a token of suffix array and as much inside the sorter, then 4 bytes a token of transformed
//! symbols and as much for a level's ones. Time: linear in the tokens for the sort, and tokens × entropy for the matrix; one thread.

use super::codes::{self, Code};
use super::wavelet::{self, BlockWriter, Level};
use super::{EXTRACT_STEP, HEADER_WORDS, LOCATE_STEP, VERSION};
use crate::error::{Error, Result};
use crate::suffix::{Token, sort};

/// Where symbols end in the matrix.
pub(super) struct SymbolLayout {
    pub starts: Vec<u32>,
    pub depth_begin: Vec<u32>,
}

/// For each symbol the position its occurrences start at where its code ends: behind those that go on, in the order of slots.
pub(super) fn symbol_layout(
    codes: &[Code],
    by_depth: &[u32],
    levels: &[Level],
    count: impl Fn(u32) -> u64,
) -> SymbolLayout {
    let deepest = codes.iter().map(|c| c.length).max().unwrap_or(0);
    let mut starts = vec![0u32; codes.len()];
    let mut depth_begin = Vec::with_capacity(deepest as usize + 2);
    let mut rest = by_depth;
    for depth in 0..=deepest {
        depth_begin.push((by_depth.len() - rest.len()) as u32);
        let ending = rest.iter().take_while(|&&s| codes[s as usize].length == depth).count();
        let mut at = levels.get(depth as usize).map_or(0, |l| l.live);
        for &symbol in &rest[..ending] {
            starts[symbol as usize] = at as u32;
            at += count(symbol);
        }
        rest = &rest[ending..];
    }
    depth_begin.push(by_depth.len() as u32);
    SymbolLayout { starts, depth_begin }
}

/// See [`super::CompactIndex::build`].
pub(super) fn build<T: Token>(tokens: &[T], sep: u32) -> Result<Vec<u8>> {
    if tokens.last().is_some_and(|t| t.id() != sep) {
        return Err(Error::invalid("the token stream does not end with the separator"));
    }
    if let Some(at) = tokens.iter().position(|t| t.id() > sep) {
        return Err(Error::invalid(format!(
            "token {} at position {at} is larger than the separator {sep}",
            tokens[at].id()
        )));
    }
    let n = tokens.len();
    let mut ids: Vec<u32> = Vec::new();
    let mut counts: Vec<u64> = Vec::new();
    let symbols = number_symbols(tokens, sep, &mut ids, &mut counts);
    let (code, by_depth) = codes::assign(&counts);

    // Symbols are sorted, not ids: their order is the same, and the sorter's memory grows with the largest one.
    let largest = ids.len().saturating_sub(1) as u32;
    let sorted = if largest <= u32::from(u16::MAX) {
        let reversed: Vec<u16> = tokens.iter().rev().map(|t| symbols(t.id()) as u16).collect();
        sort::suffix_array(&reversed, largest)?
    } else {
        let reversed: Vec<u32> = tokens.iter().rev().map(|t| symbols(t.id())).collect();
        sort::suffix_array(&reversed, largest)?
    };

    // Row 0 is the empty suffix; row r + 1 is the suffix `sorted[r]`. `after` is the number of tokens of the stream up to and with
    // the row's context, so the symbol of the row, the token that follows its context, is `tokens[after]`.
    let mut transformed = Vec::with_capacity(n);
    let mut primary = 0;
    let mut marks = BlockWriter::default();
    marks.start();
    let mut samples = Vec::with_capacity(n / LOCATE_STEP + 1);
    let mut inverse = vec![0u32; n.div_ceil(EXTRACT_STEP)];
    for row in 0..=n {
        let after = if row == 0 { 0 } else { n - sorted[row - 1] as usize };
        match tokens.get(after) {
            Some(token) => transformed.push(symbols(token.id())),
            None => primary = row,
        }
        let sampled = after % LOCATE_STEP == 0;
        marks.push(sampled);
        if sampled {
            samples.push((after / LOCATE_STEP) as u32);
        }
        if after % EXTRACT_STEP == 0
            && let Some(slot) = inverse.get_mut(after / EXTRACT_STEP)
        {
            *slot = row as u32;
        }
    }
    drop(sorted);
    let (blocks, levels) = wavelet::build(transformed, &code);
    let layout = symbol_layout(&code, &by_depth, &levels, |s| counts[s as usize]);

    let mut before = Vec::with_capacity(counts.len() + 1);
    let mut sum = 0;
    before.push(0u32);
    for &count in &counts {
        sum += count;
        before.push(sum as u32);
    }
    let header: [u64; HEADER_WORDS] = [
        VERSION,
        n as u64,
        ids.len() as u64,
        u64::from(sep),
        levels.len() as u64,
        LOCATE_STEP as u64,
        EXTRACT_STEP as u64,
        primary as u64,
        blocks.len() as u64,
        marks.blocks.len() as u64,
        samples.len() as u64,
        inverse.len() as u64,
        layout.depth_begin.len() as u64,
        0,
        0,
        0,
    ];
    let code_bits: Vec<u32> = code.iter().map(|c| c.bits).collect();
    let lengths: Vec<u32> = code.iter().map(|c| c.length).collect();
    let mut out =
        Vec::with_capacity((blocks.len() + marks.blocks.len()) * 64 + (samples.len() + 8 * ids.len()) * 4 + 4096);
    section(&mut out, &header);
    section(&mut out, &ids);
    section(&mut out, &before);
    section(&mut out, &code_bits);
    section(&mut out, &lengths);
    section(&mut out, &layout.starts);
    section(&mut out, &by_depth);
    section(&mut out, &layout.depth_begin);
    section(&mut out, &levels);
    section(&mut out, &blocks);
    section(&mut out, &marks.blocks);
    section(&mut out, &samples);
    section(&mut out, &inverse);
    Ok(out)
}

/// Appends a section, padded to 64 bytes.
fn section<P: bytemuck::NoUninit>(out: &mut Vec<u8>, values: &[P]) {
    out.extend_from_slice(bytemuck::cast_slice(values));
    out.resize(out.len().next_multiple_of(64), 0);
}

/// Numbers the ids that occur, in order of id; returns the numbering as a function.
fn number_symbols<T: Token>(
    tokens: &[T],
    sep: u32,
    ids: &mut Vec<u32>,
    counts: &mut Vec<u64>,
) -> impl Fn(u32) -> u32 + use<T> {
    // A table over the ids where they are dense, a sorted list where they are not.
    let dense = (sep as usize) < 4 * tokens.len() + (1 << 20);
    let mut table = Vec::new();
    if dense {
        let mut tally = vec![0u64; sep as usize + 1];
        tokens.iter().for_each(|t| tally[t.id() as usize] += 1);
        table = vec![0u32; tally.len()];
        for (id, &count) in tally.iter().enumerate().filter(|(_, c)| **c > 0) {
            table[id] = ids.len() as u32;
            ids.push(id as u32);
            counts.push(count);
        }
    } else {
        let mut all: Vec<u32> = tokens.iter().map(|t| t.id()).collect();
        all.sort_unstable();
        for run in all.chunk_by(|a, b| a == b) {
            ids.push(run[0]);
            counts.push(run.len() as u64);
        }
    }
    let sorted = if dense { Vec::new() } else { ids.clone() };
    move |id| if dense { table[id as usize] } else { sorted.partition_point(|&x| x < id) as u32 }
}
