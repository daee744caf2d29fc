//! `index-tools recall`: measures what the approximate vector search of an index misses, and keeps the figure with it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use priorart::Result;
use priorart::ann::SearchParams;
use priorart::index::Snapshot;
use priorart::query::recall::RecallOptions;

/// Measure recall@k of an index's vector search against the exhaustive one, on a sample of its own chunks.
///
/// The figures are published with the index, as a new generation, and quoted by answers that found nothing.
#[derive(Args)]
pub struct Recall {
    /// The index
    #[arg(long, env = "PRIORART_INDEX", value_name = "DIR")]
    index: PathBuf,
    /// Chunks to search the neighbours of
    #[arg(long, default_value_t = 1000, value_name = "N")]
    sample: usize,
    /// Neighbours a chunk
    #[arg(short, long, default_value_t = 10, value_name = "K")]
    k: usize,
    /// hnsw: candidates of the search, or several to compare [default: as the index says]
    #[arg(long, value_delimiter = ',', value_name = "N,...")]
    ef: Vec<usize>,
    /// ivf: lists to probe, or several to compare [default: as the index says]
    #[arg(long, value_delimiter = ',', value_name = "N,...")]
    nprobe: Vec<usize>,
    /// Decides which chunks are sampled
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Print the figures, and publish nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object a measurement
    #[arg(long)]
    json: bool,
}

impl Recall {
    /// Runs the subcommand.
    pub fn run(self) -> Result<ExitCode> {
        let snapshot = Snapshot::open(&self.index)?;
        let settings = |list: &[usize]| if list.is_empty() { vec![0] } else { list.to_vec() };
        let mut measured = Vec::new();
        for &ef in &settings(&self.ef) {
            for &nprobe in &settings(&self.nprobe) {
                let params = SearchParams { ef, nprobe };
                let options = RecallOptions { sample: self.sample, k: self.k, params, seed: self.seed };
                let one = snapshot.measure_recall(&options)?;
                if measured.iter().all(|m: &priorart::query::recall::MeasuredRecall| m.params != one.params) {
                    measured.push(one);
                }
            }
        }
        for m in &measured {
            if self.json {
                println!("{}", serde_json::to_string(m).unwrap_or_default());
                continue;
            }
            println!(
                "{}  ef {}  nprobe {}  recall@{} {:.4}  worst query {:.2}  nearest found {:.4}  ({} chunks)",
                m.vector_index.join(","),
                m.params.ef,
                m.params.nprobe,
                m.k,
                m.recall,
                m.worst,
                m.nearest,
                m.queries
            );
        }
        if !self.dry_run {
            let published = snapshot.record_recall(&measured)?;
            eprintln!("kept in generation {} of {}", published.generation, self.index.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}
