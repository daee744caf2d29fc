//! Indexes: a directory of shards under a manifest, published generation by generation.
//!
//! ```text
//! INDEX/
//!   manifest.json            the current generation: settings, shards, removals, every file with its digest
//!   generations/000042.json  every manifest that was published and not pruned
//!   shards/<id>/             immutable shards
//!   removed/<id>/            immutable removals
//!   spaces/<id>/             immutable named spaces: vectors made elsewhere
//!   tmp/                     what a transaction is writing; emptied by the next one after a crash
//!   lock                     locked by the one writer
//! ```

pub mod build;
pub mod deep;
pub mod erasure;
mod generations;
pub mod import;
mod manifest;
mod publish;
pub mod remove;
pub mod rewrite;
mod snapshot;
pub mod spaces;

pub use generations::{Keep, Pruned, Verification};
pub use manifest::{Chunking, CorpusSummary, FileEntry, FormatVersion, Manifest, ManifestSeed, PartEntry};
pub use publish::{IndexDir, TOKEN_CACHE, Transaction};
pub use snapshot::{DocumentRef, Removal, Snapshot};

#[cfg(test)]
mod tests;
