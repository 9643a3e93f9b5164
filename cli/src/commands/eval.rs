//! `nonius eval`: recall, speed and bytes touched against ground truth.

use std::path::PathBuf;

use clap::Args;
use nonius::{FetchVector, Matrix, SearchParams};
use nonius_datasets::{IdMatrix, recall};
use serde::Serialize;

use crate::answer::{Answers, Engine, answer};
use crate::args::{SearchFlags, Threads, positive};
use crate::files::{RowStore, is_hdf5, load_queries, load_truth, open_to_search};
use crate::gpu;
use crate::harness::Harness;
use crate::output::{Failure, Output, Table};
use crate::progress::Bars;
use crate::report::{PlanSegment, plan};

/// Measure recall, speed and bytes touched of an index against ground truth.
///
/// Recall is the share of the true k neighbours that were found. Where the truth is an HDF5 file of ann-benchmarks
/// or VIBE with `train`, `distances` and a known metric, recall by distance is shown as well, as these define it: the
/// share found that is no farther than the true k-th. QPS is by the wall clock over
/// all queries, after a warm-up with the first hundred; mean and 99th percentile are the times of
/// single queries, which on several threads disturb one another.
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Index file
    index: PathBuf,

    /// File of queries; of an HDF5 file the dataset `test`
    queries: PathBuf,

    /// True neighbours, a row a query: .ivecs, .ibin or .npy. May be left out for an HDF5 file of
    /// queries, which holds them as `neighbors`
    truth: Option<PathBuf>,

    /// Neighbours a query
    #[arg(short, default_value_t = 10, value_parser = positive)]
    k: usize,

    /// Lists to search; several are measured in turn [default: 1,2,4,... and all]
    #[arg(long, value_name = "P,P,...", value_delimiter = ',', value_parser = positive)]
    nprobe: Vec<usize>,

    /// How many of the best estimates to compare exactly, 0 for none; several are measured in
    /// turn
    #[arg(long, value_name = "R,R,...", value_delimiter = ',', default_value = "0")]
    rerank: Vec<usize>,

    #[command(flatten)]
    flags: SearchFlags,

    /// Measure each setting so many times and report the median of the times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    repeat: usize,

    #[command(flatten)]
    pub(crate) threads: Threads,

    /// Write a report as JSON; - for stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What a setting of a search achieves.
#[derive(Debug, Serialize)]
pub(crate) struct EvalRow {
    pub(crate) nprobe: usize,
    pub(crate) rerank: usize,
    pub(crate) recall: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recall_by_distance: Option<f64>,
    pub(crate) qps: f64,
    pub(crate) mean_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) bytes_touched_per_query: f64,
    pub(crate) lists_per_query: f64,
    pub(crate) scanned_per_query: f64,
    pub(crate) refined_per_query: f64,
    pub(crate) reranked_per_query: f64,
}

#[derive(Debug, Serialize)]
struct EvalJson {
    vectors: usize,
    dim: usize,
    metric: &'static str,
    quantizer: String,
    nlist: usize,
    bytes_per_vector: f64,
    plan: Vec<PlanSegment>,
    threads: usize,
    queries: usize,
    k: usize,
    repeat: usize,
    rows: Vec<EvalRow>,
}

pub(crate) fn run(args: &EvalArgs) -> Result<(), Failure> {
    let out = Output::new(&args.json);
    let truth_path = match &args.truth {
        Some(path) => path,
        None if is_hdf5(&args.queries) => &args.queries,
        None => {
            return Err(Failure::usage(
                "the file of true neighbours is missing: nonius eval INDEX QUERIES TRUTH",
            ));
        }
    };
    let index = open_to_search(&args.index, &args.flags)?;
    let queries = load_queries(&args.queries, index.dim())?;
    let truth = load_truth(truth_path, queries.rows())?;
    if truth.k() < args.k.min(index.len()) {
        return Err(Failure::failed(format!(
            "{}: expected at least k = {} true neighbours a query, found {}",
            truth_path.display(),
            args.k,
            truth.k()
        )));
    }
    let harness = Harness::open(truth_path, &queries, args.k)?;
    let store = match &args.flags.rerank_from {
        Some(path) => Some(RowStore::open(path, &index)?),
        None => None,
    };
    let fetch = store.as_ref().map(|store| store as &dyn FetchVector);
    let gpu = gpu::open_to_search(&args.flags)?;
    let engine = Engine::new(&index, gpu.as_ref(), fetch)?;
    let nprobes =
        if args.nprobe.is_empty() { powers_of_two(index.nlist()) } else { args.nprobe.clone() };

    let mut bars = Bars::new();
    let settings = nprobes.len() * args.rerank.len();
    let mut rows = Vec::with_capacity(settings);
    for &rerank in &args.rerank {
        for &nprobe in &nprobes {
            let _ = bars.show("searching", rows.len() as u64, settings as u64);
            let params = args.flags.params(nprobe, rerank);
            let truth = Truth { ids: &truth, harness: harness.as_ref() };
            rows.push(measure(&engine, &queries, truth, args.k, &params, args.repeat)?);
        }
    }
    bars.clear();

    let info = index.info();
    out.text(table(&rows, args.k))?;
    out.json(&EvalJson {
        vectors: info.vectors,
        dim: info.dim,
        metric: info.metric.name(),
        quantizer: info.quantizer.to_string(),
        nlist: info.nlist,
        bytes_per_vector: info.bytes_per_vector,
        plan: plan(&info.plan),
        threads: rayon::current_num_threads(),
        queries: queries.rows(),
        k: args.k,
        repeat: args.repeat,
        rows,
    })
}

/// 1, 2, 4, ... below `nlist`, then `nlist`.
pub(crate) fn powers_of_two(nlist: usize) -> Vec<usize> {
    let mut nprobes: Vec<usize> = std::iter::successors(Some(1usize), |n| n.checked_mul(2))
        .take_while(|&n| n < nlist)
        .collect();
    nprobes.push(nlist);
    nprobes
}

/// Queries that warm up caches and pages before a measurement.
const WARM_UP: usize = 100;

/// What results are compared with.
#[derive(Clone, Copy)]
pub(crate) struct Truth<'a> {
    pub(crate) ids: &'a IdMatrix,
    pub(crate) harness: Option<&'a Harness>,
}

/// Measures a setting `repeat` times; times are medians.
pub(crate) fn measure(
    engine: &Engine<'_>,
    queries: &Matrix,
    truth: Truth<'_>,
    k: usize,
    params: &SearchParams,
    repeat: usize,
) -> Result<EvalRow, Failure> {
    answer(engine, queries, WARM_UP, k, params)?;
    let runs = (0..repeat)
        .map(|_| answer(engine, queries, queries.rows(), k, params))
        .collect::<Result<Vec<Answers>, Failure>>()?;
    let median = |of: fn(&Answers) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        values[values.len() / 2]
    };
    // Every run finds the same.
    let Answers { ids, stats, .. } = &runs[0];
    let harness = truth.harness.map(|harness| harness.recall(queries, ids, k)).transpose()?;
    let per_query = |count: u64| count as f64 / queries.rows() as f64;
    Ok(EvalRow {
        nprobe: params.nprobe,
        rerank: params.rerank,
        recall: recall(truth.ids, ids, k, k),
        recall_by_distance: harness,
        qps: median(Answers::qps),
        mean_us: median(Answers::mean_us),
        p99_us: median(Answers::p99_us),
        bytes_touched_per_query: per_query(stats.bytes_touched),
        lists_per_query: per_query(stats.lists),
        scanned_per_query: per_query(stats.scanned),
        refined_per_query: per_query(stats.refined),
        reranked_per_query: per_query(stats.reranked),
    })
}

/// The rows as a table for people.
pub(crate) fn table(rows: &[EvalRow], k: usize) -> Table {
    let recall = format!("recall@{k}");
    let by_distance = rows.iter().any(|row| row.recall_by_distance.is_some());
    let mut header = vec!["nprobe", "rerank", &recall];
    if by_distance {
        header.push("by distance");
    }
    header.extend(["QPS", "mean us", "p99 us", "bytes/query"]);
    let mut table = Table::new(&header);
    for row in rows {
        let mut cells =
            vec![row.nprobe.to_string(), row.rerank.to_string(), format!("{:.4}", row.recall)];
        if by_distance {
            cells.push(format!("{:.4}", row.recall_by_distance.unwrap_or_default()));
        }
        cells.extend([
            format!("{:.0}", row.qps),
            format!("{:.1}", row.mean_us),
            format!("{:.1}", row.p99_us),
            format!("{:.0}", row.bytes_touched_per_query),
        ]);
        table.row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_end_with_all_lists() {
        assert_eq!(powers_of_two(1), [1]);
        assert_eq!(powers_of_two(8), [1, 2, 4, 8]);
        assert_eq!(powers_of_two(11), [1, 2, 4, 8, 11]);
    }
}
