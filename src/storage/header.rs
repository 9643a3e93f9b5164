//! The fixed header of an index file, and the types that say whether it has been checked.

use crate::error::OpenError;
use crate::matrix::MAX_DIM;
use crate::metric::Metric;

/// The first eight bytes. The last two show whether a transfer has treated the file as text.
pub(crate) const MAGIC: [u8; 8] = *b"NONIUS\x1a\n";
/// The version that this library writes, and the newest that it reads.
pub(crate) const VERSION: u32 = 1;
/// The oldest version that this library reads.
pub(crate) const OLDEST_VERSION: u32 = 1;
/// The length of the header in bytes.
pub(crate) const HEADER_LEN: usize = 128;

/// Where each field of the header lies, in bytes from the start of the file.
pub(crate) mod at {
    /// `[u8; 8]`: [`MAGIC`](super::MAGIC).
    pub(crate) const MAGIC: usize = 0;
    /// `u32`: the version of the format.
    pub(crate) const VERSION: usize = 8;
    /// `u32`: the length of the header.
    pub(crate) const HEADER_LEN: usize = 12;
    /// `u32`: flags; none is defined.
    pub(crate) const FLAGS: usize = 16;
    /// `u32`: the dimension of the vectors.
    pub(crate) const DIM: usize = 20;
    /// `u64`: the number of vectors.
    pub(crate) const COUNT: usize = 24;
    /// `u32`: the metric's code.
    pub(crate) const METRIC: usize = 32;
    /// `u32`: the quantizer's code.
    pub(crate) const QUANTIZER: usize = 36;
    /// `u32`: the number of sections.
    pub(crate) const SECTION_COUNT: usize = 40;
    /// `u32`: reserved, zero.
    pub(crate) const RESERVED_A: usize = 44;
    /// `u64`: where the table of sections starts.
    pub(crate) const TABLE_OFFSET: usize = 48;
    /// `u64`: the length of the file.
    pub(crate) const FILE_LEN: usize = 56;
    /// 60 bytes: reserved, zero.
    pub(crate) const RESERVED_B: usize = 64;
    /// `u32`: CRC32C of all the bytes before.
    pub(crate) const CHECKSUM: usize = 124;
}

/// Reads a little-endian `u32`. Panics if the slice is too short.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

/// Reads a little-endian `u64`. Panics if the slice is too short.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

/// Writes a little-endian `u32`. Panics if the slice is too short.
pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Writes a little-endian `u64`. Panics if the slice is too short.
pub(crate) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// What an index says of itself in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeaderFields {
    /// The dimension of the vectors, from 1 to [`MAX_DIM`].
    pub(crate) dim: usize,
    /// The number of vectors. Any number passes the header's checks: whoever reads the sections
    /// compares it with their sizes.
    pub(crate) count: u64,
    /// The metric.
    pub(crate) metric: Metric,
    /// The quantizer's code. The container gives it no meaning.
    pub(crate) quantizer: u32,
}

/// The bytes of a header of a version that is read, before anything else has been checked.
pub(crate) struct UnverifiedHeader {
    bytes: [u8; HEADER_LEN],
}

/// A header that has passed every check that needs no other part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The version of the format.
    pub(crate) version: u32,
    /// What the index says of itself.
    pub(crate) fields: HeaderFields,
    /// The number of sections.
    pub(crate) section_count: u32,
    /// The length of the file in bytes; it has been compared with the true one.
    pub(crate) file_len: u64,
}

impl UnverifiedHeader {
    /// Takes the header from the start of a file, or from as much of it as there is.
    ///
    /// # Errors
    ///
    /// [`OpenError::Magic`], [`OpenError::Version`], or [`OpenError::Truncated`] where the bytes
    /// are too few, in this order of precedence: a file of another program is called that, however
    /// short it is.
    pub(crate) fn read(start: &[u8]) -> Result<UnverifiedHeader, OpenError> {
        let magic = &start[..start.len().min(MAGIC.len())];
        if !MAGIC.starts_with(magic) {
            let mut found = [0; 8];
            found[..magic.len()].copy_from_slice(magic);
            return Err(OpenError::Magic { found });
        }
        if start.len() >= at::VERSION + 4 {
            let found = u32_at(start, at::VERSION);
            if !(OLDEST_VERSION..=VERSION).contains(&found) {
                return Err(OpenError::Version { found, newest: VERSION });
            }
        }
        let Some(bytes) = start.first_chunk::<HEADER_LEN>() else {
            return Err(OpenError::Truncated {
                what: "header",
                expected: HEADER_LEN as u64,
                found: start.len() as u64,
            });
        };
        Ok(UnverifiedHeader { bytes: *bytes })
    }

    /// Checks the checksum, every field, and that the file is `found_len` bytes long.
    ///
    /// # Errors
    ///
    /// [`OpenError::Checksum`], [`OpenError::Corrupt`] or [`OpenError::Truncated`].
    pub(crate) fn verify(self, found_len: u64) -> Result<Header, OpenError> {
        const WHAT: &str = "header";
        let bytes = &self.bytes;
        let expected = u32_at(bytes, at::CHECKSUM);
        let found = crc32c::crc32c(&bytes[..at::CHECKSUM]);
        if expected != found {
            return Err(OpenError::Checksum { what: WHAT, offset: 0, expected, found });
        }

        let header_len = u32_at(bytes, at::HEADER_LEN);
        if header_len != HEADER_LEN as u32 {
            let message = format!("expected a header of {HEADER_LEN} bytes, found {header_len}");
            return Err(OpenError::corrupt(WHAT, message));
        }
        let flags = u32_at(bytes, at::FLAGS);
        if flags != 0 {
            return Err(OpenError::corrupt(WHAT, format!("unknown flags {flags:#x}")));
        }
        if u32_at(bytes, at::RESERVED_A) != 0
            || bytes[at::RESERVED_B..at::CHECKSUM].iter().any(|&byte| byte != 0)
        {
            return Err(OpenError::corrupt(WHAT, "a reserved byte is not zero"));
        }
        let table_offset = u64_at(bytes, at::TABLE_OFFSET);
        if table_offset != HEADER_LEN as u64 {
            let message = format!("expected the table at {HEADER_LEN}, found {table_offset}");
            return Err(OpenError::corrupt(WHAT, message));
        }

        let dim = u32_at(bytes, at::DIM) as usize;
        if !(1..=MAX_DIM).contains(&dim) {
            let message = format!("dimension {dim} is not between 1 and {MAX_DIM}");
            return Err(OpenError::corrupt(WHAT, message));
        }
        let code = u32_at(bytes, at::METRIC);
        let Some(metric) = Metric::from_code(code) else {
            return Err(OpenError::corrupt(WHAT, format!("unknown metric {code}")));
        };

        let file_len = u64_at(bytes, at::FILE_LEN);
        if found_len < file_len {
            return Err(OpenError::Truncated {
                what: "file",
                expected: file_len,
                found: found_len,
            });
        }
        if found_len > file_len {
            let message = format!("expected {file_len} bytes, found {found_len}");
            return Err(OpenError::corrupt("file", message));
        }

        Ok(Header {
            version: u32_at(bytes, at::VERSION),
            fields: HeaderFields {
                dim,
                count: u64_at(bytes, at::COUNT),
                metric,
                quantizer: u32_at(bytes, at::QUANTIZER),
            },
            section_count: u32_at(bytes, at::SECTION_COUNT),
            file_len,
        })
    }
}

impl Header {
    /// The bytes of the header, its checksum included.
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[at::MAGIC..at::MAGIC + MAGIC.len()].copy_from_slice(&MAGIC);
        put_u32(&mut bytes, at::VERSION, self.version);
        put_u32(&mut bytes, at::HEADER_LEN, HEADER_LEN as u32);
        put_u32(&mut bytes, at::DIM, self.fields.dim as u32);
        put_u64(&mut bytes, at::COUNT, self.fields.count);
        put_u32(&mut bytes, at::METRIC, self.fields.metric.code());
        put_u32(&mut bytes, at::QUANTIZER, self.fields.quantizer);
        put_u32(&mut bytes, at::SECTION_COUNT, self.section_count);
        put_u64(&mut bytes, at::TABLE_OFFSET, HEADER_LEN as u64);
        put_u64(&mut bytes, at::FILE_LEN, self.file_len);
        let checksum = crc32c::crc32c(&bytes[..at::CHECKSUM]);
        put_u32(&mut bytes, at::CHECKSUM, checksum);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            version: VERSION,
            fields: HeaderFields {
                dim: MAX_DIM,
                count: u64::MAX,
                metric: Metric::Cosine,
                quantizer: 0xdead_beef,
            },
            section_count: 7,
            file_len: 1 << 40,
        }
    }

    #[test]
    fn round_trip() {
        let bytes = header().encode();
        let read = UnverifiedHeader::read(&bytes).unwrap().verify(1 << 40).unwrap();
        assert_eq!(read, header());
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let good = header().encode();
        for bit in 0..HEADER_LEN * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            let result = UnverifiedHeader::read(&bytes).and_then(|header| header.verify(1 << 40));
            let error = result.expect_err("a flipped bit");
            match bit / 8 {
                0..8 => assert!(matches!(error, OpenError::Magic { .. }), "{error}"),
                8..12 => assert!(matches!(error, OpenError::Version { .. }), "{error}"),
                _ => assert!(matches!(error, OpenError::Checksum { offset: 0, .. }), "{error}"),
            }
        }
    }

    #[test]
    fn short_files_are_named_by_what_there_is() {
        let good = header().encode();
        for len in 0..HEADER_LEN {
            let error = UnverifiedHeader::read(&good[..len]).err().expect("too short");
            match error {
                OpenError::Truncated { what: "header", expected: 128, found } => {
                    assert_eq!(found, len as u64);
                }
                other => panic!("{len}: {other}"),
            }
        }
        let error = UnverifiedHeader::read(b"PK").err().expect("no index");
        assert!(matches!(error, OpenError::Magic { found: [b'P', b'K', 0, 0, 0, 0, 0, 0] }));
        // A newer version may have a shorter header; its number is what matters.
        let mut newer = good;
        put_u32(&mut newer, at::VERSION, VERSION + 1);
        let error = UnverifiedHeader::read(&newer[..12]).err().expect("newer");
        assert!(matches!(error, OpenError::Version { found: 2, newest: 1 }));
    }

    #[test]
    fn the_length_of_the_file_must_match() {
        let bytes = header().encode();
        let verify = |len| UnverifiedHeader::read(&bytes).unwrap().verify(len).unwrap_err();
        assert!(matches!(verify((1 << 40) - 1), OpenError::Truncated { what: "file", .. }));
        assert!(matches!(verify((1 << 40) + 1), OpenError::Corrupt { what: "file", .. }));
    }

    /// A resealed header reaches the checks behind the checksum.
    #[test]
    fn each_field_is_checked_behind_the_checksum() {
        let cases: [(usize, &str); 7] = [
            (at::HEADER_LEN, "128 bytes"),
            (at::FLAGS, "flags"),
            (at::DIM, "dimension"),
            (at::METRIC, "metric"),
            (at::RESERVED_A, "reserved"),
            (at::TABLE_OFFSET, "table"),
            (at::RESERVED_B + 56, "reserved"),
        ];
        for (field, says) in cases {
            let mut bytes = header().encode();
            put_u32(&mut bytes, field, u32::MAX);
            let checksum = crc32c::crc32c(&bytes[..at::CHECKSUM]);
            put_u32(&mut bytes, at::CHECKSUM, checksum);
            let error = UnverifiedHeader::read(&bytes).unwrap().verify(1 << 40).unwrap_err();
            assert!(matches!(error, OpenError::Corrupt { what: "header", .. }), "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
