//! The reference index as one file.
//!
//! ```text
//! 0    magic "PRIORREF", u32 major = 1, u32 minor = 0, u32 0x01020304 (byte order), u32 sections
//! 24   u64 rows, u64 file length, 16 bytes zero, u64 xxh3 of bytes 0..56 and the section table
//! 64   section table: per section u64 offset, u64 bytes, u64 xxh3, u64 zero
//! ...  sections, each at a multiple of 64 bytes, little-endian, in the order of `sections`
//! ```
//!
//! A newer major version is refused. Every section is checked against its xxh3 when the file is opened, and offsets
//! against each other, so that a damaged file is an error and never a panic. Reading is one sequential copy: 110 MB (86,000
//! rows) open in about 0.1 s. Written to a temporary file and renamed, so that a reader sees a whole file or none.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use bytemuck::{Pod, Zeroable};
use xxhash_rust::xxh3::xxh3_64;

use super::index::{ComponentRow, Posting, ReferenceIndex};
use crate::error::{Error, Result};

pub(super) const MAGIC: &[u8; 8] = b"PRIORREF";
const MAJOR: u32 = 1;
const MINOR: u32 = 0;
const ORDER: u32 = 0x0102_0304;
const SECTIONS: usize = 12;
const HEADER: usize = 64;
const ROW: usize = 32;

fn sections(index: &ReferenceIndex) -> [&[u8]; SECTIONS] {
    [
        &index.meta,
        bytemuck::cast_slice(&index.meta_ends),
        bytemuck::cast_slice(&index.item_components),
        bytemuck::cast_slice(&index.components),
        &index.text,
        bytemuck::cast_slice(&index.word_ids),
        bytemuck::cast_slice(&index.word_weights),
        bytemuck::cast_slice(&index.vocabulary),
        bytemuck::cast_slice(&index.seed_filter),
        bytemuck::cast_slice(&index.seed_directory),
        bytemuck::cast_slice(&index.seed_keys),
        bytemuck::cast_slice(&index.seed_starts),
    ]
}

impl ReferenceIndex {
    /// Writes the index to `path`, replacing what is there.
    ///
    /// # Errors
    /// [`Error::Io`]; the old file, if any, is then untouched.
    pub fn save(&self, path: &Path) -> Result<()> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let temporary = tempfile::NamedTempFile::new_in(parent).map_err(Error::io(path, "create"))?;
        self.write(temporary.as_file()).map_err(Error::io(path, "write"))?;
        temporary.as_file().sync_all().map_err(Error::io(path, "sync"))?;
        temporary.persist(path).map_err(|e| Error::Io {
            path: path.to_path_buf(),
            action: "rename to",
            source: e.error,
        })?;
        Ok(())
    }

    fn write(&self, file: &File) -> std::io::Result<()> {
        let postings: &[u8] = bytemuck::cast_slice(&self.postings);
        let all: Vec<&[u8]> = sections(self).into_iter().chain([postings]).collect();
        let mut table = Vec::with_capacity(all.len() * ROW);
        let mut offset = aligned(HEADER + all.len() * ROW);
        for section in &all {
            for value in [offset as u64, section.len() as u64, xxh3_64(section), 0] {
                table.extend_from_slice(&value.to_le_bytes());
            }
            offset = aligned(offset + section.len());
        }
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        for value in [MAJOR, MINOR, ORDER, all.len() as u32] {
            header.extend_from_slice(&value.to_le_bytes());
        }
        header.extend_from_slice(&self.rows.to_le_bytes());
        header.extend_from_slice(&(offset as u64).to_le_bytes());
        header.resize(HEADER - 8, 0);
        let sum = xxh3_64(&[header.as_slice(), &table].concat());
        header.extend_from_slice(&sum.to_le_bytes());

        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&header)?;
        out.write_all(&table)?;
        let mut at = HEADER + table.len();
        for section in &all {
            out.write_all(&[0u8; 64][..aligned(at) - at])?;
            out.write_all(section)?;
            at = aligned(at) + section.len();
        }
        out.write_all(&[0u8; 64][..aligned(at) - at])?;
        out.flush()
    }

    /// Opens a file written by [`ReferenceIndex::save`].
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NewerFormat`], [`Error::Checksum`] (block = section), [`Error::Corrupt`].
    pub fn open(path: &Path) -> Result<ReferenceIndex> {
        let mut source = Source::open(path)?;
        let index = ReferenceIndex {
            rows: source.rows,
            meta: source.next()?,
            meta_ends: source.next()?,
            item_components: source.next()?,
            components: source.next()?,
            text: source.next()?,
            word_ids: source.next()?,
            word_weights: source.next()?,
            vocabulary: source.next()?,
            seed_filter: source.next()?,
            seed_directory: source.next()?,
            seed_keys: source.next()?,
            seed_starts: source.next()?,
            postings: source.next()?,
        };
        index.check().map_err(|what| Error::corrupt(path, HEADER as u64, what))?;
        Ok(index)
    }

    /// Whether every number that is used as a position is one.
    fn check(&self) -> std::result::Result<(), String> {
        let ascending = |name: &str, list: &[u64], end: u64| {
            let ok = list.windows(2).all(|w| w[0] <= w[1]) && list.last().copied().unwrap_or(0) == end;
            if ok { Ok(()) } else { Err(format!("{name} do not ascend to {end}")) }
        };
        let widen = |list: &[u32]| list.iter().map(|&v| u64::from(v)).collect::<Vec<_>>();
        let items = self.meta_ends.len();
        ascending("item metadata", &self.meta_ends, self.meta.len() as u64)?;
        ascending("component numbers", &widen(&self.item_components), self.components.len() as u64)?;
        ascending("seed directory entries", &widen(&self.seed_directory), self.seed_keys.len() as u64)?;
        ascending("posting starts", &widen(&self.seed_starts), self.postings.len() as u64)?;
        let sizes = self.item_components.len() == items + 1
            && self.word_weights.len() == self.word_ids.len()
            && self.vocabulary.len().is_power_of_two()
            && self.vocabulary.len() <= 1 << 30
            && self.vocabulary.contains(&0)
            && self.seed_filter.len().is_power_of_two()
            && self.seed_directory.len() >= 3
            && (self.seed_directory.len() - 1).is_power_of_two()
            && self.seed_starts.len() == self.seed_keys.len() + 1;
        if !sizes || items == 0 {
            return Err("section sizes contradict each other".into());
        }
        let text = std::str::from_utf8(&self.text).map_err(|e| format!("component text is not UTF-8: {e}"))?;
        for (number, row) in self.components.iter().enumerate() {
            let end = row.text_start.saturating_add(u64::from(row.text_bytes)) as usize;
            let words = row.word_start.saturating_add(u64::from(row.words)) as usize;
            let whole =
                end <= text.len() && text.is_char_boundary(row.text_start as usize) && text.is_char_boundary(end);
            if !whole || words > self.word_ids.len() || row.item as usize >= items || row.kind > 3 {
                return Err(format!("component {number} lies outside the index"));
            }
        }
        let inside = |p: &Posting| self.components.get(p.component as usize).is_some_and(|row| p.position < row.words);
        if !self.postings.iter().all(inside) {
            return Err("a posting lies outside its component".into());
        }
        Ok(())
    }
}

fn aligned(offset: usize) -> usize {
    offset.next_multiple_of(64)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

/// Reads the sections of a file in order.
struct Source<'p> {
    path: &'p Path,
    file: File,
    length: u64,
    rows: u64,
    table: Vec<u8>,
    section: usize,
}

impl<'p> Source<'p> {
    fn open(path: &'p Path) -> Result<Source<'p>> {
        let mut file = File::open(path).map_err(Error::io(path, "open"))?;
        let length = file.metadata().map_err(Error::io(path, "open"))?.len();
        let count = SECTIONS + 1;
        let mut head = vec![0u8; HEADER + count * ROW];
        if length < head.len() as u64 {
            return Err(Error::corrupt(path, length, "too short for a reference index"));
        }
        file.read_exact(&mut head[..HEADER]).map_err(Error::io(path, "read"))?;
        if &head[..8] != MAGIC {
            return Err(Error::corrupt(path, 0, "not a reference index (no PRIORREF at its start)"));
        }
        let field = |at: usize| (word(&head, at) & 0xffff_ffff) as u32;
        let (major, minor, order, sections) = (field(8), field(12), field(16), field(20));
        if order != ORDER {
            return Err(Error::corrupt(path, 16, format!("byte order mark {order:08x}, expected {ORDER:08x}")));
        }
        if major > MAJOR {
            return Err(Error::NewerFormat {
                path: path.to_path_buf(),
                found: format!("{major}.{minor}"),
                supported: format!("{MAJOR}.{MINOR}"),
            });
        }
        if sections as usize != count {
            return Err(Error::corrupt(path, 20, format!("{sections} sections, expected {count}")));
        }
        file.read_exact(&mut head[HEADER..]).map_err(Error::io(path, "read"))?;
        let expected = word(&head, HEADER - 8);
        let found = xxh3_64(&[&head[..HEADER - 8], &head[HEADER..]].concat());
        if expected != found {
            return Err(Error::corrupt(path, 56, format!("header checksum {expected:016x}, found {found:016x}")));
        }
        if word(&head, 32) != length {
            return Err(Error::corrupt(
                path,
                length,
                format!("the file should have {} bytes: it is cut short", word(&head, 32)),
            ));
        }
        let rows = word(&head, 24);
        Ok(Source { path, file, length, rows, table: head.split_off(HEADER), section: 0 })
    }

    fn next<T: Pod + Zeroable>(&mut self) -> Result<Vec<T>> {
        let row = &self.table[self.section * ROW..(self.section + 1) * ROW];
        let (offset, bytes, expected) = (word(row, 0), word(row, 8), word(row, 16));
        let whole = (bytes as usize).is_multiple_of(size_of::<T>());
        if !whole || offset.checked_add(bytes).is_none_or(|end| end > self.length) {
            return Err(Error::corrupt(
                self.path,
                (HEADER + self.section * ROW) as u64,
                "a section lies outside the file",
            ));
        }
        self.file.seek(SeekFrom::Start(offset)).map_err(Error::io(self.path, "read"))?;
        let mut out = vec![T::zeroed(); bytes as usize / size_of::<T>()];
        let raw: &mut [u8] = bytemuck::cast_slice_mut(&mut out);
        self.file.read_exact(raw).map_err(Error::io(self.path, "read"))?;
        let found = xxh3_64(raw);
        if found != expected {
            return Err(Error::Checksum { path: self.path.to_path_buf(), block: self.section as u64, expected, found });
        }
        self.section += 1;
        Ok(out)
    }
}

const _: () = assert!(size_of::<ComponentRow>() == 40 && size_of::<Posting>() == 8);

#[cfg(test)]
mod tests {
    use super::super::item::{EvalItem, ReferenceSet};
    use super::*;

    fn index() -> ReferenceIndex {
        let item = |q: &str, a: &str| EvalItem {
            origins: vec![Default::default()],
            question: Some(q.into()),
            answer: Some(a.into()),
            ..EvalItem::default()
        };
        let items = vec![
            item("How far is the quiet moon from the earth today?", "384,400 km"),
            item("Why?", "Because of the tides."),
        ];
        ReferenceIndex::build(&ReferenceSet { items, rows: 2 }).unwrap()
    }

    #[test]
    fn saved_and_opened_is_the_same_and_so_are_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.ref"), dir.path().join("b.ref"));
        index().save(&a).unwrap();
        index().save(&b).unwrap();
        assert_eq!(ReferenceIndex::open(&a).unwrap(), index());
        assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
    }

    #[test]
    fn any_changed_or_missing_byte_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ref");
        index().save(&path).unwrap();
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x11;
            std::fs::write(&path, &bad).unwrap();
            // Bytes between sections carry nothing; everything else must be noticed.
            if let Ok(opened) = ReferenceIndex::open(&path) {
                assert_eq!(opened, index(), "byte {at} changed the index unnoticed");
            }
        }
        for length in (0..good.len()).step_by(37) {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(ReferenceIndex::open(&path).is_err(), "{length} bytes");
        }
        let mut newer = good;
        newer[8] = 2;
        std::fs::write(&path, &newer).unwrap();
        assert!(matches!(ReferenceIndex::open(&path), Err(Error::NewerFormat { .. })));
    }
}
