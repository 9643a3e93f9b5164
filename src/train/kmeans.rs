//! k-means by Lloyd's iterations.

use std::borrow::Cow;
use std::ops::ControlFlow;

use nonius_simd::{Vectorize, dot_f32, level};
use rayon::prelude::*;

use super::assign::Assigner;
use super::repair::{Buckets, repair};
use crate::accelerator::Accelerator;
use crate::error::{BuildError, ConfigError, VectorError};
use crate::matrix::{Matrix, MatrixView};
use crate::progress::{Progress, ProgressFn, Stage};
use crate::random::Random;

/// The random streams of a fit.
const STREAM_SAMPLE: u64 = 0x6b_6d_65_61_6e_73_01;
const STREAM_SEED: u64 = 0x6b_6d_65_61_6e_73_02;

/// Points per centroid that the first centroids are drawn from.
const SEED_POINTS: usize = 32;

/// A round of drawing adds at most this part of all first centroids. On real sets any number here,
/// or drawing evenly, ends within 0.1% of the same inertia; on well separated clusters even
/// drawing ends 15% higher.
const SEED_ROUNDS: usize = 32;

/// Iterations on the seed points that decide how the first centroids are drawn.
const TRIAL: usize = 2;

/// The inertia that centroids drawn evenly may have, over that of those drawn apart.
const MOST_OF_APART: f64 = 1.02;

/// Rows assigned between two reports of progress.
const REPORT: usize = 1 << 16;

/// Assignments after the last iteration that may be spent on filling empty clusters. One is the
/// rule; more are needed only where a centroid placed anew takes all points of another.
const MAX_REPAIRS: usize = 64;

/// How to cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct KMeans {
    /// The number of centroids, from 1 to the number of rows.
    pub nlist: usize,
    /// The most iterations; 0 leaves the first centroids as they were drawn.
    pub iterations: usize,
    /// The seed of the sample and of the first centroids.
    pub seed: u64,
    /// If there are more rows than this times `nlist`, a random sample of that size is clustered.
    /// At least 1.
    pub max_points_per_centroid: usize,
    /// Stop after an iteration that lowers the inertia by less than this share of it. 0 stops
    /// only when nothing moves.
    pub tolerance: f64,
}

impl Default for KMeans {
    fn default() -> KMeans {
        KMeans { nlist: 1, iterations: 10, seed: 42, max_points_per_centroid: 256, tolerance: 1e-3 }
    }
}

/// How the first centroids are drawn among the rows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum First {
    /// See [`draw_centroids`].
    Apart,
    /// Each set of rows is equally likely, whatever their weights: more of them where vectors are dense.
    Evenly,
    /// Evenly, unless that ends with more inertia, as where clusters lie well apart: some have no centroid then.
    Either,
}

/// What a fit has found.
#[derive(Clone, Debug, PartialEq)]
pub struct KMeansModel {
    /// The centroids, `nlist x dim`.
    pub centroids: Matrix,
    /// How many of the clustered points are nearest to each centroid: `nlist` numbers that sum
    /// to [`points`](KMeansModel::points). See [`KMeans::fit`] for when one may be 0.
    pub sizes: Vec<usize>,
    /// The sum of squared distances of the points to their centroids: at the first centroids,
    /// after each iteration, and after each repair at the end. It falls, up to rounding.
    pub inertia: Vec<f64>,
    /// How many points were clustered.
    pub points: usize,
}

impl KMeans {
    /// The default configuration for `nlist` centroids.
    pub fn new(nlist: usize) -> KMeans {
        KMeans { nlist, ..KMeans::default() }
    }

    /// The number of rows that a fit looks at: there is no gain in a larger sample.
    pub fn sample_size(&self) -> usize {
        self.nlist.saturating_mul(self.max_points_per_centroid)
    }

    /// Checks the configuration.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that makes no sense.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.nlist == 0 || self.nlist > 1 << 31 {
            let message = format!("expected 1 to 2^31 lists, found {}", self.nlist);
            return Err(ConfigError::new("nlist", message));
        }
        if self.max_points_per_centroid == 0 {
            return Err(ConfigError::new(
                "max_points_per_centroid",
                "expected at least 1, found 0",
            ));
        }
        if !(0.0..1.0).contains(&self.tolerance) {
            let message = format!("expected a number from 0 to below 1, found {}", self.tolerance);
            return Err(ConfigError::new("tolerance", message));
        }
        Ok(())
    }

    /// Clusters `sample` (`rows x dim`), in parallel on the current rayon pool. The same sample
    /// and configuration give the same bits for any number of threads.
    ///
    /// Every centroid is the nearest one of at least one point, provided that the points have
    /// `nlist` different values (and differ enough for a squared distance in `f32` to be more
    /// than 0): a centroid that lost all its points is moved to the farthest point of the cluster
    /// with the highest inertia. If there are fewer different values, each of them gets a
    /// centroid of exactly that value, and the other centroids repeat some of these and own
    /// nothing: ties go to the smallest number, so their sizes are 0.
    ///
    /// # Errors
    /// [`BuildError::Config`] as [`validate`](KMeans::validate); [`BuildError::Empty`] if there
    /// is no row, [`BuildError::TooFewVectors`] if there are fewer than `nlist`; a
    /// [`VectorError::TooLarge`] for a row whose squared norm is beyond `f32`.
    pub fn fit(&self, sample: MatrixView<'_>) -> Result<KMeansModel, BuildError> {
        self.fit_with(sample, &mut |_| ControlFlow::Continue(()))
    }

    /// [`fit`](KMeans::fit) that reports its progress as [`Stage::Cluster`]; the unit is
    /// iterations, each reported several times if it is long.
    ///
    /// # Errors
    /// As [`fit`](KMeans::fit), and [`BuildError::Cancelled`] if `progress` asks to stop.
    pub fn fit_with(
        &self,
        sample: MatrixView<'_>,
        progress: &mut ProgressFn<'_>,
    ) -> Result<KMeansModel, BuildError> {
        self.fit_on(sample, First::Apart, None, progress)
    }

    /// [`fit_with`](KMeans::fit_with) from centroids drawn as `first` says, with the help of a device, which changes nothing
    /// but the time.
    pub(crate) fn fit_on(
        &self,
        sample: MatrixView<'_>,
        first: First,
        device: Option<&dyn Accelerator>,
        progress: &mut ProgressFn<'_>,
    ) -> Result<KMeansModel, BuildError> {
        self.run(sample, None, first, device, progress)
    }

    /// [`fit`](KMeans::fit) of rows that count as often as their `weights` say (finite, from 0 on, of a mean
    /// near 1): centroids are weighted means, and inertia is a weighted sum.
    pub(crate) fn fit_weighted(
        &self,
        sample: MatrixView<'_>,
        weights: Option<&[f32]>,
        first: First,
    ) -> Result<KMeansModel, BuildError> {
        self.run(sample, weights, first, None, &mut |_| ControlFlow::Continue(()))
    }

    fn run(
        &self,
        sample: MatrixView<'_>,
        weights: Option<&[f32]>,
        first: First,
        device: Option<&dyn Accelerator>,
        progress: &mut ProgressFn<'_>,
    ) -> Result<KMeansModel, BuildError> {
        self.validate()?;
        let dim = sample.dim();
        if sample.rows() == 0 {
            return Err(BuildError::Empty);
        }
        if sample.rows() < self.nlist {
            return Err(BuildError::TooFewVectors { nlist: self.nlist, rows: sample.rows() });
        }
        check_norms(sample)?;
        // Points are numbered in u32.
        let most = self.sample_size().min(u32::MAX as usize);
        let stream = || Random::new(self.seed, STREAM_SAMPLE);
        let rows = take(sample, most, stream());
        let rows: &[f32] = &rows;
        let taken = weights.map(|weights| take_weights(weights, most, stream()));
        let weights = taken.as_deref();

        let mut report = |done: usize| {
            let (done, total) = (done as u64, self.iterations as u64);
            let report = Progress { stage: Stage::Cluster, done, total };
            if progress(report).is_break() { Err(BuildError::Cancelled) } else { Ok(()) }
        };
        report(0)?;
        let centroids =
            self.first(first, MatrixView::new(dim, rows)?, weights, device, &mut report)?;
        self.iterate(rows, weights, centroids, device, &mut report)
    }

    /// The first centroids.
    fn first(
        &self,
        first: First,
        rows: MatrixView<'_>,
        weights: Option<&[f32]>,
        device: Option<&dyn Accelerator>,
        report: &mut dyn FnMut(usize) -> Result<(), BuildError>,
    ) -> Result<Matrix, BuildError> {
        let dim = rows.dim();
        let mut random = Random::new(self.seed, STREAM_SEED + 1);
        if let First::Evenly = first {
            return Ok(Matrix::new(dim, take(rows, self.nlist, random).into_owned())?);
        }
        let few = self.nlist.saturating_mul(SEED_POINTS);
        let stream = || Random::new(self.seed, STREAM_SEED);
        let seeds = take(rows, few, stream());
        let weights = weights.map(|weights| take_weights(weights, few, stream()));
        let weights = weights.as_deref();
        let between = &mut || report(0);
        let apart = draw_centroids(dim, &seeds, weights, self.nlist, device, &mut random, between)?;
        if let First::Apart = first {
            return Ok(apart);
        }
        let evenly = self.first(First::Evenly, rows, None, device, report)?;
        // Of the trial there is nothing to keep: centroids settle badly on so few points.
        let trial = KMeans { iterations: TRIAL, tolerance: 0.0, ..self.clone() };
        let mut left = |centroids: &Matrix| {
            let each = &mut |_| report(0);
            let model = trial.iterate(&seeds, weights, centroids.clone(), device, each)?;
            Ok::<f64, BuildError>(model.inertia.last().copied().unwrap_or(0.0))
        };
        let settles = left(&evenly)? <= MOST_OF_APART * left(&apart)?;
        Ok(if settles { evenly } else { apart })
    }

    /// Goes on from given centroids (`nlist x dim`) with all rows: finite, with finite norms, and at
    /// least as many as there are centroids. Weights are those of [`fit_weighted`](KMeans::fit_weighted).
    pub(crate) fn fit_from(
        &self,
        rows: MatrixView<'_>,
        weights: Option<&[f32]>,
        centroids: Matrix,
    ) -> Result<KMeansModel, BuildError> {
        self.iterate(rows.data(), weights, centroids, None, &mut |_| Ok(()))
    }

    /// Lloyd's iterations, with repairs.
    fn iterate(
        &self,
        rows: &[f32],
        weights: Option<&[f32]>,
        mut centroids: Matrix,
        device: Option<&dyn Accelerator>,
        report: &mut dyn FnMut(usize) -> Result<(), BuildError>,
    ) -> Result<KMeansModel, BuildError> {
        let dim = centroids.dim();
        let points = rows.len() / dim;
        let mut nearest = vec![0u32; points];
        let mut l2_sq = vec![0.0f32; points];
        let mut inertia = Vec::new();
        let mut iteration = 0;
        let mut repairs = 0;
        loop {
            let assigner = Assigner::new(centroids);
            let loaded = assigner.load(device)?;
            let parts = nearest.chunks_mut(REPORT).zip(l2_sq.chunks_mut(REPORT));
            for (rows, (nearest, l2_sq)) in rows.chunks(REPORT * dim).zip(parts) {
                assigner.assign_by(loaded.as_deref(), rows, nearest, l2_sq)?;
                report(iteration)?;
            }
            drop(loaded);
            centroids = assigner.into_centroids();
            let moved = repair(rows, &mut centroids, &mut nearest, &mut l2_sq);
            inertia.push(sum(&l2_sq, weights));
            if iteration < self.iterations && !self.is_settled(&inertia, moved) {
                move_to_means(rows, weights, &mut centroids, &nearest);
                iteration += 1;
                continue;
            }
            // The sizes must be those of the centroids as they are: look again after a repair.
            if moved == 0 || repairs == MAX_REPAIRS {
                break;
            }
            repairs += 1;
        }
        report(self.iterations)?;
        let sizes = Buckets::new(centroids.rows(), &nearest).sizes();
        Ok(KMeansModel { centroids, sizes, inertia, points })
    }

    /// True if the last iteration gained too little to go on.
    fn is_settled(&self, inertia: &[f64], moved: usize) -> bool {
        let [.., before, after] = *inertia else { return inertia.last() == Some(&0.0) };
        moved == 0 && before - after <= self.tolerance * before
    }
}

/// Refuses rows whose squared norms overflow.
fn check_norms(sample: MatrixView<'_>) -> Result<(), VectorError> {
    let dim = sample.dim();
    // The first such row, not the one that some thread finds first.
    let row = sample.data().par_chunks(dim).position_first(|row| !dot_f32(row, row).is_finite());
    row.map_or(Ok(()), |row| Err(VectorError::TooLarge { row }))
}

/// All rows, or `count` random ones if there are more, in their order.
fn take(sample: MatrixView<'_>, count: usize, mut random: Random) -> Cow<'_, [f32]> {
    if sample.rows() <= count {
        return Cow::Borrowed(sample.data());
    }
    let mut rows = Vec::with_capacity(count * sample.dim());
    for i in random.sample_sorted(sample.rows(), count) {
        rows.extend_from_slice(sample.row(i));
    }
    Cow::Owned(rows)
}

/// The weights of the rows that [`take`] takes with the same numbers.
fn take_weights(weights: &[f32], count: usize, mut random: Random) -> Cow<'_, [f32]> {
    if weights.len() <= count {
        return Cow::Borrowed(weights);
    }
    random.sample_sorted(weights.len(), count).into_iter().map(|i| weights[i]).collect()
}

/// Draws the first centroids among `rows`.
///
/// The first one is drawn evenly, the others in rounds: in a round each row's chance is its
/// squared distance to the nearest of the centroids drawn before, times its weight (k-means++ draws one a round,
/// which needs as many passes over the rows as there are centroids). A round doubles their
/// number until it adds one in 32 of all.
fn draw_centroids(
    dim: usize,
    rows: &[f32],
    weights: Option<&[f32]>,
    nlist: usize,
    device: Option<&dyn Accelerator>,
    random: &mut Random,
    between: &mut dyn FnMut() -> Result<(), BuildError>,
) -> Result<Matrix, BuildError> {
    let count = rows.len() / dim;
    let mut centroids = Vec::with_capacity(nlist * dim);
    let mut taken = vec![false; count];
    let mut least = vec![f32::INFINITY; count];
    let (mut nearest, mut l2_sq) = (vec![0; count], vec![0.0; count]);
    let mut drawn = vec![random.below(count as u64) as usize];
    let mut total = 0;
    loop {
        let mut batch = Vec::with_capacity(drawn.len() * dim);
        for &i in &drawn {
            taken[i] = true;
            batch.extend_from_slice(&rows[i * dim..(i + 1) * dim]);
        }
        total += drawn.len();
        centroids.extend_from_slice(&batch);
        if total == nlist {
            return Ok(Matrix::new(dim, centroids)?);
        }
        between()?;
        let assigner = Assigner::new(Matrix::new(dim, batch)?);
        let loaded = assigner.load(device)?;
        assigner.assign_by(loaded.as_deref(), rows, &mut nearest, &mut l2_sq)?;
        for (least, &distance) in least.iter_mut().zip(&l2_sq) {
            *least = least.min(distance);
        }
        let wanted = total.min(nlist.div_ceil(SEED_ROUNDS)).min(nlist - total);
        drawn = match weights {
            None => draw(&least, &mut taken, wanted, random),
            Some(weights) => {
                let chances: Vec<f32> = least.iter().zip(weights).map(|(d, w)| d * w).collect();
                draw(&chances, &mut taken, wanted, random)
            }
        };
        if drawn.is_empty() {
            // Every value has its centroid: the rest can only repeat some.
            let mut free: Vec<usize> = (0..count).filter(|&i| !taken[i]).collect();
            random.shuffle(&mut free);
            free.truncate(nlist - total);
            drawn = free;
        }
    }
}

/// Draws at most `wanted` different rows with chances in proportion to `weights`; fewer if the
/// same rows come up again and again, none only if all weights are 0.
fn draw(weights: &[f32], taken: &mut [bool], wanted: usize, random: &mut Random) -> Vec<usize> {
    let mut ends = Vec::with_capacity(weights.len());
    let mut end = 0.0f64;
    for (&weight, &taken) in weights.iter().zip(taken.iter()) {
        // A row that was drawn has distance 0, up to rounding of the distances.
        end += if taken { 0.0 } else { f64::from(weight) };
        ends.push(end);
    }
    let mut drawn = Vec::with_capacity(wanted);
    if end <= 0.0 || !end.is_finite() {
        return drawn;
    }
    for _ in 0..4 * wanted + 16 {
        if drawn.len() == wanted {
            break;
        }
        let at = random.unit() * end;
        // The first row whose end lies above: never one of weight 0.
        let i = ends.partition_point(|&end| end <= at).min(ends.len() - 1);
        if !taken[i] && weights[i] > 0.0 {
            taken[i] = true;
            drawn.push(i);
        }
    }
    drawn
}

/// Moves every centroid that owns points (of some weight) to their mean. Each sum runs over its points in order.
fn move_to_means(rows: &[f32], weights: Option<&[f32]>, centroids: &mut Matrix, nearest: &[u32]) {
    let dim = centroids.dim();
    let buckets = Buckets::new(centroids.rows(), nearest);
    centroids.data_mut().par_chunks_mut(dim).enumerate().for_each_init(
        || vec![0.0f64; dim],
        |sums, (number, centroid)| {
            let members = buckets.members(number);
            if members.is_empty() {
                return;
            }
            sums.fill(0.0);
            level().vectorize(AddMembers { rows, weights, members, sums });
            let all = match weights {
                None => members.len() as f64,
                Some(weights) => members.iter().map(|&i| f64::from(weights[i as usize])).sum(),
            };
            if all > 0.0 {
                for (x, sum) in centroid.iter_mut().zip(&*sums) {
                    *x = (sum / all) as f32;
                }
            }
        },
    );
}

struct AddMembers<'a> {
    rows: &'a [f32],
    weights: Option<&'a [f32]>,
    members: &'a [u32],
    sums: &'a mut [f64],
}

impl Vectorize for AddMembers<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let dim = self.sums.len();
        for &member in self.members {
            let row = &self.rows[member as usize * dim..][..dim];
            let weight = self.weights.map_or(1.0, |weights| f64::from(weights[member as usize]));
            for (sum, &x) in self.sums.iter_mut().zip(row) {
                *sum += weight * f64::from(x);
            }
        }
    }
}

/// The sum of distances, each as often as its weight says, in order.
fn sum(l2_sq: &[f32], weights: Option<&[f32]>) -> f64 {
    match weights {
        None => l2_sq.iter().map(|&distance| f64::from(distance)).sum(),
        Some(weights) => {
            l2_sq.iter().zip(weights).map(|(&d, &w)| f64::from(d) * f64::from(w)).sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonius_simd::{Level, available, with_level};

    /// `rows` points around `heaps` centres at distances of about 10.
    fn heaps(rows: usize, dim: usize, heaps: usize, seed: u64) -> Matrix {
        let mut random = Random::new(seed, 0);
        let centres: Vec<f64> = (0..heaps * dim).map(|_| random.normal() * 10.0).collect();
        let mut data = Vec::with_capacity(rows * dim);
        for _ in 0..rows {
            let heap = random.below(heaps as u64) as usize;
            for j in 0..dim {
                data.push((centres[heap * dim + j] + random.normal()) as f32);
            }
        }
        Matrix::new(dim, data).unwrap()
    }

    fn distinct(matrix: &Matrix) -> usize {
        let mut rows: Vec<Vec<u32>> = (0..matrix.rows())
            .map(|i| matrix.row(i).iter().map(|x| (x + 0.0).to_bits()).collect())
            .collect();
        rows.sort();
        rows.dedup();
        rows.len()
    }

    /// Checks what every model must satisfy on the sample that it was fitted to.
    fn check(config: &KMeans, sample: &Matrix, what: &str) -> KMeansModel {
        let model = config.fit(sample.view()).unwrap();
        assert_eq!(model.centroids.rows(), config.nlist, "{what}");
        assert!(model.centroids.data().iter().all(|x| x.is_finite()), "{what}");
        assert_eq!(model.points, sample.rows().min(config.sample_size()), "{what}");
        assert_eq!(model.sizes.iter().sum::<usize>(), model.points, "{what}");
        assert!(!model.inertia.is_empty(), "{what}");
        for pair in model.inertia.windows(2) {
            assert!(pair[1] <= pair[0] * (1.0 + 1e-6), "{what}: inertia rose: {:?}", model.inertia);
        }
        if model.points == sample.rows() {
            // The sizes and the last inertia are those of a fresh assignment.
            let (nearest, l2_sq) = Assigner::new(model.centroids.clone()).assign(sample.view());
            assert_eq!(Buckets::new(config.nlist, &nearest).sizes(), model.sizes, "{what}");
            assert_eq!(sum(&l2_sq, None), *model.inertia.last().unwrap(), "{what}");
            let used = model.sizes.iter().filter(|&&size| size > 0).count();
            let distinct = distinct(sample);
            assert_eq!(used, distinct.min(config.nlist), "{what}: {distinct} different rows");
            if distinct <= config.nlist {
                assert!(l2_sq.iter().all(|&d| d == 0.0), "{what}");
            }
        }
        model
    }

    #[test]
    fn heaps_are_found() {
        let sample = heaps(3000, 8, 6, 1);
        let model = check(&KMeans::new(6), &sample, "6 heaps");
        // Within a heap the expected squared distance is the dimension.
        let mean = model.inertia.last().unwrap() / 3000.0;
        assert!(mean < 1.1 * 8.0, "{mean}");
        assert!(model.inertia[0] > *model.inertia.last().unwrap());
    }

    #[test]
    fn centroids_are_drawn_apart_only_where_that_pays() {
        // As many centroids as heaps: drawn evenly, a third of the heaps have none. On one heap there is no difference.
        for (sample, nlist, better) in
            [(heaps(6000, 8, 60, 3), 60, First::Apart), (heaps(6000, 8, 1, 4), 60, First::Evenly)]
        {
            let config = KMeans::new(nlist);
            let fit = |first| {
                let mut ignore = |_| ControlFlow::Continue(());
                config.fit_on(sample.view(), first, None, &mut ignore).unwrap()
            };
            assert_eq!(fit(First::Either), fit(better), "{better:?}");
            let [evenly, apart] =
                [First::Evenly, First::Apart].map(|first| *fit(first).inertia.last().unwrap());
            match better {
                First::Apart => assert!(apart < 0.7 * evenly, "{apart} {evenly}"),
                _ => assert!(evenly < 1.02 * apart, "{apart} {evenly}"),
            }
        }
    }

    #[test]
    fn every_shape_uses_every_centroid() {
        for (rows, dim, nlist) in [
            (1, 1, 1),
            (1, 5, 1),
            (10, 1, 10),
            (100, 1, 7),
            (200, 3, 50),
            (500, 3, 499),
            (500, 3, 500),
            (1000, 16, 300),
            (700, 2, 33),
        ] {
            let config = KMeans { nlist, iterations: 5, ..KMeans::default() };
            check(&config, &heaps(rows, dim, 4, 2), &format!("{rows} x {dim} to {nlist}"));
        }
    }

    #[test]
    fn one_centroid_is_the_mean() {
        let sample = Matrix::new(2, vec![1.0, 0.0, 3.0, 4.0, 5.0, 2.0]).unwrap();
        let model = check(&KMeans::new(1), &sample, "one list");
        assert_eq!(model.centroids.data(), [3.0, 2.0]);
        assert_eq!(*model.inertia.last().unwrap(), 16.0);
    }

    #[test]
    fn duplicates_and_equal_rows_come_to_an_end() {
        let equal = Matrix::new(3, vec![1.5; 300]).unwrap();
        for nlist in [1, 2, 40, 100] {
            let model = check(&KMeans::new(nlist), &equal, "equal rows");
            assert_eq!(model.sizes[0], 100);
            assert!(model.centroids.data().iter().all(|&x| x == 1.5));
        }
        // 1,000 rows of 30 values, one of which is nearly all; lists below, at and above 30.
        let values = heaps(30, 4, 30, 3);
        let mut random = Random::new(4, 0);
        let mut data = Vec::new();
        for i in 0..1000 {
            let value = if i < 30 { i } else { random.below(900).saturating_sub(870) as usize };
            data.extend_from_slice(values.row(value));
        }
        let sample = Matrix::new(4, data).unwrap();
        for nlist in [2, 15, 29, 30, 31, 64, 500] {
            for iterations in [0, 1, 10] {
                let config = KMeans { nlist, iterations, ..KMeans::default() };
                check(&config, &sample, &format!("30 values, {nlist} lists, {iterations}"));
            }
        }
    }

    #[test]
    fn rare_values_that_no_draw_has_seen_get_their_centroids() {
        // One value makes up nearly all of the sample; the draw looks at 32 rows per list and
        // sees few of the 24 others. Only repairs can find them.
        let values = heaps(25, 3, 25, 12);
        let mut data: Vec<f32> = values.row(0).repeat(6000);
        for i in 1..25 {
            data[i * 240 * 3..][..3].copy_from_slice(values.row(i));
        }
        let sample = Matrix::new(3, data).unwrap();
        for nlist in [10, 24, 25, 26] {
            for iterations in [0, 1, 10] {
                let config = KMeans {
                    nlist,
                    iterations,
                    max_points_per_centroid: 1000,
                    ..KMeans::default()
                };
                let model = check(&config, &sample, &format!("{nlist} lists, {iterations}"));
                assert!(model.sizes.contains(&(6000 - 24)) || nlist < 25);
            }
        }
    }

    #[test]
    fn a_tight_heap_far_away_is_split_to_the_last_point() {
        // 64 points within 1e-3 of each other and one at a distance of 1000: the integers alone
        // could not tell the 64 apart.
        let mut sample = heaps(65, 6, 1, 5);
        for (i, x) in sample.data_mut().iter_mut().enumerate() {
            *x = if i < 6 { 1000.0 } else { *x * 1e-4 };
        }
        for nlist in [2, 33, 64, 65] {
            check(&KMeans::new(nlist), &sample, &format!("{nlist} lists"));
        }
    }

    #[test]
    fn a_large_sample_is_thinned() {
        let sample = heaps(4000, 5, 10, 6);
        let config = KMeans { nlist: 10, max_points_per_centroid: 39, ..KMeans::default() };
        assert_eq!(check(&config, &sample, "thinned").points, 390);
        // The seed decides which.
        let other = KMeans { seed: 7, ..config.clone() };
        assert_eq!(config.fit(sample.view()).unwrap(), config.fit(sample.view()).unwrap());
        assert_ne!(config.fit(sample.view()).unwrap(), other.fit(sample.view()).unwrap());
    }

    #[test]
    fn the_tolerance_stops_early() {
        let sample = heaps(2000, 6, 30, 8);
        let exact = KMeans { nlist: 30, iterations: 200, tolerance: 0.0, ..KMeans::default() };
        let loose = KMeans { tolerance: 0.05, ..exact.clone() };
        let exact = check(&exact, &sample, "to the end");
        let loose = check(&loose, &sample, "loose");
        assert!(exact.inertia.len() < 201, "never settled");
        assert!(loose.inertia.len() < exact.inertia.len());
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        let sample = heaps(10, 2, 1, 9);
        let fails = |config: KMeans| config.fit(sample.view()).unwrap_err();
        assert!(matches!(
            fails(KMeans::new(11)),
            BuildError::TooFewVectors { nlist: 11, rows: 10 }
        ));
        for config in [
            KMeans::new(0),
            KMeans { max_points_per_centroid: 0, ..KMeans::new(2) },
            KMeans { tolerance: f64::NAN, ..KMeans::new(2) },
            KMeans { tolerance: -0.1, ..KMeans::new(2) },
        ] {
            assert!(matches!(fails(config), BuildError::Config(_)));
        }
        let empty = Matrix::zeros(0, 2);
        assert!(matches!(KMeans::new(1).fit(empty.view()), Err(BuildError::Empty)));
        let large = Matrix::new(1, vec![1.0, 2.0, 3e30]).unwrap();
        let error = KMeans::new(2).fit(large.view()).unwrap_err();
        assert!(error.to_string().contains("row 2"), "{error}");
    }

    #[test]
    fn progress_reaches_the_end_or_cancels() {
        let sample = heaps(500, 3, 5, 10);
        let mut seen = Vec::new();
        KMeans::new(5)
            .fit_with(sample.view(), &mut |p| {
                assert_eq!((p.stage, p.total), (Stage::Cluster, 10));
                seen.push(p.done);
                ControlFlow::Continue(())
            })
            .unwrap();
        assert!(seen.is_sorted());
        assert_eq!((seen.first(), seen.last()), (Some(&0), Some(&10)));
        for stop_at in 0..3 {
            let result = KMeans::new(5).fit_with(sample.view(), &mut |p| {
                if p.done >= stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert!(matches!(result, Err(BuildError::Cancelled)));
        }
    }

    #[test]
    fn a_weight_counts_as_so_many_points() {
        let sample = heaps(600, 5, 9, 12);
        let weights: Vec<f32> = (0..600).map(|i| (i % 4) as f32).collect();
        let mut repeated = Vec::new();
        for (row, &weight) in sample.data().chunks_exact(5).zip(&weights) {
            (0..weight as usize).for_each(|_| repeated.extend_from_slice(row));
        }
        let repeated = Matrix::new(5, repeated).unwrap();
        let config = KMeans { iterations: 20, tolerance: 0.0, ..KMeans::new(12) };
        let start = config.fit(sample.view()).unwrap().centroids;
        let weighted = config.fit_from(sample.view(), Some(&weights), start.clone()).unwrap();
        let counted = config.fit_from(repeated.view(), None, start).unwrap();
        for (a, b) in weighted.centroids.data().iter().zip(counted.centroids.data()) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
        let (a, b) = (weighted.inertia.last().unwrap(), counted.inertia.last().unwrap());
        assert!((a - b).abs() < 1e-4 * b, "{a} {b}");
        // From nothing too, with a sample of the rows; points without a weight draw no centroid.
        let few = KMeans { max_points_per_centroid: 20, ..config };
        let model = few.fit_weighted(sample.view(), Some(&weights), First::Apart).unwrap();
        assert_eq!(model.points, 240);
        let one: Vec<f32> = (0..600).map(|i| if i == 77 { 600.0 } else { 0.0 }).collect();
        let all = KMeans { max_points_per_centroid: 600, ..KMeans::new(1) };
        let model = all.fit_weighted(sample.view(), Some(&one), First::Apart).unwrap();
        assert_eq!(model.centroids.row(0), sample.row(77));
        let none = KMeans::new(3)
            .fit_weighted(sample.view(), Some(&vec![0.0; 600]), First::Apart)
            .unwrap();
        assert!(none.centroids.data().iter().all(|x| x.is_finite()));
    }

    #[test]
    fn threads_and_levels_change_nothing() {
        let sample = heaps(3000, 19, 12, 11);
        let config = KMeans { nlist: 100, iterations: 4, ..KMeans::default() };
        let in_pool = |threads: usize, level: Level| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            // A level is forced for one thread; the other threads of a pool use the best one.
            pool.install(|| with_level(level, || config.fit(sample.view()).unwrap()))
        };
        let truth = in_pool(1, Level::Scalar);
        for level in available() {
            assert_eq!(in_pool(1, level), truth, "{level}");
        }
        for threads in [2, 7] {
            assert_eq!(in_pool(threads, Level::Scalar), truth, "{threads} threads");
        }
    }
}
