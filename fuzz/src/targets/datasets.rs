//! Files of vectors and of ids, in every format whose rows lie at a fixed stride.

use std::cell::OnceCell;
use std::fs;
use std::path::PathBuf;

use nonius::SourceError;
use nonius_datasets::{Element, IdMatrix, VectorWriter, load, map, open, read_ids, write_ivecs};
use tempfile::TempDir;

use super::{Memory, Target};
use crate::input::Input;
use crate::{mutate, note};

/// See [`run`].
pub const TARGET: Target = Target {
    name: "datasets",
    about: "files of vectors and ids: opening, reading, mapping",
    run,
    seeds,
    mutate: |data, random, others| mutate::bytes(data, random, WORDS, others),
    // Bytes become floats of four, in a vector that doubles; and readers have a window of 1 MiB.
    memory: Memory { times: 16, bytes: 4 << 20 },
};

/// The extensions; the first byte of an input chooses. Containers (HDF5, Parquet, Arrow) are left out: how
/// much memory their decoders take is not for this repository to promise.
const EXTENSIONS: [&str; 8] = ["fvecs", "bvecs", "ivecs", "fbin", "u8bin", "i8bin", "ibin", "npy"];

const WORDS: &[&[u8]] = &[
    b"\x93NUMPY\x01\x00",
    b"\x93NUMPY\x02\x00",
    b"\x93NUMPY\x03\x00",
    b"'descr': '<f4'",
    b"'<f2'",
    b"'<f8'",
    b"'>f4'",
    b"'|u1'",
    b"'|i1'",
    b"'<i4'",
    b"'<i8'",
    b"'<u8'",
    b"'fortran_order': True",
    b"'fortran_order': False",
    b"'shape': (",
    b"(3, 2)",
    b"(6,)",
    b"()",
    b", ",
    b"}",
    b"{",
    b"18446744073709551615",
    b"9223372036854775807",
    b"4294967296",
    b"-1",
    b"0",
    b"\x00\x00\x80\x7f",
    b"\x00\x00\xc0\x7f",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x80",
    b"\x01\x00\x01\x00",
];

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

/// A file in a folder of this thread.
fn path(name: &str) -> PathBuf {
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| {
            tempfile::Builder::new().prefix("nonius-fuzz-").tempdir().expect("a folder")
        });
        folder.path().join(name)
    })
}

fn seeds() -> Vec<Vec<u8>> {
    let values = [1.0, -2.0, 3.0, 4.0, 50.0, -6.0];
    let mut seeds = Vec::new();
    let mut add = |extension: &str, bytes: &[u8]| {
        let number = EXTENSIONS.iter().position(|known| *known == extension);
        let first = number.expect("a known extension") as u8;
        seeds.push([&[first], bytes].concat());
    };
    for (extension, element) in [
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
    ] {
        let path = path(&format!("seed.{extension}"));
        let mut writer = VectorWriter::create(&path, 2, element).expect("a file is created");
        let signed = !matches!(element, Element::U8);
        let values = values.map(|x: f32| if signed { x } else { x.abs() });
        writer.write_rows(&values).expect("rows are written");
        writer.finish().expect("the file is written");
        add(extension, &fs::read(&path).expect("it is read again"));
    }
    let ids = path("seed.ivecs");
    write_ivecs(&ids, &IdMatrix::new(3, vec![5, 0, 7, 2, u64::MAX, 1])).expect("ids are written");
    add("ivecs", &fs::read(&ids).expect("they are read again"));
    for (kind, bytes) in [("<i4", 4), ("<u4", 4), ("<i8", 8), ("<u8", 8)] {
        let mut file = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        file.extend(
            format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': (2, 3), }}").bytes(),
        );
        file.resize(127, b' ');
        file.push(b'\n');
        for id in [5u64, 0, 7, 2, 1 << 20, 1] {
            file.extend(&id.to_le_bytes()[..bytes]);
        }
        add("npy", &file);
    }
    seeds
}

/// Reads the bytes as a file of one of the formats, in every way: by blocks, mapped, whole, as ids.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let extension = input.choose(&EXTENSIONS);
    let bytes = input.rest();
    let path = path(&format!("input.{extension}"));
    fs::write(&path, bytes).expect("the file is written");

    let read = read_all(open(&path).map_err(|error| error.to_string()), bytes.len());
    let mapped = read_all(map(&path).map_err(|error| error.to_string()), bytes.len());
    assert_eq!(read, mapped, "{extension}: mapped and read differ");
    match load(&path) {
        Ok(matrix) => {
            assert!(matrix.data().iter().all(|x| x.is_finite()), "{extension}");
            let bits: Vec<u32> = matrix.data().iter().map(|x| x.to_bits()).collect();
            assert_eq!(read, Ok((matrix.rows(), matrix.dim(), bits)), "{extension}");
            note(format_args!("{extension} is read"));
        }
        Err(error) => {
            let text = error.to_string();
            // The path is among it, and what was found.
            assert!(!text.is_empty() && text.len() < 1000 + 8 * bytes.len(), "{text}");
            note(format_args!("{extension}{}", behaviour(&text)));
        }
    }
    match read_ids(&path) {
        Ok(ids) => {
            assert_eq!(ids.ids().len(), ids.rows() * ids.k(), "{extension}");
            note(format_args!("{extension} ids are read"));
        }
        Err(error) => note(format_args!("{extension} ids{}", behaviour(&error.to_string()))),
    }
}

/// An error without what it quotes: neither the path, which it begins with, nor what was found.
fn behaviour(text: &str) -> &str {
    let start = text.find(": ").unwrap_or(0);
    let end = text.find("found").unwrap_or(text.len()).max(start);
    &text[start..end]
}

/// Rows, dimension and the bits of all values.
type Whole = (usize, usize, Vec<u32>);

/// All values of a file, or the first error's text.
fn read_all(
    file: Result<Box<dyn nonius_datasets::VectorFile>, String>,
    length: usize,
) -> Result<Whole, String> {
    let file = file?;
    let text = |error: SourceError| error.to_string();
    let (rows, dim) = (file.rows(), file.dim());
    assert!(dim > 0, "rows of no values");
    let values = rows.checked_mul(dim);
    assert!(values.is_some_and(|values| values <= length), "{rows} x {dim} in {length} bytes");
    let mut reader = file.reader().map_err(text)?;
    let block = ((1 << 16) / dim).max(1);
    let (mut bits, mut start) = (Vec::new(), 0);
    while start < rows {
        let count = block.min(rows - start);
        let mut values = vec![f32::NAN; count * dim];
        reader.read(start, &mut values).map_err(text)?;
        assert!(values.iter().all(|x| x.is_finite()), "a value that is not finite came out");
        bits.extend(values.iter().map(|x| x.to_bits()));
        start += count;
    }
    Ok((rows, dim, bits))
}
