//! Prefix codes for the wavelet matrix.
//!
//! Huffman code lengths, then an assignment of codes that lets symbols drop out of the matrix when their code ends. Going down
//! the matrix, positions are sorted by the code read so far, its *last* bit most significant (each level moves the
//! zeros before the ones, keeping the order within). A code that ends at depth d must sort behind every code that goes
//! on, so that those that go on stay a prefix of the level. So at each depth, of the slots still open in that order, the last ones
//! are given to the codes that end there. (F. Claude, G. Navarro, A. Ordóñez, "The wavelet matrix", Information Systems 2015.)
//!
//! With bit i of a code kept at bit i of an integer, "last bit most significant" is the integers' own order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The longest code, so that codes fit in 32 bits.
pub(super) const MAX_LENGTH: usize = 31;

/// A symbol's path through the matrix: at level i it goes to the ones if bit i is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Code {
    pub bits: u32,
    pub length: u32,
}

/// Codes of symbols with these counts (all above zero), and the symbols in the order (depth, slot) of their ends.
///
/// A single symbol gets the empty code. Deterministic: ties are broken by symbol.
pub(super) fn assign(counts: &[u64]) -> (Vec<Code>, Vec<u32>) {
    let lengths = lengths(counts);
    let mut by_depth: Vec<u32> = (0..counts.len() as u32).collect();
    by_depth.sort_by_key(|&s| (lengths[s as usize], s));
    let mut codes = vec![Code::default(); counts.len()];
    let mut slots = vec![0u32];
    let mut rest = by_depth.as_slice();
    let mut depth = 0;
    while !rest.is_empty() {
        let ending = rest.iter().take_while(|&&s| lengths[s as usize] == depth).count();
        let open = slots.len() - ending;
        for (&symbol, &bits) in rest[..ending].iter().zip(&slots[open..]) {
            codes[symbol as usize] = Code { bits, length: depth };
        }
        rest = &rest[ending..];
        slots.truncate(open);
        slots.extend_from_within(..);
        for slot in &mut slots[open..] {
            *slot |= 1 << depth;
        }
        depth += 1;
    }
    (codes, by_depth)
}

/// Huffman code lengths, at most [`MAX_LENGTH`].
fn lengths(counts: &[u64]) -> Vec<u32> {
    let mut counts = counts.to_vec();
    loop {
        let lengths = huffman(&counts);
        if lengths.iter().all(|&l| l as usize <= MAX_LENGTH) {
            return lengths;
        }
        // Flatter counts give shorter codes; this costs a fraction of a bit on symbols that are next to never seen.
        counts.iter_mut().for_each(|c| *c = *c / 2 + 1);
    }
}

fn huffman(counts: &[u64]) -> Vec<u32> {
    let n = counts.len();
    let mut parent = vec![0usize; (2 * n).max(1) - 1];
    let mut heap: BinaryHeap<Reverse<(u64, usize)>> =
        counts.iter().enumerate().map(|(symbol, &count)| Reverse((count, symbol))).collect();
    let mut node = n;
    while let (Some(Reverse(a)), Some(Reverse(b))) = (heap.pop(), heap.pop()) {
        parent[a.1] = node;
        parent[b.1] = node;
        heap.push(Reverse((a.0 + b.0, node)));
        node += 1;
        if heap.len() == 1 {
            break;
        }
    }
    // Nodes are numbered upwards from the leaves, the root last.
    let mut depth = vec![0u32; parent.len()];
    for i in (0..parent.len().saturating_sub(1)).rev() {
        depth[i] = depth[parent[i]] + 1;
    }
    depth.truncate(n);
    depth
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(counts: &[u64]) {
        let (codes, by_depth) = assign(counts);
        // Prefix-free and complete.
        let kraft: f64 = codes.iter().map(|c| 0.5f64.powi(c.length as i32)).sum();
        assert!(counts.is_empty() || (kraft - 1.0).abs() < 1e-9, "{kraft}");
        for (a, x) in codes.iter().enumerate() {
            for y in &codes[a + 1..] {
                let shared = x.length.min(y.length);
                let mask = (1u64 << shared) as u32 - 1;
                assert_ne!(x.bits & mask, y.bits & mask);
                // A code that ends sorts behind every one that goes on.
                if x.length != y.length {
                    let (short, long) = if x.length < y.length { (x, y) } else { (y, x) };
                    assert!(short.bits > long.bits & mask);
                }
            }
        }
        for pair in by_depth.windows(2) {
            let (a, b) = (codes[pair[0] as usize], codes[pair[1] as usize]);
            assert!((a.length, a.bits) < (b.length, b.bits));
        }
    }

    #[test]
    fn small_alphabets() {
        check(&[]);
        check(&[5]);
        check(&[1, 1]);
        check(&[1, 1, 2, 4, 8]);
        assert_eq!(assign(&[7]).0, [Code { bits: 0, length: 0 }]);
    }

    #[test]
    fn lengths_are_bounded() {
        let mut counts = vec![1u64, 1];
        while counts.len() < 60 {
            counts.push(counts[counts.len() - 1] + counts[counts.len() - 2]);
        }
        check(&counts);
    }

    proptest! {
        #[test]
        fn any_counts(counts in prop::collection::vec(1u64..1000, 0..60)) {
            check(&counts);
        }
    }
}
