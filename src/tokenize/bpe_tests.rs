//! The named BPEs against the vocabularies' own encoder.

use super::super::tests::{any_text, check_lossless, real_texts};
use super::*;
use proptest::prelude::*;
use std::time::Instant;

fn reference(named: NamedBpe) -> &'static tiktoken_rs::CoreBPE {
    match named {
        NamedBpe::Gpt2 => tiktoken_rs::r50k_base_singleton(),
        NamedBpe::Cl100k => tiktoken_rs::cl100k_base_singleton(),
        NamedBpe::O200k => tiktoken_rs::o200k_base_singleton(),
    }
}

fn encode(named: NamedBpe, text: &str) -> Vec<u32> {
    let mut ids = Vec::new();
    named.tokenizer().unwrap().encode(text, &mut ids).unwrap();
    ids
}

#[test]
fn known_ids() {
    assert_eq!(encode(NamedBpe::Gpt2, "Hello world"), [15496, 995]);
    assert_eq!(encode(NamedBpe::Cl100k, "tiktoken is great!"), [83, 1609, 5963, 374, 2294, 0]);
    assert_eq!(encode(NamedBpe::O200k, "Hello world"), [13225, 2375]);
}

#[test]
fn the_identity_is_known_without_building() {
    for named in NamedBpe::ALL {
        let built = BytePairTokenizer::build(named).unwrap();
        assert_eq!((built.sha256(), IdTokenizer::vocab(&built)), (named.sha256(), named.vocab()));
    }
}

#[test]
fn special_strings_are_text() {
    for named in NamedBpe::ALL {
        let bpe = named.tokenizer().unwrap();
        let ids = check_lossless(bpe, "a<|endoftext|><|fim_prefix|>b");
        let (ordinary, specials) = named.layout();
        assert!(ids.iter().all(|&id| id < ordinary));
        assert_eq!(bpe.token_bytes(specials[0].0).unwrap(), b"<|endoftext|>");
        assert_eq!(bpe.token_bytes(bpe.vocab()), None);
    }
    assert_eq!(NamedBpe::Cl100k.tokenizer().unwrap().token_bytes(100_256), None);
}

#[test]
fn every_token_is_itself_where_it_is_text() {
    for named in NamedBpe::ALL {
        let bpe = named.tokenizer().unwrap();
        for id in (0..named.layout().0).step_by(97) {
            if let Ok(text) = String::from_utf8(bpe.token_bytes(id).unwrap()) {
                assert_eq!(encode(named, &text), reference(named).encode_ordinary(&text), "{text:?}");
            }
        }
    }
}

#[test]
fn long_texts_are_cut_where_tokens_end() {
    // Blanks before a word, runs of blanks, punctuation and line ends, at every offset around the cut.
    for (i, unit) in
        ["a b", "word,  two\n \n x ", "1 22 333 ", "!!\r\n\r\n  (", " 's don't ", "漢字 かな "].iter().enumerate()
    {
        let mut text = "é".repeat(i);
        text.push_str(&unit.repeat((3 * PIECE) / unit.len()));
        for named in NamedBpe::ALL {
            assert_eq!(piece_len(&text) < text.len(), i != 3, "{unit:?}");
            assert_eq!(encode(named, &text), reference(named).encode_ordinary(&text), "{named:?} {unit:?}");
        }
    }
}

#[test]
fn long_repeats_take_linear_time() {
    for named in NamedBpe::ALL {
        encode(named, "warm");
        for unit in ["a", " ", "é", "=", "\n", "ab", "7", "aA"] {
            let text = unit.repeat(600_000 / unit.len());
            let started = Instant::now();
            let ids = encode(named, &text);
            let took = started.elapsed();
            assert!(took.as_secs() < 5, "{named:?} {unit:?}: {took:?}");
            assert!(ids.len() <= text.len());
        }
    }
}

#[test]
fn medium_repeats_agree_with_the_reference() {
    for named in NamedBpe::ALL {
        for unit in ["a", " ", "é", "=", "\n", "ab", "aA", "-=", "\t", "漢", "xxy"] {
            for times in [1, 2, 3, 7, 16, 63, 64, 65, 99, 130, 257, 1000] {
                let text = unit.repeat(times);
                assert_eq!(
                    encode(named, &text),
                    reference(named).encode_ordinary(&text),
                    "{named:?} {unit:?} × {times}"
                );
            }
        }
    }
}

#[test]
fn threads_do_not_disturb_each_other() {
    let texts: Vec<String> =
        (0..64).map(|i| format!("thread {i}: {} naïve façade\n", "lorem ipsum ".repeat(i))).collect();
    let bpe = NamedBpe::Gpt2.tokenizer().unwrap();
    let expected: Vec<Vec<u32>> = texts.iter().map(|t| reference(NamedBpe::Gpt2).encode_ordinary(t)).collect();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for (text, ids) in texts.iter().zip(&expected) {
                    let mut found = Vec::new();
                    bpe.encode(text, &mut found).unwrap();
                    assert_eq!(&found, ids);
                }
            });
        }
    });
}

#[test]
fn real_text_agrees_with_the_reference() {
    let Some(mut texts) = real_texts("peps.jsonl.zst", 60) else { return };
    texts.extend(real_texts("debian-docs/part-0.jsonl.zst", 150).unwrap());
    for named in NamedBpe::ALL {
        for text in &texts {
            assert_eq!(encode(named, text), reference(named).encode_ordinary(text), "{named:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_text_agrees_with_the_reference(text in any_text()) {
        for named in NamedBpe::ALL {
            let ids = check_lossless(named.tokenizer().unwrap(), &text);
            assert_eq!(ids, reference(named).encode_ordinary(&text), "{:?} {:?}", named, text);
        }
    }
}
