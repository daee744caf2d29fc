//! The report's page in a real browser. Needs what `tests/page.rs` needs, and says what is missing otherwise.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::succeed;
use crate::{CLOCK, FERRY, corpus, filler, items, rows};

fn program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).flat_map(|d| names.iter().map(move |n| d.join(n))).find(|p| p.is_file())
}

#[test]
fn the_reports_page_filters_orders_and_is_accessible() {
    let found = (
        program(&["node"]),
        program(&["chromium", "chromium-browser", "google-chrome"]),
        std::env::var_os("PRIORART_BROWSER_MODULES"),
    );
    let (Some(node), Some(chromium), Some(modules)) = found else {
        assert!(
            std::env::var("PRIORART_BROWSER").as_deref() != Ok("required"),
            "node, chromium or the modules are missing"
        );
        println!("skipped: needs node, chromium and PRIORART_BROWSER_MODULES");
        return;
    };
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
    let page = fs::canonicalize(dir.join("out/report.html")).unwrap();
    let settings = json!({ "page": page, "chromium": chromium, "modules": modules.to_str(), "found": found });
    fs::write(dir.join("settings.json"), settings.to_string()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/report.mjs");
    let out = Command::new(node).arg(script).arg(dir.join("settings.json")).output().unwrap();
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
}
