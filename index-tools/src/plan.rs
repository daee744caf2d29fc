//! `index-tools plan`: what an index would cost, before it is built: from a sample of the corpus, or from numbers.

use std::process::ExitCode;

use clap::Args;
use priorart::ann::{Element, Kind, plan};
use priorart::index::build::shard_tokens;
use priorart::shard::Layout;
use priorart::shard::build::{bytes_per_token, disk_bytes_per_token};
use priorart::suffix::layout::{RUNS_PER_TOKEN, TOP_PER_TOKEN};
use priorart::tokenize::Tokenizer;
use priorart::{Error, Result};

use crate::sample::{self, Sampled};

/// Say what an index would cost: shards, bytes of each part, memory, CPU hours, embedding hours, and which vector index to take.
///
/// With PATHS, a sample of the corpus is read, tokenised, indexed and (with --encoder) embedded with a clock running, and scaled up, on
/// request to a larger corpus of the same kind (--text-bytes). Without, the numbers are those given, and the rates assumptions that the
/// output states. `index-tools recall` measures the recall of an index that exists.
#[derive(Args)]
pub struct Plan {
    /// Files or directories of the corpus, or of a part of it
    #[arg(value_name = "PATH")]
    paths: Vec<std::path::PathBuf>,
    /// Text to read of them at most, in megabytes
    #[arg(long, default_value_t = 32, value_name = "MB")]
    sample: u64,
    /// Bytes of text of the whole corpus, such as 15e12 [default: those of the files; from --tokens at 4.5 bytes each]
    #[arg(long, value_name = "BYTES")]
    text_bytes: Option<f64>,
    /// Tokenizer of the token stream
    #[arg(long, default_value = "gpt2", value_name = "NAME")]
    tokenizer: String,
    /// Memory of a build, in megabytes: decides the size of a shard
    #[arg(long, default_value_t = 4096, value_name = "MB")]
    memory: u64,
    /// Time this encoder on the sample: a name of the catalog or a model directory
    #[arg(long, value_name = "NAME", requires = "paths")]
    encoder: Option<String>,
    /// Speed of a core of the machine to plan for, as a multiple of this machine's
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    core_speed: f64,
    /// Documents of the corpus
    #[arg(long, value_name = "N", required_unless_present = "paths", conflicts_with = "paths")]
    documents: Option<u64>,
    /// Encoder tokens of the corpus; about 4.5 bytes of English text each
    #[arg(long, value_name = "T", required_unless_present = "paths", conflicts_with = "paths")]
    tokens: Option<u64>,
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
    /// Chunks of 128 tokens that a core embeds in a second [default: measured with --encoder, else 35]
    #[arg(long, value_name = "RATE")]
    encode_rate: Option<f64>,
    /// Cores that build, of all machines together
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

/// Text a core reads and tokenises in a second, in bytes, where nothing was measured.
const TOKENIZE: f64 = 16e6;
/// Tokens a core sorts and writes in a second, where nothing was measured.
const WRITE: f64 = 3.5e6;
/// Bytes of text an encoder token stands for, where nothing was measured.
const TOKEN_TEXT: f64 = 4.5;
/// Bytes of text a token of the stream stands for, where nothing was measured.
const STREAM_TEXT: f64 = 4.0;
/// How many times smaller stored documents are than their text, where nothing was measured.
const COMPRESSION: f64 = 2.7;

/// Size and cost of everything but the vectors.
#[derive(serde::Serialize)]
struct Exact {
    documents: u64,
    text_bytes: f64,
    tokens: f64,
    shards: u64,
    tokens_per_shard: u64,
    /// Bytes by part.
    parts: Vec<(&'static str, f64)>,
    bytes: f64,
    /// Memory of each task of the build, bytes.
    build_memory: u64,
    /// Memory that answers at full speed: the top levels and the term dictionaries.
    resident: f64,
    cpu_hours: f64,
    wall_hours: f64,
    encoder_tokens: f64,
}

impl Plan {
    fn exact(&self, tokenizer: &Tokenizer, sampled: Option<&Sampled>) -> Result<Exact> {
        let (documents, text_bytes, tokens, cpu_seconds, stored, terms, encoder_tokens);
        match sampled {
            Some(s) => {
                let whole = s.text_bytes as f64 * s.disk_bytes.max(1) as f64 / s.sampled_disk_bytes.max(1) as f64;
                text_bytes = self.text_bytes.unwrap_or(whole);
                let scale = text_bytes / s.text_bytes.max(1) as f64;
                let file = |name: &str| s.files.iter().find(|f| f.0 == name).map_or(0, |f| f.1) as f64;
                documents = s.documents as f64 * scale;
                tokens = s.tokens as f64 * scale;
                stored = (file("documents.bin") * scale, file("documents.idx") * scale);
                terms = file("terms.bin");
                cpu_seconds = (s.tokenize_seconds + s.write_seconds) * scale;
                encoder_tokens = match &s.encoder {
                    Some(e) => text_bytes * e.tokens as f64 / e.text_bytes.max(1) as f64,
                    None => text_bytes / TOKEN_TEXT,
                };
            }
            None => {
                encoder_tokens = self.tokens.unwrap_or(0) as f64;
                text_bytes = self.text_bytes.unwrap_or(encoder_tokens * TOKEN_TEXT);
                documents = self.documents.unwrap_or(0) as f64;
                tokens = text_bytes / STREAM_TEXT;
                stored = (text_bytes / COMPRESSION, documents * 56.0);
                terms = 0.0;
                cpu_seconds = text_bytes / TOKENIZE + tokens / WRITE;
            }
        }
        let memory = self.memory.saturating_mul(1_000_000);
        let tokens_per_shard = shard_tokens(tokenizer, memory, Layout::Fast)?;
        let shards = (tokens / tokens_per_shard as f64).ceil().max(1.0);
        let in_shard = (tokens / shards) as u64;
        let each = disk_bytes_per_token(tokenizer, in_shard, Layout::Fast);
        let (top, runs) = (TOP_PER_TOKEN, RUNS_PER_TOKEN);
        let pointers = (64 - in_shard.saturating_sub(1).leading_zeros()).max(1) as f64 / 8.0;
        let suffix = pointers + 1.0 + 8.0 / 64.0;
        let mut parts = vec![
            ("tokens.bin", tokens * (each - suffix - top - runs)),
            ("suffix.bin", tokens * suffix),
            ("top.bin", tokens * top),
            ("runs.bin", tokens * runs),
            ("documents.bin", stored.0),
            ("documents.idx", stored.1),
        ];
        if terms > 0.0 {
            // A dictionary grows with about the square root of its text (Heaps' law).
            let growth = sampled.map_or(1.0, |s| (in_shard as f64 / s.tokens.max(1) as f64).max(0.0).sqrt());
            parts.push(("terms.bin", terms * growth * shards));
        }
        let resident = tokens * (top + runs) + parts.iter().filter(|p| p.0 == "terms.bin").map(|p| p.1).sum::<f64>();
        let cpu_hours = cpu_seconds / 3600.0 / self.core_speed;
        Ok(Exact {
            documents: documents as u64,
            text_bytes,
            tokens,
            shards: shards as u64,
            tokens_per_shard,
            bytes: parts.iter().map(|p| p.1).sum(),
            parts,
            build_memory: memory.min((320 << 20) + (in_shard * (bytes_per_token(tokenizer, Layout::Fast) + 4))),
            resident,
            cpu_hours,
            wall_hours: cpu_hours / self.cores as f64,
            encoder_tokens,
        })
    }

    /// Runs the subcommand.
    pub fn run(self) -> Result<ExitCode> {
        let stride = self.chunk_stride.unwrap_or(self.chunk_tokens);
        if self.chunk_tokens == 0 || stride == 0 || stride > self.chunk_tokens {
            return Err(Error::invalid(format!(
                "chunks of {} tokens every {stride}: the stride must be 1 to the chunk's tokens",
                self.chunk_tokens
            )));
        }
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let rates = [self.core_speed, self.encode_rate.unwrap_or(1.0), self.text_bytes.unwrap_or(1.0)];
        if self.cores == 0 || self.dim == 0 || !rates.iter().all(|&r| positive(r)) {
            return Err(Error::invalid("--cores, --core-speed, --encode-rate, --text-bytes and --dim must be above 0"));
        }
        if self.documents > self.tokens {
            return Err(Error::invalid_hint(
                format!("{} documents of {} tokens in all", self.documents.unwrap_or(0), self.tokens.unwrap_or(0)),
                "--tokens is the total of all documents",
            ));
        }
        let tokenizer = Tokenizer::open(&self.tokenizer)?;
        let sampled = match self.paths.is_empty() {
            true => None,
            false => {
                let most = self.sample.max(1).saturating_mul(1_000_000);
                Some(sample::take(&self.paths, &tokenizer, self.encoder.as_deref(), most)?)
            }
        };
        let exact = self.exact(&tokenizer, sampled.as_ref())?;
        let measured = sampled.as_ref().and_then(|s| s.encoder.as_ref());
        let dim = measured.map_or(self.dim, |e| e.dim);
        let encode_rate = match (self.encode_rate, measured) {
            (Some(rate), _) => rate,
            (None, Some(e)) => e.windows as f64 / e.seconds * self.core_speed,
            (None, None) => 35.0 * self.core_speed,
        };
        let (documents, tokens) = (exact.documents, exact.encoder_tokens as u64);
        // A document's last chunk is on average half full, unless it is the only one.
        let chunks = if documents == 0 { 0 } else { (tokens / stride + documents / 2).max(documents) };
        let plan = plan(chunks, dim);
        let stored = 64 + chunks * self.store.row_bytes(dim) as u64;
        let table = 12 * chunks;
        let embedding = chunks as f64 * self.chunk_tokens as f64 / 128.0 / encode_rate / self.cores as f64;
        let from = match &sampled {
            Some(s) => format!(
                "exact index: measured on {} documents, {} of text: {:.1} MB/s of text read and tokenised, {:.2} M tokens/s sorted and written, a CPU second of this machine",
                s.documents,
                bytes(s.text_bytes),
                s.text_bytes as f64 / s.tokenize_seconds.max(0.01) / 1e6,
                s.tokens as f64 / s.write_seconds.max(0.01) / 1e6
            ),
            None => format!(
                "exact index (fast layout): {STREAM_TEXT} bytes of text a token, documents compressed {COMPRESSION}-fold, {} MB/s of text read and tokenised, {} M tokens/s sorted and written by a core: assumed",
                TOKENIZE / 1e6,
                WRITE / 1e6
            ),
        };
        let assumptions = [
            from,
            format!(
                "a core {} times as fast as one of this machine; work divides evenly over cores (--task/--tasks)",
                self.core_speed
            ),
            format!("{chunks} chunks: {} tokens every {stride}, half a chunk more a document", self.chunk_tokens),
            format!(
                "embedding: {encode_rate:.1} chunks of 128 tokens a second and core ({})",
                if self.encode_rate.is_some() {
                    "--encode-rate"
                } else if measured.is_some() {
                    "measured"
                } else {
                    "assumed"
                }
            ),
            "scans read 8 GB/s a core; a graph of 100,000 takes 1 ms of a core an insertion at 384 dimensions".into(),
            "recall@10 after rescoring, by experience with text embeddings; measure it with `index-tools recall`"
                .into(),
            "kinds other than flat need their own bytes beside the stored vectors; flat searches those themselves"
                .into(),
        ];
        if self.json {
            let json = serde_json::json!({
                "documents": documents, "tokens": tokens, "chunks": chunks, "dim": dim, "cores": self.cores,
                "exact": exact, "sample": sampled,
                "stored_vectors": {"element": self.store, "bytes": stored}, "chunk_table_bytes": table,
                "embedding_seconds": embedding, "choices": plan.choices, "recommended": plan.recommended,
                "reason": plan.reason, "assumptions": assumptions,
            });
            println!("{}", serde_json::to_string_pretty(&json).unwrap_or_default());
            return Ok(ExitCode::SUCCESS);
        }
        println!(
            "corpus           {} documents, {} of text, {:.4e} tokens ({})",
            documents,
            bytes(exact.text_bytes as u64),
            exact.tokens,
            self.tokenizer
        );
        println!(
            "shards           {} of up to {} tokens with --memory of {} MB",
            exact.shards, exact.tokens_per_shard, self.memory
        );
        println!("exact index      {} in all:", bytes(exact.bytes as u64));
        for (name, size) in &exact.parts {
            println!("  {name:<15}{}", bytes(*size as u64));
        }
        println!(
            "memory           {} a task of the build; {} resident for queries at full speed",
            bytes(exact.build_memory),
            bytes(exact.resident as u64)
        );
        println!(
            "building         {:.3e} CPU hours, {} on {} cores",
            exact.cpu_hours,
            time(exact.wall_hours * 3600.0),
            self.cores
        );
        println!();
        println!("chunks           {chunks} of {dim} dimensions");
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
