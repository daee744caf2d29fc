//! Protocols: published contamination rules as pure functions of the evidence.
//!
//! All protocols come out of one document pass. A protocol reads only the [`Evidence`] and its own parameters, so a verdict
//! can be recomputed from a stored report and tested by hand. To add one: a variant of [`Protocol`], its parameters in
//! `parameters.rs`, a `judge`, and, if it needs it, a primitive of its own in `primitives.rs`.

mod meaning;
mod parameters;
mod priorart;
#[cfg(test)]
mod priorart_tests;
mod published;
#[cfg(test)]
mod tests;

pub use parameters::{
    Contam, Datatrove, Decon, Dolma, Gpt3, Gpt4, Llama2, Llama3, Mathpile, Palm, Parameters, Paraphrase, Rewrite, Tulu3,
};
pub use priorart::Priorart;

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use crate::error::{Error, Result};
use crate::reference::ComponentKind;

/// A contamination rule, by the name of its publication or tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Priorart,
    Gpt3,
    Gpt4,
    Palm,
    Llama2,
    Llama3,
    Tulu3,
    Datatrove,
    Dolma,
    Decon,
    Mathpile,
    Contam,
    /// Not a published rule: the column of paraphrases, judged by a calibrated confidence.
    Semantic,
    /// The column of rewritten programs.
    Code,
}

impl Protocol {
    /// Every lexical protocol, the default first.
    pub const ALL: [Protocol; 12] = [
        Protocol::Priorart,
        Protocol::Gpt3,
        Protocol::Gpt4,
        Protocol::Palm,
        Protocol::Llama2,
        Protocol::Llama3,
        Protocol::Tulu3,
        Protocol::Datatrove,
        Protocol::Dolma,
        Protocol::Decon,
        Protocol::Mathpile,
        Protocol::Contam,
    ];

    /// The columns that need an encoder: separate from every lexical verdict, and not part of `all`.
    pub const COLUMNS: [Protocol; 2] = [Protocol::Semantic, Protocol::Code];

    /// The protocol or column of that name.
    pub fn named(name: &str) -> Option<Protocol> {
        Protocol::ALL.into_iter().chain(Protocol::COLUMNS).find(|p| p.name().eq_ignore_ascii_case(name))
    }

    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Priorart => "priorart",
            Protocol::Gpt3 => "gpt3",
            Protocol::Gpt4 => "gpt4",
            Protocol::Palm => "palm",
            Protocol::Llama2 => "llama2",
            Protocol::Llama3 => "llama3",
            Protocol::Tulu3 => "tulu3",
            Protocol::Datatrove => "datatrove",
            Protocol::Dolma => "dolma",
            Protocol::Decon => "decon",
            Protocol::Mathpile => "mathpile",
            Protocol::Contam => "contam",
            Protocol::Semantic => "semantic",
            Protocol::Code => "code",
        }
    }

    /// Protocols from a list such as `gpt3,decon`, or `all`, in the order given (of `all`, ours first); repetitions are
    /// dropped.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown name or an empty list.
    pub fn parse_list(list: &str) -> Result<Vec<Protocol>> {
        let mut out: Vec<Protocol> = Vec::new();
        for name in list.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            if name.eq_ignore_ascii_case("all") {
                return Ok(Protocol::ALL.to_vec());
            }
            let known = Protocol::named(name);
            let known = known.ok_or_else(|| {
                let names: Vec<&str> = Protocol::ALL.iter().chain(&Protocol::COLUMNS).map(|p| p.name()).collect();
                Error::invalid_hint(format!("unknown protocol `{name}`"), format!("use {} or all", names.join(", ")))
            })?;
            if !out.contains(&known) {
                out.push(known);
            }
        }
        if out.is_empty() {
            return Err(Error::invalid_hint("no protocol named", "use priorart, all, or a list such as gpt3,decon"));
        }
        Ok(out)
    }

    /// What this protocol says of the evidence.
    pub fn judge(self, parameters: &Parameters, evidence: &Evidence) -> Verdict {
        match self {
            Protocol::Priorart => parameters.priorart.judge(evidence),
            Protocol::Gpt3 => parameters.gpt3.judge(evidence),
            Protocol::Gpt4 => parameters.gpt4.judge(evidence),
            Protocol::Palm => parameters.palm.judge(evidence),
            Protocol::Llama2 => parameters.llama2.judge(evidence),
            Protocol::Llama3 => parameters.llama3.judge(evidence),
            Protocol::Tulu3 => parameters.tulu3.judge(evidence),
            Protocol::Datatrove => parameters.datatrove.judge(evidence),
            Protocol::Dolma => parameters.dolma.judge(evidence),
            Protocol::Decon => parameters.decon.judge(evidence),
            Protocol::Mathpile => parameters.mathpile.judge(evidence),
            Protocol::Contam => parameters.contam.judge(evidence),
            Protocol::Semantic => parameters.semantic.judge(evidence.primitives.semantic.as_ref()),
            Protocol::Code => parameters.code.judge(evidence.primitives.code.as_ref()),
        }
    }
}

/// What a protocol says of an item in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Clean,
    Suspect,
    Dirty,
}

impl Level {
    /// As reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Clean => "clean",
            Level::Suspect => "suspect",
            Level::Dirty => "dirty",
        }
    }
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
