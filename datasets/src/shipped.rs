//! The real set that comes with the repository: 10,000 sentence embeddings of WordNet glosses.

use std::fs;
use std::path::{Path, PathBuf};

use nonius::Matrix;

use crate::error::DatasetError;
use crate::ids::{IdMatrix, read_ids};
use crate::load;

/// The folder of the shipped set in a clone of the repository.
pub fn wordnet_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join("wordnet-384")
}

/// The shipped set; its README.md tells where it comes from.
#[derive(Clone, Debug)]
pub struct Shipped {
    /// The file of the 10,000 x 384 vectors (f16, unit norm) to be searched.
    pub base: PathBuf,
    /// 500 x 384 queries, of unit norm.
    pub queries: Matrix,
    /// 500 x 100 row numbers: the exact nearest neighbours by squared L2, ties by number.
    pub truth: IdMatrix,
    /// The text of each row of `base`.
    pub base_texts: Vec<String>,
    /// The text of each query.
    pub query_texts: Vec<String>,
}

impl Shipped {
    /// Loads the set from a clone of the repository; the vectors themselves stay in their file.
    ///
    /// # Errors
    /// [`DatasetError`] if a file is missing or damaged.
    pub fn load() -> Result<Shipped, DatasetError> {
        Shipped::load_from(wordnet_dir())
    }

    /// Loads the set from a copy of its folder.
    ///
    /// # Errors
    /// [`DatasetError`] if a file is missing or damaged.
    pub fn load_from(folder: impl AsRef<Path>) -> Result<Shipped, DatasetError> {
        let folder = folder.as_ref();
        let lines = |name: &str| {
            let path = folder.join(name);
            let text = fs::read_to_string(&path).map_err(DatasetError::io(&path))?;
            Ok::<Vec<String>, DatasetError>(text.lines().map(str::to_owned).collect())
        };
        Ok(Shipped {
            base: folder.join("base.f16.npy"),
            queries: load(folder.join("queries.f16.npy"))?,
            truth: read_ids(folder.join("truth.ivecs"))?,
            base_texts: lines("base.txt")?,
            query_texts: lines("queries.txt")?,
        })
    }
}
