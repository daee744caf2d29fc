//! Memory-mapped files and typed views of them: the only unsafe code of the format.
//!
//! A [`Mapping`] is a read-only map of a whole file; an [`Array`] is a typed slice of it that keeps the map alive, checked
//! once when it is made so that indexing costs what a slice costs. Opening costs one `mmap`; pages are read on use.
//!
//! Files of an index are never changed once published (they are replaced or unlinked, which leaves a map intact). Whoever
//! truncates one under a running reader makes the operating system stop that reader with SIGBUS.
#![allow(unsafe_code)]

use std::fs::File;
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};

/// How a mapped range will be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The system's default read-ahead.
    Normal,
    /// Scattered reads: no read-ahead.
    Random,
    /// One pass from front to back.
    Sequential,
    /// All of it, soon: start reading now.
    WillNeed,
}

/// A whole file, mapped read-only, or a part of one copied into memory.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) path: PathBuf,
    map: memmap2::Mmap,
    /// Where in the file the bytes begin.
    origin: usize,
}

impl Mapping {
    pub(super) fn open(path: &Path) -> Result<Mapping> {
        let file = File::open(path).map_err(Error::io(path, "open"))?;
        let bytes = file.metadata().map_err(Error::io(path, "inspect"))?;
        if !bytes.is_file() {
            return Err(Error::corrupt(path, 0, "not a regular file"));
        }
        // SAFETY: the map is private to this process and read-only. The bytes can change under it only if another
        // process writes to a published file, which no program of this project does; the bytes are plain integers,
        // valid in every bit pattern, and every offset read from them is checked before it is used.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io(path, "map"))?;
        Ok(Mapping { path: path.to_path_buf(), map, origin: 0 })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    pub(super) fn advise(&self, access: Access, range: Range<usize>) -> Result<()> {
        #[cfg(unix)]
        {
            let advice = match access {
                Access::Normal => memmap2::Advice::Normal,
                Access::Random => memmap2::Advice::Random,
                Access::Sequential => memmap2::Advice::Sequential,
                Access::WillNeed => memmap2::Advice::WillNeed,
            };
            if !range.is_empty() {
                self.map.advise_range(advice, range.start, range.len()).map_err(Error::io(&self.path, "advise"))?;
            }
        }
        #[cfg(not(unix))]
        let _ = (access, range);
        Ok(())
    }
}

/// Maps all of a file that is no section file, such as one of another program's, as `T`s. Nobody may change it while it is mapped.
pub fn map_file<T: bytemuck::AnyBitPattern>(path: &Path) -> Result<Array<T>> {
    let map = Arc::new(Mapping::open(path)?);
    let length = map.bytes().len();
    Array::new(&map, 0..length)
}

/// A slice of `T`s inside a mapped file. Cheap to clone; keeps the file mapped.
pub struct Array<T> {
    map: Arc<Mapping>,
    start: *const T,
    len: usize,
    of: PhantomData<T>,
}

// SAFETY: an `Array` is a shared reference to read-only memory that its `Arc` keeps mapped; `Mapping` is `Send + Sync`,
// and nothing hands out mutable access.
unsafe impl<T: Sync> Send for Array<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Array<T> {}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        Array { map: self.map.clone(), start: self.start, len: self.len, of: PhantomData }
    }
}

impl<T: bytemuck::AnyBitPattern> Array<T> {
    /// The bytes `range` of the file as `T`s. Refuses a range that is misaligned for `T`, no whole number of them, or
    /// outside the file.
    pub(super) fn new(map: &Arc<Mapping>, range: Range<usize>) -> Result<Array<T>> {
        let at = range.start as u64;
        let Some(bytes) = map.bytes().get(range) else {
            return Err(Error::corrupt(&map.path, at, "an array reaches beyond the end of the file"));
        };
        let view: &[T] = bytemuck::try_cast_slice(bytes).map_err(|_| {
            let what = format!("{} bytes cannot be read as {}-byte elements", bytes.len(), size_of::<T>());
            Error::corrupt(&map.path, at, what)
        })?;
        Ok(Array { map: map.clone(), start: view.as_ptr(), len: view.len(), of: PhantomData })
    }

    /// File offset of the first element.
    pub fn file_offset(&self) -> u64 {
        (self.map.origin + self.offset()) as u64
    }

    /// Offset of the first element in the mapped bytes.
    fn offset(&self) -> usize {
        self.start as usize - self.map.bytes().as_ptr() as usize
    }

    /// The same elements, copied into memory of their own, in huge pages where the system has them. Reads all of the array.
    pub fn resident(&self) -> Result<Array<T>> {
        let (start, bytes) = (self.offset(), size_of::<T>() * self.len);
        if bytes == 0 {
            return Ok(self.clone());
        }
        self.map.advise(Access::Sequential, start..start + bytes)?;
        let map = super::memory::copy(&self.map.bytes()[start..start + bytes])?;
        let copied = Mapping { path: self.map.path.clone(), map, origin: self.file_offset() as usize };
        Array::new(&Arc::new(copied), 0..bytes)
    }

    /// Path of the mapped file, for error messages.
    pub fn path(&self) -> &Path {
        &self.map.path
    }

    /// Tells the system how this array will be read.
    pub fn advise(&self, access: Access) -> Result<()> {
        let start = self.offset();
        self.map.advise(access, start..start + size_of::<T>() * self.len)
    }
}

impl<T> Deref for Array<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `start` and `len` come from a slice of `T` that bytemuck made from the mapped bytes (so it is aligned,
        // in bounds and valid in every bit pattern); the map does not move while `self.map` lives, and the returned
        // slice borrows `self`.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<T> std::fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Array({}, {} elements)", self.map.path.display(), self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        // The raw-pointer view equals the checked one, for every range that the checked one accepts.
        #[test]
        fn array_equals_checked_cast(bytes in proptest::collection::vec(any::<u8>(), 1..400), a in 0usize..420, b in 0usize..420) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("f");
            std::fs::write(&path, &bytes).unwrap();
            let map = Arc::new(Mapping::open(&path).unwrap());
            let range = a.min(b)..a.max(b);
            let checked = map.bytes().get(range.clone()).and_then(|s| bytemuck::try_cast_slice::<u8, u32>(s).ok());
            match (Array::<u32>::new(&map, range.clone()), checked) {
                (Ok(array), Some(checked)) => {
                    prop_assert_eq!(&*array, checked);
                    prop_assert_eq!(array.file_offset(), range.start as u64);
                    let copy = array.resident().unwrap();
                    prop_assert_eq!((&*copy, copy.file_offset()), (checked, range.start as u64));
                }
                (Err(_), None) => {}
                (found, expected) => prop_assert!(false, "{:?} but {:?}", found, expected),
            }
        }
    }
}
