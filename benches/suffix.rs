//! The suffix array's kernels on a raw stream of two-byte tokens.
//!
//! `cargo bench --bench suffix -- FILE SEPARATOR` where FILE holds little-endian u16 ids, each document ended by SEPARATOR. Prints the
//! cost of sorting, beside that of the `suffix` crate on the same letters, of building and, for each query length, of single and batched queries (median over rounds, one thread). Queries
//! are n-grams of the stream at seeded random places.

use std::time::Instant;

use priorart::format::Pages;
use priorart::suffix::layout::{self, SuffixMeta};
use priorart::suffix::{SuffixView, sort};
use rand::{Rng, SeedableRng};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    let (Some(path), Some(sep)) = (args.next(), args.next()) else {
        println!("skipped: pass a file of u16 tokens and the separator's id");
        return Ok(());
    };
    let sep: u32 = sep.parse()?;
    let raw = std::fs::read(&path)?;
    let stream: Vec<u16> = raw.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    sorters(&stream)?;
    let documents = stream.iter().filter(|&&t| t as u32 == sep).count();
    let start = Instant::now();
    let sa = sort::suffix_array(&stream, sep)?;
    let sorted = start.elapsed();
    let meta = SuffixMeta::new(stream.len() as u64, documents as u64, sep);
    let start = Instant::now();
    let mut blocks = Vec::with_capacity(meta.blocks_bytes());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let top = pool.install(|| layout::write(&stream, &sa, &meta, &mut blocks))?;
    println!(
        "tokens {} documents {documents} sort {:.2} s layout {:.2} s (one thread)",
        stream.len(),
        sorted.as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
    let bytes = blocks.len() + top.keys.len() * 8 + top.runs.len() + stream.len() * 2;
    println!("bytes/token {:.3} ({meta:?})", bytes as f64 / stream.len() as f64);
    drop(sa);
    let view = SuffixView::new(&stream, &blocks, &top.keys, &top.runs, meta)?;
    println!("\nsmall pages");
    queries(&view, sep);
    let (in_pages, blocks) = (pages(&stream)?, pages(&blocks)?);
    let (keys, runs) = (pages(&top.keys)?, pages(&top.runs)?);
    println!("\nhuge pages");
    queries(&SuffixView::new(&in_pages, &blocks, &keys, &runs, meta)?, sep);
    Ok(())
}

/// A copy in huge pages.
fn pages<T: bytemuck::Pod>(items: &[T]) -> anyhow::Result<Pages<T>> {
    let mut out = Pages::with_capacity(items.len());
    out.extend(items.len(), items.iter().copied())?;
    Ok(out)
}

fn queries(view: &SuffixView<u16>, sep: u32) {
    let stream = view.tokens();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    println!(
        "{:>4} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "n", "p50 ns", "p99 ns", "batch ns", "sorted ns", "mean count"
    );
    for n in [1usize, 2, 3, 4, 5, 8, 13, 20] {
        // Copied, so that reading the query is not one more miss of the stream.
        let mut ids: Vec<u16> = Vec::new();
        while ids.len() < 100_000 * n {
            let at = rng.random_range(0..stream.len() - n);
            let q = &stream[at..at + n];
            if !q.contains(&(sep as u16)) {
                ids.extend_from_slice(q);
            }
        }
        let queries: Vec<&[u16]> = ids.chunks_exact(n).collect();
        let mut times = Vec::new();
        let mut total = 0usize;
        for q in &queries {
            let t = Instant::now();
            total += view.interval(q).len();
            times.push(t.elapsed().as_nanos() as u64);
        }
        times.sort();
        let t = Instant::now();
        let batch: usize = view.intervals(&queries).iter().map(|r| r.len()).sum();
        let each = t.elapsed().as_nanos() as f64 / queries.len() as f64;
        assert_eq!(batch, total);
        let mut sorted = queries.clone();
        sorted.sort_unstable();
        let t = Instant::now();
        let batch: usize = view.intervals(&sorted).iter().map(|r| r.len()).sum();
        let in_order = t.elapsed().as_nanos() as f64 / queries.len() as f64;
        assert_eq!(batch, total);
        println!(
            "{n:>4} {:>10} {:>10} {each:>10.0} {in_order:>10.0} {:>10.1}",
            times[times.len() / 2],
            times[times.len() * 99 / 100],
            total as f64 / queries.len() as f64
        );
    }
    for n in [1usize, 2, 3] {
        let mut times = Vec::new();
        let mut distinct = 0;
        for _ in 0..300 {
            let at = rng.random_range(0..stream.len() - n);
            let q = &stream[at..at + n];
            if q.contains(&(sep as u16)) {
                continue;
            }
            let t = Instant::now();
            let next = view.next_tokens(view.interval(q), n);
            times.push(t.elapsed().as_nanos() as f64 / 1e3);
            distinct += next.len();
        }
        times.sort_by(f64::total_cmp);
        println!(
            "next n={n}: p05 {:.1} p50 {:.1} µs, mean distinct {}",
            times[times.len() / 20],
            times[times.len() / 2],
            distinct / times.len()
        );
    }
    // Texts of 500 tokens: the stream's own 12-token pieces in random order, so that matches end as often as in a model's output.
    let mut times = Vec::new();
    let mut spans = 0;
    for _ in 0..200 {
        let mut text = Vec::new();
        while text.len() < 500 {
            let at = rng.random_range(0..stream.len() - 12);
            text.extend_from_slice(&stream[at..at + rng.random_range(3..12)]);
        }
        text.truncate(500);
        let t = Instant::now();
        let longest = view.longest_at_each(&text, usize::MAX);
        let mut reach = 0;
        for (i, l) in longest.iter().enumerate() {
            if i + l.tokens > reach {
                reach = i + l.tokens;
                spans += view.interval_around(l.rank, l.tokens).len().min(1);
            }
        }
        times.push(t.elapsed().as_nanos() as f64 / 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!("trace 500: p50 {:.0} p95 {:.0} µs, {} maximal spans a text", times[100], times[190], spans / 200);
}

/// Seconds that the production sorter and the `suffix` crate take on real text made of letters, and on copies of one part of it: the
/// crate sorts UTF-8 only, so tokens become letters.
fn sorters(stream: &[u16]) -> anyhow::Result<()> {
    let letters: String = stream.iter().take(4 << 20).map(|t| char::from(b'a' + (t % 26) as u8)).collect();
    let part = &letters[..letters.len().min(100_000)];
    println!("{:>22} {:>10} {:>10} {:>10}", "sorting", "bytes", "libsais s", "suffix s");
    for (what, text) in [
        ("text", letters[..letters.len().min(1 << 20)].to_string()),
        ("text", letters.clone()),
        ("copies", part.repeat(10)),
    ] {
        let text = text + "\u{7f}";
        let start = Instant::now();
        let ours = sort::suffix_array(text.as_bytes(), 0x7f)?;
        let libsais = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let theirs = suffix::SuffixTable::new(&text);
        let baseline = start.elapsed().as_secs_f64();
        assert_eq!(&*ours, theirs.table());
        println!("{what:>22} {:>10} {libsais:>10.3} {baseline:>10.3}", text.len());
    }
    Ok(())
}
