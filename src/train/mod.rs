//! What is learnt from data: samples, clusters, principal components, and the integer rows that
//! make their matrix products fast.
//!
//! Everything here gives the same bits for the same input and seed, whatever the number of
//! threads and the SIMD level.

pub mod quantize;

pub use quantize::RowsI16;
