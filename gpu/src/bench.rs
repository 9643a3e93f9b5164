//! Measurements of single kernels, for the benchmark.

use nonius::SearchParams;
use nonius::raw::BLOCK;

use crate::context::GpuContext;
use crate::error::GpuError;
use crate::kernels;
use crate::prepare::{Batch, Pairs, Sizes};
use crate::search::scan_kernel;
use crate::upload::GpuIndex;

/// Bytes a second that a kernel copies, those read and those written counted: the median of some repeats with
/// buffers of so many bytes.
///
/// # Errors
/// [`GpuError::Unsupported`] if the adapter does not tell how long kernels take, and those of the device.
pub fn copy_bandwidth(context: &GpuContext, bytes: u64, repeats: usize) -> Result<f64, GpuError> {
    let bytes = bytes.min(context.binding_limit()) / 16 * 16;
    let source = context.buffer("copy", bytes)?;
    let target = context.buffer("copy", bytes)?;
    let mut seconds = Vec::new();
    for _ in 0..repeats + 2 {
        let mut recorder = context.record(true);
        let groups = 8192;
        let params =
            |_| kernels::copy::Params { words: (bytes / 16) as u32, threads: 256 * groups };
        recorder.dispatch(&kernels::copy::kernel(), groups, params, &[&source, &target])?;
        seconds.extend(time_of(recorder.finish(&[])?.1)?);
    }
    // The first ones warm up.
    Ok(2.0 * bytes as f64 / median(&mut seconds[2..]))
}

fn time_of(times: Vec<(&'static str, f64)>) -> Result<Option<f64>, GpuError> {
    match times.last() {
        Some(&(_, seconds)) => Ok(Some(seconds)),
        None => Err(GpuError::Unsupported { what: "an adapter without timestamps".to_owned() }),
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What a scan of the first stage did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScanRate {
    /// Vectors that were scanned, for each query.
    pub vectors: usize,
    /// Bytes that are stored of them for the first stage.
    pub bytes: u64,
    /// How many queries go over the codes together.
    pub together: usize,
    /// Seconds of the kernel: the median.
    pub seconds: f64,
}

/// Times the scan of the first stage for some queries over the codes of an index, which are repeated until they
/// take about so many bytes: more than caches hold. Nothing is below the limits, so nothing is written.
///
/// # Errors
/// As [`copy_bandwidth`], and those of a search.
pub fn scan_rate(
    index: &GpuIndex<'_>,
    queries: &[f32],
    bytes: u64,
    repeats: usize,
) -> Result<ScanRate, GpuError> {
    let (context, shape) = (index.context, &index.shape);
    let params = SearchParams { nprobe: usize::MAX, ..SearchParams::default() };
    let sizes = Sizes::of(shape, index.raw.dims());
    let (mut batch, mut pairs) = (Batch::default(), Pairs::default());
    batch.fill(index, sizes, queries, 10, &params)?;
    pairs.fill(index, &batch, 0);
    let rows = batch.rows;
    // Each query has one pair, with the first list of its route, whose vectors are those of all the repeated codes.
    pairs.pairs.dedup_by_key(|pair| pair.query);
    pairs.pairs.iter_mut().for_each(|pair| pair.list = 0);
    let Some(chunk) = index.chunks.first() else {
        return Err(GpuError::Unsupported { what: "an index without vectors".to_owned() });
    };
    let block_bytes = (4 * BLOCK * shape.stride) as u64;
    let blocks = chunk.blocks.len() as u64;
    let copies = (bytes.min(context.binding_limit()) / (blocks * block_bytes)).max(1);
    let codes = context.buffer("codes", copies * blocks * block_bytes)?;
    let ranks = context.buffer("ranks", copies * blocks * (4 * BLOCK) as u64)?;
    let mut recorder = context.record(false);
    for copy in 0..copies {
        let size = blocks * block_bytes;
        recorder.encoder.copy_buffer_to_buffer(&chunk.codes, 0, &codes, copy * size, size);
    }
    recorder.finish(&[])?;
    let (together, slice, kernel) = scan_kernel(index, &pairs);
    let vectors = (copies * blocks) as usize * BLOCK;
    let length =
        (vectors * rows.div_ceil(together) / 16_384).clamp(256, 8192).next_multiple_of(BLOCK);
    let mut work = Vec::new();
    for first in (0..vectors).step_by(length) {
        for member in (0..rows).step_by(together) {
            let vectors = length.min(vectors - first) as u32;
            let members = together.min(rows - member) as u32;
            work.extend([first as u32, vectors, member as u32, members, 0]);
        }
    }
    let items = (work.len() / kernels::scan::ITEM) as u32;
    let members = work.len() as u32;
    work.extend(0..rows as u32);
    let piece_table = work.len() as u32;
    work.extend(shape.pieces.iter().flatten());
    let work = context.filled("work", &work)?;
    let pair_buffer = context.filled("pairs", &pairs.pairs)?;
    let tables = context.filled("tables", &batch.tables)?;
    let views = context.filled("views", &vec![0.0f32; rows * shape.view()])?;
    let state = context.filled("state", &vec![0u32; 2 * rows])?;
    let out = context.buffer("candidates", (rows * 16) as u64)?;
    let mut seconds = Vec::new();
    for _ in 0..repeats + 1 {
        let mut recorder = context.record(true);
        let params = |grid_x| kernels::scan::Params {
            items,
            grid_x,
            first: 0,
            capacity: 1,
            stride: shape.stride as u32,
            words: shape.words as u32,
            pieces: shape.pieces.len() as u32,
            slice,
            view: shape.view() as u32,
            lines: 2 + shape.segments() as u32,
            table: sizes.table as u32,
            members,
            piece_table,
            slot: 0,
            additive: u32::from(shape.additive),
            square: batch.square,
            queries: rows as u32,
        };
        let buffers = [&codes, &ranks, &work, &pair_buffer, &tables, &views, &state, &out];
        recorder.dispatch(&kernel, items, params, &buffers)?;
        seconds.extend(time_of(recorder.finish(&[])?.1)?);
    }
    let seconds = median(&mut seconds[1..]);
    Ok(ScanRate { vectors, bytes: vectors as u64 * (4 * shape.stride) as u64, together, seconds })
}
