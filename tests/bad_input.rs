//! Bad input of every kind, as a user meets it: what is said, where, what to do, exit code 2, and nothing lost.

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use common::{command, fail, run, succeed};

const FIX: &str = "fix the record; where documents are read, --skip-bad N";

/// A directory with one good corpus file, `good.jsonl`.
fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = (0..50).map(|i| format!("{{\"id\":\"{i}\",\"text\":\"good text number {i}\"}}\n")).collect();
    fs::write(dir.path().join("good.jsonl"), lines).unwrap();
    dir
}

fn build(dir: &Path) {
    succeed(dir, &["build", "--index", "ix", "good.jsonl"]);
}

/// The build of `name` with `bytes` in it fails, leaves no index, and the next build of good input succeeds.
fn refused(name: &str, bytes: &[u8], message: &str, hint: &str) {
    let dir = place();
    fs::write(dir.path().join(name), bytes).unwrap();
    fail(dir.path(), &["build", "--index", "ix", name], message, hint);
    assert!(!dir.path().join("ix/manifest.json").exists());
    build(dir.path());
    assert_eq!(succeed(dir.path(), &["count", "--index", "ix", "good text"]).trim(), "50  good text");
}

#[test]
fn a_bad_record_is_named_by_file_line_and_byte() {
    let first = b"{\"text\":\"one\"}\n";
    let with = |line: &[u8]| [first, line, b"\n"].concat();
    refused("a.jsonl", &with(b"{\"text\": nope}"), "a.jsonl:2: bad record at byte 15: not JSON", FIX);
    refused("a.jsonl", &with(b"[\"text\"]"), "a.jsonl:2: bad record at byte 15: ", FIX);
    refused("a.jsonl", &with(b"{\"body\":\"x\"}"), "a.jsonl:2: bad record at byte 15: there is no field `text`", FIX);
    refused("a.jsonl", &with(b"{\"text\":5}"), "a.jsonl:2: bad record at byte 15: field `text` is a number", FIX);
    refused("a.jsonl", &with(b"{\"text\":\"\xff\"}"), "a.jsonl:2: bad record at byte 15: invalid UTF-8 at byte 9", FIX);
    refused("a.txt", b"caf\xe9", "a.txt:1: bad record at byte 0: invalid UTF-8 at byte 3", FIX);
    let dir = place();
    let arguments = ["build", "--index", "ix", "--text-field", "body", "good.jsonl"];
    fail(dir.path(), &arguments, "good.jsonl:1: bad record at byte 0: there is no field `body`", FIX);
}

#[test]
fn as_many_bad_records_as_allowed_are_skipped_and_listed() {
    let dir = place();
    let lines = "{\"text\":\"one\"}\nnot json\n{\"body\":\"two\"}\n{\"text\":\"three\"}\n{\"text\":\"four\"\n";
    fs::write(dir.path().join("a.jsonl"), lines).unwrap();
    let too_few = ["build", "--index", "ix", "--skip-bad", "2", "a.jsonl"];
    fail(dir.path(), &too_few, "a.jsonl:5: bad record at byte 56: not JSON", FIX);
    assert!(run(dir.path(), &too_few).err.contains("(bad record 3 of the run)"));
    let run = run(dir.path(), &["build", "--index", "ix", "--skip-bad", "3", "--format", "json", "a.jsonl"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let skipped: Vec<&str> = run.err.lines().filter(|l| l.starts_with("skipped: ")).collect();
    assert_eq!(skipped.len(), 3, "{}", run.err);
    assert!(skipped[0].starts_with("skipped: a.jsonl:2: bad record at byte 15: not JSON"), "{}", skipped[0]);
    assert!(skipped[1].starts_with("skipped: a.jsonl:3: bad record at byte 24: there is no field"), "{}", skipped[1]);
    let built: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(built["documents"], 2);
}

#[test]
fn a_truncated_or_foreign_file_is_damage_that_no_budget_covers() {
    let text = "{\"text\":\"hello world, some text that does not repeat 0123456789\"}\n".repeat(2000);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text.as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    let zst = zstd::encode_all(text.as_bytes(), 1).unwrap();
    let parquet = parquet();
    let damaged = "the file is truncated, damaged or not of the kind its name says";
    for (name, bytes, message) in [
        ("a.jsonl.gz", &gz[..gz.len() / 2], "a.jsonl.gz: damaged near byte "),
        ("a.jsonl.gz", b"{\"text\":\"plain\"}\n", "a.jsonl.gz: damaged near byte "),
        ("a.jsonl.zst", &zst[..zst.len() / 2], "a.jsonl.zst: damaged near byte "),
        ("a.jsonl.zst", b"{\"text\":\"plain\"}\n", "a.jsonl.zst: damaged near byte "),
        ("a.parquet", &parquet[..parquet.len() / 2], "a.parquet: damaged near byte "),
        ("a.parquet", b"PAR1 and nothing of that kind PAR1", "a.parquet: damaged near byte "),
    ] {
        refused(name, bytes, message, damaged);
        let dir = place();
        fs::write(dir.path().join(name), bytes).unwrap();
        fail(dir.path(), &["build", "--index", "ix", "--skip-bad", "99", name], message, damaged);
    }
    // The whole files are good.
    for (name, bytes) in [("a.jsonl.gz", &gz), ("a.jsonl.zst", &zst), ("a.parquet", &parquet)] {
        let dir = place();
        fs::write(dir.path().join(name), bytes).unwrap();
        succeed(dir.path(), &["build", "--index", "ix", name]);
    }
}

/// A Parquet file with a column `text` of 1000 rows.
fn parquet() -> Vec<u8> {
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    let schema = parquet::schema::parser::parse_message_type("message m { required binary text (UTF8); }").unwrap();
    let mut out = Vec::new();
    let properties = WriterProperties::builder().build();
    let mut writer = SerializedFileWriter::new(&mut out, schema.into(), properties.into()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let values: Vec<ByteArray> = (0..1000).map(|i| ByteArray::from(format!("row {i} of a table").as_str())).collect();
    column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    out
}

#[test]
fn a_path_that_leads_nowhere() {
    let dir = place();
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::write(dir.path().join("nothing.jsonl"), "").unwrap();
    let build = |path: &str, message: &str, hint: &str| {
        fail(dir.path(), &["build", "--index", "ix", path], message, hint);
        fail(dir.path(), &["build", "--index", "ix", "--dry-run", path], message, hint);
    };
    build("missing.jsonl", "missing.jsonl: no such file or directory", "check the path");
    build("*.nothing", "*.nothing: no file matches", "`**` crosses directories");
    build("empty", "empty: the directory holds no corpus file", ".parquet");
    fail(dir.path(), &["build", "--index", "ix", "nothing.jsonl"], "there are no documents to index", "--text-field");
}

#[test]
fn settings_that_cannot_be() {
    let dir = place();
    let build = |more: &[&str], message: &str, hint: &str| {
        let arguments = [&["build", "--index", "ix"], more, &["good.jsonl"]].concat();
        fail(dir.path(), &arguments, message, hint);
        assert!(!dir.path().join("ix").exists(), "{more:?} left something behind");
    };
    build(&["--memory", "10MB"], "a build cannot do with 10000000 bytes of memory", "--memory 512MB or more");
    build(&["--memory", "lots"], "\"lots\" is not a size; write for example 800MB or 4GB", "");
    build(&["--memory", "4 parsecs"], "is not a unit", "");
    build(&["--threads", "0"], "--threads 0", "leave it out");
    build(&["--tokenizer", "gpt9"], "unknown tokenizer \"gpt9\"", "words, bytes, gpt2");
    build(&["--encoder", "nope"], "the encoder \"nope\" is neither a directory nor in the cache", "fetch nope");
    build(&["--task", "3", "--tasks", "2"], "task 3 of 2 does not exist", "");
    build(&["--format", "yaml"], "invalid value 'yaml'", "");
    fail(dir.path(), &["build", "good.jsonl"], "no index is named", "--index DIR, or set PRIORART_INDEX");
    fs::write(dir.path().join("priorart.toml"), "indx = 'ix'\n").unwrap();
    fail(dir.path(), &["count", "x"], "priorart.toml: not valid settings", "");
    // The least memory that the hint names is enough.
    fs::write(dir.path().join("priorart.toml"), "memory = '512MB'\n").unwrap();
    succeed(dir.path(), &["build", "--index", "ix", "good.jsonl"]);
}

#[test]
fn a_directory_that_is_no_index() {
    let dir = place();
    fs::create_dir_all(dir.path().join("thesis/chapters")).unwrap();
    for path in ["nowhere", "thesis", "good.jsonl"] {
        let message = format!("{path}: no index here (manifest.json is missing)");
        for command in [&["count", "--index", path, "x"][..], &["info", "--index", path]] {
            fail(dir.path(), command, &message, "build one with `priorart build`, or check the path");
        }
        fail(dir.path(), &["add", "--index", path, "good.jsonl"], &message, "");
    }
    fail(dir.path(), &["build", "--index", "thesis", "good.jsonl"], "not empty", "");
    assert!(dir.path().join("thesis/chapters").exists());
}

#[test]
fn an_index_that_exists_or_is_busy() {
    let dir = place();
    build(dir.path());
    let before = fs::read(dir.path().join("ix/manifest.json")).unwrap();
    fail(
        dir.path(),
        &["build", "--index", "ix", "good.jsonl"],
        "ix: there is already an index here",
        "`priorart add` to extend it",
    );
    let lock = fs::File::open(dir.path().join("ix/lock")).unwrap();
    lock.lock().unwrap();
    fail(
        dir.path(),
        &["add", "--index", "ix", "good.jsonl"],
        "ix: index is busy: another process is writing to it",
        "wait for the other process",
    );
    assert_eq!(fs::read(dir.path().join("ix/manifest.json")).unwrap(), before);
    assert_eq!(succeed(dir.path(), &["count", "--index", "ix", "good"]).trim(), "50  good", "readers do not wait");
    lock.unlock().unwrap();
    succeed(dir.path(), &["add", "--index", "ix", "good.jsonl"]);
    assert_eq!(succeed(dir.path(), &["count", "--index", "ix", "good"]).trim(), "100  good");
    fail(dir.path(), &["info", "--index", "ix", "--generation", "7"], "no generation 7", "leave the number out");
    fail(dir.path(), &["neighbors", "--index", "ix", "x"], "this index has no embeddings", "--encoder");
    fail(dir.path(), &["novelty", "--index", "ix", "good.jsonl"], "this index has no embeddings", "--encoder");
}

/// A damaged index: every change is told by file and offset, at once where the structure shows it, and by `--verify` in any case.
#[test]
fn a_damaged_index() {
    let dir = place();
    build(dir.path());
    let shard = fs::read_dir(dir.path().join("ix/shards")).unwrap().next().unwrap().unwrap().path();
    let manifest = dir.path().join("ix/manifest.json");
    let told = "restore the file from a copy or rebuild the index";
    let with = |path: &PathBuf, change: &dyn Fn(Vec<u8>) -> Option<Vec<u8>>, message: &str, hint: &str| {
        let good = fs::read(path).unwrap();
        match change(good.clone()) {
            Some(bad) => fs::write(path, bad).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        for command in [&["count", "--index", "ix", "good"][..], &["info", "--index", "ix"]] {
            fail(dir.path(), command, message, hint);
        }
        fs::write(path, good).unwrap();
    };
    let edited = |bytes: Vec<u8>, from: &str, to: &str| {
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains(from));
        Some(text.replacen(from, to, 1).into_bytes())
    };
    let count = |b: Vec<u8>| edited(b, "\"documents\": 50", "\"documents\": 51");
    with(&manifest, &count, "ix/manifest.json: corrupt at byte ", told);
    with(&manifest, &|b| Some(b[..b.len() / 2].to_vec()), "does not end with its checksum: truncated or edited", told);
    with(&manifest, &|_| Some(b"{}".to_vec()), "ix/manifest.json: corrupt at byte 0", told);
    let newer = |b: Vec<u8>| edited(b, "\"major\": 1", "\"major\": 9");
    with(&manifest, &newer, "format version 9.1 is newer than 1.1", "upgrade priorart");
    for name in
        ["documents.bin", "documents.idx", "suffix.bin", "terms.bin", "tokens.bin", "top.bin", "runs.bin", "shard.json"]
    {
        let path = shard.join(name);
        let cut = format!("{name}: corrupt at byte ");
        with(&path, &|b| Some(b[..b.len() - 1].to_vec()), &cut, told);
        with(&path, &|b| Some(b[..10].to_vec()), &cut, told);
        with(&path, &|_| None, &format!("{name}: corrupt at byte 0: the file is missing"), told);
    }
    let path = shard.join("tokens.bin");
    let mut bytes = fs::read(&path).unwrap();
    bytes[70] ^= 1;
    fs::write(&path, bytes).unwrap();
    let run = run(dir.path(), &["info", "--verify", "--index", "ix", "--format", "json"]);
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert!(run.err.contains("error: a place of the index is damaged"), "{}", run.err);
    let info: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    let damage = info["checksums"]["damage"][0].as_str().unwrap();
    assert!(damage.contains("tokens.bin: checksum mismatch in block 0 (from byte 64)"), "{damage}");
}

#[test]
fn a_reader_that_stops_early_is_no_error() {
    let dir = place();
    build(dir.path());
    let mut child = command(dir.path(), &["find", "--index", "ix", "--limit", "50", "good"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn a_library_that_panics_is_told_as_damage() {
    let inputs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/regressions");
    let mut contained = 0;
    for (kind, name) in [("parquet", "a.parquet"), ("tokenizer_file", "tokenizer.json")] {
        for entry in fs::read_dir(inputs.join(kind)).unwrap() {
            let dir = place();
            let input = dir.path().join(name);
            fs::copy(entry.unwrap().path(), &input).unwrap();
            let arguments = match kind {
                "parquet" => vec!["build", "--index", "ix", name],
                _ => vec!["build", "--index", "ix", "--tokenizer", name, "good.jsonl"],
            };
            let run = run(dir.path(), &arguments);
            assert!(run.code.is_some_and(|code| code == 0 || code == 2), "{run:?}");
            assert!(!run.err.contains("panicked"), "{}", run.err);
            contained += usize::from(run.err.contains("contradicts itself"));
        }
    }
    assert!(contained > 3, "{contained}");
}
