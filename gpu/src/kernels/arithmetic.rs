//! Whether a device rounds as the processor does: see `arithmetic.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::Kernel;

/// Threads of a workgroup.
pub(crate) const THREADS: u32 = 64;

#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub(crate) count: u32,
    pub(crate) grid_x: u32,
    pub(crate) zero: u32,
    pub(crate) unused: u32,
}

pub(crate) fn kernel() -> Kernel {
    Kernel {
        name: "arithmetic",
        parts: &[include_str!("exact.wgsl"), include_str!("arithmetic.wgsl")],
        constants: Vec::new(),
        writes: &[false, true],
    }
}

/// The twin, which says what is right.
pub(crate) fn arithmetic(p: &Params, numbers: &[[u32; 4]], results: &mut [[u32; 4]]) {
    let numbers = numbers.iter().take(p.count as usize);
    for (&[a, b, c, _], results) in numbers.zip(results.as_chunks_mut::<2>().0) {
        let (a, b, c) = (f32::from_bits(a), f32::from_bits(b), c as i32 as f32);
        *results = [
            [a + b, a - b, a * b, a / b].map(f32::to_bits),
            [a.sqrt(), c, c + a * b, (a - b) + c].map(f32::to_bits),
        ];
    }
}
