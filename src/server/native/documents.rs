//! Documents, whole or in part, and what is served.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::{Ask, Handled, Named, On, answer, at_most};
use crate::ann::SearchParams;
use crate::index::DocumentRef;
use crate::query::find::context;
use crate::server::problem::Problem;
use crate::server::work::Cost;
use crate::server::{App, Served};

/// `GET /v1/indexes`
pub async fn indexes(State(app): State<Arc<App>>) -> Response {
    let list: Vec<_> = app.indexes.iter().map(|s| describe(&app, s)).collect();
    axum::Json(serde_json::json!({ "indexes": list })).into_response()
}

/// `GET /v1/{index}`
pub async fn index(State(app): State<Arc<App>>, Named(served): Named) -> Handled {
    let described = describe(&app, &served);
    let owned = served.clone();
    let (sources, generations) = app
        .work
        .run(Cost::Cheap, move || {
            let snapshot = owned.snapshot();
            let mut paths: Vec<String> = Vec::new();
            for shard in &snapshot.shards {
                paths.extend(shard.documents.path_list()?.into_iter().map(str::to_string));
            }
            paths.sort();
            paths.dedup();
            Ok((paths, snapshot.dir.generations().unwrap_or_default()))
        })
        .await?;
    /// Source paths listed at most.
    const SHOWN: usize = 500;
    let mut value = described;
    value["source_count"] = sources.len().into();
    value["sources"] = sources.into_iter().take(SHOWN).collect();
    value["generations"] = generations.into();
    Ok(axum::Json(value).into_response())
}

fn describe(app: &App, served: &Served) -> serde_json::Value {
    let s = served.snapshot();
    let m = &s.manifest;
    serde_json::json!({
        "name": served.name,
        "generation": m.generation,
        "created_by": m.created_by,
        "documents": m.corpus.documents,
        "tokens": m.corpus.tokens,
        "text_bytes": m.corpus.text_bytes,
        "tokenizer": { "kind": m.tokenizer.kind, "sha256": m.tokenizer.sha256, "vocab": m.tokenizer.vocab },
        "encoder": m.encoder.as_ref().map(|e| serde_json::json!({
            "name": e.name, "revision": e.revision, "sha256": e.sha256, "dim": e.dim, "pooling": e.pooling, "max_tokens": e.max_tokens,
        })),
        "chunking": m.chunking,
        "chunks": s.chunks(),
        "neighbors": served.encoder.is_some(),
        "shards": m.shards.iter().map(|p| serde_json::json!({
            "id": p.id, "documents": p.documents, "tokens": p.tokens, "text_bytes": p.text_bytes, "bytes": p.bytes(),
        })).collect::<Vec<_>>(),
        "removed_documents": m.removed.iter().map(|p| p.documents).sum::<u64>(),
        "recall": m.recall,
        "neighbors_recall": m.encoder.as_ref().map(|_| s.search_recall(&SearchParams::default(), false).words()),
        "novelty_recall": served.recall(m.generation),
        "redacted": app.settings.redact,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentRequest {
    id: Option<String>,
    shard: Option<u32>,
    document: Option<u32>,
    start_byte: Option<usize>,
    end_byte: Option<usize>,
    /// Characters before and after.
    context: Option<usize>,
}

/// A document, or the part of it around a byte range.
#[derive(Serialize)]
pub struct Excerpt {
    #[serde(flatten)]
    document: DocumentRef,
    id: String,
    path: String,
    record: u64,
    metadata: serde_json::Map<String, serde_json::Value>,
    /// Bytes of the whole text.
    text_bytes: usize,
    /// Where `text` begins in it.
    excerpt_start: usize,
    excerpt_end: usize,
    /// Null when the server withholds text.
    text: Option<String>,
    /// Further documents with the same id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    same_id: Vec<DocumentRef>,
}

impl Ask for DocumentRequest {
    type Answer = Excerpt;

    fn answer(self, on: &On<'_>) -> Result<Excerpt, Problem> {
        let missing = |what: String| {
            Problem::not_found(format!("there is no document {what} in generation {}", on.snapshot.manifest.generation))
        };
        let (at, same_id) = match (&self.id, self.shard, self.document) {
            (Some(id), None, None) => {
                let all = on.snapshot.find_id(id)?;
                let (first, rest) = all
                    .split_first()
                    .ok_or_else(|| missing(format!("{:?}", id.chars().take(200).collect::<String>())))?;
                (*first, rest.to_vec())
            }
            (None, Some(shard), Some(document)) => {
                let at = DocumentRef { shard, document };
                if !on.snapshot.has(at) {
                    return Err(missing(format!("{document} of shard {shard}")));
                }
                (at, Vec::new())
            }
            _ => return Err(Problem::invalid("give `id`, or `shard` and `document`")),
        };
        let stored = on.snapshot.document(at)?;
        let text = stored.text;
        let start = self.start_byte.unwrap_or(0);
        let end = self.end_byte.unwrap_or(start);
        if start > end || end > text.len() || !text.is_char_boundary(start) || !text.is_char_boundary(end) {
            return Err(Problem::invalid(format!(
                "bytes {start}..{end} are no part of this text of {} bytes, or cut a character",
                text.len()
            )));
        }
        let around = self.context.unwrap_or(2000);
        at_most("context", around, on.app.settings.limits.context_chars)?;
        at_most("end_byte - start_byte", end - start, 4 * on.app.settings.limits.context_chars)?;
        let (before, after) = context(&text, &(start..end), around);
        let (from, to) = (before.start, after.end);
        let redact = on.app.settings.redact;
        Ok(Excerpt {
            document: at,
            id: stored.id,
            path: stored.path,
            record: stored.record,
            metadata: if redact { Default::default() } else { stored.metadata },
            text_bytes: text.len(),
            excerpt_start: from,
            excerpt_end: to,
            text: (!redact).then(|| text[from..to].to_string()),
            same_id,
        })
    }
}

/// `GET /v1/{index}/document`
pub async fn document(
    State(app): State<Arc<App>>,
    Named(served): Named,
    query: Result<Query<DocumentRequest>, QueryRejection>,
) -> Handled {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    answer(&app, served, query.cost(), move |on| query.answer(on)).await
}
