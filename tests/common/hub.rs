//! A local server that speaks what a model hub speaks: ranges, ETags, commits. It has one repository, `owner/name`.
#![allow(dead_code)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server is to do and what it was asked.
#[derive(Default)]
pub struct Site {
    pub files: HashMap<String, Vec<u8>>,
    /// ETags other than the sha256 of the body.
    pub etags: HashMap<String, String>,
    /// Send only so many bytes of a body, then hang up; once.
    pub cut_after: Option<usize>,
    /// `path range` of every request.
    pub requests: Vec<String>,
}

pub struct Hub {
    pub endpoint: String,
    pub site: Arc<Mutex<Site>>,
}

impl Hub {
    pub fn start(files: &[(&str, &[u8])]) -> Hub {
        let files = files.iter().map(|(n, b)| (n.to_string(), b.to_vec())).collect();
        let site = Arc::new(Mutex::new(Site { files, ..Default::default() }));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = site.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || answer(stream, &shared));
            }
        });
        Hub { endpoint, site }
    }

    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.site.lock().unwrap().requests)
    }
}

/// Answers one request and closes.
fn answer(mut stream: TcpStream, site: &Mutex<Site>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut request, mut range) = (String::new(), String::new());
    reader.read_line(&mut request).unwrap();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            range = value.trim().to_string();
        }
    }
    let url = request.split(' ').nth(1).unwrap_or("").to_string();
    let path = url.split_once("/resolve/").and_then(|(_, r)| r.split_once('/')).map_or("", |(_, p)| p).to_string();
    let mut site = site.lock().unwrap();
    site.requests.push(format!("{path} {range}"));
    let Some(body) = site.files.get(&path).cloned() else {
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    };
    assert!(url.starts_with(&format!("/owner/name/resolve/{COMMIT}/")), "{url}");
    let (from, to) = range.strip_prefix("bytes=").and_then(|r| r.split_once('-')).unwrap_or(("0", ""));
    let from: usize = from.parse().unwrap();
    let to = to.parse().map_or(body.len(), |t: usize| (t + 1).min(body.len()));
    if from >= body.len() {
        let _ =
            stream.write_all(b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{}\r\nETag: \"{}\"\r\nX-Repo-Commit: {COMMIT}\r\nConnection: close\r\n\r\n",
        to - from,
        to - 1,
        body.len(),
        site.etags.get(&path).cloned().unwrap_or_else(|| sha256(&body)),
    );
    let mut part = &body[from..to];
    if part.len() > 1
        && let Some(cut) = site.cut_after
    {
        part = &part[..cut.min(part.len())];
    }
    drop(site);
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(part);
}

/// As the hub writes it.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
