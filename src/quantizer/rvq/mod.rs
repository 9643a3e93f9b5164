//! RVQ: residual vector quantization.
//!
//! Chen, Guan and Wang, "Approximate Nearest Neighbor Search by Residual Vector Quantization",
//! Sensors 10 (2010). A code names one centroid of each of several codebooks, the *levels*; the
//! vector that it stands for is their sum. Codes are found by a beam search over the levels, and
//! all codebooks are fitted together once there are codes (as in additive quantization: Babenko and
//! Lempitsky, "Additive Quantization for Extreme Vector Compression", CVPR 2014).
//!
//! With `v` the sum of centroids that stands for a residual `o`, estimates are
//!
//! ```text
//! |q - c - o|^2 ~= |q - c|^2 + |v|^2 + share * |o - v|^2 - 2 weight * <q - c, v>
//! ```
//!
//! The distance to `v` itself is too short for most vectors, by `|o - v|^2`, and too long by as much
//! for a query that is the vector: what is added of that, and the weight of the inner product, are
//! fitted in training to pairs of near and of random vectors. All that depends on the vector
//! alone is in the additive factor, so estimates need nothing but look-ups, and the share corrects
//! for what each vector's own code left: it finds more of the neighbours than `v` does.
//!
//! A vector's code is one byte a level and the additive factor.

mod codebooks;
mod codes;
mod encode;
mod query;
mod train;

pub use codes::{Rvq, RvqCodes, RvqConfig};
pub(crate) use encode::{EncodeScratch, Encoder};
pub(crate) use query::{Constants, Loaded, QueryModel, ScanScratch, Tables};
pub(crate) use train::train;

use nonius_simd::BLOCK;

use super::frame::Frame;

/// Centroids of a level.
pub(crate) const CENTROIDS: usize = 256;

/// All that is needed to make sense of codes, but the rotation and the codebooks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    pub(crate) frame: Frame,
    /// How many centroids make a vector: bytes of a code.
    pub(crate) levels: usize,
    /// What inner products with the sum are multiplied by.
    pub(crate) weight: f32,
}

impl Model {
    /// Where the bytes of a vector lie.
    pub(crate) fn layout(&self) -> Layout {
        Layout { levels: self.levels, additive_bytes: self.frame.additive.bytes }
    }
}

/// Where the bytes of a vector lie: in a record its code and its additive factor; in a block of 32
/// vectors the 32 bytes of each level, and 32 additive factors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Layout {
    pub(crate) levels: usize,
    pub(crate) additive_bytes: usize,
}

impl Layout {
    /// Bytes of a record: everything that is stored of a vector but its id.
    pub(crate) fn record_bytes(self) -> usize {
        self.levels + self.additive_bytes
    }

    /// Bytes of a block of 32 vectors.
    pub(crate) fn block_bytes(self) -> usize {
        self.record_bytes() * BLOCK
    }

    /// Interleaves up to 32 records, `stride` bytes apart, into a block. Missing vectors are zero.
    pub(crate) fn pack_block(self, records: &[u8], stride: usize, block: &mut [u8]) {
        block.fill(0);
        let (bytes, additive) = block.split_at_mut(self.levels * BLOCK);
        for (v, record) in records.chunks_exact(stride).enumerate() {
            let (columns, factor) = record[..self.record_bytes()].split_at(self.levels);
            for (column, &byte) in columns.iter().enumerate() {
                bytes[column * BLOCK + v] = byte;
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
        for (levels, additive_bytes, count) in [(1, 1, 32), (5, 2, 31), (24, 4, 1)] {
            let layout = Layout { levels, additive_bytes };
            let stride = layout.record_bytes();
            let records: Vec<u8> = (0..count * stride).map(|i| (i * 37 + 11) as u8).collect();
            let mut block = vec![99; layout.block_bytes()];
            layout.pack_block(&records, stride, &mut block);
            for v in 0..BLOCK {
                let at = |byte: usize| match byte.checked_sub(levels) {
                    None => block[byte * BLOCK + v],
                    Some(byte) => block[levels * BLOCK + v * additive_bytes + byte],
                };
                for byte in 0..stride {
                    let expected = if v < count { records[v * stride + byte] } else { 0 };
                    assert_eq!(at(byte), expected, "vector {v}, byte {byte}");
                }
            }
        }
    }
}
