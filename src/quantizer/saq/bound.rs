//! Lower bounds of keys, from the first stage of whole blocks.
//!
//! **The error of a segment that is read** is `<q - c, ô - o>` over its dimensions. After the
//! random rotation its standard deviation is `|q - c| |ô - o| / sqrt(dims)`, and
//! `|ô - o| / sqrt(dims)` is the vector's scale times a constant of the segment.
//!
//! **Segments that are not read**, dropped ones among them, hold what near pairs share there. That
//! is learnt in training as a multiple of the query's norm there and of the vector's *size*
//! ([`Model::size`](super::Model::size)), with its mean and deviation.
//!
//! How `|q - c|^2` is spread over the segments is taken from training too: near lists' residuals
//! all look alike. So a list matters for the bounds by its distance alone, and its centroid need
//! not be read before a vector survives.
//!
//! Both parts together have a mean and a variance. The square root of the variance is taken to be
//! linear in the scales, about their usual proportions; so the bound of a vector is a sum over the
//! segments of its scale times a line in the segment's sum:
//!
//! ```text
//! bound = constant + additive + shift - sum over s of scale[s] * (slope[s] * sum[s] + offset[s])
//! ```

use nonius_simd::{BLOCK, Vectorize, at_most, for_each_set, l2_sqs_f32, scan_blocks};

use super::query::{Query, QueryModel, SegmentQuery};
use super::{AdditiveCode, scale};
use crate::metric::Metric;

/// What the first stage needs of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance {
    /// What all keys of the list share; may be off by a little.
    pub(crate) constant: f32,
    /// `|q - c|^2`, about.
    pub(crate) distance_sq: f32,
}

/// How the first stage of a query bounds keys, whatever the list.
#[derive(Default)]
pub(super) struct Bound {
    confidence: f32,
    /// The variance of the error at usual scales: a constant, and a part for `|q - c|^2`.
    variance: [f32; 2],
    lines: Vec<Line>,
}

/// One piece of the first stage. Everything is for scales in the segment's unit.
#[derive(Clone, Copy, Default)]
struct Line {
    slope: f32,
    /// What is subtracted anyway.
    bias: f32,
    /// What near pairs share in segments that are not read, for each `|q - c|`.
    near: f32,
    /// The piece's part of the variance: a constant, and a part for `|q - c|^2`.
    variance: [f32; 2],
}

impl Bound {
    pub(super) fn set(&mut self, codes: QueryModel<'_>, query: &[SegmentQuery], confidence: f32) {
        let QueryModel { model, layout } = codes;
        self.confidence = confidence;
        self.variance = [0.0; 2];
        self.lines.clear();
        // The energy of a usual residual, in each segment and in all.
        let energy = |s: usize| {
            let constants = &model.constants[s];
            constants.energy(layout.lengths[s]) * constants.typical * constants.typical
        };
        let (mut read, mut unread) = (0.0, 0.0);
        for (s, segment) in layout.segments.iter().enumerate() {
            if segment.scan_bits > 0 { read += energy(s) } else { unread += energy(s) }
        }
        let all = (read + unread).max(f32::MIN_POSITIVE);
        let near_sq = model.near.deviation * model.near.deviation * unread / all;
        let by_size =
            if read > 0.0 { model.near.mean * (unread / all).sqrt() / read.sqrt() } else { 0.0 };
        let mut before = usize::MAX;
        for &s in &layout.piece_segments {
            let (constants, tables) = (&model.constants[s], &query[s]);
            let unit = model.alpha() * constants.unit;
            let mut line = Line { slope: unit * tables.step, ..Line::default() };
            // Of the pieces of a segment one carries what is not in the sums.
            if s != before {
                let of_scale = constants.energy(layout.lengths[s]);
                let error_sq = constants.scan_error * constants.scan_error * energy(s) / all;
                let variance = [tables.table_variance, near_sq * of_scale + error_sq];
                let typical = constants.typical;
                for (sum, part) in self.variance.iter_mut().zip(variance) {
                    *sum += typical * typical * part;
                }
                line.bias = unit * tables.bias;
                line.near = unit * typical * by_size * of_scale;
                line.variance = variance.map(|part| unit * typical * part);
            }
            before = s;
            self.lines.push(line);
        }
    }

    /// Slope and offset of each piece at a distance.
    fn lines_at(&self, distance_sq: f32, out: &mut Vec<[f32; 2]>) {
        let [constant, slope] = self.variance;
        let variance = constant + slope * distance_sq;
        let by_variance = if variance > 0.0 { self.confidence / variance.sqrt() } else { 0.0 };
        let distance = distance_sq.sqrt();
        out.clear();
        out.extend(self.lines.iter().map(|line| {
            let [constant, slope] = line.variance;
            let variance = constant + slope * distance_sq;
            [line.slope, line.bias + line.near * distance + by_variance * variance]
        }));
    }
}

/// A query as seen from one list.
#[derive(Default)]
pub(crate) struct ListQuery {
    /// What all keys of the list share.
    pub(super) constant: f32,
    /// `|q - c|^2`.
    pub(super) distance_sq: f32,
    /// `|q - c|^2` over each segment.
    pub(super) segment_sq: Vec<f32>,
}

/// Buffers of [`QueryModel::scan`].
#[derive(Default)]
pub(crate) struct ScanScratch {
    lines: Vec<[f32; 2]>,
    sums: Vec<u16>,
    bounds: Vec<[f32; BLOCK]>,
    passed: Vec<u32>,
}

/// Blocks that the first stage reads at a time: their sums stay in the first cache.
pub(crate) const SCAN_BLOCKS: usize = 16;

impl QueryModel<'_> {
    /// Looks at the query from a list; `centroid` is the rotated centroid relative to the mean and
    /// its squared norm, or nothing where there is a single list around the mean.
    pub(crate) fn enter_list(
        &self,
        query: &Query,
        centroid: Option<(&[f32], f32)>,
        out: &mut ListQuery,
    ) {
        let QueryModel { model, layout } = *self;
        match centroid {
            None => {
                out.segment_sq.clone_from(&query.segment_sq);
                out.distance_sq = query.norm_sq;
                out.constant = query.constant;
            }
            Some((centroid, norm_sq)) => {
                out.segment_sq.resize(layout.lengths.len(), 0.0);
                l2_sqs_f32(&query.values, centroid, &layout.lengths, &mut out.segment_sq);
                out.distance_sq = out.segment_sq.iter().sum();
                // - alpha <q, c> comes from |q - c|^2.
                out.constant = match model.metric {
                    Metric::L2 | Metric::Cosine => out.distance_sq - norm_sq,
                    Metric::InnerProduct => {
                        query.constant - 0.5 * (query.norm_sq + norm_sq - out.distance_sq)
                    }
                };
            }
        }
    }

    /// Scans the first stage of blocks, up to [`SCAN_BLOCKS`] of them, and calls `found` with the
    /// number within `blocks` and the lower bound of each vector among the first `count` whose
    /// bound does not exceed `threshold`.
    pub(crate) fn scan(
        &self,
        query: &Query,
        list: Glance,
        blocks: &[u8],
        count: usize,
        threshold: f32,
        scratch: &mut ScanScratch,
        mut found: impl FnMut(usize, f32),
    ) {
        let layout = self.layout;
        if layout.pieces.is_empty() {
            // Nothing is known before the rest is read.
            (0..count).for_each(|v| found(v, f32::NEG_INFINITY));
            return;
        }
        let stride = layout.block_bytes();
        let number = blocks.len() / stride;
        let ScanScratch { lines, sums, bounds, passed } = scratch;
        query.bound.lines_at(list.distance_sq, lines);
        sums.resize(number * layout.pieces.len() * BLOCK, 0);
        bounds.resize(number, [0.0; BLOCK]);
        passed.resize(number, 0);
        scan_blocks(blocks, stride, &layout.pieces, &query.lut, sums);
        nonius_simd::level().vectorize(Bounds {
            codes: *self,
            constant: list.constant,
            lines,
            blocks,
            sums,
            bounds,
        });
        at_most(bounds, threshold, passed);
        let bounds = bounds.as_flattened();
        for_each_set(passed, |v| {
            if v < count {
                found(v, bounds[v]);
            }
        });
    }
}

struct Bounds<'a> {
    codes: QueryModel<'a>,
    constant: f32,
    lines: &'a [[f32; 2]],
    blocks: &'a [u8],
    /// For each block the sums of each piece.
    sums: &'a [u16],
    bounds: &'a mut [[f32; BLOCK]],
}

impl Vectorize for Bounds<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Bounds { codes, constant, lines, blocks, sums, bounds } = self;
        let QueryModel { model, layout } = codes;
        let sums = sums.chunks_exact(layout.pieces.len() * BLOCK);
        let blocks = blocks.chunks_exact(layout.block_bytes());
        for ((block, sums), bounds) in blocks.zip(sums).zip(bounds) {
            let factors = &block[layout.groups * BLOCK / 2..];
            additive(model.additive, constant, factors, bounds);
            if layout.shift_bytes == 1 {
                let codes = &factors[layout.additive_bytes * BLOCK..][..BLOCK];
                for (bound, &code) in bounds.iter_mut().zip(codes) {
                    *bound += model.decode_shift(code);
                }
            }
            let pieces = layout.piece_segments.iter().zip(lines);
            for ((&s, line), sums) in pieces.zip(sums.as_chunks::<BLOCK>().0) {
                let segment = &layout.segments[s];
                let scales = &factors[segment.scale * BLOCK..][..segment.scale_bytes * BLOCK];
                if segment.scale_bytes == 1 {
                    subtract(bounds, sums, line, scales.iter().map(|&k| u32::from(k)), scale::BYTE);
                } else {
                    let codes = scales.as_chunks::<2>().0.iter();
                    let codes = codes.map(|&k| u32::from(u16::from_le_bytes(k)));
                    subtract(bounds, sums, line, codes, scale::PAIR);
                }
            }
        }
    }
}

/// `bounds = constant + additive factors`.
#[inline(always)]
fn additive(code: AdditiveCode, constant: f32, factors: &[u8], bounds: &mut [f32; BLOCK]) {
    if code.bytes() == 4 {
        for (bound, value) in bounds.iter_mut().zip(factors.as_chunks::<4>().0) {
            *bound = constant + f32::from_le_bytes(*value);
        }
        return;
    }
    let codes = factors.as_chunks::<2>().0;
    let mut outside = false;
    for (bound, &value) in bounds.iter_mut().zip(codes) {
        let value = u16::from_le_bytes(value);
        *bound = constant + code.decode_linear(value);
        outside |= AdditiveCode::is_outside(value);
    }
    if outside {
        for (bound, &value) in bounds.iter_mut().zip(codes) {
            *bound = constant + code.decode(u16::from_le_bytes(value));
        }
    }
}

/// `bounds -= scale * (slope * sum + offset)`.
#[inline(always)]
fn subtract(
    bounds: &mut [f32; BLOCK],
    sums: &[u16; BLOCK],
    &[slope, offset]: &[f32; 2],
    scales: impl Iterator<Item = u32>,
    format: scale::ScaleFormat,
) {
    for ((bound, &sum), code) in bounds.iter_mut().zip(sums).zip(scales) {
        *bound -= format.decode(code) * (slope * f32::from(sum) + offset);
    }
}
