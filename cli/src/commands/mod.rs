//! The subcommands, a module each: its flags, and a `run` that does it.

pub(crate) mod build;
pub(crate) mod convert;
pub(crate) mod demo;
pub(crate) mod eval;
pub(crate) mod gpus;
pub(crate) mod info;
pub(crate) mod quality;
pub(crate) mod search;
pub(crate) mod truth;
pub(crate) mod verify;
