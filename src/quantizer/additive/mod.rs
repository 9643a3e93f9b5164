//! Additive quantizers: a code names one centroid of each of several codebooks, and stands for
//! their sum. PQ, OPQ, RVQ and products of RVQs are cases of this (as Babenko and Lempitsky say of
//! the first three, "Additive Quantization for Extreme Vector Compression", CVPR 2014).
//!
//! The dimensions of a rotated residual are cut into *parts*, and each part has *levels*: codebooks
//! of its dimensions whose centroids are summed. A number of a code, a *column*, names the centroid of
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
//! |q - c - o|^2 ~= |q - c|^2 + |v|^2 + share * |o - v|^2 + tilt * <v, o - v> - 2 weight * <q - c, v>
//! ```
//!
//! where share, tilt and weight are fitted in training to pairs of near and of random vectors. All that depends
//! on the vector alone is in the additive factor, so estimates need nothing but look-ups, and share and tilt
//! correct for what each vector's own code left: that finds more of the neighbours than `v` does.
//!
//! Where vectors are relative to their mean alone and each part has one level, `|v|^2` is a sum over
//! columns too. There a vector has no factor: the tables of a query hold it all, and a share of what codes leave on
//! average, the same for all vectors ([`Added::Mean`](super::estimate::Added)).
//!
//! For inner products, errors along a vector may count for more than errors across it
//! ([`anisotropic`]): another way of choosing among the same codes.
//!
//! A vector's code is one byte a column and the additive factor. Codebooks may also have 16 centroids each
//! instead of 256: then a byte has two columns. Any other power of two is for comparing what codes can be; such
//! codes are streams of bits, and are scanned plainly.

mod anisotropic;
mod cross;
mod encode;
mod levels;
mod parts;
mod query;
mod residual;
mod rotation;
mod train;

pub(crate) use encode::{EncodeScratch, Encoder};
pub(crate) use parts::{Part, cut};
pub use query::AdditiveQuery;

pub(crate) use query::{Loaded, QueryModel, Tables};
pub(crate) use train::{train, training_rows};

use nonius_simd::BLOCK;

use super::blocks::{groups_of, pack_groups};
use super::frame::Frame;

/// Centroids of a codebook whose columns have 8 bits.
const CENTROIDS: usize = 256;

/// All that is needed to make sense of codes, but the rotation and the codebooks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    pub(crate) frame: Frame,
    pub(crate) parts: Vec<Part>,
    /// Bits of a column, from 1 to 12.
    pub(crate) bits: u32,
    /// What inner products with the sum are multiplied by.
    pub(crate) weight: f32,
}

impl Model {
    /// The columns of a code.
    pub(crate) fn columns(&self) -> usize {
        parts::columns_of(&self.parts)
    }

    /// Where the bytes of a vector lie.
    pub(crate) fn layout(&self) -> Layout {
        let additive_bytes = self.frame.additive.bytes;
        Layout { columns: self.columns(), bits: self.bits, additive_bytes }
    }
}

/// Where the bytes of a vector lie: in a record its code and its additive factor; in a block of 32
/// vectors the 32 bytes of each column (of 4 bits 16 bytes, [as groups](super::blocks); of other numbers of
/// bits the codes themselves, one after the other), and 32 additive factors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Layout {
    pub(crate) columns: usize,
    /// Bits of a column, from 1 to 12.
    pub(crate) bits: u32,
    /// 0 where the tables of a query have it all.
    pub(crate) additive_bytes: usize,
}

impl Layout {
    /// Bytes of a code.
    pub(crate) fn code_bytes(self) -> usize {
        (self.columns * self.bits as usize).div_ceil(8)
    }

    /// Centroids of a codebook.
    pub(crate) fn centroids(self) -> usize {
        1 << self.bits
    }

    /// Writes the code of a record from the number of each column.
    pub(crate) fn pack(self, numbers: &[u16], code: &mut [u8]) {
        code.fill(0);
        for (k, &number) in numbers.iter().enumerate() {
            let (byte, shift) = self.place(k);
            let bits = u32::from(number) << shift;
            for (code, bits) in code[byte..].iter_mut().zip(bits.to_le_bytes()) {
                *code |= bits;
            }
        }
    }

    /// Where the bits of column `k` begin in a code: the byte, and the bit from the lowest.
    fn place(self, k: usize) -> (usize, usize) {
        let bit = k * self.bits as usize;
        (bit / 8, bit % 8)
    }

    /// The number of each column of a record's code.
    pub(crate) fn unpack(self, code: &[u8]) -> impl Iterator<Item = u16> + '_ {
        let mask = self.centroids() as u32 - 1;
        (0..self.columns).map(move |k| {
            let (byte, shift) = self.place(k);
            // 12 bits lie in three bytes at most.
            let at = |i: usize| u32::from(code.get(byte + i).copied().unwrap_or(0)) << (8 * i);
            ((at(0) | at(1) | at(2)) >> shift & mask) as u16
        })
    }

    /// The number of each column of vector `v` of a block.
    #[inline(always)]
    pub(crate) fn numbers(self, block: &[u8], v: usize) -> impl Iterator<Item = u16> + '_ {
        let bytes = self.code_bytes();
        let codes = &block[..bytes * BLOCK];
        // Those of the three ways that is not that of these columns gives nothing.
        let (wide, narrow, other) = match self.bits {
            8 => (codes, &codes[..0], None),
            4 => (&codes[..0], codes, None),
            _ => (&codes[..0], &codes[..0], Some(&codes[v * bytes..(v + 1) * bytes])),
        };
        let wide = wide.as_chunks::<BLOCK>().0.iter().map(move |column| u16::from(column[v]));
        // Where columns are odd in number, the last group is none.
        let narrow = groups_of(narrow, v).map(u16::from).take(self.columns);
        wide.chain(narrow).chain(other.into_iter().flat_map(move |code| self.unpack(code)))
    }

    /// Bytes of a record: everything that is stored of a vector but its id.
    pub(crate) fn record_bytes(self) -> usize {
        self.code_bytes() + self.additive_bytes
    }

    /// Bytes of a block of 32 vectors.
    pub(crate) fn block_bytes(self) -> usize {
        self.record_bytes() * BLOCK
    }

    /// Interleaves up to 32 records, `stride` bytes apart, into a block. Missing vectors are zero.
    pub(crate) fn pack_block(self, records: &[u8], stride: usize, block: &mut [u8]) {
        block.fill(0);
        let (codes, additive) = block.split_at_mut(self.code_bytes() * BLOCK);
        if self.bits == 4 {
            pack_groups(records, stride, self.code_bytes(), codes);
        }
        for (v, record) in records.chunks_exact(stride).enumerate() {
            let (bytes, factor) = record[..self.record_bytes()].split_at(self.code_bytes());
            match self.bits {
                8 => {
                    for (column, &byte) in bytes.iter().enumerate() {
                        codes[column * BLOCK + v] = byte;
                    }
                }
                4 => {}
                _ => codes[v * bytes.len()..(v + 1) * bytes.len()].copy_from_slice(bytes),
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
        for (columns, bits, additive_bytes, count) in [
            (1, 8, 1, 32),
            (5, 8, 2, 31),
            (24, 8, 4, 1),
            (3, 8, 0, 9),
            (7, 4, 1, 32),
            (1, 4, 0, 5),
            (16, 4, 2, 30),
            (1, 1, 0, 32),
            (13, 3, 1, 31),
            (9, 7, 4, 20),
            (5, 12, 2, 32),
        ] {
            let layout = Layout { columns, bits, additive_bytes };
            let bytes = layout.code_bytes();
            let stride = layout.record_bytes();
            let records: Vec<u8> = (0..count * stride).map(|i| (i * 37 + 11) as u8).collect();
            let mut block = vec![99; layout.block_bytes()];
            layout.pack_block(&records, stride, &mut block);
            for v in 0..BLOCK {
                let at = |byte: usize| match byte.checked_sub(bytes) {
                    None if bits == 8 => block[byte * BLOCK + v],
                    None if bits != 4 => block[v * bytes + byte],
                    None => {
                        let group = |k: usize| block[k * 16 + v % 16] >> (4 * (v / 16)) & 15;
                        group(2 * byte) | group(2 * byte + 1) << 4
                    }
                    Some(byte) => block[bytes * BLOCK + v * additive_bytes + byte],
                };
                for byte in 0..stride {
                    let expected = if v < count { records[v * stride + byte] } else { 0 };
                    assert_eq!(at(byte), expected, "vector {v}, byte {byte}");
                }
                let numbers: Vec<u16> = layout.numbers(&block, v).collect();
                assert_eq!(numbers.len(), columns);
                if let Some(record) = records.chunks_exact(stride).nth(v) {
                    assert!(layout.unpack(record).eq(numbers.iter().copied()));
                    // Bit by bit, from the lowest.
                    for (k, &number) in numbers.iter().enumerate() {
                        for i in 0..bits as usize {
                            let bit = k * bits as usize + i;
                            assert_eq!(
                                number >> i & 1,
                                u16::from(record[bit / 8] >> (bit % 8) & 1)
                            );
                        }
                    }
                    let mut packed = vec![99; bytes];
                    layout.pack(&numbers, &mut packed);
                    assert!(layout.unpack(&packed).eq(numbers));
                }
            }
        }
    }
}
