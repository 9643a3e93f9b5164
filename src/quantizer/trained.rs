//! Any quantizer by itself: vectors in, codes out, without an index.

use std::path::Path;

use super::alone::{Packed, Sample, Sizes, prepare, rotate_back};
use super::codec::{self, Codec, EncodeScratch, Encoder, Layout, Loaded, Query, ScanScratch};
use super::frame::Options;
use super::saq::Segment;
use super::view::View;
use super::{CodebookUse, QuantizerSpec};
use crate::error::{BuildError, SearchError, VectorError, WriteError};
use crate::index::Encoding;
use crate::matrix::MatrixView;
use crate::metric::Metric;

/// What a quantizer is trained for.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizerConfig {
    /// How vectors are compared. Default: L2.
    pub metric: Metric,
    /// Which quantizer, and how many bits. Default: `saq:4`.
    pub quantizer: QuantizerSpec,
    /// How hard the encoder tries. Default: [`Encoding::Full`].
    pub encoding: Encoding,
    /// For inner products: see [`IndexConfig::anisotropic`](crate::IndexConfig::anisotropic).
    pub anisotropic: Option<f32>,
    /// For `rvq` and `prq`: see [`IndexConfig::beam`](crate::IndexConfig::beam).
    pub beam: Option<usize>,
    /// The seed of everything random.
    pub seed: u64,
}

impl Default for QuantizerConfig {
    fn default() -> QuantizerConfig {
        QuantizerConfig {
            metric: Metric::L2,
            quantizer: QuantizerSpec::saq(4.0),
            encoding: Encoding::Full,
            anisotropic: None,
            beam: None,
            seed: 0,
        }
    }
}

/// A trained quantizer of any kind, for those who want codes without an index. ([`Saq`](crate::Saq) is the
/// same for SAQ, and says how far its estimates may be off.)
///
/// ```
/// use nonius::{Matrix, Quantizer, QuantizerConfig};
///
/// let vectors = Matrix::new(16, (0..16_000).map(|i| ((i * i) as f32 * 0.01).sin()).collect())?;
/// let config = QuantizerConfig { quantizer: "rvq:5B".parse()?, ..QuantizerConfig::default() };
/// let rvq = Quantizer::train(vectors.view(), &config)?;
/// let codes = rvq.encode(vectors.view())?;
/// assert_eq!(codes.bytes_per_vector(), 5);
///
/// let estimates = rvq.estimate(&codes, vectors.row(5))?;
/// let between_codes = rvq.symmetric(&codes, 5)?;
/// assert_eq!((estimates.len(), between_codes.len()), (1000, 1000));
///
/// let decoded = rvq.decode(&codes, 5);
/// let coarse = rvq.decode_levels(&codes, 5, 1);
/// assert_eq!((decoded.len(), coarse.len()), (16, 16));
/// # Ok::<(), nonius::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Quantizer {
    encoder: Encoder,
    /// What the encoder's codes mean, as an index has it.
    codec: Codec,
}

/// Codes of vectors: `len` records of [`bytes_per_vector`](Codes::bytes_per_vector) bytes.
#[derive(Clone, Debug)]
pub struct Codes {
    layout: Layout,
    packed: Packed,
}

impl Codes {
    /// The number of vectors.
    pub fn len(&self) -> usize {
        self.packed.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of codes and factors of a vector.
    pub fn bytes_per_vector(&self) -> usize {
        self.packed.bytes_per_vector()
    }

    /// The numbers that the code of vector `i` consists of: of a centroid of each codebook, those of a part
    /// of the dimensions after each other, the coarsest first; or of each dimension after rotation, the
    /// dimension rounded up to a multiple of 8 (for `f16` and `bf16` the 16 bits of the value, for `f32` the
    /// lower 16 and the upper 16).
    ///
    /// # Panics
    /// If `i` is not below [`len`](Codes::len).
    pub fn code(&self, i: usize) -> Vec<u16> {
        let (block, v, rest) = self.packed.place(i);
        self.layout.numbers(block, v, rest)
    }

    /// How the codes use each codebook; empty for quantizers that have none.
    pub fn uses(&self) -> Vec<CodebookUse> {
        let mut uses = self.layout.uses();
        (0..self.len()).for_each(|i| uses.count(self.code(i).into_iter()));
        uses.report()
    }
}

impl Quantizer {
    /// Learns all that codes need from a sample (`rows x dim`).
    ///
    /// All rows are looked at. Where there are codebooks, the more there are the better: codebooks of a few
    /// thousand rows know these better than others, and training takes a minute and more where codes and
    /// dimensions are many. Others train in seconds on a few thousand rows.
    ///
    /// # Errors
    /// [`BuildError`] for an empty sample, a configuration out of range, or vectors that the
    /// metric does not accept.
    pub fn train(
        sample: MatrixView<'_>,
        config: &QuantizerConfig,
    ) -> Result<Quantizer, BuildError> {
        Quantizer::train_on(Sample::new(sample, config.metric)?, config)
    }

    /// [`train`](Quantizer::train) where some vectors count for more than others: a weight for each row of the
    /// sample, see [`IndexBuilder::weights`](crate::IndexBuilder::weights).
    ///
    /// # Errors
    /// As [`train`](Quantizer::train), and for weights that make no sense or a quantizer without codebooks.
    pub fn train_weighted(
        sample: MatrixView<'_>,
        weights: &[f32],
        config: &QuantizerConfig,
    ) -> Result<Quantizer, BuildError> {
        let mut sample = Sample::new(sample, config.metric)?;
        sample.weigh(weights)?;
        Quantizer::train_on(sample, config)
    }

    fn train_on(sample: Sample, config: &QuantizerConfig) -> Result<Quantizer, BuildError> {
        let QuantizerConfig { metric, quantizer: spec, encoding, anisotropic, beam, seed } =
            *config;
        spec.validate()?;
        spec.check_anisotropic(anisotropic, metric)?;
        spec.check_beam(beam)?;
        let options = Options { encoding, anisotropic, beam, seed };
        let encoder = codec::train(&sample.training_set(), &spec, &options, &mut |_, _| Ok(()))?;
        let codec = Codec::of(&encoder)
            .map_err(|error| WriteError::new(Path::new("(memory)"), "allocating", error))?;
        Ok(Quantizer { encoder, codec })
    }

    /// The dimension of vectors.
    pub fn dim(&self) -> usize {
        self.encoder.frame().dim
    }

    /// The plan of SAQ, dimensions and bits of each segment; empty for others.
    pub fn plan(&self) -> &[Segment] {
        self.encoder.plan()
    }

    /// The number of codebooks, of each of which a code names a centroid; 0 for quantizers without.
    pub fn codebooks(&self) -> usize {
        self.codec.layout().codebooks()
    }

    /// How many codes of increasing accuracy a code consists of: the codebooks of each part of the
    /// dimensions (of the largest if they differ), the two levels of `lvq:4xB`, and 1 for others.
    pub fn levels(&self) -> usize {
        self.codec.levels()
    }

    /// Encodes vectors (`rows x dim`), in parallel.
    ///
    /// # Errors
    /// [`VectorError`] for another dimension, or vectors that the metric does not accept.
    pub fn encode(&self, rows: MatrixView<'_>) -> Result<Codes, VectorError> {
        let layout = self.codec.layout();
        let sizes = Sizes {
            block: layout.block_bytes(),
            record: layout.record_bytes(),
            rest: layout.rest_bytes(),
        };
        let write = |scratch: &mut EncodeScratch, rows: &[f32], records: &mut [u8]| {
            self.encoder.encode_rows(rows, None, scratch, records);
        };
        let pack =
            |records: &[u8], block: &mut [u8]| layout.pack_block(records, sizes.record, block);
        let packed = Packed::encode(self.encoder.frame(), rows, sizes, write, pack)?;
        Ok(Codes { layout, packed })
    }

    /// The vector that code `i` stands for: `dim` values. For cosine it approximates the vector
    /// at unit norm.
    ///
    /// # Panics
    /// If `i` is not below the number of codes, or the codes come from a quantizer of another layout.
    pub fn decode(&self, codes: &Codes, i: usize) -> Vec<f32> {
        self.decode_levels(codes, i, self.levels())
    }

    /// [`decode`](Quantizer::decode) from no more than the first `levels` [levels](Quantizer::levels); from
    /// none the mean of the sample.
    ///
    /// # Panics
    /// As [`decode`](Quantizer::decode).
    pub fn decode_levels(&self, codes: &Codes, i: usize, levels: usize) -> Vec<f32> {
        self.check(codes);
        let (block, v, rest) = codes.packed.place(i);
        let rotated = match levels {
            0 => vec![0.0; self.encoder.frame().dims],
            _ => self.codec.point(block, v, rest, levels),
        };
        rotate_back(self.encoder.frame(), self.encoder.rotation(), self.encoder.mean(), &rotated)
    }

    /// Estimates the distance of a query to every code, in the metric's sign and scale (see
    /// [`Metric`]).
    ///
    /// # Errors
    /// [`SearchError::Query`] for a query that is not acceptable.
    ///
    /// # Panics
    /// If the codes come from a quantizer of another layout.
    pub fn estimate(&self, codes: &Codes, query: &[f32]) -> Result<Vec<f32>, SearchError> {
        self.check(codes);
        let Quantizer { encoder, codec } = self;
        let frame = encoder.frame();
        let (scaled, mean_dot) = prepare(frame, encoder.mean(), query)?;
        let rotated = encoder.rotation().apply(encoder.mean(), &scaled);
        let (mut loaded, mut query) = (Loaded::default(), Query::default());
        codec.load(&rotated, &mut loaded);
        codec.prepare(&rotated, &loaded, 0, &mut query, mean_dot, 0.0);
        let mut view = View::default();
        codec.enter_list(&query, None, &mut Vec::new(), &mut view);
        let mut scratch = ScanScratch::default();
        let unit = frame.scale.recip();
        let estimate = |i: usize| {
            let (block, v, rest) = codes.packed.place(i);
            let key = codec.refine(&query, &view, block, v, rest, &mut scratch);
            frame.metric.distance_of_key(key * unit * unit)
        };
        Ok((0..codes.len()).map(estimate).collect())
    }

    /// Estimates the distance of the vector that code `i` stands for to every code: between vectors of which
    /// nothing but codes is left. (Symmetric distances; those of [`estimate`](Quantizer::estimate) are
    /// asymmetric: Jegou, Douze and Schmid, PAMI 2011, section III.) Errors are larger, since both sides have
    /// some; what an estimate does for the error of a code is done for one side.
    ///
    /// # Errors
    /// [`SearchError::Query`] if code `i` stands for the zero vector, which has no direction, under cosine.
    ///
    /// # Panics
    /// As [`decode`](Quantizer::decode).
    pub fn symmetric(&self, codes: &Codes, i: usize) -> Result<Vec<f32>, SearchError> {
        self.estimate(codes, &self.decode(codes, i))
    }

    fn check(&self, codes: &Codes) {
        assert!(codes.layout == self.codec.layout(), "codes of another quantizer");
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

    fn train_on(vectors: &Matrix, metric: Metric, name: &str) -> Quantizer {
        let quantizer = name.parse().unwrap();
        let config = QuantizerConfig { metric, quantizer, ..QuantizerConfig::default() };
        Quantizer::train(vectors.view(), &config).unwrap()
    }

    /// What a decoded vector is off by, over the energy about the mean.
    fn left(quantizer: &Quantizer, codes: &Codes, vectors: &Matrix, levels: usize) -> f64 {
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
        let rvq = train_on(&vectors, Metric::L2, "rvq:6B");
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
    fn wider_beams_leave_less() {
        let vectors = data(3000, 20);
        let errors: Vec<f64> = [1, 3, 8, 64]
            .map(|beam| {
                let (quantizer, beam) = ("rvq4:8B".parse().unwrap(), Some(beam));
                let config = QuantizerConfig { quantizer, beam, ..QuantizerConfig::default() };
                let rvq = Quantizer::train(vectors.view(), &config).unwrap();
                left(&rvq, &rvq.encode(vectors.view()).unwrap(), &vectors, rvq.levels())
            })
            .into();
        assert!(errors.windows(2).all(|pair| pair[1] < 0.99 * pair[0]), "{errors:?}");
    }

    #[test]
    fn every_centroid_is_used_where_most_vectors_are_copies() {
        // 1500 different vectors, of which the first few are most of the sample.
        let distinct = data(1500, 12);
        let mut random = Random::new(9, 0);
        let mut vectors = distinct.data().to_vec();
        for _ in 0..9000 {
            let row = (1500.0f64.powf(random.unit()) - 1.0) as usize;
            vectors.extend_from_slice(distinct.row(row));
        }
        let vectors = Matrix::new(12, vectors).unwrap();
        for name in ["pq:8B", "opq:5B", "rvq:9B", "prq:2x11B", "pq4:8B"] {
            let quantizer = train_on(&vectors, Metric::L2, name);
            let uses = quantizer.encode(vectors.view()).unwrap().uses();
            assert!(uses.iter().all(|of| of.used == of.centroids), "{name}: {uses:?}");
        }
    }

    #[test]
    fn estimates_are_near_the_distances_and_rank_alike() {
        let vectors = data(1500, 20);
        for metric in Metric::ALL {
            let rvq = train_on(&vectors, metric, "rvq:6B");
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
        let empty = MatrixView::new(12, &[]).unwrap();
        let error = Quantizer::train(empty, &QuantizerConfig::default()).unwrap_err();
        assert!(matches!(error, BuildError::Empty), "{error}");
        let rvq = train_on(&vectors, Metric::Cosine, "rvq:6B");
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
