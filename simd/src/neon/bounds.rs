//! Bounds of blocks, 4 vectors at a time.

use std::arch::aarch64::*;

use super::{broadcast_f32, scan_piece};
use crate::bounds::{Additive, BoundLayout, BoundQuery, ListConstants, ScaleBits};
use crate::layout::BLOCK;
use crate::parts::{Sums, bound_kernel};

bound_kernel!(bound_blocks, scan_piece, 4, "neon");

#[inline]
#[target_feature(enable = "neon")]
fn floats(values: &[f32; 4]) -> float32x4_t {
    // SAFETY: the array has the four numbers that are read.
    unsafe { vld1q_f32(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn put(values: &mut [f32; 4], lanes: float32x4_t) {
    // SAFETY: the array has room for the four numbers that are written.
    unsafe { vst1q_f32(values.as_mut_ptr(), lanes) }
}

#[inline]
#[target_feature(enable = "neon")]
fn add(x: float32x4_t, y: float32x4_t) -> float32x4_t {
    vaddq_f32(x, y)
}

#[inline]
#[target_feature(enable = "neon")]
fn sub(x: float32x4_t, y: float32x4_t) -> float32x4_t {
    vsubq_f32(x, y)
}

#[inline]
#[target_feature(enable = "neon")]
fn mul(x: float32x4_t, y: float32x4_t) -> float32x4_t {
    vmulq_f32(x, y)
}

#[inline]
#[target_feature(enable = "neon")]
fn bytes(values: &[u8; 4]) -> uint32x4_t {
    let bytes = vreinterpret_u8_u32(vdup_n_u32(u32::from_le_bytes(*values)));
    vmovl_u16(vget_low_u16(vmovl_u8(bytes)))
}

#[inline]
#[target_feature(enable = "neon")]
fn pairs(values: &[[u8; 2]; 4]) -> uint32x4_t {
    sums(&values.map(u16::from_le_bytes))
}

#[inline]
#[target_feature(enable = "neon")]
fn sums(values: &[u16; 4]) -> uint32x4_t {
    // SAFETY: the array has the four numbers that are read.
    vmovl_u16(unsafe { vld1_u16(values.as_ptr()) })
}

#[inline]
#[target_feature(enable = "neon")]
fn to_f32(values: uint32x4_t) -> float32x4_t {
    vcvtq_f32_u32(values)
}

#[inline]
#[target_feature(enable = "neon")]
fn some_exceed(codes: uint32x4_t, last: u16) -> bool {
    vmaxvq_u32(codes) > u32::from(last)
}

/// See [`ScaleBits`].
#[inline]
#[target_feature(enable = "neon")]
fn scale_of(codes: uint32x4_t, format: ScaleBits) -> float32x4_t {
    let shifted = vshlq_u32(codes, vdupq_n_s32(format.shift as i32));
    let scales = vaddq_u32(shifted, vdupq_n_u32(format.base));
    vreinterpretq_f32_u32(vbicq_u32(scales, vceqzq_u32(codes)))
}

/// See [`BoundLayout::shift`].
#[inline]
#[target_feature(enable = "neon")]
fn shift_of(codes: uint32x4_t, step: float32x4_t) -> float32x4_t {
    let shifts = mul(sub(to_f32(codes), broadcast_f32([128.0])), step);
    vbslq_f32(vceqzq_u32(codes), broadcast_f32([f32::NEG_INFINITY]), shifts)
}

/// The first of two where the number of the lane, `4 * part` and on, is below `first`, else the second.
#[inline]
#[target_feature(enable = "neon")]
fn either(first: usize, part: usize, [these, others]: [float32x4_t; 2]) -> float32x4_t {
    let lanes = vcombine_u32(vcreate_u32(1 << 32), vcreate_u32(2 | 3 << 32));
    let lanes = vaddq_u32(lanes, vdupq_n_u32(4 * part as u32));
    vbslq_f32(vcltq_u32(lanes, vdupq_n_u32(first as u32)), these, others)
}

/// A bit for each lane that does not exceed the threshold.
#[inline]
#[target_feature(enable = "neon")]
fn mask(values: float32x4_t, threshold: float32x4_t) -> u32 {
    let bits = vcombine_u32(vcreate_u32(1 | 2 << 32), vcreate_u32(4 | 8 << 32));
    vaddvq_u32(vandq_u32(vcleq_f32(values, threshold), bits))
}
