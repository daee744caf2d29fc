//! The compact index on real text: bytes a token, and the time of each kind of query.
//!
//! `PRIORART_DATA=… cargo bench --bench compact` indexes the documentation and book texts as gpt2 tokens (28 M). Queries are n-grams of the
//! stream at seeded random places; the median is over single queries, timed one by one, warm, on one thread.

use std::time::Instant;

use priorart::suffix::compact::CompactIndex;
use priorart::suffix::sort;
use priorart::tokenize::{Tokenizer, TokenizerKind};
use rand::{Rng, SeedableRng};

fn stream(root: &str, sep: u16) -> anyhow::Result<Vec<u16>> {
    let TokenizerKind::Closed(gpt2) = Tokenizer::named("gpt2")?.kind else { anyhow::bail!("gpt2 is closed") };
    let mut files =
        vec!["peps".to_owned(), "openstax-biology".into(), "openstax-sociology".into(), "openstax-us-history".into()];
    files.extend((0..2).map(|i| format!("debian-docs/part-{i}")));
    files.extend((0..4).map(|i| format!("books/part-{i}")));
    let (mut out, mut ids) = (Vec::new(), Vec::new());
    for file in files {
        let packed = std::fs::read(format!("{root}/corpora/{file}.jsonl.zst"))?;
        for line in zstd::stream::decode_all(&packed[..])?.split(|&b| b == b'\n').filter(|l| !l.is_empty()) {
            let record: serde_json::Value = serde_json::from_slice(line)?;
            ids.clear();
            gpt2.encode(record["text"].as_str().unwrap_or_default(), &mut ids)?;
            out.extend(ids.iter().map(|&id| id as u16));
            out.push(sep);
        }
    }
    Ok(out)
}

fn entropy(stream: &[u16]) -> f64 {
    let mut counts = vec![0u64; 1 << 16];
    stream.iter().for_each(|&t| counts[t as usize] += 1);
    let n = stream.len() as f64;
    counts.iter().filter(|&&c| c > 0).map(|&c| -(c as f64) / n * (c as f64 / n).log2()).sum()
}

fn percentiles(mut times: Vec<f64>) -> String {
    times.sort_by(f64::total_cmp);
    format!("{:>10.2} {:>10.2}", times[times.len() / 2], times[times.len() * 99 / 100])
}

fn main() -> anyhow::Result<()> {
    let Ok(root) = std::env::var("PRIORART_DATA") else {
        println!("skipped: PRIORART_DATA is not set");
        return Ok(());
    };
    let sep = u16::MAX;
    let tokens = stream(&root, sep)?;
    let start = Instant::now();
    let bytes = CompactIndex::build(&tokens, sep.into())?;
    let built = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let index = CompactIndex::open(&bytes)?;
    let opened = start.elapsed().as_secs_f64() * 1e3;
    let n = tokens.len() as f64;
    println!(
        "{} tokens, {} documents, entropy {:.2} bits; {:.3} bytes/token; build {built:.1} s, open {opened:.3} ms",
        tokens.len(),
        index.documents(),
        entropy(&tokens),
        bytes.len() as f64 / n
    );

    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let mut ngrams = |n: usize, many: usize| -> Vec<Vec<u32>> {
        let mut out = Vec::new();
        while out.len() < many {
            let at = rng.random_range(0..tokens.len() - n);
            let ngram = &tokens[at..at + n];
            if !ngram.contains(&sep) {
                out.push(ngram.iter().map(|&t| t.into()).collect());
            }
        }
        out
    };
    let time = |queries: &[Vec<u32>], work: &mut dyn FnMut(&[u32])| -> String {
        queries.iter().for_each(|q| work(q));
        percentiles(
            queries
                .iter()
                .map(|q| {
                    let t = Instant::now();
                    work(q);
                    t.elapsed().as_secs_f64() * 1e6
                })
                .collect(),
        )
    };
    println!("{:<38} {:>10} {:>10}", "", "p50 µs", "p99 µs");
    let mut sum = 0u64;
    for n in [1, 2, 3, 5, 8, 20] {
        println!("{:<38} {}", format!("count n={n}"), time(&ngrams(n, 20_000), &mut |q| sum += index.count(q)));
    }
    println!(
        "{:<38} {}",
        "locate one occurrence",
        time(&ngrams(5, 5000), &mut |q| sum += index.positions(q, 1).len() as u64)
    );
    for n in [1, 3] {
        let shown = time(&ngrams(n, 500), &mut |q| sum += index.followers(index.rows(q)).len() as u64);
        println!("{:<38} {shown}", format!("next tokens n={n}"));
    }
    println!(
        "{:<38} {}",
        "extract 100 tokens",
        time(&ngrams(1, 1000), &mut |q| {
            sum += index.extract(u64::from(q[0]) * 400 % tokens.len() as u64, 100).len() as u64;
        })
    );
    println!(
        "{:<38} {}",
        "longest matches, 500 tokens, verbatim",
        time(&ngrams(500, 20), &mut |q| {
            sum += index.longest_matches(q)[0] as u64;
        })
    );
    // The same texts with every seventh token replaced by another of the stream: short matches everywhere.
    let mut edited = ngrams(500, 20);
    let other = ngrams(1, 2000);
    for (i, q) in edited.iter_mut().enumerate() {
        for at in (0..500).step_by(7) {
            q[at] = other[(i * 500 + at) % other.len()][0];
        }
    }
    println!(
        "{:<38} {}",
        "longest matches, 500 tokens, edited",
        time(&edited, &mut |q| {
            sum += index.longest_matches(q)[0] as u64;
        })
    );

    // Counts against the plain suffix array of the stream.
    let sorted = sort::suffix_array(&tokens, sep.into())?;
    for n in [1, 2, 3, 5, 8] {
        for q in ngrams(n, 2000) {
            let q16: Vec<u16> = q.iter().map(|&t| t as u16).collect();
            let prefix = |at: u32| &tokens[at as usize..(at as usize + n).min(tokens.len())];
            let low = sorted.partition_point(|&at| prefix(at) < &q16[..]);
            let high = sorted.partition_point(|&at| prefix(at) <= &q16[..]);
            anyhow::ensure!(index.count(&q) == (high - low) as u64, "count of {q:?}");
            anyhow::ensure!(index.positions(&q, 3).iter().all(|&p| prefix(p as u32) == q16), "positions of {q:?}");
        }
    }
    println!("counts and positions agree with the suffix array ({sum})");
    Ok(())
}
