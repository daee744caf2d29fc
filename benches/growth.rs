//! How the exact index grows: one shard of 10 M tokens to a billion, made of real text repeated with seeded edits.
//!
//! usage: growth make TOKENS.u16 SEPARATOR DIR N   builds a shard of N tokens in DIR; prints what it cost
//!        growth ask DIR [EACH]                    opens it and counts n-grams of it, mapped and resident
//!        growth cold DIR ID,ID,…                  opens it and counts one n-gram; for a driver that looks at the page cache
//!
//! Run by `benches/peers/run growth`. Each prints one JSON object.
#![deny(unsafe_code)]

#[path = "process.rs"]
mod process;

use std::path::Path;
use std::time::Instant;

use priorart::format::Pages;
use priorart::shard::exact::{self, ExactIndex, Part};
use priorart::shard::{Layout, SHARD_JSON, ShardMeta};
use priorart::store::DiskStore;
use priorart::suffix::layout::SuffixMeta;
use priorart::tokenize::TokenizerSpec;
use priorart::with_view;
use process::{cpu_seconds, memory_kib};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// One token in so many is replaced in every copy after the first.
const EDIT: u32 = 16;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let answer = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["make", tokens, separator, dir, n] => make(tokens, separator.parse()?, Path::new(dir), n.parse()?)?,
        ["ask", dir] => ask(Path::new(dir), 100_000)?,
        ["ask", dir, each] => ask(Path::new(dir), each.parse()?)?,
        ["cold", dir, ids] => cold(Path::new(dir), ids)?,
        _ => {
            println!("skipped: run by `benches/peers/run growth`");
            return Ok(());
        }
    };
    println!("{answer}");
    Ok(())
}

/// `n` tokens: the text, then copies of it in which one token in [`EDIT`] is another one of the text. Ends with a separator.
fn grown(text: &[u16], separator: u16, n: usize) -> anyhow::Result<Pages<u16>> {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut out = Pages::with_capacity(n);
    let mut first = true;
    while out.len() < n {
        for part in text.chunks(1 << 16) {
            let part = &part[..part.len().min(n - out.len())];
            if first {
                out.extend(part.len(), part.iter().copied())?;
                continue;
            }
            let edited = part.iter().map(|&t| match t != separator && rng.random_ratio(1, EDIT) {
                // The separator is drawn rarely; the token stays then.
                true => Some(text[rng.random_range(0..text.len())]).filter(|&u| u != separator).unwrap_or(t),
                false => t,
            });
            out.extend(part.len(), edited)?;
        }
        first = false;
    }
    if let Some(last) = out.last_mut() {
        *last = separator;
    }
    Ok(out)
}

fn make(tokens: &str, separator: u32, dir: &Path, n: usize) -> anyhow::Result<Value> {
    let raw = std::fs::read(tokens)?;
    let text: Vec<u16> = raw.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    drop(raw);
    let stream = grown(&text, separator as u16, n)?;
    let documents = stream.iter().filter(|&&t| t as u32 == separator).count() as u64;
    std::fs::create_dir_all(dir)?;
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let suffix = exact::write(&DiskStore, dir, &stream, documents, separator, Layout::Fast)?;
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let tokenizer = TokenizerSpec { kind: "gpt2".into(), sha256: String::new(), vocab: Some(separator), path: None };
    let meta = ShardMeta {
        documents,
        tokens: suffix.ranks,
        text_bytes: 0,
        tokenizer,
        width: 2,
        layout: Layout::Fast,
        detokenized: false,
        source: None,
        terms: None,
        suffix,
    };
    std::fs::write(dir.join(SHARD_JSON), serde_json::to_vec(&meta)?)?;
    let files = [exact::TOKENS_BIN, exact::SUFFIX_BIN, exact::TOP_BIN, exact::RUNS_BIN];
    let mut bytes = 0;
    for file in files {
        bytes += std::fs::metadata(dir.join(file))?.len();
    }
    Ok(json!({
        "tokens": stream.len(), "documents": documents, "cpu_s": cpu, "wall_s": wall, "peak_kib": memory_kib("VmHWM"),
        "bytes_per_token": bytes as f64 / stream.len() as f64,
    }))
}

/// N-grams of seeded places, one list for each length, copied.
fn ngrams(index: &ExactIndex, meta: &SuffixMeta, n: usize, each: usize) -> Vec<Vec<u16>> {
    let mut rng = ChaCha8Rng::seed_from_u64(n as u64);
    let mut out = Vec::with_capacity(each);
    with_view!(index, v => {
        while out.len() < each {
            let at = rng.random_range(0..meta.stream as usize - n);
            let ids: Vec<u16> = v.read(at..at + n).iter().map(|&t| priorart::suffix::Token::id(t) as u16).collect();
            if !ids.iter().any(|&id| id as u32 == meta.separator) {
                out.push(ids);
            }
        }
    });
    out
}

fn ask(dir: &Path, each: usize) -> anyhow::Result<Value> {
    let meta = ShardMeta::read(dir)?;
    let start = Instant::now();
    let mut index = ExactIndex::open(dir, &meta)?;
    let open = start.elapsed().as_secs_f64() * 1e3;
    let queries: Vec<(usize, Vec<Vec<u16>>)> =
        [1, 3, 5, 8, 20].iter().map(|&n| (n, ngrams(&index, &meta.suffix, n, each))).collect();
    let mut out = json!({ "tokens": meta.suffix.stream, "open_ms": open });
    out["mapped"] = latencies(&index, &queries);
    let start = Instant::now();
    let mut budget = u64::MAX;
    for part in Part::ALL {
        index.make_resident(part, &mut budget)?;
    }
    out["resident_s"] = json!(start.elapsed().as_secs_f64());
    out["resident_bytes"] = json!(u64::MAX - budget);
    out["resident"] = latencies(&index, &queries);
    Ok(out)
}

/// Nanoseconds of a count, alone and in a batch, on one thread, for each length of n-gram. Once unmeasured: the cache is warm.
fn latencies(index: &ExactIndex, queries: &[(usize, Vec<Vec<u16>>)]) -> Value {
    let exact::AnyView::U16(view) = index.view() else { return Value::Null };
    let mut out = json!({});
    for (n, queries) in queries {
        let slices: Vec<&[u16]> = queries.iter().map(Vec::as_slice).collect();
        let mut times = Vec::with_capacity(queries.len());
        let mut sum = 0;
        for pass in 0..2 {
            times.clear();
            sum = 0;
            for query in &slices {
                let start = Instant::now();
                sum += view.interval(query).len();
                times.push(start.elapsed().as_nanos() as u64);
            }
            if pass == 0 {
                std::hint::black_box(sum);
            }
        }
        times.sort_unstable();
        let start = Instant::now();
        let batch: usize = view.intervals(&slices).iter().map(|r| r.len()).sum();
        let each = start.elapsed().as_nanos() as f64 / slices.len() as f64;
        assert_eq!(batch, sum);
        out[format!("count {n}")] = json!({
            "p50": times[times.len() / 2], "p99": times[times.len() * 99 / 100], "batch": each,
            "mean_count": sum as f64 / slices.len() as f64,
        });
    }
    out
}

fn cold(dir: &Path, ids: &str) -> anyhow::Result<Value> {
    let ids = ids.split(',').map(str::parse).collect::<Result<Vec<u16>, _>>()?;
    let index = ExactIndex::open(dir, &ShardMeta::read(dir)?)?;
    let exact::AnyView::U16(view) = index.view() else { anyhow::bail!("not a shard of two-byte tokens") };
    Ok(json!({ "count": view.interval(&ids).len() }))
}
