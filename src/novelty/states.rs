//! Token states of chunks, made once and kept: what late interaction compares windows with.
//!
//! Overview. A batch of texts asks for (chunk, window) pairs; [`ChunkStates::score`] sorts them by chunk, gets each chunk's states
//! from memory, from the [`TokenCache`] or from the encoder, and hands every pair's strengths to the caller. States are kept as
//! the cache's codes, or without a cache as f16, up to a budget, oldest out first; a fresh state is rounded the same way, so that a
//! score does not depend on what happened to be in memory.
//!
//! Cost: the encoder's forward pass over the chunks not yet seen by this cache; else decoding and the products.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::token_cache::{CacheKey, TokenCache};
use crate::embed::colbert::LateEncoder;
use crate::embed::late::{PackedQuery, TokenMatrix};
use crate::embed::residual::{MAX_CENTROIDS, ResidualCodec, centroids_for};
use crate::error::{Error, Result};
use crate::format::checksum;
use crate::index::Snapshot;
use crate::shard::semantic::chunks_key;

/// Chunks encoded together.
const BLOCK: usize = 256;
/// States a centroid is trained on.
const SAMPLE: usize = 16;

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
    late: &'a dyn LateEncoder,
    budget: usize,
    used: usize,
    cache: Option<TokenCache>,
    /// What the cache calls each shard: [`chunks_key`].
    shards: Vec<u64>,
    states: HashMap<ChunkKey, Arc<Vec<u8>>>,
    order: VecDeque<ChunkKey>,
    tokens: HashMap<ChunkKey, Box<[u32]>>,
    /// Chunks that went through the encoder.
    pub encoded: u64,
}

impl<'a> ChunkStates<'a> {
    /// Keeps up to `budget` bytes of states in memory.
    pub fn new(snapshot: &'a Snapshot, late: &'a dyn LateEncoder, budget: usize) -> ChunkStates<'a> {
        ChunkStates {
            snapshot,
            late,
            budget,
            used: 0,
            cache: None,
            shards: Vec::new(),
            states: HashMap::new(),
            order: VecDeque::new(),
            tokens: HashMap::new(),
            encoded: 0,
        }
    }

    /// Keeps states in the cache in `dir` as well, with `bits` bits a dimension. A new cache trains its codec on a sample of states
    /// (sixteen a centroid), drawn from all chunks but those of removed documents.
    pub fn attach(&mut self, dir: &Path, bits: u32) -> Result<()> {
        let key = cache_key(self.late, bits);
        self.shards = self
            .snapshot
            .shards
            .iter()
            .map(|shard| match shard.semantic.as_ref().and_then(|s| s.meta.as_ref()) {
                Some(meta) => chunks_key(&shard.dir, &meta.encoder, &meta.chunking),
                None => Ok(0),
            })
            .collect::<Result<_>>()?;
        self.cache = match TokenCache::open(dir, &key)? {
            Some(cache) => Some(cache),
            None => Some(TokenCache::create(dir, &key, self.train(bits)?)?),
        };
        self.states.clear();
        self.order.clear();
        self.used = 0;
        Ok(())
    }

    fn train(&mut self, bits: u32) -> Result<ResidualCodec> {
        let each = self.snapshot.manifest.chunking.as_ref().map_or(100, |c| c.tokens as usize);
        let n = self.snapshot.chunks() as usize * each;
        let chosen: Vec<ChunkKey> = self
            .snapshot
            .sample_chunks(training_chunks(n, each), 42)
            .into_iter()
            .map(|(shard, row)| ChunkKey { shard, row })
            .collect();
        let mut sample = Vec::new();
        for keys in chosen.chunks(BLOCK) {
            for states in self.encode(keys)? {
                sample.extend(states);
            }
        }
        if sample.is_empty() {
            return Err(Error::invalid("the index has no chunks to train a token cache on"));
        }
        ResidualCodec::train(&sample, self.late.spec().dim, bits, n, 42)
    }

    /// How states are kept; decides scores in their last digits.
    pub fn describe(&self) -> String {
        self.cache.as_ref().map_or_else(
            || "f16".into(),
            |c| {
                let codec = &c.codec;
                let hash = checksum(&codec.to_bytes());
                format!("residual, {} bits, {} centroids, codec {hash:016x}", codec.bits(), codec.centroids())
            },
        )
    }

    /// Makes the tokens of these chunks ready for [`tokens`](Self::tokens).
    pub fn load_tokens(&mut self, keys: &[ChunkKey]) -> Result<()> {
        let missing: Vec<ChunkKey> = keys.iter().filter(|k| !self.tokens.contains_key(k)).copied().collect();
        let (snapshot, late) = (self.snapshot, self.late);
        let made: Vec<(ChunkKey, Box<[u32]>)> = missing
            .par_iter()
            .map(|&key| {
                let mut ids = late.tokenize(&chunk_text(snapshot, key)?)?.ids;
                ids.sort_unstable();
                ids.dedup();
                Ok((key, ids.into_boxed_slice()))
            })
            .collect::<Result<_>>()?;
        // Ids are 4 bytes a token against hundreds of states: a quarter of the budget is room for very many.
        if 400 * (self.tokens.len() + made.len()) > self.budget / 4 {
            let asked: std::collections::HashSet<&ChunkKey> = keys.iter().collect();
            self.tokens.retain(|k, _| asked.contains(k));
        }
        self.tokens.extend(made);
        Ok(())
    }

    /// Distinct tokens of a chunk in ascending order, if they were loaded.
    pub fn tokens(&self, key: ChunkKey) -> &[u32] {
        self.tokens.get(&key).map_or(&[], |t| t)
    }

    /// States of chunks by the encoder, one vector a chunk.
    fn encode(&mut self, keys: &[ChunkKey]) -> Result<Vec<Vec<f32>>> {
        let (snapshot, late) = (self.snapshot, self.late);
        let texts: Vec<String> = keys.par_iter().map(|&key| chunk_text(snapshot, key)).collect::<Result<_>>()?;
        let ids: Vec<Vec<u32>> = texts.par_iter().map(|text| Ok(late.tokenize(text)?.ids)).collect::<Result<_>>()?;
        let made = encode(late, &ids.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        self.encoded += keys.len() as u64;
        Ok(made)
    }

    fn pack(&self, states: &[f32]) -> Vec<u8> {
        match &self.cache {
            Some(cache) => cache.codec.encode(states),
            None => {
                let mut half = vec![f16::ZERO; states.len()];
                half.convert_from_f32_slice(states);
                half.iter().flat_map(|h| h.to_le_bytes()).collect()
            }
        }
    }

    fn unpack(&self, codes: &[u8], out: &mut Vec<f32>) {
        out.clear();
        match &self.cache {
            Some(cache) => cache.codec.decode(codes, out),
            None => {
                let half: Vec<f16> = codes.as_chunks::<2>().0.iter().map(|&b| f16::from_le_bytes(b)).collect();
                out.resize(half.len(), 0.0);
                half.convert_to_f32_slice(out);
            }
        }
    }

    /// Codes of up to [`BLOCK`] chunks, in order.
    fn codes(&mut self, keys: &[ChunkKey]) -> Result<Vec<Arc<Vec<u8>>>> {
        let missing: Vec<ChunkKey> = keys.iter().filter(|k| !self.states.contains_key(k)).copied().collect();
        let mut fresh: HashMap<ChunkKey, Arc<Vec<u8>>> = HashMap::new();
        if let Some(cache) = &self.cache {
            let shards = &self.shards;
            let read: Vec<_> = missing
                .par_iter()
                .filter_map(|k| Some((*k, Arc::new(cache.get(shards[k.shard as usize], k.row)?))))
                .collect();
            fresh.extend(read);
        }
        let unknown: Vec<ChunkKey> = missing.iter().filter(|k| !fresh.contains_key(k)).copied().collect();
        if !unknown.is_empty() {
            let states = self.encode(&unknown)?;
            let packed: Vec<Arc<Vec<u8>>> = states.par_iter().map(|s| Arc::new(self.pack(s))).collect();
            if let Some(cache) = &mut self.cache {
                let entries: Vec<(u64, u32, &[u8])> = unknown
                    .iter()
                    .zip(&packed)
                    .map(|(k, codes)| (self.shards[k.shard as usize], k.row, codes.as_slice()))
                    .collect();
                cache.put(&entries)?;
            }
            fresh.extend(unknown.into_iter().zip(packed));
        }
        let out =
            keys.iter().map(|k| self.states.get(k).or_else(|| fresh.get(k)).cloned().unwrap_or_default()).collect();
        for key in missing {
            let Some(data) = fresh.remove(&key) else { continue };
            self.used += data.len();
            self.states.insert(key, data);
            self.order.push_back(key);
        }
        while self.used > self.budget
            && let Some(old) = self.order.pop_front()
        {
            self.used -= self.states.remove(&old).map_or(0, |s| s.len());
        }
        Ok(out)
    }

    /// For every (chunk, window) pair, what `of` makes of the window and the chunk's states. Pairs come back sorted by chunk, then
    /// window.
    pub fn score<T: Send>(
        &mut self,
        packed: &[PackedQuery],
        mut pairs: Vec<(ChunkKey, usize)>,
        of: impl Fn(&PackedQuery, TokenMatrix<'_>, &mut Vec<f32>) -> T + Sync,
    ) -> Result<Vec<((ChunkKey, usize), T)>> {
        pairs.par_sort_unstable();
        pairs.dedup();
        let groups: Vec<&[(ChunkKey, usize)]> = pairs.chunk_by(|a, b| a.0 == b.0).collect();
        let dim = self.late.spec().dim;
        let mut out = Vec::with_capacity(pairs.len());
        for block in groups.chunks(BLOCK) {
            let keys: Vec<ChunkKey> = block.iter().map(|g| g[0].0).collect();
            let codes = self.codes(&keys)?;
            let this = &*self;
            let scored: Vec<Vec<((ChunkKey, usize), T)>> = block
                .par_iter()
                .zip(codes)
                .map_init(
                    || (Vec::new(), Vec::new()),
                    |(scratch, floats), (group, codes)| {
                        this.unpack(&codes, floats);
                        let candidate = TokenMatrix { dim, data: floats };
                        group.iter().map(|&pair| (pair, of(&packed[pair.1], candidate, scratch))).collect()
                    },
                )
                .collect();
            out.extend(scored.into_iter().flatten());
        }
        Ok(out)
    }
}

/// What decides the states in a cache of this encoder's.
pub(super) fn cache_key(late: &dyn LateEncoder, bits: u32) -> CacheKey {
    let mut documents = late.settings(&late.query_rule(0, false));
    if let Some(settings) = documents.as_object_mut() {
        for of_queries in ["query_maxlen", "count_masks", "encoder"] {
            settings.remove(of_queries);
        }
    }
    CacheKey { encoder_sha256: late.spec().sha256.clone(), documents, bits }
}

/// Chunks of `each` tokens that a codec for `n` states is trained on.
pub(super) fn training_chunks(n: usize, each: usize) -> usize {
    (SAMPLE * centroids_for(n).min(MAX_CENTROIDS)).div_ceil(each.max(1))
}

/// States of chunks, given as the late encoder's tokens of their text alone.
pub(super) fn encode(late: &dyn LateEncoder, chunks: &[&[u32]]) -> Result<Vec<Vec<f32>>> {
    let mut windows: Vec<&[u32]> = Vec::new();
    let mut owner = Vec::new();
    for (i, ids) in chunks.iter().enumerate() {
        // A chunk cut out of its document may tokenise a little longer than it was.
        for window in ids.chunks(late.document_window().max(1)) {
            windows.push(window);
            owner.push(i);
        }
    }
    let all = late.documents(&windows)?.states;
    let mut made: Vec<Vec<f32>> = vec![Vec::new(); chunks.len()];
    for (w, &i) in owner.iter().enumerate() {
        made[i].extend_from_slice(all.view(w).data);
    }
    Ok(made)
}

/// The original text of a chunk.
pub fn chunk_text(snapshot: &Snapshot, key: ChunkKey) -> Result<String> {
    let missing = || Error::invalid(format!("there is no chunk {} in shard {}", key.row, key.shard));
    let shard = snapshot.shards.get(key.shard as usize).ok_or_else(missing)?;
    let chunk = shard.semantic.as_ref().and_then(|s| s.chunk(key.row)).ok_or_else(missing)?;
    Ok(shard.documents.text_range(chunk.document, chunk.start_byte as usize..chunk.end_byte as usize)?.0)
}
