//! Reference sets: the eval items to protect, and the compiled index that a corpus is streamed past.
//!
//! [`read()`] turns benchmark files into a [`ReferenceSet`] of [`EvalItem`]s with components;
//! [`ReferenceIndex::build`] compiles it; [`ReferenceIndex::save`] and [`ReferenceIndex::open`] keep it in a file.
//!
//! Useful for: many items against a stream of documents, in memory that depends on the reference alone. Not useful for:
//! searching a corpus; that is what shards are for.
//!
//! ```
//! use priorart::reference::{EvalItem, ReferenceIndex, ReferenceSet};
//! let item = EvalItem { origins: vec![Default::default()], question: Some("Who wrote it?".into()), ..Default::default() };
//! let index = ReferenceIndex::build(&ReferenceSet { items: vec![item], rows: 1 })?;
//! assert_eq!(index.component(0).text, "Who wrote it?");
//! # Ok::<(), priorart::Error>(())
//! ```

pub(crate) mod ascii;
mod compile;
mod file;
mod index;
mod item;
mod mapping;
mod read;
mod source;
pub(crate) mod weight;
pub mod words;

pub use index::{Component, ItemMeta, NUMBER, Posting, ReferenceIndex, SEED, SHORT_START, folded, seed_hash};
pub use item::{ComponentKind, EvalItem, Origin, ReferenceSet};
pub use mapping::{Mapping, Row};
pub use read::{from_rows, read};
pub use source::{is_compiled, open_or_build};
