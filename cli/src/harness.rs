//! Recall as ann-benchmarks and VIBE define it: by distances, so that of vectors at the same distance any will do.

use std::path::Path;

use nonius::{Matrix, Metric};
use nonius_datasets::{DatasetError, Format, IdMatrix, Location, NO_ID, VectorFile, load, open};

use crate::output::{Context, Failure};

/// What a true distance may be exceeded by, as in the harnesses.
const TOLERANCE: f64 = 1e-3;

/// The vectors of an HDF5 file of the harnesses, and the distances of each query's true neighbours.
pub(crate) struct Harness {
    train: Box<dyn VectorFile>,
    metric: Metric,
    distances: Matrix,
}

impl Harness {
    /// Opens `train` and `distances` beside the truth in `path`. None where the file is of another format, lacks one
    /// of them, has fewer than `k` distances a query, or declares no metric that is known here.
    pub(crate) fn open(
        path: &Path,
        queries: &Matrix,
        k: usize,
    ) -> Result<Option<Harness>, Failure> {
        let location = Location::parse(path)?;
        if location.format != Format::Hdf5 {
            return Ok(None);
        }
        let member = |name: &str| {
            let mut path = location.path.as_os_str().to_owned();
            path.push(":");
            path.push(name);
            path
        };
        let Some(metric) = declared_metric(&location.path)? else { return Ok(None) };
        let distances = match load(member("distances")) {
            Ok(distances) => distances,
            Err(DatasetError::Member { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let train = match open(member("train")) {
            Ok(train) => train,
            Err(DatasetError::Member { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let fits = distances.rows() == queries.rows() && distances.dim() >= k;
        if !fits || train.dim() != queries.dim() {
            return Ok(None);
        }
        Ok(Some(Harness { train, metric, distances }))
    }

    /// The share of `k` for each query that was found and is no farther than the true k-th neighbour. Ids are rows
    /// of `train`.
    pub(crate) fn recall(
        &self,
        queries: &Matrix,
        found: &IdMatrix,
        k: usize,
    ) -> Result<f64, Failure> {
        // Rows in the order of the file, which is read once.
        let mut wanted: Vec<(usize, usize)> = Vec::new();
        for query in 0..found.rows() {
            let ids = found.row(query).iter().take(k).filter(|&&id| id != NO_ID);
            for &id in ids {
                let row = usize::try_from(id).unwrap_or(usize::MAX);
                if row >= self.train.rows() {
                    return Err(Failure::failed(format!(
                        "{}: expected ids that are rows of train, found id {id} among {} rows",
                        self.train.path().display(),
                        self.train.rows()
                    )));
                }
                wanted.push((row, query));
            }
        }
        wanted.sort_unstable();
        let mut reader = self.train.reader().context("train")?;
        let mut vector = vec![0.0; self.train.dim()];
        let (mut read, mut near) = (None, 0);
        for (row, query) in wanted {
            if read != Some(row) {
                reader.read(row, &mut vector).context("train")?;
                read = Some(row);
            }
            let limit = f64::from(self.distances.row(query)[k - 1]) + TOLERANCE;
            near += usize::from(distance(self.metric, queries.row(query), &vector) <= limit);
        }
        Ok(near as f64 / (k * queries.rows()) as f64)
    }
}

/// The distance as the harnesses have it in their files: not squared for L2, negated for inner products.
fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let sum = |of: fn(f64, f64) -> f64| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| of(f64::from(a), f64::from(b))).sum()
    };
    let dot = || sum(|a, b| a * b);
    match metric {
        Metric::L2 => sum(|a, b| (a - b) * (a - b)).sqrt(),
        Metric::InnerProduct => -dot(),
        Metric::Cosine => {
            let squares = |v: &[f32]| v.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
            1.0 - dot() / (squares(a) * squares(b)).sqrt()
        }
    }
}

#[cfg(feature = "hdf5")]
fn declared_metric(path: &Path) -> Result<Option<Metric>, Failure> {
    Ok(nonius_datasets::declared_metric(path)?)
}

#[cfg(not(feature = "hdf5"))]
fn declared_metric(_: &Path) -> Result<Option<Metric>, Failure> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_harnesses() {
        let (a, b) = ([3.0, 0.0], [0.0, 4.0]);
        assert_eq!(distance(Metric::L2, &a, &b), 5.0);
        assert_eq!(distance(Metric::InnerProduct, &a, &[2.0, 1.0]), -6.0);
        assert_eq!(distance(Metric::Cosine, &a, &b), 1.0);
        assert_eq!(distance(Metric::Cosine, &a, &[9.0, 0.0]), 0.0);
    }
}
