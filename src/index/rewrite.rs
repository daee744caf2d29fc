//! Writing shards again: removed documents left out ([`compact`]), several shards made one ([`merge`]). Nothing is tokenised or embedded
//! anew: tokens, texts and vectors are copied, suffix arrays and vector indexes built over the copies.
//!
//! A removal whose documents are all left out is no longer needed; one that hides documents of other shards as well is written
//! again for those. Rows of named spaces that belong to documents left out go with them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::erasure::{Erasure, Traces};
use super::remove::{begin, portions, write};
use super::{DocumentRef, Keep, Manifest, PartEntry, Pruned, Snapshot, Transaction, spaces};
use crate::error::{Error, Result};
use crate::shard::build::ShardBuilder;
use crate::shard::{Layout, copy, semantic};

/// What a rewrite did.
#[derive(Debug, Clone, PartialEq)]
pub struct Rewritten {
    /// The generation published; that of the snapshot when there was nothing to do.
    pub manifest: Manifest,
    /// Shards written again, and how many they became.
    pub shards: (u64, u64),
    /// Removed documents that were left out.
    pub left_out: u64,
}

/// What [`compact`] did.
#[derive(Debug)]
pub struct Compacted {
    pub rewritten: Rewritten,
    /// Earlier generations, and the shards only they had: they held the removed bytes.
    pub pruned: Pruned,
    /// The search for what was removed in all that is left.
    pub erasure: Erasure,
}

impl Snapshot {
    /// Documents of a shard that a removal hides.
    fn hidden(&self, shard: usize) -> BTreeSet<u32> {
        self.removals.iter().flat_map(|r| r.documents.documents(shard)).collect()
    }
}

/// Writes the shards that have removed documents again without them, publishes that, removes every earlier generation and
/// the token caches, and searches all files of the index for what was removed.
///
/// Cost: as building the shards concerned, without tokenising and embedding; then one read of the whole index. Memory: as a build of the
/// largest of them, and some 70 bytes for each 16 bytes of removed text, at most about 300 MB.
///
/// # Errors
/// Another writer, a damaged shard; removed text that is found after all, naming file and place.
pub fn compact(snapshot: &Snapshot, progress: &mut dyn FnMut(&str)) -> Result<Compacted> {
    let groups: Vec<Range<usize>> =
        (0..snapshot.shards.len()).filter(|&n| !snapshot.hidden(n).is_empty()).map(|n| n..n + 1).collect();
    let traces = Traces::of(snapshot)?;
    let rewritten = rewrite(snapshot, &groups, progress)?;
    // States of removed chunks tell of their text, and the new shards have others.
    progress("removing token caches and earlier generations");
    snapshot.dir.store().remove(&snapshot.dir.path().join(super::TOKEN_CACHE))?;
    let pruned = snapshot.dir.prune(Keep::Newest(1))?;
    progress("searching all files for what was removed");
    let erasure = traces.search(snapshot.dir.path())?;
    if let Some((path, offset)) = erasure.found.first() {
        let what = format!("{} fragments of removed documents are still there", erasure.found.len());
        return Err(Error::Corrupt { path: path.clone(), offset: *offset, what });
    }
    Ok(Compacted { rewritten, pruned, erasure })
}

/// Makes consecutive shards one where together they have at most `positions` positions of the token stream and all ids of `only`, if
/// it names any. Documents keep their order. Removed documents of the merged shards are left out.
pub fn merge(
    snapshot: &Snapshot,
    only: &[String],
    positions: u64,
    progress: &mut dyn FnMut(&str),
) -> Result<Rewritten> {
    let parts = &snapshot.manifest.shards;
    if let Some(unknown) = only.iter().find(|id| !parts.iter().any(|p| p.id == **id)) {
        let known: Vec<&str> = parts.iter().take(10).map(|p| p.id.as_str()).collect();
        return Err(Error::invalid_hint(
            format!("the index has no shard {unknown:?}"),
            format!("it has {}{}", known.join(", "), if parts.len() > 10 { ", …" } else { "" }),
        ));
    }
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut sum = 0;
    for (n, (part, shard)) in parts.iter().zip(&snapshot.shards).enumerate() {
        if !only.is_empty() && !only.contains(&part.id) {
            continue;
        }
        let own = shard.documents.tokens();
        match groups.last_mut() {
            Some(group) if group.end == n && sum + own <= positions => {
                group.end = n + 1;
                sum += own;
            }
            _ => {
                groups.push(n..n + 1);
                sum = own;
            }
        }
    }
    groups.retain(|g| g.len() > 1);
    rewrite(snapshot, &groups, progress)
}

/// Writes each group of shards again as one shard and publishes the result.
fn rewrite(snapshot: &Snapshot, groups: &[Range<usize>], progress: &mut dyn FnMut(&str)) -> Result<Rewritten> {
    let manifest = snapshot.manifest.clone();
    let mut done = Rewritten { manifest, shards: (0, 0), left_out: 0 };
    if groups.is_empty() {
        return Ok(done);
    }
    let mut tx = begin(snapshot)?;
    let mut next = tx.manifest().clone();
    let concerned: BTreeSet<usize> = groups.iter().cloned().flatten().collect();
    let mut made: BTreeMap<usize, Option<PartEntry>> = BTreeMap::new();
    for group in groups {
        let ids: Vec<&str> = group.clone().map(|n| snapshot.manifest.shards[n].id.as_str()).collect();
        progress(&format!("writing {} again", ids.join(", ")));
        let (entry, left_out) = one(&mut tx, snapshot, group.clone())?;
        done.shards.0 += group.len() as u64;
        done.shards.1 += u64::from(entry.is_some());
        done.left_out += left_out;
        made.insert(group.start, entry);
    }
    let old = std::mem::take(&mut next.shards);
    for (n, part) in old.into_iter().enumerate() {
        match made.remove(&n) {
            Some(entry) => next.shards.extend(entry),
            None if concerned.contains(&n) => {}
            None => next.shards.push(part),
        }
    }
    // What removals still have to hide: all of them are replaced by one that leaves the rewritten shards out.
    let touches = |r: &super::Removal| concerned.iter().any(|&n| r.documents.documents(n).next().is_some());
    let mut left: BTreeSet<DocumentRef> = BTreeSet::new();
    let mut replaced = BTreeSet::new();
    for removal in snapshot.removals.iter().filter(|r| touches(r)) {
        replaced.insert(removal.id.as_str());
        for n in (0..snapshot.shards.len()).filter(|n| !concerned.contains(n)) {
            left.extend(removal.documents.documents(n).map(|document| DocumentRef { shard: n as u32, document }));
        }
    }
    next.removed.retain(|part| !replaced.contains(part.id.as_str()));
    if !left.is_empty() {
        next.removed.push(write(&mut tx, snapshot, &left)?);
    }
    if !next.spaces.is_empty() && done.left_out > 0 {
        let gone = spaces::removed_ids(snapshot)?;
        spaces::without(&mut tx, &mut next, &snapshot.dir, &gone)?;
    }
    // Measured on vector indexes that are no longer there.
    next.recall.clear();
    // Removed documents were not counted before, either.
    let (before, after) = (snapshot.manifest.corpus, next.totals());
    if before != after {
        return Err(Error::invalid(format!(
            "the copies have {after:?}, the index has {before:?}: nothing is published"
        )));
    }
    done.manifest = tx.publish(next)?;
    Ok(done)
}

/// Writes the documents of some shards that are not removed as one shard. `None` when there are none. And how many were left out.
fn one(tx: &mut Transaction, snapshot: &Snapshot, group: Range<usize>) -> Result<(Option<PartEntry>, u64)> {
    let mut numbers: Vec<Vec<Option<u32>>> = Vec::new();
    let (mut count, mut left_out) = (0u32, 0);
    for n in group.clone() {
        let hidden = snapshot.hidden(n);
        let mut number = |document: u32| {
            if hidden.contains(&document) {
                left_out += 1;
                return None;
            }
            count += 1;
            Some(count - 1)
        };
        numbers.push((0..snapshot.shards[n].documents.len() as u32).map(&mut number).collect());
    }
    if count == 0 {
        return Ok((None, left_out));
    }
    let id = tx.next_id();
    let path = tx.new_shard_dir(&id)?;
    let store = tx.store().clone();
    let mut builder = ShardBuilder::create(&*store, &path, &snapshot.tokenizer, layout(snapshot, &group)?)?;
    for (n, numbers) in group.clone().zip(&numbers) {
        let shard = &snapshot.shards[n];
        let kept: Vec<u32> = (0..).zip(numbers).filter(|(_, new)| new.is_some()).map(|(old, _)| old).collect();
        for some in portions(shard, &kept)? {
            builder.append(&copy::batch(shard, some, true)?)?;
        }
    }
    let meta = builder.finish()?;
    let mut entry = PartEntry::new(id, meta.documents, meta.tokens, meta.text_bytes);
    let parts: Vec<_> =
        group.zip(&numbers).map(|(n, numbers)| (snapshot.shards[n].semantic.as_ref(), &numbers[..])).collect();
    if let Some(made) = semantic::copy(&*store, &path, &parts)? {
        entry.extra.insert("semantic".into(), made.summary());
    }
    Ok((Some(entry), left_out))
}

/// The layout of what shards are written together as: their own. What cannot be written again, or not together, is refused.
fn layout(snapshot: &Snapshot, group: &Range<usize>) -> Result<Layout> {
    let first = &snapshot.shards[group.start].meta;
    for n in group.clone() {
        let (meta, id) = (&snapshot.shards[n].meta, &snapshot.manifest.shards[n].id);
        if meta.layout == Layout::Infinigram {
            return Err(Error::invalid_hint(
                format!(
                    "shard {id} is an index of infini-gram, opened in place: its files are not ours to write again"
                ),
                "build the index from the corpus instead of importing it",
            ));
        }
        if (meta.layout, meta.detokenized) != (first.layout, first.detokenized) {
            return Err(Error::invalid_hint(
                format!(
                    "shard {id} has another layout than shard {}, or only one of them came as tokens",
                    snapshot.manifest.shards[group.start].id
                ),
                "build both in one way",
            ));
        }
    }
    Ok(first.layout)
}
