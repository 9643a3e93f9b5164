//! API STUB for the CLI developer: signatures are final, bodies are not here yet.
#![allow(missing_docs, unused_variables)]
mod config;
pub use config::*;
use std::path::Path;
use crate::*;
pub struct Index;
pub struct IndexBuilder<'a> { pub config: &'a IndexConfig }
impl<'a> IndexBuilder<'a> {
    pub fn new(config: &'a IndexConfig) -> Self { todo!() }
    /// One id per row; default: the row numbers.
    pub fn ids(self, ids: &'a [u64]) -> Self { todo!() }
    pub fn progress(self, progress: &'a mut ProgressFn<'a>) -> Self { todo!() }
    /// In memory.
    pub fn build(self, source: &dyn VectorSource) -> Result<(Index, BuildReport), BuildError> { todo!() }
    /// Streaming, atomically, to a file.
    pub fn write(self, source: &dyn VectorSource, path: impl AsRef<Path>) -> Result<BuildReport, BuildError> { todo!() }
}
impl Index {
    pub fn build(source: &dyn VectorSource, config: &IndexConfig) -> Result<Index, BuildError> { todo!() }
    /// Memory-mapped.
    pub fn open(path: impl AsRef<Path>) -> Result<Index, OpenError> { todo!() }
    /// Read into memory.
    pub fn read(path: impl AsRef<Path>) -> Result<Index, OpenError> { todo!() }
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), WriteError> { todo!() }
    pub fn verify(&self, progress: Option<&mut ProgressFn<'_>>) -> Result<VerifyReport, OpenError> { todo!() }
    pub fn info(&self) -> IndexInfo { todo!() }
    pub fn len(&self) -> usize { todo!() }
    pub fn is_empty(&self) -> bool { todo!() }
    pub fn dim(&self) -> usize { todo!() }
    pub fn metric(&self) -> Metric { todo!() }
    pub fn nlist(&self) -> usize { todo!() }
    pub fn keep(&self) -> Keep { todo!() }
    pub fn search(&self, query: &[f32], k: usize, params: &SearchParams) -> Result<Vec<Neighbor>, SearchError> { todo!() }
    /// Queries in parallel on the ambient rayon pool; results in order; best first.
    pub fn search_batch(&self, queries: MatrixView<'_>, k: usize, params: &SearchParams) -> Result<(Vec<Vec<Neighbor>>, SearchStats), SearchError> { todo!() }
    pub fn searcher(&self) -> Searcher<'_> { todo!() }
}
pub struct Searcher<'a>(&'a Index);
impl Searcher<'_> {
    /// Reusable, no allocation per query once warm.
    pub fn search(&mut self, query: &[f32], k: usize, params: &SearchParams) -> Result<&[Neighbor], SearchError> { todo!() }
    /// Rerank from the user's own vectors instead of the kept ones (fetch(id, out) fills one vector).
    pub fn rerank_from(self, fetch: &dyn FetchVector) -> Self { todo!() }
    pub fn stats(&self) -> SearchStats { todo!() }
    pub fn reset_stats(&mut self) { todo!() }
}
pub trait FetchVector: Sync { fn fetch(&self, id: u64, out: &mut [f32]) -> Result<(), SourceError>; }
/// sections: (name, offset, bytes)
pub struct VerifyReport { pub sections: usize, pub bytes: u64 }

/// nonius::quality: the numbers of one row of `nonius quality`.
pub struct QualityRow { pub quantizer: String, pub bits: f64, pub bytes_per_vector: f64, pub err_nn: f64, pub err_random: f64, pub bias_nn: f64,
   pub recall_at_10: f64, pub recall_10_at_100: f64, pub encode_vectors_per_second: f64, pub plan: Vec<quantizer::saq::Segment> }
/// `truth`: ids (row numbers) of the true nearest, `truth_k` per query. nlist: residuals to N centroids (1 = global mean).
pub fn quality(base: &Matrix, queries: &Matrix, truth: &[u32], truth_k: usize, config: &IndexConfig) -> Result<QualityRow, BuildError> { todo!() }
