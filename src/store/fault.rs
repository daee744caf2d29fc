//! A model of a POSIX file system that can lose power.
//!
//! Every file and directory has two states: what running programs see and what is on stable storage. A write changes the first; a
//! sync of the file copies its content to the second, a sync of the directory its names. After a power cut each change that was
//! not synced may have reached storage or not, independently of the others: [`FaultStore::images`] rebuilds the possible
//! results. What is assumed, as journaling file systems give it:
//!
//! - a rename is never half done in a way that loses the file: if the old name is gone, the new one is there; across
//!   directories both may be there until both are synced;
//! - of the unsynced content of a file there is nothing, everything, a front part, or its length with zeros.
//!
//! [`FaultStore::fail_at`] makes one operation fail (a full disk), [`FaultStore::crash_at`] that one and all after it (the power
//! cut). Only operations that change something are counted. Meant for small indexes: all content is in memory.
//!
//! [`FaultStore::over`] does everything in a real directory as well, so that readers, which map files, can take part in what is tested;
//! [`FaultStore::watch`] hands out the images of every moment of one run. Files that the writers of vector indexes make without a
//! store (they sync them themselves) are taken over, as synced files with names that are not durable yet, when an operation meets
//! their directory.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{Cursor, Error as IoError, ErrorKind, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{DiskStore, Entry, Lock, Store};
use crate::error::{Error, Result};
use crate::format::OutputFile;

mod image;

pub use image::{Image, Images};

/// A file system in memory. Clones share it.
#[derive(Clone, Default)]
pub struct FaultStore {
    state: Arc<Mutex<State>>,
}

type Inode = usize;
const ROOT: Inode = 0;

#[derive(Clone)]
enum Node {
    File { now: Vec<u8>, durable: Vec<u8> },
    Dir { now: BTreeMap<String, Inode>, durable: BTreeMap<String, Inode> },
}

/// A change of names that is not durable yet. All its parts are in one directory and happen together.
#[derive(Clone)]
struct Change {
    serial: u64,
    dir: Inode,
    names: Vec<(String, Option<Inode>)>,
    /// The change that must have happened if this one has: a new name before the loss of the old one.
    requires: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Plan {
    #[default]
    None,
    Fail(usize, ErrorKind),
    Crash(usize),
}

struct State {
    nodes: Vec<Node>,
    pending: Vec<Change>,
    serial: u64,
    done: Vec<String>,
    plan: Plan,
    crashed: bool,
    locks: BTreeSet<PathBuf>,
    /// The real directory where everything is done, too; what lies outside of it is others'.
    real: Option<PathBuf>,
    watcher: Option<Watcher>,
}

/// Is told the number of each operation, what it is, and the images before it.
type Watcher = (usize, Box<dyn FnMut(usize, &str, Images) + Send>);

impl Default for State {
    fn default() -> Self {
        State {
            nodes: vec![Node::Dir { now: BTreeMap::new(), durable: BTreeMap::new() }],
            pending: Vec::new(),
            serial: 0,
            done: Vec::new(),
            plan: Plan::None,
            crashed: false,
            locks: BTreeSet::new(),
            real: None,
            watcher: None,
        }
    }
}

type IoResult<T> = std::io::Result<T>;

impl State {
    /// Counts an operation and lets it fail if that is the plan.
    fn step(&mut self, what: &str, path: &Path) -> IoResult<()> {
        self.alive()?;
        let number = self.done.len();
        let operation = format!("{what} {}", path.display());
        if let Some((limit, mut watcher)) = self.watcher.take() {
            watcher(number, &operation, self.images(limit, number as u64));
            self.watcher = Some((limit, watcher));
        }
        self.done.push(operation);
        match self.plan {
            Plan::Fail(at, kind) if at == number => Err(IoError::new(kind, "injected fault")),
            Plan::Crash(at) if at == number => {
                self.crashed = true;
                self.alive()
            }
            _ => Ok(()),
        }
    }

    fn alive(&self) -> IoResult<()> {
        if self.crashed { Err(IoError::other("the power is cut")) } else { Ok(()) }
    }

    fn names(&self, dir: Inode) -> IoResult<&BTreeMap<String, Inode>> {
        match &self.nodes[dir] {
            Node::Dir { now, .. } => Ok(now),
            Node::File { .. } => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn find(&self, path: &Path) -> IoResult<Inode> {
        let mut at = ROOT;
        for name in components(path) {
            at = *self.names(at)?.get(&name).ok_or(ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    fn parent(&self, path: &Path) -> IoResult<(Inode, String)> {
        let mut names = components(path);
        let name = names.pop().ok_or(ErrorKind::InvalidInput)?;
        let mut at = ROOT;
        for name in names {
            at = *self.names(at)?.get(&name).ok_or(ErrorKind::NotFound)?;
        }
        self.names(at)?;
        Ok((at, name))
    }

    /// Changes names in one directory, for running programs now and on storage some day.
    fn change(&mut self, dir: Inode, names: Vec<(String, Option<Inode>)>, requires: Option<u64>) -> u64 {
        if let Node::Dir { now, .. } = &mut self.nodes[dir] {
            apply(now, &names);
        }
        self.serial += 1;
        self.pending.push(Change { serial: self.serial, dir, names, requires });
        self.serial
    }

    fn new_node(&mut self, node: Node) -> Inode {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn sync_node(&mut self, node: Inode) {
        match &mut self.nodes[node] {
            Node::File { now, durable } => durable.clone_from(now),
            Node::Dir { .. } => {
                let mut settled: HashSet<u64> =
                    self.pending.iter().filter(|c| c.dir == node).map(|c| c.serial).collect();
                let required: Vec<u64> =
                    self.pending.iter().filter(|c| c.dir == node).filter_map(|c| c.requires).collect();
                settled.extend(required);
                for change in std::mem::take(&mut self.pending) {
                    if !settled.contains(&change.serial) {
                        self.pending.push(change);
                    } else if let Node::Dir { durable, .. } = &mut self.nodes[change.dir] {
                        apply(durable, &change.names);
                    }
                }
            }
        }
    }

    fn remove(&mut self, path: &Path) -> IoResult<()> {
        let (dir, name) = match self.parent(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        let Some(&node) = self.names(dir)?.get(&name) else { return Ok(()) };
        if let Ok(names) = self.names(node) {
            for child in names.keys().cloned().collect::<Vec<_>>() {
                self.remove(&path.join(child))?;
            }
        }
        self.step("remove", path)?;
        if self.real.is_some() {
            match self.names(node).is_ok() {
                true => std::fs::remove_dir(path)?,
                false => std::fs::remove_file(path)?,
            }
        }
        self.change(dir, vec![(name, None)], None);
        Ok(())
    }

    /// Takes over what others have made in a real directory; `deep`: and in those under it.
    fn adopt(&mut self, path: &Path, deep: bool) -> IoResult<()> {
        let Ok(dir) = self.find(path) else { return Ok(()) };
        if !self.real.as_ref().is_some_and(|base| path.starts_with(base)) || self.names(dir).is_err() {
            return Ok(());
        }
        let mut seen = BTreeSet::new();
        for entry in std::fs::read_dir(path)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let known = self.names(dir)?.get(&name).copied();
            seen.insert(name.clone());
            if path.is_dir() {
                if deep {
                    self.adopt(&path, true)?;
                }
                continue;
            }
            let content = std::fs::read(&path)?;
            match known.map(|node| &mut self.nodes[node]) {
                Some(Node::File { now, .. }) if *now == content => {}
                Some(Node::File { now, durable }) => {
                    now.clone_from(&content);
                    *durable = content;
                }
                Some(Node::Dir { .. }) => {}
                None => {
                    let node = self.new_node(Node::File { now: content.clone(), durable: content });
                    self.change(dir, vec![(name, Some(node))], None);
                }
            }
        }
        let gone: Vec<String> = self.names(dir)?.keys().filter(|name| !seen.contains(*name)).cloned().collect();
        for name in gone {
            self.change(dir, vec![(name, None)], None);
        }
        Ok(())
    }
}

fn apply(names: &mut BTreeMap<String, Inode>, changes: &[(String, Option<Inode>)]) {
    for (name, node) in changes {
        match node {
            Some(node) => names.insert(name.clone(), *node),
            None => names.remove(name),
        };
    }
}

fn components(path: &Path) -> Vec<String> {
    let normal = |c| if let Component::Normal(name) = c { Some(name) } else { None };
    path.components().filter_map(normal).map(|name| name.to_string_lossy().into_owned()).collect()
}

impl FaultStore {
    /// An empty file system.
    pub fn new() -> FaultStore {
        FaultStore::default()
    }

    /// A file system that starts from what a power cut left, all of it durable.
    pub fn from_image(image: &Image) -> FaultStore {
        let store = FaultStore::new();
        let mut state = store.state();
        for (path, content) in &image.entries {
            let Ok((dir, name)) = state.parent(path) else { continue };
            let node = state.new_node(match content {
                Some(bytes) => Node::File { now: bytes.clone(), durable: bytes.clone() },
                None => Node::Dir { now: BTreeMap::new(), durable: BTreeMap::new() },
            });
            if let Node::Dir { now, durable } = &mut state.nodes[dir] {
                now.insert(name.clone(), node);
                durable.insert(name, node);
            }
        }
        drop(state);
        store
    }

    /// A file system that does everything in the existing directory `root` as well. Paths are real paths.
    pub fn over(root: &Path) -> FaultStore {
        let store = FaultStore::new();
        {
            let mut state = store.state();
            let mut at = ROOT;
            for name in components(root) {
                let node = state.new_node(Node::Dir { now: BTreeMap::new(), durable: BTreeMap::new() });
                if let Node::Dir { now, durable } = &mut state.nodes[at] {
                    now.insert(name.clone(), node);
                    durable.insert(name, node);
                }
                at = node;
            }
            state.real = Some(root.to_path_buf());
        }
        store
    }

    /// Calls `watcher` before every operation with its number, its words and the images of at most `limit` combinations that a power
    /// cut at that moment may leave. The watcher must not use this store.
    pub fn watch(&self, limit: usize, watcher: impl FnMut(usize, &str, Images) + Send + 'static) {
        self.state().watcher = Some((limit, Box::new(watcher)));
    }

    /// Operation number `n` (from 0) fails with `kind`; those after it work.
    pub fn fail_at(&self, n: usize, kind: ErrorKind) {
        self.state().plan = Plan::Fail(n, kind);
    }

    /// The power is cut instead of operation number `n`: it and all later ones, reads too, fail.
    pub fn crash_at(&self, n: usize) {
        self.state().plan = Plan::Crash(n);
    }

    /// The operations so far, in words.
    pub fn operations(&self) -> Vec<String> {
        self.state().done.clone()
    }

    /// What running programs see.
    pub fn visible(&self) -> Image {
        let state = self.state();
        let dirty: Vec<Inode> = (0..state.nodes.len()).collect();
        state.image(&vec![true; state.pending.len()], &vec![1; dirty.len()], &dirty)
    }

    /// The images a power cut now may leave, each once: all of them if there are at most `limit` combinations of unsynced changes,
    /// else a sample of about `limit`: every front part of the changes in time order, every change alone, all but one, and
    /// combinations drawn from `seed`.
    pub fn images(&self, limit: usize, seed: u64) -> Images {
        self.state().images(limit, seed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

struct FaultFile {
    store: FaultStore,
    path: PathBuf,
    node: Inode,
    real: Option<Box<dyn OutputFile>>,
}

impl FaultFile {
    fn change(&self, what: &str, change: impl FnOnce(&mut Vec<u8>)) -> IoResult<()> {
        let mut state = self.store.state();
        state.step(what, &self.path)?;
        if let Node::File { now, .. } = &mut state.nodes[self.node] {
            change(now);
        }
        Ok(())
    }
}

impl Write for FaultFile {
    fn write(&mut self, bytes: &[u8]) -> IoResult<usize> {
        self.change("write", |now| now.extend_from_slice(bytes))?;
        self.real.as_mut().map_or(Ok(()), |real| real.write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> IoResult<()> {
        Ok(())
    }
}

impl OutputFile for FaultFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> IoResult<()> {
        let start = offset as usize;
        self.change("overwrite", |now| {
            now.resize(now.len().max(start + bytes.len()), 0);
            now[start..start + bytes.len()].copy_from_slice(bytes);
        })?;
        self.real.as_mut().map_or(Ok(()), |real| real.write_at(offset, bytes))
    }

    fn sync(&mut self) -> IoResult<()> {
        let mut state = self.store.state();
        state.step("sync", &self.path)?;
        state.sync_node(self.node);
        Ok(())
    }
}

struct FaultLock {
    store: FaultStore,
    path: PathBuf,
}

impl Lock for FaultLock {}

impl Drop for FaultLock {
    fn drop(&mut self) {
        self.store.state().locks.remove(&self.path);
    }
}

impl Store for FaultStore {
    fn create(&self, path: &Path) -> Result<Box<dyn OutputFile>> {
        let mut state = self.state();
        let created = (|| {
            state.step("create", path)?;
            let (dir, name) = state.parent(path)?;
            match state.names(dir)?.get(&name).copied() {
                None => {
                    let node = state.new_node(Node::File { now: Vec::new(), durable: Vec::new() });
                    state.change(dir, vec![(name, Some(node))], None);
                    Ok(node)
                }
                Some(node) => match &mut state.nodes[node] {
                    Node::File { now, .. } => {
                        now.clear();
                        Ok(node)
                    }
                    Node::Dir { .. } => Err(ErrorKind::IsADirectory.into()),
                },
            }
        })();
        let node = created.map_err(Error::io(path, "create"))?;
        let real = if state.real.is_some() { Some(DiskStore.create(path)?) } else { None };
        Ok(Box::new(FaultFile { store: self.clone(), path: path.to_path_buf(), node, real }))
    }

    fn reader(&self, path: &Path) -> Result<Box<dyn Read + Send>> {
        let mut state = self.state();
        state.adopt(path.parent().unwrap_or(path), false).map_err(Error::io(path, "open"))?;
        let node = state.alive().and_then(|()| state.find(path)).map_err(Error::io(path, "open"))?;
        match &state.nodes[node] {
            Node::File { now, .. } => Ok(Box::new(Cursor::new(now.clone()))),
            Node::Dir { .. } => Err(Error::io(path, "open")(ErrorKind::IsADirectory.into())),
        }
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        (|| {
            let mut at = ROOT;
            let mut so_far = PathBuf::from("/");
            for name in components(path) {
                so_far.push(&name);
                at = match state.names(at)?.get(&name) {
                    Some(&node) => node,
                    None => {
                        state.step("create directory", &so_far)?;
                        if state.real.is_some() {
                            std::fs::create_dir_all(&so_far)?;
                        }
                        let node = state.new_node(Node::Dir { now: BTreeMap::new(), durable: BTreeMap::new() });
                        state.change(at, vec![(name, Some(node))], None);
                        node
                    }
                };
            }
            state.names(at).map(drop)
        })()
        .map_err(Error::io(path, "create directory"))
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>> {
        let mut state = self.state();
        state.adopt(path, false).map_err(Error::io(path, "list"))?;
        let names = match state.alive().and_then(|()| state.find(path)).and_then(|dir| state.names(dir)) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            names => names.map_err(Error::io(path, "list"))?,
        };
        let entry = |(name, &node): (&String, &Inode)| match &state.nodes[node] {
            Node::File { now, .. } => Entry { name: name.clone(), is_dir: false, bytes: now.len() as u64 },
            Node::Dir { .. } => Entry { name: name.clone(), is_dir: true, bytes: 0 },
        };
        Ok(names.iter().map(entry).collect())
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        let mut state = self.state();
        state.adopt(path.parent().unwrap_or(path), false).map_err(Error::io(path, "inspect"))?;
        match state.alive().and_then(|()| state.find(path)) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io(path, "inspect")(e)),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.state();
        (|| {
            state.adopt(from, true)?;
            state.step("rename", to)?;
            let (old_dir, old_name) = state.parent(from)?;
            let (new_dir, new_name) = state.parent(to)?;
            let node = *state.names(old_dir)?.get(&old_name).ok_or(ErrorKind::NotFound)?;
            if state
                .names(new_dir)?
                .get(&new_name)
                .is_some_and(|&there| state.names(there).is_ok_and(|n| !n.is_empty()))
            {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            if state.real.is_some() {
                std::fs::rename(from, to)?;
            }
            if old_dir == new_dir {
                state.change(old_dir, vec![(old_name, None), (new_name, Some(node))], None);
            } else {
                let linked = state.change(new_dir, vec![(new_name, Some(node))], None);
                state.change(old_dir, vec![(old_name, None)], Some(linked));
            }
            Ok(())
        })()
        .map_err(Error::io(to, "move into place"))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        state
            .alive()
            .and_then(|()| state.adopt(path.parent().unwrap_or(path), false))
            .and_then(|()| state.adopt(path, true))
            .and_then(|()| state.remove(path))
            .map_err(Error::io(path, "remove"))
    }

    fn sync_file(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        (|| {
            state.adopt(path.parent().unwrap_or(path), false)?;
            state.adopt(path, false)?;
            state.step("sync", path)?;
            let node = state.find(path)?;
            state.sync_node(node);
            Ok(())
        })()
        .map_err(Error::io(path, "sync"))
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.sync_file(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>> {
        if !self.exists(path)? {
            self.create(path)?;
        }
        let mut state = self.state();
        if !state.locks.insert(path.to_path_buf()) {
            return Err(Error::Busy { path: path.parent().unwrap_or(Path::new(".")).to_path_buf() });
        }
        Ok(Box::new(FaultLock { store: self.clone(), path: path.to_path_buf() }))
    }
}

#[cfg(test)]
mod tests;
