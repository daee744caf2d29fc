//! `tokenizer.json` files of each model type, small ones written here.

use super::super::tests::{any_text, check_closed, check_lossless};
use super::super::{NamedBpe, Tokenizer, TokenizerKind};
use super::*;
use proptest::prelude::*;
use serde_json::json;

fn parse(value: &Value) -> FileTokenizer {
    FileTokenizer::parse(Path::new("tokenizer.json"), value.to_string().as_bytes()).unwrap()
}

fn pieces<'a>(tokenizer: &FileTokenizer, text: &'a str) -> Vec<(String, &'a str)> {
    let (mut ids, mut spans) = (Vec::new(), Vec::new());
    tokenizer.encode_spans(text, &mut ids, &mut spans).unwrap();
    ids.iter()
        .zip(&spans)
        .map(|(&id, s)| {
            let bytes = tokenizer.token_bytes(id).unwrap();
            (String::from_utf8_lossy(&bytes).into_owned(), &text[s.start as usize..s.end as usize])
        })
        .collect()
}

fn shown(found: &[(String, &str)]) -> String {
    found.iter().map(|(token, slice)| format!("{token}={slice}")).collect::<Vec<_>>().join("|")
}

fn wordpiece() -> Value {
    json!({
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": null,
        "added_tokens": [
            {"id": 0, "content": "[UNK]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
            {"id": 1, "content": "[CLS]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
        ],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]}}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": {"[UNK]": 0, "[CLS]": 1, "play": 2, "##ing": 3, "cafe": 4, ",": 5, "漢": 6, "the": 7, "[": 8, "]": 9, "cl": 10, "##s": 11}}
    })
}

#[test]
fn wordpiece_keeps_original_positions() {
    let tokenizer = parse(&wordpiece());
    assert_eq!(
        shown(&pieces(&tokenizer, "The  PLAYING, Café 漢zzz the the")),
        "the=The|play=PLAY|ing=ING|,=,|cafe=Café|漢=漢|[UNK]=zzz|the=the|the=the"
    );
    assert!(tokenizer.begins_word(2) && !tokenizer.begins_word(3));
    assert_eq!(tokenizer.vocab(), 12);
}

#[test]
fn special_strings_and_limits_of_the_file_do_not_apply() {
    let tokenizer = parse(&wordpiece());
    assert_eq!(shown(&pieces(&tokenizer, "[CLS] the")), "[=[|cl=CL|s=S|]=]|the=the");
    assert_eq!(check_closed(&tokenizer, "the the the the the the").len(), 6);
}

fn metaspace_bpe() -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": 0, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
            {"id": 300, "content": "<tool>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": true, "byte_fallback": true,
            "vocab": byte_fallback_vocabulary(), "merges": ["▁ h", "▁h i"]}
    })
}

fn byte_fallback_vocabulary() -> Value {
    let mut vocabulary = serde_json::Map::new();
    vocabulary.insert("<unk>".into(), json!(0));
    for byte in 0..256 {
        vocabulary.insert(format!("<0x{byte:02X}>"), json!(byte + 1));
    }
    for (token, id) in [("▁", 257), ("h", 258), ("i", 259), ("▁h", 260), ("▁hi", 261)] {
        vocabulary.insert(token.into(), json!(id));
    }
    Value::Object(vocabulary)
}

#[test]
fn blank_marks_and_byte_fallback() {
    let tokenizer = parse(&metaspace_bpe());
    let found = pieces(&tokenizer, "hi hi é<tool>hi");
    assert_eq!(shown(&found), " hi=hi| hi= hi| = |\u{fffd}=é|\u{fffd}=é|<tool>=<tool>| hi=hi",);
    assert!(tokenizer.begins_word(261) && !tokenizer.begins_word(259));
    assert_eq!(tokenizer.token_bytes(0xc3 + 1).unwrap(), [0xc3]);
}

#[test]
fn unigram_and_word_level() {
    let unigram = parse(&json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": {"type": "NFKC"},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}, "post_processor": null,
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": false,
            "vocab": [["<unk>", 0.0], ["▁", -3.0], ["▁fi", -2.0], ["ne", -2.0], ["f", -5.0], ["▁a", -2.5], ["a", -4.0]]}
    }));
    assert_eq!(shown(&pieces(&unigram, "ﬁne a??a")), " fi=ﬁ|ne=ne| a= a|<unk>=??|a=a");
    let level = parse(&json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "one": 1, "two": 2}, "unk_token": "[UNK]"}
    }));
    assert_eq!(shown(&pieces(&level, "one three, two")), "one=one|[UNK]=three|[UNK]=,|two=two");
}

/// A byte-level file with the vocabulary of `gpt2`, its merges in the order of their products.
fn gpt2_file() -> Value {
    let bpe = NamedBpe::Gpt2.tokenizer().unwrap();
    let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
    let spell = |bytes: &[u8]| bytes.iter().map(|&b| alphabet[b as usize]).collect::<String>();
    let tokens: Vec<Vec<u8>> = (0..50_256).map(|id| bpe.token_bytes(id).unwrap()).collect();
    let rank: std::collections::HashMap<&[u8], usize> =
        tokens.iter().enumerate().map(|(i, t)| (t.as_slice(), i)).collect();
    let mut merges = Vec::new();
    for (id, token) in tokens.iter().enumerate().filter(|(_, t)| t.len() > 1) {
        // Merge with the ranks below this token's; what is left are its two halves.
        let mut parts: Vec<&[u8]> = token.chunks(1).collect();
        while parts.len() > 2 {
            let best = (0..parts.len() - 1)
                .filter_map(|i| rank.get([parts[i], parts[i + 1]].concat().as_slice()).map(|&r| (r, i)))
                .filter(|&(r, _)| r < id)
                .min();
            let (_, i) = best.unwrap();
            let start: usize = parts[..i].iter().map(|p| p.len()).sum();
            let merged = &token[start..start + parts[i].len() + parts[i + 1].len()];
            parts.splice(i..i + 2, [merged]);
        }
        merges.push(format!("{} {}", spell(parts[0]), spell(parts[1])));
    }
    let vocab: serde_json::Map<String, Value> = tokens.iter().enumerate().map(|(i, t)| (spell(t), json!(i))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": 50256, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": true}],
        "normalizer": null, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false, "vocab": vocab, "merges": merges}
    })
}

#[test]
fn a_gpt2_file_gives_the_ids_of_the_named_tokenizer() {
    let file = parse(&gpt2_file());
    let named = NamedBpe::Gpt2.tokenizer().unwrap();
    assert_eq!(file.vocab(), named.vocab());
    let mut runner = proptest::test_runner::TestRunner::default();
    runner
        .run(&any_text(), |text| {
            let mut ids = Vec::new();
            named.encode(&text, &mut ids).unwrap();
            assert_eq!(check_lossless(&file, &text), ids, "{text:?}");
            Ok(())
        })
        .unwrap();
    for id in 0..file.vocab() {
        assert_eq!(file.token_bytes(id), named.token_bytes(id));
        if id < 50_256 {
            assert_eq!(file.begins_word(id), named.begins_word(id));
        }
    }
}

#[test]
fn a_file_is_known_by_its_hash() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokenizer.json");
    std::fs::write(&path, wordpiece().to_string()).unwrap();
    let tokenizer = Tokenizer::open(path.to_str().unwrap()).unwrap();
    assert!(matches!(tokenizer.kind, TokenizerKind::Closed(_)));
    assert_eq!(tokenizer.spec.kind, "file");
    Tokenizer::from_spec(&tokenizer.spec).unwrap();
    std::fs::write(&path, metaspace_bpe().to_string()).unwrap();
    assert!(matches!(Tokenizer::from_spec(&tokenizer.spec), Err(Error::TokenizerMismatch { .. })));
    std::fs::write(&path, "{\"model\": 3}").unwrap();
    assert!(matches!(Tokenizer::from_file(&path), Err(Error::Model { .. })));
    std::fs::write(&path, "\u{0}").unwrap();
    assert!(matches!(Tokenizer::from_file(&path), Err(Error::Model { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(Tokenizer::from_file(&path), Err(Error::Io { .. })));
}

proptest! {
    #[test]
    fn spans_are_ordered_slices(text in any_text()) {
        check_closed(&parse(&wordpiece()), &text);
        check_closed(&parse(&metaspace_bpe()), &text);
    }
}
