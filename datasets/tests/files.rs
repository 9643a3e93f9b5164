//! Files of every format at a fixed stride: round trips, damage, hostile headers.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use nonius_datasets::{
    DatasetError, Element, IdMatrix, NO_ID, VectorWriter, convert, load, open, read_ids,
    write_ivecs,
};
use proptest::prelude::*;
use tempfile::TempDir;

/// Every format and element that can be written.
const WRITABLE: [(&str, Element); 12] = [
    ("fvecs", Element::F32),
    ("bvecs", Element::U8),
    ("ivecs", Element::I32),
    ("fbin", Element::F32),
    ("u8bin", Element::U8),
    ("i8bin", Element::I8),
    ("ibin", Element::I32),
    ("npy", Element::F32),
    ("npy", Element::F16),
    ("npy", Element::F64),
    ("npy", Element::U8),
    ("npy", Element::I8),
];

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn write(path: &Path, dim: usize, element: Element, values: &[f32]) {
    let mut writer = VectorWriter::create(path, dim, element).unwrap();
    writer.write_rows(values).unwrap();
    assert_eq!(writer.finish().unwrap(), (values.len() / dim) as u64);
}

fn write_bytes(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn vecs(rows: &[&[f32]]) -> Vec<u8> {
    rows.iter()
        .flat_map(|row| {
            let values = row.iter().flat_map(|x| x.to_le_bytes());
            (row.len() as i32).to_le_bytes().into_iter().chain(values).collect::<Vec<u8>>()
        })
        .collect()
}

fn bin(rows: u32, dim: u32, body: &[u8]) -> Vec<u8> {
    [&rows.to_le_bytes()[..], &dim.to_le_bytes(), body].concat()
}

fn npy(version: u8, text: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend((text.len() as u16).to_le_bytes()),
        _ => bytes.extend((text.len() as u32).to_le_bytes()),
    }
    bytes.extend(text.as_bytes());
    bytes.extend(body);
    bytes
}

fn npy_text(descr: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n")
}

fn error_of(path: impl AsRef<Path>) -> DatasetError {
    match load(path) {
        Ok(matrix) => panic!("{} rows were read", matrix.rows()),
        Err(error) => error,
    }
}

/// Small integers, which every element holds.
fn small_sets() -> impl Strategy<Value = (usize, Vec<f32>)> {
    (1usize..40, 0usize..30, any::<u64>()).prop_map(|(dim, rows, seed)| {
        let mut random = nonius::random::Random::new(seed, 0);
        (dim, (0..rows * dim).map(|_| random.below(128) as f32).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn round_trips((dim, values) in small_sets(), cuts in prop::collection::vec(0usize..30, 0..4)) {
        let folder = folder();
        for (extension, element) in WRITABLE {
            let path = folder.path().join(format!("x.{extension}"));
            let mut writer = VectorWriter::create(&path, dim, element).unwrap();
            // However the rows are cut into calls.
            let mut rest = &values[..];
            for cut in &cuts {
                let (now, later) = rest.split_at((cut * dim).min(rest.len()));
                writer.write_rows(now).unwrap();
                rest = later;
            }
            writer.write_rows(rest).unwrap();
            writer.finish().unwrap();
            if values.is_empty() && extension.ends_with("vecs") {
                // Without a row there is no dimension.
                let wrong_header = matches!(open(&path), Err(DatasetError::Header { .. }));
                prop_assert!(wrong_header);
                continue;
            }
            let file = open(&path).unwrap();
            prop_assert_eq!((file.rows(), file.dim()), (values.len() / dim, dim));
            prop_assert_eq!(file.element(), element);
            prop_assert_eq!(file.path(), path.as_path());
            let matrix = load(&path).unwrap();
            prop_assert_eq!(matrix.data(), &values[..]);
        }
    }

    #[test]
    fn floats_survive_with_all_their_bits(values in prop::collection::vec(-1e30f32..1e30, 1..60)) {
        let folder = folder();
        for name in ["x.fvecs", "x.fbin", "x.npy"] {
            let path = folder.path().join(name);
            write(&path, 1, Element::F32, &values);
            let matrix = load(&path).unwrap();
            prop_assert_eq!(matrix.data(), &values[..]);
        }
    }

    #[test]
    fn scattered_reads_are_the_rows(
        (dim, values) in small_sets(),
        mut starts in prop::collection::vec((0usize..30, 0usize..5), 1..10),
    ) {
        let folder = folder();
        let rows = values.len() / dim;
        prop_assume!(rows > 0);
        starts.sort();
        for (extension, element) in WRITABLE {
            let path = folder.path().join(format!("x.{extension}"));
            write(&path, dim, element, &values);
            let file = open(&path).unwrap();
            let mut reader = file.reader().unwrap();
            let mut end = 0;
            for &(start, count) in &starts {
                let start = start.max(end).min(rows);
                let count = count.min(rows - start);
                let mut block = vec![-1.0; count * dim];
                reader.read(start, &mut block).unwrap();
                prop_assert_eq!(&block[..], &values[start * dim..(start + count) * dim]);
                end = start + count;
            }
            prop_assert!(reader.read(rows, &mut vec![0.0; dim]).is_err());
        }
    }

    /// Whatever the bytes, there is an answer, and memory follows the file.
    #[test]
    fn arbitrary_bytes_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..80),
        kind in 0usize..8,
    ) {
        let folder = folder();
        let extensions = ["fvecs", "bvecs", "ivecs", "fbin", "u8bin", "i8bin", "ibin", "npy"];
        if extensions[kind] == "npy" {
            bytes.splice(0..0, *b"\x93NUMPY\x01\x00\x40\x00");
        }
        let path = write_bytes(&folder, &format!("x.{}", extensions[kind]), &bytes);
        if let Ok(matrix) = load(&path) {
            prop_assert!(matrix.data().len() <= bytes.len());
        }
        let _ = read_ids(&path);
    }
}

#[test]
fn files_larger_than_a_window_are_read_across_its_seams() {
    let folder = folder();
    let path = folder.path().join("x.fvecs");
    // 700 rows of 4 KiB: three windows.
    let values: Vec<f32> = (0..700 * 1023).map(|i| i as f32).collect();
    write(&path, 1023, Element::F32, &values);
    let file = open(&path).unwrap();
    let mut reader = file.reader().unwrap();
    let mut row = vec![0.0; 1023];
    for i in 0..700 {
        reader.read(i, &mut row).unwrap();
        assert_eq!(row, values[i * 1023..(i + 1) * 1023]);
    }
    assert_eq!(load(&path).unwrap().data(), values);
}

#[test]
fn readers_of_one_file_do_not_disturb_each_other() {
    let folder = folder();
    let path = folder.path().join("x.fbin");
    let values: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    write(&path, 1, Element::F32, &values);
    let file = open(&path).unwrap();
    let (mut one, mut two) = (file.reader().unwrap(), file.reader().unwrap());
    let mut block = vec![0.0; 10];
    for i in 0..50 {
        one.read(i * 10, &mut block).unwrap();
        assert_eq!(block[0], (i * 10) as f32);
        two.read(i * 20, &mut block).unwrap();
        assert_eq!(block[9], (i * 20 + 9) as f32);
    }
}

#[test]
fn a_file_cut_off_anywhere_is_an_error() {
    let folder = folder();
    let values: Vec<f32> = (0..15).map(|i| i as f32).collect();
    for (extension, element) in WRITABLE {
        let path = folder.path().join(format!("x.{extension}"));
        write(&path, 5, element, &values);
        let bytes = fs::read(&path).unwrap();
        let stride = 4 + 5 * element.bytes();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            let whole_rows = extension.ends_with("vecs") && length > 0 && length % stride == 0;
            // These formats do not say how many rows there should be.
            if whole_rows {
                assert_eq!(load(&path).unwrap().rows(), length / stride);
                continue;
            }
            match error_of(&path) {
                DatasetError::Length { expected, found, .. } => {
                    assert_eq!(found, length as u64);
                    assert!(expected > found);
                }
                DatasetError::Header { .. } => assert!(length < 128),
                other => panic!("{extension} cut to {length}: {other}"),
            }
        }
        // One byte too many is as wrong.
        fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
        assert!(matches!(error_of(&path), DatasetError::Length { .. }), "{extension}");
    }
}

#[test]
fn messages_name_the_file_and_both_sizes() {
    let folder = folder();
    let path = write_bytes(&folder, "x.fbin", &bin(3, 2, &[0; 20]));
    let message = error_of(&path).to_string();
    assert_eq!(message, format!("{}: truncated: expected 32 bytes, found 28", path.display()));
}

#[test]
fn rows_of_different_lengths_are_named() {
    let folder = folder();
    let rows: [&[f32]; 4] = [&[1.0, 2.0], &[3.0, 4.0], &[5.0, 6.0, 7.0], &[8.0, 9.0]];
    let path = write_bytes(&folder, "x.fvecs", &vecs(&rows));
    let expect = |error: DatasetError, at: usize, length: i64| match error {
        DatasetError::Ragged { row, expected: 2, found, .. } => {
            assert_eq!((row, found), (at, length));
        }
        other => panic!("{other}"),
    };
    expect(error_of(&path), 2, 3);
    // The same where the length of the file does not give it away: 1 + 3 values for 2 + 2.
    let rows: [&[f32]; 3] = [&[1.0, 2.0], &[3.0], &[5.0, 6.0, 7.0]];
    let path = write_bytes(&folder, "x.fvecs", &vecs(&rows));
    assert!(open(&path).is_ok());
    expect(error_of(&path), 1, 1);
    assert!(matches!(read_ids(path.with_extension("ivecs")), Err(DatasetError::Io { .. })));
}

#[test]
fn not_a_number_and_infinity_are_named() {
    let folder = folder();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let rows: [&[f32]; 3] = [&[0.0; 3], &[0.0; 3], &[0.0, value, 0.0]];
        let flat: Vec<u8> = rows.concat().iter().flat_map(|x| x.to_le_bytes()).collect();
        let halves: Vec<u8> =
            rows.concat().iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
        for path in [
            write_bytes(&folder, "a.fvecs", &vecs(&rows)),
            write_bytes(&folder, "b.fbin", &bin(3, 3, &flat)),
            write_bytes(&folder, "c.npy", &npy(1, &npy_text("<f4", "(3, 3)"), &flat)),
            write_bytes(&folder, "d.npy", &npy(1, &npy_text("<f2", "(3, 3)"), &halves)),
        ] {
            // The rows before it are fine.
            open(&path).unwrap().reader().unwrap().read(0, &mut [0.0; 6]).unwrap();
            match error_of(&path) {
                DatasetError::NonFinite { row: 2, column: 1, value: found, .. } => {
                    assert_eq!(found.to_string(), value.to_string());
                }
                other => panic!("{other}"),
            }
            // The library reports the same text when it reads the file.
            let error = open(&path).unwrap().reader().unwrap().read(2, &mut [0.0; 3]).unwrap_err();
            assert!(error.to_string().contains("row 2, column 1"), "{error}");
        }
    }
}

#[test]
fn hostile_headers_claim_no_memory() {
    let folder = folder();
    let max = i32::MAX.to_le_bytes();
    for (name, bytes) in [
        ("x.fvecs", [&max[..], &[0; 60]].concat()),
        ("x.fvecs", [&(-1i32).to_le_bytes()[..], &[0; 60]].concat()),
        ("x.fvecs", vec![0; 64]),
        ("x.bvecs", [&max[..], &[0; 60]].concat()),
        ("x.fbin", bin(u32::MAX, u32::MAX, &[0; 64])),
        ("x.fbin", bin(u32::MAX, 60_000, &[0; 64])),
        ("x.fbin", bin(u32::MAX, 0, &[])),
        ("x.u8bin", bin(0, 0, &[])),
        ("x.npy", npy(1, &npy_text("<f4", "(4611686018427387904, 4)"), &[])),
        ("x.npy", npy(1, &npy_text("<f4", "(18446744073709551615, 65536)"), &[])),
        ("x.npy", npy(1, &npy_text("<f4", "(18446744073709551615, 0)"), &[])),
        ("x.npy", npy(1, &npy_text("<f8", "(2305843009213693952, 1)"), &[])),
        ("x.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}".to_vec()),
        ("x.npy", b"\x93NUMPY\x01\x00\xff\xff{}".to_vec()),
        ("x.npy", b"\x93NUMPY\x09\x00\x02\x00{}".to_vec()),
        ("x.npy", b"\x93NUMPZ\x01\x00\x02\x00{}aa".to_vec()),
    ] {
        let path = write_bytes(&folder, name, &bytes);
        assert!(open(&path).is_err(), "{name} {bytes:02x?}");
    }
    for (name, bytes) in [
        ("x.ivecs", [&max[..], &[0; 60]].concat()),
        ("x.ivecs", vec![0; 64]),
        ("x.ibin", bin(u32::MAX, u32::MAX, &[0; 64])),
        ("x.ibin", bin(u32::MAX, 0, &[])),
        ("x.npy", npy(1, &npy_text("<i8", "(18446744073709551615, 0)"), &[])),
        ("x.npy", npy(1, &npy_text("<i8", "(2305843009213693952, 1)"), &[])),
    ] {
        let path = write_bytes(&folder, name, &bytes);
        assert!(read_ids(&path).is_err(), "{name} {bytes:02x?}");
    }
}

#[test]
fn numpy_arrays_of_other_kinds_are_refused_with_a_reason() {
    let folder = folder();
    let fortran = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }";
    for (text, reason) in [
        (fortran.to_owned(), "Fortran order"),
        (npy_text(">f4", "(2, 2)"), "big-endian"),
        (npy_text("<f4", "(4,)"), "shape [4]"),
        (npy_text("<f4", "(2, 2, 1)"), "shape [2, 2, 1]"),
        (npy_text("<c8", "(2, 1)"), "c8"),
        (npy_text("|O", "(2, 2)"), "|O"),
        (npy_text("<U4", "(2, 2)"), "U4"),
        ("{'descr': [('x', '<f4')], }".to_owned(), "expected a dictionary"),
    ] {
        let path = write_bytes(&folder, "x.npy", &npy(1, &text, &[0; 16]));
        let message = error_of(&path).to_string();
        assert!(message.contains(reason), "{text}: {message}");
    }
    for version in [1, 2, 3] {
        let bytes = npy(version, &npy_text("|i1", "(1, 3)"), &[1, 255, 128]);
        let path = write_bytes(&folder, "x.npy", &bytes);
        assert_eq!(load(&path).unwrap().data(), [1.0, -1.0, -128.0]);
    }
}

#[test]
fn unknown_names_are_explained() {
    for name in ["x.csv", "x", "x.npy:train"] {
        let message = open(name).err().unwrap().to_string();
        assert!(message.contains(".fvecs") && message.contains(".parquet"), "{message}");
    }
    let folder = folder();
    assert!(matches!(open(folder.path().join("none.npy")), Err(DatasetError::Io { .. })));
    let inner = folder.path().join("folder.npy");
    fs::create_dir(&inner).unwrap();
    assert!(matches!(open(inner), Err(DatasetError::Io { .. })));
}

#[test]
fn values_that_do_not_fit_are_named_by_their_place_in_the_file() {
    let folder = folder();
    for (name, element, value) in [
        ("x.bvecs", Element::U8, 256.0),
        ("x.u8bin", Element::U8, -1.0),
        ("x.i8bin", Element::I8, 128.0),
        ("x.ivecs", Element::I32, 0.5),
        ("x.npy", Element::F16, 1e6),
    ] {
        let path = folder.path().join(name);
        let mut writer = VectorWriter::create(&path, 2, element).unwrap();
        writer.write_rows(&[1.0, 2.0]).unwrap();
        match writer.write_rows(&[3.0, 4.0, 5.0, value]) {
            Err(DatasetError::DoesNotFit { row: 2, column: 1, value: found, .. }) => {
                assert_eq!(found, f64::from(value));
            }
            other => panic!("{other:?}"),
        }
    }
    let mut writer = VectorWriter::create(folder.path().join("x.npy"), 1, Element::F32).unwrap();
    let error = writer.write_rows(&[0.0, f32::NAN]).unwrap_err();
    assert!(matches!(error, DatasetError::NonFinite { row: 1, column: 0, .. }));
}

#[test]
fn unfinished_files_leave_nothing_behind() {
    let folder = folder();
    let path = folder.path().join("x.npy");
    fs::write(&path, b"old").unwrap();
    let mut writer = VectorWriter::create(&path, 1, Element::F32).unwrap();
    writer.write_rows(&[1.0]).unwrap();
    drop(writer);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    write(&path, 1, Element::F32, &[1.0]);
    assert_eq!(load(&path).unwrap().data(), [1.0]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn writers_refuse_what_the_format_cannot_hold() {
    let folder = folder();
    let refused = |name: &str, dim, element| {
        VectorWriter::create(folder.path().join(name), dim, element).err().unwrap().to_string()
    };
    assert!(refused("x.fvecs", 2, Element::U8).contains("expected values of type f32"));
    assert!(refused("x.fvecs", 0, Element::F32).contains("dimension 0"));
    assert!(refused("x.npy", 65_537, Element::F32).contains("dimension 65537"));
    assert!(refused("x.txt", 2, Element::F32).contains("unknown format"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn conversions_keep_values_and_ids() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let go = &mut |_, _| ControlFlow::Continue(());
    let values: Vec<f32> = (0..600).map(|i| (i % 128) as f32).collect();
    write(&at("a.npy"), 6, Element::F16, &values);
    let mut from = at("a.npy");
    for name in ["b.fvecs", "c.u8bin", "d.bvecs", "e.npy", "f.i8bin", "g.ivecs", "h.fbin"] {
        assert_eq!(convert(&from, at(name), go).unwrap(), 100);
        from = at(name);
        assert_eq!(load(&from).unwrap().data(), values, "{name}");
    }
    assert_eq!(open(at("e.npy")).unwrap().element(), Element::U8);

    // Ids that are no f32.
    let ids = IdMatrix::new(2, vec![16_777_217, 3, NO_ID, 2_147_483_647]);
    write_ivecs(at("i.ivecs"), &ids).unwrap();
    convert(at("i.ivecs"), at("j.ibin"), go).unwrap();
    convert(at("j.ibin"), at("k.npy"), go).unwrap();
    convert(at("k.npy"), at("l.ivecs"), go).unwrap();
    assert_eq!(fs::read(at("i.ivecs")).unwrap(), fs::read(at("l.ivecs")).unwrap());
    let error = convert(at("i.ivecs"), at("m.fvecs"), go).unwrap_err();
    assert!(matches!(error, DatasetError::DoesNotFit { row: 0, column: 0, .. }), "{error}");

    let error = convert(at("a.npy"), at("n.fvecs"), &mut |_, _| ControlFlow::Break(()));
    assert!(matches!(error, Err(DatasetError::Cancelled)));
    assert!(!at("n.fvecs").exists());
}

#[test]
fn ids_are_read_from_every_integer_format() {
    let folder = folder();
    let expected = IdMatrix::new(3, vec![7, 0, NO_ID, 2_147_483_647, 5, 6]);
    let ids: [i32; 6] = [7, 0, -1, i32::MAX, 5, 6];
    let four: Vec<u8> = ids.iter().flat_map(|x| x.to_le_bytes()).collect();
    let eight: Vec<u8> = ids.iter().flat_map(|&x| i64::from(x).to_le_bytes()).collect();
    let distances: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let path = folder.path().join("x.ivecs");
    write_ivecs(&path, &expected).unwrap();
    assert_eq!(read_ids(&path).unwrap(), expected);
    for (name, bytes) in [
        ("a.ibin", bin(2, 3, &four)),
        ("b.ibin", bin(2, 3, &[four.clone(), distances].concat())),
        ("c.npy", npy(1, &npy_text("<i4", "(2, 3)"), &four)),
        ("d.npy", npy(1, &npy_text("<i8", "(2, 3)"), &eight)),
    ] {
        let path = write_bytes(&folder, name, &bytes);
        assert_eq!(read_ids(&path).unwrap(), expected, "{name}");
    }
    // Unsigned types have no -1.
    let wide: Vec<u8> = [1u64, 1 << 40].iter().flat_map(|x| x.to_le_bytes()).collect();
    let path = write_bytes(&folder, "e.npy", &npy(1, &npy_text("<u8", "(1, 2)"), &wide));
    assert_eq!(read_ids(&path).unwrap().row(0), [1, 1 << 40]);
    let path = write_bytes(&folder, "f.npy", &npy(1, &npy_text("<u4", "(1, 2)"), &[255; 8]));
    assert_eq!(read_ids(&path).unwrap().row(0), [4_294_967_295, 4_294_967_295]);
}

#[test]
fn numbers_that_are_no_ids_are_named() {
    let folder = folder();
    let bad: Vec<u8> = [1i32, 2, 3, -2].iter().flat_map(|x| x.to_le_bytes()).collect();
    let path = write_bytes(&folder, "x.ibin", &bin(2, 2, &bad));
    let error = read_ids(&path).unwrap_err();
    assert!(matches!(error, DatasetError::Id { row: 1, column: 1, value: -2, .. }), "{error}");
    let path = folder.path().join("x.ivecs");
    let error = write_ivecs(&path, &IdMatrix::new(1, vec![0, 1 << 31])).unwrap_err();
    assert!(matches!(error, DatasetError::Id { row: 1, column: 0, .. }), "{error}");
    assert!(!path.exists());
    let message = read_ids("x.fvecs").unwrap_err().to_string();
    assert!(message.contains("ids as .ivecs"), "{message}");
}

#[test]
fn mapped_files_read_as_others_do() {
    let folder = folder();
    let values: Vec<f32> = (0..60).map(|i| i as f32).collect();
    for name in ["a.fvecs", "a.fbin", "a.npy"] {
        let path = folder.path().join(name);
        write(&path, 6, Element::F32, &values);
        let mapped = nonius_datasets::map(&path).unwrap();
        assert_eq!((mapped.rows(), mapped.dim()), (10, 6));
        let mut reader = mapped.reader().unwrap();
        let mut rows = vec![0.0; 18];
        reader.read(2, &mut rows).unwrap();
        assert_eq!(rows, values[12..30]);
        reader.read(7, &mut rows).unwrap();
        assert_eq!(rows, values[42..60]);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(nonius_datasets::map(&path).is_err(), "{name} cut short");
    }
    assert!(nonius_datasets::map(folder.path().join("none.fbin")).is_err());
}

#[test]
fn flat_arrays_of_ids_have_one_id_a_row() {
    let folder = folder();
    let body: Vec<u8> = [7i64, 1, 1 << 40].iter().flat_map(|id| id.to_le_bytes()).collect();
    let text = "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }";
    let path = write_bytes(&folder, "ids.npy", &npy(1, text, &body));
    let ids = nonius_datasets::read_ids(&path).unwrap();
    assert_eq!((ids.rows(), ids.k(), ids.ids()), (3, 1, &[7u64, 1, 1 << 40][..]));
    // Vectors of one dimension would be ambiguous.
    assert!(nonius_datasets::open(&path).is_err());
}

#[cfg(not(any(feature = "hdf5", feature = "parquet", feature = "arrow")))]
#[test]
fn formats_that_are_not_built_in_say_so() {
    for (name, feature) in [("x.h5:test", "hdf5"), ("x.parquet", "parquet"), ("x.arrow", "arrow")] {
        let message = open(name).err().unwrap().to_string();
        assert!(message.ends_with(&format!("without the feature {feature}")), "{message}");
    }
    assert!(matches!(read_ids("x.h5"), Err(DatasetError::MissingFeature { .. })));
}
