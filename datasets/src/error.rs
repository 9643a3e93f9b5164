//! What can go wrong with a file of vectors: always the file, and the row and column where there
//! is one.

use std::io;
use std::path::{Path, PathBuf};

use nonius::{MAX_DIM, SourceError};

use crate::element::Element;
use crate::format::Format;

/// A file of vectors or ids that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The extension is none of those that are known.
    #[error("{}: unknown format; the extensions known are {}", path.display(), Format::extensions())]
    UnknownExtension {
        /// The file.
        path: PathBuf,
    },
    /// The format needs a cargo feature that this build lacks.
    #[error("{}: this program was built without the feature {feature}", path.display())]
    MissingFeature {
        /// The file.
        path: PathBuf,
        /// The feature of the crate `nonius-datasets`.
        feature: &'static str,
    },
    /// The header is not that of the format, or has values that cannot be.
    #[error("{}: wrong header: expected {expected}, found {found}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What the format asks for.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// The file is intact but holds a type, an order or a shape that is not supported here.
    #[error("{}: not supported: expected {expected}, found {found}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is supported.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// The dimension lies outside the accepted range.
    #[error("{}: dimension {found} is not between 1 and {MAX_DIM}", path.display())]
    Dim {
        /// The file.
        path: PathBuf,
        /// The dimension found.
        found: u64,
    },
    /// The file has fewer or more bytes than its header announces.
    #[error(
        "{}: {}: expected {expected} bytes, found {found}",
        path.display(),
        if found < expected { "truncated" } else { "too long" }
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// The bytes that the header announces; for formats without a count of rows, the bytes
        /// up to the end of the row that is cut off.
        expected: u64,
        /// The bytes that the file has.
        found: u64,
    },
    /// A row of another length than the first.
    #[error("{}: row {row} has {found} values, expected {expected} as in row 0", path.display())]
    Ragged {
        /// The file.
        path: PathBuf,
        /// The row's number, from 0.
        row: usize,
        /// The length of the first row.
        expected: usize,
        /// The length of this row.
        found: i64,
    },
    /// A missing row or a missing value.
    #[error(
        "{}: row {row}{} is null",
        path.display(),
        column.map_or(String::new(), |column| format!(", column {column}"))
    )]
    Null {
        /// The file.
        path: PathBuf,
        /// The row's number, from 0.
        row: usize,
        /// The column's number, from 0; `None` if the whole row is missing.
        column: Option<usize>,
    },
    /// NaN, infinity, or a 64-bit float beyond the range of `f32`.
    #[error(
        "{}: row {row}, column {column} is {value}; every value must be a finite f32",
        path.display()
    )]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// The row's number, from 0.
        row: usize,
        /// The column's number, from 0.
        column: usize,
        /// What was found.
        value: f64,
    },
    /// A value that the element type cannot hold.
    #[error("{}: row {row}, column {column}: {value} is not a value of type {element}", path.display())]
    DoesNotFit {
        /// The file.
        path: PathBuf,
        /// The row's number, from 0.
        row: usize,
        /// The column's number, from 0.
        column: usize,
        /// The value at fault.
        value: f64,
        /// The type that should hold it.
        element: Element,
    },
    /// An id that cannot be: below -1 in a file, or beyond 31 bits when it is to be written.
    #[error("{}: row {row}, column {column}: {value} is not an id", path.display())]
    Id {
        /// The file.
        path: PathBuf,
        /// The row's number, from 0.
        row: usize,
        /// The column's number, from 0.
        column: usize,
        /// The value at fault.
        value: i128,
    },
    /// The column or dataset asked for does not exist, or there are several to choose from.
    #[error("{}: {problem}; the file has {}", path.display(), listed(available))]
    Member {
        /// The file.
        path: PathBuf,
        /// What is wrong with the choice.
        problem: String,
        /// The names that the file has.
        available: Vec<String>,
    },
    /// The decoder of the format gave up.
    #[error("{}: {message}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        message: String,
    },
    /// The vectors to be written could not be read.
    #[error(transparent)]
    Source(SourceError),
    /// The progress callback asked to stop.
    #[error("cancelled")]
    Cancelled,
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl DatasetError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> DatasetError + '_ {
        |source| DatasetError::Io { path: path.to_owned(), source }
    }

    pub(crate) fn header(
        path: &Path,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> DatasetError {
        DatasetError::Header {
            path: path.to_owned(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    pub(crate) fn unsupported(
        path: &Path,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> DatasetError {
        DatasetError::Unsupported {
            path: path.to_owned(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    #[cfg(any(feature = "hdf5", feature = "arrow", feature = "parquet"))]
    pub(crate) fn corrupt(path: &Path, message: impl ToString) -> DatasetError {
        DatasetError::Corrupt { path: path.to_owned(), message: message.to_string() }
    }
}

impl From<DatasetError> for SourceError {
    fn from(error: DatasetError) -> SourceError {
        match error {
            DatasetError::Source(source) => source,
            other => SourceError::Other(Box::new(other)),
        }
    }
}

impl From<SourceError> for DatasetError {
    /// Unwraps the error that a file of this crate reported through a reader.
    fn from(error: SourceError) -> DatasetError {
        match error {
            SourceError::Other(inner) => match inner.downcast::<DatasetError>() {
                Ok(error) => *error,
                Err(inner) => DatasetError::Source(SourceError::Other(inner)),
            },
            other => DatasetError::Source(other),
        }
    }
}

/// Checks a dimension that a header announces.
pub(crate) fn check_dim(path: &Path, dim: u64) -> Result<usize, DatasetError> {
    match usize::try_from(dim) {
        Ok(dim @ 1..=MAX_DIM) => Ok(dim),
        _ => Err(DatasetError::Dim { path: path.to_owned(), found: dim }),
    }
}
