//! `nonius search`: queries in, ids (and distances) out.

use std::path::PathBuf;

use clap::Args;
use nonius::{FetchVector, SearchParams};
use serde::Serialize;

use crate::answer::{Engine, answer};
use crate::args::{SearchFlags, Threads, positive};
use crate::files::{RowStore, id_format, load_queries, open_to_search, write_distances, write_ids};
use crate::gpu;
use crate::output::{Failure, Output, Table};

/// Search an index for the nearest neighbours of each query.
#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// Index file
    index: PathBuf,

    /// File of queries; of an HDF5 file the dataset `test`
    queries: PathBuf,

    /// Neighbours a query
    #[arg(short, default_value_t = 10, value_parser = positive)]
    k: usize,

    /// Lists to search, nearest centroid first
    #[arg(long, value_name = "P", default_value_t = SearchParams::default().nprobe,
        value_parser = positive)]
    nprobe: usize,

    /// How many of the best estimates to compare exactly; 0 for none
    #[arg(long, value_name = "R", default_value_t = 0)]
    rerank: usize,

    #[command(flatten)]
    flags: SearchFlags,

    /// Ask the system to read codes, factors and ids into memory before the first query, instead of
    /// a page at a time
    #[arg(long)]
    warm: bool,

    /// Ids to write, a row a query, -1 where there is none: .ivecs or .npy
    #[arg(short, long, value_name = "RESULT")]
    output: PathBuf,

    /// Distances to write, in the same order: .fvecs, .fbin or .npy. Where there is no neighbour
    /// stands the worst finite number
    #[arg(long, value_name = "FILE")]
    distances: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) threads: Threads,

    /// Write a report as JSON; - for stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct SearchJson {
    queries: usize,
    k: usize,
    nprobe: usize,
    rerank: usize,
    threads: usize,
    seconds: f64,
    qps: f64,
    mean_us: f64,
    p99_us: f64,
    bytes_touched_per_query: f64,
}

pub(crate) fn run(args: &SearchArgs) -> Result<(), Failure> {
    let out = Output::new(&args.json);
    let format = id_format(&args.output)?;
    let index = open_to_search(&args.index, &args.flags)?;
    if args.warm {
        index.warm();
    }
    let queries = load_queries(&args.queries, index.dim())?;
    let store = match &args.flags.rerank_from {
        Some(path) => Some(RowStore::open(path, &index)?),
        None => None,
    };
    let fetch = store.as_ref().map(|store| store as &dyn FetchVector);
    let params = args.flags.params(args.nprobe, args.rerank);
    let gpu = gpu::open_to_search(&args.flags)?;
    let engine = Engine::new(&index, gpu.as_ref(), fetch)?;
    let answers = answer(&engine, &queries, queries.rows(), args.k, &params)?;
    write_ids(&args.output, format, &answers.ids)?;
    if let Some(path) = &args.distances {
        write_distances(path, answers.ids.k(), &answers.distances)?;
    }

    let report = SearchJson {
        queries: queries.rows(),
        k: args.k,
        nprobe: args.nprobe,
        rerank: args.rerank,
        threads: rayon::current_num_threads(),
        seconds: answers.seconds,
        qps: answers.qps(),
        mean_us: answers.mean_us(),
        p99_us: answers.p99_us(),
        bytes_touched_per_query: answers.stats.bytes_touched as f64 / queries.rows() as f64,
    };
    let mut table =
        Table::new(&["queries", "k", "nprobe", "rerank", "threads", "seconds", "QPS", "mean us"]);
    table.row(vec![
        report.queries.to_string(),
        report.k.to_string(),
        report.nprobe.to_string(),
        report.rerank.to_string(),
        report.threads.to_string(),
        format!("{:.3}", report.seconds),
        format!("{:.0}", report.qps),
        format!("{:.1}", report.mean_us),
    ]);
    out.text(table)?;
    out.json(&report)
}
