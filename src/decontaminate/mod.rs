//! Decontamination: which documents of a corpus contain which eval items, in one pass over the text.
mod chain;
mod evidence;
mod protocol;
mod scan;
mod unit;

pub use evidence::{ChoiceEvidence, ComponentEvidence, Evidence, Piece, collect};
pub use protocol::*;
pub use scan::{Run, Scan};
pub use unit::Bounds;
