//! Bounds of blocks, 8 vectors at a time.

use std::arch::x86_64::*;

use super::{broadcast_f32, load_f32 as floats, product as mul, scan_piece};
use crate::bounds::{Additive, BoundLayout, BoundQuery, ListConstants, ScaleBits};
use crate::layout::BLOCK;
use crate::parts::{Sums, bound_kernel};

bound_kernel!(bound_blocks, scan_piece, 8, "avx2,fma,f16c,bmi1,bmi2,popcnt");

#[inline]
#[target_feature(enable = "avx2")]
fn put(values: &mut [f32; 8], lanes: __m256) {
    // SAFETY: the array has the 32 bytes that are written; the store needs no alignment.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), lanes) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(x: __m256, y: __m256) -> __m256 {
    _mm256_add_ps(x, y)
}

#[inline]
#[target_feature(enable = "avx2")]
fn sub(x: __m256, y: __m256) -> __m256 {
    _mm256_sub_ps(x, y)
}

#[inline]
#[target_feature(enable = "avx2")]
fn bytes(values: &[u8; 8]) -> __m256i {
    // SAFETY: the array has the 8 bytes that are read; the load needs no alignment.
    _mm256_cvtepu8_epi32(unsafe { _mm_loadl_epi64(values.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn pairs(values: &[[u8; 2]; 8]) -> __m256i {
    // SAFETY: the array has the 16 bytes that are read; the load needs no alignment.
    _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(values.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn sums(values: &[u16; 8]) -> __m256i {
    // SAFETY: the array has the 16 bytes that are read; the load needs no alignment.
    _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(values.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn to_f32(values: __m256i) -> __m256 {
    _mm256_cvtepi32_ps(values)
}

#[inline]
#[target_feature(enable = "avx2")]
fn some_exceed(codes: __m256i, last: u16) -> bool {
    let exceed = _mm256_cmpgt_epi32(codes, _mm256_set1_epi32(i32::from(last)));
    _mm256_testz_si256(exceed, exceed) == 0
}

/// See [`ScaleBits`].
#[inline]
#[target_feature(enable = "avx2")]
fn scale_of(codes: __m256i, format: ScaleBits) -> __m256 {
    let none = _mm256_cmpeq_epi32(codes, _mm256_setzero_si256());
    let shifted = _mm256_sll_epi32(codes, _mm_cvtsi32_si128(format.shift as i32));
    let scales = _mm256_add_epi32(shifted, _mm256_set1_epi32(format.base as i32));
    _mm256_castsi256_ps(_mm256_andnot_si256(none, scales))
}

/// See [`BoundLayout::shift`].
#[inline]
#[target_feature(enable = "avx2")]
fn shift_of(codes: __m256i, step: __m256) -> __m256 {
    let none = _mm256_cmpeq_epi32(codes, _mm256_setzero_si256());
    let shifts = mul(sub(to_f32(codes), broadcast_f32([128.0])), step);
    _mm256_blendv_ps(shifts, broadcast_f32([f32::NEG_INFINITY]), _mm256_castsi256_ps(none))
}

/// The first of two where the number of the lane, `8 * part` and on, is below `first`, else the second.
#[inline]
#[target_feature(enable = "avx2")]
fn either(first: usize, part: usize, [these, others]: [__m256; 2]) -> __m256 {
    let left = _mm256_set1_epi32(first as i32 - 8 * part as i32);
    let these_lanes = _mm256_cmpgt_epi32(left, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    _mm256_blendv_ps(others, these, _mm256_castsi256_ps(these_lanes))
}

/// A bit for each lane that does not exceed the threshold.
#[inline]
#[target_feature(enable = "avx2")]
fn mask(values: __m256, threshold: __m256) -> u32 {
    _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(values, threshold)) as u32
}
