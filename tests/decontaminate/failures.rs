//! What goes wrong during a run, and what is left: nothing is lost, and the same command goes on with what is missing.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::{command, fail, run, succeed};
use crate::{FERRY, RUN, corpus, filler, items, read, rows, two_parts};

/// A run of [`RUN`] that removes documents into `out`.
fn cleaning(out: &str) -> Vec<&str> {
    [&RUN[..], &["--remove", "document", "--out", out]].concat()
}

/// Every file below a directory with its content.
fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(tree(&path));
        } else {
            out.push((path.to_str().unwrap().to_string(), fs::read(&path).unwrap()));
        }
    }
    out.sort();
    out
}

/// The outputs of two directories but for the paths in them.
fn same_outputs(dir: &Path, a: &str, b: &str) {
    let of = |out: &str| -> Vec<(String, Vec<u8>)> {
        let all = tree(&dir.join(out)).into_iter();
        all.map(|(path, bytes)| {
            let name = path.rsplit_once(&format!("/{out}/")).unwrap().1.to_string();
            let bytes =
                String::from_utf8(bytes.clone()).map_or(bytes, |t| t.replace(&format!("\"{out}/"), "\"OUT/").into());
            (name, bytes)
        })
        .collect()
    };
    let (a, b) = (of(a), of(b));
    let names = |of: &[(String, Vec<u8>)]| of.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for ((name, x), (_, y)) in a.iter().zip(&b) {
        assert!(x == y, "{name} differs: {}\n{}", String::from_utf8_lossy(x), String::from_utf8_lossy(y));
    }
}

#[test]
fn an_unreadable_file_loses_nothing_of_the_others_and_can_be_mended() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    two_parts(dir);
    succeed(dir, &["-q", "decontaminate", "--reference", "items.jsonl", "--corpus", "in", "--dry-run"]);
    fs::write(dir.join("in/a/part-1.jsonl.zst"), b"this is not zstd").unwrap();
    fs::write(dir.join("in/b/part-2.jsonl"), format!("{{\"text\":\"{FERRY}\"}}\nnot json\n{{\"text\":\"{FERRY}\"}}\n"))
        .unwrap();
    let ended = run(dir, &cleaning("out"));
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    for name in ["part-1.jsonl.zst: not checked to the end", "part-2.jsonl: not checked to the end"] {
        assert!(ended.err.contains(name), "{}", ended.err);
    }
    assert!(ended.err.contains("part-2.jsonl:2: bad record at byte"), "{}", ended.err);
    assert!(ended.err.contains("hint: the other files were"), "{}", ended.err);
    assert!(!ended.err.contains("not cleaned"), "said once: {}", ended.err);
    // What was found is reported, the whole files are cleaned, the others are not.
    assert_eq!(rows(&fs::read_to_string(dir.join("out/report.jsonl")).unwrap()).len(), 5);
    let manifest = read(dir.join("out/manifest.json"));
    assert_eq!((&manifest["records_in"], &manifest["kept"], &manifest["removed"]), (&20.into(), &17.into(), &3.into()));
    assert_eq!(manifest["failed"].as_array().unwrap().len(), 2);
    assert!(dir.join("out/corpus/a/part-0.jsonl").exists() && !dir.join("out/corpus/b/part-2.jsonl").exists());
    // Mended, the same command does what is missing and ends as if nothing had been wrong.
    fs::write(dir.join("in/a/part-1.jsonl.zst"), zstd::encode_all(&b"{\"text\":\"mended\"}\n"[..], 1).unwrap())
        .unwrap();
    fs::write(
        dir.join("in/b/part-2.jsonl"),
        format!("{{\"text\":\"{FERRY}\"}}\n{{\"text\":\"x\"}}\n{{\"text\":\"{FERRY}\"}}\n"),
    )
    .unwrap();
    let ended = run(dir, &cleaning("out"));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("going on: 2 of 4 files were checked before"), "{}", ended.err);
    succeed(dir, &cleaning("once"));
    same_outputs(dir, "out", "once");
    fail(dir, &cleaning("out"), "out: the directory is not empty", "nothing is overwritten");
}

#[test]
fn an_interrupted_run_goes_on_and_another_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    two_parts(dir);
    succeed(dir, &cleaning("once"));
    // As a kill leaves it: one part done, one half written, one cleaned file in its place without an account.
    fs::write(dir.join("in/b/zz.jsonl"), "{\"text\":").unwrap();
    assert_eq!(run(dir, &cleaning("out")).code, Some(2));
    fs::remove_file(dir.join("in/b/zz.jsonl")).unwrap();
    for name in ["report.parquet", "summary.json", "parts/000001.done.json", "parts/000001.cleaned.json"] {
        fs::remove_file(dir.join("out").join(name)).unwrap();
    }
    fs::write(dir.join("out/parts/000001.jsonl"), "{\"training_file\":\"in").unwrap();
    let mut other = cleaning("out");
    other.extend(["--protocol", "gpt3"]);
    fail(dir, &other, "out: holds an interrupted run with other settings", "repeat that run's command");
    let ended = run(dir, &cleaning("out"));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("going on: 1 of 2 files"), "{}", ended.err);
    same_outputs(dir, "out", "once");
}

#[cfg(unix)]
#[test]
fn a_full_disk_ends_in_an_error_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    items(dir);
    // Enough findings for a report, and kept text for a copy, of more than a limit of 32 KiB a file.
    let texts: Vec<String> = (0..200).map(|i| format!("{} {FERRY} {}", filler(i), filler(i + 1))).collect();
    corpus(&dir.join("in/a.jsonl"), &texts);
    corpus(&dir.join("in/b.jsonl"), &(0..10).map(filler).collect::<Vec<_>>());
    let before = tree(&dir.join("in"));
    // A write beyond the limit fails as one to a full disk does; the signal that comes with it is ignored.
    let program = env!("CARGO_BIN_EXE_priorart");
    let shell = format!("trap '' XFSZ; ulimit -f 64; exec {program} {}", cleaning("out").join(" "));
    let ended = Command::new("sh").args(["-c", &shell]).current_dir(dir).output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{told}");
    assert!(told.starts_with("error: ") && told.contains("cannot write"), "{told}");
    assert!(!dir.join("out/summary.json").exists());
    assert_eq!(tree(&dir.join("in")), before);
    // With room again, the same command finishes.
    succeed(dir, &cleaning("out"));
    succeed(dir, &cleaning("once"));
    same_outputs(dir, "out", "once");
}

#[test]
fn inputs_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    two_parts(dir);
    let with = |more: &[&'static str]| [&RUN[..], more].concat();
    fs::create_dir(dir.join("empty")).unwrap();
    fail(dir, &["decontaminate", "--reference", "empty", "--corpus", "in"], "empty", "");
    fail(dir, &["decontaminate", "--reference", "none.jsonl", "--corpus", "in"], "none.jsonl", "");
    fail(dir, &["decontaminate", "--reference", "items.jsonl", "--corpus", "none"], "none", "");
    fail(dir, &with(&["--protocol", "gpt5"]), "unknown protocol `gpt5`", "use priorart, gpt3");
    fail(dir, &with(&["--labels", "none.jsonl"]), "none.jsonl: cannot open", "");
    fs::write(dir.join("labels.jsonl"), "{\"eval_key\":\"items\"}\n").unwrap();
    fail(dir, &with(&["--labels", "labels.jsonl"]), "labels.jsonl:1: not a label", "accept or reject");
    fs::write(dir.join("file"), "x").unwrap();
    fail(dir, &with(&["--out", "file"]), "file", "");
    // An item without text is named by file and line, and no report is begun.
    fs::write(dir.join("blank.jsonl"), "{\"id\":1,\"question\":\"Who?\"}\n{\"id\":2,\"question\":\" \"}\n").unwrap();
    fail(dir, &["decontaminate", "--reference", "blank.jsonl", "--corpus", "in", "--out", "o"], "blank.jsonl:2", "");
    assert!(!dir.join("o").exists());
    // A record that changes between the check and the cleaning stops that file alone.
    let told = succeed(dir, &with(&["--remove", "document", "--dry-run"]));
    assert!(told.contains("20 records in = 17 kept + 3 removed"), "{told}");
    let unset = command(dir, &["decontaminate", "--corpus", "in"]).output().unwrap();
    assert_eq!(unset.status.code(), Some(2));
    let empty: Vec<Value> = Vec::new();
    fs::write(dir.join("none.jsonl"), "").unwrap();
    assert_eq!(
        rows(&succeed(
            dir,
            &["-q", "decontaminate", "--reference", "items.jsonl", "--corpus", "none.jsonl", "--format", "jsonl"]
        )),
        empty
    );
}

#[test]
fn rows_are_told_while_the_run_goes_on() {
    use std::io::{BufRead, BufReader, Read};
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    items(dir);
    fs::create_dir(dir.join("in")).unwrap();
    let line = |text: &str| format!("{}\n", serde_json::json!({"text": text}));
    fs::write(dir.join("in/0.jsonl"), line(FERRY)).unwrap();
    // Long enough that nobody has read it before the row of the first file is out.
    let long: String = (0..20_000).map(|i| line(&filler(i).repeat(20))).collect();
    fs::write(dir.join("in/1.jsonl"), long + &line(FERRY)).unwrap();
    let ask = ["-q", "--format", "jsonl", "decontaminate", "--reference", "items.jsonl", "--corpus", "in"];
    let mut child = command(dir, &ask).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut rows = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    rows.read_line(&mut first).unwrap();
    assert!(first.contains("0.jsonl"), "{first}");
    assert!(child.try_wait().unwrap().is_none(), "the row came when all was over");
    let mut rest = String::new();
    rows.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(rest.lines().filter(|l| l.contains("1.jsonl")).count(), 1, "{rest}");
}
