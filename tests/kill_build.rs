//! `priorart build` and `priorart add` are killed with SIGKILL at random moments. After each kill either no index opens or the one
//! that opens answers right, every byte of it is intact, and the next build finishes.
//!
//! The moments are drawn with a seed from the time an undisturbed build takes. `PRIORART_KILLS` sets their number.

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{command, run, succeed};
use rand::{Rng, SeedableRng};

const WORDS: [&str; 12] =
    ["ash", "birch", "cedar", "elm", "fir", "hazel", "larch", "maple", "oak", "pine", "rowan", "yew"];
const QUERIES: [&str; 4] = ["oak elm", "yew yew yew", "pine larch maple oak fir", "cedar without bark"];

/// Writes a corpus of random words and returns how often each query is in it, counted by looking everywhere.
fn corpus(path: &Path, seed: u64) -> Vec<usize> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut counts = vec![0; QUERIES.len()];
    let mut out = String::new();
    for id in 0..1500 {
        let words: Vec<&str> = (0..300).map(|_| WORDS[random.random_range(0..WORDS.len())]).collect();
        for (count, query) in counts.iter_mut().zip(QUERIES) {
            let query: Vec<&str> = query.split(' ').collect();
            *count += words.windows(query.len()).filter(|w| *w == query.as_slice()).count();
        }
        out += &format!("{{\"id\":\"{id}\",\"text\":\"{}\"}}\n", words.join(" "));
    }
    fs::write(path, out).unwrap();
    counts
}

/// What the index answers, or `None` if there is none. Anything else than right or absent is a failure of the test.
fn answers(dir: &Path) -> Option<Vec<usize>> {
    let counted = run(dir, &[&["count", "--index", "ix", "--format", "jsonl"], &QUERIES[..]].concat());
    if counted.code != Some(0) {
        assert!(counted.err.contains("no index here (manifest.json is missing)"), "{}", counted.err);
        return None;
    }
    succeed(dir, &["info", "--index", "ix", "--verify"]);
    let number = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["count"].as_u64().unwrap();
    Some(counted.out.lines().map(|line| number(line) as usize).collect())
}

/// Starts the command and kills it after `delay`, unless it ends before. Whether it was killed.
fn kill(dir: &Path, arguments: &[&str], delay: Duration) -> bool {
    let mut child = command(dir, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(delay);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(status.success() || status.code().is_none(), "{status}");
    !status.success()
}

#[test]
fn a_killed_build_leaves_no_wrong_answer_and_the_next_one_finishes() {
    let kills: u32 = std::env::var("PRIORART_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    let first = corpus(&dir.join("first.jsonl"), 1);
    let second = corpus(&dir.join("second.jsonl"), 2);
    assert!(first[0] > 1000 && first[1] > 100 && first[3] == 0);
    let both: Vec<usize> = first.iter().zip(&second).map(|(a, b)| a + b).collect();
    let build = ["build", "--index", "ix", "first.jsonl"];
    let add = ["add", "--index", "ix", "second.jsonl"];
    let start = Instant::now();
    succeed(dir, &build);
    let whole = start.elapsed();
    assert_eq!(answers(dir), Some(first.clone()));
    fs::remove_dir_all(dir.join("ix")).unwrap();

    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let (mut hit, mut published, mut resumed) = (0, 0, 0);
    for round in 0..kills {
        // The end, where the index is published, is met more often than its share of the time.
        let share = if round % 2 == 0 { random.random_range(0.0..1.0) } else { random.random_range(0.7..1.1) };
        let delay = whole.mul_f64(share);
        let present = dir.join("ix/manifest.json").exists();
        let (arguments, before, after) = match present {
            false => (&build[..], None, Some(first.clone())),
            true => (&add[..], Some(first.clone()), Some(both.clone())),
        };
        hit += u32::from(kill(dir, arguments, delay));
        let found = answers(dir);
        assert!(found == before || found == after, "round {round}, after {delay:?}: {found:?}");
        if found == after {
            published += 1;
        } else if round % 3 == 0 {
            // The same command again finishes, over whatever was left.
            resumed += u32::from(dir.join("ix/building").exists());
            succeed(dir, arguments);
            assert_eq!(answers(dir), after, "round {round}");
            assert!(!dir.join("ix/tmp").exists() && !dir.join("ix/building").exists(), "round {round}");
        }
        if answers(dir) == Some(both.clone()) {
            fs::remove_dir_all(dir.join("ix")).unwrap();
        }
    }
    if dir.join("ix/manifest.json").exists() {
        fs::remove_dir_all(dir.join("ix")).unwrap();
    }
    succeed(dir, &build);
    assert_eq!(answers(dir), Some(first));
    println!(
        "{kills} kills, {hit} of a running process, {published} after publication, {resumed} times over unfinished work; a build takes {whole:?}"
    );
    assert!(hit * 4 >= kills, "only {hit} of {kills} kills met a running build");
}
