//! `nonius quality`: how well quantizers preserve distances, without an index in the way.

use std::path::PathBuf;

use clap::Args;
use nonius::{Encoding, IndexConfig, Metric, QualityRow, QuantizerSpec};
use nonius_datasets::{exact_neighbors, read_matrix};
use serde::Serialize;

use crate::args::{Codebooks, Threads, positive};
use crate::chart;
use crate::files::{Head, load_queries, load_truth};
use crate::output::{Context, Failure, Output, Table};
use crate::progress::Bars;
use crate::report::{CodebookJson, MadeOf, PlanSegment, codebooks, plan};

/// Measure the error of quantizers' estimates and the recall of a flat scan by them.
///
/// Errors are means of |estimate - true| / true squared distance: err_nn over each query's 100
/// true neighbours (bias_nn with its sign), err_random over 500 random vectors a query. Residuals
/// are taken to the global mean, or with --nlist N to the nearest of N centroids.
#[derive(Debug, Args)]
pub(crate) struct QualityArgs {
    /// File of vectors
    input: PathBuf,

    /// File of queries; of an HDF5 file the dataset `test`
    queries: PathBuf,

    /// How vectors are compared: l2, ip or cosine
    #[arg(long, default_value_t = Metric::L2)]
    metric: Metric,

    /// Quantizers, such as saq:1,saq:48B,pq:16B,opq:16B,rvq:24B,prq:4x24B,sq:8,lvq:4x4,f16,rabitq
    #[arg(
        long,
        value_name = "Q,Q,...",
        value_delimiter = ',',
        default_value = "saq:1,saq:2,saq:4,saq:8"
    )]
    quantizers: Vec<QuantizerSpec>,

    /// Take residuals to the nearest of N centroids
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    nlist: usize,

    /// True neighbours, a row a query [default: computed]
    #[arg(long, value_name = "FILE", conflicts_with = "max_base")]
    truth: Option<PathBuf>,

    /// Use only the first N vectors
    #[arg(long, value_name = "N", value_parser = positive)]
    max_base: Option<usize>,

    /// Bytes a vector, on average, for vectors that are kept whole because their codes miss them by most
    #[arg(long, value_name = "BYTES", default_value_t = 0.0)]
    outlier_bytes: f64,

    /// Seed of everything random
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,

    /// Encode about 1.8 times as fast at 4 bits, for up to 4% more error
    #[arg(long)]
    fast: bool,

    #[command(flatten)]
    codebooks: Codebooks,

    #[command(flatten)]
    pub(crate) threads: Threads,

    /// Write a report as JSON; - for stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Draw error and recall against bytes, a curve for each kind of quantizer, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct QualityJson {
    vectors: usize,
    dim: usize,
    queries: usize,
    metric: &'static str,
    nlist: usize,
    threads: usize,
    rows: Vec<RowJson>,
}

#[derive(Debug, Serialize)]
struct RowJson {
    quantizer: String,
    bits: f64,
    bytes_per_vector: f64,
    err_nn: f64,
    err_random: f64,
    bias_nn: f64,
    recall_at_10: f64,
    recall_10_at_100: f64,
    encode_vectors_per_second: f64,
    train_seconds: f64,
    plan: Vec<PlanSegment>,
    codebooks: Vec<CodebookJson>,
}

/// True neighbours a query over which errors are measured.
const TRUTH_K: usize = 100;

pub(crate) fn run(args: &QualityArgs) -> Result<(), Failure> {
    let out = Output::new(&args.json);
    let mut bars = Bars::new();
    let source = nonius_datasets::open(&args.input)?;
    let queries = load_queries(&args.queries, source.dim())?;
    let base = match args.max_base {
        Some(rows) => read_matrix(&Head::new(&*source, rows))?,
        None => read_matrix(&*source)?,
    };
    let truth = match &args.truth {
        Some(path) => load_truth(path, queries.rows())?,
        None => {
            let mut show = |done, total| bars.show("true neighbours", done, total);
            exact_neighbors(&base, queries.view(), TRUTH_K, args.metric, &mut show)?.ids
        }
    };
    let ids = truth
        .ids()
        .iter()
        .map(|&id| match u32::try_from(id) {
            Ok(row) if (row as usize) < base.rows() => Ok(row),
            _ => Err(Failure::failed(format!(
                "true neighbours: expected row numbers below {}, found {id}",
                base.rows()
            ))),
        })
        .collect::<Result<Vec<u32>, Failure>>()?;

    let mut rows = Vec::with_capacity(args.quantizers.len());
    for (done, &quantizer) in args.quantizers.iter().enumerate() {
        let _ = bars.show("quantizers", done as u64, args.quantizers.len() as u64);
        let config = IndexConfig {
            metric: args.metric,
            quantizer,
            nlist: Some(args.nlist),
            outlier_bytes: args.outlier_bytes,
            seed: args.seed,
            encoding: if args.fast { Encoding::Fast } else { Encoding::Full },
            anisotropic: args.codebooks.anisotropic,
            beam: args.codebooks.beam,
            ..IndexConfig::default()
        };
        rows.push(nonius::quality(&base, &queries, &ids, truth.k(), &config)?);
    }
    bars.clear();

    out.text(table(&rows))?;
    out.json(&QualityJson {
        vectors: base.rows(),
        dim: base.dim(),
        queries: queries.rows(),
        metric: args.metric.name(),
        nlist: args.nlist,
        threads: rayon::current_num_threads(),
        rows: rows.iter().map(row_json).collect(),
    })?;
    if let Some(path) = &args.svg {
        std::fs::write(path, chart::quality(&rows)?).context(path.display())?;
    }
    Ok(())
}

fn table(rows: &[QualityRow]) -> Table {
    let mut table = Table::new(&[
        "quantizer",
        "bytes",
        "err_nn",
        "err_random",
        "bias_nn",
        "recall@10",
        "recall 10@100",
        "trained s",
        "encoded/s",
        "codes",
    ]);
    for row in rows {
        table.row(vec![
            row.quantizer.clone(),
            format!("{:.1}", row.bytes_per_vector),
            format!("{:.5}", row.err_nn),
            format!("{:.5}", row.err_random),
            format!("{:.5}", row.bias_nn),
            format!("{:.4}", row.recall_at_10),
            format!("{:.4}", row.recall_10_at_100),
            format!("{:.1}", row.train_seconds),
            format!("{:.0}", row.encode_vectors_per_second),
            MadeOf(&row.plan, &row.codebooks).to_string(),
        ]);
    }
    table
}

fn row_json(row: &QualityRow) -> RowJson {
    RowJson {
        quantizer: row.quantizer.clone(),
        bits: row.bits,
        bytes_per_vector: row.bytes_per_vector,
        err_nn: row.err_nn,
        err_random: row.err_random,
        bias_nn: row.bias_nn,
        recall_at_10: row.recall_at_10,
        recall_10_at_100: row.recall_10_at_100,
        encode_vectors_per_second: row.encode_vectors_per_second,
        train_seconds: row.train_seconds,
        plan: plan(&row.plan),
        codebooks: codebooks(&row.codebooks),
    }
}
