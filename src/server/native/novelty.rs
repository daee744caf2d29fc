//! `POST /v1/{index}/novelty`: un-attributability of texts, with the human reference they are measured against and the recall of the
//! search that says "nothing found".
//!
//! The reference is the calibration the index is served with; without one, or when it belongs to another generation, scores come
//! without r and p and the answer says why. Recall is measured on planted probes in the background, once a generation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Ask, On, at_most, check_chars};
use crate::embed::colbert::PlainLate;
use crate::error::Result;
use crate::novelty::assess::{Assessed, assess};
use crate::novelty::{CacheOptions, Calibration, Recall, Score, Scorer, Settings, Text};
use crate::server::Served;
use crate::server::problem::Problem;

/// Bytes of chunk states a request may keep.
const MEMORY: usize = 64 << 20;
/// Texts in a request.
const TEXTS: usize = 32;
/// Scores of the reference an answer lists for each length, at most; a larger population is thinned to quantiles.
const LISTED: usize = 400;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoveltyRequest {
    text: Option<String>,
    texts: Option<Vec<NamedText>>,
    windows: Option<Vec<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedText {
    id: Option<String>,
    text: String,
    /// Id of the corpus document it was taken from, which is then left out.
    source: Option<String>,
}

#[derive(Serialize)]
struct Judged {
    assessed: Vec<Assessed>,
    #[serde(flatten)]
    score: Score,
}

/// The human reference at one window length.
#[derive(Serialize)]
struct Reference {
    texts: usize,
    median: Option<f64>,
    /// Scores in ascending order, or quantiles of them.
    scores: Vec<f64>,
}

#[derive(Serialize)]
pub struct Novelty {
    texts: Vec<Judged>,
    settings: Settings,
    /// By window length.
    reference: BTreeMap<usize, Reference>,
    /// Null until it is measured.
    recall: Option<Vec<Recall>>,
    warnings: Vec<String>,
}

impl Ask for NoveltyRequest {
    type Answer = Novelty;

    fn answer(self, on: &On<'_>) -> Result<Novelty, Problem> {
        let &On { app, served, snapshot, .. } = on;
        let texts = match (self.text, self.texts) {
            (Some(text), None) => vec![Text { id: "text".into(), text, ..Text::default() }],
            (None, Some(texts)) => {
                let named = |(i, t): (usize, NamedText)| Text {
                    id: t.id.unwrap_or_else(|| i.to_string()),
                    text: t.text,
                    source: t.source,
                    ..Text::default()
                };
                texts.into_iter().enumerate().map(named).collect()
            }
            _ => return Err(Problem::invalid("give exactly one of `text` and `texts`")),
        };
        at_most("texts", texts.len(), TEXTS)?;
        if texts.is_empty() {
            return Err(Problem::invalid("`texts` is empty"));
        }
        for t in &texts {
            check_chars("text", &t.text, app.settings.limits.query_chars)?;
        }
        let encoder = served.encoder()?;
        let mut warnings = Vec::new();
        let mut settings = served.scoring();
        if let Some(mut windows) = self.windows {
            at_most("windows", windows.len(), 8)?;
            windows.sort_unstable();
            windows.dedup();
            at_most("windows", windows.last().copied().unwrap_or(0), 2000)?;
            settings.windows = windows;
        }
        let late = PlainLate::new(encoder);
        let cache = CacheOptions::recorded(snapshot.dir.path(), &encoder.spec().sha256, &settings);
        let mut scorer = Scorer::new(snapshot, encoder, &late, settings, MEMORY, cache.as_ref())?;
        let calibration = match &served.calibration {
            None => {
                warnings.push(
                    "this index is served without a calibration: scores have nothing human to be compared with".into(),
                );
                None
            }
            Some(c) => match c.check(snapshot, &scorer.settings) {
                Ok(()) => Some(&**c),
                Err(e) => {
                    warnings.push(e.to_string());
                    None
                }
            },
        };
        if let Some(c) = calibration {
            warnings.extend(c.warnings(0.01));
        }
        let scores = scorer.score(&texts)?;
        let assessed = assess(&scores, calibration);
        Ok(Novelty {
            texts: assessed.into_iter().zip(scores).map(|(assessed, score)| Judged { assessed, score }).collect(),
            settings: scorer.settings.clone(),
            reference: calibration.map(reference).unwrap_or_default(),
            recall: served.recall(snapshot.manifest.generation),
            warnings,
        })
    }
}

fn reference(calibration: &Calibration) -> BTreeMap<usize, Reference> {
    let of = |scores: &[f64]| Reference {
        texts: scores.len(),
        median: crate::novelty::statistics::median(scores),
        scores: if scores.len() <= LISTED {
            scores.to_vec()
        } else {
            (0..LISTED).map(|i| scores[i * (scores.len() - 1) / (LISTED - 1)]).collect()
        },
    };
    calibration.scores.iter().map(|(&length, scores)| (length, of(scores))).collect()
}

impl Served {
    /// How texts are scored: as the calibration was, or with few candidates, because somebody is waiting.
    fn scoring(&self) -> Settings {
        let quick = || Settings { candidates: 100, rerank: 24, ..Settings::default() };
        self.calibration.as_ref().map_or_else(quick, |c| c.settings.clone())
    }

    /// Recall of the search as measured on `generation`, if it was.
    pub(in crate::server) fn recall(&self, generation: u64) -> Option<Vec<Recall>> {
        let measured = self.measured.lock().unwrap_or_else(|e| e.into_inner());
        measured.as_ref().filter(|m| m.0 == generation).map(|m| m.1.clone())
    }

    /// Measures recall with `probes` passages a window length and edit level, unless this generation's is known.
    ///
    /// # Errors
    /// The index cannot be read.
    pub(in crate::server) fn measure(&self, probes: usize) -> Result<()> {
        let snapshot = self.snapshot();
        let generation = snapshot.manifest.generation;
        let (Some(encoder), None, 1..) = (&self.encoder, self.recall(generation), probes) else { return Ok(()) };
        let settings = self.scoring();
        let lengths = settings.windows.clone();
        let late = PlainLate::new(&**encoder);
        let cache = CacheOptions::recorded(snapshot.dir.path(), &encoder.spec().sha256, &settings);
        let mut scorer = Scorer::new(&snapshot, &**encoder, &late, settings, MEMORY, cache.as_ref())?;
        let recall = scorer.probe(&lengths, probes, &[], 42, &mut |_| ())?;
        *self.measured.lock().unwrap_or_else(|e| e.into_inner()) = Some((generation, recall));
        Ok(())
    }
}
