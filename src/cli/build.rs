//! `build`, `add`, `publish`.

use std::path::PathBuf;

use clap::Args;

use super::output::{self, bytes, number};
use super::{Format, Global, Outcome};
use crate::corpus::{self, Document, Documents, ReadOptions, SourceFile, TokenFormat, TokenInput};
use crate::error::Result;
use crate::index::build::{self as builder, BuildOptions};
use crate::index::{IndexDir, Manifest};
use crate::shard::Layout;
use crate::shard::build::{disk_bytes_per_token, tokenize};
use crate::tokenize::Tokenizer;

/// What to read, and how.
#[derive(Debug, Clone, Args)]
pub struct ReadArgs {
    /// Files, directories or globs: .jsonl, .jsonl.gz, .jsonl.zst, .parquet, .txt; with --tokens .npy, .bin, .ds
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Field or column that holds the text
    #[arg(long, default_value = "text", value_name = "FIELD")]
    pub text_field: String,
    /// Field that holds the id; without it, the path and the record's number
    #[arg(long, default_value = "id", value_name = "FIELD")]
    pub id_field: String,
    /// Fields to keep as metadata [default: all others]
    #[arg(long, value_delimiter = ',', value_name = "FIELD,...")]
    pub metadata: Option<Vec<String>>,
    /// Tolerate up to N bad records, and list them
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub skip_bad: u64,
    /// The files hold tokens of the named tokenizer, not texts: their text is made of the tokens
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub tokens: Option<TokenFormat>,
    /// With --tokens: bytes of a token [default: 2 where the vocabulary fits, else 4; Megatron's files tell]
    #[arg(long, requires = "tokens", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub token_width: Option<u8>,
    /// With --tokens: the id that ends a document and is not part of it
    #[arg(long, requires = "tokens", value_name = "ID")]
    pub end_of_document: Option<u32>,
}

impl ReadArgs {
    fn options(&self, tokenizer: &Tokenizer) -> ReadOptions {
        let wide = tokenizer.spec.vocab.is_some_and(|n| n > 1 << 16);
        let tokens = self.tokens.map(|format| TokenInput {
            format,
            width: self.token_width.unwrap_or(if wide { 4 } else { 2 }),
            end_of_document: self.end_of_document,
        });
        ReadOptions {
            text_field: self.text_field.clone(),
            id_field: self.id_field.clone(),
            metadata_fields: self.metadata.clone(),
            skip_bad: self.skip_bad,
            tokens,
        }
    }

    fn files(&self) -> Result<Vec<SourceFile>> {
        match self.tokens {
            Some(format) => corpus::discover_tokens(&self.paths, format),
            None => corpus::discover(&self.paths),
        }
    }
}

/// Dividing a build.
#[derive(Debug, Clone, Args)]
pub struct TaskArgs {
    /// Build only this part of the plan, numbered from 0; publish when all are done
    #[arg(long, requires = "tasks", value_name = "I")]
    pub task: Option<u32>,
    /// Parts of the plan
    #[arg(long, value_name = "N")]
    pub tasks: Option<u32>,
}

/// The layout of new shards.
#[derive(Debug, Clone, Copy, Args)]
pub struct LayoutArgs {
    /// Layout of the new shards' token index
    #[arg(long, value_enum, default_value_t = Layout::Fast)]
    pub layout: Layout,
}

#[derive(Debug, Args)]
pub struct BuildArgs {
    #[command(flatten)]
    read: ReadArgs,
    /// words, bytes, gpt2, cl100k, o200k, or the path of a tokenizer.json
    #[arg(long, default_value = "words", value_name = "NAME")]
    tokenizer: String,
    #[command(flatten)]
    semantic: super::semantic::EncoderArgs,
    #[command(flatten)]
    states: super::semantic::StatesArgs,
    #[command(flatten)]
    layout: LayoutArgs,
    #[command(flatten)]
    tasks: TaskArgs,
    /// Print what the build would make and need, and stop
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub struct AddArgs {
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    states: super::semantic::StatesArgs,
    #[command(flatten)]
    layout: LayoutArgs,
    #[command(flatten)]
    tasks: TaskArgs,
    /// Print what would be added, and stop
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub struct PublishArgs {
    #[command(flatten)]
    read: ReadArgs,
    /// The tokenizer the tasks were given
    #[arg(long, default_value = "words", value_name = "NAME")]
    tokenizer: String,
    #[command(flatten)]
    layout: LayoutArgs,
    /// Parts of the plan
    #[arg(long, value_name = "N")]
    tasks: u32,
}

/// What a build would make and need.
#[derive(Debug, serde::Serialize)]
struct Estimate {
    files: usize,
    bytes_on_disk: u64,
    documents: u64,
    text_bytes: u64,
    tokens: u64,
    shards: u64,
    index_bytes: u64,
    peak_memory_bytes: u64,
    /// Share of the input that was read to tell.
    sampled: f64,
}

pub fn build(global: &Global, args: BuildArgs) -> anyhow::Result<Outcome> {
    let tokenizer = Tokenizer::open(&args.tokenizer)?;
    let files = args.read.files()?;
    let mut encoder = args.semantic.open(global)?;
    let token_states = args.states.bits(encoder.as_ref())?;
    if args.dry_run {
        return dry_run(global, &tokenizer, &files, &args.read.options(&tokenizer), args.layout);
    }
    let path = global.index_path()?;
    // Before the directory is made: what cannot be built leaves nothing behind.
    options(global, &tokenizer, &args.read, &args.tasks, args.layout).check(&tokenizer)?;
    let mut seed = builder::seed(&tokenizer);
    if let Some(e) = &mut encoder {
        e.token_states = token_states;
        seed.encoder = Some(e.encoder.spec().clone());
        seed.chunking = Some(e.chunking.clone());
    }
    let dir = IndexDir::create(path, seed)?;
    run(global, &dir, &tokenizer, &files, options(global, &tokenizer, &args.read, &args.tasks, args.layout), encoder)
}

pub fn add(global: &Global, args: AddArgs) -> anyhow::Result<Outcome> {
    let dir = IndexDir::open(global.index_path()?)?;
    let manifest = dir.manifest()?;
    let tokenizer = Tokenizer::from_spec(&manifest.tokenizer)?;
    let files = args.read.files()?;
    if args.dry_run {
        return dry_run(global, &tokenizer, &files, &args.read.options(&tokenizer), args.layout);
    }
    let mut encoder = super::semantic::open_for(global, &manifest)?;
    let token_states = args.states.bits(encoder.as_ref())?;
    if let Some(e) = &mut encoder {
        e.token_states = token_states;
    }
    run(global, &dir, &tokenizer, &files, options(global, &tokenizer, &args.read, &args.tasks, args.layout), encoder)
}

fn options(
    global: &Global,
    tokenizer: &Tokenizer,
    read: &ReadArgs,
    tasks: &TaskArgs,
    layout: LayoutArgs,
) -> BuildOptions {
    BuildOptions {
        read: read.options(tokenizer),
        memory: global.memory(),
        task: tasks.task.unwrap_or(0),
        tasks: tasks.tasks.unwrap_or(1),
        layout: layout.layout,
    }
}

fn run(
    global: &Global,
    dir: &IndexDir,
    tokenizer: &Tokenizer,
    files: &[SourceFile],
    options: BuildOptions,
    encoder: Option<super::semantic::Opened>,
) -> anyhow::Result<Outcome> {
    let mine = builder::task_files(files, options.task, options.tasks);
    let bar = output::bar(mine.iter().map(|f| f.bytes).sum(), global.quiet, "index");
    let built = builder::build(dir, tokenizer, files, &options, &mut |p| {
        bar.set_position(p.bytes);
        bar.set_message(format!(
            "{} documents, {} tokens{}",
            number(p.documents),
            number(p.tokens),
            if p.sorting { ", sorting" } else { "" }
        ));
    })?;
    bar.finish_and_clear();
    for bad in &built.bad {
        eprintln!("skipped: {}:{}: bad record at byte {}: {}", bad.path.display(), bad.line, bad.byte, bad.what);
    }
    if !global.quiet && built.resumed_documents > 0 {
        eprintln!("resumed: {} documents were indexed by an earlier run", number(built.resumed_documents));
    }
    if !global.quiet && built.shards > 1 {
        eprintln!(
            "{} shards: with --memory of {} one holds about {} tokens",
            built.shards,
            bytes(options.memory),
            number(builder::shard_tokens(tokenizer, options.memory, options.layout)?)
        );
    }
    if let Some(e) = &encoder {
        e.embed_shards(global, dir, tokenizer, files, &options)?;
    }
    if options.tasks > 1 {
        if !global.quiet {
            eprintln!(
                "task {} of {} is done; run `priorart publish` with the same paths when all are",
                options.task, options.tasks
            );
        }
        return show(global, &built, |b| {
            format!("{} documents, {} tokens in {} shards", number(b.documents), number(b.tokens), b.shards)
        });
    }
    let published = builder::publish(dir, tokenizer, files, &options, |_| {})?;
    summary(global, &published)
}

pub fn publish(global: &Global, args: PublishArgs) -> anyhow::Result<Outcome> {
    let path = global.index_path()?;
    let tokenizer = Tokenizer::open(&args.tokenizer)?;
    let files = args.read.files()?;
    let dir = match IndexDir::open(path) {
        Ok(dir) => dir,
        Err(_) => IndexDir::create(path, builder::seed(&tokenizer))?,
    };
    let options = BuildOptions {
        read: args.read.options(&tokenizer),
        memory: global.memory(),
        task: 0,
        tasks: args.tasks,
        layout: args.layout.layout,
    };
    summary(global, &builder::publish(&dir, &tokenizer, &files, &options, |_| {})?)
}

fn summary(global: &Global, m: &Manifest) -> anyhow::Result<Outcome> {
    let item = serde_json::json!({
        "generation": m.generation,
        "documents": m.corpus.documents,
        "tokens": m.corpus.tokens,
        "text_bytes": m.corpus.text_bytes,
        "shards": m.shards.len(),
        "bytes": m.shards.iter().map(|s| s.bytes()).sum::<u64>(),
    });
    show(global, &item, |_| {
        format!(
            "generation {}: {} documents, {} tokens in {} shards",
            m.generation,
            number(m.corpus.documents),
            number(m.corpus.tokens),
            m.shards.len()
        )
    })
}

fn show<T: serde::Serialize>(global: &Global, item: &T, text: impl Fn(&T) -> String) -> anyhow::Result<Outcome> {
    if global.format() == Format::Text && global.quiet {
        return Ok(Outcome::Done);
    }
    output::result(global.format(), item, text)?;
    Ok(Outcome::Done)
}

fn dry_run(
    global: &Global,
    tokenizer: &Tokenizer,
    files: &[SourceFile],
    read: &ReadOptions,
    layout: LayoutArgs,
) -> anyhow::Result<Outcome> {
    let estimate = estimate(tokenizer, files, read, global.memory(), layout.layout)?;
    output::result(global.format(), &estimate, |e| {
        format!(
            "files            {}\non disk          {}\ndocuments        {}{}\ntext             {}\ntokens           {}{}\nshards           {}\nindex            {}\npeak memory      {} (limit {})",
            e.files,
            bytes(e.bytes_on_disk),
            if e.sampled < 1.0 { "about " } else { "" },
            number(e.documents),
            bytes(e.text_bytes),
            if e.sampled < 1.0 { "about " } else { "" },
            number(e.tokens),
            e.shards,
            bytes(e.index_bytes),
            bytes(e.peak_memory_bytes),
            bytes(global.memory()),
        )
    })?;
    Ok(Outcome::Done)
}

/// Reads and tokenises a part of every file (all of it, if that is little) and scales up by bytes on disk.
fn estimate(
    tokenizer: &Tokenizer,
    files: &[SourceFile],
    read: &ReadOptions,
    memory: u64,
    layout: Layout,
) -> Result<Estimate> {
    /// Text read at most, in bytes.
    const SAMPLE: u64 = 64 << 20;
    let on_disk: u64 = files.iter().map(|f| f.bytes).sum();
    let (mut documents, mut text, mut tokens) = (0f64, 0f64, 0f64);
    let (mut seen, mut whole) = (0u64, true);
    for file in files {
        let share = (SAMPLE as f64 * file.bytes as f64 / on_disk.max(1) as f64).max(262_144.0) as u64;
        let mut reader = Documents::new(vec![file.clone()], read.clone());
        let mut batch = Vec::new();
        let mut size = 0u64;
        let mut ended = true;
        loop {
            let mut d = Document::default();
            if !reader.next(&mut d)? {
                break;
            }
            size += d.size() as u64;
            batch.push(d);
            if size >= share {
                ended = false;
                break;
            }
        }
        let read_bytes = if ended { file.bytes } else { reader.bytes_read().clamp(1, file.bytes.max(1)) };
        let scale = if ended { 1.0 } else { file.bytes as f64 / read_bytes as f64 };
        whole &= ended;
        seen += read_bytes;
        let count = batch.len() as f64;
        let batch = tokenize(tokenizer, batch)?;
        documents += count * scale;
        text += batch.documents.iter().map(|d| d.text.len()).sum::<usize>() as f64 * scale;
        tokens += batch.ids.len() as f64 * scale;
    }
    let tokens = tokens as u64;
    let cap = builder::shard_tokens(tokenizer, memory, layout)?;
    let shards = tokens.div_ceil(cap).max(1);
    // Text compresses about threefold.
    let index_bytes =
        (tokens as f64 * disk_bytes_per_token(tokenizer, tokens / shards, layout)) as u64 + text as u64 / 3;
    Ok(Estimate {
        files: files.len(),
        bytes_on_disk: on_disk,
        documents: documents as u64,
        text_bytes: text as u64,
        tokens,
        shards,
        index_bytes,
        peak_memory_bytes: builder::peak_memory(tokenizer, memory, tokens, layout)?,
        sampled: if whole || on_disk == 0 { 1.0 } else { seen as f64 / on_disk as f64 },
    })
}
