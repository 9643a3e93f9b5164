//! Clusters without points get some.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use nonius_simd::l2_sq_f32;

use crate::matrix::Matrix;

/// Stands for "in no cluster".
pub(crate) const NOWHERE: u32 = u32::MAX;

/// Points sorted by their cluster, within a cluster in their order.
pub(crate) struct Buckets {
    starts: Vec<usize>,
    points: Vec<u32>,
}

impl Buckets {
    /// Sorts points by `nearest`, the numbers of their clusters, below `nlist`; those that are
    /// [`NOWHERE`] are left out.
    pub(crate) fn new(nlist: usize, nearest: &[u32]) -> Buckets {
        let points = || nearest.iter().enumerate().filter(|&(_, &number)| number != NOWHERE);
        let mut starts = vec![0usize; nlist + 1];
        for (_, &number) in points() {
            starts[number as usize + 1] += 1;
        }
        for number in 0..nlist {
            starts[number + 1] += starts[number];
        }
        let mut next = starts.clone();
        let mut sorted = vec![0; starts[nlist]];
        for (point, &number) in points() {
            sorted[next[number as usize]] = point as u32;
            next[number as usize] += 1;
        }
        Buckets { starts, points: sorted }
    }

    /// The points of a cluster.
    pub(crate) fn members(&self, number: usize) -> &[u32] {
        &self.points[self.starts[number]..self.starts[number + 1]]
    }

    /// The number of points of every cluster.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        self.starts.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

/// A sum of squared distances, to be ordered.
#[derive(PartialEq)]
struct Inertia(f64);

impl Eq for Inertia {}

impl PartialOrd for Inertia {
    fn partial_cmp(&self, other: &Inertia) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Inertia {
    fn cmp(&self, other: &Inertia) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Moves every centroid without points to a point of its own, and returns how many moved.
///
/// `nearest` and `l2_sq` are each point's centroid and its squared distance; they are kept up to
/// date within the clusters that are split. Until no centroid is empty, the cluster of the highest
/// inertia (ties: the smallest number) is split: the empty centroid goes to its farthest point
/// (ties: the first), and takes all points that are nearer to it. No inertia rises.
///
/// A centroid stays empty only if all points lie on their centroids. A centroid that was moved
/// owns the point that it was moved to in every later assignment, so calling this after each
/// assignment comes to an end.
pub(crate) fn repair(
    rows: &[f32],
    centroids: &mut Matrix,
    nearest: &mut [u32],
    l2_sq: &mut [f32],
) -> usize {
    let (nlist, dim) = (centroids.rows(), centroids.dim());
    let buckets = Buckets::new(nlist, nearest);
    let mut empty: VecDeque<usize> =
        (0..nlist).filter(|&number| buckets.members(number).is_empty()).collect();
    if empty.is_empty() {
        return 0;
    }
    let inertia = |members: &[u32], l2_sq: &[f32]| {
        Inertia(members.iter().map(|&point| f64::from(l2_sq[point as usize])).sum())
    };
    let mut heap: BinaryHeap<(Inertia, Reverse<usize>)> = (0..nlist)
        .map(|number| (inertia(buckets.members(number), l2_sq), Reverse(number)))
        .filter(|entry| entry.0.0 > 0.0)
        .collect();
    // Members of the clusters that were split.
    let mut changed: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    let mut moved = 0;
    while let Some(&target) = empty.front() {
        let Some((_, Reverse(source))) = heap.pop() else { break };
        empty.pop_front();
        let members = changed.remove(&source).unwrap_or_else(|| buckets.members(source).to_vec());
        let mut farthest = members[0];
        for &point in &members {
            if l2_sq[point as usize] > l2_sq[farthest as usize] {
                farthest = point;
            }
        }
        let row = |point: u32| &rows[point as usize * dim..][..dim];
        let centre = row(farthest);
        centroids.row_mut(target).copy_from_slice(centre);
        moved += 1;
        let (mut kept, mut taken) = (Vec::new(), Vec::new());
        for point in members {
            let i = point as usize;
            let distance = l2_sq_f32(row(point), centre);
            if distance < l2_sq[i] {
                (nearest[i], l2_sq[i]) = (target as u32, distance);
                taken.push(point);
            } else {
                kept.push(point);
            }
        }
        if kept.is_empty() {
            // All points were equal, and away from their centroid.
            empty.push_back(source);
        }
        for (number, members) in [(source, kept), (target, taken)] {
            let inertia = inertia(&members, l2_sq);
            if inertia.0 > 0.0 {
                heap.push((inertia, Reverse(number)));
            }
            changed.insert(number, members);
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Assigner;

    fn line(values: &[f32]) -> Matrix {
        Matrix::new(1, values.to_vec()).unwrap()
    }

    /// Assigns and repairs once: the centroids, the points' numbers, how many moved.
    fn once(points: &[f32], centroids: &[f32]) -> (Vec<f32>, Vec<u32>, usize) {
        let mut centroids = line(centroids);
        let (mut nearest, mut l2_sq) = Assigner::new(centroids.clone()).assign(line(points).view());
        let before: f32 = l2_sq.iter().sum();
        let moved = repair(points, &mut centroids, &mut nearest, &mut l2_sq);
        assert!(l2_sq.iter().sum::<f32>() <= before);
        for (i, &point) in points.iter().enumerate() {
            let centroid = centroids.row(nearest[i] as usize)[0];
            assert_eq!(l2_sq[i], (point - centroid) * (point - centroid));
        }
        (centroids.into_data(), nearest, moved)
    }

    #[test]
    fn nothing_moves_where_nothing_is_empty() {
        assert_eq!(once(&[0.0, 1.0, 9.0], &[0.0, 10.0]), (vec![0.0, 10.0], vec![0, 0, 1], 0));
    }

    #[test]
    fn the_farthest_point_of_the_worst_cluster_is_taken_with_its_neighbours() {
        // Cluster 0 has an inertia of 9 + 16 + 4, cluster 1 of 1.
        assert_eq!(
            once(&[3.0, 4.0, -2.0, 101.0], &[0.0, 100.0, 999.0]),
            (vec![0.0, 100.0, 4.0], vec![2, 2, 0, 1], 1)
        );
    }

    #[test]
    fn several_empty_centroids_split_one_cluster_again_and_again() {
        let (centroids, nearest, moved) =
            once(&[0.0, 1.0, 5.0, 11.0], &[0.0, 500.0, 500.0, -500.0]);
        assert_eq!(moved, 3);
        assert_eq!(nearest, [0, 3, 2, 1]);
        assert_eq!(centroids, [0.0, 11.0, 5.0, 1.0]);
    }

    #[test]
    fn a_centroid_that_loses_all_its_points_moves_as_well() {
        // Both points of cluster 0 go to the new centroid, and cluster 0 has to look elsewhere.
        let (centroids, nearest, moved) = once(&[7.0, 7.0, 100.0, 101.0], &[0.0, 100.0, 999.0]);
        assert_eq!(moved, 2);
        assert_eq!(nearest, [2, 2, 1, 0]);
        assert_eq!(centroids, [101.0, 100.0, 7.0]);
    }

    #[test]
    fn points_that_all_lie_on_centroids_leave_the_rest_empty() {
        assert_eq!(
            once(&[1.0, 1.0, 2.0], &[1.0, 2.0, 1.0, 50.0]),
            (vec![1.0, 2.0, 1.0, 50.0], vec![0, 0, 1], 0)
        );
    }

    #[test]
    fn buckets_keep_the_order_of_points() {
        let buckets = Buckets::new(4, &[2, 0, 2, 3, 2, 0]);
        assert_eq!(buckets.sizes(), [2, 0, 3, 1]);
        assert_eq!(buckets.members(0), [1, 5]);
        assert!(buckets.members(1).is_empty());
        assert_eq!(buckets.members(2), [0, 2, 4]);
        assert_eq!(buckets.members(3), [3]);
    }
}
