//! A wall around the decoders of other crates.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::error::DatasetError;

/// Runs a decoder. Damaged files must end in an error, also where a decoder panics over them.
pub(crate) fn guarded<T>(
    path: &Path,
    decode: impl FnOnce() -> Result<T, DatasetError>,
) -> Result<T, DatasetError> {
    // What a panic leaves half done is dropped with the error or refuses the next call.
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(DatasetError::corrupt(path, "damaged: the decoder gave up")))
}
