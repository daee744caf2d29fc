//! Matrices of embeddings made elsewhere: `.npy` and `.safetensors` in and out, in pieces, with their ids.
//!
//! Read: two dimensions, row-major, little-endian f16, f32 or f64, versions 1 to 3 of the npy format; a safetensors file
//! with one such tensor, or the one that is named. Written: f32. Every value is checked for being finite, every id for
//! being unique; errors name file and row. Memory: one piece.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::f16;
use serde::Deserialize;

use super::{FlatIndex, FlatWriter, MAX_DIM, VectorIndex};
use crate::error::{Error, Result};

/// Rows read or written at once by [`import`] and the writers.
const PIECE: usize = 4096;
/// Longest header of either format that is read.
const MAX_HEADER: u64 = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Float {
    F16,
    F32,
    F64,
}

impl Float {
    fn width(self) -> u64 {
        match self {
            Float::F16 => 2,
            Float::F32 => 4,
            Float::F64 => 8,
        }
    }
}

/// A matrix in a file.
#[derive(Debug)]
pub struct MatrixReader {
    path: PathBuf,
    file: File,
    start: u64,
    float: Float,
    rows: usize,
    dim: usize,
}

impl MatrixReader {
    /// Opens a `.npy` or `.safetensors` file (told apart by its first bytes). `tensor` names a tensor of the latter.
    pub fn open(path: &Path, tensor: Option<&str>) -> Result<MatrixReader> {
        let mut file = File::open(path).map_err(Error::io(path, "open"))?;
        let length = file.metadata().map_err(Error::io(path, "open"))?.len();
        let mut first = [0u8; 8];
        if length < 10 {
            return Err(Error::corrupt(path, 0, "too short for .npy or .safetensors"));
        }
        file.read_exact(&mut first).map_err(Error::io(path, "read"))?;
        let (start, float, rows, dim) = if &first[..6] == b"\x93NUMPY" {
            npy_header(path, &mut file, first[6])?
        } else {
            safetensors_header(path, &mut file, u64::from_le_bytes(first), tensor)?
        };
        if dim == 0 || dim > MAX_DIM as u64 {
            return Err(Error::corrupt(path, 0, format!("{dim} columns: expected 1 to {MAX_DIM}")));
        }
        if rows >= u64::from(u32::MAX) {
            return Err(Error::corrupt(path, 0, format!("{rows} rows are more than one space can have")));
        }
        let end = rows.checked_mul(dim * float.width()).and_then(|bytes| bytes.checked_add(start));
        if end.is_none_or(|end| end > length) {
            return Err(Error::corrupt(path, length, format!("truncated: {rows} × {dim} values do not fit")));
        }
        Ok(MatrixReader { path: path.to_path_buf(), file, start, float, rows: rows as usize, dim: dim as usize })
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Appends a range of rows as f32. A value that is not finite (in f32) is an error naming its row.
    pub fn read(&mut self, range: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        if range.end > self.rows || range.start > range.end {
            return Err(Error::invalid(format!("rows {range:?} of a matrix of {} rows", self.rows)));
        }
        let row_bytes = self.dim as u64 * self.float.width();
        let mut bytes = vec![0u8; (range.len() as u64 * row_bytes) as usize];
        let offset = self.start + range.start as u64 * row_bytes;
        self.file.seek(SeekFrom::Start(offset)).map_err(Error::io(&self.path, "read"))?;
        self.file.read_exact(&mut bytes).map_err(Error::io(&self.path, "read"))?;
        let from = out.len();
        match self.float {
            Float::F16 => out.extend(bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())),
            Float::F32 => out.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
            Float::F64 => out.extend(
                bytes
                    .chunks_exact(8)
                    .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32),
            ),
        }
        match out[from..].iter().position(|x| !x.is_finite()) {
            Some(at) => Err(Error::Record {
                path: self.path.clone(),
                line: (range.start + at / self.dim) as u64 + 1,
                byte: offset + at as u64 * self.float.width(),
                what: format!("row {}, column {}: {}", range.start + at / self.dim, at % self.dim, out[from + at]),
            }),
            None => Ok(()),
        }
    }
}

/// What a header says: first byte of the values, their type, rows, columns.
type Shape = (u64, Float, u64, u64);

fn npy_header(path: &Path, file: &mut File, major: u8) -> Result<Shape> {
    let bad = |what: String| Error::corrupt(path, 0, format!("npy header: {what}"));
    let (length, fixed) = match major {
        1 => {
            let mut bytes = [0u8; 2];
            file.read_exact(&mut bytes).map_err(Error::io(path, "read"))?;
            (u64::from(u16::from_le_bytes(bytes)), 10)
        }
        2 | 3 => {
            let mut bytes = [0u8; 4];
            file.read_exact(&mut bytes).map_err(Error::io(path, "read"))?;
            (u64::from(u32::from_le_bytes(bytes)), 12)
        }
        _ => return Err(bad(format!("version {major} is unknown"))),
    };
    if length > MAX_HEADER {
        return Err(bad(format!("{length} bytes long")));
    }
    let mut header = vec![0u8; length as usize];
    file.read_exact(&mut header).map_err(Error::io(path, "read"))?;
    let text = String::from_utf8_lossy(&header).replace('"', "'");
    let field = |name: &str| text.split_once(&format!("'{name}':")).map(|(_, rest)| rest.trim_start());
    let descr = field("descr").and_then(|rest| rest.strip_prefix('\'')?.split_once('\'')).map(|(d, _)| d);
    let float = match descr {
        Some("<f2") => Float::F16,
        Some("<f4") => Float::F32,
        Some("<f8") => Float::F64,
        other => return Err(bad(format!("type {}: expected <f2, <f4 or <f8", other.unwrap_or("missing")))),
    };
    if !field("fortran_order").is_some_and(|rest| rest.starts_with("False")) {
        return Err(Error::invalid_hint(
            format!("{}: the matrix is column-major", path.display()),
            "save it with numpy.ascontiguousarray",
        ));
    }
    let shape = field("shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')')).map(|(s, _)| s);
    let sizes: Option<Vec<u64>> = shape
        .map(|s| s.split(',').map(str::trim).filter(|s| !s.is_empty()).map(|s| s.parse().ok()).collect())
        .unwrap_or_default();
    match sizes.as_deref() {
        Some(&[rows, dim]) => Ok((fixed + length, float, rows, dim)),
        _ => Err(bad(format!("shape ({}): expected two dimensions", shape.unwrap_or("missing")))),
    }
}

fn safetensors_header(path: &Path, file: &mut File, length: u64, tensor: Option<&str>) -> Result<Shape> {
    if length > MAX_HEADER {
        return Err(Error::corrupt(path, 0, "neither .npy nor .safetensors"));
    }
    let bad = |what: String| Error::corrupt(path, 0, what);
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
    let entries: HashMap<String, serde_json::Value> =
        serde_json::from_slice(&bytes).map_err(|e| bad(format!("neither .npy nor .safetensors ({e})")))?;
    let mut matrices: Vec<&str> = entries
        .iter()
        .filter(|(_, entry)| entry["shape"].as_array().is_some_and(|shape| shape.len() == 2))
        .map(|(name, _)| name.as_str())
        .collect();
    matrices.sort_unstable();
    let name = match (tensor, matrices.as_slice()) {
        (Some(name), _) => name,
        (None, [name]) => name,
        (None, names) => {
            return Err(Error::invalid_hint(
                format!("{}: {} matrices ({})", path.display(), names.len(), names.join(", ")),
                "name the tensor to import",
            ));
        }
    };
    let Some(entry) = entries.get(name) else {
        return Err(Error::invalid(format!("{}: no tensor `{name}`", path.display())));
    };
    let Ok(tensor) = Tensor::deserialize(entry) else {
        return Err(bad(format!("`{name}`: expected dtype, shape and data_offsets, found {entry}")));
    };
    let float = match tensor.dtype.as_str() {
        "F16" => Float::F16,
        "F32" => Float::F32,
        "F64" => Float::F64,
        other => return Err(bad(format!("`{name}` holds {other}, not F16, F32 or F64"))),
    };
    let &[rows, dim] = tensor.shape.as_slice() else {
        return Err(bad(format!("`{name}` has the shape {:?}, not two dimensions", tensor.shape)));
    };
    let [from, to] = tensor.data_offsets;
    let size = rows.checked_mul(dim).and_then(|count| count.checked_mul(float.width()));
    match (to.checked_sub(from), from.checked_add(8 + length)) {
        (Some(found), Some(start)) if Some(found) == size => Ok((start, float, rows, dim)),
        _ => Err(bad(format!("`{name}`: offsets {from} to {to} do not hold {rows} × {dim} values"))),
    }
}

/// Entry of a safetensors header.
#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// Ids of a matrix's rows: a text file with one a line (UTF-8, `\n`). An empty or repeated id is an error naming lines.
pub fn read_ids(path: &Path) -> Result<Vec<String>> {
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    let mut lines: HashMap<String, u64> = HashMap::new();
    let mut ids = Vec::new();
    let mut byte = 0u64;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(Error::io(path, "read"))?;
        if read == 0 {
            return Ok(ids);
        }
        let number = ids.len() as u64 + 1;
        let bad = |what: String| Error::Record { path: path.to_path_buf(), line: number, byte, what };
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let id = std::str::from_utf8(text.strip_suffix(b"\r").unwrap_or(text))
            .map_err(|e| bad(format!("not UTF-8: {e}")))?;
        if id.is_empty() {
            return Err(bad("an empty id".into()));
        }
        if let Some(first) = lines.insert(id.to_string(), number) {
            return Err(bad(format!("id `{id}` is already on line {first}")));
        }
        ids.push(id.to_string());
        byte += read as u64;
    }
}

/// Copies a matrix into a `flat` index, row by row; the number of rows.
///
/// `expected_dim` refuses another dimension (naming both), `ids` another number of ids than rows. With `normalize`, rows
/// are scaled to length one (a zero row is refused); without, they are taken as they are. Nothing is left behind by a
/// failure but an unfinished file that does not open.
pub fn import(
    matrix: &mut MatrixReader,
    ids: Option<&[String]>,
    expected_dim: Option<usize>,
    normalize: bool,
    mut into: FlatWriter,
) -> Result<usize> {
    if let Some(expected) = expected_dim.filter(|&dim| dim != matrix.dim) {
        return Err(Error::EncoderMismatch {
            index: format!("vectors of {expected} dimensions"),
            query: format!("{} of {} dimensions", matrix.path.display(), matrix.dim),
        });
    }
    if let Some(ids) = ids.filter(|ids| ids.len() != matrix.rows) {
        return Err(Error::invalid(format!("{}: {} rows, but {} ids", matrix.path.display(), matrix.rows, ids.len())));
    }
    let mut piece = Vec::new();
    for start in (0..matrix.rows).step_by(PIECE) {
        piece.clear();
        matrix.read(start..matrix.rows.min(start + PIECE), &mut piece)?;
        if normalize {
            for (i, row) in piece.chunks_exact_mut(matrix.dim).enumerate() {
                if super::normalize(row) == 0.0 {
                    let what = format!("row {} is zero and cannot be normalised", start + i);
                    return Err(Error::invalid(format!("{}: {what}", matrix.path.display())));
                }
            }
        }
        into.push(&piece)?;
    }
    into.finish()?;
    Ok(matrix.rows)
}

fn write_rows(index: &FlatIndex, path: &Path, header: &[u8]) -> Result<()> {
    let file = File::create(path).map_err(Error::io(path, "create"))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(header).map_err(Error::io(path, "write"))?;
    let rows = index.rows();
    let mut values = Vec::with_capacity(index.dim());
    for row in 0..index.len() as u32 {
        values.clear();
        rows.decode(row, &mut values);
        for value in &values {
            out.write_all(&value.to_le_bytes()).map_err(Error::io(path, "write"))?;
        }
    }
    out.flush().map_err(Error::io(path, "write"))?;
    out.get_ref().sync_all().map_err(Error::io(path, "sync"))
}

/// Writes the stored vectors as an f32 `.npy` file (version 1).
pub fn write_npy(index: &FlatIndex, path: &Path) -> Result<()> {
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", index.len(), index.dim());
    // Header and magic together end at a multiple of 64, with a newline.
    while !(10 + text.len() + 1).is_multiple_of(64) {
        text.push(' ');
    }
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((text.len() as u16).to_le_bytes());
    header.extend(text.bytes());
    write_rows(index, path, &header)
}

/// Writes the stored vectors as the f32 tensor `embeddings` of a `.safetensors` file.
pub fn write_safetensors(index: &FlatIndex, path: &Path) -> Result<()> {
    let bytes = 4 * index.len() * index.dim();
    let shape = format!("[{},{}]", index.len(), index.dim());
    let mut text = format!(r#"{{"embeddings":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{bytes}]}}}}"#);
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text.bytes());
    write_rows(index, path, &header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ann::{Element, sample};
    use proptest::prelude::*;

    fn flat(dir: &Path, vectors: &[f32], dim: usize) -> FlatIndex {
        let path = dir.join("vectors.bin");
        let mut writer = FlatWriter::create(&path, dim, Element::F32).unwrap();
        writer.push(vectors).unwrap();
        writer.finish().unwrap();
        FlatIndex::open(&path).unwrap()
    }

    fn all(path: &Path) -> Result<(usize, Vec<f32>)> {
        let mut reader = MatrixReader::open(path, None)?;
        let mut values = Vec::new();
        reader.read(0..reader.rows(), &mut values)?;
        Ok((reader.dim(), values))
    }

    fn npy(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let vectors = sample(37, 5, 1);
        let index = flat(dir.path(), &vectors, 5);
        let path = dir.path().join("m");
        for write in [write_npy, write_safetensors] {
            write(&index, &path).unwrap();
            assert_eq!(all(&path).unwrap(), (5, vectors.clone()));
        }
        let tensors = std::fs::read(&path).unwrap();
        let parsed = safetensors::SafeTensors::deserialize(&tensors).unwrap();
        assert_eq!(parsed.tensor("embeddings").unwrap().shape(), &[37, 5]);
        assert!(MatrixReader::open(&path, Some("other")).unwrap_err().to_string().contains("no tensor `other`"));
        let mut reader = MatrixReader::open(&path, Some("embeddings")).unwrap();
        let writer = FlatWriter::create(&dir.path().join("w"), 5, Element::F16).unwrap();
        assert_eq!(import(&mut reader, None, Some(5), true, writer).unwrap(), 37);
        assert_eq!(FlatIndex::open(&dir.path().join("w")).unwrap().len(), 37);
    }

    #[test]
    fn every_float_width() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.npy");
        let doubles: Vec<u8> = [1.0f64, -2.5].iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(&path, npy("<f8", "False", "(2, 1)", &doubles)).unwrap();
        assert_eq!(all(&path).unwrap(), (1, vec![1.0, -2.5]));
        let halves: Vec<u8> = [1.0f32, -2.5].iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
        std::fs::write(&path, npy("<f2", "False", "(1, 2)", &halves)).unwrap();
        assert_eq!(all(&path).unwrap(), (2, vec![1.0, -2.5]));
    }

    #[test]
    fn bad_matrices_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.npy");
        let error = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            all(&path).unwrap_err().to_string()
        };
        let nan: Vec<u8> = [1.0f32, 2.0, 3.0, f32::NAN].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert!(error(&npy("<f4", "False", "(2, 2)", &nan)).contains("row 1, column 1: NaN"));
        assert!(error(&npy("<i8", "False", "(2, 2)", &nan)).contains("type <i8"));
        assert!(error(&npy("<f4", "True", "(2, 2)", &nan)).contains("column-major"));
        assert!(error(&npy("<f4", "False", "(4,)", &nan)).contains("two dimensions"));
        assert!(error(&npy("<f4", "False", "(3, 2)", &nan)).contains("truncated"));
        assert!(error(&npy("<f4", "False", "(9223372036854775807, 9)", &nan)).contains("rows"));
        assert!(error(b"not a matrix at all").contains("neither"));
        assert!(error(b"").contains("too short"));
        let ids = dir.path().join("ids");
        std::fs::write(&ids, "a\nb\na\n").unwrap();
        let text = read_ids(&ids).unwrap_err().to_string();
        assert!(text.contains(":3:") && text.contains("already on line 1"), "{text}");
        std::fs::write(&ids, "a\n\n").unwrap();
        assert!(read_ids(&ids).unwrap_err().to_string().contains("empty id"));
        std::fs::write(&ids, "a\nb").unwrap();
        let ids = read_ids(&ids).unwrap();
        std::fs::write(&path, npy("<f4", "False", "(1, 3)", &[0; 12])).unwrap();
        let run = |ids: Option<&[String]>, dim, normalize| {
            let writer = FlatWriter::create(&dir.path().join("w"), 3, Element::F32).unwrap();
            import(&mut MatrixReader::open(&path, None).unwrap(), ids, dim, normalize, writer)
        };
        assert!(run(Some(&ids), None, false).unwrap_err().to_string().contains("1 rows, but 2 ids"));
        assert!(run(None, Some(384), false).unwrap_err().to_string().contains("384 dimensions"));
        assert!(run(None, Some(3), true).unwrap_err().to_string().contains("row 0 is zero"));
        assert_eq!(run(None, Some(3), false).unwrap(), 1);
    }

    proptest! {
        #[test]
        fn damaged_files_never_crash(at in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<prop::sample::Index>(), tensors in any::<bool>()) {
            let dir = tempfile::tempdir().unwrap();
            let index = flat(dir.path(), &sample(9, 4, 2), 4);
            let path = dir.path().join("m");
            if tensors { write_safetensors(&index, &path).unwrap() } else { write_npy(&index, &path).unwrap() }
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            std::fs::write(&path, &bytes[..cut.index(bytes.len())]).unwrap();
            prop_assert!(all(&path).is_err());
            bytes[at] = value;
            std::fs::write(&path, &bytes).unwrap();
            let _ = all(&path);
        }
    }
}
