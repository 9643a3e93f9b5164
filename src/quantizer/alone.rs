//! What quantizers without an index share: vectors and queries pass the same doors as an index's.

use nonius_simd::BLOCK;
use rayon::prelude::*;

use super::frame::{Frame, Rotation, TrainingSet};
use super::view::RotatedQuery;
use super::{Family, QuantizerSpec};
use crate::error::{BuildError, ConfigError, SearchError, VectorError};
use crate::index::{
    check_norm, check_query, check_row, check_weights, mean_of, normalized_weights, prepare_query,
    scale_of,
};
use crate::matrix::{Matrix, MatrixView};
use crate::metric::Metric;

/// Checks a configuration's quantizer, which has to be of a family; `names` are what it may be called.
pub(super) fn check_spec(
    spec: &QuantizerSpec,
    family: Family,
    names: &str,
) -> Result<(), ConfigError> {
    spec.validate()?;
    if spec.family() != family {
        return Err(ConfigError::new("quantizer", format!("expected {names}, found {spec}")));
    }
    Ok(())
}

/// A sample that training accepts.
pub(super) struct Sample {
    metric: Metric,
    /// In the model's units, of unit norm for cosine.
    rows: Matrix,
    mean: Vec<f32>,
    scale: f32,
    weights: Option<Vec<f32>>,
}

impl Sample {
    pub(super) fn new(rows: MatrixView<'_>, metric: Metric) -> Result<Sample, BuildError> {
        if rows.rows() == 0 {
            return Err(BuildError::Empty);
        }
        let mut rows = Matrix::new(rows.dim(), rows.data().to_vec())?;
        let dim = rows.dim();
        for (number, row) in rows.data_mut().chunks_exact_mut(dim).enumerate() {
            check_row(row, number, metric.normalizes())?;
        }
        let scale = scale_of(&rows, metric);
        for value in rows.data_mut() {
            *value *= scale;
        }
        Ok(Sample { metric, mean: mean_of(&rows), rows, scale, weights: None })
    }

    /// How much every row counts.
    ///
    /// # Errors
    /// [`ConfigError`] for another number of weights than rows, or weights that make no sense.
    pub(super) fn weigh(&mut self, weights: &[f32]) -> Result<(), ConfigError> {
        check_weights(weights, self.rows.rows())?;
        self.weights = Some(normalized_weights(weights.to_vec())?);
        Ok(())
    }

    pub(super) fn training_set(&self) -> TrainingSet<'_> {
        TrainingSet {
            sample: self.rows.view(),
            mean: &self.mean,
            lists: None,
            metric: self.metric,
            scale: self.scale,
            weights: self.weights.as_deref(),
        }
    }
}

/// Codes of vectors, as an index has those of a list.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    sizes: Sizes,
    /// What a scan reads, in blocks of 32 vectors.
    blocks: Vec<u8>,
    /// The rest of the bits, row by row.
    rest: Vec<u8>,
    len: usize,
}

/// Bytes of a block, of a vector's record, and of the end of that which no block has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) block: usize,
    pub(super) record: usize,
    pub(super) rest: usize,
}

impl Packed {
    /// Encodes rows block by block, in parallel: `write` makes the records of a block's rows, which come
    /// not yet set, and `pack` the block from its records.
    ///
    /// A block's rows are checked, and copied only if their norms have to change, right before they are
    /// encoded: they come from memory once.
    pub(super) fn encode<S: Default>(
        frame: &Frame,
        rows: MatrixView<'_>,
        sizes: Sizes,
        write: impl Fn(&mut S, &[f32], &mut [u8]) + Sync,
        pack: impl Fn(&[u8], &mut [u8]) + Sync,
    ) -> Result<Packed, VectorError> {
        let (dim, len) = (frame.dim, rows.rows());
        if rows.dim() != dim {
            return Err(VectorError::DimMismatch { expected: dim, found: rows.dim() });
        }
        let mut blocks = vec![0; len.div_ceil(BLOCK) * sizes.block];
        let mut rest = vec![0; len * sizes.rest];
        // Chunks of no bytes cannot be made: there may be no rest.
        let mut rests: Vec<&mut [u8]> = rest.chunks_mut((sizes.rest * BLOCK).max(1)).collect();
        rests.resize_with(len.div_ceil(BLOCK), Default::default);
        let buffers = || (S::default(), Vec::new(), Vec::new());
        let refused = blocks
            .par_chunks_mut(sizes.block)
            .zip(rests)
            .zip(rows.data().par_chunks(BLOCK * dim))
            .enumerate()
            .map_init(buffers, |(scratch, unit, records), (number, ((block, rest), rows))| {
                let rows = accept(frame, number * BLOCK, rows, unit)?;
                records.resize(rows.len() / dim * sizes.record, 0);
                write(scratch, rows, records);
                pack(records, block);
                let head = sizes.record - sizes.rest;
                for (i, record) in records.chunks_exact(sizes.record).enumerate() {
                    rest[i * sizes.rest..(i + 1) * sizes.rest].copy_from_slice(&record[head..]);
                }
                Ok(())
            })
            .find_first(Result::is_err);
        refused.unwrap_or(Ok(()))?;
        Ok(Packed { sizes, blocks, rest, len })
    }

    /// The number of vectors.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of codes and factors of a vector.
    pub(super) fn bytes_per_vector(&self) -> usize {
        self.sizes.record
    }

    /// The block of a vector, its number there, and its row of the rest.
    pub(super) fn place(&self, i: usize) -> (&[u8], usize, &[u8]) {
        assert!(i < self.len, "vector {i} of {}", self.len);
        let Sizes { block, rest, .. } = self.sizes;
        let of_block = &self.blocks[i / BLOCK * block..(i / BLOCK + 1) * block];
        (of_block, i % BLOCK, &self.rest[i * rest..(i + 1) * rest])
    }
}

/// Checks rows, of which the first has number `first`. Returns them, or copies of unit norm in `unit`
/// if the metric wants that.
fn accept<'a>(
    frame: &Frame,
    first: usize,
    rows: &'a [f32],
    unit: &'a mut Vec<f32>,
) -> Result<&'a [f32], VectorError> {
    if frame.metric.normalizes() {
        unit.clear();
        unit.extend_from_slice(rows);
        for (i, row) in unit.chunks_exact_mut(frame.dim).enumerate() {
            check_row(row, first + i, true)?;
        }
        return Ok(unit);
    }
    for (i, row) in rows.chunks_exact(frame.dim).enumerate() {
        check_norm(row, first + i)?;
    }
    Ok(rows)
}

/// Checks a query; returns it in the frame's units, and its inner product with the mean.
pub(super) fn prepare(
    frame: &Frame,
    mean: &[f32],
    query: &[f32],
) -> Result<(Vec<f32>, f32), SearchError> {
    if query.len() != frame.dim {
        let (expected, found) = (frame.dim, query.len());
        return Err(VectorError::DimMismatch { expected, found }.into());
    }
    let mut values = query.to_vec();
    prepare_query(frame.metric, &mut values)?;
    for value in &mut values {
        *value *= frame.scale;
    }
    check_query(nonius_simd::dot_f32(&values, &values), 0)?;
    let mean_dot = nonius_simd::dot_f32(&values, mean);
    Ok((values, mean_dot))
}

/// Checks a query and rotates it. `lengths` are the dimensions of the segments over which its norm is
/// taken apart.
pub(super) fn rotate(
    frame: &Frame,
    rotation: &Rotation,
    mean: &[f32],
    lengths: &[usize],
    query: &[f32],
) -> Result<RotatedQuery, SearchError> {
    let (values, mean_dot) = prepare(frame, mean, query)?;
    let mut rotated =
        RotatedQuery { values: rotation.apply(mean, &values), ..RotatedQuery::default() };
    rotated.prepare(frame.metric, lengths, mean_dot);
    Ok(rotated)
}

/// The vector that a rotated one comes from, in the user's units: `dim` values.
pub(super) fn rotate_back(
    frame: &Frame,
    rotation: &Rotation,
    mean: &[f32],
    rotated: &[f32],
) -> Vec<f32> {
    rotation
        .apply_inverse(rotated, frame.dim)
        .iter()
        .zip(mean)
        .map(|(x, mean)| (x + mean) / frame.scale)
        .collect()
}
