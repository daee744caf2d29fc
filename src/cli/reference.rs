//! `reference`: eval items compiled into one file that opens at once, and what such a file holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::output::{self, number};
use super::{Global, Outcome};
use crate::catalog::sha256_of_file;
use crate::error::{Error, Result};
use crate::reference::{Mapping, ReferenceIndex, is_compiled, open_or_build};

#[derive(Debug, Subcommand)]
pub enum ReferenceCommand {
    /// Compile benchmark files into one file for `decontaminate --reference`
    Build {
        /// Eval items: files or directories
        #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
        reference: Vec<PathBuf>,
        /// Fields of the files, such as question=prompt,answer=solution, or a benchmark's name
        #[arg(long, value_name = "MAP")]
        map: Option<String>,
        /// The file to write; must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Show what is in a compiled file, after checking it
    Info {
        /// The compiled file
        file: PathBuf,
    },
}

/// What a compiled file holds.
#[derive(serde::Serialize)]
struct Compiled {
    file: PathBuf,
    /// Of the whole file.
    sha256: String,
    bytes: u64,
    /// Rows the items were read from, before copies and choices were merged.
    rows: u64,
    items: usize,
    components: usize,
    /// Items by benchmark.
    benchmarks: BTreeMap<String, usize>,
}

pub fn reference(global: &Global, command: ReferenceCommand) -> anyhow::Result<Outcome> {
    let compiled = match command {
        ReferenceCommand::Build { reference, map, out } => {
            if out.exists() {
                return Err(Error::invalid_hint(
                    format!("{}: the file exists already", out.display()),
                    "name a new file; nothing is overwritten",
                )
                .into());
            }
            let mapping = map.as_deref().map(Mapping::parse).transpose()?;
            let index = open_or_build(&reference, mapping.as_ref())?;
            index.save(&out)?;
            describe(&out, &index)?
        }
        ReferenceCommand::Info { file } => {
            if !is_compiled(&file)? {
                return Err(Error::invalid_hint(
                    format!("{}: not a compiled reference", file.display()),
                    "make one with `priorart reference build`",
                )
                .into());
            }
            describe(&file, &ReferenceIndex::open(&file)?)?
        }
    };
    output::result(global.format(), &compiled, |c| {
        let mut out = format!(
            "{}: {} eval items of {} rows, {}\nsha256 {}\n",
            c.file.display(),
            number(c.items as u64),
            number(c.rows),
            output::bytes(c.bytes),
            c.sha256
        );
        for (benchmark, items) in &c.benchmarks {
            out += &format!("{:>10}  {benchmark}\n", number(*items as u64));
        }
        out
    })?;
    Ok(Outcome::Done)
}

fn describe(file: &Path, index: &ReferenceIndex) -> Result<Compiled> {
    let (sha256, bytes) = sha256_of_file(file)?;
    Ok(Compiled {
        file: file.to_path_buf(),
        sha256,
        bytes,
        rows: index.rows(),
        items: index.len(),
        components: index.component_count(),
        benchmarks: super::decontaminate::benchmark_items(index)?,
    })
}
