//! The page of an audit in a real browser: wide and narrow, light and dark, with its accessibility.

use serde_json::{Value, json};

use crate::common::browser::Browser;
use crate::common::embedded::TEXTS;
use crate::{audit, outputs, place, write};

#[test]
fn the_audits_page_is_legible_and_accessible() {
    let (Some(browser), Some(place)) = (Browser::find(), place()) else { return };
    // Besides copies and texts of other matters: an edited copy, a name too long for a legend, markup, and a text without spaces.
    let mut rows = outputs(24);
    let more = [
        ("edited", TEXTS[0].replace("fishing boat", "old trawler"), "parrot"),
        ("markup", format!("<b>{}</b> & more", TEXTS[1]), "a model whose name is far too long for any legend"),
        ("long", "unbroken".repeat(60), "a model whose name is far too long for any legend"),
    ];
    rows.extend(
        more.map(|(id, text, model)| -> Value { json!({"id": id, "model": model, "prompt": 99, "text": text}) }),
    );
    write(&place, "outputs.jsonl", &rows);
    place.run(&audit("report", &["--pair-by", "prompt", "--certify", "0.7"]));
    let lists = json!({ "most": "poet|long", "least": "parrot" });
    browser.run("audit.mjs", &place.path().join("report/report.html"), lists);
}
