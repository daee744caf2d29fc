//! Token states of chunks, made once and kept: what late interaction compares windows with.
//!
//! Overview. A batch of texts asks for (chunk, window) pairs; [`ChunkStates::score`] sorts them by chunk, encodes each chunk that is
//! not in memory once, and hands every pair's per-token strengths to the caller. States are kept as f16 (768 bytes a token
//! at 384 dimensions) up to a budget, oldest out first; a fresh state is rounded the same way, so that a score does not depend on
//! what happened to be in memory.
//!
//! Cost: the encoder's forward pass over the chunks not yet seen; the products themselves are a small part of it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use crate::embed::Encoder;
use crate::embed::late::{PackedQuery, TokenMatrix};
use crate::error::Result;
use crate::index::Snapshot;

/// Chunks encoded together.
const BLOCK: usize = 256;

/// A chunk of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkKey {
    /// Number of the shard in the manifest's order.
    pub shard: u32,
    /// Row in the shard's chunk table.
    pub row: u32,
}

/// Tokens and states of the chunks seen so far.
pub struct ChunkStates<'a> {
    snapshot: &'a Snapshot,
    encoder: &'a dyn Encoder,
    budget: usize,
    used: usize,
    states: HashMap<ChunkKey, Arc<Vec<f16>>>,
    order: VecDeque<ChunkKey>,
    tokens: HashMap<ChunkKey, Arc<Vec<u32>>>,
    /// Chunks that went through the encoder.
    pub encoded: u64,
}

impl<'a> ChunkStates<'a> {
    /// Keeps up to `budget` bytes of states.
    pub fn new(snapshot: &'a Snapshot, encoder: &'a dyn Encoder, budget: usize) -> ChunkStates<'a> {
        ChunkStates {
            snapshot,
            encoder,
            budget,
            used: 0,
            states: HashMap::new(),
            order: VecDeque::new(),
            tokens: HashMap::new(),
            encoded: 0,
        }
    }

    /// Encoder tokens of the chunks, in order.
    pub fn tokens(&mut self, keys: &[ChunkKey]) -> Result<Vec<Arc<Vec<u32>>>> {
        let mut missing: Vec<ChunkKey> = keys.iter().filter(|k| !self.tokens.contains_key(k)).copied().collect();
        missing.sort_unstable();
        missing.dedup();
        let (snapshot, encoder) = (self.snapshot, self.encoder);
        let made: Vec<(ChunkKey, Arc<Vec<u32>>)> = missing
            .par_iter()
            .map(|&key| Ok((key, Arc::new(encoder.tokenize(&chunk_text(snapshot, key)?)?.ids))))
            .collect::<Result<_>>()?;
        // Ids are 4 bytes a token against 768 of states: a quarter of the budget is room for very many.
        if 400 * (self.tokens.len() + made.len()) > self.budget / 4 {
            let asked: std::collections::HashSet<&ChunkKey> = keys.iter().collect();
            self.tokens.retain(|k, _| asked.contains(k));
        }
        self.tokens.extend(made);
        Ok(keys.iter().map(|k| self.tokens.get(k).cloned().unwrap_or_default()).collect())
    }

    /// States of up to [`BLOCK`] chunks, in order.
    fn states(&mut self, keys: &[ChunkKey]) -> Result<Vec<Arc<Vec<f16>>>> {
        let missing: Vec<ChunkKey> = keys.iter().filter(|k| !self.states.contains_key(k)).copied().collect();
        let ids = self.tokens(&missing)?;
        let mut windows: Vec<&[u32]> = Vec::new();
        let mut owner = Vec::new();
        for (i, ids) in ids.iter().enumerate() {
            // A chunk cut out of its document may tokenise a little longer than it was.
            for window in ids.chunks(self.encoder.max_window().max(1)) {
                windows.push(window);
                owner.push(i);
            }
        }
        let all = self.encoder.token_states(&windows)?;
        let mut made: Vec<Vec<f16>> = vec![Vec::new(); missing.len()];
        for (w, &i) in owner.iter().enumerate() {
            let data = all.view(w).data;
            let at = made[i].len();
            made[i].resize(at + data.len(), f16::ZERO);
            made[i][at..].convert_from_f32_slice(data);
        }
        self.encoded += missing.len() as u64;
        let fresh: HashMap<ChunkKey, Arc<Vec<f16>>> =
            missing.iter().copied().zip(made.into_iter().map(Arc::new)).collect();
        let out =
            keys.iter().map(|k| self.states.get(k).or_else(|| fresh.get(k)).cloned().unwrap_or_default()).collect();
        for key in missing {
            let Some(data) = fresh.get(&key) else { continue };
            self.used += 2 * data.len();
            self.states.insert(key, data.clone());
            self.order.push_back(key);
        }
        while self.used > self.budget
            && let Some(old) = self.order.pop_front()
        {
            self.used -= self.states.remove(&old).map_or(0, |s| 2 * s.len());
        }
        Ok(out)
    }

    /// For every (chunk, window) pair, what `of` makes of the strengths of the window's tokens against the chunk (the best inner
    /// product of each). Pairs come back sorted by chunk, then window.
    pub fn score<T: Send>(
        &mut self,
        packed: &[PackedQuery],
        mut pairs: Vec<(ChunkKey, usize)>,
        of: impl Fn(&[f32]) -> T + Sync,
    ) -> Result<Vec<((ChunkKey, usize), T)>> {
        pairs.sort_unstable();
        pairs.dedup();
        let groups: Vec<&[(ChunkKey, usize)]> = pairs.chunk_by(|a, b| a.0 == b.0).collect();
        let dim = self.encoder.spec().dim;
        let mut out = Vec::with_capacity(pairs.len());
        for block in groups.chunks(BLOCK) {
            let keys: Vec<ChunkKey> = block.iter().map(|g| g[0].0).collect();
            let states = self.states(&keys)?;
            let scored: Vec<Vec<((ChunkKey, usize), T)>> = block
                .par_iter()
                .zip(states)
                .map_init(
                    || (Vec::new(), Vec::new()),
                    |(scratch, floats), (group, state)| {
                        floats.clear();
                        floats.resize(state.len(), 0f32);
                        state.convert_to_f32_slice(floats);
                        let candidate = TokenMatrix { dim, data: floats };
                        group.iter().map(|&pair| (pair, of(packed[pair.1].best(candidate, scratch)))).collect()
                    },
                )
                .collect();
            out.extend(scored.into_iter().flatten());
        }
        Ok(out)
    }
}

/// The original text of a chunk.
pub fn chunk_text(snapshot: &Snapshot, key: ChunkKey) -> Result<String> {
    let missing = || crate::Error::invalid(format!("there is no chunk {} in shard {}", key.row, key.shard));
    let shard = snapshot.shards.get(key.shard as usize).ok_or_else(missing)?;
    let chunk = shard.semantic.as_ref().and_then(|s| s.chunk(key.row)).ok_or_else(missing)?;
    Ok(shard.documents.text_range(chunk.document, chunk.start_byte as usize..chunk.end_byte as usize)?.0)
}
