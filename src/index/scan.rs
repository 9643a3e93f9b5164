//! Scanning lists: first stage, then the remaining bits of survivors.
//!
//! A list may hold copies of vectors of other lists (see [`spill`](super::IndexConfig::spill)): of
//! these it has the first stage only. A copy that survives stands for its vector, unless that
//! vector's own list is searched as well and it will be met there.

use std::ops::Range;

use nonius_simd::{BLOCK, prefetch};

use super::config::SearchStats;
use super::format::Parts;
use super::rank::{Probe, Ranking};
use super::timers::{Piece, Timers};
use crate::quantizer::codec::{Query, SCAN_BLOCKS, ScanScratch};
use crate::quantizer::view::{Glance, View};
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
    views: Views,
    scan: ScanScratch,
    survivors: Vec<Survivor>,
}

/// The query as seen from those lists whose vectors were refined.
#[derive(Default)]
struct Views {
    /// The number of each list's view, or [`NO_VIEW`].
    of_list: Vec<u32>,
    /// The lists that have one.
    lists: Vec<u32>,
    views: Vec<View>,
    /// A buffer.
    centroid: Vec<f32>,
}

const NO_VIEW: u32 = u32::MAX;

impl Views {
    /// Forgets the views of the last query.
    fn reset(&mut self, nlist: usize) {
        self.of_list.resize(nlist, NO_VIEW);
        for &list in &self.lists {
            self.of_list[list as usize] = NO_VIEW;
        }
        self.lists.clear();
    }

    /// Asks for what a view from a list will be made of.
    fn fetch(&self, parts: &Parts, list: u32) {
        if self.of_list[list as usize] == NO_VIEW
            && let Some(centroid) = parts.centroid(list as usize)
        {
            prefetch(centroid.values);
        }
    }

    /// The query as seen from a list.
    fn get(&mut self, parts: &Parts, query: &Query, list: u32) -> &View {
        let view = &mut self.of_list[list as usize];
        if *view == NO_VIEW {
            *view = self.lists.len() as u32;
            self.lists.push(list);
            if self.views.len() < self.lists.len() {
                self.views.push(View::default());
            }
            let out = &mut self.views[*view as usize];
            let centroid = parts.centroid(list as usize);
            parts.codec.enter_list(query, centroid, &mut self.centroid, out);
        }
        &self.views[*view as usize]
    }
}

/// A vector that the first stage has not ruled out.
#[derive(Clone, Copy)]
struct Survivor {
    bound: f32,
    /// The vector's list.
    list: u32,
    /// The block that has its first stage, and its lane there.
    block: usize,
    lane: usize,
    /// The vector's position.
    position: usize,
}

/// How far the scan of some lists has come.
struct Cursor<'a> {
    probes: &'a [Probe],
    /// Vectors and copies of the first list that are done.
    done: usize,
}

impl Scanner {
    /// Scans the lists that were taken, in their order, and keeps the best estimates. Stops after
    /// `patience` lists, if that is not 0, which brought nothing.
    pub(super) fn scan(
        &mut self,
        parts: &Parts,
        query: &Query,
        ranking: &Ranking,
        patience: usize,
        best: &mut Best,
        stats: &mut SearchStats,
        timers: &mut Timers,
    ) {
        let mut cursor = Cursor { probes: ranking.probes(), done: 0 };
        self.views.reset(parts.nlist);
        if parts.has_copies()
            && let Some(farthest) = cursor.probes.last()
        {
            let distance_sq = farthest.distance_sq(parts, query.rotated.norm_sq);
            parts.codec.set_copies(query, distance_sq, &mut self.scan);
        }
        // Lists left when something was found last.
        let mut at_success = cursor.probes.len();
        while !cursor.probes.is_empty() {
            let threshold = best.threshold();
            let wanted = if threshold == f32::INFINITY {
                best.capacity().saturating_mul(FIRST_ROUND).max(ROUND)
            } else {
                ROUND
            };
            self.survivors.clear();
            let mut seen = 0;
            while !cursor.probes.is_empty() && seen < wanted {
                let (vectors, bytes) =
                    self.first_stage(parts, query, &mut cursor, ranking, threshold);
                seen += vectors;
                stats.bytes_touched += bytes as u64;
            }
            stats.scanned += seen as u64;
            timers.lap(Piece::FirstStage);
            if self.refine(parts, query, best, stats) || threshold == f32::INFINITY {
                at_success = cursor.probes.len();
            }
            timers.lap(Piece::Refine);
            if patience > 0 && at_success - cursor.probes.len() >= patience {
                break;
            }
        }
        stats.lists += (ranking.probes().len() - cursor.probes.len()) as u64;
        stats.bytes_touched += (self.views.lists.len() * parts.frame().dims * 2) as u64;
    }

    /// Reads the first stage of a list, or of its next blocks, and adds the survivors. Returns how
    /// many vectors and copies were seen, and the bytes that were read.
    fn first_stage(
        &mut self,
        parts: &Parts,
        query: &Query,
        cursor: &mut Cursor<'_>,
        ranking: &Ranking,
        threshold: f32,
    ) -> (usize, usize) {
        let Scanner { views, scan, survivors } = self;
        let [probe, following @ ..] = cursor.probes else { return (0, 0) };
        let [start, end] = parts.list_range(probe.list as usize);
        let vectors = (end.vector - start.vector) as usize;
        let count = vectors + (end.copy - start.copy) as usize;
        let done = cursor.done;
        let seen = (count - done).min(SCAN_BLOCKS * BLOCK);
        if done + seen == count {
            *cursor = Cursor { probes: following, done: 0 };
            if let Some(next) = following.first() {
                let [start, end] = parts.list_range(next.list as usize);
                let blocks = blocks(parts, start.block as usize..end.block as usize);
                prefetch(&blocks[..blocks.len().min(FETCHED)]);
                parts.fetch_spilled(start.copy as usize..end.copy as usize);
            }
        } else {
            cursor.done += seen;
        }
        if seen == 0 {
            return (0, 0);
        }
        let first_block = start.block as usize + done / BLOCK;
        let piece = blocks(parts, first_block..first_block + seen.div_ceil(BLOCK));
        let rest_bytes = parts.layout.rest_bytes();
        let mut survive = |v: usize, bound: f32, list: u32, number: usize, first: usize| {
            let position = first + number;
            if threshold < f32::INFINITY {
                prefetch(&parts.rest[position * rest_bytes..(position + 1) * rest_bytes]);
                views.fetch(parts, list);
            }
            let (block, lane) = (first_block + v / BLOCK, v % BLOCK);
            survivors.push(Survivor { bound, list, block, lane, position });
        };
        let here = glance(parts, query, *probe);
        let first = start.vector as usize;
        if count == vectors {
            parts.codec.scan(query, here, piece, seen, threshold, scan, |v, bound| {
                survive(v, bound, probe.list, done + v, first);
            });
            return (seen, piece.len());
        }
        let own = vectors.saturating_sub(done);
        let first_copy = start.copy as usize + done.saturating_sub(vectors);
        let copies = seen.saturating_sub(own);
        let fill = |out: &mut [f32]| parts.of_spilled_lists(first_copy, ranking.constants(), out);
        let found = |v, bound| {
            if v < own {
                survive(v, bound, probe.list, done + v, first);
                return;
            }
            // A number beyond the end of the list is damage.
            let (list, number) = parts.spilled(first_copy + v - own);
            let [first, end] = parts.list_range(list).map(|entry| entry.vector as usize);
            if number < end - first {
                survive(v, bound, list as u32, number, first);
            }
        };
        parts.codec.scan_mixed(query, here, own, fill, piece, seen, threshold, scan, found);
        (seen, piece.len() + copies * parts.place.bytes)
    }

    /// Computes the keys of the survivors whose bound allows it, and keeps the best. Returns whether
    /// there was any.
    fn refine(
        &mut self,
        parts: &Parts,
        query: &Query,
        best: &mut Best,
        stats: &mut SearchStats,
    ) -> bool {
        let Scanner { views, scan, survivors } = self;
        let rest_bytes = parts.layout.rest_bytes();
        let rest =
            |s: &Survivor| &parts.rest[s.position * rest_bytes..(s.position + 1) * rest_bytes];
        let mut threshold = best.threshold();
        let unasked = threshold == f32::INFINITY;
        if unasked && best.capacity() < survivors.len() {
            survivors.select_nth_unstable_by(best.capacity(), |a, b| {
                a.bound.total_cmp(&b.bound).then(a.position.cmp(&b.position))
            });
        }
        let mut refined = 0;
        let mut found = false;
        for (i, s) in survivors.iter().enumerate() {
            if let Some(next) = survivors.get(i + AHEAD)
                && next.bound <= threshold
            {
                prefetch(rest(next));
                if unasked {
                    views.fetch(parts, next.list);
                }
            }
            if s.bound > threshold {
                continue;
            }
            let view = views.get(parts, query, s.list);
            let block = blocks(parts, s.block..s.block + 1);
            let key = parts.codec.refine(query, view, block, s.lane, rest(s), scan);
            refined += 1;
            if key <= threshold {
                found |= best.offer((key, parts.id(s.position), s.position));
                threshold = best.threshold();
            }
        }
        stats.refined += refined;
        stats.bytes_touched += refined * rest_bytes as u64;
        found
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
    if !parts.frame().lists {
        return Glance { constant: query.rotated.constant, distance_sq: query.rotated.norm_sq };
    }
    Glance {
        constant: query.rotated.constant - parts.frame().alpha() * probe.dot,
        distance_sq: probe.distance_sq(parts, query.rotated.norm_sq),
    }
}
