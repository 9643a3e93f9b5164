//! Where vectors come from when they need not fit into memory.

use std::marker::PhantomData;

use crate::error::SourceError;
use crate::matrix::{Matrix, MatrixView};

/// A set of vectors that can be read several times from front to back.
///
/// Builds walk over it three times at most: once over a sample, once over all rows to assign
/// them to lists, once over all rows to encode them.
pub trait VectorSource: Sync {
    /// The number of rows.
    fn rows(&self) -> usize;

    /// The number of values in a row, at least 1.
    fn dim(&self) -> usize;

    /// Starts a pass from the first row.
    ///
    /// # Errors
    /// What the storage beneath reports.
    fn reader(&self) -> Result<Box<dyn RowReader + '_>, SourceError>;
}

/// One pass over a [`VectorSource`].
pub trait RowReader {
    /// Fills `out` (a whole number of rows) with the rows from number `start` on.
    ///
    /// Within one pass `start` never lies before the end of the rows read last, so a reader may
    /// be a plain stream that skips.
    ///
    /// # Errors
    /// What the storage beneath reports, and a value that is NaN or infinite.
    fn read(&mut self, start: usize, out: &mut [f32]) -> Result<(), SourceError>;
}

impl VectorSource for MatrixView<'_> {
    fn rows(&self) -> usize {
        MatrixView::rows(self)
    }

    fn dim(&self) -> usize {
        MatrixView::dim(self)
    }

    fn reader(&self) -> Result<Box<dyn RowReader + '_>, SourceError> {
        Ok(Box::new(ViewReader { view: *self }))
    }
}

impl VectorSource for Matrix {
    fn rows(&self) -> usize {
        Matrix::rows(self)
    }

    fn dim(&self) -> usize {
        Matrix::dim(self)
    }

    fn reader(&self) -> Result<Box<dyn RowReader + '_>, SourceError> {
        Ok(Box::new(ViewReader { view: self.view() }))
    }
}

struct ViewReader<'a> {
    view: MatrixView<'a>,
}

impl RowReader for ViewReader<'_> {
    fn read(&mut self, start: usize, out: &mut [f32]) -> Result<(), SourceError> {
        let from = start * self.view.dim();
        let values = self.view.data().get(from..from + out.len()).ok_or_else(|| {
            SourceError::OutOfRange {
                start,
                rows: out.len() / self.view.dim(),
                found: self.view.rows(),
            }
        })?;
        out.copy_from_slice(values);
        Ok(())
    }
}

/// A source made of a function that starts an iterator over blocks of vectors, for data that is
/// produced on the fly or lies in a database.
///
/// The function is called once for each pass and must yield the same values each time. Blocks
/// may have any number of whole rows.
///
/// ```
/// use nonius::{BlockSource, VectorSource};
///
/// let source = BlockSource::new(1000, 8, || {
///     (0..10).map(|block| (0..800).map(|i| (block * 800 + i) as f32).collect::<Vec<f32>>())
/// });
/// assert_eq!((source.rows(), source.dim()), (1000, 8));
/// ```
pub struct BlockSource<F, I> {
    rows: usize,
    dim: usize,
    start: F,
    blocks: PhantomData<fn() -> I>,
}

impl<F, I> BlockSource<F, I>
where
    F: Fn() -> I + Sync,
    I: Iterator<Item = Vec<f32>>,
{
    /// A source of `rows` vectors of `dim` values each.
    pub fn new(rows: usize, dim: usize, start: F) -> BlockSource<F, I> {
        BlockSource { rows, dim, start, blocks: PhantomData }
    }
}

impl<F, I> VectorSource for BlockSource<F, I>
where
    F: Fn() -> I + Sync,
    I: Iterator<Item = Vec<f32>>,
{
    fn rows(&self) -> usize {
        self.rows
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn reader(&self) -> Result<Box<dyn RowReader + '_>, SourceError> {
        Ok(Box::new(BlockReader {
            blocks: (self.start)(),
            dim: self.dim,
            rows: self.rows,
            block: Vec::new(),
            block_start: 0,
        }))
    }
}

struct BlockReader<I> {
    blocks: I,
    dim: usize,
    rows: usize,
    /// The block that holds the row read last.
    block: Vec<f32>,
    /// The number of the first row of `block`.
    block_start: usize,
}

impl<I: Iterator<Item = Vec<f32>>> RowReader for BlockReader<I> {
    fn read(&mut self, start: usize, out: &mut [f32]) -> Result<(), SourceError> {
        let dim = self.dim;
        let wanted = out.len() / dim;
        let mut written = 0;
        while written < wanted {
            let row = start + written;
            let end = self.block_start + self.block.len() / dim;
            if row < end {
                let from = row - self.block_start;
                let count = (end - row).min(wanted - written);
                out[written * dim..(written + count) * dim]
                    .copy_from_slice(&self.block[from * dim..(from + count) * dim]);
                written += count;
                continue;
            }
            let block =
                self.blocks.next().ok_or(SourceError::Short { expected: self.rows, found: end })?;
            if !block.len().is_multiple_of(dim) {
                return Err(SourceError::Ragged { row: end, dim, values: block.len() });
            }
            self.block_start = end;
            self.block = block;
        }
        Ok(())
    }
}
