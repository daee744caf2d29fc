//! `index-tools verify`: whether an index is whole, and with --deep whether it is right.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use priorart::embed::{Encoder, OpenOptions, find_model, open};
use priorart::index::deep::DeepOptions;
use priorart::index::{IndexDir, Manifest, Snapshot};
use priorart::{Error, Result};

/// Read every byte of an index and compare it with the checksums; list every damaged file and block, and say what to do.
///
/// Exits with 0 when all is right, 1 when something is damaged, 2 when it cannot be told.
#[derive(Args)]
pub struct Verify {
    /// The index
    #[arg(long, env = "PRIORART_INDEX", value_name = "DIR")]
    index: PathBuf,
    /// Verify this generation instead of the current one
    #[arg(long, value_name = "N")]
    generation: Option<u64>,
    /// Check also that the parts agree: the order of the suffixes, the offsets, samples of tokens and of vectors
    #[arg(long)]
    deep: bool,
    /// Documents of each shard that --deep tokenises and embeds again
    #[arg(long, default_value_t = 100, value_name = "N")]
    sample: usize,
    /// Decides the sample
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Directory of the encoder [default: by its name, from the cache]
    #[arg(long, value_name = "DIR")]
    encoder: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Say nothing of the progress
    #[arg(long, short)]
    quiet: bool,
}

impl Verify {
    /// Runs the subcommand.
    pub fn run(self) -> Result<ExitCode> {
        let dir = IndexDir::open(&self.index)?;
        let manifest = match self.generation {
            Some(n) => dir.manifest_of(n)?,
            None => dir.manifest()?,
        };
        let mut notes: Vec<String> = Vec::new();
        let total: u64 = [&manifest.shards, &manifest.removed, &manifest.spaces]
            .iter()
            .flat_map(|p| p.iter())
            .map(|p| p.bytes())
            .sum();
        let (mut read, mut told) = (0, 0);
        let found = dir.verify(&manifest, |bytes| {
            read += bytes;
            if !self.quiet && total > 0 && read * 10 / total > told {
                told = read * 10 / total;
                eprintln!("{} % of {total} bytes", told * 10);
            }
        })?;
        let mut faults = found.faults;
        notes.extend(found.strays.iter().map(|p| format!("{}: no generation lists it; it does no harm", p.display())));
        let mut deep = None;
        if self.deep {
            match Snapshot::open_generation(&self.index, manifest.generation) {
                Ok(snapshot) => {
                    let encoder = self.encoder(&manifest, &mut notes)?;
                    let options = DeepOptions { encoder: encoder.as_deref(), sample: self.sample, seed: self.seed };
                    let mut made = snapshot.verify_deep(&options, &mut |part| {
                        if !self.quiet {
                            eprintln!("checking {part}");
                        }
                    });
                    faults.append(&mut made.faults);
                    deep = Some(made);
                }
                Err(e) => {
                    notes.push(format!("--deep could not run: the generation does not open: {e}"));
                    if faults.is_empty() {
                        faults.push(e);
                    }
                }
            }
        }
        if self.json {
            let list: Vec<_> =
                faults.iter().map(|e| serde_json::json!({"fault": e.to_string(), "remedy": remedy(e)})).collect();
            let json = serde_json::json!({
                "generation": manifest.generation, "files": found.files, "bytes": found.bytes, "faults": list, "notes": notes,
                "deep": deep.as_ref().map(|d| serde_json::json!({
                    "shards": d.shards, "suffixes": d.tokens, "documents": d.documents, "documents_tokenized": d.tokenized,
                    "chunks_embedded": d.embedded, "least_similarity": d.least_similarity,
                })),
            });
            println!("{}", serde_json::to_string_pretty(&json).unwrap_or_default());
        } else {
            println!("generation {}: {} files, {} bytes read", manifest.generation, found.files, found.bytes);
            if let Some(d) = &deep {
                println!(
                    "deep: the order of {} suffixes, {} documents read, {} tokenised again, {} chunks embedded again (least cosine {:.4})",
                    d.tokens, d.documents, d.tokenized, d.embedded, d.least_similarity
                );
            }
            for fault in &faults {
                println!("damaged: {fault}\n  remedy: {}", remedy(fault));
            }
            for note in &notes {
                println!("note: {note}");
            }
            if faults.is_empty() {
                println!("all right");
            } else {
                println!("{} faults", faults.len());
            }
        }
        Ok(ExitCode::from(u8::from(!faults.is_empty())))
    }

    fn encoder(&self, manifest: &Manifest, notes: &mut Vec<String>) -> Result<Option<Box<dyn Encoder>>> {
        let Some(spec) = &manifest.encoder else { return Ok(None) };
        let Some(dir) = self.encoder.clone().or_else(|| find_model(&spec.name)) else {
            notes.push(format!(
                "vectors were not compared: the encoder {} is not in the cache (index-tools fetch, or --encoder DIR)",
                spec.name
            ));
            return Ok(None);
        };
        let encoder = open(&dir, &OpenOptions { name: Some(spec.name.clone()), ..OpenOptions::default() })?;
        if encoder.spec().sha256 != spec.sha256 {
            let name = |sha256: &str| format!("weights {sha256:.12}");
            return Err(Error::EncoderMismatch { index: name(&spec.sha256), query: name(&encoder.spec().sha256) });
        }
        Ok(Some(encoder))
    }
}

/// What to do about a fault.
fn remedy(fault: &Error) -> String {
    match fault {
        Error::Corrupt { path, .. } | Error::Checksum { path, .. } => {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            match name.as_str() {
                "manifest.json" => {
                    "copy the newest file of generations/ over manifest.json, if that one verifies; or restore it from a backup".into()
                }
                name if name.ends_with(".json") && path.parent().is_some_and(|p| p.ends_with("generations")) => {
                    "it is a copy of an earlier manifest; prune that generation, or restore the file from a backup".into()
                }
                _ => format!(
                    "restore {} from a backup (the file never changes after publication), or build the index again",
                    path.display()
                ),
            }
        }
        other => other.hint().unwrap_or_else(|| "restore the file from a backup, or build the index again".into()),
    }
}
