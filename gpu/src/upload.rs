//! An index on the device: what is stored of vectors, laid out for kernels, in chunks of whole blocks.

use std::sync::{Arc, Mutex};

use nonius::raw::{BLOCK, RawCodes, RawFloat, RawIndex, RawSearcher, RawSegment, RawVector};
use nonius::{Index, Metric};
use rayon::prelude::*;

use crate::context::GpuContext;
use crate::error::GpuError;
use crate::kernels::refine::Segment;
use crate::kernels::scan::{Codes, MOST_PIECES, PIECE};
use crate::kernels::{NONE, views};
use crate::search::Workspace;

/// Blocks that are laid out at a time: what is uploaded is never held as a whole.
const BLOCKS_AT_A_TIME: usize = 2048;

/// Where the words of a vector lie, and what they mean.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) codes: Codes,
    /// Words of a vector that the scan reads, those of the code first, then what it adds to bounds, then scales.
    pub(crate) stride: usize,
    pub(crate) words: usize,
    pub(crate) additive: bool,
    /// Pieces of the first stage as the scan takes them.
    pub(crate) pieces: Vec<[u32; PIECE]>,
    pub(crate) refine: Refine,
}

/// A piece of SAQ's first stage: its segment, its first group and how many it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SaqPiece {
    pub(crate) segment: usize,
    pub(crate) first: usize,
    pub(crate) count: usize,
}

/// How candidates are refined.
#[derive(Clone, Debug)]
pub(crate) enum Refine {
    /// They need not be: their bounds are keys.
    None,
    /// With rows of so many words.
    Saq { stride: usize, segments: Vec<RawSegment>, pieces: Vec<SaqPiece>, correction: f32 },
    /// With the words of the scan.
    Sums { columns: usize, bits: u32, weight: f32 },
}

impl Shape {
    fn of(raw: &RawIndex<'_>) -> Option<Shape> {
        match raw.codes() {
            RawCodes::Saq { segments, pieces: groups, correction } => {
                let words = groups.iter().map(|(groups, _)| groups.div_ceil(8)).sum();
                let scanned: Vec<usize> =
                    (0..segments.len()).filter(|&s| segments[s].scan_bits > 0).collect();
                let mut of_pieces: Vec<SaqPiece> = Vec::new();
                let mut pieces = Vec::new();
                for (groups, s) in groups {
                    let first = match of_pieces.last() {
                        Some(last) if last.segment == s => last.first + last.count,
                        _ => segments[s].groups.0,
                    };
                    of_pieces.push(SaqPiece { segment: s, first, count: groups });
                    let scale = scanned.iter().position(|&scanned| scanned == s).unwrap_or(0);
                    let RawSegment { scale_shift, scale_base, .. } = segments[s];
                    pieces.push([
                        groups.div_ceil(8) as u32,
                        (words + 1 + scale / 2) as u32,
                        16 * (scale % 2) as u32,
                        scale_shift,
                        scale_base,
                    ]);
                }
                let planes: usize = segments.iter().map(|s| plane_words(s) * planes(s)).sum();
                let stride = 1 + segments.len().div_ceil(2) + planes;
                Some(Shape {
                    codes: Codes::One,
                    stride: words + 1 + scanned.len().div_ceil(2),
                    words,
                    additive: true,
                    pieces,
                    refine: Refine::Saq { stride, segments, pieces: of_pieces, correction },
                })
            }
            RawCodes::Additive { columns, bits, weight } => {
                let (codes, per_word) = match bits {
                    4 => (Codes::Four, 8),
                    8 => (Codes::Eight, 4),
                    _ => return None,
                };
                let words = columns.div_ceil(per_word);
                // The sums of a piece have 16 bits.
                let most = 256 / per_word;
                let pieces = (0..words)
                    .step_by(most)
                    .map(|first| [(words - first).min(most) as u32, NONE, 0, 0, 0])
                    .collect();
                let refine = Refine::Sums { columns, bits, weight };
                Some(Shape { codes, stride: words + 1, words, additive: true, pieces, refine })
            }
            RawCodes::Float(format) => {
                let words = match format {
                    RawFloat::F16 | RawFloat::Bf16 => raw.dims() / 2,
                    RawFloat::F32 => raw.dims(),
                };
                Some(Shape {
                    codes: Codes::Float(format),
                    stride: words,
                    words,
                    additive: false,
                    pieces: vec![[words as u32, NONE, 0, 0, 0]],
                    refine: Refine::None,
                })
            }
            _ => None,
        }
    }

    /// Words of a row for refinement; 0 where there are none.
    pub(crate) fn row_words(&self) -> usize {
        match self.refine {
            Refine::Saq { stride, .. } => stride,
            _ => 0,
        }
    }

    /// Bytes that a block takes on the device, ranks included.
    fn block_bytes(&self) -> u64 {
        (4 * BLOCK * (self.stride + self.row_words() + 1)) as u64
    }

    /// Segments over which views are taken apart.
    pub(crate) fn segments(&self) -> usize {
        match &self.refine {
            Refine::Saq { segments, .. } => segments.len(),
            _ => 1,
        }
    }

    /// Floats of a view.
    pub(crate) fn view(&self) -> usize {
        views::floats(self.segments(), self.pieces.len())
    }

    /// The segments as refinement takes them.
    pub(crate) fn refine_segments(&self) -> Vec<Segment> {
        let Refine::Saq { segments, .. } = &self.refine else { return vec![Segment::default()] };
        let mut plane = 1 + segments.len().div_ceil(2);
        segments
            .iter()
            .map(|s| {
                let own = plane;
                plane += plane_words(s) * planes(s);
                Segment {
                    start: s.start as u32 / 4,
                    fours: s.dims as u32 / 4,
                    bits: s.bits,
                    plane: own as u32,
                    scale_shift: s.scale_shift,
                    scale_base: s.scale_base,
                    unit: s.unit,
                    energy: s.energy,
                }
            })
            .collect()
    }

    /// Writes a vector: `words` lie 32 apart, `row` side by side.
    fn write(&self, vector: &RawVector, lane: usize, words: &mut [u32], row: &mut [u32]) {
        let mut put = |w: usize, value: u32| words[w * BLOCK + lane] |= value;
        let bits = match self.codes {
            // SAQ has its bits in groups of four.
            Codes::One | Codes::Four => 4,
            Codes::Eight => 8,
            Codes::Float(_) => 16,
        };
        let per_word = 32 / bits;
        match &self.refine {
            Refine::Saq { segments, pieces, .. } => {
                let mut word = 0;
                for &SaqPiece { first, count, .. } in pieces {
                    for (i, &group) in vector.groups[first..first + count].iter().enumerate() {
                        put(word + i / per_word, u32::from(group) << (bits * (i % per_word)));
                    }
                    word += count.div_ceil(per_word);
                }
                // Kernels count on no infinities.
                put(self.words, (vector.additive + vector.shift).max(-3e38).to_bits());
                let scales = segments.iter().zip(&vector.scales).filter(|(s, _)| s.scan_bits > 0);
                for (i, (_, &scale)) in scales.enumerate() {
                    put(self.words + 1 + i / 2, u32::from(scale) << (16 * (i % 2)));
                }
                write_row(segments, vector, row);
            }
            Refine::Sums { .. } | Refine::None => {
                for (i, &number) in vector.numbers.iter().enumerate() {
                    put(i / per_word, u32::from(number) << (bits * (i % per_word)));
                }
                if self.additive {
                    put(self.words, vector.additive.to_bits());
                }
            }
        }
    }
}

/// Planes of up to four bits of a segment's codes, and the words of one.
fn planes(segment: &RawSegment) -> usize {
    segment.bits.div_ceil(4) as usize
}

fn plane_words(segment: &RawSegment) -> usize {
    segment.dims / 8
}

/// The row of a vector for `refine_saq.wgsl`.
fn write_row(segments: &[RawSegment], vector: &RawVector, row: &mut [u32]) {
    row[0] = vector.additive.to_bits();
    for (s, &scale) in vector.scales.iter().enumerate() {
        row[1 + s / 2] |= u32::from(scale) << (16 * (s % 2));
    }
    let mut plane = 1 + segments.len().div_ceil(2);
    for segment in segments {
        let numbers = &vector.numbers[segment.start..segment.start + segment.dims];
        for number in (0..planes(segment)).rev() {
            for (i, &code) in numbers.iter().enumerate() {
                let field = u32::from(code >> (4 * number)) & 15;
                row[plane + i / 8] |= field << (8 * (i % 4) + 4 * (i % 8 / 4));
            }
            plane += plane_words(segment);
        }
    }
}

/// Some blocks on the device.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The first block, and the one after the last.
    pub(crate) blocks: std::ops::Range<usize>,
    pub(crate) codes: wgpu::Buffer,
    /// For SAQ.
    pub(crate) rows: Option<wgpu::Buffer>,
    pub(crate) ranks: wgpu::Buffer,
}

/// A list's place on the device, or that of the part that is there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct List {
    pub(crate) block: usize,
    pub(crate) vectors: usize,
}

/// A list, or a part of one that begins with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) list: usize,
    /// Its first block in the index, and the position of its first vector.
    pub(crate) block: usize,
    pub(crate) position: usize,
    pub(crate) vectors: usize,
}

impl Span {
    pub(crate) fn blocks(&self) -> usize {
        self.vectors.div_ceil(BLOCK)
    }
}

/// How an index is uploaded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UploadOptions {
    /// The most bytes of one buffer of codes; by default, and at most, what the device binds. Tests
    /// make several chunks of a small index with it.
    pub chunk_bytes: Option<u64>,
    /// The most bytes of codes that lie on the device at a time; by default all of them. Of an index that is larger no
    /// codes stay there: each search sends those of the lists that its queries ask for, in shares of half as many
    /// bytes, one while the one before is searched.
    pub memory_bytes: Option<u64>,
}

/// An index on a GPU, beside the [`Index`] that it came from.
///
/// Its codes stay in the memory of the GPU, unless they are more than [`UploadOptions::memory_bytes`]. The index is
/// still what prepares queries, and what kept vectors come from for rerank.
pub struct GpuIndex<'a> {
    pub(crate) context: &'a GpuContext,
    pub(crate) index: &'a Index,
    pub(crate) raw: RawIndex<'a>,
    pub(crate) shape: Shape,
    pub(crate) lists: Vec<List>,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) centroids: wgpu::Buffer,
    pub(crate) list_factors: wgpu::Buffer,
    pub(crate) lengths: wgpu::Buffer,
    pub(crate) segments: wgpu::Buffer,
    /// The position of the vector of each rank.
    pub(crate) positions: Arc<Vec<u32>>,
    /// The rank of the vector of each position.
    ranks: Arc<Vec<u32>>,
    /// Blocks of a chunk at most.
    per_chunk: usize,
    /// Blocks of a share, where codes are sent with each search.
    pub(crate) share: Option<usize>,
    pub(crate) workspace: Mutex<Workspace>,
    /// What threads prepare queries with, while none does.
    pub(crate) searchers: Mutex<Vec<RawSearcher<'a>>>,
    bytes: u64,
}

impl std::fmt::Debug for GpuIndex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuIndex")
            .field("index", &self.index)
            .field("chunks", &self.chunks.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl<'a> GpuIndex<'a> {
    /// Uploads an index.
    ///
    /// # Errors
    /// [`GpuError::Unsupported`] for scalar quantizers, for columns of other than 4 and 8 bits, and for lists
    /// that hold copies of other lists' vectors ([`spill`](nonius::IndexConfig::spill)), or vectors kept
    /// whole ([`outlier_bytes`](nonius::IndexConfig::outlier_bytes));
    /// [`GpuError::Search`] for lists that are damaged, if the index was opened to look for it;
    /// [`GpuError::OutOfMemory`], [`GpuError::TooLarge`], [`GpuError::Lost`], [`GpuError::Device`].
    pub fn upload(context: &'a GpuContext, index: &'a Index) -> Result<GpuIndex<'a>, GpuError> {
        GpuIndex::upload_with(context, index, &UploadOptions::default())
    }

    /// [`upload`](GpuIndex::upload) with options.
    ///
    /// # Errors
    /// As [`upload`](GpuIndex::upload).
    pub fn upload_with(
        context: &'a GpuContext,
        index: &'a Index,
        options: &UploadOptions,
    ) -> Result<GpuIndex<'a>, GpuError> {
        let raw = index.raw();
        let unsupported = |what: String| GpuError::Unsupported { what };
        let shape = Shape::of(&raw)
            .ok_or_else(|| unsupported(format!("codes of {}", index.info().quantizer)))?;
        (0..index.nlist()).into_par_iter().try_for_each(|list| raw.check(list))?;
        let lists: Vec<_> = (0..index.nlist()).map(|list| raw.list(list)).collect();
        if lists.iter().any(|list| list.copies > 0) {
            return Err(unsupported(
                "lists with copies of other lists' vectors (spill)".to_owned(),
            ));
        }
        if raw.outliers() > 0 {
            return Err(unsupported("vectors kept whole (outliers)".to_owned()));
        }
        let (pieces, most) = (shape.pieces.len(), MOST_PIECES as usize);
        if pieces > most {
            return Err(unsupported(format!("codes in {pieces} pieces, more than {most}")));
        }
        let blocks: usize = lists.iter().map(|list| list.vectors.div_ceil(BLOCK)).sum();
        if blocks >= NONE as usize / BLOCK {
            return Err(unsupported(format!("{} vectors, more than 2^32", index.len())));
        }
        // Positions by id; ids are the order of ties.
        let mut positions: Vec<u32> = (0..index.len() as u32).collect();
        positions.par_sort_unstable_by_key(|&position| (raw.id(position as usize), position));
        let mut ranks = vec![0; positions.len()];
        for (rank, &position) in (0..).zip(&positions) {
            ranks[position as usize] = rank;
        }
        let block_bytes = 4 * BLOCK * shape.stride.max(shape.row_words()).max(1);
        let limit = context.binding_limit();
        let limit = options.chunk_bytes.map_or(limit, |bytes| bytes.min(limit));
        let per_chunk = limit as usize / block_bytes;
        if per_chunk == 0 {
            let bytes = block_bytes as u64;
            return Err(GpuError::TooLarge { what: "32 vectors", bytes, limit });
        }
        let stored = shape.block_bytes();
        let share = match options.memory_bytes {
            Some(bytes) if bytes < blocks as u64 * stored => {
                if bytes < 2 * stored {
                    let what = "64 vectors";
                    return Err(GpuError::TooLarge { what, bytes: 2 * stored, limit: bytes });
                }
                Some((bytes / 2 / stored) as usize)
            }
            _ => None,
        };
        let (mut centroids, mut list_factors): (Vec<i16>, Vec<[f32; 2]>) = (Vec::new(), Vec::new());
        for list in 0..lists.len() {
            if let Some(centroid) = raw.centroid(list) {
                centroids.extend_from_slice(centroid.values);
                list_factors.push([centroid.unit, centroid.norm_sq]);
            } else {
                list_factors.push([0.0; 2]);
            }
        }
        let bytes = (size_of_val(&*centroids) + size_of_val(&*list_factors)) as u64;
        let lengths: Vec<u32> = match &shape.refine {
            Refine::Saq { segments, .. } => segments.iter().map(|s| s.dims as u32).collect(),
            _ => vec![raw.dims() as u32],
        };
        let mut on_gpu = GpuIndex {
            context,
            index,
            raw,
            lists: vec![List::default(); lists.len()],
            chunks: Vec::new(),
            centroids: context.filled("centroids", &centroids)?,
            list_factors: context.filled("lists", &list_factors)?,
            lengths: context.filled("segments", &lengths)?,
            segments: context.filled("segments", &shape.refine_segments())?,
            shape,
            positions: Arc::new(positions),
            ranks: Arc::new(ranks),
            per_chunk,
            share,
            workspace: Mutex::default(),
            searchers: Mutex::default(),
            bytes,
        };
        // What is written reaches the device with the next submission.
        context.queue.submit([]);
        context.check()?;
        if on_gpu.share.is_none() {
            let spans: Vec<Span> = (0..lists.len()).filter_map(|list| on_gpu.span(list)).collect();
            on_gpu.place(&spans)?;
        }
        Ok(on_gpu)
    }

    /// A whole list, if it has any vectors.
    pub(crate) fn span(&self, list: usize) -> Option<Span> {
        let of_list = self.raw.list(list);
        (of_list.vectors > 0).then_some(Span {
            list,
            block: of_list.block,
            position: of_list.first,
            vectors: of_list.vectors,
        })
    }

    /// Uploads lists, in their order, no list twice.
    fn place(&mut self, spans: &[Span]) -> Result<(), GpuError> {
        let mut starts = Vec::with_capacity(spans.len());
        let mut blocks = 0;
        for span in spans {
            self.lists[span.list] = List { block: blocks, vectors: span.vectors };
            starts.push(blocks);
            blocks += span.blocks();
        }
        for first in (0..blocks).step_by(self.per_chunk) {
            let end = blocks.min(first + self.per_chunk);
            let chunk = self.upload_chunk(spans, &starts, first..end)?;
            self.chunks.push(chunk);
        }
        self.bytes += blocks as u64 * self.shape.block_bytes();
        Ok(())
    }

    /// An index of some lists alone: the others are empty there.
    pub(crate) fn part(&self, spans: &[Span]) -> Result<GpuIndex<'a>, GpuError> {
        let mut part = GpuIndex {
            context: self.context,
            index: self.index,
            raw: self.raw,
            shape: self.shape.clone(),
            lists: vec![List::default(); self.lists.len()],
            chunks: Vec::new(),
            centroids: self.centroids.clone(),
            list_factors: self.list_factors.clone(),
            lengths: self.lengths.clone(),
            segments: self.segments.clone(),
            positions: Arc::clone(&self.positions),
            ranks: Arc::clone(&self.ranks),
            per_chunk: self.per_chunk,
            share: None,
            workspace: Mutex::default(),
            searchers: Mutex::default(),
            bytes: 0,
        };
        part.place(spans)?;
        Ok(part)
    }

    /// Bytes that the index takes on the device, between searches.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that the first stage reads of a vector.
    pub fn first_stage_bytes(&self) -> usize {
        4 * self.shape.stride
    }

    /// The number of chunks that the codes are in; 0 where they are sent with each search.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The metric.
    pub fn metric(&self) -> Metric {
        self.index.metric()
    }
}

impl GpuIndex<'_> {
    /// Lays out and uploads some blocks of lists that begin at the blocks `starts` on the device.
    fn upload_chunk(
        &self,
        spans: &[Span],
        starts: &[usize],
        blocks: std::ops::Range<usize>,
    ) -> Result<Chunk, GpuError> {
        let GpuIndex { context, shape, raw, ranks, .. } = self;
        let (words, row_words) = (shape.stride * BLOCK, shape.row_words() * BLOCK);
        let bytes = |words: usize| (blocks.len() * words * 4) as u64;
        let codes = context.buffer("codes", bytes(words))?;
        let rows = match row_words {
            0 => None,
            _ => Some(context.buffer("codes", bytes(row_words))?),
        };
        let rank_buffer = context.buffer("ranks", bytes(BLOCK))?;
        for first in blocks.clone().step_by(BLOCKS_AT_A_TIME) {
            let count = BLOCKS_AT_A_TIME.min(blocks.end - first);
            let mut out = vec![0u32; count * words];
            let mut out_rows = vec![0u32; count * row_words];
            let mut out_ranks = vec![NONE; count * BLOCK];
            // Where there are no rows each block still has a piece of them, an empty one.
            let row_pieces: Vec<&mut [u32]> = match row_words {
                0 => (0..count).map(|_| &mut [][..]).collect(),
                _ => out_rows.chunks_exact_mut(row_words).collect(),
            };
            out.par_chunks_exact_mut(words.max(1))
                .zip(row_pieces)
                .zip(out_ranks.par_chunks_exact_mut(BLOCK))
                .enumerate()
                .for_each_init(RawVector::default, |vector, (i, ((out, out_rows), out_ranks))| {
                    let block = first + i;
                    // The last list that begins at this block or before.
                    let number = starts.partition_point(|&start| start <= block) - 1;
                    let (span, before) = (spans[number], block - starts[number]);
                    let start = before * BLOCK;
                    let lanes = span.vectors.saturating_sub(start).min(BLOCK);
                    for lane in 0..lanes {
                        let position = span.position + start + lane;
                        raw.vector(span.block + before, lane, position, vector);
                        let stride = row_words / BLOCK;
                        let row = &mut out_rows[lane * stride..(lane + 1) * stride];
                        shape.write(vector, lane, out, row);
                        out_ranks[lane] = ranks[position];
                    }
                });
            let at = |words: usize| ((first - blocks.start) * words * 4) as u64;
            context.queue.write_buffer(&codes, at(words), bytemuck::cast_slice(&out));
            if let Some(rows) = &rows {
                context.queue.write_buffer(rows, at(row_words), bytemuck::cast_slice(&out_rows));
            }
            context.queue.write_buffer(&rank_buffer, at(BLOCK), bytemuck::cast_slice(&out_ranks));
            // Staged copies are freed once the device has them.
            let submission = context.queue.submit([]);
            let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: None };
            context
                .device
                .poll(wait)
                .map_err(|error| GpuError::Device { message: error.to_string() })?;
            context.check()?;
        }
        Ok(Chunk { blocks, codes, rows, ranks: rank_buffer })
    }
}
