//! Protocols: published contamination rules as pure functions of the evidence.
mod priorart;

pub use priorart::Priorart;

use serde::{Deserialize, Serialize};

use crate::reference::ComponentKind;

/// What a protocol says of an item in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Clean,
    Suspect,
    Dirty,
}

/// A protocol's judgement of one item in one document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    pub level: Level,
    /// The number the protocol compares with its threshold, 0 to 1.
    pub score: f32,
    /// Components the verdict rests on.
    pub components: Vec<ComponentKind>,
    /// Which of the protocol's rules decided; empty when clean.
    pub rule: &'static str,
}

impl Verdict {
    /// Clean, with this score.
    pub fn clean(score: f32) -> Verdict {
        Verdict { level: Level::Clean, score, components: Vec::new(), rule: "" }
    }

    fn dirty(&mut self, rule: &'static str, component: ComponentKind, score: f32) {
        self.level = Level::Dirty;
        if self.rule.is_empty() {
            self.rule = rule;
        }
        if !self.components.contains(&component) {
            self.components.push(component);
        }
        self.score = self.score.max(score);
    }
}
