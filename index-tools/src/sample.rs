//! A sample of a corpus, read, tokenised, indexed and embedded with a clock running: what `index-tools plan` scales up.

use std::path::PathBuf;

use priorart::corpus::{Document, Documents, ReadOptions, discover};
use priorart::embed::{Encoder, OpenOptions, find_model, open};
use priorart::shard::Layout;
use priorart::shard::build::{ShardBuilder, tokenize};
use priorart::store::{DiskStore, Store};
use priorart::tokenize::Tokenizer;
use priorart::{Error, Result};

/// Encoder windows timed at most.
const WINDOWS: usize = 256;
/// Encoder tokens of a timed window.
pub const WINDOW: usize = 128;

/// What a sample showed.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Sampled {
    /// Bytes on disk of the whole corpus, and how much of them was read.
    pub disk_bytes: u64,
    pub sampled_disk_bytes: u64,
    /// Of the sample.
    pub documents: u64,
    pub text_bytes: u64,
    pub tokens: u64,
    /// CPU seconds of reading and tokenising it, and of sorting and writing its shard.
    pub tokenize_seconds: f64,
    pub write_seconds: f64,
    /// Bytes that its shard has in each file.
    pub files: Vec<(String, u64)>,
    pub encoder: Option<SampledEncoder>,
}

/// What a sample showed of an encoder.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SampledEncoder {
    pub name: String,
    pub dim: usize,
    /// Encoder tokens of the texts that were cut.
    pub tokens: u64,
    /// Bytes of those texts.
    pub text_bytes: u64,
    /// Windows of 128 tokens embedded, and the CPU seconds that took.
    pub windows: u64,
    pub seconds: f64,
}

/// CPU seconds this process has used; where the system does not tell, seconds of a clock.
fn cpu_seconds() -> f64 {
    let fields = std::fs::read_to_string("/proc/self/stat").ok().and_then(|s| {
        let rest = s.rsplit_once(')')?.1.to_string();
        let of = |n: usize| rest.split_whitespace().nth(n)?.parse::<f64>().ok();
        Some(of(11)? + of(12)?)
    });
    match fields {
        // Linux counts hundredths of a second for user programs.
        Some(ticks) => ticks / 100.0,
        None => std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64()),
    }
}

/// Reads up to `most` bytes of text, an equal share of every file, and builds a shard of it in a temporary directory.
pub fn take(paths: &[PathBuf], tokenizer: &Tokenizer, encoder: Option<&str>, most: u64) -> Result<Sampled> {
    let files = discover(paths)?;
    let disk_bytes: u64 = files.iter().map(|f| f.bytes).sum();
    let place = tempfile::tempdir().map_err(Error::io(std::env::temp_dir(), "create"))?;
    let dir = place.path().join("shard");
    DiskStore.create_dir_all(&dir)?;
    let mut builder = ShardBuilder::create(&DiskStore, &dir, tokenizer, Layout::Fast)?;
    let mut sampled = Sampled {
        disk_bytes,
        sampled_disk_bytes: 0,
        documents: 0,
        text_bytes: 0,
        tokens: 0,
        tokenize_seconds: 0.0,
        write_seconds: 0.0,
        files: Vec::new(),
        encoder: None,
    };
    let mut texts: Vec<String> = Vec::new();
    for file in &files {
        let share = (most as f64 * file.bytes as f64 / disk_bytes.max(1) as f64).max(65_536.0) as u64;
        let mut reader = Documents::new(vec![file.clone()], ReadOptions::default());
        let (mut size, mut ended) = (0, false);
        while size < share && !ended {
            let start = cpu_seconds();
            let mut batch = Vec::new();
            let mut bytes = 0;
            while bytes < 1 << 20 && size < share {
                let mut document = Document::default();
                if !reader.next(&mut document)? {
                    ended = true;
                    break;
                }
                bytes += document.text.len() as u64;
                size += document.text.len() as u64;
                batch.push(document);
            }
            let wanted = 400usize.saturating_sub(texts.len()).min(4);
            texts.extend(batch.iter().take(wanted).map(|d| d.text.clone()));
            sampled.documents += batch.len() as u64;
            sampled.text_bytes += bytes;
            let batch = tokenize(tokenizer, batch)?;
            sampled.tokens += batch.ids.len() as u64;
            sampled.tokenize_seconds += cpu_seconds() - start;
            let start = cpu_seconds();
            builder.append(&batch)?;
            sampled.write_seconds += cpu_seconds() - start;
        }
        sampled.sampled_disk_bytes += if ended { file.bytes } else { reader.bytes_read().min(file.bytes) };
    }
    if sampled.tokens == 0 {
        return Err(Error::invalid_hint("the sample has no tokens", "check the paths; --text-field is `text`"));
    }
    let start = cpu_seconds();
    builder.finish()?;
    sampled.write_seconds += cpu_seconds() - start;
    sampled.files = DiskStore.list(&dir)?.into_iter().map(|e| (e.name, e.bytes)).collect();
    if let Some(name) = encoder {
        sampled.encoder = Some(embed(name, &texts)?);
    }
    Ok(sampled)
}

fn embed(name: &str, texts: &[String]) -> Result<SampledEncoder> {
    let dir = match std::path::Path::new(name).is_dir() {
        true => PathBuf::from(name),
        false => find_model(name).ok_or_else(|| {
            Error::invalid_hint(
                format!("the encoder {name:?} is neither a directory nor in the cache"),
                format!("run `index-tools fetch {name}`, or pass the directory of a model"),
            )
        })?,
    };
    let encoder: Box<dyn Encoder> = open(&dir, &OpenOptions { name: Some(name.into()), ..OpenOptions::default() })?;
    let (mut tokens, mut bytes) = (0, 0);
    let mut windows: Vec<Vec<u32>> = Vec::new();
    for text in texts {
        let cut = encoder.tokenize(text)?;
        tokens += cut.ids.len() as u64;
        bytes += text.len() as u64;
        let room = WINDOWS.saturating_sub(windows.len());
        windows.extend(cut.ids.chunks_exact(WINDOW.min(encoder.max_window())).take(room).map(<[u32]>::to_vec));
    }
    if windows.is_empty() {
        return Err(Error::invalid_hint(
            "the sample's texts are too short to time the encoder",
            "give the encoder's speed with --encode-rate instead",
        ));
    }
    let slices: Vec<&[u32]> = windows.iter().map(Vec::as_slice).collect();
    // Weights are read when they are first used.
    encoder.embed_ids(&slices[..1])?;
    let start = cpu_seconds();
    encoder.embed_ids(&slices)?;
    let seconds = (cpu_seconds() - start).max(0.01);
    let dim = encoder.spec().dim;
    Ok(SampledEncoder { name: name.into(), dim, tokens, text_bytes: bytes, windows: windows.len() as u64, seconds })
}
