//! Approximate nearest-neighbour search over compressed vectors.

mod error;
mod matrix;
mod metric;
mod progress;
pub mod quantizer;
pub mod random;
mod source;
mod topk;
pub mod train;
pub mod transform;

pub use error::{
    BuildError, ConfigError, Error, OpenError, SearchError, SourceError, VectorError, WriteError,
};
pub use matrix::{MAX_DIM, Matrix, MatrixView};
pub use metric::{Metric, UnknownMetric};
pub use progress::{Progress, ProgressFn, Stage};
pub use source::{BlockSource, RowReader, VectorSource};
pub use topk::{Neighbor, TopK};
mod index;
pub use index::*;
pub use quantizer::QuantizerSpec;
