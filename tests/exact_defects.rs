//! What other engines get wrong, each with the true answer, and the inputs that break index builders.

#[allow(dead_code)]
mod oracle;

use std::time::Instant;

use oracle::index;
use priorart::index::Snapshot;
use priorart::query::Ngram;
use priorart::query::boolean::Expression;
use priorart::query::find::FindOptions;
use priorart::shard::Layout;

type Built = (tempfile::TempDir, Snapshot);

/// Runs a test with what builds an index of one shard, in either layout.
fn in_each_layout(test: impl Fn(&dyn Fn(&str, Vec<String>) -> Built)) {
    for layout in [Layout::Fast, Layout::Compact] {
        test(&|tokenizer, texts| {
            let dir = tempfile::tempdir().expect("a directory");
            let snapshot = index(dir.path(), tokenizer, &[texts], &[layout]);
            (dir, snapshot)
        });
    }
}

fn all(snapshot: &Snapshot, phrases: &[&str]) -> Expression {
    Expression::all(phrases.iter().map(|p| snapshot.ngram(p).expect("a phrase")).collect())
}

#[test]
fn counts_are_not_capped_by_a_clause_limit() {
    in_each_layout(|one| {
        let (_dir, s) = one("words", vec!["seven x eight".into(); 1900]);
        let got = s.boolean_count(&all(&s, &["seven", "eight"]), None).expect("a count");
        assert_eq!((got.count, got.documents, got.approximate), (1900, 1900, false));
    });
}

#[test]
fn an_and_over_short_neighbouring_documents_counts_each() {
    in_each_layout(|one| {
        let (_dir, s) = one("words", vec!["seven eight".into(); 1900]);
        for window in [None, Some(2), Some(100)] {
            let got = s.boolean_count(&all(&s, &["seven", "eight"]), window).expect("a count");
            assert_eq!((got.count, got.documents), (1900, 1900), "{window:?}");
        }
    });
}

#[test]
fn or_of_a_phrase_with_itself_counts_it_once() {
    in_each_layout(|one| {
        let (_dir, s) = one("words", vec!["seven eight".into(); 10]);
        let twice = Expression::any(vec![s.ngram("seven").expect("a phrase"); 2]);
        assert_eq!(s.boolean_count(&twice, None).expect("a count").count, 10);
    });
}

#[test]
fn a_window_means_first_to_last() {
    in_each_layout(|one| {
        // Seven is 9 tokens from eight and 9 from nine, which are 18 apart: no ten tokens have all three.
        let text = format!("eight {} seven {} nine", "x ".repeat(8), "x ".repeat(8));
        let (_dir, s) = one("words", vec![text]);
        let asked = all(&s, &["seven", "eight", "nine"]);
        assert_eq!(s.boolean_count(&asked, Some(10)).expect("a count").count, 0);
        assert_eq!(s.boolean_count(&asked, Some(18)).expect("a count").count, 0);
        assert_eq!(s.boolean_count(&asked, Some(19)).expect("a count").count, 1);
    });
}

#[test]
fn next_tokens_are_exact_beyond_a_thousand_occurrences() {
    in_each_layout(|one| {
        let text: String = (0..4000).map(|i| format!("the w{} ", i % 3886)).collect();
        let (_dir, s) = one("words", vec![text]);
        let next = s.next(&s.ngram("the").expect("a phrase"), 0);
        assert_eq!((next.prompt_count, next.distinct, next.approximate), (4000, 3886, false));
        assert_eq!(next.tokens.iter().map(|t| t.count).sum::<u64>(), 4000);
        assert_eq!(next.tokens.iter().filter(|t| t.count == 2).count(), 4000 - 3886);
    });
}

#[test]
fn the_longest_match_is_found_when_the_query_sorts_before_every_suffix() {
    in_each_layout(|one| {
        // Two tokens match; the third is smaller than any continuation.
        let (_dir, s) = one("bytes", vec!["bcd".into()]);
        assert_eq!(s.longest_matches(&s.ngram("bca").expect("a text")), [2, 1, 0]);
        assert_eq!(s.longest_matches(&s.ngram("aab").expect("a text")), [0, 0, 1]);
    });
}

#[test]
fn a_search_never_gives_a_document_twice() {
    in_each_layout(|one| {
        let mut texts = vec!["nothing here".to_string(); 20];
        texts[7] = "needle needle needle needle needle needle".into();
        let (_dir, s) = one("words", texts);
        let found = s
            .find(&s.ngram("needle").expect("a phrase"), &FindOptions { limit: 5, ..Default::default() })
            .expect("found");
        assert_eq!((found.count, found.documents, found.found.len()), (6, 1, 1));
        assert_eq!((found.found[0].count, found.found[0].occurrences.len()), (6, 3));
    });
}

#[test]
fn the_separator_cannot_be_asked_for() {
    in_each_layout(|one| {
        let (_dir, s) = one("gpt2", vec!["a b".into(), "c d".into()]);
        let separator = s.shards[0].separator();
        let error = s.ngram_of_ids(&[64, separator, 66]).expect_err("the separator is no token");
        assert!(error.to_string().contains("separator"), "{error}");
        assert!(s.ngram_of_ids(&[u32::MAX]).is_err());
        // Documents do not run into each other.
        let (_dir, s) = one("bytes", vec!["ab".into(), "cd".into()]);
        assert_eq!(s.count(&s.ngram("bc").expect("a text")), 0);
    });
}

#[test]
fn a_path_may_contain_any_word() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path().join("table tokenized offset ütf");
    std::fs::create_dir(&home).expect("a directory");
    let s = index(&home, "words", &[vec!["a table of tables".into()]], &[Layout::Fast]);
    assert_eq!(s.count(&s.ngram("table of").expect("a phrase")), 1);
}

#[test]
fn tiny_corpora_work() {
    in_each_layout(|one| {
        for text in ["", "a", "a b"] {
            let (_dir, s) = one("words", vec![text.into()]);
            let tokens = text.split_whitespace().count() as u64;
            assert_eq!(s.count(&s.ngram("").expect("an empty text")), tokens);
            assert_eq!(s.count(&s.ngram("a").expect("a phrase")), tokens.min(1));
            assert_eq!(s.longest_matches(&s.ngram("a b c").expect("a text")).len(), 3);
        }
        let (_dir, s) = one("words", vec!["word ".repeat(500)]);
        assert_eq!(s.count(&s.ngram("word word").expect("a phrase")), 499);
    });
}

#[test]
fn an_unknown_word_occurs_nowhere() {
    in_each_layout(|one| {
        let (_dir, s) = one("words", vec!["known words".into()]);
        assert_eq!(s.count(&s.ngram("unknown").expect("a phrase")), 0);
        assert_eq!(s.count(&s.ngram("known unknown").expect("a phrase")), 0);
        let next = s.next(&s.ngram("unknown").expect("a phrase"), 5);
        assert_eq!((next.prompt_count, next.tokens.len()), (0, 0));
    });
}

/// CPU time is not at hand here; the bound is generous, since a quadratic sort takes hours on these.
fn builds_fast(one: &dyn Fn(&str, Vec<String>) -> Built, tokenizer: &str, texts: Vec<String>) -> Built {
    let start = Instant::now();
    let built = one(tokenizer, texts);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    built
}

#[test]
fn one_repeated_byte_builds_in_linear_time() {
    in_each_layout(|one| {
        let (_dir, s) = builds_fast(one, "bytes", vec!["a".repeat(1 << 20)]);
        for n in [1usize, 2, 17, 100, 5000] {
            assert_eq!(s.count(&s.ngram(&"a".repeat(n)).expect("a text")), (1 << 20) - n as u64 + 1, "n = {n}");
        }
    });
}

#[test]
fn long_copies_build_in_linear_time_and_stay_sorted() {
    in_each_layout(|one| {
        // A linear congruential text: long, not periodic, the same in every copy.
        let mut state = 1u32;
        let text: String = (0..250_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                char::from(b'a' + (state >> 24) as u8 % 26)
            })
            .collect();
        let (_dir, s) = builds_fast(one, "bytes", vec![text.clone(); 20]);
        for from in [0, 99_000, 101_000, 249_000] {
            assert_eq!(s.count(&s.ngram(&text[from..from + 1000]).expect("a text")), 20, "at {from}");
        }
        assert_eq!(s.count(&s.ngram(&text).expect("a text")), 20);
        assert_eq!(s.longest_matches(&s.ngram(&text[1000..4000]).expect("a text"))[0], 3000);
    });
}

#[test]
fn fifty_copies_of_a_megabyte_build_in_linear_time() {
    // Words of many letters: a megabyte of them has few tokens, and so the test little to sort; the repeats are as long.
    let mut state = 7u32;
    let mut text = String::with_capacity(1 << 20);
    while text.len() < 1 << 20 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text += &format!("w{:x} ", u128::from(state >> 14).pow(5));
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    in_each_layout(|one| {
        let (_dir, s) = builds_fast(one, "words", vec![text.clone(); 50]);
        for from in [0, words.len() / 2, words.len() - 3000] {
            let ngram = Ngram::Terms(words[from..from + 3000].iter().map(|w| w.to_string()).collect());
            assert_eq!(s.count(&ngram), 50, "at {from}");
            assert_eq!(s.longest_matches(&ngram)[0], 3000);
        }
        let found = s.find(&s.ngram(words[9]).expect("a word"), &FindOptions { limit: 1, ..Default::default() });
        assert_eq!(found.expect("found").documents, 50);
    });
}

#[test]
fn an_and_on_real_text_is_exact_for_three_hundred_pairs_of_bigrams() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).expect("a text");
    // Documents short enough that pairs often miss each other.
    let texts: Vec<String> =
        ["README.md", "ARCHITECTURE.md", "OUTPUT.md", "FORMAT.md", "CONTRIBUTING.md", "LICENSE-APACHE"]
            .iter()
            .flat_map(|name| read(name).split("\n\n").map(str::to_string).collect::<Vec<_>>())
            .collect();
    in_each_layout(|one| {
        let (_dir, s) = one("words", texts.clone());
        let documents: Vec<Vec<String>> = texts
            .iter()
            .map(|t| match s.ngram(t).expect("a text") {
                Ngram::Terms(terms) => terms,
                Ngram::Ids(_) => unreachable!("an open vocabulary"),
            })
            .collect();
        let bigrams: Vec<&[String]> = documents.iter().flat_map(|d| d.windows(2)).collect();
        let mut together = 0;
        for i in 0..300 {
            // The second stands in the document of the first, or anywhere.
            let a = bigrams[i * 7919 % bigrams.len()];
            let b =
                if i % 2 == 0 { bigrams[(i * 7919 + 5) % bigrams.len()] } else { bigrams[i * 104_729 % bigrams.len()] };
            let places = |d: &[String], q: &[String]| {
                d.windows(2).enumerate().filter(|(_, w)| *w == q).map(|(at, _)| at).collect::<Vec<_>>()
            };
            let found: Vec<[Vec<usize>; 2]> = documents.iter().map(|d| [places(d, a), places(d, b)]).collect();
            let counts = [0, 1].map(|k| found.iter().map(|f| f[k].len()).sum::<usize>());
            let anchor = usize::from(counts[1] < counts[0]);
            let asked = Expression::all([a, b].map(|q| Ngram::Terms(q.to_vec())).to_vec());
            for window in [None, Some(10)] {
                let near = |f: &[Vec<usize>; 2], at: usize| {
                    f[1 - anchor].iter().any(|&to| window.is_none_or(|w| at.abs_diff(to) + 2 <= w))
                };
                let each: Vec<usize> =
                    found.iter().map(|f| f[anchor].iter().filter(|&&at| near(f, at)).count()).collect();
                let got = s.boolean_count(&asked, window).expect("a count");
                assert_eq!(got.count as usize, each.iter().sum::<usize>(), "{a:?} and {b:?} within {window:?}");
                assert_eq!(got.documents as usize, each.iter().filter(|n| **n > 0).count());
                together += got.count;
            }
        }
        assert!(together > 100, "the pairs test something, but only {together} times");
    });
}

#[test]
fn vocabularies_beyond_two_bytes_work() {
    in_each_layout(|one| {
        for tokenizer in ["cl100k", "o200k"] {
            let text = "Ein Ⅷ 漢字 поезд naïve 𒀀 zażółć gęślą jaźń ".repeat(3);
            let (_dir, s) = one(tokenizer, vec![text.clone(), "one".into()]);
            assert_eq!(s.shards[0].meta.width, 4);
            let all = s.ngram(&text).expect("a text");
            let Ngram::Ids(ids) = &all else { unreachable!("a closed vocabulary") };
            assert!(ids.iter().any(|&id| id > 65_535), "{tokenizer}: the text has large ids");
            assert_eq!(s.count(&all), 1);
            assert_eq!(s.count(&s.ngram("ein").expect("a text")), 0);
            let word = s.ngram(" поезд").expect("a text");
            assert_eq!(s.count(&word), 3);
            let found = s.find(&word, &FindOptions::default()).expect("found");
            assert!(found.found[0].occurrences.iter().all(|o| o.text == " поезд"));
            assert_eq!(s.next(&word, 0).tokens.iter().map(|t| t.count).sum::<u64>(), 3);
            assert_eq!(s.longest_matches(&all)[0], ids.len());
        }
    });
}

#[test]
fn empty_documents_and_single_tokens_count_right() {
    in_each_layout(|one| {
        let texts = ["", "word", "", "", "word", "other word", ""].map(String::from).to_vec();
        for tokenizer in ["words", "bytes", "gpt2"] {
            let (_dir, s) = one(tokenizer, texts.clone());
            assert_eq!(s.manifest.corpus.documents, 7);
            let word = s.ngram("word").expect("a word");
            let expected = if tokenizer == "gpt2" { 2 } else { 3 };
            assert_eq!(s.count(&word), expected, "{tokenizer}");
            let found = s.find(&word, &FindOptions::default()).expect("found");
            let numbers: Vec<&str> = found.found.iter().map(|f| f.id.as_str()).collect();
            assert_eq!(numbers, &["0/1", "0/4", "0/5"][..expected as usize], "{tokenizer}");
            let next = s.next(&word, 0);
            assert_eq!((next.end_of_document, next.distinct), (expected, 0), "{tokenizer}");
            assert_eq!(s.next(&s.ngram("").expect("nothing"), 0).prompt_count, s.manifest.corpus.tokens);
        }
        // Nothing but empty documents; nothing but one token.
        let (_dir, s) = one("words", vec![String::new(); 3]);
        assert_eq!((s.count(&s.ngram("a").expect("a word")), s.manifest.corpus.tokens), (0, 0));
        assert_eq!(s.longest_matches(&s.ngram("a b").expect("a text")), [0, 0]);
        let (_dir, s) = one("bytes", vec!["x".into()]);
        assert_eq!(s.longest_matches(&s.ngram("xxy").expect("a text")), [1, 1, 0]);
        assert_eq!(s.next(&s.ngram("x").expect("a text"), 0).end_of_document, 1);
    });
}
