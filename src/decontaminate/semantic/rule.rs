//! The rules: logistic functions of measured agreement, with fixed coefficients.
//!
//! Fitted by `benches/semantic` to labelled pairs (rephrased questions, hand-written paraphrases; other items of the same
//! kind and clean text as negatives), never to planted truth. The probability a rule gives is the *confidence* of a verdict.

use super::measure::{FEATURES, Measures};

/// Logit of the sieve: share of the item's weight found, that weight, and the weight of the whole item.
pub fn sieve(share: f32, weight: f32, norm: f32) -> f32 {
    let size = norm.max(1.0).ln();
    SIEVE[0] + SIEVE[1] * share + SIEVE[2] * weight.max(0.1).ln() + SIEVE[3] * size + SIEVE[4] * share * size
}

/// Constant, share, ln weight, ln norm, share · ln norm.
pub const SIEVE: [f32; 5] = [-11.94, 10.443, 5.255, -2.134, 2.756];

/// Logit from which the sieve lets a stretch through.
pub const SIEVE_LEAST: f32 = 0.0;

/// Share of a program's weight below which structure says nothing.
pub const STRUCTURE_LEAST: f32 = 0.3;

/// Confidence that a stretch with this share of a program's shingles, so many of them, is that program under other names.
pub fn structure(share: f32, matched: u32) -> f32 {
    probability(STRUCTURE[0] + STRUCTURE[1] * share + STRUCTURE[2] * (1.0 + matched as f32).ln())
}

/// Constant, share, ln matched shingles.
pub const STRUCTURE: [f32; 3] = [-16.0, 14.0, 2.5];

/// Coefficients of one column's rule; see `measure.rs` for what each weighs.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub constant: f32,
    pub weights: [f32; FEATURES],
}

/// The semantic column's.
pub const SEMANTIC: Rule = Rule { constant: 0.0, weights: [0.0; FEATURES] };

/// The code column's, for problems restated with a program.
pub const CODE: Rule = Rule { constant: 0.0, weights: [0.0; FEATURES] };

impl Rule {
    /// Probability that the window says what the item says.
    pub fn confidence(&self, measures: &Measures) -> f32 {
        let logit: f32 = self.weights.iter().zip(measures.features()).map(|(w, x)| w * x).sum();
        probability(logit + self.constant)
    }
}

fn probability(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}
