//! Searching: rank the centroids, scan lists in stages, rerank.

use half::f16;
use rayon::prelude::*;

use super::Index;
use super::config::{Keep, SearchParams, SearchStats};
use super::door::{check_query, prepare_query};
use super::format::{Kept, Parts};
use super::rank::Ranking;
use super::scan::{Scanner, Walk, fetch_list};
use super::timers::{Piece, Timers};
use crate::error::{SearchError, SourceError, VectorError};
use crate::matrix::MatrixView;
use crate::metric::Metric;
use crate::quantizer::codec::Loaded;
use crate::topk::{Neighbor, TopK};
use crate::train::RowsI16;

/// Queries of a batch that are rotated and ranked together.
const LOADED: usize = 32;

/// Products of queries and centroids that are held at a time: 1 MiB.
const MOST_PRODUCTS: usize = 1 << 18;

/// Queries that go through the lists together. More share more of what is read, but their tables
/// come from farther away.
const TOGETHER: usize = 256;

/// Bytes that have to be fetched of queries that go together: 4 MiB, and as much again several times
/// for what is fetched less often.
const MOST_FETCHED: usize = 1 << 22;

/// Results that queries hold who go together: their first rounds hold many candidates for each.
const MOST_HELD: usize = 1 << 17;

/// Queries go through the lists together if at least so many of them meet in a list on average,
const MEET: usize = 4;

/// and if a list has at least so many times the bytes of what has to be fetched of each of them
/// instead.
const LARGER: usize = 8;

/// The most standard deviations that bounds are lowered by: nothing is ruled out with so many, and
/// products with more would overflow.
const MOST_CONFIDENCE: f32 = 1e9;

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
    pub(super) parts: &'a Parts,
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
    loaded: Loaded,
    /// One for each query that is under way.
    walks: Vec<Walk>,
    scanner: Scanner,
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
            loaded: Loaded::default(),
            walks: Vec::new(),
            scanner: Scanner::default(),
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
        self.admit(query, k, params)?;
        self.load(0, 1)?;
        self.set_out(0, 0, 0, k, params);
        self.walk(params);
        self.arrive(0, 0, k, params)?;
        Ok(&self.found)
    }

    /// Answers queries (`rows x dim`).
    fn answer(
        &mut self,
        queries: &[f32],
        k: usize,
        params: &SearchParams,
    ) -> Result<Vec<Vec<Neighbor>>, SearchError> {
        let parts = self.parts;
        self.admit(queries, k, params)?;
        let rows = queries.len() / parts.frame().dim;
        let together = go_together(parts, rows, params);
        let mut all = Vec::with_capacity(rows);
        let loaded = self.loaded_together();
        for first in (0..rows).step_by(loaded) {
            let count = loaded.min(rows - first);
            self.load(first, count)?;
            for row in 0..count {
                let number = first + row;
                if together {
                    self.set_out(row, number, number, k, params);
                } else {
                    self.set_out(row, number, 0, k, params);
                    self.walk(params);
                    self.arrive(number, 0, k, params)?;
                    all.push(self.found.clone());
                }
            }
        }
        if together {
            let Searcher { walks, scanner, stats, timers, .. } = self;
            scanner.scan_together(parts, &mut walks[..rows], stats, timers);
            for number in 0..rows {
                self.arrive(number, number, k, params)?;
                all.push(self.found.clone());
            }
        }
        Ok(all)
    }

    /// Checks and prepares queries (`rows x dim`), and shows each one's walk before it begins, with the
    /// query's number.
    pub(super) fn set_out_each(
        &mut self,
        queries: &[f32],
        k: usize,
        params: &SearchParams,
        mut each: impl FnMut(usize, &Walk),
    ) -> Result<(), SearchError> {
        self.admit(queries, k, params)?;
        let rows = queries.len() / self.parts.frame().dim;
        let loaded = self.loaded_together();
        for first in (0..rows).step_by(loaded) {
            let count = loaded.min(rows - first);
            self.load(first, count)?;
            for row in 0..count {
                self.set_out(row, first + row, 0, k, params);
                each(first + row, &self.walks[0]);
            }
        }
        Ok(())
    }

    /// Takes what was found for a query elsewhere, keys and positions, for what its walk has found.
    pub(super) fn finish(
        &mut self,
        query: &[f32],
        found: impl IntoIterator<Item = (f32, usize)>,
        k: usize,
        params: &SearchParams,
    ) -> Result<&[Neighbor], SearchError> {
        self.admit(query, k, params)?;
        if self.walks.is_empty() {
            self.walks.push(Walk::default());
        }
        let parts = self.parts;
        let best = &mut self.walks[0].best;
        best.reset(held(k, params).min(parts.count));
        for (key, position) in found {
            best.offer((key, parts.id(position), position));
        }
        self.arrive(0, 0, k, params)?;
        Ok(&self.found)
    }

    /// How many queries are rotated and ranked together: both are matrix products, whose results should
    /// stay in the cache.
    fn loaded_together(&self) -> usize {
        let most = MOST_PRODUCTS / self.parts.nlist.max(self.parts.codec.centroids());
        most.clamp(1, LOADED)
    }

    /// Checks queries (`rows x dim`) and takes them in.
    fn admit(
        &mut self,
        queries: &[f32],
        k: usize,
        params: &SearchParams,
    ) -> Result<(), SearchError> {
        params.validate(k)?;
        if params.rerank > 0 && self.parts.keep == Keep::None && self.fetch.is_none() {
            return Err(SearchError::NothingKept);
        }
        self.timers.start();
        let frame = self.parts.frame();
        self.input.clear();
        self.input.extend_from_slice(queries);
        for query in self.input.chunks_exact_mut(frame.dim) {
            prepare_query(frame.metric, query)?;
        }
        Ok(())
    }

    /// Rotates some of the queries, from number `first` on, and ranks the lists for them.
    fn load(&mut self, first: usize, count: usize) -> Result<(), SearchError> {
        let parts = self.parts;
        let dim = parts.frame().dim;
        let queries = &self.input[first * dim..(first + count) * dim];
        let scaled = parts.frame().scaled(queries, &mut self.scaled);
        parts.rotate(scaled, &mut self.rows, &mut self.product, &mut self.rotated);
        self.rows.norms_sq().iter().try_for_each(|&norm_sq| check_query(norm_sq, 0))?;
        self.timers.lap(Piece::Rotate);
        let bytes = self.ranking.compare(parts, &self.rotated);
        self.stats.bytes_touched += count as u64 * bytes;
        self.timers.lap(Piece::Rank);
        parts.codec.load(&self.rotated, &mut self.loaded);
        self.timers.lap(Piece::Tables);
        Ok(())
    }

    /// Prepares a walk for query `number`, which is loaded as row `row`.
    fn set_out(&mut self, row: usize, number: usize, walk: usize, k: usize, params: &SearchParams) {
        let parts = self.parts;
        let frame = parts.frame();
        if self.walks.len() <= walk {
            self.walks.resize_with(walk + 1, Walk::default);
        }
        let Walk { query, exact, route, best, .. } = &mut self.walks[walk];
        if parts.outliers.is_some() {
            let query = &self.input[number * frame.dim..][..frame.dim];
            exact.clear();
            exact.extend(query.iter().map(|x| x * frame.scale));
        }
        let norm_sq = self.rows.norms_sq()[row];
        self.ranking.take(parts, row, norm_sq, params.nprobe, params.centroid_ratio, route);
        if let Some(first) = route.probes().first() {
            fetch_list(parts, first.list);
        }
        self.timers.lap(Piece::Rank);
        let mean_dot = match frame.metric {
            Metric::InnerProduct => {
                let query = &self.input[number * frame.dim..][..frame.dim];
                frame.scale * nonius_simd::dot_f32(query, &parts.mean)
            }
            Metric::L2 | Metric::Cosine => 0.0,
        };
        let loaded = &self.loaded;
        let confidence = params.confidence.min(MOST_CONFIDENCE);
        parts.codec.prepare(&self.rotated, loaded, row, query, mean_dot, confidence);
        self.timers.lap(Piece::Tables);
        best.reset(held(k, params).min(parts.count));
        route.arrange(may_stop(params));
        if parts.has_copies() {
            self.ranking.prepare_copies(parts, row, query.rotated.constant, route);
        }
        self.timers.lap(Piece::Rank);
    }

    /// Takes the first walk to its end.
    fn walk(&mut self, params: &SearchParams) {
        let Searcher { parts, walks, scanner, stats, timers, .. } = self;
        scanner.scan(parts, &mut walks[0], params.patience, stats, timers);
    }

    /// Leaves the results of query `number`, whose walk is over, in `self.found`.
    fn arrive(
        &mut self,
        number: usize,
        walk: usize,
        k: usize,
        params: &SearchParams,
    ) -> Result<(), SearchError> {
        let frame = self.parts.frame();
        if let Some(list) = self.walks[walk].damaged {
            return Err(SearchError::Damaged { list: list as usize, what: "codes" });
        }
        if params.rerank > 0 {
            self.rerank(number, walk, k)?;
        } else {
            self.found.clear();
            // Keys are those of the scaled vectors.
            let scale = frame.scale.recip();
            let best = self.walks[walk].best.sorted();
            self.found.extend(best.iter().map(|&(key, id, _)| Neighbor {
                id,
                distance: frame.metric.distance_of_key(key * scale * scale),
            }));
        }
        self.timers.lap(Piece::Rerank);
        Ok(())
    }

    /// Compares what the heap holds exactly, and leaves the best `k` in `self.found`.
    fn rerank(&mut self, number: usize, walk: usize, k: usize) -> Result<(), SearchError> {
        let parts = self.parts;
        let (dim, metric) = (parts.frame().dim, parts.frame().metric);
        let query = &self.input[number * dim..(number + 1) * dim];
        self.exact.reset(k);
        self.vector.resize(dim, 0.0);
        let row_bytes = dim * parts.keep.value_bytes();
        let best = self.walks[walk].best.sorted();
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
                parts.check_kept(position)?;
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

/// How many results a search holds.
pub(super) fn held(k: usize, params: &SearchParams) -> usize {
    if params.rerank > 0 { params.rerank.max(k) } else { k }
}

/// Bytes that each piece of a list is compared with: of a query's table, and of what copies need.
fn fetched(parts: &Parts) -> usize {
    let constants = if parts.has_copies() { 4 * parts.nlist } else { 0 };
    (parts.layout.table_bytes() + constants).max(1)
}

/// Whether queries had better go through the lists together.
fn go_together(parts: &Parts, rows: usize, params: &SearchParams) -> bool {
    let visits = rows.saturating_mul(params.nprobe.min(parts.nlist));
    rows > 1
        && visits / parts.nlist >= MEET.min(rows)
        && parts.scan.len() / parts.nlist >= LARGER * fetched(parts)
        && !may_stop(params)
}

/// True if a search may run out of patience, which goes by the order of the ranks.
fn may_stop(params: &SearchParams) -> bool {
    params.patience > 0 && params.patience < params.nprobe
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
        self.parts().container.check_length()?;
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
        parts.container.check_length()?;
        // Enough tasks for all threads to end at about the same time.
        let share = queries.rows().div_ceil(2 * rayon::current_num_threads());
        let most =
            TOGETHER.min(MOST_FETCHED / fetched(parts)).min(MOST_HELD / held(k, params).max(1));
        let task = share.clamp(1, most.max(1));
        let tasks: Vec<Result<_, SearchError>> = queries
            .data()
            .par_chunks(task * dim)
            .map_init(
                || Searcher { fetch, ..self.searcher() },
                |searcher, queries| {
                    searcher.reset_stats();
                    Ok((searcher.answer(queries, k, params)?, searcher.stats()))
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
