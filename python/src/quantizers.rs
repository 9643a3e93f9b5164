//! Quantizers without an index: `Saq`, `Quantizer` and their codes.

use std::sync::Arc;

use nonius::{MatrixView, QuantizerConfig, SaqConfig};
use numpy::{IntoPyArray, PyArray1, PyArrayMethods};
use pyo3::exceptions::{PyIndexError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyList;
use rayon::prelude::*;

use crate::arrays::{Array, Shape, count, filled, weights};
use crate::errors::Failure;
use crate::index::{codebooks, plan};
use crate::pool::pool;
use crate::spec::{encoding, spec};

/// Calls `work` with an array of vectors (`rows x dim`), on so many threads and without the interpreter's lock.
fn with_matrix<T: Send, E: Send>(
    py: Python<'_>,
    vectors: &Bound<'_, PyAny>,
    threads: Option<i64>,
    work: impl FnOnce(MatrixView<'_>) -> Result<T, E> + Send,
) -> Result<T, Failure>
where
    Failure: From<E>,
{
    let array = Array::new(vectors, "vectors", Shape::Matrix)?;
    let rows = array.rows()?;
    let pool = pool(threads)?;
    py.detach(|| {
        let values = rows.floats(0, rows.rows)?;
        let vectors = MatrixView::new(rows.dim, &values)?;
        pool.install(|| work(vectors)).map_err(Failure::from)
    })
}

/// Codes are understood by the quantizer alone that made them.
fn same<Q>(codes: &Arc<Q>, quantizer: &Arc<Q>) -> Result<(), Failure> {
    match Arc::ptr_eq(codes, quantizer) {
        true => Ok(()),
        false => Err(Failure::config("codes", "they were made by another quantizer")),
    }
}

/// The numbers of the codes that `rows` picks out of `len`: one, an array or list of them, or all. Negative
/// ones count from the end.
fn picked(rows: Option<&Bound<'_, PyAny>>, len: usize) -> Result<(bool, Vec<usize>), Failure> {
    let number = |row: i64| {
        let from = if row < 0 { row.checked_add_unsigned(len as u64) } else { Some(row) };
        match from.map(usize::try_from) {
            Some(Ok(row)) if row < len => Ok(row),
            _ => Err(PyIndexError::new_err(format!("row {row} of {len} codes"))),
        }
    };
    let Some(rows) = rows else { return Ok((false, (0..len).collect())) };
    if let Ok(row) = rows.extract::<i64>() {
        return Ok((true, vec![number(row)?]));
    }
    let wanted: Vec<i64> = rows
        .extract()
        .map_err(|_| PyTypeError::new_err("rows: expected an integer or a sequence of integers"))?;
    Ok((false, wanted.into_iter().map(number).collect::<PyResult<_>>()?))
}

/// Calls `one` for each of the picked codes, in parallel, and makes an array of the rows of `width` values that
/// it returns; of one dimension for one code.
fn gather<'py, T: numpy::Element + Send + Clone + Default>(
    py: Python<'py>,
    rows: Option<&Bound<'py, PyAny>>,
    len: usize,
    width: usize,
    one: impl Fn(usize) -> Vec<T> + Sync,
) -> Result<Bound<'py, PyAny>, Failure> {
    let (single, rows) = picked(rows, len)?;
    let mut out = filled(rows.len(), width, T::default(), "the vectors")?;
    let pool = pool(None)?;
    py.detach(|| {
        pool.install(|| {
            // Chunks of nothing cannot be made.
            out.par_chunks_mut(width.max(1)).zip(&rows).for_each(|(out, &row)| {
                out.clone_from_slice(&one(row));
            });
        });
    });
    let array = out.into_pyarray(py);
    Ok(match single {
        true => array.into_any(),
        false => array.reshape((rows.len(), width))?.into_any(),
    })
}

/// Calls `one` for each query and makes arrays of the rows of `len` values that it returns, of one dimension if
/// the queries are one vector.
fn for_queries<'py, const N: usize>(
    py: Python<'py>,
    queries: &Bound<'py, PyAny>,
    dim: usize,
    len: usize,
    one: impl Fn(&[f32], [&mut [f32]; N]) -> Result<(), nonius::SearchError> + Sync,
) -> Result<[Bound<'py, PyAny>; N], Failure> {
    let array = Array::new(queries, "queries", Shape::MatrixOrVector)?;
    let rows = array.rows()?;
    rows.expect_dim(dim).map_err(nonius::SearchError::from)?;
    let mut outs = Vec::with_capacity(N);
    for _ in 0..N {
        outs.push(filled(rows.rows, len, 0.0f32, "the estimates")?);
    }
    let pool = pool(None)?;
    py.detach(|| {
        let values = rows.floats(0, rows.rows)?;
        let queries = MatrixView::new(dim, &values).map_err(nonius::SearchError::from)?;
        let mut tasks: Vec<[&mut [f32]; N]> =
            (0..rows.rows).map(|_| [(); N].map(|()| Default::default())).collect();
        for (place, out) in outs.iter_mut().enumerate() {
            for (task, out) in tasks.iter_mut().zip(out.chunks_mut(len.max(1))) {
                task[place] = out;
            }
        }
        let answer = |(query, task): (usize, [&mut [f32]; N])| one(queries.row(query), task);
        pool.install(|| tasks.into_par_iter().enumerate().map(answer).collect::<Vec<_>>())
            .into_iter()
            .collect::<Result<(), _>>()
            .map_err(Failure::from)
    })?;
    let mut arrays = Vec::with_capacity(N);
    for out in outs {
        let out = out.into_pyarray(py);
        arrays.push(match array.is_one() {
            true => out.into_any(),
            false => out.reshape((rows.rows, len))?.into_any(),
        });
    }
    arrays.try_into().map_err(|_| Failure::memory("the estimates"))
}

/// SAQ by itself: codes without an index. Made by `Saq.train`.
#[pyclass(frozen, module = "nonius")]
pub(crate) struct Saq {
    inner: Arc<nonius::Saq>,
    name: String,
    metric: nonius::Metric,
}

/// Codes that a Saq made; `len(codes)` is their number.
#[pyclass(frozen, module = "nonius")]
pub(crate) struct SaqCodes {
    inner: nonius::SaqCodes,
    maker: Arc<nonius::Saq>,
}

#[pymethods]
impl Saq {
    /// Learns rotation, plan and constants from a sample, an array (`rows x dim`). A few thousand rows are
    /// enough; all of them are looked at.
    ///
    /// Parameters
    /// ----------
    /// metric : "l2", "ip" or "cosine".
    /// quantizer : "saq", "rabitq" or "erabitq", or with its size in one word, as "saq:4" or "saq:48B".
    /// bits : average bits of a dimension, 4 by default.
    /// bytes : bytes of a vector, codes and factors, instead of `bits`.
    /// fast : encodes faster, with errors up to 4% larger.
    /// seed : the seed of everything random.
    /// threads : threads to work with; by default all processors.
    #[staticmethod]
    #[pyo3(signature = (
        vectors, *, metric = "l2", quantizer = "saq", bits = None, bytes = None, fast = false,
        seed = 0, threads = None,
    ))]
    fn train(
        py: Python<'_>,
        vectors: &Bound<'_, PyAny>,
        metric: &str,
        quantizer: &str,
        bits: Option<f64>,
        bytes: Option<i64>,
        fast: bool,
        seed: u64,
        threads: Option<i64>,
    ) -> Result<Saq, Failure> {
        let config = SaqConfig {
            metric: metric.parse()?,
            quantizer: spec(quantizer, bits, bytes)?,
            encoding: encoding(fast),
            seed,
        };
        let train = |sample: MatrixView<'_>| nonius::Saq::train(sample, &config);
        let inner = with_matrix(py, vectors, threads, train)?;
        let name = config.quantizer.to_string();
        Ok(Saq { inner: Arc::new(inner), name, metric: config.metric })
    }

    /// Encodes vectors (`rows x dim`). Returns SaqCodes.
    #[pyo3(signature = (vectors, *, threads = None))]
    fn encode(
        &self,
        py: Python<'_>,
        vectors: &Bound<'_, PyAny>,
        threads: Option<i64>,
    ) -> Result<SaqCodes, Failure> {
        let inner = with_matrix(py, vectors, threads, |vectors| self.inner.encode(vectors))?;
        Ok(SaqCodes { inner, maker: self.inner.clone() })
    }

    /// The vectors that codes stand for: float32, `rows x dim`, or of one dimension if `rows` is one number.
    ///
    /// Parameters
    /// ----------
    /// rows : which codes, a number or several; by default all.
    /// bits : no more than so many top bits of every dimension; by default all.
    #[pyo3(signature = (codes, rows = None, *, bits = None))]
    fn decode<'py>(
        &self,
        py: Python<'py>,
        codes: &Bound<'py, SaqCodes>,
        rows: Option<&Bound<'py, PyAny>>,
        bits: Option<i64>,
    ) -> Result<Bound<'py, PyAny>, Failure> {
        let SaqCodes { inner: codes, maker } = codes.get();
        same(maker, &self.inner)?;
        let bits = bits.map(|bits| count("bits", bits)).transpose()?;
        let bits = bits.map(|bits| bits.min(u32::MAX as usize) as u32);
        gather(py, rows, codes.len(), self.inner.dim(), |row| match bits {
            None => self.inner.decode(codes, row),
            Some(bits) => self.inner.decode_bits(codes, row, bits),
        })
    }

    /// Estimates the distances of one query (`dim`) or of many (`rows x dim`) to every code.
    ///
    /// Returns `(distances, deviations)`, float32, of the shape `(len(codes),)` for one query and
    /// `(rows, len(codes))` for many. A deviation is an upper value of the standard deviation of the
    /// estimate's error.
    fn estimate<'py>(
        &self,
        py: Python<'py>,
        codes: &Bound<'py, SaqCodes>,
        queries: &Bound<'py, PyAny>,
    ) -> Result<(Bound<'py, PyAny>, Bound<'py, PyAny>), Failure> {
        let SaqCodes { inner: codes, maker } = codes.get();
        same(maker, &self.inner)?;
        let dim = self.inner.dim();
        let one = |query: &[f32], [distances, deviations]: [&mut [f32]; 2]| {
            let estimates = self.inner.estimate(codes, query)?;
            for (i, estimate) in estimates.iter().enumerate() {
                distances[i] = estimate.distance;
                deviations[i] = estimate.deviation;
            }
            Ok(())
        };
        let [distances, deviations] = for_queries(py, queries, dim, codes.len(), one)?;
        Ok((distances, deviations))
    }

    /// The dimension of vectors.
    #[getter]
    fn dim(&self) -> usize {
        self.inner.dim()
    }

    /// The metric: "l2", "ip" or "cosine".
    #[getter]
    fn metric(&self) -> &'static str {
        self.metric.name()
    }

    /// The plan: a dictionary of `dims` and `bits` for each segment.
    #[getter]
    fn plan<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        plan(py, self.inner.plan())
    }

    fn __repr__(&self) -> String {
        format!("<nonius.Saq: {}, {} dimensions, {}>", self.name, self.inner.dim(), self.metric)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(unpickled("a nonius.Saq"))
    }
}

#[pymethods]
impl SaqCodes {
    /// Bytes of codes and factors of a vector.
    #[getter]
    fn bytes_per_vector(&self) -> usize {
        self.inner.bytes_per_vector()
    }

    /// The integers of codes: uint16, `rows x dimensions` (the dimension rounded up to a multiple of 8, after
    /// rotation), or of one dimension if `rows` is one number.
    #[pyo3(signature = (rows = None))]
    fn numbers<'py>(
        &self,
        py: Python<'py>,
        rows: Option<&Bound<'py, PyAny>>,
    ) -> Result<Bound<'py, PyAny>, Failure> {
        let width = if self.inner.is_empty() { 0 } else { self.inner.code(0).len() };
        gather(py, rows, self.inner.len(), width, |row| self.inner.code(row))
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    fn __repr__(&self) -> String {
        let (len, bytes) = (self.inner.len(), self.inner.bytes_per_vector());
        format!("<nonius.SaqCodes: {len} of {bytes} bytes>")
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(unpickled("nonius.SaqCodes"))
    }
}

/// Any quantizer by itself: codes without an index. Made by `Quantizer.train`.
#[pyclass(frozen, module = "nonius")]
pub(crate) struct Quantizer {
    inner: Arc<nonius::Quantizer>,
    name: String,
    metric: nonius::Metric,
}

/// Codes that a Quantizer made; `len(codes)` is their number.
#[pyclass(frozen, module = "nonius")]
pub(crate) struct Codes {
    inner: nonius::Codes,
    maker: Arc<nonius::Quantizer>,
}

#[pymethods]
impl Quantizer {
    /// Learns all that codes need from a sample, an array (`rows x dim`).
    ///
    /// Parameters
    /// ----------
    /// metric : "l2", "ip" or "cosine".
    /// quantizer : "saq", "rvq", "pq", "opq", "sq", "lvq", "rabitq", "erabitq", "f16", "bf16" or "f32",
    ///     or with its size in one word, as "rvq:24B" or "lvq:4x8".
    /// bits : average bits of a dimension.
    /// bytes : bytes of a vector, codes and factors, instead of `bits`.
    /// weights : for "pq", "opq", "rvq" and "prq": how much each vector counts.
    /// anisotropic : see `Index.build`.
    /// beam : see `Index.build`.
    /// fast : encodes faster, with larger errors.
    /// seed : the seed of everything random.
    /// threads : threads to work with; by default all processors.
    #[staticmethod]
    #[pyo3(signature = (
        vectors, *, metric = "l2", quantizer = "saq", bits = None, bytes = None, weights = None,
        anisotropic = None, beam = None, fast = false, seed = 0, threads = None,
    ))]
    fn train(
        py: Python<'_>,
        vectors: &Bound<'_, PyAny>,
        metric: &str,
        quantizer: &str,
        bits: Option<f64>,
        bytes: Option<i64>,
        weights: Option<&Bound<'_, PyAny>>,
        anisotropic: Option<f32>,
        beam: Option<i64>,
        fast: bool,
        seed: u64,
        threads: Option<i64>,
    ) -> Result<Quantizer, Failure> {
        let config = QuantizerConfig {
            metric: metric.parse()?,
            quantizer: spec(quantizer, bits, bytes)?,
            encoding: encoding(fast),
            anisotropic,
            beam: beam.map(|beam| count("beam", beam)).transpose()?,
            seed,
        };
        let weights = self::weights(weights)?;
        let inner = with_matrix(py, vectors, threads, |sample| match &weights {
            None => nonius::Quantizer::train(sample, &config),
            Some(weights) => nonius::Quantizer::train_weighted(sample, weights, &config),
        })?;
        let name = config.quantizer.to_string();
        Ok(Quantizer { inner: Arc::new(inner), name, metric: config.metric })
    }

    /// Encodes vectors (`rows x dim`). Returns Codes.
    #[pyo3(signature = (vectors, *, threads = None))]
    fn encode(
        &self,
        py: Python<'_>,
        vectors: &Bound<'_, PyAny>,
        threads: Option<i64>,
    ) -> Result<Codes, Failure> {
        let inner = with_matrix(py, vectors, threads, |vectors| self.inner.encode(vectors))?;
        Ok(Codes { inner, maker: self.inner.clone() })
    }

    /// The vectors that codes stand for: float32, `rows x dim`, or of one dimension if `rows` is one number.
    ///
    /// Parameters
    /// ----------
    /// rows : which codes, a number or several; by default all.
    /// levels : no more than so many levels; by default all.
    #[pyo3(signature = (codes, rows = None, *, levels = None))]
    fn decode<'py>(
        &self,
        py: Python<'py>,
        codes: &Bound<'py, Codes>,
        rows: Option<&Bound<'py, PyAny>>,
        levels: Option<i64>,
    ) -> Result<Bound<'py, PyAny>, Failure> {
        let Codes { inner: codes, maker } = codes.get();
        same(maker, &self.inner)?;
        let levels = match levels {
            None => self.inner.levels(),
            Some(levels) => count("levels", levels)?,
        };
        gather(py, rows, codes.len(), self.inner.dim(), |row| {
            self.inner.decode_levels(codes, row, levels)
        })
    }

    /// Estimates the distances of one query (`dim`) or of many (`rows x dim`) to every code.
    ///
    /// Returns distances, float32, of the shape `(len(codes),)` for one query and `(rows, len(codes))` for
    /// many.
    fn estimate<'py>(
        &self,
        py: Python<'py>,
        codes: &Bound<'py, Codes>,
        queries: &Bound<'py, PyAny>,
    ) -> Result<Bound<'py, PyAny>, Failure> {
        let Codes { inner: codes, maker } = codes.get();
        same(maker, &self.inner)?;
        let one = |query: &[f32], [distances]: [&mut [f32]; 1]| {
            distances.copy_from_slice(&self.inner.estimate(codes, query)?);
            Ok(())
        };
        let [distances] = for_queries(py, queries, self.inner.dim(), codes.len(), one)?;
        Ok(distances)
    }

    /// Estimates the distances of the vector that the code with number `row` stands for to every code: float32,
    /// of the shape `(len(codes),)`.
    fn symmetric<'py>(
        &self,
        py: Python<'py>,
        codes: &Bound<'py, Codes>,
        row: &Bound<'py, PyAny>,
    ) -> Result<Bound<'py, PyAny>, Failure> {
        let Codes { inner: codes, maker } = codes.get();
        same(maker, &self.inner)?;
        let (true, rows) = picked(Some(row), codes.len())? else {
            return Err(PyTypeError::new_err("row: expected an integer").into());
        };
        let distances = py.detach(|| self.inner.symmetric(codes, rows[0]))?;
        Ok(PyArray1::from_vec(py, distances).into_any())
    }

    /// The dimension of vectors.
    #[getter]
    fn dim(&self) -> usize {
        self.inner.dim()
    }

    /// The metric: "l2", "ip" or "cosine".
    #[getter]
    fn metric(&self) -> &'static str {
        self.metric.name()
    }

    /// The plan of SAQ, a dictionary of `dims` and `bits` for each segment; empty for others.
    #[getter]
    fn plan<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        plan(py, self.inner.plan())
    }

    /// The number of codebooks, 0 for quantizers without.
    #[getter]
    fn codebooks(&self) -> usize {
        self.inner.codebooks()
    }

    /// How many codes of increasing accuracy a code consists of.
    #[getter]
    fn levels(&self) -> usize {
        self.inner.levels()
    }

    fn __repr__(&self) -> String {
        let (name, dim) = (&self.name, self.inner.dim());
        format!("<nonius.Quantizer: {name}, {dim} dimensions, {}>", self.metric)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(unpickled("a nonius.Quantizer"))
    }
}

#[pymethods]
impl Codes {
    /// Bytes of codes and factors of a vector.
    #[getter]
    fn bytes_per_vector(&self) -> usize {
        self.inner.bytes_per_vector()
    }

    /// The numbers that codes consist of: uint16, a row for each code, or of one dimension if `rows` is one
    /// number.
    #[pyo3(signature = (rows = None))]
    fn numbers<'py>(
        &self,
        py: Python<'py>,
        rows: Option<&Bound<'py, PyAny>>,
    ) -> Result<Bound<'py, PyAny>, Failure> {
        let width = if self.inner.is_empty() { 0 } else { self.inner.code(0).len() };
        gather(py, rows, self.inner.len(), width, |row| self.inner.code(row))
    }

    /// How the codes use each codebook, a list of dictionaries; empty for quantizers that have none.
    fn uses<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let uses = py.detach(|| self.inner.uses());
        codebooks(py, &uses)
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    fn __repr__(&self) -> String {
        let (len, bytes) = (self.inner.len(), self.inner.bytes_per_vector());
        format!("<nonius.Codes: {len} of {bytes} bytes>")
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(unpickled("nonius.Codes"))
    }
}

fn unpickled(what: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "{what} cannot be pickled or copied; train it again with the same vectors and seed, which gives the \
         same codes, or build an index, which can be saved"
    ))
}
