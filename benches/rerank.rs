//! MaxSim throughput on given token states; our side of `benches/peers/run rerank`.
//!
//! `cargo bench --bench rerank -- STATES.f32 DIM QUERY_TOKENS DOCUMENT_TOKENS THREADS SECONDS` where the file holds the rows of
//! one query and then those of any number of documents, little-endian f32. Prints one JSON line with documents/s and the
//! scores' sum, for comparison with the peer's.

use std::time::Instant;

use priorart::embed::late::{PackedQuery, TokenMatrix};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [path, rest @ ..] = args.as_slice() else {
        println!("skipped: pass STATES.f32 DIM QUERY_TOKENS DOCUMENT_TOKENS THREADS SECONDS");
        return Ok(());
    };
    let numbers = rest.iter().map(|a| a.parse()).collect::<Result<Vec<usize>, _>>()?;
    let [dim, query, document, threads, seconds] = numbers[..] else { anyhow::bail!("five numbers are needed") };
    let bytes = std::fs::read(path)?;
    let data: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    let (q, d) = data.split_at(query * dim);
    let documents: Vec<TokenMatrix<'_>> =
        d.chunks_exact(document * dim).map(|data| TokenMatrix { dim, data }).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let score = || pool.install(|| PackedQuery::new(TokenMatrix { dim, data: q }).score_all(&documents));
    let sum: f64 = score().iter().map(|&s| s as f64).sum();
    let start = Instant::now();
    let mut rounds = 0;
    let mut best = f64::INFINITY;
    while start.elapsed().as_secs() < seconds as u64 {
        let one = Instant::now();
        std::hint::black_box(score());
        best = best.min(one.elapsed().as_secs_f64());
        rounds += 1;
    }
    let rate = (rounds * documents.len()) as f64 / start.elapsed().as_secs_f64();
    let line = serde_json::json!({"documents_per_second": rate, "best_ms": best * 1e3, "sum": sum});
    println!("{line}");
    Ok(())
}
