//! Training the codebooks of a part: level by level, then all of them together.

use nonius_simd::Vectorize;
use rayon::prelude::*;

use super::CENTROIDS;
use super::levels::{BeamScratch, Levels};
use super::parts::Part;
use crate::error::BuildError;
use crate::matrix::{Matrix, MatrixView};
use crate::metric::Metric;
use crate::train::{Assigner, First, KMeans};

/// Rounds of fitting all codebooks to the codes, and finding the codes anew.
pub(super) const ROUNDS: usize = 2;
/// Passes over all levels of a fit.
const FITS: usize = 4;
/// Rows that one task encodes.
const TASK: usize = 256;
/// How often k-means doubles its dimensions until it has all.
const WIDENINGS: usize = 7;
/// Iterations of k-means in as many dimensions.
const ITERATIONS: usize = 6;

/// How one level alone is trained: the most rows, and the iterations of k-means on some of them and on all.
struct Single {
    rows: usize,
    /// Rows for each of those that the first iterations look at.
    share: usize,
    iterations: (usize, usize),
}

/// The rows that one level of `most` centroids is trained on at most.
pub(super) fn rows_of_single(most: usize) -> usize {
    Single::of(most).rows
}

impl Single {
    /// With 16 centroids or fewer, an eighth of the rows and two thirds of the iterations: estimates are as good.
    fn of(most: usize) -> Single {
        match most {
            ..=16 => Single { rows: 32 * CENTROIDS, share: 2, iterations: (10, 8) },
            _ => Single { rows: 256 * CENTROIDS, share: 4, iterations: (10, 15) },
        }
    }
}

/// From so many dimensions on, the centroids of one level alone begin as vectors drawn evenly. Drawn apart
/// from each other they end with as little error, but more of it lies where vectors are dense and neighbours
/// are near; in fewer dimensions they end with less.
const WIDE: usize = 8;

/// How the centroids of one level alone begin. Inner products ask for long vectors, and those are where vectors are
/// sparse.
fn first(dims: usize, metric: Metric) -> First {
    match metric {
        Metric::L2 | Metric::Cosine if dims >= WIDE => First::Evenly,
        _ => First::Apart,
    }
}

/// The first iterations of one level alone have at least so many points for each centroid, if there are.
const FEWEST_POINTS: usize = 16;
/// Dimensions that are fitted at once: independent of all others.
const COLUMNS: usize = 16;

/// How often unused centroids are looked for after the last fit, where one has fewer vectors than this.
const REVIVALS: usize = 8;
const FEW_USES: u32 = 4;

/// Sums that the search keeps after every level while codebooks are still to change.
const TRAINING_BEAM: usize = 5;

/// Codebooks and the codes of the training vectors.
pub(super) struct Begun {
    levels: usize,
    /// `levels * centroids x dims`.
    centroids: Vec<f32>,
    /// `rows x levels`; empty where there is one level from the start.
    codes: Vec<u16>,
    /// The energy that the codes leave of all vectors.
    pub(super) left_sq: f64,
}

/// The sum of all squares, in the order of the rows.
pub(super) fn energy(dims: usize, rows: &[f32]) -> f64 {
    let of_rows = |rows: &[f32]| rows.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
    rows.par_chunks(TASK * dims).map(of_rows).collect::<Vec<_>>().iter().sum()
}

/// Trains level after level on what the levels before leave; each time all levels so far are fitted
/// together, and their codes chosen again.
pub(super) fn begin(
    &Part { dims, levels, centroids: most, .. }: &Part,
    vectors: &[f32],
    weights: Option<&[f32]>,
    metric: Metric,
    seed: u64,
    progress: &mut dyn FnMut(usize) -> Result<(), BuildError>,
) -> Result<Begun, BuildError> {
    if levels == 1 {
        progress(0)?;
        return single(dims, most, vectors, weights, metric, seed);
    }
    let mut left = vectors.to_vec();
    let mut centroids = Vec::with_capacity(levels * most * dims);
    let mut codes = Vec::new();
    for level in 0..levels {
        progress(level)?;
        let found =
            Assigner::new(cluster(dims, most, &left, weights, seed.wrapping_add(level as u64))?);
        let (nearest, _) = found.assign(MatrixView::new(dims, &left)?);
        let found = found.into_centroids();
        codes = append(&codes, level, &nearest);
        extend(&mut centroids, &found, most);
        fit(dims, level + 1, vectors, weights, &codes, &mut centroids);
        left = improve(&Levels::new(dims, most, &centroids), vectors, &mut codes);
    }
    Ok(Begun { levels, centroids, codes, left_sq: energy(dims, &left) })
}

/// Trains one level of `most` centroids alone: k-means and nothing else, first on some of the rows and then on all. That
/// leaves 0.1% more than 25 iterations on all of them, in three quarters of the time. (Against it, k-means in more and more
/// dimensions and shorter centroids lose 3% of the recall of PQ on SIFT descriptors.)
fn single(
    dims: usize,
    most: usize,
    vectors: &[f32],
    weights: Option<&[f32]>,
    metric: Metric,
    seed: u64,
) -> Result<Begun, BuildError> {
    let rows = MatrixView::new(dims, vectors)?;
    let single = Single::of(most);
    let step = rows.rows().div_ceil(single.rows).max(1);
    let some: Vec<f32>;
    let many = match step {
        1 => rows,
        _ => {
            some = vectors.chunks_exact(dims).step_by(step).flatten().copied().collect();
            MatrixView::new(dims, &some)?
        }
    };
    let weights: Option<Vec<f32>> =
        weights.map(|weights| weights.iter().step_by(step).copied().collect());
    let weights = weights.as_deref();
    let kmeans = KMeans {
        seed,
        iterations: single.iterations.0,
        max_points_per_centroid: (single.rows / most / single.share).max(FEWEST_POINTS),
        tolerance: 2e-5,
        ..KMeans::new(most.min(rows.rows()))
    };
    let begun = kmeans.fit_weighted(many, weights, first(dims, metric))?;
    let kmeans = KMeans { iterations: single.iterations.1, ..kmeans };
    let model = kmeans.fit_from(many, weights, begun.centroids)?;
    let mut centroids = Vec::with_capacity(most * dims);
    extend(&mut centroids, &model.centroids, most);
    let of_many = model.inertia.last().copied().unwrap_or(0.0);
    let left_sq = of_many * rows.rows() as f64 / many.rows() as f64;
    // There is nothing to be fitted to codes.
    Ok(Begun { levels: 1, centroids, codes: Vec::new(), left_sq })
}

/// Adds what k-means found. Of fewer rows than centroids there are no more: the others are never the
/// first to be as good.
fn extend(centroids: &mut Vec<f32>, found: &Matrix, most: usize) {
    centroids.extend_from_slice(found.data());
    for _ in found.rows()..most {
        centroids.extend_from_slice(found.row(found.rows() - 1));
    }
}

impl Begun {
    /// Keeps no more than the first levels.
    pub(super) fn truncate(&mut self, part: &Part, levels: usize) {
        let before = self.levels;
        self.centroids.truncate(levels * part.centroids * part.dims);
        self.codes =
            self.codes.chunks_exact(before).flat_map(|path| path[..levels].to_vec()).collect();
        self.levels = levels;
    }

    /// Fits all levels to the codes of the vectors (`rows x dims`) once more, and chooses these anew,
    /// [`ROUNDS`] times, if there is more than one; returns the centroids, and whether some have so few vectors
    /// that the encoder may use none of them ([`use_all`]).
    pub(super) fn finish(
        self,
        &Part { dims, centroids: most, .. }: &Part,
        vectors: &[f32],
        weights: Option<&[f32]>,
        progress: &mut dyn FnMut(usize) -> Result<(), BuildError>,
    ) -> Result<(Vec<f32>, bool), BuildError> {
        let Begun { levels, mut centroids, mut codes, .. } = self;
        if levels == 1 {
            return Ok((centroids, false));
        }
        for round in 0..ROUNDS {
            progress(round)?;
            fit(dims, levels, vectors, weights, &codes, &mut centroids);
            let found = Levels::new(dims, most, &centroids).with_tables();
            let left = encode(&found, vectors, TRAINING_BEAM, &mut codes);
            revive(dims, levels, &left, &mut codes, &mut centroids);
        }
        fit(dims, levels, vectors, weights, &codes, &mut centroids);
        let rare = count_uses(levels, most, &codes).iter().any(|&uses| uses < FEW_USES);
        Ok((centroids, rare))
    }
}

/// Sees to it that the encoder uses all centroids, if it can: a fit shortens one of a single vector so much that it
/// may be of no use again. Where centroids have few vectors (most of a sample are copies, say), the encoder itself, with
/// its `beam`, shows which are left, and no fit follows.
pub(super) fn use_all(
    &Part { dims, levels, centroids: most, .. }: &Part,
    vectors: &[f32],
    beam: usize,
    centroids: &mut [f32],
) {
    let mut codes = vec![0; vectors.len() / dims * levels];
    for _ in 0..REVIVALS {
        let found = Levels::new(dims, most, centroids).with_tables();
        let left = encode(&found, vectors, beam, &mut codes);
        if revive(dims, levels, &left, &mut codes, centroids) == 0 {
            break;
        }
    }
}

/// Adds a level to codes of `levels` of them.
fn append(codes: &[u16], levels: usize, last: &[u32]) -> Vec<u16> {
    let mut out = Vec::with_capacity(codes.len() + last.len());
    for (row, &code) in last.iter().enumerate() {
        out.extend_from_slice(&codes[row * levels..(row + 1) * levels]);
        out.push(code as u16);
    }
    out
}

/// Finds the centroids of a level: k-means in more and more dimensions, those of most energy first.
///
/// In few dimensions there are enough points to find clusters; in many, k-means from random points
/// stays near where it started. (The residual quantizer of Faiss goes this way too.)
fn cluster(
    dims: usize,
    most: usize,
    rows: &[f32],
    weights: Option<&[f32]>,
    seed: u64,
) -> Result<Matrix, BuildError> {
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
            ..KMeans::new(most.min(values.rows()))
        };
        let model = match centroids {
            None => kmeans.fit_weighted(values, weights, First::Apart)?,
            Some(narrow) => {
                let mut wide = Matrix::zeros(narrow.rows(), width);
                for i in 0..narrow.rows() {
                    wide.row_mut(i)[..narrow.dim()].copy_from_slice(narrow.row(i));
                }
                kmeans.fit_from(values, weights, wide)?
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
fn encode(found: &Levels, vectors: &[f32], beam: usize, codes: &mut [u16]) -> Vec<f32> {
    let (dims, levels) = (found.dims(), found.levels());
    let mut left = vec![0.0; vectors.len()];
    vectors
        .par_chunks(TASK * dims)
        .zip(codes.par_chunks_mut(TASK * levels))
        .zip(left.par_chunks_mut(TASK * dims))
        .for_each_init(BeamScratch::default, |scratch, ((vectors, codes), left)| {
            found.encode(vectors, beam, scratch, codes, left);
        });
    left
}

/// Chooses the centroids of codes anew, one after the other; returns what they leave.
fn improve(found: &Levels, vectors: &[f32], codes: &mut [u16]) -> Vec<f32> {
    let (dims, levels) = (found.dims(), found.levels());
    let mut left = vectors.to_vec();
    codes.par_chunks_mut(TASK * levels).zip(left.par_chunks_mut(TASK * dims)).for_each_init(
        BeamScratch::default,
        |scratch, (codes, left)| {
            found.improve(scratch, codes, left);
        },
    );
    left
}

/// How many codes (`rows x levels`) name each centroid: `levels * most`.
fn count_uses(levels: usize, most: usize, codes: &[u16]) -> Vec<u32> {
    let mut uses = vec![0; levels * most];
    for path in codes.chunks_exact(levels) {
        for (counts, &code) in uses.chunks_exact_mut(most).zip(path) {
            counts[usize::from(code)] += 1;
        }
    }
    uses
}

/// Fits all centroids to the codes: every centroid in turn takes the mean of what the other levels
/// leave of its vectors, shortened as far as such means of few vectors are chance ([`shrink`]).
///
/// Every dimension is fitted by itself, so blocks of them go in parallel.
fn fit(
    dims: usize,
    levels: usize,
    vectors: &[f32],
    weights: Option<&[f32]>,
    codes: &[u16],
    centroids: &mut [f32],
) {
    let most = centroids.len() / dims / levels;
    let counts = Counts::of(levels, most, weights, codes);
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
                weights,
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

/// What the vectors of each centroid weigh.
struct Counts {
    /// The sum of their weights.
    sums: Vec<f32>,
    /// How many vectors of equal weights would say as much: the square of that over the sum of squares.
    sizes: Vec<f32>,
}

impl Counts {
    fn of(levels: usize, most: usize, weights: Option<&[f32]>, codes: &[u16]) -> Counts {
        let Some(weights) = weights else {
            let counts: Vec<f32> =
                count_uses(levels, most, codes).into_iter().map(|count| count as f32).collect();
            return Counts { sums: counts.clone(), sizes: counts };
        };
        let mut sums = vec![[0.0f64; 2]; levels * most];
        for (path, &weight) in codes.chunks_exact(levels).zip(weights) {
            let weight = f64::from(weight);
            for (sums, &code) in sums.chunks_exact_mut(most).zip(path) {
                let [sum, squares] = &mut sums[usize::from(code)];
                *sum += weight;
                *squares += weight * weight;
            }
        }
        let size = |[sum, squares]: [f64; 2]| if squares > 0.0 { sum * sum / squares } else { 0.0 };
        Counts {
            sums: sums.iter().map(|sums| sums[0] as f32).collect(),
            sizes: sums.iter().map(|&sums| size(sums) as f32).collect(),
        }
    }
}

/// Fits some columns of all centroids.
struct Fit<'a> {
    levels: usize,
    codes: &'a [u16],
    weights: Option<&'a [f32]>,
    counts: &'a Counts,
    /// Columns of the vectors; what the sums leave of them afterwards.
    left: &'a mut [[f32; COLUMNS]],
    centroids: &'a mut [[f32; COLUMNS]],
}

impl Vectorize for Fit<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Fit { levels, codes, weights, counts, left, centroids } = self;
        let most = counts.sums.len() / levels;
        let mut means = vec![[0.0f32; COLUMNS]; most];
        for (left, path) in left.iter_mut().zip(codes.chunks_exact(levels)) {
            for (centroids, &code) in centroids.chunks_exact(most).zip(path) {
                for (x, c) in left.iter_mut().zip(&centroids[usize::from(code)]) {
                    *x -= c;
                }
            }
        }
        for _ in 0..FITS {
            let counts = counts.sums.chunks_exact(most).zip(counts.sizes.chunks_exact(most));
            let of_levels = centroids.chunks_exact_mut(most).zip(counts);
            for (level, (centroids, (sums, sizes))) in of_levels.enumerate() {
                means.fill([0.0; COLUMNS]);
                let mut energy = [0.0f64; COLUMNS];
                let of_level = || codes.iter().skip(level).step_by(levels);
                for (i, (left, &code)) in left.iter().zip(of_level()).enumerate() {
                    let weight = weights.map_or(1.0, |weights| weights[i]);
                    let mean = &mut means[usize::from(code)];
                    for k in 0..COLUMNS {
                        mean[k] += weight * left[k];
                        energy[k] += f64::from(left[k] * left[k]);
                    }
                }
                for ((mean, &sum), c) in means.iter_mut().zip(sums).zip(&*centroids) {
                    let share = if sum > 0.0 { 1.0 / sum } else { 0.0 };
                    for (mean, c) in mean.iter_mut().zip(c) {
                        *mean = *mean * share + c;
                    }
                }
                let variance = energy.map(|sum| sum / left.len() as f64);
                shrink(&mut means, sizes, &variance);
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

/// Brings means of so many values (`counts`), which have a `variance` about them, nearer to zero: a mean's own
/// variance is that of its values over their number, and what the means are spread by beyond that
/// is theirs (the estimator of James and Stein, for each column). Without this, codebooks of many
/// dimensions know their sample by heart and fit other vectors badly: on embeddings of 384 dimensions
/// codes of vectors that were not in the sample leave 5% more.
#[inline(always)]
fn shrink(means: &mut [[f32; COLUMNS]], counts: &[f32], variance: &[f64; COLUMNS]) {
    let (mut spread, mut inverse, mut used) = ([0.0f64; COLUMNS], 0.0, 0.0);
    for (mean, &count) in means.iter().zip(counts) {
        if count > 0.0 {
            used += 1.0;
            inverse += 1.0 / f64::from(count);
            for (sum, &mean) in spread.iter_mut().zip(mean) {
                *sum += f64::from(mean * mean);
            }
        }
    }
    for (mean, &count) in means.iter_mut().zip(counts) {
        let share = if count > 0.0 { 1.0 / f64::from(count) } else { 1.0 };
        for k in 0..COLUMNS {
            let own = spread[k] - variance[k] * inverse;
            let own = if own > 0.0 { own / used } else { 0.0 };
            let all = own + variance[k] * share;
            mean[k] = if all > 0.0 { mean[k] * (own / all) as f32 } else { mean[k] };
        }
    }
}

/// Gives every centroid that no code names to the vector of which the codes leave most, which takes
/// it instead of its own of that level. Returns how many were given away.
fn revive(
    dims: usize,
    levels: usize,
    left: &[f32],
    codes: &mut [u16],
    centroids: &mut [f32],
) -> usize {
    let most = centroids.len() / dims / levels;
    let mut used = count_uses(levels, most, codes);
    let unused: Vec<usize> = (0..used.len()).filter(|&number| used[number] == 0).collect();
    if unused.is_empty() {
        return 0;
    }
    let mut by_error: Vec<(f32, usize)> = left
        .chunks_exact(dims)
        .map(|left| nonius_simd::dot_f32(left, left))
        .enumerate()
        .map(|(row, left_sq)| (left_sq, row))
        .collect();
    by_error.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut rows = by_error.into_iter().filter(|&(left_sq, _)| left_sq > 0.0);
    let mut revived = 0;
    for number in unused {
        // A vector whose centroid nobody else has would only leave another one unused.
        let (level, code) = (number / most, number % most);
        let found = rows
            .find(|&(_, row)| used[level * most + usize::from(codes[row * levels + level])] > 1);
        let Some((_, row)) = found else { break };
        let before = level * most + usize::from(codes[row * levels + level]);
        for d in 0..dims {
            centroids[number * dims + d] = centroids[before * dims + d] + left[row * dims + d];
        }
        used[before] -= 1;
        used[number] += 1;
        codes[row * levels + level] = code as u16;
        revived += 1;
    }
    revived
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::random::Random;

    /// Sums of one of `CENTROIDS` vectors for each of two levels, and noise.
    pub(in super::super) fn sums(rows: usize, dims: usize, noise: f32) -> Vec<f32> {
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

    #[test]
    fn a_fit_leaves_less() {
        let (rows, dims) = (3000, 20);
        let vectors = sums(rows, dims, 0.3);
        let part = Part { start: 0, dims, column: 0, levels: 2, centroids: CENTROIDS };
        let Begun { mut centroids, mut codes, left_sq: before, .. } =
            begin(&part, &vectors, None, Metric::L2, 5, &mut |_| Ok(())).unwrap();
        assert!(before < 0.05 * energy(dims, &vectors), "{before} of {}", energy(dims, &vectors));
        fit(dims, 2, &vectors, None, &codes, &mut centroids);
        let after =
            energy(dims, &improve(&Levels::new(dims, CENTROIDS, &centroids), &vectors, &mut codes));
        assert!(after <= before * 1.001, "{after} after {before}");
    }

    #[test]
    fn shrinking_is_towards_what_is_true() {
        let mut random = Random::new(6, 0);
        let truth: Vec<[f32; COLUMNS]> =
            (0..CENTROIDS).map(|_| std::array::from_fn(|_| random.normal() as f32)).collect();
        let counts: [f32; CENTROIDS] = std::array::from_fn(|i| (1 + i % 4) as f32);
        let mut means = [[0.0; COLUMNS]; CENTROIDS];
        for ((mean, truth), &count) in means.iter_mut().zip(&truth).zip(&counts) {
            *mean = truth.map(|x| x + (random.normal() / f64::from(count).sqrt()) as f32);
        }
        let error = |means: &[[f32; COLUMNS]]| -> f32 {
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
        shrink(&mut means, &[1.0; CENTROIDS], &[1.0; COLUMNS]);
        assert_eq!(means, [[0.0; COLUMNS]; CENTROIDS]);
    }

    #[test]
    fn every_centroid_is_revived() {
        let (dims, levels, rows) = (8, 2, 700);
        let vectors = sums(rows, dims, 0.5);
        let mut codes = vec![7u16; rows * levels];
        let mut centroids = vec![0.0; levels * CENTROIDS * dims];
        revive(dims, levels, &vectors, &mut codes, &mut centroids);
        for level in 0..levels {
            let used: std::collections::BTreeSet<u16> =
                codes.chunks_exact(levels).map(|path| path[level]).collect();
            assert_eq!(used.len(), CENTROIDS);
        }
        // A vector that was taken has its centroid to itself: nothing is left of it.
        let row = codes.chunks_exact(levels).position(|path| path[0] != 7).unwrap();
        let number = usize::from(codes[row * levels]);
        assert_eq!(centroids[number * dims..][..dims], vectors[row * dims..][..dims]);
    }
}
