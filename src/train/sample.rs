//! A random sample of a source of vectors, read in one pass.

use crate::error::{BuildError, SourceError};
use crate::matrix::{Matrix, check_finite};
use crate::progress::{Progress, ProgressFn, Stage};
use crate::random::Random;
use crate::source::VectorSource;

/// The random stream of samples.
const STREAM: u64 = 0x73_61_6d_70_6c_65;

/// Rows read at once at most, between two progress reports.
const MAX_RUN: usize = 4096;

/// Reads `count` random rows of `source`, or all rows if there are not more.
///
/// Returns the rows (`count x dim`) in the order of the source and their row numbers, ascending.
/// Every set of rows is equally likely; the same source size, `count` and `seed` give the same
/// rows. The source is read once, from front to back.
///
/// # Errors
/// What the source reports, and [`VectorError`](crate::VectorError) for a dimension out of range
/// or a value that is not finite, with the number of its row in the source.
pub fn sample_rows(
    source: &dyn VectorSource,
    count: usize,
    seed: u64,
) -> Result<(Matrix, Vec<usize>), SourceError> {
    read(source, count, seed, &mut |_, _| Ok(()))
}

/// [`sample_rows`] that reports its progress as [`Stage::Sample`]; the unit is rows.
///
/// # Errors
/// As [`sample_rows`], and [`BuildError::Cancelled`] if `progress` asks to stop.
pub fn sample_rows_with(
    source: &dyn VectorSource,
    count: usize,
    seed: u64,
    progress: &mut ProgressFn<'_>,
) -> Result<(Matrix, Vec<usize>), BuildError> {
    read(source, count, seed, &mut |done, total| {
        let report = Progress { stage: Stage::Sample, done: done as u64, total: total as u64 };
        if progress(report).is_break() { Err(BuildError::Cancelled) } else { Ok(()) }
    })
}

fn read<E: From<SourceError>>(
    source: &dyn VectorSource,
    count: usize,
    seed: u64,
    report: &mut dyn FnMut(usize, usize) -> Result<(), E>,
) -> Result<(Matrix, Vec<usize>), E> {
    let dim = source.dim();
    let rows = source.rows();
    let count = count.min(rows);
    let numbers = if count == rows {
        (0..rows).collect()
    } else {
        Random::new(seed, STREAM).sample_sorted(rows, count)
    };
    // Refuse a bad dimension before it sizes anything.
    let vector = |error| E::from(SourceError::Vector(error));
    Matrix::new(dim, Vec::new()).map_err(vector)?;
    let mut sample = Matrix::zeros(count, dim);
    let mut reader = source.reader()?;
    report(0, count)?;
    let mut done = 0;
    let mut reported = 0;
    while done < count {
        // Neighbours are read together.
        let start = numbers[done];
        let mut run = 1;
        while run < MAX_RUN && done + run < count && numbers[done + run] == start + run {
            run += 1;
        }
        let out = &mut sample.data_mut()[done * dim..(done + run) * dim];
        reader.read(start, out)?;
        check_finite(dim, start, out).map_err(vector)?;
        done += run;
        if done - reported >= MAX_RUN || done == count {
            report(done, count)?;
            reported = done;
        }
    }
    Ok((sample, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlockSource, RowReader, VectorError};
    use std::ops::ControlFlow;

    fn numbered(rows: usize, dim: usize) -> Matrix {
        Matrix::new(dim, (0..rows * dim).map(|i| i as f32).collect()).unwrap()
    }

    #[test]
    fn rows_are_those_of_their_numbers() {
        let matrix = numbered(1000, 3);
        for count in [0, 1, 10, 999, 1000, 5000] {
            let (sample, numbers) = sample_rows(&matrix, count, 5).unwrap();
            assert_eq!(sample.rows(), count.min(1000));
            assert_eq!(numbers.len(), sample.rows());
            assert!(numbers.windows(2).all(|w| w[0] < w[1]));
            for (i, &number) in numbers.iter().enumerate() {
                assert_eq!(sample.row(i), matrix.row(number));
            }
        }
        let first = sample_rows(&matrix, 10, 5).unwrap().1;
        assert_eq!(first, sample_rows(&matrix, 10, 5).unwrap().1);
        assert_ne!(first, sample_rows(&matrix, 10, 6).unwrap().1);
    }

    #[test]
    fn a_stream_gives_what_a_matrix_gives() {
        let matrix = numbered(1003, 2);
        let source = BlockSource::new(1003, 2, || {
            let data: Vec<f32> = (0..2006).map(|i| i as f32).collect();
            data.chunks(34).map(<[f32]>::to_vec).collect::<Vec<_>>().into_iter()
        });
        assert_eq!(sample_rows(&source, 200, 1).unwrap(), sample_rows(&matrix, 200, 1).unwrap());
    }

    #[test]
    fn an_error_names_the_row_of_the_source() {
        let source = BlockSource::new(100, 2, || {
            (0..100).map(|i| vec![1.0, if i == 77 { f32::NAN } else { 0.0 }])
        });
        let error = sample_rows(&source, 100, 0).unwrap_err();
        assert!(
            matches!(error, SourceError::Vector(VectorError::NonFinite { row: 77, column: 1, .. })),
            "{error}"
        );
        let short = BlockSource::new(100, 2, || (0..99).map(|_| vec![1.0, 0.0]));
        assert!(matches!(
            sample_rows(&short, 100, 0),
            Err(SourceError::Short { expected: 100, found: 99 })
        ));
    }

    struct NoDimension;

    impl VectorSource for NoDimension {
        fn rows(&self) -> usize {
            1
        }
        fn dim(&self) -> usize {
            0
        }
        fn reader(&self) -> Result<Box<dyn RowReader + '_>, SourceError> {
            unreachable!("a source without dimension must not be read")
        }
    }

    #[test]
    fn a_dimension_of_zero_is_an_error() {
        assert!(matches!(
            sample_rows(&NoDimension, 1, 0),
            Err(SourceError::Vector(VectorError::Dim { found: 0 }))
        ));
    }

    #[test]
    fn progress_reaches_the_end_or_cancels() {
        let matrix = numbered(9000, 1);
        let mut seen = Vec::new();
        sample_rows_with(&matrix, 8999, 1, &mut |p| {
            seen.push((p.done, p.total));
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(seen.first(), Some(&(0, 8999)));
        assert_eq!(seen.last(), Some(&(8999, 8999)));
        assert!(seen.windows(2).all(|w| w[0].0 < w[1].0));
        let result = sample_rows_with(&matrix, 8999, 1, &mut |_| ControlFlow::Break(()));
        assert!(matches!(result, Err(BuildError::Cancelled)));
    }
}
