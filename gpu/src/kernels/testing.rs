//! Runs kernels for tests.

use bytemuck::Pod;

use super::Kernel;
use crate::GpuContext;

#[path = "../../tests/common/mod.rs"]
mod common;

pub(crate) use common::context;

/// Runs a kernel on buffers with some contents; returns what is then in those that it writes.
pub(crate) fn run<P: Pod>(
    context: &GpuContext,
    kernel: &Kernel,
    groups: u32,
    params: impl FnOnce(u32) -> P,
    buffers: &[&[u32]],
) -> Vec<Vec<u32>> {
    assert_eq!(buffers.len(), kernel.writes.len());
    let on_device: Vec<_> =
        buffers.iter().map(|values| context.filled("test", values).unwrap()).collect();
    let mut recorder = context.record(false);
    let refs: Vec<_> = on_device.iter().collect();
    recorder.dispatch(kernel, groups, params, &refs).unwrap();
    let read: Vec<_> = on_device
        .iter()
        .zip(buffers)
        .zip(kernel.writes)
        .filter(|(_, write)| **write)
        .map(|((buffer, values), _)| (buffer, size_of_val(*values) as u64))
        .collect();
    recorder.finish(&read).unwrap().0
}
