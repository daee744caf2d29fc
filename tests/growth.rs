//! An index that has grown: a thousand shards, many generations, readers and writers at once, a disk that runs full.

mod common;
mod fixture;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use common::{fail, run, succeed};
use fixture::fast_place;
use priorart::corpus::discover;
use priorart::index::build::{BuildOptions, build, publish, seed, task_shards};
use priorart::index::{IndexDir, Keep, PartEntry, Snapshot, remove, rewrite};
use priorart::store::DiskStore;
use priorart::store::Store;
use priorart::tokenize::Tokenizer;

fn documents(path: &Path, count: usize) {
    let line = |i: usize| {
        format!("{{\"id\":\"{i}\",\"text\":\"the {i}th of many lines about w{} and w{}\"}}\n", i % 7, i % 11)
    };
    std::fs::write(path, (0..count).map(line).collect::<String>()).unwrap();
}

#[test]
fn a_thousand_shards() {
    const SHARDS: u64 = 1000;
    let place = fast_place();
    let at = place.path();
    documents(&at.join("a.jsonl"), 5);
    let tokenizer = Tokenizer::open("words").unwrap();
    let dir = IndexDir::create(&at.join("index"), seed(&tokenizer)).unwrap();
    let files = discover(&[at.join("a.jsonl")]).unwrap();
    let options = BuildOptions { memory: 1 << 30, ..BuildOptions::default() };
    let built = build(&dir, &tokenizer, &files, &options, &mut |_| ()).unwrap();
    let made = task_shards(&dir, &tokenizer, &files, &options).unwrap().remove(0);
    let mut tx = dir.begin().unwrap();
    let mut next = tx.manifest().clone();
    for n in 0..SHARDS {
        let copy = at.join(format!("copy-{n}"));
        std::fs::create_dir(&copy).unwrap();
        for file in DiskStore.list(&made).unwrap() {
            std::fs::copy(made.join(&file.name), copy.join(&file.name)).unwrap();
        }
        let id = tx.next_id();
        tx.adopt_shard(&id, &copy).unwrap();
        next.shards.push(PartEntry::new(id, built.documents, built.tokens, built.text_bytes));
    }
    tx.publish(next).unwrap();
    let start = Instant::now();
    let snapshot = Snapshot::open(dir.path()).unwrap();
    let opening = start.elapsed();
    let ngram = snapshot.ngram("of many lines").unwrap();
    let start = Instant::now();
    assert_eq!(snapshot.count(&ngram), 5 * SHARDS);
    let counting = start.elapsed();
    let start = Instant::now();
    let merged = rewrite::merge(&snapshot, &[], 1 << 30, &mut |_| ()).unwrap();
    println!("{SHARDS} shards: opened in {opening:?}, a count {counting:?}, merged into one in {:?}", start.elapsed());
    assert_eq!(merged.shards, (SHARDS, 1));
    let one = Snapshot::open(dir.path()).unwrap();
    assert_eq!((one.shards.len(), one.count(&ngram)), (1, 5 * SHARDS));
    assert!(opening.as_secs() < 20);
}

/// Readers open and ask without a pause while a writer publishes and prunes: every answer is that of some generation.
#[test]
fn readers_never_notice_writers() {
    let place = fast_place();
    let at = place.path();
    let tokenizer = Tokenizer::open("words").unwrap();
    let dir = IndexDir::create(&at.join("index"), seed(&tokenizer)).unwrap();
    documents(&at.join("a.jsonl"), 30);
    let add = || {
        let files = discover(&[at.join("a.jsonl")]).unwrap();
        let options = BuildOptions { memory: 1 << 30, ..BuildOptions::default() };
        build(&dir, &tokenizer, &files, &options, &mut |_| ()).unwrap();
        publish(&dir, &tokenizer, &files, &options, |_| ()).unwrap();
    };
    add();
    let done = std::sync::atomic::AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut asked, mut generations) = (0, BTreeSet::new());
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let snapshot = Snapshot::open(&at.join("index")).unwrap();
                generations.insert(snapshot.manifest.generation);
                let count = snapshot.count(&snapshot.ngram("of many lines").unwrap());
                assert_eq!(count, snapshot.manifest.corpus.documents);
                asked += 1;
            }
            (asked, generations.len())
        });
        for n in 0..12 {
            add();
            let snapshot = Snapshot::open(&at.join("index")).unwrap();
            let some: BTreeSet<_> = snapshot.find_id(&n.to_string()).unwrap().into_iter().collect();
            remove::remove(&snapshot, &some).unwrap();
            if n % 3 == 2 {
                rewrite::merge(&Snapshot::open(&at.join("index")).unwrap(), &[], 1 << 30, &mut |_| ()).unwrap();
            }
            if n % 4 == 3 {
                rewrite::compact(&Snapshot::open(&at.join("index")).unwrap(), &mut |_| ()).unwrap();
            }
            dir.prune(Keep::Newest(1)).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().unwrap()
    });
    println!("{} openings of {} generations while 31 were published and pruned", seen.0, seen.1);
    assert!(seen.0 > 20 && seen.1 > 5);
}

#[test]
fn a_second_writer_of_another_process_is_told_and_readers_are_not() {
    let place = fast_place();
    let at = place.path();
    documents(&at.join("a.jsonl"), 30);
    succeed(at, &["build", "-q", "--index", "ix", "a.jsonl"]);
    let dir = IndexDir::open(&at.join("ix")).unwrap();
    let writing = dir.begin().unwrap();
    fail(at, &["remove", "--index", "ix", "3"], "index is busy", "wait for the other process");
    fail(at, &["add", "-q", "--index", "ix", "a.jsonl"], "index is busy", "wait for the other process");
    assert_eq!(succeed(at, &["count", "--index", "ix", "many lines", "--format", "text"]).trim(), "30  many lines");
    drop(writing);
    succeed(at, &["remove", "--index", "ix", "3"]);
    // By what a document says, and by the answer of another query.
    fail(at, &["remove", "--index", "ix", "--matching", "no such words"], "no such words", "--ignore-missing");
    fail(at, &["remove", "--index", "ix", "--matching", "  "], "has no tokens", "at least one token");
    let told = succeed(at, &["remove", "--index", "ix", "--matching", "w6 and w2", "--format", "json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["removed_documents"], &told["documents"]), (&1.into(), &28.into()));
    assert_eq!(succeed(at, &["count", "--index", "ix", "w6 and w2", "--format", "text"]).trim(), "0  w6 and w2");
}

/// A small file system of its own, unmounted at the end.
struct SmallDisk<'a>(&'a Path);

impl SmallDisk<'_> {
    fn mount(at: &Path, options: &str) -> bool {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|m| m.status.success())
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    let disk = at.join("disk");
    if !SmallDisk::mount(&disk, "size=600k") {
        println!("skipped: mounting a small file system needs root");
        return;
    }
    let _unmount = SmallDisk(&disk);
    documents(&at.join("few.jsonl"), 30);
    documents(&at.join("many.jsonl"), 20_000);
    succeed(at, &["build", "-q", "--index", "disk/ix", "few.jsonl"]);
    fail(at, &["add", "-q", "--index", "disk/ix", "many.jsonl"], "No space left on device", "free some disk space");
    let count = || succeed(at, &["count", "--index", "disk/ix", "many lines", "--format", "text"]);
    assert_eq!(count().trim(), "30  many lines");
    succeed(at, &["info", "--index", "disk/ix", "--verify"]);
    // There is room again: the same command finishes.
    assert!(SmallDisk::mount(&disk, "remount,size=64m"));
    succeed(at, &["add", "-q", "--index", "disk/ix", "many.jsonl"]);
    assert_eq!(count().trim(), "20,030  many lines");
    assert!(!at.join("disk/ix/tmp").exists() && !at.join("disk/ix/building").exists());
    // A file system that may not be written to.
    assert!(SmallDisk::mount(&disk, "remount,ro,size=64m"));
    let refused = run(at, &["remove", "--index", "disk/ix", "3"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("Read-only file system") && refused.err.contains("hint: "), "{}", refused.err);
    assert_eq!(count().trim(), "20,030  many lines");
}
