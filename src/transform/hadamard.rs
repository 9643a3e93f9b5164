//! The fast Hadamard rotation: a random orthogonal transform in O(d log d).

use nonius_simd::{Vectorize, level};

use crate::random::Random;

/// Rounds of signs and transform. A power of two is flat after one round; the others make the
/// values of structured vectors look normal. Other dimensions need one more to mix their ends.
const ROUNDS_POWER_OF_TWO: usize = 3;
const ROUNDS_OTHER: usize = 4;

/// A random rotation of any dimension made of sign flips and Hadamard transforms.
///
/// If the dimension is no power of two, the rounds transform the largest power of two of leading
/// and of trailing values in turn, and after each round value i is mixed with value i + d/2 by a
/// rotation of 45 degrees (a step of Kac's walk), so that both ends reach every place.
#[derive(Clone, Debug, PartialEq)]
pub struct Hadamard {
    dim: usize,
    /// The largest power of two that is not above `dim`.
    block: usize,
    /// For each round `dim` factors: a sign, times 1/sqrt(block) where the transform acts.
    factors: Vec<f32>,
}

impl Hadamard {
    /// A rotation of vectors of `dim` values, the same for the same `dim`, `seed` and `stream`.
    ///
    /// # Panics
    /// If `dim` is 0.
    pub fn new(dim: usize, seed: u64, stream: u64) -> Hadamard {
        assert!(dim > 0, "a vector needs at least one value");
        let block = 1 << dim.ilog2();
        let rounds = if block == dim { ROUNDS_POWER_OF_TWO } else { ROUNDS_OTHER };
        let norm = 1.0 / (block as f32).sqrt();
        let mut random = Random::new(seed, stream);
        let mut factors = Vec::with_capacity(rounds * dim);
        for round in 0..rounds {
            let start = block_start(dim, block, round);
            for j in 0..dim {
                let sign = if random.next_u64() >> 63 == 0 { 1.0 } else { -1.0 };
                factors.push(if (start..start + block).contains(&j) { sign * norm } else { sign });
            }
        }
        Hadamard { dim, block, factors }
    }

    /// The number of values in a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Rotates every row of `rows` (a whole number of rows of `dim` values) in place.
    ///
    /// # Panics
    /// If `rows` is no whole number of rows.
    pub fn apply(&self, rows: &mut [f32]) {
        self.check(rows);
        level().vectorize(Forward { rotation: self, rows });
    }

    /// Undoes [`apply`](Hadamard::apply) on every row of `rows`, up to rounding.
    ///
    /// # Panics
    /// If `rows` is no whole number of rows.
    pub fn apply_inverse(&self, rows: &mut [f32]) {
        self.check(rows);
        level().vectorize(Inverse { rotation: self, rows });
    }

    fn check(&self, rows: &[f32]) {
        assert!(rows.len().is_multiple_of(self.dim), "no whole rows of {}", self.dim);
    }
}

/// Where the transformed values of a round start: rounds of even number take the leading ones.
#[inline(always)]
fn block_start(dim: usize, block: usize, round: usize) -> usize {
    if round.is_multiple_of(2) { 0 } else { dim - block }
}

struct Forward<'a> {
    rotation: &'a Hadamard,
    rows: &'a mut [f32],
}

impl Vectorize for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Hadamard { dim, block, ref factors } = *self.rotation;
        let mut scratch = vec![0.0; block];
        for x in self.rows.chunks_exact_mut(dim) {
            for (round, factors) in factors.chunks_exact(dim).enumerate() {
                multiply(x, factors);
                transform(&mut x[block_start(dim, block, round)..][..block], &mut scratch);
                if block != dim {
                    mix_halves(x);
                }
            }
        }
    }
}

struct Inverse<'a> {
    rotation: &'a Hadamard,
    rows: &'a mut [f32],
}

impl Vectorize for Inverse<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Hadamard { dim, block, ref factors } = *self.rotation;
        let mut scratch = vec![0.0; block];
        for x in self.rows.chunks_exact_mut(dim) {
            for (round, factors) in factors.chunks_exact(dim).enumerate().rev() {
                if block != dim {
                    mix_halves(x);
                }
                transform(&mut x[block_start(dim, block, round)..][..block], &mut scratch);
                // The transform's inverse is itself divided by `block`, and a sign's is itself:
                // the same factors serve both ways.
                multiply(x, factors);
            }
        }
    }
}

#[inline(always)]
fn multiply(x: &mut [f32], factors: &[f32]) {
    for (x, factor) in x.iter_mut().zip(factors) {
        *x *= factor;
    }
}

/// Rotates the pairs (i, i + d/2) by 45 degrees, as a reflection, which is its own inverse. The
/// middle value of an odd dimension stays.
#[inline(always)]
fn mix_halves(x: &mut [f32]) {
    let half = x.len() / 2;
    let start = x.len() - half;
    let (low, high) = x.split_at_mut(start);
    for (a, b) in low[..half].iter_mut().zip(high) {
        (*a, *b) = (
            (*a + *b) * std::f32::consts::FRAC_1_SQRT_2,
            (*a - *b) * std::f32::consts::FRAC_1_SQRT_2,
        );
    }
}

/// The Hadamard transform without normalisation; the length is a power of two. `scratch` has the
/// same length.
///
/// Every step takes neighbours, puts their sums into the first half and their differences into
/// the second, and thereby rotates the bits of the positions by one, so that after all steps
/// everything is back in its place. The textbook's steps of width 1, 2 and 4 would shuffle within
/// registers, which compilers do badly; this one loop is all even and odd loads.
#[inline(always)]
fn transform(x: &mut [f32], scratch: &mut [f32]) {
    let steps = x.len().ilog2();
    for _ in 0..steps / 2 {
        step(x, scratch);
        step(scratch, x);
    }
    if steps % 2 == 1 {
        step(x, scratch);
        x.copy_from_slice(scratch);
    }
}

#[inline(always)]
fn step(x: &[f32], out: &mut [f32]) {
    let (sums, differences) = out.split_at_mut(x.len() / 2);
    for ((pair, sum), difference) in x.as_chunks::<2>().0.iter().zip(sums).zip(differences) {
        *sum = pair[0] + pair[1];
        *difference = pair[0] - pair[1];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonius_simd::{Level, available, with_level};

    const DIMS: [usize; 16] = [1, 2, 3, 4, 5, 7, 8, 9, 16, 24, 63, 100, 255, 384, 1000, 1536];

    fn norm(x: &[f32]) -> f64 {
        x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
    }

    #[test]
    fn norms_stay_and_the_inverse_restores() {
        for dim in DIMS {
            let rotation = Hadamard::new(dim, 1, 2);
            let mut random = Random::new(3, dim as u64);
            let rows: Vec<f32> = (0..3 * dim).map(|_| random.normal() as f32).collect();
            let mut turned = rows.clone();
            rotation.apply(&mut turned);
            for (x, y) in rows.chunks(dim).zip(turned.chunks(dim)) {
                assert!((norm(x) / norm(y) - 1.0).abs() < 1e-5, "dim {dim}");
            }
            rotation.apply_inverse(&mut turned);
            for (x, y) in rows.iter().zip(&turned) {
                assert!((x - y).abs() < 1e-5, "dim {dim}: {x} and {y}");
            }
        }
    }

    #[test]
    fn the_matrix_is_orthogonal() {
        for dim in [1, 3, 8, 24, 63, 100] {
            let rotation = Hadamard::new(dim, 9, 0);
            let mut matrix = vec![0.0f32; dim * dim];
            for i in 0..dim {
                matrix[i * dim + i] = 1.0;
            }
            rotation.apply(&mut matrix);
            for i in 0..dim {
                for j in 0..dim {
                    let (x, y) = (&matrix[i * dim..][..dim], &matrix[j * dim..][..dim]);
                    let dot: f32 = x.iter().zip(y).map(|(x, y)| x * y).sum();
                    assert!((dot - f32::from(u8::from(i == j))).abs() < 1e-5, "dim {dim}");
                }
            }
        }
    }

    #[test]
    fn one_hot_vectors_become_flat() {
        for dim in DIMS.into_iter().filter(|&dim| dim >= 16) {
            let rotation = Hadamard::new(dim, 7, 7);
            // What a normal vector's largest value would be, with room.
            let bound = (2.0 * (dim as f64).ln()).sqrt() * 2.2 / (dim as f64).sqrt();
            for hot in [0, 1, dim / 2 - 1, dim / 2, dim - 2, dim - 1] {
                let mut x = vec![0.0f32; dim];
                x[hot] = 1.0;
                rotation.apply(&mut x);
                let largest = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                assert!(f64::from(largest) < bound, "dim {dim}, hot {hot}: {largest} > {bound}");
            }
        }
    }

    #[test]
    fn the_transform_is_that_of_hadamard() {
        // Entry (i, j) of the matrix is the parity of the bits that i and j share.
        for log in 0..7 {
            let n = 1usize << log;
            let x: Vec<f32> = (0..n).map(|i| (i * i % 11) as f32 - 4.0).collect();
            let mut y = x.clone();
            transform(&mut y, &mut vec![0.0; n]);
            for (i, y) in y.iter().enumerate() {
                let sum: f32 =
                    (0..n).map(|j| if (i & j).count_ones() % 2 == 0 { x[j] } else { -x[j] }).sum();
                assert_eq!(*y, sum);
            }
        }
    }

    #[test]
    fn every_level_gives_the_same_values() {
        for dim in [5, 64, 100, 384] {
            let rotation = Hadamard::new(dim, 1, 1);
            let rows: Vec<f32> = (0..2 * dim).map(|i| (i as f32).sqrt() - 3.0).collect();
            let run = || {
                let mut x = rows.clone();
                rotation.apply(&mut x);
                let mut y = x.clone();
                rotation.apply_inverse(&mut y);
                (x, y)
            };
            let truth = with_level(Level::Scalar, run);
            for level in available() {
                assert_eq!(with_level(level, run), truth, "dim {dim}, {level}");
            }
        }
    }
}
