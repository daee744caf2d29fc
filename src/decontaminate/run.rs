//! Checking corpus files: every document past the detector, in parallel, with bounded memory.
//!
//! Files are read one after another, documents judged in batches on all threads; findings come back in file and record
//! order. A file that fails is reported and the others go on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rayon::prelude::*;

use super::{Detector, Finding, Level, Protocol};
use crate::corpus::{self, BadRecords, Document, ReadOptions, SourceFile};
use crate::error::{Error, Result};
use crate::index::{DocumentRef, Snapshot};

/// Text in a batch, in bytes.
const BATCH_TEXT: usize = 4 << 20;
/// Documents of an index in a batch.
const BATCH_DOCUMENTS: usize = 512;

/// One item found in one document: a line of the report. Field names are decon's where the meaning is the same.
#[derive(Debug, Clone, serde::Serialize)]
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
    /// Every place the item was read from, when there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// The gravest verdict.
    pub level: Level,
    /// Score of the first protocol, 0 to 1.
    pub contamination_score: f32,
    pub components: Vec<ComponentRow>,
    /// Choices found, of how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choices: Option<(u32, u32)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corpus_frequency: Option<u64>,
    pub verdicts: BTreeMap<&'static str, VerdictRow>,
    /// The matched stretch of the document.
    pub training_text: String,
    pub training_bytes: [usize; 2],
    /// The component it matches.
    pub eval_text: String,
}

/// What was found of one component.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ComponentRow {
    pub component: &'static str,
    /// Share of its weight that was found.
    pub coverage: f32,
    pub matched_words: u32,
    pub words: u32,
    pub longest_match_words: u32,
    /// Matching stretches: document bytes and component bytes.
    pub spans: Vec<[usize; 4]>,
}

/// A protocol's verdict.
#[derive(Debug, Clone, serde::Serialize)]
pub struct VerdictRow {
    pub level: Level,
    pub score: f32,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub rule: &'static str,
}

/// What a run saw.
#[derive(Debug, Default, serde::Serialize)]
pub struct Totals {
    pub files: u64,
    pub documents: u64,
    pub text_bytes: u64,
    pub dirty_documents: u64,
    /// Files that could not be read to the end, and why.
    pub failed: Vec<(PathBuf, String)>,
}

/// xxh3-64 of a text as 16 hexadecimal digits.
pub fn text_hash(text: &str) -> String {
    format!("{:016x}", crate::format::checksum(text.as_bytes()))
}

/// Checks every document of `files`; `each` gets the rows of each document that has any, in order. `advance` is told of bytes of
/// text judged.
///
/// Errors of single files are in the totals; an error of `each` (the report cannot be written) or more bad records than
/// tolerated ends the run.
pub fn check(
    detector: &Detector,
    files: &[SourceFile],
    read: &ReadOptions,
    each: &mut dyn FnMut(&Document, Vec<Row>) -> Result<()>,
    advance: &mut dyn FnMut(u64),
) -> Result<Totals> {
    let mut totals = Totals::default();
    let mut bad = BadRecords::new(read.skip_bad);
    for file in files {
        totals.files += 1;
        let mut reader = match corpus::open(file, read) {
            Ok(r) => r,
            Err(e) => {
                totals.failed.push((file.path.clone(), e.to_string()));
                continue;
            }
        };
        let mut ended = false;
        while !ended {
            let mut batch = Vec::new();
            let mut size = 0;
            while size < BATCH_TEXT {
                let mut document = Document::default();
                match reader.next(&mut document) {
                    Ok(true) => {
                        size += document.text.len();
                        batch.push(document);
                    }
                    Ok(false) => {
                        ended = true;
                        break;
                    }
                    Err(e @ Error::Record { .. }) => bad.tolerate(e)?,
                    Err(e) => {
                        totals.failed.push((file.path.clone(), e.to_string()));
                        ended = true;
                        break;
                    }
                }
            }
            judge(detector, &batch, &mut totals, each)?;
            advance(size as u64);
        }
    }
    Ok(totals)
}

/// The other direction: every document of a snapshot past the same detector, in shard and document order. `advance` is told of bytes of
/// text judged; its error ends the run.
pub fn check_snapshot(
    detector: &Detector,
    snapshot: &Snapshot,
    each: &mut dyn FnMut(&Document, Vec<Row>) -> Result<()>,
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
            advance(batch.iter().map(|d| d.text.len() as u64).sum())?;
        }
    }
    Ok(totals)
}

/// Judges a batch on all threads and hands out the rows in order.
fn judge(
    detector: &Detector,
    batch: &[Document],
    totals: &mut Totals,
    each: &mut dyn FnMut(&Document, Vec<Row>) -> Result<()>,
) -> Result<()> {
    let found = batch.par_iter().map(|d| rows(detector, d, detector.document(d)?)).collect::<Result<Vec<_>>>()?;
    for (document, rows) in batch.iter().zip(found) {
        totals.documents += 1;
        totals.text_bytes += document.text.len() as u64;
        if !rows.is_empty() {
            totals.dirty_documents += rows.iter().any(|r| r.level == Level::Dirty) as u64;
            each(document, rows)?;
        }
    }
    Ok(())
}

/// The report rows of a document's findings.
fn rows(detector: &Detector, document: &Document, findings: Vec<Finding>) -> Result<Vec<Row>> {
    let index = detector.index();
    let first: Option<Protocol> = detector.settings().protocols.first().copied();
    findings
        .into_iter()
        .map(|f| {
            let meta = index.meta(f.item)?;
            let name = |o: &crate::reference::Origin| format!("{}/{}", o.benchmark, o.id);
            let origin = meta.origins.first().cloned().unwrap_or_default();
            let strongest = f.evidence.components.iter().max_by(|a, b| a.matched_weight.total_cmp(&b.matched_weight));
            let bytes = strongest.map_or(0..0, |c| c.document.clone());
            Ok(Row {
                training_file: document.path.clone(),
                training_line: document.record,
                document_id: document.id.clone(),
                document_hash: text_hash(&document.text),
                eval_key: origin.benchmark.clone(),
                eval_instance_index: origin.id.clone(),
                also: meta.origins.iter().skip(1).map(name).collect(),
                level: f.level(),
                contamination_score: first.and_then(|p| f.verdict(p)).map_or(0.0, |v| v.score),
                components: f
                    .evidence
                    .components
                    .iter()
                    .map(|c| ComponentRow {
                        component: c.kind.name(),
                        coverage: c.coverage(),
                        matched_words: c.matched_words,
                        words: c.words,
                        longest_match_words: c.longest_words,
                        spans: c
                            .pieces
                            .iter()
                            .map(|p| [p.document.start, p.document.end, p.component.start, p.component.end])
                            .collect(),
                    })
                    .collect(),
                choices: (f.evidence.choices.of > 0).then_some((f.evidence.choices.found, f.evidence.choices.of)),
                corpus_frequency: f.evidence.corpus_frequency,
                verdicts: f
                    .verdicts
                    .iter()
                    .map(|(p, v)| (p.name(), VerdictRow { level: v.level, score: v.score, rule: v.rule }))
                    .collect(),
                training_text: document.text.get(bytes.clone()).unwrap_or_default().to_string(),
                training_bytes: [bytes.start, bytes.end],
                eval_text: strongest.map_or_else(String::new, |c| index.component(c.component).text.to_string()),
            })
        })
        .collect()
}
