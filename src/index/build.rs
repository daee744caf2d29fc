//! Building: corpus files in, a published generation out. Bounded in memory, deterministic, resumable.
//!
//! ```text
//! reader thread → batches of documents → tokenised in parallel → appended in order → shard full? sort and write it
//!                                                                (one thread) while the next shard is tokenised
//! ```
//!
//! Finished shards wait in `INDEX/building/<plan>/` with a `progress.json` that says how many documents they hold; a build that was
//! killed goes on after the last of them. The plan's name is a hash of everything that decides the bytes: files, their
//! sizes, tokenizer, settings, program version. [`build`] makes one task's shards, [`publish`] moves the shards of all tasks into the
//! index in one generation; both can be repeated.
//!
//! Where one shard ends depends on the documents and `memory` alone, never on threads or time.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use rayon::prelude::*;

use super::publish::BUILDING;
use super::{Chunking, IndexDir, Manifest, ManifestSeed, PartEntry, Transaction};
use crate::corpus::{BadRecord, Document, Documents, ReadOptions, SourceFile};
use crate::error::{Error, Result};
use crate::shard::build::{Batch, ShardBuilder, bytes_per_token, tokenize};
use crate::shard::semantic::SemanticMeta;
use crate::shard::{Layout, Shard, ShardMeta};
use crate::store::Store;
use crate::tokenize::Tokenizer;

/// Text in a batch, in bytes: large enough to amortise, small enough for an even load.
const BATCH_TEXT: usize = 1 << 20;
/// Memory that does not grow with the shard: vocabularies, batches in flight, buffers.
const FIXED_MEMORY: u64 = 320 << 20;
/// The least memory a build accepts.
pub const LEAST_MEMORY: u64 = 512_000_000;

/// What decides the shards of a build.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BuildOptions {
    pub read: ReadOptions,
    /// Bytes of memory the build may use; decides how many tokens a shard holds.
    pub memory: u64,
    /// This is task `task` of `tasks`, each of which reads a fixed part of the files.
    pub task: u32,
    pub tasks: u32,
    /// How the shards' token indexes are laid out.
    #[serde(default)]
    pub layout: Layout,
}

impl Default for BuildOptions {
    fn default() -> Self {
        BuildOptions { read: ReadOptions::default(), memory: 4 << 30, task: 0, tasks: 1, layout: Layout::Fast }
    }
}

impl BuildOptions {
    /// Errors: a task that does not exist, too little memory. Worth asking before an index is created for a build.
    pub fn check(&self, tokenizer: &Tokenizer) -> Result<()> {
        if self.tasks == 0 || self.task >= self.tasks {
            return Err(Error::invalid(format!(
                "task {} of {} does not exist: tasks are numbered from 0",
                self.task, self.tasks
            )));
        }
        shard_tokens(tokenizer, self.memory, self.layout).map(|_| ())
    }
}

/// How far a build is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes on disk read, of `total_bytes`.
    pub bytes: u64,
    pub total_bytes: u64,
    pub documents: u64,
    pub tokens: u64,
    pub shards: u64,
    /// Whether a shard is being sorted.
    pub sorting: bool,
}

/// What a build made.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Built {
    pub documents: u64,
    pub tokens: u64,
    pub text_bytes: u64,
    pub shards: u64,
    /// Documents that an earlier, interrupted run had already indexed.
    pub resumed_documents: u64,
    /// Bad records tolerated.
    #[serde(skip)]
    pub bad: Vec<BadRecord>,
}

#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
struct ProgressFile {
    shards: Vec<FinishedShard>,
    done: bool,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct FinishedShard {
    dir: String,
    documents: u64,
    tokens: u64,
    text_bytes: u64,
}

/// Tokens a shard holds at most, given the memory of the build: one shard is sorted while the next one is filled.
pub fn shard_tokens(tokenizer: &Tokenizer, memory: u64, layout: Layout) -> Result<u64> {
    if memory < LEAST_MEMORY {
        return Err(Error::invalid_hint(
            format!("a build cannot do with {memory} bytes of memory"),
            format!("pass --memory {}MB or more", LEAST_MEMORY / 1_000_000),
        ));
    }
    let each = bytes_per_token(tokenizer, layout) + 4;
    Ok(((memory - FIXED_MEMORY) / each).clamp(1, crate::suffix::sort::MAX_TOKENS - (64 << 20)))
}

/// Memory a build of `tokens` tokens will use at its peak, in bytes.
pub fn peak_memory(tokenizer: &Tokenizer, memory: u64, tokens: u64, layout: Layout) -> Result<u64> {
    let cap = shard_tokens(tokenizer, memory, layout)?;
    let each = bytes_per_token(tokenizer, layout);
    Ok(FIXED_MEMORY + if tokens <= cap { tokens * each } else { cap * (each + 4) })
}

/// The files task `task` of `tasks` reads: consecutive files of about equal size together.
pub fn task_files(files: &[SourceFile], task: u32, tasks: u32) -> Vec<SourceFile> {
    let total: u64 = files.iter().map(|f| f.bytes.max(1)).sum();
    let mut before = 0u64;
    let mut out = Vec::new();
    for f in files {
        // A file belongs to the task in whose share its middle lies.
        let middle = before + f.bytes.max(1) / 2;
        let owner = (middle as u128 * tasks as u128 / total.max(1) as u128).min(tasks as u128 - 1);
        if owner == task as u128 {
            out.push(f.clone());
        }
        before += f.bytes.max(1);
    }
    out
}

/// Where the shards of a plan wait until they are published.
fn plan_dir(index: &Path, files: &[SourceFile], tokenizer: &Tokenizer, options: &BuildOptions) -> Result<PathBuf> {
    let key = serde_json::to_vec(&(
        files,
        &tokenizer.spec,
        &options.read,
        options.memory,
        options.tasks,
        options.layout,
        env!("CARGO_PKG_VERSION"),
    ))
    .map_err(|e| Error::invalid(format!("build plan: {e}")))?;
    Ok(index.join(BUILDING).join(format!("{:016x}", crate::format::checksum(&key))))
}

fn task_dir(plan: &Path, task: u32) -> PathBuf {
    plan.join(format!("task-{task:05}"))
}

/// Makes the shards of one task. Nothing is visible in the index until [`publish`].
///
/// `progress` is called every few megabytes, from the calling thread.
pub fn build(
    index: &IndexDir,
    tokenizer: &Tokenizer,
    files: &[SourceFile],
    options: &BuildOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Built> {
    options.check(tokenizer)?;
    let cap = shard_tokens(tokenizer, options.memory, options.layout)?;
    let store = &**index.store();
    let dir = task_dir(&plan_dir(index.path(), files, tokenizer, options)?, options.task);
    store.create_dir_all(&dir)?;
    let _lock = store.lock(&dir.join("lock"))?;
    let mine = task_files(files, options.task, options.tasks);
    let mut done = finished(store, &dir)?;
    sweep(store, &dir, &done)?;
    let skip: u64 = done.shards.iter().map(|s| s.documents).sum();
    let mut built = Built { resumed_documents: skip, ..Built::default() };
    if !done.done {
        let total_bytes = mine.iter().map(|f| f.bytes).sum();
        let read = options.read.clone();
        let (send, receive) = mpsc::sync_channel::<Result<Read>>(2 * rayon::current_num_threads());
        std::thread::scope(|scope| -> Result<()> {
            let reader = scope.spawn(move || read_batches(mine, read, skip, &send));
            let made =
                fill(scope, store, tokenizer, &dir, &mut done, &receive, cap, total_bytes, options.layout, progress);
            // The reader ends once nobody receives.
            drop(receive);
            let bad = reader.join().unwrap_or_default();
            made?;
            built.bad = bad;
            Ok(())
        })?;
        done.done = true;
        save(store, &dir, &done)?;
    }
    for s in &done.shards {
        built.documents += s.documents;
        built.tokens += s.tokens;
        built.text_bytes += s.text_bytes;
        built.shards += 1;
    }
    Ok(built)
}

/// What the reader sends: documents and how far it is in the files.
struct Read {
    documents: Vec<Document>,
    bytes: u64,
}

fn read_batches(
    files: Vec<SourceFile>,
    options: ReadOptions,
    skip: u64,
    send: &mpsc::SyncSender<Result<Read>>,
) -> Vec<BadRecord> {
    let mut documents = Documents::new(files, options);
    let mut skip = skip;
    let mut batch = Vec::new();
    let mut text = 0;
    loop {
        let mut doc = Document::default();
        match documents.next(&mut doc) {
            Ok(true) if skip > 0 => skip -= 1,
            Ok(true) => {
                text += doc.size();
                batch.push(doc);
                if text >= BATCH_TEXT || batch.len() >= 4096 {
                    text = 0;
                    let read = Read { documents: std::mem::take(&mut batch), bytes: documents.bytes_read() };
                    if send.send(Ok(read)).is_err() {
                        break;
                    }
                }
            }
            Ok(false) => {
                let _ = send.send(Ok(Read { documents: batch, bytes: documents.bytes_read() }));
                break;
            }
            Err(e) => {
                let _ = send.send(Err(e));
                break;
            }
        }
    }
    documents.bad().records().to_vec()
}

#[allow(clippy::too_many_arguments)]
fn fill<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    store: &'scope dyn Store,
    tokenizer: &Tokenizer,
    dir: &Path,
    done: &mut ProgressFile,
    receive: &mpsc::Receiver<Result<Read>>,
    cap: u64,
    total_bytes: u64,
    layout: Layout,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let mut state = Progress { total_bytes, shards: done.shards.len() as u64, ..Progress::default() };
    let mut number = done.shards.len();
    let mut current: Option<(String, ShardBuilder)> = None;
    let mut sorting: Option<(String, std::thread::ScopedJoinHandle<Result<ShardMeta>>)> = None;
    let mut join =
        |sorting: &mut Option<(String, std::thread::ScopedJoinHandle<'scope, Result<ShardMeta>>)>| -> Result<()> {
            if let Some((name, handle)) = sorting.take() {
                let meta =
                    handle.join().unwrap_or_else(|_| Err(Error::invalid("the thread that sorted a shard panicked")))?;
                tracing::info!(
                    shard = %dir.join(&name).display(),
                    documents = meta.documents,
                    tokens = meta.tokens,
                    "shard sorted and written"
                );
                done.shards.push(FinishedShard {
                    dir: name,
                    documents: meta.documents,
                    tokens: meta.tokens,
                    text_bytes: meta.text_bytes,
                });
                save(store, dir, done)?;
            }
            Ok(())
        };
    let mut ended = false;
    while !ended {
        let mut reads = Vec::new();
        match receive.recv() {
            Ok(read) => reads.push(read?),
            Err(_) => ended = true,
        }
        while reads.len() < 2 * rayon::current_num_threads() {
            match receive.try_recv() {
                Ok(read) => reads.push(read?),
                Err(_) => break,
            }
        }
        state.bytes = reads.last().map_or(state.bytes, |r| r.bytes);
        let batches =
            reads.into_par_iter().map(|r| tokenize(tokenizer, r.documents)).collect::<Result<Vec<Batch>>>()?;
        for batch in batches {
            if batch.documents.is_empty() {
                continue;
            }
            if current.is_none() {
                let name = format!("shard-{number:05}");
                number += 1;
                store.create_dir_all(&dir.join(&name))?;
                let builder = ShardBuilder::create(store, &dir.join(&name), tokenizer, layout)?;
                current = Some((name, builder));
            }
            let Some((_, builder)) = &mut current else { continue };
            builder.append(&batch)?;
            state.documents += batch.documents.len() as u64;
            state.tokens += batch.ids.len() as u64;
            if builder.positions() >= cap
                && let Some((name, builder)) = current.take()
            {
                join(&mut sorting)?;
                state.shards += 1;
                sorting = Some((name, scope.spawn(move || builder.finish())));
            }
        }
        state.sorting = sorting.as_ref().is_some_and(|(_, h)| !h.is_finished());
        progress(state);
    }
    join(&mut sorting)?;
    if let Some((name, builder)) = current.take() {
        state.sorting = true;
        progress(state);
        sorting = Some((name, scope.spawn(move || builder.finish())));
        join(&mut sorting)?;
        state.shards += 1;
        state.sorting = false;
        progress(state);
    }
    Ok(())
}

/// What a task has finished so far. Reads only: the task may be running.
fn finished(store: &dyn Store, dir: &Path) -> Result<ProgressFile> {
    let path = dir.join("progress.json");
    let mut progress: ProgressFile = match store.exists(&path)? {
        true => serde_json::from_slice(&store.read(&path)?).unwrap_or_default(),
        false => ProgressFile::default(),
    };
    // Shards that a publish had begun to take are gone: start again from the first that is missing.
    let whole = progress.shards.iter().take_while(|s| Shard::open(&dir.join(&s.dir)).is_ok()).count();
    if whole < progress.shards.len() {
        progress.shards.truncate(whole);
        progress.done = false;
    }
    Ok(progress)
}

/// Removes what an interrupted run of a task left unfinished. Only for the one that holds the task's lock.
fn sweep(store: &dyn Store, dir: &Path, progress: &ProgressFile) -> Result<()> {
    for entry in store.list(dir)? {
        if entry.is_dir && !progress.shards.iter().any(|s| s.dir == entry.name) {
            store.remove(&dir.join(&entry.name))?;
        }
    }
    Ok(())
}

fn save(store: &dyn Store, dir: &Path, progress: &ProgressFile) -> Result<()> {
    // What it names must be durable before it is.
    for s in &progress.shards {
        let shard = dir.join(&s.dir);
        for file in store.list(&shard)? {
            store.sync_file(&shard.join(file.name))?;
        }
        store.sync_dir(&shard)?;
    }
    let bytes = serde_json::to_vec_pretty(progress).map_err(|e| Error::invalid(format!("progress: {e}")))?;
    let tmp = dir.join("progress.tmp");
    store.write_file(&tmp, &bytes)?;
    store.rename(&tmp, &dir.join("progress.json"))?;
    store.sync_dir(dir)
}

/// Removes what is left of builds whose shards have all been published: a power cut may come between the publication and that. The
/// writer's lock must be held. Builds that run are told by their tasks' locks.
pub(super) fn sweep_published(store: &dyn Store, root: &Path) -> Result<()> {
    let building = root.join(BUILDING);
    let plans = store.list(&building)?;
    for plan in &plans {
        let path = building.join(&plan.name);
        let mut unused = true;
        for task in store.list(&path)?.iter().filter(|e| e.is_dir) {
            let task = path.join(&task.name);
            unused &= !store.list(&task)?.iter().any(|e| e.is_dir) && store.lock(&task.join("lock")).is_ok();
        }
        if unused {
            store.remove(&path)?;
        }
    }
    // The directory itself may be all that is left.
    if store.exists(&building)? && store.list(&building)?.is_empty() {
        store.remove(&building)?;
    }
    Ok(())
}

/// Directories of the finished shards of task `options.task`. Errors when it is not done.
pub fn task_shards(
    index: &IndexDir,
    tokenizer: &Tokenizer,
    files: &[SourceFile],
    options: &BuildOptions,
) -> Result<Vec<PathBuf>> {
    shards_of(index, &plan_dir(index.path(), files, tokenizer, options)?, options.task, options.tasks)
}

fn shards_of(index: &IndexDir, plan: &Path, task: u32, tasks: u32) -> Result<Vec<PathBuf>> {
    let dir = task_dir(plan, task);
    let progress = finished(&**index.store(), &dir)?;
    if !progress.done {
        return Err(Error::invalid_hint(
            format!("task {task} of {tasks} has not finished"),
            format!("run the same command with --task {task} --tasks {tasks}, then publish"),
        ));
    }
    Ok(progress.shards.iter().map(|s| dir.join(&s.dir)).collect())
}

/// Moves the finished shards of all tasks into the index and publishes them in one generation.
///
/// `settle` may change the manifest before it is published (settings of an encoder, recall).
pub fn publish(
    index: &IndexDir,
    tokenizer: &Tokenizer,
    files: &[SourceFile],
    options: &BuildOptions,
    settle: impl FnOnce(&mut Manifest),
) -> Result<Manifest> {
    let plan = plan_dir(index.path(), files, tokenizer, options)?;
    let mut shards = Vec::new();
    for task in 0..options.tasks {
        shards.extend(shards_of(index, &plan, task, options.tasks)?);
    }
    if shards.is_empty() {
        return Err(Error::invalid_hint("there are no documents to index", "check the paths and --text-field"));
    }
    let mut tx: Transaction = index.begin()?;
    let mut next = tx.manifest().clone();
    for dir in shards {
        let shard = Shard::open(&dir)?;
        let (meta, semantic) = (shard.meta, shard.semantic.and_then(|s| s.meta));
        let id = tx.next_id();
        tx.adopt_shard(&id, &dir)?;
        let mut entry = PartEntry::new(id, meta.documents, meta.tokens, meta.text_bytes);
        if let Some(semantic) = semantic {
            settle_encoder(&mut next, &semantic)?;
            entry.extra.insert("semantic".into(), semantic.summary());
        }
        next.shards.push(entry);
    }
    settle(&mut next);
    let published = tx.publish(next)?;
    let store = &**index.store();
    store.remove(&plan)?;
    let building = index.path().join(BUILDING);
    if store.list(&building)?.is_empty() {
        store.remove(&building)?;
    }
    Ok(published)
}

/// Takes the encoder, the chunking and the vector index of a shard over into the manifest, which may have them already.
fn settle_encoder(next: &mut Manifest, semantic: &SemanticMeta) -> Result<()> {
    let rule = &semantic.chunking;
    let chunking = Chunking { tokens: rule.window as u32, stride: rule.stride as u32, unit: rule.unit };
    let known = next.encoder.get_or_insert_with(|| semantic.encoder.clone());
    let same = known.sha256 == semantic.encoder.sha256 && known.pooling == semantic.encoder.pooling;
    if !same || *next.chunking.get_or_insert_with(|| chunking.clone()) != chunking {
        let name = |s: &crate::embed::EncoderSpec, c: &Chunking| {
            let (tokens, stride, unit) = (c.tokens, c.stride, c.unit.name());
            format!("{} (weights {:.12}, chunks of {tokens} {unit} tokens every {stride})", s.name, s.sha256)
        };
        let of_index = next.chunking.as_ref().map_or_else(String::new, |c| name(known, c));
        return Err(Error::EncoderMismatch { index: of_index, query: name(&semantic.encoder, &chunking) });
    }
    next.vector_index.get_or_insert_with(|| semantic.requested.clone());
    Ok(())
}

/// The settings of a new index.
pub fn seed(tokenizer: &Tokenizer) -> ManifestSeed {
    ManifestSeed { tokenizer: tokenizer.spec.clone(), encoder: None, chunking: None }
}
