//! The container: how an index lies in one file. `FORMAT.md` describes every byte.
//!
//! * [`header`]: the fixed header, and the types that say whether it has been checked;
//! * [`section`]: the kinds of sections, and the only door from bytes to typed slices;
//! * [`table`]: the table of sections and the rules of their placement;
//! * [`bytes`] and [`map`]: the memory beneath, owned or mapped;
//! * [`open`]: from untrusted bytes to a [`Container`];
//! * [`mod@verify`]: the checks that need every byte;
//! * [`writer`] and [`atomic`]: writing a file whole or not at all.

mod atomic;
mod bytes;
mod checksum;
mod header;
mod map;
mod open;
mod section;
mod table;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use atomic::{OsLayer, Temporary, save_bytes};
pub(crate) use bytes::AlignedBytes;
pub(crate) use header::{HeaderFields, VERSION};
pub(crate) use map::Access;
pub use map::MappedFile;
pub(crate) use open::{Container, OpenMode};
pub use section::SectionInfo;
pub(crate) use section::{Section, SectionKind};
pub use verify::VerifyReport;
pub(crate) use verify::{verify, verify_section};
pub(crate) use writer::{FileWriter, Layout, MemoryWriter, Sink, Writer};
