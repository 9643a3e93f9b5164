//! Mapping a file: the only unsafe code of this crate.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::{Mmap, MmapOptions};

/// How pages will be used: a hint to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Here and there; reading ahead is waste.
    Random,
    /// All of it, soon.
    WillNeed,
}

/// A file mapped for reading.
///
/// **The file must not change while it is mapped.** A program that writes into it changes memory
/// that this process takes for constant, which Rust's rules leave undefined; in practice answers
/// are wrong. One that shortens it makes the system end this process at the next access beyond the
/// new end (`SIGBUS`) on Unix; Windows refuses to shorten a mapped file. The writers of this crate
/// do neither: they replace files by renaming, which leaves the mapped one as it is. Whoever
/// cannot rely on the others reads the file into owned memory instead.
pub(crate) struct Mapping {
    map: Mmap,
    /// Kept to ask for the file's length again.
    file: File,
}

impl Mapping {
    /// Maps the first `len` bytes of `file`, which must be open for reading and that long.
    pub(crate) fn new(file: File, len: usize) -> io::Result<Mapping> {
        // SAFETY: `Mmap::map` asks that the file not change while it is mapped. No code of this
        // crate writes into or shortens a file that bears an index's name: new ones take its place
        // by rename. Of other programs this cannot be checked; it is the condition under which
        // this type and every public function that maps are documented, and reading into owned
        // memory is offered to those who cannot meet it. The mapping is read-only, its length is
        // fixed here, and the memory is freed by `Mmap` alone.
        let map = unsafe { MmapOptions::new().len(len).map(&file)? };
        Ok(Mapping { map, file })
    }

    /// Tells the system how the bytes of `range` will be used. Does nothing where the system
    /// takes no such hint.
    pub(crate) fn advise(&self, range: Range<usize>, access: Access) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        #[cfg(unix)]
        {
            let advice = match access {
                Access::Random => memmap2::Advice::Random,
                Access::WillNeed => memmap2::Advice::WillNeed,
            };
            self.map.advise_range(advice, range.start, range.len())?;
        }
        #[cfg(not(unix))]
        let _ = access;
        Ok(())
    }

    /// The length that the file has now. If it is less than the mapping's, an access beyond it
    /// would end the process.
    pub(crate) fn file_len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

/// A whole file of any kind, mapped for reading: its bytes, without a copy.
///
/// **The file must not change while it is mapped.** A program that writes into it changes bytes
/// that this process takes for constant; one that shortens it makes the system end this process at
/// the next access beyond the new end. Whoever cannot rely on the other programs reads the file
/// instead.
#[derive(Debug)]
pub struct MappedFile(Mapping);

impl MappedFile {
    /// Maps a regular file.
    ///
    /// # Errors
    /// What the system reports, and [`io::ErrorKind::InvalidInput`] for a folder, a pipe or a
    /// device.
    pub fn open(path: impl AsRef<Path>) -> io::Result<MappedFile> {
        let (file, len) = open_regular(path.as_ref())?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        Ok(MappedFile(Mapping::new(file, len)?))
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("len", &self.map.len()).finish()
    }
}

/// Opens a regular file for reading, and gives its length.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidInput`] for a folder, a pipe or a device, which have no length.
pub(crate) fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    // Before opening, because opening a pipe waits for its other end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    Ok((file, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_what_the_file_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        let content: Vec<u8> = (0..10_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let (file, len) = open_regular(&path).unwrap();
        let mapping = Mapping::new(file, len as usize).unwrap();
        assert_eq!(*mapping, *content);
        for access in [Access::Random, Access::WillNeed] {
            mapping.advise(0..0, access).unwrap();
            mapping.advise(5000..9000, access).unwrap();
        }
        assert_eq!(mapping.file_len().unwrap(), 10_000);
        // A file renamed over the path leaves the mapping as it was.
        let other = folder.path().join("other");
        std::fs::write(&other, b"other").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(*mapping, *content);
        assert_eq!(mapping.file_len().unwrap(), 10_000);
    }

    #[test]
    fn only_regular_files() {
        let folder = tempfile::tempdir().unwrap();
        let error = open_regular(folder.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let error = open_regular(&folder.path().join("nothing")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
