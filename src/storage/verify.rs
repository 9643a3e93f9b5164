//! The checks that need every byte of a file.

use std::ops::ControlFlow;

use crate::error::OpenError;
use crate::storage::checksum::checksum;
use crate::storage::open::{self, Container};
use crate::storage::section::SectionInfo;
use crate::storage::table;

/// What a verification has looked at, and found in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The number of sections.
    pub sections: usize,
    /// The length of the file in bytes; every one of them was looked at.
    pub bytes: u64,
}

/// Checks every byte of a file: header and table again, each section against its checksum, and
/// that the padding between them is zero. One wrong bit anywhere is found.
///
/// `progress` is called now and then with the bytes done and the bytes of the whole file;
/// [`ControlFlow::Break`] stops.
///
/// # Errors
///
/// [`OpenError::Checksum`] or [`OpenError::Corrupt`], which name the first part at fault in the
/// order of the file and its offset; [`OpenError::Truncated`] if a mapped file has become shorter;
/// [`OpenError::Cancelled`].
pub(crate) fn verify(
    container: &Container,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<VerifyReport, OpenError> {
    container.check_file()?;
    let bytes = container.bytes();
    let total = bytes.len() as u64;
    // Checked when the container was opened; but that may be long ago, and the file mapped.
    let (header, entries) = open::parse(bytes)?;

    // The table ends inside the file, as it was opened.
    let mut end = table::table_end(header.section_count) as usize;
    for entry in &entries {
        let range = open::range(entry);
        check_padding(&bytes[end..range.start], end)?;
        let mut done = entry.offset;
        let found = checksum(&bytes[range.clone()], |step| {
            done += step;
            progress(done, total)
        });
        let ControlFlow::Continue(found) = found else {
            return Err(OpenError::Cancelled);
        };
        compare(entry.name(), entry.offset, entry.checksum, found)?;
        end = range.end;
    }
    if progress(total, total).is_break() {
        return Err(OpenError::Cancelled);
    }
    Ok(VerifyReport { sections: entries.len(), bytes: total })
}

/// Compares one section with its checksum.
///
/// # Errors
///
/// [`OpenError::Checksum`].
pub(crate) fn verify_section(
    container: &Container,
    section: &SectionInfo,
) -> Result<(), OpenError> {
    // Inside the file, as it was opened.
    let range = section.offset as usize..(section.offset + section.length) as usize;
    let ControlFlow::Continue(found) =
        checksum(&container.bytes()[range], |_| ControlFlow::Continue(()))
    else {
        return Err(OpenError::Cancelled);
    };
    compare(section.name, section.offset, section.checksum, found)
}

fn compare(what: &'static str, offset: u64, expected: u32, found: u32) -> Result<(), OpenError> {
    if found == expected {
        return Ok(());
    }
    Err(OpenError::Checksum { what, offset, expected, found })
}

/// Checks that the bytes between two parts, which start at `offset` in the file, are zero.
fn check_padding(padding: &[u8], offset: usize) -> Result<(), OpenError> {
    match padding.iter().position(|&byte| byte != 0) {
        None => Ok(()),
        Some(at) => {
            let message =
                format!("the byte at offset {} is {:#04x}, not zero", offset + at, padding[at]);
            Err(OpenError::corrupt("padding", message))
        }
    }
}
