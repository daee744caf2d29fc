//! Token alignment: which token of a text matched which token of a passage, and how strongly, for people to look at.
//!
//! Late interaction scores a passage by the best partner of every token of the query; this names the partners. The mean of the
//! strengths is the passage's MaxSim score. Similar states are no evidence that one token was taken from the other.

use super::neighbors::states;
use crate::embed::Encoder;
use crate::embed::late::{TokenMatrix, align};
use crate::error::Result;
use crate::tokenize::ByteSpan;

/// A token of the query and the passage's token nearest to it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Aligned {
    /// Bytes of the query's token in the query.
    pub start_byte: u32,
    pub end_byte: u32,
    /// Bytes of the passage's token in the passage.
    pub passage_start: u32,
    pub passage_end: u32,
    /// Inner product of their states, 1 at most.
    pub score: f32,
}

/// For each passage, every token of `text` with its partner in the passage. Empty for a passage or text without tokens.
///
/// Cost: the token states of the text and of the passages, and `|text| · |passage|` inner products a passage.
pub fn alignments(encoder: &dyn Encoder, text: &str, passages: &[&str]) -> Result<Vec<Vec<Aligned>>> {
    let own = encoder.tokenize(text)?.spans;
    let query = states(encoder, text)?;
    let query = TokenMatrix { dim: query.dim, data: &query.data };
    passages
        .iter()
        .map(|passage| {
            let spans = encoder.tokenize(passage)?.spans;
            let found = states(encoder, passage)?;
            let partner = |(of, m): (&ByteSpan, crate::embed::late::TokenMatch)| {
                let with = spans.get(m.token as usize)?;
                Some(Aligned {
                    start_byte: of.start,
                    end_byte: of.end,
                    passage_start: with.start,
                    passage_end: with.end,
                    score: m.score,
                })
            };
            let matches = align(query, TokenMatrix { dim: found.dim, data: &found.data });
            Ok(own.iter().zip(matches).filter_map(partner).collect())
        })
        .collect()
}
