//! The parts of a batch: several are on their way at a time, each at another step.

use std::time::Instant;

use nonius::{Neighbor, SearchParams};
use rayon::prelude::*;

use crate::context::Pending;
use crate::error::GpuError;
use crate::kernels::unordered;
use crate::prepare::{Batch, Pairs, Sizes, Work, plan};
use crate::search::{Found, GpuTimings, MOST_RANKED, Scan, Workspace, scan_kernel};
use crate::upload::{GpuIndex, Refine};

/// Queries of a batch that go to the device together, at most.
const MOST_QUERIES: usize = 1024;

/// A batch goes to the device in so many parts,
const PARTS: usize = 4;

/// if they have at least so many queries.
const LEAST_QUERIES: usize = 256;

/// Queries, ready to go to the device together.
#[derive(Default)]
pub(crate) struct Ready {
    batch: Batch,
    pairs: Pairs,
    /// The work of the scan of first candidates, and of that of all.
    work: [Vec<Work>; 2],
    /// How long it took.
    seconds: f64,
}

/// Queries (`rows x dim`) whose results are on their way.
struct Sent<'q, 'c> {
    rows: &'q [f32],
    ready: Ready,
    room: usize,
    pending: Pending<'c>,
}

/// A search of many queries, and what it needs.
pub(crate) struct Run<'a, 'i> {
    pub(crate) index: &'a GpuIndex<'i>,
    pub(crate) k: usize,
    pub(crate) held: usize,
    pub(crate) params: &'a SearchParams,
    pub(crate) timed: bool,
    pub(crate) workspace: Workspace,
    pub(crate) timings: &'a mut GpuTimings,
}

impl<'a, 'i> Run<'a, 'i> {
    /// Parts of the queries follow each other: while one is on the device, the next one is sent after it, the work of
    /// a third one is laid out, and a fourth one is compared with lists; results of the one before become neighbours.
    pub(crate) fn all<T: Outcome>(&mut self, queries: &[f32]) -> Result<Vec<T>, GpuError> {
        let dim = self.index.index.dim();
        let rows = queries.len() / dim;
        let part = rows.div_ceil(PARTS).clamp(LEAST_QUERIES, MOST_QUERIES);
        if rows > 0 && rows <= part {
            return self.whole(queries);
        }
        let mut parts = queries.chunks(part * dim);
        let mut all = Vec::with_capacity(rows);
        let mut set_out: Option<(&[f32], Ready)> = None;
        let mut ready: Option<(&[f32], Ready)> = None;
        let mut sent: Option<Sent<'_, 'a>> = None;
        let mut arrived: Option<Arrived<'_, T>> = None;
        loop {
            let next = parts.next().map(|rows| (rows, self.spare()));
            if next.is_none()
                && set_out.is_none()
                && ready.is_none()
                && sent.is_none()
                && arrived.is_none()
            {
                return Ok(all);
            }
            let Run { index, k, held, params, .. } = *self;
            let (to_plan, to_send) = (set_out.take(), ready.take());
            let (to_receive, to_finish) = (sent.take(), arrived.take());
            let on_device = || {
                let current = to_send.map(|(rows, ready)| self.send(rows, ready)).transpose()?;
                let received = to_receive.map(|sent| self.receive(sent)).transpose()?;
                Ok::<_, GpuError>((current, received))
            };
            let start = || {
                next.map(|(rows, spare)| {
                    Ok::<_, GpuError>((rows, index.set_out(rows, k, params, spare)?))
                })
                .transpose()
            };
            let plan = || to_plan.map(|(rows, ready)| (rows, index.plan(held, ready)));
            let finish = || to_finish.map(|arrived| index.finish(arrived, k, params)).transpose();
            let (done, ((planned, finished), started)) =
                rayon::join(on_device, || rayon::join(|| rayon::join(plan, finish), start));
            let (current, received) = done?;
            let finished = finished?;
            self.take_in(finished, &mut all);
            arrived = received;
            (ready, set_out) = (planned, started?);
            match current {
                Some(Fate::Sent(current)) => sent = Some(*current),
                Some(Fate::TooMany(rows)) => {
                    // In their order.
                    let before = arrived.take().map(|arrived| index.finish(arrived, k, params));
                    self.take_in(before.transpose()?, &mut all);
                    let found = self.halves(rows)?;
                    all.extend(found);
                }
                None => {}
            }
        }
    }

    /// Takes results to those that are there already.
    fn take_in<T>(&mut self, finished: Option<Finished<T>>, all: &mut Vec<T>) {
        if let Some((results, seconds)) = finished {
            all.extend(results);
            self.timings.finish += seconds;
        }
    }

    /// Memory for a part.
    fn spare(&mut self) -> Ready {
        self.workspace.spare.pop().unwrap_or_default()
    }

    /// One step after the other, for what is one part.
    fn whole<T: Outcome>(&mut self, rows: &[f32]) -> Result<Vec<T>, GpuError> {
        let spare = self.spare();
        let ready = self.index.set_out(rows, self.k, self.params, spare)?;
        let ready = self.index.plan(self.held, ready);
        match self.send(rows, ready)? {
            Fate::Sent(sent) => {
                let arrived = self.receive(*sent)?;
                let finished = self.index.finish(arrived, self.k, self.params)?;
                let mut all = Vec::new();
                self.take_in(Some(finished), &mut all);
                Ok(all)
            }
            Fate::TooMany(rows) => self.halves(rows),
        }
    }

    /// What are too many queries for the device at a time: one half after the other.
    fn halves<T: Outcome>(&mut self, rows: &[f32]) -> Result<Vec<T>, GpuError> {
        let dim = self.index.index.dim();
        let half = (rows.len() / dim).div_ceil(2) * dim;
        let mut all = Vec::new();
        for rows in rows.chunks(half) {
            all.extend(self.whole(rows)?);
        }
        Ok(all)
    }

    /// Sends prepared queries to the device, unless they are too many for it.
    fn send<'q>(&mut self, rows: &'q [f32], ready: Ready) -> Result<Fate<'q, 'a>, GpuError> {
        let clock = Instant::now();
        let index = self.index;
        let room = match self.held > MOST_RANKED {
            // All of them are candidates.
            true => ready.pairs.vectors.iter().copied().max().unwrap_or(0) as usize,
            false => self.workspace.room,
        };
        let sizes = Sizes::of(&index.shape, index.raw.dims());
        let Ready { batch, pairs, work, .. } = &ready;
        let kernel = &scan_kernel(index, pairs);
        let scan = Scan { index, batch, pairs, sizes, held: self.held, kernel, work };
        if batch.rows > 1 && scan.too_large(room, index.context.binding_limit()) {
            self.workspace.spare.push(ready);
            return Ok(Fate::TooMany(rows));
        }
        let pending = scan.send(index.context, room, self.timed, &mut self.workspace)?;
        self.timings.device += clock.elapsed().as_secs_f64();
        Ok(Fate::Sent(Box::new(Sent { rows, ready, room, pending })))
    }

    /// Waits for the results of queries.
    fn receive<'q, T: Outcome>(&mut self, sent: Sent<'q, '_>) -> Result<Arrived<'q, T>, GpuError> {
        let clock = Instant::now();
        let Sent { rows, ready, room, pending } = sent;
        let (results, seconds) = pending.wait()?;
        self.timings.kernels.extend(seconds);
        self.timings.device += clock.elapsed().as_secs_f64();
        let (found, counts) = self.index.found(&results, ready.batch.rows, self.held);
        let needed = counts.iter().copied().max().unwrap_or(0) as usize;
        if needed > room {
            self.workspace.room = self.workspace.room.max(needed.next_power_of_two());
            return match self.send(rows, ready)? {
                Fate::Sent(sent) => self.receive(*sent),
                Fate::TooMany(rows) => Ok(Arrived::Finished(self.halves(rows)?)),
            };
        }
        self.timings.prepare += ready.seconds;
        let (pairs, shape) = (&ready.pairs, &self.index.shape);
        let stats = &mut self.timings.stats;
        let refined = counts.iter().map(|&count| u64::from(count)).sum::<u64>();
        let scanned: u64 =
            pairs.first.iter().chain(&pairs.vectors).map(|&count| u64::from(count)).sum();
        stats.lists += pairs.pairs.len() as u64;
        stats.scanned += scanned;
        stats.bytes_touched += scanned * (4 * shape.stride) as u64;
        if !matches!(shape.refine, Refine::None) {
            stats.refined += refined;
            stats.bytes_touched += refined * (4 * shape.row_words()) as u64;
        }
        if self.params.rerank > 0 {
            stats.reranked += (found.len() * self.held) as u64;
        }
        self.workspace.spare.push(ready);
        Ok(Arrived::Found(rows, found))
    }
}

/// Results of queries, and how long the last step took.
type Finished<T> = (Vec<T>, f64);

/// Queries (`rows x dim`) and what was found for each; or results already, where they had to be sent again by halves.
enum Arrived<'q, T> {
    Found(&'q [f32], Vec<Found>),
    Finished(Vec<T>),
}

/// What became of queries that were to be sent.
enum Fate<'q, 'c> {
    Sent(Box<Sent<'q, 'c>>),
    TooMany(&'q [f32]),
}

impl GpuIndex<'_> {
    /// Prepares queries (`rows x dim`) that go to the device together: their tables, and the lists to search.
    fn set_out(
        &self,
        rows: &[f32],
        k: usize,
        params: &SearchParams,
        mut ready: Ready,
    ) -> Result<Ready, GpuError> {
        let clock = Instant::now();
        let sizes = Sizes::of(&self.shape, self.raw.dims());
        ready.batch.fill(self, sizes, rows, k, params)?;
        ready.seconds = clock.elapsed().as_secs_f64();
        Ok(ready)
    }

    /// Lays out the work for queries that are prepared.
    fn plan(&self, held: usize, mut ready: Ready) -> Ready {
        let clock = Instant::now();
        let Ready { batch, pairs, .. } = &mut ready;
        let seeds = self.first_candidates(batch, held);
        pairs.fill(self, batch, seeds);
        let together = scan_kernel(self, pairs).0;
        let first = || match seeds {
            0 => Vec::new(),
            _ => plan(self, pairs, Some(seeds), together),
        };
        let (first, all) = rayon::join(first, || plan(self, pairs, None, together));
        ready.work = [first, all];
        ready.seconds += clock.elapsed().as_secs_f64();
        ready
    }

    /// Turns what was found into results.
    fn finish<T: Outcome>(
        &self,
        arrived: Arrived<'_, T>,
        k: usize,
        params: &SearchParams,
    ) -> Result<Finished<T>, GpuError> {
        let clock = Instant::now();
        match arrived {
            Arrived::Found(rows, found) => {
                let results = T::of(self, rows, found, k, params)?;
                Ok((results, clock.elapsed().as_secs_f64()))
            }
            Arrived::Finished(results) => Ok((results, 0.0)),
        }
    }
}

/// What a search is for.
pub(crate) trait Outcome: Send + Sized {
    /// Makes it of queries (`rows x dim`) and what was found for each, keys and ranks.
    fn of(
        index: &GpuIndex<'_>,
        rows: &[f32],
        found: Vec<Found>,
        k: usize,
        params: &SearchParams,
    ) -> Result<Vec<Self>, GpuError>;
}

impl Outcome for Found {
    fn of(
        _: &GpuIndex<'_>,
        _: &[f32],
        found: Vec<Found>,
        _: usize,
        _: &SearchParams,
    ) -> Result<Vec<Found>, GpuError> {
        Ok(found)
    }
}

/// Neighbours, reranked if asked.
impl Outcome for Vec<Neighbor> {
    fn of(
        index: &GpuIndex<'_>,
        rows: &[f32],
        found: Vec<Found>,
        k: usize,
        params: &SearchParams,
    ) -> Result<Vec<Vec<Neighbor>>, GpuError> {
        // Without rerank it is little: the way to other threads has to pay.
        let least = if params.rerank > 0 { 1 } else { 32 };
        let tasks: Vec<Result<Vec<Neighbor>, GpuError>> = found
            .par_iter()
            .with_min_len(least)
            .zip(rows.par_chunks_exact(index.index.dim()))
            .map_init(
                || index.searcher(),
                |lent, (found, query)| {
                    let searcher = &mut lent.searcher;
                    let found = found.iter().filter_map(|&[key, rank]| {
                        let position = *index.positions.get(rank as usize)?;
                        Some((unordered(key), position as usize))
                    });
                    Ok(searcher.finish(query, found, k, params)?.to_vec())
                },
            )
            .collect();
        tasks.into_iter().collect()
    }
}
