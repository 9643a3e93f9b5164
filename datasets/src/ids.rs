//! Matrices of ids: ground truth and search results.

use std::io::Write;
use std::path::Path;

use crate::atomic::AtomicFile;
use crate::error::DatasetError;
use crate::format::{Format, Location};
use crate::strided::{RawRows, Strided};
use crate::{bin, npy, vecs};

/// Stands in an [`IdMatrix`] where a search found fewer than k neighbours; -1 in files.
pub const NO_ID: u64 = u64::MAX;

/// `rows x k` ids, a row for each query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMatrix {
    k: usize,
    ids: Vec<u64>,
}

impl IdMatrix {
    /// Wraps `ids`, which holds whole rows of `k`.
    ///
    /// # Panics
    /// If `k` is 0 or the length is no multiple of `k`.
    pub fn new(k: usize, ids: Vec<u64>) -> IdMatrix {
        assert!(k > 0, "a row of ids needs at least one");
        assert!(ids.len().is_multiple_of(k), "{} ids are no whole rows of {k}", ids.len());
        IdMatrix { k, ids }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.ids.len() / self.k
    }

    /// The number of ids in a row.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Row `i`, best first; [`NO_ID`] where there is none.
    ///
    /// # Panics
    /// If `i` is not below [`rows`](IdMatrix::rows).
    pub fn row(&self, i: usize) -> &[u64] {
        &self.ids[i * self.k..(i + 1) * self.k]
    }

    /// All ids, row by row.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }
}

/// The types that files keep ids in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdElement {
    I32,
    U32,
    I64,
    U64,
}

impl IdElement {
    pub(crate) fn bytes(self) -> usize {
        match self {
            IdElement::I32 | IdElement::U32 => 4,
            IdElement::I64 | IdElement::U64 => 8,
        }
    }

    /// Appends the ids in little-endian `bytes`; the index and value of one that is none.
    pub(crate) fn decode(self, bytes: &[u8], ids: &mut Vec<u64>) -> Result<(), (usize, i128)> {
        for (index, bytes) in bytes.chunks_exact(self.bytes()).enumerate() {
            let mut wide = [0; 8];
            wide[..bytes.len()].copy_from_slice(bytes);
            let value = match self {
                IdElement::I32 => {
                    i128::from(i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
                }
                IdElement::I64 => i128::from(i64::from_le_bytes(wide)),
                IdElement::U32 | IdElement::U64 => i128::from(u64::from_le_bytes(wide)),
            };
            ids.push(match value {
                -1 => NO_ID,
                _ => u64::try_from(value).map_err(|_| (index, value))?,
            });
        }
        Ok(())
    }
}

/// Reads a file of ids: `.ivecs`, `.ibin` (with or without the distances that follow the ids in
/// big-ann's ground truth), `.npy` of 32-bit or 64-bit integers (one dimension is one id a row),
/// or a dataset of an HDF5 file (`neighbors` unless the path names another as `x.hdf5:NAME`).
///
/// -1 becomes [`NO_ID`].
///
/// # Errors
/// [`DatasetError`]: a file that cannot be read, is cut off, has rows of different lengths, or
/// holds a negative number other than -1.
pub fn read_ids(path: impl AsRef<Path>) -> Result<IdMatrix, DatasetError> {
    let location = Location::parse(path)?;
    let path = location.path.as_path();
    let (rows, element) = match location.format {
        Format::Ivecs => (vecs::open_rows(path, 4)?, IdElement::I32),
        Format::Ibin => (open_ibin(path)?, IdElement::I32),
        Format::Npy => open_npy(path)?,
        #[cfg(feature = "hdf5")]
        Format::Hdf5 => return crate::hdf5::read_ids(path, location.member.as_deref()),
        #[cfg(not(feature = "hdf5"))]
        Format::Hdf5 => {
            let path = path.to_owned();
            return Err(DatasetError::MissingFeature { path, feature: "hdf5" });
        }
        _ => {
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            return Err(DatasetError::unsupported(
                path,
                "ids as .ivecs, .ibin, .npy or .hdf5",
                format!(".{extension}"),
            ));
        }
    };
    read_rows(&rows, element)
}

/// Reads ids to the end.
pub(crate) fn read_rows(rows: &dyn RawRows, element: IdElement) -> Result<IdMatrix, DatasetError> {
    let mut ids = Vec::new();
    let mut window = Vec::new();
    let mut start = 0;
    while start < rows.rows() {
        let count = rows.window_rows().min(rows.rows() - start);
        rows.read(start, count, &mut window)?;
        for (number, row) in window.chunks_exact(rows.stride()).enumerate() {
            element.decode(&row[rows.prefix()..], &mut ids).map_err(|(column, value)| {
                let path = rows.path().to_owned();
                DatasetError::Id { path, row: start + number, column, value }
            })?;
        }
        start += count;
    }
    Ok(IdMatrix::new(rows.dim(), ids))
}

/// Refuses rows without ids, whose number no file length would bound.
pub(crate) fn check_k(path: &Path, k: u64) -> Result<(), DatasetError> {
    if k == 0 {
        Err(DatasetError::header(path, "at least one id in a row", "none"))
    } else {
        Ok(())
    }
}

fn open_ibin(path: &Path) -> Result<Strided, DatasetError> {
    let (file, file_bytes, rows, k) = bin::read_header(path)?;
    check_k(path, k)?;
    // Two u32 cannot overflow this product, nor times 8 in u128.
    let body = u128::from(rows) * u128::from(k) * 4;
    let header = u128::from(bin::HEADER);
    let with_distances = u128::from(file_bytes) == header + 2 * body;
    let ids_end = if with_distances { (header + body) as u64 } else { file_bytes };
    Strided::new(path, file, ids_end, bin::HEADER, rows, k, 4)
}

fn open_npy(path: &Path) -> Result<(Strided, IdElement), DatasetError> {
    let npy::Array { file, file_bytes, kind, rows, dim, data } = npy::read_header(path, true)?;
    let element = match kind.as_str() {
        "i4" => IdElement::I32,
        "u4" => IdElement::U32,
        "i8" => IdElement::I64,
        "u8" => IdElement::U64,
        other => {
            return Err(DatasetError::unsupported(path, "ids of i4, u4, i8 or u8", other));
        }
    };
    check_k(path, dim)?;
    Ok((Strided::new(path, file, file_bytes, data, rows, dim, element.bytes())?, element))
}

/// Writes ids as `.ivecs`, the form in which ground truth and results are exchanged.
///
/// The file appears under its name only when it is complete.
///
/// # Errors
/// [`DatasetError::Id`] for an id above 2^31 - 1, which the format cannot hold, and what the
/// system reports.
pub fn write_ivecs(path: impl AsRef<Path>, ids: &IdMatrix) -> Result<(), DatasetError> {
    let path = path.as_ref();
    let k = i32::try_from(ids.k()).map_err(|_| {
        DatasetError::unsupported(path, "rows of fewer than 2^31 ids", ids.k().to_string())
    })?;
    let mut file = AtomicFile::create(path)?;
    let mut bytes = Vec::new();
    for row in 0..ids.rows() {
        bytes.clear();
        bytes.extend(k.to_le_bytes());
        for (column, &id) in ids.row(row).iter().enumerate() {
            let narrow = if id == NO_ID { Ok(-1) } else { i32::try_from(id) };
            let narrow = narrow.map_err(|_| {
                let (path, value) = (path.to_owned(), i128::from(id));
                DatasetError::Id { path, row, column, value }
            })?;
            bytes.extend(narrow.to_le_bytes());
        }
        file.write_all(&bytes).map_err(DatasetError::io(path))?;
    }
    file.finish()
}
