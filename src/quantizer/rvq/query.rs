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
