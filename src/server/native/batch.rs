//! `POST /v1/{index}/batch`: many queries of any kind in one request, all of the same generation.
//!
//! They run one after another in one place of the pool. A query that fails answers with its problem and the others go on.

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::decontaminate::DecontaminateRequest;
use super::documents::DocumentRequest;
use super::exact::{CountRequest, FindRequest, NextRequest, TraceRequest};
use super::lines::Lines;
use super::novelty::NoveltyRequest;
use super::semantic::NeighborsRequest;
use super::{Ask, On, at_most};
use crate::server::problem::Problem;

/// A query by the name of its route.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Query {
    Count(CountRequest),
    Find(FindRequest),
    Next(NextRequest),
    Trace(TraceRequest),
    Neighbors(NeighborsRequest),
    Novelty(NoveltyRequest),
    Decontaminate(DecontaminateRequest),
    Document(DocumentRequest),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    requests: Vec<Query>,
}

/// What came of a query: its answer or its problem.
#[derive(Serialize)]
pub struct Answered {
    /// Its place in `requests`.
    request: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<serde_json::Value>,
}

#[derive(Serialize)]
pub struct Answers {
    answers: Vec<Answered>,
}

impl Query {
    fn run(self, on: &On<'_>) -> Result<Box<RawValue>, Problem> {
        fn answer<Q: Ask>(query: Q, on: &On<'_>) -> Result<Box<RawValue>, Problem> {
            to_raw_value(&query.answer(on)?).map_err(|e| Problem::internal(e.to_string()))
        }
        match self {
            Query::Count(q) => answer(q, on),
            Query::Find(q) => answer(q, on),
            Query::Next(q) => answer(q, on),
            Query::Trace(q) => answer(q, on),
            Query::Neighbors(q) => answer(q, on),
            Query::Novelty(q) => answer(q, on),
            Query::Decontaminate(q) => answer(q, on),
            Query::Document(q) => answer(q, on),
        }
    }
}

impl BatchRequest {
    fn each(self, on: &On<'_>, put: &mut dyn FnMut(Answered) -> Result<(), Problem>) -> Result<(), Problem> {
        at_most("requests", self.requests.len(), on.app.settings.limits.batch)?;
        for (request, query) in self.requests.into_iter().enumerate() {
            on.in_time()?;
            put(match query.run(on) {
                Ok(answer) => Answered { request, answer: Some(answer), problem: None },
                Err(problem) => Answered { request, answer: None, problem: Some(problem.body()) },
            })?;
        }
        Ok(())
    }
}

impl Ask for BatchRequest {
    type Answer = Answers;

    fn answer(self, on: &On<'_>) -> Result<Answers, Problem> {
        let limit = on.app.settings.limits.answer_bytes;
        let (mut answers, mut bytes) = (Vec::new(), 0);
        self.each(on, &mut |answered| {
            bytes += answered.answer.as_ref().map_or(0, |a| a.get().len());
            if bytes > limit {
                return Err(Problem::invalid(format!("the answers have more than {limit} bytes"))
                    .hint("ask for them line by line: Accept: application/x-ndjson"));
            }
            answers.push(answered);
            Ok(())
        })?;
        Ok(Answers { answers })
    }

    /// A line an answer.
    fn lines(self, on: &On<'_>, out: &mut Lines) -> Result<(), Problem> {
        self.each(on, &mut |answered| out.put(&on.about(answered)))
    }
}
