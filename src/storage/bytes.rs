//! The memory beneath an index: owned or mapped, shared either way.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use crate::storage::map::Mapping;

/// A cache line, which gives the memory its alignment.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes in owned memory that starts at a multiple of 64.
pub(crate) struct AlignedBytes {
    memory: Memory,
    len: usize,
}

enum Memory {
    Lines(Vec<Line>),
    /// Pages of their own, which the system is asked to make huge ones of: a search jumps from list to
    /// list, and each jump would miss the processor's table of small pages.
    #[cfg(target_os = "linux")]
    Pages(memmap2::MmapMut),
}

/// The size of a huge page on most processors; less memory is not worth one.
#[cfg(target_os = "linux")]
const HUGE_PAGE: usize = 2 << 20;

impl AlignedBytes {
    /// `len` zero bytes.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::OutOfMemory`].
    pub(crate) fn zeroed(len: usize) -> io::Result<AlignedBytes> {
        #[cfg(target_os = "linux")]
        if len >= HUGE_PAGE {
            let pages = memmap2::MmapOptions::new()
                .len(len)
                .map_anon()
                .map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
            // Systems without huge pages refuse, and small ones serve as well.
            let _ = pages.advise(memmap2::Advice::HugePage);
            return Ok(AlignedBytes { memory: Memory::Pages(pages), len });
        }
        let count = len.div_ceil(size_of::<Line>());
        let mut lines = Vec::new();
        // A length that comes from a file must not abort the process.
        lines.try_reserve_exact(count)?;
        lines.resize(count, Line::zeroed());
        Ok(AlignedBytes { memory: Memory::Lines(lines), len })
    }

    /// A copy of `bytes`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::OutOfMemory`].
    pub(crate) fn from_slice(bytes: &[u8]) -> io::Result<AlignedBytes> {
        let mut copy = AlignedBytes::zeroed(bytes.len())?;
        copy.copy_from_slice(bytes);
        Ok(copy)
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.memory {
            Memory::Lines(lines) => &bytemuck::cast_slice(lines)[..self.len],
            #[cfg(target_os = "linux")]
            Memory::Pages(pages) => &pages[..self.len],
        }
    }
}

impl DerefMut for AlignedBytes {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Lines(lines) => &mut bytemuck::cast_slice_mut(lines)[..self.len],
            #[cfg(target_os = "linux")]
            Memory::Pages(pages) => &mut pages[..self.len],
        }
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBytes").field("len", &self.len).finish()
    }
}

/// The bytes of an index file, which start at a multiple of 64. A clone shares them.
#[derive(Clone, Debug)]
pub(crate) enum Bytes {
    /// Pages of the file itself.
    Mapped(Arc<Mapping>),
    /// Memory of this process.
    Owned(Arc<AlignedBytes>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(mapping) => mapping,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

impl From<AlignedBytes> for Bytes {
    fn from(bytes: AlignedBytes) -> Bytes {
        Bytes::Owned(Arc::new(bytes))
    }
}

impl From<Mapping> for Bytes {
    fn from(mapping: Mapping) -> Bytes {
        Bytes::Mapped(Arc::new(mapping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_at_every_length() {
        for len in [0, 1, 63, 64, 65, 1000, (2 << 20) - 1, 2 << 20, (2 << 20) + 1] {
            let source: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut bytes = AlignedBytes::from_slice(&source).unwrap();
            assert_eq!(*bytes, *source);
            assert!((bytes.as_ptr() as usize).is_multiple_of(64));
            assert!(AlignedBytes::zeroed(len).unwrap().iter().all(|&byte| byte == 0));
            bytes.fill(7);
            assert!(bytes.len() == len && bytes.iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    fn too_much_memory_is_an_error() {
        let error = AlignedBytes::zeroed(usize::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    }

    #[test]
    fn shared_between_threads() {
        fn check<T: Send + Sync>() {}
        check::<Bytes>();
        check::<AlignedBytes>();
    }
}
