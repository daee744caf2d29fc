//! The named byte-level BPE tokenizers: `gpt2`, `cl100k`, `o200k`.
//!
//! The vocabularies are the ones embedded in the `tiktoken-rs` crate; the engine is `tokenizers`, put together in memory,
//! which encodes several times faster than the other engines that are correct and agrees with them id for id (tested on real text,
//! random Unicode and long repeats). A tokenizer is built once per process, on first use (0.1 to 0.5 s of CPU), and shared
//! by all threads; each thread takes working memory of its own, so encoding never waits. Its identity is known without building
//! it ([`NamedBpe::sha256`]), so that opening an index costs nothing that only encoding needs.
//!
//! Invariants: encoding is lossless, i.e. the concatenated [`IdTokenizer::token_bytes`] of the ids are the text's bytes;
//! special-token strings such as `<|endoftext|>` inside a text are encoded as the characters they are made of, so the special
//! ids never come out of `encode`.
//!
//! Memory: text is handed to the engine in pieces of about `PIECE` bytes, cut where every one of the three
//! split rules cuts anyway, because the engine's working memory is a multiple of the longest text it was given.

use std::cell::RefCell;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};
use tokenizers::models::bpe::{BpeConfig, Merges, PipelineBPE, Vocab};
use tokenizers::pipeline::{
    EncodeOptions, Override, PipelineModel, PipelinePostProcessor, PipelinePreTokenizer, PipelineToken,
    PipelineTokenizer,
};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::utils::byte_level::GPT2_REGEX_STR;
use tokenizers::vocab::bucket_added_vocabulary::AddedVocabulary;

use super::{ByteSpan, IdTokenizer, begins_word_bytes, ceil_char_boundary, check_length, floor_char_boundary};
use crate::error::{Error, Result};

/// Bytes of text handed to the engine at once.
const PIECE: usize = 1 << 18;

/// Largest working buffer (in tokens) a thread keeps between calls.
const KEEP: usize = 1 << 20;

/// Split rule of `cl100k`, in the spelling the engine compiles to its own grammar.
const CL100K_SPLIT: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// A named vocabulary with its split rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBpe {
    Gpt2,
    Cl100k,
    O200k,
}

impl NamedBpe {
    /// Every named BPE.
    pub const ALL: [NamedBpe; 3] = [NamedBpe::Gpt2, NamedBpe::Cl100k, NamedBpe::O200k];

    /// The name used in specs and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            NamedBpe::Gpt2 => "gpt2",
            NamedBpe::Cl100k => "cl100k",
            NamedBpe::O200k => "o200k",
        }
    }

    /// sha256 over the split rule and every token's bytes in id order: what [`BytePairTokenizer::sha256`] computes.
    pub fn sha256(self) -> &'static str {
        match self {
            NamedBpe::Gpt2 => "2f292ae6a8b1b1abd0e32936b10cd4f01911ace8958d658e312e2f5fb1843c1a",
            NamedBpe::Cl100k => "89341785c697b6cc5ecc75d86c1a970549c12e97decc12a39bc147d001717a8b",
            NamedBpe::O200k => "9d95729a332b97e967facdac1c2fb6c0748429834af6e4590b12f65dfbb5791e",
        }
    }

    /// Number of ids, special ones and the gaps between them included.
    pub fn vocab(self) -> u32 {
        let (ordinary, specials) = self.layout();
        specials.iter().map(|s| s.0 + 1).max().unwrap_or(0).max(ordinary)
    }

    /// The process-wide instance, built on the first call.
    pub fn tokenizer(self) -> Result<&'static BytePairTokenizer> {
        static BUILT: [OnceLock<Result<BytePairTokenizer, String>>; 3] = [const { OnceLock::new() }; 3];
        BUILT[self as usize]
            .get_or_init(|| BytePairTokenizer::build(self).map_err(|e| e.to_string()))
            .as_ref()
            .map_err(|what| Error::invalid(format!("cannot build tokenizer {}: {what}", self.name())))
    }

    /// Number of ordinary ids and the special ids with their names.
    fn layout(self) -> (u32, &'static [(u32, &'static str)]) {
        match self {
            NamedBpe::Gpt2 => (50_256, &[(50_256, "<|endoftext|>")]),
            NamedBpe::Cl100k => (
                100_256,
                &[
                    (100_257, "<|endoftext|>"),
                    (100_258, "<|fim_prefix|>"),
                    (100_259, "<|fim_middle|>"),
                    (100_260, "<|fim_suffix|>"),
                    (100_276, "<|endofprompt|>"),
                ],
            ),
            NamedBpe::O200k => (199_998, &[(199_999, "<|endoftext|>"), (200_018, "<|endofprompt|>")]),
        }
    }

    fn split_rule(self) -> &'static str {
        match self {
            NamedBpe::Gpt2 => GPT2_REGEX_STR,
            NamedBpe::Cl100k => CL100K_SPLIT,
            NamedBpe::O200k => tiktoken_rs::O200K_BASE_PAT_STR,
        }
    }

    /// The embedded vocabulary.
    fn source(self) -> std::result::Result<tiktoken_rs::CoreBPE, String> {
        match self {
            NamedBpe::Gpt2 => tiktoken_rs::r50k_base(),
            NamedBpe::Cl100k => tiktoken_rs::cl100k_base(),
            NamedBpe::O200k => tiktoken_rs::o200k_base(),
        }
        .map_err(|e| e.to_string())
    }
}

/// Token bytes in id order, end to end: `bytes[ends[id - 1]..ends[id]]`. An unused id has no bytes.
struct TokenTable {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl TokenTable {
    fn get(&self, id: u32) -> Option<&[u8]> {
        let end = *self.ends.get(id as usize)? as usize;
        let start = if id == 0 { 0 } else { self.ends[id as usize - 1] as usize };
        (end > start).then(|| &self.bytes[start..end])
    }

    fn len(&self) -> u32 {
        self.ends.len() as u32
    }
}

/// A byte-level BPE tokenizer; get one from [`NamedBpe::tokenizer`].
pub struct BytePairTokenizer {
    engine: PipelineTokenizer,
    options: EncodeOptions,
    tokens: TokenTable,
    begins_word: Vec<bool>,
    sha256: String,
}

impl BytePairTokenizer {
    fn build(named: NamedBpe) -> std::result::Result<Self, String> {
        let source = named.source()?;
        let (ordinary, specials) = named.layout();
        let vocab_size = named.vocab();

        let mut hash = Sha256::new();
        hash.update(b"priorart bpe 1\0");
        hash.update(named.split_rule().as_bytes());
        let mut tokens = TokenTable { bytes: Vec::new(), ends: Vec::with_capacity(vocab_size as usize) };
        for id in 0..vocab_size {
            let bytes = match specials.iter().find(|s| s.0 == id) {
                Some((_, name)) => name.as_bytes().to_vec(),
                None if id < ordinary => source.decode_bytes(&[id]).map_err(|e| e.to_string())?,
                None => Vec::new(),
            };
            hash.update((bytes.len() as u32).to_le_bytes());
            hash.update(&bytes);
            tokens.bytes.extend_from_slice(&bytes);
            tokens.ends.push(tokens.bytes.len() as u32);
        }
        drop(source);

        let alphabet = ByteLevel::alphabet();
        let spell = |bytes: &[u8]| -> String { bytes.iter().map(|&b| alphabet[b as usize]).collect() };
        let mut vocab = Vocab::with_capacity(ordinary as usize);
        for id in 0..ordinary {
            vocab.insert(spell(tokens.get(id).unwrap_or_default()), id);
        }
        // A pair may merge when its concatenation is a token, whichever pair that token was first made of; the rank is
        // the token's. That is the rule of the vocabularies' own encoder.
        let mut merges = Merges::new();
        let mut pairs: Vec<(u32, u32, usize)> = Vec::new();
        for id in 0..ordinary {
            let spelled = spell(tokens.get(id).unwrap_or_default());
            pairs.clear();
            for (at, _) in spelled.char_indices().skip(1) {
                let (left, right) = spelled.split_at(at);
                if let (Some(&l), Some(&r)) = (vocab.get(left), vocab.get(right)) {
                    pairs.push((l, r, at));
                }
            }
            pairs.sort_unstable();
            merges.extend(pairs.iter().map(|&(_, _, at)| (spelled[..at].to_owned(), spelled[at..].to_owned())));
        }
        let model = PipelineBPE::from_config(BpeConfig {
            vocab,
            merges,
            byte_level: true,
            ignore_merges: true,
            ..BpeConfig::default()
        })
        .map_err(|e| e.to_string())?;
        let split =
            Split::native(SplitPattern::Regex(named.split_rule().to_owned()), SplitDelimiterBehavior::Isolated, false)
                .map_err(|e| e.to_string())?;
        if split.grammar().is_none() {
            return Err(format!("the engine does not know the split rule {:?}", named.split_rule()));
        }
        let engine = PipelineTokenizer::from_parts(
            AddedVocabulary::new(),
            Vec::new(),
            PipelinePreTokenizer::Split(split),
            PipelineModel::BPE(model),
            PipelinePostProcessor::default(),
            None,
            Default::default(),
            None,
            None,
        );
        let begins_word = (0..vocab_size).map(|id| tokens.get(id).is_some_and(begins_word_bytes)).collect();
        let options = EncodeOptions {
            add_special_tokens: false,
            encode_special_tokens: true,
            padding: Override::Off,
            truncation: Override::Off,
        };
        let sha256 = crate::format::hex(&hash.finalize());
        if sha256 != named.sha256() {
            return Err(format!("its vocabulary has the sha256 {sha256}, not {}", named.sha256()));
        }
        Ok(Self { engine, options, tokens, begins_word, sha256 })
    }

    /// sha256 over the split rule and every token's bytes in id order.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// Length of the first piece of `text` to hand to the engine: all of it, or up to a space after a non-blank character.
/// None of the split rules lets a token hold a space anywhere but at its start or in a run of blanks, so a token always ends
/// there, and the look-ahead of the blank rules sees nothing past a non-blank character.
fn piece_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    if bytes.len() <= 2 * PIECE {
        return bytes.len();
    }
    let is_cut = |at: &usize| {
        bytes[*at] == b' '
            && (bytes[at - 1].is_ascii_graphic()
                || (bytes[at - 1] >= 0x80 && text[..*at].chars().next_back().is_some_and(|c| !c.is_whitespace())))
    };
    (PIECE..bytes.len()).find(is_cut).unwrap_or(bytes.len())
}

thread_local! {
    static BUFFER: RefCell<Vec<PipelineToken>> = const { RefCell::new(Vec::new()) };
}

impl IdTokenizer for BytePairTokenizer {
    fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        check_length(text)?;
        BUFFER.with(|buffer| {
            let mut buffer = buffer.take();
            let mut rest = text;
            let mut result = Ok(());
            while !rest.is_empty() && result.is_ok() {
                let (piece, after) = rest.split_at(piece_len(rest));
                buffer.clear();
                result = self
                    .engine
                    .encode_into(piece, &self.options, &mut buffer)
                    .map_err(|e| Error::invalid(format!("cannot tokenize: {e}")));
                out.extend_from_slice(PipelineToken::cast_slice(&buffer));
                rest = after;
            }
            if buffer.capacity() <= KEEP {
                BUFFER.set(buffer);
            }
            result
        })
    }

    fn encode_spans(&self, text: &str, ids: &mut Vec<u32>, spans: &mut Vec<ByteSpan>) -> Result<()> {
        let first = ids.len();
        self.encode(text, ids)?;
        spans.reserve(ids.len() - first);
        let mut at = 0;
        for &id in &ids[first..] {
            let end = at + self.tokens.get(id).map_or(0, <[u8]>::len);
            if end > text.len() {
                break;
            }
            let start = floor_char_boundary(text, at) as u32;
            spans.push(ByteSpan { start, end: ceil_char_boundary(text, end) as u32 });
            at = end;
        }
        if at != text.len() {
            return Err(Error::invalid("cannot align tokens with the text: the tokenizer lost some of its bytes"));
        }
        Ok(())
    }

    fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        self.tokens.get(id).map(<[u8]>::to_vec)
    }

    fn text_ends(&self) -> Option<&[u32]> {
        Some(&self.tokens.ends)
    }

    /// Special ids are counted: a query from elsewhere may name them.
    fn vocab(&self) -> u32 {
        self.tokens.len()
    }

    fn begins_word(&self, id: u32) -> bool {
        self.begins_word.get(id as usize).copied().unwrap_or(false)
    }
}

/// Builds the tokenizer when text or an id is first handed to it.
impl IdTokenizer for NamedBpe {
    fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        self.tokenizer()?.encode(text, out)
    }

    fn encode_spans(&self, text: &str, ids: &mut Vec<u32>, spans: &mut Vec<ByteSpan>) -> Result<()> {
        self.tokenizer()?.encode_spans(text, ids, spans)
    }

    fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        self.tokenizer().ok()?.token_bytes(id)
    }

    fn text_ends(&self) -> Option<&[u32]> {
        self.tokenizer().ok()?.text_ends()
    }

    fn vocab(&self) -> u32 {
        NamedBpe::vocab(*self)
    }

    fn begins_word(&self, id: u32) -> bool {
        self.tokenizer().is_ok_and(|bpe| bpe.begins_word(id))
    }
}

#[cfg(test)]
#[path = "bpe_tests.rs"]
mod tests;
