//! Parquet, Arrow and HDF5: files as other programs make them, round trips, damage.
#![cfg(all(feature = "parquet", feature = "arrow", feature = "hdf5"))]

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use nonius::{Matrix, Metric};
use nonius_datasets::{
    DatasetError, Element, VectorWriter, convert, declared_metric, exact_neighbors, load, open,
    read_ids, write_ann_benchmarks,
};

/// Each holds 7 rows of 3 values; `data/make.py` tells how it was made.
const FOREIGN: [(&str, Element); 13] = [
    ("list.parquet", Element::F32),
    ("fixed.parquet", Element::F32),
    ("half.parquet", Element::F16),
    ("double.parquet", Element::F64),
    ("two.parquet:w", Element::F32),
    ("lz4.feather", Element::F32),
    ("file.arrow", Element::F64),
    ("stream.arrow", Element::F16),
    ("bench.hdf5", Element::F32),
    ("kinds.hdf5:gzip", Element::F64),
    ("kinds.hdf5:half", Element::F16),
    ("kinds.hdf5:bytes", Element::U8),
    ("kinds.hdf5:group/inner", Element::F32),
];

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("data").join(name)
}

fn message(name: &str) -> String {
    match load(data(name)) {
        Ok(matrix) => panic!("{name}: {} rows were read", matrix.rows()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn files_of_other_programs_are_read() {
    let values: Vec<f32> = (0..21).map(|i| i as f32).collect();
    for (name, element) in FOREIGN {
        let file = open(data(name)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((file.rows(), file.dim(), file.element()), (7, 3, element), "{name}");
        assert_eq!(load(data(name)).unwrap().data(), values, "{name}");
        // Scattered rows, also across batches and row groups.
        let mut reader = file.reader().unwrap();
        for (start, count) in [(1, 1), (3, 2), (6, 1)] {
            let mut rows = vec![0.0; count * 3];
            reader.read(start, &mut rows).unwrap();
            assert_eq!(rows, values[start * 3..(start + count) * 3], "{name} from {start}");
        }
        assert!(reader.read(7, &mut [0.0; 3]).is_err());
        // Two passes side by side.
        let (mut one, mut two) = (file.reader().unwrap(), file.reader().unwrap());
        let (mut a, mut b) = ([0.0; 3], [0.0; 3]);
        for row in 0..7 {
            one.read(row, &mut a).unwrap();
            two.read(row, &mut b).unwrap();
            assert_eq!((a, a[2]), (b, (3 * row + 2) as f32), "{name}");
        }
    }
}

#[test]
fn files_that_are_not_read_say_why() {
    for (name, reason) in [
        ("zstd.parquet", "found ZSTD"),
        ("zstd.feather", "found ZSTD"),
        ("two.parquet", "several columns are lists of numbers"),
        ("two.parquet:x", "no column \"x\"; the file has id, v, w, text"),
        ("two.parquet:text", "column \"text\" of Utf8"),
        ("kinds.hdf5", "no dataset \"train\"; the file has"),
        ("kinds.hdf5:big", "little-endian"),
        ("kinds.hdf5:flat", "two dimensions"),
        ("kinds.hdf5:neighbors", "found I64"),
        ("kinds.hdf5:unwritten", "no data"),
        ("kinds.hdf5:group", "no dataset \"group\""),
        ("none.parquet", "No such file"),
        ("none.arrow", "No such file"),
        ("none.hdf5", "No such file"),
    ] {
        let found = message(name);
        assert!(found.contains(reason), "{name}: {found}");
    }
}

#[test]
fn an_ann_benchmarks_file_gives_all_its_parts() {
    let path = |name: &str| data(&format!("bench.hdf5:{name}"));
    assert_eq!(load(path("test")).unwrap().data(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(load(path("distances")).unwrap().row(0), [0.0, 27.0]);
    assert_eq!(read_ids(data("bench.hdf5")).unwrap().ids(), [0, 1, 1, 0]);
    assert_eq!(declared_metric(data("bench.hdf5")).unwrap(), Some(Metric::L2));
    // Ids of 64 bits in compressed chunks, and a file that declares nothing.
    assert_eq!(read_ids(data("kinds.hdf5")).unwrap().row(6), [18, 19, 20]);
    assert_eq!(declared_metric(data("kinds.hdf5")).unwrap(), None);
    assert!(read_ids(data("bench.hdf5:train")).is_err());
}

#[test]
fn an_ann_benchmarks_file_is_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.hdf5");
    let train = Matrix::new(2, (0..40).map(|i| (i * i % 17) as f32).collect()).unwrap();
    let test = Matrix::new(2, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let mut progress = |_, _| ControlFlow::Continue(());
    for metric in Metric::ALL {
        let truth = exact_neighbors(&train, test.view(), 4, metric, &mut progress).unwrap();
        write_ann_benchmarks(&path, train.view(), test.view(), &truth, metric).unwrap();
        assert_eq!(load(&path).unwrap(), train);
        assert_eq!(load(folder.path().join("x.hdf5:test")).unwrap(), test);
        assert_eq!(read_ids(&path).unwrap(), truth.ids);
        assert_eq!(declared_metric(&path).unwrap(), Some(metric));
        // As the harnesses have them, here for the nearest of (1, 2).
        let distances = load(folder.path().join("x.hdf5:distances")).unwrap();
        let nearest = train.row(truth.ids.row(0)[0] as usize);
        let (dot, norm) = (nearest[0] + 2.0 * nearest[1], nearest[0].hypot(nearest[1]));
        let expected = match metric {
            Metric::L2 => (nearest[0] - 1.0).hypot(nearest[1] - 2.0),
            Metric::InnerProduct => -dot,
            Metric::Cosine => 1.0 - dot / (norm * 5.0f32.sqrt()),
        };
        assert!((distances.row(0)[0] - expected).abs() < 1e-6, "{metric}");
    }
}

#[test]
fn written_files_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let elements =
        [Element::F32, Element::F16, Element::F64, Element::U8, Element::I8, Element::I32];
    // More than one batch: a block has 4,096 rows at most.
    let values: Vec<f32> = (0..9000 * 5).map(|i| (i % 128) as f32).collect();
    for element in elements {
        for name in ["x.parquet", "x.arrow", "x.feather:embedding"] {
            let path = folder.path().join(name);
            let mut writer = VectorWriter::create(&path, 5, element).unwrap();
            writer.write_rows(&values[..35]).unwrap();
            writer.write_rows(&values[35..]).unwrap();
            assert_eq!(writer.finish().unwrap(), 9000);
            let file = open(&path).unwrap();
            assert_eq!((file.rows(), file.dim(), file.element()), (9000, 5, element));
            assert_eq!(load(&path).unwrap().data(), values, "{name} {element}");
        }
    }
    let go = &mut |_, _| ControlFlow::Continue(());
    let at = |name: &str| folder.path().join(name);
    convert(at("x.parquet"), at("y.ivecs"), go).unwrap();
    convert(data("bench.hdf5"), at("z.parquet"), go).unwrap();
    convert(at("z.parquet"), at("z.fbin"), go).unwrap();
    assert_eq!(load(at("y.ivecs")).unwrap().data(), values);
    assert_eq!(load(at("z.fbin")).unwrap(), load(data("bench.hdf5")).unwrap());
    let refused = convert(at("z.fbin"), at("z.h5"), go).unwrap_err().to_string();
    assert!(refused.contains("only read"), "{refused}");
    // An unfinished file leaves nothing, under any name.
    let files = fs::read_dir(folder.path()).unwrap().count();
    for name in ["new.parquet", "new.arrow"] {
        let mut writer = VectorWriter::create(at(name), 5, Element::F32).unwrap();
        writer.write_rows(&values).unwrap();
        drop(writer);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), files);
}

#[test]
fn empty_files_have_a_dimension_if_their_type_has_one() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["x.parquet", "x.arrow"] {
        let path = folder.path().join(name);
        VectorWriter::create(&path, 5, Element::F32).unwrap().finish().unwrap();
        let file = open(&path).unwrap();
        assert_eq!((file.rows(), file.dim()), (0, 5));
        assert_eq!(load(&path).unwrap().rows(), 0);
    }
}

/// Every file, cut off at every byte and with every byte changed, is read or refused.
#[test]
fn damaged_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    for (name, _) in FOREIGN {
        let (file, member) = name.split_once(':').unwrap_or((name, ""));
        let bytes = fs::read(data(file)).unwrap();
        let path = folder.path().join(file);
        let spelled = match member {
            "" => path.clone(),
            _ => folder.path().join(name),
        };
        // The larger files are mostly padding; steps keep the test short.
        let step = (bytes.len() / 250).max(1);
        for position in (0..bytes.len()).step_by(step) {
            for mask in [0x01, 0xff] {
                let mut changed = bytes.clone();
                changed[position] ^= mask;
                overwrite(&path, &changed);
                let _ = load(&spelled);
                if file.ends_with("hdf5") {
                    let _ = declared_metric(&path);
                }
            }
        }
        overwrite(&path, &bytes);
        let handle = fs::OpenOptions::new().write(true).open(&path).unwrap();
        for length in (0..bytes.len()).rev().step_by(step) {
            handle.set_len(length as u64).unwrap();
            match load(&spelled) {
                // Streams may end after any batch; HDF5 may end in unused space.
                Ok(matrix) => assert!(matrix.rows() <= 7, "{name} cut to {length}"),
                Err(DatasetError::Io { source, .. }) => panic!("{name} cut to {length}: {source}"),
                Err(_) => {}
            }
        }
    }
}

/// Writes a file that keeps its length. Some file systems take milliseconds to write one anew.
fn overwrite(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    let options = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path);
    options.unwrap().write_all(bytes).unwrap();
}
