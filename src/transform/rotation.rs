//! Dense random rotations.

use nonius_simd::{Vectorize, level};
use rayon::prelude::*;

use crate::matrix::Matrix;
use crate::random::Random;

/// Rows of the result that are worked on together, so that each reflector is loaded once for all
/// of them.
const GROUP: usize = 8;

/// Partial sums of an inner product.
const LANES: usize = 8;

/// A random orthogonal matrix, `dim x dim`, the same for the same `dim`, `seed` and `stream`.
///
/// The distribution is that of Haar (every rotation or reflection equally likely), up to the
/// difference between [`Random::normal`] and a true normal. Rows and columns are orthonormal to
/// the precision of `f32`.
///
/// # Panics
/// If `dim` is 0.
pub fn random_orthogonal(dim: usize, seed: u64, stream: u64) -> Matrix {
    assert!(dim > 0, "a matrix needs at least one column");
    // Stewart's method: the product of the reflectors that would triangulate a Gaussian matrix.
    // Reflector k needs only dim - k normal numbers, and no triangular factor is ever formed.
    let mut random = Random::new(seed, stream);
    let mut reflectors = Vec::with_capacity(dim - 1);
    let mut signs = Vec::with_capacity(dim);
    for k in 0..dim {
        let (reflector, sign) = draw_reflector(dim - k, &mut random);
        reflectors.push(reflector);
        signs.push(sign);
    }
    let mut matrix = Matrix::zeros(dim, dim);
    matrix.data_mut().par_chunks_mut(GROUP * dim).enumerate().for_each(|(group, out)| {
        let first = group * GROUP;
        let rows = out.len() / dim;
        let mut work = vec![0.0f64; rows * dim];
        for i in 0..rows {
            work[i * dim + first + i] = signs[first + i];
        }
        level().vectorize(Reflect { dim, first, reflectors: &reflectors, work: &mut work });
        for (out, value) in out.iter_mut().zip(&work) {
            *out = *value as f32;
        }
    });
    matrix
}

/// A unit vector v of `len` values, and the sign: the reflection I - 2 v v^T takes a random
/// Gaussian vector to a multiple of the first axis with the opposite of that sign.
fn draw_reflector(len: usize, random: &mut Random) -> (Vec<f64>, f64) {
    loop {
        let mut v: Vec<f64> = (0..len).map(|_| random.normal()).collect();
        let norm_sq: f64 = v.iter().map(|x| x * x).sum();
        // A vector of (nearly) nothing has no direction: draw again.
        if norm_sq < 1e-20 {
            continue;
        }
        let sign = if v[0] < 0.0 { -1.0 } else { 1.0 };
        v[0] += sign * norm_sq.sqrt();
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        for x in &mut v {
            *x /= norm;
        }
        return (v, -sign);
    }
}

/// Multiplies rows by the reflectors from the right, the last reflector first. Row i starts as a
/// multiple of axis i, so reflectors after number i leave it alone.
struct Reflect<'a> {
    dim: usize,
    /// The number of the first row.
    first: usize,
    /// Reflector k acts on the columns from k on.
    reflectors: &'a [Vec<f64>],
    work: &'a mut [f64],
}

impl Vectorize for Reflect<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.work.len() / self.dim;
        for k in (0..self.first + rows).rev() {
            let v = &self.reflectors[k][..];
            for (i, row) in self.work.chunks_exact_mut(self.dim).enumerate() {
                if self.first + i >= k {
                    reflect(&mut row[k..], v);
                }
            }
        }
    }
}

/// `x -= 2 <x, v> v`
#[inline(always)]
fn reflect(x: &mut [f64], v: &[f64]) {
    let mut sums = [[0.0f64; LANES]; 4];
    let mut xs = x.chunks_exact(4 * LANES);
    let mut vs = v.chunks_exact(4 * LANES);
    for (x, v) in (&mut xs).zip(&mut vs) {
        for part in 0..4 {
            for j in 0..LANES {
                sums[part][j] += x[part * LANES + j] * v[part * LANES + j];
            }
        }
    }
    let mut dot = 0.0;
    for (x, v) in xs.remainder().iter().zip(vs.remainder()) {
        dot += x * v;
    }
    for j in 0..LANES {
        dot += (sums[0][j] + sums[1][j]) + (sums[2][j] + sums[3][j]);
    }
    let factor = 2.0 * dot;
    for (x, v) in x.iter_mut().zip(v) {
        *x -= factor * v;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonius_simd::{Level, available, with_level};

    fn largest_defect(matrix: &Matrix) -> f64 {
        let mut worst = 0.0f64;
        for i in 0..matrix.rows() {
            for j in 0..=i {
                let dot: f64 = matrix
                    .row(i)
                    .iter()
                    .zip(matrix.row(j))
                    .map(|(x, y)| f64::from(*x) * f64::from(*y))
                    .sum();
                worst = worst.max((dot - f64::from(u8::from(i == j))).abs());
            }
        }
        worst
    }

    #[test]
    fn rotations_are_orthogonal() {
        for dim in [1, 2, 3, 8, 9, 31, 64, 130, 384] {
            let matrix = random_orthogonal(dim, 42, dim as u64);
            assert_eq!((matrix.rows(), matrix.dim()), (dim, dim));
            assert!(largest_defect(&matrix) < 1e-6, "dim {dim}");
        }
    }

    #[test]
    fn seeds_streams_and_dimensions_differ() {
        let matrix = random_orthogonal(16, 1, 2);
        assert_eq!(matrix, random_orthogonal(16, 1, 2));
        assert_ne!(matrix, random_orthogonal(16, 1, 3));
        assert_ne!(matrix, random_orthogonal(16, 2, 2));
    }

    #[test]
    fn entries_look_like_those_of_a_uniform_rotation() {
        // Every entry of a Haar matrix has mean 0, variance 1/n and fourth moment 3/(n(n+2)).
        let dim = 5;
        let trials = 4000;
        let (mut mean, mut square, mut fourth) = ([0.0; 25], [0.0; 25], [0.0; 25]);
        for seed in 0..trials {
            let matrix = random_orthogonal(dim, seed, 0);
            for (i, &x) in matrix.data().iter().enumerate() {
                let x = f64::from(x);
                mean[i] += x / trials as f64;
                square[i] += x * x / trials as f64;
                fourth[i] += x * x * x * x / trials as f64;
            }
        }
        for i in 0..25 {
            assert!(mean[i].abs() < 0.04, "mean of entry {i}: {}", mean[i]);
            assert!((square[i] - 0.2).abs() < 0.02, "variance of entry {i}: {}", square[i]);
            assert!((fourth[i] - 3.0 / 35.0).abs() < 0.02, "fourth moment of {i}: {}", fourth[i]);
        }
    }

    #[test]
    fn threads_and_levels_change_nothing() {
        let in_pool = |threads: usize, level: Level| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            // A level is forced for one thread; the other threads of a pool use the best one.
            pool.install(|| with_level(level, || random_orthogonal(67, 5, 6)))
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
