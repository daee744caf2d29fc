//! Taking documents out: a new generation in which no query finds, counts or shows them.
//!
//! A removal is immutable like a shard. It has the removed documents' numbers, which hide them from every query that gives documents or
//! passages, and their tokens as a shard of their own, whose counts every exact query subtracts. It has no copy of their text; the shards
//! that hold it stay as they are, so the bytes remain on disk as long as the shard does.

use std::collections::{BTreeMap, BTreeSet};

use super::{DocumentRef, Manifest, PartEntry, Snapshot};
use crate::error::{Error, Result};
use crate::shard::Layout;
use crate::shard::build::{Batch, ShardBuilder, tokenize};
use crate::shard::removed;
use crate::suffix::Token;
use crate::tokenize::TokenizerKind;
use crate::with_view;

/// Text tokenised at a time, in bytes.
const BATCH_TEXT: usize = 8 << 20;
/// Tokens read at a time.
const BATCH_TOKENS: usize = 1 << 20;

/// Publishes a generation without `documents` of `snapshot`, which must be the index's current generation.
///
/// Cost: reads, tokenises and sorts the removed documents, as building an index of them would. Memory: as for a shard of them.
///
/// # Errors
/// No documents, one that does not exist or is removed already, a generation published since the snapshot was opened, another writer.
pub fn remove(snapshot: &Snapshot, documents: &BTreeSet<DocumentRef>) -> Result<Manifest> {
    if documents.is_empty() {
        return Err(Error::invalid("there is no document to remove"));
    }
    let mut tx = snapshot.dir.begin()?;
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
    let mut next = tx.manifest().clone();
    let id = tx.next_id();
    let path = tx.new_removed_dir(&id)?;
    let mut lists: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut builder = ShardBuilder::create(&**tx.store(), &path, &snapshot.tokenizer, Layout::Fast)?;
    // Its tokens are subtracted; nothing shows a removed document, so nothing else of it is written again.
    let mut append = |mut batch: Batch| -> Result<()> {
        batch.documents.iter_mut().for_each(|document| *document = Default::default());
        builder.append(&batch)
    };
    let (mut texts, mut batch, mut bytes, mut text_bytes) = (Vec::new(), Batch::default(), 0, 0);
    for &document in documents {
        let shard = snapshot.shards.get(document.shard as usize).filter(|_| snapshot.has(document));
        let Some(shard) = shard else {
            return Err(Error::invalid(format!(
                "there is no document {} in shard {}",
                document.document, document.shard
            )));
        };
        lists.entry(document.shard).or_default().push(document.document);
        match snapshot.tokenizer.kind {
            // As they were counted: of a document that came as tokens, its text may be cut in another way.
            TokenizerKind::Closed(_) => {
                let range = shard.tokens_of(document.document);
                with_view!(shard.exact, v => batch.ids.extend(v.read(range).iter().map(|t| t.id())));
                batch.ends.push(batch.ids.len());
                batch.documents.push(Default::default());
                text_bytes += shard.documents.text_len(document.document)? as u64;
                if batch.ids.len() >= BATCH_TOKENS {
                    append(std::mem::take(&mut batch))?;
                }
            }
            TokenizerKind::Open(_) => {
                let read = shard.documents.get(document.document)?;
                bytes += read.text.len();
                text_bytes += read.text.len() as u64;
                texts.push(read);
                if bytes >= BATCH_TEXT {
                    append(tokenize(&snapshot.tokenizer, std::mem::take(&mut texts))?)?;
                    bytes = 0;
                }
            }
        }
    }
    append(tokenize(&snapshot.tokenizer, texts)?)?;
    append(batch)?;
    let meta = builder.finish()?;
    let lists: Vec<(String, Vec<u32>)> =
        lists.into_iter().map(|(shard, list)| (snapshot.manifest.shards[shard as usize].id.clone(), list)).collect();
    removed::write(&**tx.store(), &path, &lists)?;
    next.removed.push(PartEntry::new(id, meta.documents, meta.tokens, text_bytes));
    tx.publish(next)
}
