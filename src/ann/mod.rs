//! Vector indexes: nearest neighbours by inner product, which for L2-normalised embeddings is cosine similarity.
//!
//! | kind | answers | made for | file |
//! |---|---|---|---|
//! | [`flat`] | exact | small shards, batches, the truth the others are measured by, rescoring | `vectors.bin` |
//! | [`hnsw`] | approximate | single queries over up to some 10 M rows a shard | `ann.bin` |
//! | [`ivf`] | approximate | the largest corpora, compressed; cargo feature `faiss` | `ann.bin` |
//!
//! Every kind is built from rows numbered in insertion order, searched in batches through [`VectorIndex`], opened from a
//! memory-mapped file, and takes a row filter (for removal and metadata). Scores of approximate kinds may be those of
//! compressed vectors: [`rescore`] replaces them by exact ones, [`recall`] measures what such a search misses, and
//! [`plan`] says what each kind costs and which to take.

use std::path::Path;

use crate::error::{Error, Result};

pub mod element;
mod file;
pub mod flat;
pub mod hnsw;
mod indexed;
pub mod ivf;
mod kernel;
mod matrix;
mod parquet;
mod plan;
mod recall;
mod settings;
mod source;
mod topk;

pub use element::{Element, StoredAs};
pub use flat::{FlatIndex, FlatWriter};
pub use hnsw::{HnswIndex, HnswParams};
pub use indexed::Indexed;
pub use ivf::{Imported, IvfIndex, IvfParams};
pub use kernel::Isa;
pub use matrix::{MatrixReader, import, read_ids, write_npy, write_safetensors};
pub use parquet::{ChunkRow, ParquetWriter, read_parquet};
pub use plan::{Choice, Kind, Plan, plan};
pub use recall::{Recall, recall, rescore};
pub use settings::VectorSettings;
pub use source::Source;
pub use topk::by_score;

/// Largest dimension of a vector.
pub const MAX_DIM: usize = 1 << 16;

/// One neighbour: row in the index and similarity (inner product; larger is nearer).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Hit {
    pub row: u32,
    pub score: f32,
}

/// Says of a row whether it may be an answer. Called from several threads, in any order, possibly not for every row.
pub type Keep<'a> = &'a (dyn Fn(u32) -> bool + Sync);

/// A searchable set of vectors. Rows are numbered from 0 in insertion order.
pub trait VectorIndex: Send + Sync {
    /// `flat`, `hnsw` or `ivf`.
    fn kind(&self) -> &'static str;
    /// Number of vectors.
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    fn dim(&self) -> usize;
    /// Whether every answer equals that of an exhaustive scan.
    fn is_exact(&self) -> bool;
    /// Candidates to ask for and rescore where the `k` best are wanted: more than `k` where scores are rough.
    fn candidates(&self, k: usize) -> usize {
        k
    }

    /// The `k` best rows that `keep` admits, for each of `queries.len() / dim` queries; best first, ties by row.
    /// Fewer than `k` only if the index found no more. Incomplete or non-finite queries are errors.
    fn search(&self, queries: &[f32], k: usize, params: &SearchParams, keep: Option<Keep>) -> Result<Vec<Vec<Hit>>>;

    /// All rows that `keep` admits with a similarity of at least `at_least`; best first, ties by row. As complete as
    /// [`VectorIndex::search`] is: approximate kinds search for more and more neighbours until one is below.
    fn within(
        &self,
        queries: &[f32],
        at_least: f32,
        params: &SearchParams,
        keep: Option<Keep>,
    ) -> Result<Vec<Vec<Hit>>> {
        widen(self, queries, at_least, params, keep)
    }
}

/// [`VectorIndex::within`] by searches for more and more neighbours, until one is below.
pub fn widen<I: VectorIndex + ?Sized>(
    index: &I,
    queries: &[f32],
    at_least: f32,
    params: &SearchParams,
    keep: Option<Keep>,
) -> Result<Vec<Vec<Hit>>> {
    check_queries(queries, index.dim())?;
    let mut answers = Vec::new();
    for query in queries.chunks_exact(index.dim()) {
        let mut k = 64.min(index.len());
        let hits = loop {
            let mut hits = index.search(query, k, params, keep)?.pop().unwrap_or_default();
            let whole = hits.last().is_none_or(|hit| hit.score < at_least) || hits.len() < k || k == index.len();
            if whole {
                hits.retain(|hit| hit.score >= at_least);
                break hits;
            }
            k = (4 * k).min(index.len());
        };
        answers.push(hits);
    }
    Ok(answers)
}

/// Scales a vector to length one and returns the length it had. A vector of length zero, or not finite, stays as it is.
pub fn normalize(vector: &mut [f32]) -> f64 {
    let norm = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    if norm > 0.0 && norm.is_finite() {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
    norm
}

/// Opens the index in a file, whatever its kind.
///
/// # Errors
/// A damaged or foreign file; [`Error::FeatureOff`] for an `ivf` index in a binary without FAISS.
pub fn open(path: &Path) -> Result<Box<dyn VectorIndex>> {
    Ok(match file::kind_of(path)? {
        flat::KIND => Box::new(FlatIndex::open(path)?),
        hnsw::KIND => Box::new(HnswIndex::open(path)?),
        ivf::KIND => Box::new(IvfIndex::open(path)?),
        other => return Err(Error::corrupt(path, 8, format!("vector index of kind {other}, which is unknown"))),
    })
}

/// Search-time settings; each kind reads its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SearchParams {
    /// hnsw: size of the candidate list (0: the default).
    pub ef: usize,
    /// ivf: lists probed (0: the default).
    pub nprobe: usize,
}

/// Checks that a vector of `found` values suits an index of `dim` dimensions.
fn check_dim(found: usize, dim: usize) -> Result<()> {
    if dim == 0 || dim > MAX_DIM {
        return Err(Error::invalid(format!("vectors of {dim} dimensions: expected 1 to {MAX_DIM}")));
    }
    if found != dim {
        return Err(Error::invalid_hint(
            format!("a vector of {found} dimensions does not fit an index of {dim} dimensions"),
            "use the encoder that the index was built with",
        ));
    }
    Ok(())
}

/// Checks that `values` are whole, finite vectors of `dim` dimensions; `what` names them.
fn check_values(what: &str, values: &[f32], dim: usize) -> Result<()> {
    check_dim(dim, dim)?;
    if !values.len().is_multiple_of(dim) {
        return Err(Error::invalid_hint(
            format!("{} values are not whole vectors of {dim} dimensions ({what})", values.len()),
            "use the encoder that the index was built with",
        ));
    }
    match values.iter().position(|x| !x.is_finite()) {
        Some(at) => Err(Error::invalid(format!("{what} {}: element {} is {}", at / dim, at % dim, values[at]))),
        None => Ok(()),
    }
}

fn check_queries(queries: &[f32], dim: usize) -> Result<()> {
    check_values("query", queries, dim)
}

/// Seeded unit vectors in a few clusters, for tests.
#[cfg(test)]
pub(crate) fn sample(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
    use rand::{Rng, SeedableRng};
    let mut centres = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let centres: Vec<f32> = (0..8 * dim).map(|_| centres.random_range(-1.0..1.0)).collect();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut vectors = Vec::with_capacity(rows * dim);
    for _ in 0..rows {
        let centre = random.random_range(0..8) * dim;
        let row: Vec<f32> = (0..dim).map(|d| centres[centre + d] + random.random_range(-0.8..0.8)).collect();
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-9);
        vectors.extend(row.iter().map(|x| x / norm));
    }
    vectors
}
