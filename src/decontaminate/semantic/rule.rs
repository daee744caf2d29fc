//! The rules: logistic functions of measured agreement, with fixed coefficients.
//!
//! Fitted by `benches/semantic` to labelled pairs (rephrased questions, hand-written paraphrases; other items of the same
//! kind and clean text as negatives), never to planted truth. The probability a rule gives is the *confidence* of a verdict.
//! Each was fitted to what the stage before it let through at the time: the first look and the columns' own rules before there was a
//! second look, which lets more through. Fitted again to that, the columns' rules find fewer paraphrases at the same confidence.

use super::measure::{FEATURES, LOOK, Measures};

/// Logit of the sieve: share of the item's weight found, that weight, and the weight of the whole item.
pub fn sieve(share: f32, weight: f32, norm: f32) -> f32 {
    let size = norm.max(1.0).ln();
    SIEVE[0] + SIEVE[1] * share + SIEVE[2] * weight.max(0.1).ln() + SIEVE[3] * size + SIEVE[4] * share * size
}

/// Constant, share, ln weight, ln norm, share · ln norm.
pub const SIEVE: [f32; 5] = [-6.850, -14.569, 4.447, -3.992, 7.350];

/// Logit from which the first look lets a program through (far below a half, because a stretch too many costs an encoding and one too
/// few a leak); other items from a little below it are rivals.
pub const SIEVE_LEAST: f32 = -3.0;

/// Logit of the first look from which a candidate is looked at a second time.
pub const FIRST_LEAST: f32 = -6.5;

/// Logit of the second look, which reads the window that would go to the encoder.
pub fn second(look: &[f32; LOOK]) -> f32 {
    SECOND_CONSTANT + SECOND.iter().zip(look).map(|(w, x)| w * x).sum::<f32>()
}

const SECOND_CONSTANT: f32 = 6.942;

/// See [`Measures::look`].
const SECOND: [f32; LOOK] = [
    0.998,  // logit of the first look
    -3.476, // recall
    1.627,  // precision
    -1.516, // numbers of the item missing
    -1.568, // numbers of the window missing
    3.840,  // numbers shared
    -1.535, // names missing
    -1.279, // log terms of the item
    -1.205, // log length ratio
    -2.080, // recall x log terms
    1.968,  // window asks
];

/// Logit from which the second look lets prose through. Programs go by the first look and [`SIEVE_LEAST`]: too few are labelled.
/// At -3.7 the planted corpus has 78 windows of clean text encoded, at -4 127, at -5 273, for one more planted paraphrase each time.
pub const SECOND_LEAST: f32 = -4.0;

/// Share of a program's weight below which structure says nothing.
pub const STRUCTURE_LEAST: f32 = 0.3;

/// Confidence that a stretch with this share of a program's shingles, so many of them, is that program under other names.
pub fn structure(share: f32, matched: u32) -> f32 {
    probability(STRUCTURE[0] + STRUCTURE[1] * share + STRUCTURE[2] * (1.0 + matched as f32).ln())
}

/// Constant, share, ln matched shingles.
pub const STRUCTURE: [f32; 3] = [-7.4708, 13.3664, 0.0055];

/// Coefficients of one column's rule; see `measure.rs` for what each weighs.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub constant: f32,
    pub weights: [f32; FEATURES],
}

/// The semantic column's.
pub const SEMANTIC: Rule = Rule {
    constant: -16.1322,
    weights: [
        12.1299, // cosine
        12.0501, // maxsim of the item
        0.6392,  // maxsim of the window
        8.6225,  // margin
        -0.4487, // z of the item
        0.0257,  // z of the window
        -1.0627, // recall
        -2.6716, // precision
        -1.1891, // numbers of the item missing
        -1.3169, // numbers of the window missing
        3.6627,  // numbers shared
        -1.9519, // names missing
        1.0267,  // log terms of the item
        -0.8443, // log length ratio
        -2.2228, // cosine x log terms
        -0.9246, // recall x log terms
        3.3984,  // weakest token
    ],
};

/// The code column's, for problems restated with a program.
pub const CODE: Rule = Rule {
    constant: -15.1668,
    weights: [
        10.4534,  // cosine
        5.9431,   // maxsim of the item
        20.5784,  // maxsim of the window
        7.9817,   // margin
        -0.3888,  // z of the item
        -0.3479,  // z of the window
        -3.1343,  // recall
        -6.9753,  // precision
        -2.1058,  // numbers of the item missing
        -0.8412,  // numbers of the window missing
        2.0667,   // numbers shared
        0.4351,   // names missing
        -0.2151,  // log terms of the item
        2.7633,   // log length ratio
        1.5838,   // cosine x log terms
        3.2962,   // recall x log terms
        -22.5742, // weakest token
    ],
};

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
