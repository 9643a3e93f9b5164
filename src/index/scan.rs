//! Scanning lists: first stage, then the remaining bits of survivors.

use std::ops::Range;

use nonius_simd::{BLOCK, prefetch};

use super::config::SearchStats;
use super::format::Parts;
use super::rank::Probe;
use super::timers::{Piece, Timers};
use crate::quantizer::saq::{
    Glance, ListQuery, Query, QueryModel, RefineScratch, SCAN_BLOCKS, ScanScratch,
};
use crate::topk::TopK;

/// Vectors whose first stage is read before their survivors are refined, at least: enough for
/// what the survivors need to arrive from memory meanwhile, and few enough for the threshold to
/// stay close behind.
const ROUND: usize = 256;

/// Until there are `k` results nothing can be ruled out. So the first round reads the first stage
/// of this many times `k` vectors, and refines the most promising ones first.
const FIRST_ROUND: usize = 16;

/// Survivors whose remaining bits are on their way while one is refined.
const AHEAD: usize = 4;

/// Bytes of the next list's first stage that are asked for ahead: the processor goes on by itself.
const FETCHED: usize = 1024;

/// The best estimates of a query: key, id and position.
pub(super) type Best = TopK<(f32, u64, usize)>;

/// Scans lists for one query at a time. Holds buffers only.
#[derive(Default)]
pub(super) struct Scanner {
    /// The lists of a round of which vectors survived.
    views: Vec<View>,
    scan: ScanScratch,
    refine: RefineScratch,
    survivors: Vec<Survivor>,
}

/// A list with survivors.
#[derive(Default)]
struct View {
    list: usize,
    /// The query as seen from it, once that is needed.
    query: ListQuery,
    entered: bool,
}

/// A vector that the first stage has not ruled out.
#[derive(Clone, Copy)]
struct Survivor {
    bound: f32,
    /// The number of the vector in its list.
    number: u32,
    /// The number of the list among the round's views.
    view: usize,
    /// The vector's position.
    position: usize,
}

/// How far the scan of some lists has come.
struct Cursor<'a> {
    probes: &'a [Probe],
    /// Vectors of the first list that are done.
    done: usize,
}

impl Scanner {
    /// Scans lists in the given order and keeps the best estimates.
    pub(super) fn scan(
        &mut self,
        parts: &Parts,
        query: &Query,
        probes: &[Probe],
        best: &mut Best,
        stats: &mut SearchStats,
        timers: &mut Timers,
    ) {
        let codes = QueryModel { model: &parts.model, layout: &parts.layout };
        let mut cursor = Cursor { probes, done: 0 };
        while !cursor.probes.is_empty() {
            let threshold = best.threshold();
            let wanted = if threshold == f32::INFINITY {
                best.capacity().saturating_mul(FIRST_ROUND).max(ROUND)
            } else {
                ROUND
            };
            self.survivors.clear();
            let mut seen = 0;
            let mut used = 0;
            while !cursor.probes.is_empty() && seen < wanted {
                let (vectors, bytes) =
                    self.first_stage(parts, codes, query, &mut cursor, &mut used, threshold);
                seen += vectors;
                stats.bytes_touched += bytes as u64;
            }
            stats.scanned += seen as u64;
            timers.lap(Piece::FirstStage);
            self.refine(parts, codes, query, best, stats);
            timers.lap(Piece::Refine);
        }
        stats.lists += probes.len() as u64;
    }

    /// Reads the first stage of a list, or of its next blocks, and adds the survivors. Returns how
    /// many vectors were seen, and the bytes of their blocks.
    fn first_stage(
        &mut self,
        parts: &Parts,
        codes: QueryModel<'_>,
        query: &Query,
        cursor: &mut Cursor<'_>,
        used: &mut usize,
        threshold: f32,
    ) -> (usize, usize) {
        let Scanner { views, scan, survivors, .. } = self;
        let [probe, following @ ..] = cursor.probes else { return (0, 0) };
        let list = probe.list as usize;
        let [start, end] = parts.list_range(list);
        let (first, count) = (start.vector as usize, (end.vector - start.vector) as usize);
        let done = cursor.done;
        let seen = (count - done).min(SCAN_BLOCKS * BLOCK);
        if done + seen == count {
            *cursor = Cursor { probes: following, done: 0 };
            if let Some(next) = following.first() {
                let [start, end] = parts.list_range(next.list as usize);
                let blocks = blocks(parts, start.block as usize..end.block as usize);
                prefetch(&blocks[..blocks.len().min(FETCHED)]);
            }
        } else {
            cursor.done += seen;
        }
        if seen == 0 {
            return (0, 0);
        }
        let block = start.block as usize + done / BLOCK;
        let piece = blocks(parts, block..block + seen.div_ceil(BLOCK));
        let rest_bytes = parts.layout.rest_bytes;
        let before = survivors.len();
        codes.scan(
            query,
            glance(parts, query, *probe),
            piece,
            seen,
            threshold,
            scan,
            |v, bound| {
                let position = first + done + v;
                if threshold < f32::INFINITY {
                    prefetch(&parts.rest[position * rest_bytes..(position + 1) * rest_bytes]);
                }
                let number = (done + v) as u32;
                survivors.push(Survivor { bound, number, view: *used, position });
            },
        );
        if survivors.len() > before {
            if let Some((centroid, _)) = parts.centroid(list) {
                prefetch(centroid);
            }
            if *used == views.len() {
                views.push(View::default());
            }
            views[*used].list = list;
            views[*used].entered = false;
            *used += 1;
        }
        (seen, piece.len())
    }

    /// Computes the keys of the survivors whose bound allows it, and keeps the best.
    fn refine(
        &mut self,
        parts: &Parts,
        codes: QueryModel<'_>,
        query: &Query,
        best: &mut Best,
        stats: &mut SearchStats,
    ) {
        let Scanner { views, refine, survivors, .. } = self;
        let rest_bytes = parts.layout.rest_bytes;
        let rest =
            |s: &Survivor| &parts.rest[s.position * rest_bytes..(s.position + 1) * rest_bytes];
        let mut threshold = best.threshold();
        if threshold == f32::INFINITY && best.capacity() < survivors.len() {
            survivors.select_nth_unstable_by(best.capacity(), |a, b| {
                a.bound.total_cmp(&b.bound).then(a.position.cmp(&b.position))
            });
        }
        let mut refined = 0;
        for (i, s) in survivors.iter().enumerate() {
            if let Some(next) = survivors.get(i + AHEAD)
                && next.bound <= threshold
            {
                prefetch(rest(next));
            }
            if s.bound > threshold {
                continue;
            }
            let view = &mut views[s.view];
            if !view.entered {
                codes.enter_list(query, parts.centroid(view.list), &mut view.query);
                view.entered = true;
                stats.bytes_touched += (parts.model.dims * 4) as u64;
            }
            let number = s.number as usize;
            let block = parts.list_range(view.list)[0].block as usize + number / BLOCK;
            let block = blocks(parts, block..block + 1);
            let key = codes.refine(query, &view.query, block, number % BLOCK, rest(s), refine);
            refined += 1;
            if key <= threshold {
                best.offer((key, parts.id(s.position), s.position));
                threshold = best.threshold();
            }
        }
        stats.refined += refined;
        stats.bytes_touched += refined * rest_bytes as u64;
    }
}

/// The bytes of some blocks.
#[inline]
fn blocks(parts: &Parts, range: Range<usize>) -> &[u8] {
    let size = parts.layout.block_bytes();
    &parts.scan[range.start * size..range.end * size]
}

/// What the first stage needs of a list: no more than ranking has found out.
fn glance(parts: &Parts, query: &Query, probe: Probe) -> Glance {
    if !parts.model.lists {
        return Glance { constant: query.constant, distance_sq: query.norm_sq };
    }
    let norm_sq = parts.list_factors[probe.list as usize].norm_sq;
    Glance {
        constant: query.constant - parts.model.alpha() * probe.dot,
        distance_sq: (query.norm_sq + norm_sq - 2.0 * probe.dot).max(0.0),
    }
}
