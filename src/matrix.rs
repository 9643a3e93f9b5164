//! Row-major matrices of `f32`, checked once at the door.

use crate::error::VectorError;

/// The largest dimension that Nonius accepts.
pub const MAX_DIM: usize = 65_536;

/// An owned row-major matrix: `rows x dim` finite values.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    dim: usize,
    data: Vec<f32>,
}

impl Matrix {
    /// Wraps `data`, which holds whole rows of `dim` values.
    ///
    /// # Errors
    /// [`VectorError::Dim`] if `dim` is 0 or above [`MAX_DIM`], [`VectorError::Ragged`] if the
    /// length is no multiple of `dim`, [`VectorError::NonFinite`] if a value is NaN or infinite.
    pub fn new(dim: usize, data: Vec<f32>) -> Result<Matrix, VectorError> {
        MatrixView::new(dim, &data)?;
        Ok(Matrix { dim, data })
    }

    /// A matrix of zeros.
    ///
    /// # Panics
    /// If `dim` is 0 or `rows * dim` overflows.
    pub fn zeros(rows: usize, dim: usize) -> Matrix {
        assert!(dim > 0, "a matrix needs at least one column");
        Matrix { dim, data: vec![0.0; rows.checked_mul(dim).expect("matrix too large")] }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.data.len() / self.dim
    }

    /// The number of values in a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If `i` is not below [`rows`](Matrix::rows).
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.dim..(i + 1) * self.dim]
    }

    /// Row `i`, to be written.
    ///
    /// # Panics
    /// If `i` is not below [`rows`](Matrix::rows).
    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        &mut self.data[i * self.dim..(i + 1) * self.dim]
    }

    /// All values, row by row.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// All values, row by row, to be written. Values written must stay finite.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// A borrowed view of the whole.
    pub fn view(&self) -> MatrixView<'_> {
        MatrixView { dim: self.dim, data: &self.data }
    }

    /// The values, row by row.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }
}

/// A borrowed row-major matrix: `rows x dim` finite values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MatrixView<'a> {
    dim: usize,
    data: &'a [f32],
}

impl<'a> MatrixView<'a> {
    /// Views `data`, which holds whole rows of `dim` values.
    ///
    /// # Errors
    /// [`VectorError::Dim`] if `dim` is 0 or above [`MAX_DIM`], [`VectorError::Ragged`] if the
    /// length is no multiple of `dim`, [`VectorError::NonFinite`] if a value is NaN or infinite.
    pub fn new(dim: usize, data: &'a [f32]) -> Result<MatrixView<'a>, VectorError> {
        if dim == 0 || dim > MAX_DIM {
            return Err(VectorError::Dim { found: dim });
        }
        if !data.len().is_multiple_of(dim) {
            return Err(VectorError::Ragged { dim, values: data.len() });
        }
        check_finite(dim, 0, data)?;
        Ok(MatrixView { dim, data })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.data.len() / self.dim
    }

    /// The number of values in a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If `i` is not below [`rows`](MatrixView::rows).
    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.data[i * self.dim..(i + 1) * self.dim]
    }

    /// All values, row by row.
    pub fn data(&self) -> &'a [f32] {
        self.data
    }
}

/// Adds a row to another one.
pub(crate) fn add(row: &mut [f32], other: &[f32]) {
    for (x, other) in row.iter_mut().zip(other) {
        *x += other;
    }
}

/// Subtracts a row from another one.
pub(crate) fn subtract(row: &mut [f32], other: &[f32]) {
    for (x, other) in row.iter_mut().zip(other) {
        *x -= other;
    }
}

/// Finds the first value that is NaN or infinite; `first_row` is the number of the first row of
/// `data`, for the error's sake.
pub(crate) fn check_finite(dim: usize, first_row: usize, data: &[f32]) -> Result<(), VectorError> {
    const CHUNK: usize = 4096;
    for (index, chunk) in data.chunks(CHUNK).enumerate() {
        let all_finite = chunk.iter().fold(true, |ok, x| ok & x.is_finite());
        if !all_finite {
            let at = chunk.iter().position(|x| !x.is_finite()).unwrap_or(0) + index * CHUNK;
            return Err(VectorError::NonFinite {
                row: first_row + at / dim,
                column: at % dim,
                value: data[at],
            });
        }
    }
    Ok(())
}
