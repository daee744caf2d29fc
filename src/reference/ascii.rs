//! Runs of bytes in a text, found 64 bytes at a time: what reads every byte of a corpus stands on this.
//!
//! The bytes of a block are classed eight at a time by arithmetic on 64-bit words (no table, no branch, no intrinsics), and the
//! classes are bit masks of the block; a run is found by counting zeros. About half a nanosecond a byte.

/// Classes of up to 64 bytes, a bit each, the first byte's lowest. Bytes beyond the text are in `odd` alone.
#[derive(Clone, Copy)]
pub(crate) struct Classes {
    /// ASCII letters and digits.
    pub letters: u64,
    /// ASCII digits.
    pub digits: u64,
    /// Space, tab to carriage return, and the four separators from 0x1c.
    pub spaces: u64,
    /// Bytes beyond ASCII.
    pub wide: u64,
    /// Neither a space nor a visible ASCII character: bytes beyond ASCII and other control characters.
    pub odd: u64,
}

const HIGH: u64 = 0x8080_8080_8080_8080;
const CASE: u64 = 0x2020_2020_2020_2020;

/// The high bit of each of eight bytes below 0x80 that lies in `from..=to`.
#[inline(always)]
fn within(low: u64, from: u8, to: u8) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // A byte below 0x80 plus 0x80 - n has its high bit set when it is n or more, and carries into no other.
    (low + EACH * u64::from(0x80 - from)) & !(low + EACH * u64::from(0x80 - (to + 1))) & HIGH
}

/// The high bits of eight bytes as eight bits, the first byte's lowest.
#[inline(always)]
fn gather(high: u64) -> u64 {
    (high >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[inline(always)]
fn classes(bytes: &[u8], base: usize) -> Classes {
    let mut padded = [0u8; 64];
    let block: &[u8; 64] = match bytes.get(base..base + 64).and_then(|block| block.try_into().ok()) {
        Some(block) => block,
        None => {
            let rest = &bytes[base..];
            padded[..rest.len()].copy_from_slice(rest);
            &padded
        }
    };
    let mut out = Classes { letters: 0, digits: 0, spaces: 0, wide: 0, odd: 0 };
    for (i, eight) in block.chunks_exact(8).enumerate() {
        let x = eight.iter().rev().fold(0u64, |x, &b| (x << 8) | u64::from(b));
        let (low, ascii) = (x & !HIGH, !x & HIGH);
        let digits = within(low, b'0', b'9') & ascii;
        let letters = digits | (within(low | CASE, b'a', b'z') & ascii);
        let spaces = (within(low, 0x09, 0x0d) | within(low, 0x1c, b' ')) & ascii;
        let visible = within(low, b'!', b'~') & ascii;
        let shift = 8 * i;
        out.letters |= gather(letters) << shift;
        out.digits |= gather(digits) << shift;
        out.spaces |= gather(spaces) << shift;
        out.wide |= gather(x & HIGH) << shift;
        out.odd |= gather(!(visible | spaces) & HIGH) << shift;
    }
    out
}

/// Calls `on` for every maximal run of bytes in `member`: with [`Run::Slow`] when one of them is in `unusual` or there are more than a
/// block holds, else with [`Run::Plain`], whose answer is not looked at.
#[inline(always)]
pub(crate) fn each_run(
    bytes: &[u8],
    member: impl Fn(&Classes) -> u64,
    unusual: impl Fn(&Classes) -> u64,
    mut on: impl FnMut(Run) -> usize,
) {
    let mut base = 0;
    'blocks: while base < bytes.len() {
        let classes = classes(bytes, base);
        let length = (bytes.len() - base).min(64);
        let valid = u64::MAX >> (64 - length);
        let (members, unusual) = (member(&classes) & valid, unusual(&classes));
        let mut left = members;
        while left != 0 {
            let start = left.trailing_zeros() as usize;
            let run = (!(members >> start)).trailing_zeros() as usize;
            let end = start + run.min(64 - start);
            if end == 64 && base + 64 < bytes.len() {
                // It may go on in the next block, which then begins with it.
                base = if start > 0 { base + start } else { on(Run::Slow { start: base }) };
                continue 'blocks;
            }
            let bits = (u64::MAX >> (64 - (end - start))) << start;
            if unusual & bits != 0 {
                base = on(Run::Slow { start: base + start });
                continue 'blocks;
            }
            on(Run::Plain { start: base + start, end: base + end, letters: (classes.letters & bits) >> start });
            left &= !bits;
        }
        base += 64;
    }
}

/// A run of bytes.
pub(crate) enum Run {
    /// All usual; `letters` has a bit for each byte that is a letter or digit.
    Plain { start: usize, end: usize, letters: u64 },
    /// To be read one character at a time; the caller gives the place to go on from.
    Slow { start: usize },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_byte_is_classed_as_its_definition_says() {
        for b in 0..=255u8 {
            let bytes = [b; 3];
            let c = classes(&bytes, 0);
            let all = |is: bool| if is { 7 } else { 0 };
            assert_eq!(c.letters, all(b.is_ascii_alphanumeric()), "{b:#x}");
            assert_eq!(c.digits, all(b.is_ascii_digit()), "{b:#x}");
            let space = matches!(b, b' ' | 0x09..=0x0d | 0x1c..=0x1f);
            assert_eq!(c.spaces, all(space), "{b:#x}");
            assert_eq!(c.wide, all(b >= 0x80), "{b:#x}");
            assert_eq!(c.odd & 7, all(!space && !b.is_ascii_graphic()), "{b:#x}");
        }
    }

    proptest! {
        #[test]
        fn runs_are_the_maximal_ones(text in prop::collection::vec(prop_oneof![Just(b' '), Just(b'a'), Just(b'a'), Just(b'7'), Just(b'-'), Just(0xc3)], 0..300)) {
            let mut expected = Vec::new();
            let mut at = 0;
            while at < text.len() {
                let end = at + text[at..].iter().take_while(|b| **b != b' ').count();
                if end > at {
                    expected.push((at, end));
                }
                at = end + 1;
            }
            let mut found = Vec::new();
            each_run(&text, |c| !c.spaces, |c| c.odd, |run| match run {
                Run::Plain { start, end, letters } => {
                    assert!(text[start..end].iter().enumerate().all(|(i, b)| b.is_ascii_alphanumeric() == (letters >> i & 1 == 1)));
                    assert!(text[start..end].iter().all(u8::is_ascii));
                    found.push((start, end));
                    end
                }
                Run::Slow { start } => {
                    let end = start + text[start..].iter().take_while(|b| **b != b' ').count();
                    assert!(end - start >= 64 || !text[start..end].is_ascii());
                    found.push((start, end));
                    end
                }
            });
            prop_assert_eq!(found, expected);
        }
    }
}
