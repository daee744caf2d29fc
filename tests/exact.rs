//! Every exact query against a brute-force oracle: real text (this project's own source), three tokenizers, both layouts, several
//! shards, with and without removals.
//!
//! `PRIORART_QUERIES` sets the number of random queries of each tokenizer (default 1,000; the long form is 10,000).

mod oracle;
mod sources;

use std::collections::{BTreeSet, HashMap};

use oracle::{Oracle, index};
use priorart::index::Snapshot;
use priorart::index::remove::remove;
use priorart::query::Ngram;
use priorart::query::boolean::Expression;
use priorart::query::count::NgramList;
use priorart::query::find::FindOptions;
use priorart::query::hunt::HuntOptions;
use priorart::shard::Layout;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Three shards: half of the texts, the other half, and the hard cases: copies, an empty text, a single token, one repeated character.
fn parts() -> Vec<Vec<String>> {
    let mut first = sources::texts(&["src/suffix", "src/query", "src/corpus", "."]);
    let second = first.split_off(first.len() / 2);
    let mut third: Vec<String> = Vec::new();
    for _ in 0..4 {
        third.extend(second.iter().take(3).cloned());
    }
    third.extend([String::new(), "one".into(), "a".repeat(3000), "la ".repeat(500), "é 漢字 𝒳 \u{200b}".into()]);
    vec![first, second, third]
}

struct Asked<'a> {
    rng: ChaCha8Rng,
    documents: &'a [Ngram],
}

impl Asked<'_> {
    /// An n-gram of the corpus; one in four has a token of somewhere else.
    fn ngram(&mut self, lengths: std::ops::RangeInclusive<usize>) -> Ngram {
        loop {
            let n = self.rng.random_range(lengths.clone());
            let document = &self.documents[self.rng.random_range(0..self.documents.len())];
            if document.len() < n {
                continue;
            }
            let at = self.rng.random_range(0..=document.len() - n);
            let mut query = document.slice(at..at + n);
            if self.rng.random_ratio(1, 4) {
                let other = &self.documents[self.rng.random_range(0..self.documents.len())];
                if other.is_empty() {
                    continue;
                }
                let (from, to) = (self.rng.random_range(0..other.len()), self.rng.random_range(0..n));
                match (&mut query, other) {
                    (Ngram::Ids(q), Ngram::Ids(o)) => q[to] = o[from],
                    (Ngram::Terms(q), Ngram::Terms(o)) => q[to] = o[from].clone(),
                    _ => unreachable!("one tokenizer"),
                }
            }
            return query;
        }
    }

    /// A text of some pieces of the corpus.
    fn text(&mut self, pieces: usize) -> Ngram {
        let pieces: Vec<Ngram> = (0..pieces).map(|_| self.ngram(1..=12)).collect();
        match &pieces[0] {
            Ngram::Ids(_) => Ngram::Ids(pieces.iter().flat_map(ids).collect()),
            Ngram::Terms(_) => Ngram::Terms(pieces.iter().flat_map(oracle::tokens).collect()),
        }
    }
}

fn ids(ngram: &Ngram) -> Vec<u32> {
    match ngram {
        Ngram::Ids(ids) => ids.clone(),
        Ngram::Terms(_) => unreachable!("a closed vocabulary"),
    }
}

/// One document in three, in two removals.
fn without_some(snapshot: Snapshot, ids: &[String]) -> (Snapshot, Vec<usize>) {
    let home = snapshot.dir.path().to_path_buf();
    let mut snapshot = snapshot;
    for step in 0..2 {
        let gone = ids.iter().enumerate().filter(|(i, _)| i % 6 == 3 * step);
        let documents: BTreeSet<_> = gone.flat_map(|(_, id)| snapshot.find_id(id).expect("an id")).collect();
        assert!(!documents.is_empty());
        remove(&snapshot, &documents).expect("a generation");
        assert!(remove(&snapshot, &documents).is_err(), "the snapshot is of an old generation now");
        snapshot = Snapshot::open(&home).expect("the new generation");
        assert!(remove(&snapshot, &documents).is_err(), "they are gone");
        assert!(documents.iter().all(|&d| snapshot.document(d).is_err()));
    }
    (snapshot, (0..ids.len()).filter(|i| i % 3 != 0).collect())
}

fn equals_the_oracle(tokenizer: &str, removals: bool, layouts: &[Layout]) {
    // The slower layout is asked less, unless the number is given.
    let least = if layouts.contains(&Layout::Compact) { 300 } else { 1000 };
    let queries: usize = std::env::var("PRIORART_QUERIES").ok().and_then(|n| n.parse().ok()).unwrap_or(least);
    let dir = tempfile::tempdir().expect("a directory");
    let parts = parts();
    let snapshot = index(dir.path(), tokenizer, &parts, layouts);
    for (shard, layout) in snapshot.shards.iter().zip(layouts.iter().cycle()) {
        assert_eq!(shard.meta.layout, *layout);
    }
    let ids: Vec<String> = parts
        .iter()
        .enumerate()
        .flat_map(|(part, texts)| (0..texts.len()).map(move |i| format!("{part}/{i}")))
        .collect();
    let all: Vec<String> = parts.concat();
    let (snapshot, kept) = if removals { without_some(snapshot, &ids) } else { (snapshot, (0..ids.len()).collect()) };
    let texts: Vec<String> = kept.iter().map(|&i| all[i].clone()).collect();
    let numbers: HashMap<&str, usize> = kept.iter().enumerate().map(|(n, &i)| (ids[i].as_str(), n)).collect();
    let oracle = Oracle::new(&snapshot, &texts);
    // Asked about are the removed documents, too.
    let documents: Vec<Ngram> = all.iter().map(|t| snapshot.ngram(t).expect("a text")).collect();
    let mut asked = Asked { rng: ChaCha8Rng::seed_from_u64(11), documents: &documents };

    let mut batch = Vec::new();
    for _ in 0..queries {
        let query = asked.ngram(1..=24);
        let expected = oracle.find(&oracle.ids(&query));
        assert_eq!(snapshot.count(&query), expected.len() as u64, "count of {query:?}");
        batch.push((query, expected.len() as u64));
    }
    let (ngrams, counts): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    assert_eq!(snapshot.counts(&ngrams), counts);
    let mut list = NgramList::default();
    match tokenizer {
        "words" => assert!(snapshot.counts_of(&list).is_err(), "ids of an open vocabulary mean nothing"),
        _ => {
            ngrams.iter().for_each(|ngram| list.push(&crate::ids(ngram)));
            assert_eq!(snapshot.counts_of(&list).expect("ids"), counts);
        }
    }
    // Memory for the top levels and some of the rest, and for all of it: the answers stay.
    for budget in [200_000, u64::MAX] {
        let held = Snapshot::open_resident(snapshot.dir.path(), budget).expect("a copy in memory");
        assert_eq!(held.counts(&ngrams), counts);
    }

    for _ in 0..queries / 5 {
        let query = asked.ngram(1..=6);
        let expected = oracle.find(&oracle.ids(&query));
        let mut by_document: Vec<(u32, u64)> = Vec::new();
        for (d, _) in &expected {
            match by_document.last_mut() {
                Some((last, n)) if last == d => *n += 1,
                _ => by_document.push((*d, 1)),
            }
        }
        let found =
            snapshot.find(&query, &FindOptions { limit: 1000, per_document: 2, ..Default::default() }).expect("found");
        assert_eq!((found.count, found.documents), (expected.len() as u64, by_document.len() as u64), "{query:?}");
        let mut number = 0;
        let got: Vec<(u32, u64)> = found
            .found
            .iter()
            .map(|f| {
                let document = numbers[f.id.as_str()];
                number += f.occurrences.len();
                for o in &f.occurrences {
                    assert_eq!(&texts[document][o.start_byte..o.end_byte], o.text, "the bytes are the occurrence's");
                }
                (document as u32, f.count)
            })
            .collect();
        assert_eq!(got, by_document, "documents of {query:?}");
        assert_eq!(number as u64, by_document.iter().map(|(_, n)| (*n).min(2)).sum::<u64>());
    }

    for _ in 0..queries / 5 {
        let query = asked.ngram(1..=5);
        let (next, ends) = oracle.next(&oracle.ids(&query));
        let got = snapshot.next(&query, 0);
        assert_eq!((got.distinct, got.end_of_document), (next.len(), ends), "next of {query:?}");
        if let Some(counts) = snapshot.next_counts(&query) {
            // The index's own ids; what they stand for is compared below.
            let mut followers: Vec<(u32, u64)> = got.tokens.iter().filter_map(|t| Some((t.id?, t.count))).collect();
            followers.sort_unstable();
            assert_eq!((counts.followers, counts.end_of_document), (followers, ends), "next of {query:?}");
            assert_eq!(counts.prompt_count, got.prompt_count);
        }
        let names = oracle.names();
        let mut expected: Vec<(String, u64)> = next.iter().map(|(id, n)| (names[id].to_string(), *n)).collect();
        let mut tokens: Vec<(String, u64)> =
            got.tokens.iter().map(|t| (t.id.map_or(t.token.clone(), |id| id.to_string()), t.count)).collect();
        assert!(tokens.windows(2).all(|w| w[0].1 >= w[1].1), "descending");
        let top = snapshot.next(&query, 3).tokens;
        assert_eq!(top, got.tokens[..got.tokens.len().min(3)]);
        expected.sort();
        tokens.sort();
        assert_eq!(tokens, expected);

        let prompt = asked.text(3);
        let ids = oracle.ids(&prompt);
        let longest = (0..=ids.len()).find(|&from| from == ids.len() || !oracle.find(&ids[from..]).is_empty());
        assert_eq!(snapshot.longest_suffix(&prompt), ids.len() - longest.expect("the empty suffix"), "{prompt:?}");
    }

    for _ in 0..queries / 10 {
        let pair: Vec<Ngram> = (0..asked.rng.random_range(2..=3)).map(|_| asked.ngram(1..=2)).collect();
        let ids: Vec<Vec<u32>> = pair.iter().map(|q| oracle.ids(q)).collect();
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        if distinct.len() < ids.len() || ids.iter().map(|q| oracle.find(q).len()).sum::<usize>() > 3000 {
            continue;
        }
        let counts: Vec<usize> = ids.iter().map(|q| oracle.find(q).len()).collect();
        let least = counts.iter().min().expect("a query");
        let tie = counts.iter().filter(|n| *n == least).count() > 1;
        for window in [None, Some(asked.rng.random_range(4..60))] {
            let got = snapshot.boolean_count(&Expression::all(pair.clone()), window).expect("an expression");
            let (count, documents) = oracle.all(&ids, window);
            assert_eq!(got.documents, documents, "{pair:?} within {window:?}");
            // Equally rare n-grams are equally good anchors, and the count is of the anchor.
            if !tie {
                assert_eq!(got.count, count, "{pair:?} within {window:?}");
            }
        }
    }

    let pairs: Vec<[Ngram; 2]> = (0..queries / 10).map(|_| [asked.ngram(1..=2), asked.ngram(1..=2)]).collect();
    let windows = [2, 7, 40];
    for (pair, got) in pairs.iter().zip(snapshot.cooccurrences(&pairs, &windows).expect("counts")) {
        let ids = pair.clone().map(|q| oracle.ids(&q));
        let found = ids.clone().map(|q| oracle.find(&q));
        assert_eq!(got.counts, [found[0].len() as u64, found[1].len() as u64], "{pair:?}");
        let documents = found.clone().map(|f| f.iter().map(|(d, _)| *d).collect::<BTreeSet<_>>());
        assert_eq!(got.documents, [documents[0].len() as u64, documents[1].len() as u64]);
        assert_eq!(got.both, documents[0].intersection(&documents[1]).count() as u64, "{pair:?}");
        if found[0].len() * found[1].len() > 100_000 {
            continue;
        }
        let anchor = usize::from(found[1].len() < found[0].len());
        for (w, window) in windows.iter().zip(&got.windows) {
            let near = |&&(d, at): &&(u32, u32)| {
                found[1 - anchor].iter().any(|&(other, to)| {
                    let end = (at as usize + ids[anchor].len()).max(to as usize + ids[1 - anchor].len());
                    other == d && end - at.min(to) as usize <= *w
                })
            };
            let expected: Vec<_> = found[anchor].iter().filter(near).collect();
            let places: BTreeSet<u32> = expected.iter().map(|(d, _)| *d).collect();
            assert_eq!((window.count, window.documents), (expected.len() as u64, places.len() as u64), "{pair:?} {w}");
        }
    }

    for _ in 0..queries / 50 {
        let trigger = asked.ngram(1..=3);
        let places = oracle.find(&oracle.ids(&trigger));
        let mut streamed = Vec::new();
        snapshot
            .each_document(&trigger, &FindOptions { per_document: usize::MAX, ..Default::default() }, |d| {
                streamed.extend(d.occurrences.iter().map(|o| (numbers[d.id.as_str()] as u32, o.token as u32)));
                Ok::<_, priorart::Error>(())
            })
            .expect("documents");
        assert_eq!(streamed, places, "{trigger:?}");
        if places.len() > 2000 {
            continue;
        }
        let hunt = snapshot.hunt(&trigger, &HuntOptions { limit: usize::MAX, ..Default::default() }).expect("n-grams");
        assert_eq!(hunt.count, places.len() as u64);
        for found in &hunt.ngrams {
            let ngram = match &trigger {
                Ngram::Terms(_) => Ngram::Terms(found.tokens.clone()),
                // Tokens that are no whole characters cannot be read back.
                Ngram::Ids(_) if found.tokens.iter().any(|t| t.contains('\u{FFFD}')) => continue,
                Ngram::Ids(_) => snapshot.ngram(&found.tokens.concat()).expect("a text"),
            };
            if ngram.len() == found.tokens.len() {
                let at = oracle.find(&oracle.ids(&ngram));
                let documents: BTreeSet<u32> = at.iter().map(|(d, _)| *d).collect();
                assert_eq!((found.count, found.documents), (at.len() as u64, documents.len() as u64), "{found:?}");
            }
        }
    }

    for _ in 0..queries / 20 {
        let text = asked.text(20);
        let ids = oracle.ids(&text);
        let expected: Vec<usize> = (0..ids.len()).map(|i| oracle.longest(&ids[i..])).collect();
        assert_eq!(snapshot.longest_matches(&text), expected);
        let spans = snapshot.maximal_spans(&text);
        assert_eq!(spans.iter().map(|&(l, r, _)| (l, r)).collect::<Vec<_>>(), maximal(&expected));
        for (l, r, n) in spans {
            assert_eq!(n, oracle.find(&ids[l..r]).len() as u64);
        }
    }
}

/// The matches that no match of an earlier position contains, by definition.
fn maximal(longest: &[usize]) -> Vec<(usize, usize)> {
    let spans = longest.iter().enumerate().map(|(left, n)| (left, left + n));
    let contained = |(left, right): (usize, usize)| (0..left).any(|l| l + longest[l] >= right);
    spans.filter(|&(left, right)| right > left && !contained((left, right))).collect()
}

#[test]
fn words_equal_the_oracle() {
    equals_the_oracle("words", false, &[Layout::Fast]);
}

#[test]
fn bytes_equal_the_oracle() {
    equals_the_oracle("bytes", false, &[Layout::Fast]);
}

#[test]
fn gpt2_equals_the_oracle() {
    equals_the_oracle("gpt2", false, &[Layout::Fast]);
}

#[test]
fn words_equal_an_oracle_that_never_saw_the_removed_documents() {
    equals_the_oracle("words", true, &[Layout::Fast]);
}

#[test]
fn gpt2_equals_an_oracle_that_never_saw_the_removed_documents() {
    equals_the_oracle("gpt2", true, &[Layout::Fast]);
}

#[test]
fn the_compact_layout_equals_the_oracle() {
    equals_the_oracle("bytes", false, &[Layout::Compact]);
    equals_the_oracle("words", true, &[Layout::Compact]);
}

#[test]
fn shards_of_both_layouts_equal_the_oracle() {
    equals_the_oracle("gpt2", true, &[Layout::Compact, Layout::Fast]);
}
