//! Floating-point kernels with a fixed order of summation, so that every level gives the same bits.

use half::f16;

use crate::dispatch::{Level, dispatch, level};
use crate::layout::BLOCK;
#[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
use crate::neon;
use crate::scalar;
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};

/// The inner product of two vectors of the same length.
///
/// # Panics
/// If the lengths differ.
pub fn dot_f32(x: &[f32], y: &[f32]) -> f32 {
    assert_eq!(x.len(), y.len());
    dispatch!(level(), dot_f32(x, y))
}

/// The squared Euclidean distance of two vectors of the same length.
///
/// # Panics
/// If the lengths differ.
pub fn l2_sq_f32(x: &[f32], y: &[f32]) -> f32 {
    assert_eq!(x.len(), y.len());
    dispatch!(level(), l2_sq_f32(x, y))
}

/// The squared distances of two vectors over consecutive ranges of `lengths` dimensions each:
/// `out[i]` is [`l2_sq_f32`] over range `i`.
///
/// # Panics
/// If the ranges reach beyond a vector, or if `out` has not one value for each.
pub fn l2_sqs_f32(x: &[f32], y: &[f32], lengths: &[usize], out: &mut [f32]) {
    assert_eq!(lengths.len(), out.len());
    dispatch!(level(), l2_sqs_f32(x, y, lengths, out))
}

/// The inner product of a vector with one kept in half precision.
///
/// # Panics
/// If the lengths differ.
pub fn dot_f16(x: &[f32], y: &[f16]) -> f32 {
    assert_eq!(x.len(), y.len());
    dispatch!(level(), dot_f16(x, y))
}

/// The squared Euclidean distance of a vector to one kept in half precision.
///
/// # Panics
/// If the lengths differ.
pub fn l2_sq_f16(x: &[f32], y: &[f16]) -> f32 {
    assert_eq!(x.len(), y.len());
    dispatch!(level(), l2_sq_f16(x, y))
}

/// Which values do not exceed a threshold: bit `i % 32` of `masks[i / 32]` for value `i`. A NaN
/// exceeds all.
///
/// # Panics
/// If there is not one mask for each row of values.
pub fn at_most(values: &[[f32; BLOCK]], threshold: f32, masks: &mut [u32]) {
    assert_eq!(values.len(), masks.len());
    dispatch!(level(), at_most(values, threshold, masks))
}

/// Calls `found` with the number of each bit that is set in masks, as those of [`at_most`]:
/// `32 * i + bit` for bit `bit` of `masks[i]`, in ascending order.
#[inline]
pub fn for_each_set(masks: &[u32], mut found: impl FnMut(usize)) {
    for (i, &mask) in masks.iter().enumerate() {
        let mut mask = mask;
        while mask != 0 {
            found(i * BLOCK + mask.trailing_zeros() as usize);
            mask &= mask - 1;
        }
    }
}

/// Columns in a panel.
const PANEL: usize = 16;

/// The bytes of `b` that are packed at a time: what the second cache holds beside the rows.
const PACKED_BYTES: usize = 512 << 10;

/// The rows of `a` that meet the packed panels at a time: their results pass through the cache.
const ROWS: usize = 64;

/// `c[i][j] = sum over t of a[i][t] * b[j][t]` for row-major `a` (`m x depth`), `b` (`n x depth`)
/// and `c` (`m x n`, overwritten). Each sum runs over `t` in order, with a rounding after each
/// product and each addition, so results do not depend on the level.
///
/// Allocates about half a megabyte of scratch memory (more for a depth beyond 8,192). Time is
/// spent on packing `b`: put the matrix of fewer rows there.
///
/// # Panics
/// If a slice holds no whole number of rows or `c` has the wrong length.
pub fn matmul_f32(depth: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    assert!(depth > 0);
    let (m, n) = (a.len() / depth, b.len() / depth);
    assert_eq!(a.len(), m * depth);
    assert_eq!(b.len(), n * depth);
    assert_eq!(c.len(), m * n);
    matmul_f32_at(level(), depth, a, b, c);
}

pub(crate) fn matmul_f32_at(level: Level, depth: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    let (m, n) = (a.len() / depth, b.len() / depth);
    if m == 0 || n == 0 {
        return;
    }
    let panels = (PACKED_BYTES / (PANEL * depth * size_of::<f32>())).clamp(1, n.div_ceil(PANEL));
    let mut packed = vec![0.0; panels * PANEL * depth];
    let mut sums = vec![0.0; ROWS.min(m) * panels * PANEL];
    for (block, b) in b.chunks(panels * PANEL * depth).enumerate() {
        let first = block * panels * PANEL;
        let columns = b.len() / depth;
        let padded = columns.next_multiple_of(PANEL);
        let packed = &mut packed[..padded * depth];
        for (panel, rows) in packed.chunks_exact_mut(PANEL * depth).zip(b.chunks(PANEL * depth)) {
            pack(depth, rows, panel);
        }
        for (a, c) in a.chunks(ROWS * depth).zip(c.chunks_mut(ROWS * n)) {
            let sums = &mut sums[..a.len() / depth * padded];
            dispatch!(level, matmul_f32(a, depth, packed, sums));
            for (c, sums) in c.chunks_exact_mut(n).zip(sums.chunks_exact(padded)) {
                c[first..first + columns].copy_from_slice(&sums[..columns]);
            }
        }
    }
}

/// Packs at most 16 rows as a panel: 16 values for each `t`, zeros for missing rows.
fn pack(depth: usize, rows: &[f32], panel: &mut [f32]) {
    if rows.len() < PANEL * depth {
        panel.fill(0.0);
    }
    for (j, row) in rows.chunks_exact(depth).enumerate() {
        for (&value, column) in row.iter().zip(panel.as_chunks_mut::<PANEL>().0) {
            column[j] = value;
        }
    }
}
