//! Un-attributability: how near the corpus comes to a text, measured against human writing of the same kind.
//!
//! - [`window`]: the token windows of a text, at each length.
//! - [`states`]: token states of candidate chunks, made once.
//! - [`score`]: s(x), the best late-interaction score over the corpus, with exact [`evidence`] beside it.
//! - [`statistics`]: medians, intervals, p-values, false discovery control.
//!
//! *Not attributable* always means: nothing found at these settings in this generation. It says nothing about influence.

pub mod evidence;
pub mod score;
pub mod states;
pub mod statistics;
pub mod window;

pub use evidence::Evidence;
pub use score::{LengthScore, Passage, Score, Scorer, Settings, Text, WindowScore};
