//! Arrays in and out: what is used where it lies, what is copied, and what is refused.

use std::borrow::Cow;

use half::f16;
use half::slice::HalfFloatSliceExt;
use nonius::{FetchVector, MatrixView, RowReader, SourceError, VectorError, VectorSource};
use numpy::{
    Element, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::errors::Failure;

/// An array of vectors, kept from being freed while it is used. C-contiguous, in the machine's byte order.
pub(crate) struct Array<'py> {
    values: Typed<'py>,
    /// One vector: an array of one dimension.
    one: bool,
    rows: usize,
    dim: usize,
}

enum Typed<'py> {
    F32(PyReadonlyArrayDyn<'py, f32>),
    F16(PyReadonlyArrayDyn<'py, f16>),
    F64(PyReadonlyArrayDyn<'py, f64>),
    U8(PyReadonlyArrayDyn<'py, u8>),
    I8(PyReadonlyArrayDyn<'py, i8>),
}

/// The values of an array, for threads that know nothing of Python.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    values: Values<'a>,
    pub(crate) rows: usize,
    pub(crate) dim: usize,
}

#[derive(Clone, Copy)]
enum Values<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    F64(&'a [f64]),
    U8(&'a [u8]),
    I8(&'a [i8]),
}

/// How many dimensions an array may have.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    /// `rows x dim`.
    Matrix,
    /// That, or one vector of `dim`.
    MatrixOrVector,
    /// One vector of `dim`.
    Vector,
}

impl<'py> Array<'py> {
    /// Takes an array, or what NumPy makes one of; `what` is what messages call it.
    pub(crate) fn new(
        object: &Bound<'py, PyAny>,
        what: &str,
        shape: Shape,
    ) -> Result<Array<'py>, Failure> {
        // The most frequent case, which has to be fast. A slice there may also be of an array in the order of
        // Fortran, but none that is not aligned.
        if let Ok(array) = object.cast::<PyArrayDyn<f32>>()
            && array.is_c_contiguous()
            && let Ok(values) = array.try_readonly()
            && values.as_slice().is_ok()
        {
            return Array::shaped(Typed::F32(values), array.shape(), what, shape);
        }
        let array = match object.cast::<PyUntypedArray>() {
            Ok(array) => array.clone(),
            Err(_) => as_array(object)?,
        };
        let dtype = array.dtype();
        let name = match (dtype.kind(), dtype.itemsize()) {
            (b'f', 4) => "float32",
            (b'f', 2) => "float16",
            (b'f', 8) => "float64",
            (b'u', 1) => "uint8",
            (b'i', 1) => "int8",
            _ => {
                let message = format!(
                    "{what}: expected an array of float32, float16, float64, uint8 or int8, found {dtype}; \
                     convert it with .astype(numpy.float32)"
                );
                return Err(PyTypeError::new_err(message).into());
            }
        };
        let py = object.py();
        let numpy = py.import("numpy")?;
        // Copies only what is not C-contiguous, aligned and in the machine's byte order.
        let requirements = ["C_CONTIGUOUS", "ALIGNED"];
        let array = numpy.call_method1("require", (array, name, requirements))?;
        fn typed<'py, T: Element>(
            array: &Bound<'py, PyAny>,
            what: &str,
        ) -> Result<PyReadonlyArrayDyn<'py, T>, Failure> {
            let array = array.cast::<PyArrayDyn<T>>().map_err(PyErr::from)?;
            array.try_readonly().map_err(|error| borrowed(what, &error))
        }
        let values = match name {
            "float32" => Typed::F32(typed(&array, what)?),
            "float16" => Typed::F16(typed(&array, what)?),
            "float64" => Typed::F64(typed(&array, what)?),
            "uint8" => Typed::U8(typed(&array, what)?),
            _ => Typed::I8(typed(&array, what)?),
        };
        let array = array.cast::<PyUntypedArray>().map_err(PyErr::from)?;
        Array::shaped(values, array.shape(), what, shape)
    }

    fn shaped(
        values: Typed<'py>,
        found: &[usize],
        what: &str,
        shape: Shape,
    ) -> Result<Array<'py>, Failure> {
        match *found {
            [rows, dim] if shape != Shape::Vector => Ok(Array { values, one: false, rows, dim }),
            [dim] if shape != Shape::Matrix => Ok(Array { values, one: true, rows: 1, dim }),
            _ => {
                let expected = match shape {
                    Shape::Matrix => "two dimensions, rows x dim",
                    Shape::MatrixOrVector => "two dimensions, rows x dim, or one of dim",
                    Shape::Vector => "one dimension",
                };
                let message =
                    format!("{what}: expected an array of {expected}, found the shape {found:?}");
                Err(Failure::Vector(message))
            }
        }
    }

    /// True if the array has one dimension.
    pub(crate) fn is_one(&self) -> bool {
        self.one
    }

    /// The values.
    pub(crate) fn rows(&self) -> Result<Rows<'_>, Failure> {
        let strided = |error: numpy::AsSliceError| Failure::Vector(error.to_string());
        let values = match &self.values {
            Typed::F32(array) => Values::F32(array.as_slice().map_err(strided)?),
            Typed::F16(array) => Values::F16(array.as_slice().map_err(strided)?),
            Typed::F64(array) => Values::F64(array.as_slice().map_err(strided)?),
            Typed::U8(array) => Values::U8(array.as_slice().map_err(strided)?),
            Typed::I8(array) => Values::I8(array.as_slice().map_err(strided)?),
        };
        Ok(Rows { values, rows: self.rows, dim: self.dim })
    }
}

fn borrowed(what: &str, error: &numpy::BorrowError) -> Failure {
    Failure::Vector(format!("{what}: {error}"))
}

/// What NumPy makes of an object that is no array: of a tensor of another library, of lists of numbers.
fn as_array<'py>(object: &Bound<'py, PyAny>) -> Result<Bound<'py, PyUntypedArray>, Failure> {
    let array = object.py().import("numpy")?.call_method1("asarray", (object,))?;
    Ok(array.cast_into::<PyUntypedArray>().map_err(PyErr::from)?)
}

impl<'a> Rows<'a> {
    /// Some of the values as `f32`, from number `from` on.
    fn convert(&self, from: usize, out: &mut [f32]) {
        let range = from..from + out.len();
        fn widen<T: Copy>(values: &[T], out: &mut [f32], to: impl Fn(T) -> f32) {
            for (out, &value) in out.iter_mut().zip(values) {
                *out = to(value);
            }
        }
        match self.values {
            Values::F32(values) => out.copy_from_slice(&values[range]),
            Values::F16(values) => values[range].convert_to_f32_slice(out),
            Values::F64(values) => widen(&values[range], out, |value| value as f32),
            Values::U8(values) => widen(&values[range], out, f32::from),
            Values::I8(values) => widen(&values[range], out, f32::from),
        }
    }

    /// The rows from `start` to `end` as `f32`: those of the array itself, or a copy.
    pub(crate) fn floats(&self, start: usize, end: usize) -> Result<Cow<'a, [f32]>, Failure> {
        let (from, to) = (start * self.dim, end * self.dim);
        if let Values::F32(values) = self.values {
            return Ok(Cow::Borrowed(&values[from..to]));
        }
        let mut out = Vec::new();
        let reserved = out.try_reserve_exact(to - from);
        reserved.map_err(|_| Failure::memory("the vectors as float32"))?;
        out.resize(to - from, 0.0);
        self.convert(from, &mut out);
        Ok(Cow::Owned(out))
    }

    /// Checks a dimension.
    pub(crate) fn expect_dim(&self, expected: usize) -> Result<(), VectorError> {
        match self.dim {
            dim if dim == expected => Ok(()),
            found => Err(VectorError::DimMismatch { expected, found }),
        }
    }
}

impl VectorSource for Rows<'_> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn reader(&self) -> Result<Box<dyn RowReader + '_>, SourceError> {
        Ok(Box::new(*self))
    }
}

impl RowReader for Rows<'_> {
    fn read(&mut self, start: usize, out: &mut [f32]) -> Result<(), SourceError> {
        let rows = out.len() / self.dim;
        let found = self.rows;
        if start.checked_add(rows).is_none_or(|end| end > found) {
            return Err(SourceError::OutOfRange { start, rows, found });
        }
        self.convert(start * self.dim, out);
        view(start, self.dim, out)?;
        Ok(())
    }
}

impl FetchVector for Rows<'_> {
    fn fetch(&self, id: u64, out: &mut [f32]) -> Result<(), SourceError> {
        let start = usize::try_from(id).unwrap_or(usize::MAX);
        RowReader::read(&mut self.clone(), start, out)
    }
}

/// Rows (`rows x dim`) of which `first` come before, for the error that names what is not finite.
pub(crate) fn view(
    first: usize,
    dim: usize,
    values: &[f32],
) -> Result<MatrixView<'_>, VectorError> {
    MatrixView::new(dim, values).map_err(|error| match error {
        VectorError::NonFinite { row, column, value } => {
            VectorError::NonFinite { row: first + row, column, value }
        }
        other => other,
    })
}

/// Reads what each vector counts, if that is said: an array of one dimension.
pub(crate) fn weights(object: Option<&Bound<'_, PyAny>>) -> Result<Option<Vec<f32>>, Failure> {
    let Some(object) = object else { return Ok(None) };
    let array = Array::new(object, "weights", Shape::Vector)?;
    Ok(Some(array.rows()?.floats(0, 1)?.into_owned()))
}

/// Reads ids: an array of integers, or a list of them, one for each vector.
pub(crate) fn ids(object: &Bound<'_, PyAny>) -> Result<Vec<u64>, Failure> {
    let array = match object.cast::<PyUntypedArray>() {
        Ok(array) => array.clone(),
        Err(_) => as_array(object)?,
    };
    let dtype = array.dtype();
    if array.ndim() != 1 || (!matches!(dtype.kind(), b'i' | b'u') && array.len() > 0) {
        let message = format!(
            "ids: expected an array of integers of one dimension, found {dtype} of the shape {:?}",
            array.shape()
        );
        return Err(PyTypeError::new_err(message).into());
    }
    let numpy = object.py().import("numpy")?;
    let (signed, wide) = if dtype.kind() == b'u' { (false, "uint64") } else { (true, "int64") };
    let array = numpy.call_method1("require", (array, wide, ["C_CONTIGUOUS", "ALIGNED"]))?;
    let bad = |row: usize, id: i128| {
        let message = format!("id {row} is {id}; ids are from 0 to 2^63 - 1");
        Failure::Build(message)
    };
    if signed {
        let array = array.cast::<PyArrayDyn<i64>>().map_err(PyErr::from)?.readonly();
        let values = array.as_slice().map_err(|error| Failure::Build(error.to_string()))?;
        let id = |(row, &id): (usize, &i64)| u64::try_from(id).map_err(|_| bad(row, id.into()));
        values.iter().enumerate().map(id).collect()
    } else {
        let array = array.cast::<PyArrayDyn<u64>>().map_err(PyErr::from)?.readonly();
        let values = array.as_slice().map_err(|error| Failure::Build(error.to_string()))?;
        let id = |(row, &id): (usize, &u64)| match i64::try_from(id) {
            Ok(_) => Ok(id),
            Err(_) => Err(bad(row, id.into())),
        };
        values.iter().enumerate().map(id).collect()
    }
}

/// A number that counts something: from 0 on.
pub(crate) fn count(name: &str, number: i64) -> Result<usize, Failure> {
    usize::try_from(number)
        .map_err(|_| Failure::config(name, format!("expected a number from 0 on, found {number}")))
}

/// A vector of `len` equal values, or an error where memory does not suffice.
pub(crate) fn filled<T: Clone>(
    rows: usize,
    columns: usize,
    value: T,
    what: &str,
) -> Result<Vec<T>, Failure> {
    let mut values = Vec::new();
    let len = rows.checked_mul(columns).ok_or_else(|| Failure::memory(what))?;
    values.try_reserve_exact(len).map_err(|_| Failure::memory(what))?;
    values.resize(len, value);
    Ok(values)
}
