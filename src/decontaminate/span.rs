//! Cutting what matches out of a text, so that the rest can be kept.
//!
//! What the first protocol calls dirty is cut, from the first to the last matching word of a component with the punctuation
//! that touches it, and the rest is judged again: a second copy, or an item that only comes to light then, is cut in the next
//! round. So a text that was cut is clean under the protocol, but for what a review has rejected. Cost: one more judgement per round, of dirty texts only.

use std::ops::Range;

use super::detector::{Detector, Finding};
use super::labels::Label;
use super::protocol::{Gpt3, Level, Protocol, Verdict};
use super::run::text_hash;
use crate::error::Result;
use crate::reference::ComponentKind;

/// Rounds after which a text is given up as dirty throughout.
const ROUNDS: usize = 32;

/// What is left of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spans {
    /// Nothing is dirty.
    Clean,
    /// The text without its dirty spans, and the byte ranges that were cut, ascending.
    Cut { text: String, ranges: Vec<Range<usize>> },
    /// Nothing is left to keep, or it stays dirty.
    Whole,
}

impl Detector {
    /// Cuts out of `text` what the first protocol calls dirty.
    ///
    /// # Errors
    /// As [`Detector::text`].
    pub fn cut(&self, text: &str) -> Result<Spans> {
        let Some(&protocol) = self.settings().protocols.first() else { return Ok(Spans::Clean) };
        let mut kept = Vec::from_iter(std::iter::once(0..text.len()));
        let mut rest = text.to_string();
        let hash = text_hash(text);
        for round in 0..ROUNDS {
            let findings = self.text(&rest)?;
            let mut places: Vec<Range<usize>> = Vec::new();
            let mut dirty = false;
            for finding in &findings {
                let Some(verdict) = finding.verdict(protocol).filter(|v| v.level == Level::Dirty) else { continue };
                if let Some(labels) = self.labels()
                    && labels.of(&hash, &self.index().meta(finding.item)?.origins) == Some(Label::Reject)
                {
                    continue;
                }
                dirty = true;
                places.extend(places_of(finding, protocol, verdict));
            }
            if !dirty {
                if round == 0 {
                    return Ok(Spans::Clean);
                }
                let ranges = gaps(&kept, text.len());
                return Ok(if rest.trim().is_empty() { Spans::Whole } else { Spans::Cut { text: rest, ranges } });
            }
            let cuts = match protocol {
                Protocol::Gpt3 => window_cuts(&self.settings().parameters.gpt3, &rest, places),
                _ => Some(places.into_iter().map(|p| with_punctuation(&rest, p)).collect()),
            };
            let Some(cuts) = cuts.map(united).filter(|cuts| !cuts.is_empty()) else { return Ok(Spans::Whole) };
            kept = without(&kept, &cuts);
            rest = kept.iter().filter_map(|range| text.get(range.clone())).collect();
        }
        Ok(Spans::Whole)
    }
}

/// Where a finding's dirty components are.
fn places_of(finding: &Finding, protocol: Protocol, verdict: &Verdict) -> Vec<Range<usize>> {
    let evidence = &finding.evidence;
    let mut out: Vec<Range<usize>> = match protocol {
        Protocol::Gpt3 => evidence.primitives.bare.clone(),
        Protocol::Datatrove => evidence.primitives.folded_place.clone().into_iter().collect(),
        Protocol::Semantic => evidence.primitives.semantic.iter().map(|m| m.place.clone()).collect(),
        Protocol::Code => evidence.primitives.code.iter().map(|m| m.place.clone()).collect(),
        _ => {
            let mut out: Vec<Range<usize>> = evidence
                .components
                .iter()
                .filter(|c| verdict.components.contains(&c.kind) && c.kind != ComponentKind::Choice)
                .map(|c| c.document.clone())
                .collect();
            // The choices belong to the question they follow.
            let with_question = [ComponentKind::Question, ComponentKind::Choice];
            if verdict.components.iter().any(|kind| with_question.contains(kind)) {
                out.extend(evidence.of(ComponentKind::Question).map(|c| c.document.clone()));
                out.extend(evidence.choices.places.iter().map(|(_, place)| place.clone()));
            }
            out
        }
    };
    out.retain(|place| !place.is_empty());
    if out.is_empty() {
        out.extend(finding.strongest().map(|c| c.document.clone()).filter(|place| !place.is_empty()));
    }
    out
}

/// The complement of what the published cut keeps, on whole words; `None` when it drops the text.
fn window_cuts(rule: &Gpt3, text: &str, places: Vec<Range<usize>>) -> Option<Vec<Range<usize>>> {
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let character = |byte: usize| starts.partition_point(|&start| start < byte);
    let hits: Vec<Range<usize>> = united(places).into_iter().map(|p| character(p.start)..character(p.end)).collect();
    let pieces = rule.cut(starts.len() - 1, &hits)?;
    let whole_words = |piece: Range<usize>| {
        let (mut start, mut end) = (starts[piece.start], starts[piece.end]);
        if start > 0 {
            start += text[start..end].find(char::is_whitespace).unwrap_or(end - start);
        }
        if end < text.len() {
            end = text[start..end].rfind(char::is_whitespace).map_or(start, |at| start + at);
        }
        start..end
    };
    let kept: Vec<Range<usize>> = pieces.into_iter().map(whole_words).filter(|piece| !piece.is_empty()).collect();
    Some(gaps(&kept, text.len()))
}

/// A place with the punctuation that touches it.
fn with_punctuation(text: &str, place: Range<usize>) -> Range<usize> {
    let touching = |c: char| !c.is_alphanumeric() && !c.is_whitespace();
    let (Some(before), Some(after)) = (text.get(..place.start), text.get(place.end..)) else { return place };
    let start = before.trim_end_matches(touching).len();
    let end = place.end + (after.len() - after.trim_start_matches(touching).len());
    start..end
}

/// Ranges in order, those that overlap or touch made one.
fn united(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|r| (r.start, r.end));
    let mut out: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    out
}

/// What lies between ascending ranges of `0..length`.
fn gaps(ranges: &[Range<usize>], length: usize) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut from = 0;
    for range in ranges.iter().cloned().chain(std::iter::once(length..length)) {
        if range.start > from {
            out.push(from..range.start);
        }
        from = range.end;
    }
    out
}

/// `kept` without `cuts`, which are ranges of the text that `kept` makes up.
fn without(kept: &[Range<usize>], cuts: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut before = 0;
    for range in kept {
        let mut start = range.start;
        for cut in cuts.iter().filter(|cut| cut.end > before && cut.start < before + range.len()) {
            let from = range.start + cut.start.saturating_sub(before);
            let to = range.start + (cut.end - before).min(range.len());
            if from > start {
                out.push(start..from);
            }
            start = to;
        }
        if start < range.end {
            out.push(start..range.end);
        }
        before += range.len();
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::decontaminate::{Parameters, Settings};
    use crate::reference::{EvalItem, ReferenceIndex, ReferenceSet};

    const QUESTION: &str =
        "Maren stacks forty walnut crates beside the quay before the ferry leaves; how many of them remain at dusk?";

    fn detector(protocol: Protocol) -> Detector {
        let item =
            |q: &str| EvalItem { origins: vec![Default::default()], question: Some(q.into()), ..EvalItem::default() };
        let items =
            vec![item(QUESTION), item("Which tower clock of the old town strikes thirteen on a foggy market day?")];
        let index = ReferenceIndex::build(&ReferenceSet { items, rows: 2 }).unwrap();
        let settings = Settings { protocols: vec![protocol], parameters: Parameters::default(), keep_clean: false };
        Detector::new(Arc::new(index), settings).unwrap()
    }

    #[test]
    fn every_copy_is_cut_and_nothing_else() {
        let detector = detector(Protocol::Priorart);
        let text = format!("Größe zuerst. {QUESTION} Then this.\n\n* \"{}\" and the end", QUESTION.to_uppercase());
        let Spans::Cut { text: rest, ranges } = detector.cut(&text).unwrap() else { panic!("not cut") };
        assert_eq!(rest, "Größe zuerst.  Then this.\n\n*  and the end");
        assert_eq!(ranges.len(), 2);
        let cut: usize = ranges.iter().map(|r| r.len()).sum();
        assert_eq!(rest.len() + cut, text.len());
        assert_eq!(&text[ranges[0].clone()], QUESTION);
        assert_eq!(detector.cut(&rest).unwrap(), Spans::Clean);
        assert_eq!(detector.cut(&format!(" {QUESTION}\n")).unwrap(), Spans::Whole, "nothing is left");
    }

    #[test]
    fn gpt3_keeps_what_is_two_hundred_characters_away() {
        let detector = detector(Protocol::Gpt3);
        let far = "word ".repeat(120);
        let text = format!("{far}{QUESTION} {far}");
        let Spans::Cut { text: rest, .. } = detector.cut(&text).unwrap() else { panic!("not cut") };
        // 600 characters on either side, of which 200 go, and then what is left of a word.
        assert!((780..=800).contains(&rest.len()), "{}", rest.len());
        assert!(rest.split_whitespace().all(|w| w == "word"), "{rest}");
        assert_eq!(detector.cut(&format!("near {QUESTION} near")).unwrap(), Spans::Whole);
    }

    #[test]
    fn ranges_are_cut_out_of_ranges() {
        assert_eq!(without(&[0..10, 20..30], std::slice::from_ref(&(5..15))), [0..5, 25..30]);
        assert_eq!(without(&[0..10, 20..30], &[2..3, 4..5, 19..20]), [0..2, 3..4, 5..10, 20..29]);
        assert_eq!(united(vec![3..5, 0..1, 4..9, 9..10]), [0..1, 3..10]);
        assert_eq!(gaps(&[2..4, 6..10], 10), [0..2, 4..6]);
    }
}
