//! infini-gram's interface, `POST /`: its request bodies, result fields, limits and error conventions.
//!
//! Semantic faults are answered 200 with `error`, malformed requests 400 with `[Flask] …`, as its clients expect. What differs: counts of
//! boolean queries are exact (`max_clause_freq` is checked and not needed), an argument a query type does not take is a 400, sampling
//! is seeded, and a busy server says 503. `ptr` is a byte offset into the shard's token stream.

mod query;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use query::{Query, ids_of, is_boolean, of_ids, of_text, plain, positions, printable, tokens_of};

use super::App;
use super::passages::{self, Passages};
use super::problem::Problem;
use super::request::RawBody;
use super::work::Cost;
use crate::error::Error;
use crate::index::{DocumentRef, Snapshot};
use crate::query::Ngram;
use crate::shard::Shard;
use crate::with_view;

/// Why there is no result.
enum Refused {
    /// What is asked for is not allowed: 200 with `error`.
    Value(String),
    /// The request is no such request: 400.
    Request(String),
    /// The index failed.
    Failed(Problem),
}

impl From<Error> for Refused {
    fn from(e: Error) -> Refused {
        match e {
            Error::Invalid { .. } => Refused::Value(e.to_string()),
            e => Refused::Failed(e.into()),
        }
    }
}

type Result<T> = std::result::Result<T, Refused>;

/// `POST /`
pub async fn answer(State(app): State<Arc<App>>, body: std::result::Result<RawBody, Problem>) -> Response {
    match handle(app, body).await {
        Ok(value) => axum::Json(value).into_response(),
        Err(Refused::Value(what)) => axum::Json(json!({ "error": what })).into_response(),
        Err(Refused::Request(what)) => failed(StatusCode::BAD_REQUEST, &what, None),
        Err(Refused::Failed(p)) => failed(p.status, &p.detail, p.retry_after),
    }
}

fn failed(status: StatusCode, what: &str, retry_after: Option<u32>) -> Response {
    let mut response = (status, axum::Json(json!({ "error": format!("[Flask] {what}") }))).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

async fn handle(app: Arc<App>, body: std::result::Result<RawBody, Problem>) -> Result<Value> {
    let RawBody(body) = body.map_err(Refused::Failed)?;
    let mut request: Map<String, Value> =
        serde_json::from_slice(&body).map_err(|e| Refused::Request(format!("the body is no JSON object: {e}")))?;
    for dropped in ["engine", "source", "timestamp"] {
        request.remove(dropped);
    }
    let index = request.remove("index");
    let index = request.remove("corpus").or(index).ok_or_else(|| Refused::Request("missing `index`".into()))?;
    let kind = request.remove("query_type").ok_or_else(|| Refused::Request("missing `query_type`".into()))?;
    let kind = kind
        .as_str()
        .and_then(Kind::named)
        .ok_or_else(|| Refused::Request(format!("invalid query_type: {}", short(&kind))))?;
    let (text, ids) = (request.remove("query"), request.remove("query_ids"));
    if text.is_some() == ids.is_some() {
        return Err(Refused::Request("give exactly one of `query` and `query_ids`".into()));
    }
    let served = index.as_str().and_then(|name| app.indexes.get(name).ok());
    let served = served.ok_or_else(|| Refused::Request(format!("invalid index: {}", short(&index))))?;
    if let Some(extra) = request.keys().find(|k| !kind.takes().contains(&k.as_str())) {
        return Err(Refused::Request(format!(
            "{}() got an unexpected argument '{}'",
            kind.name(),
            extra.chars().take(80).collect::<String>()
        )));
    }
    let simple = !is_boolean(text.as_ref(), ids.as_ref());
    let cheap = simple && matches!(kind, Kind::Count | Kind::Prob | Kind::Find);
    let cost = if cheap { Cost::Cheap } else { Cost::Expensive };
    let owned = app.clone();
    let run = move || {
        let snapshot = served.snapshot();
        Ok(respond(&owned, &snapshot, kind, text, ids, &request))
    };
    app.work.run(cost, run).await.map_err(Refused::Failed)?
}

fn short(v: &Value) -> String {
    v.to_string().chars().take(80).collect()
}

/// The query types.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Count,
    Prob,
    Ntd,
    InfgramProb,
    InfgramNtd,
    Find,
    FindCnf,
    DocByRank,
    DocByPtr,
    SearchDocs,
}

const KINDS: [(Kind, &str, &[&str]); 10] = [
    (Kind::Count, "count", &["max_clause_freq", "max_diff_tokens"]),
    (Kind::Prob, "prob", &[]),
    (Kind::Ntd, "ntd", &["max_support"]),
    (Kind::InfgramProb, "infgram_prob", &[]),
    (Kind::InfgramNtd, "infgram_ntd", &["max_support"]),
    (Kind::Find, "find", &[]),
    (Kind::FindCnf, "find_cnf", &["max_clause_freq", "max_diff_tokens"]),
    (Kind::DocByRank, "get_doc_by_rank", &["s", "rank", "max_disp_len"]),
    (Kind::DocByPtr, "get_doc_by_ptr", &["s", "ptr", "max_disp_len"]),
    (Kind::SearchDocs, "search_docs", &["maxnum", "max_disp_len", "max_clause_freq", "max_diff_tokens"]),
];

impl Kind {
    fn named(name: &str) -> Option<Kind> {
        KINDS.iter().find(|k| k.1 == name).map(|k| k.0)
    }

    fn row(self) -> &'static (Kind, &'static str, &'static [&'static str]) {
        KINDS.iter().find(|k| k.0 == self).unwrap_or(&KINDS[0])
    }

    fn name(self) -> &'static str {
        self.row().1
    }

    fn takes(self) -> &'static [&'static str] {
        self.row().2
    }
}

/// Parses the query, runs it, and adds the fields that every answer has, an `error` of the query included.
fn respond(
    app: &App,
    snapshot: &Snapshot,
    kind: Kind,
    text: Option<Value>,
    ids: Option<Value>,
    arguments: &Map<String, Value>,
) -> Result<Value> {
    let query = match (text, ids) {
        (Some(text), _) => of_text(snapshot, &text)?,
        (None, ids) => of_ids(snapshot, &ids.unwrap_or_default())?,
    };
    let start = Instant::now();
    let mut value = match run(app, snapshot, kind, &query, arguments) {
        Ok(value) => value,
        Err(Refused::Value(what)) => json!({ "error": what }),
        Err(e) => return Err(e),
    };
    value["latency"] = (start.elapsed().as_secs_f64() * 1e3).into();
    (value["token_ids"], value["tokens"]) = match &query {
        Query::Simple(n) => (ids_of(n), tokens_of(snapshot, n)),
        Query::Cnf(clauses) => {
            let nested = |each: &dyn Fn(&Ngram) -> Value| {
                clauses.iter().map(|c| c.iter().map(each).collect::<Value>()).collect()
            };
            (nested(&ids_of), nested(&|n| tokens_of(snapshot, n)))
        }
    };
    Ok(value)
}

/// An optional integer in `[1, most]`.
fn bounded(arguments: &Map<String, Value>, name: &str, most: u64, default: u64) -> Result<usize> {
    match arguments.get(name) {
        None | Some(Value::Null) => Ok(default as usize),
        Some(v) => match v.as_u64() {
            Some(n) if (1..=most).contains(&n) => Ok(n as usize),
            _ => Err(Refused::Value(format!("{name} must be an integer in [1, {most}]!"))),
        },
    }
}

fn required(arguments: &Map<String, Value>, name: &str) -> Result<u64> {
    let v = arguments.get(name).ok_or_else(|| Refused::Request(format!("missing a required argument: '{name}'")))?;
    v.as_u64().ok_or_else(|| Refused::Value(format!("{name} must be a non-negative integer!")))
}

fn run(app: &App, snapshot: &Snapshot, kind: Kind, query: &Query, arguments: &Map<String, Value>) -> Result<Value> {
    let limit = app.settings.limits.occurrences as usize;
    let cnf_options = || -> Result<usize> {
        bounded(arguments, "max_clause_freq", 500_000, 50_000)?;
        bounded(arguments, "max_diff_tokens", 1000, 100)
    };
    let display = || bounded(arguments, "max_disp_len", 10_000, 1000);
    match (kind, query) {
        (Kind::Count, Query::Simple(n)) => Ok(json!({ "count": count(snapshot, n), "approx": false })),
        // The same n-gram in every clause is that n-gram.
        (Kind::Count, Query::Cnf(clauses))
            if clauses.iter().all(|c| c.len() == 1 && *c == clauses[0] && !c[0].is_empty()) =>
        {
            cnf_options()?;
            Ok(json!({ "count": snapshot.count(&clauses[0][0]), "approx": false }))
        }
        (Kind::Count, Query::Cnf(clauses)) => {
            let found = positions(snapshot, clauses, cnf_options()?, limit)?;
            Ok(json!({ "count": found.iter().map(Vec::len).sum::<usize>(), "approx": false }))
        }
        (Kind::Prob | Kind::InfgramProb, Query::Simple(n)) => {
            if n.is_empty() {
                return Err(Refused::Value("Please provide a non-empty query!".into()));
            }
            let last = n.len() - 1;
            let prompt = n.slice(0..last);
            let suffix = if kind == Kind::Prob { last } else { snapshot.longest_suffix(&prompt) };
            let prompt_cnt = count(snapshot, &prompt.slice(last - suffix..last));
            let cont_cnt = count(snapshot, &n.slice(last - suffix..n.len()));
            let prob = if prompt_cnt == 0 { -1.0 } else { cont_cnt as f64 / prompt_cnt as f64 };
            let mut value = json!({ "prompt_cnt": prompt_cnt, "cont_cnt": cont_cnt, "prob": prob });
            if kind == Kind::InfgramProb {
                value["suffix_len"] = suffix.into();
                value["longest_suffix"] = plain(snapshot, &prompt.slice(last - suffix..last)).into();
            }
            Ok(value)
        }
        (Kind::Ntd | Kind::InfgramNtd, Query::Simple(n)) => {
            let most = bounded(arguments, "max_support", 1000, 1000)?;
            if app.settings.redact {
                return Err(Refused::Value(
                    "this server withholds the corpus's text, and next tokens spell it out".into(),
                ));
            }
            if matches!(n, Ngram::Terms(_)) {
                return Err(Refused::Value("an index of words has no token ids: use /v1/{index}/next".into()));
            }
            let suffix = if kind == Kind::Ntd { n.len() } else { snapshot.longest_suffix(n) };
            let prompt = n.slice(n.len() - suffix..n.len());
            let mut value = ntd(snapshot, &prompt, most);
            if kind == Kind::InfgramNtd {
                value["suffix_len"] = suffix.into();
                value["longest_suffix"] = plain(snapshot, &prompt).into();
            }
            Ok(value)
        }
        (Kind::Find, Query::Simple(n)) => {
            let segments: Vec<[usize; 2]> = segments(snapshot, n);
            Ok(json!({ "cnt": count(snapshot, n), "segment_by_shard": segments }))
        }
        (Kind::FindCnf, Query::Cnf(clauses)) => {
            let found = positions(snapshot, clauses, cnf_options()?, limit)?;
            let ptrs: Vec<Vec<u64>> = found
                .iter()
                .zip(&snapshot.shards)
                .map(|(list, shard)| list.iter().map(|p| p * u64::from(shard.meta.width)).collect())
                .collect();
            Ok(json!({ "cnt": found.iter().map(Vec::len).sum::<usize>(), "approx": false, "ptrs_by_shard": ptrs }))
        }
        (Kind::DocByRank, Query::Simple(n)) => {
            let (s, rank) = (required(arguments, "s")?, required(arguments, "rank")? as usize);
            let shard = shard(snapshot, s)?;
            let position = with_view!(shard.exact, v => (rank < v.ranks()).then(|| v.place(rank, n.len()) as u64));
            let position = position.ok_or_else(|| Refused::Value("rank is out-of-range!".into()))?;
            document(app, snapshot, s as u32, position, &[vec![n.clone()]], display()?)
        }
        (Kind::DocByPtr, query) => {
            let (s, ptr) = (required(arguments, "s")?, required(arguments, "ptr")?);
            let shard = shard(snapshot, s)?;
            let width = u64::from(shard.meta.width);
            if ptr % width != 0 || ptr / width >= shard.documents.tokens() {
                return Err(Refused::Value(format!("ptr must be a multiple of {width} inside the shard!")));
            }
            let simple;
            let clauses = match query {
                Query::Cnf(clauses) => clauses,
                Query::Simple(n) => {
                    simple = [vec![n.clone()]].to_vec();
                    &simple
                }
            };
            document(app, snapshot, s as u32, ptr / width, clauses, display()?)
        }
        (Kind::SearchDocs, query) => search(app, snapshot, query, arguments, limit),
        (_, Query::Cnf(_)) => Err(Refused::Value(format!("{} does not take AND and OR!", kind.name()))),
        (_, Query::Simple(_)) => Err(Refused::Value(format!("{} needs a query with AND or OR!", kind.name()))),
    }
}

/// Occurrences; of the empty n-gram, all positions, separators included.
fn count(snapshot: &Snapshot, ngram: &Ngram) -> u64 {
    if !ngram.is_empty() {
        return snapshot.count(ngram);
    }
    snapshot.signed().map(|(s, sign)| sign * s.meta.suffix.stream as i64).sum::<i64>().max(0) as u64
}

fn segments(snapshot: &Snapshot, ngram: &Ngram) -> Vec<[usize; 2]> {
    let segment = |shard: &Shard| {
        with_view!(shard.exact, v => {
            let range = v.interval(&ngram.resolve(shard));
            [range.start, range.end]
        })
    };
    snapshot.shards.iter().map(segment).collect()
}

fn shard(snapshot: &Snapshot, s: u64) -> Result<&Shard> {
    let shard = usize::try_from(s).ok().and_then(|s| snapshot.shards.get(s));
    shard.ok_or_else(|| Refused::Value("s is out-of-range!".into()))
}

/// What follows; the end of a document under the id the vocabulary has for it.
fn ntd(snapshot: &Snapshot, prompt: &Ngram, most: usize) -> Value {
    let all = snapshot.next(prompt, most);
    let prompt_cnt = count(snapshot, prompt);
    let mut by_id = Map::new();
    let mut put = |id: u32, n: u64| {
        by_id.insert(
            id.to_string(),
            json!({ "cont_cnt": n, "prob": n as f64 / prompt_cnt as f64, "token": printable(snapshot, id).replace('Ġ', " ") }),
        );
    };
    for t in &all.tokens {
        if let Some(id) = t.id {
            put(id, t.count);
        }
    }
    let end = match snapshot.manifest.tokenizer.kind.as_str() {
        "gpt2" => Some(50256),
        "cl100k" => Some(100_257),
        "o200k" => Some(199_999),
        _ => None,
    };
    if let (Some(id), 1..) = (end, all.end_of_document) {
        put(id, all.end_of_document);
        by_id[&id.to_string()]["token"] = "<|endoftext|>".into();
    }
    json!({ "prompt_cnt": prompt_cnt, "result_by_token_id": by_id, "approx": all.distinct > all.tokens.len() })
}

fn search(
    app: &App,
    snapshot: &Snapshot,
    query: &Query,
    arguments: &Map<String, Value>,
    limit: usize,
) -> Result<Value> {
    /// Tries to find an occurrence in a document that was not removed.
    const TRIES: usize = 1000;
    let wanted = bounded(arguments, "maxnum", 10, 1)?;
    let display = bounded(arguments, "max_disp_len", 10_000, 1000)?;
    bounded(arguments, "max_clause_freq", 500_000, 50_000)?;
    let near = bounded(arguments, "max_diff_tokens", 1000, 100)?;
    let (clauses, lists, ranges) = match query {
        Query::Simple(n) => (vec![vec![n.clone()]], None, segments(snapshot, n)),
        Query::Cnf(clauses) => {
            let lists = positions(snapshot, clauses, near, limit)?;
            let ranges = lists.iter().map(|l| [0, l.len()]).collect();
            (clauses.clone(), Some(lists), ranges)
        }
    };
    let length = clauses.first().and_then(|c| c.first()).map_or(0, Ngram::len);
    let total: usize = ranges.iter().map(|r| r[1] - r[0]).sum();
    let cnt = match query {
        Query::Simple(n) => count(snapshot, n),
        Query::Cnf(_) => total as u64,
    };
    let (mut idxs, mut documents) = (Vec::new(), Vec::new());
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(42);
    let mut tries = 0;
    while cnt > 0 && total > 0 && documents.len() < wanted && tries < TRIES {
        tries += 1;
        let index = rng.random_range(0..total);
        let mut rest = index;
        for (number, [start, end]) in ranges.iter().enumerate() {
            if rest >= end - start {
                rest -= end - start;
                continue;
            }
            let position = match &lists {
                Some(lists) => lists[number][rest],
                None => with_view!(snapshot.shards[number].exact, v => v.place(start + rest, length) as u64),
            };
            let d = document(app, snapshot, number as u32, position, &clauses, display)?;
            if d["blocked"] == false || app.settings.redact {
                idxs.push(index);
                documents.push(d);
            }
            break;
        }
    }
    let message = match cnt {
        0 => "0 occurrences found".to_string(),
        _ => format!("{cnt} occurrences found. Displaying the documents of occurrences #{idxs:?}"),
    };
    Ok(json!({ "cnt": cnt, "approx": false, "idxs": idxs, "documents": documents, "message": message }))
}

/// The document around a position of a shard's token stream: half the window before the occurrence's start, half from it on.
fn document(
    app: &App,
    snapshot: &Snapshot,
    shard: u32,
    position: u64,
    clauses: &[Vec<Ngram>],
    display: usize,
) -> Result<Value> {
    let documents = &snapshot.shards[shard as usize].documents;
    let number = documents.document_at(position).ok_or_else(|| Refused::Value("out-of-range!".into()))?;
    let at = DocumentRef { shard, document: number };
    let range = documents.token_range(number).unwrap_or(position..position + 1);
    let length = (range.end - range.start).saturating_sub(1) as usize;
    let needle = ((position - range.start) as usize).min(length);
    let window = needle.saturating_sub(display / 2)..needle.saturating_add(display.div_ceil(2)).min(length);
    let mut value = json!({
        "doc_ix": passages::number(snapshot, at),
        "doc_len": length,
        "disp_len": window.len(),
        "needle_offset": needle - window.start,
        "metadata": "",
        "token_ids": [],
        "blocked": true,
        "spans": [],
    });
    if app.settings.redact || snapshot.is_removed(at) {
        return Ok(value);
    }
    let passages = Passages::read(snapshot, at)?;
    let stored = &passages.stored;
    let pieces: Vec<Value> = passages
        .pieces(snapshot, shard, window.clone(), clauses)
        .into_iter()
        .map(|(text, clause)| json!([text, clause.map(|c| c.to_string())]))
        .collect();
    value["metadata"] =
        json!({ "path": stored.path, "linenum": stored.record, "metadata": stored.metadata }).to_string().into();
    value["token_ids"] = passages.token_ids(window).into();
    value["spans"] = pieces.into();
    value["blocked"] = false.into();
    Ok(value)
}
