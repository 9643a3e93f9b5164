//! Approximate nearest-neighbour search over compressed vectors.

mod error;
mod index;
mod matrix;
mod metric;
mod progress;
pub mod quantizer;
pub mod random;
mod source;
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
pub use quantizer::saq::{Estimate, Saq, SaqCodes, SaqConfig, Segment};
pub use source::{BlockSource, RowReader, VectorSource};
pub use storage::{SectionInfo, VerifyReport};
pub use topk::{Neighbor, TopK};
