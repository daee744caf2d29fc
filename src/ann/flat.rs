//! `flat`: every vector, searched exhaustively. Exact; the oracle of the other kinds and the store they rescore from.
//!
//! Up to [`DIRECT`] queries are compared row by row with the canonical dot product. More are a matrix product: blocks of
//! rows (decoded once where they are not f32) times all queries, each block's scores going straight into the collectors,
//! so that the score matrix never exists. The product rounds differently from the canonical dot product, by at most
//! [`Rows::rounding`]; what it selects is rescored, and where rows within that error may have been dropped the query is
//! collected again by threshold. Answers are therefore the same bits for any batch, thread count and processor.
//!
//! File: codes (`rows × dim` elements), padding to 64 bytes, and for int8 one f32 scale a row. Extra field 0 is the
//! largest norm of a row as f32 bits. Cost of a search: one pass over the codes, `2 · rows · dim` flops a query.

use std::path::Path;

use half::f16;
use rayon::prelude::*;

use super::element::{Data, Element, Rows, quantize};
use super::file::{FileWriter, Header, MappedFile, aligned};
use super::kernel::{Isa, product};
use super::topk::{Above, Collector, TopK, by_score};
use super::{Hit, Keep, SearchParams, VectorIndex, check_dim, check_queries, check_values};
use crate::error::{Error, Result};

pub(super) const KIND: u32 = 1;
const VERSION: u32 = 1;
/// At most this many queries are answered without a matrix product.
pub const DIRECT: usize = 3;
/// Rows of a block of the matrix product.
const BLOCK_ROWS: usize = 512;
/// Queries of a block of the matrix product.
const BLOCK_QUERIES: usize = 256;
/// Queries that share one pass over the rows.
const PASS_QUERIES: usize = 2048;

/// An opened `flat` index.
#[derive(Debug)]
pub struct FlatIndex {
    file: MappedFile,
    element: Element,
    isa: Isa,
    max_norm: f32,
}

impl FlatIndex {
    /// Maps an index file. Touches its first page only.
    pub fn open(path: &Path) -> Result<FlatIndex> {
        let file = MappedFile::open(path, KIND, VERSION)?;
        let header = *file.header();
        let element = Element::from_code(header.element)
            .ok_or_else(|| Error::corrupt(path, 20, format!("unknown element type {}", header.element)))?;
        let max_norm = f32::from_bits(header.extra[0]);
        if !max_norm.is_finite() || max_norm < 0.0 {
            return Err(Error::corrupt(path, 40, format!("{max_norm} cannot be the largest norm")));
        }
        let codes = header.rows * u64::from(header.dim) * element.width() as u64;
        let expected = if element == Element::Int8 { aligned(codes) + 4 * header.rows } else { codes };
        if header.payload != expected {
            let what = format!("payload of {} bytes, {expected} expected for {} rows", header.payload, header.rows);
            return Err(Error::corrupt(path, 32, what));
        }
        let index = FlatIndex { file, element, isa: Isa::detect(), max_norm };
        index.sections()?;
        Ok(index)
    }

    fn sections(&self) -> Result<Data<'_>> {
        let header = self.file.header();
        let count = header.rows * u64::from(header.dim);
        Ok(match self.element {
            Element::F32 => Data::F32(self.file.section(0, count)?),
            Element::F16 => Data::F16(self.file.section::<f16>(0, count)?),
            Element::Int8 => Data::Int8 {
                codes: self.file.section(0, count)?,
                scales: self.file.section(aligned(count), header.rows)?,
            },
        })
    }

    /// The stored vectors.
    pub fn rows(&self) -> Rows<'_> {
        let data = self.sections().unwrap_or(Data::F32(&[]));
        Rows { dim: self.dim(), isa: self.isa, data }
    }

    /// Element type of the stored vectors.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Length of the index file in bytes.
    pub fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    /// One stored vector as f32; `None` beyond the end.
    pub fn vector(&self, row: u32) -> Option<Vec<f32>> {
        ((row as usize) < self.len()).then(|| {
            let mut vector = Vec::with_capacity(self.dim());
            self.rows().decode(row, &mut vector);
            vector
        })
    }

    /// The stored elements of a row, without its scale; empty beyond the end.
    pub fn row_bytes(&self, row: u32) -> &[u8] {
        let range = row as usize * self.dim()..(row as usize + 1) * self.dim();
        match self.sections() {
            Ok(Data::F32(v)) => v.get(range).map(bytemuck::cast_slice),
            Ok(Data::F16(v)) => v.get(range).map(bytemuck::cast_slice),
            Ok(Data::Int8 { codes, .. }) => codes.get(range).map(bytemuck::cast_slice),
            Err(_) => None,
        }
        .unwrap_or_default()
    }

    /// Exact similarities of `query` and the given rows, in their order. A row beyond the end is an error.
    pub fn scores(&self, query: &[f32], rows: &[u32]) -> Result<Vec<f32>> {
        check_dim(query.len(), self.dim())?;
        check_values("query", query, self.dim())?;
        if let Some(row) = rows.iter().find(|&&row| row as usize >= self.len()) {
            return Err(Error::invalid(format!("row {row} is beyond the {} rows of the index", self.len())));
        }
        let stored = self.rows();
        let prepared = stored.prepare(query);
        for &row in rows {
            stored.prefetch(row);
        }
        Ok(rows.iter().map(|&row| stored.score(&prepared, row)).collect())
    }

    /// Collectors of one exhaustive pass by canonical scores: one a query.
    fn direct<C: Collector>(
        &self,
        queries: &[f32],
        new: impl Fn(usize) -> C + Sync,
        keep: Option<Keep>,
    ) -> Vec<Vec<Hit>> {
        let rows = self.rows();
        let prepared: Vec<_> = queries.chunks_exact(self.dim()).map(|q| rows.prepare(q)).collect();
        let scan = |range: std::ops::Range<u32>| {
            let mut found: Vec<C> = (0..prepared.len()).map(&new).collect();
            for row in range {
                let mut kept = None;
                for (query, collector) in prepared.iter().zip(&mut found) {
                    let score = rows.score(query, row);
                    if score >= collector.threshold() && *kept.get_or_insert_with(|| keep.is_none_or(|k| k(row))) {
                        collector.push(Hit { row, score });
                    }
                }
            }
            found.into_iter().map(C::into_sorted).collect::<Vec<_>>()
        };
        join(prepared.len(), &ranges(self.len(), 8192), scan)
    }

    /// Collectors of one exhaustive pass by matrix products.
    fn products<C: Collector>(
        &self,
        queries: &[f32],
        new: impl Fn(usize) -> C + Sync,
        keep: Option<Keep>,
    ) -> Vec<Vec<Hit>> {
        let (rows, dim) = (self.rows(), self.dim());
        let count = queries.len() / dim;
        let scan = |range: std::ops::Range<u32>| {
            let mut found: Vec<C> = (0..count).map(&new).collect();
            let mut decoded = Vec::new();
            let mut scores = vec![0f32; BLOCK_ROWS * BLOCK_QUERIES.min(count)];
            for start in range.clone().step_by(BLOCK_ROWS) {
                let end = range.end.min(start + BLOCK_ROWS as u32);
                let block = match rows.data {
                    Data::F32(v) => &v[start as usize * dim..end as usize * dim],
                    _ => {
                        decoded.clear();
                        (start..end).for_each(|row| rows.decode(row, &mut decoded));
                        &decoded[..]
                    }
                };
                let height = (end - start) as usize;
                for (queries, collectors) in queries.chunks(BLOCK_QUERIES * dim).zip(found.chunks_mut(BLOCK_QUERIES)) {
                    product(block, queries, dim, &mut scores);
                    for (scores, collector) in scores.chunks_exact(height).zip(collectors) {
                        sift(scores, start, collector, keep);
                    }
                }
            }
            found.into_iter().map(C::into_sorted).collect::<Vec<_>>()
        };
        join(count, &ranges(self.len(), BLOCK_ROWS), scan)
    }

    /// All rows with a canonical score of at least the query's threshold, given thresholds one a query.
    fn at_least(&self, queries: &[f32], thresholds: &[f32], keep: Option<Keep>) -> Vec<Vec<Hit>> {
        let dim = self.dim();
        if thresholds.len() <= DIRECT {
            return self.direct(queries, |q| Above { at_least: thresholds[q], hits: Vec::new() }, keep);
        }
        let rows = self.rows();
        let slack: Vec<f32> = queries.chunks_exact(dim).map(|q| rows.rounding(q, self.max_norm)).collect();
        let mut found =
            self.products(queries, |q| Above { at_least: thresholds[q] - slack[q], hits: Vec::new() }, keep);
        found.par_iter_mut().zip(queries.par_chunks_exact(dim)).zip(thresholds).for_each(|((hits, query), &least)| {
            rescore(&rows, query, hits);
            hits.retain(|hit| hit.score >= least);
        });
        found
    }

    fn best(&self, queries: &[f32], k: usize, keep: Option<Keep>) -> Vec<Vec<Hit>> {
        let dim = self.dim();
        if queries.len() / dim <= DIRECT {
            let mut found = self.direct(queries, |_| TopK::new(k), keep);
            found.iter_mut().for_each(|hits| hits.truncate(k));
            return found;
        }
        let rows = self.rows();
        let wide = k + (k / 4).max(16);
        let mut found = self.products(queries, |_| TopK::new(wide), keep);
        let again: Vec<Option<f32>> = found
            .par_iter_mut()
            .zip(queries.par_chunks_exact(dim))
            .map(|(hits, query)| {
                hits.truncate(wide);
                // Rows at or below the last score of a full collector may have been dropped.
                let dropped = if hits.len() == wide { hits.last().map(|hit| hit.score) } else { None };
                rescore(&rows, query, hits);
                hits.truncate(k);
                let worst = hits.last()?.score;
                (dropped? + rows.rounding(query, self.max_norm) >= worst).then_some(worst)
            })
            .collect();
        let close: Vec<usize> = (0..again.len()).filter(|&q| again[q].is_some()).collect();
        let thresholds: Vec<f32> = again.iter().filter_map(|worst| *worst).collect();
        let repeated: Vec<f32> = close.iter().flat_map(|&q| &queries[q * dim..(q + 1) * dim]).copied().collect();
        if !close.is_empty() {
            for (&q, mut hits) in close.iter().zip(self.at_least(&repeated, &thresholds, keep)) {
                hits.truncate(k);
                found[q] = hits;
            }
        }
        found
    }
}

/// Passes a block's scores of one query on to its collector.
fn sift<C: Collector>(scores: &[f32], first: u32, collector: &mut C, keep: Option<Keep>) {
    let mut threshold = collector.threshold();
    for (i, chunk) in scores.chunks(32).enumerate() {
        // Without branches, so that the comparison of a chunk is a few vector instructions.
        if !chunk.iter().fold(false, |any, &score| any | (score >= threshold)) {
            continue;
        }
        for (j, &score) in chunk.iter().enumerate() {
            let row = first + (32 * i + j) as u32;
            if score >= threshold && keep.is_none_or(|keep| keep(row)) {
                collector.push(Hit { row, score });
                threshold = collector.threshold();
            }
        }
    }
}

/// Replaces scores by canonical ones and sorts.
fn rescore(rows: &Rows, query: &[f32], hits: &mut [Hit]) {
    let prepared = rows.prepare(query);
    for hit in hits.iter_mut() {
        hit.score = rows.score(&prepared, hit.row);
    }
    hits.sort_unstable_by(by_score);
}

/// Cuts `0..rows` into a few ranges a thread, each a multiple of `unit` long.
fn ranges(rows: usize, unit: usize) -> Vec<std::ops::Range<u32>> {
    let parts = rayon::current_num_threads() * 4;
    let length = rows.div_ceil(parts).div_ceil(unit) * unit;
    (0..rows).step_by(length.max(1)).map(|start| start as u32..(start + length).min(rows) as u32).collect()
}

/// Runs `scan` over ranges of rows in parallel and merges what it finds for each query, best first.
fn join(
    queries: usize,
    ranges: &[std::ops::Range<u32>],
    scan: impl Fn(std::ops::Range<u32>) -> Vec<Vec<Hit>> + Sync,
) -> Vec<Vec<Hit>> {
    let parts: Vec<Vec<Vec<Hit>>> = ranges.par_iter().map(|range| scan(range.clone())).collect();
    let mut merged = vec![Vec::new(); queries];
    for part in parts {
        for (all, hits) in merged.iter_mut().zip(part) {
            all.extend(hits);
        }
    }
    merged.par_iter_mut().for_each(|hits| hits.sort_unstable_by(by_score));
    merged
}

impl VectorIndex for FlatIndex {
    fn kind(&self) -> &'static str {
        "flat"
    }
    fn len(&self) -> usize {
        self.file.header().rows as usize
    }
    fn dim(&self) -> usize {
        self.file.header().dim as usize
    }
    fn is_exact(&self) -> bool {
        true
    }

    fn search(&self, queries: &[f32], k: usize, _: &SearchParams, keep: Option<Keep>) -> Result<Vec<Vec<Hit>>> {
        check_queries(queries, self.dim())?;
        let k = k.min(self.len());
        Ok(queries.chunks(PASS_QUERIES * self.dim()).flat_map(|pass| self.best(pass, k, keep)).collect())
    }

    fn within(&self, queries: &[f32], at_least: f32, _: &SearchParams, keep: Option<Keep>) -> Result<Vec<Vec<Hit>>> {
        check_queries(queries, self.dim())?;
        let pass = |pass: &[f32]| self.at_least(pass, &vec![at_least; pass.len() / self.dim()], keep);
        Ok(queries.chunks(PASS_QUERIES * self.dim()).flat_map(pass).collect())
    }
}

/// Writes a `flat` index row by row.
#[derive(Debug)]
pub struct FlatWriter {
    out: FileWriter,
    dim: usize,
    element: Element,
    rows: u64,
    scales: Vec<f32>,
    max_norm: f32,
}

impl FlatWriter {
    /// Creates the file; it is not a valid index before [`FlatWriter::finish`].
    pub fn create(path: &Path, dim: usize, element: Element) -> Result<FlatWriter> {
        check_dim(dim, dim)?;
        let out = FileWriter::create(path)?;
        Ok(FlatWriter { out, dim, element, rows: 0, scales: Vec::new(), max_norm: 0.0 })
    }

    /// Appends `vectors.len() / dim` rows. NaN, infinite or incomplete rows are refused, and nothing is appended.
    pub fn push(&mut self, vectors: &[f32]) -> Result<()> {
        check_values("vector", vectors, self.dim)?;
        let mut decoded = Vec::with_capacity(self.dim);
        for row in vectors.chunks_exact(self.dim) {
            decoded.clear();
            match self.element {
                Element::F32 => {
                    self.out.write(row)?;
                    decoded.extend_from_slice(row);
                }
                Element::F16 => {
                    let halves: Vec<f16> = row.iter().map(|&x| f16::from_f32(x)).collect();
                    if let Some(i) = halves.iter().position(|x| !x.is_finite()) {
                        return Err(Error::invalid_hint(
                            format!("vector {}: {} is too large for f16", self.rows, row[i]),
                            "store it as f32 or int8, or normalise the vectors",
                        ));
                    }
                    self.out.write(&halves)?;
                    decoded.extend(halves.iter().map(|x| x.to_f32()));
                }
                Element::Int8 => {
                    let mut codes = Vec::with_capacity(self.dim);
                    let scale = quantize(row, &mut codes);
                    self.out.write(&codes)?;
                    self.scales.push(scale);
                    decoded.extend(codes.iter().map(|&c| f32::from(c) * scale));
                }
            }
            let norm = decoded.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt() as f32;
            self.max_norm = self.max_norm.max(norm.next_up().min(f32::MAX));
            self.rows += 1;
        }
        Ok(())
    }

    /// Appends a row of another index as it is stored there, or encoded anew where that has another element type.
    pub fn copy(&mut self, from: &FlatIndex, row: u32) -> Result<()> {
        check_dim(from.dim(), self.dim)?;
        let Some(vector) = from.vector(row) else {
            return Err(Error::invalid(format!("row {row} is beyond the {} rows of the index", from.len())));
        };
        if from.element != self.element {
            return self.push(&vector);
        }
        self.out.write(from.row_bytes(row))?;
        if let Data::Int8 { scales, .. } = from.rows().data {
            self.scales.extend(scales.get(row as usize));
        }
        // Not less than any norm, which is all that is asked of it.
        let norm = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt() as f32;
        self.max_norm = self.max_norm.max(norm.next_up().min(f32::MAX));
        self.rows += 1;
        Ok(())
    }

    /// Completes the file and makes it durable.
    pub fn finish(mut self) -> Result<()> {
        if self.rows >= u64::from(u32::MAX) {
            return Err(Error::Limit {
                what: format!("{} vectors are more than one shard can have", self.rows),
                hint: Some("build more shards".into()),
            });
        }
        if self.element == Element::Int8 {
            self.out.align()?;
            self.out.write(&self.scales)?;
        }
        let extra = [self.max_norm.to_bits(), 0, 0, 0, 0, 0];
        self.out.finish(Header {
            kind: KIND,
            version: VERSION,
            dim: self.dim as u32,
            element: self.element.code(),
            rows: self.rows,
            payload: 0,
            extra,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ann::sample;
    use proptest::prelude::*;

    fn build(vectors: &[f32], dim: usize, element: Element) -> (tempfile::TempDir, FlatIndex) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vectors.bin");
        let mut writer = FlatWriter::create(&path, dim, element).unwrap();
        writer.push(vectors).unwrap();
        writer.finish().unwrap();
        let index = FlatIndex::open(&path).unwrap();
        (dir, index)
    }

    /// Every row's canonical score, sorted.
    fn naive(index: &FlatIndex, query: &[f32], keep: Option<Keep>) -> Vec<Hit> {
        let all: Vec<u32> = (0..index.len() as u32).filter(|&r| keep.is_none_or(|k| k(r))).collect();
        let scores = index.scores(query, &all).unwrap();
        let mut hits: Vec<Hit> = all.into_iter().zip(scores).map(|(row, score)| Hit { row, score }).collect();
        hits.sort_by(by_score);
        hits
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_path_equals_a_sort_of_all_scores(
            rows in 0usize..1500, dim in 1usize..40, count in 1usize..9, k in 0usize..60, copies in 1usize..50,
            element in prop::sample::select(vec![Element::F32, Element::F16, Element::Int8]),
            filtered in any::<bool>(), seed in any::<u64>(),
        ) {
            // Rows repeat (copies > 1), so that ties straddle every boundary.
            let distinct = sample(rows.div_ceil(copies), dim, seed);
            let vectors: Vec<f32> =
                (0..rows).flat_map(|r| distinct[r % rows.div_ceil(copies) * dim..][..dim].to_vec()).collect();
            let queries = sample(count, dim, seed ^ 1);
            let (_dir, index) = build(&vectors, dim, element);
            let third = |row: u32| row.is_multiple_of(3);
            let keep: Option<Keep> = filtered.then_some(&third as Keep);
            let best = index.search(&queries, k, &SearchParams::default(), keep).unwrap();
            let within = index.within(&queries, 0.3, &SearchParams::default(), keep).unwrap();
            for (q, query) in queries.chunks_exact(dim).enumerate() {
                let mut expected = naive(&index, query, keep);
                prop_assert_eq!(&within[q], &expected.iter().copied().filter(|h| h.score >= 0.3).collect::<Vec<_>>());
                expected.truncate(k);
                prop_assert_eq!(&best[q], &expected);
            }
        }

        #[test]
        fn a_damaged_file_is_an_error_or_another_index_but_never_a_crash(
            at in 0usize..700, value in any::<u8>(), cut in 0usize..700,
            element in prop::sample::select(vec![Element::F32, Element::F16, Element::Int8]),
        ) {
            let (dir, _) = build(&sample(20, 16, 3), 16, element);
            let path = dir.path().join("vectors.bin");
            let good = std::fs::read(&path).unwrap();
            let mut bytes = good.clone();
            let at = at % bytes.len();
            bytes[at] = value;
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(index) = FlatIndex::open(&path) {
                let dim = index.dim();
                let _ = index.search(&sample(5, dim, 1), 3, &SearchParams::default(), None);
            }
            std::fs::write(&path, &good[..cut % good.len()]).unwrap();
            prop_assert!(FlatIndex::open(&path).is_err());
        }
    }

    #[test]
    fn a_copied_row_has_the_same_bytes() {
        for element in [Element::F32, Element::F16, Element::Int8] {
            let (_from, index) = build(&sample(300, 20, 9), 20, element);
            let dir = tempfile::tempdir().unwrap();
            let mut writer = FlatWriter::create(&dir.path().join("v"), 20, element).unwrap();
            let rows: Vec<u32> = (0..300).filter(|r| r % 3 != 1).collect();
            rows.iter().for_each(|&row| writer.copy(&index, row).unwrap());
            assert!(writer.copy(&index, 300).is_err());
            writer.finish().unwrap();
            let copy = FlatIndex::open(&dir.path().join("v")).unwrap();
            assert_eq!(copy.len(), rows.len());
            for (new, &old) in rows.iter().enumerate() {
                assert_eq!(copy.row_bytes(new as u32), index.row_bytes(old));
                assert_eq!(copy.vector(new as u32), index.vector(old));
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let vectors = sample(3000, 24, 5);
        let (_dir, index) = build(&vectors, 24, Element::F16);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| index.search(&vectors[..24 * 40], 9, &SearchParams::default(), None).unwrap())
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
        // Alone (dot products) and together (matrix product): the same answers.
        for (q, query) in vectors[..24 * 40].chunks_exact(24).enumerate() {
            assert_eq!(index.search(query, 9, &SearchParams::default(), None).unwrap()[0], one[q]);
        }
    }

    #[test]
    fn bad_input_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = FlatWriter::create(&dir.path().join("v"), 4, Element::F16).unwrap();
        let nan = writer.push(&[0.0, 0.0, 0.0, 0.0, 1.0, f32::NAN, 0.0, 0.0]).unwrap_err();
        assert_eq!(nan.to_string(), "vector 1: element 1 is NaN");
        assert!(writer.push(&[1.0; 6]).unwrap_err().to_string().contains("not whole vectors of 4"));
        assert!(writer.push(&[1e6, 0.0, 0.0, 0.0]).unwrap_err().to_string().contains("too large for f16"));
        let (_dir, index) = build(&sample(5, 8, 0), 8, Element::F32);
        assert!(index.search(&[1.0; 12], 1, &SearchParams::default(), None).is_err());
        assert!(index.search(&[f32::INFINITY; 8], 1, &SearchParams::default(), None).is_err());
        assert!(index.scores(&[1.0; 8], &[5]).is_err());
        assert!(index.vector(5).is_none());
    }
}
