//! Keys of vectors, and bounds of whole blocks, from the tables of a query.
//!
//! With `t` the upper 4 bits of a code of `4 + r` bits and `k` the whole of it, the inner product of a
//! query with what the code stands for is
//!
//! ```text
//! sum over i of q_i (low_i + step_i k_i),   k_i = 2^r t_i + lower bits
//! ```
//!
//! where `low` and `step` are one pair for all dimensions if they are the vector's own. The first stage
//! looks up the `t`; it takes the lower bits to be in the middle, `(2^r - 1) / 2`. Rounded values err
//! evenly within their steps, so the error of an inner product with the query has a deviation that the
//! query alone decides, up to the vector's step; and it is no larger than what the lower bits leave of
//! the vector for a query that is the vector itself, which a bound has to allow for.

use nonius_simd::{
    BLOCK, FieldQuery, FieldSums, GROUP, ListConstants, Vectorize, dot_fields, level, scan_blocks,
};

use super::{Ends, Layout, Model, Range};
use crate::quantizer::blocks::round_query;
use crate::quantizer::view::{ROUNDINGS, ScanScratch, report, total};
use crate::train::ROUND;

/// Model, format and ranges together: what codes of an index mean.
#[derive(Clone, Copy)]
pub(crate) struct QueryModel<'a> {
    pub(crate) model: &'a Model,
    pub(crate) layout: &'a Layout,
    /// Of each dimension; none where each vector has its own.
    pub(crate) ranges: &'a [Range],
}

/// The tables of a query. They serve all lists; buffers are reused from query to query.
#[derive(Default)]
pub(crate) struct Tables {
    /// What a code is multiplied by: the query times the step, where dimensions have one.
    weights: Vec<f32>,
    /// What is multiplied by a vector's `low`, or, where dimensions have ranges, the inner product of
    /// the query with theirs.
    base: f32,
    /// `dims x 16`: the first stage's table, for inner products `bias + step * sum` with the upper bits.
    lut: Vec<u8>,
    bias: f32,
    step: f32,
    /// The inner product with the middle of the lower bits.
    middle: f32,
    /// How far an inner product may be below its first stage, in units of a vector's own step: a multiple
    /// of the deviations.
    reach: f32,
    /// What the lower bits leave of a vector, in units of its own step squared.
    left_sq: f32,
    integers: Vec<i32>,
    fields: FieldQuery,
    /// What a unit of the integers is worth.
    field_step: f32,
}

/// Partial sums of an inner product: the additions do not wait for each other.
const LANES: usize = 8;

/// Buffers of [`QueryModel::key`].
#[derive(Default)]
pub(crate) struct RefineScratch {
    sums: FieldSums,
}

impl QueryModel<'_> {
    /// Prepares the tables of a rotated query. `confidence` is how many deviations of the first stage's
    /// errors bounds allow for.
    pub(crate) fn prepare(&self, values: &[f32], confidence: f32, tables: &mut Tables) {
        let dims = self.layout.dims;
        tables.weights.resize(dims, 0.0);
        tables.lut.resize(dims * 16, 0);
        tables.integers.resize(dims, 0);
        level().vectorize(Fill { codes: *self, values, confidence, tables });
        tables.fields.set(&self.layout.sums.plan, &tables.integers);
    }

    /// Scans blocks and calls `found` with the number within `blocks` and the lower bound of each
    /// vector among the first `count` whose bound does not exceed `threshold`.
    pub(crate) fn scan(
        &self,
        tables: &Tables,
        constants: ListConstants<'_>,
        blocks: &[u8],
        count: usize,
        threshold: f32,
        scratch: &mut ScanScratch,
        found: impl FnMut(usize, f32),
    ) {
        let (layout, stride) = (self.layout, self.layout.block_bytes());
        scratch.fit(blocks.len() / stride, layout.pieces.len());
        let ScanScratch { sums, bounds, passed } = scratch;
        scan_blocks(blocks, stride, &layout.pieces, &tables.lut, sums);
        level().vectorize(Bounds { codes: *self, tables, constants, blocks, sums, bounds });
        report(bounds, passed, count, threshold, found);
    }

    /// What the code of vector `v` of a block stands for; of two levels the first alone if `levels` is 1.
    /// `rest` is its row of the rest.
    pub(crate) fn point(&self, block: &[u8], v: usize, rest: &[u8], levels: usize) -> Vec<f32> {
        let (mut grid, mut shift) = (self.layout.grid, 0);
        if grid.second > 0 && levels < 2 {
            (grid.second, shift) = (0, grid.second);
        }
        let ends = self.layout.ends(block);
        let range = |dim: usize| match grid.own {
            true => grid.range(Ends::read([ends[v], ends[BLOCK + v]])),
            false => self.ranges[dim],
        };
        let codes = self.layout.numbers(block, v, rest).into_iter().enumerate();
        codes
            .map(|(dim, code)| range(dim).low + range(dim).step * f32::from(code >> shift))
            .collect()
    }

    /// The key of vector `v` of a block, from all its bits; `rest` is its row of the rest, and `constant`
    /// what all keys of its list share.
    pub(crate) fn key(
        &self,
        tables: &Tables,
        constant: f32,
        block: &[u8],
        v: usize,
        rest: &[u8],
        scratch: &mut RefineScratch,
    ) -> f32 {
        let QueryModel { model, layout, .. } = *self;
        let mut lanes = [0.0f32; LANES];
        let tops = layout.tops(block, v);
        for (i, (top, weight)) in tops.zip(&tables.weights).enumerate() {
            lanes[i % LANES] += weight * f32::from(top);
        }
        let upper: f32 = lanes.iter().sum();
        let plan = &layout.sums.plan;
        let sums = dot_fields(plan, block, v, rest, &tables.fields, &mut scratch.sums);
        let lower = layout.sums.total(0..sums.len(), sums);
        let scale = (1u32 << layout.grid.rest_bits()) as f32;
        let codes = scale * upper + tables.field_step * lower as f32;
        let dot = if layout.grid.own {
            let ends = layout.ends(block);
            let range = layout.grid.range(Ends::read([ends[v], ends[BLOCK + v]]));
            range.low * tables.base + range.step * codes
        } else {
            tables.base + codes
        };
        let additive = model.frame.additive.read(layout.additive(block, v));
        (constant + additive) - model.frame.alpha() * model.weight * dot
    }
}

struct Fill<'a> {
    codes: QueryModel<'a>,
    values: &'a [f32],
    confidence: f32,
    tables: &'a mut Tables,
}

impl Vectorize for Fill<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Fill { codes, values, confidence, tables } = self;
        let grid = codes.layout.grid;
        let parts = (1u32 << grid.rest_bits()) as f32;
        // The variance of numbers from 0 to parts - 1.
        let variance = (parts * parts - 1.0) / 12.0;
        tables.base = 0.0;
        if grid.own {
            tables.weights.copy_from_slice(values);
            tables.left_sq = variance * values.len() as f32;
            for q in values {
                tables.base += q;
            }
        } else {
            tables.left_sq = 0.0;
            for ((weight, q), range) in tables.weights.iter_mut().zip(values).zip(codes.ranges) {
                *weight = q * range.step;
                tables.base += q * range.low;
                tables.left_sq += variance * (range.step * range.step);
            }
        }
        let (mut largest, mut sum, mut sum_sq) = (0.0f32, 0.0, 0.0);
        tables.bias = 0.0;
        for &weight in &tables.weights {
            let size = weight.abs();
            largest = if size > largest { size } else { largest };
            sum += weight;
            sum_sq += weight * weight;
            tables.bias += if weight < 0.0 { 15.0 * weight } else { 0.0 };
        }
        tables.middle = sum * (0.5 * (parts - 1.0));
        tables.step = (15.0 * largest / 255.0).max(f32::MIN_POSITIVE);
        let inverse = 1.0 / tables.step;
        for (lut, &weight) in tables.lut.as_chunks_mut::<16>().0.iter_mut().zip(&tables.weights) {
            let low = if weight < 0.0 { 15.0 * weight } else { 0.0 };
            for (top, entry) in lut.iter_mut().enumerate() {
                *entry = ((weight * top as f32 - low) * inverse + ROUND).to_bits() as u8;
            }
        }
        let roundings = parts * tables.step * (tables.weights.len() as f32 / 12.0).sqrt();
        tables.reach = confidence * (variance * sum_sq).sqrt() + ROUNDINGS * roundings;
        (tables.field_step, _) = round_query(&tables.weights, &mut tables.integers);
    }
}

struct Bounds<'a> {
    codes: QueryModel<'a>,
    tables: &'a Tables,
    constants: ListConstants<'a>,
    blocks: &'a [u8],
    /// For each block the sums of each piece.
    sums: &'a [u16],
    bounds: &'a mut [[f32; BLOCK]],
}

impl Vectorize for Bounds<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Bounds { codes, tables, constants, blocks, sums, bounds } = self;
        let QueryModel { model, layout, .. } = codes;
        let (grid, additive) = (layout.grid, model.frame.additive);
        let alpha = model.frame.alpha();
        let weight = alpha * model.weight;
        let parts = (1u32 << grid.rest_bits()) as f32;
        let slope = parts * tables.step;
        let offset = parts * tables.bias + tables.middle + tables.reach;
        let sums = sums.chunks_exact(layout.pieces.len() * BLOCK);
        let blocks = blocks.chunks_exact(layout.block_bytes());
        for (number, ((block, sums), bounds)) in blocks.zip(sums).zip(bounds).enumerate() {
            let codes = total(sums);
            let constants = constants.of_block(number);
            let factors = &block[layout.dims * GROUP..][..layout.additive_bytes * BLOCK];
            let factors = factors.chunks_exact(layout.additive_bytes);
            for ((bound, constant), factor) in bounds.iter_mut().zip(&constants).zip(factors) {
                *bound = constant + additive.read(factor);
            }
            let lanes = bounds.iter_mut().zip(&codes);
            // The largest that the inner product of the codes with the query may be.
            let most = |codes: u32| slope * codes as f32 + offset;
            let Some((least, largest)) = layout.ends(block).split_at_checked(BLOCK) else {
                for (bound, &codes) in lanes {
                    *bound -= weight * (tables.base + most(codes)) + alpha * tables.left_sq;
                }
                continue;
            };
            for ((bound, &codes), (&least, &largest)) in lanes.zip(least.iter().zip(largest)) {
                let range = grid.range(Ends::read([least, largest]));
                let left_sq = range.step * range.step * tables.left_sq;
                let dot = range.low * tables.base + range.step * most(codes);
                *bound -= weight * dot + alpha * left_sq;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;
    use crate::quantizer::factor::AdditiveCode;
    use crate::quantizer::frame::Frame;
    use crate::quantizer::scalar::Grid;
    use crate::random::Random;

    #[test]
    fn keys_are_those_of_the_formula_and_bounds_lie_below() {
        let mut random = Random::new(1, 0);
        for (dims, grid, bytes, metric) in [
            (8, Grid { own: false, first: 4, second: 0 }, 2, Metric::L2),
            (40, Grid { own: false, first: 7, second: 0 }, 1, Metric::InnerProduct),
            (272, Grid { own: false, first: 8, second: 0 }, 4, Metric::L2),
            (24, Grid { own: true, first: 4, second: 0 }, 2, Metric::Cosine),
            (72, Grid { own: true, first: 6, second: 0 }, 4, Metric::InnerProduct),
            (264, Grid { own: true, first: 4, second: 8 }, 4, Metric::L2),
        ] {
            let mut normal =
                |n: usize| -> Vec<f32> { (0..n).map(|_| random.normal() as f32).collect() };
            let additive = match bytes {
                4 => AdditiveCode::EXACT,
                _ => AdditiveCode::spanning(-6.0, 6.0, bytes),
            };
            let ranges: Vec<Range> = match grid.own {
                true => Vec::new(),
                false => normal(dims)
                    .iter()
                    .map(|x| Range { low: x - 1.0, step: 0.1 * (x.abs() + 0.1) })
                    .collect(),
            };
            let frame = Frame { metric, dim: dims, dims, scale: 1.0, lists: true, additive };
            let model = Model { frame, grid, weight: 1.1 };
            let layout = model.layout();
            let codes = QueryModel { model: &model, layout: &layout, ranges: &ranges };
            let query = normal(dims);
            let mut tables = Tables::default();
            codes.prepare(&query, 2.0, &mut tables);

            // Three blocks of random bits, factors and ends.
            let stride = layout.record_bytes();
            let factors = normal(3 * BLOCK);
            let (mut blocks, mut records) = (Vec::new(), Vec::new());
            let mut random = Random::new(2, 0);
            for factors in factors.chunks_exact(BLOCK) {
                let mut own = vec![0; BLOCK * stride];
                for (record, &factor) in own.chunks_exact_mut(stride).zip(factors) {
                    record.fill_with(|| random.next_u64() as u8);
                    additive.write(factor, &mut record[layout.additive_start()..]);
                    if grid.own {
                        let ends = Ends::around(-random.unit() as f32, random.unit() as f32);
                        let place = layout.ends_start()..layout.rest_start();
                        record[place].copy_from_slice(ends.bytes().as_flattened());
                    }
                }
                let mut block = vec![0; layout.block_bytes()];
                layout.pack_block(&own, stride, &mut block);
                blocks.extend(block);
                records.extend(own);
            }
            let constants: Vec<[f32; BLOCK]> = (0..3)
                .map(|b| std::array::from_fn(|v| if v == 5 { f32::NAN } else { (b * v) as f32 }))
                .collect();
            for level in nonius_simd::available() {
                nonius_simd::with_level(level, || {
                    let mut found = Vec::new();
                    let each = ListConstants::Each(&constants);
                    let mut scratch = ScanScratch::default();
                    codes.scan(&tables, each, &blocks, 90, f32::MAX, &mut scratch, |v, bound| {
                        found.push((v, bound));
                    });
                    assert_eq!(found.len(), 90 - 3, "all but those without a constant");
                    let mut above = 0;
                    for (v, bound) in found {
                        let record = &records[v * stride..(v + 1) * stride];
                        let block =
                            &blocks[v / BLOCK * layout.block_bytes()..][..layout.block_bytes()];
                        let constant = constants[v / BLOCK][v % BLOCK];
                        let rest = &record[layout.rest_start()..];
                        let mut scratch = RefineScratch::default();
                        let key =
                            codes.key(&tables, constant, block, v % BLOCK, rest, &mut scratch);
                        let values = decoded(&layout, &ranges, record);
                        let dot: f64 = values
                            .iter()
                            .zip(&query)
                            .map(|(x, &q)| f64::from(*x) * f64::from(q))
                            .sum();
                        let factor = additive.read(&record[layout.additive_start()..]);
                        let weight = f64::from(model.frame.alpha() * 1.1);
                        let exact = f64::from(constant + factor) - weight * dot;
                        let size: f32 = values.iter().map(|x| x.abs()).sum();
                        let off = (f64::from(key) - exact).abs();
                        assert!(off < 1e-4 * f64::from(size) + 1e-3, "{grid:?}: {key}, {exact}");
                        above += usize::from(bound > key + 1e-4 * key.abs() + 1e-3);
                        // What bounds allow for is in proportion to what the first stage leaves.
                        let step = range_of(&layout, &ranges, record, 0).step;
                        let left = (1u32 << grid.rest_bits()) as f32 * (step + 0.3 * tables.step);
                        let most = 60.0 * left * dims as f32 + 1.0;
                        assert!(bound > key - most, "{grid:?}: {bound} {key} {most}");
                    }
                    // At two deviations, and with something to spare for near neighbours.
                    assert!(above <= 4, "{grid:?}: {above} of 87 bounds lie above");
                });
            }
        }
    }

    fn range_of(layout: &Layout, ranges: &[Range], record: &[u8], dim: usize) -> Range {
        if layout.grid.own {
            let ends = record[layout.ends_start()..layout.rest_start()].as_chunks::<2>().0;
            return layout.grid.range(Ends::read([ends[0], ends[1]]));
        }
        ranges[dim]
    }

    /// What a record stands for, by the places that FORMAT.md gives.
    fn decoded(layout: &Layout, ranges: &[Range], record: &[u8]) -> Vec<f32> {
        let value = |dim: usize| {
            let mut code = u32::from(record[dim / 2] >> (4 * (dim % 2)) & 15);
            let mut at = layout.rest_start();
            code <<= layout.grid.rest_bits();
            for (width, shift) in crate::quantizer::blocks::fields(layout.grid.rest_bits()) {
                let (byte, bit) = crate::quantizer::blocks::field_place(width, layout.dims, dim);
                code |= u32::from(record[at + byte] >> bit & ((1u16 << width) - 1) as u8) << shift;
                at += nonius_simd::field_bytes(width, layout.dims);
            }
            let range = range_of(layout, ranges, record, dim);
            range.low + range.step * code as f32
        };
        (0..layout.dims).map(value).collect()
    }
}
