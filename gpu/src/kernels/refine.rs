//! The second stage: see `refine.wgsl`, and `refine_saq.wgsl` and `refine_sums.wgsl` for the kinds of codes.

use bytemuck::{Pod, Zeroable};

use super::Kernel;
#[cfg(test)]
use super::{Candidate, NONE, ordered};

#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub(crate) queries: u32,
    pub(crate) groups: u32,
    pub(crate) capacity: u32,
    pub(crate) count: u32,
    pub(crate) slot: u32,
    pub(crate) slots: u32,
    pub(crate) stride: u32,
    pub(crate) segments: u32,
    pub(crate) lists: u32,
    pub(crate) view: u32,
    pub(crate) table: u32,
    pub(crate) alpha: f32,
    pub(crate) correction: f32,
    pub(crate) grid_x: u32,
}

/// A segment of SAQ.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Segment {
    pub(crate) start: u32,
    pub(crate) fours: u32,
    pub(crate) bits: u32,
    pub(crate) plane: u32,
    pub(crate) scale_shift: u32,
    pub(crate) scale_base: u32,
    pub(crate) unit: f32,
    pub(crate) energy: f32,
}

/// For SAQ, or for numbers of centroids.
pub(crate) fn kernel(saq: bool) -> Kernel {
    const FRAME: &str = include_str!("refine.wgsl");
    let (name, parts): (_, &[&str]) = match saq {
        true => ("refine_saq", &[FRAME, include_str!("refine_saq.wgsl")]),
        false => ("refine_sums", &[FRAME, include_str!("refine_sums.wgsl")]),
    };
    let writes = &[false, false, false, false, false, true];
    Kernel { name, parts, constants: Vec::new(), writes }
}

/// The twin of both.
#[cfg(test)]
pub(crate) fn refine(
    saq: bool,
    p: &Params,
    rows: &[u32],
    tables: &[u32],
    views: &[f32],
    state: &[u32],
    segments: &[Segment],
    candidates: &mut [Candidate],
) {
    for query in 0..p.queries as usize {
        let count = if p.count == 0 { state[p.queries as usize + query] } else { p.count };
        let own = &mut candidates[query * p.capacity as usize..][..count.min(p.capacity) as usize];
        let table = &tables[query * p.table as usize..];
        for candidate in own {
            let [key, slot, pair, _] = candidate;
            if *slot == NONE || *slot < p.slot || *slot - p.slot >= p.slots {
                continue;
            }
            let slot = (*slot - p.slot) as usize;
            let view = &views[(*pair * p.view) as usize..][..p.view as usize];
            *key = ordered(match saq {
                true => key_saq(p, &rows[slot * p.stride as usize..], table, view, segments),
                false => key_sums(p, rows, slot, table, view),
            });
        }
    }
}

#[cfg(test)]
fn key_saq(p: &Params, row: &[u32], table: &[u32], view: &[f32], segments: &[Segment]) -> f32 {
    let scale_of = |s: usize| {
        let code = row[1 + s / 2] >> (16 * (s % 2)) & 0xffff;
        let scale = f32::from_bits((code << segments[s].scale_shift) + segments[s].scale_base);
        if code == 0 { 0.0 } else { scale * segments[s].unit }
    };
    let dims4: u32 = segments.iter().map(|segment| segment.fours).sum();
    let digit = |at: u32, byte: u32| i64::from((table[at as usize] >> (8 * byte)) as u8 as i8);
    let mut dot = 0.0;
    for (s, segment) in segments.iter().enumerate().filter(|(_, segment)| segment.bits > 0) {
        let mut sum = 0i64;
        for i in 0..4 * segment.fours {
            // From the lowest plane up: the code of dimension i.
            let planes = segment.bits.div_ceil(4);
            let word = i / 8;
            let shift = 8 * (i % 4) + 4 * (i % 8 / 4);
            let code = (0..planes).fold(0i64, |code, plane| {
                let field = row[(segment.plane + plane * segment.fours / 2 + word) as usize];
                code << 4 | i64::from(field >> shift & 15)
            });
            let at = segment.start + i / 4;
            let integer = 128 * digit(at, i % 4) + digit(dims4 + at, i % 4);
            sum += (2 * code - ((1 << segment.bits) - 1)) * integer;
        }
        let step = f32::from_bits(table[2 * dims4 as usize + s]);
        dot += scale_of(s) * (0.5 * step * sum as f32);
    }
    let plain = view[0] + f32::from_bits(row[0]) - p.alpha * dot;
    let last = segments.len() - 1;
    if p.correction <= 0.0 || segments[last].bits > 0 {
        return plain;
    }
    let (mut kept_sq, mut kept_query_sq) = (0.0, 0.0);
    for s in (0..last).filter(|&s| segments[s].bits > 0) {
        kept_sq += segments[s].energy * scale_of(s) * scale_of(s);
        kept_query_sq += view[2 + s];
    }
    let tail = scale_of(last);
    if tail > 0.0 && kept_sq > 0.0 && kept_query_sq > 0.0 {
        let kept_dot =
            if p.lists == 1 { 0.5 * (kept_sq + tail * tail + view[1] - plain) } else { dot };
        let cosine = (kept_dot / (kept_sq * kept_query_sq).sqrt()).clamp(0.0, 1.0);
        return plain - p.alpha * (p.correction * cosine * cosine * tail * view[2 + last].sqrt());
    }
    plain
}

#[cfg(test)]
fn key_sums(p: &Params, rows: &[u32], slot: usize, table: &[u32], view: &[f32]) -> f32 {
    let word = |w: usize| rows[(slot / 32 * p.stride as usize + w) * 32 + slot % 32];
    let (columns, bits) = (p.segments as usize, p.lists as usize);
    let per_word = 32 / bits;
    let mut sum = 0.0;
    for k in 0..columns {
        let number = word(k / per_word) >> (bits * (k % per_word)) & ((1 << bits) - 1);
        sum += f32::from_bits(table[(k << bits) + number as usize]);
    }
    let additive = f32::from_bits(word(columns.div_ceil(per_word)));
    (view[0] + additive) - p.alpha * p.correction * sum
}
