//! The span ledger: every token of a text with the best evidence for it.
//!
//! Overview. Evidence is graded. *Exact*: the token lies in a span of the corpus of at least [`LedgerOptions::exact`] tokens; the
//! longest such span labels it. *Near*: it lies in a run of matches with small gaps against a passage that late interaction found
//! (see [`aligned`]). *Semantic*: it lies in a window whose score reaches the threshold of its length. *None*: the residue, which is
//! the novel part as far as these settings tell. The better grade wins.
//!
//! A text may come from several places, so the sources are a cover: the document that explains most tokens, then the one that explains
//! most of the rest, and so on. Tokens are those of the index's own token stream; ranges are half-open, bytes are of the text.
//!
//! Cost: one trace of the text; tokenising each distinct passage; with documents, a look at the occurrences of each exact span.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::bleu::numbers;
use super::evidence;
use super::score::{Passage, Score};
use crate::error::Result;
use crate::index::{DocumentRef, Snapshot};
use crate::query::Ngram;
use crate::query::find::FindOptions;
use crate::suffix::index::maximal;

/// What counts as evidence.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct LedgerOptions {
    /// Tokens of an exact span.
    pub exact: usize,
    /// Tokens of a run that near-exact evidence is made of.
    pub run: usize,
    /// Tokens that may lie between two runs, on either side.
    pub gap: usize,
    /// Score from which a window is semantic evidence, by its length in encoder tokens.
    pub semantic: BTreeMap<usize, f64>,
    /// The same for lengths not named.
    pub semantic_otherwise: f64,
    /// Spans that occur more often are not traced to documents.
    pub most: u64,
    /// Sources named, at most; 0 spares the search for them.
    pub sources: usize,
}

impl Default for LedgerOptions {
    fn default() -> Self {
        LedgerOptions {
            exact: 8,
            run: 3,
            gap: 4,
            semantic: BTreeMap::new(),
            semantic_otherwise: 0.7,
            most: 1000,
            sources: 8,
        }
    }
}

/// The best evidence for a token.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "evidence", rename_all = "snake_case")]
pub enum Label {
    /// In a span of `length` tokens that occurs `count` times.
    Exact { length: usize, count: u64 },
    /// In a stretch of `length` tokens of which `matched` stand in a passage in the same order.
    Near { matched: usize, length: usize },
    /// In a window of `window` encoder tokens with this score.
    Semantic { window: usize, score: f64 },
    /// Nothing found.
    None,
}

impl Label {
    /// 3 exact, 2 near, 1 semantic, 0 none.
    pub fn grade(&self) -> usize {
        match self {
            Label::Exact { .. } => 3,
            Label::Near { .. } => 2,
            Label::Semantic { .. } => 1,
            Label::None => 0,
        }
    }
}

/// Consecutive tokens with the same evidence.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Segment {
    /// Tokens `left..right`.
    pub left: usize,
    pub right: usize,
    /// Bytes, from the first token's to the next segment's.
    pub start_byte: usize,
    pub end_byte: usize,
    #[serde(flatten)]
    pub label: Label,
    /// Number of its source in [`Ledger::sources`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<usize>,
}

/// A document of the cover.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Source {
    /// The stretch of it that the evidence lies in.
    #[serde(flatten)]
    pub passage: Passage,
    /// Tokens it explains that no source before it does.
    pub tokens: usize,
}

/// What is known of every token of a text.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Ledger {
    pub tokens: usize,
    /// Tokens by their best evidence; they add up to `tokens`.
    pub exact: usize,
    pub near: usize,
    pub semantic: usize,
    pub none: usize,
    /// The whole text, in order, without gaps.
    pub segments: Vec<Segment>,
    /// The cover, the greatest part first.
    pub sources: Vec<Source>,
}

impl Ledger {
    /// Share of tokens without any evidence: the novel part.
    pub fn residue(&self) -> f64 {
        self.none as f64 / self.tokens.max(1) as f64
    }

    /// The ledger of a text. `score` brings the passages and windows; without it evidence is exact or none. Documents that the score left
    /// out are left out here.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn of(snapshot: &Snapshot, text: &str, score: Option<&Score>, options: &LedgerOptions) -> Result<Ledger> {
        let tokenized = snapshot.tokenize(text)?;
        let n = tokenized.spans.len();
        let hidden = score.map_or(&[][..], |s| &s.left_out);
        let longest = evidence::longest(snapshot, &tokenized, hidden)?;
        let mut claims: Vec<Claim> = Vec::new();
        let spans: Vec<(usize, usize)> =
            maximal(longest.into_iter()).filter(|(l, r)| r - l >= options.exact.max(1)).collect();
        let ngrams: Vec<Ngram> = spans.iter().map(|&(l, r)| tokenized.tokens.slice(l..r)).collect();
        for ((&(l, r), ngram), count) in spans.iter().zip(&ngrams).zip(snapshot.counts(&ngrams)) {
            let places = if options.sources > 0 && count <= options.most {
                places(snapshot, ngram, hidden)?
            } else {
                Vec::new()
            };
            claims.push(Claim { tokens: l..r, label: Label::Exact { length: r - l, count }, places });
        }
        if let Some(score) = score {
            let at = |byte: usize| tokenized.spans.partition_point(|s| (s.end as usize) <= byte);
            let mut interned = HashMap::new();
            let own = numbers(&tokenized.tokens, &mut interned);
            let mut seen: HashMap<(DocumentRef, usize, usize), Vec<Range<usize>>> = HashMap::new();
            for length in &score.lengths {
                let least = options.semantic.get(&length.length).copied().unwrap_or(options.semantic_otherwise);
                for window in &length.windows {
                    let Some(best) = &window.best else { continue };
                    let tokens = at(window.start_byte)..at(window.end_byte.saturating_sub(1)).saturating_add(1).min(n);
                    if window.s >= least && !tokens.is_empty() {
                        let label = Label::Semantic { window: length.length, score: window.s };
                        claims.push(Claim { tokens: tokens.clone(), label, places: vec![best.clone()] });
                    }
                    // Longer windows bring longer passages: each stretch of the text meets a passage once.
                    let met = seen.entry((best.document, best.start_byte, best.end_byte)).or_default();
                    if met.iter().any(|m| m.start <= tokens.start && tokens.end <= m.end) {
                        continue;
                    }
                    met.push(tokens.clone());
                    let shard = &snapshot.shards[best.document.shard as usize];
                    let (passage, _) =
                        shard.documents.text_range(best.document.document, best.start_byte..best.end_byte)?;
                    let theirs = numbers(&snapshot.ngram(&passage)?, &mut interned);
                    for (found, matched) in aligned(&own[tokens.clone()], &theirs, options) {
                        let label = Label::Near { matched, length: found.len() };
                        let tokens = tokens.start + found.start..tokens.start + found.end;
                        claims.push(Claim { tokens, label, places: vec![best.clone()] });
                    }
                }
            }
        }
        let bytes = |token: usize| tokenized.spans.get(token).map_or(text.len(), |s| s.start as usize);
        Ok(assemble(n, claims, bytes, text.len(), options.sources))
    }
}

/// Evidence for a stretch of tokens.
#[derive(Debug, Clone)]
struct Claim {
    tokens: Range<usize>,
    label: Label,
    places: Vec<Passage>,
}

/// Whether a claim says more of a token than another: the grade, then the length or score.
fn stronger(a: &Label, b: &Label) -> bool {
    match (a, b) {
        (Label::Exact { length: a, .. }, Label::Exact { length: b, .. }) => a > b,
        (Label::Near { matched: a, .. }, Label::Near { matched: b, .. }) => a > b,
        (Label::Semantic { score: a, .. }, Label::Semantic { score: b, .. }) => a > b,
        _ => a.grade() > b.grade(),
    }
}

fn assemble(n: usize, claims: Vec<Claim>, bytes: impl Fn(usize) -> usize, end: usize, most_sources: usize) -> Ledger {
    let mut best: Vec<Option<usize>> = vec![None; n];
    for (number, claim) in claims.iter().enumerate() {
        for slot in &mut best[claim.tokens.clone()] {
            if slot.is_none_or(|b| stronger(&claim.label, &claims[b].label)) {
                *slot = Some(number);
            }
        }
    }
    let (sources, explained) = cover(n, &claims, &best, most_sources);
    let mut ledger = Ledger { tokens: n, sources, ..Ledger::default() };
    for (token, slot) in best.iter().enumerate() {
        let label = slot.map_or(Label::None, |c| claims[c].label.clone());
        match label.grade() {
            3 => ledger.exact += 1,
            2 => ledger.near += 1,
            1 => ledger.semantic += 1,
            _ => ledger.none += 1,
        }
        let source = explained[token];
        match ledger.segments.last_mut() {
            Some(last) if last.label == label && last.source == source => last.right = token + 1,
            _ => ledger.segments.push(Segment {
                left: token,
                right: token + 1,
                start_byte: 0,
                end_byte: 0,
                label,
                source,
            }),
        }
    }
    let count = ledger.segments.len();
    for (i, segment) in ledger.segments.iter_mut().enumerate() {
        segment.start_byte = if i == 0 { 0 } else { bytes(segment.left) };
        segment.end_byte = if i + 1 == count { end } else { bytes(segment.right) };
    }
    ledger
}

/// Greedy cover of the labelled tokens by documents. A document explains a token by a claim as good as the token's label.
fn cover(n: usize, claims: &[Claim], best: &[Option<usize>], most: usize) -> (Vec<Source>, Vec<Option<usize>>) {
    let mut explained = vec![None; n];
    let mut by_document: BTreeMap<DocumentRef, Vec<(&Claim, &Passage)>> = BTreeMap::new();
    for claim in claims {
        for place in &claim.places {
            by_document.entry(place.document).or_default().push((claim, place));
        }
    }
    let fresh = |of: &[(&Claim, &Passage)], explained: &[Option<usize>]| -> Vec<usize> {
        let grade = |t: usize| best[t].map_or(0, |b| claims[b].label.grade());
        let mut tokens: Vec<usize> = of
            .iter()
            .flat_map(|(c, _)| c.tokens.clone().filter(move |&t| c.label.grade() == grade(t)))
            .filter(|&t| explained[t].is_none())
            .collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    };
    let mut sources = Vec::new();
    while sources.len() < most {
        let next = by_document
            .iter()
            .map(|(document, of)| (document, fresh(of, &explained)))
            // Of equals the first document wins, so that an answer is the same every time.
            .fold(None::<(&DocumentRef, Vec<usize>)>, |a, b| match a {
                Some(a) if a.1.len() >= b.1.len() => Some(a),
                _ => Some(b),
            });
        let Some((document, tokens)) = next.filter(|(_, t)| !t.is_empty()) else { break };
        let of = &by_document[document];
        let in_use = of.iter().filter(|(c, _)| c.tokens.clone().any(|t| tokens.binary_search(&t).is_ok()));
        let mut passage = of[0].1.clone();
        let mut first = true;
        for (_, place) in in_use {
            if first {
                passage = (*place).clone();
                first = false;
            }
            passage.start_byte = passage.start_byte.min(place.start_byte);
            passage.end_byte = passage.end_byte.max(place.end_byte);
        }
        tokens.iter().for_each(|&t| explained[t] = Some(sources.len()));
        sources.push(Source { passage, tokens: tokens.len() });
    }
    (sources, explained)
}

/// Documents an exact span occurs in, without those hidden: the first few.
fn places(snapshot: &Snapshot, ngram: &Ngram, hidden: &[DocumentRef]) -> Result<Vec<Passage>> {
    let options = FindOptions { limit: 5 + hidden.len(), per_document: 1, context: 0, ..FindOptions::default() };
    let found = snapshot.find(ngram, &options)?.found;
    let shown = found.into_iter().filter(|d| !hidden.contains(&d.document)).take(5);
    Ok(shown
        .filter_map(|d| {
            let at = d.occurrences.first()?;
            let (start_byte, end_byte) = (at.start_byte, at.end_byte);
            Some(Passage { document: d.document, id: d.id, path: d.path, start_byte, end_byte })
        })
        .collect())
}

/// Stretches of `text` that stand in `passage` but for small gaps: runs of [`LedgerOptions::run`] equal tokens and more, chained where at
/// most [`LedgerOptions::gap`] tokens lie between them on either side, in the same order. A chain counts when it matches at
/// least [`LedgerOptions::exact`] tokens and three fifths of its length. Returns text ranges with the tokens matched.
///
/// Cost: the number of pairs of equal runs, squared.
pub fn aligned(text: &[u32], passage: &[u32], options: &LedgerOptions) -> Vec<(Range<usize>, usize)> {
    let least = options.run.max(1);
    if text.len() < least || passage.len() < least {
        return Vec::new();
    }
    let mut places: HashMap<&[u32], Vec<usize>> = HashMap::new();
    for (at, gram) in passage.windows(least).enumerate() {
        places.entry(gram).or_default().push(at);
    }
    // (text start, passage start, tokens), by text start.
    let mut runs: Vec<(usize, usize, usize)> = Vec::new();
    for (i, gram) in text.windows(least).enumerate() {
        for &j in places.get(gram).map_or(&[][..], Vec::as_slice) {
            if i > 0 && j > 0 && text[i - 1] == passage[j - 1] {
                continue;
            }
            let tokens = text[i..].iter().zip(&passage[j..]).take_while(|(a, b)| a == b).count();
            runs.push((i, j, tokens));
        }
    }
    let mut chains: Vec<(usize, Option<usize>)> = Vec::with_capacity(runs.len());
    for (r, &(i, j, tokens)) in runs.iter().enumerate() {
        let before = (0..r).rev().filter(|&p| {
            let (pi, pj, pn) = runs[p];
            (pi + pn..=pi + pn + options.gap).contains(&i) && (pj + pn..=pj + pn + options.gap).contains(&j)
        });
        let previous = before.max_by_key(|&p| chains[p].0);
        chains.push((tokens + previous.map_or(0, |p| chains[p].0), previous));
    }
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by_key(|&r| (std::cmp::Reverse(chains[r].0), r));
    let mut taken = vec![false; text.len()];
    let mut out = Vec::new();
    for last in order {
        let matched = chains[last].0;
        let mut first = last;
        while let Some(before) = chains[first].1 {
            first = before;
        }
        let range = runs[first].0..runs[last].0 + runs[last].2;
        let dense = 5 * matched >= 3 * range.len();
        if matched < options.exact || !dense || taken[range.clone()].iter().any(|&t| t) {
            continue;
        }
        taken[range.clone()].fill(true);
        out.push((range, matched));
    }
    out.sort_by_key(|(range, _)| range.start);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn passage(document: u32) -> Passage {
        Passage {
            document: DocumentRef { shard: 0, document },
            id: format!("d{document}"),
            path: "p".into(),
            start_byte: 0,
            end_byte: 9,
        }
    }

    #[test]
    fn an_edited_passage_is_near_and_an_unrelated_one_is_not() {
        let options = LedgerOptions::default();
        let passage: Vec<u32> = (0..40).collect();
        let mut text = passage[5..30].to_vec();
        text[6] = 900;
        text[13] = 901;
        text.insert(17, 902);
        // Runs 5..11, 12..18, 19..22, 22..30 of the passage: 6 + 6 + 3 + 8 = 23 of 26 tokens.
        assert_eq!(aligned(&text, &passage, &options), vec![(0..26, 23)]);
        let other: Vec<u32> = (100..140).collect();
        assert!(aligned(&text, &other, &options).is_empty());
        let reversed: Vec<u32> = passage.iter().rev().copied().collect();
        assert!(aligned(&text, &reversed, &options).is_empty());
        assert!(aligned(&passage[..7], &passage, &options).is_empty(), "seven tokens are too few");
    }

    #[test]
    fn the_better_grade_wins_and_sources_cover_the_rest() {
        let claim = |tokens, label, places| Claim { tokens, label, places };
        let claims = vec![
            claim(0..10, Label::Semantic { window: 25, score: 0.8 }, vec![passage(1)]),
            claim(2..6, Label::Exact { length: 4, count: 3 }, vec![passage(1), passage(2)]),
            claim(4..9, Label::Near { matched: 4, length: 5 }, vec![passage(2)]),
            claim(10..12, Label::Exact { length: 2, count: 1 }, vec![passage(3)]),
        ];
        let ledger = assemble(14, claims, |t| 10 * t, 140, 8);
        assert_eq!((ledger.exact, ledger.near, ledger.semantic, ledger.none), (6, 3, 3, 2));
        let grades: Vec<(usize, usize, usize)> =
            ledger.segments.iter().map(|s| (s.left, s.right, s.label.grade())).collect();
        assert_eq!(grades, [(0, 2, 1), (2, 6, 3), (6, 9, 2), (9, 10, 1), (10, 12, 3), (12, 14, 0)]);
        assert_eq!((ledger.segments[1].start_byte, ledger.segments[5].end_byte), (20, 140));
        // Documents 1 and 2 explain seven tokens each (2 + 4 + 1 and 4 + 3): the first is taken, then what is left.
        let cover: Vec<(&str, usize)> = ledger.sources.iter().map(|s| (s.passage.id.as_str(), s.tokens)).collect();
        assert_eq!(cover, [("d1", 7), ("d2", 3), ("d3", 2)]);
        assert!((ledger.residue() - 2.0 / 14.0).abs() < 1e-12);
    }

    #[test]
    fn the_ledger_of_an_empty_text_is_empty() {
        assert_eq!(assemble(0, Vec::new(), |_| 0, 0, 8), Ledger::default());
    }

    proptest! {
        #[test]
        fn segments_partition_the_text(
            n in 1usize..60,
            raw in proptest::collection::vec((0usize..60, 1usize..20, 0usize..3, 0u32..4), 0..12),
        ) {
            let claims: Vec<Claim> = raw.into_iter().map(|(from, len, kind, document)| {
                let tokens = from.min(n - 1)..(from.min(n - 1) + len).min(n);
                let label = match kind {
                    0 => Label::Exact { length: len, count: 1 },
                    1 => Label::Near { matched: len, length: len },
                    _ => Label::Semantic { window: 25, score: len as f64 / 20.0 },
                };
                Claim { tokens, label, places: vec![passage(document)] }
            }).collect();
            let ledger = assemble(n, claims.clone(), |t| t, n, 8);
            prop_assert_eq!(ledger.exact + ledger.near + ledger.semantic + ledger.none, n);
            let mut at = 0;
            for s in &ledger.segments {
                prop_assert_eq!((s.left, s.start_byte), (at, at));
                prop_assert!(s.right > s.left);
                at = s.right;
                for t in s.left..s.right {
                    let grade = claims.iter().filter(|c| c.tokens.contains(&t)).map(|c| c.label.grade()).max().unwrap_or(0);
                    prop_assert_eq!(s.label.grade(), grade);
                    prop_assert_eq!(s.source.is_some(), grade > 0);
                }
            }
            prop_assert_eq!(at, n);
            prop_assert_eq!(ledger.sources.iter().map(|s| s.tokens).sum::<usize>(), n - ledger.none);
        }

        #[test]
        fn alignments_hold_what_they_say(
            text in proptest::collection::vec(0u32..6, 0..60), passage in proptest::collection::vec(0u32..6, 0..60),
        ) {
            let options = LedgerOptions::default();
            let mut end = 0;
            for (range, matched) in aligned(&text, &passage, &options) {
                prop_assert!(range.start >= end && range.end <= text.len());
                prop_assert!(matched >= options.exact && matched <= range.len() && 5 * matched >= 3 * range.len());
                // As many of its tokens as it says stand in the passage in this order.
                let part = &text[range.clone()];
                let mut table = vec![vec![0usize; passage.len() + 1]; part.len() + 1];
                for (i, a) in part.iter().enumerate() {
                    for (j, b) in passage.iter().enumerate() {
                        table[i + 1][j + 1] = if a == b {
                            table[i][j] + 1
                        } else {
                            table[i][j + 1].max(table[i + 1][j])
                        };
                    }
                }
                prop_assert!(table[part.len()][passage.len()] >= matched);
                end = range.end;
            }
        }
    }
}
