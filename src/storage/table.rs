//! The table of sections, and the rules by which sections are placed.

use crate::error::OpenError;
use crate::storage::header::{HEADER_LEN, Header, put_u32, put_u64, u32_at, u64_at};
use crate::storage::section::{SectionInfo, SectionKind};

/// The length of an entry of the table in bytes.
pub(crate) const ENTRY_LEN: usize = 40;
/// The most sections that a file may have, which bounds the work and memory of opening.
pub(crate) const MAX_SECTIONS: u32 = 1024;
/// The least alignment of a section in bytes: a cache line, and the widest vector register.
pub(crate) const MIN_ALIGNMENT: u32 = 64;
/// The greatest alignment of a section in bytes: the usual page.
pub(crate) const MAX_ALIGNMENT: u32 = 4096;
/// Set in the flags of a section that a reader may skip if it does not know the kind.
pub(crate) const FLAG_SKIPPABLE: u32 = 1;

/// Where each field of an entry lies, in bytes from the start of the entry.
pub(crate) mod at {
    /// `u32`: the code of the kind.
    pub(crate) const KIND: usize = 0;
    /// `u32`: flags.
    pub(crate) const FLAGS: usize = 4;
    /// `u64`: where the section starts.
    pub(crate) const OFFSET: usize = 8;
    /// `u64`: its length.
    pub(crate) const LENGTH: usize = 16;
    /// `u32`: CRC32C of its bytes.
    pub(crate) const CHECKSUM: usize = 24;
    /// `u32`: the alignment of its offset.
    pub(crate) const ALIGNMENT: usize = 28;
    /// `u64`: reserved, zero.
    pub(crate) const RESERVED: usize = 32;
}

/// An entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The code of the kind, known or not.
    pub(crate) kind: u32,
    /// True if a reader that does not know the kind may skip the section.
    pub(crate) skippable: bool,
    /// Where the section starts, in bytes from the start of the file.
    pub(crate) offset: u64,
    /// The length of the section in bytes.
    pub(crate) length: u64,
    /// CRC32C of the section's bytes.
    pub(crate) checksum: u32,
    /// The number of bytes of which `offset` is a multiple: a power of two.
    pub(crate) alignment: u32,
}

impl Entry {
    /// The name of the kind, or `unknown`.
    pub(crate) fn name(&self) -> &'static str {
        SectionKind::from_code(self.kind).map_or("unknown", SectionKind::name)
    }

    /// The entry for reports.
    pub(crate) fn info(&self) -> SectionInfo {
        SectionInfo {
            kind: self.kind,
            name: self.name(),
            offset: self.offset,
            length: self.length,
            alignment: self.alignment,
            checksum: self.checksum,
        }
    }
}

/// Where a table of `sections` entries and its checksum end.
pub(crate) fn table_end(sections: u32) -> u64 {
    HEADER_LEN as u64 + u64::from(sections) * ENTRY_LEN as u64 + 4
}

/// True for a power of two in the range that the format allows.
pub(crate) fn is_alignment(alignment: u32) -> bool {
    alignment.is_power_of_two() && (MIN_ALIGNMENT..=MAX_ALIGNMENT).contains(&alignment)
}

/// Where a section starts that follows what ends at `end`: at the first multiple of `alignment`.
/// `None` on overflow.
pub(crate) fn place(end: u64, alignment: u32) -> Option<u64> {
    end.checked_next_multiple_of(u64::from(alignment))
}

/// The bytes of the table, its checksum included.
pub(crate) fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = vec![0; entries.len() * ENTRY_LEN + 4];
    for (entry, out) in entries.iter().zip(bytes.chunks_exact_mut(ENTRY_LEN)) {
        put_u32(out, at::KIND, entry.kind);
        put_u32(out, at::FLAGS, if entry.skippable { FLAG_SKIPPABLE } else { 0 });
        put_u64(out, at::OFFSET, entry.offset);
        put_u64(out, at::LENGTH, entry.length);
        put_u32(out, at::CHECKSUM, entry.checksum);
        put_u32(out, at::ALIGNMENT, entry.alignment);
    }
    let end = entries.len() * ENTRY_LEN;
    let checksum = crc32c::crc32c(&bytes[..end]);
    put_u32(&mut bytes, end, checksum);
    bytes
}

/// Reads and checks the table of a file of which `bytes` are all the bytes.
///
/// On success every section lies inside the file, where the format says it must lie, and each kind
/// occurs once and is known or may be skipped.
///
/// # Errors
///
/// [`OpenError::Truncated`], [`OpenError::Checksum`], [`OpenError::UnknownSection`] or
/// [`OpenError::Corrupt`].
pub(crate) fn read(bytes: &[u8], header: &Header) -> Result<Vec<Entry>, OpenError> {
    const WHAT: &str = "table";
    if header.section_count > MAX_SECTIONS {
        let message = format!("{} sections; at most {MAX_SECTIONS}", header.section_count);
        return Err(OpenError::corrupt(WHAT, message));
    }
    let file_len = bytes.len() as u64;
    let table_end = table_end(header.section_count);
    if table_end > file_len {
        return Err(OpenError::Truncated { what: WHAT, expected: table_end, found: file_len });
    }
    // The table ends inside the file, so its end is a `usize`.
    let (table, stored) =
        bytes[HEADER_LEN..table_end as usize].split_at(header.section_count as usize * ENTRY_LEN);
    // The checksum comes before the meaning: a flipped bit should be called that.
    let expected = u32_at(stored, 0);
    let found = crc32c::crc32c(table);
    if expected != found {
        let offset = HEADER_LEN as u64;
        return Err(OpenError::Checksum { what: WHAT, offset, expected, found });
    }

    let mut entries = Vec::with_capacity(header.section_count as usize);
    let mut end = table_end;
    for (number, raw) in table.chunks_exact(ENTRY_LEN).enumerate() {
        let entry = read_entry(raw, number, end, file_len)?;
        end = entry.offset + entry.length;
        entries.push(entry);
    }
    if end != file_len {
        let message = format!("the last section ends at {end}, the file at {file_len}");
        return Err(OpenError::corrupt(WHAT, message));
    }

    let mut kinds: Vec<u32> = entries.iter().map(|entry| entry.kind).collect();
    kinds.sort_unstable();
    if let Some(pair) = kinds.windows(2).find(|pair| pair[0] == pair[1]) {
        let message = format!("section kind {} occurs more than once", pair[0]);
        return Err(OpenError::corrupt(WHAT, message));
    }
    Ok(entries)
}

/// Reads and checks the entry of the section `number`, where what comes before ends at `end`.
fn read_entry(raw: &[u8], number: usize, end: u64, file_len: u64) -> Result<Entry, OpenError> {
    let kind = u32_at(raw, at::KIND);
    let flags = u32_at(raw, at::FLAGS);
    let entry = Entry {
        kind,
        skippable: flags & FLAG_SKIPPABLE != 0,
        offset: u64_at(raw, at::OFFSET),
        length: u64_at(raw, at::LENGTH),
        checksum: u32_at(raw, at::CHECKSUM),
        alignment: u32_at(raw, at::ALIGNMENT),
    };
    let corrupt = |message: String| {
        let message = format!("section {number} (kind {kind}, {}): {message}", entry.name());
        Err(OpenError::corrupt("table", message))
    };

    if kind == 0 {
        return corrupt("0 is no kind".to_owned());
    }
    if flags & !FLAG_SKIPPABLE != 0 {
        return corrupt(format!("unknown flags {flags:#x}"));
    }
    if u64_at(raw, at::RESERVED) != 0 {
        return corrupt("a reserved byte is not zero".to_owned());
    }
    if SectionKind::from_code(kind).is_none() && !entry.skippable {
        return Err(OpenError::UnknownSection { kind });
    }
    if !is_alignment(entry.alignment) {
        return corrupt(format!(
            "alignment {} is not a power of two from {MIN_ALIGNMENT} to {MAX_ALIGNMENT}",
            entry.alignment
        ));
    }
    if entry.offset < end {
        return corrupt(format!("starts at {}, before {end}, where it may", entry.offset));
    }
    match place(end, entry.alignment) {
        Some(offset) if offset == entry.offset => {}
        _ => {
            return corrupt(format!(
                "starts at {}, not at the first multiple of {} from {end} on",
                entry.offset, entry.alignment
            ));
        }
    }
    match entry.offset.checked_add(entry.length) {
        Some(section_end) if section_end <= file_len => Ok(entry),
        _ => corrupt(format!(
            "{} bytes from {} on are not inside a file of {file_len}",
            entry.length, entry.offset
        )),
    }
}
