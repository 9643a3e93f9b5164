//! Keys of vectors, whole blocks at a time.

use nonius_simd::{BLOCK, ListConstants, Vectorize, level};

use super::{Format, Model};
use crate::metric::Metric;
use crate::quantizer::view::{RotatedQuery, ScanScratch, report};

/// What codes of an index mean.
#[derive(Clone, Copy)]
pub(crate) struct QueryModel<'a> {
    pub(crate) model: &'a Model,
    /// `dim` values.
    pub(crate) mean: &'a [f32],
}

/// The tables of a query for floats: a value `x` of dimension `i` adds
/// `x * (square * x - factors[i])` to the key, in the order of dimensions, and `constant` comes on top.
#[derive(Clone, Copy, Debug)]
pub struct FloatQuery<'a> {
    /// `dims` values.
    pub factors: &'a [f32],
    /// 1 for distances, 0 for inner products.
    pub square: f32,
    /// What all keys share, whatever the list.
    pub constant: f32,
}

impl Tables {
    /// The tables as others take them.
    pub(crate) fn raw(&self) -> FloatQuery<'_> {
        FloatQuery { factors: &self.factors, square: self.square, constant: self.constant }
    }
}

/// What keys take from a query.
#[derive(Default)]
pub(crate) struct Tables {
    /// A value `x` adds `x * (square * x - factor)` to the key: the factor of each dimension.
    factors: Vec<f32>,
    square: f32,
    /// What all keys share, whatever the list.
    constant: f32,
}

impl QueryModel<'_> {
    /// Prepares for a rotated query.
    pub(crate) fn prepare(&self, query: &RotatedQuery, tables: &mut Tables) {
        let Tables { factors, square, constant } = tables;
        *constant = query.constant;
        factors.clear();
        match self.model.frame.metric {
            Metric::L2 | Metric::Cosine => {
                *square = 1.0;
                factors.extend(query.values.iter().map(|q| 2.0 * q));
            }
            Metric::InnerProduct => {
                *square = 0.0;
                // Dimensions beyond the mean's are padding.
                let mean = self.mean.iter().copied().chain(std::iter::repeat(0.0));
                factors.extend(query.values.iter().zip(mean).map(|(q, mean)| q + mean));
            }
        }
    }

    /// Scans blocks and calls `found` with the number within `blocks` and the key of each vector among
    /// the first `count` whose key does not exceed `threshold`. Of the constants it only matters which are
    /// no numbers: they leave vectors out.
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
        scratch.fit(blocks.len() / self.model.layout().block_bytes(), 0);
        let ScanScratch { bounds: keys, passed, .. } = scratch;
        level().vectorize(Keys { model: self.model, tables, blocks, keys });
        if let ListConstants::Each(constants) = constants {
            for (key, constant) in keys.as_flattened_mut().iter_mut().zip(constants.as_flattened())
            {
                *key = if constant.is_nan() { f32::NAN } else { *key };
            }
        }
        report(keys, passed, count, threshold, found);
    }

    /// The values of vector `v` of a block.
    pub(crate) fn point(&self, block: &[u8], v: usize) -> Vec<f32> {
        let values = self.model.layout().values(block, v);
        values.map(|bits| self.model.format.widen(bits)).collect()
    }

    /// The key of vector `v` of a block.
    pub(crate) fn key(&self, tables: &Tables, block: &[u8], v: usize) -> f32 {
        let format = self.model.format;
        let mut sum = 0.0;
        for (bits, factor) in self.model.layout().values(block, v).zip(&tables.factors) {
            let x = format.widen(bits);
            sum += x * (tables.square * x - factor);
        }
        tables.constant + sum
    }
}

struct Keys<'a> {
    model: &'a Model,
    tables: &'a Tables,
    blocks: &'a [u8],
    keys: &'a mut [[f32; BLOCK]],
}

impl Vectorize for Keys<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match self.model.format {
            Format::F16 => self.of(|bits| Format::F16.widen(u16::from_le_bytes(bits).into())),
            Format::Bf16 => self.of(|bits| Format::Bf16.widen(u16::from_le_bytes(bits).into())),
            Format::F32 => self.of(f32::from_le_bytes),
        }
    }
}

impl Keys<'_> {
    /// With the format's own loop. The additions are those of [`QueryModel::key`], in the same order.
    #[inline(always)]
    fn of<const BYTES: usize>(self, widen: impl Fn([u8; BYTES]) -> f32) {
        let Keys { model, tables, blocks, keys } = self;
        let blocks = blocks.chunks_exact(model.layout().block_bytes());
        for (block, keys) in blocks.zip(keys) {
            let mut sums = [0.0f32; BLOCK];
            let rows = block.as_chunks::<BYTES>().0.as_chunks::<BLOCK>().0;
            for (row, factor) in rows.iter().zip(&tables.factors) {
                for (sum, &value) in sums.iter_mut().zip(row) {
                    let x = widen(value);
                    *sum += x * (tables.square * x - factor);
                }
            }
            for (key, sum) in keys.iter_mut().zip(sums) {
                *key = tables.constant + sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizer::factor::AdditiveCode;
    use crate::quantizer::frame::Frame;
    use crate::random::Random;

    #[test]
    fn keys_are_those_of_the_formula_at_every_level() {
        let mut random = Random::new(1, 0);
        for (dim, dims, format, metric) in [
            (8, 8, Format::F16, Metric::L2),
            (37, 40, Format::Bf16, Metric::Cosine),
            (20, 24, Format::F16, Metric::InnerProduct),
            (1, 8, Format::Bf16, Metric::InnerProduct),
            (19, 24, Format::F32, Metric::L2),
            (8, 8, Format::F32, Metric::InnerProduct),
        ] {
            let mut normal =
                |n: usize| -> Vec<f32> { (0..n).map(|_| random.normal() as f32).collect() };
            let additive = AdditiveCode::NONE;
            let model = Model {
                frame: Frame { metric, dim, dims, scale: 1.0, lists: true, additive },
                format,
            };
            let mean = normal(dim);
            let mut query = RotatedQuery { values: normal(dims), ..RotatedQuery::default() };
            query.values[dim..].fill(0.0);
            query.prepare(metric, &[dims], 0.7);
            let codes = QueryModel { model: &model, mean: &mean };
            let mut tables = Tables::default();
            codes.prepare(&query, &mut tables);
            // Subnormal and huge values among the others.
            let mut vectors = normal(70 * dims);
            vectors[1] = 3e-7;
            vectors[dims] = 1e30;
            let values: Vec<u32> = vectors.iter().map(|&x| format.round(x)).collect();
            let bytes = |x: &u32| x.to_le_bytes().into_iter().take(format.bytes());
            let records: Vec<u8> = values.iter().flat_map(bytes).collect();
            let layout = model.layout();
            let mut blocks = vec![0; 3 * layout.block_bytes()];
            for (block, records) in blocks
                .chunks_exact_mut(layout.block_bytes())
                .zip(records.chunks(BLOCK * layout.record_bytes()))
            {
                layout.pack_block(records, layout.record_bytes(), block);
            }
            let constants: Vec<[f32; BLOCK]> = (0..3)
                .map(|_| std::array::from_fn(|v| if v == 5 { f32::NAN } else { 9.0 }))
                .collect();
            for level in nonius_simd::available() {
                nonius_simd::with_level(level, || {
                    let mut scratch = ScanScratch::default();
                    let mut found = Vec::new();
                    let each = ListConstants::Each(&constants);
                    codes.scan(
                        &tables,
                        each,
                        &blocks,
                        70,
                        f32::INFINITY,
                        &mut scratch,
                        |v, key| {
                            found.push((v, key));
                        },
                    );
                    assert_eq!(found.len(), 70 - 3);
                    for (v, key) in found {
                        let block = &blocks[v / BLOCK * layout.block_bytes()..];
                        let block = &block[..layout.block_bytes()];
                        let again = codes.key(&tables, block, v % BLOCK);
                        assert_eq!(again.to_bits(), key.to_bits(), "{level} {v}");
                        if v == 1 {
                            continue;
                        }
                        let exact: f32 = values[v * dims..(v + 1) * dims]
                            .iter()
                            .zip(&query.values)
                            .enumerate()
                            .map(|(i, (&bits, q))| {
                                let x = format.widen(bits);
                                match metric {
                                    Metric::InnerProduct => -x * (q + mean.get(i).unwrap_or(&0.0)),
                                    _ => (x - q) * (x - q),
                                }
                            })
                            .sum();
                        let all = if metric == Metric::InnerProduct { -0.7 } else { 0.0 };
                        assert!((key - exact - all).abs() < 1e-3, "{level} {v}: {key} {exact}");
                    }
                });
            }
        }
    }
}
