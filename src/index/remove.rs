//! Taking documents out: a new generation in which no query finds, counts or shows them.
//!
//! A removal is immutable like a shard. It has the removed documents' numbers, which hide them from every query that gives documents or
//! passages, and their tokens as a shard of their own, whose counts every exact query subtracts. It has no copy of their text; the shards
//! that hold it stay as they are, so the bytes remain on disk as long as the shard does.

use std::collections::{BTreeMap, BTreeSet};

use super::{DocumentRef, Manifest, PartEntry, Snapshot, Transaction};
use crate::error::{Error, Result};
use crate::shard::build::ShardBuilder;
use crate::shard::{Layout, copy, removed};

/// Text of documents copied together, in bytes.
pub(super) const BATCH_TEXT: usize = 8 << 20;

/// Publishes a generation without `documents` of `snapshot`, which must be the index's current generation.
///
/// Cost: reads and sorts the tokens of the removed documents, as building an index of them would. Memory: as for a shard of them.
///
/// # Errors
/// No documents, one that does not exist or is removed already, a generation published since the snapshot was opened, another writer.
pub fn remove(snapshot: &Snapshot, documents: &BTreeSet<DocumentRef>) -> Result<Manifest> {
    if documents.is_empty() {
        return Err(Error::invalid("there is no document to remove"));
    }
    if let Some(d) = documents.iter().find(|d| !snapshot.has(**d)) {
        return Err(Error::invalid(format!("there is no document {} in shard {}", d.document, d.shard)));
    }
    let mut tx = begin(snapshot)?;
    let mut next = tx.manifest().clone();
    next.removed.push(write(&mut tx, snapshot, documents)?);
    tx.publish(next)
}

/// A transaction that starts from the generation of `snapshot`.
pub(super) fn begin(snapshot: &Snapshot) -> Result<Transaction> {
    let tx = snapshot.dir.begin()?;
    if tx.manifest().generation != snapshot.manifest.generation {
        return Err(Error::invalid_hint(
            format!(
                "generation {} was published while documents of generation {} were chosen",
                tx.manifest().generation,
                snapshot.manifest.generation
            ),
            "run the same command again",
        ));
    }
    Ok(tx)
}

/// Writes a removal of documents of `snapshot`, hidden already or not.
pub(super) fn write(tx: &mut Transaction, snapshot: &Snapshot, documents: &BTreeSet<DocumentRef>) -> Result<PartEntry> {
    let id = tx.next_id();
    let path = tx.new_removed_dir(&id)?;
    let store = tx.store().clone();
    let mut builder = ShardBuilder::create(&*store, &path, &snapshot.tokenizer, Layout::Fast)?;
    let mut lists: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    documents.iter().for_each(|d| lists.entry(d.shard).or_default().push(d.document));
    let mut text_bytes = 0;
    for (&number, list) in &lists {
        let shard = &snapshot.shards[number as usize];
        for some in portions(shard, list)? {
            // Their tokens are subtracted; nothing shows a removed document, so nothing else of it is written again.
            builder.append(&copy::batch(shard, some, false)?)?;
        }
        for &document in list {
            text_bytes += shard.documents.text_len(document)? as u64;
        }
    }
    let meta = builder.finish()?;
    let lists: Vec<(String, Vec<u32>)> =
        lists.into_iter().map(|(shard, list)| (snapshot.manifest.shards[shard as usize].id.clone(), list)).collect();
    removed::write(&*store, &path, &lists)?;
    Ok(PartEntry::new(id, meta.documents, meta.tokens, text_bytes))
}

/// Cuts a list of documents into pieces of some megabytes of text.
pub(super) fn portions<'a>(shard: &crate::shard::Shard, documents: &'a [u32]) -> Result<Vec<&'a [u32]>> {
    let mut out = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (i, &document) in documents.iter().enumerate() {
        bytes += shard.documents.text_len(document)?;
        if bytes >= BATCH_TEXT || i + 1 - from >= 4096 {
            out.push(&documents[from..=i]);
            (from, bytes) = (i + 1, 0);
        }
    }
    out.push(&documents[from..]);
    Ok(out)
}
