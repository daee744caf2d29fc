//! `rank`: all documents of an index by their similarity to the items of a benchmark.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::neighbors::texts_of;
use super::output::{self, number};
use super::{Global, Outcome};
use crate::error::Error;
use crate::query::rank::Aggregate;

/// Rank all documents by their similarity to the items of a benchmark, and write the scores.
///
/// A document is as near to an item as its nearest chunk is (exact, from the stored vectors). Documents without embeddings are left out.
#[derive(Debug, Args)]
pub struct RankArgs {
    /// The items: one a line, or .jsonl with --text-field
    #[arg(value_name = "ITEMS")]
    items: PathBuf,
    /// Field of a .jsonl file that holds the item's text
    #[arg(long, default_value = "text", value_name = "FIELD")]
    text_field: String,
    /// The score of a document: its similarity to the nearest item, or the mean over all items
    #[arg(long, value_enum, default_value = "max", value_name = "HOW")]
    aggregate: How,
    /// Only so many of the best
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Write JSON Lines to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum How {
    Max,
    Mean,
}

#[derive(serde::Serialize)]
struct Row {
    rank: usize,
    shard: u32,
    document: u32,
    id: String,
    path: String,
    score: f32,
    /// The nearest item: its id, or its number in the file from 0.
    item: String,
    /// The chunk nearest to it.
    start_byte: u32,
    end_byte: u32,
}

pub fn rank(global: &Global, args: RankArgs) -> anyhow::Result<Outcome> {
    let snapshot = global.snapshot()?;
    let items = texts_of(&args.items, &args.text_field)?;
    if items.is_empty() {
        return Err(Error::invalid(format!("{}: there are no items", args.items.display())).into());
    }
    let opened = super::semantic::open_of(global, &snapshot)?;
    let texts: Vec<&str> = items.iter().map(|(_, text)| text.as_str()).collect();
    let vectors = snapshot.embed_queries(&*opened.encoder, &texts)?;
    let how = match args.aggregate {
        How::Max => Aggregate::Max,
        How::Mean => Aggregate::Mean,
    };
    let mut ranked = snapshot.rank_by_items(&vectors, how)?;
    let all = ranked.len();
    ranked.truncate(args.top.unwrap_or(usize::MAX));
    let mut rows = Vec::with_capacity(ranked.len());
    for (i, r) in ranked.iter().enumerate() {
        let documents = &snapshot.shards[r.document.shard as usize].documents;
        rows.push(Row {
            rank: i + 1,
            shard: r.document.shard,
            document: r.document.document,
            id: documents.id(r.document.document)?,
            path: documents.path(r.document.document)?.to_string(),
            score: r.score,
            item: items[r.item as usize].0.clone().unwrap_or_else(|| r.item.to_string()),
            start_byte: r.start_byte,
            end_byte: r.end_byte,
        });
    }
    match &args.out {
        Some(path) => {
            let file = std::fs::File::create(path).map_err(Error::io(path, "create"))?;
            let mut out = std::io::BufWriter::new(file);
            for row in &rows {
                serde_json::to_writer(&mut out, row)?;
                out.write_all(b"\n").map_err(Error::io(path, "write"))?;
            }
            out.flush().map_err(Error::io(path, "write"))?;
        }
        None => output::results(global.format(), &rows, |r| {
            format!(
                "{:>8}  {:.4}  {}  nearest item {}, bytes {}..{}",
                r.rank, r.score, r.id, r.item, r.start_byte, r.end_byte
            )
        })?,
    }
    if !global.quiet {
        eprintln!("{} documents ranked by {} items", number(all as u64), number(items.len() as u64));
    }
    Ok(Outcome::Done)
}
