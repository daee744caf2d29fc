//! The graph of the `hnsw_rs` crate, written as our file.
//!
//! The crate keeps its graph in memory and maps only vectors; exporting its neighbour lists gives it our reader: mapped,
//! checked, filtered, without a lifetime. Its multi-threaded insertion is not reproducible; on one thread it is not
//! either, as its levels come from an unseeded generator.

use std::path::Path;

use hnsw_rs::prelude::{DistPtr, Hnsw};

use super::super::kernel::{Isa, dot};
use super::{Graph, HnswParams, MAX_LEVEL, store};
use crate::error::{Error, Result};

/// Builds a graph with `hnsw_rs` on the threads of the current pool and writes it to `path`.
pub fn build_with_hnsw_rs(vectors: &[f32], dim: usize, params: &HnswParams, path: &Path) -> Result<()> {
    let stored = store(vectors, dim, params)?;
    let count = vectors.len() / dim;
    if count == 0 {
        return Graph::empty(&[], params.m, params.ef_construction)?.write(path, dim, params.element, &stored);
    }
    let layers = 16;
    let distance: fn(&[f32], &[f32]) -> f32 = |a, b| 1.0 - dot(Isa::detect(), a, b);
    let hnsw = Hnsw::new(params.m, count.max(1), layers, params.ef_construction, DistPtr::new(distance));
    let rows: Vec<(&[f32], usize)> = vectors.chunks_exact(dim).zip(0..).collect();
    // The first row alone: the entry point must exist before threads race for it.
    if let Some((&first, rest)) = rows.split_first() {
        hnsw.insert_slice(first);
        hnsw.parallel_insert_slice(&rest.to_vec());
    }
    let points = hnsw.get_point_indexation();
    let mut lists: Vec<Vec<Vec<u32>>> = vec![Vec::new(); count];
    for point in points {
        let level = u32::from(point.get_point_id().0).min(MAX_LEVEL) as usize;
        let neighbours = point.get_neighborhood_id();
        let row = point.get_origin_id();
        let own = (0..=level).map(|l| {
            neighbours.get(l).map(|near| near.iter().map(|n| n.get_origin_id() as u32).collect()).unwrap_or_default()
        });
        match lists.get_mut(row) {
            Some(list) => *list = own.collect(),
            None => return Err(Error::invalid(format!("hnsw_rs returned row {row} of {count}"))),
        }
    }
    let levels: Vec<u32> = lists.iter().map(|list| list.len().saturating_sub(1) as u32).collect();
    let mut graph = Graph::empty(&levels, params.m, params.ef_construction)?;
    for (row, list) in lists.iter().enumerate() {
        for (level, near) in list.iter().enumerate() {
            let most = if level == 0 { 2 * params.m } else { params.m };
            // Only rows that exist on the level can be walked on from.
            let near: Vec<u32> =
                near.iter().copied().filter(|&r| levels[r as usize] as usize >= level).take(most).collect();
            graph.set(row as u32, level as u32, &near);
        }
    }
    if let Some((entry, &level)) =
        levels.iter().enumerate().max_by_key(|&(row, &level)| (level, std::cmp::Reverse(row)))
    {
        (graph.entry, graph.entry_level) = (entry as u32, level);
    }
    graph.write(path, dim, params.element, &stored)
}
