//! Un-attributability: how near the corpus comes to a text, measured against human writing of the same kind.
//!
//! - [`window`]: the token windows of a text, at each length.
//! - [`states`]: token states of candidate chunks, made once.
//! - [`score`]: s(x), the best late-interaction score over the corpus, with exact [`evidence`] beside it.
//! - [`calibration`]: a scored human reference population; [`assess`]: r, p-values and groups against it.
//! - [`probes`]: recall of the search, on passages whose source is known.
//! - [`statistics`]: medians, intervals, p-values, false discovery control.
//!
//! *Not attributable* always means: nothing found at these settings in this generation. It says nothing about influence.

pub mod assess;
pub mod calibration;
pub mod evidence;
pub mod probes;
pub mod score;
pub mod states;
pub mod statistics;
pub mod window;

pub use assess::{Assessed, Group};
pub use calibration::Calibration;
pub use evidence::Evidence;
pub use probes::Recall;
pub use score::{LengthScore, Passage, Score, Scorer, Settings, Text, WindowScore};
