//! The errors: a small enum for each operation, and [`Error`], which unites them.

use std::path::PathBuf;

use crate::matrix::MAX_DIM;

/// Vectors that cannot be accepted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VectorError {
    /// A dimension outside the accepted range.
    #[error("dimension {found} is not between 1 and {MAX_DIM}")]
    Dim {
        /// The dimension found.
        found: usize,
    },
    /// A number of values that makes no whole rows.
    #[error("{values} values are not a whole number of rows of dimension {dim}")]
    Ragged {
        /// The dimension of a row.
        dim: usize,
        /// The number of values found.
        values: usize,
    },
    /// A vector of another dimension than the index or the quantizer.
    #[error("expected vectors of dimension {expected}, found {found}")]
    DimMismatch {
        /// The dimension expected.
        expected: usize,
        /// The dimension found.
        found: usize,
    },
    /// NaN or infinity.
    #[error("row {row}, column {column} is {value}; every value must be finite")]
    NonFinite {
        /// The row's number, from 0.
        row: usize,
        /// The column's number, from 0.
        column: usize,
        /// What was found.
        value: f32,
    },
    /// A vector so large that its squared norm is no finite `f32`.
    /// Or a query so much longer than the vectors that estimates of its distances are none.
    #[error("row {row} has a squared norm above the range of f32; scale the vectors down")]
    TooLarge {
        /// The row's number, from 0.
        row: usize,
    },
    /// A zero vector where the metric is cosine.
    #[error("row {row} is a zero vector, which has no direction under the cosine metric")]
    ZeroVector {
        /// The row's number, from 0.
        row: usize,
    },
}

/// A source of vectors that failed to deliver.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The values are not acceptable.
    #[error(transparent)]
    Vector(#[from] VectorError),
    /// The storage beneath failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// More rows were asked for than there are.
    #[error("rows {start}..{} asked of a source of {found} rows", start.saturating_add(*rows))]
    OutOfRange {
        /// The first row asked for.
        start: usize,
        /// How many rows were asked for.
        rows: usize,
        /// How many rows the source has.
        found: usize,
    },
    /// The source ended early.
    #[error("expected {expected} rows, the source ended after {found}")]
    Short {
        /// The rows announced.
        expected: usize,
        /// The rows found.
        found: usize,
    },
    /// A block that holds no whole number of rows.
    #[error("the block from row {row} on has {values} values, not a whole number of rows of {dim}")]
    Ragged {
        /// The block's first row.
        row: usize,
        /// The dimension of a row.
        dim: usize,
        /// The number of values found.
        values: usize,
    },
    /// A value beyond half precision, in which vectors are to be kept.
    #[error(
        "row {row}, column {column} is {value}, beyond the range of half precision (65504); keep \
         f32 or none"
    )]
    BeyondHalf {
        /// The row's number, from 0.
        row: usize,
        /// The column's number, from 0.
        column: usize,
        /// What was found.
        value: f32,
    },
    /// An error of another kind of storage, a file format's reader say.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

/// A configuration that makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct ConfigError {
    /// The field at fault.
    pub field: &'static str,
    /// What was expected and what was found.
    pub message: String,
}

impl ConfigError {
    pub(crate) fn new(field: &'static str, message: impl Into<String>) -> ConfigError {
        ConfigError { field, message: message.into() }
    }
}

/// Training a quantizer or building an index failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The configuration makes no sense.
    #[error("invalid configuration: {0}")]
    Config(#[from] ConfigError),
    /// There is nothing to build from.
    #[error("the source holds no vectors")]
    Empty,
    /// Fewer vectors than lists.
    #[error("nlist is {nlist} but there are only {rows} vectors")]
    TooFewVectors {
        /// The number of lists asked for.
        nlist: usize,
        /// The number of vectors found.
        rows: usize,
    },
    /// The source failed.
    #[error("reading the vectors: {0}")]
    Source(#[from] SourceError),
    /// The ids do not match the vectors.
    #[error("{ids} ids given for {rows} vectors")]
    IdCount {
        /// How many ids were given.
        ids: usize,
        /// How many vectors there are.
        rows: usize,
    },
    /// An id that occurs twice.
    #[error("id {id} is given to more than one vector")]
    DuplicateId {
        /// The repeated id.
        id: u64,
    },
    /// Writing failed.
    #[error("writing the index: {0}")]
    Write(#[from] WriteError),
    /// A device that was to help failed.
    #[error("the device that was to help with the build: {0}")]
    Device(#[source] DeviceError),
    /// The progress callback asked to stop.
    #[error("the build was cancelled")]
    Cancelled,
}

impl From<VectorError> for BuildError {
    fn from(error: VectorError) -> BuildError {
        BuildError::Source(SourceError::Vector(error))
    }
}

/// Why a device could not help with a build: see [`Accelerator`](crate::Accelerator).
pub type DeviceError = Box<dyn std::error::Error + Send + Sync>;

/// Writing a file failed. The file that was there before, if any, is untouched.
///
/// The one exception is the last step, `syncing the folder`: then the new file, complete, has
/// already taken the place of the old one, but might not survive a loss of power.
#[derive(Debug, thiserror::Error)]
#[error("{}: {action}: {source}", path.display())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// What was being done.
    pub action: &'static str,
    /// Why it failed.
    pub source: std::io::Error,
}

impl WriteError {
    pub(crate) fn new(
        path: impl Into<PathBuf>,
        action: &'static str,
        source: std::io::Error,
    ) -> WriteError {
        WriteError { path: path.into(), action, source }
    }
}

/// Opening or verifying an index file failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file does not start with the magic bytes of a Nonius index.
    #[error("not a Nonius index: the first eight bytes are {found:02x?}")]
    Magic {
        /// The bytes found.
        found: [u8; 8],
    },
    /// A format version that this library does not read.
    #[error("format version {found} is not supported; this library reads up to {newest}")]
    Version {
        /// The version found.
        found: u32,
        /// The newest version that is read.
        newest: u32,
    },
    /// The file ends too early.
    #[error("truncated: {what} needs {expected} bytes, the file has {found}")]
    Truncated {
        /// The part that is cut off.
        what: &'static str,
        /// The bytes that it needs, counted from the start of the file.
        expected: u64,
        /// The bytes that there are.
        found: u64,
    },
    /// A checksum does not match.
    #[error(
        "checksum of {what} at offset {offset}: expected {expected:#010x}, found {found:#010x}"
    )]
    Checksum {
        /// The part at fault: `header`, `table`, or a section's name.
        what: &'static str,
        /// Where the part starts in the file, in bytes.
        offset: u64,
        /// The checksum stored.
        expected: u32,
        /// The checksum computed.
        found: u32,
    },
    /// A field has a value that cannot be.
    #[error("corrupt {what}: {message}")]
    Corrupt {
        /// The part at fault.
        what: &'static str,
        /// What was expected and what was found.
        message: String,
    },
    /// A section that this library does not know and that must not be skipped.
    #[error("section kind {kind} is not known to this library, and the index needs it")]
    UnknownSection {
        /// The code of the section's kind.
        kind: u32,
    },
    /// The progress callback asked to stop.
    #[error("the verification was cancelled")]
    Cancelled,
}

impl OpenError {
    pub(crate) fn corrupt(what: &'static str, message: impl Into<String>) -> OpenError {
        OpenError::Corrupt { what, message: message.into() }
    }
}

/// A search that cannot be answered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// The query is not acceptable.
    #[error("query: {0}")]
    Query(#[from] VectorError),
    /// k is 0.
    #[error("k is 0; ask for at least one neighbour")]
    ZeroK,
    /// nprobe is 0.
    #[error("nprobe is 0; at least one list must be probed")]
    ZeroNprobe,
    /// A confidence that is negative or not finite.
    #[error("confidence must be a finite number of standard deviations from 0 on, found {found}")]
    Confidence {
        /// What was found.
        found: f32,
    },
    /// The centroid ratio is no number from 1 on.
    #[error("centroid_ratio must be a finite number of at least 1, found {found}")]
    CentroidRatio {
        /// What was found.
        found: f32,
    },
    /// Rerank was asked for, but the index keeps no vectors and none were given.
    #[error("rerank needs the vectors: build with keep = f32 or f16, or give them to the searcher")]
    NothingKept,
    /// The vectors given for rerank are not those of the index.
    #[error("vectors for rerank: expected {expected}, found {found}")]
    RerankVectors {
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A list is not what was written, in an index that was opened with
    /// [`check_lists`](crate::OpenOptions::check_lists).
    #[error("list {list} is damaged: the checksum of its {what} does not match")]
    Damaged {
        /// The number of the list.
        list: usize,
        /// What of it: `codes`, to which ids belong, or `kept vectors`.
        what: &'static str,
    },
    /// The mapped file has become shorter.
    #[error("the index file had {expected} bytes when it was mapped and has {found} now")]
    Shortened {
        /// The length when it was mapped.
        expected: u64,
        /// The length now.
        found: u64,
    },
}

/// Any error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// See [`VectorError`].
    #[error(transparent)]
    Vector(#[from] VectorError),
    /// See [`SourceError`].
    #[error(transparent)]
    Source(#[from] SourceError),
    /// See [`ConfigError`].
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// See [`BuildError`].
    #[error(transparent)]
    Build(#[from] BuildError),
    /// See [`WriteError`].
    #[error(transparent)]
    Write(#[from] WriteError),
    /// See [`OpenError`].
    #[error(transparent)]
    Open(#[from] OpenError),
    /// See [`SearchError`].
    #[error(transparent)]
    Search(#[from] SearchError),
}
