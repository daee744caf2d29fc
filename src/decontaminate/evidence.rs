//! Evidence: what was found of one eval item in one document.
//!
//! Evidence says what matched and where, and judges nothing; protocols are functions of it. Positions are given on both
//! sides: bytes of the document's text and bytes of the component's text, both as they were before normalisation.

use std::ops::Range;

use super::chain::{Pair, align, best_chain};
use super::lines::{LineRules, best_share, equal_lines};
use super::primitives::Primitives;
use super::protocol::{Parameters, Protocol};
use super::scan::{Run, Scan};
use super::skipgram::Skipgrams;
use super::unit::Bounds;
use crate::reference::words::{self, Word};
use crate::reference::{Component, ComponentKind, ReferenceIndex, SEED};

/// Share of a component's weight that exact runs must cover for the pair to be looked at further.
const LEAST_SHARE: f32 = 0.15;
/// Words of a run that a word protocol can count: the least n of theirs.
const LEAST_RUN: u32 = 8;
/// Words of a run that make a pair worth an alignment whatever their share.
const LONG_RUN: u32 = 16;
/// Weight of a word that was replaced by another one, always the same, against that of an equal word.
const RENAMED: f32 = 0.8;
/// Runs of one component in one document that are kept; more means a phrase repeated all over the document.
const MOST_RUNS: usize = 4096;

/// A stretch of document and the equal stretch of the component, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Piece {
    pub document: Range<usize>,
    pub component: Range<usize>,
}

/// What was found of one component.
#[derive(Debug, Clone)]
pub struct ComponentEvidence {
    /// Component number in the reference index.
    pub component: u32,
    pub kind: ComponentKind,
    /// Words of the component.
    pub words: u32,
    /// Bits of all its words.
    pub weight: f32,
    /// Every maximal stretch of equal words anywhere in the document, of at least four words or the whole component.
    pub runs: Vec<Run>,
    /// Words of the component in matches of at least `llama2.n` words with at most `llama2.mismatches` mismatches.
    pub skipgram_words: u32,
    /// Words and bits of the best alignment: one copy with edits.
    pub matched_words: u32,
    pub matched_weight: f32,
    /// Words of the component that the document has replaced, each time by the same other word (names, variables,
    /// numbers), and their bits.
    pub renamed_words: u32,
    pub renamed_weight: f32,
    /// Longest stretch of the alignment without any difference: words and bits.
    pub longest_words: u32,
    pub longest_weight: f32,
    /// Words of the document from the first to the last aligned word.
    pub span_words: u32,
    /// Bytes of the document from the first to the last aligned word.
    pub document: Range<usize>,
    pub bounds: Bounds,
    /// The aligned stretches, in document order.
    pub pieces: Vec<Piece>,
    /// The same in words.
    pub(crate) stretches: Vec<Run>,
    /// With a frequency source, for each piece the documents of the corpus that hold its most telling n-gram.
    pub document_frequency: Vec<Option<u64>>,
    /// Document words of the alignment, for looking around it.
    pub(crate) document_words: Range<u32>,
}

impl ComponentEvidence {
    /// Share of the component's weight that the alignment matched, 0 to 1; consistently replaced words count in part.
    pub fn coverage(&self) -> f32 {
        let found = self.matched_weight + RENAMED * self.renamed_weight;
        if self.weight > 0.0 { (found / self.weight).min(1.0) } else { 0.0 }
    }

    /// Matched words per document word between the first and the last of them.
    pub fn density(&self) -> f32 {
        (self.matched_words + self.renamed_words) as f32 / self.span_words.max(1) as f32
    }

    /// Whether all words were found in one stretch.
    pub fn is_whole(&self) -> bool {
        self.longest_words == self.words
    }
}

/// The choices of an item found near its question (or near each other).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChoiceEvidence {
    /// Choices of the item that have words.
    pub of: u32,
    /// How many of them were found, whole and in any order.
    pub found: u32,
    /// Bits of those found.
    pub matched_weight: f32,
    /// Their places: choice number and bytes of the document.
    pub places: Vec<(u32, Range<usize>)>,
}

/// What was found of one item in one document.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Item number in the reference index.
    pub item: u32,
    /// Components of which something was found.
    pub components: Vec<ComponentEvidence>,
    pub choices: ChoiceEvidence,
    /// Occurrences in the corpus of the most telling matched n-gram, when a frequency source is given.
    pub corpus_frequency: Option<u64>,
    /// The component that stands for the item under protocols that judge one text: the question, else the passage, else
    /// the answer.
    pub main: ComponentKind,
    /// Evidence in the terms of protocols that do not read our words.
    pub primitives: Primitives,
}

impl Evidence {
    /// Evidence with nothing found yet.
    pub(crate) fn empty(index: &ReferenceIndex, item: u32) -> Evidence {
        let kinds: Vec<ComponentKind> =
            index.components(item).filter(|c| !c.words.is_empty()).map(|c| c.kind).collect();
        let main = [ComponentKind::Question, ComponentKind::Passage, ComponentKind::Answer];
        Evidence {
            item,
            components: Vec::new(),
            choices: ChoiceEvidence::default(),
            corpus_frequency: None,
            main: main.into_iter().find(|k| kinds.contains(k)).unwrap_or(ComponentKind::Choice),
            primitives: Primitives::default(),
        }
    }

    /// The evidence for one kind of component; of several, the one with the most matched weight.
    pub fn of(&self, kind: ComponentKind) -> Option<&ComponentEvidence> {
        self.components
            .iter()
            .filter(|c| c.kind == kind)
            .max_by(|a, b| a.matched_weight.total_cmp(&b.matched_weight).then(b.component.cmp(&a.component)))
    }

    /// How well the item fits, to tell it from others that share its text: bits found, a little more for components found
    /// character for character, and for how much of them was found.
    pub(crate) fn strength(&self) -> f32 {
        let texts = self.components.iter().filter(|c| c.kind != ComponentKind::Choice);
        let fit: f32 = texts.map(|c| 4.0 * c.coverage() + if c.bounds.literal { 2.0 } else { 0.0 }).sum();
        self.matched_weight() + fit
    }

    /// Bits of everything found of the item.
    pub fn matched_weight(&self) -> f32 {
        let parts = self.components.iter().filter(|c| c.kind != ComponentKind::Choice).map(|c| c.matched_weight);
        parts.sum::<f32>() + self.choices.matched_weight
    }
}

/// What of the parameters shapes the evidence itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Whether a protocol counts runs of eight words whatever their share of the component.
    pub every_run: bool,
    /// `None` = not wanted.
    pub skipgrams: Option<Skipgrams>,
    /// `None` = not wanted.
    pub lines: Option<LineRules>,
    /// Words per n-gram of dolma's second rule; 0 = not wanted.
    pub share_words: usize,
}

impl Rules {
    /// What these protocols need.
    pub fn new(parameters: &Parameters, protocols: &[Protocol]) -> Rules {
        let has = |p: Protocol| protocols.contains(&p);
        let of_lines = has(Protocol::Dolma) || has(Protocol::Mathpile);
        let lines = LineRules { dolma_words: parameters.dolma.words, line_words: parameters.mathpile.least_words };
        let of_words = [Protocol::Palm, Protocol::Llama2, Protocol::Llama3, Protocol::Tulu3, Protocol::Contam];
        Rules {
            every_run: of_lines || of_words.into_iter().any(has),
            skipgrams: has(Protocol::Llama2).then(|| Skipgrams::new(&parameters.llama2)),
            lines: of_lines.then_some(lines),
            share_words: if has(Protocol::Dolma) { parameters.dolma.n } else { 0 },
        }
    }
}

/// Collects the evidence for all items from the hits of a scan, by item number.
pub(crate) fn collect(index: &ReferenceIndex, scan: &Scan, text: &str, rules: &Rules) -> Vec<Evidence> {
    let mut out: Vec<Evidence> = Vec::new();
    let mut pending: Vec<(u32, Vec<Run>)> = Vec::new();
    let mut item = u32::MAX;
    let mut look = Look::None;
    let mut runs = Vec::new();
    let flush = |pending: &mut Vec<(u32, Vec<Run>)>, look: Look, item: u32, out: &mut Vec<Evidence>| {
        if look > Look::None {
            out.push(evidence_of_item(index, scan, text, item, pending, look, rules));
        }
        pending.clear();
    };
    for hits in scan.hits.chunk_by(|a, b| a.component == b.component) {
        let number = hits[0].component;
        let (of, words, weights) = index.component_words(number);
        if of != item {
            flush(&mut pending, look, item, &mut out);
            (item, look) = (of, Look::None);
        }
        scan.runs(&hits[..hits.len().min(MOST_RUNS)], words, &mut runs);
        if !runs.is_empty() {
            look = look.max(Look::at(weights, index.component_weight(number), &runs, rules));
            pending.push((number, std::mem::take(&mut runs)));
        }
    }
    flush(&mut pending, look, item, &mut out);
    out
}

/// How closely a pair of document and item is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    /// No protocol could say anything of it.
    None,
    /// Only its runs count: too little for an alignment to become a copy.
    Runs,
    /// Runs and alignment.
    Alignment,
}

impl Look {
    /// For a component with these runs (sorted by place in the document).
    fn at(weights: &[f32], weight: f32, runs: &[Run], rules: &Rules) -> Look {
        let longest = runs.iter().map(|run| run.words).max().unwrap_or(0);
        if longest >= LONG_RUN {
            return Look::Alignment;
        }
        // Short runs count together when one copy of the component could hold them. Overlaps may count twice: this is
        // an upper bound.
        let of =
            |run: &Run| -> f32 { weights[run.component as usize..(run.component + run.words) as usize].iter().sum() };
        let reach = 3 * weights.len() as u32 + 60;
        let (mut total, mut first) = (0.0, 0);
        for run in runs {
            total += of(run);
            while runs[first].document + reach < run.document {
                total -= of(&runs[first]);
                first += 1;
            }
            if total >= LEAST_SHARE * weight {
                return Look::Alignment;
            }
        }
        if rules.every_run && longest >= LEAST_RUN { Look::Runs } else { Look::None }
    }
}

fn evidence_of_item(
    index: &ReferenceIndex,
    scan: &Scan,
    text: &str,
    item: u32,
    pending: &mut Vec<(u32, Vec<Run>)>,
    look: Look,
    rules: &Rules,
) -> Evidence {
    let mut evidence = Evidence::empty(index, item);
    for (number, runs) in pending.drain(..) {
        let component = index.component(number);
        let spans = words::words(component.text);
        let found = component_evidence(scan, text, &component, &spans, runs, look, rules);
        if let (Some(lines), true) = (rules.lines, component.kind != ComponentKind::Choice) {
            let lines = equal_lines(scan, text, component.text, &spans, &found.runs, lines);
            evidence.primitives.paragraphs += lines.paragraphs;
            evidence.primitives.lines += lines.lines;
        }
        evidence.components.push(found);
    }
    if rules.share_words > 0 {
        let runs: Vec<&Run> =
            evidence.components.iter().filter(|c| c.kind != ComponentKind::Choice).flat_map(|c| &c.runs).collect();
        evidence.primitives.paragraph_share = best_share(scan, text, &runs, rules.share_words);
    }
    evidence.choices = find_choices(index, scan, text, &evidence);
    evidence
}

fn component_evidence(
    scan: &Scan,
    text: &str,
    component: &Component<'_>,
    spans: &[Word],
    runs: Vec<Run>,
    look: Look,
    rules: &Rules,
) -> ComponentEvidence {
    let mut chain = best_chain(&runs, component.weights);
    if component.words.len() < 8 {
        // Of several whole copies of a short component, the one that stands on its own counts.
        let whole = |run: &&Run| {
            scan.exact(run, component.words).next().is_some_and(|r| r.words as usize == component.words.len())
        };
        let on_its_own = runs.iter().filter(whole).max_by_key(|run| {
            let b = bounds_at(scan, text, component, run.document as usize);
            (b.own_line, b.literal, b.starts_unit && b.ends_unit, std::cmp::Reverse(run.document))
        });
        if let Some(run) = on_its_own {
            chain = vec![*run];
        }
    }
    let pairs = align(scan, component.words, component.weights, &chain, look == Look::Alignment);
    let (renamed_words, renamed_weight) = renamed(scan, text, component, &pairs);
    let stretches: Vec<&[Pair]> =
        pairs.chunk_by(|a, b| b.document == a.document + 1 && b.component == a.component + 1).collect();
    let weight_of = |pairs: &[Pair]| pairs.iter().map(|p| component.weights[p.component as usize]).sum::<f32>();
    let (mut longest_words, mut longest_weight) = (0, 0.0);
    for stretch in &stretches {
        if stretch.len() as u32 > longest_words {
            (longest_words, longest_weight) = (stretch.len() as u32, weight_of(stretch));
        }
    }
    let document_words = match (pairs.first(), pairs.last()) {
        (Some(first), Some(last)) => first.document..last.document + 1,
        _ => 0..0,
    };
    let pieces: Vec<Piece> = stretches
        .iter()
        .map(|s| Piece {
            document: scan.bytes(s[0].document as usize..s[s.len() - 1].document as usize + 1),
            component: spans[s[0].component as usize].start as usize
                ..spans[s[s.len() - 1].component as usize].end as usize,
        })
        .collect();
    let stretches = stretches
        .iter()
        .map(|s| Run { document: s[0].document, component: s[0].component, words: s.len() as u32 })
        .collect();
    let document = match (pieces.first(), pieces.last()) {
        (Some(first), Some(last)) => first.document.start..last.document.end,
        _ => 0..0,
    };
    let least = component.words.len().min(SEED) as u32;
    let runs: Vec<Run> =
        runs.iter().flat_map(|run| scan.exact(run, component.words)).filter(|run| run.words >= least).collect();
    let whole = longest_words as usize == component.words.len();
    let bounds = if whole { Bounds::of(text, document.clone(), component.text) } else { Bounds::default() };
    ComponentEvidence {
        component: component.number,
        kind: component.kind,
        words: component.words.len() as u32,
        weight: component.weight,
        matched_words: pairs.len() as u32,
        matched_weight: weight_of(&pairs),
        renamed_words,
        renamed_weight,
        longest_words,
        longest_weight,
        span_words: document_words.end - document_words.start,
        document,
        bounds,
        pieces,
        stretches,
        document_frequency: Vec::new(),
        document_words,
        skipgram_words: rules.skipgrams.map_or(0, |rule| rule.words(scan, component.words, &runs)),
        runs,
    }
}

/// Words of the component between aligned ones that the document replaced one for one, at least twice, and mostly by the
/// same word.
fn renamed(scan: &Scan, text: &str, component: &Component<'_>, pairs: &[Pair]) -> (u32, f32) {
    let mut places: Vec<(u32, &str, u32)> = Vec::new();
    for pair in pairs.windows(2) {
        let (d, q) = (pair[1].document - pair[0].document, pair[1].component - pair[0].component);
        if d == q && (2..=3).contains(&d) {
            for k in 1..d {
                let (d, q) = (pair[0].document + k, pair[0].component + k);
                if let Some(word) = text.get(scan.bytes(d as usize..d as usize + 1)) {
                    places.push((component.words[q as usize], word, q));
                }
            }
        }
    }
    places.sort_unstable();
    let (mut words, mut weight) = (0, 0.0);
    for same_word in places.chunk_by(|a, b| a.0 == b.0) {
        let best = same_word.chunk_by(|a, b| a.1.eq_ignore_ascii_case(b.1)).max_by_key(|c| c.len()).unwrap_or_default();
        if best.len() >= 2 && best.len() * 2 > same_word.len() {
            words += best.len() as u32;
            weight += best.iter().map(|p| component.weights[p.2 as usize]).sum::<f32>();
        }
    }
    (words, weight)
}

fn bounds_at(scan: &Scan, text: &str, component: &Component<'_>, document: usize) -> Bounds {
    Bounds::of(text, scan.bytes(document..document + component.words.len()), component.text)
}

/// Finds the item's choices, whole and in any order, near what was found of its question, or of its longer choices.
fn find_choices(index: &ReferenceIndex, scan: &Scan, text: &str, evidence: &Evidence) -> ChoiceEvidence {
    let anchor = evidence
        .of(ComponentKind::Question)
        .filter(|q| q.coverage() >= 0.5)
        .or_else(|| evidence.of(ComponentKind::Choice).filter(|c| c.coverage() >= 0.8));
    let choices: Vec<Component<'_>> =
        index.components(evidence.item).filter(|c| c.kind == ComponentKind::Choice && !c.words.is_empty()).collect();
    let mut out = ChoiceEvidence { of: choices.len() as u32, ..ChoiceEvidence::default() };
    let Some(anchor) = anchor.filter(|_| !choices.is_empty()) else { return out };
    let total: usize = choices.iter().map(|c| c.words.len() + 2).sum();
    let reach = 30 + total * 3 / 2;
    let back = if anchor.kind == ComponentKind::Question { 4 } else { reach };
    let start = (anchor.document_words.start as usize).saturating_sub(back);
    let end = (anchor.document_words.end as usize + reach).min(scan.ids.len());
    let mut taken: Vec<Range<usize>> = Vec::new();
    // Longer choices first, so that a short one does not take a place inside them.
    let mut order: Vec<&Component<'_>> = choices.iter().collect();
    order.sort_by_key(|c| (std::cmp::Reverse(c.words.len()), c.ordinal));
    let question = match anchor.kind {
        ComponentKind::Question => anchor.document_words.start as usize..anchor.document_words.end as usize,
        _ => 0..0,
    };
    for choice in order {
        let n = choice.words.len();
        let place = (start..end.saturating_sub(n - 1)).find(|&at| {
            scan.ids[at..at + n] == *choice.words
                && !(at < question.end && question.start < at + n)
                && !taken.iter().any(|t| at < t.end && t.start < at + n)
                && (n >= 4 || bounds_at(scan, text, choice, at).starts_unit)
        });
        if let Some(at) = place {
            taken.push(at..at + n);
            out.found += 1;
            out.matched_weight += choice.weight;
            out.places.push((choice.ordinal, scan.bytes(at..at + n)));
        }
    }
    out.places.sort_by_key(|(ordinal, _)| *ordinal);
    out
}
