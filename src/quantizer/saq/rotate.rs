//! Rotation of 32 vectors at a time, a lane each, by integer products.

use std::ops::Range;

use nonius_simd::{BLOCK, Panels, Panels8, Word, gemm_i8, gemm_i16, transpose_16};

use super::Encoder;
use super::adjust::Lanes;
use super::plan::{Segment, error};
use crate::matrix::{Matrix, MatrixView};
use crate::quantizer::frame::Rotation;
use crate::train::{Rounding, RowsI8, RowsI16};

/// How much of the variance of an estimate's error the coarse rotation may add: half of this share
/// of the error itself.
const COARSE_SHARE: f64 = 0.05;

/// Rows of the sample that the error of the coarse rotation is measured on.
const MEASURED_ROWS: usize = 1024;

/// The rotation of the last dimensions in eight bits, for [`Encoding::Fast`](crate::Encoding):
/// half the work of sixteen, and an error of less than a hundredth of a coordinate's standard
/// deviation. Which dimensions can stand it depends on the error of their codes.
#[derive(Clone, Debug)]
pub(crate) struct CoarseRotation {
    /// The first dimension that is rotated so.
    start: usize,
    /// Row by row, each of the dimension rounded up to a multiple of 4; 128 is added.
    rows: Vec<u8>,
    /// What each row is multiplied by.
    inverse: Vec<f32>,
}

impl CoarseRotation {
    /// Rounds the rows of a rotation for vectors like those of the sample. `variances` are those
    /// of the residuals, before the random rotation inside segments.
    pub(crate) fn of(
        rotation: &Rotation,
        sample: MatrixView<'_>,
        mean: &[f32],
        plan: &[Segment],
        variances: &[f64],
    ) -> CoarseRotation {
        let coded = plan.iter().filter(|s| s.bits > 0).map(|s| s.dims).sum();
        let mut whole = CoarseRotation::rounded(rotation, sample, mean, coded);
        let noise = whole.noise(rotation, sample, mean);
        let start = first_coarse(plan, variances, &noise);
        whole.drop_before(start);
        whole
    }

    /// The first `dims` rows of a rotation, rounded.
    fn rounded(
        rotation: &Rotation,
        sample: MatrixView<'_>,
        mean: &[f32],
        dims: usize,
    ) -> CoarseRotation {
        let dim = mean.len();
        let mut matrix = Matrix::zeros(dims, dim);
        let mut inverse = Vec::with_capacity(dims);
        let exact = rotation.rows.chunks_exact(dim.next_multiple_of(2));
        for (i, (row, &row_inverse)) in exact.zip(&rotation.inverse).take(dims).enumerate() {
            // A row without any value stays as it is.
            let largest = row.iter().fold(1, |largest, v| v.unsigned_abs().max(largest));
            let factor = f32::from(largest) / 127.0;
            for (out, &v) in matrix.row_mut(i).iter_mut().zip(row) {
                *out = f32::from(v) / factor;
            }
            inverse.push(row_inverse * factor);
        }
        Rounding::of(sample, mean).round(&mut matrix, 127.0);
        let depth = dim.next_multiple_of(4);
        let mut rows = vec![128; dims * depth];
        for (i, out) in rows.chunks_exact_mut(depth).enumerate() {
            for (out, &v) in out.iter_mut().zip(matrix.row(i)) {
                *out = (v + 128.0) as u8;
            }
        }
        CoarseRotation { start: 0, rows, inverse }
    }

    /// The mean square of what the coarse rotation of sample vectors differs by from the fine one,
    /// for each dimension.
    fn noise(&self, rotation: &Rotation, sample: MatrixView<'_>, mean: &[f32]) -> Vec<f64> {
        let dim = mean.len();
        let count = sample.rows().min(MEASURED_ROWS);
        let mut values = Vec::with_capacity(count * dim);
        for i in 0..count {
            values.extend_from_slice(sample.row(i * sample.rows() / count));
        }
        let fine = rotation.apply(mean, &values);
        let mut lanes = RotatedLanes::default();
        let mut noise = vec![0.0; self.inverse.len()];
        let mut o = vec![[0.0; BLOCK]; noise.len()];
        let fine = fine.chunks(BLOCK * rotation.inverse.len());
        for (rows, fine) in values.chunks(BLOCK * dim).zip(fine) {
            lanes.product.resize(noise.len() * BLOCK, 0);
            lanes.rounded.rows8.quantize_centred(rows, mean);
            self.rotate_lanes(&mut lanes);
            lanes.coarse.coordinates(lanes.product.as_chunks().0, &self.inverse, &mut o);
            for (lane, fine) in fine.chunks_exact(rotation.inverse.len()).enumerate() {
                for ((noise, o), fine) in noise.iter_mut().zip(&o).zip(fine) {
                    *noise += f64::from(o[lane] - fine).powi(2) / count as f64;
                }
            }
        }
        noise
    }

    /// Row by row, 128 added.
    pub(super) fn rows(&self) -> &[u8] {
        &self.rows
    }

    /// What each row is multiplied by.
    pub(super) fn scales(&self) -> &[f32] {
        &self.inverse
    }

    /// Leaves the dimensions before `start` to the fine rotation.
    fn drop_before(&mut self, start: usize) {
        if let Some(depth) = self.rows.len().checked_div(self.inverse.len()) {
            self.rows.drain(..start * depth);
            self.inverse.drain(..start);
        }
        self.start = start;
    }

    /// Rotates the eight-bit rows of `lanes`.
    fn rotate_lanes(&self, lanes: &mut RotatedLanes) {
        if self.inverse.is_empty() {
            return;
        }
        let RotatedLanes { rounded, packed8, product, coarse, .. } = lanes;
        let rows8 = &rounded.rows8;
        let depth = rows8.depth();
        *coarse = LaneScale::default();
        coarse.factors[..rows8.rows()].copy_from_slice(rows8.inverse());
        for (offset, sum) in coarse.offsets.iter_mut().zip(rows8.sums()) {
            // The rotation carries 128 too much in every value.
            *offset = 128 * sum;
        }
        pack_lanes::<i8, 4>(packed8, depth, rows8.values());
        let product = &mut product[self.start * BLOCK..];
        gemm_i8(&self.rows, Panels8::new(BLOCK, depth, packed8), product);
    }
}

/// The first dimension for which the coarse rotation will do: as early as a segment's start can be
/// while noise adds but a small share to the error of estimates.
fn first_coarse(plan: &[Segment], variances: &[f64], noise: &[f64]) -> usize {
    // For each coded segment its first dimension, the error of its code and that of the rotation:
    // mean squares of inner products with vectors of the same kind.
    let mut parts = Vec::new();
    let mut start = 0;
    for segment in plan.iter().filter(|s| s.bits > 0) {
        let range = start..start + segment.dims;
        let dims = segment.dims as f64;
        let variance = variances[range.clone()].iter().sum::<f64>() / dims;
        let code = variance * variance * dims * error(segment.bits);
        let rotation = variance * noise[range].iter().sum::<f64>();
        parts.push((start, code, rotation));
        start += segment.dims;
    }
    let mut left = COARSE_SHARE * parts.iter().map(|part| part.1).sum::<f64>();
    for &(first, _, rotation) in parts.iter().rev() {
        left -= rotation;
        if left < 0.0 {
            break;
        }
        start = first;
    }
    start
}

/// Rows as the integers that are rotated.
#[derive(Default)]
pub(super) struct RoundedRows {
    /// What of the dimensions is rotated in sixteen bits, if any is.
    pub(super) rows: RowsI16,
    /// What is rotated in eight bits, where the encoder has such a rotation.
    pub(super) rows8: RowsI8,
    coarse: bool,
}

impl RoundedRows {
    /// The squared norm of every row, relative to the mean.
    pub(super) fn norms_sq(&self) -> &[f32] {
        if self.coarse { self.rows8.norms_sq() } else { self.rows.norms_sq() }
    }
}

/// Up to 32 rows as integers, rotated.
#[derive(Default)]
pub(super) struct RotatedLanes {
    rounded: RoundedRows,
    packed: Vec<i16>,
    packed8: Vec<i8>,
    /// Rotated rows: dims x 32.
    product: Vec<i32>,
    fine: LaneScale,
    coarse: LaneScale,
}

impl RotatedLanes {
    /// The squared norm of every row, relative to the mean.
    pub(super) fn norms_sq(&self) -> &[f32] {
        self.rounded.norms_sq()
    }
}

/// How the products of each lane become coordinates.
#[derive(Clone, Copy, Default)]
struct LaneScale {
    factors: Lanes,
    offsets: [i32; BLOCK],
}

impl LaneScale {
    /// Coordinates from products; `rows` is what each row of the rotation is multiplied by.
    #[inline(always)]
    fn coordinates(&self, products: &[[i32; BLOCK]], rows: &[f32], o: &mut [Lanes]) {
        for ((o, product), &row) in o.iter_mut().zip(products).zip(rows) {
            for j in 0..BLOCK {
                o[j] = (product[j] - self.offsets[j]) as f32 * (row * self.factors[j]);
            }
        }
    }
}

impl Encoder {
    /// How many dimensions are rotated in sixteen bits.
    pub(super) fn fine_dims(&self) -> usize {
        self.coarse.as_ref().map_or(self.rotated, |coarse| coarse.start)
    }

    /// Rounds rows of `dim` values to the integers that are rotated.
    pub(super) fn round_rows(&self, rows: &[f32], rounded: &mut RoundedRows) {
        rounded.coarse = self.coarse.is_some();
        if rounded.coarse {
            rounded.rows8.quantize_centred(rows, &self.mean);
        }
        if self.fine_dims() > 0 || !rounded.coarse {
            rounded.rows.quantize_centred(rows, &self.mean);
        }
    }

    /// Rotates up to 32 rows of `dim` values.
    pub(super) fn rotate_lanes(&self, rows: &[f32], lanes: &mut RotatedLanes) {
        let fine = self.fine_dims();
        lanes.product.resize(self.rotated * BLOCK, 0);
        self.round_rows(rows, &mut lanes.rounded);
        if let Some(coarse) = &self.coarse {
            coarse.rotate_lanes(lanes);
        }
        if fine > 0 {
            let RotatedLanes { rounded, packed, product, fine: scale, .. } = lanes;
            let rows = &rounded.rows;
            let depth = rows.depth();
            pack_lanes::<i16, 2>(packed, depth, rows.values());
            let matrix = &self.rotation.rows[..fine * depth];
            gemm_i16(matrix, Panels::new(BLOCK, depth, packed), &mut product[..fine * BLOCK]);
            *scale = LaneScale::default();
            scale.factors[..rows.rows()].copy_from_slice(rows.inverse());
        }
    }

    /// The coordinates of a segment's dimensions.
    #[inline(always)]
    pub(super) fn coordinates(&self, lanes: &RotatedLanes, dims: Range<usize>, o: &mut [Lanes]) {
        let products = &lanes.product.as_chunks::<BLOCK>().0[dims.clone()];
        match &self.coarse {
            Some(coarse) if dims.start >= coarse.start => {
                let rows = &coarse.inverse[dims.start - coarse.start..dims.end - coarse.start];
                lanes.coarse.coordinates(products, rows, o);
            }
            _ => lanes.fine.coordinates(products, &self.rotation.inverse[dims], o),
        }
    }
}

/// Packs up to 32 rows of `depth` values into two panels of 16 rows, as [`Panels`] and
/// [`Panels8`] want them: `N` values of each row side by side.
fn pack_lanes<T: Copy + Default, const N: usize>(packed: &mut Vec<T>, depth: usize, rows: &[T])
where
    [T; N]: Word,
{
    // Both panels are overwritten whole.
    packed.resize(BLOCK * depth, T::default());
    let (first, second) = rows.split_at(rows.len().min(16 * depth));
    let (low, high) = packed.split_at_mut(16 * depth);
    for (rows, panel) in [(first, low), (second, high)] {
        let columns = panel.as_chunks_mut::<N>().0.as_chunks_mut::<16>().0;
        transpose_16(rows.as_chunks::<N>().0, columns);
    }
}
