//! The 64-byte header of a section file: encode, decode and check.
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | magic `PRIORART` |
//! | 8..16 | kind: ASCII, padded with zeros |
//! | 16..18, 18..20 | format major, minor (u16) |
//! | 20 | element width in bytes (1, 2, 4 or 8; 0: mixed) |
//! | 21 | byte order: 1 = little-endian, the only one |
//! | 22..24 | flags (u16): bit 0 = the payload ends with a directory of subsections |
//! | 24..28 | bytes a checksum block (u32): 1,048,576 |
//! | 28..32 | zero |
//! | 32..40 | payload length in bytes (u64) |
//! | 40..48 | xxh3-64 of the checksum table (u64) |
//! | 48..56 | offset of the directory in the payload (u64; 0 without one) |
//! | 56..64 | xxh3-64 of bytes 0..56 (u64): the *digest* of the file |

use std::path::Path;

use super::checksum;
use crate::error::{Error, Result};

/// First bytes of every section file.
pub const MAGIC: [u8; 8] = *b"PRIORART";
/// Length of the header, and the offset of the payload.
pub const HEADER_BYTES: usize = 64;
/// Payload bytes a checksum covers.
pub const BLOCK_BYTES: usize = 1 << 20;
/// Subsections start at multiples of this.
pub const ALIGNMENT: usize = 64;
/// Version of the format that is written; a file of a newer major version is refused.
pub const FORMAT_MAJOR: u16 = 1;
/// Minor version: raised by additions that older programs may ignore.
pub const FORMAT_MINOR: u16 = 1;

const LITTLE_ENDIAN: u8 = 1;
const FLAG_DIRECTORY: u16 = 1;

/// `major.minor` of the format this program writes.
pub fn format_version() -> String {
    format!("{FORMAT_MAJOR}.{FORMAT_MINOR}")
}

/// Refuses to run on a big-endian machine, where mapped payloads would be read wrongly.
pub fn check_host() -> Result<()> {
    if cfg!(target_endian = "big") {
        return Err(Error::invalid("index files are little-endian and this machine is big-endian"));
    }
    Ok(())
}

/// What a section file holds: up to 8 ASCII characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind([u8; 8]);

impl Kind {
    /// Token stream of a shard.
    pub const TOKENS: Kind = Kind::new("tokens");
    /// Term dictionary of an open-vocabulary shard.
    pub const TERMS: Kind = Kind::new("terms");
    /// Suffix array.
    pub const SUFFIX: Kind = Kind::new("suffix");
    /// Resident top level of a suffix array.
    pub const TOP: Kind = Kind::new("top");
    /// What the first suffixes of blocks share, for those that the top level cannot tell apart.
    pub const RUNS: Kind = Kind::new("runs");
    /// Compact index of a token stream.
    pub const COMPACT: Kind = Kind::new("compact");
    /// Compressed documents.
    pub const DOCUMENTS: Kind = Kind::new("docs");
    /// Directory of the documents.
    pub const DOCUMENT_INDEX: Kind = Kind::new("docs.idx");
    /// Chunk table.
    pub const CHUNKS: Kind = Kind::new("chunks");
    /// Embeddings.
    pub const VECTORS: Kind = Kind::new("vectors");
    /// Vector index.
    pub const ANN: Kind = Kind::new("ann");
    /// Bitmap of removed documents.
    pub const REMOVED: Kind = Kind::new("removed");

    /// A kind by name; only the first 8 bytes of the name count.
    pub const fn new(name: &str) -> Kind {
        let name = name.as_bytes();
        let mut bytes = [0; 8];
        let mut i = 0;
        while i < name.len() && i < 8 {
            bytes[i] = name[i];
            i += 1;
        }
        Kind(bytes)
    }

    /// The name, with bytes that are not printable ASCII escaped.
    pub fn name(&self) -> String {
        let end = self.0.iter().position(|&b| b == 0).unwrap_or(8);
        self.0[..end].escape_ascii().to_string()
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kind({})", self.name())
    }
}

/// A decoded header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub major: u16,
    pub minor: u16,
    /// Bytes an element (1, 2, 4, 8), or 0 for a payload of mixed content.
    pub width: u8,
    /// Bytes of payload.
    pub payload: u64,
    /// xxh3-64 of the checksum table.
    pub table: u64,
    /// Where in the payload the directory of subsections starts.
    pub directory: Option<u64>,
}

impl Header {
    /// A header of the current format version.
    pub fn new(kind: Kind, width: u8, payload: u64, table: u64, directory: Option<u64>) -> Header {
        Header { kind, major: FORMAT_MAJOR, minor: FORMAT_MINOR, width, payload, table, directory }
    }

    /// The 64 bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.kind.0);
        out[16..18].copy_from_slice(&self.major.to_le_bytes());
        out[18..20].copy_from_slice(&self.minor.to_le_bytes());
        out[20] = self.width;
        out[21] = LITTLE_ENDIAN;
        let flags = if self.directory.is_some() { FLAG_DIRECTORY } else { 0 };
        out[22..24].copy_from_slice(&flags.to_le_bytes());
        out[24..28].copy_from_slice(&(BLOCK_BYTES as u32).to_le_bytes());
        out[32..40].copy_from_slice(&self.payload.to_le_bytes());
        out[40..48].copy_from_slice(&self.table.to_le_bytes());
        out[48..56].copy_from_slice(&self.directory.unwrap_or(0).to_le_bytes());
        let digest = checksum(&out[..56]);
        out[56..64].copy_from_slice(&digest.to_le_bytes());
        out
    }

    /// Checksum of the header, which covers the checksum table and so the whole file.
    pub fn digest(&self) -> u64 {
        le_u64(&self.encode(), 56)
    }

    /// Decodes and checks the first 64 bytes of `path`.
    pub fn decode(bytes: &[u8], path: &Path) -> Result<Header> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(Error::corrupt(path, 0, format!("{} bytes are too few for a header", bytes.len())));
        };
        if bytes[0..8] != MAGIC {
            let what = if bytes.iter().all(|&b| b == 0) {
                "the file was never finished by its writer"
            } else {
                "not a priorart file (wrong magic)"
            };
            return Err(Error::corrupt(path, 0, what));
        }
        let major = u16::from_le_bytes([bytes[16], bytes[17]]);
        let minor = u16::from_le_bytes([bytes[18], bytes[19]]);
        let found = le_u64(bytes, 56);
        let expected = checksum(&bytes[..56]);
        // The version is judged only once the header is known to be undamaged: magic, version and digest keep their
        // places in every version.
        if found != expected {
            let what = format!("header checksum is {found:016x}, its bytes give {expected:016x}");
            return Err(Error::corrupt(path, 56, what));
        }
        if major > FORMAT_MAJOR {
            let (found, supported) = (format!("{major}.{minor}"), format_version());
            return Err(Error::NewerFormat { path: path.to_path_buf(), found, supported });
        }
        if bytes[21] != LITTLE_ENDIAN {
            return Err(Error::corrupt(path, 21, format!("unknown byte order {}", bytes[21])));
        }
        let width = bytes[20];
        if !matches!(width, 0 | 1 | 2 | 4 | 8) {
            return Err(Error::corrupt(path, 20, format!("element width {width} is not 0, 1, 2, 4 or 8")));
        }
        let block = u32::from_le_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]);
        if block as usize != BLOCK_BYTES {
            return Err(Error::corrupt(path, 24, format!("checksum blocks of {block} bytes, not {BLOCK_BYTES}")));
        }
        let flags = u16::from_le_bytes([bytes[22], bytes[23]]);
        let payload = le_u64(bytes, 32);
        let offset = le_u64(bytes, 48);
        let directory = (flags & FLAG_DIRECTORY != 0).then_some(offset);
        if directory.is_some_and(|d| d > payload) {
            return Err(Error::corrupt(path, 48, format!("directory at {offset} of a payload of {payload} bytes")));
        }
        let mut kind = [0; 8];
        kind.copy_from_slice(&bytes[8..16]);
        Ok(Header { kind: Kind(kind), major, minor, width, payload, table: le_u64(bytes, 40), directory })
    }

    /// Number of checksums in the table.
    pub fn blocks(&self) -> u64 {
        self.payload.div_ceil(BLOCK_BYTES as u64)
    }

    /// Offset of the checksum table in the file: the end of the payload, rounded up to 8 bytes.
    pub fn table_offset(&self) -> Option<u64> {
        self.payload.checked_add(HEADER_BYTES as u64)?.checked_next_multiple_of(8)
    }

    /// Length of the whole file.
    pub fn file_bytes(&self) -> Option<u64> {
        self.table_offset()?.checked_add(self.blocks().checked_mul(8)?)
    }
}

/// The little-endian u64 at `at`; `bytes` must reach that far.
pub(super) fn le_u64(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let header = Header::new(Kind::SUFFIX, 4, 12_345, 77, Some(4096));
        assert_eq!(Header::decode(&header.encode(), Path::new("x")).unwrap(), header);
        assert_eq!(header.kind.name(), "suffix");
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let good = Header::new(Kind::TOKENS, 2, 999, 5, None).encode();
        for bit in 0..512 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bad, Path::new("x")).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn newer_major_is_refused_and_newer_minor_read() {
        let mut header = Header::new(Kind::TOKENS, 2, 999, 5, None);
        header.minor = FORMAT_MINOR + 9;
        assert!(Header::decode(&header.encode(), Path::new("x")).is_ok());
        header.major = FORMAT_MAJOR + 1;
        assert!(matches!(Header::decode(&header.encode(), Path::new("x")), Err(Error::NewerFormat { .. })));
    }
}
