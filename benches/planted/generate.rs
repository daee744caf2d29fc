//! Plants benchmark items in clean hosts, in the ways in which items leak, from a seed.
//!
//! Items: GSM8K test and MMLU test items that the visible planted set does not use, and all of HumanEval (too few to
//! spare). Hosts: pieces of 1 to 6 KB of the clean corpora. Filler and substitutes are words of the hosts. Hard negatives:
//! the GSM8K train split and TruthfulQA, which are of the same kind but not in the reference.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use priorart::corpus::Document;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::measure::{Planted, Truth};
use super::{Outcome, corpora, each_document};

/// Items per way of leaking.
const PER_WAY: usize = 100;

const GSM8K_WAYS: [&str; 11] = [
    "verbatim_qa",
    "case_punct_ws",
    "unicode_punct",
    "wrapped_comment",
    "edit10",
    "edit25",
    "interleaved_filler",
    "names_numbers_swapped",
    "question_only",
    "answer_only",
    "half_question",
];

/// Documents and what is planted in them; the same for the same seed.
pub fn planted(data: &Path, seed: u64) -> Outcome<(Vec<Document>, Truth)> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let hosts = hosts(data, &mut random)?;
    let vocabulary: Vec<&str> = hosts
        .iter()
        .flat_map(|h| h.split_whitespace())
        .filter(|w| w.bytes().all(|b| b.is_ascii_alphabetic()))
        .collect();
    let used: HashSet<(String, String)> =
        Truth::read(&data.join("planted/truth.jsonl"))?.0.into_values().filter_map(|p| p.item).collect();
    let benchmark = |name: &str| rows(&data.join(format!("benchmarks/{name}.jsonl.zst")));
    // Way of leaking, benchmark and item, text.
    type Plant = (String, Option<(String, String)>, String);
    let mut plants: Vec<Plant> = Vec::new();

    let gsm8k = benchmark("gsm8k_test")?;
    let mut order: Vec<usize> = (0..gsm8k.len()).filter(|i| !used.contains(&("gsm8k".into(), i.to_string()))).collect();
    order.shuffle(&mut random);
    for (i, &number) in order.iter().enumerate() {
        let way = GSM8K_WAYS[i % GSM8K_WAYS.len()];
        if i / GSM8K_WAYS.len() >= PER_WAY {
            break;
        }
        let (question, answer) = (text(&gsm8k[number], "question"), text(&gsm8k[number], "answer"));
        let leaked = leak(way, question, answer, &vocabulary, &mut random);
        plants.push((way.into(), Some(("gsm8k_test".into(), number.to_string())), leaked));
    }

    let humaneval = benchmark("humaneval")?;
    for (i, row) in humaneval.iter().enumerate() {
        let (prompt, solution) = (text(row, "prompt"), text(row, "canonical_solution"));
        let (way, leaked) = match i % 3 {
            0 => ("he_prompt_solution", format!("{prompt}{solution}")),
            1 => ("he_prompt_only", prompt.to_string()),
            _ => ("he_solution_only", solution.to_string()),
        };
        plants.push((way.into(), Some(("humaneval".into(), text(row, "task_id").into())), leaked));
    }

    let mmlu = benchmark("mmlu_test")?;
    let mut order: Vec<usize> = (0..mmlu.len()).filter(|&i| mmlu[i]["subject"] != "sociology").collect();
    order.shuffle(&mut random);
    for (i, &number) in order.iter().take(3 * PER_WAY).enumerate() {
        let way = ["mcq_verbatim", "mcq_choices_permuted", "mcq_question_only"][i % 3];
        let leaked = multiple_choice(way, &mmlu[number], &mut random);
        plants.push((way.into(), Some(("mmlu_test".into(), mmlu[number]["index"].to_string())), leaked));
    }

    let mut train = benchmark("gsm8k_train")?;
    train.shuffle(&mut random);
    for row in train.iter().take(300) {
        plants.push(("neg_gsm8k_train".into(), None, format!("{}\n{}", text(row, "question"), text(row, "answer"))));
    }
    for row in benchmark("truthfulqa")?.iter().take(300) {
        let leaked = format!("{}\nAnswer: {}", text(row, "Question"), text(row, "Best Answer"));
        plants.push(("neg_truthfulqa".into(), None, leaked));
    }

    let (mut documents, mut truth) = (Vec::new(), Truth::default());
    for (number, (category, item, leaked)) in plants.into_iter().enumerate() {
        let host = &hosts[number % hosts.len()];
        let at = host.match_indices("\n\n").map(|(i, _)| i).nth(random.random_range(0..3)).unwrap_or(host.len());
        let before = format!("{}\n\n", &host[..at]);
        let document = format!("{before}{leaked}\n\n{}", host[at..].trim_start());
        let id = format!("g{number:05}");
        let bytes = before.len()..before.len() + leaked.len();
        truth.0.insert(id.clone(), Planted { category, item, bytes });
        documents.push(Document { id, text: document, record: number as u64, ..Document::default() });
    }
    Ok((documents, truth))
}

fn rows(path: &Path) -> Outcome<Vec<Value>> {
    let mut text = String::new();
    zstd::Decoder::new(std::fs::File::open(path)?)?.read_to_string(&mut text)?;
    text.split('\n').filter(|l| !l.is_empty()).map(|l| Ok(serde_json::from_str(l)?)).collect()
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_default()
}

/// Pieces of 1 to 6 KB of the clean corpora.
fn hosts(data: &Path, random: &mut ChaCha8Rng) -> Outcome<Vec<String>> {
    let mut out = Vec::new();
    each_document(&corpora(data), |document| {
        let size = random.random_range(1000..6000);
        let floor = |mut at: usize| {
            while !document.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        if document.text.len() > size && !document.id.contains("us-history") {
            let start = floor(random.random_range(0..document.text.len() - size));
            out.push(document.text[start..floor(start + size)].to_string());
        }
        Ok(())
    })?;
    out.shuffle(random);
    Ok(out)
}

fn leak(way: &str, question: &str, answer: &str, vocabulary: &[&str], random: &mut ChaCha8Rng) -> String {
    let both = format!("{question}\n{answer}");
    match way {
        "verbatim_qa" => both,
        "question_only" => question.to_string(),
        "answer_only" => answer.to_string(),
        "half_question" => {
            let words: Vec<&str> = question.split_whitespace().collect();
            words[..words.len() / 2].join(" ")
        }
        "case_punct_ws" => reformatted(&both, random),
        "unicode_punct" => {
            let plain = without_calculations(&format!("{question} {answer}"));
            let swaps = [(", ", "， "), (". ", "。 "), ("?", "？"), ("'", "ʼ")];
            swaps.iter().fold(plain, |t, (from, to)| t.replace(from, to)).replacen(' ', "\u{a0}", 3)
        }
        "wrapped_comment" => wrapped(&without_calculations(&format!("{question} {answer}")), 38, "# "),
        "edit10" => edited(&both, 0.10, vocabulary, random),
        "edit25" => edited(&both, 0.25, vocabulary, random),
        "interleaved_filler" => {
            let mut out = String::new();
            for sentence in without_calculations(&both).split_inclusive(['.', '?', '\n']) {
                let filler: Vec<&str> = (0..14).filter_map(|_| vocabulary.choose(random).copied()).collect();
                out.push_str(&format!("{} {}. ", sentence.trim(), filler.join(" ").to_lowercase()));
            }
            out
        }
        _ => swapped(&both, random),
    }
}

/// GSM8K answers without their `<<3*4=12>>` notes.
fn without_calculations(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("<<") {
        out.push_str(&rest[..start]);
        rest = rest[start..].find(">>").map_or("", |end| &rest[start + end + 2..]);
    }
    out + rest
}

fn reformatted(text: &str, random: &mut ChaCha8Rng) -> String {
    let style = random.random_range(0..3);
    let mut out = String::new();
    for word in text.split_whitespace() {
        let word = match style {
            0 => word.to_uppercase(),
            1 => word.to_lowercase(),
            _ => word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect(),
        };
        for c in word.chars() {
            match (c, random.random_range(0..3)) {
                (',' | '.' | '?' | '\'' | '!' | ';', 0) => {}
                (',' | '.' | '?' | '\'' | '!' | ';', 1) => out.push_str(" - "),
                _ => out.push(c),
            }
        }
        out.push_str([" ", "  ", "\n"][random.random_range(0..3)]);
    }
    out
}

fn wrapped(text: &str, columns: usize, prefix: &str) -> String {
    let (mut out, mut line) = (String::new(), prefix.to_string());
    for word in text.split_whitespace() {
        if line.len() + word.len() > columns {
            out.push_str(line.trim_end());
            out.push('\n');
            line = prefix.to_string();
        }
        line.push_str(word);
        line.push(' ');
    }
    out + line.trim_end()
}

/// Each word edited with this probability: half substituted, a quarter deleted, a quarter followed by a new word.
fn edited(text: &str, probability: f64, vocabulary: &[&str], random: &mut ChaCha8Rng) -> String {
    let mut out = String::new();
    for word in text.split_inclusive(char::is_whitespace) {
        let space = &word[word.trim_end().len()..];
        let new = vocabulary.choose(random).copied().unwrap_or("word");
        if !random.random_bool(probability) {
            out.push_str(word);
            continue;
        }
        match random.random_range(0..4) {
            0 | 1 => out.push_str(&format!("{new}{space}")),
            2 => out.push_str(space),
            _ => out.push_str(&format!("{} {new}{space}", word.trim_end())),
        }
    }
    out
}

const NAMES: [&str; 16] = [
    "Amara", "Bodhi", "Chiara", "Dmitri", "Esra", "Farid", "Giulia", "Hanna", "Ines", "Jovan", "Keiko", "Luca",
    "Mirela", "Nadia", "Otto", "Petra",
];

/// Names and numbers replaced, each by the same new one throughout.
fn swapped(text: &str, random: &mut ChaCha8Rng) -> String {
    let starts_sentence =
        |at: usize| text[..at].trim_end().ends_with(['.', '?', '!', '\n']) || text[..at].trim().is_empty();
    let mut names: Vec<String> = Vec::new();
    let lower: HashSet<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| w.starts_with(char::is_lowercase))
        .map(str::to_string)
        .collect();
    let mut at = 0;
    for word in text.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let bare = word.trim_end_matches(|c: char| !c.is_alphanumeric());
        let capital = bare.len() > 2 && bare.starts_with(char::is_uppercase) && !lower.contains(&bare.to_lowercase());
        if capital && !names.iter().any(|n| n == bare) && (!starts_sentence(at) || text.matches(bare).count() > 1) {
            names.push(bare.to_string());
        }
        at += word.len();
    }
    let mut fresh: Vec<&str> = NAMES.to_vec();
    fresh.shuffle(random);
    let mut numbers: std::collections::HashMap<String, String> = std::collections::HashMap::new();
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let end = if c.is_ascii_digit() {
            rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())
        } else if c.is_alphanumeric() {
            rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len())
        } else {
            c.len_utf8()
        };
        let token = &rest[..end];
        if c.is_ascii_digit() {
            let new = numbers.entry(token.to_string()).or_insert_with(|| random.random_range(2..99).to_string());
            out.push_str(new);
        } else if let Some(i) = names.iter().position(|n| n == token) {
            out.push_str(fresh[i % fresh.len()]);
        } else {
            out.push_str(token);
        }
        rest = &rest[end..];
    }
    out
}

fn multiple_choice(way: &str, row: &Value, random: &mut ChaCha8Rng) -> String {
    let question = text(row, "question");
    if way == "mcq_question_only" {
        return question.to_string();
    }
    let mut choices: Vec<(usize, &str)> = row["choices"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(i, c)| (i, c.as_str().unwrap_or("")))
        .collect();
    if way == "mcq_choices_permuted" {
        choices.shuffle(random);
    }
    let right = row["answer"].as_u64().unwrap_or(0) as usize;
    let letter = |i: usize| char::from(b'A' + i as u8);
    let lines: Vec<String> = choices.iter().enumerate().map(|(i, (_, c))| format!("{}. {c}", letter(i))).collect();
    let answer = choices.iter().position(|(i, _)| *i == right).map_or('A', letter);
    format!("{question}\n{}\nAnswer: {answer}", lines.join("\n"))
}
