//! Terms: what a paraphrase keeps of a text. Stemmed words, parts of identifiers, and the values of numbers.
//!
//! Built on [`words::each_word`]: a word is split where an identifier's case changes (`countHexPrimes`), folded and stripped of
//! English inflection; `80,000`, `80k` and `eighty thousand`'s `eighty` become numbers by value, so that a number written
//! as a word equals the digits. Cost: about 15 ns a term; nothing is allocated.

use crate::reference::words::{self, Word, hash_folded, mix};

/// What kind of term it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Word,
    /// Its value.
    Number(f64),
}

/// One term of a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    /// Equal for terms that count as the same.
    pub key: u64,
    pub kind: Kind,
    /// Bytes of the text.
    pub start: u32,
    pub end: u32,
}

const NUMBER_SALT: u64 = 0x5bd1_e995_7b93_1a6d;
/// Longest word that is stemmed, in bytes.
const LONGEST: usize = 32;

fn number_key(value: f64) -> u64 {
    mix(value.to_bits() ^ NUMBER_SALT) | 1
}

/// Value of a number written as one word.
#[rustfmt::skip]
fn number_word(word: &[u8]) -> Option<f64> {
    Some(match word {
        b"zero" => 0.0,
        b"three" => 3.0,
        b"four" => 4.0,
        b"five" => 5.0,
        b"six" => 6.0,
        b"seven" => 7.0,
        b"eight" => 8.0,
        b"nine" => 9.0,
        b"ten" => 10.0,
        b"eleven" => 11.0,
        b"twelve" => 12.0,
        b"thirteen" => 13.0,
        b"fourteen" => 14.0,
        b"fifteen" => 15.0,
        b"sixteen" => 16.0,
        b"seventeen" => 17.0,
        b"eighteen" => 18.0,
        b"nineteen" => 19.0,
        b"twenty" => 20.0,
        b"thirty" => 30.0,
        b"forty" => 40.0,
        b"fifty" => 50.0,
        b"sixty" => 60.0,
        b"seventy" => 70.0,
        b"eighty" => 80.0,
        b"ninety" => 90.0,
        b"one" | b"once" | b"first" => 1.0,
        b"two" | b"twice" | b"double" | b"couple" | b"second" => 2.0,
        b"triple" | b"thrice" => 3.0,
        b"dozen" | b"dozens" => 12.0,
        b"hundred" => 100.0,
        b"thousand" => 1000.0,
        b"million" => 1e6,
        b"half" => 0.5,
        b"third" => 1.0 / 3.0,
        b"quarter" | b"fourth" => 0.25,
        b"fifth" => 0.2,
        _ => return None,
    })
}

fn is_tens(value: f64) -> bool {
    (20.0..100.0).contains(&value) && value % 10.0 == 0.0
}

/// A folded ASCII word without its English inflection, in place; gives the length that is left. Crude, as a search term may be:
/// plural, `-ing`, `-ed`, `-ly`, a silent `e` and `y` for `i`.
fn stem(word: &mut [u8]) -> usize {
    let mut n = word.len();
    let ends = |word: &[u8], n: usize, tail: &[u8]| n >= tail.len() && &word[n - tail.len()..n] == tail;
    if n > 4 && ends(word, n, b"ies") {
        n -= 2;
        word[n - 1] = b'y';
    } else if n > 4 && [&b"sses"[..], b"xes", b"ches", b"shes"].iter().any(|t| ends(word, n, t)) {
        n -= 2;
    } else if n > 3 && word[n - 1] == b's' && !matches!(word[n - 2], b's' | b'u' | b'i') {
        n -= 1;
    }
    let vowel = |word: &[u8], n: usize| word[..n].iter().any(|c| matches!(c, b'a' | b'e' | b'i' | b'o' | b'u' | b'y'));
    let cut =
        [&b"ing"[..], b"ed"].into_iter().find(|t| n > t.len() + 2 && ends(word, n, t) && vowel(word, n - t.len()));
    if let Some(tail) = cut {
        n -= tail.len();
        if n > 2 && word[n - 1] == word[n - 2] && !matches!(word[n - 1], b'l' | b's' | b'z') {
            n -= 1;
        }
    } else if n > 4 && ends(word, n, b"ly") {
        n -= 2;
    }
    if n > 3 && word[n - 1] == b'e' {
        n -= 1;
    }
    if n > 2 && word[n - 1] == b'y' {
        word[n - 1] = b'i';
    }
    n
}

/// Hash of bytes, as [`hash_folded`] has it for a whole word.
fn hash(word: &[u8]) -> u64 {
    // Stems are ASCII.
    hash_folded(std::str::from_utf8(word).unwrap_or(""))
}

/// The terms of `text`, in order, into `out` (cleared first). Single letters are left out.
pub fn terms(text: &str, out: &mut Vec<Term>) {
    out.clear();
    let bytes = text.as_bytes();
    words::each_word(text, |word: Word| {
        let (start, end) = (word.start as usize, word.end as usize);
        let piece = &bytes[start..end];
        if !piece.is_ascii() {
            out.push(Term { key: word.hash & !1, kind: Kind::Word, start: word.start, end: word.end });
            return;
        }
        let mut at = 0;
        while at < piece.len() {
            let from = at;
            if piece[at].is_ascii_digit() {
                while at < piece.len() && piece[at].is_ascii_digit() {
                    at += 1;
                }
                let thousand = at + 1 == piece.len() && piece[at].eq_ignore_ascii_case(&b'k');
                digits(bytes, start + from, start + at, thousand, out);
                at += usize::from(thousand);
                continue;
            }
            // A part of an identifier: capitals, or one capital and what follows it.
            at += 1;
            let lower = |i: usize| piece.get(i).is_some_and(u8::is_ascii_lowercase);
            let upper = |i: usize| piece.get(i).is_some_and(u8::is_ascii_uppercase);
            if piece[from].is_ascii_uppercase() && upper(at) {
                while upper(at) && !lower(at + 1) {
                    at += 1;
                }
            } else {
                while lower(at) {
                    at += 1;
                }
            }
            letters(bytes, start + from, start + at, out);
        }
    });
}

/// A run of digits; joined to the one before it over a thousands comma or a decimal point.
fn digits(bytes: &[u8], start: usize, end: usize, thousand: bool, out: &mut Vec<Term>) {
    let mut value = 0.0;
    for &b in &bytes[start..end] {
        value = value * 10.0 + f64::from(b - b'0');
    }
    let places = (end - start) as i32;
    let mut from = start;
    if let Some(&Term { kind: Kind::Number(before), start: first, end: last, .. }) = out.last()
        && last as usize + 1 == start
        && bytes[last as usize - 1].is_ascii_digit()
        && (bytes[start - 1] == b',' && places == 3 || bytes[start - 1] == b'.' && places <= 6)
    {
        let whole = !bytes[first as usize..last as usize].contains(&b'.');
        let joined = match bytes[start - 1] {
            b',' if whole => Some(before * 1000.0 + value),
            b'.' if whole => Some(before + value / 10f64.powi(places)),
            _ => None,
        };
        if let Some(joined) = joined {
            value = joined;
            from = first as usize;
            out.pop();
        }
    }
    if thousand {
        value *= 1000.0;
    }
    // The same number reached by other sums has the same bits.
    value = (value * 1e6).round() / 1e6;
    let end = end + usize::from(thousand);
    out.push(Term { key: number_key(value), kind: Kind::Number(value), start: from as u32, end: end as u32 });
}

fn letters(bytes: &[u8], start: usize, end: usize, out: &mut Vec<Term>) {
    let n = end - start;
    if n < 2 {
        return;
    }
    let mut folded = [0u8; LONGEST];
    let kept = n.min(LONGEST);
    for (to, from) in folded.iter_mut().zip(&bytes[start..start + kept]) {
        *to = from.to_ascii_lowercase();
    }
    let (mut from, end) = (start as u32, end as u32);
    if let Some(mut value) = number_word(&folded[..kept]) {
        if value > 0.0
            && value < 10.0
            && value.fract() == 0.0
            && let Some(&Term { kind: Kind::Number(tens), start: first, end: last, .. }) = out.last()
            && is_tens(tens)
            && last as usize + 1 == start
            && matches!(bytes[start - 1], b'-' | b' ')
            && !bytes[last as usize - 1].is_ascii_digit()
        {
            value += tens;
            from = first;
            out.pop();
        }
        value = (value * 1e6).round() / 1e6;
        out.push(Term { key: number_key(value), kind: Kind::Number(value), start: from, end });
        return;
    }
    let left = if n <= LONGEST { stem(&mut folded[..kept]) } else { kept };
    out.push(Term { key: hash(&folded[..left]) & !1, kind: Kind::Word, start: from, end });
}

/// The terms of `text`.
pub fn terms_of(text: &str) -> Vec<Term> {
    let mut out = Vec::new();
    terms(text, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<u64> {
        terms_of(text).iter().map(|t| t.key).collect()
    }

    fn numbers(text: &str) -> Vec<f64> {
        terms_of(text).iter().filter_map(|t| if let Kind::Number(v) = t.kind { Some(v) } else { None }).collect()
    }

    #[test]
    fn inflected_words_and_parts_of_identifiers_are_the_same_terms() {
        assert_eq!(keys("houses flipped making stories"), keys("House flipping make story"));
        assert_eq!(keys("countHexPrimes"), keys("count_hex_primes"));
        assert_eq!(keys("HTTPServer"), keys("http server"));
        assert_ne!(keys("glass"), keys("glad"));
        assert_eq!(keys("bus gas this"), keys("BUS Gas THIS"));
    }

    #[test]
    fn numbers_are_their_values() {
        assert_eq!(numbers("$80,000 and 80k, 80000"), [80_000.0; 3]);
        assert_eq!(numbers("forty-five of 45; twenty-five"), [45.0, 45.0, 25.0]);
        assert_eq!(numbers("1.5 2.50 1,234,567.5"), [1.5, 2.5, 1_234_567.5]);
        assert_eq!(numbers("[1,2,3] 10.0.0.1"), [1.0, 2.0, 3.0, 10.0, 0.1]);
        assert_eq!(numbers("twice a dozen, half"), [2.0, 12.0, 0.5]);
        assert_eq!(keys("sixty"), keys("60"));
    }

    #[test]
    fn spans_are_the_bytes_of_the_text() {
        let text = "é naïve countPrimes 12,000 forty-two";
        let spans: Vec<&str> = terms_of(text).iter().map(|t| &text[t.start as usize..t.end as usize]).collect();
        assert_eq!(spans, ["é", "naïve", "count", "Primes", "12,000", "forty-two"]);
    }
}
