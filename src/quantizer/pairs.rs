//! Pairs of sample vectors that stand for queries and what they are compared with.

use nonius_simd::{BLOCK, Panels, Vectorize, at_most, for_each_set, level};
use rayon::prelude::*;

use super::frame::{TrainingSet, additive_base, alpha};
use crate::random::Random;
use crate::topk::TopK;
use crate::train::RowsI16;

/// How many pairs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    /// Sample vectors that serve as queries.
    queries: usize,
    /// Near neighbours, within the sample, of each of them, and random vectors for each.
    each: usize,
}

impl Count {
    /// For what bounds are learnt from, and codes of few bits.
    pub(crate) const MANY: Count = Count { queries: 256, each: 32 };
    /// For codes that have 4 bits and more of every dimension, whose estimates are off by little. In a quarter of the
    /// sample these near ones are as near as those of [`MANY`](Count::MANY).
    pub(crate) const FEW: Count = Count { queries: 128, each: 8 };
}

/// Sample vectors that are compared with all queries at a time.
const CHUNK: usize = 256;
/// The stream of random numbers for far pairs.
const STREAM_FAR: u64 = 0x200;

/// Pairs of sample rows (query, vector): first the near ones, then random ones.
pub(crate) struct Pairs {
    pub(crate) near: Vec<(u32, u32)>,
    pub(crate) far: Vec<(u32, u32)>,
}

/// Finds near pairs by an exhaustive search of the sample, and draws far ones.
pub(crate) fn find_pairs(set: &TrainingSet<'_>, count: Count, seed: u64) -> Pairs {
    let (rows, dim) = (set.sample.rows(), set.sample.dim());
    let queries = rows.min(count.queries);
    // Evenly spread over the sample, which is in the order of the source.
    let query_rows: Vec<usize> = (0..queries).map(|i| i * rows / queries).collect();
    let mut query_values = Vec::with_capacity(queries * dim);
    for &row in &query_rows {
        query_values.extend_from_slice(set.sample.row(row));
    }
    let mut quantized = RowsI16::new();
    quantized.quantize_centred(&query_values, set.mean);
    let packed = Panels::pack(queries, quantized.depth(), quantized.values());
    let panels = Panels::new(queries, quantized.depth(), &packed);
    let chunks = rows.div_ceil(CHUNK);
    let near = count.each.min(rows - 1);
    let search = Search { set, quantized: &quantized, panels, query_rows: &query_rows, near };
    let near = set
        .sample
        .data()
        .par_chunks(CHUNK * dim)
        .enumerate()
        // Each part of the sample has heaps of its own, which are full only after some rows.
        .with_min_len(chunks.div_ceil(2 * rayon::current_num_threads()))
        .fold(
            || search.nothing(),
            |mut found, (number, chunk)| {
                search.look_through(chunk, number * CHUNK, &mut found);
                found
            },
        )
        .reduce(
            || search.nothing(),
            |mut a, mut b| {
                for (a, b) in a.tops.iter_mut().zip(&mut b.tops) {
                    b.sorted().iter().for_each(|&(key, row)| a.push(key, row));
                }
                a
            },
        )
        .tops
        .iter_mut()
        .zip(&query_rows)
        .flat_map(|(top, &query)| top.sorted().iter().map(move |&(_, x)| (query as u32, x as u32)))
        .collect();
    let mut random = Random::new(seed, STREAM_FAR);
    let far = query_rows
        .iter()
        .flat_map(|&q| {
            (0..count.each)
                .map(|_| (q as u32, random.below(rows as u64) as u32))
                .collect::<Vec<_>>()
        })
        .filter(|&(q, x)| q != x)
        .collect();
    Pairs { near, far }
}

/// The search for near pairs.
struct Search<'a> {
    set: &'a TrainingSet<'a>,
    quantized: &'a RowsI16,
    panels: Panels<'a>,
    /// The rows of the sample that are queries.
    query_rows: &'a [usize],
    /// Neighbours of each.
    near: usize,
}

/// What is near each query so far, and buffers.
#[derive(Default)]
struct Found {
    tops: Vec<TopK>,
    /// What keys must not exceed.
    thresholds: Vec<[f32; BLOCK]>,
    rows: RowsI16,
    product: Vec<i32>,
    bases: Vec<f32>,
    keys: Vec<[f32; BLOCK]>,
    excess: Vec<[f32; BLOCK]>,
    passed: Vec<u32>,
}

impl Search<'_> {
    fn nothing(&self) -> Found {
        let queries = self.query_rows.len();
        let blocks = queries.div_ceil(BLOCK);
        // Behind the last query is nothing to find.
        let mut thresholds = vec![[f32::NEG_INFINITY; BLOCK]; blocks];
        thresholds.as_flattened_mut()[..queries].fill(f32::INFINITY);
        Found {
            tops: (0..queries).map(|_| TopK::new(self.near)).collect(),
            thresholds,
            keys: vec![[0.0; BLOCK]; blocks],
            excess: vec![[0.0; BLOCK]; blocks],
            passed: vec![0; blocks],
            ..Found::default()
        }
    }

    /// Compares all queries with rows of the sample, of which the first one is number `first`.
    fn look_through(&self, values: &[f32], first: usize, found: &mut Found) {
        let Search { set, quantized, panels, query_rows, .. } = *self;
        let Found { tops, thresholds, rows, product, bases, keys, excess, passed } = found;
        rows.quantize_centred(values, set.mean);
        rows.multiply(panels, product);
        bases.resize(rows.rows(), 0.0);
        additive_base(set.metric, set.mean, values, rows.norms_sq(), bases);
        let alpha = alpha(set.metric);
        for (i, &base) in bases.iter().enumerate() {
            let row = first + i;
            level().vectorize(Keys {
                product: &product[i * panels.padded_rows()..],
                inverse: quantized.inverse(),
                base,
                alpha,
                row_inverse: rows.inverse()[i],
                thresholds: thresholds.as_flattened(),
                keys: keys.as_flattened_mut(),
                excess: excess.as_flattened_mut(),
            });
            at_most(excess, 0.0, passed);
            for_each_set(passed, |q| {
                if q < tops.len() && row != query_rows[q] {
                    tops[q].push(keys.as_flattened()[q], row as u64);
                    thresholds.as_flattened_mut()[q] = tops[q].threshold();
                }
            });
        }
    }
}

/// The keys of a row for all queries, and by how much they exceed the thresholds.
struct Keys<'a> {
    product: &'a [i32],
    inverse: &'a [f32],
    base: f32,
    alpha: f32,
    row_inverse: f32,
    thresholds: &'a [f32],
    keys: &'a mut [f32],
    excess: &'a mut [f32],
}

impl Vectorize for Keys<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Keys { product, inverse, base, alpha, row_inverse, thresholds, keys, excess } = self;
        let queries = product.iter().zip(inverse).zip(thresholds);
        for (((&dot, &inverse), threshold), (key, excess)) in
            queries.zip(keys.iter_mut().zip(excess))
        {
            *key = base - alpha * dot as f32 * (row_inverse * inverse);
            *excess = *key - threshold;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Matrix;
    use crate::metric::Metric;

    #[test]
    fn near_pairs_are_the_nearest() {
        let mut random = Random::new(4, 0);
        // Fewer rows than a query has neighbours, one row, and several chunks; duplicates among them.
        for (rows, dim, distinct) in
            [(1, 3, 1), (2, 5, 2), (20, 8, 20), (700, 20, 300), (1111, 7, 1111)]
        {
            let some: Vec<f32> = (0..distinct * dim).map(|_| random.normal() as f32).collect();
            let values: Vec<f32> = (0..rows)
                .flat_map(|row| some[row % distinct * dim..][..dim].iter().copied())
                .collect();
            let sample = Matrix::new(dim, values).expect("a matrix");
            for (metric, count) in [
                (Metric::L2, Count::MANY),
                (Metric::L2, Count::FEW),
                (Metric::InnerProduct, Count::MANY),
            ] {
                let mean = vec![0.25; dim];
                let set = TrainingSet {
                    sample: sample.view(),
                    mean: &mean,
                    lists: None,
                    metric,
                    scale: 1.0,
                    weights: None,
                };
                let pairs = find_pairs(&set, count, 1);
                let near = count.each.min(rows - 1);
                let queries = rows.min(count.queries);
                assert_eq!(pairs.near.len(), queries * near, "{rows} rows");
                for (number, pairs) in pairs.near.chunks(near.max(1)).enumerate() {
                    let query = (number * rows / queries) as u32;
                    let row = |row: u32| sample.row(row as usize);
                    let key = |x: u32| match metric {
                        Metric::InnerProduct => -nonius_simd::dot_f32(row(query), row(x)),
                        _ => nonius_simd::l2_sq_f32(row(query), row(x)),
                    };
                    let mut others: Vec<f32> =
                        (0..rows as u32).filter(|&x| x != query).map(key).collect();
                    others.sort_unstable_by(f32::total_cmp);
                    let mut found: Vec<u32> = pairs.iter().map(|&(_, x)| x).collect();
                    assert!(pairs.iter().all(|&(q, x)| q == query && x != query));
                    // Products are of integers of some 13 bits.
                    for (&x, &expected) in found.iter().zip(&others) {
                        assert!((key(x) - expected).abs() < 0.01 * (1.0 + expected.abs()));
                    }
                    found.sort_unstable();
                    found.dedup();
                    assert_eq!(found.len(), near, "a pair comes once");
                }
            }
        }
    }
}
