//! Files of a Hugging Face repository at a fixed commit, through the `hf-hub` crate.
//!
//! A file that the user's own hub cache holds is copied from there; others are downloaded, interrupted ones resumed. The
//! endpoint is `$HF_ENDPOINT`, or the hub's.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::digest;
use super::entry::FileSpec;
use super::fetch::{Context, Step};
use crate::error::{Error, Result};

/// Attempts at one file, each going on where the last stopped.
const ATTEMPTS: u32 = 4;

pub(super) fn obtain(context: &Context, repository: &str, revision: &str, specs: &[FileSpec]) -> Result<Vec<String>> {
    let cache = context.directory("hub")?;
    let mut builder = ApiBuilder::from_env().with_cache_dir(cache.clone()).with_progress(false);
    if let Some(endpoint) = context.options.hub_endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_string());
    }
    let api = builder.build().map_err(|e| failure(context, repository, "", &e))?;
    let repo = Repo::with_revision(repository.to_string(), RepoType::Model, revision.to_string());
    let remote = api.repo(repo.clone());
    for spec in specs {
        let target = context.files().join(&spec.path);
        if target.exists() {
            continue;
        }
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
        }
        // Another endpoint means other files, which the user's cache knows nothing of.
        let own = Cache::from_env().repo(repo.clone()).pointer_path(revision).join(&spec.path);
        if context.options.hub_endpoint.is_none() && own.is_file() {
            copy(&own, &target)?;
            continue;
        }
        match download(context, &remote, &cache, spec) {
            Ok(pointer) => adopt(context, spec, &pointer, &target)?,
            Err(error) if spec.optional && is_missing(&error) => {}
            Err(error) => return Err(failure(context, repository, &spec.path, &error)),
        }
    }
    Ok(Vec::new())
}

fn download(
    context: &Context,
    remote: &ApiRepo,
    cache: &Path,
    spec: &FileSpec,
) -> std::result::Result<PathBuf, ApiError> {
    let mut attempt = 1;
    loop {
        // The crate's own retries begin a resumed part anew behind what is there, so each attempt is a call of its own.
        let started = Cell::new(false);
        let error = match remote.download_with_progress(&spec.path, Bar { context, started: &started }) {
            Ok(pointer) => return Ok(pointer),
            Err(error) => error,
        };
        // A part as long as the file or longer cannot be gone on with.
        let unusable = matches!(error, ApiError::InvalidResume) || error.to_string().contains("416");
        if unusable {
            remove_parts(cache);
        }
        // A hub that does not even say how long the file is will not do so in a second.
        if attempt == ATTEMPTS || !started.get() {
            return Err(error);
        }
        if !unusable {
            std::thread::sleep(std::time::Duration::from_millis(300) * attempt);
        }
        attempt += 1;
    }
}

fn remove_parts(cache: &Path) {
    for entry in walkdir::WalkDir::new(cache).into_iter().flatten() {
        if entry.path().extension().is_some_and(|e| e == "part") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Moves what a pointer of the download cache points to into place, and the pointer away.
///
/// The hub names large files by their sha256, so these are checked even where the catalog pins none.
fn adopt(context: &Context, spec: &FileSpec, pointer: &Path, target: &Path) -> Result<()> {
    let blob = std::fs::canonicalize(pointer).map_err(Error::io(pointer, "read"))?;
    std::fs::remove_file(pointer).map_err(Error::io(pointer, "remove"))?;
    let name = blob.file_name().unwrap_or_default().to_string_lossy();
    if name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
        let found = digest::of_file(&blob)?.0;
        if found != *name {
            std::fs::remove_file(&blob).map_err(Error::io(&blob, "remove"))?;
            let what = format!("{}: sha256 mismatch: the hub says {name}, found {found}", spec.path);
            return Err(context.error(what, Some("the download was damaged and thrown away; fetch again".into())));
        }
    }
    std::fs::rename(&blob, target).map_err(Error::io(target, "rename"))
}

/// Copies under a temporary name first: a file in place is taken for complete.
fn copy(from: &Path, target: &Path) -> Result<()> {
    let part = target.with_extension("copying");
    std::fs::copy(from, &part).map_err(Error::io(&part, "write"))?;
    std::fs::rename(&part, target).map_err(Error::io(target, "rename"))
}

fn is_missing(error: &ApiError) -> bool {
    matches!(error, ApiError::RequestError(_)) && error.to_string().contains("404")
}

fn failure(context: &Context, repository: &str, path: &str, error: &ApiError) -> Error {
    let (what, hint) = match error {
        ApiError::IoError(e) if e.kind() == std::io::ErrorKind::StorageFull => (
            format!("{path}: {e}"),
            "free some disk space, or set PRIORART_CACHE to a directory with room, and fetch again".into(),
        ),
        error if is_missing(error) => (
            format!("{repository} has no file {path} at that revision"),
            "the repository or the endpoint (HF_ENDPOINT) is not what the catalog expects".to_string(),
        ),
        error if error.to_string().contains("401") || error.to_string().contains("403") => (
            format!("{repository} refused {path}: {error}"),
            "the hub wants a login for it: accept the model's terms there and log in with `hf auth login`".to_string(),
        ),
        error => (
            format!("{path} of {repository} could not be downloaded: {error}"),
            format!(
                "this machine must reach the hub, or a mirror of it named in HF_ENDPOINT. {}",
                context.offline_hint()
            ),
        ),
    };
    context.error(what, Some(hint))
}

/// Hands the crate's progress on; it announces a file twice.
struct Bar<'a> {
    context: &'a Context<'a>,
    started: &'a Cell<bool>,
}

impl Progress for Bar<'_> {
    fn init(&mut self, size: usize, filename: &str) {
        if !self.started.replace(true) {
            self.context.step(Step::Start { what: filename, bytes: Some(size as u64) });
        }
    }
    fn update(&mut self, size: usize) {
        self.context.step(Step::Advance { bytes: size as u64 });
    }
    fn finish(&mut self) {
        self.context.step(Step::Finish);
    }
}
