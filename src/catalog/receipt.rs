//! The receipt of a fetched entry: which origin it came from and what its files are, kept beside them.
//!
//! It is what makes [`locate`](super::locate) cheap, and what a file without a pinned sha256 is held to afterwards. Its
//! name starts with a dot so that a corpus directory can be read as a corpus.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::entry::{Entry, Origin, OriginKind};
use crate::error::{Error, Result};

/// File name of the receipt inside an entry's directory.
const NAME: &str = ".receipt.json";

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub name: String,
    pub origin: OriginKind,
    /// Hub commit or wheel version.
    pub revision: Option<String>,
    /// Debian packages as `name=version`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    pub files: Vec<ReceiptFile>,
}

/// One fetched file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptFile {
    pub path: String,
    pub bytes: u64,
    pub sha256: String,
    /// Whether the catalog pins this sha256, or the first fetch was believed.
    pub pinned: bool,
}

impl Receipt {
    /// Reads the receipt in `directory`, `None` where there is none that can be read.
    pub fn read(directory: &Path) -> Option<Receipt> {
        serde_json::from_slice(&std::fs::read(directory.join(NAME)).ok()?).ok()
    }

    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join(NAME);
        let mut text = serde_json::to_vec_pretty(self).map_err(|e| Error::io(&path, "write")(e.into()))?;
        text.push(b'\n');
        std::fs::write(&path, text).map_err(Error::io(&path, "write"))
    }

    /// Whether this is a receipt of one of `entry`'s origins as the catalog has it now.
    pub(super) fn agrees_with(&self, entry: &Entry) -> bool {
        self.name == entry.name && entry.origins.iter().any(|origin| self.is_of(origin))
    }

    pub(super) fn is_of(&self, origin: &Origin) -> bool {
        self.origin == origin.kind()
            && self.revision.as_deref() == origin.revision()
            && self.has_packages_of(origin)
            && origin.files().iter().all(|spec| match self.file(&spec.path) {
                Some(file) => spec.sha256.as_ref().is_none_or(|pin| *pin == file.sha256),
                None => spec.optional,
            })
    }

    fn has_packages_of(&self, origin: &Origin) -> bool {
        let Origin::Debian { packages, .. } = origin else { return self.packages.is_empty() };
        packages.len() == self.packages.len()
            && packages.iter().zip(&self.packages).all(|(package, had)| {
                had.split_once('=').is_some_and(|(name, _)| package.names.iter().any(|n| n == name))
            })
    }

    pub(super) fn file(&self, path: &str) -> Option<&ReceiptFile> {
        self.files.iter().find(|f| f.path == path)
    }
}
