//! Scalar quantizers: each dimension of a residual becomes an integer of a few bits, a step of a range.
//! Nothing is rotated.
//!
//! | quantizer | range | bits |
//! |---|---|---|
//! | SQ | of each dimension, fitted to the sample | 4 to 8 |
//! | LVQ (Aguerrebere, Bhati, Hildebrand, Tepper and Willke, VLDB 2023) | of each vector, its least and largest value | 4 to 8 |
//! | two-level LVQ | the same | 4, and 1 to 8 more of what they leave |
//!
//! A code `k` stands for the value `low + step * k`, where `low` and `step` are those of its dimension or
//! of its vector. The second level of LVQ divides the step between two codes of the first evenly, so that
//! both together are a code of as many bits: with `a` bits in the first level and `b` in the second, for
//! values from `least` to `most`,
//!
//! ```text
//! step = (most - least) / (2^a - 1) / 2^b
//! low  = least - step * (2^b - 1) / 2
//! ```
//!
//! Of every code the first stage reads the upper 4 bits, 32 vectors side by side; what is left stands
//! for the middle of what it may be (`query`). The other bits are read for survivors only. Estimates take
//! from the values what [`estimate`](super::estimate) says.

mod encode;
mod query;
mod ranges;
mod train;

pub(crate) use encode::{EncodeScratch, Encoder};
pub(crate) use query::{QueryModel, RefineScratch, Tables};
pub(crate) use train::train;

use bytemuck::{Pod, Zeroable};
use half::f16;
use nonius_simd::{BLOCK, Fields, GROUP};

use super::QuantizerSpec;
use super::blocks::{Sums, field_place, fields, groups_of, pack_groups, pieces};
use super::frame::Frame;

/// Bits of a code that the first stage reads.
pub(crate) const SCAN_BITS: u32 = 4;

/// The values that the codes of a dimension stand for: `low + step * code`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Range {
    pub(crate) low: f32,
    pub(crate) step: f32,
}

/// The codes of a scalar quantizer: everything that its name says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Grid {
    /// True where each vector has a range of its own.
    pub(crate) own: bool,
    /// Bits of the first level.
    pub(crate) first: u32,
    /// Bits of the second level; 0 where there is one level.
    pub(crate) second: u32,
}

impl Grid {
    /// The codes of a quantizer of this family.
    pub(crate) fn of(spec: &QuantizerSpec) -> Grid {
        match *spec {
            QuantizerSpec::Sq { bits } => Grid { own: false, first: bits, second: 0 },
            QuantizerSpec::Lvq { bits, second } => Grid { own: true, first: bits, second },
            // Of no other family.
            _ => Grid { own: false, first: SCAN_BITS, second: 0 },
        }
    }

    /// Bits of a code.
    pub(crate) fn bits(self) -> u32 {
        self.first + self.second
    }

    /// Bits of a code that the first stage does not read.
    pub(crate) fn rest_bits(self) -> u32 {
        self.bits() - SCAN_BITS
    }

    /// The values of a vector's own codes, from its least value to its largest.
    #[inline(always)]
    pub(crate) fn range(self, ends: Ends) -> Range {
        let parts = (1u32 << self.second) as f32;
        let steps = ((1u32 << self.first) - 1) as f32;
        let step = (ends.most() - ends.least()) / (steps * parts);
        Range { low: ends.least() - step * (0.5 * (parts - 1.0)), step }
    }
}

/// A vector's least and largest value, each as the bits of an IEEE 754 binary16.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Ends(pub(crate) [u16; 2]);

impl Ends {
    /// Bytes of a vector's ends.
    pub(crate) const BYTES: usize = 4;

    /// The narrowest ends around some values, as far as 16 bits reach.
    pub(crate) fn around(least: f32, most: f32) -> Ends {
        let largest = f32::from(f16::MAX);
        let round = |value: f32| f16::from_f32_const(value.clamp(-largest, largest));
        // Rounding may have gone inwards; the next number is found by its bits.
        let [mut low, mut high] = [round(least), round(most)];
        if f32::from(low) > least {
            low = f16::from_bits(next_below(low.to_bits()));
        }
        if f32::from(high) < most {
            high = f16::from_bits(next_below(high.to_bits() ^ SIGN) ^ SIGN);
        }
        Ends([low.to_bits(), high.to_bits()])
    }

    /// What the bytes of both ends hold.
    #[inline(always)]
    pub(crate) fn read([least, most]: [[u8; 2]; 2]) -> Ends {
        Ends([u16::from_le_bytes(least), u16::from_le_bytes(most)])
    }

    /// The bytes of a record.
    pub(crate) fn bytes(self) -> [[u8; 2]; 2] {
        self.0.map(u16::to_le_bytes)
    }

    #[inline(always)]
    pub(crate) fn least(self) -> f32 {
        widen(self.0[0])
    }

    #[inline(always)]
    pub(crate) fn most(self) -> f32 {
        widen(self.0[1])
    }
}

const SIGN: u16 = 1 << 15;

/// The bits of the next smaller binary16, or of the smallest.
fn next_below(bits: u16) -> u16 {
    let smallest = f16::MIN.to_bits();
    match bits {
        0 => SIGN | 1,
        _ if bits == smallest => smallest,
        _ if bits & SIGN == 0 => bits - 1,
        _ => bits + 1,
    }
}

/// The value of a finite binary16. What would be infinite or no number is finite too: 65,536 and more.
///
/// The bits moved to where `f32` has them are the number times 2^-112, subnormal numbers included.
#[inline(always)]
pub(crate) fn widen(bits: u16) -> f32 {
    const UP: f32 = f32::from_bits((127 + 112) << 23);
    let magnitude = f32::from_bits(u32::from(bits & !SIGN) << 13) * UP;
    f32::from_bits(magnitude.to_bits() | u32::from(bits & SIGN) << 16)
}

/// All that is needed to make sense of codes, but the ranges of dimensions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    pub(crate) frame: Frame,
    pub(crate) grid: Grid,
    /// What inner products with the values are multiplied by.
    pub(crate) weight: f32,
}

impl Model {
    /// Where the bytes of a vector lie.
    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.frame.dims, self.grid, self.frame.additive.bytes)
    }
}

/// Where the bits of a vector lie.
///
/// A record is the upper 4 bits of all dimensions (two a byte), additive factor and ends, which go to a
/// block, and the rest: the fields of the other bits. A block has for each dimension a group of 16 bytes,
/// then the additive factors, the least and the largest values of its 32 vectors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    pub(crate) dims: usize,
    pub(crate) grid: Grid,
    pub(crate) additive_bytes: usize,
    /// Bytes of the rest of a vector.
    pub(crate) rest_bytes: usize,
    /// Inner products with the fields of the rest.
    pub(crate) sums: Sums,
    /// The groups of the first stage in pieces that [`nonius_simd::scan_blocks`] takes.
    pub(crate) pieces: Vec<usize>,
}

impl Layout {
    pub(crate) fn new(dims: usize, grid: Grid, additive_bytes: usize) -> Layout {
        let (mut at, mut parts) = (0, Vec::new());
        for (width, place) in fields(grid.rest_bits()) {
            parts.push((Fields::in_row(width, dims, at, 0), place));
            at += nonius_simd::field_bytes(width, dims);
        }
        let mut sums = Sums::default();
        sums.push(&parts);
        let pieces = pieces(dims).collect();
        Layout { dims, grid, additive_bytes, rest_bytes: at, sums, pieces }
    }

    /// Bytes of a vector's ends.
    pub(crate) fn ends_bytes(&self) -> usize {
        if self.grid.own { Ends::BYTES } else { 0 }
    }

    /// Where the additive factor starts in a record.
    pub(crate) fn additive_start(&self) -> usize {
        self.dims / 2
    }

    /// Where the ends start in a record.
    pub(crate) fn ends_start(&self) -> usize {
        self.additive_start() + self.additive_bytes
    }

    /// Where the rest starts in a record.
    pub(crate) fn rest_start(&self) -> usize {
        self.ends_start() + self.ends_bytes()
    }

    /// Bytes of a record: everything that is stored of a vector but its id.
    pub(crate) fn record_bytes(&self) -> usize {
        self.rest_start() + self.rest_bytes
    }

    /// Bytes of a block of 32 vectors.
    pub(crate) fn block_bytes(&self) -> usize {
        self.rest_start() * BLOCK
    }

    /// Interleaves the first parts of up to 32 records, `stride` bytes apart, into a block. Missing
    /// vectors are zero.
    pub(crate) fn pack_block(&self, records: &[u8], stride: usize, block: &mut [u8]) {
        block.fill(0);
        let (groups, factors) = block.split_at_mut(self.dims * GROUP);
        pack_groups(records, stride, self.dims / 2, groups);
        let (additive, ends) = factors.split_at_mut(self.additive_bytes * BLOCK);
        for (v, record) in records.chunks_exact(stride).enumerate() {
            let factor = &record[self.additive_start()..self.ends_start()];
            additive[v * self.additive_bytes..][..self.additive_bytes].copy_from_slice(factor);
            let own = record[self.ends_start()..self.rest_start()].as_chunks::<2>().0;
            for (end, bytes) in own.iter().enumerate() {
                ends[2 * (end * BLOCK + v)..][..2].copy_from_slice(bytes);
            }
        }
    }

    /// The code of each dimension of vector `v` of a block; `rest` is its row of the rest.
    pub(crate) fn numbers(&self, block: &[u8], v: usize, rest: &[u8]) -> Vec<u16> {
        let top = |top: u8| u16::from(top) << self.grid.rest_bits();
        let mut codes: Vec<u16> = self.tops(block, v).map(top).collect();
        let mut at = 0;
        for (width, place) in fields(self.grid.rest_bits()) {
            let bytes = &rest[at..at + nonius_simd::field_bytes(width, self.dims)];
            at += bytes.len();
            for (i, code) in codes.iter_mut().enumerate() {
                let (byte, bit) = field_place(width, self.dims, i);
                *code |= (u16::from(bytes[byte] >> bit) & ((1 << width) - 1)) << place;
            }
        }
        codes
    }

    /// The additive factor of vector `v` of a block as it is stored.
    #[inline(always)]
    fn additive<'a>(&self, block: &'a [u8], v: usize) -> &'a [u8] {
        &block[self.dims * GROUP + v * self.additive_bytes..][..self.additive_bytes]
    }

    /// The ends of the vectors of a block, all the least ones before the others; empty if they have none.
    #[inline(always)]
    fn ends<'a>(&self, block: &'a [u8]) -> &'a [[u8; 2]] {
        block[self.dims * GROUP + self.additive_bytes * BLOCK..].as_chunks::<2>().0
    }

    /// The upper 4 bits of all dimensions of vector `v` of a block.
    #[inline(always)]
    fn tops<'a>(&self, block: &'a [u8], v: usize) -> impl Iterator<Item = u8> + 'a {
        groups_of(&block[..self.dims * GROUP], v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_enclose_what_they_are_of() {
        for (least, most) in [
            (-0.37f32, 1.1f32),
            (0.0, 0.0),
            (1e-9, 2e-9),
            (-3e-8, -1e-8),
            (-1e-30, 1e-30),
            (-65_504.0, 65_504.0),
            (1.0003, 1.0004),
        ] {
            let ends = Ends::around(least, most);
            assert!(ends.least() <= least && most <= ends.most(), "{least} {most}: {ends:?}");
            let wide = 2e-3 * least.abs().max(most.abs()) + 1.3e-7;
            assert!(ends.most() - ends.least() <= most - least + wide, "{least} {most}: {ends:?}");
        }
        let beyond = Ends::around(-1e30, 1e30);
        assert_eq!((beyond.least(), beyond.most()), (-65_504.0, 65_504.0));
    }

    #[test]
    fn every_half_is_widened_to_its_value() {
        for bits in 0..=u16::MAX {
            let expected = f16::from_bits(bits).to_f32_const();
            let found = widen(bits);
            if expected.is_finite() {
                assert_eq!(found.to_bits(), expected.to_bits(), "{bits:#x}");
            } else {
                assert!(found.is_finite() && found.abs() >= 65_536.0, "{bits:#x}: {found}");
            }
        }
    }

    #[test]
    fn the_second_level_divides_the_steps_of_the_first() {
        let ends = Ends::around(-0.75, 1.125);
        let coarse = Grid { own: true, first: 4, second: 0 }.range(ends);
        let fine = Grid { own: true, first: 4, second: 3 }.range(ends);
        assert_eq!((coarse.low, coarse.step), (-0.75, 0.125));
        for top in 0..16u32 {
            let middle: f32 =
                (0..8).map(|k| fine.low + fine.step * (8 * top + k) as f32).sum::<f32>() / 8.0;
            assert!((middle - (coarse.low + coarse.step * top as f32)).abs() < 1e-6);
        }
    }

    #[test]
    fn blocks_hold_every_byte_but_the_rest() {
        for (dims, grid, additive_bytes, count) in [
            (8, Grid { own: false, first: 4, second: 0 }, 1, 32),
            (16, Grid { own: false, first: 7, second: 0 }, 2, 5),
            (264, Grid { own: true, first: 8, second: 0 }, 4, 31),
            (24, Grid { own: true, first: 4, second: 8 }, 2, 17),
        ] {
            let layout = Layout::new(dims, grid, additive_bytes);
            assert_eq!(layout.rest_bytes, dims * grid.rest_bits() as usize / 8);
            let stride = layout.record_bytes();
            let records: Vec<u8> = (0..count * stride).map(|i| (i * 37 + i / 256) as u8).collect();
            let mut block = vec![99; layout.block_bytes()];
            layout.pack_block(&records, stride, &mut block);
            for (v, record) in records.chunks_exact(stride).enumerate() {
                let tops: Vec<u8> = layout.tops(&block, v).collect();
                let expected: Vec<u8> =
                    (0..dims).map(|i| record[i / 2] >> (4 * (i % 2)) & 15).collect();
                assert_eq!(tops, expected);
                let factor = &record[layout.additive_start()..layout.ends_start()];
                assert_eq!(layout.additive(&block, v), factor);
                if grid.own {
                    let ends = layout.ends(&block);
                    let own = record[layout.ends_start()..layout.rest_start()].as_chunks::<2>().0;
                    assert_eq!([ends[v], ends[BLOCK + v]], own);
                }
            }
            assert!((count..BLOCK).all(|v| layout.tops(&block, v).all(|top| top == 0)));
        }
    }
}
