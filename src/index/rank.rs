//! Which lists to search: centroids in order of their distance to a query.
//!
//! All centroids are compared, in eight bits: of the list table of an index they are the part that
//! is read for every query, so their bytes count. Eight bits lose less than a thousandth of the
//! norm; the exact distance is computed for lists that are searched.
//!
//! Lists are ranked by `|q - c|^2 + SPREAD * r^2`, where `r^2` is the mean squared distance of the
//! list's vectors to the centroid: of two lists at the same distance the denser one holds more
//! of the nearest neighbours. Half of `r^2` was best or close to it on every set that was tried, and
//! scans up to 15% fewer vectors for the same recall.

use nonius_simd::{Panels8, Vectorize, gemm_i8};

use super::format::{ListFactors, Parts};
use crate::metric::Metric;
use crate::train::RowsI8;

/// The weight of a list's mean squared distance in its rank.
pub(super) const SPREAD: f64 = 0.5;

/// Rotated centroids in the form that ranks them.
pub(super) struct CompactCentroids {
    /// As [`Panels8`].
    pub(super) packed: Vec<i8>,
    pub(super) factors: Vec<ListFactors>,
}

impl CompactCentroids {
    /// From rotated centroids (`nlist x dims`) and the mean squared distance of each list.
    pub(super) fn new(metric: Metric, dims: usize, rotated: &[f32], spread: &[f64]) -> Self {
        let mut rows = RowsI8::default();
        rows.quantize(dims, rotated);
        let factors = rotated
            .chunks_exact(dims)
            .enumerate()
            .map(|(list, row)| {
                let norm_sq = nonius_simd::dot_f32(row, row);
                let key = match metric {
                    Metric::L2 | Metric::Cosine => norm_sq + (SPREAD * spread[list]) as f32,
                    Metric::InnerProduct => 0.0,
                };
                ListFactors { norm_sq, key, inverse: rows.inverse()[list], sum: rows.sums()[list] }
            })
            .collect();
        let packed = Panels8::pack(spread.len(), rows.depth(), rows.values());
        CompactCentroids { packed, factors }
    }
}

/// Lists in the order in which a query searches them.
#[derive(Default)]
pub(super) struct Ranking {
    rows: RowsI8,
    shifted: Vec<u8>,
    product: Vec<i32>,
    keys: Vec<u64>,
    probes: Vec<Probe>,
}

/// A list to search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub(super) list: u32,
    /// `<q, c>`, about.
    pub(super) dot: f32,
}

impl Ranking {
    /// The lists that were taken, nearest first.
    pub(super) fn probes(&self) -> &[Probe] {
        &self.probes
    }

    /// Ranks all lists for rotated queries (`rows x dims`); [`take`](Ranking::take) reads the
    /// result for one of them. Returns the bytes that were read of the index.
    pub(super) fn compare(&mut self, parts: &Parts, queries: &[f32]) -> u64 {
        if !parts.model.lists {
            return 0;
        }
        self.rows.quantize(parts.model.dims, queries);
        self.shifted.clear();
        self.shifted.extend(self.rows.values().iter().map(|&x| (x as u8) ^ 0x80));
        let panels = parts.centroid_panels();
        self.product.resize(self.rows.inverse().len() * panels.padded_rows(), 0);
        gemm_i8(&self.shifted, panels, &mut self.product);
        (size_of_val(&*parts.centroids_packed) + size_of_val(&*parts.list_factors)) as u64
    }

    /// Leaves the `nprobe` nearest lists of query `row` in [`probes`](Ranking::probes).
    pub(super) fn take(&mut self, parts: &Parts, row: usize, nprobe: usize) {
        self.probes.clear();
        if !parts.model.lists {
            self.probes.push(Probe { list: 0, dot: 0.0 });
            return;
        }
        let padded = parts.centroid_panels().padded_rows();
        self.keys.resize(parts.nlist, 0);
        let factors = &parts.list_factors[..];
        let product = &self.product[row * padded..(row + 1) * padded];
        let (alpha, inverse) = (parts.model.alpha(), self.rows.inverse()[row]);
        nonius_simd::level().vectorize(Keys {
            factors,
            product,
            weight: alpha * inverse,
            keys: &mut self.keys,
        });
        let keys = nearest(&mut self.keys, nprobe);
        keys.sort_unstable();
        self.probes.extend(keys.iter().map(|&key| {
            let (list, f) = (key as u32, factors[key as u32 as usize]);
            Probe { list, dot: inverse * f.inverse * integer_dot(product[list as usize], f.sum) }
        }));
    }
}

/// Moves the `count` smallest keys to the front and returns them, in no order.
fn nearest(keys: &mut [u64], count: usize) -> &mut [u64] {
    if count >= keys.len() {
        return keys;
    }
    // A sample tells about how large the keys are; those that are larger need not be looked at
    // again. The sample's share is taken generously, so that there are nearly always enough.
    const SAMPLE: usize = 128;
    let step = keys.len() / SAMPLE;
    let mut rest = keys.len();
    if step >= 4 {
        let mut sample = [0; SAMPLE];
        for (sample, keys) in sample.iter_mut().zip(keys.chunks(step)) {
            *sample = keys[0];
        }
        let wanted = SAMPLE * count / keys.len();
        let index = wanted + 2 + 2 * (wanted as f32).sqrt() as usize;
        if index < SAMPLE {
            let (_, &mut limit, _) = sample.select_nth_unstable(index);
            let mut found = 0;
            for i in 0..keys.len() {
                // Without a branch: most keys are above the limit, some below.
                keys.swap(i, found);
                found += usize::from(keys[found] <= limit);
            }
            if found >= count {
                rest = found;
            }
        }
    }
    let keys = &mut keys[..rest];
    if count < keys.len() {
        keys.select_nth_unstable(count);
    }
    &mut keys[..count]
}

/// The inner product of query and centroid as integers: the query's values carry 128 too much.
#[inline(always)]
fn integer_dot(product: i32, sum: i32) -> f32 {
    product.wrapping_sub(sum.wrapping_mul(128)) as f32
}

struct Keys<'a> {
    factors: &'a [ListFactors],
    product: &'a [i32],
    weight: f32,
    keys: &'a mut [u64],
}

impl Vectorize for Keys<'_> {
    type Output = ();

    /// Keys and numbers of lists as integers of the same order.
    #[inline(always)]
    fn run(self) {
        let Keys { factors, product, weight, keys } = self;
        for (list, ((key, f), &product)) in keys.iter_mut().zip(factors).zip(product).enumerate() {
            let value = f.key - weight * f.inverse * integer_dot(product, f.sum);
            // Floats are ordered as sign and magnitude.
            let bits = value.to_bits() as i32;
            let ordered = (bits ^ ((bits >> 31) as u32 >> 1) as i32) as u32 ^ 0x8000_0000;
            *key = u64::from(ordered) << 32 | list as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn nearest_are_those_of_a_sort() {
        let mut random = Random::new(5, 0);
        for len in [1usize, 2, 100, 511, 512, 513, 4000] {
            for distinct in [1, 3, 50, u64::MAX] {
                let keys: Vec<u64> = (0..len).map(|_| random.next_u64() % distinct).collect();
                let mut sorted = keys.clone();
                sorted.sort_unstable();
                for count in [1, 2, len / 10 + 1, len / 2 + 1, len - 1, len, len + 5] {
                    let mut keys = keys.clone();
                    let found = nearest(&mut keys, count.max(1));
                    found.sort_unstable();
                    assert_eq!(found, &sorted[..count.clamp(1, len)], "{count} of {len}");
                    keys.sort_unstable();
                    assert_eq!(keys, sorted, "no key is lost");
                }
            }
        }
    }

    #[test]
    fn keys_keep_the_order_of_floats() {
        let values = [f32::NEG_INFINITY, -1e20, -1.0, -0.0, 0.0, 1e-20, 3.0, f32::INFINITY];
        let factors: Vec<ListFactors> =
            values.iter().map(|&key| ListFactors { key, ..ListFactors::default() }).collect();
        let mut keys = vec![0; values.len()];
        Keys { factors: &factors, product: &[0; 8], weight: 1.0, keys: &mut keys }.run();
        assert!(keys.is_sorted());
        assert!(keys.iter().enumerate().all(|(i, &key)| key as u32 == i as u32));
    }
}
