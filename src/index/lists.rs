//! Writing the lists of an index: each vector goes to the next place of its list.

use half::f16;
use rayon::prelude::*;

use nonius_simd::BLOCK;

use super::config::Keep;
use crate::error::WriteError;
use crate::quantizer::saq::Layout;
use crate::storage::{SectionKind, Sink, Writer};

/// Where each list's next vector goes.
pub(super) struct ListWriters<'a> {
    layout: &'a Layout,
    keep: Keep,
    ids: Option<&'a [u64]>,
    id_bytes: usize,
    dim: usize,
    lists: Vec<ListWriter>,
}

#[derive(Default)]
struct ListWriter {
    /// The position of the next vector.
    position: u64,
    /// The next block.
    block: u64,
    /// The heads (groups and factors) of records that do not fill a block yet.
    pending: Vec<u8>,
}

impl<'a> ListWriters<'a> {
    /// Writers for lists of these sizes, of vectors of `dim` values.
    pub(super) fn new(
        layout: &'a Layout,
        sizes: &[u64],
        dim: usize,
        keep: Keep,
        ids: Option<&'a [u64]>,
        id_bytes: usize,
    ) -> ListWriters<'a> {
        let (mut position, mut block) = (0, 0);
        let lists = sizes
            .iter()
            .map(|&size| {
                let list = ListWriter { position, block, pending: Vec::new() };
                position += size;
                block += size.div_ceil(BLOCK as u64);
                list
            })
            .collect();
        ListWriters { layout, keep, ids, id_bytes, dim, lists }
    }

    /// Writes the records of a chunk, list by list, in the order of the rows.
    pub(super) fn write_chunk<S: Sink>(
        &mut self,
        writer: &Writer<S>,
        first: usize,
        values: &[f32],
        of_row: &[u32],
        records: &[u8],
    ) -> Result<(), WriteError> {
        // Rows by list: a counting sort, stable.
        let mut starts = vec![0usize; self.lists.len() + 1];
        for &list in of_row {
            starts[list as usize + 1] += 1;
        }
        for list in 0..self.lists.len() {
            starts[list + 1] += starts[list];
        }
        let mut next = starts.clone();
        let mut order = vec![0u32; of_row.len()];
        for (row, &list) in of_row.iter().enumerate() {
            order[next[list as usize]] = row as u32;
            next[list as usize] += 1;
        }
        let layout = self.layout;
        let (stride, head, rest_start) =
            (layout.record_bytes(), layout.rest_start(), layout.rest_start());
        let (ids, id_bytes, keep, dim) = (self.ids, self.id_bytes, self.keep, self.dim);
        self.lists.par_iter_mut().enumerate().try_for_each(|(number, list)| {
            // A flat index has one long list: go on in pieces, so that buffers stay small.
            for rows in order[starts[number]..starts[number + 1]].chunks(8192) {
                let mut rest = Vec::with_capacity(rows.len() * layout.rest_bytes);
                let mut id_buffer = Vec::with_capacity(rows.len() * id_bytes);
                let mut kept = Vec::with_capacity(rows.len() * dim * keep.value_bytes());
                for &row in rows {
                    let row = row as usize;
                    let record = &records[row * stride..(row + 1) * stride];
                    list.pending.extend_from_slice(&record[..head]);
                    rest.extend_from_slice(&record[rest_start..]);
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
                let position = list.position;
                writer.write_at(SectionKind::Rest, position * layout.rest_bytes as u64, &rest)?;
                writer.write_at(SectionKind::Ids, position * id_bytes as u64, &id_buffer)?;
                if keep != Keep::None {
                    let row_bytes = (dim * keep.value_bytes()) as u64;
                    writer.write_at(SectionKind::Kept, position * row_bytes, &kept)?;
                }
                list.position += rows.len() as u64;
                list.write_blocks(writer, layout, false)?;
            }
            Ok(())
        })
    }

    /// Writes the blocks that are not full.
    pub(super) fn finish<S: Sink>(&mut self, writer: &Writer<S>) -> Result<(), WriteError> {
        let layout = self.layout;
        self.lists.iter_mut().try_for_each(|list| list.write_blocks(writer, layout, true))
    }
}

impl ListWriter {
    fn write_blocks<S: Sink>(
        &mut self,
        writer: &Writer<S>,
        layout: &Layout,
        all: bool,
    ) -> Result<(), WriteError> {
        let head = layout.rest_start();
        let held = self.pending.len() / head;
        let count = if all { held.div_ceil(BLOCK) } else { held / BLOCK };
        if count == 0 {
            return Ok(());
        }
        let size = layout.block_bytes();
        let mut blocks = vec![0; count * size];
        for (block, heads) in blocks.chunks_exact_mut(size).zip(self.pending.chunks(BLOCK * head)) {
            layout.pack_block(heads, head, block);
        }
        writer.write_at(SectionKind::Scan, self.block * size as u64, &blocks)?;
        self.block += count as u64;
        self.pending.drain(..(count * BLOCK * head).min(self.pending.len()));
        Ok(())
    }
}
