//! What an estimate takes from the vector `v` that a code stands for.
//!
//! ```text
//! |q - c - o|^2 ~= |q - c|^2 + |v|^2 + share * |o - v|^2 + tilt * <v, o - v> - 2 weight * <q - c, v>
//! ```
//!
//! The distance to `v` itself is off by about `|o - v|^2`: too short for most vectors where `v` is the
//! mean of what its code stands for, too long for a query that is the vector. And `|v|^2` is not the norm
//! that is known: `|o|^2 = |v|^2 + |o - v|^2 + 2 <v, o - v>`. A query that has nothing to do with the vector wants
//! all of that, one that is the vector nothing of the last term, since its inner product with `v` misses as much.
//! What is added of both, and the weight of the inner product, are fitted in training to pairs of near and of random
//! vectors. All that depends on the vector alone is in the additive factor. Where vectors have none, a share of the mean
//! of `|o - v|^2` is added to all of them ([`Added::Mean`]).

use nonius_simd::dot_f32;

use super::frame::{Frame, Rotation, TrainingSet};
use super::pairs::{Count, find_pairs};
use crate::matrix::subtract;
use crate::metric::Metric;

/// How estimates use what codes stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    /// How much of what a code leaves of a squared distance is added; in no file.
    pub(crate) share: f32,
    /// How much of the inner product of that with what the code stands for is added; in no file.
    pub(crate) tilt: f32,
    /// What inner products are multiplied by.
    pub(crate) weight: f32,
}

/// What estimates add of what codes leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Added {
    /// Of what the code of each vector leaves, in its additive factor: a share from `least` to 1.5, and a tilt.
    Own {
        /// See above.
        least: f64,
    },
    /// Where vectors have no factor, to all of them a share from 0 to 1.5 of `left_sq`, what codes leave of
    /// a vector on average, squared. Inner products keep their weight of 1: so the order of the estimates stays that of the
    /// distances to what codes stand for.
    Mean {
        /// See above.
        left_sq: f64,
    },
}

impl Estimate {
    /// The distance to what codes stand for.
    pub(crate) const PLAIN: Estimate = Estimate { share: 0.0, tilt: 0.0, weight: 1.0 };

    /// Fits an estimate to near and far pairs of the sample, by the least squares of relative errors.
    ///
    /// `vectors` are the rotated residuals of the sample, `rows x dims`; `encode` returns what codes leave
    /// of those with some numbers.
    pub(crate) fn fit(
        set: &TrainingSet<'_>,
        rotation: &Rotation,
        dims: usize,
        vectors: &[f32],
        added: Added,
        (count, seed): (Count, u64),
        encode: impl FnOnce(&[u32]) -> Vec<f32>,
    ) -> Estimate {
        let pairs = find_pairs(set, count, seed);
        let mut rows: Vec<u32> = pairs.near.iter().chain(&pairs.far).map(|&(_, x)| x).collect();
        rows.sort_unstable();
        rows.dedup();
        let of_row = |row: u32| &vectors[row as usize * dims..][..dims];
        let left = encode(&rows);
        let centroids = set.lists.map(|(centroids, of_row)| {
            (rotation.apply(&vec![0.0; set.mean.len()], centroids.data()), of_row)
        });
        // The normal equations of (share, tilt, weight).
        let (mut matrix, mut right) = ([[0.0f64; 3]; 3], [0.0f64; 3]);
        let (mut query, mut sum) = (Vec::new(), Vec::new());
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
                    sum.clear();
                    sum.extend(o.iter().zip(left).map(|(o, left)| o - left));
                    let dot = |a: &[f32], b: &[f32]| f64::from(dot_f32(a, b));
                    let (features, target, scale) = match set.metric {
                        Metric::L2 | Metric::Cosine => {
                            let exact = f64::from(nonius_simd::l2_sq_f32(&query, o));
                            let known = dot(&query, &query) + dot(&sum, &sum);
                            let [share, tilt] = match added {
                                Added::Own { .. } => [dot(left, left), dot(&sum, left)],
                                Added::Mean { left_sq } => [left_sq, 0.0],
                            };
                            let features = [share, tilt, -2.0 * dot(&query, &sum)];
                            (features, exact - known, exact)
                        }
                        Metric::InnerProduct => {
                            let scale = (dot(&query, &query) * dot(o, o)).sqrt();
                            ([0.0, 0.0, dot(&query, &sum)], dot(&query, o), scale)
                        }
                    };
                    if scale > 0.0 {
                        let each = each / (scale * scale);
                        for i in 0..3 {
                            for j in 0..3 {
                                matrix[i][j] += each * features[i] * features[j];
                            }
                            right[i] += each * features[i] * target;
                        }
                    }
                }
            }
        }
        solve(matrix, right, added)
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
            Metric::L2 | Metric::Cosine => {
                let (sum_sq, o_sq) = (dot_f32(sum, sum), dot_f32(o, o));
                // o is the sum of both, so their inner product is half of what its square has beyond theirs.
                let inner = 0.5 * (o_sq - sum_sq - left_sq);
                sum_sq + self.share * left_sq + self.tilt * inner - o_sq
            }
            Metric::InnerProduct => 0.0,
        };
        base + (along + across)
    }
}

/// Solves for share, tilt and weight, which stay within reason; where one leaves it, the others are the best
/// for the limit that it is held at.
fn solve(matrix: [[f64; 3]; 3], right: [f64; 3], added: Added) -> Estimate {
    let (least, weighs) = match added {
        Added::Own { least } => (least, true),
        Added::Mean { .. } => (0.0, false),
    };
    let limits = [(least, 1.5), (-1.0, 3.0), (0.5, 2.0)];
    // What is taken of what the equations do not tell: inner products have a weight alone.
    let mut found = [0.0, 0.0, 1.0];
    let mut free = [0, 1, 2].map(|i| matrix[i][i] > 0.0 && (weighs || i < 2));
    while let Some(solution) = solve_free(&matrix, &right, free, found) {
        // One at a time is held, the one that is farthest out.
        let mut worst: Option<(usize, f64)> = None;
        for i in 0..3 {
            let (low, high) = limits[i];
            let out = (solution[i] - solution[i].clamp(low, high)).abs();
            if free[i] && out > 0.0 && worst.is_none_or(|(_, most)| out > most) {
                worst = Some((i, out));
            }
        }
        match worst {
            None => {
                found = solution;
                break;
            }
            Some((i, _)) => {
                found[i] = solution[i].clamp(limits[i].0, limits[i].1);
                free[i] = false;
            }
        }
    }
    let [share, tilt, weight] = found;
    Estimate { share: share as f32, tilt: tilt as f32, weight: weight as f32 }
}

/// Solves the equations for those that are free; the others are as in `held`. None if there is no free one.
/// Where the equations do not tell some apart, those take what is held.
fn solve_free(
    matrix: &[[f64; 3]; 3],
    right: &[f64; 3],
    mut free: [bool; 3],
    held: [f64; 3],
) -> Option<[f64; 3]> {
    free.contains(&true).then_some(())?;
    // Gauss: each free row in turn is cleared from the others.
    let (mut a, mut b) = (*matrix, *right);
    for i in 0..3 {
        if free[i] && a[i][i] <= 1e-9 * matrix[i][i] {
            free[i] = false;
        }
        if !free[i] {
            continue;
        }
        for j in 0..3 {
            if j != i && free[j] {
                let ratio = a[j][i] / a[i][i];
                for k in 0..3 {
                    a[j][k] -= ratio * a[i][k];
                }
                b[j] -= ratio * b[i];
            }
        }
    }
    let mut out = held;
    for i in 0..3 {
        if free[i] {
            let known: f64 = (0..3).filter(|&k| !free[k]).map(|k| a[i][k] * held[k]).sum();
            out[i] = (b[i] - known) / a[i][i];
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The equations of some features, each with what it should come to.
    fn equations(rows: &[([f64; 3], f64)]) -> ([[f64; 3]; 3], [f64; 3]) {
        let (mut matrix, mut right) = ([[0.0; 3]; 3], [0.0; 3]);
        for (features, target) in rows {
            for i in 0..3 {
                for j in 0..3 {
                    matrix[i][j] += features[i] * features[j];
                }
                right[i] += features[i] * target;
            }
        }
        (matrix, right)
    }

    #[test]
    fn what_all_vectors_have_added_changes_no_order() {
        // Too short by 0.4 of what codes leave, of 2 on average, whatever the inner product.
        let rows: Vec<([f64; 3], f64)> =
            (0..9).map(|i| ([2.0, 0.0, f64::from(i)], 0.8 + f64::from(i))).collect();
        let (matrix, right) = equations(&rows);
        let found = solve(matrix, right, Added::Mean { left_sq: 2.0 });
        assert!((found.share - 0.4).abs() < 1e-6, "{found:?}");
        assert_eq!((found.tilt, found.weight), (0.0, 1.0));
        // Distances that are too long stay as they are.
        let (matrix, right) = equations(&[([2.0, 0.0, 1.0], 0.5)]);
        assert_eq!(solve(matrix, right, Added::Mean { left_sq: 2.0 }), Estimate::PLAIN);
    }

    fn check(rows: &[([f64; 3], f64)], expected: [f32; 3]) {
        let (matrix, right) = equations(rows);
        let found = solve(matrix, right, Added::Own { least: 0.0 });
        for (found, expected) in [found.share, found.tilt, found.weight].into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}");
        }
    }

    #[test]
    fn what_is_not_held_is_the_best_for_what_is() {
        let features = [[1.0, 2.0, 0.5], [1.0, -1.0, 0.3], [0.2, 0.4, 1.0], [0.5, 0.1, 2.0]];
        let targets = |truth: [f64; 3]| -> Vec<([f64; 3], f64)> {
            let dot = |a: [f64; 3]| (0..3).map(|i| a[i] * truth[i]).sum();
            features.iter().map(|&row| (row, dot(row))).collect()
        };
        check(&targets([0.7, 0.4, 0.9]), [0.7, 0.4, 0.9]);
        // A share of 5 is held at 1.5, and no other tilt or weight is better with it.
        let rows = targets([5.0, 0.4, 0.9]);
        let (matrix, right) = equations(&rows);
        let found = solve(matrix, right, Added::Own { least: 0.0 });
        assert_eq!(found.share, 1.5);
        let loss = |tilt: f32, weight: f32| -> f64 {
            let of = |&([a, b, c], y): &([f64; 3], f64)| {
                (1.5 * a + f64::from(tilt) * b + f64::from(weight) * c - y).powi(2)
            };
            rows.iter().map(of).sum()
        };
        let least = loss(found.tilt, found.weight);
        for (tilt, weight) in [(0.01, 0.0), (-0.01, 0.0), (0.0, 0.01), (0.0, -0.01)] {
            let (tilt, weight) = (found.tilt + tilt, found.weight + weight);
            if (-1.0..=3.0).contains(&tilt) && (0.5..=2.0).contains(&weight) {
                assert!(loss(tilt, weight) > least, "{found:?}");
            }
        }
        // Inner products say nothing of the first two.
        check(&[([0.0, 0.0, 2.0], 1.8)], [0.0, 0.0, 0.9]);
        // Nothing says nothing, and two features that are one are taken for one.
        check(&[], [0.0, 0.0, 1.0]);
        let found =
            solve(equations(&[([1.0, 1.0, 1.0], 1.2)]).0, [1.2; 3], Added::Own { least: 0.0 });
        assert!((found.share + found.tilt + found.weight - 1.2).abs() < 0.5, "{found:?}");
    }
}
