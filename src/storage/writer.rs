//! Writing an index whose sizes are known before it starts, section by section, in any order.

use std::io;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytemuck::Pod;

use crate::error::{BuildError, ConfigError, WriteError};
use crate::matrix::MAX_DIM;
use crate::progress::{Progress, ProgressFn, Stage};
use crate::storage::atomic::{FileLayer, OsLayer, Temporary};
use crate::storage::bytes::AlignedBytes;
use crate::storage::checksum::checksum;
use crate::storage::header::{HEADER_LEN, Header, HeaderFields, VERSION};
use crate::storage::section::SectionKind;
use crate::storage::table::{self, Entry, MAX_SECTIONS};

/// The bytes that are read back at once to sum them up.
const READ_CHUNK: usize = 4 << 20;

/// Sections that make no file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LayoutError {
    /// A kind that occurs twice.
    #[error("section {0:?} is given twice")]
    Duplicate(SectionKind),
    /// An alignment that the format does not have.
    #[error(
        "section {kind:?}: alignment {found} is not a power of two from {} to {}",
        table::MIN_ALIGNMENT,
        table::MAX_ALIGNMENT
    )]
    Alignment {
        /// The section.
        kind: SectionKind,
        /// The alignment asked for.
        found: u32,
    },
    /// Too many bytes for a file.
    #[error("with section {0:?} the file would be longer than 2^63 - 1 bytes")]
    TooLong(SectionKind),
}

impl From<LayoutError> for BuildError {
    fn from(error: LayoutError) -> BuildError {
        BuildError::Config(ConfigError::new("layout", error.to_string()))
    }
}

/// Where each section of a file will lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// With checksums of 0.
    entries: Vec<Entry>,
    file_len: u64,
}

impl Layout {
    /// Places sections, given as kind, length and alignment in bytes, in the order given.
    ///
    /// # Errors
    ///
    /// [`LayoutError`].
    pub(crate) fn new(
        sections: impl IntoIterator<Item = (SectionKind, u64, u32)>,
    ) -> Result<Layout, LayoutError> {
        // Each kind at most once, so there are few.
        const { assert!(SectionKind::ALL.len() <= MAX_SECTIONS as usize) };
        let sections: Vec<_> = sections.into_iter().collect();
        let mut entries: Vec<Entry> = Vec::with_capacity(sections.len());
        for &(kind, length, alignment) in &sections {
            if entries.iter().any(|entry| entry.kind == kind.code()) {
                return Err(LayoutError::Duplicate(kind));
            }
            if !table::is_alignment(alignment) {
                return Err(LayoutError::Alignment { kind, found: alignment });
            }
            entries.push(Entry {
                kind: kind.code(),
                skippable: kind.skippable(),
                offset: 0,
                length,
                checksum: 0,
                alignment,
            });
        }
        // The number of sections says where the first can start.
        let mut end = table::table_end(entries.len() as u32);
        for (entry, &(kind, ..)) in entries.iter_mut().zip(&sections) {
            let start = table::place(end, entry.alignment);
            let place = start.and_then(|start| Some((start, start.checked_add(entry.length)?)));
            match place {
                // Files have signed offsets.
                Some((start, section_end)) if section_end <= i64::MAX as u64 => {
                    entry.offset = start;
                    end = section_end;
                }
                _ => return Err(LayoutError::TooLong(kind)),
            }
        }
        Ok(Layout { entries, file_len: end })
    }

    /// The length of the file in bytes.
    pub(crate) fn file_len(&self) -> u64 {
        self.file_len
    }
}

/// Where a [`Writer`] writes: a file or memory.
pub(crate) trait Sink: Sync {
    /// What is there in the end.
    type Output;

    /// The file, for errors.
    fn path(&self) -> &Path;

    /// Writes bytes at an offset that is inside the file.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), WriteError>;

    /// Reads bytes that are inside the file, piece by piece.
    fn read(
        &mut self,
        offset: u64,
        length: u64,
        piece: &mut dyn FnMut(&[u8]),
    ) -> Result<(), WriteError>;

    /// CRC32C of bytes that are inside the file; `step` is as in [`checksum`].
    fn checksum(
        &mut self,
        offset: u64,
        length: u64,
        step: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), u32>, WriteError>;

    /// Puts the finished file in its place.
    fn commit(self) -> Result<Self::Output, WriteError>;
}

impl Sink for Temporary {
    type Output = ();

    fn path(&self) -> &Path {
        self.destination()
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), WriteError> {
        self.write_all_at(bytes, offset)
    }

    fn read(
        &mut self,
        offset: u64,
        length: u64,
        piece: &mut dyn FnMut(&[u8]),
    ) -> Result<(), WriteError> {
        let mut buffer = vec![0; length.min(READ_CHUNK as u64) as usize];
        let mut done = 0;
        while done < length {
            let part = &mut buffer[..(length - done).min(READ_CHUNK as u64) as usize];
            self.read_exact_at(part, offset + done)?;
            piece(part);
            done += part.len() as u64;
        }
        Ok(())
    }

    fn checksum(
        &mut self,
        offset: u64,
        length: u64,
        step: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), u32>, WriteError> {
        // Read back, because the writes came in any order.
        let mut buffer = vec![0; length.min(READ_CHUNK as u64) as usize];
        let (mut sum, mut done) = (0, 0);
        while done < length {
            let part = &mut buffer[..(length - done).min(READ_CHUNK as u64) as usize];
            self.read_exact_at(part, offset + done)?;
            sum = crc32c::crc32c_append(sum, part);
            done += part.len() as u64;
            if step(part.len() as u64).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(sum))
    }

    fn commit(self) -> Result<(), WriteError> {
        Temporary::commit(self)
    }
}

/// Memory as a [`Sink`].
pub(crate) struct MemorySink(Mutex<AlignedBytes>);

impl Sink for MemorySink {
    type Output = AlignedBytes;

    fn path(&self) -> &Path {
        Path::new("(memory)")
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), WriteError> {
        // Inside the file, which is memory, so the offset is a `usize`. A poisoned lock means
        // that another writer has panicked, not that the bytes are in disorder.
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read(
        &mut self,
        offset: u64,
        length: u64,
        piece: &mut dyn FnMut(&[u8]),
    ) -> Result<(), WriteError> {
        let memory = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        piece(&memory[offset as usize..][..length as usize]);
        Ok(())
    }

    fn checksum(
        &mut self,
        offset: u64,
        length: u64,
        step: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), u32>, WriteError> {
        let memory = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        Ok(checksum(&memory[offset as usize..][..length as usize], step))
    }

    fn commit(self) -> Result<AlignedBytes, WriteError> {
        Ok(self.0.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A writer into a file.
pub(crate) type FileWriter = Writer<Temporary>;
/// A writer into memory.
pub(crate) type MemoryWriter = Writer<MemorySink>;

/// Writes the sections of an index in any order and from any number of threads. What is never
/// written is zero. The result depends on what is written where, not on the order.
///
/// Dropped without [`Writer::finish`], it leaves nothing behind.
pub(crate) struct Writer<S: Sink> {
    fields: HeaderFields,
    layout: Layout,
    sink: S,
    /// The sections whose checksums are known already.
    summed: Vec<bool>,
    /// The bytes that are summed up.
    done: u64,
}

impl FileWriter {
    /// Starts writing the file `path`, which stays as it is until [`Writer::finish`].
    ///
    /// # Errors
    ///
    /// [`WriteError`] if no temporary file can be made beside it, or a field cannot be.
    pub(crate) fn create(
        path: &Path,
        fields: HeaderFields,
        layout: Layout,
    ) -> Result<FileWriter, WriteError> {
        FileWriter::create_in(Arc::new(OsLayer), path, fields, layout)
    }

    /// [`Writer::create`] through a given layer.
    ///
    /// # Errors
    ///
    /// As [`Writer::create`].
    pub(crate) fn create_in(
        layer: Arc<dyn FileLayer>,
        path: &Path,
        fields: HeaderFields,
        layout: Layout,
    ) -> Result<FileWriter, WriteError> {
        check_fields(path, &fields)?;
        let sink = Temporary::create(layer, path, layout.file_len)?;
        Ok(Writer::new(fields, layout, sink))
    }
}

impl MemoryWriter {
    /// Starts writing into memory, as much as the file is long.
    ///
    /// # Errors
    ///
    /// [`WriteError`] if there is not enough memory, or a field cannot be.
    pub(crate) fn in_memory(
        fields: HeaderFields,
        layout: Layout,
    ) -> Result<MemoryWriter, WriteError> {
        let path = Path::new("(memory)");
        check_fields(path, &fields)?;
        let memory = usize::try_from(layout.file_len)
            .map_err(|_| io::ErrorKind::OutOfMemory.into())
            .and_then(AlignedBytes::zeroed)
            .map_err(|source| WriteError::new(path, "allocating", source))?;
        Ok(Writer::new(fields, layout, MemorySink(Mutex::new(memory))))
    }
}

impl<S: Sink> Writer<S> {
    fn new(fields: HeaderFields, layout: Layout, sink: S) -> Writer<S> {
        let summed = vec![false; layout.entries.len()];
        Writer { fields, layout, sink, summed, done: 0 }
    }

    /// The number of a section's entry.
    fn entry(&self, kind: SectionKind) -> Result<usize, WriteError> {
        let at = self.layout.entries.iter().position(|entry| entry.kind == kind.code());
        at.ok_or_else(|| self.unfit(format!("the file has no section {}", kind.name())))
    }

    fn unfit(&self, message: String) -> WriteError {
        let source = io::Error::new(io::ErrorKind::InvalidInput, message);
        WriteError::new(self.sink.path(), "writing", source)
    }

    /// Writes bytes into a section, `offset` bytes from its start. Several threads may write at
    /// once; where they write the same bytes, which of them stays is not defined.
    ///
    /// # Errors
    ///
    /// [`WriteError`] if the layout has no such section, the bytes are not inside it, or the
    /// system refuses.
    pub(crate) fn write_at(
        &self,
        kind: SectionKind,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), WriteError> {
        let entry = &self.layout.entries[self.entry(kind)?];
        match offset.checked_add(bytes.len() as u64) {
            Some(end) if end <= entry.length => {}
            _ => {
                return Err(self.unfit(format!(
                    "{} bytes at {offset} are not inside section {} of {} bytes",
                    bytes.len(),
                    kind.name(),
                    entry.length
                )));
            }
        }
        // Inside the section, which is inside the file.
        self.sink.write_at(bytes, entry.offset + offset)
    }

    /// Writes values into a section, `index` values of the type from its start.
    ///
    /// # Errors
    ///
    /// As [`Writer::write_at`].
    pub(crate) fn write_values<T: Pod>(
        &self,
        kind: SectionKind,
        index: u64,
        values: &[T],
    ) -> Result<(), WriteError> {
        // A product too large to be is outside every section.
        let offset = index.saturating_mul(size_of::<T>() as u64);
        self.write_at(kind, offset, bytemuck::cast_slice(values))
    }

    /// Sums up sections that are written whole, and the pieces that they are cut into: `pieces` has for
    /// each group of pieces one of each section, where they follow each other without a gap. Returns the
    /// CRC32C of each group, over its pieces in the order of `kinds`. `progress` is as in [`Writer::finish`],
    /// which needs not read these sections any more.
    ///
    /// # Errors
    ///
    /// As [`Writer::finish`].
    pub(crate) fn sum_pieces<const N: usize>(
        &mut self,
        kinds: [SectionKind; N],
        pieces: impl Iterator<Item = [Range<u64>; N]>,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Vec<u32>, BuildError> {
        let mut sections = [(0, 0); N];
        for (section, kind) in sections.iter_mut().zip(kinds) {
            let at = self.entry(kind)?;
            *section = (at, self.layout.entries[at].offset);
        }
        let (mut whole, mut read) = ([0; N], [0; N]);
        let mut groups = Vec::new();
        let mut untold = 0;
        for group in pieces {
            let mut sum = 0;
            for (i, range) in group.into_iter().enumerate() {
                debug_assert_eq!(range.start, read[i], "pieces follow each other");
                read[i] = range.end;
                let length = range.end - range.start;
                self.sink.read(sections[i].1 + range.start, length, &mut |piece| {
                    // Twice over bytes that are in the cache by then.
                    sum = crc32c::crc32c_append(sum, piece);
                    whole[i] = crc32c::crc32c_append(whole[i], piece);
                })?;
                untold += length;
            }
            groups.push(sum);
            if untold >= READ_CHUNK as u64 {
                self.step(std::mem::take(&mut untold), progress)?;
            }
        }
        self.step(untold, progress)?;
        for ((at, _), sum) in sections.into_iter().zip(whole) {
            self.layout.entries[at].checksum = sum;
            self.summed[at] = true;
        }
        Ok(groups)
    }

    /// Tells how many more bytes are summed up.
    fn step(&mut self, bytes: u64, progress: &mut ProgressFn<'_>) -> Result<(), BuildError> {
        self.done += bytes;
        let total = self.layout.entries.iter().map(|entry| entry.length).sum();
        match progress(Progress { stage: Stage::Finish, done: self.done, total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(BuildError::Cancelled),
        }
    }

    /// Sums up the sections, writes table and header, and puts the file in its place. `progress`
    /// is told the bytes summed up, under [`Stage::Finish`].
    ///
    /// # Errors
    ///
    /// [`BuildError::Write`], or [`BuildError::Cancelled`] if `progress` says so. Nothing is left
    /// behind, and a file that was there is as it was; see [`WriteError`] for the one exception.
    pub(crate) fn finish(mut self, progress: &mut ProgressFn<'_>) -> Result<S::Output, BuildError> {
        self.step(0, progress)?;
        let total = self.layout.entries.iter().map(|entry| entry.length).sum();
        let mut done = self.done;
        let mut step = |bytes: u64| {
            done += bytes;
            progress(Progress { stage: Stage::Finish, done, total })
        };
        for (entry, summed) in self.layout.entries.iter_mut().zip(&self.summed) {
            if *summed {
                continue;
            }
            match self.sink.checksum(entry.offset, entry.length, &mut step)? {
                ControlFlow::Continue(checksum) => entry.checksum = checksum,
                ControlFlow::Break(()) => return Err(BuildError::Cancelled),
            }
        }
        let header = Header {
            version: VERSION,
            fields: self.fields,
            section_count: self.layout.entries.len() as u32,
            file_len: self.layout.file_len,
        };
        self.sink.write_at(&table::encode(&self.layout.entries), HEADER_LEN as u64)?;
        self.sink.write_at(&header.encode(), 0)?;
        Ok(self.sink.commit()?)
    }
}

/// Refuses what a reader would refuse.
fn check_fields(path: &Path, fields: &HeaderFields) -> Result<(), WriteError> {
    if (1..=MAX_DIM).contains(&fields.dim) {
        return Ok(());
    }
    let message = format!("dimension {} is not between 1 and {MAX_DIM}", fields.dim);
    let source = io::Error::new(io::ErrorKind::InvalidInput, message);
    Err(WriteError::new(path, "writing the header", source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;
    use crate::storage::atomic::save_bytes_in;
    use crate::storage::atomic::testing::{Fault, FaultyLayer, names};
    use crate::storage::open::{Container, OpenMode};
    use crate::storage::verify::verify;

    const FIELDS: HeaderFields =
        HeaderFields { dim: 3, count: 5, metric: Metric::L2, quantizer: 1 };

    fn layout() -> Layout {
        Layout::new([
            (SectionKind::Meta, 10, 64),
            (SectionKind::Mean, 0, 64),
            (SectionKind::Ids, 20_000, 4096),
        ])
        .unwrap()
    }

    fn go_on(_: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn fill<S: Sink>(writer: &Writer<S>) -> Result<(), WriteError> {
        writer.write_values(SectionKind::Ids, 1000, &[1u64, 2, 3])?;
        writer.write_at(SectionKind::Meta, 2, b"meta")
    }

    fn write(layer: Arc<dyn FileLayer>, path: &Path) -> Result<(), BuildError> {
        let writer = FileWriter::create_in(layer, path, FIELDS, layout())?;
        fill(&writer)?;
        writer.finish(&mut go_on)
    }

    fn in_memory() -> AlignedBytes {
        let writer = MemoryWriter::in_memory(FIELDS, layout()).unwrap();
        fill(&writer).unwrap();
        writer.finish(&mut go_on).unwrap()
    }

    /// The sums of pieces, and files that are the same whether sections were summed up in pieces or whole.
    #[test]
    fn pieces_are_summed_up_once() {
        fn check<S: Sink>(mut writer: Writer<S>) -> Result<S::Output, BuildError> {
            fill(&writer)?;
            let cuts = [(0..0, 0..1500), (0..7, 1500..1500), (7..10, 1500..20_000)];
            let mut told = Vec::new();
            let mut progress = |report: Progress| {
                told.push((report.done, report.total));
                ControlFlow::Continue(())
            };
            let kinds = [SectionKind::Meta, SectionKind::Ids];
            let pieces = cuts.iter().map(|(a, b)| [a.clone(), b.clone()]);
            let sums = writer.sum_pieces(kinds, pieces, &mut progress)?;
            let mut meta = vec![0u8; 10];
            meta[2..6].copy_from_slice(b"meta");
            let mut ids = vec![0u8; 20_000];
            ids[8000..8024].copy_from_slice(bytemuck::cast_slice(&[1u64, 2, 3]));
            let part = |of: &[u8], range: Range<u64>| {
                of[range.start as usize..range.end as usize].to_vec()
            };
            for (sum, (a, b)) in sums.iter().zip(cuts) {
                assert_eq!(*sum, crc32c::crc32c(&[part(&meta, a), part(&ids, b)].concat()));
            }
            let output = writer.finish(&mut progress)?;
            assert_eq!(told.last(), Some(&(20_010, 20_010)));
            assert!(told.windows(2).all(|w| w[0].0 <= w[1].0));
            Ok(output)
        }
        let expected = in_memory();
        let found = check(MemoryWriter::in_memory(FIELDS, layout()).unwrap()).unwrap();
        assert_eq!(*found, *expected);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        check(FileWriter::create(&path, FIELDS, layout()).unwrap()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), *expected);
        // A section that is not there, and a callback that stops.
        let mut writer = MemoryWriter::in_memory(FIELDS, layout()).unwrap();
        let error = writer.sum_pieces([SectionKind::Scan], [].into_iter(), &mut go_on).unwrap_err();
        assert!(error.to_string().contains("no section scan"), "{error}");
        let mut stop = |_| ControlFlow::Break(());
        let error = writer.sum_pieces([SectionKind::Mean], [].into_iter(), &mut stop).unwrap_err();
        assert!(matches!(error, BuildError::Cancelled), "{error}");
    }

    #[test]
    fn layout_places_in_order_and_aligned() {
        let layout = layout();
        // 128 for the header, three entries of 40, 4 for the checksum.
        let places: Vec<_> = layout.entries.iter().map(|entry| entry.offset).collect();
        assert_eq!(places, [256, 320, 4096]);
        assert_eq!(layout.file_len(), 24_096);
        assert_eq!(Layout::new([]).unwrap().file_len(), 132);
    }

    #[test]
    fn layout_refuses_what_makes_no_file() {
        let meta = SectionKind::Meta;
        let error = Layout::new([(meta, 1, 64), (meta, 2, 64)]).unwrap_err();
        assert_eq!(error, LayoutError::Duplicate(meta));
        for found in [0, 1, 32, 65, 96, 8192, u32::MAX] {
            let error = Layout::new([(meta, 1, found)]).unwrap_err();
            assert_eq!(error, LayoutError::Alignment { kind: meta, found });
        }
        for length in [u64::MAX, u64::MAX - 192, i64::MAX as u64 - 191] {
            let error = Layout::new([(meta, length, 64)]).unwrap_err();
            assert_eq!(error, LayoutError::TooLong(meta));
        }
        let most = Layout::new([(meta, i64::MAX as u64 - 192, 64)]).unwrap();
        assert_eq!(most.file_len(), i64::MAX as u64);
        let error = Layout::new([(meta, i64::MAX as u64 - 256, 64), (SectionKind::Ids, 0, 64)])
            .unwrap_err();
        assert_eq!(error, LayoutError::TooLong(SectionKind::Ids));
    }

    #[test]
    fn writes_outside_a_section_are_refused() {
        let writer = MemoryWriter::in_memory(FIELDS, layout()).unwrap();
        writer.write_at(SectionKind::Meta, 10, &[]).unwrap();
        for (kind, offset, len) in [
            (SectionKind::Meta, 0, 11),
            (SectionKind::Meta, 11, 0),
            (SectionKind::Meta, u64::MAX, 2),
            (SectionKind::Mean, 0, 1),
            (SectionKind::Scan, 0, 0),
        ] {
            let error = writer.write_at(kind, offset, &vec![1; len]).unwrap_err();
            assert_eq!(error.source.kind(), io::ErrorKind::InvalidInput, "{error}");
        }
        let error = writer.write_values(SectionKind::Ids, u64::MAX / 2, &[1u64]).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::InvalidInput, "{error}");
    }

    #[test]
    fn a_dimension_that_no_reader_takes_is_refused() {
        for dim in [0, MAX_DIM + 1] {
            let fields = HeaderFields { dim, ..FIELDS };
            assert!(MemoryWriter::in_memory(fields, layout()).is_err());
        }
    }

    #[test]
    fn file_and_memory_get_the_same_bytes_whatever_the_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.nonius");
        let writer = FileWriter::create(&path, FIELDS, layout()).unwrap();
        std::thread::scope(|scope| {
            for part in [[3u64], [1], [2]] {
                let writer = &writer;
                scope.spawn(move || {
                    writer.write_values(SectionKind::Ids, 999 + part[0], &part).unwrap();
                });
            }
        });
        writer.write_at(SectionKind::Meta, 2, b"meta").unwrap();
        assert!(!path.exists());
        let mut told = Vec::new();
        writer
            .finish(&mut |progress| {
                told.push((progress.done, progress.total));
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(told, [(0, 20_010), (10, 20_010), (20_010, 20_010)]);

        let memory = in_memory();
        assert_eq!(std::fs::read(&path).unwrap(), *memory);
        assert_eq!(names(folder.path()), ["a.nonius"]);

        let copy = folder.path().join("b.nonius");
        save_bytes_in(Arc::new(OsLayer), &copy, &memory).unwrap();
        let container = Container::open(&copy, OpenMode::Map).unwrap();
        assert_eq!(**container.bytes(), *memory);
        verify(&container, &mut |_, _| ControlFlow::Continue(())).unwrap();
    }

    #[test]
    fn sections_longer_than_a_chunk_are_summed_whole() {
        let length = READ_CHUNK as u64 + 4097;
        let layout = || Layout::new([(SectionKind::Scan, length, 4096)]).unwrap();
        let values: Vec<u8> = (0..length).map(|i| (i * i % 251) as u8).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.nonius");
        let writer = FileWriter::create(&path, FIELDS, layout()).unwrap();
        writer.write_values(SectionKind::Scan, 0, &values).unwrap();
        writer.finish(&mut go_on).unwrap();
        let memory = MemoryWriter::in_memory(FIELDS, layout()).unwrap();
        memory.write_values(SectionKind::Scan, 0, &values).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), *memory.finish(&mut go_on).unwrap());
        let container = Container::open(&path, OpenMode::Read).unwrap();
        assert_eq!(container.sections()[0].checksum, crc32c::crc32c(&values));
        verify(&container, &mut |_, _| ControlFlow::Continue(())).unwrap();
    }

    #[test]
    fn cancelled_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.nonius");
        for stop_at in [0, 10, 20_010] {
            let writer = FileWriter::create(&path, FIELDS, layout()).unwrap();
            let result = writer.finish(&mut |progress| match progress.done {
                done if done == stop_at => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            });
            assert!(matches!(result, Err(BuildError::Cancelled)));
            assert!(names(folder.path()).is_empty());
        }
        drop(FileWriter::create(&path, FIELDS, layout()).unwrap());
        assert!(names(folder.path()).is_empty());
    }

    /// Each operation of a write fails in turn, in each way that it can fail.
    #[test]
    fn every_fault_leaves_the_old_file_and_no_temporary() {
        let new = in_memory();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.nonius");
        let mut failures = 0;
        for fault in [Fault::NoSpace, Fault::Io, Fault::WriteZero] {
            for nth in 0.. {
                std::fs::write(&path, b"old").unwrap();
                let layer = Arc::new(FaultyLayer::new(nth, fault));
                let result = write(layer.clone(), &path);
                assert_eq!(names(folder.path()), ["a.nonius"], "{fault:?} {nth}");
                let found = std::fs::read(&path).unwrap();
                let Some(failed) = layer.failed() else {
                    // Nothing was left to fail.
                    result.unwrap();
                    assert_eq!(found, *new);
                    break;
                };
                failures += 1;
                let Err(BuildError::Write(error)) = result else {
                    panic!("{fault:?} {nth} ({failed}): no error of the write");
                };
                assert_eq!(error.path, path);
                if failed == "sync_folder" {
                    assert_eq!(error.action, "syncing the folder");
                    assert_eq!(found, *new);
                } else {
                    assert_eq!(found, b"old", "{fault:?} {nth} ({failed}): {error}");
                }
            }
        }
        // create, set_len, four writes, two reads, sync, rename, sync_folder; a write of nothing
        // is a fault of writes only.
        assert_eq!(failures, 11 + 11 + 4);
    }

    #[test]
    fn short_and_interrupted_operations_are_no_faults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.nonius");
        write(Arc::new(FaultyLayer::new(0, Fault::Short)), &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), *in_memory());
    }
}
