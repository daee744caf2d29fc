//! The native API, `/v1/…`: every query of the library as JSON.
//!
//! - [`Ask`] is a query: its body, what it may cost, its answer, and its answer as lines where that can be long.
//! - `exact`: count, find, next, trace. `semantic`: neighbours. `novelty`. `decontaminate`. `documents`: documents and what is served.
//! - `batch`: many queries of any kind in one request. `lines`: answers as NDJSON, sent while they are made.
//!
//! A query is given as `query` (text), `ids` (token ids of a closed vocabulary) or `expression` (boolean, where it makes sense). Each
//! answer names the index and the generation it is true of. `/openapi.json` describes all of it.

pub mod batch;
pub mod decontaminate;
pub mod documents;
pub mod exact;
mod lines;
pub mod novelty;
pub mod semantic;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use super::request::JsonBody;
use super::work::Cost;
use super::{App, Served};
use crate::index::Snapshot;
use lines::Lines;

type Handled = Result<Response, Problem>;

/// What a query is asked of: an index at one generation, and until when its answer is wanted.
pub struct On<'a> {
    pub app: &'a App,
    pub served: &'a Served,
    pub snapshot: &'a Snapshot,
    pub deadline: Instant,
}

impl On<'_> {
    /// Ends a query that nobody waits for any more.
    fn in_time(&self) -> Result<(), Problem> {
        match Instant::now() < self.deadline {
            true => Ok(()),
            false => Err(Problem::overloaded("the time for this answer is over", 10).hint("ask for less")),
        }
    }

    fn about<T: Serialize>(&self, answer: T) -> Answer<'_, T> {
        Answer { index: &self.served.name, generation: self.snapshot.manifest.generation, answer }
    }
}

/// A query of the native API; it is the body of its request.
pub trait Ask: DeserializeOwned + Send + 'static {
    type Answer: Serialize;

    fn cost(&self) -> Cost {
        Cost::Expensive
    }

    /// The answer.
    fn answer(self, on: &On<'_>) -> Result<Self::Answer, Problem>;

    /// The answer as lines, the long part of it one by one. Without a long part it is one line.
    fn lines(self, on: &On<'_>, out: &mut Lines) -> Result<(), Problem> {
        let answer = self.answer(on)?;
        out.put(&on.about(answer))
    }
}

/// An answer: what it is about, then the library's own answer.
#[derive(Serialize)]
struct Answer<'a, T> {
    index: &'a str,
    generation: u64,
    #[serde(flatten)]
    answer: T,
}

/// The index that a path names.
pub struct Named(pub Arc<Served>);

impl FromRequestParts<Arc<App>> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let path = RawPathParams::from_request_parts(parts, app).await;
        let path = path.map_err(|e| Problem::bad_request(e.body_text()))?;
        let name = path.iter().find(|(key, _)| *key == "index").map_or("", |(_, name)| name);
        app.indexes.get(name).map(Named)
    }
}

/// The kind of answer asked for by `Accept: application/x-ndjson`.
const NDJSON: &str = "application/x-ndjson";

fn wants_lines(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|kind| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(NDJSON))
}

/// `POST /v1/{index}/…`: asks one query.
pub async fn ask<Q: Ask>(
    State(app): State<Arc<App>>,
    Named(served): Named,
    headers: HeaderMap,
    JsonBody(query): JsonBody<Q>,
) -> Handled {
    if wants_lines(&headers) {
        return lines::respond(&app, served, query.cost(), move |on, out| query.lines(on, out)).await;
    }
    answer(&app, served, query.cost(), move |on| query.answer(on)).await
}

/// Runs `query` on the index and sends what it returns.
async fn answer<T: Serialize>(
    app: &Arc<App>,
    served: Arc<Served>,
    cost: Cost,
    query: impl FnOnce(&On<'_>) -> Result<T, Problem> + Send + 'static,
) -> Handled {
    let owned = app.clone();
    let deadline = Instant::now() + app.settings.limits.timeout;
    let body = app
        .work
        .run(cost, move || {
            let snapshot = served.snapshot();
            let on = On { app: &owned, served: &served, snapshot: &snapshot, deadline };
            let answer = query(&on)?;
            serde_json::to_vec(&on.about(answer)).map_err(|e| Problem::internal(e.to_string()))
        })
        .await?;
    Ok(json(body))
}

pub(super) fn json(body: Vec<u8>) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

pub(super) fn check_chars(what: &str, text: &str, limit: usize) -> Result<(), Problem> {
    // A character has at most four bytes, so most texts need no counting.
    if text.len() > limit && text.chars().count() > limit {
        return Err(Problem::invalid(format!("`{what}` is longer than the limit of {limit} characters")));
    }
    Ok(())
}

pub(super) fn at_most(what: &str, value: usize, limit: usize) -> Result<(), Problem> {
    if value > limit {
        return Err(Problem::invalid(format!("`{what}` is {value}; at most {limit} is allowed")));
    }
    Ok(())
}

/// Refuses what would tell text that the server withholds.
pub(super) fn withheld(why: &str) -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "redacted",
        "Redacted",
        format!("this server withholds the corpus's text: {why}"),
    )
}
