//! HDF5 as ann-benchmarks uses it: `train`, `test`, `neighbors` and `distances`, each a dataset of
//! two dimensions.

use std::path::{Path, PathBuf};

use hdf5_pure::{AttrValue, Dataset, Datatype, DatatypeByteOrder, File, FileBuilder, Layout};
use nonius::{MatrixView, Metric};

use crate::VectorFile;
use crate::element::Element;
use crate::error::{DatasetError, check_dim};
use crate::guard::guarded;
use crate::ids::{self, IdElement, IdMatrix};
use crate::strided::{RawFile, RawRows, Storage, Strided, open_file};
use crate::truth::Truth;

/// The largest chunk that is decompressed, in bytes; those of h5py have at most a few MiB.
const MAX_CHUNK: u64 = 256 << 20;

/// More than any filter compresses: a dataset that claims more has no data behind its rows.
const MAX_RATIO: u64 = 4096;

/// The type of a dataset's values.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Vector(Element),
    Id(IdElement),
}

/// Opens a dataset of vectors, `train` if none is named.
pub(crate) fn open(path: &Path, member: Option<&str>) -> Result<Box<dyn VectorFile>, DatasetError> {
    guarded(path, || {
        let dataset = Found::new(path, member.unwrap_or("train"))?;
        let element = match dataset.kind {
            Kind::Vector(element) => element,
            Kind::Id(IdElement::I32) => Element::I32,
            Kind::Id(other) => {
                let expected = "vectors of f16, f32, f64, u8, i8 or i32";
                return Err(DatasetError::unsupported(path, expected, format!("{other:?}")));
            }
        };
        check_dim(path, dataset.dim)?;
        Ok(match dataset.rows(element.bytes())? {
            Rows::Contiguous(rows) => Box::new(RawFile { rows, element }) as Box<dyn VectorFile>,
            Rows::Stored(rows) => Box::new(RawFile { rows, element }),
        })
    })
}

/// Reads a dataset of ids, `neighbors` if none is named.
pub(crate) fn read_ids(path: &Path, member: Option<&str>) -> Result<IdMatrix, DatasetError> {
    guarded(path, || {
        let dataset = Found::new(path, member.unwrap_or("neighbors"))?;
        let Kind::Id(element) = dataset.kind else {
            let found = format!("{:?}", dataset.kind);
            return Err(DatasetError::unsupported(path, "ids of 32 or 64 bits", found));
        };
        ids::check_k(path, dataset.dim)?;
        match dataset.rows(element.bytes())? {
            Rows::Contiguous(rows) => ids::read_rows(&rows, element),
            Rows::Stored(rows) => ids::read_rows(&rows, element),
        }
    })
}

/// The metric that a file of ann-benchmarks or VIBE declares in its attribute `distance`: `euclidean` is
/// [`Metric::L2`], `angular`, `cosine` and `normalized` are [`Metric::Cosine`], `ip` and `dot` are
/// [`Metric::InnerProduct`]. `None` if there is none, or another.
///
/// # Errors
/// [`DatasetError`] if the file cannot be read.
pub fn declared_metric(path: impl AsRef<Path>) -> Result<Option<Metric>, DatasetError> {
    let path = path.as_ref();
    open_file(path)?;
    guarded(path, || {
        let corrupt = |error| DatasetError::corrupt(path, error);
        let file = File::open_streaming(path).map_err(corrupt)?;
        let attributes = file.root().attrs().map_err(corrupt)?;
        let name = match attributes.get("distance") {
            // However the writer chose to store a string.
            Some(
                AttrValue::String(name)
                | AttrValue::StringSized { value: name, .. }
                | AttrValue::AsciiString(name)
                | AttrValue::AsciiStringSized { value: name, .. }
                | AttrValue::VarLenString(name)
                | AttrValue::VarLenAsciiString(name),
            ) => name.trim_end_matches('\0'),
            _ => return Ok(None),
        };
        Ok(match name {
            "euclidean" => Some(Metric::L2),
            "angular" | "cosine" | "normalized" => Some(Metric::Cosine),
            "ip" | "dot" => Some(Metric::InnerProduct),
            _ => None,
        })
    })
}

/// Writes a file as ann-benchmarks has them: `train` and `test` as `f32`, `neighbors` as `i32`,
/// `distances` as `f32`, and the attribute `distance`. Distances are those of the harnesses: not squared for L2,
/// negated for inner products. The whole file is made in memory.
///
/// # Errors
/// An id above 2^31 - 1, which the format cannot hold, and what the system reports.
///
/// # Panics
/// If the dimensions of `train` and `test` or the rows of `test` and `truth` differ.
pub fn write_ann_benchmarks(
    path: impl AsRef<Path>,
    train: MatrixView<'_>,
    test: MatrixView<'_>,
    truth: &Truth,
    metric: Metric,
) -> Result<(), DatasetError> {
    use std::io::Write;
    let path = path.as_ref();
    assert_eq!(train.dim(), test.dim(), "train and test must have the same dimension");
    assert_eq!(test.rows(), truth.ids.rows(), "truth must have a row for each query");
    let k = truth.ids.k();
    let mut neighbors = Vec::with_capacity(truth.ids.ids().len());
    for (index, &id) in truth.ids.ids().iter().enumerate() {
        neighbors.push(i32::try_from(id).map_err(|_| DatasetError::Id {
            path: path.to_owned(),
            row: index / k,
            column: index % k,
            value: i128::from(id),
        })?);
    }
    let of_harness = |&distance: &f64| match metric {
        Metric::L2 => distance.sqrt() as f32,
        Metric::InnerProduct => -distance as f32,
        Metric::Cosine => distance as f32,
    };
    let distances: Vec<f32> = truth.distances.iter().map(of_harness).collect();
    let shape = |rows: usize, columns: usize| [rows as u64, columns as u64];
    let mut builder = FileBuilder::new();
    let vectors = [("train", train), ("test", test)];
    for (name, matrix) in vectors {
        builder
            .create_dataset(name)
            .with_f32_data(matrix.data())
            .with_shape(&shape(matrix.rows(), matrix.dim()));
    }
    let rows = truth.ids.rows();
    builder.create_dataset("neighbors").with_i32_data(&neighbors).with_shape(&shape(rows, k));
    builder.create_dataset("distances").with_f32_data(&distances).with_shape(&shape(rows, k));
    let name = match metric {
        Metric::L2 => "euclidean",
        Metric::InnerProduct => "ip",
        Metric::Cosine => "angular",
    };
    builder.set_attr("distance", AttrValue::String(name.to_owned()));
    let bytes = builder.finish().map_err(|error| DatasetError::corrupt(path, error))?;
    let mut file = crate::atomic::AtomicFile::create(path)?;
    file.write_all(&bytes).map_err(DatasetError::io(path))?;
    file.finish()
}

/// A dataset and what its header says.
struct Found<'a> {
    path: &'a Path,
    dataset: Dataset,
    kind: Kind,
    rows: u64,
    dim: u64,
}

/// Rows, wherever they lie.
enum Rows {
    /// In one piece of the file, as in all files of ann-benchmarks.
    Contiguous(Strided),
    /// In chunks, perhaps compressed, or in the header.
    Stored(StoredRows),
}

impl<'a> Found<'a> {
    fn new(path: &'a Path, member: &str) -> Result<Found<'a>, DatasetError> {
        // For the error of a file that does not exist.
        open_file(path)?;
        let corrupt = |error| DatasetError::corrupt(path, error);
        let file = File::open_streaming(path).map_err(corrupt)?;
        let dataset = match file.dataset(member) {
            Ok(dataset) => dataset,
            Err(error) => {
                let available = file.root().datasets().map_err(corrupt)?;
                if available.iter().any(|name| name == member) {
                    return Err(corrupt(error));
                }
                let problem = format!("no dataset {member:?}");
                return Err(DatasetError::Member { path: path.to_owned(), problem, available });
            }
        };
        let shape = dataset.shape().map_err(corrupt)?;
        let &[rows, dim] = shape.as_slice() else {
            let expected = "a dataset of two dimensions, rows x dim";
            return Err(DatasetError::unsupported(path, expected, format!("shape {shape:?}")));
        };
        let datatype = dataset.datatype().map_err(corrupt)?;
        let kind = kind(path, &datatype)?;
        Ok(Found { path, dataset, kind, rows, dim })
    }

    fn rows(self, value_bytes: usize) -> Result<Rows, DatasetError> {
        let path = self.path;
        let (file, file_bytes) = open_file(path)?;
        let values = self.rows.checked_mul(self.dim);
        let bytes = values.and_then(|values| values.checked_mul(value_bytes as u64));
        let most = file_bytes.saturating_mul(MAX_RATIO);
        let (Some(bytes), Ok(rows), Ok(dim)) =
            (bytes.filter(|&bytes| bytes <= most), self.rows.try_into(), self.dim.try_into())
        else {
            let expected = format!("a dataset that fits into a file of {file_bytes} bytes");
            let found = format!("{} rows of dimension {}", self.rows, self.dim);
            return Err(DatasetError::header(path, expected, found));
        };
        match self.dataset.layout().map_err(|error| DatasetError::corrupt(path, error))? {
            Layout::Contiguous { address, .. } => {
                // Never written, so there is nothing to read.
                let header = match address {
                    Some(address) => address,
                    None if bytes == 0 => 0,
                    None => return Err(DatasetError::corrupt(path, "the dataset has no data")),
                };
                let end = header.saturating_add(bytes);
                if end > file_bytes {
                    let path = path.to_owned();
                    return Err(DatasetError::Length { path, expected: end, found: file_bytes });
                }
                let path = path.to_owned();
                let prefixed = false;
                Ok(Rows::Contiguous(Strided {
                    path,
                    storage: Storage::File(file),
                    rows,
                    dim,
                    value_bytes,
                    header,
                    prefixed,
                }))
            }
            Layout::Chunked { chunk_shape, .. } => {
                let chunk = chunk_shape
                    .iter()
                    .try_fold(value_bytes as u64, |bytes, &edge| bytes.checked_mul(edge));
                if chunk.is_none_or(|bytes| bytes > MAX_CHUNK) {
                    let expected = format!("chunks of at most {MAX_CHUNK} bytes");
                    let found = format!("chunks of {chunk_shape:?} values");
                    return Err(DatasetError::unsupported(path, expected, found));
                }
                Ok(Rows::Stored(self.stored(rows, dim, value_bytes)))
            }
            Layout::Compact { .. } => Ok(Rows::Stored(self.stored(rows, dim, value_bytes))),
            other => {
                let expected = "contiguous, compact or chunked storage";
                Err(DatasetError::unsupported(path, expected, format!("{other:?}")))
            }
        }
    }

    fn stored(self, rows: usize, dim: usize, value_bytes: usize) -> StoredRows {
        StoredRows { path: self.path.to_owned(), dataset: self.dataset, rows, dim, value_bytes }
    }
}

fn kind(path: &Path, datatype: &Datatype) -> Result<Kind, DatasetError> {
    let (order, bytes) = match datatype {
        Datatype::FixedPoint { byte_order, size, .. } => (byte_order, *size),
        Datatype::FloatingPoint { byte_order, size, .. } => (byte_order, *size),
        other => {
            return Err(DatasetError::unsupported(
                path,
                "a dataset of numbers",
                format!("{other:?}"),
            ));
        }
    };
    if bytes > 1 && *order != DatatypeByteOrder::LittleEndian {
        let found = format!("{order:?}");
        return Err(DatasetError::unsupported(path, "little-endian values", found));
    }
    match datatype {
        Datatype::FixedPoint { size, layout, .. } => match (*size, layout.signed) {
            (1, false) => Some(Kind::Vector(Element::U8)),
            (1, true) => Some(Kind::Vector(Element::I8)),
            (4, true) => Some(Kind::Id(IdElement::I32)),
            (4, false) => Some(Kind::Id(IdElement::U32)),
            (8, true) => Some(Kind::Id(IdElement::I64)),
            (8, false) => Some(Kind::Id(IdElement::U64)),
            _ => None,
        },
        // Exponent and mantissa tell IEEE's types from others of the same size.
        Datatype::FloatingPoint { size, layout, .. } => {
            match (*size, layout.exponent_size, layout.mantissa_size) {
                (2, 5, 10) => Some(Kind::Vector(Element::F16)),
                (4, 8, 23) => Some(Kind::Vector(Element::F32)),
                (8, 11, 52) => Some(Kind::Vector(Element::F64)),
                _ => None,
            }
        }
        _ => None,
    }
    .ok_or_else(|| {
        let expected = "values of f16, f32, f64, u8, i8, i32, u32, i64 or u64";
        DatasetError::unsupported(path, expected, format!("{datatype:?}"))
    })
}

/// Rows that the HDF5 library fetches.
struct StoredRows {
    path: PathBuf,
    dataset: Dataset,
    rows: usize,
    dim: usize,
    value_bytes: usize,
}

impl RawRows for StoredRows {
    fn path(&self) -> &Path {
        &self.path
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn stride(&self) -> usize {
        self.dim * self.value_bytes
    }

    fn prefix(&self) -> usize {
        0
    }

    fn read(&self, start: usize, count: usize, bytes: &mut Vec<u8>) -> Result<(), DatasetError> {
        let expected = count * self.stride();
        *bytes = guarded(&self.path, || {
            self.dataset
                .read_raw_rows(start as u64, count as u64)
                .map_err(|error| DatasetError::corrupt(&self.path, error))
        })?;
        if bytes.len() != expected {
            let message = format!("rows of {expected} bytes expected, {} found", bytes.len());
            return Err(DatasetError::corrupt(&self.path, message));
        }
        Ok(())
    }
}
