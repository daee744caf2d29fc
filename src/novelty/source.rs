//! Which documents of the corpus hold a text: for leaving a human text's own source out, whatever its id there.
//!
//! A document *holds* a text when at least [`SHARE`] of the text's tokens lie in spans of at least [`SPAN`] tokens that occur in the
//! document. So a reprint with a few edits is found, and a text that only shares phrases is not. Cost: a trace, and a look at the
//! occurrences of its rare spans.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::index::{DocumentRef, Snapshot};
use crate::query::find::FindOptions;

/// Tokens of a span that tells of a source.
pub const SPAN: usize = 13;
/// Share of the text's tokens that a source holds.
pub const SHARE: f64 = 0.5;
/// Spans in more documents are phrases, not sources.
const MOST: u64 = 64;

/// The documents that hold `text`, in order.
pub fn holding(snapshot: &Snapshot, text: &str) -> Result<Vec<DocumentRef>> {
    let tokens = snapshot.ngram(text)?;
    let n = tokens.len();
    let mut covered: BTreeMap<DocumentRef, Vec<(usize, usize)>> = BTreeMap::new();
    for (left, right, count) in snapshot.maximal_spans(&tokens) {
        if right - left < SPAN || count > MOST {
            continue;
        }
        let options = FindOptions { limit: MOST as usize, per_document: 0, context: 0, ..FindOptions::default() };
        for document in snapshot.find(&tokens.slice(left..right), &options)?.found {
            covered.entry(document.document).or_default().push((left, right));
        }
    }
    let share = |spans: &[(usize, usize)]| {
        let (mut sum, mut reach) = (0, 0);
        for &(left, right) in spans {
            sum += right.saturating_sub(left.max(reach));
            reach = reach.max(right);
        }
        sum as f64 / n.max(1) as f64
    };
    Ok(covered.into_iter().filter(|(_, spans)| share(spans) >= SHARE).map(|(document, _)| document).collect())
}
