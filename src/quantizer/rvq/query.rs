//! Keys of vectors, from the tables of a query.
//!
//! A query's table has the inner product of the query with every centroid of every level: what a
//! vector's code names in it adds up to the inner product with the vector's sum of centroids.

use nonius_simd::{BLOCK, Panels, Vectorize, gemm_i16, level};

use super::{CENTROIDS, Layout, Model};
use crate::quantizer::view::{RotatedQuery, report};
use crate::train::RowsI16;

/// Model and codebooks together: what codes of an index mean.
#[derive(Clone, Copy)]
pub(crate) struct QueryModel<'a> {
    pub(crate) model: &'a Model,
    /// The centroids of all levels as [`Panels`]: `levels * 256 x dims`.
    pub(crate) codebooks: &'a [i16],
    /// What each of their rows is multiplied by.
    pub(crate) inverse: &'a [f32],
}

/// The tables of a query. They serve all lists; buffers are reused from query to query.
#[derive(Default)]
pub(crate) struct Tables {
    rows: RowsI16,
    product: Vec<i32>,
    /// `levels x 256`.
    dots: Vec<[f32; CENTROIDS]>,
}

/// Buffers of [`QueryModel::scan`].
#[derive(Default)]
pub(crate) struct ScanScratch {
    keys: Vec<[f32; BLOCK]>,
    passed: Vec<u32>,
}

/// What all keys of a vector's list share, or no number for a vector to leave out.
#[derive(Clone, Copy)]
pub(crate) enum Constants<'a> {
    /// The same for all.
    One(f32),
    /// For each vector of each block.
    Each(&'a [[f32; BLOCK]]),
}

impl QueryModel<'_> {
    /// Prepares the tables of a rotated query.
    pub(crate) fn prepare(&self, query: &RotatedQuery, tables: &mut Tables) {
        let Tables { rows, product, dots } = tables;
        let (dims, levels) = (self.model.frame.dims, self.model.levels);
        rows.quantize(dims, &query.values);
        product.resize(levels * CENTROIDS, 0);
        gemm_i16(rows.values(), Panels::new(levels * CENTROIDS, dims, self.codebooks), product);
        dots.resize(levels, [0.0; CENTROIDS]);
        let inverse = rows.inverse()[0];
        let products = product.iter().zip(self.inverse);
        for (dot, (&product, &of_row)) in dots.as_flattened_mut().iter_mut().zip(products) {
            *dot = product as f32 * (of_row * inverse);
        }
    }

    /// Scans blocks and calls `found` with the number within `blocks` and the key of each vector
    /// among the first `count` whose key does not exceed `threshold`.
    pub(crate) fn scan(
        &self,
        tables: &Tables,
        constants: Constants<'_>,
        blocks: &[u8],
        count: usize,
        threshold: f32,
        scratch: &mut ScanScratch,
        found: impl FnMut(usize, f32),
    ) {
        let layout = self.model.layout();
        let number = blocks.len() / layout.block_bytes();
        let ScanScratch { keys, passed } = scratch;
        keys.resize(number, [0.0; BLOCK]);
        passed.resize(number, 0);
        level().vectorize(Keys { model: self.model, layout, tables, constants, blocks, keys });
        report(keys, passed, count, threshold, found);
    }

    /// The key of vector `v` of a block; `constant` is what all keys of its list share.
    pub(crate) fn key(&self, tables: &Tables, constant: f32, block: &[u8], v: usize) -> f32 {
        let (model, layout) = (self.model, self.model.layout());
        let (codes, factors) = block.split_at(layout.levels * BLOCK);
        let mut sum = 0.0;
        for (dots, codes) in tables.dots.iter().zip(codes.as_chunks::<BLOCK>().0) {
            sum += dots[usize::from(codes[v])];
        }
        let additive = model.frame.additive.read(&factors[v * layout.additive_bytes..]);
        (constant + additive) - model.frame.alpha() * model.weight * sum
    }
}

struct Keys<'a> {
    model: &'a Model,
    layout: Layout,
    tables: &'a Tables,
    constants: Constants<'a>,
    blocks: &'a [u8],
    keys: &'a mut [[f32; BLOCK]],
}

impl Vectorize for Keys<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Keys { model, layout, tables, constants, blocks, keys } = self;
        let additive = model.frame.additive;
        let weight = model.frame.alpha() * model.weight;
        let blocks = blocks.chunks_exact(layout.block_bytes());
        for (number, (keys, block)) in keys.iter_mut().zip(blocks).enumerate() {
            let (codes, factors) = block.split_at(layout.levels * BLOCK);
            let mut sums = [0.0f32; BLOCK];
            for (dots, codes) in tables.dots.iter().zip(codes.as_chunks::<BLOCK>().0) {
                for (sum, &code) in sums.iter_mut().zip(codes) {
                    *sum += dots[usize::from(code)];
                }
            }
            let factors = factors.chunks_exact(layout.additive_bytes);
            let lanes = keys.iter_mut().zip(&sums).zip(factors).enumerate();
            for (v, ((key, &sum), factor)) in lanes {
                let constant = match constants {
                    Constants::One(constant) => constant,
                    Constants::Each(constants) => constants[number][v],
                };
                *key = (constant + additive.read(factor)) - weight * sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;
    use crate::quantizer::additive::AdditiveCode;
    use crate::quantizer::frame::Frame;
    use crate::quantizer::rvq::codebooks::Codebooks;
    use crate::random::Random;

    #[test]
    fn scanned_keys_are_those_of_single_vectors_and_of_the_formula() {
        let mut random = Random::new(1, 0);
        for (dims, levels, bytes, metric) in
            [(8, 1, 1, Metric::L2), (24, 7, 2, Metric::InnerProduct), (40, 13, 4, Metric::Cosine)]
        {
            let mut normal =
                |n: usize| -> Vec<f32> { (0..n).map(|_| random.normal() as f32).collect() };
            let centroids = normal(levels * CENTROIDS * dims);
            let codebooks = Codebooks::new(dims, &centroids);
            let additive = match bytes {
                4 => AdditiveCode::EXACT,
                _ => AdditiveCode::spanning(-6.0, 6.0, bytes),
            };
            let frame = Frame { metric, dim: dims, dims, scale: 1.0, lists: true, additive };
            let model = Model { frame, levels, weight: 1.1 };
            let query = RotatedQuery { values: normal(dims), ..RotatedQuery::default() };
            let codes = QueryModel {
                model: &model,
                codebooks: &codebooks.packed,
                inverse: &codebooks.inverse,
            };
            let mut tables = Tables::default();
            codes.prepare(&query, &mut tables);
            let layout = model.layout();
            let factors = normal(3 * BLOCK);
            let mut blocks = vec![0u8; 3 * layout.block_bytes()];
            let mut random = Random::new(2, 0);
            for (block, factors) in
                blocks.chunks_exact_mut(layout.block_bytes()).zip(factors.chunks_exact(BLOCK))
            {
                let (codes, out) = block.split_at_mut(levels * BLOCK);
                codes.iter_mut().for_each(|code| *code = random.below(256) as u8);
                for (out, &factor) in out.chunks_exact_mut(bytes).zip(factors) {
                    additive.write(factor, out);
                }
            }
            let constants: Vec<[f32; BLOCK]> = (0..3)
                .map(|b| std::array::from_fn(|v| if v == 5 { f32::NAN } else { (b * v) as f32 }))
                .collect();
            for level in nonius_simd::available() {
                nonius_simd::with_level(level, || {
                    let mut found = Vec::new();
                    let each = Constants::Each(&constants);
                    let mut scratch = ScanScratch::default();
                    codes.scan(&tables, each, &blocks, 90, f32::MAX, &mut scratch, |v, key| {
                        found.push((v, key));
                    });
                    assert_eq!(found.len(), 90 - 3, "all but those without a constant");
                    for (v, key) in found {
                        let block =
                            &blocks[v / BLOCK * layout.block_bytes()..][..layout.block_bytes()];
                        let lane = v % BLOCK;
                        let constant = constants[v / BLOCK][lane];
                        assert_eq!(key, codes.key(&tables, constant, block, lane), "{level} {v}");
                        let mut sum = 0.0;
                        for m in 0..levels {
                            let row = m * CENTROIDS + usize::from(block[m * BLOCK + lane]);
                            let centroid = &centroids[row * dims..(row + 1) * dims];
                            sum += nonius_simd::dot_f32(centroid, &query.values);
                        }
                        let exact = constant + factors[v] - model.frame.alpha() * 1.1 * sum;
                        let tolerance = 2e-3 * (dims * levels) as f32 + additive.step;
                        assert!((key - exact).abs() <= tolerance, "{v}: {key}, exactly {exact}");
                    }
                });
            }
        }
    }
}
