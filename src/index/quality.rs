//! How good the estimates of a quantizer are, without the losses of probing.

use rayon::prelude::*;

use nonius_simd::BLOCK;

use super::build::IndexBuilder;
use super::config::{IndexConfig, Keep};
use super::door::prepare_query;
use super::format::Parts;
use super::outliers::outlier_bytes;
use super::search::key_f32;
use crate::error::{BuildError, ConfigError};
use crate::matrix::Matrix;
use crate::metric::Metric;
use crate::quantizer::CodebookUse;
use crate::quantizer::codec::{Loaded, Query, ScanScratch};
use crate::quantizer::saq::Segment;
use crate::quantizer::view::View;
use crate::random::Random;
use crate::train::RowsI16;

/// Random vectors that each query is compared with.
const RANDOM: usize = 500;

/// What one quantizer reaches on a set.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct QualityRow {
    /// The quantizer's name.
    pub quantizer: String,
    /// Bits of a dimension.
    pub bits: f64,
    /// Bytes of codes, factors and outliers of a vector: everything but the id.
    pub bytes_per_vector: f64,
    /// Mean of `|estimate - true| / true` over the true neighbours of each query.
    pub err_nn: f64,
    /// The same over 500 random vectors a query.
    pub err_random: f64,
    /// Mean of `(estimate - true) / true` over the true neighbours.
    pub bias_nn: f64,
    /// The share of the true 10 nearest among the 10 best estimates of a flat scan.
    pub recall_at_10: f64,
    /// The share of the true 10 nearest among the 100 best estimates.
    pub recall_10_at_100: f64,
    /// Vectors encoded a second and thread: rotation, adjustment and packing.
    pub encode_vectors_per_second: f64,
    /// Seconds that clustering and training took.
    pub train_seconds: f64,
    /// The plan; empty for quantizers that have none.
    pub plan: Vec<Segment>,
    /// How the codes of all vectors use each codebook; empty for quantizers that have none.
    pub codebooks: Vec<CodebookUse>,
}

/// Measures a quantizer: every query is compared with every base vector by its code.
///
/// `truth` holds the row numbers of the `truth_k` (at least 10) true nearest neighbours of each
/// query, nearest first. Vectors are taken relative to the mean, or to `config.nlist` centroids.
/// Distances are the metric's; for inner products the errors are relative to the product of the
/// two norms, since the product itself may be zero.
///
/// # Errors
/// [`BuildError`], also for a truth that does not fit.
pub fn quality(
    base: &Matrix,
    queries: &Matrix,
    truth: &[u32],
    truth_k: usize,
    config: &IndexConfig,
) -> Result<QualityRow, BuildError> {
    let misfit = |message: String| BuildError::Config(ConfigError::new("truth", message));
    if truth_k < 10 || truth.len() != truth_k * queries.rows() {
        return Err(misfit(format!(
            "expected at least 10 ids for each of {} queries, found {} in rows of {truth_k}",
            queries.rows(),
            truth.len()
        )));
    }
    if let Some(&id) = truth.iter().find(|&&id| id as usize >= base.rows()) {
        return Err(misfit(format!("id {id} among {} vectors", base.rows())));
    }
    if queries.dim() != base.dim() {
        let (expected, found) = (base.dim(), queries.dim());
        return Err(crate::error::VectorError::DimMismatch { expected, found }.into());
    }
    let config =
        IndexConfig { nlist: Some(config.nlist.unwrap_or(1)), keep: Keep::None, ..config.clone() };
    let (index, report) = IndexBuilder::new(&config).build(base)?;
    let metric = config.metric;

    let dim = base.dim();
    let rows: Vec<Result<Sums, BuildError>> = queries
        .data()
        .par_chunks(dim)
        .enumerate()
        .map_init(
            || (Buffers::default(), Vec::new(), Vec::new()),
            |(buffers, keys, order), (q, values)| {
                let mut exact_query = values.to_vec();
                prepare_query(metric, &mut exact_query)?;
                estimate_keys(index.parts(), &exact_query, buffers, keys);
                let truth = &truth[q * truth_k..(q + 1) * truth_k];
                let query_norm = nonius_simd::dot_f32(values, values).sqrt();
                let relative = |id: usize| -> Result<f64, BuildError> {
                    let mut vector = base.row(id).to_vec();
                    prepare_query(metric, &mut vector)?;
                    let exact = f64::from(key_f32(metric, &exact_query, &vector));
                    let scale = match metric {
                        Metric::InnerProduct => {
                            let norm = nonius_simd::dot_f32(&vector, &vector).sqrt();
                            f64::from(query_norm * norm)
                        }
                        _ => exact,
                    };
                    let error = f64::from(keys[id]) - exact;
                    Ok(if scale > 0.0 { error / scale } else { 0.0 })
                };
                let mut sums = Sums::default();
                for &id in truth {
                    let error = relative(id as usize)?;
                    // A query that is itself a base vector has no relative error.
                    sums.near += error.abs();
                    sums.bias += error;
                }
                let mut random = Random::new(config.seed, 0x5000 + q as u64);
                for _ in 0..RANDOM {
                    sums.far += relative(random.below(base.rows() as u64) as usize)?.abs();
                }
                order.clear();
                order.extend(0..base.rows() as u32);
                let by = |a: &u32, b: &u32| {
                    keys[*a as usize].total_cmp(&keys[*b as usize]).then(a.cmp(b))
                };
                let hundred = 100.min(order.len());
                if hundred < order.len() {
                    order.select_nth_unstable_by(hundred - 1, by);
                }
                order[..hundred].sort_unstable_by(by);
                let hits = |found: &[u32]| {
                    truth[..10].iter().filter(|id| found.contains(id)).count() as f64
                };
                sums.in_10 = hits(&order[..10.min(hundred)]);
                sums.in_100 = hits(&order[..hundred]);
                Ok(sums)
            },
        )
        .collect();
    let mut total = Sums::default();
    for row in rows {
        let row = row?;
        total.near += row.near;
        total.bias += row.bias;
        total.far += row.far;
        total.in_10 += row.in_10;
        total.in_100 += row.in_100;
    }
    let count = queries.rows() as f64;
    let outliers = (report.outliers * outlier_bytes(dim)) as f64 / base.rows() as f64;
    Ok(QualityRow {
        quantizer: config.quantizer.to_string(),
        bits: config.quantizer.bits(dim),
        bytes_per_vector: index.info().code_bytes as f64 + outliers,
        err_nn: total.near / (count * truth_k as f64),
        err_random: total.far / (count * RANDOM as f64),
        bias_nn: total.bias / (count * truth_k as f64),
        recall_at_10: total.in_10 / (10.0 * count),
        recall_10_at_100: total.in_100 / (10.0 * count),
        encode_vectors_per_second: report.vectors as f64 / report.encoder_cpu_seconds.max(1e-9),
        train_seconds: report.train_seconds,
        plan: report.plan,
        codebooks: report.codebooks,
    })
}

#[derive(Default)]
struct Sums {
    near: f64,
    bias: f64,
    far: f64,
    in_10: f64,
    in_100: f64,
}

/// Buffers for the estimates of a query, one set a thread.
#[derive(Default)]
struct Buffers {
    scaled: Vec<f32>,
    rows: RowsI16,
    product: Vec<i32>,
    rotated: Vec<f32>,
    loaded: Loaded,
    query: Query,
    view: View,
    centroid: Vec<f32>,
    scan: ScanScratch,
}

/// Estimates the key of every vector, by id (here the row number).
fn estimate_keys(parts: &Parts, exact_query: &[f32], buffers: &mut Buffers, keys: &mut Vec<f32>) {
    let Buffers { scaled, rows, product, rotated, loaded, query, view, centroid, scan } = buffers;
    let scaled = parts.frame().scaled(exact_query, scaled);
    parts.rotate(scaled, rows, product, rotated);
    parts.codec.load(rotated, loaded);
    let mean_dot = nonius_simd::dot_f32(scaled, &parts.mean);
    parts.codec.prepare(rotated, loaded, 0, query, mean_dot, 3.0);
    let inverse = parts.frame().scale.recip();
    keys.clear();
    keys.resize(parts.count, 0.0);
    let layout = &parts.layout;
    let (size, rest_bytes) = (layout.block_bytes(), layout.rest_bytes());
    for list in 0..parts.nlist {
        let [start, end] = parts.list_range(list);
        parts.codec.enter_list(query, parts.centroid(list), centroid, view);
        for position in start.vector as usize..end.vector as usize {
            let id = parts.id(position) as usize;
            if let Some(key) = parts.exact_key(scaled, position) {
                keys[id] = key * inverse * inverse;
                continue;
            }
            let v = position - start.vector as usize;
            let block = start.block as usize + v / BLOCK;
            let key = parts.codec.refine(
                query,
                view,
                &parts.scan[block * size..(block + 1) * size],
                v % BLOCK,
                &parts.rest[position * rest_bytes..(position + 1) * rest_bytes],
                scan,
            );
            keys[id] = key * inverse * inverse;
        }
    }
}
