//! Fuzz targets: one function for each parser of bytes that others wrote. `tests/fuzzing.rs` drives them in the test suite, the crate in
//! this directory under libFuzzer. A target must return, whatever the bytes: a panic or an endless loop is a finding.
//!
//! Formats with checksums would stop a fuzzer at the door, so [`sealed`] makes the checksums of changed bytes right again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use priorart::ann::{MatrixReader, SearchParams, read_parquet};
use priorart::corpus::{Document, Documents, FileKind, ReadOptions, SourceFile, discover};
use priorart::format::{HEADER_BYTES, Header, MAGIC, Section, checksum};
use priorart::index::build::{BuildOptions, build, publish, seed, task_shards};
use priorart::index::deep::DeepOptions;
use priorart::index::{IndexDir, Manifest, Snapshot, remove};
use priorart::query::boolean::Expression;
use priorart::query::find::FindOptions;
use priorart::query::neighbors::NeighborOptions;
use priorart::query::trace::TraceOptions;
use priorart::shard::{Shard, Terms, semantic};
use priorart::tokenize::{Tokenizer, TokenizerKind};

/// Name of a target, and the function that is given the bytes.
type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 14] = [
    ("manifest", manifest),
    ("section", section),
    ("terms", terms),
    ("shard", shard),
    ("tokenizer_input", tokenizer_input),
    ("tokenizer_file", tokenizer_file),
    ("jsonl", jsonl),
    ("compressed", compressed),
    ("parquet", parquet),
    ("boolean", boolean),
    ("wire", wire),
    ("matrix", matrix),
    ("vector_index", vector_index),
    ("reference", reference),
];

/// Runs the target `name`.
pub fn run(name: &str, data: &[u8]) {
    let Some((_, target)) = TARGETS.iter().find(|(n, _)| *n == name) else { panic!("no fuzz target {name}") };
    target(data);
}

/// A directory in memory for the files of this process.
fn place() -> &'static Path {
    static PLACE: OnceLock<tempfile::TempDir> = OnceLock::new();
    PLACE
        .get_or_init(|| match Path::new("/dev/shm").is_dir() {
            true => tempfile::tempdir_in("/dev/shm").expect("a directory"),
            false => tempfile::tempdir().expect("a directory"),
        })
        .path()
}

fn file(name: &str, data: &[u8]) -> PathBuf {
    let path = place().join(name);
    std::fs::write(&path, data).expect("a written file");
    path
}

/// The small index that queries are asked of, with embeddings and a removal.
pub fn index() -> &'static Path {
    static INDEX: OnceLock<PathBuf> = OnceLock::new();
    INDEX.get_or_init(|| {
        let home = place().join("index");
        let tokenizer = Tokenizer::open("words").expect("words");
        let dir = IndexDir::create(&home, seed(&tokenizer)).expect("an index");
        let line = |i: usize| {
            format!(
                "{{\"id\":\"d{i}\",\"text\":\"The lamp w{} burns in w{} all night, w{}.\",\"n\":{i}}}\n",
                i % 5,
                i % 3,
                i % 7
            )
        };
        let path = file("fuzz.jsonl", (0..20).map(line).collect::<String>().as_bytes());
        let files = discover(&[path]).expect("a file");
        let options = BuildOptions { memory: 1 << 30, ..BuildOptions::default() };
        build(&dir, &tokenizer, &files, &options, &mut |_| ()).expect("a build");
        super::fixture::model(&place().join("model"), 8, 4);
        let encoder = encoder();
        for shard in task_shards(&dir, &tokenizer, &files, &options).expect("shards") {
            let settings = priorart::ann::VectorSettings { kind: priorart::ann::Kind::Hnsw, ..Default::default() };
            let rule =
                priorart::embed::chunk::ChunkRule { window: 4, stride: 4, unit: priorart::embed::chunk::Unit::Encoder };
            let embedder = semantic::Embedder::new(encoder, &rule, &settings);
            semantic::write(&**dir.store(), &shard, &tokenizer, embedder, &mut |_| ()).expect("embeddings");
        }
        publish(&dir, &tokenizer, &files, &options, |_| ()).expect("a generation");
        let snapshot = Snapshot::open(&home).expect("a snapshot");
        let some = snapshot.find_id("d3").expect("an id").into_iter().collect();
        remove::remove(&snapshot, &some).expect("a removal");
        home
    })
}

fn encoder() -> &'static priorart::embed::StaticEncoder {
    static ENCODER: OnceLock<priorart::embed::StaticEncoder> = OnceLock::new();
    ENCODER.get_or_init(|| {
        priorart::embed::StaticEncoder::open(&place().join("model"), &Default::default()).expect("an encoder")
    })
}

fn snapshot() -> &'static Snapshot {
    static SNAPSHOT: OnceLock<Snapshot> = OnceLock::new();
    SNAPSHOT.get_or_init(|| Snapshot::open(index()).expect("a snapshot"))
}

/// A section file with the checksums that its bytes ask for, as far as it has the shape of one.
pub fn sealed(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    if bytes.len() < HEADER_BYTES {
        return bytes;
    }
    bytes[..8].copy_from_slice(&MAGIC);
    let long = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    // The payload takes what the table leaves.
    let (mut payload, total) = (long(&bytes, 32), bytes.len() as u64);
    let fits = |payload: u64| {
        let table = payload.div_ceil(1 << 20).checked_mul(8)?;
        Some((HEADER_BYTES as u64).checked_add(payload.checked_next_multiple_of(8)?)?.checked_add(table)? == total)
    };
    if fits(payload) != Some(true) {
        let room = total - HEADER_BYTES as u64;
        payload = room.saturating_sub(8 * room.div_ceil(1 << 20)) / 8 * 8;
        bytes[32..40].copy_from_slice(&payload.to_le_bytes());
        let end = HEADER_BYTES + payload as usize + 8 * payload.div_ceil(1 << 20) as usize;
        bytes.truncate(end.max(HEADER_BYTES));
        bytes.resize(end, 0);
    }
    let end = HEADER_BYTES + payload as usize;
    let directory = long(&bytes, 48);
    if bytes[22] & 1 == 1 && directory < payload {
        let from = HEADER_BYTES + directory as usize;
        if end - from >= 8 {
            let sum = checksum(&bytes[from..end - 8]);
            bytes[end - 8..end].copy_from_slice(&sum.to_le_bytes());
        }
    }
    let table = end.next_multiple_of(8);
    bytes[end..table].fill(0);
    let sums: Vec<u8> =
        bytes[HEADER_BYTES..end].chunks(1 << 20).flat_map(|block| checksum(block).to_le_bytes()).collect();
    let at = table.min(bytes.len());
    bytes.truncate(at);
    bytes.extend_from_slice(&sums);
    bytes[40..48].copy_from_slice(&checksum(&sums).to_le_bytes());
    let sum = checksum(&bytes[..56]);
    bytes[56..64].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// `manifest.json`, as it is and with the seal made right.
fn manifest(data: &[u8]) {
    let path = Path::new("manifest.json");
    let _ = Manifest::from_bytes(data, path);
    let mut bytes = data.to_vec();
    let tail = b"\"\n}\n";
    let Some(at) = bytes.len().checked_sub(tail.len() + 16) else { return };
    bytes[at + 16..].copy_from_slice(tail);
    bytes[at..at + 16].fill(b'0');
    let seal = format!("{:016x}", checksum(&bytes));
    bytes[at..at + 16].copy_from_slice(seal.as_bytes());
    if let Ok(manifest) = Manifest::from_bytes(&bytes, path) {
        let again = manifest.to_bytes().expect("a manifest that was read can be written");
        assert_eq!(Manifest::from_bytes(&again, path).expect("and read again"), manifest);
        let _ = manifest.totals();
    }
}

/// A section file: header, directory, checksum table.
fn section(data: &[u8]) {
    let _ = Header::decode(data, Path::new("section.bin"));
    for bytes in [data.to_vec(), sealed(data)] {
        let path = file("section.bin", &bytes);
        let Ok(section) = Section::open_any(&path) else { continue };
        let _ = (section.verify(), section.as_u16s().map(<[u16]>::len), section.as_u64s().map(<[u64]>::len));
        for (name, length) in section.subs() {
            if let Ok(sub) = section.sub(name) {
                assert!(sub.bytes().len() == length || section.subs().filter(|s| s.0 == name).count() > 1);
                let _ = sub.as_u32s().map(<[u32]>::len);
            }
        }
    }
}

/// A term dictionary; the first byte is the number of terms it is opened for.
fn terms(data: &[u8]) {
    let Some((&count, rest)) = data.split_first() else { return };
    let dir = place().join("terms");
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("terms.bin"), sealed(rest)).expect("a written file");
    let Ok(terms) = Terms::open(&dir, u64::from(count)) else { return };
    for id in 0..terms.len() as u32 + 1 {
        if let Some(term) = terms.term(id) {
            let _ = terms.id(term);
        }
    }
    let _ = (terms.id(""), terms.id("lamp"), terms.id("a longer term than eight bytes"));
}

/// A whole shard with changed bytes and right checksums, opened and queried: `data` is a list of (file, offset, value).
fn shard(data: &[u8]) {
    type Files = Vec<(String, Vec<u8>)>;
    static BASE: OnceLock<(PathBuf, Files)> = OnceLock::new();
    let (dir, files) = BASE.get_or_init(|| {
        let snapshot = snapshot();
        let from = &snapshot.shards[0].dir;
        let dir = place().join("shard");
        std::fs::create_dir_all(&dir).expect("a directory");
        let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(from)
            .expect("a shard")
            .map(|e| e.expect("an entry"))
            .map(|e| (e.file_name().to_string_lossy().into_owned(), std::fs::read(e.path()).expect("a file")))
            .collect();
        files.sort();
        (dir, files)
    });
    let mut changed: Vec<Option<Vec<u8>>> = vec![None; files.len()];
    for edit in data.chunks_exact(4).take(64) {
        let number = edit[0] as usize % files.len();
        let bytes = changed[number].get_or_insert_with(|| files[number].1.clone());
        // Three in four edits land in the first 4 KB, where small files have all they have.
        let at = u16::from_le_bytes([edit[1], edit[2]]) as usize % bytes.len().clamp(1, 1 << 16);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = edit[3];
        }
    }
    for ((name, good), changed) in files.iter().zip(changed) {
        let bytes = match changed {
            Some(bytes) if good.starts_with(&MAGIC) => sealed(&bytes),
            Some(bytes) => bytes,
            None => good.clone(),
        };
        std::fs::write(dir.join(name), bytes).expect("a written file");
    }
    let Ok(shard) = Shard::open(dir) else { return };
    let whole = snapshot();
    let spec = whole.manifest.tokenizer.clone();
    if shard.meta.tokenizer != spec {
        return;
    }
    let one = Snapshot {
        dir: whole.dir.clone(),
        manifest: whole.manifest.clone(),
        tokenizer: whole.tokenizer.clone(),
        shards: vec![shard],
        removals: Vec::new(),
    };
    ask(&one);
    let _ = one.verify_deep(&DeepOptions { encoder: Some(encoder()), sample: 3, seed: 1 }, &mut |_| ());
}

fn ask(s: &Snapshot) {
    for query in ["the lamp", "w1 burns in w0 all night", "night", ""] {
        let Ok(ngram) = s.ngram(query) else { continue };
        let _ = (s.count(&ngram), s.find(&ngram, &FindOptions::default()), s.next(&ngram, 5));
        let _ = (s.longest_matches(&ngram), s.maximal_spans(&ngram), s.counts(&[ngram.clone(), ngram]));
    }
    let _ = s.trace("the lamp w1 burns in w0 all night", &TraceOptions { min_tokens: 1, ..Default::default() });
    if let Ok(expression) = Expression::parse(s, "lamp AND (night OR w1)") {
        let _ = (s.boolean_count(&expression, None), s.boolean_count(&expression, Some(6)));
    }
    let _ = s.neighbors(encoder(), &["lamp w1 w2"], &NeighborOptions::default());
    if let Ok(found) = s.find_id("d7") {
        for document in found {
            let _ = (s.document(document), s.neighbors_of_document(document, &NeighborOptions::default()));
        }
    }
}

/// Text of any kind through every named tokenizer: byte ranges lie in the text and in order.
fn tokenizer_input(data: &[u8]) {
    static ALL: OnceLock<Vec<Tokenizer>> = OnceLock::new();
    let all = ALL.get_or_init(|| ["words", "bytes", "gpt2"].map(|n| Tokenizer::open(n).expect("a tokenizer")).into());
    let text = String::from_utf8_lossy(data);
    for tokenizer in all {
        let mut spans = Vec::new();
        let count = match &tokenizer.kind {
            TokenizerKind::Closed(t) => {
                let (mut ids, mut again) = (Vec::new(), Vec::new());
                if t.encode(&text, &mut ids).is_err() {
                    continue;
                }
                t.encode_spans(&text, &mut again, &mut spans).expect("what was encoded");
                assert_eq!(ids, again);
                assert!(ids.iter().all(|&id| id < t.vocab()));
                ids.len()
            }
            TokenizerKind::Open(t) => {
                let mut count = 0;
                t.terms(&text, &mut |_, span| {
                    count += 1;
                    spans.push(span);
                });
                count
            }
        };
        assert_eq!(spans.len(), count);
        assert!(spans.iter().all(|s| s.start <= s.end && s.end as usize <= text.len()));
        assert!(spans.windows(2).all(|w| w[0].start <= w[1].start));
    }
}

/// A `tokenizer.json`.
fn tokenizer_file(data: &[u8]) {
    let path = file("tokenizer.json", data);
    let Ok(tokenizer) = Tokenizer::from_file(&path) else { return };
    if let TokenizerKind::Closed(t) = &tokenizer.kind {
        let mut ids = Vec::new();
        let _ = t.encode("the lamp in w1, naïve 漢字", &mut ids);
    }
}

fn read(path: PathBuf, kind: FileKind, length: usize) {
    let source = SourceFile { path, bytes: length as u64, kind };
    let mut documents = Documents::new(vec![source], ReadOptions { skip_bad: u64::MAX, ..ReadOptions::default() });
    let mut document = Document::default();
    // A bound on what a few bytes can become.
    for _ in 0..100_000 {
        match documents.next(&mut document) {
            Ok(true) => assert!(document.text.len() < 1 << 30),
            _ => return,
        }
    }
}

/// A corpus file of JSON lines, and of plain text.
fn jsonl(data: &[u8]) {
    read(file("corpus.jsonl", data), FileKind::Jsonl, data.len());
    read(file("corpus.txt", data), FileKind::Text, data.len());
}

/// A compressed corpus file: the first byte says how.
fn compressed(data: &[u8]) {
    let Some((&how, rest)) = data.split_first() else { return };
    match how % 2 {
        0 => read(file("corpus.jsonl.gz", rest), FileKind::JsonlGz, rest.len()),
        _ => read(file("corpus.jsonl.zst", rest), FileKind::JsonlZst, rest.len()),
    }
}

/// A Parquet corpus, and a Parquet file of vectors.
fn parquet(data: &[u8]) {
    let path = file("corpus.parquet", data);
    read(path.clone(), FileKind::Parquet, data.len());
    let _ = read_parquet(&path, "id", "vector", &mut |_, _| Ok(()));
}

/// A boolean expression.
fn boolean(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let s = snapshot();
    if let Ok(expression) = Expression::parse(s, &text) {
        let _ = (s.boolean_count(&expression, None), s.boolean_count(&expression, Some(5)));
    }
}

/// The body of a request to the server, the first byte says to which route.
fn wire(data: &[u8]) {
    use axum::body::Body;
    use hyper::service::Service;
    type Served = hyper_util::service::TowerToHyperService<axum::Router>;
    static SERVER: OnceLock<(tokio::runtime::Runtime, Mutex<Served>)> = OnceLock::new();
    const ROUTES: [&str; 8] = [
        "/",
        "/index/attribution",
        "/v1/index/count",
        "/v1/index/find",
        "/v1/index/next",
        "/v1/index/trace",
        "/v1/index/neighbors",
        "/v1/index/novelty",
    ];
    let Some((&route, body)) = data.split_first() else { return };
    let (runtime, served) = SERVER.get_or_init(|| {
        let path = index().to_path_buf();
        let source = priorart::server::IndexSource {
            name: "index".into(),
            path,
            encoder: Some(Arc::new(
                priorart::embed::StaticEncoder::open(&place().join("model"), &Default::default()).expect("an encoder"),
            )),
            calibration: None,
        };
        let mut settings = priorart::server::Settings::new(vec![source]);
        settings.probes = 0;
        let app: Arc<priorart::server::App> = priorart::server::App::open(settings).expect("a server");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        (runtime, Mutex::new(hyper_util::service::TowerToHyperService::new(priorart::server::router(app))))
    });
    let request = hyper::Request::post(ROUTES[route as usize % ROUTES.len()])
        .header("content-type", "application/json")
        .body(Body::from(body.to_vec()))
        .expect("a request");
    let service = served.lock().expect("the server").clone();
    let answer = runtime.block_on(service.call(request)).expect("an answer");
    // The server turns a panic of a query into this.
    assert_ne!(answer.status().as_u16(), 500);
}

/// A matrix of vectors: .npy and .safetensors.
fn matrix(data: &[u8]) {
    for name in ["matrix.npy", "matrix.safetensors"] {
        let path = file(name, data);
        let Ok(mut matrix) = MatrixReader::open(&path, None) else { continue };
        let mut values = Vec::new();
        let _ = matrix.read(0..matrix.rows().min(64), &mut values);
    }
}

/// A vector index file.
fn vector_index(data: &[u8]) {
    let path = file("ann.bin", data);
    let Ok(index) = priorart::ann::open(&path) else { return };
    if index.dim() <= 4096 {
        let query = vec![0.5f32; index.dim()];
        let _ = index.search(&query, 5, &SearchParams::default(), None);
        let _ = index.within(&query, 0.1, &SearchParams::default(), None);
    }
}

/// A compiled reference set.
fn reference(data: &[u8]) {
    let _ = priorart::reference::ReferenceIndex::open(&file("items.ref", data));
}
