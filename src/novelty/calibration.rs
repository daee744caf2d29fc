//! Calibration: the scores of a human reference population, as an artifact.
//!
//! A calibration holds, for each window length, the sorted scores of the reference texts, with everything that must agree before another
//! text may be compared with them: settings, encoder weights, index generation. [`Calibration::check`] refuses what does not.

use std::collections::BTreeMap;
use std::path::Path;

use super::score::{Score, Settings};
use super::statistics::{self, median};
use crate::error::{Error, Result};
use crate::index::Snapshot;

/// Version of the file.
pub const VERSION: u32 = 2;

/// A human reference population, scored.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Calibration {
    pub version: u32,
    pub created_by: String,
    pub settings: Settings,
    /// Name and sha256 of the encoder's weights.
    pub encoder: String,
    pub encoder_sha256: String,
    /// Generation of the index, and what it held.
    pub generation: u64,
    pub documents: u64,
    pub tokens: u64,
    /// Ids of the index's shards and removals: two indexes may have the same generation number.
    pub parts: Vec<String>,
    /// Reference texts, those too short for any window included.
    pub texts: usize,
    /// How many were scored without their own document.
    pub left_out: usize,
    /// Median length of a text in encoder tokens.
    pub median_tokens: f64,
    /// Scores of all texts in ascending order, by window length.
    pub scores: BTreeMap<usize, Vec<f64>>,
    /// The same of each domain, where domains were told apart.
    #[serde(default)]
    pub domains: BTreeMap<String, BTreeMap<usize, Vec<f64>>>,
    /// Share of 3-grams absent from the corpus, of all texts in ascending order; empty in a calibration that was made without.
    #[serde(default)]
    pub absent: Vec<f64>,
    /// The same of each domain.
    #[serde(default)]
    pub absent_by_domain: BTreeMap<String, Vec<f64>>,
}

/// Shares of absent 3-grams in ascending order.
fn absent<'a>(of: impl Iterator<Item = &'a Score>) -> Vec<f64> {
    let mut shares: Vec<f64> = of.filter_map(|s| s.exact.absent()).collect();
    shares.sort_by(f64::total_cmp);
    shares
}

/// Sorted scores by window length.
fn by_length<'a>(windows: &[usize], of: impl Iterator<Item = &'a Score> + Clone) -> BTreeMap<usize, Vec<f64>> {
    let mut out = BTreeMap::new();
    for &length in windows {
        let mut scores: Vec<f64> = of.clone().filter_map(|s| s.at(length)).collect();
        scores.sort_by(f64::total_cmp);
        if !scores.is_empty() {
            out.insert(length, scores);
        }
    }
    out
}

impl Calibration {
    /// Of scored reference texts. Errors: no text long enough for any window.
    pub fn new(snapshot: &Snapshot, settings: &Settings, human: &[Score]) -> Result<Calibration> {
        let scores = by_length(&settings.windows, human.iter());
        if scores.is_empty() {
            return Err(Error::invalid_hint(
                format!("none of the {} human texts is long enough for any window length", human.len()),
                "give longer texts, or shorter windows with --windows",
            ));
        }
        let lengths: Vec<f64> = human.iter().map(|s| s.tokens as f64).collect();
        let names: std::collections::BTreeSet<&String> = human.iter().filter_map(|s| s.domain.as_ref()).collect();
        let absent_by_domain = names
            .iter()
            .map(|&name| (name.clone(), absent(human.iter().filter(|s| s.domain.as_ref() == Some(name)))))
            .collect();
        let domains = names
            .into_iter()
            .map(|name| {
                let of = human.iter().filter(|s| s.domain.as_ref() == Some(name));
                (name.clone(), by_length(&settings.windows, of))
            })
            .collect();
        let m = &snapshot.manifest;
        Ok(Calibration {
            version: VERSION,
            created_by: concat!("priorart ", env!("CARGO_PKG_VERSION")).into(),
            settings: settings.clone(),
            encoder: m.encoder.as_ref().map(|e| e.name.clone()).unwrap_or_default(),
            encoder_sha256: m.encoder.as_ref().map(|e| e.sha256.clone()).unwrap_or_default(),
            generation: m.generation,
            documents: m.corpus.documents,
            tokens: m.corpus.tokens,
            parts: parts(snapshot),
            texts: human.len(),
            left_out: human.iter().filter(|s| !s.left_out.is_empty()).count(),
            median_tokens: median(&lengths).unwrap_or(0.0),
            scores,
            domains,
            absent: absent(human.iter()),
            absent_by_domain,
        })
    }

    /// Reads an artifact. Errors: not one, or of a newer version.
    pub fn read(path: &Path) -> Result<Calibration> {
        let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(path, 0, format!("not a calibration: {e}")))?;
        let found = value["version"].as_u64().unwrap_or(0);
        if found < u64::from(VERSION) {
            return Err(Error::invalid_hint(
                format!(
                    "{}: a calibration of an earlier version, or none: its scores were made in another way",
                    path.display()
                ),
                "make it again with `priorart calibrate`",
            ));
        }
        if found > u64::from(VERSION) {
            return Err(Error::NewerFormat {
                path: path.into(),
                found: found.to_string(),
                supported: VERSION.to_string(),
            });
        }
        let mut read: Calibration =
            serde_json::from_value(value).map_err(|e| Error::corrupt(path, 0, format!("not a calibration: {e}")))?;
        let of_domains = read.domains.values_mut().flat_map(BTreeMap::values_mut);
        read.scores.values_mut().chain(of_domains).for_each(|s| s.sort_by(f64::total_cmp));
        read.absent_by_domain.values_mut().for_each(|s| s.sort_by(f64::total_cmp));
        read.absent.sort_by(f64::total_cmp);
        Ok(read)
    }

    /// Writes the artifact.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|e| Error::invalid(format!("calibration: {e}")))?;
        bytes.push(b'\n');
        std::fs::write(path, bytes).map_err(Error::io(path, "write"))
    }

    /// Refuses a calibration made with another encoder, another generation or other settings, naming what differs.
    pub fn check(&self, snapshot: &Snapshot, settings: &Settings) -> Result<()> {
        let m = &snapshot.manifest;
        let sha256 = m.encoder.as_ref().map_or("", |e| &e.sha256);
        if self.encoder_sha256 != sha256 {
            return Err(Error::EncoderMismatch {
                index: format!("weights {sha256:.12}"),
                query: format!("(calibration) weights {:.12}", self.encoder_sha256),
            });
        }
        let mut differs = Vec::new();
        if self.generation != m.generation || self.parts != parts(snapshot) {
            differs.push(format!(
                "it was made on generation {} of {} documents, the index is at generation {} with {}",
                self.generation, self.documents, m.generation, m.corpus.documents
            ));
        }
        let (a, b) = (&self.settings, settings);
        let numbers = [
            ("candidates", a.candidates, b.candidates),
            ("rerank", a.rerank, b.rerank),
            ("extend", a.extend, b.extend),
            ("exhaustive search", usize::from(a.exhaustive), usize::from(b.exhaustive)),
            ("masks counted", usize::from(a.count_masks), usize::from(b.count_masks)),
        ];
        let other = numbers.iter().filter(|n| n.1 != n.2);
        differs.extend(other.map(|(name, a, b)| format!("{name}: {a} there, {b} here")));
        if a.document_states != b.document_states {
            differs.push(format!("token states kept as {} there, as {} here", a.document_states, b.document_states));
        }
        if !same_late(&a.late, &b.late) {
            differs.push("the late-interaction encoder or its settings".into());
        }
        if let Some(l) = settings.windows.iter().find(|l| !a.windows.contains(l)) {
            differs.push(format!("it has no windows of {l} tokens"));
        }
        if differs.is_empty() {
            return Ok(());
        }
        Err(Error::invalid_hint(
            format!("the calibration does not fit: {}", differs.join("; ")),
            "make it again with `priorart calibrate` on this index and with these settings",
        ))
    }

    /// The reference's scores at a window length: those of the domain, where one is named.
    pub fn reference(&self, domain: Option<&str>, length: usize) -> Option<&[f64]> {
        let of = match domain {
            Some(name) => self.domains.get(name)?,
            None => &self.scores,
        };
        of.get(&length).map(Vec::as_slice)
    }

    /// Refuses domains the reference does not have.
    pub fn check_domains<'a>(&self, domains: impl Iterator<Item = Option<&'a str>>) -> Result<()> {
        for name in domains.flatten() {
            if !self.domains.contains_key(name) {
                let known: Vec<&str> = self.domains.keys().map(String::as_str).collect();
                return Err(Error::invalid_hint(
                    format!("the calibration has no human texts of the domain {name:?}"),
                    match known.as_slice() {
                        [] => "it was made without --domain: make it again with, or leave --domain out here".into(),
                        known => format!("it has: {}", known.join(", ")),
                    },
                ));
            }
        }
        Ok(())
    }

    /// r(x) = s(x) / median s(H), at a window length that has a reference.
    pub fn ratio(&self, domain: Option<&str>, length: usize, s: f64) -> Option<f64> {
        let centre = median(self.reference(domain, length)?)?;
        (centre > 0.0).then(|| s / centre)
    }

    /// Empirical p-value of a text being as little attributable as it is.
    pub fn p(&self, domain: Option<&str>, length: usize, s: f64) -> Option<f64> {
        Some(statistics::p_lower(self.reference(domain, length)?, s))
    }

    /// Empirical p-value of as many of a text's 3-grams being absent from the corpus (`share` of them); `None` where the reference does
    /// not tell.
    pub fn p_absent(&self, domain: Option<&str>, share: f64) -> Option<f64> {
        let of = match domain {
            Some(name) => self.absent_by_domain.get(name)?,
            None => &self.absent,
        };
        (!of.is_empty()).then(|| statistics::p_upper(of, share))
    }

    /// What limits conclusions at `p_resolution`: lengths with too few reference texts, with how many are needed.
    pub fn warnings(&self, p_resolution: f64) -> Vec<String> {
        let needed = statistics::needed_for(p_resolution);
        let mut out = Vec::new();
        let all = [(String::new(), &self.scores)];
        let domains = self.domains.iter().map(|(name, scores)| (format!("domain {name}, "), scores));
        for (name, scores) in all.into_iter().chain(domains) {
            for length in &self.settings.windows {
                let n = scores.get(length).map_or(0, Vec::len);
                if n < needed {
                    out.push(format!(
                        "{name}windows of {length} tokens: {n} human texts are long enough; {needed} are needed for a p-value of {p_resolution}"
                    ));
                }
            }
        }
        out
    }
}

/// Whether token states are made alike; what is recorded a window length may cover other lengths.
fn same_late(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    let by_length = |v: &serde_json::Value| v.as_object().is_some_and(|o| o.keys().all(|k| k.parse::<usize>().is_ok()));
    match (a.as_object(), b.as_object()) {
        (Some(x), Some(y)) if by_length(a) && by_length(b) => y.iter().all(|(k, v)| x.get(k).is_none_or(|w| w == v)),
        _ => a == b,
    }
}

fn parts(snapshot: &Snapshot) -> Vec<String> {
    let m = &snapshot.manifest;
    m.shards.iter().chain(&m.removed).map(|s| s.id.clone()).collect()
}
