//! Progress reports of long work, through which a caller may also stop it.

use std::ops::ControlFlow;

/// A part of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reading the training sample.
    Sample,
    /// Principal components, rotation and plan.
    Train,
    /// k-means over the sample; the unit is iterations.
    Cluster,
    /// Assigning every vector to its list; the unit is vectors.
    Assign,
    /// Encoding every vector; the unit is vectors.
    Encode,
    /// Checksums and the final write; the unit is bytes.
    Finish,
}

impl Stage {
    /// A short name for people.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Sample => "sampling",
            Stage::Train => "training",
            Stage::Cluster => "clustering",
            Stage::Assign => "assigning",
            Stage::Encode => "encoding",
            Stage::Finish => "finishing",
        }
    }
}

/// How far a stage has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The stage under way.
    pub stage: Stage,
    /// Units done so far, at most `total`.
    pub done: u64,
    /// Units of the whole stage.
    pub total: u64,
}

/// Called between pieces of work; returning [`ControlFlow::Break`] cancels it, and the operation
/// ends with [`BuildError::Cancelled`](crate::BuildError::Cancelled), leaving no file behind.
pub type ProgressFn<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;
