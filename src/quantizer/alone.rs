//! What quantizers without an index share: vectors and queries pass the same doors as an index's.

use super::frame::{Frame, Rotation, TrainingSet};
use super::view::RotatedQuery;
use crate::error::{BuildError, SearchError, VectorError};
use crate::index::{check_norm, check_row, mean_of, prepare_query, scale_of};
use crate::matrix::{Matrix, MatrixView};
use crate::metric::Metric;

/// A sample that training accepts.
pub(super) struct Sample {
    metric: Metric,
    /// In the model's units, of unit norm for cosine.
    rows: Matrix,
    mean: Vec<f32>,
    scale: f32,
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
        Ok(Sample { metric, mean: mean_of(&rows), rows, scale })
    }

    pub(super) fn training_set(&self) -> TrainingSet<'_> {
        TrainingSet {
            sample: self.rows.view(),
            mean: &self.mean,
            lists: None,
            metric: self.metric,
            scale: self.scale,
        }
    }
}

/// Checks rows, of which the first has number `first`. Returns them, or copies of unit norm in `unit`
/// if the metric wants that.
pub(super) fn accept<'a>(
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

/// Checks a query and rotates it. `lengths` are the dimensions of the segments over which its norm is
/// taken apart.
pub(super) fn rotate(
    frame: &Frame,
    rotation: &Rotation,
    mean: &[f32],
    lengths: &[usize],
    query: &[f32],
) -> Result<RotatedQuery, SearchError> {
    if query.len() != frame.dim {
        let (expected, found) = (frame.dim, query.len());
        return Err(VectorError::DimMismatch { expected, found }.into());
    }
    let mut values = query.to_vec();
    prepare_query(frame.metric, &mut values)?;
    for value in &mut values {
        *value *= frame.scale;
    }
    let mut rotated =
        RotatedQuery { values: rotation.apply(mean, &values), ..RotatedQuery::default() };
    rotated.prepare(frame.metric, lengths, nonius_simd::dot_f32(&values, mean));
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
