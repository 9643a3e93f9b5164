//! The truth: exhaustive search over full vectors.

use rayon::prelude::*;

use super::door::{check_row, prepare_query};
use super::search::key_f32;
use crate::error::{SearchError, VectorError};
use crate::matrix::{Matrix, MatrixView};
use crate::metric::Metric;
use crate::topk::{Neighbor, TopK};

/// A flat index over full `f32` vectors: slow, exact, and the measure of the others.
///
/// ```
/// use nonius::{ExactIndex, Matrix, Metric};
///
/// let index = ExactIndex::new(Matrix::new(2, vec![0.0, 0.0, 3.0, 4.0])?, Metric::L2)?;
/// let found = index.search(&[0.0, 1.0], 2)?;
/// assert_eq!((found[0].id, found[0].distance), (0, 1.0));
/// assert_eq!((found[1].id, found[1].distance), (1, 18.0));
/// # Ok::<(), nonius::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ExactIndex {
    vectors: Matrix,
    metric: Metric,
}

impl ExactIndex {
    /// An index over the rows of a matrix, whose ids are the row numbers.
    ///
    /// # Errors
    /// [`VectorError`] for a zero vector under cosine, or one whose norm is beyond `f32`.
    pub fn new(mut vectors: Matrix, metric: Metric) -> Result<ExactIndex, VectorError> {
        let dim = vectors.dim();
        for (number, row) in vectors.data_mut().chunks_exact_mut(dim).enumerate() {
            check_row(row, number, metric.normalizes())?;
        }
        Ok(ExactIndex { vectors, metric })
    }

    /// The number of vectors.
    pub fn len(&self) -> usize {
        self.vectors.rows()
    }

    /// True if there are no vectors.
    pub fn is_empty(&self) -> bool {
        self.vectors.rows() == 0
    }

    /// The dimension of vectors and queries.
    pub fn dim(&self) -> usize {
        self.vectors.dim()
    }

    /// The `k` nearest vectors, best first, ties by id; all of them if there are fewer.
    ///
    /// # Errors
    /// [`SearchError`] for a query that is not acceptable, or `k` = 0.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<Neighbor>, SearchError> {
        if k == 0 {
            return Err(SearchError::ZeroK);
        }
        if query.len() != self.dim() {
            let (expected, found) = (self.dim(), query.len());
            return Err(VectorError::DimMismatch { expected, found }.into());
        }
        let mut query = query.to_vec();
        prepare_query(self.metric, &mut query)?;
        let mut top = TopK::new(k.min(self.len()));
        for (id, row) in self.vectors.data().chunks_exact(self.dim()).enumerate() {
            top.push(key_f32(self.metric, &query, row), id as u64);
        }
        Ok(top
            .sorted()
            .iter()
            .map(|&(key, id)| Neighbor { id, distance: self.metric.distance_of_key(key) })
            .collect())
    }

    /// Answers many queries in parallel, in their order.
    ///
    /// # Errors
    /// The [`SearchError`] of the first query that has one.
    pub fn search_batch(
        &self,
        queries: MatrixView<'_>,
        k: usize,
    ) -> Result<Vec<Vec<Neighbor>>, SearchError> {
        queries
            .data()
            .par_chunks(queries.dim())
            .map(|query| self.search(query, k))
            .collect::<Vec<_>>()
            .into_iter()
            .collect()
    }
}
