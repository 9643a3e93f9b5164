//! A second list for vectors that are far from their centroid.
//!
//! Sun, Simcha, Dopson, Guo and Kumar, "SOAR: Improved Indexing for Approximate Nearest Neighbor
//! Search", NeurIPS 2023 (arXiv 2404.00774): a query misses a near vector when its list's residual
//! `r = x - c` points along the query's, so the second list is the one that minimizes
//!
//! ```text
//! |x - c'|^2 + LAMBDA * <x - c', r / |r|>^2
//! ```
//!
//! whose residual is not only short but also crosses the first: where the one list looks far, the
//! other does not.

use nonius_simd::{Vectorize, dot_f32, level};
use rayon::prelude::*;

use super::assign::{Assigner, Chunk, LANES, ROWS};
use super::quantize::RowsI16;
use super::repair::NOWHERE;

/// How much the part of the second residual along the first one weighs. Of 0.5 to 4, values from 1
/// to 2 were best or within 2% of it on the sets that were tried.
const LAMBDA: f32 = 1.5;

/// The nearest centroids that are compared. With all of them up to 5% fewer vectors would be
/// scanned for the same recall.
const CANDIDATES: usize = 16;

/// Candidates that are held before the worse ones are dropped.
const HELD: usize = 4 * CANDIDATES;

/// Buffers, one set a thread.
#[derive(Default)]
struct Scratch {
    rows: RowsI16,
    products: Vec<i32>,
    /// For each row the best centroids so far.
    nearest: Vec<Nearest>,
    residual: Vec<f32>,
}

/// The centroids of the smallest scores.
struct Nearest {
    /// Scores from here on are of no interest.
    limit: f32,
    found: Vec<(f32, u32)>,
}

impl Nearest {
    fn shrink(&mut self) {
        // The nearest centroid itself is among them.
        const KEPT: usize = CANDIDATES + 1;
        if self.found.len() > KEPT {
            let by = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
            let (_, last, _) = self.found.select_nth_unstable_by(KEPT - 1, by);
            self.limit = last.0;
            self.found.truncate(KEPT);
        }
    }
}

impl Assigner {
    /// Finds a second list for those rows (`n x dim`) whose squared distance to their nearest
    /// centroid is at least `least`; all others get [`NOWHERE`]. In parallel on the current
    /// rayon pool; the same at every SIMD level and for any number of threads.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub(crate) fn spill_into(
        &self,
        rows: &[f32],
        nearest: &[u32],
        l2_sq: &[f32],
        least: f32,
        second: &mut [u32],
    ) {
        let dim = self.dim();
        assert_eq!(rows.len(), nearest.len() * dim, "rows for {} numbers", nearest.len());
        assert_eq!(l2_sq.len(), nearest.len(), "distances for {} numbers", nearest.len());
        assert_eq!(second.len(), nearest.len(), "places for {} numbers", nearest.len());
        rows.par_chunks(ROWS * dim)
            .zip(nearest.par_chunks(ROWS))
            .zip(l2_sq.par_chunks(ROWS))
            .zip(second.par_chunks_mut(ROWS))
            .for_each_init(Scratch::default, |scratch, (((rows, nearest), l2_sq), second)| {
                self.spill_few(rows, nearest, l2_sq, least, scratch, second);
            });
    }

    fn spill_few(
        &self,
        rows: &[f32],
        nearest: &[u32],
        l2_sq: &[f32],
        least: f32,
        scratch: &mut Scratch,
        second: &mut [u32],
    ) {
        let Scratch { rows: quantized, products, nearest: candidates, residual } = scratch;
        quantized.quantize_centred(rows, &self.mean);
        candidates.resize_with(nearest.len(), || Nearest { limit: 0.0, found: Vec::new() });
        for (candidates, &l2_sq) in candidates.iter_mut().zip(l2_sq) {
            candidates.found.clear();
            // No score is below minus infinity.
            candidates.limit = if l2_sq >= least { f32::INFINITY } else { f32::NEG_INFINITY };
        }
        self.for_products(quantized.values(), products, |chunk| {
            let row_inverse = quantized.inverse();
            level().vectorize(Collect { chunk, row_inverse, nearest: candidates });
        });
        for (i, row) in rows.chunks_exact(self.dim()).enumerate() {
            let candidates = &mut candidates[i];
            candidates.shrink();
            residual.clear();
            residual.extend(
                row.iter().zip(self.centroids().row(nearest[i] as usize)).map(|(x, c)| x - c),
            );
            let along = dot_f32(residual, row);
            let inverse = if l2_sq[i] > 0.0 { LAMBDA / l2_sq[i] } else { 0.0 };
            let norm_sq = quantized.norms_sq()[i];
            second[i] = candidates
                .found
                .iter()
                .filter(|&&(_, number)| number != nearest[i])
                .map(|&(score, number)| {
                    let along = along - dot_f32(residual, self.centroids().row(number as usize));
                    (score + norm_sq + inverse * along * along, number)
                })
                .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
                .map_or(NOWHERE, |(_, number)| number);
        }
    }
}

/// Takes the products of rows with a chunk of centroids into the rows' candidates.
struct Collect<'a> {
    chunk: Chunk<'a>,
    row_inverse: &'a [f32],
    nearest: &'a mut [Nearest],
}

impl Vectorize for Collect<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Collect { chunk, row_inverse, nearest } = self;
        for (row, (&row_inverse, nearest)) in row_inverse.iter().zip(nearest).enumerate() {
            for (step, scores) in chunk.scores(row, row_inverse) {
                let limit = nearest.limit;
                if !scores.iter().fold(false, |any, &score| any | (score < limit)) {
                    continue;
                }
                for (j, &score) in scores.iter().enumerate() {
                    // Padding has an infinite norm, so its scores are never below a limit.
                    if score < limit {
                        nearest.found.push((score, step as u32 * LANES as u32 + j as u32));
                    }
                }
                if nearest.found.len() > HELD {
                    nearest.shrink();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Matrix;
    use crate::random::Random;
    use nonius_simd::{available, with_level};

    fn gaussian(rows: usize, dim: usize, seed: u64) -> Matrix {
        let mut random = Random::new(seed, 0);
        Matrix::new(dim, (0..rows * dim).map(|_| random.normal() as f32).collect()).unwrap()
    }

    fn spill(centroids: &Matrix, rows: &Matrix, least: f32) -> (Vec<u32>, Vec<f32>, Vec<u32>) {
        let assigner = Assigner::new(centroids.clone());
        let (nearest, l2_sq) = assigner.assign(rows.view());
        let mut second = vec![7; rows.rows()];
        assigner.spill_into(rows.data(), &nearest, &l2_sq, least, &mut second);
        (nearest, l2_sq, second)
    }

    fn cost(row: &[f32], first: &[f32], second: &[f32]) -> f64 {
        let residual = |c: &[f32]| -> Vec<f64> {
            row.iter().zip(c).map(|(x, c)| f64::from(*x) - f64::from(*c)).collect()
        };
        let (r, s) = (residual(first), residual(second));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(&s, &s) + f64::from(LAMBDA) * dot(&r, &s).powi(2) / dot(&r, &r).max(1e-300)
    }

    #[test]
    fn the_second_list_is_the_best_among_the_nearest() {
        for (nlist, dim) in [(2, 3), (17, 5), (18, 16), (300, 8), (600, 33)] {
            let (centroids, rows) = (gaussian(nlist, dim, 1), gaussian(1100, dim, 2));
            let (nearest, _, second) = spill(&centroids, &rows, 0.0);
            for i in 0..rows.rows() {
                let (row, first) = (rows.row(i), nearest[i] as usize);
                let mut others: Vec<usize> = (0..nlist).filter(|&j| j != first).collect();
                let l2_sq = |j: usize| nonius_simd::l2_sq_f32(row, centroids.row(j));
                others.sort_by(|&a, &b| l2_sq(a).total_cmp(&l2_sq(b)));
                others.truncate(CANDIDATES);
                let costs =
                    others.iter().map(|&j| cost(row, centroids.row(first), centroids.row(j)));
                let best = costs.fold(f64::INFINITY, f64::min);
                let found = cost(row, centroids.row(first), centroids.row(second[i] as usize));
                assert_ne!(second[i], nearest[i]);
                assert!(found <= best * 1.001 + 1e-4, "{nlist} x {dim}, row {i}: {found}, {best}");
            }
        }
    }

    #[test]
    fn near_rows_are_left_alone() {
        let (centroids, rows) = (gaussian(40, 6, 3), gaussian(500, 6, 4));
        let (_, l2_sq, second) = spill(&centroids, &rows, 2.0);
        for (&l2_sq, &second) in l2_sq.iter().zip(&second) {
            assert_eq!(second == NOWHERE, l2_sq < 2.0);
        }
        assert!(second.contains(&NOWHERE) && second.iter().any(|&s| s != NOWHERE));
    }

    #[test]
    fn zeros_ties_and_huge_values_have_answers() {
        // All centroids and rows alike: the smallest number that is not the first list's.
        let zeros = Matrix::zeros(40, 6);
        let (nearest, _, second) = spill(&zeros, &zeros, 0.0);
        assert!(nearest.iter().all(|&n| n == 0) && second.iter().all(|&n| n == 1));
        let single = Matrix::zeros(1, 6);
        assert!(spill(&single, &zeros, 0.0).2.iter().all(|&n| n == NOWHERE));
        let huge = Matrix::new(2, vec![3e38, -3e38, -3e38, 3e38, 1.0, 0.0, 3e38, 3e38]).unwrap();
        let (nearest, _, second) = spill(&huge, &huge, 0.0);
        assert!(nearest.iter().zip(&second).all(|(n, s)| n != s));
    }

    #[test]
    fn threads_and_levels_change_nothing() {
        let (centroids, rows) = (gaussian(300, 21, 7), gaussian(2100, 21, 8));
        let truth = spill(&centroids, &rows, 5.0);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| spill(&centroids, &rows, 5.0))
        };
        for level in available() {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let found = pool.install(|| with_level(level, || spill(&centroids, &rows, 5.0)));
            assert_eq!(found, truth, "{level}");
        }
        assert_eq!((run(2), run(7)), (truth.clone(), truth));
    }
}
