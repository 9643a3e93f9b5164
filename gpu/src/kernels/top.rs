//! The best candidates of each query: see `top.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::Kernel;
#[cfg(test)]
use super::{Candidate, NONE};

#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub(crate) queries: u32,
    pub(crate) grid_x: u32,
    pub(crate) capacity: u32,
    pub(crate) keep: u32,
    pub(crate) limit: u32,
    pub(crate) by_rank: u32,
    pub(crate) count: u32,
    pub(crate) unused: u32,
}

/// The most candidates that are kept.
pub(crate) const MOST: u32 = 1024;

/// For so many candidates that are kept, at most [`MOST`].
pub(crate) fn kernel(keep: u32) -> Kernel {
    Kernel {
        name: "top",
        parts: &[include_str!("top.wgsl")],
        constants: vec![("HALF", keep.next_power_of_two().clamp(128, MOST))],
        writes: &[false, true, true],
    }
}

/// The twin.
#[cfg(test)]
pub(crate) fn top(p: &Params, candidates: &[Candidate], state: &mut [u32], best: &mut [[u32; 2]]) {
    let keep = p.keep as usize;
    for query in 0..p.queries as usize {
        let count = if p.count == 0 { state[p.queries as usize + query] } else { p.count };
        let own = &candidates[query * p.capacity as usize..][..count.min(p.capacity) as usize];
        let mut all: Vec<[u32; 2]> =
            (0..).zip(own).map(|(i, c)| [c[0], if p.by_rank == 1 { c[3] } else { i }]).collect();
        all.sort_unstable();
        all.resize(keep.max(all.len()), [NONE; 2]);
        best[query * keep..(query + 1) * keep].copy_from_slice(&all[..keep]);
        if p.limit > 0 {
            state[query] = all[p.limit as usize - 1][0];
        }
    }
}
