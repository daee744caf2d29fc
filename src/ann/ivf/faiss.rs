//! FAISS through its C API. The safe face of it: [`build`] and [`Index`].
//!
//! The library is linked statically and was compiled for one instruction set (x86-64-v3 unless told otherwise), so its
//! presence is checked before the first call. Errors come back as FAISS words them.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int};
use std::path::Path;
use std::ptr::{null, null_mut};

use faiss_sys as sys;
use rayon::prelude::*;

use super::super::topk::by_score;
use super::super::{Hit, Source};
use super::{DEFAULT_NPROBE, Imported, IvfParams};
use crate::error::{Error, Result};

/// FAISS's flag for mapping inverted lists; the constant of the same name in its C header is another flag.
const MAP_LISTS: c_int = 8 | 0x646f_0000;
/// Queries of one call: under FAISS's threshold for matrix products, which would start threads of the BLAS library.
const CALL: usize = 16;
/// Rows added by one call.
const ADD: usize = 1 << 16;

unsafe extern "C" {
    /// Of the OpenMP runtime FAISS is linked with.
    fn omp_set_num_threads(threads: c_int);
}

pub fn ready() -> Result<()> {
    #[cfg(target_arch = "x86_64")]
    if !(std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
        && std::arch::is_x86_feature_detected!("f16c"))
    {
        return Err(Error::invalid_hint(
            "this binary's FAISS needs a processor with AVX2, FMA and F16C",
            "rebuild with CXXFLAGS set for this machine, or use the kinds `flat` and `hnsw`",
        ));
    }
    Ok(())
}

/// Sets the number of OpenMP threads of the calling thread.
fn set_threads(threads: usize) {
    // SAFETY: a call of the OpenMP runtime without preconditions; it sets a variable of this thread.
    unsafe { omp_set_num_threads(threads.max(1) as c_int) };
}

fn check(action: &str, code: c_int) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: FAISS returns null or a zero-terminated message that lives until the next error of this thread.
    let message = unsafe {
        let text = sys::faiss_get_last_error();
        if text.is_null() { "unknown error".into() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
    };
    Err(Error::invalid(format!("FAISS cannot {action}: {message}")))
}

fn path_string(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|_| Error::invalid(format!("{}: a path with a zero byte", path.display())))
}

/// An index of FAISS, or none.
#[derive(Debug)]
pub struct Index {
    raw: *mut sys::FaissIndex,
}

// SAFETY: the handle is owned; FAISS searches and reads of an index that nobody changes may run on any number of threads,
// and through a shared reference this type offers nothing else.
unsafe impl Send for Index {}
// SAFETY: as above.
unsafe impl Sync for Index {}

impl Drop for Index {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: the handle is owned by this value and freed once.
            unsafe { sys::faiss_Index_free(self.raw) };
        }
    }
}

impl Index {
    pub fn closed() -> Index {
        Index { raw: null_mut() }
    }

    /// Reads an index; with `map`, inverted lists stay in the file, whose length FAISS does not check.
    pub fn open(path: &Path, map: bool) -> Result<Index> {
        ready()?;
        let name = path_string(path)?;
        let mut index = Index::closed();
        // SAFETY: `name` is zero-terminated and outlives the call; the handle is stored where it is freed.
        let code =
            unsafe { sys::faiss_read_index_fname(name.as_ptr(), if map { MAP_LISTS } else { 0 }, &mut index.raw) };
        match check("read the index", code) {
            Ok(()) if !index.raw.is_null() => Ok(index),
            Ok(()) => Err(Error::corrupt(path, 0, "FAISS returned no index")),
            Err(error) => Err(Error::corrupt(path, 0, error.to_string())),
        }
    }

    pub fn len(&self) -> usize {
        if self.raw.is_null() {
            return 0;
        }
        // SAFETY: the handle is valid while `self` lives.
        unsafe { sys::faiss_Index_ntotal(self.raw) }.max(0) as usize
    }

    pub fn dim(&self) -> usize {
        if self.raw.is_null() {
            return 0;
        }
        // SAFETY: as above.
        unsafe { sys::faiss_Index_d(self.raw) }.max(0) as usize
    }

    /// The inverted file inside, behind a transformation if there is one; null for other indexes.
    fn inverted(&self) -> *mut sys::FaissIndexIVF {
        if self.raw.is_null() {
            return null_mut();
        }
        // SAFETY: the casts are dynamic casts that give null for an index of another class; all handles they give are
        // borrowed from `self.raw`.
        unsafe {
            let transformed = sys::faiss_IndexPreTransform_cast(self.raw);
            let inner = if transformed.is_null() { self.raw } else { sys::faiss_IndexPreTransform_index(transformed) };
            sys::faiss_IndexIVF_cast(inner)
        }
    }

    pub fn lists(&self) -> Option<usize> {
        let inverted = self.inverted();
        // SAFETY: checked for null; borrowed from `self`.
        (!inverted.is_null()).then(|| unsafe { sys::faiss_IndexIVF_nlist(inverted) })
    }

    /// Whether the ids in the inverted lists are `0..n`, each once. Other kinds number their rows by themselves.
    fn numbers_its_rows(&self) -> bool {
        let inverted = self.inverted();
        let Some(lists) = self.lists() else { return true };
        let mut seen = vec![false; self.len()];
        let mut ids: Vec<i64> = Vec::new();
        for list in 0..lists {
            // SAFETY: `lists` was told by the index, which is not changed; the buffer has the list's length.
            unsafe {
                ids.clear();
                ids.resize(sys::faiss_IndexIVF_get_list_size(inverted, list), -1);
                sys::faiss_IndexIVF_invlists_get_ids(inverted, list, ids.as_mut_ptr());
            }
            for &id in &ids {
                match usize::try_from(id).ok().and_then(|id| seen.get_mut(id)) {
                    Some(seen) if !*seen => *seen = true,
                    _ => return false,
                }
            }
        }
        seen.iter().all(|&seen| seen)
    }

    pub fn search(&self, queries: &[f32], k: usize, nprobe: usize, bits: Option<&[u8]>) -> Result<Vec<Vec<Hit>>> {
        let (dim, rows) = (self.dim(), self.len());
        if dim == 0 {
            return Ok(Vec::new());
        }
        let inverted = !self.inverted().is_null();
        if !inverted && nprobe != 0 {
            return Err(Error::invalid_hint(
                "nprobe cannot be set for this FAISS index: it is no inverted file, or one inside a refining index",
                "leave nprobe at 0, or build `IVF…` without `RFlat`: priorart rescores by itself",
            ));
        }
        let nprobe = if nprobe == 0 { DEFAULT_NPROBE } else { nprobe };
        let params = Params::new(inverted.then_some(nprobe), bits, rows)?;
        let answers: Vec<Result<Vec<Vec<Hit>>>> = queries
            .par_chunks(CALL * dim)
            .map(|chunk| {
                set_threads(1);
                let count = chunk.len() / dim;
                let mut scores = vec![0f32; count * k];
                let mut labels = vec![-1i64; count * k];
                // SAFETY: `chunk` holds count × dim floats, both outputs count × k values; the parameters and the bits
                // they refer to outlive the call, and a search changes neither them nor the index.
                let code = unsafe {
                    let (x, out, ids) = (chunk.as_ptr(), scores.as_mut_ptr(), labels.as_mut_ptr());
                    sys::faiss_Index_search_with_params(self.raw, count as i64, x, k as i64, params.raw(), out, ids)
                };
                check("search", code)?;
                let hits = |q: usize| {
                    let pairs = labels[q * k..(q + 1) * k].iter().zip(&scores[q * k..(q + 1) * k]);
                    let mut hits: Vec<Hit> = pairs
                        .filter(|&(&id, score)| id >= 0 && (id as usize) < rows && !score.is_nan())
                        .map(|(&id, &score)| Hit { row: id as u32, score })
                        .collect();
                    hits.sort_unstable_by(by_score);
                    hits
                };
                Ok((0..count).map(hits).collect())
            })
            .collect();
        let mut all = Vec::with_capacity(queries.len() / dim);
        for part in answers {
            all.extend(part?);
        }
        Ok(all)
    }
}

/// Search parameters and the row selector they refer to.
struct Params<'a> {
    selector: *mut sys::FaissIDSelectorBitmap,
    inverted: *mut sys::FaissSearchParametersIVF,
    plain: *mut sys::FaissSearchParameters,
    bits: std::marker::PhantomData<&'a [u8]>,
}

// SAFETY: the objects are only read after they were made.
unsafe impl Sync for Params<'_> {}

impl<'a> Params<'a> {
    fn new(nprobe: Option<usize>, bits: Option<&'a [u8]>, rows: usize) -> Result<Params<'a>> {
        let mut params =
            Params { selector: null_mut(), inverted: null_mut(), plain: null_mut(), bits: std::marker::PhantomData };
        // SAFETY: each constructor gets valid pointers and its result is stored where `drop` frees it. FAISS keeps the
        // pointer to the bits, which live as long as `Params`; it takes the count in bytes.
        unsafe {
            if let Some(bits) = bits {
                debug_assert!(bits.len() >= rows.div_ceil(8));
                let code = sys::faiss_IDSelectorBitmap_new(&mut params.selector, bits.len(), bits.as_ptr());
                check("filter", code)?;
            }
            let selector = params.selector.cast();
            match nprobe {
                Some(nprobe) => {
                    let code = sys::faiss_SearchParametersIVF_new_with(&mut params.inverted, selector, nprobe, 0);
                    check("set nprobe", code)?;
                }
                None if !params.selector.is_null() => {
                    check("filter", sys::faiss_SearchParameters_new(&mut params.plain, selector))?;
                }
                None => {}
            }
        }
        Ok(params)
    }

    fn raw(&self) -> *const sys::FaissSearchParameters {
        match (self.inverted.is_null(), self.plain.is_null()) {
            (false, _) => self.inverted.cast(),
            (true, false) => self.plain,
            (true, true) => null(),
        }
    }
}

impl Drop for Params<'_> {
    fn drop(&mut self) {
        // SAFETY: each object is owned, freed once, and not used afterwards; the parameters do not own the selector.
        unsafe {
            if !self.inverted.is_null() {
                sys::faiss_SearchParametersIVF_free(self.inverted);
            }
            if !self.plain.is_null() {
                sys::faiss_SearchParameters_free(self.plain);
            }
            if !self.selector.is_null() {
                sys::faiss_IDSelector_free(self.selector.cast());
            }
        }
    }
}

/// Reads the index in `from`, takes it out of its id map if it is in one, and writes it to `to`.
pub fn take_over(from: &Path, to: &Path) -> Result<Imported> {
    let index = Index::open(from, false)?;
    let invalid = |what: &str, hint: &str| Err(Error::invalid_hint(format!("{}: {what}", from.display()), hint));
    // SAFETY: the handle is valid, the cast is a dynamic one; what it gives is borrowed from `index`, which lives on and
    // is not changed, so the ids and the index inside stay where they are.
    let (inner, ids) = unsafe {
        let map = sys::faiss_IndexIDMap_cast(index.raw);
        if map.is_null() {
            (index.raw, None)
        } else {
            let (mut first, mut count) = (null_mut(), 0usize);
            sys::faiss_IndexIDMap_id_map(map, &mut first, &mut count);
            let ids: &[i64] =
                if first.is_null() || count == 0 { &[] } else { std::slice::from_raw_parts(first.cast_const(), count) };
            (sys::faiss_IndexIDMap_sub_index(map), Some(ids.to_vec()))
        }
    };
    // Borrowed: `index` frees it.
    let inner = std::mem::ManuallyDrop::new(Index { raw: inner });
    let (rows, dim) = (inner.len(), inner.dim());
    if rows == 0 || dim == 0 {
        return invalid("a FAISS index without vectors", "add the vectors before it is written");
    }
    if ids.as_ref().is_some_and(|ids| ids.len() != rows) {
        return Err(Error::corrupt(from, 0, format!("an id map of {rows} vectors with another number of ids")));
    }
    // SAFETY: the handle is valid while `index` lives.
    if unsafe { sys::faiss_Index_metric_type(inner.raw) } != sys::FaissMetricType_METRIC_INNER_PRODUCT {
        return invalid(
            "a FAISS index that does not compare by inner product",
            "build it with METRIC_INNER_PRODUCT; for vectors of length one the order is that of the L2 distance",
        );
    }
    if !inner.numbers_its_rows() {
        return invalid(
            "vectors that were added with ids of their own, which are not 0 to n - 1",
            "put the index into an id map (a factory string that begins with IDMap,) and add the vectors to that",
        );
    }
    let name = path_string(to)?;
    // SAFETY: the name is zero-terminated and outlives the call, the handle is valid.
    check("write the index", unsafe { sys::faiss_write_index_fname(inner.raw, name.as_ptr()) })?;
    Ok(Imported { rows, dim, ids })
}

/// Makes an index by a factory string, adds vectors under ids and writes it: what another program would have made.
#[cfg(test)]
pub fn write_with_ids(
    factory: &str,
    vectors: &[f32],
    dim: usize,
    ids: &[i64],
    product: bool,
    path: &Path,
) -> Result<()> {
    let mut index = Index::closed();
    let metric = if product { sys::FaissMetricType_METRIC_INNER_PRODUCT } else { sys::FaissMetricType_METRIC_L2 };
    let (text, name) = (CString::new(factory).expect("no zero byte"), path_string(path)?);
    let n = ids.len() as i64;
    assert_eq!(vectors.len(), ids.len() * dim);
    // SAFETY: the strings are zero-terminated and outlive the calls, the handle is stored where it is freed, and the
    // slices have the lengths that are passed.
    unsafe {
        check("make", sys::faiss_index_factory(&mut index.raw, dim as c_int, text.as_ptr(), metric))?;
        check("train", sys::faiss_Index_train(index.raw, n, vectors.as_ptr()))?;
        check("add", sys::faiss_Index_add_with_ids(index.raw, n, vectors.as_ptr(), ids.as_ptr()))?;
        check("write", sys::faiss_write_index_fname(index.raw, name.as_ptr()))
    }
}

/// Trains, fills and writes an index; the number of rows it was trained on.
pub fn build(source: &Source, params: &IvfParams, path: &Path) -> Result<usize> {
    ready()?;
    set_threads(rayon::current_num_threads());
    let (dim, rows) = (source.dim(), source.len());
    let factory =
        CString::new(params.factory.as_str()).map_err(|_| Error::invalid("a FAISS factory string with a zero byte"))?;
    let mut index = Index::closed();
    let metric = sys::FaissMetricType_METRIC_INNER_PRODUCT;
    // SAFETY: the string is zero-terminated and outlives the call; the handle is stored where it is freed.
    let code = unsafe { sys::faiss_index_factory(&mut index.raw, dim as c_int, factory.as_ptr(), metric) };
    check(&format!("make an index of `{}` for {dim} dimensions", params.factory), code)?;
    let wanted = if params.train > 0 { params.train } else { (64 * index.lists().unwrap_or(0)).max(65_536) };
    let sample = wanted.min(rows);
    // SAFETY: the handle is valid.
    let trained = unsafe { sys::faiss_Index_is_trained(index.raw) } != 0;
    if !trained {
        let mut vectors = Vec::with_capacity(sample * dim);
        for i in 0..sample {
            source.read(i * rows / sample..i * rows / sample + 1, &mut vectors);
        }
        // SAFETY: `vectors` holds sample × dim floats.
        check("train", unsafe { sys::faiss_Index_train(index.raw, sample as i64, vectors.as_ptr()) })?;
    }
    let mut vectors = Vec::new();
    for start in (0..rows).step_by(ADD) {
        let end = rows.min(start + ADD);
        vectors.clear();
        source.read(start..end, &mut vectors);
        // SAFETY: `vectors` holds (end − start) × dim floats.
        check("add", unsafe { sys::faiss_Index_add(index.raw, (end - start) as i64, vectors.as_ptr()) })?;
    }
    let name = path_string(path)?;
    // SAFETY: the name is zero-terminated and outlives the call.
    check("write the index", unsafe { sys::faiss_write_index_fname(index.raw, name.as_ptr()) })?;
    Ok(if trained { 0 } else { sample })
}
