//! fvecs, bvecs and ivecs: each row is its dimension as an `i32`, then its values.

use std::fs::File;
use std::path::Path;

use crate::element::Element;
use crate::error::{DatasetError, check_dim};
use crate::strided::{Storage, Strided, StridedFile, open_file, read_exact_at};

/// Opens a file of rows of `value_bytes` a value.
///
/// Only the first dimension is read here. The others are checked when their rows are read, or
/// now, if the length of the file shows that something is wrong.
pub(crate) fn open_rows(path: &Path, value_bytes: usize) -> Result<Strided, DatasetError> {
    let (file, file_bytes) = open_file(path)?;
    if file_bytes < 4 {
        return Err(DatasetError::header(
            path,
            "at least one row, which starts with its dimension in 4 bytes",
            format!("{file_bytes} bytes"),
        ));
    }
    let found = dimension_at(path, &file, 0)?;
    let dim = u64::try_from(found).map_err(|_| {
        DatasetError::header(path, "a dimension as the first 4 bytes", found.to_string())
    })?;
    let dim = check_dim(path, dim)?;
    let stride = 4 + (dim * value_bytes) as u64;
    if !file_bytes.is_multiple_of(stride) {
        return Err(explain_length(path, &file, file_bytes, dim, stride));
    }
    let rows = usize::try_from(file_bytes / stride)
        .map_err(|_| DatasetError::header(path, "a file that can be addressed", "more rows"))?;
    let path = path.to_owned();
    Ok(Strided {
        path,
        storage: Storage::File(file),
        rows,
        dim,
        value_bytes,
        header: 0,
        prefixed: true,
    })
}

/// Opens a file of vectors.
pub(crate) fn open(path: &Path, element: Element) -> Result<StridedFile, DatasetError> {
    Ok(StridedFile { rows: open_rows(path, element.bytes())?, element })
}

fn dimension_at(path: &Path, file: &File, offset: u64) -> Result<i64, DatasetError> {
    let mut bytes = [0; 4];
    read_exact_at(file, &mut bytes, offset).map_err(DatasetError::io(path))?;
    Ok(i64::from(i32::from_le_bytes(bytes)))
}

/// Tells a row of another length from a file that is cut off, by walking over the rows.
fn explain_length(
    path: &Path,
    file: &File,
    file_bytes: u64,
    dim: usize,
    stride: u64,
) -> DatasetError {
    let whole = file_bytes / stride;
    // A dimension that is itself cut off is no row of another length.
    let begun = whole + u64::from(file_bytes % stride >= 4);
    for row in 0..begun {
        match dimension_at(path, file, row * stride) {
            Ok(found) if found == dim as i64 => {}
            Ok(found) => {
                let (path, row) = (path.to_owned(), row as usize);
                return DatasetError::Ragged { path, row, expected: dim, found };
            }
            Err(error) => return error,
        }
    }
    DatasetError::Length {
        path: path.to_owned(),
        expected: (whole + 1) * stride,
        found: file_bytes,
    }
}
