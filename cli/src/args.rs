//! The command line: the list of subcommands and the flags that several of them share.

use clap::{Args, Parser, Subcommand};
use nonius::{QuantizerSpec, SearchParams};

use crate::commands::{build, convert, demo, eval, gpus, info, quality, search, truth, verify};
use crate::output::Failure;

/// Nearest-neighbour search over compressed vectors in memory-mapped index files.
///
/// Vector files: .fvecs .bvecs .fbin .u8bin .i8bin .npy, and where the tool was built with them
/// .hdf5 (FILE.hdf5:NAME picks a dataset), .parquet and .arrow (FILE.parquet:COLUMN).
#[derive(Debug, Parser)]
#[command(name = "nonius", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::DemoArgs),
    Build(build::BuildArgs),
    Search(search::SearchArgs),
    Eval(eval::EvalArgs),
    Quality(quality::QualityArgs),
    Truth(truth::TruthArgs),
    Info(info::InfoArgs),
    Verify(verify::VerifyArgs),
    Convert(convert::ConvertArgs),
    Gpus(gpus::GpusArgs),
}

/// The most threads that `--threads` takes: beyond it a typing error is likelier than a machine.
const MAX_THREADS: usize = 4096;

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Threads {
    /// Threads to work with [default: all processors]
    #[arg(long, value_name = "T", value_parser = threads)]
    threads: Option<usize>,
}

impl Threads {
    /// Runs `work` on a pool of as many threads as were asked for.
    pub(crate) fn run(
        self,
        work: impl FnOnce() -> Result<(), Failure> + Send,
    ) -> Result<(), Failure> {
        let mut pool = rayon::ThreadPoolBuilder::new();
        if let Some(threads) = self.threads {
            pool = pool.num_threads(threads);
        }
        let pool = pool.build().map_err(|error| Failure::new("starting the threads", &error))?;
        pool.install(work)
    }
}

/// How vectors are compressed; shared by the commands that build.
#[derive(Clone, Debug, Args)]
pub(crate) struct Quantizer {
    /// Quantizer: saq, pq, opq, rvq, sq, lvq, rabitq, erabitq, f16, bf16 or f32, or with its bits in
    /// one word: saq:4, saq:0.5, saq:48B (bytes), pq:16B, pq4:16B (4 bits a codebook, or 1 to 12), opq:16B,
    /// rvq:24B, prq:4x24B (4 parts), sq:8, lvq:8, lvq:4x4 (two levels), erabitq:4
    #[arg(long, value_name = "NAME", default_value = "saq")]
    quantizer: String,

    /// Average bits of a dimension, fractions allowed [default: 4]
    #[arg(long, value_name = "B", conflicts_with = "bytes")]
    bits: Option<f64>,

    /// Bytes of a vector, codes and factors, instead of --bits
    #[arg(long, value_name = "N")]
    bytes: Option<usize>,
}

/// How codebooks are trained; shared by the commands that build.
#[derive(Clone, Debug, Args)]
pub(crate) struct Codebooks {
    /// For ip and cosine with pq, opq, rvq or prq: codes leave less along a vector than across it,
    /// where inner products above this share of the norms matter [between 0 and 1; 0.1 suits
    /// embeddings]
    #[arg(long, value_name = "SHARE")]
    pub(crate) anisotropic: Option<f32>,

    /// For rvq and prq: sums of centroids that the search for a code keeps after every level
    /// [1 to 64; default: 5, with --fast 3]
    #[arg(long, value_name = "N")]
    pub(crate) beam: Option<usize>,
}

impl Quantizer {
    /// The quantizer that the flags describe together.
    pub(crate) fn spec(&self) -> Result<QuantizerSpec, Failure> {
        let name = &self.quantizer;
        let text = match (self.bits, self.bytes) {
            (None, None) => name.clone(),
            (Some(_), _) | (_, Some(_)) if name.contains(':') => {
                return Err(Failure::usage(format!(
                    "--quantizer {name} names its bits already; leave --bits and --bytes out"
                )));
            }
            (Some(bits), _) => format!("{name}:{bits}"),
            (None, Some(bytes)) => format!("{name}:{bytes}B"),
        };
        text.parse().map_err(|error| Failure::usage(format!("{error}")))
    }
}

/// Flags of a search beside `k` and `nprobe`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SearchFlags {
    /// Standard deviations of its error that an estimate may be off before a candidate is given
    /// up
    #[arg(long, value_name = "S", default_value_t = SearchParams::default().confidence,
        value_parser = at_least(0.0))]
    pub(crate) confidence: f32,

    /// Stop when so many lists in a row have brought nothing among the best so far; 0 for never
    #[arg(long, value_name = "LISTS", default_value_t = 0)]
    pub(crate) patience: usize,

    /// Of the `nprobe` lists, leave out those more than this many times as far from the query as the ten nearest are
    /// on average: 1.05 to 1.15, with an `nprobe` three to five times as large as otherwise
    #[arg(long, value_name = "RATIO", value_parser = at_least(1.0))]
    pub(crate) centroid_ratio: Option<f32>,

    /// Read the index into memory of this process instead of mapping its file: it opens later, and after
    /// that searches jump through it faster, where the system has huge pages
    #[arg(long)]
    pub(crate) into_memory: bool,

    #[command(flatten)]
    pub(crate) gpu: GpuFlag,

    /// The most MiB of codes to hold on the GPU; of a larger index each batch of queries sends what it
    /// searches
    #[arg(long, value_name = "MIB", requires = "name")]
    pub(crate) gpu_memory: Option<u64>,

    /// Rerank with the vectors of this file, by row number = id, instead of those that the index
    /// keeps
    #[arg(long, value_name = "FILE")]
    pub(crate) rerank_from: Option<std::path::PathBuf>,
}

/// Which GPU does the work.
#[derive(Clone, Debug, Args)]
pub(crate) struct GpuFlag {
    /// Use a GPU: the one whose name contains NAME, or the best one. Needs a tool built with the feature `gpu`
    #[arg(long = "gpu", value_name = "NAME", num_args = 0..=1, require_equals = true)]
    pub(crate) name: Option<Option<String>>,
}

impl SearchFlags {
    /// The parameters of a search.
    pub(crate) fn params(&self, nprobe: usize, rerank: usize) -> SearchParams {
        SearchParams {
            nprobe,
            rerank,
            confidence: self.confidence,
            patience: self.patience,
            centroid_ratio: self.centroid_ratio,
        }
    }
}

/// Parses a whole number of at least 1.
pub(crate) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("expected a whole number from 1 on".to_owned()),
    }
}

fn threads(text: &str) -> Result<usize, String> {
    match positive(text)? {
        threads if threads <= MAX_THREADS => Ok(threads),
        _ => Err(format!("expected at most {MAX_THREADS}")),
    }
}

/// A parser of finite numbers from `least` on.
fn at_least(least: f32) -> impl Fn(&str) -> Result<f32, String> + Clone + Send + Sync + 'static {
    move |text| match text.parse::<f32>() {
        Ok(number) if number >= least && number.is_finite() => Ok(number),
        _ => Err(format!("expected a finite number from {least} on")),
    }
}

/// Refuses a `NONIUS_SIMD` that names no level of this processor, on which the library would
/// panic.
pub(crate) fn check_simd_level() -> Result<(), Failure> {
    match std::env::var("NONIUS_SIMD") {
        Ok(name) if !name.is_empty() => {
            let level: nonius_simd::Level =
                name.parse().map_err(|error| Failure::usage(format!("NONIUS_SIMD: {error}")))?;
            if level.is_available() {
                Ok(())
            } else {
                Err(Failure::usage(format!("NONIUS_SIMD: this processor has no {level}")))
            }
        }
        _ => Ok(()),
    }
}
