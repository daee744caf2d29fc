//! `hnsw`: a hierarchical navigable small-world graph (Malkov & Yashunin, arXiv 1603.09320) searched where it lies.
//!
//! The graph is one memory-mapped file of fixed-width neighbour lists, so opening reads a page, resident memory is what
//! searches touch, several processes share it, and every number read from it is checked when it is used: a damaged file
//! gives an error or a poor answer, never a crash. The vectors that steer the search are stored in the file (int8 by
//! default; exact similarities come from [`crate::ann::rescore`]).
//!
//! Two builders write it: [`build`] (ours: the same bytes at any thread count) and [`build_with_hnsw_rs`] (the graph of
//! the `hnsw_rs` crate; reproducible on one thread only).
//!
//! File: codes (`rows × dim`, padded to 64 bytes), int8 scales (padded), level-0 lists (`rows × (1 + 2M)` u32: a count,
//! then rows), upper offsets (`rows + 1` u32: first upper list of a row; padded), upper lists (`(1 + M)` u32 each: one a
//! row and level ≥ 1, lowest level first). Extra fields: M, entry row, entry level, upper lists, ef of construction.
//!
//! Cost at M 16: `dim × width + 136` bytes a row (int8: 4 more) and a few for upper levels; a search's scores grow with
//! `ef` times the length of a list.

mod build;
mod crate_graph;
mod search;

use std::path::Path;
use std::sync::Mutex;

use half::f16;

use super::element::{Data, Element, Rows, Stored};
use super::file::{FileWriter, Header, MappedFile, aligned};
use super::kernel::Isa;
use super::{Hit, Keep, SearchParams, Source, VectorIndex, check_dim, check_queries};
use crate::error::{Error, Result};
pub use build::build;
pub use crate_graph::build_with_hnsw_rs;

pub(super) const KIND: u32 = 2;
const VERSION: u32 = 1;
/// `ef` of a search that does not say.
pub const DEFAULT_EF: usize = 100;
/// Highest level a graph can have.
const MAX_LEVEL: u32 = 31;

/// Settings of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HnswParams {
    /// Neighbours a row has on upper levels; twice as many on level 0. 2 to 256.
    pub m: usize,
    /// Size of the candidate list while building.
    pub ef_construction: usize,
    /// Element type of the vectors in the file.
    pub element: Element,
    /// Seed of the levels and of the order of insertion.
    pub seed: u64,
}

impl Default for HnswParams {
    fn default() -> HnswParams {
        HnswParams { m: 16, ef_construction: 200, element: Element::Int8, seed: 0 }
    }
}

impl HnswParams {
    pub(super) fn check(&self) -> Result<()> {
        if !(2..=256).contains(&self.m) {
            return Err(Error::invalid(format!("hnsw: M is {}, expected 2 to 256", self.m)));
        }
        if !(1..=100_000).contains(&self.ef_construction) {
            return Err(Error::invalid(format!(
                "hnsw: ef_construction is {}, expected 1 to 100000",
                self.ef_construction
            )));
        }
        Ok(())
    }
}

/// Neighbour lists as the file holds them, borrowed from it or from a builder.
#[derive(Debug, Clone, Copy)]
struct Links<'a> {
    m: usize,
    level0: &'a [u32],
    upper_offsets: &'a [u32],
    upper: &'a [u32],
}

impl<'a> Links<'a> {
    /// Neighbours of a row on a level; empty where there are none or the numbers make no sense.
    #[inline]
    fn of(&self, row: u32, level: u32) -> &'a [u32] {
        let (lists, index, width) = if level == 0 {
            (self.level0, row as usize, 2 * self.m)
        } else {
            let Some(&[first, next]) = self.upper_offsets.get(row as usize..row as usize + 2) else { return &[] };
            if level > next.saturating_sub(first) {
                return &[];
            }
            (self.upper, (first + level - 1) as usize, self.m)
        };
        let start = index * (width + 1);
        match lists.get(start..start + width + 1) {
            Some([count, list @ ..]) => &list[..(*count as usize).min(list.len())],
            _ => &[],
        }
    }
}

/// A finished graph in memory.
struct Graph {
    m: usize,
    ef_construction: usize,
    entry: u32,
    entry_level: u32,
    level0: Vec<u32>,
    upper_offsets: Vec<u32>,
    upper: Vec<u32>,
}

impl Graph {
    /// Lists with room for every row's levels, all empty.
    fn empty(levels: &[u32], m: usize, ef_construction: usize) -> Result<Graph> {
        let mut upper_offsets = Vec::with_capacity(levels.len() + 1);
        let mut total = 0u32;
        upper_offsets.push(0);
        for &level in levels {
            total = total.checked_add(level).ok_or_else(|| Error::Limit {
                what: format!("hnsw: {} rows have too many upper levels", levels.len()),
                hint: Some("build more shards, or a larger M".into()),
            })?;
            upper_offsets.push(total);
        }
        let level0 = vec![0; levels.len() * (2 * m + 1)];
        let upper = vec![0; total as usize * (m + 1)];
        Ok(Graph { m, ef_construction, entry: 0, entry_level: 0, level0, upper_offsets, upper })
    }

    fn links(&self) -> Links<'_> {
        Links { m: self.m, level0: &self.level0, upper_offsets: &self.upper_offsets, upper: &self.upper }
    }

    fn level(&self, row: u32) -> u32 {
        self.upper_offsets[row as usize + 1] - self.upper_offsets[row as usize]
    }

    /// Replaces a neighbour list; the caller keeps to its length.
    fn set(&mut self, row: u32, level: u32, list: &[u32]) {
        let (lists, index, width) = if level == 0 {
            (&mut self.level0, row as usize, 2 * self.m)
        } else {
            (&mut self.upper, (self.upper_offsets[row as usize] + level - 1) as usize, self.m)
        };
        let slots = &mut lists[index * (width + 1)..(index + 1) * (width + 1)];
        slots[0] = list.len() as u32;
        slots[1..=list.len()].copy_from_slice(list);
        slots[list.len() + 1..].fill(0);
    }

    fn write(&self, path: &Path, dim: usize, element: Element, vectors: &Stored) -> Result<()> {
        let mut out = FileWriter::create(path)?;
        match vectors {
            Stored::F32(v) => out.write(v)?,
            Stored::F16(v) => out.write(v)?,
            Stored::Int8 { codes, scales } => {
                out.write(codes)?;
                out.align()?;
                out.write(scales)?;
            }
        }
        out.align()?;
        out.write(&self.level0)?;
        out.align()?;
        out.write(&self.upper_offsets)?;
        out.align()?;
        out.write(&self.upper)?;
        let upper_lists = self.upper_offsets.last().copied().unwrap_or(0);
        let fields = [self.m as u32, self.entry, self.entry_level, upper_lists, self.ef_construction as u32, 0];
        let rows = self.upper_offsets.len() as u64 - 1;
        let (dim, element) = (dim as u32, element.code());
        out.finish(Header { kind: KIND, version: VERSION, dim, element, rows, payload: 0, extra: fields })
    }
}

/// Checks what both builders are given and puts it into the element type that is stored.
fn store(source: &Source, params: &HnswParams) -> Result<Stored> {
    check_dim(source.dim(), source.dim())?;
    params.check()?;
    let rows = source.len();
    if rows as u64 >= u64::from(u32::MAX) {
        return Err(Error::Limit {
            what: format!("{rows} vectors are more than one shard can have"),
            hint: Some("build more shards".into()),
        });
    }
    let mut stored = Stored::with_capacity(params.element, rows, source.dim());
    let mut row = Vec::with_capacity(source.dim());
    for i in 0..rows {
        row.clear();
        source.read(i..i + 1, &mut row);
        stored.push(&row);
    }
    Ok(stored)
}

/// An opened `hnsw` index.
#[derive(Debug)]
pub struct HnswIndex {
    file: MappedFile,
    element: Element,
    isa: Isa,
    layout: Layout,
    /// Search memory of threads that are done with it.
    scratch: Mutex<Vec<search::Scratch>>,
}

/// Payload offsets of the sections.
#[derive(Debug, Clone, Copy)]
struct Layout {
    scales: u64,
    level0: u64,
    upper_offsets: u64,
    upper: u64,
}

impl HnswIndex {
    /// Maps an index file. Touches its first page only.
    pub fn open(path: &Path) -> Result<HnswIndex> {
        let file = MappedFile::open(path, KIND, VERSION)?;
        let header = *file.header();
        let element = Element::from_code(header.element)
            .ok_or_else(|| Error::corrupt(path, 20, format!("unknown element type {}", header.element)))?;
        let [m, entry, entry_level, upper_lists, ..] = header.extra.map(u64::from);
        if !(2..=256).contains(&m) {
            return Err(Error::corrupt(path, 40, format!("M is {m}, expected 2 to 256")));
        }
        if header.rows > 0 && entry >= header.rows {
            return Err(Error::corrupt(path, 44, format!("entry row {entry} of {} rows", header.rows)));
        }
        if entry_level > u64::from(MAX_LEVEL) {
            return Err(Error::corrupt(path, 48, format!("entry level {entry_level}")));
        }
        let scales = aligned(header.rows * u64::from(header.dim) * element.width() as u64);
        let scale_count = if element == Element::Int8 { header.rows } else { 0 };
        let level0 = scales + aligned(4 * scale_count);
        let upper_offsets = level0 + aligned(4 * header.rows * (1 + 2 * m));
        let upper = upper_offsets + aligned(4 * (header.rows + 1));
        let expected = upper + 4 * upper_lists * (1 + m);
        if header.payload != expected {
            let what = format!("payload of {} bytes, {expected} expected", header.payload);
            return Err(Error::corrupt(path, 32, what));
        }
        file.advise_random();
        let layout = Layout { scales, level0, upper_offsets, upper };
        let index = HnswIndex { file, element, isa: Isa::detect(), layout, scratch: Mutex::default() };
        index.sections()?;
        Ok(index)
    }

    fn sections(&self) -> Result<(Rows<'_>, Links<'_>)> {
        let header = self.file.header();
        let count = header.rows * u64::from(header.dim);
        let data = match self.element {
            Element::F32 => Data::F32(self.file.section(0, count)?),
            Element::F16 => Data::F16(self.file.section::<f16>(0, count)?),
            Element::Int8 => Data::Int8 {
                codes: self.file.section(0, count)?,
                scales: self.file.section(self.layout.scales, header.rows)?,
            },
        };
        let m = u64::from(header.extra[0]);
        let links = Links {
            m: m as usize,
            level0: self.file.section(self.layout.level0, header.rows * (1 + 2 * m))?,
            upper_offsets: self.file.section(self.layout.upper_offsets, header.rows + 1)?,
            upper: self.file.section(self.layout.upper, u64::from(header.extra[3]) * (1 + m))?,
        };
        Ok((Rows { dim: header.dim as usize, isa: self.isa, data }, links))
    }

    /// Element type of the vectors that steer the search.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Length of the index file in bytes.
    pub fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    /// M and ef of construction, as recorded.
    pub fn settings(&self) -> (usize, usize) {
        (self.file.header().extra[0] as usize, self.file.header().extra[4] as usize)
    }

    fn one(&self, query: &[f32], k: usize, ef: usize, keep: Option<Keep>) -> Result<Vec<Hit>> {
        let (rows, links) = self.sections()?;
        let mut scratch = self.scratch.lock().ok().and_then(|mut pool| pool.pop()).unwrap_or_default();
        let extra = self.file.header().extra;
        let hits = search::search(&rows, &links, (extra[1], extra[2]), query, k, ef, keep, &mut scratch);
        if let Ok(mut pool) = self.scratch.lock() {
            pool.push(scratch);
        }
        Ok(hits)
    }
}

impl VectorIndex for HnswIndex {
    fn kind(&self) -> &'static str {
        "hnsw"
    }
    fn len(&self) -> usize {
        self.file.header().rows as usize
    }
    fn dim(&self) -> usize {
        self.file.header().dim as usize
    }
    fn is_exact(&self) -> bool {
        false
    }
    fn candidates(&self, k: usize) -> usize {
        if self.element == Element::Int8 { 2 * k } else { k }
    }

    /// `params.ef` candidates are kept (at least `k`; 0: [`DEFAULT_EF`]). With a filter the list grows until `k` rows are
    /// found; when that would visit most of the index, all admitted rows are scanned instead.
    fn search(&self, queries: &[f32], k: usize, params: &SearchParams, keep: Option<Keep>) -> Result<Vec<Vec<Hit>>> {
        use rayon::prelude::*;
        check_queries(queries, self.dim())?;
        let ef = if params.ef == 0 { DEFAULT_EF } else { params.ef }.max(k).min(self.len());
        let k = k.min(self.len());
        if queries.len() <= self.dim() {
            return queries.chunks_exact(self.dim()).map(|query| self.one(query, k, ef, keep)).collect();
        }
        queries.par_chunks_exact(self.dim()).map(|query| self.one(query, k, ef, keep)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ann::{by_score, sample};
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn exact(vectors: &[f32], dim: usize, query: &[f32], keep: impl Fn(u32) -> bool) -> Vec<Hit> {
        let score = |row: &[f32]| row.iter().zip(query).map(|(a, b)| a * b).sum::<f32>();
        let mut hits: Vec<Hit> = vectors
            .chunks_exact(dim)
            .zip(0..)
            .filter(|&(_, row)| keep(row))
            .map(|(v, row)| Hit { row, score: score(v) })
            .collect();
        hits.sort_by(by_score);
        hits
    }

    /// Share of the ten nearest rows that are found, over some queries.
    fn recall(index: &HnswIndex, vectors: &[f32], queries: &[f32], ef: usize, keep: Option<Keep>) -> f64 {
        let dim = index.dim();
        let params = SearchParams { ef, nprobe: 0 };
        let found = index.search(queries, 10, &params, keep).unwrap();
        let mut hit = 0;
        let mut all = 0;
        for (hits, query) in found.iter().zip(queries.chunks_exact(dim)) {
            assert!(hits.windows(2).all(|w| by_score(&w[0], &w[1]).is_lt()));
            assert!(hits.iter().all(|h| keep.is_none_or(|k| k(h.row))));
            let best: HashSet<u32> =
                exact(vectors, dim, query, |r| keep.is_none_or(|k| k(r))).iter().take(10).map(|h| h.row).collect();
            hit += hits.iter().filter(|h| best.contains(&h.row)).count();
            all += best.len();
        }
        hit as f64 / all as f64
    }

    type Builder = fn(&Source, &HnswParams, &Path) -> Result<()>;

    fn build(vectors: &[f32], dim: usize, params: &HnswParams, path: &Path) -> Result<()> {
        super::build(&Source::memory(vectors, dim)?, params, path)
    }

    #[test]
    fn both_builders_find_what_a_scan_finds_in_every_element_type() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ann.bin");
        let (vectors, queries) = (sample(3000, 32, 1), sample(60, 32, 2));
        for builder in [super::build as Builder, build_with_hnsw_rs as Builder] {
            for (element, least) in [(Element::F32, 0.97), (Element::F16, 0.97), (Element::Int8, 0.90)] {
                let source = Source::memory(&vectors, 32).unwrap();
                builder(&source, &HnswParams { element, ef_construction: 100, ..Default::default() }, &path).unwrap();
                let index = HnswIndex::open(&path).unwrap();
                assert_eq!((index.len(), index.dim(), index.settings()), (3000, 32, (16, 100)));
                let got = recall(&index, &vectors, &queries, 200, None);
                assert!(got >= least, "{element:?}: {got}");
                // One row in a hundred: the scan; one in two: the graph.
                for modulus in [2, 100] {
                    let keep = move |row: u32| row.is_multiple_of(modulus);
                    let got = recall(&index, &vectors, &queries, 200, Some(&keep));
                    assert!(got >= least - 0.01, "{element:?} filter {modulus}: {got}");
                }
            }
        }
    }

    #[test]
    fn the_same_bytes_at_any_thread_count() {
        let dir = tempfile::tempdir().unwrap();
        let vectors = sample(1200, 24, 9);
        let bytes = |threads: usize| {
            let path = dir.path().join(threads.to_string());
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| build(&vectors, 24, &HnswParams::default(), &path)).unwrap();
            std::fs::read(&path).unwrap()
        };
        let one = bytes(1);
        assert!(one == bytes(2) && one == bytes(4));
    }

    #[test]
    fn many_copies_of_a_vector_do_not_hide_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ann.bin");
        let mut vectors = sample(600, 16, 4);
        let copy = vectors[..16].to_vec();
        (0..600).for_each(|_| vectors.extend_from_slice(&copy));
        build(&vectors, 16, &HnswParams { element: Element::F32, ..Default::default() }, &path).unwrap();
        let index = HnswIndex::open(&path).unwrap();
        let params = SearchParams { ef: 100, nprobe: 0 };
        let found = index.search(&vectors[..600 * 16], 1, &params, None).unwrap();
        let hit = found.iter().enumerate().filter(|(row, hits)| *row == 0 || hits[0].row as usize == *row).count();
        assert!(hit >= 594, "{hit} of 600 rows find themselves");
    }

    #[test]
    fn empty_and_tiny_graphs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ann.bin");
        for rows in [0usize, 1, 2, 5] {
            for builder in [super::build as Builder, build_with_hnsw_rs as Builder] {
                let vectors = sample(rows, 8, 1);
                builder(&Source::memory(&vectors, 8).unwrap(), &HnswParams::default(), &path).unwrap();
                let index = HnswIndex::open(&path).unwrap();
                let hits = index.search(&sample(1, 8, 3), 10, &SearchParams::default(), None).unwrap();
                assert_eq!(hits[0].len(), rows);
                let never = |_: u32| false;
                assert!(
                    index.search(&sample(1, 8, 3), 10, &SearchParams::default(), Some(&never)).unwrap()[0].is_empty()
                );
            }
        }
        let few = HnswParams { m: 1, ..Default::default() };
        assert!(build(&[1.0; 8], 8, &few, &path).unwrap_err().to_string().contains("M is 1"));
        assert!(build(&[f32::NAN; 8], 8, &HnswParams::default(), &path).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn a_damaged_file_never_crashes(at in any::<prop::sample::Index>(), value in any::<u32>(), cut in any::<prop::sample::Index>()) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("ann.bin");
            build(&sample(60, 8, 3), 8, &HnswParams { m: 3, ..Default::default() }, &path).unwrap();
            let good = std::fs::read(&path).unwrap();
            let mut bytes = good.clone();
            let at = at.index(bytes.len() / 4) * 4;
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(index) = HnswIndex::open(&path) {
                let odd = |row: u32| row % 2 == 1;
                for keep in [None, Some(&odd as Keep)] {
                    let _ = index.search(&sample(3, index.dim(), 1), 10, &SearchParams::default(), keep);
                }
            }
            std::fs::write(&path, &good[..cut.index(good.len())]).unwrap();
            prop_assert!(HnswIndex::open(&path).is_err());
        }
    }
}
