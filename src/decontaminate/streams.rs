//! The token streams of published protocols that differ from our words.
//!
//! - [`bare_words`], for `gpt3`: split at white space, ASCII punctuation deleted, ASCII lower-cased (`don't` is `dont`,
//!   `7-5` is `75`). A token that was nothing but punctuation vanishes.
//! - [`folded_words`], for `datatrove`: lower-cased, every number with an optional decimal part is `0`, listed punctuation
//!   and control characters are spaces, diacritics are dropped. Words are what white space separates.
//! - [`alphanumerics`], for `gpt4`: letters and digits only, case kept.
//!
//! Words are given as a 64-bit hash and their byte range in the original text, from the first character kept to the
//! separator that ends the word.

use unicode_normalization::UnicodeNormalization;

use crate::reference::words::Hasher;

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
    start: usize,
}

impl<'t> Open<'t> {
    fn new(tokens: &'t mut Tokens) -> Open<'t> {
        tokens.hashes.clear();
        tokens.spans.clear();
        Open { tokens, hasher: Hasher::NEW, start: 0 }
    }

    #[inline(always)]
    fn byte(&mut self, at: usize, byte: u8) {
        if self.hasher.bytes == 0 {
            self.start = at;
        }
        self.hasher.feed(byte);
    }

    fn char(&mut self, at: usize, c: char) {
        let mut buffer = [0; 4];
        for &b in c.encode_utf8(&mut buffer).as_bytes() {
            self.byte(at, b);
        }
    }

    #[inline(always)]
    fn end(&mut self, at: usize) {
        if self.hasher.bytes != 0 {
            self.tokens.hashes.push(self.hasher.finish());
            self.tokens.spans.push((self.start as u32, at as u32));
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

/// The `gpt3` stream.
pub(crate) fn bare_words(text: &str, tokens: &mut Tokens) {
    let mut open = Open::new(tokens);
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let class = BARE[bytes[at] as usize];
        if class > WIDE {
            open.byte(at, class);
        } else if class == END {
            open.end(at);
        } else if class == WIDE {
            let Some(c) = text[at..].chars().next() else { break };
            if c.is_whitespace() {
                open.end(at);
            } else {
                open.char(at, c);
            }
            at += c.len_utf8() - 1;
        }
        at += 1;
    }
    open.end(bytes.len());
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

/// The `datatrove` stream.
pub(crate) fn folded_words(text: &str, tokens: &mut Tokens) {
    let mut open = Open::new(tokens);
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut at = 0;
    while at < bytes.len() {
        let class = FOLDED[bytes[at] as usize];
        if class > DIGIT {
            open.byte(at, class);
            at += 1;
        } else if class == END {
            open.end(at);
            at += 1;
        } else if class == DIGIT {
            open.byte(at, b'0');
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
            if c.is_whitespace() || is_listed_punctuation(c) {
                open.end(at);
            } else {
                for lower in c.to_lowercase() {
                    for part in std::iter::once(lower).nfd() {
                        if !unicode_normalization::char::is_combining_mark(part) {
                            open.char(at, part);
                        }
                    }
                }
            }
            at += c.len_utf8();
        }
    }
    open.end(bytes.len());
}

/// The `gpt4` stream: the code of every letter and digit.
pub(crate) fn alphanumerics(text: &str, out: &mut Vec<u64>) {
    out.clear();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let b = bytes[at];
        if b < 0x80 {
            if b.is_ascii_alphanumeric() {
                out.push(u64::from(b));
            }
            at += 1;
        } else {
            let Some(c) = text[at..].chars().next() else { break };
            if c.is_alphanumeric() {
                out.push(u64::from(u32::from(c)));
            }
            at += c.len_utf8();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(stream: fn(&str, &mut Tokens), a: &str, b: &str) -> bool {
        let (mut x, mut y) = (Tokens::default(), Tokens::default());
        stream(a, &mut x);
        stream(b, &mut y);
        x.hashes == y.hashes
    }

    #[test]
    fn bare_words_delete_punctuation_inside_words() {
        assert!(same(bare_words, "Don't stop: 7-5 = 2!", "dont stop 75 2"));
        assert!(!same(bare_words, "7-5", "7 5"));
        assert!(!same(bare_words, "a，b", "a b"), "only ASCII punctuation is deleted");
        let mut tokens = Tokens::default();
        bare_words(" -- (a) b\u{a0}c", &mut tokens);
        assert_eq!(tokens.spans, [(5, 7), (8, 9), (11, 12)], "up to the white space after it");
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
