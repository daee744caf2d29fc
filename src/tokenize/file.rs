//! Tokenizers read from a Hugging Face `tokenizer.json`: BPE, WordPiece, Unigram and WordLevel models with their normalizers and
//! pre-tokenizers, as the `tokenizers` crate runs them.
//!
//! What a text becomes here is its own tokens and nothing else: no special token is added around it, nothing is
//! truncated or padded, and a special token's string inside a text is encoded as ordinary characters. Added tokens that are
//! not special are matched, as the file says.
//!
//! The engine reports no offsets; [`FileTokenizer::encode_spans`] runs the same steps one by one and keeps the positions: exactly for
//! byte-level models without normalization, through `super::align` otherwise.

use std::path::Path;

use serde_json::Value;
use tokenizers::pipeline::{
    EncodeOptions, Model, Override, PipelineModel, PipelinePatternMatcher, PipelineToken, PipelineTokenizer,
    PreTokenizer, PreTokenizerScratch, Span, normalize_all,
};
use tokenizers::utils::byte_level::char_to_byte;

use super::align::Alignment;
use super::{ByteSpan, IdTokenizer, begins_word_bytes, ceil_char_boundary, check_length, floor_char_boundary};
use crate::error::{Error, Result, contain};

/// The mark SentencePiece writes for a blank.
const BLANK_MARK: &str = "\u{2581}";

/// A tokenizer read from a `tokenizer.json`. Shareable between threads; each call takes working memory of its own.
pub struct FileTokenizer {
    engine: PipelineTokenizer,
    options: EncodeOptions,
    /// The bytes each id stands for in normalised text; `None` for an unused id.
    surfaces: Vec<Option<Box<[u8]>>>,
    begins_word: Vec<bool>,
    /// Whether the model works on raw bytes.
    byte_level: bool,
    /// Whether a blank is written as [`BLANK_MARK`] in the vocabulary.
    marked_blanks: bool,
}

impl FileTokenizer {
    /// Builds a tokenizer from the bytes of the file at `path` (which is only named in errors).
    ///
    /// # Errors
    /// [`Error::Model`] when the bytes are not JSON, not a tokenizer, or use a component that is not supported.
    pub fn parse(path: &Path, json: &[u8]) -> Result<Self> {
        let bad = |what: String| Error::Model { path: path.to_path_buf(), what };
        let mut value: Value = serde_json::from_slice(json).map_err(|e| bad(format!("not JSON: {e}")))?;
        // The engine panics on some files that contradict themselves, such as merges shorter than their prefix.
        let engine = contain(|| {
            tokenizers::canonicalize_value(&mut value).map_err(|e| bad(format!("not a tokenizer.json: {e}")))?;
            tokenizers::from_json(&value.to_string()).map_err(|e| bad(format!("cannot build the tokenizer: {e}")))
        })
        .unwrap_or_else(|| Err(bad("cannot build the tokenizer: the file contradicts itself".into())))?;
        let byte_level = matches!(engine.get_model(), PipelineModel::BPE(bpe) if bpe.is_byte_level());
        let marked_blanks = !byte_level
            && ["normalizer", "pre_tokenizer", "decoder"].into_iter().any(|part| {
                let part = value[part].to_string();
                part.contains(BLANK_MARK) || part.contains("Metaspace")
            });
        let mut built = Self {
            engine,
            options: EncodeOptions {
                add_special_tokens: false,
                encode_special_tokens: true,
                padding: Override::Off,
                truncation: Override::Off,
            },
            surfaces: Vec::new(),
            begins_word: Vec::new(),
            byte_level,
            marked_blanks,
        };
        built.read_vocabulary(&value).map_err(bad)?;
        Ok(built)
    }

    /// Fills `surfaces` and `begins_word` from the (canonical) file.
    fn read_vocabulary(&mut self, value: &Value) -> std::result::Result<(), String> {
        let model = &value["model"];
        let text = |key: &str| model[key].as_str().unwrap_or_default();
        let (prefix, suffix) = (text("continuing_subword_prefix"), text("end_of_word_suffix"));
        let whole_words = model["type"] == "WordLevel";
        let byte_fallback = model["byte_fallback"] == true;

        let model_tokens: Vec<(&str, u64)> = match &model["vocab"] {
            Value::Object(map) => map.iter().filter_map(|(token, id)| Some((token.as_str(), id.as_u64()?))).collect(),
            Value::Array(list) => {
                list.iter().zip(0..).filter_map(|(entry, id)| Some((entry.get(0)?.as_str()?, id))).collect()
            }
            _ => return Err("its model has no vocabulary".into()),
        };
        // From the engine, not from the file: an added token whose id in the file leaves a gap gets the next free one.
        let added = self.engine.get_added_vocabulary().get_added_tokens_decoder();
        let largest = model_tokens.iter().map(|t| t.1).chain(added.keys().map(|&id| u64::from(id))).max();
        let size = largest.map_or(0, |id| id + 1);
        // An id far beyond the number of tokens is a slip of the file, not a reason to reserve its memory.
        if size > 16 * (model_tokens.len() + added.len()) as u64 + (1 << 20) || size >= u64::from(u32::MAX) {
            return Err(format!(
                "its largest token id, {}, is out of proportion to its {} tokens",
                size - 1,
                model_tokens.len()
            ));
        }
        self.surfaces = vec![None; size as usize];
        self.begins_word = vec![false; size as usize];
        for (token, id) in model_tokens {
            let surface = if self.byte_level {
                spelled_bytes(token)
            } else if let Some(byte) = byte_fallback.then(|| fallback_byte(token)).flatten() {
                vec![byte]
            } else {
                let inner = if prefix.is_empty() { token } else { token.strip_prefix(prefix).unwrap_or(token) };
                let inner = if suffix.is_empty() { inner } else { inner.strip_suffix(suffix).unwrap_or(inner) };
                inner.as_bytes().to_vec()
            };
            self.begins_word[id as usize] = if whole_words {
                true
            } else if !prefix.is_empty() {
                !token.starts_with(prefix)
            } else {
                begins_word_bytes(&surface)
            };
            self.surfaces[id as usize] = Some(surface.into());
        }
        for (id, token) in added {
            self.begins_word[id as usize] = true;
            self.surfaces[id as usize] = Some(token.content.as_bytes().into());
        }
        Ok(())
    }

    fn surface(&self, id: u32) -> Option<&[u8]> {
        self.surfaces.get(id as usize)?.as_deref()
    }

    /// Spans of `ids` in `text` when the tokens' bytes are the text, to the byte.
    fn lossless_spans(&self, text: &str, ids: &[u32], spans: &mut Vec<ByteSpan>) -> bool {
        let before = spans.len();
        let mut at = 0;
        for &id in ids {
            match self.surface(id) {
                Some(surface) if text.as_bytes()[at..].starts_with(surface) => {
                    let end = at + surface.len();
                    let start = floor_char_boundary(text, at) as u32;
                    spans.push(ByteSpan { start, end: ceil_char_boundary(text, end) as u32 });
                    at = end;
                }
                _ => break,
            }
        }
        if at != text.len() || spans.len() - before != ids.len() {
            spans.truncate(before);
            return false;
        }
        true
    }

    /// Ids and spans of `text[from..to]`, which holds no added token that is matched before normalization.
    fn segment(&self, text: &str, from: usize, to: usize, walk: &mut Walk) -> Result<()> {
        let segment = &text[from..to];
        let normalizers = self.engine.get_normalizers();
        let normal = normalize_all(normalizers, segment, from).map_err(failed)?;
        let alignment = Alignment::new(segment, &normal, &|part, offset, into| {
            into.push_str(&normalize_all(normalizers, part, from + offset).map_err(failed)?);
            Ok(())
        })?;
        let added = self.engine.get_added_vocabulary();
        let mut at = 0;
        while at < normal.len() {
            let found = added.extract_next(normal.as_bytes(), at, true, true);
            let ((start, end), id) =
                found.map_or(((normal.len(), normal.len()), None), |(range, id)| (range, Some(id)));
            if start > at {
                self.pre_tokens(&normal, at, start, &alignment, from, walk)?;
            }
            if let Some(id) = id {
                walk.push(id, alignment.span(start, end), from);
            }
            at = end.max(at + 1);
        }
        Ok(())
    }

    /// Ids and spans of `normal[from..to]`, cut by the pre-tokenizer. `base` is the original offset of the segment.
    fn pre_tokens(
        &self,
        normal: &str,
        from: usize,
        to: usize,
        alignment: &Alignment,
        base: usize,
        walk: &mut Walk,
    ) -> Result<()> {
        let mut cuts: Vec<Span> = Vec::new();
        let stretch = &normal[from..to];
        self.engine.get_pre_tokenizer().pre_tokenize(stretch, &mut walk.splitting, &mut cuts).map_err(failed)?;
        let mut tokens: Vec<PipelineToken> = Vec::new();
        for cut in cuts {
            let piece = &stretch[cut.range()];
            tokens.clear();
            self.engine.get_model().tokenize_pipeline(piece, &mut walk.model, &mut tokens).map_err(failed)?;
            let ids = PipelineToken::cast_slice(&tokens);
            let start = from + cut.range().start;
            let mut at = 0;
            for (i, &id) in ids.iter().enumerate() {
                let end = self.token_end(piece, at, ids, i);
                let (a, b) = (floor_char_boundary(piece, at), ceil_char_boundary(piece, end));
                walk.push(id, alignment.span(start + a, start + b), base);
                at = end;
            }
        }
        Ok(())
    }

    /// Where token `i` of a piece ends when it begins at `at`: after its own bytes; or, for an unknown token, before the next
    /// token that can be found, at the end for the last one, and after one character otherwise.
    fn token_end(&self, piece: &str, at: usize, ids: &[u32], i: usize) -> usize {
        let rest = &piece.as_bytes()[at..];
        if let Some(surface) = self.surface(ids[i])
            && rest.starts_with(surface)
        {
            return at + surface.len();
        }
        let one = ceil_char_boundary(piece, (at + 1).min(piece.len()));
        match ids.get(i + 1) {
            None => piece.len(),
            Some(&next) => match self.surface(next) {
                Some(surface) if !surface.is_empty() => piece.as_bytes()[one..]
                    .windows(surface.len())
                    .position(|window| window == surface)
                    .map_or(one, |skip| one + skip),
                _ => one,
            },
        }
    }
}

/// What `encode_spans` carries along.
struct Walk<'a> {
    ids: &'a mut Vec<u32>,
    spans: &'a mut Vec<ByteSpan>,
    splitting: PreTokenizerScratch,
    model: <PipelineModel as Model>::Scratch,
}

impl Walk<'_> {
    fn push(&mut self, id: u32, span: ByteSpan, base: usize) {
        self.ids.push(id);
        self.spans.push(ByteSpan { start: span.start + base as u32, end: span.end + base as u32 });
    }
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::invalid(format!("cannot tokenize: {e}"))
}

/// The bytes a byte-level vocabulary entry spells.
fn spelled_bytes(token: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(token.len());
    for c in token.chars() {
        match char_to_byte(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(c.to_string().bytes()),
        }
    }
    bytes
}

/// The byte that `<0x0A>` and its like stand for.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

impl IdTokenizer for FileTokenizer {
    fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        check_length(text)?;
        let mut tokens = Vec::new();
        self.engine.encode_into(text, &self.options, &mut tokens).map_err(failed)?;
        out.extend_from_slice(PipelineToken::cast_slice(&tokens));
        Ok(())
    }

    fn encode_spans(&self, text: &str, ids: &mut Vec<u32>, spans: &mut Vec<ByteSpan>) -> Result<()> {
        let first = ids.len();
        if self.byte_level {
            self.encode(text, ids)?;
            if self.lossless_spans(text, &ids[first..], spans) {
                return Ok(());
            }
            ids.truncate(first);
        }
        check_length(text)?;
        let mut walk = Walk {
            ids,
            spans,
            splitting: PreTokenizerScratch::default(),
            model: self.engine.get_model().init_scratch(),
        };
        let added = self.engine.get_added_vocabulary();
        let mut at = 0;
        while at < text.len() {
            let found = added.extract_next(text.as_bytes(), at, false, true);
            let ((start, end), id) = found.map_or(((text.len(), text.len()), None), |(range, id)| (range, Some(id)));
            if start > at {
                self.segment(text, at, start, &mut walk)?;
            }
            if let Some(id) = id {
                walk.push(id, ByteSpan { start: start as u32, end: end as u32 }, 0);
            }
            at = end.max(at + 1);
        }
        Ok(())
    }

    fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let surface = self.surface(id)?;
        if self.marked_blanks
            && let Ok(text) = std::str::from_utf8(surface)
        {
            return Some(text.replace(BLANK_MARK, " ").into_bytes());
        }
        Some(surface.to_vec())
    }

    fn vocab(&self) -> u32 {
        self.surfaces.len() as u32
    }

    fn begins_word(&self, id: u32) -> bool {
        self.begins_word.get(id as usize).copied().unwrap_or(false)
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
