//! The `fetch` subcommand as a user meets it: exit codes, standard output, standard error.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

fn run(cache: &Path, arguments: &[&str]) -> Output {
    // A port of this machine where nobody answers: the hub cannot be reached.
    run_at(cache, "http://127.0.0.1:9", arguments)
}

fn run_at(cache: &Path, hub: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_index-tools"));
    command.env("PRIORART_CACHE", cache).env("HF_ENDPOINT", hub).env("HF_HOME", cache.join("hf"));
    command.args(arguments).output().unwrap()
}

/// A hub of which every file has the same bytes, none of them what the catalog expects.
struct Hub {
    endpoint: String,
    /// Bytes of an answer's body after which it hangs up.
    cut: Arc<Mutex<usize>>,
    /// File and range of each request.
    asked: Arc<Mutex<Vec<String>>>,
}

const FOREIGN: usize = 300_000;

impl Hub {
    fn start() -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (cut, asked) = (Arc::new(Mutex::new(usize::MAX)), Arc::new(Mutex::new(Vec::new())));
        let hub = Hub { endpoint, cut: cut.clone(), asked: asked.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (cut, asked) = (cut.clone(), asked.clone());
                std::thread::spawn(move || answer(stream, *cut.lock().unwrap(), &asked));
            }
        });
        hub
    }
}

/// Answers one request for a range, and closes.
fn answer(mut stream: TcpStream, cut: usize, asked: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    let range = lines.take_while(|l| !l.is_empty()).find(|l| l.to_ascii_lowercase().starts_with("range:"));
    let range = range.map_or(String::new(), |l| l[6..].trim().to_string());
    let file = request.split(' ').nth(1).and_then(|url| url.rsplit_once('/')).map_or("", |(_, file)| file);
    asked.lock().unwrap().push(format!("{file} {range}"));
    let (from, to) = range.strip_prefix("bytes=").and_then(|r| r.split_once('-')).unwrap_or(("0", ""));
    let from: usize = from.parse().unwrap_or(0);
    let to = to.parse().map_or(FOREIGN, |to: usize| (to + 1).min(FOREIGN));
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{FOREIGN}\r\nETag: \"0123456789abcdef\"\r\nX-Repo-Commit: 0123456789abcdef0123456789abcdef01234567\r\nConnection: close\r\n\r\n",
        to - from,
        to - 1,
    );
    let _ = stream.write_all(head.as_bytes());
    // The first byte alone is how a client asks for the length.
    let length = if to - from > 1 { (to - from).min(cut) } else { to - from };
    let _ = stream.write_all(&vec![b'x'; length]);
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
fn a_download_is_resumed_and_one_that_is_not_what_the_catalog_says_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::start();
    let fetch = ["fetch", "all-minilm-l6-v2", "--from", "hub"];
    *hub.cut.lock().unwrap() = 70_000;
    let cut = run_at(cache.path(), &hub.endpoint, &fetch);
    assert_eq!((cut.status.code(), text(&cut.stdout).as_str()), (Some(2), ""));
    let words = text(&cut.stderr);
    assert!(words.contains("error: cannot fetch all-minilm-l6-v2: model.safetensors of "), "{words}");
    assert!(words.contains(" could not be downloaded") && words.contains("\n\nhint: "), "{words}");

    *hub.cut.lock().unwrap() = usize::MAX;
    hub.asked.lock().unwrap().clear();
    let wrong = run_at(cache.path(), &hub.endpoint, &fetch);
    let first = hub.asked.lock().unwrap().iter().find(|r| !r.ends_with("=0-0")).cloned().unwrap();
    let from = first.strip_prefix("model.safetensors bytes=").and_then(|r| r.strip_suffix('-'));
    assert!(from.is_some_and(|n| n.parse::<usize>().is_ok_and(|n| n >= 70_000)), "starts again: {first}");
    assert_eq!((wrong.status.code(), text(&wrong.stdout).as_str()), (Some(2), ""));
    let words = text(&wrong.stderr);
    let expected = "cannot fetch all-minilm-l6-v2: model.safetensors: sha256 mismatch: expected 53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db, found ";
    assert!(words.contains(expected) && words.contains("\n\nhint: "), "{words}");
    assert!(!cache.path().join("all-minilm-l6-v2").exists(), "nothing of it stays");
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
