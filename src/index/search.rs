//! Searching: rank the centroids, scan lists in stages, rerank.

use half::f16;
use nonius_simd::{BLOCK, gemm_i16};
use rayon::prelude::*;

use super::Index;
use super::config::{Keep, SearchParams, SearchStats};
use super::door::prepare_query;
use super::format::{Kept, Parts};
use crate::error::{SearchError, SourceError, VectorError};
use crate::matrix::MatrixView;
use crate::metric::Metric;
use crate::quantizer::saq::{ListQuery, Query, QueryModel, SCAN_BLOCKS};
use crate::topk::{Neighbor, TopK};
use crate::train::RowsI16;

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
    input: Vec<f32>,
    rows: RowsI16,
    product: Vec<i32>,
    query: Query,
    list: ListQuery,
    centroids: Vec<(f32, u32)>,
    lower: Vec<f32>,
    /// Key, id and position of the best estimates.
    top: TopK<(f32, u64, usize)>,
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
            rows: RowsI16::new(),
            product: Vec::new(),
            query: Query::default(),
            list: ListQuery::default(),
            centroids: Vec::new(),
            lower: Vec::new(),
            top: TopK::default(),
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
        params.validate(k)?;
        let parts = self.parts;
        let model = &parts.model;
        if query.len() != model.dim {
            return Err(VectorError::DimMismatch { expected: model.dim, found: query.len() }.into());
        }
        if params.rerank > 0 && parts.keep == Keep::None && self.fetch.is_none() {
            return Err(SearchError::NothingKept);
        }
        self.input.clear();
        self.input.extend_from_slice(query);
        prepare_query(model.metric, &mut self.input)?;

        let mean_dot = self.rotate_query()?;
        let codes = QueryModel { model, layout: &parts.layout };
        codes.prepare(&mut self.query, mean_dot, params.confidence);
        self.rank_centroids(params.nprobe);

        let held = if params.rerank > 0 { params.rerank.max(k) } else { k };
        self.top.reset(held.min(parts.count));
        for probe in 0..self.centroids.len() {
            let list = self.centroids[probe].1 as usize;
            self.scan_list(codes, list);
        }
        if params.rerank > 0 {
            self.rerank(k)?;
        } else {
            self.found.clear();
            let metric = model.metric;
            // Keys are those of the scaled vectors.
            let scale = model.scale.recip();
            self.found.extend(self.top.sorted().iter().map(|&(key, id, _)| Neighbor {
                id,
                distance: metric.distance_of_key(key * scale * scale),
            }));
        }
        Ok(&self.found)
    }

    /// `self.input`, scaled, centred and rotated, into `self.query.values`. Returns its inner
    /// product with the mean.
    fn rotate_query(&mut self) -> Result<f32, SearchError> {
        let parts = self.parts;
        let scaled = parts.model.scaled(&self.input, &mut self.vector);
        let values = &mut self.query.values;
        parts.rotate(scaled, &mut self.rows, &mut self.product, values);
        if !self.rows.norms_sq()[0].is_finite() {
            return Err(VectorError::TooLarge { row: 0 }.into());
        }
        let mean_dot = nonius_simd::dot_f32(scaled, &parts.mean);
        Ok(mean_dot)
    }

    /// Leaves the nearest lists in `self.centroids`, nearest first.
    fn rank_centroids(&mut self, nprobe: usize) {
        let parts = self.parts;
        self.centroids.clear();
        if !parts.model.lists {
            self.centroids.push((0.0, 0));
            return;
        }
        self.rows.quantize(parts.model.dims, &self.query.values);
        let panels = parts.centroid_panels();
        self.product.resize(panels.padded_rows(), 0);
        gemm_i16(self.rows.values(), panels, &mut self.product);
        let scale = self.rows.inverse()[0];
        let alpha = parts.model.alpha();
        let weight = if parts.model.metric == Metric::InnerProduct { 0.0 } else { 1.0 };
        self.centroids.extend(
            parts.centroid_factors.as_chunks::<2>().0.iter().zip(&self.product).enumerate().map(
                |(list, (&[inverse, norm_sq], &dot))| {
                    (weight * norm_sq - alpha * (dot as f32) * (inverse * scale), list as u32)
                },
            ),
        );
        let order = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if nprobe < self.centroids.len() {
            self.centroids.select_nth_unstable_by(nprobe - 1, order);
            self.centroids.truncate(nprobe);
        }
        self.centroids.sort_unstable_by(order);
        self.stats.bytes_touched +=
            (parts.centroids_packed.len() * 2 + parts.centroid_factors.len() * 4) as u64;
    }

    fn scan_list(&mut self, codes: QueryModel<'_>, list: usize) {
        let parts = self.parts;
        let layout = &parts.layout;
        let (start, end) = (parts.list_table[list], parts.list_table[list + 1]);
        let (first, count) = (start.vector as usize, (end.vector - start.vector) as usize);
        if count == 0 {
            return;
        }
        codes.enter_list(&self.query, parts.centroid(list), &mut self.list);
        let size = layout.block_bytes();
        let blocks = &parts.scan[start.block as usize * size..end.block as usize * size];
        let rest = &parts.rest[first * layout.rest_bytes..(first + count) * layout.rest_bytes];
        let mut refined = 0;
        for (piece, blocks) in blocks.chunks(SCAN_BLOCKS * size).enumerate() {
            let base = piece * SCAN_BLOCKS * BLOCK;
            self.lower.resize(blocks.len() / size * BLOCK, 0.0);
            codes.lower_bounds(&mut self.query, &self.list, blocks, &mut self.lower);
            let present = (count - base).min(self.lower.len());
            let mut threshold = self.top.threshold();
            for (v, &lower) in self.lower[..present].iter().enumerate() {
                if lower > threshold {
                    continue;
                }
                let position = base + v;
                let key = codes.refine(
                    &self.query,
                    &self.list,
                    &blocks[v / BLOCK * size..(v / BLOCK + 1) * size],
                    v % BLOCK,
                    &rest[position * layout.rest_bytes..(position + 1) * layout.rest_bytes],
                );
                refined += 1;
                if key <= threshold {
                    let position = first + position;
                    self.top.offer((key, parts.id(position), position));
                    threshold = self.top.threshold();
                }
            }
        }
        self.stats.lists += 1;
        self.stats.scanned += count as u64;
        self.stats.refined += refined;
        self.stats.bytes_touched += blocks.len() as u64
            + (parts.model.dims * 4) as u64
            + refined * layout.rest_bytes as u64;
    }

    /// Compares what the heap holds exactly, and leaves the best `k` in `self.found`.
    fn rerank(&mut self, k: usize) -> Result<(), SearchError> {
        let parts = self.parts;
        let (dim, metric) = (parts.model.dim, parts.model.metric);
        self.exact.reset(k);
        self.vector.resize(dim, 0.0);
        let row_bytes = dim * parts.keep.value_bytes();
        for &(_, id, position) in self.top.sorted() {
            let key = if let Some(fetch) = self.fetch {
                let unfit = |found: String| SearchError::RerankVectors {
                    expected: format!("vector {id}"),
                    found,
                };
                fetch.fetch(id, &mut self.vector).map_err(|error| unfit(error.to_string()))?;
                prepare_query(metric, &mut self.vector)
                    .map_err(|error| unfit(error.to_string()))?;
                key_f32(metric, &self.input, &self.vector)
            } else {
                let row = position * dim..(position + 1) * dim;
                match &parts.kept {
                    Kept::F16(kept) => key_f16(metric, &self.input, &kept[row]),
                    Kept::F32(kept) => key_f32(metric, &self.input, &kept[row]),
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
        const TASK: usize = 16;
        let dim = queries.dim();
        let tasks: Vec<Result<_, SearchError>> = queries
            .data()
            .par_chunks(TASK * dim)
            .map_init(
                || Searcher { fetch, ..self.searcher() },
                |searcher, queries| {
                    searcher.reset_stats();
                    let mut found = Vec::with_capacity(TASK);
                    for query in queries.chunks_exact(dim) {
                        found.push(searcher.search(query, k, params)?.to_vec());
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
