//! Row-wise kernels of an encoder layer: GELU, softmax, layer norm, L2 norm, dot product.
//!
//! Overview. Each kernel is one plain loop over lanes of 16 floats, written once and compiled for every instruction set of
//! [`Isa`] (`dispatch!`), where the compiler turns the lanes into vectors. `exp` and `erf` are polynomials, since calls into
//! the C library would be half of the time of a layer.
//!
//! Invariants. Sums are kept in 16 lanes and reduced in a fixed order: a result depends on the row alone, not on its place.
//! Accuracy: `exp` 2 ulp; `erf` 2e-7 absolute (Abramowitz & Stegun 7.1.26); both tested against the C library.
#![allow(unsafe_code)]

use super::kernel::Isa;

const LANES: usize = 16;

/// Activation between the two layers of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x·Φ(x) with the error function.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    Relu,
}

/// Fused multiply-add where the instruction set has it; elsewhere two roundings, because a library call per element would
/// cost more than everything else.
#[inline(always)]
fn madd<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// e^x for x in [-87, 88]; 0 below, saturated above. Cody–Waite reduction, Taylor polynomial of degree 7 on ±ln2/2.
#[inline(always)]
fn exp<const FMA: bool>(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5·2^23 rounds to an integer that then sits in the low bits of the float.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let shifted = madd::<FMA>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = madd::<FMA>(n, -LN2_LOW, madd::<FMA>(n, -LN2_HIGH, clamped));
    let mut p = 1.0 / 5040.0;
    p = madd::<FMA>(p, r, 1.0 / 720.0);
    p = madd::<FMA>(p, r, 1.0 / 120.0);
    p = madd::<FMA>(p, r, 1.0 / 24.0);
    p = madd::<FMA>(p, r, 1.0 / 6.0);
    p = madd::<FMA>(p, r, 0.5);
    p = madd::<FMA>(p, r, 1.0);
    p = madd::<FMA>(p, r, 1.0);
    let scale = f32::from_bits(shifted.to_bits().wrapping_shl(23).wrapping_add(0x3f80_0000));
    if x < -87.0 { 0.0 } else { p * scale }
}

/// GELU by Abramowitz & Stegun 7.1.26: erf(z) = 1 − (a₁t + … + a₅t⁵)·e^{−z²}, t = 1/(1 + 0.3275911·z), z ≥ 0.
#[inline(always)]
fn gelu<const FMA: bool>(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / madd::<FMA>(z, 0.327_591_1, 1.0);
    let mut p = 1.061_405_4;
    p = madd::<FMA>(p, t, -1.453_152);
    p = madd::<FMA>(p, t, 1.421_413_7);
    p = madd::<FMA>(p, t, -0.284_496_74);
    p = madd::<FMA>(p, t, 0.254_829_6);
    // x·Φ(x) = max(x, 0) − |x|/2 · erfc(|x|/√2): no cancellation in the negative tail.
    let erfc = p * t * exp::<FMA>(-z * z);
    x.max(0.0) - 0.5 * x.abs() * erfc
}

#[inline(always)]
fn gelu_tanh<const FMA: bool>(x: f32) -> f32 {
    // ½x(1 + tanh u) = x · σ(2u)
    let u = 0.797_884_6 * madd::<FMA>(0.044_715 * x * x, x, x);
    x / (1.0 + exp::<FMA>(-2.0 * u))
}

#[inline(always)]
fn lane_sum(lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    let mut lanes = lanes;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Sum of `f(x)` over a row in 16 lanes.
#[inline(always)]
fn sum_of(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let chunks = row.chunks_exact(LANES);
    let tail = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(tail) {
        *lane += f(x);
    }
    lane_sum(lanes)
}

#[inline(always)]
fn activate_body<const FMA: bool>(kind: Activation, row: &mut [f32]) {
    match kind {
        Activation::Gelu => row.iter_mut().for_each(|x| *x = gelu::<FMA>(*x)),
        Activation::GeluTanh => row.iter_mut().for_each(|x| *x = gelu_tanh::<FMA>(*x)),
        Activation::Relu => row.iter_mut().for_each(|x| *x = x.max(0.0)),
    }
}

#[inline(always)]
fn softmax_body<const FMA: bool>(scale: f32, row: &mut [f32]) {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let tail = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(tail) {
        *lane = if x > *lane { x } else { *lane };
    }
    let max = lanes.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let shift = -max * scale;
    let mut sums = [0f32; LANES];
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *x = exp::<FMA>(madd::<FMA>(*x, scale, shift));
            *sum += *x;
        }
    }
    for (sum, x) in sums.iter_mut().zip(chunks.into_remainder()) {
        *x = exp::<FMA>(madd::<FMA>(*x, scale, shift));
        *sum += *x;
    }
    let inverse = 1.0 / lane_sum(sums);
    row.iter_mut().for_each(|x| *x *= inverse);
}

#[inline(always)]
fn norm_body<const FMA: bool>(x: &mut [f32], residual: &[f32], gain: &[f32], shift: &[f32], eps: f32) {
    let n = x.len();
    let (residual, gain, shift) = (&residual[..n], &gain[..n], &shift[..n]);
    for (x, &r) in x.iter_mut().zip(residual) {
        *x += r;
    }
    let mean = sum_of(x, |v| v) / n as f32;
    let variance = sum_of(x, |v| (v - mean) * (v - mean)) / n as f32;
    let inverse = 1.0 / (variance + eps).sqrt();
    for ((x, &g), &b) in x.iter_mut().zip(gain).zip(shift) {
        *x = madd::<FMA>((*x - mean) * inverse, g, b);
    }
}

#[inline(always)]
fn dot_body<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (ca, cb) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (ta, tb) = (ca.remainder(), cb.remainder());
    for (a, b) in ca.zip(cb) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(a).zip(b) {
            *lane = madd::<FMA>(x, y, *lane);
        }
    }
    for ((lane, &x), &y) in lanes.iter_mut().zip(ta).zip(tb) {
        *lane = madd::<FMA>(x, y, *lane);
    }
    lane_sum(lanes)
}

#[inline(always)]
fn column_max_body(block: &[f32], best: &mut [f32]) {
    for row in block.chunks_exact(best.len()) {
        for (best, &x) in best.iter_mut().zip(row) {
            *best = if x > *best { x } else { *best };
        }
    }
}

/// Compiles `body` for each instruction set and picks one at run time.
macro_rules! dispatch {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty),*) $(-> $out:ty)?, $portable:expr, $wide:expr) => {
        $(#[$doc])*
        #[inline]
        pub fn $name(isa: Isa, $($arg: $ty),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $out)? { $wide }
                #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,fma")]
                fn avx512($($arg: $ty),*) $(-> $out)? { $wide }
                match isa {
                    // SAFETY: `Isa::Avx512` and `Isa::Avx2` are only made where these features were detected.
                    Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    Isa::Portable => {}
                }
            }
            let _ = isa;
            $portable
        }
    };
}

dispatch!(
    /// Applies `kind` to every element.
    activate(kind: Activation, row: &mut [f32]), activate_body::<false>(kind, row), activate_body::<true>(kind, row));
dispatch!(
    /// `row ← softmax(scale · row)`.
    softmax(scale: f32, row: &mut [f32]), softmax_body::<false>(scale, row), softmax_body::<true>(scale, row));
dispatch!(
    /// `x ← layer_norm(x + residual) · gain + shift` over one row.
    add_norm(x: &mut [f32], residual: &[f32], gain: &[f32], shift: &[f32], eps: f32),
    norm_body::<false>(x, residual, gain, shift, eps), norm_body::<true>(x, residual, gain, shift, eps));
dispatch!(
    /// Inner product of two rows of equal length.
    dot(a: &[f32], b: &[f32]) -> f32, dot_body::<false>(a, b), dot_body::<true>(a, b));
dispatch!(
    /// `best[j] ← max(best[j], every row's element j)` for rows of `best.len()` floats.
    column_max(block: &[f32], best: &mut [f32]), column_max_body(block, best), column_max_body(block, best));

/// Scales a row to unit length; a zero row stays zero.
pub fn l2_normalize(row: &mut [f32]) {
    let norm = sum_of(row, |x| x * x).sqrt();
    if norm > 0.0 {
        let inverse = 1.0 / norm;
        row.iter_mut().for_each(|x| *x *= inverse);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// erf by its Maclaurin series in f64 (|z| ≤ 4), 1 beyond.
    fn erf(z: f64) -> f64 {
        if z.abs() > 4.0 {
            return z.signum();
        }
        let (mut term, mut sum) = (z, z);
        for n in 1..200 {
            term *= -z * z / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn exp_follows_the_library() {
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.0;
            for got in [exp::<false>(x), exp::<true>(x)] {
                let want = (x as f64).exp();
                assert!((got as f64 - want).abs() <= 3e-7 * want, "exp({x}) = {got} instead of {want}");
            }
        }
        assert_eq!(exp::<true>(-1000.0), 0.0);
        assert_eq!(exp::<true>(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn activations_follow_their_definitions() {
        for isa in Isa::available() {
            for i in -12_000..12_000 {
                let x = i as f32 / 1000.0;
                let d = x as f64;
                for (kind, want) in [
                    (Activation::Gelu, 0.5 * d * (1.0 + erf(d / 2f64.sqrt()))),
                    (Activation::GeluTanh, 0.5 * d * (1.0 + (0.7978845608 * (d + 0.044715 * d * d * d)).tanh())),
                    (Activation::Relu, d.max(0.0)),
                ] {
                    let mut row = [x];
                    activate(isa, kind, &mut row);
                    assert!(
                        (row[0] as f64 - want).abs() < 2e-6,
                        "{isa:?} {kind:?}({x}) = {} instead of {want}",
                        row[0]
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn rows_follow_their_definitions(values in proptest::collection::vec(-30f32..30.0, 1..200), scale in 0.01f32..1.0) {
            let n = values.len();
            let d: Vec<f64> = values.iter().map(|&x| x as f64).collect();
            let top = d.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let total: f64 = d.iter().map(|x| ((x - top) * scale as f64).exp()).sum();
            let mean = d.iter().sum::<f64>() * 1.5 / n as f64;
            let variance = d.iter().map(|x| (x * 1.5 - mean).powi(2)).sum::<f64>() / n as f64;
            let halves: Vec<f32> = values.iter().map(|x| x * 0.5).collect();
            for isa in Isa::available() {
                let mut soft = values.clone();
                softmax(isa, scale, &mut soft);
                let mut norm = values.clone();
                add_norm(isa, &mut norm, &halves, &vec![2.0; n], &vec![0.25; n], 1e-3);
                for i in 0..n {
                    let want = ((d[i] - top) * scale as f64).exp() / total;
                    prop_assert!((soft[i] as f64 - want).abs() < 1e-5, "{isa:?} softmax {} instead of {want}", soft[i]);
                    let want = (d[i] * 1.5 - mean) / (variance + 1e-3).sqrt() * 2.0 + 0.25;
                    prop_assert!((norm[i] as f64 - want).abs() < 1e-3, "{isa:?} norm {} instead of {want}", norm[i]);
                }
                let want: f64 = d.iter().map(|x| x * x * 0.5).sum();
                prop_assert!((dot(isa, &values, &halves) as f64 - want).abs() <= 1e-5 * want.max(1.0));
                let mut best = halves.clone();
                column_max(isa, &values, &mut best);
                prop_assert!(best.iter().zip(&values).zip(&halves).all(|((&b, &x), &y)| b == x.max(y)));
            }
        }
    }
}
