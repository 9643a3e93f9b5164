//! Parquet: a column of lists, read page by page.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{ChunkReader, Length};

use crate::VectorFile;
use crate::atomic::AtomicFile;
use crate::element::Element;
use crate::error::DatasetError;
use crate::format::Location;
use crate::guard::guarded;
use crate::lists::{Batched, Batches, ListColumn, ListFile, written_batch, written_schema};
use crate::strided::{open_file, read_exact_at};

/// Opens the column `member`, or the only one of lists of numbers.
pub(crate) fn open(path: &Path, member: Option<&str>) -> Result<Box<dyn VectorFile>, DatasetError> {
    let corrupt = |error: ParquetError| DatasetError::corrupt(path, error);
    let (file, length) = open_file(path)?;
    let input = Input(Arc::new((file, length)));
    guarded(path, || {
        let options = ArrowReaderOptions::new();
        let metadata = ArrowReaderMetadata::load(&input, options).map_err(corrupt)?;
        let column = ListColumn::choose(path, metadata.schema(), member)?;
        let mut group_ends = Vec::new();
        let mut rows = 0usize;
        for group in metadata.metadata().row_groups() {
            let found = group.num_rows();
            rows =
                usize::try_from(found).ok().and_then(|count| rows.checked_add(count)).ok_or_else(
                    || DatasetError::header(path, "a number of rows", format!("{found}")),
                )?;
            group_ends.push(rows);
            for (leaf, chunk) in group.columns().iter().enumerate() {
                if metadata.parquet_schema().get_column_root_idx(leaf) == column.index {
                    check_compression(path, chunk.compression())?;
                }
            }
        }
        let mask = ProjectionMask::roots(metadata.parquet_schema(), [column.index]);
        let path = path.to_owned();
        let file = ParquetFile { path, input, metadata, mask, group_ends };
        Ok(Box::new(ListFile::new(file, &column, rows)?) as Box<dyn VectorFile>)
    })
}

/// Only codecs that exist in pure Rust are built in.
fn check_compression(path: &Path, compression: Compression) -> Result<(), DatasetError> {
    match compression {
        Compression::UNCOMPRESSED
        | Compression::SNAPPY
        | Compression::GZIP(_)
        | Compression::LZ4
        | Compression::LZ4_RAW => Ok(()),
        other => Err(DatasetError::unsupported(
            path,
            "pages uncompressed or compressed by snappy, gzip or lz4",
            other.to_string(),
        )),
    }
}

struct ParquetFile {
    path: PathBuf,
    input: Input,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
    /// The number of rows up to the end of each row group.
    group_ends: Vec<usize>,
}

impl ParquetFile {
    /// The row group that holds a row.
    fn group(&self, row: usize) -> usize {
        self.group_ends.partition_point(|&end| end <= row)
    }

    /// Reads from `row` on.
    fn start(&self, row: usize, batch: usize) -> Result<ParquetRecordBatchReader, DatasetError> {
        let group = self.group(row);
        let group_start = if group == 0 { 0 } else { self.group_ends[group - 1] };
        ParquetRecordBatchReaderBuilder::new_with_metadata(
            self.input.clone(),
            self.metadata.clone(),
        )
        .with_projection(self.mask.clone())
        .with_row_groups((group..self.group_ends.len()).collect())
        .with_offset(row - group_start)
        .with_batch_size(batch)
        .build()
        .map_err(|error| DatasetError::corrupt(&self.path, error))
    }
}

impl Batched for ParquetFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn batches(&self, rows: usize) -> Result<Box<dyn Batches + '_>, DatasetError> {
        Ok(Box::new(ParquetBatches { file: self, batch: rows, reader: None }))
    }
}

struct ParquetBatches<'a> {
    file: &'a ParquetFile,
    batch: usize,
    /// `None` before the first batch.
    reader: Option<ParquetRecordBatchReader>,
}

impl Batches for ParquetBatches<'_> {
    fn skip_to(&mut self, next: usize, row: usize) -> Result<usize, DatasetError> {
        // Within a row group the pages must be walked over anyway.
        if self.reader.is_some() && self.file.group(next) == self.file.group(row) {
            return Ok(next);
        }
        self.reader = Some(self.file.start(row, self.batch)?);
        Ok(row)
    }

    fn next(&mut self) -> Result<Option<ArrayRef>, DatasetError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(self.file.start(0, self.batch)?),
        };
        match reader.next() {
            None => Ok(None),
            Some(Ok(batch)) => Ok(Some(batch.column(0).clone())),
            Some(Err(error)) => Err(DatasetError::corrupt(&self.file.path, error)),
        }
    }
}

/// The file and its length in bytes, read by position so that readers do not disturb each other.
#[derive(Clone)]
struct Input(Arc<(File, u64)>);

impl Length for Input {
    fn len(&self) -> u64 {
        self.0.1
    }
}

impl ChunkReader for Input {
    type T = BufReader<InputFrom>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(InputFrom { input: self.clone(), position: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        // Checked before the memory is reserved.
        if start.checked_add(length as u64).is_none_or(|end| end > self.0.1) {
            let message = format!("bytes {start} + {length} of a file of {}", self.0.1);
            return Err(ParquetError::EOF(message));
        }
        let mut bytes = vec![0; length];
        read_exact_at(&self.0.0, &mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// A cursor of its own over a shared file.
struct InputFrom {
    input: Input,
    position: u64,
}

impl Read for InputFrom {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.input.0.1.saturating_sub(self.position);
        let count = rest.min(buffer.len() as u64) as usize;
        read_exact_at(&self.input.0.0, &mut buffer[..count], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// Bytes of a row group, which the writer holds in memory until it is complete.
const GROUP: usize = 32 << 20;

/// A Parquet file under construction.
pub(crate) struct Writer {
    schema: SchemaRef,
    writer: ArrowWriter<AtomicFile>,
}

impl Writer {
    pub(crate) fn create(
        location: &Location,
        dim: usize,
        element: Element,
    ) -> Result<Writer, DatasetError> {
        let path = location.path.as_path();
        let schema = written_schema(location.member.as_deref(), element, dim);
        let group = (GROUP / (dim * element.bytes())).max(1);
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            // Vectors' values hardly repeat, and nobody filters by them.
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_max_row_group_row_count(Some(group))
            .build();
        let file = AtomicFile::create(path)?;
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))
            .map_err(|error| DatasetError::corrupt(path, error))?;
        Ok(Writer { schema, writer })
    }

    pub(crate) fn write(
        &mut self,
        path: &Path,
        element: Element,
        dim: usize,
        rows: &[u8],
    ) -> Result<(), DatasetError> {
        let batch = written_batch(path, &self.schema, element, dim, rows)?;
        self.writer.write(&batch).map_err(|error| DatasetError::corrupt(path, error))
    }

    pub(crate) fn finish(self, path: &Path) -> Result<(), DatasetError> {
        self.writer.into_inner().map_err(|error| DatasetError::corrupt(path, error))?.finish()
    }
}
