//! Indexes: building, opening, searching.

mod build;
mod codecs;
mod config;
mod door;
mod exact;
mod format;
mod learn;
mod lists;
mod options;
mod outliers;
mod quality;
mod rank;
pub mod raw;
mod scan;
mod search;
mod shelf;
mod sums;
mod timers;

use std::ops::ControlFlow;
use std::path::Path;

pub use build::IndexBuilder;
pub use config::{BuildReport, Encoding, IndexConfig, IndexInfo, Keep, SearchParams, SearchStats};
pub(crate) use door::{
    check_norm, check_query, check_row, check_weights, mean_of, normalized_weights, prepare_query,
    scale_of,
};
pub use exact::ExactIndex;
pub use options::OpenOptions;
pub use quality::{QualityRow, quality};
pub use search::{FetchVector, Searcher};
#[cfg(feature = "timers")]
pub use timers::Piece;

use crate::error::{OpenError, WriteError};
use crate::metric::Metric;
use crate::storage::{Access, SectionKind, VerifyReport, save_bytes};
use format::Parts;

/// An index over compressed vectors, in memory or mapped from its file.
///
/// Vectors are clustered into lists (IVF); an index with one list is flat. Searching takes
/// `&self`, from any number of threads.
///
/// ```
/// use nonius::{Index, IndexConfig, Metric, SearchParams};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("vectors.nonius");
/// let vectors: Vec<f32> = (0..6400).map(|i| (i as f32).sqrt().sin()).collect(); // 400 x 16
/// let config = IndexConfig { metric: Metric::Cosine, ..IndexConfig::default() };
/// Index::from_slice(16, &vectors, &config)?.save(&path)?;
///
/// let index = Index::open(&path)?;
/// let found = index.search(&vectors[..16], 3, &SearchParams::default())?;
/// assert_eq!(found[0].id, 0);
/// assert!(found[0].distance < 0.01);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Index {
    parts: Parts,
}

impl Index {
    fn from_parts(parts: Parts) -> Index {
        Index { parts }
    }

    fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Maps an index file into memory. The time does not depend on the number of vectors; pages
    /// are read when a search needs them, and shared with other processes that map the file.
    ///
    /// All lengths, offsets, counts and codes are checked here, so that no file, however
    /// damaged, makes a search panic or read outside the file. The checksums of the large
    /// sections are left to [`verify`](Index::verify).
    ///
    /// **The file must not change while it is mapped**: a program that writes into it changes
    /// what this process takes for constant, and one that shortens it makes the system kill this
    /// process at the next access. Replace index files by renaming a new one over the old, as
    /// [`save`](Index::save) and [`IndexBuilder::write`] do; the old one stays valid for those
    /// who have mapped it. Where that cannot be relied on, use [`read`](Index::read).
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Index, OpenError> {
        OpenOptions::new().open(path)
    }

    /// Asks the system to read codes, factors, ids and outliers of a mapped index into memory now, so that
    /// the first queries do not wait for the disk. Returns at once; vectors kept for rerank are left out.
    pub fn warm(&self) {
        for kind in [
            SectionKind::CentroidsPacked,
            SectionKind::Scan,
            SectionKind::Spilled,
            SectionKind::Rest,
            SectionKind::Ids,
            SectionKind::OutlierPositions,
            SectionKind::OutlierVectors,
        ] {
            self.parts.container.advise(kind, Access::WillNeed);
        }
    }

    /// Reads an index file into memory of this process, after which the file may change.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn read(path: impl AsRef<Path>) -> Result<Index, OpenError> {
        OpenOptions::new().into_memory(true).open(path)
    }

    /// Opens an index from the bytes of its file, which are copied.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Index, OpenError> {
        OpenOptions::new().from_bytes(bytes)
    }

    /// The bytes of the index: those of its file.
    pub fn as_bytes(&self) -> &[u8] {
        self.parts.container.bytes()
    }

    /// Writes the index to a file, atomically: to a temporary file beside it, which takes its
    /// name when all is on disk.
    ///
    /// # Errors
    /// [`WriteError`]; what was there before is then untouched.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), WriteError> {
        save_bytes(path.as_ref(), self.as_bytes())
    }

    /// Checks that a mapped file is still as long as it was when it was opened. An index in memory always
    /// passes.
    ///
    /// A program that shortens the file makes the system end this process when a search reads beyond the
    /// new end. [`search`](Index::search) and [`search_batch`](Index::search_batch) look at the length
    /// before they begin; a [`Searcher`] does not, as it would cost much of a short search: this is for
    /// its users, to ask now and then. Nobody can see a file that is shortened a moment later.
    ///
    /// # Errors
    /// [`OpenError::Truncated`], and [`OpenError::Io`] if the system does not tell.
    pub fn check_file(&self) -> Result<(), OpenError> {
        self.parts.container.check_file()
    }

    /// Compares all checksums: any changed bit in the file is found.
    ///
    /// # Errors
    /// [`OpenError::Checksum`] naming the section and its offset.
    pub fn verify(&self) -> Result<VerifyReport, OpenError> {
        self.verify_with(&mut |_, _| ControlFlow::Continue(()))
    }

    /// [`verify`](Index::verify) with a callback that is told the bytes done and those of the
    /// whole, and may cancel.
    ///
    /// # Errors
    /// As [`verify`](Index::verify), and [`OpenError::Cancelled`].
    pub fn verify_with(
        &self,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<VerifyReport, OpenError> {
        crate::storage::verify(&self.parts.container, progress)
    }

    /// The number of vectors.
    pub fn len(&self) -> usize {
        self.parts.count
    }

    /// True if there are no vectors, which a built index never is.
    pub fn is_empty(&self) -> bool {
        self.parts.count == 0
    }

    /// The dimension of vectors and queries.
    pub fn dim(&self) -> usize {
        self.parts.frame().dim
    }

    /// The metric.
    pub fn metric(&self) -> Metric {
        self.parts.frame().metric
    }

    /// The number of lists.
    pub fn nlist(&self) -> usize {
        self.parts.nlist
    }

    /// Which full vectors are kept.
    pub fn keep(&self) -> Keep {
        self.parts.keep
    }

    /// All that can be said of the index without reading its vectors.
    pub fn info(&self) -> IndexInfo {
        let parts = &self.parts;
        let layout = &parts.layout;
        let sizes = parts.list_table.windows(2).map(|w| (w[1].vector - w[0].vector) as usize);
        IndexInfo {
            version: crate::storage::VERSION,
            vectors: parts.count,
            dim: parts.frame().dim,
            metric: parts.frame().metric,
            quantizer: parts.spec,
            nlist: parts.nlist,
            list_sizes: (sizes.clone().min().unwrap_or(0), sizes.max().unwrap_or(0)),
            spilled: parts.list_table.last().map_or(0, |end| end.copy as usize),
            outliers: parts.outlier_count(),
            keep: parts.keep,
            bytes_per_vector: parts.bytes_per_vector(),
            code_bytes: layout.record_bytes(),
            first_stage_bits: layout.first_stage_bits(),
            file_bytes: self.as_bytes().len() as u64,
            plan: parts.codec.plan().to_vec(),
            sections: parts
                .container
                .sections()
                .iter()
                .map(|s| (s.name, s.offset, s.length))
                .collect(),
        }
    }
}
