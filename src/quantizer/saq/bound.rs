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

use nonius_simd::{BLOCK, Vectorize, level, scan_blocks};

use super::query::{QueryModel, SegmentQuery, Tables};
use super::scale;
use crate::quantizer::factor::AdditiveCode;
use crate::quantizer::view::{self, Glance, report};

/// How the first stage of a query bounds keys, whatever the list.
#[derive(Default)]
pub(super) struct Bound {
    confidence: f32,
    /// The variance of the error at usual scales: a constant, and a part for `|q - c|^2`.
    variance: [f32; 2],
    lines: Vec<Line>,
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
    /// Scans the first stage of blocks of one list, up to [`SCAN_BLOCKS`] of them, and calls `found`
    /// with the number within `blocks` and the lower bound of each vector among the first `count`
    /// whose bound does not exceed `threshold`.
    pub(crate) fn scan(
        &self,
        tables: &Tables,
        list: Glance,
        blocks: &[u8],
        count: usize,
        threshold: f32,
        scratch: &mut ScanScratch,
        mut found: impl FnMut(usize, f32),
    ) {
        if self.layout.pieces.is_empty() {
            // Nothing is known before the rest is read.
            (0..count).for_each(|v| found(v, f32::NEG_INFINITY));
            return;
        }
        self.sum(tables, blocks, scratch);
        let ScanScratch { offsets, blocks: view::ScanScratch { sums, bounds, passed } } = scratch;
        tables.bound.offsets_at(list.distance_sq, offsets);
        let lanes = OneList { constant: list.constant, offsets };
        let lines = &tables.bound.lines;
        level().vectorize(Bounds { codes: *self, lanes, lines, blocks, sums, bounds });
        report(bounds, passed, count, threshold, found);
    }

    /// Takes the lists of all vectors that copies are of to be at a squared distance.
    pub(crate) fn set_copies(&self, distance_sq: f32, tables: &mut Tables) {
        tables.bound.offsets_at(distance_sq, &mut tables.copies);
    }

    /// [`scan`](QueryModel::scan) of a list that also holds copies: of the first `count` vectors,
    /// those from number `own` on are copies, and `constants` has for each what all keys of its
    /// vector's list share, or no number for one to leave out. [`set_copies`] comes first, once a
    /// query.
    ///
    /// [`set_copies`]: QueryModel::set_copies
    pub(crate) fn scan_mixed(
        &self,
        tables: &Tables,
        list: Glance,
        own: usize,
        constants: &[[f32; BLOCK]],
        blocks: &[u8],
        count: usize,
        threshold: f32,
        scratch: &mut ScanScratch,
        mut found: impl FnMut(usize, f32),
    ) {
        if self.layout.pieces.is_empty() {
            for (v, constant) in constants.as_flattened()[..count].iter().enumerate() {
                if !constant.is_nan() {
                    found(v, f32::NEG_INFINITY);
                }
            }
            return;
        }
        self.sum(tables, blocks, scratch);
        let ScanScratch { offsets, blocks: view::ScanScratch { sums, bounds, passed } } = scratch;
        tables.bound.offsets_at(list.distance_sq, offsets);
        let lanes = Mixed { constants, own, offsets, others: &tables.copies };
        let lines = &tables.bound.lines;
        level().vectorize(Bounds { codes: *self, lanes, lines, blocks, sums, bounds });
        report(bounds, passed, count, threshold, found);
    }

    /// Sums the tables' entries for each vector and piece of the first stage.
    fn sum(&self, tables: &Tables, blocks: &[u8], scratch: &mut ScanScratch) {
        let (layout, stride) = (self.layout, self.layout.block_bytes());
        scratch.blocks.fit(blocks.len() / stride, layout.pieces.len());
        scan_blocks(blocks, stride, &layout.pieces, &tables.lut, &mut scratch.blocks.sums);
    }
}

/// What the bounds of a block's vectors take from their lists.
trait Lanes {
    type Block;
    /// For block number `block`: what all keys of each vector's list share, and what
    /// [`offsets`](Lanes::offsets) needs.
    fn block(&self, block: usize) -> ([f32; BLOCK], Self::Block);
    /// The offset of the line of piece `piece` for each vector.
    fn offsets(&self, block: &Self::Block, piece: usize) -> [f32; BLOCK];
}

/// All vectors are of one list.
struct OneList<'a> {
    constant: f32,
    /// For each piece.
    offsets: &'a [f32],
}

impl Lanes for OneList<'_> {
    type Block = ();

    #[inline(always)]
    fn block(&self, _: usize) -> ([f32; BLOCK], ()) {
        ([self.constant; BLOCK], ())
    }

    #[inline(always)]
    fn offsets(&self, (): &(), piece: usize) -> [f32; BLOCK] {
        [self.offsets[piece]; BLOCK]
    }
}

/// Vectors from number `own` on are copies of vectors of other lists.
struct Mixed<'a> {
    /// Of each block's vectors.
    constants: &'a [[f32; BLOCK]],
    own: usize,
    /// For each piece, of vectors and of copies.
    offsets: &'a [f32],
    others: &'a [f32],
}

impl Lanes for Mixed<'_> {
    /// The first lane that has a copy.
    type Block = i32;

    #[inline(always)]
    fn block(&self, block: usize) -> ([f32; BLOCK], i32) {
        (self.constants[block], self.own.saturating_sub(block * BLOCK).min(BLOCK) as i32)
    }

    #[inline(always)]
    fn offsets(&self, &own: &i32, piece: usize) -> [f32; BLOCK] {
        let (offset, other) = (self.offsets[piece], self.others[piece]);
        let mut offsets = [0.0; BLOCK];
        for (v, out) in (0..).zip(&mut offsets) {
            *out = if v < own { offset } else { other };
        }
        offsets
    }
}

struct Bounds<'a, L> {
    codes: QueryModel<'a>,
    lanes: L,
    lines: &'a [Line],
    blocks: &'a [u8],
    /// For each block the sums of each piece.
    sums: &'a [u16],
    bounds: &'a mut [[f32; BLOCK]],
}

impl<L: Lanes> Vectorize for Bounds<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Bounds { codes, lanes, lines, blocks, sums, bounds } = self;
        let QueryModel { model, layout } = codes;
        let sums = sums.chunks_exact(layout.pieces.len() * BLOCK);
        let blocks = blocks.chunks_exact(layout.block_bytes());
        for (number, ((block, sums), bounds)) in blocks.zip(sums).zip(bounds).enumerate() {
            let (constants, lists) = lanes.block(number);
            let factors = &block[layout.groups * BLOCK / 2..];
            additive(model.frame.additive, &constants, factors, bounds);
            if layout.shift_bytes == 1 {
                let codes = &factors[layout.additive_bytes * BLOCK..][..BLOCK];
                for (bound, &code) in bounds.iter_mut().zip(codes) {
                    *bound += model.decode_shift(code);
                }
            }
            let pieces = layout.piece_segments.iter().zip(lines).enumerate();
            for ((piece, (&s, line)), sums) in pieces.zip(sums.as_chunks::<BLOCK>().0) {
                let segment = &layout.segments[s];
                let scales = &factors[segment.scale * BLOCK..][..segment.scale_bytes * BLOCK];
                let line = (line.slope, &lanes.offsets(&lists, piece));
                if segment.scale_bytes == 1 {
                    let codes = scales.iter().map(|&k| u32::from(k));
                    subtract(bounds, sums, line, codes, scale::BYTE);
                } else {
                    let codes = scales.as_chunks::<2>().0.iter();
                    let codes = codes.map(|&k| u32::from(u16::from_le_bytes(k)));
                    subtract(bounds, sums, line, codes, scale::PAIR);
                }
            }
        }
    }
}

/// `bounds = constants + additive factors`.
#[inline(always)]
fn additive(
    code: AdditiveCode,
    constants: &[f32; BLOCK],
    factors: &[u8],
    bounds: &mut [f32; BLOCK],
) {
    let constants = constants.iter();
    if code.bytes == 4 {
        let values = factors.as_chunks::<4>().0;
        for ((bound, value), constant) in bounds.iter_mut().zip(values).zip(constants) {
            *bound = constant + f32::from_le_bytes(*value);
        }
        return;
    }
    let codes = factors.as_chunks::<2>().0;
    let mut outside = false;
    for ((bound, &value), constant) in bounds.iter_mut().zip(codes).zip(constants.clone()) {
        let value = u16::from_le_bytes(value);
        *bound = constant + code.decode_linear(value);
        outside |= AdditiveCode::is_outside(value);
    }
    if outside {
        for ((bound, &value), constant) in bounds.iter_mut().zip(codes).zip(constants) {
            *bound = constant + code.decode(u16::from_le_bytes(value));
        }
    }
}

/// `bounds -= scale * (slope * sum + offset)`.
#[inline(always)]
fn subtract(
    bounds: &mut [f32; BLOCK],
    sums: &[u16; BLOCK],
    (slope, offsets): (f32, &[f32; BLOCK]),
    scales: impl Iterator<Item = u32>,
    format: scale::ScaleFormat,
) {
    for (((bound, &sum), offset), code) in bounds.iter_mut().zip(sums).zip(offsets).zip(scales) {
        *bound -= format.decode(code) * (slope * f32::from(sum) + offset);
    }
}
