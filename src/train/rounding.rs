//! Rounding the rows of a matrix so that their products with vectors of a known kind stay right.
//!
//! A row w that is rounded to integers q has the error e = q - w, which costs `e^T S e` in its
//! products with vectors of covariance S. Where S is far from a multiple of the identity it pays to
//! round not each value to the nearest integer but so that errors cancel: with the Cholesky factor
//! `S = L L^T`, `e^T S e = |L^T e|^2`, and since row j of `L^T` has no entries before j, the values
//! may be rounded from the last to the first, each taking back what the errors after it have done
//! to its entry. This is the nearest plane of Babai's; what remains is the product of `L_jj^2 / 12`
//! in the place of `S_jj / 12`.

use nalgebra::Cholesky;

use nonius_simd::{Vectorize, level};

use super::pca;
use crate::matrix::{Matrix, MatrixView};

/// Columns whose errors are balanced against each other: bounds time and memory for long vectors.
const BLOCK: usize = 512;

/// Rows of the sample that are looked at.
const ROWS: usize = 4096;

/// The share of the mean variance that is added to every direction: a sample leaves some out.
const FLOOR: f64 = 0.01;

/// How errors are taken back, for vectors of one kind.
#[derive(Clone, Debug)]
pub struct Rounding {
    /// For each block of columns: row j holds `L_jk / L_kk` for the columns k before j.
    blocks: Vec<Vec<f32>>,
}

impl Rounding {
    /// Learns from the differences of a sample to `mean`. Their directions count, not their norms,
    /// lest a few long ones decide alone.
    pub fn of(sample: MatrixView<'_>, mean: &[f32]) -> Rounding {
        let dim = sample.dim();
        let count = sample.rows().min(ROWS);
        let mut rows = Matrix::zeros(count, dim);
        for i in 0..count {
            // Evenly spread over the sample, which is in the order of the source.
            let row = sample.row(i * sample.rows() / count);
            set_direction(row, mean, rows.row_mut(i));
        }
        let blocks = (0..dim)
            .step_by(BLOCK)
            .map(|start| {
                let width = BLOCK.min(dim - start);
                let mut columns = Matrix::zeros(count, width);
                for i in 0..count {
                    columns.row_mut(i).copy_from_slice(&rows.row(i)[start..start + width]);
                }
                feedback(columns.view())
            })
            .collect();
        Rounding { blocks }
    }

    /// Rounds rows of the sample's dimension to integers within `-limit..=limit`.
    pub fn round(&self, rows: &mut Matrix, limit: f32) {
        let dim = rows.dim();
        for row in rows.data_mut().chunks_exact_mut(dim) {
            for (values, feedback) in row.chunks_mut(BLOCK).zip(&self.blocks) {
                level().vectorize(RoundBlock { values, feedback, limit });
            }
        }
    }
}

/// The direction of a row's difference to the mean; zeros where there is none.
fn set_direction(row: &[f32], mean: &[f32], out: &mut [f32]) {
    let values = || row.iter().zip(mean).map(|(&x, &mean)| f64::from(x) - f64::from(mean));
    let norm = values().map(|x| x * x).sum::<f64>().sqrt();
    if norm > 0.0 {
        for (out, x) in out.iter_mut().zip(values()) {
            *out = (x / norm) as f32;
        }
    }
}

/// Row j holds `L_jk / L_kk` for the columns k before j and zeros from there: the Cholesky factor
/// of the columns' covariance, scaled.
fn feedback(columns: MatrixView<'_>) -> Vec<f32> {
    let width = columns.dim();
    let mut covariance = pca::covariance(columns, &vec![0.0; width], 1.0);
    let mean_variance = covariance.trace() / width as f64;
    let floor = FLOOR * mean_variance + f64::MIN_POSITIVE.sqrt();
    for j in 0..width {
        covariance[(j, j)] += floor;
    }
    let mut feedback = vec![0.0; width * width];
    // Without a factor, which only rounding could prevent, each value goes to the nearest integer.
    if let Some(factor) = Cholesky::new(covariance) {
        let factor = factor.l();
        for (j, row) in feedback.chunks_exact_mut(width).enumerate() {
            for (k, value) in row[..j].iter_mut().enumerate() {
                *value = (factor[(j, k)] / factor[(k, k)]) as f32;
            }
        }
    }
    feedback
}

struct RoundBlock<'a> {
    values: &'a mut [f32],
    feedback: &'a [f32],
    limit: f32,
}

impl Vectorize for RoundBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let RoundBlock { values, feedback, limit } = self;
        let width = values.len();
        // Where values should be rounded to, once the errors after them are known.
        let mut targets = values.to_vec();
        for j in (0..width).rev() {
            let rounded = targets[j].round_ties_even().clamp(-limit, limit);
            let error = rounded - values[j];
            values[j] = rounded;
            for (target, &share) in targets[..j].iter_mut().zip(&feedback[j * width..]) {
                *target -= share * error;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use nonius_simd::{available, with_level};

    /// Rows whose values are sums of few sources, and a matrix to round.
    fn setting(dim: usize) -> (Matrix, Matrix) {
        let mut random = Random::new(3, 0);
        let sources: Vec<f32> = (0..dim * dim).map(|_| random.normal() as f32).collect();
        let mut sample = Matrix::zeros(2000, dim);
        for i in 0..sample.rows() {
            for s in 0..dim {
                let weight = random.normal() as f32 / (1.0 + s as f32);
                for (x, source) in sample.row_mut(i).iter_mut().zip(&sources[s * dim..]) {
                    *x += weight * source;
                }
            }
        }
        let mut matrix = Matrix::zeros(10, dim);
        matrix.data_mut().fill_with(|| 40.0 * random.normal() as f32);
        (sample, matrix)
    }

    /// The mean square of the products' errors.
    fn cost(sample: &Matrix, exact: &Matrix, rounded: &Matrix) -> f64 {
        let mut cost = 0.0;
        for i in 0..sample.rows() {
            for j in 0..exact.rows() {
                let errors = exact.row(j).iter().zip(rounded.row(j)).map(|(a, b)| a - b);
                let error: f32 = errors.zip(sample.row(i)).map(|(e, x)| e * x).sum();
                cost += f64::from(error * error);
            }
        }
        cost / (sample.rows() * exact.rows()) as f64
    }

    #[test]
    fn products_are_better_than_by_rounding_to_the_nearest() {
        for dim in [24, 100] {
            let (sample, exact) = setting(dim);
            let mut rounded = exact.clone();
            Rounding::of(sample.view(), &vec![0.0; dim]).round(&mut rounded, 127.0);
            assert!(rounded.data().iter().all(|v| v.abs() <= 127.0 && v.fract() == 0.0));
            let mut nearest = exact.clone();
            for value in nearest.data_mut() {
                *value = value.round().clamp(-127.0, 127.0);
            }
            let (found, plain) = (cost(&sample, &exact, &rounded), cost(&sample, &exact, &nearest));
            assert!(found < 0.5 * plain, "{dim}: {found} against {plain}");
        }
    }

    #[test]
    fn long_rows_are_rounded_in_blocks() {
        let mut random = Random::new(4, 0);
        let dim = BLOCK + 40;
        let mut sample = Matrix::zeros(50, dim);
        sample.data_mut().fill_with(|| random.normal() as f32);
        let mut matrix = Matrix::zeros(3, dim);
        matrix.data_mut().fill_with(|| 40.0 * random.normal() as f32);
        let exact = matrix.clone();
        Rounding::of(sample.view(), &vec![0.0; dim]).round(&mut matrix, 127.0);
        assert!(matrix.data().iter().all(|v| v.fract() == 0.0));
        assert!(matrix.data().iter().zip(exact.data()).any(|(a, b)| (a - b).abs() > 0.5));
    }

    #[test]
    fn unusual_samples_are_safe() {
        let dim = 6;
        let mut matrix = Matrix::zeros(2, dim);
        matrix.data_mut().fill_with({
            let mut random = Random::new(5, 0);
            move || 50.0 * random.normal() as f32
        });
        for value in [0.0, 1.0, 1e-30, 3e38] {
            let sample = Matrix::new(dim, vec![value; 3 * dim]).unwrap();
            let mut rounded = matrix.clone();
            Rounding::of(sample.view(), &vec![-value; dim]).round(&mut rounded, 127.0);
            for (rounded, exact) in rounded.data().iter().zip(matrix.data()) {
                assert!(rounded.fract() == 0.0 && (rounded - exact).abs() < 10.0, "{value}");
            }
        }
    }

    #[test]
    fn every_level_rounds_alike() {
        let (sample, matrix) = setting(70);
        let run = || {
            let mut rounded = matrix.clone();
            Rounding::of(sample.view(), &vec![0.1; 70]).round(&mut rounded, 127.0);
            rounded
        };
        let truth = with_level(nonius_simd::Level::Scalar, run);
        for level in available() {
            assert_eq!(with_level(level, run), truth, "{level}");
        }
    }
}
