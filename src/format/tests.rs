//! Sections come back as they were written, and any change to a file is refused or found.

use std::io::Write;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::error::Error;
use crate::store::{DiskStore, FaultStore, Store};

const KIND: Kind = Kind::new("test");

fn bytes(length: usize, seed: u64) -> Vec<u8> {
    (0..length.div_ceil(8) as u64)
        .flat_map(|i| checksum(&(seed ^ i).to_le_bytes()).to_le_bytes())
        .take(length)
        .collect()
}

fn write(path: &Path, subs: &[(String, Vec<u8>)], cut: usize) -> SectionSummary {
    let mut writer = DiskStore.section(path, KIND, 1).unwrap();
    for (name, content) in subs {
        writer.start_sub(name).unwrap();
        // In pieces of any size: blocks do not depend on them.
        content.chunks(cut.max(1)).for_each(|piece| writer.write_all(piece).unwrap());
    }
    writer.finish().unwrap()
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("section.bin");
    (dir, path)
}

fn damaged(path: &Path) -> bool {
    Section::open(path, KIND).and_then(|s| s.verify()).is_err()
}

fn length() -> impl Strategy<Value = usize> {
    let near = |n: usize| (n - 70..n + 70).boxed();
    prop_oneof![4 => 0usize..300, 1 => near(BLOCK_BYTES), 1 => near(2 * BLOCK_BYTES)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn subsections_round_trip(lengths in proptest::collection::vec(length(), 0..5), cut in prop_oneof![1usize..5000, Just(usize::MAX)], seed: u64) {
        let (_dir, path) = place();
        let subs: Vec<_> = lengths.iter().enumerate().map(|(i, &n)| (format!("sub{i}"), bytes(n, seed ^ i as u64))).collect();
        let summary = write(&path, &subs, cut);
        let section = Section::open(&path, KIND).unwrap();
        section.verify().unwrap();
        prop_assert_eq!(std::fs::metadata(&path).unwrap().len(), summary.bytes);
        prop_assert_eq!(section.header().digest(), summary.digest);
        prop_assert_eq!(section.bytes().len() as u64, summary.payload);
        prop_assert_eq!(section.subs().count(), subs.len());
        for (name, content) in &subs {
            let sub = section.sub(name).unwrap();
            prop_assert!(sub.bytes() == content);
            prop_assert_eq!(sub.file_offset() % ALIGNMENT as u64, 0);
            if content.len() % 8 == 0 {
                let words: Vec<u64> = content.chunks(8).map(|w| u64::from_le_bytes(w.try_into().unwrap())).collect();
                prop_assert!(sub.as_u64s().unwrap() == words && *sub.array::<u64>().unwrap() == words);
            } else {
                prop_assert!(sub.as_u64s().is_err() && sub.array::<u64>().is_err());
            }
            prop_assert_eq!(sub.as_u16s().is_ok(), content.len() % 2 == 0);
            prop_assert_eq!(sub.as_u32s().is_ok(), content.len() % 4 == 0);
        }
        prop_assert!(section.sub("absent").is_err());
    }

    #[test]
    fn a_plain_payload_round_trips(length in length(), seed: u64) {
        let (_dir, path) = place();
        let content = bytes(length, seed);
        let mut writer = DiskStore.section(&path, KIND, 0).unwrap();
        writer.put(&content).unwrap();
        writer.finish().unwrap();
        let section = Section::open(&path, KIND).unwrap();
        section.verify().unwrap();
        prop_assert!(section.bytes() == content);
    }

    #[test]
    fn cut_or_extended_files_are_refused(length in length(), at in any::<prop::sample::Index>(), extra in 1usize..20) {
        let (_dir, path) = place();
        write(&path, &[("a".into(), bytes(length, 1))], usize::MAX);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, &good[..at.index(good.len())]).unwrap();
        prop_assert!(Section::open(&path, KIND).is_err());
        let mut long = good;
        long.resize(long.len() + extra, 0);
        std::fs::write(&path, &long).unwrap();
        prop_assert!(Section::open(&path, KIND).is_err());
    }
}

#[test]
fn every_flipped_bit_of_a_small_file_is_found() {
    let (_dir, path) = place();
    write(&path, &[("one".into(), bytes(100, 1)), ("two".into(), bytes(33, 2))], usize::MAX);
    let good = std::fs::read(&path).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &bad).unwrap();
        assert!(damaged(&path), "bit {bit}");
    }
    println!("{} flipped bits, all found", good.len() * 8);
}

#[test]
fn damage_is_told_by_block() {
    let (_dir, path) = place();
    write(&path, &[("a".into(), bytes(5 * BLOCK_BYTES + 77, 3))], usize::MAX);
    let mut bad = std::fs::read(&path).unwrap();
    for block in [1, 4] {
        bad[HEADER_BYTES + block * BLOCK_BYTES + 1234] ^= 4;
    }
    std::fs::write(&path, &bad).unwrap();
    let section = Section::open(&path, KIND).unwrap();
    let blocks = section.damage().map(|e| match e {
        Error::Checksum { block, .. } => block,
        e => panic!("{e}"),
    });
    assert_eq!(blocks.collect::<Vec<_>>(), [1, 4]);
    let error = section.verify().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("section.bin") && text.contains("block 1 (from byte 1048640)"), "{text}");
    assert!(error.hint().is_some_and(|hint| hint.contains("verify")));
}

/// Every structural field of header and directory set to values that a hostile file might hold, with valid checksums.
#[test]
fn hostile_fields_are_refused_without_a_panic() {
    let (_dir, path) = place();
    write(&path, &[("a".into(), bytes(200, 1)), ("b".into(), bytes(50, 2))], usize::MAX);
    let good = std::fs::read(&path).unwrap();
    let header = Header::decode(&good, &path).unwrap();
    let directory = HEADER_BYTES + header.directory.unwrap() as usize;
    let table = header.table_offset().unwrap() as usize;
    let values = [0, 1, 63, 65, 1 << 20, u64::MAX, u64::MAX - 63, i64::MAX as u64, good.len() as u64];
    let mut refused = 0;
    for field in [16, 20, 22, 24, 32, 40, 48].into_iter().chain([16, 24, 48, 56].map(|f| directory + f)) {
        for value in values {
            let mut bad = good.clone();
            bad[field..field + 8].copy_from_slice(&value.to_le_bytes());
            let sum = checksum(&bad[directory..directory + 64]);
            bad[directory + 64..directory + 72].copy_from_slice(&sum.to_le_bytes());
            let sum = checksum(&bad[HEADER_BYTES..HEADER_BYTES + header.payload as usize]);
            bad[table..].copy_from_slice(&sum.to_le_bytes());
            if field != 40 {
                bad[40..48].copy_from_slice(&checksum(&sum.to_le_bytes()).to_le_bytes());
            }
            let sum = checksum(&bad[..56]);
            bad[56..64].copy_from_slice(&sum.to_le_bytes());
            std::fs::write(&path, &bad).unwrap();
            match Section::open_any(&path) {
                Ok(section) => {
                    let _ = (section.verify(), section.as_u32s().map(<[u32]>::len));
                    section
                        .subs()
                        .for_each(|(name, length)| assert_eq!(section.sub(name).unwrap().bytes().len(), length));
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 60, "{refused}");
}

#[test]
fn names_and_widths_are_checked() {
    let (_dir, path) = place();
    assert!(DiskStore.section(&path, KIND, 3).is_err());
    let mut writer = DiskStore.section(&path, KIND, 4).unwrap();
    for name in ["", "seventeen letters", "with space", "ümlaut"] {
        assert!(writer.start_sub(name).is_err(), "{name}");
    }
    writer.start_sub("sixteen-letters!").unwrap();
    assert!(writer.start_sub("sixteen-letters!").is_err());
    writer.finish().unwrap();
    assert!(Section::open(&path, KIND).unwrap().sub("sixteen-letters!").unwrap().bytes().is_empty());
    let error = Section::open(&path, Kind::TOKENS).unwrap_err();
    assert!(error.to_string().contains("`test`, not `tokens`"), "{error}");
}

/// Whenever the writer stops, what is on storage is refused, until it is complete.
#[test]
fn a_file_is_valid_only_when_complete() {
    let path = Path::new("/s");
    let run = |store: &FaultStore| {
        let mut writer = store.section(path, KIND, 1)?;
        writer.put(&bytes(BLOCK_BYTES + 5, 1))?;
        let summary = writer.finish()?;
        store.sync_dir(Path::new("/"))?;
        Ok::<_, Error>(summary)
    };
    let calm = FaultStore::new();
    run(&calm).unwrap();
    let whole = calm.read(path).unwrap();
    let (mut valid, mut images) = (0, 0);
    for point in 0..=calm.operations().len() {
        let store = FaultStore::new();
        store.crash_at(point);
        let done = run(&store).is_ok();
        let found = store.images(1000, 0);
        assert!(found.exhaustive);
        for image in found.images {
            images += 1;
            let content = image.entries.get(path).cloned().flatten();
            let (_dir, real) = place();
            std::fs::write(&real, content.as_deref().unwrap_or_default()).unwrap();
            let opens = !damaged(&real);
            assert_eq!(opens, content.as_ref() == Some(&whole));
            assert!(opens || !done);
            valid += usize::from(opens);
        }
    }
    println!("{images} images of an interrupted writer, {valid} of them complete");
    assert!(valid > 0 && images > valid);
}
