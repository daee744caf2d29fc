//! `index-tools compact`: removed documents leave the disk.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use priorart::Result;
use priorart::index::{Snapshot, rewrite};

/// Write the shards that have removed documents again without them, remove all earlier generations, and search every file of the index for
/// what was removed.
///
/// Nothing is tokenised or embedded again. Queries answer as before, except that numbers of shards and documents change. Needs free
/// disk space for the shards that are written again.
#[derive(Args)]
pub struct Compact {
    /// The index
    #[arg(long, env = "PRIORART_INDEX", value_name = "DIR")]
    index: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Say nothing of the progress
    #[arg(long, short)]
    quiet: bool,
}

impl Compact {
    /// Runs the subcommand.
    pub fn run(self) -> Result<ExitCode> {
        let snapshot = Snapshot::open(&self.index)?;
        let done = rewrite::compact(&snapshot, &mut |step| {
            if !self.quiet {
                eprintln!("{step}");
            }
        })?;
        let (r, p, e) = (&done.rewritten, &done.pruned, &done.erasure);
        if self.json {
            let json = serde_json::json!({
                "generation": r.manifest.generation, "shards_rewritten": r.shards.0, "shards_made": r.shards.1,
                "documents_erased": r.left_out, "generations_pruned": p.generations, "bytes_freed": p.bytes, "search": e,
            });
            println!("{}", serde_json::to_string_pretty(&json).unwrap_or_default());
            return Ok(ExitCode::SUCCESS);
        }
        if r.shards.0 == 0 {
            println!("generation {}: no shard has removed documents", r.manifest.generation);
        } else {
            println!(
                "generation {}: {} documents erased, {} shards written again",
                r.manifest.generation, r.left_out, r.shards.0
            );
        }
        println!(
            "pruned           {} generations, {} shards and removals, {} bytes freed",
            p.generations, p.parts, p.bytes
        );
        println!(
            "searched         {} files, {} bytes and {} documents for {} fragments of {} removed documents: none found",
            e.files, e.bytes, e.documents_read, e.fragments, e.documents
        );
        if e.also_kept > 0 {
            println!("not looked for   {} fragments that documents which were kept have as well", e.also_kept);
        }
        if e.too_short > 0 {
            println!("not looked for   {} documents of a few characters", e.too_short);
        }
        Ok(ExitCode::SUCCESS)
    }
}
