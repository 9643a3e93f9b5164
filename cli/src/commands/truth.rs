//! `nonius truth`: exact neighbours.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use nonius::Metric;
use nonius_datasets::exact_neighbors;

use crate::args::{Threads, positive};
use crate::files::{id_format, load_queries, write_distances, write_ids};
use crate::output::{Failure, Output};
use crate::progress::Bars;

/// Compute the exact nearest neighbours of each query.
#[derive(Debug, Args)]
pub(crate) struct TruthArgs {
    /// File of vectors
    input: PathBuf,

    /// File of queries; of an HDF5 file the dataset `test`
    queries: PathBuf,

    /// Neighbours a query
    #[arg(short, default_value_t = 100, value_parser = positive)]
    k: usize,

    /// How vectors are compared: l2, ip or cosine
    #[arg(long, default_value_t = Metric::L2)]
    metric: Metric,

    /// Row numbers to write, a row a query, best first: .ivecs or .npy
    #[arg(short, long, value_name = "TRUTH")]
    output: PathBuf,

    /// Distances to write, in the same order: .fvecs, .fbin or .npy
    #[arg(long, value_name = "FILE")]
    distances: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) threads: Threads,
}

pub(crate) fn run(args: &TruthArgs) -> Result<(), Failure> {
    let format = id_format(&args.output)?;
    let source = nonius_datasets::open(&args.input)?;
    let queries = load_queries(&args.queries, source.dim())?;
    let mut bars = Bars::new();
    let start = Instant::now();
    let mut show = |done, total| bars.show("comparing", done, total);
    let truth = exact_neighbors(&*source, queries.view(), args.k, args.metric, &mut show)?;
    bars.clear();
    write_ids(&args.output, format, &truth.ids)?;
    if let Some(path) = &args.distances {
        let distances: Vec<f32> = truth.distances.iter().map(|&distance| distance as f32).collect();
        write_distances(path, truth.ids.k(), &distances)?;
    }
    Output::new(&None).text(format_args!(
        "{} neighbours for each of {} queries among {} vectors in {:.2} s",
        truth.ids.k(),
        queries.rows(),
        source.rows(),
        start.elapsed().as_secs_f64()
    ))
}
