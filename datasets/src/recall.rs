//! Recall: the share of the true neighbours that a search found.

use crate::ids::{IdMatrix, NO_ID};

/// How many of the ids in `truth` occur in `found`, each counted once; the order is of no account.
///
/// [`NO_ID`] never counts.
pub fn hits(truth: &[u64], found: &[u64]) -> usize {
    let mut sorted = found.to_vec();
    sorted.sort_unstable();
    let mut wanted = truth.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    wanted.iter().filter(|&&id| id != NO_ID && sorted.binary_search(&id).is_ok()).count()
}

/// The share of the `k` true neighbours that are among the first `r` results, averaged over the
/// queries: recall@k for `r == k`, "recall k@r" for a larger `r`.
///
/// `truth` and `found` have a row for each query, best first. Rows of `truth` shorter than `k`,
/// of a set with fewer than k vectors, are measured by what they hold.
///
/// ```
/// use nonius_datasets::{IdMatrix, recall};
///
/// let truth = IdMatrix::new(3, vec![1, 2, 3, 4, 5, 6]);
/// let found = IdMatrix::new(3, vec![2, 1, 9, 6, 5, 4]);
/// assert_eq!(recall(&truth, &found, 2, 2), 0.75);
/// assert_eq!(recall(&truth, &found, 1, 3), 1.0);
/// ```
///
/// # Panics
/// If the numbers of rows differ, or `k` or `r` is 0.
pub fn recall(truth: &IdMatrix, found: &IdMatrix, k: usize, r: usize) -> f64 {
    assert_eq!(truth.rows(), found.rows(), "truth and results must have a row for each query");
    assert!(k > 0 && r > 0, "recall needs at least one neighbour and one result");
    let mut wanted = 0;
    let mut got = 0;
    for row in 0..truth.rows() {
        let true_ids = &truth.row(row)[..k.min(truth.k())];
        wanted += true_ids.iter().filter(|&&id| id != NO_ID).count();
        got += hits(true_ids, &found.row(row)[..r.min(found.k())]);
    }
    if wanted == 0 { 1.0 } else { got as f64 / wanted as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_count_once_and_missing_ids_never() {
        assert_eq!(hits(&[1, 2, 3], &[3, 3, 3]), 1);
        assert_eq!(hits(&[1, 2, 3], &[3, 2, 1]), 3);
        assert_eq!(hits(&[1, NO_ID], &[NO_ID, 7]), 0);
        assert_eq!(hits(&[], &[1]), 0);
    }

    #[test]
    fn recall_is_a_share_of_the_true_neighbours() {
        let truth = IdMatrix::new(4, vec![0, 1, 2, 3, 10, 11, 12, NO_ID]);
        let found = IdMatrix::new(2, vec![1, 9, 12, NO_ID]);
        assert_eq!(recall(&truth, &found, 1, 1), 0.0);
        assert_eq!(recall(&truth, &found, 2, 2), 0.25);
        // Four and three true neighbours, one found of each row.
        assert_eq!(recall(&truth, &found, 4, 100), 2.0 / 7.0);
        assert_eq!(recall(&truth, &truth, 4, 4), 1.0);
    }
}
