//! Publishing: how a new generation becomes visible, all of it or nothing.
//!
//! One writer at a time holds the lock. It writes new parts under `tmp/`, then
//!
//! 1. syncs every file of every new part and the directories that name them;
//! 2. renames the parts into `shards/` and `removed/` and syncs those directories;
//! 3. writes the manifest to `tmp/`, syncs it, renames it to `generations/NNNNNN.json`, syncs that directory;
//! 4. writes it to `tmp/` again, syncs, renames it to `manifest.json`, syncs the index directory.
//!
//! The rename in 4 is the commit. A crash before it leaves the previous `manifest.json` and, perhaps, parts or a generation file
//! that nothing refers to; the next transaction removes them. A crash after it leaves the new generation, whose parts are
//! durable since 1 and 2. Nothing that a manifest refers to is ever written again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::manifest::{FileEntry, FormatVersion, Manifest, ManifestSeed, PartEntry, created_by, is_plain_name};
use crate::error::{Error, Result};
use crate::format::{FORMAT_MAJOR, FORMAT_MINOR};
use crate::store::{DiskStore, Lock, Store};

/// File name of the current manifest.
pub const MANIFEST: &str = "manifest.json";
pub(super) const SHARDS: &str = "shards";
pub(super) const REMOVED: &str = "removed";
pub(super) const SPACES: &str = "spaces";
pub(super) const GENERATIONS: &str = "generations";
const TMP: &str = "tmp";
const LOCK: &str = "lock";
/// Where the tasks of a build keep finished shards until they are published; a transaction does not look into it.
pub(super) const BUILDING: &str = "building";
/// Where audits keep token states of chunks; no part of a generation.
pub const TOKEN_CACHE: &str = "token-cache";

/// The directory of an index.
#[derive(Clone)]
pub struct IndexDir {
    pub(super) root: PathBuf,
    pub(super) store: Arc<dyn Store>,
    /// Settings of an index that has no generation yet.
    seed: Option<ManifestSeed>,
}

impl IndexDir {
    /// Prepares a new index at `path`, which must be missing, empty, or left by a build that published nothing. The first
    /// transaction publishes generation 1.
    pub fn create(path: &Path, seed: ManifestSeed) -> Result<IndexDir> {
        IndexDir::create_in(Arc::new(DiskStore), path, seed)
    }

    /// [`IndexDir::create`] in any store.
    pub fn create_in(store: Arc<dyn Store>, path: &Path, seed: ManifestSeed) -> Result<IndexDir> {
        let dir = IndexDir { root: path.to_path_buf(), store, seed: Some(seed) };
        if dir.store.exists(&dir.root.join(MANIFEST))? {
            return Err(already(path));
        }
        let ours = [SHARDS, REMOVED, SPACES, GENERATIONS, TMP, LOCK, BUILDING];
        if let Some(other) = dir.store.list(path)?.iter().find(|e| !ours.contains(&e.name.as_str())) {
            return Err(Error::invalid_hint(
                format!("{}: not empty: it holds {:?}", path.display(), other.name),
                "name a new directory for the index",
            ));
        }
        // The directory and its parents must outlast a power cut as well: every name that is new here is synced.
        let mut unsynced = vec![path];
        for above in path.ancestors().skip(1) {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            unsynced.push(above);
            if dir.store.exists(above)? {
                break;
            }
        }
        for name in [SHARDS, REMOVED, GENERATIONS] {
            dir.store.create_dir_all(&path.join(name))?;
        }
        unsynced.into_iter().try_for_each(|d| dir.store.sync_dir(d))?;
        Ok(dir)
    }

    /// Opens the index at `path`, which must have a published generation.
    pub fn open(path: &Path) -> Result<IndexDir> {
        IndexDir::open_in(Arc::new(DiskStore), path)
    }

    /// [`IndexDir::open`] in any store.
    pub fn open_in(store: Arc<dyn Store>, path: &Path) -> Result<IndexDir> {
        let dir = IndexDir { root: path.to_path_buf(), store, seed: None };
        if !dir.store.exists(&dir.root.join(MANIFEST))? {
            return Err(Error::invalid_hint(
                format!("{}: no index here ({MANIFEST} is missing)", path.display()),
                "build one with `priorart build`, or check the path",
            ));
        }
        Ok(dir)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The store that is written to.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Directory of shard `id`.
    pub fn shard_dir(&self, id: &str) -> PathBuf {
        self.root.join(SHARDS).join(id)
    }

    /// Directory of removal `id`.
    pub fn removed_dir(&self, id: &str) -> PathBuf {
        self.root.join(REMOVED).join(id)
    }

    /// Directory of the named space whose part is `id`.
    pub fn space_dir(&self, id: &str) -> PathBuf {
        self.root.join(SPACES).join(id)
    }

    pub(super) fn read_manifest(&self, path: &Path) -> Result<Manifest> {
        Manifest::from_bytes(&self.store.read(path)?, path)
    }

    pub(super) fn generation_path(&self, generation: u64) -> PathBuf {
        self.root.join(GENERATIONS).join(format!("{generation:06}.json"))
    }

    pub(super) fn lock(&self) -> Result<Box<dyn Lock>> {
        self.store.lock(&self.root.join(LOCK))
    }

    /// Starts a transaction: takes the writer's lock ([`Error::Busy`] if another has it) and removes what a crashed writer
    /// left.
    pub fn begin(&self) -> Result<Transaction> {
        let lock = self.lock()?;
        let current = self.root.join(MANIFEST);
        let base = match (&self.seed, self.store.exists(&current)?) {
            (_, true) => {
                let manifest = self.read_manifest(&current)?;
                // Whoever created this handle may have published through it; another may have built here meanwhile.
                if let Some(seed) = &self.seed {
                    let same = manifest.tokenizer == seed.tokenizer
                        && manifest.encoder == seed.encoder
                        && manifest.chunking == seed.chunking;
                    if !same {
                        return Err(already(&self.root));
                    }
                }
                manifest
            }
            (Some(seed), false) => Manifest::from_seed(seed.clone()),
            (None, false) => {
                return Err(Error::invalid(format!("{}: its {MANIFEST} has disappeared", self.root.display())));
            }
        };
        self.sweep(base.generation)?;
        let tmp = self.root.join(TMP);
        self.store.create_dir_all(&tmp.join(SHARDS))?;
        self.store.create_dir_all(&tmp.join(REMOVED))?;
        let (shards, removed, spaces) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Transaction { dir: self.clone(), base, shards, removed, spaces, adopted: Vec::new(), _lock: lock })
    }

    /// Removes what no generation refers to. The lock must be held.
    pub(super) fn sweep(&self, current: u64) -> Result<()> {
        self.store.remove(&self.root.join(TMP))?;
        for entry in self.store.list(&self.root.join(GENERATIONS))? {
            let number = entry.name.strip_suffix(".json").and_then(|n| n.parse::<u64>().ok());
            if number.is_some_and(|n| n > current) {
                self.store.remove(&self.root.join(GENERATIONS).join(&entry.name))?;
            }
        }
        self.store.sync_dir(&self.root.join(GENERATIONS))?;
        super::build::sweep_published(&*self.store, &self.root)?;
        self.sweep_parts().map(drop)
    }

    /// Removes parts that no generation refers to; returns how many and their bytes. While a generation file is unreadable
    /// nothing is removed: it may refer to anything.
    pub(super) fn sweep_parts(&self) -> Result<(u64, u64)> {
        let mut manifests = Vec::new();
        let current = self.root.join(MANIFEST);
        if self.store.exists(&current)? {
            manifests.push(self.read_manifest(&current));
        }
        // The older generations need not be read when nothing lies here but what the current one uses.
        let on_disk = [SHARDS, REMOVED, SPACES]
            .iter()
            .try_fold(0, |n, kind| Ok::<_, Error>(n + self.store.list(&self.root.join(kind))?.len()))?;
        match manifests.first() {
            Some(Ok(manifest)) if manifest.parts() == on_disk => return Ok((0, 0)),
            _ => manifests.extend(self.kept_manifests()?),
        }
        let mut used = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
        for manifest in manifests {
            let Ok(manifest) = manifest else { return Ok((0, 0)) };
            used[0].extend(manifest.shards.into_iter().map(|p| p.id));
            used[1].extend(manifest.removed.into_iter().map(|p| p.id));
            used[2].extend(manifest.spaces.into_iter().map(|p| p.id));
        }
        let mut swept = (0, 0);
        for (name, used) in [SHARDS, REMOVED, SPACES].iter().zip(&used) {
            let parent = self.root.join(name);
            let before = swept.0;
            for entry in self.store.list(&parent)?.iter().filter(|e| !used.contains(&e.name)) {
                let path = parent.join(&entry.name);
                swept.1 += self.store.list(&path)?.iter().map(|f| f.bytes).sum::<u64>();
                self.store.remove(&path)?;
                swept.0 += 1;
            }
            if swept.0 > before {
                self.store.sync_dir(&parent)?;
            }
        }
        Ok(swept)
    }
}

fn already(path: &Path) -> Error {
    Error::invalid_hint(
        format!("{}: there is already an index here", path.display()),
        "use `priorart add` to extend it, or name a new directory",
    )
}

/// A writer's turn. Dropping it without publishing removes what it wrote.
pub struct Transaction {
    dir: IndexDir,
    base: Manifest,
    shards: Vec<String>,
    removed: Vec<String>,
    spaces: Vec<String>,
    /// Shards taken over, and where from.
    adopted: Vec<(String, PathBuf)>,
    _lock: Box<dyn Lock>,
}

impl Transaction {
    /// The generation this one starts from; number 0 in a new index.
    pub fn manifest(&self) -> &Manifest {
        &self.base
    }

    /// A directory for intermediate files, on the index's file system; removed at the end.
    pub fn tmp(&self) -> PathBuf {
        self.dir.root.join(TMP)
    }

    /// The store to write through.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.dir.store
    }

    /// An id no other part of this index has or had: the generation to be published and a counter.
    pub fn next_id(&self) -> String {
        format!("{:06}-{:04}", self.base.generation + 1, self.shards.len() + self.removed.len() + self.spaces.len())
    }

    /// An empty directory for the files of the new shard `id`.
    pub fn new_shard_dir(&mut self, id: &str) -> Result<PathBuf> {
        let path = self.new_part(SHARDS, id)?;
        self.dir.store.create_dir_all(&path)?;
        self.shards.push(id.to_string());
        Ok(path)
    }

    /// An empty directory for the files of the new removal `id`.
    pub fn new_removed_dir(&mut self, id: &str) -> Result<PathBuf> {
        let path = self.new_part(REMOVED, id)?;
        self.dir.store.create_dir_all(&path)?;
        self.removed.push(id.to_string());
        Ok(path)
    }

    /// An empty directory for the files of the new space `id`.
    pub fn new_space_dir(&mut self, id: &str) -> Result<PathBuf> {
        // Indexes without spaces have no such directory.
        for parent in [self.tmp(), self.dir.root.clone()] {
            self.dir.store.create_dir_all(&parent.join(SPACES))?;
        }
        self.dir.store.sync_dir(&self.dir.root)?;
        let path = self.new_part(SPACES, id)?;
        self.dir.store.create_dir_all(&path)?;
        self.spaces.push(id.to_string());
        Ok(path)
    }

    /// Takes over a shard that was built elsewhere on the same file system: the directory `from` moves into this transaction.
    pub fn adopt_shard(&mut self, id: &str, from: &Path) -> Result<()> {
        let path = self.new_part(SHARDS, id)?;
        self.dir.store.rename(from, &path)?;
        // Or a power cut might leave both names, and whoever cleans up the old place would empty the published shard.
        self.adopted.push((id.to_string(), from.to_path_buf()));
        self.dir.store.sync_dir(from.parent().unwrap_or(Path::new(".")))?;
        self.shards.push(id.to_string());
        Ok(())
    }

    fn new_part(&self, kind: &str, id: &str) -> Result<PathBuf> {
        if !is_plain_name(id) {
            return Err(Error::invalid(format!("{id:?} cannot be the id of a part: use letters, digits, `-`, `_`")));
        }
        let path = self.tmp().join(kind).join(id);
        if self.dir.store.exists(&path)? || self.dir.store.exists(&self.dir.root.join(kind).join(id))? {
            return Err(Error::invalid(format!("{}: a part with the id {id:?} exists", self.dir.root.display())));
        }
        Ok(path)
    }

    /// Publishes `next`: a copy of [`Transaction::manifest`] with entries added for every new part (without files: they are
    /// filled in here), entries dropped, settings changed. Generation, version and totals are set here. Returns what was
    /// published. On an error nothing was, unless the error says that the last sync failed.
    pub fn publish(self, mut next: Manifest) -> Result<Manifest> {
        let (dir, store) = (&self.dir, &*self.dir.store);
        next.generation = self.base.generation + 1;
        next.created_by = created_by();
        next.format = FormatVersion { major: FORMAT_MAJOR, minor: FORMAT_MINOR };
        self.describe(SHARDS, &self.shards, &mut next.shards)?;
        self.describe(REMOVED, &self.removed, &mut next.removed)?;
        self.describe(SPACES, &self.spaces, &mut next.spaces)?;
        next.corpus = next.totals();
        next.check_names(&dir.root.join(MANIFEST))?;
        let bytes = next.to_bytes()?;
        for (kind, ids) in [(SHARDS, &self.shards), (REMOVED, &self.removed), (SPACES, &self.spaces)] {
            for id in ids {
                store.rename(&self.tmp().join(kind).join(id), &dir.root.join(kind).join(id))?;
            }
            if !ids.is_empty() {
                store.sync_dir(&dir.root.join(kind))?;
                store.sync_dir(&self.tmp().join(kind))?;
            }
        }
        let written = self.tmp().join(MANIFEST);
        for target in [dir.generation_path(next.generation), dir.root.join(MANIFEST)] {
            store.write_file(&written, &bytes)?;
            store.rename(&written, &target)?;
            store.sync_dir(target.parent().unwrap_or(&dir.root))?;
        }
        tracing::info!(
            index = %dir.root.display(),
            generation = next.generation,
            shards = next.shards.len(),
            removals = next.removed.len(),
            "generation published"
        );
        Ok(next)
    }

    /// Syncs the files of the new parts and lists them in their entries.
    fn describe(&self, kind: &str, new: &[String], entries: &mut [PartEntry]) -> Result<()> {
        let store = &*self.dir.store;
        if let Some(lost) = new.iter().find(|id| !entries.iter().any(|e| e.id == **id)) {
            return Err(Error::invalid(format!("part {lost:?} was written but is not in the manifest to publish")));
        }
        let parent = self.tmp().join(kind);
        for entry in entries.iter_mut() {
            if !new.contains(&entry.id) {
                if !store.exists(&self.dir.root.join(kind).join(&entry.id))? {
                    return Err(Error::invalid(format!(
                        "part {:?} is in the manifest to publish but not on disk",
                        entry.id
                    )));
                }
                continue;
            }
            let path = parent.join(&entry.id);
            entry.files.clear();
            for file in store.list(&path)? {
                let of = path.join(&file.name);
                if file.is_dir || !is_plain_name(&file.name) {
                    return Err(Error::invalid(format!("{}: a part holds plain files only", of.display())));
                }
                store.sync_file(&of)?;
                entry.files.push(FileEntry::describe(store, &of, &file.name, file.bytes)?);
            }
            store.sync_dir(&path)?;
        }
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        // Best effort: the next transaction sweeps what stays behind. Parts that were moved into place but not published are
        // told by the manifest on disk, which is the truth whatever step failed.
        let current = self.dir.root.join(MANIFEST);
        let generation = match self.dir.store.exists(&current) {
            Ok(true) => self.dir.read_manifest(&current).map(|m| m.generation),
            Ok(false) => Ok(0),
            Err(e) => Err(e),
        };
        if let Ok(generation) = generation {
            // Shards that were built elsewhere go back there unless they were published: building them may have taken hours.
            let store = &*self.dir.store;
            for (id, from) in self.adopted.iter().filter(|_| generation == self.base.generation) {
                for place in [self.tmp(), self.dir.root.clone()].map(|p| p.join(SHARDS).join(id)) {
                    if store.exists(&place).is_ok_and(|there| there) {
                        let _ = store.rename(&place, from);
                    }
                }
            }
            let _ = self.dir.sweep(generation);
        }
    }
}
