//! The compact index against scans of the stream.

use super::*;
use proptest::prelude::*;

struct Naive {
    stream: Vec<u32>,
    sep: u32,
}

impl Naive {
    fn new(documents: &[Vec<u32>], sep: u32) -> Self {
        let stream = documents.iter().flat_map(|d| d.iter().copied().chain([sep])).collect();
        Naive { stream, sep }
    }

    fn positions(&self, ngram: &[u32]) -> Vec<u64> {
        if ngram.is_empty() || ngram.contains(&self.sep) {
            return Vec::new();
        }
        (0..self.stream.len()).filter(|&i| self.stream[i..].starts_with(ngram)).map(|i| i as u64).collect()
    }

    fn next(&self, ngram: &[u32]) -> Vec<Next> {
        let mut counts = std::collections::BTreeMap::new();
        if ngram.is_empty() {
            self.stream.iter().filter(|&&t| t != self.sep).for_each(|&t| *counts.entry(t).or_insert(0) += 1);
        }
        for at in self.positions(ngram) {
            *counts.entry(self.stream[at as usize + ngram.len()]).or_insert(0) += 1;
        }
        counts.into_iter().map(|(token, count)| Next { token, count }).collect()
    }

    fn longest(&self, tokens: &[u32]) -> usize {
        (1..=tokens.len()).take_while(|&n| !self.positions(&tokens[..n]).is_empty()).last().unwrap_or(0)
    }
}

fn check(documents: &[Vec<u32>], sep: u32, queries: &[Vec<u32>]) {
    let naive = Naive::new(documents, sep);
    let bytes = CompactIndex::build(&naive.stream, sep).unwrap();
    assert_eq!(bytes, CompactIndex::build(&naive.stream, sep).unwrap());
    let index = CompactIndex::open(&bytes).unwrap();
    assert_eq!(index.documents(), documents.len() as u64);
    assert_eq!(index.count(&[]), documents.iter().map(|d| d.len() as u64).sum::<u64>());
    assert_eq!(index.followers(index.all()), naive.next(&[]));
    for query in queries {
        let expected = naive.positions(query);
        if !query.is_empty() {
            assert_eq!(index.count(query), expected.len() as u64, "{query:?}");
            assert_eq!(index.positions(query, usize::MAX), expected, "{query:?}");
            assert_eq!(index.followers(index.rows(query)), naive.next(query), "{query:?}");
        }
        let (length, rows) = index.longest_prefix(query);
        assert_eq!(length, naive.longest(query));
        assert_eq!(rows, index.rows(&query[..length]).clone().max_if_empty(index.all(), length));
        let expected: Vec<usize> = (0..query.len()).map(|i| naive.longest(&query[i..])).collect();
        assert_eq!(index.longest_matches(query), expected, "{query:?} in {documents:?}");
    }
    for position in 0..=naive.stream.len() + 2 {
        for length in [0, 1, 3, 200] {
            let start = position.min(naive.stream.len());
            let end = (start + length).min(naive.stream.len());
            assert_eq!(index.extract(position as u64, length), naive.stream[start..end]);
        }
    }
}

trait Rows {
    fn max_if_empty(self, all: Range<u64>, length: usize) -> Range<u64>;
}

impl Rows for Range<u64> {
    /// The rows of a prefix of no tokens are all rows.
    fn max_if_empty(self, all: Range<u64>, length: usize) -> Range<u64> {
        if length == 0 { all } else { self }
    }
}

#[test]
fn small_streams() {
    check(&[], 9, &[vec![], vec![1], vec![9]]);
    check(&[vec![]], 9, &[vec![], vec![1], vec![9]]);
    check(&[vec![3]], 9, &[vec![3], vec![3, 3], vec![3, 9], vec![4, 3]]);
    check(&[vec![0, 0, 0, 0], vec![0, 0]], 1, &[vec![0, 0], vec![0, 0, 0, 0, 0], vec![1]]);
    check(&[vec![7, 8], vec![7, 8], vec![8, 7]], u16::MAX as u32, &[vec![7, 8], vec![8, 7], vec![7, 7]]);
    check(&[vec![1_000_000_000, 5], vec![5]], 2_000_000_000, &[vec![5], vec![1_000_000_000, 5], vec![6]]);
}

#[test]
fn a_match_never_crosses_documents() {
    let bytes = CompactIndex::build(&[1u8, 2, 9, 3, 4, 9], 9).unwrap();
    let index = CompactIndex::open(&bytes).unwrap();
    assert_eq!(index.count(&[2, 3]), 0);
    assert_eq!(index.count(&[2, 9, 3]), 0);
    assert_eq!(index.followers(index.rows(&[1, 2])), [Next { token: 9, count: 1 }]);
}

#[test]
fn widths_give_the_same_bytes() {
    let stream: Vec<u32> = (0..3000).map(|i| (i * i) % 97).chain([200]).collect();
    let wide = CompactIndex::build(&stream, 200).unwrap();
    let narrow: Vec<u8> = stream.iter().map(|&t| t as u8).collect();
    let middle: Vec<u16> = stream.iter().map(|&t| t as u16).collect();
    assert_eq!(wide, CompactIndex::build(&narrow, 200).unwrap());
    assert_eq!(wide, CompactIndex::build(&middle, 200).unwrap());
}

#[test]
fn repeats_stay_linear() {
    let mut stream = vec![3u16; 200_000];
    stream.push(9);
    let bytes = CompactIndex::build(&stream, 9).unwrap();
    let index = CompactIndex::open(&bytes).unwrap();
    assert_eq!(index.count(&[3; 1000]), 199_001);
    let started = std::time::Instant::now();
    let lengths = index.longest_matches(&[3; 2000]);
    assert_eq!((lengths[0], lengths[1999]), (2000, 1));
    assert!(started.elapsed().as_secs() < 2);
}

#[test]
fn bad_streams_are_refused() {
    assert!(CompactIndex::build(&[1u16, 2], 9).is_err());
    assert!(CompactIndex::build(&[1u16, 10, 9], 9).is_err());
}

#[test]
fn damaged_bytes_are_refused_or_answered_without_panic() {
    let stream: Vec<u32> = (0..2000).map(|i| (i * 7 + i / 13) % 31).chain([99]).collect();
    let bytes = CompactIndex::build(&stream, 99).unwrap();
    for cut in [0, 8, 64, 127, 128, bytes.len() / 2, bytes.len() - 64, bytes.len() - 1] {
        assert!(CompactIndex::open(&bytes[..cut]).is_err(), "{cut}");
    }
    let mut longer = bytes.clone();
    longer.extend([0; 64]);
    assert!(CompactIndex::open(&longer).is_err());
    let mut opened = 0;
    for at in (0..bytes.len()).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x91;
        let Ok(index) = CompactIndex::open(&damaged) else { continue };
        opened += 1;
        index.positions(&stream[5..8], 50);
        index.extract(100, 100);
        index.followers(index.rows(&stream[1..2]));
        index.followers(index.all());
        index.longest_matches(&stream[40..60]);
    }
    assert!(opened > 100);
}

fn documents() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop_oneof![
        prop::collection::vec(prop::collection::vec(0u32..3, 0..20), 0..6),
        prop::collection::vec(prop::collection::vec((0u32..30).prop_map(|x| x * x / 30), 0..60), 0..5),
        prop::collection::vec(prop::collection::vec(0u32..70_000, 0..30), 1..4),
    ]
}

proptest! {
    #[test]
    fn equals_a_scan(
        documents in documents(),
        places in prop::collection::vec((any::<prop::sample::Index>(), 1usize..9, any::<Option<u8>>()), 12),
    ) {
        let sep = 70_000;
        let all: Vec<u32> = documents.iter().flat_map(|d| d.iter().copied().chain([sep])).collect();
        let mut queries: Vec<Vec<u32>> = vec![documents.concat()];
        queries[0].truncate(40);
        for (place, length, change) in places {
            if all.is_empty() {
                break;
            }
            let start = place.index(all.len());
            let mut query = all[start..(start + length).min(all.len())].to_vec();
            if let Some(change) = change {
                let at = change as usize % query.len();
                query[at] = u32::from(change) % 4;
            }
            queries.push(query);
        }
        check(&documents, sep, &queries);
    }
}
