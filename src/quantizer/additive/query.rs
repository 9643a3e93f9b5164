//! Keys of vectors, from the tables of a query.
//!
//! A query's table has the inner product of the query with every centroid of every codebook: what a
//! vector's code names in it adds up to the inner product with the vector's sum of centroids. Whole
//! blocks are scanned with a table of 8 bits, for a bound that allows for its rounding; where columns have
//! neither 8 nor 4 bits, with the table itself, and the bound is the key.

use nonius_simd::{BLOCK, ListConstants, Panels, Vectorize, level, scan_blocks, sum_bytes};

use super::parts::gather;
use super::{CENTROIDS, Layout, Model};
use crate::quantizer::blocks;
use crate::quantizer::view::{ROUNDINGS, ScanScratch, report, total};
use crate::train::{ROUND, RowsI16};

/// Model and codebooks together: what codes of an index mean.
#[derive(Clone, Copy)]
pub(crate) struct QueryModel<'a> {
    pub(crate) model: &'a Model,
    /// The centroids of each part as [`Panels`], part after part.
    pub(crate) codebooks: &'a [i16],
    /// What each of their rows is multiplied by.
    pub(crate) inverse: &'a [f32],
    /// What each of them adds to a query's inner product with it; empty where vectors have factors.
    pub(crate) offsets: &'a [f32],
}

/// The inner products of queries with all centroids.
#[derive(Default)]
pub(crate) struct Loaded {
    /// Queries x columns x centroids.
    dots: Vec<f32>,
    values: Vec<f32>,
    rows: RowsI16,
    product: Vec<i32>,
}

/// The tables of a query. They serve all lists; buffers are reused from query to query.
#[derive(Default)]
pub(crate) struct Tables {
    /// `columns x centroids`.
    dots: Vec<f32>,
    /// The same in 8 bits: `dots` add up to about `bias + step * sum`. Where there are 16 centroids, a
    /// column more may make their number even. Empty where columns have neither 8 nor 4 bits.
    lut: Vec<u8>,
    /// Where there are 16 centroids: the columns in pieces that [`scan_blocks`] takes.
    pieces: Vec<usize>,
    bias: f32,
    step: f32,
}

/// The tables of a query for sums of centroids.
///
/// `sum` over the columns `k` of `lut[entries * k + number_k]`, an integer, gives the bound
/// `(constant + additive) - (slope * sum + offset)`, and that of `dots`, from the first column on, the key
/// `(constant + additive) - alpha * weight * sum`, with the list's view for `constant`.
#[derive(Clone, Copy, Debug)]
pub struct AdditiveQuery<'a> {
    /// `columns x entries`.
    pub dots: &'a [f32],
    /// The same in 8 bits. Of 4-bit columns there may be one more, which vectors have 0 for. Empty
    /// where columns have neither 8 nor 4 bits.
    pub lut: &'a [u8],
    /// See above.
    pub slope: f32,
    /// See above.
    pub offset: f32,
}

/// Centroids of a codebook whose columns have 4 bits.
const FEW: usize = 16;

impl QueryModel<'_> {
    /// Multiplies rotated queries (`rows x dims`) with all centroids, which are read once for all of
    /// them; [`prepare`](QueryModel::prepare) does the rest for one.
    pub(crate) fn load(&self, queries: &[f32], loaded: &mut Loaded) {
        let Loaded { dots, values, rows, product } = loaded;
        let layout = self.model.layout();
        let (dims, centroids) = (self.model.frame.dims, layout.columns * layout.centroids());
        dots.resize(queries.len() / dims * centroids, 0.0);
        let mut packed = self.codebooks;
        for part in &self.model.parts {
            let own;
            (own, packed) = packed.split_at(part.packed_values());
            gather(queries, dims, part.range(), values);
            rows.quantize(part.dims, values);
            let panels = Panels::new(part.rows().len(), part.dims, own);
            rows.multiply(panels, product);
            let products = product.chunks_exact(panels.padded_rows()).zip(rows.inverse());
            for (dots, (product, &inverse)) in dots.chunks_exact_mut(centroids).zip(products) {
                let columns = product.iter().zip(&self.inverse[part.rows()]);
                for (dot, (&product, &of_row)) in dots[part.rows()].iter_mut().zip(columns) {
                    *dot = product as f32 * (of_row * inverse);
                }
            }
        }
        if !self.offsets.is_empty() {
            for dots in dots.chunks_exact_mut(centroids) {
                for (dot, offset) in dots.iter_mut().zip(self.offsets) {
                    *dot += offset;
                }
            }
        }
    }

    /// Prepares the tables of loaded query `row`.
    pub(crate) fn prepare(&self, loaded: &Loaded, row: usize, tables: &mut Tables) {
        let Tables { dots, lut, pieces, bias, step } = tables;
        let layout = self.model.layout();
        let entries = layout.columns * layout.centroids();
        dots.clear();
        dots.extend_from_slice(&loaded.dots[row * entries..(row + 1) * entries]);
        lut.clear();
        pieces.clear();
        (*bias, *step) = match layout.bits {
            8 => {
                lut.resize(layout.columns * CENTROIDS, 0);
                level().vectorize(Round::<CENTROIDS> { dots, lut })
            }
            4 => {
                lut.resize(2 * layout.code_bytes() * FEW, 0);
                pieces.extend(blocks::pieces(lut.len() / FEW));
                level().vectorize(Round::<FEW> { dots, lut })
            }
            _ => (0.0, 0.0),
        };
    }

    /// The tables as others take them.
    pub(crate) fn raw<'t>(&self, tables: &'t Tables) -> AdditiveQuery<'t> {
        let weight = self.model.frame.alpha() * self.model.weight;
        let (slope, offset) = line(tables, self.model.layout(), weight);
        AdditiveQuery { dots: &tables.dots, lut: &tables.lut, slope, offset }
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
        let layout = self.model.layout();
        let stride = layout.block_bytes();
        scratch.fit(blocks.len() / stride, tables.pieces.len().max(1));
        let ScanScratch { sums, bounds, passed } = scratch;
        let model = self.model;
        match layout.bits {
            8 => sum_bytes(blocks, stride, tables.lut.as_chunks::<CENTROIDS>().0, sums),
            4 => scan_blocks(blocks, stride, &tables.pieces, &tables.lut, sums),
            _ => {
                let blocks = blocks.chunks_exact(stride);
                for (number, (block, bounds)) in blocks.zip(&mut *bounds).enumerate() {
                    let constants = constants.of_block(number);
                    for (v, (bound, &constant)) in bounds.iter_mut().zip(&constants).enumerate() {
                        *bound = self.key(tables, constant, block, v);
                    }
                }
                return report(bounds, passed, count, threshold, found);
            }
        }
        level().vectorize(Bounds { model, layout, tables, constants, blocks, sums, bounds });
        report(bounds, passed, count, threshold, found);
    }

    /// The sum of the centroids that vector `v` of a block names, of each part those of no more than its first
    /// `most` levels.
    pub(crate) fn point(&self, block: &[u8], v: usize, most: usize) -> Vec<f32> {
        let mut sum = vec![0.0; self.model.frame.dims];
        let numbers: Vec<u16> = self.model.layout().numbers(block, v).collect();
        let mut packed = self.codebooks;
        for part in &self.model.parts {
            let own;
            (own, packed) = packed.split_at(part.packed_values());
            let panels = Panels::new(part.rows().len(), part.dims, own);
            for (level, column) in part.columns().enumerate().take(most) {
                let row = level * part.centroids + usize::from(numbers[column]);
                let inverse = self.inverse[part.rows()][row];
                for (i, sum) in sum[part.range()].iter_mut().enumerate() {
                    *sum += f32::from(panels.value(row, i)) * inverse;
                }
            }
        }
        sum
    }

    /// The key of vector `v` of a block; `constant` is what all keys of its list share.
    pub(crate) fn key(&self, tables: &Tables, constant: f32, block: &[u8], v: usize) -> f32 {
        let (model, layout) = (self.model, self.model.layout());
        let mut sum = 0.0;
        let columns = tables.dots.chunks_exact(layout.centroids());
        for (dots, number) in columns.zip(layout.numbers(block, v)) {
            sum += dots[usize::from(number)];
        }
        let factors = &block[layout.code_bytes() * BLOCK..];
        let additive = model.frame.additive.read(&factors[v * layout.additive_bytes..]);
        (constant + additive) - model.frame.alpha() * model.weight * sum
    }
}

/// Rounds a table to 8 bits, each column from its smallest entry on, with one step for all.
struct Round<'a, const ENTRIES: usize> {
    dots: &'a [f32],
    lut: &'a mut [u8],
}

impl<const ENTRIES: usize> Vectorize for Round<'_, ENTRIES> {
    /// Bias and step.
    type Output = (f32, f32);

    #[inline(always)]
    fn run(self) -> (f32, f32) {
        let (dots, lut) =
            (self.dots.as_chunks::<ENTRIES>().0, self.lut.as_chunks_mut::<ENTRIES>().0);
        let least = |dots: &[f32; ENTRIES]| {
            dots.iter().fold(f32::INFINITY, |least, &x| if x < least { x } else { least })
        };
        let mut range = 0.0f32;
        for dots in dots {
            let low = least(dots);
            let most = dots.iter().fold(low, |most, &x| if x > most { x } else { most });
            range = if most - low > range { most - low } else { range };
        }
        let step = (range / 255.0).max(f32::MIN_POSITIVE);
        let inverse = 1.0 / step;
        let mut bias = 0.0;
        for (dots, lut) in dots.iter().zip(lut) {
            let low = least(dots);
            bias += low;
            for (entry, &dot) in lut.iter_mut().zip(dots) {
                *entry = ((dot - low) * inverse + ROUND).to_bits() as u8;
            }
        }
        (bias, step)
    }
}

/// Slope and offset of bounds in the sum of a table's entries; `weight` is what inner products have in keys.
#[inline(always)]
fn line(tables: &Tables, layout: Layout, weight: f32) -> (f32, f32) {
    // Rounding is uniform within a step.
    let roundings = ROUNDINGS * tables.step * (layout.columns as f32 / 12.0).sqrt();
    (weight * tables.step, weight * (tables.bias + roundings))
}

struct Bounds<'a> {
    model: &'a Model,
    layout: Layout,
    tables: &'a Tables,
    constants: ListConstants<'a>,
    blocks: &'a [u8],
    /// Of each block the sums of each piece.
    sums: &'a [u16],
    bounds: &'a mut [[f32; BLOCK]],
}

impl Vectorize for Bounds<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Bounds { model, layout, tables, constants, blocks, sums, bounds } = self;
        let additive = model.frame.additive;
        let weight = model.frame.alpha() * model.weight;
        let (slope, offset) = line(tables, layout, weight);
        let sums = sums.chunks_exact(tables.pieces.len().max(1) * BLOCK);
        let blocks = blocks.chunks_exact(layout.block_bytes()).zip(sums);
        for (number, (bounds, (block, pieces))) in bounds.iter_mut().zip(blocks).enumerate() {
            let sums = total(pieces);
            let constants = constants.of_block(number);
            let lanes = bounds.iter_mut().zip(sums).zip(&constants);
            if layout.additive_bytes == 0 {
                for ((bound, sum), constant) in lanes {
                    *bound = constant - (slope * sum as f32 + offset);
                }
                continue;
            }
            let factors = block[layout.code_bytes() * BLOCK..].chunks_exact(layout.additive_bytes);
            for (((bound, sum), constant), factor) in lanes.zip(factors) {
                *bound = (constant + additive.read(factor)) - (slope * sum as f32 + offset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;
    use crate::quantizer::additive::{cut, parts::Codebooks};
    use crate::quantizer::factor::AdditiveCode;
    use crate::quantizer::frame::Frame;
    use crate::random::Random;

    #[test]
    fn keys_are_those_of_the_formula_and_bounds_lie_a_little_below() {
        let mut random = Random::new(1, 0);
        for (dims, columns, count, bits, bytes, metric) in [
            (8, 1, 1, 8, 1, Metric::L2),
            (24, 7, 1, 8, 2, Metric::InnerProduct),
            (40, 13, 5, 8, 4, Metric::Cosine),
            (40, 6, 6, 8, 0, Metric::L2),
            (16, 16, 16, 8, 0, Metric::InnerProduct),
            (8, 1, 1, 4, 0, Metric::L2),
            (40, 13, 13, 4, 1, Metric::Cosine),
            (304, 300, 300, 4, 2, Metric::L2),
            (40, 13, 13, 1, 1, Metric::L2),
            (40, 7, 7, 3, 0, Metric::Cosine),
            (24, 6, 2, 6, 2, Metric::InnerProduct),
            (16, 3, 1, 12, 4, Metric::L2),
        ] {
            let mut normal =
                |n: usize| -> Vec<f32> { (0..n).map(|_| random.normal() as f32).collect() };
            let most = 1usize << bits;
            let parts = cut(dims, dims, columns, count, most);
            let centroids: Vec<Vec<f32>> =
                parts.iter().map(|part| normal(part.levels * most * part.dims)).collect();
            let codebooks = Codebooks::new(&parts, &centroids);
            let offsets = if bytes == 0 { normal(columns * most) } else { Vec::new() };
            let additive = match bytes {
                0 => AdditiveCode::NONE,
                4 => AdditiveCode::EXACT,
                _ => AdditiveCode::spanning(-6.0, 6.0, bytes),
            };
            let frame = Frame { metric, dim: dims, dims, scale: 1.0, lists: true, additive };
            let model = Model { frame, bits, parts, weight: 1.1 };
            // The second of two queries.
            let queries = normal(2 * dims);
            let query = &queries[dims..];
            let codes = QueryModel {
                model: &model,
                codebooks: &codebooks.packed(),
                inverse: &codebooks.inverse(),
                offsets: &offsets,
            };
            let (mut loaded, mut tables) = (Loaded::default(), Tables::default());
            codes.load(&queries, &mut loaded);
            codes.prepare(&loaded, 1, &mut tables);
            let layout = model.layout();
            let mut factors = normal(3 * BLOCK);
            let mut blocks = vec![0u8; 3 * layout.block_bytes()];
            let mut random = Random::new(2, 0);
            for (block, factors) in
                blocks.chunks_exact_mut(layout.block_bytes()).zip(factors.chunks_exact(BLOCK))
            {
                let (codes, out) = block.split_at_mut(layout.code_bytes() * BLOCK);
                codes.iter_mut().for_each(|code| *code = random.below(256) as u8);
                if columns % 2 == 1 && bits == 4 {
                    // There is nothing in the last group.
                    codes[columns * 16..].fill(0);
                }
                let tail = columns * bits as usize % 8;
                if bits != 4 && tail > 0 {
                    // Nor in the last bits.
                    for code in codes.chunks_exact_mut(layout.code_bytes()) {
                        code[layout.code_bytes() - 1] &= (1 << tail) - 1;
                    }
                }
                for (v, &factor) in factors.iter().enumerate() {
                    additive.write(factor, &mut out[v * bytes..(v + 1) * bytes]);
                }
            }
            if bytes == 0 {
                factors.fill(0.0);
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
                    for (v, bound) in found {
                        let block =
                            &blocks[v / BLOCK * layout.block_bytes()..][..layout.block_bytes()];
                        let lane = v % BLOCK;
                        let constant = constants[v / BLOCK][lane];
                        let key = codes.key(&tables, constant, block, lane);
                        let reach = 2.2 * 1.1 * 9.0 * tables.step * (columns as f32 / 12.0).sqrt();
                        assert!(bound <= key + 1e-4 * key.abs(), "{level} {v}: {bound}, {key}");
                        assert!(bound >= key - reach, "{level} {v}: {bound}, {key}, {reach}");
                        let mut sum = 0.0;
                        let number = |column: usize| match bits {
                            8 => usize::from(block[column * BLOCK + lane]),
                            4 => usize::from(
                                block[column * 16 + lane % 16] >> (4 * (lane / 16)) & 15,
                            ),
                            _ => (0..bits as usize)
                                .map(|i| {
                                    let bit = column * bits as usize + i;
                                    let byte = block[lane * layout.code_bytes() + bit / 8];
                                    usize::from(byte >> (bit % 8) & 1) << i
                                })
                                .sum(),
                        };
                        for (part, centroids) in model.parts.iter().zip(&centroids) {
                            for column in part.columns() {
                                let code = number(column);
                                let row = (column - part.column) * most + code;
                                let centroid = &centroids[row * part.dims..(row + 1) * part.dims];
                                sum += nonius_simd::dot_f32(centroid, &query[part.range()]);
                                sum += offsets.get(column * most + code).unwrap_or(&0.0);
                            }
                        }
                        let exact = constant + factors[v] - model.frame.alpha() * 1.1 * sum;
                        let tolerance = 2e-3 * (dims * columns) as f32 + additive.step;
                        assert!((key - exact).abs() <= tolerance, "{v}: {key}, exactly {exact}");
                    }
                });
            }
        }
    }
}
