//! Outliers: the vectors that their codes miss by most, which an index keeps exactly beside them.
//!
//! Their codes stay where they are, so that nothing else of a list moves; searches leave these out and compare
//! the vectors themselves. (VPTQ, Liu and others, EMNLP 2024, arXiv 2409.17066, does as much for weights of
//! models.)

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::path::Path;

use nonius_simd::{BLOCK, l2_sq_f32};
use rayon::prelude::*;

use super::format::{ListEntry, Parts};
use super::search::key_f32;
use super::shelf::Shelf;
use crate::error::{OpenError, WriteError};
use crate::matrix::subtract;
use crate::metric::Metric;
use crate::quantizer::codec::{Codec, Encoder};
use crate::quantizer::frame::ListCentroids;
use crate::storage::{Container, Section, SectionKind, Sink, Writer};
use crate::train::RowsI16;

/// Rows that a task measures.
const TASK_ROWS: usize = 256;

/// Rows that are copied into the file at once.
const COPIED: usize = 256;

/// Bytes of an outlier: its position and its values.
pub(super) fn outlier_bytes(dim: usize) -> usize {
    size_of::<u64>() + dim * size_of::<f32>()
}

/// How many outliers of `dim` values there are for so many bytes a vector on average.
pub(super) fn outliers_for(rows: usize, dim: usize, bytes_per_vector: f64) -> usize {
    // Saturates; what is left of a vector is not kept.
    let fit = (bytes_per_vector * rows as f64 / outlier_bytes(dim) as f64) as usize;
    fit.min(rows)
}

/// The outliers of an index.
pub(crate) struct Outliers {
    metric: Metric,
    dim: usize,
    /// Ascending.
    positions: Section<u64>,
    /// A row for each, in the model's units.
    values: Section<f32>,
}

impl Outliers {
    /// How many outliers a file says that it has.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`] for one section of outliers without the other, or without outliers.
    pub(super) fn count(container: &Container) -> Result<u64, OpenError> {
        let kind = SectionKind::OutlierPositions;
        match (container.optional(kind), container.optional(SectionKind::OutlierVectors)) {
            (None, None) => Ok(0),
            (Some(positions), Some(_)) if !positions.is_empty() => {
                // Rounded up, so that a part of a number is not taken for none.
                Ok(positions.len().div_ceil(size_of::<u64>()) as u64)
            }
            (positions, vectors) => {
                let found = [positions, vectors].map(|section| match section {
                    None => "none".to_owned(),
                    Some(bytes) => format!("{} bytes", bytes.len()),
                });
                let [positions, vectors] = found;
                let message = format!(
                    "expected positions and vectors, or no section of either, found {positions} of \
                     positions, {vectors} of vectors"
                );
                Err(OpenError::corrupt(kind.name(), message))
            }
        }
    }

    /// The outliers of an index of `vectors` vectors, if there are any. Sections have their lengths.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`] for positions that do not ascend, or of vectors that there are not.
    pub(super) fn open(
        container: &Container,
        metric: Metric,
        dim: usize,
        vectors: u64,
    ) -> Result<Option<Outliers>, OpenError> {
        if Outliers::count(container)? == 0 {
            return Ok(None);
        }
        let positions = container.shared::<u64>(SectionKind::OutlierPositions)?;
        let mut least = 0;
        for (number, &position) in positions.iter().enumerate() {
            if position < least || position >= vectors {
                let message = format!(
                    "outlier {number}: expected a position from {least} on and below {vectors}, found \
                     {position}"
                );
                return Err(OpenError::corrupt(SectionKind::OutlierPositions.name(), message));
            }
            least = position + 1;
        }
        let values = container.shared(SectionKind::OutlierVectors)?;
        Ok(Some(Outliers { metric, dim, positions, values }))
    }

    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    /// The bytes of all.
    pub(super) fn bytes(&self) -> usize {
        self.len() * outlier_bytes(self.dim)
    }

    /// Bytes that are read of each that is compared.
    pub(super) fn row_bytes(&self) -> usize {
        self.dim * size_of::<f32>()
    }

    /// The numbers of the outliers at some positions.
    pub(super) fn among(&self, positions: Range<usize>) -> Range<usize> {
        let before = |end: usize| self.positions.partition_point(|&p| p < end as u64);
        before(positions.start)..before(positions.end)
    }

    /// The number of the outlier at a position, if that is one of `numbers`.
    pub(super) fn find(&self, numbers: Range<usize>, position: usize) -> Option<usize> {
        let first = numbers.start;
        let found = self.positions[numbers].binary_search(&(position as u64));
        found.ok().map(|at| first + at)
    }

    /// The position of an outlier.
    pub(super) fn position(&self, number: usize) -> usize {
        self.positions[number] as usize
    }

    /// The exact key of an outlier for a query in the model's units.
    pub(super) fn key(&self, query: &[f32], number: usize) -> f32 {
        key_f32(self.metric, query, &self.values[number * self.dim..(number + 1) * self.dim])
    }
}

impl Parts {
    /// How many outliers there are.
    pub(crate) fn outlier_count(&self) -> usize {
        self.outliers.as_ref().map_or(0, Outliers::len)
    }

    /// The exact key of the vector at a position, if it is an outlier.
    #[inline]
    pub(super) fn exact_key(&self, query: &[f32], position: usize) -> Option<f32> {
        let outliers = self.outliers.as_ref()?;
        outliers.find(0..outliers.len(), position).map(|number| outliers.key(query, number))
    }
}

/// Finds the outliers while vectors are encoded, and keeps them until it is known where each goes.
pub(super) struct Chooser {
    most: usize,
    dim: usize,
    codec: Codec,
    /// The chosen ones so far, the one with the least error on top.
    chosen: BinaryHeap<Reverse<Choice>>,
    /// The vectors of the chosen ones, row by row.
    values: Shelf<f32>,
    /// The position of the next vector of each list.
    next: Vec<u64>,
    errors: Vec<f32>,
}

/// The one with the larger error goes first, and of equal ones that of the earlier row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Choice {
    /// The bits of the squared error, which is not negative: they are ordered as it is.
    error: u32,
    row: Reverse<usize>,
    position: u64,
    /// The row of the values.
    slot: usize,
}

/// A chunk of encoded vectors.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    /// The number of the first row.
    pub(super) first: usize,
    /// As they are compared: `rows x dim`.
    pub(super) values: &'a [f32],
    /// The list of each row.
    pub(super) of_row: &'a [u32],
    pub(super) records: &'a [u8],
}

impl Chooser {
    /// Chooses `most` of the vectors that an encoder encodes and that go to the lists of `table`. They are kept in
    /// a temporary file beside `path`, if there is one.
    pub(super) fn new(
        most: usize,
        encoder: &Encoder,
        table: &[ListEntry],
        path: Option<&Path>,
    ) -> Result<Chooser, WriteError> {
        let dim = encoder.frame().dim;
        let codec = Codec::of(encoder).map_err(|error| {
            WriteError::new(path.unwrap_or(Path::new("(memory)")), "allocating", error)
        })?;
        Ok(Chooser {
            most,
            dim,
            codec,
            chosen: BinaryHeap::with_capacity(most),
            values: Shelf::new(most * dim, path)?,
            next: table.iter().map(|entry| entry.vector).collect(),
            errors: Vec::new(),
        })
    }

    /// Looks at the next rows.
    pub(super) fn look_at(
        &mut self,
        encoder: &Encoder,
        centroids: Option<&ListCentroids>,
        chunk: Chunk<'_>,
    ) -> Result<(), WriteError> {
        let (dim, scale) = (self.dim, encoder.frame().scale);
        let mut errors = std::mem::take(&mut self.errors);
        self.measure(encoder, centroids, chunk, &mut errors);
        let mut scaled = Vec::with_capacity(dim);
        let rows = chunk.values.chunks_exact(dim).zip(chunk.of_row).zip(&errors);
        for (row, ((vector, &list), &error)) in (chunk.first..).zip(rows) {
            let position = self.next[list as usize];
            self.next[list as usize] += 1;
            let error = error.max(0.0).to_bits();
            let choice = Choice { error, row: Reverse(row), position, slot: self.chosen.len() };
            let slot = if self.chosen.len() < self.most {
                self.chosen.push(Reverse(choice));
                choice.slot
            } else {
                match self.chosen.peek_mut() {
                    Some(mut least) if choice > least.0 => {
                        let slot = least.0.slot;
                        *least = Reverse(Choice { slot, ..choice });
                        slot
                    }
                    _ => continue,
                }
            };
            scaled.clear();
            scaled.extend(vector.iter().map(|x| x * scale));
            self.values.write(slot * dim, &scaled)?;
        }
        self.errors = errors;
        Ok(())
    }

    /// The squared distance of each row to what its record stands for, in the model's units.
    fn measure(
        &self,
        encoder: &Encoder,
        centroids: Option<&ListCentroids>,
        chunk: Chunk<'_>,
        errors: &mut Vec<f32>,
    ) {
        let layout = self.codec.layout();
        let (stride, head) = (layout.record_bytes(), layout.head_bytes());
        let (dim, dims, levels) = (self.dim, encoder.frame().dims, self.codec.levels());
        errors.clear();
        errors.resize(chunk.of_row.len(), 0.0);
        errors
            .par_chunks_mut(TASK_ROWS)
            .zip(chunk.values.par_chunks(TASK_ROWS * dim))
            .zip(chunk.of_row.par_chunks(TASK_ROWS))
            .zip(chunk.records.par_chunks(TASK_ROWS * stride))
            .for_each_init(
                || (Vec::new(), RowsI16::new(), Vec::new(), vec![0; layout.block_bytes()]),
                |(scaled, rows, product, block), (((errors, values), of_row), records)| {
                    let values = encoder.frame().scaled(values, scaled);
                    let mut rotated = vec![0.0; of_row.len() * dims];
                    encoder.rotation().view(dim).apply(
                        encoder.mean(),
                        values,
                        rows,
                        product,
                        &mut rotated,
                    );
                    for first in (0..of_row.len()).step_by(BLOCK) {
                        let count = BLOCK.min(of_row.len() - first);
                        let records = &records[first * stride..(first + count) * stride];
                        layout.pack_block(records, stride, block);
                        for (v, record) in records.chunks_exact(stride).enumerate() {
                            let row = first + v;
                            let residual = &mut rotated[row * dims..(row + 1) * dims];
                            if let Some(centroids) = centroids {
                                let list = of_row[row] as usize;
                                let centroid = &centroids.rotated[list * dims..][..dims];
                                subtract(residual, centroid);
                            }
                            let point = self.codec.point(block, v, &record[head..], levels);
                            errors[row] = l2_sq_f32(residual, &point);
                        }
                    }
                },
            );
    }

    /// Writes the sections; returns how many outliers there are.
    pub(super) fn write<S: Sink>(self, writer: &Writer<S>) -> Result<usize, WriteError> {
        let mut chosen: Vec<Choice> = self.chosen.into_iter().map(|Reverse(c)| c).collect();
        chosen.sort_unstable_by_key(|choice| choice.position);
        let positions: Vec<u64> = chosen.iter().map(|choice| choice.position).collect();
        writer.write_values(SectionKind::OutlierPositions, 0, &positions)?;
        let dim = self.dim;
        for (number, chosen) in chosen.chunks(COPIED).enumerate() {
            let mut rows = vec![0.0f32; chosen.len() * dim];
            for (row, choice) in rows.chunks_exact_mut(dim).zip(chosen) {
                self.values.read(choice.slot * dim, row)?;
            }
            let index = (number * COPIED * dim) as u64;
            writer.write_values(SectionKind::OutlierVectors, index, &rows)?;
        }
        Ok(positions.len())
    }
}
