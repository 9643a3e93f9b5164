//! Exact nearest neighbours.
//!
//! A blocked matrix product in `f32` gives every inner product with a known bound on its error.
//! Only where that bound cannot rule a vector out is its distance computed in `f64`; so the
//! result is that of `f64` throughout, at nearly the speed of the matrix product.

use std::ops::ControlFlow;

use nonius::{MatrixView, Metric, SourceError, VectorError, VectorSource};
use nonius_simd::matmul_f32;
use rayon::prelude::*;

use crate::ids::IdMatrix;

/// Bytes of the block of base vectors held at a time.
const BASE_BLOCK: usize = 4 << 20;

/// Base vectors in one matrix product; with the tile of queries they stay in the cache.
const BASE_TILE: usize = 256;

/// Queries in one matrix product, at most.
const QUERY_TILE: usize = 64;

/// The exact nearest neighbours of each query.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// `queries x k` row numbers of the base, best first; equal distances by row number.
    pub ids: IdMatrix,
    /// `queries x k` distances with the metric's scale and sign, see [`Metric`].
    pub distances: Vec<f64>,
}

/// Ground truth that cannot be computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TruthError {
    /// The base could not be read.
    #[error("reading the vectors: {0}")]
    Source(#[from] SourceError),
    /// The queries are not acceptable.
    #[error("queries: {0}")]
    Queries(VectorError),
    /// k is 0.
    #[error("k is 0; ask for at least one neighbour")]
    ZeroK,
    /// There is nothing to search.
    #[error("there are no vectors")]
    Empty,
    /// The progress callback asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// Finds the exact `k` nearest neighbours of each query in `base`, or all of its rows if there are
/// fewer than `k`.
///
/// Distances are those of a plain loop over the columns in `f64`, on the values as they are
/// stored; equal distances are ordered by row number. The result does not depend on the number of
/// threads. The base is read once, in blocks of 4 MiB; memory is that block, `k` candidates a
/// query and a copy of the queries.
///
/// `progress` is called with the rows done and the rows in all; [`ControlFlow::Break`] ends the
/// work.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use nonius::{Matrix, Metric};
/// use nonius_datasets::exact_neighbors;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let base = Matrix::new(1, vec![0.0, 3.0, 5.0, 3.0])?;
/// let queries = Matrix::new(1, vec![4.0])?;
/// let mut progress = |_, _| ControlFlow::Continue(());
/// let truth = exact_neighbors(&base, queries.view(), 3, Metric::L2, &mut progress)?;
/// assert_eq!(truth.ids.row(0), [1, 2, 3]);
/// assert_eq!(truth.distances, [1.0, 1.0, 1.0]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`TruthError`]: what the base reports, queries of another dimension, `k` of 0, an empty base,
/// a zero vector under the cosine metric, or a cancellation.
pub fn exact_neighbors(
    base: &dyn VectorSource,
    queries: MatrixView<'_>,
    k: usize,
    metric: Metric,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Truth, TruthError> {
    let (rows, dim) = (base.rows(), base.dim());
    if k == 0 {
        return Err(TruthError::ZeroK);
    }
    if rows == 0 {
        return Err(TruthError::Empty);
    }
    if queries.dim() != dim {
        let (expected, found) = (dim, queries.dim());
        return Err(TruthError::Queries(VectorError::DimMismatch { expected, found }));
    }
    let k = k.min(rows);
    let filter = Filter::new(dim, metric, queries);
    let mut prepared = vec![0.0f32; queries.data().len()];
    let mut states = prepared
        .chunks_exact_mut(dim)
        .enumerate()
        .map(|(row, prepared)| filter.query(row, queries.row(row), k, prepared))
        .collect::<Result<Vec<Query>, VectorError>>()
        .map_err(TruthError::Queries)?;

    let tile = queries.rows().div_ceil(rayon::current_num_threads()).clamp(1, QUERY_TILE);
    let block_rows = (BASE_BLOCK / 4 / dim).clamp(1, rows);
    let mut block = vec![0.0f32; block_rows * dim];
    let mut reader = base.reader()?;
    let mut done = 0;
    while done < rows {
        let count = block_rows.min(rows - done);
        let values = &mut block[..count * dim];
        reader.read(done, values)?;
        let values = &*values;
        let base_block = filter.base(values, done)?;
        states.par_chunks_mut(tile).zip(prepared.par_chunks(tile * dim)).enumerate().for_each(
            |(number, (states, prepared))| {
                let mut dots = vec![0.0f32; states.len() * BASE_TILE.min(count)];
                for (first, rows) in
                    (0..count).step_by(BASE_TILE).map(|first| (first, BASE_TILE.min(count - first)))
                {
                    let dots = &mut dots[..states.len() * rows];
                    let tile_values = &base_block.prepared[first * dim..(first + rows) * dim];
                    matmul_f32(dim, prepared, tile_values, dots);
                    for (i, state) in states.iter_mut().enumerate() {
                        let query = queries.row(number * tile + i);
                        let terms = &base_block.terms[first..first + rows];
                        state.offer(&dots[i * rows..(i + 1) * rows], terms, |j| {
                            let row = first + j;
                            let x = &values[row * dim..(row + 1) * dim];
                            ((done + row) as u64, filter.key(query, x))
                        });
                    }
                }
            },
        );
        done += count;
        if progress(done as u64, rows as u64).is_break() {
            return Err(TruthError::Cancelled);
        }
    }

    let mut ids = Vec::with_capacity(states.len() * k);
    let mut distances = Vec::with_capacity(states.len() * k);
    for state in states {
        for (key, id) in state.best.into_sorted() {
            ids.push(id);
            distances.push(match metric {
                Metric::L2 => key,
                Metric::InnerProduct => 0.0 - key,
                // Parallel vectors may miss an angle of 0 by the last bit.
                Metric::Cosine => key.clamp(0.0, 2.0),
            });
        }
    }
    Ok(Truth { ids: IdMatrix::new(k, ids), distances })
}

/// The unit roundoff of `f32`.
const U: f64 = 1.0 / (1 << 24) as f64;

/// Above this squared norm a partial sum of the matrix product might overflow.
const LARGE: f64 = 1e37;

/// The `f32` test that rules vectors out: everything about it that does not depend on a vector.
///
/// For a query q and a vector x it holds `dot`, the computed inner product of their prepared
/// copies q' and x', and asks whether
///
/// ```text
/// factor(q) * term(x) - scale * dot > limit(q)
/// ```
///
/// If so, the key of x in `f64` certainly exceeds the worst key among the best k, and x is out.
///
/// The error of `dot`. The sum of d products in any order, with or without fused operations,
/// differs from the true one by at most `g |q'| |x'|`, where `g = d U / (1 - d U)`: each product
/// goes through at most d roundings, and `sum |q_i x_i| <= |q| |x|`. The bounds below take
/// `(d + 16) U * 1.01 + ...`, which covers `1 - d U > 0.996` for d up to 65,536 and the few
/// roundings of the test itself; subnormal products lose at most `d 2^-149 < 1e-39`, which
/// `SLACK` covers.
///
/// L2. q' and x' are q and x less a centre, rounded: each moves by at most `U` times its norm.
/// With `s = |q'| + |x'|`, the true squared distance differs from `|q'|^2 + |x'|^2 - 2 q'x'` by
/// at most `2 U s * s + U^2 s^2`. In all the error is at most
/// `2 g |q'| |x'| + 3 U s^2 <= c (|q'|^2 + |x'|^2)` for `c = g + 6 U`, by
/// `2ab <= a^2 + b^2` and `(a + b)^2 <= 2 (a^2 + b^2)`. So x is out if
/// `(1 - c)|x'|^2 - 2 dot > key - (1 - c)|q'|^2`.
///
/// Inner product. q' = q, x' = x. x is out if `-dot - g |q| |x| > key`.
///
/// Cosine. q' and x' are scaled to unit norm in `f64` and rounded, which adds `2 U` and a little.
/// x is out if `-dot - g - 3 U > key - 1`, with the key `1 - cos`.
struct Filter {
    metric: Metric,
    /// What is subtracted before the product (L2), to make the norms, and so the errors, small.
    centre: Vec<f32>,
    /// `c` for L2, `g` with its reserve for the others.
    error: f64,
    /// What `dot` is multiplied by.
    scale: f32,
}

/// Covers what subnormal numbers lose.
const SLACK: f64 = 1e-38;

/// A block of base vectors, prepared for the product.
struct BaseBlock {
    prepared: Vec<f32>,
    /// For each vector its term in the test.
    terms: Vec<f32>,
}

impl Filter {
    fn new(dim: usize, metric: Metric, queries: MatrixView<'_>) -> Filter {
        let product = (dim as f64 + 16.0) * U * 1.01;
        let mut centre = vec![0.0f32; dim];
        if metric == Metric::L2 && queries.rows() > 0 {
            let mut sums = vec![0.0f64; dim];
            for row in 0..queries.rows() {
                for (sum, &x) in sums.iter_mut().zip(queries.row(row)) {
                    *sum += f64::from(x);
                }
            }
            for (centre, sum) in centre.iter_mut().zip(sums) {
                *centre = (sum / queries.rows() as f64) as f32;
            }
        }
        let (error, scale) = match metric {
            Metric::L2 => (product + 8.0 * U, 2.0),
            Metric::InnerProduct => (product, 1.0),
            Metric::Cosine => (product + 8.0 * U, 1.0),
        };
        Filter { metric, centre, error, scale }
    }

    /// The key of a pair, smaller is nearer: the distance, or the negated inner product.
    fn key(&self, query: &[f32], x: &[f32]) -> f64 {
        match self.metric {
            Metric::L2 => {
                let mut sum = 0.0;
                for (&q, &x) in query.iter().zip(x) {
                    let difference = f64::from(q) - f64::from(x);
                    sum += difference * difference;
                }
                sum
            }
            Metric::InnerProduct => -dot(query, x),
            Metric::Cosine => 1.0 - dot(query, x) / (dot(query, query) * dot(x, x)).sqrt(),
        }
    }

    /// Writes the prepared copy of a vector and returns its squared norm; `Err` for a zero vector
    /// under the cosine metric.
    fn prepare(&self, row: usize, x: &[f32], prepared: &mut [f32]) -> Result<f64, VectorError> {
        match self.metric {
            Metric::L2 => {
                for ((prepared, &x), &centre) in prepared.iter_mut().zip(x).zip(&self.centre) {
                    *prepared = x - centre;
                }
                Ok(dot(prepared, prepared))
            }
            Metric::InnerProduct => {
                prepared.copy_from_slice(x);
                Ok(dot(x, x))
            }
            Metric::Cosine => {
                let norm = dot(x, x).sqrt();
                if norm == 0.0 {
                    return Err(VectorError::ZeroVector { row });
                }
                for (prepared, &x) in prepared.iter_mut().zip(x) {
                    *prepared = (f64::from(x) / norm) as f32;
                }
                Ok(1.0)
            }
        }
    }

    fn query(
        &self,
        row: usize,
        query: &[f32],
        k: usize,
        prepared: &mut [f32],
    ) -> Result<Query, VectorError> {
        let norm_sq = self.prepare(row, query, prepared)?;
        let (offset, factor) = match self.metric {
            Metric::L2 => ((1.0 - self.error) * norm_sq, 1.0),
            // The terms are the norms of the base.
            Metric::InnerProduct => (0.0, -self.error * norm_sq.sqrt()),
            Metric::Cosine => (1.0, -1.0),
        };
        Ok(Query {
            factor: round(factor, false),
            scale: self.scale,
            offset,
            exhaustive: is_large(norm_sq),
            limit: f32::INFINITY,
            best: Best::new(k),
        })
    }

    fn base(&self, values: &[f32], first: usize) -> Result<BaseBlock, SourceError> {
        let dim = self.centre.len();
        let mut prepared = vec![0.0f32; values.len()];
        let mut terms = vec![0.0f32; values.len() / dim];
        let refused =
            (values.par_chunks_exact(dim), prepared.par_chunks_exact_mut(dim), &mut terms)
                .into_par_iter()
                .enumerate()
                .filter_map(|(i, (x, prepared, term))| {
                    match self.prepare(first + i, x, prepared) {
                        Ok(norm_sq) => *term = self.term(norm_sq),
                        Err(error) => return Some((i, error)),
                    }
                    None
                })
                .min_by_key(|&(i, _)| i);
        match refused {
            None => Ok(BaseBlock { prepared, terms }),
            Some((_, error)) => Err(error.into()),
        }
    }

    /// The term of a base vector in the test.
    fn term(&self, norm_sq: f64) -> f32 {
        match self.metric {
            // An infinity makes the test undecided, so that the key is computed.
            Metric::L2 if is_large(norm_sq) => f32::NEG_INFINITY,
            Metric::InnerProduct if is_large(norm_sq) => f32::INFINITY,
            Metric::L2 => round((1.0 - self.error) * norm_sq, false),
            Metric::InnerProduct => round(norm_sq.sqrt(), true),
            Metric::Cosine => round(self.error, true),
        }
    }
}

/// True if a product with such a vector may overflow, or already has.
fn is_large(norm_sq: f64) -> bool {
    norm_sq.is_nan() || norm_sq >= LARGE
}

/// The inner product in `f64`, in the order of the columns.
fn dot(x: &[f32], y: &[f32]) -> f64 {
    let mut sum = 0.0;
    for (&x, &y) in x.iter().zip(y) {
        sum += f64::from(x) * f64::from(y);
    }
    sum
}

/// Rounds to `f32`, up or down.
fn round(x: f64, up: bool) -> f32 {
    let nearest = x as f32;
    match (f64::from(nearest) < x, f64::from(nearest) > x) {
        (true, _) if up => nearest.next_up(),
        (_, true) if !up => nearest.next_down(),
        _ => nearest,
    }
}

/// A query during the pass over the base.
struct Query {
    factor: f32,
    scale: f32,
    /// What the limit subtracts from the worst of the best keys.
    offset: f64,
    /// True if the query is too large for the test.
    exhaustive: bool,
    limit: f32,
    best: Best,
}

impl Query {
    /// Offers a tile of vectors; `exact` gives the id and the key of one of them.
    fn offer(&mut self, dots: &[f32], terms: &[f32], mut exact: impl FnMut(usize) -> (u64, f64)) {
        const CHUNK: usize = 32;
        let mut first = 0;
        for (dots, terms) in dots.chunks(CHUNK).zip(terms.chunks(CHUNK)) {
            let (factor, scale, limit) = (self.factor, self.scale, self.limit);
            let undecided = |(&dot, &term): (&f32, &f32)| {
                // NaN comes from infinities, about which nothing is known.
                let value = factor * term - scale * dot;
                value.is_nan() | (value <= limit)
            };
            // Most chunks are out as a whole, and this loop has no exit inside.
            let any = dots.iter().zip(terms).fold(false, |any, pair| any | undecided(pair));
            if any {
                for (j, pair) in dots.iter().zip(terms).enumerate() {
                    if undecided(pair) {
                        let (id, key) = exact(first + j);
                        if self.best.push(key, id) {
                            self.update_limit();
                        }
                    }
                }
            }
            first += dots.len();
        }
    }

    fn update_limit(&mut self) {
        let worst = self.best.worst();
        // The last factor covers the roundings of this line in f64.
        let limit = worst - self.offset;
        let reserve = SLACK + 1e-14 * (worst.abs() + self.offset.abs());
        self.limit = if self.exhaustive || !limit.is_finite() {
            f32::INFINITY
        } else {
            round(limit + reserve, true)
        };
    }
}

/// The k smallest (key, id) pairs, as a heap whose root is the worst.
struct Best {
    k: usize,
    heap: std::collections::BinaryHeap<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    key: f64,
    id: u64,
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        self.key.total_cmp(&other.key).then(self.id.cmp(&other.id))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl Best {
    fn new(k: usize) -> Best {
        Best { k, heap: std::collections::BinaryHeap::with_capacity(k) }
    }

    /// The key of the worst pair held; infinity while there is room.
    fn worst(&self) -> f64 {
        match self.heap.peek() {
            Some(worst) if self.heap.len() == self.k => worst.key,
            _ => f64::INFINITY,
        }
    }

    /// Offers a pair; true if the worst key may have changed.
    fn push(&mut self, key: f64, id: u64) -> bool {
        // 0 and -0 are the same distance.
        let entry = Entry { key: key + 0.0, id };
        if self.heap.len() < self.k {
            self.heap.push(entry);
            return self.heap.len() == self.k;
        }
        let Some(mut worst) = self.heap.peek_mut() else { return false };
        if entry < *worst {
            *worst = entry;
            return true;
        }
        false
    }

    fn into_sorted(self) -> impl Iterator<Item = (f64, u64)> {
        self.heap.into_sorted_vec().into_iter().map(|entry| (entry.key, entry.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonius::Matrix;
    use nonius::random::Random;
    use proptest::prelude::*;

    fn run(base: &Matrix, queries: &Matrix, k: usize, metric: Metric) -> Result<Truth, TruthError> {
        exact_neighbors(base, queries.view(), k, metric, &mut |_, _| ControlFlow::Continue(()))
    }

    /// All pairs in `f64`, sorted.
    fn naive(base: &Matrix, queries: &Matrix, k: usize, metric: Metric) -> Truth {
        let k = k.min(base.rows());
        let (mut ids, mut distances) = (Vec::new(), Vec::new());
        for i in 0..queries.rows() {
            let q: Vec<f64> = queries.row(i).iter().map(|&v| f64::from(v)).collect();
            let mut all: Vec<(f64, u64)> = (0..base.rows())
                .map(|j| {
                    let x: Vec<f64> = base.row(j).iter().map(|&v| f64::from(v)).collect();
                    let pairs = || q.iter().zip(&x);
                    let product = pairs().fold(0.0, |sum, (q, x)| sum + q * x);
                    let key = match metric {
                        Metric::L2 => pairs().fold(0.0, |sum, (q, x)| sum + (q - x) * (q - x)),
                        Metric::InnerProduct => 0.0 - product,
                        Metric::Cosine => {
                            let square = |v: &[f64]| v.iter().fold(0.0, |sum, x| sum + x * x);
                            1.0 - product / (square(&q) * square(&x)).sqrt()
                        }
                    };
                    (key, j as u64)
                })
                .collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            for &(key, id) in &all[..k] {
                ids.push(id);
                distances.push(match metric {
                    Metric::L2 => key,
                    Metric::InnerProduct => 0.0 - key,
                    Metric::Cosine => key.clamp(0.0, 2.0),
                });
            }
        }
        Truth { ids: IdMatrix::new(k, ids), distances }
    }

    fn random_matrix(
        rows: usize,
        dim: usize,
        seed: u64,
        value: impl Fn(&mut Random) -> f64,
    ) -> Matrix {
        let mut random = Random::new(seed, 0);
        Matrix::new(dim, (0..rows * dim).map(|_| value(&mut random) as f32).collect()).unwrap()
    }

    #[test]
    fn many_tiles_and_blocks_agree_with_the_naive_loop() {
        // 9,000 x 160 values are more than one block.
        let base = random_matrix(9000, 160, 1, Random::normal);
        let queries = random_matrix(70, 160, 2, Random::normal);
        for metric in Metric::ALL {
            assert_eq!(
                run(&base, &queries, 10, metric).unwrap(),
                naive(&base, &queries, 10, metric)
            );
        }
    }

    #[test]
    fn the_number_of_threads_is_of_no_account() {
        let base = random_matrix(700, 20, 3, Random::normal);
        let queries = random_matrix(33, 20, 4, Random::normal);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(&base, &queries, 5, Metric::L2).unwrap())
        };
        assert_eq!(with(1), with(3));
    }

    #[test]
    fn neighbours_that_f32_cannot_tell_apart_are_ordered() {
        // Values far from zero: an f32 product leaves errors far above the distances.
        let base = random_matrix(500, 24, 5, |random| 4096.0 + random.unit() / 64.0);
        let queries = random_matrix(5, 24, 6, |random| 4096.0 + random.unit() / 64.0);
        for metric in Metric::ALL {
            assert_eq!(
                run(&base, &queries, 20, metric).unwrap(),
                naive(&base, &queries, 20, metric)
            );
        }
        // The queries' centre does not help if the base lies elsewhere.
        let queries = random_matrix(5, 24, 7, |random| -4096.0 + random.unit() / 64.0);
        for metric in Metric::ALL {
            assert_eq!(
                run(&base, &queries, 20, metric).unwrap(),
                naive(&base, &queries, 20, metric)
            );
        }
    }

    #[test]
    fn extreme_values_neither_overflow_nor_vanish() {
        for (small, large) in [(1e-30, 1e-30), (1e30, 3e38), (1e-44, 1e38), (1e18, 2e18)] {
            let value = |random: &mut Random| {
                let magnitude = if random.below(2) == 0 { small } else { large };
                (random.unit() * 2.0 - 1.0) * magnitude
            };
            let base = random_matrix(300, 7, 8, value);
            let queries = random_matrix(9, 7, 9, value);
            for metric in Metric::ALL {
                let found = run(&base, &queries, 8, metric).unwrap();
                assert_eq!(found, naive(&base, &queries, 8, metric), "{small} {large} {metric}");
            }
        }
    }

    proptest! {
        // Few different values: many duplicates and ties.
        #[test]
        fn ties_go_to_the_smaller_row(
            dim in 1usize..6,
            rows in 1usize..80,
            seed in 0u64..1000,
            k in 1usize..100,
            metric in prop::sample::select(Metric::ALL.to_vec()),
        ) {
            let value = |random: &mut Random| random.below(3) as f64 + 1.0;
            let base = random_matrix(rows, dim, seed, value);
            let queries = random_matrix(3, dim, seed + 1, value);
            prop_assert_eq!(run(&base, &queries, k, metric).unwrap(), naive(&base, &queries, k, metric));
        }
    }

    #[test]
    fn the_shipped_truth_is_computed_again() {
        let shipped = crate::Shipped::load().unwrap();
        let base = crate::open(&shipped.base).unwrap();
        let truth =
            exact_neighbors(&*base, shipped.queries.view(), 100, Metric::L2, &mut |_, _| {
                ControlFlow::Continue(())
            });
        assert_eq!(truth.unwrap().ids, shipped.truth);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let base = Matrix::new(2, vec![1.0, 0.0, 0.0, 0.0]).unwrap();
        let message =
            |queries: &Matrix, k, metric| run(&base, queries, k, metric).unwrap_err().to_string();
        let query = Matrix::new(2, vec![1.0, 1.0]).unwrap();
        assert!(message(&query, 0, Metric::L2).contains("k is 0"));
        assert!(message(&query, 1, Metric::Cosine).contains("row 1 is a zero vector"));
        let zero = Matrix::zeros(1, 2);
        assert!(message(&zero, 1, Metric::Cosine).contains("queries: row 0"));
        let wide = Matrix::zeros(1, 3);
        assert!(message(&wide, 1, Metric::L2).contains("expected vectors of dimension 2, found 3"));
        let empty = Matrix::zeros(0, 2);
        let mut progress = |_, _| ControlFlow::Continue(());
        let error = exact_neighbors(&empty, query.view(), 1, Metric::L2, &mut progress);
        assert!(matches!(error, Err(TruthError::Empty)));
        // More neighbours than there are vectors.
        assert_eq!(run(&base, &query, 9, Metric::L2).unwrap().ids.row(0), [0, 1]);
    }

    #[test]
    fn progress_counts_rows_and_may_stop_the_work() {
        let base = random_matrix(3000, 1024, 1, Random::unit);
        let queries = random_matrix(1, 1024, 2, Random::unit);
        let mut seen = Vec::new();
        let mut progress = |done, total| {
            seen.push((done, total));
            if seen.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let stopped = exact_neighbors(&base, queries.view(), 1, Metric::L2, &mut progress);
        assert!(matches!(stopped, Err(TruthError::Cancelled)));
        assert_eq!(seen, [(1024, 3000), (2048, 3000)]);
    }
}
