//! The fuzz targets in the test suite: seeds, inputs that once were findings, and random changes of both for a bounded time.
//!
//! `PRIORART_FUZZ_SECONDS` sets the time of each target (default 0.6; the long form is 600), `PRIORART_FUZZ_TARGET` picks one, and
//! `PRIORART_FUZZ_SEED` another sequence of changes. A finding is written to `tests/fuzz/artifacts`; mended, it goes to
//! `tests/fuzz/regressions/TARGET/`. Under libFuzzer, which sees what code an input reaches, the same targets run by `tests/fuzz`.

mod fixture;
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

/// Valid inputs of a target: the files of a small index, requests, and what `tests/fuzz/seeds` and the regressions hold.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = vec![Vec::new()];
    let index = targets::index();
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for entry in walk(index) {
        let file = entry.file_name().unwrap().to_string_lossy().into_owned();
        files.push((file, std::fs::read(&entry).unwrap()));
    }
    let named = |end: &str| files.iter().filter(|f| f.0.ends_with(end)).map(|f| f.1.clone()).collect::<Vec<_>>();
    let texts = [
        "the lamp",
        "\"the lamp\" AND (night OR \"w1 burns\")",
        "naïve 漢字 \u{200d}\u{1f469}\u{1f3fd} e\u{301}",
        "a\tb\r\nc\0d",
    ];
    match name {
        "manifest" => seeds.extend(named(".json")),
        "section" => seeds.extend(files.iter().filter(|f| f.1.starts_with(b"PRIORART")).map(|f| f.1.clone())),
        "terms" => seeds.extend(named("terms.bin").into_iter().map(|t| [vec![12], t].concat())),
        "shard" => seeds.extend((0..40u8).map(|i| vec![i, i.wrapping_mul(37), 0, i, i / 2, 70 + i, 1, 255])),
        "tokenizer_file" => {
            let model = index.parent().unwrap().join("model/tokenizer.json");
            seeds.push(std::fs::read(model).unwrap());
            seeds.push(br#"{"version":"1.0","added_tokens":[],"normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},"post_processor":null,"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"vocab":{"t":0,"h":1,"e":2,"th":3,"the":4},"merges":["t h","th e"]}}"#.to_vec());
        }
        "jsonl" => seeds.push(
            b"{\"id\":\"a\",\"text\":\"x \\ud83d\\ude00\",\"n\":[1,{\"a\":null}]}\n{\"text\":\"y\"}\n\n{\"no\":1}\n"
                .to_vec(),
        ),
        "compressed" => {
            use std::io::Write;
            let plain = b"{\"id\":\"a\",\"text\":\"lamp lamp lamp lamp\"}\n".repeat(20);
            let mut gz = flate2::write::GzEncoder::new(vec![0u8], flate2::Compression::fast());
            gz.write_all(&plain).unwrap();
            seeds.push(gz.finish().unwrap());
            seeds.push([vec![1], zstd::bulk::compress(&plain, 3).unwrap()].concat());
        }
        "parquet" => {
            let path = index.with_extension("parquet");
            let mut out = priorart::ann::ParquetWriter::create(&path, 3).unwrap();
            for i in 0..5 {
                let row = priorart::ann::ChunkRow {
                    shard: 0,
                    document: i,
                    id: format!("d{i}"),
                    path: "p".into(),
                    start_byte: 0,
                    end_byte: 3,
                    text: "abc".into(),
                };
                out.push(row, &[0.5, 1.0, i as f32]).unwrap();
            }
            out.finish().unwrap();
            seeds.push(std::fs::read(path).unwrap());
        }
        "wire" => {
            for (route, body) in [
                (0u8, r#"{"index":"index","query_type":"count","query":"the lamp"}"#),
                (0, r#"{"index":"index","query_type":"find_cnf","query":"lamp AND night","max_diff_tokens":5}"#),
                (0, r#"{"index":"index","query_type":"infgram_ntd","query":"the","max_support":10}"#),
                (0, r#"{"index":"index","query_type":"search_docs","query":"lamp","maxnum":3,"max_disp_len":10}"#),
                (1, r#"{"response":"the lamp burns in w1","delimiters":["\n"],"maximumSpanDensity":0.5}"#),
                (2, r#"{"queries":["the lamp","night"]}"#),
                (3, r#"{"query":"lamp","limit":3,"context":9}"#),
                (4, r#"{"prompt":"the","top_k":5}"#),
                (5, r#"{"text":"the lamp burns","min_tokens":1,"density":0.5}"#),
                (6, r#"{"text":"lamp","top_k":3}"#),
                (7, r#"{"texts":["lamp"]}"#),
            ] {
                seeds.push([&[route][..], body.as_bytes()].concat());
            }
        }
        "matrix" => {
            let dir = index.parent().unwrap();
            seeds.push(std::fs::read(dir.join("model/model.safetensors")).unwrap());
            let mut header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }".to_string();
            header += &" ".repeat(117 - header.len());
            seeds.push([b"\x93NUMPY\x01\x00\x76\x00", header.as_bytes(), b"\n", &[0u8; 24]].concat());
        }
        "vector_index" => {
            seeds.extend(named("vectors.bin"));
            seeds.extend(named("ann.bin"));
        }
        "reference" => {
            let path = index.with_extension("ref");
            let items = index.with_extension("items.jsonl");
            std::fs::write(&items, "{\"id\":\"a\",\"question\":\"Which lamp burns in the harbour office all night long?\",\"answer\":\"The blue one\"}\n").unwrap();
            let set = priorart::reference::read(&[items], None).unwrap();
            priorart::reference::ReferenceIndex::build(&set).unwrap().save(&path).unwrap();
            seeds.push(std::fs::read(path).unwrap());
        }
        _ => {}
    }
    if matches!(name, "boolean" | "tokenizer_input" | "jsonl") {
        seeds.extend(texts.map(|t| t.as_bytes().to_vec()));
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    for kept in ["seeds", "regressions"] {
        seeds.extend(walk(&here.join(kept).join(name)).iter().map(|path| std::fs::read(path).unwrap()));
    }
    seeds
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = walkdir::WalkDir::new(dir)
        .into_iter()
        .filter_map(|e| e.ok())
        .filter(|e| e.file_type().is_file())
        .map(|e| e.into_path())
        .collect();
    files.sort();
    files
}

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
        let seeds = seeds(name);
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
