//! `index-tools plan`: what each kind of vector index would cost for a corpus, before it is built.

use std::process::ExitCode;

use clap::Args;
use priorart::ann::{Element, Kind, plan};
use priorart::{Error, Result};

/// Say what the vector index of a corpus would cost, kind by kind, and which to take.
///
/// Bytes follow from the file formats; times and recalls are assumptions that the output states. `index-tools recall` measures an index
/// that exists.
#[derive(Args)]
pub struct Plan {
    /// Documents of the corpus
    #[arg(long, value_name = "N")]
    documents: u64,
    /// Encoder tokens of the corpus; about 4.5 bytes of English text each
    #[arg(long, value_name = "T")]
    tokens: u64,
    /// Encoder tokens in a chunk
    #[arg(long, default_value_t = 100, value_name = "TOKENS")]
    chunk_tokens: u64,
    /// Encoder tokens from one chunk to the next [default: as many as in a chunk]
    #[arg(long, value_name = "TOKENS")]
    chunk_stride: Option<u64>,
    /// Dimension of the embeddings
    #[arg(long, default_value_t = 384, value_name = "D")]
    dim: usize,
    /// Element type of the stored vectors that similarities are computed from
    #[arg(long, default_value = "f32", value_name = "TYPE")]
    store: Element,
    /// Chunks of 128 tokens that a core embeds in a second
    #[arg(long, default_value_t = 35.0, value_name = "RATE")]
    encode_rate: f64,
    /// Cores that build
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, |n| n.get() as u64), value_name = "N")]
    cores: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A number of bytes for people.
fn bytes(n: u64) -> String {
    let (mut value, mut unit) = (n as f64, "B");
    for next in ["kB", "MB", "GB", "TB", "PB"] {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    if unit == "B" { format!("{n} B") } else { format!("{value:.1} {unit}") }
}

/// A time for people.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

impl Plan {
    /// Runs the subcommand.
    pub fn run(self) -> Result<ExitCode> {
        let stride = self.chunk_stride.unwrap_or(self.chunk_tokens);
        if self.chunk_tokens == 0 || stride == 0 || stride > self.chunk_tokens {
            return Err(Error::invalid(format!(
                "chunks of {} tokens every {stride}: the stride must be 1 to the chunk's tokens",
                self.chunk_tokens
            )));
        }
        if self.cores == 0 || !self.encode_rate.is_finite() || self.encode_rate <= 0.0 || self.dim == 0 {
            return Err(Error::invalid("--cores, --encode-rate and --dim must be above 0"));
        }
        if self.documents > self.tokens {
            return Err(Error::invalid_hint(
                format!("{} documents of {} tokens in all", self.documents, self.tokens),
                "--tokens is the total of all documents",
            ));
        }
        // A document's last chunk is on average half full, unless it is the only one.
        let chunks =
            if self.documents == 0 { 0 } else { (self.tokens / stride + self.documents / 2).max(self.documents) };
        let plan = plan(chunks, self.dim);
        let stored = 64 + chunks * self.store.row_bytes(self.dim) as u64;
        let table = 12 * chunks;
        let embedding = chunks as f64 * self.chunk_tokens as f64 / 128.0 / self.encode_rate / self.cores as f64;
        let assumptions = [
            format!("{chunks} chunks: {} tokens every {stride}, half a chunk more a document", self.chunk_tokens),
            format!("embedding: {} chunks of 128 tokens a second and core (--encode-rate)", self.encode_rate),
            "scans read 8 GB/s a core; a graph of 100,000 takes 1 ms of a core an insertion at 384 dimensions".into(),
            "recall@10 after rescoring, by experience with text embeddings; measure it with `index-tools recall`"
                .into(),
            "kinds other than flat need their own bytes beside the stored vectors; flat searches those themselves"
                .into(),
        ];
        if self.json {
            let json = serde_json::json!({
                "documents": self.documents, "tokens": self.tokens, "chunks": chunks, "dim": self.dim, "cores": self.cores,
                "stored_vectors": {"element": self.store, "bytes": stored}, "chunk_table_bytes": table,
                "embedding_seconds": embedding, "choices": plan.choices, "recommended": plan.recommended,
                "reason": plan.reason, "assumptions": assumptions,
            });
            println!("{}", serde_json::to_string_pretty(&json).unwrap_or_default());
            return Ok(ExitCode::SUCCESS);
        }
        println!("chunks           {chunks} of {} dimensions", self.dim);
        println!("embedding        {} on {} cores", time(embedding), self.cores);
        println!("stored vectors   {} ({}), chunk table {}", bytes(stored), self.store.name(), bytes(table));
        println!();
        println!("   kind   settings             bytes       build    building     searching    query      recall@10");
        println!("                                                    memory       memory");
        for (i, c) in plan.choices.iter().enumerate() {
            println!(
                "{}  {:<6} {:<18} {:>10} {:>10} {:>11} {:>12} {:>10}   about {:.2}",
                if i == plan.recommended { "→" } else { " " },
                c.kind.name(),
                c.settings,
                bytes(c.bytes),
                time(c.build_seconds / self.cores as f64),
                bytes(c.build_memory),
                bytes(c.search_memory),
                time(c.query_seconds),
                c.recall
            );
        }
        let chosen = plan.choice();
        let flag = match chosen.kind {
            Kind::Flat => format!("--vector-index flat --store {}", chosen.settings),
            Kind::Ivf => format!("--vector-index ivf:{} (a build with --features faiss)", chosen.settings),
            _ => "--vector-index hnsw".into(),
        };
        println!("\nrecommended: {} {}: {}\n  priorart build {flag}", chosen.kind.name(), chosen.settings, plan.reason);
        println!("\nassumed:");
        assumptions.iter().for_each(|a| println!("  {a}"));
        Ok(ExitCode::SUCCESS)
    }
}
