//! Our side of `benches/peers/run vectors`: builds and searches one kind of index over vectors in `.npy` files and
//! prints one JSON object. Run by `vectors.py`, which runs the peers on the same files.
//!
//! usage: vectors KIND BASE.npy QUERIES.npy TRUTH.npy DIR SETTING…
//!   KIND: flat-f32 | flat-f16 | flat-int8 | hnsw-int8 | hnsw-f16 | hnsw-f32 | hnsw_rs | ivf:FACTORY
//!   TRUTH: the exact k-th best score of every query, one column. SETTING: ef or nprobe values.
#![deny(unsafe_code)]

#[path = "../process.rs"]
mod process;

use std::path::Path;
use std::time::Instant;

use priorart::ann::{
    Element, FlatIndex, FlatWriter, Hit, HnswIndex, HnswParams, IvfIndex, IvfParams, MatrixReader, SearchParams,
    Source, VectorIndex, hnsw, ivf, rescore,
};
use process::{cpu_seconds, memory_kib};
use serde_json::{Value, json};

const K: usize = 10;
/// Passes over the queries that are timed, of which the fastest counts, and the seconds of a pass.
fn timing() -> (usize, f64) {
    let told = std::env::var("PRIORART_BENCH_TIMING").unwrap_or_default();
    let told = told.split_once(',').and_then(|(p, s)| Some((p.parse().ok()?, s.parse().ok()?)));
    told.unwrap_or((3, 1.0))
}

fn read(path: &str) -> priorart::Result<(usize, Vec<f32>)> {
    let mut matrix = MatrixReader::open(Path::new(path), None)?;
    let mut values = Vec::new();
    matrix.read(0..matrix.rows(), &mut values)?;
    Ok((matrix.dim(), values))
}

/// Best queries a second over a few passes: by CPU time and by wall time, on a pool of `threads`.
fn rate(count: usize, threads: usize, mut run: impl FnMut() + Send) -> (f64, f64) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
    pool.install(|| {
        run();
        let (mut by_cpu, mut by_wall) = (0f64, 0f64);
        let (passes, seconds) = timing();
        for _ in 0..passes {
            let (start, wall) = (cpu_seconds(), Instant::now());
            let mut times = 0;
            while wall.elapsed().as_secs_f64() < seconds {
                run();
                times += 1;
            }
            by_cpu = by_cpu.max((count * times) as f64 / (cpu_seconds() - start).max(0.01));
            by_wall = by_wall.max((count * times) as f64 / wall.elapsed().as_secs_f64());
        }
        (by_cpu, by_wall)
    })
}

/// Share of the true ten nearest that were found; rows as near as the tenth count.
fn recall(flat: &FlatIndex, queries: &[f32], truth: &[f32], found: &[Vec<Hit>]) -> priorart::Result<f64> {
    let mut right = 0;
    for ((hits, query), &least) in found.iter().zip(queries.chunks_exact(flat.dim())).zip(truth) {
        let mut hits = hits.clone();
        rescore(flat, query, &mut hits, K)?;
        right += hits.iter().filter(|hit| hit.score >= least - 1e-5).count();
    }
    Ok(right as f64 / (K * found.len()) as f64)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [kind, base, queries, truth, dir, settings @ ..] = args.as_slice() else {
        return Err("usage: vectors KIND BASE.npy QUERIES.npy TRUTH.npy DIR SETTING…".into());
    };
    let dir = Path::new(dir);
    std::fs::create_dir_all(dir)?;
    let (dim, queries) = read(queries)?;
    let (_, truth) = read(truth)?;
    let count = queries.len() / dim;
    let settings: Vec<usize> = settings.iter().filter_map(|s| s.parse().ok()).collect();
    let element: Element = match kind.rsplit_once('-') {
        Some((_, name)) if !kind.starts_with("ivf") => name.parse()?,
        _ => Element::Int8,
    };
    // Built by one run, measured by the next, so that the memory of building does not count.
    let (store, stored32, path) = (dir.join("vectors.bin"), dir.join("truth.bin"), dir.join(kind.replace(':', "-")));
    if settings.is_empty() {
        let (_, vectors) = read(base)?;
        let write = |path: &Path, element: Element| -> priorart::Result<()> {
            let mut writer = FlatWriter::create(path, dim, element)?;
            writer.push(&vectors)?;
            writer.finish()
        };
        write(&stored32, Element::F32)?;
        write(&store, Element::F16)?;
        let source = Source::memory(&vectors, dim)?;
        let params = HnswParams { element, ..Default::default() };
        let (start, wall) = (cpu_seconds(), Instant::now());
        match kind.split_once(':') {
            Some((_, factory)) => ivf::build(&source, &IvfParams { factory: factory.into(), train: 0 }, &path)?,
            None if kind.starts_with("hnsw_rs") => hnsw::build_with_hnsw_rs(&source, &params, &path)?,
            None if kind.starts_with("hnsw") => hnsw::build(&source, &params, &path)?,
            None => write(&path, element)?,
        }
        let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - start);
        println!("{}", json!({"build_seconds": wall, "build_cpu_seconds": cpu, "build_peak_kib": memory_kib("VmHWM")}));
        return Ok(());
    }
    let opening = Instant::now();
    let index: Box<dyn VectorIndex> = match kind.as_str() {
        flat if flat.starts_with("flat") => Box::new(FlatIndex::open(&path)?),
        graph if graph.starts_with("hnsw") => Box::new(HnswIndex::open(&path)?),
        _ => Box::new(IvfIndex::open(&path)?),
    };
    let open_seconds = opening.elapsed().as_secs_f64();
    let flat = FlatIndex::open(&store)?;
    let opened = memory_kib("VmRSS");
    let exact = FlatIndex::open(&stored32)?;
    let mut bytes = std::fs::metadata(&path)?.len();
    if let Ok(data) = std::fs::metadata(format!("{}.faiss", path.display())) {
        bytes += data.len();
    }
    let mut points: Vec<Value> = Vec::new();
    // Compressed steering vectors: the candidates are rescored from the f16 store, and that is timed too.
    let rough =
        (kind.starts_with("hnsw") && element == Element::Int8) || (kind.starts_with("ivf") && !kind.ends_with("Flat"));
    if rough {
        // A deployed index keeps them too.
        bytes += flat.bytes();
    }
    for &setting in &settings {
        let params = SearchParams { ef: setting, nprobe: setting };
        let wide = match (rough, kind.starts_with("ivf")) {
            (false, _) => K,
            (true, true) => 10 * K,
            (true, false) => (2 * K).min(setting.max(K)),
        };
        let run = || -> priorart::Result<Vec<Vec<Hit>>> {
            let mut found = index.search(&queries, wide, &params, None)?;
            if rough {
                use rayon::prelude::*;
                found
                    .par_iter_mut()
                    .zip(queries.par_chunks_exact(dim))
                    .try_for_each(|(hits, query)| rescore(&flat, query, hits, K))?;
            }
            Ok(found)
        };
        let found = run()?;
        let recall = recall(&exact, &queries, &truth, &found)?;
        let (one, _) = rate(count, 1, || drop(run()));
        let (two, wall) = rate(count, 2, || drop(run()));
        points.push(json!({"setting": setting, "recall": recall, "qps": one, "qps_2_wall": wall, "qps_2": 2.0 * two}));
    }
    println!(
        "{}",
        json!({
            "points": points, "bytes": bytes, "rows": index.len(), "open_seconds": open_seconds,
            "open_rss_kib": opened, "warm_rss_kib": memory_kib("VmRSS"), "dim": dim, "queries": count,
        })
    );
    Ok(())
}
