//! infini-gram's interface, `POST /`: its request bodies, result fields, limits and error conventions.
//!
//! Semantic faults are answered 200 with `error`, malformed requests 400 with `[Flask] …`, as its clients expect. What differs: counts of
//! boolean queries are exact (`max_clause_freq` is checked and not needed), an argument a query type does not take is a 400, sampling
//! is seeded, and a busy server says 503. `ptr` is a byte offset into the shard's token stream.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use super::App;
use super::passages::Passages;
use super::problem::Problem;
use super::request::RawBody;
use super::work::Cost;
use crate::error::Error;
use crate::index::{DocumentRef, Snapshot};
use crate::query::Ngram;
use crate::shard::Shard;
use crate::suffix::{SuffixView, Token};
use crate::tokenize::TokenizerKind;
use crate::with_view;

const MAX_CHARS: usize = 1000;
const MAX_TOKENS: usize = 500;
const MAX_CLAUSES: usize = 4;
const MAX_TERMS: usize = 4;
/// Positions of a clause that are listed; a more frequent one is looked for around the anchor's.
const LISTED: usize = 1_000_000;

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

/// A query: an n-gram, or clauses of alternatives.
enum Query {
    Simple(Ngram),
    Cnf(Vec<Vec<Ngram>>),
}

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
    let cost = if matches!(kind, Kind::Count | Kind::Prob | Kind::Find) { Cost::Cheap } else { Cost::Expensive };
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

fn ids_of(ngram: &Ngram) -> Value {
    match ngram {
        Ngram::Ids(ids) => ids.clone().into(),
        // Each shard numbers its own terms.
        Ngram::Terms(_) => json!([]),
    }
}

fn tokens_of(snapshot: &Snapshot, ngram: &Ngram) -> Value {
    match ngram {
        Ngram::Ids(ids) => ids.iter().map(|&id| printable(snapshot, id)).collect(),
        Ngram::Terms(terms) => terms.clone().into(),
    }
}

/// A token as its vocabulary prints it: byte-level BPE has a character for each byte, white space and control bytes shifted to U+0100
/// and up in byte order, so that a leading space shows as `Ġ`.
fn printable(snapshot: &Snapshot, id: u32) -> String {
    let TokenizerKind::Closed(t) = &snapshot.tokenizer.kind else { return String::new() };
    if !matches!(snapshot.manifest.tokenizer.kind.as_str(), "gpt2" | "cl100k" | "o200k") {
        return snapshot.token_text(id);
    }
    let shown = |b: u8| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    t.token_bytes(id)
        .unwrap_or_default()
        .into_iter()
        .map(|b| {
            let hidden = (0..b).filter(|&x| !shown(x)).count() as u32;
            char::from_u32(if shown(b) { u32::from(b) } else { 0x100 + hidden }).unwrap_or('\u{FFFD}')
        })
        .collect()
}

/// Tokens of a text. Vocabularies that write the space before a word into its token get one before the first word, too.
fn tokenized(snapshot: &Snapshot, text: &str) -> Result<Ngram> {
    if let (TokenizerKind::Closed(t), false) = (&snapshot.tokenizer.kind, text.is_empty()) {
        let (mut spaced, mut plain) = (Vec::new(), Vec::new());
        t.encode(" a", &mut spaced)?;
        t.encode("a", &mut plain)?;
        if spaced.len() == 1 && spaced != plain {
            return Ok(snapshot.ngram(&format!(" {text}"))?);
        }
    }
    Ok(snapshot.ngram(text)?)
}

fn of_text(snapshot: &Snapshot, text: &Value) -> Result<Query> {
    let text = text.as_str().ok_or_else(|| Refused::Value("query must be a string!".into()))?;
    if text.chars().count() > MAX_CHARS {
        return Err(Refused::Value(format!("Please limit your input to <= {MAX_CHARS} characters!")));
    }
    let query = if text.contains(" AND ") || text.contains(" OR ") {
        let clause = |c: &str| c.split(" OR ").map(|t| tokenized(snapshot, t)).collect::<Result<Vec<_>>>();
        Query::Cnf(text.split(" AND ").map(clause).collect::<Result<_>>()?)
    } else {
        Query::Simple(tokenized(snapshot, text)?)
    };
    within_limits(query)
}

fn of_ids(snapshot: &Snapshot, ids: &Value) -> Result<Query> {
    let shape = || Refused::Value("query_ids must be a list of integers, or a triply-nested list of integers!".into());
    let ngram = |v: &Value| -> Result<Ngram> {
        let list = v.as_array().ok_or_else(shape)?;
        if list.len() > MAX_TOKENS {
            return Err(Refused::Value(format!("Please limit your input to <= {MAX_TOKENS} tokens!")));
        }
        if list.iter().any(|x| !x.is_i64() && !x.is_u64()) {
            return Err(shape());
        }
        let ids: Option<Vec<u32>> = list.iter().map(|x| x.as_u64().and_then(|x| u32::try_from(x).ok())).collect();
        let out_of_range = || Refused::Value("Some item(s) in your query_ids are out-of-range!".into());
        let ids = ids.ok_or_else(out_of_range)?;
        if ids.contains(&65535) && snapshot.manifest.tokenizer.vocab.is_some_and(|v| v <= 65535) {
            return Err(Refused::Value("the document separator, 65535, cannot be part of a query".into()));
        }
        snapshot.ngram_of_ids(&ids).map_err(|e| {
            if matches!(snapshot.tokenizer.kind, TokenizerKind::Closed(_)) { out_of_range() } else { e.into() }
        })
    };
    let list = ids.as_array().ok_or_else(shape)?;
    let query = if list.iter().all(|x| x.is_i64() || x.is_u64()) {
        Query::Simple(ngram(ids)?)
    } else {
        if list.len() > MAX_CLAUSES || list.iter().any(|c| c.as_array().is_some_and(|c| c.len() > MAX_TERMS)) {
            return Err(too_many());
        }
        let clause = |c: &Value| c.as_array().ok_or_else(shape)?.iter().map(ngram).collect::<Result<Vec<_>>>();
        Query::Cnf(list.iter().map(clause).collect::<Result<_>>()?)
    };
    within_limits(query)
}

fn too_many() -> Refused {
    Refused::Value(format!(
        "Please enter at most {MAX_CLAUSES} disjunctive clauses, and at most {MAX_TERMS} terms in each disjunctive clause!"
    ))
}

fn within_limits(query: Query) -> Result<Query> {
    let tokens = match &query {
        Query::Simple(n) => n.len(),
        Query::Cnf(clauses) => {
            if clauses.len() > MAX_CLAUSES || clauses.iter().any(|c| c.len() > MAX_TERMS) {
                return Err(too_many());
            }
            clauses.iter().flatten().map(Ngram::len).sum()
        }
    };
    if tokens > MAX_TOKENS {
        return Err(Refused::Value(format!("Please limit your input to <= {MAX_TOKENS} tokens!")));
    }
    Ok(query)
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
            let position = with_view!(shard.exact, v => (rank < v.ranks()).then(|| v.position(rank) as u64));
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

/// The text of an n-gram that is part of a query.
fn plain(snapshot: &Snapshot, ngram: &Ngram) -> String {
    match (ngram, &snapshot.tokenizer.kind) {
        (Ngram::Ids(ids), TokenizerKind::Closed(t)) => {
            let bytes: Vec<u8> = ids.iter().flat_map(|&id| t.token_bytes(id).unwrap_or_default()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        (Ngram::Terms(terms), _) => terms.join(" "),
        _ => String::new(),
    }
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

/// Positions of the rarest clause's n-grams that have every other clause within `near` tokens in the same document, by shard.
///
/// Cost: a read an occurrence of the rarest clause and of the others up to [`LISTED`]; beyond, a scan of the tokens around.
fn positions(snapshot: &Snapshot, clauses: &[Vec<Ngram>], near: usize, limit: usize) -> Result<Vec<Vec<u64>>> {
    if clauses.is_empty() || clauses.iter().any(|c| c.is_empty() || c.iter().any(Ngram::is_empty)) {
        return Err(Refused::Value("Please provide a non-empty query in every clause!".into()));
    }
    let counts: Vec<u64> = clauses.iter().map(|c| c.iter().map(|n| snapshot.count(n)).sum()).collect();
    let anchor = (0..counts.len()).min_by_key(|&i| counts[i]).unwrap_or(0);
    if counts[anchor] > limit as u64 {
        return Err(Refused::Value(format!(
            "the rarest clause occurs {} times, more than the {limit} this server lists",
            counts[anchor]
        )));
    }
    let each = snapshot.shards.iter().enumerate();
    Ok(each
        .map(|(number, shard)| with_view!(shard.exact, v => positions_in(snapshot, number, shard, v, clauses, anchor, near)))
        .collect())
}

fn positions_in<T: Token>(
    snapshot: &Snapshot,
    number: usize,
    shard: &Shard,
    view: SuffixView<T>,
    clauses: &[Vec<Ngram>],
    anchor: usize,
    near: usize,
) -> Vec<u64> {
    // A term the shard does not know resolves to the separator, which is no part of any document.
    let known = |n: &Vec<T>| n.iter().all(|t| t.id() < shard.separator());
    let resolved: Vec<Vec<Vec<T>>> =
        clauses.iter().map(|c| c.iter().map(|n| n.resolve(shard)).filter(known).collect()).collect();
    let listed = |clause: &[Vec<T>], most: usize| -> Option<Vec<u64>> {
        let intervals: Vec<_> = clause.iter().map(|n| view.interval(n)).collect();
        if intervals.iter().map(|r| r.len()).sum::<usize>() > most {
            return None;
        }
        let mut list: Vec<u64> = intervals.into_iter().flatten().map(|rank| view.position(rank) as u64).collect();
        list.sort_unstable();
        list.dedup();
        Some(list)
    };
    let mut found = listed(&resolved[anchor], usize::MAX).unwrap_or_default();
    let tokens = view.tokens();
    for (_, clause) in resolved.iter().enumerate().filter(|(i, _)| *i != anchor) {
        let list = listed(clause, LISTED);
        found.retain(|&p| {
            let Some(document) = shard.documents.document_at(p) else { return false };
            let range = shard.documents.token_range(document).unwrap_or(p..p + 1);
            let (from, to) = (p.saturating_sub(near as u64).max(range.start), (p + near as u64 + 1).min(range.end));
            match &list {
                Some(list) => list[list.partition_point(|&q| q < from)..].first().is_some_and(|&q| q < to),
                None => (from as usize..to as usize).any(|q| clause.iter().any(|n| tokens[q..].starts_with(n))),
            }
        });
    }
    found.retain(|&p| {
        let document = shard.documents.document_at(p);
        document.is_some_and(|document| !snapshot.is_removed(DocumentRef { shard: number as u32, document }))
    });
    found
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
                None => with_view!(snapshot.shards[number].exact, v => v.position(start + rest) as u64),
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
    let before: u64 = snapshot.shards[..shard as usize].iter().map(|s| s.documents.len() as u64).sum();
    let mut value = json!({
        "doc_ix": before + u64::from(number),
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
