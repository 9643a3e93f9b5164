//! Kernels for AVX2.
//!
//! Every function here is safe to call from code compiled for the same features; the doors in
//! [`crate::layout`] check the processor and every length before they call.

use std::arch::x86_64::*;

use half::f16;

mod bounds;
mod fields;

pub(crate) use bounds::bound_blocks;
pub(crate) use fields::dot_fields;

use crate::layout::BLOCK;
use crate::parts::{part_kernels, scan_kernel};
use crate::scalar;
use crate::tile::{Shape, matrix_kernel};

/// The 16 sums of a panel.
type Sums = [__m256i; 2];

/// 32 bytes of numbers as a vector.
macro_rules! load_array {
    ($name:ident, $array:ty) => {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn $name(values: &$array) -> __m256i {
            const { assert!(size_of::<$array>() == 32) };
            // SAFETY: the array has the 32 bytes that are read, all initialised; the load needs
            // no alignment.
            unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
        }
    };
}
load_array!(load_u8, [u8; 32]);
load_array!(load_i8, [i8; 32]);
load_array!(load_i16, [i16; 16]);
load_array!(load_i32, [i32; 8]);

#[inline]
#[target_feature(enable = "avx2")]
fn store_i32(values: &mut [i32; 8], sums: __m256i) {
    // SAFETY: the array has the 32 bytes that are written; the store needs no alignment.
    unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), sums) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn zero() -> Sums {
    [_mm256_setzero_si256(); 2]
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(values: &[i32; 16]) -> Sums {
    let [low, high] = halves(values);
    [load_i32(low), load_i32(high)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(values: &mut [i32; 16], sums: Sums) {
    let (low, high) = values.split_at_mut(8);
    if let (Ok(low), Ok(high)) = (low.try_into(), high.try_into()) {
        store_i32(low, sums[0]);
        store_i32(high, sums[1]);
    }
}

/// The two halves of an array.
#[inline(always)]
fn halves<T, const N: usize, const HALF: usize>(values: &[T; N]) -> [&[T; HALF]; 2] {
    const { assert!(N == 2 * HALF) };
    let chunks = values.as_chunks::<HALF>().0;
    [&chunks[0], &chunks[1]]
}

#[inline]
#[target_feature(enable = "avx2")]
fn columns_i16(values: &[i16; 32]) -> [__m256i; 2] {
    let [low, high] = halves(values);
    [load_i16(low), load_i16(high)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn broadcast_i16(pair: [i16; 2]) -> __m256i {
    _mm256_set1_epi32((u32::from(pair[0] as u16) | u32::from(pair[1] as u16) << 16) as i32)
}

/// `vpmaddwd` wraps in the one case where two products overflow (all four operands -32768), as
/// the scalar twin does.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_i16(sums: Sums, row: __m256i, columns: [__m256i; 2]) -> Sums {
    [
        _mm256_add_epi32(sums[0], _mm256_madd_epi16(row, columns[0])),
        _mm256_add_epi32(sums[1], _mm256_madd_epi16(row, columns[1])),
    ]
}

matrix_kernel!(
    gemm_i16, tile_i16,
    features = "avx2,fma,f16c,bmi1,bmi2,popcnt",
    left = [i16; 2], right = [i16; 32],
    shape = Shape { rows: 6, panels: 1, steps: 256 }, rows = [6 5 4 3 2], panels = [],
    zero = zero, columns = columns_i16, broadcast = broadcast_i16,
    dot = dot_i16, sum = i32, load = load, store = store,
);

/// The four columns of a step, each of 8 rows in 32 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn quads_i8(values: &[i8; 64]) -> [__m256i; 2] {
    let [low, high] = halves(values);
    [load_i8(low), load_i8(high)]
}

/// The same widened to 16 bits: the first and third, and the second and fourth. `vpmaddubsw` would
/// save the widening, but saturates unless the left operand has no more than 7 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn columns_i8(values: &[i8; 64]) -> [[__m256i; 2]; 2] {
    quads_i8(values).map(|quads| {
        [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(quads)), _mm256_srai_epi16::<8>(quads)]
    })
}

#[inline]
#[target_feature(enable = "avx2")]
fn broadcast_u8(quad: [u8; 4]) -> [__m256i; 2] {
    let quad = _mm256_set1_epi32(i32::from_le_bytes(quad));
    [_mm256_and_si256(quad, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(quad)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn dot_i8(sums: Sums, row: [__m256i; 2], columns: [[__m256i; 2]; 2]) -> Sums {
    let mut out = sums;
    for half in 0..2 {
        for odd in 0..2 {
            let products = _mm256_madd_epi16(row[odd], columns[half][odd]);
            out[half] = _mm256_add_epi32(out[half], products);
        }
    }
    out
}

matrix_kernel!(
    gemm_u8, tile_u8,
    features = "avx2,fma,f16c,bmi1,bmi2,popcnt",
    left = [u8; 4], right = [i8; 64],
    shape = Shape { rows: 4, panels: 1, steps: 256 }, rows = [4 3 2], panels = [],
    zero = zero, columns = columns_i8, broadcast = broadcast_u8,
    dot = dot_i8, sum = i32, load = load, store = store,
);

#[inline]
#[target_feature(enable = "avx2")]
fn broadcast_quad(quad: [u8; 4]) -> __m256i {
    _mm256_set1_epi32(i32::from_le_bytes(quad))
}

/// Two products of bytes up to 127 with `i8` add up to no more than 16 bits hold, so `vpmaddubsw` does not
/// saturate.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_u7(sums: Sums, row: __m256i, columns: [__m256i; 2]) -> Sums {
    let ones = _mm256_set1_epi16(1);
    let products = |columns| _mm256_madd_epi16(_mm256_maddubs_epi16(row, columns), ones);
    [
        _mm256_add_epi32(sums[0], products(columns[0])),
        _mm256_add_epi32(sums[1], products(columns[1])),
    ]
}

matrix_kernel!(
    gemm_u7, tile_u7,
    features = "avx2,fma,f16c,bmi1,bmi2,popcnt",
    left = [u8; 4], right = [i8; 64],
    shape = Shape { rows: 4, panels: 1, steps: 256 }, rows = [4 3 2], panels = [],
    zero = zero, columns = quads_i8, broadcast = broadcast_quad,
    dot = dot_u7, sum = i32, load = load, store = store,
);

/// By what the left operand holds.
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,popcnt")]
pub(crate) fn gemm_i8(a: &[u8], depth: usize, b: &[i8], c: &mut [i32]) {
    if a.iter().fold(0, |all, x| all | x) < 128 {
        gemm_u7(a, depth, b, c);
    } else {
        gemm_u8(a, depth, b, c);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_f32(values: &[f32; 8]) -> __m256 {
    // SAFETY: the array has the 32 bytes that are read; the load needs no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn zero_f32() -> [__m256; 2] {
    [_mm256_setzero_ps(); 2]
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_panel_f32(values: &[f32; 16]) -> [__m256; 2] {
    let [low, high] = halves(values);
    [load_f32(low), load_f32(high)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_f32(values: &mut [f32; 16], sums: [__m256; 2]) {
    for (values, sums) in values.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
        // SAFETY: the array has the 32 bytes that are written; the store needs no alignment.
        unsafe { _mm256_storeu_ps(values.as_mut_ptr(), sums) }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn broadcast_f32([value]: [f32; 1]) -> __m256 {
    _mm256_set1_ps(value)
}

/// Two roundings, as in the scalar twin, where a fused operation would have one.
#[inline]
#[target_feature(enable = "avx2")]
fn add_products(sums: [__m256; 2], row: __m256, columns: [__m256; 2]) -> [__m256; 2] {
    [
        _mm256_add_ps(sums[0], _mm256_mul_ps(row, columns[0])),
        _mm256_add_ps(sums[1], _mm256_mul_ps(row, columns[1])),
    ]
}

matrix_kernel!(
    matmul_f32, tile_f32,
    features = "avx2,fma,f16c,bmi1,bmi2,popcnt",
    left = [f32; 1], right = [f32; 16],
    shape = Shape { rows: 6, panels: 1, steps: 256 }, rows = [6 5 4 3 2], panels = [],
    zero = zero_f32, columns = load_panel_f32, broadcast = broadcast_f32,
    dot = add_products, sum = f32, load = load_panel_f32, store = store_f32,
);

/// 8 numbers of half precision, exactly.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn load_f16(values: &[f16; 8]) -> __m256 {
    // SAFETY: the array has the 16 bytes that are read; the load needs no alignment.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(values.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn product(x: __m256, y: __m256) -> __m256 {
    _mm256_mul_ps(x, y)
}

#[inline]
#[target_feature(enable = "avx2")]
fn squared_difference(x: __m256, y: __m256) -> __m256 {
    let difference = _mm256_sub_ps(x, y);
    _mm256_mul_ps(difference, difference)
}

/// The first eight values, or all and then zeros.
#[inline(always)]
fn padded<T: Copy>(values: &[T], zero: T) -> [T; 8] {
    std::array::from_fn(|i| values.get(i).copied().unwrap_or(zero))
}

/// Writes a kernel that sums `term(x, y)` over two slices in the order of the scalar twin: lane
/// `j` of 32 takes elements `j`, `j + 32`, ... The last eight are padded with zeros, which add
/// +0.0 and so change no sum (none is -0.0, as all start at +0.0).
macro_rules! distance {
    ($name:ident, $y:ty, $zero:expr, $load:ident, $term:ident) => {
        #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,popcnt")]
        pub(crate) fn $name(x: &[f32], y: &[$y]) -> f32 {
            let (xs, x_rest) = x.as_chunks::<32>();
            let (ys, y_rest) = y.as_chunks::<32>();
            let mut sums = [_mm256_setzero_ps(); 4];
            for (x, y) in xs.iter().zip(ys) {
                let (x, y) = (x.as_chunks::<8>().0, y.as_chunks::<8>().0);
                for quarter in 0..4 {
                    let term = $term(load_f32(&x[quarter]), $load(&y[quarter]));
                    sums[quarter] = _mm256_add_ps(sums[quarter], term);
                }
            }
            for ((x, y), sum) in x_rest.chunks(8).zip(y_rest.chunks(8)).zip(&mut sums) {
                let term = match (x.first_chunk(), y.first_chunk()) {
                    (Some(x), Some(y)) => $term(load_f32(x), $load(y)),
                    _ => $term(load_f32(&padded(x, 0.0)), $load(&padded(y, $zero))),
                };
                *sum = _mm256_add_ps(*sum, term);
            }
            // As the tree of the scalar twin: 32 lanes, 16, 8, 4, 2, 1.
            let low = _mm256_add_ps(sums[0], sums[2]);
            let high = _mm256_add_ps(sums[1], sums[3]);
            let lanes = _mm256_add_ps(low, high);
            let lanes =
                _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
            let lanes = _mm_add_ps(lanes, _mm_movehl_ps(lanes, lanes));
            _mm_cvtss_f32(_mm_add_ss(lanes, _mm_movehdup_ps(lanes)))
        }
    };
}
distance!(dot_f32, f32, 0.0, load_f32, product);
distance!(l2_sq_f32, f32, 0.0, load_f32, squared_difference);
distance!(dot_f16, f16, f16::ZERO, load_f16, product);
distance!(l2_sq_f16, f16, f16::ZERO, load_f16, squared_difference);

/// See [`crate::at_most`].
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,popcnt")]
pub(crate) fn at_most(values: &[[f32; BLOCK]], threshold: f32, masks: &mut [u32]) {
    let threshold = _mm256_set1_ps(threshold);
    for (values, mask) in values.iter().zip(masks) {
        *mask = 0;
        for (quarter, values) in values.as_chunks::<8>().0.iter().enumerate() {
            let set = _mm256_cmp_ps::<_CMP_LE_OQ>(load_f32(values), threshold);
            *mask |= (_mm256_movemask_ps(set) as u32) << (8 * quarter);
        }
    }
}

/// 16 bytes, then zeros.
#[inline]
#[target_feature(enable = "avx2")]
fn load_half(values: &[u8; 16]) -> __m256i {
    // SAFETY: the array has the 16 bytes that are read; the load needs no alignment.
    _mm256_zextsi128_si256(unsafe { _mm_loadu_si128(values.as_ptr().cast()) })
}

scan_kernel!(scan_blocks, scan_piece, "avx2,fma,f16c,bmi1,bmi2,popcnt");

/// See [`crate::sum_bytes`]: there is no faster way to look up 256 entries than one by one.
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,popcnt")]
pub(crate) fn sum_bytes(codes: &[u8], stride: usize, lut: &[[u8; 256]], sums: &mut [u16]) {
    scalar::sum_bytes(codes, stride, lut, sums);
}

/// Two groups at a time, each in its 128-bit lane: `vpshufb` looks up 16 entries in each lane.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,popcnt")]
fn scan_piece(codes: &[u8], lut: &[u8], sums: &mut [u16; BLOCK]) {
    let (lut, lut_rest) = lut.as_chunks::<32>();
    let (codes, codes_rest) = codes.as_chunks::<32>();
    let mut pairs = [_mm256_setzero_si256(); 2];
    let mut odds = [_mm256_setzero_si256(); 2];
    for (codes, table) in codes.iter().zip(lut) {
        look_up(load_u8(codes), load_u8(table), &mut pairs, &mut odds);
    }
    if let (Ok(codes), Ok(table)) = (codes_rest.try_into(), lut_rest.try_into()) {
        look_up(load_half(codes), load_half(table), &mut pairs, &mut odds);
    }
    for (half, sums) in sums.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let even = _mm256_sub_epi16(pairs[half], _mm256_slli_epi16::<8>(odds[half]));
        let first = _mm256_unpacklo_epi16(even, odds[half]);
        let second = _mm256_unpackhi_epi16(even, odds[half]);
        let all = _mm256_add_epi16(
            _mm256_permute2x128_si256::<0x20>(first, second),
            _mm256_permute2x128_si256::<0x31>(first, second),
        );
        store_u16(sums, all);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_u16(values: &mut [u16; 16], sums: __m256i) {
    // SAFETY: the array has the 32 bytes that are written; the store needs no alignment.
    unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), sums) }
}

/// Adds the entries that two groups select. `pairs` takes the entries of two neighbouring vectors
/// as one 16-bit number, modulo 2^16, and `odds` the upper of them, so that the lower sum is
/// `pairs - 256 * odds`.
#[inline]
#[target_feature(enable = "avx2")]
fn look_up(codes: __m256i, table: __m256i, pairs: &mut [__m256i; 2], odds: &mut [__m256i; 2]) {
    let nibble = _mm256_set1_epi8(15);
    let low = _mm256_and_si256(codes, nibble);
    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibble);
    for (half, index) in [low, high].into_iter().enumerate() {
        let entries = _mm256_shuffle_epi8(table, index);
        pairs[half] = _mm256_add_epi16(pairs[half], entries);
        odds[half] = _mm256_add_epi16(odds[half], _mm256_srli_epi16::<8>(entries));
    }
}

part_kernels!("avx2,fma,f16c,bmi1,bmi2,popcnt");
