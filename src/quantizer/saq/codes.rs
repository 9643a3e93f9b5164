//! The quantizer by itself: vectors in, codes out, without an index.

use super::encode::EncodeScratch;
use super::layout::Layout;
use super::query::{QueryModel, Tables};
use super::refine::RefineScratch;
use super::train::train;
use super::{Encoder, Segment};
use crate::error::{BuildError, SearchError, VectorError};
use crate::index::Encoding;
use crate::matrix::MatrixView;
use crate::metric::Metric;
use crate::quantizer::alone::{Packed, Sample, Sizes, check_spec, rotate, rotate_back};
use crate::quantizer::view::View;
use crate::quantizer::{Family, QuantizerSpec};

/// What a quantizer is trained for.
#[derive(Clone, Debug, PartialEq)]
pub struct SaqConfig {
    /// How vectors are compared. Default: L2.
    pub metric: Metric,
    /// Bits or bytes. Default: `saq:4`.
    pub quantizer: QuantizerSpec,
    /// How hard the encoder tries. Default: [`Encoding::Full`].
    pub encoding: Encoding,
    /// The seed of the rotations.
    pub seed: u64,
}

impl Default for SaqConfig {
    fn default() -> SaqConfig {
        SaqConfig {
            metric: Metric::L2,
            quantizer: QuantizerSpec::saq(4.0),
            encoding: Encoding::Full,
            seed: 0,
        }
    }
}

/// A trained SAQ quantizer, for those who want codes without an index.
///
/// ```
/// use nonius::{Matrix, Saq, SaqConfig};
///
/// let vectors = Matrix::new(16, (0..16_000).map(|i| ((i * i) as f32 * 0.01).sin()).collect())?;
/// let saq = Saq::train(vectors.view(), &SaqConfig::default())?;
/// let codes = saq.encode(vectors.view())?;
/// assert!(codes.bytes_per_vector() <= 16 * 4 / 8 + 8);
///
/// let estimates = saq.estimate(&codes, vectors.row(5))?;
/// let decoded = saq.decode(&codes, 5);
/// assert_eq!(estimates.len(), 1000);
/// assert_eq!(decoded.len(), 16);
/// # Ok::<(), nonius::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Saq {
    encoder: Encoder,
    layout: Layout,
}

/// Codes of vectors: `len` records of [`bytes_per_vector`](SaqCodes::bytes_per_vector) bytes.
#[derive(Clone, Debug)]
pub struct SaqCodes {
    layout: Layout,
    packed: Packed,
}

/// An estimated distance and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The distance, in the metric's sign and scale (see [`Metric`]).
    pub distance: f32,
    /// An upper value of the standard deviation of the estimate's error, in the same scale,
    /// from what is stored of the vector. Three of them cover at least 99% of the errors: they
    /// are close to Gaussian after the random rotation. Where the plan drops dimensions, near
    /// neighbours have a further error of a few percent that the correction leaves.
    pub deviation: f32,
}

impl SaqCodes {
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

    /// The integer code of vector `i`: one number for each dimension after rotation (the
    /// dimension rounded up to a multiple of 8), of as many bits as its segment has.
    ///
    /// Codes are progressive: the top k bits are the k-bit code of the same vector on the same
    /// grid.
    ///
    /// # Panics
    /// If `i` is not below [`len`](SaqCodes::len).
    pub fn code(&self, i: usize) -> Vec<u16> {
        let (block, v, rest) = self.packed.place(i);
        self.layout.numbers(block, v, rest)
    }
}

impl Saq {
    /// Learns rotation, plan and constants from a sample (`rows x dim`).
    ///
    /// A few thousand rows are enough; all of them are looked at.
    ///
    /// # Errors
    /// [`BuildError`] for an empty sample, a configuration out of range, or vectors that the
    /// metric does not accept.
    pub fn train(sample: MatrixView<'_>, config: &SaqConfig) -> Result<Saq, BuildError> {
        let spec = &config.quantizer;
        check_spec(spec, Family::Saq, "saq, rabitq or erabitq")?;
        let sample = Sample::new(sample, config.metric)?;
        let encoder = train(&sample.training_set(), spec, config.encoding, config.seed)?;
        Ok(Saq { layout: encoder.model.layout(), encoder })
    }

    /// The dimension of vectors.
    pub fn dim(&self) -> usize {
        self.encoder.model.frame.dim
    }

    /// The plan: dimensions and bits of each segment.
    pub fn plan(&self) -> &[Segment] {
        &self.encoder.model.plan
    }

    /// Encodes vectors (`rows x dim`), in parallel.
    ///
    /// # Errors
    /// [`VectorError`] for another dimension, or vectors that the metric does not accept.
    pub fn encode(&self, rows: MatrixView<'_>) -> Result<SaqCodes, VectorError> {
        let layout = self.layout.clone();
        let sizes = Sizes {
            block: layout.block_bytes(),
            record: layout.record_bytes(),
            rest: layout.rest_bytes,
        };
        let write = |scratch: &mut EncodeScratch, rows: &[f32], records: &mut [u8]| {
            self.encoder.encode_rows(&layout, rows, None, scratch, records);
        };
        let pack =
            |records: &[u8], block: &mut [u8]| layout.pack_block(records, sizes.record, block);
        let packed = Packed::encode(&self.encoder.model.frame, rows, sizes, write, pack)?;
        Ok(SaqCodes { layout, packed })
    }

    /// The vector that code `i` stands for: `dim` values. For cosine it approximates the vector
    /// at unit norm.
    ///
    /// # Panics
    /// If `i` is not below the number of codes, or the codes come from a quantizer with another
    /// plan.
    pub fn decode(&self, codes: &SaqCodes, i: usize) -> Vec<f32> {
        self.decode_bits(codes, i, super::MAX_BITS)
    }

    /// [`decode`](Saq::decode) from no more than the top `bits` bits of every dimension.
    ///
    /// # Panics
    /// As [`decode`](Saq::decode).
    pub fn decode_bits(&self, codes: &SaqCodes, i: usize, bits: u32) -> Vec<f32> {
        self.check(codes);
        let (block, v, rest) = codes.packed.place(i);
        let model = &self.encoder.model;
        let point = QueryModel { model, layout: &codes.layout };
        let rotated = point.point(block, v, rest, bits);
        rotate_back(&model.frame, &self.encoder.rotation, &self.encoder.mean, &rotated)
    }

    /// Estimates the distance of a query to every code, from all its bits.
    ///
    /// # Errors
    /// [`SearchError::Query`] for a query that is not acceptable.
    ///
    /// # Panics
    /// If the codes come from a quantizer with another plan.
    pub fn estimate(&self, codes: &SaqCodes, query: &[f32]) -> Result<Vec<Estimate>, SearchError> {
        self.check(codes);
        let model = &self.encoder.model;
        let estimator = QueryModel { model, layout: &codes.layout };
        let lengths = &codes.layout.lengths;
        let Encoder { rotation, mean, .. } = &self.encoder;
        let query = rotate(&model.frame, rotation, mean, lengths, query)?;
        let metric = model.frame.metric;
        let mut tables = Tables::default();
        estimator.prepare(&query.values, 3.0, &mut tables);
        let mut view = View::default();
        view.set(metric, lengths, &query, None, &mut Vec::new());
        let mut scratch = RefineScratch::default();
        let inverse = model.frame.scale.recip();
        let to_distance = match model.frame.metric {
            Metric::Cosine => 0.5,
            Metric::L2 | Metric::InnerProduct => inverse * inverse,
        };
        Ok((0..codes.len())
            .map(|i| {
                let (block, v, rest) = codes.packed.place(i);
                let key = estimator.refine(&tables, &view, block, v, rest, &mut scratch);
                Estimate {
                    distance: model.frame.metric.distance_of_key(key * inverse * inverse),
                    deviation: to_distance * estimator.deviation(&view, block, v, rest),
                }
            })
            .collect())
    }

    fn check(&self, codes: &SaqCodes) {
        let ours = self.encoder.model.plan.iter().map(|s| (s.dims, s.bits));
        assert!(
            codes.layout.segments.iter().map(|s| (s.dims, s.bits)).eq(ours),
            "codes of another quantizer"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::scale::ScaleFormat;
    use super::*;
    use crate::matrix::Matrix;
    use crate::random::Random;

    /// Clustered data with a long-tailed spectrum.
    fn data(rows: usize, dim: usize, seed: u64) -> Matrix {
        let mut random = Random::new(seed, 0);
        let centres: Vec<Vec<f64>> =
            (0..20).map(|_| (0..dim).map(|_| random.normal()).collect()).collect();
        let mut values = Vec::new();
        for _ in 0..rows {
            let centre = &centres[random.below(20) as usize];
            for (d, c) in centre.iter().enumerate() {
                let spread = 1.0 / (1.0 + d as f64 / 8.0);
                values.push(((0.7 * c + random.normal()) * spread) as f32);
            }
        }
        Matrix::new(dim, values).unwrap()
    }

    fn train_on(vectors: &Matrix, spec: &str, metric: Metric) -> Saq {
        let config = SaqConfig { metric, quantizer: spec.parse().unwrap(), ..SaqConfig::default() };
        Saq::train(vectors.view(), &config).unwrap()
    }

    fn exact(metric: Metric, q: &[f32], x: &[f32]) -> f64 {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        match metric {
            Metric::L2 => {
                q.iter().zip(x).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum()
            }
            Metric::InnerProduct => dot(q, x),
            Metric::Cosine => 1.0 - dot(q, x) / (dot(q, q) * dot(x, x)).sqrt(),
        }
    }

    #[test]
    fn bounds_hold_and_estimates_are_unbiased() {
        let vectors = data(2000, 64, 1);
        for metric in Metric::ALL {
            for spec in ["rabitq", "erabitq:3", "saq:2", "saq:4", "saq:7"] {
                let saq = train_on(&vectors, spec, metric);
                let codes = saq.encode(vectors.view()).unwrap();
                let (mut inside, mut count, mut sum, mut spread) = (0, 0, 0.0, 0.0);
                for q in (0..2000).step_by(100) {
                    let query = vectors.row(q);
                    for (i, e) in saq.estimate(&codes, query).unwrap().iter().enumerate() {
                        if i == q {
                            continue;
                        }
                        let error = f64::from(e.distance) - exact(metric, query, vectors.row(i));
                        inside += i32::from(error.abs() <= 3.0 * f64::from(e.deviation) + 1e-5);
                        count += 1;
                        sum += error / f64::from(e.deviation);
                        spread += (error / f64::from(e.deviation)).powi(2);
                    }
                }
                let share = f64::from(inside) / f64::from(count);
                assert!(share > 0.99, "{metric} {spec}: {share} within three deviations");
                let bias = sum / f64::from(count);
                assert!(bias.abs() < 0.12, "{metric} {spec}: bias of {bias} deviations");
                // The bound is not idle: it is within a factor of two of the true deviation.
                let rms = (spread / f64::from(count)).sqrt();
                assert!(rms > 0.5 && rms < 1.1, "{metric} {spec}: {rms}");
            }
        }
    }

    #[test]
    fn decoding_comes_nearer_with_every_bit() {
        let vectors = data(500, 48, 2);
        let saq = train_on(&vectors, "erabitq:8", Metric::L2);
        let codes = saq.encode(vectors.view()).unwrap();
        let error = |bits: u32| -> f64 {
            (0..500)
                .map(|i| exact(Metric::L2, &saq.decode_bits(&codes, i, bits), vectors.row(i)))
                .sum()
        };
        let errors: Vec<f64> = (1..=8).map(error).collect();
        // From the second bit on the grid is finer with each bit; the first cells are very wide.
        assert!(errors[1..].windows(2).all(|w| w[1] < w[0] * 0.5), "{errors:?}");
        let energy: f64 = (0..500).map(|i| exact(Metric::L2, vectors.row(i), &[0.0; 48])).sum();
        assert!(errors[7] < energy * 1e-4, "{errors:?} of {energy}");
    }

    #[test]
    fn codes_are_progressive_in_the_record() {
        let vectors = data(40, 16, 3);
        let saq = train_on(&vectors, "erabitq:7", Metric::L2);
        let codes = saq.encode(vectors.view()).unwrap();
        let layout = &codes.layout;
        let scan_bits = layout.segments[0].scan_bits;
        for i in 0..40 {
            // The first stage alone holds the top bits of every dimension.
            let (block, v, rest) = codes.packed.place(i);
            let mut record = layout.record(block, v, rest);
            record[layout.rest_start()..].fill(0);
            let mut top = vec![0; layout.dims];
            layout.unpack_codes(&record, &mut top);
            let shift = 7 - scan_bits;
            let expected: Vec<u16> = codes.code(i).iter().map(|c| c >> shift << shift).collect();
            assert_eq!(top, expected);
        }
    }

    #[test]
    fn scale_formats_match_the_plan() {
        for bits in 0..=13 {
            let bytes = super::super::scale::bytes(bits);
            let expected = if bytes == 1 { 255 } else { 65_535 };
            assert_eq!(ScaleFormat::of_bits(bits).max, expected);
        }
    }
}
