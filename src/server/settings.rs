//! What a server serves, and the limits on it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::embed::Encoder;
use crate::novelty::Calibration;

/// An index to serve.
#[derive(Clone)]
pub struct IndexSource {
    /// Its name in URLs: letters, digits, `-`, `_` and `.`.
    pub name: String,
    pub path: PathBuf,
    /// The encoder its vectors were made with; without it, there are no neighbours.
    pub encoder: Option<Arc<dyn Encoder>>,
    /// The human reference its novelty is measured against.
    pub calibration: Option<Arc<Calibration>>,
}

/// Settings of a server.
#[derive(Clone)]
pub struct Settings {
    pub bind: SocketAddr,
    /// The first one is the page's default.
    pub indexes: Vec<IndexSource>,
    pub limits: Limits,
    /// Requests must carry `Authorization: Bearer <token>`, those for the page's own files and for health apart.
    pub token: Option<String>,
    /// Withhold the corpus's text: answers carry ids, offsets and counts only.
    pub redact: bool,
    /// The origin whose pages may call the API; none by default.
    pub allow_origin: Option<String>,
    /// How often to look for a new generation.
    pub poll: Duration,
    /// Passages a window length and edit level that measure the recall of the semantic search, in the background; 0: none.
    pub probes: usize,
    /// Bytes of memory for a copy of the exact index of each index; twice that while a new generation is opened.
    pub resident: u64,
}

/// Limits on every input. All are inclusive.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request body.
    pub body_bytes: usize,
    /// Characters of a query.
    pub query_chars: usize,
    /// Characters of a text to trace.
    pub text_chars: usize,
    /// Queries of a batch.
    pub batch: usize,
    /// Documents, tokens or neighbours in an answer.
    pub results: usize,
    /// Characters of context, and of a document's excerpt.
    pub context_chars: usize,
    /// Occurrences a search may have to list.
    pub occurrences: u64,
    /// Time a request may take, its wait included.
    pub timeout: Duration,
    /// Time an answer that is sent line by line may take in all.
    pub stream: Duration,
    /// Bytes of a batch's answer that is not sent line by line.
    pub answer_bytes: usize,
    /// Bytes of text of an index that an eval item is checked against in a request.
    pub scan_bytes: u64,
    /// Time a client may take to send a request's head, then its body, and to read a line of an answer.
    pub read_timeout: Duration,
    /// Expensive queries that run at once.
    pub running: usize,
    /// Expensive queries that wait for their turn; further ones are told to come back.
    pub waiting: usize,
    /// Connections open at once; further ones are refused with 503.
    pub connections: usize,
    /// Time running requests have to finish once the server is told to stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, |n| n.get());
        Limits {
            body_bytes: 1 << 20,
            query_chars: 10_000,
            text_chars: 100_000,
            batch: 1000,
            results: 1000,
            context_chars: 20_000,
            occurrences: 5_000_000,
            timeout: Duration::from_secs(30),
            stream: Duration::from_secs(300),
            answer_bytes: 64 << 20,
            scan_bytes: 4 << 30,
            read_timeout: Duration::from_secs(10),
            running: cores,
            waiting: 64 * cores,
            connections: 4096,
            drain: Duration::from_secs(20),
        }
    }
}

impl Settings {
    /// Serves `indexes` on loopback, port 8080, with the default limits.
    pub fn new(indexes: Vec<IndexSource>) -> Settings {
        Settings {
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            indexes,
            limits: Limits::default(),
            token: None,
            redact: false,
            allow_origin: None,
            poll: Duration::from_secs(5),
            probes: 10,
            resident: 0,
        }
    }
}
