//! The detector: a reference index, protocols, and a document in; findings out.
//!
//! One pass per document collects the evidence for every item, and every protocol judges it. A [`Detector`] is shared by
//! threads; it keeps a pool of scratch buffers, so that a document costs no allocation while nothing is found.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use super::decon::{self, DeconIndex};
use super::evidence::{ComponentEvidence, Evidence, Rules, collect};
use super::labels::Labels;
use super::primitives::{PrimitiveIndex, PrimitiveScratch};
use super::protocol::{Level, Parameters, Protocol, Verdict};
use super::scan::{Run, Scan};
use super::semantic::Semantic;
use crate::corpus::Document;
use crate::error::{Error, Result};
use crate::reference::{ComponentKind, ReferenceIndex, SEED};

/// How often an n-gram occurs in a corpus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Occurrences {
    /// Places.
    pub count: u64,
    /// Documents with at least one.
    pub documents: u64,
}

/// Tells how often a byte range of a text occurs in a corpus.
pub type Frequency = dyn Fn(&str, Range<usize>) -> Occurrences + Send + Sync;

/// Share of the question's weight, and words, that our own alignment must match before decon's tokens are computed. At
/// decon's default threshold the question needs at least .71 of its own weight.
const DECON_COVERAGE: f32 = 0.5;
const DECON_WORDS: u32 = 8;
/// The share for thresholds below .7.
const DECON_LOW_COVERAGE: f32 = 0.2;
/// A weaker item whose match lies inside a stronger one's is put down to it when it covers this much less of itself.
const ECLIPSE_MARGIN: f32 = 0.15;
/// Words of the n-gram whose corpus frequency is asked for.
const FREQUENCY_WORDS: usize = 13;
/// Answers of the frequency source that are kept: 32 bytes each.
const FREQUENCIES_KEPT: usize = 1 << 20;

/// What to judge by.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Protocols to apply; the first is the one removal and reports go by.
    pub protocols: Vec<Protocol>,
    pub parameters: Parameters,
    /// Whether findings that every protocol calls clean are returned too.
    pub keep_clean: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { protocols: vec![Protocol::Priorart], parameters: Parameters::default(), keep_clean: false }
    }
}

/// What was found of one item in one document, and what the protocols say of it.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Item number in the reference index.
    pub item: u32,
    pub evidence: Evidence,
    /// In the order of [`Settings::protocols`].
    pub verdicts: Vec<(Protocol, Verdict)>,
}

impl Finding {
    /// The verdict of a protocol, if it was asked.
    pub fn verdict(&self, protocol: Protocol) -> Option<&Verdict> {
        self.verdicts.iter().find(|(p, _)| *p == protocol).map(|(_, v)| v)
    }

    /// The gravest level any protocol gave.
    pub fn level(&self) -> Level {
        self.verdicts.iter().map(|(_, v)| v.level).max().unwrap_or(Level::Clean)
    }

    pub(super) fn strongest(&self) -> Option<&ComponentEvidence> {
        let texts = self.evidence.components.iter().filter(|c| c.kind != ComponentKind::Choice);
        texts.max_by(|a, b| a.matched_weight.total_cmp(&b.matched_weight).then(b.component.cmp(&a.component)))
    }
}

/// Judges documents against a reference index.
///
/// ```
/// use priorart::corpus::Document;
/// use priorart::decontaminate::{Detector, Level, Settings};
/// use priorart::reference::{EvalItem, ReferenceIndex, ReferenceSet};
///
/// let question = "Maren stacks forty walnut crates beside the quay before the ferry leaves; how many remain at dusk?";
/// let item = EvalItem { origins: vec![Default::default()], question: Some(question.into()), ..Default::default() };
/// let index = ReferenceIndex::build(&ReferenceSet { items: vec![item], rows: 1 })?;
/// let detector = Detector::new(index.into(), Settings::default())?;
/// let text = format!("Notes.\n\n# {}\n\nThe end.", question.to_uppercase().replace("crates", "boxes"));
/// let findings = detector.document(&Document { text, ..Default::default() })?;
/// assert_eq!(findings[0].level(), Level::Dirty);
/// # Ok::<(), priorart::Error>(())
/// ```
pub struct Detector {
    index: Arc<ReferenceIndex>,
    settings: Settings,
    rules: Rules,
    primitives: PrimitiveIndex,
    decon: OnceLock<DeconIndex>,
    frequency: Option<Box<Frequency>>,
    /// What `frequency` said, by hash of the n-gram's text: a widely copied item is asked for in every document.
    frequencies: Mutex<HashMap<u64, Occurrences>>,
    labels: Option<Arc<Labels>>,
    semantic: Option<Arc<Semantic>>,
    pool: Mutex<Vec<Scratch>>,
}

#[derive(Default)]
struct Scratch {
    scan: Scan,
    primitives: PrimitiveScratch,
}

impl Detector {
    /// A detector for these protocols.
    ///
    /// # Errors
    /// [`Error::Invalid`] without a protocol or with impossible parameters.
    pub fn new(index: Arc<ReferenceIndex>, settings: Settings) -> Result<Detector> {
        if settings.protocols.is_empty() {
            return Err(Error::invalid("no protocol to judge by"));
        }
        let has = |p: Protocol| settings.protocols.contains(&p);
        let p = &settings.parameters;
        check(p)?;
        let primitives = PrimitiveIndex::build(
            &index,
            has(Protocol::Gpt3).then_some(&p.gpt3),
            has(Protocol::Gpt4).then_some(&p.gpt4),
            has(Protocol::Datatrove).then_some(&p.datatrove),
        )?;
        let decon = OnceLock::new();
        if has(Protocol::Decon) {
            let _ = decon.set(DeconIndex::build(&index, &p.decon)?);
        }
        let rules = Rules::new(p, &settings.protocols);
        Ok(Detector {
            index,
            settings,
            rules,
            primitives,
            decon,
            frequency: None,
            frequencies: Mutex::default(),
            labels: None,
            semantic: None,
            pool: Mutex::default(),
        })
    }

    /// The same detector, asking `frequency` how often matched n-grams occur in the corpus.
    pub fn with_frequency(mut self, frequency: Box<Frequency>) -> Detector {
        self.frequency = Some(frequency);
        self
    }

    /// The same detector, honouring the labels of reviews: what was rejected is cut out of no document.
    pub fn with_labels(mut self, labels: Arc<Labels>) -> Detector {
        self.labels = Some(labels);
        self
    }

    /// The labels it honours.
    pub fn labels(&self) -> Option<&Labels> {
        self.labels.as_deref()
    }

    /// The same detector with the evidence of the semantic and code columns. `semantic` must be of the same reference index.
    pub fn with_semantic(mut self, semantic: Arc<Semantic>) -> Detector {
        self.semantic = Some(semantic);
        self
    }

    /// The second reading that the columns go by, where there is one.
    pub fn semantic(&self) -> Option<&Semantic> {
        self.semantic.as_deref()
    }

    /// The reference index.
    pub fn index(&self) -> &Arc<ReferenceIndex> {
        &self.index
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Everything found in a document: the gravest and strongest finding first, then by item number.
    ///
    /// # Errors
    /// [`Error::Limit`] for a text of 4 GiB or more.
    pub fn document(&self, document: &Document) -> Result<Vec<Finding>> {
        self.text(&document.text)
    }

    /// The same for a bare text.
    pub fn text(&self, text: &str) -> Result<Vec<Finding>> {
        let mut scratch = self.pool.lock().map(|mut pool| pool.pop()).ok().flatten().unwrap_or_default();
        let findings = self.judge(text, &mut scratch);
        if let Ok(mut pool) = self.pool.lock() {
            pool.push(scratch);
        }
        findings
    }

    fn judge(&self, text: &str, scratch: &mut Scratch) -> Result<Vec<Finding>> {
        scratch.scan.read(&self.index, text)?;
        let mut evidence = collect(&self.index, &scratch.scan, text, &self.rules);
        self.primitives.read(text, &mut scratch.primitives, |item, change| {
            let at = match evidence.binary_search_by_key(&item, |e| e.item) {
                Ok(at) => at,
                Err(at) => {
                    evidence.insert(at, Evidence::empty(&self.index, item));
                    at
                }
            };
            change(&mut evidence[at].primitives);
        });
        self.decon(text, &mut evidence)?;
        self.meaning(text, &mut evidence)?;
        let mut findings: Vec<Finding> = Vec::new();
        for mut evidence in evidence {
            evidence.corpus_frequency = self.frequency_of(text, &scratch.scan, &evidence);
            let verdicts: Vec<(Protocol, Verdict)> = self
                .settings
                .protocols
                .iter()
                .map(|&protocol| (protocol, protocol.judge(&self.settings.parameters, &evidence)))
                .collect();
            findings.push(Finding { item: evidence.item, evidence, verdicts });
        }
        put_down_eclipsed(&mut findings);
        if !self.settings.keep_clean {
            findings.retain(|f| f.level() > Level::Clean);
        }
        if self.frequency.is_some() {
            for finding in &mut findings {
                for component in &mut finding.evidence.components {
                    component.document_frequency = self.document_frequencies(text, &scratch.scan, component);
                }
            }
        }
        findings.sort_by(|a, b| {
            let strength = |f: &Finding| f.evidence.strength();
            b.level().cmp(&a.level()).then(strength(b).total_cmp(&strength(a))).then(a.item.cmp(&b.item))
        });
        Ok(findings)
    }

    /// Adds what the columns have found.
    fn meaning(&self, text: &str, evidence: &mut Vec<Evidence>) -> Result<()> {
        let Some(semantic) = &self.semantic else { return Ok(()) };
        for found in semantic.judge(text)? {
            let at = evidence.binary_search_by_key(&found.item, |e| e.item).unwrap_or_else(|at| {
                evidence.insert(at, Evidence::empty(&self.index, found.item));
                at
            });
            evidence[at].primitives.semantic = found.semantic;
            evidence[at].primitives.code = found.code;
        }
        Ok(())
    }

    fn decon(&self, text: &str, evidence: &mut [Evidence]) -> Result<()> {
        let Some(index) = self.decon.get() else { return Ok(()) };
        let low = self.settings.parameters.decon.threshold < 0.7;
        let least = if low { DECON_LOW_COVERAGE } else { DECON_COVERAGE };
        let candidate = |e: &Evidence| {
            let question = e.of(ComponentKind::Question);
            question.is_some_and(|q| q.coverage() >= least && q.matched_words >= DECON_WORDS) && index.has(e.item)
        };
        if !evidence.iter().any(candidate) {
            return Ok(());
        }
        let tokens = decon::tokens(text)?;
        for e in evidence.iter_mut().filter(|e| candidate(e)) {
            e.primitives.decon = index.score(e.item, &tokens, &self.settings.parameters.decon);
        }
        Ok(())
    }

    /// Corpus frequency of the most telling n-gram of the longest matched stretch.
    fn frequency_of(&self, text: &str, scan: &Scan, evidence: &Evidence) -> Option<u64> {
        let best = evidence
            .components
            .iter()
            .flat_map(|c| c.runs.iter().map(move |run| (c, run)))
            .max_by_key(|(_, run)| run.words)?;
        self.occurrences(text, scan, best.0.component, best.1).map(|o| o.count)
    }

    /// Document frequency of the most telling n-gram of each stretch of an alignment; `None` for those below the words of a seed,
    /// unless they are the whole component.
    fn document_frequencies(&self, text: &str, scan: &Scan, component: &ComponentEvidence) -> Vec<Option<u64>> {
        let least = SEED.min(component.words as usize) as u32;
        let of = |run: &Run| {
            let tells = run.words >= least;
            tells.then(|| self.occurrences(text, scan, component.component, run)).flatten().map(|o| o.documents)
        };
        component.stretches.iter().map(of).collect()
    }

    /// How often the heaviest n-gram of a run occurs in the corpus.
    fn occurrences(&self, text: &str, scan: &Scan, component: u32, run: &Run) -> Option<Occurrences> {
        let frequency = self.frequency.as_ref()?;
        let n = (run.words as usize).min(FREQUENCY_WORDS);
        let weights = self.index.component(component).weights;
        let first = (0..=run.words as usize - n).max_by(|&a, &b| {
            let weight = |at: usize| weights[run.component as usize + at..][..n].iter().sum::<f32>();
            weight(a).total_cmp(&weight(b)).then(b.cmp(&a))
        })?;
        let start = run.document as usize + first;
        let bytes = scan.bytes(start..start + n);
        let key = xxhash_rust::xxh3::xxh3_64(text.get(bytes.clone())?.as_bytes());
        if let Some(known) = self.frequencies.lock().ok()?.get(&key) {
            return Some(*known);
        }
        let found = frequency(text, bytes);
        let mut known = self.frequencies.lock().ok()?;
        if known.len() >= FREQUENCIES_KEPT {
            known.clear();
        }
        known.insert(key, found);
        Some(found)
    }
}

/// Parameters no text could be judged by.
fn check(p: &Parameters) -> Result<()> {
    let counts = [
        ("gpt3.n", p.gpt3.n),
        ("gpt4.characters", p.gpt4.characters),
        ("palm.n", p.palm.n),
        ("llama2.n", p.llama2.n),
        ("llama3.n", p.llama3.n),
        ("tulu3.n", p.tulu3.n),
        ("datatrove.n", p.datatrove.n),
        ("dolma.words", p.dolma.words),
        ("decon.n", p.decon.n),
        ("decon.answer_n", p.decon.answer_n),
        ("decon.passage_n", p.decon.passage_n),
        ("mathpile.least_words", p.mathpile.least_words),
    ];
    if let Some((name, _)) = counts.iter().find(|(_, n)| *n == 0) {
        return Err(Error::invalid(format!("{name} must be at least 1")));
    }
    // Runs are complete from eight words on.
    let runs = [
        ("palm.n", p.palm.n),
        ("llama3.n", p.llama3.n),
        ("tulu3.n", p.tulu3.n),
        ("contam.least_words", p.contam.least_words),
        ("mathpile.least_words", p.mathpile.least_words),
        ("dolma.words", p.dolma.words),
    ];
    if let Some((name, n)) = runs.iter().find(|(_, n)| *n < 8) {
        return Err(Error::invalid_hint(
            format!("{name} = {n} is below 8, the shortest match the pass finds without exception"),
            "use 8 or more",
        ));
    }
    Ok(())
}

/// Items whose match is explained by a stronger one of another item at the same place (a shared template or passage, of
/// which this item covers clearly less) are suspect under `priorart`, not dirty.
fn put_down_eclipsed(findings: &mut [Finding]) {
    let strong: Vec<(u32, std::ops::Range<usize>, f32, f32)> = findings
        .iter()
        .filter(|f| f.verdict(Protocol::Priorart).is_some_and(|v| v.level == Level::Dirty))
        .filter_map(|f| f.strongest().map(|c| (f.item, c.document.clone(), c.coverage(), f.evidence.matched_weight())))
        .collect();
    if strong.len() < 2 {
        return;
    }
    for finding in findings.iter_mut() {
        let Some((mine, coverage)) = finding.strongest().map(|c| (c.document.clone(), c.coverage())) else { continue };
        let weight = finding.evidence.matched_weight();
        let eclipsed = strong.iter().any(|(item, place, other, heavier)| {
            let shared = place.end.min(mine.end).saturating_sub(place.start.max(mine.start));
            *item != finding.item
                && *heavier > weight
                && *other > coverage + ECLIPSE_MARGIN
                && shared * 5 >= mine.len() * 4
        });
        if eclipsed {
            for (protocol, verdict) in &mut finding.verdicts {
                if *protocol == Protocol::Priorart && verdict.level == Level::Dirty {
                    verdict.level = Level::Suspect;
                    verdict.rule = "eclipsed";
                }
            }
        }
    }
}
