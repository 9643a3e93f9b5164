//! Files of vectors and ids, as the commands use them.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use nonius::{FetchVector, Index, Matrix, OpenOptions, RowReader, SourceError, VectorSource};
use nonius_datasets::{
    Element, Format, IdMatrix, Location, NO_ID, VectorFile, VectorWriter, load, open, write_ivecs,
};

use crate::args::SearchFlags;
use crate::output::{Context, Failure};

/// Opens an index by memory mapping.
pub(crate) fn open_index(path: &Path) -> Result<Index, Failure> {
    Index::open(path).context(path.display())
}

/// Opens an index to be searched.
pub(crate) fn open_to_search(path: &Path, flags: &SearchFlags) -> Result<Index, Failure> {
    OpenOptions::new().into_memory(flags.into_memory).open(path).context(path.display())
}

/// True for the HDF5 files of ann-benchmarks, which hold base, queries and truth together.
pub(crate) fn is_hdf5(path: &Path) -> bool {
    Location::parse(path).is_ok_and(|location| location.format == Format::Hdf5)
}

/// `path` with the dataset `member` picked, where the file is HDF5 and the path picks none.
fn with_member(path: &Path, member: &str) -> PathBuf {
    match Location::parse(path) {
        Ok(Location { format: Format::Hdf5, member: None, .. }) => {
            let mut path = path.as_os_str().to_owned();
            path.push(":");
            path.push(member);
            path.into()
        }
        _ => path.to_owned(),
    }
}

/// Loads queries, from the dataset `test` of an HDF5 file, and checks their dimension.
pub(crate) fn load_queries(path: &Path, dim: usize) -> Result<Matrix, Failure> {
    let queries = load(with_member(path, "test"))?;
    if queries.dim() != dim {
        return Err(Failure::failed(format!(
            "{}: expected queries of dimension {dim}, found {}",
            path.display(),
            queries.dim()
        )));
    }
    if queries.rows() == 0 {
        return Err(Failure::failed(format!("{}: there are no queries", path.display())));
    }
    Ok(queries)
}

/// Loads the true neighbours of `queries` queries, from the dataset `neighbors` of an HDF5 file.
pub(crate) fn load_truth(path: &Path, queries: usize) -> Result<IdMatrix, Failure> {
    // An HDF5 path that picks the queries' dataset still means the truth beside them.
    let location = Location::parse(path)?;
    let path = if location.format == Format::Hdf5 && location.member.as_deref() == Some("test") {
        location.path
    } else {
        path.to_owned()
    };
    let truth = nonius_datasets::read_ids(&path)?;
    if truth.rows() != queries {
        return Err(Failure::failed(format!(
            "{}: expected a row for each of the {queries} queries, found {} rows",
            path.display(),
            truth.rows()
        )));
    }
    Ok(truth)
}

/// Reads the weights of `rows` vectors from a file with a number for each.
pub(crate) fn load_weights(path: &Path, rows: usize) -> Result<Vec<f32>, Failure> {
    let weights = nonius_datasets::load_numbers(path)?;
    expect_each(path, "weights", rows, weights.len())?;
    Ok(weights)
}

/// Refuses a file that has not one of `what` for each of `rows` vectors.
fn expect_each(path: &Path, what: &str, rows: usize, found: usize) -> Result<(), Failure> {
    if found == rows {
        return Ok(());
    }
    let path = path.display();
    let message = format!("{path}: expected {rows} {what}, one for each vector, found {found}");
    Err(Failure::failed(message))
}

/// Reads the ids of `rows` vectors from a file with one for each, in any shape.
pub(crate) fn load_user_ids(path: &Path, rows: usize) -> Result<Vec<u64>, Failure> {
    let ids = nonius_datasets::read_ids(path)?;
    expect_each(path, "ids", rows, ids.ids().len())?;
    if let Some(row) = ids.ids().iter().position(|&id| id == NO_ID) {
        return Err(Failure::failed(format!("{}: id {row} is -1", path.display())));
    }
    Ok(ids.ids().to_vec())
}

/// The first rows of a source.
pub(crate) struct Head<'a> {
    source: &'a dyn VectorSource,
    rows: usize,
}

impl<'a> Head<'a> {
    /// `rows` rows of `source`, or all if it has fewer.
    pub(crate) fn new(source: &'a dyn VectorSource, rows: usize) -> Head<'a> {
        Head { source, rows: rows.min(source.rows()) }
    }
}

impl VectorSource for Head<'_> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn dim(&self) -> usize {
        self.source.dim()
    }

    fn reader(&self) -> Result<Box<dyn RowReader + '_>, SourceError> {
        self.source.reader()
    }
}

/// The user's own vectors, fetched for rerank by row number.
pub(crate) enum RowStore {
    /// Rows at a fixed stride: read from the file one by one.
    File(Box<dyn VectorFile>),
    /// Formats without random access: held in memory.
    Memory(Matrix),
}

impl RowStore {
    /// Opens the file for the vectors of `index`.
    pub(crate) fn open(path: &Path, index: &Index) -> Result<RowStore, Failure> {
        let location = Location::parse(path)?;
        let file = open(path)?;
        if file.dim() != index.dim() {
            return Err(Failure::failed(format!(
                "{}: expected vectors of dimension {}, as in the index, found {}",
                path.display(),
                index.dim(),
                file.dim()
            )));
        }
        match location.format {
            Format::Hdf5 | Format::Parquet | Format::Arrow => Ok(RowStore::Memory(load(path)?)),
            _ => Ok(RowStore::File(file)),
        }
    }
}

impl FetchVector for RowStore {
    fn fetch(&self, id: u64, out: &mut [f32]) -> Result<(), SourceError> {
        let source: &dyn VectorSource = match self {
            RowStore::File(file) => &**file,
            RowStore::Memory(matrix) => matrix,
        };
        let out_of_range =
            || SourceError::OutOfRange { start: id as usize, rows: 1, found: source.rows() };
        let row = usize::try_from(id).map_err(|_| out_of_range())?;
        if row >= source.rows() {
            return Err(out_of_range());
        }
        // A pass of its own for each row: passes go forward only.
        source.reader()?.read(row, out)
    }
}

/// The formats that results can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdFormat {
    Ivecs,
    Npy,
}

/// The format of a file of ids to be written.
pub(crate) fn id_format(path: &Path) -> Result<IdFormat, Failure> {
    match Location::parse(path).map(|location| location.format) {
        Ok(Format::Ivecs) => Ok(IdFormat::Ivecs),
        Ok(Format::Npy) => Ok(IdFormat::Npy),
        _ => Err(Failure::usage(format!(
            "{}: ids are written as .ivecs (32 bits) or .npy (64 bits)",
            path.display()
        ))),
    }
}

/// Writes a row of ids for each query; -1 where there is none.
pub(crate) fn write_ids(path: &Path, format: IdFormat, ids: &IdMatrix) -> Result<(), Failure> {
    let limit = if format == IdFormat::Ivecs { i32::MAX as u64 } else { i64::MAX as u64 };
    if let Some(id) = ids.ids().iter().find(|&&id| id != NO_ID && id > limit) {
        let advice = if format == IdFormat::Ivecs { "; write .npy, which has 64 bits" } else { "" };
        return Err(Failure::failed(format!(
            "{}: id {id} exceeds {limit}, the most that the format holds{advice}",
            path.display()
        )));
    }
    match format {
        IdFormat::Ivecs => Ok(write_ivecs(path, ids)?),
        IdFormat::Npy => write_npy_i64(path, ids).context(path.display()),
    }
}

fn write_npy_i64(path: &Path, ids: &IdMatrix) -> std::io::Result<()> {
    let shape = format!("({}, {})", ids.rows(), ids.k());
    let dictionary = format!("{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}");
    // Magic, version and length take 10 bytes; the whole is padded to a multiple of 64.
    let length = (dictionary.len() + 1 + 10).next_multiple_of(64) - 10;
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&(length as u16).to_le_bytes())?;
    writeln!(file, "{dictionary:width$}", width = length - 1)?;
    for &id in ids.ids() {
        let id = if id == NO_ID { -1 } else { id as i64 };
        file.write_all(&id.to_le_bytes())?;
    }
    file.flush()
}

/// Writes `distances`, rows of `k`, in the format of vectors that the extension tells.
pub(crate) fn write_distances(path: &Path, k: usize, distances: &[f32]) -> Result<(), Failure> {
    let mut writer = VectorWriter::create(path, k, Element::F32)?;
    writer.write_rows(distances)?;
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hdf5_paths_pick_a_dataset_by_default() {
        let picked = |path: &str| with_member(Path::new(path), "test");
        assert_eq!(picked("a.hdf5"), Path::new("a.hdf5:test"));
        assert_eq!(picked("a.hdf5:train"), Path::new("a.hdf5:train"));
        assert_eq!(picked("a.npy"), Path::new("a.npy"));
        assert!(is_hdf5(Path::new("a.h5")) && !is_hdf5(Path::new("a.fvecs")));
    }

    #[test]
    fn wide_ids_survive_npy_and_are_refused_by_ivecs() {
        let folder = tempfile::tempdir().unwrap();
        let ids = IdMatrix::new(2, vec![5_000_000_000, 7, NO_ID, 0]);
        let npy = folder.path().join("ids.npy");
        write_ids(&npy, IdFormat::Npy, &ids).unwrap();
        assert_eq!(nonius_datasets::read_ids(&npy).unwrap(), ids);
        let ivecs = folder.path().join("ids.ivecs");
        let Err(Failure::Failed(message)) = write_ids(&ivecs, IdFormat::Ivecs, &ids) else {
            panic!("must be refused")
        };
        assert!(message.contains("5000000000") && message.contains(".npy"), "{message}");
        assert!(!ivecs.exists());
    }

    #[test]
    fn a_head_is_no_longer_than_its_source() {
        let matrix = Matrix::new(2, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(Head::new(&matrix, 1).rows(), 1);
        assert_eq!(Head::new(&matrix, 9).rows(), 2);
    }
}
