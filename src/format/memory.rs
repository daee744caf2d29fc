//! Large buffers in huge pages.
//!
//! A suffix array is read and sorted at random places. With pages of 4 KiB each such place costs, besides its own miss, a walk of
//! the page tables, which misses too (and under a hypervisor walks two tables); with pages of 2 MiB the walk stays in the caches.
//! Linux gives huge pages to memory that asks for them (`transparent_hugepage` is `madvise` on most servers), never to a mapped file.
//! Elsewhere a [`Pages`] is plain memory.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use memmap2::{MmapMut, MmapOptions};

use crate::error::{Error, Result};

/// Growable plain memory for `T`s, zeroed, in huge pages where the system has them.
pub struct Pages<T> {
    map: Option<MmapMut>,
    len: usize,
    of: PhantomData<T>,
}

/// `bytes` of zeroed memory; address space only until it is touched.
fn anonymous(bytes: usize) -> Result<MmapMut> {
    let map = MmapOptions::new().len(bytes).no_reserve_swap().map_anon().map_err(|e| Error::Limit {
        what: format!("cannot get {bytes} bytes of memory: {e}"),
        hint: Some("give the process more memory, or ask for less with --memory or --resident".into()),
    })?;
    #[cfg(target_os = "linux")]
    // Only a hint: a kernel without huge pages refuses it.
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(map)
}

impl<T: bytemuck::Pod> Pages<T> {
    /// No elements yet, and address space for `expected` of them, so that growing to there copies nothing. Memory is used as elements
    /// are appended.
    pub fn with_capacity(expected: usize) -> Pages<T> {
        // Systems that count address space as memory get it piece by piece.
        let bytes = if cfg!(target_os = "linux") { expected.saturating_mul(size_of::<T>()) } else { 0 };
        let map = if bytes == 0 { None } else { anonymous(bytes).ok() };
        Pages { map, len: 0, of: PhantomData }
    }

    /// `len` zeros.
    pub fn zeroed(len: usize) -> Result<Pages<T>> {
        let bytes = len.saturating_mul(size_of::<T>());
        let map = if bytes == 0 { None } else { Some(anonymous(bytes)?) };
        Ok(Pages { map, len, of: PhantomData })
    }

    /// Elements there is room for.
    fn capacity(&self) -> usize {
        self.map.as_ref().map_or(0, |m| m.len()) / size_of::<T>()
    }

    /// Appends what `items` yields, `n` elements at most.
    pub fn extend(&mut self, n: usize, items: impl Iterator<Item = T>) -> Result<()> {
        let needed = self.len + n;
        if needed > self.capacity() {
            let mut grown = anonymous(needed.max(2 * self.len).max(1 << 16) * size_of::<T>())?;
            grown[..self.len * size_of::<T>()].copy_from_slice(bytemuck::cast_slice(self));
            self.map = Some(grown);
        }
        let from = self.len;
        self.len = needed;
        let mut written = from;
        for (to, item) in self[from..].iter_mut().zip(items) {
            *to = item;
            written += 1;
        }
        self.len = written;
        Ok(())
    }

    /// Forgets the elements from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The same memory as elements of another type of the same size.
    pub fn cast<U: bytemuck::Pod>(self) -> Pages<U> {
        assert_eq!(size_of::<T>(), size_of::<U>(), "a cast between elements of different sizes");
        Pages { map: self.map, len: self.len, of: PhantomData }
    }
}

impl<T: bytemuck::Pod> Deref for Pages<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match &self.map {
            Some(map) => bytemuck::cast_slice(&map[..self.len * size_of::<T>()]),
            None => &[],
        }
    }
}

impl<T: bytemuck::Pod> DerefMut for Pages<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.map {
            Some(map) => bytemuck::cast_slice_mut(&mut map[..self.len * size_of::<T>()]),
            None => &mut [],
        }
    }
}

impl<T> std::fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pages({} elements)", self.len)
    }
}

/// A read-only copy of `bytes` in such memory.
pub(super) fn copy(bytes: &[u8]) -> Result<memmap2::Mmap> {
    let mut map = anonymous(bytes.len())?;
    map.copy_from_slice(bytes);
    map.make_read_only().map_err(|e| Error::invalid(format!("cannot protect {} bytes of memory: {e}", bytes.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_a_vec(parts in proptest::collection::vec(proptest::collection::vec(any::<u16>(), 0..9), 0..9), room in 0usize..40) {
            let mut pages = Pages::<u16>::with_capacity(room);
            let mut vec = Vec::new();
            for part in parts {
                pages.extend(part.len() + 3, part.iter().copied()).unwrap();
                vec.extend(part);
                prop_assert_eq!(&*pages, &vec[..]);
            }
            pages.truncate(5);
            vec.truncate(5);
            prop_assert_eq!(&*pages.cast::<i16>(), bytemuck::cast_slice::<u16, i16>(&vec));
        }
    }

    #[test]
    fn grows_beyond_its_room_and_starts_as_zeros() {
        let mut pages = Pages::<u32>::with_capacity(10);
        for i in 0..100_000 {
            pages.extend(1, std::iter::once(i)).unwrap();
        }
        assert!(pages.iter().copied().eq(0..100_000));
        assert!(Pages::<u64>::zeroed(3000).unwrap().iter().all(|&n| n == 0));
        assert!(Pages::<u64>::zeroed(0).unwrap().is_empty());
        assert!(Pages::<u8>::zeroed(usize::MAX / 2).is_err());
    }
}
