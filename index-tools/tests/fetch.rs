//! The `fetch` subcommand as a user meets it: exit codes, standard output, standard error.

use std::path::Path;
use std::process::{Command, Output};

fn run(cache: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_index-tools"));
    // A port of this machine where nobody answers: the hub cannot be reached.
    command.env("PRIORART_CACHE", cache).env("HF_ENDPOINT", "http://127.0.0.1:9").env("HF_HOME", cache.join("hf"));
    command.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_list_is_a_table_on_standard_output() {
    let cache = tempfile::tempdir().unwrap();
    let output = run(cache.path(), &["fetch", "--list"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
    let rows: Vec<Vec<String>> =
        text(&output.stdout).lines().map(|l| l.split('\t').map(String::from).collect()).collect();
    assert_eq!(rows[0][..5], ["all-minilm-l6-v2", "model", "wheel,hub", "-", "Apache-2.0"]);
    assert!(rows.iter().any(|r| r[0] == "debian-docs" && r[2] == "debian"));
}

#[test]
fn errors_go_to_standard_error_with_a_hint_and_exit_code_2() {
    let cache = tempfile::tempdir().unwrap();
    let unknown = run(cache.path(), &["fetch", "bert-huge"]);
    assert_eq!((unknown.status.code(), text(&unknown.stdout).as_str()), (Some(2), ""));
    let words = text(&unknown.stderr);
    assert!(
        words.starts_with(
            "error: cannot fetch bert-huge: the catalog has no entry of that name\n\nhint: the names are: all-minilm"
        ),
        "{words}"
    );

    let offline = run(cache.path(), &["fetch", "colbertv2.0"]);
    assert_eq!((offline.status.code(), text(&offline.stdout).as_str()), (Some(2), ""));
    let words = text(&offline.stderr);
    assert!(
        words.contains(
            "error: cannot fetch colbertv2.0: model.safetensors of colbert-ir/colbertv2.0 could not be downloaded"
        ),
        "{words}"
    );
    assert!(
        words.contains("\n\nhint: this machine must reach the hub") && words.contains("index-tools fetch colbertv2.0"),
        "{words}"
    );

    let other = run(cache.path(), &["fetch", "sotu", "--from", "hub"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).ends_with("hint: its origins are: wheel\n"), "{}", text(&other.stderr));

    for wrong in [&["fetch"][..], &["fetch", "--list", "sotu"], &["fetch", "sotu", "--from", "ftp"], &[]] {
        assert_eq!(run(cache.path(), wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn the_speeches_are_fetched_once() {
    let cache = tempfile::tempdir().unwrap();
    let first = run(cache.path(), &["fetch", "sotu"]);
    let words = text(&first.stderr);
    if first.status.code() == Some(2) && (words.contains("could not download") || words.contains("there is no pip")) {
        println!("skipped: {words}");
        return;
    }
    assert_eq!(first.status.code(), Some(0), "{words}");
    let directory = cache.path().join("sotu");
    assert_eq!(text(&first.stdout), format!("{}\n", directory.display()));
    assert!(words.contains("sotu: 1 file, 12.") && words.contains("sha256 verified"), "{words}");
    assert!(directory.join("speeches.jsonl").is_file());
    let again = run(cache.path(), &["fetch", "sotu", "--quiet"]);
    assert_eq!((again.status.code(), text(&again.stderr).as_str()), (Some(0), ""));
    assert_eq!(again.stdout, first.stdout);
    assert!(text(&run(cache.path(), &["fetch", "--list"]).stdout).contains("sotu\tcorpus\twheel\tfetched\t"));
}
