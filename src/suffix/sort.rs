//! Linear-time suffix sorting.
//!
//! libsais (induced sorting) takes about 0.06 µs a token and is linear on any input, repeats included; comparison sorters and
//! the `suffix` crate are quadratic on repeated documents, which web corpora are full of. Peak memory is 4 bytes a token for the
//! result plus, for four-byte tokens, a copy of the stream; all of it in huge pages where the system has them, which halves the time.

use libsais::SuffixArrayConstruction;
use libsais::suffix_array::AlphabetSize;

use super::Token;
use crate::error::{Error, Result};
use crate::format::Pages;

/// The most tokens one shard can hold: positions are stored in at most 32 bits.
pub const MAX_TOKENS: u64 = i32::MAX as u64;

/// Sorts the suffixes of `tokens` by id, a shorter suffix before a longer one it is a prefix of.
///
/// Returns the positions in rank order, all of them, suffixes that begin with the separator last if it is the largest id.
/// Cost: linear; one thread. `sep` bounds the alphabet. Errors when the stream is longer than [`MAX_TOKENS`].
pub fn suffix_array<T: Token>(tokens: &[T], sep: u32) -> Result<Pages<u32>> {
    if tokens.len() as u64 > MAX_TOKENS {
        return Err(Error::Limit {
            what: format!("a shard holds at most {MAX_TOKENS} tokens, this one has {}", tokens.len()),
            hint: Some("build with a smaller --memory, so that the corpus is split into more shards".into()),
        });
    }
    if tokens.is_empty() {
        return Pages::zeroed(0);
    }
    let failed = |e| Error::Limit {
        what: format!("the suffix sorter failed: {e}"),
        hint: Some("give the build more memory, or split the corpus with a smaller --memory".into()),
    };
    let mut sorted = Pages::<i32>::zeroed(tokens.len())?;
    match T::BYTES {
        1 => {
            SuffixArrayConstruction::for_text(bytemuck::cast_slice::<T, u8>(tokens))
                .in_borrowed_buffer(&mut sorted)
                .single_threaded()
                .run()
                .map_err(failed)?;
        }
        2 => {
            SuffixArrayConstruction::for_text(bytemuck::cast_slice::<T, u16>(tokens))
                .in_borrowed_buffer(&mut sorted)
                .single_threaded()
                .run()
                .map_err(failed)?;
        }
        _ => {
            // The sorter keeps tables over the alphabet: where most ids of a large one do not occur, the others are numbered anew, in order.
            let mut occurring = Vec::new();
            let sparse = sep >= i32::MAX as u32 || sep as usize / 4 > tokens.len() + (1 << 18);
            if sparse {
                occurring = tokens.iter().map(|t| t.id()).collect();
                occurring.sort_unstable();
                occurring.dedup();
            }
            let number = |id: u32| if sparse { occurring.partition_point(|&x| x < id) as i32 } else { id as i32 };
            let largest = if sparse { occurring.len() as u32 - 1 } else { sep };
            let mut text = Pages::<i32>::zeroed(tokens.len())?;
            for (i, (t, to)) in tokens.iter().zip(text.iter_mut()).enumerate() {
                if t.id() > sep {
                    return Err(Error::invalid(format!(
                        "token {} at position {i} is larger than the separator {sep}",
                        t.id()
                    )));
                }
                *to = number(t.id());
            }
            sort_wide(&mut text, &mut sorted, largest).map_err(failed)?;
        }
    }
    // Positions are non-negative i32, so their bits are the same as u32; the buffer is kept.
    Ok(sorted.cast())
}

#[allow(unsafe_code)]
fn sort_wide(text: &mut [i32], out: &mut [i32], largest: u32) -> std::result::Result<(), libsais::LibsaisError> {
    let construction = SuffixArrayConstruction::for_text_mut(text).in_borrowed_buffer(out).single_threaded();
    // SAFETY: the caller has checked that every value is in 0..=largest, and largest + 1 fits in an i32 (it is below the number of
    // tokens or, where ids were not numbered anew, below a few times that plus 2^20), which is the only requirement.
    let construction = unsafe { construction.with_alphabet_size(AlphabetSize::new(largest as i32 + 1)) };
    construction.run().map(|_| ())
}
