//! Decontamination: which documents of a corpus contain which eval items, in one pass over the text.
//!
//! - `scan.rs` numbers a document's words and finds where they meet the reference; `chain.rs` turns exact runs into
//!   alignments that survive edits; `unit.rs` knows lines and sentences; `evidence.rs` puts it together per item.
//! - `streams.rs`, `grams.rs`, `primitives.rs`, `lines.rs`, `skipgram.rs`, `decon.rs` give the evidence of protocols that read other tokens.
//! - `semantic/` finds items said in other words: the semantic and code columns.
//! - `protocol/` judges evidence and nothing else; `detector.rs` runs it all on a document;
//!   `span.rs` cuts out what was found; `labels.rs` keeps what reviewers said of it.
//!
//! Useful for: telling exact, edited, reformatted and partial copies of benchmark items from text that only resembles
//! them, and with an encoder paraphrases. Not useful for: translations into another natural language.

mod chain;
mod decon;
mod detector;
mod evidence;
mod grams;
pub mod labels;
mod lines;
mod primitives;
mod protocol;
pub mod remove;
pub mod run;
mod scan;
pub mod semantic;
mod skipgram;
mod span;
mod streams;
mod unit;

pub use decon::DeconScore;
pub use detector::{Detector, Finding, Frequency, Occurrences, Settings};
pub use evidence::{ChoiceEvidence, ComponentEvidence, Evidence, Piece};
pub use primitives::Primitives;
pub use protocol::{
    Contam, Datatrove, Decon, Dolma, Gpt3, Gpt4, Level, Llama2, Llama3, Mathpile, Palm, Parameters, Paraphrase,
    Priorart, Protocol, Rewrite, Tulu3, Verdict,
};
pub use scan::Run;
pub use span::Spans;
pub use unit::Bounds;
