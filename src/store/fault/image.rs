//! What a power cut leaves: every combination of changes that had not been synced.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::{Inode, Node, ROOT, State, apply};
use crate::error::{Error, Result};
use crate::format::checksum;

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

impl State {
    /// The image in which the pending changes `chosen` and the content variants `contents` reached storage.
    pub(super) fn image(&self, chosen: &[bool], contents: &[u8], dirty: &[Inode]) -> Image {
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

    /// The images a power cut now may leave, each once: all of them if there are at most `limit` combinations of unsynced changes,
    /// else a sample of about `limit`: every front part of the changes in time order, every change alone, all but one, and
    /// combinations drawn from `seed`.
    pub(super) fn images(&self, limit: usize, seed: u64) -> Images {
        let state = self;
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
            if seen.insert(image.fingerprint(|_| true)) {
                images.push(image);
            }
        }
        Images { images, exhaustive: total.is_some() }
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

impl Image {
    /// A hash of the paths that `counts` accepts and their contents.
    pub fn fingerprint(&self, counts: impl Fn(&Path) -> bool) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        for (path, content) in self.entries.iter().filter(|(path, _)| counts(path)) {
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
