//! Stands in for the FAISS bindings in a build without the cargo feature `faiss`: nothing can be made or opened.

use std::path::Path;

use super::super::{Hit, Source};
use super::{Imported, IvfParams};
use crate::error::{Error, Result};

fn off<T>() -> Result<T> {
    Err(Error::FeatureOff { what: "the vector index kind `ivf`".into(), feature: "faiss" })
}

pub fn ready() -> Result<()> {
    off()
}

/// Never holds an index: [`Index::open`] always fails.
#[derive(Debug)]
pub struct Index;

impl Index {
    pub fn closed() -> Index {
        Index
    }
    pub fn open(_: &Path, _: bool) -> Result<Index> {
        off()
    }
    pub fn len(&self) -> usize {
        0
    }
    pub fn dim(&self) -> usize {
        0
    }
    pub fn lists(&self) -> Option<usize> {
        None
    }
    pub fn search(&self, _: &[f32], _: usize, _: usize, _: Option<&[u8]>) -> Result<Vec<Vec<Hit>>> {
        off()
    }
}

pub fn take_over(_: &Path, _: &Path) -> Result<Imported> {
    off()
}

pub fn build(_: &Source, _: &IvfParams, _: &Path) -> Result<usize> {
    off()
}
