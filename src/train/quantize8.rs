//! Rows of `f32` turned into rows of `i8`, for [`nonius_simd::gemm_i8`].

use nonius_simd::{Vectorize, level};

/// Rows quantized to `i8`, with buffers that are kept from call to call. The largest magnitude of
/// a row becomes 127, so a value is off by 1/254 of it at most.
#[derive(Clone, Debug, Default)]
pub struct RowsI8 {
    depth: usize,
    values: Vec<i8>,
    inverse: Vec<f32>,
    sums: Vec<i32>,
}

impl RowsI8 {
    /// Replaces the contents by the quantized `rows` (a whole number of rows of `dim` finite
    /// values). A row whose values are all below 10^-30 becomes zeros.
    ///
    /// # Panics
    /// If `dim` is 0 or `rows` is no whole number of rows.
    pub fn quantize(&mut self, dim: usize, rows: &[f32]) {
        assert!(dim > 0, "a row needs at least one value");
        let count = rows.len() / dim;
        assert_eq!(rows.len(), count * dim, "no whole rows of {dim}");
        self.depth = dim.next_multiple_of(4);
        self.values.resize(count * self.depth, 0);
        self.inverse.resize(count, 0.0);
        self.sums.resize(count, 0);
        level().vectorize(Quantize { dim, rows, out: self });
    }

    /// The length of a quantized row: the dimension rounded up to a multiple of 4.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The integers, row by row: `rows x depth`.
    pub fn values(&self) -> &[i8] {
        &self.values
    }

    /// One number per row: `inverse[i] * values[i]` is close to row i. 0 for rows of zeros.
    pub fn inverse(&self) -> &[f32] {
        &self.inverse
    }

    /// The sum of the integers of each row.
    pub fn sums(&self) -> &[i32] {
        &self.sums
    }
}

struct Quantize<'a> {
    dim: usize,
    rows: &'a [f32],
    out: &'a mut RowsI8,
}

impl Vectorize for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let RowsI8 { depth, values, inverse, sums } = self.out;
        let outs = values.chunks_exact_mut(*depth);
        for (i, (row, out)) in self.rows.chunks_exact(self.dim).zip(outs).enumerate() {
            // The order of nonnegative floats is that of their bits.
            let largest = row.iter().fold(0, |m: u32, x| m.max(x.abs().to_bits()));
            let largest = f32::from_bits(largest);
            out.fill(0);
            (inverse[i], sums[i]) = (0.0, 0);
            if largest >= 1e-30 {
                // 1.5 * 2^23: the rounded integer ends up in the low bits.
                const ROUND: f32 = 12_582_912.0;
                let scale = 127.0 / largest;
                let mut sum = 0i32;
                for (out, x) in out.iter_mut().zip(row) {
                    let rounded = (x * scale + ROUND).to_bits() as i8;
                    *out = rounded;
                    sum += i32::from(rounded);
                }
                (inverse[i], sums[i]) = (largest / 127.0, sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_close_at_every_level() {
        for dim in [1, 3, 4, 17, 100] {
            for scale in [1e-20f32, 1.0, 1e30] {
                let rows: Vec<f32> =
                    (0..5 * dim).map(|i| ((i * i) as f32 * 0.7).sin() * scale).collect();
                let mut expected = RowsI8::default();
                nonius_simd::with_level(nonius_simd::Level::Scalar, || {
                    expected.quantize(dim, &rows);
                });
                for level in nonius_simd::available() {
                    let mut found = RowsI8::default();
                    nonius_simd::with_level(level, || found.quantize(dim, &rows));
                    assert_eq!(found.values, expected.values, "{level}");
                    assert_eq!(found.inverse, expected.inverse, "{level}");
                    assert_eq!(found.sums, expected.sums, "{level}");
                }
                for (i, row) in rows.chunks_exact(dim).enumerate() {
                    let largest = row.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                    let out = &expected.values[i * expected.depth..(i + 1) * expected.depth];
                    for (&q, &x) in out.iter().zip(row) {
                        let error = (f32::from(q) * expected.inverse[i] - x).abs();
                        assert!(error <= largest * 0.00395, "{x} of {largest} is off by {error}");
                    }
                    assert_eq!(expected.sums[i], out.iter().map(|&q| i32::from(q)).sum::<i32>());
                }
            }
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        let mut rows = RowsI8::default();
        rows.quantize(3, &[0.0, -0.0, 0.0, 1e-38, 0.0, 0.0, 1.0, -2.0, 0.5]);
        assert_eq!(rows.inverse(), [0.0, 0.0, 2.0 / 127.0]);
        assert_eq!(rows.sums(), [0, 0, 64 - 127 + 32]);
        assert_eq!(rows.values()[..8], [0; 8]);
    }
}
