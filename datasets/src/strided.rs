//! Files whose rows lie at a fixed stride: all formats but the containers.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nonius::{MappedFile, RowReader, SourceError, VectorSource};

use crate::VectorFile;
use crate::element::Element;
use crate::error::DatasetError;

/// Bytes that a reader fetches at a time; its only memory that matters.
const WINDOW: usize = 1 << 20;

/// Reads at a position without moving a cursor, so that readers can share a file.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
    }
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < buffer.len() {
            let position = offset + done as u64;
            match std::os::windows::fs::FileExt::seek_read(file, &mut buffer[done..], position) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Where the bytes of a file come from.
#[derive(Debug)]
pub(crate) enum Storage {
    /// Read by position.
    File(File),
    /// Mapped into memory.
    Mapped(MappedFile),
}

impl Storage {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Storage::File(file) => read_exact_at(file, buffer, offset),
            Storage::Mapped(bytes) => {
                let found = usize::try_from(offset)
                    .ok()
                    .and_then(|start| bytes.get(start..start.checked_add(buffer.len())?));
                buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

/// Opens a file and tells its length in bytes.
pub(crate) fn open_file(path: &Path) -> Result<(File, u64), DatasetError> {
    let file = File::open(path).map_err(DatasetError::io(path))?;
    let metadata = file.metadata().map_err(DatasetError::io(path))?;
    if metadata.is_dir() {
        return Err(DatasetError::io(path)(io::ErrorKind::IsADirectory.into()));
    }
    Ok((file, metadata.len()))
}

/// Rows of encoded values that can be read by number.
pub(crate) trait RawRows: Send + Sync {
    /// The file.
    fn path(&self) -> &Path;

    /// The number of rows.
    fn rows(&self) -> usize;

    /// The number of values in a row.
    fn dim(&self) -> usize;

    /// Bytes from the start of a row to the start of the next.
    fn stride(&self) -> usize;

    /// Bytes of a row before its values.
    fn prefix(&self) -> usize;

    /// Replaces `bytes` by the rows from `start` on, prefixes included but checked.
    fn read(&self, start: usize, count: usize, bytes: &mut Vec<u8>) -> Result<(), DatasetError>;

    /// How many rows a window holds.
    fn window_rows(&self) -> usize {
        (WINDOW / self.stride().max(1)).max(1)
    }
}

/// `rows` rows of `dim` values of `value_bytes` each, from byte `header` to the end of the file.
#[derive(Debug)]
pub(crate) struct Strided {
    pub(crate) path: PathBuf,
    pub(crate) storage: Storage,
    pub(crate) rows: usize,
    pub(crate) dim: usize,
    pub(crate) value_bytes: usize,
    pub(crate) header: u64,
    /// Whether each row starts with its dimension as an `i32`.
    pub(crate) prefixed: bool,
}

impl Strided {
    /// Lays a header's rows over the file, whose length must be exactly what they need.
    ///
    /// After this check no size computed from `rows`, `dim` and `value_bytes` overflows.
    pub(crate) fn new(
        path: &Path,
        file: File,
        file_bytes: u64,
        header: u64,
        rows: u64,
        dim: u64,
        value_bytes: usize,
    ) -> Result<Strided, DatasetError> {
        let wrong = || {
            DatasetError::header(
                path,
                "a number of rows and a dimension that a file can have",
                format!("{rows} rows of dimension {dim}"),
            )
        };
        let expected = rows
            .checked_mul(dim)
            .and_then(|values| values.checked_mul(value_bytes as u64))
            .and_then(|bytes| bytes.checked_add(header))
            .ok_or_else(wrong)?;
        if expected != file_bytes {
            return Err(DatasetError::Length {
                path: path.to_owned(),
                expected,
                found: file_bytes,
            });
        }
        let (Ok(rows), Ok(dim)) = (usize::try_from(rows), usize::try_from(dim)) else {
            return Err(wrong());
        };
        let storage = Storage::File(file);
        let path = path.to_owned();
        Ok(Strided { path, storage, rows, dim, value_bytes, header, prefixed: false })
    }

    /// Maps the file from now on.
    pub(crate) fn map(&mut self) -> Result<(), DatasetError> {
        let mapped = MappedFile::open(&self.path).map_err(DatasetError::io(&self.path))?;
        self.storage = Storage::Mapped(mapped);
        Ok(())
    }
}

impl RawRows for Strided {
    fn path(&self) -> &Path {
        &self.path
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn stride(&self) -> usize {
        self.prefix() + self.dim * self.value_bytes
    }

    fn prefix(&self) -> usize {
        if self.prefixed { 4 } else { 0 }
    }

    fn read(&self, start: usize, count: usize, bytes: &mut Vec<u8>) -> Result<(), DatasetError> {
        let stride = self.stride();
        bytes.resize(count * stride, 0);
        let offset = self.header + start as u64 * stride as u64;
        self.storage.read_exact_at(bytes, offset).map_err(DatasetError::io(&self.path))?;
        if self.prefixed {
            for (number, row) in bytes.chunks_exact(stride).enumerate() {
                let found = i32::from_le_bytes([row[0], row[1], row[2], row[3]]);
                if i64::from(found) != self.dim as i64 {
                    return Err(DatasetError::Ragged {
                        path: self.path.clone(),
                        row: start + number,
                        expected: self.dim,
                        found: i64::from(found),
                    });
                }
            }
        }
        Ok(())
    }
}

/// A file of vectors whose rows can be read by number.
pub(crate) struct RawFile<R> {
    pub(crate) rows: R,
    pub(crate) element: Element,
}

/// A file of vectors at a fixed stride.
pub(crate) type StridedFile = RawFile<Strided>;

impl<R: RawRows> VectorFile for RawFile<R> {
    fn path(&self) -> &Path {
        self.rows.path()
    }

    fn element(&self) -> Element {
        self.element
    }
}

impl<R: RawRows> VectorSource for RawFile<R> {
    fn rows(&self) -> usize {
        self.rows.rows()
    }

    fn dim(&self) -> usize {
        self.rows.dim()
    }

    fn reader(&self) -> Result<Box<dyn RowReader + '_>, SourceError> {
        Ok(Box::new(RawReader { file: self, window: Vec::new(), first: 0, held: 0, next: 0 }))
    }
}

struct RawReader<'a, R> {
    file: &'a RawFile<R>,
    /// The bytes of rows `first .. first + held`.
    window: Vec<u8>,
    first: usize,
    held: usize,
    /// The row after the one read last.
    next: usize,
}

/// Checks a request for rows and tells how many there are in it.
pub(crate) fn check_range(
    rows: usize,
    dim: usize,
    start: usize,
    values: usize,
) -> Result<usize, SourceError> {
    if !values.is_multiple_of(dim) {
        return Err(SourceError::Ragged { row: start, dim, values });
    }
    let count = values / dim;
    if start.checked_add(count).is_none_or(|end| end > rows) {
        return Err(SourceError::OutOfRange { start, rows: count, found: rows });
    }
    Ok(count)
}

impl<R: RawRows> RowReader for RawReader<'_, R> {
    fn read(&mut self, start: usize, out: &mut [f32]) -> Result<(), SourceError> {
        let RawFile { rows, element } = self.file;
        let dim = rows.dim();
        check_range(rows.rows(), dim, start, out.len())?;
        let (stride, prefix) = (rows.stride(), rows.prefix());
        let mut row = start;
        let mut rest = out;
        while !rest.is_empty() {
            let wanted = rest.len() / dim;
            if row < self.first || row >= self.first + self.held {
                // Fetch ahead only in a sequential pass: a scattered sample of rows must not cost
                // a window for each of them.
                let most = rows.window_rows();
                let count = if row == self.next { most } else { wanted.min(most) };
                let count = count.min(rows.rows() - row);
                self.held = 0;
                rows.read(row, count, &mut self.window)?;
                (self.first, self.held) = (row, count);
            }
            let offset = row - self.first;
            let count = wanted.min(self.held - offset);
            let (now, later) = rest.split_at_mut(count * dim);
            let bytes = &self.window[offset * stride..(offset + count) * stride];
            if prefix == 0 {
                element.decode(bytes, now).map_err(|bad| bad.at(rows.path(), row, dim))?;
            } else {
                let pairs = bytes.chunks_exact(stride).zip(now.chunks_exact_mut(dim));
                for (number, (bytes, values)) in pairs.enumerate() {
                    element
                        .decode(&bytes[prefix..], values)
                        .map_err(|bad| bad.at(rows.path(), row + number, dim))?;
                }
            }
            row += count;
            self.next = row;
            rest = later;
        }
        Ok(())
    }
}
