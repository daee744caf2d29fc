//! Reading a section file through a memory map.
//!
//! [`Section::open`] checks everything that later reads rely on: header, exact length, checksum table, directory. Cost: one
//! `mmap` and 8 bytes read a MiB of payload. Damage inside the payload shows in [`Section::verify`], which reads all of it;
//! readers of a payload check every offset they take from it, so damage gives an error or a wrong answer, never a crash.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::checksum;
use super::header::{ALIGNMENT, BLOCK_BYTES, HEADER_BYTES, Header, Kind, check_host, le_u64};
use super::mapping::{Access, Array, Mapping};
use super::writer::NAME_BYTES;
use crate::error::{Error, Result};

/// An open section file. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Section {
    map: Arc<Mapping>,
    header: Header,
    payload: Range<usize>,
    /// Name and file range of each subsection.
    subs: Arc<Vec<(String, Range<usize>)>>,
}

/// One subsection of a section file, or the whole payload. Cheap to clone; keeps the file mapped.
#[derive(Debug, Clone)]
pub struct Sub {
    map: Arc<Mapping>,
    range: Range<usize>,
}

impl Section {
    /// Opens `path`, which must hold `kind`.
    pub fn open(path: impl AsRef<Path>, kind: Kind) -> Result<Section> {
        let section = Section::open_any(path.as_ref())?;
        if section.header.kind != kind {
            let what = format!("holds `{}`, not `{}`", section.header.kind.name(), kind.name());
            return Err(Error::corrupt(path.as_ref(), 8, what));
        }
        Ok(section)
    }

    /// Opens a section file of any kind.
    pub fn open_any(path: &Path) -> Result<Section> {
        check_host()?;
        let map = Mapping::open(path)?;
        let bytes = map.bytes();
        let header = Header::decode(bytes, path)?;
        let (Some(table_at), Some(length)) = (header.table_offset(), header.file_bytes()) else {
            return Err(Error::corrupt(path, 32, format!("impossible payload length {}", header.payload)));
        };
        if bytes.len() as u64 != length {
            let what =
                format!("the file has {} bytes, its header tells {length}: truncated or overwritten", bytes.len());
            return Err(Error::corrupt(path, bytes.len() as u64, what));
        }
        // The file is mapped whole, so every offset up to its length fits a usize.
        let (table_at, payload) = (table_at as usize, HEADER_BYTES..HEADER_BYTES + header.payload as usize);
        let table = &bytes[table_at..];
        if checksum(table) != header.table {
            return Err(Error::corrupt(path, table_at as u64, "the table of block checksums is damaged"));
        }
        if bytes[payload.end..table_at].iter().any(|&b| b != 0) {
            return Err(Error::corrupt(path, payload.end as u64, "the padding after the payload is not zero"));
        }
        let subs = match header.directory {
            Some(at) => read_directory(bytes, payload.start + at as usize..payload.end, path)?,
            None => Vec::new(),
        };
        Ok(Section { map: Arc::new(map), header, payload, subs: Arc::new(subs) })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.map.path
    }

    /// The payload (with the directory of subsections, if there is one).
    pub fn bytes(&self) -> &[u8] {
        &self.map.bytes()[self.payload.clone()]
    }

    /// The whole payload as a [`Sub`].
    pub fn whole(&self) -> Sub {
        Sub { map: self.map.clone(), range: self.payload.clone() }
    }

    /// The payload as an array of `T`.
    pub fn array<T: bytemuck::AnyBitPattern>(&self) -> Result<Array<T>> {
        self.whole().array()
    }

    /// The payload as u16s, checked for alignment and length.
    pub fn as_u16s(&self) -> Result<&[u16]> {
        cast(self.bytes(), &self.map, self.payload.start)
    }

    /// The payload as u32s, checked for alignment and length.
    pub fn as_u32s(&self) -> Result<&[u32]> {
        cast(self.bytes(), &self.map, self.payload.start)
    }

    /// The payload as u64s, checked for alignment and length.
    pub fn as_u64s(&self) -> Result<&[u64]> {
        cast(self.bytes(), &self.map, self.payload.start)
    }

    /// The subsection called `name`; an error when there is none.
    pub fn sub(&self, name: &str) -> Result<Sub> {
        self.find_sub(name)
            .ok_or_else(|| Error::corrupt(self.path(), self.payload.start as u64, format!("no subsection `{name}`")))
    }

    /// The subsection called `name`, if there is one.
    pub fn find_sub(&self, name: &str) -> Option<Sub> {
        let (_, range) = self.subs.iter().find(|(n, _)| n == name)?;
        Some(Sub { map: self.map.clone(), range: range.clone() })
    }

    /// Names and lengths in bytes of the subsections, in file order.
    pub fn subs(&self) -> impl Iterator<Item = (&str, usize)> {
        self.subs.iter().map(|(name, range)| (name.as_str(), range.len()))
    }

    /// Tells the system how the payload will be read.
    pub fn advise(&self, access: Access) -> Result<()> {
        self.map.advise(access, self.payload.clone())
    }

    /// Starts reading the payload into the page cache and does not wait for it: on a cold disk asking alone takes a fifth of a second for
    /// 50 MB. A payload of a few megabytes is asked for at once, a larger one by a thread of its own. Only a hint: nothing fails.
    pub fn read_ahead(&self) {
        const AT_ONCE: usize = 4 << 20;
        let (map, range) = (self.map.clone(), self.payload.clone());
        let ask = move || drop(map.advise(Access::WillNeed, range));
        if self.payload.len() <= AT_ONCE {
            ask();
        } else if let Err(e) = std::thread::Builder::new().name("read-ahead".into()).spawn(ask) {
            tracing::debug!("{}: not read ahead: {e}", self.path().display());
        }
    }

    /// Reads the whole payload and compares every block with its checksum; stops at the first damaged one.
    pub fn verify(&self) -> Result<()> {
        match self.damage().next() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Every damaged block, in order, as [`Error::Checksum`].
    pub fn damage(&self) -> impl Iterator<Item = Error> + '_ {
        let table_at = self.payload.end.next_multiple_of(8);
        let table = self.map.bytes().get(table_at..).unwrap_or_default();
        self.bytes().chunks(BLOCK_BYTES).zip(table.chunks_exact(8)).enumerate().filter_map(|(block, (bytes, sum))| {
            let (expected, found) = (le_u64(sum, 0), checksum(bytes));
            let path = self.path().to_path_buf();
            (expected != found).then_some(Error::Checksum { path, block: block as u64, expected, found })
        })
    }
}

impl Sub {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map.bytes()[self.range.clone()]
    }

    /// As an array of `T` that keeps the file mapped; checked for alignment and length here, once.
    pub fn array<T: bytemuck::AnyBitPattern>(&self) -> Result<Array<T>> {
        Array::new(&self.map, self.range.clone())
    }

    /// As u16s, checked for alignment and length.
    pub fn as_u16s(&self) -> Result<&[u16]> {
        cast(self.bytes(), &self.map, self.range.start)
    }

    /// As u32s, checked for alignment and length.
    pub fn as_u32s(&self) -> Result<&[u32]> {
        cast(self.bytes(), &self.map, self.range.start)
    }

    /// As u64s, checked for alignment and length.
    pub fn as_u64s(&self) -> Result<&[u64]> {
        cast(self.bytes(), &self.map, self.range.start)
    }

    /// Offset of the first byte in the file, for error messages.
    pub fn file_offset(&self) -> u64 {
        self.range.start as u64
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.map.path
    }

    /// Tells the system how the bytes will be read.
    pub fn advise(&self, access: Access) -> Result<()> {
        self.map.advise(access, self.range.clone())
    }
}

fn cast<'a, T: bytemuck::AnyBitPattern>(bytes: &'a [u8], map: &Mapping, at: usize) -> Result<&'a [T]> {
    bytemuck::try_cast_slice(bytes).map_err(|_| {
        let what = format!("{} bytes cannot be read as {}-byte elements", bytes.len(), size_of::<T>());
        Error::corrupt(&map.path, at as u64, what)
    })
}

/// The directory in `range` of the file: entries of 32 bytes and a checksum.
fn read_directory(file: &[u8], range: Range<usize>, path: &Path) -> Result<Vec<(String, Range<usize>)>> {
    let at = range.start;
    let bad = |offset: usize, what: &str| Err(Error::corrupt(path, offset as u64, what));
    let bytes = file.get(range).unwrap_or_default();
    if bytes.len() % 32 != 8 {
        return bad(at, "the directory of subsections has an impossible length");
    }
    let (entries, sum) = bytes.split_at(bytes.len() - 8);
    if checksum(entries) != le_u64(sum, 0) {
        return bad(at, "the directory of subsections is damaged");
    }
    let mut subs = Vec::with_capacity(entries.len() / 32);
    let mut free = HEADER_BYTES as u64;
    for (i, entry) in entries.chunks_exact(32).enumerate() {
        let name = entry[..NAME_BYTES].split(|&b| b == 0).next().unwrap_or_default();
        let start = le_u64(entry, NAME_BYTES).checked_add(HEADER_BYTES as u64);
        let end = start.and_then(|s| s.checked_add(le_u64(entry, NAME_BYTES + 8)));
        let (Some(start), Some(end)) = (start, end) else {
            return bad(at + i * 32, "a subsection has an impossible range");
        };
        if start < free || end > at as u64 || start % ALIGNMENT as u64 != 0 {
            return bad(at + i * 32, "a subsection is misaligned, overlaps another or reaches beyond the payload");
        }
        free = end;
        let Ok(name) = std::str::from_utf8(name) else {
            return bad(at + i * 32, "a subsection has a name that is not ASCII");
        };
        subs.push((name.to_string(), start as usize..end as usize));
    }
    Ok(subs)
}
