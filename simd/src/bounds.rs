//! Lower bounds of keys of whole blocks, from the sums of their first stage and their factors.

use crate::dispatch::{Level, dispatch, level};
use crate::layout::BLOCK;
#[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
use crate::neon;
use crate::scalar;
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};

/// A number in one or two bytes that is the upper part of an `f32`: 0 for code 0, else
/// `f32::from_bits((code << shift) + base)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleBits {
    /// 1 or 2.
    pub bytes: usize,
    /// Places the code's mantissa at the top of the `f32`'s.
    pub shift: u32,
    /// Added after the shift: the exponent of code 0.
    pub base: u32,
}

/// Consecutive groups of a block whose sum counts with one scale of each vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundPiece {
    /// Groups of 16 bytes.
    pub groups: usize,
    /// Where the scales of the 32 vectors lie in the block, in bytes.
    pub scales: usize,
    /// How they are stored.
    pub format: ScaleBits,
}

/// How the additive factors of vectors are stored.
#[derive(Clone, Copy)]
pub enum Additive<'a> {
    /// As `f32`, little-endian.
    Exact,
    /// As codes of 16 bits, little-endian.
    Linear {
        /// The value of code 0.
        low: f32,
        /// The difference between neighbouring codes.
        step: f32,
        /// The last code that stands for `low + step * code`.
        last: u16,
        /// The values of the codes after it, which are rare.
        beyond: &'a dyn Fn(u16) -> f32,
    },
}

/// What lies where in a block of 32 vectors: from its start on the groups of all pieces, as for
/// [`scan_blocks`](crate::scan_blocks), then factors.
#[derive(Clone, Copy)]
pub struct BoundLayout<'a> {
    /// Bytes of a block.
    pub stride: usize,
    /// The pieces, in the order of their groups.
    pub pieces: &'a [BoundPiece],
    /// Where the additive factors lie, in bytes.
    pub additive: usize,
    /// How they are stored.
    pub format: Additive<'a>,
    /// Where the shifts lie, in bytes, and their step, if there are any. A shift of one byte stands for
    /// `(code - 128) * step`; code 0 for one without end, downwards.
    pub shift: Option<(usize, f32)>,
}

impl BoundLayout<'_> {
    /// Bytes of the groups of all pieces.
    pub(crate) fn group_bytes(&self) -> usize {
        self.pieces.iter().map(|piece| 16 * piece.groups).sum()
    }
}

/// What all keys of a vector's list share.
#[derive(Clone, Copy, Debug)]
pub enum ListConstants<'a> {
    /// The same for all vectors.
    One(f32),
    /// For each vector of each block; no number for one to leave out.
    Each(&'a [[f32; BLOCK]]),
}

impl ListConstants<'_> {
    /// For the vectors of a block.
    #[inline(always)]
    pub fn of_block(self, block: usize) -> [f32; BLOCK] {
        match self {
            ListConstants::One(constant) => [constant; BLOCK],
            ListConstants::Each(constants) => constants[block],
        }
    }
}

/// A query, and how the vectors of some blocks look from it. Vectors from number `own` on have
/// offsets of their own.
#[derive(Clone, Copy, Debug)]
pub struct BoundQuery<'a> {
    /// 16 entries for each group of all pieces.
    pub lut: &'a [u8],
    /// What a unit of each piece's sum is worth.
    pub slopes: &'a [f32],
    /// What all keys share.
    pub constants: ListConstants<'a>,
    /// How many vectors the first offsets are for.
    pub own: usize,
    /// For each piece what its sum is worth anyway, for the first vectors
    pub offsets: &'a [f32],
    /// and for the others.
    pub others: &'a [f32],
    /// The largest bound that passes.
    pub threshold: f32,
}

/// The bounds of the vectors of whole blocks, and which of them pass: bit `v` of `passed[i]` for vector
/// `v` of block `i`. The bound of a vector is
///
/// ```text
/// constant + additive + shift - sum over the pieces of scale * (slope * sum + offset)
/// ```
///
/// with a rounding after each operation, in this order, where `sum` is that of the table's entries which
/// the codes of the piece select. A bound that is no number does not pass.
///
/// # Panics
/// If a piece exceeds 257 groups (where a sum could leave 16 bits), something lies beyond a block, a
/// format is none, or a slice is too short; `passed` and `bounds` tell how many blocks there are.
pub fn bound_blocks(
    codes: &[u8],
    layout: &BoundLayout<'_>,
    query: &BoundQuery<'_>,
    bounds: &mut [[f32; BLOCK]],
    passed: &mut [u32],
) {
    bound_blocks_at(level(), codes, layout, query, bounds, passed);
}

/// [`bound_blocks`] at a given level.
pub(crate) fn bound_blocks_at(
    level: Level,
    codes: &[u8],
    layout: &BoundLayout<'_>,
    query: &BoundQuery<'_>,
    bounds: &mut [[f32; BLOCK]],
    passed: &mut [u32],
) {
    let blocks = bounds.len();
    assert_eq!(passed.len(), blocks, "a mask for each block");
    let (stride, pieces) = (layout.stride, layout.pieces);
    let found = codes.len();
    assert!(found / stride.max(1) >= blocks, "{found} bytes of codes for {blocks} blocks");
    let within = |at: usize, bytes: usize| {
        let end = at.saturating_add(bytes * BLOCK);
        assert!(end <= stride, "factors end at byte {end} of blocks of {stride}");
    };
    for piece in pieces {
        assert!(piece.groups <= 257, "{} groups could overflow 16-bit sums", piece.groups);
        let ScaleBits { bytes, shift, .. } = piece.format;
        assert!(matches!(bytes, 1 | 2) && shift < 32, "scales of {bytes} bytes shifted by {shift}");
        within(piece.scales, bytes);
    }
    within(layout.additive, if matches!(layout.format, Additive::Exact) { 4 } else { 2 });
    if let Some((at, _)) = layout.shift {
        within(at, 1);
    }
    let bytes = layout.group_bytes();
    assert!(bytes <= stride, "groups of {bytes} bytes in blocks of {stride}");
    assert!(query.lut.len() >= bytes, "the table has {} bytes of {bytes}", query.lut.len());
    let count = pieces.len();
    for values in [query.slopes, query.offsets, query.others] {
        assert_eq!(values.len(), count, "a value for each piece");
    }
    if let ListConstants::Each(constants) = query.constants {
        assert!(constants.len() >= blocks, "constants of {} blocks", constants.len());
    }
    dispatch!(level, bound_blocks(codes, layout, query, bounds, passed));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::without_vbmi;
    use crate::tests::{Numbers, levels};

    /// A layout of pieces of so many groups, with every other format, and the bytes of a block.
    fn pieces(groups: &[usize], wide: usize, start: usize) -> (Vec<BoundPiece>, usize) {
        let mut at = groups.iter().sum::<usize>() * 16 + start;
        let mut pieces = Vec::new();
        for (i, &groups) in groups.iter().enumerate() {
            let bytes = 1 + (i + wide) % 2;
            let format = match bytes {
                1 => ScaleBits { bytes, shift: 18, base: 124 << 23 },
                _ => ScaleBits { bytes, shift: 11, base: 119 << 23 },
            };
            pieces.push(BoundPiece { groups, scales: at, format });
            at += bytes * BLOCK;
        }
        (pieces, at)
    }

    /// Compares all levels with the scalar twin; returns how many vectors passed.
    fn check(codes: &[u8], blocks: usize, layout: &BoundLayout<'_>, query: &BoundQuery<'_>) -> u32 {
        let run = |level| {
            let (mut bounds, mut passed) = (vec![[7.0; BLOCK]; blocks], vec![7; blocks]);
            bound_blocks_at(level, codes, layout, query, &mut bounds, &mut passed);
            let bits = |bound: f32| if bound.is_nan() { u32::MAX } else { bound.to_bits() };
            (bounds.concat().into_iter().map(bits).collect::<Vec<u32>>(), passed)
        };
        let expected = run(Level::Scalar);
        for level in levels() {
            assert_eq!(run(level), expected, "{level}");
            assert_eq!(without_vbmi(|| run(level)), expected, "{level} without VBMI");
        }
        for (bits, v) in expected.0.iter().zip(0..) {
            let passes = expected.1[v / BLOCK] >> (v % BLOCK) & 1 == 1;
            assert_eq!(f32::from_bits(*bits) <= query.threshold, passes, "vector {v}");
        }
        expected.1.iter().map(|mask| mask.count_ones()).sum()
    }

    #[test]
    fn bounds_agree_on_all_layouts() {
        let mut numbers = Numbers(9);
        let beyond = |code: u16| f32::from(code) * -3.5e4;
        let (mut passed, mut all) = (0, 0);
        for groups in [&[][..], &[0], &[1], &[3, 5], &[44], &[88, 24, 7], &[257, 2]] {
            for (case, blocks) in (0..16).zip([1, 2, 3, 0, 5].into_iter().cycle()) {
                let (exact, shifted, each) = (case & 1 == 1, case & 2 == 2, case & 4 == 4);
                let additive = groups.iter().sum::<usize>() * 16;
                let additive_bytes = if exact { 4 } else { 2 } * BLOCK;
                let shift = additive + additive_bytes;
                let (pieces, end) =
                    pieces(groups, case >> 3, additive_bytes + usize::from(shifted) * BLOCK);
                let stride = end + 5 * (case % 3);
                let count = groups.len();
                let lut = numbers.u8s(additive + 3);
                // An odd start, and bytes behind the last block.
                let mut bytes = numbers.u8s(1 + blocks * stride + 9);
                for block in bytes[1..].chunks_exact_mut(stride) {
                    if exact {
                        let factors = numbers.f32s(BLOCK);
                        for (v, factor) in factors.iter().enumerate() {
                            block[additive + 4 * v..][..4].copy_from_slice(&factor.to_le_bytes());
                        }
                    } else if case % 3 > 0 {
                        // Of two cases in three only a few codes stand for values beyond.
                        for v in (0..BLOCK).filter(|v| v % 13 != case) {
                            block[additive + 2 * v + 1] &= 0x7f;
                        }
                    }
                    block[end - 2..end].fill(0);
                    if shifted {
                        block[shift + case] = 0;
                    }
                }
                let low = -2.0;
                let linear = Additive::Linear { low, step: 1e-3, last: 57_343, beyond: &beyond };
                let format = if exact { Additive::Exact } else { linear };
                let shift = shifted.then_some((shift, 0.01));
                let pieces = &pieces[..];
                let layout = BoundLayout { stride, pieces, additive, format, shift };
                let mut constants: Vec<[f32; BLOCK]> = Vec::new();
                for block in 0..blocks {
                    let mut values = [0.0; BLOCK];
                    values.copy_from_slice(&numbers.f32s(BLOCK));
                    values[(5 * block + case) % BLOCK] = f32::NAN;
                    constants.push(values);
                }
                let constants =
                    if each { ListConstants::Each(&constants) } else { ListConstants::One(1.25) };
                let slopes: Vec<f32> = numbers.f32s(count).iter().map(|x| x * 1e-3).collect();
                let (offsets, others) = (numbers.f32s(count), numbers.f32s(count));
                for own in [0, 1, 31, 32, 45, 64, usize::MAX] {
                    for threshold in [f32::NEG_INFINITY, 0.5, f32::INFINITY, f32::NAN] {
                        let (slopes, offsets, others) = (&slopes[..], &offsets[..], &others[..]);
                        let lut = &lut[3..];
                        let query =
                            BoundQuery { lut, slopes, constants, own, offsets, others, threshold };
                        let found = check(&bytes[1..], blocks, &layout, &query);
                        if threshold == 0.5 {
                            passed += found;
                            all += (blocks * BLOCK) as u32;
                        }
                    }
                }
            }
        }
        assert!(passed > all / 10 && passed < all - all / 10, "{passed} of {all} pass");
    }

    #[test]
    fn a_bound_is_what_the_formula_says() {
        let (pieces, end) = pieces(&[2, 1], 0, 2 * BLOCK + BLOCK);
        let mut block = vec![0; end];
        // Vector 17 has codes 3, 5 and 15.
        (block[1], block[17], block[33]) = (3 << 4, 5 << 4, 15 << 4);
        let additive = 48;
        block[additive + 2 * 17..][..2].copy_from_slice(&300u16.to_le_bytes());
        block[additive + 64 + 17] = 130;
        block[pieces[0].scales + 17] = 96;
        block[pieces[1].scales + 2 * 17 + 1] = 0x80;
        let lut: Vec<u8> = (0..48).map(|i| i * 5).collect();
        let never = |_| unreachable!();
        let format = Additive::Linear { low: -1.0, step: 0.01, last: 57_343, beyond: &never };
        let shift = Some((additive + 64, 0.5));
        let layout = BoundLayout { stride: end, pieces: &pieces, additive, format, shift };
        let query = BoundQuery {
            lut: &lut,
            slopes: &[0.25, -0.5],
            constants: ListConstants::One(10.0),
            own: 17,
            offsets: &[0.0, 0.0],
            others: &[3.0, 4.0],
            threshold: f32::INFINITY,
        };
        let (mut bounds, mut passed) = ([[0.0; BLOCK]], [0]);
        bound_blocks(&block, &layout, &query, &mut bounds, &mut passed);
        // The sums are 15 + 105 and 235, the scales 2^0 and 2^0.
        let expected = 10.0 + 2.0 + 1.0 - (0.25 * 120.0 + 3.0) - (-0.5 * 235.0 + 4.0);
        assert!((bounds[0][17] - expected).abs() < 1e-4, "{} of {expected}", bounds[0][17]);
    }

    #[test]
    #[should_panic(expected = "factors end at byte")]
    fn factors_beyond_a_block_are_refused() {
        let (pieces, end) = pieces(&[2], 0, 4 * BLOCK);
        let (format, additive) = (Additive::Exact, 32);
        let stride = end - 1;
        let layout = BoundLayout { stride, pieces: &pieces, additive, format, shift: None };
        let query = BoundQuery {
            lut: &[0; 32],
            slopes: &[1.0],
            constants: ListConstants::One(0.0),
            own: 0,
            offsets: &[1.0],
            others: &[1.0],
            threshold: 0.0,
        };
        bound_blocks(&vec![0; end], &layout, &query, &mut [[0.0; BLOCK]], &mut [0]);
    }
}
