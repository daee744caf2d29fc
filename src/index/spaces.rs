//! Named spaces: vectors that were made elsewhere (another encoder, an API, gradients), with an id a row, searched by vector.
//!
//! A space is a part of the index like a shard: a directory of files that never change, published with a generation. `vectors.bin` and
//! `ann.bin` are as in a shard (a FAISS index that was taken over has no `vectors.bin`); `ids.txt` has the ids, one a line, in the order of the rows; `space.json` says what it is. An id that is a
//! document's id in the index leads to that document.
//!
//! Opening maps the vectors and reads the ids into memory (their bytes, and some 50 more each).

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::{IndexDir, Manifest, PartEntry, Snapshot, Transaction};
use crate::ann::flat::FlatWriter;
use crate::ann::{
    Hit, Indexed, IvfParams, Kind, SearchParams, Source, StoredAs, VectorIndex, VectorSettings, normalize,
};
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
    let draft = Draft::new(dir, name, replace)?;
    let path = draft.path.clone();
    let mut ids = Ids::default();
    let mut writer: Option<(FlatWriter, usize)> = None;
    let mut scaled = Vec::new();
    rows(&mut |id, vector| {
        let row = ids.rows.len() as u64;
        let (out, dim) = match &mut writer {
            Some((out, dim)) => (out, *dim),
            None => {
                let out = FlatWriter::create(&path.join(VECTORS_BIN), vector.len(), settings.building())?;
                let (out, dim) = writer.insert((out, vector.len()));
                (out, *dim)
            }
        };
        if vector.len() != dim {
            return Err(Error::invalid(format!("row {row} ({id:?}): {} dimensions, {dim} before", vector.len())));
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
        ids.push(id)
    })?;
    let Some((writer, _)) = writer else { return Err(Error::invalid("there are no vectors to import")) };
    writer.finish()?;
    let meta = finish(&draft.tx, &path, name, unit, settings)?;
    draft.publish(&meta, &ids.text)
}

/// Builds the vector index of a space whose vectors are written in the directory `path`, and drops them where none are to be stored.
fn finish(tx: &Transaction, path: &Path, name: &str, unit: bool, settings: &VectorSettings) -> Result<SpaceMeta> {
    let flat = crate::ann::FlatIndex::open(&path.join(VECTORS_BIN))?;
    let (rows, dim) = (flat.len() as u64, flat.dim());
    let built = settings.resolve(rows, dim);
    built.build(&Source::Flat(&flat), &path.join(ANN_BIN))?;
    drop(flat);
    if built.store.0.is_none() {
        tx.store().remove(&path.join(VECTORS_BIN))?;
    }
    Ok(SpaceMeta { name: name.into(), rows, dim, normalized: unit, vector_index: built })
}

/// Writes a space's ids and description; returns its part of the manifest.
fn described(tx: &Transaction, path: &Path, id: String, meta: &SpaceMeta, ids: &str) -> Result<PartEntry> {
    let store = tx.store();
    store.write_file(&path.join(IDS_TXT), ids.as_bytes())?;
    let json = serde_json::to_vec_pretty(meta).map_err(|e| Error::invalid(format!("space: {e}")))?;
    store.write_file(&path.join(SPACE_JSON), &json)?;
    let mut entry = PartEntry::new(id, 0, 0, 0);
    for (field, value) in [
        ("name", serde_json::json!(meta.name)),
        ("rows", serde_json::json!(meta.rows)),
        ("dim", serde_json::json!(meta.dim)),
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
        let Ok(flat) = space.vectors.flat() else {
            return Err(Error::invalid_hint(
                format!(
                    "the space {:?} has rows of removed documents, and stores no vectors from which to write the others again",
                    space.meta.name
                ),
                "import it again without those rows, with --replace",
            ));
        };
        let mut out = FlatWriter::create(&path.join(VECTORS_BIN), space.meta.dim, flat.element())?;
        let mut lines = String::new();
        for &row in &keep {
            out.copy(flat, row)?;
            lines.push_str(&space.ids[row as usize]);
            lines.push('\n');
        }
        out.finish()?;
        let settings = &space.meta.vector_index;
        let meta = finish(tx, &path, &space.meta.name, space.meta.normalized, settings)?;
        next.spaces.push(described(tx, &path, id, &meta, &lines)?);
    }
    Ok(())
}

/// Publishes the FAISS index in the file `from` as a space named `name`: it is searched as it is, and no vectors are stored beside it. Its id map,
/// written as decimal numbers, gives the ids, or else `ids`; without both they are the numbers of its rows. With `unit`, queries are scaled to length
/// one; whether the vectors in the file are cannot be told.
///
/// # Errors
/// As [`crate::ann::ivf::import`] and [`import`]; another dimension than `dim`; a number of `ids` that is not that of the vectors, or `ids` beside an id map.
pub fn import_faiss(
    dir: &IndexDir,
    name: &str,
    from: &std::path::Path,
    ids: Option<Vec<String>>,
    dim: Option<usize>,
    unit: bool,
    replace: bool,
) -> Result<Manifest> {
    crate::ann::ivf::available()?;
    let draft = Draft::new(dir, name, replace)?;
    let found = crate::ann::ivf::import(from, &draft.path.join(ANN_BIN))?;
    if let Some(dim) = dim.filter(|&dim| dim != found.dim) {
        let what = format!("{}: vectors of {} dimensions, {dim} expected", from.display(), found.dim);
        return Err(Error::invalid(what));
    }
    let given = match (found.ids, ids) {
        (Some(_), Some(_)) => {
            return Err(Error::invalid(format!("{}: it has an id map, so no other ids can be given", from.display())));
        }
        (Some(map), None) => map.iter().map(i64::to_string).collect(),
        (None, Some(ids)) => ids,
        (None, None) => (0..found.rows).map(|row| row.to_string()).collect::<Vec<_>>(),
    };
    if given.len() != found.rows {
        let what = format!("{}: {} vectors, but {} ids", from.display(), found.rows, given.len());
        return Err(Error::invalid(what));
    }
    let mut ids = Ids::default();
    given.into_iter().try_for_each(|id| ids.push(id))?;
    let vector_index = VectorSettings {
        kind: Kind::Ivf,
        store: StoredAs(None),
        ivf: Some(IvfParams { factory: "imported".into(), train: 0 }),
        ..VectorSettings::default()
    };
    let meta = SpaceMeta { name: name.into(), rows: found.rows as u64, dim: found.dim, normalized: unit, vector_index };
    draft.publish(&meta, &ids.text)
}

/// The ids of a space as they come.
#[derive(Default)]
struct Ids {
    /// As `ids.txt` has them.
    text: String,
    rows: HashMap<String, u64>,
}

impl Ids {
    /// Takes the next row's id, which no row before may have.
    fn push(&mut self, id: String) -> Result<()> {
        let row = self.rows.len() as u64;
        if id.is_empty() || id.contains(['\n', '\r']) {
            return Err(Error::invalid(format!("row {row}: {id:?} cannot be an id: it is empty or has a line break")));
        }
        if let Some(first) = self.rows.get(&id) {
            return Err(Error::invalid(format!("row {row}: the id {id:?} is already that of row {first}")));
        }
        self.text.push_str(&id);
        self.text.push('\n');
        self.rows.insert(id, row);
        Ok(())
    }
}

/// A space that is being written.
struct Draft {
    tx: Transaction,
    next: Manifest,
    id: String,
    /// Its directory.
    path: PathBuf,
}

impl Draft {
    /// Begins a space, if the name is free or may be replaced.
    fn new(dir: &IndexDir, name: &str, replace: bool) -> Result<Draft> {
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
        Ok(Draft { tx, next, id, path })
    }

    /// Writes what is not there yet and publishes the generation that has the space.
    fn publish(mut self, meta: &SpaceMeta, ids: &str) -> Result<Manifest> {
        let entry = described(&self.tx, &self.path, self.id, meta, ids)?;
        self.next.spaces.push(entry);
        self.tx.publish(self.next)
    }
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
        let index = self.vectors.searcher(exact)?;
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
