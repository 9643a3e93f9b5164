//! Inner products with packed fields.

use std::arch::x86_64::*;

use super::{load_half, load_i8, load_i32, load_u8};
use crate::fields::{FieldPlan, GROUP, Line, Part, Source};
use crate::parts::field_kernel;

field_kernel!("avx2,fma,f16c,bmi1,bmi2,popcnt");

#[inline]
#[target_feature(enable = "avx2")]
fn nothing() -> __m256i {
    _mm256_setzero_si256()
}

/// High and low digits are joined chunk by chunk.
#[inline]
#[target_feature(enable = "avx2")]
fn no_products() -> __m256i {
    nothing()
}

/// Adds `shift` bits further up.
#[inline]
#[target_feature(enable = "avx2")]
fn join(total: __m256i, products: __m256i, shift: u32) -> __m256i {
    _mm256_add_epi32(total, _mm256_sll_epi32(products, _mm_cvtsi32_si128(shift as i32)))
}

/// 16, 32 or 64 bytes, as often as they fit.
#[inline]
#[target_feature(enable = "avx2")]
fn fill(bytes: &[u8]) -> [__m256i; 2] {
    if let Some(bytes) = bytes.first_chunk::<64>() {
        halves_of(bytes).each_ref().map(|bytes| load_u8(bytes))
    } else if let Some(bytes) = bytes.first_chunk::<32>() {
        [load_u8(bytes); 2]
    } else {
        let bytes: &[u8; 16] = bytes.first_chunk().expect("16 bytes, 32 or 64");
        [twice(load_half(bytes)); 2]
    }
}

/// A vector's four bits of each of up to 64 groups, one group a byte, in chunks of `slot`.
#[inline]
#[target_feature(enable = "avx2")]
fn gather(groups: &[u8], slot: usize, lane: usize) -> [__m256i; 2] {
    let (first, second) = groups.split_at(groups.len().min(32 * GROUP));
    let first = gather_half(first, lane);
    match slot {
        16 => [twice(first); 2],
        32 => [first; 2],
        _ => [first, gather_half(second, lane)],
    }
}

/// The lower half, in both halves.
#[inline]
#[target_feature(enable = "avx2")]
fn twice(bytes: __m256i) -> __m256i {
    _mm256_permute2x128_si256::<0>(bytes, bytes)
}

/// The two halves of a line.
#[inline(always)]
fn halves_of<T>(values: &[T; 64]) -> &[[T; 32]; 2] {
    values.as_chunks().0.first_chunk().expect("two halves")
}

/// Adds the products of the fields of a chunk, whose halves meet the halves of lines, with their digits.
#[inline]
#[target_feature(enable = "avx2")]
fn multiply(part: &Part, bytes: [__m256i; 2], lines: &[Line], products: __m256i) -> __m256i {
    let field = _mm256_set1_epi8(part.field as i8);
    let (high, low) = lines.split_at(part.height);
    // 16 bits hold all: 2 products of at most 15 * 64 for each of up to 4 halves of lines, or of at most
    // 3 * 64 for 8.
    let mut pairs = [nothing(); 2];
    for (moves, (high, low)) in part.moves.iter().zip(high.iter().zip(low)) {
        let moves = moves.as_chunks::<8>().0;
        for half in 0..2 {
            let fields = _mm256_srlv_epi32(bytes[half], load_i32(&moves[half]));
            let fields = _mm256_and_si256(fields, field);
            for (pair, line) in pairs.iter_mut().zip([high, low]) {
                let digits = load_i8(&halves_of(&line.0)[half]);
                *pair = _mm256_add_epi16(*pair, _mm256_maddubs_epi16(fields, digits));
            }
        }
    }
    add_pairs(products, pairs)
}

/// Adds `128 * high + low` for sums of 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn add_pairs(sums: __m256i, [high, low]: [__m256i; 2]) -> __m256i {
    let high = _mm256_madd_epi16(high, _mm256_set1_epi16(128));
    let low = _mm256_madd_epi16(low, _mm256_set1_epi16(1));
    _mm256_add_epi32(sums, _mm256_add_epi32(high, low))
}

/// Adds the high and low digits whose bit is set.
#[inline]
#[target_feature(enable = "avx2")]
fn multiply_bits(bits: &[u8; 8], lines: &[Line; 2], mut products: __m256i) -> __m256i {
    // Byte i takes byte i / 8 of the bits, of which it looks at bit i % 8.
    let byte = _mm256_set_epi64x(
        0x0303_0303_0303_0303,
        0x0202_0202_0202_0202,
        0x0101_0101_0101_0101,
        0x0000_0000_0000_0000,
    );
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    for (half, bits) in bits.as_chunks().0.iter().enumerate() {
        let digits = lines.each_ref().map(|line| load_i8(&halves_of(&line.0)[half]));
        let bits = _mm256_set1_epi32(i32::from_le_bytes(*bits));
        let set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(bits, byte), bit), bit);
        let values = _mm256_and_si256(set, _mm256_set1_epi8(1));
        products = add_pairs(products, digits.map(|digits| _mm256_maddubs_epi16(values, digits)));
    }
    products
}

/// A vector's four bits of each of up to 32 groups, one group a byte.
#[inline]
#[target_feature(enable = "avx2")]
fn gather_half(groups: &[u8], lane: usize) -> __m256i {
    // Of two groups at a time, and byte `i` of each 16 for those of number `i`: there the index is the lane,
    // elsewhere it is 128 and gives zero.
    let none = _mm256_set1_epi8(-128);
    let lanes = _mm256_set1_epi8((lane % GROUP) as i8);
    let mut index = _mm256_alignr_epi8::<15>(none, lanes);
    let mut bytes = nothing();
    for two in groups.as_chunks::<{ 2 * GROUP }>().0 {
        bytes = _mm256_or_si256(bytes, _mm256_shuffle_epi8(load_u8(two), index));
        index = _mm256_alignr_epi8::<15>(index, none);
    }
    // From byte `i` of the 16 bytes `g` to byte `2 * i + g`.
    let (even, odd) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
    let bytes = _mm256_set_m128i(_mm_unpackhi_epi8(even, odd), _mm_unpacklo_epi8(even, odd));
    let half = _mm_cvtsi32_si128(4 * (lane / GROUP) as i32);
    _mm256_and_si256(_mm256_srl_epi16(bytes, half), _mm256_set1_epi8(15))
}

/// The sum of the eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn reduce(sums: __m256i) -> i32 {
    let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let sums = _mm_add_epi32(sums, _mm_unpackhi_epi64(sums, sums));
    _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_shuffle_epi32::<1>(sums)))
}
