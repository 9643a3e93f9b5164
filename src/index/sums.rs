//! The checksums of single lists: made when an index is written, and compared, if that is asked for, when a
//! search first reads a list.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use super::format::{ListEntry, Parts};
use crate::error::{BuildError, OpenError, SearchError};
use crate::progress::ProgressFn;
use crate::storage::{Container, Section, SectionKind, Sink, Writer, verify_section};

/// The sections that lists have their parts in, in the order in which a list's checksum goes over them.
const CODES: [SectionKind; 4] =
    [SectionKind::Scan, SectionKind::Spilled, SectionKind::Rest, SectionKind::Ids];

/// How many bytes a block, a copy and a vector take in the sections of lists.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strides {
    pub(super) block: u64,
    pub(super) copy: u64,
    pub(super) rest: u64,
    pub(super) id: u64,
    /// 0 where no vectors are kept.
    pub(super) kept: u64,
}

impl Strides {
    /// Where the parts of a list lie in the sections [`CODES`].
    fn codes(&self, [start, end]: [ListEntry; 2]) -> [Range<u64>; 4] {
        let by = |stride: u64, start: u64, end: u64| start * stride..end * stride;
        [
            by(self.block, start.block, end.block),
            by(self.copy, start.copy, end.copy),
            by(self.rest, start.vector, end.vector),
            by(self.id, start.vector, end.vector),
        ]
    }

    /// Where the kept vectors of a list lie in their section.
    fn kept(&self, [start, end]: [ListEntry; 2]) -> Range<u64> {
        start.vector * self.kept..end.vector * self.kept
    }
}

/// Sums up the sections of lists, which are written whole, and writes section `list-checksums`.
pub(super) fn write_list_checksums<S: Sink>(
    writer: &mut Writer<S>,
    table: &[ListEntry],
    strides: &Strides,
    progress: &mut ProgressFn<'_>,
) -> Result<(), BuildError> {
    let lists = || table.windows(2).map(|pair| [pair[0], pair[1]]);
    let mut sums = writer.sum_pieces(CODES, lists().map(|list| strides.codes(list)), progress)?;
    if strides.kept > 0 {
        let pieces = lists().map(|list| [strides.kept(list)]);
        sums.extend(writer.sum_pieces([SectionKind::Kept], pieces, progress)?);
    }
    Ok(writer.write_values(SectionKind::ListChecksums, 0, &sums)?)
}

/// Which lists were compared with their checksums, and what came of it.
pub(crate) struct Checks {
    sums: Section<u32>,
    strides: Strides,
    /// For each list, and then for the kept vectors of each.
    states: Vec<AtomicU8>,
}

const UNKNOWN: u8 = 0;
const WHOLE: u8 = 1;
const DAMAGED: u8 = 2;

impl Checks {
    /// Compares all sections but those of lists with their checksums; these follow list by list.
    ///
    /// # Errors
    /// [`OpenError::Checksum`], and [`OpenError::Corrupt`] where the file has no checksums of lists.
    pub(super) fn begin(parts: &Parts) -> Result<Checks, OpenError> {
        let sums = parts.container.shared::<u32>(SectionKind::ListChecksums)?;
        for section in parts.container.sections() {
            let of_lists = CODES.iter().chain(&[SectionKind::Kept]);
            if !of_lists.map(|kind| kind.code()).any(|code| code == section.kind) {
                verify_section(&parts.container, &section)?;
            }
        }
        let states = (0..sums.len()).map(|_| AtomicU8::new(UNKNOWN)).collect();
        Ok(Checks { sums, strides: parts.strides(), states })
    }

    /// Whether the bytes of `ranges` have the checksum of this number. They are read the first time.
    fn is_whole(
        &self,
        container: &Container,
        number: usize,
        ranges: impl Iterator<Item = (SectionKind, Range<u64>)>,
    ) -> bool {
        // The bytes do not change: threads that ask at once find the same.
        let state = &self.states[number];
        match state.load(Ordering::Relaxed) {
            UNKNOWN => {
                let mut sum = 0;
                for (kind, range) in ranges {
                    // The section is there, and as long as its lists are: it was opened.
                    let bytes = container.optional(kind).unwrap_or_default();
                    let part = &bytes[range.start as usize..range.end as usize];
                    sum = crc32c::crc32c_append(sum, part);
                }
                let whole = sum == self.sums[number];
                state.store(if whole { WHOLE } else { DAMAGED }, Ordering::Relaxed);
                whole
            }
            state => state == WHOLE,
        }
    }
}

impl Parts {
    /// How the sections of lists are divided.
    fn strides(&self) -> Strides {
        Strides {
            block: self.layout.block_bytes() as u64,
            copy: self.place.bytes as u64,
            rest: self.layout.rest_bytes() as u64,
            id: self.ids.width() as u64,
            kept: (self.frame().dim * self.keep.value_bytes()) as u64,
        }
    }

    /// Whether the codes and ids of a list are what was written; true where checks are not asked for.
    #[inline]
    pub(super) fn list_is_whole(&self, list: usize) -> bool {
        self.checks.as_ref().is_none_or(|checks| {
            let ranges = CODES.into_iter().zip(checks.strides.codes(self.list_range(list)));
            checks.is_whole(&self.container, list, ranges)
        })
    }

    /// Compares the kept vectors of the list of a position with their checksum, if checks are asked for.
    ///
    /// # Errors
    /// [`SearchError::Damaged`].
    #[inline]
    pub(super) fn check_kept(&self, position: usize) -> Result<(), SearchError> {
        let Some(checks) = &self.checks else { return Ok(()) };
        let position = position as u64;
        let list = self.list_table.partition_point(|entry| entry.vector <= position) - 1;
        let range = checks.strides.kept(self.list_range(list));
        let number = self.nlist + list;
        if checks.is_whole(&self.container, number, std::iter::once((SectionKind::Kept, range))) {
            return Ok(());
        }
        Err(SearchError::Damaged { list, what: "kept vectors" })
    }
}
