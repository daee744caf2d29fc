//! The suffix array against a brute-force scan.

use proptest::prelude::*;

use super::compact::CompactIndex;
use super::layout::{self, SuffixMeta};
use super::search::Longest;
use super::{SuffixView, Token, TokenIndex, bits, sort};

struct Built<T> {
    stream: Vec<T>,
    blocks: Vec<u8>,
    top: layout::Top,
    meta: SuffixMeta,
}

impl<T: Token> Built<T> {
    fn new(documents: &[Vec<u32>], sep: u32) -> Self {
        let mut stream = Vec::new();
        for d in documents {
            stream.extend(d.iter().map(|&t| T::from_id(t)));
            stream.push(T::from_id(sep));
        }
        let meta = SuffixMeta::new(stream.len() as u64, documents.len() as u64, sep);
        let sa = sort::suffix_array(&stream, sep).unwrap();
        let mut blocks = Vec::new();
        let top = layout::write(&stream, &sa, &meta, &mut blocks).unwrap();
        let built = Built { stream, blocks, top, meta };
        // Bit by bit, so not of the largest.
        if sa.len() < 20_000 {
            built.check_layout(&sa);
        }
        built
    }
    fn view(&self) -> SuffixView<'_, T> {
        SuffixView::new(&self.stream, &self.blocks, &self.top.keys, &self.top.runs, self.meta).unwrap()
    }
    /// As a shard without runs, which bisects.
    fn plain(&self) -> SuffixView<'_, T> {
        SuffixView::new(&self.stream, &self.blocks, &self.top.keys, &[], self.meta.without_runs()).unwrap()
    }
    /// Every byte of the groups as FORMAT.md describes it.
    fn check_layout(&self, sa: &[u32]) {
        let ranks = &sa[..self.meta.ranks as usize];
        let prefix = |rank: usize| bits::pack(&self.stream[ranks[rank] as usize..], self.meta.token_bits);
        let p = self.meta.pointer_bits as usize;
        let mut expected = vec![0u8; self.meta.blocks_bytes()];
        for (number, group) in expected.chunks_exact_mut(self.meta.group_bytes()).enumerate() {
            group[..32].fill(u8::MAX);
            for (slot, rank) in (number * 256..ranks.len().min(number * 256 + 256)).enumerate() {
                if slot % 64 == 0 {
                    group[slot / 8..][..8].copy_from_slice(&prefix(rank)[0].to_le_bytes());
                }
                let shared = rank.checked_sub(1).map_or(0, |before| bits::common(&prefix(before), &prefix(rank)));
                group[32 + slot] = shared.min(255) as u8;
                for bit in (0..p).filter(|bit| ranks[rank] >> bit & 1 == 1) {
                    let at = slot * p + bit;
                    group[32 + 256 + at / 8] |= 1 << (at % 8);
                }
            }
        }
        assert!(self.blocks == expected, "the groups' bytes differ from their description");
        let mut runs = vec![0u8; ranks.len().div_ceil(64).next_multiple_of(64)];
        for (block, byte) in runs.iter_mut().enumerate().take(ranks.len().div_ceil(64)).skip(1) {
            *byte = bits::common(&prefix(block * 64 - 64), &prefix(block * 64)).min(255) as u8;
        }
        assert!(self.top.runs == runs, "the runs differ from their description");
    }
    fn count(&self, q: &[T]) -> usize {
        if q.is_empty() {
            return self.meta.ranks as usize;
        }
        self.stream.windows(q.len()).filter(|w| *w == q).count()
    }
    fn longest(&self, q: &[T]) -> usize {
        (0..=q.len())
            .rev()
            .find(|&n| !q[..n].iter().any(|t| t.id() >= self.meta.separator) && self.count(&q[..n]) > 0)
            .unwrap_or(0)
    }
    fn check(&self, q: &[T]) {
        let v = self.view();
        let sep = self.meta.separator;
        if !q.iter().any(|t| t.id() >= sep) {
            let r = v.interval(q);
            assert_eq!(r.len(), self.count(q), "count of {q:?}");
            let bisected = self.plain().interval(q);
            assert_eq!(
                (bisected.len(), &bisected.start),
                (r.len(), if r.is_empty() { &bisected.start } else { &r.start })
            );
            for rank in r.clone() {
                assert!(v.suffix(rank).starts_with(q));
            }
            if !r.is_empty() {
                let next = v.next_tokens(r.clone(), q.len());
                let mut expected = std::collections::BTreeMap::<u32, u64>::new();
                if q.is_empty() {
                    for t in self.stream.iter().filter(|t| t.id() != sep) {
                        *expected.entry(t.id()).or_default() += 1;
                    }
                } else {
                    for w in self.stream.windows(q.len() + 1).filter(|w| w.starts_with(q)) {
                        *expected.entry(w[q.len()].id()).or_default() += 1;
                    }
                }
                assert_eq!(
                    next.iter().map(|n| (n.token, n.count)).collect::<Vec<_>>(),
                    expected.into_iter().collect::<Vec<_>>(),
                    "next of {q:?}"
                );
            }
        }
        let l = v.longest(q);
        assert_eq!(l.tokens, self.longest(q), "longest of {q:?}");
        self.check_longest(q, l);
        self.check_longest(q, self.plain().longest(q));
        assert_eq!(self.plain().longest(q).tokens, l.tokens);
    }
    fn check_longest(&self, q: &[T], l: Longest) {
        let v = self.view();
        if l.tokens > 0 {
            assert!(v.suffix(l.rank).starts_with(&q[..l.tokens]));
            assert_eq!(
                v.interval_around(l.rank, l.tokens).len(),
                self.count(&q[..l.tokens]),
                "count of the longest match of {q:?}"
            );
        }
    }
    fn check_batch(&self, queries: &[Vec<T>], text: &[T]) {
        let v = self.view();
        let valid: Vec<&[T]> = queries.iter().map(|q| v.until_separator(q)).collect();
        for (q, r) in valid.iter().zip(v.intervals(&valid)) {
            assert_eq!(r.len(), self.count(q), "batched count of {q:?}");
        }
        for (i, l) in v.longest_at_each(text, usize::MAX).into_iter().enumerate() {
            assert_eq!(l.tokens, self.longest(&text[i..]), "batched longest at {i}");
            self.check_longest(&text[i..], l);
        }
    }
}

/// Documents over a small alphabet, with long repeats, so that every path (equal keys, capped branch bytes) is taken.
fn documents(alphabet: u32) -> impl Strategy<Value = Vec<Vec<u32>>> {
    let piece = prop_oneof![
        prop::collection::vec(0..alphabet, 0..60),
        (0..alphabet, 1..200usize).prop_map(|(t, n)| vec![t; n]),
        (prop::collection::vec(0..alphabet, 1..40), 1..8usize).prop_map(|(p, n)| p.repeat(n)),
    ];
    prop::collection::vec(piece, 1..8).prop_flat_map(|pieces| {
        let n = pieces.len();
        prop::collection::vec(0..n, 1..14).prop_map(move |order| order.iter().map(|&i| pieces[i].clone()).collect())
    })
}

fn run<T: Token>(documents: &[Vec<u32>], sep: u32, picks: &[(usize, usize, u32)]) {
    let built = Built::<T>::new(documents, sep);
    let mut queries = vec![vec![]];
    for &(at, n, change) in picks {
        let at = at % built.stream.len();
        let mut q: Vec<T> = built.stream[at..].iter().take(n).copied().collect();
        queries.push(q.clone());
        if let Some(last) = q.last_mut() {
            *last = T::from_id(change % sep);
        }
        queries.push(q);
    }
    for q in &queries {
        built.check(q);
    }
    let text: Vec<T> = queries.iter().take(9).flatten().copied().collect();
    built.check_batch(&queries, &text);
}

/// What a query sees of an index: everything but the numbering of ranks.
fn seen<I: TokenIndex<Token = u32>>(
    index: I,
    queries: &[Vec<u32>],
    text: &[u32],
    stream: usize,
) -> impl std::fmt::Debug + use<I> {
    let slices: Vec<&[u32]> = queries.iter().map(Vec::as_slice).collect();
    let each: Vec<_> = queries
        .iter()
        .zip(index.intervals(&slices))
        .map(|(q, ranks)| {
            assert_eq!(ranks, index.interval(q));
            let mut places: Vec<usize> = ranks.clone().map(|rank| index.place(rank, q.len())).collect();
            places.sort_unstable();
            // Where nothing is asked for, an occurrence's place is not defined.
            places.retain(|_| !q.is_empty());
            let next: Vec<_> = index.next_tokens(ranks.clone(), q.len()).iter().map(|n| (n.token, n.count)).collect();
            (ranks.len(), places, if ranks.is_empty() { Vec::new() } else { next })
        })
        .collect();
    let read: Vec<Vec<u32>> =
        [0..stream, stream / 3..stream / 2, stream..stream + 9].map(|range| index.read(range).into_owned()).into();
    (each, index.longest_matches(text), index.maximal_spans(text), read)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn bytes_equal_brute_force(d in documents(4), picks in prop::collection::vec((0..10_000usize, 0..60usize, 0..300u32), 1..12)) {
        run::<u8>(&d, 255, &picks);
    }
    #[test]
    fn layouts_answer_alike(d in documents(4), picks in prop::collection::vec((0..10_000usize, 0..30usize, 0..6u32), 1..12)) {
        let built = Built::<u32>::new(&d, 9);
        let bytes = CompactIndex::build(&built.stream, 9).unwrap();
        let mut queries = vec![vec![], vec![8]];
        for (at, n, last) in picks {
            let mut q: Vec<u32> = built.stream[at % built.stream.len()..].iter().take(n).copied().take_while(|&t| t < 9).collect();
            queries.push(q.clone());
            q.push(last);
            queries.push(q);
        }
        let text = queries.concat();
        let n = built.stream.len();
        assert_eq!(
            format!("{:?}", seen(built.view(), &queries, &text, n)),
            format!("{:?}", seen(CompactIndex::open(&bytes).unwrap(), &queries, &text, n))
        );
    }
    #[test]
    fn narrow_equal_brute_force(d in documents(3), picks in prop::collection::vec((0..10_000usize, 0..60usize, 0..300u32), 1..12)) {
        run::<u16>(&d, 50_257, &picks);
    }
    #[test]
    fn wide_equal_brute_force(d in documents(300), picks in prop::collection::vec((0..10_000usize, 0..60usize, 0..70_000u32), 1..12)) {
        run::<u32>(&d, 200_000, &picks);
    }
    #[test]
    fn tiny_vocabulary_equal_brute_force(d in documents(2), picks in prop::collection::vec((0..10_000usize, 0..300usize, 0..9u32), 1..12)) {
        run::<u16>(&d, 2, &picks);
    }
}

#[test]
fn empty_and_single_streams() {
    for documents in [vec![], vec![vec![]], vec![vec![], vec![]], vec![vec![7]], vec![vec![7], vec![], vec![7, 7]]] {
        let built = Built::<u16>::new(&documents, 100);
        for q in [&[][..], &[7], &[7, 7], &[8], &[0], &[99], &[7, 8], &[100]] {
            built.check(q);
        }
    }
}

#[test]
fn query_before_and_after_every_suffix() {
    let built = Built::<u16>::new(&[vec![5, 6, 7], vec![5, 6]], 100);
    assert_eq!(built.view().longest(&[5, 6, 0]).tokens, 2);
    assert_eq!(built.view().longest(&[1, 5]).tokens, 0);
    assert_eq!(built.view().longest(&[7, 0]).tokens, 1);
    assert_eq!(built.view().longest(&[99]).tokens, 0);
}

#[test]
fn repeats_are_linear_and_right() {
    let byte = vec![65u32; 600_000];
    let built = Built::<u8>::new(&[byte], 255);
    let v = built.view();
    assert_eq!(v.interval(&[65; 1000]).len(), 600_000 - 999);
    assert_eq!(v.longest(&[65; 3000]).tokens, 3000);
    let document: Vec<u32> = (0..100_000u32).map(|i| i.wrapping_mul(2_654_435_761) >> 20).collect();
    let built = Built::<u16>::new(&vec![document.clone(); 20], 5000);
    let v = built.view();
    let q: Vec<u16> = document[500..900].iter().map(|&t| t as u16).collect();
    for n in [1, 3, 4, 5, 19, 20, 21, 400] {
        assert_eq!(v.interval(&q[..n]).len(), built.count(&q[..n]), "n = {n}");
        assert_eq!(v.intervals(&[&q[..n]])[0].len(), built.count(&q[..n]), "n = {n}");
    }
    assert_eq!(v.longest(&q).tokens, 400);
}

proptest! {
    /// An independent sorter gives the same order; DEL, larger than any other character here, is the separator.
    #[test]
    fn sorted_as_another_crate_sorts(text in "[a-cyz\u{7e}\u{7f}]{0,300}", copies in 1usize..4) {
        let text = format!("{text}\u{7f}").repeat(copies);
        let ours = sort::suffix_array(text.as_bytes(), 0x7f).unwrap();
        let theirs = ::suffix::SuffixTable::new(&text);
        prop_assert_eq!(&*ours, theirs.table());
        let wide: Vec<u32> = text.bytes().map(u32::from).collect();
        prop_assert_eq!(&*sort::suffix_array(&wide, 0x7f).unwrap(), &*ours);
    }
}

/// Runs of many hundred blocks, read blindly, give what bisecting gives: single, batched and in a trace.
#[test]
fn long_runs_are_searched_as_by_bisection() {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    // Every document begins with the same tokens, so that all its suffixes of them stand in a few runs; what follows is drawn from few and
    // so shares from none to hundreds of bits.
    let phrases: Vec<Vec<u32>> =
        (0..40).map(|_| (0..rng.random_range(1..30)).map(|_| rng.random_range(0..3) * 16_411).collect()).collect();
    let documents: Vec<Vec<u32>> = (0..40_000)
        .map(|_| {
            let mut d = vec![9, 8, 7, 6];
            for _ in 0..rng.random_range(0..3) {
                d.extend(&phrases[rng.random_range(0..phrases.len())]);
            }
            d
        })
        .collect();
    let built = Built::<u16>::new(&documents, 50_257);
    let (runs, plain) = (built.view(), built.plain());
    let mut queries: Vec<Vec<u16>> = Vec::new();
    while queries.len() < 4000 {
        let d = &documents[rng.random_range(0..documents.len())];
        let mut q: Vec<u16> = d.iter().map(|&t| t as u16).take(rng.random_range(3..45)).collect();
        if rng.random_bool(0.4) {
            let at = rng.random_range(0..q.len());
            q[at] = rng.random_range(0..50_000);
        }
        queries.push(q);
    }
    let lists: Vec<&[u16]> = queries.iter().map(Vec::as_slice).collect();
    let (batched, bisected) = (runs.intervals(&lists), plain.intervals(&lists));
    let mut beyond = 0;
    for ((q, batched), bisected) in lists.iter().zip(batched).zip(bisected) {
        let one = runs.interval(q);
        assert_eq!(one.len(), built.plain().interval(q).len(), "{q:?}");
        assert_eq!((batched.len(), bisected.len()), (one.len(), one.len()), "{q:?}");
        assert!(one.is_empty() || one == batched && one == bisected, "{q:?}");
        assert_eq!(runs.longest(q).tokens, plain.longest(q).tokens, "{q:?}");
        beyond += (one.len() > 64 * 64) as usize;
        let each = |v: SuffixView<u16>| v.longest_at_each(q, usize::MAX).iter().map(|l| l.tokens).collect::<Vec<_>>();
        assert_eq!(each(runs), each(plain), "{q:?}");
    }
    assert!(beyond > 100, "only {beyond} intervals span many blocks");
}
