//! Answers a set of queries and measures how long each takes.

use std::time::Instant;

use nonius::{FetchVector, Index, Matrix, MatrixView, Metric, SearchParams, SearchStats};
use nonius_datasets::{IdMatrix, NO_ID};
use rayon::prelude::*;

use crate::gpu::{Gpu, OnGpu};
use crate::output::{Context, Failure};

/// The results of a set of queries, best first.
pub(crate) struct Answers {
    /// `queries x width` ids, [`NO_ID`] where fewer were found; `width` is `k`, or the number of
    /// vectors if that is smaller.
    pub(crate) ids: IdMatrix,
    /// `queries x width` distances; the worst finite number where fewer were found.
    pub(crate) distances: Vec<f32>,
    /// Wall-clock seconds of the whole.
    pub(crate) seconds: f64,
    /// Microseconds of each query, as its thread saw it.
    pub(crate) microseconds: Vec<f64>,
    /// What was read, summed.
    pub(crate) stats: SearchStats,
}

impl Answers {
    /// Queries a second.
    pub(crate) fn qps(&self) -> f64 {
        self.microseconds.len() as f64 / self.seconds.max(1e-9)
    }

    /// The mean of the queries' times in microseconds.
    pub(crate) fn mean_us(&self) -> f64 {
        self.microseconds.iter().sum::<f64>() / self.microseconds.len().max(1) as f64
    }

    /// The time in microseconds that 99% of the queries do not exceed.
    pub(crate) fn p99_us(&self) -> f64 {
        let mut sorted = self.microseconds.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let rank = (sorted.len() * 99).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    }
}

/// What answers queries: an index on the processor, or on a GPU.
pub(crate) struct Engine<'a> {
    index: &'a Index,
    fetch: Option<&'a dyn FetchVector>,
    gpu: Option<OnGpu<'a>>,
}

impl<'a> Engine<'a> {
    /// Uploads the index if there is a GPU. `fetch` is where vectors for rerank come from, if not from the
    /// index.
    pub(crate) fn new(
        index: &'a Index,
        gpu: Option<&'a Gpu>,
        fetch: Option<&'a dyn FetchVector>,
    ) -> Result<Engine<'a>, Failure> {
        let gpu = gpu.map(|gpu| gpu.upload(index)).transpose()?;
        Ok(Engine { index, fetch, gpu })
    }
}

/// Queries that go to a GPU in a call.
const ON_GPU: usize = 1024;

/// Searches for the `k` nearest neighbours of the first `count` queries, on the ambient pool; with one thread,
/// all queries go through one searcher. A GPU takes many queries a call, and each takes as long as its call.
pub(crate) fn answer(
    engine: &Engine<'_>,
    queries: &Matrix,
    count: usize,
    k: usize,
    params: &SearchParams,
) -> Result<Answers, Failure> {
    let &Engine { index, fetch, ref gpu } = engine;
    let count = count.min(queries.rows());
    let width = k.min(index.len()).max(1);
    let missing = if index.metric() == Metric::InnerProduct { f32::MIN } else { f32::MAX };
    let mut ids = vec![NO_ID; count * width];
    let mut distances = vec![missing; count * width];
    let mut microseconds = vec![0.0; count];

    let threads = rayon::current_num_threads();
    // Chunks small enough that no thread idles for long at the end.
    let chunk = if threads == 1 { count } else { count.div_ceil(8 * threads) }.max(1);
    let start = Instant::now();
    if let Some(gpu) = gpu {
        let mut stats = SearchStats::default();
        for first in (0..count).step_by(ON_GPU) {
            let rows = ON_GPU.min(count - first);
            let dim = queries.dim();
            let begin = Instant::now();
            let view = MatrixView::new(dim, &queries.data()[first * dim..(first + rows) * dim])
                .context("queries")?;
            let (found, done) = gpu.search(view, k, params)?;
            stats += done;
            let call = begin.elapsed().as_secs_f64() * 1e6;
            microseconds[first..first + rows].fill(call);
            for (row, found) in (first..).zip(found) {
                for (j, neighbor) in found.iter().take(width).enumerate() {
                    ids[row * width + j] = neighbor.id;
                    distances[row * width + j] = neighbor.distance;
                }
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        return Ok(Answers {
            ids: IdMatrix::new(width, ids),
            distances,
            seconds,
            microseconds,
            stats,
        });
    }
    let stats = ids
        .par_chunks_mut(chunk * width)
        .zip(distances.par_chunks_mut(chunk * width))
        .zip(microseconds.par_chunks_mut(chunk))
        .enumerate()
        .map(|(number, ((ids, distances), microseconds))| {
            let mut searcher = index.searcher();
            if let Some(fetch) = fetch {
                searcher = searcher.rerank_from(fetch);
            }
            for (i, microseconds) in microseconds.iter_mut().enumerate() {
                let row = number * chunk + i;
                let begin = Instant::now();
                let found = searcher
                    .search(queries.row(row), k, params)
                    .context(format_args!("query {row}"))?;
                *microseconds = begin.elapsed().as_secs_f64() * 1e6;
                for (j, neighbor) in found.iter().take(width).enumerate() {
                    ids[i * width + j] = neighbor.id;
                    distances[i * width + j] = neighbor.distance;
                }
            }
            Ok::<SearchStats, Failure>(searcher.stats())
        })
        .try_reduce(SearchStats::default, |mut sum, stats| {
            sum += stats;
            Ok(sum)
        })?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Answers { ids: IdMatrix::new(width, ids), distances, seconds, microseconds, stats })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_means_of_known_times() {
        let answers = Answers {
            ids: IdMatrix::new(1, vec![0; 200]),
            distances: vec![0.0; 200],
            seconds: 0.5,
            microseconds: (1..=200).rev().map(f64::from).collect(),
            stats: SearchStats::default(),
        };
        assert_eq!(answers.p99_us(), 198.0);
        assert_eq!(answers.mean_us(), 100.5);
        assert_eq!(answers.qps(), 400.0);
    }
}
