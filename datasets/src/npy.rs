//! NumPy's npy, versions 1 to 3: a magic, a header that is a Python dictionary, the values.

use std::fs::File;
use std::path::Path;

use crate::element::Element;
use crate::error::{DatasetError, check_dim};
use crate::strided::{Strided, StridedFile, open_file, read_exact_at};

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// The longest header that is read; those of plain arrays have 118 bytes.
const MAX_HEADER: u32 = 1 << 16;

/// A two-dimensional array in C order.
pub(crate) struct Array {
    pub(crate) file: File,
    pub(crate) file_bytes: u64,
    /// NumPy's name of the type, without the byte order: `f4`, `u1`, `i8`, ...
    pub(crate) kind: String,
    pub(crate) rows: u64,
    pub(crate) dim: u64,
    /// Where the values start.
    pub(crate) data: u64,
}

/// Opens a file and reads its header.
/// With `flat`, an array of one dimension counts as one column.
pub(crate) fn read_header(path: &Path, flat: bool) -> Result<Array, DatasetError> {
    let (file, file_bytes) = open_file(path)?;
    let truncated =
        |expected: u64| DatasetError::Length { path: path.to_owned(), expected, found: file_bytes };
    let mut start = [0; 12];
    let available = file_bytes.min(start.len() as u64) as usize;
    read_exact_at(&file, &mut start[..available], 0).map_err(DatasetError::io(path))?;
    if available < 6 || &start[..6] != MAGIC {
        return Err(DatasetError::header(
            path,
            "the magic bytes of npy, 93 4e 55 4d 50 59",
            format!("{:02x?}", &start[..available.min(6)]),
        ));
    }
    if file_bytes < 12 {
        return Err(truncated(12));
    }
    let (length, text_start) = match start[6] {
        1 => (u32::from(u16::from_le_bytes([start[8], start[9]])), 10),
        2 | 3 => (u32::from_le_bytes([start[8], start[9], start[10], start[11]]), 12),
        other => {
            let found = format!("version {other}");
            return Err(DatasetError::header(path, "npy version 1, 2 or 3", found));
        }
    };
    if length > MAX_HEADER {
        let expected = format!("a header of at most {MAX_HEADER} bytes");
        return Err(DatasetError::header(path, expected, format!("one of {length}")));
    }
    let data = text_start + u64::from(length);
    if file_bytes < data {
        return Err(truncated(data));
    }
    let mut text = vec![0; length as usize];
    read_exact_at(&file, &mut text, text_start).map_err(DatasetError::io(path))?;
    let text = String::from_utf8_lossy(&text);
    let fields = parse(&text).ok_or_else(|| {
        DatasetError::header(
            path,
            "a dictionary with 'descr', 'fortran_order' and 'shape'",
            format!("{:?}", text.trim_end().chars().take(200).collect::<String>()),
        )
    })?;
    if fields.fortran_order {
        return Err(DatasetError::unsupported(path, "rows in C order", "Fortran order"));
    }
    let (rows, dim) = match *fields.shape.as_slice() {
        [rows, dim] => (rows, dim),
        [rows] if flat => (rows, 1),
        _ => {
            let expected = "an array of two dimensions, rows x dim";
            let found = format!("shape {:?}", fields.shape);
            return Err(DatasetError::unsupported(path, expected, found));
        }
    };
    let one_byte = matches!(fields.descr.get(1..), Some("u1" | "i1"));
    let kind = match fields.descr.split_at_checked(1) {
        Some(("<", kind)) => kind,
        Some(("|" | "=" | ">", kind)) if one_byte => kind,
        Some((">", _)) => {
            let found = format!("big-endian {:?}", fields.descr);
            return Err(DatasetError::unsupported(path, "little-endian values", found));
        }
        _ => {
            let found = format!("{:?}", fields.descr);
            return Err(DatasetError::unsupported(path, "a plain type such as '<f4'", found));
        }
    };
    Ok(Array { file, file_bytes, kind: kind.to_owned(), rows, dim, data })
}

/// Opens a file of vectors. With `flat`, an array of one dimension counts as one column.
pub(crate) fn open(path: &Path, flat: bool) -> Result<StridedFile, DatasetError> {
    let Array { file, file_bytes, kind, rows, dim, data } = read_header(path, flat)?;
    let element = match kind.as_str() {
        "f4" => Element::F32,
        "f2" => Element::F16,
        "f8" => Element::F64,
        "u1" => Element::U8,
        "i1" => Element::I8,
        "i4" => Element::I32,
        other => {
            let expected = "vectors of f2, f4, f8, u1, i1 or i4";
            return Err(DatasetError::unsupported(path, expected, other));
        }
    };
    check_dim(path, dim)?;
    let rows = Strided::new(path, file, file_bytes, data, rows, dim, element.bytes())?;
    Ok(StridedFile { rows, element })
}

/// Bytes of the header that [`header`] makes. NumPy aligns the values to 64 bytes.
pub(crate) const WRITTEN_HEADER: usize = 128;

/// The header of a new file. Its length does not depend on the number of rows, so that it can be
/// written again when that number is known.
pub(crate) fn header(element: Element, rows: u64, dim: usize) -> [u8; WRITTEN_HEADER] {
    let descr = match element {
        Element::F32 => "<f4",
        Element::F16 => "<f2",
        Element::F64 => "<f8",
        Element::U8 => "|u1",
        Element::I8 => "|i1",
        Element::I32 => "<i4",
    };
    let text =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    let mut bytes = [b' '; WRITTEN_HEADER];
    bytes[..6].copy_from_slice(MAGIC);
    bytes[6..8].copy_from_slice(&[1, 0]);
    bytes[8..10].copy_from_slice(&(WRITTEN_HEADER as u16 - 10).to_le_bytes());
    bytes[10..10 + text.len()].copy_from_slice(text.as_bytes());
    bytes[WRITTEN_HEADER - 1] = b'\n';
    bytes
}

/// The three fields of a header.
#[derive(Debug, Default, PartialEq)]
struct Fields {
    descr: String,
    fortran_order: bool,
    shape: Vec<u64>,
}

/// Parses the part of Python's syntax that headers use. `None` is a header that is not understood.
fn parse(text: &str) -> Option<Fields> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            break;
        }
        let (key, after) = quoted(rest)?;
        rest = after.trim_start().strip_prefix(':')?.trim_start();
        match key {
            "descr" => {
                let (value, after) = quoted(rest)?;
                descr = Some(value.to_owned());
                rest = after;
            }
            "fortran_order" => {
                let (value, after) = match rest.strip_prefix("True") {
                    Some(after) => (true, after),
                    None => (false, rest.strip_prefix("False")?),
                };
                fortran_order = Some(value);
                rest = after;
            }
            "shape" => {
                let (inside, after) = rest.strip_prefix('(')?.split_once(')')?;
                // A tuple may end in a comma, but a comma alone is none.
                let inside = inside.trim();
                let inside = inside.strip_suffix(',').unwrap_or(inside);
                let extents: Option<Vec<u64>> = if inside.is_empty() {
                    Some(Vec::new())
                } else {
                    // Python 2 wrote long integers as `10L`.
                    let number = |part: &str| part.trim().trim_end_matches('L').parse().ok();
                    inside.split(',').map(number).collect()
                };
                shape = Some(extents?);
                rest = after;
            }
            _ => return None,
        }
        rest = rest.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => {}
            None => return None,
        }
    }
    Some(Fields { descr: descr?, fortran_order: fortran_order?, shape: shape? })
}

/// Splits a string in either kind of quotes off the front of `text`.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|&c| c == '\'' || c == '"')?;
    text[1..].split_once(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_every_spelling_are_understood() {
        let fields = |descr: &str, fortran_order, shape: &[u64]| {
            Some(Fields { descr: descr.to_owned(), fortran_order, shape: shape.to_vec() })
        };
        assert_eq!(
            parse("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }   \n"),
            fields("<f4", false, &[3, 4])
        );
        assert_eq!(
            parse("{\"shape\":(10L,2L,),\"descr\":\"|u1\",\"fortran_order\":True}"),
            fields("|u1", true, &[10, 2])
        );
        assert_eq!(
            parse("{'descr': '<f8', 'fortran_order': False, 'shape': ()}"),
            fields("<f8", false, &[])
        );
        for wrong in [
            "",
            "{}",
            "{'descr': '<f4'}",
            "{'descr': <f4, 'fortran_order': False, 'shape': (3, 4)}",
            "{'descr': '<f4', 'fortran_order': 0, 'shape': (3, 4)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 4)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 4)}",
            "{'descr': '<f4' 'fortran_order': False, 'shape': (3, 4)}",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,)}",
            "{'é': '<f4', 'fortran_order': False, 'shape': (3, 4)}",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn written_headers_are_aligned_and_read_back() {
        for rows in [0, 1, u64::from(u32::MAX), u64::MAX] {
            let bytes = header(Element::F16, rows, 65_536);
            assert_eq!(bytes.len() % 64, 0);
            let text = std::str::from_utf8(&bytes[10..]).unwrap();
            assert_eq!(parse(text).unwrap().shape, [rows, 65_536]);
        }
    }
}
