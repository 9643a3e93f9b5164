//! What a batch of queries brings to the device: tables, the lists to search, and the work in them.

use nonius::SearchParams;
use nonius::raw::{RawProbe, RawSearcher, RawSegment, RawTables};
use rayon::prelude::*;

use crate::error::GpuError;
use crate::kernels::scan::{ITEM, PIECE};
use crate::kernels::views::{HEAD, LINE};
use crate::kernels::{NONE, Pair};
use crate::upload::{GpuIndex, Refine, SaqPiece, Shape};

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

/// Queries, prepared. Buffers are kept from batch to batch.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) rows: usize,
    pub(crate) tables: Vec<u32>,
    pub(crate) refine: Vec<u32>,
    pub(crate) queries: Vec<f32>,
    pub(crate) square: f32,
    /// What each task has found out.
    tasks: Vec<Task>,
}

/// Some queries.
#[derive(Default)]
struct Task {
    /// The lists of all of them, in the order of their routes.
    probes: Vec<RawProbe>,
    /// How many each of them has.
    counts: Vec<usize>,
    square: f32,
}

/// Where the tables of some queries go.
struct Place<'b> {
    rows: &'b [f32],
    tables: &'b mut [u32],
    refine: &'b mut [u32],
    queries: &'b mut [f32],
}

/// A buffer of a length, whatever is in it.
fn sized<T: Copy + Default>(buffer: &mut Vec<T>, length: usize) {
    buffer.resize(length, T::default());
}

/// Cuts off the first of what is left, as many as there should be or are.
fn cut<'b, T>(rest: &mut &'b mut [T], count: usize) -> &'b mut [T] {
    let (first, after) = std::mem::take(rest).split_at_mut(count);
    *rest = after;
    first
}

impl Batch {
    /// Prepares queries (`rows x dim`).
    pub(crate) fn fill(
        &mut self,
        index: &GpuIndex<'_>,
        sizes: Sizes,
        queries: &[f32],
        k: usize,
        params: &SearchParams,
    ) -> Result<(), GpuError> {
        let dim = index.index.dim();
        self.rows = queries.len() / dim;
        sized(&mut self.tables, self.rows * sizes.table);
        sized(&mut self.refine, self.rows * sizes.refine);
        sized(&mut self.queries, self.rows * sizes.query);
        self.tasks.resize_with(self.rows.div_ceil(TASK), Task::default);
        let (mut tables, mut refine, mut floats) =
            (&mut self.tables[..], &mut self.refine[..], &mut self.queries[..]);
        let places: Vec<Place<'_>> = queries
            .chunks(TASK * dim)
            .map(|queries| {
                let rows = queries.len() / dim;
                Place {
                    rows: queries,
                    tables: cut(&mut tables, rows * sizes.table),
                    refine: cut(&mut refine, rows * sizes.refine),
                    queries: cut(&mut floats, rows * sizes.query),
                }
            })
            .collect();
        let done: Vec<Result<(), GpuError>> = places
            .into_par_iter()
            .zip(&mut self.tasks)
            .map_init(
                || index.searcher(),
                |lent, (place, task)| task.fill(index, sizes, &mut lent.searcher, place, k, params),
            )
            .collect();
        done.into_iter().collect::<Result<(), GpuError>>()?;
        self.square = self.tasks.first().map_or(0.0, |task| task.square);
        Ok(())
    }

    /// What views of a query are made of.
    fn values(&self, query: usize) -> &[f32] {
        let size = self.queries.len() / self.rows;
        &self.queries[query * size..(query + 1) * size]
    }

    /// Whether any query asks for a list, for each of `nlist`.
    pub(crate) fn wanted(&self, nlist: usize) -> Vec<bool> {
        let mut wanted = vec![false; nlist];
        for probe in self.tasks.iter().flat_map(|task| &task.probes) {
            wanted[probe.list as usize] = true;
        }
        wanted
    }

    /// How many lists all queries have together.
    pub(crate) fn probes(&self) -> usize {
        self.tasks.iter().map(|task| task.probes.len()).sum()
    }
}

impl Task {
    fn fill(
        &mut self,
        index: &GpuIndex<'_>,
        sizes: Sizes,
        searcher: &mut RawSearcher<'_>,
        place: Place<'_>,
        k: usize,
        params: &SearchParams,
    ) -> Result<(), GpuError> {
        let Place { rows, tables, refine, queries } = place;
        // Not all kinds of codes say all that there is room for.
        tables.fill(0);
        refine.fill(0);
        queries.fill(0.0);
        self.probes.clear();
        self.counts.clear();
        searcher.prepare(rows, k, params, |row, query| {
            let values = &mut queries[row * sizes.query..(row + 1) * sizes.query];
            values[0] = query.constant();
            values[1] = query.norm_sq().0;
            if values.len() > sizes.head {
                values[sizes.head..].copy_from_slice(query.values());
            }
            let table = &mut tables[row * sizes.table..(row + 1) * sizes.table];
            let refine = &mut refine[row * sizes.refine..(row + 1) * sizes.refine];
            let rotated = query.values();
            let (alpha, square) = (index.raw.alpha(), &mut self.square);
            fill(&index.shape, query.tables(), alpha, rotated, values, table, refine, square);
            let probes = query.probes();
            self.counts.push(probes.len());
            self.probes.extend(probes);
        })?;
        Ok(())
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
                out[2..].copy_from_slice(&[line.near, constant, by_distance]);
            }
            let mut word = 0;
            for (i, &SaqPiece { segment, first, count }) in pieces.iter().enumerate() {
                let line = &mut query[HEAD + LINE * i..][..LINE];
                let segment = &segments[segment];
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
    match segment.scan_bits {
        2 => weights_of::<2, 16>([outer - inner, outer + inner], outer, values, table),
        _ => weights_of::<1, 32>([2.0 * inner], inner, values, table),
    }
}

/// [`weights`] of values with so many bits each, so many of them in a word: bit `b` of a value is worth `of_bit[b]`, and
/// `least` is taken off. In loops of fixed lengths without a call, so that compilers make vectors of them.
fn weights_of<const BITS: usize, const VALUES: usize>(
    of_bit: [f32; BITS],
    least: f32,
    values: &[f32],
    table: &mut [u32],
) -> (f32, f32) {
    /// What rounds to integers, ties to even, and has them in its last bits when it is added.
    const ROUND: f32 = (3 << 22) as f32;
    let mut most = [0.0f32; 8];
    for eight in values.chunks(8) {
        for (most, x) in most.iter_mut().zip(eight) {
            *most = if x.abs() > *most { x.abs() } else { *most };
        }
    }
    let most = most.into_iter().fold(0.0, f32::max);
    let largest = of_bit.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let step = (most * largest / 127.0).max(f32::MIN_POSITIVE);
    let mut biases = [0.0f32; VALUES];
    for (of_word, words) in values.chunks(VALUES).zip(table.as_chunks_mut::<8>().0) {
        let mut x = [0.0f32; VALUES];
        x[..of_word.len()].copy_from_slice(of_word);
        let mut rounded = [[0u8; VALUES]; BITS];
        for (bias, x) in biases.iter_mut().zip(&x) {
            *bias -= least * x;
        }
        for (rounded, of_bit) in rounded.iter_mut().zip(&of_bit) {
            for ((bias, rounded), x) in biases.iter_mut().zip(rounded).zip(&x) {
                let weight = x * of_bit;
                let shifted = (weight / step).clamp(-127.0, 127.0) + ROUND;
                *rounded = shifted.to_bits() as u8;
                *bias += 0.5 * (weight - step * (shifted - ROUND));
            }
        }
        // Bit `8 c + j` of the word in byte `c` of weights `j`.
        for (j, word) in words.iter_mut().enumerate() {
            let byte = |c: usize| rounded[(8 * c + j) % BITS][(8 * c + j) / BITS];
            *word = u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)]);
        }
    }
    (step, biases.iter().sum())
}

/// The lists of all queries. Buffers are kept from batch to batch.
#[derive(Default)]
pub(crate) struct Pairs {
    pub(crate) pairs: Vec<Pair>,
    /// The list of each pair, and how many pairs each list has.
    lists: Vec<u32>,
    visits: Vec<u32>,
    /// How many first candidates each query has, and how many vectors its lists hold.
    pub(crate) first: Vec<u32>,
    pub(crate) vectors: Vec<u32>,
    /// The numbers of the pairs that bring first candidates.
    bring: Vec<u32>,
}

impl Pairs {
    /// Pairs queries with their lists; those that come first bring at least `wanted` first candidates, of each
    /// list the first `wanted` at most.
    pub(crate) fn fill(&mut self, index: &GpuIndex<'_>, batch: &Batch, wanted: usize) {
        let count = batch.probes();
        sized(&mut self.pairs, count);
        sized(&mut self.lists, count);
        sized(&mut self.first, batch.rows);
        sized(&mut self.vectors, batch.rows);
        let (mut pairs, mut lists, mut first, mut vectors) =
            (&mut self.pairs[..], &mut self.lists[..], &mut self.first[..], &mut self.vectors[..]);
        let (mut row, mut number) = (0, 0);
        let places: Vec<_> = batch
            .tasks
            .iter()
            .map(|task| {
                let (rows, count) = (task.counts.len(), task.probes.len());
                let numbers = (row as u32, number as u32);
                row += rows;
                number += count;
                (
                    (task, numbers),
                    (cut(&mut pairs, count), cut(&mut lists, count)),
                    (cut(&mut first, rows), cut(&mut vectors, rows)),
                )
            })
            .collect();
        let brought: Vec<Vec<u32>> = places
            .into_par_iter()
            .map(|((task, (row, number)), (pairs, lists), (first, vectors))| {
                let mut places = (number..).zip(pairs.iter_mut().zip(lists).zip(&task.probes));
                let mut bring = Vec::new();
                let rows = (row..).zip(&task.counts).zip(first.iter_mut().zip(vectors));
                for ((query, &count), (first, vectors)) in rows {
                    (*first, *vectors) = (0, 0);
                    for (number, ((pair, of_pair), probe)) in places.by_ref().take(count) {
                        let list = index.lists[probe.list as usize];
                        let own = match (*first as usize) < wanted {
                            true => list.vectors.min(wanted) as u32,
                            false => 0,
                        };
                        // Of floats no list says anything that its keys need.
                        let constant = match index.shape.refine {
                            Refine::None => batch.values(query as usize)[0],
                            _ => probe.constant,
                        };
                        *pair = Pair {
                            query,
                            list: probe.list,
                            constant,
                            distance_sq: probe.distance_sq,
                            first: if own > 0 { *first } else { NONE },
                            unused: [0; 3],
                        };
                        *of_pair = probe.list;
                        *first += own;
                        *vectors += list.vectors as u32;
                        if own > 0 {
                            bring.push(number);
                        }
                    }
                }
                bring
            })
            .collect();
        self.bring.clear();
        self.bring.extend(brought.iter().flatten());
        self.visits.clear();
        self.visits.resize(index.lists.len(), 0);
        for &list in &self.lists {
            self.visits[list as usize] += 1;
        }
    }

    /// How many queries meet in a list, at most.
    pub(crate) fn meet(&self) -> u32 {
        self.visits.iter().copied().max().unwrap_or(0)
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
    let lists = index.lists.len();
    let mut starts = vec![0u32; lists + 1];
    match first {
        None => starts[1..].copy_from_slice(&pairs.visits),
        Some(_) => {
            for &number in &pairs.bring {
                starts[pairs.lists[number as usize] as usize + 1] += 1;
            }
        }
    }
    for list in 0..lists {
        starts[list + 1] += starts[list];
    }
    let mut next = starts.clone();
    let mut by_list = vec![0u32; starts[lists] as usize];
    let mut place = |number: u32| {
        let place = &mut next[pairs.lists[number as usize] as usize];
        by_list[*place as usize] = number;
        *place += 1;
    };
    match first {
        None => (0..pairs.lists.len() as u32).for_each(&mut place),
        Some(_) => pairs.bring.iter().for_each(|&number| place(number)),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// [`weights`], one bit after the other: step, bias, and the weight of each bit.
    fn plain(segment: &RawSegment, values: &[f32]) -> (f32, f64, Vec<i8>) {
        let [inner, outer] = segment.levels;
        let (of_bit, least) = match segment.scan_bits {
            2 => (vec![outer - inner, outer + inner], outer),
            _ => (vec![2.0 * inner], inner),
        };
        let most = values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let largest = of_bit.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let step = (most * largest / 127.0).max(f32::MIN_POSITIVE);
        let mut bias = 0.0f64;
        let mut weights = Vec::new();
        for &value in values {
            bias -= f64::from(least) * f64::from(value);
            for of_bit in &of_bit {
                let weight = value * of_bit;
                let rounded = (weight / step).round_ties_even().clamp(-127.0, 127.0);
                bias += 0.5 * f64::from(weight - step * rounded);
                weights.push(rounded as i8);
            }
        }
        (step, bias, weights)
    }

    #[test]
    fn weights_are_those_of_single_bits() {
        let mut random = nonius::random::Random::new(5, 0);
        for scan_bits in [1, 2] {
            for dims in [8, 16, 24, 40, 64, 200] {
                for size in [0.0, 1e-38, 1e-20, 1.0, 1e15] {
                    let segment = RawSegment {
                        start: 0,
                        dims,
                        bits: 4,
                        scan_bits,
                        groups: (0, dims * scan_bits as usize / 4),
                        levels: [0.25, 0.75],
                        unit: 1.0,
                        energy: 1.0,
                        scale_shift: 0,
                        scale_base: 0,
                    };
                    let mut values: Vec<f32> =
                        (0..dims).map(|_| size * random.normal() as f32).collect();
                    // Ties: halves of the step, which is a whole number.
                    if size == 1.0 {
                        values
                            .iter_mut()
                            .for_each(|x| *x = (*x * 20.0).round().clamp(-60.0, 60.0) + 0.5);
                        values[3] = if scan_bits == 2 { 127.0 } else { 254.0 };
                    }
                    let words = (dims * scan_bits as usize).div_ceil(32);
                    let mut table = vec![u32::MAX; 8 * words];
                    let (step, bias) = weights(&segment, &values, &mut table);
                    let (expected_step, expected_bias, expected) = plain(&segment, &values);
                    assert_eq!(step, expected_step);
                    let scale: f32 = values.iter().map(|x| x.abs()).sum();
                    let error = (f64::from(bias) - expected_bias).abs();
                    assert!(
                        error <= 1e-5 * f64::from(scale),
                        "{dims} {size}: {bias}, {expected_bias}"
                    );
                    for bit in 0..32 * words {
                        let word = table[bit / 32 * 8 + bit % 8];
                        let found = (word >> (8 * (bit % 32 / 8))) as u8 as i8;
                        let expected = expected.get(bit).copied().unwrap_or(0);
                        assert_eq!(found, expected, "bit {bit} of {scan_bits} x {dims}, {size}");
                    }
                }
            }
        }
    }
}
