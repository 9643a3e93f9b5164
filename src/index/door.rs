//! The door: what vectors, queries, ids and weights have to pass.

use rayon::prelude::*;

use crate::error::{BuildError, ConfigError, VectorError};
use crate::matrix::{Matrix, check_finite};
use crate::metric::Metric;

/// Checks a row's norm and returns its square.
pub(crate) fn check_norm(row: &[f32], number: usize) -> Result<f32, VectorError> {
    // Sums and differences of two such vectors stay finite too.
    const MAX_NORM_SQ: f32 = f32::MAX / 16.0;
    let norm_sq = nonius_simd::dot_f32(row, row);
    if norm_sq.is_nan() || norm_sq > MAX_NORM_SQ {
        return Err(VectorError::TooLarge { row: number });
    }
    Ok(norm_sq)
}

/// Checks the squared norm of a query in the units of an index. There vectors have norms of about one
/// to some ten thousand, and estimates multiply the squares of both: the product has to stay inside
/// `f32`, or bounds are no numbers and nothing is found.
pub(crate) fn check_query(norm_sq: f32, number: usize) -> Result<(), VectorError> {
    // 2^90: a norm of 2^45.
    const MAX_NORM_SQ: f32 = f32::from_bits((127 + 90) << 23);
    if norm_sq <= MAX_NORM_SQ { Ok(()) } else { Err(VectorError::TooLarge { row: number }) }
}

/// Checks a row's norm and brings it to 1 if asked.
pub(crate) fn check_row(
    row: &mut [f32],
    number: usize,
    normalize: bool,
) -> Result<(), VectorError> {
    let norm_sq = check_norm(row, number)?;
    if normalize {
        normalize_row(row, norm_sq, number)?;
    }
    Ok(())
}

/// Brings a row to unit norm.
fn normalize_row(row: &mut [f32], norm_sq: f32, number: usize) -> Result<(), VectorError> {
    // The square of a small norm may vanish though the norm does not: work in f64 there.
    let norm = if norm_sq > 1e-30 {
        f64::from(norm_sq).sqrt()
    } else {
        row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
    };
    if norm == 0.0 {
        return Err(VectorError::ZeroVector { row: number });
    }
    for x in row {
        *x = (f64::from(*x) / norm) as f32;
    }
    Ok(())
}

/// The power of two that brings the vectors to a root mean square norm of about one; 1 where that
/// is far from the ends of `f32`, and for cosine, whose vectors have unit norm.
pub(crate) fn scale_of(sample: &Matrix, metric: Metric) -> f32 {
    if metric.normalizes() {
        return 1.0;
    }
    let norm_sq = |row: &[f32]| match nonius_simd::dot_f32(row, row) {
        // Small squares vanish.
        ..1e-30 => row.iter().map(|&x| f64::from(x) * f64::from(x)).sum(),
        norm_sq => f64::from(norm_sq),
    };
    let sum: f64 = sample.data().chunks_exact(sample.dim()).map(norm_sq).sum();
    let norm = (sum / sample.rows() as f64).sqrt();
    // The largest norms are those whose squares are accepted; the smallest are brought as far up as a power
    // of two and its inverse go. Usual norms are left alone, which saves the multiplication.
    let exponent = ((norm.to_bits() >> 52) as i32 - 1023).clamp(-126, 64);
    if norm == 0.0 || exponent.abs() <= 16 {
        1.0
    } else {
        f32::from_bits(((127 - exponent) as u32) << 23)
    }
}

/// The mean of all rows, in `f64`, in the order of the rows.
pub(crate) fn mean_of(sample: &Matrix) -> Vec<f32> {
    let mut sums = vec![0.0f64; sample.dim()];
    for row in sample.data().chunks_exact(sample.dim()) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum += f64::from(x);
        }
    }
    sums.iter().map(|sum| (sum / sample.rows() as f64) as f32).collect()
}

/// Checks the weights of rows.
pub(crate) fn check_weights(weights: &[f32], rows: usize) -> Result<(), ConfigError> {
    if weights.len() != rows {
        let message = format!("expected a weight for each of {rows} rows, found {}", weights.len());
        return Err(ConfigError::new("weights", message));
    }
    match weights.iter().position(|weight| !(*weight >= 0.0 && weight.is_finite())) {
        None => Ok(()),
        Some(row) => {
            let message =
                format!("expected numbers from 0 on, found {} in row {row}", weights[row]);
            Err(ConfigError::new("weights", message))
        }
    }
}

/// Weights of a sample, of which the mean becomes 1.
pub(crate) fn normalized_weights(mut weights: Vec<f32>) -> Result<Vec<f32>, ConfigError> {
    let mean = weights.iter().map(|&w| f64::from(w)).sum::<f64>() / weights.len().max(1) as f64;
    if mean <= 0.0 {
        let message = "expected some above 0 among the vectors trained on, found none";
        return Err(ConfigError::new("weights", message));
    }
    for weight in &mut weights {
        *weight = (f64::from(*weight) / mean) as f32;
    }
    Ok(weights)
}

/// Checks that there is one id for each row, and no two equal.
pub(crate) fn check_ids(ids: &[u64], rows: usize) -> Result<(), BuildError> {
    if ids.len() != rows {
        return Err(BuildError::IdCount { ids: ids.len(), rows });
    }
    let mut sorted = ids.to_vec();
    sorted.par_sort_unstable();
    match sorted.windows(2).find(|w| w[0] == w[1]) {
        Some(pair) => Err(BuildError::DuplicateId { id: pair[0] }),
        None => Ok(()),
    }
}

/// The metric decides whether vectors are scaled; queries go the same way.
pub(crate) fn prepare_query(metric: Metric, query: &mut [f32]) -> Result<(), VectorError> {
    let dim = query.len();
    check_finite(dim, 0, query)?;
    check_row(query, 0, metric.normalizes())
}
