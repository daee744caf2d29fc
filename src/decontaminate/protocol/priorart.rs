//! The `priorart` protocol, the default.
//!
//! Every component is judged on its own; an item is as dirty as its dirtiest component, and never hidden behind a
//! weighted sum. A component is dirty when the document holds
//!
//! - a **copy**: an alignment that matches most of its weight, however edited, interleaved with filler or renamed;
//! - an **excerpt**: one unbroken stretch that carries enough weight and a good part of the component;
//! - a **unit**: a short component, whole, as a line or sentence of its own, character for character;
//! - a **pair**: question and answer next to each other, both recognisable though neither is by itself;
//! - the **choices**: the question with at least half of its choices near it in any order, or all choices together.
//!
//! Bits are those of `reference/weight.rs`. The thresholds were set on planted leaks (`benches/planted`).

use serde::{Deserialize, Serialize};

use super::{Level, Verdict};
use crate::decontaminate::evidence::{ComponentEvidence, Evidence};
use crate::reference::ComponentKind;

/// Parameters of the `priorart` protocol. Shares are of weight, 0 to 1; weights in bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Priorart {
    /// Copy: least share matched.
    pub coverage: f32,
    /// Copy: least share when the longest unbroken stretch carries `stretch_weight`.
    pub stretch_coverage: f32,
    pub stretch_weight: f32,
    /// Copy: share from which filler between the words does not matter.
    pub full_coverage: f32,
    /// Copy: least share for components of fewer than `short_words` words.
    pub short_coverage: f32,
    pub short_words: u32,
    /// Copy: least weight and words matched.
    pub weight: f32,
    pub words: u32,
    /// Copy: matched words beyond `words` that are asked for when no stretch has six.
    pub scattered_words: u32,
    /// Copy: least matched words per document word.
    pub density: f32,
    /// Excerpt: least words and weight of the unbroken stretch, and share of the component.
    pub excerpt_words: u32,
    pub excerpt_weight: f32,
    pub excerpt_coverage: f32,
    /// Excerpt: words and weight from which `long_coverage` of the component is enough.
    pub long_words: u32,
    pub long_weight: f32,
    pub long_coverage: f32,
    /// Unit: least weight as a line of its own, literally; as a sentence, literally; as a sentence with other punctuation.
    pub line_weight: f32,
    pub sentence_weight: f32,
    pub loose_weight: f32,
    /// Pair: least share of both question and answer, least weight of both together.
    pub pair_coverage: f32,
    pub pair_weight: f32,
    /// Choices: least share of the question, share of the choices found, weight of question and choices together.
    pub choices_question: f32,
    pub choices_share: f32,
    pub choices_weight: f32,
    /// Choices without the question: least weight when all are found.
    pub all_choices_weight: f32,
    /// Share from which an item that is not dirty is suspect.
    pub suspect_coverage: f32,
    /// With corpus frequencies: more occurrences of the matched text in the corpus make it suspect at most. 0 = no limit.
    pub most_occurrences: u64,
}

impl Default for Priorart {
    fn default() -> Self {
        Priorart {
            coverage: 0.6,
            stretch_coverage: 0.5,
            stretch_weight: 28.0,
            full_coverage: 0.8,
            short_coverage: 0.85,
            short_words: 16,
            weight: 40.0,
            words: 10,
            scattered_words: 4,
            density: 0.5,
            excerpt_words: 11,
            excerpt_weight: 38.0,
            excerpt_coverage: 0.35,
            long_words: 20,
            long_weight: 70.0,
            long_coverage: 0.12,
            line_weight: 15.0,
            sentence_weight: 25.0,
            loose_weight: 40.0,
            pair_coverage: 0.4,
            pair_weight: 90.0,
            choices_question: 0.8,
            choices_share: 0.5,
            choices_weight: 25.0,
            all_choices_weight: 50.0,
            suspect_coverage: 0.4,
            most_occurrences: 0,
        }
    }
}

impl Priorart {
    /// The verdict on one item.
    pub fn judge(&self, evidence: &Evidence) -> Verdict {
        let texts = || evidence.components.iter().filter(|c| c.kind != ComponentKind::Choice);
        let mut verdict = Verdict::clean(texts().map(ComponentEvidence::coverage).fold(0.0, f32::max));
        for component in texts() {
            if let Some(rule) = self.component_rule(component) {
                verdict.dirty(rule, component.kind, component.coverage());
            }
        }
        if self.is_pair(evidence) {
            verdict.dirty("pair", ComponentKind::Question, 0.0);
            verdict.dirty("pair", ComponentKind::Answer, 0.0);
        }
        if self.has_choices(evidence) {
            let share = evidence.choices.found as f32 / evidence.choices.of.max(1) as f32;
            verdict.dirty("choices", ComponentKind::Choice, share);
        }
        let suspect = match verdict.level {
            Level::Dirty => self.is_everywhere(evidence),
            Level::Clean => texts().any(|c| self.is_suspect(c)),
            Level::Suspect => true,
        };
        if suspect {
            verdict.level = Level::Suspect;
        }
        verdict
    }

    /// Which rule calls a question, answer or passage dirty by itself.
    fn component_rule(&self, c: &ComponentEvidence) -> Option<&'static str> {
        let coverage = c.coverage();
        if c.is_whole() {
            let (b, weight) = (c.bounds, c.matched_weight);
            let sentence = b.starts_unit && b.ends_unit;
            let is_unit = (b.own_line && b.literal && weight >= self.line_weight)
                || (sentence && b.literal && weight >= self.sentence_weight)
                || (sentence && weight >= self.loose_weight);
            if is_unit {
                return Some("unit");
            }
        }
        let enough = c.matched_words >= self.words && c.matched_weight >= self.weight;
        let long_enough = c.words >= self.short_words || coverage >= self.short_coverage;
        if enough && long_enough {
            let density = c.density();
            // Scattered short stretches add up to a share by chance where few words carry the weight.
            let held =
                c.longest_words >= 6 || (c.longest_words == 5 && c.matched_words >= self.words + self.scattered_words);
            let plain = coverage >= self.coverage && held && density >= self.density;
            let full = coverage >= self.full_coverage && density >= self.density * 0.6;
            let stretch = coverage >= self.stretch_coverage
                && c.longest_weight >= self.stretch_weight
                && c.longest_words >= 6
                && c.matched_words >= self.words + 2
                && density >= self.density * 0.9;
            if plain || full || stretch {
                return Some("copy");
            }
        }
        let excerpt = c.longest_words >= self.excerpt_words
            && c.longest_weight >= self.excerpt_weight
            && coverage >= self.excerpt_coverage
            && long_enough;
        let long = c.longest_words >= self.long_words
            && c.longest_weight >= self.long_weight
            && coverage >= self.long_coverage;
        (excerpt || long).then_some("excerpt")
    }

    fn is_pair(&self, evidence: &Evidence) -> bool {
        let (Some(q), Some(a)) = (evidence.of(ComponentKind::Question), evidence.of(ComponentKind::Answer)) else {
            return false;
        };
        let apart = a.document_words.start.saturating_sub(q.document_words.end);
        let in_order = a.document_words.end > q.document_words.end;
        in_order
            && apart <= 30
            && q.coverage() >= self.pair_coverage
            && a.coverage() >= self.pair_coverage
            && q.density() >= self.density
            && q.longest_words >= 5
            && a.longest_words >= 5
            && q.matched_weight + a.matched_weight >= self.pair_weight
    }

    fn has_choices(&self, evidence: &Evidence) -> bool {
        let choices = &evidence.choices;
        let Some(question) = evidence.of(ComponentKind::Question) else {
            return choices.of >= 3 && choices.found == choices.of && choices.matched_weight >= self.all_choices_weight;
        };
        let half = (choices.of as f32 * self.choices_share).ceil().max(2.0) as u32;
        let with_question = question.coverage() >= self.choices_question
            && choices.found >= half
            && question.matched_weight + choices.matched_weight >= self.choices_weight;
        let alone = choices.of >= 3 && choices.found == choices.of && choices.matched_weight >= self.all_choices_weight;
        with_question || alone
    }

    fn is_suspect(&self, c: &ComponentEvidence) -> bool {
        let enough = c.matched_words >= self.words && c.matched_weight >= self.weight * 0.75;
        enough && c.coverage() >= self.suspect_coverage && c.density() >= self.density * 0.6
    }

    fn is_everywhere(&self, evidence: &Evidence) -> bool {
        self.most_occurrences > 0 && evidence.corpus_frequency.is_some_and(|n| n > self.most_occurrences)
    }
}
