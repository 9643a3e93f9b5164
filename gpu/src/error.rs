//! What can go wrong.

use nonius::{SearchError, VectorError};

/// A GPU could not be had, or could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// There is no adapter of this name, or none that is a GPU.
    #[error("expected {wanted}, found {}", list(found))]
    NoAdapter {
        /// What was asked for.
        wanted: String,
        /// The adapters that there are.
        found: Vec<String>,
    },
    /// The adapter gave no device.
    #[error("{adapter} gave no device: {message}")]
    NoDevice {
        /// The adapter's name.
        adapter: String,
        /// What the driver says.
        message: String,
    },
    /// The device has too little memory.
    #[error("no room on the device for {bytes} bytes of {what}")]
    OutOfMemory {
        /// What the memory was for.
        what: &'static str,
        /// How much was asked for.
        bytes: u64,
    },
    /// Something is larger than what the device can bind at a time.
    #[error("{what} take {bytes} bytes, the device binds up to {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        bytes: u64,
        /// What fits.
        limit: u64,
    },
    /// The device is lost, to a reset of the driver say. Make a new context and upload again.
    #[error("the device is lost: {message}")]
    Lost {
        /// What the driver says.
        message: String,
    },
    /// The device refused a command.
    #[error("the device failed: {message}")]
    Device {
        /// What the driver says.
        message: String,
    },
    /// An index or parameters that the GPU path does not know.
    #[error("a GPU cannot search {what}")]
    Unsupported {
        /// What is not supported.
        what: String,
    },
    /// The search makes no sense.
    #[error(transparent)]
    Search(#[from] SearchError),
}

impl From<VectorError> for GpuError {
    fn from(error: VectorError) -> GpuError {
        GpuError::Search(error.into())
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "no adapter".to_owned() } else { names.join(", ") }
}
