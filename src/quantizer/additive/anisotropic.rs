//! Codes for inner products: what they leave of a vector along it counts for more than what they leave
//! across it (score-aware quantization: Guo, Sun, Lindgren, Geng, Simcha, Chern and Kumar, "Accelerating
//! Large-Scale Inference with Anisotropic Vector Quantization", ICML 2020).
//!
//! With `u` the direction of a vector `x`, `o` its residual and `v` what its code stands for, codes and
//! centroids make
//!
//! ```text
//! |o - v|^2 + (ratio - 1) * <o - v, u>^2
//! ```
//!
//! small: the second term is large for queries near `x`, whose inner products are the ones that matter. What
//! is left along `u` is a sum over all parts of the dimensions, so a code is found by choosing its numbers
//! again and again, each given the others (section 4.1 there), and a centroid by the conjugate gradients of
//! the sum over its vectors (section 4.2, where it is the solution of the same equations).

use nonius_simd::{Panels, Vectorize, dot_f32, level};
use rayon::prelude::*;

use super::levels::Levels;
use super::parts::{Codebooks, Part, gather, scatter};
use crate::matrix::{add, subtract};
use crate::train::{Buckets, RowsI16};

/// How often training finds codes and then centroids.
pub(super) const ROUNDS: usize = 3;

/// How often every number of a code is chosen again; most codes stay as they are after two.
const SWEEPS: usize = 3;

/// Steps of conjugate gradients for one centroid. Two of its curvatures differ much, so few are needed.
const STEPS: usize = 6;

/// Rows that are looked at together.
const ROWS: usize = 64;

/// How much more the error along a vector counts than that across it, where inner products above `threshold`
/// times the norms are the ones that matter (theorem 3.4 there); at least 1.
pub(crate) fn ratio(threshold: f32, dim: usize) -> f32 {
    let square = threshold * threshold;
    ((dim.max(2) - 1) as f32 * square / (1.0 - square)).max(1.0)
}

/// Scales rows to unit norm; those without a norm stay as they are.
pub(super) fn to_directions(dims: usize, rows: &mut [f32]) {
    for row in rows.chunks_exact_mut(dims) {
        let norm = dot_f32(row, row).sqrt();
        if norm > 0.0 && norm.is_finite() {
            row.iter_mut().for_each(|x| *x /= norm);
        }
    }
}

/// Buffers of [`choose`].
#[derive(Default)]
pub(super) struct Scratch {
    rows: RowsI16,
    directions: RowsI16,
    product: Vec<i32>,
    along: Vec<i32>,
    own: Vec<f32>,
    own_directions: Vec<f32>,
    scores: Vec<f32>,
    sums: Vec<f32>,
}

/// Chooses the numbers of codes (`n x columns`) again, each given the others. `left` (`n x dims`) is what the
/// codes leave of the vectors, before and after; `directions` (`n x dims`) are those of the vectors.
pub(super) fn choose(
    codebooks: &Codebooks,
    ratio: f32,
    directions: &[f32],
    scratch: &mut Scratch,
    codes: &mut [u16],
    left: &mut [f32],
) {
    let (dims, columns) = (codebooks.dims(), codebooks.columns());
    let batches = codes.chunks_mut(ROWS * columns).zip(left.chunks_mut(ROWS * dims));
    for ((codes, left), directions) in batches.zip(directions.chunks(ROWS * dims)) {
        scratch.sums.clear();
        let rows = left.chunks_exact(dims).zip(directions.chunks_exact(dims));
        scratch.sums.extend(rows.map(|(left, direction)| dot_f32(left, direction)));
        for _ in 0..SWEEPS {
            let mut changed = false;
            for (part, levels) in codebooks.iter() {
                changed |= choose_part(part, levels, ratio, dims, directions, scratch, codes, left);
            }
            if !changed {
                break;
            }
        }
    }
}

/// Chooses the numbers of a part of a few rows; `scratch.sums` has what is left of each along it.
fn choose_part(
    part: Part,
    levels: &Levels,
    ratio: f32,
    dims: usize,
    directions: &[f32],
    scratch: &mut Scratch,
    codes: &mut [u16],
    left: &mut [f32],
) -> bool {
    let Scratch { rows, directions: rounded, product, along, own, own_directions, scores, sums } =
        scratch;
    let columns = codes.len() / sums.len();
    gather(left, dims, part.range(), own);
    gather(directions, dims, part.range(), own_directions);
    rounded.quantize(part.dims, own_directions);
    let size = Panels::packed_len(part.centroids, part.dims);
    let mut changed = false;
    for (level_number, packed) in levels.packed().chunks_exact(size).enumerate() {
        let column = part.column + level_number;
        let chosen = codes.iter().skip(column).step_by(columns);
        let rows_of = own.chunks_exact_mut(part.dims).zip(own_directions.chunks_exact(part.dims));
        for (((own, direction), &code), sum) in rows_of.zip(chosen).zip(&mut *sums) {
            let centroid = levels.centroid(level_number, code);
            add(own, centroid);
            *sum += dot_f32(centroid, direction);
        }
        rows.quantize(part.dims, own);
        let panels = Panels::new(part.centroids, part.dims, packed);
        rows.multiply(panels, product);
        rounded.multiply(panels, along);
        let first = level_number * part.centroids;
        let numbers = first..first + part.centroids;
        changed |= level().vectorize(Best {
            ratio,
            padded: panels.padded_rows(),
            norms_sq: &levels.norms_sq()[numbers.clone()],
            inverse: &levels.inverse()[numbers],
            rows,
            directions: rounded,
            product,
            along,
            sums,
            scores,
            codes: &mut codes[column..],
            columns,
        });
        let chosen = codes.iter().skip(column).step_by(columns);
        let rows_of = own.chunks_exact_mut(part.dims).zip(own_directions.chunks_exact(part.dims));
        for (((own, direction), &code), sum) in rows_of.zip(chosen).zip(&mut *sums) {
            let centroid = levels.centroid(level_number, code);
            subtract(own, centroid);
            *sum -= dot_f32(centroid, direction);
        }
    }
    scatter(part.range(), own, left, dims);
    changed
}

/// Writes the best centroid of each row; returns whether any is another one than before.
struct Best<'a> {
    ratio: f32,
    /// Products of a row.
    padded: usize,
    norms_sq: &'a [f32],
    inverse: &'a [f32],
    rows: &'a RowsI16,
    directions: &'a RowsI16,
    /// The rows' products with the centroids.
    product: &'a [i32],
    /// Those of their directions.
    along: &'a [i32],
    /// What is left of each row along it, without this level.
    sums: &'a [f32],
    scores: &'a mut Vec<f32>,
    /// From this level's column on.
    codes: &'a mut [u16],
    columns: usize,
}

impl Vectorize for Best<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let Best { ratio, padded, norms_sq, inverse, rows, directions, product, along, .. } = self;
        let Best { sums, scores, codes, columns, .. } = self;
        let centroids = norms_sq.len();
        let inverse = &inverse[..centroids];
        scores.resize(centroids, 0.0);
        let scores = &mut scores[..centroids];
        let mut changed = false;
        let products = product.chunks_exact(padded).zip(along.chunks_exact(padded));
        for (i, ((product, along), &sum)) in products.zip(sums).enumerate() {
            let (weight, unit) = (2.0 * rows.inverse()[i], directions.inverse()[i]);
            let (product, along) = (&product[..centroids], &along[..centroids]);
            for j in 0..centroids {
                let error = sum - (unit * inverse[j]) * along[j] as f32;
                let dot = (weight * inverse[j]) * product[j] as f32;
                scores[j] = (norms_sq[j] - dot) + (ratio - 1.0) * (error * error);
            }
            let mut least = f32::INFINITY;
            for &score in scores.iter() {
                least = if score < least { score } else { least };
            }
            // The one that was is kept if it is as good.
            let code = &mut codes[i * columns];
            if scores[usize::from(*code)] > least {
                let at = scores.iter().position(|&score| score == least);
                *code = at.unwrap_or(0) as u16;
                changed = true;
            }
        }
        changed
    }
}

/// Fits the centroids of all parts (each `levels * centroids x dims`) to codes (`n x columns`), one level
/// after the other. `left` (`n x dims`) is what the codes leave of the vectors, before and after.
pub(super) fn fit(
    parts: &[Part],
    ratio: f32,
    directions: &[f32],
    weights: Option<&[f32]>,
    codes: &[u16],
    left: &mut [f32],
    centroids: &mut [Vec<f32>],
) {
    let dims = parts.iter().map(|part| part.dims).sum();
    let columns: usize = parts.iter().map(|part| part.levels).sum();
    let mut sums: Vec<f32> = left
        .par_chunks(dims)
        .zip(directions.par_chunks(dims))
        .map(|(left, direction)| dot_f32(left, direction))
        .collect();
    let (mut own, mut own_directions) = (Vec::new(), Vec::new());
    for (part, centroids) in parts.iter().zip(centroids) {
        gather(left, dims, part.range(), &mut own);
        gather(directions, dims, part.range(), &mut own_directions);
        let of_levels = centroids.chunks_exact_mut(part.centroids * part.dims);
        for (column, centroids) in part.columns().zip(of_levels) {
            let numbers: Vec<u32> =
                codes.iter().skip(column).step_by(columns).map(|&code| code.into()).collect();
            let ridge =
                if part.levels > 1 { ridge(part.dims, &own, centroids) } else { Vec::new() };
            let buckets = Buckets::new(part.centroids, &numbers);
            let moved: Vec<Vec<f32>> = centroids
                .par_chunks_mut(part.dims)
                .enumerate()
                .map(|(number, centroid)| {
                    let members = Members {
                        ratio,
                        rows: buckets.members(number),
                        left: &own,
                        directions: &own_directions,
                        sums: &sums,
                        weights,
                    };
                    let step = members.best_step(centroid, &ridge);
                    add(centroid, &step);
                    step
                })
                .collect();
            let rows = own.chunks_exact_mut(part.dims).zip(own_directions.chunks_exact(part.dims));
            for (((left, direction), &number), sum) in rows.zip(&numbers).zip(&mut sums) {
                let step = &moved[number as usize];
                subtract(left, step);
                *sum -= dot_f32(step, direction);
            }
        }
        scatter(part.range(), &own, left, dims);
    }
}

/// How much more a mean of one vector varies than centroids do, for each dimension: so many vectors at zero
/// bring centroids of many dimensions nearer to it, as far as they are chance (see
/// [`residual`](super::residual)).
fn ridge(dims: usize, left: &[f32], centroids: &[f32]) -> Vec<f32> {
    let mean_sq = |rows: &[f32]| -> Vec<f64> {
        let mut sums = vec![0.0f64; dims];
        for row in rows.chunks_exact(dims) {
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum += f64::from(x) * f64::from(x);
            }
        }
        sums.iter().map(|sum| sum * dims as f64 / rows.len() as f64).collect()
    };
    let of = |(left, own): (f64, f64)| if own > 0.0 { (left / own).min(1e6) as f32 } else { 1e6 };
    mean_sq(left).into_iter().zip(mean_sq(centroids)).map(of).collect()
}

/// The vectors of a centroid.
struct Members<'a> {
    ratio: f32,
    /// Their numbers.
    rows: &'a [u32],
    /// What codes leave of all vectors, in the dimensions of the part.
    left: &'a [f32],
    /// The directions of all vectors there.
    directions: &'a [f32],
    /// What is left of each vector along it, in all dimensions.
    sums: &'a [f32],
    weights: Option<&'a [f32]>,
}

impl Members<'_> {
    /// By how much the centroid has to move to leave least.
    fn best_step(&self, centroid: &[f32], ridge: &[f32]) -> Vec<f32> {
        let dims = centroid.len();
        let excess = f64::from(self.ratio - 1.0);
        let row = |i: u32| {
            let at = i as usize * dims..(i as usize + 1) * dims;
            (&self.left[at.clone()], &self.directions[at])
        };
        let weight = |i: u32| self.weights.map_or(1.0, |weights| f64::from(weights[i as usize]));
        let all: f64 = self.rows.iter().map(|&i| weight(i)).sum();
        let mut step = vec![0.0f32; dims];
        if all <= 0.0 {
            return step;
        }
        // Half of the negative gradient, and the curvature times a direction.
        let mut residual = vec![0.0f64; dims];
        for &i in self.rows {
            let (left, direction) = row(i);
            let (weight, sum) = (weight(i), f64::from(self.sums[i as usize]));
            for ((out, &left), &u) in residual.iter_mut().zip(left).zip(direction) {
                *out += weight * (f64::from(left) + excess * sum * f64::from(u));
            }
        }
        for ((out, &c), &ridge) in residual.iter_mut().zip(centroid).zip(ridge) {
            *out -= f64::from(ridge) * f64::from(c);
        }
        let curved = |x: &[f64]| -> Vec<f64> {
            let mut out: Vec<f64> = x.iter().map(|x| all * x).collect();
            for ((out, x), &ridge) in out.iter_mut().zip(x).zip(ridge) {
                *out += f64::from(ridge) * x;
            }
            for &i in self.rows {
                let (_, direction) = row(i);
                let dot: f64 = direction.iter().zip(x).map(|(&u, x)| f64::from(u) * x).sum();
                let dot = weight(i) * excess * dot;
                for (out, &u) in out.iter_mut().zip(direction) {
                    *out += dot * f64::from(u);
                }
            }
            out
        };
        let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        let mut search = residual.clone();
        let mut size = dot(&residual, &residual);
        let enough = 1e-10 * size;
        let mut found = vec![0.0f64; dims];
        for _ in 0..STEPS {
            if size <= enough {
                break;
            }
            let image = curved(&search);
            let length = size / dot(&search, &image);
            for (x, search) in found.iter_mut().zip(&search) {
                *x += length * search;
            }
            for (residual, image) in residual.iter_mut().zip(&image) {
                *residual -= length * image;
            }
            let before = size;
            size = dot(&residual, &residual);
            for (search, residual) in search.iter_mut().zip(&residual) {
                *search = residual + size / before * *search;
            }
        }
        for (step, x) in step.iter_mut().zip(found) {
            *step = x as f32;
        }
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizer::additive::cut;
    use crate::quantizer::additive::parts::PartScratch;
    use crate::random::Random;

    fn normal(count: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed, 0);
        (0..count).map(|_| random.normal() as f32).collect()
    }

    /// What is small for good codes, summed over all rows.
    fn loss(ratio: f32, dims: usize, left: &[f32], directions: &[f32]) -> f64 {
        let rows = left.chunks_exact(dims).zip(directions.chunks_exact(dims));
        rows.map(|(left, u)| {
            let along = f64::from(dot_f32(left, u));
            f64::from(dot_f32(left, left)) + f64::from(ratio - 1.0) * along * along
        })
        .sum()
    }

    #[test]
    fn the_ratio_is_that_of_the_paper() {
        assert!((ratio(0.2, 101) - 100.0 * 0.04 / 0.96).abs() < 1e-4);
        assert_eq!((ratio(0.01, 10), ratio(0.5, 1)), (1.0, 1.0));
    }

    #[test]
    fn codes_and_centroids_leave_less_with_every_step() {
        let (dims, rows, ratio) = (24, 900, 8.0);
        let vectors = normal(rows * dims, 1);
        let mut directions = vectors.clone();
        to_directions(dims, &mut directions);
        let weights: Vec<f32> = (0..rows).map(|i| (i % 3) as f32).collect();
        for (count, columns, most) in [(1, 3, 16), (3, 3, 4), (2, 5, 16), (6, 6, 64)] {
            let parts = cut(dims, dims, columns, count, most);
            let mut centroids: Vec<Vec<f32>> = parts
                .iter()
                .map(|part| normal(part.levels * part.centroids * part.dims, 2))
                .collect();
            let mut codebooks = Codebooks::new(&parts, &centroids);
            let (mut codes, mut left) = (vec![0; rows * columns], vec![0.0; vectors.len()]);
            codebooks.encode(&vectors, 3, &mut PartScratch::default(), &mut codes, &mut left);
            let mut before = loss(ratio, dims, &left, &directions);
            for round in 0..3 {
                let scratch = &mut Scratch::default();
                choose(&codebooks, ratio, &directions, scratch, &mut codes, &mut left);
                let chosen = loss(ratio, dims, &left, &directions);
                let least = if round == 0 { 0.9 * before } else { before };
                assert!(chosen < least, "{count} {round}: {chosen} after {before}");
                // What is left is what the codes leave.
                let mut expected = vectors.clone();
                for (row, code) in expected.chunks_exact_mut(dims).zip(codes.chunks_exact(columns))
                {
                    for (part, levels) in codebooks.iter() {
                        for (level, &number) in code[part.columns()].iter().enumerate() {
                            subtract(&mut row[part.range()], levels.centroid(level, number));
                        }
                    }
                }
                for (a, b) in left.iter().zip(&expected) {
                    assert!((a - b).abs() < 1e-3, "{a} {b}");
                }
                let weights = (round == 2).then_some(&weights[..]);
                let weighted = |left: &[f32]| match weights {
                    None => loss(ratio, dims, left, &directions),
                    Some(weights) => (0..rows)
                        .map(|i| {
                            let row = i * dims..(i + 1) * dims;
                            let of = loss(ratio, dims, &left[row.clone()], &directions[row]);
                            f64::from(weights[i]) * of
                        })
                        .sum(),
                };
                let unfitted = weighted(&left);
                fit(&parts, ratio, &directions, weights, &codes, &mut left, &mut centroids);
                let fitted = weighted(&left);
                assert!(fitted < unfitted, "{count} {round}: {fitted} after {unfitted}");
                codebooks = Codebooks::new(&parts, &centroids);
                before = loss(ratio, dims, &left, &directions);
            }
        }
    }

    #[test]
    fn a_single_number_is_the_best_of_all() {
        let (dims, ratio) = (10, 20.0);
        let parts = cut(dims, dims, 1, 1, 128);
        let centroids = vec![normal(128 * dims, 3)];
        let codebooks = Codebooks::new(&parts, &centroids);
        let vectors = normal(50 * dims, 4);
        let mut directions = vectors.clone();
        to_directions(dims, &mut directions);
        for simd in nonius_simd::available() {
            nonius_simd::with_level(simd, || {
                let (mut codes, mut left) = (vec![0; 50], vectors.clone());
                let (_, levels) = codebooks.iter().next().unwrap();
                left.chunks_exact_mut(dims).for_each(|row| subtract(row, levels.centroid(0, 0)));
                let scratch = &mut Scratch::default();
                choose(&codebooks, ratio, &directions, scratch, &mut codes, &mut left);
                for (i, vector) in vectors.chunks_exact(dims).enumerate() {
                    let direction = &directions[i * dims..(i + 1) * dims];
                    let of = |number: u16| {
                        let mut left = vector.to_vec();
                        subtract(&mut left, levels.centroid(0, number));
                        loss(ratio, dims, &left, direction)
                    };
                    let least = (0..128).map(of).fold(f64::INFINITY, f64::min);
                    assert!(of(codes[i]) <= least * 1.001 + 1e-3, "{simd}: vector {i}");
                }
            });
        }
    }
}
