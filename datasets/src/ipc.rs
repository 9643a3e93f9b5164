//! Arrow IPC: files (also called Feather version 2) and streams.
//!
//! Opening finds the record batches without reading their bodies; a reader then holds one batch
//! at a time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::writer::FileWriter;
use arrow_ipc::{
    Block, CompressionType, MessageHeader, MetadataVersion, Schema, root_as_footer, root_as_message,
};
use arrow_schema::SchemaRef;

use crate::VectorFile;
use crate::atomic::AtomicFile;
use crate::element::Element;
use crate::error::DatasetError;
use crate::format::Location;
use crate::guard::guarded;
use crate::lists::{Batched, Batches, ListColumn, ListFile, written_batch, written_schema};
use crate::strided::{open_file, read_exact_at};

/// Files start and end with it; streams do not.
const MAGIC: &[u8; 6] = b"ARROW1";

/// What stands before the length of a message since version 0.15 of Arrow.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Opens the column `member`, or the only one of lists of numbers.
pub(crate) fn open(path: &Path, member: Option<&str>) -> Result<Box<dyn VectorFile>, DatasetError> {
    let (file, length) = open_file(path)?;
    let input = Input { path: path.to_owned(), file, length };
    guarded(path, || {
        let magic = input.read(0, 6.min(length))?;
        let parts = if magic == MAGIC { input.index_file()? } else { input.index_stream()? };
        let column = ListColumn::choose(path, &parts.schema, member)?;
        let rows = parts.batches.last().map_or(0, |batch| batch.end);
        let decoder =
            FileDecoder::new(parts.schema, parts.version).with_projection(vec![column.index]);
        let file = IpcFile { input, decoder, batches: parts.batches };
        Ok(Box::new(ListFile::new(file, &column, rows)?) as Box<dyn VectorFile>)
    })
}

struct Input {
    path: PathBuf,
    file: File,
    /// In bytes.
    length: u64,
}

/// What opening learns of a file.
struct Parts {
    schema: SchemaRef,
    version: MetadataVersion,
    batches: Vec<Batch>,
}

/// A record batch: where it lies, and the number of rows up to its end.
struct Batch {
    block: Block,
    end: usize,
}

impl Input {
    fn corrupt(&self, message: impl ToString) -> DatasetError {
        DatasetError::corrupt(&self.path, message)
    }

    /// Reads bytes, of which the file must have as many.
    fn read(&self, start: u64, length: u64) -> Result<Vec<u8>, DatasetError> {
        match start.checked_add(length) {
            Some(end) if end <= self.length => {
                let length = usize::try_from(length).map_err(|error| self.corrupt(error))?;
                let mut bytes = vec![0; length];
                read_exact_at(&self.file, &mut bytes, start)
                    .map_err(DatasetError::io(&self.path))?;
                Ok(bytes)
            }
            end => Err(DatasetError::Length {
                path: self.path.clone(),
                expected: end.unwrap_or(u64::MAX),
                found: self.length,
            }),
        }
    }

    fn schema(&self, schema: Schema<'_>) -> Result<SchemaRef, DatasetError> {
        if !schema.endianness().equals_to_target_endianness() {
            let expected = "values in the byte order of this machine";
            return Err(DatasetError::unsupported(&self.path, expected, "the other one"));
        }
        try_fb_to_schema(schema).map(Arc::new).map_err(|error| self.corrupt(error))
    }

    /// Finds the batches by the footer of a file.
    fn index_file(&self) -> Result<Parts, DatasetError> {
        // Magic, padding, and the shortest footer's length and magic.
        if self.length < 18 {
            let (path, found) = (self.path.clone(), self.length);
            return Err(DatasetError::Length { path, expected: 18, found });
        }
        let mut tail = [0; 10];
        tail.copy_from_slice(&self.read(self.length - 10, 10)?);
        let footer_bytes = read_footer_length(tail).map_err(|_| {
            let found = format!("{:02x?}", &tail[4..]);
            DatasetError::header(&self.path, "\"ARROW1\" at the end of the file", found)
        })? as u64;
        let footer_start = (self.length - 10).checked_sub(footer_bytes).ok_or_else(|| {
            self.corrupt(format!("a footer of {footer_bytes} bytes in {}", self.length))
        })?;
        let footer = self.read(footer_start, footer_bytes)?;
        let footer = root_as_footer(&footer).map_err(|error| self.corrupt(error))?;
        let schema = footer.schema().ok_or_else(|| self.corrupt("no schema in the footer"))?;
        let schema = self.schema(schema)?;
        let mut batches = Vec::new();
        for &block in footer.recordBatches().iter().flatten() {
            self.push(&mut batches, block)?;
        }
        Ok(Parts { schema, version: footer.version(), batches })
    }

    /// Finds the batches of a stream by going from message to message.
    fn index_stream(&self) -> Result<Parts, DatasetError> {
        let mut schema: Option<(SchemaRef, MetadataVersion)> = None;
        let mut batches = Vec::new();
        let mut position = 0;
        // A stream may end without its end mark, but not within a message.
        while position < self.length {
            let start = self.read(position, 8.min(self.length - position))?;
            let (prefix, size) = match start.as_chunks::<4>().0 {
                [CONTINUATION, size] => (8, *size),
                [size, ..] => (4, *size),
                [] => return Err(self.corrupt("the last bytes are no message")),
            };
            let size = i32::from_le_bytes(size);
            if size == 0 {
                break;
            }
            let size = u64::try_from(size).map_err(|_| {
                let expected = "an Arrow file or stream";
                let found = format!("a message of {size} bytes at byte {position}");
                DatasetError::header(&self.path, expected, found)
            })?;
            let bytes = self.read(position + prefix, size)?;
            let message = root_as_message(&bytes).map_err(|error| {
                let expected = "an Arrow file or stream";
                DatasetError::header(&self.path, expected, format!("{error} at byte {position}"))
            })?;
            let body = u64::try_from(message.bodyLength()).map_err(|error| self.corrupt(error))?;
            match (message.header_type(), &schema) {
                (MessageHeader::Schema, None) => {
                    let found = message.header_as_schema();
                    let found = found.ok_or_else(|| self.corrupt("no schema in its message"))?;
                    schema = Some((self.schema(found)?, message.version()));
                }
                (MessageHeader::RecordBatch, Some(_)) => {
                    let offset = i64::try_from(position).map_err(|error| self.corrupt(error))?;
                    let metadata = i32::try_from(prefix + size);
                    let metadata = metadata.map_err(|error| self.corrupt(error))?;
                    self.push(&mut batches, Block::new(offset, metadata, message.bodyLength()))?;
                }
                // Dictionaries belong to other columns.
                (MessageHeader::DictionaryBatch, Some(_)) => {}
                (other, _) => {
                    return Err(self.corrupt(format!("unexpected message {other:?}")));
                }
            }
            position = (position + prefix + size).saturating_add(body);
        }
        let (schema, version) = schema.ok_or_else(|| {
            DatasetError::header(&self.path, "an Arrow file or stream", "no schema")
        })?;
        Ok(Parts { schema, version, batches })
    }

    /// Adds a batch after those found so far.
    fn push(&self, batches: &mut Vec<Batch>, block: Block) -> Result<(), DatasetError> {
        let (start, metadata, body) = self.extent(&block)?;
        let end = start.checked_add(metadata).and_then(|end| end.checked_add(body));
        if end.is_none_or(|end| end > self.length) {
            let (path, found) = (self.path.clone(), self.length);
            return Err(DatasetError::Length { path, expected: end.unwrap_or(u64::MAX), found });
        }
        let bytes = self.read(start, metadata)?;
        let rows = self.batch_header(&bytes, |header| Ok(header.length()))?;
        let before = batches.last().map_or(0, |batch| batch.end);
        let end = usize::try_from(rows).ok().and_then(|rows| before.checked_add(rows));
        let end = end.ok_or_else(|| self.corrupt(format!("a batch of {rows} rows")))?;
        batches.push(Batch { block, end });
        Ok(())
    }

    /// Start, bytes of metadata and bytes of body of a block.
    fn extent(&self, block: &Block) -> Result<(u64, u64, u64), DatasetError> {
        match (
            block.offset().try_into(),
            block.metaDataLength().try_into(),
            block.bodyLength().try_into(),
        ) {
            (Ok(start), Ok(metadata), Ok(body)) => Ok((start, metadata, body)),
            _ => Err(self.corrupt(format!("a batch at {block:?}"))),
        }
    }

    /// Looks into the metadata of a batch, length prefix included.
    fn batch_header<T>(
        &self,
        bytes: &[u8],
        look: impl FnOnce(arrow_ipc::RecordBatch<'_>) -> Result<T, DatasetError>,
    ) -> Result<T, DatasetError> {
        let prefix = if bytes.starts_with(&CONTINUATION) { 8 } else { 4 };
        let message =
            bytes.get(prefix..).ok_or_else(|| self.corrupt("a batch without metadata"))?;
        let message = root_as_message(message).map_err(|error| self.corrupt(error))?;
        let header = message.header_as_record_batch();
        look(header.ok_or_else(|| self.corrupt("a block that is no record batch"))?)
    }

    /// Checks that the buffers of a batch lie within its body, and what compressed ones claim to
    /// hold: the decoder reserves that much memory before it sees whether it is true.
    fn check_buffers(&self, metadata: &[u8], body: &[u8]) -> Result<(), DatasetError> {
        // LZ4 encodes at most 255 bytes by one.
        const RATIO: u64 = 255;
        self.batch_header(metadata, |header| {
            let codec = header.compression().map(|compression| compression.codec());
            if let Some(codec) = codec
                && codec != CompressionType::LZ4_FRAME
            {
                let expected = "buffers plain or compressed by lz4";
                return Err(DatasetError::unsupported(&self.path, expected, format!("{codec:?}")));
            }
            for buffer in header.buffers().iter().flatten() {
                let start = usize::try_from(buffer.offset()).ok();
                let length = usize::try_from(buffer.length()).ok();
                let bytes =
                    start.zip(length).and_then(|(start, length)| body.get(start..)?.get(..length));
                let bytes = bytes.ok_or_else(|| self.corrupt("a buffer beyond its batch"))?;
                if codec.is_some()
                    && let Some((claimed, data)) = bytes.split_first_chunk::<8>()
                {
                    // -1 stands for a buffer that is not compressed.
                    let claimed = i64::from_le_bytes(*claimed).max(0) as u64;
                    if claimed > data.len() as u64 * RATIO {
                        let message = format!("{} bytes that claim to hold {claimed}", data.len());
                        return Err(self.corrupt(message));
                    }
                }
            }
            Ok(())
        })
    }
}

struct IpcFile {
    input: Input,
    decoder: FileDecoder,
    batches: Vec<Batch>,
}

impl Batched for IpcFile {
    fn path(&self) -> &Path {
        &self.input.path
    }

    fn batches(&self, _rows: usize) -> Result<Box<dyn Batches + '_>, DatasetError> {
        Ok(Box::new(IpcBatches { file: self, next: 0 }))
    }
}

struct IpcBatches<'a> {
    file: &'a IpcFile,
    next: usize,
}

impl Batches for IpcBatches<'_> {
    fn skip_to(&mut self, _next: usize, row: usize) -> Result<usize, DatasetError> {
        self.next = self.file.batches.partition_point(|batch| batch.end <= row);
        Ok(if self.next == 0 { 0 } else { self.file.batches[self.next - 1].end })
    }

    fn next(&mut self) -> Result<Option<ArrayRef>, DatasetError> {
        let input = &self.file.input;
        let Some(batch) = self.file.batches.get(self.next) else { return Ok(None) };
        let (start, metadata, body) = input.extent(&batch.block)?;
        let bytes = input.read(start, metadata + body)?;
        let (head, tail) = bytes.split_at(metadata as usize);
        input.check_buffers(head, tail)?;
        let decoded = self
            .file
            .decoder
            .read_record_batch(&batch.block, &Buffer::from_vec(bytes))
            .map_err(|error| input.corrupt(error))?;
        let decoded = decoded.ok_or_else(|| input.corrupt("an empty message"))?;
        self.next += 1;
        Ok(Some(decoded.column(0).clone()))
    }
}

/// An Arrow IPC file under construction, with a batch for each block of rows.
pub(crate) struct Writer {
    schema: SchemaRef,
    writer: FileWriter<AtomicFile>,
}

impl Writer {
    pub(crate) fn create(
        location: &Location,
        dim: usize,
        element: Element,
    ) -> Result<Writer, DatasetError> {
        let path = location.path.as_path();
        let schema = written_schema(location.member.as_deref(), element, dim);
        let writer = FileWriter::try_new(AtomicFile::create(path)?, &schema)
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
