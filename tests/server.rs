//! The server over real sockets: the native API, limits, hostile input, reload, the token and redaction.

#[path = "server/client.rs"]
mod client;

use client::{Reply, Running, build, settings};
use serde_json::json;

#[test]
fn counts_equal_a_scan() {
    let s = Running::start(|_| {});
    for (query, count) in [("the quick brown fox", 3), (" lazy dog", 2), ("zebra crossing", 0)] {
        let r = s.post("/v1/small/count", &json!({ "query": query }));
        assert_eq!((r.status, r.json["count"].as_u64()), (200, Some(count)), "{query}: {}", r.text);
        assert_eq!(r.json["index"], "small");
        assert_eq!(r.json["approximate"], false);
    }
    let r = s.post("/v1/small/count", &json!({ "queries": ["the quick brown fox", "zebra"] }));
    assert_eq!(r.json["counts"], json!([3, 0]));
    let r = s.post("/v1/small/count", &json!({ "expression": "\"the quick\" AND \" lazy dog\"" }));
    assert_eq!((r.json["documents"].as_u64(), r.status), (Some(2), 200), "{}", r.text);
}

#[test]
fn finds_traces_and_opens_documents() {
    let s = Running::start(|_| {});
    let r = s.post("/v1/small/find", &json!({ "query": "the quick brown fox", "limit": 1 }));
    assert_eq!((r.json["count"].as_u64(), r.json["documents"].as_u64()), (Some(3), Some(2)));
    assert_eq!(r.json["next_offset"], 1);
    let found = &r.json["found"][0];
    let o = &found["occurrences"][0];
    assert_eq!(o["text"], "the quick brown fox");
    let path = format!("/v1/small/document?shard={}&document={}&context=20000", found["shard"], found["document"]);
    let d = s.get(&path);
    let text = d.json["text"].as_str().unwrap();
    assert_eq!(
        &text[o["start_byte"].as_u64().unwrap() as usize..o["end_byte"].as_u64().unwrap() as usize],
        "the quick brown fox"
    );
    assert_eq!(s.get(&format!("/v1/small/document?id={}", found["id"].as_str().unwrap())).json["text"], d.json["text"]);

    let text = "Nobody wrote this, but the quick brown fox jumps over the lazy dog did appear.";
    let r = s.post("/v1/small/trace", &json!({ "text": text, "min_tokens": 4 }));
    let spans = r.json["spans"].as_array().unwrap();
    let best = spans.iter().max_by_key(|s| s["right"].as_u64().unwrap() - s["left"].as_u64().unwrap()).unwrap();
    assert!(best["text"].as_str().unwrap().contains("the quick brown fox jumps over the lazy dog"), "{}", r.text);
    assert_eq!(best["documents"].as_array().unwrap().len(), 2);

    let r = s.post("/v1/small/next", &json!({ "prompt": "the quick brown", "top_k": 3 }));
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
    assert_eq!((method.status, method.header("allow")), (405, Some("POST")));
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
    assert_eq!(s.post("/v1/small/count", &json!({ "query": "the quick brown fox" })).json["count"], 3, "still answers");
}

#[test]
fn slow_clients_are_dropped_and_others_are_served() {
    use std::io::{Read, Write};
    let s = Running::start(|set| set.limits.read_timeout = std::time::Duration::from_millis(300));
    let mut slow: Vec<_> = (0..50).map(|_| std::net::TcpStream::connect(s.address).unwrap()).collect();
    for c in &mut slow {
        c.write_all(b"GET / HT").unwrap();
    }
    assert_eq!(s.get("/healthz").status, 200);
    for c in &mut slow {
        c.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let mut rest = Vec::new();
        // Closed by the server, with or without a word.
        assert!(c.read_to_end(&mut rest).is_ok() || !rest.is_empty());
    }
    let head =
        b"POST /v1/small/count HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{";
    problem(&s.raw(head), 408, "request-timeout");
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
    let r = s.post("/v1/small/find", &json!({ "query": "the quick brown fox" }));
    assert_eq!(r.json["count"], 3);
    assert!(!r.text.contains(secret) && !r.text.contains("proverb"), "{}", r.text);
    assert!(r.json["found"][0]["occurrences"][0]["end_byte"].as_u64().unwrap() > 0);
    let r = s.post("/v1/small/trace", &json!({ "text": "the quick brown fox" }));
    assert!(r.json["spans"][0]["documents"][0]["id"].is_string() && !r.text.contains(secret));
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

#[test]
fn draining_finishes_what_runs() {
    use std::io::{Read, Write};
    let s = Running::start(|_| {});
    let body = br#"{"query": "the quick brown fox"}"#;
    let mut c = std::net::TcpStream::connect(s.address).unwrap();
    // A request whose body is half there when the server is told to stop.
    write!(
        c,
        "POST /v1/small/count HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    c.write_all(&body[..5]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    let address = s.address;
    let stopped = s.stop();
    std::thread::sleep(std::time::Duration::from_millis(100));
    c.write_all(&body[5..]).unwrap();
    let mut answer = String::new();
    c.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"count\":3"), "{answer}");
    stopped.join().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
}
