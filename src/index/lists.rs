//! Writing the lists of an index: each vector goes to the next place of its list, and its copy, if
//! it has one, to the next place behind the vectors of its second list.

use half::f16;
use rayon::prelude::*;

use nonius_simd::BLOCK;

use super::config::Keep;
use super::format::{ListEntry, PlaceCode};
use crate::error::WriteError;
use crate::quantizer::codec::Layout;
use crate::storage::{SectionKind, Sink, Writer};
use crate::train::Buckets;

/// Rows of a list that are written at once: a flat index has one long list.
const PIECE: usize = 8192;

/// Where each list's next vector and next copy go.
pub(super) struct ListWriters<'a> {
    layout: &'a Layout,
    keep: Keep,
    ids: Option<&'a [u64]>,
    id_bytes: usize,
    place: PlaceCode,
    dim: usize,
    lists: Vec<ListWriter>,
}

struct ListWriter {
    start: ListEntry,
    end: ListEntry,
    /// Vectors and copies that were written.
    vectors: u64,
    copies: u64,
    /// Blocks of which some lanes are missing: up to three, the one with the last vectors and the
    /// first copies among them.
    partial: Vec<Partial>,
    /// Packed blocks that follow each other, and the number of the first of them.
    ready: Vec<u8>,
    ready_from: u64,
}

/// A block that is not full yet.
struct Partial {
    /// Its number within the list.
    block: u64,
    /// The heads (groups and factors) of its records.
    heads: Vec<u8>,
    missing: usize,
}

impl<'a> ListWriters<'a> {
    /// Writers for lists that start and end where `table` says, of vectors of `dim` values.
    pub(super) fn new(
        layout: &'a Layout,
        table: &[ListEntry],
        dim: usize,
        keep: Keep,
        ids: Option<&'a [u64]>,
        id_bytes: usize,
        place: PlaceCode,
    ) -> ListWriters<'a> {
        let lists = table
            .windows(2)
            .map(|pair| ListWriter {
                start: pair[0],
                end: pair[1],
                vectors: 0,
                copies: 0,
                partial: Vec::new(),
                ready: Vec::new(),
                ready_from: 0,
            })
            .collect();
        ListWriters { layout, keep, ids, id_bytes, place, dim, lists }
    }

    /// Writes the records of a chunk, list by list, in the order of the rows: `of_row` has the
    /// first and the second list of each; there need be nothing for second lists.
    pub(super) fn write_chunk<S: Sink>(
        &mut self,
        writer: &Writer<S>,
        first: usize,
        values: &[f32],
        of_row: [&[u32]; 2],
        records: &[u8],
    ) -> Result<(), WriteError> {
        let [rows, copies] = of_row.map(|of_row| Buckets::new(self.lists.len(), of_row));
        let places = if of_row[1].is_empty() { Vec::new() } else { self.places(&rows, of_row[0]) };
        let layout = self.layout;
        let (stride, head) = (layout.record_bytes(), layout.head_bytes());
        let (ids, id_bytes, keep, dim) = (self.ids, self.id_bytes, self.keep, self.dim);
        let place_bytes = self.place.bytes;
        self.lists.par_iter_mut().enumerate().try_for_each(|(number, list)| {
            for rows in rows.members(number).chunks(PIECE) {
                let mut rest = Vec::with_capacity(rows.len() * layout.rest_bytes());
                let mut id_buffer = Vec::with_capacity(rows.len() * id_bytes);
                let mut kept = Vec::with_capacity(rows.len() * dim * keep.value_bytes());
                let position = list.start.vector + list.vectors;
                for &row in rows {
                    let row = row as usize;
                    let record = &records[row * stride..(row + 1) * stride];
                    list.put(writer, layout, list.vectors, &record[..head])?;
                    list.vectors += 1;
                    rest.extend_from_slice(&record[head..]);
                    let id = ids.map_or((first + row) as u64, |ids| ids[first + row]);
                    id_buffer.extend_from_slice(&id.to_le_bytes()[..id_bytes]);
                    let vector = &values[row * dim..(row + 1) * dim];
                    match keep {
                        Keep::None => {}
                        Keep::F16 => kept.extend(
                            vector.iter().flat_map(|&x| f16::from_f32_const(x).to_le_bytes()),
                        ),
                        Keep::F32 => kept.extend(vector.iter().flat_map(|x| x.to_le_bytes())),
                    }
                }
                writer.write_at(SectionKind::Rest, position * layout.rest_bytes() as u64, &rest)?;
                writer.write_at(SectionKind::Ids, position * id_bytes as u64, &id_buffer)?;
                if keep != Keep::None {
                    let row_bytes = (dim * keep.value_bytes()) as u64;
                    writer.write_at(SectionKind::Kept, position * row_bytes, &kept)?;
                }
            }
            let copies = copies.members(number);
            if !copies.is_empty() {
                let mut buffer = Vec::with_capacity(copies.len() * place_bytes);
                let position = list.start.copy + list.copies;
                for &row in copies {
                    let row = row as usize;
                    let slot = list.end.vector - list.start.vector + list.copies;
                    list.put(writer, layout, slot, &records[row * stride..][..head])?;
                    list.copies += 1;
                    buffer.extend_from_slice(&places[row].to_le_bytes()[..place_bytes]);
                }
                writer.write_at(SectionKind::Spilled, position * place_bytes as u64, &buffer)?;
            }
            list.write_ready(writer, layout)
        })
    }

    /// The place of each row in its first list.
    fn places(&self, rows: &Buckets, of_row: &[u32]) -> Vec<u64> {
        let mut places = vec![0; of_row.len()];
        for (number, list) in self.lists.iter().enumerate() {
            for (&row, number_there) in rows.members(number).iter().zip(list.vectors..) {
                places[row as usize] = self.place.encode(number as u32, number_there);
            }
        }
        places
    }
}

impl ListWriter {
    /// Puts the head of a record into its lane; writes what is ready when that does not go on.
    fn put<S: Sink>(
        &mut self,
        writer: &Writer<S>,
        layout: &Layout,
        slot: u64,
        head: &[u8],
    ) -> Result<(), WriteError> {
        let (block, lane) = (slot / BLOCK as u64, (slot % BLOCK as u64) as usize);
        let at = match self.partial.iter().position(|partial| partial.block == block) {
            Some(at) => at,
            None => {
                let slots = self.end.vector - self.start.vector + self.end.copy - self.start.copy;
                let lanes = (slots - block * BLOCK as u64).min(BLOCK as u64) as usize;
                let heads = vec![0; lanes * head.len()];
                self.partial.push(Partial { block, heads, missing: lanes });
                self.partial.len() - 1
            }
        };
        let partial = &mut self.partial[at];
        partial.heads[lane * head.len()..(lane + 1) * head.len()].copy_from_slice(head);
        partial.missing -= 1;
        if partial.missing == 0 {
            let Partial { heads, .. } = self.partial.swap_remove(at);
            let size = layout.block_bytes();
            if block != self.ready_from + (self.ready.len() / size) as u64 {
                self.write_ready(writer, layout)?;
            }
            if self.ready.is_empty() {
                self.ready_from = block;
            }
            let packed = self.ready.len();
            self.ready.resize(packed + size, 0);
            layout.pack_block(&heads, head.len(), &mut self.ready[packed..]);
        }
        Ok(())
    }

    fn write_ready<S: Sink>(
        &mut self,
        writer: &Writer<S>,
        layout: &Layout,
    ) -> Result<(), WriteError> {
        if !self.ready.is_empty() {
            let block = self.start.block + self.ready_from;
            writer.write_at(SectionKind::Scan, block * layout.block_bytes() as u64, &self.ready)?;
        }
        // The memory goes with it: there may be very many lists.
        self.ready = Vec::new();
        Ok(())
    }
}
