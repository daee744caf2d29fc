//! `POST /v1/{index}/decontaminate`: which of the index's documents contain eval items, by the same pass as the command's.
//!
//! Every document of the generation is read, so "nothing found" means that no document gives these protocols the evidence they ask
//! for; of what they cannot see (paraphrases, translations) it says nothing. Cost: a pass over all text, a second or two a 100 MB.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::lines::Lines;
use super::{Ask, On, at_most};
use crate::decontaminate::run::{Row, check_snapshot};
use crate::decontaminate::{Detector, Level, Protocol, Settings};
use crate::error::Error;
use crate::reference::{Mapping, ReferenceIndex, from_rows};
use crate::server::problem::Problem;

/// Items in a request.
const ITEMS: usize = 100;
/// Characters of an item's JSON.
const ITEM_CHARS: usize = 50_000;
/// Findings in an answer that is not sent line by line, unless the request says how many.
const SHOWN: usize = 100;

type Item = serde_json::Map<String, serde_json::Value>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecontaminateRequest {
    /// An eval item as a benchmark file has it.
    item: Option<Item>,
    items: Option<Vec<Item>>,
    /// Fields of the items, as `--map` takes them.
    map: Option<String>,
    /// Protocols, as `--protocol` takes them.
    protocol: Option<String>,
    /// Findings to return.
    limit: Option<usize>,
}

/// The gravest verdict of a protocol over all documents.
#[derive(Serialize)]
struct Gravest {
    level: Level,
    score: f32,
    /// Documents in which it says so of some item.
    documents: u64,
}

/// What the pass saw.
#[derive(Serialize)]
pub struct Judged {
    items: usize,
    documents: u64,
    text_bytes: u64,
    /// Documents with a dirty item.
    dirty_documents: u64,
    /// Findings in all; as many as were asked for are in the answer.
    found: u64,
    verdicts: BTreeMap<&'static str, Gravest>,
    /// The findings, in the order of the documents; in an answer line by line they come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    findings: Option<Vec<Row>>,
}

impl DecontaminateRequest {
    fn run(self, on: &On<'_>, put: &mut dyn FnMut(Row) -> Result<(), Problem>) -> Result<Judged, Problem> {
        let rows = match (self.item, self.items) {
            (Some(item), None) => vec![item],
            (None, Some(items)) => items,
            _ => return Err(Problem::invalid("give exactly one of `item` and `items`")),
        };
        at_most("items", rows.len(), ITEMS)?;
        for row in &rows {
            at_most("characters of an item", serde_json::to_string(row).map_or(0, |s| s.len()), ITEM_CHARS)?;
        }
        let text_bytes = on.snapshot.manifest.corpus.text_bytes;
        let limit = on.app.settings.limits.scan_bytes;
        if text_bytes > limit {
            return Err(Problem::invalid(format!(
                "the index has {text_bytes} bytes of text, more than the {limit} this server reads for a request"
            ))
            .hint("priorart decontaminate --index checks a whole benchmark in one pass"));
        }
        let mapping = self.map.as_deref().map(Mapping::parse).transpose()?;
        let index = Arc::new(ReferenceIndex::build(&from_rows("request", rows, mapping.as_ref())?)?);
        let protocols = Protocol::parse_list(self.protocol.as_deref().unwrap_or("priorart"))?;
        let items = index.len();
        let settings = Settings { protocols: protocols.clone(), keep_clean: false, ..Settings::default() };
        let detector = Detector::new(index, settings)?;
        let mut verdicts: BTreeMap<&'static str, Gravest> =
            protocols.iter().map(|p| (p.name(), Gravest { level: Level::Clean, score: 0.0, documents: 0 })).collect();
        let (mut found, mut failed) = (0, None);
        // The pass knows the library's errors only: a problem is kept aside, and ends it.
        let stop = || Error::invalid("stopped");
        // Rows of a document follow each other.
        let mut counted: BTreeMap<Protocol, (String, u64)> = BTreeMap::new();
        let (mut dirty, mut dirty_documents) = (None, 0);
        let mut each = |mut row: Row| {
            found += 1;
            let document = (row.training_file.clone(), row.training_line);
            for (protocol, v) in &row.verdicts {
                let Some(g) = verdicts.get_mut(protocol.name()) else { continue };
                g.level = g.level.max(v.level);
                g.score = g.score.max(v.score);
                if v.level > Level::Clean && counted.get(protocol) != Some(&document) {
                    g.documents += 1;
                    counted.insert(*protocol, document.clone());
                }
            }
            if row.level == Level::Dirty && dirty.as_ref() != Some(&document) {
                dirty_documents += 1;
                dirty = Some(document);
            }
            if on.app.settings.redact {
                row.training_text.clear();
            }
            put(row).map_err(|problem| {
                failed = Some(problem);
                stop()
            })
        };
        let mut late = None;
        let totals = check_snapshot(&detector, on.snapshot, &mut each, &mut |_| match on.in_time() {
            Ok(()) => Ok(()),
            Err(problem) => {
                late = Some(problem);
                Err(stop())
            }
        });
        if let Some(problem) = failed.or(late) {
            return Err(problem);
        }
        let totals = totals?;
        Ok(Judged {
            items,
            documents: totals.documents,
            text_bytes: totals.text_bytes,
            dirty_documents,
            found,
            verdicts,
            findings: None,
        })
    }
}

impl Ask for DecontaminateRequest {
    type Answer = Judged;

    fn answer(self, on: &On<'_>) -> Result<Judged, Problem> {
        let limit = self.limit.unwrap_or(SHOWN);
        at_most("limit", limit, on.app.settings.limits.results)?;
        let mut findings = Vec::new();
        let judged = self.run(on, &mut |row| {
            if findings.len() < limit {
                findings.push(row);
            }
            Ok(())
        })?;
        Ok(Judged { findings: Some(findings), ..judged })
    }

    /// A line a finding, as `priorart decontaminate --format jsonl` writes them; the last line is the summary.
    fn lines(self, on: &On<'_>, out: &mut Lines) -> Result<(), Problem> {
        let limit = self.limit.unwrap_or(usize::MAX);
        let mut sent = 0;
        let judged = self.run(on, &mut |row| {
            sent += 1;
            if sent > limit { Ok(()) } else { out.put(&row) }
        })?;
        out.put(&on.about(judged))
    }
}
