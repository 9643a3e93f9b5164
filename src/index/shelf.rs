//! Values that wait until a later pass wants them.

use std::path::Path;
use std::sync::Arc;

use bytemuck::Pod;

use crate::error::WriteError;
use crate::storage::{OsLayer, Temporary};

/// So many values, in memory or in a temporary file.
pub(super) enum Shelf<T> {
    Memory(Vec<T>),
    File(Temporary),
}

impl<T: Pod> Shelf<T> {
    /// `len` zeros; in a temporary file beside `path`, if there is one.
    pub(super) fn new(len: usize, path: Option<&Path>) -> Result<Shelf<T>, WriteError> {
        Ok(match path {
            None => Shelf::Memory(vec![T::zeroed(); len]),
            Some(path) => {
                Shelf::File(Temporary::create(Arc::new(OsLayer), path, offset::<T>(len))?)
            }
        })
    }

    /// Replaces the values from number `first` on.
    pub(super) fn write(&mut self, first: usize, values: &[T]) -> Result<(), WriteError> {
        match self {
            Shelf::Memory(all) => {
                all[first..first + values.len()].copy_from_slice(values);
                Ok(())
            }
            Shelf::File(file) => {
                file.write_all_at(bytemuck::cast_slice(values), offset::<T>(first))
            }
        }
    }

    /// Reads the values from number `first` on.
    pub(super) fn read(&self, first: usize, values: &mut [T]) -> Result<(), WriteError> {
        match self {
            Shelf::Memory(all) => {
                values.copy_from_slice(&all[first..first + values.len()]);
                Ok(())
            }
            Shelf::File(file) => {
                file.read_exact_at(bytemuck::cast_slice_mut(values), offset::<T>(first))
            }
        }
    }
}

/// Where a value lies in the file.
fn offset<T>(number: usize) -> u64 {
    number as u64 * size_of::<T>() as u64
}
