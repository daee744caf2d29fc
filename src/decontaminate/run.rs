//! Checking corpus files: every document past the detector, in parallel, with bounded memory.
//!
//! A file is read in batches of a few MB, whose documents are judged on all threads; findings come back in record order. Several
//! files can be checked at once. A file that fails is reported and the others go on.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::labels::Label;
use super::{Detector, Finding, Frequency, Level, Occurrences, Protocol};
use crate::corpus::{self, BadRecords, Document, ReadOptions, SourceFile};
use crate::error::Result;
use crate::index::{DocumentRef, Snapshot};
use crate::reference::ComponentKind;
use crate::tokenize::TokenizerKind;

/// Text in a batch, in bytes.
const BATCH_TEXT: usize = 4 << 20;
/// Documents of an index in a batch.
const BATCH_DOCUMENTS: usize = 512;

/// One item found in one document: a line of the report. Field names are decon's where the meaning is the same.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Row {
    pub training_file: String,
    /// 0-based record number in the file.
    pub training_line: u64,
    pub document_id: String,
    /// xxh3-64 of the document's text, in hexadecimal: what a removal is keyed by, with file and record.
    pub document_hash: String,
    /// Benchmark of the item.
    pub eval_key: String,
    /// The item's id in its benchmark.
    pub eval_instance_index: String,
    /// Split, file and line the item was read from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub split: String,
    #[serde(default)]
    pub reference_file: String,
    #[serde(default)]
    pub eval_line: u64,
    /// Every other place the item was read from, as benchmark/id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// The gravest verdict of any protocol.
    pub level: Level,
    /// Score of the first protocol, 0 to 1.
    pub contamination_score: f32,
    pub components: Vec<ComponentRow>,
    /// Choices found, of how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<(u32, u32)>,
    /// Occurrences in the corpus of the most telling matched n-gram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corpus_frequency: Option<u64>,
    pub verdicts: BTreeMap<Protocol, VerdictRow>,
    /// The label of a review, when there is one; a rejected finding is dirty under no protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    /// The matched stretch of the document.
    #[serde(rename = "training_overlap_text", alias = "training_text")]
    pub training_text: String,
    pub training_bytes: [usize; 2],
    /// The component it matches.
    #[serde(rename = "eval_overlap_text", alias = "eval_text")]
    pub eval_text: String,
}

impl Row {
    /// What `protocol` says, a reviewer's rejection taken into account; `None` when it was not asked.
    pub fn level_under(&self, protocol: Protocol) -> Option<Level> {
        let verdict = self.verdicts.get(&protocol)?;
        Some(if self.label == Some(Label::Reject) { Level::Clean } else { verdict.level })
    }

    /// The matching stretches of `eval_text` and `training_text`: those of the component whose text `eval_text` is. In bytes of the
    /// document and of the component.
    pub fn shown_spans(&self) -> &[[usize; 4]] {
        let [start, end] = self.training_bytes;
        let inside = |s: &[usize; 4]| s[0] >= start && s[1] <= end && s[3] <= self.eval_text.len();
        let best = self.components.iter().filter(|c| c.spans.iter().all(inside)).max_by_key(|c| c.matched_words);
        best.map_or(&[], |c| &c.spans)
    }

    /// The gravest verdict of any protocol, a reviewer's rejection taken into account.
    pub fn gravest(&self) -> Level {
        if self.label == Some(Label::Reject) { Level::Clean } else { self.level }
    }
}

/// What was found of one component.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ComponentRow {
    pub component: ComponentKind,
    /// Share of its weight that was found.
    pub coverage: f32,
    pub matched_words: u32,
    pub words: u32,
    pub longest_match_words: u32,
    /// Matching stretches: document bytes and component bytes.
    pub spans: Vec<[usize; 4]>,
    /// With an index, for each of `spans`: in how many of its documents the stretch's most telling n-gram occurs, exactly;
    /// null for a stretch too short to tell anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub document_frequency: Vec<Option<u64>>,
}

/// A protocol's verdict.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct VerdictRow {
    pub level: Level,
    pub score: f32,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub rule: Cow<'static, str>,
}

/// What a run saw.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    pub files: u64,
    pub documents: u64,
    pub text_bytes: u64,
    /// Documents with an item that the protocol calls dirty.
    pub dirty_documents: BTreeMap<Protocol, u64>,
    /// Files that could not be read to the end, and why.
    pub failed: Vec<(PathBuf, String)>,
}

impl Totals {
    /// Adds what another part of the run saw.
    pub fn add(&mut self, other: Totals) {
        self.files += other.files;
        self.documents += other.documents;
        self.text_bytes += other.text_bytes;
        for (protocol, n) in other.dirty_documents {
            *self.dirty_documents.entry(protocol).or_default() += n;
        }
        self.failed.extend(other.failed);
    }
}

/// Asks an index how often n-grams occur in it, exactly. In an index of byte-pair tokens an n-gram is looked for with the space
/// before it, which those join to the word, and as it is spelled.
pub fn corpus_frequency(snapshot: Arc<Snapshot>) -> Box<Frequency> {
    let joins_space =
        matches!(snapshot.tokenizer.kind, TokenizerKind::Closed(_)) && snapshot.manifest.tokenizer.kind != "bytes";
    Box::new(move |text, bytes| {
        let spaced = joins_space && text.get(..bytes.start).is_some_and(|before| before.ends_with(' '));
        let gram = text.get(bytes.start - usize::from(spaced)..bytes.end).unwrap_or_default();
        match snapshot.ngram(gram) {
            Ok(n) if !n.is_empty() => {
                Occurrences { count: snapshot.count(&n), documents: snapshot.document_frequency(&n) }
            }
            _ => Occurrences::default(),
        }
    })
}

/// xxh3-64 of a text as 16 hexadecimal digits.
pub fn text_hash(text: &str) -> String {
    format!("{:016x}", crate::format::checksum(text.as_bytes()))
}

/// Checks every document of `file`; `each` gets the rows of a document that has any, in order. `advance` is told of bytes of the
/// file consumed, as stored.
///
/// A file that cannot be read to the end, or has more bad records than `bad` still tolerates, is in the totals with the reason, and
/// what was found before stays; an error of `each` (the report cannot be written) ends the check.
pub fn check(
    detector: &Detector,
    file: &SourceFile,
    read: &ReadOptions,
    bad: &Mutex<BadRecords>,
    each: &mut dyn FnMut(Row) -> Result<()>,
    advance: &dyn Fn(u64),
) -> Result<Totals> {
    let mut totals = Totals { files: 1, ..Totals::default() };
    let mut reader = match corpus::open(file, read) {
        Ok(r) => r,
        Err(e) => {
            advance(file.bytes);
            totals.failed.push((file.path.clone(), e.to_string()));
            return Ok(totals);
        }
    };
    let (mut ended, mut told) = (false, 0);
    while !ended {
        let mut batch = Vec::new();
        let mut size = 0;
        while size < BATCH_TEXT {
            let mut document = Document::default();
            let failed = match reader.next(&mut document) {
                Ok(true) => {
                    size += document.text.len();
                    batch.push(document);
                    continue;
                }
                Ok(false) => None,
                Err(e) => match bad.lock().unwrap_or_else(PoisonError::into_inner).tolerate(e) {
                    Ok(()) => continue,
                    Err(e) => Some(e.to_string()),
                },
            };
            ended = true;
            totals.failed.extend(failed.map(|why| (file.path.clone(), why)));
            break;
        }
        judge(detector, &batch, &mut totals, each)?;
        let consumed = if ended { file.bytes.max(told) } else { reader.bytes_read().clamp(told, file.bytes.max(told)) };
        advance(consumed - told);
        told = consumed;
    }
    Ok(totals)
}

/// The other direction: every document of a snapshot past the same detector, in shard and document order. `advance` is told of
/// documents; its error ends the run.
pub fn check_snapshot(
    detector: &Detector,
    snapshot: &Snapshot,
    each: &mut dyn FnMut(Row) -> Result<()>,
    advance: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Totals> {
    let mut totals = Totals::default();
    for (number, shard) in snapshot.shards.iter().enumerate() {
        let kept: Vec<u32> = (0..shard.documents.len() as u32)
            .filter(|&document| !snapshot.is_removed(DocumentRef { shard: number as u32, document }))
            .collect();
        for part in kept.chunks(BATCH_DOCUMENTS) {
            let batch = part.par_iter().map(|&d| shard.documents.get(d)).collect::<Result<Vec<_>>>()?;
            judge(detector, &batch, &mut totals, each)?;
            advance(part.len() as u64)?;
        }
    }
    Ok(totals)
}

/// Judges a batch on all threads and hands out the rows in order.
fn judge(
    detector: &Detector,
    batch: &[Document],
    totals: &mut Totals,
    each: &mut dyn FnMut(Row) -> Result<()>,
) -> Result<()> {
    let found = batch.par_iter().map(|d| rows(detector, d, detector.document(d)?)).collect::<Result<Vec<_>>>()?;
    for (document, rows) in batch.iter().zip(found) {
        totals.documents += 1;
        totals.text_bytes += document.text.len() as u64;
        for &protocol in &detector.settings().protocols {
            if rows.iter().any(|r| r.level_under(protocol) == Some(Level::Dirty)) {
                *totals.dirty_documents.entry(protocol).or_default() += 1;
            }
        }
        rows.into_iter().try_for_each(&mut *each)?;
    }
    Ok(())
}

/// The report rows of a document's findings.
fn rows(detector: &Detector, document: &Document, findings: Vec<Finding>) -> Result<Vec<Row>> {
    let index = detector.index();
    let first: Option<Protocol> = detector.settings().protocols.first().copied();
    if findings.is_empty() {
        return Ok(Vec::new());
    }
    let hash = text_hash(&document.text);
    findings
        .into_iter()
        .map(|f| {
            let meta = index.meta(f.item)?;
            let name = |o: &crate::reference::Origin| format!("{}/{}", o.benchmark, o.id);
            let origin = meta.origins.first().cloned().unwrap_or_default();
            let strongest = f.evidence.components.iter().max_by(|a, b| a.matched_weight.total_cmp(&b.matched_weight));
            // What only a column has found is shown where the column has found it, beside the component it says again.
            let lexical = f.verdicts.iter().any(|(p, v)| !Protocol::COLUMNS.contains(p) && v.level > Level::Clean);
            let meaning = f.evidence.primitives.semantic.iter().chain(&f.evidence.primitives.code);
            let meaning = meaning.max_by(|a, b| a.confidence.total_cmp(&b.confidence)).filter(|_| !lexical);
            let bytes = match meaning {
                Some(m) => m.place.clone(),
                None => strongest.map_or(0..0, |c| c.document.clone()),
            };
            let said = |m: &super::semantic::Meaning| {
                index
                    .components(f.item)
                    .find(|c| c.kind == m.component)
                    .map_or_else(String::new, |c| c.text.to_string())
            };
            Ok(Row {
                training_file: document.path.clone(),
                training_line: document.record,
                document_id: document.id.clone(),
                document_hash: hash.clone(),
                eval_key: origin.benchmark.clone(),
                eval_instance_index: origin.id.clone(),
                split: origin.split.clone(),
                reference_file: origin.path.clone(),
                eval_line: origin.line,
                also: meta.origins.iter().skip(1).map(name).collect(),
                level: f.level(),
                contamination_score: first.and_then(|p| f.verdict(p)).map_or(0.0, |v| v.score),
                components: f
                    .evidence
                    .components
                    .iter()
                    .map(|c| ComponentRow {
                        component: c.kind,
                        coverage: c.coverage(),
                        matched_words: c.matched_words,
                        words: c.words,
                        longest_match_words: c.longest_words,
                        spans: c
                            .pieces
                            .iter()
                            .map(|p| [p.document.start, p.document.end, p.component.start, p.component.end])
                            .collect(),
                        document_frequency: c.document_frequency.clone(),
                    })
                    .collect(),
                choices: (f.evidence.choices.of > 0).then_some((f.evidence.choices.found, f.evidence.choices.of)),
                corpus_frequency: f.evidence.corpus_frequency,
                verdicts: f
                    .verdicts
                    .iter()
                    .map(|(p, v)| (*p, VerdictRow { level: v.level, score: v.score, rule: Cow::Borrowed(v.rule) }))
                    .collect(),
                label: detector.labels().and_then(|labels| labels.of(&hash, &meta.origins)),
                training_text: document.text.get(bytes.clone()).unwrap_or_default().to_string(),
                training_bytes: [bytes.start, bytes.end],
                eval_text: match meaning {
                    Some(m) => said(m),
                    None => strongest.map_or_else(String::new, |c| index.component(c.component).text.to_string()),
                },
            })
        })
        .collect()
}
