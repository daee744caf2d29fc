//! Tokenizers on real text: CPU time to open, megabytes per CPU-second, and agreement with the vocabularies' own encoder.
//!
//! `PRIORART_DATA=… cargo bench --bench tokenize`. One thread; CPU time is the thread's own, as the system counts it, so other
//! load on the machine disturbs it little. `tiktoken-rs` is timed on the same text.

use std::time::Instant;

use priorart::tokenize::{NamedBpe, Tokenizer, TokenizerKind};

/// CPU time of this thread in seconds (wall time where the system does not tell).
fn cpu() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let wall = START.get_or_init(Instant::now).elapsed().as_secs_f64();
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).map_or(wall, |ns| ns / 1e9)
}

fn timed<R>(work: impl FnOnce() -> R) -> (f64, R) {
    let start = cpu();
    let result = work();
    (cpu() - start, result)
}

fn texts(root: &str, files: &[&str]) -> anyhow::Result<Vec<String>> {
    let mut out = Vec::new();
    for file in files {
        let packed = std::fs::read(format!("{root}/corpora/{file}"))?;
        for line in zstd::stream::decode_all(&packed[..])?.split(|&b| b == b'\n').filter(|l| !l.is_empty()) {
            let record: serde_json::Value = serde_json::from_slice(line)?;
            out.push(record["text"].as_str().unwrap_or_default().to_owned());
        }
    }
    Ok(out)
}

fn main() -> anyhow::Result<()> {
    let Ok(root) = std::env::var("PRIORART_DATA") else {
        println!("skipped: PRIORART_DATA is not set");
        return Ok(());
    };
    let texts = texts(&root, &["debian-docs/part-0.jsonl.zst", "peps.jsonl.zst", "openstax-biology.jsonl.zst"])?;
    let megabytes = texts.iter().map(String::len).sum::<usize>() as f64 / 1e6;
    println!("{megabytes:.1} MB in {} texts", texts.len());
    println!("{:<22} {:>9} {:>12} {:>12} {:>11}", "tokenizer", "open s", "cold MB/s", "warm MB/s", "tokens");
    for name in Tokenizer::NAMES {
        let (open, tokenizer) = timed(|| Tokenizer::named(name));
        let tokenizer = tokenizer?;
        let mut ids = Vec::new();
        let mut run = || -> anyhow::Result<(f64, usize)> {
            let mut total = 0;
            let (time, result) = timed(|| -> anyhow::Result<()> {
                for text in &texts {
                    match &tokenizer.kind {
                        TokenizerKind::Closed(closed) => {
                            ids.clear();
                            closed.encode(text, &mut ids)?;
                            total += ids.len();
                        }
                        TokenizerKind::Open(open) => open.terms(text, &mut |_, _| total += 1),
                    }
                }
                Ok(())
            });
            result?;
            Ok((time, total))
        };
        let (cold, _) = run()?;
        let (warm, total) = run()?;
        println!("{name:<22} {open:>9.3} {:>12.1} {:>12.1} {total:>11}", megabytes / cold, megabytes / warm);
    }
    for named in NamedBpe::ALL {
        let (open, reference) = timed(|| match named {
            NamedBpe::Gpt2 => tiktoken_rs::r50k_base(),
            NamedBpe::Cl100k => tiktoken_rs::cl100k_base(),
            NamedBpe::O200k => tiktoken_rs::o200k_base(),
        });
        let reference = reference?;
        let (time, expected) = timed(|| texts.iter().map(|t| reference.encode_ordinary(t)).collect::<Vec<_>>());
        let total: usize = expected.iter().map(Vec::len).sum();
        let name = format!("tiktoken-rs {}", named.name());
        println!("{name:<22} {open:>9.3} {:>12} {:>12.1} {total:>11}", "", megabytes / time);
        let TokenizerKind::Closed(ours) = Tokenizer::named(named.name())?.kind else { continue };
        for (text, expected) in texts.iter().zip(&expected) {
            let mut ids = Vec::new();
            ours.encode(text, &mut ids)?;
            anyhow::ensure!(&ids == expected, "{} differs from tiktoken-rs", named.name());
        }
    }
    println!("all ids agree with tiktoken-rs");
    Ok(())
}
