//! Matches that allow mismatches: primitive evidence of `llama2`.
//!
//! A match lies on one diagonal of document and component and ends on an equal word. It begins with `exact_start` equal
//! words, or, with 0, on any equal word. Each holds one of the exact runs, so only what surrounds runs is looked at.

use super::protocol::Llama2;
use super::scan::{Run, Scan};

/// Which matches count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Skipgrams {
    n: usize,
    mismatches: usize,
    exact_start: usize,
}

impl Skipgrams {
    pub fn new(llama2: &Llama2) -> Skipgrams {
        Skipgrams { n: llama2.n, mismatches: llama2.mismatches, exact_start: llama2.exact_start }
    }

    /// Counts the component's words that are equal in such a match.
    pub fn words(self, scan: &Scan, component: &[u32], runs: &[Run]) -> u32 {
        let mut hit = vec![false; component.len()];
        for run in runs.iter().filter(|run| run.words as usize >= self.exact_start) {
            let (d, q) = (run.document as i64, run.component as i64);
            let equal = |at: i64| scan.ids[(d + at) as usize] == component[(q + at) as usize];
            let (low, high) = (-d.min(q), (scan.ids.len() as i64 - d).min(component.len() as i64 - q));
            // Reach of the match when k mismatches are spent on one side; it ends on an equal word.
            let reach = |steps: &mut dyn Iterator<Item = i64>, from: i64| {
                let mut ends = vec![from; self.mismatches + 1];
                let mut spent = 0;
                for at in steps {
                    if equal(at) {
                        ends[spent] = at;
                    } else {
                        spent += 1;
                        if spent > self.mismatches {
                            break;
                        }
                        ends[spent] = ends[spent - 1];
                    }
                }
                for k in spent.min(self.mismatches) + 1..ends.len() {
                    ends[k] = ends[k - 1];
                }
                ends
            };
            let last = i64::from(run.words) - 1;
            let left = match self.exact_start {
                0 => reach(&mut (low..0).rev(), 0),
                _ => vec![0; self.mismatches + 1],
            };
            let right = reach(&mut (last + 1..high), last);
            for k in 0..=self.mismatches {
                let (from, to) = (left[k], right[self.mismatches - k]);
                if to - from + 1 >= self.n as i64 {
                    for at in from..=to {
                        hit[(q + at) as usize] |= equal(at);
                    }
                }
            }
        }
        hit.iter().filter(|h| **h).count() as u32
    }
}
