//! OLMoTrace's interface: `POST /{index}/attribution`, `GET /indexes`, `GET /health/`, with its fields and defaults.
//!
//! Bodies in camelCase or snake_case; unknown fields are ignored, because its page sends some. `displayOffsetSnippet` carries the
//! snippet's length, as its clients read it. Errors are problem details.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::native::Named;
use super::passages::Passages;
use super::problem::Problem;
use super::request::JsonBody;
use super::work::Cost;
use crate::index::{DocumentRef, Snapshot};
use crate::query::Ngram;
use crate::query::trace::{Rank, TraceOptions};

/// `GET /health/`
pub async fn health() -> StatusCode {
    StatusCode::NO_CONTENT
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Ranking {
    #[default]
    Length,
    UnigramLogprobSum,
}

/// The body of a request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attribution {
    response: String,
    #[serde(default)]
    delimiters: Vec<String>,
    #[serde(default, alias = "allow_spans_with_partial_words")]
    allow_spans_with_partial_words: bool,
    #[serde(alias = "minimum_span_length")]
    minimum_span_length: Option<NonZeroUsize>,
    #[serde(alias = "maximum_frequency")]
    maximum_frequency: Option<NonZeroUsize>,
    #[serde(alias = "maximum_span_density")]
    maximum_span_density: Option<f64>,
    #[serde(default, alias = "span_ranking_method")]
    span_ranking_method: Ranking,
    #[serde(alias = "maximum_documents_per_span")]
    maximum_documents_per_span: Option<NonZeroUsize>,
    #[serde(alias = "maximum_context_length")]
    maximum_context_length: Option<NonZeroUsize>,
    #[serde(alias = "maximum_context_length_long")]
    maximum_context_length_long: Option<NonZeroUsize>,
    #[serde(alias = "maximum_context_length_snippet")]
    maximum_context_length_snippet: Option<NonZeroUsize>,
}

/// Tokens shown on each side of a span.
#[derive(Clone, Copy)]
struct Context {
    display: usize,
    long: usize,
    snippet: usize,
}

/// `POST /{index}/attribution`
pub async fn attribution(
    State(app): State<Arc<App>>,
    Named(served): Named,
    JsonBody(r): JsonBody<Attribution>,
) -> Result<Response, Problem> {
    let limits = &app.settings.limits;
    let or = |n: Option<NonZeroUsize>, default: usize| n.map_or(default, NonZeroUsize::get);
    let context = Context {
        display: or(r.maximum_context_length, 250),
        long: or(r.maximum_context_length_long, 100),
        snippet: or(r.maximum_context_length_snippet, 40),
    };
    let options = TraceOptions {
        min_tokens: or(r.minimum_span_length, 1),
        max_count: Some(or(r.maximum_frequency, 10) as u64),
        density: Some(r.maximum_span_density.unwrap_or(0.05)),
        rank: match r.span_ranking_method {
            Ranking::Length => Rank::Length,
            Ranking::UnigramLogprobSum => Rank::Rarity,
        },
        delimiters: r.delimiters,
        whole_words: !r.allow_spans_with_partial_words,
        documents_per_span: or(r.maximum_documents_per_span, 10),
        document_spans: None,
        context: 0,
        seed: 42,
    };
    super::native::check_chars("response", &r.response, limits.text_chars)?;
    super::native::at_most("delimiters", options.delimiters.len(), 100)?;
    super::native::at_most("maximumDocumentsPerSpan", options.documents_per_span, 100)?;
    for length in [context.display, context.long, context.snippet] {
        super::native::at_most("maximumContextLength", length, limits.context_chars)?;
    }
    if !options.density.is_some_and(|d| d > 0.0 && d.is_finite()) {
        return Err(Problem::invalid("`maximumSpanDensity` must be above 0"));
    }
    let owned = app.clone();
    let body = app
        .work
        .run(Cost::Expensive, move || {
            let snapshot = served.snapshot();
            let value = attribute(&snapshot, &served.name, &r.response, &options, context, owned.settings.redact)?;
            serde_json::to_vec(&value).map_err(|e| Problem::internal(e.to_string()))
        })
        .await?;
    Ok(super::native::json(body))
}

fn attribute(
    snapshot: &Snapshot,
    index: &str,
    response: &str,
    options: &TraceOptions,
    context: Context,
    redact: bool,
) -> Result<Value, Problem> {
    let tokens = snapshot.tokenize(response)?.tokens;
    let input: Vec<String> = match &tokens {
        Ngram::Ids(ids) => ids.iter().map(|&id| snapshot.token_text(id)).collect(),
        Ngram::Terms(terms) => terms.clone(),
    };
    let trace = snapshot.trace(response, options)?;
    // Spans of one text tend to come from the same documents.
    let mut read: HashMap<DocumentRef, Passages> = HashMap::new();
    let mut spans = Vec::with_capacity(trace.spans.len());
    for span in &trace.spans {
        let length = span.right - span.left;
        let mut documents = Vec::with_capacity(span.documents.len());
        for found in &span.documents {
            let passages = match read.entry(found.document) {
                Entry::Occupied(e) => e.into_mut(),
                Entry::Vacant(e) => e.insert(Passages::read(snapshot, found.document)?),
            };
            let needle = found.occurrences.first().map_or(0, |o| o.token as usize).min(passages.len());
            documents.push(document(passages, needle, length, context, redact));
        }
        let ids: Vec<u32> = match tokens.slice(span.left..span.right) {
            Ngram::Ids(ids) => ids,
            Ngram::Terms(_) => Vec::new(),
        };
        spans.push(json!({
            "left": span.left,
            "right": span.right,
            "length": length,
            "count": span.count,
            "unigramLogprobSum": span.unigram_logprob_sum,
            "text": span.text,
            "tokenIds": ids,
            "documents": documents,
        }));
    }
    Ok(json!({ "index": index, "inputTokens": input, "spans": spans }))
}

/// A document around the `length` tokens at `needle`.
fn document(passages: &Passages, needle: usize, length: usize, context: Context, redact: bool) -> Value {
    let end = (needle + length).min(passages.len());
    let window = |n: usize| needle.saturating_sub(n)..end.saturating_add(n).min(passages.len());
    let (display, long, snippet) = (window(context.display), window(context.long), window(context.snippet));
    let text = |w: &std::ops::Range<usize>| if redact { "" } else { passages.text(w.clone()) };
    let stored = &passages.stored;
    let metadata = if redact { Default::default() } else { stored.metadata.clone() };
    json!({
        "documentIndex": passages.number,
        "documentLength": passages.len(),
        "displayLength": display.len(),
        "needleOffset": needle - display.start,
        "metadata": { "path": stored.path, "linenum": stored.record, "metadata": metadata },
        "tokenIds": if redact { &[] } else { passages.token_ids(display.clone()) },
        "text": text(&display),
        "blocked": redact,
        "displayLengthLong": long.len(),
        "needleOffsetLong": needle - long.start,
        "textLong": text(&long),
        "displayOffsetSnippet": snippet.len(),
        "needleOffsetSnippet": needle - snippet.start,
        "textSnippet": text(&snippet),
    })
}
