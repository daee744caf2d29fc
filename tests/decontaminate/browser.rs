//! The report's page in a real browser. Needs what `tests/page.rs` needs, and says what is missing otherwise.

use std::fs;

use serde_json::{Value, json};

use crate::common::browser::Browser;
use crate::common::succeed;
use crate::{CLOCK, FERRY, corpus, filler, items, rows};

#[test]
fn the_reports_page_filters_orders_and_is_accessible() {
    let Some(browser) = Browser::find() else { return };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    items(dir);
    // Whole copies, halves and thirds, so that protocols and scores differ.
    let part =
        |of: &str, share: usize| of.split(' ').take(of.split(' ').count() * share / 6).collect::<Vec<_>>().join(" ");
    let texts = (2..=6).flat_map(|share| {
        [FERRY, CLOCK].map(|item| format!("{} {}.\n\n{}", filler(share), part(item, share), filler(9)))
    });
    corpus(&dir.join("in/x.jsonl"), &texts.collect::<Vec<_>>());
    succeed(
        dir,
        &["decontaminate", "--reference", "items.jsonl", "--corpus", "in", "--protocol", "all", "--out", "out"],
    );
    let report = rows(&fs::read_to_string(dir.join("out/report.jsonl")).unwrap());
    let names: Vec<&String> = report[0]["verdicts"].as_object().unwrap().keys().collect();
    let flagged = |name: &&&String| report.iter().any(|r| r["verdicts"][name.as_str()]["level"] != "clean");
    let found: Vec<Value> = names.iter().filter(flagged).map(|n| json!(n)).collect();
    assert!(found.len() > 3, "{found:?}");
    browser.run("report.mjs", &dir.join("out/report.html"), json!({ "found": found }));
}
