//! Labels of a review: which findings stand and which are false alarms, kept so that later runs honour them.
//!
//! A labels file has one JSON object a line: `eval_key`, `eval_instance_index`, `label` (`accept` or `reject`) and, unless the label is
//! for every document, `document_hash`. Other fields are passed over, so a report whose lines carry a `label` is a labels file, too.
//! A label holds for the content, not the place: the same document in another file keeps it, an edited one loses it. The last line
//! that speaks of a finding counts.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::error::{Error, Result};
use crate::reference::Origin;

/// What a reviewer said of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Label {
    /// The document holds the item.
    #[serde(alias = "accepted")]
    Accept,
    /// A false alarm: reported, but dirty under no protocol and never removed.
    #[serde(alias = "rejected")]
    Reject,
}

impl Label {
    /// As files and reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Label::Accept => "accept",
            Label::Reject => "reject",
        }
    }
}

/// A line of a labels file.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Labelled {
    /// Hash of the document's text; without one, the label is for every document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_hash: Option<String>,
    pub eval_key: String,
    pub eval_instance_index: String,
    /// `None` in a report's line that nobody has labelled.
    #[serde(default)]
    pub label: Option<Label>,
    /// Where the finding was, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_id: Option<String>,
}

/// Labels by document and item.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Labels {
    by_item: HashMap<(String, String), HashMap<Option<String>, Label>>,
}

impl Labels {
    /// Reads a labels file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Invalid`] with the line for one that is no label.
    pub fn read(path: &Path) -> Result<Labels> {
        let file = std::fs::File::open(path).map_err(Error::io(path, "open"))?;
        let mut labels = Labels::default();
        for (at, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(Error::io(path, "read"))?;
            if line.trim().is_empty() {
                continue;
            }
            let labelled: Labelled = serde_json::from_str(&line).map_err(|e| {
                Error::invalid_hint(
                    format!("{}:{}: not a label: {e}", path.display(), at + 1),
                    "each line needs eval_key, eval_instance_index and label (accept or reject); `decontaminate review` writes such a file",
                )
            })?;
            labels.insert(labelled);
        }
        Ok(labels)
    }

    /// Adds a label, in place of an earlier one for the same document and item.
    pub fn insert(&mut self, labelled: Labelled) {
        let of = self.by_item.entry((labelled.eval_key, labelled.eval_instance_index)).or_default();
        match labelled.label {
            Some(label) => of.insert(labelled.document_hash, label),
            None => None,
        };
    }

    /// The label of an item (by any of its places) in the document with this hash; one for that document goes before one for all.
    pub fn of(&self, document_hash: &str, origins: &[Origin]) -> Option<Label> {
        origins.iter().find_map(|o| self.get(document_hash, &o.benchmark, &o.id))
    }

    /// The same for one benchmark and id.
    pub fn get(&self, document_hash: &str, eval_key: &str, eval_instance_index: &str) -> Option<Label> {
        let of = self.by_item.get(&(eval_key.to_string(), eval_instance_index.to_string()))?;
        of.get(&Some(document_hash.to_string())).or_else(|| of.get(&None)).copied()
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.by_item.values().map(HashMap::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_own_label_goes_first_and_the_last_line_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels.jsonl");
        let line = |hash: &str, label: &str| {
            format!("{{{hash}\"eval_key\":\"b\",\"eval_instance_index\":\"7\",\"label\":{label},\"more\":1}}\n")
        };
        let of = "\"document_hash\":\"aa\",";
        let text =
            [line("", "\"reject\""), line(of, "\"reject\""), "\n".into(), line(of, "\"accepted\""), line(of, "null")];
        std::fs::write(&path, text.concat()).unwrap();
        let labels = Labels::read(&path).unwrap();
        assert_eq!(labels.len(), 2);
        assert_eq!(labels.get("aa", "b", "7"), Some(Label::Accept));
        assert_eq!(labels.get("bb", "b", "7"), Some(Label::Reject));
        assert_eq!(labels.get("aa", "b", "8"), None);
        let origin = |id: &str| Origin { benchmark: "b".into(), id: id.into(), ..Origin::default() };
        assert_eq!(labels.of("aa", &[origin("6"), origin("7")]), Some(Label::Accept));
        std::fs::write(&path, line("", "\"perhaps\"")).unwrap();
        let error = Labels::read(&path).unwrap_err();
        assert!(error.to_string().contains("labels.jsonl:1: not a label"), "{error}");
    }
}
