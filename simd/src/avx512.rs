//! Kernels for AVX-512 with BW, VL, DQ and VNNI.
//!
//! Every function here is safe to call from code compiled for the same features; the doors in
//! [`crate::layout`] check the processor and every length before they call.

use std::arch::x86_64::*;

use crate::tile::{Shape, matrix_kernel};

/// 64 bytes of a slice of numbers as a vector.
macro_rules! load_array {
    ($name:ident, $array:ty) => {
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn $name(values: &$array) -> __m512i {
            const { assert!(size_of::<$array>() == 64) };
            // SAFETY: the array has the 64 bytes that are read, all initialised; the load needs
            // no alignment.
            unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
        }
    };
}
load_array!(load_i8, [i8; 64]);
load_array!(load_i16, [i16; 32]);
load_array!(load_i32, [i32; 16]);

#[inline]
#[target_feature(enable = "avx512f")]
fn store_i32(values: &mut [i32; 16], sums: __m512i) {
    // SAFETY: the array has the 64 bytes that are written; the store needs no alignment.
    unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), sums) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_to(sums: __m512i, values: &[i32; 16]) -> __m512i {
    _mm512_add_epi32(sums, load_i32(values))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn zero() -> __m512i {
    _mm512_setzero_si512()
}

#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast_i16(pair: [i16; 2]) -> __m512i {
    _mm512_set1_epi32((u32::from(pair[0] as u16) | u32::from(pair[1] as u16) << 16) as i32)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast_u8(quad: [u8; 4]) -> __m512i {
    _mm512_set1_epi32(i32::from_le_bytes(quad))
}

#[inline]
#[target_feature(enable = "avx512vnni")]
fn dot_i16(sums: __m512i, row: __m512i, columns: __m512i) -> __m512i {
    _mm512_dpwssd_epi32(sums, row, columns)
}

#[inline]
#[target_feature(enable = "avx512vnni")]
fn dot_i8(sums: __m512i, row: __m512i, columns: __m512i) -> __m512i {
    _mm512_dpbusd_epi32(sums, row, columns)
}

/// 24 sums, 3 panels and a broadcast fill the 32 registers but for a few; a multiplication each
/// cycle needs 11 loads in 24 cycles.
const SHAPE: Shape = Shape { rows: 8, panels: 3, steps: 128 };

matrix_kernel!(
    gemm_i16, tile_i16,
    features = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni",
    left = [i16; 2], right = [i16; 32],
    shape = SHAPE, rows = [8 7 6 5 4 3 2], panels = [3 2],
    zero = zero, columns = load_i16, broadcast = broadcast_i16,
    dot = dot_i16, combine = add_to, store = store_i32,
);

matrix_kernel!(
    gemm_i8, tile_i8,
    features = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni",
    left = [u8; 4], right = [i8; 64],
    shape = SHAPE, rows = [8 7 6 5 4 3 2], panels = [3 2],
    zero = zero, columns = load_i8, broadcast = broadcast_u8,
    dot = dot_i8, combine = add_to, store = store_i32,
);
