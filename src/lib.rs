//! Approximate nearest-neighbour search over compressed vectors.
//!
//! Vectors are compressed by SAQ (code adjustment and dimension segmentation) to a few bits a
//! dimension, clustered into lists, and written to one file. The file is opened by memory mapping,
//! and queries are answered from the codes; the full vectors can be kept in the same file for
//! exact rerank.
//!
//! # Quickstart
//!
//! ```
//! use nonius::{Index, IndexConfig, Metric, SearchParams};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("vectors.nonius");
//! // 1,000 vectors of 64 dimensions; yours come from an embedding model.
//! let vectors: Vec<f32> = (0..64_000).map(|i| (i as f32).sqrt().sin()).collect();
//! let config = IndexConfig { metric: Metric::Cosine, ..IndexConfig::default() };
//! Index::from_slice(64, &vectors, &config)?.save(&path)?;
//!
//! let index = Index::open(&path)?;
//! let params = SearchParams { rerank: 50, ..SearchParams::default() };
//! let found = index.search(&vectors[64 * 17..64 * 18], 10, &params)?;
//! assert_eq!(found.len(), 10);
//! assert_eq!(found[0].id, 17);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What to use
//!
//! | for | use |
//! |---|---|
//! | building from a slice or a [`Matrix`] | [`Index::from_slice`], [`Index::build`] |
//! | building a file that need not fit into memory, with ids and progress | [`IndexBuilder::write`] |
//! | vectors from a database or a stream | [`BlockSource`], or a [`VectorSource`] of one's own |
//! | opening a file | [`Index::open`] maps it, [`Index::read`] copies it into memory |
//! | one query | [`Index::search`] |
//! | many queries on one thread | [`Index::searcher`], which keeps its buffers |
//! | many queries on all cores | [`Index::search_batch`] |
//! | rerank with vectors from elsewhere | [`Searcher::rerank_from`] |
//! | codes without an index | [`Quantizer`], [`Saq`] |
//! | measuring a quantizer | [`quality`] |
//! | exact search, as the truth | [`ExactIndex`] |
//!
//! # Choosing
//!
//! - **Metric.** [`Metric`] is fixed when the index is built, and [`Neighbor::distance`] has its
//!   sign and scale.
//! - **Bits.** [`QuantizerSpec::saq`] takes the average bits of a dimension, fractions included. 4
//!   are the default; [`quality`] measures what others would give. Below about one bit a dimension
//!   [`QuantizerSpec::rvq_bytes`] finds more, but takes far longer to train and to encode.
//! - **Kept vectors.** [`Keep::F16`], the default, keeps the vectors in half precision beside the
//!   codes. They stay on disk until a rerank asks for some of them. [`Keep::None`] makes the
//!   smallest file.
//! - **Recall against speed.** [`SearchParams::nprobe`] is how many lists are searched,
//!   [`SearchParams::rerank`] how many of the best estimates are compared exactly.
//!
//! # Threads
//!
//! [`Index`] is `Send` and `Sync`, and searching takes `&self`. Building and batches run on the
//! rayon pool that they are called in; a pool of one's own is set up with
//! [`install`](https://docs.rs/rayon/latest/rayon/struct.ThreadPool.html#method.install).
//!
//! # Determinism
//!
//! The same vectors, configuration, seed and version of this crate give the same bytes and the
//! same answers, whatever the number of threads and the instruction set. The environment variable
//! `NONIUS_SIMD` (`scalar`, `avx2`, `avx512`, `neon`) forces the instruction set, for tests.
//!
//! # Files
//!
//! `FORMAT.md` in the repository describes every byte. Files are written whole or not at all, and
//! never changed afterwards. Opening checks all lengths, offsets and counts; no file makes a
//! search panic or read outside it. A mapped file must not be changed by others: see
//! [`Index::open`].
//!
//! # Features
//!
//! None is on by default. `serde` makes [`SearchParams`], [`Metric`], [`Keep`], [`Encoding`] and
//! [`Segment`] serializable. The crate and what it depends on are Rust, without C.

/// The examples of README.md, which compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

pub mod accelerator;
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

pub use accelerator::{Accelerator, Closest, LoadedCentroids};
pub use error::{
    BuildError, ConfigError, DeviceError, Error, OpenError, SearchError, SourceError, VectorError,
    WriteError,
};
pub use index::*;
pub use matrix::{MAX_DIM, Matrix, MatrixView};
pub use metric::{Metric, UnknownMetric};
pub use progress::{Progress, ProgressFn, Stage};
pub use quantizer::saq::{Estimate, Saq, SaqCodes, SaqConfig, Segment};
pub use quantizer::{CodeSize, CodebookUse, Codes, Quantizer, QuantizerConfig, QuantizerSpec};
pub use source::{BlockSource, RowReader, VectorSource};
pub use storage::{MappedFile, SectionInfo, VerifyReport};
pub use topk::{Neighbor, TopK};
