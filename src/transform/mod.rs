//! Orthogonal transforms: dense random rotations and the fast Hadamard rotation.

pub mod hadamard;
pub mod rotation;

pub use hadamard::Hadamard;
pub use rotation::random_orthogonal;
