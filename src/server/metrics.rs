//! Health, readiness, and metrics in the Prometheus text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::App;
use super::problem::Problem;

/// Upper bounds of the latency buckets, in seconds.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

#[derive(Default)]
struct Histogram {
    /// Requests up to each bound and above the one before; the last: above all.
    buckets: [u64; BUCKETS.len() + 1],
    sum: f64,
}

/// Latency histograms by method, route and status. Routes are the router's patterns, so there are few.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, String, u16), Histogram>>,
    refused: AtomicU64,
}

impl Metrics {
    /// A connection was refused.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub fn observe(&self, method: &'static str, route: &str, status: u16, taken: Duration) {
        let seconds = taken.as_secs_f64();
        let mut requests = self.requests.lock().unwrap_or_else(|e| e.into_inner());
        let h = requests.entry((method, route.to_string(), status)).or_default();
        h.buckets[BUCKETS.partition_point(|&b| b < seconds)] += 1;
        h.sum += seconds;
    }
}

/// 200 while the process lives.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// 200 while requests are taken; 503 once the server drains.
pub async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    if app.draining.load(Ordering::Relaxed) {
        Err(Problem::overloaded("the server is stopping", 5))
    } else {
        Ok("ready\n")
    }
}

/// All metrics.
pub async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text(&app))
}

fn text(app: &App) -> String {
    let mut out = String::new();
    let name = "priorart_http_request_seconds";
    let _ = writeln!(out, "# HELP {name} Time from a request's head to its answer.\n# TYPE {name} histogram");
    for ((method, route, status), h) in app.metrics.requests.lock().unwrap_or_else(|e| e.into_inner()).iter() {
        let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
        let mut total = 0;
        for (i, n) in h.buckets.iter().enumerate() {
            total += n;
            let bound = BUCKETS.get(i).map_or("+Inf".to_string(), |b| b.to_string());
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {total}");
        }
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}\n{name}_count{{{labels}}} {total}", h.sum);
    }
    let (running, waiting) = app.work.load();
    gauge(&mut out, "priorart_expensive_running", "Expensive queries that run.", &[(String::new(), running as f64)]);
    gauge(&mut out, "priorart_expensive_waiting", "Expensive queries that wait.", &[(String::new(), waiting as f64)]);
    let each = |value: &dyn Fn(&super::Served) -> f64| -> Vec<(String, f64)> {
        app.indexes.iter().map(|s| (format!("{{index=\"{}\"}}", s.name), value(s))).collect()
    };
    gauge(
        &mut out,
        "priorart_index_generation",
        "Generation served.",
        &each(&|s| s.snapshot().manifest.generation as f64),
    );
    gauge(
        &mut out,
        "priorart_index_documents",
        "Documents served.",
        &each(&|s| s.snapshot().manifest.corpus.documents as f64),
    );
    gauge(&mut out, "priorart_index_tokens", "Tokens served.", &each(&|s| s.snapshot().manifest.corpus.tokens as f64));
    counter(
        &mut out,
        "priorart_index_reloads_total",
        "Generations taken up while serving.",
        &each(&|s| s.reloads().0 as f64),
    );
    counter(
        &mut out,
        "priorart_index_reload_errors_total",
        "Generations that could not be opened.",
        &each(&|s| s.reloads().1 as f64),
    );
    let none = |value: u64| [(String::new(), value as f64)];
    let refused = app.metrics.refused.load(Ordering::Relaxed);
    counter(&mut out, "priorart_connections_refused_total", "Connections beyond the limit.", &none(refused));
    let cache = crate::shard::cache_use();
    counter(&mut out, "priorart_block_cache_hits_total", "Document blocks found in the cache.", &none(cache.hits));
    counter(&mut out, "priorart_block_cache_misses_total", "Document blocks decompressed.", &none(cache.misses));
    gauge(&mut out, "priorart_block_cache_bytes", "Bytes of document blocks in the cache.", &none(cache.bytes));
    if let Some(bytes) = resident() {
        gauge(
            &mut out,
            "process_resident_memory_bytes",
            "Resident memory, mapped index pages included.",
            &[(String::new(), bytes as f64)],
        );
    }
    out
}

fn gauge(out: &mut String, name: &str, help: &str, values: &[(String, f64)]) {
    family(out, name, help, "gauge", values);
}

fn counter(out: &mut String, name: &str, help: &str, values: &[(String, f64)]) {
    family(out, name, help, "counter", values);
}

fn family(out: &mut String, name: &str, help: &str, kind: &str, values: &[(String, f64)]) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in values {
        let _ = writeln!(out, "{name}{labels} {value}");
    }
}

/// Resident memory, where the system tells it.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kb| kb * 1024)
}
