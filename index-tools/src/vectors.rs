//! `index-tools import-vectors` and `export-vectors`: named spaces of embeddings made elsewhere, and chunks with their vectors for other
//! programs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use priorart::ann::{
    ChunkRow, FlatIndex, Kind, MatrixReader, ParquetWriter, StoredAs, VectorSettings, read_ids, read_parquet,
    write_npy, write_safetensors,
};
use priorart::index::spaces::{Space, Take, import, import_faiss};
use priorart::index::{DocumentRef, IndexDir, Snapshot};
use priorart::query::neighbors::no_embeddings;
use priorart::{Error, Result};

/// Import embeddings made elsewhere (another encoder, an API, gradients) as a named space of an index.
///
/// Ids that are ids of documents lead to these documents. Search it with `priorart neighbors --space NAME`.
#[derive(Args)]
pub struct Import {
    /// The index
    #[arg(long, env = "PRIORART_INDEX", value_name = "DIR")]
    index: PathBuf,
    /// Name of the space
    #[arg(long, value_name = "NAME")]
    space: String,
    /// The vectors: .npy, .safetensors or .parquet (with a column of ids and a list column of floats); or a FAISS index, .faiss
    /// or .index, which is searched as it is (needs a build with --features faiss)
    #[arg(value_name = "FILE")]
    vectors: PathBuf,
    /// The ids of the rows, one a line; for .npy and .safetensors, and for a FAISS index without an id map
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Name of the matrix in a .safetensors file that has several
    #[arg(long, value_name = "NAME")]
    tensor: Option<String>,
    /// Parquet: column of ids
    #[arg(long, default_value = "id", value_name = "COLUMN")]
    id_column: String,
    /// Parquet: column of vectors
    #[arg(long, default_value = "vector", value_name = "COLUMN")]
    vector_column: String,
    /// Take the vectors as they are instead of scaling them to length one: similarity is then the inner product
    #[arg(long)]
    keep_length: bool,
    /// Refuse another dimension than this
    #[arg(long, value_name = "D")]
    dim: Option<usize>,
    /// auto, flat, hnsw, hnsw_rs or ivf
    #[arg(long, default_value = "auto", value_name = "KIND")]
    vector_index: Kind,
    /// Stored vectors: f32, f16, int8, or none (similarities are then those of the index's codes)
    #[arg(long, default_value = "f32", value_name = "TYPE")]
    store: StoredAs,
    /// Replace a space of the same name
    #[arg(long)]
    replace: bool,
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "parquet")
}

fn is_faiss(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "faiss" || e == "index")
}

impl Import {
    /// Runs the subcommand.
    pub fn run(self) -> Result<ExitCode> {
        let dir = IndexDir::open(&self.index)?;
        let settings = VectorSettings { kind: self.vector_index, store: self.store, ..VectorSettings::default() };
        let fits = |found: usize| match self.dim {
            Some(dim) if dim != found => Err(Error::invalid(format!(
                "{}: vectors of {found} dimensions, --dim says {dim}",
                self.vectors.display()
            ))),
            _ => Ok(()),
        };
        let published = if is_faiss(&self.vectors) {
            let ids = self.ids.as_deref().map(read_ids).transpose()?;
            import_faiss(&dir, &self.space, &self.vectors, ids, self.dim, !self.keep_length, self.replace)?
        } else if is_parquet(&self.vectors) {
            let mut rows = |take: Take| {
                read_parquet(&self.vectors, &self.id_column, &self.vector_column, &mut |id, vector| {
                    fits(vector.len())?;
                    take(id, vector)
                })
                .map(|_| ())
            };
            import(&dir, &self.space, &settings, !self.keep_length, self.replace, &mut rows)?
        } else {
            let mut matrix = MatrixReader::open(&self.vectors, self.tensor.as_deref())?;
            fits(matrix.dim())?;
            let Some(path) = &self.ids else {
                return Err(Error::invalid_hint(
                    format!("{}: a matrix has no ids of its own", self.vectors.display()),
                    "pass --ids FILE with one id a line",
                ));
            };
            let ids = read_ids(path)?;
            if ids.len() != matrix.rows() {
                return Err(Error::invalid(format!(
                    "{}: {} rows, but {} ids in {}",
                    self.vectors.display(),
                    matrix.rows(),
                    ids.len(),
                    path.display()
                )));
            }
            let dim = matrix.dim();
            let mut rows = |take: Take| {
                let mut values = Vec::new();
                for (first, some) in ids.chunks(4096).enumerate() {
                    values.clear();
                    matrix.read(first * 4096..first * 4096 + some.len(), &mut values)?;
                    for (id, vector) in some.iter().zip(values.chunks_exact(dim)) {
                        take(id.clone(), vector)?;
                    }
                }
                Ok(())
            };
            import(&dir, &self.space, &settings, !self.keep_length, self.replace, &mut rows)?
        };
        let space = Space::open(&dir, &published, &self.space)?;
        println!(
            "space {}: {} vectors of {} dimensions, {}, generation {}",
            self.space,
            space.meta.rows,
            space.meta.dim,
            space.meta.vector_index.describe(),
            published.generation
        );
        Ok(ExitCode::SUCCESS)
    }
}

/// Export an index's chunks with their vectors as .parquet, or the vectors alone as .npy or .safetensors.
///
/// Rows are in the order of shards and chunks; removed documents are left out. A matrix is that of a space, or of an index with one
/// shard and no removals.
#[derive(Args)]
pub struct Export {
    /// The index
    #[arg(long, env = "PRIORART_INDEX", value_name = "DIR")]
    index: PathBuf,
    /// Export this space (.npy, .safetensors; its ids go to FILE.ids)
    #[arg(long, value_name = "NAME")]
    space: Option<String>,
    /// The file to write: .parquet, .npy or .safetensors
    #[arg(value_name = "FILE")]
    out: PathBuf,
}

impl Export {
    /// Runs the subcommand.
    pub fn run(self) -> Result<ExitCode> {
        let snapshot = Snapshot::open(&self.index)?;
        let rows = if is_parquet(&self.out) && self.space.is_none() {
            chunks(&snapshot, &self.out)?
        } else if let Some(name) = &self.space {
            let space = Space::of(&snapshot, name)?;
            if (0..space.ids.len() as u32).any(|row| space.is_hidden(row)) {
                return Err(Error::invalid_hint(
                    format!("the space {name:?} has rows of removed documents"),
                    "run `index-tools compact`, which takes them out, and export again",
                ));
            }
            matrix(space.vectors.flat()?, &self.out)?;
            let mut path = self.out.clone().into_os_string();
            path.push(".ids");
            let ids: String = space.ids.iter().map(|id| format!("{id}\n")).collect();
            std::fs::write(&path, ids).map_err(Error::io(&path, "write"))?;
            space.ids.len() as u64
        } else {
            let semantic = match snapshot.shards.as_slice() {
                [shard] if snapshot.removals.is_empty() => shard.semantic.as_ref(),
                _ => {
                    return Err(Error::invalid_hint(
                        "a matrix can be made of an index with one shard and no removals",
                        "export to .parquet, which tells the document of each row",
                    ));
                }
            };
            let Some(semantic) = semantic else { return Err(no_embeddings()) };
            matrix(semantic.vectors.flat()?, &self.out)?;
            semantic.len() as u64
        };
        println!("{rows} vectors in {}", self.out.display());
        Ok(ExitCode::SUCCESS)
    }
}

fn matrix(vectors: &FlatIndex, path: &Path) -> Result<()> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("npy") => write_npy(vectors, path),
        Some("safetensors") => write_safetensors(vectors, path),
        _ => Err(Error::invalid(format!("{}: a matrix is written as .npy or .safetensors", path.display()))),
    }
}

fn chunks(snapshot: &Snapshot, path: &Path) -> Result<u64> {
    let Some(dim) = snapshot.dim() else { return Err(no_embeddings()) };
    let mut out = ParquetWriter::create(path, dim)?;
    let (mut count, mut vector) = (0, Vec::new());
    for (number, shard) in (0..).zip(&snapshot.shards) {
        let Some(semantic) = &shard.semantic else { continue };
        let vectors = semantic.vectors.flat()?.rows();
        let mut last = None;
        for row in 0..semantic.len() as u32 {
            let Some(chunk) = semantic.chunk(row) else { continue };
            if snapshot.is_removed(DocumentRef { shard: number, document: chunk.document }) {
                continue;
            }
            if last.as_ref().is_none_or(|(document, _)| *document != chunk.document) {
                last = Some((chunk.document, shard.documents.get(chunk.document)?));
            }
            let Some((_, document)) = &last else { continue };
            let text = document.text.get(chunk.start_byte as usize..chunk.end_byte as usize).unwrap_or_default();
            vector.clear();
            vectors.decode(row, &mut vector);
            let row = ChunkRow {
                shard: number,
                document: chunk.document,
                id: document.id.clone(),
                path: document.path.clone(),
                start_byte: chunk.start_byte,
                end_byte: chunk.end_byte,
                text: text.to_string(),
            };
            out.push(row, &vector)?;
            count += 1;
        }
    }
    out.finish()?;
    Ok(count)
}
