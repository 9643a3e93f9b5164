//! Recall against queries a second: one index for each quantizer, searched at rising `nprobe`.
//!
//! ```text
//! cargo run --release -p nonius-benches --bin nonius-curve -- [BASE QUERIES TRUTH.ivecs] [OPTIONS]
//!
//!     --quantizers LIST   default saq:2,saq:4,saq:8
//!     --nlist N           default 16 * sqrt(rows), no more than rows / 40
//!     --spill S           the share of vectors with a second list; default 0
//!     --keep K            none, f16 or f32 for rerank; default none
//!     --rerank R          default 0
//!     --repeats N         default 5
//!     --csv FILE  --svg FILE
//! ```
//!
//! Without files a generated set is searched. Every figure is the median of alternating repeats:
//! one thread with a query a call, one thread with all queries in a call, and all threads with all
//! queries in a call. Built with `--features timers` it also prints where a query's time goes.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Instant;

use nonius::{
    ExactIndex, Index, IndexConfig, Matrix, MatrixView, Metric, SearchError, SearchParams,
};
use nonius_benches::{arguments, pool, quantile};
use nonius_datasets::{Synthetic, read_matrix};
use plotters::prelude::*;

type Failure = Box<dyn Error>;

/// Neighbours that are asked for.
const K: usize = 10;

struct Data {
    base: Matrix,
    queries: Matrix,
    /// The true neighbours of each query.
    truth: Vec<Vec<u64>>,
}

/// One point of a curve.
struct Point {
    nprobe: usize,
    recall: f64,
    /// Queries a second: one a call, all in a call, all in a call on all threads.
    single: f64,
    batch: f64,
    parallel: f64,
    /// Microseconds of a single query: median and 99th percentile.
    latency: [f64; 2],
    scanned: f64,
    refined: f64,
    bytes_touched: f64,
}

struct Curve {
    name: String,
    bytes_per_vector: f64,
    points: Vec<Point>,
}

fn main() -> Result<(), Failure> {
    let (files, options) =
        arguments(&["quantizers", "nlist", "spill", "keep", "rerank", "repeats", "csv", "svg"])?;
    let option = |name: &str| options.get(name).map(String::as_str);
    let data = match &files[..] {
        [] => generated()?,
        [base, queries, truth] => read(base, queries, truth)?,
        _ => return Err("expected BASE QUERIES TRUTH, or none of them".into()),
    };
    let rows = data.base.rows();
    let nlist = match option("nlist") {
        Some(number) => number.parse()?,
        None => (16.0 * (rows as f64).sqrt()) as usize,
    };
    let nlist = nlist.clamp(1, (rows / 40).max(1));
    let repeats: usize = option("repeats").unwrap_or("5").parse()?;
    let rerank: usize = option("rerank").unwrap_or("0").parse()?;
    let mut curves = Vec::new();
    for quantizer in option("quantizers").unwrap_or("saq:2,saq:4,saq:8").split(',') {
        let config = IndexConfig {
            quantizer: quantizer.parse()?,
            nlist: Some(nlist),
            spill: option("spill").unwrap_or("0").parse()?,
            keep: option("keep").unwrap_or("none").parse()?,
            ..IndexConfig::default()
        };
        let index = Index::build(&data.base, &config)?;
        curves.push(measure(&index, &data, nlist, rerank, repeats)?);
    }
    let csv = csv(&curves)?;
    print!("{csv}");
    if let Some(path) = option("csv") {
        std::fs::write(path, &csv)?;
    }
    if let Some(path) = option("svg") {
        draw(&curves, path)?;
    }
    Ok(())
}

fn read(base: &str, queries: &str, truth: &str) -> Result<Data, Failure> {
    let truth = nonius_datasets::read_ids(truth)?;
    let (base, queries) = (nonius_datasets::load(base)?, nonius_datasets::load(queries)?);
    if truth.rows() < queries.rows() || truth.k() < K {
        return Err(format!("the truth must have {K} neighbours of every query").into());
    }
    let truth = (0..queries.rows()).map(|q| truth.row(q)[..K].to_vec()).collect();
    Ok(Data { base, queries, truth })
}

fn generated() -> Result<Data, Failure> {
    let (dim, base_rows) = (128, 50_000);
    let set = Synthetic { rows: base_rows + 500, dim, seed: 3, ..Synthetic::default() };
    let all = read_matrix(&set.generator())?;
    let (base, queries) = all.data().split_at(base_rows * dim);
    let base = Matrix::new(dim, base.to_vec())?;
    let queries = Matrix::new(dim, queries.to_vec())?;
    let exact = ExactIndex::new(Matrix::new(dim, base.data().to_vec())?, Metric::L2)?;
    let truth = (0..queries.rows())
        .map(|q| Ok(exact.search(queries.row(q), K)?.iter().map(|n| n.id).collect()))
        .collect::<Result<_, Failure>>()?;
    Ok(Data { base, queries, truth })
}

fn measure(
    index: &Index,
    data: &Data,
    nlist: usize,
    rerank: usize,
    repeats: usize,
) -> Result<Curve, Failure> {
    let info = index.info();
    let plan: Vec<String> = info.plan.iter().map(ToString::to_string).collect();
    println!(
        "{}, {nlist} lists, {:.1} bytes a vector with id, first stage {} bits, plan {}",
        info.quantizer,
        info.bytes_per_vector,
        info.first_stage_bits,
        plan.join(" ")
    );
    let one = pool(1);
    let queries = data.queries.view();
    let count = queries.rows() as f64;
    let mut points = Vec::new();
    let mut nprobe = 1;
    while nprobe <= nlist {
        let params = SearchParams { nprobe, rerank, ..SearchParams::default() };
        let mut searcher = index.searcher();
        let (mut single, mut batch, mut parallel) = (vec![], vec![], vec![]);
        let mut latencies = Vec::new();
        let mut hits = 0;
        for repeat in 0..=repeats {
            hits = 0;
            searcher.reset_stats();
            let start = Instant::now();
            for (q, truth) in data.truth.iter().enumerate() {
                let begin = Instant::now();
                let found = searcher.search(queries.row(q), K, &params)?;
                if repeat > 0 {
                    latencies.push(begin.elapsed().as_secs_f64() * 1e6);
                }
                hits += found.iter().filter(|n| truth.contains(&n.id)).count();
            }
            let alone = start.elapsed().as_secs_f64();
            let together = one.install(|| timed(index, queries, &params))?;
            let on_all = timed(index, queries, &params)?;
            // The first round warms up.
            if repeat > 0 {
                single.push(count / alone);
                batch.push(count / together);
                parallel.push(count / on_all);
            }
        }
        let stats = searcher.stats();
        let point = Point {
            nprobe,
            recall: hits as f64 / count / K as f64,
            single: quantile(&mut single, 0.5),
            batch: quantile(&mut batch, 0.5),
            parallel: quantile(&mut parallel, 0.5),
            latency: [quantile(&mut latencies, 0.5), quantile(&mut latencies, 0.99)],
            scanned: stats.scanned as f64 / count,
            refined: stats.refined as f64 / count,
            bytes_touched: stats.bytes_touched as f64 / count,
        };
        println!(
            "nprobe {nprobe:5}  recall@{K} {:.4}  {:7.0} single  {:7.0} batch  {:7.0} on {} \
             threads  p99 {:.0} us",
            point.recall,
            point.single,
            point.batch,
            point.parallel,
            rayon::current_num_threads(),
            point.latency[1],
        );
        shares(&searcher);
        points.push(point);
        nprobe = (nprobe * 7).div_ceil(5);
    }
    Ok(Curve { name: info.quantizer.to_string(), bytes_per_vector: info.bytes_per_vector, points })
}

fn timed(
    index: &Index,
    queries: MatrixView<'_>,
    params: &SearchParams,
) -> Result<f64, SearchError> {
    let start = Instant::now();
    index.search_batch(queries, K, params)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Where the time of single queries went.
#[cfg(feature = "timers")]
fn shares(searcher: &nonius::Searcher<'_>) {
    let timings = searcher.timings();
    let total: f64 = timings.iter().map(|(_, time)| time.as_secs_f64()).sum();
    let parts: Vec<String> = timings
        .iter()
        .map(|(piece, time)| format!("{} {:.0}%", piece.name(), 100.0 * time.as_secs_f64() / total))
        .collect();
    println!("              {}", parts.join(", "));
}

#[cfg(not(feature = "timers"))]
fn shares(_: &nonius::Searcher<'_>) {}

fn csv(curves: &[Curve]) -> Result<String, Failure> {
    let mut out = String::from(
        "quantizer,bytes_per_vector,nprobe,recall_at_10,qps_single,qps_batch,qps_parallel,p50_us,\
         p99_us,scanned,refined,bytes_touched\n",
    );
    for curve in curves {
        for p in &curve.points {
            writeln!(
                out,
                "{},{:.1},{},{:.4},{:.0},{:.0},{:.0},{:.1},{:.1},{:.0},{:.1},{:.0}",
                curve.name,
                curve.bytes_per_vector,
                p.nprobe,
                p.recall,
                p.single,
                p.batch,
                p.parallel,
                p.latency[0],
                p.latency[1],
                p.scanned,
                p.refined,
                p.bytes_touched,
            )?;
        }
    }
    Ok(out)
}

/// Draws queries a second of single queries (logarithmic) against recall.
fn draw(curves: &[Curve], path: &str) -> Result<(), Failure> {
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let lowest = all().map(|p| p.single).fold(f64::INFINITY, f64::min);
    let highest = all().map(|p| p.single).fold(0.0, f64::max);
    let least = all().map(|p| p.recall).fold(1.0, f64::min).max(0.5);
    let area = SVGBackend::new(path, (800, 500)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(15)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(least..1.0, (lowest * 0.8..highest * 1.25).log_scale())?;
    chart
        .configure_mesh()
        .x_desc(format!("recall@{K}"))
        .y_desc("queries a second, one thread, one a call")
        .draw()?;
    for (i, curve) in curves.iter().enumerate() {
        let color = Palette99::pick(i).stroke_width(2);
        let points = curve.points.iter().map(|p| (p.recall, p.single));
        chart
            .draw_series(LineSeries::new(points.filter(|p| p.0 >= least), color))?
            .label(format!("{}, {:.0} bytes", curve.name, curve.bytes_per_vector))
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], color));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}
