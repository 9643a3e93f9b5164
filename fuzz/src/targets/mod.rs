//! The targets: what is fed with random input, and what must hold of it.

pub mod arguments;
pub mod codes;
pub mod datasets;
pub mod floats;
pub mod index;
pub mod kernels;
pub mod planner;

use nonius::random::Random;

/// Something to be fed.
#[derive(Clone, Copy)]
pub struct Target {
    /// What the program is told.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Takes an input; panics where a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Changes an input, for which others may be used.
    pub mutate: fn(&mut Vec<u8>, &mut Random, &[Vec<u8>]),
    /// The most memory that an input may take.
    pub memory: Memory,
}

/// The most memory that an input may make a target hold at once.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// So many times its length.
    pub times: u64,
    /// And so many bytes.
    pub bytes: u64,
}

impl Memory {
    /// The bytes that an input of this length may take.
    pub fn cap(self, length: usize) -> u64 {
        self.times * length as u64 + self.bytes
    }
}

/// All targets.
pub const TARGETS: [Target; 7] = [
    index::TARGET,
    datasets::TARGET,
    planner::TARGET,
    kernels::TARGET,
    codes::TARGET,
    floats::TARGET,
    arguments::TARGET,
];

/// The target of a name.
pub fn find(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
