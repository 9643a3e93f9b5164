//! Searching: rank the centroids, scan lists in stages, rerank.

use half::f16;
use rayon::prelude::*;

use super::Index;
use super::config::{Keep, SearchParams, SearchStats};
use super::door::prepare_query;
use super::format::{Kept, Parts};
use super::rank::Ranking;
use super::scan::{Best, Scanner};
use super::timers::{Piece, Timers};
use crate::error::{SearchError, SourceError, VectorError};
use crate::matrix::MatrixView;
use crate::metric::Metric;
use crate::quantizer::codec::Query;
use crate::topk::{Neighbor, TopK};
use crate::train::RowsI16;

/// Queries of a batch that a task takes at a time.
const TASK: usize = 32;

/// Products of queries and centroids that a task holds: 1 MiB.
const MOST_PRODUCTS: usize = 1 << 18;

/// Vectors that are on their way while one is compared exactly.
const RERANK_AHEAD: usize = 4;

/// Full vectors by id, for rerank from the user's own store.
pub trait FetchVector: Sync {
    /// Writes the vector with an id into `out` (`dim` values).
    ///
    /// # Errors
    /// What the store reports.
    fn fetch(&self, id: u64, out: &mut [f32]) -> Result<(), SourceError>;
}

/// Answers queries one after another, reusing its buffers: a warm searcher does not allocate.
///
/// Make one for each thread; making one is cheap.
///
/// ```
/// use nonius::{Index, IndexConfig, SearchParams};
///
/// let values: Vec<f32> = (0..4000).map(|i| (i as f32 * 0.7).cos()).collect();
/// let index = Index::from_slice(4, &values, &IndexConfig::default())?;
/// let mut searcher = index.searcher();
/// let params = SearchParams { rerank: 10, ..SearchParams::default() };
/// let found = searcher.search(&values[..4], 1, &params)?;
/// assert_eq!(found[0].id, 0);
/// # Ok::<(), nonius::Error>(())
/// ```
pub struct Searcher<'a> {
    parts: &'a Parts,
    fetch: Option<&'a dyn FetchVector>,
    stats: SearchStats,
    // Buffers.
    /// Queries as they are compared: `rows x dim`.
    input: Vec<f32>,
    scaled: Vec<f32>,
    rows: RowsI16,
    product: Vec<i32>,
    /// Rotated queries: `rows x dims`.
    rotated: Vec<f32>,
    ranking: Ranking,
    query: Query,
    scanner: Scanner,
    best: Best,
    timers: Timers,
    exact: TopK,
    vector: Vec<f32>,
    found: Vec<Neighbor>,
}

impl<'a> Searcher<'a> {
    pub(super) fn new(parts: &'a Parts) -> Searcher<'a> {
        Searcher {
            parts,
            fetch: None,
            stats: SearchStats::default(),
            input: Vec::new(),
            scaled: Vec::new(),
            rows: RowsI16::new(),
            product: Vec::new(),
            rotated: Vec::new(),
            ranking: Ranking::default(),
            query: Query::default(),
            scanner: Scanner::default(),
            best: Best::default(),
            timers: Timers::default(),
            exact: TopK::default(),
            vector: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Takes vectors for rerank from the user's own store instead of the kept ones.
    pub fn rerank_from(mut self, fetch: &'a dyn FetchVector) -> Searcher<'a> {
        self.fetch = Some(fetch);
        self
    }

    /// What the searches since the last [`reset_stats`](Searcher::reset_stats) did.
    pub fn stats(&self) -> SearchStats {
        self.stats
    }

    /// Where the time of all searches of this searcher went.
    #[cfg(feature = "timers")]
    pub fn timings(&self) -> [(Piece, std::time::Duration); Piece::ALL.len()] {
        self.timers.spent()
    }

    /// Starts counting anew.
    pub fn reset_stats(&mut self) {
        self.stats = SearchStats::default();
    }

    /// Finds the `k` nearest neighbours of a query, best first; fewer if the probed lists hold
    /// fewer vectors.
    ///
    /// # Errors
    /// [`SearchError`].
    pub fn search(
        &mut self,
        query: &[f32],
        k: usize,
        params: &SearchParams,
    ) -> Result<&[Neighbor], SearchError> {
        let expected = self.parts.frame().dim;
        if query.len() != expected {
            return Err(VectorError::DimMismatch { expected, found: query.len() }.into());
        }
        self.load(query, k, params)?;
        self.answer(0, k, params)
    }

    /// Checks queries (`rows x dim`), rotates them and ranks the lists for them;
    /// [`answer`](Searcher::answer) does the rest.
    pub(super) fn load(
        &mut self,
        queries: &[f32],
        k: usize,
        params: &SearchParams,
    ) -> Result<(), SearchError> {
        params.validate(k)?;
        let parts = self.parts;
        if params.rerank > 0 && parts.keep == Keep::None && self.fetch.is_none() {
            return Err(SearchError::NothingKept);
        }
        self.timers.start();
        self.input.clear();
        self.input.extend_from_slice(queries);
        for query in self.input.chunks_exact_mut(parts.frame().dim) {
            prepare_query(parts.frame().metric, query)?;
        }
        let scaled = parts.frame().scaled(&self.input, &mut self.scaled);
        parts.rotate(scaled, &mut self.rows, &mut self.product, &mut self.rotated);
        if !self.rows.norms_sq().iter().all(|norm_sq| norm_sq.is_finite()) {
            return Err(VectorError::TooLarge { row: 0 }.into());
        }
        self.timers.lap(Piece::Rotate);
        self.stats.bytes_touched += self.ranking.compare(parts, &self.rotated);
        self.timers.lap(Piece::Rank);
        parts.codec.load(&self.rotated, &mut self.query);
        self.timers.lap(Piece::Tables);
        Ok(())
    }

    /// Answers loaded query `row`.
    pub(super) fn answer(
        &mut self,
        row: usize,
        k: usize,
        params: &SearchParams,
    ) -> Result<&[Neighbor], SearchError> {
        let parts = self.parts;
        let frame = parts.frame();
        self.ranking.take(parts, row, params.nprobe);
        self.timers.lap(Piece::Rank);
        let mean_dot = match frame.metric {
            Metric::InnerProduct => {
                let query = &self.input[row * frame.dim..][..frame.dim];
                frame.scale * nonius_simd::dot_f32(query, &parts.mean)
            }
            Metric::L2 | Metric::Cosine => 0.0,
        };
        parts.codec.prepare(&self.rotated, row, &mut self.query, mean_dot, params.confidence);
        self.timers.lap(Piece::Tables);
        let held = if params.rerank > 0 { params.rerank.max(k) } else { k };
        self.best.reset(held.min(parts.count));
        if let Some(ratio) = params.centroid_ratio {
            self.ranking.keep_within(parts, self.query.rotated.norm_sq, ratio);
        }
        if parts.has_copies() {
            self.ranking.prepare_copies(parts, row, self.query.rotated.constant);
        }
        let (best, stats) = (&mut self.best, &mut self.stats);
        let patience = params.patience;
        self.scanner.scan(
            parts,
            &self.query,
            &self.ranking,
            patience,
            best,
            stats,
            &mut self.timers,
        );
        if params.rerank > 0 {
            self.rerank(row, k)?;
        } else {
            self.found.clear();
            // Keys are those of the scaled vectors.
            let scale = frame.scale.recip();
            self.found.extend(self.best.sorted().iter().map(|&(key, id, _)| Neighbor {
                id,
                distance: frame.metric.distance_of_key(key * scale * scale),
            }));
        }
        self.timers.lap(Piece::Rerank);
        Ok(&self.found)
    }

    /// Compares what the heap holds exactly, and leaves the best `k` in `self.found`.
    fn rerank(&mut self, row: usize, k: usize) -> Result<(), SearchError> {
        let parts = self.parts;
        let (dim, metric) = (parts.frame().dim, parts.frame().metric);
        let query = &self.input[row * dim..(row + 1) * dim];
        self.exact.reset(k);
        self.vector.resize(dim, 0.0);
        let row_bytes = dim * parts.keep.value_bytes();
        let best = self.best.sorted();
        for (i, &(_, id, position)) in best.iter().enumerate() {
            // While one vector is compared the next ones come from memory.
            let coming = if i == 0 { 0 } else { i + RERANK_AHEAD }..i + RERANK_AHEAD + 1;
            for &(.., position) in &best[coming.start.min(best.len())..coming.end.min(best.len())] {
                parts.fetch_kept(position);
            }
            let key = if let Some(fetch) = self.fetch {
                let unfit = |found: String| SearchError::RerankVectors {
                    expected: format!("vector {id}"),
                    found,
                };
                fetch.fetch(id, &mut self.vector).map_err(|error| unfit(error.to_string()))?;
                prepare_query(metric, &mut self.vector)
                    .map_err(|error| unfit(error.to_string()))?;
                key_f32(metric, query, &self.vector)
            } else {
                let row = position * dim..(position + 1) * dim;
                match &parts.kept {
                    Kept::F16(kept) => key_f16(metric, query, &kept[row]),
                    Kept::F32(kept) => key_f32(metric, query, &kept[row]),
                    Kept::None => return Err(SearchError::NothingKept),
                }
            };
            self.stats.bytes_touched += row_bytes as u64;
            self.stats.reranked += 1;
            self.exact.push(key, id);
        }
        self.found.clear();
        self.found.extend(
            self.exact
                .sorted()
                .iter()
                .map(|&(key, id)| Neighbor { id, distance: metric.distance_of_key(key) }),
        );
        Ok(())
    }
}

impl std::fmt::Debug for Searcher<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Searcher").field("stats", &self.stats).finish_non_exhaustive()
    }
}

/// The exact key of two vectors.
pub(crate) fn key_f32(metric: Metric, query: &[f32], vector: &[f32]) -> f32 {
    match metric {
        Metric::L2 | Metric::Cosine => nonius_simd::l2_sq_f32(query, vector),
        Metric::InnerProduct => -nonius_simd::dot_f32(query, vector),
    }
}

fn key_f16(metric: Metric, query: &[f32], vector: &[f16]) -> f32 {
    match metric {
        Metric::L2 | Metric::Cosine => nonius_simd::l2_sq_f16(query, vector),
        Metric::InnerProduct => -nonius_simd::dot_f16(query, vector),
    }
}

impl Index {
    /// A reusable searcher.
    pub fn searcher(&self) -> Searcher<'_> {
        Searcher::new(self.parts())
    }

    /// Finds the `k` nearest neighbours of one query, best first. For many queries,
    /// [`searcher`](Index::searcher) saves the allocations and
    /// [`search_batch`](Index::search_batch) uses all cores.
    ///
    /// # Errors
    /// [`SearchError`].
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        params: &SearchParams,
    ) -> Result<Vec<Neighbor>, SearchError> {
        Ok(self.searcher().search(query, k, params)?.to_vec())
    }

    /// Answers many queries in parallel on the current rayon pool. Returns the neighbours of each
    /// query in the order of the queries, best first, and what was done in all.
    ///
    /// # Errors
    /// The [`SearchError`] of the first query that has one.
    pub fn search_batch(
        &self,
        queries: MatrixView<'_>,
        k: usize,
        params: &SearchParams,
    ) -> Result<(Vec<Vec<Neighbor>>, SearchStats), SearchError> {
        self.search_batch_with(queries, k, params, None)
    }

    /// [`search_batch`](Index::search_batch), with vectors for rerank from the user's own store.
    ///
    /// # Errors
    /// As [`search_batch`](Index::search_batch), and what the store reports.
    pub fn search_batch_with(
        &self,
        queries: MatrixView<'_>,
        k: usize,
        params: &SearchParams,
        fetch: Option<&dyn FetchVector>,
    ) -> Result<(Vec<Vec<Neighbor>>, SearchStats), SearchError> {
        let (dim, parts) = (queries.dim(), self.parts());
        if dim != parts.frame().dim {
            return Err(VectorError::DimMismatch { expected: parts.frame().dim, found: dim }.into());
        }
        // Rotation and ranking are matrix products; their results should stay in the cache.
        let task = (MOST_PRODUCTS / parts.nlist.max(parts.codec.centroids())).clamp(1, TASK);
        let tasks: Vec<Result<_, SearchError>> = queries
            .data()
            .par_chunks(task * dim)
            .map_init(
                || Searcher { fetch, ..self.searcher() },
                |searcher, queries| {
                    searcher.reset_stats();
                    let rows = queries.len() / dim;
                    let mut found = Vec::with_capacity(rows);
                    searcher.load(queries, k, params)?;
                    for row in 0..rows {
                        found.push(searcher.answer(row, k, params)?.to_vec());
                    }
                    Ok((found, searcher.stats()))
                },
            )
            .collect();
        let mut all = Vec::with_capacity(queries.rows());
        let mut stats = SearchStats::default();
        for task in tasks {
            let (found, done): (Vec<Vec<Neighbor>>, SearchStats) = task?;
            all.extend(found);
            stats += done;
        }
        Ok((all, stats))
    }
}
