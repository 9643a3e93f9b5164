//! Indexes.
mod config;
pub use config::*;
