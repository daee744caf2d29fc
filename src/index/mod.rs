//! Indexes: a directory of shards under a manifest, published generation by generation.
