//! Bounds of blocks, 16 vectors at a time.

use std::arch::x86_64::*;

use super::{
    broadcast_f32, load_f32 as floats, lowest_bits, product as mul, scan_piece_shuffle,
    scan_piece_vbmi, store_f32 as put,
};
use crate::bounds::{Additive, BoundLayout, BoundQuery, ListConstants, ScaleBits};
use crate::dispatch::has_vbmi;
use crate::layout::BLOCK;
use crate::parts::{Sums, bound_kernel};

/// See [`crate::bound_blocks`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,bmi2")]
pub(crate) fn bound_blocks(
    codes: &[u8],
    layout: &BoundLayout<'_>,
    query: &BoundQuery<'_>,
    bounds: &mut [[f32; BLOCK]],
    passed: &mut [u32],
) {
    if has_vbmi() {
        // SAFETY: the processor has VBMI, which was just checked, and the features of this
        // function.
        unsafe { bound_blocks_vbmi(codes, layout, query, bounds, passed) }
    } else {
        bound_blocks_shuffle(codes, layout, query, bounds, passed);
    }
}

bound_kernel!(
    bound_blocks_shuffle,
    scan_piece_shuffle,
    16,
    "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,bmi2"
);
bound_kernel!(
    bound_blocks_vbmi,
    scan_piece_vbmi,
    16,
    "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,bmi2"
);

#[inline]
#[target_feature(enable = "avx512f")]
fn add(x: __m512, y: __m512) -> __m512 {
    _mm512_add_ps(x, y)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn sub(x: __m512, y: __m512) -> __m512 {
    _mm512_sub_ps(x, y)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn bytes(values: &[u8; 16]) -> __m512i {
    // SAFETY: the array has the 16 bytes that are read; the load needs no alignment.
    _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(values.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn pairs(values: &[[u8; 2]; 16]) -> __m512i {
    // SAFETY: the array has the 32 bytes that are read; the load needs no alignment.
    _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(values.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn sums(values: &[u16; 16]) -> __m512i {
    // SAFETY: the array has the 32 bytes that are read; the load needs no alignment.
    _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(values.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn to_f32(values: __m512i) -> __m512 {
    _mm512_cvtepi32_ps(values)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn some_exceed(codes: __m512i, last: u16) -> bool {
    _mm512_cmpgt_epi32_mask(codes, _mm512_set1_epi32(i32::from(last))) != 0
}

/// See [`ScaleBits`].
#[inline]
#[target_feature(enable = "avx512f")]
fn scale_of(codes: __m512i, format: ScaleBits) -> __m512 {
    let some = _mm512_test_epi32_mask(codes, codes);
    let shifted = _mm512_sll_epi32(codes, _mm_cvtsi32_si128(format.shift as i32));
    let base = _mm512_set1_epi32(format.base as i32);
    _mm512_castsi512_ps(_mm512_maskz_add_epi32(some, shifted, base))
}

/// See [`BoundLayout::shift`].
#[inline]
#[target_feature(enable = "avx512f")]
fn shift_of(codes: __m512i, step: __m512) -> __m512 {
    let none = _mm512_testn_epi32_mask(codes, codes);
    let shifts = mul(sub(to_f32(codes), broadcast_f32([128.0])), step);
    _mm512_mask_mov_ps(shifts, none, broadcast_f32([f32::NEG_INFINITY]))
}

/// The first of two where the number of the lane, `16 * part` and on, is below `first`, else the second.
#[inline]
#[target_feature(enable = "avx512f,bmi2")]
fn either(first: usize, part: usize, [these, others]: [__m512; 2]) -> __m512 {
    let lanes = lowest_bits(first) >> (16 * part);
    _mm512_mask_mov_ps(others, lanes as u16, these)
}

/// A bit for each lane that does not exceed the threshold.
#[inline]
#[target_feature(enable = "avx512f")]
fn mask(values: __m512, threshold: __m512) -> u32 {
    u32::from(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(values, threshold))
}
