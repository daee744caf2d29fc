//! Our builder: insertion in batches, the same graph at any number of threads.
//!
//! Rows are inserted in a seeded random order, in batches that grow with the graph (at most 1/50 of it, as in ParlayANN,
//! arXiv 2305.04359). Each batch (a) searches the graph as it was, in parallel, and picks neighbours by the heuristic of
//! the HNSW paper; (b) collects the edges back, grouped by the row they reach, and prunes full lists, in parallel; (c)
//! writes the lists. No step depends on what another thread has done, so there are no locks and no races.
//!
//! Cost: one search at `ef_construction` a row, and the pruning; memory: the graph, the stored vectors and 4 bytes a row and thread.

use std::path::Path;

use rayon::prelude::*;

use super::super::element::Rows;
use super::super::topk::by_score;
use super::super::{Hit, Source};
use super::search::{Scratch, descend, search_level};
use super::{Graph, HnswParams, MAX_LEVEL, store};
use crate::error::Result;

/// Share of the graph that a batch may have.
const BATCH_SHARE: usize = 50;

/// Builds a graph over the rows of `source` and writes it to `path`.
pub fn build(source: &Source, params: &HnswParams, path: &Path) -> Result<()> {
    let stored = store(source, params)?;
    let graph = graph(&stored.rows(source.dim()), source.len(), params)?;
    graph.write(path, source.dim(), params.element, &stored)
}

fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Level of a row: geometric with factor 1/M.
fn level(row: u32, params: &HnswParams) -> u32 {
    let uniform = ((mix(u64::from(row) ^ mix(params.seed)) >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
    ((-uniform.ln() / (params.m as f64).ln()) as u32).min(MAX_LEVEL)
}

/// Neighbours picked for a row on a level.
struct Picked {
    row: u32,
    level: u32,
    list: Vec<Hit>,
}

fn graph(rows: &Rows, count: usize, params: &HnswParams) -> Result<Graph> {
    let levels: Vec<u32> = (0..count as u32).map(|row| level(row, params)).collect();
    let mut graph = Graph::empty(&levels, params.m, params.ef_construction)?;
    let mut order: Vec<u32> = (0..count as u32).collect();
    order.sort_by_key(|&row| (mix(u64::from(row) ^ mix(!params.seed)), row));
    let Some((&first, mut rest)) = order.split_first() else { return Ok(graph) };
    (graph.entry, graph.entry_level) = (first, levels[first as usize]);
    let mut inserted = 1usize;
    while !rest.is_empty() {
        let size = (inserted / BATCH_SHARE).clamp(1, 20_000).min(rest.len());
        let (batch, later) = rest.split_at(size);
        rest = later;
        inserted += size;
        let picked: Vec<Picked> = batch
            .par_iter()
            .map_init(Scratch::default, |scratch, &row| pick(rows, &graph, count, row, params, scratch))
            .flatten_iter()
            .collect();
        for Picked { row, level, list } in &picked {
            let list: Vec<u32> = list.iter().map(|hit| hit.row).collect();
            graph.set(*row, *level, &list);
        }
        for (target, level, list) in back(rows, &graph, &picked) {
            graph.set(target, level, &list);
        }
        for &row in batch {
            if levels[row as usize] > graph.entry_level {
                (graph.entry, graph.entry_level) = (row, levels[row as usize]);
            }
        }
    }
    Ok(graph)
}

/// Searches the graph for one row and picks its neighbours on each of its levels.
fn pick(rows: &Rows, graph: &Graph, count: usize, row: u32, params: &HnswParams, scratch: &mut Scratch) -> Vec<Picked> {
    let links = graph.links();
    let mut decoded = Vec::with_capacity(rows.dim);
    rows.decode(row, &mut decoded);
    let query = rows.prepare(&decoded);
    let own = graph.level(row);
    let mut from = Hit { row: graph.entry, score: rows.score(&query, graph.entry) };
    for level in (own + 1..=graph.entry_level).rev() {
        from = descend(rows, &links, &query, from, level);
    }
    let mut starts = vec![from];
    let mut picked = Vec::new();
    for level in (0..=own.min(graph.entry_level)).rev() {
        search_level(rows, &links, count, &query, &starts, params.ef_construction, level, scratch, |_| {});
        starts = scratch.found().collect();
        let list = diverse(rows, &starts, params.m);
        picked.push(Picked { row, level, list });
    }
    picked
}

/// The heuristic of the paper: a candidate is taken unless it is at least as near to one already taken as to the row.
/// (Equally near counts as near, so that copies of one text do not fill each other's lists and cut themselves off.)
fn diverse(rows: &Rows, sorted: &[Hit], most: usize) -> Vec<Hit> {
    let mut taken: Vec<Hit> = Vec::with_capacity(most);
    for &hit in sorted {
        if taken.len() >= most {
            break;
        }
        if taken.iter().all(|other| rows.pair(hit.row, other.row) < hit.score) {
            taken.push(hit);
        }
    }
    taken
}

/// New lists of the rows that a batch's edges reach.
fn back(rows: &Rows, graph: &Graph, picked: &[Picked]) -> Vec<(u32, u32, Vec<u32>)> {
    let mut edges: Vec<(u32, u32, Hit)> = picked
        .iter()
        .flat_map(|p| p.list.iter().map(move |hit| (hit.row, p.level, Hit { row: p.row, score: hit.score })))
        .collect();
    edges.par_sort_unstable_by(|a, b| (a.0, a.1, a.2.row).cmp(&(b.0, b.1, b.2.row)));
    let groups: Vec<&[(u32, u32, Hit)]> = edges.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)).collect();
    let links = graph.links();
    groups
        .par_iter()
        .map(|group| {
            let (target, level, _) = group[0];
            let most = if level == 0 { 2 * graph.m } else { graph.m };
            let old = links.of(target, level);
            let list = if old.len() + group.len() <= most {
                old.iter().copied().chain(group.iter().map(|edge| edge.2.row)).collect()
            } else {
                old.iter().for_each(|&row| rows.prefetch(row));
                let mut all: Vec<Hit> = old.iter().map(|&row| Hit { row, score: rows.pair(target, row) }).collect();
                all.extend(group.iter().map(|edge| Hit { row: edge.2.row, score: rows.pair(target, edge.2.row) }));
                all.sort_unstable_by(by_score);
                diverse(rows, &all, most).iter().map(|hit| hit.row).collect()
            };
            (target, level, list)
        })
        .collect()
}
