//! Boolean combinations of n-grams: in the same document, or in the same window of tokens. Exact.
//!
//! An expression is a conjunction of clauses, each a disjunction of n-grams (conjunctive normal form);
//! [`Expression::parse`] reads `"a b" AND ("c" OR "d")` and distributes OR over AND.
//!
//! - *Document*: every clause has an occurrence in it.
//! - *Window of w tokens*: some w consecutive tokens of one document contain whole occurrences of every clause.
//! - The *count* is that of occurrences of the anchor, the clause with the fewest occurrences (the first of them), that take part:
//!   in a document that matches, or in a window that matches. Two occurrences at the same place and of the same length count once,
//!   so `x OR x` is `x`.
//!
//! Cost: occurrences of the anchor are listed; the other clauses are listed too or, when that is cheaper, looked for in
//! the anchor's documents.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use super::Ngram;
use super::find::{FindOptions, Found, Group, Located};
use crate::error::{Error, Result};
use crate::index::Snapshot;
use crate::shard::Shard;
use crate::suffix::{Token, TokenIndex};
use crate::with_view;

/// Clauses of an expression after normalisation, at most.
const MAX_CLAUSES: usize = 64;

/// A conjunction of disjunctions of n-grams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    pub clauses: Vec<Vec<Ngram>>,
}

/// A boolean answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BooleanCount {
    /// Occurrences of the anchor that take part.
    pub count: u64,
    /// Documents that match.
    pub documents: u64,
    /// Always false: both numbers are exact.
    pub approximate: bool,
}

impl Expression {
    /// Every n-gram.
    pub fn all(ngrams: Vec<Ngram>) -> Expression {
        Expression { clauses: ngrams.into_iter().map(|n| vec![n]).collect() }
    }

    /// Any of the n-grams.
    pub fn any(ngrams: Vec<Ngram>) -> Expression {
        Expression { clauses: vec![ngrams] }
    }

    /// Reads an expression: quoted or bare phrases, `AND`, `OR` (upper case; AND binds tighter), parentheses.
    ///
    /// Errors name the character at which the expression goes wrong.
    pub fn parse(snapshot: &Snapshot, text: &str) -> Result<Expression> {
        let mut parser = Parser { items: lex(text)?, at: 0, end: text.chars().count() };
        let mut clauses = parser.either(0)?;
        if let Some((at, _)) = parser.items.get(parser.at) {
            return Err(bad(*at, "expected AND, OR or the end"));
        }
        let clauses = clauses
            .drain(..)
            .map(|c| c.into_iter().map(|phrase| snapshot.ngram(&phrase)).collect::<Result<Vec<_>>>())
            .collect::<Result<Vec<_>>>()?;
        Ok(Expression { clauses })
    }

    fn check(&self) -> Result<()> {
        if self.clauses.is_empty() || self.clauses.iter().any(|c| c.is_empty()) {
            return Err(Error::invalid("a boolean query needs at least one n-gram in each clause"));
        }
        if self.clauses.iter().flatten().any(|n| n.is_empty()) {
            return Err(Error::invalid_hint(
                "a phrase of the boolean query has no tokens",
                "the index's tokenizer finds no token in it; leave it out",
            ));
        }
        Ok(())
    }
}

enum Item {
    Phrase(String),
    And,
    Or,
    Open,
    Close,
}

fn bad(at: usize, what: &str) -> Error {
    Error::invalid_hint(
        format!("boolean expression, character {}: {what}", at + 1),
        "write for example: \"a phrase\" AND (\"another\" OR \"a third\")",
    )
}

fn lex(text: &str) -> Result<Vec<(usize, Item)>> {
    let chars: Vec<char> = text.chars().collect();
    let mut out: Vec<(usize, Item)> = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        match chars[i] {
            c if c.is_whitespace() => i += 1,
            '(' => {
                out.push((i, Item::Open));
                i += 1;
            }
            ')' => {
                out.push((i, Item::Close));
                i += 1;
            }
            '"' => {
                let start = i;
                let mut phrase = String::new();
                i += 1;
                loop {
                    match chars.get(i) {
                        None => return Err(bad(start, "this quotation mark is not closed")),
                        Some('\\') if matches!(chars.get(i + 1), Some('"' | '\\')) => {
                            phrase.push(chars[i + 1]);
                            i += 2;
                        }
                        Some('"') => break,
                        Some(&c) => {
                            phrase.push(c);
                            i += 1;
                        }
                    }
                }
                i += 1;
                out.push((start, Item::Phrase(phrase)));
            }
            _ => {
                let start = i;
                while i < chars.len() && !chars[i].is_whitespace() && !"()\"".contains(chars[i]) {
                    i += 1;
                }
                let word: String = chars[start..i].iter().collect();
                match (word.as_str(), out.last_mut()) {
                    ("AND", _) => out.push((start, Item::And)),
                    ("OR", _) => out.push((start, Item::Or)),
                    (_, Some((_, Item::Phrase(phrase)))) => {
                        phrase.push(' ');
                        phrase.push_str(&word);
                    }
                    _ => out.push((start, Item::Phrase(word))),
                }
            }
        }
    }
    Ok(out)
}

struct Parser {
    items: Vec<(usize, Item)>,
    at: usize,
    end: usize,
}

type Clauses = Vec<Vec<String>>;

impl Parser {
    fn place(&self) -> usize {
        self.items.get(self.at).map_or(self.end, |i| i.0)
    }

    fn either(&mut self, depth: usize) -> Result<Clauses> {
        let mut left = self.both(depth)?;
        while matches!(self.items.get(self.at), Some((_, Item::Or))) {
            self.at += 1;
            let right = self.both(depth)?;
            if left.len() * right.len() > MAX_CLAUSES {
                return Err(bad(self.place(), "the expression has too many clauses once OR is distributed over AND"));
            }
            // (A and B) or (C and D) = (A or C) and (A or D) and (B or C) and (B or D)
            left = left.iter().flat_map(|a| right.iter().map(move |b| a.iter().chain(b).cloned().collect())).collect();
        }
        Ok(left)
    }

    fn both(&mut self, depth: usize) -> Result<Clauses> {
        let mut left = self.one(depth)?;
        while matches!(self.items.get(self.at), Some((_, Item::And))) {
            self.at += 1;
            left.extend(self.one(depth)?);
            if left.len() > MAX_CLAUSES {
                return Err(bad(self.place(), "the expression has too many clauses"));
            }
        }
        Ok(left)
    }

    fn one(&mut self, depth: usize) -> Result<Clauses> {
        let place = self.place();
        if depth > MAX_CLAUSES {
            return Err(bad(place, "parentheses are nested too deeply"));
        }
        match self.items.get(self.at) {
            Some((_, Item::Phrase(p))) => {
                let clause = vec![vec![p.clone()]];
                self.at += 1;
                Ok(clause)
            }
            Some((_, Item::Open)) => {
                self.at += 1;
                let inner = self.either(depth + 1)?;
                if !matches!(self.items.get(self.at), Some((_, Item::Close))) {
                    return Err(bad(place, "this parenthesis is not closed"));
                }
                self.at += 1;
                Ok(inner)
            }
            _ => Err(bad(place, "expected a phrase or an opening parenthesis")),
        }
    }
}

/// Start positions of `needle` in `hay`, overlapping ones included.
pub(super) fn scan<T: Token>(hay: &[T], needle: &[T], mut each: impl FnMut(usize)) {
    let (bytes, pattern): (&[u8], &[u8]) = (bytemuck::cast_slice(hay), bytemuck::cast_slice(needle));
    let finder = memchr::memmem::Finder::new(pattern);
    let mut from = 0;
    while let Some(at) = finder.find(&bytes[from..]) {
        let at = from + at;
        // A match that starts inside a token is none.
        if at % T::BYTES == 0 {
            each(at / T::BYTES);
        }
        from = at + 1;
    }
}

/// A clause's alternatives as a shard numbers them, with their intervals.
type Clause<V> = Vec<(Vec<<V as TokenIndex>::Token>, Range<usize>)>;

impl Snapshot {
    /// Counts an expression in documents, or in windows of `window` tokens.
    pub fn boolean_count(&self, expression: &Expression, window: Option<usize>) -> Result<BooleanCount> {
        let matches = self.boolean(expression, window)?;
        Ok(BooleanCount {
            count: matches.iter().map(|m| m.ranges.len() as u64).sum(),
            documents: matches.len() as u64,
            approximate: false,
        })
    }

    /// The documents that match, a page of them, with the anchor's occurrences.
    pub fn boolean_find(&self, expression: &Expression, window: Option<usize>, options: &FindOptions) -> Result<Found> {
        self.boolean_locate(expression, window)?.page(options)
    }

    /// Every occurrence of the anchor that takes part in a match, by document, before any text is read.
    pub fn boolean_locate(&self, expression: &Expression, window: Option<usize>) -> Result<Located<'_>> {
        Ok(Located { snapshot: self, groups: self.boolean(expression, window)? })
    }

    /// The documents that match, with the anchor's occurrences that take part.
    fn boolean(&self, expression: &Expression, window: Option<usize>) -> Result<Vec<Group>> {
        expression.check()?;
        if window == Some(0) {
            return Err(Error::invalid("a window has at least one token"));
        }
        // The anchor is chosen over the whole snapshot, so that shards agree.
        let counts: Vec<u64> = expression
            .clauses
            .iter()
            .map(|c| {
                let distinct: HashSet<&Ngram> = c.iter().collect();
                distinct.into_iter().map(|n| self.count(n)).sum()
            })
            .collect();
        let anchor = (0..counts.len()).min_by_key(|&i| counts[i]).unwrap_or(0);
        let mut out = Vec::new();
        if counts[anchor] == 0 {
            return Ok(out);
        }
        for (number, shard) in self.shards.iter().enumerate() {
            with_view!(shard.exact, v => self.boolean_in(number, shard, v, expression, anchor, window, &mut out));
        }
        Ok(out)
    }

    #[allow(clippy::too_many_arguments)]
    fn boolean_in<V: TokenIndex>(
        &self,
        number: usize,
        shard: &Shard,
        view: V,
        expression: &Expression,
        anchor: usize,
        window: Option<usize>,
        out: &mut Vec<Group>,
    ) {
        // Each clause as distinct known n-grams of this shard, with their intervals.
        let clauses: Vec<Clause<V>> = expression
            .clauses
            .iter()
            .map(|clause| {
                let distinct: BTreeSet<Vec<V::Token>> = clause.iter().map(|n| n.resolve(shard)).collect();
                distinct
                    .into_iter()
                    .map(|q| {
                        let range = view.interval(&q);
                        (q, range)
                    })
                    .filter(|(_, range)| !range.is_empty())
                    .collect()
            })
            .collect();
        if clauses.iter().any(|c| c.is_empty()) {
            return;
        }
        let mut groups: Vec<Group> = Vec::new();
        for (needle, range) in &clauses[anchor] {
            let positions = range.clone().map(|rank| view.place(rank, needle.len()) as u64).collect();
            self.group(number, positions, needle.len(), &mut groups);
        }
        // Alternatives of the anchor that occur in one document make one group.
        groups.sort_by_key(|group| group.document);
        groups.dedup_by(|next, kept| {
            let same = next.document == kept.document;
            if same {
                kept.ranges.append(&mut next.ranges);
            }
            same
        });
        let tokens_of = |group: &Group| shard.tokens_of(group.document.document);
        for (i, clause) in clauses.iter().enumerate() {
            if i == anchor || groups.is_empty() {
                continue;
            }
            let occurrences: usize = clause.iter().map(|(_, r)| r.len()).sum();
            let tokens: usize = groups.iter().map(|g| tokens_of(g).len()).sum();
            if occurrences.saturating_mul(V::PLACE_COST) < tokens * clause.len() {
                let documents = |(needle, ranks): &(Vec<V::Token>, Range<usize>)| {
                    let n = needle.len();
                    ranks.clone().filter_map(move |rank| shard.documents.document_at(view.place(rank, n) as u64))
                };
                let with: HashSet<u32> = clause.iter().flat_map(documents).collect();
                groups.retain(|g| with.contains(&g.document.document));
            } else {
                groups.retain(|g| {
                    let hay = view.read(tokens_of(g));
                    clause.iter().any(|(needle, _)| contains(&hay, needle))
                });
            }
        }
        for mut group in groups {
            group.ranges.sort_unstable_by_key(|r| (r.start, r.end));
            if let Some(w) = window {
                let hay = view.read(tokens_of(&group));
                let occurrences = |clause: &[(Vec<V::Token>, Range<usize>)]| {
                    let mut found: Vec<Range<usize>> = Vec::new();
                    for (needle, _) in clause {
                        scan(&hay, needle, |at| found.push(at..at + needle.len()));
                    }
                    found
                };
                let others: Vec<Vec<Range<usize>>> =
                    clauses.iter().enumerate().filter(|(i, _)| *i != anchor).map(|(_, c)| occurrences(c)).collect();
                group.ranges.retain(|a| in_window(a, &others, w));
            }
            if !group.ranges.is_empty() {
                out.push(group);
            }
        }
    }
}

fn contains<T: Token>(hay: &[T], needle: &[T]) -> bool {
    let (hay, needle): (&[u8], &[u8]) = (bytemuck::cast_slice(hay), bytemuck::cast_slice(needle));
    occurs::<T>(&memchr::memmem::Finder::new(needle), hay)
}

/// Whether the bytes of an n-gram stand in those of tokens: at the border of a token, not across.
pub(crate) fn occurs<T: Token>(needle: &memchr::memmem::Finder, tokens: &[u8]) -> bool {
    let mut from = 0;
    while let Some(at) = needle.find(&tokens[from..]) {
        if (from + at) % T::BYTES == 0 {
            return true;
        }
        from += at + 1;
    }
    false
}

/// Whether some `w` consecutive tokens contain `anchor` and an occurrence of every other clause.
fn in_window(anchor: &Range<usize>, others: &[Vec<Range<usize>>], w: usize) -> bool {
    if anchor.len() > w {
        return false;
    }
    // If a window works, so does the one moved right until it starts at the first of the occurrences it needs, so only
    // starts of occurrences have to be tried.
    let earliest = anchor.end.saturating_sub(w);
    let mut starts: Vec<usize> =
        others.iter().flatten().map(|r| r.start).filter(|&s| s >= earliest && s <= anchor.start).collect();
    starts.push(anchor.start);
    starts.iter().any(|&s| others.iter().all(|clause| clause.iter().any(|r| r.start >= s && r.end <= s + w)))
}
