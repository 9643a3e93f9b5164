//! The plain truth: every kernel as a loop that a reader can check. The other levels are tested
//! against these, and on processors without vector units these are what runs.
//!
//! Distances sum over two times sixteen lanes: element `i` goes to lane `i % 32`, and the lanes are
//! added as a balanced tree.

use half::f16;

use crate::bounds::{Additive, BoundLayout, BoundQuery, ListConstants};
use crate::fields::{FieldPlan, GROUP, Line, Source};
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
pub fn scan_blocks(codes: &[u8], stride: usize, pieces: &[usize], lut: &[u8], sums: &mut [u16]) {
    for (block, sums) in sums.chunks_exact_mut(pieces.len() * BLOCK).enumerate() {
        let mut at = block * stride;
        let mut tables = lut;
        for (&groups, sums) in pieces.iter().zip(sums.chunks_exact_mut(BLOCK)) {
            sums.fill(0);
            let codes = &codes[at..at + groups * 16];
            for (group, table) in codes.chunks_exact(16).zip(tables.chunks_exact(16)) {
                for (v, &byte) in group.iter().enumerate() {
                    sums[v] += u16::from(table[usize::from(byte & 15)]);
                    sums[v + 16] += u16::from(table[usize::from(byte >> 4)]);
                }
            }
            at += groups * 16;
            tables = &tables[groups * 16..];
        }
    }
}

/// See [`crate::sum_bytes`]. Inlined, so that it is also what a level without a byte table of 256 entries
/// compiles for itself.
#[inline(always)]
pub fn sum_bytes(codes: &[u8], stride: usize, lut: &[[u8; 256]], sums: &mut [u16]) {
    for (block, sums) in sums.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
        let codes = codes[block * stride..].as_chunks::<BLOCK>().0;
        sums.fill(0);
        for (table, codes) in lut.iter().zip(codes) {
            for (sum, &code) in sums.iter_mut().zip(codes) {
                *sum += u16::from(table[usize::from(code)]);
            }
        }
    }
}

/// See [`crate::dot_fields`]. The digits lie in lines as `FieldQuery` arranges them.
pub(crate) fn dot_fields(
    plan: &FieldPlan,
    groups: &[u8],
    lane: usize,
    row: &[u8],
    lines: &[Line],
    sums: &mut [i32],
) {
    let mut sums = sums.iter_mut();
    let mut total = 0i32;
    for part in &plan.parts {
        let byte = |i: usize| match part.source {
            Source::Groups => {
                groups[part.at + GROUP * i + lane % GROUP] >> (4 * (lane / GROUP)) & 15
            }
            Source::Row | Source::Bits => row[part.at + i],
        };
        for (chunk, lines) in lines[part.lines()].chunks_exact(2 * part.height).enumerate() {
            let (high, low) = lines.split_at(part.height);
            let first = chunk * part.slot;
            let here = part.slot.min(part.bytes - first);
            for (line, (high, low)) in high.iter().zip(low).enumerate() {
                for i in 0..64 {
                    let (at, bit) = match part.source {
                        Source::Bits => (i / 8, i as u32 % 8),
                        _ => ((64 * line + i) % part.slot, part.moves[line][i / 4] as u32),
                    };
                    if at < here {
                        let value = (u32::from(byte(first + at)) >> bit) as u8 & part.field;
                        let digits = 128 * i32::from(high.0[i]) + i32::from(low.0[i]);
                        total += (i32::from(value) * digits) << part.shift();
                    }
                }
            }
        }
        if part.last
            && let Some(sum) = sums.next()
        {
            *sum = std::mem::take(&mut total);
        }
    }
}

const LANES: usize = 16;

/// Adds sixteen lanes as a balanced tree.
fn tree(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for j in 0..width {
            lanes[j] += lanes[j + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Sums `term(x, y)` over two slices of the same length.
#[inline(always)]
fn reduce<X: Copy, Y: Copy>(x: &[X], y: &[Y], term: impl Fn(X, Y) -> f32) -> f32 {
    let mut sums = [[0.0f32; LANES]; 2];
    let mut xs = x.chunks_exact(2 * LANES);
    let mut ys = y.chunks_exact(2 * LANES);
    for (x, y) in (&mut xs).zip(&mut ys) {
        for half in 0..2 {
            for j in 0..LANES {
                sums[half][j] += term(x[half * LANES + j], y[half * LANES + j]);
            }
        }
    }
    for (i, (&x, &y)) in xs.remainder().iter().zip(ys.remainder()).enumerate() {
        sums[i / LANES][i % LANES] += term(x, y);
    }
    let mut lanes = sums[0];
    for j in 0..LANES {
        lanes[j] += sums[1][j];
    }
    tree(lanes)
}

/// See [`crate::at_most`].
pub fn at_most(values: &[[f32; BLOCK]], threshold: f32, masks: &mut [u32]) {
    for (values, mask) in values.iter().zip(masks) {
        let bits = values.iter().enumerate();
        *mask = bits.fold(0, |mask, (i, &value)| mask | u32::from(value <= threshold) << i);
    }
}

/// See [`crate::bound_blocks`].
pub fn bound_blocks(
    codes: &[u8],
    layout: &BoundLayout<'_>,
    query: &BoundQuery<'_>,
    bounds: &mut [[f32; BLOCK]],
    passed: &mut [u32],
) {
    let blocks = codes.chunks_exact(layout.stride.max(1)).zip(bounds.iter_mut());
    for (number, (block, bounds)) in blocks.enumerate() {
        for (v, bound) in bounds.iter_mut().enumerate() {
            *bound = bound_of(block, layout, query, number, v);
        }
    }
    at_most(bounds, query.threshold, passed);
}

/// The bound of vector `v` of block number `number`.
fn bound_of(
    block: &[u8],
    layout: &BoundLayout<'_>,
    query: &BoundQuery<'_>,
    number: usize,
    v: usize,
) -> f32 {
    let pair = |at: usize| u16::from_le_bytes([block[at + 2 * v], block[at + 2 * v + 1]]);
    let constant = match query.constants {
        ListConstants::One(constant) => constant,
        ListConstants::Each(constants) => constants[number][v],
    };
    let additive = match layout.format {
        Additive::Exact => {
            let bytes = &block[layout.additive + 4 * v..][..4];
            f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
        }
        Additive::Linear { low, step, last, beyond } => match pair(layout.additive) {
            code if code > last => beyond(code),
            code => low + step * f32::from(code),
        },
    };
    let mut bound = constant + additive;
    if let Some((at, step)) = layout.shift {
        bound += match block[at + v] {
            0 => f32::NEG_INFINITY,
            code => (f32::from(code) - 128.0) * step,
        };
    }
    let offsets = if number * BLOCK + v < query.own { query.offsets } else { query.others };
    let mut start = 0;
    for ((piece, slope), offset) in layout.pieces.iter().zip(query.slopes).zip(offsets) {
        let end = start + 16 * piece.groups;
        let groups = block[start..end].chunks_exact(16).zip(query.lut[start..end].chunks_exact(16));
        let entry = |(codes, lut): (&[u8], &[u8])| {
            u16::from(lut[usize::from(codes[v % 16] >> (4 * (v / 16)) & 15)])
        };
        let sum: u16 = groups.map(entry).sum();
        let code = match piece.format.bytes {
            1 => u32::from(block[piece.scales + v]),
            _ => u32::from(pair(piece.scales)),
        };
        let scale = match code {
            0 => 0.0,
            _ => f32::from_bits((code << piece.format.shift).wrapping_add(piece.format.base)),
        };
        bound -= scale * (slope * f32::from(sum) + offset);
        start = end;
    }
    bound
}

/// See [`crate::l2_sqs_f32`].
pub fn l2_sqs_f32(x: &[f32], y: &[f32], lengths: &[usize], out: &mut [f32]) {
    let mut start = 0;
    for (&length, out) in lengths.iter().zip(out) {
        *out = l2_sq_f32(&x[start..start + length], &y[start..start + length]);
        start += length;
    }
}

/// See [`crate::dot_f32`].
pub fn dot_f32(x: &[f32], y: &[f32]) -> f32 {
    reduce(x, y, |x, y| x * y)
}

/// See [`crate::l2_sq_f32`].
pub fn l2_sq_f32(x: &[f32], y: &[f32]) -> f32 {
    reduce(x, y, |x, y| (x - y) * (x - y))
}

/// See [`crate::dot_f16`].
pub fn dot_f16(x: &[f32], y: &[f16]) -> f32 {
    reduce(x, y, |x, y| x * y.to_f32_const())
}

/// See [`crate::l2_sq_f16`].
pub fn l2_sq_f16(x: &[f32], y: &[f16]) -> f32 {
    reduce(x, y, |x, y| {
        let y = y.to_f32_const();
        (x - y) * (x - y)
    })
}

/// The product of [`crate::matmul_f32`] with `b` packed into panels of 16 rows, 16 values for each
/// `t`; `c` has a column for each row of `b`, padding included.
pub fn matmul_f32(a: &[f32], depth: usize, b: &[f32], c: &mut [f32]) {
    let panels = b.len() / (16 * depth);
    for (row, out) in a.chunks_exact(depth).zip(c.chunks_exact_mut(panels * 16)) {
        for (panel, out) in b.chunks_exact(16 * depth).zip(out.chunks_exact_mut(16)) {
            let mut sums = [0.0f32; 16];
            for (&x, columns) in row.iter().zip(panel.chunks_exact(16)) {
                for (sum, y) in sums.iter_mut().zip(columns) {
                    *sum += x * y;
                }
            }
            out.copy_from_slice(&sums);
        }
    }
}

/// See [`crate::transpose_16`].
pub fn transpose_16<W: crate::transpose::Word>(rows: &[W], out: &mut [[W; 16]]) {
    let width = out.len();
    let count = rows.len() / width.max(1);
    for (w, lanes) in out.iter_mut().enumerate() {
        *lanes = [W::default(); 16];
        for r in 0..count {
            lanes[r] = rows[r * width + w];
        }
    }
}
