//! Assigning rows to their nearest centroids.

use nonius_simd::{Panels, Vectorize, gemm_i16, l2_sq_f32, level};
use rayon::prelude::*;

use super::direct::Direct;
use super::quantize::RowsI16;
use crate::matrix::{Matrix, MatrixView};

/// Rows that are multiplied at once.
pub(super) const ROWS: usize = 64;

/// Centroids that are multiplied at once, a whole number of panels of 16 and of the triples of
/// panels that the widest kernel takes. Their products with [`ROWS`] rows are 72 KiB.
const CENTROIDS: usize = 288;

/// Rows that one task assigns.
pub(super) const TASK: usize = 1024;

/// Centroids next to each other in a vector of scores.
pub(super) const LANES: usize = 16;

/// How far apart two scores must be for the smaller one to be surely the nearer centroid, in
/// units of the norm of the row times the largest norm that a centroid at hand can have.
///
/// Rounding moves the difference of two scores by about 2.5e-5 of that (one standard deviation);
/// this is six of them.
pub(super) const MARGIN: f32 = 1.5e-4;

/// The score up to which any centroid may be nearest to a row, from the best score found and the squared norm of
/// the row: `|c| <= |x| + |x - c|` bounds the norm of such a centroid.
pub(super) fn limit_of(best: f32, norm_sq: f32, margin: f32) -> f32 {
    let norm = norm_sq.sqrt();
    best + margin * norm * (norm + (norm_sq + best).max(0.0).sqrt())
}

/// Centroids packed for finding the nearest one to many rows.
///
/// Where there are few dimensions all distances are computed and compared. Where there are many,
/// the candidates come from a product of integers; whenever they are too close for its
/// precision, the distances in `f32` decide. The outcome is thus that of comparing all distances
/// in `f32`, ties going to the smallest number, unless the rounding of a row or a centroid to
/// integers errs by six standard deviations. It is the same at every SIMD level and for any
/// number of threads.
#[derive(Clone, Debug)]
pub struct Assigner {
    centroids: Matrix,
    /// Subtracted from rows and centroids, so that an offset of all data costs no precision.
    pub(super) mean: Vec<f32>,
    /// As [`Panels`] pack them.
    packed: Vec<i16>,
    /// Inverse scales and squared norms of the centred centroids, padded to whole panels. The
    /// norms of the padding are infinite, which keeps it from being nearest.
    inverse: Vec<f32>,
    norms_sq: Vec<f32>,
    /// Where there are few dimensions.
    direct: Option<Direct>,
}

/// The buffers of [`Assigner::assign_block`], to be kept from call to call.
#[derive(Clone, Debug, Default)]
pub struct AssignScratch {
    rows: RowsI16,
    products: Vec<i32>,
    states: Vec<State>,
    unsure: Vec<Unsure>,
    unsure_values: Vec<i16>,
}

impl AssignScratch {
    /// Empty buffers.
    pub fn new() -> AssignScratch {
        AssignScratch::default()
    }
}

/// The best scores of a row so far: lane j has seen the centroids of number j modulo 16.
#[derive(Clone, Copy, Debug)]
struct State {
    best: [f32; LANES],
    second: [f32; LANES],
    /// The number of the best centroid divided by 16.
    step: [i32; LANES],
}

const START: State =
    State { best: [f32::INFINITY; LANES], second: [f32::INFINITY; LANES], step: [0; LANES] };

/// A row whose nearest centroid the integers cannot tell.
#[derive(Clone, Copy, Debug)]
struct Unsure {
    row: usize,
    /// Every centroid with a score up to this may be nearest.
    limit: f32,
    nearest: u32,
    l2_sq: f32,
}

impl Assigner {
    /// Packs `centroids` (`nlist x dim`).
    ///
    /// # Panics
    /// If there is no centroid, or more than 2^31.
    pub fn new(centroids: Matrix) -> Assigner {
        let (nlist, dim) = (centroids.rows(), centroids.dim());
        assert!(nlist > 0, "there is no centroid to assign to");
        assert!(nlist <= 1 << 31, "{nlist} centroids are too many");
        let mut sums = vec![0.0f64; dim];
        for row in centroids.data().chunks_exact(dim) {
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum += f64::from(x);
            }
        }
        let mean: Vec<f32> = sums.iter().map(|sum| (sum / nlist as f64) as f32).collect();
        let mut rows = RowsI16::new();
        rows.quantize_centred(centroids.data(), &mean);
        let packed = Panels::pack(nlist, rows.depth(), rows.values());
        let padded = nlist.next_multiple_of(LANES);
        let mut inverse = rows.inverse().to_vec();
        inverse.resize(padded, 0.0);
        let mut norms_sq = rows.norms_sq().to_vec();
        norms_sq.resize(padded, f32::INFINITY);
        let direct = (dim <= Direct::MAX_DIMS).then(|| Direct::new(dim, centroids.data()));
        Assigner { centroids, mean, packed, inverse, norms_sq, direct }
    }

    /// The number of centroids.
    pub fn nlist(&self) -> usize {
        self.centroids.rows()
    }

    /// The dimension of centroids and rows.
    pub fn dim(&self) -> usize {
        self.centroids.dim()
    }

    /// Whether all distances are computed, as there are few dimensions.
    pub(super) fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// The centroids, `nlist x dim`.
    pub fn centroids(&self) -> &Matrix {
        &self.centroids
    }

    /// The centroids again, to be changed without a copy.
    pub fn into_centroids(self) -> Matrix {
        self.centroids
    }

    /// Finds the nearest centroid of every row of `rows` (`n x dim`) on the calling thread:
    /// `nearest[i]` is its number and `l2_sq[i]` its squared Euclidean distance to row i, both
    /// written for all n rows.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub fn assign_block(
        &self,
        rows: &[f32],
        scratch: &mut AssignScratch,
        nearest: &mut [u32],
        l2_sq: &mut [f32],
    ) {
        let dim = self.dim();
        assert_eq!(rows.len(), nearest.len() * dim, "rows for {} numbers", nearest.len());
        assert_eq!(l2_sq.len(), nearest.len(), "distances for {} numbers", nearest.len());
        let blocks = nearest.chunks_mut(ROWS).zip(l2_sq.chunks_mut(ROWS));
        for (rows, (nearest, l2_sq)) in rows.chunks(ROWS * dim).zip(blocks) {
            self.assign_few(rows, scratch, nearest, l2_sq);
        }
    }

    /// Finds the nearest centroid of every row, in parallel on the current rayon pool: their
    /// numbers, and their squared Euclidean distances.
    ///
    /// # Panics
    /// If the dimensions differ.
    pub fn assign(&self, rows: MatrixView<'_>) -> (Vec<u32>, Vec<f32>) {
        let mut nearest = vec![0; rows.rows()];
        let mut l2_sq = vec![0.0; rows.rows()];
        self.assign_into(rows.data(), &mut nearest, &mut l2_sq);
        (nearest, l2_sq)
    }

    /// [`assign`](Assigner::assign) into slices of the caller's.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub fn assign_into(&self, rows: &[f32], nearest: &mut [u32], l2_sq: &mut [f32]) {
        let dim = self.dim();
        assert_eq!(rows.len(), nearest.len() * dim, "rows for {} numbers", nearest.len());
        assert_eq!(l2_sq.len(), nearest.len(), "distances for {} numbers", nearest.len());
        rows.par_chunks(TASK * dim)
            .zip(nearest.par_chunks_mut(TASK))
            .zip(l2_sq.par_chunks_mut(TASK))
            .for_each_init(AssignScratch::new, |scratch, ((rows, nearest), l2_sq)| {
                self.assign_block(rows, scratch, nearest, l2_sq);
            });
    }

    /// Assigns at most [`ROWS`] rows.
    fn assign_few(
        &self,
        rows: &[f32],
        scratch: &mut AssignScratch,
        nearest: &mut [u32],
        l2_sq: &mut [f32],
    ) {
        let dim = self.dim();
        if let Some(direct) = &self.direct {
            direct.find(rows, nearest);
            for ((row, number), l2_sq) in rows.chunks_exact(dim).zip(&*nearest).zip(l2_sq) {
                *l2_sq = l2_sq_f32(row, self.centroids.row(*number as usize));
            }
            return;
        }
        let AssignScratch { rows: quantized, products, states, unsure, unsure_values } = scratch;
        quantized.quantize_centred(rows, &self.mean);
        states.clear();
        states.resize(nearest.len(), START);
        self.for_products(quantized.values(), products, |chunk| {
            level().vectorize(Fold { chunk, row_inverse: quantized.inverse(), states });
        });

        unsure.clear();
        unsure_values.clear();
        for (i, row) in rows.chunks_exact(dim).enumerate() {
            let (number, best, second) = states[i].nearest();
            let limit = limit_of(best, quantized.norms_sq()[i], MARGIN);
            if second <= limit {
                let depth = quantized.depth();
                unsure_values.extend_from_slice(&quantized.values()[i * depth..(i + 1) * depth]);
                unsure.push(Unsure { row: i, limit, nearest: 0, l2_sq: f32::INFINITY });
            }
            nearest[i] = number;
            l2_sq[i] = l2_sq_f32(row, self.centroids.row(number as usize));
        }
        if unsure.is_empty() {
            return;
        }
        self.for_products(unsure_values, products, |chunk| {
            for (i, entry) in unsure.iter_mut().enumerate() {
                let row = &rows[entry.row * dim..(entry.row + 1) * dim];
                for (step, scores) in chunk.scores(i, quantized.inverse()[entry.row]) {
                    if scores.iter().fold(true, |none, &score| none & (score > entry.limit)) {
                        continue;
                    }
                    for (j, &score) in scores.iter().enumerate() {
                        let number = step as usize * LANES + j;
                        if score <= entry.limit && number < self.nlist() {
                            let distance = l2_sq_f32(row, self.centroids.row(number));
                            if distance < entry.l2_sq {
                                (entry.nearest, entry.l2_sq) = (number as u32, distance);
                            }
                        }
                    }
                }
            }
        });
        for entry in unsure {
            // Distances beyond the range of f32 leave the first choice standing.
            if entry.l2_sq < f32::INFINITY {
                (nearest[entry.row], l2_sq[entry.row]) = (entry.nearest, entry.l2_sq);
            }
        }
    }

    /// Multiplies quantized rows with all centroids, a chunk at a time.
    pub(super) fn for_products(
        &self,
        rows: &[i16],
        products: &mut Vec<i32>,
        mut each: impl FnMut(Chunk<'_>),
    ) {
        let depth = self.dim().next_multiple_of(2);
        let count = rows.len() / depth;
        for first in (0..self.nlist()).step_by(CENTROIDS) {
            let width = CENTROIDS.min(self.nlist() - first);
            let packed = &self.packed[first * depth..][..Panels::packed_len(width, depth)];
            let panels = Panels::new(width, depth, packed);
            let width = panels.padded_rows();
            products.resize(count * width, 0);
            gemm_i16(rows, panels, products);
            each(Chunk {
                first,
                products,
                inverse: &self.inverse[first..first + width],
                norms_sq: &self.norms_sq[first..first + width],
            });
        }
    }
}

/// Products of rows with some centroids, a multiple of [`LANES`] of them with padding.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    /// The number of the first centroid, a multiple of [`LANES`].
    first: usize,
    /// For each row one of each centroid.
    products: &'a [i32],
    inverse: &'a [f32],
    norms_sq: &'a [f32],
}

impl<'a> Chunk<'a> {
    /// The scores of row number `row`, [`LANES`] centroids at a time, each with the number of its
    /// first centroid divided by [`LANES`]. Scores of padding are infinite.
    #[inline(always)]
    pub(super) fn scores(
        self,
        row: usize,
        row_inverse: f32,
    ) -> impl Iterator<Item = (i32, [f32; LANES])> + 'a {
        let width = self.inverse.len();
        let products = self.products[row * width..(row + 1) * width].as_chunks::<LANES>().0;
        let inverse = self.inverse.as_chunks::<LANES>().0;
        let norms_sq = self.norms_sq.as_chunks::<LANES>().0;
        let row_factor = -2.0 * row_inverse;
        ((self.first / LANES) as i32..).zip(products.iter().zip(inverse).zip(norms_sq)).map(
            move |(step, ((products, inverse), norms_sq))| {
                (step, scores(products, inverse, norms_sq, row_factor))
            },
        )
    }
}

/// Squared distances less the squared norm of the row: `|c|^2 - 2 <x, c>`.
#[inline(always)]
fn scores(
    products: &[i32; LANES],
    inverse: &[f32; LANES],
    norms_sq: &[f32; LANES],
    row_factor: f32,
) -> [f32; LANES] {
    let mut scores = [0.0; LANES];
    for j in 0..LANES {
        scores[j] = norms_sq[j] + (products[j] as f32 * inverse[j]) * row_factor;
    }
    scores
}

impl State {
    /// The number of the best centroid, its score, and the least score of all others.
    #[inline]
    fn nearest(&self) -> (u32, f32, f32) {
        let mut lane = 0;
        for j in 1..LANES {
            let better = self.best[j] < self.best[lane]
                || (self.best[j] == self.best[lane] && self.step[j] < self.step[lane]);
            if better {
                lane = j;
            }
        }
        let mut second = self.second[lane];
        for j in 0..LANES {
            if j != lane {
                second = second.min(self.best[j]);
            }
        }
        (self.step[lane] as u32 * LANES as u32 + lane as u32, self.best[lane], second)
    }
}

/// Takes the products of rows with a chunk of centroids into the rows' states.
struct Fold<'a> {
    chunk: Chunk<'a>,
    row_inverse: &'a [f32],
    states: &'a mut [State],
}

impl Vectorize for Fold<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Fold { chunk, row_inverse, states } = self;
        for (row, (&row_inverse, state)) in row_inverse.iter().zip(states).enumerate() {
            let State { mut best, mut second, step: mut steps } = *state;
            for (step, scores) in chunk.scores(row, row_inverse) {
                for j in 0..LANES {
                    let better = scores[j] < best[j];
                    let loser = if better { best[j] } else { scores[j] };
                    second[j] = if loser < second[j] { loser } else { second[j] };
                    best[j] = if better { scores[j] } else { best[j] };
                    steps[j] = if better { step } else { steps[j] };
                }
            }
            *state = State { best, second, step: steps };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use nonius_simd::{Level, available, with_level};

    fn gaussian(rows: usize, dim: usize, seed: u64) -> Matrix {
        let mut random = Random::new(seed, 0);
        Matrix::new(dim, (0..rows * dim).map(|_| random.normal() as f32).collect()).unwrap()
    }

    fn slowly(centroids: &Matrix, rows: &Matrix) -> (Vec<u32>, Vec<f32>) {
        (0..rows.rows())
            .map(|i| {
                let mut best = (0, f32::INFINITY);
                for j in 0..centroids.rows() {
                    let distance = l2_sq_f32(rows.row(i), centroids.row(j));
                    if distance < best.1 {
                        best = (j as u32, distance);
                    }
                }
                best
            })
            .unzip()
    }

    #[test]
    fn agrees_with_all_distances() {
        for (nlist, dim) in
            [(1, 1), (2, 1), (16, 3), (17, 3), (50, 8), (288, 17), (289, 16), (600, 33), (700, 2)]
        {
            let centroids = gaussian(nlist, dim, 1);
            let rows = gaussian(257, dim, 2);
            let assigner = Assigner::new(centroids.clone());
            assert_eq!((assigner.nlist(), assigner.dim()), (nlist, dim));
            assert_eq!(assigner.assign(rows.view()), slowly(&centroids, &rows), "{nlist} x {dim}");
        }
    }

    #[test]
    fn close_centroids_far_from_the_mean_are_told_apart() {
        // Two heaps at a distance of 200, each with 60 centroids within 0.01 of each other: far
        // below the precision of the integers.
        let mut centroids = gaussian(120, 12, 3);
        for i in 0..120 {
            for x in centroids.row_mut(i) {
                *x = *x * 0.01 + if i % 2 == 0 { 100.0 } else { -100.0 };
            }
        }
        let assigner = Assigner::new(centroids.clone());
        let (nearest, l2_sq) = assigner.assign(centroids.view());
        assert_eq!(nearest, (0..120).collect::<Vec<u32>>());
        assert!(l2_sq.iter().all(|&d| d == 0.0));
        let mut rows = gaussian(500, 12, 4);
        for (i, x) in rows.data_mut().iter_mut().enumerate() {
            *x = *x * 0.02 + if i / 12 % 2 == 0 { 100.0 } else { -100.0 };
        }
        assert_eq!(assigner.assign(rows.view()), slowly(&centroids, &rows));
    }

    #[test]
    fn ties_go_to_the_smallest_number() {
        let mut centroids = gaussian(100, 5, 5);
        for i in 50..100 {
            let row = centroids.row(99 - i).to_vec();
            centroids.row_mut(i).copy_from_slice(&row);
        }
        let (nearest, _) = Assigner::new(centroids).assign(gaussian(300, 5, 6).view());
        assert!(nearest.iter().all(|&number| number < 50));
        // On a line of integers the middle between two centroids is a true tie.
        let line = Matrix::new(1, vec![4.0, 0.0, 2.0, 6.0]).unwrap();
        let points = Matrix::new(1, vec![1.0, 3.0, 5.0, 7.0, -9.0]).unwrap();
        assert_eq!(Assigner::new(line).assign(points.view()).0, [1, 0, 0, 3, 1]);
    }

    #[test]
    fn small_integers_with_many_ties_agree() {
        let mut random = Random::new(9, 0);
        for (nlist, dim, values) in [(300, 64, 2), (200, 5, 3), (500, 30, 4)] {
            let mut draw = |rows: usize| {
                let data = (0..rows * dim).map(|_| random.below(values) as f32).collect();
                Matrix::new(dim, data).unwrap()
            };
            let (centroids, rows) = (draw(nlist), draw(1500));
            let found = Assigner::new(centroids.clone()).assign(rows.view());
            assert_eq!(found, slowly(&centroids, &rows), "{nlist} x {dim}");
        }
    }

    #[test]
    fn all_equal_and_zero_rows_work() {
        let zeros = Matrix::zeros(40, 6);
        let (nearest, l2_sq) = Assigner::new(zeros.clone()).assign(zeros.view());
        assert!(nearest.iter().all(|&n| n == 0) && l2_sq.iter().all(|&d| d == 0.0));
        let (nearest, l2_sq) = Assigner::new(Matrix::new(2, vec![3.0, 4.0]).unwrap())
            .assign(Matrix::zeros(3, 2).view());
        assert_eq!((nearest, l2_sq), (vec![0; 3], vec![25.0; 3]));
    }

    #[test]
    fn huge_values_do_not_panic() {
        let huge = Matrix::new(2, vec![3e38, -3e38, -3e38, 3e38, 1.0, 0.0, 3e38, 3e38]).unwrap();
        let (nearest, _) = Assigner::new(huge.clone()).assign(huge.view());
        assert!(nearest.iter().all(|&n| n < 4));
    }

    #[test]
    fn threads_and_levels_change_nothing() {
        let centroids = gaussian(300, 21, 7);
        let rows = gaussian(2100, 21, 8);
        let run = || Assigner::new(centroids.clone()).assign(rows.view());
        let in_pool = |threads: usize, level: Level| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            // A level is forced for one thread; the other threads of a pool use the best one.
            pool.install(|| with_level(level, run))
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
