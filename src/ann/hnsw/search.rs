//! Walking the graph: greedy descent, then a best-first search of one level with a bounded list of candidates.

use super::super::element::{Prepared, Rows};
use super::super::topk::{Collector, TopK, by_score};
use super::super::{Hit, Keep};
use super::Links;

/// Memory of one search, reused by the next.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Round in which a row was last seen.
    seen: Vec<u32>,
    round: u32,
    /// Candidates, best first.
    list: Vec<Candidate>,
    fresh: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    hit: Hit,
    expanded: bool,
}

impl Scratch {
    fn start(&mut self, rows: usize) {
        if self.seen.len() < rows {
            self.seen.resize(rows, 0);
        }
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.seen.fill(0);
            self.round = 1;
        }
        self.list.clear();
    }

    /// Candidates of the last search of a level, best first.
    pub fn found(&self) -> impl Iterator<Item = Hit> + '_ {
        self.list.iter().map(|candidate| candidate.hit)
    }
}

/// Moves to the best neighbour of `from` on `level` until none is better.
pub fn descend(rows: &Rows, links: &Links, query: &Prepared, mut from: Hit, level: u32) -> Hit {
    loop {
        let list = links.of(from.row, level);
        list.iter().for_each(|&row| rows.prefetch(row));
        let best = list
            .iter()
            .map(|&row| Hit { row, score: rows.score(query, row) })
            .fold(from, |best, hit| if hit.score > best.score { hit } else { best });
        if best.row == from.row {
            return from;
        }
        from = best;
    }
}

/// Best-first search of one level from `from`, leaving the `ef` best rows seen in `scratch`. `visit` is told every row
/// that is scored.
#[allow(clippy::too_many_arguments)]
pub fn search_level(
    rows: &Rows,
    links: &Links,
    count: usize,
    query: &Prepared,
    from: &[Hit],
    ef: usize,
    level: u32,
    scratch: &mut Scratch,
    mut visit: impl FnMut(Hit),
) {
    scratch.start(count);
    let Scratch { seen, round, list, fresh } = scratch;
    for &hit in from.iter().take(ef) {
        seen[hit.row as usize] = *round;
        list.push(Candidate { hit, expanded: false });
        visit(hit);
    }
    list.sort_unstable_by(|a, b| by_score(&a.hit, &b.hit));
    let mut next = 0;
    while next < list.len() {
        if list[next].expanded {
            next += 1;
            continue;
        }
        list[next].expanded = true;
        fresh.clear();
        for &row in links.of(list[next].hit.row, level) {
            // A row beyond the end can only come from a damaged file.
            if let Some(mark) = seen.get_mut(row as usize)
                && *mark != *round
                && (row as usize) < count
            {
                *mark = *round;
                rows.prefetch(row);
                fresh.push(row);
            }
        }
        let mut lowest = list.len();
        for &row in fresh.iter() {
            let hit = Hit { row, score: rows.score(query, row) };
            visit(hit);
            if let Some(worst) = list.last()
                && list.len() >= ef
                && by_score(&hit, &worst.hit).is_gt()
            {
                continue;
            }
            let at = list.partition_point(|candidate| by_score(&candidate.hit, &hit).is_lt());
            if list.len() >= ef {
                list.pop();
            }
            list.insert(at, Candidate { hit, expanded: false });
            lowest = lowest.min(at);
        }
        next = if lowest <= next { lowest } else { next + 1 };
    }
}

/// The `k` best rows for one query, best first.
#[allow(clippy::too_many_arguments)]
pub fn search(
    rows: &Rows,
    links: &Links,
    (entry, entry_level): (u32, u32),
    query: &[f32],
    k: usize,
    ef: usize,
    keep: Option<Keep>,
    scratch: &mut Scratch,
) -> Vec<Hit> {
    let count = links.upper_offsets.len().saturating_sub(1);
    if count == 0 || k == 0 {
        return Vec::new();
    }
    let prepared = rows.prepare(query);
    let mut from = Hit { row: entry, score: rows.score(&prepared, entry) };
    for level in (1..=entry_level).rev() {
        from = descend(rows, links, &prepared, from, level);
        if from.row as usize >= count {
            return Vec::new();
        }
    }
    let Some(keep) = keep else {
        search_level(rows, links, count, &prepared, &[from], ef, 0, scratch, |_| {});
        return scratch.found().filter(|hit| !hit.score.is_nan()).take(k).collect();
    };
    let mut ef = ef;
    loop {
        let mut best = TopK::new(k);
        search_level(rows, links, count, &prepared, &[from], ef, 0, scratch, |hit| {
            if hit.score >= best.threshold() && keep(hit.row) {
                best.push(hit);
            }
        });
        if best.is_full() {
            return best.into_sorted();
        }
        ef *= 4;
        if ef > count / 8 {
            break;
        }
    }
    let mut best = TopK::new(k);
    for row in (0..count as u32).filter(|&row| keep(row)) {
        best.push(Hit { row, score: rows.score(&prepared, row) });
    }
    best.into_sorted()
}
