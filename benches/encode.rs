//! Encoding throughput on given token windows; our side of `benches/peers/run encode`.
//!
//! `cargo bench --bench encode -- MODEL_DIR WINDOWS.json THREADS SECONDS [candle|portable|avx2|avx512]` where the file holds
//! a list of lists of token ids without special tokens. Prints one JSON line: windows/s by CPU time and wall time, GFLOP/s,
//! and the rate of the `gemm` crate on 1024³ measured just before.

use std::path::Path;
use std::time::Instant;

use priorart::embed::{BertEncoder, CandleEncoder, Encoder, Isa, OpenOptions};

/// CPU seconds of all threads of this process; wall time where the kernel does not tell.
fn cpu_seconds(start: Instant) -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let on_cpu = |task: std::fs::DirEntry| -> Option<f64> {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        Some(stat.split(' ').next()?.parse::<f64>().ok()? * 1e-9)
    };
    let total: f64 = tasks.filter_map(on_cpu).sum();
    if total > 0.0 { total } else { start.elapsed().as_secs_f64() }
}

/// GFLOP/s of a square single-precision product on one thread, by CPU time: the best of several.
fn sgemm_rate() -> f64 {
    let n = 1024;
    let (a, b, mut c) = (vec![0.5f32; n * n], vec![0.25f32; n * n], vec![0f32; n * n]);
    let mut best = 0f64;
    for _ in 0..12 {
        let start = cpu_seconds(Instant::now());
        let stride = n as isize;
        // SAFETY: three n × n row-major matrices that outlive the call.
        unsafe {
            gemm::gemm(
                n,
                n,
                n,
                c.as_mut_ptr(),
                1,
                stride,
                false,
                a.as_ptr(),
                1,
                stride,
                b.as_ptr(),
                1,
                stride,
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            )
        };
        best = best.max(2.0 * (n * n * n) as f64 / (cpu_seconds(Instant::now()) - start).max(1e-3) / 1e9);
    }
    std::hint::black_box(c);
    best
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [dir, windows, threads, seconds, rest @ ..] = args.as_slice() else {
        println!("skipped: pass MODEL_DIR WINDOWS.json THREADS SECONDS");
        return Ok(());
    };
    let ids: Vec<Vec<u32>> = serde_json::from_slice(&std::fs::read(windows)?)?;
    let windows: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
    let seconds: f64 = seconds.parse()?;
    let threads: usize = threads.parse()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let what = rest.first().map_or("best", String::as_str);
    let isa = Isa::available().into_iter().find(|i| i.name() == what).unwrap_or(Isa::detect());
    let fused = BertEncoder::open_isa(Path::new(dir), &OpenOptions::default(), isa)?;
    let operations: f64 = ids.iter().map(|w| fused.operations(w.len() + 2)).sum();
    let encoder: Box<dyn Encoder> =
        if what == "candle" { Box::new(CandleEncoder::open(Path::new(dir))?) } else { Box::new(fused) };
    let limit = sgemm_rate();
    pool.install(|| encoder.embed_ids(&windows[..windows.len().min(8)]))?;
    let (wall, cpu) = (Instant::now(), cpu_seconds(Instant::now()));
    let mut rounds = 0;
    while rounds == 0 || wall.elapsed().as_secs_f64() < seconds {
        std::hint::black_box(pool.install(|| encoder.embed_ids(&windows))?);
        rounds += 1;
    }
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds(wall) - cpu);
    let done = (rounds * windows.len()) as f64;
    let line = serde_json::json!({
        "encoder": what, "isa": isa.name(), "threads": threads, "windows": done,
        "per_cpu_second": done / cpu, "per_wall_second": done / wall,
        "gflops_per_cpu_second": operations * rounds as f64 / cpu / 1e9, "sgemm_gflops": limit,
    });
    println!("{line}");
    Ok(())
}
