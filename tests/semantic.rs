//! The commands that need an encoder, on a small corpus and the catalog's model: `build --encoder`, `neighbors`, `calibrate`, `novelty`.
//!
//! Skipped, and said so, where the model is not in the cache (`index-tools fetch all-minilm-l6-v2`).

mod common;

use std::fs;

use common::embedded::{MODEL, Place, TEXTS};
use serde_json::Value;

#[test]
fn neighbors_are_found_by_meaning() {
    let Some(place) = Place::new() else { return };
    let info = place.run(&["info", "--index", "ix", "--format", "json"]);
    assert_eq!(
        (&info["encoder"]["name"], &info["encoder"]["dim"], &info["chunks"]),
        (&MODEL.into(), &384.into(), &6.into())
    );
    let queries = ["an ice sheet scrapes the mountain", "baking"];
    let arguments = [&["neighbors", "--index", "ix", "-k", "2", "--format", "json"], &queries[..]].concat();
    let found = place.run(&arguments);
    for (n, (query, expected)) in queries.iter().zip(["doc-3", "doc-1"]).enumerate() {
        let row = &found["results"][n];
        assert_eq!((&row["query"], &row["neighbors"][0]["id"]), (&(*query).into(), &expected.into()));
        assert_eq!((&row["recall"], &row["approximate"]), (&1.0.into(), &false.into()));
        assert_eq!(row["neighbors"].as_array().unwrap().len(), 2);
        assert!(row["neighbors"][0].get("late_interaction").is_none());
    }
    let reranked = place.run(&[&arguments[..], &["--rerank", "6"]].concat());
    let own = place.run(&["neighbors", "--index", "ix", "--rerank", "6", "--format", "jsonl", TEXTS[4]]);
    assert!(reranked["results"][1]["neighbors"][0]["late_interaction"].as_f64().unwrap() < 0.95);
    assert!(own["neighbors"][0]["score"].as_f64().unwrap() > 0.999, "{own}");
    assert!(own["neighbors"][0]["late_interaction"].as_f64().unwrap() > 0.999, "{own}");
    let words = "the lamp at dusk";
    let aligned = place.run(&["neighbors", "--index", "ix", "-k", "1", "--align", "--format", "jsonl", words]);
    let best = &aligned["neighbors"][0];
    let partner = |of: &str| {
        let pair = |t: &&Value| {
            let bytes = t["bytes"].as_array().map(|b| [0, 1].map(|i| b[i].as_u64().unwrap() as usize));
            bytes.is_some_and(|[from, to]| &words[from..to] == of)
        };
        let token = best["alignment"].as_array().unwrap().iter().find(pair).unwrap_or_else(|| panic!("{of}: {best}"));
        let at = |i: usize| token["matched"][i].as_u64().unwrap() as usize;
        (best["text"].as_str().unwrap()[at(0)..at(1)].to_string(), token["strength"].as_f64().unwrap())
    };
    assert_eq!((partner("lamp").0.as_str(), partner("dusk").0.as_str()), ("lamp", "dusk"), "{best}");
    assert!(partner("lamp").1 > 0.5, "{best}");
    let shown = place.output(&["neighbors", "--index", "ix", "-k", "1", "--align", words]).out;
    let line = |l: &str| l.split_whitespace().collect::<Vec<_>>()[..2] == ["dusk", "dusk"];
    assert!(shown.lines().any(|l| l.split_whitespace().count() == 3 && line(l)), "{shown}");
    let stored = place.output(&["neighbors", "--index", "ix", "--align", "--document", "doc-1"]);
    assert_eq!(
        (stored.code, stored.out.as_str()),
        (Some(2), ""),
        "a document's vectors have no tokens: {}",
        stored.err
    );
    let none = place.output(&["neighbors", "--index", "ix", "--at-least", "0.99", "--check", "baking"]);
    assert_eq!(none.code, Some(0));
    assert!(none.out.contains("nothing found in generation 1 (exhaustive search: recall 1)"), "{}", none.out);
    assert_eq!(place.output(&["neighbors", "--index", "ix", "--check", "baking"]).code, Some(1));
}

#[test]
fn novelty_is_told_against_human_texts() {
    let Some(place) = Place::new() else { return };
    let human: Vec<String> = TEXTS.iter().map(|t| t.replace("the ", "this ").replace(" and ", " or ")).collect();
    place.write("human.jsonl", "human", &human.iter().map(String::as_str).collect::<Vec<_>>());
    let far =
        "Quarterly revenue of the semiconductor division exceeded every forecast because of datacentre demand in Asia.";
    place.write("texts.jsonl", "text", &[TEXTS[2], far]);
    let score = ["--windows", "15", "--probes", "2"];
    let direct =
        [&["novelty", "--index", "ix", "--human", "human.jsonl", "texts.jsonl", "--format", "json"], &score[..]]
            .concat();
    let found = place.run(&direct);
    let (copied, novel) = (&found["texts"][0], &found["texts"][1]);
    assert_eq!((&copied["id"], &novel["id"]), (&"text-0".into(), &"text-1".into()));
    let value = |text: &Value, field: &str| text["assessed"][0][field].as_f64().unwrap();
    assert!(value(copied, "s") > 0.8 && value(novel, "s") < 0.4, "{found}");
    assert!(value(copied, "r") > 1.0 && value(novel, "r") < 0.8, "{found}");
    assert_eq!(value(copied, "p"), 1.0);
    assert!((value(novel, "p") - 1.0 / 7.0).abs() < 1e-9, "below all six human texts: 1 / (6 + 1)");
    assert_eq!(copied["exact"]["longest_span"].as_u64().unwrap(), TEXTS[2].split(' ').count() as u64);
    let recall = found["recall"].as_array().unwrap();
    assert_eq!(recall.len(), 4, "a row an edit level: {found}");
    assert_eq!((&recall[0]["probes"], &recall[0]["first"]["estimate"]), (&2.into(), &1.0.into()));
    assert!(found["warnings"].as_array().unwrap().iter().any(|w| w.as_str().unwrap().contains("6 human texts")));

    // Scored once and kept, the human texts give the same assessment.
    let out =
        [&["calibrate", "--index", "ix", "--human", "human.jsonl", "--out", "c.json", "--format", "json"], &score[..2]]
            .concat();
    assert_eq!(place.run(&out)["texts"], 6);
    let kept =
        [&["novelty", "--index", "ix", "--calibration", "c.json", "texts.jsonl", "--format", "json"], &score[..]]
            .concat();
    assert_eq!(place.run(&kept)["texts"], found["texts"]);
    let lines = place.output(&[&kept[..7], &["jsonl"], &score[..]].concat());
    let kinds: Vec<Value> = lines.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(kinds.len(), 6);
    assert_eq!(&kinds[0], &found["texts"][0]);
    let lists = ["groups", "effects", "pairs", "recall"];
    assert!(lists.iter().zip(&kinds[2..]).all(|(name, kind)| kind[name].is_array()), "{kinds:?}");

    // A reference of other settings is refused.
    let other =
        place.output(&["novelty", "--index", "ix", "--calibration", "c.json", "--windows", "20", "texts.jsonl"]);
    assert_eq!((other.code, other.out.as_str()), (Some(2), ""), "{}", other.err);
    assert!(other.err.starts_with("error: "), "{}", other.err);
    fs::write(place.path().join("c.json"), "{}").unwrap();
    let broken = place.output(&kept);
    assert_eq!((broken.code, broken.out.as_str()), (Some(2), ""));
    assert!(broken.err.contains("c.json"), "{}", broken.err);
}
