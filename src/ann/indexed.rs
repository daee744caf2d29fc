//! Stored vectors with a vector index over them: searches go to the index, similarities come from the vectors.
//!
//! Two files: a `flat` index that keeps the vectors, and beside it, unless the kind is `flat`, an approximate one over the same rows. What the
//! approximate one finds is rescored from the first, so that every similarity is exact for what is stored. Where nothing
//! was stored ([`super::StoredAs`]) there is only the second, and similarities are those of its codes.

use std::path::Path;

use rayon::prelude::*;

use super::file::shape_of;
use super::{
    FlatIndex, Hit, Keep, SearchParams, StoredAs, VectorIndex, VectorSettings, check_queries, open, rescore, widen,
};
use crate::error::{Error, Result};

/// Vectors and how they are searched.
pub struct Indexed {
    flat: Option<FlatIndex>,
    approximate: Approximate,
    kind: &'static str,
    /// What a search uses that does not say.
    defaults: SearchParams,
}

enum Approximate {
    None,
    Open(Box<dyn VectorIndex>),
    /// There is one, but this binary cannot search it; its rows and dimension.
    Off {
        what: String,
        feature: &'static str,
        rows: usize,
        dim: usize,
    },
}

impl Indexed {
    /// Opens the vectors at `vectors` and the index at `ann`, if there is such a file. `settings` are those they were built with.
    ///
    /// An `ivf` index in a binary without FAISS is an error of its searches only: everything else can be done without it.
    pub fn open(vectors: &Path, ann: &Path, settings: Option<&VectorSettings>) -> Result<Indexed> {
        let stored = settings.is_none_or(|s| s.store.0.is_some());
        let flat = if stored { Some(FlatIndex::open(vectors)?) } else { None };
        let approximate = match ann.exists().then(|| open(ann)) {
            None if stored => Approximate::None,
            None => return Err(Error::corrupt(ann, 0, "missing, and no vectors are stored beside it")),
            Some(Ok(index)) => Approximate::Open(index),
            Some(Err(Error::FeatureOff { what, feature })) => {
                let (rows, dim) = shape_of(ann)?;
                Approximate::Off { what, feature, rows, dim }
            }
            Some(Err(error)) => return Err(error),
        };
        let kind = match (&approximate, settings) {
            (Approximate::None, _) => "flat",
            (_, Some(settings)) => settings.kind.name(),
            (Approximate::Open(index), None) => index.kind(),
            (Approximate::Off { .. }, None) => "ivf",
        };
        if let (Approximate::Open(index), Some(flat)) = (&approximate, &flat)
            && (index.len(), index.dim()) != (flat.len(), flat.dim())
        {
            let own = format!("{} rows of {} dimensions", index.len(), index.dim());
            let what = format!("{own}, the vectors beside it are {} of {}", flat.len(), flat.dim());
            return Err(Error::corrupt(ann, 0, what));
        }
        let defaults = settings.map(|s| s.search.clone()).unwrap_or_default();
        Ok(Indexed { flat, approximate, kind, defaults })
    }

    /// The stored vectors: exhaustive search, and the truth an approximate one is measured by.
    ///
    /// # Errors
    /// None are stored.
    pub fn flat(&self) -> Result<&FlatIndex> {
        self.flat.as_ref().ok_or_else(|| {
            Error::invalid_hint(
                "this needs the vectors themselves, and the index was built to store none",
                "build it with --store f32, f16 or int8",
            )
        })
    }

    /// Element type of the stored vectors.
    pub fn stored(&self) -> StoredAs {
        StoredAs(self.flat.as_ref().map(FlatIndex::element))
    }

    /// What answers a search: the stored vectors where it must be `exact`, else the vector index.
    ///
    /// # Errors
    /// As [`Indexed::flat`], where it must be exact.
    pub fn searcher(&self, exact: bool) -> Result<&dyn VectorIndex> {
        Ok(if exact { self.flat()? } else { self })
    }

    fn settle(&self, params: &SearchParams) -> SearchParams {
        let first = |given, own| if given > 0 { given } else { own };
        SearchParams { ef: first(params.ef, self.defaults.ef), nprobe: first(params.nprobe, self.defaults.nprobe) }
    }
}

impl VectorIndex for Indexed {
    fn kind(&self) -> &'static str {
        self.kind
    }
    fn len(&self) -> usize {
        match (&self.flat, &self.approximate) {
            (Some(flat), _) => flat.len(),
            (None, Approximate::Open(index)) => index.len(),
            (None, Approximate::Off { rows, .. }) => *rows,
            (None, Approximate::None) => 0,
        }
    }
    fn dim(&self) -> usize {
        match (&self.flat, &self.approximate) {
            (Some(flat), _) => flat.dim(),
            (None, Approximate::Open(index)) => index.dim(),
            (None, Approximate::Off { dim, .. }) => *dim,
            (None, Approximate::None) => 0,
        }
    }
    fn is_exact(&self) -> bool {
        matches!(self.approximate, Approximate::None)
    }

    fn search(&self, queries: &[f32], k: usize, params: &SearchParams, keep: Option<Keep>) -> Result<Vec<Vec<Hit>>> {
        let index = match &self.approximate {
            Approximate::None => return self.flat()?.search(queries, k, params, keep),
            Approximate::Open(index) => index,
            Approximate::Off { what, feature, .. } => return Err(Error::FeatureOff { what: what.clone(), feature }),
        };
        check_queries(queries, self.dim())?;
        let Some(flat) = &self.flat else { return index.search(queries, k, &self.settle(params), keep) };
        let wanted = index.candidates(k).min(self.len());
        let mut found = index.search(queries, wanted, &self.settle(params), keep)?;
        found
            .par_iter_mut()
            .zip(queries.par_chunks_exact(self.dim()))
            .try_for_each(|(hits, query)| rescore(flat, query, hits, k))?;
        Ok(found)
    }

    fn within(
        &self,
        queries: &[f32],
        at_least: f32,
        params: &SearchParams,
        keep: Option<Keep>,
    ) -> Result<Vec<Vec<Hit>>> {
        match self.approximate {
            Approximate::None => self.flat()?.within(queries, at_least, params, keep),
            _ => widen(self, queries, at_least, params, keep),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ann::{Element, FlatWriter, HnswParams, Kind, Source, sample};

    #[test]
    fn similarities_are_those_of_the_stored_vectors() {
        let dir = tempfile::tempdir().unwrap();
        let (vectors, ann) = (dir.path().join("v"), dir.path().join("a"));
        let (rows, queries) = (sample(2000, 24, 1), sample(20, 24, 2));
        let mut writer = FlatWriter::create(&vectors, 24, Element::F16).unwrap();
        writer.push(&rows).unwrap();
        writer.finish().unwrap();
        let params = SearchParams::default();
        let exact = Indexed::open(&vectors, &ann, None).unwrap();
        assert_eq!((exact.kind(), exact.is_exact()), ("flat", true));
        let truth = exact.search(&queries, 10, &params, None).unwrap();
        let graph = HnswParams { ef_construction: 40, ..Default::default() };
        for kind in [Kind::Hnsw, Kind::HnswRs] {
            let settings = VectorSettings { kind, hnsw: Some(graph), ..Default::default() }.resolve(2000, 24);
            assert!(settings.build(&Source::Flat(exact.flat().unwrap()), &ann).unwrap());
            let index = Indexed::open(&vectors, &ann, Some(&settings)).unwrap();
            assert_eq!((index.kind(), index.is_exact()), (kind.name(), false));
            let found = index.search(&queries, 10, &params, None).unwrap();
            let same: usize = truth.iter().zip(&found).map(|(t, f)| f.iter().filter(|h| t.contains(h)).count()).sum();
            assert!(same >= 195, "{same} of 200, rows and bits of the similarities");
            let near = index.within(&queries, 0.7, &params, None).unwrap();
            let all = exact.within(&queries, 0.7, &params, None).unwrap();
            let (near, all): (usize, usize) = (near.iter().map(Vec::len).sum(), all.iter().map(Vec::len).sum());
            assert!(near <= all && near * 100 >= all * 97, "{near} of {all}");
            // Without the vectors: the graph's own int8 codes.
            let none = VectorSettings { store: StoredAs(None), ..settings };
            let rough = Indexed::open(Path::new("nowhere"), &ann, Some(&none)).unwrap();
            assert_eq!((rough.len(), rough.dim(), rough.stored().name()), (2000, 24, "none"));
            let found = rough.search(&queries, 10, &params, None).unwrap();
            let scores = truth.iter().flatten().zip(found.iter().flatten());
            assert!(scores.clone().all(|(t, f)| (t.score - f.score).abs() < 0.03));
            assert!(scores.clone().any(|(t, f)| t.score != f.score), "codes are not vectors");
            let refused = [rough.flat().err(), rough.searcher(true).err()].map(|e| e.unwrap().to_string());
            assert!(refused.iter().all(|e| e.contains("built to store none")), "{refused:?}");
        }
        let mut writer = FlatWriter::create(&vectors, 24, Element::F16).unwrap();
        writer.push(&rows[24..]).unwrap();
        writer.finish().unwrap();
        let error = Indexed::open(&vectors, &ann, None).err().unwrap().to_string();
        assert!(error.contains("the vectors beside it are 1999 of 24"), "{error}");
    }
}
