//! Approximate nearest-neighbour search over compressed vectors.

mod error;
mod index;
mod matrix;
mod metric;
mod progress;
pub mod quantizer;
pub mod random;
mod source;
// Until the index is built on it, nothing but its tests uses most of the container.
#[allow(dead_code, unused_imports)]
mod storage;
mod topk;
pub mod train;
pub mod transform;

pub use error::{
    BuildError, ConfigError, Error, OpenError, SearchError, SourceError, VectorError, WriteError,
};
pub use index::*;
pub use matrix::{MAX_DIM, Matrix, MatrixView};
pub use metric::{Metric, UnknownMetric};
pub use progress::{Progress, ProgressFn, Stage};
pub use quantizer::QuantizerSpec;
pub use source::{BlockSource, RowReader, VectorSource};
pub use storage::{SectionInfo, VerifyReport};
pub use topk::{Neighbor, TopK};
