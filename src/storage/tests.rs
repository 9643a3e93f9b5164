//! Tests of the container as a whole: what goes in comes out, and no bytes do harm.

use std::ops::ControlFlow;

use proptest::prelude::*;

use super::header::{self, HEADER_LEN, put_u32, put_u64, u32_at};
use super::table::{self, ENTRY_LEN};
use super::*;
use crate::error::OpenError;
use crate::metric::Metric;

const FIELDS: HeaderFields =
    HeaderFields { dim: 4, count: 3, metric: Metric::InnerProduct, quantizer: 2 };

/// Where entries of the table and their fields are.
fn entry(number: usize, field: usize) -> usize {
    HEADER_LEN + number * ENTRY_LEN + field
}

fn write(sections: &[(SectionKind, Vec<u8>, u32)]) -> Vec<u8> {
    let layout =
        Layout::new(sections.iter().map(|(kind, body, align)| (*kind, body.len() as u64, *align)));
    let writer = MemoryWriter::in_memory(FIELDS, layout.unwrap()).unwrap();
    for (kind, body, _) in sections {
        writer.write_at(*kind, 0, body).unwrap();
    }
    writer.finish(&mut |_| ControlFlow::Continue(())).unwrap().to_vec()
}

/// A file with padding, an empty section and sections of no round length.
fn small() -> Vec<u8> {
    write(&[
        (SectionKind::Meta, vec![0xa5; 5], 64),
        (SectionKind::Mean, (1..=16).collect(), 64),
        (SectionKind::Rest, Vec::new(), 64),
        (SectionKind::Ids, vec![7; 9], 128),
    ])
}

fn open(bytes: &[u8]) -> Result<Container, OpenError> {
    Container::from_bytes(AlignedBytes::from_slice(bytes).unwrap())
}

fn check(container: &Container) -> Result<VerifyReport, OpenError> {
    verify(container, &mut |_, _| ControlFlow::Continue(()))
}

/// Makes the checksums of header and table right, as far as there are bytes for it, so that the
/// checks behind them are reached.
fn reseal(bytes: &mut [u8]) {
    if bytes.len() < HEADER_LEN {
        return;
    }
    let sections = u32_at(bytes, header::at::SECTION_COUNT) as usize;
    let end = sections.saturating_mul(ENTRY_LEN).saturating_add(HEADER_LEN);
    if end.saturating_add(4) <= bytes.len() {
        let sum = crc32c::crc32c(&bytes[HEADER_LEN..end]);
        put_u32(bytes, end, sum);
    }
    let sum = crc32c::crc32c(&bytes[..header::at::CHECKSUM]);
    put_u32(bytes, header::at::CHECKSUM, sum);
}

/// What must hold of any bytes: an error, or a container all of whose sections can be read.
fn use_all(bytes: &[u8]) -> Result<(), OpenError> {
    let container = open(bytes)?;
    let mut end = 0;
    for info in container.sections() {
        assert!(info.offset >= end && info.offset.is_multiple_of(64));
        end = info.offset + info.length;
        assert!(end <= bytes.len() as u64);
    }
    assert_eq!(end.max(table::table_end(container.header().section_count)), bytes.len() as u64);
    for &kind in SectionKind::ALL {
        if let Some(body) = container.optional(kind) {
            assert!((body.as_ptr() as usize).is_multiple_of(64));
            assert_eq!(container.section(kind)?, body);
            let whole = body.len().is_multiple_of(8);
            assert_eq!(container.typed::<u64>(kind).is_ok(), whole);
            assert_eq!(container.shared::<f64>(kind).is_ok(), whole);
        } else {
            assert!(container.section(kind).is_err());
        }
    }
    check(&container).map(|_| ())
}

#[test]
fn round_trip_in_every_mode() {
    let bytes = small();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.nonius");
    save_bytes(&path, &bytes).unwrap();
    for container in [
        open(&bytes).unwrap(),
        Container::open(&path, OpenMode::Map).unwrap(),
        Container::open(&path, OpenMode::Read).unwrap(),
    ] {
        assert_eq!(container.header().fields, FIELDS);
        assert_eq!(container.header().version, 1);
        assert_eq!(**container.bytes(), *bytes);
        assert_eq!(container.section(SectionKind::Meta).unwrap(), [0xa5; 5]);
        assert_eq!(container.section(SectionKind::Rest).unwrap(), []);
        assert_eq!(
            container.typed::<u32>(SectionKind::Mean).unwrap(),
            [0x0403_0201, 0x0807_0605, 0x0c0b_0a09, 0x100f_0e0d]
        );
        let shared = container.shared::<[u8; 3]>(SectionKind::Ids).unwrap();
        assert!(container.optional(SectionKind::Scan).is_none());
        assert!(container.optional_shared::<u8>(SectionKind::Scan).unwrap().is_none());
        let error = container.section(SectionKind::Scan).unwrap_err();
        assert_eq!(error.to_string(), "corrupt scan: the section is missing");
        let error = container.typed::<u32>(SectionKind::Meta).unwrap_err();
        assert!(matches!(error, OpenError::Corrupt { what: "meta", .. }), "{error}");

        container.advise(SectionKind::Mean, Access::Random);
        container.advise(SectionKind::Scan, Access::WillNeed);
        container.check_file().unwrap();
        let report = check(&container).unwrap();
        assert_eq!((report.sections, report.bytes), (4, bytes.len() as u64));
        drop(container);
        assert_eq!(*shared, [[7; 3]; 3]);
    }
}

#[test]
fn sections_are_listed_as_they_lie() {
    let container = open(&small()).unwrap();
    let list: Vec<_> = container
        .sections()
        .iter()
        .map(|info| (info.name, info.kind, info.offset, info.length, info.alignment))
        .collect();
    assert_eq!(
        list,
        [
            ("meta", 1, 320, 5, 64),
            ("mean", 2, 384, 16, 64),
            ("rest", 9, 448, 0, 64),
            ("ids", 10, 512, 9, 128),
        ]
    );
}

/// The bytes that version 1 has had from its first day. If this fails, the format has changed:
/// raise the version instead. The checksums are from another implementation of CRC32C.
#[test]
fn golden_bytes() {
    let bytes = write(&[(SectionKind::Meta, vec![1, 2, 3], 64)]);
    let mut expected = vec![0u8; 195];
    expected[0..8].copy_from_slice(b"NONIUS\x1a\n");
    expected[8] = 1; // version
    expected[12] = 128; // header length
    expected[20] = 4; // dim
    expected[24] = 3; // count
    expected[32] = 1; // metric
    expected[36] = 2; // quantizer
    expected[40] = 1; // sections
    expected[48] = 128; // table
    expected[56] = 195; // file length
    expected[124..128].copy_from_slice(&0x9836_be6b_u32.to_le_bytes());
    expected[128] = 1; // kind
    expected[136] = 192; // offset
    expected[144] = 3; // length
    expected[152..156].copy_from_slice(&0xf130_f21e_u32.to_le_bytes());
    expected[156] = 64; // alignment
    expected[168..172].copy_from_slice(&0x7ad4_649f_u32.to_le_bytes());
    expected[192..195].copy_from_slice(&[1, 2, 3]);
    assert_eq!(bytes, expected);
}

/// FORMAT.md says what the code does.
#[test]
fn the_document_has_every_field_and_kind() {
    let document = include_str!("../../FORMAT.md");
    let (before, after) = document.split_once("## Table of sections").unwrap();
    let header = [
        (header::at::MAGIC, 8, "MAGIC"),
        (header::at::VERSION, 4, "VERSION"),
        (header::at::HEADER_LEN, 4, "HEADER_LEN"),
        (header::at::FLAGS, 4, "FLAGS"),
        (header::at::DIM, 4, "DIM"),
        (header::at::COUNT, 8, "COUNT"),
        (header::at::METRIC, 4, "METRIC"),
        (header::at::QUANTIZER, 4, "QUANTIZER"),
        (header::at::SECTION_COUNT, 4, "SECTION_COUNT"),
        (header::at::RESERVED_A, 4, "RESERVED_A"),
        (header::at::TABLE_OFFSET, 8, "TABLE_OFFSET"),
        (header::at::FILE_LEN, 8, "FILE_LEN"),
        (header::at::RESERVED_B, 60, "RESERVED_B"),
        (header::at::CHECKSUM, 4, "CHECKSUM"),
    ];
    let table = [
        (table::at::KIND, 4, "KIND"),
        (table::at::FLAGS, 4, "FLAGS"),
        (table::at::OFFSET, 8, "OFFSET"),
        (table::at::LENGTH, 8, "LENGTH"),
        (table::at::CHECKSUM, 4, "CHECKSUM"),
        (table::at::ALIGNMENT, 4, "ALIGNMENT"),
        (table::at::RESERVED, 8, "RESERVED"),
    ];
    for (text, fields, len) in [(before, &header[..], HEADER_LEN), (after, &table, ENTRY_LEN)] {
        let mut end = 0;
        for &(offset, size, name) in fields {
            assert_eq!(offset, end, "{name}");
            end += size;
            let row = format!("\n| {offset} | {size} | `{name}` | ");
            assert!(text.contains(&row), "{row}");
        }
        assert_eq!(end, len);
    }
    for kind in SectionKind::ALL {
        let skip = if kind.skippable() { "yes" } else { "no" };
        let row = format!("\n| {} | `{}` | {skip} |\n", kind.code(), kind.name());
        assert!(after.contains(&row), "{row}");
    }
}

#[test]
fn the_same_sections_make_the_same_bytes() {
    assert_eq!(small(), small());
}

/// One flipped bit anywhere is found, and the part that it lies in is named.
#[test]
fn every_flipped_bit_is_found() {
    let good = small();
    assert!(use_all(&good).is_ok());
    let table_end = HEADER_LEN + 4 * ENTRY_LEN + 4;
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = use_all(&bytes).expect_err("a flipped bit");
        let at = bit / 8;
        let named = match (&error, at) {
            (OpenError::Magic { .. }, 0..8) => true,
            (OpenError::Version { .. }, 8..12) => true,
            (OpenError::Checksum { what: "header", offset: 0, .. }, 12..128) => true,
            (OpenError::Checksum { what: "table", offset: 128, .. }, 128..) => at < table_end,
            (OpenError::Checksum { what: "meta", offset: 320, .. }, 320..325) => true,
            (OpenError::Checksum { what: "mean", offset: 384, .. }, 384..400) => true,
            (OpenError::Checksum { what: "ids", offset: 512, .. }, 512..521) => true,
            (OpenError::Corrupt { what: "padding", message }, _) => {
                message.contains(&format!("offset {at} "))
            }
            _ => false,
        };
        assert!(named, "bit {bit}: {error}");
    }
}

#[test]
fn every_truncation_is_found() {
    let good = small();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.nonius");
    for len in 0..good.len() {
        let error = open(&good[..len]).unwrap_err();
        assert!(matches!(error, OpenError::Truncated { .. }), "{len}: {error}");
        // With a header that admits to the length, so that the table is at fault.
        let mut bytes = good[..len].to_vec();
        if len >= HEADER_LEN {
            put_u64(&mut bytes, header::at::FILE_LEN, len as u64);
            reseal(&mut bytes);
            let error = open(&bytes).unwrap_err();
            assert!(
                matches!(
                    error,
                    OpenError::Truncated { what: "table", .. }
                        | OpenError::Corrupt { what: "table", .. }
                ),
                "{len}: {error}"
            );
        }
        if len % 13 == 0 {
            std::fs::write(&path, &good[..len]).unwrap();
            for mode in [OpenMode::Map, OpenMode::Read] {
                let error = Container::open(&path, mode).unwrap_err();
                assert!(matches!(error, OpenError::Truncated { .. }), "{len}: {error}");
            }
        }
    }
    let mut longer = good;
    longer.push(0);
    let error = open(&longer).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { what: "file", .. }), "{error}");
}

/// Each field of header and table is replaced by extreme values, with and without checksums that
/// agree.
#[test]
fn extreme_fields_are_errors() {
    let good = small();
    let u32s = [0, 1, 3, 63, 65, 127, 4097, 8192, 1025, 0x7fff_ffff, 0x8000_0000, u32::MAX];
    let u64s = [
        0,
        1,
        127,
        129,
        good.len() as u64 - 1,
        good.len() as u64 + 1,
        1 << 32,
        i64::MAX as u64,
        1 << 63,
        u64::MAX - 63,
        u64::MAX,
    ];
    // The fields that have a meaning only to those who read the sections.
    let free = [header::at::COUNT, header::at::QUANTIZER];
    let mut fields = vec![
        (header::at::VERSION, 4),
        (header::at::HEADER_LEN, 4),
        (header::at::FLAGS, 4),
        (header::at::DIM, 4),
        (header::at::COUNT, 8),
        (header::at::METRIC, 4),
        (header::at::QUANTIZER, 4),
        (header::at::SECTION_COUNT, 4),
        (header::at::RESERVED_A, 4),
        (header::at::TABLE_OFFSET, 8),
        (header::at::FILE_LEN, 8),
        (header::at::RESERVED_B, 8),
        (header::at::CHECKSUM - 8, 8),
    ];
    for number in 0..4 {
        fields.extend([
            (entry(number, table::at::KIND), 4),
            (entry(number, table::at::FLAGS), 4),
            (entry(number, table::at::OFFSET), 8),
            (entry(number, table::at::LENGTH), 8),
            (entry(number, table::at::CHECKSUM), 4),
            (entry(number, table::at::ALIGNMENT), 4),
            (entry(number, table::at::RESERVED), 8),
        ]);
    }
    for (field, size) in fields {
        let values: Vec<u64> = if size == 4 { u32s.map(u64::from).to_vec() } else { u64s.to_vec() };
        for value in values {
            let mut bytes = good.clone();
            if size == 4 {
                put_u32(&mut bytes, field, value as u32);
            } else {
                put_u64(&mut bytes, field, value);
            }
            if bytes == good {
                continue;
            }
            assert!(use_all(&bytes).is_err(), "field {field}, value {value}");
            reseal(&mut bytes);
            // Some values are as good as the right ones: other dimensions, another metric, a kind
            // or an alignment that is possible, the flag that allows to skip.
            let result = use_all(&bytes);
            let column = (field >= HEADER_LEN).then(|| (field - HEADER_LEN) % ENTRY_LEN);
            let may_pass = free.contains(&field)
                || field == header::at::DIM && (1..=65_536).contains(&value)
                || field == header::at::METRIC && value < 3
                || matches!(column, Some(table::at::KIND)) && value == 3
                || matches!(column, Some(table::at::FLAGS)) && value == 1;
            assert_eq!(result.is_ok(), may_pass, "field {field}, value {value}: {result:?}");
        }
    }
}

/// The message of the error after a change to the table under a right checksum.
fn table_error(change: impl FnOnce(&mut Vec<u8>)) -> OpenError {
    let mut bytes = small();
    change(&mut bytes);
    reseal(&mut bytes);
    open(&bytes).unwrap_err()
}

#[test]
fn misplaced_sections_are_errors() {
    // Two entries swapped: out of order.
    let error = table_error(|bytes| {
        let (first, second) = bytes[HEADER_LEN..].split_at_mut(ENTRY_LEN);
        first[..ENTRY_LEN].swap_with_slice(&mut second[..ENTRY_LEN]);
    });
    assert!(error.to_string().contains("not at the first multiple of 64"), "{error}");

    // The first section grows into the second.
    let error = table_error(|bytes| put_u64(bytes, entry(0, table::at::LENGTH), 65));
    assert!(error.to_string().contains("(kind 2, mean): starts at 384, before 385"), "{error}");

    // A section over the table, one over the header.
    for offset in [256, 0] {
        let error = table_error(|bytes| put_u64(bytes, entry(0, table::at::OFFSET), offset));
        assert!(error.to_string().contains("before 292"), "{error}");
    }

    // A hole that nobody would look into.
    let error = table_error(|bytes| {
        bytes.splice(512..512, [0; 128]);
        put_u64(bytes, entry(3, table::at::OFFSET), 640);
        let len = bytes.len() as u64;
        put_u64(bytes, header::at::FILE_LEN, len);
    });
    assert!(error.to_string().contains("starts at 640"), "{error}");

    // Bytes behind the last section.
    let error = table_error(|bytes| {
        bytes.push(0);
        let len = bytes.len() as u64;
        put_u64(bytes, header::at::FILE_LEN, len);
    });
    assert!(error.to_string().contains("ends at 521, the file at 522"), "{error}");

    // A length whose end overflows.
    let error = table_error(|bytes| put_u64(bytes, entry(3, table::at::LENGTH), u64::MAX));
    assert!(error.to_string().contains("not inside a file of 521"), "{error}");

    // A kind twice.
    let error = table_error(|bytes| put_u32(bytes, entry(3, table::at::KIND), 2));
    assert_eq!(error.to_string(), "corrupt table: section kind 2 occurs more than once");
}

#[test]
fn unknown_sections_are_skipped_only_if_they_say_so() {
    let error = table_error(|bytes| put_u32(bytes, entry(3, table::at::KIND), 999));
    assert!(matches!(error, OpenError::UnknownSection { kind: 999 }), "{error}");

    let mut bytes = small();
    put_u32(&mut bytes, entry(3, table::at::KIND), 999);
    put_u32(&mut bytes, entry(3, table::at::FLAGS), table::FLAG_SKIPPABLE);
    reseal(&mut bytes);
    let container = open(&bytes).unwrap();
    assert_eq!(container.sections()[3].name, "unknown");
    assert_eq!(container.sections()[3].kind, 999);
    assert!(container.optional(SectionKind::Ids).is_none());
    check(&container).unwrap();
    // What is skipped is still verified.
    bytes[515] ^= 1;
    let error = check(&open(&bytes).unwrap()).unwrap_err();
    assert!(matches!(error, OpenError::Checksum { what: "unknown", offset: 512, .. }), "{error}");
}

/// A header may not make opening allocate for sections that are not there.
#[test]
fn too_many_sections_are_an_error() {
    let error = table_error(|bytes| put_u32(bytes, header::at::SECTION_COUNT, u32::MAX));
    assert!(matches!(error, OpenError::Corrupt { what: "table", .. }), "{error}");
    let error = table_error(|bytes| put_u32(bytes, header::at::SECTION_COUNT, 1024));
    assert!(
        matches!(error, OpenError::Truncated { what: "table", expected: 41_092, found: 521 }),
        "{error}"
    );
}

#[test]
fn verification_can_be_stopped_and_tells_how_far_it_is() {
    let bytes = small();
    let container = open(&bytes).unwrap();
    let mut told = Vec::new();
    verify(&container, &mut |done, total| {
        told.push((done, total));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(told, [(325, 521), (400, 521), (521, 521), (521, 521)]);
    let result = verify(&container, &mut |_, _| ControlFlow::Break(()));
    assert!(matches!(result, Err(OpenError::Cancelled)));
}

#[test]
#[cfg(unix)]
fn a_mapped_file_that_was_shortened_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.nonius");
    save_bytes(&path, &small()).unwrap();
    let container = Container::open(&path, OpenMode::Map).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(300).unwrap();
    for error in [container.check_file().unwrap_err(), check(&container).unwrap_err()] {
        assert!(
            matches!(error, OpenError::Truncated { what: "file", expected: 521, found: 300 }),
            "{error}"
        );
    }
}

/// A mapped index may be saved over the file that it is mapped from.
#[test]
#[cfg(unix)]
fn a_mapped_file_can_be_replaced_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.nonius");
    let bytes = small();
    save_bytes(&path, &bytes).unwrap();
    let container = Container::open(&path, OpenMode::Map).unwrap();
    save_bytes(&path, container.bytes()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    check(&container).unwrap();
}

#[test]
fn files_that_are_none_are_refused_early() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    for mode in [OpenMode::Map, OpenMode::Read] {
        let error = Container::open(&path, mode).unwrap_err();
        assert!(matches!(error, OpenError::Io { .. }), "{error}");
        let error = Container::open(folder.path(), mode).unwrap_err();
        assert!(error.to_string().ends_with("not a regular file"), "{error}");
    }
    // Sparse, and much larger than any memory: must be refused without being read.
    let file = std::fs::File::create(&path).unwrap();
    if file.set_len(1 << 43).is_ok() {
        for mode in [OpenMode::Map, OpenMode::Read] {
            let error = Container::open(&path, mode).unwrap_err();
            assert!(matches!(error, OpenError::Magic { found } if found == [0; 8]), "{error}");
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Flip(usize, u8),
    Word(usize, u32),
    Long(usize, u64),
    Truncate(usize),
    Copy(usize, usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let long =
        prop_oneof![any::<u64>(), 0..1024u64, Just(u64::MAX), (0..64u64).prop_map(|i| 1 << i)];
    // Most changes go where the structure is.
    let place = prop_oneof![3 => 0..300usize, 1 => 0..600usize];
    prop_oneof![
        (place.clone(), 0..8u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (place.clone(), long.clone())
            .prop_map(|(at, value)| Change::Word(at / 4 * 4, value as u32)),
        (place.clone(), long).prop_map(|(at, value)| Change::Long(at / 8 * 8, value)),
        (0..600usize).prop_map(Change::Truncate),
        (place.clone(), place, 1..80usize).prop_map(|(from, to, len)| Change::Copy(from, to, len)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match *change {
        Change::Flip(at, bit) if at < bytes.len() => bytes[at] ^= 1 << bit,
        Change::Word(at, value) if at + 4 <= bytes.len() => put_u32(bytes, at, value),
        Change::Long(at, value) if at + 8 <= bytes.len() => put_u64(bytes, at, value),
        Change::Truncate(len) => bytes.truncate(len),
        Change::Copy(from, to, len) if from.max(to) + len <= bytes.len() => {
            bytes.copy_within(from..from + len, to);
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_mutation_does_harm(
        changes in prop::collection::vec(change(), 1..5),
        sealed in any::<bool>(),
        true_length in any::<bool>(),
    ) {
        let good = small();
        let mut bytes = good.clone();
        for change in &changes {
            apply(&mut bytes, change);
        }
        if sealed {
            if true_length && bytes.len() >= HEADER_LEN {
                let len = bytes.len() as u64;
                put_u64(&mut bytes, header::at::FILE_LEN, len);
            }
            reseal(&mut bytes);
        }
        let result = use_all(&bytes);
        if bytes == good {
            prop_assert!(result.is_ok());
        }
    }

    #[test]
    fn no_noise_does_harm(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = small();
        let start = bytes.len().min(12);
        let len = noise.len().min(bytes.len() - start);
        bytes[start..start + len].copy_from_slice(&noise[..len]);
        // Noise may happen to be what was there.
        prop_assert_eq!(use_all(&bytes).is_err(), bytes != small());
        prop_assert!(use_all(&noise).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_sections_come_back(
        sections in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..300), 6..=12u32),
            0..SectionKind::ALL.len(),
        ),
        first in 0..SectionKind::ALL.len(),
    ) {
        let sections: Vec<_> = sections
            .into_iter()
            .enumerate()
            .map(|(i, (body, bits))| {
                (SectionKind::ALL[(first + i * 5) % SectionKind::ALL.len()], body, 1 << bits)
            })
            .collect();
        let bytes = write(&sections);
        prop_assert!(use_all(&bytes).is_ok());
        let container = open(&bytes).unwrap();
        for (info, (kind, body, alignment)) in container.sections().iter().zip(&sections) {
            prop_assert_eq!(info.kind, kind.code());
            prop_assert_eq!(info.alignment, *alignment);
            prop_assert!(info.offset.is_multiple_of(u64::from(*alignment)));
            prop_assert_eq!(container.section(*kind).unwrap(), &body[..]);
        }
    }
}
