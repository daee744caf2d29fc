//! What other engines get wrong, each with the true answer, and the inputs that break index builders.

#[allow(dead_code)]
mod oracle;

use std::time::Instant;

use oracle::index;
use priorart::index::Snapshot;
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
        let found =
            s.find(&s.ngram("needle").expect("a phrase"), &FindOptions { limit: 5, ..Default::default() }).expect("found");
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
