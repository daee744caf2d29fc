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
pub const VERSION: u32 = 1;

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
    /// Scores in ascending order, by window length.
    pub scores: BTreeMap<usize, Vec<f64>>,
}

impl Calibration {
    /// Of scored reference texts. Errors: no text long enough for any window.
    pub fn new(snapshot: &Snapshot, settings: &Settings, human: &[Score]) -> Result<Calibration> {
        let mut scores: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for length in &settings.windows {
            let mut of: Vec<f64> = human.iter().filter_map(|s| s.at(*length)).collect();
            of.sort_by(f64::total_cmp);
            if !of.is_empty() {
                scores.insert(*length, of);
            }
        }
        if scores.is_empty() {
            return Err(Error::invalid_hint(
                format!("none of the {} human texts is long enough for any window length", human.len()),
                "give longer texts, or shorter windows with --windows",
            ));
        }
        let lengths: Vec<f64> = human.iter().map(|s| s.tokens as f64).collect();
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
        })
    }

    /// Reads an artifact. Errors: not one, or of a newer version.
    pub fn read(path: &Path) -> Result<Calibration> {
        let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(path, 0, format!("not a calibration: {e}")))?;
        let found = value["version"].as_u64().unwrap_or(0);
        if found > u64::from(VERSION) {
            return Err(Error::NewerFormat {
                path: path.into(),
                found: found.to_string(),
                supported: VERSION.to_string(),
            });
        }
        let mut read: Calibration =
            serde_json::from_value(value).map_err(|e| Error::corrupt(path, 0, format!("not a calibration: {e}")))?;
        read.scores.values_mut().for_each(|s| s.sort_by(f64::total_cmp));
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
        if (a.candidates, a.rerank, a.extend, a.leave_source_out)
            != (b.candidates, b.rerank, b.extend, b.leave_source_out)
        {
            differs.push("candidates, rerank, extend or leave-source-out differ".into());
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

    /// r(x) = s(x) / median s(H), at a window length that has a reference.
    pub fn ratio(&self, length: usize, s: f64) -> Option<f64> {
        let centre = median(self.scores.get(&length)?)?;
        (centre > 0.0).then(|| s / centre)
    }

    /// Empirical p-value of a text being as little attributable as it is.
    pub fn p(&self, length: usize, s: f64) -> Option<f64> {
        Some(statistics::p_lower(self.scores.get(&length)?, s))
    }

    /// What limits conclusions at `p_resolution`: lengths with too few reference texts, with how many are needed.
    pub fn warnings(&self, p_resolution: f64) -> Vec<String> {
        let needed = statistics::needed_for(p_resolution);
        self.settings
            .windows
            .iter()
            .filter_map(|l| {
                let n = self.scores.get(l).map_or(0, |s| s.len());
                (n < needed).then(|| format!("windows of {l} tokens: {n} human texts are long enough; {needed} are needed for a p-value of {p_resolution}"))
            })
            .collect()
    }
}

fn parts(snapshot: &Snapshot) -> Vec<String> {
    let m = &snapshot.manifest;
    m.shards.iter().chain(&m.removed).map(|s| s.id.clone()).collect()
}
