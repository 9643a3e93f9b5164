//! Brings chosen candidates together: see `gather.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::Kernel;
#[cfg(test)]
use super::{Candidate, NONE};

/// Threads of a workgroup.
pub(crate) const THREADS: u32 = 64;

#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub(crate) queries: u32,
    pub(crate) grid_x: u32,
    pub(crate) capacity: u32,
    pub(crate) keep: u32,
}

pub(crate) fn kernel() -> Kernel {
    Kernel {
        name: "gather",
        parts: &[include_str!("gather.wgsl")],
        constants: Vec::new(),
        writes: &[false, false, true],
    }
}

/// The twin.
#[cfg(test)]
pub(crate) fn gather(
    p: &Params,
    candidates: &[Candidate],
    best: &[[u32; 2]],
    chosen: &mut [Candidate],
) {
    for i in 0..(p.queries * p.keep) as usize {
        let query = i / p.keep as usize;
        chosen[i] = match best[i][1] {
            NONE => [NONE; 4],
            number => candidates[query * p.capacity as usize + number as usize],
        };
    }
}
