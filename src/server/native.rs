//! The native API, `/v1/…`: every query of the library as JSON.
//!
//! A query is given as `query` (text), `ids` (token ids of a closed vocabulary) or `expression` (boolean, where it makes sense). Each
//! answer names the index and the generation it is true of. `/openapi.json` describes all of it.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::redact::Redact;
use super::request::JsonBody;
use super::work::Cost;
use super::{App, Served};
use crate::ann::VectorIndex;
use crate::index::{DocumentRef, Snapshot};
use crate::query::Ngram;
use crate::query::boolean::Expression;
use crate::query::filter::DocumentFilter;
use crate::query::find::{FindOptions, context};
use crate::query::neighbors::NeighborOptions;
use crate::query::trace::{Rank, TraceOptions};

/// An answer: what it is about, then the library's own answer.
#[derive(Serialize)]
struct Answer<'a, T> {
    index: &'a str,
    generation: u64,
    #[serde(flatten)]
    answer: T,
}

pub(super) type Handled = Result<Response, Problem>;

/// Runs `query` on a snapshot of the index `name` and sends what it returns.
pub(super) async fn answer<T: Serialize>(
    app: &Arc<App>,
    name: &str,
    cost: Cost,
    query: impl FnOnce(&App, &Served, &Snapshot) -> Result<T, Problem> + Send + 'static,
) -> Handled {
    let served = app.indexes.get(name)?;
    let owned = app.clone();
    let body = app
        .work
        .run(cost, move || {
            let snapshot = served.snapshot();
            let answer = query(&owned, &served, &snapshot)?;
            let answer = Answer { index: &served.name, generation: snapshot.manifest.generation, answer };
            serde_json::to_vec(&answer).map_err(|e| Problem::internal(e.to_string()))
        })
        .await?;
    Ok(json(body))
}

pub(super) fn json(body: Vec<u8>) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// What a request looks for.
enum Sought {
    Ngram(Ngram),
    Expression(Expression, Option<usize>),
}

fn ngram_of_text(app: &App, snapshot: &Snapshot, text: &str) -> Result<Ngram, Problem> {
    check_chars("query", text, app.settings.limits.query_chars)?;
    Ok(snapshot.ngram(text)?)
}

fn ngram_of_ids(app: &App, snapshot: &Snapshot, ids: &[u32]) -> Result<Ngram, Problem> {
    at_most("ids", ids.len(), app.settings.limits.query_chars)?;
    Ok(snapshot.ngram_of_ids(ids)?)
}

fn sought(
    app: &App,
    snapshot: &Snapshot,
    query: Option<&str>,
    ids: Option<&[u32]>,
    expression: Option<&str>,
    window: Option<usize>,
) -> Result<Sought, Problem> {
    if window.is_some() && expression.is_none() {
        return Err(Problem::invalid("`window` needs `expression`: a single n-gram has no window"));
    }
    match (query, ids, expression) {
        (Some(text), None, None) => Ok(Sought::Ngram(ngram_of_text(app, snapshot, text)?)),
        (None, Some(ids), None) => Ok(Sought::Ngram(ngram_of_ids(app, snapshot, ids)?)),
        (None, None, Some(text)) => {
            check_chars("expression", text, app.settings.limits.query_chars)?;
            let expression = Expression::parse(snapshot, text)?;
            let rarest = expression.clauses.iter().map(|c| c.iter().map(|n| snapshot.count(n)).sum::<u64>()).min();
            check_occurrences(app, rarest.unwrap_or(0))?;
            Ok(Sought::Expression(expression, window))
        }
        _ => Err(Problem::invalid("give exactly one of `query`, `ids` and `expression`")),
    }
}

pub(super) fn check_chars(what: &str, text: &str, limit: usize) -> Result<(), Problem> {
    // A character has at most four bytes, so most texts need no counting.
    if text.len() > limit && text.chars().count() > limit {
        return Err(Problem::invalid(format!("`{what}` is longer than the limit of {limit} characters")));
    }
    Ok(())
}

pub(super) fn at_most(what: &str, given: usize, limit: usize) -> Result<(), Problem> {
    if given > limit { Err(Problem::invalid(format!("`{what}` is {given}, the limit is {limit}"))) } else { Ok(()) }
}

fn check_occurrences(app: &App, count: u64) -> Result<(), Problem> {
    let limit = app.settings.limits.occurrences;
    if count > limit {
        return Err(Problem::invalid(format!("{count} occurrences would have to be listed, the limit is {limit}"))
            .hint("look for something longer; /count counts it whatever its frequency"));
    }
    Ok(())
}

/// `GET /v1/indexes`
pub async fn indexes(State(app): State<Arc<App>>) -> Response {
    let list: Vec<_> = app.indexes.iter().map(|s| describe(&app, s)).collect();
    axum::Json(serde_json::json!({ "indexes": list })).into_response()
}

/// `GET /v1/{index}`
pub async fn index(State(app): State<Arc<App>>, Path(name): Path<String>) -> Handled {
    let served = app.indexes.get(&name)?;
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
        "redacted": app.settings.redact,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountRequest {
    query: Option<String>,
    ids: Option<Vec<u32>>,
    expression: Option<String>,
    window: Option<usize>,
    queries: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Counted {
    One { count: u64, tokens: usize, approximate: bool },
    Boolean(crate::query::boolean::BooleanCount),
    Batch { counts: Vec<u64>, approximate: bool },
}

/// `POST /v1/{index}/count`
pub async fn count(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    JsonBody(r): JsonBody<CountRequest>,
) -> Handled {
    let cost = if r.expression.is_some() || r.queries.is_some() { Cost::Expensive } else { Cost::Cheap };
    answer(&app, &name, cost, move |app, _, snapshot| {
        if let Some(queries) = &r.queries {
            if r.query.is_some() || r.ids.is_some() || r.expression.is_some() || r.window.is_some() {
                return Err(Problem::invalid("`queries` stands alone"));
            }
            at_most("queries", queries.len(), app.settings.limits.batch)?;
            let ngrams = queries.iter().map(|q| ngram_of_text(app, snapshot, q)).collect::<Result<Vec<_>, _>>()?;
            return Ok(Counted::Batch { counts: snapshot.counts(&ngrams), approximate: false });
        }
        Ok(match sought(app, snapshot, r.query.as_deref(), r.ids.as_deref(), r.expression.as_deref(), r.window)? {
            Sought::Ngram(n) => Counted::One { count: snapshot.count(&n), tokens: n.len(), approximate: false },
            Sought::Expression(e, w) => Counted::Boolean(snapshot.boolean_count(&e, w)?),
        })
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindRequest {
    query: Option<String>,
    ids: Option<Vec<u32>>,
    expression: Option<String>,
    window: Option<usize>,
    #[serde(default)]
    offset: usize,
    limit: Option<usize>,
    per_document: Option<usize>,
    context: Option<usize>,
}

/// `POST /v1/{index}/find`
pub async fn find(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    JsonBody(r): JsonBody<FindRequest>,
) -> Handled {
    answer(&app, &name, Cost::Expensive, move |app, _, snapshot| {
        let limits = &app.settings.limits;
        let d = FindOptions::default();
        let options = FindOptions {
            offset: r.offset,
            limit: r.limit.unwrap_or(d.limit),
            per_document: r.per_document.unwrap_or(d.per_document),
            context: r.context.unwrap_or(d.context),
        };
        at_most("limit", options.limit, limits.results)?;
        at_most("per_document", options.per_document, limits.results)?;
        at_most("context", options.context, limits.context_chars)?;
        // Context around every occurrence of a page adds up.
        at_most(
            "limit × per_document × context",
            options.limit.saturating_mul(options.per_document).saturating_mul(options.context),
            50_000_000,
        )?;
        let mut found =
            match sought(app, snapshot, r.query.as_deref(), r.ids.as_deref(), r.expression.as_deref(), r.window)? {
                Sought::Ngram(n) => {
                    if n.is_empty() {
                        return Err(Problem::invalid("the query has no tokens")
                            .hint("the index's tokenizer finds no token in it"));
                    }
                    check_occurrences(app, snapshot.count(&n))?;
                    snapshot.find(&n, &options)?
                }
                Sought::Expression(e, w) => snapshot.boolean_find(&e, w, &options)?,
            };
        if app.settings.redact {
            found.redact();
        }
        Ok(found)
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextRequest {
    prompt: Option<String>,
    ids: Option<Vec<u32>>,
    top_k: Option<usize>,
    /// Use the prompt's longest suffix that occurs.
    #[serde(default)]
    infgram: bool,
}

/// `POST /v1/{index}/next`
pub async fn next(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    JsonBody(r): JsonBody<NextRequest>,
) -> Handled {
    answer(&app, &name, Cost::Expensive, move |app, _, snapshot| {
        if app.settings.redact {
            return Err(withheld("token after token, next-token distributions spell out documents"));
        }
        let top_k = r.top_k.unwrap_or(20);
        at_most("top_k", top_k, app.settings.limits.results)?;
        if top_k == 0 {
            return Err(Problem::invalid("`top_k` must be at least 1"));
        }
        let prompt = match (&r.prompt, &r.ids) {
            (Some(text), None) => ngram_of_text(app, snapshot, text)?,
            (None, Some(ids)) => ngram_of_ids(app, snapshot, ids)?,
            _ => return Err(Problem::invalid("give exactly one of `prompt` and `ids`")),
        };
        Ok(if r.infgram { snapshot.infgram_next(&prompt, top_k) } else { snapshot.next(&prompt, top_k) })
    })
    .await
}

pub(super) fn withheld(why: &str) -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "redacted",
        "Redacted",
        format!("this server withholds the corpus's text: {why}"),
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRequest {
    text: String,
    min_tokens: Option<usize>,
    max_count: Option<u64>,
    density: Option<f64>,
    rank: Option<Rank>,
    #[serde(default)]
    delimiters: Vec<String>,
    #[serde(default)]
    whole_words: bool,
    documents_per_span: Option<usize>,
    context: Option<usize>,
    seed: Option<u64>,
}

/// `POST /v1/{index}/trace`
pub async fn trace(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    JsonBody(r): JsonBody<TraceRequest>,
) -> Handled {
    answer(&app, &name, Cost::Expensive, move |app, _, snapshot| {
        let limits = &app.settings.limits;
        let d = TraceOptions::default();
        check_chars("text", &r.text, limits.text_chars)?;
        at_most("delimiters", r.delimiters.len(), 100)?;
        if r.delimiters.iter().any(|d| d.is_empty()) {
            return Err(Problem::invalid("a delimiter is empty"));
        }
        if r.density.is_some_and(|d| !(d > 0.0 && d.is_finite())) {
            return Err(Problem::invalid("`density` must be a number above 0"));
        }
        let options = TraceOptions {
            min_tokens: r.min_tokens.unwrap_or(d.min_tokens),
            max_count: r.max_count,
            density: r.density,
            rank: r.rank.unwrap_or_default(),
            delimiters: r.delimiters,
            whole_words: r.whole_words,
            documents_per_span: r.documents_per_span.unwrap_or(d.documents_per_span),
            context: r.context.unwrap_or(d.context),
            seed: r.seed.unwrap_or(d.seed),
        };
        at_most("documents_per_span", options.documents_per_span, limits.results.min(100))?;
        at_most("context", options.context, limits.context_chars)?;
        let mut trace = snapshot.trace(&r.text, &options)?;
        if app.settings.redact {
            trace.redact();
        }
        Ok(trace)
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeighborsRequest {
    text: String,
    top_k: Option<usize>,
    at_least: Option<f32>,
    #[serde(default)]
    rerank: usize,
    #[serde(default)]
    group_by_document: bool,
    path_contains: Option<String>,
}

#[derive(Serialize)]
struct Neighbors {
    neighbors: Vec<crate::query::neighbors::Neighbor>,
    /// Measured recall of the vector search on this index, by search; empty when it was not measured.
    recall: serde_json::Map<String, serde_json::Value>,
    /// Whether the vector search may miss a neighbour.
    approximate: bool,
}

/// `POST /v1/{index}/neighbors`
pub async fn neighbors(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    JsonBody(r): JsonBody<NeighborsRequest>,
) -> Handled {
    answer(&app, &name, Cost::Expensive, move |app, served, snapshot| {
        let limits = &app.settings.limits;
        check_chars("text", &r.text, limits.query_chars)?;
        let options = NeighborOptions {
            top_k: r.top_k.unwrap_or(10),
            at_least: r.at_least,
            rerank: r.rerank,
            group_by_document: r.group_by_document,
            filter: DocumentFilter { path_contains: r.path_contains, ..DocumentFilter::default() },
            ..NeighborOptions::default()
        };
        at_most("top_k", options.top_k, limits.results)?;
        at_most("rerank", options.rerank, limits.results)?;
        let encoder = served.encoder()?;
        let mut found = snapshot.neighbors(encoder, &[&r.text], &options)?.pop().unwrap_or_default();
        found.truncate(limits.results);
        if app.settings.redact {
            found.redact();
        }
        let exact = snapshot.shards.iter().filter_map(|s| s.semantic.as_ref()).all(|s| s.vectors.is_exact());
        Ok(Neighbors { neighbors: found, recall: snapshot.manifest.recall.clone(), approximate: !exact })
    })
    .await
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
struct Excerpt {
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

/// `GET /v1/{index}/document`
pub async fn document(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    query: Result<Query<DocumentRequest>, axum::extract::rejection::QueryRejection>,
) -> Handled {
    let Query(r) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    answer(&app, &name, Cost::Expensive, move |app, _, snapshot| {
        let missing = |what: String| {
            Problem::not_found(format!("there is no document {what} in generation {}", snapshot.manifest.generation))
        };
        let (at, same_id) = match (&r.id, r.shard, r.document) {
            (Some(id), None, None) => {
                let all = snapshot.find_id(id)?;
                let (first, rest) = all
                    .split_first()
                    .ok_or_else(|| missing(format!("{:?}", id.chars().take(200).collect::<String>())))?;
                (*first, rest.to_vec())
            }
            (None, Some(shard), Some(document)) => {
                let at = DocumentRef { shard, document };
                if !snapshot.has(at) {
                    return Err(missing(format!("{document} of shard {shard}")));
                }
                (at, Vec::new())
            }
            _ => return Err(Problem::invalid("give `id`, or `shard` and `document`")),
        };
        let stored = snapshot.document(at)?;
        let text = stored.text;
        let start = r.start_byte.unwrap_or(0);
        let end = r.end_byte.unwrap_or(start);
        if start > end || end > text.len() || !text.is_char_boundary(start) || !text.is_char_boundary(end) {
            return Err(Problem::invalid(format!(
                "bytes {start}..{end} are no part of this text of {} bytes, or cut a character",
                text.len()
            )));
        }
        let around = r.context.unwrap_or(2000);
        at_most("context", around, app.settings.limits.context_chars)?;
        at_most("end_byte - start_byte", end - start, 4 * app.settings.limits.context_chars)?;
        let (before, after) = context(&text, &(start..end), around);
        let (from, to) = (before.start, after.end);
        let redact = app.settings.redact;
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
    })
    .await
}
