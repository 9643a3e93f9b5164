//! SAQ.
mod plan;
mod scale;
pub use plan::{MAX_BITS, Segment};
