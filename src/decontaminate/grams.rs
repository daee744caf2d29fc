//! n-gram tables: from a 64-bit hash to what it stands for, behind a bit filter; and rolling n-gram hashes.
//!
//! The filter answers "certainly not" for all but a few per cent of strangers with one memory access; the sorted table
//! behind it is only read for the rest. Hashes are 64 bits and not compared with the text: with 10^7 n-grams in the table
//! one stranger in 10^12 is taken for a member.

/// Multi-map from hash to `T`.
#[derive(Debug, Clone, Default)]
pub(crate) struct GramTable<T> {
    filter: Vec<u64>,
    directory: Vec<u32>,
    shift: u32,
    keys: Vec<u64>,
    starts: Vec<u32>,
    values: Vec<T>,
}

impl<T: Ord + Copy + Send> GramTable<T> {
    /// A table of these pairs; equal pairs count once.
    pub fn new(mut pairs: Vec<(u64, T)>) -> GramTable<T> {
        use rayon::slice::ParallelSliceMut;
        pairs.par_sort_unstable();
        pairs.dedup();
        let mut table = GramTable {
            filter: Vec::new(),
            directory: Vec::new(),
            shift: 0,
            keys: Vec::new(),
            starts: Vec::new(),
            values: Vec::with_capacity(pairs.len()),
        };
        for (at, (hash, value)) in pairs.iter().enumerate() {
            if table.keys.last() != Some(hash) {
                table.keys.push(*hash);
                table.starts.push(at as u32);
            }
            table.values.push(*value);
        }
        table.starts.push(pairs.len() as u32);
        table.filter = vec![0; (table.keys.len() / 6 + 1).next_power_of_two()];
        for &hash in &table.keys {
            let slot = hash as usize & (table.filter.len() - 1);
            table.filter[slot] |= bits(hash);
        }
        let buckets = (table.keys.len() / 4 + 2).next_power_of_two();
        table.shift = 64 - buckets.trailing_zeros();
        table.directory = vec![0; buckets + 1];
        for &hash in &table.keys {
            table.directory[(hash >> table.shift) as usize + 1] += 1;
        }
        for i in 1..=buckets {
            table.directory[i] += table.directory[i - 1];
        }
        table
    }

    /// Whether the hash may be in the table.
    #[inline(always)]
    pub fn may(&self, hash: u64) -> bool {
        let bits = bits(hash);
        self.filter[hash as usize & (self.filter.len() - 1)] & bits == bits
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What the hash stands for.
    pub fn get(&self, hash: u64) -> &[T] {
        let bucket = (hash >> self.shift) as usize;
        let range = self.directory[bucket] as usize..self.directory[bucket + 1] as usize;
        match self.keys[range.clone()].binary_search(&hash) {
            Ok(i) => {
                let at = range.start + i;
                &self.values[self.starts[at] as usize..self.starts[at + 1] as usize]
            }
            Err(_) => &[],
        }
    }
}

#[inline(always)]
fn bits(hash: u64) -> u64 {
    (1 << ((hash >> 40) & 63)) | (1 << ((hash >> 52) & 63))
}

const BASE: u64 = 0x2545_f491_4f6c_dd1d;

/// Calls `visit(first token, hash)` for every n-gram of token hashes.
#[inline]
pub(crate) fn each_gram(tokens: &[u64], n: usize, mut visit: impl FnMut(usize, u64)) {
    if n == 0 || tokens.len() < n {
        return;
    }
    let out = (0..n).fold(1u64, |power, _| power.wrapping_mul(BASE));
    let mut hash = tokens[..n].iter().fold(0u64, |hash, &token| hash.wrapping_mul(BASE).wrapping_add(token));
    visit(0, finish(hash));
    for (i, (&old, &new)) in tokens.iter().zip(&tokens[n..]).enumerate() {
        hash = hash.wrapping_mul(BASE).wrapping_add(new).wrapping_sub(old.wrapping_mul(out));
        visit(i + 1, finish(hash));
    }
}

#[inline(always)]
fn finish(hash: u64) -> u64 {
    let hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rolling_hashes_are_those_of_each_n_gram_alone(tokens in prop::collection::vec(0u64..9, 0..40), n in 1usize..9) {
            let mut rolled = Vec::new();
            each_gram(&tokens, n, |at, hash| rolled.push((at, hash)));
            let mut alone = Vec::new();
            for (at, gram) in tokens.windows(n).enumerate() {
                each_gram(gram, n, |_, hash| alone.push((at, hash)));
            }
            prop_assert_eq!(rolled, alone);
        }

        #[test]
        fn the_table_is_the_multi_map_of_its_pairs(pairs in prop::collection::vec((0u64..50, 0u32..9), 0..80)) {
            let spread: Vec<(u64, u32)> = pairs.iter().map(|&(k, v)| (crate::reference::words::mix(k + 1), v)).collect();
            let table = GramTable::new(spread.clone());
            for k in 0..60u64 {
                let hash = crate::reference::words::mix(k + 1);
                let mut expected: Vec<u32> = spread.iter().filter(|p| p.0 == hash).map(|p| p.1).collect();
                expected.sort_unstable();
                expected.dedup();
                prop_assert!(expected.is_empty() || table.may(hash));
                prop_assert_eq!(table.get(hash), expected);
            }
        }
    }
}
