//! `gpt3` and `datatrove` against what lm-eval's janitor and datatrove themselves say of the same hand-written texts
//! (`tests/golden/make_decontamination.py` made the file by running them).

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use priorart::decontaminate::{Detector, Finding, Gpt3, Level, Parameters, Protocol, Settings};
use priorart::reference::{EvalItem, Origin, ReferenceIndex, ReferenceSet};
use serde_json::Value;

use crate::read;

fn golden() -> Value {
    read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decontamination.json"))
}

fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of[field].as_str().unwrap()
}

/// A detector for one protocol over the golden's items, and their ids.
fn detector(golden: &Value, protocol: Protocol, set: &[&str]) -> (Detector, Vec<String>) {
    let item = |row: &Value| EvalItem {
        origins: vec![Origin { benchmark: "golden".into(), id: text(row, "id").into(), ..Origin::default() }],
        question: Some(text(row, "question").into()),
        answer: Some(text(row, "answer").into()),
        ..EvalItem::default()
    };
    let rows = golden["items"].as_array().unwrap();
    let items: Vec<EvalItem> = rows.iter().map(item).collect();
    let index = ReferenceIndex::build(&ReferenceSet { rows: items.len() as u64, items }).unwrap();
    let mut parameters = Parameters::default();
    set.iter().for_each(|s| parameters.set(s).unwrap());
    let settings = Settings { protocols: vec![protocol], parameters, keep_clean: false };
    (Detector::new(Arc::new(index), settings).unwrap(), rows.iter().map(|r| text(r, "id").to_string()).collect())
}

/// Calls `check(name, says of the item, finding)` for each of the golden's documents and items.
fn each_pair(protocol: Protocol, set: &[&str], check: impl Fn(&str, &str, &Value, Option<&Finding>)) {
    let golden = golden();
    let (detector, ids) = detector(&golden, protocol, set);
    for document in golden["documents"].as_array().unwrap() {
        let findings = detector.text(text(document, "text")).unwrap();
        for (number, id) in ids.iter().enumerate() {
            let finding = findings.iter().find(|f| f.item == number as u32);
            let name = format!("{id} in {}", text(document, "name"));
            check(&name, text(document, "text"), &document["items"][id], finding);
        }
    }
}

fn is_dirty(finding: Option<&Finding>, protocol: Protocol) -> bool {
    finding.and_then(|f| f.verdict(protocol)).is_some_and(|v| v.level == Level::Dirty)
}

#[test]
fn datatrove_agrees_on_every_pair() {
    let p = Protocol::Datatrove;
    each_pair(p, &[], |name, _, says, found| assert_eq!(is_dirty(found, p), says["datatrove"], "{name}"));
    let with_question = ["datatrove.question=true"];
    each_pair(p, &with_question, |name, _, says, found| {
        assert_eq!(is_dirty(found, p), says["datatrove_query"], "{name}")
    });
}

#[test]
fn janitor_agrees_on_every_hit_and_every_piece_it_keeps() {
    let p = Protocol::Gpt3;
    each_pair(p, &[], |name, text, says, found| {
        let number = |v: &Value| v.as_u64().unwrap() as usize;
        let hits: Vec<Range<usize>> =
            says["gpt3_hits"].as_array().unwrap().iter().map(|h| number(&h[0])..number(&h[1]) + 1).collect();
        assert_eq!(is_dirty(found, p), !hits.is_empty(), "{name}");
        let characters = |byte: usize| text[..byte].chars().count();
        let ours: Vec<Range<usize>> = found
            .iter()
            .flat_map(|f| &f.evidence.primitives.bare)
            .map(|b| characters(b.start)..characters(b.end))
            .collect();
        assert_eq!(ours, hits, "{name}");
        let kept = Gpt3::default().cut(text.chars().count(), &ours).unwrap_or_default();
        let pieces: Vec<usize> = kept.iter().map(Range::len).collect();
        let theirs: Vec<usize> = says["gpt3_pieces"].as_array().unwrap().iter().map(number).collect();
        assert_eq!(pieces, theirs, "{name}");
    });
}
