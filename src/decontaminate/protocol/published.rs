//! The published protocols as functions of the evidence.
//!
//! Where a protocol speaks of "the item", the question is judged; for items without one, the passage, else the answer.

use super::parameters::{Contam, Datatrove, Decon, Dolma, Gpt3, Gpt4, Llama2, Llama3, Mathpile, Palm, Tulu3};
use super::{Level, Verdict};
use crate::decontaminate::evidence::{ComponentEvidence, Evidence};
use crate::reference::ComponentKind;

/// The component that stands for the item, where something of it was found.
fn main_component(evidence: &Evidence) -> Option<&ComponentEvidence> {
    evidence.of(evidence.main)
}

/// Share of a component's words that lie in exact runs of at least `n` words.
fn covered(component: &ComponentEvidence, n: usize) -> f32 {
    let mut hit = vec![false; component.words as usize];
    for run in component.runs.iter().filter(|run| run.words as usize >= n) {
        hit[run.component as usize..(run.component + run.words) as usize].fill(true);
    }
    hit.iter().filter(|h| **h).count() as f32 / hit.len().max(1) as f32
}

/// Share of a component's n-grams found; a component shorter than `n` words has none.
fn grams(component: &ComponentEvidence, n: usize) -> f32 {
    let all = (component.words as usize + 1).saturating_sub(n);
    let mut hit = vec![false; all];
    for run in component.runs.iter().filter(|run| run.words as usize >= n) {
        let (first, last) = (run.component as usize, (run.component + run.words) as usize - n);
        hit[first..=last].fill(true);
    }
    hit.iter().filter(|h| **h).count() as f32 / all.max(1) as f32
}

/// Dirty when `is_dirty`, resting on the item's main component.
fn verdict(evidence: &Evidence, score: f32, is_dirty: bool, rule: &'static str) -> Verdict {
    let mut verdict = Verdict::clean(score);
    if is_dirty {
        verdict.dirty(rule, evidence.main, score);
    }
    verdict
}

impl Gpt3 {
    /// Any n-gram hit.
    pub fn judge(&self, evidence: &Evidence) -> Verdict {
        let hits = evidence.primitives.bare.len();
        let rare = self.most_matches == 0 || evidence.corpus_frequency.is_none_or(|n| n <= self.most_matches);
        verdict(evidence, if hits > 0 { 1.0 } else { 0.0 }, hits > 0 && rare, "n-gram")
    }

    /// What is left of a document of `characters` characters after cutting around hits (character ranges, ascending, end
    /// exclusive): the character ranges of the pieces kept; `None` when there were too many cuts.
    pub fn cut(&self, characters: usize, hits: &[std::ops::Range<usize>]) -> Option<Vec<std::ops::Range<usize>>> {
        let mut pieces = Vec::new();
        let (mut from, mut end) = (0, None);
        for (i, hit) in hits.iter().enumerate() {
            if i >= self.most_cuts {
                return None;
            }
            let start = hit.start.saturating_sub(self.window);
            let past = (hit.end.saturating_sub(1) + self.window).min(characters);
            if start > from + self.least_piece {
                pieces.push(from..start);
            }
            from = past;
            end = Some(past);
        }
        match end {
            None if characters + 1 > self.least_piece => pieces.push(0..characters),
            Some(end) if end + self.least_piece < characters => pieces.push(end + 1..characters),
            _ => {}
        }
        Some(pieces)
    }
}

impl Gpt4 {
    /// Any sampled substring.
    pub fn judge(&self, evidence: &Evidence) -> Verdict {
        let hit = evidence.primitives.substrings != 0;
        verdict(evidence, if hit { 1.0 } else { 0.0 }, hit, "substring")
    }
}

impl Palm {
    /// Share of the question's n-grams.
    pub fn judge(&self, evidence: &Evidence) -> Verdict {
        let score = main_component(evidence).map_or(0.0, |c| grams(c, self.n));
        verdict(evidence, score, score >= self.threshold, "n-grams")
    }
}

impl Llama2 {
    /// Share of contaminated tokens.
    pub fn judge(&self, evidence: &Evidence) -> Verdict {
        let score = main_component(evidence).map_or(0.0, |c| c.skipgram_words as f32 / c.words.max(1) as f32);
        let mut verdict = verdict(evidence, score, score >= self.dirty, "tokens");
        if verdict.level == Level::Clean && score >= self.clean {
            verdict.level = Level::Suspect;
        }
        verdict
    }
}

impl Llama3 {
    /// Share of covered tokens.
    pub fn judge(&self, evidence: &Evidence) -> Verdict {
        let score = main_component(evidence).map_or(0.0, |c| covered(c, self.n));
        verdict(evidence, score, score >= self.threshold, "tokens")
    }
}

impl Tulu3 {
    /// Share of covered tokens, strictly above the threshold.
    pub fn judge(&self, evidence: &Evidence) -> Verdict {
        let score = main_component(evidence).map_or(0.0, |c| covered(c, self.n));
        verdict(evidence, score, score > self.threshold, "tokens")
    }
}

impl Datatrove {
    /// Any n-gram of the enabled parts.
    pub fn judge(&self, evidence: &Evidence) -> Verdict {
        let p = &evidence.primitives;
        let mut verdict = Verdict::clean(0.0);
        let parts = [
            (self.answer, p.folded_answer, "answer", ComponentKind::Answer),
            (self.overlap, p.folded_overlap, "overlap", ComponentKind::Answer),
            (self.question, p.folded_question, "question", ComponentKind::Question),
        ];
        for (enabled, hits, rule, kind) in parts {
            if enabled && hits > 0 {
                verdict.dirty(rule, kind, 1.0);
            }
        }
        verdict
    }
}

impl Dolma {
    /// An equal paragraph, or a paragraph with enough of the item's n-grams.
    pub fn judge(&self, evidence: &Evidence) -> Verdict {
        let p = &evidence.primitives;
        if p.paragraphs > 0 {
            return verdict(evidence, 1.0, true, "paragraph");
        }
        verdict(evidence, p.paragraph_share, self.n > 0 && p.paragraph_share >= self.share, "n-grams")
    }
}

impl Mathpile {
    /// An equal line.
    pub fn judge(&self, evidence: &Evidence) -> Verdict {
        let hit = evidence.primitives.lines > 0;
        verdict(evidence, if hit { 1.0 } else { 0.0 }, hit, "line")
    }
}

impl Contam {
    /// Longest match by item length.
    pub fn judge(&self, evidence: &Evidence) -> Verdict {
        let score = main_component(evidence).map_or(0.0, |c| {
            let longest = c.runs.iter().map(|run| run.words).max().unwrap_or(0);
            let counts = longest as usize >= self.least_words.min(c.words as usize);
            if counts { longest as f32 / c.words.max(1) as f32 } else { 0.0 }
        });
        verdict(evidence, score, score >= self.threshold, "longest")
    }
}

impl Decon {
    /// The combined score against the threshold for the item's length.
    pub fn judge(&self, evidence: &Evidence) -> Verdict {
        let Some(score) = &evidence.primitives.decon else { return Verdict::clean(0.0) };
        let mut out = verdict(evidence, score.combined, score.combined >= self.threshold, "score");
        if out.level == Level::Dirty && score.answer > 0.0 {
            out.components.push(ComponentKind::Answer);
        }
        out
    }
}
