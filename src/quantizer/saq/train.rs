//! Training: principal components, plan, rotation, and what the codes stand for.

use rayon::prelude::*;

use nonius_simd::{BLOCK, Panels, gemm_i16};

use super::adjust::GAUSSIAN_STEP;
use super::encode::{EncodeScratch, ListCentroids, Lists, effort};
use super::layout::{Layout, SegmentLayout};
use super::plan::{PlanInput, Segment, UNCORRECTED, error, plan};
use super::rotate::CoarseRotation;
use super::{AdditiveCode, Encoder, Model, Near, Rotation, SegmentConstants, additive_base, alpha};
use crate::error::{BuildError, ConfigError};
use crate::index::Encoding;
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
struct Pairs {
    near: Vec<(u32, u32)>,
    far: Vec<(u32, u32)>,
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
    // Inner products relative to centroids cannot be corrected: `query::refine` says why.
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
    // Nanoseconds: a group of 4 bits, a segment's factor, a survivor.
    const GROUP: f64 = 0.02;
    const FACTOR: f64 = 0.3;
    const SURVIVOR: f64 = 130.0;
    // The confidence that searches have unless they ask for another.
    const CONFIDENCE: f64 = 2.0;
    // The error of the first two bits of a code of so many bits: a grid that is wide enough for
    // the largest coordinate is coarse when only its top bits are read.
    const TWO_BITS: [f64; 14] =
        [1.0, 0.56, 0.13, 0.135, 0.16, 0.19, 0.22, 0.26, 0.28, 0.30, 0.31, 0.32, 0.33, 0.34];

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
        let gap = total_near - unseen.max(0.0) - CONFIDENCE * noise.sqrt();
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

/// Sums over the vectors of the pairs, one set a segment.
#[derive(Clone, Default)]
struct Sums {
    count: f64,
    /// Of |ô - o|^2, |first stage - o|^2 and |o|^2, each over dims * scale^2, and their squares.
    full: [f64; 2],
    scan: [f64; 2],
    norm: [f64; 2],
}

/// Residual, code and scales of 32 vectors.
struct Block {
    o: Vec<[f32; BLOCK]>,
    u: Vec<[f32; BLOCK]>,
    scales: Vec<[f32; BLOCK]>,
}

/// The sample's vectors that constants are learnt from, encoded.
struct Encoded {
    /// Their rows in the sample, ascending.
    rows: Vec<u32>,
    blocks: Vec<Block>,
    centroids: Option<ListCentroids>,
}

impl Encoded {
    /// Encodes the second vectors of all pairs, or if there are no pairs the first rows.
    fn of(encoder: &Encoder, set: &TrainingSet<'_>, pairs: &Pairs, layout: &Layout) -> Encoded {
        let dim = set.sample.dim();
        let mut wanted: Vec<u32> = pairs.near.iter().chain(&pairs.far).map(|&(_, x)| x).collect();
        if wanted.is_empty() {
            wanted = (0..set.sample.rows().min(1024) as u32).collect();
        }
        wanted.sort_unstable();
        wanted.dedup();
        let centroids = set
            .lists
            .map(|(centroids, _)| ListCentroids::new(&encoder.rotation, set.mean, centroids));
        let stride = layout.record_bytes();
        let blocks = wanted
            .par_chunks(BLOCK)
            .map_init(EncodeScratch::default, |scratch, rows| {
                let mut values = Vec::with_capacity(rows.len() * dim);
                for &row in rows {
                    values.extend_from_slice(set.sample.row(row as usize));
                }
                let of_row: Vec<u32> = match set.lists {
                    Some((_, of_row)) => rows.iter().map(|&row| of_row[row as usize]).collect(),
                    None => Vec::new(),
                };
                let lists = centroids.as_ref().map(|c| Lists { of_row: &of_row, centroids: c });
                let mut records = vec![0; rows.len() * stride];
                encoder.encode_rows(layout, &values, lists.as_ref(), scratch, &mut records);
                let scales = layout
                    .segments
                    .iter()
                    .zip(&encoder.model.constants)
                    .map(|(segment, constants)| {
                        let mut scales = [0.0; BLOCK];
                        for (scale, record) in scales.iter_mut().zip(records.chunks_exact(stride)) {
                            *scale = segment.read_scale(layout, record) * constants.unit;
                        }
                        scales
                    })
                    .collect();
                let last = scratch.last_block();
                Block { o: last.o.to_vec(), u: last.u.to_vec(), scales }
            })
            .collect();
        Encoded { rows: wanted, blocks, centroids }
    }

    /// The block and the lane of every vector.
    fn lanes(&self) -> impl Iterator<Item = (&Block, usize)> {
        (0..self.rows.len()).map(|i| (&self.blocks[i / BLOCK], i % BLOCK))
    }

    /// The block and the lane of a row of the sample.
    fn find(&self, row: u32) -> Option<(&Block, usize)> {
        let i = self.rows.binary_search(&row).ok()?;
        Some((&self.blocks[i / BLOCK], i % BLOCK))
    }
}

/// Learns what codes stand for and how far they are off.
fn learn_constants(encoder: &mut Encoder, set: &TrainingSet<'_>, pairs: &Pairs, corrected: bool) {
    let layout = encoder.model.layout();
    let encoded = Encoded::of(encoder, set, pairs, &layout);
    for (s, segment) in layout.segments.iter().enumerate() {
        learn_segment(s, segment, &encoded, &mut encoder.model.constants[s]);
    }
    learn_pairs(encoder, set, pairs, &encoded, &layout, corrected);
}

/// The levels of a segment's first stage, the norm, and the errors.
fn learn_segment(
    s: usize,
    segment: &SegmentLayout,
    encoded: &Encoded,
    constants: &mut SegmentConstants,
) {
    let range = segment.start..segment.start + segment.dims;
    let count = segment.dims as f64;
    let scales = encoded.lanes().map(|(block, j)| f64::from(block.scales[s][j]));
    constants.typical = (scales.sum::<f64>() / encoded.rows.len().max(1) as f64) as f32;
    if segment.bits == 0 {
        // The stored norm is the scale.
        constants.norm = (1.0 / count).sqrt() as f32;
        constants.full_error = constants.norm;
        constants.scan_error = constants.norm;
        return;
    }
    // The first stage's levels: the mean of o where the code's top bits are equal, up to
    // sign; then stretched so that <first stage, o> = |o|^2 on average.
    let boundary = segment.boundary();
    let (mut weight, mut sum) = ([0.0f64; 2], [0.0f64; 2]);
    let mut energy = 0.0f64;
    for (block, j) in encoded.lanes() {
        let scale = f64::from(block.scales[s][j]);
        if scale > 0.0 {
            for (o, u) in block.o[range.clone()].iter().zip(&block.u[range.clone()]) {
                let outer = usize::from(u[j].abs() >= boundary);
                let o = f64::from(o[j]) / scale;
                weight[outer] += 1.0;
                sum[outer] += o * f64::from(u[j].signum());
                energy += o * o;
            }
        }
    }
    let mean = [sum[0] / weight[0].max(1.0), sum[1] / weight[1].max(1.0)];
    let projected = mean[0] * sum[0] + mean[1] * sum[1];
    let stretch = if projected > 0.0 { energy / projected } else { 1.0 };
    let levels = [(mean[0] * stretch) as f32, (mean[1] * stretch) as f32];

    let mut sums = Sums::default();
    for (block, j) in encoded.lanes() {
        let scale = f64::from(block.scales[s][j]);
        if scale > 0.0 {
            let (mut full, mut scan, mut norm) = (0.0, 0.0, 0.0);
            for (o, u) in block.o[range.clone()].iter().zip(&block.u[range.clone()]) {
                let (o, u) = (f64::from(o[j]) / scale, u[j]);
                let level = levels[usize::from(u.abs() >= boundary)].copysign(u);
                full += (f64::from(u) - o).powi(2);
                scan += (f64::from(level) - o).powi(2);
                norm += o * o;
            }
            sums.count += 1.0;
            for (sum, value) in
                [(&mut sums.full, full), (&mut sums.scan, scan), (&mut sums.norm, norm)]
            {
                let value = value / count;
                sum[0] += value;
                sum[1] += value * value;
            }
        }
    }
    // An upper value: errors of single vectors scatter around the mean, and the bound has to
    // hold for nearly all of them.
    let upper = |sum: [f64; 2]| -> f32 {
        let n = sums.count.max(1.0);
        let mean = sum[0] / n;
        let deviation = (sum[1] / n - mean * mean).max(0.0).sqrt();
        (mean + deviation).sqrt() as f32
    };
    constants.levels = levels;
    constants.full_error = upper(sums.full);
    constants.scan_error = if segment.scan_bits > 0 { upper(sums.scan) } else { upper(sums.norm) };
    constants.norm = (sums.norm[0] / sums.count.max(1.0)).sqrt() as f32;
}

/// From the pairs: what near ones share where the first stage does not look, the correction for
/// dropped dimensions, and the step of the shifts.
fn learn_pairs(
    encoder: &mut Encoder,
    set: &TrainingSet<'_>,
    pairs: &Pairs,
    encoded: &Encoded,
    layout: &Layout,
    corrected: bool,
) {
    let (dim, dims) = (set.sample.dim(), encoder.model.dims);
    let mut near_sums = [0.0f64; 3];
    let mut fit = [0.0f64; 2];
    let (mut shifts, mut shift_count) = ([0.0f64; 2], 0.0f64);
    let mut query = vec![0.0f32; dim];
    for (pairs, near) in [(&pairs.near, true), (&pairs.far, false)] {
        for pairs in pairs.chunk_by(|a, b| a.0 == b.0) {
            query.copy_from_slice(set.sample.row(pairs[0].0 as usize));
            let rotated = encoder.rotation.apply(set.mean, &query);
            for &(_, x) in pairs {
                let Some((block, j)) = encoded.find(x) else { continue };
                let centroid = match (&encoded.centroids, set.lists) {
                    (Some(c), Some((_, of_row))) => {
                        Some(&c.rotated[of_row[x as usize] as usize * dims..][..dims])
                    }
                    _ => None,
                };
                let q =
                    |d: usize| f64::from(rotated[d]) - centroid.map_or(0.0, |c| f64::from(c[d]));
                let (mut kept, mut kept_q, mut kept_x) = (0.0, 0.0, 0.0);
                let (mut tail, mut tail_q, mut tail_x) = (0.0, 0.0, 0.0);
                let (mut unseen, mut unseen_q) = (0.0, 0.0);
                let mut shift = 0.0;
                for (s, segment) in layout.segments.iter().enumerate() {
                    let (mut dot, mut qq, mut estimate) = (0.0, 0.0, 0.0);
                    let scale = f64::from(block.scales[s][j]);
                    let levels = encoder.model.constants[s].levels;
                    let boundary = segment.boundary();
                    for d in segment.start..segment.start + segment.dims {
                        let (o, u) = (f64::from(block.o[d][j]), block.u[d][j]);
                        dot += q(d) * o;
                        qq += q(d) * q(d);
                        if segment.bits > 0 {
                            estimate += q(d) * scale * f64::from(u);
                        }
                        if let Some(c) = centroid {
                            let level = levels[usize::from(u.abs() >= boundary)].copysign(u);
                            let first = if segment.scan_bits > 0 { f64::from(level) } else { 0.0 };
                            let full = if segment.bits > 0 { f64::from(u) } else { 0.0 };
                            shift += f64::from(c[d]) * scale * (first - full);
                        }
                    }
                    if segment.scan_bits == 0 {
                        unseen += dot;
                        unseen_q += qq;
                    }
                    if segment.bits == 0 {
                        tail += dot;
                        tail_q += qq;
                        tail_x += scale * scale;
                    } else {
                        kept += estimate;
                        kept_q += qq;
                        // What the search knows of the norm of the kept dimensions.
                        let norm = f64::from(encoder.model.constants[s].norm) * scale;
                        kept_x += norm * norm * segment.dims as f64;
                    }
                }
                let size = encoder.model.size(layout, |s| block.scales[s][j]);
                if near && unseen_q > 0.0 && size > 0.0 {
                    let share = unseen / (unseen_q.sqrt() * f64::from(size));
                    near_sums[0] += 1.0;
                    near_sums[1] += share;
                    near_sums[2] += share * share;
                }
                if kept_q > 0.0 && kept_x > 0.0 {
                    let cosine = (kept / (kept_q * kept_x).sqrt()).clamp(0.0, 1.0);
                    let feature = cosine * cosine * (tail_q * tail_x).sqrt();
                    fit[0] += feature * tail;
                    fit[1] += feature * feature;
                }
                let shift = f64::from(encoder.model.alpha()) * shift;
                shift_count += 1.0;
                shifts[0] += shift;
                shifts[1] += shift * shift;
            }
        }
    }
    let n = near_sums[0].max(1.0);
    let mean = near_sums[1] / n;
    encoder.model.near = Near {
        mean: mean as f32,
        deviation: (near_sums[2] / n - mean * mean).max(0.0).sqrt() as f32,
    };
    if fit[1] > 0.0 && corrected {
        encoder.model.correction = (fit[0] / fit[1]).clamp(0.0, 2.0) as f32;
    }
    // A sixteenth of a standard deviation a step: codes reach eight to either side.
    encoder.model.shift_step = ((shifts[1] / shift_count.max(1.0)).sqrt() / 16.0).max(1e-30) as f32;
}

impl SegmentLayout {
    /// The scale that a record stores for this segment, in the segment's unit.
    pub(crate) fn read_scale(&self, layout: &Layout, record: &[u8]) -> f32 {
        self.decode_scale(&record[layout.scale_start(self)..])
    }
}
