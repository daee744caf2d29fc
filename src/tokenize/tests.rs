//! Properties every tokenizer keeps, and opening one by name, path and spec.

use super::*;
use proptest::prelude::*;

/// Text that mixes what tokenizers treat differently: scripts, blanks, marks, digits, contractions, special strings.
pub(super) fn any_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[a-zA-Z]{1,8}",
        2 => "[ \\t\\r\\n]{1,4}",
        2 => "[0-9.,]{1,6}",
        1 => "[!-/:-@_'’…—/]{1,3}",
        1 => "(don't|I'LL|we’ve|it's 's|<\\|endoftext\\|>|http://x.y/z_1)",
        2 => "[àéîõüßſıĲŉǅςΣΩжЯא]{1,4}",
        2 => "[漢字かなカナｶﾅ한국어ไทย]{1,4}",
        1 => "[\\u{300}\\u{301}\\u{308}\\u{327}\\u{ad}\\u{200d}\\u{200b}\\u{fe0f}\\u{93f}]{1,2}",
        1 => "[½①㎏㈱ﬁ²🙂👩🏽\\u{a0}\\u{3000}\\u{2028}]{1,3}",
        2 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

/// What must hold of a closed tokenizer on `text`; returns the ids.
pub(super) fn check_closed(tokenizer: &dyn IdTokenizer, text: &str) -> Vec<u32> {
    let (mut plain, mut ids, mut spans) = (vec![7], vec![7], vec![ByteSpan::default()]);
    tokenizer.encode(text, &mut plain).unwrap();
    tokenizer.encode_spans(text, &mut ids, &mut spans).unwrap();
    assert_eq!(ids, plain, "encode and encode_spans differ on {text:?}");
    assert_eq!(spans.len(), ids.len());
    let mut before = 0;
    for (span, id) in spans[1..].iter().zip(&ids[1..]) {
        assert!(text.get(span.start as usize..span.end as usize).is_some(), "{span:?} is no slice of {text:?}");
        assert!(span.start >= before, "spans run backwards in {text:?}");
        assert!(*id < tokenizer.vocab());
        before = span.start;
    }
    ids.split_off(1)
}

/// What must also hold when the tokens are the text.
pub(super) fn check_lossless(tokenizer: &dyn IdTokenizer, text: &str) -> Vec<u32> {
    let ids = check_closed(tokenizer, text);
    let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.token_bytes(id).unwrap()).collect();
    assert_eq!(bytes, text.as_bytes());
    let mut spans = Vec::new();
    tokenizer.encode_spans(text, &mut Vec::new(), &mut spans).unwrap();
    let mut covered = 0;
    for span in spans {
        assert!(span.start as usize <= covered && span.end > span.start);
        covered = covered.max(span.end as usize);
    }
    assert_eq!(covered, text.len());
    ids
}

/// The texts of `limit` records of a corpus file under `PRIORART_DATA`, or `None` when that is unset.
pub(super) fn real_texts(file: &str, limit: usize) -> Option<Vec<String>> {
    let Some(root) = std::env::var_os("PRIORART_DATA") else {
        println!("skipped: PRIORART_DATA is not set");
        return None;
    };
    let packed = std::fs::read(Path::new(&root).join("corpora").join(file)).unwrap();
    let lines = zstd::stream::decode_all(&packed[..]).unwrap();
    let text = |line: &[u8]| -> String {
        serde_json::from_slice::<serde_json::Value>(line).unwrap()["text"].as_str().unwrap().to_owned()
    };
    Some(lines.split(|&b| b == b'\n').filter(|l| !l.is_empty()).take(limit).map(text).collect())
}

#[test]
fn names_open_and_reopen() {
    for name in Tokenizer::NAMES {
        let tokenizer = Tokenizer::named(name).unwrap();
        assert_eq!(tokenizer.spec.kind, name);
        assert_eq!(tokenizer.spec.sha256.len(), 64);
        let again = Tokenizer::from_spec(&tokenizer.spec).unwrap();
        assert_eq!(again.spec, tokenizer.spec);
        match tokenizer.kind {
            TokenizerKind::Closed(closed) => assert_eq!(Some(closed.vocab()), tokenizer.spec.vocab),
            TokenizerKind::Open(_) => assert_eq!(tokenizer.spec.vocab, None),
        }
    }
}

#[test]
fn an_unknown_name_is_refused_with_the_known_ones() {
    let error = Tokenizer::named("gpt5").err().unwrap();
    assert!(error.hint().unwrap().contains("cl100k"), "{error}");
}

#[test]
fn another_vocabulary_is_a_mismatch() {
    let mut spec = Tokenizer::named("gpt2").unwrap().spec;
    spec.sha256.replace_range(..1, if spec.sha256.starts_with('0') { "1" } else { "0" });
    let error = Tokenizer::from_spec(&spec).err().unwrap();
    assert!(matches!(error, Error::TokenizerMismatch { .. }), "{error}");
    assert!(Tokenizer::named("bytes").unwrap().spec.check(&Tokenizer::named("words").unwrap().spec).is_err());
}

#[test]
fn a_word_begins_with_what_is_not_alphanumeric() {
    for (bytes, expected) in [
        (&b" the"[..], true),
        (b"\n\n", true),
        (b"(", true),
        (b"ing", false),
        (b"9", false),
        ("é".as_bytes(), false),
        ("—x".as_bytes(), true),
        (b" \xe6\xbc", true),
        (b"\xe6\xbc", false),
        (b"\xa2", false),
        (b"", false),
    ] {
        assert_eq!(begins_word_bytes(bytes), expected, "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn bytes_are_the_text(text in any_text()) {
        let ids = check_lossless(&BytesTokenizer, &text);
        assert!(ids.iter().all(|&id| id < 255));
    }
}
