//! The rotation before a product of codebooks: which directions each part gets.

use nalgebra::{DMatrix, SVD};
use nonius_simd::matmul_f32;
use rayon::prelude::*;

use super::parts::{Part, gather};
use crate::error::BuildError;
use crate::matrix::{Matrix, MatrixView};
use crate::quantizer::frame::{Rotation, identity};
use crate::train::{Assigner, First, KMeans, Pca};

/// How hard a rotation is learnt.
#[derive(Clone, Copy)]
pub(super) struct Effort {
    /// How often codebooks and rotation are fitted to each other in turn, tries included.
    pub(super) iterations: usize,
    /// The most rows that it is learnt from.
    rows: usize,
}

/// From so many dimensions a part on, more effort pays: errors of random pairs fall by 2% to 4% in an eighth of
/// the dimensions and less. With more parts it finds no more neighbours.
const WIDE: usize = 17;

impl Effort {
    pub(super) fn of(parts: &[Part]) -> Effort {
        let dims: usize = parts.iter().map(|part| part.dims).sum();
        match dims / parts.len().max(1) {
            WIDE.. => Effort { iterations: 36, rows: 1 << 16 },
            _ => Effort { iterations: 18, rows: 1 << 15 },
        }
    }
}

/// How often from each start, before the better one goes on.
const TRIED: usize = 3;

/// Iterations of k-means for the first rotation, and for every other.
const FIRST: usize = 8;
const NEXT: usize = 2;

/// Rows whose products are summed in `f32` before they are added in `f64`.
const SUMMED: usize = 512;

/// The dimensions of a part that are not padding beyond `dim`.
fn own_dims(part: &Part, dim: usize) -> usize {
    part.dims.min(dim - part.start)
}

/// Deals principal components out to the parts, so that the variances of each have about the same
/// product: where codes are as long, the parts then leave as much (Ge, He, Ke and Sun, section 3.2.3).
/// Returns a basis, `dim x dim`.
pub(super) fn deal(pca: &Pca, parts: &[Part]) -> Matrix {
    let dim = pca.dim();
    let mut basis = Matrix::zeros(dim, dim);
    // Of each part how many components it has, and the logarithm of their variances' product.
    let mut dealt = vec![(0usize, 0.0f64); parts.len()];
    // No variance is so small that its part could not be dealt another one before all others.
    let least = pca.variances.first().copied().unwrap_or(0.0) * 1e-6 + f64::MIN_POSITIVE;
    for (component, variance) in pca.variances.iter().enumerate() {
        let mut best: Option<usize> = None;
        for (number, part) in parts.iter().enumerate() {
            let (count, product) = dealt[number];
            if count < own_dims(part, dim) && best.is_none_or(|best| product < dealt[best].1) {
                best = Some(number);
            }
        }
        let Some(number) = best else { break };
        let (count, product) = &mut dealt[number];
        basis.row_mut(parts[number].start + *count).copy_from_slice(pca.components.row(component));
        *count += 1;
        *product += (variance.max(least) / least).ln();
    }
    basis
}

/// The most dimensions for which a rotation is learnt: the time grows with their cube, to a minute an
/// iteration here. Beyond, dealt principal components are the rotation.
const MAX_DIM: usize = 2048;

/// Learns the basis (`dim x dim`) in which codebooks of one level for each part leave least of the
/// vectors (`rows x dim`): codebooks and rotation are fitted in turn (Ge, He, Ke and Sun, section 3.1;
/// the rotation is the solution of an orthogonal Procrustes problem).
///
/// There are two starts, dealt principal components and the dimensions as they are; after [`TRIED`]
/// iterations the one that leaves less goes on. (The second wins on SIFT descriptors, whose dimensions
/// are histograms next to each other.)
pub(super) fn learn(
    pca: &Pca,
    vectors: &Matrix,
    weights: Option<&[f32]>,
    parts: &[Part],
    seed: u64,
    progress: &mut dyn FnMut(usize) -> Result<(), BuildError>,
) -> Result<Matrix, BuildError> {
    let dim = vectors.dim();
    if dim > MAX_DIM {
        return Ok(deal(pca, parts));
    }
    let effort = Effort::of(parts);
    let step = vectors.rows().div_ceil(effort.rows).max(1);
    let some: Vec<f32> =
        vectors.data().chunks_exact(dim).step_by(step).flatten().copied().collect();
    let weights: Option<Vec<f32>> =
        weights.map(|weights| weights.iter().step_by(step).copied().collect());
    let weights = weights.as_deref();
    let mut best: Option<Fitted<'_>> = None;
    for (start, basis) in [deal(pca, parts), identity(dim)].into_iter().enumerate() {
        let mut fitted = Fitted::new(basis, parts);
        for iteration in 0..TRIED {
            progress(start * TRIED + iteration)?;
            fitted.improve(&some, weights, seed)?;
        }
        if best.as_ref().is_none_or(|best| fitted.left < best.left) {
            best = Some(fitted);
        }
    }
    let Some(mut best) = best else { return Ok(identity(dim)) };
    for iteration in 2 * TRIED..effort.iterations {
        progress(iteration)?;
        best.improve(&some, weights, seed)?;
    }
    Ok(best.basis)
}

/// A basis and codebooks that are fitted to each other.
struct Fitted<'a> {
    basis: Matrix,
    parts: &'a [Part],
    /// The centroids of each part, when there are some.
    centroids: Vec<Option<Matrix>>,
    /// What the codebooks left of all vectors, in the basis before the last one.
    left: f64,
}

impl<'a> Fitted<'a> {
    fn new(basis: Matrix, parts: &'a [Part]) -> Fitted<'a> {
        Fitted { basis, parts, centroids: parts.iter().map(|_| None).collect(), left: 0.0 }
    }

    /// Fits codebooks to the vectors (`rows x dim`), and the basis to them.
    fn improve(
        &mut self,
        vectors: &[f32],
        weights: Option<&[f32]>,
        seed: u64,
    ) -> Result<(), BuildError> {
        let dim = self.basis.dim();
        let turned = Rotation::of(&self.basis).apply(&vec![0.0; dim], vectors);
        let mut found = vec![0.0; turned.len()];
        let mut own = Vec::new();
        self.left = 0.0;
        for (part, centroids) in self.parts.iter().zip(&mut self.centroids) {
            let width = own_dims(part, dim);
            let range = part.start..part.start + width;
            gather(&turned, dim, range.clone(), &mut own);
            let view = MatrixView::new(width, &own)?;
            let kmeans = KMeans {
                seed: seed.wrapping_add(part.column as u64),
                iterations: if centroids.is_some() { NEXT } else { FIRST },
                max_points_per_centroid: usize::MAX,
                ..KMeans::new(part.centroids.min(view.rows()))
            };
            let model = match centroids.take() {
                None => kmeans.fit_weighted(view, weights, First::Apart)?,
                Some(before) => kmeans.fit_from(view, weights, before)?,
            };
            self.left += model.inertia.last().copied().unwrap_or(0.0);
            // The nearest centroid in the place of each row.
            let assigner = Assigner::new(model.centroids);
            let (nearest, _) = assigner.assign(view);
            for (row, &number) in found.chunks_exact_mut(dim).zip(&nearest) {
                row[range.clone()].copy_from_slice(assigner.centroids().row(number as usize));
            }
            *centroids = Some(assigner.into_centroids());
        }
        if let Some(weights) = weights {
            for (row, weight) in found.chunks_exact_mut(dim).zip(weights) {
                row.iter_mut().for_each(|x| *x *= weight);
            }
        }
        if let Some(better) = procrustes(dim, &found, vectors) {
            self.basis = better;
        }
        Ok(())
    }
}

/// The orthogonal matrix `R` for which `R x` is nearest to `y` over pairs of rows of both (`rows x
/// dim`): `U V^T` of the singular value decomposition of the sum of all `y x^T`. None if that does not
/// converge.
fn procrustes(dim: usize, y: &[f32], x: &[f32]) -> Option<Matrix> {
    let SVD { u, v_t, .. } = SVD::try_new(cross(dim, y, x), true, true, f64::EPSILON, 100 * dim)?;
    // Rows of both, as the product takes them: U, and the transpose of V^T. In f32 by our own
    // product: that of nalgebra asks for the processor's features at run time.
    let (u, v_t) = (u?, v_t?);
    let rows_of = |value: &dyn Fn(usize, usize) -> f64| -> Vec<f32> {
        (0..dim * dim).map(|at| value(at / dim, at % dim) as f32).collect()
    };
    let left = rows_of(&|i, k| u[(i, k)]);
    let right = rows_of(&|j, k| v_t[(k, j)]);
    let mut out = Matrix::zeros(dim, dim);
    matmul_f32(dim, &left, &right, out.data_mut());
    Some(out)
}

/// The sum of `y x^T` over pairs of rows.
fn cross(dim: usize, y: &[f32], x: &[f32]) -> DMatrix<f64> {
    const HEIGHT: usize = 64;
    let transpose = |rows: &[f32]| -> Vec<f32> {
        let count = rows.len() / dim;
        let mut out = vec![0.0; rows.len()];
        for (i, row) in rows.chunks_exact(dim).enumerate() {
            for (j, &value) in row.iter().enumerate() {
                out[j * count + i] = value;
            }
        }
        out
    };
    let mut sums = vec![0.0f64; dim * dim];
    for (y, x) in y.chunks(SUMMED * dim).zip(x.chunks(SUMMED * dim)) {
        let count = y.len() / dim;
        let (y, x) = rayon::join(|| transpose(y), || transpose(x));
        sums.par_chunks_mut(HEIGHT * dim).zip(y.par_chunks(HEIGHT * count)).for_each(
            |(sums, y)| {
                let mut product = vec![0.0; sums.len()];
                matmul_f32(count, y, &x, &mut product);
                for (sum, product) in sums.iter_mut().zip(product) {
                    *sum += f64::from(product);
                }
            },
        );
    }
    DMatrix::from_row_slice(dim, dim, &sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizer::additive::cut;
    use crate::random::Random;
    use crate::transform::random_orthogonal;

    fn normal(count: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed, 0);
        (0..count).map(|_| random.normal() as f32).collect()
    }

    fn check_orthogonal(matrix: &Matrix) {
        for i in 0..matrix.rows() {
            for j in 0..=i {
                let dot = nonius_simd::dot_f32(matrix.row(i), matrix.row(j));
                let expected = f32::from(u8::from(i == j));
                assert!((dot - expected).abs() < 1e-4, "rows {i} and {j}: {dot}");
            }
        }
    }

    #[test]
    fn a_rotation_is_found_again() {
        for dim in [1, 2, 9, 40] {
            let truth = random_orthogonal(dim, 3, 0);
            let x = normal(700 * dim, 4);
            let y = Rotation::of(&truth).apply(&vec![0.0; dim], &x);
            let found = procrustes(dim, &y, &x).unwrap();
            check_orthogonal(&found);
            for (a, b) in found.data().iter().zip(truth.data()) {
                assert!((a - b).abs() < 1e-3, "{a} {b}");
            }
        }
        // Of nothing, or of too little, it is still a rotation.
        check_orthogonal(&procrustes(6, &[0.0; 60], &[0.0; 60]).unwrap());
        check_orthogonal(&procrustes(6, &normal(12, 1), &normal(12, 2)).unwrap());
    }

    #[test]
    fn dealt_parts_have_about_the_same_product_of_variances() {
        let dim = 24;
        let mut values = normal(2000 * dim, 5);
        for row in values.chunks_exact_mut(dim) {
            for (d, x) in row.iter_mut().enumerate() {
                *x *= 0.8f32.powi(d as i32);
            }
        }
        let pca = Pca::fit(MatrixView::new(dim, &values).unwrap()).unwrap();
        for count in [1, 3, 5, 24] {
            let parts = cut(dim, dim, count, count, 256);
            let basis = deal(&pca, &parts);
            check_orthogonal(&basis);
            let turned = Rotation::of(&basis).apply(&vec![0.0; dim], &values);
            let of_part = |part: &Part| -> f64 {
                let variance = |d: usize| -> f64 {
                    turned.chunks_exact(dim).map(|row| f64::from(row[d]).powi(2)).sum::<f64>()
                };
                part.range().map(|d| variance(d).ln()).sum::<f64>() / part.dims as f64
            };
            let found: Vec<f64> = parts.iter().map(of_part).collect();
            let spread = found.iter().fold(f64::MIN, |a, &b| a.max(b))
                - found.iter().fold(f64::MAX, |a, &b| a.min(b));
            assert!(count == 24 || spread < 1.5, "{count}: {found:?}");
        }
    }

    #[test]
    fn learning_finds_what_parts_have_in_common() {
        // Pairs of independent directions that are clusters each, hidden by a rotation.
        let (dim, rows) = (8, 6000);
        let mut random = Random::new(7, 0);
        let centres = normal(4 * 40 * 2, 8);
        let mut values = Vec::new();
        for _ in 0..rows {
            for part in 0..4 {
                let centre = part * 40 + random.below(40) as usize;
                for d in 0..2 {
                    values.push(centres[centre * 2 + d] + 0.02 * random.normal() as f32);
                }
            }
        }
        let hidden = random_orthogonal(dim, 9, 0);
        let hidden = Rotation::of(&hidden).apply(&vec![0.0; dim], &values);
        let vectors = Matrix::new(dim, hidden).unwrap();
        let pca = Pca::fit(vectors.view()).unwrap();
        let parts = cut(dim, dim, 4, 4, 256);
        let left = |basis: &Matrix| -> f64 {
            let turned = Rotation::of(basis).apply(&vec![0.0; dim], vectors.data());
            let mut own = Vec::new();
            let mut all = 0.0;
            for part in &parts {
                gather(&turned, dim, part.range(), &mut own);
                let view = MatrixView::new(part.dims, &own).unwrap();
                all += KMeans::new(256).fit(view).unwrap().inertia.last().unwrap();
            }
            all
        };
        let learnt = learn(&pca, &vectors, None, &parts, 1, &mut |_| Ok(())).unwrap();
        check_orthogonal(&learnt);
        let (before, after) = (left(&deal(&pca, &parts)), left(&learnt));
        assert!(after < 0.9 * before, "{after} after {before}");
    }
}
