//! Generated sets that look like real embeddings to a quantizer: clustered, with a long-tailed
//! spectrum, turned so that no axis is special.

use nonius::random::Random;
use nonius::{Matrix, RowReader, SourceError, VectorSource};

use crate::strided::check_range;

/// The streams of a seed; rows and queries have a stream each from these on.
const CENTRES: u64 = 1;
const SIGNS: u64 = 2;
const ROWS: u64 = 1 << 32;
const QUERIES: u64 = 1 << 63;

/// A number close to the standard normal distribution, from the 16-bit quarters of two random
/// words: the sum of eight uniforms reaches 4.9 deviations.
///
/// [`Random::normal`] draws twelve words; generating takes most of a test's time.
pub(crate) fn bell(random: &mut Random) -> f32 {
    let mut sum = 0u64;
    for _ in 0..2 {
        let word = random.next_u64();
        sum += (word & 0xffff) + (word >> 16 & 0xffff) + (word >> 32 & 0xffff) + (word >> 48);
    }
    // Eight uniforms on 0 .. 65536 have mean 4 x 65536 and variance 8 x 65536^2 / 12.
    const SCALE: f64 = 1.224_744_871_391_589 / 65_536.0;
    ((sum as f64 - 262_140.0) * SCALE) as f32
}

/// A generated set of clustered vectors. Each row depends only on the configuration and its own
/// number, so a pass may skip rows, and a prefix of a larger set is the smaller set.
///
/// A vector is a cluster's centre plus noise. Both have the spectrum `1 / (1 + decay j / dim)^2`,
/// j = 0, 1, ...: with a decay of 5 the leading 10 / 25 / 50% of the principal components hold
/// about 40 / 67 / 86% of the variance, as in sentence embeddings; with 11, 57 / 80 / 92%, as in
/// SIFT; with 0 all dimensions are alike. Cluster c has a share of the rows proportional to
/// 1 / (c + 1). A random rotation made of Hadamard transforms mixes the dimensions.
///
/// ```
/// use nonius::VectorSource;
/// use nonius_datasets::Synthetic;
///
/// let set = Synthetic { rows: 1000, dim: 96, ..Synthetic::default() }.generator();
/// assert_eq!((set.rows(), set.dim()), (1000, 96));
/// assert_eq!(set.queries(10).rows(), 10);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Synthetic {
    /// The number of rows.
    pub rows: usize,
    /// The number of values in a row, at least 1.
    pub dim: usize,
    /// The number of clusters, at least 1. Their centres are kept: `clusters x dim` floats.
    pub clusters: usize,
    /// The share of the variance that lies between the clusters, 0 to 1.
    pub separation: f32,
    /// How fast the spectrum falls, 0 or more.
    pub decay: f32,
    /// Whether rows and queries are scaled to unit norm.
    pub normalize: bool,
    /// Everything random depends on it.
    pub seed: u64,
}

impl Default for Synthetic {
    /// 10,000 rows of 128 dimensions in 100 clusters, with the spectrum of sentence embeddings.
    fn default() -> Synthetic {
        Synthetic {
            rows: 10_000,
            dim: 128,
            clusters: 100,
            separation: 0.4,
            decay: 5.0,
            normalize: false,
            seed: 0,
        }
    }
}

impl Synthetic {
    /// Draws the centres and the rotation.
    ///
    /// # Panics
    /// If `dim` or `clusters` is 0, `separation` is not between 0 and 1, or `decay` is negative or
    /// not finite.
    pub fn generator(self) -> Generator {
        assert!(self.dim > 0 && self.clusters > 0, "at least one dimension and one cluster");
        assert!((0.0..=1.0).contains(&self.separation), "separation is a share of the variance");
        assert!(self.decay >= 0.0 && self.decay.is_finite(), "decay is 0 or more");
        let deviations: Vec<f32> =
            (0..self.dim).map(|j| 1.0 / (1.0 + self.decay * j as f32 / self.dim as f32)).collect();
        let mut random = Random::new(self.seed, CENTRES);
        let between = self.separation.sqrt();
        let mut centres = Vec::with_capacity(self.clusters * self.dim);
        let mut radii = Vec::with_capacity(self.clusters);
        for _ in 0..self.clusters {
            centres
                .extend(deviations.iter().map(|deviation| between * deviation * bell(&mut random)));
            // Some clusters are tight, some are loose; 13/12 is the mean square of the factor.
            let factor = (0.5 + random.unit()) / (13.0f64 / 12.0).sqrt();
            radii.push((1.0 - self.separation).sqrt() * factor as f32);
        }
        let mut total = 0.0;
        let cumulative = (0..self.clusters)
            .map(|c| {
                total += 1.0 / (c + 1) as f64;
                total
            })
            .collect();
        let rotation = Rotation::new(self.dim, self.seed);
        Generator { config: self, deviations, centres, radii, cumulative, rotation }
    }
}

/// What a [`Synthetic`] configuration generates: a [`VectorSource`].
#[derive(Clone, Debug)]
pub struct Generator {
    config: Synthetic,
    /// The standard deviation of each principal component.
    deviations: Vec<f32>,
    /// `clusters x dim`.
    centres: Vec<f32>,
    /// The scale of each cluster's noise.
    radii: Vec<f32>,
    /// The sum of the weights of the clusters up to each.
    cumulative: Vec<f64>,
    rotation: Rotation,
}

impl Generator {
    /// The configuration.
    pub fn config(&self) -> &Synthetic {
        &self.config
    }

    /// `count x dim` queries from the same distribution as the rows; none of them is a row.
    pub fn queries(&self, count: usize) -> Matrix {
        let mut queries = Matrix::zeros(count, self.config.dim);
        for i in 0..count {
            self.generate(QUERIES + i as u64, queries.row_mut(i));
        }
        queries
    }

    /// Generates one vector from a stream of its own.
    fn generate(&self, stream: u64, out: &mut [f32]) {
        let mut random = Random::new(self.config.seed, stream);
        let last = self.config.clusters - 1;
        let at = random.unit() * self.cumulative[last];
        let cluster = self.cumulative.partition_point(|&sum| sum <= at).min(last);
        let dim = self.config.dim;
        let centre = &self.centres[cluster * dim..(cluster + 1) * dim];
        let radius = self.radii[cluster];
        for ((out, &centre), &deviation) in out.iter_mut().zip(centre).zip(&self.deviations) {
            *out = centre + radius * deviation * bell(&mut random);
        }
        self.rotation.apply(out);
        if self.config.normalize {
            let norm = out.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
            if norm > 0.0 {
                out.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
            }
        }
    }
}

impl VectorSource for Generator {
    fn rows(&self) -> usize {
        self.config.rows
    }

    fn dim(&self) -> usize {
        self.config.dim
    }

    fn reader(&self) -> Result<Box<dyn RowReader + '_>, SourceError> {
        Ok(Box::new(GeneratorReader { generator: self }))
    }
}

struct GeneratorReader<'a> {
    generator: &'a Generator,
}

impl RowReader for GeneratorReader<'_> {
    fn read(&mut self, start: usize, out: &mut [f32]) -> Result<(), SourceError> {
        use rayon::prelude::*;
        let Synthetic { rows, dim, .. } = self.generator.config;
        check_range(rows, dim, start, out.len())?;
        out.par_chunks_exact_mut(dim)
            .enumerate()
            .with_min_len(64)
            .for_each(|(i, row)| self.generator.generate(ROWS + (start + i) as u64, row));
        Ok(())
    }
}

/// A random orthogonal map in O(dim log dim): random signs, then Hadamard transforms of the first
/// and of the last 2^m dimensions, twice over.
#[derive(Clone, Debug)]
struct Rotation {
    /// The largest power of two within the dimension.
    width: usize,
    /// 1 or -1 for each round and dimension.
    signs: [Vec<f32>; 2],
}

impl Rotation {
    fn new(dim: usize, seed: u64) -> Rotation {
        let mut random = Random::new(seed, SIGNS);
        let mut draw = || {
            (0..dim).map(|_| if random.below(2) == 0 { 1.0 } else { -1.0 }).collect::<Vec<f32>>()
        };
        Rotation { width: 1 << dim.ilog2(), signs: [draw(), draw()] }
    }

    fn apply(&self, x: &mut [f32]) {
        for signs in &self.signs {
            x.iter_mut().zip(signs).for_each(|(x, sign)| *x *= sign);
            hadamard(&mut x[..self.width]);
            let rest = x.len() - self.width;
            hadamard(&mut x[rest..]);
        }
    }
}

/// The orthonormal Hadamard transform of 2^m values.
fn hadamard(x: &mut [f32]) {
    let mut half = 1;
    while half < x.len() {
        for pair in x.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (x.len() as f32).sqrt();
    x.iter_mut().for_each(|x| *x *= scale);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_matrix;

    #[test]
    fn rows_depend_only_on_their_number() {
        let config = Synthetic { rows: 500, dim: 13, clusters: 7, seed: 5, ..Synthetic::default() };
        let set = config.clone().generator();
        let all = read_matrix(&set).unwrap();
        let mut reader = set.reader().unwrap();
        for start in [0, 1, 77, 498] {
            let mut two = [0.0; 26];
            reader.read(start, &mut two).unwrap();
            assert_eq!(two, all.data()[start * 13..(start + 2) * 13]);
        }
        let shorter = Synthetic { rows: 100, ..config.clone() }.generator();
        assert_eq!(read_matrix(&shorter).unwrap().data(), &all.data()[..1300]);
        let other = Synthetic { seed: 6, ..config }.generator();
        assert_ne!(read_matrix(&other).unwrap(), all);
        assert!(reader.read(499, &mut [0.0; 26]).is_err());
    }

    #[test]
    fn queries_are_no_rows() {
        let set = Synthetic { rows: 200, dim: 4, ..Synthetic::default() }.generator();
        let rows = read_matrix(&set).unwrap();
        let queries = set.queries(20);
        for i in 0..20 {
            assert!((0..200).all(|j| rows.row(j) != queries.row(i)));
        }
    }

    #[test]
    fn the_rotation_keeps_lengths_and_mixes() {
        for dim in [1, 2, 3, 96, 384] {
            let rotation = Rotation::new(dim, 9);
            let mut x = vec![0.0; dim];
            x[dim / 2] = 3.0;
            rotation.apply(&mut x);
            let norm: f32 = x.iter().map(|x| x * x).sum();
            assert!((norm - 9.0).abs() < 1e-4, "{dim}: {norm}");
            if dim > 50 {
                let largest = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                assert!(largest < 1.0, "{dim}: {largest}");
            }
        }
    }

    /// Undoes the rotation by applying its parts backwards; each is its own inverse.
    fn unrotate(rotation: &Rotation, x: &mut [f32]) {
        for signs in rotation.signs.iter().rev() {
            let rest = x.len() - rotation.width;
            hadamard(&mut x[rest..]);
            hadamard(&mut x[..rotation.width]);
            x.iter_mut().zip(signs).for_each(|(x, sign)| *x *= sign);
        }
    }

    #[test]
    fn the_spectrum_has_a_long_tail() {
        let config =
            Synthetic { rows: 4000, dim: 80, clusters: 200, seed: 3, ..Synthetic::default() };
        let set = config.generator();
        let mut rows = read_matrix(&set).unwrap();
        let mut variance = vec![0.0f64; 80];
        for i in 0..4000 {
            unrotate(&set.rotation, rows.row_mut(i));
            for (sum, &x) in variance.iter_mut().zip(rows.row(i)) {
                *sum += f64::from(x).powi(2) / 4000.0;
            }
        }
        let total: f64 = variance.iter().sum();
        let share = |count: usize| variance[..count].iter().sum::<f64>() / total;
        assert!((share(8) - 0.41).abs() < 0.08, "{}", share(8));
        assert!((share(40) - 0.86).abs() < 0.05, "{}", share(40));
    }

    #[test]
    fn bells_have_mean_zero_and_variance_one() {
        let mut random = Random::new(1, 1);
        let values: Vec<f64> = (0..50_000).map(|_| f64::from(bell(&mut random))).collect();
        let mean = values.iter().sum::<f64>() / 5e4;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 5e4;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }

    #[test]
    fn normalized_rows_have_unit_norm() {
        let set = Synthetic { rows: 10, dim: 50, normalize: true, ..Synthetic::default() };
        let rows = read_matrix(&set.generator()).unwrap();
        for i in 0..10 {
            let norm: f32 = rows.row(i).iter().map(|x| x * x).sum();
            assert!((norm - 1.0).abs() < 1e-5);
        }
    }
}
