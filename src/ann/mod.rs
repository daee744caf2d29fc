//! Vector indexes: nearest neighbours by inner product over L2-normalised embeddings.

use std::path::Path;

use crate::error::Result;

/// One neighbour: row in the index and similarity (inner product; larger is nearer).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    pub row: u32,
    pub score: f32,
}

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
    /// The `k` best rows for each of `queries.len() / dim` queries, best first, ties by row.
    fn search(&self, queries: &[f32], k: usize, params: &SearchParams) -> Result<Vec<Vec<Hit>>>;
}

/// Search-time settings; each kind reads its own.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SearchParams {
    /// hnsw: size of the candidate list (0: the default).
    pub ef: usize,
    /// ivf: lists probed (0: the default).
    pub nprobe: usize,
}

/// Writes an index of `rows × dim` vectors to files in `dir`; reopened by the kind's `open(dir)`.
pub trait VectorIndexBuilder {
    fn build(&self, vectors: &[f32], dim: usize, dir: &Path) -> Result<()>;
}
