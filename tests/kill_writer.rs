//! A writer is killed with SIGKILL at random moments; what is left opens and is whole, and the next writer goes on.
//!
//! The test starts its own binary as the writer, which publishes generation after generation until it is killed.
//! `PRIORART_KILLS` sets the number of kills.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use priorart::corpus::Document;
use priorart::error::{Error, Result};
use priorart::index::{IndexDir, Keep, ManifestSeed, PartEntry};
use priorart::shard::documents::{Documents, DocumentsWriter};
use priorart::tokenize::TokenizerSpec;

const CHILD: &str = "PRIORART_TEST_WRITER";

fn seed() -> ManifestSeed {
    let tokenizer = TokenizerSpec { kind: "bytes".into(), sha256: "00".repeat(32), vocab: Some(256), path: None };
    ManifestSeed { tokenizer, encoder: None, chunking: None }
}

fn text(shard: &str, i: u64) -> String {
    format!("document {i} of shard {shard}. ").repeat(40)
}

fn publish(dir: &IndexDir) -> Result<u64> {
    let mut tx = dir.begin()?;
    let mut next = tx.manifest().clone();
    let id = tx.next_id();
    let path = tx.new_shard_dir(&id)?;
    let mut writer = DocumentsWriter::create(&**tx.store(), &path)?;
    for i in 0..200 {
        writer.append(&Document { id: i.to_string(), text: text(&id, i), ..Default::default() }, 3)?;
    }
    let summary = writer.finish()?;
    if next.shards.len() >= 3 {
        next.shards.remove(0);
    }
    next.shards.push(PartEntry::new(id, summary.documents, summary.tokens, summary.text_bytes));
    Ok(tx.publish(next)?.generation)
}

/// Generation that is open, 0 if there is none; every byte of it is checked.
fn check(root: &Path) -> Result<u64> {
    let Ok(dir) = IndexDir::open(root) else { return Ok(0) };
    let manifest = dir.manifest()?;
    if let Some(fault) = dir.verify(&manifest, |_| ())?.faults.into_iter().next() {
        return Err(fault);
    }
    for shard in &manifest.shards {
        let documents = Documents::open(&dir.shard_dir(&shard.id))?;
        for i in 0..documents.len() as u32 {
            assert_eq!(documents.text(i)?, text(&shard.id, u64::from(i)));
        }
    }
    Ok(manifest.generation)
}

#[test]
fn killed_writers_lose_nothing_that_was_published() {
    if let Some(root) = std::env::var_os(CHILD) {
        let root = Path::new(&root);
        let dir = IndexDir::open(root).or_else(|_| IndexDir::create(root, seed())).unwrap();
        loop {
            let generation = publish(&dir).unwrap();
            println!("published {generation}");
            if generation.is_multiple_of(4) {
                dir.prune(Keep::Newest(2)).unwrap();
            }
        }
    }
    let kills: u64 = std::env::var("PRIORART_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("index");
    let (mut last, mut left_over) = (0, 0);
    for kill in 0..kills {
        let log = place.path().join("log");
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed_writers_lose_nothing_that_was_published", "--nocapture"])
            .env(CHILD, &root)
            .stdout(std::fs::File::create(&log).unwrap())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        // Spread over the time a few generations take, start of the process included.
        std::thread::sleep(Duration::from_millis(20 + kill * 7919 % 300));
        writer.kill().unwrap();
        let status = writer.wait().unwrap();
        assert!(!status.success() && status.code().is_none(), "the writer ended by itself: {status}");
        let log = std::fs::read_to_string(&log).unwrap();
        let acknowledged = log.lines().filter_map(|l| l.rsplit_once("published ")?.1.parse().ok()).next_back();
        let generation = check(&root).unwrap();
        // The publication in flight may have gone through.
        let least: u64 = acknowledged.unwrap_or(last);
        assert!((least..=least + 1).contains(&generation), "{least} was acknowledged, {generation} opens");
        left_over += usize::from(root.join("tmp").exists());
        last = generation;
    }
    let dir = match IndexDir::open(&root) {
        Ok(dir) => dir,
        Err(Error::Invalid { .. }) => IndexDir::create(&root, seed()).unwrap(),
        Err(e) => panic!("{e}"),
    };
    assert_eq!(publish(&dir).unwrap(), last + 1);
    assert_eq!(check(&root).unwrap(), last + 1);
    assert!(!root.join("tmp").exists());
    println!("{kills} kills, {last} generations published, {left_over} times something was left to sweep");
}
