//! Answers a set of queries and measures how long each takes.

use std::time::Instant;

use nonius::{FetchVector, Index, Matrix, Metric, SearchParams, SearchStats};
use nonius_datasets::{IdMatrix, NO_ID};
use rayon::prelude::*;

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

/// Searches `index` for the `k` nearest neighbours of the first `count` queries, on the ambient
/// pool; with one thread, all queries go through one searcher.
pub(crate) fn answer(
    index: &Index,
    queries: &Matrix,
    count: usize,
    k: usize,
    params: &SearchParams,
    fetch: Option<&dyn FetchVector>,
) -> Result<Answers, Failure> {
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
