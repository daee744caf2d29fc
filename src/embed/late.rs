//! Late interaction: the MaxSim score over token states, and which token matched which.
//!
//! Overview. score(q, d) = (1/|Q|) Σ_{i∈Q} max_{j∈D} q_i·d_j over L2-normalised states (ColBERT's score divided by the
//! number of query tokens). A [`PackedQuery`] holds a query in the layout of `super::kernel`; a candidate's states then
//! go through one matrix product in blocks of 96 tokens, and the running maximum of each query token is kept in vectors.
//! [`align`] names the best match of every query token for people to look at.
//!
//! Invariants. An empty query or an empty candidate scores 0. A score depends on the two texts alone, not on the batch.
//! Cost: `2 · |Q| · |D| · dim` operations a candidate; candidates run in parallel on the rayon pool.

use rayon::prelude::*;

use super::TokenStates;
use super::kernel::{self, Isa, Panels, ROWS};
use super::rowwise;

/// Token states of one text: `len() × dim` floats, row-major, each row of unit length.
#[derive(Debug, Clone, Copy)]
pub struct TokenMatrix<'a> {
    pub dim: usize,
    pub data: &'a [f32],
}

impl<'a> TokenMatrix<'a> {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.data.len() / self.dim.max(1)
    }

    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// State of token `i`.
    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.data[i * self.dim..(i + 1) * self.dim]
    }
}

impl TokenStates {
    /// Number of texts.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// States of text `i`.
    pub fn view(&self, i: usize) -> TokenMatrix<'_> {
        TokenMatrix { dim: self.dim, data: &self.data[self.offsets[i] * self.dim..self.offsets[i + 1] * self.dim] }
    }
}

/// Best match of one query token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenMatch {
    /// Token of the candidate.
    pub token: u32,
    /// Their inner product.
    pub score: f32,
}

/// A query laid out for scoring many candidates.
pub struct PackedQuery {
    isa: Isa,
    panels: Panels,
}

impl PackedQuery {
    /// Packs a query's states.
    pub fn new(query: TokenMatrix<'_>) -> PackedQuery {
        PackedQuery::with_isa(query, Isa::detect())
    }

    fn with_isa(query: TokenMatrix<'_>, isa: Isa) -> PackedQuery {
        PackedQuery { isa, panels: Panels::from_rows(query.data, query.len(), query.dim) }
    }

    /// MaxSim of one candidate. `scratch` is grown as needed and may be reused.
    ///
    /// # Panics
    /// When the candidate's dimension is not the query's.
    pub fn score(&self, candidate: TokenMatrix<'_>, scratch: &mut Vec<f32>) -> f32 {
        let best = self.best(candidate, scratch);
        if best.is_empty() { 0.0 } else { best.iter().sum::<f32>() / best.len() as f32 }
    }

    /// For every query token, its largest inner product with a token of the candidate; empty when a side is empty.
    /// The element-wise maximum over two candidates is the answer for both put together.
    ///
    /// # Panics
    /// When the candidate's dimension is not the query's.
    pub fn best<'s>(&self, candidate: TokenMatrix<'_>, scratch: &'s mut Vec<f32>) -> &'s [f32] {
        let n = self.panels.n;
        if n == 0 || candidate.is_empty() {
            return &[];
        }
        assert_eq!(candidate.dim, self.panels.k, "states of different encoders");
        let stride = n.next_multiple_of(kernel::PANEL);
        scratch.clear();
        scratch.resize((ROWS + 1) * stride, f32::NEG_INFINITY);
        let (best, block) = scratch.split_at_mut(stride);
        // The padding columns are computed with the rest: whole panels skip the kernel's edge handling.
        let panels = kernel::PanelView { n: stride, ..self.panels.view() };
        for rows in candidate.data.chunks(ROWS * candidate.dim) {
            let count = rows.len() / candidate.dim;
            kernel::gemm(self.isa, count, rows, candidate.dim, panels, None, block, stride);
            rowwise::column_max(self.isa, &block[..count * stride], best);
        }
        &best[..n]
    }

    /// The other direction: the mean over the candidate's tokens of the largest inner product with a token of the query; 0 when a
    /// side is empty.
    ///
    /// # Panics
    /// When the candidate's dimension is not the query's.
    pub fn reverse(&self, candidate: TokenMatrix<'_>, scratch: &mut Vec<f32>) -> f32 {
        let n = self.panels.n;
        if n == 0 || candidate.is_empty() {
            return 0.0;
        }
        assert_eq!(candidate.dim, self.panels.k, "states of different encoders");
        let stride = n.next_multiple_of(kernel::PANEL);
        scratch.clear();
        scratch.resize(ROWS * stride, 0.0);
        let panels = kernel::PanelView { n: stride, ..self.panels.view() };
        let mut sum = 0f32;
        for rows in candidate.data.chunks(ROWS * candidate.dim) {
            let count = rows.len() / candidate.dim;
            kernel::gemm(self.isa, count, rows, candidate.dim, panels, None, scratch, stride);
            let most = |row: &[f32]| row[..n].iter().copied().fold(f32::NEG_INFINITY, f32::max);
            sum += scratch.chunks_exact(stride).take(count).map(most).sum::<f32>();
        }
        sum / candidate.len() as f32
    }

    /// MaxSim of every candidate, in order.
    pub fn score_all(&self, candidates: &[TokenMatrix<'_>]) -> Vec<f32> {
        candidates
            .par_iter()
            .with_min_len(8)
            .map_init(Vec::new, |scratch, &candidate| self.score(candidate, scratch))
            .collect()
    }
}

/// MaxSim of one pair.
pub fn maxsim(query: TokenMatrix<'_>, candidate: TokenMatrix<'_>) -> f32 {
    PackedQuery::new(query).score(candidate, &mut Vec::new())
}

/// Mean of both directions: a similarity of two texts neither of which is the query.
pub fn symmetric(a: TokenMatrix<'_>, b: TokenMatrix<'_>) -> f32 {
    0.5 * (maxsim(a, b) + maxsim(b, a))
}

/// For every query token, the candidate's token nearest to it (the first of equals). Empty for an empty candidate.
pub fn align(query: TokenMatrix<'_>, candidate: TokenMatrix<'_>) -> Vec<TokenMatch> {
    let isa = Isa::detect();
    if candidate.is_empty() {
        return Vec::new();
    }
    (0..query.len())
        .map(|i| {
            let mut best = TokenMatch { token: 0, score: f32::NEG_INFINITY };
            for j in 0..candidate.len() {
                let score = rowwise::dot(isa, query.row(i), candidate.row(j));
                if score > best.score {
                    best = TokenMatch { token: j as u32, score };
                }
            }
            best
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, in f64.
    fn naive(query: TokenMatrix<'_>, candidate: TokenMatrix<'_>) -> (f64, Vec<f64>) {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| x as f64 * y as f64).sum::<f64>();
        let best: Vec<f64> = (0..query.len())
            .map(|i| {
                (0..candidate.len()).map(|j| dot(query.row(i), candidate.row(j))).fold(f64::NEG_INFINITY, f64::max)
            })
            .collect();
        (best.iter().sum::<f64>() / best.len() as f64, best)
    }

    fn states(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
        use rand::{Rng, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut data: Vec<f32> = (0..rows * dim).map(|_| rng.random_range(-1.0..1.0)).collect();
        data.chunks_exact_mut(dim).for_each(rowwise::l2_normalize);
        data
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn kernel_and_alignment_follow_the_definition(
            nq in 1usize..70, nd in 1usize..230, dim in 1usize..150, seed in any::<u64>(),
        ) {
            let (q, d) = (states(nq, dim, seed), states(nd, dim, seed ^ 1));
            let (q, d) = (TokenMatrix { dim, data: &q }, TokenMatrix { dim, data: &d });
            let (want, best) = naive(q, d);
            for isa in Isa::available() {
                let got = PackedQuery::with_isa(q, isa).score(d, &mut Vec::new()) as f64;
                prop_assert!((got - want).abs() < 1e-5, "{isa:?}: {got} instead of {want}");
                let back = PackedQuery::with_isa(q, isa).reverse(d, &mut vec![7.0; 5]) as f64;
                prop_assert!((back - naive(d, q).0).abs() < 1e-5, "{isa:?} reversed: {back}");
            }
            for (found, want) in align(q, d).iter().zip(best) {
                prop_assert!((found.score as f64 - want).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn empty_sides_score_nothing() {
        let one = [1.0f32, 0.0];
        let (some, none) = (TokenMatrix { dim: 2, data: &one }, TokenMatrix { dim: 2, data: &[] });
        assert_eq!((maxsim(some, none), maxsim(none, some), maxsim(none, none)), (0.0, 0.0, 0.0));
        assert!(align(some, none).is_empty() && align(none, some).is_empty());
        assert_eq!(maxsim(some, some), 1.0);
    }

    #[test]
    fn a_batch_scores_as_its_members() {
        let dim = 32;
        let q = states(20, dim, 1);
        let docs: Vec<Vec<f32>> = (0..50).map(|i| states(i * 3, dim, i as u64)).collect();
        let views: Vec<TokenMatrix<'_>> = docs.iter().map(|d| TokenMatrix { dim, data: d }).collect();
        let packed = PackedQuery::new(TokenMatrix { dim, data: &q });
        let alone: Vec<f32> = views.iter().map(|&d| packed.score(d, &mut vec![5.0; 3])).collect();
        assert_eq!(packed.score_all(&views), alone);
    }
}
