//! The command line: arguments, settings, messages and exit codes. One file a group of commands.
//!
//! Data goes to standard output, words to standard error. Exit codes: 0 done, 1 findings (with `--check`), 2 error.
//! Settings come from flags, then the environment (`PRIORART_…`), then `priorart.toml` in the current directory.

mod build;
mod decontaminate;
mod demo;
mod exact;
mod hunt;
mod input;
mod inspect;
mod neighbors;
mod novelty;
mod output;
mod rank;
mod reference;
mod remove;
mod semantic;
mod serve;
mod settings;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::error::Error;
pub use output::Format;
pub use settings::Global;

/// Where did this text come from, and if from nowhere, how sure are we?
#[derive(Debug, Parser)]
#[command(name = "priorart", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build an index from corpus files
    Build(build::BuildArgs),
    /// Add documents to an index, as a new generation
    Add(build::AddArgs),
    /// Publish the shards that tasks of a divided build have made
    Publish(build::PublishArgs),
    /// Take documents out of an index, as a new generation
    Remove(remove::RemoveArgs),
    /// Show what is in an index
    Info(inspect::InfoArgs),
    /// Count n-grams, or a boolean combination of them
    Count(exact::CountArgs),
    /// Find the documents an n-gram, or a boolean combination, occurs in
    Find(exact::FindArgs),
    /// Count how often pairs of phrases stand together
    Cooccur(hunt::CooccurArgs),
    /// Show the n-grams around a trigger that are bursty: many in few documents
    Hunt(hunt::HuntArgs),
    /// Show which tokens follow a prompt
    Next(exact::NextArgs),
    /// Trace a text to its sources
    Trace(exact::TraceArgs),
    /// Find the documents of a corpus that contain eval items, and clean it of them
    Decontaminate(decontaminate::DecontaminateArgs),
    /// Compile eval items once, for many decontaminate runs
    #[command(subcommand)]
    Reference(reference::ReferenceCommand),
    /// Find the passages that mean nearly the same
    Neighbors(neighbors::NeighborsArgs),
    /// Rank all documents by their similarity to the items of a benchmark
    Rank(rank::RankArgs),
    /// Say how attributable texts are, against human writing
    Novelty(novelty::NoveltyArgs),
    /// Score human texts once, for later novelty runs
    Calibrate(novelty::CalibrateArgs),
    /// Score many texts and write a report that can be published and made again
    Audit(novelty::AuditArgs),
    /// See the whole product work on a small real corpus
    Demo(demo::DemoArgs),
    /// Serve indexes: the page for analysts and the APIs for programs
    Serve(serve::ServeArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write those of all commands to a directory
    Man {
        /// Directory for one page a command
        #[arg(long, value_name = "DIR")]
        out: Option<std::path::PathBuf>,
    },
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// `--check` was given and something was found.
    Findings,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    match run(cli) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(1),
        Err(e) if broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            report(&e);
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<Outcome> {
    let global = cli.global.settle()?;
    match cli.command {
        Command::Build(args) => build::build(&global, args),
        Command::Add(args) => build::add(&global, args),
        Command::Publish(args) => build::publish(&global, args),
        Command::Remove(args) => remove::remove(&global, args),
        Command::Info(args) => inspect::info(&global, args),
        Command::Count(args) => exact::count(&global, args),
        Command::Find(args) => exact::find(&global, args),
        Command::Cooccur(args) => hunt::cooccur(&global, args),
        Command::Hunt(args) => hunt::hunt(&global, args),
        Command::Next(args) => exact::next(&global, args),
        Command::Trace(args) => exact::trace(&global, args),
        Command::Decontaminate(args) => decontaminate::decontaminate(&global, args),
        Command::Reference(command) => reference::reference(&global, command),
        Command::Neighbors(args) => neighbors::neighbors(&global, args),
        Command::Rank(args) => rank::rank(&global, args),
        Command::Novelty(args) => novelty::novelty(&global, args),
        Command::Calibrate(args) => novelty::calibrate(&global, args),
        Command::Audit(args) => novelty::audit(&global, args),
        Command::Demo(args) => demo::demo(&global, args),
        Command::Serve(args) => serve::serve(&global, args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "priorart", &mut script);
            output::write(&script)?;
            Ok(Outcome::Done)
        }
        Command::Man { out } => {
            match out {
                Some(dir) => {
                    std::fs::create_dir_all(&dir).map_err(Error::io(&dir, "create directory"))?;
                    clap_mangen::generate_to(Cli::command(), &dir).map_err(Error::io(&dir, "write"))?;
                }
                None => {
                    let mut page = Vec::new();
                    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
                    output::write(&page)?;
                }
            }
            Ok(Outcome::Done)
        }
    }
}

/// Prints an error, a blank line and what to do about it.
fn report(e: &anyhow::Error) {
    let mut said = e.to_string();
    eprintln!("error: {said}");
    for cause in e.chain().skip(1).map(|cause| cause.to_string()) {
        // Most errors say their cause themselves.
        if !said.contains(&cause) {
            eprintln!("  because: {cause}");
        }
        said = cause;
    }
    let hint = e.chain().find_map(|c| c.downcast_ref::<Error>()).and_then(|e| e.hint());
    if let Some(hint) = hint {
        eprintln!("\nhint: {hint}");
    }
}

fn broken_pipe(e: &anyhow::Error) -> bool {
    e.chain().any(|c| c.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
