//! Principal components.

use nalgebra::{DMatrix, SymmetricEigen};
use nonius_simd::{Vectorize, level};
use rayon::prelude::*;

use crate::error::{BuildError, ConfigError};
use crate::matrix::{Matrix, MatrixView};

/// Columns in a panel, and the side of a tile of the covariance.
const TILE: usize = 64;

/// Rows whose products are summed in `f32` before they are added in `f64`.
const ROWS: usize = 64;

/// Rows that are centred together; a whole number of [`ROWS`].
const BATCH: usize = 512;

/// The rows and columns of a tile that are summed in registers.
const KERNEL: (usize, usize) = (4, 32);

/// The principal components of a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Pca {
    /// The mean of the sample: `dim` values.
    pub mean: Vec<f32>,
    /// The components, `dim x dim`: row i is the direction of the i-th largest variance. The rows
    /// are orthonormal whatever the sample; the value of largest magnitude of each (the first of
    /// several) is positive.
    pub components: Matrix,
    /// The variance of the sample along each component, falling, never negative: `dim` values.
    pub variances: Vec<f64>,
}

impl Pca {
    /// The largest dimension that is accepted: the time grows with its cube (about 4 s for 1,536
    /// dimensions) and the working memory with its square (24 bytes times `dim * dim`).
    pub const MAX_DIM: usize = 8192;

    /// Finds the principal components of `sample` (`rows x dim`).
    ///
    /// The covariance divides by the number of rows. Along directions in which the sample does
    /// not vary, all or some of them if there are fewer rows than dimensions, the variance is 0
    /// up to rounding, and the components complete the basis. A sample of one row, or of equal
    /// rows, gives the coordinate axes.
    ///
    /// # Errors
    /// [`BuildError::Empty`] if there is no row; [`BuildError::Config`] if the dimension exceeds
    /// [`MAX_DIM`](Pca::MAX_DIM).
    pub fn fit(sample: MatrixView<'_>) -> Result<Pca, BuildError> {
        let dim = sample.dim();
        if sample.rows() == 0 {
            return Err(BuildError::Empty);
        }
        if dim > Pca::MAX_DIM {
            let message = format!(
                "principal components need a dimension of {} at most, found {dim}",
                Pca::MAX_DIM
            );
            return Err(ConfigError::new("dim", message).into());
        }
        let mean = mean(sample);
        let scale = scale(sample, &mean);
        let covariance = covariance(sample, &mean, scale);
        let mean = mean.iter().map(|&mean| mean as f32).collect();

        // nalgebra solves in plain loops of f64: unlike its matrix product, nothing here asks for
        // the processor's features at run time, so the bits do not depend on them.
        let eigen = SymmetricEigen::new(covariance);
        let mut order: Vec<usize> = (0..dim).collect();
        // A stable sort: equal variances keep the solver's order.
        order.sort_by(|&i, &j| eigen.eigenvalues[j].total_cmp(&eigen.eigenvalues[i]));

        let unit = 1.0 / (scale * scale);
        let variances = order.iter().map(|&i| (eigen.eigenvalues[i] * unit).max(0.0)).collect();
        let mut components = Matrix::zeros(dim, dim);
        for (row, &i) in order.iter().enumerate() {
            let vector = eigen.eigenvectors.column(i);
            let mut largest = 0;
            for j in 1..dim {
                if vector[j].abs() > vector[largest].abs() {
                    largest = j;
                }
            }
            let sign = if vector[largest] < 0.0 { -1.0 } else { 1.0 };
            for (out, &value) in components.row_mut(row).iter_mut().zip(vector) {
                *out = (sign * value) as f32;
            }
        }
        Ok(Pca { mean, components, variances })
    }

    /// The number of dimensions.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }
}

/// The mean of every column, summed in `f64` over blocks of rows.
fn mean(sample: MatrixView<'_>) -> Vec<f64> {
    let dim = sample.dim();
    let blocks: Vec<Vec<f64>> = sample
        .data()
        .par_chunks(4096 * dim)
        .map(|rows| {
            let mut sums = vec![0.0; dim];
            level().vectorize(AddRows { rows, sums: &mut sums });
            sums
        })
        .collect();
    let mut mean = vec![0.0; dim];
    for sums in blocks {
        for (mean, sum) in mean.iter_mut().zip(sums) {
            *mean += sum;
        }
    }
    for mean in &mut mean {
        *mean /= sample.rows() as f64;
    }
    mean
}

struct AddRows<'a> {
    rows: &'a [f32],
    sums: &'a mut [f64],
}

impl Vectorize for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for row in self.rows.chunks_exact(self.sums.len()) {
            for (sum, &x) in self.sums.iter_mut().zip(row) {
                *sum += f64::from(x);
            }
        }
    }
}

/// A power of two that brings the largest centred value to about 1, so that no square leaves the
/// range of `f32`; 1 if the sample does not vary.
fn scale(sample: MatrixView<'_>, mean: &[f64]) -> f64 {
    let largest = sample
        .data()
        .par_chunks(4096 * mean.len())
        .map(|rows| {
            let mut largest = 0.0f64;
            for row in rows.chunks_exact(mean.len()) {
                for (&x, mean) in row.iter().zip(mean) {
                    largest = largest.max((f64::from(x) - mean).abs());
                }
            }
            largest
        })
        .reduce(|| 0.0, f64::max);
    let mut scale = 1.0;
    if largest > 0.0 {
        while largest * scale >= 2.0 {
            scale *= 0.5;
        }
        while largest * scale < 1.0 {
            scale *= 2.0;
        }
    }
    scale
}

/// The covariance of the sample times `scale` squared, both triangles.
pub(super) fn covariance(sample: MatrixView<'_>, mean: &[f64], scale: f64) -> DMatrix<f64> {
    let dim = sample.dim();
    let panels = dim.div_ceil(TILE);
    let mut tiles: Vec<(usize, usize, Vec<f64>)> = (0..panels)
        .flat_map(|i| (i..panels).map(move |j| (i, j, vec![0.0; TILE * TILE])))
        .collect();
    // A batch of centred rows as panels of 64 columns: within a panel rows lie next to each
    // other, whatever the dimension.
    let mut centred = vec![0.0f32; panels * BATCH * TILE];
    for batch in sample.data().chunks(BATCH * dim) {
        let rows = batch.len() / dim;
        centred.par_chunks_mut(BATCH * TILE).enumerate().for_each(|(panel, out)| {
            let start = panel * TILE;
            let width = TILE.min(dim - start);
            let mean = &mean[start..start + width];
            for (row, out) in batch.chunks_exact(dim).zip(out.chunks_exact_mut(TILE)) {
                for ((out, &x), mean) in out.iter_mut().zip(&row[start..]).zip(mean) {
                    *out = ((f64::from(x) - mean) * scale) as f32;
                }
            }
        });
        tiles.par_iter_mut().for_each(|(i, j, sums)| {
            let panel = |i: usize| &centred[i * BATCH * TILE..][..rows * TILE];
            level().vectorize(AddProducts { x: panel(*i), y: panel(*j), sums });
        });
    }
    let mut covariance = DMatrix::zeros(dim, dim);
    let weight = 1.0 / sample.rows() as f64;
    for (i, j, sums) in tiles {
        for (row, sums) in (i * TILE..dim).zip(sums.chunks_exact(TILE)) {
            for (column, sum) in (j * TILE..dim).zip(sums) {
                covariance[(row, column)] = sum * weight;
                covariance[(column, row)] = sum * weight;
            }
        }
    }
    covariance
}

/// `sums += x^T y` for panels of `rows x 64` values and a tile of 64 x 64 sums. Each sum takes
/// its products in the order of the rows, in groups of [`ROWS`].
struct AddProducts<'a> {
    x: &'a [f32],
    y: &'a [f32],
    sums: &'a mut [f64],
}

impl Vectorize for AddProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        const HEIGHT: usize = KERNEL.0;
        const WIDTH: usize = KERNEL.1;
        let groups = self.x.chunks(ROWS * TILE).zip(self.y.chunks(ROWS * TILE));
        for (x, y) in groups {
            let (x, y) = (x.as_chunks::<TILE>().0, y.as_chunks::<TILE>().0);
            for i in (0..TILE).step_by(HEIGHT) {
                for j in (0..TILE).step_by(WIDTH) {
                    let mut products = [[0.0f32; WIDTH]; HEIGHT];
                    for (x, y) in x.iter().zip(y) {
                        for (a, products) in products.iter_mut().enumerate() {
                            for (b, product) in products.iter_mut().enumerate() {
                                *product += x[i + a] * y[j + b];
                            }
                        }
                    }
                    for (a, products) in products.iter().enumerate() {
                        let sums = &mut self.sums[(i + a) * TILE + j..][..WIDTH];
                        for (sum, &product) in sums.iter_mut().zip(products) {
                            *sum += f64::from(product);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::transform::random_orthogonal;
    use nonius_simd::{Level, available, with_level};

    /// Gaussian rows with standard deviations falling from 1, turned by a random rotation, far
    /// from the origin.
    fn stretched(rows: usize, dim: usize) -> Matrix {
        let rotation = random_orthogonal(dim, 11, 0);
        let mut random = Random::new(5, dim as u64);
        let mut data = Vec::with_capacity(rows * dim);
        for _ in 0..rows {
            let mut x = vec![3.0f64; dim];
            for i in 0..dim {
                let weight = random.normal() * 0.9f64.powi(i as i32);
                for (x, &r) in x.iter_mut().zip(rotation.row(i)) {
                    *x += weight * f64::from(r);
                }
            }
            data.extend(x.iter().map(|&x| x as f32));
        }
        Matrix::new(dim, data).unwrap()
    }

    fn covariance_slowly(sample: &Matrix) -> DMatrix<f64> {
        let (rows, dim) = (sample.rows(), sample.dim());
        let x = DMatrix::from_fn(rows, dim, |i, j| f64::from(sample.row(i)[j]));
        let mean = x.row_mean();
        let x = DMatrix::from_fn(rows, dim, |i, j| x[(i, j)] - mean[j]);
        x.transpose() * &x / rows as f64
    }

    fn check(sample: &Matrix, what: &str) -> Pca {
        let pca = Pca::fit(sample.view()).unwrap();
        let dim = sample.dim();
        assert_eq!(pca.dim(), dim);
        assert_eq!((pca.components.rows(), pca.components.dim()), (dim, dim));
        assert_eq!(pca.variances.len(), dim);
        assert!(pca.variances.iter().all(|v| v.is_finite() && *v >= 0.0), "{what}");
        assert!(pca.variances.windows(2).all(|w| w[0] >= w[1]), "{what}");
        assert!(pca.mean.iter().all(|m| m.is_finite()), "{what}");
        for i in 0..dim {
            let row = pca.components.row(i);
            for j in 0..=i {
                let other = pca.components.row(j);
                let dot: f64 =
                    row.iter().zip(other).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
                let expected = f64::from(u8::from(i == j));
                assert!((dot - expected).abs() < 1e-5, "{what}: rows {i} and {j}: {dot}");
            }
            let largest = row.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            assert!(row.contains(&largest), "{what}: the largest of row {i} is negative");
        }
        // Variances along the components are those of the sample.
        let covariance = covariance_slowly(sample);
        let total = covariance.trace();
        for i in 0..dim {
            let row = pca.components.row(i);
            let c = nalgebra::DVector::from_fn(dim, |j, _| f64::from(row[j]));
            let variance = (c.transpose() * &covariance * &c)[0];
            assert!(
                (variance - pca.variances[i]).abs() <= 1e-5 * total + f64::MIN_POSITIVE,
                "{what}: {variance} and {}",
                pca.variances[i]
            );
        }
        let sum: f64 = pca.variances.iter().sum();
        assert!((sum - total).abs() <= 1e-5 * total, "{what}: {sum} of {total}");
        pca
    }

    #[test]
    fn variances_and_directions_are_found() {
        for (rows, dim) in [(2000, 1), (2000, 3), (1500, 40), (700, 65), (300, 130)] {
            let sample = stretched(rows, dim);
            let pca = check(&sample, &format!("{rows} x {dim}"));
            let exact = SymmetricEigen::new(covariance_slowly(&sample));
            let mut values: Vec<f64> = exact.eigenvalues.iter().copied().collect();
            values.sort_by(|a, b| b.total_cmp(a));
            for (found, exact) in pca.variances.iter().zip(&values) {
                assert!((found - exact).abs() < 1e-5 * values[0], "{found} and {exact}");
            }
        }
    }

    #[test]
    fn degenerate_samples_have_a_whole_basis() {
        let equal = Matrix::new(5, vec![2.5; 50]).unwrap();
        let pca = check(&equal, "equal rows");
        assert!(pca.variances.iter().all(|&v| v == 0.0));
        assert_eq!(pca.mean, [2.5; 5]);
        let one = Matrix::new(4, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(check(&one, "one row").mean, [1.0, 2.0, 3.0, 4.0]);
        check(&Matrix::new(1, vec![7.0]).unwrap(), "one value");
        check(&Matrix::new(70, stretched(3, 70).into_data()).unwrap(), "3 rows of 70");

        // Constant columns, equal columns, and columns that are sums of others.
        let base = stretched(200, 6);
        let mut data = Vec::new();
        for i in 0..200 {
            let x = base.row(i);
            data.extend_from_slice(x);
            data.extend_from_slice(&[1.0, 0.0, x[0], x[0], x[1] + x[2], -x[3], 1e5]);
        }
        let pca = check(&Matrix::new(13, data).unwrap(), "dependent columns");
        assert!(pca.variances[6..].iter().all(|&v| v < 1e-6 * pca.variances[0]));

        // Two points: one direction.
        let two = Matrix::new(3, vec![0.0, 0.0, 0.0, 2.0, 0.0, 0.0]).unwrap();
        let pca = check(&two, "two points");
        assert_eq!(pca.variances, [1.0, 0.0, 0.0]);
        assert_eq!(pca.components.row(0), [1.0, 0.0, 0.0]);
    }

    #[test]
    fn extreme_scales_do_not_overflow() {
        for factor in [1e-38f32, 1e-20, 1e18, 1e37] {
            let mut sample = stretched(100, 8);
            for x in sample.data_mut() {
                *x *= factor;
            }
            let pca = check(&sample, &format!("scale {factor}"));
            assert!(pca.variances[0] > 0.0);
        }
        let wide: Vec<f32> =
            (0..400).map(|i| ((i * 7919 % 400) as f32 - 200.0) * [1e30, 1e-30][i % 2]).collect();
        check(&Matrix::new(4, wide).unwrap(), "scales mixed");
    }

    #[test]
    fn equal_variances_keep_a_basis() {
        // The corners of a cube: every direction has the same variance.
        let corners: Vec<f32> =
            (0..8 * 3).map(|i| if (i / 3) >> (i % 3) & 1 == 1 { 1.0 } else { -1.0 }).collect();
        let pca = check(&Matrix::new(3, corners).unwrap(), "cube");
        assert!(pca.variances.iter().all(|v| (v - 1.0).abs() < 1e-12));
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        let empty = Matrix::zeros(0, 3);
        assert!(matches!(Pca::fit(empty.view()), Err(BuildError::Empty)));
        let wide = Matrix::zeros(1, Pca::MAX_DIM + 1);
        assert!(matches!(Pca::fit(wide.view()), Err(BuildError::Config(_))));
    }

    #[test]
    fn threads_and_levels_change_nothing() {
        let sample = stretched(1100, 70);
        let in_pool = |threads: usize, level: Level| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            // A level is forced for one thread; the other threads of a pool use the best one.
            pool.install(|| with_level(level, || Pca::fit(sample.view()).unwrap()))
        };
        let truth = in_pool(1, Level::Scalar);
        for level in available() {
            assert_eq!(in_pool(1, level), truth, "{level}");
        }
        for threads in [2, 7] {
            assert_eq!(in_pool(threads, Level::Scalar), truth, "{threads} threads");
        }
    }
}
