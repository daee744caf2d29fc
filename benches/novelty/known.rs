//! Texts of known origin, from a slice of the books (in the corpus), other books, other domains, and a random order of words.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use priorart::embed::colbert::PlainLate;
use priorart::embed::{Encoder, OpenOptions, find_model};
use priorart::index::Snapshot;
use priorart::novelty::probes::edit;
use priorart::novelty::statistics::{Interval, bootstrap_median, bootstrap_ratios, ks_uniform, median, share};
use priorart::novelty::{CacheOptions, Calibration, Score, Scorer, Settings, Text};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{Outcome, Results, records};

/// Bytes taken of a book: every second one goes into the corpus.
const SLICE: usize = 32_000;
/// Encoder tokens of a text: a window of 500 and a little.
const TOKENS: usize = 520;
const SEED: u64 = 20_261_128;

/// A passage of `TOKENS` encoder tokens from a random place of a random text.
fn passage(texts: &[(String, String)], encoder: &dyn Encoder, random: &mut ChaCha8Rng) -> Outcome<(String, String)> {
    loop {
        let (id, text) = &texts[random.random_range(0..texts.len())];
        let mut from = random.random_range(0..text.len());
        while !text.is_char_boundary(from) {
            from -= 1;
        }
        let mut to = (from + 16 * TOKENS).min(text.len());
        while !text.is_char_boundary(to) {
            to -= 1;
        }
        let part = &text[from..to];
        let start = part.find(char::is_whitespace).unwrap_or(0);
        let part = part[start..].trim_start();
        let tokens = encoder.tokenize(part)?;
        if tokens.ids.len() < TOKENS {
            continue;
        }
        return Ok((id.clone(), part[..tokens.spans[TOKENS - 1].end as usize].to_string()));
    }
}

fn head(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Texts of a file as (id, text).
fn texts(path: &Path) -> Outcome<Vec<(String, String)>> {
    let of = |r: &Value, field: &str| r[field].as_str().unwrap_or_default().to_string();
    Ok(records(path)?.iter().map(|r| (of(r, "id"), of(r, "text"))).collect())
}

pub fn run(data: &Path, work: &Path, results: &mut Results) -> Outcome<()> {
    let model = find_model("all-minilm-l6-v2").ok_or("all-minilm-l6-v2 is not in the cache")?;
    let encoder = priorart::embed::open(&model, &OpenOptions::default())?;
    let mut books = Vec::new();
    for part in 0..4 {
        books.extend(texts(&data.join(format!("corpora/books/part-{part}.jsonl.zst")))?);
    }
    // The middle of a book, past its front matter.
    let middle = |text: &str| {
        let mut from = text.len() / 3;
        while !text.is_char_boundary(from) {
            from -= 1;
        }
        head(&text[from..], SLICE).to_string()
    };
    let slice: Vec<(String, String)> = books.iter().step_by(2).map(|(id, t)| (id.clone(), middle(t))).collect();
    let others: Vec<(String, String)> =
        books.iter().skip(1).step_by(2).map(|(id, t)| (id.clone(), middle(t))).collect();
    let mut foreign = Vec::new();
    for name in ["openstax-biology", "openstax-sociology", "peps"] {
        foreign.extend(texts(&data.join(format!("corpora/{name}.jsonl.zst")))?);
    }
    let index = work.join("index");
    if !index.join("manifest.json").exists() {
        std::fs::create_dir_all(work)?;
        let line = |(id, text): &(String, String)| format!("{}\n", json!({"id": id, "text": text}));
        std::fs::write(work.join("corpus.jsonl"), slice.iter().map(line).collect::<String>())?;
        let status = Command::new(env!("CARGO_BIN_EXE_priorart"))
            .args(["build", "-q", "--encoder", "all-minilm-l6-v2", "--index"])
            .args([&index, &work.join("corpus.jsonl")])
            .status()?;
        if !status.success() {
            return Err("the corpus could not be built".into());
        }
    }
    let snapshot = Snapshot::open(&index)?;
    println!("{} documents, {} chunks", snapshot.manifest.corpus.documents, snapshot.chunks());
    let late = PlainLate::new(&*encoder);
    let cache = CacheOptions::beside(&index, &encoder.spec().sha256, 4);
    let mut scorer = Scorer::new(&snapshot, &*encoder, &late, Settings::default(), 1 << 30, Some(&cache))?;
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut draw = |from: &[(String, String)], n: usize, what: &str| -> Outcome<Vec<Text>> {
        let mut out = Vec::new();
        for i in 0..n {
            let (_, text) = passage(from, &*encoder, &mut random)?;
            out.push(Text { id: format!("{what}-{i}"), text, human: what == "human", ..Text::default() });
        }
        Ok(out)
    };
    let human = draw(&others, 120, "human")?;
    let held_out = draw(&others, 60, "same domain")?;
    let inside = draw(&slice, 30, "in corpus")?;
    let foreign = draw(&foreign, 30, "other domain")?;
    let mut random = ChaCha8Rng::seed_from_u64(SEED + 1);
    let words: Vec<String> =
        slice.iter().flat_map(|(_, t)| t.split_whitespace().step_by(7)).map(str::to_string).collect();
    let edited = inside.iter().map(|t| Text { text: edit(&t.text, 0.25, &words, &mut random), ..t.clone() }).collect();
    let shuffled = (0..30)
        .map(|i| {
            let text: Vec<&str> = (0..450).map(|_| words[random.random_range(0..words.len())].as_str()).collect();
            Text { id: format!("random-{i}"), text: text.join(" "), ..Text::default() }
        })
        .collect();
    let started = (super::process::cpu_seconds(), scorer.chunks_encoded());
    let score = |scorer: &mut Scorer, texts: Vec<Text>| -> Outcome<Vec<Score>> {
        let mut out = Vec::new();
        for batch in texts.chunks(64) {
            out.extend(scorer.score(batch)?);
        }
        Ok(out)
    };
    let reference = score(&mut scorer, human)?;
    let groups: Vec<(&str, Vec<Score>)> = vec![
        ("in corpus", score(&mut scorer, inside.clone())?),
        ("a quarter edited", score(&mut scorer, edited)?),
        ("same domain, held out", score(&mut scorer, held_out.clone())?),
        ("other domain", score(&mut scorer, foreign)?),
        ("random words", score(&mut scorer, shuffled)?),
    ];
    println!(
        "scored in {:.0} CPU s, {} chunks encoded",
        super::process::cpu_seconds() - started.0,
        scorer.chunks_encoded() - started.1
    );
    // The exact witness beside s: how many of a text's 3-grams the corpus does not have.
    let mut absent: Vec<f64> = Vec::new();
    for (name, of) in &groups {
        let share = |s: &Score| s.exact.n_novelty.iter().find(|e| e.0 == 3).map(|e| e.1);
        let m = bootstrap_median(&of.iter().filter_map(share).collect::<Vec<f64>>(), 2000, 42).ok_or("no 3-grams")?;
        results.interval(&format!("median share of absent 3-grams, {name}"), "share", m, None);
        absent.push(m.estimate);
    }
    let ordered = absent.windows(2).all(|m| m[0] < m[1]);
    results.add("share of absent 3-grams rises in order", "yes", f64::from(ordered), Some(("1", ordered)));
    let calibration = Calibration::new(&snapshot, &scorer.settings, &reference)?;
    for &length in &scorer.settings.windows {
        let s = |scores: &[Score]| scores.iter().filter_map(|x| x.at(length)).collect::<Vec<f64>>();
        let medians: Vec<_> = groups
            .iter()
            .map(|(_, of)| bootstrap_median(&s(of), 2000, 42).ok_or("no scores"))
            .collect::<Result<_, _>>()?;
        for ((name, _), m) in groups.iter().zip(&medians) {
            results.interval(&format!("median s, {length} tokens, {name}"), "s", *m, None);
        }
        let ordered = medians.windows(2).all(|m| m[0].estimate > m[1].estimate);
        results.add(
            &format!("novelty rises in order, {length} tokens"),
            "yes",
            f64::from(ordered),
            Some(("1", ordered)),
        );
        let apart = medians[0].low > medians[medians.len() - 1].high;
        results.add(
            &format!("intervals of the ends are apart, {length} tokens"),
            "yes",
            f64::from(apart),
            Some(("1", apart)),
        );
        let own: Vec<(f64, usize)> = s(&groups[2].1).into_iter().map(|v| (v, 0)).collect();
        let h = calibration.reference(None, length).ok_or("no reference")?;
        let r = bootstrap_ratios(&own, &[h], 2000, 42).ok_or("no ratio")?;
        let met = (r.low..=r.high).contains(&1.0);
        results.interval(
            &format!("human against human, median r, {length} tokens"),
            "r",
            r,
            Some(("1 in the interval", met)),
        );
        let p: Vec<f64> = own.iter().filter_map(|v| calibration.p(None, length, v.0)).collect();
        let (_, ks) = ks_uniform(&p).ok_or("no p-values")?;
        let name = format!("p-values of human texts uniform, KS, {length} tokens");
        results.add(&name, "p", ks, Some(("> 0.01", ks > 0.01)));
    }
    for r in scorer.probe(&[25, 50, 100, 200, 500], 40, &[], SEED, &mut |_| ())? {
        let what = format!("recall, {} tokens, {}", r.length, r.kind());
        results.interval(&format!("{what}: source first"), "share", r.first, None);
        results.interval(&format!("{what}: source among the 100 scored"), "share", r.scored, None);
        results.interval(&format!("{what}: source among the 1000 candidates"), "share", r.candidates, None);
    }
    lost(&snapshot, &*encoder, &cache, &groups, &held_out, results)
}

/// What the cheap cut to 100 and the coding of states change: the same texts with all 1000 candidates reranked, and with states in f16.
fn lost(
    snapshot: &Snapshot,
    encoder: &dyn Encoder,
    cache: &CacheOptions,
    groups: &[(&str, Vec<Score>)],
    held_out: &[Text],
    results: &mut Results,
) -> Outcome<()> {
    let late = PlainLate::new(encoder);
    let texts = &held_out[..20.min(held_out.len())];
    let cut: BTreeMap<&str, &Score> = groups[2].1.iter().map(|s| (s.id.as_str(), s)).collect();
    let deep = Settings { rerank: 1000, ..Settings::default() };
    let mut compare = |name: &str, scores: &[Score]| {
        let (mut same, mut windows, mut change) = (0usize, 0usize, Vec::new());
        for full in scores {
            for (a, b) in full.lengths.iter().zip(&cut[full.id.as_str()].lengths) {
                for (a, b) in a.windows.iter().zip(&b.windows) {
                    windows += 1;
                    same += usize::from(a.best == b.best || a.s <= b.s + 1e-9);
                    change.push((a.s - b.s).abs());
                }
            }
        }
        change.sort_by(f64::total_cmp);
        let kept = share(same, windows).unwrap_or(Interval { estimate: 0.0, low: 0.0, high: 1.0 });
        results.interval(&format!("{name}: windows with the same nearest passage"), "share", kept, None);
        results.add(&format!("{name}: median change of s"), "s", median(&change).unwrap_or(0.0), None);
        results.add(&format!("{name}: change of s, 95th of 100"), "s", change[change.len() * 95 / 100], None);
    };
    let mut scorer = Scorer::new(snapshot, encoder, &late, deep, 1 << 30, Some(cache))?;
    compare("middle stage against all 1000 reranked", &scorer.score(texts)?);
    let mut plain = Scorer::new(snapshot, encoder, &late, Settings::default(), 1 << 30, None)?;
    compare("4-bit token cache against f16", &plain.score(&texts[..4.min(texts.len())])?);
    Ok(())
}
