//! Model weights: a memory-mapped safetensors file, read tensor by tensor.
//!
//! Overview. [`Weights::open`] maps the file and parses its header; [`Weights::get`] gives one tensor as `f32`, borrowed
//! from the map when it is stored so, converted when it is `f16` or `bf16`. Shapes are checked against what the model's
//! configuration asks for, so that a wrong or damaged file is named here and not as a panic later.
//!
//! Cost: opening touches the header only; a large table (word embeddings) is paged in row by row as texts need it.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::fs::File;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// An opened weights file.
pub struct Weights {
    path: PathBuf,
    map: Arc<Mmap>,
    tensors: HashMap<String, (Dtype, Vec<usize>, Range<usize>)>,
}

/// A tensor as floats: part of the map, or a converted copy.
#[derive(Clone)]
pub enum Floats {
    Mapped(Arc<Mmap>, Range<usize>),
    Owned(Vec<f32>),
}

impl Deref for Floats {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match self {
            // `Weights::get` made the range only after this very cast succeeded.
            Floats::Mapped(map, range) => bytemuck::try_cast_slice(&map[range.clone()]).unwrap_or(&[]),
            Floats::Owned(values) => values,
        }
    }
}

impl Weights {
    /// Maps `path` and reads its header.
    pub fn open(path: &Path) -> Result<Weights> {
        let file = File::open(path).map_err(Error::io(path, "open"))?;
        // SAFETY: weights are read-only data that nothing of ours writes; as with every mapped file, another process
        // truncating it while it is read is outside what a program can defend against.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path, "map"))?;
        let unusable = |what: String| Error::Model { path: path.to_path_buf(), what };
        let (header, metadata) = SafeTensors::read_metadata(&map)
            .map_err(|e| unusable(format!("not a safetensors file: {e}; is the download complete?")))?;
        let start = header + 8;
        let mut tensors = HashMap::new();
        for (name, info) in metadata.tensors() {
            let range = start + info.data_offsets.0..start + info.data_offsets.1;
            if range.end > map.len() {
                return Err(unusable(format!(
                    "tensor {name} ends at byte {}, the file at {}; is the download complete?",
                    range.end,
                    map.len()
                )));
            }
            tensors.insert(name, (info.dtype, info.shape.clone(), range));
        }
        Ok(Weights { path: path.to_path_buf(), map: Arc::new(map), tensors })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// sha256 of the whole file, lower-case hex. Reads all of it: 0.1–0.3 s for 90 MB.
    pub fn sha256(&self) -> String {
        crate::format::hex(&Sha256::digest(&self.map[..]))
    }

    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Shape of a tensor, if it is there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|(_, shape, _)| shape.as_slice())
    }

    /// Tensor `name` as `f32`, row-major, which must have exactly `shape`.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Floats> {
        let unusable = |what: String| Error::Model { path: self.path.clone(), what };
        let (dtype, found, range) =
            self.tensors.get(name).ok_or_else(|| unusable(format!("tensor {name} is missing")))?;
        if found != shape {
            return Err(unusable(format!("tensor {name} has shape {found:?}, the configuration asks for {shape:?}")));
        }
        let bytes = &self.map[range.clone()];
        Ok(match dtype {
            Dtype::F32 if bytemuck::try_cast_slice::<u8, f32>(bytes).is_ok() && cfg!(target_endian = "little") => {
                Floats::Mapped(self.map.clone(), range.clone())
            }
            Dtype::F32 => Floats::Owned(convert(bytes, f32::from_le_bytes)),
            Dtype::F16 => Floats::Owned(convert(bytes, |b| half::f16::from_le_bytes(b).to_f32())),
            Dtype::BF16 => Floats::Owned(convert(bytes, |b| half::bf16::from_le_bytes(b).to_f32())),
            other => return Err(unusable(format!("tensor {name} is {other:?}; F32, F16 or BF16 can be read"))),
        })
    }

    /// Tensor `name` of row numbers (I32 or I64), as model2vec's `mapping` stores them.
    pub fn integers(&self, name: &str) -> Result<Vec<u32>> {
        let unusable = |what: String| Error::Model { path: self.path.clone(), what };
        let (dtype, _, range) = self.tensors.get(name).ok_or_else(|| unusable(format!("tensor {name} is missing")))?;
        let bytes = &self.map[range.clone()];
        let values: Vec<i64> = match dtype {
            Dtype::I64 => bytes.as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b)).collect(),
            Dtype::I32 => bytes.as_chunks::<4>().0.iter().map(|&b| i64::from(i32::from_le_bytes(b))).collect(),
            other => return Err(unusable(format!("tensor {name} is {other:?}; I32 or I64 can be read"))),
        };
        let rows = values.iter().map(|&v| u32::try_from(v)).collect::<std::result::Result<Vec<u32>, _>>();
        rows.map_err(|_| unusable(format!("tensor {name} holds a number that is no row")))
    }
}

fn convert<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|&b| read(b)).collect()
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    fn file(dtype: Dtype, bytes: &[u8]) -> tempfile::NamedTempFile {
        let view = TensorView::new(dtype, vec![2, 2], bytes).unwrap();
        let data = safetensors::serialize([("w", view)], None).unwrap();
        let f = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(f.path(), data).unwrap();
        f
    }

    #[test]
    fn reads_every_float_type() {
        let values = [1.0f32, -2.5, 0.0, 1024.0];
        let f32s: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let f16s: Vec<u8> = values.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
        let bf16s: Vec<u8> = values.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect();
        for (dtype, bytes) in [(Dtype::F32, f32s), (Dtype::F16, f16s), (Dtype::BF16, bf16s)] {
            let f = file(dtype, &bytes);
            let weights = Weights::open(f.path()).unwrap();
            assert_eq!(&*weights.get("w", &[2, 2]).unwrap(), &values);
        }
    }

    #[test]
    fn names_what_is_wrong() {
        let f = file(Dtype::I64, &[0; 32]);
        let weights = Weights::open(f.path()).unwrap();
        let said = |r: Result<Floats>| r.err().unwrap().to_string();
        assert!(said(weights.get("v", &[2, 2])).contains("tensor v is missing"));
        assert!(said(weights.get("w", &[4])).contains("[2, 2]"));
        assert!(said(weights.get("w", &[2, 2])).contains("I64"));
        let whole = std::fs::read(f.path()).unwrap();
        for cut in [0, 4, 20, whole.len() - 1] {
            std::fs::write(f.path(), &whole[..cut]).unwrap();
            assert!(Weights::open(f.path()).is_err(), "a file cut at {cut} was accepted");
        }
    }
}
