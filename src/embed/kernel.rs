//! Single-precision matrix product against a weight that was packed once: `C = A · B (+ bias)`.
//!
//! Overview. `B` (`k × n`) is stored as panels of 32 columns, each `k × 32` contiguous ([`Panels`]); `A` and `C` are plain
//! row-major. A register tile of 12×32 (AVX-512), 6×16 (AVX2+FMA) or 2×32 (portable) is accumulated over a block of `k`
//! that fits the first-level cache, and rows are taken in blocks that fit the second. The weights of an encoder are packed
//! when it is opened, so a forward pass never repacks them, which is where general-purpose GEMMs lose time on these shapes.
//!
//! Invariants. Each element of `C` is one chain of multiply-adds over `k` in ascending order that starts from the bias, so a
//! row's result does not depend on which rows are computed beside it: batches and thread counts never change a vector.
//!
//! Cost: `2·m·n·k` operations. The instruction set is chosen when the
//! process runs ([`Isa::detect`]); all variants are tested against the same naive product.
#![allow(unsafe_code)]

use std::sync::OnceLock;

/// Columns of one panel.
pub const PANEL: usize = 32;
/// Rows per block: `ROWS × 1536` floats of an inner layer stay in a 1–2 MiB second-level cache.
pub const ROWS: usize = 96;
/// Depth per block: a `DEPTH × 32` slice of a panel stays in the first-level cache.
const DEPTH: usize = 384;

/// Instruction set the kernels run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Whatever the target guarantees; what other architectures use.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, DQ, VL and BW (every CPU with AVX-512 but the Xeon Phi).
    Avx512,
}

impl Isa {
    /// The best set of this machine. `PRIORART_ISA=portable|avx2|avx512` lowers it (it never raises it).
    pub fn detect() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            let available = Isa::available();
            let asked = std::env::var("PRIORART_ISA").unwrap_or_default();
            available
                .iter()
                .rev()
                .find(|isa| isa.name() == asked)
                .or(available.last())
                .copied()
                .unwrap_or(Isa::Portable)
        })
    }

    /// Every set this machine can run, slowest first.
    pub fn available() -> Vec<Isa> {
        #[allow(unused_mut)]
        let mut all = vec![Isa::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Isa::Avx2);
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                {
                    all.push(Isa::Avx512);
                }
            }
        }
        all
    }

    /// `portable`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
}

/// A `k × n` matrix as panels of 32 columns: element `(p, j)` lies at `((j / 32) · k + p) · 32 + j % 32`; columns beyond
/// `n` are zero.
#[derive(Debug, Clone)]
pub struct Panels {
    pub data: Vec<f32>,
    pub k: usize,
    pub n: usize,
}

impl Panels {
    /// Packs a weight stored as PyTorch stores a linear layer, `n × k` row-major (output by input).
    pub fn from_rows(weight: &[f32], n: usize, k: usize) -> Panels {
        assert_eq!(weight.len(), n * k);
        let mut data = vec![0.0; panel_len(k, n)];
        pack_transposed(weight, n, k, k, &mut data);
        Panels { data, k, n }
    }

    pub fn view(&self) -> PanelView<'_> {
        PanelView { data: &self.data, k: self.k, n: self.n }
    }
}

/// Borrowed [`Panels`]. `data` may be longer than needed.
#[derive(Debug, Clone, Copy)]
pub struct PanelView<'a> {
    pub data: &'a [f32],
    pub k: usize,
    pub n: usize,
}

/// Floats needed for a packed `k × n` matrix.
pub fn panel_len(k: usize, n: usize) -> usize {
    n.div_ceil(PANEL) * PANEL * k
}

/// Packs the transpose of `rows` (`n` rows of `k` floats, `stride` apart): row `j` becomes column `j`.
/// Columns past `n` of the last panel keep what `out` held; callers that care pass zeroes.
pub fn pack_transposed(rows: &[f32], n: usize, k: usize, stride: usize, out: &mut [f32]) {
    for (panel, first) in (0..n).step_by(PANEL).enumerate() {
        let out = &mut out[panel * k * PANEL..(panel + 1) * k * PANEL];
        for lane in 0..PANEL.min(n - first) {
            let row = &rows[(first + lane) * stride..(first + lane) * stride + k];
            for (slot, &x) in out[lane..].iter_mut().step_by(PANEL).zip(row) {
                *slot = x;
            }
        }
    }
}

/// Packs `rows` (`k` rows of `n` floats, `stride` apart) as they are: row `p` stays row `p`.
pub fn pack_plain(rows: &[f32], k: usize, n: usize, stride: usize, out: &mut [f32]) {
    for (panel, first) in (0..n).step_by(PANEL).enumerate() {
        let width = PANEL.min(n - first);
        for p in 0..k {
            let to = (panel * k + p) * PANEL;
            out[to..to + width].copy_from_slice(&rows[p * stride + first..p * stride + first + width]);
        }
    }
}

/// `C = A · B + bias` for `m` rows. `A`: row `i` at `a[i · lda..][..k]`. `C`: row `i` at `c[i · ldc..][..n]`, overwritten.
///
/// # Panics
/// When a slice is too short for the shape: the shapes come from the caller's code, never from input.
#[allow(clippy::too_many_arguments)]
pub fn gemm(
    isa: Isa,
    m: usize,
    a: &[f32],
    lda: usize,
    b: PanelView<'_>,
    bias: Option<&[f32]>,
    c: &mut [f32],
    ldc: usize,
) {
    if m == 0 || b.n == 0 {
        return;
    }
    assert!(lda >= b.k && a.len() >= (m - 1) * lda + b.k, "A is shorter than its shape");
    assert!(ldc >= b.n && c.len() >= (m - 1) * ldc + b.n, "C is shorter than its shape");
    assert!(b.data.len() >= panel_len(b.k, b.n), "B is shorter than its shape");
    let mut padded = [0f32; PANEL];
    let mut edge = [0f32; 12 * PANEL];
    for row in (0..m).step_by(ROWS) {
        let rows = ROWS.min(m - row);
        let mut depth = 0;
        loop {
            let d = DEPTH.min(b.k - depth);
            for (panel, first) in (0..b.n).step_by(PANEL).enumerate() {
                let width = PANEL.min(b.n - first);
                let start = match (depth > 0, bias) {
                    (true, _) => Start::FromC,
                    (false, None) => Start::Row([0f32; PANEL].as_slice().as_ptr()),
                    (false, Some(bias)) if width == PANEL => Start::Row(bias[first..first + PANEL].as_ptr()),
                    (false, Some(bias)) => {
                        padded[..width].copy_from_slice(&bias[first..first + width]);
                        Start::Row(padded.as_ptr())
                    }
                };
                let column = Column { k: d, lda, panel: b.data[(panel * b.k + depth) * PANEL..].as_ptr(), start };
                let a = &a[row * lda + depth..];
                let c = &mut c[row * ldc + first..];
                if width == PANEL {
                    // SAFETY: the asserts above bound every row of A, C and the panel; `isa` comes from detection.
                    unsafe { column.run(isa, rows, a.as_ptr(), c.as_mut_ptr(), ldc) };
                } else {
                    for i in (0..rows).step_by(12) {
                        let r = 12.min(rows - i);
                        if depth > 0 {
                            for (t, row) in edge.chunks_exact_mut(PANEL).take(r).enumerate() {
                                row[..width].copy_from_slice(&c[(i + t) * ldc..][..width]);
                            }
                        }
                        // SAFETY: as above, with C replaced by a buffer of 12 × 32 floats.
                        unsafe { column.run(isa, r, a[i * lda..].as_ptr(), edge.as_mut_ptr(), PANEL) };
                        for (t, row) in edge.chunks_exact(PANEL).take(r).enumerate() {
                            c[(i + t) * ldc..][..width].copy_from_slice(&row[..width]);
                        }
                    }
                }
            }
            depth += d;
            if depth >= b.k {
                break;
            }
        }
    }
}

/// What an accumulator holds before the first product.
#[derive(Clone, Copy)]
enum Start {
    /// The same 32 floats (a bias, or zeroes) in every row.
    Row(*const f32),
    /// What C holds: a later block of `k`.
    FromC,
}

/// One panel's slice of `k` rows, to be multiplied with some rows of A.
#[derive(Clone, Copy)]
struct Column {
    k: usize,
    lda: usize,
    panel: *const f32,
    start: Start,
}

impl Column {
    /// # Safety
    /// `rows` rows of `k` floats `lda` apart must be readable at `a`, `rows` rows of 32 floats `ldc` apart writable at `c`,
    /// `k · 32` floats readable at `self.panel`, 32 at a starting row; the machine must support `isa`.
    unsafe fn run(self, isa: Isa, rows: usize, a: *const f32, c: *mut f32, ldc: usize) {
        // SAFETY: the caller's promise is passed on unchanged.
        unsafe {
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => x86::column_avx512(self, rows, a, c, ldc),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => x86::column_avx2(self, rows, a, c, ldc),
                _ => column_portable(self, rows, a, c, ldc),
            }
        }
    }
}

unsafe fn column_portable(col: Column, rows: usize, a: *const f32, c: *mut f32, ldc: usize) {
    // SAFETY: `i + R <= rows` in every call, within what the caller promised.
    unsafe {
        let mut i = 0;
        while i + 2 <= rows {
            tile_portable::<2>(col, a.add(i * col.lda), c.add(i * ldc), ldc);
            i += 2;
        }
        if i < rows {
            tile_portable::<1>(col, a.add(i * col.lda), c.add(i * ldc), ldc);
        }
    }
}

#[inline(always)]
unsafe fn tile_portable<const R: usize>(col: Column, a: *const f32, c: *mut f32, ldc: usize) {
    let mut acc = [[0f32; PANEL]; R];
    // SAFETY: reads and writes stay within R rows of 32 floats, the panel's k rows and A's k columns.
    unsafe {
        for (i, row) in acc.iter_mut().enumerate() {
            let from = match col.start {
                Start::Row(p) => p,
                Start::FromC => c.add(i * ldc).cast_const(),
            };
            std::ptr::copy_nonoverlapping(from, row.as_mut_ptr(), PANEL);
        }
        for p in 0..col.k {
            let b = &*col.panel.add(p * PANEL).cast::<[f32; PANEL]>();
            for (i, row) in acc.iter_mut().enumerate() {
                let x = *a.add(i * col.lda + p);
                for (sum, &y) in row.iter_mut().zip(b) {
                    *sum += x * y;
                }
            }
        }
        for (i, row) in acc.iter().enumerate() {
            std::ptr::copy_nonoverlapping(row.as_ptr(), c.add(i * ldc), PANEL);
        }
    }
}

#[cfg(target_arch = "x86_64")]
// A tile of one row makes `i + 1 <= rows` of the condition that all sizes share.
#[allow(clippy::int_plus_one)]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Column, Start};

    /// Where a row's sums start.
    ///
    /// # Safety
    /// Row `i` of C must exist when sums start from it.
    #[inline(always)]
    unsafe fn start(col: &Column, c: *mut f32, i: usize, ldc: usize) -> *const f32 {
        match col.start {
            Start::Row(p) => p,
            // SAFETY: the caller's promise.
            Start::FromC => unsafe { c.add(i * ldc).cast_const() },
        }
    }

    /// One register tile of `$rows` rows. The rows are written out by the macro rather than looped over, so that the sums
    /// stay in registers whatever the optimisation level (tests are built with little of it).
    macro_rules! tile {
        (avx512 $name:ident, $rows:literal: $($i:literal)*) => {
            #[inline]
            #[target_feature(enable = "avx512f")]
            unsafe fn $name(col: Column, a: *const f32, c: *mut f32, ldc: usize) {
                // SAFETY: these rows of A and C and k rows of the panel are valid by the caller's promise. Prefetches may
                // point past the panel: they do not fault, and the pointer is formed with wrapping arithmetic.
                unsafe {
                    let mut sums = [[_mm512_setzero_ps(); 2]; $rows];
                    $( let from = start(&col, c, $i, ldc);
                       sums[$i] = [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16))]; )*
                    // Three rows share one base pointer, so that the addresses fit the registers: base, + lda, + 2·lda.
                    let base = [a, a.wrapping_add(3 * col.lda), a.wrapping_add(6 * col.lda), a.wrapping_add(9 * col.lda)];
                    let lda = [0, col.lda, 2 * col.lda];
                    let mut b = col.panel;
                    let mut p = 0;
                    while p < col.k {
                        _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(16 * 32).cast());
                        _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(16 * 32 + 16).cast());
                        let b0 = _mm512_loadu_ps(b);
                        let b1 = _mm512_loadu_ps(b.add(16));
                        b = b.wrapping_add(32);
                        $( let x = _mm512_set1_ps(*base[$i / 3].add(p + lda[$i % 3]));
                           sums[$i][0] = _mm512_fmadd_ps(x, b0, sums[$i][0]);
                           sums[$i][1] = _mm512_fmadd_ps(x, b1, sums[$i][1]); )*
                        p += 1;
                    }
                    $( _mm512_storeu_ps(c.add($i * ldc), sums[$i][0]);
                       _mm512_storeu_ps(c.add($i * ldc + 16), sums[$i][1]); )*
                }
            }
        };
        (avx2 $name:ident, $rows:literal: $($i:literal)*) => {
            #[inline]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn $name(col: Column, a: *const f32, c: *mut f32, ldc: usize) {
                // SAFETY: as for AVX-512. Both 16-column halves of a panel in turn: 6 × 16 sums fill sixteen registers.
                unsafe {
                    let mut half = 0;
                    while half < 32 {
                        let mut sums = [[_mm256_setzero_ps(); 2]; $rows];
                        $( let from = start(&col, c, $i, ldc).add(half);
                           sums[$i] = [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))]; )*
                        let base = [a, a.wrapping_add(3 * col.lda)];
                        let lda = [0, col.lda, 2 * col.lda];
                        let mut b = col.panel.add(half);
                        let mut p = 0;
                        while p < col.k {
                            let b0 = _mm256_loadu_ps(b);
                            let b1 = _mm256_loadu_ps(b.add(8));
                            b = b.wrapping_add(32);
                            $( let x = _mm256_set1_ps(*base[$i / 3].add(p + lda[$i % 3]));
                               sums[$i][0] = _mm256_fmadd_ps(x, b0, sums[$i][0]);
                               sums[$i][1] = _mm256_fmadd_ps(x, b1, sums[$i][1]); )*
                            p += 1;
                        }
                        $( _mm256_storeu_ps(c.add($i * ldc + half), sums[$i][0]);
                           _mm256_storeu_ps(c.add($i * ldc + half + 8), sums[$i][1]); )*
                        half += 16;
                    }
                }
            }
        };
    }

    tile!(avx512 wide_12, 12: 0 1 2 3 4 5 6 7 8 9 10 11);
    tile!(avx512 wide_6, 6: 0 1 2 3 4 5);
    tile!(avx512 wide_3, 3: 0 1 2);
    tile!(avx512 wide_1, 1: 0);
    tile!(avx2 narrow_6, 6: 0 1 2 3 4 5);
    tile!(avx2 narrow_3, 3: 0 1 2);
    tile!(avx2 narrow_1, 1: 0);

    /// Runs the largest tiles that still fit, then smaller ones.
    macro_rules! cover {
        ($col:ident, $rows:ident, $a:ident, $c:ident, $ldc:ident: $($tile:ident $size:literal),*) => {{
            let mut i = 0;
            $( while i + $size <= $rows {
                $tile($col, $a.add(i * $col.lda), $c.add(i * $ldc), $ldc);
                i += $size;
            } )*
        }};
    }

    /// # Safety
    /// As [`Column::run`].
    #[target_feature(enable = "avx512f")]
    pub unsafe fn column_avx512(col: Column, rows: usize, a: *const f32, c: *mut f32, ldc: usize) {
        // SAFETY: `i + size <= rows` in every call, within what the caller promised.
        unsafe { cover!(col, rows, a, c, ldc: wide_12 12, wide_6 6, wide_3 3, wide_1 1) }
    }

    /// # Safety
    /// As [`Column::run`].
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn column_avx2(col: Column, rows: usize, a: *const f32, c: *mut f32, ldc: usize) {
        // SAFETY: `i + size <= rows` in every call, within what the caller promised.
        unsafe { cover!(col, rows, a, c, ldc: narrow_6 6, narrow_3 3, narrow_1 1) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn floats(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((state >> 40) as f32 / (1u64 << 24) as f32) * 2.0 - 1.0
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_isa_equals_the_naive_product(
            m in 1usize..130, n in 1usize..100, k in 1usize..900, extra in 0usize..9, seed in any::<u64>(), with_bias: bool,
        ) {
            let (lda, ldc) = (k + extra, n + extra);
            let a = floats(m * lda, seed);
            let weight = floats(n * k, seed ^ 1);
            let bias = floats(n, seed ^ 2);
            let panels = Panels::from_rows(&weight, n, k);
            for isa in Isa::available() {
                let mut c = vec![7.0f32; m * ldc];
                gemm(isa, m, &a, lda, panels.view(), with_bias.then_some(bias.as_slice()), &mut c, ldc);
                for i in 0..m {
                    for j in 0..n {
                        let mut want = if with_bias { bias[j] as f64 } else { 0.0 };
                        for p in 0..k {
                            want += a[i * lda + p] as f64 * weight[j * k + p] as f64;
                        }
                        let got = c[i * ldc + j] as f64;
                        prop_assert!((got - want).abs() < 1e-4, "{isa:?} ({i},{j}): {got} instead of {want}");
                    }
                    if i + 1 < m {
                        prop_assert!(c[i * ldc + n..(i + 1) * ldc].iter().all(|&x| x == 7.0), "{isa:?} wrote between rows");
                    }
                }
            }
        }

        #[test]
        fn a_row_does_not_depend_on_its_neighbours(m in 2usize..40, k in 1usize..500, seed in any::<u64>()) {
            let n = 70;
            let a = floats(m * k, seed);
            let panels = Panels::from_rows(&floats(n * k, seed ^ 1), n, k);
            for isa in Isa::available() {
                let mut all = vec![0f32; m * n];
                gemm(isa, m, &a, k, panels.view(), None, &mut all, n);
                for i in 0..m {
                    let mut one = vec![0f32; n];
                    gemm(isa, 1, &a[i * k..], k, panels.view(), None, &mut one, n);
                    prop_assert_eq!(&all[i * n..(i + 1) * n], one.as_slice());
                }
            }
        }
    }

    #[test]
    fn both_packings_agree() {
        let (k, n) = (5, 45);
        let rows = floats(k * n, 3);
        let mut transposed = vec![0f32; n * k];
        for p in 0..k {
            for j in 0..n {
                transposed[j * k + p] = rows[p * n + j];
            }
        }
        let mut plain = vec![0f32; panel_len(k, n)];
        pack_plain(&rows, k, n, n, &mut plain);
        assert_eq!(plain, Panels::from_rows(&transposed, n, k).data);
    }
}
