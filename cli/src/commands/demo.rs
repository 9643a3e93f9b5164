//! `nonius demo`: the whole way on the real vectors that come with the repository.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use nonius::{Index, IndexBuilder, IndexConfig, Keep, Metric, QuantizerSpec, SearchParams};
use nonius_datasets::{Shipped, wordnet_dir};
use serde::Serialize;

use super::eval::{EvalRow, Truth, measure, powers_of_two, table};
use crate::answer::Engine;
use crate::args::Threads;
use crate::output::{Context, Failure, Output};
use crate::progress::Bars;
use crate::report::{PlanSegment, PlanText, human_bytes, peak_rss_bytes, plan};

/// Build, map and search an index of the real vectors that come with the repository.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder of the shipped set [default: the one in the clone that the tool was built from]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) threads: Threads,

    /// Write a report as JSON; - for stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct DemoJson {
    dataset: &'static str,
    vectors: usize,
    dim: usize,
    queries: usize,
    metric: &'static str,
    quantizer: String,
    bits: f64,
    nlist: usize,
    plan: Vec<PlanSegment>,
    bytes_per_vector: f64,
    f32_bytes_per_vector: usize,
    keep: &'static str,
    file_bytes: u64,
    threads: usize,
    train_seconds: f64,
    encode_seconds: f64,
    build_seconds: f64,
    open_ms: f64,
    peak_rss_bytes: Option<u64>,
    k: usize,
    rows: Vec<EvalRow>,
    examples: Vec<ExampleJson>,
    total_seconds: f64,
}

#[derive(Debug, Serialize)]
struct ExampleJson {
    query: String,
    neighbors: Vec<NeighborJson>,
}

#[derive(Debug, Serialize)]
struct NeighborJson {
    id: u64,
    distance: f32,
    text: String,
}

/// What to do when the set cannot be loaded.
const MISSING: &str = "the shipped vectors are missing or damaged; run the demo from a clone of \
                       the repository, or name their folder with --data";
/// Neighbours a query.
const K: usize = 10;
/// Estimates compared exactly in the second half of the table.
const RERANK: usize = 100;
/// The queries whose neighbours are shown as text.
const EXAMPLES: [usize; 3] = [150, 210, 324];
/// Characters of a text that are shown.
const SHOWN: usize = 96;

pub(crate) fn run(args: &DemoArgs) -> Result<(), Failure> {
    let start = Instant::now();
    let out = Output::new(&args.json);
    let folder = args.data.clone().unwrap_or_else(wordnet_dir);
    let shipped = Shipped::load_from(&folder).context(MISSING)?;
    let source = nonius_datasets::open(&shipped.base).context(MISSING)?;
    check_texts(&shipped, source.rows())?;
    let (rows, dim, queries) = (source.rows(), source.dim(), shipped.queries.rows());
    out.text(format_args!(
        "WordNet glosses: {rows} sentence embeddings of {dim} dimensions, {queries} queries"
    ))?;

    let config = IndexConfig {
        // The truth that comes with the set is by this metric.
        metric: Metric::L2,
        quantizer: QuantizerSpec::saq(4.0),
        keep: Keep::F16,
        ..IndexConfig::default()
    };
    let temporary = tempfile::tempdir().context("creating a temporary folder")?;
    let path = temporary.path().join("demo.nonius");
    let mut bars = Bars::catching_interrupts()?;
    let mut progress = |progress| bars.report(progress);
    let report = IndexBuilder::new(&config).progress(&mut progress).write(&*source, &path)?;
    bars.clear();
    out.text(format_args!(
        "built      {} lists, {}, in {:.2} s: training {:.2} s, encoding {:.2} s",
        report.nlist,
        report.quantizer,
        report.total_seconds,
        report.train_seconds,
        report.encode_seconds
    ))?;
    out.text(format_args!("plan       {} (dimensions x bits)", PlanText(&report.plan)))?;
    out.text(format_args!(
        "bytes      {:.1} a vector against {} as f32; the file has {}, with {} vectors for rerank",
        report.bytes_per_vector,
        4 * dim,
        human_bytes(report.file_bytes),
        config.keep
    ))?;

    let opening = Instant::now();
    let index = Index::open(&path).context(path.display())?;
    let open_ms = opening.elapsed().as_secs_f64() * 1e3;
    let threads = rayon::current_num_threads();
    out.text(format_args!("opened     by memory mapping in {open_ms:.2} ms"))?;
    out.text(format_args!("searched   {queries} queries on {threads} threads\n"))?;

    let nprobes = powers_of_two(index.nlist());
    let total = 2 * nprobes.len() as u64;
    let mut rows = Vec::new();
    let engine = Engine::new(&index, None, None)?;
    for rerank in [0, RERANK] {
        for &nprobe in &nprobes {
            if bars.show("searching", rows.len() as u64, total).is_break() {
                return Err(Failure::Cancelled);
            }
            let params = SearchParams { nprobe, rerank, ..SearchParams::default() };
            let truth = Truth { ids: &shipped.truth, harness: None };
            rows.push(measure(&engine, &shipped.queries, truth, K, &params, 1)?);
        }
    }
    bars.clear();
    out.text(table(&rows, K))?;

    let examples = examples(&index, &shipped)?;
    for example in &examples {
        out.text(format_args!("\n{}", shorten(&example.query)))?;
        for neighbor in &example.neighbors {
            out.text(format_args!("  {:.3}  {}", neighbor.distance, shorten(&neighbor.text)))?;
        }
    }
    let total_seconds = start.elapsed().as_secs_f64();
    out.text(format_args!("\ndone in {total_seconds:.1} s"))?;
    out.json(&DemoJson {
        dataset: "wordnet-384",
        vectors: report.vectors,
        dim,
        queries,
        metric: config.metric.name(),
        quantizer: report.quantizer.to_string(),
        bits: report.quantizer.bits(dim),
        nlist: report.nlist,
        plan: plan(&report.plan),
        bytes_per_vector: report.bytes_per_vector,
        f32_bytes_per_vector: 4 * dim,
        keep: config.keep.name(),
        file_bytes: report.file_bytes,
        threads,
        train_seconds: report.train_seconds,
        encode_seconds: report.encode_seconds,
        build_seconds: report.total_seconds,
        open_ms,
        peak_rss_bytes: peak_rss_bytes(),
        k: K,
        rows,
        examples,
        total_seconds,
    })
}

/// Each vector and each query must have its text.
fn check_texts(shipped: &Shipped, rows: usize) -> Result<(), Failure> {
    let (texts, queries) = (shipped.base_texts.len(), shipped.query_texts.len());
    if (texts, queries) == (rows, shipped.queries.rows()) {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "the shipped set is damaged: expected {rows} and {} texts, found {texts} and {queries}",
        shipped.queries.rows()
    )))
}

/// The nearest neighbours of some queries, with their texts.
fn examples(index: &Index, shipped: &Shipped) -> Result<Vec<ExampleJson>, Failure> {
    let params = SearchParams { rerank: RERANK, ..SearchParams::default() };
    let mut searcher = index.searcher();
    EXAMPLES
        .iter()
        .filter(|&&query| query < shipped.queries.rows())
        .map(|&query| {
            let found = searcher
                .search(shipped.queries.row(query), 3, &params)
                .context(format_args!("query {query}"))?;
            let neighbors = found
                .iter()
                .map(|neighbor| NeighborJson {
                    id: neighbor.id,
                    distance: neighbor.distance,
                    text: shipped.base_texts[neighbor.id as usize].clone(),
                })
                .collect();
            Ok(ExampleJson { query: shipped.query_texts[query].clone(), neighbors })
        })
        .collect()
}

/// The start of a text, on one line.
fn shorten(text: &str) -> String {
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    let start: String = text.chars().take(SHOWN - 3).collect();
    format!("{}...", start.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shorten("short"), "short");
        let long = "é".repeat(200);
        assert_eq!(shorten(&long).chars().count(), SHOWN);
    }
}
