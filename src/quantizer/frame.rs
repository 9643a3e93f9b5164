//! What all quantizers share: vectors become rotated residuals, and codes of these become keys.
//!
//! A vector `x` of a list with centroid `c` becomes the rotated residual `o = P (x - c)`, and its
//! code stands for `ô`, an estimate of `o`. A query needs only `<ô, q>`:
//!
//! ```text
//! |q - x|^2 = |q|^2 + |x|^2 - 2 <q, c> - 2 <q, o>
//! <q, o>   ~= <q, ô> + <c, o - ô>
//! ```
//!
//! where everything is relative to the mean of the set and rotated. `|x|^2 + 2 <c, ô - o>` is
//! stored (the *additive factor*), so the tables of a query serve all lists, and what is left of
//! the error is `<q - c, o - ô>`: as small as if the query had been taken relative to the
//! centroid. (Additive quantizers add to the factor a share of what the code left; see
//! [`additive`](super::additive).)

use nonius_simd::Panels;
use rayon::prelude::*;

use super::factor::AdditiveCode;
use crate::index::Encoding;
use crate::matrix::{Matrix, MatrixView};
use crate::metric::Metric;
use crate::train::RowsI16;
use crate::transform::{Hadamard, random_orthogonal};

/// What codes mean, whatever the quantizer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    /// The metric.
    pub(crate) metric: Metric,
    /// Dimensions of vectors.
    pub(crate) dim: usize,
    /// Dimensions after rotation: a multiple of 8.
    pub(crate) dims: usize,
    /// Vectors and queries are multiplied by this power of two first, so that they have norms of
    /// about one whatever their units, and no square leaves the range of `f32`.
    pub(crate) scale: f32,
    /// True where vectors are relative to centroids.
    pub(crate) lists: bool,
    /// How additive factors are stored.
    pub(crate) additive: AdditiveCode,
}

impl Frame {
    /// See [`alpha`].
    #[inline(always)]
    pub(crate) fn alpha(&self) -> f32 {
        alpha(self.metric)
    }

    /// Rows in the frame's units, in `buffer` if they have to be copied.
    pub(crate) fn scaled<'a>(&self, rows: &'a [f32], buffer: &'a mut Vec<f32>) -> &'a [f32] {
        if self.scale == 1.0 {
            return rows;
        }
        buffer.clear();
        buffer.extend(rows.iter().map(|x| x * self.scale));
        buffer
    }
}

/// The factor of `<q, o>` in the key: 2 for squared distances, 1 for inner products.
#[inline(always)]
pub(crate) fn alpha(metric: Metric) -> f32 {
    match metric {
        Metric::L2 | Metric::Cosine => 2.0,
        Metric::InnerProduct => 1.0,
    }
}

/// The part of the additive factor that does not depend on the code: `|x|^2` relative to the mean,
/// or what the mean adds to a negated inner product. `norms_sq` are those of the centred rows.
pub(crate) fn additive_base(
    metric: Metric,
    mean: &[f32],
    rows: &[f32],
    norms_sq: &[f32],
    out: &mut [f32],
) {
    match metric {
        Metric::L2 | Metric::Cosine => {
            out[..norms_sq.len()].copy_from_slice(norms_sq);
        }
        Metric::InnerProduct => {
            let mean_sq = nonius_simd::dot_f32(mean, mean);
            for (out, row) in out.iter_mut().zip(rows.chunks_exact(mean.len())) {
                *out = mean_sq - nonius_simd::dot_f32(mean, row);
            }
        }
    }
}

/// An orthogonal transform by [`RowsI16`](crate::train::RowsI16): `dims x dim`, in the two layouts that kernels read.
/// All three are empty where vectors stay as they are, with zeros appended.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    dims: usize,
    /// True where what is not rotated is not rounded to integers either.
    exact: bool,
    /// Row by row, each of the dimension rounded up to an even number: for encoding.
    pub(crate) rows: Vec<i16>,
    /// As [`nonius_simd::Panels`]: for queries.
    pub(crate) packed: Vec<i16>,
    /// What each row is multiplied by.
    pub(crate) inverse: Vec<f32>,
}

/// What a quantizer is trained on.
pub(crate) struct TrainingSet<'a> {
    /// Sample vectors in the model's units, of unit norm for cosine.
    pub(crate) sample: MatrixView<'a>,
    /// The mean to subtract from vectors.
    pub(crate) mean: &'a [f32],
    /// Centroids relative to the mean and the list of every sample row, if there are lists.
    pub(crate) lists: Option<(MatrixView<'a>, &'a [u32])>,
    /// The metric.
    pub(crate) metric: Metric,
    /// What vectors were multiplied by.
    pub(crate) scale: f32,
    /// How much every sample row counts for codebooks: from 0 on, 1 in the mean. Alike where there are none.
    pub(crate) weights: Option<&'a [f32]>,
}

/// How training and encoding go about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Options {
    /// How hard the encoder tries.
    pub(crate) encoding: Encoding,
    /// The threshold of errors for inner products; see [`IndexConfig`](crate::IndexConfig::anisotropic).
    pub(crate) anisotropic: Option<f32>,
    /// Sums that the search for codes keeps, if not as many as `encoding` says.
    pub(crate) beam: Option<usize>,
    /// The seed of everything random.
    pub(crate) seed: u64,
}

impl Rotation {
    pub(crate) fn of(matrix: &Matrix) -> Rotation {
        let mut rows = RowsI16::new();
        rows.quantize(matrix.dim(), matrix.data());
        Rotation {
            dims: matrix.rows(),
            exact: false,
            packed: Panels::pack(matrix.rows(), rows.depth(), rows.values()),
            inverse: rows.inverse().to_vec(),
            rows: rows.values().to_vec(),
        }
    }

    /// The one that appends zeros up to `dims` values.
    pub(crate) fn none(dims: usize) -> Rotation {
        let (rows, packed, inverse) = (Vec::new(), Vec::new(), Vec::new());
        Rotation { dims, exact: false, rows, packed, inverse }
    }

    /// The same, of values that are not rounded.
    pub(crate) fn exact(dims: usize) -> Rotation {
        Rotation { exact: true, ..Rotation::none(dims) }
    }

    /// Rotates rows of `dim` values, with `mean` subtracted, into rows of `dims` values.
    pub(crate) fn apply(&self, mean: &[f32], rows: &[f32]) -> Vec<f32> {
        let dims = self.dims;
        let chunk = 64 * mean.len();
        let mut out = vec![0.0; rows.len() / mean.len() * dims];
        out.par_chunks_mut(64 * dims).zip(rows.par_chunks(chunk)).for_each(|(out, rows)| {
            self.view(mean.len()).apply(mean, rows, &mut RowsI16::new(), &mut Vec::new(), out);
        });
        out
    }

    /// The part that rotates vectors of `dim` values.
    pub(crate) fn view(&self, dim: usize) -> RotationView<'_> {
        RotationView::new(self.dims, dim, &self.packed, &self.inverse, self.exact)
    }

    /// True if vectors stay as they are.
    pub(crate) fn is_none(&self) -> bool {
        self.inverse.is_empty()
    }

    /// The inverse of [`apply`](Rotation::apply) for one vector, without the mean: the transpose.
    pub(crate) fn apply_inverse(&self, rotated: &[f32], dim: usize) -> Vec<f32> {
        if self.is_none() {
            return rotated[..dim].to_vec();
        }
        let depth = dim.next_multiple_of(2);
        let mut out = vec![0.0f32; dim];
        for ((row, &inverse), &value) in
            self.rows.chunks_exact(depth).zip(&self.inverse).zip(rotated)
        {
            for (out, &r) in out.iter_mut().zip(row) {
                *out += f32::from(r) * inverse * value;
            }
        }
        out
    }
}

/// What of a rotation rotates vectors.
#[derive(Clone, Copy)]
pub(crate) enum RotationView<'a> {
    /// Nothing: vectors become so many values, zeros behind their own.
    None(usize),
    /// The same, of values that are not rounded.
    Exact(usize),
    /// A matrix, `dims x dim`, and what each row is multiplied by.
    Dense(Panels<'a>, &'a [f32]),
}

impl<'a> RotationView<'a> {
    /// The rotation to `dims` values of `dim` that has these parts: none, then `exact` or not, or all `dims` rows.
    pub(crate) fn new(
        dims: usize,
        dim: usize,
        packed: &'a [i16],
        inverse: &'a [f32],
        exact: bool,
    ) -> RotationView<'a> {
        match inverse {
            [] if exact => RotationView::Exact(dims),
            [] => RotationView::None(dims),
            _ => RotationView::Dense(Panels::new(dims, dim, packed), inverse),
        }
    }

    /// Rotates `vectors` (`rows x dim`) with `mean` subtracted into `out` (`rows x dims`). `rows` has them
    /// rounded afterwards; `product` is a buffer.
    pub(crate) fn apply(
        self,
        mean: &[f32],
        vectors: &[f32],
        rows: &mut RowsI16,
        product: &mut Vec<i32>,
        out: &mut [f32],
    ) {
        rows.quantize_centred(vectors, mean);
        match self {
            RotationView::None(dims) => {
                let (dim, rounded) = (mean.len(), rows.values().chunks_exact(rows.depth()));
                for ((out, rounded), inverse) in
                    out.chunks_exact_mut(dims).zip(rounded).zip(rows.inverse())
                {
                    let (values, zeros) = out.split_at_mut(dim);
                    for (out, &value) in values.iter_mut().zip(rounded) {
                        *out = f32::from(value) * inverse;
                    }
                    zeros.fill(0.0);
                }
            }
            RotationView::Exact(dims) => {
                let dim = mean.len();
                for (out, values) in out.chunks_exact_mut(dims).zip(vectors.chunks_exact(dim)) {
                    for ((out, x), mean) in out.iter_mut().zip(values).zip(mean) {
                        *out = x - mean;
                    }
                    out[dim..].fill(0.0);
                }
            }
            RotationView::Dense(panels, inverse) => {
                rows.multiply(panels, product);
                rescale(product, panels.padded_rows(), rows.inverse(), inverse, out);
            }
        }
    }
}

/// Turns an integer product into floats, dropping the padding of its rows.
fn rescale(product: &[i32], padded: usize, rows: &[f32], columns: &[f32], out: &mut [f32]) {
    let dims = columns.len();
    for ((out, product), &row) in
        out.chunks_exact_mut(dims).zip(product.chunks_exact(padded)).zip(rows)
    {
        for ((out, &product), &column) in out.iter_mut().zip(product).zip(columns) {
            // The same order as in encoding, so that both give the same bits.
            *out = product as f32 * (column * row);
        }
    }
}

/// What a vector is encoded relative to.
pub(crate) struct Lists<'a> {
    /// The list of each row.
    pub(crate) of_row: &'a [u32],
    /// The lists' centroids.
    pub(crate) centroids: &'a ListCentroids,
}

/// The centroids of all lists, in the model's units.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListCentroids {
    /// Relative to the mean and rotated: `nlist x dims`.
    pub(crate) rotated: Vec<f32>,
    /// As they are: `nlist x dim`.
    pub(crate) origins: Vec<f32>,
    /// Squared norms relative to the mean: `nlist`.
    pub(crate) norms_sq: Vec<f32>,
}

impl ListCentroids {
    /// From centroids relative to the mean, `nlist x dim`.
    pub(crate) fn new(
        rotation: &Rotation,
        mean: &[f32],
        centroids: MatrixView<'_>,
    ) -> ListCentroids {
        let rows = || centroids.data().chunks_exact(mean.len());
        ListCentroids {
            rotated: rotation.apply(&vec![0.0; mean.len()], centroids.data()),
            origins: rows()
                .flat_map(|row| row.iter().zip(mean).map(|(c, mean)| c + mean))
                .collect(),
            norms_sq: rows().map(|row| nonius_simd::dot_f32(row, row)).collect(),
        }
    }
}

/// The code for the additive factors of a set in the first of so many `widths` in bytes (1 or 2) whose
/// rounding adds little to the `noise` of estimates, or else exactly.
pub(crate) fn additive_code(set: &TrainingSet<'_>, noise: f32, widths: &[usize]) -> AdditiveCode {
    // The code's part of the factor is noise of about the size of the estimate's own error, and
    // for dropped segments the inner product of centroid and residual.
    let margin = if set.lists.is_some() { 8.0 * noise } else { 0.0 };
    let (low, high) = additive_range(set);
    widths
        .iter()
        .map(|&bytes| AdditiveCode::spanning(low - margin, high + margin, bytes))
        .find(|code| code.deviation() <= 0.15 * noise)
        .unwrap_or(AdditiveCode::EXACT)
}

/// The expected deviation of estimates, where residuals have the squared norm `whole_sq` on average and codes
/// leave `left_sq` of it.
pub(crate) fn estimate_noise(metric: Metric, dims: usize, whole_sq: f64, left_sq: f64) -> f32 {
    (f64::from(alpha(metric)) * (whole_sq * left_sq / dims as f64).sqrt()) as f32
}

/// The range of the additive factors of the sample, without the code's part.
fn additive_range(set: &TrainingSet<'_>) -> (f32, f32) {
    let dim = set.sample.dim();
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    let mut base = [0.0];
    for row in set.sample.data().chunks_exact(dim) {
        let norm_sq = nonius_simd::l2_sq_f32(row, set.mean);
        additive_base(set.metric, set.mean, row, &[norm_sq], &mut base);
        low = low.min(base[0]);
        high = high.max(base[0]);
    }
    // A little more than the sample's, which is not all of the set.
    let margin = 0.05 * (high - low);
    (low - margin, high + margin)
}

/// How many times the median norm a residual may have before it counts as an outlier.
const OUTLIER: f32 = 4.0;

/// The sample relative to mean and centroids. Outliers are shortened, or a few of them would
/// decide alone what directions and units are best.
pub(crate) fn residuals(set: &TrainingSet<'_>) -> Matrix {
    let dim = set.sample.dim();
    let mut residuals = Matrix::zeros(set.sample.rows(), dim);
    for row in 0..set.sample.rows() {
        let out = residuals.row_mut(row);
        for ((out, &x), &mean) in out.iter_mut().zip(set.sample.row(row)).zip(set.mean) {
            *out = x - mean;
        }
        if let Some((centroids, of_row)) = set.lists {
            for (out, &c) in out.iter_mut().zip(centroids.row(of_row[row] as usize)) {
                *out -= c;
            }
        }
    }
    let norms: Vec<f32> = residuals
        .data()
        .chunks_exact(dim)
        .map(|row| nonius_simd::dot_f32(row, row).sqrt())
        .collect();
    let mut sorted = norms.clone();
    let middle = sorted.len() / 2;
    let (_, &mut median, _) = sorted.select_nth_unstable_by(middle, f32::total_cmp);
    let longest = OUTLIER * median;
    for (row, norm) in residuals.data_mut().chunks_exact_mut(dim).zip(norms) {
        if norm > longest && longest > 0.0 {
            for x in row {
                *x *= longest / norm;
            }
        }
    }
    residuals
}

/// The matrix (`dim x dim`) that leaves vectors as they are.
pub(crate) fn identity(dim: usize) -> Matrix {
    let mut matrix = Matrix::zeros(dim, dim);
    for i in 0..dim {
        matrix.row_mut(i)[i] = 1.0;
    }
    matrix
}

/// Vectors in a basis (`dim x dim`), or as they are, with zeros appended: `rows x dims`.
pub(crate) fn turned(basis: Option<&Matrix>, vectors: &Matrix, dims: usize) -> Vec<f32> {
    let dim = vectors.dim();
    let mut out = Vec::with_capacity(vectors.rows() * dims);
    let mut append = |values: &[f32]| {
        for row in values.chunks_exact(dim) {
            out.extend_from_slice(row);
            out.resize(out.len() + dims - dim, 0.0);
        }
    };
    match basis {
        None => append(vectors.data()),
        Some(basis) => append(&Rotation::of(basis).apply(&vec![0.0; dim], vectors.data())),
    }
    out
}

/// A basis (`dim x dim`), followed by a random rotation inside each segment of so many dimensions, of
/// which there may be a few more in all: `dims x dim`.
pub(crate) fn spun(basis: &Matrix, seed: u64, segments: impl Iterator<Item = usize>) -> Matrix {
    let dim = basis.dim();
    let mut out = Vec::new();
    let mut start = 0;
    for (number, dims) in segments.enumerate() {
        let inner = random_rotation(dims, seed, number as u64);
        // The segment's rows of the basis as columns; rows beyond the basis are zero.
        let mut columns = vec![0.0; dim * dims];
        for i in 0..dims.min(dim.saturating_sub(start)) {
            for (j, &value) in basis.row(start + i).iter().enumerate() {
                columns[j * dims + i] = value;
            }
        }
        let rows = out.len();
        out.resize(rows + dims * dim, 0.0);
        nonius_simd::matmul_f32(dims, inner.data(), &columns, &mut out[rows..]);
        start += dims;
    }
    let mut matrix = Matrix::zeros(start, dim);
    matrix.data_mut().copy_from_slice(&out);
    matrix
}

/// From this dimension on vectors are rotated by the fast Hadamard rotation: drawing a dense
/// orthogonal matrix takes time by the cube.
const DENSE_ROTATION: usize = 1024;

/// The first of the streams of random numbers for rotations.
const STREAM_ROTATION: u64 = 0x100;

/// A random orthogonal matrix, `dims x dims`; `number` tells apart those of one seed.
pub(crate) fn random_rotation(dims: usize, seed: u64, number: u64) -> Matrix {
    let stream = STREAM_ROTATION + number;
    if dims < DENSE_ROTATION {
        return random_orthogonal(dims, seed, stream);
    }
    // Row i is the image of the i-th axis, so this is the transpose: as random as the transform.
    let mut matrix = Matrix::zeros(dims, dims);
    for i in 0..dims {
        matrix.row_mut(i)[i] = 1.0;
    }
    Hadamard::new(dims, seed, stream).apply(matrix.data_mut());
    matrix
}
