//! Estimating distances from codes.
//!
//! A search runs in stages (`saq` module, and section 5 of the paper):
//!
//! 1. [`QueryModel::lower_bounds`] reads the first stage of whole blocks and gives for each vector
//!    a value that its key undercuts only with the probability that `confidence` stands for.
//! 2. [`QueryModel::refine`] reads the remaining bits of a single vector and gives the key itself.
//!
//! A *key* is what smaller is nearer by: `l2_sq`, or the negated inner product.
//!
//! **The bound.** The error of a segment's estimate is `<q - c, ô - o>` over its dimensions. After
//! the random rotation its standard deviation is `|q - c| |ô - o| / sqrt(dims)`, and
//! `|ô - o| / sqrt(dims)` is the vector's scale times a constant of the segment. Segments that the
//! first stage does not read, and dropped ones, are bounded by what near pairs share there: the
//! mean of their cosine plus `confidence` standard deviations.
//!
//! **The correction.** Over dropped dimensions near neighbours agree about as well as over the
//! kept ones, random vectors not at all. With `cos` the estimated cosine over the kept dimensions,
//! `correction * max(cos, 0)^2 * |tail of x| |tail of q - c|` is added to the inner product; the
//! factor is fitted in training. It removes the bias of near neighbours and leaves random vectors
//! alone.

use nonius_simd::{BLOCK, FieldQuery, Vectorize, scan_blocks};

use super::Model;
use super::layout::{Layout, SegmentLayout, fields};
use crate::metric::Metric;

/// Model and format together: what codes of an index mean.
#[derive(Clone, Copy)]
pub(crate) struct QueryModel<'a> {
    pub(crate) model: &'a Model,
    pub(crate) layout: &'a Layout,
}

/// A segment's part of a query.
#[derive(Clone, Copy, Debug, Default)]
struct SegmentQuery {
    /// `<q, first stage>` is `step * sum + bias`, in units of the vector's scale.
    step: f32,
    bias: f32,
    /// What a unit of the integer query is worth.
    field_step: f32,
    /// The variance that rounding the table adds, in units of the scale.
    table_variance: f32,
}

/// The tables of a query. They serve all lists; buffers are reused from query to query.
#[derive(Default)]
pub(crate) struct Query {
    /// The rotated query, relative to the mean: `dims` values.
    pub(crate) values: Vec<f32>,
    /// `|q|^2` of the above, or the negated inner product with the mean.
    constant: f32,
    confidence: f32,
    segments: Vec<SegmentQuery>,
    /// `groups x 16` bytes: the first stage's table.
    lut: Vec<u8>,
    /// `groups x 16`: what the first stage's bits add to the full inner product.
    tops: Vec<f32>,
    /// All dimensions as integers.
    fields: FieldQuery,
    sums: Vec<u16>,
}

/// A query as seen from one list.
#[derive(Default)]
pub(crate) struct ListQuery {
    /// What all keys of the list share.
    constant: f32,
    /// `|q - c|^2`.
    distance_sq: f32,
    /// `|q - c|^2` over each segment.
    segment_sq: Vec<f32>,
    /// Variance of the first stage's error for each segment, per squared scale.
    variance: Vec<f32>,
    /// What segments without first stage may lower the key by, per scale.
    unseen: Vec<f32>,
}

/// Blocks that the first stage reads at a time: their sums stay in the first cache.
pub(crate) const SCAN_BLOCKS: usize = 16;

impl QueryModel<'_> {
    /// Prepares the tables of a query; `query.values` holds the rotated query. `mean_dot` is the
    /// inner product of the query with the mean, which only the inner-product metric needs.
    pub(crate) fn prepare(&self, query: &mut Query, mean_dot: f32, confidence: f32) {
        let layout = self.layout;
        let Query { values, constant, segments, lut, tops, fields, .. } = query;
        *constant = match self.model.metric {
            Metric::L2 | Metric::Cosine => nonius_simd::dot_f32(values, values),
            Metric::InnerProduct => -mean_dot,
        };
        query.confidence = confidence;
        segments.clear();
        lut.clear();
        tops.clear();
        for (segment, constants) in layout.segments.iter().zip(&self.model.constants) {
            let q = &values[segment.start..segment.start + segment.dims];
            let largest = q.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let mut out = SegmentQuery {
                field_step: largest.max(f32::MIN_POSITIVE) / FieldQuery::MAX as f32,
                ..SegmentQuery::default()
            };
            if segment.scan_bits > 0 {
                first_stage_tables(segment, constants.levels, q, lut, tops, &mut out);
            } else {
                let half = ((1u32 << segment.bits) - 1) as f32 * 0.5;
                out.bias = -half * q.iter().sum::<f32>();
            }
            segments.push(out);
        }
        fields.set(layout.segments.iter().zip(segments.iter()).flat_map(|(segment, s)| {
            let inverse = 1.0 / s.field_step;
            values[segment.start..segment.start + segment.dims].iter().map(move |&q| {
                ((q * inverse).round() as i32).clamp(-FieldQuery::MAX, FieldQuery::MAX)
            })
        }));
    }

    /// Looks at the query from a list; `centroid` is the rotated centroid relative to the mean,
    /// or nothing where there is a single list around the mean.
    pub(crate) fn enter_list(&self, query: &Query, centroid: Option<&[f32]>, out: &mut ListQuery) {
        let layout = self.layout;
        let alpha = self.model.alpha();
        let q = &query.values;
        out.segment_sq.clear();
        out.variance.clear();
        out.unseen.clear();
        out.constant =
            query.constant - centroid.map_or(0.0, |c| alpha * nonius_simd::dot_f32(q, c));
        out.distance_sq = 0.0;
        let z = query.confidence;
        for ((segment, constants), tables) in
            layout.segments.iter().zip(&self.model.constants).zip(&query.segments)
        {
            let range = segment.start..segment.start + segment.dims;
            let sq = match centroid {
                Some(c) => nonius_simd::l2_sq_f32(&q[range.clone()], &c[range]),
                None => nonius_simd::dot_f32(&q[range.clone()], &q[range]),
            };
            out.segment_sq.push(sq);
            out.distance_sq += sq;
            let error = alpha * constants.scan_error;
            if segment.scan_bits > 0 {
                out.variance.push(error * error * sq + alpha * alpha * tables.table_variance);
                out.unseen.push(0.0);
            } else {
                let near = (constants.near_mean + z * constants.near_deviation).clamp(0.0, 1.0);
                let norm = constants.norm * (segment.dims as f32 * sq).sqrt();
                out.variance.push(0.0);
                out.unseen.push(alpha * near * norm);
            }
        }
    }

    /// Lower bounds of the keys of whole blocks: `lower` holds 32 values a block, those of
    /// missing vectors meaningless.
    pub(crate) fn lower_bounds(
        &self,
        query: &mut Query,
        list: &ListQuery,
        blocks: &[u8],
        lower: &mut [f32],
    ) {
        let layout = self.layout;
        let stride = layout.block_bytes();
        let count = lower.len() / BLOCK;
        let mut sums = std::mem::take(&mut query.sums);
        sums.clear();
        // Sums of 16 bits hold 257 groups: longer segments are split.
        for segment in layout.segments.iter().filter(|s| s.scan_bits > 0) {
            for (first, groups) in pieces(segment) {
                let start = sums.len();
                sums.resize(start + count * BLOCK, 0);
                scan_blocks(
                    &blocks[first * 16..],
                    stride,
                    groups,
                    &query.lut[first * 16..(first + groups) * 16],
                    &mut sums[start..],
                );
            }
        }
        nonius_simd::level().vectorize(Bounds {
            model: *self,
            query,
            list,
            blocks,
            sums: &sums,
            lower,
        });
        query.sums = sums;
    }

    /// The key of vector `v` of a block, from all its bits; `rest` is its row of remaining bits.
    pub(crate) fn refine(
        &self,
        query: &Query,
        list: &ListQuery,
        block: &[u8],
        v: usize,
        rest: &[u8],
    ) -> f32 {
        let layout = self.layout;
        let factors = &block[layout.groups * BLOCK / 2..];
        let (lane, shift) = (v % 16, 4 * (v / 16));
        let mut dot = 0.0;
        let mut kept_sq = 0.0;
        let mut kept_query_sq = 0.0;
        let (mut tail, mut tail_query_sq) = (0.0, 0.0);
        for (s, (segment, constants)) in
            layout.segments.iter().zip(&self.model.constants).enumerate()
        {
            let scale = read_scale(segment, factors, v) * constants.unit;
            if segment.bits == 0 {
                tail = scale;
                tail_query_sq = list.segment_sq[s];
                continue;
            }
            let mut sum = 0.0;
            if segment.scan_bits > 0 {
                let codes = &block[segment.group * 16..][..segment.groups * 16];
                let tops = &query.tops[segment.group * 16..][..segment.groups * 16];
                for (codes, tops) in codes.as_chunks::<16>().0.iter().zip(tops.as_chunks::<16>().0)
                {
                    sum += tops[usize::from(codes[lane] >> shift & 15)];
                }
            }
            let mut at = segment.rest;
            let mut integer = 0i64;
            for (width, place) in fields(segment.rest_bits()) {
                let bytes = nonius_simd::field_bytes(width, segment.dims);
                let part = &rest[at..at + bytes];
                at += bytes;
                integer += i64::from(nonius_simd::dot_fields(
                    width,
                    segment.dims,
                    part,
                    &query.fields,
                    segment.start,
                )) << place;
            }
            let tables = &query.segments[s];
            sum += tables.field_step * integer as f32;
            if segment.scan_bits == 0 {
                sum += tables.bias;
            }
            dot += scale * sum;
            kept_sq += constants.norm * constants.norm * segment.dims as f32 * scale * scale;
            kept_query_sq += list.segment_sq[s];
        }
        let alpha = self.model.alpha();
        let key = list.constant + self.additive(factors, v) - alpha * dot;
        if tail > 0.0 && self.model.correction > 0.0 && kept_sq > 0.0 && kept_query_sq > 0.0 {
            // <q - c, ô>: with a single list the estimate itself; else solved for from the key, a
            // squared distance. (Inner products with lists have no correction.)
            let kept_dot = if self.model.lists {
                0.5 * (kept_sq + tail * tail + list.distance_sq - key)
            } else {
                dot
            };
            let cosine = (kept_dot / (kept_sq * kept_query_sq).sqrt()).clamp(0.0, 1.0);
            let missing = self.model.correction * cosine * cosine * tail * tail_query_sq.sqrt();
            return key - alpha * missing;
        }
        key
    }

    /// The standard deviation of the error of [`refine`](QueryModel::refine) for vector `v` of a
    /// block.
    pub(crate) fn deviation(&self, list: &ListQuery, block: &[u8], v: usize) -> f32 {
        let layout = self.layout;
        let factors = &block[layout.groups * BLOCK / 2..];
        let mut variance = 0.0;
        for (s, (segment, constants)) in
            layout.segments.iter().zip(&self.model.constants).enumerate()
        {
            let scale = read_scale(segment, factors, v) * constants.unit;
            let error = self.model.alpha() * constants.full_error * scale;
            variance += error * error * list.segment_sq[s];
        }
        variance.sqrt()
    }

    fn additive(&self, factors: &[u8], v: usize) -> f32 {
        match self.layout.additive_bytes {
            2 => {
                self.model.additive.decode(u16::from_le_bytes([factors[2 * v], factors[2 * v + 1]]))
            }
            _ => {
                let at = 4 * v;
                f32::from_le_bytes([factors[at], factors[at + 1], factors[at + 2], factors[at + 3]])
            }
        }
    }
}

/// The scale of vector `v` of a block, in the segment's unit.
fn read_scale(segment: &SegmentLayout, factors: &[u8], v: usize) -> f32 {
    segment.decode_scale(&factors[segment.scale * BLOCK + v * segment.scale_bytes..])
}

/// The pieces of a segment's groups that one call of [`scan_blocks`] may take.
fn pieces(segment: &SegmentLayout) -> impl Iterator<Item = (usize, usize)> {
    const MOST: usize = 256;
    let (start, end) = (segment.group, segment.group + segment.groups);
    (start..end).step_by(MOST).map(move |first| (first, (end - first).min(MOST)))
}

/// Builds the first stage's tables of one segment.
fn first_stage_tables(
    segment: &SegmentLayout,
    levels: [f32; 2],
    q: &[f32],
    lut: &mut Vec<u8>,
    tops: &mut Vec<f32>,
    out: &mut SegmentQuery,
) {
    let width = segment.scan_bits as usize;
    let per_group = 4 / width;
    let rest = segment.rest_bits();
    let half = ((1u32 << segment.bits) - 1) as f32 * 0.5;
    let [inner, outer] = levels;
    // What the top bits of a coordinate stand for, in the first stage and as a part of the code.
    let mut first = [0.0f32; 4];
    let mut full = [0.0f32; 4];
    if width == 1 {
        first[..2].copy_from_slice(&[-inner, inner]);
    } else {
        first = [-outer, -inner, inner, outer];
    }
    for (top, full) in full.iter_mut().enumerate() {
        *full = ((top as u32) << rest) as f32 - half;
    }
    let start = lut.len();
    let mut values = [0.0f32; 16];
    // Entries are relative to the smallest of their group; one step serves the whole segment.
    let reach = first[(1 << width) - 1];
    let mut range = 0.0f32;
    for q in q.chunks_exact(per_group) {
        range = range.max(2.0 * reach * q.iter().map(|q| q.abs()).sum::<f32>());
    }
    out.step = (range / 255.0).max(f32::MIN_POSITIVE);
    let inverse = 1.0 / out.step;
    for q in q.chunks_exact(per_group) {
        let mut exact = [0.0f32; 16];
        for entry in 0..16 {
            let (mut a, mut b) = (0.0, 0.0);
            for (i, &q) in q.iter().enumerate() {
                let top = entry >> (i * width) & ((1 << width) - 1);
                a += q * first[top];
                b += q * full[top];
            }
            values[entry] = a;
            exact[entry] = b;
        }
        let low = -reach * q.iter().map(|q| q.abs()).sum::<f32>();
        out.bias += low;
        lut.extend(values.map(|v| ((v - low) * inverse + 0.5) as u8));
        tops.extend(exact);
    }
    // Rounding is uniform within a step.
    let groups = (lut.len() - start) / 16;
    out.table_variance = out.step * out.step * groups as f32 / 12.0;
}

struct Bounds<'a> {
    model: QueryModel<'a>,
    query: &'a Query,
    list: &'a ListQuery,
    blocks: &'a [u8],
    sums: &'a [u16],
    lower: &'a mut [f32],
}

impl Vectorize for Bounds<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Bounds { model: QueryModel { model, layout }, query, list, blocks, sums, lower } = self;
        let stride = layout.block_bytes();
        let alpha = model.alpha();
        let total = lower.len();
        let blocks = blocks.chunks(stride);
        for (index, (lower, block)) in
            lower.as_chunks_mut::<BLOCK>().0.iter_mut().zip(blocks).enumerate()
        {
            let factors = &block[layout.groups * BLOCK / 2..];
            let mut key = [0.0f32; BLOCK];
            if layout.additive_bytes == 2 {
                let codes = factors.as_chunks::<2>().0;
                for (key, code) in key.iter_mut().zip(&codes[..BLOCK]) {
                    *key = list.constant + model.additive.decode(u16::from_le_bytes(*code));
                }
            } else {
                let values = factors.as_chunks::<4>().0;
                for (key, value) in key.iter_mut().zip(&values[..BLOCK]) {
                    *key = list.constant + f32::from_le_bytes(*value);
                }
            }
            if layout.shift_bytes == 1 {
                let codes = &factors[layout.additive_bytes * BLOCK..][..BLOCK];
                for (key, &code) in key.iter_mut().zip(codes) {
                    *key += model.decode_shift(code);
                }
            }
            let mut variance = [0.0f32; BLOCK];
            let mut at = index * BLOCK;
            for (s, (segment, constants)) in
                layout.segments.iter().zip(&model.constants).enumerate()
            {
                let mut scale = [0.0f32; BLOCK];
                let codes = &factors[segment.scale * BLOCK..][..segment.scale_bytes * BLOCK];
                if segment.scale_bytes == 1 {
                    for j in 0..BLOCK {
                        scale[j] = super::scale::BYTE.decode(u32::from(codes[j])) * constants.unit;
                    }
                } else {
                    let codes = codes.as_chunks::<2>().0;
                    for j in 0..BLOCK {
                        let code = u32::from(u16::from_le_bytes(codes[j]));
                        scale[j] = super::scale::PAIR.decode(code) * constants.unit;
                    }
                }
                if segment.scan_bits > 0 {
                    let tables = &query.segments[s];
                    let mut sum = [0.0f32; BLOCK];
                    for _ in pieces(segment) {
                        let sums = &sums[at..at + BLOCK];
                        at += total;
                        for j in 0..BLOCK {
                            sum[j] += f32::from(sums[j]);
                        }
                    }
                    let weight = list.variance[s];
                    for j in 0..BLOCK {
                        let dot = tables.step * sum[j] + tables.bias;
                        key[j] -= alpha * scale[j] * dot;
                        variance[j] += weight * scale[j] * scale[j];
                    }
                } else {
                    let unseen = list.unseen[s];
                    for j in 0..BLOCK {
                        key[j] -= unseen * scale[j];
                    }
                }
            }
            for j in 0..BLOCK {
                lower[j] = key[j] - query.confidence * variance[j].sqrt();
            }
        }
    }
}
