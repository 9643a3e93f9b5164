//! Keys of single vectors, from all bits of their codes.
//!
//! **The correction.** Over dropped dimensions near neighbours agree about as well as over the
//! kept ones, random vectors not at all. With `cos` the estimated cosine over the kept dimensions,
//! `correction * max(cos, 0)^2 * |tail of x| |tail of q - c|` is added to the inner product; the
//! factor is fitted in training. It removes the bias of near neighbours and leaves random vectors
//! alone.

use nonius_simd::{BLOCK, FieldSums, dot_fields};

use super::layout::SegmentLayout;
use super::query::{QueryModel, Tables};
use crate::quantizer::view::View;

/// Buffers of [`QueryModel::refine`].
#[derive(Default)]
pub(crate) struct RefineScratch {
    sums: FieldSums,
}

impl QueryModel<'_> {
    /// The point that the code of vector `v` of a block stands for, from no more than the top `bits` bits of
    /// every dimension; `rest` is its row of the rest.
    pub(crate) fn point(&self, block: &[u8], v: usize, rest: &[u8], bits: u32) -> Vec<f32> {
        let QueryModel { model, layout } = *self;
        let factors = &block[layout.factors_start()..];
        let codes = layout.numbers(block, v, rest);
        let mut point = vec![0.0f32; layout.dims];
        for (segment, constants) in layout.segments.iter().zip(&model.constants) {
            if segment.bits == 0 {
                continue;
            }
            let scale = self.scale_of(segment, factors, v, rest) * constants.unit;
            let half = ((1u32 << segment.bits) - 1) as f32 * 0.5;
            // The middle of the cell that the top bits leave.
            let dropped = segment.bits.saturating_sub(bits);
            let middle = ((1u32 << dropped) - 1) as f32 * 0.5;
            // The encoder's scale makes <ô, o> = |o|^2; as a point the nearest is a little
            // shorter, by the squared cosine between the two.
            let norm_sq = constants.norm * constants.norm;
            let all = norm_sq + constants.full_error.powi(2);
            // Both are 0 where the segment holds nothing.
            let cosine_sq = if all > 0.0 { norm_sq / all } else { 0.0 };
            for d in segment.start..segment.start + segment.dims {
                let top = f32::from(codes[d] >> dropped << dropped);
                point[d] = (top + middle - half) * scale * cosine_sq;
            }
        }
        point
    }

    /// The key of vector `v` of a block, from all its bits; `rest` is its row of the rest,
    /// and best what lies behind it too (see [`dot_fields`]).
    pub(crate) fn refine(
        &self,
        query: &Tables,
        list: &View,
        block: &[u8],
        v: usize,
        rest: &[u8],
        scratch: &mut RefineScratch,
    ) -> f32 {
        let QueryModel { model, layout } = *self;
        let factors = &block[layout.factors_start()..];
        let plan = &layout.sums.plan;
        let sums = dot_fields(plan, block, v, rest, &query.fields, &mut scratch.sums);
        let (mut dot, mut kept_sq, mut kept_query_sq) = (0.0, 0.0, 0.0);
        let (mut tail, mut tail_query_sq) = (0.0, 0.0);
        for (s, (segment, constants)) in layout.segments.iter().zip(&model.constants).enumerate() {
            let scale = self.scale_of(segment, factors, v, rest) * constants.unit;
            if segment.bits == 0 {
                tail = scale;
                tail_query_sq = list.segment_sq[s];
                continue;
            }
            let integer = layout.sums.total(segment.sums.clone(), sums);
            // Codes stand for half-integers around zero: twice their inner product.
            let tables = &query.segments[s];
            let doubled = 2 * integer - ((1 << segment.bits) - 1) * tables.sum;
            dot += scale * (0.5 * tables.field_step * doubled as f32);
            kept_sq += constants.energy(segment.dims) * scale * scale;
            kept_query_sq += list.segment_sq[s];
        }
        let alpha = model.frame.alpha();
        let key = list.constant + self.additive(factors, v) - alpha * dot;
        if tail > 0.0 && model.correction > 0.0 && kept_sq > 0.0 && kept_query_sq > 0.0 {
            // <q - c, ô>: with a single list the estimate itself; else solved for from the key, a
            // squared distance. (Inner products with lists have no correction.)
            let kept_dot = if model.frame.lists {
                0.5 * (kept_sq + tail * tail + list.distance_sq - key)
            } else {
                dot
            };
            let cosine = (kept_dot / (kept_sq * kept_query_sq).sqrt()).clamp(0.0, 1.0);
            let missing = model.correction * cosine * cosine * tail * tail_query_sq.sqrt();
            return key - alpha * missing;
        }
        key
    }

    /// The standard deviation of the error of [`refine`](QueryModel::refine) for vector `v` of a
    /// block.
    pub(crate) fn deviation(&self, list: &View, block: &[u8], v: usize, rest: &[u8]) -> f32 {
        let QueryModel { model, layout } = *self;
        let factors = &block[layout.factors_start()..];
        let mut variance = 0.0;
        for (s, (segment, constants)) in layout.segments.iter().zip(&model.constants).enumerate() {
            let scale = self.scale_of(segment, factors, v, rest) * constants.unit;
            let error = model.frame.alpha() * constants.full_error * scale;
            variance += error * error * list.segment_sq[s];
        }
        variance.sqrt()
    }

    /// The scale of a segment of vector `v` of a block, in the segment's unit.
    #[inline]
    fn scale_of(&self, segment: &SegmentLayout, factors: &[u8], v: usize, rest: &[u8]) -> f32 {
        segment.decode_scale(match segment.scan_bits {
            0 => &rest[segment.scale..],
            _ => &factors[segment.scale * BLOCK + v * segment.scale_bytes..],
        })
    }

    fn additive(&self, factors: &[u8], v: usize) -> f32 {
        self.model.frame.additive.read(&factors[v * self.layout.additive_bytes..])
    }
}
