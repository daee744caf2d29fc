//! `POST /v1/{index}/neighbors`: the chunks nearest in meaning, with the measured recall of the search.

use serde::{Deserialize, Serialize};

use super::{Ask, On, at_most, check_chars};
use crate::query::filter::DocumentFilter;
use crate::query::neighbors::{Neighbor, NeighborOptions};
use crate::query::recall::MeasuredRecall;
use crate::server::problem::Problem;
use crate::server::redact::Redact;

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
    /// Say which token of the text matched which token of each passage.
    #[serde(default)]
    align: bool,
}

#[derive(Serialize)]
pub struct Neighbors {
    neighbors: Vec<Neighbor>,
    /// Recall of the vector search: 1 if it is exact; null if it is approximate and was not measured.
    recall: Option<f64>,
    /// Whether the vector search may miss a neighbour.
    approximate: bool,
    recall_measured: Option<MeasuredRecall>,
    /// The same in words, for people.
    recall_words: String,
}

impl Ask for NeighborsRequest {
    type Answer = Neighbors;

    fn answer(self, on: &On<'_>) -> Result<Neighbors, Problem> {
        /// Passages that are aligned at most: each is encoded once more.
        const ALIGNED: usize = 100;
        let limits = &on.app.settings.limits;
        check_chars("text", &self.text, limits.query_chars)?;
        let options = NeighborOptions {
            top_k: self.top_k.unwrap_or(10),
            at_least: self.at_least,
            rerank: self.rerank,
            group_by_document: self.group_by_document,
            filter: DocumentFilter { path_contains: self.path_contains, ..DocumentFilter::default() },
            align: self.align,
            ..NeighborOptions::default()
        };
        at_most("top_k", options.top_k, limits.results)?;
        at_most("rerank", options.rerank, limits.results)?;
        if self.align {
            if self.at_least.is_some() {
                return Err(Problem::invalid("`align` goes with `top_k`, not with `at_least`"));
            }
            at_most("top_k with align", options.top_k, ALIGNED)?;
        }
        let encoder = on.served.encoder()?;
        let mut found = on.snapshot.neighbors(encoder, &[&self.text], &options)?.pop().unwrap_or_default();
        found.truncate(limits.results);
        if on.app.settings.redact {
            found.redact();
        }
        let known = on.snapshot.search_recall(&options.params, options.exact);
        Ok(Neighbors {
            neighbors: found,
            recall: known.recall,
            approximate: known.approximate,
            recall_words: known.words(),
            recall_measured: known.measured,
        })
    }
}
