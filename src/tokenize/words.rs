//! The `words` tokenizer: text as a sequence of normalised Unicode words ("terms").
//!
//! # Rule `words 1`
//!
//! 1. The text is put in Unicode normalization form NFKC.
//! 2. It is cut at the word boundaries of UAX #29 (default rules, no dictionary: each Han ideograph and each Hiragana letter
//!    is a piece of its own; a run of Katakana or of Hangul syllables is one).
//! 3. The invisible characters U+00AD, U+034F, U+180B–U+180F, U+200B–U+200F, U+202A–U+202E, U+2060–U+206F, U+FE00–U+FE0F and U+FEFF
//!    are taken out of the piece. The others are
//!    - *kept*: alphanumeric characters (Unicode `Alphabetic`, or general category N) and combining marks;
//!      also `.` and `,` between two numeric characters (`3.14`, `1,000`);
//!    - *ignored*: an apostrophe (`'` U+0027 or `’` U+2019) between two alphanumeric characters or marks, so that
//!      `don't` and `don’t` are the term `dont`;
//!    - or, all the rest, the end of a term (`foo_bar.txt` is `foo`, `bar`, `txt`).
//!
//!    A maximal run of kept and ignored characters that holds an alphanumeric one is a term, made of its kept characters from the first
//!    alphanumeric one on.
//! 4. The term is case-folded: each character is mapped to its full upper case, then each of those to its full lower
//!    case, without locale or context (`ß` becomes `ss`, final `ς` becomes `σ`); `ı` (U+0131) stays. If the
//!    result is not in NFKC, it is put there.
//!
//! The span of a term is the range of original text from its first to its last character. Where normalization merges or expands
//! characters (`½` is `1⁄2`), the span covers all the original characters that took part, so spans of neighbouring terms may
//! coincide; they never run backwards.
//!
//! # How it works, and its cost
//!
//! ASCII text is cut by a byte-class table, without normalization or allocation. A stretch around non-ASCII characters, from
//! a blank to a blank, takes the general path; both give the same terms (tested against a plain transcription
//! of the rule). The tables of Unicode are those of the `unicode-segmentation` and `unicode-normalization` crates; a test pins
//! what they say of all assigned characters, and a change there must raise the rule's number.

use unicode_normalization::char::{canonical_combining_class, decompose_compatible, is_combining_mark};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};
use unicode_segmentation::UnicodeSegmentation;

use super::{ByteSpan, TermTokenizer};

/// The rule hashed into the spec.
pub(super) const RULE: &str = "priorart words 1";

/// See the module's documentation.
#[derive(Debug, Clone, Copy, Default)]
pub struct WordsTokenizer;

impl TermTokenizer for WordsTokenizer {
    fn terms(&self, text: &str, each: &mut dyn FnMut(&str, ByteSpan)) {
        let bytes = text.as_bytes();
        let mut general = General::default();
        let mut at = 0;
        while at < bytes.len() {
            // `at` is the start of the text or follows an ASCII blank, and nothing before it takes part in what follows.
            let (stop, ascii) = ascii_stretch(bytes, at);
            if stop > at {
                ascii_terms(text, at, stop, each);
            }
            at = stop;
            if !ascii {
                let end = general_stretch(text, at);
                general.terms(text, at, end, each);
                at = end;
            }
        }
    }
}

/// Byte classes of the ASCII path.
const OTHER: u8 = 0;
const LOWER: u8 = 1;
const UPPER: u8 = 2;
const DIGIT: u8 = 3;
const APOSTROPHE: u8 = 4;
const POINT: u8 = 5;

const CLASS: [u8; 256] = {
    let mut class = [OTHER; 256];
    let mut byte = 0;
    while byte < 128 {
        let b = byte as u8;
        class[byte] = if b.is_ascii_lowercase() {
            LOWER
        } else if b.is_ascii_uppercase() {
            UPPER
        } else if b.is_ascii_digit() {
            DIGIT
        } else if b == b'\'' {
            APOSTROPHE
        } else if b == b'.' || b == b',' {
            POINT
        } else {
            OTHER
        };
        byte += 1;
    }
    class
};

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\t' | b'\r')
}

/// End of the stretch from `at` that the ASCII path may take, and whether the text ends there: if not, the stretch ends
/// after the last blank before a non-ASCII character. A non-ASCII character right after a blank is left with that blank
/// outside: a combining mark on a blank belongs to no term either way.
fn ascii_stretch(bytes: &[u8], at: usize) -> (usize, bool) {
    let rest = &bytes[at..];
    let ascii = ascii_prefix(rest);
    if ascii == rest.len() {
        return (bytes.len(), true);
    }
    let keep = rest[..ascii].iter().rposition(|&b| is_blank(b)).map_or(0, |blank| blank + 1);
    (at + keep, false)
}

/// Number of leading ASCII bytes.
fn ascii_prefix(bytes: &[u8]) -> usize {
    let mut at = 0;
    for block in bytes.chunks_exact(32) {
        if !block.is_ascii() {
            break;
        }
        at += 32;
    }
    at + bytes[at..].iter().position(|b| !b.is_ascii()).unwrap_or(bytes.len() - at)
}

/// End of the stretch from `at` for the general path: after a blank that is followed by an ASCII character or by
/// a letter that neither composes with nor attaches to what precedes it, or the end of the text.
fn general_stretch(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let mut i = at;
    while i < bytes.len() {
        if is_blank(bytes[i]) && text[i + 1..].chars().next().is_some_and(stands_alone) {
            return i + 1;
        }
        i += 1;
    }
    bytes.len()
}

/// A fixed set of common characters that begin a text as they continue one: not changed by NFKC, of combining class 0,
/// composing with nothing before them, and no `Extend` or `Format` of UAX #29.
fn stands_alone(c: char) -> bool {
    c.is_ascii()
        || matches!(c, '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{391}'..='\u{3a1}' | '\u{3b1}'..='\u{3c9}'
            | '\u{400}'..='\u{481}' | '\u{5d0}'..='\u{5ea}' | '\u{620}'..='\u{64a}' | '\u{3041}'..='\u{3096}'
            | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{2018}'..='\u{201d}' | '\u{3001}'..='\u{3002}')
}

/// Terms of `text[start..end]`, which is ASCII and is followed by a blank, the end, or nothing that matters.
fn ascii_terms(text: &str, start: usize, end: usize, each: &mut dyn FnMut(&str, ByteSpan)) {
    let bytes = &text.as_bytes()[..end];
    let class = |i: usize| bytes.get(i).map_or(OTHER, |&b| CLASS[b as usize]);
    let mut folded = String::new();
    let mut at = start;
    while at < end {
        if !matches!(CLASS[bytes[at] as usize], LOWER | UPPER | DIGIT) {
            at += 1;
            continue;
        }
        let first = at;
        // Whether the term differs from the text: it holds an upper-case letter, or an apostrophe to leave out.
        let (mut upper, mut apostrophe) = (false, false);
        loop {
            match class(at) {
                LOWER | DIGIT => at += 1,
                UPPER => {
                    upper = true;
                    at += 1;
                }
                POINT if class(at - 1) == DIGIT && class(at + 1) == DIGIT => at += 1,
                APOSTROPHE => {
                    let (before, after) = (class(at - 1), class(at + 1));
                    let letters = matches!(before, LOWER | UPPER) && matches!(after, LOWER | UPPER);
                    if !(letters || (before == DIGIT && after == DIGIT)) {
                        break;
                    }
                    apostrophe = true;
                    at += 1;
                }
                _ => break,
            }
        }
        let span = ByteSpan { start: first as u32, end: at as u32 };
        let raw = &text[first..at];
        if !upper && !apostrophe {
            each(raw, span);
        } else {
            folded.clear();
            folded.push_str(raw);
            folded.make_ascii_lowercase();
            if apostrophe {
                folded.retain(|c| c != '\'');
            }
            each(&folded, span);
        }
    }
}

/// The general path, with the buffers it reuses.
#[derive(Default)]
struct General {
    /// The stretch in NFKC.
    normal: String,
    /// For each byte of `normal`: the original characters it came from.
    origin: Vec<ByteSpan>,
    term: String,
    renormalised: String,
}

impl General {
    fn terms(&mut self, text: &str, start: usize, end: usize, each: &mut dyn FnMut(&str, ByteSpan)) {
        self.normalize(text, start, end);
        let normal = std::mem::take(&mut self.normal);
        let origin = std::mem::take(&mut self.origin);
        for (offset, piece) in normal.split_word_bound_indices() {
            self.piece_terms(piece, &origin[offset..offset + piece.len()], each);
        }
        self.normal = normal;
        self.origin = origin;
    }

    /// Fills `normal` and `origin` from `text[start..end]`.
    fn normalize(&mut self, text: &str, start: usize, end: usize) {
        self.normal.clear();
        self.origin.clear();
        let stretch = &text[start..end];
        let mut chars = stretch.char_indices().peekable();
        while let Some((offset, c)) = chars.next() {
            // A run that normalises on its own: up to the next character at which normalization may start afresh.
            let mut run_end = offset + c.len_utf8();
            let mut single = true;
            while let Some(&(next, n)) = chars.peek() {
                if starts_afresh(n) {
                    break;
                }
                single = false;
                run_end = next + n.len_utf8();
                chars.next();
            }
            let span = ByteSpan { start: (start + offset) as u32, end: (start + run_end) as u32 };
            let before = self.normal.len();
            if single && (c.is_ascii() || is_nfkc_quick(std::iter::once(c)) == IsNormalized::Yes) {
                self.normal.push(c);
            } else {
                self.normal.extend(stretch[offset..run_end].nfkc());
            }
            self.origin.resize(self.origin.len() + self.normal.len() - before, span);
        }
    }

    /// Terms of one UAX #29 piece.
    fn piece_terms(&mut self, piece: &str, origin: &[ByteSpan], each: &mut dyn FnMut(&str, ByteSpan)) {
        self.term.clear();
        let mut span = ByteSpan::default();
        let mut before: Option<char> = None;
        let mut chars = piece.char_indices();
        while let Some((offset, c)) = chars.next() {
            if is_ignorable(c) {
                continue;
            }
            let alphanumeric = c.is_alphanumeric();
            let kept = alphanumeric || (before.is_some() && is_combining_mark(c)) || {
                let after = chars.clone().map(|(_, n)| n).find(|&n| !is_ignorable(n));
                match c {
                    '.' | ',' => before.is_some_and(char::is_numeric) && after.is_some_and(char::is_numeric),
                    '\'' | '\u{2019}' if before.is_some_and(is_word_char) && after.is_some_and(is_word_char) => {
                        continue;
                    }
                    _ => false,
                }
            };
            if kept {
                let source = origin[offset];
                if self.term.is_empty() {
                    span = source;
                }
                span.end = span.end.max(source.end);
                fold_into(c, &mut self.term);
                before = Some(c);
            } else {
                self.emit(span, each);
                before = None;
            }
        }
        self.emit(span, each);
    }

    fn emit(&mut self, span: ByteSpan, each: &mut dyn FnMut(&str, ByteSpan)) {
        if !self.term.is_empty() {
            if self.term.is_ascii() || is_nfkc_quick(self.term.chars()) == IsNormalized::Yes {
                each(&self.term, span);
            } else {
                self.renormalised.clear();
                self.renormalised.extend(self.term.nfkc());
                each(&self.renormalised, span);
            }
        }
        self.term.clear();
    }
}

/// Whether NFKC of a text can be computed in two parts that are split before `c`: the first character
/// of its compatibility decomposition has combining class 0 and composes with nothing before it.
fn starts_afresh(c: char) -> bool {
    if stands_alone(c) {
        return true;
    }
    let mut first = None;
    decompose_compatible(c, |d| {
        first.get_or_insert(d);
    });
    let first = first.unwrap_or(c);
    canonical_combining_class(first) == 0 && is_nfkc_quick(std::iter::once(first)) == IsNormalized::Yes
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c)
}

fn is_ignorable(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

fn fold_into(c: char, out: &mut String) {
    if c.is_ascii() {
        out.push(c.to_ascii_lowercase());
    } else if c == '\u{131}' {
        out.push(c);
    } else {
        for upper in c.to_uppercase() {
            out.extend(upper.to_lowercase());
        }
    }
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
