//! Kernels for AVX-512 with BW, VL, DQ and VNNI (and BMI2, which comes before it).
//!
//! Every function here is safe to call from code compiled for the same features; the doors in
//! [`crate::layout`] check the processor and every length before they call.

use std::arch::x86_64::*;

use half::f16;

mod bounds;
mod fields;

pub(crate) use bounds::bound_blocks;
pub(crate) use fields::dot_fields;

use crate::dispatch::has_vbmi;
use crate::layout::BLOCK;
use crate::parts::{part_kernels, scan_kernel};
use crate::scalar;
use crate::tile::{Shape, matrix_kernel};
use crate::transpose::Word;

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
load_array!(load_u8, [u8; 64]);
load_array!(load_i8, [i8; 64]);
load_array!(load_i16, [i16; 32]);
load_array!(load_i32, [i32; 16]);

#[inline]
#[target_feature(enable = "avx512f")]
fn load_f32(values: &[f32; 16]) -> __m512 {
    // SAFETY: the array has the 64 bytes that are read; the load needs no alignment.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_f32(values: &mut [f32; 16], sums: __m512) {
    // SAFETY: the array has the 64 bytes that are written; the store needs no alignment.
    unsafe { _mm512_storeu_ps(values.as_mut_ptr(), sums) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_i32(values: &mut [i32; 16], sums: __m512i) {
    // SAFETY: the array has the 64 bytes that are written; the store needs no alignment.
    unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), sums) }
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

/// At most 64 bytes, then zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
fn load_partial(values: &[u8]) -> __m512i {
    let mask = lowest_bits(values.len());
    // SAFETY: the mask has no bit beyond the length of the slice, and a masked load touches only
    // the bytes whose bit is set.
    unsafe { _mm512_maskz_loadu_epi8(mask, values.as_ptr().cast()) }
}

/// As many set bits as `count` says, 64 at most.
#[inline]
#[target_feature(enable = "avx512f,bmi2")]
fn lowest_bits(count: usize) -> u64 {
    _bzhi_u64(!0, count.min(64) as u32)
}

/// 24 sums, 3 panels and a broadcast fill the 32 registers but for a few; a multiplication each
/// cycle needs 11 loads in 24 cycles.
const SHAPE: Shape = Shape { rows: 8, panels: 3, steps: 128 };

matrix_kernel!(
    gemm_i16, tile_i16,
    features = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,bmi2",
    left = [i16; 2], right = [i16; 32],
    shape = SHAPE, rows = [8 7 6 5 4 3 2], panels = [3 2],
    zero = zero, columns = load_i16, broadcast = broadcast_i16,
    dot = dot_i16, sum = i32, load = load_i32, store = store_i32,
);

matrix_kernel!(
    gemm_i8, tile_i8,
    features = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,bmi2",
    left = [u8; 4], right = [i8; 64],
    shape = SHAPE, rows = [8 7 6 5 4 3 2], panels = [3 2],
    zero = zero, columns = load_i8, broadcast = broadcast_u8,
    dot = dot_i8, sum = i32, load = load_i32, store = store_i32,
);

#[inline]
#[target_feature(enable = "avx512f")]
fn zero_f32() -> __m512 {
    _mm512_setzero_ps()
}

#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast_f32([value]: [f32; 1]) -> __m512 {
    _mm512_set1_ps(value)
}

/// Two roundings, as in the scalar twin, where a fused operation would have one.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_products(sums: __m512, row: __m512, columns: __m512) -> __m512 {
    _mm512_add_ps(sums, _mm512_mul_ps(row, columns))
}

matrix_kernel!(
    matmul_f32, tile_f32,
    features = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,bmi2",
    left = [f32; 1], right = [f32; 16],
    shape = SHAPE, rows = [8 7 6 5 4 3 2], panels = [3 2],
    zero = zero_f32, columns = load_f32, broadcast = broadcast_f32,
    dot = add_products, sum = f32, load = load_f32, store = store_f32,
);

/// 16 numbers of half precision, exactly.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_f16(values: &[f16; 16]) -> __m512 {
    // SAFETY: the array has the 32 bytes that are read; the load needs no alignment.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(values.as_ptr().cast()) })
}

/// At most 16 numbers, then zeros.
#[inline]
#[target_feature(enable = "avx512f,bmi2")]
fn load_some_f32(values: &[f32]) -> __m512 {
    let mask = lowest_bits(values.len().min(16)) as u16;
    // SAFETY: the mask has no bit beyond the length of the slice, and a masked load touches only
    // the numbers whose bit is set.
    unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr()) }
}

/// As [`load_some_f32`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi2")]
fn load_some_f16(values: &[f16]) -> __m512 {
    let mask = lowest_bits(values.len().min(16)) as u16;
    // SAFETY: as in `load_some_f32`.
    _mm512_cvtph_ps(unsafe { _mm256_maskz_loadu_epi16(mask, values.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn product(x: __m512, y: __m512) -> __m512 {
    _mm512_mul_ps(x, y)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn squared_difference(x: __m512, y: __m512) -> __m512 {
    let difference = _mm512_sub_ps(x, y);
    _mm512_mul_ps(difference, difference)
}

/// The sum of 16 lanes as the tree of [`crate::scalar`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn sum_f32(lanes: __m512) -> f32 {
    let lanes = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps::<1>(lanes));
    let lanes = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let lanes = _mm_add_ps(lanes, _mm_movehl_ps(lanes, lanes));
    _mm_cvtss_f32(_mm_add_ss(lanes, _mm_movehdup_ps(lanes)))
}

/// Writes a kernel that sums `term(x, y)` over two slices in the order of the scalar twin. Lanes
/// beyond the end add +0.0, which changes no sum (none is -0.0, as all start at +0.0).
macro_rules! distance {
    ($name:ident, $y:ty, $load:ident, $load_some:ident, $term:ident) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,bmi2")]
        pub(crate) fn $name(x: &[f32], y: &[$y]) -> f32 {
            let (xs, x_rest) = x.as_chunks::<32>();
            let (ys, y_rest) = y.as_chunks::<32>();
            let mut sums = [_mm512_setzero_ps(); 2];
            for (x, y) in xs.iter().zip(ys) {
                let (x, y) = (x.as_chunks::<16>().0, y.as_chunks::<16>().0);
                for half in 0..2 {
                    let term = $term(load_f32(&x[half]), $load(&y[half]));
                    sums[half] = _mm512_add_ps(sums[half], term);
                }
            }
            let rests = x_rest.chunks(16).zip(y_rest.chunks(16));
            for ((x, y), sum) in rests.zip(&mut sums) {
                *sum = _mm512_add_ps(*sum, $term(load_some_f32(x), $load_some(y)));
            }
            sum_f32(_mm512_add_ps(sums[0], sums[1]))
        }
    };
}
distance!(dot_f32, f32, load_f32, load_some_f32, product);
distance!(l2_sq_f32, f32, load_f32, load_some_f32, squared_difference);
distance!(dot_f16, f16, load_f16, load_some_f16, product);
distance!(l2_sq_f16, f16, load_f16, load_some_f16, squared_difference);

/// See [`crate::at_most`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,bmi2")]
pub(crate) fn at_most(values: &[[f32; BLOCK]], threshold: f32, masks: &mut [u32]) {
    let threshold = _mm512_set1_ps(threshold);
    for (values, mask) in values.iter().zip(masks) {
        *mask = 0;
        for (half, values) in values.as_chunks::<16>().0.iter().enumerate() {
            let bits = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(load_f32(values), threshold);
            *mask |= u32::from(bits) << (16 * half);
        }
    }
}

/// See [`crate::scan_blocks`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,bmi2")]
pub(crate) fn scan_blocks(
    codes: &[u8],
    stride: usize,
    pieces: &[usize],
    lut: &[u8],
    sums: &mut [u16],
) {
    if has_vbmi() {
        // SAFETY: the processor has VBMI, which was just checked, and the features of this
        // function.
        unsafe { scan_blocks_vbmi(codes, stride, pieces, lut, sums) }
    } else {
        scan_blocks_shuffle(codes, stride, pieces, lut, sums);
    }
}

scan_kernel!(
    scan_blocks_shuffle,
    scan_piece_shuffle,
    "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,bmi2"
);
scan_kernel!(
    scan_blocks_vbmi,
    scan_piece_vbmi,
    "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,bmi2"
);

/// See [`crate::sum_bytes`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,bmi2")]
pub(crate) fn sum_bytes(codes: &[u8], stride: usize, lut: &[[u8; 256]], sums: &mut [u16]) {
    if has_vbmi() {
        // SAFETY: the processor has VBMI, which was just checked, and the features of this
        // function.
        unsafe { sum_bytes_vbmi(codes, stride, lut, sums) }
    } else {
        scalar::sum_bytes(codes, stride, lut, sums);
    }
}

/// Blocks whose sums are kept in registers while a table is looked up.
const BLOCKS_AT_ONCE: usize = 8;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,bmi2")]
fn sum_bytes_vbmi(codes: &[u8], stride: usize, lut: &[[u8; 256]], sums: &mut [u16]) {
    for (piece, sums) in sums.chunks_mut(BLOCKS_AT_ONCE * BLOCK).enumerate() {
        let codes = &codes[piece * BLOCKS_AT_ONCE * stride..];
        let sums = sums.as_chunks_mut::<BLOCK>().0;
        match sums.len() {
            1 | 2 => sum_pairs::<1>(codes, stride, lut, sums),
            3 | 4 => sum_pairs::<2>(codes, stride, lut, sums),
            5 | 6 => sum_pairs::<3>(codes, stride, lut, sums),
            _ => sum_pairs::<4>(codes, stride, lut, sums),
        }
    }
}

/// Up to `PAIRS` pairs of blocks: `vpermi2b` looks up 128 entries for 64 bytes, and the highest bit of
/// a byte tells which half of its table is meant.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,bmi2")]
fn sum_pairs<const PAIRS: usize>(
    codes: &[u8],
    stride: usize,
    lut: &[[u8; 256]],
    sums: &mut [[u16; BLOCK]],
) {
    // Of a pair that is none, the second block is the first one again, and not written.
    let last = sums.len() - 1;
    // Sums of two neighbouring vectors as one 16-bit number, and of the upper of them, as in `look_up`.
    let (mut pairs, mut odds) = ([zero(); PAIRS], [zero(); PAIRS]);
    for (column, table) in lut.iter().enumerate() {
        let [a, b, c, d] = table.as_chunks::<64>().0 else { unreachable!() };
        let [a, b, c, d] = [load_u8(a), load_u8(b), load_u8(c), load_u8(d)];
        for pair in 0..PAIRS {
            let block = |number: usize| {
                let at = number.min(last) * stride + column * BLOCK;
                load_block(codes[at..].first_chunk())
            };
            let first = _mm512_castsi256_si512(block(2 * pair));
            let index = _mm512_inserti64x4::<1>(first, block(2 * pair + 1));
            let entries = _mm512_mask_blend_epi8(
                _mm512_movepi8_mask(index),
                _mm512_permutex2var_epi8(a, index, b),
                _mm512_permutex2var_epi8(c, index, d),
            );
            pairs[pair] = _mm512_add_epi16(pairs[pair], entries);
            odds[pair] = _mm512_add_epi16(odds[pair], _mm512_srli_epi16::<8>(entries));
        }
    }
    for (pair, sums) in sums.chunks_mut(2).enumerate() {
        let even = _mm512_sub_epi16(pairs[pair], _mm512_slli_epi16::<8>(odds[pair]));
        // Each lane of 128 bits has 16 vectors of a block: 8 even ones and 8 odd ones.
        let low = _mm512_unpacklo_epi16(even, odds[pair]);
        let high = _mm512_unpackhi_epi16(even, odds[pair]);
        let orders = [
            _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0),
            _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4),
        ];
        for (sums, order) in sums.iter_mut().zip(orders) {
            store_u16(sums, _mm512_permutex2var_epi64(low, order, high));
        }
    }
}

/// The 32 bytes of a block; zeros if there are none.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,bmi2")]
fn load_block(bytes: Option<&[u8; BLOCK]>) -> __m256i {
    match bytes {
        // SAFETY: the array has the 32 bytes that are read; the load needs no alignment.
        Some(bytes) => unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) },
        None => _mm256_setzero_si256(),
    }
}

/// Four groups at a time, each in its 128-bit lane: `vpshufb` looks up 16 entries in each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,bmi2")]
fn scan_piece_shuffle(codes: &[u8], lut: &[u8], sums: &mut [u16; BLOCK]) {
    let (lut, lut_rest) = lut.as_chunks::<64>();
    let (codes, codes_rest) = codes.as_chunks::<64>();
    let mut pairs = [_mm512_setzero_si512(); 2];
    let mut odds = [_mm512_setzero_si512(); 2];
    for (codes, table) in codes.iter().zip(lut) {
        look_up(load_u8(codes), load_u8(table), &mut pairs, &mut odds);
    }
    if !codes_rest.is_empty() {
        look_up(load_partial(codes_rest), load_partial(lut_rest), &mut pairs, &mut odds);
    }
    // 16-bit sums of vectors 0..8, 8..16, 16..24 and 24..32 in each lane.
    let mut parts = [_mm512_setzero_si512(); 4];
    for half in 0..2 {
        let even = _mm512_sub_epi16(pairs[half], _mm512_slli_epi16::<8>(odds[half]));
        parts[2 * half] = _mm512_unpacklo_epi16(even, odds[half]);
        parts[2 * half + 1] = _mm512_unpackhi_epi16(even, odds[half]);
    }
    let first = add_lane_pairs(parts[0], parts[1]);
    let second = add_lane_pairs(parts[2], parts[3]);
    let all = _mm512_add_epi16(
        _mm512_shuffle_i64x2::<0x88>(first, second),
        _mm512_shuffle_i64x2::<0xdd>(first, second),
    );
    store_u16(sums, all);
}

/// Adds the entries that four groups select. `pairs` takes the entries of two neighbouring vectors
/// as one 16-bit number, modulo 2^16, and `odds` the upper of them, so that the lower sum is
/// `pairs - 256 * odds`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,bmi2")]
fn look_up(codes: __m512i, table: __m512i, pairs: &mut [__m512i; 2], odds: &mut [__m512i; 2]) {
    let nibble = _mm512_set1_epi8(15);
    let low = _mm512_and_si512(codes, nibble);
    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), nibble);
    for (half, index) in [low, high].into_iter().enumerate() {
        let entries = _mm512_shuffle_epi8(table, index);
        pairs[half] = _mm512_add_epi16(pairs[half], entries);
        odds[half] = _mm512_add_epi16(odds[half], _mm512_srli_epi16::<8>(entries));
    }
}

/// `[x0 + x2, x1 + x3, y0 + y2, y1 + y3]`, where `x0` is the first 128-bit lane of `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add_lane_pairs(x: __m512i, y: __m512i) -> __m512i {
    _mm512_add_epi16(_mm512_shuffle_i64x2::<0x44>(x, y), _mm512_shuffle_i64x2::<0xee>(x, y))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_u16(values: &mut [u16; 32], sums: __m512i) {
    // SAFETY: the array has the 64 bytes that are written; the store needs no alignment.
    unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), sums) }
}

/// Four groups at a time as one table of 64 entries, which `vpermb` looks up. The codes are put
/// into the order vector, group, so that `vpdpbusd` adds the entries of four groups and widens
/// them in one step: 8 operations for 64 bytes of codes, where the shuffle takes 11.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,bmi2")]
fn scan_piece_vbmi(codes: &[u8], lut: &[u8], sums: &mut [u16; BLOCK]) {
    let (lut, lut_rest) = lut.as_chunks::<64>();
    let (codes, codes_rest) = codes.as_chunks::<64>();
    let mut totals = [_mm512_setzero_si512(); 2];
    for (codes, table) in codes.iter().zip(lut) {
        look_up_vbmi(load_u8(codes), load_u8(table), &mut totals);
    }
    if !codes_rest.is_empty() {
        look_up_vbmi(load_partial(codes_rest), load_partial(lut_rest), &mut totals);
    }
    let all = _mm512_inserti64x4::<1>(
        _mm512_castsi256_si512(_mm512_cvtepi32_epi16(totals[0])),
        _mm512_cvtepi32_epi16(totals[1]),
    );
    store_u16(sums, all);
}

/// Byte `4 * v + g` of the codes' new order is byte `16 * g + v` of the old one.
const BY_VECTOR: [u8; 64] = {
    let mut order = [0; 64];
    let mut i = 0;
    while i < 64 {
        order[i] = (16 * (i % 4) + i / 4) as u8;
        i += 1;
    }
    order
};

/// Adds the entries that four groups select to the sums of vectors 0..16 and 16..32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,bmi2")]
fn look_up_vbmi(codes: __m512i, table: __m512i, totals: &mut [__m512i; 2]) {
    let nibble = _mm512_set1_epi8(15);
    // Bits 4 and 5 of an index name the group: the table's entries 16 * g to 16 * g + 15.
    let group = _mm512_set1_epi32(0x3020_1000);
    let codes = _mm512_permutexvar_epi8(load_u8(&BY_VECTOR), codes);
    for (total, codes) in totals.iter_mut().zip([codes, _mm512_srli_epi16::<4>(codes)]) {
        // (codes & nibble) | group.
        let index = _mm512_ternarylogic_epi32::<0xea>(codes, nibble, group);
        let entries = _mm512_permutexvar_epi8(index, table);
        *total = _mm512_dpbusd_epi32(*total, entries, _mm512_set1_epi8(1));
    }
}

part_kernels!("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,bmi2");

/// Transposes 16 rows of `out.len()` words, 16 words at a time. Returns how many words are done;
/// fewer than 16 are left.
#[target_feature(enable = "avx512f")]
pub(crate) fn transpose_16<W: Word>(rows: &[W], out: &mut [[W; 16]]) -> usize {
    let width = out.len();
    let blocks = width / 16;
    for block in 0..blocks {
        let row = |r: usize| -> __m512i {
            let words: &[W] = &rows[r * width + block * 16..][..16];
            // SAFETY: a word has four initialised bytes (`Sealed`), so the 16 of the slice are
            // the 64 bytes that are read; the load needs no alignment.
            unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
        };
        // Pairs of rows, then pairs of pairs: afterwards each 128-bit lane holds a 4 x 4 block.
        let mut quads = [zero(); 16];
        for q in 0..4 {
            let [a, b, c, d] = [row(4 * q), row(4 * q + 1), row(4 * q + 2), row(4 * q + 3)];
            let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            quads[q] = _mm512_unpacklo_epi64(ab_low, cd_low);
            quads[4 + q] = _mm512_unpackhi_epi64(ab_low, cd_low);
            quads[8 + q] = _mm512_unpacklo_epi64(ab_high, cd_high);
            quads[12 + q] = _mm512_unpackhi_epi64(ab_high, cd_high);
        }
        // Word 4 * lane + i of rows 4q.. lies in lane `lane` of quads[4 * i + q].
        for i in 0..4 {
            let [a, b, c, d] = [quads[4 * i], quads[4 * i + 1], quads[4 * i + 2], quads[4 * i + 3]];
            let (ab_even, ab_odd) =
                (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
            let (cd_even, cd_odd) =
                (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
            let lanes = [
                _mm512_shuffle_i32x4::<0x88>(ab_even, cd_even),
                _mm512_shuffle_i32x4::<0x88>(ab_odd, cd_odd),
                _mm512_shuffle_i32x4::<0xdd>(ab_even, cd_even),
                _mm512_shuffle_i32x4::<0xdd>(ab_odd, cd_odd),
            ];
            for (lane, vector) in lanes.into_iter().enumerate() {
                let out: &mut [W; 16] = &mut out[block * 16 + 4 * lane + i];
                // SAFETY: any four bytes are a word (`Sealed`), and the array has the 64 bytes
                // that are written; the store needs no alignment.
                unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), vector) }
            }
        }
    }
    blocks * 16
}
