//! What others need to scan SAQ codes: see [`raw`](crate::raw).

use super::layout::{Layout, SegmentLayout};
use super::query::{SegmentQuery, Tables};
use super::scale::ScaleFormat;
use super::{Line, Model};
use crate::index::raw::RawSegment;

/// The tables of a query for SAQ.
///
/// **Bounds.** `dot` of a piece is the inner product of the query's values and the
/// [`levels`](RawSegment::levels) that the piece's bits stand for, in the segment's unit; `scale` is that of
/// the segment without the unit. Then
///
/// ```text
/// offset(line) = line.near * sqrt(distance_sq)
///              + confidence / sqrt(V) * (line.variance[0] + line.variance[1] * distance_sq)
/// V            = variance[0] + variance[1] * distance_sq, and 0 instead of the last term where V is 0
/// bound = constant + additive + shift - sum over pieces of scale * (alpha * dot + offset(line))
/// ```
///
/// Where there are no pieces nothing is known, and the bound is negative infinity.
///
/// **Keys.** With `scale` now in its segment's unit, and segments of 0 bits left out,
///
/// ```text
/// dot = sum over segments of scale * field_step / 2 * sum over i of (2 number_i - (2^bits - 1)) * integer_i
/// key = constant + additive - alpha * dot
/// ```
///
/// where the inner sum is an integer. Of the constants, `constant` and `distance_sq` are here those of the
/// list's view. If the last segment has 0 bits and a scale `tail > 0`, and `correction > 0`, then with
/// `kept_sq = sum of energy * scale^2` and `kept_query_sq = sum of segment_sq` over the other segments,
/// both above 0,
///
/// ```text
/// kept_dot = (kept_sq + tail^2 + distance_sq - key) / 2 where there are lists, else dot
/// cosine   = kept_dot / sqrt(kept_sq * kept_query_sq), cut off to 0..=1
/// key     -= alpha * correction * cosine^2 * tail * sqrt(segment_sq of the last segment)
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SaqQuery<'a> {
    /// A line for each piece.
    pub lines: &'a [Line],
    /// How many deviations bounds allow for.
    pub confidence: f32,
    /// See above.
    pub variance: [f32; 2],
    /// The query in integers of at most 14 bits, each segment with a unit of its own: `dims` values.
    pub integers: &'a [i32],
    segments: &'a [SegmentQuery],
}

impl SaqQuery<'_> {
    /// What a unit of the integers of a segment is worth.
    ///
    /// # Panics
    /// If there is no such segment.
    pub fn field_step(&self, segment: usize) -> f32 {
        self.segments[segment].field_step
    }
}

impl Tables {
    pub(crate) fn raw(&self) -> SaqQuery<'_> {
        let (confidence, variance, lines) = self.bound.raw();
        let (integers, segments) = (&self.integers[..], &self.segments[..]);
        SaqQuery { lines, confidence, variance, integers, segments }
    }
}

impl Model {
    pub(crate) fn raw_segments(&self, layout: &Layout) -> Vec<RawSegment> {
        let segments = layout.segments.iter().zip(&self.constants);
        segments
            .map(|(segment, constants)| {
                let format = ScaleFormat::of_bits(segment.bits);
                RawSegment {
                    start: segment.start,
                    dims: segment.dims,
                    bits: segment.bits,
                    scan_bits: segment.scan_bits,
                    groups: (segment.group, segment.groups),
                    levels: constants.levels,
                    unit: constants.unit,
                    energy: constants.energy(segment.dims),
                    scale_shift: format.shift,
                    scale_base: format.base,
                }
            })
            .collect()
    }

    /// The record of a vector, in `record`.
    pub(crate) fn raw_vector(
        &self,
        layout: &Layout,
        block: &[u8],
        lane: usize,
        rest: &[u8],
        record: &mut Vec<u8>,
    ) {
        record.resize(layout.record_bytes(), 0);
        layout.unpack_block(block, lane, record);
        record[layout.rest_start()..].copy_from_slice(rest);
    }
}

impl SegmentLayout {
    /// The code of the scale in a record.
    pub(crate) fn read_scale_code(&self, layout: &Layout, record: &[u8]) -> u16 {
        let bytes = &record[layout.scale_start(self)..];
        match self.scale_bytes {
            1 => u16::from(bytes[0]),
            _ => u16::from_le_bytes([bytes[0], bytes[1]]),
        }
    }
}
