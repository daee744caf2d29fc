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

use crate::reference::words::mix;

/// Running hash of one word.
#[derive(Clone, Copy)]
struct Hasher(u64);

impl Hasher {
    const EMPTY: u64 = 0xcbf2_9ce4_8422_2325;

    #[inline(always)]
    fn feed(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }

    fn feed_char(&mut self, c: char) {
        let mut buffer = [0; 4];
        for &b in c.encode_utf8(&mut buffer).as_bytes() {
            self.feed(b);
        }
    }
}

/// What a stream gives: token hashes and the byte range of each, in reused buffers.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    pub hashes: Vec<u64>,
    pub spans: Vec<(u32, u32)>,
    word: Option<(u64, u32)>,
}

impl Tokens {
    fn clear(&mut self) {
        self.hashes.clear();
        self.spans.clear();
        self.word = None;
    }

    #[inline(always)]
    fn byte(&mut self, at: usize, byte: u8) {
        let (state, start) = self.word.unwrap_or((Hasher::EMPTY, at as u32));
        let mut hasher = Hasher(state);
        hasher.feed(byte);
        self.word = Some((hasher.0, start));
    }

    fn char(&mut self, at: usize, c: char) {
        let (state, start) = self.word.unwrap_or((Hasher::EMPTY, at as u32));
        let mut hasher = Hasher(state);
        hasher.feed_char(c);
        self.word = Some((hasher.0, start));
    }

    #[inline(always)]
    fn end(&mut self, at: usize) {
        if let Some((state, start)) = self.word.take() {
            self.hashes.push(mix(state));
            self.spans.push((start, at as u32));
        }
    }
}

/// The `gpt3` stream.
pub(crate) fn bare_words(text: &str, tokens: &mut Tokens) {
    tokens.clear();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let b = bytes[at];
        if b < 0x80 {
            if b.is_ascii_alphanumeric() {
                tokens.byte(at, b.to_ascii_lowercase());
            } else if b == b' ' || b.is_ascii_whitespace() || b == 0x0b || (0x1c..=0x1f).contains(&b) {
                tokens.end(at);
            } else if !b.is_ascii_punctuation() {
                tokens.byte(at, b);
            }
            at += 1;
        } else {
            let Some(c) = text[at..].chars().next() else { break };
            if c.is_whitespace() {
                tokens.end(at);
            } else {
                tokens.char(at, c);
            }
            at += c.len_utf8();
        }
    }
    tokens.end(bytes.len());
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
    tokens.clear();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let b = bytes[at];
        if b.is_ascii_digit() {
            tokens.byte(at, b'0');
            at += 1;
            while at < bytes.len() && bytes[at].is_ascii_digit() {
                at += 1;
            }
            let decimal = at + 1 < bytes.len() && matches!(bytes[at], b'.' | b',') && bytes[at + 1].is_ascii_digit();
            if decimal {
                at += 2;
                while at < bytes.len() && bytes[at].is_ascii_digit() {
                    at += 1;
                }
            }
        } else if b < 0x80 {
            if b.is_ascii_alphabetic() {
                tokens.byte(at, b.to_ascii_lowercase());
            } else {
                // All other ASCII is white space, punctuation or a control character.
                tokens.end(at);
            }
            at += 1;
        } else {
            let Some(c) = text[at..].chars().next() else { break };
            if c.is_whitespace() || is_listed_punctuation(c) {
                tokens.end(at);
            } else {
                for lower in c.to_lowercase() {
                    for part in std::iter::once(lower).nfd() {
                        if !unicode_normalization::char::is_combining_mark(part) {
                            tokens.char(at, part);
                        }
                    }
                }
            }
            at += c.len_utf8();
        }
    }
    tokens.end(bytes.len());
}

/// The `gpt4` stream: the code of every letter and digit.
pub(crate) fn alphanumerics(text: &str, out: &mut Vec<u32>) {
    out.clear();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let b = bytes[at];
        if b < 0x80 {
            if b.is_ascii_alphanumeric() {
                out.push(u32::from(b));
            }
            at += 1;
        } else {
            let Some(c) = text[at..].chars().next() else { break };
            if c.is_alphanumeric() {
                out.push(u32::from(c));
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
