//! `ivf`: a FAISS index of any factory string, for corpora that are too large for vectors in full.
//!
//! `IVF4096,Flat`, `IVF4096,SQ8`, `OPQ48_192,IVF4096,PQ48`, `IVF4096,RaBitQ`: whatever the FAISS factory takes, by inner
//! product. Scores of compressed kinds are rough; pass them through [`crate::ann::rescore`] (quantisers without it lose
//! most of their recall). Needs the cargo feature `faiss`; without it every function here is [`Error::FeatureOff`].
//!
//! Two files: `PATH` (header; then, as JSON, factory, training sample and the FAISS file's length and xxh3) and
//! `PATH.faiss`, which is FAISS's own. Opening maps the inverted lists, so that resident memory is the coarse quantiser
//! and the lists that were probed. FAISS trusts its file: the length is checked on opening, and the hash too up to
//! [`HASHED_ON_OPEN`] bytes (beyond, by [`IvfIndex::verify`]).
//!
//! Searches take no lock and give the C API one thread each; the threads are those of the current rayon pool.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file::{FileWriter, Header, MappedFile};
use super::{Hit, Keep, SearchParams, Source, VectorIndex, check_dim, check_queries};
use crate::error::{Error, Result};

#[cfg(feature = "faiss")]
mod faiss;
#[cfg(not(feature = "faiss"))]
#[path = "off.rs"]
mod faiss;

pub(super) const KIND: u32 = 3;
const VERSION: u32 = 1;
/// Lists probed by a search that does not say.
pub const DEFAULT_NPROBE: usize = 32;
/// FAISS files up to this many bytes are hashed when they are opened.
pub const HASHED_ON_OPEN: u64 = 256 << 20;

/// Settings of an `ivf` index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IvfParams {
    /// FAISS index factory string.
    pub factory: String,
    /// Rows to train on, evenly spread (0: 64 a list, at least 65,536, at most all).
    pub train: usize,
}

/// What the first of the two files says besides its header.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Description {
    factory: String,
    trained_on: usize,
    bytes: u64,
    xxh3: String,
}

/// Whether this binary and this machine can make and open the kind; an error says why not.
pub fn available() -> Result<()> {
    faiss::ready()
}

fn faiss_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".faiss");
    PathBuf::from(name)
}

fn hash(path: &Path) -> Result<String> {
    use std::io::Read;
    let mut file = std::fs::File::open(path).map_err(Error::io(path, "open"))?;
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(Error::io(path, "read"))?;
        if read == 0 {
            return Ok(format!("{:016x}", hasher.digest()));
        }
        hasher.update(&buffer[..read]);
    }
}

/// Trains and fills an index of `source` and writes it to `path` and `path.faiss`.
pub fn build(source: &Source, params: &IvfParams, path: &Path) -> Result<()> {
    check_dim(source.dim(), source.dim())?;
    let data = faiss_path(path);
    let trained_on = faiss::build(source, params, &data)?;
    std::fs::File::open(&data).and_then(|f| f.sync_all()).map_err(Error::io(&data, "sync"))?;
    describe(path, &params.factory, trained_on, source.len(), source.dim())
}

/// What was found in a FAISS file made elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    pub rows: usize,
    pub dim: usize,
    /// The ids of the rows, where the file has an id map.
    pub ids: Option<Vec<i64>>,
}

/// Takes over a FAISS file made elsewhere: the index, out of its id map if it is in one, goes to `path.faiss` and its
/// description to `path`.
///
/// It is read once, as a whole. It must compare by inner product, as everything here does, and inside an id map its
/// vectors must be numbered `0..n`, as FAISS does by itself.
///
/// # Errors
/// A file FAISS cannot read; another metric; vectors that were added with ids of their own instead of an id map; no vectors.
pub fn import(from: &Path, path: &Path) -> Result<Imported> {
    let data = faiss_path(path);
    let imported = faiss::take_over(from, &data)?;
    std::fs::File::open(&data).and_then(|f| f.sync_all()).map_err(Error::io(&data, "sync"))?;
    describe(path, "imported", 0, imported.rows, imported.dim)?;
    Ok(imported)
}

/// Writes the first of the two files once the second is complete.
fn describe(path: &Path, factory: &str, trained_on: usize, rows: usize, dim: usize) -> Result<()> {
    check_dim(dim, dim)?;
    let data = faiss_path(path);
    let bytes = std::fs::metadata(&data).map_err(Error::io(&data, "open"))?.len();
    let description = Description { factory: factory.into(), trained_on, bytes, xxh3: hash(&data)? };
    let json = serde_json::to_vec(&description).map_err(|e| Error::invalid(format!("ivf description: {e}")))?;
    let mut out = FileWriter::create(path)?;
    out.write(&json)?;
    let (dim, rows) = (dim as u32, rows as u64);
    out.finish(Header { kind: KIND, version: VERSION, dim, element: 0, rows, payload: 0, extra: [0; 6] })
}

/// An opened `ivf` index.
#[derive(Debug)]
pub struct IvfIndex {
    path: PathBuf,
    rows: usize,
    dim: usize,
    description: Description,
    index: faiss::Index,
}

impl IvfIndex {
    /// Opens both files; inverted lists are mapped.
    pub fn open(path: &Path) -> Result<IvfIndex> {
        let file = MappedFile::open(path, KIND, VERSION)?;
        let header = *file.header();
        let description: Description = serde_json::from_slice(file.section(0, header.payload)?)
            .map_err(|e| Error::corrupt(path, 64, format!("description: {e}")))?;
        let data = faiss_path(path);
        let length = std::fs::metadata(&data).map_err(Error::io(&data, "open"))?.len();
        if length != description.bytes {
            return Err(Error::corrupt(&data, 0, format!("{length} bytes, {} expected", description.bytes)));
        }
        let index = IvfIndex {
            path: data,
            rows: header.rows as usize,
            dim: header.dim as usize,
            description,
            index: faiss::Index::closed(),
        };
        if length <= HASHED_ON_OPEN {
            index.verify()?;
        }
        let opened = faiss::Index::open(&index.path, true)?;
        if (opened.len(), opened.dim()) != (index.rows, index.dim) {
            let what = format!("{} vectors of {} dimensions inside", opened.len(), opened.dim());
            return Err(Error::corrupt(&index.path, 0, format!("{what}, {} of {} expected", index.rows, index.dim)));
        }
        Ok(IvfIndex { index: opened, ..index })
    }

    /// Compares the FAISS file with its recorded hash; reads all of it.
    pub fn verify(&self) -> Result<()> {
        let found = hash(&self.path)?;
        if found != self.description.xxh3 {
            return Err(Error::corrupt(&self.path, 0, format!("xxh3 {found}, {} expected", self.description.xxh3)));
        }
        Ok(())
    }

    /// The factory string the index was built with.
    pub fn factory(&self) -> &str {
        &self.description.factory
    }

    /// Number of inverted lists, for indexes that have them.
    pub fn lists(&self) -> Option<usize> {
        self.index.lists()
    }

    /// Length of the FAISS file in bytes.
    pub fn bytes(&self) -> u64 {
        self.description.bytes
    }
}

impl VectorIndex for IvfIndex {
    fn kind(&self) -> &'static str {
        "ivf"
    }
    fn len(&self) -> usize {
        self.rows
    }
    fn dim(&self) -> usize {
        self.dim
    }
    fn is_exact(&self) -> bool {
        false
    }
    fn candidates(&self, k: usize) -> usize {
        if self.factory().ends_with(",Flat") { k } else { 10 * k }
    }

    /// Probes `params.nprobe` lists (0: [`DEFAULT_NPROBE`]). A filter is evaluated for every row, once a call.
    fn search(&self, queries: &[f32], k: usize, params: &SearchParams, keep: Option<Keep>) -> Result<Vec<Vec<Hit>>> {
        check_queries(queries, self.dim)?;
        let count = queries.len() / self.dim;
        if self.rows == 0 || k == 0 || count == 0 {
            return Ok(vec![Vec::new(); count]);
        }
        let bits: Option<Vec<u8>> = keep.map(|keep| {
            let mut bits = vec![0u8; self.rows.div_ceil(8)];
            (0..self.rows).filter(|&row| keep(row as u32)).for_each(|row| bits[row / 8] |= 1 << (row % 8));
            bits
        });
        self.index.search(queries, k.min(self.rows), params.nprobe, bits.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ann::sample;

    #[cfg(not(feature = "faiss"))]
    #[test]
    fn without_the_feature_the_error_says_how_to_get_it() {
        let dir = tempfile::tempdir().unwrap();
        let vectors = sample(10, 4, 1);
        let params = IvfParams { factory: "IVF2,Flat".into(), train: 0 };
        let error = build(&Source::memory(&vectors, 4).unwrap(), &params, &dir.path().join("a")).unwrap_err();
        assert!(error.hint().unwrap().contains("--features faiss"), "{error}");
        assert!(matches!(error, Error::FeatureOff { feature: "faiss", .. }));
    }

    #[cfg(feature = "faiss")]
    mod with_faiss {
        use super::*;
        use crate::ann::{Element, FlatIndex, FlatWriter, recall};

        fn pair(dir: &Path, rows: usize, dim: usize, factory: &str) -> (FlatIndex, IvfIndex) {
            let mut writer = FlatWriter::create(&dir.join("v"), dim, Element::F32).unwrap();
            writer.push(&sample(rows, dim, 1)).unwrap();
            writer.finish().unwrap();
            let flat = FlatIndex::open(&dir.join("v")).unwrap();
            let params = IvfParams { factory: factory.into(), train: 0 };
            build(&Source::Flat(&flat), &params, &dir.join("a")).unwrap();
            (flat, IvfIndex::open(&dir.join("a")).unwrap())
        }

        #[test]
        fn factories_find_what_a_scan_finds_after_rescoring() {
            let queries = sample(50, 32, 2);
            for (factory, least) in
                [("IVF16,Flat", 0.999), ("IVF16,SQ8", 0.99), ("OPQ8_32,IVF16,PQ8", 0.9), ("IVF16,RaBitQ", 0.95)]
            {
                let dir = tempfile::tempdir().unwrap();
                let (flat, ivf) = pair(dir.path(), 3000, 32, factory);
                assert_eq!((ivf.lists(), ivf.factory(), ivf.len(), ivf.dim()), (Some(16), factory, 3000, 32));
                let measure = |nprobe| {
                    let params = SearchParams { ef: 0, nprobe };
                    recall(&ivf, &flat, &queries, None, 10, 200, &params).unwrap().recall
                };
                assert!(measure(16) >= least, "{factory}: {}", measure(16));
                assert!(measure(1) < measure(16), "{factory}");
            }
        }

        #[test]
        fn filters_and_threads() {
            let dir = tempfile::tempdir().unwrap();
            let (flat, ivf) = pair(dir.path(), 2000, 16, "IVF8,Flat");
            let queries = sample(100, 16, 5);
            let params = SearchParams { ef: 0, nprobe: 8 };
            let third = |row: u32| row % 3 == 1;
            for keep in [None, Some(&third as Keep)] {
                let truth = flat.search(&queries, 7, &params, keep).unwrap();
                let run = || ivf.search(&queries, 7, &params, keep).unwrap();
                let rows = |all: &[Vec<Hit>]| all.iter().flatten().map(|h| h.row).collect::<Vec<_>>();
                std::thread::scope(|scope| {
                    for thread in (0..4).map(|_| scope.spawn(run)).collect::<Vec<_>>() {
                        let found = thread.join().unwrap();
                        let same = rows(&found).iter().zip(rows(&truth)).filter(|&(&a, b)| a == b).count();
                        assert!(same >= 695 && found.iter().all(|hits| hits.len() == 7), "{same}");
                    }
                });
            }
            assert_eq!(ivf.within(&queries[..16], -1.0, &params, None).unwrap()[0].len(), 2000);
        }

        #[test]
        fn bad_input_is_an_error() {
            let dir = tempfile::tempdir().unwrap();
            let vectors = sample(100, 8, 1);
            let source = Source::memory(&vectors, 8).unwrap();
            let path = dir.path().join("a");
            let params = |factory: &str| IvfParams { factory: factory.into(), train: 0 };
            let error = build(&source, &params("IVF4,Nonsense"), &path).unwrap_err();
            assert!(error.to_string().contains("IVF4,Nonsense"), "{error}");
            build(&source, &params("IVF4,Flat"), &path).unwrap();
            let data = faiss_path(&path);
            let good = std::fs::read(&data).unwrap();
            for at in (0..good.len()).step_by(97) {
                let mut bytes = good.clone();
                bytes[at] ^= 0x41;
                std::fs::write(&data, &bytes).unwrap();
                assert!(matches!(IvfIndex::open(&path), Err(Error::Corrupt { .. })));
            }
            std::fs::write(&data, &good[..good.len() / 2]).unwrap();
            assert!(IvfIndex::open(&path).unwrap_err().to_string().contains("expected"));
            assert!(import(&data, &dir.path().join("b")).is_err());
            std::fs::write(&data, &good).unwrap();
            assert_eq!(IvfIndex::open(&path).unwrap().len(), 100);
            let found = import(&data, &dir.path().join("b")).unwrap();
            assert_eq!(found, Imported { rows: 100, dim: 8, ids: None });
            let params = SearchParams { ef: 0, nprobe: 4 };
            let hits = IvfIndex::open(&dir.path().join("b")).unwrap().search(&vectors[..8], 1, &params, None).unwrap();
            assert_eq!(hits[0][0].row, 0);
            std::fs::write(&data, b"IxMp and so on").unwrap();
            assert!(matches!(import(&data, &dir.path().join("b")), Err(Error::Corrupt { .. })));
        }

        #[test]
        fn an_id_map_is_taken_apart_and_what_does_not_fit_is_refused() {
            let dir = tempfile::tempdir().unwrap();
            let (from, to) = (dir.path().join("made.faiss"), dir.path().join("ann.bin"));
            let vectors = sample(300, 8, 1);
            let ids: Vec<i64> = (0..300).map(|i| 7_000_000_000 - 3 * i).collect();
            for factory in ["IDMap,Flat", "IDMap2,Flat", "IDMap,IVF4,Flat", "IDMap,HNSW8,Flat", "IDMap,IVF4,SQ8"] {
                faiss::write_with_ids(factory, &vectors, 8, &ids, true, &from).unwrap();
                let found = import(&from, &to).unwrap();
                assert_eq!(found, Imported { rows: 300, dim: 8, ids: Some(ids.clone()) }, "{factory}");
                let index = IvfIndex::open(&to).unwrap();
                let hits = index.search(&vectors[80..88], 3, &SearchParams::default(), None).unwrap();
                assert_eq!((hits[0].len(), hits[0][0].row), (3, 10), "{factory}");
            }
            faiss::write_with_ids("IVF4,Flat", &vectors, 8, &ids, true, &from).unwrap();
            let error = import(&from, &to).unwrap_err();
            assert!(error.to_string().contains("ids of their own"), "{error}");
            faiss::write_with_ids("IDMap,Flat", &vectors, 8, &ids, false, &from).unwrap();
            let error = import(&from, &to).unwrap_err();
            assert!(error.to_string().contains("inner product"), "{error}");
        }
    }
}
