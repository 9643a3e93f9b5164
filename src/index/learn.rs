//! What a build learns from before it reads all vectors: a sample, and the lists of it.

use super::config::IndexConfig;
use super::door::{check_row, mean_of, normalized_weights, scale_of};
use crate::accelerator::{Accelerator, LoadedCentroids};
use crate::error::BuildError;
use crate::matrix::{Matrix, subtract};
use crate::metric::Metric;
use crate::progress::ProgressFn;
use crate::quantizer::codec;
use crate::random::Random;
use crate::source::VectorSource;
use crate::train::{Assigner, First, KMeans, sample_rows_with};

/// Bytes of the vectors that a quantizer is trained on at most.
const QUANTIZER_BYTES: usize = 128 << 20;

/// Bytes of the vectors that lists are trained on at most, unless there are [`LEAST_PER_LIST`].
const LISTS_BYTES: usize = 512 << 20;

/// Vectors that lists are trained on at least, for each,
const LEAST_PER_LIST: usize = 40;

/// and at most. Of 300,000 SIFT descriptors in 2,048 lists searches scan a sixth more for the same recall where the lists are
/// trained on 32 for each instead of all.
const MOST_PER_LIST: usize = 256;

/// The random stream of the vectors that quantizers are trained on.
const STREAM: u64 = 0x71_75_61_6e_74;

/// Random vectors of a source, checked, and of the norm and scale that the index works with.
pub(super) struct Sample {
    pub(super) vectors: Matrix,
    /// Which of them the quantizer is trained on, ascending.
    chosen: Vec<usize>,
    /// How much each of these counts.
    pub(super) weights: Option<Vec<f32>>,
    pub(super) scale: f32,
    pub(super) mean: Vec<f32>,
}

impl Sample {
    /// Reads the sample of a build into `nlist` lists; weights are those of all vectors.
    pub(super) fn draw(
        source: &dyn VectorSource,
        config: &IndexConfig,
        nlist: usize,
        weights: Option<&[f32]>,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Sample, BuildError> {
        let dim = source.dim();
        let fits = (QUANTIZER_BYTES / (4 * dim)).max(256);
        let useful = codec::training_rows(&config.quantizer, nlist == 1);
        let wanted = config.training_rows.min(fits).min(useful);
        let for_lists = match nlist {
            1 => 0,
            _ => (LISTS_BYTES / (4 * dim))
                .min(nlist.saturating_mul(MOST_PER_LIST))
                .max(nlist.saturating_mul(LEAST_PER_LIST)),
        };
        let count = wanted.max(for_lists).min(source.rows());
        let (mut vectors, numbers) = sample_rows_with(source, count, config.seed, progress)?;
        let chosen: Vec<usize> = if wanted < count {
            Random::new(config.seed, STREAM).sample_sorted(count, wanted)
        } else {
            (0..count).collect()
        };
        let weights = match weights {
            None => None,
            Some(weights) => {
                let of_chosen = chosen.iter().map(|&i| weights[numbers[i]]).collect();
                Some(normalized_weights(of_chosen)?)
            }
        };
        let normalizes = config.metric.normalizes();
        for (row, &number) in vectors.data_mut().chunks_exact_mut(dim).zip(&numbers) {
            check_row(row, number, normalizes)?;
        }
        let scale = scale_of(&vectors, config.metric);
        for value in vectors.data_mut() {
            *value *= scale;
        }
        let mean = mean_of(&vectors);
        Ok(Sample { vectors, chosen, weights, scale, mean })
    }

    /// Clusters all vectors, and leaves those that the quantizer is trained on.
    pub(super) fn cluster<'a>(
        &mut self,
        config: &IndexConfig,
        nlist: usize,
        accelerator: Option<&'a dyn Accelerator>,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Clusters<'a>, BuildError> {
        let dim = self.vectors.dim();
        let chosen = self.chosen.iter().flat_map(|&i| self.vectors.row(i)).copied().collect();
        let mut vectors = std::mem::replace(&mut self.vectors, Matrix::new(dim, chosen)?);
        self.centre(&mut vectors);
        let kmeans = KMeans {
            iterations: config.kmeans_iterations,
            seed: config.seed,
            max_points_per_centroid: MOST_PER_LIST,
            ..KMeans::new(nlist)
        };
        // Drawn evenly, more lists lie where vectors are dense, and the lists that queries search are smaller: a tenth less is
        // scanned of SIFT descriptors for the same recall. The largest inner products are with the longest vectors, which are
        // far from the others.
        let first = match config.metric {
            Metric::L2 | Metric::Cosine => First::Either,
            Metric::InnerProduct => First::Apart,
        };
        let model = kmeans.fit_on(vectors.view(), first, accelerator, progress)?;
        drop(vectors);
        let inertia = model.inertia.iter().map(|sum| sum / model.points as f64).collect();
        let assigner = Assigner::new(model.centroids);
        let loaded = assigner.load(accelerator)?;
        let mut vectors = self.vectors.clone();
        self.centre(&mut vectors);
        let (mut of_row, mut l2_sq) = (vec![0; vectors.rows()], vec![0.0; vectors.rows()]);
        assigner.assign_by(loaded.as_deref(), vectors.data(), &mut of_row, &mut l2_sq)?;
        let spill_from = spill_limit(l2_sq, config.spill);
        Ok(Clusters { assigner, loaded, of_row, spill_from, inertia })
    }

    fn centre(&self, vectors: &mut Matrix) {
        for row in vectors.data_mut().chunks_exact_mut(self.mean.len()) {
            subtract(row, &self.mean);
        }
    }
}

/// The lists of a sample.
pub(super) struct Clusters<'a> {
    /// Finds the list of a vector relative to the mean.
    pub(super) assigner: Assigner,
    /// The same on a device.
    pub(super) loaded: Option<Box<dyn LoadedCentroids + 'a>>,
    /// The lists of the vectors that the quantizer is trained on.
    pub(super) of_row: Vec<u32>,
    /// Vectors at least this far from their centroid, in squared distance, go to a second list.
    pub(super) spill_from: Option<f32>,
    /// Mean squared distances to the nearest centroid, after each iteration.
    pub(super) inertia: Vec<f64>,
}

/// The squared distance from which on vectors go to a second list, so that about a share of them
/// does, from the distances of a sample; none for a share of 0.
fn spill_limit(mut l2_sq: Vec<f32>, share: f64) -> Option<f32> {
    if share == 0.0 || l2_sq.is_empty() {
        return None;
    }
    let below = ((1.0 - share) * l2_sq.len() as f64) as usize;
    if below == 0 {
        return Some(0.0);
    }
    let below = below.min(l2_sq.len() - 1);
    Some(*l2_sq.select_nth_unstable_by(below, f32::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use nonius_simd::l2_sq_f32;

    use super::*;
    use crate::quantizer::QuantizerSpec;

    fn vectors(rows: usize, dim: usize) -> Matrix {
        let mut random = Random::new(8, 0);
        Matrix::new(dim, (0..rows * dim).map(|_| random.normal() as f32 + 2.0).collect()).unwrap()
    }

    #[test]
    fn lists_learn_from_more_than_the_quantizer() {
        let source = vectors(3000, 12);
        let numbers: Vec<f32> = (0..3000).map(|i| (i % 7) as f32).collect();
        let quantizer = QuantizerSpec::Sq { bits: 8 };
        let config =
            IndexConfig { quantizer, training_rows: 500, spill: 0.3, ..IndexConfig::default() };
        let mut ignore = |_| ControlFlow::Continue(());
        let mut draw =
            |nlist| Sample::draw(&source, &config, nlist, Some(&numbers), &mut ignore).unwrap();
        let flat = draw(1);
        assert_eq!((flat.vectors.rows(), flat.weights.unwrap().len()), (500, 500));
        // As many as the lists want, and as there are.
        assert_eq!(draw(4).vectors.rows(), 1024);
        let mut sample = draw(20);
        assert_eq!((sample.vectors.rows(), sample.chosen.len()), (3000, 500));
        let expected: Vec<Vec<f32>> =
            sample.chosen.iter().map(|&i| sample.vectors.row(i).to_vec()).collect();
        let of_chosen: Vec<f32> = sample.chosen.iter().map(|&i| numbers[i]).collect();
        let weights = sample.weights.clone().unwrap();
        let (sum, all) = (weights.iter().sum::<f32>(), of_chosen.iter().sum::<f32>());
        for (weight, number) in weights.iter().zip(&of_chosen) {
            assert!((weight / sum - number / all).abs() < 1e-6, "{weight} {number}");
        }
        let mut ignore = |_| ControlFlow::Continue(());
        let clusters = sample.cluster(&config, 20, None, &mut ignore).unwrap();
        assert!(sample.vectors.data().chunks_exact(12).eq(expected.iter().map(Vec::as_slice)));
        assert_eq!(clusters.inertia.len(), 1 + config.kmeans_iterations);
        // All of them have the lists that the builder will give them, and three in ten get a second one.
        let (mut far, mut total) = (0, 0.0);
        for (row, &list) in expected.iter().zip(&clusters.of_row) {
            let centred: Vec<f32> = row.iter().zip(&sample.mean).map(|(x, m)| x - m).collect();
            let centroids = clusters.assigner.centroids();
            let distance = |list: usize| l2_sq_f32(&centred, centroids.row(list));
            let own = distance(list as usize);
            assert!((0..20).all(|other| own <= distance(other)));
            far += usize::from(own >= clusters.spill_from.unwrap());
            total += f64::from(own);
        }
        assert_eq!(far, 150);
        let mean = total / 500.0;
        let last = *clusters.inertia.last().unwrap();
        assert!((mean / last - 1.0).abs() < 0.05, "{mean} {last}");
    }
}
