//! What a vector index is to be: the kind and its parameters as a build is told, as the manifest records, as a shard got.
//!
//! A build may ask for `auto`, or for `ivf` without a factory; [`VectorSettings::resolve`] decides for the rows of one
//! shard, and [`VectorSettings::build`] makes that. `flat` has no file of its own: it searches the stored vectors.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::plan::lists;
use super::{Element, HnswParams, IvfParams, Kind, SearchParams, Source, StoredAs, hnsw, ivf, plan};
use crate::error::{Error, Result};

/// A vector index and the vectors beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VectorSettings {
    pub kind: Kind,
    /// The stored vectors, from which every similarity that is shown is computed.
    pub store: StoredAs,
    /// Of the kinds `hnsw` and `hnsw_rs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hnsw: Option<HnswParams>,
    /// Of the kind `ivf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ivf: Option<IvfParams>,
    /// What a search uses that does not say.
    #[serde(default)]
    pub search: SearchParams,
}

impl Default for VectorSettings {
    fn default() -> VectorSettings {
        VectorSettings {
            kind: Kind::Flat,
            store: Element::F32.into(),
            hnsw: None,
            ivf: None,
            search: SearchParams::default(),
        }
    }
}

impl VectorSettings {
    /// Refuses parameters out of range and a kind that this binary cannot make. Worth asking before hours of embedding.
    pub fn check(&self) -> Result<()> {
        self.hnsw.unwrap_or_default().check()?;
        if self.kind == Kind::Ivf {
            ivf::available()?;
        }
        if self.kind == Kind::Flat && self.store.0.is_none() {
            return Err(Error::invalid_hint(
                "a flat index is the stored vectors: with none stored there would be nothing to search",
                "store f32, f16 or int8, or choose hnsw or ivf",
            ));
        }
        Ok(())
    }

    /// The settings of a shard with `rows` vectors: a kind that is not `auto`, with all its parameters.
    pub fn resolve(&self, rows: u64, dim: usize) -> VectorSettings {
        let mut chosen = self.clone();
        if chosen.kind == Kind::Auto {
            chosen.kind = plan(rows, dim).choice().kind;
            if chosen.kind == Kind::Flat && self.store.0.is_none() {
                chosen.kind = Kind::Hnsw;
            }
            // What cannot be made here is no choice; a graph is the next best.
            if chosen.kind == Kind::Ivf && ivf::available().is_err() {
                chosen.kind = Kind::Hnsw;
            }
        }
        chosen.hnsw = match chosen.kind {
            Kind::Hnsw | Kind::HnswRs => Some(self.hnsw.unwrap_or_default()),
            _ => None,
        };
        chosen.ivf = (chosen.kind == Kind::Ivf).then(|| match &self.ivf {
            Some(given) if !given.factory.is_empty() => given.clone(),
            given => IvfParams {
                factory: format!("IVF{},SQ8", lists(rows).min((rows / 40).max(1))),
                train: given.as_ref().map_or(0, |i| i.train),
            },
        });
        chosen
    }

    /// What the vectors are stored as while the index is built: `f32` where none are kept.
    pub fn building(&self) -> Element {
        self.store.0.unwrap_or(Element::F32)
    }

    /// Builds the index of `source` at `path`; `false` when the kind has no file (`flat`). The settings are resolved ones.
    pub fn build(&self, source: &Source, path: &Path) -> Result<bool> {
        match self.kind {
            Kind::Flat => return Ok(false),
            Kind::Hnsw => hnsw::build(source, &self.hnsw.unwrap_or_default(), path)?,
            Kind::HnswRs => hnsw::build_with_hnsw_rs(source, &self.hnsw.unwrap_or_default(), path)?,
            Kind::Ivf => match &self.ivf {
                Some(params) => ivf::build(source, params, path)?,
                None => return Err(Error::invalid("ivf: no factory was chosen")),
            },
            Kind::Auto => return Err(Error::invalid("the kind of vector index was not chosen")),
        }
        Ok(true)
    }

    /// Kind and parameters in a few words: `hnsw (M 16, ef_construction 200, int8)`.
    pub fn describe(&self) -> String {
        match (self.kind, self.hnsw, &self.ivf) {
            (Kind::Hnsw | Kind::HnswRs, Some(h), _) => {
                format!("{} (M {}, ef_construction {}, {})", self.kind.name(), h.m, h.ef_construction, h.element.name())
            }
            (Kind::Ivf, _, Some(i)) if !i.factory.is_empty() => format!("ivf ({})", i.factory),
            _ => self.kind.name().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_gets_what_suits_its_size() {
        let auto = VectorSettings { kind: Kind::Auto, ..Default::default() };
        let small = auto.resolve(1000, 384);
        assert_eq!((small.kind, small.hnsw), (Kind::Flat, None));
        let large = auto.resolve(1_000_000, 384);
        assert_eq!((large.kind, large.hnsw), (Kind::Hnsw, Some(HnswParams::default())));
        let huge = auto.resolve(30_000_000, 384).kind;
        assert_eq!(huge, if cfg!(feature = "faiss") { Kind::Ivf } else { Kind::Hnsw });
        let ivf = VectorSettings { kind: Kind::Ivf, ..Default::default() }.resolve(1_000_000, 384);
        assert_eq!(ivf.describe(), "ivf (IVF4096,SQ8)");
        let few = VectorSettings { kind: Kind::Ivf, ..Default::default() }.resolve(100, 384);
        assert_eq!(few.describe(), "ivf (IVF2,SQ8)", "a list needs some rows to be trained on");
    }

    #[test]
    fn settings_survive_json() {
        for kind in [Kind::Auto, Kind::Flat, Kind::Hnsw, Kind::HnswRs, Kind::Ivf] {
            let settings =
                VectorSettings { kind, store: Element::Int8.into(), ..Default::default() }.resolve(500_000, 64);
            let text = serde_json::to_string(&settings).unwrap();
            assert_eq!(serde_json::from_str::<VectorSettings>(&text).unwrap(), settings, "{text}");
            assert_eq!(settings.kind.name().parse::<Kind>().unwrap(), settings.kind);
        }
        let none = VectorSettings { kind: Kind::Auto, store: StoredAs(None), ..Default::default() };
        let text = serde_json::to_string(&none).unwrap();
        assert!(text.contains(r#""store":"none""#), "{text}");
        assert_eq!(serde_json::from_str::<VectorSettings>(&text).unwrap(), none);
        assert_eq!(none.resolve(10, 4).kind, Kind::Hnsw, "something must be there to search");
        let flat = VectorSettings { kind: Kind::Flat, ..none };
        assert!(flat.check().unwrap_err().to_string().contains("nothing to search"));
        let bad = VectorSettings { hnsw: Some(HnswParams { m: 1, ..Default::default() }), ..Default::default() };
        assert!(bad.check().unwrap_err().to_string().contains("M is 1"));
    }
}
