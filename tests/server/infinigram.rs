//! infini-gram's interface answers what the package `infini-gram` answers on the same tokens.
//!
//! `PRIORART_INFINIGRAM` names a directory into which `pip install --target` has put that package and numpy; without it the comparison
//! is skipped. The corpus is this project's own sources; the queries are seeded n-grams of it, some of them put together from two places.
//!
//! The package is the judge of every query but those of several clauses: it misses occurrences of some pairs and calls the count exact.
//! There a scan of the stream is, and the package has to be right about most.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use priorart::index::Snapshot;
use priorart::suffix::Token;
use priorart::with_view;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::client::{Running, build, settings};
use super::sources::sources;

const SEPARATOR: u32 = 50_257;

fn documents() -> Vec<(String, String)> {
    let mut out = sources(&["src/query", "src/server", "src/corpus", "src/embed", "."]);
    // Copies, so that some long n-grams occur more than once.
    let copies: Vec<_> = out[..5].iter().map(|(name, text)| (format!("copy/{name}"), text.clone())).collect();
    out.extend(copies);
    // As in `tests/infinigram.rs`: a last document that ends in a prompt makes the package's `ntd` say that only the end follows it.
    out.push(("last".into(), "\u{7f}".into()));
    out
}

/// Every position of the stream, documents in order, each ended by the separator.
fn stream(snapshot: &Snapshot) -> Vec<u32> {
    let shard = &snapshot.shards[0];
    let mut out = Vec::new();
    for document in 0..shard.documents.len() as u32 {
        let range = shard.documents.token_range(document).unwrap();
        let tokens = range.start as usize..range.end as usize - 1;
        with_view!(shard.exact, v => out.extend(v.read(tokens).iter().map(|t| t.id())));
        out.push(SEPARATOR);
    }
    out
}

fn requests(stream: &[u32]) -> Vec<Value> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    let mut ngram = |n: usize| loop {
        let at = rng.random_range(0..stream.len() - n);
        if !stream[at..at + n].contains(&SEPARATOR) {
            return stream[at..at + n].to_vec();
        }
    };
    let mut out = vec![json!({ "query_type": "count", "query_ids": [] })];
    for round in 0..60 {
        let n = 1 + round % 8;
        let (own, mixed) = (ngram(n), [ngram(n), ngram(2)].concat());
        for ids in [&own, &mixed] {
            for kind in ["count", "prob", "infgram_prob"] {
                out.push(json!({ "query_type": kind, "query_ids": ids }));
            }
            for kind in ["ntd", "infgram_ntd"] {
                out.push(json!({ "query_type": kind, "query_ids": ids, "max_support": 1000 }));
            }
        }
        // Each of its ranks is opened, and runs of spaces have tens of thousands.
        let rare = loop {
            let found = ngram(5 + round % 4);
            if (0..stream.len()).filter(|&p| stream[p..].starts_with(&found)).count() <= 50 {
                break found;
            }
        };
        out.push(json!({ "query_type": "find", "query_ids": rare, "max_disp_len": 7 + round % 5 }));
        let clauses = json!([[ngram(2)], [ngram(1), ngram(2)]]);
        out.push(json!({ "query_type": "count", "query_ids": clauses, "max_diff_tokens": 50 }));
        out.push(json!({ "query_type": "find_cnf", "query_ids": clauses, "max_diff_tokens": 50 }));
    }
    out
}

/// What the package answers.
fn package(modules: &Path, directory: &Path, metadata: &[String], requests: &[Value]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server/infinigram.py");
    let mut child = Command::new("python3")
        .arg(script)
        .env("PYTHONPATH", modules)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let input = json!({ "directory": directory, "separator": SEPARATOR, "metadata": metadata, "requests": requests });
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "the package failed");
    // Its engine writes a line of its own before.
    let text = String::from_utf8(out.stdout).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// The fields in which both must agree. What depends on the order of ranks or on where a stream puts its separators is made alike.
fn comparable(answer: &Value, shift: u64) -> Value {
    let mut out = answer.clone();
    let fields = out.as_object_mut().unwrap();
    for own in ["latency", "tokens", "token_ids", "longest_suffix", "segment_by_shard"] {
        fields.remove(own);
    }
    if let Some(by_id) = fields.get_mut("result_by_token_id") {
        for of_token in by_id.as_object_mut().unwrap().values_mut() {
            *of_token = of_token["cont_cnt"].clone();
        }
    }
    if let Some(ptrs) = fields.get_mut("ptrs_by_shard") {
        let mut list: Vec<u64> = ptrs[0].as_array().unwrap().iter().map(|p| p.as_u64().unwrap() - shift).collect();
        list.sort_unstable();
        *ptrs = json!(list);
    }
    if let Some(documents) = fields.get_mut("documents") {
        let mut list: Vec<String> = documents
            .as_array()
            .unwrap()
            .iter()
            .map(|d| {
                let metadata: Value = serde_json::from_str(d["metadata"].as_str().unwrap()).unwrap();
                // The window is settled by these; its `token_ids` give way to the query's in an answer that is one document.
                json!([d["doc_ix"], d["doc_len"], d["disp_len"], d["needle_offset"], metadata["linenum"]]).to_string()
            })
            .collect();
        list.sort();
        *documents = json!(list);
    }
    out
}

/// Positions of the rarest clause that have every other clause within `near` tokens in their document, found by scanning.
fn scanned(stream: &[u32], clauses: &[Vec<Vec<u32>>], near: usize) -> Vec<u64> {
    let places = |clause: &Vec<Vec<u32>>| -> Vec<Vec<usize>> {
        clause.iter().map(|n| (0..stream.len()).filter(|&p| stream[p..].starts_with(n)).collect()).collect()
    };
    let places: Vec<Vec<Vec<usize>>> = clauses.iter().map(places).collect();
    let together = |alternatives: &[Vec<usize>]| {
        let mut all = alternatives.concat();
        all.sort_unstable();
        all.dedup();
        all
    };
    let rarest = (0..places.len()).min_by_key(|&i| places[i].iter().map(Vec::len).sum::<usize>()).unwrap();
    let beside = |p: usize, q: usize| p.abs_diff(q) <= near && !stream[p.min(q)..p.max(q)].contains(&SEPARATOR);
    let others: Vec<Vec<usize>> =
        places.iter().enumerate().filter(|(i, _)| *i != rarest).map(|(_, of)| together(of)).collect();
    let met = |&p: &usize| {
        let around =
            |clause: &Vec<usize>| clause.partition_point(|q| q + near < p)..clause.partition_point(|&q| q <= p + near);
        others.iter().all(|clause| clause[around(clause)].iter().any(|&q| beside(p, q)))
    };
    together(&places[rarest]).into_iter().filter(met).map(|p| p as u64).collect()
}

#[test]
fn answers_as_the_package_does() {
    let Some(modules) = std::env::var_os("PRIORART_INFINIGRAM") else {
        println!("skipped: PRIORART_INFINIGRAM does not name a directory with the package infini-gram");
        return;
    };
    let documents = documents();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sources");
    build(&path, "sources.jsonl", &documents.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect::<Vec<_>>());
    let stream = stream(&Snapshot::open(&path).unwrap());
    let bytes: Vec<u8> = stream.iter().flat_map(|&t| (t as u16).to_le_bytes()).collect();
    std::fs::write(dir.path().join("stream.u16"), bytes).unwrap();
    let metadata: Vec<String> = (0..documents.len())
        .map(|i| json!({ "path": "sources.jsonl", "linenum": i, "metadata": {} }).to_string())
        .collect();
    let requests = requests(&stream);
    let theirs = package(Path::new(&modules), dir.path(), &metadata, &requests);
    assert_eq!(theirs.len(), requests.len());

    let server = Running::start(move |set| set.indexes = vec![settings("sources", &path)]);
    let (mut occurring, mut boolean, mut agreed, mut cut) = (0, 0, 0, 0);
    for (request, theirs) in requests.iter().zip(&theirs) {
        let mut body = request.clone();
        body["index"] = "sources".into();
        let display = body.as_object_mut().unwrap().remove("max_disp_len").filter(|_| request["query_type"] == "find");
        let mut ours = server.post("/", &body).json;
        if let Some(display) = display {
            // Their `find` was answered with the documents of its ranks.
            let segment = ours["segment_by_shard"][0].clone();
            let documents: Vec<Value> = (segment[0].as_u64().unwrap()..segment[1].as_u64().unwrap())
                .map(|rank| {
                    let ask = json!({ "index": "sources", "query_type": "get_doc_by_rank", "query_ids": request["query_ids"], "s": 0, "rank": rank, "max_disp_len": display });
                    server.post("/", &ask).json
                })
                .collect();
            ours["documents"] = documents.into();
        }
        occurring += usize::from(["count", "cnt", "cont_cnt"].iter().any(|k| ours[*k].as_u64() > Some(0)));
        if let Ok(clauses) = serde_json::from_value::<Vec<Vec<Vec<u32>>>>(request["query_ids"].clone())
            && !clauses.is_empty()
        {
            let expected = scanned(&stream, &clauses, request["max_diff_tokens"].as_u64().unwrap() as usize);
            let number = if request["query_type"] == "count" { &ours["count"] } else { &ours["cnt"] };
            assert_eq!((number, &ours["approx"]), (&json!(expected.len()), &json!(false)), "{request}");
            if request["query_type"] == "find_cnf" {
                let bytes: Vec<u64> = expected.iter().map(|p| 2 * p).collect();
                assert_eq!(ours["ptrs_by_shard"], json!([bytes]), "{request}");
            }
            boolean += 1;
            agreed += usize::from(comparable(&ours, 0) == comparable(theirs, 2));
            continue;
        }
        // Of more different tokens than may be shown ours are the most frequent; theirs are all.
        if ours["approx"] == true {
            let (shown, all) = (ours["result_by_token_id"].as_object().unwrap(), &theirs["result_by_token_id"]);
            assert_eq!((shown.len(), &ours["prompt_cnt"]), (1000, &theirs["prompt_cnt"]), "{request}");
            assert!(shown.iter().all(|(id, of)| of["cont_cnt"] == all[id]["cont_cnt"]), "{request}");
            cut += 1;
            continue;
        }
        // Their documents begin one token later in the stream: each follows its separator.
        assert_eq!(comparable(&ours, 0), comparable(theirs, 2), "{request}\nours: {ours}\ntheirs: {theirs}");
    }
    assert!(cut * 10 < requests.len(), "{cut} distributions were cut");
    println!("of {boolean} answers about several clauses, all those of a scan, {agreed} are the package's, too");
    // It follows one clause's positions where others are rarer, and accepts what is further away: see the scan.
    assert!(5 * agreed > boolean, "the package agrees on {agreed} of {boolean} answers about several clauses");
    assert!(occurring > 200, "only {occurring} of {} answers are of n-grams that occur", requests.len());
}
