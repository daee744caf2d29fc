//! Snapshots: an opened generation, ready for queries.
//!
//! Opening maps every shard and reads the manifest; it costs milliseconds whatever the size. A snapshot stays valid while later
//! generations are published, because published files never change.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::{IndexDir, Manifest};
use crate::error::{Error, Result};
use crate::shard::Shard;
use crate::shard::exact::Part;
use crate::shard::removed::RemovedDocuments;
use crate::tokenize::Tokenizer;

/// Documents taken out by a later generation: which ones, and the exact index of their text.
pub struct Removal {
    pub id: String,
    /// For each shard of the snapshot, the documents it hides.
    pub documents: RemovedDocuments,
    /// The removed documents as a shard of their own: its counts are subtracted.
    pub shard: Shard,
}

/// A document of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct DocumentRef {
    /// Number of the shard in the manifest's order.
    pub shard: u32,
    /// Number of the document in the shard.
    pub document: u32,
}

/// An opened generation.
pub struct Snapshot {
    pub dir: IndexDir,
    pub manifest: Manifest,
    pub tokenizer: Arc<Tokenizer>,
    pub shards: Vec<Shard>,
    pub removals: Vec<Removal>,
}

impl Snapshot {
    /// Opens the current generation of the index at `path`.
    pub fn open(path: &Path) -> Result<Snapshot> {
        let dir = IndexDir::open(path)?;
        let mut manifest = dir.manifest()?;
        loop {
            let generation = manifest.generation;
            match Snapshot::of(dir.clone(), manifest) {
                Ok(snapshot) => return Ok(snapshot),
                // Between the manifest and its files another generation may have been published and this one pruned.
                Err(error) => {
                    manifest = dir.manifest()?;
                    if manifest.generation == generation {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// [`open`](Self::open), then copies the exact index into memory, as far as `budget` bytes reach.
    ///
    /// A mapped file has pages of 4 KiB, memory has huge ones: a dependent read there costs about half. The top levels of all shards
    /// come first, then their token streams, then their suffix arrays, each of them whole or not at all. Cost: reading those files
    /// once. Answers are the same.
    pub fn open_resident(path: &Path, budget: u64) -> Result<Snapshot> {
        let mut snapshot = Snapshot::open(path)?;
        let mut left = budget;
        for part in Part::ALL {
            for shard in &mut snapshot.shards {
                shard.exact.make_resident(part, &mut left)?;
            }
        }
        if budget > 0 {
            tracing::info!(bytes = budget - left, of = budget, "exact index held in memory");
        }
        Ok(snapshot)
    }

    /// Opens generation `number`, if it has not been pruned.
    pub fn open_generation(path: &Path, number: u64) -> Result<Snapshot> {
        let dir = IndexDir::open(path)?;
        let manifest = dir.manifest_of(number)?;
        Snapshot::of(dir, manifest)
    }

    fn of(dir: IndexDir, manifest: Manifest) -> Result<Snapshot> {
        dir.check(&manifest)?;
        let tokenizer = Arc::new(Tokenizer::from_spec(&manifest.tokenizer)?);
        let open = |path: std::path::PathBuf| {
            let shard = Shard::open(&path)?;
            if shard.meta.tokenizer != manifest.tokenizer {
                let name = |s: &crate::tokenize::TokenizerSpec| format!("{} {}", s.kind, s.sha256);
                return Err(Error::TokenizerMismatch {
                    index: name(&manifest.tokenizer),
                    query: name(&shard.meta.tokenizer),
                });
            }
            shard.documents.decode_with(&tokenizer);
            Ok(shard)
        };
        let shards = manifest.shards.par_iter().map(|s| open(dir.shard_dir(&s.id))).collect::<Result<Vec<_>>>()?;
        let ids: Vec<&str> = manifest.shards.iter().map(|s| s.id.as_str()).collect();
        let removals = manifest
            .removed
            .iter()
            .map(|r| {
                let path = dir.removed_dir(&r.id);
                Ok(Removal { id: r.id.clone(), documents: RemovedDocuments::open(&path, &ids)?, shard: open(path)? })
            })
            .collect::<Result<Vec<_>>>()?;
        tracing::info!(
            index = %dir.path().display(),
            generation = manifest.generation,
            shards = shards.len(),
            removals = removals.len(),
            "index opened"
        );
        Ok(Snapshot { dir, manifest, tokenizer, shards, removals })
    }

    /// Whether a document has been removed.
    pub fn is_removed(&self, d: DocumentRef) -> bool {
        self.removals.iter().any(|r| r.documents.contains(d.shard as usize, d.document))
    }

    /// Whether there is such a document, not removed.
    pub fn has(&self, d: DocumentRef) -> bool {
        let exists = |shard: &Shard| (d.document as usize) < shard.documents.len();
        self.shards.get(d.shard as usize).is_some_and(exists) && !self.is_removed(d)
    }

    /// Shards with +1, removed text with -1: an exact count is the signed sum over them.
    pub(crate) fn signed(&self) -> impl Iterator<Item = (&Shard, i64)> {
        self.shards.iter().map(|s| (s, 1)).chain(self.removals.iter().map(|r| (&r.shard, -1)))
    }

    /// Documents with this id that are not removed, in shard order.
    pub fn find_id(&self, id: &str) -> Result<Vec<DocumentRef>> {
        let mut out = Vec::new();
        for (shard, s) in self.shards.iter().enumerate() {
            for document in s.documents.find_id(id)? {
                let d = DocumentRef { shard: shard as u32, document };
                if !self.is_removed(d) {
                    out.push(d);
                }
            }
        }
        Ok(out)
    }

    /// The stored document; an error when it does not exist or was removed.
    pub fn document(&self, d: DocumentRef) -> Result<crate::corpus::Document> {
        match self.shards.get(d.shard as usize).filter(|_| self.has(d)) {
            Some(shard) => shard.documents.get(d.document),
            None => Err(Error::invalid(format!("there is no document {} in shard {}", d.document, d.shard))),
        }
    }
}
