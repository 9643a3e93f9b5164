//! Keeps what was chosen first: see `carry.wgsl`.

use super::Kernel;
pub(crate) use super::gather::{Params, THREADS};
#[cfg(test)]
use super::{Candidate, NONE};

pub(crate) fn kernel() -> Kernel {
    Kernel {
        name: "carry",
        parts: &[include_str!("carry.wgsl")],
        constants: Vec::new(),
        writes: &[false, false, true, true],
    }
}

/// The twin. What it adds comes in another order.
#[cfg(test)]
pub(crate) fn carry(
    p: &Params,
    best: &[[u32; 2]],
    chosen: &[Candidate],
    state: &mut [u32],
    candidates: &mut [Candidate],
) {
    for i in 0..(p.queries * p.keep) as usize {
        let query = i / p.keep as usize;
        let limit = state[query];
        if chosen[i][1] != NONE && best[i][0] > limit && chosen[i][0] <= limit {
            let count = &mut state[p.queries as usize + query];
            if *count < p.capacity {
                candidates[query * p.capacity as usize + *count as usize] = chosen[i];
            }
            *count += 1;
        }
    }
}
