//! The suffix array of one shard's token stream, laid out for few cache misses.
//!
//! # Overview
//!
//! - [`sort`]: linear-time suffix sorting (libsais).
//! - [`bits`]: suffixes and queries as bit strings, `token_bits` bits a token, most significant first.
//! - [`layout`]: the structure on disk, its builder and its checked reader [`SuffixView`].
//! - [`search`]: intervals and longest matches of one query.
//! - `runs`: queries among blocks that the top level cannot tell apart.
//! - [`batch`]: the same for many queries at once, their cache misses overlapped.
//! - [`distribution`]: which tokens follow an n-gram, exactly.
//! - `verify`: whether a structure is the one of its stream.
//! - `kernel`: their inner loops, one form an instruction set.
//! - [`index`]: what every layout answers.
//! - [`compact`]: another layout, an FM-index that needs no stream and a third of the space, at some microseconds a query.
//! - [`pointers`]: the layout of infini-gram's indexes, read only.
//!
//! # Structure
//!
//! The stream is the documents' tokens, each document followed by one *separator*, the largest id. Suffixes that begin with
//! the separator are left out, so the ranks count exactly the corpus's tokens. Ranks are cut into *blocks* of
//! [`layout::BLOCK`] consecutive suffixes; a block has
//!
//! 1. one *branch byte* a suffix: the length in bits of the prefix it shares with the suffix before it (its LCP in bits),
//!    capped at 255;
//! 2. the suffixes' positions in the stream, bit-packed.
//!
//! The branch bytes make a block a Patricia trie: a query is located in it *blindly*, without looking at any suffix, then
//! verified against a single one. Four blocks make a *group*, which begins with the first 64 bits of each block's first
//! suffix. The *top level* is a static 16-ary search tree over the groups' first keys: 33 KB a million tokens, cached for the most
//! part. So a count reads the tree, one group (all its lines at once), and one place of the stream, whatever the size of the
//! corpus, where a plain binary search reads some fifty dependent places.
//!
//! # Caveats
//!
//! Matches longer than 255 bits (15 tokens of 17 bits) inside text repeated often fall back to comparing suffixes, at one read
//! of the stream a step.

pub mod batch;
pub mod bits;
pub mod compact;
pub mod distribution;
pub mod index;
mod kernel;
pub mod layout;
pub mod pointers;
mod runs;
pub mod search;
pub mod sort;
pub mod verify;

pub use index::TokenIndex;
pub use layout::SuffixView;

/// An element of a token stream: one, two or four bytes.
pub trait Token: bytemuck::Pod + Ord + Send + Sync + std::fmt::Debug {
    /// Width in bytes.
    const BYTES: usize;
    /// The id as an integer.
    fn id(self) -> u32;
    /// The token with this id; ids beyond the width wrap, so callers check against the vocabulary first.
    fn from_id(id: u32) -> Self;
}

macro_rules! token {
    ($t:ty) => {
        impl Token for $t {
            const BYTES: usize = size_of::<$t>();
            #[inline(always)]
            fn id(self) -> u32 {
                self as u32
            }
            #[inline(always)]
            fn from_id(id: u32) -> Self {
                id as $t
            }
        }
    };
}
token!(u8);
token!(u16);
token!(u32);

#[cfg(test)]
mod tests;
