//! The residual codec of ColBERTv2 (and PLAID): token states in 1 to 8 bits a dimension.
//!
//! Overview. A state is stored as the number of its nearest centroid (4 bytes) and, for each dimension, which of 2^b buckets
//! the difference to the centroid falls into. Bucket borders are the quantiles i/2^b of the differences in a sample, and a bucket
//! stands for its quantile (i + ½)/2^b. Decoding adds the two and normalises. [`ResidualCodec::train`] makes a codec from
//! a sample of states, for the number of states it shall hold: K = 2^⌊log2(16·√N)⌋ centroids, capped at [`MAX_CENTROIDS`] because
//! on a processor every state pays 2·K·dim operations for its centroid.
//!
//! Cost: 4 + ⌈dim·b/8⌉ bytes a state (196 at 384 dimensions and 4 bits, against 1536); decoding is an addition and a table
//! look-up a dimension. Deterministic for a seed.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::kernel::{self, Isa, Panels, ROWS};
use super::rowwise::l2_normalize;
use crate::error::{Error, Result};

/// Centroids, at most.
pub const MAX_CENTROIDS: usize = 4096;
/// Rounds of k-means.
const ROUNDS: usize = 4;

/// A trained codec.
#[derive(Debug, Clone)]
pub struct ResidualCodec {
    dim: usize,
    bits: u32,
    /// `K × dim`, unit rows.
    centroids: Vec<f32>,
    panels: Panels,
    cutoffs: Vec<f32>,
    weights: Vec<f32>,
    /// For each byte of a code, the weights of the dimensions it holds.
    table: Vec<f32>,
}

/// Centroids for `n` states: 2^⌊log2(16·√n)⌋, at least 1.
pub fn centroids_for(n: usize) -> usize {
    let wanted = 16.0 * (n.max(1) as f64).sqrt();
    1 << (wanted.log2().floor() as u32).min(40)
}

impl ResidualCodec {
    /// Trains on `sample` (rows of `dim`, unit length) for `n` states in all. Bits: 1, 2, 4 or 8.
    ///
    /// # Errors
    /// No sample; bits that do not divide a byte.
    pub fn train(sample: &[f32], dim: usize, bits: u32, n: usize, seed: u64) -> Result<ResidualCodec> {
        if ![1, 2, 4, 8].contains(&bits) {
            return Err(Error::invalid_hint(
                format!("a codec of {bits} bits"),
                "2 or 4 bits a dimension; 1 and 8 work as well",
            ));
        }
        let rows = sample.len() / dim.max(1);
        if dim == 0 || rows == 0 {
            return Err(Error::invalid("a codec cannot be trained on no states"));
        }
        let k = centroids_for(n).min(MAX_CENTROIDS).min(rows);
        let centroids = spherical_means(sample, dim, k, ROUNDS, seed);
        let panels = Panels::from_rows(&centroids, k, dim);
        let nearest = nearest(&panels, dim, sample);
        let mut residuals: Vec<f32> = Vec::with_capacity(sample.len());
        for (row, &c) in sample.chunks_exact(dim).zip(&nearest) {
            let centroid = &centroids[c as usize * dim..][..dim];
            residuals.extend(row.iter().zip(centroid).map(|(x, c)| x - c));
        }
        residuals.par_sort_unstable_by(f32::total_cmp);
        let buckets = 1usize << bits;
        let quantile = |share: f64| residuals[((share * residuals.len() as f64) as usize).min(residuals.len() - 1)];
        let cutoffs = (1..buckets).map(|i| quantile(i as f64 / buckets as f64)).collect();
        let weights = (0..buckets).map(|i| quantile((i as f64 + 0.5) / buckets as f64)).collect();
        Ok(ResidualCodec::from_parts(dim, bits, centroids, cutoffs, weights))
    }

    fn from_parts(dim: usize, bits: u32, centroids: Vec<f32>, cutoffs: Vec<f32>, weights: Vec<f32>) -> ResidualCodec {
        let panels = Panels::from_rows(&centroids, centroids.len() / dim, dim);
        let (per, mask) = (8 / bits as usize, (1usize << bits) - 1);
        let table = (0..256usize)
            .flat_map(|byte| (0..per).map(move |i| (byte >> (i * bits as usize)) & mask))
            .map(|bucket| weights[bucket])
            .collect();
        ResidualCodec { dim, bits, centroids, panels, cutoffs, weights, table }
    }

    /// Dimensions of a state.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Bits a dimension.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Number of centroids.
    pub fn centroids(&self) -> usize {
        self.centroids.len() / self.dim
    }

    /// Bytes of a state.
    pub fn width(&self) -> usize {
        4 + (self.dim * self.bits as usize).div_ceil(8)
    }

    /// Codes of the rows of `states`, [`width`](Self::width) bytes each.
    pub fn encode(&self, states: &[f32]) -> Vec<u8> {
        let nearest = nearest(&self.panels, self.dim, states);
        let per = 8 / self.bits as usize;
        let mut out = Vec::with_capacity(nearest.len() * self.width());
        for (row, &c) in states.chunks_exact(self.dim).zip(&nearest) {
            out.extend_from_slice(&c.to_le_bytes());
            let centroid = &self.centroids[c as usize * self.dim..][..self.dim];
            for (x, c) in row.chunks(per).zip(centroid.chunks(per)) {
                let mut byte = 0u8;
                for (i, (x, c)) in x.iter().zip(c).enumerate() {
                    let bucket = self.cutoffs.partition_point(|&cut| cut <= x - c);
                    byte |= (bucket << (i * self.bits as usize)) as u8;
                }
                out.push(byte);
            }
        }
        out
    }

    /// Appends the unit states of `codes` to `out`. A centroid that does not exist (damage) decodes to nothing.
    pub fn decode(&self, codes: &[u8], out: &mut Vec<f32>) {
        let per = 8 / self.bits as usize;
        for code in codes.chunks_exact(self.width()) {
            let (head, buckets) = code.split_at(4);
            let c = head.iter().rev().fold(0usize, |n, &b| n << 8 | b as usize);
            let Some(centroid) = self.centroids.get(c * self.dim..(c + 1) * self.dim) else { continue };
            let at = out.len();
            out.extend_from_slice(centroid);
            for (x, &byte) in out[at..].chunks_mut(per).zip(buckets) {
                let weights = &self.table[byte as usize * per..][..per];
                x.iter_mut().zip(weights).for_each(|(x, w)| *x += w);
            }
            l2_normalize(&mut out[at..]);
        }
    }

    /// The codec as bytes: dimension, bits and centroids (u32 each), then cutoffs, weights and centroids as f32, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let heads = [self.dim as u32, self.bits, self.centroids() as u32];
        let values = self.cutoffs.iter().chain(&self.weights).chain(&self.centroids);
        heads.iter().flat_map(|v| v.to_le_bytes()).chain(values.flat_map(|v| v.to_le_bytes())).collect()
    }

    /// Reads [`to_bytes`](Self::to_bytes); `None` if it is nothing of the kind.
    pub fn from_bytes(bytes: &[u8]) -> Option<ResidualCodec> {
        let (words, rest) = bytes.as_chunks::<4>();
        let head = |i: usize| words.get(i).map(|&w| u32::from_le_bytes(w) as usize);
        let (dim, bits, k) = (head(0)?, head(1)? as u32, head(2)?);
        if ![1, 2, 4, 8].contains(&bits) || dim == 0 || k == 0 || k > MAX_CENTROIDS || !rest.is_empty() {
            return None;
        }
        let values: Vec<f32> = words.get(3..)?.iter().map(|&w| f32::from_le_bytes(w)).collect();
        let buckets = 1usize << bits;
        if values.len() != 2 * buckets - 1 + k.checked_mul(dim)? || values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let (cutoffs, rest) = values.split_at(buckets - 1);
        let (weights, centroids) = rest.split_at(buckets);
        Some(ResidualCodec::from_parts(dim, bits, centroids.to_vec(), cutoffs.to_vec(), weights.to_vec()))
    }
}

/// `k` unit centroids (at most as many as rows) of unit rows by `rounds` of spherical k-means from `k` of the rows.
/// Deterministic for a seed; a centroid that no row is nearest to stays where it was.
pub fn spherical_means(sample: &[f32], dim: usize, k: usize, rounds: usize, seed: u64) -> Vec<f32> {
    let rows = sample.len() / dim;
    let k = k.min(rows);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut chosen = rand::seq::index::sample(&mut random, rows, k).into_vec();
    chosen.sort_unstable();
    let mut centroids: Vec<f32> = chosen.iter().flat_map(|&r| &sample[r * dim..(r + 1) * dim]).copied().collect();
    // With as many centroids as rows there is nothing to move.
    for _ in 0..if k < rows { rounds } else { 0 } {
        let nearest = nearest_centroids(&centroids, dim, sample);
        let mut sums = vec![0f32; k * dim];
        let mut members = vec![0usize; k];
        for (row, &c) in sample.chunks_exact(dim).zip(&nearest) {
            members[c as usize] += 1;
            let sum = &mut sums[c as usize * dim..][..dim];
            sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
        }
        for ((centroid, sum), &members) in centroids.chunks_exact_mut(dim).zip(sums.chunks_exact_mut(dim)).zip(&members)
        {
            if members > 0 {
                l2_normalize(sum);
                centroid.copy_from_slice(sum);
            }
        }
    }
    centroids
}

/// For each row the centroid with the largest inner product; the first of equals.
pub fn nearest_centroids(centroids: &[f32], dim: usize, rows: &[f32]) -> Vec<u32> {
    nearest(&Panels::from_rows(centroids, centroids.len() / dim, dim), dim, rows)
}

fn nearest(centroids: &Panels, dim: usize, rows: &[f32]) -> Vec<u32> {
    let (isa, n) = (Isa::detect(), centroids.n);
    let stride = n.next_multiple_of(kernel::PANEL);
    let found: Vec<Vec<u32>> = rows
        .par_chunks(ROWS * dim)
        .map_init(
            || vec![0f32; ROWS * stride],
            |scores, block| {
                let count = block.len() / dim;
                let panels = kernel::PanelView { n: stride, ..centroids.view() };
                kernel::gemm(isa, count, block, dim, panels, None, scores, stride);
                let of = |scores: &[f32]| {
                    // The maximum vectorises; then its place.
                    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    scores.iter().position(|&s| s == most).unwrap_or(0) as u32
                };
                scores.chunks_exact(stride).take(count).map(|s| of(&s[..n])).collect()
            },
        )
        .collect();
    found.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    /// Rows around a few directions, as token states are.
    fn states(rows: usize, dim: usize, noise: f32, seed: u64) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut row = |n: usize| (0..n).map(|_| random.random_range(-1.0f32..1.0)).collect::<Vec<f32>>();
        let centres: Vec<Vec<f32>> = (0..7).map(|_| row(dim)).collect();
        let mut out = Vec::new();
        for i in 0..rows {
            let mut x: Vec<f32> = centres[i % 7].iter().zip(row(dim)).map(|(c, e)| c + noise * e).collect();
            l2_normalize(&mut x);
            out.extend(x);
        }
        out
    }

    #[test]
    fn centroids_follow_the_formula() {
        // 16·√25,000,000 = 80,000 -> 2^16; 16·√100 = 160 -> 2^7.
        assert_eq!((centroids_for(25_000_000), centroids_for(100), centroids_for(0)), (65_536, 128, 16));
    }

    #[test]
    fn decoding_is_near_and_nearer_with_more_bits() {
        let (dim, rows) = (48, 2000);
        let all = states(rows + 200, dim, 0.6, 1);
        let (data, fresh) = all.split_at(rows * dim);
        let mut last = f64::INFINITY;
        for bits in [1, 2, 4, 8] {
            let codec = ResidualCodec::train(data, dim, bits, 20, 7).unwrap();
            assert_eq!(codec.centroids(), 64);
            let codes = codec.encode(fresh);
            assert_eq!(codes.len(), 200 * codec.width());
            assert_eq!(codec.width(), 4 + 48 * bits as usize / 8);
            let mut got = Vec::new();
            codec.decode(&codes, &mut got);
            let error: f64 = got.iter().zip(fresh).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / 200.0;
            assert!(error < last, "{bits} bits: {error} after {last}");
            last = error;
            let again = ResidualCodec::from_bytes(&codec.to_bytes()).unwrap();
            let mut same = Vec::new();
            again.decode(&codes, &mut same);
            assert_eq!(got, same);
        }
        assert!(last < 0.01, "{last}");
    }

    #[test]
    fn a_small_set_is_its_own_codebook() {
        let data = states(40, 24, 0.5, 3);
        let codec = ResidualCodec::train(&data, 24, 4, 40, 1).unwrap();
        let mut got = Vec::new();
        codec.decode(&codec.encode(&data), &mut got);
        let worst = got.iter().zip(&data).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(worst < 1e-5, "{worst}");
    }

    #[test]
    fn buckets_lie_at_the_quantiles() {
        // One centroid at (1, 0), so residuals are known; 2 bits.
        let rows: Vec<f32> = (0..400).flat_map(|i| [(i as f32 / 400.0).cos(), (i as f32 / 400.0).sin()]).collect();
        let codec = ResidualCodec::train(&rows, 2, 2, 400, 1).unwrap();
        assert_eq!((codec.cutoffs.len(), codec.weights.len()), (3, 4));
        for i in 0..3 {
            assert!(codec.weights[i] <= codec.cutoffs[i] && codec.cutoffs[i] <= codec.weights[i + 1]);
        }
    }

    #[test]
    fn damage_is_refused() {
        let codec = ResidualCodec::train(&states(50, 8, 0.5, 3), 8, 2, 50, 1).unwrap();
        let bytes = codec.to_bytes();
        assert!(ResidualCodec::from_bytes(&bytes[..bytes.len() - 4]).is_none());
        assert!(ResidualCodec::from_bytes(&[0; 12]).is_none());
        assert!(ResidualCodec::from_bytes(b"").is_none());
        let mut out = Vec::new();
        codec.decode(&[255; 6], &mut out);
        assert!(out.is_empty());
        assert!(
            ResidualCodec::train(&[], 8, 2, 50, 1).is_err() && ResidualCodec::train(&[1.0; 8], 8, 3, 1, 1).is_err()
        );
    }
}
