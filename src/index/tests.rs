//! What a crash, a full disk, a second writer or a flipped bit does to an index: nothing that goes unnoticed.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::corpus::Document;
use crate::error::{Error, Result};
use crate::format::Kind;
use crate::shard::documents::{Documents, DocumentsWriter};
use crate::store::{DiskStore, FaultStore, Image, Store};
use crate::tokenize::TokenizerSpec;

fn seed() -> ManifestSeed {
    let tokenizer = TokenizerSpec { kind: "bytes".into(), sha256: "00".repeat(32), vocab: Some(256), path: None };
    ManifestSeed { tokenizer, encoder: None, chunking: None }
}

/// Adds a shard of `n` documents whose texts name generation and number, beside a plain file.
fn add(dir: &IndexDir, n: u64, keep_old: bool) -> Result<Manifest> {
    let mut tx = dir.begin()?;
    let mut next = tx.manifest().clone();
    let generation = next.generation + 1;
    let id = tx.next_id();
    let path = tx.new_shard_dir(&id)?;
    let mut writer = DocumentsWriter::create(&**tx.store(), &path)?;
    for i in 0..n {
        let document = Document { id: format!("{generation}/{i}"), text: text(generation, i), ..Default::default() };
        writer.append(&document, 10)?;
    }
    let summary = writer.finish()?;
    tx.store()
        .create(&path.join("shard.json"))?
        .write_all(b"{\"plain\": true}\n")
        .map_err(Error::io(&path, "write"))?;
    if !keep_old {
        next.shards.clear();
        next.removed.clear();
    } else if let Some(old) = next.shards.first().filter(|_| next.removed.is_empty()).cloned() {
        let id = tx.next_id();
        let path = tx.new_removed_dir(&id)?;
        let mut bitmap = tx.store().section(&path.join("documents.bin"), Kind::REMOVED, 8)?;
        bitmap.put(&[1u64])?;
        bitmap.finish()?;
        next.removed.push(PartEntry::new(id, 1, 10, old.text_bytes / old.documents));
    }
    next.shards.push(PartEntry::new(id, summary.documents, summary.tokens, summary.text_bytes));
    tx.publish(next)
}

fn text(generation: u64, i: u64) -> String {
    format!("text {i} of generation {generation} ").repeat(3)
}

/// Opens an index and reads everything a generation refers to, through maps.
fn check(root: &Path, manifest: &Manifest) -> Result<()> {
    let dir = IndexDir::open(root)?;
    let verification = dir.verify(manifest, |_| ())?;
    if let Some(fault) = verification.faults.into_iter().next() {
        return Err(fault);
    }
    for shard in &manifest.shards {
        let documents = Documents::open(&dir.shard_dir(&shard.id))?;
        documents.verify()?;
        assert_eq!(documents.len() as u64, shard.documents);
        for i in 0..documents.len() as u32 {
            let document = documents.get(i)?;
            let (generation, n) = document.id.split_once('/').unwrap();
            assert_eq!(document.text, text(generation.parse().unwrap(), n.parse().unwrap()));
        }
    }
    Ok(())
}

const ROOT: &str = "/data/index";

/// Create, add, add and remove, replace, prune. Tells `published` after each step that returned.
fn life(store: Arc<dyn Store>, mut published: impl FnMut(u64)) -> Result<()> {
    let root = Path::new(ROOT);
    let dir = IndexDir::create_in(store, root, seed())?;
    for (documents, keep_old) in [(3, true), (2, true), (4, false)] {
        published(add(&dir, documents, keep_old)?.generation);
    }
    dir.prune(Keep::Newest(1)).map(drop)
}

fn write_image(image: &Image) -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    image.write_to(place.path()).unwrap();
    let root = place.path().join(ROOT.trim_start_matches('/'));
    (place, root)
}

/// What a reader finds in an image: every generation that is kept is whole, and the number of the current one (0: none yet).
fn read_image(image: &Image) -> Result<u64> {
    let (_place, root) = write_image(image);
    let Ok(dir) = IndexDir::open(&root) else { return Ok(0) };
    let manifest = dir.manifest()?;
    check(&root, &manifest)?;
    for number in dir.generations()?.into_iter().filter(|&n| n != manifest.generation) {
        check(&root, &dir.manifest_of(number)?)?;
    }
    Ok(manifest.generation)
}

/// Every crash point × every (or many) images: the last published generation or the one being published opens and is whole; the
/// next run cleans up and publishes.
#[test]
fn crash_walk() {
    let limit: usize = std::env::var("PRIORART_CRASH_IMAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(24);
    let calm = FaultStore::new();
    life(Arc::new(calm.clone()), |_| ()).unwrap();
    let operations = calm.operations();
    let (mut images, mut exhaustive, mut opened) = (0, 0, BTreeMap::<u64, u64>::new());
    // Readers do not look into `tmp/`: images that differ only there are opened once.
    let mut read: HashMap<BTreeMap<PathBuf, Option<Vec<u8>>>, u64> = HashMap::new();
    for point in 0..=operations.len() {
        let store = FaultStore::new();
        store.crash_at(point);
        let mut acknowledged = 0;
        let ended = life(Arc::new(store.clone()), |generation| acknowledged = generation);
        assert_eq!(ended.is_ok(), point == operations.len());
        let found = store.images(limit, point as u64);
        exhaustive += usize::from(found.exhaustive);
        for image in found.images {
            images += 1;
            let at = || format!("crash before operation {point} ({:?})", operations.get(point));
            let tmp = Path::new(ROOT).join("tmp");
            let seen = image.entries.iter().filter(|(path, _)| !path.starts_with(&tmp));
            let seen: BTreeMap<_, _> = seen.map(|(path, content)| (path.clone(), content.clone())).collect();
            let generation =
                *read.entry(seen).or_insert_with(|| read_image(&image).unwrap_or_else(|e| panic!("{}: {e}", at())));
            assert!((acknowledged..=acknowledged + 1).contains(&generation), "{}: generation {generation}", at());
            *opened.entry(generation).or_default() += 1;

            let after = FaultStore::from_image(&image);
            let dir = match generation {
                0 => IndexDir::create_in(Arc::new(after.clone()), Path::new(ROOT), seed()).unwrap(),
                _ => IndexDir::open_in(Arc::new(after.clone()), Path::new(ROOT)).unwrap(),
            };
            let next = add(&dir, 1, true).unwrap_or_else(|e| panic!("{}: next run: {e}", at()));
            assert_eq!(next.generation, generation + 1);
            clean(&after, &dir);
            if images % 8 == 0 {
                assert_eq!(read_image(&after.visible()).unwrap(), next.generation);
            }
        }
    }
    println!(
        "crash walk: {} operations, {} crash points ({exhaustive} with every image), {images} images ({} for readers); opened by generation: {opened:?}",
        operations.len(),
        operations.len() + 1,
        read.len()
    );
    assert!(operations.len() > 100 && (0..=3).all(|g| opened.contains_key(&g)));
}

/// Nothing lies in the index but what its generations refer to.
fn clean(store: &FaultStore, dir: &IndexDir) {
    assert!(!store.exists(&dir.path().join("tmp")).unwrap());
    let manifests: Vec<Manifest> =
        dir.generations().unwrap().into_iter().map(|n| dir.manifest_of(n).unwrap()).collect();
    let known = |of: fn(&Manifest) -> &Vec<PartEntry>, id: &str| manifests.iter().flat_map(of).any(|p| p.id == id);
    for entry in store.list(&dir.path().join("shards")).unwrap() {
        assert!(known(|m| &m.shards, &entry.name), "orphan shard {}", entry.name);
    }
    for entry in store.list(&dir.path().join("removed")).unwrap() {
        assert!(known(|m| &m.removed, &entry.name), "orphan removal {}", entry.name);
    }
}

/// One operation fails (full disk, no permission) and the process lives on: an error, the index as before, no litter.
#[test]
fn every_operation_may_fail() {
    let calm = FaultStore::new();
    life(Arc::new(calm.clone()), |_| ()).unwrap();
    let mut refused = 0;
    for point in 0..calm.operations().len() {
        let kind = if point % 2 == 0 { ErrorKind::StorageFull } else { ErrorKind::PermissionDenied };
        let store = FaultStore::new();
        store.fail_at(point, kind);
        let mut acknowledged = 0;
        let ended = life(Arc::new(store.clone()), |generation| acknowledged = generation);
        if let Err(error) = &ended {
            assert!(matches!(error, Error::Io { source, .. } if source.kind() == kind), "{error}");
            assert!(error.hint().is_some());
            refused += 1;
        }
        let (_place, root) = write_image(&store.visible());
        match IndexDir::open(&root) {
            Ok(dir) => {
                let manifest = dir.manifest().unwrap();
                assert!((acknowledged..=acknowledged + 1).contains(&manifest.generation));
                check(&root, &manifest).unwrap();
            }
            Err(_) => assert_eq!(acknowledged, 0),
        }
        if let Ok(dir) = IndexDir::open_in(Arc::new(store.clone()), Path::new(ROOT)) {
            add(&dir, 1, true).unwrap();
            clean(&store, &dir);
        }
    }
    // The others fail in the cleaning up after a transaction, which is repeated by the next one.
    println!("failing operations: {} walked, {refused} reported", calm.operations().len());
    assert!(refused > 100);
}

#[test]
fn a_second_writer_is_told_and_readers_are_not_held_up() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("index");
    let dir = IndexDir::create(&root, seed()).unwrap();
    add(&dir, 3, true).unwrap();
    let first = dir.begin().unwrap();
    let other = IndexDir::open(&root).unwrap();
    assert!(matches!(other.begin(), Err(Error::Busy { path }) if path == root));
    assert!(matches!(other.prune(Keep::Newest(1)), Err(Error::Busy { .. })));
    check(&root, &other.manifest().unwrap()).unwrap();
    drop(first);
    assert_eq!(add(&other, 2, true).unwrap().generation, 2);
    assert!(IndexDir::create(&root, seed()).is_err());
}

#[test]
fn many_writers_lose_nothing() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("index");
    add(&IndexDir::create(&root, seed()).unwrap(), 1, true).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let dir = IndexDir::open(&root).unwrap();
                let mut published = 0;
                while published < 5 {
                    match add(&dir, 1, true) {
                        Ok(_) => published += 1,
                        Err(Error::Busy { .. }) => std::thread::yield_now(),
                        Err(e) => panic!("{e}"),
                    }
                    check(&root, &dir.manifest().unwrap()).unwrap();
                }
            });
        }
    });
    let manifest = IndexDir::open(&root).unwrap().manifest().unwrap();
    assert_eq!((manifest.generation, manifest.shards.len()), (21, 21));
    assert_eq!(manifest.corpus.documents, 20);
}

#[test]
fn old_generations_open_until_they_are_pruned() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("new/index");
    let dir = IndexDir::create(&root, seed()).unwrap();
    let published = [(3, true), (2, true), (4, false)].map(|(n, keep)| add(&dir, n, keep).unwrap());
    for manifest in &published {
        let again = dir.manifest_of(manifest.generation).unwrap();
        assert_eq!(&again, manifest);
        check(&root, &again).unwrap();
    }
    let open = Documents::open(&dir.shard_dir(&published[0].shards[0].id)).unwrap();
    let pruned = dir.prune(Keep::Newest(1)).unwrap();
    assert_eq!((pruned.generations, pruned.parts), (2, 3));
    assert!(pruned.bytes > 0);
    assert_eq!(dir.generations().unwrap(), [3]);
    check(&root, &published[2]).unwrap();
    assert!(dir.manifest_of(1).unwrap_err().to_string().contains("no generation 1"));
    assert!(dir.check(&published[0]).is_err());
    // A reader that was there keeps what it has mapped.
    assert_eq!(open.text(0).unwrap(), text(1, 0));
    assert_eq!(dir.prune(Keep::Since(99)).unwrap(), Pruned::default());
}

#[test]
fn an_unfinished_section_or_an_unlisted_part_is_not_published() {
    let place = tempfile::tempdir().unwrap();
    let dir = IndexDir::create(&place.path().join("index"), seed()).unwrap();
    let mut tx = dir.begin().unwrap();
    let path = tx.new_shard_dir("a").unwrap();
    assert!(tx.new_shard_dir("a").is_err() && tx.new_shard_dir("../a").is_err());
    let mut writer = DiskStore.section(&path.join("tokens.bin"), Kind::TOKENS, 4).unwrap();
    writer.put(&vec![7u32; 1 << 19]).unwrap();
    drop(writer);
    let mut next = tx.manifest().clone();
    next.shards.push(PartEntry::new("a", 1, 1, 1));
    let error = tx.publish(next).unwrap_err();
    assert!(error.to_string().contains("never finished"), "{error}");

    let mut tx = dir.begin().unwrap();
    tx.new_shard_dir("a").unwrap();
    let next = tx.manifest().clone();
    assert!(tx.publish(next).is_err());
    let tx = dir.begin().unwrap();
    let mut next = tx.manifest().clone();
    next.shards.push(PartEntry::new("nowhere", 1, 1, 1));
    assert!(tx.publish(next).is_err());
    assert!(IndexDir::open(dir.path()).is_err());
}

/// A build that was killed before its first publication starts again over what it left; a stranger's directory is refused.
#[test]
fn an_unpublished_index_is_created_again() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("index");
    let left = root.join("building/0123456789abcdef/task-00000/shard-00000");
    IndexDir::create(&root, seed()).unwrap();
    std::fs::create_dir_all(&left).unwrap();
    let dir = IndexDir::create(&root, seed()).unwrap();
    add(&dir, 1, true).unwrap();
    assert!(left.exists(), "shards that wait for publication were swept");
    let stranger = place.path().join("thesis");
    std::fs::create_dir_all(stranger.join("chapters")).unwrap();
    assert!(IndexDir::create(&stranger, seed()).is_err_and(|e| e.to_string().contains("not empty")));
}

#[test]
fn a_shard_built_elsewhere_is_adopted() {
    let place = tempfile::tempdir().unwrap();
    let dir = IndexDir::create(&place.path().join("index"), seed()).unwrap();
    let task = place.path().join("task-3");
    std::fs::create_dir(&task).unwrap();
    let mut writer = DocumentsWriter::create(&DiskStore, &task).unwrap();
    writer.append(&Document { id: "1/0".into(), text: text(1, 0), ..Default::default() }, 4).unwrap();
    writer.finish().unwrap();
    let mut tx = dir.begin().unwrap();
    tx.adopt_shard("plan-3", &task).unwrap();
    let mut next = tx.manifest().clone();
    next.shards.push(PartEntry::new("plan-3", 1, 4, 5));
    let manifest = tx.publish(next).unwrap();
    check(dir.path(), &manifest).unwrap();
    assert!(!task.exists());
}

/// Flipped bits and cut files, everywhere: verification sees all of them, readers never panic.
#[test]
fn damage_is_found() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("index");
    let dir = IndexDir::create(&root, seed()).unwrap();
    add(&dir, 40, true).unwrap();
    let manifest = add(&dir, 30, true).unwrap();
    let mut files = vec![root.join("manifest.json"), root.join("generations/000002.json")];
    for (part, path) in manifest.shards.iter().map(|p| (p, dir.shard_dir(&p.id))) {
        files.extend(part.files.iter().map(|f| path.join(&f.name)));
    }
    for (part, path) in manifest.removed.iter().map(|p| (p, dir.removed_dir(&p.id))) {
        files.extend(part.files.iter().map(|f| path.join(&f.name)));
    }
    let found = |path: &Path, change: &str| {
        let faults = dir.manifest().and_then(|m| dir.verify(&m, |_| ()));
        assert!(!faults.is_ok_and(|v| v.faults.is_empty()), "{}: {change} unnoticed", path.display());
        // Whoever reads without verifying gets an error or wrong text, in finite time.
        for shard in &manifest.shards {
            if let Ok(documents) = Documents::open(&dir.shard_dir(&shard.id)) {
                for i in 0..documents.len() as u32 + 1 {
                    let _ =
                        (documents.get(i), documents.text_range(i, 1..3), documents.path(i), documents.token_range(i));
                    let _ = (documents.find_id("1/3"), documents.document_at(u64::from(i) * 7), documents.path_list());
                }
            }
        }
    };
    let (mut flips, mut cuts, mut random) = (0, 0, 1u64);
    for path in &files {
        let good = std::fs::read(path).unwrap();
        let bits = good.len() as u64 * 8;
        for n in 0..300u64 {
            random = crate::format::checksum(&random.to_le_bytes());
            // The first 512 in turn would be the header alone: alternate with places all over the file.
            let bit = if n % 3 == 0 { n / 3 * 5 % bits } else { random % bits };
            let mut bad = good.clone();
            bad[(bit / 8) as usize] ^= 1 << (bit % 8);
            std::fs::write(path, &bad).unwrap();
            found(path, &format!("bit {bit}"));
            flips += 1;
        }
        let edges = [0, 1, 63, 64, 65, 100, good.len() / 2, good.len() - 9, good.len() - 8, good.len() - 1];
        for length in edges.into_iter().filter(|&l| l < good.len()) {
            std::fs::write(path, &good[..length]).unwrap();
            found(path, &format!("cut to {length}"));
            cuts += 1;
        }
        std::fs::write(path, [&good[..], b"x"].concat()).unwrap();
        found(path, "one byte longer");
        std::fs::remove_file(path).unwrap();
        found(path, "gone");
        std::fs::write(path, &good).unwrap();
    }
    let fine = dir.verify(&dir.manifest().unwrap(), |_| ()).unwrap();
    assert!(fine.faults.is_empty() && fine.strays.is_empty());
    println!("damage: {flips} flipped bits, {cuts} truncations in {} files, all found", files.len());
}
