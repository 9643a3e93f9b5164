//! How queries look from their lists: see `views.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::Kernel;
#[cfg(test)]
use super::Pair;

/// What a query has before its lines.
pub(crate) const HEAD: usize = 5;
/// Values of a line.
pub(crate) const LINE: usize = 5;

#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub(crate) pairs: u32,
    pub(crate) grid_x: u32,
    pub(crate) dims: u32,
    pub(crate) segments: u32,
    pub(crate) pieces: u32,
    pub(crate) query: u32,
    pub(crate) lists: u32,
    pub(crate) distance: u32,
}

pub(crate) fn kernel() -> Kernel {
    Kernel {
        name: "views",
        parts: &[include_str!("views.wgsl")],
        constants: Vec::new(),
        writes: &[false, false, false, false, false, true],
    }
}

/// Floats of a view.
pub(crate) fn floats(segments: usize, pieces: usize) -> usize {
    2 + segments + 2 * pieces
}

/// The twin.
#[cfg(test)]
pub(crate) fn views(
    p: &Params,
    pairs: &[Pair],
    queries: &[f32],
    centroids: &[u32],
    list_factors: &[[f32; 2]],
    lengths: &[u32],
    views: &mut [f32],
) {
    let view = floats(p.segments as usize, p.pieces as usize);
    for (pair, out) in pairs[..p.pairs as usize].iter().zip(views.chunks_exact_mut(view)) {
        let query = &queries[(pair.query * p.query) as usize..][..p.query as usize];
        let values = &query[HEAD + LINE * p.pieces as usize..];
        let list = pair.list as usize;
        let [unit, norm_sq] = list_factors[list];
        let (mut start, mut distance_sq) = (0, 0.0);
        for (s, &length) in lengths.iter().enumerate() {
            let mut sum = 0.0;
            for i in start..start + length as usize {
                let mut x = values[i];
                if p.lists == 1 {
                    let word = centroids[(list * p.dims as usize + i) / 2];
                    x -= f32::from((word >> (16 * (i % 2))) as u16 as i16) * unit;
                }
                sum += x * x;
            }
            out[2 + s] = sum;
            distance_sq += sum;
            start += length as usize;
        }
        out[0] = match (p.lists, p.distance) {
            (0, _) => query[0],
            (_, 1) => distance_sq - norm_sq,
            _ => query[0] - 0.5 * (query[1] + norm_sq - distance_sq),
        };
        out[1] = distance_sq;
        let variance = query[3] + query[4] * pair.distance_sq;
        let by_variance = if variance > 0.0 { query[2] / variance.sqrt() } else { 0.0 };
        let lines = query[HEAD..].chunks_exact(LINE);
        let outs = out[2 + p.segments as usize..].chunks_exact_mut(2);
        for (line, out) in lines.zip(outs) {
            let own = line[3] + line[4] * pair.distance_sq;
            out[0] = line[0];
            out[1] = line[1] + line[2] * pair.distance_sq.sqrt() + by_variance * own;
        }
    }
}
