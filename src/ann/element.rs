//! Element types of stored vectors, and rows of them as the indexes read them.
//!
//! `f32` keeps every bit; `f16` halves the bytes (relative error 2⁻¹¹ an element); `int8` quarters them: a row is its
//! codes times one scale, `max|x| / 127`, so the error of an element is at most half a scale. Queries are never stored:
//! against int8 rows they are rounded to 16 bits, 1/32767 of their largest element (less beyond 516 dimensions), so that
//! the product is one of integers and exact.

use half::f16;
use serde::{Deserialize, Serialize};

use super::kernel::{Isa, dot, dot_bytes, dot_wide, prefetch};
use crate::error::{Error, Result};

/// How a stored vector's elements are represented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    F32,
    #[default]
    F16,
    Int8,
}

impl Element {
    /// Bytes of one element.
    pub fn width(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::F16 => 2,
            Element::Int8 => 1,
        }
    }

    /// Bytes of one row, its scale included.
    pub fn row_bytes(self, dim: usize) -> usize {
        dim * self.width() + if self == Element::Int8 { 4 } else { 0 }
    }

    /// Number in a file's header.
    pub fn code(self) -> u32 {
        match self {
            Element::F32 => 1,
            Element::F16 => 2,
            Element::Int8 => 3,
        }
    }

    /// Inverse of [`Element::code`].
    pub fn from_code(code: u32) -> Option<Element> {
        [Element::F32, Element::F16, Element::Int8].into_iter().find(|e| e.code() == code)
    }

    pub fn name(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::Int8 => "int8",
        }
    }
}

impl std::str::FromStr for Element {
    type Err = Error;
    fn from_str(s: &str) -> Result<Element> {
        match s {
            "f32" => Ok(Element::F32),
            "f16" => Ok(Element::F16),
            "int8" | "i8" => Ok(Element::Int8),
            _ => Err(Error::invalid(format!("unknown element type `{s}`: expected f32, f16 or int8"))),
        }
    }
}

/// What is kept of the vectors beside an index of them: their elements in one type, or (`none`) nothing.
///
/// With `none`, similarities are those of the index's own codes, and whatever needs the vectors themselves (exhaustive
/// search, neighbours of a document, ranking, measuring recall) is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StoredAs(pub Option<Element>);

impl StoredAs {
    /// `f32`, `f16`, `int8` or `none`.
    pub fn name(self) -> &'static str {
        self.0.map_or("none", Element::name)
    }
}

impl From<Element> for StoredAs {
    fn from(element: Element) -> StoredAs {
        StoredAs(Some(element))
    }
}

impl std::str::FromStr for StoredAs {
    type Err = Error;
    fn from_str(s: &str) -> Result<StoredAs> {
        if s == "none" { Ok(StoredAs(None)) } else { s.parse().map(|e| StoredAs(Some(e))) }
    }
}

impl TryFrom<String> for StoredAs {
    type Error = Error;
    fn try_from(s: String) -> Result<StoredAs> {
        s.parse()
    }
}

impl From<StoredAs> for String {
    fn from(stored: StoredAs) -> String {
        stored.name().into()
    }
}

/// Scale of an int8 row: its largest absolute element becomes 127.
pub fn quantize(row: &[f32], codes: &mut Vec<i8>) -> f32 {
    let scale = row.iter().fold(0f32, |m, x| m.max(x.abs())) / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    codes.extend(row.iter().map(|x| (x * inverse).round() as i8));
    scale
}

/// Vectors in memory, in one element type.
#[derive(Debug, Clone)]
pub enum Stored {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Int8 { codes: Vec<i8>, scales: Vec<f32> },
}

impl Stored {
    pub fn with_capacity(element: Element, rows: usize, dim: usize) -> Stored {
        match element {
            Element::F32 => Stored::F32(Vec::with_capacity(rows * dim)),
            Element::F16 => Stored::F16(Vec::with_capacity(rows * dim)),
            Element::Int8 => Stored::Int8 { codes: Vec::with_capacity(rows * dim), scales: Vec::with_capacity(rows) },
        }
    }

    /// Appends one row.
    pub fn push(&mut self, row: &[f32]) {
        match self {
            Stored::F32(v) => v.extend_from_slice(row),
            Stored::F16(v) => v.extend(row.iter().map(|&x| f16::from_f32(x))),
            Stored::Int8 { codes, scales } => scales.push(quantize(row, codes)),
        }
    }

    pub fn rows(&self, dim: usize) -> Rows<'_> {
        let data = match self {
            Stored::F32(v) => Data::F32(v),
            Stored::F16(v) => Data::F16(v),
            Stored::Int8 { codes, scales } => Data::Int8 { codes, scales },
        };
        Rows { dim, isa: Isa::detect(), data }
    }
}

/// Borrowed elements of a matrix.
#[derive(Debug, Clone, Copy)]
pub enum Data<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Int8 { codes: &'a [i8], scales: &'a [f32] },
}

/// A borrowed matrix of stored vectors. A row beyond the end scores as an empty vector.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    pub dim: usize,
    pub isa: Isa,
    pub data: Data<'a>,
}

/// A query in the form the stored elements are multiplied with.
#[derive(Debug, Clone)]
pub enum Prepared<'a> {
    Float(&'a [f32]),
    Wide { codes: Vec<i16>, scale: f32 },
}

fn at<T>(values: &[T], row: u32, dim: usize) -> &[T] {
    let start = row as usize * dim;
    values.get(start..start + dim).unwrap_or(&[])
}

impl Rows<'_> {
    /// Rounds a query where the element type asks for it.
    pub fn prepare<'q>(&self, query: &'q [f32]) -> Prepared<'q> {
        match self.data {
            Data::Int8 { .. } => {
                let scale = self.query_step(query);
                let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                Prepared::Wide { codes: query.iter().map(|x| (x * inverse).round() as i16).collect(), scale }
            }
            _ => Prepared::Float(query),
        }
    }

    fn query_step(&self, query: &[f32]) -> f32 {
        let largest = (f64::from(i32::MAX) / (128.0 * self.dim.max(1) as f64)).min(32767.0).floor() as f32;
        query.iter().fold(0f32, |m, x| m.max(x.abs())) / largest
    }

    /// Similarity of a prepared query and a row.
    #[inline]
    pub fn score(&self, query: &Prepared, row: u32) -> f32 {
        match (self.data, query) {
            (Data::F32(v), Prepared::Float(q)) => dot(self.isa, q, at(v, row, self.dim)),
            (Data::F16(v), Prepared::Float(q)) => dot(self.isa, q, at(v, row, self.dim)),
            (Data::Int8 { codes, scales }, Prepared::Wide { codes: q, scale }) => {
                let row_scale = scales.get(row as usize).copied().unwrap_or(0.0);
                dot_wide(self.isa, q, at(codes, row, self.dim)) as f32 * (row_scale * scale)
            }
            _ => f32::NAN,
        }
    }

    /// Similarity of two rows.
    #[inline]
    pub fn pair(&self, a: u32, b: u32) -> f32 {
        match self.data {
            Data::F32(v) => dot(self.isa, at(v, a, self.dim), at(v, b, self.dim)),
            Data::F16(v) => dot(self.isa, at(v, a, self.dim), at(v, b, self.dim)),
            Data::Int8 { codes, scales } => {
                let scale = |row: u32| scales.get(row as usize).copied().unwrap_or(0.0);
                dot_bytes(self.isa, at(codes, a, self.dim), at(codes, b, self.dim)) as f32 * (scale(a) * scale(b))
            }
        }
    }

    /// Asks for a row to be brought into cache.
    #[inline]
    pub fn prefetch(&self, row: u32) {
        match self.data {
            Data::F32(v) => prefetch(at(v, row, self.dim)),
            Data::F16(v) => prefetch(at(v, row, self.dim)),
            Data::Int8 { codes, .. } => prefetch(at(codes, row, self.dim)),
        }
    }

    /// Appends a row as f32.
    pub fn decode(&self, row: u32, out: &mut Vec<f32>) {
        match self.data {
            Data::F32(v) => out.extend_from_slice(at(v, row, self.dim)),
            Data::F16(v) => {
                use half::slice::HalfFloatSliceExt;
                let start = out.len();
                let halves = at(v, row, self.dim);
                out.resize(start + halves.len(), 0.0);
                halves.convert_to_f32_slice(&mut out[start..]);
            }
            Data::Int8 { codes, scales } => {
                let scale = scales.get(row as usize).copied().unwrap_or(0.0);
                out.extend(at(codes, row, self.dim).iter().map(|&c| f32::from(c) * scale));
            }
        }
    }

    /// Largest difference between [`Rows::score`] and a matrix product of the same query with decoded rows whose norms
    /// are at most `max_norm`.
    pub fn rounding(&self, query: &[f32], max_norm: f32) -> f32 {
        let norm = query.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt() as f32;
        let dim = self.dim as f32;
        let floats = 4.0 * dim * f32::EPSILON * norm * max_norm;
        let step = if matches!(self.data, Data::Int8 { .. }) { self.query_step(query) } else { 0.0 };
        floats + 0.51 * step * dim.sqrt() * max_norm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn scores_of_stored_rows_are_close_to_the_real_ones(
            dim in 1usize..70, values in prop::collection::vec(-1f32..1., 140), tiny in prop::sample::select(vec![1f32, 1e-3, 0.0])
        ) {
            let (row, query) = (&values[..dim].iter().map(|x| x * tiny).collect::<Vec<_>>(), &values[70..70 + dim]);
            let real: f32 = row.iter().zip(query).map(|(a, b)| a * b).sum();
            for (element, error) in [(Element::F32, 1e-5), (Element::F16, 2e-3), (Element::Int8, 0.01)] {
                let mut stored = Stored::with_capacity(element, 1, dim);
                stored.push(row);
                let rows = stored.rows(dim);
                let score = rows.score(&rows.prepare(query), 0);
                prop_assert!((score - real).abs() <= error * dim as f32 * tiny.max(1e-7), "{element:?} {score} {real}");
                let mut decoded = Vec::new();
                rows.decode(0, &mut decoded);
                let product: f32 = decoded.iter().zip(query).map(|(a, b)| a * b).sum();
                let norm = decoded.iter().map(|x| x * x).sum::<f32>().sqrt();
                prop_assert!((score - product).abs() <= rows.rounding(query, norm) + 1e-7, "{element:?} {score} {product}");
            }
        }
    }

    #[test]
    fn the_widest_query_does_not_overflow() {
        for dim in [1usize, 384, 517, 4096] {
            let mut stored = Stored::with_capacity(Element::Int8, 1, dim);
            stored.push(&vec![-1.0; dim]);
            let rows = stored.rows(dim);
            let score = rows.score(&rows.prepare(&vec![1.0; dim]), 0);
            assert!((score + dim as f32).abs() < dim as f32 * 1e-3, "{dim}: {score}");
        }
    }
}
