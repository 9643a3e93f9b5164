//! The class `Index`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use nonius::{
    BuildReport, CodebookUse, IndexConfig, Neighbor, OpenOptions, SearchParams, Searcher, Segment,
};
use numpy::{IntoPyArray, PyArray1, PyArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use self_cell::self_cell;

use crate::arrays::{Array, Rows, Shape, count, filled, ids, view, weights};
use crate::builds::{Input, Listener, build};
use crate::errors::Failure;
use crate::pool::pool;
use crate::spec::{encoding, spec};

/// Queries of a large batch that are answered between two looks for Ctrl-C. What a batch finds of a query does
/// not depend on the others.
const BATCH: usize = 8192;

/// The id of a neighbour that there is not.
const MISSING: i64 = -1;

/// Searchers that are kept for the next single queries: as many as threads are likely to search at once.
const WARM: usize = 64;

self_cell!(
    /// A searcher with its warm buffers, and the index that it searches.
    struct WarmSearcher {
        owner: Arc<nonius::Index>,
        #[covariant]
        dependent: Searcher,
    }
);

/// An index over compressed vectors, in memory or mapped from its file.
///
/// Made by `Index.build` or `Index.open`. An index does not change, and may be searched from several
/// threads at once. `len(index)` is the number of vectors.
#[pyclass(frozen, module = "nonius")]
pub(crate) struct Index {
    inner: Arc<nonius::Index>,
    report: Option<BuildReport>,
    warm: Mutex<Vec<WarmSearcher>>,
}

impl Index {
    fn new(index: nonius::Index, report: Option<BuildReport>) -> Index {
        Index { inner: Arc::new(index), report, warm: Mutex::default() }
    }

    /// Answers one query on this thread, with a searcher that is warm if there is one.
    fn search_one(
        &self,
        query: &[f32],
        k: usize,
        params: &SearchParams,
        found: impl FnOnce(&[Neighbor]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.inner.check_file()?;
        let searchers = || self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = searchers().pop();
        let mut warm = match kept {
            Some(warm) => warm,
            None => WarmSearcher::new(self.inner.clone(), |index| index.searcher()),
        };
        let outcome =
            warm.with_dependent_mut(|_, searcher| found(searcher.search(query, k, params)?));
        let mut searchers = searchers();
        if searchers.len() < WARM {
            searchers.push(warm);
        }
        outcome
    }
}

/// Where results go: rows of `k` ids and distances.
struct Answers {
    k: usize,
    ids: Vec<i64>,
    distances: Vec<f32>,
}

impl Answers {
    fn new(rows: usize, k: usize, metric: nonius::Metric) -> Result<Answers, Failure> {
        let missing = match metric {
            nonius::Metric::InnerProduct => f32::NEG_INFINITY,
            _ => f32::INFINITY,
        };
        Ok(Answers {
            k,
            ids: filled(rows, k, MISSING, "the ids of the neighbours")?,
            distances: filled(rows, k, missing, "the distances of the neighbours")?,
        })
    }

    fn set(&mut self, row: usize, found: &[Neighbor]) -> Result<(), Failure> {
        let place = row * self.k;
        for (i, neighbor) in found.iter().enumerate() {
            let id = i64::try_from(neighbor.id).map_err(|_| {
                Failure::Search(format!("id {} exceeds 2^63 - 1, the most of int64", neighbor.id))
            })?;
            self.ids[place + i] = id;
            self.distances[place + i] = neighbor.distance;
        }
        Ok(())
    }

    /// The arrays `ids` and `distances`, of one dimension for one query that came as such.
    fn into_python<'py>(
        self,
        py: Python<'py>,
        one: bool,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let Answers { k, ids, distances } = self;
        let shape = (ids.len() / k.max(1), k);
        let (ids, distances) = (ids.into_pyarray(py), distances.into_pyarray(py));
        match one {
            true => Ok((ids.into_any(), distances.into_any())),
            false => Ok((ids.reshape(shape)?.into_any(), distances.reshape(shape)?.into_any())),
        }
    }
}

#[pymethods]
impl Index {
    /// Builds an index.
    ///
    /// Parameters
    /// ----------
    /// vectors : an array (`rows x dim`); or the path of a file of vectors (.npy, .fvecs, .bvecs, .fbin,
    ///     .u8bin, .i8bin), which is read in blocks; or an iterable of blocks, which are arrays (`rows x
    ///     dim`, or one vector of `dim`). Blocks are asked for once, and kept in a temporary file of 4
    ///     bytes a value until the build ends.
    /// metric : "l2" (squared Euclidean distance), "ip" (inner product) or "cosine".
    /// quantizer : how vectors are compressed: "saq", "rvq", "pq", "opq", "sq", "lvq", "rabitq", "erabitq",
    ///     "f16", "bf16" or "f32", or with its size in one word, as "saq:4" or "rvq:24B".
    /// bits : average bits of a dimension, fractions allowed; of "saq" 4 by default.
    /// bytes : bytes of a vector, codes and factors, instead of `bits`.
    /// nlist : lists that the vectors are clustered into, 1 for a flat index; by default twice the square
    ///     root of the number of vectors.
    /// spill : the share of vectors that are found in a second list as well, from 0 to 1.
    /// keep : the vectors that are kept beside the codes for exact rerank: "f32", "f16" or "none".
    /// outlier_bytes : bytes a vector, on average, for vectors that are kept whole because their codes miss
    ///     them by most; searches compare these exactly.
    /// ids : an id for each vector, integers from 0 on; by default the row numbers.
    /// weights : for "pq", "opq", "rvq" and "prq": how much each vector counts in training.
    /// seed : the seed of everything random. The same input, seed and version give the same bytes.
    /// fast : encodes about 1.8 times as fast at 4 bits, for up to 4% more error.
    /// training_rows : the most vectors that a quantizer is trained on.
    /// anisotropic : for "ip" and "cosine" with "pq", "opq", "rvq" or "prq": the share of the norms above
    ///     which inner products matter, between 0 and 1.
    /// beam : for "rvq" and "prq": sums that the search for a code keeps after every level, 1 to 64.
    /// path : an index file to build into, in bounded memory; it is then opened. A file that was there is
    ///     replaced when all is written. Without it the index is built in memory.
    /// threads : threads to work with; by default all processors.
    /// progress : True shows the progress on stderr if that is a terminal; or a function of
    ///     `(stage, done, total)`, whose exception ends the build.
    ///
    /// Ctrl-C ends a build with KeyboardInterrupt, and leaves no file behind.
    ///
    /// Raises VectorError, ConfigError, BuildError, FormatError or FileError; TypeError for arrays of
    /// other types.
    #[staticmethod]
    #[pyo3(signature = (
        vectors, *, metric = "l2", quantizer = "saq", bits = None, bytes = None, nlist = None,
        spill = 0.0, keep = "f16", outlier_bytes = 0.0, ids = None, weights = None, seed = 0, fast = false,
        training_rows = 65_536, anisotropic = None, beam = None, path = None, threads = None,
        progress = None,
    ), text_signature = "(vectors, *, metric='l2', quantizer='saq', bits=None, bytes=None, nlist=None, \
        spill=0.0, keep='f16', outlier_bytes=0.0, ids=None, weights=None, seed=0, fast=False, training_rows=65536, \
        anisotropic=None, beam=None, path=None, threads=None, progress=True)")]
    fn build<'py>(
        py: Python<'py>,
        vectors: &Bound<'py, PyAny>,
        metric: &str,
        quantizer: &str,
        bits: Option<f64>,
        bytes: Option<i64>,
        nlist: Option<i64>,
        spill: f64,
        keep: &str,
        outlier_bytes: f64,
        ids: Option<&Bound<'py, PyAny>>,
        weights: Option<&Bound<'py, PyAny>>,
        seed: u64,
        fast: bool,
        training_rows: i64,
        anisotropic: Option<f32>,
        beam: Option<i64>,
        path: Option<PathBuf>,
        threads: Option<i64>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> Result<Index, Failure> {
        let config = IndexConfig {
            metric: metric.parse()?,
            quantizer: spec(quantizer, bits, bytes)?,
            nlist: nlist.map(|nlist| count("nlist", nlist)).transpose()?,
            spill,
            keep: keep.parse()?,
            outlier_bytes,
            seed,
            training_rows: count("training_rows", training_rows)?,
            encoding: encoding(fast),
            anisotropic,
            beam: beam.map(|beam| count("beam", beam)).transpose()?,
            ..IndexConfig::default()
        };
        config.validate()?;
        let listener = Listener::new(py, progress)?;
        let ids = ids.map(self::ids).transpose()?;
        let weights = self::weights(weights)?;
        let input = Input::new(vectors, path.as_deref())?;
        let (ids, weights) = (ids.as_deref(), weights.as_deref());
        let (index, report) =
            build(py, &input, &config, ids, weights, threads, path.as_deref(), listener)?;
        Ok(Index::new(index, Some(report)))
    }

    /// Opens an index file by memory mapping, in a time that does not depend on the number of vectors.
    ///
    /// The file must not be changed while it is mapped; replace it by renaming another one over it, as
    /// `save` does. With `into_memory` the file is read, and may change afterwards. With `check_lists` each
    /// list is compared with its checksum when a search first reads it.
    ///
    /// Raises FormatError for a file that is no index or a damaged one, FileError (MissingFileError, which
    /// is a FileNotFoundError) where the system refuses.
    #[staticmethod]
    #[pyo3(signature = (path, *, into_memory = false, check_lists = false))]
    fn open(
        py: Python<'_>,
        path: PathBuf,
        into_memory: bool,
        check_lists: bool,
    ) -> Result<Index, Failure> {
        let options = OpenOptions::new().into_memory(into_memory).check_lists(check_lists);
        Ok(Index::new(py.detach(|| options.open(path))?, None))
    }

    /// Finds the `k` nearest vectors of one query (an array of `dim`) or of many (`rows x dim`).
    ///
    /// Returns `(ids, distances)`, int64 and float32, best first: arrays of the shape `(k,)` for one query
    /// and `(rows, k)` for many, where `k` is at most `len(index)`. Where the lists that are searched hold
    /// fewer, the rest is filled with the id -1 and the distance inf (-inf for "ip"). Distances are squared Euclidean ("l2"), inner products ("ip", larger
    /// is nearer) or one minus the cosine ("cosine").
    ///
    /// Parameters
    /// ----------
    /// nprobe : lists to search, nearest centroid first; more than there are means all.
    /// rerank : how many of the best estimates to compare exactly; 0 for none.
    /// confidence : standard deviations of its error that an estimate may be off before a candidate is
    ///     given up.
    /// patience : stop when so many lists in a row have brought nothing; 0 for never.
    /// centroid_ratio : leave out lists that are more than this many times as far as the ten nearest are on average.
    /// rerank_from : vectors to compare with instead of those that the index keeps: an array, of which row
    ///     i is the vector with id i.
    /// threads : threads for many queries; by default all processors. One query takes one thread.
    ///
    /// Raises VectorError or SearchError; TypeError for arrays of other types; FormatError where the index
    /// is found to be damaged.
    #[pyo3(signature = (
        queries, k = 10, *, nprobe = 32, rerank = 0, confidence = 2.0, patience = 0,
        centroid_ratio = None, rerank_from = None, threads = None,
    ))]
    fn search<'py>(
        &self,
        py: Python<'py>,
        queries: &Bound<'py, PyAny>,
        k: i64,
        nprobe: i64,
        rerank: i64,
        confidence: f32,
        patience: i64,
        centroid_ratio: Option<f32>,
        rerank_from: Option<&Bound<'py, PyAny>>,
        threads: Option<i64>,
    ) -> Result<(Bound<'py, PyAny>, Bound<'py, PyAny>), Failure> {
        let k = count("k", k)?;
        let params = SearchParams {
            nprobe: count("nprobe", nprobe)?,
            rerank: count("rerank", rerank)?,
            confidence,
            patience: count("patience", patience)?,
            centroid_ratio,
        };
        params.validate(k)?;
        let array = Array::new(queries, "queries", Shape::MatrixOrVector)?;
        let rows = array.rows()?;
        let dim = self.inner.dim();
        rows.expect_dim(dim).map_err(nonius::SearchError::from)?;
        // No more columns than can be filled: `k` may be any number.
        let width = k.min(self.inner.len());
        let mut answers = Answers::new(rows.rows, width, self.inner.metric())?;
        let fetched = match rerank_from {
            Some(vectors) => Some(Array::new(vectors, "rerank_from", Shape::Matrix)?),
            None => None,
        };
        let fetched: Option<Rows<'_>> = fetched.as_ref().map(Array::rows).transpose()?;
        if let Some(fetched) = &fetched {
            fetched
                .expect_dim(dim)
                .map_err(|error| Failure::Vector(format!("rerank_from: {error}")))?;
        }
        if rows.rows == 1 && fetched.is_none() {
            py.detach(|| {
                let query = rows.floats(0, 1)?;
                self.search_one(&query, k, &params, |found| answers.set(0, found))
            })?;
            return Ok(answers.into_python(py, array.is_one())?);
        }
        let pool = pool(threads)?;
        let fetch = fetched.as_ref().map(|rows| rows as &dyn nonius::FetchVector);
        for start in (0..rows.rows).step_by(BATCH) {
            py.check_signals()?;
            py.detach(|| {
                let values = rows.floats(start, (start + BATCH).min(rows.rows))?;
                let queries = view(start, dim, &values).map_err(nonius::SearchError::from)?;
                let search = || self.inner.search_batch_with(queries, k, &params, fetch);
                let (found, _) = pool.install(search)?;
                for (row, found) in (start..).zip(&found) {
                    answers.set(row, found)?;
                }
                Ok::<(), Failure>(())
            })?;
        }
        Ok(answers.into_python(py, array.is_one())?)
    }

    /// Writes the index to a file, whole or not at all; a file that was there is replaced.
    ///
    /// Raises FileError.
    fn save(&self, py: Python<'_>, path: PathBuf) -> Result<(), Failure> {
        Ok(py.detach(|| self.inner.save(path))?)
    }

    /// Compares all checksums of the index: any changed bit is found.
    ///
    /// Raises FormatError naming what is damaged.
    fn verify(&self, py: Python<'_>) -> Result<(), Failure> {
        py.detach(|| self.inner.verify())?;
        Ok(())
    }

    /// Asks the system to read codes, factors and ids of a mapped index into memory now, so that the first
    /// queries do not wait for the disk. Returns at once.
    fn warm(&self, py: Python<'_>) {
        py.detach(|| self.inner.warm());
    }

    /// What the index is, as a dictionary: the fields are those of `nonius info --json`.
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let info = self.inner.info();
        let dict = PyDict::new(py);
        dict.set_item("version", info.version)?;
        dict.set_item("vectors", info.vectors)?;
        dict.set_item("dim", info.dim)?;
        dict.set_item("metric", info.metric.name())?;
        dict.set_item("quantizer", info.quantizer.to_string())?;
        dict.set_item("bits", info.quantizer.bits(info.dim))?;
        dict.set_item("nlist", info.nlist)?;
        dict.set_item("smallest_list", info.list_sizes.0)?;
        dict.set_item("largest_list", info.list_sizes.1)?;
        dict.set_item("spilled", info.spilled)?;
        dict.set_item("outliers", info.outliers)?;
        dict.set_item("keep", info.keep.name())?;
        dict.set_item("bytes_per_vector", info.bytes_per_vector)?;
        dict.set_item("code_bytes", info.code_bytes)?;
        dict.set_item("first_stage_bits", info.first_stage_bits)?;
        dict.set_item("file_bytes", info.file_bytes)?;
        dict.set_item("plan", plan(py, &info.plan)?)?;
        let sections = PyList::empty(py);
        for (name, offset, bytes) in info.sections {
            let section = PyDict::new(py);
            section.set_item("name", name)?;
            section.set_item("offset", offset)?;
            section.set_item("bytes", bytes)?;
            sections.append(section)?;
        }
        dict.set_item("sections", sections)?;
        Ok(dict)
    }

    /// What the build of this index did, as a dictionary: seconds, and how good lists and codebooks are. None
    /// for an index that was opened.
    fn build_report<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(report) = &self.report else { return Ok(None) };
        let dict = PyDict::new(py);
        dict.set_item("vectors", report.vectors)?;
        dict.set_item("nlist", report.nlist)?;
        dict.set_item("spilled", report.spilled)?;
        dict.set_item("outliers", report.outliers)?;
        dict.set_item("bytes_per_vector", report.bytes_per_vector)?;
        dict.set_item("file_bytes", report.file_bytes)?;
        dict.set_item("train_seconds", report.train_seconds)?;
        dict.set_item("encode_seconds", report.encode_seconds)?;
        dict.set_item("encoder_cpu_seconds", report.encoder_cpu_seconds)?;
        dict.set_item("total_seconds", report.total_seconds)?;
        dict.set_item("inertia", PyArray1::from_slice(py, &report.inertia))?;
        dict.set_item("plan", plan(py, &report.plan)?)?;
        dict.set_item("codebooks", codebooks(py, &report.codebooks)?)?;
        Ok(Some(dict))
    }

    /// The dimension of vectors and queries.
    #[getter]
    fn dim(&self) -> usize {
        self.inner.dim()
    }

    /// The metric: "l2", "ip" or "cosine".
    #[getter]
    fn metric(&self) -> &'static str {
        self.inner.metric().name()
    }

    /// The quantizer with its size, as "saq:4".
    #[getter]
    fn quantizer(&self) -> String {
        self.inner.info().quantizer.to_string()
    }

    /// The number of lists.
    #[getter]
    fn nlist(&self) -> usize {
        self.inner.nlist()
    }

    /// Which full vectors are kept for rerank: "f32", "f16" or "none".
    #[getter]
    fn keep(&self) -> &'static str {
        self.inner.keep().name()
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    fn __repr__(&self) -> String {
        let (len, dim) = (self.inner.len(), self.inner.dim());
        let (metric, nlist) = (self.inner.metric(), self.inner.nlist());
        let lists = if nlist == 1 { "flat".to_owned() } else { format!("{nlist} lists") };
        format!("<nonius.Index: {len} x {dim}, {metric}, {}, {lists}>", self.quantizer())
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a nonius.Index is neither pickled nor copied; write it with index.save(path), and open it with \
             nonius.Index.open(path) where it is needed",
        ))
    }
}

/// A plan as a list of dictionaries.
pub(crate) fn plan<'py>(py: Python<'py>, segments: &[Segment]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for segment in segments {
        let dict = PyDict::new(py);
        dict.set_item("dims", segment.dims)?;
        dict.set_item("bits", segment.bits)?;
        list.append(dict)?;
    }
    Ok(list)
}

/// How codebooks are used, as a list of dictionaries.
pub(crate) fn codebooks<'py>(
    py: Python<'py>,
    uses: &[CodebookUse],
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for of in uses {
        let dict = PyDict::new(py);
        dict.set_item("centroids", of.centroids)?;
        dict.set_item("used", of.used)?;
        dict.set_item("perplexity", of.perplexity)?;
        list.append(dict)?;
    }
    Ok(list)
}
