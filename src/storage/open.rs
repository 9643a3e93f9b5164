//! From untrusted bytes to a [`Container`] whose sections can be read.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use bytemuck::Pod;

use crate::error::{OpenError, SearchError};
use crate::storage::bytes::{AlignedBytes, Bytes};
use crate::storage::header::{HEADER_LEN, Header, UnverifiedHeader};
use crate::storage::map::{self, Access, Mapping};
use crate::storage::section::{Section, SectionInfo, SectionKind, cast};
use crate::storage::table::{self, Entry};

/// How the bytes of a file come into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenMode {
    /// The file is mapped and must not change while it is. Opening takes the same time for any
    /// size.
    Map,
    /// The file is read into owned memory, as much as the file is long.
    Read,
}

/// The bytes of an index file whose header and table have been checked. A clone shares the bytes.
///
/// The contents of the sections have not been checked: neither their checksums, which
/// [`verify`](crate::storage::verify()) compares, nor their meaning.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    bytes: Bytes,
    header: Header,
    entries: Arc<[Entry]>,
}

impl Container {
    /// Opens the file at `path`. Takes time and memory for the header and the table only, and in
    /// [`OpenMode::Read`] for reading the file.
    ///
    /// # Errors
    ///
    /// [`OpenError::Io`] if the file cannot be read, is no regular file or does not fit into
    /// memory, and those of [`Container::from_bytes`].
    pub(crate) fn open(path: &Path, mode: OpenMode) -> Result<Container, OpenError> {
        let io_error = |source| OpenError::Io { path: path.to_owned(), source };
        let (mut file, file_len) = map::open_regular(path).map_err(io_error)?;
        // The header first, so that a large file of another program is neither mapped nor read.
        let mut start = [0; HEADER_LEN];
        let start = &mut start[..file_len.min(HEADER_LEN as u64) as usize];
        file.read_exact(start).map_err(io_error)?;
        UnverifiedHeader::read(start)?.verify(file_len)?;
        let len = usize::try_from(file_len).map_err(|_| {
            io_error(std::io::Error::new(
                std::io::ErrorKind::OutOfMemory,
                format!("{file_len} bytes are more than this machine can address"),
            ))
        })?;

        let bytes = match mode {
            OpenMode::Map => Bytes::from(Mapping::new(file, len).map_err(io_error)?),
            OpenMode::Read => {
                let mut bytes = AlignedBytes::zeroed(len).map_err(io_error)?;
                file.seek(SeekFrom::Start(0)).map_err(io_error)?;
                file.read_exact(&mut bytes).map_err(io_error)?;
                Bytes::from(bytes)
            }
        };
        Container::from_shared(bytes)
    }

    /// Opens the bytes of a whole file.
    ///
    /// Checks, in this order: magic, version, the header's checksum and fields, the length, the
    /// table's checksum, the place of every section. Any bytes are safe to give.
    ///
    /// # Errors
    ///
    /// Every variant of [`OpenError`] but [`OpenError::Io`] and [`OpenError::Cancelled`].
    pub(crate) fn from_bytes(bytes: AlignedBytes) -> Result<Container, OpenError> {
        Container::from_shared(Bytes::from(bytes))
    }

    fn from_shared(bytes: Bytes) -> Result<Container, OpenError> {
        let (header, entries) = parse(&bytes)?;
        Ok(Container { bytes, header, entries: entries.into() })
    }

    /// The header.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// All the bytes of the file, as they would be saved.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The sections in the order of the file, those of unknown kinds included.
    pub(crate) fn sections(&self) -> Vec<SectionInfo> {
        self.entries.iter().map(Entry::info).collect()
    }
    /// The bytes of a section that a valid file has.
    ///
    /// # Errors
    ///
    /// [`OpenError::Corrupt`] if there is none.
    pub(crate) fn section(&self, kind: SectionKind) -> Result<&[u8], OpenError> {
        self.optional(kind).ok_or_else(|| missing(kind))
    }

    /// The bytes of a section that a file may have.
    pub(crate) fn optional(&self, kind: SectionKind) -> Option<&[u8]> {
        self.entry(kind).map(|entry| &self.bytes[range(entry)])
    }

    /// The values of a section that a valid file has.
    ///
    /// # Errors
    ///
    /// [`OpenError::Corrupt`] if there is none or it is no whole number of values.
    pub(crate) fn typed<T: Pod>(&self, kind: SectionKind) -> Result<&[T], OpenError> {
        cast(self.section(kind)?, kind.name())
    }

    /// Like [`Container::typed`], but the result does not borrow from the container.
    ///
    /// # Errors
    ///
    /// [`OpenError::Corrupt`] if there is none or it is no whole number of values.
    pub(crate) fn shared<T: Pod>(&self, kind: SectionKind) -> Result<Section<T>, OpenError> {
        self.optional_shared(kind)?.ok_or_else(|| missing(kind))
    }

    /// Like [`Container::shared`], for a section that a file may have.
    ///
    /// # Errors
    ///
    /// [`OpenError::Corrupt`] if it is no whole number of values.
    pub(crate) fn optional_shared<T: Pod>(
        &self,
        kind: SectionKind,
    ) -> Result<Option<Section<T>>, OpenError> {
        self.entry(kind)
            .map(|entry| Section::new(self.bytes.clone(), range(entry), kind.name()))
            .transpose()
    }

    /// Tells the system how a section will be used, if the file is mapped and has the section.
    /// A hint: that the system refuses it is no error.
    pub(crate) fn advise(&self, kind: SectionKind, access: Access) {
        if let (Bytes::Mapped(mapping), Some(entry)) = (&self.bytes, self.entry(kind)) {
            let _ = mapping.advise(range(entry), access);
        }
    }

    /// Checks that a mapped file is still as long as it was, which finds a file that another
    /// program has shortened, if it has happened before the check. Owned bytes always pass.
    ///
    /// # Errors
    ///
    /// [`OpenError::Truncated`]: an access beyond the end would make the system end the process.
    pub(crate) fn check_file(&self) -> Result<(), OpenError> {
        if let Bytes::Mapped(mapping) = &self.bytes {
            let io_error = |source| OpenError::Io { path: "the mapped file".into(), source };
            let found = mapping.file_len().map_err(io_error)?;
            let expected = self.header.file_len;
            if found < expected {
                return Err(OpenError::Truncated { what: "file", expected, found });
            }
        }
        Ok(())
    }

    /// [`Container::check_file`] for searches. That the length cannot be asked for says nothing.
    ///
    /// # Errors
    ///
    /// [`SearchError::Shortened`].
    pub(crate) fn check_length(&self) -> Result<(), SearchError> {
        match self.check_file() {
            Err(OpenError::Truncated { expected, found, .. }) => {
                Err(SearchError::Shortened { expected, found })
            }
            _ => Ok(()),
        }
    }

    fn entry(&self, kind: SectionKind) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.kind == kind.code())
    }
}

/// Checks the header and the table of the bytes of a whole file.
pub(crate) fn parse(bytes: &[u8]) -> Result<(Header, Vec<Entry>), OpenError> {
    let header = UnverifiedHeader::read(bytes)?.verify(bytes.len() as u64)?;
    let entries = table::read(bytes, &header)?;
    Ok((header, entries))
}

/// Where the section lies. Its entry has been checked: the numbers are inside the bytes.
pub(crate) fn range(entry: &Entry) -> std::ops::Range<usize> {
    entry.offset as usize..(entry.offset + entry.length) as usize
}

fn missing(kind: SectionKind) -> OpenError {
    OpenError::corrupt(kind.name(), "the section is missing")
}
