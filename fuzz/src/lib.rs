//! Random input for everything in Nonius that reads what others wrote.
//!
//! A [target](targets::Target) is a function of bytes that panics where a promise of the library is
//! broken. [`driver::drive`] feeds it mutations, on a stable toolchain and the same ones for the
//! same seed; the program of this crate is around that. `libfuzzer/` has the same targets for
//! libFuzzer.

// `targets::planner` compiles a source of the library, which has a feature that this crate lacks.
#![allow(unexpected_cfgs)]

pub mod driver;
pub mod input;
pub mod mutate;
mod notes;
pub mod targets;

pub use notes::note;
