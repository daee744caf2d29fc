//! `index-tools merge`: many small shards become few.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use priorart::Result;
use priorart::index::{Snapshot, build, rewrite};
use priorart::shard::Layout;

/// Merge consecutive shards, as many as fit, without tokenising or embedding again.
///
/// A query looks into every shard, so an index that grew by many small additions answers faster afterwards. Documents keep their order;
/// removed ones are left out. The old shards stay until their generations are pruned.
#[derive(Args)]
pub struct Merge {
    /// The index
    #[arg(long, env = "PRIORART_INDEX", value_name = "DIR")]
    index: PathBuf,
    /// Merge these shards only (ids as `priorart info` shows them); each run of neighbours becomes one
    #[arg(long, value_delimiter = ',', value_name = "ID,...")]
    shards: Vec<String>,
    /// Memory to use, in megabytes: decides how large a merged shard may become
    #[arg(long, default_value_t = 4096, value_name = "MB")]
    memory: u64,
    /// Say nothing of the progress
    #[arg(long, short)]
    quiet: bool,
}

impl Merge {
    /// Runs the subcommand.
    pub fn run(self) -> Result<ExitCode> {
        let snapshot = Snapshot::open(&self.index)?;
        let layout = snapshot.shards.first().map_or(Layout::Fast, |s| s.meta.layout);
        let limit = build::shard_tokens(&snapshot.tokenizer, self.memory.saturating_mul(1_000_000), layout)?;
        let done = rewrite::merge(&snapshot, &self.shards, limit, &mut |step| {
            if !self.quiet {
                eprintln!("{step}");
            }
        })?;
        let m = &done.manifest;
        match done.shards {
            (0, _) => println!("generation {}: no neighbouring shards fit together", m.generation),
            (from, to) => println!(
                "generation {}: {from} shards merged into {to}; {} shards, {} documents, {} tokens",
                m.generation,
                m.shards.len(),
                m.corpus.documents,
                m.corpus.tokens
            ),
        }
        Ok(ExitCode::SUCCESS)
    }
}
