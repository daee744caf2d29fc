//! Generations: opening, listing, pruning and verifying what was published.
//!
//! A generation stays readable for as long as its file in `generations/` is kept, since its parts never change. Pruning
//! removes generation files first and durably, then the parts that no generation that is left refers to; on Unix a reader that
//! has a pruned part mapped keeps it until it closes.

use std::path::PathBuf;

use super::manifest::{FileEntry, Manifest, PartEntry};
use super::publish::{GENERATIONS, IndexDir, MANIFEST};
use crate::error::{Error, Result};
use crate::format::Section;

/// Which generations pruning keeps; the current one always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The newest so many.
    Newest(usize),
    /// All from this number on.
    Since(u64),
}

/// What pruning removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    pub generations: u64,
    /// Shards and removals.
    pub parts: u64,
    pub bytes: u64,
}

/// What [`IndexDir::verify`] found.
#[derive(Debug, Default)]
pub struct Verification {
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Every fault, in the order of the manifest.
    pub faults: Vec<Error>,
    /// Files and directories that no kept generation refers to: harmless.
    pub strays: Vec<PathBuf>,
}

impl IndexDir {
    /// The current generation.
    pub fn manifest(&self) -> Result<Manifest> {
        self.read_manifest(&self.root.join(MANIFEST))
    }

    /// Generation `number`, as long as it is kept.
    pub fn manifest_of(&self, number: u64) -> Result<Manifest> {
        let path = self.generation_path(number);
        if !self.store.exists(&path)? {
            let kept = self.generations()?;
            let range = match (kept.first(), kept.last()) {
                (Some(first), Some(last)) => format!("{} are kept, {first} to {last}", kept.len()),
                _ => "none are kept".into(),
            };
            return Err(Error::invalid_hint(
                format!("{}: no generation {number}: {range}", self.root.display()),
                "it was pruned, or never published; leave the number out to open the current generation",
            ));
        }
        let manifest = self.read_manifest(&path)?;
        if manifest.generation != number {
            return Err(Error::corrupt(path, 0, format!("holds generation {}", manifest.generation)));
        }
        Ok(manifest)
    }

    /// Numbers of the generations that are kept, rising.
    pub fn generations(&self) -> Result<Vec<u64>> {
        let entries = self.store.list(&self.root.join(GENERATIONS))?;
        let mut numbers: Vec<u64> = entries.iter().filter_map(|e| e.name.strip_suffix(".json")?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub(super) fn kept_manifests(&self) -> Result<Vec<Result<Manifest>>> {
        Ok(self.generations()?.into_iter().map(|n| self.read_manifest(&self.generation_path(n))).collect())
    }

    /// Removes old generations and the parts only they refer to. Takes the writer's lock.
    pub fn prune(&self, keep: Keep) -> Result<Pruned> {
        let _lock = self.lock()?;
        let current = self.manifest()?.generation;
        self.sweep(current)?;
        let numbers = self.generations()?;
        let first = match keep {
            Keep::Newest(n) => numbers.len().checked_sub(n.max(1)).and_then(|i| numbers.get(i).copied()).unwrap_or(0),
            Keep::Since(number) => number,
        };
        let old: Vec<u64> = numbers.into_iter().filter(|&n| n < first.min(current)).collect();
        for &number in &old {
            self.store.remove(&self.generation_path(number))?;
        }
        self.store.sync_dir(&self.root.join(GENERATIONS))?;
        let (parts, bytes) = self.sweep_parts()?;
        Ok(Pruned { generations: old.len() as u64, parts, bytes })
    }

    /// Compares lengths and digests of all files of a generation with its manifest: one read of 64 bytes a file. Stops at the
    /// first fault.
    pub fn check(&self, manifest: &Manifest) -> Result<()> {
        for (part, dir) in self.parts(manifest) {
            part.files.iter().try_for_each(|file| file.check(&dir))?;
        }
        Ok(())
    }

    fn parts<'a>(&'a self, manifest: &'a Manifest) -> impl Iterator<Item = (&'a PartEntry, PathBuf)> {
        let shards = manifest.shards.iter().map(|part| (part, self.shard_dir(&part.id)));
        let removed = manifest.removed.iter().map(|part| (part, self.removed_dir(&part.id)));
        shards.chain(removed).chain(manifest.spaces.iter().map(|part| (part, self.space_dir(&part.id))))
    }

    /// Reads every byte of a generation and compares it with the checksums; `progress` is told the bytes of each file read. Goes
    /// on after a fault, and lists every damaged block.
    pub fn verify(&self, manifest: &Manifest, mut progress: impl FnMut(u64)) -> Result<Verification> {
        let mut found = Verification::default();
        match self.manifest_of(manifest.generation) {
            Ok(kept) if kept != *manifest => found.faults.push(Error::corrupt(
                self.generation_path(manifest.generation),
                0,
                format!("differs from {MANIFEST}"),
            )),
            Ok(_) => {}
            Err(e) => found.faults.push(e),
        }
        for (part, dir) in self.parts(manifest) {
            for file in &part.files {
                if let Err(e) = self.verify_file(file, &dir, &mut found.faults) {
                    found.faults.push(e);
                }
                found.files += 1;
                found.bytes += file.bytes;
                progress(file.bytes);
            }
            for entry in self.store.list(&dir)? {
                if !part.files.iter().any(|f| f.name == entry.name) {
                    found.strays.push(dir.join(&entry.name));
                }
            }
        }
        Ok(found)
    }

    fn verify_file(&self, file: &FileEntry, dir: &std::path::Path, faults: &mut Vec<Error>) -> Result<()> {
        file.check(dir)?;
        if file.kind.is_some() {
            let section = Section::open_any(&dir.join(&file.name))?;
            section.advise(crate::format::Access::Sequential)?;
            faults.extend(section.damage());
            Ok(())
        } else {
            file.check_content(&*self.store, dir)
        }
    }
}
