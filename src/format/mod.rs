//! Section files: the container of every binary file of an index.
//!
//! A section file is a 64-byte header, a little-endian payload that starts at byte 64, and a table with one xxh3-64 a
//! 1 MiB block of payload (`header` has the byte layout, `FORMAT.md` the description for other programs). The header
//! holds the checksum of the table and of itself, so the 8 bytes at its end identify the content of the whole file:
//! the manifest records them, and comparing them is O(1).
//!
//! [`SectionWriter`] streams a payload to an [`OutputFile`] and never holds more than one block. [`Section`] maps a
//! finished file: opening checks header, length, table and directory (8 bytes read a MiB of payload); the payload itself
//! is read by [`Section::verify`] only. A payload may be cut into named *subsections*, each aligned to 64 bytes.
//!
//! A file whose writer did not finish has a header of zeros and is refused.

mod header;
mod mapping;
mod memory;
mod section;
mod writer;

pub use header::{
    ALIGNMENT, BLOCK_BYTES, FORMAT_MAJOR, FORMAT_MINOR, HEADER_BYTES, Header, Kind, MAGIC, check_host, format_version,
};
pub use mapping::{Access, Array, map_file};
pub use memory::Pages;
pub use section::{Section, Sub};
pub use writer::{OutputFile, SectionSummary, SectionWriter};

/// xxh3-64 of some bytes: the checksum used everywhere in an index.
pub fn checksum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// A digest as lower-case hexadecimal digits, two a byte: how sha256 sums are written everywhere.
pub fn hex(digest: &[u8]) -> String {
    digest.iter().flat_map(|b| [b >> 4, b & 15]).filter_map(|n| char::from_digit(u32::from(n), 16)).collect()
}

#[cfg(test)]
mod tests;
