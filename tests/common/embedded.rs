//! A small corpus with embeddings, for the tests that need an encoder.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub const MODEL: &str = "all-minilm-l6-v2";
pub const TEXTS: [&str; 6] = [
    "The harbour master lights the lamp at dusk and keeps it burning until the last fishing boat has come home safely.",
    "Bread dough should rest in a warm place until it has doubled in size; then knead it again and shape the loaves.",
    "The parliament voted to raise the tax on land, and the farmers of the valley marched to the capital in protest.",
    "A glacier moves a few metres a year, grinding the rock beneath it to flour that turns the lakes below milky green.",
    "To tune a violin, turn the peg slowly while bowing the string next to it, and listen for the beating to disappear.",
    "The night train crosses the border at three; passengers are woken, their papers are checked, and tea is brought.",
];

pub struct Place {
    pub dir: tempfile::TempDir,
    pub cache: PathBuf,
}

impl Place {
    /// A directory with an index of the texts; `None` without a model.
    pub fn new() -> Option<Place> {
        let cache = priorart::catalog::cache_dir().unwrap();
        if priorart::embed::find_model(MODEL).is_none() {
            println!("skipped: the model {MODEL} is not in {}", cache.display());
            return None;
        }
        let place = Place { dir: tempfile::tempdir().unwrap(), cache };
        place.write("corpus.jsonl", "doc", &TEXTS);
        let made = place.run(&["build", "--index", "ix", "--encoder", MODEL, "--format", "json", "corpus.jsonl"]);
        assert_eq!(made["documents"], 6);
        Some(place)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn write(&self, name: &str, prefix: &str, texts: &[&str]) {
        let line = |(i, text): (usize, &&str)| {
            format!("{}\n", serde_json::json!({"id": format!("{prefix}-{i}"), "text": text}))
        };
        fs::write(self.path().join(name), texts.iter().enumerate().map(line).collect::<String>()).unwrap();
    }

    pub fn output(&self, arguments: &[&str]) -> super::Run {
        super::command(self.path(), arguments).env("PRIORART_CACHE", &self.cache).output().unwrap().into()
    }

    /// Standard output of a command that succeeds, as JSON.
    pub fn run(&self, arguments: &[&str]) -> Value {
        let run = self.output(arguments);
        assert_eq!(run.code, Some(0), "{arguments:?}: {}", run.err);
        serde_json::from_str(&run.out).unwrap()
    }
}
