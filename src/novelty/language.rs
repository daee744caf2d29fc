//! Whether an encoder knows the language of a text.
//!
//! Two signs. Tokens that it does not know at all, by their share; and words cut into many pieces: a vocabulary spells what it was
//! not made for. Measured with the vocabulary of `all-minilm-l6-v2`, letters-only pieces a word: English prose 1.06 to 1.2 (99 of a
//! hundred passages of 1,200 characters below 1.55, of manual pages below 2.1), French 1.6, Spanish and Italian 1.7, Latin 2.2, German 2.3, Russian 5.7. A
//! vocabulary of many languages needs more for each of them, so a text is compared with the corpus, whose language the encoder was chosen for.

use std::sync::OnceLock;

use super::states::{ChunkKey, chunk_text};
use crate::embed::{Encoder, EncoderTokens};
use crate::error::Result;
use crate::index::Snapshot;

/// Share of unknown tokens from which the encoder cannot be trusted to know the language.
pub const UNKNOWN: f64 = 0.05;
/// How many times the corpus's pieces a word has in a language that is not the corpus's.
const FOREIGN: f64 = 1.35;
/// Words below which nothing is said.
const WORDS: usize = 20;
/// Chunks the corpus's figure is taken from.
const SAMPLE: usize = 256;

/// What is known of the encoder's vocabulary and the corpus.
pub(super) struct Language<'a> {
    snapshot: &'a Snapshot,
    encoder: &'a dyn Encoder,
    unknown: Option<u32>,
    /// Pieces a word of the corpus has, once a text has asked; 0 where it has no words.
    corpus: OnceLock<f64>,
}

impl<'a> Language<'a> {
    pub fn of(snapshot: &'a Snapshot, encoder: &'a dyn Encoder) -> Result<Language<'a>> {
        Ok(Language { snapshot, encoder, unknown: unknown_token(encoder)?, corpus: OnceLock::new() })
    }

    /// Pieces a word of the corpus has. Cost: reading and tokenising 256 chunks, the first time.
    fn corpus(&self) -> Result<f64> {
        if let Some(&known) = self.corpus.get() {
            return Ok(known);
        }
        let (mut pieces, mut words) = (0, 0);
        for (shard, row) in self.snapshot.sample_chunks(SAMPLE, 42) {
            let text = chunk_text(self.snapshot, ChunkKey { shard, row })?;
            let counts = count(&text, &self.encoder.tokenize(&text)?);
            (pieces, words) = (pieces + counts.0, words + counts.1);
        }
        Ok(*self.corpus.get_or_init(|| pieces as f64 / words.max(1) as f64))
    }

    /// Share of a text's tokens that the encoder does not know.
    pub fn unknown_share(&self, tokens: &EncoderTokens) -> f64 {
        let unknown = tokens.ids.iter().filter(|&&id| Some(id) == self.unknown).count();
        unknown as f64 / tokens.ids.len().max(1) as f64
    }

    /// What to tell about a text, if anything.
    pub fn warning(&self, text: &str, tokens: &EncoderTokens) -> Result<Option<String>> {
        let share = self.unknown_share(tokens);
        if share > UNKNOWN {
            return Ok(Some(format!(
                "{:.0} % of the tokens are unknown to the encoder: it may not know this language, and what it does not know looks novel or alike",
                100.0 * share
            )));
        }
        let (pieces, words) = count(text, tokens);
        let own = pieces as f64 / words.max(1) as f64;
        // A word of the corpus is a piece at least, so most texts need not ask how many it is.
        if words < WORDS || own <= FOREIGN {
            return Ok(None);
        }
        let corpus = self.corpus()?;
        Ok((corpus > 0.0 && own > FOREIGN * corpus).then(|| {
            format!(
                "the encoder cuts a word into {own:.1} pieces on average, {corpus:.1} in the corpus: it may not know this language, and scores of what it spells out mean little"
            )
        }))
    }
}

/// Pieces that are all letters, and words: runs of letters.
fn count(text: &str, tokens: &EncoderTokens) -> (usize, usize) {
    let letters = |s: &str| !s.is_empty() && s.chars().all(char::is_alphabetic);
    let pieces = tokens
        .spans
        .iter()
        .filter(|s| text.get(s.start as usize..s.end as usize).is_some_and(|piece| letters(piece.trim())))
        .count();
    (pieces, text.split(|c: char| !c.is_alphabetic()).filter(|w| !w.is_empty()).count())
}

/// The id the encoder gives to what it does not know, if it has one: three characters of rare scripts that share one id.
fn unknown_token(encoder: &dyn Encoder) -> Result<Option<u32>> {
    let mut found = None;
    for rare in ["𪚥", "𐎀", "ꙮ"] {
        let ids = encoder.tokenize(rare)?.ids;
        match (ids.as_slice(), found) {
            ([id], None) => found = Some(*id),
            ([id], Some(before)) if *id == before => {}
            _ => return Ok(None),
        }
    }
    Ok(found)
}
