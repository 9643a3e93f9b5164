//! Scanning lists: first stage, then the remaining bits of survivors.
//!
//! A list may hold copies of vectors of other lists (see [`spill`](super::IndexConfig::spill)): of
//! these it has the first stage only. A copy that survives stands for its vector, unless that
//! vector's own list is searched as well and it will be met there.

use std::ops::Range;

use nonius_simd::{BLOCK, prefetch, prefetch_later};

use super::config::SearchStats;
use super::format::Parts;
use super::rank::{Probe, Route, numbered, value_of};
use super::timers::{Piece, Timers};
use crate::quantizer::codec::{Query, SCAN_BLOCKS, ScanScratch};
use crate::quantizer::view::{Glance, View};
use crate::topk::TopK;
use crate::train::Buckets;

/// Vectors whose first stage is read before their survivors are refined, at least: enough for
/// what the survivors need to arrive from memory meanwhile, and few enough for the threshold to
/// stay close behind.
const ROUND: usize = 256;

/// Until there are `k` results nothing can be ruled out. So the first round reads the first stage
/// of this many times `k` vectors, and refines the most promising ones first.
const FIRST_ROUND: usize = 16;

/// The most vectors of a first round.
const MOST_FIRST: usize = 1 << 30;

/// Survivors whose remaining bits are on their way while one is refined.
const AHEAD: usize = 4;

/// The same in the first round, of whose survivors nothing was asked for before.
const UNASKED_AHEAD: usize = 10;

/// The most bytes of a list's first stage that are asked for ahead: more of them come by themselves, as
/// they are read one after another.
const FETCHED: usize = 16 << 10;

/// The best estimates of a query: key, id and position.
pub(super) type Best = TopK<(f32, u64, usize)>;

/// Scans lists for queries. Holds buffers only.
#[derive(Default)]
pub(super) struct Scanner {
    views: Views,
    scan: ScanScratch,
}

/// A query as seen from those lists whose vectors were refined.
#[derive(Default)]
struct Views {
    /// The number of the query's walk.
    walk: Option<usize>,
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
    /// What follows are other walks than before, whatever their numbers.
    fn forget(&mut self) {
        self.walk = None;
    }

    /// Makes the views those of a walk.
    fn serve(&mut self, nlist: usize, walk: usize) {
        if self.walk == Some(walk) {
            return;
        }
        self.walk = Some(walk);
        self.of_list.resize(nlist, NO_VIEW);
        for &list in &self.lists {
            self.of_list[list as usize] = NO_VIEW;
        }
        self.lists.clear();
    }

    /// Asks for what a view from a list will be made of.
    fn fetch(&self, parts: &Parts, list: u32) {
        if self.of_list.get(list as usize).is_none_or(|&view| view == NO_VIEW)
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

/// Vectors and copies of a list whose first stage was read together.
#[derive(Clone, Copy)]
struct Stretch {
    list: u32,
    /// Its first block.
    block: usize,
    /// What number in the list its first vector has.
    done: usize,
    /// The list's own vectors; behind them come copies.
    vectors: usize,
    /// The position of the list's first vector.
    first: usize,
    /// The place of the list's first copy.
    first_copy: usize,
}

impl Stretch {
    /// How many from its first vector on are the list's own.
    fn own(&self) -> usize {
        self.vectors.saturating_sub(self.done)
    }

    /// Number `v` of the stretch; none if it is a copy of a vector that there is not, which is damage.
    #[inline]
    fn survivor(&self, parts: &Parts, v: usize, bound: f32) -> Option<Survivor> {
        let number = self.done + v;
        let (block, lane) = (self.block + v / BLOCK, v % BLOCK);
        if let Some(copy) = number.checked_sub(self.vectors) {
            let (list, number) = parts.spilled(self.first_copy + copy);
            let [first, end] = parts.list_range(list).map(|entry| entry.vector as usize);
            let position = first + number;
            return (position < end).then_some(Survivor {
                bound,
                list: list as u32,
                block,
                lane,
                position,
            });
        }
        Some(Survivor { bound, list: self.list, block, lane, position: self.first + number })
    }

    /// Reads the first stage of the `seen` vectors and copies in `blocks`, and calls `found` with the number
    /// in the stretch and the bound of each that survives.
    fn scan(
        &self,
        parts: &Parts,
        walk: (&Query, &Route, Glance),
        blocks: &[u8],
        seen: usize,
        threshold: f32,
        scratch: &mut ScanScratch,
        found: impl FnMut(usize, f32),
    ) {
        let (query, route, here) = walk;
        let own = self.own();
        if own >= seen {
            parts.codec.scan(query, here, blocks, seen, threshold, scratch, found);
            return;
        }
        let first_copy = self.first_copy + self.done.saturating_sub(self.vectors);
        let fill = |out: &mut [f32]| parts.of_spilled_lists(first_copy, route.constants(), out);
        parts.codec.scan_mixed(query, here, own, fill, blocks, seen, threshold, scratch, found);
    }
}

/// What a first round has seen. All of it survives and little will be refined, so its places are found
/// out for that little alone.
#[derive(Default)]
struct Sight {
    /// With the number of each one's first vector.
    stretches: Vec<(u32, Stretch)>,
    /// Bounds, [`numbered`].
    keys: Vec<u64>,
    /// Vectors and copies so far.
    count: u32,
}

impl Sight {
    fn clear(&mut self) {
        self.stretches.clear();
        self.keys.clear();
        self.count = 0;
    }

    /// What a key stands for. Outliers have no part in this: they are compared as soon as they are met.
    fn survivor(&self, parts: &Parts, key: u64) -> Option<Survivor> {
        let number = key as u32;
        let (start, stretch) = self.stretches.iter().rfind(|(start, _)| *start <= number)?;
        let survivor = stretch.survivor(parts, (number - start) as usize, value_of(key))?;
        let outlier = parts.outliers.as_ref().is_some_and(|outliers| {
            survivor.list == stretch.list
                && !outliers.among(survivor.position..survivor.position + 1).is_empty()
        });
        (!outlier).then_some(survivor)
    }
}

/// A query on its way through its lists.
#[derive(Default)]
pub(super) struct Walk {
    pub(super) query: Query,
    /// The query as outliers are compared with it, if there are any.
    pub(super) exact: Vec<f32>,
    pub(super) route: Route,
    pub(super) best: Best,
    /// Among the walks that are under way.
    number: usize,
    /// Lists that are done.
    lists: usize,
    /// Vectors and copies of the next list that are done.
    done: usize,
    /// What bounds must not exceed in this round: what `best` asked for when the round began.
    threshold: f32,
    /// Vectors and copies that the round has yet to see.
    left: usize,
    /// What the round has found and not yet refined.
    survivors: Vec<Survivor>,
    /// In the first round: all but outliers.
    sight: Sight,
    /// The list of the vector that was refined last.
    entered: Option<u32>,
    /// A list that is not what was written: what is found is of no use.
    pub(super) damaged: Option<u32>,
}

impl Walk {
    /// Begins a walk: query, route and an empty `best` are set.
    fn start(&mut self, parts: &Parts, number: usize) {
        self.number = number;
        (self.lists, self.done) = (0, 0);
        self.survivors.clear();
        self.sight.clear();
        self.entered = None;
        self.damaged = None;
        if parts.has_copies()
            && let Some(farthest) = self.route.farthest()
        {
            let distance_sq = farthest.distance_sq(parts, self.query.rotated.norm_sq);
            parts.codec.set_copies(distance_sq, &mut self.query);
        }
        self.begin_round();
    }

    fn begin_round(&mut self) {
        self.threshold = self.best.threshold();
        self.left = if self.in_first_round() {
            self.best.capacity().saturating_mul(FIRST_ROUND).clamp(ROUND, MOST_FIRST)
        } else {
            ROUND
        };
    }

    /// Makes what the first `count` keys of the first round stand for survivors, in the order of the bounds.
    fn take_up(&mut self, parts: &Parts, count: usize) {
        let Walk { sight, survivors, .. } = self;
        sight.keys[..count].sort_unstable();
        let keys = sight.keys[..count].iter();
        survivors.extend(keys.filter_map(|&key| sight.survivor(parts, key)));
    }

    /// True while nothing can be ruled out.
    fn in_first_round(&self) -> bool {
        self.threshold == f32::INFINITY
    }

    fn is_over(&self) -> bool {
        self.lists == self.route.probes().len()
    }

    /// The list after the next one.
    fn upcoming(&self) -> Option<u32> {
        self.list(self.lists + 1)
    }

    fn list(&self, number: usize) -> Option<u32> {
        self.route.probes().get(number).map(|probe| probe.list)
    }
}

impl Scanner {
    /// Walks through all lists, or until `patience` of them, if that is not 0, have brought nothing.
    pub(super) fn scan(
        &mut self,
        parts: &Parts,
        walk: &mut Walk,
        patience: usize,
        stats: &mut SearchStats,
        timers: &mut Timers,
    ) {
        self.views.forget();
        walk.start(parts, 0);
        // Lists that were done when something was found last.
        let mut success = 0;
        while !walk.is_over() {
            let Some(found) = self.advance(parts, walk, walk.upcoming(), stats, timers) else {
                continue;
            };
            if found {
                success = walk.lists;
            }
            if patience > 0 && walk.lists - success >= patience {
                break;
            }
        }
        stats.lists += walk.lists as u64;
    }

    /// Takes many walks to their ends, each with the results of [`scan`](Scanner::scan): first through
    /// the lists that come by rank, one walk after the other; then all together list by list, so
    /// that the first stage of a list comes from memory once for all of them.
    pub(super) fn scan_together(
        &mut self,
        parts: &Parts,
        walks: &mut [Walk],
        stats: &mut SearchStats,
        timers: &mut Timers,
    ) {
        self.views.forget();
        for (number, walk) in walks.iter_mut().enumerate() {
            walk.start(parts, number);
            while walk.lists < walk.route.lead() {
                self.advance(parts, walk, walk.upcoming(), stats, timers);
            }
            self.settle(parts, walk, stats, timers);
        }
        let (mut walk_of, mut list_of) = (Vec::new(), Vec::new());
        for walk in walks.iter() {
            let lists = walk.route.probes()[walk.lists..].iter().map(|probe| probe.list);
            list_of.extend(lists);
            walk_of.resize(list_of.len(), walk.number);
        }
        let visits = Buckets::new(parts.nlist, &list_of);
        let mut lists = (0..parts.nlist as u32)
            .filter(|&list| !visits.members(list as usize).is_empty())
            .peekable();
        // The walk whose survivors are on their way from memory while another one scans.
        let mut waiting: Option<usize> = None;
        while let Some(list) = lists.next() {
            let upcoming = lists.peek().copied();
            // All scan some blocks of the list, and then all the next ones.
            let mut unread = true;
            while unread {
                unread = false;
                for &visit in visits.members(list as usize) {
                    let number = walk_of[visit as usize];
                    if waiting == Some(number) {
                        self.settle(parts, &mut walks[number], stats, timers);
                        waiting = None;
                    }
                    let walk = &mut walks[number];
                    if walk.list(walk.lists) != Some(list) {
                        continue;
                    }
                    self.advance(parts, walk, upcoming, stats, timers);
                    unread |= walk.list(walk.lists) == Some(list);
                    if let Some(number) = waiting.replace(number) {
                        self.settle(parts, &mut walks[number], stats, timers);
                    }
                }
            }
        }
        for walk in walks {
            self.settle(parts, walk, stats, timers);
            stats.lists += walk.lists as u64;
        }
    }

    /// Reads the first stage of a list, or of its next blocks. If that ends the round, refines what is
    /// left and returns whether the round has found something: the first one always has.
    fn advance(
        &mut self,
        parts: &Parts,
        walk: &mut Walk,
        upcoming: Option<u32>,
        stats: &mut SearchStats,
        timers: &mut Timers,
    ) -> Option<bool> {
        self.first_stage(parts, walk, upcoming, stats);
        timers.lap(Piece::FirstStage);
        if walk.left > 0 && !walk.is_over() {
            return None;
        }
        let found = self.refine(parts, walk, stats) || walk.in_first_round();
        walk.begin_round();
        timers.lap(Piece::Refine);
        Some(found)
    }

    /// Refines what a round has found so far. That changes no result: until the round ends, the
    /// first stage goes by the threshold that it began with. (In the first round the most
    /// promising of all come first.)
    fn settle(
        &mut self,
        parts: &Parts,
        walk: &mut Walk,
        stats: &mut SearchStats,
        timers: &mut Timers,
    ) {
        if !walk.survivors.is_empty() && !walk.in_first_round() {
            self.refine(parts, walk, stats);
            timers.lap(Piece::Refine);
        }
    }

    /// Reads the first stage of a walk's next list, or of its next blocks, and adds the survivors;
    /// `upcoming` is a list that will be read soon.
    fn first_stage(
        &mut self,
        parts: &Parts,
        walk: &mut Walk,
        upcoming: Option<u32>,
        stats: &mut SearchStats,
    ) {
        let Scanner { views, scan } = self;
        let Some(&probe) = walk.route.probes().get(walk.lists) else { return };
        if walk.done == 0 && !parts.list_is_whole(probe.list as usize) {
            walk.damaged = Some(probe.list);
        }
        let Walk { query, exact, route, survivors, sight, threshold, .. } = walk;
        let threshold = *threshold;
        let [start, end] = parts.list_range(probe.list as usize);
        let vectors = (end.vector - start.vector) as usize;
        let count = vectors + (end.copy - start.copy) as usize;
        let done = walk.done;
        let seen = (count - done).min(SCAN_BLOCKS * BLOCK);
        if done + seen == count {
            (walk.lists, walk.done) = (walk.lists + 1, 0);
            if let Some(next) = upcoming {
                fetch_list(parts, next);
            }
        } else {
            walk.done += seen;
        }
        walk.left = walk.left.saturating_sub(seen);
        if seen == 0 {
            return;
        }
        let first_block = start.block as usize + done / BLOCK;
        let piece = blocks(parts, first_block..first_block + seen.div_ceil(BLOCK));
        stats.scanned += seen as u64;
        stats.bytes_touched += piece.len() as u64;
        let rest_bytes = parts.layout.rest_bytes();
        let first = start.vector as usize;
        // Vectors that are compared exactly: their codes are left out below.
        let exactly = parts.outliers.as_ref().map(|outliers| {
            (
                outliers,
                outliers.among(first + done.min(vectors)..first + (done + seen).min(vectors)),
            )
        });
        if let Some((outliers, numbers)) = &exactly {
            stats.bytes_touched += (numbers.len() * outliers.row_bytes()) as u64;
            for number in numbers.clone() {
                let (bound, position) = (outliers.key(exact, number), outliers.position(number));
                if bound <= threshold {
                    let (block, lane) = (first_block, 0);
                    survivors.push(Survivor { bound, list: probe.list, block, lane, position });
                }
            }
        }
        let stretch = Stretch {
            list: probe.list,
            block: first_block,
            done,
            vectors,
            first,
            first_copy: start.copy as usize,
        };
        stats.bytes_touched += (seen.saturating_sub(stretch.own()) * parts.place.bytes) as u64;
        let of_walk = (&*query, &*route, glance(parts, query, probe));
        if threshold == f32::INFINITY {
            let first = sight.count;
            sight.stretches.push((first, stretch));
            sight.count += seen as u32;
            let keys = &mut sight.keys;
            stretch.scan(parts, of_walk, piece, seen, threshold, scan, |v, bound| {
                keys.push(numbered(bound, first + v as u32));
            });
            return;
        }
        stretch.scan(parts, of_walk, piece, seen, threshold, scan, |v, bound| {
            let Some(survivor) = stretch.survivor(parts, v, bound) else { return };
            let position = survivor.position;
            if let Some((outliers, numbers)) = &exactly
                && outliers.find(numbers.clone(), position).is_some()
            {
                return;
            }
            prefetch(&parts.rest[position * rest_bytes..(position + 1) * rest_bytes]);
            parts.fetch_id(position);
            views.fetch(parts, survivor.list);
            survivors.push(survivor);
        });
    }

    /// Computes the keys of what the round has found whose bound allows it, and keeps the best. Returns
    /// whether there was any.
    fn refine(&mut self, parts: &Parts, walk: &mut Walk, stats: &mut SearchStats) -> bool {
        if !walk.in_first_round() {
            return self.refine_survivors(parts, walk, stats);
        }
        // The most promising ones, then those that the results allow, both in the order of their bounds.
        // (What is among the survivors already are outliers.)
        let keys = &mut walk.sight.keys;
        let most = walk.best.capacity().min(keys.len());
        if most < keys.len() {
            keys.select_nth_unstable(most);
        }
        walk.take_up(parts, most);
        let found = self.refine_survivors(parts, walk, stats);
        let threshold = walk.best.threshold();
        let keys = &mut walk.sight.keys;
        keys.drain(..most);
        keys.retain(|&key| value_of(key) <= threshold);
        walk.take_up(parts, walk.sight.keys.len());
        let more = self.refine_survivors(parts, walk, stats);
        walk.sight.clear();
        found | more
    }

    /// Computes the keys of the survivors whose bound allows it, and keeps the best. Returns whether
    /// there was any.
    fn refine_survivors(
        &mut self,
        parts: &Parts,
        walk: &mut Walk,
        stats: &mut SearchStats,
    ) -> bool {
        let unasked = walk.in_first_round();
        let Scanner { views, scan } = self;
        let Walk { query, exact, best, survivors, number, entered, damaged, .. } = walk;
        views.serve(parts.nlist, *number);
        let rest_bytes = parts.layout.rest_bytes();
        let rest =
            |s: &Survivor| &parts.rest[s.position * rest_bytes..(s.position + 1) * rest_bytes];
        let mut threshold = best.threshold();
        let fetch = |views: &Views, s: &Survivor| {
            prefetch(rest(s));
            if unasked {
                parts.fetch_id(s.position);
                views.fetch(parts, s.list);
            }
        };
        let ahead = if unasked { UNASKED_AHEAD } else { AHEAD };
        if unasked {
            survivors.iter().take(ahead).for_each(|s| fetch(views, s));
        }
        let (mut refined, mut entries, mut found) = (0, 0, false);
        for (i, s) in survivors.iter().enumerate() {
            if let Some(next) = survivors.get(i + ahead)
                && next.bound <= threshold
            {
                fetch(views, next);
            }
            if s.bound > threshold {
                continue;
            }
            // What a copy stands for may be in a list that is not searched.
            if parts.has_copies() && !parts.list_is_whole(s.list as usize) {
                *damaged = Some(s.list);
            }
            let key = match parts.exact_key(exact, s.position) {
                Some(key) => key,
                None => {
                    let view = views.get(parts, query, s.list);
                    let block = blocks(parts, s.block..s.block + 1);
                    // With what lies behind it, which a kernel may read but does not look at.
                    let rest = &parts.rest[s.position * rest_bytes..];
                    parts.codec.refine(query, view, block, s.lane, rest, scan)
                }
            };
            refined += 1;
            entries += usize::from(entered.replace(s.list) != Some(s.list));
            if key <= threshold {
                found |= best.offer((key, parts.id(s.position), s.position));
                threshold = best.threshold();
            }
        }
        survivors.clear();
        stats.refined += refined as u64;
        stats.bytes_touched += (refined * rest_bytes + entries * parts.frame().dims * 2) as u64;
        found
    }
}

/// Asks for the first stage of a list that will be read soon.
///
/// Into the second cache: the first one has requests for few lines under way at a time, and while a list
/// is fetched another one is read.
pub(super) fn fetch_list(parts: &Parts, list: u32) {
    let [start, end] = parts.list_range(list as usize);
    let blocks = blocks(parts, start.block as usize..end.block as usize);
    prefetch_later(&blocks[..blocks.len().min(FETCHED)]);
    parts.fetch_spilled(start.copy as usize..end.copy as usize);
}

/// The bytes of some blocks.
#[inline]
fn blocks(parts: &Parts, range: Range<usize>) -> &[u8] {
    let size = parts.layout.block_bytes();
    &parts.scan[range.start * size..range.end * size]
}

/// What the first stage needs of a list: no more than ranking has found out.
pub(super) fn glance(parts: &Parts, query: &Query, probe: Probe) -> Glance {
    if !parts.frame().lists {
        return Glance { constant: query.rotated.constant, distance_sq: query.rotated.norm_sq };
    }
    Glance {
        constant: query.rotated.constant - parts.frame().alpha() * probe.dot,
        distance_sq: probe.distance_sq(parts, query.rotated.norm_sq),
    }
}
