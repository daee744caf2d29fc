//! Where a builder takes its rows from: memory, or a `flat` index on disk, which keeps memory bounded.

use std::ops::Range;

use super::element::Rows;
use super::{FlatIndex, VectorIndex, check_values};
use crate::error::Result;

/// Finite vectors of one dimension, numbered from 0.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// Row-major floats; made by [`Source::memory`].
    Memory { vectors: &'a [f32], dim: usize },
    /// The vectors of an index.
    Flat(&'a FlatIndex),
}

impl<'a> Source<'a> {
    /// Vectors in memory; incomplete or non-finite ones are refused by number.
    pub fn memory(vectors: &'a [f32], dim: usize) -> Result<Source<'a>> {
        check_values("vector", vectors, dim)?;
        Ok(Source::Memory { vectors, dim })
    }

    pub fn dim(&self) -> usize {
        match self {
            Source::Memory { dim, .. } => *dim,
            Source::Flat(index) => index.dim(),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Source::Memory { vectors, dim } => vectors.len() / dim,
            Source::Flat(index) => index.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the rows of a range as f32.
    pub fn read(&self, range: Range<usize>, out: &mut Vec<f32>) {
        match self {
            Source::Memory { vectors, dim } => out.extend_from_slice(&vectors[range.start * dim..range.end * dim]),
            Source::Flat(index) => {
                let rows: Rows = index.rows();
                range.for_each(|row| rows.decode(row as u32, out));
            }
        }
    }
}
