//! Which documents a semantic query may answer with: by source path and by metadata.
//!
//! A filter is asked of every candidate chunk, from several threads. Paths are decided once a distinct path; metadata is read when a
//! document is first asked for and remembered (a byte a document).

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Error, Result};
use crate::shard::Shard;

/// Conditions that a document meets all of. The default admits every document.
#[derive(Debug, Clone, Default)]
pub struct DocumentFilter {
    /// The source path contains this.
    pub path_contains: Option<String>,
    /// The source path matches one of these globs.
    pub sources: Option<globset::GlobSet>,
    /// Metadata fields (dotted for nested objects) and the value each must have: a string, or what JSON writes for another value.
    pub metadata: Vec<(String, String)>,
}

impl DocumentFilter {
    /// Admits only documents whose source path matches one of `globs`; none: every path.
    pub fn with_sources(mut self, globs: &[String]) -> Result<DocumentFilter> {
        let mut set = globset::GlobSetBuilder::new();
        let bad = |glob: &str, e: globset::Error| {
            Error::invalid_hint(format!("source {glob}: {e}"), "quote the glob; ** matches directories")
        };
        for glob in globs {
            set.add(globset::Glob::new(glob).map_err(|e| bad(glob, e))?);
        }
        self.sources = match globs {
            [] => None,
            _ => Some(set.build().map_err(|e| bad(&globs.join(" "), e))?),
        };
        Ok(self)
    }

    /// Whether every document is admitted.
    pub fn is_empty(&self) -> bool {
        self.path_contains.is_none() && self.sources.is_none() && self.metadata.is_empty()
    }

    /// The filter over the documents of one shard.
    pub(super) fn on<'a>(&'a self, shard: &'a Shard) -> Result<ShardFilter<'a>> {
        let fits = |path: &&str| {
            self.path_contains.as_ref().is_none_or(|part| path.contains(part.as_str()))
                && self.sources.as_ref().is_none_or(|set| set.is_match(path))
        };
        let by_path = self.path_contains.is_some() || self.sources.is_some();
        let paths = if by_path { Some(shard.documents.path_list()?.iter().map(fits).collect()) } else { None };
        let known = if self.metadata.is_empty() { 0 } else { shard.documents.len() };
        Ok(ShardFilter {
            shard,
            metadata: &self.metadata,
            paths,
            known: (0..known).map(|_| AtomicU8::new(0)).collect(),
            fault: Mutex::new(None),
        })
    }
}

/// A filter over the documents of a shard.
pub(super) struct ShardFilter<'a> {
    shard: &'a Shard,
    metadata: &'a [(String, String)],
    paths: Option<Vec<bool>>,
    /// 0: not asked yet; 1: refused; 2: admitted.
    known: Vec<AtomicU8>,
    fault: Mutex<Option<Error>>,
}

impl ShardFilter<'_> {
    pub fn admits(&self, document: u32) -> bool {
        if let Some(paths) = &self.paths
            && !self.shard.documents.path_number(document).is_ok_and(|n| paths.get(n as usize) == Some(&true))
        {
            return false;
        }
        let Some(known) = self.known.get(document as usize) else { return self.metadata.is_empty() };
        match known.load(Ordering::Relaxed) {
            0 => {
                let admitted = self.has_metadata(document);
                known.store(1 + u8::from(admitted), Ordering::Relaxed);
                admitted
            }
            state => state == 2,
        }
    }

    fn has_metadata(&self, document: u32) -> bool {
        let read = match self.shard.documents.get_without_text(document) {
            Ok(read) => read,
            Err(error) => {
                if let Ok(mut fault) = self.fault.lock() {
                    fault.get_or_insert(error);
                }
                return false;
            }
        };
        self.metadata.iter().all(|(field, wanted)| {
            let mut parts = field.split('.');
            let first = parts.next().and_then(|name| read.metadata.get(name));
            let value =
                read.metadata.get(field).or_else(|| first.and_then(|v| parts.try_fold(v, |v, name| v.get(name))));
            match value {
                Some(serde_json::Value::String(text)) => text == wanted,
                Some(other) => {
                    let written = other.to_string();
                    written == *wanted
                }
                None => false,
            }
        })
    }

    /// The first document that could not be read, if one could not.
    pub fn finish(self) -> Result<()> {
        self.fault.into_inner().ok().flatten().map_or(Ok(()), Err)
    }
}
