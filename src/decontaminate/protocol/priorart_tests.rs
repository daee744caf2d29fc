//! The rules of `priorart`, each just under and just over every threshold, on evidence made by hand.
//!
//! A component here has 40 words of 100 bits in all unless a test says otherwise; what is found of it is given number by number.

use std::ops::Range;

use super::{Level, Parameters, Priorart, Protocol, Verdict};
use crate::decontaminate::evidence::{ChoiceEvidence, ComponentEvidence, Evidence};
use crate::decontaminate::primitives::Primitives;
use crate::decontaminate::unit::Bounds;
use crate::reference::ComponentKind;

use Level::{Clean, Dirty, Suspect};

/// What was found of a question: words and bits in all, matched, of the longest stretch, and the document words they lie in.
fn found(words: (u32, f32), matched: (u32, f32), longest: (u32, f32), span_words: u32) -> ComponentEvidence {
    ComponentEvidence {
        component: 0,
        kind: ComponentKind::Question,
        words: words.0,
        weight: words.1,
        runs: Vec::new(),
        skipgram_words: 0,
        matched_words: matched.0,
        matched_weight: matched.1,
        renamed_words: 0,
        renamed_weight: 0.0,
        longest_words: longest.0,
        longest_weight: longest.1,
        span_words,
        document: 0..1,
        bounds: Bounds::default(),
        pieces: Vec::new(),
        stretches: Vec::new(),
        document_frequency: Vec::new(),
        document_words: 0..span_words,
    }
}

/// A question of 40 words and 100 bits.
fn part(matched: (u32, f32), longest: (u32, f32), span_words: u32) -> ComponentEvidence {
    found((40, 100.0), matched, longest, span_words)
}

fn evidence(components: Vec<ComponentEvidence>) -> Evidence {
    Evidence {
        item: 0,
        components,
        choices: ChoiceEvidence::default(),
        corpus_frequency: None,
        main: ComponentKind::Question,
        primitives: Primitives::default(),
    }
}

fn judge(components: Vec<ComponentEvidence>) -> Verdict {
    Priorart::default().judge(&evidence(components))
}

/// Level and rule of one component.
fn one(component: ComponentEvidence) -> (Level, &'static str) {
    let verdict = judge(vec![component]);
    (verdict.level, verdict.rule)
}

#[test]
fn a_plain_copy_is_sixty_per_cent_held_together_and_dense() {
    assert_eq!(one(part((20, 60.0), (6, 10.0), 40)), (Dirty, "copy"));
    assert_eq!(one(part((20, 59.9), (6, 10.0), 40)), (Suspect, ""), "a share of .599");
    assert_eq!(one(part((20, 60.0), (6, 10.0), 41)).0, Suspect, "less than a matched word in two");
    assert_eq!(one(part((20, 60.0), (4, 10.0), 40)).0, Suspect, "no stretch of five");
    // Five words in a row hold it together when fourteen are matched.
    assert_eq!(one(part((14, 60.0), (5, 10.0), 28)), (Dirty, "copy"));
    assert_eq!(one(part((13, 60.0), (5, 10.0), 26)).0, Suspect);
    // Ten words and 40 bits at least, whatever the share.
    let small = |matched: (u32, f32)| one(found((20, 60.0), matched, (6, 10.0), 20));
    assert_eq!(small((10, 40.0)), (Dirty, "copy"));
    assert_eq!(small((10, 39.9)).0, Suspect);
    assert_eq!(small((9, 40.0)).0, Clean, "nine words do not make a suspect either");
}

#[test]
fn a_full_copy_may_be_thinned_by_filler() {
    assert_eq!(one(part((30, 80.0), (3, 8.0), 100)), (Dirty, "copy"));
    assert_eq!(one(part((30, 79.9), (3, 8.0), 100)).0, Suspect);
    assert_eq!(one(part((30, 80.0), (3, 8.0), 101)).0, Clean, "thinner than .3, which is too thin for a suspect");
}

#[test]
fn half_a_copy_needs_one_weighty_stretch() {
    assert_eq!(one(part((12, 50.0), (6, 28.0), 26)), (Dirty, "copy"));
    assert_eq!(one(part((12, 49.9), (6, 28.0), 26)).0, Suspect);
    assert_eq!(one(part((12, 50.0), (6, 27.9), 26)).0, Suspect, "27.9 bits in the stretch");
    assert_eq!(one(part((12, 50.0), (5, 28.0), 26)).0, Suspect, "five words in it");
    assert_eq!(one(part((11, 50.0), (6, 28.0), 24)).0, Suspect, "eleven words in all");
    assert_eq!(one(part((12, 50.0), (6, 28.0), 27)).0, Suspect, "a density of .444, below .45");
}

#[test]
fn a_short_component_must_be_nearly_whole() {
    let short = |words: u32, weight: f32| one(found((words, 50.0), (12, weight), (6, 30.0), 12));
    assert_eq!(short(16, 42.0), (Dirty, "copy"), "sixteen words are not short");
    assert_eq!(short(15, 42.5), (Dirty, "copy"), ".85 of fifteen words");
    assert_eq!(short(15, 42.4).0, Suspect, ".848");
}

#[test]
fn words_replaced_always_by_the_same_count_four_fifths() {
    let renamed =
        |bits: f32| ComponentEvidence { renamed_words: 5, renamed_weight: bits, ..part((15, 50.0), (6, 10.0), 40) };
    assert_eq!(one(renamed(12.5)), (Dirty, "copy"), "50 + .8 × 12.5 = 60");
    assert_eq!(one(renamed(12.4)).0, Suspect);
}

#[test]
fn an_excerpt_is_eleven_words_of_a_third_or_twenty_of_an_eighth() {
    let stretch = |words: u32, weight: f32, of: f32| one(found((60, of), (words, weight), (words, weight), words));
    assert_eq!(stretch(11, 38.0, 108.0), (Dirty, "excerpt"), ".352 of the component");
    assert_eq!(stretch(10, 38.0, 108.0).0, Clean, "ten words");
    assert_eq!(stretch(11, 37.9, 108.0).0, Clean);
    assert_eq!(stretch(11, 38.0, 109.0).0, Clean, ".349 of the component");
    assert_eq!(stretch(20, 70.0, 583.0), (Dirty, "excerpt"), ".1201 of the component");
    assert_eq!(stretch(20, 70.0, 584.0).0, Clean);
    assert_eq!(stretch(19, 70.0, 583.0).0, Clean);
    assert_eq!(stretch(20, 69.9, 580.0).0, Clean);
}

#[test]
fn a_unit_is_a_whole_short_component_on_its_own() {
    let whole = |weight: f32, bounds: Bounds| {
        one(ComponentEvidence { bounds, ..found((5, weight), (5, weight), (5, weight), 5) })
    };
    let line = Bounds { starts_unit: true, ends_unit: true, own_line: true, literal: true };
    let sentence = Bounds { own_line: false, ..line };
    let loose = Bounds { literal: false, ..sentence };
    assert_eq!(whole(15.0, line), (Dirty, "unit"));
    assert_eq!(whole(14.9, line).0, Clean);
    assert_eq!(whole(25.0, sentence), (Dirty, "unit"));
    assert_eq!(whole(24.9, sentence).0, Clean);
    assert_eq!(whole(40.0, loose), (Dirty, "unit"));
    assert_eq!(whole(39.9, loose).0, Clean);
    assert_eq!(whole(39.9, Bounds { literal: false, ..line }).0, Clean, "other punctuation on a line of its own");
    assert_eq!(whole(60.0, Bounds { ends_unit: false, ..loose }).0, Clean, "inside a sentence");
    let most = ComponentEvidence { bounds: line, ..found((5, 50.0), (4, 40.0), (4, 40.0), 5) };
    assert_eq!(one(most).0, Clean, "four of five words are no whole");
}

/// Question and answer found in part, the answer `apart` words behind the question.
fn pair(question: (u32, f32), answer: (u32, f32), apart: u32) -> (Level, &'static str) {
    let of = |kind, found: (u32, f32), at: Range<u32>| ComponentEvidence {
        kind,
        document_words: at,
        ..part(found, (5, 15.0), 2 * found.0)
    };
    let q = of(ComponentKind::Question, question, 0..30);
    let a = of(ComponentKind::Answer, answer, 30 + apart..60 + apart);
    let verdict = judge(vec![q, a]);
    (verdict.level, verdict.rule)
}

#[test]
fn a_pair_is_two_recognisable_halves_near_each_other() {
    assert_eq!(pair((12, 45.0), (12, 45.0), 0), (Dirty, "pair"));
    assert_eq!(pair((12, 45.0), (12, 45.0), 30), (Dirty, "pair"));
    assert_eq!(pair((12, 45.0), (12, 45.0), 31).0, Suspect, "thirty-one words apart");
    assert_eq!(pair((12, 45.0), (12, 44.9), 0).0, Suspect, "89.9 bits together");
    assert_eq!(pair((12, 40.0), (12, 50.0), 0), (Dirty, "pair"));
    assert_eq!(pair((12, 39.9), (12, 50.1), 0).0, Suspect, ".399 of the question");
    assert_eq!(pair((12, 50.1), (12, 39.9), 0).0, Suspect, ".399 of the answer");
    let verdict = judge(vec![part((12, 45.0), (5, 15.0), 24)]);
    assert_eq!(verdict.level, Suspect, "a question alone is no pair");
}

/// A question with this share of 100 bits and `found` of `of` choices with this weight.
fn chosen(question: Option<f32>, found: u32, of: u32, weight: f32) -> (Level, &'static str) {
    // Matched in single words, so that no rule for the question alone holds.
    let parts = question.map(|share| self::found((9, 12.0), (8, 12.0 * share), (3, 4.0), 40));
    let mut evidence = evidence(parts.into_iter().collect());
    evidence.choices = ChoiceEvidence { of, found, matched_weight: weight, places: Vec::new() };
    let verdict = Priorart::default().judge(&evidence);
    (verdict.level, verdict.rule)
}

#[test]
fn choices_need_their_question_or_each_other() {
    assert_eq!(chosen(Some(0.8), 2, 4, 16.0), (Dirty, "choices"), "9.6 + 16 = 25.6 bits");
    assert_eq!(chosen(Some(0.79), 2, 4, 16.0).0, Clean, ".79 of the question");
    assert_eq!(chosen(Some(0.8), 1, 4, 16.0).0, Clean, "one of four");
    assert_eq!(chosen(Some(0.8), 2, 5, 16.0).0, Clean, "two of five are fewer than half");
    assert_eq!(chosen(Some(0.8), 3, 5, 16.0), (Dirty, "choices"));
    assert_eq!(chosen(Some(1.0), 2, 4, 13.0), (Dirty, "choices"), "12 + 13 = 25 bits");
    assert_eq!(chosen(Some(1.0), 2, 4, 12.9).0, Clean);
    assert_eq!(chosen(Some(1.0), 1, 2, 30.0).0, Clean, "one of two: two at least");
    // Without the question all of at least three, with fifty bits.
    assert_eq!(chosen(None, 3, 3, 50.0), (Dirty, "choices"));
    assert_eq!(chosen(None, 3, 3, 49.9).0, Clean);
    assert_eq!(chosen(None, 2, 2, 80.0).0, Clean, "two choices");
    assert_eq!(chosen(None, 3, 4, 80.0).0, Clean, "three of four");
}

#[test]
fn suspect_is_two_fifths_with_ten_words_and_thirty_bits() {
    assert_eq!(one(part((10, 40.0), (3, 9.0), 33)), (Suspect, ""));
    assert_eq!(one(part((10, 39.9), (3, 9.0), 33)).0, Clean);
    assert_eq!(one(part((9, 40.0), (3, 9.0), 30)).0, Clean);
    assert_eq!(one(part((10, 40.0), (3, 9.0), 34)).0, Clean, "a density of .294");
    assert_eq!(one(found((40, 70.0), (10, 30.0), (3, 9.0), 30)).0, Suspect);
    assert_eq!(one(found((40, 70.0), (10, 29.9), (3, 9.0), 30)).0, Clean);
}

#[test]
fn what_is_everywhere_is_suspect_at_most_when_a_limit_is_set() {
    let judged = |limit: u64, frequency: Option<u64>| {
        let mut parameters = Parameters::default();
        parameters.set(&format!("priorart.most_occurrences={limit}")).unwrap();
        let mut evidence = evidence(vec![part((40, 100.0), (40, 100.0), 40)]);
        evidence.corpus_frequency = frequency;
        Protocol::Priorart.judge(&parameters, &evidence).level
    };
    assert_eq!(judged(0, Some(1 << 40)), Dirty, "no limit");
    assert_eq!((judged(5, Some(5)), judged(5, Some(6)), judged(5, None)), (Dirty, Suspect, Dirty));
}

#[test]
fn the_dirtiest_component_decides_and_hides_no_other() {
    let answer = ComponentEvidence { kind: ComponentKind::Answer, ..part((40, 100.0), (40, 100.0), 40) };
    let verdict = judge(vec![part((3, 5.0), (3, 5.0), 3), answer.clone()]);
    assert_eq!((verdict.level, verdict.components, verdict.score), (Dirty, vec![ComponentKind::Answer], 1.0));
    let both = judge(vec![part((20, 60.0), (6, 10.0), 40), answer]);
    assert_eq!(both.components, [ComponentKind::Question, ComponentKind::Answer]);
}
