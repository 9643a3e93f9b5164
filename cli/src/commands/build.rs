//! `nonius build`: vectors in, an index file out.

use std::path::PathBuf;

use clap::Args;
use nonius::{BuildReport, Encoding, IndexBuilder, IndexConfig, Keep, Metric};
use serde::Serialize;

use crate::args::{Codebooks, GpuFlag, Quantizer, Threads, positive};
use crate::files::{load_user_ids, load_weights};
use crate::gpu;
use crate::output::{Failure, Output, Table};
use crate::progress::Bars;
use crate::report::{
    CodebookJson, MadeOf, PlanSegment, codebooks, human_bytes, peak_rss_bytes, plan,
};

/// Build an index file from a file of vectors, in bounded memory.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// File of vectors
    input: PathBuf,

    /// Index file to write
    #[arg(short, long, value_name = "INDEX")]
    output: PathBuf,

    /// How vectors are compared: l2, ip or cosine
    #[arg(long, default_value_t = Metric::L2)]
    metric: Metric,

    #[command(flatten)]
    quantizer: Quantizer,

    /// Lists to cluster the vectors into; 1 for a flat index [default: twice the square root of
    /// the number of vectors]
    #[arg(long, value_name = "N", value_parser = positive)]
    nlist: Option<usize>,

    /// Share of the vectors, the farthest from their centroid, to put into a second list as well:
    /// fewer lists and vectors to search for the same recall, for more bytes [from 0 to 1]
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    spill: f64,

    /// Vectors to keep beside the codes for exact rerank: f32, f16 or none
    #[arg(long, default_value_t = Keep::F16)]
    keep: Keep,

    /// Bytes a vector, on average, for vectors that are kept whole because their codes miss them by most
    #[arg(long, value_name = "BYTES", default_value_t = 0.0)]
    outlier_bytes: f64,

    /// Seed of everything random
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,

    /// Encode about 1.8 times as fast at 4 bits, for up to 4% more error
    #[arg(long)]
    fast: bool,

    /// The most vectors that a quantizer is trained on
    #[arg(long, value_name = "N", value_parser = positive,
        default_value_t = IndexConfig::default().training_rows)]
    training_rows: usize,

    #[command(flatten)]
    codebooks: Codebooks,

    /// How much each vector counts when the codebooks of pq, opq, rvq or prq are trained: a file of
    /// numbers from 0 on, one for each vector
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,

    /// The id of each vector, from .ivecs, .ibin or .npy [default: row numbers]
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,

    #[command(flatten)]
    gpu: GpuFlag,

    #[command(flatten)]
    pub(crate) threads: Threads,

    /// Write a report as JSON; - for stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct BuildJson {
    vectors: usize,
    dim: usize,
    metric: &'static str,
    quantizer: String,
    bits: f64,
    nlist: usize,
    spilled: u64,
    outliers: usize,
    keep: &'static str,
    bytes_per_vector: f64,
    file_bytes: u64,
    threads: usize,
    train_seconds: f64,
    encode_seconds: f64,
    total_seconds: f64,
    encode_vectors_per_second: f64,
    encoder_cpu_seconds: f64,
    by_device: u64,
    peak_rss_bytes: Option<u64>,
    inertia: Vec<f64>,
    plan: Vec<PlanSegment>,
    codebooks: Vec<CodebookJson>,
}

impl BuildArgs {
    /// The configuration that the flags describe together.
    pub(crate) fn config(&self) -> Result<IndexConfig, Failure> {
        let config = IndexConfig {
            metric: self.metric,
            quantizer: self.quantizer.spec()?,
            nlist: self.nlist,
            spill: self.spill,
            keep: self.keep,
            outlier_bytes: self.outlier_bytes,
            seed: self.seed,
            training_rows: self.training_rows,
            encoding: if self.fast { Encoding::Fast } else { Encoding::Full },
            anisotropic: self.codebooks.anisotropic,
            beam: self.codebooks.beam,
            ..IndexConfig::default()
        };
        config.validate().map_err(|error| Failure::usage(error.to_string()))?;
        Ok(config)
    }
}

pub(crate) fn run(args: &BuildArgs) -> Result<(), Failure> {
    let out = Output::new(&args.json);
    let config = args.config()?;
    let source = nonius_datasets::open(&args.input)?;
    let ids = match &args.ids {
        Some(path) => Some(load_user_ids(path, source.rows())?),
        None => None,
    };
    let weights = match &args.weights {
        Some(path) => Some(load_weights(path, source.rows())?),
        None => None,
    };
    let gpu = gpu::open(&args.gpu)?;
    let mut bars = Bars::catching_interrupts()?;
    let mut progress = |progress| bars.report(progress);
    let mut builder = IndexBuilder::new(&config).progress(&mut progress);
    if let Some(ids) = &ids {
        builder = builder.ids(ids);
    }
    if let Some(weights) = &weights {
        builder = builder.weights(weights);
    }
    if let Some(gpu) = &gpu {
        builder = builder.accelerator(gpu.accelerator());
    }
    let report = builder.write(&*source, &args.output)?;
    bars.clear();

    out.text(table(&report, config.keep, gpu.is_some()))?;
    out.json(&json(&report, config.keep))
}

fn per_second(count: usize, seconds: f64) -> f64 {
    count as f64 / seconds.max(1e-9)
}

fn table(report: &BuildReport, keep: Keep, by_gpu: bool) -> Table {
    let BuildReport { vectors, dim, metric, quantizer, nlist, .. } = report;
    let mut table = Table::facts();
    let mut row = |name: &str, value: String| table.row(vec![name.to_owned(), value]);
    row("vectors", format!("{vectors} x {dim}, {metric}"));
    row("quantizer", format!("{quantizer}, {nlist} lists"));
    if report.spilled > 0 {
        row("second lists", format!("{} vectors", report.spilled));
    }
    if report.outliers > 0 {
        row("outliers", format!("{} vectors, kept whole", report.outliers));
    }
    let name = if report.codebooks.is_empty() { "plan" } else { "codes" };
    row(name, MadeOf(&report.plan, &report.codebooks).to_string());
    row("bytes a vector", format!("{:.1} (f32: {})", report.bytes_per_vector, 4 * dim));
    row("file", format!("{}, kept vectors: {keep}", human_bytes(report.file_bytes)));
    row("training", format!("{:.2} s", report.train_seconds));
    let speed = per_second(*vectors, report.encode_seconds);
    row("encoding", format!("{:.2} s, {speed:.0} vectors a second", report.encode_seconds));
    if by_gpu {
        row("by the GPU", format!("{} codes", report.by_device));
    }
    row("total", format!("{:.2} s", report.total_seconds));
    if let Some(bytes) = peak_rss_bytes() {
        row("peak memory", human_bytes(bytes));
    }
    table
}

fn json(report: &BuildReport, keep: Keep) -> BuildJson {
    BuildJson {
        vectors: report.vectors,
        dim: report.dim,
        metric: report.metric.name(),
        quantizer: report.quantizer.to_string(),
        bits: report.quantizer.bits(report.dim),
        nlist: report.nlist,
        spilled: report.spilled,
        outliers: report.outliers,
        keep: keep.name(),
        bytes_per_vector: report.bytes_per_vector,
        file_bytes: report.file_bytes,
        threads: rayon::current_num_threads(),
        train_seconds: report.train_seconds,
        encode_seconds: report.encode_seconds,
        total_seconds: report.total_seconds,
        // The encoder's own rate: `encode_seconds` has assigning and writing in it too.
        encode_vectors_per_second: per_second(
            report.vectors * rayon::current_num_threads(),
            report.encoder_cpu_seconds,
        ),
        encoder_cpu_seconds: report.encoder_cpu_seconds,
        by_device: report.by_device,
        peak_rss_bytes: peak_rss_bytes(),
        inertia: report.inertia.clone(),
        plan: plan(&report.plan),
        codebooks: codebooks(&report.codebooks),
    }
}
