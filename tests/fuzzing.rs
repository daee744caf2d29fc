//! The fuzz targets in the test suite: seeds, inputs that once were findings, and random changes of both for a bounded time.
//!
//! `PRIORART_FUZZ_SECONDS` sets the time of each target (default 0.6; the long form is 600), `PRIORART_FUZZ_TARGET` picks one, and
//! `PRIORART_FUZZ_SEED` another sequence of changes. A finding is written to `tests/fuzz/artifacts`; mended, it goes to
//! `tests/fuzz/regressions/TARGET/`. Under libFuzzer, which sees what code an input reaches, the same targets run by `tests/fuzz`.

mod fixture;
#[path = "fuzz/seeds.rs"]
mod seeds;
#[path = "fuzz/targets.rs"]
mod targets;

use std::path::Path;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What the formats are made of.
const WORDS: [&[u8]; 24] = [
    b"PRIORART",
    b"PRIORANN",
    b"\"xxh3\": \"",
    b"{\"text\":\"",
    b"\"id\":",
    b" AND ",
    b" OR ",
    b"((",
    b"\"",
    b"\\u0000",
    b"\xff\xfe",
    b"null",
    b"1e999",
    b"-1",
    b"18446744073709551615",
    b"query_type",
    b"\"count\"",
    b"{}",
    b"[[[1]]]",
    b"\x93NUMPY\x01\x00",
    b"'descr': '<f4'",
    b"PAR1",
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
];

/// One to eight changes of an input.
fn change(random: &mut ChaCha8Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[random.random_range(0..seeds.len())].clone();
    for _ in 0..1 << random.random_range(0..4) {
        let at = random.random_range(0..=bytes.len());
        let end = (at + random.random_range(0..32)).min(bytes.len());
        match random.random_range(0..9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = random.random(),
            2 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.random_range(0..5)],
            3 => drop(bytes.splice(at..at, WORDS[random.random_range(0..WORDS.len())].iter().copied())),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let piece = bytes[at..end].to_vec();
                let to = random.random_range(0..=bytes.len());
                drop(bytes.splice(to..to, piece));
            }
            6 => bytes.truncate(at),
            7 if bytes.len() >= 8 => {
                let at = random.random_range(0..=bytes.len() - 8) / 4 * 4;
                let values = [0, 1, u64::MAX, u64::MAX / 2, 1 << 32, 63, bytes.len() as u64];
                let value = values[random.random_range(0..values.len())];
                let width = if random.random() { 8 } else { 4 };
                bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            }
            _ => {
                let other = &seeds[random.random_range(0..seeds.len())];
                let from = random.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

#[test]
fn no_input_makes_a_parser_panic() {
    let seconds: f64 = std::env::var("PRIORART_FUZZ_SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(0.6);
    let only = std::env::var("PRIORART_FUZZ_TARGET").ok();
    let sequence = fixture::setting("PRIORART_FUZZ_SEED", 1) as u64;
    let artifacts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/artifacts");
    let mut findings = Vec::new();
    for (name, _) in targets::TARGETS {
        if only.as_ref().is_some_and(|o| o != name) {
            continue;
        }
        let seeds = seeds::seeds(name);
        let mut random = ChaCha8Rng::seed_from_u64(sequence);
        let (mut executions, mut slowest) = (0u64, Duration::ZERO);
        // What a target makes once is made before the clock runs.
        targets::run(name, &[]);
        let start = Instant::now();
        let mut next = 0;
        while start.elapsed().as_secs_f64() < seconds || next < seeds.len() {
            let input = match seeds.get(next) {
                Some(seed) => seed.clone(),
                None => change(&mut random, &seeds),
            };
            next += 1;
            let begun = Instant::now();
            let ended = std::panic::catch_unwind(|| targets::run(name, &input));
            slowest = slowest.max(begun.elapsed());
            executions += 1;
            if ended.is_err() {
                std::fs::create_dir_all(&artifacts).unwrap();
                let path = artifacts.join(format!("{name}-{:016x}", priorart::format::checksum(&input)));
                std::fs::write(&path, &input).unwrap();
                findings.push(path);
                if findings.len() > 20 {
                    break;
                }
            }
        }
        println!(
            "fuzz {name}: {executions} executions, {} seeds, {:.1} s, slowest {slowest:.1?}",
            seeds.len(),
            start.elapsed().as_secs_f64()
        );
        assert!(seeds.len() > 1, "{name} has no seeds");
    }
    assert!(findings.is_empty(), "inputs that make a parser panic: {findings:#?}");
}
