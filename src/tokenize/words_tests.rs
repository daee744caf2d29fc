//! The `words` rule against a plain transcription of it, and what it promises of spans.

use super::super::tests::any_text;
use super::*;
use proptest::prelude::*;

fn terms(text: &str) -> Vec<(String, ByteSpan)> {
    let mut found = Vec::new();
    WordsTokenizer.terms(text, &mut |term, span| found.push((term.to_owned(), span)));
    found
}

fn words(text: &str) -> Vec<String> {
    terms(text).into_iter().map(|(term, _)| term).collect()
}

/// The rule as the module's documentation states it, step by step over the whole text.
fn oracle(text: &str) -> Vec<String> {
    let normal: String = text.nfkc().collect();
    let mut found = Vec::new();
    for piece in normal.split_word_bounds() {
        let chars: Vec<char> = piece.chars().filter(|&c| !is_ignorable(c)).collect();
        let word = |i: Option<usize>| {
            i.and_then(|i| chars.get(i)).is_some_and(|c| c.is_alphanumeric() || is_combining_mark(*c))
        };
        let number = |i: Option<usize>| i.and_then(|i| chars.get(i)).is_some_and(|c| c.is_numeric());
        let (mut term, mut alphanumeric) = (String::new(), false);
        for i in 0..=chars.len() {
            let (before, after) = (i.checked_sub(1), Some(i + 1));
            let Some(&c) = chars.get(i) else {
                if alphanumeric {
                    found.push(term);
                }
                break;
            };
            if word(Some(i)) || (matches!(c, '.' | ',') && number(before) && number(after)) {
                alphanumeric |= c.is_alphanumeric();
                if alphanumeric {
                    term.push(c);
                }
            } else if !(matches!(c, '\'' | '’') && word(before) && word(after)) {
                if alphanumeric {
                    found.push(std::mem::take(&mut term));
                }
                term.clear();
                alphanumeric = false;
            }
        }
    }
    let fold = |c: char| -> String {
        if c == 'ı' { c.to_string() } else { c.to_uppercase().flat_map(char::to_lowercase).collect() }
    };
    found.iter().map(|term| term.chars().map(fold).collect::<String>().nfkc().collect()).collect()
}

#[test]
fn the_rule_by_example() {
    for (text, expected) in [
        ("", ""),
        ("Hello, World!", "hello world"),
        ("don't DON’T rock'n'roll 'quoted' dogs'", "dont dont rocknroll quoted dogs"),
        ("3.14 1,000 v1.2.3 3. .5 1..2", "3.14 1,000 v1.2.3 3 5 1 2"),
        ("foo_bar.txt http://a.b/c?d=e", "foo bar txt http a b c d e"),
        ("Straße STRASSE ὈΔΥΣΣΕΎΣ Ὀδυσσεύς", "strasse strasse ὀδυσσεύσ ὀδυσσεύσ"),
        ("Cafe\u{301} CAFÉ ﬁne ½ x²", "café café fine 1 2 x2"),
        ("漢字かなカナ 한국어", "漢 字 か な カナ 한국어"),
        ("co\u{ad}operate zero\u{200d}width", "cooperate zerowidth"),
        ("🙂 👩🏽 … — “ ”", ""),
        ("U.S.A. e.g. a.5 5.a 1'000 5's", "u s a e g a 5 5 a 1000 5 s"),
        ("tab\tnew\nline\u{a0}nbsp\u{3000}wide", "tab new line nbsp wide"),
    ] {
        assert_eq!(words(text).join(" "), expected, "{text:?}");
        assert_eq!(oracle(text).join(" "), expected, "{text:?}");
    }
}

#[test]
fn spans_are_original_bytes() {
    let text = "A “Naïve” Cafe\u{301}, ½ DON’T. ﬁn";
    let found: Vec<(String, &str)> =
        terms(text).into_iter().map(|(term, s)| (term, &text[s.start as usize..s.end as usize])).collect();
    let expected = [
        ("a", "A"),
        ("naïve", "Naïve"),
        ("café", "Cafe\u{301}"),
        ("1", "½"),
        ("2", "½"),
        ("dont", "DON’T"),
        ("fin", "ﬁn"),
    ];
    assert_eq!(found.iter().map(|(t, s)| (t.as_str(), *s)).collect::<Vec<_>>(), expected);
}

/// A change of the Unicode tables that changes any assigned character's terms must raise the rule's number.
#[test]
fn unicode_tables_are_pinned() {
    use xxhash_rust::xxh3::Xxh3;
    let mut hash = Xxh3::new();
    for c in (0..0x30000u32).filter_map(char::from_u32).filter(|c| is_settled(*c)) {
        WordsTokenizer.terms(&format!("a{c}b 1{c}2 {c}"), &mut |term, span| {
            hash.update(term.as_bytes());
            hash.update(&span.start.to_le_bytes());
            hash.update(&span.end.to_le_bytes());
        });
    }
    assert_eq!(
        hash.digest(),
        PINNED,
        "the terms of assigned characters changed: raise the number in words::RULE and pin {:#x}",
        hash.digest()
    );
}

/// Blocks that were fully settled long before the tables in use: their characters do not change between versions.
fn is_settled(c: char) -> bool {
    matches!(c as u32, 0..=0x52f | 0x531..=0x7ff | 0x900..=0x97f | 0xe00..=0xe7f | 0x1100..=0x11ff | 0x1e00..=0x206f
        | 0x3000..=0x30ff | 0x3400..=0x4dbf | 0x4e00..=0x9fa5 | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe00..=0xffef)
}

const PINNED: u64 = 0xfd2b_3cd1_2934_aa3e;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn fast_equals_the_rule(text in any_text()) {
        assert_eq!(words(&text), oracle(&text), "{:?}", text);
    }

    #[test]
    fn fast_equals_the_rule_on_ascii(text in "[ -~\\n]{0,60}") {
        assert_eq!(words(&text), oracle(&text), "{:?}", text);
    }

    #[test]
    fn spans_are_ordered_slices_that_hold_the_term(text in any_text()) {
        let mut before = ByteSpan::default();
        for (term, span) in terms(&text) {
            let slice = text.get(span.start as usize..span.end as usize);
            assert!(slice.is_some_and(|s| !s.is_empty()), "{:?} in {:?}", span, text);
            assert!(span.start >= before.start && span.end >= before.end);
            before = span;
            assert!(words(slice.unwrap()).concat().contains(&term), "{term:?} {:?}", slice);
        }
    }

    #[test]
    fn normalised_text_has_the_same_terms(text in any_text()) {
        assert_eq!(words(&text.nfkc().collect::<String>()), words(&text));
        assert_eq!(words(&text.nfkd().collect::<String>()), words(&text));
    }
}
