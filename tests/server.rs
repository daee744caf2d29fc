//! The server over real sockets: the native API, limits, hostile input, reload, the token and redaction; `operations`: connections, logs,
//! draining, removal.

#[path = "server/client.rs"]
mod client;
mod fixture;
#[path = "server/operations.rs"]
mod operations;

use std::sync::Arc;

use client::{DOCUMENTS, Reply, Running, build, build_with, settings};
use priorart::embed::StaticEncoder;
use priorart::server::IndexSource;
use serde_json::{Value, json};

#[test]
fn counts_equal_a_scan() {
    let s = Running::start(|_| {});
    for (query, count) in [(" the quick brown fox", 3), (" lazy dog", 2), ("zebra crossing", 0)] {
        let r = s.post("/v1/small/count", &json!({ "query": query }));
        assert_eq!((r.status, r.json["count"].as_u64()), (200, Some(count)), "{query}: {}", r.text);
        assert_eq!(r.json["index"], "small");
        assert_eq!(r.json["approximate"], false);
    }
    let r = s.post("/v1/small/count", &json!({ "queries": [" the quick brown fox", "zebra"] }));
    assert_eq!(r.json["counts"], json!([3, 0]));
    let r = s.post("/v1/small/count", &json!({ "expression": "\" the quick\" AND \" lazy dog\"" }));
    assert_eq!((r.json["documents"].as_u64(), r.status), (Some(2), 200), "{}", r.text);
}

#[test]
fn finds_traces_and_opens_documents() {
    let s = Running::start(|_| {});
    let r = s.post("/v1/small/find", &json!({ "query": " the quick brown fox", "limit": 1 }));
    assert_eq!((r.json["count"].as_u64(), r.json["documents"].as_u64()), (Some(3), Some(2)));
    assert_eq!(r.json["next_offset"], 1);
    let found = &r.json["found"][0];
    let o = &found["occurrences"][0];
    assert_eq!(o["text"], " the quick brown fox");
    let path = format!("/v1/small/document?shard={}&document={}&context=20000", found["shard"], found["document"]);
    let d = s.get(&path);
    let text = d.json["text"].as_str().unwrap();
    assert_eq!(
        &text[o["start_byte"].as_u64().unwrap() as usize..o["end_byte"].as_u64().unwrap() as usize],
        " the quick brown fox"
    );
    assert_eq!(s.get(&format!("/v1/small/document?id={}", found["id"].as_str().unwrap())).json["text"], d.json["text"]);

    let text = "Nobody wrote this, but the quick brown fox jumps over the lazy dog did appear.";
    let r = s.post("/v1/small/trace", &json!({ "text": text, "min_tokens": 4 }));
    let spans = r.json["spans"].as_array().unwrap();
    let best = spans.iter().max_by_key(|s| s["right"].as_u64().unwrap() - s["left"].as_u64().unwrap()).unwrap();
    assert!(best["text"].as_str().unwrap().contains("the quick brown fox jumps over the lazy dog"), "{}", r.text);
    assert_eq!(best["documents"].as_array().unwrap().len(), 2);

    let r = s.post("/v1/small/next", &json!({ "prompt": " the quick brown", "top_k": 3 }));
    assert_eq!(r.json["tokens"][0]["token"], " fox");
    assert_eq!(r.json["tokens"][0]["probability"], 1.0);

    let r = s.post("/v1/small/neighbors", &json!({ "text": "fox" }));
    assert_eq!((r.status, r.json["type"].as_str()), (409, Some("no-embeddings")));
}

#[test]
fn nothing_found_is_an_answer() {
    let s = Running::start(|_| {});
    let r = s.post("/v1/small/find", &json!({ "query": "zebra crossing" }));
    assert_eq!(
        (r.status, r.json["count"].as_u64(), r.json["found"].as_array().map(|f| f.len())),
        (200, Some(0), Some(0))
    );
    let r = s.post("/v1/small/trace", &json!({ "text": "" }));
    assert_eq!((r.status, r.json["tokens"].as_u64()), (200, Some(0)));
}

#[test]
fn a_batch_answers_as_its_queries_do() {
    let s = Running::start(|_| {});
    let single = [
        ("count", json!({ "query": " the quick brown fox" })),
        ("find", json!({ "query": " lazy dog", "context": 5 })),
        ("next", json!({ "prompt": " the quick brown" })),
        ("trace", json!({ "text": "the quick brown fox jumps", "min_tokens": 2 })),
        ("neighbors", json!({ "text": "fox" })),
        (
            "decontaminate",
            json!({ "item": { "question": "Natalia sold clips to 48 of her friends in April, and then?" } }),
        ),
    ];
    let mut requests: Vec<Value> = single.iter().map(|(kind, body)| json!({ *kind: body })).collect();
    requests.push(json!({ "document": { "id": "rain" } }));
    let r = s.post("/v1/small/batch", &json!({ "requests": requests }));
    assert_eq!((r.status, r.json["generation"].as_u64(), r.json["index"].as_str()), (200, Some(1), Some("small")));
    let answers = r.json["answers"].as_array().unwrap();
    let (reply, lines) = s.lines("/v1/small/batch", &json!({ "requests": requests }));
    assert_eq!(
        (reply.status, reply.header("content-type"), lines.len()),
        (200, Some("application/x-ndjson"), requests.len())
    );
    for (i, (kind, body)) in single.iter().enumerate() {
        let alone = s.post(&format!("/v1/small/{kind}"), body);
        if alone.status != 200 {
            assert_eq!(answers[i]["problem"], alone.json, "{kind}");
            continue;
        }
        let mut alone = alone.json;
        for about in ["index", "generation"] {
            alone.as_object_mut().unwrap().remove(about);
        }
        assert_eq!(answers[i]["answer"], alone, "{kind}");
        assert_eq!((&lines[i]["answer"], lines[i]["request"].as_u64()), (&alone, Some(i as u64)), "{kind}");
    }
    assert_eq!(answers[6]["answer"]["text"], DOCUMENTS[2].1);
    problem(&s.post("/v1/small/batch", &json!({ "requests": [{ "guess": {} }] })), 422, "invalid-value");
    let many = json!({ "requests": vec![json!({ "count": { "query": "a" } }); 1001] });
    problem(&s.post("/v1/small/batch", &many), 422, "invalid-value");
}

#[test]
fn long_answers_come_line_by_line() {
    let s = Running::start(|set| set.limits.results = 3);
    let many: Vec<(String, String)> = (0..200)
        .map(|i| (format!("m{i:03}"), format!("Report {i}: the grey heron waits. The grey heron leaves.")))
        .collect();
    let borrowed: Vec<(&str, &str)> = many.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let dir = tempfile::tempdir().unwrap();
    build(dir.path(), "many.jsonl", &borrowed);
    let path = dir.path().to_path_buf();
    drop(s);
    let s = Running::start(move |set| {
        set.indexes.push(settings("many", &path));
        set.limits.results = 3;
    });
    problem(&s.post("/v1/many/find", &json!({ "query": " grey heron", "limit": 200 })), 422, "invalid-value");
    let (reply, lines) = s.lines("/v1/many/find", &json!({ "query": " grey heron", "per_document": 2 }));
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-ndjson")), "{}", reply.text);
    assert_eq!((lines[0]["count"].as_u64(), lines[0]["documents"].as_u64()), (Some(400), Some(200)));
    let ids: Vec<&str> = lines[1..].iter().map(|l| l["id"].as_str().unwrap()).collect();
    assert_eq!(ids, many.iter().map(|m| m.0.as_str()).collect::<Vec<_>>());
    assert!(lines[1..].iter().all(|l| l["occurrences"].as_array().unwrap().len() == 2));
    let (_, page) = s.lines("/v1/many/find", &json!({ "query": " grey heron", "offset": 190, "limit": 4 }));
    assert_eq!((page.len(), &page[1]["id"]), (5, &json!("m190")));
    // What is wrong before the first line is a problem like any other.
    let (reply, _) = s.lines("/v1/many/find", &json!({ "query": "" }));
    problem(&reply, 422, "invalid-value");
    let (reply, lines) = s.lines("/v1/many/count", &json!({ "query": " grey heron" }));
    assert_eq!((reply.status, lines.len(), lines[0]["count"].as_u64()), (200, 1, Some(400)));
}

#[test]
fn a_reader_that_stops_reading_ends_its_query() {
    use std::io::{Read, Write};
    let s = Running::start(|set| {
        set.limits.read_timeout = std::time::Duration::from_millis(300);
        set.limits.running = 1;
        set.limits.waiting = 0;
    });
    let long = "a heron stood there ".repeat(3000);
    build(s.index_path(), "long.jsonl", &(0..60).map(|_| ("long", long.as_str())).collect::<Vec<_>>());
    let dir = s.index_path().to_path_buf();
    let s = Running::start(move |set| {
        set.indexes = vec![settings("long", &dir)];
        set.limits.read_timeout = std::time::Duration::from_millis(300);
        set.limits.running = 1;
        set.limits.waiting = 0;
    });
    let body = json!({ "query": " heron stood", "per_document": 1000, "context": 2000 }).to_string();
    let mut c = std::net::TcpStream::connect(s.address).unwrap();
    write!(
        c,
        "POST /v1/long/find HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut some = [0; 100];
    c.read_exact(&mut some).unwrap();
    assert!(some.starts_with(b"HTTP/1.1 200"));
    // Its place is free again although it never reads the rest.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while s.post("/v1/long/find", &json!({ "query": " heron", "limit": 1 })).status != 200 {
        assert!(std::time::Instant::now() < deadline, "the place is still taken");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn documents_of_the_best_spans_only_and_the_others_on_request() {
    let s = Running::start(|_| {});
    let text = "the quick brown fox jumps over the lazy dog. Rain in Spain falls mainly on the plain; it does so.";
    let all = s.post("/v1/small/trace", &json!({ "text": text, "min_tokens": 3, "documents_per_span": 5 })).json;
    let some = s
        .post(
            "/v1/small/trace",
            &json!({ "text": text, "min_tokens": 3, "documents_per_span": 5, "document_spans": 1 }),
        )
        .json;
    let (all, some_spans) = (all["spans"].as_array().unwrap(), some["spans"].as_array().unwrap());
    assert!(all.len() > 1);
    let with: Vec<usize> =
        (0..some_spans.len()).filter(|&i| !some_spans[i]["documents"].as_array().unwrap().is_empty()).collect();
    let longest = (0..all.len()).max_by_key(|&i| all[i]["right"].as_u64().unwrap() - all[i]["left"].as_u64().unwrap());
    assert_eq!(with, [longest.unwrap()]);
    for (span, without) in all.iter().zip(some_spans) {
        assert_eq!(span["count"], without["count"]);
        let (left, right) = (span["left"].as_u64().unwrap() as usize, span["right"].as_u64().unwrap() as usize);
        let ids = &some["token_ids"].as_array().unwrap()[left..right];
        let found = s.post("/v1/small/find", &json!({ "ids": ids, "per_document": 1, "context": 80 })).json;
        assert_eq!(found["found"], span["documents"], "{}", span["text"]);
    }
}

#[test]
fn an_item_is_checked_against_every_document() {
    let s = Running::start(|_| {});
    let item = json!({ "id": "g1", "question": "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many?" });
    let r = s.post("/v1/small/decontaminate", &json!({ "item": item, "protocol": "all" }));
    assert_eq!(r.status, 200, "{}", r.text);
    assert_eq!((r.json["documents"].as_u64(), r.json["dirty_documents"].as_u64()), (Some(4), Some(1)));
    assert_eq!(
        (&r.json["verdicts"]["priorart"]["level"], r.json["verdicts"].as_object().unwrap().len()),
        (&json!("dirty"), 12)
    );
    let finding = &r.json["findings"][0];
    assert_eq!((&finding["document_id"], &finding["eval_instance_index"]), (&json!("sum"), &json!("g1")));
    let bytes = finding["training_bytes"].as_array().unwrap();
    let (a, b) = (bytes[0].as_u64().unwrap() as usize, bytes[1].as_u64().unwrap() as usize);
    assert_eq!(finding["training_overlap_text"], DOCUMENTS[3].1[a..b]);

    let clean = json!({ "question": "Which river did the surveyors of the northern expedition fail to cross before the ice closed in?" });
    let r = s.post("/v1/small/decontaminate", &json!({ "items": [clean, item] }));
    assert_eq!((r.json["items"].as_u64(), r.json["found"].as_u64()), (Some(2), Some(1)), "{}", r.text);
    let r = s.post("/v1/small/decontaminate", &json!({ "item": clean }));
    assert_eq!((&r.json["verdicts"]["priorart"]["level"], &r.json["findings"]), (&json!("clean"), &json!([])));
    let (_, lines) = s.lines("/v1/small/decontaminate", &json!({ "item": item }));
    assert_eq!((lines.len(), &lines[0]["document_id"], lines[1]["found"].as_u64()), (2, &json!("sum"), Some(1)));
    for bad in [
        json!({}),
        json!({ "item": {} }),
        json!({ "item": { "foo": "bar" } }),
        json!({ "item": { "question": " ?! " } }),
        json!({ "item": item, "items": [] }),
        json!({ "items": [] }),
        json!({ "item": item, "protocol": "guess" }),
        json!({ "item": item, "map": "question" }),
        json!({ "item": item, "limit": 1001 }),
        json!({ "item": { "question": "a ".repeat(60_000) } }),
    ] {
        problem(&s.post("/v1/small/decontaminate", &bad), 422, "invalid-value");
    }
}

fn problem(r: &Reply, status: u16, kind: &str) {
    assert_eq!((r.status, r.json["type"].as_str()), (status, Some(kind)), "{}", r.text);
    assert_eq!(r.header("content-type"), Some("application/problem+json"));
    assert_eq!(r.json["status"], status);
}

#[test]
fn bad_requests_are_told_what_is_wrong() {
    let s = Running::start(|_| {});
    problem(&s.post("/v1/other/count", &json!({ "query": "a" })), 404, "not-found");
    problem(&s.get("/v1/small/nowhere"), 404, "not-found");
    problem(&s.post("/v1/small/count", &json!({})), 422, "invalid-value");
    problem(&s.post("/v1/small/count", &json!({ "query": "a", "qwery": 1 })), 422, "invalid-value");
    problem(&s.post("/v1/small/count", &json!({ "ids": [50257] })), 422, "invalid-value");
    problem(&s.post("/v1/small/count", &json!({ "ids": [4294967295u32] })), 422, "invalid-value");
    problem(&s.post("/v1/small/count", &json!({ "ids": [-1] })), 422, "invalid-value");
    problem(&s.post("/v1/small/count", &json!({ "query": "a", "window": 3 })), 422, "invalid-value");
    problem(&s.post("/v1/small/count", &json!({ "expression": "(a AND" })), 422, "invalid-value");
    problem(&s.post("/v1/small/find", &json!({ "query": "a", "limit": 1_000_000 })), 422, "invalid-value");
    problem(&s.post("/v1/small/find", &json!({ "query": "" })), 422, "invalid-value");
    problem(&s.post("/v1/small/trace", &json!({ "text": "a", "density": 0 })), 422, "invalid-value");
    problem(&s.get("/v1/small/document?shard=9&document=0"), 404, "not-found");
    problem(&s.get("/v1/small/document?shard=0&document=4294967295"), 404, "not-found");
    problem(&s.get("/v1/small/document?shard=-1&document=0"), 400, "bad-request");
    problem(&s.get("/v1/small/document?id=..%2F..%2Fetc%2Fpasswd"), 404, "not-found");
    problem(&s.get("/v1/small/document?shard=0&document=0&start_byte=99999999"), 422, "invalid-value");
    problem(&s.get("/v1/..%2Fsmall"), 404, "not-found");
    let method = s.get("/v1/small/count");
    assert_eq!((method.status, method.header("allow")), (405, Some("post")));
}

#[test]
fn hostile_bodies() {
    let s = Running::start(|_| {});
    let json_type = "application/json";
    problem(&s.send("/v1/small/count", json_type, "a".repeat(10 << 20).as_bytes()), 413, "body-too-large");
    let deep = format!("{{\"query\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let r = s.send("/v1/small/count", json_type, deep.as_bytes());
    assert!(matches!(r.status, 400 | 422), "{}", r.text);
    problem(&s.send("/v1/small/count", json_type, b"{\"query\": \"\xff\xfe\"}"), 400, "bad-request");
    problem(&s.send("/v1/small/count", json_type, b"{\"query\": \"\\ud800\"}"), 400, "bad-request");
    problem(&s.send("/v1/small/count", json_type, b""), 400, "bad-request");
    problem(&s.send("/v1/small/count", json_type, b"{\"query\": \"a\"} tail"), 400, "bad-request");
    problem(&s.send("/v1/small/count", "text/plain", b"{\"query\": \"a\"}"), 415, "unsupported-media-type");
    problem(&s.post("/v1/small/count", &json!({ "query": "a".repeat(10_001) })), 422, "invalid-value");
    problem(&s.post("/v1/small/trace", &json!({ "text": "é".repeat(100_001) })), 422, "invalid-value");
    let chunked = b"POST /v1/small/count HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n";
    let mut raw = chunked.to_vec();
    for _ in 0..40 {
        raw.extend(b"10000\r\n");
        raw.extend([b' '; 0x10000]);
        raw.extend(b"\r\n");
    }
    problem(&s.raw(&raw), 413, "body-too-large");
    assert_eq!(s.raw(b"\x00\x01\x02 nonsense\r\n\r\n").status, 400);
    assert_eq!(
        s.post("/v1/small/count", &json!({ "query": " the quick brown fox" })).json["count"],
        3,
        "still answers"
    );
}

#[test]
fn a_token_guards_everything_but_health() {
    let s = Running::start(|set| set.token = Some("s3cret".into()));
    problem(&s.post("/v1/small/count", &json!({ "query": "a" })), 401, "unauthorized");
    problem(&s.get("/v1/indexes"), 401, "unauthorized");
    problem(&s.get("/metrics"), 401, "unauthorized");
    problem(&s.get("/"), 401, "unauthorized");
    assert_eq!(s.get("/healthz").status, 200);
    for (sent, status) in [
        ("Bearer s3cret", 200),
        ("Bearer s3cre", 401),
        ("Bearer s3cret2", 401),
        ("s3cret", 401),
        ("bearer s3cret", 200),
    ] {
        let raw = format!("GET /v1/indexes HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {sent}\r\n\r\n");
        assert_eq!(s.raw(raw.as_bytes()).status, status, "{sent}");
    }
}

#[test]
fn redaction_keeps_offsets_and_no_text() {
    let s = Running::start(|set| set.redact = true);
    let secret = "jumps over";
    let r = s.post("/v1/small/find", &json!({ "query": " the quick brown fox" }));
    assert_eq!(r.json["count"], 3);
    assert!(!r.text.contains(secret) && !r.text.contains("proverb"), "{}", r.text);
    assert!(r.json["found"][0]["occurrences"][0]["end_byte"].as_u64().unwrap() > 0);
    let r = s.post("/v1/small/trace", &json!({ "text": "the quick brown fox" }));
    assert!(r.json["spans"][0]["documents"][0]["id"].is_string() && !r.text.contains(secret));
    let item =
        json!({ "question": "the quick brown fox jumps over the lazy dog and left, did it not, they wrote and wrote" });
    let r = s.post("/v1/small/decontaminate", &json!({ "item": item, "protocol": "all" }));
    assert!(r.status == 200 && !r.text.contains("They wrote"), "{}", r.text);
    let (_, lines) = s.lines("/v1/small/find", &json!({ "query": " the quick brown fox" }));
    assert!(lines.len() == 3 && !lines.iter().any(|l| l.to_string().contains(secret)));
    let r = s.get("/v1/small/document?shard=0&document=0");
    assert!(r.json["text"].is_null() && !r.text.contains(secret) && r.json["text_bytes"].as_u64().unwrap() > 0);
    problem(&s.post("/v1/small/next", &json!({ "prompt": "the quick brown fox" })), 403, "redacted");
}

#[test]
fn a_new_generation_is_taken_up_while_serving() {
    let s = Running::start(|set| set.poll = std::time::Duration::from_millis(30));
    assert_eq!(s.get("/v1/small").json["generation"], 1);
    build(s.index_path(), "more.jsonl", &[("z", "a zebra crossing at last")]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while s.get("/v1/small").json["generation"] != 2 {
        assert!(std::time::Instant::now() < deadline, "generation 2 was not taken up");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let r = s.post("/v1/small/count", &json!({ "query": " zebra crossing" }));
    assert_eq!((r.json["count"].as_u64(), r.json["generation"].as_u64()), (Some(1), Some(2)));
    assert!(s.get("/metrics").text.contains("priorart_index_reloads_total{index=\"small\"} 1"));
}

#[test]
fn several_indexes_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path(), "b.jsonl", &[("b1", "only the other index knows this sentence")]);
    let path = dir.path().to_path_buf();
    let s = Running::start(move |set| set.indexes.push(settings("other", &path)));
    let names: Vec<_> =
        s.get("/v1/indexes").json["indexes"].as_array().unwrap().iter().map(|i| i["name"].clone()).collect();
    assert_eq!(names, ["small", "other"]);
    let query = json!({ "query": " other index" });
    assert_eq!(s.post("/v1/small/count", &query).json["count"], 0);
    assert_eq!(s.post("/v1/other/count", &query).json["count"], 1);
}

#[test]
fn metrics_and_description() {
    let s = Running::start(|_| {});
    s.post("/v1/small/count", &json!({ "query": "fox" }));
    let m = s.get("/metrics").text;
    assert!(
        m.contains("priorart_http_request_seconds_count{method=\"POST\",route=\"/v1/{index}/count\",status=\"200\"} 1"),
        "{m}"
    );
    assert!(m.contains("priorart_index_generation{index=\"small\"} 1"));
    s.post("/v1/small/find", &json!({ "query": " fox" }));
    let m = s.get("/metrics").text;
    let value = |name: &str| m.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<f64>().ok()).unwrap_or(-1.0);
    assert!(value("priorart_block_cache_misses_total ") >= 1.0 && value("priorart_block_cache_bytes ") > 0.0, "{m}");
    let api = s.get("/openapi.json").json;
    assert_eq!(api["openapi"], "3.1.0");
    for (path, methods) in api["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{index}", "small");
            let r = if method == "get" { s.get(&path) } else { s.send(&path, "application/json", b"{}") };
            assert!(r.status != 404 && r.status != 405, "{method} {path} is described but not there: {}", r.status);
            assert!(
                methods[method]["responses"].get(r.status.to_string()).is_some(),
                "{method} {path}: {} is not described",
                r.status
            );
        }
    }
}

/// An index with embeddings of a seeded static encoder in `dir`, as a server would be given it.
fn embedded(dir: &std::path::Path) -> IndexSource {
    fixture::model(&dir.join("model"), 40, 8);
    let encoder = StaticEncoder::open(&dir.join("model"), &Default::default()).unwrap();
    let texts: Vec<String> =
        (0..12).map(|d| (0..60).map(|i| format!("w{} ", (i * (d + 3) + d * d) % 40)).collect()).collect();
    let documents: Vec<(&str, &str)> = texts.iter().map(|t| ("text", t.as_str())).collect();
    build_with(&dir.join("ix"), "words.jsonl", &documents, Some(&encoder));
    IndexSource { encoder: Some(Arc::new(encoder)), ..settings("small", &dir.join("ix")) }
}

/// The description is true of what the server answers, as schemathesis judges it: `PRIORART_SCHEMATHESIS` names the program,
/// `PRIORART_EXAMPLES` how many bodies it makes up for each operation.
#[test]
fn answers_are_as_described() {
    let Some(program) = std::env::var_os("PRIORART_SCHEMATHESIS") else {
        println!("skipped: PRIORART_SCHEMATHESIS does not name the program schemathesis");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    // With an encoder, so that neighbours and novelty have answers, too.
    let source = embedded(dir.path());
    let s = Running::start(move |set| set.indexes = vec![source]);
    for (path, body) in [("neighbors", json!({ "text": "w1 w2" })), ("novelty", json!({ "text": "w1 w2 w3 w4 w5 w6" }))]
    {
        let r = s.post(&format!("/v1/small/{path}"), &body);
        assert_eq!(r.status, 200, "{}", r.text);
    }
    // Without this nearly every request would name an index that is not there.
    std::fs::write(dir.path().join("schemathesis.toml"), "[parameters]\n\"path.index\" = \"small\"\n").unwrap();
    let examples = std::env::var("PRIORART_EXAMPLES").unwrap_or_else(|_| "5".into());
    let out = std::process::Command::new(program)
        .current_dir(dir.path())
        .args(["run", &format!("http://{}/openapi.json", s.address), "--max-examples", &examples])
        .args(["--phases", "coverage,fuzzing", "--continue-on-failure", "--generation-database", "none"])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        .output()
        .expect("schemathesis starts");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}");
    let described = s.get("/openapi.json").json;
    let operations: usize =
        described["paths"].as_object().unwrap().values().map(|m| m.as_object().unwrap().len()).sum();
    let tested = said.lines().find_map(|l| l.trim().strip_prefix("Tested: ")?.trim().parse::<usize>().ok());
    // It leaves the description itself alone.
    assert!(tested.is_some_and(|n| n + 1 >= operations), "{said}");
}
