//! Whole lines of a document that are whole lines of an item: primitive evidence of `dolma` and `mathpile`.
//!
//! Both protocols compare lines ("paragraphs" in dolma: text between newlines). A line that is equal, or shares an n-gram,
//! lies in or meets an exact run, so only the lines that runs touch are looked at.

use std::ops::Range;

use super::scan::{Run, Scan};
use crate::reference::words::Word;

/// What the lines of a document share with one component.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct LineMatches {
    /// Lines of at least `dolma_words` white-space words, equal to a line of the component up to surrounding space.
    pub paragraphs: u32,
    /// Lines of at least `line_words` words, equal to a line of the component after normalisation.
    pub lines: u32,
}

/// Least words of a line under either protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LineRules {
    pub dolma_words: usize,
    pub line_words: usize,
}

/// Compares the lines touched by exact runs of a component. `spans` are the component's words.
pub(crate) fn equal_lines(
    scan: &Scan,
    text: &str,
    component: &str,
    spans: &[Word],
    runs: &[Run],
    rules: LineRules,
) -> LineMatches {
    let mut out = LineMatches::default();
    for run in runs.iter().filter(|run| run.words as usize >= rules.line_words.min(rules.dolma_words).max(1)) {
        let first = run.document as usize;
        let end = first + run.words as usize;
        let mut at = first;
        while at < end {
            let line = line_around(text, scan.starts[at] as usize);
            let past = at + scan.starts[at..].iter().take_while(|&&start| (start as usize) < line.end).count();
            let whole_here = at == 0 || (scan.starts[at - 1] as usize) < line.start;
            if whole_here && past <= end {
                let q = run.component as usize + (at - first);
                let words = past - at;
                let other = line_around(component, spans[q].start as usize);
                let begins = q == 0 || (spans[q - 1].start as usize) < other.start;
                let last = q + words - 1;
                let ends = (spans[last].start as usize) < other.end
                    && spans.get(last + 1).is_none_or(|next| next.start as usize >= other.end);
                if begins && ends {
                    out.lines += u32::from(words >= rules.line_words);
                    let (mine, theirs) = (text[line].trim(), component[other].trim());
                    let long = mine.split_whitespace().count() >= rules.dolma_words;
                    out.paragraphs += u32::from(long && mine == theirs);
                }
            }
            at = past.max(at + 1);
        }
    }
    out
}

/// The largest share of a document line's n-grams that lie in the runs of an item's components.
pub(crate) fn best_share(scan: &Scan, text: &str, runs: &[&Run], n: usize) -> f32 {
    let mut best = 0f32;
    for run in runs.iter().filter(|run| run.words as usize >= n) {
        let mut at = run.document as usize;
        let end = at + run.words as usize;
        while at < end {
            let line = line_around(text, scan.starts[at] as usize);
            let first = scan.starts.partition_point(|&start| (start as usize) < line.start);
            let past = scan.starts.partition_point(|&start| (start as usize) < line.end);
            let grams = (past - first).saturating_sub(n - 1);
            if grams > 0 {
                let mut hit = vec![false; grams];
                for run in runs.iter().filter(|run| run.words as usize >= n) {
                    let (d, words) = (run.document as usize, run.words as usize);
                    let from = d.max(first);
                    let to = (d + words + 1).saturating_sub(n).min(first + grams);
                    for place in hit.iter_mut().take(to.saturating_sub(first)).skip(from - first) {
                        *place = true;
                    }
                }
                best = best.max(hit.iter().filter(|h| **h).count() as f32 / grams as f32);
            }
            at = past.max(at + 1);
        }
    }
    best
}

/// The line that holds byte `at`, without its newline.
fn line_around(text: &str, at: usize) -> Range<usize> {
    let start = text[..at].rfind('\n').map_or(0, |i| i + 1);
    let end = text[at..].find('\n').map_or(text.len(), |i| at + i);
    start..end
}
