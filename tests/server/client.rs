//! A small index behind a real server on a free port, and a client that can also send nonsense.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use priorart::ann::VectorSettings;
use priorart::corpus;
use priorart::embed::Encoder;
use priorart::embed::chunk::{ChunkRule, Unit};
use priorart::index::IndexDir;
use priorart::index::build::{self as builder, BuildOptions};
use priorart::server::{self, App, IndexSource, Settings};
use priorart::shard::semantic;
use priorart::tokenize::Tokenizer;

/// The documents of every test's index.
pub const DOCUMENTS: [(&str, &str); 4] = [
    ("fox", "Say the quick brown fox jumps over the lazy dog. Again: the quick brown fox."),
    ("dog", "They wrote that the quick brown fox jumps over the lazy dog, and left."),
    ("rain", "Rain in Spain falls mainly on the plain; it does so in the plain of Castile."),
    ("sum", "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May."),
];

/// Adds documents to the index at `path`, or makes it.
pub fn build(path: &Path, file: &str, documents: &[(&str, &str)]) {
    build_with(path, file, documents, None);
}

/// The same, with embeddings of chunks of six encoder tokens.
pub fn build_with(path: &Path, file: &str, documents: &[(&str, &str)], encoder: Option<&dyn Encoder>) {
    let corpus_dir = tempfile::tempdir().unwrap();
    let corpus_file = corpus_dir.path().join(file);
    let lines: String = documents
        .iter()
        .map(|(id, text)| serde_json::json!({ "id": id, "text": text, "kind": "proverb" }).to_string() + "\n")
        .collect();
    std::fs::write(&corpus_file, lines).unwrap();
    let tokenizer = Tokenizer::named("gpt2").unwrap();
    let files = corpus::discover(&[corpus_file]).unwrap();
    let dir = IndexDir::open(path).or_else(|_| IndexDir::create(path, builder::seed(&tokenizer))).unwrap();
    let options = BuildOptions::default();
    builder::build(&dir, &tokenizer, &files, &options, &mut |_| {}).unwrap();
    if let Some(encoder) = encoder {
        let rule = ChunkRule { window: 6, stride: 6, unit: Unit::Encoder };
        for shard in builder::task_shards(&dir, &tokenizer, &files, &options).unwrap() {
            let settings = VectorSettings::default();
            let embedder = semantic::Embedder::new(encoder, &rule, &settings);
            semantic::write(&**dir.store(), &shard, &tokenizer, embedder, &mut |_| ()).unwrap();
        }
    }
    builder::publish(&dir, &tokenizer, &files, &options, |_| {}).unwrap();
}

pub fn settings(name: &str, path: &Path) -> IndexSource {
    IndexSource { name: name.into(), path: path.to_path_buf(), encoder: None, calibration: None }
}

/// A server in a thread of this process, on the index `small`.
pub struct Running {
    pub address: SocketAddr,
    stop: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Running {
    pub fn start(change: impl FnOnce(&mut Settings)) -> Running {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ix");
        build(&path, "a.jsonl", &DOCUMENTS);
        let mut s = Settings::new(vec![settings("small", &path)]);
        s.bind = ([127, 0, 0, 1], 0).into();
        change(&mut s);
        let app = App::open(s).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let bound = server::bind(app).await.unwrap();
                tell.send(bound.address()).unwrap();
                bound
                    .serve(async {
                        let _ = stopped.await;
                    })
                    .await;
            });
        });
        Running { address: told.recv().unwrap(), stop, thread, _dir: dir, path }
    }

    pub fn index_path(&self) -> &Path {
        &self.path
    }

    /// Tells the server to stop; the thread ends when it has.
    pub fn stop(self) -> std::thread::JoinHandle<()> {
        let _ = self.stop.send(());
        self.thread
    }

    pub fn get(&self, path: &str) -> Reply {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
    }

    pub fn post(&self, path: &str, body: &serde_json::Value) -> Reply {
        self.send(path, "application/json", body.to_string().as_bytes())
    }

    pub fn send(&self, path: &str, kind: &str, body: &[u8]) -> Reply {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat())
    }

    /// The answer line by line.
    pub fn lines(&self, path: &str, body: &serde_json::Value) -> (Reply, Vec<serde_json::Value>) {
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: application/x-ndjson\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let reply = self.raw((head + &body).as_bytes());
        let lines = reply.text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        (reply, lines)
    }

    /// Sends bytes as they are. The server may answer and close before it has read them all.
    pub fn raw(&self, bytes: &[u8]) -> Reply {
        let mut c = TcpStream::connect(self.address).unwrap();
        c.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut reader = c.try_clone().unwrap();
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || {
            let _ = c.write_all(&bytes);
        });
        let mut answer = Vec::new();
        let mut buffer = [0; 65536];
        while !complete(&answer) {
            match reader.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(n) => answer.extend_from_slice(&buffer[..n]),
            }
        }
        let _ = reader.shutdown(std::net::Shutdown::Both);
        writer.join().unwrap();
        Reply::parse(&answer)
    }
}

fn split(answer: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    Some((&answer[..end], &answer[end + 4..]))
}

fn complete(answer: &[u8]) -> bool {
    let Some((head, body)) = split(answer) else { return false };
    let head = String::from_utf8_lossy(head).to_lowercase();
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
    length.is_some_and(|n| body.len() >= n)
}

/// The body that chunks carry, as far as they came.
fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(String::from_utf8_lossy(&rest[..end]).trim(), 16).unwrap_or(0);
        let Some(chunk) = rest.get(end + 2..end + 2 + size).filter(|c| !c.is_empty()) else { break };
        body.extend_from_slice(chunk);
        rest = rest.get(end + 4 + size..).unwrap_or_default();
    }
    body
}

/// An answer.
pub struct Reply {
    pub status: u16,
    head: String,
    pub text: String,
    /// Null when the body is not JSON.
    pub json: serde_json::Value,
}

impl Reply {
    fn parse(answer: &[u8]) -> Reply {
        let (head, body) = split(answer).unwrap_or((answer, b""));
        let head = String::from_utf8_lossy(head).to_lowercase();
        let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_vec() };
        let status = head.split_whitespace().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        let text = String::from_utf8_lossy(&body).into_owned();
        Reply { status, json: serde_json::from_str(&text).unwrap_or_default(), head, text }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
    }
}
