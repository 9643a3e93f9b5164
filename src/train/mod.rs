//! What is learnt from data: samples, clusters, principal components, and the integer rows that
//! make their matrix products fast.
//!
//! Everything here gives the same bits for the same input and seed, whatever the number of
//! threads and the SIMD level.

pub mod assign;
mod device;
mod direct;
pub mod kmeans;
pub mod pca;
pub mod quantize;
mod repair;
mod rounding;
pub mod sample;
mod spill;

pub use assign::{AssignScratch, Assigner};
pub(crate) use direct::Direct;
pub(crate) use kmeans::First;
pub use kmeans::{KMeans, KMeansModel};
pub use pca::Pca;
pub(crate) use quantize::{ROUND, RowsI7, shifted_dot};
pub use quantize::{RowsI8, RowsI16};
pub(crate) use repair::{Buckets, NOWHERE};
pub use rounding::Rounding;
pub use sample::{sample_rows, sample_rows_with};
