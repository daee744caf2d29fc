//! Running a server: connections by the thousand, slow clients, the access log, draining, and what a removal hides.

use priorart::index::Snapshot;
use priorart::index::remove::remove;
use serde_json::{Value, json};

use super::client::{DOCUMENTS, Reply, Running, build, settings};
use super::problem;

#[test]
fn connections_beyond_the_limit_are_refused_with_a_word() {
    use std::io::{Read, Write};
    let s = Running::start(|set| set.limits.connections = 8);
    let mut idle: Vec<_> = (0..8).map(|_| std::net::TcpStream::connect(s.address).unwrap()).collect();
    // All of them are known to be accepted once the last has an answer.
    for c in &mut idle {
        c.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        c.read_exact(&mut [0; 15]).unwrap();
    }
    let r = s.get("/healthz");
    assert_eq!(
        (r.status, r.header("retry-after"), r.header("content-type")),
        (503, Some("1"), Some("application/problem+json"))
    );
    drop(idle.pop());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while s.get("/healthz").status != 200 {
        assert!(std::time::Instant::now() < deadline, "the place stays taken");
    }
    drop(idle);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !s.get("/metrics").text.contains("priorart_connections_refused_total") {
        assert!(std::time::Instant::now() < deadline);
    }
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
fn draining_finishes_what_runs() {
    use std::io::{Read, Write};
    let s = Running::start(|_| {});
    let body = br#"{"query": " the quick brown fox"}"#;
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

/// Long form: idle and slow connections by the thousand, with `PRIORART_CONNECTIONS=10000` and a limit of open files above twice that.
#[test]
#[ignore = "needs thousands of file descriptors: see CONTRIBUTING.md"]
fn thousands_of_connections_leave_the_server_answering() {
    use std::io::{Read, Write};
    let wanted: usize = std::env::var("PRIORART_CONNECTIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let s = Running::start(|set| {
        set.limits.connections = 4096;
        set.limits.read_timeout = std::time::Duration::from_secs(60);
    });
    let begin = std::time::Instant::now();
    let (mut open, mut refused, mut failed) = (Vec::new(), 0, 0);
    for _ in 0..wanted {
        match std::net::TcpStream::connect_timeout(&s.address, std::time::Duration::from_secs(5)) {
            Ok(mut c) => {
                let _ = c.write_all(b"GET / HT");
                open.push(c);
            }
            Err(_) => failed += 1,
        }
    }
    // Those beyond the limit were told so, or closed at once; those within wait for their head.
    for c in &mut open {
        c.set_read_timeout(Some(std::time::Duration::from_millis(1))).unwrap();
        let mut answer = [0; 12];
        refused += usize::from(c.read_exact(&mut answer).is_ok() && &answer == b"HTTP/1.1 503");
    }
    println!("{} connections in {:?}: {refused} refused with 503, {failed} not accepted", open.len(), begin.elapsed());
    assert_eq!(open.len() + failed, wanted);
    assert!(failed * 100 <= wanted, "{failed} connections were not accepted");
    assert!(wanted <= 4096 || refused > 0, "none was refused");
    drop(open);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while s.post("/v1/small/count", &json!({ "query": " the quick brown fox" })).json["count"] != 3 {
        assert!(std::time::Instant::now() < deadline, "the server does not answer any more");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// The program itself: `-v` writes a line a request, with neither queries nor tokens, and SIGTERM ends it with 0.
#[cfg(unix)]
#[test]
fn the_access_log_has_a_line_a_request() {
    use std::io::{BufRead, BufReader, Read, Write};
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join("ix");
    build(&index, "a.jsonl", &DOCUMENTS);
    let token = dir.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_priorart"))
        .current_dir(dir.path())
        .args(["-v", "serve", "--index", index.to_str().unwrap(), "--port", "0"])
        .args(["--token-file", token.to_str().unwrap()])
        .env_remove("PRIORART_LOG")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    let address = loop {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the server ended");
        if let Some((_, address)) = line.trim().split_once(" on http://") {
            break address.to_string();
        }
    };
    let send = |request: &str, body: &str| {
        let mut c = std::net::TcpStream::connect(&address).unwrap();
        write!(
            c,
            "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer s3cret\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        c.read_to_string(&mut String::new()).unwrap();
    };
    send("POST /v1/small/count", r#"{"query": "nobody's business"}"#);
    send("POST /v1/ix/count", r#"{"query": "nobody's business"}"#);
    send("GET /v1/ix/document?id=private%0Aforged", "");
    send("GET /a%0Aforged%1b[31m", "");
    assert!(std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let access: Vec<&str> =
        rest.lines().filter_map(|l| l.split_once("INFO ").map(|(_, l)| l)).filter(|l| l.ends_with(" ms")).collect();
    let expected = [
        r#"POST "/v1/small/count" 404 "#,
        r#"POST "/v1/ix/count" 200 "#,
        r#"GET "/v1/ix/document" 404 "#,
        r#"GET "/a%0Aforged%1b[31m" 404 "#,
    ];
    assert_eq!(access.len(), expected.len(), "{rest}");
    for (line, expected) in access.iter().zip(expected) {
        let taken = line.strip_prefix(expected).and_then(|l| l.strip_suffix(" ms")).map(str::parse::<f64>);
        assert!(matches!(taken, Some(Ok(ms)) if ms >= 0.0), "{line}");
    }
    assert!(!rest.contains("business") && !rest.contains("s3cret") && !rest.contains("private"), "{rest}");
}

/// After a removal no route finds, counts, shows or opens the document, in any of the three interfaces.
#[test]
fn a_removed_document_is_gone_from_every_route() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ix");
    build(&path, "a.jsonl", &DOCUMENTS);
    let source = settings("small", &path);
    let s = Running::start(move |set| set.indexes = vec![source]);
    let secret = "Castile";
    let asked = |s: &Running| -> Vec<(String, Reply)> {
        let mut out = Vec::new();
        for (kind, body) in [
            ("count", json!({ "queries": [" in Spain falls", " on the plain; it", " in the plain of"] })),
            ("count", json!({ "expression": "\" in Spain\" AND \" the plain\"" })),
            ("find", json!({ "query": " in Spain falls" })),
            ("find", json!({ "expression": "\" Spain\" OR \" plain\"" })),
            ("next", json!({ "prompt": " in the plain of" })),
            ("trace", json!({ "text": "Rain in Spain falls mainly on the plain", "min_tokens": 2 })),
            (
                "decontaminate",
                json!({ "item": { "question": "Rain in Spain falls mainly on the plain; it does so in the plain of what?" } }),
            ),
        ] {
            out.push((kind.to_string(), s.post(&format!("/v1/small/{kind}"), &body)));
        }
        for kind in ["count", "find", "ntd", "infgram_ntd", "search_docs"] {
            let body = json!({ "index": "small", "query_type": kind, "query": "in the plain of" });
            out.push((format!("infini-gram {kind}"), s.post("/", &body)));
        }
        let cnf =
            json!({ "index": "small", "query_type": "search_docs", "query": "in Spain AND the plain", "maxnum": 5 });
        out.push(("infini-gram AND".into(), s.post("/", &cnf)));
        for rank in 0..80 {
            let body =
                json!({ "index": "small", "query_type": "get_doc_by_rank", "query_ids": [], "s": 0, "rank": rank });
            out.push((format!("rank {rank}"), s.post("/", &body)));
        }
        let body = json!({ "response": "Rain in Spain falls mainly on the plain", "minimumSpanLength": 2, "maximumSpanDensity": 1.0 });
        out.push(("OLMoTrace".into(), s.post("/small/attribution", &body)));
        out.push(("by id".into(), s.get("/v1/small/document?id=rain")));
        out.push(("by number".into(), s.get("/v1/small/document?shard=0&document=2")));
        out
    };
    let shown = |answers: &[(String, Reply)]| answers.iter().filter(|(_, r)| r.text.contains(secret)).count();
    let before = asked(&s);
    assert!(shown(&before) > 8, "the document is shown by {} answers", shown(&before));
    s.stop().join().unwrap();
    let snapshot = Snapshot::open(&path).unwrap();
    let documents = snapshot.find_id("rain").unwrap().into_iter().collect();
    remove(&snapshot, &documents).unwrap();
    let s = Running::start(move |set| set.indexes = vec![settings("small", &path)]);
    for (what, r) in asked(&s) {
        assert!(r.status < 500 && !r.text.contains(secret), "{what}: {} {}", r.status, r.text);
        for field in ["count", "cnt", "documents", "dirty_documents", "prompt_cnt"] {
            let none = matches!(&r.json[field], Value::Null | Value::Array(_)) || r.json[field] == 0;
            // Documents that were read, and the suffix that other documents have.
            let others = matches!(
                (what.as_str(), field),
                ("decontaminate", "documents") | ("infini-gram infgram_ntd", "prompt_cnt")
            );
            assert!(none || others, "{what}: {field} {}", r.json[field]);
        }
        assert!(r.json["counts"].as_array().is_none_or(|c| c.iter().all(|n| n == 0)), "{what}: {}", r.text);
        if what.starts_with("by ") {
            problem(&r, 404, "not-found");
        }
    }
}
