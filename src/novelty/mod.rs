//! Un-attributability: how near the corpus comes to a text, measured against human writing of the same kind.
//!
//! - [`window`]: the token windows of a text, at each length.
//! - [`score`]: settings and s(x), the best late-interaction score over the corpus; [`scorer`] computes it from [`candidates`] of the vector
//!   search and token [`states`], which [`token_cache`] keeps for later runs ([`keep`]: while the corpus is embedded). [`source`] finds the documents a human text comes from.
//! - `language`: whether the encoder knows the language of a text.
//! - [`evidence`] and [`bleu`]: exact and approximate memorisation beside it.
//! - [`calibration`]: a scored human reference population; [`assess`]: r, p-values and groups against it.
//! - [`ledger`]: every token of a text with its best evidence, and the documents that explain it together.
//! - [`probes`]: recall of the search, on passages whose source is known.
//! - [`certify`]: proof that no chunk is nearer than a threshold.
//! - [`statistics`]: medians, intervals, p-values, false discovery control.
//!
//! *Not attributable* always means: nothing found at these settings in this generation. It says nothing about influence.

pub mod assess;
pub mod bleu;
pub mod calibration;
pub mod candidates;
pub mod certify;
pub mod evidence;
pub mod keep;
mod language;
pub mod ledger;
pub mod probes;
pub mod score;
pub mod scorer;
pub mod source;
pub mod states;
pub mod statistics;
pub mod token_cache;
pub mod window;

pub use assess::{Assessed, Group};
pub use calibration::Calibration;
pub use evidence::Evidence;
pub use ledger::{Label, Ledger, LedgerOptions};
pub use probes::Recall;
pub use score::{CacheOptions, LengthScore, Passage, Score, Settings, Text, WindowScore};
pub use scorer::Scorer;
