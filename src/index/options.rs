//! How an index is opened.

use std::path::Path;

use super::Index;
use super::format::{self, Parts};
use super::sums::Checks;
use crate::error::OpenError;
use crate::storage::{Access, AlignedBytes, Container, OpenMode, SectionKind};

/// How an index is opened, where [`Index::open`] and [`Index::read`] do not say it.
///
/// ```
/// use nonius::{Index, IndexConfig, OpenOptions, SearchParams};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("vectors.nonius");
/// let values: Vec<f32> = (0..6400).map(|i| (i as f32 * 0.7).cos()).collect(); // 400 x 16
/// Index::from_slice(16, &values, &IndexConfig::default())?.save(&path)?;
///
/// let index = OpenOptions::new().check_lists(true).open(&path)?;
/// let found = index.search(&values[..16], 3, &SearchParams::default())?;
/// assert_eq!(found.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    into_memory: bool,
    check_lists: bool,
}

impl OpenOptions {
    /// The file is mapped, and checksums of sections are left to [`Index::verify`].
    pub fn new() -> OpenOptions {
        OpenOptions::default()
    }

    /// Reads the file into memory of this process, after which it may change. Linux is asked for huge pages:
    /// searches of indexes of 20 to 40 MB took up to a tenth less time than with the file mapped.
    pub fn into_memory(mut self, yes: bool) -> OpenOptions {
        self.into_memory = yes;
        self
    }

    /// Compares with its checksum whatever is used: parameters, centroids and codebooks when the index is
    /// opened, and each list when a search first reads it, its kept vectors when rerank does. A search
    /// that meets a damaged list ends with [`SearchError::Damaged`](crate::SearchError::Damaged), every time.
    ///
    /// A list is read whole for that, once; after that a search looks up a byte for each list. An index
    /// whose file has no checksums of lists, from another writer, is verified whole when it is opened.
    pub fn check_lists(mut self, yes: bool) -> OpenOptions {
        self.check_lists = yes;
        self
    }

    /// Opens an index file.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Index, OpenError> {
        let mode = if self.into_memory { OpenMode::Read } else { OpenMode::Map };
        let index = self.finish(Container::open(path.as_ref(), mode)?)?;
        // Rerank reads single rows here and there: reading ahead would be waste.
        index.parts.container.advise(SectionKind::Kept, Access::Random);
        Ok(index)
    }

    /// Opens an index from the bytes of its file, which are copied.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn from_bytes(&self, bytes: &[u8]) -> Result<Index, OpenError> {
        let bytes = AlignedBytes::from_slice(bytes)
            .map_err(|source| OpenError::Io { path: "(memory)".into(), source })?;
        self.finish(Container::from_bytes(bytes)?)
    }

    fn finish(&self, container: Container) -> Result<Index, OpenError> {
        let parts = format::parse(container)?;
        if !self.check_lists {
            return Ok(Index::from_parts(parts));
        }
        if parts.container.optional(SectionKind::ListChecksums).is_none() {
            let index = Index::from_parts(parts);
            index.verify()?;
            return Ok(index);
        }
        let checks = Some(Checks::begin(&parts)?);
        Ok(Index::from_parts(Parts { checks, ..parts }))
    }
}
