//! Measures the GPU path on one machine, beside one core of its processor.
//!
//! ```text
//! cargo build --release -p nonius-benches --features gpu --bin nonius-gpu-bench
//! nonius-gpu-bench INDEX.nonius QUERIES TRUTH.ivecs [--gpu NAME] [--recall R] [--rerank R] [--gib G]
//!                  [--repeats N] [--build-rows N] [--csv FILE] [--svg FILE]
//! ```
//!
//! The first stage's scan is timed by the device's own clock, over the index's codes repeated to more than caches
//! hold (`--gib`, default 1), and compared with how fast a kernel copies memory. Searches are timed as a caller sees them, from queries
//! to neighbours, at the smallest `nprobe` that finds the share `--recall` (default 0.95) of the true ten; the core
//! searches the same index with the same parameters, one query a call and all queries in a call.
//!
//! Then an index of the same kind is built of `--build-rows` random vectors (default 400,000; 0 for none), with all
//! cores and with the GPU's help, in memory and in turn; both must be the same.
//!
//! The program is one file without needs but a driver. Software that acts as a GPU is refused
//! unless `--gpu` names it.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Instant;

use nonius::random::Random;
use nonius::{
    Index, IndexBuilder, IndexConfig, Keep, Matrix, MatrixView, Metric, Neighbor, SearchParams,
};
use nonius_benches::{arguments, quantile};
use nonius_gpu::bench::{copy_bandwidth, scan_rate};
use nonius_gpu::{GpuContext, GpuIndex, GpuTimings};
use plotters::prelude::*;

type Failure = Box<dyn Error + Send + Sync>;

/// Neighbours that are asked for.
const K: usize = 10;

/// Queries in a call.
const BATCHES: [usize; 4] = [1, 8, 64, 1024];

/// What was measured of a batch size.
struct Row {
    batch: usize,
    /// Code-query pairs a second of the first stage, the bytes of codes a second, and the share of the copy bandwidth.
    pairs: f64,
    bytes: f64,
    share: f64,
    qps: f64,
    recall: f64,
}

fn main() -> Result<(), Failure> {
    let (files, options) =
        arguments(&["gpu", "recall", "rerank", "gib", "repeats", "build-rows", "csv", "svg"])?;
    let [index, queries, truth] = &files[..] else {
        return Err("expected INDEX.nonius QUERIES TRUTH.ivecs".into());
    };
    let number = |name: &str, default: f64| -> Result<f64, Failure> {
        Ok(options.get(name).map_or(Ok(default), |value| value.parse())?)
    };
    let repeats = number("repeats", 5.0)? as usize;
    let index = Index::read(index)?;
    let queries = nonius_datasets::load(queries)?;
    let truth = nonius_datasets::read_ids(truth)?;
    if truth.rows() != queries.rows() || truth.k() < K {
        return Err(format!("the truth must have {K} neighbours of every query").into());
    }
    let truth: Vec<Vec<u64>> = (0..truth.rows()).map(|q| truth.row(q)[..K].to_vec()).collect();
    let context = GpuContext::new(options.get("gpu").map(String::as_str))?;
    let adapter = context.adapter();
    println!("{} ({}, {}, {})", adapter.name, adapter.kind, adapter.backend, adapter.driver);
    let info = index.info();
    println!("{} vectors x {} as {}, {} lists", info.vectors, info.dim, info.quantizer, info.nlist);
    let clock = Instant::now();
    let on_gpu = GpuIndex::upload(&context, &index)?;
    println!(
        "uploaded {:.1} MB in {:.2} s; the first stage reads {} bytes of a vector",
        on_gpu.bytes() as f64 * 1e-6,
        clock.elapsed().as_secs_f64(),
        on_gpu.first_stage_bytes()
    );
    let bytes = (number("gib", 1.0)? * f64::from(1 << 30)) as u64;
    let bandwidth = copy_bandwidth(&context, bytes, repeats.max(9))?;
    println!("copy: {:.1} GB/s, read and written", bandwidth * 1e-9);

    let rerank = number("rerank", 0.0)? as usize;
    let params = choose(&index, &queries, &truth, number("recall", 0.95)?, rerank)?;
    println!("nprobe {}, rerank {}", params.nprobe, params.rerank);
    let mut rows = Vec::new();
    for batch in BATCHES {
        let some = repeated(&queries, batch);
        let rate = scan_rate(&on_gpu, some.data(), bytes, repeats)?;
        let pairs = rate.vectors as f64 * batch as f64 / rate.seconds;
        // Codes come from memory once for all queries that go together.
        let passes = batch.div_ceil(rate.together) as f64;
        let read = rate.bytes as f64 * passes / rate.seconds;
        let (qps, recall) = search(&on_gpu, &queries, &truth, batch, &params, repeats)?;
        println!(
            "batch {batch:5}: scan {:.2} ms, {:.2} G codes/s x query, {:.0} GB/s in {passes} passes, \
             {:.0}% of copy; {qps:.0} queries/s at recall {recall:.4}",
            rate.seconds * 1e3,
            pairs * 1e-9,
            read * 1e-9,
            100.0 * read / bandwidth
        );
        rows.push(Row { batch, pairs, bytes: read, share: read / bandwidth, qps, recall });
    }
    let core = one_core(&index, &queries, &params, repeats)?;
    println!("one core: {:.0} queries/s one a call, {:.0} all in a call", core[0], core[1]);
    if let Some(last) = rows.last() {
        println!("batch {}: {:.1} times the core", last.batch, last.qps / core[0].max(core[1]));
    }
    let some = repeated(&queries, 1024);
    // Idle devices lower their clocks: the calls before the last one bring them up.
    let mut timings = GpuTimings::default();
    for _ in 0..10 * repeats {
        timings = on_gpu.search_batch_timed(some.view(), K, &params)?.1;
    }
    let mut of_kernel: Vec<(&str, f64)> = Vec::new();
    for &(name, seconds) in &timings.kernels {
        match of_kernel.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += seconds,
            None => of_kernel.push((name, seconds)),
        }
    }
    let kernels: Vec<String> =
        of_kernel.iter().map(|(name, s)| format!("{name} {:.3}", s * 1e3)).collect();
    println!(
        "1,024 queries, ms: prepare {:.2}, device {:.2} ({}), finish {:.2}; scanned {}, refined {}",
        timings.prepare * 1e3,
        timings.device * 1e3,
        kernels.join(", "),
        timings.finish * 1e3,
        timings.stats.scanned,
        timings.stats.refined
    );
    drop(on_gpu);
    let build_rows = number("build-rows", 400_000.0)? as usize;
    if build_rows > 0 {
        build(&context, &index, build_rows, repeats.min(3))?;
    }
    if let Some(path) = options.get("csv") {
        let mut text =
            String::from("batch,code_queries_per_s,bytes_per_s,share_of_copy,qps,recall\n");
        for Row { batch, pairs, bytes, share, qps, recall } in &rows {
            writeln!(text, "{batch},{pairs:.4e},{bytes:.4e},{share:.4},{qps:.1},{recall:.4}")?;
        }
        writeln!(text, "core one a call,,,,{:.1},", core[0])?;
        writeln!(text, "core all in a call,,,,{:.1},", core[1])?;
        std::fs::write(path, text)?;
    }
    if let Some(path) = options.get("svg") {
        draw(&rows, core[0].max(core[1]), &adapter.name, path)?;
    }
    Ok(())
}

/// So many queries, from the first on, and again if there are fewer.
fn repeated(queries: &Matrix, count: usize) -> Matrix {
    let mut out = Matrix::zeros(count, queries.dim());
    for row in 0..count {
        out.row_mut(row).copy_from_slice(queries.row(row % queries.rows()));
    }
    out
}

fn hits(found: &[Neighbor], truth: &[u64]) -> usize {
    let ids: Vec<u64> = found.iter().map(|n| n.id).collect();
    nonius_datasets::hits(truth, &ids)
}

/// The smallest of some values of `nprobe` that finds enough, by the processor.
fn choose(
    index: &Index,
    queries: &Matrix,
    truth: &[Vec<u64>],
    recall: f64,
    rerank: usize,
) -> Result<SearchParams, Failure> {
    let mut nprobe = 2.0f64;
    loop {
        let params = SearchParams { nprobe: nprobe as usize, rerank, ..SearchParams::default() };
        let (found, _) = index.search_batch(queries.view(), K, &params)?;
        let hits: usize = found.iter().zip(truth).map(|(found, truth)| hits(found, truth)).sum();
        let found = hits as f64 / (K * truth.len()) as f64;
        if found >= recall {
            return Ok(params);
        }
        if params.nprobe >= index.nlist() {
            return Err(format!("the index finds {found:.4} of the neighbours at most").into());
        }
        nprobe = (nprobe * 1.04).max(nprobe + 1.0);
    }
}

/// Queries a second in calls of `batch`, as the caller sees it, and the recall.
fn search(
    index: &GpuIndex<'_>,
    queries: &Matrix,
    truth: &[Vec<u64>],
    batch: usize,
    params: &SearchParams,
    repeats: usize,
) -> Result<(f64, f64), Failure> {
    let dim = queries.dim();
    // Whole batches, of all queries or of the first ones, so that each repeat takes some time.
    let calls = (256 / batch).max(4);
    let all = repeated(queries, calls * batch);
    let mut rates = Vec::new();
    let mut found = Vec::new();
    for _ in 0..repeats + 1 {
        found.clear();
        let clock = Instant::now();
        for rows in all.data().chunks_exact(batch * dim) {
            let rows = MatrixView::new(dim, rows)?;
            found.extend(index.search_batch(rows, K, params)?);
        }
        rates.push(all.rows() as f64 / clock.elapsed().as_secs_f64());
    }
    let hits: usize =
        found.iter().enumerate().map(|(i, found)| hits(found, &truth[i % truth.len()])).sum();
    Ok((quantile(&mut rates[1..], 0.5), hits as f64 / (K * found.len()) as f64))
}

/// Queries a second of one core, one a call and all in a call.
fn one_core(
    index: &Index,
    queries: &Matrix,
    params: &SearchParams,
    repeats: usize,
) -> Result<[f64; 2], Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let (mut single, mut batch) = (Vec::new(), Vec::new());
    for _ in 0..repeats + 1 {
        pool.install(|| -> Result<(), Failure> {
            let clock = Instant::now();
            let mut searcher = index.searcher();
            for row in 0..queries.rows() {
                searcher.search(queries.row(row), K, params)?;
            }
            single.push(queries.rows() as f64 / clock.elapsed().as_secs_f64());
            let clock = Instant::now();
            index.search_batch(queries.view(), K, params)?;
            batch.push(queries.rows() as f64 / clock.elapsed().as_secs_f64());
            Ok(())
        })?;
    }
    Ok([quantile(&mut single[1..], 0.5), quantile(&mut batch[1..], 0.5)])
}

/// Builds an index like another one, with the processor alone and with a GPU, and says what it takes: medians.
fn build(context: &GpuContext, like: &Index, rows: usize, repeats: usize) -> Result<(), Failure> {
    let info = like.info();
    let dim = info.dim;
    let mut random = Random::new(1, 0);
    let centres: Vec<f32> = (0..256 * dim).map(|_| random.normal() as f32).collect();
    let mut vectors = Matrix::zeros(rows, dim);
    for row in 0..rows {
        let centre = random.below(256) as usize * dim;
        for (i, value) in vectors.row_mut(row).iter_mut().enumerate() {
            // Dimensions differ in what they hold, so that there is something to plan.
            let spread = 4.0 / (1.0 + i as f32 / 16.0);
            *value = spread * (centres[centre + i] + random.normal() as f32);
        }
    }
    let config = IndexConfig {
        metric: Metric::L2,
        quantizer: info.quantizer,
        nlist: Some(info.nlist.min(rows)),
        keep: Keep::None,
        ..IndexConfig::default()
    };
    println!("builds of {rows} vectors x {dim} as {}, {} lists", config.quantizer, info.nlist);
    let mut seconds: [[Vec<f64>; 3]; 2] = Default::default();
    for _ in 0..repeats {
        let mut indexes = Vec::new();
        for (device, seconds) in seconds.iter_mut().enumerate() {
            let mut builder = IndexBuilder::new(&config);
            if device == 1 {
                builder = builder.accelerator(context);
            }
            let (index, report) = builder.build(&vectors.view())?;
            let of = [report.train_seconds, report.encode_seconds, report.encoder_cpu_seconds];
            of.into_iter().zip(seconds).for_each(|(of, seconds)| seconds.push(of));
            indexes.push((index, report.by_device));
        }
        if indexes[0].0.as_bytes() != indexes[1].0.as_bytes() {
            return Err("the index that the GPU helped to build is another one".into());
        }
        if seconds[0][0].len() == repeats {
            println!("encoded by the GPU: {} vectors", indexes[1].1);
        }
    }
    for (who, seconds) in ["all cores", "with the GPU"].iter().zip(&mut seconds) {
        let [train, encode, encoder] = seconds.each_mut().map(|values| quantile(values, 0.5));
        println!(
            "{who}: training {train:.2} s, lists and codes {encode:.2} s, of which threads encode {encoder:.2} s"
        );
    }
    Ok(())
}

/// Draws queries a second and the first stage's rate against the batch.
fn draw(rows: &[Row], core: f64, name: &str, path: &str) -> Result<(), Failure> {
    let area = SVGBackend::new(path, (900, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(450);
    let of = |value: fn(&Row) -> f64| -> Vec<(f64, f64)> {
        rows.iter().map(|row| (row.batch as f64, value(row))).collect()
    };
    let (queries, pairs) = (of(|row| row.qps), of(|row| row.pairs * 1e-9));
    let sides = [
        (left, "queries a second", queries, Some(core)),
        (right, "first stage: 10^9 codes x queries a second", pairs, None),
    ];
    for (area, what, points, line) in sides {
        let values = points.iter().map(|p| p.1).chain(line);
        let (low, high) = values.fold((f64::MAX, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .caption(name, ("sans-serif", 14))
            .x_label_area_size(38)
            .y_label_area_size(70)
            .build_cartesian_2d(
                (1.0..1100.0f64).log_scale(),
                (low * 0.7..high * 1.4).log_scale(),
            )?;
        chart.configure_mesh().x_desc("queries in a call").y_desc(what).draw()?;
        chart.draw_series(LineSeries::new(points.iter().copied(), &BLUE))?;
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, BLUE.filled())))?;
        if let Some(core) = line {
            chart
                .draw_series(LineSeries::new([(1.0, core), (1024.0, core)], &RED))?
                .label("one core of the processor")
                .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], RED));
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::LowerRight)
                .background_style(WHITE)
                .draw()?;
        }
    }
    area.present()?;
    Ok(())
}
