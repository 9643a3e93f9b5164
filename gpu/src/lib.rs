//! Search in Nonius indexes on a GPU.
//!
//! [`GpuIndex::upload`] brings the codes of an [`Index`](nonius::Index) to a GPU of any vendor, by WGPU compute
//! shaders, and [`GpuIndex::search_batch`] answers batches of queries there. Queries mean what they
//! mean to the index itself, whose processor prepares them; lists are scanned, candidates refined and results ranked on the GPU.
//!
//! ```no_run
//! use nonius::{Index, Matrix, SearchParams};
//! use nonius_gpu::{GpuContext, GpuIndex};
//!
//! let index = Index::open("vectors.nonius")?;
//! let context = GpuContext::new(None)?;
//! let on_gpu = GpuIndex::upload(&context, &index)?;
//! let queries = Matrix::zeros(1000, index.dim());
//! let found = on_gpu.search_batch(queries.view(), 10, &SearchParams::default())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`GpuContext`] also helps to build, with lists and with codes of SAQ: see [`IndexBuilder::accelerator`](nonius::IndexBuilder::accelerator).
//!
//! What can be searched: SAQ and RaBitQ, quantizers with codebooks of 8 and of 4 bits, and `f16`,
//! `bf16` and `f32`; flat indexes and lists, all metrics, any `k`. Not yet: scalar quantizers, lists with copies
//! (`spill`) and `patience`. Of indexes larger than the GPU's memory each search sends what it needs
//! ([`UploadOptions::memory_bytes`]).

#[cfg(test)]
extern crate self as nonius_gpu;

mod assign;
#[cfg(feature = "bench")]
pub mod bench;
mod context;
mod encode;
mod error;
mod kernels;
mod pipeline;
mod prepare;
mod search;
mod stream;
mod upload;

pub use context::{AdapterInfo, GpuContext, adapters};
pub use error::GpuError;
pub use search::GpuTimings;
pub use upload::{GpuIndex, UploadOptions};
