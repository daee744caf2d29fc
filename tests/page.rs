//! The page in a real browser: the binary builds and serves an index, `tests/page/page.mjs` uses the page as a person would.
//!
//! Needs node, chromium, and a directory with playwright-core and axe-core named by PRIORART_BROWSER_MODULES; says what is missing and
//! skips otherwise, unless PRIORART_BROWSER=required. With the encoder all-minilm-l6-v2 in the cache it covers neighbours and novelty, too.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::browser::Browser;

const PRIORART: &str = env!("CARGO_BIN_EXE_priorart");

/// A child that does not outlive the test.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn priorart(arguments: &[&str], dir: &Path) -> String {
    let out = Command::new(PRIORART).args(arguments).current_dir(dir).output().unwrap();
    assert!(out.status.success(), "priorart {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn lines(path: &Path, rows: &[serde_json::Value]) {
    std::fs::write(path, rows.iter().map(|r| r.to_string() + "\n").collect::<String>()).unwrap();
}

/// Documents that the checks know, and enough prose for windows of 25 tokens.
fn corpus(dir: &Path) {
    let row = |id: &str, text: &str| serde_json::json!({ "id": id, "text": text });
    let mut rows = vec![
        row("fox", "Say the quick brown fox jumps over the lazy dog. Again: the quick brown fox."),
        row("dog", "They wrote that the quick brown fox jumps over the lazy dog, and left."),
        row(
            "sum",
            "A forum asked: Ilse bakes nine trays of twelve rolls and drops one tray on the stairs; how many rolls reach the shop window?",
        ),
        row(
            "probe",
            "Someone posted: A probe passes eleven moons, skips every third one and photographs the rest twice; how many photographs does it send home?",
        ),
    ];
    let places =
        ["the harbour", "the northern valley", "an old mill", "the market square", "the river bank", "a railway yard"];
    let doings = [
        "repaired the nets and waited for the tide",
        "counted sheep until the light was gone",
        "carried flour to the bakers",
        "sold apples and argued about the weather",
        "watched the water rise past the marks",
        "wrote letters about the new timetable",
    ];
    for (i, place) in places.iter().enumerate() {
        let text: String = (0..6)
            .map(|j| format!("In the year {} the people of {place} {}, and those who came after them remembered it for a long time. ", 1800 + 7 * i + j, doings[(i + j) % 6]))
            .collect();
        rows.push(row(&format!("chronicle-{i}"), &text));
    }
    lines(&dir.join("corpus.jsonl"), &rows);
    let human: Vec<_> = (0..24)
        .map(|i| row(&format!("h{i}"), &format!("Near {} there lived {} families who {}, although the winters were hard and nobody had ever seen a map of the country beyond the hills.", places[i % 6], i + 3, doings[(i * 5 + 1) % 6])))
        .collect();
    lines(&dir.join("human.jsonl"), &human);
    lines(
        &dir.join("reference.jsonl"),
        &[
            serde_json::json!({ "id": "bakery", "question": "Ilse bakes nine trays of twelve rolls and drops one tray on the stairs; how many rolls reach the shop window?" }),
            serde_json::json!({ "id": "moons", "question": "A probe passes eleven moons, skips every third one and photographs the rest twice; how many photographs does it send home?" }),
        ],
    );
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(browser) = Browser::find() else { return };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    corpus(dir);
    let semantic = priorart::embed::find_model("all-minilm-l6-v2").is_some();
    let mut build = vec!["build", "--index", "small", "corpus.jsonl"];
    let mut serve = vec!["serve", "small", "--port", "0", "--probes", "2"];
    if semantic {
        build.extend(["--encoder", "all-minilm-l6-v2"]);
        serve.extend(["--calibration", "human.json"]);
    } else {
        println!("without neighbours and novelty: all-minilm-l6-v2 is not in the cache");
    }
    priorart(&build, dir);
    if semantic {
        priorart(
            &["calibrate", "--index", "small", "--human", "human.jsonl", "--windows", "25", "--out", "human.json"],
            dir,
        );
    }
    let report = priorart(
        &["decontaminate", "--reference", "reference.jsonl", "--corpus", "corpus.jsonl", "--format", "jsonl"],
        dir,
    );
    std::fs::write(dir.join("report.jsonl"), report).unwrap();

    let mut child = Command::new(PRIORART).args(&serve).current_dir(dir).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let _served = Served(child);
    let (tell, told) = std::sync::mpsc::channel();
    // Read to the end, so that the server never waits for a reader.
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            if let Some((_, base)) = line.split_once(" on http://") {
                let _ = tell.send(format!("http://{base}"));
            }
        }
    });
    let base = told.recv_timeout(std::time::Duration::from_secs(60)).expect("the server tells its address");
    let report = dir.join("report.jsonl");
    let more =
        serde_json::json!({ "base": base, "report": report, "labels": dir.join("labels.jsonl"), "semantic": semantic });
    browser.run("page.mjs", &report, more);
    // The labels that the page exported are what `--labels` reads.
    let check = ["decontaminate", "--reference", "reference.jsonl", "--corpus", "corpus.jsonl", "--format", "jsonl"];
    let found = priorart(&[&check[..], &["--labels", "labels.jsonl"]].concat(), dir);
    let found: Vec<serde_json::Value> = found.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let labels = std::fs::read_to_string(dir.join("labels.jsonl")).unwrap();
    let exported: Vec<serde_json::Value> = labels.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let told = |rows: &[serde_json::Value]| {
        let mut told: Vec<String> = rows.iter().map(|r| format!("{} {}", r["document_id"], r["label"])).collect();
        told.sort_unstable();
        told
    };
    assert_eq!(told(&found), told(&exported));
    assert!(found.iter().any(|r| r["label"] == "accept") && found.iter().any(|r| r["label"] == "reject"), "{labels}");
    let summary = priorart(&[&check[..5], &["--format", "json", "--labels", "labels.jsonl"]].concat(), dir);
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!((&summary["rejected"], &summary["dirty_documents"]), (&1.into(), &1.into()), "{summary}");
}
