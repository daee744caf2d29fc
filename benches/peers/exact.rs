//! Our side of `benches/peers/run exact`, run by `exact.py`, which runs the peers on the same tokens and queries. Prints one JSON
//! object.
//!
//! usage: exact export INDEX OUT          the token stream of an index of one shard of two-byte tokens, and its sizes
//!        exact sort TOKENS SEPARATOR     the suffix part of a build, on one thread: CPU seconds and peak memory
//!        exact query INDEX QUERIES.json RESIDENT  latencies, in microseconds a query, through the library's own calls, with so
//!                                        many bytes of memory for a copy of the index
#![deny(unsafe_code)]

#[path = "../process.rs"]
mod process;

use std::path::Path;
use std::time::Instant;

use priorart::format::Pages;
use priorart::index::Snapshot;
use priorart::query::Ngram;
use priorart::query::boolean::Expression;
use priorart::query::count::NgramList;
use priorart::suffix::Token;
use priorart::suffix::layout::{self, SuffixMeta};
use priorart::suffix::sort;
use process::{cpu_seconds, memory_kib};
use serde_json::{Map, Value, json};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let answer = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["export", index, out] => export(index, out)?,
        ["sort", tokens, separator] => sorted(tokens, separator.parse()?)?,
        ["query", index, queries, resident] => query(index, queries, resident.parse()?)?,
        _ => {
            println!("skipped: run by `benches/peers/run exact`");
            return Ok(());
        }
    };
    println!("{answer}");
    Ok(())
}

fn export(index: &str, out: &str) -> anyhow::Result<Value> {
    let snapshot = Snapshot::open(Path::new(index))?;
    anyhow::ensure!(snapshot.shards.len() == 1, "the index has {} shards, not one", snapshot.shards.len());
    let shard = &snapshot.shards[0];
    let ids: Vec<u16> = priorart::with_view!(shard.exact, v => {
        let positions = shard.documents.tokens() as usize;
        v.read(0..positions).iter().map(|t| t.id() as u16).collect()
    });
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    std::fs::write(out, bytes)?;
    Ok(
        json!({ "separator": shard.separator(), "tokens": ids.len(), "documents": snapshot.manifest.totals().documents }),
    )
}

fn sorted(tokens: &str, separator: u32) -> anyhow::Result<Value> {
    let raw = std::fs::read(tokens)?;
    // As a build holds it.
    let mut stream: Pages<u16> = Pages::with_capacity(raw.len() / 2);
    stream.extend(raw.len() / 2, raw.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])))?;
    drop(raw);
    let documents = stream.iter().filter(|&&t| t as u32 == separator).count();
    let meta = SuffixMeta::new(stream.len() as u64, documents as u64, separator);
    let start = (cpu_seconds(), Instant::now());
    let suffix_array = sort::suffix_array(&stream, separator)?;
    let sorted = cpu_seconds() - start.0;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let mut blocks = tempfile::tempfile()?;
    pool.install(|| layout::write(&stream, &suffix_array, &meta, &mut blocks))?;
    Ok(json!({
        "cpu": cpu_seconds() - start.0, "of which sorting": sorted, "wall": start.1.elapsed().as_secs_f64(),
        "peak_kib": memory_kib("VmHWM"),
    }))
}

/// Microseconds of each call, sorted.
fn each<Q>(queries: &[Q], mut run: impl FnMut(&Q)) -> Vec<f64> {
    let mut times: Vec<f64> = queries
        .iter()
        .map(|q| {
            let start = Instant::now();
            run(q);
            start.elapsed().as_nanos() as f64 / 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

fn summary(times: &[f64]) -> Value {
    json!({ "p05": times[times.len() / 20], "p50": times[times.len() / 2], "p99": times[times.len() * 99 / 100] })
}

fn query(index: &str, queries: &str, resident: u64) -> anyhow::Result<Value> {
    let start = Instant::now();
    let snapshot = Snapshot::open_resident(Path::new(index), resident)?;
    let opened = start.elapsed();
    let asked: Value = serde_json::from_slice(&std::fs::read(queries)?)?;
    let list = |value: &Value| -> anyhow::Result<Vec<Ngram>> {
        let ids: Vec<Vec<u32>> = serde_json::from_value(value.clone())?;
        Ok(ids.into_iter().map(Ngram::Ids).collect())
    };
    let mut out = Map::new();
    out.insert("open_ms".into(), json!(opened.as_secs_f64() * 1e3));
    for (name, value) in asked.as_object().into_iter().flatten() {
        let kind = name.split(' ').next().unwrap_or_default();
        let mut sums = 0u64;
        // Once unmeasured: the question is the warm cache.
        let mut run = |pass: usize| -> anyhow::Result<Option<Vec<f64>>> {
            let times = match kind {
                "count" => each(&list(value)?, |q| sums += snapshot.count(q)),
                // The peers give counts of ids; with texts, as `priorart next` prints them, it is another row.
                "next" => {
                    let prompts = list(value)?;
                    if pass > 0 {
                        let texts = each(&prompts, |q| drop(std::hint::black_box(snapshot.next(q, 0))));
                        out.insert(name.replace("next", "next, texts"), summary(&texts));
                    }
                    each(&prompts, |q| sums += snapshot.next_counts(q).map_or(0, |c| c.followers.len() as u64))
                }
                "infgram" => {
                    let prompts: Vec<(Ngram, Ngram)> =
                        list(value)?.iter().map(|q| (q.slice(0..q.len() - 1), q.slice(q.len() - 1..q.len()))).collect();
                    each(&prompts, |(p, t)| sums += snapshot.infgram_probability(p, t).map_or(0, |p| p.count))
                }
                "and" => {
                    let pairs: Vec<Expression> = value
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(|pair| Ok(Expression::all(list(pair)?)))
                        .collect::<anyhow::Result<_>>()?;
                    each(&pairs, |e| sums += snapshot.boolean_count(e, None).map_or(0, |c| c.count))
                }
                "trace" => each(&list(value)?, |q| sums += snapshot.maximal_spans(q).len() as u64),
                "batch" => {
                    let all = list(value)?;
                    let mut ids = NgramList::default();
                    for ngram in &all {
                        let Ngram::Ids(ngram) = ngram else { continue };
                        ids.push(ngram);
                    }
                    // Often enough that the clock of CPU time, which ticks a hundred times a second, tells.
                    let mut batches =
                        |what: &str, counts: &dyn Fn() -> anyhow::Result<Vec<u64>>| -> anyhow::Result<f64> {
                            const TIMES: usize = 20;
                            let start = (Instant::now(), cpu_seconds());
                            for _ in 0..TIMES {
                                sums += counts()?.iter().sum::<u64>();
                            }
                            let scale = 1e6 / (all.len() * TIMES) as f64;
                            let by_cpu = (cpu_seconds() - start.1) * scale;
                            let wall = start.0.elapsed().as_secs_f64() * scale;
                            if pass > 0 {
                                out.insert(what.into(), json!({ "wall": wall, "cpu": by_cpu }));
                            }
                            Ok(wall)
                        };
                    batches("batch of n-grams", &|| Ok(snapshot.counts(&all)))?;
                    vec![batches("batch of a list", &|| Ok(snapshot.counts_of(&ids)?))?]
                }
                _ => return Ok(None),
            };
            Ok(Some(times))
        };
        run(0)?;
        if let Some(times) = run(1)? {
            let mut row = summary(&times);
            row["sum"] = json!(sums);
            out.insert(name.clone(), row);
        }
    }
    out.insert("resident_kib".into(), json!(memory_kib("VmRSS")));
    Ok(Value::Object(out))
}
