//! Assigning rows on a device other than the processor.

use nonius_simd::{dot_f32, l2_sq_f32};
use rayon::prelude::*;

use super::assign::{Assigner, MARGIN, TASK, limit_of};
use super::repair::NOWHERE;
use crate::accelerator::{Accelerator, Closest, LoadedCentroids};
use crate::error::BuildError;
use crate::matrix::subtract;

/// Rows are sent to a device in pieces of so many bytes at most.
const PIECE_BYTES: usize = 32 << 20;

impl Assigner {
    /// Loads the centroids to a device, if there is one and it has anything to gain.
    pub(crate) fn load<'d>(
        &self,
        device: Option<&'d dyn Accelerator>,
    ) -> Result<Option<Box<dyn LoadedCentroids + 'd>>, BuildError> {
        let Some(device) = device.filter(|_| !self.is_direct()) else { return Ok(None) };
        let dim = self.dim();
        let mut centred = self.centroids().data().to_vec();
        for row in centred.chunks_exact_mut(dim) {
            subtract(row, &self.mean);
        }
        let norms_sq: Vec<f32> = centred.chunks_exact(dim).map(|row| dot_f32(row, row)).collect();
        device.load(dim, &centred, &norms_sq).map(Some).map_err(BuildError::Device)
    }

    /// [`assign_into`](Assigner::assign_into) by a device that has the centroids of this assigner, if there is one.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub(crate) fn assign_by(
        &self,
        device: Option<&dyn LoadedCentroids>,
        rows: &[f32],
        nearest: &mut [u32],
        l2_sq: &mut [f32],
    ) -> Result<(), BuildError> {
        let Some(device) = device else {
            self.assign_into(rows, nearest, l2_sq);
            return Ok(());
        };
        let dim = self.dim();
        assert_eq!(rows.len(), nearest.len() * dim, "rows for {} numbers", nearest.len());
        assert_eq!(l2_sq.len(), nearest.len(), "distances for {} numbers", nearest.len());
        let piece = (PIECE_BYTES / (4 * dim)).max(TASK);
        let parts = nearest.chunks_mut(piece).zip(l2_sq.chunks_mut(piece));
        let mut centred = Vec::new();
        let mut found = Vec::new();
        for (rows, (nearest, l2_sq)) in rows.chunks(piece * dim).zip(parts) {
            centred.clear();
            centred.extend_from_slice(rows);
            centred.par_chunks_mut(TASK * dim).for_each(|rows| {
                rows.chunks_exact_mut(dim).for_each(|row| subtract(row, &self.mean));
            });
            found.clear();
            found.resize(nearest.len(), Closest::default());
            device.closest(&centred, &mut found).map_err(BuildError::Device)?;
            self.decide(rows, &centred, &found, nearest, l2_sq);
        }
        Ok(())
    }

    /// Takes what a device found where it is sure, and compares the other rows here.
    fn decide(
        &self,
        rows: &[f32],
        centred: &[f32],
        found: &[Closest],
        nearest: &mut [u32],
        l2_sq: &mut [f32],
    ) {
        let dim = self.dim();
        // No sum of so many products in f32 errs by more, and the processor's integers do not where they are sure.
        let margin = MARGIN.max(dim as f32 * f32::EPSILON);
        nearest
            .par_chunks_mut(TASK)
            .zip(l2_sq.par_chunks_mut(TASK))
            .zip(found.par_chunks(TASK))
            .zip(rows.par_chunks(TASK * dim).zip(centred.par_chunks(TASK * dim)))
            .for_each(|(((nearest, l2_sq), found), (rows, centred))| {
                let rows = rows.chunks_exact(dim).zip(centred.chunks_exact(dim));
                let answers = nearest.iter_mut().zip(l2_sq);
                for (((row, centred), found), (nearest, l2_sq)) in rows.zip(found).zip(answers) {
                    let limit = limit_of(found.score, dot_f32(centred, centred), margin);
                    *nearest = NOWHERE;
                    // Not so where anything is no number.
                    if found.second > limit && (found.number as usize) < self.nlist() {
                        *nearest = found.number;
                        *l2_sq = l2_sq_f32(row, self.centroids().row(found.number as usize));
                    }
                }
            });
        let unsure: Vec<usize> =
            (0..nearest.len()).filter(|&row| nearest[row] == NOWHERE).collect();
        let mut values = Vec::with_capacity(unsure.len() * dim);
        for &row in &unsure {
            values.extend_from_slice(&rows[row * dim..][..dim]);
        }
        let (mut numbers, mut distances) = (vec![0; unsure.len()], vec![0.0; unsure.len()]);
        self.assign_into(&values, &mut numbers, &mut distances);
        for ((&row, number), distance) in unsure.iter().zip(numbers).zip(distances) {
            (nearest[row], l2_sq[row]) = (number, distance);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::DeviceError;
    use crate::matrix::Matrix;
    use crate::random::Random;
    use crate::train::{First, KMeans};

    /// Scores in `f64`; of every third row an answer that is wrong in one way or another, and too close to be believed.
    struct Doubtful;

    struct Loaded {
        dim: usize,
        centroids: Vec<f32>,
        norms_sq: Vec<f32>,
    }

    impl Accelerator for Doubtful {
        fn load<'a>(
            &'a self,
            dim: usize,
            centroids: &[f32],
            norms_sq: &[f32],
        ) -> Result<Box<dyn LoadedCentroids + 'a>, DeviceError> {
            assert_eq!(centroids.len(), dim * norms_sq.len());
            Ok(Box::new(Loaded { dim, centroids: centroids.to_vec(), norms_sq: norms_sq.to_vec() }))
        }
    }

    impl LoadedCentroids for Loaded {
        fn closest(&self, rows: &[f32], found: &mut [Closest]) -> Result<(), DeviceError> {
            for (i, (row, found)) in rows.chunks_exact(self.dim).zip(found).enumerate() {
                let mut scores: Vec<(f32, u32)> = (0..)
                    .zip(self.centroids.chunks_exact(self.dim).zip(&self.norms_sq))
                    .map(|(number, (centroid, norm_sq))| {
                        let dot: f64 =
                            row.iter().zip(centroid).map(|(x, c)| f64::from(x * c)).sum();
                        ((f64::from(*norm_sq) - 2.0 * dot) as f32, number)
                    })
                    .collect();
                scores.sort_by(|a, b| a.0.total_cmp(&b.0));
                let second = scores.get(1).map_or(f32::MAX, |score| score.0);
                let (score, number) = scores[0];
                *found = match i % 12 {
                    0 => Closest { number: number + 1, score, second: score },
                    3 => Closest { number: u32::MAX, score, second },
                    6 => Closest { number, score: f32::NAN, second },
                    9 => Closest { number, score, second: f32::NAN },
                    _ => Closest { number, score, second },
                };
            }
            Ok(())
        }
    }

    struct Broken;

    impl Accelerator for Broken {
        fn load<'a>(
            &'a self,
            _: usize,
            _: &[f32],
            _: &[f32],
        ) -> Result<Box<dyn LoadedCentroids + 'a>, DeviceError> {
            Err("no device".into())
        }
    }

    /// Vectors far from zero, some of them twice.
    fn vectors(rows: usize, dim: usize) -> Matrix {
        let mut random = Random::new(7, dim as u64);
        let mut matrix = Matrix::zeros(rows, dim);
        for i in 0..rows {
            if i % 5 == 4 {
                let before = matrix.row(i - 1).to_vec();
                matrix.row_mut(i).copy_from_slice(&before);
            } else {
                matrix.row_mut(i).fill_with(|| 3.0 + random.normal() as f32);
            }
        }
        matrix
    }

    #[test]
    fn a_device_changes_nothing() {
        for (rows, dim, nlist) in [(900, 33, 40), (300, 200, 7), (500, 3, 20), (100, 64, 1)] {
            let vectors = vectors(rows, dim);
            let centroids = Matrix::new(dim, vectors.data()[..nlist * dim].to_vec()).unwrap();
            let assigner = Assigner::new(centroids);
            let loaded = assigner.load(Some(&Doubtful)).unwrap();
            assert_eq!(loaded.is_none(), assigner.is_direct());
            let (mut nearest, mut l2_sq) = (vec![9; rows], vec![9.0; rows]);
            assigner
                .assign_by(loaded.as_deref(), vectors.data(), &mut nearest, &mut l2_sq)
                .unwrap();
            assert_eq!((nearest, l2_sq), assigner.assign(vectors.view()), "{dim} dimensions");

            let kmeans = KMeans::new(nlist);
            let here = kmeans.fit(vectors.view()).unwrap();
            let there = kmeans
                .fit_on(vectors.view(), First::Apart, Some(&Doubtful), &mut |_| {
                    std::ops::ControlFlow::Continue(())
                })
                .unwrap();
            assert_eq!(here, there, "{dim} dimensions");
        }
    }

    #[test]
    fn a_device_that_fails_ends_the_build() {
        let vectors = vectors(100, 64);
        let config = crate::IndexConfig { nlist: Some(4), ..crate::IndexConfig::default() };
        let error = crate::IndexBuilder::new(&config)
            .accelerator(&Broken)
            .build(&vectors.view())
            .unwrap_err();
        assert!(matches!(error, BuildError::Device(_)), "{error:?}");
        assert_eq!(error.to_string(), "the device that was to help with the build: no device");
    }
}
