//! The nearest centroids of rows: see `nearest.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::Kernel;

#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub(crate) rows: u32,
    pub(crate) grid_x: u32,
    pub(crate) depth: u32,
    pub(crate) centroids: u32,
    pub(crate) first: u32,
    pub(crate) goes_on: u32,
    pub(crate) unused: [u32; 2],
}

/// Rows and centroids of a thread, of which 16 are on each side of a workgroup.
const EACH: usize = 8;
/// Rows that a workgroup takes.
pub(crate) const TILE: usize = 16 * EACH;
/// Dimensions are padded to a multiple of it.
pub(crate) const SLICE: usize = 8;

pub(crate) fn kernel() -> Kernel {
    Kernel {
        name: "nearest",
        parts: &[include_str!("nearest.wgsl")],
        constants: vec![("EACH", EACH as u32)],
        writes: &[false, false, false, true],
    }
}

/// The twin, in `f64`.
#[cfg(test)]
pub(crate) fn nearest(
    p: &Params,
    rows: &[f32],
    centroids: &[f32],
    norms_sq: &[f32],
    found: &mut [[u32; 4]],
) {
    let depth = p.depth as usize;
    let rows = rows.chunks_exact(depth).take(p.rows as usize);
    for (row, found) in rows.zip(found) {
        let mut scores: Vec<(f32, u32)> = (p.first..)
            .zip(centroids.chunks_exact(depth).zip(norms_sq).take(p.centroids as usize))
            .map(|(number, (centroid, &norm_sq))| {
                let dot: f64 =
                    row.iter().zip(centroid).map(|(&x, &c)| f64::from(x) * f64::from(c)).sum();
                ((f64::from(norm_sq) - 2.0 * dot) as f32, number)
            })
            .collect();
        if p.goes_on == 1 {
            scores.push((f32::from_bits(found[1]), found[0]));
            scores.push((f32::from_bits(found[2]), u32::MAX));
        }
        scores.sort_by(|a, b| a.0.total_cmp(&b.0));
        let second = scores.get(1).map_or(3.4e38, |score| score.0);
        *found = [scores[0].1, scores[0].0.to_bits(), second.to_bits(), 0];
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::cast_slice;
    use nonius::random::Random;

    use super::super::testing::{context, run};
    use super::*;

    #[test]
    fn nearest_centroids_are_those_of_the_twin() {
        let Some(context) = context() else { return };
        let mut random = Random::new(5, 0);
        for (rows, centroids, depth) in [(1, 1, 8), (130, 300, 24), (257, 128, 8), (40, 129, 104)] {
            let mut floats = |count: usize, offset: f32| -> Vec<f32> {
                (0..count).map(|_| offset + random.normal() as f32).collect()
            };
            let values = floats((rows * depth) as usize, 0.5);
            let of_centroids = floats((centroids * depth) as usize, -0.5);
            let norms_sq: Vec<f32> = of_centroids
                .chunks_exact(depth as usize)
                .map(|row| row.iter().map(|x| x * x).sum())
                .collect();
            let mut before = vec![[0; 4]; rows as usize];
            for (i, before) in before.iter_mut().enumerate() {
                // Some of the centroids before were better.
                let score = if i % 3 == 0 { -1e6f32 } else { 1e6 };
                *before = [7, score.to_bits(), (score + 1.0).to_bits(), 0];
            }
            for goes_on in [0, 1] {
                let mut params =
                    Params { rows, depth, centroids, first: 1000, goes_on, ..Params::default() };
                let buffers: [&[u32]; 4] = [
                    cast_slice(&values),
                    cast_slice(&of_centroids),
                    cast_slice(&norms_sq),
                    cast_slice(&before),
                ];
                let groups = rows.div_ceil(TILE as u32);
                let found = run(
                    context,
                    &kernel(),
                    groups,
                    |grid_x| {
                        params.grid_x = grid_x;
                        params
                    },
                    &buffers,
                );
                let mut expected = before.clone();
                nearest(&params, &values, &of_centroids, &norms_sq, &mut expected);
                for (found, expected) in
                    cast_slice::<u32, [u32; 4]>(&found[0]).iter().zip(&expected)
                {
                    // Random values do not tie within rounding.
                    assert_eq!(found[0], expected[0]);
                    for i in [1, 2] {
                        let [found, expected] = [found, expected].map(|x| f32::from_bits(x[i]));
                        let size = expected.abs().max(depth as f32);
                        assert!((found - expected).abs() <= 1e-5 * size, "{found}, not {expected}");
                    }
                }
            }
        }
    }
}
