//! Writing files of vectors, block by block.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::atomic::AtomicFile;
use crate::element::Element;
use crate::error::{DatasetError, check_dim};
use crate::format::{Format, Location};
use crate::{block_rows, npy};

/// A file of vectors under construction. It appears under its name when it is
/// [finished](VectorWriter::finish); dropped before, it leaves nothing behind.
///
/// Parquet and Arrow files get one column of lists of fixed size, named `vector` or as the path
/// says (`x.parquet:NAME`).
pub struct VectorWriter {
    path: PathBuf,
    format: Format,
    element: Element,
    dim: usize,
    rows: u64,
    sink: Sink,
    /// The bytes of a block of rows, reused.
    bytes: Vec<u8>,
}

/// Where encoded rows go.
enum Sink {
    Plain(AtomicFile),
    #[cfg(feature = "parquet")]
    Parquet(Box<crate::parquet_file::Writer>),
    #[cfg(feature = "arrow")]
    Ipc(Box<crate::ipc::Writer>),
}

impl VectorWriter {
    /// Starts a file of rows of `dim` values that are kept as `element`; the extension of `path`
    /// tells the format.
    ///
    /// # Errors
    /// [`DatasetError`] if the extension is unknown, the format cannot hold the element or cannot
    /// be written in blocks (HDF5), its feature is missing, the dimension is out of range, or the
    /// file cannot be created.
    pub fn create(
        path: impl AsRef<Path>,
        dim: usize,
        element: Element,
    ) -> Result<VectorWriter, DatasetError> {
        let location = Location::parse(path)?;
        let (path, format) = (location.path.clone(), location.format);
        check_dim(&path, dim as u64)?;
        if let Some(held) = format.element()
            && held != element
        {
            let expected = format!("values of type {held}, which the format holds");
            return Err(DatasetError::unsupported(&path, expected, element.name()));
        }
        let sink = Sink::create(&location, dim, element)?;
        let mut writer =
            VectorWriter { path, format, element, dim, rows: 0, sink, bytes: Vec::new() };
        // Room for the header; the number of rows in it is not known yet.
        let header = writer.header()?;
        match &mut writer.sink {
            Sink::Plain(file) => file.write_all(&header).map_err(DatasetError::io(&writer.path))?,
            #[cfg(any(feature = "parquet", feature = "arrow"))]
            _ => {}
        }
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
        let mut bytes = std::mem::take(&mut self.bytes);
        for rows in values.chunks(block_rows(dim) * dim) {
            bytes.clear();
            // Rows count on from those written before, so a bad value is named by its place in
            // the file.
            let encoded = self.element.encode(rows, &mut bytes);
            encoded.map_err(|bad| bad.at(&self.path, self.rows as usize, dim))?;
            self.write_encoded(&bytes)?;
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Appends whole rows that are encoded already.
    pub(crate) fn write_encoded(&mut self, rows: &[u8]) -> Result<(), DatasetError> {
        let row_bytes = self.dim * self.element.bytes();
        match &mut self.sink {
            Sink::Plain(file) => {
                let written = match self.format {
                    Format::Fvecs | Format::Bvecs | Format::Ivecs => {
                        let prefix = (self.dim as u32).to_le_bytes();
                        rows.chunks_exact(row_bytes).try_for_each(|row| {
                            file.write_all(&prefix)?;
                            file.write_all(row)
                        })
                    }
                    _ => file.write_all(rows),
                };
                written.map_err(DatasetError::io(&self.path))?;
            }
            #[cfg(feature = "parquet")]
            Sink::Parquet(writer) => writer.write(&self.path, self.element, self.dim, rows)?,
            #[cfg(feature = "arrow")]
            Sink::Ipc(writer) => writer.write(&self.path, self.element, self.dim, rows)?,
        }
        self.rows += (rows.len() / row_bytes) as u64;
        Ok(())
    }

    /// Completes the file and gives it its name. Returns the number of rows.
    ///
    /// # Errors
    /// A number of rows that the format cannot count, and what the system reports.
    pub fn finish(self) -> Result<u64, DatasetError> {
        let header = self.header()?;
        match self.sink {
            Sink::Plain(mut file) => {
                file.overwrite_start(&header).map_err(DatasetError::io(&self.path))?;
                file.finish()?;
            }
            #[cfg(feature = "parquet")]
            Sink::Parquet(writer) => writer.finish(&self.path)?,
            #[cfg(feature = "arrow")]
            Sink::Ipc(writer) => writer.finish(&self.path)?,
        }
        Ok(self.rows)
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

impl Sink {
    #[cfg_attr(
        not(any(feature = "parquet", feature = "arrow")),
        expect(unused_variables, reason = "only lists have a type to be declared")
    )]
    fn create(location: &Location, dim: usize, element: Element) -> Result<Sink, DatasetError> {
        let path = location.path.as_path();
        match location.format {
            #[cfg(feature = "parquet")]
            Format::Parquet => {
                let writer = crate::parquet_file::Writer::create(location, dim, element)?;
                Ok(Sink::Parquet(Box::new(writer)))
            }
            #[cfg(feature = "arrow")]
            Format::Arrow => {
                let writer = crate::ipc::Writer::create(location, dim, element)?;
                Ok(Sink::Ipc(Box::new(writer)))
            }
            Format::Hdf5 => Err(DatasetError::unsupported(
                path,
                "a format that is written in blocks",
                "HDF5, which is only read",
            )),
            format if format.is_strided() => Ok(Sink::Plain(AtomicFile::create(path)?)),
            format => {
                let (path, feature) = (path.to_owned(), format.feature());
                Err(DatasetError::MissingFeature { path, feature })
            }
        }
    }
}
