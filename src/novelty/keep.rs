//! Token states kept while a corpus is embedded, so that no audit has to encode it again.
//!
//! The encoder's pass that gives a chunk's embedding gives its token states as well. [`StateKeeper`] puts them into the
//! [`TokenCache`] that audits of the index use by default. A chunk that begins or ends inside a word has other tokens alone than in its
//! document, and states are those of its text alone whoever makes them: such chunks are encoded once more, so that no score depends
//! on who filled the cache.
//!
//! Cost: tokenising the corpus a second time, encoding the chunks that were cut inside words a second time (of chunks of 100 tokens, 6 % in
//! books and 14 % in technical documentation), the centroid of every state, and `ResidualCodec::width` bytes a token on disk.

use std::path::PathBuf;

use rand::{Rng, SeedableRng};
use rayon::prelude::*;

use super::score::CacheOptions;
use super::states::{cache_key, encode, training_chunks};
use super::token_cache::TokenCache;
use crate::embed::chunk::ChunkRule;
use crate::embed::colbert::{LateEncoder, PlainLate};
use crate::embed::residual::ResidualCodec;
use crate::embed::{Encoder, TokenStates};
use crate::error::{Error, Result};
use crate::shard::semantic::{KeepStates, chunks_key, cut};
use crate::shard::{Documents, ShardMeta};
use crate::tokenize::Tokenizer;

/// Bytes of text a token has at least, for a guess of their number that only decides how many centroids a small corpus gets.
const BYTES_A_TOKEN: u64 = 4;

/// Keeps the states of one shard after another.
pub struct StateKeeper<'a> {
    encoder: &'a dyn Encoder,
    rule: &'a ChunkRule,
    cache: TokenCache,
    shard: u64,
}

impl<'a> StateKeeper<'a> {
    /// Opens the cache; a new one trains its codec on chunks from all over `shards`.
    ///
    /// # Errors
    /// A cache of another encoder or other settings, or one that another process writes; shards without text.
    pub fn open(
        options: &CacheOptions,
        encoder: &'a dyn Encoder,
        tokenizer: &Tokenizer,
        rule: &'a ChunkRule,
        shards: &[PathBuf],
    ) -> Result<StateKeeper<'a>> {
        let key = cache_key(&PlainLate::new(encoder), options.bits);
        let cache = match TokenCache::open(&options.dir, &key)? {
            Some(cache) => cache,
            None => {
                let codec = train(encoder, tokenizer, rule, options.bits, shards)?;
                TokenCache::create(&options.dir, &key, codec)?
            }
        };
        if cache.is_read_only() {
            return Err(Error::invalid_hint(
                format!("{}: another process writes this token cache", options.dir.display()),
                "wait for it, or build without --token-states: audits then make the states they need",
            ));
        }
        Ok(StateKeeper { encoder, rule, cache, shard: 0 })
    }

    /// What follows are chunks of the shard in this directory.
    pub fn turn_to(&mut self, shard: &std::path::Path) -> Result<()> {
        self.shard = chunks_key(shard, self.encoder.spec(), self.rule)?;
        Ok(())
    }
}

impl KeepStates for StateKeeper<'_> {
    fn keep(&mut self, first: u32, texts: &[String], windows: &[&[u32]], states: &TokenStates) -> Result<()> {
        let late = PlainLate::new(self.encoder);
        let alone: Vec<Vec<u32>> = texts.par_iter().map(|t| Ok(late.tokenize(t)?.ids)).collect::<Result<_>>()?;
        let missing = |i: &usize| !self.cache.contains(self.shard, first + *i as u32);
        let (whole, torn): (Vec<usize>, Vec<usize>) =
            (0..texts.len()).filter(missing).partition(|&i| alone[i] == windows[i]);
        let again = encode(&late, &torn.iter().map(|&i| alone[i].as_slice()).collect::<Vec<_>>())?;
        let codec = &self.cache.codec;
        let mut codes: Vec<(u32, Vec<u8>)> = whole
            .par_iter()
            .map(|&i| (i as u32, codec.encode(states.view(i).data)))
            .chain(torn.par_iter().zip(&again).map(|(&i, states)| (i as u32, codec.encode(states))))
            .collect();
        codes.sort_unstable_by_key(|(i, _)| *i);
        let entries: Vec<(u64, u32, &[u8])> =
            codes.iter().map(|(i, codes)| (self.shard, first + i, codes.as_slice())).collect();
        self.cache.put(&entries)
    }
}

/// A codec trained on chunks of documents drawn from all over the shards.
fn train(
    encoder: &dyn Encoder,
    tokenizer: &Tokenizer,
    rule: &ChunkRule,
    bits: u32,
    shards: &[PathBuf],
) -> Result<ResidualCodec> {
    let opened = shards.iter().map(|dir| Documents::open(dir)).collect::<Result<Vec<_>>>()?;
    let bytes = shards.iter().map(|dir| Ok(ShardMeta::read(dir)?.text_bytes)).sum::<Result<u64>>()?;
    let n = (bytes / BYTES_A_TOKEN) as usize;
    let wanted = training_chunks(n, rule.window);
    let all: Vec<(usize, u32)> =
        opened.iter().enumerate().flat_map(|(s, d)| (0..d.len() as u32).map(move |i| (s, i))).collect();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(42);
    let chosen = rand::seq::index::sample(&mut random, all.len(), wanted.min(all.len()));
    let each = wanted.div_ceil(chosen.len().max(1));
    let mut windows: Vec<Vec<u32>> = Vec::new();
    for (shard, document) in chosen.into_iter().map(|i| all[i]) {
        let (tokens, mut chunks) = cut(tokenizer, encoder, rule, &opened[shard].text(document)?)?;
        for _ in 0..each.min(chunks.len()) {
            let chunk = chunks.swap_remove(random.random_range(0..chunks.len()));
            windows.push(tokens.ids[chunk.tokens].to_vec());
        }
    }
    let states = encode(&PlainLate::new(encoder), &windows.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    if states.is_empty() {
        return Err(Error::invalid("there is no text to keep token states of"));
    }
    ResidualCodec::train(&states.concat(), encoder.spec().dim, bits, n, 42)
}
