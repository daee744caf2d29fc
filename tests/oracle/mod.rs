//! An index of a few documents, and the answers a reader with a pencil would give.
//!
//! The oracle knows the documents' tokens and nothing else: no sorting, no intervals. It finds an n-gram at the places of its first
//! token, one after the other.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use priorart::corpus::{ReadOptions, discover};
use priorart::index::build::{BuildOptions, build, publish, seed};
use priorart::index::{IndexDir, Snapshot};
use priorart::query::Ngram;
use priorart::shard::Layout;
use priorart::tokenize::Tokenizer;

/// Builds an index in `dir`, one shard for each list of texts, in the layouts given in turn.
pub fn index(dir: &Path, tokenizer: &str, parts: &[Vec<String>], layouts: &[Layout]) -> Snapshot {
    let tokenizer = Tokenizer::open(tokenizer).expect("a tokenizer");
    let home = dir.join("index");
    let index = IndexDir::create(&home, seed(&tokenizer)).expect("a new index");
    for (number, texts) in parts.iter().enumerate() {
        let path = dir.join(format!("part-{number}.jsonl"));
        let lines: Vec<String> = texts
            .iter()
            .enumerate()
            .map(|(i, text)| serde_json::json!({ "id": format!("{number}/{i}"), "text": text }).to_string())
            .collect();
        std::fs::write(&path, lines.join("\n")).expect("a written file");
        let files = discover(&[path.to_string_lossy().into_owned()]).expect("the file just written");
        let layout = layouts[number % layouts.len()];
        let options = BuildOptions { read: ReadOptions::default(), memory: 1 << 30, layout, ..Default::default() };
        build(&index, &tokenizer, &files, &options, &mut |_| ()).expect("a build");
        publish(&index, &tokenizer, &files, &options, |_| ()).expect("a generation");
    }
    let snapshot = Snapshot::open(&home).expect("the index just built");
    assert_eq!(snapshot.shards.len(), parts.len());
    snapshot
}

/// The tokens of an n-gram as strings, whatever the vocabulary.
pub fn tokens(ngram: &Ngram) -> Vec<String> {
    match ngram {
        Ngram::Ids(ids) => ids.iter().map(u32::to_string).collect(),
        Ngram::Terms(terms) => terms.clone(),
    }
}

pub struct Oracle {
    names: HashMap<String, u32>,
    pub documents: Vec<Vec<u32>>,
    /// Places of each token: document and position, in order.
    places: Vec<Vec<(u32, u32)>>,
}

impl Oracle {
    pub fn new(snapshot: &Snapshot, texts: &[String]) -> Oracle {
        let mut oracle = Oracle { names: HashMap::new(), documents: Vec::new(), places: Vec::new() };
        for (number, text) in texts.iter().enumerate() {
            let mut document = Vec::new();
            for token in tokens(&snapshot.ngram(text).expect("a text")) {
                let next = oracle.names.len() as u32;
                let id = *oracle.names.entry(token).or_insert(next);
                if id == next {
                    oracle.places.push(Vec::new());
                }
                oracle.places[id as usize].push((number as u32, document.len() as u32));
                document.push(id);
            }
            oracle.documents.push(document);
        }
        oracle
    }

    /// A query as the oracle numbers it; a token it has never seen is no token's number.
    pub fn ids(&self, ngram: &Ngram) -> Vec<u32> {
        tokens(ngram).iter().map(|t| self.names.get(t).copied().unwrap_or(u32::MAX)).collect()
    }

    /// The token that the oracle has given this number.
    pub fn names(&self) -> BTreeMap<u32, &str> {
        self.names.iter().map(|(name, &id)| (id, name.as_str())).collect()
    }

    /// Where an n-gram occurs: document and position.
    pub fn find(&self, query: &[u32]) -> Vec<(u32, u32)> {
        let Some(places) = query.first().and_then(|&t| self.places.get(t as usize)) else { return Vec::new() };
        let here = |&&(d, at): &&(u32, u32)| self.documents[d as usize][at as usize..].starts_with(query);
        places.iter().filter(here).copied().collect()
    }

    /// Tokens that follow an n-gram, and how often a document ends there.
    pub fn next(&self, query: &[u32]) -> (BTreeMap<u32, u64>, u64) {
        let (mut next, mut ends) = (BTreeMap::new(), 0);
        for (d, at) in self.find(query) {
            match self.documents[d as usize].get(at as usize + query.len()) {
                Some(&t) => *next.entry(t).or_default() += 1,
                None => ends += 1,
            }
        }
        (next, ends)
    }

    /// Length of the longest prefix of `query` that occurs.
    pub fn longest(&self, query: &[u32]) -> usize {
        let Some(places) = query.first().and_then(|&t| self.places.get(t as usize)) else { return 0 };
        let shared = |&(d, at): &(u32, u32)| {
            self.documents[d as usize][at as usize..].iter().zip(query).take_while(|(a, b)| a == b).count()
        };
        places.iter().map(shared).max().unwrap_or(0)
    }

    /// AND of n-grams in a document, or in `window` tokens: documents, and occurrences of the rarest n-gram that take part.
    pub fn all(&self, queries: &[Vec<u32>], window: Option<usize>) -> (u64, u64) {
        let found: Vec<Vec<(u32, u32)>> = queries.iter().map(|q| self.find(q)).collect();
        let rarest = (0..found.len()).min_by_key(|&i| found[i].len()).expect("a query");
        let mut documents = std::collections::BTreeSet::new();
        let mut count = 0;
        for &(d, at) in &found[rarest] {
            let takes_part = match window {
                None => found.iter().all(|f| f.iter().any(|&(other, _)| other == d)),
                Some(w) => {
                    let (end, len) =
                        (at as i64 + queries[rarest].len() as i64, self.documents[d as usize].len() as i64);
                    // Every window of w tokens that has the occurrence.
                    (end - w as i64..=at as i64).any(|from| {
                        from + w as i64 >= end
                            && from < len
                            && found.iter().zip(queries).all(|(f, q)| {
                                f.iter().any(|&(other, p)| {
                                    other == d && p as i64 >= from && p as i64 + q.len() as i64 <= from + w as i64
                                })
                            })
                    })
                }
            };
            if takes_part {
                count += 1;
                documents.insert(d);
            }
        }
        (count, documents.len() as u64)
    }
}
