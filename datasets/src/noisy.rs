//! A set enlarged by noisy copies of itself.

use nonius::random::Random;
use nonius::{RowReader, SourceError, VectorSource};

use crate::strided::check_range;
use crate::synthetic::bell;

/// A source repeated several times: the first copy as it is, every further one with small
/// near-normal noise on each value. So a real set of any size becomes one of millions of rows
/// with the same structure, without more memory.
///
/// Row `copy * n + i` is row `i` of the source's n rows, and its noise depends only on the seed
/// and its number.
///
/// ```
/// use nonius::{Matrix, VectorSource};
/// use nonius_datasets::Noisy;
///
/// let source = Matrix::zeros(1000, 8);
/// assert_eq!(Noisy::new(&source, 30, 0.01, 7).rows(), 30_000);
/// ```
pub struct Noisy<'a> {
    source: &'a dyn VectorSource,
    repeats: usize,
    sigma: f32,
    seed: u64,
}

impl<'a> Noisy<'a> {
    /// Repeats `source` `repeats` times; `sigma` is the standard deviation of the noise on each
    /// value.
    ///
    /// # Panics
    /// If `repeats` is 0, `sigma` is negative or not finite, or the number of rows overflows.
    pub fn new(source: &'a dyn VectorSource, repeats: usize, sigma: f32, seed: u64) -> Noisy<'a> {
        assert!(repeats > 0, "at least one copy");
        assert!(sigma >= 0.0 && sigma.is_finite(), "sigma is 0 or more");
        assert!(source.rows().checked_mul(repeats).is_some(), "too many rows");
        Noisy { source, repeats, sigma, seed }
    }
}

impl VectorSource for Noisy<'_> {
    fn rows(&self) -> usize {
        self.source.rows() * self.repeats
    }

    fn dim(&self) -> usize {
        self.source.dim()
    }

    fn reader(&self) -> Result<Box<dyn RowReader + '_>, SourceError> {
        Ok(Box::new(NoisyReader { set: self, copy: 0, reader: self.source.reader()? }))
    }
}

struct NoisyReader<'a> {
    set: &'a Noisy<'a>,
    /// The copy that `reader` walks over.
    copy: usize,
    reader: Box<dyn RowReader + 'a>,
}

impl RowReader for NoisyReader<'_> {
    fn read(&mut self, start: usize, out: &mut [f32]) -> Result<(), SourceError> {
        use rayon::prelude::*;
        let set = self.set;
        let (source_rows, dim) = (set.source.rows(), set.dim());
        check_range(set.rows(), dim, start, out.len())?;
        let mut row = start;
        let mut rest = &mut *out;
        while !rest.is_empty() {
            let (copy, first) = (row / source_rows, row % source_rows);
            if copy != self.copy {
                self.reader = set.source.reader()?;
                self.copy = copy;
            }
            let count = (rest.len() / dim).min(source_rows - first);
            let (now, later) = rest.split_at_mut(count * dim);
            self.reader.read(first, now)?;
            row += count;
            rest = later;
        }
        out.par_chunks_exact_mut(dim).enumerate().with_min_len(64).for_each(|(i, values)| {
            let row = start + i;
            if row >= source_rows {
                let mut random = Random::new(set.seed, row as u64);
                values.iter_mut().for_each(|value| *value += set.sigma * bell(&mut random));
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_matrix;
    use nonius::Matrix;

    #[test]
    fn copies_differ_by_their_noise() {
        let source = Matrix::new(10, (0..2000).map(|i| i as f32).collect()).unwrap();
        let set = Noisy::new(&source, 3, 0.5, 1);
        let all = read_matrix(&set).unwrap();
        assert_eq!(&all.data()[..2000], source.data());
        let noise: Vec<f64> =
            (2000..6000).map(|i| f64::from(all.data()[i] - source.data()[i % 2000])).collect();
        let variance = noise.iter().map(|x| x * x).sum::<f64>() / 4000.0;
        assert!((variance - 0.25).abs() < 0.03, "{variance}");
        assert_ne!(&all.data()[2000..4000], &all.data()[4000..]);

        // Scattered rows and blocks across the seams are the same values.
        let mut reader = set.reader().unwrap();
        for (start, count) in [(3, 1), (199, 2), (350, 100), (599, 1)] {
            let mut block = vec![0.0; count * 10];
            reader.read(start, &mut block).unwrap();
            assert_eq!(block, &all.data()[start * 10..(start + count) * 10]);
        }
        assert!(reader.read(600, &mut [0.0; 10]).is_err());
    }

    #[test]
    fn an_empty_source_stays_empty() {
        let source = Matrix::zeros(0, 4);
        let set = Noisy::new(&source, 5, 0.1, 1);
        assert_eq!(read_matrix(&set).unwrap().rows(), 0);
    }
}
