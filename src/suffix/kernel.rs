//! The three inner loops of a search, for the instruction set at hand.
//!
//! A search reads nodes of sixteen keys and blocks of sixty-four branch bytes. Both are small enough to be compared whole, so that a
//! step costs a few vector instructions and no mispredicted branch. [`Kernel`] has the loops; [`dispatch`] runs a [`Task`] with
//! the best kernel of the processor, compiled with its instructions throughout, and is called once a query or once a batch.
//!
//! The portable kernel is the definition; the others are property-tested against it.
#![allow(unsafe_code)]

use super::bits::{self, Prefix};
use super::layout::{BLOCK, FANOUT, NODE};

/// The inner loops. Every function may be called only where the kernel's instructions exist; [`dispatch`] sees to that.
pub(super) trait Kernel {
    /// Number of `keys` (little-endian, ascending) less than `low`, and number of them at most `high`.
    fn keys_below(keys: &[u8; NODE], low: u64, high: u64) -> (usize, usize);
    /// The slots whose branch byte is below `limit`, as a bit set.
    fn below(branches: &[u8; BLOCK], limit: u32) -> u64;
    /// The slots at whose branch bit `query` has a one, as a bit set.
    fn ones(branches: &[u8; BLOCK], query: &Prefix) -> u64;
}

/// Something to be computed with a kernel. Implementations are `#[inline(always)]` all the way down to the kernel.
pub(super) trait Task {
    type Output;
    fn run<K: Kernel>(self) -> Self::Output;
}

/// Which kernel the processor can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The best kernel of this processor.
    pub fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt");
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vbmi")
            {
                return Isa::Avx512;
            }
            if avx2 {
                return Isa::Avx2;
            }
        }
        Isa::Portable
    }
}

/// Runs `task` with the kernel `isa`, which must come from [`Isa::detect`] (or be one it would rank lower).
#[inline(always)]
pub(super) fn dispatch<T: Task>(isa: Isa, task: T) -> T::Output {
    match isa {
        Isa::Portable => task.run::<Portable>(),
        // SAFETY: `Isa::detect` found every feature that the function enables.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::with_avx2(task) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::with_avx512(task) },
    }
}

/// The definition of each loop, in plain Rust.
pub(super) struct Portable;

impl Kernel for Portable {
    #[inline(always)]
    fn keys_below(keys: &[u8; NODE], low: u64, high: u64) -> (usize, usize) {
        let mut counts = (0, 0);
        for key in keys.chunks_exact(8) {
            let key = u64::from_le_bytes(key.try_into().expect("8 bytes"));
            counts.0 += (key < low) as usize;
            counts.1 += (key <= high) as usize;
        }
        counts
    }

    #[inline(always)]
    fn below(branches: &[u8; BLOCK], limit: u32) -> u64 {
        let mut mask = 0u64;
        for (i, &b) in branches.iter().enumerate() {
            mask |= (((b as u32) < limit) as u64) << i;
        }
        mask
    }

    #[inline(always)]
    fn ones(branches: &[u8; BLOCK], query: &Prefix) -> u64 {
        let mut mask = 0u64;
        for (i, &b) in branches.iter().enumerate() {
            mask |= (bits::bit(query, b) as u64) << i;
        }
        mask
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, FANOUT, Kernel, NODE, Prefix, Task};

    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    pub fn with_avx2<T: Task>(task: T) -> T::Output {
        task.run::<Avx2>()
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512vbmi")]
    pub fn with_avx512<T: Task>(task: T) -> T::Output {
        task.run::<Avx512>()
    }

    /// The bytes of a prefix, so that bit `i` is bit `7 - i % 8` of byte `i / 8`.
    #[inline(always)]
    fn bytes(query: &Prefix) -> [u8; 32] {
        let mut out = [0; 32];
        for (to, word) in out.chunks_exact_mut(8).zip(query) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        out
    }

    /// `128 >> i` for the low three bits of `i` = 0..16.
    const BITS: [u8; 16] = [128, 64, 32, 16, 8, 4, 2, 1, 128, 64, 32, 16, 8, 4, 2, 1];

    pub struct Avx2;

    impl Kernel for Avx2 {
        #[inline(always)]
        fn keys_below(keys: &[u8; NODE], low: u64, high: u64) -> (usize, usize) {
            // SAFETY: loads stay inside `keys`; the instructions exist where this kernel runs.
            unsafe {
                // Signed compares order unsigned numbers once their highest bit is flipped.
                let sign = _mm256_set1_epi64x(i64::MIN);
                let l = _mm256_xor_si256(_mm256_set1_epi64x(low as i64), sign);
                let h = _mm256_xor_si256(_mm256_set1_epi64x(high as i64), sign);
                let (mut less, mut above) = (0u32, 0u32);
                for i in 0..4 {
                    let k = _mm256_xor_si256(_mm256_loadu_si256(keys.as_ptr().add(32 * i).cast()), sign);
                    less |= (_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(l, k))) as u32) << (4 * i);
                    above |= (_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(k, h))) as u32) << (4 * i);
                }
                (less.count_ones() as usize, FANOUT - above.count_ones() as usize)
            }
        }

        #[inline(always)]
        fn below(branches: &[u8; BLOCK], limit: u32) -> u64 {
            let Some(most) = limit.checked_sub(1) else { return 0 };
            // SAFETY: as above.
            unsafe {
                let most = _mm256_set1_epi8(most.min(255) as u8 as i8);
                let mut mask = 0u64;
                for i in 0..2 {
                    let v = _mm256_loadu_si256(branches.as_ptr().add(32 * i).cast());
                    let found = _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(v, most), v)) as u32;
                    mask |= (found as u64) << (32 * i);
                }
                mask
            }
        }

        #[inline(always)]
        fn ones(branches: &[u8; BLOCK], query: &Prefix) -> u64 {
            let table = bytes(query);
            // SAFETY: as above.
            unsafe {
                let first = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
                let second = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().add(16).cast()));
                let bits = _mm256_broadcastsi128_si256(_mm_loadu_si128(BITS.as_ptr().cast()));
                let mut mask = 0u64;
                for i in 0..2 {
                    let v = _mm256_loadu_si256(branches.as_ptr().add(32 * i).cast());
                    let byte = _mm256_and_si256(_mm256_srli_epi16::<3>(v), _mm256_set1_epi8(31));
                    // The fifth bit of a byte's number, moved to the highest, chooses the half of the table.
                    let value = _mm256_blendv_epi8(
                        _mm256_shuffle_epi8(first, byte),
                        _mm256_shuffle_epi8(second, byte),
                        _mm256_slli_epi16::<3>(byte),
                    );
                    let bit = _mm256_shuffle_epi8(bits, _mm256_and_si256(v, _mm256_set1_epi8(7)));
                    let found = _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_and_si256(value, bit), bit)) as u32;
                    mask |= (found as u64) << (32 * i);
                }
                mask
            }
        }
    }

    pub struct Avx512;

    impl Kernel for Avx512 {
        #[inline(always)]
        fn keys_below(keys: &[u8; NODE], low: u64, high: u64) -> (usize, usize) {
            // SAFETY: loads stay inside `keys`; the instructions exist where this kernel runs.
            unsafe {
                let a = _mm512_loadu_si512(keys.as_ptr().cast());
                let b = _mm512_loadu_si512(keys.as_ptr().add(64).cast());
                let (l, h) = (_mm512_set1_epi64(low as i64), _mm512_set1_epi64(high as i64));
                let less = _mm512_kunpackb(_mm512_cmplt_epu64_mask(b, l) as u16, _mm512_cmplt_epu64_mask(a, l) as u16);
                let most = _mm512_kunpackb(_mm512_cmple_epu64_mask(b, h) as u16, _mm512_cmple_epu64_mask(a, h) as u16);
                (less.count_ones() as usize, most.count_ones() as usize)
            }
        }

        #[inline(always)]
        fn below(branches: &[u8; BLOCK], limit: u32) -> u64 {
            if limit > 255 {
                return u64::MAX;
            }
            // SAFETY: as above.
            unsafe {
                let v = _mm512_loadu_si512(branches.as_ptr().cast());
                _mm512_cmplt_epu8_mask(v, _mm512_set1_epi8(limit as u8 as i8))
            }
        }

        #[inline(always)]
        fn ones(branches: &[u8; BLOCK], query: &Prefix) -> u64 {
            let table = bytes(query);
            // SAFETY: as above.
            unsafe {
                let table = _mm512_broadcast_i64x4(_mm256_loadu_si256(table.as_ptr().cast()));
                let bits = _mm512_broadcast_i32x4(_mm_loadu_si128(BITS.as_ptr().cast()));
                let v = _mm512_loadu_si512(branches.as_ptr().cast());
                let byte = _mm512_and_si512(_mm512_srli_epi16::<3>(v), _mm512_set1_epi8(31));
                let value = _mm512_permutexvar_epi8(byte, table);
                let bit = _mm512_shuffle_epi8(bits, _mm512_and_si512(v, _mm512_set1_epi8(7)));
                _mm512_test_epi8_mask(value, bit)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct All {
        keys: [u8; NODE],
        low: u64,
        high: u64,
        branches: [u8; BLOCK],
        limit: u32,
        query: Prefix,
    }

    impl Task for &All {
        type Output = ((usize, usize), u64, u64);
        #[inline(always)]
        fn run<K: Kernel>(self) -> Self::Output {
            (
                K::keys_below(&self.keys, self.low, self.high),
                K::below(&self.branches, self.limit),
                K::ones(&self.branches, &self.query),
            )
        }
    }

    fn kernels() -> Vec<Isa> {
        let mut all = vec![Isa::Portable];
        #[cfg(target_arch = "x86_64")]
        match Isa::detect() {
            Isa::Avx512 => all.extend([Isa::Avx2, Isa::Avx512]),
            Isa::Avx2 => all.push(Isa::Avx2),
            Isa::Portable => {}
        }
        all
    }

    proptest! {
        #[test]
        fn every_kernel_agrees_with_the_portable_one(
            mut keys in prop::array::uniform16(prop_oneof![any::<u64>(), 0u64..4, Just(u64::MAX)]),
            low in prop_oneof![any::<u64>(), 0u64..4, Just(u64::MAX)],
            high in prop_oneof![any::<u64>(), 0u64..4, Just(u64::MAX)],
            branches in prop::collection::vec(any::<u8>(), BLOCK),
            limit in 0u32..=257,
            query in prop::array::uniform4(any::<u64>()),
        ) {
            keys.sort_unstable();
            let keys: [u8; NODE] = bytemuck::cast(keys);
            let branches: [u8; BLOCK] = branches.try_into().expect("as many as asked for");
            let all = All { keys, low, high, branches, limit, query };
            let expected = dispatch(Isa::Portable, &all);
            for isa in kernels() {
                prop_assert_eq!(dispatch(isa, &all), expected, "{:?}", isa);
            }
        }
    }
}
