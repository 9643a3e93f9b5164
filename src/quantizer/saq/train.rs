//! Training: principal components, plan, rotation, and what the codes stand for.

use super::adjust::GAUSSIAN_STEP;
use super::constants::learn_constants;
use super::encode::effort;
use super::layout::{Layout, SegmentLayout};
use super::plan::{PlanInput, Segment, UNCORRECTED, error, plan};
use super::rotate::CoarseRotation;
use super::{Encoder, Model, Near, SegmentConstants};
use crate::error::BuildError;
use crate::index::{Encoding, SearchParams};
use crate::matrix::Matrix;
use crate::metric::Metric;
use crate::quantizer::QuantizerSpec;
use crate::quantizer::factor::AdditiveCode;
use crate::quantizer::frame::{
    Frame, Rotation, TrainingSet, additive_code, alpha, identity, residuals, spun,
};
use crate::quantizer::pairs::{Count, Pairs, find_pairs};
use crate::train::Pca;

/// Trains a quantizer.
pub(crate) fn train(
    set: &TrainingSet<'_>,
    spec: &QuantizerSpec,
    encoding: Encoding,
    seed: u64,
) -> Result<Encoder, BuildError> {
    let dim = set.sample.dim();
    let dims = dim.next_multiple_of(8);
    let pairs = find_pairs(set, Count::MANY, seed);
    let residuals = residuals(set);

    // The basis, the variance of the residuals along it, and what near pairs share.
    let (basis, variances) = match spec {
        QuantizerSpec::OneSegment { .. } => (identity(dim), column_energy(&residuals, dims)),
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
        _ => {
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
    let additive = additive_code(set, parts.noise, &[2]);
    if additive == AdditiveCode::EXACT {
        plan = plan_within(additive.bytes);
        parts = Expected::of(&plan, &variances, alpha);
    }
    let mut encoder = Encoder {
        model: Model {
            frame: Frame {
                metric: set.metric,
                dim,
                dims,
                // The sample is in the model's units already.
                scale: 1.0,
                lists: set.lists.is_some(),
                additive,
            },
            scan_bits: first_stage(&plan, &variances, &near),
            plan: plan.clone(),
            constants: parts.constants,
            correction: 0.0,
            near: Near::default(),
            shift_step: 1.0,
            noise: parts.noise,
        },
        mean: set.mean.to_vec(),
        rotation: Rotation::of(&spun(&basis, seed, plan.iter().map(|s| s.dims))),
        rotated: dims,
        coarse: None,
        effort: effort(encoding),
        along: along_weights(&plan, &variances, &near),
    };
    learn_constants(&mut encoder, set, &pairs, corrected);
    encoder.model.frame.scale = set.scale;
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

/// The mean energy of a column, the same for every column.
fn column_energy(residuals: &Matrix, dims: usize) -> Vec<f64> {
    let energy: f64 = residuals.data().iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    vec![energy / residuals.rows() as f64 / dims as f64; dims]
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
    for pairs in pairs.near.chunk_by(|a, b| a.0 == b.0) {
        let mut rows = vec![0.0; 2 * pairs.len() * dim];
        for (i, &(q, x)) in pairs.iter().enumerate() {
            for (side, row) in [q, x].into_iter().enumerate() {
                let out = &mut rows[(2 * i + side) * dim..][..dim];
                let values = set.sample.row(row as usize).iter().zip(set.mean);
                for (out, (x, mean)) in out.iter_mut().zip(values) {
                    *out = x - mean;
                }
                if let Some((centroids, of_row)) = set.lists {
                    let centroid = centroids.row(of_row[x as usize] as usize);
                    for (out, c) in out.iter_mut().zip(centroid) {
                        *out -= c;
                    }
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
    // Nanoseconds: a group of 4 bits, a segment's factor, a survivor. (A survivor takes about 100; fewer
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

impl SegmentLayout {
    /// The scale that a record stores for this segment, in the segment's unit.
    pub(crate) fn read_scale(&self, layout: &Layout, record: &[u8]) -> f32 {
        self.decode_scale(&record[layout.scale_start(self)..])
    }
}
