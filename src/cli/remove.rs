//! `remove`: takes documents out of an index.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use super::input;
use super::output::{self, number};
use super::{Global, Outcome};
use crate::error::Error;
use crate::index::{DocumentRef, Snapshot, remove};

/// Take documents out of an index: a new generation in which no query finds, counts or shows them. Their bytes stay on disk in the shards
/// that hold them, and earlier generations still have them until they are pruned.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Ids of documents to remove; every document with that id is
    #[arg(value_name = "ID", required_unless_present_any = ["ids", "source", "matching"])]
    id: Vec<String>,
    /// A file of ids, one a line; - for standard input
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Remove all documents whose source path matches this glob
    #[arg(long, value_name = "GLOB")]
    source: Vec<String>,
    /// Remove all documents in which this n-gram occurs
    #[arg(long, value_name = "NGRAM")]
    matching: Vec<String>,
    /// Go on when an id, a glob or an n-gram has no document
    #[arg(long)]
    ignore_missing: bool,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(serde::Serialize)]
struct Removed {
    dry_run: bool,
    generation: u64,
    removed_documents: u64,
    documents: u64,
    tokens: u64,
    missing: Vec<String>,
}

pub fn remove(global: &Global, args: RemoveArgs) -> anyhow::Result<Outcome> {
    let mut ids: BTreeSet<String> = args.id.iter().cloned().collect();
    if let Some(path) = &args.ids {
        ids.extend(input::lines(path)?);
    }
    let snapshot = Snapshot::open(global.index_path()?)?;
    let mut chosen: BTreeSet<DocumentRef> = BTreeSet::new();
    let mut missing = Vec::new();
    for id in &ids {
        let found = snapshot.find_id(id)?;
        if found.is_empty() {
            missing.push(id.clone());
        }
        chosen.extend(found);
    }
    for glob in &args.source {
        let found = of_source(&snapshot, glob)?;
        if found.is_empty() {
            missing.push(glob.clone());
        }
        chosen.extend(found);
    }
    for text in &args.matching {
        let ngram = snapshot.ngram(text)?;
        if ngram.is_empty() {
            return Err(Error::invalid_hint(
                format!("--matching {text:?}: it has no tokens, so every document would match"),
                "give an n-gram with at least one token",
            )
            .into());
        }
        let found = snapshot.documents_with(&ngram);
        if found.is_empty() {
            missing.push(format!("{text:?}"));
        }
        chosen.extend(found);
    }
    if !missing.is_empty() && !args.ignore_missing {
        let shown: Vec<&str> = missing.iter().take(5).map(String::as_str).collect();
        return Err(Error::invalid_hint(
            format!(
                "{} of the ids, globs and n-grams have no document in generation {}: {}{}",
                missing.len(),
                snapshot.manifest.generation,
                shown.join(", "),
                if missing.len() > shown.len() { ", …" } else { "" }
            ),
            "nothing was removed; check them, or pass --ignore-missing",
        )
        .into());
    }
    let manifest = match args.dry_run || chosen.is_empty() {
        true => None,
        false => Some(remove::remove(&snapshot, &chosen)?),
    };
    let manifest = manifest.as_ref().unwrap_or(&snapshot.manifest);
    let answer = Removed {
        dry_run: args.dry_run,
        generation: manifest.generation,
        removed_documents: chosen.len() as u64,
        documents: manifest.corpus.documents,
        tokens: manifest.corpus.tokens,
        missing,
    };
    output::result(global.format(), &answer, |a| {
        format!(
            "{} {} documents; generation {} has {} documents, {} tokens\n",
            if a.dry_run { "would remove" } else { "removed" },
            number(a.removed_documents),
            a.generation,
            number(a.documents),
            number(a.tokens)
        )
    })?;
    Ok(Outcome::Done)
}

/// The documents, not removed yet, whose source path matches a glob.
fn of_source(snapshot: &Snapshot, glob: &str) -> anyhow::Result<Vec<DocumentRef>> {
    let matcher = globset::Glob::new(glob)
        .map_err(|e| Error::invalid_hint(format!("--source {glob}: {e}"), "quote the glob; ** matches directories"))?
        .compile_matcher();
    let mut out = Vec::new();
    for (number, shard) in snapshot.shards.iter().enumerate() {
        let paths: Vec<bool> = shard.documents.path_list()?.iter().map(|path| matcher.is_match(path)).collect();
        for document in 0..shard.documents.len() as u32 {
            let at = DocumentRef { shard: number as u32, document };
            if paths.get(shard.documents.path_number(document)? as usize) == Some(&true) && !snapshot.is_removed(at) {
                out.push(at);
            }
        }
    }
    Ok(out)
}
