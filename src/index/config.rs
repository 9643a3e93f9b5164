//! What a caller decides about an index, and what comes back from building and searching.

use std::fmt;
use std::str::FromStr;

use crate::error::{BuildError, ConfigError, SearchError};
use crate::metric::Metric;
use crate::quantizer::saq::Segment;
use crate::quantizer::{CodebookUse, QuantizerSpec};

/// Which full vectors an index keeps beside the codes, for exact rerank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Keep {
    /// None: the smallest file.
    None,
    /// Half precision, 2 bytes a dimension. Values beyond ±65,504 are refused.
    #[default]
    F16,
    /// Single precision, 4 bytes a dimension: as given.
    F32,
}

impl Keep {
    /// Every choice, in the order of their codes in files.
    pub const ALL: [Keep; 3] = [Keep::None, Keep::F16, Keep::F32];

    /// The name that the tool takes: `none`, `f16` or `f32`.
    pub fn name(self) -> &'static str {
        match self {
            Keep::None => "none",
            Keep::F16 => "f16",
            Keep::F32 => "f32",
        }
    }

    /// Bytes of a kept value.
    pub(crate) fn value_bytes(self) -> usize {
        match self {
            Keep::None => 0,
            Keep::F16 => 2,
            Keep::F32 => 4,
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Keep {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Keep, ConfigError> {
        Keep::ALL.into_iter().find(|keep| keep.name() == name).ok_or_else(|| {
            ConfigError::new("keep", format!("expected f32, f16 or none, found {name:?}"))
        })
    }
}

/// How an index is built.
///
/// ```
/// use nonius::{IndexConfig, Metric, QuantizerSpec};
///
/// let config = IndexConfig {
///     metric: Metric::Cosine,
///     quantizer: QuantizerSpec::saq(4.0),
///     ..IndexConfig::default()
/// };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct IndexConfig {
    /// How vectors are compared. Default: L2.
    pub metric: Metric,
    /// How vectors are compressed. Default: `saq:4`.
    pub quantizer: QuantizerSpec,
    /// The number of lists that the vectors are clustered into; `Some(1)` is a flat index. `None`
    /// chooses by the number of vectors: [`IndexConfig::default_nlist`].
    pub nlist: Option<usize>,
    /// The share of vectors, those farthest from their centroid, that are found in a second list
    /// as well (SOAR: Sun et al., NeurIPS 2023, arXiv 2404.00774), from 0 to 1. With 1 a search
    /// scans about half as many vectors for the same recall where clusters overlap, as those of
    /// text embeddings do; each copy costs the bytes that the first stage reads (a quarter of 4
    /// bits a dimension) and 4 more. Without effect on a flat index. Default: 0.
    pub spill: f64,
    /// Which full vectors are kept for rerank. Default: [`Keep::F16`].
    pub keep: Keep,
    /// How many bytes a vector, on average, may go to vectors that are kept whole because their codes miss them
    /// by most: each takes `4 * dim + 8`. Searches compare these exactly, with or without rerank, and read all that
    /// a searched list has. Worth it for sets in which some vectors are unlike the rest. Default: 0.
    pub outlier_bytes: f64,
    /// The seed of everything random. The same input, seed and version give the same bytes.
    pub seed: u64,
    /// The most vectors that a quantizer is trained on; also bounded by 128 MiB of them, and for flat indexes that gain
    /// nothing by more by 8,192 (`rabitq`, `erabitq`, `pq` with 4 bits or fewer) or 16,384 (`sq`, `lvq`, floats).
    /// Lists are trained on up to 256 vectors each, within 512 MiB of them, but on 40 each at least. Default: 65,536.
    pub training_rows: usize,
    /// Iterations of k-means at most. Default: 10.
    pub kmeans_iterations: usize,
    /// How hard the encoder tries: see [`Encoding`].
    pub encoding: Encoding,
    /// For inner products and cosine, and quantizers with codebooks (`pq`, `opq`, `rvq`, `prq`): codes leave less
    /// along a vector, and more across it, where inner products above this share of the norms are the ones that
    /// matter, between 0 and 1 (score-aware quantization: Guo and others, ICML 2020; 0.2 there). Training and
    /// encoding take longer. Default: none, errors of all directions count alike.
    pub anisotropic: Option<f32>,
    /// For `rvq` and `prq`: how many sums of centroids the search for a vector's code keeps after every level,
    /// from 1 to 64. More find better codes and take longer, in proportion. Default: what
    /// [`encoding`](IndexConfig::encoding) says.
    pub beam: Option<usize>,
}

/// How hard the encoder tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Encoding {
    /// Three steps and a sweep of adjustment: the paper's quality or better. For RVQ a beam of five.
    #[default]
    Full,
    /// Two steps and next to no sweep, and eight bits of the rotation for the segments whose codes
    /// have larger errors than that: 1.8 times as fast at 4 bits, but no faster at 8. Errors are
    /// larger by up to 4%. For RVQ a beam of three.
    Fast,
}

impl Default for IndexConfig {
    fn default() -> IndexConfig {
        IndexConfig {
            metric: Metric::L2,
            quantizer: QuantizerSpec::saq(4.0),
            nlist: None,
            spill: 0.0,
            keep: Keep::F16,
            outlier_bytes: 0.0,
            seed: 0,
            training_rows: 65_536,
            kmeans_iterations: 10,
            encoding: Encoding::Full,
            anisotropic: None,
            beam: None,
        }
    }
}

impl IndexConfig {
    /// The number of lists chosen for `rows` vectors: about the square root, times two, and one
    /// (a flat index) for fewer than 1,024 vectors.
    pub fn default_nlist(rows: usize) -> usize {
        if rows < 1024 { 1 } else { (2.0 * (rows as f64).sqrt()) as usize }
    }

    /// Checks the numbers that can be checked without the data.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.quantizer.validate()?;
        self.quantizer.check_anisotropic(self.anisotropic, self.metric)?;
        self.quantizer.check_beam(self.beam)?;
        if self.nlist == Some(0) {
            return Err(ConfigError::new("nlist", "there must be at least one list, found 0"));
        }
        if !(0.0..=1.0).contains(&self.spill) {
            let message = format!("expected a share from 0 to 1, found {}", self.spill);
            return Err(ConfigError::new("spill", message));
        }
        if !(self.outlier_bytes >= 0.0 && self.outlier_bytes.is_finite()) {
            let message =
                format!("expected bytes a vector, from 0 on, found {}", self.outlier_bytes);
            return Err(ConfigError::new("outlier_bytes", message));
        }
        if self.training_rows == 0 {
            return Err(ConfigError::new("training_rows", "training needs rows, found 0"));
        }
        if self.kmeans_iterations == 0 {
            return Err(ConfigError::new("kmeans_iterations", "expected at least 1, found 0"));
        }
        Ok(())
    }

    /// The number of lists for `rows` vectors.
    pub(crate) fn lists_for(&self, rows: usize) -> Result<usize, BuildError> {
        match self.nlist {
            Some(nlist) if nlist > rows => Err(BuildError::TooFewVectors { nlist, rows }),
            Some(nlist) => Ok(nlist),
            None => Ok(IndexConfig::default_nlist(rows)),
        }
    }
}

/// How a query is answered.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SearchParams {
    /// Lists that are searched, nearest centroid first. More than there are means all.
    /// Default: 32.
    pub nprobe: usize,
    /// How many of the best estimates are compared again with the kept vectors, exactly; 0 for
    /// none, and never fewer than `k` otherwise. Default: 0.
    pub rerank: usize,
    /// How many standard deviations of its error an estimate may be off before a candidate is
    /// given up after the first stage (of RVQ, which has no other stage, nothing is). Default: 2. A true neighbour is given up only if it is near
    /// the `k`-th as well; 3 raises recall@10 by about 0.001 and refines twice as many candidates.
    pub confidence: f32,
    /// Stops when so many lists in a row have brought nothing among the best found so far; 0 for
    /// never. It is looked at after every few hundred vectors. Default: 0.
    pub patience: usize,
    /// Of the `nprobe` lists, those that are more than this many times as far from the query as the ten nearest are on
    /// average (by the root of their mean squared distance) are not searched: queries with many lists about as near search
    /// many, others few. At least 1; 1.05 to 1.15, with `nprobe` three to five times as large as it would be otherwise, scans up to a
    /// quarter fewer vectors for the same recall. (SPANN compares with the nearest alone: Chen et al., NeurIPS 2021, arXiv
    /// 2111.08566, section 3.2.) How far a list is counts its radius in, as its rank does, but for inner products. Default: none, all
    /// `nprobe` lists are.
    pub centroid_ratio: Option<f32>,
}

impl Default for SearchParams {
    fn default() -> SearchParams {
        SearchParams { nprobe: 32, rerank: 0, confidence: 2.0, patience: 0, centroid_ratio: None }
    }
}

impl SearchParams {
    /// Checks the numbers for a search for `k` neighbours.
    ///
    /// # Errors
    /// [`SearchError`] naming the one that makes no sense.
    pub fn validate(&self, k: usize) -> Result<(), SearchError> {
        if k == 0 {
            return Err(SearchError::ZeroK);
        }
        if self.nprobe == 0 {
            return Err(SearchError::ZeroNprobe);
        }
        if !(self.confidence >= 0.0 && self.confidence.is_finite()) {
            return Err(SearchError::Confidence { found: self.confidence });
        }
        if let Some(ratio) = self.centroid_ratio
            && !(ratio >= 1.0 && ratio.is_finite())
        {
            return Err(SearchError::CentroidRatio { found: ratio });
        }
        Ok(())
    }
}

/// What one or more searches did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchStats {
    /// Lists searched.
    pub lists: u64,
    /// Vectors and copies seen by the first stage.
    pub scanned: u64,
    /// Vectors whose remaining bits were read.
    pub refined: u64,
    /// Vectors compared exactly.
    pub reranked: u64,
    /// Bytes of the index that were read: centroids, codes, factors, ids and kept vectors. What
    /// queries of a batch read together counts for each of them.
    pub bytes_touched: u64,
}

impl std::ops::AddAssign for SearchStats {
    fn add_assign(&mut self, other: SearchStats) {
        self.lists += other.lists;
        self.scanned += other.scanned;
        self.refined += other.refined;
        self.reranked += other.reranked;
        self.bytes_touched += other.bytes_touched;
    }
}

/// What a build did.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildReport {
    /// Vectors in the index.
    pub vectors: usize,
    /// Their dimension.
    pub dim: usize,
    /// The metric.
    pub metric: Metric,
    /// The quantizer.
    pub quantizer: QuantizerSpec,
    /// Lists.
    pub nlist: usize,
    /// Copies of vectors in second lists.
    pub spilled: u64,
    /// Vectors that are kept whole because of what their codes miss.
    pub outliers: usize,
    /// Bytes of codes, factors, ids, copies and outliers for each vector, the padding of blocks included;
    /// vectors kept for rerank are not counted.
    pub bytes_per_vector: f64,
    /// Bytes of the file, or of the index in memory.
    pub file_bytes: u64,
    /// The plan: dimensions and bits of each segment; empty for quantizers that have none.
    pub plan: Vec<Segment>,
    /// How the codes of all vectors use each codebook; empty for quantizers that have none.
    pub codebooks: Vec<CodebookUse>,
    /// Vectors whose codes come from the device that was given to the build.
    pub by_device: u64,
    /// k-means' mean squared distance to the centroid after each iteration.
    pub inertia: Vec<f64>,
    /// Seconds of sampling, clustering and training.
    pub train_seconds: f64,
    /// Seconds of assigning, encoding and writing.
    pub encode_seconds: f64,
    /// Seconds of the encoder alone, summed over threads, without copies: rotation, adjustment and
    /// packing.
    pub encoder_cpu_seconds: f64,
    /// Seconds of the whole.
    pub total_seconds: f64,
}

/// What an index is.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexInfo {
    /// Format version of the file.
    pub version: u32,
    /// Vectors in the index.
    pub vectors: usize,
    /// Their dimension.
    pub dim: usize,
    /// The metric.
    pub metric: Metric,
    /// The quantizer.
    pub quantizer: QuantizerSpec,
    /// Lists.
    pub nlist: usize,
    /// Vectors in the smallest and in the largest list, without copies.
    pub list_sizes: (usize, usize),
    /// Copies of vectors in second lists.
    pub spilled: usize,
    /// Vectors that are kept whole because of what their codes miss.
    pub outliers: usize,
    /// Which full vectors are kept.
    pub keep: Keep,
    /// Bytes of codes, factors, ids, copies and outliers for each vector, the padding of blocks included.
    pub bytes_per_vector: f64,
    /// Bytes of codes and factors of a vector, without id and padding.
    pub code_bytes: usize,
    /// Bits that the first stage reads of a vector.
    pub first_stage_bits: usize,
    /// Bytes of the file, or of the index in memory.
    pub file_bytes: u64,
    /// The plan: dimensions and bits of each segment.
    pub plan: Vec<Segment>,
    /// The sections of the file: name, offset and length in bytes.
    pub sections: Vec<(&'static str, u64, u64)>,
}
