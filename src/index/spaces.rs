//! Named spaces: vectors that were made elsewhere (another encoder, an API, gradients), with an id a row, searched by vector.
//!
//! A space is a part of the index like a shard: a directory of files that never change, published with a generation. `vectors.bin` and
//! `ann.bin` are as in a shard; `ids.txt` has the ids, one a line, in the order of the rows; `space.json` says what it is. An id that is a
//! document's id in the index leads to that document.
//!
//! Opening maps the vectors and reads the ids into memory (their bytes, and some 50 more each).

use std::collections::{HashMap, HashSet};

use super::publish::SPACES;
use super::{IndexDir, Manifest, PartEntry, Snapshot, Transaction};
use crate::ann::flat::FlatWriter;
use crate::ann::{Hit, Indexed, SearchParams, Source, VectorIndex, VectorSettings, normalize};
use crate::error::{Error, Result};
use crate::shard::semantic::{ANN_BIN, VECTORS_BIN};

const SPACE_JSON: &str = "space.json";
const IDS_TXT: &str = "ids.txt";

/// `space.json`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SpaceMeta {
    pub name: String,
    pub rows: u64,
    pub dim: usize,
    /// Whether the vectors were scaled to length one; queries then are as well.
    pub normalized: bool,
    pub vector_index: VectorSettings,
}

/// Takes one row: its id and its vector.
pub type Take<'a> = &'a mut dyn FnMut(String, &[f32]) -> Result<()>;

/// Imports a space named `name` and publishes it; with `unit`, vectors are scaled to length one. `rows` gives every row to the function it is called with.
///
/// Memory: the ids, one row, and what the vector index needs to be built.
///
/// # Errors
/// A name that is taken (unless `replace`) or impossible; no rows; an id that is empty, repeated or has a line break; a vector that is not
/// finite, of another dimension than the first, or zero where vectors are to be normalised. Nothing is published then.
pub fn import(
    dir: &IndexDir,
    name: &str,
    settings: &VectorSettings,
    unit: bool,
    replace: bool,
    rows: &mut dyn FnMut(Take) -> Result<()>,
) -> Result<Manifest> {
    settings.check()?;
    if !super::manifest::is_plain_name(name) {
        return Err(Error::invalid(format!("{name:?} cannot name a space: use letters, digits, `-`, `_`, `.`")));
    }
    let mut tx = dir.begin()?;
    let mut next = tx.manifest().clone();
    let known = next.spaces.iter().position(|part| name_of(part) == name);
    match known {
        Some(at) if replace => drop(next.spaces.remove(at)),
        Some(_) => {
            let hint = "name another, or pass --replace";
            return Err(Error::invalid_hint(format!("there is already a space named {name:?}"), hint));
        }
        None => {}
    }
    let id = tx.next_id();
    let path = tx.new_space_dir(&id)?;
    let mut seen: HashMap<String, u64> = HashMap::new();
    let mut ids = String::new();
    let mut writer: Option<(FlatWriter, usize)> = None;
    let mut scaled = Vec::new();
    rows(&mut |id, vector| {
        let row = seen.len() as u64;
        let (out, dim) = match &mut writer {
            Some((out, dim)) => (out, *dim),
            None => {
                let out = FlatWriter::create(&path.join(VECTORS_BIN), vector.len(), settings.store)?;
                let (out, dim) = writer.insert((out, vector.len()));
                (out, *dim)
            }
        };
        if vector.len() != dim {
            return Err(Error::invalid(format!("row {row} ({id:?}): {} dimensions, {dim} before", vector.len())));
        }
        if id.is_empty() || id.contains(['\n', '\r']) {
            return Err(Error::invalid(format!("row {row}: {id:?} cannot be an id: it is empty or has a line break")));
        }
        if let Some(i) = vector.iter().position(|x| !x.is_finite()) {
            return Err(Error::invalid(format!("row {row} ({id:?}): element {i} is {}", vector[i])));
        }
        scaled.clear();
        scaled.extend_from_slice(vector);
        if unit && normalize(&mut scaled) == 0.0 {
            return Err(Error::invalid(format!("row {row} ({id:?}) is zero and cannot be normalised")));
        }
        out.push(&scaled)?;
        ids.push_str(&id);
        ids.push('\n');
        match seen.insert(id, row) {
            None => Ok(()),
            Some(first) => {
                let id = ids.lines().last().unwrap_or_default().to_string();
                Err(Error::invalid(format!("row {row}: the id {id:?} is already that of row {first}")))
            }
        }
    })?;
    let Some((writer, _)) = writer else { return Err(Error::invalid("there are no vectors to import")) };
    writer.finish()?;
    next.spaces.push(finish(&tx, id, name, &ids, unit, settings)?);
    tx.publish(next)
}

/// Builds the vector index of a space whose vectors are written, writes its other files and returns its entry.
fn finish(
    tx: &Transaction,
    id: String,
    name: &str,
    ids: &str,
    unit: bool,
    settings: &VectorSettings,
) -> Result<PartEntry> {
    let path = tx.tmp().join(SPACES).join(&id);
    let flat = crate::ann::FlatIndex::open(&path.join(VECTORS_BIN))?;
    let (rows, dim) = (flat.len() as u64, flat.dim());
    let built = settings.resolve(rows, dim);
    built.build(&Source::Flat(&flat), &path.join(ANN_BIN))?;
    let store = tx.store();
    store.write_file(&path.join(IDS_TXT), ids.as_bytes())?;
    let meta = SpaceMeta { name: name.into(), rows, dim, normalized: unit, vector_index: built };
    let json = serde_json::to_vec_pretty(&meta).map_err(|e| Error::invalid(format!("space: {e}")))?;
    store.write_file(&path.join(SPACE_JSON), &json)?;
    let mut entry = PartEntry::new(id, 0, 0, 0);
    for (field, value) in [
        ("name", serde_json::json!(name)),
        ("rows", serde_json::json!(rows)),
        ("dim", serde_json::json!(dim)),
        ("vector_index", serde_json::json!(meta.vector_index)),
    ] {
        entry.extra.insert(field.into(), value);
    }
    Ok(entry)
}

/// Ids that only removed documents have: rows of a space with such an id are hidden.
pub fn removed_ids(snapshot: &Snapshot) -> Result<HashSet<String>> {
    let mut ids = HashSet::new();
    for (number, shard) in snapshot.shards.iter().enumerate() {
        for removal in &snapshot.removals {
            for document in removal.documents.documents(number) {
                ids.insert(shard.documents.id(document)?);
            }
        }
    }
    let mut gone = HashSet::new();
    for id in ids {
        if snapshot.find_id(&id)?.is_empty() {
            gone.insert(id);
        }
    }
    Ok(gone)
}

/// Writes the spaces of `next` that have rows named in `ids` again without them. A space of nothing else is dropped.
pub(super) fn without(tx: &mut Transaction, next: &mut Manifest, dir: &IndexDir, ids: &HashSet<String>) -> Result<()> {
    for part in std::mem::take(&mut next.spaces) {
        let space = Space::open_part(dir, &part)?;
        let keep: Vec<u32> = (0..).zip(&space.ids).filter(|(_, id)| !ids.contains(*id)).map(|(row, _)| row).collect();
        if keep.len() == space.ids.len() {
            next.spaces.push(part);
            continue;
        }
        if keep.is_empty() {
            continue;
        }
        let id = tx.next_id();
        let path = tx.new_space_dir(&id)?;
        let flat = space.vectors.flat();
        let mut out = FlatWriter::create(&path.join(VECTORS_BIN), space.meta.dim, flat.element())?;
        let mut lines = String::new();
        for &row in &keep {
            out.copy(flat, row)?;
            lines.push_str(&space.ids[row as usize]);
            lines.push('\n');
        }
        out.finish()?;
        let settings = &space.meta.vector_index;
        next.spaces.push(finish(tx, id, &space.meta.name, &lines, space.meta.normalized, settings)?);
    }
    Ok(())
}

/// The name that a space's part of the manifest tells.
fn name_of(part: &PartEntry) -> &str {
    part.extra.get("name").and_then(|n| n.as_str()).unwrap_or_default()
}

/// An opened space.
pub struct Space {
    pub meta: SpaceMeta,
    /// The id of each row.
    pub ids: Vec<String>,
    pub vectors: Indexed,
    rows: HashMap<String, u32>,
    hidden: HashSet<u32>,
}

/// A row near a query.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SpaceHit {
    pub row: u32,
    pub id: String,
    pub score: f32,
}

impl Space {
    /// Opens the space `name` of a generation.
    pub fn open(dir: &IndexDir, manifest: &Manifest, name: &str) -> Result<Space> {
        let Some(part) = manifest.spaces.iter().find(|part| name_of(part) == name) else {
            let known: Vec<&str> = manifest.spaces.iter().map(name_of).collect();
            let hint = match known.is_empty() {
                true => "it has none: `index-tools import-vectors` makes one".into(),
                false => format!("it has {}", known.join(", ")),
            };
            return Err(Error::invalid_hint(format!("the index has no space named {name:?}"), hint));
        };
        Space::open_part(dir, part)
    }

    fn open_part(dir: &IndexDir, part: &PartEntry) -> Result<Space> {
        let path = dir.space_dir(&part.id);
        let read = |file: &str| -> Result<(std::path::PathBuf, Vec<u8>)> {
            let path = path.join(file);
            let bytes = std::fs::read(&path).map_err(Error::io(&path, "read"))?;
            Ok((path, bytes))
        };
        let (json, bytes) = read(SPACE_JSON)?;
        let meta: SpaceMeta =
            serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(&json, 0, format!("not a space: {e}")))?;
        let (txt, bytes) = read(IDS_TXT)?;
        let text = String::from_utf8(bytes).map_err(|e| Error::corrupt(&txt, 0, e.to_string()))?;
        let ids: Vec<String> = text.lines().map(String::from).collect();
        let vectors = Indexed::open(&path.join(VECTORS_BIN), &path.join(ANN_BIN), Some(&meta.vector_index))?;
        if ids.len() != vectors.len() {
            return Err(Error::corrupt(&txt, 0, format!("{} ids for {} vectors", ids.len(), vectors.len())));
        }
        let rows = ids.iter().cloned().zip(0..).collect();
        Ok(Space { meta, ids, vectors, rows, hidden: HashSet::new() })
    }

    /// Opens the space `name` of a snapshot; rows whose ids only removed documents have are hidden.
    pub fn of(snapshot: &Snapshot, name: &str) -> Result<Space> {
        let mut space = Space::open(&snapshot.dir, &snapshot.manifest, name)?;
        let gone = removed_ids(snapshot)?;
        space.hidden = gone.iter().filter_map(|id| space.rows.remove(id)).collect();
        Ok(space)
    }

    /// Whether a row is hidden, because its document was removed.
    pub fn is_hidden(&self, row: u32) -> bool {
        self.hidden.contains(&row)
    }

    /// The row with this id.
    pub fn row(&self, id: &str) -> Option<u32> {
        self.rows.get(id).copied()
    }

    /// The `k` rows nearest to each query, or all with a similarity of `at_least`; a query's own row (`own`) is left out.
    ///
    /// # Errors
    /// Queries of another dimension, not finite, or zero in a normalised space.
    pub fn neighbors(
        &self,
        queries: &[f32],
        dim: usize,
        own: Option<u32>,
        (k, at_least): (usize, Option<f32>),
        params: &SearchParams,
        exact: bool,
    ) -> Result<Vec<Vec<SpaceHit>>> {
        if dim != self.meta.dim {
            return Err(Error::EncoderMismatch {
                index: format!("vectors of {} dimensions in the space {:?}", self.meta.dim, self.meta.name),
                query: format!("vectors of {dim}"),
            });
        }
        let mut queries = queries.to_vec();
        if self.meta.normalized {
            for (i, query) in queries.chunks_exact_mut(dim).enumerate() {
                if normalize(query) == 0.0 {
                    return Err(Error::invalid(format!("vector {i} is zero: nothing is near it")));
                }
            }
        }
        let index = self.vectors.searcher(exact);
        let keep = |row: u32| Some(row) != own && !self.is_hidden(row);
        let filtered = own.is_some() || !self.hidden.is_empty();
        let keep: Option<crate::ann::Keep> = if filtered { Some(&keep) } else { None };
        let found = match at_least {
            Some(least) => index.within(&queries, least, params, keep)?,
            None => index.search(&queries, k, params, keep)?,
        };
        let named = |h: Hit| {
            let id = self.ids.get(h.row as usize).cloned().unwrap_or_default();
            SpaceHit { row: h.row, id, score: h.score }
        };
        Ok(found.into_iter().map(|hits| hits.into_iter().map(named).collect()).collect())
    }
}
