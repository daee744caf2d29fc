//! `index-tools prune`: earlier generations go.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use priorart::index::{IndexDir, Keep};
use priorart::{Error, Result};

/// Remove earlier generations, and the shards that only they use.
///
/// The current generation always stays. A reader that has a pruned generation open goes on; one that opens it later is told.
#[derive(Args)]
pub struct Prune {
    /// The index
    #[arg(long, env = "PRIORART_INDEX", value_name = "DIR")]
    index: PathBuf,
    /// Keep the newest N generations
    #[arg(long, value_name = "N", required_unless_present = "since")]
    keep: Option<usize>,
    /// Keep all generations from this number on
    #[arg(long, value_name = "GENERATION", conflicts_with = "keep")]
    since: Option<u64>,
}

impl Prune {
    /// Runs the subcommand.
    pub fn run(self) -> Result<ExitCode> {
        let keep = match (self.keep, self.since) {
            (Some(0), _) => {
                return Err(Error::invalid_hint(
                    "--keep 0: the current generation cannot be removed",
                    "pass 1 or more",
                ));
            }
            (Some(n), _) => Keep::Newest(n),
            (None, since) => Keep::Since(since.unwrap_or(0)),
        };
        let dir = IndexDir::open(&self.index)?;
        let pruned = dir.prune(keep)?;
        let left = dir.generations()?;
        println!(
            "pruned {} generations, {} shards and removals, {} bytes; kept {}",
            pruned.generations,
            pruned.parts,
            pruned.bytes,
            left.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
        );
        Ok(ExitCode::SUCCESS)
    }
}
