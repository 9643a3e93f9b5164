//! Inner products with packed fields.

use std::arch::x86_64::*;

use super::{broadcast_u8, dot_i8, load_i8, load_i32, load_u8, zero as nothing};
use crate::fields::{FieldPlan, GROUP, Line, Part, Source};
use crate::parts::field_kernel;

field_kernel!("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,bmi2");

/// Of high digits and of low ones.
type Products = [__m512i; 2];

#[inline]
#[target_feature(enable = "avx512f")]
fn no_products() -> Products {
    [nothing(); 2]
}

/// Adds `128 * high + low`, `shift` bits further up.
#[inline]
#[target_feature(enable = "avx512f")]
fn join(total: __m512i, [high, low]: Products, shift: u32) -> __m512i {
    let sum = _mm512_add_epi32(_mm512_slli_epi32::<7>(high), low);
    _mm512_add_epi32(total, _mm512_sll_epi32(sum, _mm_cvtsi32_si128(shift as i32)))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn reduce(total: __m512i) -> i32 {
    _mm512_reduce_add_epi32(total)
}

/// Adds the high and low digits whose bit is set: a field of one bit is the mask of its digits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn multiply_bits(bits: &[u8; 8], lines: &[Line; 2], mut products: Products) -> Products {
    let bits = u64::from_le_bytes(*bits);
    for (product, digits) in products.iter_mut().zip(lines) {
        let digits = _mm512_maskz_mov_epi8(bits, load_i8(&digits.0));
        *product = dot_i8(*product, broadcast_u8([1; 4]), digits);
    }
    products
}

/// 16, 32 or 64 bytes, as often as they fit.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn fill(bytes: &[u8]) -> __m512i {
    if let Ok(bytes) = bytes.try_into() {
        load_u8(bytes)
    } else if let Ok(bytes) = bytes.try_into() {
        let bytes: &[u8; 32] = bytes;
        // SAFETY: the array has the 32 bytes that are read; the load needs no alignment.
        _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
    } else {
        let bytes: &[u8; 16] = bytes.first_chunk().expect("16 bytes, 32 or 64");
        // SAFETY: the array has the 16 bytes that are read; the load needs no alignment.
        _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
    }
}

/// Adds the products of the fields in 64 bytes with their high and low digits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn multiply(part: &Part, bytes: __m512i, lines: &[Line], mut products: Products) -> Products {
    let field = _mm512_set1_epi8(part.field as i8);
    let (high, low) = lines.split_at(part.height);
    for (moves, (high, low)) in part.moves.iter().zip(high.iter().zip(low)) {
        let fields = _mm512_and_si512(_mm512_srlv_epi32(bytes, load_i32(moves)), field);
        products[0] = dot_i8(products[0], fields, load_i8(&high.0));
        products[1] = dot_i8(products[1], fields, load_i8(&low.0));
    }
    products
}

/// A vector's four bits of each of up to 64 groups, one group a byte, in chunks of `slot`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn gather(groups: &[u8], slot: usize, lane: usize) -> __m512i {
    // Of four groups at a time, and byte `i` of each 16 for those of number `i`.
    let mut bytes = nothing();
    let mut place = 0x0001_0001_0001_0001u64;
    let lanes = _mm512_set1_epi8((lane % GROUP) as i8);
    let (fours, rest) = groups.as_chunks::<{ 4 * GROUP }>();
    for four in fours {
        bytes = _mm512_mask_shuffle_epi8(bytes, place, load_u8(four), lanes);
        place <<= 1;
    }
    if let Some(two) = rest.first_chunk::<{ 2 * GROUP }>() {
        // SAFETY: the array has the 32 bytes that are read; the load needs no alignment.
        let two = unsafe { _mm256_loadu_si256(two.as_ptr().cast()) };
        bytes = _mm512_mask_shuffle_epi8(bytes, place, _mm512_castsi256_si512(two), lanes);
    }
    // From byte `i` of the 16 bytes `g` to byte `4 * i + g`: words first, then the bytes of four words.
    const WORDS: [i32; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
    let words = _mm512_permutexvar_epi32(load_i32(&WORDS), bytes);
    let order = _mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    let bytes = _mm512_shuffle_epi8(words, _mm512_broadcast_i32x4(order));
    let half = _mm_cvtsi32_si128(4 * (lane / GROUP) as i32);
    let bytes = _mm512_and_si512(_mm512_srl_epi16(bytes, half), _mm512_set1_epi8(15));
    match slot {
        16 => _mm512_broadcast_i32x4(_mm512_castsi512_si128(bytes)),
        32 => _mm512_broadcast_i64x4(_mm512_castsi512_si256(bytes)),
        _ => bytes,
    }
}
