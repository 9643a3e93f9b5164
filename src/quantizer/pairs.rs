//! Pairs of sample vectors that stand for queries and what they are compared with.

use nonius_simd::Panels;
use rayon::prelude::*;

use super::frame::{TrainingSet, additive_base, alpha};
use crate::random::Random;
use crate::topk::TopK;
use crate::train::RowsI16;

/// Sample vectors that serve as queries.
const QUERIES: usize = 256;
/// Near neighbours, within the sample, of each of them.
const NEAR: usize = 32;
/// Random vectors of the sample for each of them.
const FAR: usize = 32;
/// Queries whose keys are looked through together: those of a row are neighbours in memory.
const TOGETHER: usize = 64;
/// The stream of random numbers for far pairs.
const STREAM_FAR: u64 = 0x200;

/// Pairs of sample rows (query, vector): first the near ones, then random ones.
pub(crate) struct Pairs {
    pub(crate) near: Vec<(u32, u32)>,
    pub(crate) far: Vec<(u32, u32)>,
}

/// Finds near pairs by an exhaustive search of the sample, and draws far ones.
pub(crate) fn find_pairs(set: &TrainingSet<'_>, seed: u64) -> Pairs {
    let (rows, dim) = (set.sample.rows(), set.sample.dim());
    let queries = rows.min(QUERIES);
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
    let alpha = alpha(set.metric);

    const CHUNK: usize = 256;
    let keys: Vec<Vec<f32>> = set
        .sample
        .data()
        .par_chunks(CHUNK * dim)
        .map(|chunk| {
            let mut rows = RowsI16::new();
            rows.quantize_centred(chunk, set.mean);
            let mut product = Vec::new();
            rows.multiply(panels, &mut product);
            let mut keys = vec![0.0; rows.rows() * queries];
            let mut bases = vec![0.0; rows.rows()];
            additive_base(set.metric, set.mean, chunk, rows.norms_sq(), &mut bases);
            for (i, base) in bases.into_iter().enumerate() {
                for q in 0..queries {
                    let dot = product[i * panels.padded_rows() + q] as f32;
                    keys[i * queries + q] =
                        base - alpha * dot * (rows.inverse()[i] * quantized.inverse()[q]);
                }
            }
            keys
        })
        .collect();
    let near = (0..queries.div_ceil(TOGETHER))
        .into_par_iter()
        .flat_map_iter(|group| {
            let of_group = group * TOGETHER..queries.min((group + 1) * TOGETHER);
            let mut tops: Vec<TopK> =
                of_group.clone().map(|_| TopK::new(NEAR.min(rows - 1))).collect();
            for (chunk, keys) in keys.iter().enumerate() {
                for (i, keys) in keys.chunks_exact(queries).enumerate() {
                    let row = chunk * CHUNK + i;
                    for ((top, &key), q) in
                        tops.iter_mut().zip(&keys[of_group.clone()]).zip(of_group.clone())
                    {
                        if row != query_rows[q] {
                            top.push(key, row as u64);
                        }
                    }
                }
            }
            let query_rows = &query_rows;
            tops.into_iter().zip(of_group).flat_map(move |(mut top, q)| {
                let found = top.sorted().iter().map(|&(_, row)| (query_rows[q] as u32, row as u32));
                found.collect::<Vec<_>>()
            })
        })
        .collect();
    let mut random = Random::new(seed, STREAM_FAR);
    let far = query_rows
        .iter()
        .flat_map(|&q| {
            (0..FAR).map(|_| (q as u32, random.below(rows as u64) as u32)).collect::<Vec<_>>()
        })
        .filter(|&(q, x)| q != x)
        .collect();
    Pairs { near, far }
}
