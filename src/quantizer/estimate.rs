//! What an estimate takes from the vector `v` that a code stands for.
//!
//! ```text
//! |q - c - o|^2 ~= |q - c|^2 + |v|^2 + share * |o - v|^2 - 2 weight * <q - c, v>
//! ```
//!
//! The distance to `v` itself is off by about `|o - v|^2`: too short for most vectors where `v` is the
//! mean of what its code stands for, too long for a query that is the vector. What is added of that, and
//! the weight of the inner product, are fitted in training to pairs of near and of random vectors. All
//! that depends on the vector alone is in the additive factor.

use nonius_simd::dot_f32;

use super::frame::{Frame, Rotation, TrainingSet};
use super::pairs::find_pairs;
use crate::matrix::subtract;
use crate::metric::Metric;

/// How estimates use what codes stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    /// How much of what a code leaves of a squared distance is added; in no file.
    pub(crate) share: f32,
    /// What inner products are multiplied by.
    pub(crate) weight: f32,
}

impl Estimate {
    /// The distance to what codes stand for.
    pub(crate) const PLAIN: Estimate = Estimate { share: 0.0, weight: 1.0 };

    /// Fits an estimate to near and far pairs of the sample, by the least squares of relative errors.
    ///
    /// `vectors` are the rotated residuals of the sample, `rows x dims`; `encode` returns what codes leave
    /// of those with some numbers. The share stays between `least` and 1.5.
    pub(crate) fn fit(
        set: &TrainingSet<'_>,
        rotation: &Rotation,
        dims: usize,
        vectors: &[f32],
        least: f32,
        seed: u64,
        encode: impl FnOnce(&[u32]) -> Vec<f32>,
    ) -> Estimate {
        let pairs = find_pairs(set, seed);
        let mut rows: Vec<u32> = pairs.near.iter().chain(&pairs.far).map(|&(_, x)| x).collect();
        rows.sort_unstable();
        rows.dedup();
        let of_row = |row: u32| &vectors[row as usize * dims..][..dims];
        let left = encode(&rows);
        let centroids = set.lists.map(|(centroids, of_row)| {
            (rotation.apply(&vec![0.0; set.mean.len()], centroids.data()), of_row)
        });
        // The normal equations of (share, weight).
        let (mut matrix, mut right) = ([[0.0f64; 2]; 2], [0.0f64; 2]);
        let mut query = Vec::new();
        for pairs in [&pairs.near, &pairs.far] {
            let each = 1.0 / pairs.len().max(1) as f64;
            for pairs in pairs.chunk_by(|a, b| a.0 == b.0) {
                let rotated = rotation.apply(set.mean, set.sample.row(pairs[0].0 as usize));
                for &(_, x) in pairs {
                    let Ok(at) = rows.binary_search(&x) else { continue };
                    query.clone_from(&rotated);
                    if let Some((centroids, of_row)) = &centroids {
                        let list = of_row[x as usize] as usize;
                        subtract(&mut query, &centroids[list * dims..(list + 1) * dims]);
                    }
                    let (o, left) = (of_row(x), &left[at * dims..(at + 1) * dims]);
                    let sum: Vec<f32> = o.iter().zip(left).map(|(o, left)| o - left).collect();
                    let dot = |a: &[f32], b: &[f32]| f64::from(dot_f32(a, b));
                    let (features, target, scale) = match set.metric {
                        Metric::L2 | Metric::Cosine => {
                            let exact = f64::from(nonius_simd::l2_sq_f32(&query, o));
                            let known = dot(&query, &query) + dot(&sum, &sum);
                            ([dot(left, left), -2.0 * dot(&query, &sum)], exact - known, exact)
                        }
                        Metric::InnerProduct => {
                            let scale = (dot(&query, &query) * dot(o, o)).sqrt();
                            ([0.0, dot(&query, &sum)], dot(&query, o), scale)
                        }
                    };
                    if scale > 0.0 {
                        let each = each / (scale * scale);
                        for i in 0..2 {
                            for j in 0..2 {
                                matrix[i][j] += each * features[i] * features[j];
                            }
                            right[i] += each * features[i] * target;
                        }
                    }
                }
            }
        }
        solve(matrix, right, least)
    }

    /// The additive factor of a vector with the residual `o` to its list's `centroid`, of which its code
    /// leaves `left`; that becomes what the code stands for. `base` is that of
    /// [`additive_base`](super::frame::additive_base).
    #[inline(always)]
    pub(crate) fn factor(
        self,
        frame: &Frame,
        base: f32,
        o: &[f32],
        left: &mut [f32],
        centroid: Option<&[f32]>,
    ) -> f32 {
        let left_sq = dot_f32(left, left);
        let sum = left;
        for (sum, o) in sum.iter_mut().zip(o) {
            *sum = o - *sum;
        }
        let along = centroid
            .map_or(0.0, |c| frame.alpha() * (self.weight * dot_f32(c, sum) - dot_f32(c, o)));
        let across = match frame.metric {
            Metric::L2 | Metric::Cosine => dot_f32(sum, sum) + self.share * left_sq - dot_f32(o, o),
            Metric::InnerProduct => 0.0,
        };
        base + (along + across)
    }
}

/// Solves for share and weight, which stay within reason.
fn solve(matrix: [[f64; 2]; 2], right: [f64; 2], least: f32) -> Estimate {
    let [[a, b], [_, d]] = matrix;
    let determinant = a * d - b * b;
    let share = if determinant > 1e-9 * a * d {
        (right[0] * d - right[1] * b) / determinant
    } else if d > 0.0 {
        0.0
    } else {
        return Estimate { share: 0.5, weight: 1.0 };
    };
    // The best weight for the share, which may not be what the equations ask for.
    let share = share.clamp(f64::from(least), 1.5);
    let weight = (right[1] - share * b) / d;
    Estimate { share: share as f32, weight: weight.clamp(0.5, 2.0) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_fits_the_share_that_is_taken() {
        // Features (1, 2) and (1, -1), which say 5 + 2 * 0.9 and 5 - 0.9: a share of 5, and 0.9.
        let equations = |share: f64, weight: f64| {
            let (mut matrix, mut right) = ([[0.0; 2]; 2], [0.0; 2]);
            for features in [[1.0, 2.0], [1.0, -1.0]] {
                let target = share * features[0] + weight * features[1];
                for i in 0..2 {
                    for j in 0..2 {
                        matrix[i][j] += features[i] * features[j];
                    }
                    right[i] += features[i] * target;
                }
            }
            (matrix, right)
        };
        let (matrix, right) = equations(0.7, 0.9);
        let found = solve(matrix, right, 0.0);
        assert!((found.share - 0.7).abs() < 1e-6 && (found.weight - 0.9).abs() < 1e-6, "{found:?}");
        // With a share of 1.5 the rest of 3.5 is left to the weight: 0.9 + 3.5 * (2 - 1) / 5.
        let (matrix, right) = equations(5.0, 0.9);
        let found = solve(matrix, right, 0.0);
        assert_eq!(found.share, 1.5);
        assert!((found.weight - 1.6).abs() < 1e-6, "{found:?}");
        assert_eq!(solve([[0.0; 2]; 2], [0.0; 2], 0.0), Estimate { share: 0.5, weight: 1.0 });
    }
}
