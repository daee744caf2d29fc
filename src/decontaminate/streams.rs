//! The token streams of published protocols that differ from our words.
//!
//! - [`bare_words`], for `gpt3`: split at white space, ASCII punctuation deleted, ASCII lower-cased (`don't` is `dont`,
//!   `7-5` is `75`). A token that was nothing but punctuation vanishes.
//! - [`folded_words`], for `datatrove`: lower-cased, every number with an optional decimal part is `0`, listed punctuation
//!   and control characters are spaces, diacritics are dropped. Words are what white space separates.
//! - [`alphanumerics`], for `gpt4`: letters and digits only, case kept.
//!
//! Words are given as a 64-bit hash and their byte range in the original text, up to the separator that ends them. ASCII is read in
//! blocks ([`each_run`]); what does not fit the common case is read one character at a time.

use unicode_normalization::UnicodeNormalization;

use crate::reference::ascii::{Classes, Run, each_run};
use crate::reference::words::{Hasher, hash_ascii};

/// What a stream gives: token hashes and the byte range of each, in reused buffers.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    pub hashes: Vec<u64>,
    pub spans: Vec<(u32, u32)>,
}

/// The token being read.
struct Open<'t> {
    tokens: &'t mut Tokens,
    hasher: Hasher,
}

impl<'t> Open<'t> {
    fn new(tokens: &'t mut Tokens) -> Open<'t> {
        Open { tokens, hasher: Hasher::NEW }
    }

    fn is_empty(&self) -> bool {
        self.hasher.bytes == 0
    }

    #[inline(always)]
    fn byte(&mut self, byte: u8) {
        self.hasher.feed(byte);
    }

    fn char(&mut self, c: char) {
        let mut buffer = [0; 4];
        c.encode_utf8(&mut buffer).as_bytes().iter().for_each(|&b| self.byte(b));
    }

    /// Ends the token that is open, if there is one, at `end`.
    fn end(&mut self, start: usize, end: usize) {
        if self.hasher.bytes != 0 {
            self.tokens.hashes.push(self.hasher.finish());
            self.tokens.spans.push((start as u32, end as u32));
            self.hasher = Hasher::NEW;
        }
    }
}

/// What a stream does with an ASCII byte: anything above `WIDE` is fed to the token as it stands in the table.
const END: u8 = 0;
const SKIP: u8 = 1;
const WIDE: u8 = 2;
const DIGIT: u8 = 3;

/// ASCII bytes of the `gpt3` stream; control characters that are no white space stay in their word.
const BARE: [u8; 256] = {
    let mut table = [WIDE; 256];
    let mut i = 0;
    while i < 128 {
        let b = i as u8;
        table[i] = match b {
            b' ' | 0x09..=0x0d | 0x1c..=0x1f => END,
            _ if b.is_ascii_alphanumeric() => b.to_ascii_lowercase(),
            _ if b.is_ascii_punctuation() => SKIP,
            _ => WIDE,
        };
        i += 1;
    }
    table
};

/// ASCII bytes of the `datatrove` stream: all but letters and digits is white space, punctuation or control character.
const FOLDED: [u8; 256] = {
    let mut table = [WIDE; 256];
    let mut i = 0;
    while i < 128 {
        let b = i as u8;
        table[i] = if b.is_ascii_digit() {
            DIGIT
        } else if b.is_ascii_alphabetic() {
            b.to_ascii_lowercase()
        } else {
            END
        };
        i += 1;
    }
    table
};

/// The `gpt3` stream. A word's range begins with its first character, punctuation included.
pub(crate) fn bare_words(text: &str, tokens: &mut Tokens) {
    tokens.hashes.clear();
    tokens.spans.clear();
    let bytes = text.as_bytes();
    each_run(
        bytes,
        |c| !c.spaces,
        |c| c.odd,
        |run| match run {
            Run::Plain { start, end, letters } => {
                if letters != 0 {
                    // Most words have their punctuation before and behind them.
                    let (first, last) = (letters.trailing_zeros() as usize, 63 - letters.leading_zeros() as usize);
                    let hash = if letters.count_ones() as usize == last - first + 1 {
                        hash_ascii(bytes, start + first, start + last + 1)
                    } else {
                        let mut hasher = Hasher::NEW;
                        bytes[start..end]
                            .iter()
                            .map(|b| BARE[*b as usize])
                            .filter(|c| *c > WIDE)
                            .for_each(|c| hasher.feed(c));
                        hasher.finish()
                    };
                    tokens.hashes.push(hash);
                    tokens.spans.push((start as u32, end as u32));
                }
                end
            }
            Run::Slow { start } => bare_word(text, start, tokens),
        },
    );
}

/// Reads the word at `start` one character at a time; gives the place behind the white space that ends it.
fn bare_word(text: &str, start: usize, tokens: &mut Tokens) -> usize {
    let bytes = text.as_bytes();
    let mut open = Open::new(tokens);
    let mut at = start;
    while at < bytes.len() {
        let class = BARE[bytes[at] as usize];
        if class > WIDE {
            open.byte(class);
        } else if class == END {
            open.end(start, at);
            return at + 1;
        } else if class == WIDE {
            let Some(c) = text[at..].chars().next() else { break };
            let past = at + c.len_utf8();
            if c.is_whitespace() {
                open.end(start, at);
                return past;
            }
            open.char(c);
            at = past - 1;
        }
        at += 1;
    }
    open.end(start, bytes.len());
    bytes.len()
}

/// Punctuation beyond ASCII that the `datatrove` stream takes for spaces.
fn is_listed_punctuation(c: char) -> bool {
    matches!(
        c,
        '—' | '”'
            | '：'
            | '％'
            | '１'
            | '〈'
            | '、'
            | '━'
            | '【'
            | '「'
            | '」'
            | '，'
            | '】'
            | '；'
            | '“'
            | '《'
            | '„'
            | '’'
            | '∶'
            | '´'
            | '．'
            | '（'
            | '–'
            | '？'
            | '！'
            | '～'
            | '«'
            | '〉'
            | '》'
            | '）'
            | '。'
            | '…'
            | '►'
            | '»'
    ) || ('\u{7f}'..='\u{9f}').contains(&c)
}

/// The `datatrove` stream. A word's range begins with the first character kept.
pub(crate) fn folded_words(text: &str, tokens: &mut Tokens) {
    tokens.hashes.clear();
    tokens.spans.clear();
    let bytes = text.as_bytes();
    let member = |c: &Classes| c.letters | c.wide;
    // A number may reach beyond its run: `1,250.75`.
    each_run(
        bytes,
        member,
        |c| c.digits | c.wide,
        |run| match run {
            Run::Plain { start, end, .. } => {
                tokens.hashes.push(hash_ascii(bytes, start, end));
                tokens.spans.push((start as u32, end as u32));
                end
            }
            Run::Slow { start } => folded_word(text, start, tokens),
        },
    );
}

/// Reads the word at `start` one character at a time; gives the place behind what ends it.
fn folded_word(text: &str, start: usize, tokens: &mut Tokens) -> usize {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut open = Open::new(tokens);
    let (mut at, mut first) = (start, start);
    while at < bytes.len() {
        if open.is_empty() {
            first = at;
        }
        let class = FOLDED[bytes[at] as usize];
        if class > DIGIT {
            open.byte(class);
            at += 1;
        } else if class == END {
            open.end(first, at);
            return at + 1;
        } else if class == DIGIT {
            open.byte(b'0');
            while digit(at) {
                at += 1;
            }
            if digit(at + 1) && matches!(bytes[at], b'.' | b',') {
                at += 1;
                while digit(at) {
                    at += 1;
                }
            }
        } else {
            let Some(c) = text[at..].chars().next() else { break };
            let past = at + c.len_utf8();
            if c.is_whitespace() || is_listed_punctuation(c) {
                open.end(first, at);
                return past;
            }
            for lower in c.to_lowercase() {
                for part in std::iter::once(lower).nfd() {
                    if !unicode_normalization::char::is_combining_mark(part) {
                        open.char(part);
                    }
                }
            }
            at = past;
        }
    }
    open.end(first, bytes.len());
    bytes.len()
}

/// The `gpt4` stream: every letter and digit as UTF-8.
pub(crate) fn alphanumerics(text: &str, out: &mut Vec<u8>) {
    out.clear();
    let bytes = text.as_bytes();
    each_run(
        bytes,
        |c| c.letters | c.wide,
        |c| c.wide,
        |run| match run {
            Run::Plain { start, end, .. } => {
                out.extend_from_slice(&bytes[start..end]);
                end
            }
            Run::Slow { start } => {
                let mut at = start;
                for c in text[start..].chars() {
                    if c.is_ascii() && !c.is_ascii_alphanumeric() {
                        break;
                    }
                    if c.is_alphanumeric() {
                        out.extend_from_slice(&bytes[at..at + c.len_utf8()]);
                    }
                    at += c.len_utf8();
                }
                at
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(stream: fn(&str, &mut Tokens), a: &str, b: &str) -> bool {
        let (mut x, mut y) = (Tokens::default(), Tokens::default());
        stream(a, &mut x);
        stream(b, &mut y);
        x.hashes == y.hashes
    }

    /// A stream read by its slow path alone.
    fn slowly(word: fn(&str, usize, &mut Tokens) -> usize, text: &str) -> Tokens {
        let (mut tokens, mut at) = (Tokens::default(), 0);
        while at < text.len() {
            at = word(text, at, &mut tokens);
        }
        tokens
    }

    proptest! {
        #[test]
        fn blocks_give_what_one_character_at_a_time_gives(
            parts in prop::collection::vec("[a-zA-Z]{1,30}|[0-9]{1,4}[.,]?|[ ,.'\\n\t_$-]{1,3}|[\u{0}\u{1d}\u{7f}]|[éß“”，\u{a0}\u{301}字½]{1,2}", 0..60),
        ) {
            let text = parts.concat();
            let mut tokens = Tokens::default();
            bare_words(&text, &mut tokens);
            let slow = slowly(bare_word, &text);
            prop_assert_eq!((&tokens.hashes, &tokens.spans), (&slow.hashes, &slow.spans));
            folded_words(&text, &mut tokens);
            let slow = slowly(folded_word, &text);
            prop_assert_eq!((&tokens.hashes, &tokens.spans), (&slow.hashes, &slow.spans));
            let mut kept = Vec::new();
            alphanumerics(&text, &mut kept);
            prop_assert_eq!(String::from_utf8(kept).unwrap(), text.chars().filter(|c| c.is_alphanumeric()).collect::<String>());
        }
    }

    #[test]
    fn bare_words_delete_punctuation_inside_words() {
        assert!(same(bare_words, "Don't stop: 7-5 = 2!", "dont stop 75 2"));
        assert!(!same(bare_words, "7-5", "7 5"));
        assert!(!same(bare_words, "a，b", "a b"), "only ASCII punctuation is deleted");
        let mut tokens = Tokens::default();
        bare_words(" -- (a) b\u{a0}c", &mut tokens);
        assert_eq!(tokens.spans, [(4, 7), (8, 9), (11, 12)], "from white space to white space");
    }

    #[test]
    fn folded_words_make_every_number_zero() {
        assert!(same(folded_words, "Pay $1,250.75 in May—now!", "pay 0 0 in may now"));
        assert!(same(folded_words, "3.14 and 2", "9 and 1000"));
        assert!(same(folded_words, "abc123 café", "ABC0 cafe"));
        assert!(!same(folded_words, "x 3", "x y"));
    }

    #[test]
    fn alphanumerics_keep_case_and_nothing_else() {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        alphanumerics("He said: “Go – 7!”", &mut a);
        alphanumerics("HesaidGo7", &mut b);
        assert_eq!(a, b);
        alphanumerics("hesaidGo7", &mut b);
        assert_ne!(a, b);
    }
}
