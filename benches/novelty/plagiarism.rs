//! Clough and Stevenson's short answers: copied, lightly and heavily revised, and written independently of five originals.

use std::collections::BTreeMap;
use std::path::Path;

use priorart::embed::colbert::PlainLate;
use priorart::embed::{OpenOptions, find_model};
use priorart::index::Snapshot;
use priorart::novelty::statistics::{auroc, bootstrap};
use priorart::novelty::{CacheOptions, Score, Scorer, Settings, Text};

use super::{Outcome, Results, records};

pub fn run(data: &Path, index: &Path, results: &mut Results) -> Outcome<()> {
    let model = find_model("all-minilm-l6-v2").ok_or("all-minilm-l6-v2 is not in the cache")?;
    let encoder = priorart::embed::open(&model, &OpenOptions::default())?;
    let snapshot = Snapshot::open(index)?;
    println!("{} documents, {} chunks", snapshot.manifest.corpus.documents, snapshot.chunks());
    let mut category = BTreeMap::new();
    let mut texts = Vec::new();
    for r in records(&data.join("pairs/clough_stevenson.jsonl.zst"))? {
        let of = |field: &str| r[field].as_str().unwrap_or_default().to_string();
        if of("category") == "orig" {
            if snapshot.find_id(&of("id"))?.is_empty() {
                return Err(format!("the index lacks the original {}: add the five originals to it", of("id")).into());
            }
            continue;
        }
        category.insert(of("id"), of("category"));
        texts.push(Text { id: of("id"), text: of("text"), ..Text::default() });
    }
    let late = PlainLate::new(&*encoder);
    let cache = CacheOptions::beside(index, &encoder.spec().sha256, 4);
    let mut scorer = Scorer::new(&snapshot, &*encoder, &late, Settings::default(), 1 << 30, Some(&cache))?;
    let mut scores: Vec<Score> = Vec::new();
    for batch in texts.chunks(32) {
        scores.extend(scorer.score(batch)?);
        println!("{} of {} texts, {} chunks encoded", scores.len(), texts.len(), scorer.chunks_encoded());
    }
    for &length in &scorer.settings.windows {
        let of = |kinds: &[&str]| -> Vec<f64> {
            let kind = |s: &&Score| kinds.contains(&category[&s.id].as_str());
            scores.iter().filter(kind).filter_map(|s| s.at(length)).collect()
        };
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len().max(1) as f64;
        let kinds = [of(&["cut"]), of(&["light"]), of(&["heavy"]), of(&["non"])];
        for (name, v) in ["cut", "light", "heavy", "non"].iter().zip(&kinds) {
            let of =
                |chosen: &[usize]| (!v.is_empty()).then(|| mean(&chosen.iter().map(|&i| v[i]).collect::<Vec<_>>()));
            if let Some(m) = bootstrap(v.len(), 2000, 42, of) {
                results.interval(&format!("mean s, {length} tokens, {name} ({} texts)", v.len()), "s", m, None);
            }
        }
        // At 500 tokens hardly a text is long enough.
        let enough = kinds.iter().all(|v| v.len() >= 5);
        let m: Vec<f64> = kinds.iter().map(|v| mean(v)).collect();
        let ordered = m[0] >= m[1] && m[1] >= m[2] && m[2] > m[3];
        let name = format!("cut ≥ light ≥ heavy > non, {length} tokens");
        results.add(&name, "yes", f64::from(ordered), enough.then_some(("1", ordered)));
        if let Some(area) = auroc(&of(&["cut", "light", "heavy"]), &kinds[3]) {
            let goal = enough.then_some(("≥ 0.95", area >= 0.95));
            results.add(&format!("AUROC of plagiarised against not, {length} tokens"), "AUROC", area, goal);
        }
    }
    Ok(())
}
