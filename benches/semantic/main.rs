//! Fits the rules of the semantic and code columns to labelled pairs, and says how well their confidence is calibrated.
//!
//! ```text
//! PRIORART_DATA=… cargo bench --bench semantic [-- --dump FILE]
//! ```
//!
//! Prints the coefficients that `src/decontaminate/semantic/rule.rs` commits (see there which were fitted before the second look was), reliability on the half of the labelled data that was
//! not fitted, and the share of pairs the first stage finds. `--dump` writes every pair with its measures as JSON lines,
//! those of the planted corpus too (marked, and never fitted). Needs the encoder (`index-tools fetch all-minilm-l6-v2`).

mod fit;
mod samples;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use priorart::decontaminate::semantic::Semantic;
use priorart::embed::{self, OpenOptions};
use priorart::reference::ReferenceIndex;

use samples::{Document, Label};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// A measured pair and whether the window says what the item says.
pub struct Row {
    pub set: String,
    pub column: &'static str,
    pub leak: bool,
    /// Whether the rules are fitted to it (the other half says how good they are).
    pub fitted: bool,
    pub features: Vec<f32>,
}

fn main() -> Outcome<()> {
    let Some(data) = std::env::var_os("PRIORART_DATA").map(PathBuf::from) else {
        println!("skipped: PRIORART_DATA is not set");
        return Ok(());
    };
    let Some(model) = embed::find_model("all-minilm-l6-v2") else {
        println!("skipped: the encoder is not there; `index-tools fetch all-minilm-l6-v2` gets it");
        return Ok(());
    };
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let dump = arguments.iter().position(|a| a == "--dump").and_then(|at| arguments.get(at + 1));
    let mut out = dump.map(std::fs::File::create).transpose()?.map(std::io::BufWriter::new);

    let (set, documents) = samples::labelled(&data)?;
    let semantic = open(&model, ReferenceIndex::build(&set)?)?;
    let mut rows = Vec::new();
    let mut sieve = Vec::new();
    measure(&semantic, &documents, &mut rows, &mut sieve, &mut out)?;
    fit::report(&rows, &sieve);
    if let Some(out) = &mut out {
        let (set, documents) = samples::planted(&data)?;
        let semantic = open(&model, ReferenceIndex::build(&set)?)?;
        measure(&semantic, &documents, &mut Vec::new(), &mut Vec::new(), &mut Some(out))?;
    }
    Ok(())
}

fn open(model: &Path, index: ReferenceIndex) -> Outcome<Semantic> {
    Ok(Semantic::new(Arc::new(index), embed::open(model, &OpenOptions::default())?)?)
}

/// Judges documents in batches and labels every pair.
fn measure(
    semantic: &Semantic,
    documents: &[Document],
    rows: &mut Vec<Row>,
    sieve: &mut Vec<Row>,
    out: &mut Option<impl Write>,
) -> Outcome<()> {
    let mut code = Default::default();
    for batch in documents.chunks(64) {
        let texts: Vec<&str> = batch.iter().map(|d| d.text.as_str()).collect();
        let pairs = semantic.pairs(&texts)?;
        for (number, (document, pairs)) in batch.iter().zip(pairs).enumerate() {
            let fitted = !document.label.set().starts_with("planted") && number % 2 == 0;
            let label = |item: u32, start: usize, end: usize| -> Outcome<Option<bool>> {
                let Label::Item { id, .. } = &document.label else { return Ok(Some(false)) };
                let inside = start < document.place.end && document.place.start < end;
                let right =
                    semantic.index().meta(item)?.origins.iter().any(|o| (&o.benchmark, &o.id) == (&id.0, &id.1));
                // The right item away from the planted text, or a text that shares an item's template, is no evidence.
                Ok(if right { inside.then_some(true) } else { Some(false) })
            };
            for l in semantic.looked(&document.text) {
                let c = &l.candidate;
                let Some(leak) = label(c.item, c.start, c.end)? else { continue };
                let norm = semantic.sieve().size(c.item).1;
                let features = vec![c.share, c.weight, norm, (c.end - c.start) as f32];
                if let Some(out) = out {
                    let line = serde_json::json!({"column": "sieve", "set": document.label.set(), "document": document.id,
                        "item": c.item, "leak": leak, "score": c.score, "x": features, "look": l.measures.look(c.score),
                        "w": [l.window.start, l.window.end], "bytes": document.text.len(),
                        "host": c.end <= document.place.start || c.start >= document.place.end});
                    writeln!(out, "{line}")?;
                }
                sieve.push(Row { set: document.label.set().into(), column: "sieve", leak, fitted, features });
                let features = l.measures.look(c.score).to_vec();
                sieve.push(Row { set: document.label.set().into(), column: "look", leak, fitted, features });
            }
            for s in semantic.programs().scan(&document.text, 0.15, &mut code) {
                let Some(leak) = label(s.item, s.place.start, s.place.end)? else { continue };
                let features = vec![s.share, (1.0 + s.matched as f32).ln()];
                if let Some(out) = out {
                    let line = serde_json::json!({"column": "structure", "set": document.label.set(), "document": document.id,
                        "item": s.item, "leak": leak, "x": features, "host": false});
                    writeln!(out, "{line}")?;
                }
                rows.push(Row { set: document.label.set().into(), column: "structure", leak, fitted, features });
            }
            for pair in pairs {
                let Some(leak) = label(pair.item, pair.window.start, pair.window.end)? else { continue };
                let features = pair.measures.features().to_vec();
                let column = if pair.program { "code" } else { "semantic" };
                if let Some(out) = out {
                    let line = serde_json::json!({"column": column, "set": document.label.set(), "document": document.id,
                        "item": pair.item, "leak": leak, "score": pair.candidate.score, "x": features, 
                        "window": document.text[pair.window.clone()],
                        "host": pair.window.end <= document.place.start || pair.window.start >= document.place.end});
                    writeln!(out, "{line}")?;
                }
                rows.push(Row { set: document.label.set().into(), column, leak, fitted, features });
            }
        }
    }
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for document in documents {
        counts.entry(document.label.set()).or_default().0 += 1;
    }
    for row in rows.iter().filter(|r| r.leak) {
        if let Some(count) = counts.get_mut(row.set.as_str()) {
            count.1 += 1;
        }
    }
    for (set, (documents, found)) in counts {
        println!("{set:<24}{documents:>6} documents, {found:>5} right pairs let through");
    }
    let sieved = semantic.sieved();
    println!(
        "first stage: {sieved:?}, {:.3} % of the text encoded",
        100.0 * sieved.encoded_bytes as f64 / sieved.text_bytes as f64
    );
    Ok(())
}
