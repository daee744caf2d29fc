//! infini-gram's and OLMoTrace's interfaces, with the bodies their clients send.

#[path = "server/client.rs"]
#[allow(dead_code)]
mod client;
#[path = "server/infinigram.rs"]
mod infinigram;
mod sources;

use client::{DOCUMENTS, Reply, Running};
use serde_json::{Value, json};

/// A request body as infini-gram's page and its documentation's examples send it.
fn body(query_type: &str, query: &str) -> Value {
    json!({ "index": "small", "query_type": query_type, "query": query, "engine": "c++", "source": "api", "timestamp": 1700000000 })
}

fn with(mut body: Value, key: &str, value: impl Into<Value>) -> Value {
    body[key] = value.into();
    body
}

/// An answer with the three fields every answer of a query carries.
fn ok(r: &Reply) -> &Value {
    assert_eq!(r.status, 200, "{}", r.text);
    assert!(r.json.get("error").is_none(), "{}", r.text);
    assert!(
        r.json["latency"].as_f64().is_some_and(|l| l >= 0.0)
            && r.json["token_ids"].is_array()
            && r.json["tokens"].is_array(),
        "{}",
        r.text
    );
    &r.json
}

#[test]
fn counts_and_probabilities() {
    let s = Running::start(|_| {});
    assert_eq!(s.get("/").json, json!(["small"]));
    let r = s.post("/", &body("count", "the quick brown fox"));
    assert_eq!((ok(&r)["count"].as_u64(), &r.json["approx"]), (Some(3), &json!(false)));
    assert_eq!(r.json["tokens"], json!(["Ġthe", "Ġquick", "Ġbrown", "Ġfox"]));
    let ids = r.json["token_ids"].clone();
    let by_ids = json!({ "corpus": "small", "index": "nonsense", "query_type": "count", "query_ids": ids });
    assert_eq!(ok(&s.post("/", &by_ids))["count"], 3);

    // The empty query counts every position, separators included.
    let all = ok(&s.post("/", &body("count", "")))["count"].as_u64().unwrap();
    let tokens = s.get("/v1/small").json["tokens"].as_u64().unwrap();
    assert_eq!(all, tokens + DOCUMENTS.len() as u64);

    let r = s.post("/", &body("prob", "quick brown fox"));
    assert_eq!(
        (ok(&r)["prompt_cnt"].as_u64(), r.json["cont_cnt"].as_u64(), r.json["prob"].as_f64()),
        (Some(3), Some(3), Some(1.0))
    );
    let r = s.post("/", &body("prob", "no such prompt fox"));
    assert_eq!((ok(&r)["prompt_cnt"].as_u64(), r.json["prob"].as_f64()), (Some(0), Some(-1.0)));
    let r = s.post("/", &body("infgram_prob", "zebras and the quick brown fox"));
    assert_eq!(
        (ok(&r)["suffix_len"].as_u64(), r.json["longest_suffix"].as_str(), r.json["prob"].as_f64()),
        (Some(3), Some(" the quick brown"), Some(1.0))
    );
}

#[test]
fn next_tokens() {
    let s = Running::start(|_| {});
    let r = s.post("/", &with(body("ntd", "brown fox"), "max_support", 10));
    let by_id = ok(&r)["result_by_token_id"].as_object().unwrap();
    let shown: Vec<(&str, u64)> =
        by_id.values().map(|t| (t["token"].as_str().unwrap(), t["cont_cnt"].as_u64().unwrap())).collect();
    assert_eq!((shown, r.json["prompt_cnt"].as_u64()), (vec![(" jumps", 2), (".", 1)], Some(3)));
    let sum: f64 = by_id.values().map(|t| t["prob"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-9);
    // What ends a document is the vocabulary's end-of-text token.
    let r = s.post("/", &body("ntd", "in May."));
    assert_eq!(ok(&r)["result_by_token_id"]["50256"]["cont_cnt"], 1, "{}", r.text);
    let r = s.post("/", &body("infgram_ntd", "zebras the quick brown"));
    assert_eq!((ok(&r)["suffix_len"].as_u64(), r.json["longest_suffix"].as_str()), (Some(3), Some(" the quick brown")));
}

#[test]
fn finds_and_opens_documents() {
    let s = Running::start(|_| {});
    let r = s.post("/", &body("find", "the quick brown fox"));
    let segment = ok(&r)["segment_by_shard"][0].clone();
    assert_eq!((r.json["cnt"].as_u64(), segment[1].as_u64().unwrap() - segment[0].as_u64().unwrap()), (Some(3), 3));
    let mut seen = Vec::new();
    for rank in segment[0].as_u64().unwrap()..segment[1].as_u64().unwrap() {
        let r = s.post(
            "/",
            &with(with(with(body("get_doc_by_rank", "the quick brown fox"), "s", 0), "rank", rank), "max_disp_len", 10),
        );
        let d = ok(&r);
        assert_eq!((d["disp_len"].as_u64().unwrap() <= 10, d["blocked"].as_bool()), (true, Some(false)));
        let spans = d["spans"].as_array().unwrap();
        assert!(spans.contains(&json!([" the quick brown fox", "0"])), "{}", r.text);
        // Five tokens before the needle's start, if the document has them, five from it on.
        let offset = d["needle_offset"].as_u64().unwrap();
        assert!(offset <= 5 && d["disp_len"].as_u64().unwrap() <= offset + 5);
        let metadata: Value = serde_json::from_str(d["metadata"].as_str().unwrap()).unwrap();
        assert_eq!(metadata["metadata"]["kind"], "proverb");
        assert!(metadata["path"].as_str().unwrap().ends_with("a.jsonl"));
        assert_eq!(metadata["linenum"], d["doc_ix"]);
        seen.push(d["doc_ix"].as_u64().unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 0, 1]);

    let r = s.post("/", &with(body("search_docs", "the quick brown fox"), "maxnum", 4));
    let d = ok(&r);
    assert_eq!(
        (d["cnt"].as_u64(), d["documents"].as_array().unwrap().len(), d["idxs"].as_array().unwrap().len()),
        (Some(3), 4, 4)
    );
    assert!(
        d["message"].as_str().unwrap().starts_with("3 occurrences found. Displaying the documents of occurrences #[")
    );
    for d in d["documents"].as_array().unwrap() {
        let text: String = d["spans"].as_array().unwrap().iter().map(|s| s[0].as_str().unwrap()).collect();
        assert_eq!(text, DOCUMENTS[d["doc_ix"].as_u64().unwrap() as usize].1, "spans join to the original text");
    }
    let again = s.post("/", &with(body("search_docs", "the quick brown fox"), "maxnum", 4));
    assert_eq!(again.json["idxs"], r.json["idxs"], "sampling is seeded");
    let none = s.post("/", &body("search_docs", "zebra crossing"));
    assert_eq!((&ok(&none)["documents"], none.json["message"].as_str()), (&json!([]), Some("0 occurrences found")));
}

#[test]
fn boolean_queries() {
    let s = Running::start(|_| {});
    let cnf = "the quick AND lazy dog OR plain";
    let r = s.post("/", &body("count", cnf));
    // Both documents with a lazy dog; in the first, both quick foxes are near it.
    assert_eq!(ok(&r)["count"], 3, "{}", r.text);
    assert_eq!(r.json["tokens"], json!([[["Ġthe", "Ġquick"]], [["Ġlazy", "Ġdog"], ["Ġplain"]]]));
    let near = s.post("/", &with(body("count", "Natalia AND May"), "max_diff_tokens", 3));
    assert_eq!(ok(&near)["count"], 0);
    let r = s.post("/", &with(with(body("find_cnf", cnf), "max_clause_freq", 1000), "max_diff_tokens", 100));
    let ptrs = ok(&r)["ptrs_by_shard"][0].as_array().unwrap().clone();
    assert_eq!((r.json["cnt"].as_u64(), ptrs.len(), &r.json["approx"]), (Some(3), 3, &json!(false)));
    for ptr in ptrs {
        assert_eq!(ptr.as_u64().unwrap() % 2, 0, "two bytes a token");
        let r = s.post("/", &with(with(body("get_doc_by_ptr", cnf), "s", 0), "ptr", ptr));
        let labels: Vec<&Value> =
            ok(&r)["spans"].as_array().unwrap().iter().map(|s| &s[1]).filter(|l| !l.is_null()).collect();
        assert!(labels.contains(&&json!("0")) && labels.contains(&&json!("1")), "{}", r.text);
    }
    let r = s.post("/", &with(body("search_docs", cnf), "maxnum", 1));
    assert_eq!((ok(&r)["cnt"].as_u64(), r.json["documents"].as_array().unwrap().len()), (Some(3), 1));
}

#[test]
fn errors_keep_their_conventions() {
    let s = Running::start(|_| {});
    let semantic = |b: &Value| {
        let r = s.post("/", b);
        assert!(
            r.status == 200 && r.json["error"].as_str().is_some_and(|e| !e.starts_with("[Flask]")),
            "{b}: {} {}",
            r.status,
            r.text
        );
        r
    };
    semantic(&body("count", &"a".repeat(1001)));
    semantic(&body("count", "a AND b AND c AND d AND e"));
    semantic(&body("count", "a OR b OR c OR d OR e"));
    semantic(&with(body("ntd", "fox"), "max_support", 1001));
    semantic(&with(body("ntd", "fox"), "max_support", "many"));
    semantic(&with(body("search_docs", "fox"), "maxnum", 0));
    semantic(&with(with(body("get_doc_by_rank", "fox"), "s", 7), "rank", 0));
    semantic(&with(with(body("get_doc_by_rank", "fox"), "s", 0), "rank", u64::MAX));
    semantic(&with(with(body("get_doc_by_ptr", "fox"), "s", 0), "ptr", 3));
    semantic(&with(with(body("get_doc_by_ptr", "fox"), "s", 0), "ptr", 1u64 << 40));
    let r = semantic(&body("prob", ""));
    assert!(
        r.json["latency"].is_number() && r.json["token_ids"] == json!([]),
        "an error of a query carries the common fields"
    );
    for ids in [
        json!([50257]),
        json!([-1]),
        json!([65535]),
        json!([1.5]),
        json!("x"),
        json!([[1]]),
        json!({}),
        json!([u64::MAX]),
    ] {
        semantic(&json!({ "index": "small", "query_type": "count", "query_ids": ids }));
    }
    semantic(&json!({ "index": "small", "query_type": "count", "query_ids": vec![1; 501] }));
    semantic(&json!({ "index": "small", "query_type": "count", "query": 5 }));

    let mut both = body("count", "a");
    both["query_ids"] = json!([1]);
    let mut neither = body("count", "a");
    neither.as_object_mut().unwrap().remove("query");
    let mut no_type = body("count", "a");
    no_type.as_object_mut().unwrap().remove("query_type");
    for bad in [
        both,
        neither,
        no_type,
        body("guess", "a"),
        with(body("count", "a"), "index", "other"),
        with(body("count", "a"), "index", "../small"),
        with(body("count", "a"), "unknown", 1),
        json!([]),
        body("get_doc_by_rank", "fox"),
    ] {
        let r = s.post("/", &bad);
        assert!(
            r.status == 400 && r.json["error"].as_str().is_some_and(|e| e.starts_with("[Flask] ")),
            "{bad}: {} {}",
            r.status,
            r.text
        );
    }
}

#[test]
fn redaction_holds_here_too() {
    let s = Running::start(|set| set.redact = true);
    let r = s.post("/", &body("search_docs", "the quick brown fox"));
    assert_eq!((ok(&r)["cnt"].as_u64(), &r.json["documents"][0]["blocked"]), (Some(3), &json!(true)));
    assert!(!r.text.contains("jumps") && !r.text.contains("proverb"), "{}", r.text);
    assert!(s.post("/", &body("ntd", "the quick brown fox")).json["error"].is_string());
    let r = s.post("/small/attribution", &json!({ "response": "the quick brown fox", "minimumSpanLength": 2 }));
    assert!(r.status == 200 && !r.text.contains("jumps") && !r.text.contains("proverb"), "{}", r.text);
}

#[test]
fn attributes_as_olmotrace_does() {
    let s = Running::start(|_| {});
    assert_eq!((s.get("/health/").status, s.get("/indexes").json), (204, json!(["small"])));
    // The page sends fields the server ignores.
    let response = "Nobody wrote this. But the quick brown fox jumps over the lazy dog, and zebras did.";
    let r = s.post(
        "/small/attribution",
        &json!({
            "prompt": "Tell me", "response": response, "includeDocuments": true, "filterMethod": "bm25", "delimiters": ["\n", "."],
            "allowSpansWithPartialWords": false, "minimumSpanLength": 4, "maximumFrequency": 10, "maximumSpanDensity": 0.5,
            "spanRankingMethod": "length", "maximumDocumentsPerSpan": 10, "maximumContextLength": 250,
            "maximumContextLengthLong": 3, "maximumContextLengthSnippet": 1
        }),
    );
    assert_eq!(r.status, 200, "{}", r.text);
    let tokens: Vec<&str> = r.json["inputTokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    assert_eq!((tokens.concat().as_str(), r.json["index"].as_str()), (response, Some("small")));
    let span = &r.json["spans"][0];
    assert_eq!(
        (span["text"].as_str(), span["count"].as_u64(), span["length"].as_u64()),
        (Some(" the quick brown fox jumps over the lazy dog, and"), Some(1), Some(11))
    );
    let (left, right) = (span["left"].as_u64().unwrap() as usize, span["right"].as_u64().unwrap() as usize);
    assert_eq!(
        (tokens[left..right].concat().as_str(), span["tokenIds"].as_array().unwrap().len()),
        (span["text"].as_str().unwrap(), right - left)
    );
    assert!(span["unigramLogprobSum"].as_f64().unwrap() < 0.0);
    let d = &span["documents"][0];
    assert_eq!((d["documentIndex"].as_u64(), d["text"].as_str()), (Some(1), Some(DOCUMENTS[1].1)));
    assert_eq!(
        (&d["documentLength"], &d["displayLength"]),
        (&d["tokenIds"].as_array().unwrap().len().into(), &d["tokenIds"].as_array().unwrap().len().into())
    );
    assert_eq!(
        (d["textSnippet"].as_str(), d["displayOffsetSnippet"].as_u64(), d["needleOffsetSnippet"].as_u64()),
        (Some(" that the quick brown fox jumps over the lazy dog, and left"), Some(13), Some(1))
    );
    assert_eq!(
        (d["needleOffset"].as_u64(), d["needleOffsetLong"].as_u64(), d["blocked"].as_bool()),
        (Some(3), Some(3), Some(false))
    );
    assert_eq!(d["metadata"]["metadata"]["kind"], "proverb");

    let snake = s.post(
        "/small/attribution",
        &json!({ "response": response, "minimum_span_length": 4, "maximum_span_density": 0.5 }),
    );
    assert_eq!(snake.json["spans"][0]["text"], span["text"]);
    for bad in [
        json!({}),
        json!({ "response": "a", "minimumSpanLength": 0 }),
        json!({ "response": "a", "maximumSpanDensity": -1.0 }),
        json!({ "response": 1 }),
        json!({ "response": "a", "spanRankingMethod": "best" }),
    ] {
        let r = s.post("/small/attribution", &bad);
        assert_eq!((r.status, r.header("content-type")), (422, Some("application/problem+json")), "{bad}: {}", r.text);
    }
    assert_eq!(s.post("/other/attribution", &json!({ "response": "a" })).status, 404);
}
