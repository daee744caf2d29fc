//! The exact queries: `POST /v1/{index}/count`, `find`, `next` and `trace`.

use serde::{Deserialize, Serialize};

use super::lines::Lines;
use super::{Ask, On, at_most, check_chars, withheld};
use crate::index::Snapshot;
use crate::query::Ngram;
use crate::query::boolean::{BooleanCount, Expression};
use crate::query::find::{FindOptions, Found, Located};
use crate::query::next::Distribution;
use crate::query::trace::{Rank, Trace, TraceOptions};
use crate::server::App;
use crate::server::problem::Problem;
use crate::server::redact::Redact;
use crate::server::work::Cost;

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

fn check_occurrences(app: &App, count: u64) -> Result<(), Problem> {
    let limit = app.settings.limits.occurrences;
    if count > limit {
        return Err(Problem::invalid(format!("{count} occurrences would have to be listed, the limit is {limit}"))
            .hint("look for something longer; /count counts it whatever its frequency"));
    }
    Ok(())
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
pub enum Counted {
    One { count: u64, tokens: usize, approximate: bool },
    Boolean(BooleanCount),
    Batch { counts: Vec<u64>, approximate: bool },
}

impl Ask for CountRequest {
    type Answer = Counted;

    fn cost(&self) -> Cost {
        if self.expression.is_some() || self.queries.is_some() { Cost::Expensive } else { Cost::Cheap }
    }

    fn answer(self, on: &On<'_>) -> Result<Counted, Problem> {
        let &On { app, snapshot, .. } = on;
        if let Some(queries) = &self.queries {
            if self.query.is_some() || self.ids.is_some() || self.expression.is_some() || self.window.is_some() {
                return Err(Problem::invalid("`queries` stands alone"));
            }
            at_most("queries", queries.len(), app.settings.limits.batch)?;
            let ngrams = queries.iter().map(|q| ngram_of_text(app, snapshot, q)).collect::<Result<Vec<_>, _>>()?;
            return Ok(Counted::Batch { counts: snapshot.counts(&ngrams), approximate: false });
        }
        let (query, ids, expression) = (self.query.as_deref(), self.ids.as_deref(), self.expression.as_deref());
        Ok(match sought(app, snapshot, query, ids, expression, self.window)? {
            Sought::Ngram(n) => Counted::One { count: snapshot.count(&n), tokens: n.len(), approximate: false },
            Sought::Expression(e, w) => Counted::Boolean(snapshot.boolean_count(&e, w)?),
        })
    }
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

/// What stands before the documents of an answer line by line.
#[derive(Serialize)]
struct Head {
    count: u64,
    documents: u64,
    approximate: bool,
}

impl FindRequest {
    /// All occurrences, and which of them to show; `most`: documents that may be asked for.
    fn locate<'a>(&self, on: &On<'a>, most: usize) -> Result<(Located<'a>, FindOptions), Problem> {
        let &On { app, snapshot, .. } = on;
        let limits = &app.settings.limits;
        let d = FindOptions::default();
        let options = FindOptions {
            offset: self.offset,
            limit: self.limit.unwrap_or(d.limit),
            per_document: self.per_document.unwrap_or(d.per_document),
            context: self.context.unwrap_or(d.context),
        };
        at_most("limit", options.limit, most)?;
        at_most("per_document", options.per_document, limits.results)?;
        at_most("context", options.context, limits.context_chars)?;
        let (query, ids, expression) = (self.query.as_deref(), self.ids.as_deref(), self.expression.as_deref());
        let located = match sought(app, snapshot, query, ids, expression, self.window)? {
            Sought::Ngram(n) => {
                if n.is_empty() {
                    return Err(
                        Problem::invalid("the query has no tokens").hint("the index's tokenizer finds no token in it")
                    );
                }
                check_occurrences(app, snapshot.count(&n))?;
                snapshot.locate(&n)
            }
            Sought::Expression(e, w) => snapshot.boolean_locate(&e, w)?,
        };
        Ok((located, options))
    }
}

/// Characters of context in an answer, or in a document of one.
const CONTEXT_IN_ALL: usize = 50_000_000;

impl Ask for FindRequest {
    type Answer = Found;

    fn answer(self, on: &On<'_>) -> Result<Found, Problem> {
        let (located, options) = self.locate(on, on.app.settings.limits.results)?;
        // Context around every occurrence of a page adds up.
        let all = options.limit.saturating_mul(options.per_document).saturating_mul(options.context);
        at_most("limit × per_document × context", all, CONTEXT_IN_ALL)?;
        let mut found = located.page(&options)?;
        if on.app.settings.redact {
            found.redact();
        }
        Ok(found)
    }

    /// The counts, then a line a document: as many as are asked for, all by default.
    fn lines(mut self, on: &On<'_>, out: &mut Lines) -> Result<(), Problem> {
        self.limit = Some(self.limit.unwrap_or(usize::MAX));
        let (located, options) = self.locate(on, usize::MAX)?;
        let all = options.per_document.saturating_mul(options.context);
        at_most("per_document × context", all, CONTEXT_IN_ALL)?;
        let documents = located.documents() as u64;
        out.put(&on.about(Head { count: located.count(), documents, approximate: false }))?;
        let mut number = options.offset;
        while let Some(found) = located.document(number, &options).filter(|_| number - options.offset < options.limit) {
            on.in_time()?;
            let mut found = found?;
            if on.app.settings.redact {
                found.redact();
            }
            out.put(&found)?;
            number += 1;
        }
        Ok(())
    }
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

impl Ask for NextRequest {
    type Answer = Distribution;

    fn answer(self, on: &On<'_>) -> Result<Distribution, Problem> {
        let &On { app, snapshot, .. } = on;
        if app.settings.redact {
            return Err(withheld("token after token, next-token distributions spell out documents"));
        }
        let top_k = self.top_k.unwrap_or(20);
        at_most("top_k", top_k, app.settings.limits.results)?;
        if top_k == 0 {
            return Err(Problem::invalid("`top_k` must be at least 1"));
        }
        let prompt = match (&self.prompt, &self.ids) {
            (Some(text), None) => ngram_of_text(app, snapshot, text)?,
            (None, Some(ids)) => ngram_of_ids(app, snapshot, ids)?,
            _ => return Err(Problem::invalid("give exactly one of `prompt` and `ids`")),
        };
        Ok(if self.infgram { snapshot.infgram_next(&prompt, top_k) } else { snapshot.next(&prompt, top_k) })
    }
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
    /// Spans that documents are returned for, the best by `rank`; all by default.
    document_spans: Option<usize>,
    context: Option<usize>,
    seed: Option<u64>,
}

impl Ask for TraceRequest {
    type Answer = Trace;

    fn answer(self, on: &On<'_>) -> Result<Trace, Problem> {
        let &On { app, snapshot, .. } = on;
        let limits = &app.settings.limits;
        let d = TraceOptions::default();
        check_chars("text", &self.text, limits.text_chars)?;
        at_most("delimiters", self.delimiters.len(), 100)?;
        if self.delimiters.iter().any(|d| d.is_empty()) {
            return Err(Problem::invalid("a delimiter is empty"));
        }
        if self.density.is_some_and(|d| !(d > 0.0 && d.is_finite())) {
            return Err(Problem::invalid("`density` must be a number above 0"));
        }
        let options = TraceOptions {
            min_tokens: self.min_tokens.unwrap_or(d.min_tokens),
            max_count: self.max_count,
            density: self.density,
            rank: self.rank.unwrap_or_default(),
            delimiters: self.delimiters,
            whole_words: self.whole_words,
            documents_per_span: self.documents_per_span.unwrap_or(d.documents_per_span),
            document_spans: self.document_spans,
            context: self.context.unwrap_or(d.context),
            seed: self.seed.unwrap_or(d.seed),
        };
        at_most("documents_per_span", options.documents_per_span, limits.results.min(100))?;
        at_most("context", options.context, limits.context_chars)?;
        let mut trace = snapshot.trace(&self.text, &options)?;
        if app.settings.redact {
            trace.redact();
        }
        Ok(trace)
    }
}
