//! `neighbors`: the passages nearest to texts, documents or vectors.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::output::{self, one_line};
use super::{Global, Outcome, input};
use crate::ann::{MatrixReader, SearchParams, VectorIndex};
use crate::error::Error;
use crate::index::spaces::{Space, SpaceHit};
use crate::index::{DocumentRef, Snapshot};
use crate::query::filter::DocumentFilter;
use crate::query::neighbors::{Neighbor, NeighborOptions};
use crate::query::recall::{MeasuredRecall, SearchRecall};

/// Find the passages that mean nearly the same as texts, as documents of the index, or as vectors.
#[derive(Debug, Args)]
pub struct NeighborsArgs {
    /// Texts to find neighbours of
    #[arg(value_name = "TEXT", required_unless_present_any = ["file", "document", "vectors"])]
    texts: Vec<String>,
    /// A file of texts: one a line, or .jsonl with --text-field; - for lines of standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Field of a .jsonl file that holds the text
    #[arg(long, default_value = "text", value_name = "FIELD")]
    text_field: String,
    /// Find neighbours of the document with this id, by its stored vectors
    #[arg(long, value_name = "ID")]
    document: Vec<String>,
    /// Find neighbours of each row of a matrix: .npy or .safetensors
    #[arg(long, value_name = "FILE")]
    vectors: Option<PathBuf>,
    /// Search this named space (`index-tools import-vectors`) instead of the index's own embeddings; with --document, ids are the space's
    #[arg(long, conflicts_with_all = ["texts", "file"], value_name = "NAME")]
    space: Option<String>,
    /// Name of the matrix in a .safetensors file that has several
    #[arg(long, requires = "vectors", value_name = "NAME")]
    tensor: Option<String>,
    /// Chunks to show
    #[arg(short = 'k', long, default_value_t = 10, value_name = "N")]
    top_k: usize,
    /// All chunks at least this similar (cosine), however many
    #[arg(long, alias = "at-least", value_name = "T")]
    min_similarity: Option<f32>,
    /// Rerank this many candidates by late interaction; 0: do not
    #[arg(long, default_value_t = 0, value_name = "N")]
    rerank: usize,
    /// Show which token of a text matched which of each passage, and how strongly; each passage is encoded once more
    #[arg(long, conflicts_with_all = ["document", "vectors", "space"])]
    align: bool,
    /// Show the best chunk of each document only
    #[arg(long, value_enum, value_name = "BY")]
    group: Option<Group>,
    #[arg(long, hide = true)]
    by_document: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    search: SearchArgs,
    /// Exit with 1 if anything is found
    #[arg(long)]
    check: bool,
}

/// Which documents may be answers.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only documents whose source path matches this glob
    #[arg(long, value_name = "GLOB")]
    source: Vec<String>,
    /// Only documents whose source path contains this
    #[arg(long, value_name = "TEXT")]
    path_contains: Option<String>,
    /// Only documents with this value in a metadata field; dots reach into objects
    #[arg(long = "where", value_name = "FIELD=VALUE")]
    metadata: Vec<String>,
}

/// How to search.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// hnsw: candidates of the search; more find more [default: as the index says]
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    ef: usize,
    /// ivf: lists to probe; more find more [default: as the index says]
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    nprobe: usize,
    /// Compare with every stored vector, whatever the vector index
    #[arg(long)]
    exact: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Group {
    /// By document
    Document,
}

#[derive(serde::Serialize)]
struct Row {
    query: String,
    /// Id of the record of a .jsonl file.
    #[serde(skip_serializing_if = "Option::is_none")]
    query_id: Option<String>,
    neighbors: Vec<Neighbor>,
    /// Measured recall of the search; 1 when it was exhaustive, absent when it was not measured.
    recall: Option<f64>,
    approximate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    recall_measured: Option<MeasuredRecall>,
}

impl FilterArgs {
    pub fn filter(&self) -> anyhow::Result<DocumentFilter> {
        let mut metadata = Vec::new();
        for condition in &self.metadata {
            let Some((field, value)) = condition.split_once('=').filter(|(field, _)| !field.is_empty()) else {
                return Err(Error::invalid_hint(
                    format!("--where {condition}: a field and a value are needed"),
                    "write FIELD=VALUE, such as --where lang=en",
                )
                .into());
            };
            metadata.push((field.to_string(), value.to_string()));
        }
        let filter =
            DocumentFilter { path_contains: self.path_contains.clone(), metadata, ..DocumentFilter::default() };
        Ok(filter.with_sources(&self.source)?)
    }
}

impl SearchArgs {
    pub fn params(&self) -> SearchParams {
        SearchParams { ef: self.ef, nprobe: self.nprobe }
    }
}

/// Texts of a file with their ids, where it has them.
pub fn texts_of(path: &std::path::Path, field: &str) -> anyhow::Result<Vec<(Option<String>, String)>> {
    let name = path.to_string_lossy();
    if !name.ends_with(".jsonl") && !name.contains(".jsonl.") && !name.ends_with(".parquet") {
        return Ok(input::lines(path)?.into_iter().map(|line| (None, line)).collect());
    }
    let files = crate::corpus::discover(&[path.to_path_buf()])?;
    let options = crate::corpus::ReadOptions { text_field: field.to_string(), ..Default::default() };
    let mut documents = crate::corpus::Documents::new(files, options);
    let mut out = Vec::new();
    let mut document = crate::corpus::Document::default();
    while documents.next(&mut document)? {
        out.push((Some(std::mem::take(&mut document.id)), std::mem::take(&mut document.text)));
    }
    Ok(out)
}

pub fn neighbors(global: &Global, args: NeighborsArgs) -> anyhow::Result<Outcome> {
    /// Texts encoded and searched together.
    const BATCH: usize = 1024;
    let snapshot = global.snapshot()?;
    if let Some(t) = args.min_similarity.filter(|t| !t.is_finite()) {
        return Err(Error::invalid(format!("--min-similarity {t}: a number is needed")).into());
    }
    if args.top_k == 0 {
        return Err(Error::invalid("-k 0: there is nothing to show").into());
    }
    if let Some(name) = &args.space {
        return of_space(global, &snapshot, name, &args);
    }
    let options = NeighborOptions {
        top_k: args.top_k,
        at_least: args.min_similarity,
        rerank: args.rerank,
        group_by_document: args.by_document || args.group.is_some(),
        filter: args.filter.filter()?,
        params: args.search.params(),
        exact: args.search.exact,
        align: args.align,
        ..NeighborOptions::default()
    };
    let recall = snapshot.search_recall(&options.params, options.exact);
    let row = |query: String, query_id, neighbors| Row {
        query,
        query_id,
        neighbors,
        recall: recall.recall,
        approximate: recall.approximate,
        recall_measured: recall.measured.clone(),
    };
    let mut rows = Vec::new();
    let mut texts: Vec<(Option<String>, String)> = args.texts.iter().map(|t| (None, t.clone())).collect();
    if let Some(path) = &args.file {
        texts.extend(texts_of(path, &args.text_field)?);
    }
    if !texts.is_empty() {
        let opened = super::semantic::open_of(global, &snapshot)?;
        let bar = output::counter(texts.len() as u64, global.quiet, "search");
        for batch in texts.chunks(BATCH) {
            let plain: Vec<&str> = batch.iter().map(|(_, t)| t.as_str()).collect();
            let found = snapshot.neighbors(&*opened.encoder, &plain, &options)?;
            rows.extend(batch.iter().zip(found).map(|((id, text), found)| row(text.clone(), id.clone(), found)));
            bar.inc(batch.len() as u64);
        }
        bar.finish_and_clear();
    }
    for id in &args.document {
        let found = snapshot.find_id(id)?;
        if found.is_empty() {
            return Err(Error::invalid_hint(
                format!("no document of generation {} has the id {id:?}", snapshot.manifest.generation),
                "`priorart find` shows ids",
            )
            .into());
        }
        for document in found {
            rows.push(row(id.clone(), None, snapshot.neighbors_of_document(document, &options)?));
        }
    }
    if let Some(path) = &args.vectors {
        let mut matrix = MatrixReader::open(path, args.tensor.as_deref())?;
        let (dim, count) = (matrix.dim(), matrix.rows());
        for start in (0..count).step_by(BATCH) {
            let mut values = Vec::new();
            matrix.read(start..count.min(start + BATCH), &mut values)?;
            let found = snapshot.neighbors_of_vectors(&values, dim, &options)?;
            rows.extend(found.into_iter().enumerate().map(|(i, f)| {
                let name = format!("{}:{}", path.display(), start + i);
                row(name, None, f)
            }));
        }
    }
    output::results(global.format(), &rows, |r| text(r, &snapshot, &recall))?;
    Ok(if args.check && rows.iter().any(|r| !r.neighbors.is_empty()) { Outcome::Findings } else { Outcome::Done })
}

/// A row of a space near a query.
#[derive(serde::Serialize)]
struct SpaceNeighbor {
    #[serde(flatten)]
    hit: SpaceHit,
    /// The documents of the index with this id.
    documents: Vec<DocumentRef>,
}

fn of_space(global: &Global, snapshot: &Snapshot, name: &str, args: &NeighborsArgs) -> anyhow::Result<Outcome> {
    if args.rerank > 0 || args.group.is_some() || args.by_document || !args.filter.filter()?.is_empty() {
        return Err(Error::invalid(
            "--rerank, --group and filters go with the index's own embeddings, not with --space",
        )
        .into());
    }
    let space = Space::of(snapshot, name)?;
    let wanted = (args.top_k, args.min_similarity);
    let (params, exact) = (args.search.params(), args.search.exact);
    let mut answers: Vec<(String, Vec<SpaceHit>)> = Vec::new();
    for id in &args.document {
        let Some(row) = space.row(id) else {
            return Err(Error::invalid(format!("the space {name:?} has no row with the id {id:?}")).into());
        };
        let vector = space.vectors.flat()?.vector(row).unwrap_or_default();
        let mut found = space.neighbors(&vector, vector.len(), Some(row), wanted, &params, exact)?;
        answers.push((id.clone(), found.pop().unwrap_or_default()));
    }
    if let Some(path) = &args.vectors {
        let mut matrix = MatrixReader::open(path, args.tensor.as_deref())?;
        let mut values = Vec::new();
        matrix.read(0..matrix.rows(), &mut values)?;
        let found = space.neighbors(&values, matrix.dim(), None, wanted, &params, exact)?;
        answers.extend(found.into_iter().enumerate().map(|(i, hits)| (format!("{}:{i}", path.display()), hits)));
    }
    let approximate = !(exact || space.vectors.is_exact());
    let mut rows = Vec::new();
    for (query, hits) in answers {
        let mut neighbors = Vec::new();
        for hit in hits {
            neighbors.push(SpaceNeighbor { documents: snapshot.find_id(&hit.id)?, hit });
        }
        rows.push(SpaceRow { query, space: name.into(), neighbors, approximate });
    }
    output::results(global.format(), &rows, |r| {
        let mut out = format!("{}\n", r.query);
        if r.neighbors.is_empty() {
            let how = if r.approximate { "approximate search, recall not measured" } else { "exhaustive search" };
            out += &format!("  nothing found in the space {} ({how})\n", r.space);
        }
        for n in &r.neighbors {
            out += &format!("  {:.3}  {}\n", n.hit.score, n.hit.id);
        }
        out
    })?;
    Ok(if args.check && rows.iter().any(|r| !r.neighbors.is_empty()) { Outcome::Findings } else { Outcome::Done })
}

#[derive(serde::Serialize)]
struct SpaceRow {
    query: String,
    space: String,
    neighbors: Vec<SpaceNeighbor>,
    approximate: bool,
}

fn text(row: &Row, snapshot: &Snapshot, recall: &SearchRecall) -> String {
    let mut out = format!("{}\n", one_line(&row.query));
    if row.neighbors.is_empty() {
        out += &format!("  nothing found in generation {} ({})\n", snapshot.manifest.generation, recall.words());
    }
    for n in &row.neighbors {
        let late = n.late_interaction.map(|s| format!(" late interaction {s:.3}")).unwrap_or_default();
        out += &format!(
            "  {:.3}{late}  {} ({}, bytes {}..{})\n         {}\n",
            n.score,
            n.id,
            n.path,
            n.start_byte,
            n.end_byte,
            one_line(&n.text)
        );
        out += &output::alignment(&n.alignment, &row.query, &n.text);
    }
    out
}
