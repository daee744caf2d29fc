//! Which documents a removal hides: `removed.bin`.
//!
//! Sections: `shards`, a JSON list of `{"id", "documents"}`; `documents`, the sorted document numbers of each of them, one list
//! after another (u32). Opened as one bitmap a shard.

use std::path::Path;

use crate::error::{Error, Result};
use crate::format::{Kind, Section};
use crate::store::Store;

/// File name in the removal's directory.
pub const REMOVED_BIN: &str = "removed.bin";

#[derive(serde::Serialize, serde::Deserialize)]
struct List {
    id: String,
    documents: usize,
}

/// Writes the removed documents of each shard: (shard id, sorted document numbers).
pub fn write(store: &dyn Store, dir: &Path, removed: &[(String, Vec<u32>)]) -> Result<()> {
    let mut out = store.section(&dir.join(REMOVED_BIN), Kind::REMOVED, 0)?;
    let lists: Vec<List> = removed.iter().map(|(id, d)| List { id: id.clone(), documents: d.len() }).collect();
    out.start_sub("shards")?;
    out.put(&serde_json::to_vec(&lists).map_err(|e| Error::invalid(format!("removed documents: {e}")))?)?;
    out.start_sub("documents")?;
    for (_, documents) in removed {
        out.put(documents)?;
    }
    out.finish()?;
    Ok(())
}

/// One bitmap a shard of the snapshot.
pub struct RemovedDocuments {
    bitmaps: Vec<Vec<u64>>,
}

impl RemovedDocuments {
    /// Opens the lists in `dir` for the shards named `ids`, in that order.
    pub fn open(dir: &Path, ids: &[&str]) -> Result<RemovedDocuments> {
        let section = Section::open(dir.join(REMOVED_BIN), Kind::REMOVED)?;
        let corrupt = |what: String| Error::corrupt(section.path(), 0, what);
        let lists: Vec<List> = serde_json::from_slice(section.sub("shards")?.bytes())
            .map_err(|e| corrupt(format!("not a list of shards: {e}")))?;
        let sub = section.sub("documents")?;
        let mut rest = sub.as_u32s()?;
        let mut bitmaps = vec![Vec::new(); ids.len()];
        for list in lists {
            if list.documents > rest.len() {
                return Err(corrupt(format!(
                    "shard {} has {} documents, {} are left",
                    list.id,
                    list.documents,
                    rest.len()
                )));
            }
            let (documents, tail) = rest.split_at(list.documents);
            rest = tail;
            // A shard that was merged away since has nothing left to hide.
            let Some(at) = ids.iter().position(|&id| id == list.id) else { continue };
            for &d in documents {
                let word = d as usize / 64;
                if bitmaps[at].len() <= word {
                    bitmaps[at].resize(word + 1, 0);
                }
                bitmaps[at][word] |= 1u64 << (d % 64);
            }
        }
        Ok(RemovedDocuments { bitmaps })
    }

    /// The hidden documents of the `shard`-th shard, rising.
    pub fn documents(&self, shard: usize) -> impl Iterator<Item = u32> + '_ {
        let words = self.bitmaps.get(shard).map_or(&[][..], Vec::as_slice);
        let bits =
            |(i, &word): (usize, &u64)| (0..64).filter(move |b| word >> b & 1 == 1).map(move |b| (i * 64 + b) as u32);
        words.iter().enumerate().flat_map(bits)
    }

    /// Whether document `document` of the `shard`-th shard is hidden.
    pub fn contains(&self, shard: usize, document: u32) -> bool {
        self.bitmaps
            .get(shard)
            .and_then(|b| b.get(document as usize / 64))
            .is_some_and(|w| w >> (document % 64) & 1 == 1)
    }
}
