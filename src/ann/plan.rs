//! What each kind of index costs for a number of rows, and which one to take.
//!
//! Bytes are exact for `flat`, within 2 % for `hnsw`, and by the formats of FAISS for `ivf` (not compared with it). Times
//! and recalls are rules of thumb, not measurements: assumed rates of one server core (the constants below), scaled by
//! rows and dimension. They order the choices; `recall` measures an index that exists.

use serde::{Deserialize, Serialize};

use super::Element;

/// Kind of vector index, as settings name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// [`plan`] decides.
    #[default]
    Auto,
    Flat,
    Hnsw,
    /// The format of [`Kind::Hnsw`], the graph of the crate `hnsw_rs`.
    HnswRs,
    Ivf,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Auto => "auto",
            Kind::Flat => "flat",
            Kind::Hnsw => "hnsw",
            Kind::HnswRs => "hnsw_rs",
            Kind::Ivf => "ivf",
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = crate::error::Error;
    fn from_str(s: &str) -> crate::error::Result<Kind> {
        let all = [Kind::Auto, Kind::Flat, Kind::Hnsw, Kind::HnswRs, Kind::Ivf];
        all.into_iter().find(|kind| kind.name() == s).ok_or_else(|| {
            crate::error::Error::invalid(format!(
                "unknown vector index `{s}`: expected auto, flat, hnsw, hnsw_rs or ivf"
            ))
        })
    }
}

/// Cost of one way to index the vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    pub kind: Kind,
    /// Element type, `M`, or FAISS factory string.
    pub settings: String,
    /// Bytes on disk, without the vectors stored for rescoring.
    pub bytes: u64,
    /// Estimated CPU seconds of building on one core; divide by the cores.
    pub build_seconds: f64,
    /// Memory of building.
    pub build_memory: u64,
    /// Memory that answers at full speed; less works, from disk.
    pub search_memory: u64,
    /// Estimated CPU seconds of one query at the default settings.
    pub query_seconds: f64,
    /// Rough recall@10 to expect after rescoring from f16 vectors; measure it with [`crate::ann::recall`].
    pub recall: f64,
}

/// All choices, and the one to take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub rows: u64,
    pub dim: usize,
    pub choices: Vec<Choice>,
    /// Index of the recommended choice.
    pub recommended: usize,
    /// Why.
    pub reason: String,
}

impl Plan {
    pub fn choice(&self) -> &Choice {
        &self.choices[self.recommended]
    }
}

/// Rows up to which an exhaustive scan is the recommendation.
pub const FLAT_ROWS: u64 = 100_000;
/// Rows up to which a graph is.
pub const HNSW_ROWS: u64 = 20_000_000;

/// Assumed bytes a second that one core scans in a `flat` index.
const SCAN: f64 = 8e9;
/// Assumed seconds to insert one row of 384 dimensions at ef 200 into a graph of 100,000.
const INSERT: f64 = 1.0e-3;

/// Costs of every kind for `rows` vectors of `dim` dimensions, and a recommendation by size: exact as long as a query
/// takes some milliseconds, then a graph as long as it fits into the memory of one machine, then compressed lists.
pub fn plan(rows: u64, dim: usize) -> Plan {
    let n = rows as f64;
    let scale = dim as f64 / 384.0;
    let mut choices = Vec::new();
    for element in [Element::F32, Element::F16, Element::Int8] {
        let bytes = 64 + rows * element.row_bytes(dim) as u64;
        choices.push(Choice {
            kind: Kind::Flat,
            settings: element.name().into(),
            bytes,
            build_seconds: bytes as f64 / 1e9,
            build_memory: 64 << 20,
            search_memory: bytes,
            query_seconds: bytes as f64 / SCAN,
            recall: if element == Element::Int8 { 0.99 } else { 1.0 },
        });
    }
    for (m, recall) in [(16usize, 0.98), (32, 0.99)] {
        // Levels ≥ 1 hold 1/(M − 1) of the rows' lists.
        let links = rows * (4 * (1 + 2 * m as u64) + 4) + rows * 4 * (1 + m as u64) / (m as u64 - 1);
        let bytes = 64 + rows * Element::Int8.row_bytes(dim) as u64 + links;
        let depth = (n.max(2.0).ln() / 1e5f64.ln()).max(0.3);
        choices.push(Choice {
            kind: Kind::Hnsw,
            settings: format!("M{m} int8"),
            bytes,
            build_seconds: n * INSERT * scale * depth * m as f64 / 16.0,
            build_memory: bytes + 8 * rows + (16 << 20),
            search_memory: bytes,
            query_seconds: 2.5e-4 * scale * depth * m as f64 / 16.0,
            recall,
        });
    }
    let lists = lists(rows);
    for (code, row_bytes, recall) in [
        ("Flat".to_string(), 4 * dim as u64 + 8, 0.97),
        ("SQ8".to_string(), dim as u64 + 8, 0.97),
        ("RaBitQ".to_string(), dim as u64 / 8 + 16, 0.93),
    ] {
        let bytes = rows * row_bytes + lists * 4 * dim as u64;
        let sample = (64 * lists).clamp(65_536.min(rows), rows.max(1)) as f64;
        let assign = 2.0 * lists as f64 * dim as f64 / 4e10;
        choices.push(Choice {
            kind: Kind::Ivf,
            settings: format!("IVF{lists},{code}"),
            bytes,
            build_seconds: sample * assign * 10.0 + n * assign,
            build_memory: bytes + sample as u64 * 4 * dim as u64,
            search_memory: bytes,
            query_seconds: assign + bytes as f64 * 32.0 / lists as f64 / SCAN,
            recall,
        });
    }
    let find = |kind: Kind, settings: &str| {
        choices.iter().position(|c| c.kind == kind && c.settings.contains(settings)).unwrap_or(0)
    };
    let (recommended, reason) = if rows <= FLAT_ROWS {
        (find(Kind::Flat, "f16"), format!("up to {FLAT_ROWS} rows an exact scan takes milliseconds"))
    } else if rows <= HNSW_ROWS {
        (find(Kind::Hnsw, "M16"), format!("up to {HNSW_ROWS} rows a graph fits into memory and answers fastest"))
    } else if rows <= 10 * HNSW_ROWS {
        (find(Kind::Ivf, "SQ8"), "too many rows for a graph in memory: lists of int8 codes, rescored".into())
    } else {
        (find(Kind::Ivf, "RaBitQ"), "one bit a dimension, rescored from the stored vectors".into())
    };
    Plan { rows, dim, choices, recommended, reason }
}

/// Number of inverted lists: about 4·√rows, a power of two.
pub(super) fn lists(rows: u64) -> u64 {
    let wanted = (4.0 * (rows as f64).sqrt()) as u64;
    wanted.max(16).next_power_of_two().min(1 << 18)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ann::{FlatIndex, FlatWriter, HnswIndex, HnswParams, Source, hnsw, sample};

    #[test]
    fn bytes_are_those_of_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let (rows, dim) = (4000, 24);
        let vectors = sample(rows, dim, 1);
        let plan = plan(rows as u64, dim);
        let bytes = |kind, settings: &str| {
            plan.choices.iter().find(|c| c.kind == kind && c.settings.contains(settings)).unwrap().bytes as f64
        };
        for element in [Element::F32, Element::F16, Element::Int8] {
            let path = dir.path().join("v");
            let mut writer = FlatWriter::create(&path, dim, element).unwrap();
            writer.push(&vectors).unwrap();
            writer.finish().unwrap();
            let real = FlatIndex::open(&path).unwrap().bytes() as f64;
            assert!((real / bytes(Kind::Flat, element.name()) - 1.0).abs() < 0.001);
        }
        let path = dir.path().join("a");
        let params = HnswParams { ef_construction: 20, ..Default::default() };
        hnsw::build(&Source::memory(&vectors, dim).unwrap(), &params, &path).unwrap();
        let real = HnswIndex::open(&path).unwrap().bytes() as f64;
        assert!((real / bytes(Kind::Hnsw, "M16") - 1.0).abs() < 0.02, "{real} {}", bytes(Kind::Hnsw, "M16"));
    }

    #[test]
    fn the_recommendation_follows_the_size() {
        let kind = |rows| plan(rows, 384).choice().kind;
        assert_eq!([0, 1000, 1_000_000, 1 << 30].map(kind), [Kind::Flat, Kind::Flat, Kind::Hnsw, Kind::Ivf]);
        assert_eq!(plan(10_000_000_000, 384).choice().settings, "IVF262144,RaBitQ");
    }
}
