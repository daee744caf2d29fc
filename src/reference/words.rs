//! Normalised words of a text, with the bytes they came from.
//!
//! A *word* is a maximal run of letters and digits after compatibility folding (NFKD), removal of combining marks and
//! lower-casing. Everything else, ASCII or Unicode, is a boundary: punctuation, symbols, comment prefixes, soft wraps
//! and every kind of space vanish, and numbers stay. Invisible formatting characters (soft hyphen, zero-width space and
//! joiners, byte order mark) are skipped without ending a word. Ideographs, kana and other scripts written without
//! spaces give one word per character.
//!
//! Words are identified by a 64-bit hash of their folded bytes; nothing is copied. ASCII text costs about a nanosecond
//! a byte. Two texts that differ only in case, punctuation, spacing, line wrapping or Unicode presentation give the same
//! sequence of words.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::ascii::{Classes, Run, each_run};

/// One word: the hash of its folded form and its byte range in the original text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// Hash of the folded bytes: never 0, the two low bits clear.
    pub hash: u64,
    /// First byte in the original text.
    pub start: u32,
    /// One past the last byte in the original text.
    pub end: u32,
}

const BOUNDARY: u8 = 0;
const WIDE: u8 = 1;

/// For each byte: the folded ASCII letter or digit, `BOUNDARY`, or `WIDE` for bytes of multi-byte characters.
const FOLD: [u8; 256] = {
    let mut table = [BOUNDARY; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        table[i] = if b >= 0x80 {
            WIDE
        } else if b.is_ascii_alphanumeric() {
            b.to_ascii_lowercase()
        } else {
            BOUNDARY
        };
        i += 1;
    }
    table
};

const K: u64 = 0x9e37_79b9_7f4a_7c15;

/// Running hash of one word, fed byte by byte.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hasher {
    state: u64,
    block: u64,
    /// Bytes fed; 0 = no word has begun.
    pub bytes: u32,
}

impl Hasher {
    pub const NEW: Hasher = Hasher { state: 0, block: 0, bytes: 0 };

    #[inline(always)]
    pub fn feed(&mut self, byte: u8) {
        self.block = (self.block << 8) | u64::from(byte);
        self.bytes += 1;
        if self.bytes & 7 == 0 {
            self.state = mix(self.state ^ self.block);
            self.block = 0;
        }
    }

    #[inline(always)]
    pub fn finish(self) -> u64 {
        (mix(mix(self.state ^ self.block).wrapping_add(u64::from(self.bytes))) & !3) | 4
    }
}

/// A bijective 64-bit mixer: multiply, fold, multiply.
#[inline(always)]
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_mul(K);
    let x = x ^ (x >> 32);
    x.wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// Hash of an already folded word, equal to the one [`each_word`] gives for it.
pub fn hash_folded(word: &str) -> u64 {
    let mut hasher = Hasher::NEW;
    for &b in word.as_bytes() {
        hasher.feed(b);
    }
    hasher.finish()
}

/// Calls `visit` for every word of `text` in order. Only the first 4 GiB of a text are read; callers refuse longer ones.
///
/// Words of ASCII are runs of a block of 64 bytes, folded and hashed eight bytes at a time. A run that touches another character is
/// read one character at a time, up to the next ASCII boundary.
#[inline]
pub fn each_word(text: &str, mut visit: impl FnMut(Word)) {
    let bytes = &text.as_bytes()[..text.len().min(u32::MAX as usize)];
    let member = |c: &Classes| c.letters | c.wide;
    each_run(
        bytes,
        member,
        |c| c.wide,
        |run| match run {
            Run::Plain { start, end, .. } => {
                visit(Word { hash: hash_ascii(bytes, start, end), start: start as u32, end: end as u32 });
                end
            }
            Run::Slow { start } => by_character(text, bytes, start, &mut visit),
        },
    );
}

const CASE: u64 = 0x2020_2020_2020_2020;

/// What [`Hasher`] gives for a word of ASCII letters and digits.
#[inline(always)]
pub(crate) fn hash_ascii(bytes: &[u8], start: usize, end: usize) -> u64 {
    let mut hasher = Hasher { state: 0, block: 0, bytes: (end - start) as u32 };
    let mut at = start;
    loop {
        let eight = match bytes.get(at..at + 8).and_then(|eight| <[u8; 8]>::try_from(eight).ok()) {
            Some(eight) => u64::from_be_bytes(eight),
            None => bytes[at..].iter().enumerate().fold(0, |x, (i, &b)| x | (u64::from(b) << (56 - 8 * i))),
        } | CASE;
        let left = end - at;
        if left < 8 {
            hasher.block = if left == 0 { 0 } else { eight >> (64 - 8 * left) };
            return hasher.finish();
        }
        hasher.state = mix(hasher.state ^ eight);
        at += 8;
    }
}

/// Reads from `start`, where no word is open, to behind the next ASCII byte that ends a word, one character at a time.
fn by_character(text: &str, bytes: &[u8], start: usize, visit: &mut impl FnMut(Word)) -> usize {
    let mut hasher = Hasher::NEW;
    let (mut first, mut end) = (start, start);
    let mut i = start;
    while i < bytes.len() {
        let folded = FOLD[bytes[i] as usize];
        if folded > WIDE {
            if hasher.bytes == 0 {
                first = i;
            }
            hasher.feed(folded);
            i += 1;
            end = i;
        } else if folded == BOUNDARY {
            if hasher.bytes != 0 {
                visit(Word { hash: hasher.finish(), start: first as u32, end: end as u32 });
            }
            return i + 1;
        } else {
            let Some(c) = text.get(i..).and_then(|rest| rest.chars().next()) else { return bytes.len() };
            wide(c, i, &mut hasher, &mut first, &mut end, visit);
            i += c.len_utf8();
        }
    }
    if hasher.bytes != 0 {
        visit(Word { hash: hasher.finish(), start: first as u32, end: end as u32 });
    }
    i
}

/// All words of `text`.
pub fn words(text: &str) -> Vec<Word> {
    let mut out = Vec::with_capacity(text.len() / 6 + 1);
    each_word(text, |word| out.push(word));
    out
}

/// The folded form of each word of `text`: slower than [`each_word`], for display and for building word lists.
pub fn folded_words(text: &str) -> Vec<String> {
    words(text).iter().map(|word| fold_str(&text[word.start as usize..word.end as usize])).collect()
}

fn fold_str(word: &str) -> String {
    word.chars()
        .filter(|c| !invisible(*c))
        .nfkd()
        .flat_map(char::to_lowercase)
        .filter(|c| c.is_alphanumeric())
        .collect()
}

#[cold]
#[inline(never)]
fn wide(c: char, at: usize, hasher: &mut Hasher, start: &mut usize, end: &mut usize, visit: &mut impl FnMut(Word)) {
    if invisible(c) || is_combining_mark(c) {
        return;
    }
    let alone = unspaced(c);
    if alone && hasher.bytes != 0 {
        visit(Word { hash: hasher.finish(), start: *start as u32, end: *end as u32 });
        *hasher = Hasher::NEW;
    }
    for part in std::iter::once(c).nfkd().flat_map(char::to_lowercase) {
        if part.is_alphanumeric() {
            if hasher.bytes == 0 {
                *start = at;
            }
            let mut buffer = [0u8; 4];
            for &b in part.encode_utf8(&mut buffer).as_bytes() {
                hasher.feed(b);
            }
            *end = at + c.len_utf8();
        } else if !is_combining_mark(part) && hasher.bytes != 0 {
            visit(Word { hash: hasher.finish(), start: *start as u32, end: *end as u32 });
            *hasher = Hasher::NEW;
        }
    }
    if alone && hasher.bytes != 0 {
        visit(Word { hash: hasher.finish(), start: *start as u32, end: *end as u32 });
        *hasher = Hasher::NEW;
    }
}

/// Formatting characters that show nothing and separate nothing.
fn invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}')
}

/// Characters of scripts written without spaces between words.
fn unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x3040..=0x30ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff
        | 0x20000..=0x3ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hashes(text: &str) -> Vec<u64> {
        words(text).iter().map(|w| w.hash).collect()
    }

    #[test]
    fn case_punctuation_wrapping_and_unicode_presentation_vanish() {
        let plain = hashes("Joseph had 3 times as many notebooks, didn't he? That is 100%.");
        for other in [
            "# JOSEPH HAD 3 TIMES AS\n# many notebooks didn t he\n# that is 100",
            "Joseph\u{a0}had ３ times as many notebooks， didn’t he？ That is 100％。",
            "// joseph had 3 times as ma\u{ad}ny note\u{200b}books -- didn't he --> that is 100",
        ] {
            assert_eq!(plain, hashes(other), "{other}");
        }
        assert_ne!(plain, hashes("Joseph had 4 times as many notebooks, didn't he? That is 100%."));
    }

    #[test]
    fn spans_are_the_original_bytes() {
        let text = "(naïve) ﬁne — “Ünder”的字 x½";
        let spans: Vec<&str> = words(text).iter().map(|w| &text[w.start as usize..w.end as usize]).collect();
        assert_eq!(spans, ["naïve", "ﬁne", "Ünder", "的", "字", "x½", "½"]);
        assert_eq!(folded_words("Ünder ﬁne Ｘ２"), ["under", "fine", "x2"]);
        assert_eq!(hashes("naive fine"), hashes("naïve ﬁne"));
    }

    proptest! {
        #[test]
        fn hash_of_the_folded_form_is_the_hash_of_the_word(text in "[a-zA-Z0-9 .,éßñ\\n-]{0,60}") {
            let folded = folded_words(&text);
            let expected: Vec<u64> = folded.iter().map(|w| hash_folded(w)).collect();
            prop_assert_eq!(hashes(&text), expected);
        }

        #[test]
        fn blocks_give_what_one_character_at_a_time_gives(parts in prop::collection::vec("[a-zA-Z0-9]{0,40}|[ ,.'\\n_-]{1,3}|[éß“”\u{ad}\u{301}字½]{1,2}", 0..60)) {
            let text = parts.concat();
            let mut slow = Vec::new();
            let mut at = 0;
            while at < text.len() {
                at = by_character(&text, text.as_bytes(), at, &mut |word| slow.push(word));
            }
            prop_assert_eq!(words(&text), slow);
        }

        #[test]
        fn any_text_gives_ordered_disjoint_spans_on_character_boundaries(text in "\\PC{0,60}") {
            let mut last = 0;
            for word in words(&text) {
                prop_assert!(word.start < word.end);
                prop_assert!(word.start as usize >= last || text[word.start as usize..].starts_with(|c: char| !c.is_ascii()));
                prop_assert!(text.is_char_boundary(word.start as usize) && text.is_char_boundary(word.end as usize));
                last = word.end as usize;
            }
        }
    }
}
