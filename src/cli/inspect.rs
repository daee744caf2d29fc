//! `info`: what is in an index.

use clap::Args;

use super::output::{self, bytes, number};
use super::{Global, Outcome};
use crate::ann::VectorIndex;
use crate::index::{PartEntry, Snapshot};
use crate::shard::Shard;
use crate::shard::exact::EXACT_FILES;

#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Show this generation instead of the current one
    #[arg(long, value_name = "N")]
    generation: Option<u64>,
    /// Read every file and check its checksums
    #[arg(long)]
    verify: bool,
}

pub fn info(global: &Global, args: InfoArgs) -> anyhow::Result<Outcome> {
    let path = global.index_path()?;
    let snapshot = match args.generation {
        Some(n) => Snapshot::open_generation(path, n)?,
        None => Snapshot::open(path)?,
    };
    let m = &snapshot.manifest;
    let verified = if args.verify {
        let total = m.shards.iter().chain(&m.removed).map(|s| s.bytes()).sum();
        let bar = output::bar(total, global.quiet, "verify");
        let v = snapshot.dir.verify(m, |n| bar.inc(n))?;
        bar.finish_and_clear();
        Some(v)
    } else {
        None
    };
    let exact = |part: &PartEntry, shard: &Shard| -> u64 {
        let own = part.files.iter().filter(|f| EXACT_FILES.contains(&f.name.as_str())).map(|f| f.bytes);
        own.sum::<u64>() + shard.meta.source.as_ref().map_or(0, |s| s.exact_bytes())
    };
    let total: u64 = m.shards.iter().map(|s| s.bytes()).sum();
    let exact_total: u64 = m.shards.iter().zip(&snapshot.shards).map(|(part, shard)| exact(part, shard)).sum();
    let per_token = |n: u64, tokens: u64| if tokens == 0 { 0.0 } else { n as f64 / tokens as f64 };
    let shards: Vec<_> = m
        .shards
        .iter()
        .zip(&snapshot.shards)
        .map(|(s, opened)| {
            serde_json::json!({
                "id": s.id,
                "documents": s.documents,
                "tokens": s.tokens,
                "bytes": s.bytes(),
                "layout": opened.meta.layout,
                "exact_bytes_per_token": per_token(exact(s, opened), s.tokens),
                "detokenized": opened.meta.detokenized,
                "source": opened.meta.source.as_ref().map(|x| &x.directory),
                "chunks": opened.semantic.as_ref().map(|x| x.len()),
                "vector_index": opened.semantic.as_ref().and_then(|x| x.meta.as_ref()).map(|x| &x.vector_index),
                "terms": opened.meta.terms,
                "files": s.files,
            })
        })
        .collect();
    let item = serde_json::json!({
        "index": path,
        "generation": m.generation,
        "created_by": m.created_by,
        "format": m.format,
        "documents": m.corpus.documents,
        "tokens": m.corpus.tokens,
        "text_bytes": m.corpus.text_bytes,
        "tokenizer": m.tokenizer,
        "encoder": m.encoder,
        "chunking": m.chunking,
        "chunks": snapshot.chunks(),
        "vector_index": m.vector_index,
        "bytes": total,
        "bytes_per_token": per_token(total, m.corpus.tokens),
        "exact_bytes_per_token": per_token(exact_total, m.corpus.tokens),
        "recall": m.recall,
        "removed": m.removed.iter().map(|r| serde_json::json!({"id": r.id, "documents": r.documents, "tokens": r.tokens})).collect::<Vec<_>>(),
        "shards": shards,
        "checksums": verified.as_ref().map(|v| serde_json::json!({"damage": v.faults.iter().map(|e| e.to_string()).collect::<Vec<_>>()})),
    });
    output::result(global.format(), &item, |_| {
        let mut out = format!(
            "{}\n  generation   {} (by {})\n  documents    {}\n  tokens       {} ({})\n  text         {}\n  index        {}, {:.2} bytes per token; token index {:.2}\n",
            path.display(),
            m.generation,
            m.created_by,
            number(m.corpus.documents),
            number(m.corpus.tokens),
            m.tokenizer.kind,
            bytes(m.corpus.text_bytes),
            bytes(total),
            per_token(total, m.corpus.tokens),
            per_token(exact_total, m.corpus.tokens),
        );
        match &m.encoder {
            Some(e) => {
                out += &format!(
                    "  encoder      {} ({} dimensions, {} pooling), {} chunks\n",
                    e.name,
                    e.dim,
                    e.pooling,
                    number(snapshot.chunks())
                );
                for opened in &snapshot.shards {
                    let Some(semantic) = &opened.semantic else { continue };
                    let built = semantic.meta.as_ref().map(|x| &x.vector_index);
                    out += &format!(
                        "  vectors      {} over {} vectors stored as {}\n",
                        built.map_or_else(|| semantic.vectors.kind().to_string(), |v| v.describe()),
                        number(semantic.len() as u64),
                        semantic.vectors.stored().name()
                    );
                }
                for r in snapshot.measured() {
                    out += &format!(
                        "  recall@{:<5} {:.4} of {} (ef {}, nprobe {}; {} chunks, generation {})\n",
                        r.k,
                        r.recall,
                        r.vector_index.join(", "),
                        r.params.ef,
                        r.params.nprobe,
                        number(r.queries as u64),
                        r.generation
                    );
                }
            }
            None => out += "  encoder      none\n",
        }
        for r in &m.removed {
            out +=
                &format!("  removed      {} documents, {} tokens ({})\n", number(r.documents), number(r.tokens), r.id);
        }
        out += "  shards\n";
        for (s, opened) in m.shards.iter().zip(&snapshot.shards) {
            out += &format!(
                "    {}  {} documents, {} tokens, {}, {} layout\n",
                s.id,
                number(s.documents),
                number(s.tokens),
                bytes(s.bytes()),
                opened.meta.layout.name()
            );
            if let Some(source) = &opened.meta.source {
                let size = source.bytes.values().sum();
                out += &format!("      {:<14} {:>10}  shard {}\n", "in place", bytes(size), source.shard);
                out += &format!("      {}\n", source.directory.display());
            }
            if opened.meta.detokenized {
                out += "      text: the tokens' bytes, not the original\n";
            }
            for f in &s.files {
                out += &format!("      {:<14} {:>10}  xxh3 {}\n", f.name, bytes(f.bytes), f.xxh3);
            }
        }
        if let Some(v) = &verified {
            out += &match v.faults.len() {
                0 => "  checksums    all right\n".to_string(),
                1 => "  checksums    1 damaged place\n".to_string(),
                n => format!("  checksums    {n} damaged places\n"),
            };
            for e in &v.faults {
                out += &format!("    {e}\n");
            }
        }
        out
    })?;
    match verified {
        Some(v) if !v.faults.is_empty() => Err(crate::Error::invalid_hint(
            match v.faults.len() {
                1 => "a place of the index is damaged".to_string(),
                n => format!("{n} places of the index are damaged"),
            },
            "restore the files that are named from a copy, or rebuild their shards",
        )
        .into()),
        _ => Ok(Outcome::Done),
    }
}
