//! Shards: immutable, self-contained parts of an index.

pub mod documents;
