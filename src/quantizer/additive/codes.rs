//! The quantizer by itself: vectors in, codes out, without an index.

use nonius_simd::BLOCK;
use rayon::prelude::*;

use super::query::{Loaded, QueryModel, Tables};
use super::train::train;
use super::{Encoder, Layout};
use crate::error::{BuildError, SearchError, VectorError};
use crate::index::Encoding;
use crate::matrix::MatrixView;
use crate::metric::Metric;
use crate::quantizer::alone::{Sample, check_spec, encode, rotate, rotate_back};
use crate::quantizer::{CodeSize, CodebookUse, Family, QuantizerSpec, Uses};

/// What a quantizer is trained for.
#[derive(Clone, Debug, PartialEq)]
pub struct AdditiveConfig {
    /// How vectors are compared. Default: L2.
    pub metric: Metric,
    /// Bits or bytes. Default: `rvq:0.5`.
    pub quantizer: QuantizerSpec,
    /// How hard the encoder tries. Default: [`Encoding::Full`].
    pub encoding: Encoding,
    /// The seed of everything random.
    pub seed: u64,
}

impl Default for AdditiveConfig {
    fn default() -> AdditiveConfig {
        AdditiveConfig {
            metric: Metric::L2,
            quantizer: QuantizerSpec::Rvq { size: CodeSize::Bits(0.5), bits: 8 },
            encoding: Encoding::Full,
            seed: 0,
        }
    }
}

/// A trained quantizer that sums centroids (PQ, OPQ, RVQ or a product of RVQs), for those who want
/// codes without an index.
///
/// ```
/// use nonius::{AdditiveConfig, AdditiveQuantizer, Matrix};
///
/// let vectors = Matrix::new(16, (0..16_000).map(|i| ((i * i) as f32 * 0.01).sin()).collect())?;
/// let config = AdditiveConfig { quantizer: "rvq:5B".parse()?, ..AdditiveConfig::default() };
/// let rvq = AdditiveQuantizer::train(vectors.view(), &config)?;
/// let codes = rvq.encode(vectors.view())?;
/// assert_eq!(codes.bytes_per_vector(), 5);
///
/// let estimates = rvq.estimate(&codes, vectors.row(5))?;
/// let decoded = rvq.decode(&codes, 5);
/// let coarse = rvq.decode_levels(&codes, 5, 1);
/// assert_eq!(estimates.len(), 1000);
/// assert_eq!((decoded.len(), coarse.len()), (16, 16));
/// # Ok::<(), nonius::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AdditiveQuantizer {
    encoder: Encoder,
}

/// Codes of vectors: `len` records of [`bytes_per_vector`](AdditiveCodes::bytes_per_vector) bytes.
#[derive(Clone, Debug)]
pub struct AdditiveCodes {
    layout: Layout,
    /// In blocks of 32, as an index has them.
    blocks: Vec<u8>,
    len: usize,
}

impl AdditiveCodes {
    /// The number of vectors.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of code and factor of a vector.
    pub fn bytes_per_vector(&self) -> usize {
        self.layout.record_bytes()
    }

    /// The code of vector `i`: the number of a centroid of each codebook. The codebooks of a part of
    /// the dimensions follow each other; the first of them are the code of a coarser quantizer.
    ///
    /// # Panics
    /// If `i` is not below [`len`](AdditiveCodes::len).
    pub fn code(&self, i: usize) -> Vec<u16> {
        assert!(i < self.len, "vector {i} of {}", self.len);
        self.layout.numbers(self.block(i), i % BLOCK).collect()
    }

    /// How the codes use each codebook.
    pub fn uses(&self) -> Vec<CodebookUse> {
        let mut uses = Uses::new(Some(self.layout));
        (0..self.len).for_each(|i| uses.count(self.code(i).into_iter()));
        uses.report()
    }

    fn block(&self, i: usize) -> &[u8] {
        let size = self.layout.block_bytes();
        &self.blocks[i / BLOCK * size..(i / BLOCK + 1) * size]
    }
}

impl AdditiveQuantizer {
    /// Learns rotation and codebooks from a sample (`rows x dim`).
    ///
    /// All rows are looked at. The more there are the better: codebooks of a few thousand rows know
    /// these better than others. Training takes a minute and more where codes and dimensions are
    /// many.
    ///
    /// # Errors
    /// [`BuildError`] for an empty sample, a configuration out of range, or vectors that the
    /// metric does not accept.
    pub fn train(
        sample: MatrixView<'_>,
        config: &AdditiveConfig,
    ) -> Result<AdditiveQuantizer, BuildError> {
        let spec = &config.quantizer;
        check_spec(spec, Family::Additive, "pq, opq, rvq or prq")?;
        let sample = Sample::new(sample, config.metric)?;
        let set = sample.training_set();
        let encoder = train(&set, spec, config.encoding, config.seed, &mut |_, _| Ok(()))?;
        Ok(AdditiveQuantizer { encoder })
    }

    /// The dimension of vectors.
    pub fn dim(&self) -> usize {
        self.encoder.model.frame.dim
    }

    /// The number of codebooks: a code names a centroid of each.
    pub fn codebooks(&self) -> usize {
        self.encoder.model.columns()
    }

    /// The number of levels: the codebooks of each part of the dimensions, of the largest if they
    /// differ.
    pub fn levels(&self) -> usize {
        self.encoder.model.parts.iter().map(|part| part.levels).max().unwrap_or(0)
    }

    /// Encodes vectors (`rows x dim`), in parallel.
    ///
    /// # Errors
    /// [`VectorError`] for another dimension, or vectors that the metric does not accept.
    pub fn encode(&self, rows: MatrixView<'_>) -> Result<AdditiveCodes, VectorError> {
        let model = &self.encoder.model;
        let layout = model.layout();
        let (stride, len) = (layout.record_bytes(), rows.rows());
        let mut blocks = vec![0; len.div_ceil(BLOCK) * layout.block_bytes()];
        let places = blocks.par_chunks_mut(layout.block_bytes());
        encode(&model.frame, rows, stride, places, |scratch, rows, records, block| {
            self.encoder.encode_rows(rows, None, scratch, records);
            layout.pack_block(records, stride, block);
        })?;
        Ok(AdditiveCodes { layout, blocks, len })
    }

    /// The vector that code `i` stands for: `dim` values. For cosine it approximates the vector
    /// at unit norm.
    ///
    /// # Panics
    /// If `i` is not below the number of codes, or the codes come from a quantizer with other
    /// codebooks.
    pub fn decode(&self, codes: &AdditiveCodes, i: usize) -> Vec<f32> {
        self.decode_levels(codes, i, self.levels())
    }

    /// [`decode`](AdditiveQuantizer::decode) from no more than the first `levels` levels of each
    /// part; from none the mean of the sample.
    ///
    /// # Panics
    /// As [`decode`](AdditiveQuantizer::decode).
    pub fn decode_levels(&self, codes: &AdditiveCodes, i: usize, levels: usize) -> Vec<f32> {
        self.check(codes);
        let Encoder { model, rotation, mean, codebooks, .. } = &self.encoder;
        let mut sum = vec![0.0; model.frame.dims];
        codebooks.add_to(&codes.code(i), levels, &mut sum);
        rotate_back(&model.frame, rotation, mean, &sum)
    }

    /// Estimates the distance of a query to every code, in the metric's sign and scale (see
    /// [`Metric`]).
    ///
    /// # Errors
    /// [`SearchError::Query`] for a query that is not acceptable.
    ///
    /// # Panics
    /// If the codes come from a quantizer with other codebooks.
    pub fn estimate(&self, codes: &AdditiveCodes, query: &[f32]) -> Result<Vec<f32>, SearchError> {
        self.check(codes);
        let Encoder { model, rotation, mean, codebooks, .. } = &self.encoder;
        let frame = &model.frame;
        let query = rotate(frame, rotation, mean, &[frame.dims], query)?;
        let (packed, inverse, offsets) =
            (codebooks.packed(), codebooks.inverse(), self.encoder.offsets());
        let estimator =
            QueryModel { model, codebooks: &packed, inverse: &inverse, offsets: &offsets };
        let (mut loaded, mut tables) = (Loaded::default(), Tables::default());
        estimator.load(&query.values, &mut loaded);
        estimator.prepare(&loaded, 0, &mut tables);
        let unit = frame.scale.recip();
        let estimate = |i: usize| {
            let key = estimator.key(&tables, query.constant, codes.block(i), i % BLOCK);
            frame.metric.distance_of_key(key * unit * unit)
        };
        Ok((0..codes.len).map(estimate).collect())
    }

    fn check(&self, codes: &AdditiveCodes) {
        assert!(codes.layout == self.encoder.model.layout(), "codes of another quantizer");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Matrix;
    use crate::random::Random;

    fn data(rows: usize, dim: usize) -> Matrix {
        let mut random = Random::new(6, 0);
        let centres: Vec<f64> = (0..8 * dim).map(|_| random.normal()).collect();
        let mut values = Vec::new();
        for _ in 0..rows {
            let centre = random.below(8) as usize * dim;
            for d in 0..dim {
                let spread = 1.0 / (1.0 + d as f64 / 4.0);
                values.push(((centres[centre + d] + random.normal()) * spread) as f32 + 0.5);
            }
        }
        Matrix::new(dim, values).unwrap()
    }

    fn train_on(vectors: &Matrix, metric: Metric) -> AdditiveQuantizer {
        let quantizer = "rvq:6B".parse().unwrap();
        let config = AdditiveConfig { metric, quantizer, ..AdditiveConfig::default() };
        AdditiveQuantizer::train(vectors.view(), &config).unwrap()
    }

    /// What a decoded vector is off by, over the energy about the mean.
    fn left(
        quantizer: &AdditiveQuantizer,
        codes: &AdditiveCodes,
        vectors: &Matrix,
        levels: usize,
    ) -> f64 {
        let mean = quantizer.decode_levels(codes, 0, 0);
        let (mut left, mut all) = (0.0, 0.0);
        for i in 0..codes.len() {
            let decoded = quantizer.decode_levels(codes, i, levels);
            left += f64::from(nonius_simd::l2_sq_f32(&decoded, vectors.row(i)));
            all += f64::from(nonius_simd::l2_sq_f32(&mean, vectors.row(i)));
        }
        left / all
    }

    #[test]
    fn every_level_brings_decoded_vectors_nearer() {
        let vectors = data(1500, 20);
        let rvq = train_on(&vectors, Metric::L2);
        let codes = rvq.encode(vectors.view()).unwrap();
        assert_eq!((codes.len(), codes.is_empty(), codes.bytes_per_vector()), (1500, false, 6));
        let errors: Vec<f64> =
            (0..=rvq.levels()).map(|levels| left(&rvq, &codes, &vectors, levels)).collect();
        assert!((errors[0] - 1.0).abs() < 1e-6, "{errors:?}");
        assert!(errors.windows(2).all(|pair| pair[1] < 0.75 * pair[0]), "{errors:?}");
        assert_eq!(rvq.decode(&codes, 7), rvq.decode_levels(&codes, 7, 1000));
        for (found, level) in codes.uses().iter().zip(0..) {
            assert_eq!((found.used, found.centroids), (256, 256), "level {level}");
        }
    }

    #[test]
    fn estimates_are_near_the_distances_and_rank_alike() {
        let vectors = data(1500, 20);
        for metric in Metric::ALL {
            let rvq = train_on(&vectors, metric);
            // Rows that end within a block.
            let some = MatrixView::new(20, &vectors.data()[..777 * 20]).unwrap();
            let codes = rvq.encode(some).unwrap();
            assert_eq!(codes.len(), 777);
            for q in [1400, 1450, 1499] {
                let query = vectors.row(q);
                let dot = |a: &[f32], b: &[f32]| nonius_simd::dot_f32(a, b);
                let estimates = rvq.estimate(&codes, query).unwrap();
                let (mut sum, mut spread) = (0.0, 0.0);
                let exact: Vec<f32> = (0..777)
                    .map(|i| {
                        let x = some.row(i);
                        match metric {
                            Metric::L2 => nonius_simd::l2_sq_f32(query, x),
                            Metric::InnerProduct => dot(query, x),
                            Metric::Cosine => {
                                1.0 - dot(query, x) / (dot(query, query) * dot(x, x)).sqrt()
                            }
                        }
                    })
                    .collect();
                let mean = exact.iter().sum::<f32>() / 777.0;
                for (estimate, exact) in estimates.iter().zip(&exact) {
                    sum += (estimate - exact).powi(2);
                    spread += (exact - mean).powi(2);
                }
                assert!(sum < 0.02 * spread, "{metric}: {sum} of {spread}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let vectors = data(300, 12);
        let saq =
            AdditiveConfig { quantizer: QuantizerSpec::saq(2.0), ..AdditiveConfig::default() };
        let error = AdditiveQuantizer::train(vectors.view(), &saq).unwrap_err();
        assert!(error.to_string().contains("expected pq, opq, rvq or prq, found saq:2"), "{error}");
        let empty = MatrixView::new(12, &[]).unwrap();
        let error = AdditiveQuantizer::train(empty, &AdditiveConfig::default()).unwrap_err();
        assert!(matches!(error, BuildError::Empty), "{error}");
        let rvq = train_on(&vectors, Metric::Cosine);
        let narrow = MatrixView::new(11, &[1.0; 22]).unwrap();
        let error = rvq.encode(narrow).unwrap_err();
        assert_eq!(error, VectorError::DimMismatch { expected: 12, found: 11 });
        let zero = MatrixView::new(12, &[0.0; 24]).unwrap();
        assert!(rvq.encode(zero).is_err());
        let codes = rvq.encode(MatrixView::new(12, &[]).unwrap()).unwrap();
        assert!(codes.is_empty() && codes.uses().iter().all(|of| of.used == 0));
        assert!(rvq.estimate(&codes, &[f32::NAN; 12]).is_err());
        assert!(rvq.estimate(&codes, &[1.0; 13]).is_err());
    }
}
