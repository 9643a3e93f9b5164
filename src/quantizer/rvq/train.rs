//! Training: codebooks level by level, then all of them together.

use nonius_simd::Vectorize;
use rayon::prelude::*;

use super::codebooks::{BeamScratch, Codebooks};
use super::encode::{Effort, EncodeScratch, Encoder};
use super::{CENTROIDS, Model};
use crate::error::{BuildError, ConfigError};
use crate::index::Encoding;
use crate::matrix::{Matrix, MatrixView, subtract};
use crate::metric::Metric;
use crate::quantizer::additive::AdditiveCode;
use crate::quantizer::frame::{
    Frame, ListCentroids, Lists, Rotation, TrainingSet, additive_code, alpha, random_rotation,
    residuals, spun,
};
use crate::quantizer::pairs::find_pairs;
use crate::quantizer::{QuantizerSpec, RVQ_BYTES, Uses};
use crate::train::{Assigner, KMeans, Pca};

/// Rounds of fitting all codebooks to the codes, and finding the codes anew.
const ROUNDS: usize = 2;
/// Passes over all levels of a fit.
const FITS: usize = 4;
/// Rows that one task encodes.
const TASK: usize = 256;
/// How often k-means doubles its dimensions until it has all.
const WIDENINGS: usize = 7;
/// Iterations of k-means in as many dimensions.
const ITERATIONS: usize = 6;
/// Dimensions that are fitted at once: independent of all others.
const COLUMNS: usize = 16;

/// What the search takes pains for while codebooks are still to change.
const TRAINING: Effort = Effort { beam: 4, sweeps: 1 };

/// The effort that stands for an [`Encoding`].
fn effort(encoding: Encoding) -> Effort {
    match encoding {
        Encoding::Full => Effort { beam: 8, sweeps: 2 },
        Encoding::Fast => Effort { beam: 3, sweeps: 1 },
    }
}

/// Trains a quantizer; `progress` is told how much is done of how much, and may end it.
pub(crate) fn train(
    set: &TrainingSet<'_>,
    spec: &QuantizerSpec,
    encoding: Encoding,
    seed: u64,
    progress: &mut dyn FnMut(usize, usize) -> Result<(), BuildError>,
) -> Result<Encoder, BuildError> {
    let dim = set.sample.dim();
    let dims = dim.next_multiple_of(8);
    let budget = spec.budget(dim).unwrap_or(0);
    if budget > *RVQ_BYTES.end() {
        let message =
            format!("{spec} is {budget} bytes in {dim} dimensions; expected {}", RVQ_BYTES.end());
        return Err(ConfigError::new("quantizer", message).into());
    }
    // In principal components: k-means begins with those of most energy.
    let residuals = residuals(set);
    let basis = Pca::fit(residuals.view())?.components;
    let mut vectors = Vec::with_capacity(residuals.rows() * dims);
    for row in Rotation::of(&basis).apply(&vec![0.0; dim], residuals.data()).chunks_exact(dim) {
        vectors.extend_from_slice(row);
        vectors.resize(vectors.len() + dims - dim, 0.0);
    }
    drop(residuals);
    let levels_with = |additive_bytes: usize| budget.saturating_sub(additive_bytes);
    let most = levels_with(1);
    let steps = most + ROUNDS;
    let Begun { mut centroids, mut codes, left } =
        begin(dims, &vectors, most, seed, &mut |level| progress(level, steps))?;

    // The coarser the additive factor, the more levels.
    let rows = (vectors.len() / dims) as f64;
    let mean_sq = |values: &[f32]| {
        values.par_chunks(TASK * dims).map(energy).collect::<Vec<_>>().iter().sum::<f64>() / rows
    };
    let alpha = f64::from(alpha(set.metric));
    let (whole_sq, left_sq) = (mean_sq(&vectors), mean_sq(&left));
    drop(left);
    let noise = (alpha * (whole_sq * left_sq / dims as f64).sqrt()) as f32;
    // Its range is known when there are codes.
    let additive_bytes = additive_code(set, noise, &[1, 2]).bytes;
    let levels = levels_with(additive_bytes).max(1);
    centroids.truncate(levels * CENTROIDS * dims);
    codes = codes.chunks_exact(most).flat_map(|path| path[..levels].to_vec()).collect();

    for round in 0..ROUNDS {
        progress(most + round, steps)?;
        fit(dims, levels, &vectors, &codes, &mut centroids);
        let codebooks = Codebooks::new(dims, &centroids);
        let left = encode(&codebooks, &vectors, TRAINING, &mut codes);
        revive(dims, levels, &left, &mut codes, &mut centroids);
    }
    fit(dims, levels, &vectors, &codes, &mut centroids);

    // Rounding to integers, of vectors and of list centroids, wants even dimensions.
    let rotation = Rotation::of(&spun(&basis, seed, [dims].into_iter()));
    let spin = Rotation::of(&random_rotation(dims, seed, 0));
    let zeros = vec![0.0; dims];
    let codebooks = Codebooks::new(dims, &spin.apply(&zeros, &centroids));
    let vectors = spin.apply(&zeros, &vectors);
    let effort = effort(encoding);
    let (share, weight) = fit_estimate(set, &rotation, &codebooks, &vectors, effort, seed);
    let mut encoder = Encoder {
        model: Model {
            frame: Frame {
                metric: set.metric,
                dim,
                dims,
                // The sample is in the model's units already.
                scale: 1.0,
                lists: set.lists.is_some(),
                additive: AdditiveCode::EXACT,
            },
            levels,
            weight,
        },
        mean: set.mean.to_vec(),
        rotation,
        codebooks,
        share,
        effort,
    };
    if additive_bytes < AdditiveCode::EXACT.bytes {
        let (low, high) = found_range(&encoder, set);
        encoder.model.frame.additive = AdditiveCode::spanning(low, high, additive_bytes);
    }
    encoder.model.frame.scale = set.scale;
    Ok(encoder)
}

/// The range of the additive factors that some of the sample have, and a little more.
fn found_range(encoder: &Encoder, set: &TrainingSet<'_>) -> (f32, f32) {
    const SOME: usize = 4096;
    let dim = set.sample.dim();
    let layout = encoder.model.layout();
    let rows = set.sample.rows().min(SOME);
    let mut records = vec![0; rows * layout.record_bytes()];
    let centroids =
        set.lists.map(|(centroids, _)| ListCentroids::new(&encoder.rotation, set.mean, centroids));
    records
        .par_chunks_mut(TASK * layout.record_bytes())
        .zip(set.sample.data().par_chunks(TASK * dim))
        .enumerate()
        .for_each_init(EncodeScratch::default, |scratch, (task, (records, values))| {
            let count = records.len() / layout.record_bytes();
            let lists = match (&centroids, set.lists) {
                (Some(centroids), Some((_, of_row))) => {
                    Some(Lists { of_row: &of_row[task * TASK..task * TASK + count], centroids })
                }
                _ => None,
            };
            encoder.encode_rows(&values[..count * dim], lists.as_ref(), scratch, records);
        });
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    for record in records.chunks_exact(layout.record_bytes()) {
        let value = encoder.model.frame.additive.read(&record[layout.levels..]);
        low = low.min(value);
        high = high.max(value);
    }
    let margin = 0.1 * (high - low);
    (low - margin, high + margin)
}

fn energy(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}

/// Codebooks and the codes of the training vectors.
struct Begun {
    /// `levels * 256 x dims`.
    centroids: Vec<f32>,
    /// `rows x levels`.
    codes: Vec<u8>,
    /// What the codes leave: `rows x dims`.
    left: Vec<f32>,
}

/// Trains level after level on what the levels before leave; each time all levels so far are fitted
/// together, and their codes chosen again.
fn begin(
    dims: usize,
    vectors: &[f32],
    levels: usize,
    seed: u64,
    progress: &mut dyn FnMut(usize) -> Result<(), BuildError>,
) -> Result<Begun, BuildError> {
    let mut left = vectors.to_vec();
    let mut centroids = Vec::with_capacity(levels * CENTROIDS * dims);
    let mut codes = Vec::new();
    for level in 0..levels {
        progress(level)?;
        let found = Assigner::new(cluster(dims, &left, seed.wrapping_add(level as u64))?);
        let (nearest, _) = found.assign(MatrixView::new(dims, &left)?);
        let found = found.into_centroids();
        codes = append(&codes, level, &nearest);
        centroids.extend_from_slice(found.data());
        // Of fewer rows than centroids there are no more: the others are never the first to be
        // as good.
        for _ in found.rows()..CENTROIDS {
            centroids.extend_from_slice(found.row(found.rows() - 1));
        }
        fit(dims, level + 1, vectors, &codes, &mut centroids);
        left = improve(&Codebooks::new(dims, &centroids), vectors, &mut codes);
    }
    Ok(Begun { centroids, codes, left })
}

/// Adds a level to codes of `levels` of them.
fn append(codes: &[u8], levels: usize, last: &[u32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(codes.len() + last.len());
    for (row, &code) in last.iter().enumerate() {
        out.extend_from_slice(&codes[row * levels..(row + 1) * levels]);
        out.push(code as u8);
    }
    out
}

/// Finds the centroids of a level: k-means in more and more dimensions, those of most energy first.
///
/// In few dimensions there are enough points to find clusters; in many, k-means from random points
/// stays near where it started. (The residual quantizer of Faiss goes this way too.)
fn cluster(dims: usize, rows: &[f32], seed: u64) -> Result<Matrix, BuildError> {
    let energies = rows
        .par_chunks(TASK * dims)
        .map(|rows| {
            let mut sums = vec![0.0f64; dims];
            for row in rows.chunks_exact(dims) {
                for (sum, &x) in sums.iter_mut().zip(row) {
                    *sum += f64::from(x) * f64::from(x);
                }
            }
            sums
        })
        .collect::<Vec<_>>();
    let energy = |d: usize| energies.iter().map(|sums| sums[d]).sum::<f64>();
    let mut order: Vec<(f64, usize)> = (0..dims).map(|d| (energy(d), d)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut centroids: Option<Matrix> = None;
    for step in (0..WIDENINGS).rev() {
        let width = dims.div_ceil(1 << step);
        if centroids.as_ref().is_some_and(|c| c.dim() == width) {
            continue;
        }
        let mut values = vec![0.0; rows.len() / dims * width];
        values.par_chunks_mut(width).zip(rows.par_chunks(dims)).for_each(|(out, row)| {
            for (out, &(_, d)) in out.iter_mut().zip(&order) {
                *out = row[d];
            }
        });
        let values = MatrixView::new(width, &values)?;
        let kmeans = KMeans {
            seed,
            iterations: ITERATIONS,
            max_points_per_centroid: usize::MAX,
            ..KMeans::new(CENTROIDS.min(values.rows()))
        };
        let model = match centroids {
            None => kmeans.fit(values)?,
            Some(narrow) => {
                let mut wide = Matrix::zeros(narrow.rows(), width);
                for i in 0..narrow.rows() {
                    wide.row_mut(i)[..narrow.dim()].copy_from_slice(narrow.row(i));
                }
                kmeans.fit_from(values, wide)?
            }
        };
        centroids = Some(model.centroids);
    }
    let found = centroids.unwrap_or_else(|| Matrix::zeros(1, dims));
    let mut out = Matrix::zeros(found.rows(), dims);
    for i in 0..found.rows() {
        for (&value, &(_, d)) in found.row(i).iter().zip(&order) {
            out.row_mut(i)[d] = value;
        }
    }
    Ok(out)
}

/// Encodes vectors; returns what codes leave of them.
fn encode(codebooks: &Codebooks, vectors: &[f32], effort: Effort, codes: &mut [u8]) -> Vec<f32> {
    let (dims, levels) = (codebooks.dims(), codebooks.levels());
    let mut left = vec![0.0; vectors.len()];
    vectors
        .par_chunks(TASK * dims)
        .zip(codes.par_chunks_mut(TASK * levels))
        .zip(left.par_chunks_mut(TASK * dims))
        .for_each_init(BeamScratch::default, |scratch, ((vectors, codes), left)| {
            codebooks.encode(vectors, effort.beam, effort.sweeps, scratch, codes, left);
        });
    left
}

/// Chooses the centroids of codes anew, one after the other; returns what they leave.
fn improve(codebooks: &Codebooks, vectors: &[f32], codes: &mut [u8]) -> Vec<f32> {
    let (dims, levels) = (codebooks.dims(), codebooks.levels());
    let mut left = vectors.to_vec();
    codes.par_chunks_mut(TASK * levels).zip(left.par_chunks_mut(TASK * dims)).for_each_init(
        BeamScratch::default,
        |scratch, (codes, left)| {
            codebooks.improve(scratch, codes, left);
        },
    );
    left
}

/// How many codes (`rows x levels`) name each centroid: `levels * 256`.
fn count_uses(levels: usize, codes: &[u8]) -> Vec<u32> {
    let mut uses = Uses::new(levels);
    uses.add(codes, levels);
    uses.into_counts()
}

/// Fits all centroids to the codes: every centroid in turn takes the mean of what the other levels
/// leave of its vectors, shortened as far as such means of few vectors are chance ([`shrink`]).
///
/// Every dimension is fitted by itself, so blocks of them go in parallel.
fn fit(dims: usize, levels: usize, vectors: &[f32], codes: &[u8], centroids: &mut [f32]) {
    let counts = count_uses(levels, codes);
    let starts: Vec<usize> = (0..dims).step_by(COLUMNS).collect();
    let fitted: Vec<Vec<[f32; COLUMNS]>> = starts
        .par_iter()
        .map(|&start| {
            let width = COLUMNS.min(dims - start);
            let columns = |rows: &[f32]| -> Vec<[f32; COLUMNS]> {
                let of_row = |row: &[f32]| {
                    let mut values = [0.0; COLUMNS];
                    values[..width].copy_from_slice(&row[start..start + width]);
                    values
                };
                rows.chunks_exact(dims).map(of_row).collect()
            };
            let (mut left, mut centroids) = (columns(vectors), columns(centroids));
            let counts = &counts;
            let (left, centroids_of) = (&mut left, &mut centroids);
            nonius_simd::level().vectorize(Fit {
                levels,
                codes,
                counts,
                left,
                centroids: centroids_of,
            });
            centroids
        })
        .collect();
    for (&start, columns) in starts.iter().zip(&fitted) {
        let width = COLUMNS.min(dims - start);
        for (row, values) in centroids.chunks_exact_mut(dims).zip(columns) {
            row[start..start + width].copy_from_slice(&values[..width]);
        }
    }
}

/// Fits some columns of all centroids.
struct Fit<'a> {
    levels: usize,
    codes: &'a [u8],
    counts: &'a [u32],
    /// Columns of the vectors; what the sums leave of them afterwards.
    left: &'a mut [[f32; COLUMNS]],
    centroids: &'a mut [[f32; COLUMNS]],
}

impl Vectorize for Fit<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Fit { levels, codes, counts, left, centroids } = self;
        let (centroids, counts) =
            (centroids.as_chunks_mut::<CENTROIDS>().0, counts.as_chunks::<CENTROIDS>().0);
        for (left, path) in left.iter_mut().zip(codes.chunks_exact(levels)) {
            for (centroids, &code) in centroids.iter().zip(path) {
                for (x, c) in left.iter_mut().zip(&centroids[usize::from(code)]) {
                    *x -= c;
                }
            }
        }
        for _ in 0..FITS {
            for (level, (centroids, counts)) in centroids.iter_mut().zip(counts).enumerate() {
                let mut means = [[0.0f32; COLUMNS]; CENTROIDS];
                let mut energy = [0.0f64; COLUMNS];
                let of_level = || codes.iter().skip(level).step_by(levels);
                for (left, &code) in left.iter().zip(of_level()) {
                    let mean = &mut means[usize::from(code)];
                    for k in 0..COLUMNS {
                        mean[k] += left[k];
                        energy[k] += f64::from(left[k] * left[k]);
                    }
                }
                for ((mean, &count), c) in means.iter_mut().zip(counts).zip(&*centroids) {
                    let share = 1.0 / count.max(1) as f32;
                    for (mean, c) in mean.iter_mut().zip(c) {
                        *mean = *mean * share + c;
                    }
                }
                let variance = energy.map(|sum| sum / left.len() as f64);
                shrink(&mut means, counts, &variance);
                // From here on by how much each centroid moves.
                for (mean, c) in means.iter_mut().zip(centroids) {
                    for (mean, c) in mean.iter_mut().zip(c) {
                        (*mean, *c) = (*mean - *c, *mean);
                    }
                }
                for (left, &code) in left.iter_mut().zip(of_level()) {
                    for (x, step) in left.iter_mut().zip(&means[usize::from(code)]) {
                        *x -= step;
                    }
                }
            }
        }
    }
}

/// Brings means of `counts` values, which have a `variance` about them, nearer to zero: a mean's own
/// variance is that of its values over their number, and what the means are spread by beyond that
/// is theirs (the estimator of James and Stein, for each column). Without this, codebooks of many
/// dimensions know their sample by heart and fit other vectors badly: on embeddings of 384 dimensions
/// codes of vectors that were not in the sample leave 5% more.
#[inline(always)]
fn shrink(
    means: &mut [[f32; COLUMNS]; CENTROIDS],
    counts: &[u32; CENTROIDS],
    variance: &[f64; COLUMNS],
) {
    let (mut spread, mut inverse, mut used) = ([0.0f64; COLUMNS], 0.0, 0.0);
    for (mean, &count) in means.iter().zip(counts) {
        if count > 0 {
            used += 1.0;
            inverse += 1.0 / f64::from(count);
            for (sum, &mean) in spread.iter_mut().zip(mean) {
                *sum += f64::from(mean * mean);
            }
        }
    }
    for (mean, &count) in means.iter_mut().zip(counts) {
        let share = 1.0 / f64::from(count.max(1));
        for k in 0..COLUMNS {
            let own = spread[k] - variance[k] * inverse;
            let own = if own > 0.0 { own / used } else { 0.0 };
            let all = own + variance[k] * share;
            mean[k] = if all > 0.0 { mean[k] * (own / all) as f32 } else { mean[k] };
        }
    }
}

/// Gives every centroid that no code names to the vector of which the codes leave most, which takes
/// it instead of its own of that level.
fn revive(dims: usize, levels: usize, left: &[f32], codes: &mut [u8], centroids: &mut [f32]) {
    let mut used = count_uses(levels, codes);
    let unused: Vec<usize> = (0..used.len()).filter(|&number| used[number] == 0).collect();
    if unused.is_empty() {
        return;
    }
    let mut by_error: Vec<(f32, usize)> = left
        .chunks_exact(dims)
        .map(|left| nonius_simd::dot_f32(left, left))
        .enumerate()
        .map(|(row, left_sq)| (left_sq, row))
        .collect();
    by_error.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut rows = by_error.into_iter().filter(|&(left_sq, _)| left_sq > 0.0);
    for number in unused {
        // A vector whose centroid nobody else has would only leave another one unused.
        let (level, code) = (number / CENTROIDS, number % CENTROIDS);
        let found = rows.find(|&(_, row)| {
            used[level * CENTROIDS + usize::from(codes[row * levels + level])] > 1
        });
        let Some((_, row)) = found else { return };
        let before = level * CENTROIDS + usize::from(codes[row * levels + level]);
        for d in 0..dims {
            centroids[number * dims + d] = centroids[before * dims + d] + left[row * dims + d];
        }
        used[before] -= 1;
        used[number] += 1;
        codes[row * levels + level] = code as u8;
    }
}

/// Fits share and weight (see [the module](super)) to near and far pairs, by the least squares of
/// relative errors.
fn fit_estimate(
    set: &TrainingSet<'_>,
    rotation: &Rotation,
    codebooks: &Codebooks,
    vectors: &[f32],
    effort: Effort,
    seed: u64,
) -> (f32, f32) {
    let dims = codebooks.dims();
    let pairs = find_pairs(set, seed);
    let mut rows: Vec<u32> = pairs.near.iter().chain(&pairs.far).map(|&(_, x)| x).collect();
    rows.sort_unstable();
    rows.dedup();
    let of_row = |row: u32| &vectors[row as usize * dims..][..dims];
    let chosen: Vec<f32> = rows.iter().flat_map(|&row| of_row(row).iter().copied()).collect();
    let mut codes = vec![0; rows.len() * codebooks.levels()];
    let left = encode(codebooks, &chosen, effort, &mut codes);
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
                let dot = |a: &[f32], b: &[f32]| f64::from(nonius_simd::dot_f32(a, b));
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
    solve(matrix, right)
}

/// Solves for share and weight, which stay within reason.
fn solve(matrix: [[f64; 2]; 2], right: [f64; 2]) -> (f32, f32) {
    let [[a, b], [_, d]] = matrix;
    let determinant = a * d - b * b;
    let (share, weight) = if determinant > 1e-9 * a * d {
        ((right[0] * d - right[1] * b) / determinant, (right[1] * a - right[0] * b) / determinant)
    } else if d > 0.0 {
        (0.0, right[1] / d)
    } else {
        (0.5, 1.0)
    };
    (share.clamp(0.0, 1.5) as f32, weight.clamp(0.5, 2.0) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Sums of one of `CENTROIDS` vectors for each of two levels, and noise.
    fn sums(rows: usize, dims: usize, noise: f32) -> Vec<f32> {
        let mut random = Random::new(3, 0);
        let mut normal = |scale: f32| random.normal() as f32 * scale;
        let parts: Vec<f32> = (0..2 * CENTROIDS * dims).map(|_| normal(1.0)).collect();
        let mut pick = Random::new(4, 0);
        let mut out = Vec::with_capacity(rows * dims);
        for _ in 0..rows {
            let [a, b] = [0, 1].map(|level| level * CENTROIDS + pick.below(20) as usize);
            out.extend(
                (0..dims).map(|d| parts[a * dims + d] + parts[b * dims + d] + normal(noise)),
            );
        }
        out
    }

    fn set(sample: MatrixView<'_>, metric: Metric) -> TrainingSet<'_> {
        const NO_MEAN: [f32; 64] = [0.0; 64];
        TrainingSet { sample, mean: &NO_MEAN[..sample.dim()], lists: None, metric, scale: 1.0 }
    }

    fn train_on(dim: usize, values: &[f32], name: &str) -> Result<Encoder, BuildError> {
        let sample = MatrixView::new(dim, values).unwrap();
        let spec: QuantizerSpec = name.parse().unwrap();
        train(&set(sample, Metric::L2), &spec, Encoding::Full, 1, &mut |_, _| Ok(()))
    }

    #[test]
    fn a_fit_leaves_less() {
        let (rows, dims) = (3000, 20);
        let vectors = sums(rows, dims, 0.3);
        let Begun { mut centroids, mut codes, left } =
            begin(dims, &vectors, 2, 5, &mut |_| Ok(())).unwrap();
        let before = energy(&left);
        assert!(before < 0.05 * energy(&vectors), "{before} of {}", energy(&vectors));
        fit(dims, 2, &vectors, &codes, &mut centroids);
        let after = energy(&improve(&Codebooks::new(dims, &centroids), &vectors, &mut codes));
        assert!(after <= before * 1.001, "{after} after {before}");
    }

    #[test]
    fn shrinking_is_towards_what_is_true() {
        let mut random = Random::new(6, 0);
        let truth: Vec<[f32; COLUMNS]> =
            (0..CENTROIDS).map(|_| std::array::from_fn(|_| random.normal() as f32)).collect();
        let counts: [u32; CENTROIDS] = std::array::from_fn(|i| 1 + i as u32 % 4);
        let mut means = [[0.0; COLUMNS]; CENTROIDS];
        for ((mean, truth), &count) in means.iter_mut().zip(&truth).zip(&counts) {
            *mean = truth.map(|x| x + (random.normal() / f64::from(count).sqrt()) as f32);
        }
        let error = |means: &[[f32; COLUMNS]; CENTROIDS]| -> f32 {
            let pairs = means.as_flattened().iter().zip(truth.as_flattened());
            pairs.map(|(a, b)| (a - b) * (a - b)).sum()
        };
        let before = error(&means);
        shrink(&mut means, &counts, &[1.0; COLUMNS]);
        assert!(error(&means) < 0.8 * before, "{} after {before}", error(&means));
        // Where nothing but chance made the means there is nothing left of them.
        for mean in &mut means {
            *mean = std::array::from_fn(|_| random.normal() as f32 * 0.1);
        }
        shrink(&mut means, &[1; CENTROIDS], &[1.0; COLUMNS]);
        assert_eq!(means, [[0.0; COLUMNS]; CENTROIDS]);
    }

    #[test]
    fn every_centroid_is_revived() {
        let (dims, levels, rows) = (8, 2, 700);
        let vectors = sums(rows, dims, 0.5);
        let mut codes = vec![7u8; rows * levels];
        let mut centroids = vec![0.0; levels * CENTROIDS * dims];
        revive(dims, levels, &vectors, &mut codes, &mut centroids);
        for level in 0..levels {
            let used: std::collections::BTreeSet<u8> =
                codes.chunks_exact(levels).map(|path| path[level]).collect();
            assert_eq!(used.len(), CENTROIDS);
        }
        // A vector that was taken has its centroid to itself: nothing is left of it.
        let row = codes.chunks_exact(levels).position(|path| path[0] != 7).unwrap();
        let number = usize::from(codes[row * levels]);
        assert_eq!(centroids[number * dims..][..dims], vectors[row * dims..][..dims]);
    }

    #[test]
    fn few_equal_and_zero_vectors_are_trained_on() {
        for (dim, values) in [
            (3, vec![1.0; 3]),
            (5, vec![0.0; 5 * 40]),
            (8, vec![2.5; 8 * 300]),
            (1, (0..500).map(|i| i as f32).collect()),
        ] {
            let encoder = train_on(dim, &values, "rvq:6B").unwrap();
            let levels = encoder.model.levels;
            assert!((2..=5).contains(&levels), "{levels}");
            assert!(encoder.model.weight.is_finite() && encoder.share.is_finite());
        }
    }

    #[test]
    fn too_many_bytes_are_refused_and_cancelling_ends_it() {
        let values = sums(300, 64, 0.1);
        let mut wide = Vec::new();
        for row in values.chunks_exact(64) {
            (0..16).for_each(|_| wide.extend_from_slice(row));
        }
        let sample = MatrixView::new(1024, &wide).unwrap();
        let mean = vec![0.0; 1024];
        let lists = None;
        let set = TrainingSet { sample, mean: &mean, lists, metric: Metric::L2, scale: 1.0 };
        let spec: QuantizerSpec = "rvq:4".parse().unwrap();
        let error = train(&set, &spec, Encoding::Full, 1, &mut |_, _| Ok(())).unwrap_err();
        assert!(error.to_string().contains("256"), "{error}");
        let spec = QuantizerSpec::rvq_bytes(8);
        let mut calls = 0;
        let mut progress = |done, total| {
            calls += 1;
            assert!(done < total);
            if done == 3 { Err(BuildError::Cancelled) } else { Ok(()) }
        };
        let error = train(&set, &spec, Encoding::Full, 1, &mut progress).unwrap_err();
        assert!(matches!(error, BuildError::Cancelled) && calls == 4, "{error} after {calls}");
    }
}
