//! Recall probes: passages of the corpus, verbatim and edited, whose source the search must find.
//!
//! A miss looks like novelty, so every report says how often the source of a passage that *is* in the corpus was among the candidates, per
//! window length and share of words edited. Probes are drawn with a seed; edits substitute, delete, insert and swap words, new words
//! coming from other passages of the corpus. A probe is found in *document* if a candidate is of its source document, in *chunk*
//! if one overlaps the passage itself; a copy elsewhere in the corpus does not count, so the figures are lower bounds.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::score::{Scorer, search};
use super::statistics::{self, Interval};
use super::window;
use crate::embed::Role;
use crate::error::Result;
use crate::index::DocumentRef;

/// Shares of words edited.
pub const EDITS: [f64; 4] = [0.0, 0.1, 0.25, 0.5];

/// Recall at one window length and edit level.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Recall {
    pub length: usize,
    /// Share of words edited.
    pub edited: f64,
    pub probes: usize,
    /// Source document among the candidates, with an exact 95 % interval.
    pub document: Interval,
    /// A chunk of the passage itself among the candidates.
    pub chunk: Interval,
    /// Source document first.
    pub first: Interval,
}

/// Edits a share of a passage's words.
pub fn edit(text: &str, share: f64, pool: &[String], random: &mut ChaCha8Rng) -> String {
    let mut words: Vec<String> = text.split_whitespace().map(str::to_string).collect();
    let edits = (share * words.len() as f64).round() as usize;
    for at in rand::seq::index::sample(random, words.len(), edits.min(words.len())).into_vec() {
        // Deleting or inserting moves the places that follow; staying inside is all that matters.
        let at = at.min(words.len().saturating_sub(1));
        let new = pool.get(random.random_range(0..pool.len().max(1))).cloned().unwrap_or_default();
        match random.random_range(0..4) {
            0 if words.len() > 1 => drop(words.remove(at)),
            1 => words.insert(at, new),
            2 if at + 1 < words.len() => words.swap(at, at + 1),
            _ => words[at] = new,
        }
    }
    words.join(" ")
}

impl Scorer<'_> {
    /// Recall of stage 1 for `probes` passages a window length (of `lengths`) and edit level; lengths no document reaches are left
    /// out. `progress` gets the tokens of the probes done, of `probes` times [`EDITS`] times the sum of the lengths.
    /// Cost: one search a probe, the encoder's pass over the probes, twice where they are longer than two chunks.
    pub fn probe(
        &self,
        lengths: &[usize],
        probes: usize,
        seed: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Recall>> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let dim = self.encoder.spec().dim;
        let prompt = self.encoder.prompt(Role::Query).to_vec();
        let most = self.encoder.max_window().saturating_sub(prompt.len()).max(1);
        let mut out = Vec::new();
        let mut done = 0;
        for &length in lengths {
            let mut passages: Vec<(DocumentRef, std::ops::Range<usize>, String)> = Vec::new();
            for _ in 0..probes * 8 {
                if passages.len() == probes {
                    break;
                }
                passages.extend(self.passage(length, &mut random)?);
            }
            let pool: Vec<String> = passages.iter().flat_map(|p| p.2.split_whitespace()).map(str::to_string).collect();
            for edited in EDITS {
                let mut inputs: Vec<Vec<u32>> = Vec::new();
                let mut owner: Vec<usize> = Vec::new();
                for (i, (_, _, text)) in passages.iter().enumerate() {
                    let text = if edited > 0.0 { edit(text, edited, &pool, &mut random) } else { text.clone() };
                    let ids = self.encoder.tokenize(&text)?.ids;
                    for range in window::searches(0..ids.len(), self.chunk_tokens(), most) {
                        inputs.push([prompt.as_slice(), &ids[range]].concat());
                        owner.push(i);
                    }
                }
                let queries = self.encoder.embed_ids(&inputs.iter().map(|i| i.as_slice()).collect::<Vec<_>>())?;
                let found = search(self.snapshot, &queries, dim, self.settings.candidates, &[])?;
                let mut hits = vec![[false; 3]; passages.len()];
                for (&i, list) in owner.iter().zip(&found) {
                    let (source, bytes, _) = &passages[i];
                    for (rank, c) in list.iter().enumerate() {
                        if (DocumentRef { shard: c.key.shard, document: c.document }) != *source {
                            continue;
                        }
                        hits[i][0] = true;
                        hits[i][2] |= rank == 0;
                        let semantic = self.snapshot.shards[c.key.shard as usize].semantic.as_ref();
                        hits[i][1] |= semantic
                            .and_then(|s| s.chunk(c.key.row))
                            .is_some_and(|c| (c.start_byte as usize) < bytes.end && bytes.start < c.end_byte as usize);
                    }
                }
                done += (probes * length) as u64;
                progress(done);
                let share = |k: usize| statistics::share(hits.iter().filter(|h| h[k]).count(), hits.len());
                if let (Some(document), Some(chunk), Some(first)) = (share(0), share(1), share(2)) {
                    out.push(Recall { length, edited, probes: hits.len(), document, chunk, first });
                }
            }
        }
        Ok(out)
    }

    /// A passage of `length` encoder tokens from a random document, each chunk being as likely to be in it; `None` if the
    /// document drawn is too short or removed.
    fn passage(
        &self,
        length: usize,
        random: &mut ChaCha8Rng,
    ) -> Result<Option<(DocumentRef, std::ops::Range<usize>, String)>> {
        let chunks = self.snapshot.chunks();
        if chunks == 0 {
            return Ok(None);
        }
        let mut at = random.random_range(0..chunks);
        for (number, shard) in self.snapshot.shards.iter().enumerate() {
            let Some(semantic) = &shard.semantic else { continue };
            if at >= semantic.len() as u64 {
                at -= semantic.len() as u64;
                continue;
            }
            let Some(chunk) = semantic.chunk(at as u32) else { return Ok(None) };
            let document = DocumentRef { shard: number as u32, document: chunk.document };
            if self.snapshot.is_removed(document) {
                return Ok(None);
            }
            // Tokens of the neighbourhood only: a document may be a whole book. 16 bytes a token are enough for nearly all text.
            let size = shard.documents.text_len(chunk.document)?;
            let start = (chunk.start_byte as usize).min(size);
            let (text, range) =
                shard.documents.text_range(chunk.document, start..(start + 16 * (length + 100)).min(size))?;
            let tokens = self.encoder.tokenize(&text)?;
            // Off the chunk's own boundary, as a quotation would be.
            let shift = random.random_range(0..self.chunk_tokens()).min(tokens.ids.len().saturating_sub(length));
            let (Some(first), Some(last)) =
                (tokens.spans.get(shift), tokens.spans.get((shift + length).wrapping_sub(1)))
            else {
                return Ok(None);
            };
            let (from, to) = (first.start as usize, last.end as usize);
            let Some(passage) = text.get(from..to) else { return Ok(None) };
            return Ok(Some((document, range.start + from..range.start + to, passage.to_string())));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_change_about_as_many_words_as_asked() {
        let text: String = (0..200).map(|i| format!("w{i} ")).collect();
        let pool = vec!["new".to_string()];
        let mut random = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(edit(&text, 0.0, &pool, &mut random), text.trim());
        for share in [0.1, 0.5] {
            let edited = edit(&text, share, &pool, &mut random);
            let kept = edited.split(' ').filter(|w| w.starts_with('w')).count() as f64;
            // Swaps keep both words, insertions keep all: half of the edits remove one.
            assert!((kept - 200.0 * (1.0 - share / 2.0)).abs() < 25.0, "{share}: {kept}");
            assert_ne!(edited, text);
        }
        assert_eq!(edit("", 0.5, &pool, &mut random), "");
    }
}
