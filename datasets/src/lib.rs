//! Vector files, synthetic sets and exact ground truth for Nonius.
//!
//! [`open`] reads the formats in which sets of vectors are exchanged, each in blocks, so that no
//! file needs to fit into memory:
//!
//! | extension | format | feature |
//! |---|---|---|
//! | `.fvecs` `.bvecs` `.ivecs` | rows that start with their dimension | |
//! | `.fbin` `.u8bin` `.i8bin` `.ibin` | big-ann-benchmarks | |
//! | `.npy` | NumPy: f32, f16, f64, u8, i8, i32 in C order | |
//! | `.hdf5` `.h5` | ann-benchmarks; `x.hdf5:test` names a dataset, `train` by default | `hdf5` |
//! | `.parquet` | a column of lists of numbers; `x.parquet:vector` names it | `parquet` |
//! | `.arrow` `.feather` `.ipc` | the same in Arrow IPC files and streams | `arrow` |
//!
//! ```
//! use nonius::VectorSource;
//! use nonius_datasets::{Element, VectorWriter, load, open};
//!
//! # fn main() -> Result<(), nonius_datasets::DatasetError> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("three.npy");
//! let mut writer = VectorWriter::create(&path, 2, Element::F16)?;
//! writer.write_rows(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
//! writer.finish()?;
//!
//! let file = open(&path)?;
//! assert_eq!((file.rows(), file.dim(), file.element()), (3, 2, Element::F16));
//! let mut row = [0.0; 2];
//! file.reader()?.read(1, &mut row)?;
//! assert_eq!(row, [3.0, 4.0]);
//!
//! // What is small enough may be loaded whole.
//! assert_eq!(load(&path)?.row(2), [5.0, 6.0]);
//! # Ok(())
//! # }
//! ```
//!
//! Wrong headers, truncated files, rows of different lengths, NaN and infinity are errors that
//! name the file, the row and the column. Every size in a header is checked against the length of
//! the file before memory is reserved for it.
//!
//! [`Synthetic`] generates sets with the long-tailed spectrum of real embeddings, [`Noisy`]
//! enlarges a real one, [`exact_neighbors`] computes ground truth, and [`Shipped`] is a small
//! real set that comes with the repository.

mod atomic;
mod bin;
mod convert;
mod element;
mod error;
mod format;
#[cfg(any(feature = "hdf5", feature = "arrow", feature = "parquet"))]
mod guard;
#[cfg(feature = "hdf5")]
mod hdf5;
mod ids;
#[cfg(feature = "arrow")]
mod ipc;
#[cfg(any(feature = "arrow", feature = "parquet"))]
mod lists;
mod noisy;
mod npy;
#[cfg(feature = "parquet")]
mod parquet_file;
mod recall;
mod shipped;
mod strided;
mod synthetic;
mod truth;
mod vecs;
mod writer;

use std::path::Path;

use nonius::{Matrix, VectorSource};

pub use convert::convert;
pub use element::Element;
pub use error::DatasetError;
pub use format::{Format, Location};
#[cfg(feature = "hdf5")]
pub use hdf5::{declared_metric, write_ann_benchmarks};
pub use ids::{IdMatrix, NO_ID, read_ids, write_ivecs};
pub use noisy::Noisy;
pub use recall::{hits, recall};
pub use shipped::{Shipped, wordnet_dir};
pub use synthetic::{Generator, Synthetic};
pub use truth::{Truth, TruthError, exact_neighbors};
pub use writer::VectorWriter;

/// A file of vectors. Its readers hold a window of the file in memory, never the whole.
pub trait VectorFile: VectorSource + Send + Sync {
    /// The file.
    fn path(&self) -> &Path;

    /// The type of the values in the file; readers convert to `f32`.
    fn element(&self) -> Element;
}

/// Opens a file of vectors; the extension tells the format, see the [crate's page](crate).
///
/// # Errors
/// [`DatasetError`] if the extension is unknown, the format's feature is missing, the file cannot
/// be read, its header is wrong or its length is not what the header announces. Values are
/// checked when they are read.
pub fn open(path: impl AsRef<Path>) -> Result<Box<dyn VectorFile>, DatasetError> {
    open_at(&Location::parse(path)?)
}

/// Opens a file of vectors by mapping it into memory, which spares the copies of [`open`] where
/// rows are read here and there, and shares the system's cache with other processes. Containers
/// (HDF5, Parquet, Arrow) are read as [`open`] reads them.
///
/// The file must not change while it is mapped; see [`nonius::MappedFile`].
///
/// # Errors
/// As [`open`].
pub fn map(path: impl AsRef<Path>) -> Result<Box<dyn VectorFile>, DatasetError> {
    let location = Location::parse(path)?;
    if !location.format.is_strided() {
        return open_at(&location);
    }
    let mut file = open_strided(&location)?;
    file.rows.map()?;
    Ok(Box::new(file))
}

fn open_at(location: &Location) -> Result<Box<dyn VectorFile>, DatasetError> {
    let path = location.path.as_path();
    match location.format {
        #[cfg(feature = "hdf5")]
        Format::Hdf5 => hdf5::open(path, location.member.as_deref()),
        #[cfg(feature = "parquet")]
        Format::Parquet => parquet_file::open(path, location.member.as_deref()),
        #[cfg(feature = "arrow")]
        Format::Arrow => ipc::open(path, location.member.as_deref()),
        format if !format.is_strided() => {
            Err(DatasetError::MissingFeature { path: path.to_owned(), feature: format.feature() })
        }
        _ => Ok(Box::new(open_strided(location)?)),
    }
}

/// Opens a file whose rows lie at a fixed stride.
fn open_strided(location: &Location) -> Result<strided::StridedFile, DatasetError> {
    let path = location.path.as_path();
    match location.format {
        Format::Fvecs => vecs::open(path, Element::F32),
        Format::Bvecs => vecs::open(path, Element::U8),
        Format::Ivecs => vecs::open(path, Element::I32),
        Format::Fbin => bin::open(path, Element::F32),
        Format::U8bin => bin::open(path, Element::U8),
        Format::I8bin => bin::open(path, Element::I8),
        Format::Ibin => bin::open(path, Element::I32),
        Format::Npy => npy::open(path, false),
        Format::Hdf5 | Format::Parquet | Format::Arrow => {
            Err(DatasetError::unsupported(path, "rows at a fixed stride", "a container"))
        }
    }
}

/// Reads a whole file of vectors into memory: `rows x dim`.
///
/// # Errors
/// What [`open`] reports, and values that are not finite.
pub fn load(path: impl AsRef<Path>) -> Result<Matrix, DatasetError> {
    read_matrix(&*open(path)?)
}

/// Reads numbers, one for each vector of another file: as rows of one value, or as an array of one dimension
/// (`.npy`).
///
/// # Errors
/// What [`open`] reports, rows of more than one value, and values that are not finite.
pub fn load_numbers(path: impl AsRef<Path>) -> Result<Vec<f32>, DatasetError> {
    let path = path.as_ref();
    let location = Location::parse(path)?;
    let matrix = match location.format {
        Format::Npy => read_matrix(&npy::open(&location.path, true)?)?,
        _ => load(path)?,
    };
    match matrix.dim() {
        1 => Ok(matrix.into_data()),
        dim => {
            let found = format!("rows of {dim}");
            Err(DatasetError::unsupported(&location.path, "a number for each vector", found))
        }
    }
}

/// Reads a whole source into memory: `rows x dim`.
///
/// # Errors
/// What the source reports.
pub fn read_matrix(source: &(impl VectorSource + ?Sized)) -> Result<Matrix, DatasetError> {
    let (rows, dim) = (source.rows(), source.dim());
    let mut reader = source.reader()?;
    let mut data = Vec::new();
    let block = block_rows(dim);
    let mut start = 0;
    while start < rows {
        // Memory grows with what was read, so that a header alone cannot claim it.
        let count = block.min(rows - start);
        data.resize((start + count) * dim, 0.0);
        reader.read(start, &mut data[start * dim..])?;
        start += count;
    }
    Matrix::new(dim, data).map_err(|error| DatasetError::Source(error.into()))
}

/// Rows of `dim` values that make a block of about 1 MiB.
pub(crate) fn block_rows(dim: usize) -> usize {
    ((1 << 18) / dim).max(1)
}
