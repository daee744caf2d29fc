//! Certified novelty: a proof that no chunk has a cosine of τ or more with a window.
//!
//! Overview. [`Cover`] groups a shard's stored vectors around centroids and knows every vector's angle to its centroid. For a query at
//! angle φ to a centroid, a vector at angle θ is at least |φ − θ| away (the triangle inequality on the sphere), so only vectors
//! with |φ − θ| ≤ arccos τ can reach τ; these are compared exactly, the rest need no look. Where the store is not f32, the
//! vector that was stored may differ from the one that was encoded by a known error, and τ is lowered by the largest of the shard.
//! A window is *certified* if nothing reaches τ.
//!
//! Invariants. A certificate is never wrong: norms, angles and errors are rounded towards more scanning, and a similarity within
//! rounding of τ is decided in double precision. Without a certificate the nearest vector found is at τ or within the
//! quantisation error of it. The certificate covers stage 1, the cosine of pooled embeddings; it says nothing of late interaction.
//!
//! Cost: a cover is one pass of k-means over the vectors (2·n·√n·dim operations) and 12 bytes a vector; a query 2·√n·dim operations and what has
//! to be scanned, which is told.

use rayon::prelude::*;

use crate::ann::{Element, FlatIndex, VectorIndex};
use crate::embed::residual::{nearest_centroids, spherical_means};
use crate::error::{Error, Result};
use crate::index::{DocumentRef, Snapshot};

/// Rows the centroids are trained on, at most.
const SAMPLE: usize = 1 << 16;
/// Centroids, at most.
const CENTROIDS: usize = 1024;
/// Angle that rounding in double precision may cost, with room to spare.
const SLACK: f64 = 1e-6;

/// What was proved of one query.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Certificate {
    /// Whether no vector has a cosine of τ or more.
    pub certified: bool,
    /// The largest cosine met; of a certified query below τ, and what was not met is below τ as well.
    pub nearest: Option<f64>,
    /// Vectors that were compared.
    pub scanned: u64,
}

/// The vectors of one `flat` index by angle around centroids.
#[derive(Debug)]
pub struct Cover {
    dim: usize,
    centroids: Vec<f32>,
    /// Rows, cluster after cluster, by ascending angle to the centroid.
    rows: Vec<u32>,
    angles: Vec<f64>,
    /// Where each cluster begins, and the end.
    starts: Vec<usize>,
    largest_norm: f64,
    /// Largest distance of a stored vector from the one it stands for.
    error: f64,
}

/// Cluster, row, and the angle of the row to the cluster's centroid.
type Placed = (u32, u32, f64);

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

/// Angle between two vectors; a zero vector is at a right angle to all.
fn angle(a: &[f32], b: &[f32]) -> f64 {
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { (dot(a, b) / norms).clamp(-1.0, 1.0).acos() } else { std::f64::consts::FRAC_PI_2 }
}

/// How far a stored vector can be from what it was made of.
fn quantisation(element: Element, row: &[f32]) -> f64 {
    let norm = dot(row, row).sqrt();
    match element {
        Element::F32 => 0.0,
        // Half a unit in the last of 11 places, and what is too small for f16.
        Element::F16 => norm / 2047.0 + 2f64.powi(-24) * (row.len() as f64).sqrt(),
        // Half a step; the largest value is 127 steps.
        Element::Int8 => {
            let most = row.iter().map(|x| f64::from(x.abs())).fold(0.0, f64::max);
            1.001 * (most / 127.0) / 2.0 * (row.len() as f64).sqrt() + 1e-7
        }
    }
}

impl Cover {
    /// Of all vectors of an index.
    pub fn new(index: &FlatIndex, seed: u64) -> Result<Cover> {
        let (n, dim) = (index.len(), index.dim());
        let stored = index.rows();
        let step = n.div_ceil(SAMPLE).max(1);
        let mut sample = Vec::new();
        (0..n as u32).step_by(step).for_each(|row| stored.decode(row, &mut sample));
        let k = ((n as f64).sqrt().ceil() as usize).clamp(1, CENTROIDS);
        let centroids = if n == 0 { vec![0.0; dim] } else { spherical_means(&sample, dim, k, 3, seed) };
        let clusters = centroids.len() / dim;
        drop(sample);
        let blocks: Vec<(Vec<Placed>, f64, f64)> = (0..n as u32)
            .step_by(4096)
            .collect::<Vec<_>>()
            .into_par_iter()
            .map(|first| {
                let rows = first..(first + 4096).min(n as u32);
                let mut data = Vec::new();
                rows.clone().for_each(|row| stored.decode(row, &mut data));
                let nearest = nearest_centroids(&centroids, dim, &data);
                let mut found = Vec::with_capacity(rows.len());
                let (mut norm, mut error) = (0f64, 0f64);
                for ((row, vector), &c) in rows.zip(data.chunks_exact(dim)).zip(&nearest) {
                    found.push((c, row, angle(vector, &centroids[c as usize * dim..][..dim])));
                    norm = norm.max(dot(vector, vector).sqrt());
                    error = error.max(quantisation(index.element(), vector));
                }
                (found, norm, error)
            })
            .collect();
        let largest_norm = blocks.iter().map(|b| b.1).fold(0.0, f64::max);
        let error = blocks.iter().map(|b| b.2).fold(0.0, f64::max);
        let mut all: Vec<Placed> = blocks.into_iter().flat_map(|b| b.0).collect();
        all.par_sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.2.total_cmp(&b.2)).then(a.1.cmp(&b.1)));
        let starts = (0..=clusters as u32).map(|c| all.partition_point(|r| r.0 < c)).collect();
        let (rows, angles) = all.into_iter().map(|r| (r.1, r.2)).unzip();
        Ok(Cover { dim, centroids, rows, angles, starts, largest_norm, error })
    }

    /// Certifies one unit query against `index`, the one this is the cover of. `keep` says which rows count.
    pub fn certify(
        &self,
        index: &FlatIndex,
        query: &[f32],
        tau: f64,
        keep: &(dyn Fn(u32) -> bool + Sync),
    ) -> Result<Certificate> {
        let norm = dot(query, query).sqrt();
        // q·x* ≤ |q|·(|x|·cos ∠(q, x) + error), so a cosine below this cannot reach τ.
        let least = (tau / norm.max(f64::MIN_POSITIVE) - self.error) / self.largest_norm.max(f64::MIN_POSITIVE);
        let reach = least.clamp(-1.0, 1.0).acos() + SLACK;
        let mut wanted: Vec<u32> = Vec::new();
        if least <= 1.0 + SLACK {
            for (c, centroid) in self.centroids.chunks_exact(self.dim).enumerate() {
                let (start, end) = (self.starts[c], self.starts[c + 1]);
                let angles = &self.angles[start..end];
                let at = angle(query, centroid);
                let (from, to) =
                    (angles.partition_point(|&a| a < at - reach), angles.partition_point(|&a| a <= at + reach));
                wanted.extend(self.rows[start + from..start + to.max(from)].iter().filter(|&&row| keep(row)));
            }
        }
        let mut nearest = None::<f64>;
        let stored = index.rows();
        // A single-precision sum of `dim` products is off by no more than this; int8 stores are compared with a query of 16 bits.
        let single = self.dim as f64 * f64::from(f32::EPSILON) * norm * self.largest_norm;
        let steps = if index.element() == Element::Int8 { (self.dim as f64).sqrt() / 1000.0 } else { 0.0 };
        let rounding = single + steps * norm * self.largest_norm;
        let mut certified = true;
        for (&row, score) in wanted.iter().zip(index.scores(query, &wanted)?) {
            let mut score = f64::from(score);
            if (score + self.error * norm - tau).abs() <= 2.0 * rounding {
                let mut vector = Vec::with_capacity(self.dim);
                stored.decode(row, &mut vector);
                score = dot(query, &vector);
            }
            certified &= score + self.error * norm < tau;
            nearest = Some(nearest.map_or(score, |n| n.max(score)));
        }
        Ok(Certificate { certified, nearest, scanned: wanted.len() as u64 })
    }

    /// Largest distance of a stored vector from the one that was encoded; 0 for an f32 store.
    pub fn quantisation_error(&self) -> f64 {
        self.error
    }
}

/// Covers of all shards of a snapshot.
pub struct Certifier {
    covers: Vec<Option<Cover>>,
    pub tau: f64,
}

/// Sums over the windows that were certified or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Certified {
    pub tau: f64,
    /// Texts all of whose windows are certified, by what they were asked for.
    pub windows: u64,
    pub certified: u64,
    /// Pairs of window and chunk: those compared, and all.
    pub scanned: u64,
    pub pairs: u64,
    /// Largest error of stored vectors that the proofs allow for.
    pub quantisation_error: f64,
}

/// Refuses a threshold that is none.
pub fn check(tau: f64) -> Result<()> {
    if tau > 0.0 && tau <= 1.0 {
        return Ok(());
    }
    Err(Error::invalid_hint(
        format!("--certify {tau}: a cosine between 0 and 1 is needed"),
        "0.6 asks for a proof that no passage is even loosely alike, 0.9 that none says the same",
    ))
}

impl Certifier {
    /// # Errors
    /// τ outside 0 to 1.
    pub fn new(snapshot: &Snapshot, tau: f64, seed: u64) -> Result<Certifier> {
        check(tau)?;
        let covers = snapshot
            .shards
            .iter()
            .map(|s| s.semantic.as_ref().map(|s| Cover::new(s.vectors.flat()?, seed)).transpose())
            .collect::<Result<_>>()?;
        Ok(Certifier { covers, tau })
    }

    /// Certifies queries of `dim` floats against every chunk that is neither removed nor of `hidden` (one list a query).
    pub fn certify(
        &self,
        snapshot: &Snapshot,
        queries: &[f32],
        dim: usize,
        hidden: &[&[DocumentRef]],
        sums: &mut Certified,
    ) -> Result<Vec<bool>> {
        let found: Vec<(bool, u64)> = queries
            .par_chunks_exact(dim)
            .zip(hidden)
            .map(|(query, hidden)| {
                let (mut certified, mut scanned) = (true, 0);
                for (number, (shard, cover)) in snapshot.shards.iter().zip(&self.covers).enumerate() {
                    let (Some(semantic), Some(cover)) = (&shard.semantic, cover) else { continue };
                    let keep = |row: u32| {
                        semantic.chunk(row).is_some_and(|c| {
                            let document = DocumentRef { shard: number as u32, document: c.document };
                            !hidden.contains(&document) && !snapshot.is_removed(document)
                        })
                    };
                    let certificate = cover.certify(semantic.vectors.flat()?, query, self.tau, &keep)?;
                    certified &= certificate.certified;
                    scanned += certificate.scanned;
                }
                Ok((certified, scanned))
            })
            .collect::<Result<_>>()?;
        sums.tau = self.tau;
        sums.windows += found.len() as u64;
        sums.certified += found.iter().filter(|f| f.0).count() as u64;
        sums.scanned += found.iter().map(|f| f.1).sum::<u64>();
        sums.pairs += found.len() as u64 * snapshot.chunks();
        let errors = self.covers.iter().flatten().map(Cover::quantisation_error);
        sums.quantisation_error = errors.fold(sums.quantisation_error, f64::max);
        Ok(found.into_iter().map(|f| f.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ann::FlatWriter;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn unit(row: &mut [f32]) {
        crate::ann::normalize(row);
    }

    /// Vectors in clusters of a random tightness, as embeddings are.
    fn vectors(n: usize, dim: usize, random: &mut ChaCha8Rng) -> Vec<f32> {
        let centres: Vec<f32> = (0..4 * dim).map(|_| random.random_range(-1.0f32..1.0)).collect();
        let spread = random.random_range(0.02f32..1.5);
        let mut out = Vec::with_capacity(n * dim);
        for i in 0..n {
            let at = (i % 4) * dim;
            let mut row: Vec<f32> =
                centres[at..at + dim].iter().map(|c| c + spread * random.random_range(-1.0f32..1.0)).collect();
            unit(&mut row);
            out.extend(row);
        }
        out
    }

    #[test]
    fn no_certificate_is_ever_wrong_in_ten_thousand_trials() {
        let dir = tempfile::tempdir().unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(2024);
        let (mut trials, mut certified, mut spared) = (0, 0, 0u64);
        for set in 0..110 {
            let dim = [3, 8, 24][set % 3];
            let n = random.random_range(1..300);
            let element = [Element::F32, Element::F16, Element::Int8][set / 3 % 3];
            let data = vectors(n, dim, &mut random);
            let path = dir.path().join(format!("{set}.bin"));
            let mut writer = FlatWriter::create(&path, dim, element).unwrap();
            writer.push(&data).unwrap();
            writer.finish().unwrap();
            let index = FlatIndex::open(&path).unwrap();
            let cover = Cover::new(&index, set as u64).unwrap();
            for trial in 0..100 {
                // Half of the queries are near a vector, so that τ is met about as often as not.
                let mut query: Vec<f32> = (0..dim).map(|_| random.random_range(-1.0f32..1.0)).collect();
                if trial % 2 == 0 {
                    let row = random.random_range(0..n);
                    let noise = random.random_range(0.0f32..0.6);
                    query.iter_mut().zip(&data[row * dim..]).for_each(|(q, x)| *q = x + noise * *q);
                }
                unit(&mut query);
                let hidden = random.random_range(0..2 * n as u32);
                let keep = |row: u32| row != hidden;
                let truth = (0..n)
                    .filter(|&r| keep(r as u32))
                    .map(|r| dot(&query, &data[r * dim..(r + 1) * dim]))
                    .fold(f64::NEG_INFINITY, f64::max);
                // Thresholds at random, and just above and below the truth.
                let tau = match trial % 4 {
                    0 => truth + random.random_range(-1e-6..1e-6),
                    1 => truth,
                    _ => random.random_range(0.05..1.0),
                };
                if !(tau > 0.0 && tau <= 1.0) {
                    continue;
                }
                let got = cover.certify(&index, &query, tau, &keep).unwrap();
                trials += 1;
                certified += u32::from(got.certified);
                spared += u64::from(got.scanned + 1 < n as u64);
                assert!(!got.certified || truth < tau, "set {set}: {truth} is certified to be below {tau}");
                assert!(
                    got.certified || truth + 2.0 * cover.quantisation_error() >= tau - 1e-6,
                    "set {set}: {truth} is refused at {tau}"
                );
            }
        }
        // Some thresholds were none (the truth is negative), so there are more sets than needed.
        assert!(trials >= 10_000, "{trials}");
        assert!(certified > trials / 20 && certified < trials * 19 / 20, "{certified} of {trials}");
        assert!(spared > 2000, "bounds spared a look in {spared} trials");
    }
}
