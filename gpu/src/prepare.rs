//! What a batch of queries brings to the device: tables, the lists to search, and the work in them.

use nonius::SearchParams;
use nonius::raw::{RawProbe, RawSegment, RawTables};
use rayon::prelude::*;

use crate::error::GpuError;
use crate::kernels::scan::{ITEM, PIECE};
use crate::kernels::views::{HEAD, LINE};
use crate::kernels::{NONE, Pair};
use crate::upload::{GpuIndex, Refine, Shape};

/// Queries that a thread prepares at a time.
const TASK: usize = 8;

/// Vectors of an item of work: fewer where there is little to do, so that all of the device has some.
const ITEM_VECTORS: std::ops::RangeInclusive<usize> = 256..=8192;

/// Items that there should be, where there is enough to do.
const ITEMS: usize = 8192;

/// Words that the tables of a query take, and their floats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Of the first stage's table.
    pub(crate) table: usize,
    /// Of the second's.
    pub(crate) refine: usize,
    /// Of what views are made of.
    pub(crate) query: usize,
    /// The part of that before the rotated values.
    head: usize,
}

impl Sizes {
    pub(crate) fn of(shape: &Shape, dims: usize) -> Sizes {
        let head = HEAD + LINE * shape.pieces.len();
        Sizes {
            table: shape.words * shape.codes.table_words(),
            refine: match &shape.refine {
                Refine::Saq { segments, .. } => dims / 2 + segments.len(),
                Refine::Sums { columns, bits, .. } => columns << bits,
                Refine::None => 0,
            },
            query: head + if matches!(shape.refine, Refine::None) { 0 } else { dims },
            head,
        }
    }
}

/// Queries, prepared.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) tables: Vec<u32>,
    pub(crate) refine: Vec<u32>,
    pub(crate) queries: Vec<f32>,
    pub(crate) square: f32,
    /// The lists of each query, in the order of its route.
    pub(crate) probes: Vec<Vec<RawProbe>>,
}

impl Batch {
    /// Prepares queries (`rows x dim`).
    pub(crate) fn new(
        index: &GpuIndex<'_>,
        sizes: Sizes,
        queries: &[f32],
        k: usize,
        params: &SearchParams,
    ) -> Result<Batch, GpuError> {
        let dim = index.index.dim();
        let rows = queries.len() / dim;
        let mut batch = Batch {
            tables: vec![0; rows * sizes.table],
            refine: vec![0; rows * sizes.refine],
            queries: vec![0.0; rows * sizes.query],
            square: 0.0,
            probes: vec![Vec::new(); rows],
        };
        let tasks = queries.par_chunks(TASK * dim);
        let done: Vec<Result<Batch, GpuError>> = tasks
            .map_init(
                || index.raw.searcher(),
                |searcher, queries| {
                    let rows = queries.len() / dim;
                    let mut out = Batch {
                        tables: vec![0; rows * sizes.table],
                        refine: vec![0; rows * sizes.refine],
                        queries: vec![0.0; rows * sizes.query],
                        square: 0.0,
                        probes: Vec::with_capacity(rows),
                    };
                    searcher.prepare(queries, k, params, |row, query| {
                        let values = &mut out.queries[row * sizes.query..(row + 1) * sizes.query];
                        values[0] = query.constant();
                        values[1] = query.norm_sq().0;
                        if values.len() > sizes.head {
                            values[sizes.head..].copy_from_slice(query.values());
                        }
                        let table = &mut out.tables[row * sizes.table..(row + 1) * sizes.table];
                        let refine = &mut out.refine[row * sizes.refine..(row + 1) * sizes.refine];
                        let rotated = query.values();
                        let alpha = index.raw.alpha();
                        let square = &mut out.square;
                        fill(
                            &index.shape,
                            query.tables(),
                            alpha,
                            rotated,
                            values,
                            table,
                            refine,
                            square,
                        );
                        out.probes.push(query.probes().collect());
                    })?;
                    Ok(out)
                },
            )
            .collect();
        let mut row = 0;
        for task in done {
            let task = task?;
            let rows = task.probes.len();
            batch.tables[row * sizes.table..][..task.tables.len()].copy_from_slice(&task.tables);
            batch.refine[row * sizes.refine..][..task.refine.len()].copy_from_slice(&task.refine);
            batch.queries[row * sizes.query..][..task.queries.len()].copy_from_slice(&task.queries);
            batch.square = task.square;
            for (out, probes) in batch.probes[row..].iter_mut().zip(task.probes) {
                *out = probes;
            }
            row += rows;
        }
        Ok(batch)
    }
}

/// Writes a query's tables.
fn fill(
    shape: &Shape,
    tables: RawTables<'_>,
    alpha: f32,
    values: &[f32],
    query: &mut [f32],
    table: &mut [u32],
    refine: &mut [u32],
    square: &mut f32,
) {
    match (tables, &shape.refine) {
        (RawTables::Saq(saq), Refine::Saq { segments, pieces, .. }) => {
            query[2] = saq.confidence;
            query[3..5].copy_from_slice(&saq.variance);
            let lines = query[HEAD..].chunks_exact_mut(LINE);
            for (out, line) in lines.zip(saq.lines) {
                let [constant, by_distance] = line.variance;
                out.copy_from_slice(&[line.slope, line.bias, line.near, constant, by_distance]);
            }
            let mut word = 0;
            for (i, &(first, count)) in pieces.iter().enumerate() {
                let line = &mut query[HEAD + LINE * i..][..LINE];
                let Some(segment) = segments
                    .iter()
                    .find(|s| (s.groups.0..s.groups.0 + s.groups.1).contains(&first))
                else {
                    continue;
                };
                // The query's values that the piece's bits stand for.
                let per_group = 4 / segment.scan_bits as usize;
                let start = segment.start + (first - segment.groups.0) * per_group;
                let values = &values[start..start + count * per_group];
                let words = count.div_ceil(8);
                let table = &mut table[8 * word..8 * (word + words)];
                let (step, bias) = weights(segment, values, table);
                line[0] = alpha * segment.unit * step;
                line[1] = alpha * segment.unit * bias;
                word += words;
            }
            let (digits, steps) = refine.split_at_mut(saq.integers.len() / 2);
            let (high, low) = digits.split_at_mut(saq.integers.len() / 4);
            let fours = saq.integers.as_chunks::<4>().0;
            for ((high, low), four) in high.iter_mut().zip(low).zip(fours) {
                let upper = four.map(|value| (value + 64) >> 7);
                *high = u32::from_le_bytes(upper.map(|value| value as i8 as u8));
                let lower = std::array::from_fn(|i| (four[i] - (upper[i] << 7)) as i8 as u8);
                *low = u32::from_le_bytes(lower);
            }
            for (s, step) in steps.iter_mut().enumerate().take(segments.len()) {
                *step = saq.field_step(s).to_bits();
            }
        }
        (RawTables::Additive(sums), Refine::Sums { .. }) => {
            let lines = query[HEAD..].chunks_exact_mut(LINE).take(shape.pieces.len());
            for (i, out) in lines.enumerate() {
                out[0] = sums.slope;
                out[1] = if i == 0 { sums.offset } else { 0.0 };
            }
            for (out, bytes) in table.iter_mut().zip(sums.lut.as_chunks::<4>().0) {
                *out = u32::from_le_bytes(*bytes);
            }
            for (out, dot) in refine.iter_mut().zip(sums.dots) {
                *out = dot.to_bits();
            }
        }
        (RawTables::Float(float), Refine::None) => {
            query[0] = float.constant;
            *square = float.square;
            for (out, factor) in table.iter_mut().zip(float.factors) {
                *out = factor.to_bits();
            }
        }
        // `Shape` was made for this kind of codes.
        _ => {}
    }
}

/// Rounds what the bits of a piece of SAQ's first stage add to an inner product to integers of 8 bits, four in a
/// word of `table` as `scan1.wgsl` takes them. Returns what a unit is worth, and what comes on top of the sum.
///
/// The levels of two bits, from `-outer` over `-inner` to `outer`, are `(outer + inner) b1 + (outer - inner) b0 - outer`;
/// those of one bit are `2 inner b0 - inner`. Rounding adds as much noise as that of the table that the processor
/// looks groups up in, or less: steps are about as large, there are four times as many, but of each only whether its bit is set
/// is not known, and half of that is known on average.
fn weights(segment: &RawSegment, values: &[f32], table: &mut [u32]) -> (f32, f32) {
    let [inner, outer] = segment.levels;
    let bits = segment.scan_bits as usize;
    let of_bit = if bits == 2 { [outer - inner, outer + inner] } else { [2.0 * inner; 2] };
    let least = if bits == 2 { outer } else { inner };
    let most = values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let step = (most * of_bit[0].abs().max(of_bit[1].abs()) / 127.0).max(f32::MIN_POSITIVE);
    let mut bias = 0.0;
    table.fill(0);
    for (i, &value) in values.iter().enumerate() {
        bias -= least * value;
        for (plane, &of_bit) in of_bit[..bits].iter().enumerate() {
            let weight = value * of_bit;
            let rounded = (weight / step).round_ties_even().clamp(-127.0, 127.0);
            bias += 0.5 * (weight - step * rounded);
            let bit = i * bits + plane;
            let word = &mut table[bit / 32 * 8 + bit % 8];
            *word |= u32::from(rounded as i8 as u8) << (8 * (bit % 32 / 8));
        }
    }
    (step, bias)
}

/// The lists of all queries.
#[derive(Default)]
pub(crate) struct Pairs {
    pub(crate) pairs: Vec<Pair>,
    /// How many first candidates each query has, and how many vectors its lists hold.
    pub(crate) first: Vec<u32>,
    pub(crate) vectors: Vec<u32>,
}

impl Pairs {
    /// Pairs queries with their lists; those that come first bring at least `wanted` first candidates, of each
    /// list the first `wanted` at most.
    pub(crate) fn new(index: &GpuIndex<'_>, batch: &Batch, wanted: usize) -> Pairs {
        let mut out = Pairs::default();
        for (query, probes) in (0..).zip(&batch.probes) {
            let (mut first, mut vectors) = (0, 0);
            for probe in probes {
                let list = index.lists[probe.list as usize];
                let own =
                    if (first as usize) < wanted { list.vectors.min(wanted) as u32 } else { 0 };
                // Of floats no list says anything that its keys need.
                let constant = match index.shape.refine {
                    Refine::None => batch.queries[query as usize * (HEAD + LINE)],
                    _ => probe.constant,
                };
                out.pairs.push(Pair {
                    query,
                    list: probe.list,
                    constant,
                    distance_sq: probe.distance_sq,
                    first: if own > 0 { first } else { NONE },
                    unused: [0; 3],
                });
                first += own;
                vectors += list.vectors as u32;
            }
            out.first.push(first);
            out.vectors.push(vectors);
        }
        out
    }
}

/// The work of a scan in one chunk: see `scan.wgsl`.
#[derive(Default)]
pub(crate) struct Work {
    /// Items, members and pieces.
    pub(crate) words: Vec<u32>,
    pub(crate) items: u32,
    pub(crate) members: u32,
    pub(crate) piece_table: u32,
}

/// The work in every chunk: of all pairs, or of those that bring first candidates the first `most` vectors of their
/// lists. Queries that meet in a list go together, up to `together`.
pub(crate) fn plan(
    index: &GpuIndex<'_>,
    pairs: &Pairs,
    first: Option<usize>,
    together: usize,
) -> Vec<Work> {
    // By list, with a counting sort.
    let wanted = |pair: &Pair| first.is_none() || pair.first != NONE;
    let mut starts = vec![0u32; index.lists.len() + 1];
    for pair in pairs.pairs.iter().filter(|pair| wanted(pair)) {
        starts[pair.list as usize + 1] += 1;
    }
    for list in 0..index.lists.len() {
        starts[list + 1] += starts[list];
    }
    let mut next = starts.clone();
    let mut by_list = vec![0u32; starts[index.lists.len()] as usize];
    for (number, pair) in (0..).zip(&pairs.pairs).filter(|(_, pair)| wanted(pair)) {
        let place = &mut next[pair.list as usize];
        by_list[*place as usize] = number;
        *place += 1;
    }
    let most = first.unwrap_or(usize::MAX);
    let visits = |list: usize| (starts[list + 1] - starts[list]) as usize;
    let all: usize = (0..index.lists.len())
        .map(|list| visits(list).div_ceil(together) * index.lists[list].vectors.min(most))
        .sum();
    let length = (all / ITEMS).clamp(*ITEM_VECTORS.start(), *ITEM_VECTORS.end());
    let length = length.next_multiple_of(nonius::raw::BLOCK);
    let mut items: Vec<(Vec<u32>, Vec<u32>)> = vec![Default::default(); index.chunks.len()];
    let mut chunk = 0;
    // The list and the chunk whose members come last.
    let mut named = None;
    for (list, &place) in index.lists.iter().enumerate() {
        if visits(list) == 0 {
            continue;
        }
        let count = place.vectors.min(most);
        let mut number = 0;
        while number < count {
            let block = place.block + number / nonius::raw::BLOCK;
            while index.chunks[chunk].blocks.end <= block {
                chunk += 1;
            }
            let blocks = &index.chunks[chunk].blocks;
            let here = (blocks.end - block) * nonius::raw::BLOCK;
            let vectors = (count - number).min(length).min(here);
            let (items, members) = &mut items[chunk];
            let of_list = &by_list[starts[list] as usize..starts[list + 1] as usize];
            if named != Some((list, chunk)) {
                named = Some((list, chunk));
                members.extend_from_slice(of_list);
            }
            let at = members.len() - of_list.len();
            for first in (0..of_list.len()).step_by(together) {
                items.extend([
                    ((block - blocks.start) * nonius::raw::BLOCK) as u32,
                    vectors as u32,
                    (at + first) as u32,
                    together.min(of_list.len() - first) as u32,
                    number as u32,
                ]);
            }
            number += vectors;
        }
    }
    items
        .into_iter()
        .map(|(mut words, members)| {
            let items = (words.len() / ITEM) as u32;
            let at = words.len() as u32;
            words.extend_from_slice(&members);
            let piece_table = words.len() as u32;
            for piece in &index.shape.pieces {
                let piece: &[u32; PIECE] = piece;
                words.extend_from_slice(piece);
            }
            Work { words, items, members: at, piece_table }
        })
        .collect()
}
