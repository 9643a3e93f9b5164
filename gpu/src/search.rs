//! Searching on the device.

use std::collections::HashMap;

use nonius::raw::RawSearcher;
use nonius::{MatrixView, Neighbor, SearchParams, SearchStats};
use rayon::prelude::*;

use crate::context::{GpuContext, Pending, Recorder, lock};
use crate::error::GpuError;
use crate::kernels::{self, Kernel, NONE, Pair};
use crate::pipeline::{Outcome, Ready, Run};
use crate::prepare::{Batch, Pairs, Sizes, Work};
use crate::upload::{GpuIndex, Refine};

/// Candidates that there is room for at first, for each query.
const ROOM: usize = 2048;

/// How many results can be ranked on the device. More are selected there, and put in order by the processor.
pub(crate) const MOST_RANKED: usize = kernels::top::MOST as usize;

/// First candidates of a query are at least so many, and so many times `k`.
const FIRST: (usize, usize) = (1024, 16);

/// What is kept between searches: buffers by name and number, the room that candidates last took, and the
/// memory of batches that were prepared.
#[derive(Default)]
pub(crate) struct Workspace {
    buffers: HashMap<(&'static str, usize), wgpu::Buffer>,
    pub(crate) room: usize,
    pub(crate) spare: Vec<Ready>,
}

/// How long the stages of one or more searches took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GpuTimings {
    /// Seconds of each kernel on the device, in the order in which they ran; empty where the adapter does
    /// not tell.
    pub kernels: Vec<(&'static str, f64)>,
    /// Seconds of preparing queries on the processor. Parts of a large batch are prepared, on the device and finished
    /// at the same time, so these three together can be more than the search took.
    pub prepare: f64,
    /// Seconds of sending queries to the device and of waiting for results.
    pub device: f64,
    /// Seconds of turning results into neighbours, and of rerank.
    pub finish: f64,
    /// What was done. First candidates count twice among the scanned; bytes are those of codes alone, and
    /// what queries of a batch read together counts for each of them.
    pub stats: SearchStats,
}

impl<'a> GpuIndex<'a> {
    /// Finds the `k` nearest neighbours of each query (`rows x dim`), best first.
    ///
    /// A query means what it means to [`Index::search_batch`](nonius::Index::search_batch), and keys come from
    /// the same formulas: sums of integers are the same to the bit, and distances differ by rounding alone. Tests
    /// hold them to `1e-4` of the largest distance that is found for the query, or of 1 where that is less.
    ///
    /// As there a vector is given up after the first stage if its bound exceeds what is asked for; the order in which
    /// vectors are looked at is another one, so of vectors that are found in spite of a bound above their distance
    /// other ones may be found.
    ///
    /// # Errors
    /// [`GpuError::Search`] as for a search on the processor; [`GpuError::Unsupported`] for
    /// [`patience`](SearchParams::patience); [`GpuError::OutOfMemory`], [`GpuError::TooLarge`],
    /// [`GpuError::Lost`], [`GpuError::Device`].
    pub fn search_batch(
        &self,
        queries: MatrixView<'_>,
        k: usize,
        params: &SearchParams,
    ) -> Result<Vec<Vec<Neighbor>>, GpuError> {
        Ok(self.run(queries, k, params, false)?.0)
    }

    /// [`search_batch`](GpuIndex::search_batch), and where its time went.
    ///
    /// # Errors
    /// As [`search_batch`](GpuIndex::search_batch).
    pub fn search_batch_timed(
        &self,
        queries: MatrixView<'_>,
        k: usize,
        params: &SearchParams,
    ) -> Result<(Vec<Vec<Neighbor>>, GpuTimings), GpuError> {
        self.run(queries, k, params, true)
    }

    fn run(
        &self,
        queries: MatrixView<'_>,
        k: usize,
        params: &SearchParams,
        timed: bool,
    ) -> Result<(Vec<Vec<Neighbor>>, GpuTimings), GpuError> {
        let (expected, found) = (self.index.dim(), queries.dim());
        if found != expected {
            return Err(nonius::VectorError::DimMismatch { expected, found }.into());
        }
        params.validate(k)?;
        if params.patience > 0 {
            let what = "with patience, which goes by the order of lists".to_owned();
            return Err(GpuError::Unsupported { what });
        }
        let held = self.raw.searcher().held(k, params);
        let mut timings = GpuTimings::default();
        let found = match self.share {
            None => self.here(queries, k, held, params, timed, &mut timings)?,
            Some(share) => self.streamed(share, queries, k, held, params, timed, &mut timings)?,
        };
        Ok((found, timings))
    }

    /// A search of what lies on the device.
    pub(crate) fn here<T: Outcome>(
        &self,
        queries: MatrixView<'_>,
        k: usize,
        held: usize,
        params: &SearchParams,
        timed: bool,
        timings: &mut GpuTimings,
    ) -> Result<Vec<T>, GpuError> {
        // Taken, not locked: a thread that waits may be given another search meanwhile.
        let mut workspace = std::mem::take(&mut *lock(&self.workspace));
        workspace.room = workspace.room.max(ROOM);
        let mut search = Run { index: self, k, held, params, timed, workspace, timings };
        // In the pool of threads once, and not with every step again.
        let found = rayon::scope(|_| search.all(queries.data()));
        *lock(&self.workspace) = search.workspace;
        found
    }

    /// A searcher, one that has its buffers if there is one.
    pub(crate) fn searcher(&self) -> Lent<'_, 'a> {
        let kept = lock(&self.searchers).pop();
        Lent { index: self, searcher: kept.unwrap_or_else(|| self.raw.searcher()) }
    }

    /// The best of each query, key and rank, and how many candidates each had, of what came from the device.
    pub(crate) fn found(
        &self,
        results: &[Vec<u32>],
        queries: usize,
        held: usize,
    ) -> (Vec<Found>, Vec<u32>) {
        let counts = results[1][queries..].to_vec();
        let found = results[0]
            .as_chunks::<2>()
            .0
            .par_chunks(held)
            .map(|own| {
                let mut own: Found = own.iter().copied().filter(|entry| entry[1] != NONE).collect();
                if held > MOST_RANKED {
                    own.sort_unstable();
                }
                own
            })
            .collect();
        (found, counts)
    }

    /// How many first candidates a query should have: enough for the limit that comes from them to leave few of the
    /// others.
    pub(crate) fn first_candidates(&self, batch: &Batch, held: usize) -> usize {
        if held > MOST_RANKED {
            return 0;
        }
        let vectors = self.index.len() / self.lists.len().max(1) * batch.probes();
        let searched = vectors / batch.rows.max(1);
        let balanced = (8.0 * searched as f64 * held as f64).sqrt() as usize;
        balanced.max(FIRST.0).max(FIRST.1 * held)
    }
}

/// What was found for a query: keys and ranks, the best first.
pub(crate) type Found = Vec<[u32; 2]>;

/// A searcher of an index's, which keeps it when this is dropped.
pub(crate) struct Lent<'p, 'a> {
    index: &'p GpuIndex<'a>,
    pub(crate) searcher: RawSearcher<'a>,
}

impl Drop for Lent<'_, '_> {
    fn drop(&mut self) {
        let searcher = std::mem::replace(&mut self.searcher, self.index.raw.searcher());
        lock(&self.index.searchers).push(searcher);
    }
}

/// One batch on the device.
pub(crate) struct Scan<'a, 'i> {
    pub(crate) index: &'a GpuIndex<'i>,
    pub(crate) batch: &'a Batch,
    pub(crate) pairs: &'a Pairs,
    pub(crate) sizes: Sizes,
    pub(crate) held: usize,
    /// As [`Ready`] has them.
    pub(crate) kernel: &'a (usize, u32, Kernel),
    pub(crate) work: &'a [Vec<Work>; 2],
}

impl Workspace {
    /// A buffer of at least so many bytes.
    fn room(
        &mut self,
        index: &GpuIndex<'_>,
        what: &'static str,
        bytes: u64,
    ) -> Result<wgpu::Buffer, GpuError> {
        self.numbered(index, (what, 0), bytes)
    }

    /// One of several buffers.
    fn numbered(
        &mut self,
        index: &GpuIndex<'_>,
        which: (&'static str, usize),
        bytes: u64,
    ) -> Result<wgpu::Buffer, GpuError> {
        match self.buffers.get(&which) {
            Some(buffer) if buffer.size() >= bytes => Ok(buffer.clone()),
            _ => {
                // The old one goes first.
                self.buffers.remove(&which);
                let wanted = bytes.next_power_of_two().min(index.context.binding_limit());
                let buffer = index.context.buffer(which.0, wanted.max(bytes))?;
                self.buffers.insert(which, buffer.clone());
                Ok(buffer)
            }
        }
    }

    /// A buffer with contents.
    fn filled<T: bytemuck::Pod>(
        &mut self,
        index: &GpuIndex<'_>,
        what: &'static str,
        values: &[T],
    ) -> Result<wgpu::Buffer, GpuError> {
        let buffer = self.room(index, what, size_of_val(values) as u64)?;
        index.context.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(values));
        Ok(buffer)
    }
}

impl Scan<'_, '_> {
    fn queries(&self) -> usize {
        self.batch.rows
    }

    /// First candidates of the query that has the most.
    fn most_first(&self) -> usize {
        self.pairs.first.iter().copied().max().unwrap_or(0) as usize
    }

    /// Whether a buffer would be larger than what the device binds, with room for so many candidates of each query.
    pub(crate) fn too_large(&self, room: usize, limit: u64) -> bool {
        let Sizes { table, refine, query, .. } = self.sizes;
        let tables = (4 * self.queries() * table.max(refine).max(query)) as u64;
        let candidates = (self.queries() * room.max(self.most_first()) * 16) as u64;
        let views = (self.pairs.pairs.len() * self.index.shape.view() * 4) as u64;
        let results = (self.queries() * self.held * 8) as u64;
        candidates.max(views).max(tables).max(results) > limit
    }

    /// Sends all stages to the device. Results are what [`GpuIndex::found`] takes.
    pub(crate) fn send<'c>(
        &self,
        context: &'c GpuContext,
        room: usize,
        timed: bool,
        workspace: &mut Workspace,
    ) -> Result<Pending<'c>, GpuError> {
        let Scan { index, batch, pairs, sizes, held, .. } = *self;
        let shape = &index.shape;
        let queries = self.queries();
        let ranked = held <= MOST_RANKED;
        let chosen = (4 * held).next_power_of_two().clamp(64, MOST_RANKED);
        let refines = !matches!(shape.refine, Refine::None);
        let most_first = if ranked { self.most_first() } else { 0 };
        let Pairs { pairs: all, first, .. } = pairs;

        let mut state = vec![NONE; queries];
        state.extend(if ranked { first.clone() } else { vec![0; queries] });
        let state = workspace.filled(index, "state", &state)?;
        let pair_buffer = workspace.filled::<Pair>(index, "pairs", all)?;
        let tables = workspace.filled(index, "tables", &batch.tables)?;
        let views_bytes = (all.len() * shape.view() * 4) as u64;
        let views = workspace.room(index, "views", views_bytes)?;
        let candidates = workspace.room(index, "candidates", (queries * room * 16) as u64)?;
        let seeds =
            workspace.room(index, "first candidates", (queries * most_first * 16) as u64)?;
        let chosen_buffer = workspace.room(index, "chosen", (queries * chosen * 16) as u64)?;
        let best = workspace.room(index, "best", (queries * chosen * 8) as u64)?;
        let limits = workspace.room(index, "limits", (queries * chosen * 8) as u64)?;
        let refine_tables = workspace.filled(index, "refine tables", &batch.refine)?;
        let query_buffer = workspace.filled(index, "queries", &batch.queries)?;
        let stage = Stage {
            scan: self,
            state: &state,
            pairs: &pair_buffer,
            tables: &tables,
            refine_tables: &refine_tables,
            views: &views,
        };

        let mut recorder = context.record(timed);
        let recorder_ref = &mut recorder;
        if refines {
            recorder_ref.dispatch(
                &kernels::views::kernel(),
                all.len() as u32,
                |grid_x| kernels::views::Params {
                    pairs: all.len() as u32,
                    grid_x,
                    dims: index.raw.dims() as u32,
                    segments: shape.segments() as u32,
                    pieces: shape.pieces.len() as u32,
                    query: sizes.query as u32,
                    lists: u32::from(index.raw.lists()),
                    distance: u32::from(index.raw.is_distance()),
                },
                &[
                    &pair_buffer,
                    &query_buffer,
                    &index.centroids,
                    &index.list_factors,
                    &index.lengths,
                    &views,
                ],
            )?;
        }
        if most_first > 0 {
            stage.scan(recorder_ref, workspace, true, most_first, &seeds)?;
            let keep = if refines { chosen } else { held };
            let limit = if refines { 0 } else { held };
            stage.top(recorder_ref, &seeds, most_first, keep, limit, false, 0, &best)?;
            if refines {
                let params = |grid_x| kernels::gather::Params {
                    queries: queries as u32,
                    grid_x,
                    capacity: most_first as u32,
                    keep: chosen as u32,
                };
                let groups = ((queries * chosen) as u32).div_ceil(kernels::gather::THREADS);
                let buffers = [&seeds, &best, &chosen_buffer];
                recorder_ref.dispatch(&kernels::gather::kernel(), groups, params, &buffers)?;
                stage.refine(recorder_ref, &chosen_buffer, chosen, chosen)?;
                stage.top(
                    recorder_ref,
                    &chosen_buffer,
                    chosen,
                    held,
                    held,
                    false,
                    chosen,
                    &limits,
                )?;
            }
            let counts = 4 * queries as u64;
            recorder_ref.encoder.clear_buffer(&state, counts, Some(counts));
            if refines {
                let params = |grid_x| kernels::carry::Params {
                    queries: queries as u32,
                    grid_x,
                    capacity: room as u32,
                    keep: chosen as u32,
                };
                let groups = ((queries * chosen) as u32).div_ceil(kernels::carry::THREADS);
                let buffers = [&best, &chosen_buffer, &state, &candidates];
                recorder_ref.dispatch(&kernels::carry::kernel(), groups, params, &buffers)?;
            }
        }
        stage.scan(recorder_ref, workspace, false, room, &candidates)?;
        if refines {
            stage.refine(recorder_ref, &candidates, room, 0)?;
        }
        let counts = (&state, 8 * queries as u64);
        if !ranked {
            let selected = workspace.room(index, "selected", (queries * held * 8) as u64)?;
            let params = |grid_x| kernels::select::Params {
                queries: queries as u32,
                grid_x,
                capacity: room as u32,
                keep: held as u32,
            };
            let buffers = [&candidates, &state, &selected];
            recorder.dispatch(&kernels::select::kernel(), queries as u32, params, &buffers)?;
            return recorder.send(&[(&selected, (queries * held * 8) as u64), counts]);
        }
        stage.top(recorder_ref, &candidates, room, held, 0, true, 0, &limits)?;
        recorder.send(&[(&limits, (queries * held * 8) as u64), counts])
    }
}

/// How many queries a workgroup serves, and the kernel for that: as many as its memory has room for the tables
/// of, and no more than meet in a list.
pub(crate) fn scan_kernel(index: &GpuIndex<'_>, pairs: &Pairs) -> (usize, u32, Kernel) {
    let shape = &index.shape;
    let limit = index.context.limits.max_compute_workgroup_storage_size.min(32 << 10);
    let pieces = shape.pieces.len() as u32;
    let limit = |queries| limit.saturating_sub(kernels::scan::piece_bytes(queries, pieces));
    let words = (shape.words as u32).max(1);
    let meet = pairs.meet().max(1);
    let choices = shape.codes.queries();
    let whole = |queries: u32| shape.codes.table_bytes(queries) * words <= limit(queries);
    let enough = |queries: u32| {
        // No more room than there are queries, but for what is left of the last workgroup.
        choices.iter().all(|&other| other >= queries || other < meet)
    };
    let queries = choices
        .iter()
        .copied()
        .find(|&queries| enough(queries) && whole(queries))
        .or_else(|| choices.iter().copied().find(|&queries| enough(queries)))
        .unwrap_or(1);
    // In steps, so that indexes share compiled kernels.
    let slice =
        words.next_multiple_of(8).min(limit(queries) / shape.codes.table_bytes(queries)).max(1);
    (queries as usize, slice, kernels::scan::kernel(shape.codes, queries, slice, pieces))
}

/// What the stages of a batch share.
struct Stage<'a, 'i> {
    scan: &'a Scan<'a, 'i>,
    state: &'a wgpu::Buffer,
    pairs: &'a wgpu::Buffer,
    tables: &'a wgpu::Buffer,
    refine_tables: &'a wgpu::Buffer,
    views: &'a wgpu::Buffer,
}

impl Stage<'_, '_> {
    /// The first stage, into `out`, which has room for so many candidates of each query.
    fn scan(
        &self,
        recorder: &mut Recorder<'_>,
        workspace: &mut Workspace,
        first: bool,
        room: usize,
        out: &wgpu::Buffer,
    ) -> Result<(), GpuError> {
        let Scan { index, batch, sizes, kernel: (_, slice, kernel), work, .. } = *self.scan;
        let shape = &index.shape;
        for (number, (chunk, work)) in
            index.chunks.iter().zip(&work[usize::from(!first)]).enumerate()
        {
            let &Work { ref words, items, members, piece_table } = work;
            if items == 0 {
                continue;
            }
            let which = (if first { "first work" } else { "work" }, number);
            let buffer = workspace.numbered(index, which, size_of_val(&words[..]) as u64)?;
            index.context.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(words));
            let params = |grid_x| kernels::scan::Params {
                items,
                grid_x,
                first: u32::from(first),
                capacity: room as u32,
                stride: shape.stride as u32,
                words: shape.words as u32,
                pieces: shape.pieces.len() as u32,
                slice: *slice,
                view: shape.view() as u32,
                lines: 2 + shape.segments() as u32,
                table: sizes.table as u32,
                members,
                piece_table,
                slot: (chunk.blocks.start * nonius::raw::BLOCK) as u32,
                additive: u32::from(shape.additive),
                square: batch.square,
                queries: self.scan.queries() as u32,
            };
            let buffers = [
                &chunk.codes,
                &chunk.ranks,
                &buffer,
                self.pairs,
                self.tables,
                self.views,
                self.state,
                out,
            ];
            recorder.dispatch(kernel, items, params, &buffers)?;
        }
        Ok(())
    }

    /// The second stage for candidates, `count` of each query or as many as the state says.
    fn refine(
        &self,
        recorder: &mut Recorder<'_>,
        candidates: &wgpu::Buffer,
        room: usize,
        count: usize,
    ) -> Result<(), GpuError> {
        let Scan { index, sizes, .. } = *self.scan;
        let shape = &index.shape;
        let queries = self.scan.queries() as u32;
        // Enough workgroups for all of the device.
        let groups = (4096 / queries).clamp(2, 64);
        for chunk in &index.chunks {
            let (rows, stride, segments, lists, correction) = match &shape.refine {
                Refine::Saq { stride, segments, correction, .. } => {
                    let Some(rows) = &chunk.rows else { continue };
                    let lists = u32::from(index.raw.lists());
                    (rows, *stride, segments.len() as u32, lists, *correction)
                }
                Refine::Sums { columns, bits, weight } => {
                    (&chunk.codes, shape.stride, *columns as u32, *bits, *weight)
                }
                Refine::None => continue,
            };
            let params = |grid_x| kernels::refine::Params {
                queries,
                groups,
                capacity: room as u32,
                count: count as u32,
                slot: (chunk.blocks.start * nonius::raw::BLOCK) as u32,
                slots: (chunk.blocks.len() * nonius::raw::BLOCK) as u32,
                stride: stride as u32,
                segments,
                lists,
                view: shape.view() as u32,
                table: sizes.refine as u32,
                alpha: index.raw.alpha(),
                correction,
                grid_x,
            };
            let kernel = kernels::refine::kernel(matches!(shape.refine, Refine::Saq { .. }));
            let buffers =
                [rows, self.refine_tables, self.views, self.state, &index.segments, candidates];
            recorder.dispatch(&kernel, queries * groups, params, &buffers)?;
        }
        Ok(())
    }

    /// The best candidates of each query: see `top.wgsl`.
    fn top(
        &self,
        recorder: &mut Recorder<'_>,
        candidates: &wgpu::Buffer,
        room: usize,
        keep: usize,
        limit: usize,
        by_rank: bool,
        count: usize,
        out: &wgpu::Buffer,
    ) -> Result<(), GpuError> {
        let queries = self.scan.queries() as u32;
        let params = |grid_x| kernels::top::Params {
            queries,
            grid_x,
            capacity: room as u32,
            keep: keep as u32,
            limit: limit as u32,
            by_rank: u32::from(by_rank),
            count: count as u32,
            unused: 0,
        };
        let kernel = kernels::top::kernel(keep as u32);
        recorder.dispatch(&kernel, queries, params, &[candidates, self.state, out])
    }
}
