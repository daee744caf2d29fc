//! Approximate memorisation: whether some 50 tokens of a text nearly equal 50 tokens of the corpus.
//!
//! The measure is BLEU (Papineni et al. 2002: geometric mean of the clipped 1- to 4-gram precisions; windows of equal length, so no
//! brevity penalty, no smoothing) of each window of [`WINDOW`] tokens against the best window of the passages that late interaction
//! found, and what lies around them. Above [`MEMORISED`] a text counts as approximately memorised. The passages are those the search
//! found, so the figure is a lower bound.
//!
//! Cost: passages × windows × tokens; a passage is looked at closely only where three quarters of a window's single tokens agree.

use std::collections::{BTreeSet, HashMap};

use super::score::Score;
use crate::error::Result;
use crate::index::Snapshot;
use crate::query::Ngram;

/// Tokens of a window, of the index's token stream.
pub const WINDOW: usize = 50;
/// BLEU above which a window is approximately memorised.
pub const MEMORISED: f64 = 0.75;
/// Tokens from one window of the text to the next.
const STRIDE: usize = 10;
/// Bytes looked at before and after a passage.
const AROUND: usize = 400;
/// Passages looked at, the most alike first.
const PASSAGES: usize = 8;

/// BLEU-4 of two token sequences of equal length.
pub fn bleu(candidate: &[u32], reference: &[u32]) -> f64 {
    let mut product = 1.0;
    for n in 1..=4usize {
        let total = (candidate.len() + 1).saturating_sub(n);
        if total == 0 {
            return 0.0;
        }
        let mut counts: HashMap<&[u32], i32> = HashMap::new();
        reference.windows(n).for_each(|g| *counts.entry(g).or_default() += 1);
        let mut hits = 0;
        for gram in candidate.windows(n) {
            if let Some(left) = counts.get_mut(gram)
                && *left > 0
            {
                *left -= 1;
                hits += 1;
            }
        }
        product *= hits as f64 / total as f64;
    }
    f64::powf(product, 0.25)
}

/// The largest BLEU of a window of `text` against one of `passage`, where it could exceed [`MEMORISED`]; else 0.
pub fn best(text: &[u32], passage: &[u32]) -> f64 {
    let mut most = 0f64;
    if text.len() < WINDOW || passage.len() < WINDOW {
        return most;
    }
    let last = text.len() - WINDOW;
    for start in (0..last).step_by(STRIDE).chain([last]) {
        let window = &text[start..start + WINDOW];
        let mut wanted: HashMap<u32, i32> = HashMap::new();
        window.iter().for_each(|&t| *wanted.entry(t).or_default() += 1);
        // Clipped matches of single tokens in a sliding window of the passage.
        let mut seen: HashMap<u32, i32> = HashMap::new();
        let mut hits = 0usize;
        for (at, &token) in passage.iter().enumerate() {
            if let Some(&want) = wanted.get(&token) {
                let have = seen.entry(token).or_default();
                *have += 1;
                hits += usize::from(*have <= want);
            }
            if at >= WINDOW
                && let Some(&want) = wanted.get(&passage[at - WINDOW])
            {
                let have = seen.entry(passage[at - WINDOW]).or_default();
                hits -= usize::from(*have <= want);
                *have -= 1;
            }
            if at + 1 >= WINDOW && hits as f64 > MEMORISED * WINDOW as f64 {
                most = most.max(bleu(window, &passage[at + 1 - WINDOW..=at]));
            }
        }
    }
    most
}

/// The largest BLEU of a scored text's windows against its nearest passages; `None` for a text shorter than a window.
pub fn approximate(snapshot: &Snapshot, text: &str, score: &Score) -> Result<Option<f64>> {
    let own = snapshot.ngram(text)?;
    if own.len() < WINDOW {
        return Ok(None);
    }
    let mut passages: Vec<_> =
        score.lengths.iter().flat_map(|l| &l.windows).filter_map(|w| Some((w.s, w.best.as_ref()?))).collect();
    passages.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut interned = HashMap::new();
    let own = numbers(&own, &mut interned);
    let mut seen = BTreeSet::new();
    let mut most = 0f64;
    for (_, passage) in passages {
        let key = (passage.document, passage.start_byte / AROUND);
        if seen.len() == PASSAGES || !seen.insert(key) {
            continue;
        }
        let documents = &snapshot.shards[passage.document.shard as usize].documents;
        let size = documents.text_len(passage.document.document)?;
        let range = passage.start_byte.saturating_sub(AROUND)..(passage.end_byte + AROUND).min(size);
        let (around, _) = documents.text_range(passage.document.document, range)?;
        most = most.max(best(&own, &numbers(&snapshot.ngram(&around)?, &mut interned)));
    }
    Ok(Some(most))
}

/// Tokens as small numbers, equal for equal tokens.
pub(super) fn numbers(tokens: &Ngram, interned: &mut HashMap<String, u32>) -> Vec<u32> {
    match tokens {
        Ngram::Ids(ids) => ids.clone(),
        Ngram::Terms(terms) => terms
            .iter()
            .map(|t| match interned.get(t) {
                Some(&n) => n,
                None => {
                    let n = interned.len() as u32;
                    interned.insert(t.clone(), n);
                    n
                }
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bleu_by_hand() {
        // "the cat sat on the mat" against "the cat sat on a mat": 5/6 · 3/5 · 2/4 · 1/3 = 1/12.
        let (a, b) = ([1, 2, 3, 4, 1, 5], [1, 2, 3, 4, 6, 5]);
        assert!((bleu(&a, &b) - (1.0f64 / 12.0).powf(0.25)).abs() < 1e-12);
        assert_eq!((bleu(&a, &a), bleu(&a, &[9; 6]), bleu(&[], &[])), (1.0, 0.0, 0.0));
    }

    #[test]
    fn a_copied_window_is_found_where_it_is() {
        let passage: Vec<u32> = (0..200).collect();
        let mut text: Vec<u32> = (1000..1060).collect();
        text.extend(&passage[70..125]);
        assert_eq!(best(&text, &passage), 1.0);
        let edited: Vec<u32> = text.iter().enumerate().map(|(i, &t)| if i % 25 == 0 { 5000 } else { t }).collect();
        assert!(best(&edited, &passage) > MEMORISED);
        assert_eq!(best(&text[..60], &passage), 0.0);
        assert_eq!(best(&passage[..49], &passage), 0.0, "too short for a window");
    }

    proptest! {
        #[test]
        fn the_quick_look_misses_nothing(
            text in proptest::collection::vec(0u32..9, 50..80), passage in proptest::collection::vec(0u32..9, 50..120), copy in any::<bool>(),
        ) {
            let mut passage = passage;
            if copy {
                passage.splice(0..45, text[text.len() - 45..].iter().copied());
            }
            let last = text.len() - WINDOW;
            let starts = (0..last).step_by(STRIDE).chain([last]);
            let exhaustive = starts
                .flat_map(|s| passage.windows(WINDOW).map(move |p| (s, p)))
                .map(|(s, p)| bleu(&text[s..s + WINDOW], p))
                .fold(0f64, f64::max);
            if exhaustive > MEMORISED {
                prop_assert_eq!(best(&text, &passage), exhaustive);
            } else {
                prop_assert!(best(&text, &passage) <= MEMORISED);
            }
        }
    }
}
