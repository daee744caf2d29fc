//! The project's own files as a corpus: text with long repeats, code, prose and tables.

use std::path::Path;

/// Every Rust and Markdown file of the directories, by name and in the order of names; `.` is the project's root.
pub fn sources(dirs: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = dirs
        .iter()
        .flat_map(|d| std::fs::read_dir(root.join(d)).expect("a directory"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "rs" || e == "md"))
        .collect();
    paths.sort();
    let name = |p: &Path| p.strip_prefix(root).unwrap_or(p).to_string_lossy().into_owned();
    paths.iter().map(|p| (name(p), std::fs::read_to_string(p).expect("a text"))).collect()
}

/// Their texts alone.
#[allow(dead_code)]
pub fn texts(dirs: &[&str]) -> Vec<String> {
    sources(dirs).into_iter().map(|(_, text)| text).collect()
}
