//! fbin, u8bin, i8bin and ibin of big-ann-benchmarks: `u32` rows, `u32` dimension, the values.

use std::fs::File;
use std::path::Path;

use crate::element::Element;
use crate::error::{DatasetError, check_dim};
use crate::strided::{Strided, StridedFile, open_file, read_exact_at};

/// Bytes before the first value.
pub(crate) const HEADER: u64 = 8;

/// Reads the header: the open file, its length in bytes, rows and dimension.
pub(crate) fn read_header(path: &Path) -> Result<(File, u64, u64, u64), DatasetError> {
    let (file, file_bytes) = open_file(path)?;
    if file_bytes < HEADER {
        return Err(DatasetError::header(
            path,
            "8 bytes of header: the number of rows and the dimension",
            format!("{file_bytes} bytes"),
        ));
    }
    let mut header = [0; HEADER as usize];
    read_exact_at(&file, &mut header, 0).map_err(DatasetError::io(path))?;
    let field = |at: usize| {
        u64::from(u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]))
    };
    Ok((file, file_bytes, field(0), field(4)))
}

/// Opens a file of vectors.
pub(crate) fn open(path: &Path, element: Element) -> Result<StridedFile, DatasetError> {
    let (file, file_bytes, rows, dim) = read_header(path)?;
    check_dim(path, dim)?;
    let rows = Strided::new(path, file, file_bytes, HEADER, rows, dim, element.bytes())?;
    Ok(StridedFile { rows, element })
}
