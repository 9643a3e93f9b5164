//! Training: principal components, plan, rotation, and what the codes stand for.

use rayon::prelude::*;

use nonius_simd::{Panels, gemm_i16};

use super::adjust::GAUSSIAN_STEP;
use super::constants::learn_constants;
use super::encode::effort;
use super::layout::{Layout, SegmentLayout};
use super::plan::{PlanInput, Segment, UNCORRECTED, error, plan};
use super::rotate::CoarseRotation;
use super::{AdditiveCode, Encoder, Model, Near, Rotation, SegmentConstants, additive_base, alpha};
use crate::error::{BuildError, ConfigError};
use crate::index::{Encoding, SearchParams};
use crate::matrix::{Matrix, MatrixView};
use crate::metric::Metric;
use crate::quantizer::QuantizerSpec;
use crate::random::Random;
use crate::train::{Pca, RowsI16};
use crate::transform::{Hadamard, random_orthogonal};

/// Sample vectors that serve as queries.
const QUERIES: usize = 256;
/// Near neighbours, within the sample, of each of them.
const NEAR: usize = 32;
/// Random vectors of the sample for each of them.
const FAR: usize = 32;
/// From this dimension on a segment is rotated by the fast Hadamard rotation: drawing a dense
/// orthogonal matrix takes time by the cube.
const DENSE_ROTATION: usize = 1024;

/// The streams of random numbers that one seed is split into.
mod stream {
    pub(super) const ROTATION: u64 = 0x100;
    pub(super) const FAR: u64 = 0x200;
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
}

impl Rotation {
    fn of(matrix: &Matrix) -> Rotation {
        let mut rows = RowsI16::new();
        rows.quantize(matrix.dim(), matrix.data());
        Rotation {
            packed: Panels::pack(matrix.rows(), rows.depth(), rows.values()),
            inverse: rows.inverse().to_vec(),
            rows: rows.values().to_vec(),
        }
    }

    /// Rotates rows of `dim` values, with `mean` subtracted, into rows of `dims` values.
    pub(crate) fn apply(&self, mean: &[f32], rows: &[f32]) -> Vec<f32> {
        let dims = self.inverse.len();
        let chunk = 64 * mean.len();
        let mut out = vec![0.0; rows.len() / mean.len() * dims];
        out.par_chunks_mut(64 * dims).zip(rows.par_chunks(chunk)).for_each(|(out, rows)| {
            let mut quantized = RowsI16::new();
            quantized.quantize_centred(rows, mean);
            let panels = Panels::new(dims, quantized.depth(), &self.packed);
            let mut product = vec![0; quantized.rows() * panels.padded_rows()];
            gemm_i16(quantized.values(), panels, &mut product);
            rescale(&product, panels.padded_rows(), quantized.inverse(), &self.inverse, out);
        });
        out
    }
}

impl Rotation {
    /// The inverse of [`apply`](Rotation::apply) for one vector, without the mean: the transpose.
    pub(crate) fn apply_inverse(&self, rotated: &[f32], dim: usize) -> Vec<f32> {
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

/// Turns an integer product into floats, dropping the padding of its rows.
pub(crate) fn rescale(
    product: &[i32],
    padded: usize,
    rows: &[f32],
    columns: &[f32],
    out: &mut [f32],
) {
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

/// Pairs of sample rows (query, vector): first the near ones, then random ones.
pub(super) struct Pairs {
    pub(super) near: Vec<(u32, u32)>,
    pub(super) far: Vec<(u32, u32)>,
}

/// Trains a quantizer.
pub(crate) fn train(
    set: &TrainingSet<'_>,
    spec: &QuantizerSpec,
    encoding: Encoding,
    seed: u64,
) -> Result<Encoder, BuildError> {
    let dim = set.sample.dim();
    if dim > Pca::MAX_DIM {
        return Err(ConfigError::new(
            "quantizer",
            format!("{spec} takes up to {} dimensions, found {dim}", Pca::MAX_DIM),
        )
        .into());
    }
    let dims = dim.next_multiple_of(8);
    let pairs = find_pairs(set, seed);
    let residuals = residuals(set);

    // The basis, the variance of the residuals along it, and what near pairs share.
    let (basis, variances) = match spec {
        QuantizerSpec::OneSegment { .. } => {
            let mut identity = Matrix::zeros(dim, dim);
            for i in 0..dim {
                identity.row_mut(i)[i] = 1.0;
            }
            (identity, column_energy(&residuals, dims))
        }
        _ => {
            let pca = Pca::fit(residuals.view())?;
            let mut variances = pca.variances;
            variances.resize(dims, 0.0);
            (pca.components, variances)
        }
    };
    let near = near_products(set, &basis, &pairs, dims);
    let alpha = f64::from(alpha(set.metric));
    // Inner products relative to centroids cannot be corrected: `refine` says why.
    let corrected = set.metric != Metric::InnerProduct || set.lists.is_none();
    let plan_within = |additive_bytes: usize| match *spec {
        QuantizerSpec::OneSegment { bits } => vec![Segment { dims, bits }],
        QuantizerSpec::Saq { .. } | QuantizerSpec::SaqBytes { .. } => {
            let shift = usize::from(set.lists.is_some());
            let budget = spec.budget(dim).unwrap_or(0).saturating_sub(additive_bytes + shift);
            let input = PlanInput {
                variances: &variances,
                weights: &variances,
                near: &near,
                uncorrected: if corrected { UNCORRECTED } else { 1.0 },
            };
            plan(&input, budget)
        }
    };
    let mut plan = plan_within(2);
    let mut parts = Expected::of(&plan, &variances, alpha);
    // The code's part of the factor is noise of about the size of the estimate's own error, and
    // for dropped segments the inner product of centroid and residual.
    let margin = if set.lists.is_some() { 8.0 * parts.noise } else { 0.0 };
    let (low, high) = additive_range(set);
    let mut additive = AdditiveCode::spanning(low - margin, high + margin);
    // A uniform error of a step has a standard deviation of step / sqrt(12).
    if additive.step * 0.29 > 0.15 * parts.noise {
        plan = plan_within(4);
        parts = Expected::of(&plan, &variances, alpha);
        additive = AdditiveCode::default();
    }
    let mut encoder = Encoder {
        model: Model {
            metric: set.metric,
            dim,
            dims,
            // The sample is in the model's units already.
            scale: 1.0,
            scan_bits: first_stage(&plan, &variances, &near),
            plan: plan.clone(),
            constants: parts.constants,
            lists: set.lists.is_some(),
            additive,
            correction: 0.0,
            near: Near::default(),
            shift_step: 1.0,
            noise: parts.noise,
        },
        mean: set.mean.to_vec(),
        rotation: Rotation::of(&rotation(&basis, dims, seed, &plan)),
        rotated: dims,
        coarse: None,
        effort: effort(encoding),
        along: along_weights(&plan, &variances, &near),
    };
    learn_constants(&mut encoder, set, &pairs, corrected);
    encoder.model.scale = set.scale;
    encoder.rotated = plan.iter().filter(|s| s.bits > 0).map(|s| s.dims).sum();
    if encoding == Encoding::Fast {
        let (rotation, sample) = (&encoder.rotation, set.sample);
        encoder.coarse = Some(CoarseRotation::of(rotation, sample, set.mean, &plan, &variances));
    }
    Ok(encoder)
}

/// For each segment the squared cosine of near pairs: it weighs the error along a vector.
fn along_weights(plan: &[Segment], variances: &[f64], near: &[f64]) -> Vec<f32> {
    let mut start = 0;
    plan.iter()
        .map(|segment| {
            let range = start..start + segment.dims;
            start += segment.dims;
            let variance: f64 = variances[range.clone()].iter().sum();
            let cosine = near[range].iter().sum::<f64>() / variance.max(f64::MIN_POSITIVE);
            // Queries that are not like the sample may be nearer than any pair of it.
            (cosine * cosine).clamp(0.1, 1.0) as f32
        })
        .collect()
}

/// What is expected of a plan before anything is encoded.
struct Expected {
    /// The units of the scales.
    constants: Vec<SegmentConstants>,
    /// The standard deviation of the error of an estimate.
    noise: f32,
}

impl Expected {
    fn of(plan: &[Segment], variances: &[f64], alpha: f64) -> Expected {
        let total: f64 = variances.iter().sum();
        // A direction without variance still needs a unit that is not zero.
        let floor = (total * 1e-9).max(1e-30) / variances.len() as f64;
        let mut constants = Vec::new();
        let (mut noise, mut start) = (0.0, 0);
        for segment in plan {
            let dims = segment.dims as f64;
            let energy: f64 = variances[start..start + segment.dims].iter().sum();
            let mean_square = (energy / dims).max(floor);
            let unit = match segment.bits {
                0 => (mean_square * dims).sqrt() as f32,
                bits => mean_square.sqrt() as f32 * GAUSSIAN_STEP[bits as usize],
            };
            noise += mean_square * mean_square * dims * error(segment.bits);
            constants.push(SegmentConstants { unit, ..SegmentConstants::default() });
            start += segment.dims;
        }
        Expected { constants, noise: (alpha * noise.sqrt()) as f32 }
    }
}

/// The range of the additive factors of the sample, without the code's part.
fn additive_range(set: &TrainingSet<'_>) -> (f32, f32) {
    let dim = set.sample.dim();
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    let mut rows = RowsI16::new();
    let mut base = Vec::new();
    for values in set.sample.data().chunks(256 * dim) {
        rows.quantize_centred(values, set.mean);
        base.resize(rows.rows(), 0.0);
        additive_base(set.metric, set.mean, values, rows.norms_sq(), &mut base);
        for &value in &base {
            low = low.min(value);
            high = high.max(value);
        }
    }
    // A little more than the sample's, which is not all of the set.
    let margin = 0.05 * (high - low);
    (low - margin, high + margin)
}

/// How many times the median norm a residual may have before it counts as an outlier.
const OUTLIER: f32 = 4.0;

/// The sample relative to mean and centroids. Outliers are shortened, or a few of them would
/// decide alone what directions and units are best.
fn residuals(set: &TrainingSet<'_>) -> Matrix {
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

/// The mean energy of a column, the same for every column.
fn column_energy(residuals: &Matrix, dims: usize) -> Vec<f64> {
    let energy: f64 = residuals.data().iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    vec![energy / residuals.rows() as f64 / dims as f64; dims]
}

/// Finds near pairs by an exhaustive search of the sample, and draws far ones.
fn find_pairs(set: &TrainingSet<'_>, seed: u64) -> Pairs {
    let (rows, dim) = (set.sample.rows(), set.sample.dim());
    let queries = rows.min(QUERIES);
    // Evenly spread over the sample, which is in the order of the source.
    let query_rows: Vec<usize> = (0..queries).map(|i| i * rows / queries).collect();
    let mut query_values = Vec::with_capacity(queries * dim);
    for &row in &query_rows {
        query_values.extend_from_slice(set.sample.row(row));
    }
    let mut quantized = RowsI16::new();
    quantized.quantize_centred(&query_values, set.mean);
    let packed = Panels::pack(queries, quantized.depth(), quantized.values());
    let panels = Panels::new(queries, quantized.depth(), &packed);
    let alpha = alpha(set.metric);

    const CHUNK: usize = 256;
    let keys: Vec<Vec<f32>> = set
        .sample
        .data()
        .par_chunks(CHUNK * dim)
        .map(|chunk| {
            let mut rows = RowsI16::new();
            rows.quantize_centred(chunk, set.mean);
            let mut product = vec![0; rows.rows() * panels.padded_rows()];
            gemm_i16(rows.values(), panels, &mut product);
            let mut keys = vec![0.0; rows.rows() * queries];
            let mut bases = vec![0.0; rows.rows()];
            additive_base(set.metric, set.mean, chunk, rows.norms_sq(), &mut bases);
            for (i, base) in bases.into_iter().enumerate() {
                for q in 0..queries {
                    let dot = product[i * panels.padded_rows() + q] as f32;
                    keys[i * queries + q] =
                        base - alpha * dot * (rows.inverse()[i] * quantized.inverse()[q]);
                }
            }
            keys
        })
        .collect();
    let near = (0..queries)
        .into_par_iter()
        .map(|q| {
            let mut top = crate::topk::TopK::new(NEAR.min(rows - 1));
            for (chunk, keys) in keys.iter().enumerate() {
                for (i, keys) in keys.chunks_exact(queries).enumerate() {
                    let row = chunk * CHUNK + i;
                    if row != query_rows[q] {
                        top.push(keys[q], row as u64);
                    }
                }
            }
            top.sorted().iter().map(|&(_, row)| (query_rows[q] as u32, row as u32)).collect()
        })
        .collect::<Vec<Vec<_>>>()
        .concat();
    let mut random = Random::new(seed, stream::FAR);
    let far = query_rows
        .iter()
        .flat_map(|&q| {
            (0..FAR).map(|_| (q as u32, random.below(rows as u64) as u32)).collect::<Vec<_>>()
        })
        .filter(|&(q, x)| q != x)
        .collect();
    Pairs { near, far }
}

/// The mean product of the coordinates of near pairs, `(q - c) * (x - c)`, in a basis.
fn near_products(set: &TrainingSet<'_>, basis: &Matrix, pairs: &Pairs, dims: usize) -> Vec<f64> {
    let dim = set.sample.dim();
    let mut mean = vec![0.0; dims];
    if pairs.near.is_empty() {
        return mean;
    }
    // sum over pairs of (basis_i q)(basis_i x) = basis_i (sum of q x^T) basis_i^T would need a
    // matrix; rotating the vectors of the pairs is cheaper.
    let rotation = Rotation::of(basis);
    let zeros = vec![0.0; dim];
    for pairs in pairs.near.chunks(NEAR) {
        let mut rows = vec![0.0; 2 * pairs.len() * dim];
        for (i, &(q, x)) in pairs.iter().enumerate() {
            for (side, row) in [q, x].into_iter().enumerate() {
                let out = &mut rows[(2 * i + side) * dim..][..dim];
                let centroid =
                    set.lists.map(|(centroids, of_row)| centroids.row(of_row[x as usize] as usize));
                for (j, out) in out.iter_mut().enumerate() {
                    *out = set.sample.row(row as usize)[j]
                        - set.mean[j]
                        - centroid.map_or(0.0, |c| c[j]);
                }
            }
        }
        let rotated = rotation.apply(&zeros, &rows);
        for pair in rotated.chunks_exact(2 * dim) {
            let (q, x) = pair.split_at(dim);
            for ((mean, &q), &x) in mean.iter_mut().zip(q).zip(x) {
                *mean += f64::from(q) * f64::from(x);
            }
        }
    }
    for mean in &mut mean {
        *mean /= pairs.near.len() as f64;
    }
    mean
}

/// Chooses which bits the first stage reads: two of each dimension of the leading segments (one
/// where a segment has no more). How many segments is decided by a model of a query's time.
fn first_stage(plan: &[Segment], variances: &[f64], near: &[f64]) -> Vec<u32> {
    // Nanoseconds: a group of 4 bits, a segment's factor, a survivor. (A survivor takes 130; fewer
    // survive than the model below says.)
    const GROUP: f64 = 0.02;
    const FACTOR: f64 = 0.3;
    const SURVIVOR: f64 = 80.0;
    // The error of the first two bits of a code of so many bits: a grid that is wide enough for
    // the largest coordinate is coarse when only its top bits are read.
    const TWO_BITS: [f64; 14] =
        [1.0, 0.56, 0.13, 0.135, 0.16, 0.19, 0.22, 0.26, 0.28, 0.30, 0.31, 0.32, 0.33, 0.34];

    // What searches have unless they ask for another.
    let confidence = f64::from(SearchParams::default().confidence);
    let energy = |s: &(usize, usize)| -> f64 { variances[s.0..s.1].iter().sum() };
    let mut ranges = Vec::new();
    let mut start = 0;
    for segment in plan {
        ranges.push((start, start + segment.dims));
        start += segment.dims;
    }
    let total_near: f64 = near.iter().sum::<f64>().max(0.0);
    let spread: f64 = variances.iter().map(|v| v * v).sum();
    let mut best = (f64::INFINITY, 1);
    for scanned in 1..=plan.len() {
        let (mut noise, mut groups, mut unseen) = (0.0, 0.0, 0.0);
        for (i, segment) in plan.iter().enumerate() {
            let per_dim = energy(&ranges[i]).powi(2) / segment.dims as f64;
            if i < scanned && segment.bits > 0 {
                noise += per_dim * TWO_BITS[segment.bits as usize];
                groups += (segment.dims * segment.bits.min(2) as usize) as f64 / 4.0;
            } else {
                noise += per_dim;
                unseen += near[ranges[i].0..ranges[i].1].iter().sum::<f64>();
            }
        }
        // Random candidates lie `total_near` above the near ones, with a standard deviation of
        // `spread`; a candidate survives if its estimate is not so many errors above.
        let deviation = (spread + noise).sqrt().max(1e-30);
        let gap = total_near - unseen.max(0.0) - confidence * noise.sqrt();
        let survivors = 1.0 - normal_below(gap / deviation);
        let cost = groups * GROUP + scanned as f64 * FACTOR + survivors * SURVIVOR;
        if cost < best.0 {
            best = (cost, scanned);
        }
    }
    plan.iter()
        .enumerate()
        .map(|(i, segment)| if i < best.1 { segment.bits.min(2) } else { 0 })
        .collect()
}

/// The share of a standard normal distribution below `x`, to about 5e-4 (Abramowitz and Stegun
/// 7.1.27): arithmetic only, so the same on every system.
fn normal_below(x: f64) -> f64 {
    let z = x.abs() / std::f64::consts::SQRT_2;
    let tail =
        1.0 / (1.0 + z * (0.278_393 + z * (0.230_389 + z * (0.000_972 + z * 0.078_108)))).powi(4);
    if x >= 0.0 { 1.0 - 0.5 * tail } else { 0.5 * tail }
}

/// The transform: the basis, followed by a random rotation inside each segment.
fn rotation(basis: &Matrix, dims: usize, seed: u64, plan: &[Segment]) -> Matrix {
    let dim = basis.dim();
    let mut out = Matrix::zeros(dims, dim);
    let mut start = 0;
    for (index, segment) in plan.iter().enumerate() {
        let inner = segment_rotation(segment.dims, seed, stream::ROTATION + index as u64);
        // The segment's rows of the basis as columns; rows beyond the basis are zero.
        let mut columns = vec![0.0; dim * segment.dims];
        for i in 0..segment.dims.min(dim.saturating_sub(start)) {
            for (j, &value) in basis.row(start + i).iter().enumerate() {
                columns[j * segment.dims + i] = value;
            }
        }
        let rows = &mut out.data_mut()[start * dim..(start + segment.dims) * dim];
        nonius_simd::matmul_f32(segment.dims, inner.data(), &columns, rows);
        start += segment.dims;
    }
    out
}

fn segment_rotation(dims: usize, seed: u64, stream: u64) -> Matrix {
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

impl SegmentLayout {
    /// The scale that a record stores for this segment, in the segment's unit.
    pub(crate) fn read_scale(&self, layout: &Layout, record: &[u8]) -> f32 {
        self.decode_scale(&record[layout.scale_start(self)..])
    }
}
