//! Corpora that were tokenised before: token streams with their document boundaries, as training programs leave them.
//!
//! | format | tokens | boundaries |
//! |---|---|---|
//! | `olmo` | headerless `.npy`, two or four bytes a token | `.csv.gz` beside it: `start,end,id,src,loc` a document, in tokens; without it the end-of-document id |
//! | `megatron` | `.bin` | `.idx` beside it: magic `MMIDIDX`, type of the tokens, lengths of the sequences, documents as ranges of them |
//! | `datatrove` | `.ds`, two or four bytes a token | `.ds.index`: the end of each document in tokens (u64) |
//! | `raw` | any file of little-endian tokens | the end-of-document id |
//!
//! A document comes with its tokens and without a text; whoever builds an index makes the text of them
//! ([`crate::tokenize::detokenize`]). One end-of-document id at a document's end is not part of it, where the user names that id.
//!
//! Memory: one document; of `megatron`, its `.idx` is mapped.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{CorpusReader, Document, SourceFile};
use crate::error::{Error, Result};
use crate::format::{Array, map_file};

/// The most bytes of tokens a document may have.
const MAX_DOCUMENT: u64 = super::MAX_RECORD_BYTES as u64;

/// How a token stream tells its documents apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum TokenFormat {
    /// OLMo and Dolma: headerless .npy with .csv.gz beside it
    Olmo,
    /// Megatron: .bin with .idx beside it
    Megatron,
    /// datatrove: .ds with .ds.index beside it
    Datatrove,
    /// Any file of tokens, documents ended by an id
    Raw,
}

impl TokenFormat {
    /// The extension its files have in a directory.
    pub(super) fn extension(self) -> &'static str {
        match self {
            TokenFormat::Olmo => "npy",
            TokenFormat::Megatron | TokenFormat::Raw => "bin",
            TokenFormat::Datatrove => "ds",
        }
    }
}

/// How to read token streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TokenInput {
    pub format: TokenFormat,
    /// Bytes of a token: 2 or 4. Megatron's files tell it themselves.
    pub width: u8,
    /// The id that ends a document.
    pub end_of_document: Option<u32>,
}

/// Where documents begin and end.
enum Boundaries {
    /// Lines of a CSV file.
    Csv {
        path: PathBuf,
        lines: Box<dyn BufRead + Send>,
        line: u64,
    },
    /// Ends in tokens, eight bytes each.
    Ends {
        path: PathBuf,
        ends: BufReader<File>,
        last: u64,
    },
    Megatron(Megatron),
    /// At the end-of-document id.
    Id(u32),
}

/// The boundaries of one document.
struct Piece {
    start: u64,
    end: u64,
    id: Option<String>,
    source: Option<String>,
}

/// Reads one file of tokens.
pub(super) struct TokenReader {
    path: PathBuf,
    file: BufReader<File>,
    /// Position of `file` in tokens, and tokens of it.
    at: u64,
    tokens: u64,
    width: usize,
    end_of_document: Option<u32>,
    boundaries: Boundaries,
    record: u64,
    buffer: Vec<u8>,
}

impl TokenReader {
    pub(super) fn open(file: &SourceFile, input: &TokenInput) -> Result<TokenReader> {
        let path = file.path.clone();
        let mut width = usize::from(input.width);
        let needs_id = |what: &str| {
            input.end_of_document.map(Boundaries::Id).ok_or_else(|| {
                Error::invalid_hint(
                    format!("{}: {what}", path.display()),
                    "pass --end-of-document ID, the id that ends each document",
                )
            })
        };
        let beside = |extension: &str| -> PathBuf { path.with_extension(extension) };
        let boundaries = match input.format {
            TokenFormat::Olmo => match open_csv(&path)? {
                Some(csv) => csv,
                None => needs_id("there is no .csv.gz beside it that tells where documents end")?,
            },
            TokenFormat::Megatron => {
                let index = Megatron::open(&beside("idx"))?;
                width = index.width;
                Boundaries::Megatron(index)
            }
            TokenFormat::Datatrove => {
                let mut name = path.as_os_str().to_owned();
                name.push(".index");
                let index = PathBuf::from(name);
                let ends = BufReader::new(File::open(&index).map_err(Error::io(&index, "open"))?);
                Boundaries::Ends { path: index, ends, last: 0 }
            }
            TokenFormat::Raw => needs_id("nothing tells where its documents end")?,
        };
        let mut opened = BufReader::with_capacity(1 << 18, File::open(&path).map_err(Error::io(&path, "open"))?);
        // A .npy with a header is another format under the same name.
        if opened.fill_buf().map_err(Error::io(&path, "read"))?.starts_with(b"\x93NUMPY") {
            return Err(Error::invalid_hint(
                format!("{}: it has a NumPy header, which no token file of these formats has", path.display()),
                "write the array with numpy.ndarray.tofile",
            ));
        }
        let bytes = opened.get_ref().metadata().map_err(Error::io(&path, "inspect"))?.len();
        if width == 0 || bytes % width as u64 != 0 {
            return Err(Error::Damaged {
                what: format!("{bytes} bytes are no whole number of tokens of {width} bytes"),
                offset: bytes,
                path,
            });
        }
        Ok(TokenReader {
            tokens: bytes / width as u64,
            path,
            file: opened,
            at: 0,
            width,
            end_of_document: input.end_of_document,
            boundaries,
            record: 0,
            buffer: Vec::new(),
        })
    }

    fn bad(&self, what: String) -> Error {
        let byte = self.at * self.width as u64;
        Error::Record { path: self.path.clone(), line: self.record, byte, what }
    }

    /// Appends the ids in `self.buffer` to `out`.
    fn decode(&self, out: &mut Vec<u32>) -> Result<()> {
        for token in self.buffer.chunks_exact(self.width) {
            let mut id = [0; 8];
            id[..self.width].copy_from_slice(token);
            let id = u64::from_le_bytes(id);
            out.push(u32::try_from(id).map_err(|_| self.bad(format!("{id} is no token id")))?);
        }
        Ok(())
    }

    /// Reads the tokens of a piece.
    fn piece(&mut self, piece: &Piece, out: &mut Vec<u32>) -> Result<()> {
        if piece.start > piece.end || piece.end > self.tokens {
            let what = format!("its tokens {}..{} are outside the file's {}", piece.start, piece.end, self.tokens);
            return Err(self.bad(what));
        }
        let bytes = (piece.end - piece.start) * self.width as u64;
        if bytes > MAX_DOCUMENT {
            return Err(self.bad(format!("a document of {bytes} bytes of tokens; the limit is {MAX_DOCUMENT}")));
        }
        if piece.start != self.at {
            let to = piece.start * self.width as u64;
            self.file.seek(SeekFrom::Start(to)).map_err(Error::io(&self.path, "read"))?;
        }
        self.buffer.resize(bytes as usize, 0);
        self.file.read_exact(&mut self.buffer).map_err(Error::io(&self.path, "read"))?;
        self.at = piece.end;
        self.decode(out)?;
        if self.end_of_document.is_some() && out.last().copied() == self.end_of_document {
            out.pop();
        }
        Ok(())
    }

    /// Reads up to and with the next end-of-document id; false at the end of the file.
    fn until(&mut self, id: u32, out: &mut Vec<u32>) -> Result<bool> {
        let mut any = false;
        loop {
            let ready = self.file.fill_buf().map_err(Error::io(&self.path, "read"))?;
            let whole = ready.len() / self.width * self.width;
            if whole == 0 {
                if ready.is_empty() {
                    return Ok(any);
                }
                // A token that straddles the buffer's end.
                self.buffer.resize(self.width, 0);
                self.file.read_exact(&mut self.buffer).map_err(Error::io(&self.path, "read"))?;
            } else {
                let wanted = &id.to_le_bytes()[..self.width.min(4)];
                let end = ready[..whole].chunks_exact(self.width).position(|token| token == wanted);
                let taken = end.map_or(whole, |i| (i + 1) * self.width);
                self.buffer.clear();
                self.buffer.extend_from_slice(&ready[..taken]);
                self.file.consume(taken);
            }
            any = true;
            self.at += (self.buffer.len() / self.width) as u64;
            self.decode(out)?;
            if out.last() == Some(&id) {
                out.pop();
                return Ok(true);
            }
            if out.len() as u64 * self.width as u64 > MAX_DOCUMENT {
                return Err(Error::Damaged {
                    path: self.path.clone(),
                    offset: self.at * self.width as u64,
                    what: format!(
                        "no end-of-document id {id} in {MAX_DOCUMENT} bytes: is it the right id and token width?"
                    ),
                });
            }
        }
    }
}

impl CorpusReader for TokenReader {
    fn next(&mut self, doc: &mut Document) -> Result<bool> {
        *doc = Document { path: self.path.display().to_string(), record: self.record, ..Document::default() };
        let mut tokens = Vec::new();
        let piece = match &mut self.boundaries {
            Boundaries::Id(id) => {
                let id = *id;
                self.record += 1;
                if !self.until(id, &mut tokens)? {
                    return Ok(false);
                }
                None
            }
            Boundaries::Csv { path, lines, line } => csv_piece(path, lines, line)?,
            Boundaries::Ends { path, ends, last } => ends_piece(path, ends, last)?,
            Boundaries::Megatron(index) => index.next()?,
        };
        match (piece, &self.boundaries) {
            (None, Boundaries::Id(_)) => {}
            (None, _) => return Ok(false),
            (Some(piece), _) => {
                self.record += 1;
                doc.id = piece.id.clone().unwrap_or_default();
                if let Some(source) = &piece.source {
                    doc.metadata.insert("source".into(), source.as_str().into());
                }
                self.piece(&piece, &mut tokens)?;
            }
        }
        if doc.id.is_empty() {
            doc.id = format!("{}:{}", doc.path, doc.record);
        }
        doc.tokens = Some(tokens);
        Ok(true)
    }

    fn raw(&self) -> Option<&[u8]> {
        None
    }

    fn bytes_read(&self) -> u64 {
        self.at * self.width as u64
    }
}

/// The table of documents beside an OLMo file, if there is one.
fn open_csv(tokens: &Path) -> Result<Option<Boundaries>> {
    for extension in ["csv.gz", "csv"] {
        let path = tokens.with_extension(extension);
        if !path.exists() {
            continue;
        }
        let file = File::open(&path).map_err(Error::io(&path, "open"))?;
        let lines: Box<dyn BufRead + Send> = match extension {
            "csv" => Box::new(BufReader::new(file)),
            _ => Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(file))),
        };
        return Ok(Some(Boundaries::Csv { path, lines, line: 0 }));
    }
    Ok(None)
}

/// The next document of a table.
fn csv_piece(path: &Path, lines: &mut Box<dyn BufRead + Send>, line: &mut u64) -> Result<Option<Piece>> {
    loop {
        let mut text = String::new();
        let damaged = |what: String| Error::Damaged { path: path.to_path_buf(), offset: 0, what };
        let read = lines.read_line(&mut text).map_err(|e| damaged(format!("line {}: {e}", *line + 1)))?;
        if read == 0 {
            return Ok(None);
        }
        *line += 1;
        let fields = csv_fields(text.trim_end_matches(['\r', '\n']));
        let numbers: Vec<u64> = fields.iter().take(2).filter_map(|f| f.trim().parse().ok()).collect();
        let &[start, end] = numbers.as_slice() else {
            // A line with names of columns is no document.
            if *line == 1 && fields.first().is_some_and(|f| f == "start") {
                continue;
            }
            return Err(damaged(format!("line {line}: it does not begin with a start and an end")));
        };
        let field = |i: usize| fields.get(i).filter(|f| !f.is_empty());
        let source = field(3).map(|source| match field(4) {
            Some(place) => format!("{source}:{place}"),
            None => source.clone(),
        });
        return Ok(Some(Piece { start, end, id: field(2).cloned(), source }));
    }
}

/// The fields of a line of CSV: separated by commas, quoted where they hold one, quotes doubled.
fn csv_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                fields.last_mut().into_iter().for_each(|f| f.push('"'));
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => fields.last_mut().into_iter().for_each(|f| f.push(c)),
        }
    }
    fields
}

/// The next document of a list of ends.
fn ends_piece(path: &Path, ends: &mut BufReader<File>, last: &mut u64) -> Result<Option<Piece>> {
    if ends.fill_buf().map_err(Error::io(path, "read"))?.is_empty() {
        return Ok(None);
    }
    let mut bytes = [0; 8];
    ends.read_exact(&mut bytes).map_err(|e| Error::Damaged {
        path: path.to_path_buf(),
        offset: 0,
        what: format!("not a list of eight-byte numbers: {e}"),
    })?;
    let start = std::mem::replace(last, u64::from_le_bytes(bytes));
    Ok(Some(Piece { start, end: *last, id: None, source: None }))
}

/// The `.idx` of a Megatron file.
struct Megatron {
    bytes: Array<u8>,
    width: usize,
    sequences: usize,
    documents: usize,
    next: usize,
}

/// Magic, version, type, numbers of sequences and of documents.
const MEGATRON_HEADER: usize = 9 + 8 + 1 + 8 + 8;

impl Megatron {
    fn open(path: &Path) -> Result<Megatron> {
        let bytes: Array<u8> = map_file(path)?;
        let bad = |what: String| Error::Damaged { path: path.to_path_buf(), offset: 0, what };
        if !bytes.starts_with(b"MMIDIDX\0\0") || bytes.len() < MEGATRON_HEADER {
            return Err(bad("not an index of Megatron (it does not begin with MMIDIDX)".into()));
        }
        let number = |at: usize| {
            let mut n = [0; 8];
            n.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(n)
        };
        if number(9) != 1 {
            return Err(bad(format!("version {} of Megatron's index is unknown", number(9))));
        }
        let width = match bytes[17] {
            1 => 1,
            3 | 8 => 2,
            4 => 4,
            5 => 8,
            other => return Err(bad(format!("type {other} of tokens is no integer type"))),
        };
        let (sequences, entries) = (number(18), number(26));
        let needed = sequences.checked_mul(12).and_then(|n| n.checked_add(entries.checked_mul(8)?));
        let fits = needed.and_then(|n| n.checked_add(MEGATRON_HEADER as u64)).is_some_and(|n| n <= bytes.len() as u64);
        if !fits {
            return Err(bad(format!("it is too short for {sequences} sequences and {entries} document boundaries")));
        }
        let documents = (entries as usize).saturating_sub(1);
        Ok(Megatron { width, sequences: sequences as usize, documents, next: 0, bytes })
    }

    /// `size` bytes at `at` as a number.
    fn number(&self, at: usize, size: usize) -> u64 {
        let mut n = [0; 8];
        if let Some(bytes) = self.bytes.get(at..at + size) {
            n[..size].copy_from_slice(bytes);
        }
        u64::from_le_bytes(n)
    }

    fn next(&mut self) -> Result<Option<Piece>> {
        if self.next >= self.documents {
            return Ok(None);
        }
        let pointers = MEGATRON_HEADER + 4 * self.sequences;
        let boundary = |i: usize| self.number(pointers + 8 * self.sequences + 8 * i, 8) as usize;
        let (first, last) = (boundary(self.next), boundary(self.next + 1));
        let document = self.next;
        self.next += 1;
        let bad = |what: String| Error::Damaged {
            path: self.bytes.path().to_path_buf(),
            offset: (pointers + 8 * self.sequences + 8 * document) as u64,
            what: format!("document {document}: {what}"),
        };
        if first > last || last > self.sequences {
            return Err(bad(format!("sequences {first}..{last} of {}", self.sequences)));
        }
        let width = self.width as u64;
        let start = |i: usize| self.number(pointers + 8 * i, 8);
        let length = |i: usize| self.number(MEGATRON_HEADER + 4 * i, 4);
        if first == last {
            return Ok(Some(Piece { start: 0, end: 0, id: None, source: None }));
        }
        let begin = start(first);
        let mut end = begin;
        for i in first..last {
            // A document is a run of the file: that is how Megatron writes it.
            if start(i) != end || begin % width != 0 {
                return Err(bad(format!("its sequence {i} does not follow the one before")));
            }
            end += length(i) * width;
        }
        Ok(Some(Piece { start: begin / width, end: end / width, id: None, source: None }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::FileKind;

    #[test]
    fn csv_lines() {
        assert_eq!(csv_fields("0,5,a,b,1"), ["0", "5", "a", "b", "1"]);
        assert_eq!(csv_fields(r#"0,5,"a, ""b""",,"#), ["0", "5", "a, \"b\"", "", ""]);
    }

    fn read(path: &Path, input: TokenInput) -> Result<Vec<(String, Vec<u32>)>> {
        let bytes = std::fs::metadata(path).unwrap().len();
        let file = SourceFile { path: path.to_path_buf(), kind: FileKind::Tokens, bytes };
        let mut reader = TokenReader::open(&file, &input)?;
        let (mut out, mut doc) = (Vec::new(), Document::default());
        while reader.next(&mut doc)? {
            out.push((doc.id.clone(), doc.tokens.clone().unwrap()));
        }
        Ok(out)
    }

    #[test]
    fn documents_end_at_the_id_across_buffers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.bin");
        let documents: Vec<Vec<u32>> =
            vec![(0..200_000).map(|i| i % 999).collect(), vec![], vec![7], (0..70_000).map(|i| i % 31).collect()];
        let mut bytes = Vec::new();
        for d in &documents {
            d.iter().chain([&50_256]).for_each(|id| bytes.extend((*id as u16).to_le_bytes()));
        }
        bytes.extend([3, 0]);
        std::fs::write(&path, &bytes).unwrap();
        let input = TokenInput { format: TokenFormat::Raw, width: 2, end_of_document: Some(50_256) };
        let got: Vec<Vec<u32>> = read(&path, input).unwrap().into_iter().map(|d| d.1).collect();
        assert_eq!(got[..4], documents);
        assert_eq!(got[4..], [vec![3]]);
        assert!(read(&path, TokenInput { end_of_document: None, ..input }).is_err());
        std::fs::write(&path, &bytes[1..]).unwrap();
        assert!(read(&path, input).is_err());
    }

    #[test]
    fn boundaries_outside_the_file_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.ds");
        std::fs::write(&path, [1, 0, 2, 0, 3, 0]).unwrap();
        let input = TokenInput { format: TokenFormat::Datatrove, width: 2, end_of_document: None };
        let index = dir.path().join("t.ds.index");
        let ends = |ends: &[u64]| std::fs::write(&index, ends.iter().flat_map(|e| e.to_le_bytes()).collect::<Vec<_>>());
        ends(&[2, 2, 3]).unwrap();
        let got: Vec<Vec<u32>> = read(&path, input).unwrap().into_iter().map(|d| d.1).collect();
        assert_eq!(got, [vec![1, 2], vec![], vec![3]]);
        for wrong in [&[2u64, 1][..], &[4], &[u64::MAX]] {
            ends(wrong).unwrap();
            assert!(read(&path, input).is_err(), "{wrong:?}");
        }
        std::fs::write(&index, [1, 2, 3]).unwrap();
        assert!(read(&path, input).is_err());
    }
}
