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

use nonius_simd::{BLOCK, BoundLayout, BoundQuery, ListConstants, bound_blocks};

use super::query::{QueryModel, SegmentQuery, Tables};
use crate::quantizer::view::{self, Glance, report_passed};

/// How the first stage of a query bounds keys, whatever the list.
#[derive(Default)]
pub(super) struct Bound {
    confidence: f32,
    /// The variance of the error at usual scales: a constant, and a part for `|q - c|^2`.
    variance: [f32; 2],
    lines: Vec<Line>,
    /// Those of the lines.
    slopes: Vec<f32>,
}

/// One piece of the first stage. Everything is for scales in the segment's unit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Line {
    /// What a unit of the piece's sum is worth.
    pub(crate) slope: f32,
    /// What is subtracted anyway.
    pub(crate) bias: f32,
    /// What near pairs share in segments that are not read, for each `|q - c|`.
    pub near: f32,
    /// The piece's part of the variance: a constant, and a part for `|q - c|^2`.
    pub variance: [f32; 2],
}

impl Bound {
    /// The confidence, the variance and the lines.
    pub(super) fn raw(&self) -> (f32, [f32; 2], &[Line]) {
        (self.confidence, self.variance, &self.lines)
    }

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
            let unit = model.frame.alpha() * constants.unit;
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
        self.slopes.clear();
        self.slopes.extend(self.lines.iter().map(|line| line.slope));
    }

    /// The offset of each piece's line for a list at a squared distance.
    fn offsets_at(&self, distance_sq: f32, out: &mut Vec<f32>) {
        let [constant, slope] = self.variance;
        let variance = constant + slope * distance_sq;
        let by_variance = if variance > 0.0 { self.confidence / variance.sqrt() } else { 0.0 };
        let distance = distance_sq.sqrt();
        out.clear();
        out.extend(self.lines.iter().map(|line| {
            let [constant, slope] = line.variance;
            let variance = constant + slope * distance_sq;
            line.bias + line.near * distance + by_variance * variance
        }));
    }
}

/// Buffers of [`QueryModel::scan`].
#[derive(Default)]
pub(crate) struct ScanScratch {
    offsets: Vec<f32>,
    blocks: view::ScanScratch,
}

/// Blocks that the first stage reads at a time: their sums stay in the first cache.
pub(crate) const SCAN_BLOCKS: usize = 16;

impl QueryModel<'_> {
    /// Takes the lists of all vectors that copies are of to be at a squared distance.
    pub(crate) fn set_copies(&self, distance_sq: f32, tables: &mut Tables) {
        tables.bound.offsets_at(distance_sq, &mut tables.copies);
    }

    /// Scans the first stage of blocks of one list, up to [`SCAN_BLOCKS`] of them, and calls `found`
    /// with the number within `blocks` and the lower bound of each vector among the first `count`
    /// whose bound does not exceed `threshold`.
    ///
    /// Where there is a constant for each vector, those from number `own` on are copies of vectors of other
    /// lists, and [`set_copies`](QueryModel::set_copies) comes first, once a query.
    pub(crate) fn scan(
        &self,
        tables: &Tables,
        list: Glance,
        own: usize,
        constants: ListConstants<'_>,
        blocks: &[u8],
        count: usize,
        threshold: f32,
        scratch: &mut ScanScratch,
        mut found: impl FnMut(usize, f32),
    ) {
        let QueryModel { model, layout } = *self;
        if layout.pieces.is_empty() {
            // Nothing is known before the rest is read.
            let left_out = |v: usize| match constants {
                ListConstants::One(_) => false,
                ListConstants::Each(constants) => constants.as_flattened()[v].is_nan(),
            };
            (0..count).filter(|&v| !left_out(v)).for_each(|v| found(v, f32::NEG_INFINITY));
            return;
        }
        let ScanScratch { offsets, blocks: view::ScanScratch { bounds, passed, .. } } = scratch;
        let stride = layout.block_bytes();
        bounds.resize(blocks.len() / stride, [0.0; BLOCK]);
        passed.resize(bounds.len(), 0);
        tables.bound.offsets_at(list.distance_sq, offsets);
        let others = match constants {
            ListConstants::One(_) => &*offsets,
            ListConstants::Each(_) => &tables.copies,
        };
        let additive = layout.factors_start();
        let factors = model.frame.additive;
        let beyond = |code| factors.decode(code);
        let shift = additive + layout.additive_bytes * BLOCK;
        let shape = BoundLayout {
            stride,
            pieces: &layout.pieces,
            additive,
            format: factors.additive(&beyond),
            shift: (layout.shift_bytes == 1).then_some((shift, model.shift_step)),
        };
        let (lut, slopes) = (&tables.lut[..], &tables.bound.slopes[..]);
        let query = BoundQuery { lut, slopes, constants, own, offsets, others, threshold };
        bound_blocks(blocks, &shape, &query, bounds, passed);
        report_passed(bounds, passed, count, found);
    }
}
