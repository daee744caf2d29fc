//! The journal of an embedding that is under way: `embedding.journal`, beside the shard's files until they are complete.
//!
//! Header: magic `PRIOREMB`, dimension (u32), four zero bytes, key (u64: a hash of what decides the vectors). Then one
//! frame a batch: rows (u32), four zero bytes, xxh3-64 of the values, the values (f32). A frame is synced before the next
//! batch is encoded, so a crash loses at most the batch it interrupts; [`Journal::open`] keeps the whole frames and cuts
//! off the rest.
//!
//! While the journal exists, the shard counts as not embedded, whatever else is there.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::format::checksum;

/// Name of the file.
pub const JOURNAL: &str = "embedding.journal";

const MAGIC: &[u8; 8] = b"PRIOREMB";
const HEADER: usize = 24;
const FRAME: usize = 16;
/// Rows of a frame that is believed: more can only be damage.
const MAX_ROWS: u32 = 1 << 20;

/// An opened journal, at its end.
pub struct Journal {
    path: PathBuf,
    file: File,
    dim: usize,
    rows: u64,
}

impl Journal {
    /// Opens or starts the journal of `dir`. One of another dimension or key is started again.
    pub fn open(dir: &Path, dim: usize, key: u64) -> Result<Journal> {
        let path = dir.join(JOURNAL);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(Error::io(&path, "open"))?;
        let mut header = [0u8; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&(dim as u32).to_le_bytes());
        header[16..].copy_from_slice(&key.to_le_bytes());
        let mut found = [0u8; HEADER];
        let same = file.read_exact(&mut found).is_ok() && found == header;
        let mut journal = Journal { path, file, dim, rows: 0 };
        let mut end = HEADER as u64;
        if same {
            let mut rows = 0;
            end += journal.frames(|values| {
                rows += (values.len() / dim.max(1)) as u64;
                Ok(())
            })?;
            journal.rows = rows;
        }
        let path = &journal.path;
        journal.file.set_len(if same { end } else { 0 }).map_err(Error::io(path, "truncate"))?;
        journal.file.seek(SeekFrom::Start(if same { end } else { 0 })).map_err(Error::io(path, "write"))?;
        if !same {
            journal.file.write_all(&header).map_err(Error::io(path, "write"))?;
        }
        Ok(journal)
    }

    /// Rows in it.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Appends a batch and makes it durable.
    pub fn append(&mut self, values: &[f32]) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let rows = values.len() / self.dim.max(1);
        let mut frame = Vec::with_capacity(FRAME + bytes.len());
        frame.extend_from_slice(&(rows as u32).to_le_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(&checksum(bytes).to_le_bytes());
        frame.extend_from_slice(bytes);
        self.file.write_all(&frame).map_err(Error::io(&self.path, "write"))?;
        self.file.sync_data().map_err(Error::io(&self.path, "sync"))?;
        self.rows += rows as u64;
        Ok(())
    }

    /// Gives the values of each whole frame, in order; the bytes of these frames.
    pub fn frames(&mut self, mut each: impl FnMut(&[f32]) -> Result<()>) -> Result<u64> {
        self.file.seek(SeekFrom::Start(HEADER as u64)).map_err(Error::io(&self.path, "read"))?;
        let mut reader = BufReader::with_capacity(1 << 20, &mut self.file);
        let (mut head, mut total) = ([0u8; FRAME], 0);
        let mut values: Vec<f32> = Vec::new();
        while reader.read_exact(&mut head).is_ok() {
            let rows = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
            if rows == 0 || rows > MAX_ROWS {
                break;
            }
            values.resize(rows as usize * self.dim, 0.0);
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
            let mut hash = [0u8; 8];
            hash.copy_from_slice(&head[8..]);
            if reader.read_exact(bytes).is_err() || checksum(bytes) != u64::from_le_bytes(hash) {
                break;
            }
            total += (FRAME + values.len() * 4) as u64;
            each(&values)?;
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(journal: &mut Journal) -> Vec<f32> {
        let mut values = Vec::new();
        journal
            .frames(|v| {
                values.extend_from_slice(v);
                Ok(())
            })
            .unwrap();
        values
    }

    #[test]
    fn whole_batches_survive_a_cut_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(JOURNAL);
        let mut journal = Journal::open(dir.path(), 2, 7).unwrap();
        journal.append(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        journal.append(&[5.0, 6.0]).unwrap();
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len(), 24 + 16 + 16 + 16 + 8);
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let mut journal = Journal::open(dir.path(), 2, 7).unwrap();
            let expected = if length == whole.len() {
                3
            } else if length >= 56 {
                2
            } else {
                0
            };
            assert_eq!(journal.rows(), expected, "{length} bytes");
            journal.append(&[9.0, 9.5]).unwrap();
            let values = all(&mut journal);
            assert_eq!(values.len() as u64, 2 * (expected + 1));
            assert_eq!(values[values.len() - 2..], [9.0, 9.5]);
        }
        for at in 24..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            // Nothing reads the zeros between rows and hash.
            if !(28..32).contains(&at) && !(60..64).contains(&at) {
                std::fs::write(&path, &bytes).unwrap();
                assert!(Journal::open(dir.path(), 2, 7).unwrap().rows() < 3, "byte {at}");
            }
        }
    }

    #[test]
    fn other_settings_start_again() {
        let dir = tempfile::tempdir().unwrap();
        for (dim, key, rows) in [(2, 7, 0), (2, 7, 1), (2, 8, 0), (4, 8, 0)] {
            let mut journal = Journal::open(dir.path(), dim, key).unwrap();
            assert_eq!(journal.rows(), rows);
            journal.append(&vec![1.0; dim]).unwrap();
        }
    }
}
