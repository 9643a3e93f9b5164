//! Shared helpers of the cross-crate tests.

use std::sync::OnceLock;

use nonius::{
    BuildError, ExactIndex, Index, IndexBuilder, IndexConfig, Keep, Matrix, Metric, Neighbor,
    QuantizerSpec, SearchParams, VectorSource,
};
use nonius_datasets::{Shipped, Synthetic, load, read_matrix};

pub mod damage;
pub mod file;
pub mod probe;

/// The shipped set, whole in memory.
pub struct WordNet {
    /// 10,000 x 384 vectors of unit norm.
    pub base: Matrix,
    /// 500 x 384 queries.
    pub queries: Matrix,
    /// The row numbers of the 100 nearest vectors of each query by squared L2, nearest first.
    pub truth: Vec<Vec<u64>>,
}

impl WordNet {
    /// The first `count` queries.
    pub fn some_queries(&self, count: usize) -> Matrix {
        let dim = self.queries.dim();
        Matrix::new(dim, self.queries.data()[..count * dim].to_vec()).expect("finite")
    }
}

/// The shipped set, loaded once a process.
///
/// # Panics
/// If the files in the repository are damaged.
pub fn wordnet() -> &'static WordNet {
    static SET: OnceLock<WordNet> = OnceLock::new();
    SET.get_or_init(|| {
        let shipped = Shipped::load().expect("the shipped set loads");
        let base = load(&shipped.base).expect("the shipped vectors load");
        let truth = (0..shipped.truth.rows()).map(|i| shipped.truth.row(i).to_vec()).collect();
        WordNet { base, queries: shipped.queries, truth }
    })
}

/// A generated set of `rows x dim` vectors and 20 queries of the same kind.
///
/// # Panics
/// If `rows` or `dim` is 0.
pub fn synthetic(rows: usize, dim: usize, seed: u64) -> (Matrix, Matrix) {
    let clusters = (rows / 50).clamp(1, 50);
    let set = Synthetic { rows, dim, clusters, seed, ..Synthetic::default() }.generator();
    (read_matrix(&set).expect("generated values are finite"), set.queries(20))
}

/// A configuration by its three most important fields.
///
/// # Panics
/// If the quantizer's name is none.
pub fn config(metric: Metric, quantizer: &str, nlist: usize) -> IndexConfig {
    IndexConfig { metric, quantizer: spec(quantizer), nlist: Some(nlist), ..IndexConfig::default() }
}

/// A quantizer by its name.
///
/// # Panics
/// If there is none of that name.
pub fn spec(name: &str) -> QuantizerSpec {
    name.parse().unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A configuration that keeps no vectors.
pub fn without_kept(config: IndexConfig) -> IndexConfig {
    IndexConfig { keep: Keep::None, ..config }
}

/// Parameters that search every list.
pub fn all_lists() -> SearchParams {
    SearchParams { nprobe: usize::MAX, ..SearchParams::default() }
}

/// The ids of results, in their order.
pub fn ids(found: &[Neighbor]) -> Vec<u64> {
    found.iter().map(|n| n.id).collect()
}

/// Ids and the bits of the distances, to compare results exactly.
pub fn bits(found: &[Neighbor]) -> Vec<(u64, u32)> {
    found.iter().map(|n| (n.id, n.distance.to_bits())).collect()
}

/// The exact `k` nearest neighbours of every query.
///
/// # Panics
/// If the vectors do not suit the metric.
pub fn exact(base: &Matrix, queries: &Matrix, metric: Metric, k: usize) -> Vec<Vec<Neighbor>> {
    let index = ExactIndex::new(base.clone(), metric).expect("vectors suit the metric");
    index.search_batch(queries.view(), k).expect("queries suit the metric")
}

/// The share of the first `k` true ids that are among the first `k` results, over all queries.
///
/// # Panics
/// If there is not a row of truth for each query.
pub fn recall(truth: &[Vec<u64>], found: &[Vec<Neighbor>], k: usize) -> f64 {
    assert_eq!(truth.len(), found.len());
    let (mut hits, mut all) = (0, 0);
    for (truth, found) in truth.iter().zip(found) {
        let truth = &truth[..k.min(truth.len())];
        all += truth.len();
        hits += found.iter().take(k).filter(|n| truth.contains(&n.id)).count();
    }
    hits as f64 / all as f64
}

/// Searches for every row of `queries`.
///
/// # Panics
/// If a search fails.
pub fn search_all(
    index: &Index,
    queries: &Matrix,
    k: usize,
    params: &SearchParams,
) -> Vec<Vec<Neighbor>> {
    index.search_batch(queries.view(), k, params).expect("the queries are fine").0
}

/// The distance of two vectors in `f64`, with the metric's sign and scale.
pub fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    match metric {
        Metric::L2 => a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum(),
        Metric::InnerProduct => dot(a, b),
        Metric::Cosine => 1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
    }
}

/// The names of the files in a folder, hidden ones included, sorted.
///
/// # Panics
/// If the folder cannot be read.
pub fn files_in(folder: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder can be read")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The error of a build that must fail, in memory and into a file alike, leaving no file.
///
/// # Panics
/// If it does not fail, or leaves a file.
pub fn build_error(source: &dyn VectorSource, config: &IndexConfig) -> BuildError {
    let folder = tempfile::tempdir().unwrap();
    let error = IndexBuilder::new(config).build(source).unwrap_err();
    let of_file = IndexBuilder::new(config).write(source, folder.path().join("index")).unwrap_err();
    assert_eq!(error.to_string(), of_file.to_string());
    assert_eq!(files_in(folder.path()), Vec::<String>::new(), "after {error}");
    error
}

/// Checks that the text of an error has every one of the facts.
///
/// # Panics
/// If it does not.
pub fn says(error: &dyn std::fmt::Display, facts: &[&str]) {
    let text = error.to_string();
    for fact in facts {
        assert!(text.contains(fact), "{text:?} does not say {fact:?}");
    }
}

/// Quantizers of every family, with few and with many bits.
pub const QUANTIZERS: [&str; 17] = [
    "saq:4",
    "saq:0.5",
    "saq:12",
    "rabitq",
    "erabitq:8",
    "rvq:12B",
    "pq:12B",
    "opq:9B",
    "pq4:9B",
    "pq3:7B",
    "rvq6:8B",
    "prq:3x12B",
    "sq:8",
    "lvq:8",
    "lvq:4x8",
    "f16",
    "f32",
];
