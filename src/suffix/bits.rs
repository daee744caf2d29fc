//! Token sequences as bit strings.
//!
//! A sequence is read as `token_bits` bits a token, the most significant bit first, so that comparing bit strings
//! compares sequences token by token. 256 bits (four words) hold the prefix that branch bytes speak about.

use super::Token;

/// The first 256 bits of a sequence, padded with zeros.
pub type Prefix = [u64; 4];

/// Bits needed for ids `0..=sep`.
pub fn token_bits(sep: u32) -> u32 {
    (32 - sep.leading_zeros()).max(1)
}

/// Packs the first 256 bits of `tokens`.
#[inline(always)]
pub fn pack<T: Token>(tokens: &[T], token_bits: u32) -> Prefix {
    let mut out = [0u64; 4];
    if token_bits == 16 {
        for (i, t) in tokens.iter().take(16).enumerate() {
            out[i >> 2] |= (t.id() as u64) << (48 - 16 * (i & 3));
        }
        return out;
    }
    let mut at = 0u32;
    for t in tokens {
        if at >= 256 {
            break;
        }
        let (word, used) = ((at >> 6) as usize, at & 63);
        let value = (t.id() as u64) << (64 - token_bits);
        out[word] |= value >> used;
        if used + token_bits > 64 && word < 3 {
            out[word + 1] |= value << (64 - used);
        }
        at += token_bits;
    }
    out
}

/// Bit `i` of a packed prefix.
#[inline(always)]
pub fn bit(p: &Prefix, i: u8) -> bool {
    (p[(i >> 6) as usize] >> (63 - (i & 63))) & 1 == 1
}

/// Number of leading bits two packed prefixes share, at most 256.
#[inline(always)]
pub fn common(a: &Prefix, b: &Prefix) -> u32 {
    for i in 0..4 {
        let x = a[i] ^ b[i];
        if x != 0 {
            return i as u32 * 64 + x.leading_zeros();
        }
    }
    256
}

/// Number of leading tokens two sequences share.
#[inline(always)]
pub fn common_tokens<T: Token>(a: &[T], b: &[T]) -> usize {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    let mut i = 0;
    // Long matches are compared in 64-byte steps, which compile to vector compares.
    let step = 64 / T::BYTES;
    while i + step <= n && a[i..i + step] == b[i..i + step] {
        i += step;
    }
    while i < n && a[i] == b[i] {
        i += 1;
    }
    i
}
