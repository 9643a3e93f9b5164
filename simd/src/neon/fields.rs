//! Inner products with packed fields.

use std::arch::aarch64::*;

use super::{load_i8, load_u8};
use crate::fields::{FieldPlan, GROUP, Line, Part, Source};

/// See [`crate::dot_fields`].
#[target_feature(enable = "neon")]
pub(crate) fn dot_fields(
    plan: &FieldPlan,
    groups: &[u8],
    lane: usize,
    row: &[u8],
    lines: &[Line],
    sums: &mut [i32],
) {
    let mut sums = sums.iter_mut();
    let mut total = vdupq_n_s32(0);
    for part in &plan.parts {
        // High digits, low digits.
        let mut products = [vdupq_n_s32(0); 2];
        match part.source {
            Source::Bits => {
                let chunks = row[part.row()].as_chunks::<8>().0;
                for (bits, lines) in chunks.iter().zip(lines[part.lines()].as_chunks::<2>().0) {
                    multiply_bits(bits, lines, &mut products);
                }
            }
            Source::Row => {
                for chunk in 0..part.chunks {
                    let bytes = row[part.at + chunk * part.slot..][..part.slot].as_chunks().0;
                    multiply(part, bytes, part.of_chunk(lines, chunk), &mut products);
                }
            }
            Source::Groups => {
                for chunk in 0..part.chunks {
                    let groups = part.groups_of(groups, chunk);
                    let mut bytes = [0; 64];
                    let half = 4 * (lane / GROUP);
                    for (byte, group) in bytes.iter_mut().zip(groups.as_chunks::<GROUP>().0) {
                        *byte = group[lane % GROUP] >> half & 15;
                    }
                    let bytes = bytes[..part.slot].as_chunks().0;
                    multiply(part, bytes, part.of_chunk(lines, chunk), &mut products);
                }
            }
        }
        let [high, low] = products;
        let sum = vaddq_s32(vshlq_n_s32::<7>(high), low);
        total = vaddq_s32(total, vshlq_s32(sum, vdupq_n_s32(part.shift() as i32)));
        if part.last
            && let Some(sum) = sums.next()
        {
            *sum = vaddvq_s32(total);
            total = vdupq_n_s32(0);
        }
    }
}

/// Adds the products of the fields of a chunk with their high and low digits.
#[inline]
#[target_feature(enable = "neon")]
fn multiply(part: &Part, bytes: &[[u8; 16]], lines: &[Line], products: &mut [int32x4_t; 2]) {
    let field = vdupq_n_u8(part.field);
    let (high, low) = lines.split_at(part.height);
    // 16 bits hold all: 4 products of at most 15 * 64 for each of up to 8 quarters of lines, or of at most
    // 3 * 64 for 16.
    let mut pairs = [vdupq_n_s16(0); 2];
    for (moves, (high, low)) in part.moves.iter().zip(high.iter().zip(low)) {
        let digits = high.0.as_chunks().0.iter().zip(low.0.as_chunks().0);
        let moves = moves.as_chunks::<4>().0;
        for ((bytes, moves), (high, low)) in bytes.iter().cycle().zip(moves).zip(digits) {
            // Negative: to the right. A chunk's lots change with its quarters, at most.
            let right = vdupq_n_s8(-(moves[0] as i8));
            let fields = vandq_u8(vshlq_u8(load_u8(bytes), right), field);
            let fields = vreinterpretq_s8_u8(fields);
            for (pair, digits) in pairs.iter_mut().zip([high, low]) {
                let digits = load_i8(digits);
                *pair = vmlal_s8(*pair, vget_low_s8(fields), vget_low_s8(digits));
                *pair = vmlal_high_s8(*pair, fields, digits);
            }
        }
    }
    for (product, pair) in products.iter_mut().zip(pairs) {
        *product = vpadalq_s16(*product, pair);
    }
}

/// Adds the high and low digits whose bit is set.
#[inline]
#[target_feature(enable = "neon")]
fn multiply_bits(bits: &[u8; 8], lines: &[Line; 2], products: &mut [int32x4_t; 2]) {
    // Byte i looks at bit i % 8.
    let bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
    for (product, line) in products.iter_mut().zip(lines) {
        let digits = line.0.as_chunks().0;
        for ([first, second], digits) in bits.as_chunks::<2>().0.iter().copied().zip(digits) {
            let set = vtstq_u8(vcombine_u8(vdup_n_u8(first), vdup_n_u8(second)), bit);
            let digits = vandq_s8(load_i8(digits), vreinterpretq_s8_u8(set));
            *product = vpadalq_s16(*product, vpaddlq_s8(digits));
        }
    }
}
