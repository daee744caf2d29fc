//! An index that infini-gram's own package built, opened in place, answers as the package does.
//!
//! `PRIORART_INFINIGRAM` names a directory into which `pip install --target` has put the package `infini-gram` and numpy; without it the
//! comparison is skipped.

mod sources;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use priorart::index::build::seed;
use priorart::index::import::{describe, import};
use priorart::index::remove::remove;
use priorart::index::{IndexDir, Snapshot};
use priorart::query::Ngram;
use priorart::query::boolean::Expression;
use priorart::query::find::FindOptions;
use priorart::query::trace::TraceOptions;
use priorart::tokenize::{Tokenizer, TokenizerKind};
use priorart::with_view;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// Shards of an index.
const SHARDS: usize = 3;

/// The project's sources, some of them twice, in as many lists as there are shards.
fn texts() -> Vec<Vec<String>> {
    let mut texts = sources::texts(&["src/query", "src/corpus", "src/embed", "src/decontaminate", "."]);
    texts.extend_from_within(..5);
    let mut parts: Vec<Vec<String>> = texts.chunks(texts.len().div_ceil(SHARDS)).map(<[String]>::to_vec).collect();
    // Where a shard's last document ends in a prompt, the package's `ntd` says that nothing but the end ever follows it: its first
    // and its last occurrence in the table both stand at an end. A last document of one token that is nowhere else avoids that.
    parts.iter_mut().for_each(|part| part.push("\u{7f}".into()));
    parts
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let TokenizerKind::Closed(t) = &tokenizer.kind else { unreachable!("a closed vocabulary") };
    let mut ids = Vec::new();
    t.encode(text, &mut ids).expect("tokens");
    ids
}

/// Writes the files that infini-gram's first step makes.
fn write(dir: &Path, shard: &str, documents: &[(usize, Vec<u32>)], width: usize) {
    let (mut tokens, mut offsets) = (Vec::new(), Vec::new());
    let (mut lines, mut starts) = (Vec::new(), Vec::new());
    for (number, ids) in documents {
        offsets.extend((tokens.len() as u64).to_le_bytes());
        tokens.extend(vec![0xFF; width]);
        ids.iter().for_each(|id| tokens.extend_from_slice(&id.to_le_bytes()[..width]));
        starts.extend((lines.len() as u64).to_le_bytes());
        let metadata = json!({"path": "corpus.jsonl", "linenum": number, "metadata": {"id": format!("doc-{number}")}});
        writeln!(lines, "{metadata}").expect("a line");
    }
    for (name, bytes) in [("tokenized", tokens), ("offset", offsets), ("metadata", lines), ("metaoff", starts)] {
        std::fs::write(dir.join(format!("{name}.{shard}")), bytes).expect("a file");
    }
}

fn python(package: &str, arguments: &[&str], input: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/infinigram/answer.py");
    let mut child = Command::new("python3")
        .arg(script)
        .args(arguments)
        .env("PYTHONPATH", package)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("the queries are read");
    let output = child.wait_with_output().expect("python3 ends");
    assert!(output.status.success(), "answer.py {arguments:?} failed");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn answers_as_the_package(tokenizer: &str, width: usize, vocabulary: &str) {
    let Some(package) = std::env::var("PRIORART_INFINIGRAM").ok().filter(|p| !p.is_empty()) else {
        println!("skipped: PRIORART_INFINIGRAM does not name a directory with the package infini-gram");
        return;
    };
    let place = tempfile::tempdir().expect("a directory");
    let theirs = place.path().join("theirs");
    std::fs::create_dir(&theirs).expect("a directory");
    let tokenizer = Tokenizer::named(tokenizer).expect("a tokenizer");
    let parts = texts();
    let texts = parts.concat();
    let documents: Vec<(usize, Vec<u32>)> = texts.iter().map(|t| encode(&tokenizer, t)).enumerate().collect();
    // By name, 10 comes before 2.
    let names: [&str; SHARDS] = ["0", "10", "2"];
    let mut rest = documents.as_slice();
    for (name, part) in names.iter().zip(&parts) {
        let (here, after) = rest.split_at(part.len());
        write(&theirs, name, here, width);
        rest = after;
    }
    let (directory, w) = (theirs.to_string_lossy().into_owned(), width.to_string());
    if width == 4 {
        // Its sorter allocates 32 GiB of buckets for four-byte tokens, whatever their number: its engine is asked about a table made here.
        names.iter().for_each(|name| sort(&theirs, name, width));
    } else {
        python(&package, &["sort", &directory, &w], "");
    }

    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let mut pick = |n: usize| loop {
        let ids = &documents[rng.random_range(0..documents.len())].1;
        if ids.len() > n {
            let at = rng.random_range(0..ids.len() - n);
            let mut query = ids[at..at + n].to_vec();
            if rng.random_ratio(1, 4) {
                query[n - 1] = ids[rng.random_range(0..ids.len())];
            }
            break query;
        }
    };
    let queries: Vec<Vec<u32>> = (0..500).map(|i| pick(1 + i % 12)).collect();
    let asked = json!({ "queries": queries }).to_string();
    let told: Vec<Value> =
        serde_json::from_str(&python(&package, &["query", &directory, &w, vocabulary], &asked)).expect("answers");

    let (named, shards) = describe(&theirs, Some(&tokenizer), None).expect("an index of infini-gram");
    assert_eq!(shards.iter().map(|s| usize::from(s.width)).collect::<Vec<_>>(), [width; 3], "the width is found");
    let index = IndexDir::create(&place.path().join("ours"), seed(&named)).expect("a new index");
    import(&index, &shards).expect("a generation");
    let snapshot = Snapshot::open(index.path()).expect("the imported index");
    assert_eq!(snapshot.manifest.corpus.documents, documents.len() as u64);
    let ngrams: Vec<Ngram> = queries.iter().map(|q| snapshot.ngram_of_ids(q).expect("ids")).collect();
    let counts = snapshot.counts(&ngrams);
    for (((query, ngram), count), told) in queries.iter().zip(&ngrams).zip(counts).zip(&told) {
        assert_eq!(told["count"], count, "{query:?}");
        let next = snapshot.next(ngram, 0);
        let mut ours: Vec<(u64, u64)> = next.tokens.iter().map(|t| (u64::from(t.id.unwrap_or(0)), t.count)).collect();
        ours.sort_unstable();
        let theirs: Vec<(u64, u64)> = serde_json::from_value(told["next"].clone()).expect("pairs");
        // It shows an end as its end-of-document id, the last of its vocabulary.
        let end = vocabulary.parse::<u64>().expect("a number") - 1;
        let real = |id: &u64| *id != end;
        let ends: u64 = theirs.iter().filter(|(id, _)| !real(id)).map(|(_, n)| n).sum();
        assert_eq!(ours, theirs.into_iter().filter(|(id, _)| real(id)).collect::<Vec<_>>(), "after {query:?}");
        assert_eq!(next.end_of_document, ends, "{query:?}");
        // The first occurrence in the order of the table is in the same document.
        if let Value::Object(of) = &told["document"] {
            let number = of["shard"].as_u64().expect("a number") as usize;
            let shard = &snapshot.shards[number];
            let position = with_view!(shard.exact, v => {
                let rank = v.interval(query_of(query).as_slice()).start;
                v.place(rank, query.len()) as u64
            });
            let document = shard.documents.document_at(position).expect("a document");
            assert_eq!(of["tokens"], shard.tokens_of(document).len());
            let line: Value = serde_json::from_str(of["metadata"].as_str().expect("a line")).expect("JSON");
            assert_eq!(line["metadata"]["id"], shard.documents.id(document).expect("an id"));
        }
    }
    every_command_works(&snapshot, &texts, &named);
    removal_counts(snapshot, &documents);
}

/// Queries as a view of unknown width takes them.
fn query_of<T: priorart::suffix::Token>(query: &[u32]) -> Vec<T> {
    query.iter().map(|&id| T::from_id(id)).collect()
}

fn every_command_works(s: &Snapshot, texts: &[String], tokenizer: &Tokenizer) {
    let phrase = s.ngram(" suffix array").expect("a text");
    let found = s.find(&phrase, &FindOptions { limit: 1000, ..Default::default() }).expect("found");
    let expected = texts.iter().filter(|t| t.contains(" suffix array")).count() as u64;
    assert!(found.documents > 0 && found.documents <= expected, "{} of {expected}", found.documents);
    for f in &found.found {
        let number: usize = f.id.strip_prefix("doc-").and_then(|n| n.parse().ok()).expect("an id of ours");
        assert_eq!((f.path.as_str(), f.record), ("corpus.jsonl", number as u64));
        for o in &f.occurrences {
            assert_eq!(&texts[number][o.start_byte..o.end_byte], o.text, "the detokenised text is the original");
        }
    }
    assert_eq!(s.find_id("doc-3").expect("ids").len(), 1);
    let trace = s.trace(&texts[7], &TraceOptions::default()).expect("a trace");
    assert_eq!(trace.longest[0], encode(tokenizer, &texts[7]).len(), "the whole document is found");
    let both = Expression::all(vec![phrase, s.ngram(" document").expect("a text")]);
    let got = s.boolean_count(&both, None).expect("a count");
    assert!(got.documents > 0 && got.documents <= found.documents);
}

fn removal_counts(snapshot: Snapshot, documents: &[(usize, Vec<u32>)]) {
    let home = snapshot.dir.path().to_path_buf();
    let gone = snapshot.find_id("doc-4").expect("ids").into_iter().collect();
    remove(&snapshot, &gone).expect("a generation");
    let after = Snapshot::open(&home).expect("the new generation");
    for (number, ids) in documents.iter().filter(|(_, ids)| ids.len() > 40).take(8) {
        let query = &ids[20..24];
        let expected: usize =
            documents.iter().filter(|(n, _)| *n != 4).map(|(_, d)| d.windows(4).filter(|w| *w == query).count()).sum();
        assert_eq!(after.count(&after.ngram_of_ids(query).expect("ids")), expected as u64, "document {number}");
    }
}

#[test]
fn two_byte_tokens() {
    answers_as_the_package("gpt2", 2, "65535");
}

#[test]
fn one_byte_tokens() {
    answers_as_the_package("bytes", 1, "255");
}

#[test]
fn four_byte_tokens() {
    answers_as_the_package("cl100k", 4, "200000");
}

/// Files made here, so that this runs without the package.
fn sorted(dir: &Path, documents: &[Vec<u32>], width: usize) {
    let numbered: Vec<(usize, Vec<u32>)> = documents.iter().cloned().enumerate().collect();
    write(dir, "0", &numbered, width);
    sort(dir, "0", width);
}

/// Sorts a shard by the bytes of its suffixes; pointers are as wide as the length of the tokens needs.
fn sort(dir: &Path, shard: &str, width: usize) {
    let tokens = std::fs::read(dir.join(format!("tokenized.{shard}"))).expect("tokens");
    let mut order: Vec<usize> = (0..tokens.len()).step_by(width).collect();
    order.sort_by_key(|&at| &tokens[at..]);
    let pointer = (usize::BITS - (tokens.len() - 1).leading_zeros()).div_ceil(8) as usize;
    let table: Vec<u8> = order.iter().flat_map(|at| at.to_le_bytes()[..pointer].to_vec()).collect();
    std::fs::write(dir.join(format!("table.{shard}")), table).expect("a table");
}

#[test]
fn without_a_tokenizer_queries_are_ids() {
    let place = tempfile::tempdir().expect("a directory");
    for width in [2, 4] {
        let theirs = place.path().join(format!("theirs-{width}"));
        std::fs::create_dir(&theirs).expect("a directory");
        sorted(&theirs, &[vec![256, 1, 512, 1], vec![1, 512, 1, 3], vec![], vec![512]], width);
        let (tokenizer, shards) = describe(&theirs, None, None).expect("an index");
        assert_eq!((tokenizer.spec.kind.as_str(), usize::from(shards[0].width)), ("ids", width));
        let index = IndexDir::create(&place.path().join(format!("ours-{width}")), seed(&tokenizer)).expect("an index");
        import(&index, &shards).expect("a generation");
        let s = Snapshot::open(index.path()).expect("an index");
        assert_eq!((s.manifest.corpus.documents, s.manifest.corpus.tokens), (4, 9));
        assert_eq!(s.count(&s.ngram("1 512 1").expect("ids")), 2);
        assert_eq!(s.count(&s.ngram("1 1").expect("ids")), 0, "documents do not run into each other");
        assert!(s.ngram("the").is_err());
        let found = s.find(&s.ngram("512 1").expect("ids"), &FindOptions::default()).expect("found");
        assert_eq!(found.found[1].occurrences[0].text, " 512 1");
        assert_eq!(
            (found.found[1].occurrences[0].before.as_str(), found.found[1].occurrences[0].after.as_str()),
            (" 1", " 3")
        );
        let trace = s.trace("7 1 512 1 3 9", &TraceOptions::default()).expect("a trace");
        assert_eq!(trace.longest, [0, 4, 3, 2, 1, 0]);
        let documents = s.find_id("doc-0").expect("ids").into_iter().collect();
        remove(&s, &documents).expect("a generation");
        let s = Snapshot::open(index.path()).expect("an index");
        assert_eq!(s.count(&s.ngram("1 512 1").expect("ids")), 1);
    }
}

#[test]
fn what_is_no_such_index_is_told() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path();
    let refused = |what: &str| {
        let error = describe(dir, None, None).err().unwrap_or_else(|| panic!("{what} was accepted"));
        assert!(!error.to_string().is_empty());
    };
    refused("an empty directory");
    let again = || sorted(dir, &[vec![256, 1, 512, 1], vec![1, 512, 1, 3]], 2);
    again();
    let (_, shards) = describe(dir, None, None).expect("an index");
    let damage = |name: &str, bytes: &[u8]| {
        let old = std::fs::read(dir.join(name)).expect("a file");
        std::fs::write(dir.join(name), bytes).expect("a file");
        refused(name);
        std::fs::write(dir.join(name), old).expect("a file");
    };
    damage("tokenized.0", &[1, 2, 3]);
    damage("table.0", &[]);
    damage("offset.0", &[0; 9]);
    damage("metaoff.0", &[0; 8]);
    // Sorted in the order of ids, not of bytes.
    let tokens = std::fs::read(dir.join("tokenized.0")).expect("tokens");
    let mut order: Vec<usize> = (0..tokens.len()).step_by(2).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(&tokens[at..]));
    damage("table.0", &order.iter().flat_map(|at| at.to_le_bytes()[..1].to_vec()).collect::<Vec<u8>>());
    let words = Tokenizer::named("words").expect("words");
    assert!(describe(dir, Some(&words), None).is_err());

    // What was changed after the import is refused, not answered from.
    let (tokenizer, _) = describe(dir, None, None).expect("an index");
    let index = IndexDir::create(&dir.join("ours"), seed(&tokenizer)).expect("an index");
    import(&index, &shards).expect("a generation");
    Snapshot::open(index.path()).expect("an index");
    std::fs::write(dir.join("tokenized.0"), &tokens[2..]).expect("a file");
    let error = Snapshot::open(index.path()).err().expect("the file is shorter").to_string();
    assert!(error.contains("tokenized.0") && error.contains("at its import"), "{error}");
}
