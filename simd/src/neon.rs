//! Kernels for NEON, which is part of AArch64: no more is assumed (no dot product, no SVE).
//!
//! The doors in [`crate::layout`] check every length before they call.

use std::arch::aarch64::*;

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
type Sums = [int32x4_t; 4];

#[inline]
#[target_feature(enable = "neon")]
fn load_u8(values: &[u8; 16]) -> uint8x16_t {
    // SAFETY: the array has the 16 bytes that are read.
    unsafe { vld1q_u8(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_i8(values: &[i8; 16]) -> int8x16_t {
    // SAFETY: the array has the 16 bytes that are read.
    unsafe { vld1q_s8(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn zero() -> Sums {
    [vdupq_n_s32(0); 4]
}

#[inline]
#[target_feature(enable = "neon")]
fn load(values: &[i32; 16]) -> Sums {
    let mut sums = zero();
    for (sum, values) in sums.iter_mut().zip(values.as_chunks::<4>().0) {
        // SAFETY: the array has the four numbers that are read.
        *sum = unsafe { vld1q_s32(values.as_ptr()) };
    }
    sums
}

#[inline]
#[target_feature(enable = "neon")]
fn store(values: &mut [i32; 16], sums: Sums) {
    for (values, sum) in values.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
        // SAFETY: the array has room for the four numbers that are written.
        unsafe { vst1q_s32(values.as_mut_ptr(), sum) }
    }
}

/// The first and the second column of a step, for rows 0 to 7 and 8 to 15 of a panel.
#[inline]
#[target_feature(enable = "neon")]
fn columns_i16(values: &[i16; 32]) -> [int16x8x2_t; 2] {
    // SAFETY: 16 numbers are read from the start of the array and 16 from its middle: 32 in all.
    unsafe { [vld2q_s16(values.as_ptr()), vld2q_s16(values.as_ptr().add(16))] }
}

#[inline]
#[target_feature(enable = "neon")]
fn broadcast_i16(pair: [i16; 2]) -> int16x4_t {
    let pair = u32::from(pair[0] as u16) | u32::from(pair[1] as u16) << 16;
    vreinterpret_s16_u32(vdup_n_u32(pair))
}

#[inline]
#[target_feature(enable = "neon")]
fn dot_i16(sums: Sums, row: int16x4_t, columns: [int16x8x2_t; 2]) -> Sums {
    let mut out = sums;
    for (half, int16x8x2_t(first, second)) in columns.into_iter().enumerate() {
        let [low, high] = [out[2 * half], out[2 * half + 1]];
        let low = vmlal_lane_s16::<0>(low, vget_low_s16(first), row);
        let high = vmlal_high_lane_s16::<0>(high, first, row);
        out[2 * half] = vmlal_lane_s16::<1>(low, vget_low_s16(second), row);
        out[2 * half + 1] = vmlal_high_lane_s16::<1>(high, second, row);
    }
    out
}

matrix_kernel!(
    gemm_i16, tile_i16,
    features = "neon",
    left = [i16; 2], right = [i16; 32],
    shape = Shape { rows: 6, panels: 1, steps: 256 }, rows = [6 5 4 3 2], panels = [],
    zero = zero, columns = columns_i16, broadcast = broadcast_i16,
    dot = dot_i16, sum = i32, load = load, store = store,
);

/// The four columns of a step, widened: for each the rows 0 to 7 and 8 to 15 of a panel.
#[inline]
#[target_feature(enable = "neon")]
fn columns_i8(values: &[i8; 64]) -> [[int16x8_t; 2]; 4] {
    // SAFETY: the array has the 64 bytes that are read.
    let int8x16x4_t(a, b, c, d) = unsafe { vld4q_s8(values.as_ptr()) };
    let mut columns = [[vdupq_n_s16(0); 2]; 4];
    for (column, bytes) in columns.iter_mut().zip([a, b, c, d]) {
        *column = [vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes)];
    }
    columns
}

#[inline]
#[target_feature(enable = "neon")]
fn broadcast_u8(quad: [u8; 4]) -> int16x4_t {
    let bytes = vreinterpret_u8_u32(vdup_n_u32(u32::from_le_bytes(quad)));
    vget_low_s16(vreinterpretq_s16_u16(vmovl_u8(bytes)))
}

#[inline]
#[target_feature(enable = "neon")]
fn dot_i8(sums: Sums, row: int16x4_t, columns: [[int16x8_t; 2]; 4]) -> Sums {
    let sums = add_column::<0>(sums, row, columns[0]);
    let sums = add_column::<1>(sums, row, columns[1]);
    let sums = add_column::<2>(sums, row, columns[2]);
    add_column::<3>(sums, row, columns[3])
}

#[inline]
#[target_feature(enable = "neon")]
fn add_column<const LANE: i32>(sums: Sums, row: int16x4_t, column: [int16x8_t; 2]) -> Sums {
    [
        vmlal_lane_s16::<LANE>(sums[0], vget_low_s16(column[0]), row),
        vmlal_high_lane_s16::<LANE>(sums[1], column[0], row),
        vmlal_lane_s16::<LANE>(sums[2], vget_low_s16(column[1]), row),
        vmlal_high_lane_s16::<LANE>(sums[3], column[1], row),
    ]
}

matrix_kernel!(
    gemm_i8, tile_i8,
    features = "neon",
    left = [u8; 4], right = [i8; 64],
    shape = Shape { rows: 4, panels: 1, steps: 256 }, rows = [4 3 2], panels = [],
    zero = zero, columns = columns_i8, broadcast = broadcast_u8,
    dot = dot_i8, sum = i32, load = load, store = store,
);

#[inline]
#[target_feature(enable = "neon")]
fn zero_f32() -> [float32x4_t; 4] {
    [vdupq_n_f32(0.0); 4]
}

#[inline]
#[target_feature(enable = "neon")]
fn load_f32(values: &[f32; 16]) -> [float32x4_t; 4] {
    let mut sums = zero_f32();
    for (sum, values) in sums.iter_mut().zip(values.as_chunks::<4>().0) {
        // SAFETY: the array has the four numbers that are read.
        *sum = unsafe { vld1q_f32(values.as_ptr()) };
    }
    sums
}

#[inline]
#[target_feature(enable = "neon")]
fn store_f32(values: &mut [f32; 16], sums: [float32x4_t; 4]) {
    for (values, sum) in values.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
        // SAFETY: the array has room for the four numbers that are written.
        unsafe { vst1q_f32(values.as_mut_ptr(), sum) }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn broadcast_f32([value]: [f32; 1]) -> float32x4_t {
    vdupq_n_f32(value)
}

/// Two roundings, as in the scalar twin, where `vfmaq_f32` would have one.
#[inline]
#[target_feature(enable = "neon")]
fn add_products(
    sums: [float32x4_t; 4],
    row: float32x4_t,
    columns: [float32x4_t; 4],
) -> [float32x4_t; 4] {
    let mut out = sums;
    for (sum, column) in out.iter_mut().zip(columns) {
        *sum = vaddq_f32(*sum, vmulq_f32(row, column));
    }
    out
}

matrix_kernel!(
    matmul_f32, tile_f32,
    features = "neon",
    left = [f32; 1], right = [f32; 16],
    shape = Shape { rows: 5, panels: 1, steps: 256 }, rows = [5 4 3 2], panels = [],
    zero = zero_f32, columns = load_f32, broadcast = broadcast_f32,
    dot = add_products, sum = f32, load = load_f32, store = store_f32,
);

/// The plain loop of the scalar twin: the compiler uses NEON for it, since the target has it.
macro_rules! distance {
    ($name:ident, $y:ty) => {
        #[target_feature(enable = "neon")]
        pub(crate) fn $name(x: &[f32], y: &[$y]) -> f32 {
            scalar::$name(x, y)
        }
    };
}
distance!(dot_f32, f32);
distance!(l2_sq_f32, f32);
distance!(dot_f16, f16);
distance!(l2_sq_f16, f16);

/// See [`crate::at_most`].
#[target_feature(enable = "neon")]
pub(crate) fn at_most(values: &[[f32; BLOCK]], threshold: f32, masks: &mut [u32]) {
    let threshold = vdupq_n_f32(threshold);
    for (values, mask) in values.iter().zip(masks) {
        *mask = 0;
        for (half, values) in values.as_chunks::<16>().0.iter().enumerate() {
            for (quad, values) in load_f32(values).into_iter().enumerate() {
                let place = 16 * half + 4 * quad;
                // Lane i keeps bit `place + i`.
                let bits = vshlq_u32(
                    vcombine_u32(vcreate_u32(1 | 2 << 32), vcreate_u32(4 | 8 << 32)),
                    vdupq_n_s32(place as i32),
                );
                *mask |= vaddvq_u32(vandq_u32(vcleq_f32(values, threshold), bits));
            }
        }
    }
}

scan_kernel!(scan_blocks, scan_piece, "neon");

/// One group at a time: `tbl` looks up 16 entries.
#[inline]
#[target_feature(enable = "neon")]
fn scan_piece(codes: &[u8], lut: &[u8], sums: &mut [u16; BLOCK]) {
    // Of vectors 0..8, 8..16, 16..24 and 24..32.
    let mut totals = [vdupq_n_u16(0); 4];
    for (codes, table) in codes.as_chunks::<16>().0.iter().zip(lut.as_chunks::<16>().0) {
        let (codes, table) = (load_u8(codes), load_u8(table));
        let low = vqtbl1q_u8(table, vandq_u8(codes, vdupq_n_u8(15)));
        let high = vqtbl1q_u8(table, vshrq_n_u8::<4>(codes));
        totals[0] = vaddw_u8(totals[0], vget_low_u8(low));
        totals[1] = vaddw_high_u8(totals[1], low);
        totals[2] = vaddw_u8(totals[2], vget_low_u8(high));
        totals[3] = vaddw_high_u8(totals[3], high);
    }
    for (sums, total) in sums.as_chunks_mut::<8>().0.iter_mut().zip(totals) {
        // SAFETY: the array has room for the eight numbers that are written.
        unsafe { vst1q_u16(sums.as_mut_ptr(), total) }
    }
}

/// See [`crate::sum_bytes`]: `tbl` looks up 64 entries, and `tbx` leaves alone what is not among its own.
#[target_feature(enable = "neon")]
pub(crate) fn sum_bytes(codes: &[u8], stride: usize, lut: &[[u8; 256]], sums: &mut [u16]) {
    for (block, sums) in sums.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
        let codes = codes[block * stride..].as_chunks::<BLOCK>().0;
        // Of vectors 0..8, 8..16, 16..24 and 24..32.
        let mut totals = [vdupq_n_u16(0); 4];
        for (table, codes) in lut.iter().zip(codes) {
            for (half, codes) in codes.as_chunks::<16>().0.iter().enumerate() {
                let mut index = load_u8(codes);
                let mut entries = vdupq_n_u8(0);
                for quarter in table.as_chunks::<64>().0 {
                    entries = vqtbx4q_u8(entries, load_quarter(quarter), index);
                    index = vsubq_u8(index, vdupq_n_u8(64));
                }
                totals[2 * half] = vaddw_u8(totals[2 * half], vget_low_u8(entries));
                totals[2 * half + 1] = vaddw_high_u8(totals[2 * half + 1], entries);
            }
        }
        for (sums, total) in sums.as_chunks_mut::<8>().0.iter_mut().zip(totals) {
            // SAFETY: the array has room for the eight numbers that are written.
            unsafe { vst1q_u16(sums.as_mut_ptr(), total) }
        }
    }
}

/// A quarter of a table.
#[inline]
#[target_feature(enable = "neon")]
fn load_quarter(values: &[u8; 64]) -> uint8x16x4_t {
    // SAFETY: the array has the 64 bytes that are read.
    unsafe { vld1q_u8_x4(values.as_ptr()) }
}

part_kernels!("neon");
