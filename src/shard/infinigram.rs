//! An index that infini-gram has built (version 4), read where it lies: a shard of ours that has no files but `shard.json`.
//!
//! | file | content |
//! |---|---|
//! | `tokenized.N` | the tokens of shard N, each document preceded by a separator whose bytes are all 0xFF |
//! | `table.N` | the suffix array: see [`crate::suffix::pointers`] |
//! | `offset.N` | u64: the byte offset of each document's separator |
//! | `metadata.N`, `metaoff.N` | optional: a JSON line a document, and where it begins (u64) |
//!
//! Nothing is copied and nothing is written there. There is no original text: a document's text is its tokens' bytes laid end to end
//! ([`detokenize`]), made when it is asked for. A document's id is its metadata's `id`, or `tokenized.N/number`.
//!
//! Cost: opening maps the files and compares their lengths with what `shard.json` noted at the import. Reading a document decodes all of
//! it. Whoever looks for an id or a source path first has every metadata line read, once.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use super::ShardMeta;
use crate::corpus::Document;
use crate::error::{Error, Result};
use crate::format::{Access, Array, map_file};
use crate::suffix::index::TokenIndex;
use crate::suffix::layout::SuffixMeta;
use crate::suffix::pointers::PointerIndex;
use crate::tokenize::{Tokenizer, TokenizerKind, ceil_char_boundary, detokenize, floor_char_boundary};

/// Decoded documents that are kept.
const CACHED: usize = 4;

/// Where a shard of infini-gram's lies, and how long its files were at the import.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Source {
    /// The directory, absolute.
    pub directory: PathBuf,
    /// What follows `tokenized.` in the names.
    pub shard: String,
    /// Bytes of a pointer in the table.
    pub pointer: u8,
    /// Bytes of each file, by the first part of its name.
    pub bytes: std::collections::BTreeMap<String, u64>,
}

impl Source {
    fn path(&self, file: &str) -> PathBuf {
        self.directory.join(format!("{file}.{}", self.shard))
    }

    /// Bytes of the files that exact search needs.
    pub fn exact_bytes(&self) -> u64 {
        ["tokenized", "table"].iter().filter_map(|f| self.bytes.get(*f)).sum()
    }
}

/// The shards of an index of infini-gram, in its own order: by name, so that 10 comes before 2.
///
/// # Errors
/// A directory that cannot be read, or that holds no such index.
pub fn shards(directory: &Path) -> Result<Vec<String>> {
    let list = std::fs::read_dir(directory).map_err(Error::io(directory, "list"))?;
    let mut names = Vec::new();
    for entry in list {
        let name = entry.map_err(Error::io(directory, "list"))?.file_name();
        if let Some(shard) = name.to_str().and_then(|n| n.strip_prefix("tokenized.")) {
            names.push(shard.to_string());
        }
    }
    if names.is_empty() {
        return Err(Error::invalid_hint(
            format!("{}: no index of infini-gram here (no file tokenized.N)", directory.display()),
            "name the directory that was its --save_dir",
        ));
    }
    names.sort();
    Ok(names)
}

/// Describes shard `shard` in `directory` as a shard of ours: reads the lengths of its files and a few of their entries.
///
/// # Errors
/// Files that are missing, or contradict each other or a token width of `width` bytes.
pub fn describe(directory: &Path, shard: &str, width: u8, tokenizer: &Tokenizer) -> Result<ShardMeta> {
    let mut source = Source {
        directory: std::path::absolute(directory).map_err(Error::io(directory, "resolve"))?,
        shard: shard.to_string(),
        pointer: 0,
        bytes: Default::default(),
    };
    for (file, needed) in
        [("tokenized", true), ("table", true), ("offset", true), ("metadata", false), ("metaoff", false)]
    {
        let path = source.path(file);
        match std::fs::metadata(&path) {
            Ok(m) => source.bytes.insert(file.to_string(), m.len()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !needed => None,
            Err(e) => return Err(Error::io(&path, "open")(e)),
        };
    }
    let bytes = |file: &str| source.bytes.get(file).copied().unwrap_or(0);
    let (tokens, table, offsets) = (bytes("tokenized"), bytes("table"), bytes("offset"));
    let path = source.path("tokenized");
    let bad = |what: String| {
        Error::invalid_hint(
            format!("{}: {what}", path.display()),
            "is --token-width right, and is it an index of version 4?",
        )
    };
    if !matches!(width, 1 | 2 | 4) {
        return Err(Error::invalid(format!("a token of {width} bytes: infini-gram has 1, 2 or 4")));
    }
    let stream = tokens / u64::from(width);
    if tokens % u64::from(width) != 0 || stream == 0 || table % stream != 0 || !(1..=8).contains(&(table / stream)) {
        return Err(bad(format!(
            "{tokens} bytes of tokens of {width} bytes and a table of {table} bytes do not fit together"
        )));
    }
    let documents = offsets / 8;
    if offsets % 8 != 0 || documents == 0 || documents > stream || documents >= u64::from(u32::MAX) {
        return Err(bad(format!("{offsets} bytes of document offsets are impossible for {stream} tokens")));
    }
    if source.bytes.contains_key("metadata") != source.bytes.contains_key("metaoff") {
        return Err(bad("there is one of metadata and metaoff without the other".into()));
    }
    if source.bytes.contains_key("metaoff") && bytes("metaoff") != offsets {
        return Err(bad("metaoff and offset have different numbers of documents".into()));
    }
    source.pointer = (table / stream) as u8;
    let separator = u32::MAX >> (32 - 8 * u32::from(width));
    let meta = ShardMeta {
        documents,
        tokens: stream - documents,
        text_bytes: 0,
        tokenizer: tokenizer.spec.clone(),
        width,
        layout: super::Layout::Infinigram,
        detokenized: true,
        source: Some(source),
        terms: None,
        suffix: SuffixMeta::new(stream, documents, separator).without_runs(),
    };
    Files::open(&path, &meta)?.check(&path, documents)?;
    Ok(meta)
}

/// The mapped tokens and table of a shard.
#[derive(Clone)]
pub struct Files {
    tokens: Array<u8>,
    table: Array<u8>,
    width: usize,
    pointer: usize,
    ranks: usize,
}

fn source<'a>(told_by: &Path, meta: &'a ShardMeta) -> Result<&'a Source> {
    meta.source.as_ref().ok_or_else(|| Error::corrupt(told_by, 0, "it does not say where the imported index is"))
}

/// Maps a file of the index, which must be as long as it was at the import.
fn map<T: bytemuck::AnyBitPattern>(source: &Source, file: &str) -> Result<Array<T>> {
    let path = source.path(file);
    let found = std::fs::metadata(&path).map_err(Error::io(&path, "open"))?.len();
    let noted = source.bytes.get(file).copied().unwrap_or(0);
    if found != noted {
        return Err(Error::invalid_hint(
            format!("{}: the file has {found} bytes, at its import it had {noted}", path.display()),
            "the imported index was changed: restore it, or import it again into a new index",
        ));
    }
    map_file(&path)
}

impl Files {
    /// Maps the files that `meta` names; `told_by` is where it was read.
    pub(super) fn open(told_by: &Path, meta: &ShardMeta) -> Result<Files> {
        let source = source(told_by, meta)?;
        let (tokens, table): (Array<u8>, Array<u8>) = (map(source, "tokenized")?, map(source, "table")?);
        // Queries land anywhere: reading ahead would only evict what is used.
        tokens.advise(Access::Random)?;
        table.advise(Access::Random)?;
        let (width, pointer) = (usize::from(meta.width), usize::from(source.pointer));
        let stream = tokens.len() / width.max(1);
        if meta.suffix.stream != stream as u64 || table.len() != stream * pointer || meta.suffix.ranks > stream as u64 {
            return Err(Error::corrupt(told_by, 0, "its numbers contradict the lengths of the imported files"));
        }
        Ok(Files { tokens, table, width, pointer, ranks: meta.suffix.ranks as usize })
    }

    /// The suffix array as a view; costs nothing.
    pub(super) fn view(&self) -> PointerIndex<'_> {
        PointerIndex::new(&self.tokens, &self.table, self.width, self.pointer, self.ranks)
    }

    /// Looks at the places that tell a wrong width, another byte order or another version.
    fn check(&self, path: &Path, documents: u64) -> Result<()> {
        let separator = vec![0xFF; self.width];
        let begins_with_separator = |rank: usize| {
            let at = self.view().offset(rank);
            self.tokens.get(at..at.saturating_add(self.width)) == Some(&separator[..])
        };
        let (first, last) = (self.ranks, self.ranks + documents as usize - 1);
        let sound = self.tokens.starts_with(&separator)
            && begins_with_separator(first)
            && begins_with_separator(last)
            && (self.ranks == 0 || !begins_with_separator(self.ranks - 1));
        match sound {
            true => Ok(()),
            false => Err(Error::invalid_hint(
                format!(
                    "{}: not a token stream of {}-byte tokens whose documents begin with a separator and whose suffixes are sorted by their bytes",
                    path.display(),
                    self.width
                ),
                "is --token-width right, and is it an index of version 4?",
            )),
        }
    }
}

/// Paths and ids of all documents, read once from the metadata.
struct Catalog {
    paths: Vec<String>,
    path_numbers: Vec<u32>,
    ids: HashMap<String, Vec<u32>>,
}

/// The documents of an imported shard.
pub struct ImportedDocuments {
    files: Files,
    offsets: Array<u64>,
    metadata: Option<(Array<u8>, Array<u64>)>,
    /// `directory/tokenized.N`.
    name: String,
    tokenizer: OnceLock<Arc<Tokenizer>>,
    spec: crate::tokenize::TokenizerSpec,
    catalog: OnceLock<Catalog>,
    /// Decoded texts, the one used last at the end.
    cache: Mutex<Vec<(u32, Arc<str>)>>,
}

impl ImportedDocuments {
    /// Maps the files that `meta` names; `told_by` is where it was read.
    pub(super) fn open(told_by: &Path, meta: &ShardMeta) -> Result<ImportedDocuments> {
        let source = source(told_by, meta)?;
        let metadata = match source.bytes.contains_key("metadata") {
            true => Some((map(source, "metadata")?, map(source, "metaoff")?)),
            false => None,
        };
        Ok(ImportedDocuments {
            files: Files::open(told_by, meta)?,
            offsets: map(source, "offset")?,
            metadata,
            name: source.path("tokenized").display().to_string(),
            tokenizer: OnceLock::new(),
            spec: meta.tokenizer.clone(),
            catalog: OnceLock::new(),
            cache: Mutex::new(Vec::new()),
        })
    }

    /// The tokenizer to decode with; without it, the one the shard names is opened when text is asked for.
    pub(crate) fn decode_with(&self, tokenizer: &Arc<Tokenizer>) {
        let _ = self.tokenizer.set(tokenizer.clone());
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Positions of the token stream: see [`crate::suffix::pointers`].
    pub(super) fn tokens(&self) -> u64 {
        (self.files.tokens.len() / self.files.width) as u64
    }

    pub(super) fn token_range(&self, i: u32) -> Option<Range<u64>> {
        let at = |i: usize| self.offsets.get(i).map(|&byte| byte / self.files.width as u64);
        let start = at(i as usize)?;
        let end = at(i as usize + 1).unwrap_or(self.tokens()).min(self.tokens());
        (start <= end).then_some(start..end)
    }

    pub(super) fn document_at(&self, position: u64) -> Option<u32> {
        if position >= self.tokens() {
            return None;
        }
        // Position p is that of the token behind p's: the separator of the next document belongs to the one before.
        let byte = position.saturating_mul(self.files.width as u64);
        self.offsets.partition_point(|&o| o <= byte).checked_sub(1).map(|i| i as u32)
    }

    /// The ids of a document.
    fn ids(&self, i: u32) -> Result<Vec<u32>> {
        let range = self.token_range(i).ok_or_else(|| self.missing(i))?;
        let end = range.end.saturating_sub(1).max(range.start);
        Ok(self.files.view().read(range.start as usize..end as usize).into_owned())
    }

    fn missing(&self, i: u32) -> Error {
        Error::invalid(format!("{}: no document {i}; there are {}", self.name, self.len()))
    }

    pub(super) fn text(&self, i: u32) -> Result<Arc<str>> {
        let lock = |cache: &Mutex<Vec<(u32, Arc<str>)>>| -> Option<Arc<str>> {
            let cache = cache.lock().ok()?;
            cache.iter().find(|(number, _)| *number == i).map(|(_, text)| text.clone())
        };
        if let Some(text) = lock(&self.cache) {
            return Ok(text);
        }
        let tokenizer = match self.tokenizer.get() {
            Some(t) => t.clone(),
            None => {
                let opened = Arc::new(Tokenizer::from_spec(&self.spec)?);
                self.tokenizer.get_or_init(|| opened).clone()
            }
        };
        let TokenizerKind::Closed(t) = &tokenizer.kind else {
            return Err(Error::invalid("an index of words has no token ids to read back"));
        };
        let text: Arc<str> = detokenize(&**t, &self.ids(i)?).into();
        if let Ok(mut cache) = self.cache.lock() {
            if cache.len() >= CACHED {
                cache.remove(0);
            }
            cache.push((i, text.clone()));
        }
        Ok(text)
    }

    pub(super) fn text_range(&self, i: u32, range: Range<usize>) -> Result<(String, Range<usize>)> {
        let text = self.text(i)?;
        if range.start > range.end || range.end > text.len() {
            return Err(Error::invalid(format!("bytes {range:?} of a text of {} bytes", text.len())));
        }
        let wide = floor_char_boundary(&text, range.start)..ceil_char_boundary(&text, range.end);
        Ok((text[wide.clone()].to_string(), wide))
    }

    /// All of a document but its text.
    pub(super) fn get_without_text(&self, i: u32) -> Result<Document> {
        if i as usize >= self.len() {
            return Err(self.missing(i));
        }
        let number = |i: u32| format!("{}/{i}", Path::new(&self.name).file_name().unwrap_or_default().display());
        let mut document = Document { path: self.name.clone(), record: u64::from(i), ..Document::default() };
        if let Some((lines, starts)) = &self.metadata {
            let start = starts.get(i as usize).copied().unwrap_or(0) as usize;
            let end = starts.get(i as usize + 1).map_or(lines.len(), |&end| end as usize);
            let line = lines.get(start..end).unwrap_or_default();
            let bad = |what: String| Error::corrupt(lines.path(), start as u64, format!("document {i}: {what}"));
            let mut fields: serde_json::Map<String, serde_json::Value> =
                serde_json::from_slice(line).map_err(|e| bad(format!("its metadata is no JSON object: {e}")))?;
            if let Some(path) = fields.get("path").and_then(|p| p.as_str()) {
                document.path = path.to_string();
            }
            if let Some(line) = fields.get("linenum").and_then(|n| n.as_u64()) {
                document.record = line;
            }
            if let Some(serde_json::Value::Object(inner)) = fields.remove("metadata") {
                document.metadata = inner;
            }
        }
        document.id = match document.metadata.get("id") {
            Some(serde_json::Value::String(id)) => id.clone(),
            Some(serde_json::Value::Number(id)) => id.to_string(),
            _ => number(i),
        };
        Ok(document)
    }

    fn catalog(&self) -> Result<&Catalog> {
        if let Some(known) = self.catalog.get() {
            return Ok(known);
        }
        let mut catalog = Catalog { paths: Vec::new(), path_numbers: Vec::new(), ids: HashMap::new() };
        let mut numbers: HashMap<String, u32> = HashMap::new();
        for i in 0..self.len() as u32 {
            let document = self.get_without_text(i)?;
            let next = numbers.len() as u32;
            let number = *numbers.entry(document.path).or_insert_with_key(|path| {
                catalog.paths.push(path.clone());
                next
            });
            catalog.path_numbers.push(number);
            catalog.ids.entry(document.id).or_default().push(i);
        }
        Ok(self.catalog.get_or_init(|| catalog))
    }

    pub(super) fn path_list(&self) -> Result<Vec<&str>> {
        Ok(self.catalog()?.paths.iter().map(String::as_str).collect())
    }

    pub(super) fn path_number(&self, i: u32) -> Result<u32> {
        self.catalog()?.path_numbers.get(i as usize).copied().ok_or_else(|| self.missing(i))
    }

    pub(super) fn path(&self, i: u32) -> Result<&str> {
        let catalog = self.catalog()?;
        let number = self.path_number(i)?;
        catalog.paths.get(number as usize).map(String::as_str).ok_or_else(|| self.missing(i))
    }

    pub(super) fn find_id(&self, id: &str) -> Result<Vec<u32>> {
        Ok(self.catalog()?.ids.get(id).cloned().unwrap_or_default())
    }
}
