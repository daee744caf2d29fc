//! Global settings: flags, then the environment, then `priorart.toml`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::output::Format;
use crate::error::{Error, Result};
use crate::index::Snapshot;

/// Settings every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Directory of the index
    #[arg(long, global = true, env = "PRIORART_INDEX", value_name = "DIR")]
    pub index: Option<PathBuf>,
    /// How to print results [default: text]
    #[arg(long, global = true, env = "PRIORART_FORMAT", value_enum)]
    pub format: Option<Format>,
    /// Threads to use [default: all cores]
    #[arg(long, global = true, env = "PRIORART_THREADS", value_name = "N")]
    pub threads: Option<usize>,
    /// Memory a build may use, such as 800MB or 4GB [default: 4GB]
    #[arg(long, global = true, env = "PRIORART_MEMORY", value_name = "BYTES", value_parser = parse_bytes)]
    pub memory: Option<u64>,
    /// Memory for a copy of the exact index in huge pages: worth trying where many queries are asked [default: 0]
    #[arg(long, global = true, env = "PRIORART_RESIDENT", value_name = "BYTES", value_parser = parse_bytes)]
    pub resident: Option<u64>,
    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more; twice: debugging
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// Settings of `priorart.toml`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    index: Option<PathBuf>,
    format: Option<Format>,
    threads: Option<usize>,
    memory: Option<String>,
    resident: Option<String>,
}

/// Name of the settings file, looked for in the current directory.
const FILE: &str = "priorart.toml";

impl Global {
    /// Fills in what the settings file says, and starts logging and the thread pool.
    pub(super) fn settle(mut self) -> anyhow::Result<Global> {
        match std::fs::read_to_string(FILE) {
            Ok(text) => {
                let file: File = toml::from_str(&text).with_context(|| format!("{FILE}: not valid settings"))?;
                self.index = self.index.or(file.index);
                self.format = self.format.or(file.format);
                self.threads = self.threads.or(file.threads);
                for (name, setting, value) in
                    [("memory", &mut self.memory, file.memory), ("resident", &mut self.resident, file.resident)]
                {
                    if let (None, Some(text)) = (&setting, value) {
                        let bytes = parse_bytes(&text);
                        *setting = Some(bytes.map_err(|e| Error::invalid(format!("{FILE}: {name}: {e}")))?);
                    }
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::Io { path: FILE.into(), action: "read", source: e }.into()),
        }
        let level = match (self.quiet, self.verbose) {
            (true, _) => "error",
            (false, 0) => "warn",
            (false, 1) => "info",
            _ => "debug",
        };
        let filter = tracing_subscriber::EnvFilter::try_from_env("PRIORART_LOG")
            .unwrap_or_else(|_| format!("priorart={level}").into());
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .with_target(false)
            .try_init();
        if self.threads == Some(0) {
            return Err(Error::invalid_hint(
                "--threads 0: there must be at least one thread",
                "leave it out to use every core",
            )
            .into());
        }
        if let Some(n) = self.threads {
            rayon::ThreadPoolBuilder::new().num_threads(n).build_global().context("cannot start the threads")?;
        }
        Ok(self)
    }

    /// The directory of the index.
    pub fn index_path(&self) -> Result<&PathBuf> {
        self.index
            .as_ref()
            .ok_or_else(|| Error::invalid_hint("no index is named", "pass --index DIR, or set PRIORART_INDEX"))
    }

    /// The index's current generation.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::open_resident(self.index_path()?, self.resident())
    }

    /// Memory for a copy of the exact index, in bytes.
    pub fn resident(&self) -> u64 {
        self.resident.unwrap_or(0)
    }

    /// How to print results.
    pub fn format(&self) -> Format {
        self.format.unwrap_or(Format::Text)
    }

    /// Memory a build may use, in bytes.
    pub fn memory(&self) -> u64 {
        self.memory.unwrap_or(4 << 30)
    }
}

/// Reads a number of bytes: `1500000`, `800MB`, `1.5 GiB`.
pub(super) fn parse_bytes(text: &str) -> std::result::Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| format!("{text:?} is not a size; write for example 800MB or 4GB"))?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(format!("{unit:?} is not a unit; use KB, MB, GB, KiB, MiB or GiB")),
    };
    Ok((number * factor as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("4GB"), Ok(4_000_000_000));
        assert_eq!(parse_bytes("1.5 GiB"), Ok(3 << 29));
        assert_eq!(parse_bytes("123"), Ok(123));
        assert!(parse_bytes("4 parsecs").is_err());
        assert!(parse_bytes("GB").is_err());
    }
}
