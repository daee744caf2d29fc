//! Power cuts, full disks and refused permissions at every operation of an index's whole life: build, add, remove, merge, compact.
//!
//! The life is run once in a store that tells before every operation what a power cut at that moment may leave. Each such image is
//! written to a directory and opened: the last published generation (or the one whose publication was under way) is whole and answers
//! as an oracle that looks everywhere; the interrupted command, given again, finishes and leaves nothing behind.
//!
//! `PRIORART_CRASH_IMAGES` sets the images a crash point (default 24; where there are no more, all are walked), and
//! `PRIORART_CRASH_RERUNS` that in one of so many images the command is given again (default 40; 1: in every one).

mod fixture;

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use fixture::{fast_place, model, setting};
use priorart::ann::VectorSettings;
use priorart::corpus::discover;
use priorart::embed::chunk::{ChunkRule, Unit};
use priorart::embed::{Encoder, OpenOptions, StaticEncoder};
use priorart::index::build::{BuildOptions, build, publish, seed, task_shards};
use priorart::index::{IndexDir, Keep, Snapshot, remove, rewrite};
use priorart::query::neighbors::NeighborOptions;
use priorart::shard::semantic;
use priorart::store::{DiskStore, FaultStore, Image, Store};
use priorart::tokenize::Tokenizer;
use priorart::{Error, Result};

const QUERIES: [&str; 6] = ["w1", "w2 w3", "w4 w5 w6", "w7 w8 w9 w10", "w29", "w11 w11"];
const STEPS: usize = 9;

/// What does not change while indexes come and go.
struct World {
    inputs: tempfile::TempDir,
    tokenizer: Tokenizer,
    encoder: Box<dyn Encoder>,
    /// Documents of the files `0.jsonl`, `1.jsonl`, …
    files: Vec<Vec<(String, String)>>,
}

/// Documents by id.
type Documents = BTreeMap<String, String>;

impl World {
    fn new() -> World {
        let inputs = fast_place();
        model(&inputs.path().join("model"), 30, 8);
        let encoder = Box::new(StaticEncoder::open(&inputs.path().join("model"), &OpenOptions::default()).unwrap());
        let mut files = Vec::new();
        for file in 0..4u64 {
            let word = |i: u64| format!("w{}", priorart::format::checksum(&(file * 1000 + i).to_le_bytes()) % 30);
            let text = |d: u64| (0..12 + d).map(|i| word(d * 50 + i)).collect::<Vec<_>>().join(" ");
            let documents: Vec<_> = (0..4).map(|d| (format!("{file}/{d}"), text(d))).collect();
            let line = |(id, text): &(String, String)| format!("{}\n", serde_json::json!({"id": id, "text": text}));
            let path = inputs.path().join(format!("{file}.jsonl"));
            std::fs::write(path, documents.iter().map(line).collect::<String>()).unwrap();
            files.push(documents);
        }
        World { inputs, tokenizer: Tokenizer::open("words").unwrap(), encoder, files }
    }

    fn add(&self, dir: &IndexDir, file: usize) -> Result<u64> {
        let path = self.inputs.path().join(format!("{file}.jsonl"));
        let files = discover(&[path])?;
        let options = BuildOptions { memory: 1 << 30, ..BuildOptions::default() };
        build(dir, &self.tokenizer, &files, &options, &mut |_| ())?;
        for shard in task_shards(dir, &self.tokenizer, &files, &options)? {
            if !semantic::is_complete(&shard) {
                let rule = ChunkRule { window: 8, stride: 8, unit: Unit::Encoder };
                let settings = VectorSettings::default();
                let embedder = semantic::Embedder::new(&*self.encoder, &rule, &settings);
                semantic::write(&**dir.store(), &shard, &self.tokenizer, embedder, &mut |_| ())?;
            }
        }
        Ok(publish(dir, &self.tokenizer, &files, &options, |_| ())?.generation)
    }

    fn remove(&self, dir: &IndexDir, ids: &[&str]) -> Result<u64> {
        let snapshot = self.snapshot(dir)?;
        let mut documents = std::collections::BTreeSet::new();
        for id in ids {
            documents.extend(snapshot.find_id(id)?);
        }
        Ok(remove::remove(&snapshot, &documents)?.generation)
    }

    /// Opens the index through the store that changes it.
    fn snapshot(&self, dir: &IndexDir) -> Result<Snapshot> {
        let mut snapshot = Snapshot::open(dir.path())?;
        snapshot.dir = dir.clone();
        Ok(snapshot)
    }

    /// Step `n` of an index's life, which publishes generation `n + 1`; the last one only removes earlier generations.
    fn step(&self, n: usize, store: &Arc<dyn Store>, root: &Path) -> Result<u64> {
        if n == 0 {
            return self.add(&IndexDir::create_in(store.clone(), root, seed(&self.tokenizer))?, 0);
        }
        let dir = IndexDir::open_in(store.clone(), root)?;
        match n {
            1 => self.add(&dir, 1),
            2 => self.remove(&dir, &["0/1", "1/2"]),
            3 => self.add(&dir, 2),
            4 => {
                let ids: Vec<String> = dir.manifest()?.shards[1..].iter().map(|p| p.id.clone()).collect();
                Ok(rewrite::merge(&self.snapshot(&dir)?, &ids, 1 << 20, &mut |_| ())?.manifest.generation)
            }
            5 => self.remove(&dir, &["2/0", "0/3"]),
            6 => Ok(rewrite::compact(&self.snapshot(&dir)?, &mut |_| ())?.rewritten.manifest.generation),
            7 => self.add(&dir, 3),
            _ => {
                dir.prune(Keep::Newest(1))?;
                Ok(dir.manifest()?.generation)
            }
        }
    }

    /// The documents of generation `number`.
    fn documents(&self, number: u64) -> Documents {
        let mut documents = Documents::new();
        for step in 0..number as usize {
            match step {
                0 | 1 => documents.extend(self.files[step].clone()),
                2 => documents.retain(|id, _| id != "0/1" && id != "1/2"),
                3 => documents.extend(self.files[2].clone()),
                5 => documents.retain(|id, _| id != "2/0" && id != "0/3"),
                7 => documents.extend(self.files[3].clone()),
                _ => {}
            }
        }
        documents
    }

    /// The generation that opens in `root`, 0 if there is none; it and all others that are kept are whole and answer right.
    fn check(&self, root: &Path) -> Result<u64> {
        let dir = match IndexDir::open(root) {
            Ok(dir) => dir,
            Err(Error::Invalid { .. }) => return Ok(0),
            Err(e) => return Err(e),
        };
        let current = dir.manifest()?;
        if let Some(fault) = dir.verify(&current, |_| ())?.faults.into_iter().next() {
            return Err(fault);
        }
        for number in dir.generations()?.into_iter().filter(|&n| n <= current.generation) {
            let snapshot = Snapshot::open_generation(root, number)?;
            let documents = self.documents(number);
            assert_eq!(snapshot.manifest.corpus.documents, documents.len() as u64, "documents of generation {number}");
            for query in QUERIES {
                let words: Vec<&str> = query.split(' ').collect();
                let in_text = |t: &String| {
                    t.split(' ').collect::<Vec<_>>().windows(words.len()).filter(|w| *w == words).count() as u64
                };
                let expected: u64 = documents.values().map(in_text).sum();
                assert_eq!(snapshot.count(&snapshot.ngram(query)?), expected, "{query} in generation {number}");
            }
            if number == current.generation {
                for (id, text) in &documents {
                    let found = snapshot.find_id(id)?;
                    assert_eq!(found.len(), 1, "{id} in generation {number}");
                    assert_eq!(snapshot.document(found[0])?.text, *text);
                    let near = snapshot.neighbors_of_document(found[0], &NeighborOptions::default())?;
                    assert!(near.iter().all(|n| documents.contains_key(&n.id)), "a removed neighbour");
                }
            }
        }
        Ok(current.generation)
    }

    /// Nothing lies in the index but what its generations refer to.
    fn assert_clean(&self, root: &Path) {
        let dir = IndexDir::open(root).unwrap();
        let manifests: Vec<_> = dir.generations().unwrap().iter().map(|&n| dir.manifest_of(n).unwrap()).collect();
        for name in ["tmp", "building"] {
            assert!(!root.join(name).exists(), "{name}/ is left");
        }
        for (kind, used) in [
            ("shards", manifests.iter().flat_map(|m| &m.shards).map(|p| &p.id).collect::<Vec<_>>()),
            ("removed", manifests.iter().flat_map(|m| &m.removed).map(|p| &p.id).collect()),
        ] {
            for entry in DiskStore.list(&root.join(kind)).unwrap() {
                assert!(used.contains(&&entry.name), "orphan {kind}/{}", entry.name);
            }
        }
    }
}

#[test]
fn every_crash_point_of_a_whole_life() {
    let (limit, reruns) = (setting("PRIORART_CRASH_IMAGES", 24), setting("PRIORART_CRASH_RERUNS", 40));
    let world = World::new();
    let place = fast_place();
    let root = place.path().join("index");
    let store = FaultStore::over(place.path());
    let acknowledged = Arc::new(AtomicU64::new(0));
    // The images are looked at by another thread, so that the store is not held up by its own readers.
    let (send, receive) = mpsc::sync_channel::<(usize, String, u64, bool, Vec<Image>)>(4);
    let told = acknowledged.clone();
    let send = Mutex::new(Some(send));
    let last = Arc::new(send);
    let first = last.clone();
    store.watch(limit, move |number, operation, images| {
        if let Some(send) = &*first.lock().unwrap() {
            let message =
                (number, operation.to_string(), told.load(Ordering::SeqCst), images.exhaustive, images.images);
            send.send(message).unwrap();
        }
    });
    let shared: Arc<dyn Store> = Arc::new(store.clone());
    std::thread::scope(|scope| {
        let (world, root) = (&world, root.as_path());
        let walker = scope.spawn(move || walk(world, root, &receive, reruns));
        for step in 0..STEPS {
            let generation = world.step(step, &shared, root).unwrap();
            acknowledged.store(generation, Ordering::SeqCst);
        }
        // After the last operation.
        let images = store.images(limit, 0);
        let send = last.lock().unwrap().take().unwrap();
        let operations = store.operations().len();
        send.send((operations, "the end".into(), 8, images.exhaustive, images.images)).unwrap();
        drop(send);
        let walked = walker.join().unwrap();
        println!(
            "crash walk of build, add, remove, merge, compact and prune: {operations} operations, {} crash points ({} with every possible \
             image), {} images, {} different ones for readers, {} repeated commands; opened by generation: {:?}",
            walked.points, walked.exhaustive, walked.images, walked.different, walked.reruns, walked.opened
        );
        assert_eq!(walked.points, operations + 1);
        assert!(operations > 400 && (0..=8).all(|g| walked.opened.contains_key(&g)), "{:?}", walked.opened);
        assert!(walked.reruns > 20);
    });
}

#[derive(Default)]
struct Walked {
    points: usize,
    exhaustive: usize,
    images: usize,
    different: usize,
    reruns: usize,
    opened: BTreeMap<u64, u64>,
}

fn walk(
    world: &World,
    root: &Path,
    receive: &mpsc::Receiver<(usize, String, u64, bool, Vec<Image>)>,
    reruns: usize,
) -> Walked {
    let mut walked = Walked::default();
    let mut read: HashMap<u64, u64> = HashMap::new();
    // Readers do not look into these.
    let unread = [root.join("tmp"), root.join("building")];
    for (point, operation, acknowledged, exhaustive, images) in receive {
        walked.points += 1;
        walked.exhaustive += usize::from(exhaustive);
        for image in images {
            walked.images += 1;
            let at = || format!("crash before operation {point} ({operation})");
            let print = image.fingerprint(|path| !unread.iter().any(|u| path.starts_with(u)));
            let again = walked.images.is_multiple_of(reruns);
            let known = read.get(&print).copied();
            let place = (again || known.is_none()).then(|| {
                let place = fast_place();
                image.write_to(place.path()).unwrap();
                place
            });
            let inner: PathBuf = root.strip_prefix("/").unwrap().into();
            let generation = known.unwrap_or_else(|| {
                let at_root = place.as_ref().unwrap().path().join(&inner);
                world.check(&at_root).unwrap_or_else(|e| panic!("{}: {e}", at()))
            });
            if known.is_none() {
                read.insert(print, generation);
                walked.different += 1;
            }
            assert!((acknowledged..=acknowledged + 1).contains(&generation), "{}: generation {generation}", at());
            *walked.opened.entry(generation).or_default() += 1;
            if let (true, Some(place)) = (again, &place) {
                let at_root = place.path().join(&inner);
                let disk: Arc<dyn Store> = Arc::new(DiskStore);
                let next = (generation as usize).min(STEPS - 1);
                let done = world.step(next, &disk, &at_root).unwrap_or_else(|e| panic!("{}: given again: {e}", at()));
                assert_eq!(done, (generation + 1).min(8), "{}", at());
                assert_eq!(world.check(&at_root).unwrap_or_else(|e| panic!("{}: after that: {e}", at())), done);
                world.assert_clean(&at_root);
                walked.reruns += 1;
            }
        }
    }
    walked
}

/// One operation fails and the process lives on: an error that says what to do, the index as before, and the same command finishes
/// once there is room. `PRIORART_FAULTS` sets that every so-manieth operation fails (default 29; 1: each).
#[test]
fn a_failed_operation_loses_nothing() {
    let stride = setting("PRIORART_FAULTS", 29);
    let world = World::new();
    let run = |fail: Option<(usize, ErrorKind)>| {
        let place = fast_place();
        let root = place.path().join("index");
        let store = FaultStore::over(place.path());
        if let Some((at, kind)) = fail {
            store.fail_at(at, kind);
        }
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let mut failed = None;
        let mut acknowledged = 0;
        for step in 0..STEPS {
            match world.step(step, &shared, &root) {
                Ok(generation) => acknowledged = generation,
                Err(e) => {
                    assert!(failed.is_none(), "one operation failed, two commands did: {e}");
                    let kind = fail.unwrap().1;
                    assert!(matches!(&e, Error::Io { source, .. } if source.kind() == kind), "{e}");
                    assert!(e.hint().is_some(), "{e}");
                    let found = world.check(&root).unwrap();
                    assert!((acknowledged..=acknowledged + 1).contains(&found), "{e}: generation {found}");
                    failed = Some(e.to_string());
                    // There is room again. What had been published before the failure is not done twice.
                    if found == acknowledged {
                        let again = world.step(step, &shared, &root);
                        acknowledged = again.unwrap_or_else(|e| panic!("{fail:?} failed, then the same command: {e}"));
                    }
                }
            }
        }
        let at = || format!("{fail:?} failed: {failed:?}");
        assert_eq!(world.check(&root).unwrap_or_else(|e| panic!("{}: {e}", at())), 8, "{}", at());
        world.assert_clean(&root);
        (store.operations().len(), failed.is_some())
    };
    let (operations, _) = run(None);
    let (mut walked, mut reported) = (0, 0);
    for at in (0..operations).step_by(stride) {
        let kind = if (at / stride).is_multiple_of(2) { ErrorKind::StorageFull } else { ErrorKind::PermissionDenied };
        walked += 1;
        reported += usize::from(run(Some((at, kind))).1);
    }
    println!(
        "failing operations: {walked} of {operations} walked, {reported} reported by the command, the others in cleaning up"
    );
    assert!(reported * 2 > walked);
}
