//! Recall probes: passages of the corpus, verbatim and edited, and paraphrases, whose source the whole search must find.
//!
//! A miss looks like novelty, so every report says how often the source of a passage that *is* in the corpus was found, per window length
//! and share of words edited, after each stage: among the *candidates* of the vector search, among those that late interaction
//! *scored* after the middle stage's cut, and *first*, the nearest passage at the end. Probes are drawn with a seed; edits substitute,
//! delete, insert and swap words, new words coming from other passages of the corpus. Paraphrases come from a paired file: texts
//! with the id of the document they rephrase. A probe counts where a passage of its source document is found; an equally near copy
//! elsewhere in the corpus that comes first counts against it, so the figures are lower bounds.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::scorer::{Cut, Scorer, Window};
use super::statistics::{self, Interval};
use super::window;
use crate::error::Result;
use crate::index::DocumentRef;

/// Shares of words edited.
pub const EDITS: [f64; 4] = [0.0, 0.1, 0.25, 0.5];
/// Probes that go through the search together.
const BATCH: usize = 64;

/// Recall at one window length and edit level.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Recall {
    /// Window length in encoder tokens.
    pub length: usize,
    /// Share of words edited; `None`: paraphrases.
    pub edited: Option<f64>,
    pub probes: usize,
    /// Source document among the candidates of stage 1, with an exact 95 % interval.
    pub candidates: Interval,
    /// Source document among those late interaction scored.
    pub scored: Interval,
    /// Source document is that of the nearest passage: what the whole search gives.
    pub first: Interval,
}

impl Recall {
    /// The kind of probe in words.
    pub fn kind(&self) -> String {
        match self.edited {
            None => "paraphrased".into(),
            Some(0.0) => "verbatim".into(),
            Some(share) => format!("{:.0} % edited", 100.0 * share),
        }
    }
}

/// A paraphrase and the document it rephrases.
#[derive(Debug, Clone, PartialEq)]
pub struct Paraphrase {
    pub text: String,
    /// Id of the document in the corpus.
    pub source: String,
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

/// The share of texts that are attributable, corrected for what the search misses: an observed share `found` of texts with a source
/// found, divided by the recall, at most 1. Defined where the recall is above 0; it supposes that nothing is found by mistake.
pub fn corrected(found: f64, recall: &Interval) -> Option<Interval> {
    let by = |recall: f64| (found / recall).min(1.0);
    // The larger the recall, the smaller the correction.
    (recall.estimate > 0.0).then(|| Interval {
        estimate: by(recall.estimate),
        low: by(recall.high),
        high: if recall.low > 0.0 { by(recall.low) } else { 1.0 },
    })
}

impl Scorer<'_> {
    /// Recall of the whole search for `probes` passages a window length (of `lengths`) and edit level, and for `paraphrases` long enough
    /// for the length; lengths no document reaches are left out. `progress` gets the tokens of the probes done, of `probes` times
    /// [`EDITS`] times the sum of the lengths. Cost: that of scoring as many windows.
    pub fn probe(
        &mut self,
        lengths: &[usize],
        probes: usize,
        paraphrases: &[Paraphrase],
        seed: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Recall>> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let sources = paraphrases
            .iter()
            .map(|p| Ok((self.snapshot.find_id(&p.source)?, p.text.clone())))
            .collect::<Result<Vec<(Vec<DocumentRef>, String)>>>()?;
        let mut out = Vec::new();
        let mut done = 0;
        for &length in lengths {
            let mut passages: Vec<(DocumentRef, String)> = Vec::new();
            for _ in 0..probes * 8 {
                if passages.len() == probes {
                    break;
                }
                passages.extend(self.passage(length, &mut random)?);
            }
            let pool: Vec<String> = passages.iter().flat_map(|p| p.1.split_whitespace()).map(str::to_string).collect();
            for edited in EDITS {
                let texts: Vec<(Vec<DocumentRef>, String)> = passages
                    .iter()
                    .map(|(source, text)| {
                        let text = if edited > 0.0 { edit(text, edited, &pool, &mut random) } else { text.clone() };
                        (vec![*source], text)
                    })
                    .collect();
                out.extend(self.found(length, Some(edited), &texts)?);
                done += (probes * length) as u64;
                progress(done);
            }
            out.extend(self.found(length, None, &sources)?);
        }
        Ok(out)
    }

    /// Recall of one kind of probe. A passage is one window, whatever edits made of its length; a paraphrase is cut into windows.
    fn found(
        &mut self,
        length: usize,
        edited: Option<f64>,
        texts: &[(Vec<DocumentRef>, String)],
    ) -> Result<Option<Recall>> {
        let mut hits: Vec<[bool; 3]> = Vec::new();
        for batch in texts.chunks(BATCH) {
            let cuts: Vec<Cut> = batch.iter().map(|(_, t)| self.tokenize(t)).collect::<Result<_>>()?;
            let mut windows: Vec<Window> = Vec::new();
            for (text, cut) in cuts.iter().enumerate() {
                let n = cut.tokens.ids.len();
                let passage = edited.map(|_| 0..n).filter(|r| !r.is_empty());
                let cut = if edited.is_none() { window::windows(n, length) } else { Vec::new() };
                let ranges = passage.into_iter().chain(cut);
                windows.extend(ranges.map(|range| Window { text, length, short: false, range }));
            }
            let staged = self.stage(&cuts, windows, &vec![Vec::new(); batch.len()], false)?;
            for (w, window) in staged.windows.iter().enumerate() {
                let sources = &batch[window.text].0;
                let holds = |document: DocumentRef| sources.contains(&document);
                let nearest = staged.nearest[w].as_ref().and_then(|n| {
                    let chunk =
                        self.snapshot.shards[n.run.shard as usize].semantic.as_ref()?.chunk(n.run.rows.start)?;
                    Some(DocumentRef { shard: n.run.shard, document: chunk.document })
                });
                hits.push([
                    staged.candidates[w].iter().any(|c| holds(c.document())),
                    staged.reranked[w].iter().any(|c| holds(c.document())),
                    nearest.is_some_and(holds),
                ]);
            }
        }
        let share = |k: usize| statistics::share(hits.iter().filter(|h| h[k]).count(), hits.len());
        let (Some(candidates), Some(scored), Some(first)) = (share(0), share(1), share(2)) else { return Ok(None) };
        Ok(Some(Recall { length, edited, probes: hits.len(), candidates, scored, first }))
    }

    /// A passage of `length` encoder tokens from a random document, each chunk being as likely to be in it; `None` if the
    /// document drawn is too short or removed.
    fn passage(&self, length: usize, random: &mut ChaCha8Rng) -> Result<Option<(DocumentRef, String)>> {
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
            let (text, _) =
                shard.documents.text_range(chunk.document, start..(start + 16 * (length + 100)).min(size))?;
            let tokens = self.encoder.tokenize(&text)?;
            // Off the chunk's own boundary, as a quotation would be.
            let shift = random.random_range(0..self.chunk_tokens()).min(tokens.ids.len().saturating_sub(length));
            let (Some(first), Some(last)) =
                (tokens.spans.get(shift), tokens.spans.get((shift + length).wrapping_sub(1)))
            else {
                return Ok(None);
            };
            let passage = text.get(first.start as usize..last.end as usize);
            return Ok(passage.map(|p| (document, p.to_string())));
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

    #[test]
    fn corrections_divide_by_the_recall() {
        let recall = Interval { estimate: 0.8, low: 0.5, high: 0.9 };
        let got = corrected(0.6, &recall).unwrap();
        assert!((got.estimate - 0.75).abs() < 1e-12 && (got.low - 0.6 / 0.9).abs() < 1e-12 && got.high == 1.0);
        assert_eq!(corrected(0.6, &Interval { estimate: 0.0, low: 0.0, high: 0.3 }), None);
        assert_eq!(corrected(0.9, &recall).unwrap().estimate, 1.0);
    }
}
