//! The kinds of sections, and the only door from bytes to typed slices.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, Range};

use bytemuck::Pod;

use crate::error::OpenError;
use crate::storage::bytes::{AlignedBytes, Bytes};

// Sections are used as they lie in the file, so a machine of the other byte order would have to
// copy and swap each of them. No such machine is supported; a wrong answer is worse than none.
#[cfg(target_endian = "big")]
compile_error!("nonius reads its little-endian files in place and needs a little-endian target");

macro_rules! section_kinds {
    ($($(#[$doc:meta])* $kind:ident = $code:literal, $name:literal, $skippable:ident;)*) => {
        /// What a section holds. `FORMAT.md` describes each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub(crate) enum SectionKind {
            $($(#[$doc])* $kind = $code,)*
        }

        impl SectionKind {
            /// Every kind that this library knows.
            pub(crate) const ALL: &[SectionKind] = &[$(SectionKind::$kind,)*];

            /// The name in errors and reports.
            pub(crate) fn name(self) -> &'static str {
                match self { $(SectionKind::$kind => $name,)* }
            }

            /// True if a reader that does not know the kind can do without it.
            pub(crate) fn skippable(self) -> bool {
                match self { $(SectionKind::$kind => section_kinds!(@ $skippable),)* }
            }
        }
    };
    (@ mandatory) => { false };
    (@ skippable) => { true };
}

// The one list of kinds. A code is never used again for something else, and 0 is never used.
section_kinds! {
    /// Parameters and counts of the whole index.
    Meta = 1, "meta", mandatory;
    /// The mean that is subtracted from every vector.
    Mean = 2, "mean", mandatory;
    /// The orthogonal transform.
    Rotation = 3, "rotation", mandatory;
    /// The plan: the segments and their bits.
    Segments = 4, "segments", mandatory;
    /// The centroids, one row for each list.
    Centroids = 5, "centroids", mandatory;
    /// The centroids in the order in which the kernels read them.
    CentroidsPacked = 6, "centroids-packed", mandatory;
    /// Where each list starts.
    ListTable = 7, "list-table", mandatory;
    /// The part of the codes that every scan reads.
    Scan = 8, "scan", mandatory;
    /// The part of the codes that only promising candidates need.
    Rest = 9, "rest", mandatory;
    /// The ids of the vectors.
    Ids = 10, "ids", mandatory;
    /// The vectors kept for rerank.
    Kept = 11, "kept", mandatory;
    /// What each row of the transform is multiplied by.
    RotationScales = 12, "rotation-scales", mandatory;
    /// What each packed centroid is multiplied by, and its squared norm.
    ListFactors = 13, "list-factors", mandatory;
    /// Where the vectors are that a list holds a copy of.
    Spilled = 14, "spilled", mandatory;
    /// The centroids that codes name, level by level.
    Codebooks = 15, "codebooks", mandatory;
    /// What each of them is multiplied by.
    CodebookScales = 16, "codebook-scales", mandatory;
    /// What centroids add to a query's inner product with them, where vectors have no factors.
    CodebookOffsets = 17, "codebook-offsets", mandatory;
    /// The values that codes of each dimension stand for.
    Ranges = 18, "ranges", mandatory;
    /// A checksum of each list.
    ListChecksums = 19, "list-checksums", skippable;
    /// Where the vectors are that are kept exactly because of what their codes miss.
    OutlierPositions = 20, "outlier-positions", mandatory;
    /// These vectors.
    OutlierVectors = 21, "outlier-vectors", mandatory;
}

impl SectionKind {
    /// The code in the file.
    pub(crate) fn code(self) -> u32 {
        self as u32
    }

    /// The kind of a code found in a file, if this library knows it.
    pub(crate) fn from_code(code: u32) -> Option<SectionKind> {
        SectionKind::ALL.iter().copied().find(|kind| kind.code() == code)
    }
}

/// A section of an index file, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SectionInfo {
    /// The code of the kind.
    pub kind: u32,
    /// The name of the kind, or `unknown`.
    pub name: &'static str,
    /// Where the section starts, in bytes from the start of the file.
    pub offset: u64,
    /// The length in bytes, padding not counted.
    pub length: u64,
    /// The number of bytes of which the offset is a multiple.
    pub alignment: u32,
    /// The stored CRC32C of the section.
    pub checksum: u32,
}

/// Views the bytes of the part called `what` as a slice of `T`.
///
/// # Errors
///
/// [`OpenError::Corrupt`] if the length is not a multiple of the size of `T`, or the bytes do not
/// lie as `T` must.
pub(crate) fn cast<'a, T: Pod>(bytes: &'a [u8], what: &'static str) -> Result<&'a [T], OpenError> {
    const { assert!(size_of::<T>() > 0, "a section cannot hold values without a size") };
    if !bytes.len().is_multiple_of(size_of::<T>()) {
        let message = format!(
            "{} bytes are not a whole number of {}-byte values",
            bytes.len(),
            size_of::<T>()
        );
        return Err(OpenError::corrupt(what, message));
    }
    bytemuck::try_cast_slice(bytes).map_err(|_| {
        let message = format!("the section is not aligned to {} bytes", align_of::<T>());
        OpenError::corrupt(what, message)
    })
}

/// A section as a slice of `T` that keeps the memory beneath alive; a clone is cheap.
pub(crate) struct Section<T> {
    bytes: Bytes,
    range: Range<usize>,
    values: PhantomData<fn() -> T>,
}

impl<T: Pod> Section<T> {
    /// A section that is in no file: a copy of some values.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::OutOfMemory`].
    pub(crate) fn copied(values: &[T]) -> io::Result<Section<T>> {
        const { assert!(align_of::<T>() <= 64, "owned memory is aligned to 64 bytes") };
        let bytes = AlignedBytes::from_slice(bytemuck::cast_slice(values))?;
        let range = 0..bytes.len();
        Section::new(bytes.into(), range, "copy").map_err(io::Error::other)
    }

    /// The bytes of `range` as a slice of `T`; `what` names the part in errors.
    ///
    /// # Errors
    ///
    /// [`OpenError::Corrupt`] if the range is not inside the bytes, and those of [`cast`].
    pub(crate) fn new(
        bytes: Bytes,
        range: Range<usize>,
        what: &'static str,
    ) -> Result<Section<T>, OpenError> {
        let Some(part) = bytes.get(range.clone()) else {
            let message = format!("bytes {range:?} of {}", bytes.len());
            return Err(OpenError::corrupt(what, message));
        };
        cast::<T>(part, what)?;
        Ok(Section { bytes, range, values: PhantomData })
    }
}

impl<T> Clone for Section<T> {
    fn clone(&self) -> Section<T> {
        Section { bytes: self.bytes.clone(), range: self.range.clone(), values: PhantomData }
    }
}

impl<T: Pod> Deref for Section<T> {
    type Target = [T];

    /// The values. A few instructions; take the slice out of an inner loop.
    fn deref(&self) -> &[T] {
        // Checked in `new`; the bytes neither move nor change their length.
        bytemuck::cast_slice(&self.bytes[self.range.clone()])
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Section<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Section").field("range", &self.range).field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::bytes::AlignedBytes;

    #[test]
    fn codes_and_names_are_unique_and_never_zero() {
        for (i, &kind) in SectionKind::ALL.iter().enumerate() {
            assert_ne!(kind.code(), 0);
            assert_eq!(SectionKind::from_code(kind.code()), Some(kind));
            for &other in &SectionKind::ALL[..i] {
                assert_ne!(kind.name(), other.name());
            }
        }
        assert_eq!(SectionKind::from_code(0), None);
        assert_eq!(SectionKind::from_code(u32::MAX), None);
    }

    #[test]
    fn cast_checks_length_and_alignment() {
        let bytes = AlignedBytes::from_slice(&[1, 0, 0, 0, 2, 0, 0, 0, 3]).unwrap();
        assert_eq!(cast::<u32>(&bytes[..8], "ids").unwrap(), [1, 2]);
        assert_eq!(cast::<u32>(&bytes[..0], "ids").unwrap(), [0u32; 0]);
        let error = cast::<u32>(&bytes, "ids").unwrap_err();
        assert_eq!(
            error.to_string(),
            "corrupt ids: 9 bytes are not a whole number of 4-byte values"
        );
        let error = cast::<u32>(&bytes[1..9], "ids").unwrap_err();
        assert_eq!(error.to_string(), "corrupt ids: the section is not aligned to 4 bytes");
    }

    #[test]
    fn a_section_outlives_the_bytes_it_was_made_from() {
        let bytes = Bytes::from(AlignedBytes::from_slice(&[1, 0, 2, 0, 3, 0]).unwrap());
        let section = Section::<u16>::new(bytes.clone(), 2..6, "ids").unwrap();
        assert!(Section::<u16>::new(bytes.clone(), 2..7, "ids").is_err());
        assert!(Section::<u16>::new(bytes.clone(), 1..5, "ids").is_err());
        drop(bytes);
        let clone = section.clone();
        drop(section);
        assert_eq!(*clone, [2, 3]);
    }
}
