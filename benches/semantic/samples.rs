//! Labelled documents: paraphrases and their look-alikes inside hosts, and clean text.
//!
//! Nothing here is an item or a text of the planted corpus. Positive: model rephrasings of GSM8K questions that are planted
//! nowhere, and the paraphrases and rewritten programs in `tests/fixtures/paraphrases.jsonl`. Negative: problems of the GSM8K train
//! split and MMLU questions that are not in the reference, TruthfulQA, pieces of the clean corpora, and every other item.

use std::collections::HashSet;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use priorart::corpus::{self, ReadOptions};
use priorart::decontaminate::semantic::is_known;
use priorart::reference::{self, EvalItem, Origin, ReferenceSet};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::Outcome;

/// A text and what is in it.
pub struct Document {
    pub id: String,
    pub text: String,
    /// Bytes of what was put in; empty in clean text.
    pub place: Range<usize>,
    pub label: Label,
}

/// What a text was made of.
pub enum Label {
    Item { set: String, id: (String, String) },
    Other { set: String },
}

impl Label {
    pub fn set(&self) -> &str {
        match self {
            Label::Item { set, .. } | Label::Other { set } => set,
        }
    }
}

pub fn rows(path: &Path) -> Outcome<Vec<Value>> {
    let file = std::fs::File::open(path)?;
    let mut text = String::new();
    match path.extension().is_some_and(|e| e == "zst") {
        true => {
            let mut decoder = zstd::stream::read::Decoder::new(file)?;
            decoder.window_log_max(31)?;
            decoder.read_to_string(&mut text)?
        }
        false => std::io::BufReader::new(file).read_to_string(&mut text)?,
    };
    text.lines().filter(|l| !l.trim().is_empty()).map(|l| Ok(serde_json::from_str(l)?)).collect()
}

fn text(row: &Value, field: &str) -> String {
    row[field].as_str().unwrap_or_default().to_string()
}

fn item(benchmark: &str, id: String, question: String, answer: Option<String>, choices: Vec<String>) -> EvalItem {
    let origin = Origin { benchmark: benchmark.into(), id, ..Origin::default() };
    EvalItem { origins: vec![origin], question: Some(question), answer, choices, ..EvalItem::default() }
}

/// Benchmark and id (none for a negative), set, text.
type Plant = (Option<(String, String)>, String, String);

/// The reference set and the labelled documents.
pub fn labelled(data: &Path) -> Outcome<(ReferenceSet, Vec<Document>)> {
    let mut random = ChaCha8Rng::seed_from_u64(41);
    let hosts = hosts(data, &mut random)?;
    let mut used: HashSet<(String, u64)> = HashSet::new();
    let mut planted_texts: HashSet<String> = HashSet::new();
    let head = |t: &str| t.trim().chars().take(60).collect::<String>();
    for row in rows(&data.join("planted/truth.jsonl"))? {
        if let (Some(b), Some(i)) = (row["benchmark"].as_str(), row["item_index"].as_u64()) {
            used.insert((b.into(), i));
        }
        planted_texts.insert(head(&text(&row, "text")));
    }
    let benchmark = |name: &str| rows(&data.join(format!("benchmarks/{name}.jsonl.zst")));
    let mut items = Vec::new();
    for (i, row) in benchmark("gsm8k_test")?.iter().enumerate() {
        items.push(item("gsm8k", i.to_string(), text(row, "question"), Some(text(row, "answer")), vec![]));
    }
    let humaneval = benchmark("humaneval")?;
    for row in &humaneval {
        let id = text(row, "task_id");
        items.push(item("humaneval", id, text(row, "prompt"), Some(text(row, "canonical_solution")), vec![]));
    }
    let mut mmlu: Vec<Value> =
        benchmark("mmlu_test")?.into_iter().filter(|r| !planted_texts.contains(&head(&text(r, "question")))).collect();
    mmlu.shuffle(&mut random);
    let choices = |row: &Value| -> Vec<String> {
        row["choices"].as_array().into_iter().flatten().filter_map(|c| c.as_str().map(String::from)).collect()
    };
    for row in &mmlu[..800] {
        items.push(item("mmlu", row["index"].to_string(), text(row, "question"), None, choices(row)));
    }
    let mut plants: Vec<Plant> = Vec::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/paraphrases.jsonl");
    for (i, row) in rows(&fixtures)?.iter().enumerate() {
        let answer = row["answer"].as_str().map(String::from);
        items.push(item("hand", i.to_string(), text(row, "question"), answer, choices(row)));
        for (way, paraphrase) in row["paraphrases"].as_object().into_iter().flatten() {
            let set = format!("{}_{way}", text(row, "kind"));
            plants.push((Some(("hand".into(), i.to_string())), set, paraphrase.as_str().unwrap_or_default().into()));
        }
    }
    for row in &humaneval {
        let id = ("humaneval".to_string(), text(row, "task_id"));
        plants.push((Some(id), "renamed".into(), renamed(&text(row, "canonical_solution"), &mut random)));
    }
    let mut rephrased = rows(&data.join("pairs/gsm8k_rephrased.jsonl.zst"))?;
    rephrased.retain(|r| !used.contains(&("gsm8k".into(), r["index"].as_u64().unwrap_or(0))));
    rephrased.shuffle(&mut random);
    for row in rephrased.iter().take(220) {
        let text = text(row, "text");
        let question = text.trim_start_matches("Question: ").split("\nAnswer:").next().unwrap_or_default();
        plants.push((Some(("gsm8k".into(), row["index"].to_string())), "rephrased".into(), question.trim().into()));
    }
    let mut train = benchmark("gsm8k_train")?;
    train.retain(|r| !planted_texts.contains(&head(&text(r, "question"))));
    train.shuffle(&mut random);
    for (i, row) in train.iter().take(220).enumerate() {
        let answer = if i % 2 == 0 { format!("\n{}", text(row, "answer")) } else { String::new() };
        plants.push((None, "neg_gsm8k_train".into(), format!("{}{answer}", text(row, "question"))));
    }
    for (i, row) in mmlu[800..1120].iter().enumerate() {
        let right = row["answer"].as_u64().unwrap_or(0) as usize;
        let answer = if i % 2 == 0 { format!("\nAnswer: {}", choices(row)[right]) } else { String::new() };
        plants.push((None, "neg_mmlu".into(), format!("{}{answer}", text(row, "question"))));
    }
    for row in benchmark("truthfulqa")?.iter().take(80) {
        plants.push((
            None,
            "neg_truthfulqa".into(),
            format!("{}\nAnswer: {}", text(row, "Question"), text(row, "Best Answer")),
        ));
    }
    let mut documents = Vec::new();
    for (number, (id, set, leaked)) in plants.into_iter().enumerate() {
        if leaked.is_empty() {
            continue;
        }
        let host = &hosts[number % hosts.len()];
        let at = host.find("\n\n").unwrap_or(0);
        let place = at + 2..at + 2 + leaked.len();
        let text = format!("{}\n\n{leaked}\n\n{}", &host[..at], &host[at..]);
        let label = match id {
            Some(id) => Label::Item { set, id },
            None => Label::Other { set },
        };
        documents.push(Document { id: format!("t{number}"), text, place, label });
    }
    for (number, host) in hosts.iter().rev().take(700).enumerate() {
        let label = Label::Other { set: "clean".into() };
        documents.push(Document { id: format!("h{number}"), text: host.clone(), place: 0..0, label });
    }
    documents.shuffle(&mut random);
    Ok((ReferenceSet { rows: items.len() as u64, items }, documents))
}

/// A program with its own names replaced, each by the same new one throughout, and one line in ten left out.
fn renamed(program: &str, random: &mut ChaCha8Rng) -> String {
    const NEW: [&str; 12] = ["acc", "item", "left", "node", "total", "cur", "buf", "pos", "val", "step", "head", "tmp"];
    let mut names: Vec<String> = Vec::new();
    let mut out = String::new();
    let lines: Vec<&str> = program.split_inclusive('\n').collect();
    for line in &lines {
        if lines.len() > 4 && random.random_bool(0.1) {
            continue;
        }
        let mut rest = *line;
        let mut before = ' ';
        while let Some(c) = rest.chars().next() {
            let named = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = if named(c) { rest.find(|c| !named(c)).unwrap_or(rest.len()) } else { c.len_utf8() };
            let token = &rest[..end];
            let own = named(c) && !c.is_ascii_digit() && before != '.' && !is_known(token);
            if own {
                let at = names.iter().position(|n| n == token).unwrap_or_else(|| {
                    names.push(token.to_string());
                    names.len() - 1
                });
                out +=
                    &format!("{}{}", NEW[at % NEW.len()], if at < NEW.len() { String::new() } else { at.to_string() });
            } else {
                out += token;
            }
            before = token.chars().next_back().unwrap_or(' ');
            rest = &rest[end..];
        }
    }
    out
}

/// Pieces of 1 to 4 KB of the clean corpora.
fn hosts(data: &Path, random: &mut ChaCha8Rng) -> Outcome<Vec<String>> {
    let mut out = Vec::new();
    let mut documents = corpus::Documents::new(corpus::discover(&[data.join("corpora")])?, ReadOptions::default());
    let mut document = corpus::Document::default();
    while documents.next(&mut document)? {
        let size = random.random_range(1000..4000);
        let floor = |mut at: usize| {
            while !document.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        for _ in 0..if document.text.len() > 200_000 { 5 } else { 1 } {
            if document.text.len() > size {
                let start = floor(random.random_range(0..document.text.len() - size));
                out.push(document.text[start..floor(start + size)].to_string());
            }
        }
    }
    out.shuffle(random);
    Ok(out)
}

/// The planted corpus, a quarter of its clean documents: to look at, never to fit.
pub fn planted(data: &Path) -> Outcome<(ReferenceSet, Vec<Document>)> {
    let planted = data.join("planted");
    let set = reference::read(&[planted.join("references")], None)?;
    let mut truth = std::collections::HashMap::new();
    for row in rows(&planted.join("truth.jsonl"))? {
        truth.insert(text(&row, "id"), row);
    }
    let wanted = |category: &str| {
        ["paraphrase", "rewrite", "translate", "neg_", "solution_only", "names"].iter().any(|w| category.contains(w))
    };
    let mut out = Vec::new();
    let mut documents = corpus::Documents::new(corpus::discover(&[planted.join("corpus")])?, ReadOptions::default());
    let mut document = corpus::Document::default();
    let mut clean = 0;
    while documents.next(&mut document)? {
        let Some(row) = truth.get(&document.id) else {
            clean += 1;
            if clean % 4 == 0 {
                let label = Label::Other { set: "planted clean".into() };
                out.push(Document { id: document.id.clone(), text: document.text.clone(), place: 0..0, label });
            }
            continue;
        };
        let category = text(row, "category");
        if !wanted(&category) {
            continue;
        }
        let at = |name: &str| row[name].as_u64().unwrap_or(0) as usize;
        let set = format!("planted {category}");
        let label = match row["benchmark"].as_str() {
            Some(b) => Label::Item { set, id: (b.into(), row["item_index"].to_string()) },
            None => Label::Other { set },
        };
        let place = at("byte_start")..at("byte_end");
        out.push(Document { id: document.id.clone(), text: document.text.clone(), place, label });
    }
    Ok((set, out))
}
