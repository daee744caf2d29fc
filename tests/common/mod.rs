//! Running the built program as a user does: arguments in; exit code, standard output and standard error out.
#![allow(dead_code)]

pub mod browser;
pub mod embedded;

use std::path::Path;
use std::process::{Command, Output};

/// A command of the program in `dir`, free of settings from the environment.
pub fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_priorart"));
    command.current_dir(dir).args(arguments).env("PRIORART_CACHE", dir.join("cache"));
    for name in ["INDEX", "FORMAT", "THREADS", "MEMORY", "LOG"] {
        command.env_remove(format!("PRIORART_{name}"));
    }
    command
}

/// What a run gave.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        let text = |bytes| String::from_utf8(bytes).expect("the program prints UTF-8");
        Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs the program in `dir`.
pub fn run(dir: &Path, arguments: &[&str]) -> Run {
    command(dir, arguments).output().expect("the program starts").into()
}

/// Runs the program, which must succeed, and returns its standard output.
pub fn succeed(dir: &Path, arguments: &[&str]) -> String {
    let run = run(dir, arguments);
    assert_eq!(run.code, Some(0), "{arguments:?}: {}", run.err);
    run.out
}

/// Runs the program, which must say `error: MESSAGE` and `hint: HINT` (empty: no hint is asked for), print no data and end with 2.
pub fn fail(dir: &Path, arguments: &[&str], message: &str, hint: &str) {
    let run = run(dir, arguments);
    assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{arguments:?}: {}", run.err);
    assert!(run.err.starts_with("error: "), "{arguments:?}: {}", run.err);
    assert!(run.err.contains(message), "{arguments:?}: {}, expected {message:?}", run.err);
    let told = run.err.split_once("\n\nhint: ").map_or("", |(_, hint)| hint);
    assert!(told.contains(hint), "{arguments:?}: {}, expected the hint {hint:?}", run.err);
}
