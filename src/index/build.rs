//! Building an index: a sample to train on, one pass to assign, one pass to encode.
//!
//! The working set does not depend on the number of vectors: the training sample (640 MiB at
//! most unless there are very many lists), a chunk of rows and of their records, up to three
//! half-finished blocks a list, and 32 bytes an outlier. The lists of all vectors are kept in temporary files between the
//! two passes, and outliers in another one until all vectors are encoded.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rayon::prelude::*;

use super::Index;
use super::config::{BuildReport, IndexConfig, Keep};
use super::door::{check_ids, check_row, check_weights};
use super::format::{
    ListEntry, Meta, PlaceCode, code_of, keep_code, parse, section_lengths, segment_entries,
};
use super::learn::Sample;
use super::lists::ListWriters;
use super::outliers::{Chooser, Chunk, outlier_bytes, outliers_for};
use super::rank::CompactCentroids;
use super::shelf::Shelf;
use super::sums::{Strides, write_list_checksums};
use crate::accelerator::{Accelerator, LoadedCentroids};
use crate::error::{BuildError, OpenError, SourceError, VectorError, WriteError};
use crate::matrix::{MAX_DIM, MatrixView, check_finite};
use crate::progress::{Progress, ProgressFn, Stage};
use crate::quantizer::codec::{self, EncodeScratch, Encoder, OnDevice};
use crate::quantizer::frame::{ListCentroids, Lists, Options, TrainingSet};
use crate::source::{RowReader, VectorSource};
use crate::storage::{
    Container, FileWriter, HeaderFields, Layout, MemoryWriter, SectionKind, Sink, Writer,
};
use crate::train::{Assigner, NOWHERE};

/// Bytes of vectors that are read at a time.
const CHUNK_BYTES: usize = 32 << 20;
/// Bytes of vectors for each thread that are likely to stay in a cache.
const CACHED_BYTES: usize = 1 << 20;
/// Rows that a task encodes.
const TASK_ROWS: usize = 256;

/// Builds an index with all options.
///
/// ```
/// use nonius::{IndexBuilder, IndexConfig, Matrix};
///
/// let vectors = Matrix::new(8, (0..8000).map(|i| (i as f32 * 0.37).sin()).collect())?;
/// let ids: Vec<u64> = (0..1000).map(|i| 7 * i).collect();
/// let config = IndexConfig { nlist: Some(10), ..IndexConfig::default() };
/// let (index, report) = IndexBuilder::new(&config).ids(&ids).build(&vectors)?;
/// assert_eq!(index.len(), 1000);
/// assert_eq!(report.nlist, 10);
/// # Ok::<(), nonius::BuildError>(())
/// ```
pub struct IndexBuilder<'a> {
    given: Given<'a>,
    progress: Option<&'a mut ProgressFn<'a>>,
}

/// What a build is given beside the vectors.
#[derive(Clone, Copy)]
struct Given<'a> {
    config: &'a IndexConfig,
    ids: Option<&'a [u64]>,
    weights: Option<&'a [f32]>,
    accelerator: Option<&'a dyn Accelerator>,
}

impl<'a> IndexBuilder<'a> {
    /// A builder with a configuration, ids equal to row numbers, and no progress reports.
    pub fn new(config: &'a IndexConfig) -> IndexBuilder<'a> {
        let given = Given { config, ids: None, weights: None, accelerator: None };
        IndexBuilder { given, progress: None }
    }

    /// Sets the ids: one for each row, no two equal.
    pub fn ids(mut self, ids: &'a [u64]) -> IndexBuilder<'a> {
        self.given.ids = Some(ids);
        self
    }

    /// Sets how much each row counts when codebooks are trained, one number for each row: how often it is asked
    /// for, say. Weights are finite and not negative, and only their ratios matter; they change what
    /// codes are trained for, not the lists. For quantizers with codebooks (`pq`, `opq`, `rvq`, `prq`); others refuse them.
    pub fn weights(mut self, weights: &'a [f32]) -> IndexBuilder<'a> {
        self.given.weights = Some(weights);
        self
    }

    /// Lets a device help to cluster vectors into lists and, with SAQ, to encode them. The index has the same bytes without it.
    pub fn accelerator(mut self, device: &'a dyn Accelerator) -> IndexBuilder<'a> {
        self.given.accelerator = Some(device);
        self
    }

    /// Sets a callback that is told how far the build has come and may cancel it.
    pub fn progress(mut self, progress: &'a mut ProgressFn<'a>) -> IndexBuilder<'a> {
        self.progress = Some(progress);
        self
    }

    /// Builds the index in memory.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(self, source: &dyn VectorSource) -> Result<(Index, BuildReport), BuildError> {
        let start = Instant::now();
        let mut ignore = |_| ControlFlow::Continue(());
        let progress: &mut ProgressFn<'_> = match self.progress {
            Some(progress) => progress,
            None => &mut ignore,
        };
        let mut job = Job::prepare(source, self.given, progress)?;
        let plan = job.assign(None)?;
        let writer =
            MemoryWriter::in_memory(plan.fields, plan.places.clone()).map_err(BuildError::Write)?;
        let (bytes, mut report) = job.encode(plan, writer)?;
        report.total_seconds = start.elapsed().as_secs_f64();
        let index = Container::from_bytes(bytes)
            .and_then(parse)
            .map_err(|error| unreadable(Path::new("(memory)"), error))?;
        Ok((Index::from_parts(index), report))
    }

    /// Builds the index straight into a file, in bounded memory. The file appears whole or not at
    /// all; a file that was there before is replaced.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn write(
        self,
        source: &dyn VectorSource,
        path: impl AsRef<Path>,
    ) -> Result<BuildReport, BuildError> {
        let start = Instant::now();
        let path = path.as_ref();
        let mut ignore = |_| ControlFlow::Continue(());
        let progress: &mut ProgressFn<'_> = match self.progress {
            Some(progress) => progress,
            None => &mut ignore,
        };
        let mut job = Job::prepare(source, self.given, progress)?;
        let plan = job.assign(Some(path))?;
        let writer = FileWriter::create(path, plan.fields, plan.places.clone())
            .map_err(BuildError::Write)?;
        let ((), mut report) = job.encode(plan, writer)?;
        report.total_seconds = start.elapsed().as_secs_f64();
        Ok(report)
    }
}

/// An index that was just written and cannot be read: a defect, reported rather than hidden.
fn unreadable(path: &Path, error: OpenError) -> BuildError {
    BuildError::Write(WriteError::new(path, "reading back", std::io::Error::other(error)))
}

/// A build under way.
struct Job<'a, 'p> {
    source: &'a dyn VectorSource,
    config: &'a IndexConfig,
    ids: Option<&'a [u64]>,
    progress: &'p mut ProgressFn<'p>,
    rows: usize,
    dim: usize,
    nlist: usize,
    encoder: Encoder,
    /// Finds the list of a vector relative to the mean; none where there is one list.
    assigner: Option<Assigner>,
    /// The same on a device.
    loaded: Option<Box<dyn LoadedCentroids + 'a>>,
    /// The encoder on a device.
    on_device: Option<OnDevice<'a>>,
    /// The centroids as encoding needs them; none where there is one list.
    centroids: Option<ListCentroids>,
    /// Vectors at least this far from their centroid, in squared distance, go to a second list.
    spill_from: Option<f32>,
    inertia: Vec<f64>,
    train_seconds: f64,
}

/// What the first pass decides.
struct Plan {
    fields: HeaderFields,
    places: Layout,
    meta: Meta,
    layout: codec::Layout,
    /// Where each list starts, and the last one ends.
    table: Vec<ListEntry>,
    /// The mean squared distance of each list's vectors to the centroid.
    spread: Vec<f64>,
    /// The list of every row; none where there is one list.
    assignments: Option<Shelf<u32>>,
    /// The second list of every row, if any has one.
    seconds: Option<Shelf<u32>>,
    outliers: Option<Chooser>,
    assign_seconds: f64,
}

impl<'a, 'p> Job<'a, 'p> {
    /// Checks the input, draws the sample and trains.
    fn prepare(
        source: &'a dyn VectorSource,
        given: Given<'a>,
        progress: &'p mut ProgressFn<'_>,
    ) -> Result<Job<'a, 'p>, BuildError>
    where
        'a: 'p,
    {
        let start = Instant::now();
        let Given { config, ids, weights, accelerator } = given;
        config.validate()?;
        let (rows, dim) = (source.rows(), source.dim());
        if dim == 0 || dim > MAX_DIM {
            return Err(VectorError::Dim { found: dim }.into());
        }
        if rows == 0 {
            return Err(BuildError::Empty);
        }
        let nlist = config.lists_for(rows)?;
        if let Some(ids) = ids {
            check_ids(ids, rows)?;
        }
        if let Some(weights) = weights {
            check_weights(weights, rows)?;
        }
        let mut sample = Sample::draw(source, config, nlist, weights, progress)?;
        let clusters = match nlist {
            1 => None,
            _ => Some(sample.cluster(config, nlist, accelerator, progress)?),
        };
        let set = TrainingSet {
            sample: sample.vectors.view(),
            mean: &sample.mean,
            lists: clusters.as_ref().map(|c| (c.assigner.centroids().view(), &c.of_row[..])),
            metric: config.metric,
            scale: sample.scale,
            weights: sample.weights.as_deref(),
        };
        let mut training = |done, total| report(progress, Stage::Train, done, total);
        let options = Options {
            encoding: config.encoding,
            anisotropic: config.anisotropic,
            beam: config.beam,
            seed: config.seed,
        };
        let encoder = codec::train(&set, &config.quantizer, &options, &mut training)?;
        training(1, 1)?;
        let centroids = clusters.as_ref().map(|c| {
            ListCentroids::new(encoder.rotation(), &sample.mean, c.assigner.centroids().view())
        });
        let (mut assigner, mut loaded, mut spill_from, mut inertia) =
            (None, None, None, Vec::new());
        if let Some(clusters) = clusters {
            (assigner, loaded) = (Some(clusters.assigner), clusters.loaded);
            (spill_from, inertia) = (clusters.spill_from, clusters.inertia);
        }
        let on_device = encoder.load(accelerator, centroids.as_ref())?;
        Ok(Job {
            source,
            config,
            ids,
            progress,
            rows,
            dim,
            nlist,
            encoder,
            assigner,
            loaded,
            on_device,
            centroids,
            spill_from,
            inertia,
            train_seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// Rows of a chunk.
    fn chunk_rows(&self) -> usize {
        // With lists, long chunks make few and long writes to each; with one list, chunks that
        // stay in the cache between their passes are better. Neither changes a byte.
        let bytes = match self.nlist {
            1 if self.on_device.is_none() => CACHED_BYTES * rayon::current_num_threads(),
            _ => CHUNK_BYTES,
        };
        (bytes.min(CHUNK_BYTES) / (4 * self.dim)).max(TASK_ROWS).min(self.rows)
    }

    /// Reads rows, checks them and brings them to unit norm where the metric wants it.
    fn read(
        &self,
        reader: &mut dyn RowReader,
        first: usize,
        values: &mut [f32],
    ) -> Result<(), BuildError> {
        let (dim, normalizes, keep) = (self.dim, self.config.metric.normalizes(), self.config.keep);
        reader.read(first, values)?;
        // In parallel, but the first bad row of the chunk is the one reported.
        values
            .par_chunks_mut(TASK_ROWS * dim)
            .enumerate()
            .map(|(task, values)| {
                let first = first + task * TASK_ROWS;
                check_finite(dim, first, values)?;
                for (i, row) in values.chunks_exact_mut(dim).enumerate() {
                    check_row(row, first + i, normalizes)?;
                    if keep == Keep::F16
                        && let Some(column) = row.iter().position(|x| x.abs() > 65_504.0)
                    {
                        return Err(SourceError::BeyondHalf {
                            row: first + i,
                            column,
                            value: row[column],
                        }
                        .into());
                    }
                }
                Ok(())
            })
            .collect::<Vec<Result<(), BuildError>>>()
            .into_iter()
            .collect()
    }

    /// The first pass: which list each vector belongs to.
    fn assign(&mut self, path: Option<&Path>) -> Result<Plan, BuildError> {
        let start = Instant::now();
        let (rows, dim) = (self.rows, self.dim);
        let numbers = || Shelf::new(rows, path);
        let mut assignments = self.assigner.as_ref().map(|_| numbers()).transpose()?;
        let mut seconds = self.spill_from.map(|_| numbers()).transpose()?;
        let mut sizes = vec![0u64; self.nlist];
        let mut copies = vec![0u64; self.nlist];
        let mut spread = vec![0.0f64; self.nlist];
        let source = self.source;
        let mut reader = source.reader()?;
        let chunk_rows = self.chunk_rows();
        let mut values = vec![0.0; chunk_rows * dim];
        let mut lists = vec![0u32; chunk_rows];
        let mut l2_sq = vec![0.0; chunk_rows];
        let mut second = vec![NOWHERE; if seconds.is_some() { chunk_rows } else { 0 }];
        for first in (0..rows).step_by(chunk_rows) {
            report(self.progress, Stage::Assign, first, rows)?;
            let count = chunk_rows.min(rows - first);
            let (values, lists) = (&mut values[..count * dim], &mut lists[..count]);
            self.read(&mut *reader, first, values)?;
            let (mean, scale) = (self.encoder.mean(), self.encoder.frame().scale);
            values
                .par_chunks_mut(TASK_ROWS * dim)
                .enumerate()
                .map(|(task, values)| {
                    for (i, row) in values.chunks_exact_mut(dim).enumerate() {
                        for (x, mean) in row.iter_mut().zip(mean) {
                            *x = *x * scale - mean;
                        }
                        // Far from the rest of the set: huge in its units.
                        if !nonius_simd::dot_f32(row, row).is_finite() {
                            return Err(VectorError::TooLarge {
                                row: first + task * TASK_ROWS + i,
                            });
                        }
                    }
                    Ok(())
                })
                .collect::<Vec<_>>()
                .into_iter()
                .collect::<Result<(), VectorError>>()?;
            let l2_sq = &mut l2_sq[..count];
            if let Some(assigner) = &self.assigner {
                assigner.assign_by(self.loaded.as_deref(), values, lists, l2_sq)?;
            }
            for (&list, &l2_sq) in lists.iter().zip(&*l2_sq) {
                sizes[list as usize] += 1;
                spread[list as usize] += f64::from(l2_sq);
            }
            if let Some(assignments) = &mut assignments {
                assignments.write(first, lists)?;
            }
            if let (Some(assigner), Some(seconds), Some(least)) =
                (&self.assigner, &mut seconds, self.spill_from)
            {
                let second = &mut second[..count];
                assigner.spill_into(values, lists, l2_sq, least, second);
                for &list in &*second {
                    if list != NOWHERE {
                        copies[list as usize] += 1;
                    }
                }
                seconds.write(first, second)?;
            }
        }
        report(self.progress, Stage::Assign, rows, rows)?;
        for (spread, &size) in spread.iter_mut().zip(&sizes) {
            *spread /= size.max(1) as f64;
        }

        let layout = self.encoder.layout();
        let largest_id = match self.ids {
            Some(ids) => ids.iter().copied().max().unwrap_or(0),
            None => rows as u64 - 1,
        };
        let mut end = ListEntry { vector: 0, block: 0, copy: 0 };
        let mut table = vec![end];
        for (&size, &copies) in sizes.iter().zip(&copies) {
            end = end.after(size, copies);
            table.push(end);
        }
        let ids = if largest_id <= u64::from(u32::MAX) { 4 } else { 8 };
        let meta = Meta {
            nlist: self.nlist as u64,
            blocks: end.block,
            keep: keep_code(self.config.keep),
            id_bytes: ids,
            spilled: end.copy,
            number_bits: match end.copy {
                0 => 0,
                _ => PlaceCode::bits_for(sizes.iter().copied().max().unwrap_or(0)),
            },
            ..Meta::of(&self.encoder, &self.config.quantizer)
        };
        let turned = !self.encoder.rotation().is_none();
        let most = outliers_for(rows, dim, self.config.outlier_bytes);
        let lengths = section_lengths(dim, turned, &layout, &meta, rows as u64, most as u64)
            .ok_or_else(|| {
                BuildError::Config(crate::error::ConfigError::new(
                    "vectors",
                    "the file would be too large",
                ))
            })?;
        let outliers = match most {
            0 => None,
            _ => Some(Chooser::new(most, &self.encoder, &table, path)?),
        };
        Ok(Plan {
            fields: HeaderFields {
                dim,
                count: rows as u64,
                metric: self.config.metric,
                quantizer: code_of(self.config.quantizer.family()),
            },
            places: Layout::new(lengths)?,
            meta,
            layout,
            table,
            spread,
            assignments,
            seconds,
            outliers,
            assign_seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// The second pass: encode and write.
    fn encode<S: Sink>(
        self,
        plan: Plan,
        mut writer: Writer<S>,
    ) -> Result<(S::Output, BuildReport), BuildError> {
        let start = Instant::now();
        let (rows, dim) = (self.rows, self.dim);
        self.write_small_sections(&writer, &plan).map_err(BuildError::Write)?;
        let Plan { meta, layout, table, assignments, seconds, assign_seconds, places, .. } = plan;
        let mut outliers = plan.outliers;

        let stride = layout.record_bytes();
        let (keep, id_bytes) = (self.config.keep, meta.id_bytes as usize);
        let place = PlaceCode::new(meta.nlist, meta.number_bits);
        let mut lists = ListWriters::new(&layout, &table, dim, keep, self.ids, id_bytes, place);
        let encoder_nanos = AtomicU64::new(0);
        let mut uses = self.encoder.uses();
        let mut reader = self.source.reader()?;
        let chunk_rows = self.chunk_rows();
        let mut values = vec![0.0; chunk_rows * dim];
        let mut of_row = vec![0u32; chunk_rows];
        let mut records = vec![0u8; chunk_rows * stride];
        let mut second = vec![NOWHERE; if seconds.is_some() { chunk_rows } else { 0 }];
        for first in (0..rows).step_by(chunk_rows) {
            report(self.progress, Stage::Encode, first, rows)?;
            let count = chunk_rows.min(rows - first);
            let values = &mut values[..count * dim];
            let of_row = &mut of_row[..count];
            let records = &mut records[..count * stride];
            self.read(&mut *reader, first, values)?;
            if let Some(assignments) = &assignments {
                assignments.read(first, of_row)?;
            }
            let encoder = &self.encoder;
            let centroids = self.centroids.as_ref();
            let on_device = self.on_device.as_ref();
            let task_rows = on_device.map_or(TASK_ROWS, OnDevice::most_rows);
            records
                .par_chunks_mut(task_rows * stride)
                .zip(values.par_chunks(task_rows * dim))
                .zip(of_row.par_chunks(task_rows))
                .try_for_each_init(
                    EncodeScratch::default,
                    |scratch, ((records, values), of_row)| {
                        let start = Instant::now();
                        let lists = centroids.map(|centroids| Lists { of_row, centroids });
                        encoder.encode_by(on_device, values, lists.as_ref(), scratch, records)?;
                        let nanos = start.elapsed().as_nanos() as u64;
                        encoder_nanos.fetch_add(nanos, Ordering::Relaxed);
                        Ok::<(), BuildError>(())
                    },
                )?;
            uses.add(records, stride);
            if let Some(outliers) = &mut outliers {
                outliers.look_at(encoder, centroids, Chunk { first, values, of_row, records })?;
            }
            if let Some(seconds) = &seconds {
                seconds.read(first, &mut second[..count])?;
            }
            let second = &second[..count.min(second.len())];
            lists
                .write_chunk(&writer, first, values, [of_row, second], records)
                .map_err(BuildError::Write)?;
        }
        report(self.progress, Stage::Encode, rows, rows)?;
        let outliers = outliers.map_or(Ok(0), |outliers| outliers.write(&writer))?;
        let bytes_per_vector = {
            let by_row = rows as u64 * (layout.rest_bytes() as u64 + u64::from(meta.id_bytes));
            let by_copy = meta.spilled * place.bytes as u64;
            let by_outlier = (outliers * outlier_bytes(dim)) as u64;
            let by_block = meta.blocks * layout.block_bytes() as u64;
            (by_block + by_row + by_copy + by_outlier) as f64 / rows as f64
        };
        let report = BuildReport {
            vectors: rows,
            dim,
            metric: self.config.metric,
            quantizer: self.config.quantizer,
            nlist: self.nlist,
            spilled: meta.spilled,
            outliers,
            bytes_per_vector,
            file_bytes: places.file_len(),
            plan: self.encoder.plan().to_vec(),
            codebooks: uses.report(),
            inertia: self.inertia.clone(),
            by_device: self.on_device.as_ref().map_or(0, OnDevice::rows),
            train_seconds: self.train_seconds,
            encode_seconds: 0.0,
            encoder_cpu_seconds: encoder_nanos.into_inner() as f64 * 1e-9,
            total_seconds: 0.0,
        };
        let strides = Strides {
            block: layout.block_bytes() as u64,
            copy: place.bytes as u64,
            rest: layout.rest_bytes() as u64,
            id: u64::from(meta.id_bytes),
            kept: (dim * keep.value_bytes()) as u64,
        };
        write_list_checksums(&mut writer, &table, &strides, self.progress)?;
        let output = writer.finish(self.progress)?;
        let encode_seconds = assign_seconds + start.elapsed().as_secs_f64();
        Ok((output, BuildReport { encode_seconds, ..report }))
    }

    fn write_small_sections<S: Sink>(
        &self,
        writer: &Writer<S>,
        plan: &Plan,
    ) -> Result<(), WriteError> {
        let (encoder, rotation) = (&self.encoder, self.encoder.rotation());
        writer.write_values(SectionKind::Meta, 0, &[plan.meta])?;
        writer.write_values(SectionKind::Mean, 0, encoder.mean())?;
        writer.write_values(SectionKind::RotationScales, 0, &rotation.inverse)?;
        writer.write_values(SectionKind::Rotation, 0, &rotation.packed)?;
        match encoder {
            Encoder::Saq(saq, _) => {
                writer.write_values(SectionKind::Segments, 0, &segment_entries(&saq.model))?;
            }
            Encoder::Additive(additive) => {
                let codebooks = &additive.codebooks;
                writer.write_values(SectionKind::CodebookOffsets, 0, &additive.offsets())?;
                writer.write_values(SectionKind::CodebookScales, 0, &codebooks.inverse())?;
                writer.write_values(SectionKind::Codebooks, 0, &codebooks.packed())?;
            }
            Encoder::Scalar(scalar, _) => {
                writer.write_values(SectionKind::Ranges, 0, &scalar.ranges)?;
            }
            Encoder::Float(_) => {}
        }
        if let Some(centroids) = &self.centroids {
            let (metric, dims) = (self.config.metric, encoder.frame().dims);
            let compact = CompactCentroids::new(metric, dims, &centroids.rotated, &plan.spread);
            writer.write_values(SectionKind::ListFactors, 0, &compact.factors)?;
            writer.write_values(SectionKind::CentroidsPacked, 0, &compact.packed)?;
            writer.write_values(SectionKind::Centroids, 0, &compact.fine)?;
        }
        writer.write_values(SectionKind::ListTable, 0, &plan.table)
    }
}

fn report(
    progress: &mut ProgressFn<'_>,
    stage: Stage,
    done: usize,
    total: usize,
) -> Result<(), BuildError> {
    let progress_report = Progress { stage, done: done as u64, total: total as u64 };
    if progress(progress_report).is_break() { Err(BuildError::Cancelled) } else { Ok(()) }
}

impl Index {
    /// Builds an index in memory with a configuration and nothing else; see [`IndexBuilder`] for
    /// ids, progress and files.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(source: &dyn VectorSource, config: &IndexConfig) -> Result<Index, BuildError> {
        Ok(IndexBuilder::new(config).build(source)?.0)
    }

    /// Builds an index in memory from values row by row, `dim` to a row.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn from_slice(
        dim: usize,
        values: &[f32],
        config: &IndexConfig,
    ) -> Result<Index, BuildError> {
        Index::build(&MatrixView::new(dim, values)?, config)
    }
}

impl std::fmt::Debug for IndexBuilder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexBuilder").field("config", self.given.config).finish_non_exhaustive()
    }
}
