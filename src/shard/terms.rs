//! The term dictionary of a shard whose vocabulary is open (`words`).
//!
//! Ids are the ranks of the shard's terms in byte order, so the dictionary is a sorted table: `offsets` (u64, one more than
//! terms) into `bytes`. Looking a term up is a binary search, first over the terms' first eight bytes (`heads`, u64 big-endian,
//! so that integer order is byte order), which settles nearly all of it without touching the bytes.

use std::path::Path;

use crate::error::{Error, Result};
use crate::format::{Array, Kind, Section};
use crate::store::Store;

/// File name in the shard's directory.
pub const TERMS_BIN: &str = "terms.bin";

/// A term's first eight bytes, zero-padded, as an integer that compares like the bytes.
fn head(term: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let n = term.len().min(8);
    bytes[..n].copy_from_slice(&term[..n]);
    u64::from_be_bytes(bytes)
}

/// Writes the dictionary of `terms`, which are sorted and distinct.
pub fn write(store: &dyn Store, dir: &Path, terms: &[&str]) -> Result<()> {
    let mut out = store.section(&dir.join(TERMS_BIN), Kind::TERMS, 0)?;
    out.start_sub("heads")?;
    for t in terms {
        out.put(&[head(t.as_bytes())])?;
    }
    out.start_sub("offsets")?;
    let mut at = 0u64;
    out.put(&[at])?;
    for t in terms {
        at += t.len() as u64;
        out.put(&[at])?;
    }
    out.start_sub("bytes")?;
    for t in terms {
        out.put(t.as_bytes())?;
    }
    out.finish()?;
    Ok(())
}

/// An opened dictionary.
pub struct Terms {
    heads: Array<u64>,
    offsets: Array<u64>,
    bytes: Array<u8>,
}

impl Terms {
    /// Opens the dictionary of `terms` terms in `dir`.
    pub fn open(dir: &Path, terms: u64) -> Result<Terms> {
        let section = Section::open(dir.join(TERMS_BIN), Kind::TERMS)?;
        let opened = Terms {
            heads: section.sub("heads")?.array()?,
            offsets: section.sub("offsets")?.array()?,
            bytes: section.sub("bytes")?.array()?,
        };
        if opened.heads.len() as u64 != terms
            || opened.offsets.len() as u64 != terms + 1
            || opened.offsets.last() != Some(&(opened.bytes.len() as u64))
        {
            return Err(Error::corrupt(section.path(), 0, format!("its tables do not hold {terms} terms")));
        }
        Ok(opened)
    }

    /// Number of terms.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// The term with this id; `None` beyond the dictionary or where its bytes are damaged.
    pub fn term(&self, id: u32) -> Option<&str> {
        let i = id as usize;
        let (from, to) = (*self.offsets.get(i)? as usize, *self.offsets.get(i + 1)? as usize);
        std::str::from_utf8(self.bytes.get(from..to)?).ok()
    }

    /// The id of a term. Cost: a binary search.
    pub fn id(&self, term: &str) -> Option<u32> {
        let wanted = head(term.as_bytes());
        let from = self.heads.partition_point(|&h| h < wanted);
        let to = from + self.heads[from..].partition_point(|&h| h == wanted);
        if to > from + 1 || term.len() >= 8 {
            let (mut lo, mut hi) = (from, to);
            while lo < hi {
                let mid = lo + (hi - lo) / 2;
                if self.term(mid as u32)? < term { lo = mid + 1 } else { hi = mid }
            }
            return (lo < to && self.term(lo as u32) == Some(term)).then_some(lo as u32);
        }
        (from < to && self.term(from as u32) == Some(term)).then_some(from as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DiskStore;

    #[test]
    fn finds_every_term_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let terms = ["", "a", "ab", "abcdefg", "abcdefgh", "abcdefghi", "abcdefghj", "b", "é", "日本"];
        write(&DiskStore, dir.path(), &terms).unwrap();
        let opened = Terms::open(dir.path(), terms.len() as u64).unwrap();
        for (i, t) in terms.iter().enumerate() {
            assert_eq!(opened.id(t), Some(i as u32), "{t}");
            assert_eq!(opened.term(i as u32), Some(*t));
        }
        for t in ["aa", "abc", "abcdefghk", "abcdefgh\0", "c", "\0", "日"] {
            assert_eq!(opened.id(t), None, "{t}");
        }
        assert_eq!(opened.term(10), None);
        assert!(Terms::open(dir.path(), 9).is_err());
    }
}
