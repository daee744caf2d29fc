//! Which token matched which: the late-interaction score of two texts, taken apart for people to look at.
//!
//! Overview. [`align_texts`] encodes both sides as the scorer does, finds for every scored token of the first the token of the
//! second that it is nearest to, and says so in bytes of both texts. Texts longer than the encoder takes are cut into parts on both
//! sides; nothing is left out. Markers and filling of ColBERT are scored but stand for no bytes, so they have no ranges.
//!
//! Cost: encoding both texts; `2 · |a| · |b| · dim` operations.

use super::TokenStates;
use super::colbert::{LateEncoder, LateStates};
use super::late::{TokenMatrix, align};
use crate::error::Result;
use crate::tokenize::ByteSpan;

/// A token and what it matched.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AlignedToken {
    /// Bytes in the first text; `None` of a special token.
    pub bytes: Option<[usize; 2]>,
    /// Bytes of its best match in the second text; `None` of a special token.
    pub matched: Option<[usize; 2]>,
    /// Inner product of the two states, −1 to 1.
    pub strength: f32,
}

/// A score and the matches it is the mean of.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Alignment {
    /// Mean strength: MaxSim divided by the number of scored tokens; 0 if a side is empty.
    pub score: f32,
    pub tokens: Vec<AlignedToken>,
}

/// Aligns the tokens of `text` with those of `passage`. `count_masks` as in [`super::colbert::QueryRule`].
pub fn align_texts(late: &dyn LateEncoder, text: &str, passage: &str, count_masks: bool) -> Result<Alignment> {
    let query = sides(late, text, Some(count_masks))?;
    let document = sides(late, passage, None)?;
    // The parts of a text follow each other, and so do their rows.
    let whole = TokenMatrix { dim: query.states.dim, data: &query.states.data };
    let found = align(whole, TokenMatrix { dim: document.states.dim, data: &document.states.data });
    let tokens: Vec<AlignedToken> = found
        .iter()
        .zip(&query.bytes)
        .map(|(m, &bytes)| AlignedToken {
            bytes,
            matched: document.bytes.get(m.token as usize).copied().flatten(),
            strength: m.score,
        })
        .collect();
    let score = tokens.iter().map(|t| t.strength).sum::<f32>() / tokens.len().max(1) as f32;
    Ok(Alignment { score, tokens })
}

/// States of a whole text, and the bytes each stands for.
struct Side {
    states: TokenStates,
    bytes: Vec<Option<[usize; 2]>>,
}

fn sides(late: &dyn LateEncoder, text: &str, query: Option<bool>) -> Result<Side> {
    let tokens = late.tokenize(text)?;
    let most = if query.is_some() { late.longest_query() } else { late.document_window() }.max(1);
    let parts: Vec<&[u32]> = tokens.ids.chunks(most).collect();
    let LateStates { states, origin } = match query {
        Some(masks) => {
            let rule = late.query_rule(parts.first().map_or(0, |p| p.len()), masks);
            late.queries(&parts, &rule)?
        }
        None => late.documents(&parts)?,
    };
    let of = |span: &ByteSpan| [span.start as usize, span.end as usize];
    let mut bytes = Vec::with_capacity(origin.len());
    for (part, ends) in states.offsets.windows(2).enumerate() {
        for token in &origin[ends[0]..ends[1]] {
            bytes.push(token.and_then(|t| tokens.spans.get(part * most + t as usize)).map(of));
        }
    }
    Ok(Side { states, bytes })
}
