//! Colinear chaining of runs, and word alignment in the gaps between them.
//!
//! Exact runs of a component that follow each other in the same order in document and component, with limited gaps,
//! are one copy with edits: the *chain* with the most matched weight, less a cost for gaps. Gaps between runs, and the
//! ends of the component that no run reached, are then aligned word by word (weighted longest common subsequence with
//! gap costs), which recovers single surviving words between edits, inserted filler and replaced names or numbers.
//!
//! Cost: quadratic in the runs within reach (at most [`LOOK_BACK`] each), plus at most [`CELLS`] cells per gap.

use super::scan::{Run, Scan};

/// Runs looked back at per run when chaining.
const LOOK_BACK: usize = 64;
/// Largest alignment matrix per gap.
const CELLS: usize = 1 << 15;
/// Bits lost per document word skipped in a gap.
const SKIP_DOCUMENT: f32 = 0.2;
/// Bits lost per document word skipped beyond the ends of a chain, where nothing holds the other side.
const SKIP_OUTSIDE: f32 = 0.7;
/// Bits lost per component word skipped in a gap.
const SKIP_COMPONENT: f32 = 0.1;

/// A word of the document aligned with an equal word of the component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    pub document: u32,
    pub component: u32,
}

/// Longest document gap, in words, inside a chain of a component with `words` words.
fn longest_gap(words: usize) -> u32 {
    (40 + words / 4).min(120) as u32
}

/// The best chain of `runs` (sorted by document place) against a component with these word weights.
pub fn best_chain(runs: &[Run], weights: &[f32]) -> Vec<Run> {
    let reach = longest_gap(weights.len());
    let weight =
        |run: &Run| -> f32 { weights[run.component as usize..(run.component + run.words) as usize].iter().sum() };
    let mut scores: Vec<f32> = Vec::with_capacity(runs.len());
    let mut previous: Vec<Option<usize>> = Vec::with_capacity(runs.len());
    for (i, run) in runs.iter().enumerate() {
        let (mut best, mut from) = (0.0f32, None);
        for (j, before) in runs[..i].iter().enumerate().rev().take(LOOK_BACK) {
            let document_end = before.document + before.words;
            let component_end = before.component + before.words;
            // Runs may overlap by a few words, which then count once.
            let overlap = document_end.saturating_sub(run.document).max(component_end.saturating_sub(run.component));
            if before.component >= run.component || overlap >= run.words || overlap > 8 {
                continue;
            }
            let gap = run.document.saturating_sub(document_end);
            if gap > reach {
                continue;
            }
            let skipped = run.component.saturating_sub(component_end);
            let lost: f32 = weights[run.component as usize..(run.component + overlap) as usize].iter().sum();
            let score = scores[j] - lost - gap as f32 * SKIP_DOCUMENT - skipped as f32 * SKIP_COMPONENT;
            if score > best {
                (best, from) = (score, Some(j));
            }
        }
        scores.push(best + weight(run));
        previous.push(from);
    }
    let Some(mut at) = (0..runs.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a))) else {
        return Vec::new();
    };
    let mut chain = vec![runs[at]];
    while let Some(before) = previous[at] {
        chain.push(runs[before]);
        at = before;
    }
    chain.reverse();
    // Overlaps are cut off the later run.
    for i in 1..chain.len() {
        let before = chain[i - 1];
        let run = &mut chain[i];
        let overlap = (before.document + before.words)
            .saturating_sub(run.document)
            .max((before.component + before.words).saturating_sub(run.component))
            .min(run.words);
        run.document += overlap;
        run.component += overlap;
        run.words -= overlap;
    }
    chain.retain(|run| run.words > 0);
    chain
}

/// All aligned word pairs of a chain: its runs and, with `gaps`, what matches between them and beyond the ends.
pub fn align(scan: &Scan, component: &[u32], weights: &[f32], chain: &[Run], gaps: bool) -> Vec<Pair> {
    let (Some(first), Some(last)) = (chain.first(), chain.last()) else { return Vec::new() };
    let mut pairs = Vec::with_capacity(component.len());
    let ids = &scan.ids;

    let (d0, q0) = (first.document as usize, first.component as usize);
    let reach = d0 - d0.saturating_sub(q0 + q0 / 2 + 8);
    if gaps {
        fill(&ids[d0 - reach..d0], &component[..q0], &weights[..q0], (d0 - reach, 0), Ends::OpenStart, &mut pairs);
    }
    for (i, run) in chain.iter().enumerate() {
        if let Some(before) = i.checked_sub(1).map(|j| chain[j]).filter(|_| gaps) {
            let d = (before.document + before.words) as usize..run.document as usize;
            let q = (before.component + before.words) as usize..run.component as usize;
            fill(
                &ids[d.clone()],
                &component[q.clone()],
                &weights[q.clone()],
                (d.start, q.start),
                Ends::Closed,
                &mut pairs,
            );
        }
        let whole = (0..run.words).map(|k| Pair { document: run.document + k, component: run.component + k });
        pairs.extend(whole.filter(|p| ids[p.document as usize] == component[p.component as usize]));
    }
    let d1 = (last.document + last.words) as usize;
    let q1 = (last.component + last.words) as usize;
    let rest = component.len() - q1;
    let end = ids.len().min(d1 + rest + rest / 2 + 8);
    if gaps {
        fill(&ids[d1..end], &component[q1..], &weights[q1..], (d1, q1), Ends::OpenEnd, &mut pairs);
    }
    pairs
}

/// Which end of a gap is not held by a run.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    Closed,
    OpenStart,
    OpenEnd,
}

/// Aligns a gap; pushes its pairs in order. `base` is the place of the gap's first words.
fn fill(document: &[u32], component: &[u32], weights: &[f32], base: (usize, usize), ends: Ends, pairs: &mut Vec<Pair>) {
    // Words far from the runs on both sides do not matter; too large gaps are looked at near their held ends only.
    let (mut document, mut component, mut weights, mut base) = (document, component, weights, base);
    let fits = |d: usize, q: usize| (d + 1) * (q + 1) <= CELLS;
    if !fits(document.len(), component.len()) {
        let keep_q = component.len().min(100);
        let keep_d = document.len().min(CELLS / (keep_q + 1) - 1);
        if ends == Ends::OpenStart {
            base = (base.0 + document.len() - keep_d, base.1 + component.len() - keep_q);
            document = &document[document.len() - keep_d..];
            weights = &weights[component.len() - keep_q..];
            component = &component[component.len() - keep_q..];
        } else {
            document = &document[..keep_d];
            weights = &weights[..keep_q];
            component = &component[..keep_q];
        }
    }
    if document.is_empty() || component.is_empty() {
        return;
    }
    let (rows, columns) = (document.len(), component.len());
    let width = columns + 1;
    // best[i][j]: the best alignment of the first i document words with the first j component words.
    let mut best = vec![0f32; (rows + 1) * width];
    let skip = |cost: f32| if ends == Ends::OpenStart { 0.0 } else { cost };
    let skip_document = if ends == Ends::Closed { SKIP_DOCUMENT } else { SKIP_OUTSIDE };
    for j in 1..=columns {
        best[j] = best[j - 1] - skip(SKIP_COMPONENT);
    }
    for i in 1..=rows {
        best[i * width] = best[(i - 1) * width] - skip(skip_document);
        for j in 1..=columns {
            let mut score = (best[(i - 1) * width + j] - skip_document).max(best[i * width + j - 1] - SKIP_COMPONENT);
            if ends == Ends::OpenStart {
                score = score.max(0.0);
            }
            if document[i - 1] == component[j - 1] {
                score = score.max(best[(i - 1) * width + j - 1] + weights[j - 1]);
            }
            best[i * width + j] = score;
        }
    }
    let (mut i, mut j) = (rows, columns);
    if ends == Ends::OpenEnd {
        let place = (0..best.len()).max_by(|&a, &b| best[a].total_cmp(&best[b]).then(b.cmp(&a))).unwrap_or(0);
        (i, j) = (place / width, place % width);
    }
    let from = pairs.len();
    while i > 0 && j > 0 {
        let here = best[i * width + j];
        if ends == Ends::OpenStart && here <= 0.0 {
            break;
        }
        if document[i - 1] == component[j - 1] && here == best[(i - 1) * width + j - 1] + weights[j - 1] {
            pairs.push(Pair { document: (base.0 + i - 1) as u32, component: (base.1 + j - 1) as u32 });
            (i, j) = (i - 1, j - 1);
        } else if here == best[(i - 1) * width + j] - skip_document {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    pairs[from..].reverse();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(ids: &[u32]) -> Scan {
        Scan { ids: ids.to_vec(), ..Scan::default() }
    }

    #[test]
    fn edits_insertions_and_replacements_are_bridged() {
        // Component 1..=12; in the document word 5 became 99, filler 80 81 82 came after 8, word 10 is gone.
        let component: Vec<u32> = (1..=12).collect();
        let weights = vec![5.0; 12];
        let document = [70, 1, 2, 3, 4, 99, 6, 7, 8, 80, 81, 82, 9, 11, 12, 71];
        let runs = [Run { document: 1, component: 0, words: 4 }, Run { document: 6, component: 5, words: 3 }];
        let chain = best_chain(&runs, &weights);
        assert_eq!(chain, runs);
        let pairs = align(&scan(&document), &component, &weights, &chain, true);
        let matched: Vec<u32> = pairs.iter().map(|p| component[p.component as usize]).collect();
        assert_eq!(matched, [1, 2, 3, 4, 6, 7, 8, 9, 11, 12]);
        assert!(pairs.iter().all(|p| document[p.document as usize] == component[p.component as usize]));
    }

    #[test]
    fn a_chain_does_not_cross_a_long_gap_or_go_backwards() {
        let weights = vec![5.0; 20];
        let far = [Run { document: 0, component: 0, words: 5 }, Run { document: 500, component: 5, words: 6 }];
        assert_eq!(best_chain(&far, &weights), far[1..]);
        let crossed = [Run { document: 0, component: 10, words: 5 }, Run { document: 6, component: 2, words: 6 }];
        assert_eq!(best_chain(&crossed, &weights), crossed[1..]);
        assert!(best_chain(&[], &weights).is_empty());
    }

    #[test]
    fn open_ends_stop_where_matches_end() {
        let component = [1, 2, 3, 4, 5, 6];
        let weights = [5.0; 6];
        let document = [1, 60, 61, 62, 63, 3, 4, 64, 5, 65, 66];
        let run = Run { document: 5, component: 2, words: 2 };
        let pairs = align(&scan(&document), &component, &weights, &[run], true);
        let places: Vec<u32> = pairs.iter().map(|p| p.document).collect();
        assert_eq!(places, [0, 5, 6, 8]);
    }
}
