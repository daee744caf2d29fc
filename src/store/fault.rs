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

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{Cursor, Error as IoError, ErrorKind, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Entry, Lock, Store};
use crate::error::{Error, Result};
use crate::format::{OutputFile, checksum};

/// A file system in memory. Clones share it.
#[derive(Clone, Default)]
pub struct FaultStore {
    state: Arc<Mutex<State>>,
}

/// What a power cut left: every path with its content; `None` is a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    pub entries: BTreeMap<PathBuf, Option<Vec<u8>>>,
}

/// All (or a sample of) the images one power cut may leave.
#[derive(Debug)]
pub struct Images {
    pub images: Vec<Image>,
    /// Whether every combination of unsynced changes is among them.
    pub exhaustive: bool,
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
}

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
        }
    }
}

type IoResult<T> = std::io::Result<T>;

impl State {
    /// Counts an operation and lets it fail if that is the plan.
    fn step(&mut self, what: &str, path: &Path) -> IoResult<()> {
        self.alive()?;
        let number = self.done.len();
        self.done.push(format!("{what} {}", path.display()));
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
        self.change(dir, vec![(name, None)], None);
        Ok(())
    }

    /// The image in which the pending changes `chosen` and the content variants `contents` reached storage.
    fn image(&self, chosen: &[bool], contents: &[u8], dirty: &[Inode]) -> Image {
        let mut dirs: BTreeMap<Inode, BTreeMap<String, Inode>> = BTreeMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            if let Node::Dir { durable, .. } = node {
                dirs.insert(i, durable.clone());
            }
        }
        let picked = self.pending.iter().zip(chosen).filter(|(_, c)| **c).map(|(change, _)| change);
        let required: HashSet<u64> = picked.clone().filter_map(|c| c.requires).collect();
        for (change, chosen) in self.pending.iter().zip(chosen) {
            if let (true, Some(names)) = (*chosen || required.contains(&change.serial), dirs.get_mut(&change.dir)) {
                apply(names, &change.names);
            }
        }
        let mut image = Image::default();
        let mut stack = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, node)) = stack.pop() {
            match (&self.nodes[node], dirs.get(&node)) {
                (Node::File { now, durable }, _) => {
                    let variant = dirty.iter().position(|&d| d == node).map_or(0, |i| contents[i]);
                    image.entries.insert(path, Some(content(now, durable, variant)));
                }
                (Node::Dir { .. }, names) => {
                    for (name, &child) in names.into_iter().flatten() {
                        stack.push((path.join(name), child));
                    }
                    image.entries.insert(path, None);
                }
            }
        }
        image
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

const VARIANTS: u8 = 4;

/// What storage holds of a file with unsynced content.
fn content(now: &[u8], durable: &[u8], variant: u8) -> Vec<u8> {
    let mut old = durable.to_vec();
    match variant {
        0 => old,
        1 => now.to_vec(),
        2 => {
            old.resize(now.len(), 0);
            old[..now.len() / 2].copy_from_slice(&now[..now.len() / 2]);
            old
        }
        _ => {
            old.resize(now.len(), 0);
            old
        }
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
        let state = self.state();
        let changes = state.pending.len();
        let unsynced = |node: &Node| matches!(node, Node::File { now, durable } if now != durable);
        let dirty: Vec<Inode> = (0..state.nodes.len()).filter(|&i| unsynced(&state.nodes[i])).collect();
        let total = (0..changes)
            .map(|_| 2usize)
            .chain(dirty.iter().map(|_| usize::from(VARIANTS)))
            .try_fold(1usize, |product, n| product.checked_mul(n).filter(|&p| p <= limit));
        let mut choices: Vec<(Vec<bool>, Vec<u8>)> = Vec::new();
        if let Some(total) = total {
            for mut number in 0..total {
                let mut digit = |base: usize| {
                    let digit = number % base;
                    number /= base;
                    digit
                };
                let chosen = (0..changes).map(|_| digit(2) == 1).collect();
                choices.push((chosen, dirty.iter().map(|_| digit(usize::from(VARIANTS)) as u8).collect()));
            }
        } else {
            for variant in 0..VARIANTS {
                let contents = vec![variant; dirty.len()];
                choices.extend((0..=changes).map(|n| ((0..changes).map(|i| i < n).collect(), contents.clone())));
                choices.extend((0..changes).map(|n| ((0..changes).map(|i| i == n).collect(), contents.clone())));
                choices.extend((0..changes).map(|n| ((0..changes).map(|i| i != n).collect(), contents.clone())));
            }
            let mut random = seed;
            let mut draw = || {
                random = random.wrapping_add(0x9E37_79B9_7F4A_7C15);
                checksum(&random.to_le_bytes())
            };
            while choices.len() < limit {
                let chosen = (0..changes).map(|_| draw() % 2 == 1).collect();
                choices.push((chosen, dirty.iter().map(|_| (draw() % u64::from(VARIANTS)) as u8).collect()));
            }
        }
        let mut seen = HashSet::new();
        let mut images = Vec::new();
        for (chosen, contents) in choices {
            let image = state.image(&chosen, &contents, &dirty);
            if seen.insert(image.fingerprint()) {
                images.push(image);
            }
        }
        Images { images, exhaustive: total.is_some() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Image {
    fn fingerprint(&self) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        for (path, content) in &self.entries {
            hasher.update(path.as_os_str().as_encoded_bytes());
            hasher.update(&[0, u8::from(content.is_some())]);
            hasher.update(&content.as_ref().map_or(0, Vec::len).to_le_bytes());
            hasher.update(content.as_deref().unwrap_or_default());
        }
        hasher.digest()
    }

    /// Writes the image to a real directory, `/` of the image being `root`.
    pub fn write_to(&self, root: &Path) -> Result<()> {
        for (path, content) in &self.entries {
            let to = root.join(path.strip_prefix("/").unwrap_or(path));
            match content {
                Some(bytes) => std::fs::write(&to, bytes).map_err(Error::io(&to, "write"))?,
                None => std::fs::create_dir_all(&to).map_err(Error::io(&to, "create directory"))?,
            }
        }
        Ok(())
    }
}

struct FaultFile {
    store: FaultStore,
    path: PathBuf,
    node: Inode,
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
        })
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
        Ok(Box::new(FaultFile { store: self.clone(), path: path.to_path_buf(), node }))
    }

    fn reader(&self, path: &Path) -> Result<Box<dyn Read + Send>> {
        let state = self.state();
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
        let state = self.state();
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
        let state = self.state();
        match state.alive().and_then(|()| state.find(path)) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io(path, "inspect")(e)),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.state();
        (|| {
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
        state.alive().and_then(|()| state.remove(path)).map_err(Error::io(path, "remove"))
    }

    fn sync_file(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        (|| {
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
