//! The `priorart` command.

fn main() -> std::process::ExitCode {
    priorart::cli::main()
}
