//! How long an audit takes: texts of 200 encoder tokens, made of passages all over the corpus, half of whose words are other passages'.
//!
//! Every text is another place of the corpus, the worst case for a token cache that `build --token-states` has not filled: some hundred
//! chunks must be encoded for each until it holds the corpus. Then the same texts again, with everything cached. Figures are CPU
//! seconds, so that a shared machine does not decide.

use std::path::Path;
use std::time::Instant;

use priorart::embed::colbert::PlainLate;
use priorart::embed::{Encoder, OpenOptions, find_model};
use priorart::index::Snapshot;
use priorart::novelty::probes::edit;
use priorart::novelty::{CacheOptions, Scorer, Settings, Text};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Outcome, Results};

const TOKENS: usize = 200;
const BATCH: usize = 64;

/// A passage of `TOKENS` encoder tokens from the place of a random chunk.
fn passage(snapshot: &Snapshot, encoder: &dyn Encoder, random: &mut ChaCha8Rng) -> Outcome<String> {
    loop {
        let mut at = random.random_range(0..snapshot.chunks());
        for shard in &snapshot.shards {
            let Some(semantic) = &shard.semantic else { continue };
            if at >= semantic.len() as u64 {
                at -= semantic.len() as u64;
                continue;
            }
            let chunk = semantic.chunk(at as u32).ok_or("no such chunk")?;
            let size = shard.documents.text_len(chunk.document)?;
            let start = chunk.start_byte as usize;
            let (text, _) = shard.documents.text_range(chunk.document, start..(start + 16 * TOKENS).min(size))?;
            let spans = encoder.tokenize(&text)?.spans;
            if spans.len() >= TOKENS {
                return Ok(text[..spans[TOKENS - 1].end as usize].to_string());
            }
            break;
        }
    }
}

pub fn run(index: &Path, count: usize, results: &mut Results) -> Outcome<()> {
    let model = find_model("all-minilm-l6-v2").ok_or("all-minilm-l6-v2 is not in the cache")?;
    let encoder = priorart::embed::open(&model, &OpenOptions::default())?;
    let snapshot = Snapshot::open(index)?;
    let chunks = snapshot.chunks();
    println!("{} documents, {chunks} chunks", snapshot.manifest.corpus.documents);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let passages = (0..count).map(|_| passage(&snapshot, &*encoder, &mut random)).collect::<Outcome<Vec<String>>>()?;
    let pool: Vec<String> = passages.iter().flat_map(|p| p.split_whitespace().step_by(5)).map(str::to_string).collect();
    let texts: Vec<Text> = passages
        .iter()
        .enumerate()
        .map(|(i, p)| Text { id: format!("text-{i}"), text: edit(p, 0.5, &pool, &mut random), ..Text::default() })
        .collect();
    let late = PlainLate::new(&*encoder);
    let cache = CacheOptions::beside(index, &encoder.spec().sha256, 4);
    let mut scorer = Scorer::new(&snapshot, &*encoder, &late, Settings::default(), 4 << 30, Some(&cache))?;
    let mut pass = |name: &str| -> Outcome<(f64, f64)> {
        let (wall, cpu, before) = (Instant::now(), super::process::cpu_seconds(), scorer.chunks_encoded());
        for batch in texts.chunks(BATCH) {
            let (cpu, before) = (super::process::cpu_seconds(), scorer.chunks_encoded());
            scorer.score(batch)?;
            println!(
                "  {name}: {:.2} CPU s a text, {} chunks encoded",
                (super::process::cpu_seconds() - cpu) / batch.len() as f64,
                scorer.chunks_encoded() - before
            );
        }
        let (n, encoded) = (count as f64, (scorer.chunks_encoded() - before) as f64);
        let cpu = super::process::cpu_seconds() - cpu;
        println!("  {name}: {:.1} s", wall.elapsed().as_secs_f64());
        let of = format!("{count} texts of {TOKENS} tokens, {chunks} chunks, {name}");
        results.add(&of, "texts/CPU-s", n / cpu, None);
        results.add(&format!("{of}: chunks encoded"), "a text", encoded / n, None);
        Ok((cpu, encoded))
    };
    let (first, encoded) = pass("first pass")?;
    let (second, _) = pass("second pass")?;
    let hours = |chunks: f64| (10_000.0 * second / count as f64 + chunks) / 3600.0;
    results.add(
        &format!("10,000 such texts against {chunks} chunks whose states are kept, from these"),
        "CPU-hours",
        hours(0.0),
        None,
    );
    if encoded > 0.0 {
        // What the first pass paid for encoding is paid once a chunk, however many texts follow.
        let once = (first - second) / encoded;
        results.add("encoding one chunk", "CPU-ms", 1e3 * once, None);
        let both = hours(250_000.0 * once);
        results.add("10,000 such texts, and 250,000 chunks encoded once, from these", "CPU-hours", both, None);
    }
    Ok(())
}
