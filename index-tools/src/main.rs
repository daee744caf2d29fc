//! The operator's tools for priorart.
//!
//! One file a subcommand: it holds the arguments (a `clap::Args` struct) and a `run` method that returns the exit code.
//! A new one is a `mod`, a variant of [`Command`] and a line in [`main`]'s match. Data goes to standard output, words to
//! standard error. Exit codes: 0 done, 1 findings (where a subcommand checks something), 2 error.

mod bars;
mod compact;
mod fetch;
mod import;
mod merge;
mod plan;
mod prune;
mod recall;
mod sample;
mod vectors;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Operator's tools for priorart: fetch models and corpora, look after indexes.
#[derive(Parser)]
#[command(name = "index-tools", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Compact(compact::Compact),
    ExportVectors(vectors::Export),
    Fetch(fetch::Fetch),
    #[command(subcommand)]
    Import(import::Import),
    ImportVectors(vectors::Import),
    Merge(merge::Merge),
    Plan(plan::Plan),
    Prune(prune::Prune),
    Recall(recall::Recall),
    Verify(verify::Verify),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Compact(arguments) => arguments.run(),
        Command::ExportVectors(arguments) => arguments.run(),
        Command::Fetch(arguments) => arguments.run(),
        Command::Import(command) => command.run(),
        Command::ImportVectors(arguments) => arguments.run(),
        Command::Merge(arguments) => arguments.run(),
        Command::Plan(arguments) => arguments.run(),
        Command::Prune(arguments) => arguments.run(),
        Command::Recall(arguments) => arguments.run(),
        Command::Verify(arguments) => arguments.run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        if let Some(hint) = error.hint() {
            eprintln!("\nhint: {hint}");
        }
        ExitCode::from(2)
    })
}
