//! Additive quantizers: a code names one centroid of each of several codebooks, and stands for
//! their sum. PQ, OPQ, RVQ and products of RVQs are cases of this (as Babenko and Lempitsky say of
//! the first three, "Additive Quantization for Extreme Vector Compression", CVPR 2014).
//!
//! The dimensions of a rotated residual are cut into *parts*, and each part has *levels*: codebooks
//! of its dimensions whose centroids are summed. A byte of a code, a *column*, names the centroid of
//! one level of one part.
//!
//! | quantizer | parts | levels of a part | rotation |
//! |---|---|---|---|
//! | PQ (Jegou, Douze and Schmid, PAMI 2011) | as many as columns | 1 | none |
//! | OPQ (Ge, He, Ke and Sun, CVPR 2013) | as many as columns | 1 | learnt |
//! | RVQ (Chen, Guan and Wang, Sensors 2010) | 1 | as many as columns | random |
//! | products of RVQs | some | some | principal components, dealt out |
//!
//! Where a part has several levels, codes are found by a beam search over them, and all its
//! codebooks are fitted together once there are codes.
//!
//! With `v` the sum of centroids that stands for a residual `o`, estimates are
//!
//! ```text
//! |q - c - o|^2 ~= |q - c|^2 + |v|^2 + share * |o - v|^2 - 2 weight * <q - c, v>
//! ```
//!
//! where share and weight are fitted in training to pairs of near and of random vectors. All that depends
//! on the vector alone is in the additive factor, so estimates need nothing but look-ups, and the share
//! corrects for what each vector's own code left: it finds more of the neighbours than `v` does.
//!
//! Where vectors are relative to their mean alone and each part has one level, `|v|^2` is a sum over
//! columns too. There a vector has no factor and no share: the tables of a query hold it all.
//!
//! A vector's code is one byte a column and the additive factor.

mod codes;
mod encode;
mod levels;
mod parts;
mod query;
mod residual;
mod rotation;
mod train;

pub use codes::{AdditiveCodes, AdditiveConfig, AdditiveQuantizer};
pub(crate) use encode::{EncodeScratch, Encoder};
pub(crate) use parts::{Part, cut};
pub(crate) use query::{Loaded, QueryModel, ScanScratch, Tables};
pub(crate) use train::train;

use nonius_simd::BLOCK;

use super::frame::Frame;

/// Centroids of a codebook.
pub(crate) const CENTROIDS: usize = 256;

/// All that is needed to make sense of codes, but the rotation and the codebooks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    pub(crate) frame: Frame,
    pub(crate) parts: Vec<Part>,
    /// What inner products with the sum are multiplied by.
    pub(crate) weight: f32,
}

impl Model {
    /// The bytes of a code.
    pub(crate) fn columns(&self) -> usize {
        parts::columns_of(&self.parts)
    }

    /// Where the bytes of a vector lie.
    pub(crate) fn layout(&self) -> Layout {
        Layout { columns: self.columns(), additive_bytes: self.frame.additive.bytes }
    }
}

/// Where the bytes of a vector lie: in a record its code and its additive factor; in a block of 32
/// vectors the 32 bytes of each column, and 32 additive factors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Layout {
    pub(crate) columns: usize,
    /// 0 where the tables of a query have it all.
    pub(crate) additive_bytes: usize,
}

impl Layout {
    /// Bytes of a record: everything that is stored of a vector but its id.
    pub(crate) fn record_bytes(self) -> usize {
        self.columns + self.additive_bytes
    }

    /// Bytes of a block of 32 vectors.
    pub(crate) fn block_bytes(self) -> usize {
        self.record_bytes() * BLOCK
    }

    /// Interleaves up to 32 records, `stride` bytes apart, into a block. Missing vectors are zero.
    pub(crate) fn pack_block(self, records: &[u8], stride: usize, block: &mut [u8]) {
        block.fill(0);
        let (codes, additive) = block.split_at_mut(self.columns * BLOCK);
        for (v, record) in records.chunks_exact(stride).enumerate() {
            let (bytes, factor) = record[..self.record_bytes()].split_at(self.columns);
            for (column, &byte) in bytes.iter().enumerate() {
                codes[column * BLOCK + v] = byte;
            }
            additive[v * self.additive_bytes..][..self.additive_bytes].copy_from_slice(factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_every_byte_of_their_records() {
        for (columns, additive_bytes, count) in [(1, 1, 32), (5, 2, 31), (24, 4, 1), (3, 0, 9)] {
            let layout = Layout { columns, additive_bytes };
            let stride = layout.record_bytes();
            let records: Vec<u8> = (0..count * stride).map(|i| (i * 37 + 11) as u8).collect();
            let mut block = vec![99; layout.block_bytes()];
            layout.pack_block(&records, stride, &mut block);
            for v in 0..BLOCK {
                let at = |byte: usize| match byte.checked_sub(columns) {
                    None => block[byte * BLOCK + v],
                    Some(byte) => block[columns * BLOCK + v * additive_bytes + byte],
                };
                for byte in 0..stride {
                    let expected = if v < count { records[v * stride + byte] } else { 0 };
                    assert_eq!(at(byte), expected, "vector {v}, byte {byte}");
                }
            }
        }
    }
}
