//! The plain truth: every kernel as a loop that a reader can check. The other levels are tested
//! against these, and on processors without vector units these are what runs.

use crate::layout::BLOCK;

/// See [`crate::gemm_i16`]; `b` is packed as [`crate::Panels`] says.
pub fn gemm_i16(a: &[i16], depth: usize, b: &[i16], c: &mut [i32]) {
    let panels = b.len() / (16 * depth);
    for (row, out) in a.chunks_exact(depth).zip(c.chunks_exact_mut(panels * 16)) {
        for (panel, out) in b.chunks_exact(16 * depth).zip(out.chunks_exact_mut(16)) {
            let mut sums = [0i32; 16];
            for (pair, columns) in row.chunks_exact(2).zip(panel.chunks_exact(32)) {
                for (j, sum) in sums.iter_mut().enumerate() {
                    let first = i32::from(pair[0]) * i32::from(columns[2 * j]);
                    let second = i32::from(pair[1]) * i32::from(columns[2 * j + 1]);
                    *sum = sum.wrapping_add(first).wrapping_add(second);
                }
            }
            out.copy_from_slice(&sums);
        }
    }
}

/// See [`crate::gemm_i8`]; `b` is packed as [`crate::Panels8`] says.
pub fn gemm_i8(a: &[u8], depth: usize, b: &[i8], c: &mut [i32]) {
    let panels = b.len() / (16 * depth);
    for (row, out) in a.chunks_exact(depth).zip(c.chunks_exact_mut(panels * 16)) {
        for (panel, out) in b.chunks_exact(16 * depth).zip(out.chunks_exact_mut(16)) {
            let mut sums = [0i32; 16];
            for (quad, columns) in row.chunks_exact(4).zip(panel.chunks_exact(64)) {
                for (j, sum) in sums.iter_mut().enumerate() {
                    for t in 0..4 {
                        let product = i32::from(quad[t]) * i32::from(columns[4 * j + t]);
                        *sum = sum.wrapping_add(product);
                    }
                }
            }
            out.copy_from_slice(&sums);
        }
    }
}

/// See [`crate::scan_blocks`].
pub fn scan_blocks(codes: &[u8], stride: usize, groups: usize, lut: &[u8], sums: &mut [u16]) {
    for (block, sums) in sums.chunks_exact_mut(BLOCK).enumerate() {
        sums.fill(0);
        let codes = &codes[block * stride..][..groups * 16];
        for (group, table) in codes.chunks_exact(16).zip(lut.chunks_exact(16)) {
            for (v, &byte) in group.iter().enumerate() {
                sums[v] += u16::from(table[usize::from(byte & 15)]);
                sums[v + 16] += u16::from(table[usize::from(byte >> 4)]);
            }
        }
    }
}

/// See [`crate::dot_fields`].
pub fn dot_fields(width: u32, fields: &[u8], high: &[i8], low: &[i8]) -> i32 {
    let count = high.len();
    let mut sum = 0i32;
    for i in 0..count {
        let (byte, bit) = match width {
            4 => (i % (count / 2), 4 * (i / (count / 2))),
            2 => (i % (count / 4), 2 * (i / (count / 4))),
            _ => (i / 8, i % 8),
        };
        let field = i32::from(fields[byte] >> bit) & ((1 << width) - 1);
        sum += field * (128 * i32::from(high[i]) + i32::from(low[i]));
    }
    sum
}
