//! infini-gram's queries: text or ids, an n-gram or clauses of alternatives, within its server's limits; and where a query with clauses occurs.

use std::ops::Range;

use memchr::memmem::Finder;
use serde_json::{Value, json};

use super::{Refused, Result};
use crate::index::{DocumentRef, Snapshot};
use crate::query::Ngram;
use crate::query::boolean::occurs;
use crate::shard::Shard;
use crate::suffix::{Token, TokenIndex};
use crate::tokenize::TokenizerKind;
use crate::with_view;

const MAX_CHARS: usize = 1000;
const MAX_TOKENS: usize = 500;
const MAX_CLAUSES: usize = 4;
const MAX_TERMS: usize = 4;
/// Positions of a clause that are listed at most; a more frequent one is looked for around the anchor's.
const LISTED: usize = 4_000_000;
/// Positions of the stream to one of a list from which a list is put in order by a map of the stream, not by sorting.
const DENSE: u64 = 256;

/// A query: an n-gram, or clauses of alternatives.
pub(super) enum Query {
    Simple(Ngram),
    Cnf(Vec<Vec<Ngram>>),
}

pub(super) fn ids_of(ngram: &Ngram) -> Value {
    match ngram {
        Ngram::Ids(ids) => ids.clone().into(),
        // Each shard numbers its own terms.
        Ngram::Terms(_) => json!([]),
    }
}

pub(super) fn tokens_of(snapshot: &Snapshot, ngram: &Ngram) -> Value {
    match ngram {
        Ngram::Ids(ids) => ids.iter().map(|&id| printable(snapshot, id)).collect(),
        Ngram::Terms(terms) => terms.clone().into(),
    }
}

/// A token as its vocabulary prints it: byte-level BPE has a character for each byte, white space and control bytes shifted to U+0100
/// and up in byte order, so that a leading space shows as `Ġ`.
pub(super) fn printable(snapshot: &Snapshot, id: u32) -> String {
    let TokenizerKind::Closed(t) = &snapshot.tokenizer.kind else { return String::new() };
    if !matches!(snapshot.manifest.tokenizer.kind.as_str(), "gpt2" | "cl100k" | "o200k") {
        return snapshot.token_text(id);
    }
    let shown = |b: u8| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    t.token_bytes(id)
        .unwrap_or_default()
        .into_iter()
        .map(|b| {
            let hidden = (0..b).filter(|&x| !shown(x)).count() as u32;
            char::from_u32(if shown(b) { u32::from(b) } else { 0x100 + hidden }).unwrap_or('\u{FFFD}')
        })
        .collect()
}

/// Tokens of a text. Vocabularies that write the space before a word into its token get one before the first word, too.
fn tokenized(snapshot: &Snapshot, text: &str) -> Result<Ngram> {
    if let (TokenizerKind::Closed(t), false) = (&snapshot.tokenizer.kind, text.is_empty()) {
        let (mut spaced, mut plain) = (Vec::new(), Vec::new());
        t.encode(" a", &mut spaced)?;
        t.encode("a", &mut plain)?;
        if spaced.len() == 1 && spaced != plain {
            return Ok(snapshot.ngram(&format!(" {text}"))?);
        }
    }
    Ok(snapshot.ngram(text)?)
}

/// Whether a query has clauses, as far as its form tells.
pub(super) fn is_boolean(text: Option<&Value>, ids: Option<&Value>) -> bool {
    let operators = |t: &str| t.contains(" AND ") || t.contains(" OR ");
    let nested = |ids: &Value| ids.as_array().is_some_and(|list| list.iter().any(Value::is_array));
    text.and_then(Value::as_str).is_some_and(operators) || ids.is_some_and(nested)
}

pub(super) fn of_text(snapshot: &Snapshot, text: &Value) -> Result<Query> {
    let boolean = is_boolean(Some(text), None);
    let text = text.as_str().ok_or_else(|| Refused::Value("query must be a string!".into()))?;
    if text.chars().count() > MAX_CHARS {
        return Err(Refused::Value(format!("Please limit your input to <= {MAX_CHARS} characters!")));
    }
    let query = if boolean {
        let clause = |c: &str| c.split(" OR ").map(|t| tokenized(snapshot, t)).collect::<Result<Vec<_>>>();
        Query::Cnf(text.split(" AND ").map(clause).collect::<Result<_>>()?)
    } else {
        Query::Simple(tokenized(snapshot, text)?)
    };
    within_limits(query)
}

pub(super) fn of_ids(snapshot: &Snapshot, ids: &Value) -> Result<Query> {
    let shape = || Refused::Value("query_ids must be a list of integers, or a triply-nested list of integers!".into());
    let ngram = |v: &Value| -> Result<Ngram> {
        let list = v.as_array().ok_or_else(shape)?;
        if list.len() > MAX_TOKENS {
            return Err(Refused::Value(format!("Please limit your input to <= {MAX_TOKENS} tokens!")));
        }
        if list.iter().any(|x| !x.is_i64() && !x.is_u64()) {
            return Err(shape());
        }
        let ids: Option<Vec<u32>> = list.iter().map(|x| x.as_u64().and_then(|x| u32::try_from(x).ok())).collect();
        let out_of_range = || Refused::Value("Some item(s) in your query_ids are out-of-range!".into());
        let ids = ids.ok_or_else(out_of_range)?;
        if ids.contains(&65535) && snapshot.manifest.tokenizer.vocab.is_some_and(|v| v <= 65535) {
            return Err(Refused::Value("the document separator, 65535, cannot be part of a query".into()));
        }
        snapshot.ngram_of_ids(&ids).map_err(|e| {
            if matches!(snapshot.tokenizer.kind, TokenizerKind::Closed(_)) { out_of_range() } else { e.into() }
        })
    };
    let list = ids.as_array().ok_or_else(shape)?;
    let query = if list.iter().all(|x| x.is_i64() || x.is_u64()) {
        Query::Simple(ngram(ids)?)
    } else {
        if list.len() > MAX_CLAUSES || list.iter().any(|c| c.as_array().is_some_and(|c| c.len() > MAX_TERMS)) {
            return Err(too_many());
        }
        let clause = |c: &Value| c.as_array().ok_or_else(shape)?.iter().map(ngram).collect::<Result<Vec<_>>>();
        Query::Cnf(list.iter().map(clause).collect::<Result<_>>()?)
    };
    within_limits(query)
}

fn too_many() -> Refused {
    Refused::Value(format!(
        "Please enter at most {MAX_CLAUSES} disjunctive clauses, and at most {MAX_TERMS} terms in each disjunctive clause!"
    ))
}

fn within_limits(query: Query) -> Result<Query> {
    let tokens = match &query {
        Query::Simple(n) => n.len(),
        Query::Cnf(clauses) => {
            if clauses.len() > MAX_CLAUSES || clauses.iter().any(|c| c.len() > MAX_TERMS) {
                return Err(too_many());
            }
            clauses.iter().flatten().map(Ngram::len).sum()
        }
    };
    if tokens > MAX_TOKENS {
        return Err(Refused::Value(format!("Please limit your input to <= {MAX_TOKENS} tokens!")));
    }
    Ok(query)
}

/// The text of an n-gram that is part of a query.
pub(super) fn plain(snapshot: &Snapshot, ngram: &Ngram) -> String {
    match (ngram, &snapshot.tokenizer.kind) {
        (Ngram::Ids(ids), TokenizerKind::Closed(t)) => {
            let bytes: Vec<u8> = ids.iter().flat_map(|&id| t.token_bytes(id).unwrap_or_default()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        (Ngram::Terms(terms), _) => terms.join(" "),
        _ => String::new(),
    }
}

/// Positions of the rarest clause's n-grams that have every other clause within `near` tokens in the same document, by shard.
///
/// Cost: a read an occurrence of the rarest clause, and of each other clause the cheaper of a read an occurrence and a scan of the tokens
/// around.
pub(super) fn positions(
    snapshot: &Snapshot,
    clauses: &[Vec<Ngram>],
    near: usize,
    limit: usize,
) -> Result<Vec<Vec<u64>>> {
    if clauses.is_empty() || clauses.iter().any(|c| c.is_empty() || c.iter().any(Ngram::is_empty)) {
        return Err(Refused::Value("Please provide a non-empty query in every clause!".into()));
    }
    let counts: Vec<u64> = clauses.iter().map(|c| c.iter().map(|n| snapshot.count(n)).sum()).collect();
    let anchor = (0..counts.len()).min_by_key(|&i| counts[i]).unwrap_or(0);
    if counts[anchor] > limit as u64 {
        return Err(Refused::Value(format!(
            "the rarest clause occurs {} times, more than the {limit} this server lists",
            counts[anchor]
        )));
    }
    let each = snapshot.shards.iter().enumerate();
    Ok(each
        .map(|(number, shard)| with_view!(shard.exact, v => positions_in(snapshot, number, shard, v, clauses, anchor, near as u64)))
        .collect())
}

/// Positions of a stream in order, each once.
///
/// Many of them are put in order by their bits in a map of the stream, which costs a few instructions each instead of a sort's dozens.
fn ordered(positions: impl Iterator<Item = u64>, count: usize, stream: u64) -> Vec<u64> {
    if (count as u64).saturating_mul(DENSE) < stream {
        let mut list: Vec<u64> = positions.collect();
        list.sort_unstable();
        list.dedup();
        return list;
    }
    let mut map = vec![0u64; stream.div_ceil(64) as usize];
    for p in positions {
        if let Some(word) = map.get_mut((p / 64) as usize) {
            *word |= 1 << (p % 64);
        }
    }
    let mut list = Vec::with_capacity(count);
    for (i, mut word) in map.into_iter().enumerate() {
        while word != 0 {
            list.push(64 * i as u64 + u64::from(word.trailing_zeros()));
            word &= word - 1;
        }
    }
    list
}

/// What it costs to list so many positions in order, in tokens that are looked through in the same time; `place` is the layout's cost of
/// one position that is asked for alone.
fn listing(count: usize, stream: u64, place: usize) -> u64 {
    let count = count as u64;
    let (each, map) = if count.saturating_mul(DENSE) < stream { (50, 0) } else { (14, stream / 20) };
    count.saturating_mul(each.min(place as u64)).saturating_add(map)
}

/// What it costs to look around so many positions, each of whose documents is looked up.
fn scanning(count: usize, near: u64) -> u64 {
    (count as u64).saturating_mul(300 + 2 * near)
}

fn positions_in<V: TokenIndex>(
    snapshot: &Snapshot,
    number: usize,
    shard: &Shard,
    view: V,
    clauses: &[Vec<Ngram>],
    anchor: usize,
    near: u64,
) -> Vec<u64> {
    // A term the shard does not know resolves to the separator, which is no part of any document.
    let known = |n: &Vec<V::Token>| n.iter().all(|t| t.id() < shard.separator());
    let resolved: Vec<Vec<Vec<V::Token>>> =
        clauses.iter().map(|c| c.iter().map(|n| n.resolve(shard)).filter(known).collect()).collect();
    let stream = shard.meta.suffix.stream;
    // `None`: looking around that many positions is cheaper.
    let listed = |clause: &[Vec<V::Token>], around: Option<usize>| -> Option<Vec<u64>> {
        let intervals: Vec<_> = clause.iter().map(|n| (view.interval(n), n.len())).collect();
        let count: usize = intervals.iter().map(|(ranks, _)| ranks.len()).sum();
        let dear = |around| count > LISTED || listing(count, stream, V::PLACE_COST) > scanning(around, near);
        if around.is_some_and(dear) {
            return None;
        }
        let places = |(ranks, n): (Range<usize>, usize)| ranks.map(move |rank| view.place(rank, n) as u64);
        Some(ordered(intervals.into_iter().flat_map(places), count, stream))
    };
    let mut found = listed(&resolved[anchor], None).unwrap_or_default();
    // A clause equal to the anchor's is met by the anchor itself.
    for clause in resolved.iter().filter(|clause| **clause != resolved[anchor]) {
        let list = listed(clause, Some(found.len()));
        let needles: Vec<(Finder, usize)> =
            clause.iter().map(|n| (Finder::new(bytemuck::cast_slice(n)), n.len())).collect();
        // Positions ascend, and so do the documents they are in and the first position of the list that is not before them.
        let (mut within, mut next) = (0..0, 0);
        found.retain(|&p| {
            if let Some(list) = &list {
                next += list[next..].iter().take_while(|&&q| q + near < p).count();
                // Most have none near, and then the document does not matter.
                if list.get(next).is_none_or(|&q| q > p + near) {
                    return false;
                }
            }
            if !within.contains(&p) {
                let document = shard.documents.document_at(p);
                within = document.and_then(|d| shard.documents.token_range(d)).unwrap_or(p..p + 1);
            }
            let (from, to) = (p.saturating_sub(near).max(within.start), (p + near + 1).min(within.end));
            match &list {
                Some(list) => list[next..].iter().take_while(|&&q| q < to).any(|&q| q >= from),
                None => needles.iter().any(|(needle, n)| {
                    let tokens = view.read(from as usize..(to as usize + n - 1).min(within.end as usize));
                    occurs::<V::Token>(needle, bytemuck::cast_slice(&tokens))
                }),
            }
        });
    }
    if snapshot.removals.is_empty() {
        return found;
    }
    found.retain(|&p| {
        let document = shard.documents.document_at(p);
        document.is_some_and(|document| !snapshot.is_removed(DocumentRef { shard: number as u32, document }))
    });
    found
}

#[cfg(test)]
mod tests {
    use super::ordered;

    #[test]
    fn few_and_many_positions_are_put_in_order() {
        let positions: Vec<u64> = (0..500).map(|i| i * 7919 % 4096).chain([0, 4095, 63, 64, 0]).collect();
        let mut expected = positions.clone();
        expected.sort_unstable();
        expected.dedup();
        for stream in [4096, 4097, 1 << 20] {
            assert_eq!(ordered(positions.iter().copied(), positions.len(), stream), expected, "{stream}");
        }
        assert!(ordered(std::iter::empty(), 0, 0).is_empty());
    }
}
