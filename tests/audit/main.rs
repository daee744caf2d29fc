//! `audit` as a user runs it, and what `calibrate`, `novelty` and `audit` say of bad input. On a small corpus and the catalog's model.

mod browser;
#[path = "../common/mod.rs"]
mod common;
mod input;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::embedded::{Place, TEXTS};
use serde_json::{Value, json};

/// Texts of two models on the same prompts: copies of the corpus, edited copies, and texts of other matters.
fn outputs(n: usize) -> Vec<Value> {
    let other = [
        "Quarterly revenue of the semiconductor division exceeded every forecast because of datacentre demand in Asia.",
        "The referee consulted the video and awarded a penalty in the last minute, which the captain sent over the bar.",
        "Version four of the compiler inlines small functions across modules and reports unused results by default.",
    ];
    (0..n)
        .map(|i| {
            let (model, prompt) = (["parrot", "poet"][i % 2], i / 2);
            let text = match model {
                "parrot" => TEXTS[prompt % 6].to_string(),
                _ => format!("{} Number {prompt}.", other[prompt % 3]),
            };
            json!({"id": format!("{model}-{prompt}"), "model": model, "prompt": prompt, "text": text})
        })
        .collect()
}

fn write(place: &Place, name: &str, rows: &[Value]) {
    fs::write(place.path().join(name), rows.iter().map(|r| format!("{r}\n")).collect::<String>()).unwrap();
}

/// An index of the small corpus and `human.jsonl` beside it; `None` without a model.
fn place() -> Option<Place> {
    let place = Place::new()?;
    let rows: Vec<Value> = TEXTS
        .iter()
        .flat_map(|t| t.split(['.', ';', ',']))
        .filter(|t| t.split_whitespace().count() >= 6)
        .enumerate()
        .map(|(i, t)| json!({"id": format!("h{i}"), "domain": (["a", "b"][i % 2]), "text": format!("It is said that {t} and that nobody minds")}))
        .collect();
    write(&place, "human.jsonl", &rows);
    Some(place)
}

const SCORE: [&str; 8] = ["--windows", "8,15", "--probes", "2", "--candidates", "6", "--rerank", "4"];

fn audit<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let base =
        ["audit", "--index", "ix", "--human", "human.jsonl", "--group-by", "model", "--out", out, "--format", "json"];
    [&base[..], &["outputs.jsonl"], &SCORE, more].concat()
}

#[test]
fn an_audit_tells_groups_apart_and_can_be_made_again() {
    let Some(place) = place() else { return };
    write(&place, "outputs.jsonl", &outputs(24));
    let found = place.run(&audit("report", &["--pair-by", "prompt", "--certify", "0.7"]));
    assert_eq!((&found["texts"], &found["resumed"]), (&24.into(), &0.into()));
    let group = |name: &str, length: u64| {
        let groups = found["groups"].as_array().unwrap();
        groups.iter().find(|g| g["name"] == name && g["length"] == length).unwrap_or_else(|| panic!("{found}")).clone()
    };
    for length in [8, 15] {
        let (parrot, poet) = (group("parrot", length), group("poet", length));
        let r = |g: &Value, k: &str| g["median_r"][k].as_f64().unwrap();
        assert!(r(&parrot, "low") > r(&poet, "high"), "{parrot} {poet}");
        assert!(parrot["longest_span"].as_f64().unwrap() > 15.0 && poet["longest_span"].as_f64().unwrap() < 4.0);
        // No sentence of the corpus is near the poet's; the parrot's are the corpus.
        assert_eq!(poet["certified"], 12);
        assert!(parrot["attributable_corrected"]["verbatim"]["estimate"].as_f64().unwrap() > 0.9, "{parrot}");
    }
    assert_eq!(group("parrot", 15)["certified"], 0);
    let pairs = found["pairs"].as_array().unwrap();
    assert!(pairs.iter().all(|p| p["paired"] == true && p["n"] == 12 && p["p"].as_f64().unwrap() < 0.01), "{pairs:?}");
    assert_eq!(found["certified"]["windows"].as_u64(), found["certified"]["pairs"].as_u64().map(|p| p / 6));
    let recall = found["recall"].as_array().unwrap();
    assert_eq!(recall.len(), 8, "two lengths, four edit levels");
    assert_eq!(recall[0]["first"]["estimate"], 1.0);

    let out = place.path().join("report");
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    for part in [
        "Recall of the search",
        "median r by window length",
        "r at 15 tokens",
        "p-values at 8 tokens",
        "n-gram novelty",
        "class=\"e3\"",
        "Certified novelty",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<script") && !page.contains("://"), "the page fetches nothing");
    let csv = fs::read_to_string(out.join("groups.csv")).unwrap();
    let widths: Vec<usize> = csv.lines().map(|l| l.split(',').count()).collect();
    assert!(csv.lines().count() == 5 && widths.iter().all(|w| *w == widths[0]), "{csv}");
    let rows = table(&out.join("texts.parquet"));
    assert_eq!(rows.len(), 24);
    assert!(rows[0].contains("parrot-0") && rows[0].contains("nearest_id: \"doc-0\""), "{}", rows[0]);
    // The human texts are the corpus's own clauses, reworded at both ends; the poet's have no 3-gram in it.
    assert!(rows[0].contains("p_absent: 1") && rows[1].contains("p_absent: 0."), "{} {}", rows[0], rows[1]);
    assert!(rows[1].contains("certified_8: true") && rows[1].contains("ledger_exact: 0"), "{}", rows[1]);

    // From its settings alone, the audit gives the same figures.
    let again = ["audit", "--settings", "report/settings.json", "--out", "again", "--format", "json"];
    assert_eq!(place.run(&again)["groups"], found["groups"]);
    assert_eq!(fs::read(place.path().join("again/groups.csv")).unwrap(), csv.as_bytes());
    // Not from other texts.
    write(&place, "outputs.jsonl", &outputs(22));
    let changed = place.output(&["audit", "--settings", "report/settings.json", "--out", "third"]);
    assert_eq!(changed.code, Some(2));
    assert!(changed.err.contains("outputs.jsonl is not what it was"), "{}", changed.err);
    let mixed = place.output(&audit("report", &["--pair-by", "prompt", "--certify", "0.7"]));
    assert_eq!(mixed.code, Some(2));
    assert!(mixed.err.contains("it holds another audit") && mixed.err.contains("hint:"), "{}", mixed.err);
}

fn table(path: &Path) -> Vec<String> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let reader = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
    reader.get_row_iter(None).unwrap().map(|r| r.unwrap().to_string()).collect()
}

#[test]
fn a_killed_audit_goes_on_where_it_was() {
    let Some(place) = place() else { return };
    write(&place, "outputs.jsonl", &outputs(140));
    let whole = place.run(&audit("whole", &[]));
    let scores = place.path().join("killed/scores.jsonl");
    let mut child = common::command(place.path(), &audit("killed", &[]))
        .env("PRIORART_CACHE", &place.cache)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while fs::metadata(&scores).map_or(0, |m| m.len()) == 0 && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // And a line that was being written.
    let mut torn = fs::read(&scores).unwrap();
    assert!(!torn.is_empty());
    torn.extend_from_slice(b"{\"id\":\"parrot-9");
    fs::write(&scores, torn).unwrap();
    let resumed = place.run(&audit("killed", &[]));
    assert!(resumed["resumed"].as_u64().unwrap() >= 64, "{}", resumed["resumed"]);
    assert_eq!(resumed["groups"], whole["groups"]);
    let parquet = |name: &str| fs::read(place.path().join(name).join("texts.parquet")).unwrap();
    assert!(parquet("killed") == parquet("whole"), "the same table, whether killed or not");
}

#[test]
fn a_second_run_encodes_nothing_again() {
    let Some(place) = place() else { return };
    write(&place, "outputs.jsonl", &outputs(8));
    let first = place.run(&audit("one", &[]));
    let second = place.run(&audit("two", &[]));
    assert!(first["chunks_encoded"].as_u64().unwrap() > 0, "{first}");
    assert_eq!((&second["chunks_encoded"], &second["groups"]), (&0.into(), &first["groups"]));
    let cache = fs::read_dir(place.path().join("ix/token-cache")).unwrap().next().unwrap().unwrap().path();
    assert!(fs::metadata(cache.join("states.bin")).unwrap().len() > 0);
    // Without the cache the figures are nearly the same, and a calibration made with it is refused.
    let plain = place.run(&audit("three", &["--token-cache", "none"]));
    let s = |v: &Value| v["groups"][0]["median_s"]["estimate"].as_f64().unwrap();
    assert!((s(&plain) - s(&first)).abs() < 0.01, "{} {}", s(&plain), s(&first));
    let mixed =
        ["novelty", "--index", "ix", "--calibration", "one/calibration.json", "--token-cache", "none", "outputs.jsonl"];
    let mixed = place.output(&[&mixed[..], &SCORE].concat());
    assert!(mixed.code == Some(2) && mixed.err.contains("token states kept as"), "{}", mixed.err);
}

#[test]
fn states_kept_by_the_build_are_those_an_audit_would_make() {
    let Some(place) = place() else { return };
    write(&place, "outputs.jsonl", &outputs(8));
    // Long words, so that chunks of seven tokens begin and end inside them.
    place.write("long.jsonl", "long", &["Electroencephalographically speaking, antidisestablishmentarianism is otorhinolaryngological pneumonoultramicroscopy."]);
    let paths = ["corpus.jsonl", "long.jsonl"];
    let build =
        ["build", "--index", "ix", "--encoder", common::embedded::MODEL, "--chunk-tokens", "7", "--format", "json"];
    fs::remove_dir_all(place.path().join("ix")).unwrap();
    place.run(&[&build[..], &["--token-states", "4"], &paths].concat());
    let kept = place.run(&audit("kept", &[]));
    assert_eq!(kept["chunks_encoded"], 0);
    // Without the states, but with the codec they were kept in, the audit makes them itself.
    let cache = fs::read_dir(place.path().join("ix/token-cache")).unwrap().next().unwrap().unwrap().path();
    let size = fs::metadata(cache.join("states.bin")).unwrap().len();
    fs::write(cache.join("states.idx"), "").unwrap();
    let made = place.run(&audit("made", &[]));
    assert!(made["chunks_encoded"].as_u64().unwrap() > 20, "{made}");
    assert_eq!(fs::metadata(cache.join("states.bin")).unwrap().len(), size);
    assert_eq!(made["groups"], kept["groups"]);
    let table = |name: &str| fs::read(place.path().join(name).join("texts.parquet")).unwrap();
    assert!(table("kept") == table("made"));
    // Added documents are kept as well, in the codec that is there; another index has the same names for the same chunks.
    place.write(
        "more.jsonl",
        "more",
        &["The lighthouse keeper counted ninety-nine cormorants between the pier and the reef."],
    );
    place.run(&["add", "--index", "ix", "--token-states", "4", "--format", "json", "more.jsonl"]);
    assert_eq!(place.run(&audit("more", &[]))["chunks_encoded"], 0);
    fs::rename(place.path().join("ix/token-cache"), place.path().join("cache")).unwrap();
    fs::remove_dir_all(place.path().join("ix")).unwrap();
    place.run(&[&build[..], &paths].concat());
    let cache = place.path().join("cache").join(cache.file_name().unwrap());
    let elsewhere = place.run(&audit("elsewhere", &["--token-cache", &cache.display().to_string()]));
    assert_eq!((&elsewhere["chunks_encoded"], &elsewhere["groups"]), (&0.into(), &kept["groups"]));

    let refused = |arguments: &[&str], what: &str| {
        let run = place.output(arguments);
        assert!(run.code == Some(2) && run.err.contains(what), "{}", run.err);
    };
    refused(&["build", "--index", "no", "--token-states", "4", "corpus.jsonl"], "no encoder makes any");
    refused(
        &[&build[..2], &["no"], &build[3..], &["--token-states", "4", "--chunk-unit", "index", "corpus.jsonl"]]
            .concat(),
        "chunks of encoder tokens only",
    );
    assert!(!place.path().join("no").exists());
}
