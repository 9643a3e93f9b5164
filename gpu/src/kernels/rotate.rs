//! Rotates rows of integers: see `rotate.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::Kernel;

#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub(crate) rows: u32,
    pub(crate) grid_x: u32,
    pub(crate) zero: u32,
    pub(crate) depth: u32,
    pub(crate) dims: u32,
    pub(crate) start: u32,
    pub(crate) centroid: u32,
    pub(crate) unused: u32,
}

/// Rows and dimensions of a thread, of which 16 are on each side of a workgroup.
const EACH: usize = 4;
/// Rows that a workgroup takes, and dimensions.
const TILE: usize = 16 * EACH;

/// For integers of 16 or of 8 bits.
pub(crate) fn kernel(bits: u32) -> Kernel {
    Kernel {
        name: "rotate",
        parts: &[include_str!("exact.wgsl"), include_str!("rotate.wgsl")],
        constants: vec![("EACH", EACH as u32), ("BITS", bits)],
        writes: &[false, false, false, false, false, false, true],
    }
}

/// Workgroups for so many rows and dimensions.
pub(crate) fn groups(rows: usize, dims: usize) -> u32 {
    (rows.div_ceil(TILE) * dims.div_ceil(TILE)) as u32
}

/// The twin.
#[cfg(test)]
pub(crate) fn rotate(
    p: &Params,
    bits: u32,
    values: &[u32],
    factors: &[f32],
    rotation: &[u32],
    scales: &[f32],
    lists: &[u32],
    centroids: &[f32],
    rotated: &mut [f32],
) {
    let integers = |words: &[u32]| -> Vec<i32> {
        let of_word = |&word: &u32| {
            (0..32 / bits).map(move |n| ((word << (32 - bits * (n + 1))) as i32) >> (32 - bits))
        };
        words.iter().flat_map(of_word).collect()
    };
    let (rows, depth) = (p.rows as usize, p.depth as usize);
    for row in 0..rows {
        let of_row = integers(&values[row * depth..(row + 1) * depth]);
        for dim in 0..p.dims as usize {
            let of_dim = integers(&rotation[dim * depth..(dim + 1) * depth]);
            let product: i32 = of_row.iter().zip(&of_dim).map(|(x, y)| x * y).sum();
            let mut o = product as f32 * (scales[dim] * factors[row]);
            let at = p.start as usize + dim;
            if p.centroid > 0 {
                o -= centroids[lists[row] as usize * p.centroid as usize + at];
            }
            rotated[at * rows + row] = o;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::cast_slice;
    use nonius::random::Random;

    use super::super::testing::{context, run};
    use super::*;

    #[test]
    fn rotated_rows_are_those_of_the_twin() {
        let Some(context) = context() else { return };
        let mut random = Random::new(8, 0);
        for (bits, rows, dims, start, depth) in
            [(16, 1, 8, 0, 1), (16, 130, 70, 8, 9), (8, 65, 64, 0, 16), (8, 30, 129, 64, 33)]
        {
            for centroid in [0, 200] {
                // Magnitudes are those of rows whose norms bound their products.
                let integers = |random: &mut Random, count: u32| -> Vec<u32> {
                    let mask = if bits == 16 { 0x03ff_03ff } else { u32::MAX };
                    let signs = if bits == 16 { 0xfc00_fc00 } else { 0 };
                    (0..count)
                        .map(|_| {
                            let word = random.next_u64() as u32 & mask;
                            if random.below(2) == 0 { word } else { word | signs }
                        })
                        .collect()
                };
                let floats = |random: &mut Random, count: u32| -> Vec<f32> {
                    (0..count).map(|_| 1e-4 * random.normal() as f32).collect()
                };
                let values = integers(&mut random, rows * depth);
                let rotation = integers(&mut random, dims * depth);
                let mut factors = floats(&mut random, rows);
                factors[0] = 0.0;
                let scales = floats(&mut random, dims);
                let lists: Vec<u32> = (0..rows).map(|_| random.below(3) as u32).collect();
                let centroids = floats(&mut random, 3 * 200);
                let mut expected = vec![0.0f32; ((start + dims) * rows) as usize];
                let before = expected.clone();
                let mut params = Params { rows, depth, dims, start, centroid, ..Params::default() };
                let buffers: [&[u32]; 7] = [
                    &values,
                    cast_slice(&factors),
                    &rotation,
                    cast_slice(&scales),
                    &lists,
                    cast_slice(&centroids),
                    cast_slice(&before),
                ];
                let groups = groups(rows as usize, dims as usize);
                let found = run(
                    context,
                    &kernel(bits),
                    groups,
                    |grid_x| {
                        params.grid_x = grid_x;
                        params
                    },
                    &buffers,
                );
                rotate(
                    &params,
                    bits,
                    &values,
                    &factors,
                    &rotation,
                    &scales,
                    &lists,
                    &centroids,
                    &mut expected,
                );
                assert_eq!(found[0], cast_slice::<f32, u32>(&expected), "{params:?}");
            }
        }
    }
}
