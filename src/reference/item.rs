//! Eval items and their components, as read from benchmark files.
//!
//! An item has any subset of a question, an answer, a passage and a set of choices, of which one may be known to be
//! right. Items with equal content are one item that keeps the [`Origin`] of every copy.

use serde::{Deserialize, Serialize};

/// A part of an eval item that is searched for, and scored, on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComponentKind {
    Question,
    Answer,
    Passage,
    Choice,
}

impl ComponentKind {
    /// The word used for it in reports and settings.
    pub fn name(self) -> &'static str {
        match self {
            ComponentKind::Question => "question",
            ComponentKind::Answer => "answer",
            ComponentKind::Passage => "passage",
            ComponentKind::Choice => "choice",
        }
    }

    pub(crate) fn code(self) -> u32 {
        match self {
            ComponentKind::Question => 0,
            ComponentKind::Answer => 1,
            ComponentKind::Passage => 2,
            ComponentKind::Choice => 3,
        }
    }

    pub(crate) fn from_code(code: u32) -> Option<Self> {
        [ComponentKind::Question, ComponentKind::Answer, ComponentKind::Passage, ComponentKind::Choice]
            .get(code as usize)
            .copied()
    }
}

/// Where one copy of an item was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// Benchmark name: `eval_key`, or the file's stem.
    pub benchmark: String,
    /// Id within the benchmark: the item's own, `eval_instance_index`, or its 0-based record number.
    pub id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub split: String,
    /// The file's own row ids (`doc_id`, `fingerprint`), where it has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub row_ids: Vec<String>,
    /// File the item was read from, as named by the user.
    pub path: String,
    /// 1-based line (for one item in several rows: the first).
    pub line: u64,
}

/// One eval item. At least one component has text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvalItem {
    /// Every place this item was read, in reading order; never empty.
    pub origins: Vec<Origin>,
    pub question: Option<String>,
    /// The answer or solution; for multiple choice the text of the right choice, where known.
    pub answer: Option<String>,
    pub passage: Option<String>,
    /// Choices in the benchmark's order; empty when the item is not multiple choice.
    pub choices: Vec<String>,
    /// 0-based position of the right choice.
    pub correct: Option<usize>,
}

impl EvalItem {
    /// The components to search for: question, passage, then the choices, or the answer where there are none.
    pub fn components(&self) -> impl Iterator<Item = (ComponentKind, &str)> {
        let answer = if self.choices.is_empty() { self.answer.as_deref() } else { None };
        self.question
            .as_deref()
            .map(|t| (ComponentKind::Question, t))
            .into_iter()
            .chain(self.passage.as_deref().map(|t| (ComponentKind::Passage, t)))
            .chain(answer.map(|t| (ComponentKind::Answer, t)))
            .chain(self.choices.iter().map(|t| (ComponentKind::Choice, t.as_str())))
    }

    /// Whether no component has a letter or digit.
    pub fn is_empty(&self) -> bool {
        !self.components().any(|(_, text)| text.chars().any(char::is_alphanumeric))
    }
}

/// Eval items to protect, in reading order, without duplicates.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReferenceSet {
    pub items: Vec<EvalItem>,
    /// Rows read: more than items where an item has a row per choice or several copies.
    pub rows: u64,
}
