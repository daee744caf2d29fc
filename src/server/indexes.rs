//! The served indexes by name. A new generation replaces the snapshot; requests that hold the old one finish on it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use axum::http::StatusCode;

use super::problem::Problem;
use super::settings::IndexSource;
use crate::embed::Encoder;
use crate::error::{Error, Result};
use crate::index::{IndexDir, Snapshot};
use crate::novelty::{Calibration, Recall};

/// A served index.
pub struct Served {
    pub name: String,
    pub path: PathBuf,
    /// Bytes of memory for a copy of its exact index.
    resident: u64,
    pub encoder: Option<Arc<dyn Encoder>>,
    /// The human reference of novelty.
    pub calibration: Option<Arc<Calibration>>,
    /// A generation, and the recall of the semantic search measured on it.
    pub(super) measured: Mutex<Option<(u64, Vec<Recall>)>>,
    snapshot: RwLock<Arc<Snapshot>>,
    reloads: AtomicU64,
    reload_errors: AtomicU64,
}

/// All of them, in the order they were given.
pub struct Indexes {
    list: Vec<Arc<Served>>,
}

impl Served {
    fn open(source: &IndexSource, resident: u64) -> Result<Served> {
        let snapshot = Snapshot::open_resident(&source.path, resident)?;
        if let Some(encoder) = &source.encoder {
            snapshot.check_encoder(&**encoder)?;
        }
        Ok(Served {
            name: source.name.clone(),
            path: source.path.clone(),
            resident,
            encoder: source.encoder.clone(),
            calibration: source.calibration.clone(),
            measured: Mutex::default(),
            snapshot: RwLock::new(Arc::new(snapshot)),
            reloads: AtomicU64::new(0),
            reload_errors: AtomicU64::new(0),
        })
    }

    /// The encoder of its embeddings.
    pub(super) fn encoder(&self) -> Result<&dyn Encoder, Problem> {
        self.encoder.as_deref().ok_or_else(|| {
            Problem::new(
                StatusCode::CONFLICT,
                "no-embeddings",
                "No embeddings",
                format!("the index {} is served without an encoder", self.name),
            )
            .hint("build it with --encoder NAME, and let the server find that encoder")
        })
    }

    /// The generation served now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Reloads done, and reloads that failed.
    pub fn reloads(&self) -> (u64, u64) {
        (self.reloads.load(Ordering::Relaxed), self.reload_errors.load(Ordering::Relaxed))
    }

    /// Serves the newest generation, if it is not served yet; tells whether it changed. On an error the old one stays.
    ///
    /// Cost: one read of the manifest; of a new generation, opening it.
    pub fn reload(&self) -> Result<bool> {
        let reload = || {
            let newest = IndexDir::open(&self.path)?.manifest()?.generation;
            if newest == self.snapshot().manifest.generation {
                return Ok(false);
            }
            let snapshot = Arc::new(Snapshot::open_resident(&self.path, self.resident)?);
            if let Some(encoder) = &self.encoder {
                snapshot.check_encoder(&**encoder)?;
            }
            tracing::info!("{}: serving generation {}", self.name, snapshot.manifest.generation);
            *self.snapshot.write().unwrap_or_else(|e| e.into_inner()) = snapshot;
            self.reloads.fetch_add(1, Ordering::Relaxed);
            Ok(true)
        };
        reload().inspect_err(|_| {
            self.reload_errors.fetch_add(1, Ordering::Relaxed);
        })
    }
}

impl Indexes {
    /// Opens every index, each with so many bytes of memory for a copy of its exact index.
    pub fn open(sources: &[IndexSource], resident: u64) -> Result<Indexes> {
        let mut list: Vec<Arc<Served>> = Vec::new();
        for source in sources {
            check_name(&source.name)?;
            if list.iter().any(|s| s.name == source.name) {
                return Err(Error::invalid_hint(
                    format!("two indexes are named {:?}", source.name),
                    "give one of them another name: NAME=DIR",
                ));
            }
            list.push(Arc::new(Served::open(source, resident)?));
        }
        if list.is_empty() {
            return Err(Error::invalid_hint(
                "there is no index to serve",
                "pass --index DIR, or NAME=DIR once for each",
            ));
        }
        Ok(Indexes { list })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.list.iter()
    }

    /// The index of that name.
    pub fn get(&self, name: &str) -> Result<Arc<Served>, Problem> {
        self.list.iter().find(|s| s.name == name).cloned().ok_or_else(|| {
            let names: Vec<&str> = self.list.iter().map(|s| s.name.as_str()).collect();
            Problem::not_found(format!("there is no index {:?}", name.chars().take(80).collect::<String>()))
                .hint(format!("there are: {}", names.join(", ")))
        })
    }
}

/// The name an index directory goes by when none is given: its own.
pub fn name_of(path: &Path) -> String {
    let name = path
        .canonicalize()
        .ok()
        .and_then(|p| p.file_name().map(|n| n.to_string_lossy().into_owned()))
        .unwrap_or_default();
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    if check_name(&name).is_ok() { name } else { "index".into() }
}

fn check_name(name: &str) -> Result<()> {
    let plain =
        !name.is_empty() && name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    // The first path segments that are no index.
    if !plain || name.starts_with('.') || ["indexes", "v1", "page"].contains(&name) {
        return Err(Error::invalid_hint(
            format!("{name:?} cannot name an index"),
            "use letters, digits, `-`, `_` and `.`; `indexes`, `v1` and `page` are taken",
        ));
    }
    Ok(())
}
