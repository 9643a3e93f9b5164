//! Training: ranges of dimensions, and what estimates take from the codes.

use nonius_simd::level;
use rayon::prelude::*;

use super::encode::{Encoder, Round};
use super::{Grid, Model, Range, ranges};
use crate::error::BuildError;
use crate::quantizer::QuantizerSpec;
use crate::quantizer::estimate::{Added, Estimate};
use crate::quantizer::frame::{
    Frame, Rotation, TrainingSet, additive_code, estimate_noise, residuals, turned,
};
use crate::quantizer::pairs::Count;

/// Rows that tell how much codes leave.
const ROWS: usize = 1 << 10;

/// Trains a quantizer.
pub(crate) fn train(
    set: &TrainingSet<'_>,
    spec: &QuantizerSpec,
    seed: u64,
) -> Result<Encoder, BuildError> {
    let dim = set.sample.dim();
    let dims = dim.next_multiple_of(8);
    let grid = Grid::of(spec);
    let vectors = residuals(set);
    let vectors = if dims == dim { vectors.into_data() } else { turned(None, &vectors, dims) };
    let ranges = if grid.own { Vec::new() } else { ranges::fit(&vectors, dims, grid.bits()) };
    let rotation = Rotation::none(dims);
    // What codes leave is as likely to lengthen a distance as to shorten it.
    let added = Added::Own { least: -1.0 };
    let row = |row: usize| &vectors[row * dims..][..dims];
    let estimate =
        Estimate::fit(set, &rotation, dims, &vectors, added, (Count::FEW, seed), |some| {
            left(grid, &ranges, dims, some.len(), |i| row(some[i] as usize))
        });

    let some = &vectors[..vectors.len().min(ROWS * dims)];
    let energy = |rows: &[f32]| -> f64 {
        let sum: f64 =
            rows.chunks_exact(dims).map(|row| f64::from(nonius_simd::dot_f32(row, row))).sum();
        sum * dims as f64 / rows.len() as f64
    };
    let (whole_sq, left_sq) =
        (energy(some), energy(&left(grid, &ranges, dims, some.len() / dims, row)));
    let noise = estimate_noise(set.metric, dims, whole_sq, left_sq);
    Ok(Encoder {
        model: Model {
            frame: Frame {
                metric: set.metric,
                dim,
                dims,
                scale: set.scale,
                lists: set.lists.is_some(),
                additive: additive_code(set, noise, &[1, 2]),
            },
            grid,
            weight: estimate.weight,
        },
        mean: set.mean.to_vec(),
        rotation,
        ranges,
        estimate,
    })
}

/// What codes leave of so many residuals.
fn left<'a>(
    grid: Grid,
    ranges: &[Range],
    dims: usize,
    count: usize,
    of: impl Fn(usize) -> &'a [f32] + Sync,
) -> Vec<f32> {
    let mut left = vec![0.0; count * dims];
    left.par_chunks_mut(dims).enumerate().for_each_init(
        || vec![0; dims],
        |codes, (i, left)| {
            level().vectorize(Round { grid, o: of(i), ranges, codes, left });
        },
    );
    left
}
