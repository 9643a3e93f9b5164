//! Rows of `f32` turned into rows of integers, operands of the integer matrix products:
//! [`RowsI16`] for [`nonius_simd::gemm_i16`], `RowsI7` and [`RowsI8`] for [`nonius_simd::gemm_i8`].
//!
//! ## Sixteen bits
//!
//! A row x becomes integers q = round(s x) with s chosen so that the norm of q is just below
//! 2^15. An inner product of two such rows therefore fits into an `i32`, and
//! `<x, y> ~= <q_x, q_y> * inverse_x * inverse_y` with inverse = 1 / s. The error is that of
//! rounding each value to 1/2: about `|x| |y| / 10^5`, whatever the scale of the data.
//!
//! ## Eight bits
//!
//! Here s makes the largest magnitude of a row 127, which is as fine as 8 bits can be. The left operand
//! has 7 (`RowsI7`, largest magnitude 63): products of two such pairs fit into 16 bits, which AVX2 adds up
//! in one step. The error of rounding is about `|x| |y| / (60 sqrt(dim))`.

use nonius_simd::{Panels, Panels8, Vectorize, gemm_i8, gemm_i16, level};

/// The largest norm of an integer row. Two rows of this norm have a product of 2^30 at most.
const MAX_NORM: f64 = 32768.0;

/// 1.5 * 2^23. Added to a float of magnitude below 2^22 it leaves the rounded integer (ties to
/// even) in the low bits: rounding that every instruction set does with one addition.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// The largest magnitude of a row of [`RowsI8`].
const LARGEST: f32 = 127.0;

/// The same of [`RowsI7`]; [`SHIFT`] more lies within 7 bits.
const LARGEST_LEFT: f32 = 63.0;

/// What values of a left operand carry, so that none is negative.
const SHIFT: i8 = 64;

/// Partial sums of a squared norm.
const LANES: usize = 32;

/// Squared norms between these are computed well by a sum in `f32`.
const NORM_SQ_RANGE: std::ops::RangeInclusive<f32> = 1e-24..=1e36;

/// Rows quantized to `i16`, with buffers that are kept from call to call.
#[derive(Clone, Debug, Default)]
pub struct RowsI16 {
    depth: usize,
    values: Vec<i16>,
    inverse: Vec<f32>,
    norms_sq: Vec<f32>,
    centred: Vec<f32>,
}

impl RowsI16 {
    /// No rows.
    pub fn new() -> RowsI16 {
        RowsI16::default()
    }

    /// Replaces the contents by the quantized `rows` (a whole number of rows of `dim` values).
    ///
    /// The values should be finite. A row that is zero, too small to have a nonzero scale, or not
    /// finite becomes zeros.
    ///
    /// # Panics
    /// If `dim` is 0 or `rows` is no whole number of rows.
    pub fn quantize(&mut self, dim: usize, rows: &[f32]) {
        self.run(dim, rows, None);
    }

    /// Replaces the contents by the quantized differences of `rows` to `mean`; the dimension is
    /// that of `mean`. See [`quantize`](RowsI16::quantize).
    ///
    /// # Panics
    /// If `mean` is empty or `rows` is no whole number of rows.
    pub fn quantize_centred(&mut self, rows: &[f32], mean: &[f32]) {
        self.run(mean.len(), rows, Some(mean));
    }

    fn run(&mut self, dim: usize, rows: &[f32], mean: Option<&[f32]>) {
        assert!(dim > 0, "a row needs at least one value");
        let count = rows.len() / dim;
        assert_eq!(rows.len(), count * dim, "no whole rows of {dim}");
        self.depth = dim.next_multiple_of(2);
        // Every value is overwritten below, the padding of odd rows included.
        self.values.resize(count * self.depth, 0);
        self.inverse.resize(count, 0.0);
        self.norms_sq.resize(count, 0.0);
        self.centred.resize(if mean.is_some() { dim } else { 0 }, 0.0);
        // One dispatch for all rows: for short rows it would cost as much as the work.
        level().vectorize(Quantize {
            dim,
            rows,
            mean,
            values: &mut self.values,
            inverse: &mut self.inverse,
            norms_sq: &mut self.norms_sq,
            centred: &mut self.centred,
        });
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.inverse.len()
    }

    /// The length of a quantized row: the dimension rounded up to an even number.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The integers, row by row: `rows x depth`. The norm of a row is at most 2^15.
    pub fn values(&self) -> &[i16] {
        &self.values
    }

    /// One number per row: `inverse[i] * values[i]` is close to row i. 0 for zero rows.
    pub fn inverse(&self) -> &[f32] {
        &self.inverse
    }

    /// The squared norm of every (centred) row. Infinite where it leaves the range of `f32`.
    pub fn norms_sq(&self) -> &[f32] {
        &self.norms_sq
    }

    /// Multiplies with all rows of a packed matrix, into `product` (`rows x panels.padded_rows()`).
    pub(crate) fn multiply(&self, panels: Panels<'_>, product: &mut Vec<i32>) {
        product.resize(self.rows() * panels.padded_rows(), 0);
        gemm_i16(&self.values, panels, product);
    }
}

/// Rows quantized to `i8`, with buffers that are kept from call to call.
#[derive(Clone, Debug, Default)]
pub struct RowsI8 {
    depth: usize,
    values: Vec<i8>,
    inverse: Vec<f32>,
    sums: Vec<i32>,
    norms_sq: Vec<f32>,
    centred: Vec<f32>,
    zeros: Vec<f32>,
}

impl RowsI8 {
    /// Replaces the contents by the quantized `rows` (a whole number of rows of `dim` values). See
    /// [`quantize_centred`](RowsI8::quantize_centred).
    ///
    /// # Panics
    /// If `dim` is 0 or `rows` is no whole number of rows.
    pub fn quantize(&mut self, dim: usize, rows: &[f32]) {
        self.run_as_they_are(dim, rows, LARGEST);
    }

    fn run_as_they_are(&mut self, dim: usize, rows: &[f32], largest: f32) {
        let mut zeros = std::mem::take(&mut self.zeros);
        zeros.resize(dim, 0.0);
        self.run(rows, &zeros, largest);
        self.zeros = zeros;
    }

    /// Replaces the contents by the quantized differences of `rows` to `mean`; the dimension is
    /// that of `mean`. A row that is zero, too small to have a nonzero scale, or not finite becomes
    /// zeros.
    ///
    /// # Panics
    /// If `mean` is empty or `rows` is no whole number of rows.
    pub fn quantize_centred(&mut self, rows: &[f32], mean: &[f32]) {
        self.run(rows, mean, LARGEST);
    }

    fn run(&mut self, rows: &[f32], mean: &[f32], largest: f32) {
        let dim = mean.len();
        assert!(dim > 0, "a row needs at least one value");
        let count = rows.len() / dim;
        assert_eq!(rows.len(), count * dim, "no whole rows of {dim}");
        self.depth = dim.next_multiple_of(4);
        // Every value is overwritten below, the padding included.
        self.values.resize(count * self.depth, 0);
        self.inverse.resize(count, 0.0);
        self.sums.resize(count, 0);
        self.norms_sq.resize(count, 0.0);
        self.centred.resize(dim, 0.0);
        level().vectorize(Quantize8 { rows, mean, largest, out: self });
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.inverse.len()
    }

    /// The length of a quantized row: the dimension rounded up to a multiple of 4.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The integers, row by row: `rows x depth`, of magnitude 127 at most.
    pub fn values(&self) -> &[i8] {
        &self.values
    }

    /// One number per row: `inverse[i] * values[i]` is close to row i. 0 for zero rows.
    pub fn inverse(&self) -> &[f32] {
        &self.inverse
    }

    /// The sum of the integers of every row.
    pub fn sums(&self) -> &[i32] {
        &self.sums
    }

    /// The squared norm of every centred row, as that of [`RowsI16::norms_sq`].
    pub fn norms_sq(&self) -> &[f32] {
        &self.norms_sq
    }
}

/// Rows quantized to 7 bits: left operands of products with those of [`RowsI8`].
#[derive(Clone, Debug, Default)]
pub(crate) struct RowsI7 {
    rows: RowsI8,
    shifted: Vec<u8>,
}

impl RowsI7 {
    /// Replaces the contents by the quantized `rows` (a whole number of rows of `dim` values), as
    /// [`RowsI8::quantize`] does.
    pub(crate) fn quantize(&mut self, dim: usize, rows: &[f32]) {
        self.rows.run_as_they_are(dim, rows, LARGEST_LEFT);
    }

    /// The number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows.rows()
    }

    /// See [`RowsI8::inverse`].
    pub(crate) fn inverse(&self) -> &[f32] {
        self.rows.inverse()
    }

    /// See [`RowsI8::norms_sq`].
    pub(crate) fn norms_sq(&self) -> &[f32] {
        self.rows.norms_sq()
    }

    /// Multiplies with all rows of a packed matrix, into `product` (`rows x panels.padded_rows()`), of
    /// which [`shifted_dot`] makes inner products.
    pub(crate) fn multiply(&mut self, panels: Panels8<'_>, product: &mut Vec<i32>) {
        let RowsI7 { rows, shifted } = self;
        shifted.clear();
        shifted.extend(rows.values.iter().map(|&x| (x + SHIFT) as u8));
        product.resize(rows.rows() * panels.padded_rows(), 0);
        gemm_i8(shifted, panels, product);
    }
}

/// The inner product of integers of which [`RowsI7::multiply`] gave `product`, where every value of the
/// left row carried [`SHIFT`] too much; `sum` is that of the right row's values.
#[inline(always)]
pub(crate) fn shifted_dot(product: i32, sum: i32) -> f32 {
    product.wrapping_sub(sum.wrapping_mul(i32::from(SHIFT))) as f32
}

struct Quantize8<'a> {
    rows: &'a [f32],
    mean: &'a [f32],
    /// What the largest magnitude of a row becomes.
    largest: f32,
    out: &'a mut RowsI8,
}

impl Vectorize for Quantize8<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Quantize8 { rows, mean, largest: most, out } = self;
        let RowsI8 { depth, values, inverse, sums, norms_sq, centred, .. } = out;
        let outs = values.chunks_exact_mut(*depth);
        for (i, (row, out)) in rows.chunks_exact(mean.len()).zip(outs).enumerate() {
            centre(row, mean, centred);
            let (norm_sq, largest) = norm_and_largest(centred);
            let (values, padding) = out.split_at_mut(mean.len());
            padding.fill(0);
            if NORM_SQ_RANGE.contains(&norm_sq) {
                let scale = most / largest;
                let squares;
                (sums[i], squares) = round_i8(centred, scale, values);
                // With x the row and q the integers, `inverse * <x, q> = |x|^2`: rounding shall
                // have no error along the row, which near neighbours would see. |scale x - q|^2
                // is next to nothing, so 2 scale <x, q> is |scale x|^2 + |q|^2.
                inverse[i] = 2.0 * norm_sq / (norm_sq * scale + squares as f32 / scale);
                norms_sq[i] = norm_sq;
            } else {
                (inverse[i], norms_sq[i]) = quantize_extreme_i8(row, mean, most, values);
                sums[i] = values.iter().map(|&v| i32::from(v)).sum();
            }
        }
    }
}

/// The squared norm, that of [`sum_of_squares`], and the largest magnitude.
#[inline(always)]
fn norm_and_largest(x: &[f32]) -> (f32, f32) {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let (mut sums, mut largest) = ([0.0f32; LANES], [0.0f32; LANES]);
    for chunk in chunks {
        for j in 0..LANES {
            let magnitude = chunk[j].abs();
            sums[j] += chunk[j] * chunk[j];
            largest[j] = if magnitude > largest[j] { magnitude } else { largest[j] };
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += x * x;
    }
    let largest = largest.iter().chain(rest).fold(0.0f32, |largest, x| x.abs().max(largest));
    (add_lanes(sums), largest)
}

/// Rounds to integers; returns their sum and that of their squares. A plain loop of integer sums,
/// which the compiler turns into vectors whatever their order.
#[inline(always)]
fn round_i8(x: &[f32], scale: f32, out: &mut [i8]) -> (i32, i32) {
    let (mut sum, mut squares) = (0, 0);
    for (out, x) in out.iter_mut().zip(x) {
        let rounded = (x * scale + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32;
        sum += rounded;
        squares += rounded * rounded;
        *out = rounded as i8;
    }
    (sum, squares)
}

/// As [`quantize_extreme`], to eight bits.
#[cold]
fn quantize_extreme_i8(row: &[f32], mean: &[f32], most: f32, out: &mut [i8]) -> (f32, f32) {
    let values = || row.iter().zip(mean).map(|(&x, &mean)| f64::from(x) - f64::from(mean));
    let norm_sq: f64 = values().map(|x| x * x).sum();
    let largest = values().fold(0.0, |largest, x| x.abs().max(largest));
    let most = f64::from(most);
    let inverse = (largest / most) as f32;
    out.fill(0);
    if !norm_sq.is_finite() || inverse == 0.0 {
        return (0.0, if norm_sq.is_nan() { f32::INFINITY } else { norm_sq as f32 });
    }
    for (out, x) in out.iter_mut().zip(values()) {
        *out = (x * (most / largest)).round_ties_even() as i8;
    }
    (inverse, norm_sq as f32)
}

/// The norm that a row is scaled to. Rounding moves every value by 1/2 at most, so the norm by
/// sqrt(dim) / 2; the rest of the margin covers the error of the `f32` sum of squares.
fn target_norm(dim: usize) -> f32 {
    let dim = dim as f64;
    (MAX_NORM - dim.sqrt() / 2.0 - 1.0 - dim / 4096.0).max(1.0) as f32
}

/// Quantizes a row whose squared norm is outside the comfortable range of `f32`, in `f64`.
/// Returns the inverse scale and the squared norm.
#[cold]
fn quantize_extreme(row: &[f32], mean: Option<&[f32]>, target: f32, out: &mut [i16]) -> (f32, f32) {
    let value = |j: usize| f64::from(row[j]) - mean.map_or(0.0, |mean| f64::from(mean[j]));
    let mut norm_sq = 0.0f64;
    for j in 0..row.len() {
        norm_sq += value(j) * value(j);
    }
    let norm = norm_sq.sqrt();
    let inverse = (norm / f64::from(target)) as f32;
    out.fill(0);
    // Where the inverse would be zero, the integers would be worthless.
    if !norm.is_finite() || inverse == 0.0 {
        return (0.0, if norm_sq.is_nan() { f32::INFINITY } else { norm_sq as f32 });
    }
    let scale = f64::from(target) / norm;
    for j in 0..row.len() {
        // A cast from float to integer saturates; rounding is that of the fast path.
        out[j] = (value(j) * scale).round_ties_even() as i16;
    }
    (inverse, norm_sq as f32)
}

struct Quantize<'a> {
    dim: usize,
    rows: &'a [f32],
    mean: Option<&'a [f32]>,
    values: &'a mut [i16],
    inverse: &'a mut [f32],
    norms_sq: &'a mut [f32],
    centred: &'a mut [f32],
}

impl Vectorize for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Quantize { dim, rows, mean, values, inverse, norms_sq, centred } = self;
        let target = target_norm(dim);
        let outs = values.chunks_exact_mut(dim.next_multiple_of(2));
        for (i, (row, out)) in rows.chunks_exact(dim).zip(outs).enumerate() {
            let x = match mean {
                Some(mean) => {
                    centre(row, mean, centred);
                    &*centred
                }
                None => row,
            };
            let norm_sq = sum_of_squares(x);
            if NORM_SQ_RANGE.contains(&norm_sq) {
                let norm = norm_sq.sqrt();
                round(x, target / norm, out);
                inverse[i] = norm / target;
                norms_sq[i] = norm_sq;
            } else {
                (inverse[i], norms_sq[i]) = quantize_extreme(row, mean, target, out);
            }
        }
    }
}

/// Subtracts the mean from a row. A loop of its own: in one with sums, the compiler would keep the
/// sums in memory.
#[inline(always)]
fn centre(row: &[f32], mean: &[f32], out: &mut [f32]) {
    for ((out, x), mean) in out.iter_mut().zip(row).zip(mean) {
        *out = x - mean;
    }
}

/// The squared norm, in a fixed order of summation over lanes.
#[inline(always)]
fn sum_of_squares(x: &[f32]) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for chunk in chunks {
        for j in 0..LANES {
            sums[j] += chunk[j] * chunk[j];
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += x * x;
    }
    add_lanes(sums)
}

#[inline(always)]
fn add_lanes(mut sums: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for j in 0..width {
            sums[j] += sums[j + width];
        }
        width /= 2;
    }
    sums[0]
}

#[inline(always)]
fn round(x: &[f32], scale: f32, out: &mut [i16]) {
    for (out, x) in out.iter_mut().zip(x) {
        let bits = (x * scale + ROUND).to_bits();
        *out = bits.wrapping_sub(ROUND.to_bits()) as i16;
    }
    if out.len() > x.len() {
        out[x.len()] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use nonius_simd::{Panels, available, gemm_i16, with_level};
    use proptest::prelude::*;

    fn norm_sq(values: &[i16]) -> i64 {
        values.iter().map(|&v| i64::from(v) * i64::from(v)).sum()
    }

    fn gaussian(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed, 0);
        (0..rows * dim).map(|_| random.normal() as f32).collect()
    }

    #[test]
    fn products_of_quantized_rows_are_close() {
        for dim in [1, 2, 3, 7, 16, 33, 128, 384, 1001] {
            let x = gaussian(20, dim, 1);
            let y = gaussian(9, dim, 2);
            let (mut a, mut b) = (RowsI16::new(), RowsI16::new());
            a.quantize(dim, &x);
            b.quantize(dim, &y);
            let packed = Panels::pack(9, b.depth(), b.values());
            let panels = Panels::new(9, b.depth(), &packed);
            let mut products = vec![0; 20 * panels.padded_rows()];
            gemm_i16(a.values(), panels, &mut products);
            for i in 0..20 {
                for j in 0..9 {
                    let (x, y) = (&x[i * dim..][..dim], &y[j * dim..][..dim]);
                    let exact: f64 =
                        x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
                    let found = products[i * panels.padded_rows() + j] as f32
                        * a.inverse()[i]
                        * b.inverse()[j];
                    let scale =
                        f64::from(a.norms_sq()[i]).sqrt() * f64::from(b.norms_sq()[j]).sqrt();
                    let error = (f64::from(found) - exact).abs() / scale;
                    assert!(error < 1e-4, "dim {dim}: {found} for {exact}, {error}");
                }
            }
        }
    }

    #[test]
    fn norms_stay_within_bounds_for_awkward_rows() {
        // All values equal, so that all round the same way; and one value alone.
        for dim in [1, 2, 3, 5, 100, 4096, 65_536] {
            for value in [1.0f32, -0.3, 1e-30, 3e38, 1e-45] {
                let mut rows = vec![value; dim];
                rows.extend((0..dim).map(|j| if j == dim / 2 { value } else { 0.0 }));
                let mut quantized = RowsI16::new();
                quantized.quantize(dim, &rows);
                assert_eq!(quantized.rows(), 2);
                for (i, row) in quantized.values().chunks(quantized.depth()).enumerate() {
                    assert!(norm_sq(row) <= 1 << 30, "dim {dim}, value {value}");
                    let inverse = quantized.inverse()[i];
                    assert!(inverse.is_finite() && inverse >= 0.0);
                    assert!(!quantized.norms_sq()[i].is_nan());
                    if value.abs() > 1e-37 {
                        // The norm must also be near the top, or precision is given away.
                        assert!(norm_sq(row) > 32_000 * 32_000, "dim {dim}, value {value}");
                    }
                }
            }
        }
    }

    #[test]
    fn zeros_and_what_is_not_finite_become_zeros() {
        let mut quantized = RowsI16::new();
        let rows = [0.0, 0.0, 0.0, f32::NAN, 1.0, 2.0, f32::INFINITY, 0.0, 0.0, 1.0, 2.0, 3.0];
        quantized.quantize(3, &rows);
        assert_eq!(quantized.depth(), 4);
        assert!(quantized.values()[..12].iter().all(|&v| v == 0));
        assert!(quantized.values()[12..15].iter().all(|&v| v > 0));
        assert_eq!(quantized.values()[15], 0);
        assert_eq!(&quantized.inverse()[..3], &[0.0; 3]);
        // Buffers shrink and keep no stale values.
        quantized.quantize(2, &[0.0, 0.0]);
        assert_eq!((quantized.rows(), quantized.values()), (1, &[0i16, 0][..]));
    }

    #[test]
    fn centring_is_subtraction() {
        let dim = 37;
        let rows = gaussian(11, dim, 3);
        let mean = gaussian(1, dim, 4);
        let differences: Vec<f32> =
            rows.iter().enumerate().map(|(i, x)| x - mean[i % dim]).collect();
        let (mut a, mut b) = (RowsI16::new(), RowsI16::new());
        a.quantize_centred(&rows, &mean);
        b.quantize(dim, &differences);
        assert_eq!(a.values(), b.values());
        assert_eq!(a.inverse(), b.inverse());
        // Differences that overflow f32 still make sense.
        a.quantize_centred(&[3e38, 1.0], &[-3e38, 0.0]);
        assert_eq!(a.values()[1], 0);
        assert!(a.values()[0] > 32_000 && a.inverse()[0].is_finite());
    }

    #[test]
    fn rows_of_eight_bits_are_close_and_right_along_themselves() {
        for dim in [1, 3, 4, 16, 33, 128, 384] {
            let rows = gaussian(20, dim, 7);
            let mean = gaussian(1, dim, 8);
            let (mut narrow, mut wide) = (RowsI8::default(), RowsI16::new());
            narrow.quantize_centred(&rows, &mean);
            wide.quantize_centred(&rows, &mean);
            assert_eq!((narrow.rows(), narrow.depth() % 4), (20, 0));
            assert_eq!(narrow.norms_sq(), wide.norms_sq());
            for (i, values) in narrow.values().chunks_exact(narrow.depth()).enumerate() {
                let (values, padding) = values.split_at(dim);
                assert!(padding.iter().all(|&v| v == 0));
                assert_eq!(narrow.sums()[i], values.iter().map(|&v| i32::from(v)).sum());
                let x = || rows[i * dim..].iter().zip(&mean).map(|(x, mean)| x - mean);
                let largest = x().fold(0.0f32, |largest, x| x.abs().max(largest));
                let mut dot = 0.0;
                for (x, &v) in x().zip(values) {
                    let error = (x - f32::from(v) * narrow.inverse()[i]).abs();
                    // Half a step for rounding, and as much again for what mends the length.
                    assert!(error <= largest / 127.0, "dim {dim}: {error} of {largest}");
                    dot += x * f32::from(v) * narrow.inverse()[i];
                }
                let along = dot / narrow.norms_sq()[i] - 1.0;
                assert!(along.abs() < 1e-4, "dim {dim}: {along}");
            }
        }
    }

    #[test]
    fn unusual_rows_of_eight_bits_are_safe() {
        let mut quantized = RowsI8::default();
        for value in [0.0, 1e-45, 1e-30, 1.0, 1e19, 3e38, f32::INFINITY, f32::NAN] {
            quantized.quantize_centred(&[value, 0.0, -value], &[0.0; 3]);
            let inverse = quantized.inverse()[0];
            assert!(inverse.is_finite() && inverse >= 0.0, "{value}");
            assert!(!quantized.norms_sq()[0].is_nan(), "{value}");
            let expected = if inverse > 0.0 { [127, 0, -127, 0] } else { [0; 4] };
            assert_eq!(quantized.values(), expected, "{value}");
            if (1e-30..1e38).contains(&value) {
                assert!((inverse * 127.0 / value - 1.0).abs() < 1e-5, "{value}");
            }
        }
        // Differences that overflow f32 still make sense.
        quantized.quantize_centred(&[3e38, 1.0], &[-3e38, 0.0]);
        assert_eq!(quantized.values(), [127, 0, 0, 0]);
    }

    #[test]
    fn products_of_seven_and_eight_bits_are_close() {
        for dim in [1, 3, 16, 33, 384] {
            let (x, y) = (gaussian(20, dim, 9), gaussian(9, dim, 10));
            let (mut left, mut right) = (RowsI7::default(), RowsI8::default());
            left.quantize(dim, &x);
            right.quantize(dim, &y);
            let packed = Panels8::pack(9, right.depth(), right.values());
            let panels = Panels8::new(9, right.depth(), &packed);
            let products = || {
                let (mut left, mut product) = (left.clone(), Vec::new());
                left.multiply(panels, &mut product);
                product
            };
            let product = with_level(nonius_simd::Level::Scalar, products);
            for level in available() {
                assert_eq!(with_level(level, products), product, "{level}");
            }
            for i in 0..left.rows() {
                for j in 0..9 {
                    let exact = nonius_simd::dot_f32(&x[i * dim..][..dim], &y[j * dim..][..dim]);
                    let dot = shifted_dot(product[i * panels.padded_rows() + j], right.sums()[j]);
                    let found = dot * left.inverse()[i] * right.inverse()[j];
                    let scale = (left.norms_sq()[i] * right.norms_sq()[j]).sqrt();
                    // Five times what it is on average.
                    let bound = 5.0 * scale / (56.0 * (dim as f32).sqrt());
                    assert!((found - exact).abs() <= bound, "dim {dim}: {found} for {exact}");
                }
            }
        }
    }

    #[test]
    fn every_level_gives_the_same_rows() {
        let rows = gaussian(13, 77, 5);
        let mean = gaussian(1, 77, 6);
        let run = || {
            let mut quantized = RowsI16::new();
            quantized.quantize_centred(&rows, &mean);
            let mut narrow = RowsI8::default();
            narrow.quantize_centred(&rows, &mean);
            let wide = (quantized.values().to_vec(), quantized.inverse().to_vec());
            (wide, narrow.values().to_vec(), narrow.inverse().to_vec(), narrow.sums().to_vec())
        };
        let truth = with_level(nonius_simd::Level::Scalar, run);
        for level in available() {
            assert_eq!(with_level(level, run), truth, "{level}");
        }
    }

    proptest! {
        #[test]
        fn any_floats_are_safe(bits in proptest::collection::vec(any::<u32>(), 1..70)) {
            let row: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
            let mut quantized = RowsI16::new();
            quantized.quantize(row.len(), &row);
            prop_assert!(norm_sq(quantized.values()) <= 1 << 30);
            prop_assert!(quantized.inverse()[0].is_finite());
            prop_assert!(!quantized.norms_sq()[0].is_nan());
        }
    }
}
