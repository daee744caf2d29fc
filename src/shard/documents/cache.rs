//! Decompressed blocks of documents, kept for the next read: one cache for all open shards of the process.
//!
//! Blocks are spread over stripes by shard and number, each with its own lock and the least recently used block at the front; so
//! threads that read different blocks do not wait for each other, and memory stays below [`BUDGET`] however many shards are open.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Bytes of blocks that are kept.
const BUDGET: usize = 32 << 20;
const STRIPES: usize = 16;

pub(super) type Block = Arc<Vec<u8>>;

/// Blocks of one stripe with the shard and number they are of, and their bytes.
struct Stripe {
    blocks: Vec<(u64, usize, Block)>,
    bytes: usize,
}

/// See the module's documentation.
pub(super) struct Cache {
    stripes: [Mutex<Stripe>; STRIPES],
    hits: AtomicU64,
    misses: AtomicU64,
    shards: AtomicU64,
}

/// The cache of the process.
pub(super) static CACHE: Cache = Cache::new();

/// What the cache of document blocks did since the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheUse {
    /// Reads that found their block.
    pub hits: u64,
    /// Reads that had to decompress one.
    pub misses: u64,
    /// Bytes of blocks kept now.
    pub bytes: u64,
}

/// The use made of the process's cache of document blocks.
pub fn cache_use() -> CacheUse {
    CACHE.used()
}

impl Cache {
    const fn new() -> Cache {
        Cache {
            stripes: [const { Mutex::new(Stripe { blocks: Vec::new(), bytes: 0 }) }; STRIPES],
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            shards: AtomicU64::new(0),
        }
    }

    /// A number for a shard that is opened, unlike any other's.
    pub fn new_shard(&self) -> u64 {
        self.shards.fetch_add(1, Ordering::Relaxed)
    }

    /// The block, if it is kept; it is then the most recently used one.
    pub fn get(&self, shard: u64, number: usize) -> Option<Block> {
        let mut stripe = self.stripe(shard, number);
        let Some(at) = stripe.blocks.iter().position(|(s, n, _)| (*s, *n) == (shard, number)) else {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.hits.fetch_add(1, Ordering::Relaxed);
        stripe.blocks[at..].rotate_left(1);
        stripe.blocks.last().map(|(.., block)| block.clone())
    }

    /// Keeps a block, and lets go of those that were not used for longest.
    pub fn put(&self, shard: u64, number: usize, block: Block) {
        let mut stripe = self.stripe(shard, number);
        if stripe.blocks.iter().any(|(s, n, _)| (*s, *n) == (shard, number)) {
            // Another thread decompressed it meanwhile.
            return;
        }
        stripe.bytes += block.len();
        stripe.blocks.push((shard, number, block));
        let mut over = 0;
        while stripe.bytes > BUDGET / STRIPES && over + 1 < stripe.blocks.len() {
            stripe.bytes -= stripe.blocks[over].2.len();
            over += 1;
        }
        stripe.blocks.drain(..over);
    }

    fn used(&self) -> CacheUse {
        let bytes = (0..STRIPES).map(|i| self.lock(i).bytes as u64).sum();
        CacheUse { hits: self.hits.load(Ordering::Relaxed), misses: self.misses.load(Ordering::Relaxed), bytes }
    }

    /// Neighbouring blocks are in different stripes.
    fn stripe(&self, shard: u64, number: usize) -> std::sync::MutexGuard<'_, Stripe> {
        self.lock((shard.wrapping_mul(7).wrapping_add(number as u64) % STRIPES as u64) as usize)
    }

    fn lock(&self, stripe: usize) -> std::sync::MutexGuard<'_, Stripe> {
        self.stripes[stripe].lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blocks_used_last_stay_and_the_budget_holds() {
        let (cache, block) = (Cache::new(), Arc::new(vec![7u8; 256 << 10]));
        let shard = cache.new_shard();
        let most = BUDGET / block.len();
        for number in 0..3 * most {
            cache.put(shard, number, block.clone());
            // Block 0 is asked for all the time.
            assert!(cache.get(shard, 0).is_some(), "block 0 was let go of after {number}");
        }
        assert_eq!(cache.used(), CacheUse { hits: 3 * most as u64, misses: 0, bytes: BUDGET as u64 });
        assert!(cache.get(shard, 1).is_none() && cache.get(shard, most).is_none());
        assert!(cache.get(cache.new_shard(), 0).is_none(), "another shard's block 0");
        assert_eq!(cache.used().misses, 3);
        cache.put(shard, 0, block);
        assert_eq!(cache.used().bytes, BUDGET as u64, "a block is kept once");
    }
}
