//! The best candidates of each query where they are many: see `select.wgsl`.

use super::Kernel;
pub(crate) use super::gather::Params;

pub(crate) fn kernel() -> Kernel {
    Kernel {
        name: "select",
        parts: &[include_str!("select.wgsl")],
        constants: Vec::new(),
        writes: &[false, false, true],
    }
}

/// The twin; the best are in their order.
#[cfg(test)]
fn select(p: &Params, candidates: &[super::Candidate], state: &[u32], best: &mut [[u32; 2]]) {
    for (query, best) in best.chunks_exact_mut(p.keep as usize).enumerate() {
        let count = state[p.queries as usize + query].min(p.capacity) as usize;
        let own = &candidates[query * p.capacity as usize..][..count];
        let mut all: Vec<[u32; 2]> = own.iter().map(|c| [c[0], c[3]]).collect();
        all.sort_unstable();
        all.truncate(best.len());
        all.retain(|entry| entry[0] != super::NONE);
        all.resize(best.len(), [super::NONE; 2]);
        best.copy_from_slice(&all);
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::cast_slice;
    use nonius::random::Random;

    use super::super::testing::{context, run};
    use super::super::{Candidate, NONE};
    use super::*;

    #[test]
    fn the_best_of_many_are_selected() {
        let Some(context) = context() else { return };
        let mut random = Random::new(6, 0);
        for (capacity, keep, keys) in [
            (3000, 1100, u64::MAX),
            (1500, 1499, 1 << 9),
            (700, 1200, 1 << 40),
            (900, 3, 2),
            (5, 1, 1),
        ] {
            let queries = 4u32;
            let mut ranks: Vec<u32> =
                (0..queries * capacity).map(|i| i.wrapping_mul(0x10_0201)).collect();
            random.shuffle(&mut ranks);
            let candidates: Vec<Candidate> = ranks
                .iter()
                .enumerate()
                .map(|(i, &rank)| {
                    let key = if i % 11 == 5 { NONE } else { random.below(keys) as u32 };
                    [key, 0, 0, rank]
                })
                .collect();
            let mut state = vec![0; 2 * queries as usize];
            state[queries as usize..].copy_from_slice(&[capacity, 0, capacity / 2, capacity + 7]);
            let mut params = Params { queries, grid_x: 0, capacity, keep };
            let empty = vec![[7u32; 2]; (queries * keep) as usize];
            let buffers: [&[u32]; 3] = [cast_slice(&candidates), &state, cast_slice(&empty)];
            let found = run(
                context,
                &kernel(),
                queries,
                |grid_x| {
                    params.grid_x = grid_x;
                    params
                },
                &buffers,
            );
            let mut expected = empty;
            select(&params, &candidates, &state, &mut expected);
            let mut found: Vec<[u32; 2]> = cast_slice(&found[0]).to_vec();
            found.chunks_exact_mut(keep as usize).for_each(<[_]>::sort_unstable);
            assert!(found == expected, "{keep} of {capacity}");
        }
    }
}
