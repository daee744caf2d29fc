//! Outputs of the query commands, compared to the letter with `tests/golden/cli`: what scripts that read them rely on.
//!
//! `PRIORART_BLESS=1` writes the files anew; look at the difference before you commit it. `VERSION` stands for the program's.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{run, succeed};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A directory with the corpus and two indexes of it, one of words and one of BPE tokens.
fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let from = golden().join("corpus");
    for name in ["letters.jsonl", "notes/river.txt"] {
        let to = dir.path().join("corpus").join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from.join(name), to).unwrap();
    }
    let built = run(dir.path(), &["build", "--index", "ix", "corpus"]);
    assert_eq!((built.code, built.err.as_str()), (Some(0), ""));
    succeed(dir.path(), &["build", "--index", "bpe", "--tokenizer", "gpt2", "corpus"]);
    dir
}

/// Compares the standard output of each command with its file.
fn compare(dir: &Path, cases: &[(&str, &[&str])]) {
    let bless = std::env::var_os("PRIORART_BLESS").is_some();
    let mut wrong = Vec::new();
    for (name, arguments) in cases {
        let run = run(dir, arguments);
        assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{arguments:?}");
        let shown = run.out.replace(concat!("priorart ", env!("CARGO_PKG_VERSION")), "priorart VERSION");
        let path = golden().join("cli").join(name);
        if bless {
            fs::write(&path, &shown).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if shown != expected {
            wrong.push(format!("{arguments:?} differs from {name}:\n{shown}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn count() {
    let dir = place();
    let count = ["count", "--index", "ix", "the lamp in the harbour office", "no such phrase qzx"];
    let boolean = ["count", "--index", "ix", "--all", "old mill", "river", "--format", "jsonl"];
    let window = [&boolean[..], &["--window", "6"]].concat();
    compare(
        dir.path(),
        &[
            ("count.txt", &count),
            ("count.json", &[&count[..], &["--format", "json"]].concat()),
            ("count.jsonl", &[&count[..], &["--format", "jsonl"]].concat()),
            ("count-all.jsonl", &boolean),
            ("count-window.jsonl", &window),
            ("count-bpe.jsonl", &["count", "--index", "bpe", "--format", "jsonl", "The lamp", " lamp", "lamp"]),
        ],
    );
}

#[test]
fn find() {
    let dir = place();
    let find = ["find", "--index", "ix", "--context", "12", "burns all night"];
    compare(
        dir.path(),
        &[
            ("find.txt", &find),
            ("find.json", &[&find[..], &["--format", "json", "--limit", "2"]].concat()),
            ("find.jsonl", &[&find[..], &["--format", "jsonl", "--offset", "2", "no such phrase"]].concat()),
        ],
    );
}

#[test]
fn next() {
    let dir = place();
    let next = ["next", "--index", "ix", "the", "-k", "3"];
    compare(
        dir.path(),
        &[
            ("next.txt", &next),
            ("next.json", &[&next[..], &["--format", "json"]].concat()),
            ("next.jsonl", &[&next[..], &["--format", "jsonl"]].concat()),
            (
                "next-infgram.json",
                &["next", "--index", "bpe", "--infgram", "nothing like it: the lamp in", "--format", "json"],
            ),
            (
                "next-continuation.jsonl",
                &["next", "--index", "ix", "the lamp", "--continuation", " in the window", "--format", "jsonl"],
            ),
        ],
    );
}

#[test]
fn trace() {
    let dir = place();
    let text = "He wrote: the lamp in the HARBOUR office burns all night — and the old mill stands there still.";
    let trace = ["trace", "--index", "ix", "--documents", "1", "--context", "10", text];
    compare(
        dir.path(),
        &[
            ("trace.txt", &trace),
            ("trace.json", &[&trace[..], &["--format", "json"]].concat()),
            ("trace.jsonl", &[&trace[..], &["--format", "jsonl", "--min-tokens", "6"]].concat()),
        ],
    );
}

#[test]
fn info() {
    let dir = place();
    compare(
        dir.path(),
        &[
            ("info.txt", &["info", "--index", "ix", "--verify"]),
            ("info.json", &["info", "--index", "ix", "--format", "json"]),
            ("info-bpe.jsonl", &["info", "--index", "bpe", "--format", "jsonl"]),
        ],
    );
}

#[test]
fn dry_run_tells_what_the_build_makes() {
    let dir = place();
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let expected = parse(&succeed(
        dir.path(),
        &["build", "--index", "new", "--dry-run", "--format", "json", "--tokenizer", "gpt2", "corpus"],
    ));
    assert!(!dir.path().join("new").exists(), "nothing is made");
    let built =
        parse(&succeed(dir.path(), &["build", "--index", "new", "--format", "json", "--tokenizer", "gpt2", "corpus"]));
    for field in ["documents", "tokens", "text_bytes", "shards"] {
        assert_eq!(expected[field], built[field], "{field}");
    }
    assert_eq!(expected["sampled"], 1.0);
    assert!(expected["peak_memory_bytes"].as_u64().is_some_and(|n| n < 512_000_000));
}

#[test]
fn an_exit_code_tells_findings() {
    let dir = place();
    let code = |arguments: &[&str]| run(dir.path(), &[arguments, &["--index", "ix", "--check"]].concat()).code;
    for command in ["count", "find", "trace"] {
        assert_eq!(code(&[command, "the lamp in the harbour office"]), Some(1), "{command}");
        assert_eq!(code(&[command, "qzx qzx qzx qzx qzx"]), Some(0), "{command}");
    }
}

#[test]
fn settings_come_from_flags_then_the_environment_then_the_file() {
    let dir = place();
    fs::write(dir.path().join("priorart.toml"), "index = 'ix'\nformat = 'jsonl'\n").unwrap();
    let line = "{\"query\":\"old mill\",\"tokens\":2,\"count\":3,\"approximate\":false}\n";
    assert_eq!(succeed(dir.path(), &["count", "old mill"]), line);
    assert_eq!(succeed(dir.path(), &["count", "old mill", "--format", "text"]).trim(), "3  old mill");
    let mut command = common::command(dir.path(), &["count", "old mill"]);
    let output = command.env("PRIORART_FORMAT", "text").env("PRIORART_INDEX", "bpe").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "0  old mill", "gpt2 tokens have the space before");
}

#[test]
fn completions_are_scripts() {
    let dir = tempfile::tempdir().unwrap();
    for (shell, start) in [("bash", "_priorart()"), ("zsh", "#compdef priorart"), ("fish", "# Print an optspec")] {
        let script = succeed(dir.path(), &["completions", shell]);
        assert!(script.starts_with(start), "{shell}: {}", &script[..60]);
        assert!(script.contains("decontaminate"));
    }
}

#[test]
fn manual_pages_are_roff() {
    let dir = tempfile::tempdir().unwrap();
    let page = succeed(dir.path(), &["man"]);
    assert!(page.contains(".TH priorart 1") && page.contains("decontaminate"), "{}", &page[..200]);
    succeed(dir.path(), &["man", "--out", "pages"]);
    for name in ["priorart.1", "priorart-build.1", "priorart-remove.1", "priorart-reference-build.1"] {
        let page = fs::read_to_string(dir.path().join("pages").join(name)).unwrap();
        assert!(page.contains(".SH NAME"), "{name}");
    }
}
