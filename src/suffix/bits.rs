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

/// The branch byte of `b` after `a`: the number of leading bits they share, at most 255. A sequence that ends is padded with zeros.
#[inline(always)]
pub fn shared<T: Token>(a: &[T], b: &[T], token_bits: u32) -> u8 {
    // Enough tokens for 256 bits, compared as they lie in memory: eight bytes at a time.
    let words = (256u32.div_ceil(token_bits) as usize * T::BYTES).div_ceil(8);
    let (x, y): (&[u8], &[u8]) = (bytemuck::cast_slice(a), bytemuck::cast_slice(b));
    if x.len() >= 8 * words && y.len() >= 8 * words {
        for (i, (x, y)) in x.chunks_exact(8).zip(y.chunks_exact(8)).take(words).enumerate() {
            let word = |s: &[u8]| u64::from_le_bytes(s.try_into().expect("8 bytes"));
            let differ = word(x) ^ word(y);
            if differ != 0 {
                let at = (8 * i + differ.trailing_zeros() as usize / 8) / T::BYTES;
                let inside = (a[at].id() ^ b[at].id()) << (32 - token_bits);
                return (at as u32 * token_bits + inside.leading_zeros()).min(255) as u8;
            }
        }
        return 255;
    }
    common(&pack(a, token_bits), &pack(b, token_bits)).min(255) as u8
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agree<T: Token>(a: &[u32], b: &[u32], sep: u32) {
        let bits = token_bits(sep);
        let of = |ids: &[u32]| ids.iter().map(|&id| T::from_id(id.min(sep))).collect::<Vec<T>>();
        let (a, b) = (of(a), of(b));
        assert_eq!(u32::from(shared(&a, &b, bits)), common(&pack(&a, bits), &pack(&b, bits)).min(255), "{a:?} {b:?}");
    }

    proptest! {
        #[test]
        fn shared_bits_are_those_of_the_packed_prefixes(
            start in prop::collection::vec(any::<u32>(), 0..40),
            a in prop::collection::vec(0u32..300, 0..40),
            b in prop::collection::vec(0u32..300, 0..40),
        ) {
            let (a, b) = ([start.clone(), a].concat(), [start, b].concat());
            agree::<u8>(&a, &b, 255);
            agree::<u16>(&a, &b, 50_257);
            agree::<u16>(&a, &b, 255);
            agree::<u16>(&a, &b, u16::MAX as u32);
            agree::<u32>(&a, &b, 100_000);
        }
    }
}
