//! Collectors of neighbours: the `k` best, or all at or above a similarity.
//!
//! The order is total (higher score first, then lower row), so what is kept does not depend on the order of arrival.
//! A score that is not a number is never kept. Cost: O(log k) for a hit that enters, O(1) for one that does not.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Hit;

/// Best first: higher score, then lower row.
pub fn by_score(a: &Hit, b: &Hit) -> Ordering {
    b.score.total_cmp(&a.score).then(a.row.cmp(&b.row))
}

/// Takes hits in any order.
pub trait Collector: Send {
    /// A hit with a score below this cannot be kept.
    fn threshold(&self) -> f32;
    fn push(&mut self, hit: Hit);
    /// What was kept, best first.
    fn into_sorted(self) -> Vec<Hit>;
}

struct Worst(Hit);

impl PartialEq for Worst {
    fn eq(&self, other: &Worst) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Worst {}
impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Worst) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Worst {
    fn cmp(&self, other: &Worst) -> Ordering {
        by_score(&self.0, &other.0)
    }
}

/// Keeps the `k` best hits.
pub struct TopK {
    k: usize,
    heap: BinaryHeap<Worst>,
}

impl TopK {
    pub fn new(k: usize) -> TopK {
        TopK { k, heap: BinaryHeap::with_capacity(k.min(4096)) }
    }

    /// Whether `k` hits are held, so that others may have been dropped.
    pub fn is_full(&self) -> bool {
        self.heap.len() >= self.k
    }
}

impl Collector for TopK {
    fn threshold(&self) -> f32 {
        match self.heap.peek() {
            Some(worst) if self.is_full() => worst.0.score,
            None if self.k == 0 => f32::INFINITY,
            _ => f32::NEG_INFINITY,
        }
    }

    fn push(&mut self, hit: Hit) {
        if hit.score.is_nan() || self.k == 0 {
            return;
        }
        if !self.is_full() {
            self.heap.push(Worst(hit));
        } else if let Some(mut worst) = self.heap.peek_mut()
            && by_score(&hit, &worst.0) == Ordering::Less
        {
            *worst = Worst(hit);
        }
    }

    fn into_sorted(self) -> Vec<Hit> {
        self.heap.into_sorted_vec().into_iter().map(|w| w.0).collect()
    }
}

/// Keeps every hit with a score of at least `at_least`.
pub struct Above {
    pub at_least: f32,
    pub hits: Vec<Hit>,
}

impl Collector for Above {
    fn threshold(&self) -> f32 {
        self.at_least
    }

    fn push(&mut self, hit: Hit) {
        if hit.score >= self.at_least {
            self.hits.push(hit);
        }
    }

    fn into_sorted(mut self) -> Vec<Hit> {
        self.hits.sort_unstable_by(by_score);
        self.hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_best_k_of_a_sort(scores in prop::collection::vec(-3i8..3, 0..60), k in 0usize..12) {
            let hits: Vec<Hit> = scores.iter().enumerate().map(|(i, &s)| Hit { row: i as u32, score: f32::from(s) }).collect();
            let mut expected = hits.clone();
            expected.sort_by(by_score);
            expected.truncate(k);
            let mut top = TopK::new(k);
            for &hit in hits.iter().rev() {
                if hit.score >= top.threshold() {
                    top.push(hit);
                }
            }
            prop_assert_eq!(top.into_sorted(), expected);
        }
    }

    #[test]
    fn not_a_number_is_never_kept() {
        let mut top = TopK::new(2);
        top.push(Hit { row: 0, score: f32::NAN });
        top.push(Hit { row: 1, score: -1.0 });
        assert_eq!(top.into_sorted(), vec![Hit { row: 1, score: -1.0 }]);
    }
}
