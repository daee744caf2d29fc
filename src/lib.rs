//! # priorart
//!
//! Training-data attribution and contamination search: *where did this text come from, and if from nowhere, how sure are
//! we?* See `ARCHITECTURE.md` for the path of the data and `FORMAT.md` for the bytes on disk.
//!
//! Modules, from low to high; each imports only from those before it.
#![deny(unsafe_code)]

pub mod error;

pub mod format;

pub mod store;

pub mod catalog;

pub mod corpus;

pub mod tokenize;

pub mod suffix;

pub mod embed;

pub mod ann;

pub mod shard;

pub mod index;

pub mod query;

pub mod reference;

pub mod decontaminate;

pub mod novelty;

pub mod report;

pub mod server;

pub mod cli;

pub use error::{Error, Result};
