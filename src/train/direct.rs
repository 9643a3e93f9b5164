//! Finding the nearest of some centroids of few dimensions.

use nonius_simd::{Vectorize, level};

/// Rows next to each other in a vector of distances.
const LANES: usize = 16;

/// Centroids for finding the nearest one to many rows by their distances alone: where there are few
/// dimensions, that takes less time than rounding a row for a product of integers.
#[derive(Clone, Debug)]
pub(crate) struct Direct {
    dims: usize,
    /// `n x dims`.
    centroids: Vec<f32>,
}

impl Direct {
    /// The most dimensions for which [`Direct`] is the faster way.
    pub(crate) const MAX_DIMS: usize = 32;

    /// Takes centroids, `n x dims`.
    pub(crate) fn new(dims: usize, centroids: &[f32]) -> Direct {
        Direct { dims, centroids: centroids.to_vec() }
    }

    /// Finds the number of the nearest centroid of each row (`n x dims`). Squared distances are summed in
    /// the order of the dimensions, with a rounding after each operation, at every SIMD level; ties go to
    /// the smallest number.
    pub(crate) fn find(&self, rows: &[f32], nearest: &mut [u32]) {
        let Direct { dims, centroids } = self;
        assert_eq!(rows.len(), nearest.len() * dims);
        // Rows side by side, dimension by dimension; those that are missing are zero.
        let (mut few, mut many) = ([[0.0; LANES]; Direct::MAX_DIMS], Vec::new());
        let lanes = match few.get_mut(..*dims) {
            Some(lanes) => lanes,
            None => {
                many.resize(*dims, [0.0; LANES]);
                &mut many[..]
            }
        };
        level().vectorize(Find { centroids, rows, lanes, nearest });
    }
}

struct Find<'a> {
    centroids: &'a [f32],
    rows: &'a [f32],
    /// Room for one row a lane.
    lanes: &'a mut [[f32; LANES]],
    nearest: &'a mut [u32],
}

impl Vectorize for Find<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Find { centroids, rows, lanes, nearest } = self;
        let dims = lanes.len();
        for (rows, nearest) in rows.chunks(LANES * dims).zip(nearest.chunks_mut(LANES)) {
            for (i, row) in rows.chunks_exact(dims).enumerate() {
                for (lanes, &x) in lanes.iter_mut().zip(row) {
                    lanes[i] = x;
                }
            }
            let mut least = [f32::INFINITY; LANES];
            let mut numbers = [0u32; LANES];
            for (number, centroid) in centroids.chunks_exact(dims).enumerate() {
                let mut sums = [0.0f32; LANES];
                for (lanes, &c) in lanes.iter().zip(centroid) {
                    for j in 0..LANES {
                        let difference = c - lanes[j];
                        sums[j] += difference * difference;
                    }
                }
                for j in 0..LANES {
                    let nearer = sums[j] < least[j];
                    numbers[j] = if nearer { number as u32 } else { numbers[j] };
                    least[j] = if nearer { sums[j] } else { least[j] };
                }
            }
            nearest.copy_from_slice(&numbers[..nearest.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn slowly(dims: usize, centroids: &[f32], row: &[f32]) -> u32 {
        let mut best = (f32::INFINITY, 0);
        for (number, centroid) in centroids.chunks_exact(dims).enumerate() {
            let mut sum = 0.0f32;
            for (x, c) in row.iter().zip(centroid) {
                sum += (x - c) * (x - c);
            }
            if sum < best.0 {
                best = (sum, number as u32);
            }
        }
        best.1
    }

    #[test]
    fn the_nearest_is_that_of_a_loop_at_every_level() {
        let mut random = Random::new(1, 0);
        for dims in [1, 2, 3, 4, 7, 8, 24, 33, 50] {
            for count in [1, 2, 15, 16, 17, 255, 256, 300] {
                for rows in [0, 1, 3, 4, 9, 50] {
                    // Whole numbers, of which many are at equal distances.
                    let whole = dims % 2 == 0;
                    let mut values = |n: usize, scale: f64| -> Vec<f32> {
                        let value = |_| random.normal() * scale;
                        let round = |x: f64| if whole { x.round() } else { x };
                        (0..n).map(value).map(|x| round(x) as f32).collect()
                    };
                    let centroids = values(count * dims, 3.0);
                    let mut vectors = values(rows * dims, 3.0);
                    for (i, x) in vectors.iter_mut().enumerate() {
                        match i % 71 {
                            0 => *x = 1e30,
                            1 => *x = 1e-42,
                            2 => *x = f32::MAX,
                            3 => *x = -0.0,
                            _ => {}
                        }
                    }
                    let direct = Direct::new(dims, &centroids);
                    let expected: Vec<u32> = vectors
                        .chunks_exact(dims)
                        .map(|row| slowly(dims, &centroids, row))
                        .collect();
                    for simd in nonius_simd::available() {
                        let mut found = vec![99; rows];
                        nonius_simd::with_level(simd, || direct.find(&vectors, &mut found));
                        assert_eq!(found, expected, "{simd} {dims} {count} {rows}");
                    }
                }
            }
        }
    }
}
