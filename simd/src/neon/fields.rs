//! Inner products with packed fields.

use std::arch::aarch64::*;

use super::{load_i8, load_u8};
use crate::fields::{FieldPlan, GROUP, Line, Part, Source};
use crate::parts::field_kernel;

field_kernel!("neon");

/// Of high digits and of low ones.
type Products = [int32x4_t; 2];

#[inline]
#[target_feature(enable = "neon")]
fn nothing() -> int32x4_t {
    vdupq_n_s32(0)
}

#[inline]
#[target_feature(enable = "neon")]
fn no_products() -> Products {
    [nothing(); 2]
}

/// Adds `128 * high + low`, `shift` bits further up.
#[inline]
#[target_feature(enable = "neon")]
fn join(total: int32x4_t, [high, low]: Products, shift: u32) -> int32x4_t {
    let sum = vaddq_s32(vshlq_n_s32::<7>(high), low);
    vaddq_s32(total, vshlq_s32(sum, vdupq_n_s32(shift as i32)))
}

#[inline]
#[target_feature(enable = "neon")]
fn reduce(total: int32x4_t) -> i32 {
    vaddvq_s32(total)
}

/// 16, 32 or 64 bytes, as often as they fit.
#[inline]
#[target_feature(enable = "neon")]
fn fill(bytes: &[u8]) -> [uint8x16_t; 4] {
    let quarters = bytes.as_chunks::<16>().0;
    let mut filled = [vdupq_n_u8(0); 4];
    for (filled, bytes) in filled.iter_mut().zip(quarters.iter().cycle()) {
        *filled = load_u8(bytes);
    }
    filled
}

/// A vector's four bits of each of up to 64 groups, one group a byte, in chunks of `slot`.
#[inline]
#[target_feature(enable = "neon")]
fn gather(groups: &[u8], slot: usize, lane: usize) -> [uint8x16_t; 4] {
    let mut bytes = [0; 64];
    for (byte, group) in bytes.iter_mut().zip(groups.as_chunks::<GROUP>().0) {
        *byte = group[lane % GROUP] >> (4 * (lane / GROUP)) & 15;
    }
    fill(&bytes[..slot])
}

/// Adds the products of the fields of a chunk with their high and low digits.
#[inline]
#[target_feature(enable = "neon")]
fn multiply(
    part: &Part,
    bytes: [uint8x16_t; 4],
    lines: &[Line],
    mut products: Products,
) -> Products {
    let field = vdupq_n_u8(part.field);
    let (high, low) = lines.split_at(part.height);
    // 16 bits hold all: 4 products of at most 15 * 64 for each of up to 8 quarters of lines, or of at most
    // 3 * 64 for 16.
    let mut pairs = [vdupq_n_s16(0); 2];
    for (moves, (high, low)) in part.moves.iter().zip(high.iter().zip(low)) {
        let digits = high.0.as_chunks().0.iter().zip(low.0.as_chunks().0);
        let moves = moves.as_chunks::<4>().0;
        for ((bytes, moves), (high, low)) in bytes.into_iter().zip(moves).zip(digits) {
            // Negative: to the right. A chunk's lots change with its quarters, at most.
            let right = vdupq_n_s8(-(moves[0] as i8));
            let fields = vandq_u8(vshlq_u8(bytes, right), field);
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
    products
}

/// Adds the high and low digits whose bit is set.
#[inline]
#[target_feature(enable = "neon")]
fn multiply_bits(bits: &[u8; 8], lines: &[Line; 2], mut products: Products) -> Products {
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
    products
}
