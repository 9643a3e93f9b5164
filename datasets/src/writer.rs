//! Writing files of vectors, block by block, and converting between formats.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::atomic::AtomicFile;
use crate::element::Element;
use crate::error::{DatasetError, check_dim};
use crate::format::{Format, Location};
use crate::strided::Strided;
use crate::{VectorFile, block_rows, npy, open_at, open_strided};

/// A file of vectors under construction. It appears under its name when it is
/// [finished](VectorWriter::finish); dropped before, it leaves nothing behind.
pub struct VectorWriter {
    path: PathBuf,
    format: Format,
    element: Element,
    dim: usize,
    rows: u64,
    file: AtomicFile,
    /// The bytes of a block of rows, reused.
    bytes: Vec<u8>,
}

impl VectorWriter {
    /// Starts a file of rows of `dim` values that are kept as `element`; the extension of `path`
    /// tells the format.
    ///
    /// # Errors
    /// [`DatasetError`] if the extension is unknown, the format cannot hold the element, the
    /// dimension is out of range, or the file cannot be created.
    pub fn create(
        path: impl AsRef<Path>,
        dim: usize,
        element: Element,
    ) -> Result<VectorWriter, DatasetError> {
        let location = Location::parse(path)?;
        let (path, format) = (location.path, location.format);
        check_dim(&path, dim as u64)?;
        if let Some(held) = format.element()
            && held != element
        {
            let expected = format!("values of type {held}, which the format holds");
            return Err(DatasetError::unsupported(&path, expected, element.name()));
        }
        if !format.feature().is_empty() {
            let expected = "a format that can be written: fvecs, bvecs, ivecs, fbin, u8bin, \
                            i8bin, ibin, npy";
            return Err(DatasetError::unsupported(&path, expected, format.feature()));
        }
        let file = AtomicFile::create(&path)?;
        let mut writer =
            VectorWriter { path, format, element, dim, rows: 0, file, bytes: Vec::new() };
        // Room for the header; the number of rows in it is not known yet.
        let header = writer.header()?;
        writer.put(&header)?;
        Ok(writer)
    }

    /// Appends whole rows.
    ///
    /// # Errors
    /// [`DatasetError::DoesNotFit`] or [`DatasetError::NonFinite`] for a value that the element
    /// cannot hold, with its row and column in the file; what the system reports.
    ///
    /// # Panics
    /// If `values` holds no whole number of rows.
    pub fn write_rows(&mut self, values: &[f32]) -> Result<(), DatasetError> {
        let dim = self.dim;
        assert!(values.len().is_multiple_of(dim), "{} values, rows of {dim}", values.len());
        let prefix = self.prefix();
        for rows in values.chunks(block_rows(dim) * dim) {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            // Rows written count on from those before, so a bad value is named by its place in
            // the file.
            let first = self.rows as usize;
            let encoded = match prefix {
                None => self.element.encode(rows, &mut bytes).map_err(|bad| (first, bad)),
                Some(prefix) => rows.chunks_exact(dim).enumerate().try_for_each(|(number, row)| {
                    bytes.extend(prefix);
                    self.element.encode(row, &mut bytes).map_err(|bad| (first + number, bad))
                }),
            };
            encoded.map_err(|(row, bad)| bad.at(&self.path, row, dim))?;
            self.put(&bytes)?;
            self.bytes = bytes;
            self.rows += (rows.len() / dim) as u64;
        }
        Ok(())
    }

    /// Appends whole rows that are encoded already, without their prefixes.
    fn write_encoded(&mut self, rows: &[u8]) -> Result<(), DatasetError> {
        let row_bytes = self.dim * self.element.bytes();
        if let Some(prefix) = self.prefix() {
            for row in rows.chunks_exact(row_bytes) {
                self.put(&prefix)?;
                self.put(row)?;
            }
        } else {
            self.put(rows)?;
        }
        self.rows += (rows.len() / row_bytes) as u64;
        Ok(())
    }

    /// What each row starts with.
    fn prefix(&self) -> Option<[u8; 4]> {
        match self.format {
            Format::Fvecs | Format::Bvecs | Format::Ivecs => Some((self.dim as u32).to_le_bytes()),
            _ => None,
        }
    }

    /// Completes the file and gives it its name. Returns the number of rows.
    ///
    /// # Errors
    /// A number of rows that the format cannot count, and what the system reports.
    pub fn finish(mut self) -> Result<u64, DatasetError> {
        let header = self.header()?;
        self.file.overwrite_start(&header).map_err(DatasetError::io(&self.path))?;
        self.file.finish()?;
        Ok(self.rows)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), DatasetError> {
        self.file.write_all(bytes).map_err(DatasetError::io(&self.path))
    }

    fn header(&self) -> Result<Vec<u8>, DatasetError> {
        match self.format {
            Format::Fbin | Format::U8bin | Format::I8bin | Format::Ibin => {
                let rows = u32::try_from(self.rows).map_err(|_| {
                    let expected = "a number of rows below 2^32, which the format can count";
                    DatasetError::unsupported(&self.path, expected, self.rows.to_string())
                })?;
                Ok([rows.to_le_bytes(), (self.dim as u32).to_le_bytes()].concat())
            }
            Format::Npy => Ok(npy::header(self.element, self.rows, self.dim).to_vec()),
            _ => Ok(Vec::new()),
        }
    }
}

/// Converts a file of vectors to the format that the extension of `output` tells, in blocks.
///
/// The values keep their type where the output can hold it; otherwise they are converted, and a
/// value that does not fit is an error. Integers (`ivecs`, `ibin`, `npy`) are copied as they are,
/// so ids survive. Returns the number of rows.
///
/// `progress` is called with the rows done and the rows in all; [`ControlFlow::Break`] stops the
/// conversion, which then leaves no file.
///
/// # Errors
/// [`DatasetError`] from either file, and [`DatasetError::Cancelled`].
pub fn convert(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<u64, DatasetError> {
    let output = output.as_ref();
    let input = Location::parse(input)?;
    let source = open_at(&input)?;
    let element = Location::parse(output)?.format.element().unwrap_or(source.element());
    let mut writer = VectorWriter::create(output, source.dim(), element)?;
    let rows = source.rows();
    let mut report = |done: usize| match progress(done as u64, rows as u64) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(DatasetError::Cancelled),
    };
    if source.element() == Element::I32 && element == Element::I32 && input.format.is_strided() {
        copy_encoded(&open_strided(&input)?.rows, &mut writer, &mut report)?;
    } else {
        copy_values(&*source, &mut writer, &mut report)?;
    }
    writer.finish()
}

/// Copies rows by way of `f32`.
fn copy_values(
    source: &dyn VectorFile,
    writer: &mut VectorWriter,
    report: &mut dyn FnMut(usize) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    let (rows, dim) = (source.rows(), source.dim());
    let mut reader = source.reader()?;
    let mut block = vec![0.0; block_rows(dim).min(rows) * dim];
    let mut done = 0;
    while done < rows {
        let count = block_rows(dim).min(rows - done);
        let values = &mut block[..count * dim];
        reader.read(done, values)?;
        writer.write_rows(values)?;
        done += count;
        report(done)?;
    }
    Ok(())
}

/// Copies rows byte by byte: not every 32-bit integer is an `f32`.
fn copy_encoded(
    source: &Strided,
    writer: &mut VectorWriter,
    report: &mut dyn FnMut(usize) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    let (mut window, mut bare) = (Vec::new(), Vec::new());
    let mut done = 0;
    while done < source.rows {
        let count = source.window_rows().min(source.rows - done);
        source.read(done, count, &mut window)?;
        bare.clear();
        for row in window.chunks_exact(source.stride()) {
            bare.extend_from_slice(&row[source.prefix()..]);
        }
        writer.write_encoded(&bare)?;
        done += count;
        report(done)?;
    }
    Ok(())
}
