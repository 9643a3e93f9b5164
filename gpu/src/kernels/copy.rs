//! Copies a buffer: see `copy.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::Kernel;

#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    /// In fours.
    pub(crate) words: u32,
    pub(crate) threads: u32,
}

pub(crate) fn kernel() -> Kernel {
    Kernel {
        name: "copy",
        parts: &[include_str!("copy.wgsl")],
        constants: Vec::new(),
        writes: &[false, true],
    }
}

/// The twin.
#[cfg(test)]
pub(crate) fn copy(p: &Params, source: &[u32], target: &mut [u32]) {
    let words = 4 * p.words as usize;
    target[..words].copy_from_slice(&source[..words]);
}
