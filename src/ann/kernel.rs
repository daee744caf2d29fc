//! Arithmetic of the vector indexes: dot products of one pair, and the matrix product of a block of pairs.
//!
//! Every floating-point dot product has one *canonical* value: 64 partial sums of fused multiply-adds (element `i` goes to
//! sum `i mod 64`), folded by halves. AVX-512, AVX2 and plain Rust compute exactly that value, so that scores, ties and
//! the graphs built from them do not depend on the processor. Integer dot products are exact anyway. The instruction set
//! is chosen at run time, once. [`product`] is a GEMM and rounds differently; callers rescore what they keep of it.
//!
//! Cost: one pass over both operands, O(dim).
#![allow(unsafe_code)]

use half::f16;

/// Number of partial sums of a canonical dot product.
const LANES: usize = 64;

/// The instruction set the kernels run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    Scalar,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW and VL.
    Avx512,
}

impl Isa {
    /// The best instruction set of this processor.
    pub fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma") && has!("f16c");
            if avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512vl") {
                return Isa::Avx512;
            }
            if avx2 {
                return Isa::Avx2;
            }
        }
        Isa::Scalar
    }
}

/// An element that the floating-point kernels widen to f32.
pub trait Lane: Copy + Default + Send + Sync + 'static {
    fn widen(self) -> f32;
    /// Widens 16 elements.
    ///
    /// # Safety
    /// `p` must be readable for 16 elements and the processor must have AVX-512 F.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load16(p: *const Self) -> std::arch::x86_64::__m512;
    /// Widens 8 elements.
    ///
    /// # Safety
    /// `p` must be readable for 8 elements and the processor must have AVX2 and F16C.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load8(p: *const Self) -> std::arch::x86_64::__m256;
}

impl Lane for f32 {
    fn widen(self) -> f32 {
        self
    }
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load16(p: *const f32) -> std::arch::x86_64::__m512 {
        // SAFETY: the caller vouches for 16 readable floats; the load needs no alignment.
        unsafe { std::arch::x86_64::_mm512_loadu_ps(p) }
    }
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load8(p: *const f32) -> std::arch::x86_64::__m256 {
        // SAFETY: the caller vouches for 8 readable floats; the load needs no alignment.
        unsafe { std::arch::x86_64::_mm256_loadu_ps(p) }
    }
}

impl Lane for f16 {
    fn widen(self) -> f32 {
        self.to_f32()
    }
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load16(p: *const f16) -> std::arch::x86_64::__m512 {
        use std::arch::x86_64::*;
        // SAFETY: the caller vouches for 16 readable halves (32 bytes, f16 is a transparent u16); no alignment needed.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn load8(p: *const f16) -> std::arch::x86_64::__m256 {
        use std::arch::x86_64::*;
        // SAFETY: the caller vouches for 8 readable halves (16 bytes, f16 is a transparent u16); no alignment needed.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
    }
}

/// Canonical dot product of the common prefix of `a` and `b`.
pub fn dot<A: Lane, B: Lane>(isa: Isa, a: &[A], b: &[B]) -> f32 {
    match isa {
        // SAFETY: `Isa` values other than Scalar are only made by `detect`, after the processor was asked.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::dot_avx512(a, b) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::dot_avx2(a, b) },
        _ => dot_scalar(a, b),
    }
}

fn dot_scalar<A: Lane, B: Lane>(a: &[A], b: &[B]) -> f32 {
    let mut sums = [0f32; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for ((sum, x), y) in sums.iter_mut().zip(a).zip(b) {
            *sum = x.widen().mul_add(y.widen(), *sum);
        }
    }
    let mut s = [0f32; 16];
    for (i, s) in s.iter_mut().enumerate() {
        *s = (sums[i] + sums[16 + i]) + (sums[32 + i] + sums[48 + i]);
    }
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            s[i] += s[i + width];
        }
    }
    s[0]
}

/// Exact dot product of the common prefix. `a` must be small enough for 32 bits: `max|a| × 127 × len < 2³¹`.
pub fn dot_wide(isa: Isa, a: &[i16], b: &[i8]) -> i32 {
    match isa {
        // SAFETY: `Isa` values other than Scalar are only made by `detect`, after the processor was asked.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::dot_wide_avx512(a, b) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::dot_wide_avx2(a, b) },
        _ => a.iter().zip(b).fold(0i32, |s, (&x, &y)| s.wrapping_add(i32::from(x) * i32::from(y))),
    }
}

/// Exact dot product of the common prefix of two int8 vectors of less than 2¹⁷ elements.
pub fn dot_bytes(isa: Isa, a: &[i8], b: &[i8]) -> i32 {
    match isa {
        // SAFETY: `Isa` values other than Scalar are only made by `detect`, after the processor was asked.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::dot_bytes_avx512(a, b) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::dot_bytes_avx2(a, b) },
        _ => a.iter().zip(b).fold(0i32, |s, (&x, &y)| s.wrapping_add(i32::from(x) * i32::from(y))),
    }
}

/// Asks the processor to bring the first `bytes` of `data` into cache; no effect on results.
#[inline]
pub fn prefetch<T>(data: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        let start = data.as_ptr().cast::<i8>();
        for offset in (0..std::mem::size_of_val(data)).step_by(64) {
            // SAFETY: a prefetch never faults; the address is inside `data` all the same.
            unsafe { std::arch::x86_64::_mm_prefetch(start.wrapping_add(offset), std::arch::x86_64::_MM_HINT_T0) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
}

/// `out[q × rows + r] = vectors[r] · queries[q]`, on one thread. Both operands are row-major with `dim` columns.
///
/// # Panics
/// When a slice is shorter than its shape says (a mistake of the caller, never of input).
pub fn product(vectors: &[f32], queries: &[f32], dim: usize, out: &mut [f32]) {
    let (rows, count) = (vectors.len() / dim.max(1), queries.len() / dim.max(1));
    assert!(out.len() >= rows * count, "output of a product is too small");
    if rows == 0 || count == 0 {
        return;
    }
    // SAFETY: the strides below address element (r, d) at r·dim + d < vectors.len(), (d, q) at q·dim + d < queries.len()
    // and (r, q) at q·rows + r < rows·count ≤ out.len(); `out` is uniquely borrowed and not read.
    unsafe {
        gemm::gemm(
            rows,
            count,
            dim,
            out.as_mut_ptr(),
            rows as isize,
            1,
            false,
            vectors.as_ptr(),
            1,
            dim as isize,
            queries.as_ptr(),
            dim as isize,
            1,
            0.0f32,
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{LANES, Lane};
    use std::arch::x86_64::*;

    /// The rest of `v` after its whole chunks of `N`, padded with zeros.
    fn tail<T: Copy + Default, const N: usize>(v: &[T], whole: usize) -> [T; N] {
        let mut padded = [T::default(); N];
        let rest = &v[whole..];
        padded[..rest.len()].copy_from_slice(rest);
        padded
    }

    /// # Safety
    /// The processor must have AVX-512 F.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn dot_avx512<A: Lane, B: Lane>(a: &[A], b: &[B]) -> f32 {
        let n = a.len().min(b.len());
        let (a, b) = (&a[..n], &b[..n]);
        let mut sums = [_mm512_setzero_ps(); 4];
        let whole = n / LANES * LANES;
        for i in (0..whole).step_by(LANES) {
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: i + 64 ≤ whole ≤ n, so 16 elements from i + 16·j (j < 4) lie in both slices.
                let (x, y) = unsafe { (A::load16(a.as_ptr().add(i + 16 * j)), B::load16(b.as_ptr().add(i + 16 * j))) };
                *sum = _mm512_fmadd_ps(x, y, *sum);
            }
        }
        if whole < n {
            let (a, b) = (tail::<A, LANES>(a, whole), tail::<B, LANES>(b, whole));
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: both arrays have 64 elements and 16·j + 16 ≤ 64.
                let (x, y) = unsafe { (A::load16(a.as_ptr().add(16 * j)), B::load16(b.as_ptr().add(16 * j))) };
                *sum = _mm512_fmadd_ps(x, y, *sum);
            }
        }
        let s = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
        let high = _mm256_castsi256_ps(_mm512_extracti64x4_epi64::<1>(_mm512_castps_si512(s)));
        fold8(_mm256_add_ps(_mm512_castps512_ps256(s), high))
    }

    /// # Safety
    /// The processor must have AVX2, FMA and F16C.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub unsafe fn dot_avx2<A: Lane, B: Lane>(a: &[A], b: &[B]) -> f32 {
        let n = a.len().min(b.len());
        let (a, b) = (&a[..n], &b[..n]);
        let mut sums = [_mm256_setzero_ps(); 8];
        let whole = n / LANES * LANES;
        for i in (0..whole).step_by(LANES) {
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: i + 64 ≤ whole ≤ n, so 8 elements from i + 8·j (j < 8) lie in both slices.
                let (x, y) = unsafe { (A::load8(a.as_ptr().add(i + 8 * j)), B::load8(b.as_ptr().add(i + 8 * j))) };
                *sum = _mm256_fmadd_ps(x, y, *sum);
            }
        }
        if whole < n {
            let (a, b) = (tail::<A, LANES>(a, whole), tail::<B, LANES>(b, whole));
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: both arrays have 64 elements and 8·j + 8 ≤ 64.
                let (x, y) = unsafe { (A::load8(a.as_ptr().add(8 * j)), B::load8(b.as_ptr().add(8 * j))) };
                *sum = _mm256_fmadd_ps(x, y, *sum);
            }
        }
        let low = _mm256_add_ps(_mm256_add_ps(sums[0], sums[2]), _mm256_add_ps(sums[4], sums[6]));
        let high = _mm256_add_ps(_mm256_add_ps(sums[1], sums[3]), _mm256_add_ps(sums[5], sums[7]));
        fold8(_mm256_add_ps(low, high))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn fold8(v: __m256) -> f32 {
        let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
    }

    /// # Safety
    /// The processor must have AVX-512 F and BW.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub unsafe fn dot_wide_avx512(a: &[i16], b: &[i8]) -> i32 {
        let n = a.len().min(b.len());
        let (a, b) = (&a[..n], &b[..n]);
        let mut sums = [_mm512_setzero_si512(); 2];
        let whole = n / 64 * 64;
        let mut step = |a: *const i16, b: *const i8| {
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: every call below passes pointers to 64 readable elements, and 32·j + 32 ≤ 64.
                let (x, y) = unsafe {
                    let y = _mm512_cvtepi8_epi16(_mm256_loadu_si256(b.add(32 * j).cast()));
                    (_mm512_loadu_si512(a.add(32 * j).cast()), y)
                };
                *sum = _mm512_add_epi32(*sum, _mm512_madd_epi16(x, y));
            }
        };
        for i in (0..whole).step_by(64) {
            step(a[i..].as_ptr(), b[i..].as_ptr());
        }
        if whole < n {
            step(tail::<i16, 64>(a, whole).as_ptr(), tail::<i8, 64>(b, whole).as_ptr());
        }
        _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
    }

    /// # Safety
    /// The processor must have AVX2.
    #[target_feature(enable = "avx2")]
    pub unsafe fn dot_wide_avx2(a: &[i16], b: &[i8]) -> i32 {
        let n = a.len().min(b.len());
        let (a, b) = (&a[..n], &b[..n]);
        let mut sums = [_mm256_setzero_si256(); 2];
        let whole = n / 32 * 32;
        let mut step = |a: *const i16, b: *const i8| {
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: every call below passes pointers to 32 readable elements, and 16·j + 16 ≤ 32.
                let (x, y) = unsafe {
                    let y = _mm256_cvtepi8_epi16(_mm_loadu_si128(b.add(16 * j).cast()));
                    (_mm256_loadu_si256(a.add(16 * j).cast()), y)
                };
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, y));
            }
        };
        for i in (0..whole).step_by(32) {
            step(a[i..].as_ptr(), b[i..].as_ptr());
        }
        if whole < n {
            step(tail::<i16, 32>(a, whole).as_ptr(), tail::<i8, 32>(b, whole).as_ptr());
        }
        sum8(_mm256_add_epi32(sums[0], sums[1]))
    }

    /// # Safety
    /// The processor must have AVX-512 F and BW.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub unsafe fn dot_bytes_avx512(a: &[i8], b: &[i8]) -> i32 {
        let n = a.len().min(b.len());
        let (a, b) = (&a[..n], &b[..n]);
        let mut sums = [_mm512_setzero_si512(); 2];
        let whole = n / 64 * 64;
        let mut step = |a: *const i8, b: *const i8| {
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: every call below passes pointers to 64 readable elements, and 32·j + 32 ≤ 64.
                let (x, y) = unsafe {
                    let x = _mm512_cvtepi8_epi16(_mm256_loadu_si256(a.add(32 * j).cast()));
                    (x, _mm512_cvtepi8_epi16(_mm256_loadu_si256(b.add(32 * j).cast())))
                };
                *sum = _mm512_add_epi32(*sum, _mm512_madd_epi16(x, y));
            }
        };
        for i in (0..whole).step_by(64) {
            step(a[i..].as_ptr(), b[i..].as_ptr());
        }
        if whole < n {
            step(tail::<i8, 64>(a, whole).as_ptr(), tail::<i8, 64>(b, whole).as_ptr());
        }
        _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
    }

    /// # Safety
    /// The processor must have AVX2.
    #[target_feature(enable = "avx2")]
    pub unsafe fn dot_bytes_avx2(a: &[i8], b: &[i8]) -> i32 {
        let n = a.len().min(b.len());
        let (a, b) = (&a[..n], &b[..n]);
        let mut sums = [_mm256_setzero_si256(); 2];
        let whole = n / 32 * 32;
        let mut step = |a: *const i8, b: *const i8| {
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: every call below passes pointers to 32 readable elements, and 16·j + 16 ≤ 32.
                let (x, y) = unsafe {
                    let x = _mm256_cvtepi8_epi16(_mm_loadu_si128(a.add(16 * j).cast()));
                    (x, _mm256_cvtepi8_epi16(_mm_loadu_si128(b.add(16 * j).cast())))
                };
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, y));
            }
        };
        for i in (0..whole).step_by(32) {
            step(a[i..].as_ptr(), b[i..].as_ptr());
        }
        if whole < n {
            step(tail::<i8, 32>(a, whole).as_ptr(), tail::<i8, 32>(b, whole).as_ptr());
        }
        sum8(_mm256_add_epi32(sums[0], sums[1]))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn sum8(v: __m256i) -> i32 {
        let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
        let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b01_00_11_10>(v));
        _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32::<0b00_00_00_01>(v)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sets() -> Vec<Isa> {
        match Isa::detect() {
            Isa::Avx512 => vec![Isa::Avx2, Isa::Avx512],
            Isa::Avx2 => vec![Isa::Avx2],
            Isa::Scalar => vec![],
        }
    }

    proptest! {
        #[test]
        fn every_instruction_set_gives_the_scalar_bits(
            pairs in prop::collection::vec((-2f32..2., -2f32..2., any::<i8>(), any::<i8>(), -3000i16..3000), 0..700)
        ) {
            let a: Vec<f32> = pairs.iter().map(|p| p.0).collect();
            let b: Vec<f32> = pairs.iter().map(|p| p.1).collect();
            let h: Vec<f16> = b.iter().map(|&x| f16::from_f32(x)).collect();
            let x: Vec<i8> = pairs.iter().map(|p| p.2).collect();
            let y: Vec<i8> = pairs.iter().map(|p| p.3).collect();
            let w: Vec<i16> = pairs.iter().map(|p| p.4).collect();
            for isa in sets() {
                prop_assert_eq!(dot(isa, &a, &b).to_bits(), dot(Isa::Scalar, &a, &b).to_bits());
                prop_assert_eq!(dot(isa, &a, &h).to_bits(), dot(Isa::Scalar, &a, &h).to_bits());
                prop_assert_eq!(dot(isa, &h, &h).to_bits(), dot(Isa::Scalar, &h, &h).to_bits());
                prop_assert_eq!(dot_wide(isa, &w, &x), dot_wide(Isa::Scalar, &w, &x));
                prop_assert_eq!(dot_bytes(isa, &x, &y), dot_bytes(Isa::Scalar, &x, &y));
            }
            let exact: f64 = a.iter().zip(&b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
            prop_assert!((f64::from(dot(Isa::detect(), &a, &b)) - exact).abs() < 1e-3);
        }

        #[test]
        fn the_product_equals_single_dot_products(rows in 0usize..40, count in 0usize..9, dim in 1usize..80, seed in any::<u32>()) {
            let value = |i: usize| (((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) as f32) / 8_388_608.0 - 1.0;
            let vectors: Vec<f32> = (0..rows * dim).map(value).collect();
            let queries: Vec<f32> = (0..count * dim).map(|i| value(i + 7919)).collect();
            let mut out = vec![f32::NAN; rows * count];
            product(&vectors, &queries, dim, &mut out);
            for q in 0..count {
                for r in 0..rows {
                    let expected = dot(Isa::Scalar, &vectors[r * dim..][..dim], &queries[q * dim..][..dim]);
                    prop_assert!((out[q * rows + r] - expected).abs() < 1e-4);
                }
            }
        }
    }
}
